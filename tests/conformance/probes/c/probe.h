/* What the cases share: the arguments of the run, and the line of JSON that says what a case saw. */
#ifndef PROBE_H
#define PROBE_H
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The value of an argument NAME=VALUE of the run; ends the probe when there is none. */
const char *arg(const char *name);
/* A path made of printf's pieces; good until 32 more were made. */
char *path(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One thing that the case saw. */
void saw(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same of a call's outcome: "ok", or the name of its errno when the result is negative. */
void outcome(const char *key, long result);
const char *errno_name(int number);
/* What a descriptor gives until its end, as text without a last newline; the errno's name in brackets on failure. */
const char *content_of(int fd);
/* The same of a path, opened read-only below `dirfd`. */
const char *content_at(int dirfd, const char *name);
const char *content(const char *name);
/* Runs `work` in a child and tells "exit N" or "signal N". */
const char *in_child(void (*work)(void));
/* Waits until a descriptor has one of `events` (poll(2)), `seconds` at most. */
bool wait_for(int fd, short events, double seconds);
double now(void);

struct test {
    int number;
    void (*run)(void);
};
extern const struct test file_cases[], socket_cases[], name_cases[], process_cases[], signal_cases[];
#endif
