// Options of file systems of the kernel's own, and what proc hides from whom.
#include "privileges.h"

static void mounted(const char *type) {
    FILE *f = fopen("/proc/self/mountinfo", "r");
    char line[2000], *rest = 0;
    while (f && fgets(line, sizeof line, f)) if (strstr(line, "/mnt-here ")) rest = strstr(line, " - ") ? strdup(strstr(line, " - ")) : 0;
    if (f) fclose(f);
    printf("  %s%s", type, rest ? rest : " nowhere\n");
}
static void c_mount_options(void) {
    begin();
    if (unshare(CLONE_NEWNS) || mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) die("unshare");
    mkdir("mnt-here", 0755);
    static const char *types[] = {"proc", "sysfs", "cgroup2"};
    static const char *options[] = {"", "foo", "foo=bar", "=x", ",", ",,", "source=x", "ro", "rw", "hidepid=0", "hidepid=1", "hidepid=2", "hidepid=3", "hidepid=4", "hidepid=5", "hidepid=off", "hidepid=noaccess", "hidepid=invisible",
        "hidepid=ptraceable", "hidepid=Off", "hidepid=", "hidepid", "hidepid=-1", "hidepid=+1", "hidepid=99999999999", "hidepid=0x2", "hidepid=02", "hidepid= 1", "hidepid=1 ", "gid=5", "gid=0", "gid=-1", "gid=+5", "gid=4294967295", "gid=4294967296", "gid=x", "gid=",
        "gid", "gid=0x10", "gid=010", "gid=08", "subset=pid", "subset=pid:pid", "subset=foo", "subset=", "subset", "subset=:", "subset=pid:", "subset=pid,gid=7,hidepid=2", "hidepid=2,hidepid=1", "gid=1,gid=2", "hidepid=2,foo", "nsdelegate,foo", "nsdelegate=1", "nosuid", "silent", "hidepid=1,ro",
        "nsdelegate", "memory_recursiveprot,nsdelegate", "uid=0", "mode=0755", "size=1"};
    for (int t = 0; t < 3; t++)
        for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
            // Options of cgroup2 belong to its only hierarchy, which is the machine's.
            if (t == 2 && (strstr(options[i], "nsdelegate") || strstr(options[i], "ro"))) continue;
            errno = 0;
            int result = mount("source", "mnt-here", types[t], 0, options[i]);
            printf("%s %s %s\n", types[t], options[i], result ? strerrorname_np(errno) : "");
            if (result) continue;
            if (t != 2) mounted(types[t]);
            static const char *again[] = {"foo", "hidepid=2,gid=9", "hidepid=1", "hidepid=0", "gid=0", "subset=pid", "gid=3,hidepid=3"};
            for (unsigned j = 0; j < (i == 0 ? sizeof again / sizeof *again : 2); j++) {
                errno = 0;
                result = mount("source", "mnt-here", 0, MS_REMOUNT, again[j]);
                printf("  again %s %s\n", again[j], result ? strerrorname_np(errno) : "");
                if (t != 2) mounted(types[t]);
            }
            umount("mnt-here");
        }
    rmdir("mnt-here");
}

static const char *hide;
static void make_hidden(void) {
    make_victims();
    own_tmpfs();
    mkdir("p", 0755);
    if (mount("p", "p", "proc", 0, hide)) die("mount");
}
static void calls_hidden(void) {
    struct stat s;
    for (int i = 0; i < victim_count; i++) {
        char path[100];
        static const char *names[] = {"", "/stat", "/status", "/cmdline", "/environ", "/task", "/task/%d", "/task/%d/stat", "/fd", "/ns/user", "/cwd", "/net", "/attr"};
        for (unsigned j = 0; j < sizeof names / sizeof *names; j++) {
            char name[60];
            snprintf(name, sizeof name, names[j], victims[i]);
            snprintf(path, sizeof path, "p/%d%s", victims[i], name);
            P(stat(path, &s)); F(open(path, O_RDONLY)); P(access(path, R_OK)); P(readlink(path, buf, 100));
        }
        // Listed?
        DIR *dir = opendir("p");
        int found = 0;
        for (struct dirent *entry; dir && (entry = readdir(dir));) found |= atoi(entry->d_name) == victims[i];
        if (dir) closedir(dir);
        V(found);
    }
    P(stat("p/self", &s)); P(stat("p/self/stat", &s)); P(stat("p/thread-self", &s)); P(stat("p/version", &s)); F(open("p/version", O_RDONLY)); P(stat("p/sys", &s)); P(stat("p/sys/kernel", &s)); P(stat("p/nonsense", &s)); P(stat("p/mounts", &s)); P(stat("p/uptime", &s)); P(stat("p/net", &s));
    P(mkdir("p/x", 0755)); F(open("p/x", O_CREAT | O_RDWR, 0644));
    char text[100];
    snprintf(text, sizeof text, "p/%d/task/%d", getpid(), getpid());
    P(stat(text, &s));
    // What is there beside processes.
    DIR *dir = opendir("p");
    int version = 0, self = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));) { version |= !strcmp(entry->d_name, "version"); self |= !strcmp(entry->d_name, "self"); }
    V(version); V(self);
}
static void after_hidden(void) { leave(); end_victims(); }
#define HIDDEN(name, text) static void c_hidden_##name(void) { hide = text; some(11, make_hidden, calls_hidden, after_hidden); }
HIDDEN(none, "") HIDDEN(noaccess, "hidepid=1") HIDDEN(invisible, "hidepid=2") HIDDEN(ptraceable, "hidepid=4,gid=1000") HIDDEN(group, "hidepid=2,gid=2000")
HIDDEN(group_access, "hidepid=1,gid=1000") HIDDEN(subset, "subset=pid,hidepid=2")

#define CASES(X) X(mount_options) X(hidden_none) X(hidden_noaccess) X(hidden_invisible) X(hidden_ptraceable) X(hidden_group) X(hidden_group_access) X(hidden_subset)
#include "main.h"
