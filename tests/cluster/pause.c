/* The process that keeps a pod's namespaces: waits to be told to end, and collects what ends before it. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void collect(int number) {
    (void)number;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

static void end(int number) {
    (void)number;
    _exit(0);
}

int main(void) {
    signal(SIGCHLD, collect);
    signal(SIGTERM, end);
    signal(SIGINT, end);
    for (;;) pause();
}
