// Cases of asynchronous input and output; see guest.h.
#include "guest.h"
#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define MS 1000000
static void nap(int ms) { struct timespec t = {0, ms * MS}; nanosleep(&t, 0); }
static aio_context_t ctx;
#define setup(n, c) syscall(SYS_io_setup, n, c)
#define destroy(c) syscall(SYS_io_destroy, c)
#define submit(c, n, p) syscall(SYS_io_submit, c, n, p)
#define cancel(c, i, r) syscall(SYS_io_cancel, c, i, r)
#define getevents(c, min, n, e, t) syscall(SYS_io_getevents, c, min, n, e, t)
static struct iocb cb[64], *list[64];
static struct io_event ev[64];
static struct iocb *req(int i, int op, int fd, const void *b, size_t n, long off) { memset(cb + i, 0, sizeof *cb); cb[i].aio_data = 1000 + i; cb[i].aio_lio_opcode = op; cb[i].aio_fildes = fd; cb[i].aio_buf = (uintptr_t)b; cb[i].aio_nbytes = n; cb[i].aio_offset = off; list[i] = cb + i; return cb + i; }
static void events(long min, long n) { struct timespec t = {0, 20 * MS}; long r = getevents(ctx, min, n, ev, &t); printf("events %ld %s", r, r < 0 ? strerrorname_np(errno) : ""); for (long i = 0; i < r; i++) printf(" %d:%d:%ld:%ld", (int)ev[i].data, (int)((struct iocb *)(uintptr_t)ev[i].obj - cb), (long)ev[i].res, (long)ev[i].res2); puts(""); }
static void one(int op, int fd, const void *b, size_t n, long off) { req(0, op, fd, b, n, off); long r = submit(ctx, 1, list); printf("%d on %d: %ld %s ", op, fd > 2, r, r < 0 ? strerrorname_np(errno) : ""); events(r == 1, 9); }

static void c_setup(void) {
    aio_context_t c = 0; T(setup(0, &c)); T(setup(-1, &c)); T(setup(1000000, &c)); T(setup(1, (void *)8)); T(setup(8, &c)); T(setup(8, &c)); T(destroy(c)); T(destroy(c)); T(destroy(0)); T(submit(c, 0, list)); T(submit(c, 1, list)); T(getevents(c, 0, 1, ev, 0)); ctx = 0; T(setup(8, &ctx)); T(submit(ctx, 0, list)); T(submit(ctx, -1, list)); list[0] = (void *)8; T(submit(ctx, 1, list)); T(submit(ctx, 1, (void *)8)); T(getevents(ctx, 2, 1, ev, 0)); T(getevents(ctx, -1, 1, ev, 0)); struct timespec z = {0, 0}, bad = {0, -1}; T(getevents(ctx, 0, 0, ev, &z)); T(getevents(ctx, 0, 5, ev, &z)); T(getevents(ctx, 1, 5, ev, &z)); T(getevents(ctx, 0, 5, ev, &bad)); T(getevents(ctx, 0, 5, ev, (void *)8)); T(cancel(ctx, 0, ev)); T(cancel(ctx, cb, ev));
    pid_t p = (fflush(stdout), fork()); if (!p) { T(getevents(ctx, 0, 5, ev, &z)); fflush(stdout); _exit(0); } waitpid(p, 0, 0); T(getevents(ctx, 0, 5, ev, &z));
}
static void c_files(void) {
    setup(32, &ctx); int f = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644), r = open("f", O_RDONLY), w = open("f", O_WRONLY), a = open("f", O_WRONLY | O_APPEND), d = open(".", O_RDONLY), o = open("f", O_PATH); char out[32] = {0};
    one(IOCB_CMD_PWRITE, f, "hello world", 11, 0); one(IOCB_CMD_PWRITE, w, "AIO", 3, 6); one(IOCB_CMD_PREAD, r, out, 20, 2); puts(out); one(IOCB_CMD_PREAD, w, out, 20, 0); one(IOCB_CMD_PWRITE, r, out, 20, 0); one(IOCB_CMD_PREAD, d, out, 20, 0); one(IOCB_CMD_PREAD, o, out, 20, 0); one(IOCB_CMD_PREAD, 99, out, 20, 0); one(IOCB_CMD_PREAD, f, out, 20, -1); one(IOCB_CMD_PREAD, f, out, 20, 100); one(IOCB_CMD_PREAD, f, (void *)8, 20, 0); one(IOCB_CMD_PREAD, f, out, -1, 0); one(IOCB_CMD_PWRITE, a, "end", 3, 0); one(IOCB_CMD_FSYNC, f, 0, 0, 0); one(IOCB_CMD_FDSYNC, f, 0, 0, 0); one(IOCB_CMD_FSYNC, f, 0, 1, 0); one(IOCB_CMD_NOOP, f, 0, 0, 0); one(99, f, 0, 0, 0); one(4, f, 0, 0, 0); T(lseek(f, 0, SEEK_CUR));
    struct iovec v[2] = {{out, 3}, {out + 10, 4}}; one(IOCB_CMD_PREADV, f, v, 2, 1); printf("%.3s %.4s\n", out, out + 10); one(IOCB_CMD_PWRITEV, f, v, 2, 20); one(IOCB_CMD_PREADV, f, v, 1025, 1); one(IOCB_CMD_PREADV, f, (void *)8, 1, 1); req(0, IOCB_CMD_PREAD, f, out, 4, 0)->aio_reserved2 = 1; T(submit(ctx, 1, list)); req(0, IOCB_CMD_PREAD, f, out, 4, 0)->aio_rw_flags = 0x8000; T(submit(ctx, 1, list)); req(0, IOCB_CMD_PWRITE, f, "x", 1, 0)->aio_rw_flags = RWF_APPEND; T(submit(ctx, 1, list)); events(0, 9); req(0, IOCB_CMD_PREAD, f, out, 4, 0)->aio_key = 77; T(submit(ctx, 1, list)); printf("%u\n", cb[0].aio_key); events(1, 1);
    for (int i = 0; i < 6; i++) req(i, i == 4 ? 99 : IOCB_CMD_PWRITE, f, "0123456789", i + 1, i * 10); T(submit(ctx, 6, list)); events(2, 3); events(0, 9); events(1, 9); T(submit(ctx, 2, list + 4));
}
static void c_limits(void) {
    setup(1, &ctx); int f = open("f", O_RDWR | O_CREAT, 0644); long n = 0; for (int i = 0; i < 64; i++) req(i, IOCB_CMD_FSYNC, f, 0, 0, 0); for (int i = 0; i < 3; i++) { long r = submit(ctx, 64, list); printf("%d\n", r > 0); n += r > 0 ? r : 0; } while (submit(ctx, 1, list) == 1) n++; printf("%s\n", strerrorname_np(errno)); printf("%d\n", n > 1); T(getevents(ctx, 1, 1, ev, 0)); T(submit(ctx, 1, list)); T(getevents(ctx, 2, 2, (void *)8, 0)); aio_context_t c[40] = {0}; int made = 0; for (int i = 0; i < 40; i++) made += setup(10, c + i) == 0; printf("%d\n", made);
}
static void c_tell(void) {
    setup(8, &ctx); int f = open("f", O_RDWR | O_CREAT, 0644), e = eventfd(0, EFD_NONBLOCK); for (int i = 0; i < 3; i++) { req(i, IOCB_CMD_PWRITE, f, "abc", 3, 0); cb[i].aio_flags = IOCB_FLAG_RESFD; cb[i].aio_resfd = e; } T(submit(ctx, 3, list)); uint64_t v; T(read(e, &v, 8)); printf("%d\n", (int)v); cb[0].aio_resfd = f; T(submit(ctx, 1, list)); cb[0].aio_resfd = 99; T(submit(ctx, 1, list)); events(0, 9);
}
static void c_poll(void) {
    setup(8, &ctx); int p[2], e = eventfd(0, EFD_NONBLOCK); uint64_t v; pipe(p); one(IOCB_CMD_POLL, p[1], (void *)(long)POLLOUT, 0, 0); one(IOCB_CMD_POLL, p[0], (void *)(long)POLLIN, 0, 0); write(p[1], "x", 1); events(1, 1); req(0, IOCB_CMD_POLL, p[1], (void *)(long)POLLIN, 0, 0); cb[0].aio_flags = IOCB_FLAG_RESFD; cb[0].aio_resfd = e; T(submit(ctx, 1, list)); T(read(e, &v, 8)); close(p[0]); nap(20); T(read(e, &v, 8)); events(1, 1); pipe(p); one(IOCB_CMD_POLL, p[0], (void *)(long)POLLIN, 0, 0); T(cancel(ctx, cb, ev)); events(1, 1); T(cancel(ctx, cb, ev)); one(IOCB_CMD_POLL, p[0], (void *)(long)0x10001, 0, 0); one(IOCB_CMD_POLL, p[0], (void *)(long)POLLIN, 1, 0); one(IOCB_CMD_POLL, p[0], (void *)(long)POLLIN, 0, 0); pid_t c = (fflush(stdout), fork()); if (!c) { nap(20); write(p[1], "x", 1); _exit(0); } T(getevents(ctx, 1, 1, ev, 0)); printf("%d\n", (int)ev[0].res); waitpid(c, 0, 0); read(p[0], buf, 9); one(IOCB_CMD_POLL, p[0], (void *)(long)POLLIN, 0, 0); close(p[0]); T(write(p[1], "y", 1)); events(1, 1);
    pipe(p); one(IOCB_CMD_POLL, p[0], (void *)(long)POLLIN, 0, 0); signal(SIGALRM, (void (*)(int))nap); struct itimerval it = {{0, 0}, {0, 20000}}; setitimer(0, &it, 0); T(getevents(ctx, 1, 1, ev, 0)); sigset_t s; sigemptyset(&s); struct { void *p; size_t n; } m = {&s, 8}; sigaddset(&s, SIGALRM); sigprocmask(SIG_BLOCK, &s, 0); raise(SIGALRM); sigemptyset(&s); T(syscall(SYS_io_pgetevents, ctx, 1, 1, ev, 0, &m)); m.n = 4; T(syscall(SYS_io_pgetevents, ctx, 1, 1, ev, 0, &m)); T(destroy(ctx));
}
static void c_pipes(void) {
    setup(8, &ctx); int p[2], q[2]; pipe(p); socketpair(AF_UNIX, SOCK_STREAM, 0, q); one(IOCB_CMD_PWRITE, p[1], "pipe", 4, 99); one(IOCB_CMD_PREAD, p[0], buf, 9, 5); printf("%.4s\n", buf); one(IOCB_CMD_PWRITE, q[1], "sock", 4, 0); one(IOCB_CMD_PREAD, q[0], buf, 9, 0); fcntl(p[0], F_SETFL, O_NONBLOCK); one(IOCB_CMD_PREAD, p[0], buf, 9, 0); signal(SIGPIPE, SIG_IGN); close(p[0]); one(IOCB_CMD_PWRITE, p[1], "pipe", 4, 0); one(IOCB_CMD_FSYNC, q[0], 0, 0, 0); int n = open("/dev/null", O_RDWR); one(IOCB_CMD_PREAD, n, buf, 9, 0); one(IOCB_CMD_PWRITE, n, buf, 9, 0); int e = eventfd(3, 0); one(IOCB_CMD_PREAD, e, buf, 8, 0);
}

// What libaio and fio look at without a call (`struct aio_ring`).
struct ring { unsigned id, nr, head, tail, magic, compat, incompat, length; struct io_event e[]; };
static void ring(const char *what, struct ring *r) { printf("%s: %u %u %u %u, magic %x %u %u %u, nr %d\n", what, r->id, r->head, r->tail, (r->tail + r->nr - r->head) % r->nr, r->magic, r->compat, r->incompat, r->length, r->nr >= 16); }
static int named(void *at) { char l[300], w[40]; sprintf(w, "%lx-", (long)at); FILE *f = fopen("/proc/self/maps", "r"); int n = 0; while (fgets(l, sizeof l, f)) if (!strncmp(l, w, strlen(w))) n = strstr(l, "rw-s") && strstr(l, "/[aio]"); fclose(f); return n; }
static void c_ring(void) {
    struct timespec z = {0, 0}; T(setup(8, &ctx)); struct ring *r = (void *)ctx; ring("new", r); printf("named %d\n", named(r)); int f = open("f", O_RDWR | O_CREAT, 0644); for (int i = 0; i < 5; i++) req(i, IOCB_CMD_PWRITE, f, "abcde", i + 1, 0);
    T(submit(ctx, 5, list)); ring("five", r); for (unsigned i = 0; i < 5; i++) printf("%d:%d:%d ", (int)r->e[i].data, (int)r->e[i].res, r->e[i].obj == (uintptr_t)list[i]); puts("");
    T(getevents(ctx, 0, 2, ev, &z)); ring("two read", r); r->head = 4; ring("two taken", r); events(0, 9); ring("none left", r);
    // A poll that ends later, and is seen without a call.
    int p[2]; pipe(p); req(0, IOCB_CMD_POLL, p[0], (void *)(long)POLLIN, 0, 0); T(submit(ctx, 1, list)); ring("waiting", r); write(p[1], "x", 1); ring("ended", r); r->head = r->tail; T(getevents(ctx, 0, 9, ev, &z));
    // Round and round: the program takes what it gets.
    unsigned all = 0; for (unsigned i = 0; i < 3 * r->nr; i++) { req(0, IOCB_CMD_PWRITE, f, "abcde", 1, 0); cb[0].aio_data = i; if (submit(ctx, 1, list) != 1) { printf("submit %u %s\n", i, strerrorname_np(errno)); break; } all += r->e[r->head].data; r->head = (r->head + 1) % r->nr; } printf("%d\n", all == (3 * r->nr) * (3 * r->nr - 1) / 2);
    // Full, until the program takes some.
    long n = 0; for (;;) { req(0, IOCB_CMD_PWRITE, f, "abcde", 1, 0); if (submit(ctx, 1, list) != 1) break; n++; } printf("full %d %s\n", n > 0 && n < r->nr, strerrorname_np(errno)); r->head = (r->head + 3) % r->nr; n = 0; while (submit(ctx, 1, list) == 1) n++; printf("again %d\n", n > 0);
    // Heads that lead nowhere.
    r->head = ~0u; T(getevents(ctx, 0, 0, ev, &z)); r->head = r->tail; T(getevents(ctx, 0, 9, ev, &z)); T(submit(ctx, 1, list)); T(getevents(ctx, 0, 9, ev, &z));
    r->id ^= 1; T(submit(ctx, 1, list)); T(getevents(ctx, 0, 9, ev, &z)); T(destroy(ctx)); r->id ^= 1; T(submit(ctx, 1, list)); T(getevents(ctx + 8, 0, 9, ev, &z)); T(getevents(ctx, 0, 9, ev, &z)); T(destroy(ctx)); T(mincore((void *)r, 4096, (void *)buf)); unlink("f");
}
static void c_ring_moves(void) {
    struct timespec z = {0, 0}; int f = open("f", O_RDWR | O_CREAT, 0644); T(setup(4, &ctx)); struct ring *r = (void *)ctx; size_t len = (32 + r->nr * 32 + 4095) & ~4095ul; req(0, IOCB_CMD_PWRITE, f, "abc", 3, 0); T(submit(ctx, 1, list));
    T(mremap(r, len, len + 4096, MREMAP_MAYMOVE)); T(mremap(r, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)); char *to = mmap(0, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); aio_context_t old = ctx; T(mremap(r, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to); ctx = (uintptr_t)to; T(getevents(old, 0, 9, ev, &z)); events(0, 9); T(submit(ctx, 1, list)); ring("moved", (void *)to);
    fflush(stdout); pid_t c = fork(); if (!c) { ring("in a child", (void *)to); T(submit(ctx, 1, list)); T(getevents(ctx, 0, 9, ev, &z)); T(destroy(ctx)); T(munmap(to, len)); fflush(stdout); _exit(0); } waitpid(c, 0, 0); events(0, 9); T(mprotect(to, len, PROT_READ)); T(submit(ctx, 1, list)); T(getevents(ctx, 0, 9, ev, &z)); T(mprotect(to, len, PROT_NONE)); T(submit(ctx, 1, list)); T(mprotect(to, len, PROT_READ | PROT_WRITE)); T(getevents(ctx, 0, 9, ev, &z));
    T(munmap(to, len)); T(submit(ctx, 1, list)); T(destroy(ctx)); unlink("f");
}

#define CASES(X) X(setup) X(files) X(limits) X(tell) X(poll) X(pipes) X(ring) X(ring_moves)

#include "main.h"
