// Cases of pipes as rings of pages: which writes share a page, what splice(2) and its relatives take and
// leave, when a pipe is full; see guest.h.
#include "guest.h"
#include <sys/epoll.h>
#include <sys/ioctl.h>

static int p[2], q[2];
static char page[4096];
static void on(int signal) { (void)signal; }
static long bytes(int fd) { int n = -1; ioctl(fd, FIONREAD, &n); return n; }
static int open_for(int fd, short events) { struct pollfd f = {fd, events}; return poll(&f, 1, 0) == 1 ? f.revents : 0; }
static void state(void) { printf("%ld bytes, room %d\n", bytes(p[0]), open_for(p[1], POLLOUT) != 0); }
static void fresh(int flags, int size) { close(p[0]); close(p[1]); pipe2(p, flags); if (size) fcntl(p[1], F_SETPIPE_SZ, size); }
static void drain(void) { int was = fcntl(p[0], F_GETFL); fcntl(p[0], F_SETFL, was | O_NONBLOCK); while (read(p[0], buf, sizeof buf) > 0); fcntl(p[0], F_SETFL, was); }
static char *hole(void) { char *at = mmap(0, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memset(at, 'h', 12288); munmap(at + 8192, 4096); return at; }

static void c_small_writes(void) {
    fresh(O_NONBLOCK, 16384); long n = 0; while (write(p[1], "abc", 3) == 3) n++; printf("%ld writes of 3\n", n); state();
    int sizes[] = {1, 5, 1024, 1500, 2048, 2049, 4000, 4095, 4096, 4097, 5000, 8191, 8192, 9000};
    for (int i = 0; i < 14; i++) { fresh(O_NONBLOCK, 16384); n = 0; long r, last = 0; while ((r = write(p[1], buf, sizes[i])) > 0) n++, last = r; printf("%d: %ld writes, the last of %ld\n", sizes[i], n, last); state(); }
    for (int i = 0; i < 14; i++) { fresh(O_NONBLOCK, 16384); write(p[1], buf, 1000); n = 0; long r, last = 0; while ((r = write(p[1], buf, sizes[i])) > 0) n++, last = r; printf("behind 1000 %d: %ld writes, the last of %ld\n", sizes[i], n, last); state(); }
}
static void c_room(void) {
    fresh(O_NONBLOCK, 8192); T(write(p[1], buf, 4096)); T(write(p[1], buf, 10)); state(); T(write(p[1], buf, 4087)); T(write(p[1], buf, 4086)); T(write(p[1], buf, 1)); state();
    T(read(p[0], buf, 1)); state(); T(write(p[1], buf, 1)); T(read(p[0], buf, 4094)); state(); T(write(p[1], buf, 1)); T(read(p[0], buf, 1)); state(); T(write(p[1], buf, 5000)); state(); T(write(p[1], buf, 1)); T(read(p[0], buf, 4096)); T(write(p[1], buf, 2)); state();
    fresh(O_NONBLOCK, 4096); T(write(p[1], buf, 10)); T(read(p[0], buf, 9)); T(write(p[1], buf, 4087)); T(write(p[1], buf, 4086)); state(); T(write(p[1], buf, 1)); T(read(p[0], buf, 9000)); T(read(p[0], buf, 1));
}
static void c_sizes(void) {
    fresh(O_NONBLOCK, 0); T(fcntl(p[0], F_GETPIPE_SZ)); int sizes[] = {0, 1, 4096, 4097, 10000, 65536, 65537, 1 << 20, -1, (int)(1u << 31)};
    for (int i = 0; i < 10; i++) if (sizes[i] >= 0) { printf("%d ", sizes[i]); T(fcntl(p[1], F_SETPIPE_SZ, sizes[i])); T(fcntl(p[0], F_GETPIPE_SZ)); }
    for (int i = 0; i < 3; i++) { fcntl(p[1], F_SETFL, O_DIRECT | O_NONBLOCK); write(p[1], "x", 1); } T(fcntl(p[1], F_SETPIPE_SZ, 4096)); T(fcntl(p[1], F_SETPIPE_SZ, 8192)); T(fcntl(p[1], F_SETPIPE_SZ, 16384)); state(); T(write(p[1], "x", 1)); T(write(p[1], "x", 1)); T(fcntl(p[1], F_SETPIPE_SZ, 32768)); state(); T(write(p[1], "x", 1));
    int f = make("f", "x"); T(fcntl(f, F_GETPIPE_SZ)); T(fcntl(f, F_SETPIPE_SZ, 4096));
    mkfifo("fifo", 0600); int r = open("fifo", O_RDWR | O_NONBLOCK); T(fcntl(r, F_GETPIPE_SZ)); T(fcntl(r, F_SETPIPE_SZ, 4096)); T(write(r, buf, 5000)); T(write(r, buf, 1)); T(read(r, buf, 9000)); close(r); r = open("fifo", O_RDWR | O_NONBLOCK); T(fcntl(r, F_GETPIPE_SZ)); T(bytes(r)); unlink("fifo"); unlink("f");
}
static void c_packets(void) {
    fresh(O_NONBLOCK | O_DIRECT, 16384); T(write(p[1], buf, 5000)); T(write(p[1], buf, 1)); state(); T(write(p[1], buf, 1)); state(); T(write(p[1], buf, 1)); T(read(p[0], buf, 9000)); state(); T(read(p[0], buf, 10)); T(read(p[0], buf, 10)); T(read(p[0], buf, 10)); T(read(p[0], buf, 10)); state();
    T(write(p[1], buf, 12000)); T(write(p[1], buf, 12000)); T(read(p[0], buf, sizeof buf)); T(write(p[1], buf, 5000)); drain();
    fcntl(p[1], F_SETFL, O_NONBLOCK); T(write(p[1], "ab", 2)); fcntl(p[1], F_SETFL, O_NONBLOCK | O_DIRECT); T(write(p[1], "cd", 2)); T(write(p[1], buf, 4093)); T(write(p[1], "e", 1)); T(read(p[0], buf, 100)); T(read(p[0], buf, sizeof buf)); T(read(p[0], buf, 100)); T(read(p[0], buf, 100));
}
static void c_bad_addresses(void) {
    char *at = hole(); fresh(O_NONBLOCK, 16384); T(write(p[1], at + 8000, 300)); T(bytes(p[0])); T(write(p[1], at, 9000)); T(bytes(p[0])); T(write(p[1], at + 100, 9000)); T(bytes(p[0])); T(write(p[1], "x", 1)); T(write(p[1], at + 8000, 300)); T(bytes(p[0])); drain();
    write(p[1], buf, 100); write(p[1], buf, 4090); T(read(p[0], at + 8092, 100)); T(read(p[0], at + 8100, 100)); T(bytes(p[0])); T(read(p[0], at + 8000, 4000)); T(bytes(p[0])); T(read(p[0], at + 4000, 4190)); T(bytes(p[0])); drain();
    struct iovec v[] = {{buf, 100}, {(void *)8, 100}}, w[] = {{buf, 4096}, {(void *)8, 100}, {buf, 9}}; T(writev(p[1], v, 2)); T(writev(p[1], w, 3)); T(bytes(p[0])); T(readv(p[0], v, 2)); T(bytes(p[0])); write(p[1], buf, 50); T(readv(p[0], w, 2)); T(bytes(p[0]));
}
static void c_splice_in(void) {
    int f = make("f", ""); for (int i = 0; i < 5; i++) { memset(page, 'a' + i, 4096); write(f, page, 4096); } write(f, "end", 3); loff_t o;
    fresh(O_NONBLOCK, 16384); for (long at = 0; at < 3; at++) { o = 4095 * at; T(splice(f, &o, p[1], 0, 1 << 20, 0)); printf("%ld\n", (long)o); state(); T(splice(f, &o, p[1], 0, 10, 0)); drain(); }
    o = 100; T(splice(f, &o, p[1], 0, 5000, 0)); T(write(p[1], "xy", 2)); state(); T(splice(f, &o, p[1], 0, 5000, 0)); state(); T(read(p[0], buf, 5000)); printf("%c%c\n", buf[0], buf[4999]); state(); T(read(p[0], buf, sizeof buf)); printf("%c%c%c\n", buf[0], buf[1], buf[2]);
    o = 20480; T(splice(f, &o, p[1], 0, 5000, 0)); T(splice(f, &o, p[1], 0, 5000, 0)); T(write(p[1], "x", 1)); state(); drain(); o = 0; T(write(p[1], "x", 1)); T(splice(f, &o, p[1], 0, 2, 0)); T(splice(f, &o, p[1], 0, 2, 0)); T(splice(f, &o, p[1], 0, 2, 0)); T(splice(f, &o, p[1], 0, 2, 0)); state(); T(read(p[0], buf, 2)); T(write(p[1], "x", 1)); state(); drain();
    lseek(f, 0, SEEK_SET); T(sendfile(p[1], f, 0, 100000)); T(lseek(f, 0, SEEK_CUR)); T(sendfile(p[1], f, 0, 100000)); drain(); T(sendfile(p[1], f, 0, 100000)); T(sendfile(p[1], f, 0, 100000)); drain(); fcntl(p[1], F_SETFL, 0); o = 1; T(sendfile(p[1], f, &o, 100000)); printf("%ld\n", (long)o); drain();
    fresh(0, 1 << 20); ftruncate(f, 1 << 20); o = 0; T(splice(f, &o, p[1], 0, 1 << 20, 0)); state(); T(splice(f, &o, p[1], 0, 1, SPLICE_F_NONBLOCK)); int g = make("g", ""); T(splice(p[0], 0, g, 0, 1 << 20, 0)); T(lseek(g, 0, SEEK_CUR)); state(); ftruncate(f, 0); ftruncate(g, 0);
    int z = open("/dev/zero", O_RDONLY); fresh(0, 8192); T(splice(z, 0, p[1], 0, 5000, 0)); state(); T(splice(z, 0, p[1], 0, 1, SPLICE_F_NONBLOCK)); T(read(p[0], buf, sizeof buf));
}
static void c_splice_out(void) {
    int f = make("f", "0123456789"); loff_t o; fresh(O_NONBLOCK, 16384); write(p[1], "abcdef", 6); o = 2; T(splice(p[0], 0, f, &o, 3, 0)); T(bytes(p[0])); T(write(p[1], "gh", 2)); T(splice(p[0], 0, f, 0, 100, 0)); T(lseek(f, 0, SEEK_CUR)); show(f); T(splice(p[0], 0, f, 0, 1, 0)); state();
    o = 4090; write(p[1], buf, 9000); T(splice(p[0], 0, f, &o, 9000, 0)); printf("%ld\n", (long)o); int d = open("/dev/null", O_WRONLY); fcntl(p[1], F_SETFL, O_NONBLOCK | O_DIRECT); write(p[1], "ab", 2); write(p[1], "cd", 2); T(splice(p[0], 0, d, 0, 3, 0)); T(bytes(p[0])); T(splice(p[0], 0, d, 0, 3, 0)); T(splice(p[0], 0, d, 0, 3, 0));
    int a = open("f", O_WRONLY | O_APPEND); write(p[1], "x", 1); T(splice(p[0], 0, a, 0, 1, 0)); close(p[1]); T(splice(p[0], 0, f, 0, 9, 0)); T(splice(p[0], 0, f, 0, 9, 0)); p[1] = -1;
}
static void c_pipe_to_pipe(void) {
    fresh(O_NONBLOCK, 16384); pipe2(q, O_NONBLOCK); fcntl(q[1], F_SETPIPE_SZ, 8192);
    T(splice(p[0], 0, q[1], 0, 1, 0)); write(p[1], "abcdef", 6); T(splice(p[0], 0, q[1], 0, 4, 0)); T(write(q[1], "x", 1)); T(bytes(q[0])); T(splice(p[0], 0, q[1], 0, 4, 0)); T(open_for(q[1], POLLOUT)); T(read(q[0], buf, 100)); printf("%.5s\n", buf);
    T(splice(p[0], 0, q[1], 0, 4, 0)); T(write(q[1], "y", 1)); T(bytes(q[0])); T(write(q[1], buf, 4093)); T(write(q[1], buf, 4092)); T(read(q[0], buf, 9000)); T(write(p[1], "z", 1)); state();
    T(tee(p[0], q[1], 100, 0)); T(write(q[1], "t", 1)); T(open_for(q[1], POLLOUT)); T(tee(p[0], q[1], 100, 0)); T(write(p[1], "w", 1)); T(read(q[0], buf, 100)); T(read(p[0], buf, 100)); T(tee(p[0], q[1], 100, 0));
    fcntl(p[1], F_SETFL, O_NONBLOCK | O_DIRECT); for (int i = 0; i < 4; i++) write(p[1], "pqrs" + i, 2); T(tee(p[0], q[1], 100, 0)); T(read(q[0], buf, 1)); T(bytes(q[0])); T(splice(p[0], 0, q[1], 0, 1, 0)); T(read(q[0], buf, 9)); T(read(q[0], buf, 9)); T(splice(p[0], 0, q[1], 0, 100, 0)); T(bytes(p[0])); T(splice(p[0], 0, q[1], 0, 100, 0)); T(read(q[0], buf, 9)); T(tee(p[0], q[1], 1, 0)); T(tee(p[0], p[1], 1, 0)); T(splice(p[0], 0, p[1], 0, 1, 0)); T(tee(p[0], q[1], 0, 0)); T(tee(p[0], q[1], 1, 16)); T(tee(p[1], q[1], 1, 0));
    signal(SIGPIPE, SIG_IGN); close(q[0]); T(splice(p[0], 0, q[1], 0, 1, 0)); T(tee(p[0], q[1], 1, 0)); T(bytes(p[0])); close(p[1]); drain(); T(splice(p[0], 0, q[1], 0, 1, 0)); T(tee(p[0], q[1], 1, 0)); pipe2(q, 0); T(splice(p[0], 0, q[1], 0, 1, 0)); T(tee(p[0], q[1], 1, 0)); p[1] = -1;
}
static void c_vmsplice(void) {
    char *at = hole(); memset(at, 'v', 8192); struct iovec v[] = {{at + 4000, 200}, {at, 10}, {at + 100, 5000}}; fresh(O_NONBLOCK, 16384);
    T(vmsplice(p[1], v, 2, 0)); T(bytes(p[0])); T(write(p[1], "x", 1)); state(); T(vmsplice(p[1], v, 1, SPLICE_F_NONBLOCK)); T(read(p[0], buf, 96)); T(vmsplice(p[1], v, 1, SPLICE_F_NONBLOCK)); T(bytes(p[0])); drain(); T(vmsplice(p[1], v, 3, 0)); state(); drain();
    struct iovec w[] = {{at + 8000, 400}, {(void *)8, 4}}, x[] = {{buf, 10}, {buf + 100, 300}}; T(vmsplice(p[1], w, 1, 0)); T(bytes(p[0])); drain(); T(vmsplice(p[1], w + 1, 1, 0)); fcntl(p[1], F_SETFL, O_NONBLOCK); write(p[1], buf, 200); T(vmsplice(p[0], x, 2, 0)); T(bytes(p[0])); T(vmsplice(p[0], x, 2, SPLICE_F_NONBLOCK));
}
static void c_waiting_writers(void) {
    fresh(0, 8192); fflush(stdout); signal(SIGPIPE, SIG_IGN); write(p[1], buf, 8192);
    pid_t c = fork(); if (!c) { long n = write(p[1], page, 100); _exit(n == 100 ? 0 : 1); } asleep(c); T(read(p[0], buf, 4095)); usleep(30000); asleep(c); T(waitpid(c, 0, WNOHANG)); T(read(p[0], buf, 1)); int st; T(waitpid(c, &st, 0) == c); printf("%d\n", st); T(bytes(p[0])); fflush(stdout);
    c = fork(); if (!c) { long n = write(p[1], page, 4096); n += write(p[1], buf, 9000); _exit(n == 13096 ? 0 : 1); } asleep(c); T(read(p[0], buf, 4096)); usleep(100000); asleep(c); T(bytes(p[0])); for (long n = 0; n < 13096 + 100;) n += read(p[0], buf, 5000); T(waitpid(c, &st, 0) == c); printf("%d\n", st); T(bytes(p[0])); fflush(stdout);
    write(p[1], buf, 8192); c = fork(); if (!c) { struct sigaction a = {.sa_handler = on}; sigaction(SIGALRM, &a, 0); struct itimerval t = {{0, 0}, {0, 400000}}; setitimer(ITIMER_REAL, &t, 0); errno = 0; long n = write(p[1], buf, 6000); _exit(n == 4096 ? 0 : n == -1 ? errno : 1); } asleep(c); T(read(p[0], buf, 4096)); T(waitpid(c, &st, 0) == c); printf("%x\n", st); T(bytes(p[0]));
    int f = make("f", "0123456789"); fflush(stdout); c = fork(); if (!c) { long n = splice(f, (loff_t[]){0}, p[1], 0, 9, 0); _exit(n == 9 ? 0 : 1); } asleep(c); T(waitpid(c, 0, WNOHANG)); T(read(p[0], buf, 4096)); T(waitpid(c, &st, 0) == c); printf("%x\n", st); T(bytes(p[0]));
}
static int told(int ep) { struct epoll_event e = {0}; int n = epoll_wait(ep, &e, 1, 0); return n > 0 ? (int)e.events : n; }
static volatile int came; static void io(int s) { (void)s; came++; }
static void c_edges(void) {
    fresh(O_NONBLOCK, 8192); int ep = epoll_create1(0); struct epoll_event e = {EPOLLOUT | EPOLLET}; epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e); T(told(ep)); write(p[1], buf, 8192); T(told(ep)); read(p[0], buf, 100); T(told(ep)); read(p[0], buf, 3996); T(told(ep)); read(p[0], buf, 3996); T(told(ep)); drain(); T(told(ep)); write(p[1], buf, 5000); read(p[0], buf, 5000); T(told(ep));
    signal(SIGIO, io); fcntl(p[1], F_SETOWN, getpid()); fcntl(p[1], F_SETFL, O_NONBLOCK | O_ASYNC); write(p[1], buf, 10); T(came); read(p[0], buf, 5); T(came); read(p[0], buf, 5); T(came); fcntl(p[0], F_SETOWN, getpid()); fcntl(p[0], F_SETFL, O_NONBLOCK | O_ASYNC); write(p[1], buf, 8192); T(came); read(p[0], buf, 4096); T(came); int n = open("/dev/null", O_WRONLY); splice(p[0], 0, n, 0, 100, 0); T(came); close(p[1]); T(came); p[1] = -1;
}

#define CASES(X) X(small_writes) X(room) X(sizes) X(packets) X(bad_addresses) X(splice_in) X(splice_out) X(pipe_to_pipe) X(vmsplice) X(waiting_writers) X(edges)
#include "main.h"
