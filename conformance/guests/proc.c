// Cases of /proc: who may look, what the files look like, what can be written; see guest.h.
#include "guest.h"
#include <grp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#define PAGE 4096L

static void nap(int ms) { struct timespec t = {ms / 1000, ms % 1000 * 1000000}; nanosleep(&t, 0); }
__attribute__((constructor)) static void as_a_program(int argc, char **argv) { if (argc > 1 && !strcmp(argv[1], "wait")) { nap(20000); _exit(0); } }

// Shows a file with each run of digits as N.
static void form(const char *path) {
    int fd = open(path, O_RDONLY);
    memset(buf, 0, sizeof buf);
    long n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    if (n < 0) { printf("%s: %s\n", path, strerrorname_np(errno)); close(fd); return; }
    printf("%s: ", path);
    for (char *p = buf; p < buf + n; p++) {
        if (*p >= '0' && *p <= '9') { putchar('N'); while (p[1] >= '0' && p[1] <= '9') p++; }
        else if (*p) putchar(*p);
        else putchar('|');
    }
    if (n && buf[n - 1] != '\n') puts("$");
    close(fd);
}
static void text(const char *path) { int fd = open(path, O_RDONLY); memset(buf, 0, sizeof buf); long n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1); if (n < 0) printf("%s: %s\n", path, strerrorname_np(errno)); else printf("%s: %s\n", path, buf); close(fd); }
// The same for a process whose number differs.
static void form_of(const char *path) { int fd = open(path, O_RDONLY); memset(buf, 0, sizeof buf); long n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1); printf("%s: %ld %s %s\n", strrchr(path, '/'), n, n < 0 ? strerrorname_np(errno) : "", buf); close(fd); }
static long put(const char *path, const char *data) { int fd = open(path, O_WRONLY); if (fd < 0) return -1; long n = write(fd, data, strlen(data)); int e = errno; close(fd); errno = e; return n; }
static void lines(const char *path, const char *names) { FILE *f = fopen(path, "r"); char line[2000]; if (!f) { puts(strerrorname_np(errno)); return; } while (fgets(line, sizeof line, f)) { char key[40]; if (sscanf(line, "%39[A-Za-z_-]", key) == 1 && strstr(names, key)) fputs(line, stdout); } fclose(f); }
static void mode(const char *path) { struct stat s; if (lstat(path, &s)) printf("%s: %s\n", path, strerrorname_np(errno)); else printf("%s: %o %d %d %d\n", path, s.st_mode, s.st_uid, s.st_gid, (int)s.st_size); }

static void c_forms(void) {
    form("/proc/self/stat"); form("/proc/self/statm"); form("/proc/self/io"); form("/proc/self/schedstat"); form("/proc/self/oom_score"); text("/proc/self/oom_score_adj"); text("/proc/self/oom_adj"); text("/proc/self/personality"); text("/proc/self/coredump_filter"); text("/proc/self/timerslack_ns"); text("/proc/self/attr/current"); text("/proc/self/uid_map"); text("/proc/self/setgroups"); text("/proc/self/sessionid"); text("/proc/self/comm"); text("/proc/self/wchan"); form("/proc/loadavg"); form("/proc/uptime"); text("/proc/swaps"); form("/proc/self/task/0/stat"); form("/proc/99999999/stat"); form("/proc/self/none");
    lines("/proc/self/status", "Name Umask State Ngid Uid Gid NoNewPrivs Kthread CoreDumping Threads"); lines("/proc/stat", "procs_blocked"); text("/proc/sys/kernel/ostype"); text("/proc/sys/kernel/cap_last_cap"); text("/proc/sys/kernel/overflowuid"); text("/proc/sys/kernel/ngroups_max"); text("/proc/sys/kernel/random/poolsize"); char l[99] = ""; readlink("/proc/mounts", l, 98); puts(l); memset(l, 0, 99); readlink("/proc/net", l, 98); puts(l);
    FILE *f = fopen("/proc/net/dev", "r"); for (int i = 0; i < 2 && fgets(buf, 999, f); i++) fputs(buf, stdout); for (char **p = (char *[]){"tcp", "udp", "tcp6", "udp6", "unix", "route", "arp", "packet", "netlink", "protocols", 0}; *p; p++) { sprintf(buf, "/proc/net/%s", *p); f = fopen(buf, "r"); if (f && fgets(buf, 999, f)) fputs(buf, stdout); }
}
static void c_modes(void) { for (char **p = (char *[]){"stat", "status", "maps", "environ", "auxv", "fd", "fdinfo", "task", "ns", "net", "attr", "attr/current", "comm", "exe", "cwd", "root", "io", "stack", "syscall", "personality", "mountinfo", "mountstats", "oom_score", "oom_score_adj", "oom_adj", "loginuid", "sessionid", "uid_map", "setgroups", "coredump_filter", "timerslack_ns", "sched", "schedstat", "wchan", "limits", "cgroup", "ns/pid", 0}; *p; p++) { sprintf(buf, "/proc/self/%s", *p); char path[99]; strcpy(path, buf); mode(path); } mode("/proc"); mode("/proc/self/fd/0/x"); mode("/proc/kmsg"); mode("/proc/sys/kernel/hostname"); mode("/proc/sys/kernel/ostype"); mode("/proc/sys/fs/file-nr"); mode("/proc/sys/kernel/pid_max"); mode("/proc/sys"); int r = open("/etc/none", O_RDONLY), fd = open(".", O_RDONLY); sprintf(buf, "/proc/self/fd/%d", fd); char p[99]; strcpy(p, buf); mode(p); fd = open("f", O_CREAT | O_WRONLY, 0600); sprintf(p, "/proc/self/fd/%d", fd); mode(p); fd = open("f", O_RDWR); sprintf(p, "/proc/self/fd/%d", fd); mode(p); fd = open("f", O_PATH); sprintf(p, "/proc/self/fd/%d", fd); mode(p); }
static void info(int fd, const char *names) { char path[99]; sprintf(path, "/proc/self/fdinfo/%d", fd); lines(path, names); }
static void c_fdinfo(void) { int fd = open("f", O_CREAT | O_RDWR | O_CLOEXEC | O_APPEND, 0600); write(fd, "abc", 3); info(fd, "pos flags"); fcntl(fd, F_SETFD, 0); info(fd, "flags"); int dup2_ = fcntl(fd, F_DUPFD_CLOEXEC, 20); info(dup2_, "pos flags"); fd = eventfd(7, EFD_SEMAPHORE | EFD_NONBLOCK); info(fd, "pos flags eventfd-count eventfd-semaphore"); fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC); info(fd, "flags clockid ticks settime it_value it_interval"); sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); fd = signalfd(-1, &s, 0); info(fd, "flags sigmask"); fd = syscall(SYS_pidfd_open, getpid(), 0); info(fd, "flags"); fd = open(".", O_PATH); info(fd, "pos flags"); fd = open("f", O_RDONLY); flock(fd, LOCK_SH); info(fd, "none"); int e = epoll_create1(0); info(e, "pos flags"); T(open("/proc/self/fdinfo/999", O_RDONLY)); T(open("/proc/self/fdinfo/00", O_RDONLY)); T(readlink("/proc/self/fd/999", buf, 9)); }
static void c_writes(void) { T(put("/proc/self/comm", "a name that is much too long\n")); text("/proc/self/comm"); T(put("/proc/self/comm", "x")); text("/proc/self/comm"); prctl(PR_GET_NAME, buf); puts(buf); T(put("/proc/self/oom_score_adj", "200")); text("/proc/self/oom_adj"); T(put("/proc/self/oom_score_adj", "1001")); T(put("/proc/self/oom_score_adj", "x")); T(put("/proc/self/oom_score_adj", "")); T(put("/proc/self/oom_adj", "3\n")); text("/proc/self/oom_score_adj"); T(put("/proc/self/oom_adj", "16")); T(put("/proc/self/coredump_filter", "0x7f")); text("/proc/self/coredump_filter"); T(put("/proc/self/coredump_filter", "z")); T(put("/proc/self/timerslack_ns", "50000")); T(put("/proc/self/attr/current", "x")); T(put("/proc/self/stat", "x")); T(put("/proc/self/limits", "x")); T(put("/proc/uptime", "x")); T(put("/proc/version", "x")); T(put("/proc/self/uid_map", "0 0 1")); T(open("/proc/new", O_CREAT | O_WRONLY, 0600)); T(open("/proc/self/new", O_CREAT | O_WRONLY, 0600)); T(mkdir("/proc/new", 0700)); T(unlink("/proc/uptime")); T(rename("/proc/uptime", "/proc/x")); T(open("/proc/uptime", O_RDONLY | O_DIRECTORY)); T(open("/proc/self/fd", O_WRONLY)); int fd = open("/proc/uptime", O_RDONLY); T(lseek(fd, 1, SEEK_SET)); T(pread(fd, buf, 1, 0)); T(ftruncate(fd, 0)); struct statfs s; fstatfs(fd, &s); printf("%lx\n", (long)s.f_type); }
static void c_others(void) {
    pid_t p = fork(); if (!p) { pause(); } fflush(stdout); pid_t c = fork();
    if (!c) { setgroups(0, 0); setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000); for (char **n = (char *[]){"stat", "status", "maps", "environ", "auxv", "io", "syscall", "personality", "mountinfo", "comm", "cmdline", "limits", "schedstat", "oom_score", "fdinfo/0", "wchan", 0}; *n; n++) { char path[99]; sprintf(path, "/proc/%d/%s", p, *n); int fd = open(path, O_RDONLY); printf("%s: %d %s\n", *n, fd < 0 ? -1 : read(fd, buf, 999) >= 0, fd < 0 ? strerrorname_np(errno) : ""); } for (char **n = (char *[]){"exe", "cwd", "root", "fd/0", "ns/mnt", "ns/user", 0}; *n; n++) { char path[99]; sprintf(path, "/proc/%d/%s", p, *n); T(readlink(path, buf, 99)); T(open(path, O_RDONLY)); } char path[99]; sprintf(path, "/proc/%d/fd", p); T(open(path, O_RDONLY)); sprintf(path, "/proc/%d/comm", p); T(put(path, "x")); T(put("/proc/1/oom_score_adj", "0")); T(put("/proc/sys/kernel/hostname", "x")); T(put("/proc/self/oom_score_adj", "0")); T(open("/proc/kmsg", O_RDONLY)); fflush(stdout); _exit(0); }
    wait(0); kill(p, 9); char path[99]; usleep(20000); sprintf(path, "/proc/%d/status", p); lines(path, "State"); sprintf(path, "/proc/%d/cmdline", p); form_of(path); sprintf(path, "/proc/%d/exe", p); T(readlink(path, buf, 99)); sprintf(path, "/proc/%d/maps", p); form_of(path); sprintf(path, "/proc/%d/limits", p); T(open(path, O_RDONLY) >= 0); sprintf(path, "/proc/%d/mountinfo", p); T(open(path, O_RDONLY)); sprintf(path, "/proc/%d/ns/mnt", p); T(readlink(path, buf, 99)); sprintf(path, "/proc/%d/oom_score", p); form_of(path); sprintf(path, "/proc/%d/coredump_filter", p); form_of(path); sprintf(path, "/proc/%d/fd", p); T(open(path, O_RDONLY) >= 0); sprintf(path, "/proc/%d/stat", p); int fd = open(path, O_RDONLY); wait(0); T(read(fd, buf, 99)); T(open(path, O_RDONLY));
}

// What is told of an ended process, and of one that is gone by descriptors that were kept.
static void c_gone(void) {
    pid_t p = fork(); if (!p) pause(); char path[99]; int fds[8], n = 0; for (char **s = (char *[]){"", "/task", "/fd", "/attr", "/status", "/comm", "/uid_map", 0}; *s; s++) { sprintf(path, "/proc/%d%s", p, *s); fds[n++] = open(path, O_RDONLY); }
    kill(p, 9); siginfo_t si; waitid(P_PID, p, &si, WEXITED | WNOWAIT); sprintf(path, "/proc/%d/status", p); lines(path, "State Threads FDSize Umask"); for (char **s = (char *[]){"mem", "pagemap", "environ", "auxv", "smaps_rollup", 0}; *s; s++) { sprintf(path, "/proc/%d/%s", p, *s); T(open(path, O_RDONLY)); } sprintf(path, "/proc/%d/task/%d/children", p, p); form_of(path); sprintf(path, "/proc/%d/uid_map", p); T(open(path, O_RDONLY) >= 0); wait(0);
    struct stat st; for (int i = 0; i < 4; i++) { T(syscall(SYS_getdents64, fds[i], buf, 999)); T(fstat(fds[i], &st)); T(openat(fds[i], "status", O_RDONLY)); T(openat(fds[i], "0", O_RDONLY)); T(openat(fds[i], "none", O_RDONLY)); } for (int i = 4; i < 6; i++) { T(pread(fds[i], buf, 99, 0)); T(fstat(fds[i], &st)); } T(pread(fds[6], buf, 99, 0) > 0); sprintf(path, "/proc/%d", p); T(open(path, O_RDONLY));
}
// Memory as a file, links of directories, what ends at a NUL.
static void c_memory(void) {
    int fd = open("/proc/self/mem", O_RDWR), map = open("/proc/self/pagemap", O_RDONLY); char *p = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); strcpy(p, "secret"); munmap(p + 2 * PAGE, PAGE); mprotect(p, PAGE, PROT_READ); mprotect(p + PAGE, PAGE, PROT_NONE); long at = (long)p;
    T(pread(fd, buf, 6, at)); puts(buf); T(pwrite(fd, "public", 6, at)); puts(p); T(pread(fd, buf, 3 * PAGE, at + 100)); T(pwrite(fd, "x", 1, at + PAGE)); T(pread(fd, buf, 1, at + PAGE)); T(*buf); T(pread(fd, buf, 1, at + 2 * PAGE)); T(pwrite(fd, buf, 1, at + 2 * PAGE)); T(pread(fd, buf, 1, 0x1000)); T(lseek(fd, at, SEEK_SET) == at); T(read(fd, buf, 3)); T(lseek(fd, 0, SEEK_CUR) == at + 3); T(lseek(fd, 0, SEEK_END));
    unsigned long e[2]; T(pread(map, e, 16, at / PAGE * 8)); T(e[0] >> 63); T(e[0] >> 56 & 1); T(pread(map, e, 7, 0)); T(pread(map, e, 8, 4)); T(pread(map, e, 8, 8)); T(e[0] >> 63); T(open("/proc/self/children", O_RDONLY));
    struct stat s; for (char **n = (char *[]){"/proc/self/task", "/proc/self/fd", "/proc/self/attr", "/proc/sys", "/proc/sys/fs", "/proc/sysvipc", 0}; *n; n++) { stat(*n, &s); printf("%s %d\n", *n, (int)s.st_nlink); }
    for (char **n = (char *[]){"oom_score_adj", "coredump_filter", "timerslack_ns", 0}; *n; n++) { sprintf(buf, "/proc/self/%s", *n); fd = open(buf, O_WRONLY); T(write(fd, "5\0", 2)); T(write(fd, "6\n\0rest", 7)); close(fd); } text("/proc/self/oom_score_adj"); fd = open("/proc/self/clear_refs", O_WRONLY); T(write(fd, "5", 1)); T(write(fd, "0", 1)); T(write(fd, "6", 1)); T(write(fd, "x", 1));
    int m = open("/proc/self/mountinfo", O_RDONLY), h = open("/proc/sys/kernel/hostname", O_RDONLY), u = open("/proc/self/status", O_RDONLY), ep = epoll_create1(0); struct epoll_event ev = {EPOLLPRI}; T(epoll_ctl(ep, EPOLL_CTL_ADD, m, &ev)); T(epoll_ctl(ep, EPOLL_CTL_ADD, h, &ev)); T(epoll_ctl(ep, EPOLL_CTL_ADD, u, &ev)); struct pollfd pf[3] = {{m, POLLIN | POLLPRI | POLLOUT}, {h, POLLIN | POLLPRI | POLLOUT}, {u, POLLIN | POLLPRI | POLLOUT}}; T(poll(pf, 3, 0)); T(pf[0].revents); T(pf[1].revents); T(pf[2].revents);
}

// Some files judge who opens them, some who reads them, and what tells of memory tells of the one that was
// there.
static void c_judged(void) {
    const char *names[] = {"io", "personality", "syscall", "environ", "maps", "smaps", "mem", "pagemap", "limits", "status", "wchan"}; int f[11], p[2], q[2]; char b; pipe(p); pipe(q); fflush(stdout);
    pid_t c = fork(); if (!c) { read(p[0], &b, 1); fcntl(q[1], F_SETFD, 0); dup2(p[0], 0); execl("/proc/self/exe", "cases", "wait", (char *)0); _exit(1); }
    for (int i = 0; i < 11; i++) { sprintf(buf, "/proc/%d/%s", c, names[i]); f[i] = open(buf, O_RDONLY); }
    fflush(stdout); pid_t d = fork(); if (!d) { setresgid(1000, 1000, 1000); if (!getuid()) setresuid(1000, 1000, 1000); for (int i = 0; i < 11; i++) { errno = 0; long n = pread(f[i], buf, 8, 0); printf("%s: %d %s\n", names[i], n > 0, n < 0 ? strerrorname_np(errno) : ""); } fflush(stdout); _exit(0); } waitpid(d, 0, 0);
    close(p[0]); write(p[1], "x", 1); nap(100); for (int i = 0; i < 11; i++) { errno = 0; long n = pread(f[i], buf, 8, 0); printf("%s: %d %s\n", names[i], n > 0, n < 0 ? strerrorname_np(errno) : ""); }
    kill(c, SIGKILL); waitpid(c, 0, 0); for (int i = 0; i < 11; i++) { errno = 0; long n = pread(f[i], buf, 8, 0); printf("%s: %d %s\n", names[i], n > 0, n < 0 ? strerrorname_np(errno) : ""); }
}
static int hide(void *p) { return prctl(PR_SET_DUMPABLE, 0); }
static void c_memory_that_is_shared(void) { static char stack[65536]; int st; T(prctl(PR_GET_DUMPABLE)); pid_t c = clone(hide, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0); waitpid(c, &st, 0); T(prctl(PR_GET_DUMPABLE)); struct stat s; stat("/proc/self/status", &s); T(prctl(PR_SET_DUMPABLE, 1)); fflush(stdout); c = fork(); if (!c) { prctl(PR_SET_DUMPABLE, 0); _exit(0); } waitpid(c, &st, 0); T(prctl(PR_GET_DUMPABLE)); }
static void c_polled(void) { const char *names[] = {"/sys/devices/system/cpu/online", "/sys/devices/system/cpu", "/sys/class/net/lo/mtu"}; for (int i = 0; i < 3; i++) { int f = open(names[i], O_RDONLY); struct pollfd p = {f, POLLIN | POLLPRI | POLLOUT}; T(poll(&p, 1, 0)); printf("%x ", p.revents); T(read(f, buf, 100) > 0); poll(&p, 1, 0); printf("%x\n", p.revents); } }
// Whether a thread waits, once it is in this state and its process has so many threads.
static void waits(const char *what, const char *path, char state, int threads) {
    for (;; usleep(1000)) { int f = open(path, O_RDONLY), n = 0; memset(buf, 0, sizeof buf); read(f, buf, 2000); close(f); char *t = strtok(strrchr(buf, ')') + 2, " "), now = *t; for (int i = 3; i < 35; i++) { if (i == 20) n = atoi(t); t = strtok(0, " "); } if (now != state || n != threads) continue; printf("%s: %c %s\n", what, state, t); return; }
}
static void *idle(void *p) { (void)p; pause(); return 0; }
static void c_waiting(void) {
    char all[50], one[50]; waits("self", "/proc/self/stat", 'R', 1); fflush(stdout); pid_t c = fork(); if (!c) { pause(); _exit(0); } sprintf(all, "/proc/%d/stat", c); waits("asleep", all, 'S', 1); kill(c, SIGSTOP); waits("stopped", all, 'T', 1); kill(c, SIGKILL); siginfo_t i; waitid(P_PID, c, &i, WEXITED | WNOWAIT); waits("ended", all, 'Z', 1); waitpid(c, 0, 0);
    fflush(stdout); c = fork(); if (!c) { pthread_t t; pthread_create(&t, 0, idle, 0); pause(); _exit(0); } sprintf(all, "/proc/%d/stat", c); sprintf(one, "/proc/%d/task/%d/stat", c, c); waits("two threads", all, 'S', 2); waits("one of them", one, 'S', 2); kill(c, SIGKILL); waitpid(c, 0, 0);
}

#define CASES(X) X(waiting) X(forms) X(modes) X(fdinfo) X(writes) X(others) X(gone) X(memory) X(judged) X(memory_that_is_shared) X(polled)

#include "main.h"
