/* Cases 1-32: files. `dir` is the folder under test, `local` one of this machine, `ro` a read-only volume. */
#include "probe.h"
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef SEEK_DATA
#define SEEK_DATA 3
#define SEEK_HOLE 4
#endif
#define IN(...) path(__VA_ARGS__)

/* The kernel's own, which musl's headers do not have. */
struct open_how { unsigned long long flags, mode, resolve; };
enum { NO_MAGICLINKS = 2, NO_SYMLINKS = 4, BENEATH = 8 };
union wide { char room[256]; struct { char before[32]; unsigned long long ino, size; } known; };

static const char *dir(void) { return arg("dir"); }
static char *file(void) { return IN("%s/file", dir()); }

/* A relative path from anywhere near the root to an absolute one. */
static char *climbing(const char *to) { return IN("../../../../../../../..%s", to); }

static void open_read_close(void) {
    int fd = open(file(), O_RDONLY);
    saw("content", "%s", content_of(fd));
    outcome("close", close(fd));
    outcome("close again", close(fd));
    saw("creat's flags", "%d", (fcntl(0, F_GETFL) & O_ACCMODE) == O_RDONLY);
}

static void absolute_with_dirfd(void) {
    int local = open(arg("local"), O_RDONLY | O_DIRECTORY);
    saw("no descriptor", "%s", content_at(-1, file()));
    saw("a local one", "%s", content_at(local, file()));
    saw("a local path", "%s", content_at(-1, IN("%s/near", arg("local"))));
    close(local);
}

static void relative_to_remote(void) {
    int folder = open(IN("%s/sub", dir()), O_RDONLY | O_DIRECTORY);
    struct stat seen;
    outcome("folder", folder);
    saw("below", "%s", content_at(folder, "deep/leaf"));
    saw("above", "%s", content_at(folder, "../file"));
    outcome("none", openat(folder, "none", O_RDONLY));
    outcome("stat", fstatat(folder, "deep/leaf", &seen, 0));
    saw("size", "%lld", (long long)seen.st_size);
    outcome("access", faccessat(folder, "deep/leaf", R_OK, 0));
    close(folder);
}

static void relative_to_local(void) {
    int folder = open(arg("local"), O_RDONLY | O_DIRECTORY);
    saw("near", "%s", content_at(folder, "near"));
    saw("far", "%s", content_at(folder, climbing(file())));
    outcome("none", openat(folder, "none", O_RDONLY));
    close(folder);
}

static void dots_inside(void) {
    saw("one", "%s", content(IN("%s/sub/../file", dir())));
    saw("two", "%s", content(IN("%s/sub/deep/../../file", dir())));
    saw("slashes", "%s", content(IN("%s/./sub//deep/./leaf", dir())));
    saw("through none", "%s", content(IN("%s/none/../file", dir())));
}

static void dots_to_local(void) {
    struct stat seen;
    char *there = IN("%s/%s", dir(), climbing(IN("%s/near", arg("local"))));
    saw("content", "%s", content(there));
    outcome("stat", stat(there, &seen));
    outcome("access", access(there, R_OK));
    outcome("none", open(IN("%s/%s", dir(), climbing("/none-of-that-name")), O_RDONLY));
}

static void links(void) {
    char text[512];
    struct stat seen;
    ssize_t length = readlink(IN("%s/link", dir()), text, sizeof text - 1);
    text[length < 0 ? 0 : length] = 0;
    saw("content", "%s", content(IN("%s/link", dir())));
    saw("text", "%s", text);
    saw("cut", "%zd", readlink(IN("%s/link", dir()), text, 2));
    outcome("no link", readlink(file(), text, sizeof text));
    lstat(IN("%s/link", dir()), &seen);
    saw("lstat", "%o", seen.st_mode & S_IFMT);
    saw("below a link", "%s", content(IN("%s/dirlink/deep/leaf", dir())));
    outcome("not followed", open(IN("%s/link", dir()), O_RDONLY | O_NOFOLLOW));
}

static void absolute_links(void) {
    saw("in the volume", "%s", content(IN("%s/abslink", dir())));
    saw("out of it", "%s", content(IN("%s/outlink", dir())));
    saw("dangling", "%s", content(IN("%s/dangling", dir())));
}

/* The far side swaps `..data` all the time between two versions. */
static void swapped(void) {
    bool seen[2] = {false, false}, other = false;
    double end = now() + 5;
    while (now() < end && !(seen[0] && seen[1])) {
        const char *text = content(IN("%s/config/version", dir()));
        if (!strncmp(text, "even ", 5))
            seen[0] = true;
        else if (!strncmp(text, "odd ", 4))
            seen[1] = true;
        else
            other = true, saw("strange", "%s", text);
        usleep(5000);
    }
    saw("both seen", "%d%d", seen[0], seen[1]);
    saw("anything else", "%d", other);
    saw("stable", "%s", content(IN("%s/config/stable", dir())));
}

static int visited;
static int visit(const char *name, const struct stat *seen, int kind, struct FTW *where) {
    (void)name, (void)seen, (void)where;
    visited += kind == FTW_F ? 1 : kind == FTW_D ? 100 : 10000;
    return 0;
}

static void through_libc(void) {
    char line[256] = "";
    FILE *stream = fopen(file(), "r");
    saw("fopen", "%s", stream && fgets(line, sizeof line, stream) ? line : errno_name(errno));
    stream = stream ? freopen(IN("%s/sub/deep/leaf", dir()), "r", stream) : NULL;
    saw("freopen", "%s", stream && fgets(line, sizeof line, stream) ? line : errno_name(errno));
    if (stream)
        fclose(stream);
    DIR *folder = opendir(IN("%s/tree", dir()));
    int entries = 0;
    while (folder && readdir(folder))
        entries++;
    saw("opendir", "%d", entries);
    if (folder)
        closedir(folder);
    struct dirent **names = NULL;
    int count = scandir(IN("%s/tree", dir()), &names, NULL, alphasort);
    for (int i = 0; i < count; i++)
        saw(IN("scandir %d", i), "%s", names[i]->d_name);
    glob_t found;
    saw("glob", "%d", glob(IN("%s/tree/*.txt", dir()), 0, NULL, &found));
    saw("globbed", "%zu", found.gl_pathc);
    visited = 0;
    outcome("nftw", nftw(IN("%s/tree", dir()), visit, 8, FTW_PHYS));
    saw("visited", "%d", visited);
    char *real = realpath(IN("%s/dirlink/../link", dir()), NULL);
    saw("realpath", "%s", real ? real : errno_name(errno));
    char *made = IN("%s/made-XXXXXX", arg("local"));
    int fd = mkstemp(made);
    outcome("mkstemp", fd);
    outcome("unlink", unlink(made));
    close(fd);
}

static void offsets(void) {
    char one[4] = "", two[4] = "", three[4] = "";
    int first = open(file(), O_RDONLY), second = open(file(), O_RDONLY), same = dup(first);
    if (read(first, one, 3) < 0 || read(second, two, 3) < 0 || read(same, three, 3) < 0)
        saw("failed", "%s", errno_name(errno));
    saw("own", "%d", !strcmp(one, two));
    saw("three", "%s", three);
    saw("shared", "%ld", (long)lseek(first, 0, SEEK_CUR));
    close(first), close(second), close(same);
}

static void positions(void) {
    char one[8] = "", two[8] = "";
    struct iovec parts[] = {{one, 4}, {two, 4}};
    int fd = open(file(), O_RDONLY);
    saw("readv", "%zd", readv(fd, parts, 2));
    saw("parts", "%s+%s", one, two);
    saw("pread", "%zd", pread(fd, one, 7, 1));
    saw("text", "%s", one);
    memset(one, 0, sizeof one), memset(two, 0, sizeof two);
    saw("preadv", "%zd", preadv(fd, parts, 2, 2));
    saw("again", "%s+%s", one, two);
    saw("beyond", "%zd", pread(fd, one, 4, 1 << 20));
    saw("end", "%lld", (long long)lseek(fd, 0, SEEK_END));
    outcome("before", lseek(fd, -1, SEEK_SET));
    close(fd);
    fd = open(IN("%s/big", dir()), O_RDONLY);
    saw("data", "%lld", (long long)lseek(fd, 1 << 20, SEEK_DATA));
    saw("hole", "%lld", (long long)lseek(fd, 0, SEEK_HOLE));
    outcome("data at the end", lseek(fd, 1LL << 40, SEEK_DATA));
    close(fd);
}

static void mapped(void) {
    int fd = open(IN("%s/block", dir()), O_RDONLY);
    char *private = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *shared = mmap(NULL, 65536, PROT_READ, MAP_SHARED, fd, 0);
    char *later = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 32768);
    outcome("private", private == MAP_FAILED ? -1 : 0);
    outcome("shared", shared == MAP_FAILED ? -1 : 0);
    if (private != MAP_FAILED && shared != MAP_FAILED && later != MAP_FAILED) {
        saw("start", "%.40s", private);
        saw("middle", "%.40s", later);
        private[0] = '#';
        saw("not through", "%.40s", shared);
        unsigned sum = 0;
        for (int i = 0; i < 65536; i++)
            sum = sum * 31 + (unsigned char)shared[i];
        saw("all of it", "%u", sum);
    }
    outcome("to be written", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    close(fd);
}

static void same_stat(void) {
    const char *names[] = {"file", "sub", "link", "big"};
    for (int i = 0; i < 4; i++) {
        struct stat by_path, by_fd, by_link;
        union wide wide;
        char *name = IN("%s/%s", dir(), names[i]);
        memset(&wide, 0, sizeof wide);
        int fd = open(name, O_RDONLY);
        stat(name, &by_path), fstat(fd, &by_fd), lstat(name, &by_link);
        syscall(SYS_statx, AT_FDCWD, name, 0, 0x7ff, &wide);
        close(fd);
        saw(IN("%s: ino and dev", names[i]), "%d%d", by_path.st_ino == by_fd.st_ino, by_path.st_dev == by_fd.st_dev);
        saw(IN("%s: statx", names[i]), "%d%d", wide.known.ino == by_path.st_ino, wide.known.size == (unsigned long long)by_path.st_size);
        saw(IN("%s: mode, size, links", names[i]), "%o %lld %lu", by_path.st_mode, (long long)by_path.st_size, (unsigned long)by_path.st_nlink);
        saw(IN("%s: times", names[i]), "%d%d", by_path.st_mtim.tv_nsec == by_fd.st_mtim.tv_nsec, by_path.st_mtim.tv_sec == by_fd.st_mtim.tv_sec);
        saw(IN("%s: modified", names[i]), "%lld", (long long)by_path.st_mtim.tv_sec);
        saw(IN("%s: link", names[i]), "%o", by_link.st_mode & S_IFMT);
    }
    DIR *folder = opendir(dir());
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        struct stat seen;
        if (!strcmp(entry->d_name, "file") && !stat(file(), &seen))
            saw("readdir", "%d", entry->d_ino == seen.st_ino);
    }
    if (folder)
        closedir(folder);
}

static void tools(void) {
    static const char *commands[] = {
        "rm -rf \"$LOCAL/copy-$NAME\"; cp -r \"$DIR/tree\" \"$LOCAL/copy-$NAME\" && diff -r \"$DIR/tree\" \"$LOCAL/copy-$NAME\" && rm -r \"$LOCAL/copy-$NAME\"",
        "tar -C \"$DIR\" -cf - tree | tar -tf - | sort",
        "ls -lgo --time-style=+ \"$DIR/tree\"",
        "find \"$DIR/tree\" -type f -size -2 | sort | sed \"s|$DIR||\"",
        "du -a --apparent-size -b \"$DIR/tree\" | wc -l",
        "cat \"$DIR/file\"",
    };
    setenv("DIR", dir(), 1), setenv("LOCAL", arg("local"), 1), setenv("NAME", arg("name"), 1);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        FILE *pipe = popen(IN("{ %s; } 2>&1", commands[i]), "r");
        saw(IN("%.4s", commands[i]), "%s", pipe ? content_of(fileno(pipe)) : errno_name(errno));
        if (pipe)
            saw(IN("%.4s status", commands[i]), "%d", pclose(pipe));
    }
}

static void attributes(void) {
    char value[256] = "", list[1024] = "";
    char *name = IN("%s/xattr", dir());
    ssize_t length = getxattr(name, "user.probe", value, sizeof value - 1);
    saw("get", "%s", length < 0 ? errno_name(errno) : value);
    saw("size", "%zd", getxattr(name, "user.probe", NULL, 0));
    length = lgetxattr(name, "user.none", value, sizeof value);
    saw("none", "%s", length < 0 ? errno_name(errno) : value);
    length = listxattr(name, list, sizeof list);
    bool listed = false;
    for (char *at = list; length > 0 && at < list + length; at += strlen(at) + 1)
        listed |= !strcmp(at, "user.probe");
    saw("listed", "%d", listed);
    int fd = open(name, O_RDONLY);
    length = fgetxattr(fd, "user.probe", value, sizeof value - 1);
    saw("of a descriptor", "%s", length < 0 ? errno_name(errno) : value);
    close(fd);
}

static void many_entries(void) {
    DIR *folder = opendir(IN("%s/many", dir()));
    for (int round = 0; folder && round < 2; round++) {
        unsigned count = 0, sum = 0, dots = 0;
        for (struct dirent *entry; (entry = readdir(folder));) {
            unsigned hash = 5381;
            for (char *at = entry->d_name; *at; at++)
                hash = hash * 33 + (unsigned char)*at;
            sum += hash, count++, dots += entry->d_name[0] == '.';
        }
        saw(IN("round %d", round), "%u %u %u", count, sum, dots);
        rewinddir(folder);
    }
    outcome("opendir", folder ? 0 : -1);
    if (folder)
        closedir(folder);
}

static void failures(void) {
    char *huge = malloc(6000);
    char name[300];
    memset(name, 'x', 299), name[299] = 0;
    memset(huge, 'y', 5000), huge[5000] = 0;
    for (int i = 0; i < 5000; i += 100)
        huge[i] = '/';
    outcome("ENOENT", open(IN("%s/none", dir()), O_RDONLY));
    outcome("ENOENT in a folder that is not there", open(IN("%s/none/none", dir()), O_RDONLY));
    outcome("ENOTDIR", open(IN("%s/file/x", dir()), O_RDONLY));
    outcome("ENOTDIR for a slash", open(IN("%s/file/", dir()), O_RDONLY));
    outcome("EISDIR", open(IN("%s/sub", dir()), O_WRONLY));
    outcome("ELOOP", open(IN("%s/loop", dir()), O_RDONLY));
    outcome("ENAMETOOLONG of a name", open(IN("%s/%s", dir(), name), O_RDONLY));
    outcome("ENAMETOOLONG of a path", open(huge, O_RDONLY));
    outcome("EACCES", open(IN("%s/closed", dir()), O_RDONLY));
    outcome("EACCES for running", access(file(), X_OK));
    outcome("access", access(file(), R_OK));
    outcome("empty path", open("", O_RDONLY));
    outcome("stat", stat(IN("%s/none", dir()), &(struct stat){0}));
    int fd = open(IN("%s/sub", dir()), O_RDONLY);
    outcome("EISDIR on read", read(fd, name, 1));
    close(fd);
    free(huge);
}

static void read_only(void) {
    char *name = IN("%s/banner.txt", arg("ro"));
    outcome("O_WRONLY", open(name, O_WRONLY));
    outcome("O_RDWR", open(name, O_RDWR));
    outcome("O_TRUNC", open(name, O_RDONLY | O_TRUNC));
    outcome("O_CREAT of a new one", open(IN("%s/new", arg("ro")), O_WRONLY | O_CREAT, 0644));
    int fd = open(name, O_RDONLY | O_CREAT, 0644);
    saw("O_CREAT of one that is there", "%s", content_of(fd));
    outcome("O_EXCL", open(name, O_WRONLY | O_CREAT | O_EXCL, 0644));
    outcome("unlink", unlink(name));
    outcome("mkdir", mkdir(IN("%s/new", arg("ro")), 0755));
    outcome("mkdir of one that is there", mkdir(arg("ro"), 0755));
    outcome("chmod", chmod(name, 0600));
    outcome("truncate", truncate(name, 0));
    outcome("rename", rename(name, IN("%s/other", arg("ro"))));
    outcome("access", access(name, W_OK));
    outcome("none", unlink(IN("%s/none", arg("ro"))));
    close(fd);
}

static void written(void) {
    char *name = IN("%s/w-%s", dir(), arg("name"));
    struct stat seen = {0};
    mode_t before = umask(027);
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0666);
    outcome("O_EXCL", fd);
    outcome("write", write(fd, "first line\n", 11));
    saw("read at once", "%s", content(name));
    outcome("O_EXCL again", open(name, O_WRONLY | O_CREAT | O_EXCL, 0666));
    int more = open(name, O_WRONLY | O_APPEND);
    outcome("append", write(more, "second\n", 7));
    outcome("pwrite", pwrite(fd, "F", 1, 0));
    saw("both", "%s", content(name));
    stat(name, &seen);
    saw("mode and size", "%o %lld", seen.st_mode, (long long)seen.st_size);
    outcome("ftruncate", ftruncate(fd, 3));
    outcome("fsync", fsync(fd));
    saw("cut", "%s", content(name));
    close(open(name, O_WRONLY | O_TRUNC));
    stat(name, &seen);
    saw("truncated", "%lld", (long long)seen.st_size);
    outcome("unlink", unlink(name));
    saw("gone", "%s", content(name));
    saw("still open", "%zd", write(fd, "x", 1));
    close(fd), close(more);
    umask(before);
}

static void across(void) {
    char *near = IN("%s/near", arg("local")), *there = IN("%s/near-%s", dir(), arg("name"));
    outcome("rename to there", rename(near, there));
    outcome("rename from there", rename(file(), IN("%s/taken", arg("local"))));
    outcome("link to there", link(near, there));
    outcome("link from there", link(file(), IN("%s/taken", arg("local"))));
    saw("near", "%s", content(near));
}

static void changed(void) {
    char *folder = IN("%s/d-%s", dir(), arg("name")), *one = IN("%s/one", folder), *two = IN("%s/two", folder);
    struct stat seen = {0};
    char text[64] = "";
    outcome("mkdir", mkdir(folder, 0750));
    outcome("mkdir again", mkdir(folder, 0750));
    close(open(one, O_WRONLY | O_CREAT, 0644));
    outcome("link", link(one, two));
    stat(one, &seen);
    saw("links", "%lu", (unsigned long)seen.st_nlink);
    outcome("symlink", symlink("one", IN("%s/three", folder)));
    outcome("readlink", readlink(IN("%s/three", folder), text, sizeof text - 1));
    saw("text", "%s", text);
    outcome("chmod", chmod(one, 0600));
    struct timespec times[2] = {{1000000000, 5}, {1234567890, 7}};
    outcome("utimensat", utimensat(AT_FDCWD, one, times, 0));
    stat(one, &seen);
    saw("mode and time", "%o %lld", seen.st_mode, (long long)seen.st_mtim.tv_sec);
    outcome("rename", rename(one, IN("%s/four", folder)));
    outcome("rmdir of a full one", rmdir(folder));
    outcome("unlink", unlink(IN("%s/four", folder)));
    unlink(two), unlink(IN("%s/three", folder));
    outcome("rmdir", rmdir(folder));
    outcome("rmdir again", rmdir(folder));
}

static void copied(void) {
    char *name = IN("%s/sent-%s", arg("local"), arg("name"));
    int from = open(IN("%s/block", dir()), O_RDONLY), to = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct stat seen = {0};
    saw("sendfile", "%zd", sendfile(to, from, NULL, 65536));
    fstat(to, &seen);
    saw("size", "%lld", (long long)seen.st_size);
    char start[41] = "";
    saw("start", "%zd", pread(to, start, 40, 0));
    saw("text", "%s", start);
    off_t at = 0;
    lseek(to, 0, SEEK_SET);
    long moved = syscall(SYS_copy_file_range, from, &at, to, NULL, 65536L, 0);
    saw("copy_file_range", "%s", moved < 0 ? errno_name(errno) : IN("%ld", moved));
    int pipes[2];
    if (!pipe(pipes)) {
        at = 8;
        saw("splice", "%ld", (long)splice(from, &at, pipes[1], NULL, 16, 0));
        memset(start, 0, sizeof start);
        saw("spliced", "%zd %s", read(pipes[0], start, 16), start);
    }
    close(from), close(to), unlink(name);
}

static void lock_in_child(void) {
    int fd = open(file(), O_RDONLY);
    _exit(flock(fd, LOCK_EX | LOCK_NB) < 0 ? errno == EWOULDBLOCK ? 11 : 2 : 0);
}

static void locks(void) {
    int one = open(file(), O_RDONLY), two = open(file(), O_RDONLY);
    struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 4};
    outcome("shared", flock(one, LOCK_SH | LOCK_NB));
    outcome("shared twice", flock(two, LOCK_SH | LOCK_NB));
    outcome("exclusive beside it", flock(two, LOCK_EX | LOCK_NB));
    flock(two, LOCK_UN);
    saw("another process", "%s", in_child(lock_in_child));
    outcome("released", flock(one, LOCK_UN));
    saw("another process then", "%s", in_child(lock_in_child));
    outcome("range to read", fcntl(one, F_SETLK, &range));
    range.l_type = F_WRLCK;
    outcome("range to write", fcntl(one, F_SETLK, &range));
    range.l_type = F_WRLCK, range.l_pid = 0;
    outcome("asked", fcntl(two, F_OFD_GETLK, &range));
    close(one), close(two);
}

static void large(void) {
    struct stat seen = {0};
    char text[64] = "";
    char *name = IN("%s/big", dir());
    outcome("stat", stat(name, &seen));
    saw("size", "%lld", (long long)seen.st_size);
    int fd = open(name, O_RDONLY | O_LARGEFILE);
    saw("far in", "%zd", pread(fd, text, 32, (4LL << 30) + 123));
    saw("text", "%.40s", text);
    saw("a hole", "%zd", pread(fd, text, 8, 3LL << 30));
    saw("zeroes", "%d", !memcmp(text, "\0\0\0\0\0\0\0\0", 8));
    saw("end", "%lld", (long long)lseek(fd, 0, SEEK_END));
    close(fd);
}

static void without_size(void) {
    struct stat seen = {0};
    outcome("stat", stat(arg("sizeless"), &seen));
    saw("size", "%lld", (long long)seen.st_size);
    saw("content", "%s", content(arg("sizeless")));
    int fd = open(arg("sizeless"), O_RDONLY);
    char text[4] = "";
    saw("piece", "%zd %s", read(fd, text, 3), text);
    close(fd);
}

static void folder_of_work(void) {
    char text[512];
    int back = open(".", O_RDONLY | O_DIRECTORY);
    outcome("chdir", chdir(IN("%s/sub", dir())));
    saw("getcwd", "%s", getcwd(text, sizeof text) ? text : errno_name(errno));
    saw("below", "%s", content("deep/leaf"));
    saw("above", "%s", content("../file"));
    int folder = open(IN("%s/sub/deep", dir()), O_RDONLY | O_DIRECTORY);
    outcome("fchdir", fchdir(folder));
    saw("getcwd then", "%s", getcwd(text, sizeof text) ? text : errno_name(errno));
    saw("leaf", "%s", content("leaf"));
    outcome("to a file", chdir(file()));
    outcome("to none", chdir(IN("%s/none", dir())));
    if (fchdir(back))
        saw("back", "%s", errno_name(errno));
    saw("near", "%s", content(IN("%s/near", arg("local"))));
    close(back), close(folder);
}

static void flags(void) {
    struct stat seen = {0};
    int fd = open(file(), O_PATH);
    outcome("O_PATH", fd);
    outcome("read of it", read(fd, &seen, 1));
    outcome("fstat of it", fstat(fd, &seen));
    saw("size", "%lld", (long long)seen.st_size);
    close(fd);
    fd = open(IN("%s/sub", dir()), O_PATH | O_DIRECTORY);
    saw("below O_PATH", "%s", content_at(fd, "deep/leaf"));
    close(fd);
    outcome("O_DIRECTORY", open(file(), O_RDONLY | O_DIRECTORY));
    fd = open(file(), O_RDONLY | O_CLOEXEC);
    saw("O_CLOEXEC", "%d", fcntl(fd, F_GETFD));
    close(fd);
    fd = open(file(), O_RDONLY | O_NONBLOCK | O_NOATIME);
    if (fd < 0)
        fd = open(file(), O_RDONLY | O_NONBLOCK);
    saw("without", "%d", fcntl(fd, F_GETFD));
    saw("flags", "%o", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
    close(fd);
    int lowest = dup(0);
    close(lowest);
    fd = open(file(), O_RDONLY);
    saw("the lowest number", "%d", fd == lowest);
    close(fd);
}

static long open_how(int folder, const char *name, unsigned long long resolve) {
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = resolve};
    return syscall(SYS_openat2, folder, name, &how, sizeof how);
}

static void resolving(void) {
    int folder = open(IN("%s/sub", dir()), O_RDONLY | O_DIRECTORY);
    saw("plain", "%s", content_of(open_how(AT_FDCWD, file(), 0)));
    saw("beneath", "%s", content_of(open_how(folder, "deep/leaf", BENEATH)));
    outcome("beneath and up", open_how(folder, "../file", BENEATH));
    outcome("no links", open_how(AT_FDCWD, IN("%s/link", dir()), NO_SYMLINKS));
    saw("no links there", "%s", content_of(open_how(AT_FDCWD, file(), NO_SYMLINKS)));
    saw("no magic links", "%s", content_of(open_how(AT_FDCWD, IN("%s/link", dir()), NO_MAGICLINKS)));
    outcome("none", open_how(AT_FDCWD, IN("%s/none", dir()), 0));
    outcome("bad flags", open_how(AT_FDCWD, file(), 1ULL << 40));
    close(folder);
}

static void watched(void) {
    char events[4096];
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int watch = inotify_add_watch(fd, IN("%s/config", dir()), IN_CREATE | IN_MOVED_TO | IN_DELETE);
    outcome("watch", watch);
    saw("told", "%d", watch >= 0 && wait_for(fd, POLLIN, 2) && read(fd, events, sizeof events) > 0);
    close(fd);
    fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    outcome("watch near", inotify_add_watch(fd, arg("local"), IN_CREATE));
    char *name = IN("%s/watched-%s", arg("local"), arg("name"));
    close(open(name, O_WRONLY | O_CREAT, 0600));
    saw("told of near", "%d", wait_for(fd, POLLIN, 2) && read(fd, events, sizeof events) > 0);
    unlink(name);
    close(fd);
}

static char *unmapped;
static void open_unmapped(void) {
    _exit(open(unmapped, O_RDONLY) < 0 && errno == EFAULT ? 14 : 1);
}
static void open_null(void) {
    char *volatile nothing = NULL;
    _exit(open(nothing, O_RDONLY) < 0 && errno == EFAULT ? 14 : 1);
}

static void borders(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + page, page);
    char *at = pages + page - strlen(file()) - 1;
    strcpy(at, file());
    saw("ends at the border", "%s", content(at));
    struct stat seen = {0};
    outcome("stat", stat(at, &seen));
    saw("null", "%s", in_child(open_null));
    outcome("stat to nowhere", syscall(SYS_newfstatat, AT_FDCWD, file(), (void *)8, 0));
    unmapped = pages + page + 64;
    saw("unmapped", "%s", in_child(open_unmapped));
}

static void own_descriptors(void) {
    char text[512] = "";
    int fd = open(file(), O_RDONLY);
    ssize_t length = readlink(IN("/proc/self/fd/%d", fd), text, sizeof text - 1);
    saw("link", "%s", length < 0 ? errno_name(errno) : text);
    saw("reopened", "%s", content(IN("/proc/self/fd/%d", fd)));
    saw("by dev", "%s", content(IN("/dev/fd/%d", fd)));
    struct stat one = {0}, two = {0};
    stat(IN("/proc/self/fd/%d", fd), &one), fstat(fd, &two);
    saw("the same", "%d", one.st_ino == two.st_ino && one.st_dev == two.st_dev);
    close(fd);
    fd = open(IN("%s/sub", dir()), O_RDONLY | O_DIRECTORY);
    saw("below a folder", "%s", content(IN("/proc/self/fd/%d/deep/leaf", fd)));
    close(fd);
}

const struct test file_cases[] = {
    {1, open_read_close}, {2, absolute_with_dirfd}, {3, relative_to_remote}, {4, relative_to_local}, {5, dots_inside},
    {6, dots_to_local}, {7, links}, {8, absolute_links}, {9, swapped}, {10, through_libc}, {11, offsets}, {12, positions},
    {13, mapped}, {14, same_stat}, {15, tools}, {16, attributes}, {17, many_entries}, {18, failures}, {19, read_only},
    {20, written}, {21, across}, {22, changed}, {23, copied}, {24, locks}, {25, large}, {26, without_size},
    {27, folder_of_work}, {28, flags}, {29, resolving}, {30, watched}, {31, borders}, {32, own_descriptors}, {0, NULL},
};
