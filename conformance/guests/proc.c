// Cases of /proc: who may look, what the files look like, what can be written; see guest.h.
#include "guest.h"
#include <grp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

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

#define CASES(X) X(forms) X(modes) X(fdinfo) X(writes) X(others)

#include "main.h"
