// Odd and privileged instructions from user mode, and what comes of them; see guest.h.
//
// A line that starts with `#` has the error code of a page fault, which not every host sees: Linux gives a
// tracer signal, code and address only. The error code of a refused selector is left out, as no host tells
// it. Cases called `sandbox_...` are not compared with native Linux: what they must print stands in the
// test.
#include "guest.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <fenv.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <ucontext.h>

enum { CF = 1, ZF = 1 << 6, TF = 1 << 8, IF = 1 << 9, DF = 1 << 10, IOPL = 3 << 12, NT = 1 << 14, RF = 1 << 16, AC = 1 << 18, ID = 1 << 21 };

char *at, *after; // the instruction and what follows it; named in assembly
static char *expected;   // the address that a fault should name
static sigjmp_buf back;
static int quiet;        // 1: only whether a signal came, 2: nothing
static int selectors;    // an error code may be a selector
static char stack_of_handlers[1 << 16] __attribute__((aligned(64)));

static const char *place(const void *p) {
    static char text[40];
    if (!p) return "0";
    if (p == at) return "at";
    if (p == after) return "after";
    if (p == expected) return "expected";
    uintptr_t n = (uintptr_t)p, base = (uintptr_t)at;
    if (n - base < 64) snprintf(text, sizeof text, "at+%d", (int)(n - base));
    else if (n - (uintptr_t)expected < 1 << 16) snprintf(text, sizeof text, "expected+%d", (int)(n - (uintptr_t)expected));
    else return "elsewhere";
    return text;
}

static void caught(int s, siginfo_t *i, void *context) {
    asm volatile("pushfq; andl $~0x40000, (%rsp); popfq"); // the C library does not like AC
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (quiet == 1) printf("a signal\n");
    if (!quiet) {
        printf("signal %d code %d addr %s", s, i->si_code, place(i->si_addr));
        printf(" rip %s trapno %d", place((void *)g[REG_RIP]), (int)g[REG_TRAPNO]);
        if (g[REG_TRAPNO] == 14) printf("\n# page fault, error %x", (int)g[REG_ERR]);
        else if (!selectors) printf(" error %x", (int)g[REG_ERR]);
        puts("");
    }
    siglongjmp(back, 1);
}

static void watch_with(void (*handler)(int, siginfo_t *, void *)) {
    stack_t s = {.ss_sp = stack_of_handlers, .ss_size = sizeof stack_of_handlers};
    sigaltstack(&s, 0);
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int all[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) sigaction(all[i], &a, 0);
}
static void watch(void) { watch_with(caught); }

#define EVERYTHING "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc"
// Runs `before`, then the odd instruction, then `behind`; all may change every register but rsp and rbp.
// rdi holds `arg`.
#define RUN(before, text, behind, arg) do { if (!sigsetjmp(back, 1)) { long arg_ = (long)(arg); \
    asm volatile("lea 771f(%%rip), %%rax; mov %%rax, at(%%rip); lea 772f(%%rip), %%rax; mov %%rax, after(%%rip)\n" before "\n771: " text "\n772: " behind "\ncld" \
        : "+D"(arg_) : : EVERYTHING); \
    printf("no signal\n"); } } while (0)
#define ODD(text) do { printf("%s: ", text); RUN("", text, "", 0L); } while (0)
#define ODD1(before, text) do { printf("%s; %s: ", before, text); RUN(before, text, "", 0L); } while (0)
#define BYTES(name, bytes) do { printf("%s: ", name); RUN("", ".byte " bytes, "", 0L); } while (0)

static void c_privileged(void) {
    watch();
    ODD("hlt"); ODD("cli"); ODD("sti"); ODD("clts"); ODD("invd"); ODD("wbinvd"); ODD("swapgs"); ODD("sysretq"); ODD("sysretl");
    ODD1("xor %%ecx, %%ecx", "rdmsr"); ODD1("xor %%ecx, %%ecx; mov $1, %%eax; xor %%edx, %%edx", "wrmsr"); ODD1("mov $0xc0000080, %%ecx", "rdmsr");
    ODD1("mov $0xc0000100, %%ecx", "wrmsr");
    ODD("invlpg (%%rsp)"); ODD("invlpg 0"); ODD1("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $7, %%eax", "xsetbv");
    ODD("lgdt (%%rsp)"); ODD("lidt (%%rsp)"); ODD1("xor %%eax, %%eax", "lldt %%ax"); ODD1("mov $0x40, %%eax", "ltr %%ax"); ODD1("mov $1, %%eax", "lmsw %%ax");
    BYTES("rsm", "0x0f, 0xaa"); BYTES("clac", "0x0f, 0x01, 0xca"); BYTES("stac", "0x0f, 0x01, 0xcb");
    BYTES("encls", "0x0f, 0x01, 0xcf");
}
static void c_control_registers(void) {
    watch();
    ODD("mov %%cr0, %%rax"); ODD("mov %%rax, %%cr0"); ODD("mov %%cr2, %%rax"); ODD("mov %%rax, %%cr2"); ODD("mov %%cr3, %%rax"); ODD("mov %%rax, %%cr3");
    ODD("mov %%cr4, %%rax"); ODD("mov %%rax, %%cr4"); ODD("mov %%cr8, %%rax"); ODD("mov %%rax, %%cr8"); BYTES("mov cr1", "0x0f, 0x20, 0xc8");
    BYTES("mov cr5", "0x0f, 0x20, 0xe8"); BYTES("mov cr15", "0x44, 0x0f, 0x20, 0xf8");
    ODD("mov %%db0, %%rax"); ODD("mov %%rax, %%db0"); ODD("mov %%db3, %%rax"); ODD("mov %%db6, %%rax"); ODD("mov %%db7, %%rax"); ODD1("xor %%eax, %%eax", "mov %%rax, %%db7");
}
static void c_ports(void) {
    watch();
    ODD("in $0x10, %%al"); ODD("in $0x10, %%ax"); ODD("in $0x10, %%eax"); ODD("out %%al, $0x80"); ODD("out %%ax, $0x80"); ODD("out %%eax, $0x80");
    ODD1("xor %%edx, %%edx", "in (%%dx), %%al"); ODD1("mov $0xffff, %%edx", "in (%%dx), %%ax"); ODD1("mov $0xffff, %%edx", "in (%%dx), %%eax");
    ODD1("mov $0x3f8, %%edx", "out %%al, (%%dx)"); ODD1("mov $0x3f8, %%edx", "out %%ax, (%%dx)"); ODD1("mov $0xcf8, %%edx", "out %%eax, (%%dx)");
    ODD1("mov %%rsp, %%rdi; mov $4, %%ecx; mov $0x10, %%edx", "rep insb"); ODD1("mov %%rsp, %%rsi; mov $4, %%ecx; mov $0x10, %%edx", "rep outsb");
    ODD1("mov %%rsp, %%rdi; mov $0x10, %%edx", "insl"); ODD1("mov %%rsp, %%rsi; mov $0x10, %%edx", "outsw");
    ODD1("mov %%rsp, %%rsi; xor %%ecx, %%ecx; mov $0x10, %%edx", "rep outsb");
    // Every port a host might keep for itself, written and read.
    char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int odd = 0;
    for (int port = 0; port < 256; port++)
        for (int op = 0xe4; op <= 0xe7; op++) {
            at = code; code[0] = op; code[1] = port; code[2] = 0xc3; after = code + 2;
            volatile int came = 1;
            quiet = 2;
            if (!sigsetjmp(back, 1)) { ((void (*)(void))code)(); came = 0; }
            if (!came) odd++;
        }
    quiet = 0;
    printf("%d ports let through\n", odd);
}
static void c_interrupts(void) {
    watch();
    ODD("int3"); BYTES("icebp", "0xf1"); BYTES("int $3", "0xcd, 3"); ODD("int $0"); ODD("int $1"); ODD("int $2"); ODD("int $4"); ODD("int $5"); ODD("int $6"); ODD("int $8");
    ODD("int $12"); ODD("int $13"); ODD("int $14"); ODD("int $0x20"); ODD("int $0x21"); ODD("int $0x2e"); ODD("int $0x7f"); ODD("int $0x81"); ODD("int $0xef"); ODD("int $0xff");
    BYTES("into", "0xce"); BYTES("bound", "0x62, 0x00"); BYTES("aaa", "0x37"); BYTES("push cs", "0x0e"); BYTES("pusha", "0x60"); BYTES("far call imm", "0x9a");
}
// The sandbox is a Linux without 32-bit emulation: the vector has no gate for user mode.
static void c_sandbox_int80(void) {
    watch();
    ODD1("mov $20, %%eax", "int $0x80"); ODD1("mov $1, %%eax; mov $3, %%ebx", "int $0x80");
    // With the registers a `syscall` leaves.
    ODD1("mov $20, %%eax; lea 772f(%%rip), %%rcx; xor %%r11d, %%r11d", "int $0x80"); ODD1("mov $39, %%eax; pushfq; pop %%r11; xor %%ecx, %%ecx", "int $0x80");
}
static void c_undefined(void) {
    watch();
    ODD("ud2"); BYTES("ud1", "0x0f, 0xb9, 0xc0"); BYTES("ud0", "0x0f, 0xff, 0xc0"); BYTES("lock nop", "0xf0, 0x90"); BYTES("lock mov", "0xf0, 0x89, 0xc0");
    BYTES("mov to cs", "0x8e, 0xc8"); BYTES("long", "0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
    ODD("vmcall"); BYTES("vmmcall", "0x0f, 0x01, 0xd9"); BYTES("vmrun", "0x0f, 0x01, 0xd8"); BYTES("vmload", "0x0f, 0x01, 0xda"); BYTES("vmsave", "0x0f, 0x01, 0xdb");
    BYTES("stgi", "0x0f, 0x01, 0xdc"); BYTES("clgi", "0x0f, 0x01, 0xdd"); BYTES("vmxoff", "0x0f, 0x01, 0xc4"); BYTES("vmlaunch", "0x0f, 0x01, 0xc2");
    BYTES("vmptrld", "0x0f, 0xc7, 0x34, 0x24"); BYTES("getsec", "0x0f, 0x37");
    BYTES("push es", "0x06"); BYTES("les", "0xc4, 0x04, 0x24"); BYTES("salc", "0xd6");
}
// Instructions that differ between machines: the sandbox must do as this one does.
static void c_machine_dependent(void) {
    watch(); quiet = 1;
    ODD1("xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx", "monitor"); ODD1("xor %%eax, %%eax; xor %%ecx, %%ecx", "mwait");
    ODD("sub $32, %%rsp; sgdt (%%rsp); add $32, %%rsp"); // UMIP may be off, natively too
}
static void c_segments(void) {
    watch(); selectors = 1;
    unsigned sel[] = {0, 1, 3, 4, 8, 0x10, 0x13, 0x18, 0x1b, 0x20, 0x23, 0x28, 0x2b, 0x30, 0x33, 0x38, 0x3b, 0x40, 0x60, 0x7f, 0xfff8, 0xffff};
    for (unsigned i = 0; i < sizeof sel / sizeof *sel; i++) {
        unsigned long s = sel[i], seen = 99;
        printf("%lx ds ", s); RUN("", "mov %%edi, %%ds", "mov %%ds, %%eax; xor %%ecx, %%ecx; mov %%ecx, %%ds", s);
        printf("%lx es ", s); RUN("", "mov %%edi, %%es", "mov %%es, %%eax; xor %%ecx, %%ecx; mov %%ecx, %%es", s);
        printf("%lx ss ", s); RUN("mov %%ss, %%esi", "mov %%edi, %%ss", "mov %%esi, %%ss", s);
        printf("%lx gs ", s); RUN("mov %%gs, %%esi", "mov %%edi, %%gs", "mov %%esi, %%gs", s);
    }
}
static void c_segments_kept(void) {
    unsigned long a, b, c, d;
    asm volatile("mov $0x2b, %%eax; mov %%eax, %%ds; mov %%eax, %%es; mov $0x33, %%eax; mov %%eax, %%gs; mov $39, %%eax; syscall;"
        "mov %%ds, %0; mov %%es, %1; mov %%gs, %2; mov %%fs, %3; xor %%eax, %%eax; mov %%eax, %%ds; mov %%eax, %%es; mov %%eax, %%gs"
        : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : : "rax", "rcx", "r11");
    printf("%lx %lx %lx %lx\n", a, b, c, d);
    asm volatile("mov %%cs, %0; mov %%ss, %1" : "=r"(a), "=r"(b)); printf("%lx %lx\n", a, b);
}
static void c_segments_over_traps(void) { // selectors with the privilege bits that a program chose
    static char *volatile page; unsigned long a, b, sel[] = {1, 2, 0x28, 0x2a, 0x30, 0x20};
    signal(SIGUSR1, SIG_IGN); long me = getpid();
    for (unsigned i = 0; i < sizeof sel / sizeof *sel; i++) {
        page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        asm volatile("mov %2, %%ds; mov %2, %%es; mov %2, %%gs; movb $1, (%3); mov $57, %%eax; syscall; test %%eax, %%eax; jnz 1f; mov $231, %%eax; xor %%edi, %%edi; syscall; 1: mov %4, %%rdi; mov $10, %%esi; mov $62, %%eax; syscall;"
            "mov %%ds, %0; mov %%gs, %1; xor %%eax, %%eax; mov %%eax, %%ds; mov %%eax, %%es; mov %%eax, %%gs" : "=&r"(a), "=&r"(b) : "r"(sel[i]), "r"(page), "r"(me) : "rax", "rcx", "rdi", "rsi", "r11", "memory");
        printf("%lx: %lx %lx\n", sel[i] | 3, a | 3, b | 3);
    }
}
static void c_push_pop_segments(void) {
    watch(); selectors = 1;
    unsigned long fs, gs;
    asm volatile("sub $128, %%rsp; push %%fs; pop %0; push %%gs; pop %1; add $128, %%rsp" : "=r"(fs), "=r"(gs)); printf("%lx %lx\n", fs, gs);
    printf("pop gs "); RUN("mov %%rsp, %%rbx; push $0x10", "pop %%gs", "mov %%rbx, %%rsp", 0L);
    printf("pop gs "); RUN("mov %%rsp, %%rbx; push $0", "pop %%gs", "mov %%rbx, %%rsp", 0L);
}
static void c_far(void) {
    watch(); selectors = 1;
    // ljmp, lcall and lret to selectors that are none, or the kernel's.
    unsigned sel[] = {0, 3, 8, 0x10, 0x13, 0x1b, 0x2b, 0x38, 0x43, 0x53, 0xfffb};
    for (unsigned i = 0; i < sizeof sel / sizeof *sel; i++) {
        unsigned long s = sel[i];
        printf("%lx ljmp ", s); RUN("lea 772f(%%rip), %%rax; mov %%eax, -160(%%rsp); mov %%di, -156(%%rsp)", "ljmp *-160(%%rsp)", "", s);
        printf("%lx lcall ", s); RUN("lea 772f(%%rip), %%rax; mov %%eax, -160(%%rsp); mov %%di, -156(%%rsp)", "lcall *-160(%%rsp)", "", s);
        printf("%lx lret ", s); RUN("mov %%rsp, %%rbx; sub $256, %%rsp; lea 772f(%%rip), %%rax; push %%rdi; push %%rax", "lretq", "mov %%rbx, %%rsp", s);
    }
    printf("33 ljmp "); RUN("lea 772f(%%rip), %%rax; mov %%eax, -160(%%rsp); movw $0x33, -156(%%rsp)", "ljmp *-160(%%rsp)", "", 0L);
    printf("33 lret "); RUN("mov %%rsp, %%rbx; sub $256, %%rsp; lea 772f(%%rip), %%rax; push $0x33; push %%rax", "lretq", "mov %%rbx, %%rsp", 0L);
}
static void c_iretq(void) {
    watch(); selectors = 1;
    struct { int cs, ss; } sel[] = {{0x33, 0x2b}, {0x10, 0x18}, {0x33, 0x18}, {0x33, 0}, {0, 0x2b}, {0x13, 0x1b}, {0x2b, 0x2b}, {0x33, 0x33}, {0x10, 0x2b}, {0xfffb, 0x2b}};
    for (unsigned i = 0; i < sizeof sel / sizeof *sel; i++) {
        printf("cs %x ss %x ", sel[i].cs, sel[i].ss);
        RUN("mov %%rsp, %%rbx; sub $256, %%rsp; mov %%rdi, %%rax; shr $32, %%rax; push %%rax; push %%rbx; pushfq; mov %%edi, %%edi; push %%rdi; lea 772f(%%rip), %%rax; push %%rax", "iretq", "mov %%rbx, %%rsp",
            (unsigned long)sel[i].ss << 32 | sel[i].cs);
    }
    // Flags that user mode cannot set are passed over, the others are taken.
    unsigned long flags;
    asm volatile("mov %%rsp, %%rbx; sub $256, %%rsp; mov %%ss, %%eax; push %%rax; push %%rbx; pushfq; orl $0x203001, (%%rsp); mov %%cs, %%eax; push %%rax; lea 1f(%%rip), %%rax; push %%rax; iretq; 1: pushfq; pop %0" : "=r"(flags) : : "rax", "rbx", "memory", "cc");
    printf("%lx\n", flags & (IOPL | ID | CF));
    // To an address that is not canonical: the fault is in iretq itself, or at the address, by the machine.
    printf("not canonical "); quiet = 1;
    RUN("mov %%rsp, %%rbx; sub $256, %%rsp; mov %%ss, %%eax; push %%rax; push %%rbx; pushfq; mov %%cs, %%eax; push %%rax; push %%rdi", "iretq", "mov %%rbx, %%rsp", 0x800000000000L);
}
static void c_bases(void) {
    unsigned long x = 1, y = 2, page[8] = {7, 8};
    T(syscall(SYS_arch_prctl, ARCH_GET_GS, &x)); T(syscall(SYS_arch_prctl, ARCH_SET_GS, page)); T(syscall(SYS_arch_prctl, ARCH_GET_GS, &x)); printf("%d\n", x == (unsigned long)page);
    asm volatile("mov %%gs:8, %0" : "=r"(y)); printf("%lu\n", y);
    T(syscall(SYS_arch_prctl, ARCH_GET_FS, &x)); asm volatile("mov %%fs:0, %0" : "=r"(y)); printf("%d\n", x == y);
    T(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x7ffffffff000)); T(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x800000000000)); T(syscall(SYS_arch_prctl, ARCH_SET_GS, -1L));
    T(syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff800000000000)); T(syscall(SYS_arch_prctl, ARCH_SET_FS, 0x7ffffffff000)); T(syscall(SYS_arch_prctl, ARCH_SET_FS, -4096L));
    T(syscall(SYS_arch_prctl, ARCH_GET_GS, 8)); T(syscall(SYS_arch_prctl, ARCH_GET_FS, 0xffff800000000000)); T(syscall(SYS_arch_prctl, 0x1000, 0)); T(syscall(SYS_arch_prctl, -1, 0));
    T(syscall(SYS_arch_prctl, ARCH_SET_GS, 0));
    T(syscall(SYS_arch_prctl, 0x100001003, &x)); // only the lower half of the code counts
}
static void c_fsgsbase(void) {
    if (!(getauxval(AT_HWCAP2) & 2)) { printf("without FSGSBASE\n"); return; }
    watch();
    unsigned long old, x, page[4] = {5, 6}, odd[] = {0x1234, 0x7fffffffffff, 0xffff800000000000, 0xffffffffffffffff, 0xffffffffff600000};
    asm volatile("rdgsbase %0" : "=r"(old)); printf("%lx\n", old);
    asm volatile("wrgsbase %0" : : "r"(page)); T(syscall(SYS_arch_prctl, ARCH_GET_GS, &x)); printf("%d\n", x == (unsigned long)page);
    asm volatile("mov %%gs:8, %0" : "=r"(x)); printf("%lu\n", x);
    for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
        asm volatile("wrgsbase %0" : : "r"(odd[i])); sched_yield();
        asm volatile("rdgsbase %0" : "=r"(x)); printf("%lx ", x); T(syscall(SYS_arch_prctl, ARCH_GET_GS, &x)); printf("%lx\n", x);
        asm volatile("rdfsbase %0; mov %%fs:0, %1" : "=r"(old), "=r"(x)); printf("%d\n", old == x);
        expected = (char *)odd[i];
        printf("gs:0 "); RUN("", "mov %%gs:0, %%rax", "", 0L);
        asm volatile("rdgsbase %0" : "=r"(x)); printf("%lx\n", x);
    }
    printf("not canonical "); RUN("mov $0x8000000000000000, %%rax", "wrgsbase %%rax", "", 0L); asm volatile("rdgsbase %0" : "=r"(x)); printf("%lx\n", x);
    printf("not canonical "); RUN("mov $0x800000000000, %%rax", "wrfsbase %%rax", "", 0L);
    // FS base away and back around a system call.
    asm volatile("rdfsbase %%r8; mov %1, %%rax; wrfsbase %%rax; mov $39, %%eax; syscall; rdfsbase %0; wrfsbase %%r8" : "=r"(x) : "m"(odd[2]) : "rax", "rcx", "r8", "r11");
    printf("%lx\n", x);
    // Bases in the kernel's half over page faults, signals and fork.
    signal(SIGUSR1, SIG_IGN); char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); long me = getpid(), child;
    asm volatile("wrgsbase %0; movb $1, (%2); mov %3, %%edi; mov $10, %%esi; mov $62, %%eax; syscall; mov $57, %%eax; syscall; rdgsbase %0" : "=&r"(x), "=a"(child) : "r"(m), "r"((int)me), "0"(odd[3]) : "rcx", "rdi", "rsi", "r11", "memory");
    if (!child) _exit(x == odd[3] ? 3 : 4);
    int st; waitpid(child, &st, 0); printf("%lx, in the child %d\n", x, WEXITSTATUS(st));
    pid_t p; asm volatile("wrgsbase %0" : : "r"(page));
    if (!(p = (fflush(stdout), fork()))) { asm volatile("rdgsbase %0" : "=r"(x)); printf("%d\n", x == (unsigned long)page); fflush(stdout); _exit(0); }
    waitpid(p, 0, 0);
}
static void c_cpuid(void) {
    unsigned a, b, c, d; unsigned lo, hi;
    __cpuid(0, a, b, c, d); printf("%d\n", a >= 1);
    __cpuid(1, a, b, c, d); int osxsave = c >> 27 & 1, avx = c >> 28 & 1; printf("sse2 %d avx %d osxsave %d\n", d >> 26 & 1, avx, osxsave);
    if (!osxsave) return;
    asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    unsigned xa, xb, xc, xd; __cpuid_count(13, 0, xa, xb, xc, xd);
    // What is on may be less than what could be; what is on must be what the length is for.
    printf("xcr0 within what is there %d, length within %d, x87 and SSE on %d\n", (lo & ~xa) == 0 && (hi & ~xd) == 0, xb <= xc && xb >= 576, (lo & 3) == 3);
    printf("xcr0 %x %x length %u\n", lo, hi, xb);
    watch();
    ODD1("mov $0, %%ecx", "xgetbv"); ODD1("mov $2, %%ecx", "xgetbv"); ODD1("mov $-1, %%ecx", "xgetbv");
}
static void c_time_stamps(void) {
    unsigned lo, hi; unsigned long last = 0; int wrong = 0;
    for (int i = 0; i < 10000; i++) {
        asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
        unsigned long now = (unsigned long)hi << 32 | lo; wrong += now < last; last = now;
        if (i % 1000 == 0) sched_yield();
    }
    printf("%d steps back\n", wrong);
    watch(); ODD1("xor %%ecx, %%ecx", "rdpmc"); ODD("rdtsc"); ODD("rdtscp");
}
// AMD: undefined; Intel: into a kernel that has no 32-bit calls, or one that has.
static void c_sysenter(void) {
    unsigned a, b, c, d; __cpuid(0, a, b, c, d);
    if (b != 0x68747541) { printf("not on this machine\n"); return; }
    watch(); ODD("sysenter");
}
static void c_division(void) {
    watch();
    ODD1("xor %%ecx, %%ecx; mov $1, %%eax; xor %%edx, %%edx", "div %%ecx"); ODD1("xor %%ecx, %%ecx", "idiv %%rcx"); ODD1("mov $0x80000000, %%eax; cltd; mov $-1, %%ecx", "idiv %%ecx");
    ODD1("mov $1, %%ecx; mov $1, %%edx; xor %%eax, %%eax", "div %%ecx"); ODD1("xor %%ecx, %%ecx", "div %%cl");
}
#define SSE(unmasked, before, text) do { printf("%s: ", text); unsigned m = 0x1f80 & ~(unmasked), o = 0x1f80; if (!sigsetjmp(back, 1)) { \
    asm volatile("lea 771f(%%rip), %%rax; mov %%rax, at(%%rip); lea 772f(%%rip), %%rax; mov %%rax, after(%%rip); xorps %%xmm1, %%xmm1; mov $0x3f800000, %%eax; movd %%eax, %%xmm0; ldmxcsr %0\n" \
        before "\n771: " text "\n772: ldmxcsr %1" : : "m"(m), "m"(o) : "rax", "xmm0", "xmm1", "memory"); \
    printf("no signal\n"); } asm volatile("ldmxcsr %0" : : "m"(o)); } while (0)
static void c_sse_exceptions(void) {
    watch();
    SSE(0, "", "divss %%xmm1, %%xmm0"); SSE(0x200, "", "divss %%xmm1, %%xmm0"); SSE(0x80, "", "divss %%xmm1, %%xmm1"); SSE(0x80, "mov $0xbf800000, %%eax; movd %%eax, %%xmm0", "sqrtss %%xmm0, %%xmm0");
    SSE(0x400, "mov $0x7f7fffff, %%eax; movd %%eax, %%xmm0", "mulss %%xmm0, %%xmm0"); SSE(0x800, "mov $0x00800000, %%eax; movd %%eax, %%xmm0", "mulss %%xmm0, %%xmm0");
    SSE(0x1000, "mov $0x40400000, %%eax; movd %%eax, %%xmm1", "divss %%xmm1, %%xmm0"); SSE(0x100, "mov $1, %%eax; movd %%eax, %%xmm1", "addss %%xmm1, %%xmm0");
    SSE(0x80, "mov $0x7f800001, %%eax; movd %%eax, %%xmm0", "cvttss2si %%xmm0, %%eax");
    printf("reserved bits: "); unsigned bad = 0xffff1f80; RUN("", "ldmxcsr (%%rdi)", "", (long)&bad);
    printf("not aligned: "); RUN("", "movaps 1(%%rsp), %%xmm0", "", 0L);
}
#define X87(control, before, text) do { printf("%s %s: ", before, text); unsigned short c = (control); if (!sigsetjmp(back, 1)) { \
    asm volatile("lea 771f(%%rip), %%rax; mov %%rax, at(%%rip); lea 772f(%%rip), %%rax; mov %%rax, after(%%rip); fninit; fldcw %0\n" before "\n771: " text "\n772: fninit" \
        : : "m"(c) : "rax", "memory"); printf("no signal\n"); } asm volatile("fninit"); } while (0)
static void c_x87_exceptions(void) {
    watch();
    X87(0x37f, "fld1; fldz; fdivrp", "fwait"); X87(0x37b, "fld1; fldz; fdivrp", "fwait"); X87(0x37e, "fldz; fldz; fdivrp", "fwait"); X87(0x35f, "fld1; fldpi; fdivrp", "fwait");
    X87(0x37e, "fld %%st(3)", "fwait"); X87(0x37b, "fld1; fldz; fdivrp", "fld1"); X87(0x37e, "fld1; fchs; fsqrt", "fwait");
    X87(0x37b, "fld1; fldz; fdivrp", "emms");
}
static void c_alignment(void) {
    watch();
    for (int i = 0; i < 3; i++) {
        long words[3] = {1, 2, 3}; expected = (char *)words + 1;
        printf("aligned: "); RUN("pushfq; orl $0x40000, (%%rsp); popfq", "mov (%%rdi), %%rax", "pushfq; andl $~0x40000, (%%rsp); popfq", (long)words);
        printf("load: "); RUN("pushfq; orl $0x40000, (%%rsp); popfq", "mov 1(%%rdi), %%rax", "pushfq; andl $~0x40000, (%%rsp); popfq", (long)words);
        printf("store: "); RUN("pushfq; orl $0x40000, (%%rsp); popfq", "mov %%ax, 1(%%rdi)", "pushfq; andl $~0x40000, (%%rsp); popfq", (long)words);
        printf("over a system call: "); RUN("pushfq; orl $0x40000, (%%rsp); popfq; push %%rdi; mov $39, %%eax; syscall; pop %%rdi", "mov 1(%%rdi), %%eax", "pushfq; andl $~0x40000, (%%rsp); popfq", (long)words);
    }
}
static void c_not_canonical(void) {
    watch();
    long odd[] = {0x800000000000, 0x8000000000000000, 0xffff7fffffffffff, 0x7fffffffffffffff, 0x0001000000000000, 0x7ffffffffffd};
    for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
        printf("%lx\n", odd[i]); expected = (char *)odd[i];
        if (i == 5) { printf("8 bytes across: "); quiet = 1; RUN("", "mov (%%rdi), %%rax", "", odd[i]); break; }
        printf("load "); RUN("", "mov (%%rdi), %%rax", "", odd[i]);
        printf("store "); RUN("", "mov %%rax, (%%rdi)", "", odd[i]);
        printf("rmw "); RUN("", "lock incl (%%rdi)", "", odd[i]);
        printf("jump "); RUN("", "jmp *%%rdi", "", odd[i]);
        printf("call "); RUN("sub $256, %%rsp", "call *%%rdi", "", odd[i]);
        printf("ret "); RUN("sub $256, %%rsp; push %%rdi", "ret", "", odd[i]);
        printf("stack load "); RUN("mov %%rsp, %%rbx; mov %%rdi, %%rsp", "mov (%%rsp), %%rax", "mov %%rbx, %%rsp", odd[i]);
        if (i) printf("stack push "); if (i) RUN("mov %%rsp, %%rbx; mov %%rdi, %%rsp", "push %%rax", "mov %%rbx, %%rsp", odd[i]);
        printf("frame load "); RUN("push %%rbp; mov %%rdi, %%rbp", "mov (%%rbp), %%rax", "pop %%rbp", odd[i]);
        printf("movs "); RUN("mov %%rsp, %%rsi", "movsb", "", odd[i]);
        printf("movaps "); RUN("", "movaps (%%rdi), %%xmm0", "", odd[i] & ~15);
        printf("clflush "); RUN("", "clflush (%%rdi)", "", odd[i]);
        printf("prefetch "); RUN("", "prefetcht0 (%%rdi)", "", odd[i]);
    }
}
static void c_kernel_half(void) {
    watch();
    long odd[] = {0xffff800000000000, 0xffff888000000000, 0xffffffff81000000, 0xffffffffff5ff000, 0xfffffffffffff000, 0xffffffffffffffff, 0xfffffe0000000000};
    for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
        printf("%lx\n", odd[i]); expected = (char *)odd[i];
        printf("load "); RUN("", "movb (%%rdi), %%al", "", odd[i]);
        printf("store "); RUN("", "movb %%al, (%%rdi)", "", odd[i]);
        printf("jump "); RUN("", "jmp *%%rdi", "", odd[i]);
        printf("call "); RUN("sub $256, %%rsp", "call *%%rdi", "", odd[i]);
    }
    printf("data of the vsyscall page "); expected = (char *)0xffffffffff600000; quiet = 1; RUN("", "movb (%%rdi), %%al", "", 0xffffffffff600000);
}
// The sandbox is a Linux with `vsyscall=none`.
static void c_sandbox_vsyscall(void) {
    watch();
    long odd[] = {0xffffffffff600000, 0xffffffffff600400, 0xffffffffff600800, 0xffffffffff600401, 0xffffffffff600fff};
    for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) { expected = (char *)odd[i]; printf("%lx ", odd[i]); RUN("sub $256, %%rsp; mov %%rdi, %%rax; mov %%rsp, %%rdi; xor %%esi, %%esi; xor %%edx, %%edx", "call *%%rax", "add $256, %%rsp", odd[i]); }
}
static void c_pages(void) {
    watch();
    char *m = mmap(0, 4096 * 6, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 0x90, 4096 * 6); m[0] = 0xc3;
    mprotect(m + 4096, 4096, PROT_READ); mprotect(m + 8192, 4096, PROT_NONE); munmap(m + 12288, 4096); mprotect(m + 4 * 4096, 4096, PROT_READ | PROT_EXEC); munmap(m + 5 * 4096, 4096);
    expected = m; printf("execute data: "); RUN("", "call *%%rdi", "", (long)m);
    expected = m + 4096; printf("write read-only: "); RUN("", "movb $1, (%%rdi)", "", (long)m + 4096); printf("read read-only: "); RUN("", "movb (%%rdi), %%al", "", (long)m + 4096);
    printf("increment read-only: "); RUN("", "lock incl (%%rdi)", "", (long)m + 4096); printf("compare and exchange read-only: "); RUN("", "lock cmpxchg %%eax, (%%rdi)", "", (long)m + 4096);
    printf("across: "); RUN("", "movl $1, (%%rdi)", "", (long)m + 4094);
    expected = m + 8192; printf("read none: "); RUN("", "movb (%%rdi), %%al", "", (long)m + 8192); printf("write none: "); RUN("", "movb %%al, (%%rdi)", "", (long)m + 8192); printf("jump none: "); RUN("", "jmp *%%rdi", "", (long)m + 8192);
    expected = m + 12288; printf("read hole: "); RUN("", "movb (%%rdi), %%al", "", (long)m + 12288); printf("write hole: "); RUN("", "movb %%al, (%%rdi)", "", (long)m + 12288); printf("jump hole: "); RUN("", "jmp *%%rdi", "", (long)m + 12288);
    expected = m + 5 * 4096; printf("run into a hole: "); RUN("", "jmp *%%rdi", "", (long)m + 5 * 4096 - 3);
    // An instruction whose second half is on the missing page.
    char *t = m + 5 * 4096 - 3; mprotect(m + 4 * 4096, 4096, PROT_READ | PROT_WRITE | PROT_EXEC); t[0] = 0x48; t[1] = 0xb8; t[2] = 1;
    printf("straddling: "); RUN("", "jmp *%%rdi", "", (long)t);
    expected = 0; printf("null: "); RUN("", "movb (%%rdi), %%al", "", 0L); printf("null write: "); RUN("", "movb %%al, (%%rdi)", "", 0L); printf("null call: "); RUN("sub $256, %%rsp", "call *%%rdi", "", 0L);
    expected = (char *)0xffff; printf("low: "); RUN("", "movb (%%rdi), %%al", "", 0xffffL);
    int fd = make("f", "some text"); char *f = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *g = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    expected = f + 4096; printf("read beyond: "); RUN("", "movb (%%rdi), %%al", "", (long)f + 4096); printf("write beyond: "); RUN("", "movb %%al, (%%rdi)", "", (long)f + 4096);
    expected = g + 4096; printf("private write beyond: "); RUN("", "movb %%al, (%%rdi)", "", (long)g + 4096);
    f[9] = 'x'; ftruncate(fd, 0); expected = f; printf("read truncated: "); RUN("", "movb (%%rdi), %%al", "", (long)f); expected = g; printf("read truncated: "); RUN("", "movb (%%rdi), %%al", "", (long)g);
}
// Single-stepping: counts the traps between setting TF and clearing it, and where they are.
static volatile int steps; static char *first, *last; static unsigned long step_codes, step_flags;
static void step(int s, siginfo_t *i, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (!steps) first = (char *)g[REG_RIP]; last = (char *)g[REG_RIP];
    steps++; step_codes |= 1 << i->si_code; step_flags |= g[REG_EFL] & TF;
    if (i->si_addr != (void *)g[REG_RIP]) step_codes |= 1 << 20;
    if (steps > 1000) g[REG_EFL] &= ~TF;
}
#define STEPS(before, text) do { steps = 0; step_codes = step_flags = 0; static long room[64]; char *a; \
    asm volatile(before "\nlea 1f(%%rip), %0; push %0; pushfq; orl $0x100, (%%rsp); popfq\n11: " text "\n pushfq; andl $~0x100, (%%rsp); popfq; nop; pop %%rcx" \
        : "=&r"(a) : "S"(room), "D"(room + 32) : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc"); \
    printf("%s: %d traps, codes %lx flags %lx from %d to %d\n", text, steps, step_codes, step_flags, (int)(first - a), (int)(last - a)); } while (0)
static void c_single_step(void) {
    struct sigaction a = {.sa_sigaction = step, .sa_flags = SA_SIGINFO}; sigaction(SIGTRAP, &a, 0);
    STEPS("", "nop"); STEPS("", "nop; nop; nop"); STEPS("mov $5, %%ecx", "rep movsb"); STEPS("", "pushfq; pop %%rax"); STEPS("", "mov %%ss, %%eax; mov %%eax, %%ss; nop; nop");
    STEPS("mov $39, %%eax", "syscall"); STEPS("mov $39, %%eax", "syscall; nop"); STEPS("", "cpuid"); STEPS("", "rdtsc"); STEPS("mov $3, %%ecx", "2: dec %%ecx; jnz 2b"); STEPS("", "xor %%eax, %%eax; cpuid; nop"); 
    STEPS("mov $24, %%eax", "syscall; mov $24, %%eax; syscall");
    unsigned long seen; asm volatile("pushfq; orl $0x100, (%%rsp); popfq; pushfq; pop %0; pushfq; andl $~0x100, (%%rsp); popfq" : "=r"(seen) : : "memory", "cc"); printf("TF seen %lx\n", seen & TF);
    // A fault under single step: the handler runs without.
    steps = 0; watch(); sigaction(SIGTRAP, &a, 0); RUN("pushfq; orl $0x100, (%%rsp); popfq", "movb 8, %%al", "pushfq; andl $~0x100, (%%rsp); popfq", 0L); printf("%d\n", steps);
    steps = 0; pid_t p = (fflush(stdout), fork()); if (!p) { signal(SIGTRAP, SIG_DFL); asm volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; nop" : : : "memory", "cc"); _exit(0); }
    int st; waitpid(p, &st, 0); printf("%d %d\n", WIFSIGNALED(st), WTERMSIG(st));
}
static unsigned long flags_in_handler; static void flag_handler(int s, siginfo_t *i, void *context) { asm volatile("pushfq; pop %0; cld; push $2; popfq" : "=r"(flags_in_handler)); }
static void c_flags(void) {
    unsigned long sets[] = {CF, ZF, DF, NT, AC, ID, IOPL, RF, IF, CF | ZF | DF | AC | ID, 1 << 17, 1 << 19, 1 << 20}, in, out, popped;
    struct sigaction a = {.sa_sigaction = flag_handler, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &a, 0);
    pid_t self = getpid();
    for (unsigned i = 0; i < sizeof sets / sizeof *sets; i++) {
        asm volatile("pushfq; pop %%r12; push %3; popfq; pushfq; pop %0; mov $39, %%eax; syscall; pushfq; pop %1; push %3; popfq; mov $62, %%eax; mov %4, %%edi; mov $10, %%esi; syscall; pushfq; pop %2; push %%r12; popfq"
            : "=&r"(popped), "=&r"(in), "=&r"(out) : "r"(sets[i] | 2), "r"(self) : "rax", "rcx", "rdi", "rsi", "r11", "r12", "memory", "cc");
        printf("%lx: popped %lx, after a call %lx, in a handler %lx, after it %lx\n", sets[i], popped, in, flags_in_handler & ~0x8d5ul, out);
    }
}
static void c_syscall_registers(void) {
    unsigned long rcx, r11, rax, rip, kept[13];
    asm volatile("mov $0x1111, %%rcx; mov $0x2222, %%r11; mov $39, %%eax; syscall; 1: lea 1b(%%rip), %3; pushfq; pop %2; mov %%r11, %1; mov %%rcx, %0" : "=&r"(rcx), "=&r"(r11), "=&r"(rax), "=&r"(rip) : : "rax", "rcx", "r11", "memory");
    printf("rcx is rip %d, r11 is flags %d\n", rcx == rip, (r11 ^ rax) == 0);
    asm volatile("mov %0, %%r15; mov $1, %%rdi; mov $2, %%rsi; mov $3, %%rdx; mov $4, %%r8; mov $5, %%r9; mov $6, %%r10; mov $7, %%r12; mov $8, %%r13; mov $9, %%r14; mov $10, %%rbx; mov $102, %%eax; syscall;"
        "mov %%rdi, (%%r15); mov %%rsi, 8(%%r15); mov %%rdx, 16(%%r15); mov %%r8, 24(%%r15); mov %%r9, 32(%%r15); mov %%r10, 40(%%r15); mov %%r12, 48(%%r15); mov %%r13, 56(%%r15); mov %%r14, 64(%%r15); mov %%rbx, 72(%%r15)"
        : : "r"(kept) : EVERYTHING, "rdi");
    for (int i = 0; i < 10; i++) printf("%lu ", kept[i]); puts("");
    T(syscall(0x40000000 + 39) == -1); T(syscall(0x10000000027) == getpid()); T(syscall(-1)); T(syscall(0xffffffff00000027) == getpid()); T(syscall(0x7fffffff)); T(syscall(512));
    watch(); expected = (char *)8;
    // A system call from a stack that is none.
    RUN("mov %%rsp, %%rbx; mov %%rdi, %%rsp; mov $39, %%eax", "syscall", "mov %%rbx, %%rsp", 8L); RUN("mov %%rsp, %%rbx; mov %%rdi, %%rsp; mov $39, %%eax", "syscall", "mov %%rbx, %%rsp", 0x800000000000L);
    RUN("mov %%rsp, %%rbx; mov %%rdi, %%rsp; mov $39, %%eax", "syscall", "mov %%rbx, %%rsp", -1L);
}
static int has_avx(void) { unsigned a, b, c, d, lo, hi; __cpuid(1, a, b, c, d); if (!(c >> 27 & 1) || !(c >> 28 & 1)) return 0; asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0)); return (lo & 6) == 6; }
static unsigned char vectors[16][32] __attribute__((aligned(64))), seen_vectors[16][32] __attribute__((aligned(64)));
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
static void fill_vectors(int seed) { for (int i = 0; i < 16; i++) for (int j = 0; j < 32; j++) vectors[i][j] = seed + i * 32 + j * 7; }
__attribute__((noinline)) static void load_vectors(void) {
#define L(n) asm volatile("movaps %0, %%xmm" #n : : "m"(vectors[n]));
    EACH(L)
#define LY(n) asm volatile("vmovaps %0, %%ymm" #n : : "m"(vectors[n]));
    if (has_avx()) { EACH(LY) }
}
__attribute__((noinline)) static void store_vectors(void) {
    int avx = has_avx();
#define S(n) asm volatile("movaps %%xmm" #n ", %0" : "=m"(seen_vectors[n]));
#define SY(n) asm volatile("vmovaps %%ymm" #n ", %0" : "=m"(seen_vectors[n]));
    if (avx) { EACH(SY) } else { EACH(S) for (int i = 0; i < 16; i++) memcpy(seen_vectors[i] + 16, vectors[i] + 16, 16); }
}
static long raw(long n, long a, long b, long c) { long r; asm volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory"); return r; }
static void clobber(int s) {
#define Z(n) asm volatile("pcmpeqd %xmm" #n ", %xmm" #n);
    EACH(Z)
#define ZY(n) asm volatile("vpcmpeqb %xmm" #n ", %xmm" #n ", %xmm" #n);
    if (has_avx()) { EACH(ZY) }
    unsigned m = 0x9fc0; asm volatile("ldmxcsr %0; fninit; fld1; fldpi" : : "m"(m));
    unsigned short w = 0x27f; asm volatile("fldcw %0" : : "m"(w));
}
static void fresh(int s) { // what a handler starts with
    unsigned m; unsigned short w, st; asm volatile("stmxcsr %0; fnstcw %1; fnstsw %2" : "=m"(m), "=m"(w), "=m"(st)); store_vectors(); int any = 0;
    for (int i = 0; i < 16 * 32; i++) any |= ((char *)seen_vectors)[i]; printf("mxcsr %x fcw %x fsw %x\n", m, w, st);
}
static int compare_vectors(void) { return memcmp(vectors, seen_vectors, sizeof vectors); }
static void c_vectors_kept(void) {
    signal(SIGUSR1, clobber); long me = getpid(); fill_vectors(3); has_avx();
    load_vectors(); raw(SYS_getpid, 0, 0, 0); store_vectors(); printf("system call %d\n", compare_vectors());
    load_vectors(); raw(SYS_sched_yield, 0, 0, 0); store_vectors(); printf("yield %d\n", compare_vectors());
    char *m = mmap(0, 40 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    load_vectors(); for (int i = 0; i < 40; i++) ((volatile char *)m)[i * 4096] = 1; store_vectors(); printf("page faults %d\n", compare_vectors());
    unsigned x = 0x5f80, y; unsigned short w = 0x77f, v; asm volatile("ldmxcsr %0; fninit; fldcw %1; fldpi; fldz" : : "m"(x), "m"(w));
    load_vectors(); raw(SYS_kill, me, SIGUSR1, 0); store_vectors(); printf("handler %d\n", compare_vectors());
    double pi, zero; asm volatile("stmxcsr %0; fnstcw %1; fstpl %2; fstpl %3" : "=m"(y), "=m"(v), "=m"(zero), "=m"(pi)); printf("mxcsr %x fcw %x st %g %.5f\n", y, v, zero, pi);
    long mm = 0x1122334455667788, seen; asm volatile("movq %1, %%mm3" : "=m"(seen) : "m"(mm)); raw(SYS_kill, me, SIGUSR1, 0); asm volatile("movq %%mm3, %0; emms" : "=m"(seen)); printf("mm3 %lx\n", seen);
    x = 0x1f80; asm volatile("ldmxcsr %0; fninit" : : "m"(x));
    signal(SIGUSR2, fresh); x = 0x7fc0; w = 0x27f; asm volatile("ldmxcsr %0; fldcw %1" : : "m"(x), "m"(w)); raw(SYS_kill, me, SIGUSR2, 0); x = 0x1f80; asm volatile("ldmxcsr %0; fninit" : : "m"(x));
}
static void c_vectors_and_fork(void) {
    fill_vectors(9); has_avx(); fflush(stdout);
    unsigned x = 0x3f80; asm volatile("ldmxcsr %0" : : "m"(x));
    load_vectors(); long p = raw(SYS_fork, 0, 0, 0); store_vectors(); unsigned y; asm volatile("stmxcsr %0" : "=m"(y));
    int differ = compare_vectors(); int st = 0;
    if (!p) { printf("child %d mxcsr %x\n", differ, y); fflush(stdout); fill_vectors(77); load_vectors(); raw(SYS_exit_group, 0, 0, 0); }
    waitpid(p, &st, 0); printf("parent %d\n", differ);
    load_vectors(); p = raw(SYS_vfork, 0, 0, 0); if (!p) { clobber(0); raw(SYS_exit_group, 0, 0, 0); } store_vectors(); printf("vfork %d\n", compare_vectors());
}
static void c_fresh_program(void) { // run by the next one; nothing of the old program's registers is left
    store_vectors(); puts("in the new program");
}
static void c_vectors_and_exec(void) {
    // The child looks before any library code has run, so it is a few bytes of its own.
    fill_vectors(5); fflush(stdout); int out[2]; pipe(out);
    // An ELF file whose entry stores the vector registers and general registers to the stack and writes them.
    unsigned char elf[4096] = {0x7f,'E','L','F',2,1,1}; *(short *)(elf + 16) = 2; *(short *)(elf + 18) = 62; *(int *)(elf + 20) = 1; *(long *)(elf + 24) = 0x400100; *(long *)(elf + 32) = 64; *(short *)(elf + 52) = 64; *(short *)(elf + 54) = 56; *(short *)(elf + 56) = 1;
    *(int *)(elf + 64) = 1; *(int *)(elf + 68) = 7; *(long *)(elf + 80) = *(long *)(elf + 88) = 0x400000; *(long *)(elf + 96) = *(long *)(elf + 104) = 4096; *(long *)(elf + 112) = 4096;
    extern char dump_start[], dump_end[]; memcpy(elf + 0x100, dump_start, dump_end - dump_start);
    int fd = open("e", O_CREAT | O_WRONLY, 0755); write(fd, elf, sizeof elf); close(fd);
    pid_t p = fork(); if (!p) { dup2(out[1], 1); char *v[] = {"e", 0}; clobber(0); load_vectors(); asm volatile("mov $0x4141, %%r8; mov %%r8, %%r9; mov %%r8, %%r12; mov %%r8, %%r13; syscall" : : "a"(SYS_execve), "D"("e"), "S"(v), "d"(v + 1) : "r8", "r9", "r12", "r13", "rcx", "r11", "memory"); _exit(1); }
    unsigned char got[1024]; memset(got, 1, sizeof got); printf("%ld\n", (long)read(out[0], got, sizeof got)); int st; waitpid(p, &st, 0); printf("%d\n", st);
    int any = 0; for (int i = 0; i < 256; i++) any |= got[i]; printf("vectors %d", any); for (int i = 0; i < 14; i++) printf(" %lx", *(long *)(got + 256 + i * 8)); printf(" mxcsr %x fcw %x flags %lx\n", *(int *)(got + 384), *(short *)(got + 392), *(long *)(got + 400) & ~0x8d5l);
    unlink("e");
}
asm("dump_start: sub $512, %rsp\n"
#define D(n) "movups %xmm" #n ", " #n "*16(%rsp)\n"
    EACH(D)
    "mov %rax, 256(%rsp); mov %rbx, 264(%rsp); mov %rcx, 272(%rsp); mov %rdx, 280(%rsp); mov %rsi, 288(%rsp); mov %rdi, 296(%rsp); mov %rbp, 304(%rsp); mov %r8, 312(%rsp); mov %r9, 320(%rsp); mov %r10, 328(%rsp); mov %r11, 336(%rsp); mov %r12, 344(%rsp); mov %r13, 352(%rsp); mov %r14, 360(%rsp);"
    "stmxcsr 384(%rsp); fnstcw 392(%rsp); pushfq; pop 400(%rsp); mov $1, %eax; mov $1, %edi; mov %rsp, %rsi; mov $408, %edx; syscall; mov $231, %eax; xor %edi, %edi; syscall; dump_end:");
static int edit; // what `edit_frame` does to the saved state
static void edit_frame(int s, siginfo_t *i, void *context) {
    ucontext_t *u = context; char *fp = (char *)u->uc_mcontext.fpregs; unsigned *sw = (unsigned *)(fp + 464); unsigned size = sw[4];
    if (edit == 0) {
        printf("flags %lx magic %x extended %d size fits %d end %x\n", (long)u->uc_flags, sw[0], sw[1] >= size, sw[1] == size + 4, *(unsigned *)(fp + size)); printf("aligned %d features %lx xmm3 %d fcw %x mxcsr %x max mask %d\n", (int)((long)fp & 63), *(long *)(sw + 2), memcmp(fp + 160 + 48, vectors[3], 16), *(short *)fp, *(unsigned *)(fp + 24), *(unsigned *)(fp + 28) != 0);
        if (has_avx()) printf("ymm3 high %d\n", memcmp(fp + 576 + 48, vectors[3] + 16, 16));
        memset(fp + 160 + 48, 0x5a, 16); *(unsigned *)(fp + 24) = 0x3f80; *(short *)fp = 0x27f; *(long *)(fp + 512) |= 3;
    }
    if (edit == 1) *(unsigned *)(fp + 24) = 0xffffffff;               // MXCSR with reserved bits
    if (edit == 2) *(long *)(fp + 512) = -1;                          // features the processor has not
    if (edit == 3) *(unsigned *)(fp + size) = 0;                      // no second magic number: the old part
    if (edit == 4) sw[0] = 0;                                         // no first one
    if (edit == 5) u->uc_mcontext.fpregs = 0;                         // no state: a fresh one
    if (edit == 6) u->uc_mcontext.fpregs = (void *)8;                 // not there
    if (edit == 7) u->uc_mcontext.fpregs = (void *)0x800000000000;
    if (edit == 8) u->uc_mcontext.fpregs = (void *)0xffff888000000000;
    if (edit == 9) *(long *)(fp + 512 + 8) = 1;                       // compacted, or reserved bytes
    if (edit == 10) *(long *)(fp + 512 + 16) = 1;
    if (edit == 11) *(long *)(fp + 512) = 0;                          // everything in its initial state
    if (edit == 12) sw[4] = 100;                                      // a length that cannot be
    if (edit == 13) sw[4] = 1 << 30;
    if (edit == 14) u->uc_mcontext.fpregs = (void *)(fp + 1);         // not aligned
    if (edit == 15) { // cut off
        char *copy = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(copy + 8192, 4096);
        memcpy(copy + 8192 - 576, fp, 576);
        u->uc_mcontext.fpregs = (void *)(copy + 8192 - 576);
    }
    if (edit == 16) *(long *)(sw + 2) = 3;                            // software words name fewer features
    if (edit == 17) *(long *)(sw + 2) = -1;
}
static void c_state_in_frames(void) {
    struct sigaction a = {.sa_sigaction = edit_frame, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &a, 0); watch(); has_avx(); long me = getpid();
    for (edit = 0; edit < 18; edit++) {
        fill_vectors(edit); printf("%d: ", edit); fflush(stdout); memset(seen_vectors, 0, sizeof seen_vectors);
        if (!sigsetjmp(back, 1)) { load_vectors(); raw(SYS_kill, me, SIGUSR1, 0); store_vectors();
            unsigned m; unsigned short w; asm volatile("stmxcsr %0; fnstcw %1" : "=m"(m), "=m"(w)); int low = 0, high = 0, zero = 1; for (int i = 0; i < 16; i++) { low += !!memcmp(vectors[i], seen_vectors[i], 16); high += !!memcmp(vectors[i] + 16, seen_vectors[i] + 16, 16); for (int j = 0; j < 16; j++) zero &= !seen_vectors[i][j]; }
            printf("mxcsr %x fcw %x changed %d %d zero %d xmm3 %x\n", m, w, low, high, zero, seen_vectors[3][0]); }
        unsigned m = 0x1f80; asm volatile("ldmxcsr %0; fninit" : : "m"(m));
    }
}
static int what; static long alter;
static void edit_context(int s, siginfo_t *i, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (what == 0) g[REG_EFL] = alter;
    if (what == 1) g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffl) | alter;
    if (what == 2) g[REG_CSGSFS] = (g[REG_CSGSFS] & 0xffffffffffffl) | alter << 48;
    if (what == 3) { expected = (char *)alter; g[REG_RIP] = alter; }
    if (what == 4) g[REG_RSP] = alter;
}
static void c_contexts(void) {
    struct sigaction a = {.sa_sigaction = edit_context, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &a, 0); watch(); long me = getpid();
    long flags[] = {0, -1 & ~(TF | AC | DF), IOPL, NT, 1 << 17, 1 << 19, ID, RF, CF | ZF, 0x100000000}; unsigned long out;
    what = 0;
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) { alter = flags[i];
        asm volatile("push %%rax; push $2; popfq; pop %%rax; syscall; pushfq; pop %0; push $2; popfq" : "=b"(out) : "a"(SYS_kill), "D"(me), "S"(SIGUSR1) : "rcx", "r11", "memory", "cc"); printf("flags %lx: %lx\n", alter, out); }
    // Code segments: the kernel's cannot be had, whatever the privilege bits.
    long cs[] = {0x33, 0x30, 0x10, 0, 0x2b, 8, 0x3b, 0xfff8}; what = 1;
    for (unsigned i = 0; i < sizeof cs / sizeof *cs; i++) { alter = cs[i]; printf("cs %lx: ", alter); if (!sigsetjmp(back, 1)) { raw(SYS_kill, me, SIGUSR1, 0); unsigned c; asm volatile("mov %%cs, %0" : "=r"(c)); printf("came back with %x\n", c); } }
    long ss[] = {0x2b, 0x28, 0x18, 0, 0x33, 0x10, 0x1b}; what = 2;
    for (unsigned i = 0; i < sizeof ss / sizeof *ss; i++) { alter = ss[i]; printf("ss %lx: ", alter); if (!sigsetjmp(back, 1)) { raw(SYS_kill, me, SIGUSR1, 0); unsigned c; asm volatile("mov %%ss, %0" : "=r"(c)); printf("came back with %x\n", c); } }
    long rip[] = {0, 8, 0x800000000000, 0x8000000000000000, 0xffff800000000000, 0xffff888000000000, -1, 0x7fffffffffffffff}; what = 3; at = after = (char *)1;
    for (unsigned i = 0; i < sizeof rip / sizeof *rip; i++) { alter = rip[i]; printf("rip %lx: ", alter); if (!sigsetjmp(back, 1)) raw(SYS_kill, me, SIGUSR1, 0); }
    what = 4; long rsp[] = {0, 8, 0x800000000000, -1};
    for (unsigned i = 0; i < sizeof rsp / sizeof *rsp; i++) { alter = rsp[i]; expected = (char *)alter; printf("rsp %lx: ", alter);
        RUN("mov %%rsp, %%r12; push %%rdi; pop %%rdi; mov $62, %%eax; mov $10, %%esi; syscall", "push %%rax", "mov %%r12, %%rsp", me); }
}
// Addresses between the sandbox's TASK_SIZE and Linux's: a program has nothing there on either, but a host
// may.
static void c_top_of_memory(void) {
    watch(); quiet = 1;
    long top[] = {0x7ffffff00000, 0x7ffffff00040, 0x7ffffff01000, 0x7ffffff02000, 0x7ffffffe0000, 0x7fffffffe000, 0x7fffffffefff, 0x7ffffffff000, 0x7fffffffffff};
    for (unsigned i = 5; i < sizeof top / sizeof *top; i++) {
        printf("%lx jump ", top[i]); RUN("", "jmp *%%rdi", "", top[i]);
        if (i > 6) { printf("%lx read ", top[i]); RUN("", "movb (%%rdi), %%al", "", top[i]); }
        if (i > 6) { printf("%lx write ", top[i]); RUN("", "movb %%al, (%%rdi)", "", top[i]); }
    }
}

#define CASES(X) X(privileged) X(control_registers) X(ports) X(interrupts) X(sandbox_int80) X(undefined) X(machine_dependent) X(segments) X(segments_kept) X(segments_over_traps) X(push_pop_segments) \
    X(far) X(iretq) X(bases) X(fsgsbase) X(cpuid) X(time_stamps) X(sysenter) X(division) X(sse_exceptions) X(x87_exceptions) X(alignment) X(not_canonical) X(kernel_half) \
    X(sandbox_vsyscall) X(pages) X(single_step) X(flags) X(syscall_registers) X(vectors_kept) X(vectors_and_fork) X(vectors_and_exec) X(state_in_frames) X(contexts) X(top_of_memory)
#include "main.h"
