// What guest programs share: `T` shows a call with its result, `CASES` are named by `list` and run one at a
// time in the working directory; then the tree of files that was left is shown. Only what is the same on
// every machine and in every run is printed.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

// Prints an expression, its value and the error it left.
#define T(x) do { errno = 0; long r_ = (long)(x); printf("%s = %ld %s\n", #x, r_, r_ == -1 ? strerrorname_np(errno) : ""); } while (0)

static char buf[70000];

static int make(const char *name, const char *text) {
    int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0644);
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) perror("write");
    return fd;
}

static void show(int fd) {
    memset(buf, 0, sizeof buf);
    long n = pread(fd, buf, sizeof buf - 1, 0);
    unsigned sum = 0;
    for (long i = 0; i < n; i++) sum = sum * 31 + (unsigned char)buf[i];
    printf("%ld bytes, sum %u, starts %.20s\n", n, sum, buf);
}

static void tree(const char *at) {
    struct dirent **list;
    int n = scandir(at, &list, 0, alphasort);
    for (int i = 0; i < n; i++) {
        char path[5000];
        struct stat s;
        if (!strcmp(list[i]->d_name, ".") || !strcmp(list[i]->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", at, list[i]->d_name);
        lstat(path, &s);
        printf("%s %o", path, s.st_mode);
        if (!S_ISDIR(s.st_mode)) printf(" %d %ld", (int)s.st_nlink, (long)s.st_size);
        puts("");
        if (S_ISREG(s.st_mode)) { int fd = open(path, O_RDONLY); show(fd); close(fd); }
        if (S_ISDIR(s.st_mode)) tree(path);
    }
}

// Waits until a process sleeps or has ended, however long a busy machine takes to get it there.
static inline void asleep(pid_t p) {
    char path[40], text[400];
    sprintf(path, "/proc/%d/stat", (int)p);
    // It may sleep for a moment on its way.
    for (int i = 0, seen = 0; i < 5000 && seen < 3; i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        long n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        close(fd);
        if (n <= 0) return;
        text[n] = 0;
        char *end = strrchr(text, ')');
        seen = end && (end[2] == 'S' || end[2] == 'Z') ? seen + 1 : 0;
        usleep(1000);
    }
}
