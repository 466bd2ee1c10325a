/* What a program sees of the layer: each libc function on a local and on a remote path under a filter that stands for
 * the session host's (a call without the cookie fails with EBADE), and the cases in which a hook could do harm. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static const long trapped[] = {
    SYS_openat, SYS_openat2, SYS_newfstatat, SYS_statx, SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_statfs,
    SYS_getxattr, SYS_lgetxattr, SYS_listxattr, SYS_llistxattr, SYS_setxattr, SYS_lsetxattr, SYS_removexattr,
    SYS_lremovexattr, SYS_mkdirat, SYS_mknodat, SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_fchmodat,
    SYS_fchownat, SYS_utimensat, SYS_truncate, SYS_renameat, SYS_getcwd, SYS_connect, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg,
    SYS_recvmmsg,
#ifdef __x86_64__
    SYS_open, SYS_creat, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_rename,
    SYS_link, SYS_symlink, SYS_chmod, SYS_chown, SYS_lchown,
#endif
};
enum { COUNT = sizeof trapped / sizeof *trapped };

static void install_filter(void) {
    unsigned long cookie = strtoul(getenv("MIRRORD_IDE_COOKIE"), NULL, 16);
    struct sock_filter code[COUNT + 8];
    int n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)trapped[i], COUNT - i, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)cookie, 0, 3);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]) + 4);
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(cookie >> 32), 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EBADE);
    struct sock_fprog program = {(unsigned short)n, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("filter");
        exit(3);
    }
}

static const char *verdict(long result) {
    return result == -1 && errno == EBADE ? "trapped" : "passed";
}

/* Runs the call with `p` a local path, then with a remote one. */
#define CALL(name, call)                                                                                               \
    do {                                                                                                               \
        const char *told[2];                                                                                           \
        for (int remote = 0; remote < 2; remote++) {                                                                   \
            const char *p = remote ? remote_path : local_path;                                                         \
            (void)p;                                                                                                   \
            errno = 0;                                                                                                 \
            told[remote] = verdict((long)(call));                                                                      \
        }                                                                                                              \
        printf("%s %s %s\n", name, told[0], told[1]);                                                                  \
    } while (0)
#define SAY(name, call) (errno = 0, printf("%s %s\n", name, verdict((long)(call))))
#define PATH_OF(call) ((call) ? 0L : -1L)

static long old(const char *name, int version, const char *path, struct stat *to) {
    int (*function)(int, const char *, struct stat *) = dlsym(RTLD_DEFAULT, name);
    return function ? function(version, path, to) : 0;
}
static long old_at(const char *name, const char *path, struct stat *to) {
    int (*function)(int, int, const char *, struct stat *, int) = dlsym(RTLD_DEFAULT, name);
    return function ? function(1, AT_FDCWD, path, to, 0) : 0;
}
typedef int checked_open(const char *, int);
typedef int checked_openat(int, const char *, int);
typedef ssize_t checked_readlink(const char *, char *, size_t, size_t);
typedef ssize_t checked_readlinkat(int, const char *, char *, size_t, size_t);

static int table(const char *folder) {
    char local_path[512], buffer[512];
    const char *remote_path = "/remote/pod/file";
    struct stat s;
    struct statfs fs;
    struct statx sx;
    const char *volatile nothing = NULL;
    snprintf(local_path, sizeof local_path, "%s/file", folder);
    close(open(local_path, O_CREAT | O_RDWR, 0641));
    if (stat(local_path, &s) || (s.st_mode & 0777) != 0641) return puts("mode is wrong"), 1;
    int root = open("/", O_DIRECTORY), here = open(folder, O_DIRECTORY);
    if (chdir(folder)) return 1;
    checked_open *open_2 = (checked_open *)dlsym(RTLD_DEFAULT, "__open_2");
    checked_open *open64_2 = (checked_open *)dlsym(RTLD_DEFAULT, "__open64_2");
    checked_openat *openat_2 = (checked_openat *)dlsym(RTLD_DEFAULT, "__openat_2");
    checked_openat *openat64_2 = (checked_openat *)dlsym(RTLD_DEFAULT, "__openat64_2");
    checked_readlink *readlink_chk = (checked_readlink *)dlsym(RTLD_DEFAULT, "__readlink_chk");
    checked_readlinkat *readlinkat_chk = (checked_readlinkat *)dlsym(RTLD_DEFAULT, "__readlinkat_chk");
    install_filter();

    CALL("open", open(p, O_RDONLY));
    CALL("open64", open64(p, O_RDONLY));
    CALL("openat", openat(AT_FDCWD, p, O_RDONLY));
    CALL("openat64", openat64(root, p, O_RDONLY));
    CALL("creat", creat(p, 0600));
    CALL("creat64", creat64(p, 0600));
    CALL("__open_2", open_2(p, O_RDONLY));
    CALL("__open64_2", open64_2(p, O_RDONLY));
    CALL("__openat_2", openat_2(AT_FDCWD, p, O_RDONLY));
    CALL("__openat64_2", openat64_2(AT_FDCWD, p, O_RDONLY));
    CALL("opendir", PATH_OF(opendir(p)));
    CALL("stat", stat(p, &s));
    CALL("lstat", lstat(p, &s));
    CALL("stat64", stat64(p, (struct stat64 *)&s));
    CALL("lstat64", lstat64(p, (struct stat64 *)&s));
    CALL("fstatat", fstatat(AT_FDCWD, p, &s, 0));
    CALL("fstatat64", fstatat64(AT_FDCWD, p, (struct stat64 *)&s, 0));
    CALL("__xstat", old("__xstat", 1, p, &s));
    CALL("__xstat64", old("__xstat64", 1, p, &s));
    CALL("__lxstat", old("__lxstat", 1, p, &s));
    CALL("__lxstat64", old("__lxstat64", 1, p, &s));
    CALL("__fxstatat", old_at("__fxstatat", p, &s));
    CALL("__fxstatat64", old_at("__fxstatat64", p, &s));
    CALL("statx", statx(AT_FDCWD, p, 0, STATX_SIZE, &sx));
    CALL("access", access(p, R_OK));
    CALL("faccessat", faccessat(AT_FDCWD, p, R_OK, 0));
    CALL("faccessat AT_EACCESS", faccessat(AT_FDCWD, p, R_OK, AT_EACCESS));
    CALL("eaccess", eaccess(p, R_OK));
    CALL("euidaccess", euidaccess(p, R_OK));
    CALL("readlink", readlink(p, buffer, sizeof buffer));
    CALL("readlinkat", readlinkat(AT_FDCWD, p, buffer, sizeof buffer));
    CALL("__readlink_chk", readlink_chk(p, buffer, sizeof buffer, sizeof buffer));
    CALL("__readlinkat_chk", readlinkat_chk(AT_FDCWD, p, buffer, sizeof buffer, sizeof buffer));
    CALL("statfs", statfs(p, &fs));
    CALL("statfs64", statfs64(p, (struct statfs64 *)&fs));
    CALL("getxattr", getxattr(p, "user.x", buffer, sizeof buffer));
    CALL("lgetxattr", lgetxattr(p, "user.x", buffer, sizeof buffer));
    CALL("listxattr", listxattr(p, buffer, sizeof buffer));
    CALL("llistxattr", llistxattr(p, buffer, sizeof buffer));
    CALL("setxattr", setxattr(p, "user.x", "1", 1, 0));
    CALL("lsetxattr", lsetxattr(p, "user.x", "1", 1, 0));
    CALL("removexattr", removexattr(p, "user.x"));
    CALL("lremovexattr", lremovexattr(p, "user.x"));
    CALL("chmod", chmod(p, 0600));
    CALL("chown", chown(p, -1, -1));
    CALL("lchown", lchown(p, -1, -1));
    CALL("fchownat", fchownat(AT_FDCWD, p, -1, -1, 0));
    CALL("utimensat", utimensat(AT_FDCWD, p, NULL, 0));
    CALL("truncate", truncate(p, 1));
    CALL("truncate64", truncate64(p, 1));
    CALL("mkdir", mkdir(p, 0700));
    CALL("mkdirat", mkdirat(AT_FDCWD, p, 0700));
    CALL("link", link(p, "other"));
    CALL("linkat", linkat(AT_FDCWD, p, AT_FDCWD, "another", 0));
    CALL("symlink", symlink("/remote/only/text", p));
    CALL("symlinkat", symlinkat("text", AT_FDCWD, p));
    CALL("rename", rename(p, "file"));
    CALL("renameat", renameat(AT_FDCWD, p, AT_FDCWD, "file"));
    CALL("renameat2", renameat2(AT_FDCWD, p, AT_FDCWD, "file", 0));
    CALL("rename onto", rename("file", p));
    CALL("rmdir", rmdir(p));
    CALL("unlink", unlink(p));
    CALL("unlinkat", unlinkat(AT_FDCWD, p, 0));
    CALL("syscall openat", syscall(SYS_openat, AT_FDCWD, p, O_RDONLY));
    CALL("syscall statx", syscall(SYS_statx, AT_FDCWD, p, 0, STATX_SIZE, &sx));
    CALL("syscall newfstatat", syscall(SYS_newfstatat, AT_FDCWD, p, &s, 0));

    puts("--");
    SAY("a name in the current folder: passed", stat("other", &s));
    SAY("the current folder: passed", stat(".", &s));
    SAY("a name in an open folder: passed", fstatat(here, "other", &s, 0));
    SAY("and again: passed", fstatat(here, "another", &s, 0));
    SAY("a name of a rule elsewhere: passed", fstatat(here, "remote/x", &s, 0));
    SAY("above an open folder: trapped", fstatat(here, "../x", &s, 0));
    SAY("a remote name in an open folder: trapped", fstatat(root, "remote/x", &s, 0));
    SAY("a local name there: passed", fstatat(root, "usr/bin", &s, 0));
    SAY("openat there: trapped", openat(root, "remote/x", O_RDONLY));
    SAY("statx there: trapped", statx(root, "remote/x", 0, STATX_SIZE, &sx));
    SAY("faccessat there: trapped", faccessat(root, "remote/x", R_OK, 0));
    SAY("readlinkat there: trapped", readlinkat(root, "remote/x", buffer, sizeof buffer));
    SAY("mkdirat there: trapped", mkdirat(root, "remote/x", 0700));
    SAY("unlinkat there: trapped", unlinkat(root, "remote/x", 0));
    SAY("symlinkat there: trapped", symlinkat("text", root, "remote/x"));
    SAY("fchownat there: trapped", fchownat(root, "remote/x", -1, -1, 0));
    SAY("utimensat there: trapped", utimensat(root, "remote/x", NULL, 0));
    SAY("renameat from there: trapped", renameat(root, "remote/x", here, "x"));
    SAY("renameat to there: trapped", renameat(here, "x", root, "remote/x"));
    SAY("linkat to there: trapped", linkat(here, "x", root, "remote/x", 0));
    SAY("syscall statx there: trapped", syscall(SYS_statx, root, "remote/x", 0, STATX_SIZE, &sx));
    SAY("going into a remote folder: trapped", chdir("/remote/x"));
    SAY("going into a local one: passed", chdir(folder));
    SAY("two dots: trapped", stat("/remote/../etc", &s));
    SAY("two slashes, local: passed", stat("//usr//bin/", &s));
    SAY("two slashes, remote: trapped", stat("//remote//./x", &s));
    SAY("a sibling by prefix: passed", stat("/remote2/x", &s));
    SAY("the made file: trapped", stat("/etc/nsswitch.conf", &s));
    SAY("no path: trapped", stat(nothing, &s));
    SAY("an address of nobody: trapped", stat((char *)-1, &s));
    SAY("the empty path: passed", stat("", &s));
    SAY("libc's own open: trapped", PATH_OF(fopen("/etc/passwd", "r")));
    if (syscall(SYS_chdir, "/")) return 1;
    SAY("a remote name in the current folder: trapped", stat("remote/x", &s));
#ifdef __x86_64__
    long result;
    stat(folder, &s);
    /* Four arguments, like libc's: what is in the register of the sixth is what the hook left there. */
    register long flags __asm__("r10") = 0;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_openat), "D"(AT_FDCWD), "S"(folder), "d"(0), "r"(flags) : "rcx", "r11", "memory");
    errno = -result;
    SAY("the cookie left behind: trapped", (errno = -result, -1));
#endif
    SAY("a caller's cookie: trapped", syscall(SYS_unlinkat, AT_FDCWD, "/remote/x", 0, 0, 0, strtoul(getenv("MIRRORD_IDE_COOKIE"), NULL, 16)));
    errno = 77;
    stat(folder, &s);
    printf("errno is left alone: passed %s\n", errno == 77 ? "passed" : "changed");
    return 0;
}

static struct msghdr message(struct iovec *part) {
    struct msghdr made;
    memset(&made, 0, sizeof made);
    made.msg_iov = part, made.msg_iovlen = 1;
    return made;
}

static int messages(void) {
    int pair[2], quick[2];
    char data[8] = "1234567", got[8], name[128];
    struct iovec out = {data, 4}, in = {got, 8};
    struct msghdr sent = message(&out), received = message(&in), named = message(&in);
    struct mmsghdr many[2] = {{message(&out), 0}, {message(&out), 0}};
    named.msg_name = name, named.msg_namelen = sizeof name;
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, quick)) return 1;
    install_filter();
    if (write(pair[0], data, 4) != 4) return 1;
    SAY("recvmsg, something there: passed", recvmsg(pair[1], &received, 0));
    SAY("recvmsg, nothing there, blocking: trapped", recvmsg(pair[1], &received, 0));
    SAY("recvmsg, waits for all: trapped", recvmsg(pair[1], &received, MSG_WAITALL));
    SAY("recvmsg, nothing there, flag: passed", recvmsg(pair[1], &received, MSG_DONTWAIT));
    SAY("recvmsg, nothing there, non-blocking: passed", recvmsg(quick[1], &received, 0));
    SAY("recvmsg with a name: trapped", recvmsg(quick[1], &named, MSG_DONTWAIT));
    SAY("sendmsg, blocking: trapped", sendmsg(pair[0], &sent, 0));
    SAY("sendmsg, flag: passed", sendmsg(pair[0], &sent, MSG_DONTWAIT));
    SAY("sendmsg, non-blocking: passed", sendmsg(quick[0], &sent, 0));
    SAY("sendmsg with a name: trapped", sendmsg(pair[0], &named, MSG_DONTWAIT));
    SAY("sendmmsg: passed", sendmmsg(quick[0], many, 2, 0));
    SAY("recvmmsg: passed", recvmmsg(quick[1], many, 2, 0, NULL));
    many[1].msg_hdr.msg_name = name, many[1].msg_hdr.msg_namelen = sizeof name;
    SAY("sendmmsg with a name: trapped", sendmmsg(quick[0], many, 2, 0));
    SAY("recvmmsg with a name: trapped", recvmmsg(quick[1], many, 2, 0, NULL));
    return 0;
}

static int blocked[2];
static void *wait_in_recvmsg(void *unused) {
    char got[8];
    struct iovec in = {got, 8};
    struct msghdr received = message(&in);
    (void)unused;
    recvmsg(blocked[0], &received, 0);
    return NULL;
}
static void *wait_in_sendmsg(void *unused) {
    char data[65536] = "";
    struct iovec out = {data, sizeof data};
    struct msghdr sent = message(&out);
    (void)unused;
    for (;;) sendmsg(blocked[0], &sent, 0);
    return NULL;
}

static int cancel(void) {
    void *(*work[])(void *) = {wait_in_recvmsg, wait_in_sendmsg};
    const char *names[] = {"recvmsg", "sendmsg"};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, blocked)) return 1;
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        void *result = NULL;
        struct timespec until;
        pthread_create(&thread, NULL, work[i], NULL);
        usleep(100000);
        pthread_cancel(thread);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 5;
        int joined = pthread_timedjoin_np(thread, &result, &until);
        printf("a thread in %s is cancelled: %s\n", names[i], joined == 0 && result == PTHREAD_CANCELED ? "yes" : "no");
    }
    return 0;
}

static char work_folder[512];
static volatile sig_atomic_t failures, handled;
static void look(void) {
    struct stat s;
    int fd = open(work_folder, O_RDONLY | O_DIRECTORY);
    if (fd < 0 || stat(work_folder, &s) || fstatat(fd, "file", &s, 0) || access(work_folder, R_OK)) failures++;
    if (stat("/remote/x", &s) != -1 || errno != ENOENT) failures++;
    close(fd);
}
static void handle(int unused) {
    int before = errno;
    (void)unused;
    handled++;
    look();
    errno = before;
}
static void *look_often(void *unused) {
    for (int i = 0; i < 500; i++) look();
    return unused;
}

static int storm(const char *folder) {
    static char stack[8192];
    pthread_t threads[8];
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK | SA_RESTART};
    stack_t small = {.ss_sp = stack, .ss_size = sizeof stack};
    snprintf(work_folder, sizeof work_folder, "%s", folder);
    if (chdir(folder)) return 1;
    close(open("file", O_CREAT | O_RDWR, 0600));
    sigset_t timer;
    sigemptyset(&timer), sigaddset(&timer, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &timer, NULL);
    for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, look_often, NULL);
    sigaltstack(&small, NULL);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_sigmask(SIG_UNBLOCK, &timer, NULL);
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) {
            look();
            _exit(failures != 0);
        }
        int status = -1;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        if (status) failures++;
        child = vfork();
        if (child == 0) {
            struct stat s;
            stat(work_folder, &s);
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        status = -1;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        if (status) failures++;
        look();
    }
    setitimer(ITIMER_REAL, &never, NULL);
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    printf("%d failures, %s\n", (int)failures, handled > 5 ? "handlers ran" : "no handler ran");
    return 0;
}

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "table")) return table(words[2]);
    if (count == 2 && !strcmp(words[1], "messages")) return messages();
    if (count == 2 && !strcmp(words[1], "cancel")) return cancel();
    if (count == 3 && !strcmp(words[1], "storm")) return storm(words[2]);
    return 2;
}
