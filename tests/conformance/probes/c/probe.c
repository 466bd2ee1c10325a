/* The probe in C: `probe NAME=VALUE... CASE...` does each case in turn and prints what it saw, one line of JSON each.
 * Compiled with glibc dynamic, glibc static and musl static. What it prints is compared, not judged. */
#include "probe.h"
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char **arguments;
static char line[1 << 16];
static size_t used;

static void put(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at && used < sizeof line - 16; at++) {
        if (*at == '"' || *at == '\\')
            used += sprintf(line + used, "\\%c", *at);
        else if (*at < 0x20 || *at > 0x7e)
            used += sprintf(line + used, "\\u%04x", *at);
        else
            line[used++] = *at;
    }
}

void saw(const char *key, const char *format, ...) {
    static char value[1 << 15];
    va_list list;
    va_start(list, format);
    vsnprintf(value, sizeof value, format, list);
    va_end(list);
    used += sprintf(line + used, ", \"");
    put(key);
    used += sprintf(line + used, "\": \"");
    put(value);
    line[used++] = '"';
}

void outcome(const char *key, long result) {
    saw(key, "%s", result < 0 ? errno_name(errno) : "ok");
}

const char *arg(const char *name) {
    size_t length = strlen(name);
    for (char **at = arguments; *at; at++)
        if (!strncmp(*at, name, length) && (*at)[length] == '=')
            return *at + length + 1;
    fprintf(stderr, "probe: no argument %s\n", name);
    exit(2);
}

char *path(const char *format, ...) {
    static char made[32][5000];
    static int next;
    char *out = made[next++ % 32];
    va_list list;
    va_start(list, format);
    vsnprintf(out, sizeof made[0], format, list);
    va_end(list);
    return out;
}

const char *errno_name(int number) {
    static const struct { int number; const char *name; } names[] = {
#define E(name) {name, #name}
        E(EPERM), E(ENOENT), E(ESRCH), E(EINTR), E(EIO), E(ENXIO), E(E2BIG), E(ENOEXEC), E(EBADF), E(ECHILD), E(EAGAIN), E(ENOMEM),
        E(EACCES), E(EFAULT), E(EBUSY), E(EEXIST), E(EXDEV), E(ENODEV), E(ENOTDIR), E(EISDIR), E(EINVAL), E(ENFILE), E(EMFILE), E(ENOTTY),
        E(ETXTBSY), E(EFBIG), E(ENOSPC), E(ESPIPE), E(EROFS), E(EMLINK), E(EPIPE), E(ERANGE), E(ENAMETOOLONG), E(ENOSYS), E(ENOTEMPTY),
        E(ELOOP), E(ENODATA), E(EOVERFLOW), E(ENOTSOCK), E(EDESTADDRREQ), E(EMSGSIZE), E(EPROTOTYPE), E(ENOPROTOOPT), E(EOPNOTSUPP),
        E(EAFNOSUPPORT), E(EADDRINUSE), E(EADDRNOTAVAIL), E(ENETDOWN), E(ENETUNREACH), E(ECONNABORTED), E(ECONNRESET), E(ENOBUFS),
        E(EISCONN), E(ENOTCONN), E(ETIMEDOUT), E(ECONNREFUSED), E(EHOSTUNREACH), E(EALREADY), E(EINPROGRESS), E(ENOTCONN),
#undef E
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number)
            return names[i].name;
    return path("errno %d", number);
}

const char *content_of(int fd) {
    static char texts[8][4096];
    static int next;
    char *text = texts[next++ % 8];
    size_t length = 0;
    ssize_t got;
    if (fd < 0)
        return path("[%s]", errno_name(errno));
    while (length < sizeof texts[0] - 1 && (got = read(fd, text + length, sizeof texts[0] - 1 - length)) != 0) {
        if (got < 0)
            return path("[%s]", errno_name(errno));
        length += got;
    }
    if (length && text[length - 1] == '\n')
        length--;
    text[length] = 0;
    return text;
}

const char *content_at(int dirfd, const char *name) {
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    const char *text = content_of(fd);
    if (fd >= 0)
        close(fd);
    return text;
}

const char *content(const char *name) {
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    const char *text = content_of(fd);
    if (fd >= 0)
        close(fd);
    return text;
}

const char *in_child(void (*work)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        work();
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return errno_name(errno);
    return WIFSIGNALED(status) ? path("signal %d", WTERMSIG(status)) : path("exit %d", WEXITSTATUS(status));
}

bool wait_for(int fd, short events, double seconds) {
    double end = now() + seconds;
    for (;;) {
        struct pollfd one = {.fd = fd, .events = events};
        int left = (int)((end - now()) * 1000);
        int found = poll(&one, 1, left > 0 ? left : 0);
        if (found > 0 || (found == 0 && left <= 0))
            return found > 0;
    }
}

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static const struct test *find(int number) {
    const struct test *all[] = {file_cases, socket_cases, name_cases, process_cases, signal_cases};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (const struct test *one = all[i]; one->number; one++)
            if (one->number == number)
                return one;
    return NULL;
}

int main(int argc, char **argv) {
    arguments = argv;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '='))
            continue;
        const struct test *one = find(atoi(argv[i]));
        used = sprintf(line, "{\"case\": %d", atoi(argv[i]));
        if (one)
            one->run();
        else
            saw("missing", "the probe has no such case");
        line[used++] = '}';
        line[used++] = '\n';
        fwrite(line, 1, used, stdout);
        fflush(stdout);
    }
}
