// Cases of programs that are started: files that are written and run, scripts, ELF files of odd shapes; see
// guest.h.
#include "guest.h"
#include <elf.h>

static void copy(const char *from, const char *to) { int a = open(from, O_RDONLY), b = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0755); while (sendfile(b, a, 0, 1 << 20) > 0); close(a); close(b); }
static void put(const char *p, const void *t, size_t n) { unlink(p); int f = open(p, O_CREAT | O_WRONLY | O_TRUNC, 0755); if (write(f, t, n) != (ssize_t)n) perror("write"); close(f); }
static int ended(pid_t c) { int st; waitpid(c, &st, 0); return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st); }
// The exit status of a program, its signal as a negative number, or 100 and the error of execveat(2).
static int xat(int fd, const char *p, char **v, int flags) { fflush(stdout); pid_t c = fork(); if (!c) { char *e[] = {0}; syscall(SYS_execveat, fd, p, v, e, flags); _exit(100 + errno); } return ended(c); }
static int run(const char *p, char *arg) { char *v[] = {(char *)p, arg, 0}; return xat(AT_FDCWD, p, v, 0); }
static void wipe(void) { DIR *d = opendir("."); for (struct dirent *e; (e = readdir(d));) unlink(e->d_name); closedir(d); }
static void nap(int ms) { struct timespec t = {ms / 1000, ms % 1000 * 1000000}; nanosleep(&t, 0); }

// What the copies of this program do, before the cases are looked at.
__attribute__((constructor)) static void as_a_program(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "ok")) exit(7);
    // Runs until its standard input, a pipe, ends.
    if (argc > 1 && !strcmp(argv[1], "stay")) { char c; if (write(1, "", 1)) {} while (read(0, &c, 1) > 0); exit(9); }
    if (argc > 1 && (!strcmp(argv[argc - 1], "show") || strstr(argv[0], "echo"))) { for (int i = 0; i < argc; i++) printf("[%zu:%.40s]", strlen(argv[i]), argv[i]); printf("\n"); fflush(stdout); _exit(5); }
}

// A program that runs until `leave`; the file may be a script.
struct stay { pid_t pid; int in; };
static struct stay stay(const char *p) { int in[2], out[2]; char c; pipe2(in, O_CLOEXEC); pipe(out); fflush(stdout); pid_t pid = fork(); if (!pid) { dup2(in[0], 0); dup2(out[1], 1); close(in[1]); close(out[0]); char *v[] = {(char *)p, "stay", 0}; execv(p, v); _exit(1); } close(in[0]); close(out[1]); if (read(out[0], &c, 1) != 1) puts("did not start"); close(out[0]); return (struct stay){pid, in[1]}; }
static int leave(struct stay s) { close(s.in); return ended(s.pid); }

static void c_written_and_run(void) {
    copy("/proc/self/exe", "p"); T(run("./p", "ok"));
    int w = open("p", O_WRONLY); T(run("./p", "ok")); close(w); T(run("./p", "ok"));
    w = open("p", O_RDWR); char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, w, 0); close(w); T(run("./p", "ok")); munmap(m, 4096); T(run("./p", "ok"));
    w = open("p", O_RDWR); m = mmap(0, 4096, PROT_READ, MAP_PRIVATE, w, 0); close(w); T(run("./p", "ok")); munmap(m, 4096); T(run("./p", "ok"));
    w = open("p", O_WRONLY | O_CLOEXEC); T(run("./p", "ok")); int d = dup(w); close(w); T(run("./p", "ok")); close(d); w = open("p", O_PATH); T(run("./p", "ok")); close(w);
    int q[2]; pipe(q); w = open("p", O_APPEND | O_WRONLY); pid_t c = fork(); if (!c) { char b; close(q[1]); read(q[0], &b, 1); _exit(0); } close(w); T(run("./p", "ok")); close(q[1]); ended(c); T(run("./p", "ok")); wipe();
}
static void c_run_and_written(void) {
    copy("/proc/self/exe", "p"); struct stay s = stay("./p");
    T(open("p", O_WRONLY)); T(open("p", O_RDWR)); T(open("p", O_RDONLY | O_TRUNC)); T(truncate("p", 10)); T(open("p", O_RDONLY) > 0); T(access("p", W_OK)); T(open("p", O_WRONLY | O_CREAT, 0644)); T(open("p", O_CREAT | O_EXCL | O_WRONLY, 0644)); T(chmod("p", 0700)); T(link("p", "p2")); T(open("p2", O_WRONLY)); T(rename("p", "p3")); T(open("p3", O_WRONLY)); T(unlink("p3")); T(open("p2", O_WRONLY)); T(utimensat(AT_FDCWD, "p2", 0, 0)); T(leave(s)); T(open("p2", O_WRONLY) > 0);
    copy("/proc/self/exe", "z"); pid_t c = fork(); if (!c) { char *v[] = {"z", "ok", 0}; execv("./z", v); _exit(1); } siginfo_t si; waitid(P_PID, c, &si, WEXITED | WNOWAIT); T(open("z", O_WRONLY) > 0); T(ended(c));
    copy("/proc/self/exe", "f"); s = stay("./f"); struct stay t = stay("./f"); T(open("f", O_WRONLY)); T(leave(s)); T(open("f", O_WRONLY)); T(leave(t)); T(open("f", O_WRONLY) > 0); wipe();
}
static void c_scripts_written(void) {
    copy("/proc/self/exe", "q"); int s = open("s", O_CREAT | O_WRONLY, 0755); write(s, "#!./q ok\n", 9); T(run("./s", 0)); close(s); T(run("./s", 0)); int w = open("q", O_WRONLY); T(run("./s", 0)); close(w);
    put("n", "#!./q stay\n", 11); struct stay t = stay("./n"); T(open("n", O_WRONLY) > 0); T(open("q", O_WRONLY)); T(leave(t)); T(open("q", O_WRONLY) > 0); wipe();
}
static void c_nameless_programs(void) {
    char path[64]; int f = memfd_create("x", 0), a = open("/proc/self/exe", O_RDONLY), w; while (sendfile(f, a, 0, 1 << 20) > 0); sprintf(path, "/proc/self/fd/%d", f); printf("%d\n", run(path, "ok"));
    struct stay s = stay(path); T(pwrite(f, "\177", 1, 0)); printf("%d %s\n", open(path, O_RDWR), strerrorname_np(errno)); leave(s); w = open(path, O_RDWR); printf("%d\n", run(path, "ok")); close(w); printf("%d\n", run(path, "ok"));
    int t = open(".", O_TMPFILE | O_RDWR, 0755); lseek(a, 0, SEEK_SET); while (sendfile(t, a, 0, 1 << 20) > 0); sprintf(path, "/proc/self/fd/%d", t); printf("%d\n", run(path, "ok"));
}

static void script(const char *name, const char *text, size_t n) { put(name, text, n); char p[64]; sprintf(p, "./%s", name); int r = run(p, "show"); printf("%s -> %d\n", name, r); }
#define S(name, ...) do { char t_[600]; int n_ = sprintf(t_, __VA_ARGS__); script(name, t_, n_); } while (0)
static void c_scripts(void) {
    char t[1000]; copy("/proc/self/exe", "echo");
    S("plain", "#!./echo\n"); S("arg", "#!./echo  a b \t \nrest"); S("noeol", "#!./echo"); S("noeolarg", "#!./echo x"); S("blank", "#! \t ./echo\t x\n"); S("empty", "#!\n"); S("blankonly", "#!  \n"); S("onlybang", "#!"); S("onlyblank_eof", "#!  "); S("none", "hello\n"); S("emptyfile", ""); S("nul", "#!./echo%cx y\n", 0); S("nulfirst", "#!%c./echo\n", 0); S("nularg", "#!./echo a%cb\n", 0); S("cr", "#!./echo\r\n"); S("one", "#"); 
    for (int len = 250; len <= 262; len++) { memset(t, 0, sizeof t); strcpy(t, "#!./echo "); memset(t + 9, 'a', len); t[len] = '\n'; strcpy(t + len + 1, "x\n"); char n[40]; sprintf(n, "arg%d", len); script(n, t, len + 3); }
    for (int len = 250; len <= 262; len++) { memset(t, 0, sizeof t); strcpy(t, "#!"); for (int i_ = 2; i_ < len; i_++) t[i_] = (len - i_) % 2 ? '.' : '/'; if (t[2] == '/') t[2] = '.', t[3] = '.' ; strcpy(t + len - 4, "echo"); t[len + 1] = '\n'; char n[40]; sprintf(n, "path%d", len); script(n, t, len + 2); }
    for (int len = 250; len <= 258; len++) { memset(t, 0, sizeof t); strcpy(t, "#!"); for (int i_ = 2; i_ < len; i_++) t[i_] = (len - i_) % 2 ? '.' : '/'; if (t[2] == '/') t[2] = '.', t[3] = '.' ; strcpy(t + len - 4, "echo"); char n[40]; sprintf(n, "pathnoeol%d", len); script(n, t, len + 1); }
    for (int len = 250; len <= 258; len++) { memset(t, 0, sizeof t); memcpy(t, "#!", 2); memset(t + 2, ' ', len); strcpy(t + len - 5, "./echo"); t[len+1] = '\n'; char n[40]; sprintf(n, "spaces%d", len); script(n, t, len + 2); }
    memset(t, 0, sizeof t); memcpy(t, "#!", 2); memset(t + 2, ' ', 400); script("allspaces", t, 400);
    memset(t, 0, sizeof t); memcpy(t, "#!", 2); memset(t + 2, 'a', 400); script("allname", t, 400);
    memset(t, 0, sizeof t); memcpy(t, "#!", 2); memset(t + 2, 'a', 400); t[255] = ' '; script("name_then_blank_at_end", t, 400); t[255] = 'a'; t[254] = ' '; script("name_then_blank_near_end", t, 400); t[254] = 'a'; t[255] = '\n'; script("name_then_nl255", t, 400); t[255] = 0; script("name_then_nul255", t, 400);
    for (int d = 1; d <= 8; d++) { char n[20], m[20]; sprintf(n, "d%d", d); sprintf(m, d == 1 ? "echo" : "d%d", d - 1); int k = sprintf(t, "#!./%s\n", m); script(n, t, k); }
    S("self", "#!./self\n"); S("dir", "#!/tmp\n"); S("missing", "#!/nonesuch\n"); S("device", "#!/dev/null\n"); S("emptyname", "#!./\n");
    put("noexec", "#!./echo\n", 9); chmod("noexec", 0644); printf("noexec %d\n", run("./noexec", "show")); S("through_noexec", "#!./noexec\n");
    wipe();
}
static void c_programs_by_descriptor(void) {
    copy("/proc/self/exe", "echo"); put("noexec", "#!./echo\n", 9); chmod("noexec", 0644); put("d3", "#!./echo\n", 9);
    // descriptors
    put("s", "#!./echo\n", 9); int f = open("s", O_RDONLY | O_CLOEXEC), g = open("s", O_RDONLY), d = open(".", O_RDONLY | O_CLOEXEC), dd = open(".", O_RDONLY), ef = open("echo", O_RDONLY | O_CLOEXEC), pf = open("s", O_PATH | O_CLOEXEC); char *v[] = {"zero", "show", 0};
    dup2(g, 50); dup2(dd, 51); dup3(f, 52, O_CLOEXEC); dup3(d, 53, O_CLOEXEC); dup3(ef, 54, O_CLOEXEC); dup3(pf, 55, O_CLOEXEC);
    T(xat(52, "", v, AT_EMPTY_PATH)); T(xat(50, "", v, AT_EMPTY_PATH)); T(xat(53, "s", v, 0)); T(xat(51, "s", v, 0)); T(xat(53, "echo", v, 0)); T(xat(54, "", v, AT_EMPTY_PATH)); T(xat(55, "", v, AT_EMPTY_PATH)); T(xat(53, "/proc/self/cwd/s", v, 0)); T(xat(AT_FDCWD, "", v, AT_EMPTY_PATH)); T(xat(50, "", v, 0)); T(xat(53, "", v, AT_EMPTY_PATH)); T(xat(50, "x", v, 0)); T(xat(-5, "s", v, 0));  T(xat(99, "", v, AT_EMPTY_PATH)); T(xat(AT_FDCWD, "s", v, 0x2000)); 
    symlink("s", "l"); T(xat(AT_FDCWD, "l", v, AT_SYMLINK_NOFOLLOW)); T(xat(53, "l", v, AT_SYMLINK_NOFOLLOW)); T(xat(AT_FDCWD, "l", v, 0));
    put("s2", "#!./d3\n", 7); int f2 = open("s2", O_RDONLY | O_CLOEXEC); T(xat(f2, "", v, AT_EMPTY_PATH));
    int p[2]; pipe(p); T(xat(p[0], "", v, AT_EMPTY_PATH));
    wipe();
}

static unsigned char code[] = {0xb8, 60, 0, 0, 0, 0xbf, 42, 0, 0, 0, 0x0f, 0x05}; // exit(42)
struct elf { Elf64_Ehdr h; Elf64_Phdr p[8]; };
static struct elf base(int type, int n) { struct elf e; memset(&e, 0, sizeof e); memcpy(e.h.e_ident, "\177ELF\2\1\1", 7); e.h.e_type = type; e.h.e_machine = EM_X86_64; e.h.e_version = 1; e.h.e_phoff = 64; e.h.e_ehsize = 64; e.h.e_phentsize = 56; e.h.e_phnum = n; return e; }
static void sg(Elf64_Phdr *p, int t, int fl, unsigned long off, unsigned long va, unsigned long fs, unsigned long ms, unsigned long al) { p->p_type = t; p->p_flags = fl; p->p_offset = off; p->p_vaddr = p->p_paddr = va; p->p_filesz = fs; p->p_memsz = ms; p->p_align = al; }
static unsigned char img[1 << 16];
static void elf(const char *name, struct elf *e, size_t len) { memset(img, 0, sizeof img); memcpy(img, e, sizeof *e); memcpy(img + 0x800, code, sizeof code); memcpy(img + 0x1800, code, sizeof code); put("e", img, len); printf("%s -> %d\n", name, run("./e", "show")); }
#define A 0x10000000ul
static void c_elf_segments(void) {
    struct elf e;
    e = base(ET_EXEC, 1); e.h.e_entry = A + 0x800; sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); elf("ok", &e, 0x1000);
    e.h.e_type = ET_DYN; sg(e.p, PT_LOAD, 5, 0, 0, 0x1000, 0x1000, 0x1000); e.h.e_entry = 0x800; elf("dyn", &e, 0x1000);
    sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); e.h.e_entry = A + 0x800; elf("dyn at an address", &e, 0x1000);
    sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x3000); elf("dyn align 0x3000", &e, 0x1000); sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0); elf("dyn align 0", &e, 0x1000); sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 1ul << 40); elf("dyn align 2^40", &e, 0x1000); sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 1ul << 21); elf("dyn align 2M", &e, 0x1000);
    sg(e.p, PT_LOAD, 5, 0, 0x7ffffffff000, 0x1000, 0x1000, 0x1000); e.h.e_entry = 0x7ffffffff800; elf("dyn high", &e, 0x1000); 
    e = base(ET_EXEC, 1); e.h.e_entry = 0x800; sg(e.p, PT_LOAD, 5, 0, 0, 0x1000, 0x1000, 0x1000);  sg(e.p, PT_LOAD, 5, 0, 0x8000, 0x1000, 0x1000, 0x1000); e.h.e_entry = 0x8800; 
    sg(e.p, PT_LOAD, 5, 0, 0x7fffffffe000, 0x1000, 0x1000, 0x1000); e.h.e_entry = 0x7fffffffe800;  sg(e.p, PT_LOAD, 5, 0, 0x7ffffffff000, 0x1000, 0x1000, 0x1000); elf("exec over the top", &e, 0x1000); sg(e.p, PT_LOAD, 5, 0, ~0xffful, 0x1000, 0x1000, 0x1000); elf("exec wraps", &e, 0x1000); sg(e.p, PT_LOAD, 5, 0, 1ul << 60, 0x1000, 0x1000, 0x1000); elf("exec not canonical", &e, 0x1000);
  #define TWO(name, ...) do { e = base(ET_EXEC, 2); e.h.e_entry = A + 0x800; sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); sg(e.p + 1, __VA_ARGS__); elf(name, &e, 0x2000); } while (0)
    TWO("anonymous", PT_LOAD, 6, 0, A + 0x10000, 0, 0x1000, 0x1000); TWO("anonymous odd offset", PT_LOAD, 6, 0x123, A + 0x10000, 0, 0x1000, 0x1000); TWO("anonymous odd address", PT_LOAD, 6, 0, A + 0x10234, 0, 0x1000, 0x1000); TWO("anonymous beyond the file", PT_LOAD, 6, 0x100000, A + 0x10000, 0, 0x1000, 0x1000); TWO("anonymous ro", PT_LOAD, 4, 0x123, A + 0x10000, 0, 0x1000, 0x1000); TWO("anonymous none", PT_LOAD, 0, 0x123, A + 0x10000, 0, 0x1000, 0x1000); TWO("empty", PT_LOAD, 6, 0x123, A + 0x10000, 0, 0, 0x1000); TWO("empty over the top", PT_LOAD, 6, 0x123, 1ul << 50, 0, 0, 0x1000); TWO("empty at 0", PT_LOAD, 6, 0, 0, 0, 0, 0x1000);
    TWO("odd offset with contents", PT_LOAD, 6, 0x123, A + 0x10000, 0x10, 0x1000, 0x1000); TWO("same odd offset", PT_LOAD, 6, 0x123, A + 0x10123, 0x10, 0x1000, 0x1000); TWO("filesz over memsz", PT_LOAD, 6, 0, A + 0x10000, 0x1000, 0x10, 0x1000); TWO("contents beyond the file", PT_LOAD, 6, 0x5000, A + 0x10000, 0x1000, 0x1000, 0x1000); TWO("contents beyond the file, bss", PT_LOAD, 6, 0x5000, A + 0x10000, 0x800, 0x1000, 0x1000); TWO("ro bss", PT_LOAD, 4, 0, A + 0x10000, 0x800, 0x1000, 0x1000); TWO("ro bss more pages", PT_LOAD, 4, 0, A + 0x10000, 0x800, 0x3000, 0x1000); TWO("rx bss", PT_LOAD, 5, 0, A + 0x10000, 0x800, 0x3000, 0x1000);
    TWO("overlaps", PT_LOAD, 5, 0x1000, A, 0x1000, 0x1000, 0x1000); TWO("overlaps lower", PT_LOAD, 5, 0x1000, A - 0x1000, 0x1000, 0x2000, 0x1000); TWO("below", PT_LOAD, 6, 0x1000, A - 0x10000, 0x1000, 0x1000, 0x1000);  TWO("over the top", PT_LOAD, 6, 0x1000, 0x7ffffffff000, 0x1000, 0x1000, 0x1000);  TWO("huge memory 2^63", PT_LOAD, 6, 0x1000, A + 0x10000, 0x1000, 1ul << 63, 0x1000); TWO("huge file", PT_LOAD, 6, 0x1000, A + 0x10000, 0x100000000, 0x100000000, 0x1000); TWO("offset 2^63", PT_LOAD, 6, 1ul << 63, A + 0x10000, 0x1000, 0x1000, 0x1000); TWO("offset -4096", PT_LOAD, 6, -4096ul, A + 0x10000, 0x1000, 0x1000, 0x1000); TWO("offset 2^62", PT_LOAD, 6, 1ul << 62, A + 0x10000, 0x1000, 0x1000, 0x1000);
    TWO("bss in the page of the text", PT_LOAD, 6, 0x800, A + 0x1800 - 0x1000, 0, 0x100, 0x1000);
    TWO("gnu_stack x", PT_GNU_STACK, 7, 0, 0, 0, 0, 0x10); TWO("phdr odd", PT_PHDR, 4, 0x40, 0xdeadbeef000, 56, 56, 8); TWO("tls", PT_TLS, 4, 0, 0xdeadbeef000, 1ul << 60, 1ul << 61, 8); TWO("note", PT_NOTE, 4, 1ul << 60, 0, 1ul << 40, 0, 8); TWO("property", 0x6474e553, 4, 0x400, 0, 0x20, 0, 8); TWO("property huge", 0x6474e553, 4, 0x400, 0, 0x20000, 0, 8); TWO("dynamic", PT_DYNAMIC, 4, 1ul << 62, 0, 1ul << 60, 0, 8);
    wipe();
}
static void c_elf_interpreters(void) {
    struct elf e; copy("/proc/self/exe", "echo"); put("noexec", "#!./echo\n", 9); chmod("noexec", 0644); put("s", "#!./echo\n", 9);
    // interpreters
  #define INTERP(name, text, len, fsz) do { e = base(ET_EXEC, 2); e.h.e_entry = A + 0x800; sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); sg(e.p + 1, PT_INTERP, 4, 0x600, 0, fsz, fsz, 1); memset(img, 0, sizeof img); memcpy(img, &e, sizeof e); memcpy(img + 0x800, code, sizeof code); memcpy(img + 0x600, text, len); put("e", img, 0x1000); printf("interp %s -> %d\n", name, run("./e", "show")); } while (0)
    INTERP("empty size", "", 1, 0); INTERP("one nul", "", 1, 1); INTERP("two nuls", "\0\0", 2, 2); INTERP("without nul", "./echo", 6, 6); INTERP("nul inside", "./echo\0x", 8, 9); INTERP("missing", "/nonesuch", 10, 10); INTERP("too long", "/x", 3, 4097); INTERP("4096", "/x", 3, 4096 - 0x100); INTERP("directory", "/tmp", 5, 5); INTERP("script", "./s", 4, 4); INTERP("not executable", "./noexec", 9, 9); INTERP("null", "/dev/null", 10, 10); INTERP("static exec", "./echo", 7, 7); INTERP("beyond", "", 1, 0x1000);
    put("short", "\177ELF", 4); INTERP("short", "./short", 8, 8); put("text", "hello, this is a text that is quite longer than an ELF header of sixty-four bytes, so it is", 80); INTERP("text", "./text", 7, 7);
    e = base(ET_DYN, 1); e.h.e_entry = 0x800; sg(e.p, PT_LOAD, 5, 0, 0, 0x1000, 0x1000, 0x1000); memset(img, 0, sizeof img); memcpy(img, &e, sizeof e); code[6] = 43; memcpy(img + 0x800, code, sizeof code); code[6] = 42; put("ld", img, 0x1000); INTERP("dyn", "./ld", 5, 5);
    e.h.e_type = ET_EXEC; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("exec at 0", "./ld2", 6, 6); e.h.e_type = ET_REL; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("rel", "./ld2", 6, 6); e.h.e_type = ET_DYN; e.h.e_machine = EM_386; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("386", "./ld2", 6, 6); e.h.e_machine = EM_X86_64; e.h.e_phnum = 0; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("no headers", "./ld2", 6, 6); e.h.e_phnum = 1; e.p[0].p_type = PT_NOTE; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("no load", "./ld2", 6, 6); e.p[0].p_type = PT_LOAD; e.p[0].p_vaddr = 0x7ffffffff000; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("high", "./ld2", 6, 6); e.p[0].p_vaddr = 0x0; e.p[0].p_filesz = 0x2000; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("filesz>memsz", "./ld2", 6, 6); e.p[0].p_filesz = 0x1000; e.h.e_phoff = 0x10000; memcpy(img, &e, sizeof e); put("ld2", img, 0x1000); INTERP("headers beyond", "./ld2", 6, 6);
    // two interpreters
    e = base(ET_EXEC, 3); e.h.e_entry = A + 0x800; sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); sg(e.p + 1, PT_INTERP, 4, 0x600, 0, 5, 5, 1); sg(e.p + 2, PT_INTERP, 4, 0x700, 0, 0, 0, 1); memset(img, 0, sizeof img); memcpy(img, &e, sizeof e); memcpy(img + 0x800, code, sizeof code); memcpy(img + 0x600, "./ld", 5); put("e", img, 0x1000); printf("two interps -> %d\n", run("./e", "show"));
    wipe();
}
static void c_elf_headers(void) {
    struct elf e;
    // header
  #define H(name, stmt) do { e = base(ET_EXEC, 1); e.h.e_entry = A + 0x800; sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); stmt; elf(name, &e, 0x1000); } while (0)
    H("phnum 0", e.h.e_phnum = 0); H("phnum ffff", e.h.e_phnum = 0xffff); H("phnum 1170", e.h.e_phnum = 1170); H("phnum 1171", e.h.e_phnum = 1171); H("phnum 60", e.h.e_phnum = 60); H("phnum 100 past the end", e.h.e_phnum = 100); H("phentsize 64", e.h.e_phentsize = 64); H("phoff beyond", e.h.e_phoff = 0x10000); H("phoff 2^63", e.h.e_phoff = 1ul << 63); H("phoff 0", e.h.e_phoff = 0); H("phoff odd", e.h.e_phoff = 65); H("class 1", e.h.e_ident[4] = 1); H("data 2", e.h.e_ident[5] = 2); H("class 0", e.h.e_ident[4] = 0); H("version 9", e.h.e_version = 9); H("machine 3", e.h.e_machine = 3); H("type rel", e.h.e_type = ET_REL); H("type core", e.h.e_type = ET_CORE); H("entry 0", e.h.e_entry = 0); H("entry high", e.h.e_entry = 1ul << 48); H("entry kernel", e.h.e_entry = -4096ul); H("no load", e.p[0].p_type = PT_NOTE); H("writeonly", e.p[0].p_flags = 2); H("exec only", e.p[0].p_flags = 1); H("none", e.p[0].p_flags = 0);  H("odd vaddr", e.p[0].p_vaddr = A + 0x10); H("huge align", e.p[0].p_align = 1ul << 62);
    e = base(ET_EXEC, 1); e.h.e_entry = A + 0x800; sg(e.p, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); elf("file of 63 bytes", &e, 63); elf("file of 64 bytes", &e, 64); elf("file of 100 bytes", &e, 100); elf("file of 0x700 bytes", &e, 0x700); elf("file of 0x80c bytes", &e, 0x80c);
    e = base(ET_EXEC, 1); e.h.e_entry = A + 0x1800; sg(e.p, PT_LOAD, 5, 0x1000, A + 0x1000, 0x1000, 0x1000, 0x1000); elf("page beyond the end", &e, 0x1000);
    // order: descending segments of a dyn
    e = base(ET_DYN, 2); e.h.e_entry = 0x800; sg(e.p, PT_LOAD, 5, 0x1000, 0x10000, 0x1000, 0x1000, 0x1000); sg(e.p + 1, PT_LOAD, 5, 0, 0, 0x1000, 0x1000, 0x1000); elf("dyn descending", &e, 0x2000);
    e = base(ET_EXEC, 2); e.h.e_entry = A + 0x800; sg(e.p, PT_LOAD, 5, 0x1000, A + 0x10000, 0x1000, 0x1000, 0x1000); sg(e.p + 1, PT_LOAD, 5, 0, A, 0x1000, 0x1000, 0x1000); elf("exec descending", &e, 0x2000);
    wipe();
}

#define CASES(X) X(written_and_run) X(run_and_written) X(scripts_written) X(nameless_programs) X(scripts) X(programs_by_descriptor) X(elf_segments) X(elf_interpreters) X(elf_headers)

#include "main.h"
