/* Cases 59-65: what other processes and threads of the program see. Each reads the file and tells it through a pipe. */
#include "probe.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int told[2];

static char *file(void) { return path("%s/file", arg("dir")); }

/* What comes through the pipe until all its writers are gone, for some seconds. */
static const char *heard(void) {
    char text[1024];
    size_t length = 0;
    ssize_t got = 1;
    close(told[1]);
    while (got > 0 && length < sizeof text - 1 && wait_for(told[0], POLLIN, 8))
        if ((got = read(told[0], text + length, sizeof text - 1 - length)) > 0)
            length += got;
    close(told[0]);
    return path("%.*s", (int)length, text);
}

static void tell(void) {
    const char *text = content(file());
    write(told[1], text, strlen(text));
}

static const char *ended(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child)
        return errno_name(errno);
    return WIFSIGNALED(status) ? path("signal %d", WTERMSIG(status)) : path("exit %d", WEXITSTATUS(status));
}

/* Runs a program with the pipe as its output, by vfork or posix_spawn. */
static void program(const char *what, char *const words[], char *const environment[], bool by_vfork) {
    pid_t child = -1;
    pipe(told);
    if (by_vfork) {
        child = vfork();
        if (child == 0) {
            dup2(told[1], 1);
            execve(words[0], words, environment);
            _exit(127);
        }
    } else {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, told[1], 1);
        posix_spawn(&child, words[0], &actions, NULL, words, environment);
        posix_spawn_file_actions_destroy(&actions);
    }
    const char *text = heard();
    saw(what, "%s: %s", ended(child), text);
}

static void children(void) {
    char *cat[] = {"/bin/cat", file(), NULL};
    char *chain[] = {"/bin/sh", "-c", "exec /bin/sh -c 'exec cat \"$0\"' \"$0\"", file(), NULL};
    pipe(told);
    pid_t child = fork();
    if (child == 0) {
        tell();
        _exit(3);
    }
    const char *text = heard();
    saw("fork", "%s: %s", ended(child), text);
    program("vfork", cat, environ, true);
    program("posix_spawn", cat, environ, false);
    program("a chain", chain, environ, false);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, file(), O_RDONLY, 0);
    pipe(told);
    posix_spawn_file_actions_adddup2(&actions, told[1], 1);
    char *plain[] = {"/bin/cat", NULL};
    int error = posix_spawn(&child, plain[0], &actions, NULL, plain, environ);
    text = heard();
    saw("opened for it", "%s: %s", error ? errno_name(error) : ended(child), text);
    pipe(told);
    unsigned long long how[11] = {[4] = SIGCHLD};
    child = syscall(SYS_clone3, how, sizeof how);
    if (child == 0) {
        tell();
        _exit(4);
    }
    text = heard();
    saw("clone3", "%s: %s", ended(child), text);
}

static void empty_environment(void) {
    char *nothing[] = {NULL}, *cat[] = {"/bin/cat", file(), NULL}, *env[] = {"/usr/bin/env", "-i", "/bin/cat", file(), NULL};
    program("execve", cat, nothing, true);
    program("env -i", env, environ, false);
}

static volatile bool over;
static const char *shared_name;
static void *reads_on(void *count) {
    while (!over) {
        int fd = open(shared_name, O_RDONLY);
        ++*(volatile long *)count;
        if (fd >= 0)
            close(fd);
        usleep(200);
    }
    return NULL;
}

static void threads(void) {
    pthread_t all[6];
    long counts[6] = {0};
    char *cat[] = {"/bin/cat", file(), NULL};
    shared_name = strdup(file());
    over = false;
    for (int i = 0; i < 6; i++)
        pthread_create(&all[i], NULL, reads_on, &counts[i]);
    for (int i = 0; i < 5; i++) {
        pipe(told);
        pid_t child = fork();
        if (child == 0) {
            tell();
            _exit(0);
        }
        const char *text = heard();
        saw(path("fork %d", i), "%s: %s", ended(child), text);
    }
    program("posix_spawn", cat, environ, false);
    over = true;
    bool all_moved = true;
    for (int i = 0; i < 6; i++)
        pthread_join(all[i], NULL), all_moved &= counts[i] > 0;
    saw("all moved", "%d", all_moved);
}

static void *tells(void *nothing) {
    (void)nothing;
    usleep(100000);
    tell();
    _exit(5);
}

static void without_leader(void) {
    pthread_t thread;
    pipe(told);
    pid_t child = fork();
    if (child == 0) {
        pthread_create(&thread, NULL, tells, NULL);
        pthread_exit(NULL);
    }
    const char *text = heard();
    saw("leader gone", "%s: %s", ended(child), text);
}

static void daemon_of_it(void) {
    pipe(told);
    pid_t child = fork();
    if (child == 0) {
        pid_t parent = getpid();
        if (fork() == 0) {
            setsid();
            for (double end = now() + 5; getppid() == parent && now() < end;)
                usleep(1000);
            tell();
        }
        _exit(0);
    }
    const char *first = ended(child);
    saw("daemon", "%s: %s", first, heard());
}

static void other_namespaces(void) {
    char *words[] = {"/usr/bin/unshare", "-U", "-r", "--", "/bin/cat", file(), NULL};
    char *mounts[] = {"/usr/bin/unshare", "-U", "-r", "-m", "--", "/bin/cat", file(), NULL};
    program("users", words, environ, false);
    program("users and mounts", mounts, environ, false);
}

const struct test process_cases[] = {
    {59, children}, {60, empty_environment}, {61, threads}, {62, without_leader}, {63, daemon_of_it}, {65, other_namespaces},
    {0, NULL},
};
