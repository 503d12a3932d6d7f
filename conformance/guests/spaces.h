// What guests about namespaces and mounts share: each case runs in a child that is an ordinary user, so
// that it has the same rights everywhere.
#include <grp.h>
#include <sys/mount.h>

static void ordinary(void (*run)(void)) {
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        setgroups(0, 0);
        setresgid(1000, 1000, 1000);
        setresuid(1000, 1000, 1000);
        prctl(PR_SET_DUMPABLE, 1);
        run();
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    waitpid(p, &status, 0);
    printf("%x\n", status);
}
#define ORDINARY(name) static void o_##name(void); static void c_##name(void) { ordinary(o_##name); } static void o_##name(void)

static long put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0) return -1;
    long n = write(fd, text, strlen(text));
    int e = errno;
    close(fd);
    errno = e;
    return n;
}
static void get(const char *path) {
    int fd = open(path, O_RDONLY);
    memset(buf, 0, sizeof buf);
    if (fd < 0 || read(fd, buf, sizeof buf - 1) < 0) printf("%s: %s\n", path, strerrorname_np(errno));
    else printf("%s: %s", path, buf);
    close(fd);
}
static void own(int flags) { T(unshare(CLONE_NEWUSER | flags)); put("/proc/self/setgroups", "deny"); put("/proc/self/uid_map", "0 1000 1"); put("/proc/self/gid_map", "0 1000 1"); }

// Mount tables with what is the same everywhere.
static void mounts(const char *below) {
    FILE *f = fopen("/proc/self/mountinfo", "r");
    char line[4096], *w[40];
    int seen = 0;
    while (fgets(line, sizeof line, f)) {
        int n = 0, peers = 0;
        for (char *p = strtok(line, " \n"); p && n < 39; p = strtok(0, " \n")) w[n++] = p;
        int i = 6, dash = 6;
        while (strcmp(w[dash], "-")) dash++;
        // What the place was mounted of before is not the same everywhere.
        seen |= !strcmp(w[dash + 2], "top");
        if (!seen || strncmp(w[4], below, strlen(below))) continue;
        printf("%s %s", w[4], w[5]);
        for (; i < n && strcmp(w[i], "-"); i++) { char *c = strchr(w[i], ':'); if (c) *c = 0; printf(" %s", w[i]); }
        printf(" - %s %s\n", w[i + 1], w[i + 2]);
    }
    fclose(f);
}
static void fresh(void) { own(CLONE_NEWNS); T(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)); T(mount("top", "/tmp", "tmpfs", 0, "size=1m,mode=700")); T(chdir("/tmp")); mkdir("a", 0755); mkdir("b", 0755); mkdir("c", 0755); make("f", "text"); }
