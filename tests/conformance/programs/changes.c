/* The same calls as changes.py, for a static program: what each answers, one line each. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *base;
static char places[4][4096];

static const char *at(const char *name, int slot) {
    snprintf(places[slot], sizeof places[slot], "%s/%s", base, name);
    return places[slot];
}

static void tell(const char *name, long result) {
    if (result < 0)
        printf("%s %s\n", name, strerrorname_np(errno));
    else
        printf("%s %ld\n", name, result);
    fflush(stdout);
}

static long put(const char *name, int flags, const char *text) {
    int fd = open(at(name, 0), flags, 0666);
    if (fd < 0)
        return -1;
    long written = write(fd, text, strlen(text));
    return close(fd) < 0 ? -1 : written;
}

static long mode_of(const char *name) {
    struct stat stat;
    return lstat(at(name, 0), &stat) < 0 ? -1 : (long)stat.st_mode;
}

static long mapped(void) {
    int fd = open(at("mapped", 0), O_RDWR | O_CREAT, 0600);
    if (fd < 0 || write(fd, "....", 4) != 4)
        return -1;
    char *memory = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return -1;
    memory[1] = '!';
    munmap(memory, 4);
    return close(fd);
}

static long sizes(void) {
    struct stat stat;
    int fd = open(at("made", 0), O_RDWR);
    if (fd < 0 || pwrite(fd, "far", 3, 5000) != 3 || fstat(fd, &stat) < 0)
        return -1;
    long before = stat.st_size;
    if (ftruncate(fd, 4) < 0 || fsync(fd) < 0 || fstat(fd, &stat) < 0 || close(fd) < 0)
        return -1;
    return before * 10 + stat.st_size;
}

static long relative(void) {
    int folder = open(at("dir", 0), O_RDONLY | O_DIRECTORY);
    int fd = openat(folder, "relative", O_WRONLY | O_CREAT, 0666);
    if (fd < 0 || close(fd) < 0 || mkdirat(folder, "below", 0777) < 0)
        return -1;
    return renameat(folder, "relative", folder, "below/renamed") < 0 ? -1 : close(folder);
}

int main(int argc, char **argv) {
    struct timespec times[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    base = argc > 1 ? argv[1] : ".";
    umask(027);
    tell("create", put("made", O_WRONLY | O_CREAT, "content"));
    tell("its mode", mode_of("made"));
    tell("create once more", put("made", O_WRONLY | O_CREAT | O_EXCL, "x"));
    tell("append", put("made", O_WRONLY | O_APPEND, " and more"));
    tell("sizes", sizes());
    tell("mapping", mapped());
    tell("mkdir", mkdir(at("dir", 0), 0777));
    tell("mkdir again", mkdir(at("dir", 0), 0777));
    tell("mode of dir", mode_of("dir"));
    tell("relative", relative());
    tell("rmdir full", rmdir(at("dir", 0)));
    tell("rename", rename(at("made", 0), at("dir/moved", 1)));
    tell("old name", access(at("made", 0), F_OK));
    tell("symlink", symlink("dir/moved", at("link", 0)));
    tell("hard link", link(at("dir/moved", 0), at("second", 1)));
    tell("chmod", chmod(at("second", 0), 04751));
    tell("mode set", mode_of("second"));
    tell("utimensat", utimensat(AT_FDCWD, at("second", 0), times, 0));
    tell("truncate", truncate(at("second", 0), 2));
    tell("unlink", unlink(at("link", 0)));
    tell("unlink again", unlink(at("link", 0)));
    return 0;
}
