// Programs that try to take everything: `bombs NAME` starts one, prints "going" when it has come to the
// limits and lets it go on; `bombs NAME exit` ends then, while all the others still run. SIGTERM ends the
// first program with status 42.
#include "guest.h"
#include <grp.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static int tell;
static volatile int *told;

// The bomb has come as far as it can, and goes on.
static void going(void) { if (!__sync_lock_test_and_set(told, 1)) write(tell, "g", 1); }
static void nothing(int s) {}
static void spread(int processes) { while (--processes > 0 && fork() > 0) {} }
static char *pages(size_t len) { return mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); }
// The bomb in a process of its own, which may be killed for the memory that all take together: then it
// begins again.
static void again(void (*bomb)(void)) { for (;;) { int st; pid_t p = fork(); if (!p) { bomb(); _exit(0); } waitpid(p, &st, 0); if (WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL) going(); } }
static void enough(long rounds) { static long done; if (++done >= rounds) going(); }

static void b_forks(void) { for (;;) if (fork() < 0) going(); }
static void b_orphans(void) { for (long i = 0;; i++) { pid_t p = fork(); if (p < 0) going(); else if (p > 0 && i % 3) _exit(0); enough(500); } }
static void *idle(void *unused) { for (;;) pause(); }
static void b_threads(void) { pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 16384); spread(3); for (;;) { pthread_t t; if (pthread_create(&t, &a, idle, 0)) { going(); usleep(100); } } }
static void *busy(void *futex) { for (;;) { syscall(SYS_futex, futex, FUTEX_WAKE, 1000, 0, 0, 0); sched_yield(); syscall(SYS_futex, futex, FUTEX_WAIT, 0, &(struct timespec){0, 1}, 0, 0); } }
static void b_wakers(void) { static int futex; for (int i = 0; i < 100; i++) { pthread_t t; pthread_create(&t, 0, busy, &futex); } usleep(100000); going(); pause(); }
static void b_execs(void) { spread(4); char *args[40], *big = malloc(130000); memset(big, 'x', 129999); big[129999] = 0; for (int i = 0; i < 40; i++) args[i] = big; char *few[] = {"bombs", "execs_child", 0}; args[39] = 0; execv("/proc/self/exe", args); if (errno == E2BIG) going(); for (;;) { pid_t p = vfork(); if (!p) { execv("/proc/self/exe", few); _exit(1); } waitpid(p, 0, 0); } }
static void b_files(void) { spread(8); struct rlimit l = {1 << 20, 1 << 20}; setrlimit(RLIMIT_NOFILE, &l); int p[2], e = epoll_create1(0); struct epoll_event ev = {EPOLLIN}; for (;;) { int fds[] = {eventfd(0, 0), timerfd_create(CLOCK_MONOTONIC, 0), memfd_create("m", 0), inotify_init(), epoll_create1(0), socket(AF_UNIX, SOCK_DGRAM, 0), open("/dev/null", O_RDONLY), open("/proc/self/status", O_RDONLY)}; if (pipe(p) < 0 || fds[0] < 0) going(); enough(300); for (int i = 0; i < 8; i++) epoll_ctl(e, EPOLL_CTL_ADD, fds[i], &ev); } }
static void b_iovecs(void) { spread(4); int zero = open("/dev/zero", O_RDWR), null = open("/dev/null", O_RDWR), random = open("/dev/urandom", O_RDONLY), m = memfd_create("m", 0), p[2]; pipe(p); ftruncate(m, 1L << 40); size_t len = 32 << 20; char *at = pages(len); static struct iovec v[1024]; for (int i = 0; i < 1024; i++) v[i] = (struct iovec){at, len}; for (;;) { going(); readv(zero, v, 1024); writev(null, v, 1024); preadv(m, v, 1024, 1 << 20); readv(random, v, 1024); process_vm_readv(getppid(), v, 1024, v, 1024, 0); vmsplice(p[1], v, 1024, SPLICE_F_NONBLOCK); writev(p[1], v, 0); madvise(at, len, MADV_DONTNEED); } }
static void b_areas(void) { spread(2); for (;;) { char *a = mmap(0, 1L << 46, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); for (long i = 0;; i++) { if (mprotect(a + i * 8192, 4096, PROT_READ)) { if (errno == ENOMEM) going(); break; } } for (int i = 0; i < 1000; i++) { madvise(a, 1L << 40, MADV_DONTNEED); mremap(a + i * 8192, 4096, 8192, MREMAP_MAYMOVE); mprotect(a, 1L << 40, i & 1 ? PROT_READ : PROT_NONE); } munmap(a, 1L << 46); } }
static void b_memory(void) { spread(3); for (;;) { char *a = pages(1 << 20); if (a == MAP_FAILED) _exit(0); memset(a, 1, 1 << 20); } }
static void b_sparse(void) { spread(2); char *a = pages(1L << 45); for (long i = 0; i < 1L << 45; i += 1L << 28) a[i] = 1; }
static void b_storage(void) { for (int n = 0;; n++) { char name[20]; sprintf(name, "f%d", n); int fd = open(name, O_CREAT | O_RDWR, 0600); while (write(fd, buf, sizeof buf) > 0) {} if (fd < 0 || errno == ENOSPC || errno == ENOMEM || n > 200000) going(); close(fd); } }
static void b_names(void) { for (long n = 0;; n++) { char name[40]; sprintf(name, "n%ld", n); if (mknod(name, S_IFREG | 0600, 0) < 0 || symlink(name, name + 1) < 0) going(); if (n == 10000) going(); } }
static void b_depth(void) { char l[4096]; memset(l, 0, sizeof l); for (int i = 0; i < 2040; i++) strcpy(l + 2 * i, "d/"); symlink("loop", "loop"); for (int i = 0; i < 41; i++) { char a[9], b[9]; sprintf(a, "l%d", i); sprintf(b, "l%d/.", i + 1); symlink(b, a); } for (long n = 0;; n++) { if (mkdir("d", 0700) < 0 || chdir("d") < 0 || n == 2000) { going(); chdir("/tmp"); } getcwd(buf, sizeof buf); if (n % 200 == 0) { int d = open("/tmp", O_PATH); struct stat s; fstatat(d, l, &s, 0); fstatat(d, "loop", &s, 0); fstatat(d, "l0", &s, 0); rename("/tmp/d", "/tmp/e"); rename("/tmp/e", "/tmp/d"); close(d); } } }
static void b_locks(void) { spread(2); int fd = open("f", O_CREAT | O_RDWR, 0600); for (long n = 0;; n++) { struct flock l = {.l_type = F_RDLCK, .l_start = n * 2, .l_len = 1}; if (fcntl(fd, n & 1 ? F_SETLK : F_OFD_SETLK, &l) < 0) { going(); n = 0; } if (n == 5000) going(); } }
static void b_watches(void) { spread(2); int w = inotify_init1(IN_NONBLOCK), e[6]; for (int i = 0; i < 6; i++) { e[i] = epoll_create1(0); struct epoll_event ev = {EPOLLIN | EPOLLET}; for (int k = 0; k < i; k++) epoll_ctl(e[i], EPOLL_CTL_ADD, e[k], &ev); } for (long n = 0;; n++) { char name[40]; sprintf(name, "w%ld", n); mkdir(name, 0700); if (inotify_add_watch(w, name, IN_ALL_EVENTS) < 0) going(); int fd = eventfd(1, 0); struct epoll_event ev = {EPOLLIN}; if (fd < 0) going(); for (int i = 0; i < 6; i++) epoll_ctl(e[i], EPOLL_CTL_ADD, fd, &ev); struct epoll_event got[64]; epoll_wait(e[5], got, 64, 0); enough(3000); } }
static void b_timers(void) { spread(4); signal(SIGALRM, nothing); going(); struct itimerspec now = {{0, 1}, {0, 1}}; struct itimerval soon = {{0, 1}, {0, 1}}; int e = epoll_create1(0); for (int i = 0; i < 500; i++) { timer_t t; struct sigevent s = {.sigev_notify = i % 3 ? SIGEV_NONE : SIGEV_SIGNAL, .sigev_signo = i & 1 ? SIGALRM : SIGURG}; timer_create(i % 5 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &s, &t); timer_settime(t, 0, &now, 0); int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); struct epoll_event ev = {EPOLLIN}; timerfd_settime(fd, 0, &now, 0); epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev); } setitimer(ITIMER_REAL, &soon, 0); setitimer(ITIMER_PROF, &soon, 0); for (;;) { struct epoll_event got[64]; epoll_wait(e, got, 64, 1); nanosleep(&(struct timespec){0, 1}, 0); } }
static void b_signals(void) { for (int s = 32; s < 65; s++) signal(s, nothing); signal(SIGUSR1, nothing); signal(SIGCONT, nothing); if (!fork()) { sigset_t all; sigfillset(&all); sigprocmask(SIG_BLOCK, &all, 0); for (;;) if (sigqueue(getpid(), 40, (union sigval){}) < 0) usleep(1000); } setpgid(0, 0); spread(30); for (;;) { enough(20); kill(0, SIGUSR1); kill(0, SIGCONT); sigqueue(getpid(), 50, (union sigval){}); } }
static void b_stops(void) { pid_t all[20]; for (int i = 0; i < 20; i++) if (!(all[i] = fork())) for (;;) getppid(); for (long n = 0;; n++) { for (int i = 0; i < 20; i++) { kill(all[i], SIGSTOP); kill(all[i], SIGCONT); } enough(100); } }
static void b_descriptors(void) { spread(2); struct rlimit l = {1 << 20, 1 << 20}; setrlimit(RLIMIT_NOFILE, &l); for (;;) { int s[2]; if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s) < 0) { going(); syscall(SYS_close_range, 5, ~0u, 0); continue; } int fds[250]; for (int i = 0; i < 250; i++) fds[i] = s[i & 1]; char control[CMSG_SPACE(sizeof fds)]; struct iovec v = {buf, 1}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control}; *CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof fds), SOL_SOCKET, SCM_RIGHTS}; memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, sizeof fds); while (sendmsg(s[0], &m, MSG_DONTWAIT) > 0) {} if (errno == ETOOMANYREFS) { going(); syscall(SYS_close_range, 5, ~0u, 0); } else { close(s[0]); close(s[1]); } enough(300); } }
static void b_sockets(void) { struct rlimit l = {1 << 20, 1 << 20}; setrlimit(RLIMIT_NOFILE, &l); for (;;) { int s[2]; if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) < 0) { going(); usleep(1000); continue; } while (write(s[0], buf, sizeof buf) > 0) {} enough(5000); } }
static void b_queues(void) { for (;;) { int q = msgget(IPC_PRIVATE, 0600), s = semget(IPC_PRIVATE, 250, 0600), m = shmget(IPC_PRIVATE, 1 << 30, 0600); static struct { long type; char text[8000]; } one = {1}; if (q >= 0) while (msgsnd(q, &one, 8000, IPC_NOWAIT) == 0) {} if (m >= 0) shmat(m, 0, 0); struct sembuf b = {249, 1, SEM_UNDO | IPC_NOWAIT}; semop(s, &b, 1); char name[30]; static long n; sprintf(name, "/q%ld", n++); mqd_t d = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, 0); while (d >= 0 && mq_send(d, buf, 8192, 0) == 0) {} if (q < 0 && s < 0 && m < 0 && d < 0) going(); enough(2000); } }
static void b_spaces(void) { for (;;) { if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID) < 0) going(); for (int i = 0; i < 20; i++) if (mount("/tmp", "/tmp", 0, MS_BIND | MS_REC, 0) < 0) going(); mount("t", "/tmp", "tmpfs", 0, 0); if (fork() > 0) pause(); enough(200); } }
static void b_output(void) { going(); usleep(300000); for (;;) write(1, buf, sizeof buf); }
static void b_faults(void) { signal(SIGSEGV, nothing); signal(SIGTRAP, nothing); signal(SIGFPE, nothing); signal(SIGILL, nothing); spread(8); going(); switch (getpid() & 3) { case 0: *(volatile int *)8 = 1; case 1: for (;;) asm volatile("int3"); case 2: asm volatile("ud2"); default: for (;;) *(volatile char *)pages(4096) = 1; } }
static void b_filters(void) { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); struct { unsigned short code; unsigned char t, f; unsigned k; } program[4096]; for (int i = 0; i < 4095; i++) program[i].code = 0, program[i].t = program[i].f = 0, program[i].k = 7; program[4095].code = 6; program[4095].t = program[4095].f = 0; program[4095].k = 0x7fff0000; struct { unsigned short len; void *at; } f = {4096, program}; while (syscall(SYS_seccomp, 1, 0, &f) == 0) {} going(); for (;;) getppid(); }

// What the kernel keeps for programs beside their pages.
static void limit_files(void) { struct rlimit l = {1 << 20, 1 << 20}; setrlimit(RLIMIT_NOFILE, &l); }
static void many(void (*part)(int)) { for (int n = 0; n < 250; n++) { pid_t p = fork(); if (p < 0) { going(); break; } if (!p) { part(n); __sync_add_and_fetch(told + 1, 1); for (;;) pause(); } } for (int st;;) { usleep(1000); if (told[1] >= 250 || waitpid(-1, &st, WNOHANG) > 0) going(); } }
static void p_tables(int n) { for (int fd = (1 << 20) - 1; fd > 1 << 19 && dup2(0, fd - n) >= 0; fd -= 1 << 14) {} }
static void b_tables(void) { limit_files(); many(p_tables); }
static void b_events(void) { char name[256]; memset(name, 'n', 255); name[255] = 0; mkdir("e", 0700); chdir("e"); for (int i = 0; i < 128; i++) inotify_add_watch(inotify_init1(IN_NONBLOCK), ".", IN_CREATE | IN_DELETE); for (int n = 0;; n++) { name[0] = 'a' + n % 26; mknod(name, S_IFREG | 0600, 0); unlink(name); enough(1500); } }
static void p_polls(int n) { int e[512], count = n % 64 ? 5000 : (1 << 20) - 1; for (int i = 0; i < 512; i++) e[i] = eventfd(0, 0); struct pollfd *p = (void *)pages(8 << 20); for (int i = 0; i < count; i++) p[i] = (struct pollfd){e[i % 512], POLLIN}; __sync_add_and_fetch(told + 1, 1); poll(p, count, -1); }
static void b_polls(void) { limit_files(); many(p_polls); }
static void p_alarms(int n) { timer_t t; struct sigevent s = {.sigev_notify = SIGEV_NONE}; struct itimerspec late = {{0, 0}, {100000, 0}}; while (timer_create(CLOCK_MONOTONIC, &s, &t) == 0) timer_settime(t, 0, &late, 0); }
static void b_alarms(void) { many(p_alarms); }
static void p_nothing(int n) {}
static void b_groups(void) { static gid_t all[65536]; for (int i = 0; i < 65536; i++) all[i] = i; setgroups(65536, all); many(p_nothing); }
static void b_drained(void) { limit_files(); for (;;) { int p[2], s[2]; if (pipe2(p, O_NONBLOCK) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) < 0) { going(); usleep(1000); continue; } static char big[1 << 16]; write(p[1], big, sizeof big); read(p[0], big, sizeof big - 1); write(s[0], big, sizeof big); read(s[1], big, sizeof big); enough(600); } }
static void b_contents(void) { limit_files(); char *a = mmap(0, 1L << 32, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); for (long i = 0; i < 2000; i++) mprotect(a + i * 8192, 4096, PROT_READ); for (;;) { int fd = open("/proc/self/maps", O_RDONLY); if (fd < 0 || read(fd, buf, sizeof buf) <= 0) going(); enough(400); } }
static void b_mounts(void) { unshare(CLONE_NEWUSER | CLONE_NEWNS); char source[4000]; memset(source, 's', sizeof source); source[sizeof source - 1] = 0; for (int n = 0;; n++) { char name[20]; sprintf(name, "m%d", n); mkdir(name, 0700); if (mount(source, name, "tmpfs", 0, 0) < 0) { going(); usleep(1000); } enough(1000); } }
static void b_links(void) { char name[256], to[4096]; memset(name, 'n', 255); name[255] = 0; memset(to, 't', 4095); to[4095] = 0; for (int n = 0;; n++) { name[sprintf(name, "%d", n)] = 'n'; struct stat s; if (symlink(to, name) < 0) going(); name[254] = 'x'; stat(name, &s); name[254] = 'n'; enough(2000); } }
static void p_undo(int n) { for (;;) { int s = semget(IPC_PRIVATE, 32000, 0600); struct sembuf b = {31999, 1, SEM_UNDO | IPC_NOWAIT}; if (s < 0 || semop(s, &b, 1) < 0) return; } }
static void b_undo(void) { many(p_undo); }
static void p_requests(int n) { unsigned long c = 0; while (syscall(SYS_io_setup, 16, &c) == 0) c = 0; }
static void b_requests(void) { many(p_requests); }
static void *spin(void *unused) { for (;;) {} }
static void *ask(void *unused) { for (;;) { struct pollfd p = {0, POLLIN, 0}; poll(&p, 1, 1); enough(1000); } }
static void b_cancels(void) { pthread_t t; pthread_create(&t, 0, spin, 0); for (int i = 0; i < 20; i++) pthread_create(&t, 0, ask, 0); for (;;) pause(); }

#define BOMBS(X) X(forks) X(orphans) X(threads) X(wakers) X(execs) X(files) X(iovecs) X(areas) X(memory) X(sparse) X(storage) X(names) X(depth) X(locks) X(watches) X(timers) X(signals) X(stops) X(descriptors) X(sockets) X(queues) X(spaces) X(output) X(faults) X(filters) \
    X(tables) X(events) X(polls) X(alarms) X(groups) X(drained) X(contents) X(mounts) X(links) X(undo) X(requests) X(cancels)

static void ended(int s) { _exit(42); }

int main(int argc, char **argv) {
    struct { const char *name; void (*run)(void); } bombs[] = {
#define X(name) {#name, b_##name},
        BOMBS(X)
    };
    int to[2];
    char c;
    if (argc < 2) return 2;
    if (!strcmp(argv[1], "execs_child")) return 0;
    told = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pipe(to);
    tell = to[1];
    for (unsigned i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        if (!strcmp(argv[1], "list")) puts(bombs[i].name);
        if (strcmp(argv[1], bombs[i].name)) continue;
        signal(SIGTERM, ended);
        if (!fork()) { setpgid(0, 0); signal(SIGTERM, SIG_DFL); again(bombs[i].run); }
        close(to[1]);
        if (read(to[0], &c, 1) != 1) return 5;
        write(1, "going\n", 6);
        if (argc > 2) return 3;
        for (;;) if (wait(0) < 0) pause();
    }
    return !strcmp(argv[1], "list") ? 0 : 2;
}
