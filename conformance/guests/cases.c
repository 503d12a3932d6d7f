// Cases that must print the same natively and in a sandbox. `cases list` names them, `cases NAME` runs one in the working directory and
// then prints the tree of files that it left. Only what is the same on every machine and in every run is printed.
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

static void c_open_flags(void) {
    T(open("none", O_RDONLY)); T(open("a", O_CREAT | O_EXCL | O_WRONLY, 0600)); T(open("a", O_CREAT | O_EXCL, 0600));
    T(open("a", O_DIRECTORY)); T(open(".", O_WRONLY)); T(open("a/b", O_RDONLY)); T(open("", O_RDONLY));
    T(open("a", O_RDONLY | O_TRUNC)); T(open("a/", O_RDONLY)); T(open("new/", O_CREAT, 0600)); T(open(".", O_CREAT, 0600));
}
static void c_append(void) { int fd = make("f", "abc"); int g = open("f", O_WRONLY | O_APPEND); T(write(g, "def", 3)); T(lseek(g, 0, SEEK_SET)); T(write(g, "ghi", 3)); T(lseek(g, 0, SEEK_CUR)); show(fd); }
static void c_sparse(void) { int fd = make("f", "x"); T(pwrite(fd, "end", 3, 50000)); struct stat s; fstat(fd, &s); printf("%ld\n", (long)s.st_size); show(fd); }
static void c_seek(void) { int fd = make("f", "0123456789"); T(lseek(fd, -3, SEEK_END)); T(read(fd, buf, 10)); T(lseek(fd, -11, SEEK_END)); T(lseek(fd, 5, 9)); T(lseek(fd, 10, SEEK_DATA)); T(lseek(fd, 0, SEEK_HOLE)); T(lseek(fd, 100, SEEK_SET)); T(read(fd, buf, 10)); }
static void c_vectors(void) { int fd = make("f", ""); struct iovec v[3] = {{"ab", 2}, {"", 0}, {"cde", 3}}; T(writev(fd, v, 3)); char a[2], b[9]; struct iovec r[2] = {{a, 2}, {b, 9}}; T(preadv(fd, r, 2, 0)); printf("%.2s %.3s\n", a, b); T(writev(fd, v, -1)); T(pwritev(fd, v, 3, 10)); show(fd); }
static void c_truncate(void) { int fd = make("f", "0123456789"); T(ftruncate(fd, 3)); T(ftruncate(fd, 8)); show(fd); T(truncate("f", -1)); T(truncate("none", 0)); T(truncate(".", 0)); int r = open("f", O_RDONLY); T(ftruncate(r, 0)); }
static void c_links(void) { close(make("f", "x")); T(link("f", "g")); T(link("f", "g")); T(link(".", "d")); T(link("none", "h")); struct stat s; stat("g", &s); printf("%d\n", (int)s.st_nlink); T(unlink("f")); stat("g", &s); printf("%d\n", (int)s.st_nlink); }
static void c_symlinks(void) { T(symlink("f", "l")); T(readlink("l", buf, 10)); T(open("l", O_RDONLY)); close(make("l", "through")); T(open("l", O_RDONLY | O_NOFOLLOW)); T(symlink("loop", "loop")); T(open("loop", O_RDONLY)); T(readlink("f", buf, 10)); T(symlink("", "empty")); T(readlink("l", buf, 0)); T(lchown("l", -1, -1)); T(unlink("l")); }
static void c_rename(void) { close(make("a", "a")); close(make("b", "b")); T(rename("a", "b")); T(rename("a", "c")); mkdir("d", 0755); T(rename("b", "d")); T(rename("d", "b")); T(rename("d", "d/e")); T(rename("b", "d/b")); T(rename(".", "x")); T(rename("d", "e/")); mkdir("f", 0700); T(rename("f", "e")); T(rename("e", "f")); }
static void c_rename_flags(void) { close(make("a", "a")); close(make("b", "bb")); T(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE)); T(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE)); T(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_EXCHANGE)); T(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", 3)); T(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", 64)); }
static void c_unlink_open(void) { int fd = make("f", "still here"); T(unlink("f")); struct stat s; fstat(fd, &s); printf("%d\n", (int)s.st_nlink); show(fd); T(unlink("f")); T(unlink(".")); mkdir("d", 0755); T(unlink("d")); T(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR)); }
static void c_mkdir(void) { umask(027); T(mkdir("d", 0777)); T(mkdir("d", 0777)); T(mkdir("x/y", 0777)); T(rmdir("none")); close(make("d/f", "")); T(rmdir("d")); T(rmdir("d/f")); T(rmdir(".")); T(mkdir("e/", 0700)); T(chdir("e")); T(rmdir("../e")); T(mkdir("sub", 0700)); T(open("f", O_CREAT, 0600)); chdir(".."); }
static void c_modes(void) { close(make("f", "")); T(chmod("f", 04751)); T(chmod("none", 0)); struct stat s; stat("f", &s); printf("%o\n", s.st_mode); T(fchmodat(AT_FDCWD, "f", 0600, 0)); T(chmod("f", 0177777)); stat("f", &s); printf("%o\n", s.st_mode); }
static void c_times(void) { close(make("f", "")); struct timespec t[2] = {{1000, 5}, {2000, 7}}; T(utimensat(AT_FDCWD, "f", t, 0)); struct stat s; stat("f", &s); printf("%ld.%ld %ld.%ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec); t[0].tv_nsec = UTIME_OMIT; t[1].tv_nsec = 2000000000; T(utimensat(AT_FDCWD, "f", t, 0)); t[1].tv_nsec = UTIME_OMIT; T(utimensat(AT_FDCWD, "f", t, 0)); }
static void c_access(void) { close(make("f", "")); chmod("f", 0); T(access("f", F_OK)); T(access("none", F_OK)); T(access("f", X_OK)); T(access("f", 99)); T(faccessat(AT_FDCWD, "f", F_OK, AT_EACCESS)); chmod("f", 0644); }
static int order(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }
static void c_many_entries(void) {
    for (int i = 0; i < 500; i++) { char n[20]; sprintf(n, "f%d", i); close(open(n, O_CREAT, 0600)); }
    DIR *d = opendir("."); int n = 0, removed = 0; struct dirent *e;
    while ((e = readdir(d))) { n++; if (e->d_name[0] == 'f') removed += unlink(e->d_name) == 0; }
    printf("%d entries, %d removed\n", n, removed); rewinddir(d); n = 0; while (readdir(d)) n++; printf("%d left\n", n);
}
static void c_seekdir(void) {
    char *names[64]; int n = 0; for (int i = 0; i < 20; i++) { char f[20]; sprintf(f, "n%d", i); mkdir(f, 0700); }
    DIR *d = opendir("."); struct dirent *e; long at = 0; char *after = 0;
    while ((e = readdir(d)) && n < 64) { if (n == 10) after = strdup(e->d_name); names[n++] = strdup(e->d_name); if (n == 10) at = telldir(d); }
    seekdir(d, at); e = readdir(d); printf("%d same %d\n", n, strcmp(e->d_name, after)); qsort(names, n, sizeof *names, order);
    for (int i = 0; i < n; i++) printf("%s ", names[i]); puts("");
}
static void c_xattrs(void) { close(make("f", "")); T(setxattr("f", "user.a", "1234", 4, 0)); T(setxattr("f", "user.a", "5", 1, XATTR_CREATE)); T(setxattr("f", "user.b", "5", 1, XATTR_REPLACE)); T(getxattr("f", "user.a", buf, 100)); T(getxattr("f", "user.a", buf, 2)); T(getxattr("f", "user.a", 0, 0)); T(getxattr("f", "user.z", buf, 9)); T(listxattr("f", buf, 100)); T(removexattr("f", "user.a")); T(removexattr("f", "user.a")); T(setxattr("f", "bad", "", 0, 0)); T(listxattr("f", buf, 100) >= 0); }
static void c_fallocate(void) { int fd = make("f", "0123456789"); T(fallocate(fd, 0, 0, 100)); T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 9000)); T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3)); show(fd); T(fallocate(fd, 0, -1, 10)); T(fallocate(fd, 0, 0, 0)); T(posix_fallocate(fd, 0, 200)); show(fd); }
static void c_copy_range(void) { int a = make("a", "0123456789"), b = make("b", ""); loff_t off = 2; T(copy_file_range(a, &off, b, 0, 5, 0)); printf("%ld\n", (long)off); show(b); off = 5; T(sendfile(b, a, &off, 100)); show(b); T(copy_file_range(a, 0, b, 0, 5, 1)); }
static void c_statx(void) { close(make("f", "abc")); struct statx x; T(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x)); printf("%o %d %ld\n", x.stx_mode, (int)x.stx_nlink, (long)x.stx_size); int fd = open("f", O_PATH); T(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x)); T(statx(fd, "", 0, STATX_SIZE, &x)); T(read(fd, buf, 1)); T(fchmod(fd, 0)); }
static void c_tmpfile(void) { int fd = open(".", O_TMPFILE | O_RDWR, 0640); printf("%d\n", fd >= 0); T(write(fd, "tmp", 3)); sprintf(buf, "/proc/self/fd/%d", fd); T(linkat(AT_FDCWD, buf, AT_FDCWD, "named", AT_SYMLINK_FOLLOW)); struct stat s; fstat(fd, &s); printf("%d\n", (int)s.st_nlink); }
static void c_flock(void) { int a = make("f", ""), b = open("f", O_RDWR); T(flock(a, LOCK_EX)); T(flock(b, LOCK_EX | LOCK_NB)); T(flock(a, LOCK_UN)); T(flock(b, LOCK_SH | LOCK_NB)); T(flock(b, 99)); }
static void c_posix_locks(void) { int a = make("f", "0123456789"); struct flock l = {F_WRLCK, SEEK_SET, 2, 3, 0}; T(fcntl(a, F_SETLK, &l)); pid_t p = (fflush(stdout), fork()); if (!p) { struct flock q = {F_WRLCK, SEEK_SET, 0, 0, 0}; int b = open("f", O_RDWR); T(fcntl(b, F_SETLK, &q)); T(fcntl(b, F_GETLK, &q)); printf("%d %ld %ld\n", q.l_type, (long)q.l_start, (long)q.l_len); fflush(stdout); _exit(0); } waitpid(p, 0, 0); }
static void c_dup(void) { int fd = make("f", "abc"); int g = dup(fd); T(lseek(fd, 1, SEEK_SET)); T(lseek(g, 0, SEEK_CUR)); T(dup2(fd, fd)); T(dup3(fd, fd, 0)); T(dup2(99, 5)); T(dup3(fd, 20, O_CLOEXEC)); T(fcntl(20, F_GETFD)); T(fcntl(fd, F_DUPFD, 30)); T(fcntl(fd, F_GETFL) & O_ACCMODE); T(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK)); T(fcntl(g, F_GETFL) & (O_APPEND | O_NONBLOCK)); T(fcntl(fd, 12345)); T(close(99)); }
static void c_pipe(void) { int p[2]; T(pipe2(p, O_NONBLOCK)); T(read(p[0], buf, 1)); T(write(p[1], "abc", 3)); T(read(p[0], buf, 2)); long n = 0, r; while ((r = write(p[1], buf, 4096)) > 0) n += r; printf("%d\n", n >= 61440); close(p[1]); while (read(p[0], buf, sizeof buf) > 0) {} T(read(p[0], buf, 1)); T(lseek(p[0], 0, SEEK_SET)); T(pipe2(p, 12345)); }
static void c_sigpipe(void) { int p[2]; pipe(p); close(p[0]); signal(SIGPIPE, SIG_IGN); T(write(p[1], "x", 1)); pid_t c = (fflush(stdout), fork()); if (!c) { signal(SIGPIPE, SIG_DFL); write(p[1], "x", 1); _exit(0); } int st; waitpid(c, &st, 0); printf("%d %d\n", WIFSIGNALED(st), WTERMSIG(st)); }
static void c_poll(void) { int p[2]; pipe(p); struct pollfd f[3] = {{p[0], POLLIN, 7}, {p[1], POLLOUT, 0}, {99, POLLIN, 0}}; T(poll(f, 3, 0)); printf("%d %d %d\n", f[0].revents, f[1].revents, f[2].revents); write(p[1], "x", 1); T(poll(f, 1, 1000)); close(p[1]); T(poll(f, 1, 10)); printf("%d\n", f[0].revents); f[0].fd = -1; T(poll(f, 1, 10)); }
static void c_select(void) { int p[2]; pipe(p); fd_set r, w; FD_ZERO(&r); FD_ZERO(&w); FD_SET(p[0], &r); FD_SET(p[1], &w); struct timeval t = {0, 1000}; T(select(p[1] + 1, &r, &w, 0, &t)); printf("%d %d\n", FD_ISSET(p[0], &r), FD_ISSET(p[1], &w)); FD_ZERO(&r); FD_SET(p[0], &r); t.tv_usec = 1000; T(select(p[1] + 1, &r, 0, 0, &t)); T(select(-1, 0, 0, 0, &t)); }
static void c_fork_exit(void) { for (int i = 0; i < 3; i++) { pid_t p = (fflush(stdout), fork()); if (!p) _exit(i * 100); int st; T(waitpid(p, &st, 0) == p); printf("%d %d\n", WIFEXITED(st), WEXITSTATUS(st)); } T(wait(0)); T(waitpid(999999, 0, 0)); T(waitpid(-1, 0, 12345)); }
static void c_kill_status(void) { int sig[] = {SIGTERM, SIGKILL, SIGABRT, SIGUSR1}; for (int i = 0; i < 4; i++) { pid_t p = (fflush(stdout), fork()); if (!p) { for (;;) pause(); } kill(p, sig[i]); int st; waitpid(p, &st, 0); printf("%d %d\n", WIFSIGNALED(st), WTERMSIG(st)); } T(kill(999999, 0)); T(kill(getpid(), 0)); T(kill(getpid(), 99)); }
static void c_stop_continue(void) { pid_t p = (fflush(stdout), fork()); if (!p) { for (;;) pause(); } int st; kill(p, SIGSTOP); waitpid(p, &st, WUNTRACED); printf("%d %d\n", WIFSTOPPED(st), WSTOPSIG(st)); kill(p, SIGCONT); waitpid(p, &st, WCONTINUED); printf("%d\n", WIFCONTINUED(st)); kill(p, SIGKILL); waitpid(p, &st, 0); printf("%d\n", WTERMSIG(st)); }
static void c_waitid(void) { pid_t p = (fflush(stdout), fork()); if (!p) _exit(7); siginfo_t i = {0}; T(waitid(P_PID, p, &i, WEXITED | WNOWAIT)); printf("%d %d %d\n", i.si_signo, i.si_code, i.si_status); T(waitid(P_PID, p, &i, WEXITED)); T(waitid(P_PID, p, &i, WEXITED)); T(waitid(P_ALL, 0, &i, 0)); }
static void c_vfork_exec(void) { pid_t p = vfork(); if (!p) { execl("/proc/self/exe", "cases", "hello", (char *)0); _exit(99); } int st; waitpid(p, &st, 0); printf("%d\n", WEXITSTATUS(st)); T(execl("none", "none", (char *)0)); close(make("text", "no program")); T(execl("text", "text", (char *)0)); chmod("text", 0755); T(execl("./text", "text", (char *)0)); T(execl(".", ".", (char *)0)); }
static void c_hello(void) { printf("hello\n"); fflush(stdout); _exit(42); }
static void c_script(void) { int fd = open("s", O_CREAT | O_WRONLY, 0755); char self[300]; long n = readlink("/proc/self/exe", self, 299); self[n] = 0; dprintf(fd, "#!%s hello\n", self); close(fd); pid_t p = (fflush(stdout), fork()); if (!p) { execl("./s", "s", (char *)0); _exit(99); } int st; waitpid(p, &st, 0); printf("%d\n", WEXITSTATUS(st)); unlink("s"); }
static volatile int got; static void on(int s) { got = got * 100 + s; }
static void c_sigaction(void) { struct sigaction a = {.sa_handler = on}, o; T(sigaction(SIGUSR1, &a, 0)); T(raise(SIGUSR1)); printf("%d\n", got); T(sigaction(SIGKILL, &a, 0)); T(sigaction(SIGUSR1, 0, &o)); printf("%d\n", o.sa_handler == on); T(sigaction(65, &a, 0)); a.sa_flags = SA_RESETHAND; sigaction(SIGUSR1, &a, 0); raise(SIGUSR1); sigaction(SIGUSR1, 0, &o); printf("%d %d\n", got, o.sa_handler == SIG_DFL); }
static void c_sigmask(void) { signal(SIGUSR1, on); signal(SIGUSR2, on); sigset_t s, p; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigaddset(&s, SIGUSR2); sigprocmask(SIG_BLOCK, &s, 0); raise(SIGUSR2); raise(SIGUSR1); raise(SIGUSR1); printf("%d\n", got); sigpending(&p); printf("%d %d\n", sigismember(&p, SIGUSR1), sigismember(&p, SIGHUP)); sigprocmask(SIG_UNBLOCK, &s, 0); printf("%d\n", got); T(sigprocmask(99, &s, 0)); }
static void info(int s, siginfo_t *i, void *c) { (void)c; printf("%d code %d pid %d value %d\n", s, i->si_code, i->si_pid == getpid(), i->si_value.sival_int); }
static void c_siginfo(void) { struct sigaction a = {.sa_sigaction = info, .sa_flags = SA_SIGINFO}; sigaction(SIGRTMIN, &a, 0); union sigval v = {.sival_int = 55}; T(sigqueue(getpid(), SIGRTMIN, v)); sigset_t s; sigemptyset(&s); sigaddset(&s, SIGRTMIN); sigprocmask(SIG_BLOCK, &s, 0); for (int i = 0; i < 3; i++) { v.sival_int = i; sigqueue(getpid(), SIGRTMIN, v); } sigprocmask(SIG_UNBLOCK, &s, 0); }
static sigjmp_buf jump; static void *bad; static void fault(int s, siginfo_t *i, void *c) { (void)c; printf("%d code %d addr %d\n", s, i->si_code, i->si_addr == bad); siglongjmp(jump, 1); }
static void c_segv(void) { struct sigaction a = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO}; sigaction(SIGSEGV, &a, 0); sigaction(SIGBUS, &a, 0); char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); mprotect(m, 4096, PROT_READ); bad = m; if (!sigsetjmp(jump, 1)) *m = 1; munmap(m, 4096); if (!sigsetjmp(jump, 1)) printf("%d\n", *m); bad = 0; if (!sigsetjmp(jump, 1)) *(volatile char *)bad = 1; int fd = make("f", "x"); char *f = mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 0); printf("%c\n", *f); bad = f + 4096; if (!sigsetjmp(jump, 1)) printf("%c\n", f[4096]); }
static void c_altstack(void) { static char stack[65536]; stack_t s = {.ss_sp = stack, .ss_size = sizeof stack}, o; T(sigaltstack(&s, 0)); T(sigaltstack(0, &o)); printf("%d %d\n", o.ss_sp == stack, o.ss_flags); struct sigaction a = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK}; sigaction(SIGSEGV, &a, 0); bad = (void *)8; if (!sigsetjmp(jump, 1)) *(volatile char *)bad = 1; s.ss_size = 10; T(sigaltstack(&s, 0)); }
static void c_killed_by_segv(void) { pid_t p = (fflush(stdout), fork()); if (!p) *(volatile int *)0 = 1; int st; waitpid(p, &st, 0); printf("%d %d\n", WIFSIGNALED(st), WTERMSIG(st)); p = (fflush(stdout), fork()); if (!p) __builtin_trap(); waitpid(p, &st, 0); printf("%d\n", WTERMSIG(st)); p = (fflush(stdout), fork()); if (!p) { volatile int z = 0; z = 1 / z; } waitpid(p, &st, 0); printf("%d\n", WTERMSIG(st)); }
static void c_alarm(void) { struct sigaction a = {.sa_handler = on}; sigaction(SIGALRM, &a, 0); struct itimerval t = {{0, 0}, {0, 20000}}; T(setitimer(ITIMER_REAL, &t, 0)); T(pause()); printf("%d\n", got); int p[2]; pipe(p); setitimer(ITIMER_REAL, &t, 0); T(read(p[0], buf, 1)); T(alarm(100)); T(alarm(0)); }
static void c_restart(void) { struct sigaction a = {.sa_handler = on, .sa_flags = SA_RESTART}; sigaction(SIGUSR1, &a, 0); int p[2]; pipe(p); pid_t me = getpid(); pid_t c = (fflush(stdout), fork()); if (!c) { usleep(30000); kill(me, SIGUSR1); usleep(30000); write(p[1], "x", 1); _exit(0); } T(read(p[0], buf, 1)); printf("%d\n", got); waitpid(c, 0, 0); }
static void c_sleep(void) { struct timespec a, b, t = {0, 20000000}; clock_gettime(CLOCK_MONOTONIC, &a); T(nanosleep(&t, 0)); clock_gettime(CLOCK_MONOTONIC, &b); printf("%d\n", (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec >= 20000000); t.tv_nsec = 1000000000; T(nanosleep(&t, 0)); T(clock_gettime(99, &t)); T(time(0) > 1700000000); }
static void c_brk(void) { char *a = sbrk(0); T(sbrk(100000) == a); memset(a, 7, 100000); T(sbrk(-50000) == a + 100000); T(sbrk(50000) == a + 50000); printf("%d %d\n", a[0], a[99999]); }
static void c_mmap_anon(void) { char *m = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); m[0] = 1; m[(1 << 20) - 1] = 2; pid_t p = (fflush(stdout), fork()); if (!p) { m[0] = 9; _exit(m[(1 << 20) - 1]); } int st; waitpid(p, &st, 0); printf("%d %d\n", m[0], WEXITSTATUS(st)); T(madvise(m, 4096, MADV_DONTNEED)); printf("%d\n", m[0]); T(munmap(m + 4096, 4096)); T(munmap(m + 1, 4096)); T((long)mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); T((long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, 99, 0)); T(mprotect((void *)4096, 4096, PROT_READ)); }
static void c_mmap_shared(void) { int *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); pid_t p = (fflush(stdout), fork()); if (!p) { *m = 77; _exit(0); } waitpid(p, 0, 0); printf("%d\n", *m); int fd = make("f", "0123456789"); char *f = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); f[1] = 'X'; show(fd); pwrite(fd, "Y", 1, 2); printf("%.10s\n", f); T(msync(f, 4096, MS_SYNC)); char *q = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0); q[3] = 'Z'; show(fd); printf("%.10s\n", q); int r = open("f", O_RDONLY); T((long)mmap(0, 4096, PROT_WRITE, MAP_SHARED, r, 0)); }
static void c_mremap(void) { char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); m[0] = 5; m[8191] = 6; char *n = mremap(m, 8192, 1 << 20, MREMAP_MAYMOVE); printf("%d %d %d\n", n[0], n[8191], n[100000]); n = mremap(n, 1 << 20, 4096, 0); printf("%d\n", n[0]); T((long)mremap((void *)4096, 4096, 8192, 0)); }
static int deep(int n) { char a[4096]; memset(a, n, sizeof a); return n ? deep(n - 1) + a[n % 4096] : 0; }
static void c_stack(void) { printf("%d\n", deep(1000) != 0); }
static void c_efault(void) { int fd = make("f", "abc"); T(write(fd, (void *)8, 10)); T(read(fd, (void *)8, 0)); lseek(fd, 0, SEEK_SET); T(read(fd, (void *)8, 10)); T(open((void *)8, O_RDONLY)); T(stat("f", (void *)8)); T(pipe((void *)8)); T(getcwd((void *)8, 100) == 0); T(uname((void *)8)); T(write(99, "", 0)); T(read(fd, buf, -1) == -1); }
static void c_long_names(void) { char n[5000]; memset(n, 'a', sizeof n); n[255] = 0; T(mkdir(n, 0700)); T(rmdir(n)); n[255] = 'a'; n[256] = 0; T(mkdir(n, 0700)); for (int i = 0; i < 4998; i += 2) { n[i] = '.'; n[i + 1] = '/'; } n[4999] = 0; T(open(n, O_RDONLY)); n[4094] = 0; T(open(n, O_RDONLY) >= 0); }
static void c_dots(void) { mkdir("a", 0700); mkdir("a/b", 0700); T(chdir("a/b/../../a/./b//")); char *w = getcwd(buf, sizeof buf); printf("%s\n", strrchr(w, '/')); T(chdir("../..")); T(chdir("/..")); T(open("/../proc/self/comm", O_RDONLY) >= 0); }
static void c_deleted_cwd(void) { mkdir("d", 0700); chdir("d"); rmdir("../d"); T(getcwd(buf, 100) == 0); T(open("x", O_CREAT, 0600)); T(chdir("..")); }
static void c_fifo(void) { T(mkfifo("p", 0600)); T(mkfifo("p", 0600)); T(open("p", O_WRONLY | O_NONBLOCK)); pid_t c = (fflush(stdout), fork()); if (!c) { int w = open("p", O_WRONLY); write(w, "fifo", 4); _exit(0); } int r = open("p", O_RDONLY); T(read(r, buf, 10)); T(read(r, buf, 10)); waitpid(c, 0, 0); }
static void c_devices(void) { int z = open("/dev/zero", O_RDWR); T(read(z, buf, 100)); T(write(z, buf, 100)); int n = open("/dev/null", O_RDWR); T(read(n, buf, 100)); T(write(n, buf, 100)); int f = open("/dev/full", O_RDWR); T(write(f, buf, 1)); T(read(f, buf, 10)); int u = open("/dev/urandom", O_RDONLY); T(read(u, buf, 100)); T(getrandom(buf, 50, 0)); T(getrandom(buf, 50, 99)); T(lseek(z, 5, SEEK_SET)); }
static void c_uname(void) { struct utsname u; T(uname(&u)); printf("%s %s\n", u.sysname, u.machine); }
static void c_ids(void) { pid_t p = getpid(); printf("%d %d\n", getpgid(0) == getpgrp(), gettid() == p); pid_t c = (fflush(stdout), fork()); if (!c) { printf("%d %d ", getppid() == p, setsid() == getpid()); printf("%d %d\n", getsid(0) == getpid(), getpgrp() == getpid()); fflush(stdout); _exit(0); } waitpid(c, 0, 0); T(setpgid(999999, 0)); T(getpgid(999999)); T(getsid(999999)); }
static void c_limits(void) { struct rlimit l; T(getrlimit(RLIMIT_NOFILE, &l)); l.rlim_cur = 20; T(setrlimit(RLIMIT_NOFILE, &l)); T(dup2(0, 20)); int n = 0; while (dup(0) >= 0) n++; printf("%d %s\n", n > 5, strerrorname_np(errno)); l.rlim_cur = l.rlim_max + 1; T(l.rlim_max + 1 ? setrlimit(RLIMIT_NOFILE, &l) : -2); T(getrlimit(99, &l)); }
static void c_fsize_limit(void) { signal(SIGXFSZ, SIG_IGN); struct rlimit l = {5000, 5000}; T(setrlimit(RLIMIT_FSIZE, &l)); int fd = open("f", O_CREAT | O_RDWR, 0600); T(write(fd, buf, 6000)); T(write(fd, buf, 1)); T(ftruncate(fd, 6000)); }
static void c_prctl(void) { T(prctl(PR_SET_NAME, "a name that is long")); T(prctl(PR_GET_NAME, buf)); printf("%s\n", buf); T(prctl(PR_GET_DUMPABLE)); T(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); T(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); T(prctl(123456)); }
static void c_proc_self(void) { int fd = open("/proc/self/comm", O_RDONLY); long n = read(fd, buf, 100); printf("%.*s", (int)n, buf); fd = open("/proc/self/cmdline", O_RDONLY); n = read(fd, buf, 1000); char *last = buf + strlen(buf) + 1; printf("%s %d\n", last, buf[n - 1]); sprintf(buf, "/proc/%d/fd/0", getpid()); T(access(buf, F_OK)); T(access("/proc/999999", F_OK)); T(readlink("/proc/self", buf, 100) > 0); T(open("/proc/self/none", O_RDONLY)); T(mkdir("/proc/x", 0700)); }
static void c_proc_maps(void) { FILE *f = fopen("/proc/self/maps", "r"); int stack = 0, lines = 0; while (fgets(buf, sizeof buf, f)) { lines++; if (strstr(buf, "[stack]")) stack++; unsigned long a, b; char p[5]; if (sscanf(buf, "%lx-%lx %4s", &a, &b, p) != 3 || a >= b) puts("bad"); } printf("%d %d\n", lines > 3, stack); }
static void c_futex(void) { static int word = 5; struct timespec t = {0, 10000000}; T(syscall(SYS_futex, &word, 0, 4, 0, 0, 0)); T(syscall(SYS_futex, &word, 0, 5, &t, 0, 0)); T(syscall(SYS_futex, &word, 1, 1, 0, 0, 0)); T(syscall(SYS_futex, (char *)&word + 1, 0, 5, 0, 0, 0)); T(syscall(SYS_futex, &word, 99, 5, 0, 0, 0)); }
static void c_unknown_call(void) { T(syscall(1000)); T(syscall(-1)); }
static void c_cloexec(void) { int a = make("a", ""), b = open("a", O_RDONLY | O_CLOEXEC); T(fcntl(a, F_GETFD)); T(fcntl(b, F_GETFD)); T(fcntl(a, F_SETFD, FD_CLOEXEC)); T(fcntl(a, F_GETFD)); }
static void c_chdir(void) { close(make("f", "")); T(chdir("f")); T(chdir("none")); T(fchdir(99)); int d = open(".", O_RDONLY); T(chdir("/")); T(fchdir(d)); T(access("f", F_OK)); T(openat(d, "f", O_RDONLY) >= 0); T(openat(99, "f", O_RDONLY)); T(openat(d, "/dev/null", O_RDONLY) >= 0); }
static void c_exit_status(void) { printf("unflushed output comes out\n"); exit(300); }
static void c_abort(void) { pid_t p = (fflush(stdout), fork()); if (!p) abort(); int st; waitpid(p, &st, 0); printf("%d %d\n", WIFSIGNALED(st), WTERMSIG(st)); }

#define CASES(X) X(open_flags) X(append) X(sparse) X(seek) X(vectors) X(truncate) X(links) X(symlinks) X(rename) X(rename_flags) X(unlink_open) X(mkdir) X(modes) X(times) X(access) X(many_entries) X(seekdir) X(xattrs) X(fallocate) X(copy_range) X(statx) X(tmpfile) X(flock) X(posix_locks) X(dup) X(pipe) X(sigpipe) X(poll) X(select) X(fork_exit) X(kill_status) X(stop_continue) X(waitid) X(vfork_exec) X(hello) X(script) X(sigaction) X(sigmask) X(siginfo) X(segv) X(altstack) X(killed_by_segv) X(alarm) X(restart) X(sleep) X(brk) X(mmap_anon) X(mmap_shared) X(mremap) X(stack) X(efault) X(long_names) X(dots) X(deleted_cwd) X(fifo) X(devices) X(uname) X(ids) X(limits) X(fsize_limit) X(prctl) X(proc_self) X(proc_maps) X(futex) X(unknown_call) X(cloexec) X(chdir) X(exit_status) X(abort)

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

int main(int argc, char **argv) {
    struct { const char *name; void (*run)(void); } cases[] = {
#define X(name) {#name, c_##name},
        CASES(X)
    };
    setvbuf(stdout, 0, _IOFBF, 1 << 16);
    umask(022);
    int home = open(".", O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (argc > 1 && !strcmp(argv[1], "list")) puts(cases[i].name);
        if (argc > 1 && !strcmp(argv[1], cases[i].name)) { cases[i].run(); fchdir(home); tree("."); return 0; }
    }
    return argc > 1 && !strcmp(argv[1], "list") ? 0 : 2;
}
