// Cases of signals: queues, siginfo, handlers, restarting, stopping, and what else processes tell each
// other; see guest.h.
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <ucontext.h>

#define MS 1000000
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif
#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif
static void nap(int ms) { struct timespec t = {0, ms * MS}; while (nanosleep(&t, &t)) {} }
static pid_t start(void) { fflush(stdout); return fork(); }
static pid_t parent, child;
static const char *who(pid_t pid) { return !pid ? "nobody" : pid == getpid() ? "self" : pid == parent ? "parent" : pid == child ? "child" : "other"; }
static void told(const siginfo_t *i) { printf("signal %d errno %d code %d pid %s uid %d value %d\n", i->si_signo, i->si_errno, i->si_code, who(i->si_pid), i->si_uid, i->si_value.sival_int); }
static void tell(int s, siginfo_t *i, void *c) { told(i); }
static void handle(int signal, void (*f)(int, siginfo_t *, void *), int flags) { struct sigaction a = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags}; sigaction(signal, &a, 0); }
static void mask(int how, int signal) { sigset_t s; sigemptyset(&s); if (signal) sigaddset(&s, signal); else sigfillset(&s); sigprocmask(how, &s, 0); }
static long queue(pid_t pid, int signal, int value) { union sigval v = {.sival_int = value}; return sigqueue(pid, signal, v); }
static long take(int signal, siginfo_t *i) { sigset_t s; sigemptyset(&s); if (signal) sigaddset(&s, signal); else sigfillset(&s); struct timespec none = {0}; return sigtimedwait(&s, i, &none); }
static void ended(pid_t p) { int st; if (waitpid(p, &st, 0) != p) puts("gone"); else if (WIFSIGNALED(st)) printf("killed by %d\n", WTERMSIG(st)); else printf("exit %d\n", WEXITSTATUS(st)); }

static void c_queue_order(void) {
    int all[] = {SIGRTMIN + 2, SIGUSR2, SIGRTMIN, SIGUSR1, SIGRTMIN + 2, SIGRTMIN, SIGUSR1, SIGHUP}; mask(SIG_BLOCK, 0); for (int i = 0; i < 8; i++) queue(getpid(), all[i], i); siginfo_t i; while (take(0, &i) > 0) told(&i);
    for (int i = 0; i < 8; i++) { handle(all[i], tell, 0); queue(getpid(), all[i], i); syscall(SYS_tgkill, getpid(), gettid(), all[i]); } mask(SIG_UNBLOCK, 0);
}
static void c_queue_limit(void) {
    setresuid(77, 77, 77); struct rlimit l = {4, 4}; T(setrlimit(RLIMIT_SIGPENDING, &l)); mask(SIG_BLOCK, 0); for (int i = 0; i < 6; i++) T(queue(getpid(), SIGRTMIN, i)); T(kill(getpid(), SIGRTMIN)); T(kill(getpid(), SIGRTMIN + 1)); T(kill(getpid(), SIGRTMIN + 1)); T(raise(SIGRTMIN + 2)); T(queue(getpid(), SIGUSR1, 7)); T(kill(getpid(), SIGUSR2)); T(queue(getpid(), SIGUSR2, 5));
    pid_t c = start(); if (!c) { T(queue(getpid(), SIGRTMIN, 1)); siginfo_t i; T(take(0, &i)); fflush(stdout); _exit(0); } ended(c); siginfo_t i; while (take(0, &i) > 0) told(&i);
}
static void c_sources(void) {
    parent = getpid(); mask(SIG_BLOCK, 0); siginfo_t i, out = {.si_code = SI_ASYNCIO, .si_errno = 9, .si_value = {.sival_int = 3}}; kill(getpid(), SIGUSR1); syscall(SYS_tkill, gettid(), SIGUSR2); raise(SIGHUP); while (take(0, &i) > 0) told(&i);
    T(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &out)); T(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR2, &out)); while (take(0, &i) > 0) told(&i); out.si_code = SI_USER; T(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &out)); T(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &out)); out.si_code = SI_TKILL; T(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &out)); T(syscall(SYS_rt_sigqueueinfo, getpid(), 65, &out)); T(syscall(SYS_rt_sigqueueinfo, 0, 0, &out)); T(syscall(SYS_rt_sigqueueinfo, getpid(), 10, 8)); while (take(0, &i) > 0) told(&i);
    int p[2]; pipe(p); close(p[0]); T(write(p[1], "x", 1)); alarm(0); struct itimerval t = {{0, 0}, {0, 1000}}; setitimer(ITIMER_REAL, &t, 0); nap(10); while (take(0, &i) > 0) told(&i);
    struct rlimit l = {5, RLIM_INFINITY}; setrlimit(RLIMIT_FSIZE, &l); int fd = make("f", ""); T(write(fd, "0123456789", 10)); T(write(fd, "x", 1)); T(ftruncate(fd, 9)); while (take(0, &i) > 0) told(&i);
    child = start(); if (!child) { queue(parent, SIGRTMIN, 8); kill(parent, SIGUSR1); syscall(SYS_tgkill, parent, parent, SIGUSR2); abort(); } waitpid(child, 0, 0); while (take(0, &i) > 0) told(&i);
}
static void c_posix_timers(void) {
    mask(SIG_BLOCK, 0); siginfo_t i; timer_t t; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value = {.sival_int = 77}}; struct itimerspec one = {{0, 0}, {0, MS}}; timer_create(CLOCK_MONOTONIC, &e, &t); timer_settime(t, 0, &one, 0); nap(10); T(take(0, &i)); printf("%d %d %d %d\n", i.si_code, i.si_value.sival_int, i.si_overrun, i.si_timerid == (int)(intptr_t)t); timer_delete(t);
    timer_create(CLOCK_MONOTONIC, 0, &t); timer_settime(t, 0, &one, 0); nap(10); T(take(0, &i)); printf("%d %d\n", i.si_code, i.si_value.sival_int == (int)(intptr_t)t); timer_delete(t);
}
static void c_child_info(void) {
    siginfo_t i; mask(SIG_BLOCK, SIGCHLD); child = start(); if (!child) { for (;;) pause(); } int st; setpgid(child, child);
    int send[] = {SIGSTOP, SIGCONT, SIGTSTP, SIGCONT, SIGKILL}, options[] = {WUNTRACED, WCONTINUED, WUNTRACED, WCONTINUED, 0};
    for (int n = 0; n < 5; n++) { kill(child, send[n]); siginfo_t w; memset(&w, 9, sizeof w); int o[] = {WSTOPPED, WCONTINUED, WSTOPPED, WCONTINUED, WEXITED}; T(waitid(P_PID, child, &w, o[n] | WNOWAIT)); printf("%d %d %d %s %d %d\n", w.si_signo, w.si_errno, w.si_code, who(w.si_pid), w.si_uid, w.si_status); T(waitpid(child, &st, options[n]) == child); printf("%x\n", st); T(waitpid(child, &st, options[n] | WNOHANG)); sigset_t m; sigemptyset(&m); sigaddset(&m, SIGCHLD); T(sigtimedwait(&m, &i, &(struct timespec){5, 0})); printf("%d %s %d %d\n", i.si_code, who(i.si_pid), i.si_uid, i.si_status); }
    struct sigaction a = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP}; sigaction(SIGCHLD, &a, 0); child = start(); if (!child) { raise(SIGSTOP); _exit(3); } T(waitpid(child, &st, WUNTRACED) == child); T(take(SIGCHLD, &i)); kill(child, SIGCONT); ended(child); T(take(SIGCHLD, &i)); printf("%d %d\n", i.si_code, i.si_status);
    a.sa_flags = SA_NOCLDWAIT; sigaction(SIGCHLD, &a, 0); child = start(); if (!child) _exit(3); T(waitpid(child, &st, 0)); T(take(SIGCHLD, &i)); printf("%d %d\n", i.si_code, i.si_status); signal(SIGCHLD, SIG_IGN); child = start(); if (!child) _exit(3); T(wait(0)); T(take(SIGCHLD, &i));
}
static void c_stopping(void) {
    int st, all[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}; for (int i = 0; i < 4; i++) { pid_t c = start(); if (!c) { setpgid(0, 0); raise(all[i]); _exit(1); } T(waitpid(c, &st, WUNTRACED) == c); printf("%x\n", st); kill(c, SIGTERM); T(waitpid(c, &st, WNOHANG)); if (WIFSTOPPED(st)) kill(c, SIGCONT); ended(c); }
    pid_t c = start(); if (!c) { handle(SIGCONT, tell, 0); handle(SIGTSTP, tell, 0); parent = getppid(); raise(SIGTSTP); raise(SIGSTOP); puts("on"); fflush(stdout); _exit(0); } T(waitpid(c, &st, WUNTRACED) == c); T(kill(c, SIGTSTP)); T(kill(c, SIGCONT)); ended(c);
    c = start(); if (!c) { mask(SIG_BLOCK, SIGCONT); raise(SIGSTOP); sigset_t s; sigpending(&s); printf("%d\n", sigismember(&s, SIGCONT)); fflush(stdout); _exit(0); } waitpid(c, &st, WUNTRACED); kill(c, SIGCONT); ended(c);
    c = start(); if (!c) { mask(SIG_BLOCK, SIGTSTP); raise(SIGTSTP); raise(SIGCONT); sigset_t s; sigpending(&s); printf("%d\n", sigismember(&s, SIGTSTP)); fflush(stdout); _exit(0); } ended(c);
    c = start(); if (!c) { raise(SIGSTOP); for (;;) pause(); } waitpid(c, &st, WUNTRACED); kill(c, SIGUSR1); nap(5); T(waitpid(c, &st, WNOHANG)); kill(c, SIGKILL); ended(c);
}
static void c_orphans(void) {
    // The grandchild's process group loses its leader's parent: it gets SIGHUP and SIGCONT.
    int p[2]; pipe(p); prctl(PR_SET_CHILD_SUBREAPER, 1); pid_t c = start(); if (!c) { setsid(); pid_t g = fork(); if (!g) { setpgid(0, 0); for (int s = 1; s <= 20; s++) if (s == SIGHUP || s == SIGCONT) handle(s, tell, 0); write(p[1], "x", 1); raise(SIGSTOP); nap(20); fflush(stdout); _exit(5); } int st; waitpid(g, &st, WUNTRACED); read(p[0], buf, 1); _exit(0); } ended(c); int st; pid_t g = wait(&st); printf("%d %x\n", g > 0, st); prctl(PR_SET_CHILD_SUBREAPER, 0);
    c = start(); if (!c) { setsid(); raise(SIGTSTP); raise(SIGTTIN); puts("not stopped"); fflush(stdout); _exit(0); } ended(c);
}

// Each call blocks while a timer rings: it ends with the first signal, or is started again and left by a
// jump at the second.
static sigjmp_buf jump; static volatile int rings, answer; static const char *second; static int ends[2];
// Only what comes in the midst of a call counts: it ends with EINTR, or its instruction is next once more.
static void ring(int s, siginfo_t *i, void *c) {
    greg_t *r = ((ucontext_t *)c)->uc_mcontext.gregs; const unsigned char *rip = (void *)r[REG_RIP]; if (answer) return;
    if (rip[0] == 0x0f && rip[1] == 5) { if (++rings == 2) siglongjmp(jump, 1); } else if (rip[-2] == 0x0f && rip[-1] == 5 && r[REG_RAX] == -EINTR) answer = 1;
}
static void await(const char *name, long (*f)(void)) {
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        struct sigaction a = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO | flags}; sigaction(SIGALRM, &a, 0); rings = answer = 0; struct itimerval t = {{0, 4000}, {0, 4000}}, off = {0}; long r = 0; int e = 0; int again = sigsetjmp(jump, 1); if (!again) { setitimer(ITIMER_REAL, &t, 0); errno = 0; r = f(); e = errno; } setitimer(ITIMER_REAL, &off, 0); mask(SIG_UNBLOCK, SIGALRM);
        if (again) printf("%s %d: restarted\n", name, !!flags); else printf("%s %d: %ld %s\n", name, !!flags, r, r < 0 ? strerrorname_np(e) : "");
    }
}
static int fds[16]; static pid_t sleeper; static uint32_t word; static struct timespec far = {1000, 0}; static struct pollfd pfd; static struct flock whole = {F_WRLCK};
static long w_read(void) { return read(fds[0], buf, 1); }
static long w_readv(void) { struct iovec v = {buf, 9}; return readv(fds[0], &v, 1); }
static long w_write(void) { return write(fds[3], buf, 4096); }
static long w_splice(void) { return splice(fds[0], 0, fds[3], 0, 10, 0); }
static long w_tee(void) { return tee(fds[0], fds[3], 10, 0); }
static long w_sendfile(void) { return sendfile(fds[3], fds[8], 0, 1); }
static long w_wait4(void) { return wait4(sleeper, 0, 0, 0); }
static long w_waitid(void) { siginfo_t i; return waitid(P_PID, sleeper, &i, WEXITED); }
static long w_nanosleep(void) { return nanosleep(&far, 0); }
static long w_clock_nanosleep(void) { return -(errno = clock_nanosleep(CLOCK_REALTIME, 0, &far, 0)); }
static long w_clock_abs(void) { struct timespec t = {1ll << 33, 0}; return -(errno = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0)); }
static long w_poll(void) { pfd = (struct pollfd){fds[0], POLLIN}; return poll(&pfd, 1, -1); }
static long w_poll_time(void) { pfd = (struct pollfd){fds[0], POLLIN}; return poll(&pfd, 1, 1000000); }
static long w_ppoll(void) { pfd = (struct pollfd){fds[0], POLLIN}; struct timespec t = far; return ppoll(&pfd, 1, &t, 0); }
static long w_select(void) { fd_set s; FD_ZERO(&s); FD_SET(fds[0], &s); return select(fds[0] + 1, &s, 0, 0, 0); }
static long w_pselect(void) { fd_set s; FD_ZERO(&s); FD_SET(fds[0], &s); sigset_t m; sigemptyset(&m); return pselect(fds[0] + 1, &s, 0, 0, &far, &m); }
static long w_epoll(void) { struct epoll_event e; return epoll_wait(fds[4], &e, 1, -1); }
static long w_epoll_pwait(void) { struct epoll_event e; sigset_t m; sigemptyset(&m); return epoll_pwait(fds[4], &e, 1, 1000000, &m); }
static long w_pause(void) { return pause(); }
static long w_sigsuspend(void) { sigset_t m; sigemptyset(&m); return sigsuspend(&m); }
static long w_sigwaitinfo(void) { sigset_t m; sigemptyset(&m); sigaddset(&m, SIGUSR1); return sigwaitinfo(&m, 0); }
static long w_sigtimedwait(void) { sigset_t m; sigemptyset(&m); sigaddset(&m, SIGUSR1); return sigtimedwait(&m, 0, &far); }
static long w_futex(void) { return syscall(SYS_futex, &word, FUTEX_WAIT, 0, 0); }
static long w_futex_time(void) { return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &far); }
static long w_futex_bitset(void) { struct timespec t = {1ll << 33, 0}; return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &t, 0, -1); }
static long w_futex_lock(void) { return syscall(SYS_futex, &word + 0, FUTEX_LOCK_PI, 0, 0); }
static long w_flock(void) { return flock(fds[9], LOCK_EX); }
static long w_setlkw(void) { return fcntl(fds[9], F_SETLKW, &whole); }
static long w_ofd(void) { struct flock l = {F_WRLCK}; return fcntl(fds[9], F_OFD_SETLKW, &l); }
static long w_fifo(void) { return open("fifo", O_RDONLY); }
static long w_eventfd(void) { return read(fds[5], buf, 8); }
static long w_timerfd(void) { return read(fds[6], buf, 8); }
static long w_signalfd(void) { return read(fds[7], buf, 128); }
static long w_inotify(void) { return read(fds[10], buf, 4096); }
static void c_restarts(void) {
    pipe(fds); pipe(fds + 2); fcntl(fds[3], F_SETFL, O_NONBLOCK); while (write(fds[3], buf, 65536) > 0) {} fcntl(fds[3], F_SETFL, 0); fds[4] = epoll_create1(0); struct epoll_event e = {EPOLLIN}; epoll_ctl(fds[4], EPOLL_CTL_ADD, fds[0], &e); fds[5] = eventfd(0, 0); fds[6] = timerfd_create(CLOCK_MONOTONIC, 0); struct itimerspec t = {{0, 0}, far}; timerfd_settime(fds[6], 0, &t, 0); sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); mask(SIG_BLOCK, SIGUSR1); fds[7] = signalfd(-1, &s, 0); fds[8] = make("f", "text"); lseek(fds[8], 0, SEEK_SET); fds[9] = open("f", O_RDWR); fds[10] = inotify_init(); mkfifo("fifo", 0600); flock(fds[8], LOCK_EX);
    int ready[2]; pipe(ready); sleeper = start(); if (!sleeper) { int own = open("f", O_RDWR); fcntl(own, F_SETLK, &whole); write(ready[1], "x", 1); for (;;) pause(); } read(ready[0], buf, 1);
#define W(name) await(#name, w_##name)
    W(read); W(readv); W(write); W(splice); W(tee); W(sendfile); W(wait4); W(waitid); W(nanosleep); W(clock_nanosleep); W(clock_abs); W(poll); W(poll_time); W(ppoll); W(select); W(pselect); W(epoll); W(epoll_pwait); W(pause); W(sigsuspend); W(sigwaitinfo); W(sigtimedwait); W(futex); W(futex_time); W(futex_bitset); W(flock); W(setlkw); W(ofd); W(fifo); W(eventfd); W(timerfd); W(signalfd); W(inotify);
    word = sleeper; kill(sleeper, 0); await("futex_lock", w_futex_lock); kill(sleeper, SIGKILL); ended(sleeper); T(syscall(SYS_restart_syscall)); unlink("fifo");
}
// Waits until a process waits in a call.
static void c_stop_in_calls(void) {
    // A stop and a continue end no call but those that signal(7) names.
    int p[2]; pipe(p); struct { const char *name; int kind; } all[] = {{"read", 0}, {"nanosleep", 1}, {"poll", 2}, {"epoll", 3}, {"sigtimedwait", 4}, {"futex", 5}, {"pause", 6}};
    for (int i = 0; i < 7; i++) { pid_t c = start(); if (!c) { struct timespec t = {0, 150 * MS}; long r = -1; errno = 0; switch (all[i].kind) { case 0: r = read(p[0], buf, 1); break; case 1: r = nanosleep(&t, 0); break; case 2: r = poll(0, 0, 150); break; case 3: { struct epoll_event e; r = epoll_wait(epoll_create1(0), &e, 1, 150); break; } case 4: { sigset_t m; sigemptyset(&m); sigaddset(&m, SIGUSR1); sigprocmask(SIG_BLOCK, &m, 0); r = sigtimedwait(&m, 0, &t); break; } case 5: r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t); break; case 6: alarm(0); handle(SIGUSR1, tell, 0); parent = getppid(); r = pause(); } printf("%s %ld %s\n", all[i].name, r, r < 0 ? strerrorname_np(errno) : ""); fflush(stdout); _exit(0); } asleep(c); int st; kill(c, SIGSTOP); waitpid(c, &st, WUNTRACED); kill(c, SIGCONT); if (!i) { nap(2); write(p[1], "x", 1); } if (i == 6) { nap(2); kill(c, SIGUSR1); } ended(c); }
}
static void flags_of(int s, siginfo_t *i, void *c) { sigset_t m; sigprocmask(SIG_BLOCK, 0, &m); struct sigaction a; sigaction(s, 0, &a); printf("%d blocked %d usr2 %d default %d\n", s, sigismember(&m, s), sigismember(&m, SIGUSR2), a.sa_handler == SIG_DFL); }
static void c_flags(void) {
    int all[] = {0, SA_NODEFER, SA_RESETHAND, SA_RESETHAND | SA_NODEFER, SA_RESTART, SA_ONSTACK, SA_NOCLDSTOP, SA_NOCLDWAIT}; for (int i = 0; i < 8; i++) { struct sigaction a = {.sa_sigaction = flags_of, .sa_flags = SA_SIGINFO | all[i]}, o; sigaddset(&a.sa_mask, SIGUSR2); sigaddset(&a.sa_mask, SIGKILL); sigaction(SIGUSR1, &a, 0); sigaction(SIGUSR1, 0, &o); printf("%x %d\n", o.sa_flags, sigismember(&o.sa_mask, SIGKILL)); raise(SIGUSR1); }
    unsigned long k[4] = {(unsigned long)flags_of, ~0ul, 0, 0}, o[4]; T(syscall(SYS_rt_sigaction, SIGUSR1, k, 0, 8)); T(syscall(SYS_rt_sigaction, SIGUSR1, 0, o, 8)); printf("%lx\n", o[1]); T(syscall(SYS_rt_sigaction, SIGUSR1, 0, o, 9)); T(syscall(SYS_rt_sigaction, SIGKILL, 0, o, 8)); T(syscall(SYS_rt_sigaction, SIGSTOP, k, 0, 8)); T(syscall(SYS_rt_sigaction, 0, 0, o, 8)); T(syscall(SYS_rt_sigaction, 1, 8, 0, 8)); T(syscall(SYS_rt_sigaction, 1, 0, 8, 8));
    // A handler without a restorer cannot be entered.
    pid_t c = start(); if (!c) { unsigned long k[4] = {(unsigned long)flags_of, 0, 0, 0}; syscall(SYS_rt_sigaction, SIGUSR1, k, 0, 8); raise(SIGUSR1); _exit(0); } ended(c);
}
static char stack[1 << 16] __attribute__((aligned(4096)));
static void on_stack(int s, siginfo_t *i, void *c) { stack_t o; sigaltstack(0, &o); ucontext_t *u = c; char here; printf("on it %d, flags %x size %zu, frame's %x %zu\n", &here >= stack && &here < stack + sizeof stack, o.ss_flags, o.ss_size, u->uc_stack.ss_flags, u->uc_stack.ss_size); stack_t n = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = 0}; int r = sigaltstack(&n, 0); printf("%d %s\n", r, r ? strerrorname_np(errno) : ""); if (s == SIGUSR1) raise(SIGUSR2); }
static void deeper(int s, siginfo_t *i, void *c) { raise(SIGUSR1); }
static void c_altstacks(void) {
    stack_t s = {.ss_sp = stack, .ss_size = sizeof stack}, o; T(sigaltstack(0, &o)); printf("%x\n", o.ss_flags); T(sigaltstack(&s, &o)); handle(SIGUSR1, on_stack, SA_ONSTACK); handle(SIGUSR2, on_stack, SA_ONSTACK); raise(SIGUSR1); s.ss_flags = SS_AUTODISARM; T(sigaltstack(&s, &o)); raise(SIGUSR2); T(sigaltstack(0, &o)); printf("%x %zu\n", o.ss_flags, o.ss_size); s.ss_flags = SS_ONSTACK; T(sigaltstack(&s, 0)); s.ss_flags = 4; T(sigaltstack(&s, 0)); s.ss_flags = SS_DISABLE | SS_AUTODISARM; T(sigaltstack(&s, 0)); T(sigaltstack(0, &o)); printf("%x %zu\n", o.ss_flags, o.ss_size); s.ss_flags = 0; s.ss_size = 2047; T(sigaltstack(&s, 0)); T(sigaltstack((void *)8, 0)); T(sigaltstack(0, (void *)8));
    pid_t c = start(); if (!c) { stack_t s = {.ss_sp = stack, .ss_size = 20000}; sigaltstack(&s, 0); handle(SIGUSR1, deeper, SA_ONSTACK | SA_NODEFER); raise(SIGUSR1); _exit(0); } ended(c);
    c = start(); if (!c) { stack_t s = {.ss_sp = (void *)4096, .ss_size = 20000}; sigaltstack(&s, 0); handle(SIGUSR1, on_stack, SA_ONSTACK); raise(SIGUSR1); _exit(0); } ended(c);
}
static void c_timedwait(void) {
    mask(SIG_BLOCK, 0); siginfo_t i; sigset_t s; sigemptyset(&s); struct timespec t = {0, 5 * MS}, bad = {0, 1000000000}; T(sigtimedwait(&s, &i, &t)); sigfillset(&s); T(sigtimedwait(&s, &i, &bad)); bad.tv_nsec = 0; bad.tv_sec = -1; T(sigtimedwait(&s, &i, &bad)); T(syscall(SYS_rt_sigtimedwait, &s, &i, &t, 9)); T(syscall(SYS_rt_sigtimedwait, 8, &i, &t, 8)); parent = getpid(); raise(SIGTERM); T(syscall(SYS_rt_sigtimedwait, &s, 8, &t, 8)); T(sigtimedwait(&s, &i, &t)); child = start(); if (!child) { nap(5); kill(parent, SIGUSR1); _exit(0); } sigdelset(&s, SIGCHLD); T(sigwaitinfo(&s, &i)); told(&i); waitpid(child, 0, 0);
    signal(SIGUSR2, SIG_IGN); raise(SIGUSR2); T(sigtimedwait(&s, &i, &t)); signal(SIGURG, SIG_DFL); raise(SIGURG); T(sigtimedwait(&s, &i, &t));
}
static volatile char *bad; static volatile int zero;
static void fault(int s, siginfo_t *i, void *c) { printf("%d code %d addr %d\n", s, i->si_code, i->si_addr == (void *)bad); siglongjmp(jump, 1); }
static void c_faults(void) {
    int all[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}; for (int i = 0; i < 5; i++) handle(all[i], fault, 0); char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); int fd = make("f", "x"); char *f = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *g = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0); mprotect(m, 4096, PROT_NONE); munmap(m + 4096, 4096);
#define FAULTS(at, ...) do { bad = (void *)(at); if (!sigsetjmp(jump, 1)) { __VA_ARGS__; puts("nothing"); } } while (0)
    FAULTS(m, *bad); FAULTS(m, *bad = 1); FAULTS(m + 4096, *bad); FAULTS(16, *bad = 1); FAULTS(f + 4096, *bad); FAULTS(f + 4096, *bad = 1); FAULTS(g + 4096, *bad = 1); FAULTS(m, ((void (*)(void))m)()); FAULTS(f, ((void (*)(void))f)()); FAULTS(0, *(volatile char *)(1ull << 60)); FAULTS(0, asm volatile("hlt"));
    FAULTS(&&div, div: asm volatile("idivl %0" ::"m"(zero), "a"(1), "d"(0))); FAULTS(0, asm volatile("int3")); ftruncate(fd, 0); FAULTS(f, *bad); FAULTS(0, raise(SIGFPE)); unsigned unmasked = 0; asm volatile("ldmxcsr %0" :: "m"(unmasked)); volatile double d = 1, z = 0; FAULTS(0, d / z); handle(SIGFPE, tell, 0); parent = getpid(); raise(SIGFPE);
    FAULTS(0, asm volatile("pushf; orl $0x100, (%rsp); popf; nop; nop"));
    // A fault that is blocked or ignored kills.
    for (int i = 0; i < 2; i++) { pid_t c = start(); if (!c) { if (i) mask(SIG_BLOCK, SIGSEGV); else signal(SIGSEGV, SIG_IGN); *(volatile char *)8 = 1; _exit(0); } ended(c); } pid_t c = start(); if (!c) { mask(SIG_BLOCK, SIGSEGV); raise(SIGSEGV); kill(getpid(), SIGSEGV); signal(SIGSEGV, SIG_IGN); raise(SIGSEGV); _exit(7); } ended(c);
}
typedef double wide __attribute__((vector_size(16)));
static void clobber(int s, siginfo_t *i, void *c) { ucontext_t *u = c; printf("xmm7 %x\n", u->uc_mcontext.fpregs->_xmm[7].element[0]); u->uc_mcontext.fpregs->_xmm[6].element[0] = 0x1234; unsigned mx; asm volatile("stmxcsr %0" : "=m"(mx)); printf("mxcsr %x in the frame %x\n", mx, u->uc_mcontext.fpregs->mxcsr); asm volatile("pxor %%xmm7, %%xmm7; fldz; fldz" ::: "xmm7"); }
static void c_float_state(void) { handle(SIGUSR1, clobber, 0); unsigned in = 0x5678, six, seven, mx = 0x1f00, after; pid_t me = getpid(); long r = SYS_kill; asm volatile("ldmxcsr %5; movd %4, %%xmm7; movd %4, %%xmm6; syscall; movd %%xmm6, %1; movd %%xmm7, %2; stmxcsr %3" : "+a"(r), "=r"(six), "=r"(seven), "=m"(after) : "r"(in), "m"(mx), "D"((long)me), "S"((long)SIGUSR1) : "rcx", "r11", "memory", "xmm6", "xmm7"); printf("%x %x %x\n", six, seven, after); }
static volatile int pid_of_thread; static void *lives(void *p) { nap(20); printf("last %d\n", getpid() == gettid()); fflush(stdout); exit(4); }
static void *execs(void *p) { execl("/proc/self/exe", "cases", "hello", (char *)0); _exit(9); }
static void c_hello(void) { printf("hello %d %d\n", getpid() == gettid(), getpid() == (int)strtol(getenv("WAS") ?: "0", 0, 10)); fflush(stdout); _exit(42); }
static void c_threads_and_ends(void) {
    pid_t c = start(); if (!c) { pthread_t t; pthread_create(&t, 0, lives, 0); pthread_exit(0); } nap(8); siginfo_t i = {0}; T(waitid(P_PID, c, &i, WEXITED | WNOHANG)); T(kill(c, 0)); T(i.si_pid); ended(c);
    c = start(); if (!c) { char t[20]; sprintf(t, "%d", getpid()); setenv("WAS", t, 1); pthread_t h; pthread_create(&h, 0, execs, 0); for (;;) pause(); } ended(c);
    c = start(); if (!c) { pthread_t h; pthread_create(&h, 0, lives, 0); raise(SIGKILL); } ended(c); c = start(); if (!c) { pthread_t h; pthread_create(&h, 0, lives, 0); syscall(SYS_exit, 5); } ended(c);
}
static void c_vfork(void) { int x = 1; volatile int *v = &x; fflush(stdout); pid_t c = vfork(); if (!c) { *v = 5; nap(5); _exit(3); } printf("%d\n", *v); ended(c); handle(SIGUSR1, tell, 0); parent = getpid(); c = vfork(); if (!c) { child = 1; syscall(SYS_kill, parent, SIGUSR1); nap(5); *v = 6; _exit(0); } child = c; printf("%d\n", *v); ended(c); }
static void c_death_signal(void) {
    int p[2]; pipe(p); prctl(PR_SET_CHILD_SUBREAPER, 1); pid_t c = start(); if (!c) { pid_t g = fork(); if (!g) { parent = getppid(); handle(SIGUSR1, tell, 0); T(prctl(PR_SET_PDEATHSIG, 65)); T(prctl(PR_SET_PDEATHSIG, SIGUSR1)); int s; T(prctl(PR_GET_PDEATHSIG, &s)); printf("%d\n", s); mask(SIG_BLOCK, SIGUSR1); write(p[1], "x", 1); sigset_t w; sigemptyset(&w); sigaddset(&w, SIGUSR1); siginfo_t i; sigwaitinfo(&w, &i); printf("%d %d %s %d\n", i.si_signo, i.si_code, who(i.si_pid), i.si_uid); pid_t f = start(); if (!f) { prctl(PR_GET_PDEATHSIG, &s); printf("%d\n", s); fflush(stdout); _exit(0); } ended(f); fflush(stdout); _exit(6); } read(p[0], buf, 1); _exit(0); } ended(c); int st; T(wait(&st) > 0); printf("%x\n", st); T(prctl(PR_SET_CHILD_SUBREAPER, 0)); int r = 9; T(prctl(PR_GET_CHILD_SUBREAPER, &r)); printf("%d\n", r);
}
static void c_prctls(void) {
    long o[] = {PR_GET_KEEPCAPS, PR_GET_DUMPABLE, PR_GET_SECCOMP, PR_GET_SECUREBITS, PR_GET_TIMERSLACK, PR_GET_TIMING, PR_GET_NO_NEW_PRIVS, PR_GET_THP_DISABLE, PR_GET_IO_FLUSHER, PR_MCE_KILL_GET, PR_GET_SPECULATION_CTRL, PR_GET_FPEMU, PR_GET_UNALIGN, PR_GET_ENDIAN, PR_GET_FPEXC, PR_MPX_ENABLE_MANAGEMENT, 999}; for (int i = 0; i < 17; i++) { if (o[i] == PR_GET_SPECULATION_CTRL) continue; errno = 0; long r = prctl(o[i], 0, 0, 0, 0); printf("%ld: %ld %s\n", o[i], r, r < 0 ? strerrorname_np(errno) : ""); }
    T(prctl(PR_SET_TIMERSLACK, 12345)); T(prctl(PR_GET_TIMERSLACK)); pid_t c = start(); if (!c) { T(prctl(PR_GET_TIMERSLACK)); T(prctl(PR_SET_TIMERSLACK, 0)); T(prctl(PR_GET_TIMERSLACK)); fflush(stdout); _exit(0); } ended(c); T(prctl(PR_SET_TIMERSLACK, 0)); T(prctl(PR_GET_TIMERSLACK)); T(prctl(PR_SET_TIMING, PR_TIMING_STATISTICAL)); T(prctl(PR_SET_TIMING, PR_TIMING_TIMESTAMP)); T(prctl(PR_SET_KEEPCAPS, 2)); T(prctl(PR_SET_DUMPABLE, 2)); T(prctl(PR_SET_NO_NEW_PRIVS, 0)); T(prctl(PR_SET_NO_NEW_PRIVS, 1, 1)); T(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); T(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); T(prctl(PR_CAPBSET_READ, 0)); T(prctl(PR_CAPBSET_READ, 41)); T(prctl(PR_CAPBSET_READ, 64)); T(prctl(PR_SET_NAME, "a long name of a thread")); T(prctl(PR_GET_NAME, buf)); puts(buf); T(prctl(PR_SET_NAME, 8)); T(prctl(PR_TASK_PERF_EVENTS_DISABLE)); T(prctl(PR_TASK_PERF_EVENTS_ENABLE)); T(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0)); T(prctl(PR_MCE_KILL, 9, 0, 0, 0)); T(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)); T(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)); T(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)); T(prctl(PR_GET_TSC, buf)); printf("%d\n", *(int *)buf); T(prctl(PR_SET_TSC, 9)); int *tid; T(prctl(PR_GET_TID_ADDRESS, &tid)); printf("%d\n", tid != 0); T(prctl(PR_SET_PTRACER, 1)); T(prctl(PR_GET_AUXV, buf, 8, 0, 0) > 100); T(prctl(PR_GET_AUXV, buf, 8, 1, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 41, 0, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0)); T(prctl(PR_CAP_AMBIENT, 9, 0, 0, 0));
}

#define CASES(X) X(queue_order) X(queue_limit) X(sources) X(posix_timers) X(child_info) X(stopping) X(orphans) X(restarts) X(stop_in_calls) X(flags) X(altstacks) X(timedwait) X(faults) X(float_state) X(hello) X(threads_and_ends) X(vfork) X(death_signal) X(prctls)
#include "main.h"
