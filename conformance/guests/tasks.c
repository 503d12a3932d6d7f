// Cases of processor time, scheduling, identity and seccomp; see guest.h.
#include "guest.h"
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/timex.h>

#define MS 1000000
#define S(...) syscall(__VA_ARGS__)
static void nap(int ms) { struct timespec t = {0, ms * MS}; while (nanosleep(&t, &t)) {} }
static pid_t start(void) { fflush(stdout); return fork(); }
static void ended(pid_t p) { int st; if (waitpid(p, &st, 0) != p) puts("gone"); else if (WIFSIGNALED(st)) printf("killed by %d\n", WTERMSIG(st)); else printf("exit %d\n", WEXITSTATUS(st)); }
static int64_t on(clockid_t c) { struct timespec t = {0}; if (clock_gettime(c, &t)) return -1; return t.tv_sec * 1000000000ll + t.tv_nsec; }
static void burn(int ms) { int64_t end = on(CLOCK_THREAD_CPUTIME_ID) + ms * MS; while (on(CLOCK_THREAD_CPUTIME_ID) < end) {} }
// The rest of a case happens in a child, so that its parent is not like it.
#define CHILD() do { pid_t p_ = start(); if (p_) { ended(p_); return; } } while (0)
static volatile int got, stop; static void count(int s) { got++; }
static void *spins(void *p) { while (!stop) {} return 0; }

// A busy machine may keep a thread that the sandbox takes for running: what must not take time is tried
// until it took none.
static void c_clocks(void) {
    clockid_t c; T(clock_getcpuclockid(0, &c)); T(on(c) > 0); T(clock_getcpuclockid(getpid(), &c)); T(on(c) > 0); T(clock_getcpuclockid(999999, &c)); T(on(-1)); T(on((~999999 << 3) | 2)); T(on((~0 << 3) | 6) > 0); struct timespec t = {1, 0}; T(clock_settime(CLOCK_PROCESS_CPUTIME_ID, &t)); T(clock_settime(CLOCK_MONOTONIC, &t)); T(clock_getres(CLOCK_PROCESS_CPUTIME_ID, &t)); T(t.tv_nsec);
    int64_t a = 0, slept = 25 * MS; for (int i = 0; i < 50 && slept >= 25 * MS; i++) { a = on(CLOCK_PROCESS_CPUTIME_ID); nap(30); slept = on(CLOCK_PROCESS_CPUTIME_ID) - a; } T(slept < 25 * MS); a = on(CLOCK_PROCESS_CPUTIME_ID); burn(10); T(on(CLOCK_PROCESS_CPUTIME_ID) - a >= 10 * MS); pthread_t h; pthread_create(&h, 0, spins, 0); a = on(CLOCK_PROCESS_CPUTIME_ID); struct timespec rest = {0, 10 * MS}; T(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &rest, 0)); T(on(CLOCK_PROCESS_CPUTIME_ID) - a >= 10 * MS); T(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &rest, 0)); stop = 1; pthread_join(h, 0);
    pid_t p = start(); if (!p) { burn(20); _exit(0); } struct rusage u; wait4(p, 0, 0, &u); T(u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec >= 19000); getrusage(RUSAGE_CHILDREN, &u); T(u.ru_utime.tv_usec + u.ru_stime.tv_usec >= 19000); struct tms m; times(&m); T(m.tms_cutime + m.tms_cstime >= 1); T(getrusage(7, &u)); T(getrusage(RUSAGE_THREAD, &u));
}
static void c_cpu_timers(void) {
    struct itimerval t = {{0, 0}, {0, 100000}}, o; signal(SIGVTALRM, count); signal(SIGPROF, count); for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) { got = 0; T(setitimer(which, &t, 0)); nap(150); T(got); while (!got) {} T(getitimer(which, &o)); T(o.it_value.tv_usec); t.it_interval.tv_usec = 5000; setitimer(which, &t, 0); while (got < 4) {} t.it_interval.tv_usec = 0; struct itimerval off = {0}; T(setitimer(which, &off, &o)); T(o.it_interval.tv_usec); } T(setitimer(3, &t, 0)); T(getitimer(3, &o));
    timer_t id; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1}; signal(SIGUSR1, count); clockid_t all[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID}; for (int i = 0; i < 2; i++) { got = 0; T(timer_create(all[i], &e, &id)); struct itimerspec s = {{0, 0}, {0, 100 * MS}}; T(timer_settime(id, 0, &s, 0)); nap(150); T(got); while (!got) {} T(timer_gettime(id, &s)); T(s.it_value.tv_nsec); T(timer_delete(id)); } T(timer_create((~999999 << 3) | 2, &e, &id)); T(timer_create(-3, &e, &id));
}
static void c_cpu_limit(void) {
    pid_t p = start(); if (!p) { struct rlimit l = {1, 2}; T(setrlimit(RLIMIT_CPU, &l)); signal(SIGXCPU, count); while (!got) {} getrlimit(RLIMIT_CPU, &l); printf("%ld %ld\n", (long)l.rlim_cur, (long)l.rlim_max); fflush(stdout); l.rlim_cur = 0; T(setrlimit(RLIMIT_CPU, &l)); fflush(stdout); got = 0; while (!got) {} l.rlim_cur = l.rlim_max = 1; setrlimit(RLIMIT_CPU, &l); for (;;) {} } ended(p); p = start(); if (!p) { struct rlimit l = {0, RLIM_INFINITY}; setrlimit(RLIMIT_CPU, &l); for (;;) {} } ended(p);
}
static void c_scheduling(void) {
    int all[] = {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR, SCHED_DEADLINE, 4, 99, -1}; CHILD(); if (setresuid(77, 77, 77)) perror("setresuid"); for (int i = 0; i < 9; i++) { struct sched_param p = {0}; T(sched_setscheduler(0, all[i], &p)); T(sched_getscheduler(0)); p.sched_priority = 5; T(sched_setscheduler(0, all[i], &p)); T(sched_setparam(0, &p)); T(sched_get_priority_max(all[i])); T(sched_get_priority_min(all[i])); }
    struct sched_param p = {0}; T(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &p)); T(sched_getscheduler(0)); pid_t c = start(); if (!c) { T(sched_getscheduler(0)); fflush(stdout); _exit(0); } ended(c); T(sched_setscheduler(0, SCHED_OTHER, &p)); T(sched_setscheduler(999999, SCHED_OTHER, &p)); T(sched_setscheduler(-1, SCHED_OTHER, &p)); T(sched_setscheduler(0, SCHED_OTHER, 0)); T(sched_setparam(0, 0)); T(sched_getparam(0, &p)); T(p.sched_priority); T(sched_getparam(999999, &p)); T(sched_getparam(-1, &p)); T(sched_setscheduler(getppid(), SCHED_OTHER, &p));
    struct timespec t = {9, 9}; T(sched_rr_get_interval(0, &t)); T(sched_rr_get_interval(999999, &t)); T(sched_rr_get_interval(-1, &t));
    errno = 0; T(getpriority(PRIO_PROCESS, 0)); T(setpriority(PRIO_PROCESS, 0, 5)); T(getpriority(PRIO_PROCESS, 0)); T(setpriority(PRIO_PROCESS, 0, 4)); T(setpriority(PRIO_PROCESS, 0, 50)); T(getpriority(PRIO_PROCESS, 0)); T(getpriority(PRIO_PROCESS, 999999)); T(setpriority(PRIO_PROCESS, 999999, 1)); T(setpriority(9, 0, 1)); T(getpriority(9, 0)); T(setpriority(PRIO_PROCESS, getppid(), 19)); c = start(); if (!c) { T(getpriority(PRIO_PROCESS, 0)); fflush(stdout); _exit(0); } ended(c); T(getpriority(PRIO_USER, 77)); T(getpriority(PRIO_USER, 12345)); T(nice(1));
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; uint32_t min, max; } a = {0}; T(S(SYS_sched_getattr, 0, &a, sizeof a, 0)); printf("%u %u %lu %d %u\n", a.size, a.policy, (long)a.flags, a.nice, a.priority); T(S(SYS_sched_getattr, 0, &a, 47, 0)); T(S(SYS_sched_getattr, 0, &a, 48, 0)); printf("%u\n", a.size); T(S(SYS_sched_getattr, 0, &a, sizeof a, 1)); T(S(SYS_sched_getattr, 999999, &a, sizeof a, 0)); T(S(SYS_sched_getattr, 0, 0, sizeof a, 0)); T(S(SYS_sched_getattr, 0, &a, 5000, 0));
    a.size = 48; a.policy = SCHED_BATCH; a.flags = 0; a.nice = 19; T(S(SYS_sched_setattr, 0, &a, 0)); T(sched_getscheduler(0)); a.nice = 0; T(S(SYS_sched_setattr, 0, &a, 0)); a.policy = SCHED_FIFO; a.priority = 1; T(S(SYS_sched_setattr, 0, &a, 0)); a.policy = 77; T(S(SYS_sched_setattr, 0, &a, 0)); a.policy = 0; a.priority = 0; a.nice = 19; a.flags = 1ull << 40; T(S(SYS_sched_setattr, 0, &a, 0)); a.flags = 0; T(S(SYS_sched_setattr, 0, &a, 1)); T(S(SYS_sched_setattr, 0, 0, 0)); a.size = 10; T(S(SYS_sched_setattr, 0, &a, 0)); printf("%u\n", a.size); a.size = 0; T(S(SYS_sched_setattr, 0, &a, 0));
}
static void c_nice_limit(void) { struct rlimit l = {15, 20}; T(setrlimit(RLIMIT_NICE, &l)); T(setresuid(77, 77, 77)); T(setpriority(PRIO_PROCESS, 0, 10)); T(setpriority(PRIO_PROCESS, 0, 5)); T(setpriority(PRIO_PROCESS, 0, 4)); T(getpriority(PRIO_PROCESS, 0)); }
static void c_io_priority(void) {
    CHILD(); T(S(SYS_ioprio_get, 1, 0)); T(S(SYS_ioprio_set, 1, 0, 2 << 13 | 3)); T(S(SYS_ioprio_get, 1, 0)); pid_t c = start(); if (!c) { T(S(SYS_ioprio_get, 1, 0)); fflush(stdout); _exit(0); } ended(c); T(S(SYS_ioprio_set, 1, 0, 3 << 13)); T(S(SYS_ioprio_get, 1, 0)); T(S(SYS_ioprio_set, 1, 0, 2 << 13 | 8)); T(S(SYS_ioprio_set, 1, 0, 5 << 13)); T(S(SYS_ioprio_set, 1, 0, 1)); T(S(SYS_ioprio_set, 1, 0, 0)); T(S(SYS_ioprio_get, 1, 0)); T(S(SYS_ioprio_get, 4, 0)); T(S(SYS_ioprio_get, 1, 999999)); T(S(SYS_ioprio_set, 1, 999999, 2 << 13)); T(S(SYS_ioprio_set, 9, 0, 2 << 13)); T(setresuid(77, 77, 77)); T(S(SYS_ioprio_set, 1, 0, 1 << 13 | 4)); T(S(SYS_ioprio_set, 1, getppid(), 2 << 13 | 4));
}
static void c_affinity(void) {
    CHILD(); cpu_set_t s; CPU_ZERO(&s); T(sched_getaffinity(0, sizeof s, &s)); T(CPU_COUNT(&s) >= 1); T(sched_getaffinity(0, 4, &s)); T(sched_getaffinity(0, 9, &s)); T(sched_getaffinity(999999, sizeof s, &s)); cpu_set_t one; CPU_ZERO(&one); CPU_SET(0, &one); T(sched_setaffinity(0, sizeof one, &one)); CPU_ZERO(&s); T(sched_getaffinity(0, sizeof s, &s)); T(CPU_COUNT(&s)); T(sched_getcpu()); unsigned cpu = 9, node = 9; T(S(SYS_getcpu, &cpu, &node, 0)); printf("%u %u\n", cpu, node); pid_t c = start(); if (!c) { CPU_ZERO(&s); sched_getaffinity(0, sizeof s, &s); T(CPU_COUNT(&s)); fflush(stdout); _exit(0); } ended(c); CPU_ZERO(&s); T(sched_setaffinity(0, sizeof s, &s)); CPU_SET(1000, &s); T(sched_setaffinity(0, sizeof s, &s)); T(S(SYS_sched_setaffinity, 0, 8, 8)); T(S(SYS_sched_setaffinity, 0, 0, &s)); T(S(SYS_getcpu, 8, 0, 0)); setresuid(77, 77, 77); T(sched_setaffinity(getppid(), sizeof one, &one));
}
static void c_nproc_limit(void) {
    struct rlimit l = {3, 3}; T(setrlimit(RLIMIT_NPROC, &l)); T(setresuid(7707, 7707, 7707)); pid_t c[5]; for (int i = 0; i < 5; i++) { c[i] = start(); if (!c[i]) { for (;;) pause(); } printf("%d %s\n", c[i] > 0, c[i] > 0 ? "" : strerrorname_np(errno)); } for (int i = 0; i < 5; i++) if (c[i] > 0) { kill(c[i], SIGKILL); ended(c[i]); }
}
static void ids(void) { uid_t a, b, c; gid_t d, e, f; getresuid(&a, &b, &c); getresgid(&d, &e, &f); printf("%d %d %d fs %d, %d %d %d fs %d\n", a, b, c, setfsuid(-1), d, e, f, setfsgid(-1)); }
static void caps(void) { struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0}; struct __user_cap_data_struct d[2] = {0}; S(SYS_capget, &h, d); printf("chown %d%d%d setuid %d%d%d\n", d[0].permitted & 1, d[0].effective & 1, d[0].inheritable & 1, d[0].permitted >> 7 & 1, d[0].effective >> 7 & 1, d[0].inheritable >> 7 & 1); }
static void c_set_ids(void) {
    ids(); caps(); T(setresgid(1, 2, 3)); ids(); T(setregid(-1, 1)); T(setgid(4)); ids(); T(setfsuid(50)); caps(); ids(); T(setfsuid(0)); caps(); T(setreuid(5, 6)); ids(); caps(); T(setuid(7)); T(setreuid(6, 5)); ids(); T(setresuid(5, 5, 5)); T(setresuid(0, -1, -1)); T(setuid(0)); T(setgid(0)); T(setfsuid(0)); T(setfsgid(9)); gid_t g[3] = {1, 2, 3}; T(setgroups(3, g)); T(getgroups(0, 0)); T(setuid(-1)); T(prctl(PR_GET_DUMPABLE));
}
static void c_capabilities(void) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0}, old = {12345, 0}, one = {_LINUX_CAPABILITY_VERSION_1, 0}; struct __user_cap_data_struct d[2]; T(S(SYS_capget, &h, d)); T(S(SYS_capget, &old, d)); printf("%x\n", old.version); old.version = 1; T(S(SYS_capget, &old, 0)); T(S(SYS_capget, &one, d)); h.pid = 999999; T(S(SYS_capget, &h, d)); h.pid = -1; T(S(SYS_capget, &h, d)); h.pid = 0; T(S(SYS_capget, &h, 0)); T(S(SYS_capget, 0, 0));
    S(SYS_capget, &h, d); d[0].inheritable = 1; d[1].inheritable = 0; T(S(SYS_capset, &h, d)); caps(); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 7, 0, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0)); T(prctl(PR_CAPBSET_DROP, 7)); T(prctl(PR_CAPBSET_READ, 7)); T(prctl(PR_CAPBSET_DROP, 70)); d[0].permitted &= ~1; d[0].effective &= ~1; T(S(SYS_capset, &h, d)); caps(); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0)); d[0].permitted |= 1; T(S(SYS_capset, &h, d)); d[0].permitted &= ~1; d[0].effective |= 1; T(S(SYS_capset, &h, d)); h.pid = 1; T(S(SYS_capset, &h, d));
    T(prctl(PR_SET_SECUREBITS, 1 << 4)); T(prctl(PR_GET_KEEPCAPS)); T(prctl(PR_SET_KEEPCAPS, 0)); T(prctl(PR_GET_SECUREBITS)); T(prctl(PR_SET_SECUREBITS, 3 << 4)); T(prctl(PR_SET_KEEPCAPS, 0)); T(prctl(PR_SET_SECUREBITS, 1 << 4)); T(prctl(PR_SET_SECUREBITS, 3 << 4 | 1 << 30)); T(prctl(PR_SET_SECUREBITS, 3 << 4 | 1)); pid_t c = start(); if (!c) { execl("/proc/self/exe", "cases", "show", (char *)0); _exit(9); } ended(c);
}
static void c_show(void) { ids(); caps(); printf("%d %d %d\n", prctl(PR_GET_SECUREBITS), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE)); fflush(stdout); _exit(0); }
static void copy_self(const char *to) { int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_CREAT | O_WRONLY, 0755); long n; while ((n = read(in, buf, sizeof buf)) > 0) write(out, buf, n); close(in); close(out); }
static void c_set_id_programs(void) {
    chmod(".", 0777); copy_self("x"); for (int nnp = 0; nnp < 2; nnp++) { int modes[] = {0755, 04755, 02755, 06755, 02745}; for (int i = 0; i < 5; i++) { chown("x", i % 2 ? 0 : 50, 60); chmod("x", modes[i]); pid_t c = start(); if (!c) { setgroups(0, 0); setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000); if (nnp) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); execl("./x", "x", "show", (char *)0); _exit(9); } ended(c); } }
    chown("x", 0, 0); chmod("x", 0755); struct { uint32_t magic, p0, i0, p1, i1; } v = {0x02000001, 1, 0, 0, 0}; T(setxattr("x", "security.capability", &v, sizeof v, 0)); for (int i = 0; i < 3; i++) { pid_t c = start(); if (!c) { if (i < 2) { setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000); } if (i == 1) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); execl("./x", "x", "show", (char *)0); _exit(9); } ended(c); } unlink("x");
}
static void c_personality(void) { T(personality(-1)); struct utsname u; T(personality(PER_LINUX32)); uname(&u); puts(u.machine); T(personality(PER_LINUX | ADDR_NO_RANDOMIZE)); T(personality(-1)); pid_t c = start(); if (!c) { execl("/proc/self/exe", "cases", "places", (char *)0); _exit(9); } ended(c); T(personality(0)); }
static void c_places(void) { pid_t c = start(); if (!c) { char text[3][100]; FILE *f = fopen("/proc/self/maps", "r"); char line[300]; unsigned long at = 0; while (fgets(line, 300, f)) if (strstr(line, "[stack]")) { char *e; strtoul(line, &e, 16); at = strtoul(e + 1, 0, 16); } printf("%d\n", personality(-1)); fflush(stdout); _exit(at % 4096); } ended(c); fflush(stdout); _exit(0); }
static void c_refused(void) {
    // What an ordinary user gets.
    setresgid(77, 77, 77); setresuid(77, 77, 77); struct timex x = {0}; T(adjtimex(&x) >= 0); T(x.tick); x.modes = ADJ_OFFSET; T(adjtimex(&x)); struct timeval tv = {1, 0}; T(settimeofday(&tv, 0)); T(S(SYS_clock_adjtime, 0, &x)); x.modes = 0; T(S(SYS_clock_adjtime, 0, &x) >= 0); T(S(SYS_clock_adjtime, 1, &x)); T(S(SYS_acct, 0)); T(S(SYS_reboot, 0xfee1dead, 672274793, 0, 0)); T(S(SYS_swapon, "/not-there", 0)); T(S(SYS_swapoff, "/not-there")); T(S(SYS_vhangup)); T(S(SYS_sethostname, "x", 1)); T(S(SYS_chroot, ".")); T(S(SYS__sysctl, 0)); T(S(SYS_create_module)); T(S(SYS_get_kernel_syms)); T(S(SYS_query_module)); T(S(SYS_nfsservctl)); T(S(SYS_getpmsg)); T(S(SYS_putpmsg)); T(S(SYS_afs_syscall)); T(S(SYS_tuxcall)); T(S(SYS_security)); T(S(SYS_vserver)); T(S(SYS_set_thread_area, 0)); T(S(SYS_get_thread_area, 0)); T(S(SYS_epoll_ctl_old)); T(S(SYS_epoll_wait_old));
}
static void c_kcmp(void) {
    pid_t me = getpid(), c = start(); if (!c) { for (;;) pause(); } int a = open("/dev/null", O_RDONLY), b = dup(a), d = open("/dev/null", O_RDONLY); T(S(SYS_kcmp, me, me, KCMP_FILE, a, b)); T(S(SYS_kcmp, me, me, KCMP_FILE, a, d) != 0); T(S(SYS_kcmp, me, me, KCMP_FILE, a, 99)); int all[] = {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO}; for (int i = 0; i < 4; i++) { T(S(SYS_kcmp, me, me, all[i], 0, 0)); T(S(SYS_kcmp, me, c, all[i], 0, 0) != 0); } T(S(SYS_kcmp, me, 999999, KCMP_VM, 0, 0)); T(S(SYS_kcmp, me, me, 99, 0, 0)); kill(c, SIGKILL); ended(c);
}
static void c_clone3(void) {
    struct clone_args a = {.exit_signal = SIGCHLD}; pid_t c = (fflush(stdout), S(SYS_clone3, &a, sizeof a)); if (!c) _exit(1); ended(c); T(S(SYS_clone3, &a, 63)); T(S(SYS_clone3, &a, 5000)); T(S(SYS_clone3, 0, 64)); c = (fflush(stdout), S(SYS_clone3, &a, 64)); if (!c) _exit(2); ended(c); c = (fflush(stdout), S(SYS_clone3, &a, 80)); if (!c) _exit(3); ended(c);
    a.exit_signal = 65; T(S(SYS_clone3, &a, 64)); a.exit_signal = SIGCHLD; a.flags = CLONE_THREAD; T(S(SYS_clone3, &a, 64)); a.flags = CLONE_DETACHED; T(S(SYS_clone3, &a, 64)); a.flags = 0xff; T(S(SYS_clone3, &a, 64)); a.flags = 1ull << 50; T(S(SYS_clone3, &a, 64)); a.flags = CLONE_SIGHAND; T(S(SYS_clone3, &a, 64)); a.flags = CLONE_SIGHAND | CLONE_VM | CLONE_CLEAR_SIGHAND; T(S(SYS_clone3, &a, 64)); a.flags = 0; a.stack = 4096; T(S(SYS_clone3, &a, 64)); a.stack = 0; a.stack_size = 1; T(S(SYS_clone3, &a, 64)); a.stack_size = 0; a.set_tid_size = 33; T(S(SYS_clone3, &a, sizeof a)); a.set_tid_size = 1; T(S(SYS_clone3, &a, sizeof a)); a.set_tid_size = 0; pid_t want[1] = {0}; a.set_tid = (uintptr_t)want; T(S(SYS_clone3, &a, sizeof a)); a.set_tid_size = 1; T(S(SYS_clone3, &a, sizeof a)); a.set_tid = a.set_tid_size = 0; a.flags = CLONE_INTO_CGROUP; a.cgroup = 999; T(S(SYS_clone3, &a, sizeof a)); a.cgroup = 1ull << 40; T(S(SYS_clone3, &a, sizeof a)); a.cgroup = 0;
    signal(SIGUSR1, count); signal(SIGUSR2, SIG_IGN); a.flags = CLONE_CLEAR_SIGHAND; c = (fflush(stdout), S(SYS_clone3, &a, 64)); if (!c) { struct sigaction x, y; sigaction(SIGUSR1, 0, &x); sigaction(SIGUSR2, 0, &y); _exit((x.sa_handler == SIG_DFL) + 2 * (y.sa_handler == SIG_IGN)); } ended(c); int fd = -1; a.flags = CLONE_PIDFD; a.pidfd = (uintptr_t)&fd; c = (fflush(stdout), S(SYS_clone3, &a, 64)); if (!c) _exit(4); T(fd >= 0); T(fcntl(fd, F_GETFD)); siginfo_t i; T(waitid(3, fd, &i, WEXITED)); printf("%d\n", i.si_status); a.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID; pid_t out[2] = {0}; a.parent_tid = (uintptr_t)out; a.child_tid = (uintptr_t)(out + 1); a.exit_signal = 0; c = (fflush(stdout), S(SYS_clone3, &a, 64)); if (!c) _exit(out[1] == getpid() ? 5 : 6); T(out[0] == c); T(waitpid(c, 0, 0)); T(waitpid(c, 0, __WCLONE) == c);
}

static long filter(int flags, int n, struct sock_filter *f) { struct sock_fprog p = {n, f}; return S(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p); }
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define ON(nr, value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), RETURN(value)
static long deny(int nr, unsigned value, int flags) { struct sock_filter f[] = {LOAD(nr), ON(nr, value), RETURN(SECCOMP_RET_ALLOW)}; return filter(flags, 4, f); }
static void modes(void) { FILE *f = fopen("/proc/self/status", "r"); char line[300]; while (fgets(line, 300, f)) if (!strncmp(line, "Seccomp", 7) || !strncmp(line, "NoNew", 5)) fputs(line, stdout); fclose(f); }
static void sys(int s, siginfo_t *i, void *c) { printf("SIGSYS errno %d code %d call %d arch %x\n", i->si_errno, i->si_code, i->si_syscall, i->si_arch); }
static void c_seccomp_actions(void) {
    modes(); T(prctl(PR_GET_SECCOMP)); pid_t c = start(); if (!c) { setresuid(77, 77, 77); T(deny(SYS_getppid, SECCOMP_RET_ERRNO | 5, 0)); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); T(deny(SYS_getppid, SECCOMP_RET_ERRNO | 5, 0)); T(S(SYS_getppid)); fflush(stdout); _exit(0); } ended(c);
    unsigned all[] = {SECCOMP_RET_ERRNO | 7, SECCOMP_RET_ERRNO, SECCOMP_RET_ERRNO | 0xffff, SECCOMP_RET_TRACE | 3, SECCOMP_RET_LOG, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ALLOW, SECCOMP_RET_TRAP | 0x1234, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_KILL_PROCESS, 0x12340000}; prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); for (int i = 0; i < 11; i++) { c = start(); if (!c) { struct sigaction a = {.sa_sigaction = sys, .sa_flags = SA_SIGINFO}; sigaction(SIGSYS, &a, 0); T(deny(SYS_getsid, all[i], 0)); errno = 0; long r = S(SYS_getsid, 0); printf("%ld %s\n", r < 0 ? r : r == 0 ? 0 : r == SYS_getsid ? 1 : 2, r < 0 ? strerrorname_np(errno) ?: "?" : ""); fflush(stdout); _exit(0); } ended(c); }
    c = start(); if (!c) { signal(SIGSYS, SIG_IGN); deny(SYS_getsid, SECCOMP_RET_TRAP, 0); S(SYS_getsid, 0); _exit(0); } ended(c);
}
static void c_seccomp_stacks(void) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); T(deny(SYS_getsid, SECCOMP_RET_ERRNO | 1, 0)); T(deny(SYS_getsid, SECCOMP_RET_LOG, 0)); errno = 0; T(S(SYS_getsid, 0)); T(deny(SYS_getsid, SECCOMP_RET_ERRNO | 2, 0)); T(S(SYS_getsid, 0)); T(deny(SYS_getsid, SECCOMP_RET_TRACE | 2, 0)); T(S(SYS_getsid, 0)); modes(); pid_t c = start(); if (!c) { T(S(SYS_getsid, 0)); modes(); fflush(stdout); execl("/proc/self/exe", "cases", "seccomp_child", (char *)0); } ended(c); T(prctl(PR_GET_SECCOMP)); T(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)); T(prctl(PR_SET_SECCOMP, 3)); struct sock_filter args[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 24), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1), RETURN(SECCOMP_RET_ERRNO | 33), RETURN(SECCOMP_RET_ALLOW)}; T(filter(0, 4, args)); T(S(SYS_getpgid, 0, 77)); T(S(SYS_getpgid, 0, 78) >= 0);
}
static void c_seccomp_child(void) { errno = 0; T(S(SYS_getsid, 0) < 1); modes(); fflush(stdout); _exit(0); }
static void c_seccomp_strict(void) {
    T(S(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, 0)); T(S(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 8)); pid_t c = start(); if (!c) { S(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0); write(1, "on\n", 3); S(SYS_exit, 3); } ended(c); c = start(); if (!c) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); getpid(); S(SYS_getpid); S(SYS_exit, 3); } ended(c);
}
static void c_seccomp_errors(void) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); struct sock_filter ok = RETURN(SECCOMP_RET_ALLOW); T(filter(0, 0, &ok)); T(filter(0, 1, (void *)8)); T(S(SYS_seccomp, 1, 0, 8)); T(S(SYS_seccomp, 1, 0, 0)); T(S(SYS_seccomp, 9, 0, 0)); T(filter(1 << 9, 1, &ok)); T(filter(SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW, 1, &ok)); static struct sock_filter many[4097]; for (int i = 0; i < 4097; i++) many[i] = ok; T(filter(0, 4097, many)); T(filter(0, 4096, many)); while (!filter(0, 4096, many)) {} puts(strerrorname_np(errno));
    struct sock_filter bad[][2] = {{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), ok}, {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), ok}, {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), ok}, {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), ok}, {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 1), ok}, {BPF_STMT(BPF_LD | BPF_MEM, 0), ok}, {BPF_STMT(BPF_JMP | BPF_JA, 1), ok}, {ok, BPF_STMT(BPF_LD | BPF_IMM, 0)}, {BPF_STMT(BPF_RET | BPF_X, 0), ok}}; for (int i = 0; i < 9; i++) T(filter(0, 2, bad[i]));
    unsigned a[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW, 0x12340000, 1}; for (int i = 0; i < 9; i++) T(S(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, a + i)); T(S(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, a)); T(S(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, 8));
}
static volatile pid_t other; static volatile int phase; static void *follows(void *own) { if (own) deny(SYS_getsid, SECCOMP_RET_ERRNO | 9, 0); other = gettid(); while (!phase) nap(1); errno = 0; printf("thread: "); T(S(SYS_getpgid, 0) < 0); modes(); return 0; }
static void c_seccomp_threads(void) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); for (int own = 0; own < 2; own++) { other = phase = 0; pthread_t t; pthread_create(&t, 0, follows, own ? (void *)1 : 0); while (!other) nap(1); long r = deny(SYS_getpgid, SECCOMP_RET_ERRNO | 8, SECCOMP_FILTER_FLAG_TSYNC); printf("%d\n", r == 0 ? 0 : r == other ? 1 : 2); if (own) T(deny(SYS_getpgid, SECCOMP_RET_ERRNO | 8, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH)); phase = 1; pthread_join(t, 0); }
    pid_t c = start(); if (!c) { pthread_t t; phase = 1; deny(SYS_getsid, SECCOMP_RET_KILL_THREAD, 0); pthread_create(&t, 0, (void *(*)(void *))getsid, 0); nap(10); _exit(5); } ended(c); c = start(); if (!c) { pthread_t t; deny(SYS_getsid, SECCOMP_RET_KILL_PROCESS, 0); pthread_create(&t, 0, (void *(*)(void *))getsid, 0); nap(1000); _exit(5); } ended(c);
}

#define CASES(X) X(clocks) X(cpu_timers) X(cpu_limit) X(scheduling) X(nice_limit) X(io_priority) X(affinity) X(nproc_limit) X(set_ids) X(capabilities) X(show) X(set_id_programs) X(personality) X(places) X(refused) X(kcmp) X(clone3) X(seccomp_actions) X(seccomp_stacks) X(seccomp_child) X(seccomp_strict) X(seccomp_errors) X(seccomp_threads)
#include "main.h"
