// More areas of memory than a host may give a process: many small mappings, and what other threads see of
// pages that go.
#include "guest.h"
#include <pthread.h>

#define PAGE 4096l
#define RW (PROT_READ | PROT_WRITE)

static char *map(long pages, int flags, int fd) {
    char *p = mmap(0, pages * PAGE, RW, flags | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) { perror("mmap"); exit(1); }
    return p;
}
static void wait_for(pid_t child) {
    int status = 0;
    fflush(stdout);
    waitpid(child, &status, 0);
    printf("status %x\n", status);
}

// A file in memory that is written from its end, and one that is written here and there, mapped whole.
static void c_written_backwards(void) {
    enum { PAGES = 1000 };
    for (int step = 1; step < 3; step++) {
        int fd = memfd_create("f", 0);
        ftruncate(fd, PAGES * PAGE);
        for (long i = PAGES - 1; i >= 0; i -= step) pwrite(fd, &i, sizeof i, i * PAGE);
        char *p = map(PAGES, MAP_SHARED, fd);
        long wrong = 0;
        for (long i = 0; i < PAGES; i++) {
            long put = i % step == (PAGES - 1) % step ? i : 0;
            wrong += *(long *)(p + i * PAGE) != put;
        }
        printf("wrong %ld\n", wrong);
    }
}

// A thread reads pages while another unmaps the middle of three again and again, and fills the host's areas
// meanwhile: the reader sees what was there or nothing, never what another process has put into the page.
#define MINE 0x4d4d4d4d4d4d4d4dul
#define THEIRS 0x7365637265742121ul
enum { TRIPLES = 600, FILL = 67000 };
static volatile char *watched;
static volatile unsigned long *seen;
static __thread sigjmp_buf out;
static void caught(int s) { (void)s; siglongjmp(out, 1); }
static void *reader(void *arg) {
    while (!seen[5]) usleep(10000);
    for (volatile long i = 0;; i = (i + 1) % TRIPLES) {
        volatile unsigned long *at = (void *)(watched + (3 * i + 1) * PAGE);
        if (sigsetjmp(out, 1)) { seen[1]++; continue; }
        unsigned long word = *at;
        if (word != MINE) seen[word == THEIRS ? 2 : 3]++;
        seen[0]++;
    }
    return arg;
}
static void c_readers_of_unmapped_pages(void) {
    seen = mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *p = map(FILL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    memset(p, 1, FILL * PAGE);
    fflush(stdout);
    pid_t victim = fork();
    if (!victim) {
        // Fresh pages with secrets, for ever.
        for (;; usleep(seen[5] ? 1000 : 10000)) {
            if (!seen[5]) continue;
            char *q = map(64, MAP_PRIVATE | MAP_ANONYMOUS, -1);
            for (int i = 0; i < 64; i++) {
                unsigned long *word = (void *)(q + i * PAGE);
                if (*word) seen[4]++;
                *word = THEIRS;
            }
            munmap(q, 64 * PAGE);
        }
    }
    pid_t child = fork();
    if (!child) {
        pthread_t thread;
        watched = map(3 * TRIPLES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        for (long i = 0; i < 3 * TRIPLES * PAGE / 8; i++) ((unsigned long *)watched)[i] = MINE;
        signal(SIGSEGV, caught);
        pthread_create(&thread, 0, reader, 0);
        for (long i = 0; i < FILL; i += 2) {
            p[i * PAGE] = 2;
            // Where the host's room comes to its end.
            seen[5] = i > 63000;
            while (seen[5] && !seen[0]) usleep(1000);
            if (seen[5] && i % 8 == 0) munmap((char *)watched + (3 * (i / 8 % TRIPLES) + 1) * PAGE, PAGE);
        }
        // Every page has been an area of its own on the host, more than it has.
        long wrong = 0;
        for (long i = 0; i < FILL; i += 97) wrong += p[i * PAGE] != 2 - (i & 1);
        _exit(wrong != 0);
    }
    wait_for(child);
    kill(victim, SIGKILL);
    wait_for(victim);
    printf("read %d, foreign %lu, zeros %lu, dirty %lu\n", seen[0] > 0, seen[2], seen[3], seen[4]);
}

#define CASES(X) X(written_backwards) X(readers_of_unmapped_pages)

#include "main.h"
