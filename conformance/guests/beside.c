// What one process does that takes long, and how long others wait meanwhile: `beside NAME` does it and
// prints the longest getppid(2) of a process beside it, in milliseconds, and what the whole took.
#include "guest.h"
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>

static struct { volatile int over, going; volatile long longest; } *shared;

static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }

static void meter(void) {
    while (!shared->over) {
        long before = now(); syscall(SYS_getppid); long took = now() - before;
        if (took > shared->longest) shared->longest = took;
        shared->going = 1;
    }
    _exit(0);
}

#define MUST(x) do { if ((long)(x) < 0) { printf("%s: %s\n", #x, strerror(errno)); fflush(stdout); shared->over = 1; _exit(1); } } while (0)
#define PAGE 4096L

static void many_files(rlim_t n) { struct rlimit l = {n, n}; MUST(setrlimit(RLIMIT_NOFILE, &l)); }
static void in_child(void (*run)(void)) { pid_t c = fork(); MUST(c); if (!c) { run(); _exit(0); } waitpid(c, 0, 0); }
static char *many_areas(long n) {
    char *at = mmap(0, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (long i = 0; i < n; i += 2) MUST(mprotect(at + i * PAGE, PAGE, PROT_READ));
    return at;
}
static char *many_pages(size_t len) {
    char *at = mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    MUST(at); return at;
}

static void own_mounts(void) { MUST(unshare(CLONE_NEWNS)); }
static void o_mounts(void) {
    mkdir("/tmp/m", 0755); MUST(mount("t", "/tmp/m", "tmpfs", 0, 0)); mkdir("/tmp/m/d", 0755);
    MUST(mount("/tmp/m/d", "/tmp/m/d", 0, MS_BIND, 0)); MUST(mount(0, "/tmp/m/d", 0, MS_SHARED, 0));
    for (int i = 0; i < 14; i++) MUST(mount("/tmp/m/d", "/tmp/m/d", 0, MS_BIND, 0));
    in_child(own_mounts);
    mkdir("/tmp/n", 0755); MUST(mount("/tmp/m", "/tmp/n", 0, MS_BIND | MS_REC, 0)); MUST(umount2("/tmp/n", MNT_DETACH));
    MUST(umount2("/tmp/m", MNT_DETACH));
}
static void o_inodes(void) {
    char name[64]; mkdir("/tmp/i", 0755); MUST(mount("t", "/tmp/i", "tmpfs", 0, 0));
    for (int i = 0; i < 8000; i++) { sprintf(name, "/tmp/i/%d", i); MUST(mknod(name, S_IFREG | 0644, 0)); }
    MUST(umount2("/tmp/i", 0));
}
static void o_areas(void) {
    long n = 20000; char *at = many_areas(n);
    in_child(own_mounts); MUST(mprotect(at, n * PAGE, PROT_NONE)); at = mmap(at, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (long i = 0; i < n; i += 2) MUST(mprotect(at + i * PAGE, PAGE, PROT_READ));
    MUST(madvise(at, n * PAGE, MADV_DONTNEED)); MUST(madvise(at, n * PAGE, MADV_DONTDUMP)); MUST(munmap(at, n * PAGE));
}
static void o_pages(void) {
    size_t len = 256 << 20; char *at = many_pages(len);
    in_child(own_mounts); MUST(mprotect(at, len, PROT_READ)); MUST(mprotect(at, len, PROT_READ | PROT_WRITE)); MUST(madvise(at, len / 2, MADV_DONTNEED)); MUST(munmap(at, len));
}
static void o_file(void) {
    size_t len = 256 << 20; int m = memfd_create("m", 0); MUST(fallocate(m, 0, 0, len)); MUST(ftruncate(m, PAGE)); MUST(fallocate(m, 0, 0, len)); MUST(close(m));
}
static void o_descriptors(void) {
    int n = 40000, e = eventfd(0, 0); many_files(n + 100);
    for (int i = 0; i < n; i++) MUST(dup(e));
    in_child(own_mounts); MUST(syscall(SYS_close_range, 10, ~0u, 4)); MUST(syscall(SYS_close_range, 10, ~0u, 0));
}
static void o_poll(void) {
    long n = 1000000; many_files(1 << 20); int e = eventfd(0, 0); struct pollfd *p = malloc(n * sizeof *p);
    for (long i = 0; i < n; i++) p[i] = (struct pollfd){e, POLLIN, 0};
    for (int i = 0; i < 5; i++) MUST(poll(p, n, 1));
}
static void o_maps(void) {
    many_areas(12000); char buf[4096]; int fd = open("/proc/self/smaps", O_RDONLY); while (read(fd, buf, sizeof buf) > 0) {} close(fd);
}
static void o_links(void) {
    static char dots[4000], path[64], to[64]; for (int i = 0; i < 1980; i++) memcpy(dots + 2 * i, "./", 2);
    for (int i = 0; i < 40; i++) { sprintf(path, "/tmp/l%d", i); sprintf(to, "%s", i < 39 ? "l" : "."); if (i < 39) sprintf(to, "l%d", i + 1); strcpy(dots + 3960, to); MUST(symlink(dots, path)); }
    struct stat s; for (int i = 0; i < 5; i++) MUST(stat("/tmp/l0", &s));
}

int main(int argc, char **argv) {
    struct { const char *name; void (*run)(void); } all[] = {
#define X(name) {#name, o_##name}
        X(mounts), X(inodes), X(areas), X(pages), X(file), X(descriptors), X(poll), X(maps), X(links),
    };
    shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        if (argc > 1 && strcmp(argv[1], all[i].name)) continue;
        shared->over = shared->going = 0; shared->longest = 0;
        pid_t c = fork();
        if (!c) meter();
        while (!shared->going) sched_yield();
        long before = now();
        pid_t d = fork(); int status = 0;
        if (!d) { all[i].run(); fflush(stdout); _exit(0); }
        waitpid(d, &status, 0);
        shared->over = 1; waitpid(c, 0, 0);
        printf("%s %ld %ld %d\n", all[i].name, shared->longest / 1000000, (now() - before) / 1000000, status); fflush(stdout);
    }
    return 0;
}
