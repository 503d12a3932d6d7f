// Cases of flags of inodes (chattr(1)) in a tmpfs, and of what ioctl(2) tells of every file; see guest.h.
// They need CAP_LINUX_IMMUTABLE.
#include "guest.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#define IMM FS_IMMUTABLE_FL
#define APP FS_APPEND_FL

static char home[] = "/dev/shm/flags-XXXXXX";
static void enter(void) { mkdtemp(home); chmod(home, 0777); chdir(home); }
static int get(int fd) { int v = -1; return ioctl(fd, FS_IOC_GETFLAGS, &v) ? -errno : v; }
static int set(int fd, int v) { return ioctl(fd, FS_IOC_SETFLAGS, &v); }
static int flag(const char *name, int v) { int fd = open(name, O_RDONLY), r = set(fd, v); close(fd); return r; }
static unsigned seen(const char *name) { struct statx s; return statx(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, STATX_ALL, &s) ? 0 : s.stx_attributes; }

static void c_values(void) {
    enter(); int f = make("f", "text"), d; mkdir("d", 0755); d = open("d", O_RDONLY); struct fsxattr x; T(get(f)); T(get(d));
    for (int i = 0; i < 32; i++) { int r = set(f, 1u << i); printf("%x: %d %s ", 1u << i, r, r ? strerrorname_np(errno) : ""); printf("%x %x\n", get(f), seen("f")); set(f, 0); }
    for (int i = 0; i < 32; i++) { memset(&x, 0, sizeof x); x.fsx_xflags = 1u << i; int r = ioctl(f, FS_IOC_FSSETXATTR, &x); printf("x %x: %d %s ", 1u << i, r, r ? strerrorname_np(errno) : ""); memset(&x, 9, sizeof x); ioctl(f, FS_IOC_FSGETXATTR, &x); printf("%x %x\n", x.fsx_xflags, get(f)); set(f, 0); }
    T(set(f, 0xf0)); memset(&x, 9, sizeof x); T(ioctl(f, FS_IOC_FSGETXATTR, &x)); printf("%x %x %x %x %x %d\n", x.fsx_xflags, x.fsx_extsize, x.fsx_nextents, x.fsx_projid, x.fsx_cowextsize, x.fsx_pad[0]); T(set(f, 0x101)); T(get(f)); T(ioctl(f, FS_IOC_GETFLAGS, 8)); T(ioctl(f, FS_IOC_SETFLAGS, 8)); T(ioctl(f, FS_IOC_FSGETXATTR, 8)); T(ioctl(f, FS_IOC_FSSETXATTR, 8)); T(ioctl(f, FS_IOC_GETVERSION, buf)); T(ioctl(f, FS_IOC_SETVERSION, buf)); T(set(f, 0));
    T(set(d, 0xc0)); close(make("d/f", "x")); mkdir("d/d", 0755); symlink("f", "d/l"); int t = open("d", O_TMPFILE | O_RDWR, 0600); T(get(open("d/f", O_RDONLY))); T(get(open("d/d", O_RDONLY))); printf("%x %x\n", seen("d/l"), seen("d")); T(get(t)); T(set(d, APP)); close(make("d/g", "x")); T(get(open("d/g", O_RDONLY))); T(set(d, 0)); T(get(d)); T(get(memfd_create("m", 0)));
    int in = inotify_init1(IN_NONBLOCK); inotify_add_watch(in, "f", IN_ALL_EVENTS); T(set(f, 0x40)); T(read(in, buf, 99)); remove("d/f"); remove("d/g"); remove("d/l"); rmdir("d/d"); rmdir("d"); remove("f"); rmdir(home);
}
static void c_immutable(void) {
    enter(); int f = make("f", "0123456789"); mkdir("d", 0755); make("d/in", "x"); mkfifo("d/p", 0600); T(flag("f", IMM)); T(open("f", O_WRONLY)); T(open("f", O_RDWR)); T(open("f", O_WRONLY | O_APPEND)); T(open("f", O_RDONLY | O_TRUNC)); T(open("f", O_RDONLY) > 0); T(open("f", O_CREAT | O_WRONLY, 0600)); T(write(f, "x", 1)); T(pwrite(f, "x", 1, 3)); T(ftruncate(f, 5)); T(truncate("f", 3)); T(fallocate(f, 0, 0, 100)); T(fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1));
    T(chmod("f", 0600)); T(fchmod(f, 0600)); T(chown("f", 0, 0)); T(fchown(f, 1, 1)); T(utimensat(AT_FDCWD, "f", 0, 0)); struct timespec t[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}, u[2] = {{1, 1}, {1, 1}}, v[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}}, w[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}}; T(utimensat(AT_FDCWD, "f", t, 0)); T(futimens(f, u)); T(futimens(f, v)); T(futimens(f, w)); T(setxattr("f", "user.a", "b", 1, 0)); T(setxattr("f", "security.a", "b", 1, 0)); T(setxattr("f", "trusted.a", "b", 1, 0)); T(removexattr("f", "user.a")); T(getxattr("f", "user.a", buf, 9));
    T(unlink("f")); T(rename("f", "g")); T(rename("d/in", "f")); T(link("f", "l")); T(linkat(AT_FDCWD, "/proc/self/fd/3", AT_FDCWD, "l", AT_SYMLINK_FOLLOW)); T(access("f", W_OK)); T(access("f", R_OK)); char *m = mmap(0, 4096, 3, MAP_SHARED, f, 0); T(m != MAP_FAILED); m[0] = 'm'; T(munmap(m, 4096)); T(fcntl(f, F_SETFL, O_APPEND));
    T(flag("d", IMM)); T(open("d/n", O_CREAT | O_WRONLY, 0600)); T(open("d", O_TMPFILE | O_WRONLY, 0600)); T(mkdir("d/n", 0700)); T(symlink("x", "d/n")); T(mkfifo("d/n", 0700)); T(unlink("d/in")); T(rename("d/in", "d/out")); T(rename("d", "e")); T(rmdir("d")); T(link("d/p", "d/q")); T(chmod("d", 0700)); T(open("d/in", O_WRONLY) > 0); T(chmod("d/in", 0600)); T(open("d/p", O_RDWR) > 0); T(access("d", W_OK)); T(setxattr("d", "user.a", "b", 1, 0)); T(flag("d", 0)); T(rename("d", "e")); T(flag("f", 0)); T(open("f", O_WRONLY) > 0); show(f); remove("e/in"); remove("e/p"); remove("e"); remove("f"); rmdir(home);
}
static void c_append(void) {
    enter(); int f = make("f", "0123456789"); mkdir("d", 0755); make("d/in", "x"); make("o", "x"); T(flag("f", APP)); T(open("f", O_WRONLY)); T(open("f", O_RDWR)); T(open("f", O_RDONLY) > 0); int a = open("f", O_WRONLY | O_APPEND), b = open("f", O_RDWR | O_APPEND); T(a > 0); T(b > 0); T(open("f", O_WRONLY | O_APPEND | O_TRUNC)); T(open("f", O_RDONLY | O_TRUNC)); T(open("f", O_CREAT | O_WRONLY, 0600)); T(open("f", O_CREAT | O_WRONLY | O_APPEND, 0600) > 0);
    T(write(a, "add", 3)); T(pwrite(a, "x", 1, 0)); T(write(f, "x", 1)); T(ftruncate(f, 5)); T(ftruncate(a, 99)); T(truncate("f", 3)); T(fallocate(a, 0, 0, 100)); T(fallocate(a, FALLOC_FL_KEEP_SIZE, 0, 200)); T(fallocate(a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1)); T(fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1)); T(fcntl(a, F_SETFL, 0)); T(fcntl(a, F_SETFL, O_APPEND | O_NONBLOCK)); T(fcntl(f, F_SETFL, O_APPEND)); T(fcntl(f, F_SETFL, 0)); T(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, b, 0)); T(mmap(0, 4096, PROT_READ, MAP_SHARED, b, 0)); T(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, b, 0) != MAP_FAILED); T(mmap(0, 4096, PROT_READ, MAP_SHARED, open("f", O_RDONLY), 0) != MAP_FAILED);
    T(chmod("f", 0600)); T(chown("f", 0, 0)); T(utimensat(AT_FDCWD, "f", 0, 0)); struct timespec u[2] = {{1, 1}, {1, 1}}; T(futimens(f, u)); T(setxattr("f", "user.a", "b", 1, 0)); T(unlink("f")); T(rename("f", "g")); T(rename("o", "f")); T(link("f", "l")); T(access("f", W_OK));
    T(flag("d", APP)); T(open("d/n", O_CREAT | O_WRONLY, 0600) > 0); T(mkdir("d/m", 0700)); T(unlink("d/in")); T(rename("d/in", "d/out")); T(rename("o", "d/o")); T(rename("d/n", "n")); T(rmdir("d/m")); T(rmdir("d")); T(rename("d", "e")); T(chmod("d", 0700)); T(flag("d", 0)); T(flag("f", 0)); show(f); remove("d/in"); remove("d/n"); remove("d/m"); remove("d/o"); remove("d"); remove("f"); rmdir(home);
}
static void c_unprivileged(void) {
    enter(); int f = make("f", "x"), g = make("g", "x"), h = make("h", "x"); fchown(g, 1000, 1000); set(h, IMM); fflush(stdout); pid_t c = fork();
    if (!c) { setgroups(0, 0); setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000); T(get(f)); T(set(f, 0x40)); T(set(g, 0xc0)); T(get(g)); T(set(g, IMM)); T(set(g, APP)); T(set(g, 0x40 | 1)); T(set(g, IMM | 1)); T(set(h, 0)); T(set(h, IMM)); struct fsxattr x = {.fsx_xflags = FS_XFLAG_IMMUTABLE}; T(ioctl(g, FS_IOC_FSSETXATTR, &x)); x.fsx_xflags = FS_XFLAG_NOATIME | 0x20; T(ioctl(g, FS_IOC_FSSETXATTR, &x)); x.fsx_xflags = FS_XFLAG_NOATIME; T(ioctl(g, FS_IOC_FSSETXATTR, &x)); T(get(g)); fflush(stdout); _exit(0); }
    waitpid(c, 0, 0); struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3}; struct __user_cap_data_struct data[2]; syscall(SYS_capget, &head, data); unsigned was = data[0].effective; data[0].effective &= ~(1u << CAP_LINUX_IMMUTABLE); syscall(SYS_capset, &head, data); T(set(f, 0x40)); T(set(f, IMM)); T(set(h, 0)); T(set(h, IMM)); data[0].effective = was; syscall(SYS_capset, &head, data); T(set(h, 0)); remove("f"); remove("g"); remove("h"); rmdir(home);
}
static void c_others(void) {
    int p[2], s[2]; pipe(p); socketpair(AF_UNIX, SOCK_STREAM, 0, s); mkfifo("fifo", 0600); int fds[] = {p[0], s[0], open("/dev/null", O_RDONLY), open("/proc/self/status", O_RDONLY), open("/proc", O_RDONLY), open("/sys", O_RDONLY), open("/sys/kernel", O_RDONLY), open("fifo", O_RDWR), open(".", O_PATH), epoll_create1(0), inotify_init()};
    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++) { long long n = -1; int v = -1; printf("%u\n", i); T(get(fds[i])); T(ioctl(fds[i], FS_IOC_FSGETXATTR, buf)); if (i < 5 || i > 6) { T(set(fds[i], 0)); T(ioctl(fds[i], FS_IOC_FSSETXATTR, buf)); } T(ioctl(fds[i], FIGETBSZ, &v)); T(v); T(ioctl(fds[i], FIOQSIZE, &n)); printf("%lld\n", n); T(ioctl(fds[i], 0x4321, 0)); }
    enter(); int f = make("f", "x"), v; long long n; T(ioctl(f, FIOQSIZE, &n)); printf("%lld\n", n); T(ioctl(f, FIGETBSZ, &v)); printf("%d\n", v); T(ioctl(f, FIGETBSZ, 8)); struct statx x; statx(AT_FDCWD, "f", 0, STATX_ALL, &x); printf("%llx\n", (long long)x.stx_attributes_mask & 0x203070); statx(AT_FDCWD, "/proc/self/status", 0, STATX_ALL, &x); printf("%llx\n", (long long)x.stx_attributes_mask & 0x203070); remove("f"); rmdir(home);
}
static void c_sticky(void) {
    enter(); mkdir("d", 01777); int f = make("d/f", "x"), d = open("d", O_RDONLY); set(f, APP); fflush(stdout); pid_t c = fork(); if (!c) { setgroups(0, 0); setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000); T(unlink("d/f")); T(chmod("d/f", 0600)); T(open("d/f", O_WRONLY)); T(open("d/f", O_WRONLY | O_APPEND)); T(utimensat(AT_FDCWD, "d/f", 0, 0)); fflush(stdout); _exit(0); } waitpid(c, 0, 0); set(f, 0); T(set(d, IMM)); T(open("d/f", O_CREAT | O_RDWR, 0600) > 0); T(open("d/g", O_CREAT | O_RDWR, 0600)); T(open("d/f", O_CREAT | O_EXCL, 0600)); T(set(d, 0)); remove("d/f"); remove("d"); rmdir(home);
}

#define CASES(X) X(values) X(immutable) X(append) X(unprivileged) X(others) X(sticky)
#include "main.h"
