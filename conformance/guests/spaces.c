// Cases of namespaces and mounts; see guest.h. Each runs in a child that is an ordinary user, so that it has the same rights everywhere.
#include "guest.h"
#include <grp.h>
#include <linux/nsfs.h>
#include <linux/capability.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

static void ordinary(void (*run)(void)) {
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        setgroups(0, 0);
        setresgid(1000, 1000, 1000);
        setresuid(1000, 1000, 1000);
        prctl(PR_SET_DUMPABLE, 1);
        run();
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    waitpid(p, &status, 0);
    printf("%x\n", status);
}
#define ORDINARY(name) static void o_##name(void); static void c_##name(void) { ordinary(o_##name); } static void o_##name(void)

static long put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0) return -1;
    long n = write(fd, text, strlen(text));
    int e = errno;
    close(fd);
    errno = e;
    return n;
}
static void get(const char *path) {
    int fd = open(path, O_RDONLY);
    memset(buf, 0, sizeof buf);
    if (fd < 0 || read(fd, buf, sizeof buf - 1) < 0) printf("%s: %s\n", path, strerrorname_np(errno));
    else printf("%s: %s", path, buf);
    close(fd);
}
static void ids(void) { uid_t r, e, s; getresuid(&r, &e, &s); gid_t a, b, c; getresgid(&a, &b, &c); printf("%d %d %d  %d %d %d\n", r, e, s, a, b, c); }
static void caps(void) { get("/proc/self/status"); char *p = strstr(buf, "CapInh"); if (p) printf("%.120s\n", p); }

ORDINARY(errors) {
    T(unshare(1)); T(unshare(0)); T(unshare(CLONE_NEWNS)); T(unshare(CLONE_NEWUTS)); T(unshare(CLONE_NEWIPC)); T(unshare(CLONE_NEWNET)); T(unshare(CLONE_NEWPID)); T(unshare(CLONE_NEWCGROUP)); T(unshare(CLONE_FS | CLONE_FILES)); T(unshare(CLONE_THREAD)); T(unshare(CLONE_VM)); T(unshare(CLONE_SIGHAND));
    T(mount("none", "/tmp", "tmpfs", 0, 0)); T(mount("none", "/not-there", "tmpfs", 0, 0)); T(mount((void *)8, "/tmp", "tmpfs", 0, 0)); T(umount2("/tmp", 99)); T(umount2("/tmp", 0)); T(umount2("/not-there", 0)); T(syscall(SYS_pivot_root, "/not-there", "/not-there")); T(sethostname("x", 1)); T(setdomainname("x", 1)); T(setns(-1, 0)); T(setns(0, 0));
    int fd = open("/proc/self/ns/user", O_RDONLY); T(setns(fd, 0)); T(setns(fd, CLONE_NEWNS)); fd = open("/proc/self/ns/mnt", O_RDONLY); T(setns(fd, CLONE_NEWNS)); T(setns(fd, CLONE_NEWUTS)); T(ioctl(fd, NS_GET_NSTYPE)); T(ioctl(fd, NS_GET_PARENT)); T(read(fd, buf, 1)); struct stat s; fstat(fd, &s); printf("%o\n", s.st_mode); struct statfs f; fstatfs(fd, &f); printf("%lx\n", (long)f.f_type);
    T(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0)); T(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0)); T(syscall(SYS_clone, CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0)); T(syscall(SYS_clone, CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0)); T(syscall(SYS_clone, CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0));
    get("/proc/self/setgroups"); T(put("/proc/self/uid_map", "0 1000 1")); T(put("/proc/self/setgroups", "deny"));
}

static void own(int flags) { T(unshare(CLONE_NEWUSER | flags)); put("/proc/self/setgroups", "deny"); put("/proc/self/uid_map", "0 1000 1"); put("/proc/self/gid_map", "0 1000 1"); }

ORDINARY(users) {
    T(unshare(CLONE_NEWUSER)); ids(); get("/proc/self/uid_map"); get("/proc/self/setgroups");
    T(put("/proc/self/uid_map", "")); T(put("/proc/self/uid_map", "0 0 1")); T(put("/proc/self/uid_map", "0 1000 2")); T(put("/proc/self/uid_map", "0 1000 0")); T(put("/proc/self/uid_map", "0 1001 1")); T(put("/proc/self/uid_map", "0 1000")); T(put("/proc/self/gid_map", "0 1000 1")); T(setgroups(0, 0));
    T(put("/proc/self/setgroups", "no")); T(put("/proc/self/setgroups", "allow\n")); T(put("/proc/self/setgroups", "deny\n")); T(put("/proc/self/setgroups", "allow\n")); get("/proc/self/setgroups"); T(put("/proc/self/uid_map", "7 1000 1\n")); ids(); T(put("/proc/self/uid_map", "0 1000 1\n")); T(put("/proc/self/gid_map", "9 1000 1")); ids(); get("/proc/self/uid_map"); get("/proc/self/gid_map"); T(setgroups(0, 0));
    T(setuid(0)); T(setuid(7)); T(setuid(1000)); T(setresuid(-1, 8, -1)); T(setgid(9)); T(setfsuid(3)); T(setfsuid(7));
    int fd = open("/tmp/spaces-file", O_CREAT | O_RDWR, 0644); T(fd >= 0); struct stat s; fstat(fd, &s); printf("%d %d\n", s.st_uid, s.st_gid); T(fchown(fd, 0, 0)); T(fchown(fd, 7, 9)); T(fchown(fd, 1000, -1)); stat("/", &s); printf("%d %d\n", s.st_uid, s.st_gid); T(chmod("/", 0755)); T(chown("/tmp", 7, 9)); unlink("/tmp/spaces-file");
    T(mknod("/tmp/spaces-dev", S_IFCHR | 0600, 0x103)); T(sethostname("x", 1)); T(setpriority(PRIO_PROCESS, 0, -5)); T(mount("none", "/tmp", "tmpfs", 0, 0)); T(chroot("/")); T(unshare(CLONE_NEWUSER)); ids(); T(put("/proc/self/uid_map", "3 7 1")); ids(); get("/proc/self/uid_map");
}
ORDINARY(depth) { int n = 0; while (n < 40 && !unshare(CLONE_NEWUSER)) { put("/proc/self/setgroups", "deny"); char t[40]; uid_t u = n ? 0 : 1000; sprintf(t, "0 %d 1", u); put("/proc/self/uid_map", t); sprintf(t, "0 %d 1", u); put("/proc/self/gid_map", t); n++; } printf("%d %s\n", n, strerrorname_np(errno)); ids(); }
ORDINARY(capabilities) {
    own(0); struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0}; struct __user_cap_data_struct d[2]; T(syscall(SYS_capget, &h, d)); printf("%x %x %x\n", d[0].effective, d[0].permitted, d[0].inheritable); T(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN)); T(setresuid(0, 0, 0)); T(prctl(PR_CAPBSET_DROP, CAP_NET_RAW)); T(prctl(PR_CAPBSET_READ, CAP_NET_RAW)); d[0].effective = 0; T(syscall(SYS_capset, &h, d)); T(unshare(CLONE_NEWNS)); T(unshare(CLONE_NEWUSER)); ids(); T(kill(1, 0)); T(kill(getppid(), 0));
}
ORDINARY(names) {
    own(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET); T(sethostname("inner", 5)); T(setdomainname("dom", 3)); T(sethostname(buf, 65)); T(sethostname(buf, -1)); struct utsname u; uname(&u); printf("%s %s\n", u.nodename, u.domainname); get("/proc/sys/kernel/hostname"); int fd = open("/proc/self/ns/uts", O_RDONLY); T(unshare(CLONE_NEWUTS)); T(sethostname("other", 5)); uname(&u); printf("%s\n", u.nodename); T(setns(fd, CLONE_NEWUTS)); uname(&u); printf("%s\n", u.nodename); T(ioctl(fd, NS_GET_NSTYPE)); int user = ioctl(fd, NS_GET_USERNS); T(user >= 0); T(ioctl(user, NS_GET_NSTYPE)); uid_t owner; T(ioctl(user, NS_GET_OWNER_UID, &owner)); printf("%d\n", owner); T(ioctl(fd, NS_GET_OWNER_UID, &owner)); T(ioctl(user, NS_GET_PARENT)); T(setns(user, CLONE_NEWUSER)); char a[99] = "", b[99] = ""; readlink("/proc/self/ns/user", a, 98); sprintf(buf, "/proc/self/fd/%d", user); readlink(buf, b, 98); printf("%d\n", !strcmp(a, b)); struct stat s, t; fstat(user, &s); stat("/proc/self/ns/user", &t); printf("%d\n", s.st_ino == t.st_ino); get("/proc/net/dev");
    int p = fork(); if (!p) { own(CLONE_NEWUTS); pause(); } usleep(50000); int pfd = syscall(SYS_pidfd_open, p, 0); T(setns(pfd, 0)); T(setns(pfd, CLONE_NEWUTS | 1)); T(setns(pfd, CLONE_NEWUTS)); kill(p, 9); wait(0);
}

// Mount tables with what is the same everywhere.
static void mounts(const char *below) {
    FILE *f = fopen("/proc/self/mountinfo", "r");
    char line[4096], *w[40];
    int seen = 0;
    while (fgets(line, sizeof line, f)) {
        int n = 0, peers = 0;
        for (char *p = strtok(line, " \n"); p && n < 39; p = strtok(0, " \n")) w[n++] = p;
        int i = 6, dash = 6;
        while (strcmp(w[dash], "-")) dash++;
        // What the place was mounted of before is not the same everywhere.
        seen |= !strcmp(w[dash + 2], "top");
        if (!seen || strncmp(w[4], below, strlen(below))) continue;
        printf("%s %s", w[4], w[5]);
        for (; i < n && strcmp(w[i], "-"); i++) { char *c = strchr(w[i], ':'); if (c) *c = 0; printf(" %s", w[i]); }
        printf(" - %s %s\n", w[i + 1], w[i + 2]);
    }
    fclose(f);
}
static void fresh(void) { own(CLONE_NEWNS); T(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)); T(mount("top", "/tmp", "tmpfs", 0, "size=1m,mode=700")); T(chdir("/tmp")); mkdir("a", 0755); mkdir("b", 0755); mkdir("c", 0755); make("f", "text"); }

ORDINARY(mounting) {
    fresh(); mounts("/tmp"); struct stat s; stat("/tmp", &s); printf("%o %d %d\n", s.st_mode, s.st_uid, s.st_gid); struct statfs f; statfs("/tmp", &f); printf("%lx %ld %ld\n", (long)f.f_type, (long)f.f_blocks, (long)f.f_bsize);
    T(mount("x", "a", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "nr_inodes=5,uid=0,gid=0")); T(mkdir("a/x", 0700)); T(mount("x", "b", "tmpfs", 0, "bad")); T(mount("x", "b", "tmpfs", 0, "size=z")); T(mount("x", "b", "tmpfs", 0, "uid=77")); T(mount("x", "b", "nofs", 0, 0)); T(mount("x", "b", 0, 0, 0)); T(mount("x", "f", "tmpfs", 0, 0)); T(mount("proc", "f", "proc", 0, 0)); mounts("/tmp");
    T(mount(0, "a", 0, MS_REMOUNT | MS_BIND, 0)); mounts("/tmp/a"); T(mkdir("a/x", 0700)); T(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_NOATIME, 0)); T(mount(0, "b", 0, MS_REMOUNT | MS_BIND, 0)); T(mount(0, "a", 0, MS_REMOUNT, "size=2m")); mounts("/tmp/a"); T(mkdir("a/x", 0700)); int fd = open("a/x", O_RDONLY); T(umount2("a", 0)); T(rmdir("a")); T(rename("a", "z")); close(fd); T(umount2("a", MNT_EXPIRE | MNT_DETACH)); T(umount2("a", MNT_EXPIRE)); T(umount2("a", MNT_EXPIRE)); T(umount2("a", 0)); T(rmdir("a")); T(umount2("/proc", 0) && errno == EINVAL); T(umount2("f", 0));
}
ORDINARY(binds) {
    fresh(); T(mount("b", "c", 0, MS_BIND, 0)); make("c/new", "1"); T(access("b/new", F_OK)); T(mount("f", "b/new", 0, MS_BIND, 0)); get("b/new"); get("c/new"); T(mount("b", "a", 0, MS_BIND, 0)); get("a/new"); T(umount2("a", 0)); T(mount("b", "a", 0, MS_BIND | MS_REC, 0)); get("a/new"); T(mount("f", "a", 0, MS_BIND, 0)); T(mount("a", "f", 0, MS_BIND, 0)); T(mount("none", "a", 0, MS_BIND, 0)); T(mount("", "a", 0, MS_BIND, 0)); mounts("/tmp"); T(unlink("b/new")); T(umount2("a", 0)); T(umount2("a", MNT_DETACH)); mounts("/tmp"); T(link("f", "c/l")); T(rename("f", "c/f")); T(mount(0, "c", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0)); T(open("c/y", O_CREAT | O_WRONLY, 0600)); T(open("b/y", O_CREAT | O_WRONLY, 0600) > 0); T(chdir("c")); puts(getcwd(buf, 99)); T(umount2("/tmp/c", 0)); T(umount2("/tmp/c", MNT_DETACH)); T(syscall(SYS_getcwd, buf, 99) > 0); puts(buf); T(access("y", F_OK)); T(mount("x", ".", "tmpfs", 0, 0)); T(chdir("..")); T(access("/tmp/b", F_OK)); chdir("/tmp"); mkdir("b/in", 0755); mkdir("b/in/deep", 0755); T(mount("b/in", "a", 0, MS_BIND, 0)); T(chdir("a/deep")); T(rename("/tmp/b/in/deep", "/tmp/b/deep")); T(chdir("..")); T(mount("/", "/tmp/c", 0, MS_BIND, 0));
}
ORDINARY(moving) { fresh(); T(mount("x", "a", "tmpfs", 0, 0)); mkdir("a/d", 0755); T(mount("y", "a/d", "tmpfs", 0, 0)); T(mount("a", "b", 0, MS_MOVE, 0)); mounts("/tmp"); T(mount("b", "b/d", 0, MS_MOVE, 0)); T(mount("c", "a", 0, MS_MOVE, 0)); T(mount("b", "f", 0, MS_MOVE, 0)); T(mount("/", "a", 0, MS_MOVE, 0)); T(mount("z", "b", "tmpfs", 0, 0)); mounts("/tmp"); T(umount2("b", 0)); mounts("/tmp"); T(mount(0, "/tmp", 0, MS_SHARED, 0)); T(mount("b", "a", 0, MS_MOVE, 0)); }
ORDINARY(propagation) {
    fresh(); T(mount(0, "a", 0, MS_SHARED, 0)); T(mount(0, "/tmp", 0, MS_SHARED | MS_PRIVATE, 0)); T(mount("x", "a", "tmpfs", 0, 0)); T(mount(0, "a", 0, MS_SHARED, 0)); mkdir("a/1", 0755); mkdir("a/2", 0755); T(mount("a", "b", 0, MS_BIND, 0)); T(mount("a", "c", 0, MS_BIND, 0)); T(mount(0, "c", 0, MS_SLAVE, 0)); mounts("/tmp"); T(mount("y", "a/1", "tmpfs", 0, 0)); make("a/1/f", ""); T(access("b/1/f", F_OK)); T(access("c/1/f", F_OK)); mounts("/tmp"); T(mount("z", "c/2", "tmpfs", 0, 0)); mounts("/tmp/a"); T(mount(0, "c", 0, MS_SHARED, 0)); mounts("/tmp/c"); T(umount2("b/1", 0)); mounts("/tmp"); T(mount("v", "b/2", "tmpfs", 0, 0)); mounts("/tmp"); T(mount(0, "b", 0, MS_UNBINDABLE, 0)); mkdir("d", 0755); T(mount("b", "d", 0, MS_BIND, 0)); T(mount("/tmp", "d", 0, MS_BIND | MS_REC, 0)); mounts("/tmp/d"); T(umount2("d", MNT_DETACH)); T(mount(0, "/tmp", 0, MS_PRIVATE | MS_REC, 0)); mounts("/tmp");
}
ORDINARY(two_namespaces) {
    fresh(); T(mount(0, "/tmp", 0, MS_SHARED, 0)); int p[2], q[2]; pipe(p); pipe(q); fflush(stdout); pid_t c = fork();
    if (!c) { T(unshare(CLONE_NEWNS)); T(mount("in", "a", "tmpfs", 0, 0)); mounts("/tmp"); fflush(stdout); write(p[1], "x", 1); read(q[0], buf, 1); mounts("/tmp"); T(mount(0, "/tmp", 0, MS_SLAVE, 0)); T(mount("mine", "c", "tmpfs", 0, 0)); mounts("/tmp"); fflush(stdout); write(p[1], "x", 1); read(q[0], buf, 1); mounts("/tmp"); fflush(stdout); _exit(0); }
    read(p[0], buf, 1); mounts("/tmp"); T(mount("out", "b", "tmpfs", 0, 0)); fflush(stdout); write(q[1], "x", 1); read(p[0], buf, 1); mounts("/tmp"); T(umount2("b", 0)); T(rmdir("c")); fflush(stdout); write(q[1], "x", 1); wait(0); mounts("/tmp");
    int n = open("/proc/self/ns/mnt", O_RDONLY); T(unshare(CLONE_NEWNS)); T(mount("q", "/tmp", "tmpfs", 0, 0)); T(setns(n, 0)); puts(getcwd(buf, 99)); T(access("/tmp/f", F_OK)); T(unshare(CLONE_NEWUSER | CLONE_NEWNS)); T(umount2("/tmp/a", 0)); T(umount2("/tmp", 0)); T(umount2("/tmp", MNT_DETACH)); mounts("/tmp");
}
ORDINARY(read_only) { fresh(); T(mount("x", "a", "tmpfs", MS_RDONLY | MS_NOSUID, 0)); int n = open("/proc/self/ns/user", O_RDONLY); T(unshare(CLONE_NEWUSER | CLONE_NEWNS)); put("/proc/self/setgroups", "deny"); put("/proc/self/uid_map", "0 0 1"); T(mount(0, "a", 0, MS_REMOUNT | MS_BIND, 0)); T(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0)); T(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, 0)); T(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, 0)); T(mount(0, "a", 0, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, 0)); T(mount("a", "b", 0, MS_BIND, 0)); T(mount(0, "b", 0, MS_REMOUNT | MS_BIND, 0)); mounts("/tmp"); }
ORDINARY(links) { fresh(); T(mount("x", "a", "tmpfs", MS_NOSYMFOLLOW, 0)); symlink("/tmp/f", "a/l"); T(open("a/l", O_RDONLY)); T(readlink("a/l", buf, 9)); symlink("b", "l"); T(umount2("l", UMOUNT_NOFOLLOW)); T(mount("x", "l", "tmpfs", 0, 0)); mounts("/tmp"); T(umount2("l", UMOUNT_NOFOLLOW)); T(umount2("l", 0)); T(mount("x", "b", "tmpfs", MS_NOEXEC, 0)); int fd = open("b/x", O_CREAT | O_RDWR, 0755); write(fd, "#!/bin/true\n", 12); close(fd); T(execl("/tmp/b/x", "x", (char *)0)); T((long)mmap(0, 4096, PROT_EXEC, MAP_PRIVATE, open("b/x", O_RDONLY), 0)); }
ORDINARY(pivot) {
    fresh(); T(mount("new", "a", "tmpfs", 0, 0)); mkdir("a/old", 0755); make("a/here", "new"); mkdir("a/sub", 0755); T(syscall(SYS_pivot_root, "a", "b")); T(syscall(SYS_pivot_root, "b", "b")); T(syscall(SYS_pivot_root, "a/sub", "a/old")); T(syscall(SYS_pivot_root, "f", "a/old")); T(mount(0, "/tmp", 0, MS_SHARED, 0)); T(syscall(SYS_pivot_root, "a", "a/old")); T(mount(0, "/tmp", 0, MS_PRIVATE, 0)); T(chdir("a")); T(syscall(SYS_pivot_root, ".", "old")); puts(getcwd(buf, 99)); get("/here"); T(access("/old/tmp/f", F_OK)); T(access("/proc", F_OK)); T(umount2("/old", 0)); T(umount2("/old", MNT_DETACH)); T(rmdir("/old")); T(mount("again", "/sub", "tmpfs", 0, 0)); T(chdir("/sub")); T(syscall(SYS_pivot_root, ".", ".")); T(umount2(".", MNT_DETACH)); T(chdir("/")); T(access("/here", F_OK)); T(chroot("/")); T(mount("p", "/", "tmpfs", 0, 0));
}

// Numbers of processes outside are not the same everywhere.
static void status(const char *path) { FILE *f = fopen(path, "r"); char line[999]; if (!f) { puts(strerrorname_np(errno)); return; } while (fgets(line, sizeof line, f)) if (!strncmp(line, "Pid", 3) || !strncmp(line, "PPid", 4) || !strncmp(line, "Tgid", 4) || !strncmp(line, "NS", 2)) fputs(line, stdout); fclose(f); }
static volatile int got; static siginfo_t last; static void handler(int s, siginfo_t *i, void *c) { got++; last = *i; }
ORDINARY(processes) {
    T(unshare(CLONE_NEWUSER | CLONE_NEWNS)); put("/proc/self/setgroups", "deny"); put("/proc/self/uid_map", "0 1000 1"); put("/proc/self/gid_map", "0 1000 1"); T(unshare(CLONE_NEWPID)); T(access("/proc/self/ns/pid_for_children", F_OK)); int p[2], q[2]; pipe(p); pipe(q); fflush(stdout); pid_t c = fork();
    if (!c) {
        T(getpid()); T(getppid()); T(getpgrp()); T(getsid(0)); T(gettid()); T(unshare(CLONE_NEWNS)); T(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)); T(mount("proc", "/proc", "proc", 0, 0)); status("/proc/self/status"); status("/proc/2/status"); char l[99] = ""; readlink("/proc/self", l, 98); puts(l); readlink("/proc/thread-self", l, 98); puts(l); T(setsid()); fflush(stdout);
        pid_t d = fork(); if (!d) { T(getpid()); T(getppid()); T(getsid(0)); T(getpgid(1)); T(setpgid(0, 0)); status("/proc/self/status"); T(kill(1, SIGKILL)); T(kill(1, SIGTERM)); T(kill(7777, 0)); T(kill(-1, 0)); T(setpgid(0, 1)); T(kill(-2, 0)); fflush(stdout); pid_t e = fork(); if (!e) { usleep(30000); T(getppid()); fflush(stdout); pause(); } T(e); fflush(stdout); _exit(3); }
        int st; T(waitpid(d, &st, 0)); printf("%x\n", st); usleep(100000); DIR *x = opendir("/proc"); for (struct dirent *e; (e = readdir(x));) if (e->d_name[0] >= '1' && e->d_name[0] <= '9') puts(e->d_name); closedir(x); struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &a, 0); sigset_t m, old; sigemptyset(&m); sigaddset(&m, SIGUSR1); sigprocmask(SIG_BLOCK, &m, &old); fflush(stdout); write(p[1], "x", 1); sigsuspend(&old); printf("%d %d %d\n", got, last.si_pid, last.si_uid); T(raise(SIGTERM)); T(unshare(CLONE_NEWPID)); fflush(stdout); d = fork(); if (!d) { T(getpid()); fflush(stdout); _exit(0); } T(d); T(waitpid(d, &st, 0)); T(fork()); fflush(stdout); write(p[1], "x", 1); pause();
    }
    read(p[0], buf, 1); kill(c, SIGTERM); kill(c, SIGUSR1); read(p[0], buf, 1); char path[99]; sprintf(path, "/proc/%d/ns/pid", c); int fd = open(path, O_RDONLY); T(fd >= 0); T(ioctl(fd, NS_GET_NSTYPE)); int up = ioctl(fd, NS_GET_PARENT); T(up >= 0); T(setns(up, CLONE_NEWPID)); T(setns(fd, CLONE_NEWPID)); fflush(stdout); pid_t e = fork(); if (!e) { T(getpid()); T(getppid()); fflush(stdout); pause(); } usleep(30000); kill(c, SIGKILL); int st; T(waitpid(e, &st, 0) == e); printf("%x\n", st); T(waitpid(c, &st, 0) == c); printf("%x\n", st); T(waitpid(-1, &st, 0)); T(fork());
}

static void numbers(const char *at) { DIR *d = opendir(at); printf("%s:", at); for (struct dirent *e; d && (e = readdir(d));) if (e->d_name[0] >= '0' && e->d_name[0] <= '9') printf(" %s", e->d_name); puts(""); if (d) closedir(d); }
ORDINARY(others_processes) {
    own(CLONE_NEWNS); T(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)); mkdir("/tmp/p", 0755); mkdir("/tmp/q", 0755); T(unshare(CLONE_NEWPID)); int p[2]; pipe(p); fflush(stdout); pid_t c = fork(); if (!c) { close(p[1]); read(p[0], buf, 1); _exit(0); }
    char o[200]; T(mount("proc", "/tmp/p", "proc", 0, "pidns")); T(mount("proc", "/tmp/p", "proc", 0, "pidns=/not-there")); T(mount("proc", "/tmp/p", "proc", 0, "pidns=/tmp")); T(mount("proc", "/tmp/p", "proc", 0, "pidns=/proc/self/ns/user")); T(mount("proc", "/tmp/p", "proc", 0, "pidns=/proc/self/ns/pid")); T(mount("proc", "/tmp/p", "proc", 0, "pidns="));
    T(mount("proc", "/tmp/p", "proc", 0, "pidns=/proc/self/ns/pid_for_children")); numbers("/tmp/p"); T(readlink("/tmp/p/self", buf, 99)); sprintf(o, "hidepid=0,pidns=/proc/%d/ns/pid", c); T(mount("proc", "/tmp/q", "proc", 0, o)); numbers("/tmp/q"); T(mount(0, "/tmp/q", 0, MS_REMOUNT, o)); T(mount(0, "/tmp/q", 0, MS_REMOUNT, "hidepid=2"));
    close(p[1]); waitpid(c, 0, 0); numbers("/tmp/q"); T(umount2("/tmp/p", 0)); T(umount2("/tmp/q", 0)); rmdir("/tmp/p"); rmdir("/tmp/q");
}
// Writes a setting that is the namespace's own and shows what became of it.
static void setting(const char *name, const char *text) {
    char path[99], now[200] = ""; sprintf(path, "/proc/sys/%s", name); int fd = open(path, O_RDWR); if (fd < 0) { printf("%s: %s\n", name, strerrorname_np(errno)); return; }
    errno = 0; long n = write(fd, text, strlen(text)); int e = errno; printf("%s '%s': %ld %s at %ld, ", name, text, n, n < 0 ? strerrorname_np(e) : "", (long)lseek(fd, 0, SEEK_CUR)); close(fd); fd = open(path, O_RDONLY); read(fd, now, sizeof now - 1); close(fd); printf("%s", now);
}
ORDINARY(settings) {
    own(CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWUTS); int st; fflush(stdout); pid_t c = fork(); if (c) { waitpid(c, &st, 0); printf("%x\n", st); return; }
    T(access("/proc/sys/kernel/sem", W_OK)); T(access("/proc/sys/kernel/osrelease", W_OK)); T(access("/proc/sys/kernel/osrelease", R_OK)); T(access("/proc/sys/kernel/sem", X_OK)); T(access("/proc/sys/vm/max_map_count", W_OK)); T(open("/proc/sys/kernel/hostname", O_WRONLY)); T(open("/proc/sys/fs/pipe-max-size", O_WRONLY)); T(open("/proc/sys/net/unix/max_dgram_qlen", O_WRONLY | O_TRUNC) > 0);
    const char *sem[] = {"300 400 20 30", "301", "1 2 3 4 5", "1 x", "300 400 20 99999", " ", "", "\n", "-7", "2147483648", "9 9 9"}; for (unsigned i = 0; i < sizeof sem / sizeof *sem; i++) setting("kernel/sem", sem[i]);
    const char *numbers[] = {"100", "0x20", "0X21", "010", "08", "0x", "-1", "+1", "5x", "5 x", " 6 ", "7\n", "99999999999999999999999", "2147483647", "2147483648", "--1", "1,2"}; for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) { setting("kernel/msgmax", numbers[i]); setting("kernel/shmmax", numbers[i]); setting("fs/mqueue/queues_max", numbers[i]); setting("net/unix/max_dgram_qlen", numbers[i]); setting("net/core/somaxconn", numbers[i]); setting("kernel/pid_max", numbers[i]); setting("user/max_uts_namespaces", numbers[i]); }
    setting("kernel/shmmni", "32768"); setting("kernel/shmmni", "32769"); setting("kernel/msgmni", "-1"); setting("fs/mqueue/msg_max", "65537"); setting("fs/mqueue/msgsize_max", "127"); setting("fs/mqueue/msgsize_max", "128"); setting("kernel/pid_max", "300"); setting("kernel/pid_max", "301"); setting("kernel/pid_max", "4194304"); setting("kernel/pid_max", "4194305"); setting("kernel/shmall", "-0"); setting("kernel/shmmax", "18446744073709551615"); setting("kernel/shmmax", "18446744073709551616");
    int fd = open("/proc/sys/kernel/msgmax", O_RDWR); T(pwrite(fd, "7", 1, 3)); T(write(fd, "55", 2)); T(write(fd, "66", 2)); T(lseek(fd, 0, SEEK_CUR)); T(pread(fd, buf, 9, 0)); T(pread(fd, buf, 9, 1)); fd = open("/proc/sys/kernel/msgmax", O_WRONLY | O_APPEND); T(write(fd, "12", 2)); get("/proc/sys/kernel/msgmax");
    const char *files[] = {"kernel/sem", "fs/mqueue/msg_max", "net/unix/max_dgram_qlen", "net/core/somaxconn", "net/unix", "kernel/pid_max", "user/max_uts_namespaces", "kernel/hostname", "kernel", "fs/nr_open", "user"}; for (unsigned i = 0; i < sizeof files / sizeof *files; i++) { struct stat s; char path[99]; sprintf(path, "/proc/sys/%s", files[i]); stat(path, &s); printf("%s %o %d %d\n", files[i], s.st_mode, s.st_uid, s.st_gid); }
    setting("kernel/pid_max", "302"); int n = 0; while ((c = fork()) > 0) n++; if (!c) pause(); printf("%d %s\n", n, strerrorname_np(errno)); fflush(stdout); _exit(0);
}
ORDINARY(counts) {
    own(CLONE_NEWPID); get("/proc/sys/user/max_uts_namespaces"); setting("user/max_uts_namespaces", "2"); setting("user/max_ipc_namespaces", "0"); setting("user/max_user_namespaces", "1"); setting("user/max_inotify_instances", "2"); setting("user/max_inotify_watches", "1");
    T(unshare(CLONE_NEWUTS)); T(unshare(CLONE_NEWUTS)); T(unshare(CLONE_NEWUTS)); T(unshare(CLONE_NEWIPC)); T(syscall(SYS_clone, CLONE_NEWIPC | SIGCHLD, 0, 0, 0, 0)); int a = inotify_init(), b = inotify_init(); T(inotify_init()); T(inotify_add_watch(a, "/", IN_CREATE)); T(inotify_add_watch(b, "/", IN_CREATE)); T(inotify_rm_watch(a, 1)); T(inotify_add_watch(b, "/", IN_CREATE)); close(a);
    // Namespaces of users go some time after their last process: it stays meanwhile.
    int p[2]; pipe(p); fflush(stdout); pid_t c = fork(); if (!c) { T(unshare(CLONE_NEWUSER)); T(put("/proc/self/uid_map", "0 0 1")); get("/proc/sys/user/max_uts_namespaces"); T(unshare(CLONE_NEWUTS)); T(unshare(CLONE_NEWIPC)); T(inotify_init() > 0); T(inotify_init()); T(unshare(CLONE_NEWUSER)); fflush(stdout); write(p[1], "x", 1); pause(); } read(p[0], buf, 1);
    T(unshare(CLONE_NEWUSER)); get("/proc/sys/user/max_user_namespaces"); kill(c, SIGKILL); waitpid(c, 0, 0);
}

#define CASES(X) X(settings) X(counts) X(others_processes) X(errors) X(users) X(depth) X(capabilities) X(names) X(mounting) X(binds) X(moving) X(propagation) X(two_namespaces) X(read_only) X(links) X(pivot) X(processes)

#include "main.h"
