/* Times calls, or the runs of a command, and prints nanoseconds: `name value` a line.
 *
 *   measure calls FILE BESIDE      FILE is a local file; BESIDE one whose folder also holds files of the pod.
 *                                  Last, the untrapped call under a filter that allows everything
 *   measure runs COUNT COMMAND...  from the start of the command to its end
 *
 * Of calls the median of many short batches, of commands the quickest run: what a busy machine does least to.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { BATCHES = 201, CALLS = 200 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

static void failed(const char *what) {
    perror(what);
    exit(1);
}

#define TIME(name, ...)                                                                                                \
    do {                                                                                                               \
        double batches[BATCHES];                                                                                       \
        for (int batch = 0; batch < BATCHES; batch++) {                                                                \
            double start = now();                                                                                      \
            for (int i = 0; i < CALLS; i++) { __VA_ARGS__ }                                                            \
            batches[batch] = (now() - start) / CALLS;                                                                  \
        }                                                                                                              \
        printf("%s %.1f\n", name, median(batches, BATCHES));                                                           \
    } while (0)

static int calls(const char *file, const char *beside) {
    static char data[4096];
    struct stat s;
    int pair[2];
    char got[64];
    struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, code};
    struct iovec part = {got, sizeof got};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) failed("socketpair");
    TIME("open_read_close", {
        int fd = open(file, O_RDONLY);
        if (fd < 0 || read(fd, data, sizeof data) != sizeof data || close(fd)) failed("open, read, close");
    });
    TIME("stat", { if (stat(file, &s)) failed("stat"); });
    TIME("stat_beside_rules", { if (stat(beside, &s)) failed("stat"); });
    TIME("write_recvmsg", { if (write(pair[0], data, 64) != 64 || recvmsg(pair[1], &message, 0) != 64) failed("message"); });
    TIME("untrapped", { syscall(SYS_getppid); });
    /* One more filter, where there is one already, is no measure of anything, but nobody reads it there. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) failed("no_new_privs");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program)) failed("seccomp");
    TIME("filtered", { syscall(SYS_getppid); });
    return 0;
}

static int runs(int count, char **command) {
    double quickest = 1e18;
    for (int run = 0; run < count; run++) {
        pid_t child;
        int status;
        double start = now(), took;
        if (posix_spawnp(&child, command[0], NULL, NULL, command, environ)) failed(command[0]);
        if (waitpid(child, &status, 0) != child || status) failed("the command");
        took = now() - start;
        if (took < quickest) quickest = took;
    }
    printf("run %.0f\n", quickest);
    return 0;
}

int main(int count, char **words) {
    const char *preloaded = getenv("LD_PRELOAD");
    printf("layer %d\n", preloaded && *preloaded);
    if (count == 4 && !strcmp(words[1], "calls")) return calls(words[2], words[3]);
    if (count >= 4 && !strcmp(words[1], "runs")) return runs(atoi(words[2]), words + 3);
    return 2;
}
