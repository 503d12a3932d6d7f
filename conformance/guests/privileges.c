// Who may do what: a matrix of identities and calls.
#include "privileges.h"

// --- files ---------------------------------------------------------------------------------------

static void file(const char *name, uid_t uid, gid_t gid, mode_t mode) {
    int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
    if (fd < 0 || write(fd, "contents", 8) != 8 || fchown(fd, uid, gid) || fchmod(fd, mode)) die(name);
    close(fd);
}
static void directory(const char *name, uid_t uid, gid_t gid, mode_t mode) {
    if (mkdir(name, 0700) || chown(name, uid, gid) || chmod(name, mode)) die(name);
}
static void files(void) {
    own_tmpfs();
    chmod(".", 0777);
    file("root", 0, 0, 0644);
    file("mine", USER, USER, 0644);
    file("group", USER, GROUP, 0664);
    file("grouped", OTHER, GROUP, 0664);
    file("other", OTHER, OTHER, 0644);
    file("private", OTHER, OTHER, 0600);
    file("nobody", OTHER, OTHER, 0);
    file("run", OTHER, OTHER, 0711);
    file("suid", USER, USER, 06755);
    file("sgid", USER, GROUP, 02755);
    directory("sticky", OTHER, OTHER, 01777);
    file("sticky/root", 0, 0, 0644);
    file("sticky/mine", USER, USER, 0644);
    file("sticky/other", OTHER, OTHER, 0644);
    directory("closed", OTHER, OTHER, 0700);
    file("closed/in", USER, USER, 0644);
    directory("setgid", OTHER, GROUP, 02777);
    symlink("other", "link");
    lchown("link", USER, USER);
}
static int mode_of(const char *name) { struct stat s; return stat(name, &s) ? -1 : (int)(s.st_mode & 07777); }
static int owner_of(const char *name) { struct stat s; return lstat(name, &s) ? -1 : (int)(s.st_uid * 10000 + s.st_gid); }

static void calls_open(void) {
    const char *names[] = {"root", "mine", "group", "grouped", "other", "private", "nobody", "run", "closed", "closed/in", "sticky/other"};
    for (int i = 0; i < 11; i++) {
        F(open(names[i], O_RDONLY));
        F(open(names[i], O_WRONLY));
        F(open(names[i], O_RDONLY | O_NOATIME));
        P(access(names[i], R_OK)); P(access(names[i], W_OK)); P(access(names[i], X_OK));
        P(faccessat(AT_FDCWD, names[i], R_OK | W_OK, AT_EACCESS));
        P(truncate(names[i], 3));
    }
}
static void c_open(void) { matrix(files, calls_open, leave); }

static void calls_owner(void) {
    const char *names[] = {"root", "mine", "group", "other", "suid", "sgid"};
    for (int i = 0; i < 6; i++) {
        P(chown(names[i], -1, -1)); V(mode_of(names[i]));
        P(chown(names[i], USER, -1)); P(chown(names[i], -1, USER)); P(chown(names[i], -1, GROUP)); P(chown(names[i], -1, OTHER));
        P(chown(names[i], OTHER, OTHER)); P(chown(names[i], 0, 0)); V(owner_of(names[i])); V(mode_of(names[i]));
    }
    P(lchown("link", -1, GROUP)); P(lchown("link", OTHER, -1));
    P(chown("closed", -1, GROUP)); P(chown("setgid", -1, OTHER)); V(mode_of("setgid"));
}
static void c_owner(void) { matrix(files, calls_owner, leave); }

static void calls_mode(void) {
    const char *names[] = {"root", "mine", "group", "grouped", "other", "setgid", "sgid"};
    struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}, old[2] = {{1, 1}, {2, 2}}, half[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    for (int i = 0; i < 7; i++) {
        P(chmod(names[i], 02755)); V(mode_of(names[i]));
        P(chmod(names[i], 06666)); V(mode_of(names[i]));
        P(utimensat(AT_FDCWD, names[i], now, 0)); P(utimensat(AT_FDCWD, names[i], old, 0)); P(utimensat(AT_FDCWD, names[i], half, 0));
        P(utimensat(AT_FDCWD, names[i], 0, 0));
    }
}
static void c_mode(void) { matrix(files, calls_mode, leave); }

static void calls_xattr(void) {
    const char *names[] = {"root", "mine", "other", "link", "sticky", "setgid"}, *keys[] = {"user.a", "trusted.a", "security.a", "system.a", "a"};
    unsigned char cap[20] = {0, 0, 0, 2, 1};
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 5; j++) {
            P(lsetxattr(names[i], keys[j], "1", 1, 0)); P(lgetxattr(names[i], keys[j], buf, 10)); P(lremovexattr(names[i], keys[j]));
        }
        P(lsetxattr(names[i], "security.capability", cap, 20, 0));
        V(lgetxattr(names[i], "security.capability", buf, 100));
        V(llistxattr(names[i], buf, 1000));
        P(lremovexattr(names[i], "security.capability"));
    }
}
static void c_xattr(void) { matrix(files, calls_xattr, leave); }

static void calls_names(void) {
    P(mkdir("new", 0777)); V(owner_of("new"));
    P(mknod("fifo", S_IFIFO | 0666, 0)); P(mknod("socket", S_IFSOCK | 0666, 0)); P(mknod("char", S_IFCHR | 0666, 0x103));
    P(mknod("block", S_IFBLK | 0666, 0x700)); P(mknod("nothing", S_IFCHR | 0666, 0)); P(mknod("zero", S_IFBLK | 0666, 0));
    P(symlink("x", "sym"));
    F(open("created", O_CREAT | O_RDWR, 06777)); V(mode_of("created")); V(owner_of("created"));
    F(open("setgid/created", O_CREAT | O_RDWR, 06777)); V(mode_of("setgid/created")); V(owner_of("setgid/created"));
    P(mkdir("setgid/dir", 0777)); V(mode_of("setgid/dir")); V(owner_of("setgid/dir"));
    P(mknod("setgid/fifo", S_IFIFO | 02777, 0)); V(mode_of("setgid/fifo"));
    F(open(".", O_TMPFILE | O_RDWR, 0666)); F(open("closed", O_TMPFILE | O_RDWR, 0666));
    F(open("char", O_RDONLY));
    P(mkdir("closed/new", 0777)); F(open("closed/f", O_CREAT | O_RDWR, 0666));
    P(unlink("sticky/root")); P(rename("sticky/mine", "sticky/moved")); P(rename("sticky/other", "taken")); P(rename("mine", "sticky/other"));
    P(rename("sticky/moved", "sticky/again")); P(unlink("sticky/again")); P(unlink("sticky/other")); P(rmdir("sticky")); P(rmdir("closed"));
    P(rename("closed", "open")); P(unlink("nobody"));
    P(syscall(SYS_renameat2, AT_FDCWD, "root", AT_FDCWD, "white", 4));
    int fd = open("mine", O_PATH); if (fd >= 0) close(fd);
}
static void c_names(void) { matrix(files, calls_names, leave); }

// What is left of set-ID bits and capabilities after a change.
static void calls_kill(void) {
    static const mode_t modes[] = {04755, 02755, 02745, 06777, 06666};
    for (int what = 0; what < 16; what++)
        for (int m = 0; m < 5; m++) {
            // The parent makes the file, as the child may not give capabilities.
            char name[30];
            snprintf(name, sizeof name, "kill.%d.%d", what, m);
            int fd = open(name, O_RDWR);
            int source = open("source", O_RDONLY), pipes[2];
            loff_t at = 0;
            errno = 0;
            long r = -2;
            switch (what) {
            case 0: r = write(fd, "x", 1); break;
            case 1: r = write(fd, "", 0); break;
            case 2: r = syscall(SYS_write, fd, NOWHERE, 5); break;
            case 3: r = ftruncate(fd, 2); break;
            case 4: r = ftruncate(fd, 8); break;
            case 5: close(open(name, O_WRONLY | O_TRUNC)); break;
            case 6: if (pipe(pipes)) break; r = write(pipes[1], "ab", 2); r = splice(pipes[0], 0, fd, &at, 2, 0); close(pipes[0]); close(pipes[1]); break;
            case 7: r = copy_file_range(source, 0, fd, &at, 2, 0); break;
            case 8: r = sendfile(fd, source, &at, 2); break;
            case 9: { char *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); if (map != MAP_FAILED) { *map = 1; r = msync(map, 4096, MS_SYNC); } break; }
            case 10: r = chown(name, -1, -1); break;
            case 11: r = fchmod(fd, modes[m]); break;
            case 12: r = link(name, strcat(strcpy(buf, name), ".hard")); break;
            case 13: r = utimensat(AT_FDCWD, name, 0, 0); break;
            case 14: r = fallocate(fd, 0, 0, 20); break;
            case 15: r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4); break;
            }
            const char *error = r == -1 ? strerrorname_np(errno) : "";
            printf(" %d:%ld%s:%o:%d", what * 10 + m, r, error, mode_of(name), (int)getxattr(name, "security.capability", buf, 100));
            close(fd); close(source);
        }
}
static void kill_files(void) {
    unsigned char cap[20] = {1, 0, 0, 2, 1};
    static const mode_t modes[] = {04755, 02755, 02745, 06777, 06666};
    own_tmpfs();
    chmod(".", 0777);
    file("source", 0, 0, 0644);
    for (int what = 0; what < 16; what++)
        for (int m = 0; m < 5; m++) {
            char name[30];
            snprintf(name, sizeof name, "kill.%d.%d", what, m);
            file(name, USER, m & 1 ? GROUP : USER, modes[m]);
            if (setxattr(name, "security.capability", cap, 20, 0) || chmod(name, modes[m])) die("setxattr");
        }
}
static void c_kill_privileges(void) { some(15, kill_files, calls_kill, leave); }

static void calls_process(void) {
    for (int i = 0; i < victim_count; i++) {
        int pid = victims[i];
        cpu_set_t cpus;
        struct sched_param zero = {0};
        struct rlimit limit;
        P(kill(pid, 0)); P(kill(pid, SIGCONT));
        P(setpriority(PRIO_PROCESS, pid, 5)); P(setpriority(PRIO_PROCESS, pid, 4));
        sched_getaffinity(pid, sizeof cpus, &cpus);
        P(sched_setaffinity(pid, sizeof cpus, &cpus));
        P(sched_setscheduler(pid, SCHED_BATCH, &zero)); P(sched_setparam(pid, &zero)); P(sched_setscheduler(pid, SCHED_OTHER, &zero));
        P(syscall(SYS_ioprio_set, 1, pid, 2 << 13 | 5)); P(syscall(SYS_ioprio_set, 1, pid, 1 << 13 | 5)); P(syscall(SYS_ioprio_get, 1, pid));
        P(prlimit(pid, RLIMIT_CORE, 0, &limit)); limit.rlim_cur = 0; P(prlimit(pid, RLIMIT_CORE, &limit, 0));
        struct iovec here = {buf, 6}, there = {secret, 6};
        P(process_vm_readv(pid, &here, 1, &there, 1, 0)); P(process_vm_writev(pid, &here, 1, &there, 1, 0));
        P(syscall(SYS_kcmp, getpid(), pid, 1, 0, 0));
        void *head; size_t length;
        P(syscall(SYS_get_robust_list, pid, &head, &length));
        int fd = syscall(SYS_pidfd_open, pid, 0);
        F(syscall(SYS_pidfd_getfd, fd, 1, 0)); P(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0)); close(fd);
        P(getpgid(pid)); P(setpgid(pid, 0)); P(syscall(SYS_move_pages, pid, 0, 0, 0, 0, 0));
        uint64_t sets[3]; struct __user_cap_header_struct head3 = {_LINUX_CAPABILITY_VERSION_3, pid}; P(syscall(SYS_capget, &head3, sets));
    }
}
static void c_process(void) { some(20, make_victims, calls_process, end_victims); }

static void calls_proc(void) {
    static const char *names[] = {"environ", "maps", "auxv", "stat", "status", "cmdline", "smaps", "limits", "mountinfo", "cgroup", "oom_score", "timerslack_ns", "fdinfo/0"};
    static const char *links[] = {"exe", "cwd", "root", "fd/0", "ns/net", "ns/user"};
    static const char *written[] = {"comm", "oom_score_adj", "timerslack_ns", "coredump_filter"};
    for (int i = 0; i < victim_count; i++) {
        char path[100];
        struct stat s;
        for (unsigned j = 0; j < sizeof names / sizeof *names; j++) {
            snprintf(path, sizeof path, "/proc/%d/%s", victims[i], names[j]);
            errno = 0;
            int fd = open(path, O_RDONLY), reads = strcmp(names[j], "syscall");
            put(fd < 0 ? -1 : 0);
            if (fd >= 0 && reads) P(read(fd, buf, 10)); else place++;
            close(fd);
        }
        for (unsigned j = 0; j < sizeof links / sizeof *links; j++) {
            snprintf(path, sizeof path, "/proc/%d/%s", victims[i], links[j]);
            P(readlink(path, buf, 100)); P(stat(path, &s));
        }
        for (unsigned j = 0; j < sizeof written / sizeof *written; j++) {
            snprintf(path, sizeof path, "/proc/%d/%s", victims[i], written[j]);
            F(open(path, O_WRONLY));
        }
        snprintf(path, sizeof path, "/proc/%d/fd", victims[i]); F(open(path, O_RDONLY));
        snprintf(path, sizeof path, "/proc/%d/environ", victims[i]); stat(path, &s); V(s.st_uid * 10000l + s.st_gid);
        snprintf(path, sizeof path, "/proc/%d", victims[i]); stat(path, &s); V(s.st_uid * 10000l + s.st_gid);
        snprintf(path, sizeof path, "/proc/%d/oom_score_adj", victims[i]);
        int fd = open(path, O_WRONLY); P(write(fd, "5", 1)); P(write(fd, "-5", 2)); close(fd);
        snprintf(path, sizeof path, "/proc/%d/timerslack_ns", victims[i]);
        fd = open(path, O_RDWR); P(read(fd, buf, 10)); P(write(fd, "50000", 5)); close(fd);
    }
}
static void c_proc(void) { some(14, make_victims, calls_proc, end_victims); }

// --- one's own identity --------------------------------------------------------------------------

static void show_identity(void) {
    uid_t r, e, s; gid_t a, b, c;
    uint64_t sets[3];
    getresuid(&r, &e, &s); getresgid(&a, &b, &c); caps_get(sets);
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    struct rlimit stack;
    getrlimit(RLIMIT_STACK, &stack);
    printf(" [%d %d %d %d %d %d %d %d caps %lx %lx %lx ambient", (int)r, (int)e, (int)s, (int)setfsuid(-1), (int)a, (int)b, (int)c, (int)setfsgid(-1), (long)sets[0], (long)sets[1], (long)sets[2]);
    for (int i = 0; i <= 40; i++) if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) printf(" %d", i);
    printf(" secure %ld dumpable %d death %d bits %x stack %ld persona %x]", (long)getauxval(AT_SECURE), prctl(PR_GET_DUMPABLE), death, prctl(PR_GET_SECUREBITS), (long)(stack.rlim_cur >> 20),
           (int)syscall(SYS_personality, 0xffffffff));
}
__attribute__((constructor)) static void shown(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "show")) { show_identity(); fflush(stdout); _exit(0); }
}

static void apart(void (*run)(int), int which) {
    fflush(stdout);
    int pid = fork();
    if (!pid) { run(which); show_identity(); fflush(stdout); _exit(0); }
    waitpid(pid, 0, 0);
}
static int pivot_root_here(void) { return syscall(SYS_pivot_root, "w", "w"); }
static void change(int which) {
    gid_t groups[] = {GROUP, USER};
    place = which;
    switch (which) {
    case 0: P(setuid(USER)); break;
    case 1: P(setuid(0)); break;
    case 2: P(setgid(USER)); break;
    case 3: P(setgid(GROUP)); break;
    case 4: P(setreuid(USER, OTHER)); break;
    case 5: P(setreuid(-1, 0)); break;
    case 6: P(setreuid(0, -1)); break;
    case 7: P(setresuid(USER, USER, OTHER)); break;
    case 8: P(setresuid(-1, USER, -1)); break;
    case 9: P(setresgid(-1, GROUP, -1)); break;
    case 10: P(setregid(USER, GROUP)); break;
    case 11: V(setfsuid(OTHER)); break;
    case 12: V(setfsgid(OTHER)); break;
    case 13: P(setgroups(2, groups)); break;
    case 14: P(setgroups(0, groups)); break;
    case 15: P(caps_set(0, 0, 0)); break;
    case 16: P(caps_set(1, 1, 0)); break;
    case 17: P(caps_set(1, 1, 1)); break;
    case 18: P(caps_set(0, 0, 1ull << CAP_SYS_RESOURCE)); break;
    case 19: P(prctl(PR_CAPBSET_DROP, CAP_CHOWN, 0, 0, 0)); break;
    case 20: P(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0)); break;
    case 21: P(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_KEEP_CAPS_LOCKED, 0, 0, 0)); P(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0)); break;
    case 22: P(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)); P(setresuid(USER, USER, USER)); break;
    case 23: P(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)); P(setresuid(USER, USER, USER)); break;
    case 24: P(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0)); break;
    case 25: caps_set(1, 1, 1); P(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0)); P(setuid(USER)); break;
    case 26: P(prctl(PR_SET_MM, 1, 0x10000, 0, 0)); P(prctl(PR_SET_MM, 0, 0, 0, 0)); P(prctl(PR_SET_MM, 1, 0, 1, 1)); break;
    case 27: P(prctl(PR_SET_DUMPABLE, 2, 0, 0, 0)); P(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); P(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0)); break;
    case 28: P(chroot("/")); P(chroot("/proc")); break;
    case 29: P(nice(-1)); P(setpriority(PRIO_PROCESS, 0, -1)); break;
    case 30: { struct sched_param one = {1}; P(sched_setscheduler(0, SCHED_FIFO, &one)); P(sched_setscheduler(0, SCHED_RR | 0x40000000, &one)); break; }
    case 31: { struct rlimit more = {1 << 21, 1 << 21}; P(setrlimit(RLIMIT_NOFILE, &more)); break; }
    case 32: P(sethostname("x", 1)); P(setdomainname("x", 1)); break;
    case 33: P(unshare(CLONE_NEWUTS)); P(unshare(CLONE_NEWIPC)); P(unshare(CLONE_NEWNET)); P(unshare(CLONE_NEWPID)); P(unshare(CLONE_NEWNS)); P(unshare(CLONE_NEWCGROUP)); break;
    case 34: P(mount("x", "w", "tmpfs", 0, 0)); P(umount("w")); P(mount(0, ".", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0)); P(mount(0, ".", 0, MS_REMOUNT | MS_BIND, 0)); break;
    case 35: P(mount("x", "w", "proc", 0, 0)); P(mount("x", "w", "nonsense", 0, 0)); P(pivot_root_here()); break;
    case 36: F(open("/proc/self/ns/uts", O_RDONLY)); { int fd = open("/proc/self/ns/uts", O_RDONLY); P(setns(fd, 0)); close(fd); fd = open("/proc/self/ns/user", O_RDONLY); P(setns(fd, 0)); } break;
    case 37: P(mlockall(MCL_CURRENT)); break;
    case 38: P(unshare(CLONE_NEWUSER)); break;
    }
}
static void in_own_places(void) { if (unshare(CLONE_NEWUTS | CLONE_NEWIPC)) die("unshare"); own_tmpfs(); directory("w", 0, 0, 0755); }
static void calls_change(void) { for (int i = 0; i <= 38; i++) { printf("\n  %d", i); apart(change, i); } }
static void c_change(void) { some(7, in_own_places, calls_change, leave); }

// --- programs ------------------------------------------------------------------------------------

static const char *programs[] = {"plain", "suid_root", "suid_other", "sgid", "sgid_lock", "suid_sgid", "caps", "caps_lazy", "caps_admin", "suid_caps", "unreadable", "suid_user"};
static void copy_self(const char *name, uid_t uid, gid_t gid, mode_t mode, const unsigned char *cap) {
    int from = open("/proc/self/exe", O_RDONLY), to = open(name, O_CREAT | O_WRONLY, 0700);
    while (sendfile(to, from, 0, 1 << 20) > 0) {}
    if (fchown(to, uid, gid) || fchmod(to, mode)) die(name);
    if (cap && (fsetxattr(to, "security.capability", cap, 20, 0) || fchmod(to, mode))) die("setxattr");
    close(from); close(to);
}
static void make_programs(int how) {
    unsigned char bind[20] = {1, 0, 0, 2, 0, 4, 0, 0}, lazy[20] = {0, 0, 0, 2, 0, 4, 0, 0, 0, 4}, resource[20] = {1, 0, 0, 2, 0, 0, 0, 1};
    own_tmpfs();
    copy_self("plain", 0, 0, 0755, 0);
    copy_self("suid_root", 0, 0, 04755, 0);
    copy_self("suid_other", OTHER, OTHER, 04755, 0);
    copy_self("sgid", 0, GROUP, 02755, 0);
    copy_self("sgid_lock", 0, GROUP, 02745, 0);
    copy_self("suid_sgid", OTHER, GROUP, 06755, 0);
    copy_self("caps", 0, 0, 0755, bind);
    copy_self("caps_lazy", 0, 0, 0755, lazy);
    copy_self("caps_admin", 0, 0, 0755, resource);
    copy_self("suid_caps", 0, 0, 04755, bind);
    copy_self("unreadable", OTHER, OTHER, 0711, 0);
    copy_self("suid_user", USER, USER, 04755, 0);
    if (how == 5 && mount(0, ".", 0, MS_REMOUNT | MS_BIND | MS_NOSUID, 0)) die("remount");
}
static char stack[65536];
static const char *program;
static int run_program(void *unused) { (void)unused; execl(program, program, "show", (char *)0); printf(" exec:%s", strerrorname_np(errno)); fflush(stdout); _exit(1); }
static int how;
static void calls_programs(void) {
    for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++) {
        printf("\n  %s", programs[i]);
        fflush(stdout);
        program = programs[i];
        int pid = fork();
        if (!pid) {
            prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0);
            struct rlimit stack_limit;
            getrlimit(RLIMIT_STACK, &stack_limit);
            stack_limit.rlim_cur = 32 << 20;
            setrlimit(RLIMIT_STACK, &stack_limit);
            switch (how) {
            case 1: prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); break;
            case 2: prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0); syscall(SYS_personality, 0x0040000); break;
            case 3: { uint64_t sets[3]; caps_get(sets); caps_set(sets[0], sets[1], sets[1]); for (int i = 0; i <= 40; i += 5) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0); break; }
            case 4: prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0); break;
            case 6: prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); setfsuid(OTHER); break;
            }
            if (how == 7 || how == 8) {
                // Somebody else can change where the program's paths lead (7), or has the same descriptors
                // (8).
                int child = clone(run_program, stack + sizeof stack, (how == 7 ? CLONE_FS : CLONE_FILES) | SIGCHLD, 0);
                waitpid(child, 0, 0);
                _exit(0);
            }
            run_program(0);
        }
        waitpid(pid, 0, 0);
    }
}
static void programs_how(unsigned count, int which) { how = which; make_programs(which); some(count, 0, calls_programs, 0); leave(); }
static void c_programs(void) { programs_how(SHORT, 0); }
static void c_programs_no_new_privs(void) { programs_how(SHORT, 1); }
static void c_programs_kept(void) { programs_how(FEW, 2); }
static void c_programs_ambient(void) { programs_how(FEW, 3); }
static void c_programs_without_root(void) { programs_how(FEW, 4); }
static void c_programs_nosuid(void) { programs_how(FEW, 5); }
static void c_programs_hidden(void) { programs_how(FEW, 6); }
static void c_programs_shared_context(void) { programs_how(SHORT, 7); }
static void c_programs_shared_files(void) { programs_how(FEW, 8); }

// Descriptors that are closed at an exec stay open for others who had the same table.
static void c_exec_shared_files(void) {
    int fd = open("/", O_RDONLY | O_CLOEXEC), kept = open("/", O_RDONLY);
    program = "/proc/self/exe";
    for (int flags = 0; flags < 4; flags++) {
        fflush(stdout);
        int pid = syscall(SYS_clone, (flags & 1 ? CLONE_FILES : 0) | (flags & 2 ? CLONE_FS : 0) | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
        if (!pid) { close(flags); execl(program, program, "list", (char *)0); _exit(1); }
        waitpid(pid, 0, 0);
        printf("%d %d %d %d\n", flags, fcntl(fd, F_GETFD), fcntl(kept, F_GETFD), fcntl(flags, F_GETFD));
    }
}

// --- IPC -----------------------------------------------------------------------------------------

static int shm_ids[4], sem_ids[4], msg_ids[4];
static const uid_t ipc_owners[] = {0, USER, OTHER, OTHER};
static void make_ipc(void) {
    if (unshare(CLONE_NEWIPC)) die("unshare");
    for (int i = 0; i < 4; i++) {
        int mode = i == 3 ? 0666 : 0600;
        shm_ids[i] = shmget(IPC_PRIVATE, 4096, IPC_CREAT | mode);
        sem_ids[i] = semget(IPC_PRIVATE, 1, IPC_CREAT | mode);
        msg_ids[i] = msgget(IPC_PRIVATE, IPC_CREAT | mode);
        struct shmid_ds shm; shmctl(shm_ids[i], IPC_STAT, &shm); shm.shm_perm.uid = shm.shm_perm.gid = ipc_owners[i]; shmctl(shm_ids[i], IPC_SET, &shm);
        struct semid_ds sem; semctl(sem_ids[i], 0, IPC_STAT, &sem); sem.sem_perm.uid = sem.sem_perm.gid = ipc_owners[i]; semctl(sem_ids[i], 0, IPC_SET, &sem);
        struct msqid_ds msg; msgctl(msg_ids[i], IPC_STAT, &msg); msg.msg_perm.uid = msg.msg_perm.gid = ipc_owners[i]; msgctl(msg_ids[i], IPC_SET, &msg);
    }
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 1};
    umask(0);
    setfsgid(OTHER); setfsuid(OTHER);
    mq_open("/other", O_CREAT | O_RDWR, 0600, &attr);
    setfsuid(0); setfsgid(0);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    mq_open("/all", O_CREAT | O_RDWR, 0666, &attr);
}
static void calls_ipc(void) {
    for (int i = 0; i < 4; i++) {
        struct shmid_ds shm; struct semid_ds sem; struct msqid_ds msg;
        struct sembuf up = {0, 1, IPC_NOWAIT}; struct { long type; char text[1]; } message = {1, "x"};
        void *at = shmat(shm_ids[i], 0, 0); P(at == (void *)-1 ? -1 : 0); if (at != (void *)-1) shmdt(at);
        at = shmat(shm_ids[i], 0, SHM_RDONLY); P(at == (void *)-1 ? -1 : 0); if (at != (void *)-1) shmdt(at);
        P(shmctl(shm_ids[i], IPC_STAT, &shm)); P(shmctl(shm_ids[i], SHM_LOCK, 0)); P(shmctl(shm_ids[i], SHM_STAT, &shm)); P(semop(sem_ids[i], &up, 1)); P(semctl(sem_ids[i], 0, GETVAL)); P(semctl(sem_ids[i], 0, SETVAL, 1));
        P(semctl(sem_ids[i], 0, IPC_STAT, &sem)); P(msgsnd(msg_ids[i], &message, 1, IPC_NOWAIT)); P(msgrcv(msg_ids[i], &message, 1, 0, IPC_NOWAIT)); P(msgctl(msg_ids[i], IPC_STAT, &msg));
        P(shmctl(shm_ids[i], IPC_RMID, 0)); P(semctl(sem_ids[i], 0, IPC_RMID)); P(msgctl(msg_ids[i], IPC_RMID, 0));
    }
    F(mq_open("/other", O_RDONLY)); F(mq_open("/other", O_RDWR)); F(mq_open("/all", O_RDWR)); P(mq_unlink("/other")); P(mq_unlink("/all"));
    F(mq_open("/new", O_CREAT | O_RDWR, 0600, 0)); P(mq_unlink("/new"));
}
static void c_ipc(void) { matrix(make_ipc, calls_ipc, 0); }

// --- sockets -------------------------------------------------------------------------------------

static int pair[2], listener;
static void make_sockets(void) {
    own_tmpfs();
    chmod(".", 0777);
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) die("socketpair");
    int one = 1;
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {AF_UNIX, "closed"};
    bind(listener, (void *)&name, sizeof name); listen(listener, 5); chmod("closed", 0600); chown("closed", OTHER, OTHER);
}
static int claim(int pid, int uid, int gid) {
    char control[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct iovec byte = {"x", 1};
    struct msghdr head = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *part = CMSG_FIRSTHDR(&head);
    part->cmsg_level = SOL_SOCKET; part->cmsg_type = SCM_CREDENTIALS; part->cmsg_len = CMSG_LEN(sizeof(struct ucred));
    struct ucred cred = {pid ? pid : getpid(), uid, gid};
    memcpy(CMSG_DATA(part), &cred, sizeof cred);
    return sendmsg(pair[0], &head, MSG_DONTWAIT);
}
static void calls_sockets(void) {
    static const int ids[] = {0, USER, OTHER, GROUP, 65534, -1};
    for (int u = 0; u < 6; u++) for (int g = 0; g < 6; g++) { P(claim(0, ids[u], ids[g])); recv(pair[1], buf, 1, MSG_DONTWAIT); }
    P(claim(getppid(), getuid(), getgid())); P(claim(99999999, getuid(), getgid()));
    struct sockaddr_un name = {AF_UNIX, "closed"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    P(connect(fd, (void *)&name, sizeof name)); close(fd);
    P(fcntl(pair[0], F_SETOWN, getppid())); P(fcntl(pair[0], F_SETOWN, -getpgrp()));
    int big = 1 << 24;
    P(setsockopt(pair[0], SOL_SOCKET, 32, &big, sizeof big)); P(setsockopt(pair[0], SOL_SOCKET, SO_PRIORITY, &big, sizeof big));
}
static void c_sockets(void) { matrix(make_sockets, calls_sockets, leave); }

// Names that are no files' belong to a network namespace.
static void c_abstract(void) {
    begin();
    struct sockaddr_un name = {AF_UNIX, "\0varve-privileges"};
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 17;
    int here = socket(AF_UNIX, SOCK_STREAM, 0), datagrams = socket(AF_UNIX, SOCK_DGRAM, 0), old = socket(AF_UNIX, SOCK_STREAM, 0), old2 = socket(AF_UNIX, SOCK_STREAM, 0);
    own_tmpfs();
    T(bind(here, (void *)&name, length)); T(listen(here, 5)); T(bind(datagrams, (void *)&name, length));
    struct sockaddr_un path = {AF_UNIX, "path"};
    int file = socket(AF_UNIX, SOCK_STREAM, 0); bind(file, (void *)&path, sizeof path); listen(file, 5);
    fflush(stdout);
    if (!fork()) {
        T(unshare(CLONE_NEWNET));
        int fd = socket(AF_UNIX, SOCK_STREAM, 0), to = socket(AF_UNIX, SOCK_DGRAM, 0);
        T(connect(fd, (void *)&name, length)); T(sendto(to, "x", 1, 0, (void *)&name, length));
        // A socket keeps the namespace it was made in.
        T(connect(old, (void *)&name, length));
        T(bind(old2, (void *)&name, length));
        T(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&path, sizeof path));
        T(bind(fd, (void *)&name, length)); T(listen(fd, 5)); T(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, length));
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    T(connect(old2, (void *)&name, length));
    leave();
}

// --- namespaces of users -------------------------------------------------------------------------

// Files that nobody's number can own.
static void c_unmapped(void) {
    for (int mapped = 0; mapped < 2; mapped++) {
        fflush(stdout);
        if (!fork()) {
            begin();
            become(USER, USER, USER, USER);
            prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
            mkdir("w", 0755);
            if (mapped) user_namespace(USER); else if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) die("unshare");
            // Where the caller can make files natively, too.
            T(mount("w", "/proc/sys/fs", "tmpfs", 0, "mode=777"));
            T(chdir("/proc/sys/fs"));
            T(mkdir("d", 0755)); T(mknod("f", S_IFIFO | 0644, 0)); T(symlink("x", "l")); T(open("o", O_CREAT | O_RDWR, 0644) >= 0 ? 0 : -1);
            T(mknod("c", S_IFCHR | 0644, 0x103)); T(mknod("n", S_IFCHR | 0644, 0)); T(open(".", O_TMPFILE | O_RDWR, 0644) >= 0 ? 0 : -1);
            struct sockaddr_un path = {AF_UNIX, "path"};
            T(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&path, sizeof path));
            T(link("f", "g")); T(rename("f", "h")); T(mkdir("d", 0755));
            T(setxattr(".", "user.a", "1", 1, 0)); T(setxattr(".", "trusted.a", "1", 1, 0)); T(setxattr(".", "security.a", "1", 1, 0));
            T(chown(".", 0, 0)); T(chown(".", 5, -1)); T(chmod(".", 02777)); T(unshare(CLONE_NEWIPC)); T(mq_open("/q", O_CREAT | O_RDWR, 0600, 0) >= 0 ? 0 : -1);
            fflush(stdout);
            _exit(0);
        }
        wait(0);
    }
    rmdir("w");
}

#define CASES(X) X(open) X(owner) X(mode) X(xattr) X(names) X(kill_privileges) X(process) X(proc) X(change) X(programs) X(programs_no_new_privs) X(programs_kept) \
    X(programs_ambient) X(programs_without_root) X(programs_nosuid) X(programs_hidden) X(programs_shared_context) X(programs_shared_files) X(exec_shared_files) \
    X(ipc) X(sockets) X(abstract) X(unmapped)
#include "main.h"
