// Cases of futexes and of files that are events; see guest.h.
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define MS 1000000
#define fut(...) syscall(SYS_futex, __VA_ARGS__)
static const struct timespec short_time = {0, 5 * MS};
static void nap(int ms) { struct timespec t = {0, ms * MS}; nanosleep(&t, 0); }
static uint32_t words[1024];

// A thread that makes one futex call and keeps its result.
struct sleeper { pthread_t thread; uint32_t *word; int op; uint32_t val; const struct timespec *time; uint32_t *word2; uint32_t val3; long result; int error; volatile pid_t tid; };
static void *sleeper(void *p) {
    struct sleeper *s = p;
    s->tid = gettid();
    s->result = fut(s->word, s->op, s->val, s->time, s->word2, s->val3);
    s->error = s->result < 0 ? errno : 0;
    if (s->op == FUTEX_LOCK_PI && !s->result) fut(s->word, FUTEX_UNLOCK_PI);
    if (s->op == FUTEX_WAIT_REQUEUE_PI && !s->result) fut(s->word2, FUTEX_UNLOCK_PI);
    return 0;
}
static void start(struct sleeper *s) { s->tid = 0; pthread_create(&s->thread, 0, sleeper, s); while (!s->tid) nap(1); nap(20); }
static void finish(struct sleeper *s) { pthread_join(s->thread, 0); printf("%ld %s\n", s->result, s->error ? strerrorname_np(s->error) : ""); }

static void c_futex_errors(void) {
    uint32_t *w = words; *w = 5;
    T(fut(w, FUTEX_WAIT, 4, 0)); T(fut(w, FUTEX_WAIT, 5, &short_time)); T(fut((char *)w + 2, FUTEX_WAIT, 5, 0)); T(fut((void *)8, FUTEX_WAIT, 5, 0)); T(fut((void *)8, FUTEX_WAKE, 5)); T(fut((void *)8, FUTEX_WAKE_PRIVATE, 5));
    struct timespec bad = {0, 1000000000}; T(fut(w, FUTEX_WAIT, 5, &bad)); T(fut(w, FUTEX_WAIT, 5, (void *)8)); bad.tv_nsec = 0; bad.tv_sec = -1; T(fut(w, FUTEX_WAIT, 5, &bad));
    T(fut(w, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 5, &short_time)); T(fut(w, FUTEX_WAIT_BITSET, 5, &short_time, 0, 0)); T(fut(w, FUTEX_WAIT_BITSET, 5, &short_time, 0, 1)); T(fut(w, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &short_time, 0, 1)); T(fut(w, FUTEX_WAKE_BITSET, 1, 0, 0, 0));
    T(fut(w, FUTEX_WAKE, 0)); T(fut(w, FUTEX_WAKE, -1)); T(fut(w, 2, 1)); T(fut(w, 99, 1)); T(fut(w, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1));
    T(fut(w, FUTEX_REQUEUE, -1, 1, w + 1)); T(fut(w, FUTEX_CMP_REQUEUE, 1, 1, w + 1, 4)); T(fut(w, FUTEX_CMP_REQUEUE, 1, 1, w + 1, 5)); T(fut(w, FUTEX_REQUEUE, 1, 1, (void *)8));
    T(fut(w, FUTEX_CMP_REQUEUE_PI, 2, 1, w + 1, 5)); T(fut(w, FUTEX_CMP_REQUEUE_PI, 1, 1, w, 5)); T(fut(w, FUTEX_CMP_REQUEUE_PI, 1, 1, w + 1, 5)); T(fut(w, FUTEX_WAIT_REQUEUE_PI, 5, 0, w)); T(fut(w, FUTEX_WAIT_REQUEUE_PI, 4, 0, w + 1)); T(fut(w, FUTEX_WAIT_REQUEUE_PI, 5, &short_time, w + 1));
}
static void c_futex_wake_op(void) {
    uint32_t *w = words; for (int op = 0; op < 8; op++) { w[1] = 12; T(fut(w, FUTEX_WAKE_OP, 1, 1, w + 1, FUTEX_OP(op, 10, 0, 12))); printf("%u\n", w[1]); }
    for (int cmp = 0; cmp < 8; cmp++) { w[1] = 12; T(fut(w, FUTEX_WAKE_OP, 1, 1, w + 1, FUTEX_OP(0, 0xfff, cmp, 12))); printf("%u\n", w[1]); }
    w[1] = 0; T(fut(w, FUTEX_WAKE_OP, 1, 1, w + 1, FUTEX_OP(FUTEX_OP_OR | 8, 5, 0, 0))); printf("%u\n", w[1]); T(fut(w, FUTEX_WAKE_OP, 1, 1, (void *)8, 0)); T(fut(w, FUTEX_WAKE_OP, 1, 1, (char *)w + 1, 0));
}
static void c_futex_threads(void) {
    uint32_t *w = words; struct sleeper s[3] = {{.word = w, .op = FUTEX_WAIT_PRIVATE}, {.word = w, .op = FUTEX_WAIT_PRIVATE}, {.word = w, .op = FUTEX_WAIT_BITSET_PRIVATE, .val3 = 4}};
    for (int i = 0; i < 3; i++) start(s + i);
    T(fut(w, FUTEX_WAKE, 9)); T(fut(w, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 8)); T(fut(w, FUTEX_REQUEUE_PRIVATE, 1, 1, w + 1)); T(fut(w + 1, FUTEX_WAKE_PRIVATE, 9)); T(fut(w, FUTEX_WAKE_PRIVATE, 9));
    for (int i = 0; i < 3; i++) finish(s + i);
}
static void c_futex_shared(void) {
    uint32_t *w = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); int fd = make("f", ""); ftruncate(fd, 4096);
    uint32_t *a = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *b = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t c = (fflush(stdout), fork()); if (!c) { _exit(fut(w, FUTEX_WAIT, 0, 0) || fut(a, FUTEX_WAIT, 0, 0)); }
    long n; while (!(n = fut(w, FUTEX_WAKE, 1))) nap(1); printf("%ld\n", n); while (!(n = fut(b, FUTEX_WAKE, 1))) nap(1); printf("%ld\n", n); int st; waitpid(c, &st, 0); printf("%d\n", st);
}
static void c_futex_pi(void) {
    uint32_t *w = words; pid_t me = gettid(); T(fut(w, FUTEX_LOCK_PI, 0, 0)); printf("%d\n", *w == me); T(fut(w, FUTEX_LOCK_PI, 0, 0)); T(fut(w, FUTEX_TRYLOCK_PI)); T(fut(w, FUTEX_UNLOCK_PI)); printf("%u\n", *w); T(fut(w, FUTEX_UNLOCK_PI));
    *w = 3999999; T(fut(w, FUTEX_LOCK_PI, 0, 0)); printf("%x\n", *w); *w = 0;
    fut(w, FUTEX_LOCK_PI, 0, 0); struct sleeper s = {.word = w, .op = FUTEX_LOCK_PI}; start(&s); printf("%d\n", *w == (me | FUTEX_WAITERS)); T(fut(w, FUTEX_WAKE, 1)); T(fut(w, FUTEX_UNLOCK_PI)); finish(&s);
    fut(w, FUTEX_LOCK_PI, 0, 0); s.time = &short_time; start(&s); finish(&s); printf("%d\n", *w == (me | FUTEX_WAITERS)); T(fut(w, FUTEX_UNLOCK_PI)); printf("%u\n", *w);
    struct sleeper n = {.word = w, .op = FUTEX_WAIT}; start(&n); T(fut(w, FUTEX_LOCK_PI, 0, 0)); T(fut(w, FUTEX_WAKE, 1)); finish(&n);
}
static void c_futex_requeue_pi(void) {
    uint32_t *w = words; struct sleeper s[2] = {{.word = w, .op = FUTEX_WAIT_REQUEUE_PI, .word2 = w + 1}, {.word = w, .op = FUTEX_WAIT_REQUEUE_PI, .word2 = w + 1}};
    start(s); start(s + 1); T(fut(w, FUTEX_WAKE, 1)); T(fut(w, FUTEX_REQUEUE, 1, 1, w + 1)); T(fut(w, FUTEX_CMP_REQUEUE_PI, 1, 1, w + 2, 0)); T(fut(w + 1, FUTEX_LOCK_PI, 0, 0)); T(fut(w, FUTEX_CMP_REQUEUE_PI, 1, 9, w + 1, 0)); T(fut(w + 1, FUTEX_UNLOCK_PI)); finish(s); finish(s + 1); printf("%u\n", w[1]);
}
static void *dies(void *mutex) { pthread_mutex_lock(mutex); return 0; }
static void c_robust(void) {
    for (int pi = 0; pi < 2; pi++) {
        pthread_mutexattr_t a; pthread_mutexattr_init(&a); pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST); pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED); if (pi) pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
        pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); pthread_mutex_init(m, &a);
        pthread_t t; pthread_create(&t, 0, dies, m); pthread_join(t, 0); T(pthread_mutex_lock(m)); T(pthread_mutex_consistent(m)); T(pthread_mutex_unlock(m)); T(pthread_mutex_lock(m)); T(pthread_mutex_unlock(m));
        int p[2]; pipe(p); pid_t c = (fflush(stdout), fork()); if (!c) { pthread_mutex_lock(m); write(p[1], "x", 1); nap(50); kill(getpid(), SIGKILL); } read(p[0], buf, 1); T(pthread_mutex_lock(m)); T(pthread_mutex_unlock(m)); T(pthread_mutex_lock(m)); waitpid(c, 0, 0);
    }
    void *head; size_t len; T(syscall(SYS_get_robust_list, 0, &head, &len)); printf("%zu\n", len); T(syscall(SYS_get_robust_list, 3999999, &head, &len)); T(syscall(SYS_set_robust_list, head, 23));
}
struct waitv { uint64_t val, uaddr; uint32_t flags, pad; };
static void *wake_later(void *w) { nap(30); fut(w, FUTEX_WAKE, 1); return 0; }
static void c_futex_waitv(void) {
    struct waitv v[130] = {{0, (uintptr_t)words, 2}, {0, (uintptr_t)(words + 1), 2}}; struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
    T(syscall(449, v, 2, 0, &t, 1)); T(syscall(449, v, 2, 0, &t, 7)); T(syscall(449, v, 2, 1, 0, 0)); T(syscall(449, v, 0, 0, 0, 0)); T(syscall(449, v, 129, 0, 0, 0)); T(syscall(449, 0, 1, 0, 0, 0)); T(syscall(449, (void *)8, 1, 0, 0, 0));
    v[1].val = 1; T(syscall(449, v, 2, 0, 0, 0)); v[1].val = 1ull << 32; T(syscall(449, v, 2, 0, 0, 0)); v[1].val = 0; v[1].flags = 0; T(syscall(449, v, 2, 0, 0, 0)); v[1].flags = 2; v[1].pad = 1; T(syscall(449, v, 2, 0, 0, 0)); v[1].pad = 0;
    pthread_t w; pthread_create(&w, 0, wake_later, words + 1); T(syscall(449, v, 2, 0, 0, 0)); pthread_join(w, 0);
}
static void c_futex2(void) {
    uint32_t *w = words; T(syscall(455, w, 0, 0, 2, 0, 0)); T(syscall(455, w, 1, 1, 2, 0, 0)); T(syscall(455, w, 1ull << 32, 1, 2, 0, 0)); T(syscall(455, w, 0, 1, 1, 0, 0)); struct timespec t; clock_gettime(CLOCK_REALTIME, &t); T(syscall(455, w, 0, 1, 2, &t, 0)); T(syscall(455, w, 0, 1, 2, &t, 5));
    T(syscall(454, w, 1, 1, 2)); T(syscall(454, w, 1, 0, 2)); T(syscall(454, w, 0, 1, 2)); T(syscall(454, w, 1, 1, 0)); struct waitv v[2] = {{0, (uintptr_t)w, 2}, {0, (uintptr_t)(w + 1), 2}}; T(syscall(456, v, 0, 1, 1)); T(syscall(456, v, 1, 1, 1)); v[0].val = 3; T(syscall(456, v, 0, 1, 1)); T(syscall(456, 0, 0, 1, 1));
}

static int add(int ep, int fd, uint32_t events) { struct epoll_event e = {events, {.u64 = fd}}; return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e); }
static int mod(int ep, int fd, uint32_t events) { struct epoll_event e = {events, {.u64 = fd}}; return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e); }
static void told(int ep) { struct epoll_event e[16]; int n = epoll_wait(ep, e, 16, 0); printf("%d:", n); for (int i = 0; i < n; i++) printf(" %x@%d", e[i].events, (int)e[i].data.u64); puts(""); }
static int64_t take(int fd) { int64_t n = 0; long r = read(fd, &n, 8); return r == 8 ? n : -errno; }
static int64_t give(int fd, uint64_t n) { long r = write(fd, &n, 8); return r == 8 ? 8 : -errno; }

static void c_eventfd(void) {
    int fd = eventfd(3, EFD_NONBLOCK); T(take(fd)); T(take(fd)); T(read(fd, buf, 7)); T(give(fd, -1)); T(give(fd, -2)); T(give(fd, 1)); T(take(fd)); T(write(fd, buf, 7)); T(lseek(fd, 0, SEEK_SET)); T(pread(fd, buf, 8, 0)); T(eventfd(0, 2)); T(ftruncate(fd, 0)); T(fsync(fd)); T((long)mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0));
    int s = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK); T(take(s)); T(take(s)); T(take(s)); T(fcntl(s, F_GETFL)); T(fcntl(s, F_GETFD)); T(read(fd, (void *)8, 8)); give(fd, 1); T(write(fd, (void *)8, 8)); struct iovec v[2] = {{buf, 4}, {buf + 4, 4}}; T(readv(fd, v, 2)); struct stat st; fstat(fd, &st); printf("%o %ld\n", st.st_mode, (long)st.st_size);
    struct pollfd p = {fd, POLLIN | POLLOUT}; T(poll(&p, 1, 0)); printf("%x\n", p.revents); give(fd, -2); T(poll(&p, 1, 0)); printf("%x\n", p.revents); sprintf(buf, "/proc/self/fd/%d", fd); char name[100] = ""; readlink(buf, name, 99); puts(name); T(open(buf, O_RDWR));
}
static void c_eventfd_blocks(void) { int fd = eventfd(0, 0); pid_t c = (fflush(stdout), fork()); if (!c) { nap(20); give(fd, 7); give(fd, -8); give(fd, 100); _exit(0); } T(take(fd)); nap(20); T(take(fd)); T(take(fd)); waitpid(c, 0, 0); }
static void c_epoll_errors(void) {
    int ep = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(0, 0), f = make("f", ""); struct epoll_event e = {EPOLLIN}; T(epoll_create(0)); T(epoll_create1(1)); T(add(ep, f, EPOLLIN)); T(add(ep, 99, EPOLLIN)); T(add(99, fd, EPOLLIN)); T(add(fd, ep, EPOLLIN)); T(add(ep, ep, EPOLLIN)); T(epoll_ctl(ep, 9, fd, &e)); T(epoll_ctl(ep, EPOLL_CTL_ADD, fd, 0)); T(mod(ep, fd, EPOLLIN)); T(epoll_ctl(ep, EPOLL_CTL_DEL, fd, 0));
    T(epoll_wait(ep, &e, 0, 0)); T(epoll_wait(fd, &e, 1, 0)); T(epoll_wait(99, &e, 1, 0)); T(epoll_wait(ep, &e, 1 << 30, 0)); T(syscall(SYS_epoll_pwait, ep, &e, 1, 0, &e, 4)); T(read(ep, buf, 8)); T(write(ep, buf, 8)); T(lseek(ep, 0, 0)); T(add(ep, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT)); T(add(ep, fd, EPOLLIN | EPOLLEXCLUSIVE)); T(mod(ep, fd, EPOLLIN)); T(add(ep, fd, EPOLLIN)); int n = open("/dev/null", O_RDWR); T(add(ep, n, EPOLLIN)); int d = open(".", O_RDONLY); T(add(ep, d, EPOLLIN)); int o = open("f", O_PATH); T(add(ep, o, EPOLLIN)); int q = epoll_create1(0); T(add(ep, q, EPOLLIN | EPOLLEXCLUSIVE)); struct timespec t = {0, 2000000000}; T(syscall(SYS_epoll_pwait2, ep, &e, 1, &t, 0, 8));
}
static void c_epoll_modes(void) {
    int ep = epoll_create1(0), a = eventfd(0, 0), b = eventfd(1, 0), c = eventfd(1, 0); add(ep, a, EPOLLIN); add(ep, b, EPOLLIN | EPOLLET); add(ep, c, EPOLLIN | EPOLLONESHOT); told(ep); told(ep); give(a, 1); give(b, 1); give(c, 1); told(ep); told(ep); take(a); told(ep); mod(ep, c, EPOLLIN | EPOLLOUT | EPOLLONESHOT); mod(ep, b, EPOLLIN | EPOLLET); told(ep); told(ep);
    mod(ep, a, 0); told(ep); mod(ep, a, EPOLLOUT); told(ep); int d = dup(b); close(b); give(d, 1); told(ep); close(d); close(a); told(ep); struct epoll_event e; int x = eventfd(1, 0), y = eventfd(1, 0); add(ep, x, EPOLLIN); add(ep, y, EPOLLIN); for (int i = 0; i < 4; i++) { epoll_wait(ep, &e, 1, 0); printf("%d\n", e.data.u64 == x); }
}
static void c_epoll_pipe(void) {
    int p[2]; pipe2(p, O_NONBLOCK); int ep = epoll_create1(0); add(ep, p[0], EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP); add(ep, p[1], EPOLLIN | EPOLLOUT | EPOLLET); told(ep); write(p[1], "a", 1); told(ep); write(p[1], "b", 1); told(ep); read(p[0], buf, 1); told(ep); read(p[0], buf, 9); told(ep); while (write(p[1], buf, 65536) > 0) {} told(ep); while (read(p[0], buf, 65536) > 0) {} told(ep); told(ep);
    int q[2]; pipe(q); int e2 = epoll_create1(0); add(e2, q[0], EPOLLIN); add(e2, q[1], EPOLLOUT); told(e2); write(q[1], "x", 1); told(e2); close(q[1]); told(e2); read(q[0], buf, 1); told(e2); close(p[0]); told(ep);
}
static void c_epoll_nested(void) {
    int ep[7], fd = eventfd(0, 0); for (int i = 0; i < 7; i++) ep[i] = epoll_create1(0); for (int i = 0; i < 5; i++) T(add(ep[i], ep[i + 1], EPOLLIN)); T(add(ep[5], ep[0], EPOLLIN)); T(add(ep[4], ep[5], EPOLLIN)); T(add(ep[6], ep[0], EPOLLIN)); T(add(ep[6], ep[1], EPOLLIN)); T(add(ep[2], ep[6], EPOLLIN)); T(add(ep[4], fd, EPOLLIN)); told(ep[0]); give(fd, 1); told(ep[0]); told(ep[4]); take(fd); told(ep[0]); struct pollfd p = {ep[0], POLLIN}; T(poll(&p, 1, 0)); give(fd, 1); T(poll(&p, 1, 0)); printf("%x\n", p.revents);
    int a = epoll_create1(0), b = epoll_create1(0); add(a, b, EPOLLIN | EPOLLET); int g = eventfd(0, 0); add(b, g, EPOLLIN); give(g, 1); told(a); told(a); give(g, 1); told(a); told(b);
}
static void c_epoll_wakes(void) {
    int ep = epoll_create1(0), fd = eventfd(0, 0); add(ep, fd, EPOLLIN); pid_t c = (fflush(stdout), fork()); if (!c) { nap(20); give(fd, 1); asleep(getppid()); kill(getppid(), SIGUSR1); _exit(0); } struct epoll_event e; T(epoll_wait(ep, &e, 1, -1)); take(fd); signal(SIGUSR1, SIG_IGN); struct sigaction a = {.sa_handler = (void (*)(int))nap, .sa_flags = SA_RESTART}; sigaction(SIGUSR1, &a, 0); T(epoll_wait(ep, &e, 1, -1)); waitpid(c, 0, 0); T(epoll_wait(ep, &e, 1, 10));
    sigset_t s, o; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0); raise(SIGUSR1); sigemptyset(&o); T(epoll_pwait(ep, &e, 1, -1, &o)); T(epoll_wait(ep, &e, 1, 0));
}
static void c_timerfd(void) {
    T(timerfd_create(2, 0)); T(timerfd_create(1, 1)); int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); struct itimerspec t = {{0, 0}, {0, 20 * MS}}, o; T(timerfd_settime(fd, 4, &t, 0)); T(timerfd_settime(99, 0, &t, 0)); T(timerfd_settime(0, 0, &t, 0)); T(timerfd_settime(fd, 0, (void *)8, 0)); T(read(fd, buf, 8)); T(timerfd_settime(fd, 0, &t, &o)); printf("%ld %ld\n", (long)o.it_value.tv_sec, o.it_value.tv_nsec); T(read(fd, buf, 8)); T(read(fd, buf, 7)); T(write(fd, buf, 8));
    fcntl(fd, F_SETFL, 0); T(take(fd)); T(timerfd_gettime(fd, &o)); printf("%ld %ld\n", (long)o.it_value.tv_sec, o.it_value.tv_nsec); t.it_value.tv_nsec = 1000000000; T(timerfd_settime(fd, 0, &t, 0)); t = (struct itimerspec){{0, 500 * MS}, {0, 1}}; T(timerfd_settime(fd, 0, &t, 0)); T(take(fd)); T(timerfd_gettime(fd, &o)); printf("%d %ld\n", o.it_value.tv_nsec > 300 * MS, o.it_interval.tv_nsec);
    t = (struct itimerspec){{0, 0}, {1, 0}}; T(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, 0)); T(take(fd)); int r = timerfd_create(CLOCK_REALTIME, 0); struct timespec n; clock_gettime(CLOCK_REALTIME, &n); t = (struct itimerspec){{0, 0}, {n.tv_sec, n.tv_nsec}}; T(timerfd_settime(r, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &t, 0)); T(take(r)); struct pollfd p = {r, POLLIN}; T(poll(&p, 1, 0)); sprintf(buf, "/proc/self/fd/%d", r); char name[100] = ""; readlink(buf, name, 99); puts(name);
    t = (struct itimerspec){{0, 10 * MS}, {0, 10 * MS}}; timerfd_settime(fd, 0, &t, 0); nap(55); printf("%d\n", take(fd) >= 5); t = (struct itimerspec){}; T(timerfd_settime(fd, 0, &t, &o)); printf("%ld\n", o.it_interval.tv_nsec); fcntl(fd, F_SETFL, O_NONBLOCK); T(take(fd));
}
static void c_signalfd(void) {
    sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigaddset(&s, SIGCHLD); sigaddset(&s, SIGRTMIN + 1); sigprocmask(SIG_BLOCK, &s, 0); T(syscall(SYS_signalfd4, -1, &s, 4, 0)); T(syscall(SYS_signalfd4, -1, &s, 8, 1)); T(signalfd(0, &s, 0)); T(signalfd(99, &s, 0)); int fd = signalfd(-1, &s, SFD_NONBLOCK); struct signalfd_siginfo i[4]; T(read(fd, i, sizeof i)); T(read(fd, i, 100)); raise(SIGUSR1); union sigval v = {.sival_int = 77}; sigqueue(getpid(), SIGRTMIN + 1, v); v.sival_int = 78; sigqueue(getpid(), SIGRTMIN + 1, v);
    struct pollfd p = {fd, POLLIN}; T(poll(&p, 1, 0)); printf("%x\n", p.revents); T(read(fd, i, sizeof i)); for (int n = 0; n < 3; n++) printf("%u %d %d %d %d %d\n", i[n].ssi_signo, i[n].ssi_code, i[n].ssi_pid == getpid(), i[n].ssi_uid == getuid(), i[n].ssi_int, (int)i[n].ssi_ptr);
    pid_t c = (fflush(stdout), fork()); if (!c) _exit(5); fcntl(fd, F_SETFL, 0); T(read(fd, i, sizeof i)); printf("%u %d %d %d\n", i[0].ssi_signo, i[0].ssi_code, i[0].ssi_pid == c, i[0].ssi_status); waitpid(c, 0, 0); sigemptyset(&s); T(signalfd(fd, &s, 0) == fd); raise(SIGUSR1); T(poll(&p, 1, 0)); T(write(fd, buf, 8)); sprintf(buf, "/proc/self/fd/%d", fd); char name[100] = ""; readlink(buf, name, 99); puts(name);
}
static void c_pidfd(void) {
    T(syscall(SYS_pidfd_open, 3999999, 0)); T(syscall(SYS_pidfd_open, 0, 0)); T(syscall(SYS_pidfd_open, getpid(), 1)); pid_t c = (fflush(stdout), fork()); if (!c) { pause(); _exit(0); } int fd = syscall(SYS_pidfd_open, c, 0), nb = syscall(SYS_pidfd_open, c, O_NONBLOCK); T(fcntl(fd, F_GETFD)); T(read(fd, buf, 8)); T(write(fd, buf, 8)); siginfo_t i = {0}; T(waitid(P_PIDFD, nb, &i, WEXITED)); T(waitid(P_PIDFD, fd, &i, WEXITED | WNOHANG)); T(waitid(P_PIDFD, 99, &i, WEXITED)); T(waitid(P_PIDFD, 0, &i, WEXITED)); T(waitid(P_PIDFD, -1, &i, WEXITED)); struct pollfd p = {fd, POLLIN}; T(poll(&p, 1, 0));
    T(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0)); T(syscall(SYS_pidfd_send_signal, fd, 99, 0, 0)); T(syscall(SYS_pidfd_send_signal, fd, 0, 0, 64)); T(syscall(SYS_pidfd_send_signal, 0, 0, 0, 0)); T(syscall(SYS_pidfd_getfd, fd, 1, 1)); T(syscall(SYS_pidfd_getfd, fd, 99, 0)); T(syscall(SYS_pidfd_getfd, 0, 1, 0)); int g = syscall(SYS_pidfd_getfd, fd, 1, 0); T(fcntl(g, F_GETFD)); T(syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0)); T(poll(&p, 1, 1000)); printf("%x\n", p.revents); T(waitid(P_PIDFD, nb, &i, WEXITED)); printf("%d %d %d\n", i.si_pid == c, i.si_code, i.si_status); T(poll(&p, 1, 0)); printf("%x\n", p.revents); T(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0)); T(waitid(P_PIDFD, fd, &i, WEXITED)); T(syscall(SYS_pidfd_getfd, fd, 1, 0)); sprintf(buf, "/proc/self/fd/%d", fd); char name[100] = ""; readlink(buf, name, 99); puts(name); const char *dirs[] = {"/proc/self", "/proc/thread-self", "/proc/self/task", "/proc", "/"}; for (int k = 0; k < 5; k++) { int d = open(dirs[k], O_RDONLY | O_DIRECTORY), e = open(dirs[k], O_PATH); T(syscall(SYS_pidfd_send_signal, d, 0, 0, 0)); T(syscall(SYS_pidfd_send_signal, d, 99, 0, 0)); T(syscall(SYS_pidfd_send_signal, e, 0, 0, 0)); T(syscall(SYS_pidfd_getfd, d, 1, 0)); close(d); close(e); }
    int made = -1; pid_t d = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &made, 0, 0); if (!d) _exit(3); printf("%d\n", made >= 0); T(waitid(P_PIDFD, made, &i, WEXITED)); printf("%d\n", i.si_status); T(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &made, 0, 0)); T(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, (void *)8, 0, 0));
}
static volatile int ticks, last; static void tick(int s, siginfo_t *i, void *c) { (void)c; ticks++; last = s * 1000 + i->si_value.sival_int; }
static void c_posix_timers(void) {
    struct sigaction a = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO}; sigaction(SIGRTMIN, &a, 0); struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 55}; int id = -1, id2 = -1;
#define tc(...) syscall(SYS_timer_create, __VA_ARGS__)
#define ts(...) syscall(SYS_timer_settime, __VA_ARGS__)
    T(tc(99, &e, &id)); T(tc(CLOCK_MONOTONIC_RAW, &e, &id)); T(tc(CLOCK_MONOTONIC, &e, &id)); T(tc(CLOCK_REALTIME, 0, &id2)); printf("%d %d\n", id, id2); T(tc(CLOCK_MONOTONIC, &e, (void *)8)); e.sigev_signo = 65; T(tc(CLOCK_MONOTONIC, &e, &id2)); e.sigev_signo = 0; T(tc(CLOCK_MONOTONIC, &e, &id2)); e.sigev_notify = 9; T(tc(CLOCK_MONOTONIC, &e, &id2)); e.sigev_notify = SIGEV_NONE; T(tc(CLOCK_MONOTONIC, &e, &id2)); struct itimerspec t = {{0, 0}, {0, 10 * MS}}, o;
    T(ts(id, 0, 0, 0)); T(ts(77, 0, &t, 0)); T(ts(id, 0, &t, &o)); printf("%ld\n", o.it_value.tv_nsec); while (!ticks) nap(5); printf("%d %d\n", ticks, last - SIGRTMIN * 1000); T(syscall(SYS_timer_getoverrun, id)); T(syscall(SYS_timer_gettime, id, &o)); printf("%ld %ld\n", o.it_value.tv_nsec, o.it_interval.tv_nsec); T(syscall(SYS_timer_getoverrun, 77)); T(syscall(SYS_timer_delete, 77));
    sigset_t s; sigemptyset(&s); sigaddset(&s, SIGRTMIN); sigprocmask(SIG_BLOCK, &s, 0); t = (struct itimerspec){{0, 10 * MS}, {0, 10 * MS}}; T(ts(id, 0, &t, 0)); nap(65); siginfo_t i; T(sigwaitinfo(&s, &i) == SIGRTMIN); printf("%d %d %d\n", i.si_code, i.si_overrun >= 4, i.si_value.sival_int); printf("%d\n", syscall(SYS_timer_getoverrun, id) == i.si_overrun); t = (struct itimerspec){{0, 10 * MS}, {0, 0}}; nap(15); T(ts(id, 0, &t, &o)); printf("%ld\n", o.it_interval.tv_nsec); struct timespec z = {0, 0}; T(sigtimedwait(&s, &i, &z)); T(syscall(SYS_timer_gettime, id, &o)); printf("%ld\n", o.it_interval.tv_nsec); T(syscall(SYS_timer_delete, id)); T(syscall(SYS_timer_delete, id));
    t = (struct itimerspec){{0, 0}, {0, 5 * MS}}; T(ts(id2, 0, &t, 0)); nap(10); T(syscall(SYS_timer_gettime, id2, &o)); printf("%ld\n", o.it_value.tv_nsec);
}

static void heard(int fd) { long n = read(fd, buf, sizeof buf); if (n < 0) { printf("- %s\n", strerrorname_np(errno)); return; } for (char *p = buf; p < buf + n;) { struct inotify_event *e = (void *)p; printf("%d:%x%s%s%s ", e->wd, e->mask, e->cookie ? " cookie" : "", e->len ? " " : "", e->len ? e->name : ""); p += sizeof *e + e->len; } puts(""); }
static void c_inotify(void) {
    int fd = inotify_init1(IN_NONBLOCK); T(inotify_init1(1)); mkdir("d", 0755); T(inotify_add_watch(fd, "d", 0)); T(inotify_add_watch(fd, "none", IN_ALL_EVENTS)); T(inotify_add_watch(99, "d", IN_ALL_EVENTS)); T(inotify_add_watch(0, "d", IN_ALL_EVENTS)); T(inotify_add_watch(fd, "d", IN_ALL_EVENTS)); T(inotify_add_watch(fd, "d", IN_MASK_CREATE | IN_OPEN)); T(inotify_add_watch(fd, "d", IN_MASK_CREATE | IN_MASK_ADD | IN_OPEN)); T(read(fd, buf, 100)); T(write(fd, buf, 1)); T(inotify_rm_watch(fd, 9)); T(inotify_rm_watch(0, 1));
    int f = make("d/f", "text"); heard(fd); T(read(f, buf, 9)); lseek(f, 0, 0); T(read(f, buf, 9)); heard(fd); T(ftruncate(f, 2)); fchmod(f, 0600); heard(fd); close(f); heard(fd); close(open("d/f", O_RDWR | O_TRUNC)); heard(fd); truncate("d/f", 5); heard(fd); utimensat(AT_FDCWD, "d/f", 0, 0); heard(fd); struct timespec t[2] = {{5, 5}, {0, UTIME_OMIT}}; utimensat(AT_FDCWD, "d/f", t, 0); heard(fd);
    link("d/f", "d/g"); heard(fd); rename("d/f", "d/h"); heard(fd); rename("d/g", "out"); heard(fd); rename("out", "d/h"); heard(fd); symlink("x", "d/l"); heard(fd); mkdir("d/s", 0700); heard(fd); rename("d/s", "d/t"); heard(fd); rmdir("d/t"); heard(fd); unlink("d/l"); heard(fd); unlink("d/h"); heard(fd); mkfifo("d/p", 0600); unlink("d/p"); heard(fd); rmdir("d"); heard(fd); heard(fd);
    sprintf(buf, "/proc/self/fd/%d", fd); char name[100] = ""; readlink(buf, name, 99); puts(name);
}
static void c_inotify_self(void) {
    int fd = inotify_init1(IN_NONBLOCK); int f = make("f", ""); T(inotify_add_watch(fd, "f", IN_ALL_EVENTS)); T(inotify_add_watch(fd, "f", IN_ALL_EVENTS | IN_ONLYDIR)); write(f, "abc", 3); write(f, "abc", 3); heard(fd); rename("f", "g"); heard(fd); link("g", "h"); heard(fd); unlink("h"); heard(fd); int b = make("b", ""); T(inotify_add_watch(fd, "b", IN_ALL_EVENTS)); close(b); heard(fd); rename("b", "g"); heard(fd); close(f); heard(fd); unlink("g"); heard(fd);
    make("o", ""); T(inotify_add_watch(fd, "o", IN_ATTRIB | IN_ONESHOT)); chmod("o", 0600); chmod("o", 0644); heard(fd); T(inotify_rm_watch(fd, 3)); T(inotify_add_watch(fd, "o", IN_ATTRIB)); T(inotify_add_watch(fd, "o", IN_MODIFY | IN_MASK_ADD)); chmod("o", 0600); truncate("o", 9); heard(fd); T(inotify_rm_watch(fd, 4)); heard(fd); mkdir("e", 0755); int u = make("e/u", ""); T(inotify_add_watch(fd, "e", IN_MODIFY | IN_EXCL_UNLINK)); write(u, "x", 1); unlink("e/u"); write(u, "x", 1); heard(fd); struct pollfd p = {fd, POLLIN}; T(poll(&p, 1, 0)); chmod("o", 0644);
}
static void c_memfd(void) {
    T(memfd_create("x", 0x18)); T(memfd_create("x", 0x100)); T(memfd_create((void *)8, 0)); memset(buf, 'n', 250); buf[250] = 0; T(memfd_create(buf, 0)); buf[249] = 0; T(memfd_create(buf, 0) >= 0); int a = memfd_create("name", 0), fd = memfd_create("name", MFD_ALLOW_SEALING | MFD_CLOEXEC); T(fcntl(a, F_GET_SEALS)); T(fcntl(a, F_ADD_SEALS, F_SEAL_GROW)); T(fcntl(fd, F_GET_SEALS)); T(fcntl(fd, F_GETFD)); T(fcntl(fd, F_GETFL) & O_ACCMODE); struct stat s; fstat(fd, &s); printf("%o %d %ld\n", s.st_mode, (int)s.st_nlink, (long)s.st_size); sprintf(buf, "/proc/self/fd/%d", fd); char name[100] = ""; readlink(buf, name, 99); puts(name); int r = open(buf, O_RDONLY); T(fcntl(r, F_ADD_SEALS, F_SEAL_SEAL));
    T(write(fd, buf, 5000)); T(fcntl(fd, F_ADD_SEALS, 64)); T(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK)); T(ftruncate(fd, 4999)); T(ftruncate(fd, 5001)); T(ftruncate(fd, 5000)); T(write(fd, buf, 1)); T(pwrite(fd, buf, 9000, 0)); T(pwrite(fd, buf, 9000, 4096)); T(pwrite(fd, buf, 10, 4096)); T(fallocate(fd, 0, 0, 9000)); char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); T(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)); T(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)); T(pwrite(fd, buf, 1, 0)); m[0] = 'Z'; munmap(m, 4096); T((long)mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)); m = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0); T(mprotect(m, 4096, PROT_READ | PROT_WRITE)); printf("%c\n", *m); T(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL)); T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)); T(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW)); T(fcntl(fd, F_GET_SEALS)); int p[2]; pipe(p); T(fcntl(p[0], F_GET_SEALS));
    int x = memfd_create("x", 8); T(fcntl(x, F_GET_SEALS)); T(fchmod(x, 0777)); T(fchmod(x, 0600)); fstat(x, &s); printf("%o\n", s.st_mode); int y = memfd_create("y", MFD_ALLOW_SEALING); T(fcntl(y, F_ADD_SEALS, 32)); T(fcntl(y, F_GET_SEALS)); T((long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, x, 0) != -1);
}
static void c_vmsplice(void) { int p[2]; pipe2(p, O_NONBLOCK); struct iovec v[2] = {{"he", 2}, {"llo", 3}}, w[2] = {{buf, 2}, {buf + 2, 9}}; T(vmsplice(p[1], v, 2, 16)); T(vmsplice(99, v, 2, 0)); int f = make("f", ""); T(vmsplice(f, v, 2, 0)); T(vmsplice(p[1], v, 2, 0)); T(vmsplice(p[0], w, 2, 0)); printf("%.5s\n", buf); T(vmsplice(p[0], w, 2, SPLICE_F_NONBLOCK)); T(vmsplice(p[1], v, 0, 0)); T(vmsplice(p[1], v, -1, 0)); }

static void c_packets(void) { int p[2]; T(pipe2(p, O_NONBLOCK | O_DIRECT)); T(write(p[1], buf, 3)); T(write(p[1], buf, 5)); T(write(p[1], buf, 5000)); T(read(p[0], buf, 2)); T(read(p[0], buf, 100)); T(read(p[0], buf, 8000)); T(read(p[0], buf, 8000)); T(read(p[0], buf, 10)); T(write(p[1], buf, 10)); T(fcntl(p[1], F_SETFL, O_NONBLOCK)); T(write(p[1], buf, 4)); T(write(p[1], buf, 3)); T(fcntl(p[1], F_SETFL, O_NONBLOCK | O_DIRECT)); T(write(p[1], buf, 6)); T(write(p[1], buf, 7)); T(read(p[0], buf, 1)); T(read(p[0], buf, 100)); T(read(p[0], buf, 100)); T(read(p[0], buf, 10)); T(fcntl(p[1], F_GETFL) & (O_DIRECT | O_NONBLOCK)); T(fcntl(p[0], F_GETFL) & (O_DIRECT | O_NONBLOCK)); }

static siginfo_t notice; static int notices;
static void noticed(int s, siginfo_t *i, void *c) { (void)s; (void)c; notices++; notice = *i; }
static void notes(const char *what, int fd) { printf("%s: %d", what, notices); if (notices) printf(" signal %d code %d band %lx%s", notice.si_signo, notice.si_code, (long)notice.si_band, notice.si_fd == fd ? "" : " other fd"); puts(""); notices = 0; memset(&notice, 0, sizeof notice); }
static void c_dnotify(void) {
    struct sigaction a = {.sa_sigaction = noticed, .sa_flags = SA_SIGINFO | SA_RESTART}; sigaction(SIGIO, &a, 0); sigaction(SIGRTMIN + 3, &a, 0); mkdir("d", 0755); mkdir("e", 0755); int f = make("d/f", "text"), d = open("d", O_RDONLY); struct f_owner_ex o = {7, 7};
    T(fcntl(f, F_NOTIFY, DN_CREATE)); T(fcntl(f, F_NOTIFY, 0)); T(fcntl(99, F_NOTIFY, DN_CREATE)); T(fcntl(open("d", O_PATH), F_NOTIFY, DN_CREATE)); T(fcntl(d, F_NOTIFY, DN_CREATE)); T(fcntl(d, F_GETOWN_EX, &o)); printf("%d %d\n", o.type, o.pid == getpid()); T(fcntl(d, F_SETSIG, SIGRTMIN + 3));
    close(make("d/1", "x")); notes("create once", d); close(make("d/2", "x")); notes("create again", d); T(fcntl(d, F_NOTIFY, DN_MULTISHOT | DN_CREATE | DN_DELETE)); close(make("d/3", "x")); notes("create", d); mkdir("d/s", 0755); notes("mkdir", d); unlink("d/3"); notes("unlink", d); rmdir("d/s"); notes("rmdir", d); rename("d/2", "d/22"); notes("rename within", d); rename("d/22", "e/2"); notes("rename away", d); rename("e/2", "d/2"); notes("rename into", d); link("d/2", "d/l"); notes("link", d); symlink("x", "d/y"); notes("symlink", d); T(write(f, "x", 1)); notes("write", d);
    T(fcntl(d, F_NOTIFY, DN_MULTISHOT | DN_MODIFY | DN_ACCESS | DN_ATTRIB)); write(f, "x", 1); notes("write", d); ftruncate(f, 1); notes("truncate", d); lseek(f, 0, SEEK_SET); read(f, buf, 1); notes("read", d); fchmod(f, 0600); notes("chmod", d); chmod("d", 0700); notes("chmod of it", d); int g = open("d", O_RDONLY); getdents64(g, buf, 999); notes("getdents", d); unlink("d/l"); notes("unlink of a link", d); fchmod(f, 0644); notes("chmod", d);
    T(fcntl(d, F_NOTIFY, 0)); close(make("d/4", "x")); notes("nothing", d); T(fcntl(d, F_NOTIFY, DN_RENAME)); rename("d/4", "e/4"); notes("rename away", d); rename("e/4", "d/4"); notes("rename into", d); rename("d/4", "d/5"); notes("rename within", d); rename("d/5", "d/4"); notes("once", d);
    T(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT)); T(fcntl(g, F_NOTIFY, DN_CREATE | DN_MULTISHOT)); close(make("d/6", "x")); printf("%d\n", notices); notices = 0; int h = dup(g); close(g); close(make("d/7", "x")); notes("one of two", d); T(fcntl(h, F_NOTIFY, DN_CREATE | DN_MULTISHOT)); T(fcntl(h, F_SETSIG, SIGRTMIN + 3)); close(d); close(make("d/8", "x")); notes("the other", h);
    fflush(stdout); pid_t c = fork(); if (!c) { close(h); close(make("d/9", "x")); _exit(0); } waitpid(c, 0, 0); notes("by a child", h); T(fcntl(h, F_NOTIFY, DN_MULTISHOT)); close(make("d/a", "x")); notes("ended", h); T(fcntl(h, F_NOTIFY, DN_CREATE)); T(fcntl(h, F_SETSIG, 0)); close(make("d/b", "x")); printf("%d %d\n", notices, notice.si_signo); T(fcntl(h, F_NOTIFY, 0x40)); T(fcntl(h, F_NOTIFY, DN_CREATE)); T(fcntl(h, F_SETOWN, 0)); close(make("d/c", "x")); printf("%d\n", notices == 1);
}
static void lease(int fd) { printf("lease %d\n", fcntl(fd, F_GETLEASE)); }
static void c_leases(void) {
    struct sigaction a = {.sa_sigaction = noticed, .sa_flags = SA_SIGINFO | SA_RESTART}; sigaction(SIGIO, &a, 0); sigaction(SIGRTMIN + 3, &a, 0); int f = make("f", "text"), st, d = open(".", O_RDONLY), p[2]; pipe(p); close(f); f = open("f", O_RDONLY); lease(f); T(fcntl(f, F_SETLEASE, F_UNLCK)); T(fcntl(f, F_SETLEASE, 9)); T(fcntl(d, F_SETLEASE, F_RDLCK)); T(fcntl(p[0], F_SETLEASE, F_RDLCK)); T(fcntl(open("f", O_PATH), F_SETLEASE, F_RDLCK));
    T(fcntl(f, F_SETLEASE, F_RDLCK)); lease(f); struct f_owner_ex o; T(fcntl(f, F_GETOWN_EX, &o)); printf("%d %d\n", o.type, o.pid == getpid()); T(open("f", O_RDONLY) > 0); T(open("f", O_RDWR | O_NONBLOCK)); notes("opened to be written", f); lease(f); T(open("f", O_WRONLY | O_NONBLOCK)); notes("again", f); T(fcntl(f, F_SETLEASE, F_RDLCK)); lease(f); T(fcntl(f, F_SETLEASE, F_UNLCK)); T(fcntl(f, F_SETLEASE, F_WRLCK)); T(fcntl(f, F_GETOWN_EX, &o)); printf("%d %d\n", o.type, o.pid); syscall(SYS_close_range, f + 1, ~0u, 0);
    T(fcntl(f, F_SETSIG, SIGRTMIN + 3)); T(fcntl(f, F_SETLEASE, F_WRLCK)); lease(f); fflush(stdout); pid_t c = fork(); if (!c) { int g = open("f", O_RDONLY); printf("%d\n", g); g = open("f", O_WRONLY); printf("%d\n", g); fflush(stdout); truncate("f", 2); _exit(0); }
    while (!notices) usleep(1000); notes("opened to be read", f); lease(f); T(fcntl(f, F_SETLEASE, F_RDLCK)); while (!notices) usleep(1000); notes("then to be written", f); lease(f); T(waitpid(c, 0, WNOHANG)); fflush(stdout); T(fcntl(f, F_SETLEASE, F_UNLCK)); T(waitpid(c, &st, 0) == c); printf("%x\n", st); T(fcntl(f, F_GETSIG));
    T(fcntl(f, F_SETLEASE, F_RDLCK)); fflush(stdout); c = fork(); if (!c) { close(f); printf("%d\n", truncate("f", 3)); fflush(stdout); _exit(0); } while (!notices) usleep(1000); printf("%d %d\n", notices, notice.si_signo); notices = 0; fflush(stdout); close(f); lease(f = open("f", O_RDWR)); waitpid(c, &st, 0); printf("%x\n", st);
    T(fcntl(f, F_SETLEASE, F_RDLCK)); T(fcntl(f, F_SETLEASE, F_WRLCK)); int g = dup(f); T(fcntl(g, F_SETLEASE, F_WRLCK)); close(f); lease(g); fflush(stdout); c = fork(); if (!c) { lease(g); T(open("f", O_RDONLY | O_NONBLOCK)); T(open("f", O_CREAT | O_RDONLY | O_NONBLOCK, 0600)); T(fcntl(g, F_SETLEASE, F_UNLCK)); T(open("f", O_RDONLY | O_NONBLOCK) > 0); fflush(stdout); _exit(0); } waitpid(c, &st, 0); printf("%d\n", notices); lease(g); T(fcntl(g, F_SETLEASE, F_WRLCK)); T(unlink("f")); lease(g); notices = 0;
    f = make("h", "x"); T(fcntl(f, F_SETLEASE, F_WRLCK)); fflush(stdout); c = fork(); if (!c) { struct sigaction w = {.sa_sigaction = noticed, .sa_flags = SA_SIGINFO}; sigaction(SIGALRM, &w, 0); struct itimerval t = {{0, 0}, {0, 30000}}; setitimer(ITIMER_REAL, &t, 0); T(open("h", O_RDONLY)); fflush(stdout); _exit(0); } waitpid(c, 0, 0); lease(f); T(stat("h", &(struct stat){0})); T(rename("h", "i")); close(f);
}
static void c_poll_swaps(void) { int s = open("/proc/swaps", O_RDONLY), e = epoll_create1(0); struct pollfd f = {s, -1}; T(poll(&f, 1, 0)); printf("%x\n", f.revents); struct epoll_event ev = {EPOLLIN | EPOLLPRI | EPOLLERR}; T(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev)); f.events = POLLPRI; T(poll(&f, 1, 0)); T(read(s, buf, 9)); T(poll(&f, 1, 0)); }
// The lines about leases of a file, with names for processes, and those below them; whether somebody waits.
static int leases_of(const char *path, pid_t child, int quiet) {
    struct stat s; stat(path, &s); char at[99], line[200]; sprintf(at, ":%lu 0 EOF", (long)s.st_ino); FILE *f = fopen("/proc/locks", "r"); int waits = 0, own = 0;
    while (fgets(line, sizeof line, f)) { char *lease = strstr(line, "LEASE"), *none = strstr(line, "<none>:0 0 EOF"); int pid, behind = strstr(line, "->") != 0; char kind[30], mode[30]; own = lease && (behind ? own : strstr(line, at) != 0); if (!own || sscanf(lease, "LEASE %29s %29s %d", kind, mode, &pid) != 3) continue; waits |= behind; if (!quiet) printf("%s%s %s of %s%s\n", behind ? "-> " : "", kind, mode, pid == getpid() ? "mine" : pid == child ? "the child" : "others", none ? ", nowhere" : ""); }
    fclose(f); return waits;
}
static void c_leases_of_programs(void) {
    struct sigaction a = {.sa_sigaction = noticed, .sa_flags = SA_SIGINFO | SA_RESTART}; sigaction(SIGIO, &a, 0); close(make("p", "no program")); chmod("p", 0700); int f = open("p", O_RDONLY), st; T(fcntl(f, F_SETLEASE, F_WRLCK)); leases_of("p", 0, 0); fflush(stdout);
    pid_t c = fork(); if (!c) { T(execl("p", "p", (char *)0)); fflush(stdout); _exit(0); }
    while (!leases_of("p", c, 1)) nap(1); notes("to be run", f); leases_of("p", c, 0); lease(f); T(waitpid(c, 0, WNOHANG)); sprintf(buf, "/proc/self/fdinfo/%d", f); FILE *i = fopen(buf, "r"); char line[200], kind[30], mode[30]; while (fgets(line, sizeof line, i)) if (sscanf(line, "lock: 1: LEASE %29s %29s", kind, mode) == 2) printf("%s %s\n", kind, mode); fclose(i);
    fflush(stdout); T(fcntl(f, F_SETLEASE, F_RDLCK)); waitpid(c, &st, 0); printf("%x\n", st); leases_of("p", 0, 0); fflush(stdout); c = fork(); if (!c) { T(execl("p", "p", (char *)0)); fflush(stdout); _exit(0); } waitpid(c, &st, 0); printf("%x %d\n", st, notices);
    fflush(stdout); c = fork(); if (!c) { close(f); T(open("p", O_WRONLY) > 0); fflush(stdout); _exit(0); } while (!leases_of("p", c, 1)) nap(1); leases_of("p", c, 0); T(fcntl(f, F_SETLEASE, F_UNLCK)); waitpid(c, 0, 0); leases_of("p", 0, 0);
}

#define CASES(X) X(dnotify) X(leases) X(leases_of_programs) X(poll_swaps) X(futex_errors) X(futex_wake_op) X(futex_threads) X(futex_shared) X(futex_pi) X(futex_requeue_pi) X(robust) X(futex_waitv) X(futex2) X(eventfd) X(eventfd_blocks) X(epoll_errors) X(epoll_modes) X(epoll_pipe) X(epoll_nested) X(epoll_wakes) X(timerfd) X(signalfd) X(pidfd) X(posix_timers) X(inotify) X(inotify_self) X(memfd) X(vmsplice) X(packets)

#include "main.h"
