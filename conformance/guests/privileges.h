// What programs share that ask who may do what: identities, rows of calls, processes to do something to. A
// case lets a child take on one identity after the other, which tries a row of calls; for each call its
// number stands there with the error it got. Wants to be root with all capabilities but CAP_SYS_RESOURCE.
#include "guest.h"
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <grp.h>
#include <mqueue.h>
#include <stdint.h>
#include <stddef.h>

static int make(const char *name, const char *text) __attribute__((unused));
static void *const NOWHERE = (void *)8;
#define USER 1000
#define OTHER 1001
#define GROUP 2000

// --- identities ----------------------------------------------------------------------------------

static void die(const char *what) { printf("%s: %s\n", what, strerrorname_np(errno)); fflush(stdout); _exit(99); }

static void caps_get(uint64_t *sets) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    syscall(SYS_capget, &head, data);
    sets[0] = data[0].effective | (uint64_t)data[1].effective << 32;
    sets[1] = data[0].permitted | (uint64_t)data[1].permitted << 32;
    sets[2] = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
}
static int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{effective, permitted, inheritable}, {effective >> 32, permitted >> 32, inheritable >> 32}};
    return syscall(SYS_capset, &head, data);
}
static void without(int cap) {
    uint64_t sets[3];
    caps_get(sets);
    uint64_t rest = sets[1] & ~(1ull << cap);
    if (caps_set(rest, rest, 0)) die("capset");
}
// What both sides have.
static void begin(void) {
    without(CAP_SYS_RESOURCE);
    prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) die(path);
    close(fd);
}
static void become(uid_t r, uid_t e, uid_t s, gid_t gid) {
    gid_t none[1] = {gid};
    if (setgroups(0, none) || setresgid(gid, gid, gid) || setresuid(r, e, s)) die("become");
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
static void user_namespace(uid_t uid) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) die("unshare");
    char map[100];
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %d 1", uid);
    write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %d 1", uid);
    write_file("/proc/self/gid_map", map);
}
static void i_root(void) {}
static void i_user(void) { become(USER, USER, USER, USER); }
static void i_other(void) { become(OTHER, OTHER, OTHER, OTHER); }
static void i_member(void) {
    gid_t groups[] = {GROUP};
    if (setresgid(USER, USER, USER) || setgroups(1, groups) || setresuid(USER, USER, USER)) die("member");
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
static void i_set_id(void) { become(USER, 0, 0, USER); }
static void i_set_id_other(void) { become(USER, OTHER, OTHER, USER); }
static void i_root_as_user(void) { become(0, USER, 0, USER); }
static void i_saved_root(void) { become(USER, USER, 0, USER); }
static void i_fsuid(void) { setfsgid(USER); setfsuid(USER); prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static void i_no_new_privs(void) { i_user(); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static void i_user_root(void) { become(USER, USER, USER, USER); user_namespace(USER); prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static void i_user_unmapped(void) { become(USER, USER, USER, USER); if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) die("unshare"); prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static void i_kept(void) {
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    become(USER, USER, USER, USER);
    uint64_t sets[3];
    caps_get(sets);
    caps_set(sets[1], sets[1], 0);
}
#define LESS(name, cap) static void i_##name(void) { without(cap); }
LESS(no_chown, CAP_CHOWN) LESS(no_dac_override, CAP_DAC_OVERRIDE) LESS(no_fowner, CAP_FOWNER) LESS(no_fsetid, CAP_FSETID) LESS(no_kill, CAP_KILL)
LESS(no_setgid, CAP_SETGID) LESS(no_setuid, CAP_SETUID) LESS(no_sys_admin, CAP_SYS_ADMIN) LESS(no_sys_nice, CAP_SYS_NICE)
LESS(no_sys_ptrace, CAP_SYS_PTRACE) LESS(no_mknod, CAP_MKNOD) LESS(no_setfcap, CAP_SETFCAP) LESS(no_ipc_owner, CAP_IPC_OWNER)
LESS(no_sys_chroot, CAP_SYS_CHROOT) LESS(no_setpcap, CAP_SETPCAP) LESS(no_ipc_lock, CAP_IPC_LOCK)
static void i_no_dac(void) { without(CAP_DAC_OVERRIDE); without(CAP_DAC_READ_SEARCH); }

static const struct identity { const char *name; void (*take)(void); } identities[] = {
#define I(name) {#name, i_##name}
    // The first ones are what the longer cases are for.
    I(root), I(user), I(set_id), I(set_id_other), I(root_as_user), I(saved_root), I(no_new_privs), I(user_root), I(fsuid), I(kept), I(user_unmapped),
    I(no_sys_ptrace), I(no_setuid), I(other), I(member), I(no_chown), I(no_dac_override), I(no_dac), I(no_fowner), I(no_fsetid), I(no_kill), I(no_setgid),
    I(no_sys_admin), I(no_sys_nice), I(no_mknod), I(no_setfcap), I(no_ipc_owner), I(no_sys_chroot), I(no_setpcap), I(no_ipc_lock),
};

// --- rows ----------------------------------------------------------------------------------------

static int place;
// A call in a row: its number in the row, and its error or a value that says something.
static void put(long result) {
    if (result == -1) printf(" %d:%s", place, strerrorname_np(errno));
    else if (result) printf(" %d:%ld", place, result);
    place++;
}
#define P(call) (errno = 0, put((long)(call) == -1 ? -1 : 0))
#define V(call) (errno = 0, put((long)(call)))
// The same for calls that give a descriptor.
static void put_fd(int fd) { put(fd < 0 ? -1 : 0); if (fd >= 0) close(fd); }
#define F(call) (errno = 0, put_fd((int)(call)))

static void row(const struct identity *who, void (*calls)(void)) {
    printf("%s", who->name);
    fflush(stdout);
    int pid = fork();
    if (!pid) {
        who->take();
        place = 0;
        calls();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) printf(" signal %d", WTERMSIG(status));
    puts("");
    fflush(stdout);
}
// All identities, or the first of them; `prepare` makes what the calls change anew for each.
#define ALL (sizeof identities / sizeof *identities)
#define SHORT 13
#define FEW 6
static void some(unsigned count, void (*prepare)(void), void (*calls)(void), void (*clean)(void)) {
    for (unsigned i = 0; i < count; i++) {
        int pid = fork();
        if (!pid) {
            begin();
            if (prepare) prepare();
            row(&identities[i], calls);
            if (clean) clean();
            fflush(stdout);
            _exit(0);
        }
        waitpid(pid, 0, 0);
    }
}
static void matrix(void (*prepare)(void), void (*calls)(void), void (*clean)(void)) { some(ALL, prepare, calls, clean); }
// A file system in memory of one's own in the working directory.
static void own_tmpfs(void) {
    if (unshare(CLONE_NEWNS) || mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) die("unshare");
    mkdir("w", 0755);
    if (mount("w", "w", "tmpfs", 0, "mode=755") || chdir("w")) die("mount");
}
static void leave(void) { if (chdir("/") || umount2("w", MNT_DETACH)) {} }

// --- processes -----------------------------------------------------------------------------------

static int victims[8], victim_count;
static int ready_pipe[2];
static char secret[64] = "secret";

static void victim(void (*take)(void), int hidden) {
    int pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        setpriority(PRIO_PROCESS, 0, 3);
        take();
        prctl(PR_SET_DUMPABLE, !hidden, 0, 0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (write(ready_pipe[1], "x", 1) != 1) _exit(1);
        close(ready_pipe[0]); close(ready_pipe[1]);
        for (;;) pause();
    }
    char c;
    if (read(ready_pipe[0], &c, 1) != 1) die("victim");
    victims[victim_count++] = pid;
}
static void make_victims(void) {
    if (pipe(ready_pipe)) die("pipe");
    victim(i_root, 0); victim(i_user, 0); victim(i_other, 0); victim(i_set_id, 0); victim(i_user, 1); victim(i_kept, 0); victim(i_saved_root, 0); victim(i_user_root, 0);
    close(ready_pipe[0]); close(ready_pipe[1]);
}
static void end_victims(void) { for (int i = 0; i < victim_count; i++) { kill(victims[i], SIGKILL); waitpid(victims[i], 0, 0); } }

