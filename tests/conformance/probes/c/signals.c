/* Cases 70-82: signals that come while a call is answered, and what becomes of stopped and killed processes. */
#include "probe.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static char *file(void) { return path("%s/file", arg("dir")); }

static volatile int alarms;
static void count_alarm(int number) {
    (void)number;
    alarms++;
}

static void storm_of(int flags, const char *what) {
    struct sigaction action = {.sa_handler = count_alarm, .sa_flags = flags}, before;
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    int good = 0, interrupted = 0, other = 0;
    sigaction(SIGALRM, &action, &before);
    alarms = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    double end = now() + 20;
    for (int i = 0; i < 1000 && now() < end; i++) {
        struct stat seen;
        int fd = open(file(), O_RDONLY);
        if (fd >= 0)
            close(fd);
        if (fd >= 0 && stat(file(), &seen) == 0)
            good++;
        else if (errno == EINTR)
            interrupted++;
        else
            other++;
    }
    for (int least = alarms + 3; alarms < least && now() < end;)
        usleep(1000);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    saw(what, "%d good, %d interrupted, %d other, alarms %d", good, interrupted, other, alarms > 2);
}

static void storm(void) {
    saw("content", "%s", content(file()));
    storm_of(SA_RESTART, "restarted");
    storm_of(0, "not restarted");
}

static void reads_for_ever(void) {
    for (;;)
        close(open(file(), O_RDONLY));
}

static void ended_by(int number, const char *what) {
    pid_t child = fork();
    if (child == 0) {
        reads_for_ever();
        _exit(0);
    }
    usleep(50000);
    double began = now();
    kill(child, number);
    int status = 0;
    waitpid(child, &status, 0);
    saw(what, "%d soon %d", WIFSIGNALED(status) ? WTERMSIG(status) : -1, now() - began < 1);
}

static void killed(void) {
    saw("content", "%s", content(file()));
    ended_by(SIGTERM, "SIGTERM");
    ended_by(SIGKILL, "SIGKILL");
}

static void stopped(void) {
    int pipes[2], status = 0;
    pipe(pipes);
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        const char *text = content(file());
        write(pipes[1], text, strlen(text));
        _exit(9);
    }
    close(pipes[1]);
    waitpid(child, &status, WUNTRACED);
    saw("stopped", "%d", WIFSTOPPED(status) ? WSTOPSIG(status) : -1);
    kill(child, SIGCONT);
    saw("then", "%s", content_of(pipes[0]));
    waitpid(child, &status, 0);
    saw("exit", "%d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    close(pipes[0]);
}

static char seen_in_handler[256];
static void read_in_handler(int number) {
    (void)number;
    int kept = errno, fd = open(file(), O_RDONLY);
    ssize_t length = fd < 0 ? 0 : read(fd, seen_in_handler, sizeof seen_in_handler - 1);
    seen_in_handler[length > 0 ? length - 1 : 0] = 0;
    close(fd);
    errno = kept;
}

static void in_handler(void) {
    struct sigaction action = {.sa_handler = read_in_handler};
    sigaction(SIGUSR1, &action, NULL);
    errno = ENOTTY;
    raise(SIGUSR1);
    saw("errno", "%s", errno_name(errno));
    saw("read", "%s", seen_in_handler);
}

const struct test signal_cases[] = {{70, storm}, {71, killed}, {75, stopped}, {82, in_handler}, {0, NULL}};
