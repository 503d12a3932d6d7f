// Programs that attack their host: reserved addresses, races of mappings against accesses, storms of
// processes; see guest.h. Every case ends with the same lines wherever it runs, and the sandbox must still
// be there. Cases called `sandbox_...` are not compared with native Linux: what they must print stands in
// the test.
#include "guest.h"
#include <asm/prctl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <ucontext.h>

#define PAGE 4096l
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define SHARED (MAP_SHARED | MAP_ANONYMOUS)

static volatile char *anon(long pages) { return mmap(0, pages * PAGE, RW, ANON, -1, 0); }
static pid_t start(void) { fflush(stdout); return fork(); }
static int finish(pid_t p) { int st; while (waitpid(p, &st, 0) < 0); return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st); }

// Accesses that may fault: 1 if they went through. One jump buffer for each thread.
static __thread sigjmp_buf back; static __thread volatile int guarded;
static void fault(int s, siginfo_t *i, void *c) { if (!guarded) _exit(100 + s); siglongjmp(back, 1); }
static void guard(void) {
    struct sigaction a = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int all[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS};
    for (int i = 0; i < 6; i++) sigaction(all[i], &a, 0);
}
static int load(volatile char *p, char *value) { guarded = 1; if (sigsetjmp(back, 0)) { guarded = 0; return 0; } *value = *p; guarded = 0; return 1; }
static int store(volatile char *p, char value) { guarded = 1; if (sigsetjmp(back, 0)) { guarded = 0; return 0; } *p = value; guarded = 0; return 1; }

// ---- Reserved addresses

#define TOP 0x7ffffffff000ul // Linux's end of user memory
static void c_top_mappings(void) {
    unsigned long at[] = {TOP, TOP + PAGE, 0x800000000000, 0x1000000000000, 0xffff800000000000, 0xffffffffff600000, -PAGE, TOP - PAGE};
    for (int i = 0; i < 7; i++) {
        char *p = (char *)at[i]; printf("%lx\n", at[i]);
        T(mmap(p, PAGE, RW, ANON | MAP_FIXED, -1, 0)); T(mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0)); T(munmap(p, PAGE)); T(mprotect(p, PAGE, PROT_READ));
        T(madvise(p, PAGE, MADV_DONTNEED)); T(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE)); T(msync(p, PAGE, MS_SYNC)); T(mlock(p, PAGE)); T(brk(p));
        char *q = mmap(p, PAGE, RW, ANON, -1, 0); printf("as a hint %d\n", q != MAP_FAILED && (unsigned long)q < TOP); munmap(q, PAGE);
        q = (char *)anon(1); T(mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p)); munmap(q, PAGE);
        T(write(1, p, 1)); T(read(0, p, 1)); T(pipe((int *)p));
    }
    T(mmap((char *)TOP - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0)); T(munmap((char *)TOP - PAGE, 2 * PAGE)); T(munmap((char *)0x10000, -0x10000l)); T(mmap(0, 1ul << 47, RW, ANON | MAP_NORESERVE, -1, 0));
    T(mmap(0, -PAGE, RW, ANON, -1, 0)); T(mmap((char *)1, PAGE, RW, ANON | MAP_FIXED, -1, 0)); T(munmap((char *)0x12345, PAGE));
    T(mmap(0, 0, RW, ANON, -1, 0));
}
// The sandbox ends a little below Linux: its hosts keep pages of theirs above.
#define RESERVED 0x7ffffff00000ul
static void c_sandbox_reserved_mappings(void) {
    unsigned long at[] = {RESERVED, RESERVED + PAGE, RESERVED + 2 * PAGE, 0x7ffffff80000, TOP - PAGE};
    for (int i = 0; i < 5; i++) {
        char *p = (char *)at[i]; printf("%lx\n", at[i]);
        T(mmap(p, PAGE, RW | PROT_EXEC, ANON | MAP_FIXED, -1, 0)); T(mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0)); T(munmap(p, PAGE)); T(mprotect(p, PAGE, RW | PROT_EXEC)); T(madvise(p, PAGE, MADV_DONTNEED));
        char *q = (char *)anon(1); T(mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p)); T(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE)); T(write(1, p, 1)); T(read(0, p, 0)); T(pipe((int *)p));
    }
    char *last = (char *)RESERVED - PAGE;
    T(mmap(last, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0)); T(mmap(last, PAGE, RW, ANON | MAP_FIXED, -1, 0) == last); *last = 1; T(munmap(last, 2 * PAGE)); T(mprotect(last, 2 * PAGE, PROT_READ)); T(munmap(last, PAGE)); guard(); printf("%d\n", store(last, 1));
}
// Every entry into the reserved pages, as data and as code, with registers that might lead a stub astray.
static void c_sandbox_reserved_jumps(void) {
    static long values[] = {0, 0x202, RESERVED, RESERVED + 0x1b, RESERVED + 0x40, RESERVED + PAGE, -1, 0x800000000000}; int lived = 0, ended = 0; char c;
    for (unsigned long at = RESERVED; at < RESERVED + 3 * PAGE; at += at < RESERVED + 160 ? 1 : 509) {
        pid_t p = start();
        if (!p) {
            alarm(5); guard(); static char stack[32768]; stack_t s = {.ss_sp = stack, .ss_size = sizeof stack}; sigaltstack(&s, 0);
            struct sigaction a = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK}; sigaction(SIGSEGV, &a, 0); sigaction(SIGTRAP, &a, 0); sigaction(SIGBUS, &a, 0); sigaction(SIGILL, &a, 0);
            if (store((char *)at, 0)) _exit(9);
            load((char *)at, &c);
            for (int v = 0; v < 8; v++) {
                guarded = 1;
                if (!sigsetjmp(back, 0)) asm volatile("mov %0, %%rax; mov %1, %%rcx; mov %1, %%r11; mov %1, %%rbx; mov %1, %%r12; mov %1, %%rdi; mov %1, %%rsi; mov %1, %%rdx; mov %1, %%r10; push %%rcx; jmp *%%rax" : : "r"(at), "r"(values[v]) : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r10", "r11", "r12", "memory");
                guarded = 1;
                if (!sigsetjmp(back, 0)) asm volatile("mov %0, %%rax; mov %1, %%rsp; mov $39, %%r11; jmp *%%rax" : : "r"(at), "r"(values[v]) : "rax", "r11", "memory");
            }
            _exit(0);
        }
        int st = finish(p); if (st == 9) printf("%lx can be written\n", at); lived++;
    }
    printf("%d\n", lived > 180);
}

// ---- Stale pages: what was unmapped, protected or replaced is not seen again

#define ROUNDS 150
static atomic_int stop, errors, turn; static volatile char *area; static _Atomic(long) generation;
static void *toucher(void *unused) { // reads and writes without end, whatever comes
    char c; while (!stop) { load(area, &c); store(area + PAGE, 1); load(area + 2 * PAGE, &c); } return 0;
}
static void with_touchers(int n, void (*work)(void)) {
    pthread_t t[8]; stop = errors = 0; guard();
    for (int i = 0; i < n; i++) pthread_create(&t[i], 0, toucher, 0);
    work(); stop = 1; for (int i = 0; i < n; i++) pthread_join(t[i], 0);
}
static void unmap_work(void) {
    int wrong = 0; char c;
    for (int i = 1; i < ROUNDS; i++) {
        area[0] = i; if (munmap((void *)area, 4 * PAGE)) wrong++;
        if (load(area, &c) || store(area + PAGE, 1)) wrong++;
        if (mmap((void *)area, 4 * PAGE, RW, ANON | MAP_FIXED, -1, 0) != area) wrong++;
        if (!load(area, &c) || c != 0) wrong++;
    }
    printf("wrong after munmap %d\n", wrong);
}
static void c_race_unmap(void) { area = anon(4); with_touchers(3, unmap_work); }
static void dontneed_work(void) { int wrong = 0; char c; for (int i = 1; i < ROUNDS; i++) { area[0] = i; madvise((void *)area, 4 * PAGE, MADV_DONTNEED); if (!load(area, &c) || c) wrong++; } printf("wrong after MADV_DONTNEED %d\n", wrong); }
static void c_race_dontneed(void) { area = anon(4); with_touchers(3, dontneed_work); }
// One thread counts in a page; once mprotect(PROT_READ) is back, the count stands still.
static void *counter(void *unused) { while (!stop) { guarded = 1; if (!sigsetjmp(back, 0)) for (int i = 0; i < 100; i++) ++*(volatile long *)area; guarded = 0; } return 0; }
static void protect_work(int prot) {
    int wrong = 0;
    for (int i = 1; i < ROUNDS; i++) {
        if (mprotect((void *)area, PAGE, prot)) wrong++;
        long seen = 0; if (prot) { seen = *(volatile long *)area; for (int j = 0; j < 200; j++) if (*(volatile long *)area != seen) { wrong++; break; } }
        if (store(area + 8, 1)) wrong++;
        mprotect((void *)area, PAGE, RW);
        if (!prot) { mprotect((void *)area, PAGE, PROT_READ); seen = *(volatile long *)area; sched_yield(); if (*(volatile long *)area != seen) wrong++; mprotect((void *)area, PAGE, RW); }
        if (!store(area + 8, 1)) wrong++;
    }
    printf("wrong after mprotect %d\n", wrong);
}
static void c_race_protect(void) { area = anon(1); guard(); for (int prot = 0; prot < 2; prot++) { pthread_t t[2]; stop = 0; for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, counter, 0); protect_work(prot); stop = 1; for (int i = 0; i < 2; i++) pthread_join(t[i], 0); } }
// A page is replaced by one with a higher number; the reader never sees a lower one than was there before
// it looked.
static void *reader(void *unused) {
    while (!stop) { long least = generation; guarded = 1; if (!sigsetjmp(back, 0)) { long seen = *(volatile long *)area; guarded = 0; if (seen && seen < least) errors++; } guarded = 0; }
    return 0;
}
static void c_race_replace(void) {
    guard(); area = anon(1); long *next; pthread_t t[3]; stop = errors = 0; generation = 0;
    for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, reader, 0);
    for (long i = 1; i < ROUNDS; i++) { next = (long *)anon(1); *next = i; if (mremap(next, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area) != area) errors++; generation = i; }
    int fd = make("f", ""); for (long i = ROUNDS; i < 2 * ROUNDS; i++) { pwrite(fd, &i, 8, (i - ROUNDS) * PAGE); if (mmap((void *)area, PAGE, PROT_READ, i & 1 ? MAP_SHARED : MAP_PRIVATE, fd, (i - ROUNDS) * PAGE) != MAP_FAILED) errors++; if (mmap((void *)area, PAGE, PROT_READ, MAP_FIXED | (i & 1 ? MAP_SHARED : MAP_PRIVATE), fd, (i - ROUNDS) * PAGE) != area) errors++; generation = i; }
    stop = 1; for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
    printf("old pages seen %d\n", errors - ROUNDS); ftruncate(fd, 0);
}
// A file that shrinks under its mappings, and grows again with zeros.
static void c_race_truncate(void) {
    int fd = make("f", "x"), wrong = 0; char c; guard(); ftruncate(fd, 4 * PAGE); area = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0); pthread_t t[2]; stop = 0;
    for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, toucher, 0);
    for (int i = 0; i < ROUNDS; i++) { store(area + 3 * PAGE, 7); ftruncate(fd, PAGE); if (load(area + 3 * PAGE, &c)) wrong++; ftruncate(fd, 4 * PAGE); if (!load(area + 3 * PAGE, &c) || c) wrong++; }
    stop = 1; for (int i = 0; i < 2; i++) pthread_join(t[i], 0); printf("wrong after ftruncate %d\n", wrong); close(fd); unlink("f");
}

// ---- Copy on write

static void c_fork_and_write(void) {
    volatile char *m = anon(16); int wrong = 0, p[2], q[2];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 16; i++) m[i * PAGE] = round; pipe(p); pipe(q);
        pid_t c = start(); char b;
        if (!c) { for (int i = 0; i < 8; i++) m[i * PAGE] = 100; write(p[1], "", 1); read(q[0], &b, 1); int bad = 0; for (int i = 0; i < 16; i++) bad += m[i * PAGE] != (i < 8 ? 100 : round); _exit(bad); }
        read(p[0], &b, 1); for (int i = 0; i < 16; i++) if (m[i * PAGE] != round) wrong++;
        for (int i = 0; i < 16; i++) m[i * PAGE] = 50; write(q[1], "", 1); wrong += finish(c); for (int i = 0; i < 16; i++) if (m[i * PAGE] != 50) wrong++;
        close(p[0]); close(p[1]); close(q[0]); close(q[1]);
    }
    printf("wrong %d\n", wrong);
}
// Another thread writes while this one forks: the child's memory stands still from then on.
static void c_fork_under_writers(void) {
    area = anon(1); guard(); pthread_t t[2]; stop = 0; int wrong = 0; for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, counter, 0);
    for (int i = 0; i < 25; i++) { pid_t c = start(); if (!c) { long a = *(volatile long *)area; for (int j = 0; j < 20; j++) { sched_yield(); if (*(volatile long *)area != a) _exit(1); } *(volatile long *)area = -1000; _exit(0); } wrong += finish(c); if (*(volatile long *)area < 0) wrong++; }
    stop = 1; for (int i = 0; i < 2; i++) pthread_join(t[i], 0); printf("wrong %d\n", wrong);
}
static void c_cow_storm(void) {
    volatile char *m = anon(64); memset((void *)m, 1, 64 * PAGE); pid_t c[16]; int wrong = 0;
    for (int i = 0; i < 16; i++) if (!(c[i] = start())) { for (int k = 0; k < 4; k++) for (int j = 0; j < 64; j++) { if (m[j * PAGE] != (k ? i + k : 1)) _exit(1); m[j * PAGE] = i + k + 1; if (j == 40 && k == 0) { pid_t g = fork(); if (!g) { for (int x = 0; x < 64; x++) m[x * PAGE] = 99; _exit(0); } if (finish(g)) _exit(2); } } _exit(0); } else m[i * PAGE] = 1;
    for (int i = 0; i < 16; i++) wrong += finish(c[i]); for (int j = 0; j < 64; j++) wrong += m[j * PAGE] != 1; printf("wrong %d\n", wrong);
}
static void c_one_file_page(void) { // many address spaces add to one word
    int fd = make("f", ""); ftruncate(fd, PAGE); atomic_int *m = mmap(0, PAGE, RW, MAP_SHARED, fd, 0); pid_t c[24];
    for (int i = 0; i < 24; i++) if (!(c[i] = start())) { atomic_int *own = mmap(0, PAGE, RW, MAP_SHARED, fd, 0); for (int j = 0; j < 500; j++) { atomic_fetch_add(i & 1 ? own : m, 1); if (j == 250) munmap(own, PAGE), own = mmap(0, PAGE, RW, MAP_SHARED, fd, 0); } _exit(0); }
    int wrong = 0; for (int i = 0; i < 24; i++) wrong += finish(c[i]); int by_read; pread(fd, &by_read, 4, 0); printf("%d %d %d\n", wrong, *m, by_read); close(fd); unlink("f");
}
static void c_private_file_page(void) {
    int fd = make("f", ""); char z[PAGE]; memset(z, 'a', PAGE); write(fd, z, PAGE); volatile char *s = mmap(0, PAGE, RW, MAP_SHARED, fd, 0), *p = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0);
    printf("%c %c ", *s, *p); *s = 'b'; printf("%c %c ", *s, *p); *p = 'c'; printf("%c %c ", *s, *p); *s = 'd'; printf("%c %c ", *s, *p); pwrite(fd, "e", 1, 0); printf("%c %c ", *s, *p); madvise((void *)p, PAGE, MADV_DONTNEED); printf("%c %c\n", *s, *p); close(fd); unlink("f");
}

// ---- Code

static void c_patched_code(void) {
    unsigned char *code = mmap(0, 2 * PAGE, RW | PROT_EXEC, ANON, -1, 0); int (*f)(void) = (void *)code, wrong = 0;
    for (int i = 0; i < 500; i++) { code[0] = 0xb8; memcpy(code + 1, &i, 4); code[5] = 0xc3; if (f() != i) wrong++; } printf("writable code %d\n", wrong); wrong = 0;
    for (int i = 0; i < 100; i++) { mprotect(code, PAGE, RW); memcpy(code + 1, &i, 4); mprotect(code, PAGE, PROT_READ | PROT_EXEC); if (f() != i) wrong++; } printf("by turns %d\n", wrong); wrong = 0;
    int fd = make("code", ""); unlink("code"); ftruncate(fd, PAGE); unsigned char *w = mmap(0, PAGE, RW, MAP_SHARED, fd, 0); f = mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    for (int i = 0; i < 200; i++) { w[0] = 0xb8; memcpy(w + 1, &i, 4); w[5] = 0xc3; if (f() != i) wrong++; } printf("two mappings %d\n", wrong); wrong = 0;
    for (int i = 0; i < 50; i++) { unsigned char *p = mmap((void *)f, PAGE, RW, ANON | MAP_FIXED, -1, 0); p[0] = 0xb8; memcpy(p + 1, &i, 4); p[5] = 0xc3; mprotect(p, PAGE, PROT_EXEC | PROT_READ); if (f() != i) wrong++; } printf("replaced %d\n", wrong); wrong = 0;
    for (int i = 0; i < 20; i++) { pid_t c = start(); if (!c) { code = (unsigned char *)f; mprotect(code, PAGE, RW); code[1] = 77; code[2] = 0; mprotect(code, PAGE, PROT_READ | PROT_EXEC); _exit(f()); } wrong += finish(c) != 77; wrong += f() != 49; } printf("in children %d\n", wrong);
    guard(); mprotect((void *)f, PAGE, PROT_READ); guarded = 1; if (!sigsetjmp(back, 0)) { f(); puts("ran data"); } else puts("no longer code");
}

// ---- Threads and processes

static atomic_int count;
static void *adder(void *n) { char local[1000]; memset(local, (long)n, sizeof local); for (int i = 0; i < 20; i++) { atomic_fetch_add(&count, 1); if (i % 5 == 0) sched_yield(); } return (void *)(long)local[500]; }
static void c_200_threads(void) { pthread_t t[200]; pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 1 << 16); int wrong = 0; for (long i = 0; i < 200; i++) if (pthread_create(&t[i], &a, adder, (void *)(i % 100))) { wrong++; t[i] = 0; } for (long i = 0; i < 200; i++) { void *r; if (t[i]) { pthread_join(t[i], &r); wrong += (long)r != i % 100; } } printf("%d %d\n", count, wrong); }
static void *waiter(void *w) { while (!stop) syscall(SYS_futex, w, FUTEX_WAIT, 0, 0, 0, 0); atomic_fetch_add(&count, 1); return 0; }
static void c_200_waiting_threads(void) { static int word; pthread_t t[200]; pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 1 << 16); for (int i = 0; i < 200; i++) pthread_create(&t[i], &a, waiter, &word); usleep(10000); stop = 1; word = 1; syscall(SYS_futex, &word, FUTEX_WAKE, 1 << 30, 0, 0, 0); for (int i = 0; i < 200; i++) pthread_join(t[i], 0); printf("%d\n", count); }
static void c_64_processes(void) { pid_t c[64]; int p[2], wrong = 0; pipe(p); char b; for (int i = 0; i < 64; i++) if (!(c[i] = start())) { close(p[1]); read(p[0], &b, 1); _exit(i); } close(p[1]); for (int i = 0; i < 64; i++) wrong += finish(c[i]) != i; printf("%d\n", wrong); }
static void *spin(void *p) { char c; for (;;) load(p, &c); }
static void c_exit_while_faulting(void) { guard(); int wrong = 0; for (int i = 0; i < 10; i++) { pid_t c = start(); if (!c) { pthread_t t; volatile char *m = anon(1); munmap((void *)m, PAGE); for (int j = 0; j < 6; j++) pthread_create(&t, 0, spin, (void *)m); usleep(1000 * (i % 4)); syscall(SYS_exit_group, 42); } wrong += finish(c) != 42; } printf("%d\n", wrong); }
static void c_kill_while_faulting(void) { guard(); int wrong = 0; for (int i = 0; i < 10; i++) { pid_t c = start(); if (!c) { pthread_t t; volatile char *m = anon(1); munmap((void *)m, PAGE); for (int j = 0; j < 4; j++) pthread_create(&t, 0, spin, (void *)m); spin((void *)m); } usleep(2000); kill(c, SIGKILL); wrong += finish(c) != 128 + SIGKILL; } printf("%d\n", wrong); }
static void c_done(void) { printf("done\n"); fflush(stdout); _exit(33); }
static void *execute(void *unused) { execl("/proc/self/exe", "hostile", "done", (char *)0); return 0; }
static void c_exec_under_threads(void) { guard(); int wrong = 0; for (int i = 0; i < 6; i++) { pid_t c = start(); if (!c) { area = anon(4); pthread_t t; for (int j = 0; j < 4; j++) pthread_create(&t, 0, j & 1 ? toucher : spin, (void *)area); if (i & 1) { pthread_create(&t, 0, execute, 0); pause(); } execute(0); _exit(1); } wrong += finish(c) != 33; } printf("%d\n", wrong); }
static void nothing(int s) {}
// Where signals come faster than a slow processor gets on, fewer rounds must do.
static int in_time(void) { static time_t end; struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); if (!end) end = t.tv_sec + 30; return t.tv_sec < end; }
static void *signaller(void *self) { while (!stop) { pthread_kill(*(pthread_t *)self, SIGUSR1); sched_yield(); } return 0; }
static void c_signals_under_bases(void) { // GS base changes and must be the same after every signal
    if (!(getauxval(AT_HWCAP2) & 2)) { puts("wrong 0"); return; }
    signal(SIGUSR1, nothing); pthread_t self = pthread_self(), t; stop = 0; pthread_create(&t, 0, signaller, &self); int wrong = 0;
    for (unsigned long i = 1; i < 3000 && (i & 15 || in_time()); i++) { unsigned long want = i & 1 ? i * PAGE : 0xffff800000000000 + i, seen, fs; asm volatile("wrgsbase %2; mov %%fs:0, %1; .rept 30; pause; .endr; rdgsbase %0" : "=&r"(seen), "=&r"(fs) : "r"(want)); wrong += seen != want || fs != self; }
    stop = 1; pthread_join(t, 0); printf("wrong %d\n", wrong);
}
static void c_signals_under_vectors(void) {
    signal(SIGUSR1, nothing); pthread_t self = pthread_self(), t; stop = 0; pthread_create(&t, 0, signaller, &self); int wrong = 0;
    for (unsigned long i = 1; i < 3000 && (i & 15 || in_time()); i++) { unsigned long a, b; asm volatile("movq %2, %%xmm7; movq %2, %%xmm15; movq %2, %%mm2; .rept 30; pause; .endr; movq %%xmm7, %0; movq %%xmm15, %1; emms" : "=&r"(a), "=&r"(b) : "r"(i) : "xmm7", "xmm15"); wrong += a != i || b != i; }
    stop = 1; pthread_join(t, 0); printf("wrong %d\n", wrong);
}
static void c_clone_with_bad_bases(void) {
    unsigned long bad[] = {0x7ffffffff000, 0x800000000000, 0xffff800000000000, -1}; static char stack[8192] __attribute__((aligned(16)));
    for (int i = 0; i < 4; i++) { errno = 0; long r = syscall(SYS_clone, CLONE_VM | CLONE_VFORK | CLONE_SETTLS | SIGCHLD, stack + 4096, 0, 0, bad[i]); if (!r) _exit(1); printf("%d %s\n", r > 0, strerrorname_np(errno)); }
}
static void c_frames_at_bad_stacks(void) { // a signal whose frame cannot be written ends the process
    unsigned long bad[] = {0, 8, PAGE, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, -8};
    for (int i = 0; i < 7; i++) { pid_t c = start(); if (!c) { signal(SIGSEGV, nothing); signal(SIGUSR1, nothing); asm volatile("mov %0, %%rsp; syscall; ud2" : : "r"(bad[i]), "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1)); } printf("%d ", finish(c)); } puts("");
    for (int i = 0; i < 7; i++) { pid_t c = start(); if (!c) { signal(SIGSEGV, nothing); asm volatile("mov %0, %%rsp; syscall; ud2" : : "r"(bad[i]), "a"(SYS_rt_sigreturn)); } printf("%d ", finish(c)); } puts("");
}

#define CASES(X) X(top_mappings) X(sandbox_reserved_mappings) X(sandbox_reserved_jumps) X(race_unmap) X(race_dontneed) X(race_protect) X(race_replace) X(race_truncate) X(fork_and_write) \
    X(fork_under_writers) X(cow_storm) X(one_file_page) X(private_file_page) X(patched_code) X(200_threads) X(200_waiting_threads) X(64_processes) X(exit_while_faulting) X(kill_while_faulting) X(done) \
    X(exec_under_threads) X(signals_under_bases) X(signals_under_vectors) X(clone_with_bad_bases) X(frames_at_bad_stacks)
#include "main.h"
