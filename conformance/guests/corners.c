// Cases of corners where programs seldom look: descriptors that go while a call waits, positions at the end
// of what can be counted, attributes of files without a name, owners of files, events that are easily
// forgotten; see guest.h.
#include "guest.h"
#include <mqueue.h>
#include <net/if.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static void nap(int ms) { struct timespec t = {ms / 1000, ms % 1000 * 1000000}; nanosleep(&t, 0); }

static void c_waitid_of_the_wrong_kind(void) {
    pid_t c = fork(); if (!c) _exit(3);
    siginfo_t si; waitid(P_PID, c, &si, WEXITED | WNOWAIT);
    T(waitid(P_ALL, 0, &si, WSTOPPED)); T(waitid(P_PID, c, &si, WCONTINUED)); T(waitid(P_ALL, 0, &si, WSTOPPED | WNOHANG)); T(waitid(P_ALL, 0, &si, WSTOPPED | WCONTINUED));
    c = fork(); if (!c) { pause(); _exit(0); }
    T(waitid(P_ALL, 0, &si, WSTOPPED | WNOHANG)); kill(c, SIGKILL); waitid(P_PID, c, &si, WEXITED | WNOWAIT); T(waitid(P_PID, c, &si, WSTOPPED | WNOHANG));
    while (wait(0) > 0); T(waitid(P_ALL, 0, &si, WEXITED));
}

// A thread in a call on a descriptor that goes meanwhile.
struct caller { pthread_t thread; int what, fd, other; long result; int error; };
static void *in_call(void *p) {
    struct caller *c = p; char b[8]; struct iovec v = {b, 4}; struct flock l = {F_WRLCK, SEEK_SET, 0, 1}; struct sockaddr_un a; socklen_t n = sizeof a;
    switch (c->what) {
    case 0: c->result = read(c->fd, b, 4); break;
    case 1: c->result = readv(c->fd, &v, 1); break;
    case 2: c->result = recv(c->fd, b, 4, 0); break;
    case 3: c->result = splice(c->fd, 0, c->other, 0, 4, 0); break;
    case 4: c->result = accept(c->fd, (void *)&a, &n) >= 0 ? 0 : -1; break;
    case 5: c->result = fcntl(c->fd, F_SETLKW, &l); break;
    case 6: c->result = flock(c->fd, LOCK_EX); break;
    case 7: c->result = write(c->fd, buf, sizeof buf); break;
    case 8: c->result = read(c->fd, b, 8); break;
    }
    c->error = c->result < 0 ? errno : 0;
    return 0;
}
static void begin(struct caller *c, int what, int fd) { c->what = what; c->fd = fd; pthread_create(&c->thread, 0, in_call, c); nap(40); }
static void ended(struct caller *c) { pthread_join(c->thread, 0); printf("call %d: %ld %s\n", c->what, c->result, c->error ? strerrorname_np(c->error) : ""); }

static void c_closed_while_read(void) {
    struct caller c = {0}; int p[2], q[2], s[2]; pipe(q); c.other = q[1];
    for (int what = 0; what < 4; what++) {
        if (what == 2) socketpair(AF_UNIX, SOCK_STREAM, 0, s), p[0] = s[0], p[1] = s[1]; else pipe(p);
        begin(&c, what, p[0]); T(close(p[0])); T(write(p[1], "abcd", 4)); ended(&c); signal(SIGPIPE, SIG_IGN); T(write(p[1], "abcd", 4)); close(p[1]);
    }
    // Another file takes the number over.
    pipe(p); begin(&c, 0, p[0]); int f = make("f", "file"); T(dup2(f, p[0]) == p[0]); T(write(p[1], "pipe", 4)); ended(&c); T(lseek(f, 0, SEEK_CUR)); close(p[0]); close(p[1]);
    int e = eventfd(0, 0), k = dup(e); begin(&c, 8, e); close(e); T(eventfd_write(k, 1)); ended(&c);
}
static void c_closed_while_written(void) {
    struct caller c = {0}; int p[2]; pipe(p); begin(&c, 7, p[1]); T(close(p[1])); long n, all = 0; while ((n = read(p[0], malloc(70000), 70000)) > 0) all += n; printf("%ld\n", all); ended(&c);
}
static void c_closed_while_accepting(void) {
    struct caller c = {0}; int l = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un a = {AF_UNIX, "sock"}; bind(l, (void *)&a, sizeof a); listen(l, 5);
    begin(&c, 4, l); T(close(l)); int s = socket(AF_UNIX, SOCK_STREAM, 0); T(connect(s, (void *)&a, sizeof a)); ended(&c); s = socket(AF_UNIX, SOCK_STREAM, 0); T(connect(s, (void *)&a, sizeof a)); unlink("sock");
}
static void c_closed_while_locking(void) {
    struct caller c = {0}; int f = make("f", "text"); int p[2]; pipe(p);
    pid_t child = fork(); if (!child) { struct flock l = {F_WRLCK, SEEK_SET, 0, 1}; int g = open("f", O_RDWR); fcntl(g, F_SETLK, &l); write(p[1], "x", 1); nap(150); _exit(0); }
    read(p[0], buf, 1); begin(&c, 5, f); T(close(f)); ended(&c); wait(0);
    struct flock l = {F_WRLCK, SEEK_SET, 0, 1}; f = open("f", O_RDWR); pid_t other = fork(); if (!other) { fcntl(f, F_GETLK, &l); _exit(l.l_type != F_UNLCK); } int st; waitpid(other, &st, 0); printf("locked %d\n", st);
    int g = open("f", O_RDWR); flock(f, LOCK_EX); begin(&c, 6, g); close(g); T(flock(f, LOCK_UN)); ended(&c); T(flock(f, LOCK_EX | LOCK_NB));
}

static void c_recvmmsg_and_time(void) {
    int s[2]; socketpair(AF_UNIX, SOCK_DGRAM, 0, s); char b[3][16]; struct iovec v[3]; struct mmsghdr m[3]; memset(m, 0, sizeof m);
    for (int i = 0; i < 3; i++) { v[i].iov_base = b[i]; v[i].iov_len = 16; m[i].msg_hdr.msg_iov = v + i; m[i].msg_hdr.msg_iovlen = 1; }
    struct timespec t = {0, 1}; send(s[0], "a", 1, 0); T(recvmmsg(s[1], m, 2, 0, &t)); t = (struct timespec){0, 0}; send(s[0], "a", 1, 0); T(recvmmsg(s[1], m, 3, 0, &t));
    for (int i = 0; i < 3; i++) send(s[0], "a", 1, 0);
    t = (struct timespec){9, 0}; T(recvmmsg(s[1], m, 3, 0, &t)); printf("%d\n", t.tv_sec == 8);
    for (int i = 0; i < 2; i++) send(s[0], "a", 1, 0);
    t = (struct timespec){0, 1}; T(recvmmsg(s[1], m, 3, 0, &t)); T(recv(s[1], b, 16, MSG_DONTWAIT)); t = (struct timespec){0, 1000000000}; T(recvmmsg(s[1], m, 3, 0, &t)); t = (struct timespec){-1, 0}; T(recvmmsg(s[1], m, 3, 0, &t));
}

#define LAST 0x7fffffffffffffffll
static void c_positions(void) {
    int f = make("f", "0123456789"), g = make("g", ""), p[2]; pipe(p); loff_t o;
#define AT(at, call) do { o = (at); T(call); printf("%lld\n", (long long)o); } while (0)
    for (int i = 0; i < 4; i++) {
        loff_t at[] = {LAST - 1, LAST, -1, 5}; size_t n[] = {3, 1, 1, -1ul}; loff_t start = at[i];
        printf("at %llx, %zx bytes\n", (long long)start, n[i]);
        AT(start, sendfile(g, f, &o, n[i])); T(pread(f, buf, n[i], start)); ftruncate(g, 0); lseek(g, 0, SEEK_SET); lseek(f, 0, SEEK_SET);
        AT(start, copy_file_range(f, &o, g, 0, n[i], 0)); AT(start, splice(f, &o, p[1], 0, n[i], SPLICE_F_NONBLOCK)); while (fcntl(p[0], F_SETFL, O_NONBLOCK), read(p[0], buf, 100) > 0);
        ftruncate(g, 0); lseek(g, 0, SEEK_SET); lseek(f, 0, SEEK_SET);
        write(p[1], "abcd", 4); AT(start, splice(p[0], 0, g, &o, n[i], 0)); while (read(p[0], buf, 100) > 0); ftruncate(g, 0);
        T(pwrite(g, "x", n[i] == -1ul ? -1ul : 0, start)); ftruncate(g, 0);
    }
    lseek(f, 0, SEEK_SET); T(sendfile(g, f, 0, -1ul)); T(sendfile(g, f, 0, 1ul << 63)); T(read(f, buf, -1ul)); T(write(g, buf, -1ul));
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_RDWR); T(splice(null, 0, p[1], 0, 10, SPLICE_F_NONBLOCK)); T(splice(zero, 0, p[1], 0, 10, SPLICE_F_NONBLOCK)); T(read(p[0], buf, 100)); T(write(p[1], "abcd", 4)); T(splice(p[0], 0, null, 0, 10, 0)); T(sendfile(null, f, 0, 4)); T(sendfile(g, null, 0, 4)); ftruncate(g, 0);
    T(sync_file_range(null, 0, 0, 0)); T(sync_file_range(p[0], 0, 0, 0)); T(sync_file_range(f, 0, 0, 0)); T(sync_file_range(f, -1, 0, 0)); T(sync_file_range(f, 0, 0, 8)); T(sync_file_range(open(".", O_RDONLY), 0, 0, 0));
}

static void c_counters_take_eight_bytes(void) {
    int e = eventfd(0, EFD_NONBLOCK); char z[16] = {1}; T(write(e, z, 16)); T(write(e, z, 9)); T(write(e, z, 7)); T(write(e, z, 8)); T(read(e, z, 7)); T(read(e, z, 16)); T(write(e, z, 0)); T(read(e, z, 16));
}
static void c_open_direct(void) {
    mkdir("d", 0755); int f = make("d/f", "x"); (void)f; T(open("d", O_RDONLY | O_DIRECT)); T(open("d", O_PATH | O_DIRECT) > 0); T(open("/dev/null", O_RDONLY | O_DIRECT)); T(open("/proc/self/status", O_RDONLY | O_DIRECT)); mkfifo("p", 0600); T(open("p", O_RDWR | O_DIRECT));
}
static int count(char *at, long n) { int k = 0; for (long i = 0; i < n; k++) i += *(unsigned short *)(at + i + 16); return k; }
static void c_getdents_into_little(void) {
    mkdir("d", 0755); for (int i = 0; i < 20; i++) { sprintf(buf, "d/file%02d", i); close(make(buf, "")); }
    char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(m + 4096, 4096); int all = 0;
    for (int back = 20; back < 400; back += 60) {
        int d = open("d", O_RDONLY | O_DIRECTORY); long r = syscall(SYS_getdents64, d, m + 4096 - back, 4096); printf("%d %d %s\n", back, r > 0 && r < back + 8, r < 0 ? strerrorname_np(errno) : ""); if (r < 0) { while ((r = syscall(SYS_getdents64, d, m, 4096)) > 0) all += count(m, r); printf("%d names\n", all); continue; }
        all = count(m + 4096 - back, r); while ((r = syscall(SYS_getdents64, d, m, 4096)) > 0) all += count(m, r); printf("%d names\n", all); close(d);
    }
    int d = open("d", O_RDONLY | O_DIRECTORY); T(syscall(SYS_getdents64, d, m, 0x80000000u)); T(syscall(SYS_getdents64, d, m, 0xffffffffu)); T(syscall(SYS_getdents64, d, m, 8)); T(syscall(SYS_getdents64, d, 8, 4096)); T(syscall(SYS_getdents64, d, m, 4096) > 0); T(syscall(SYS_getdents64, d, m, 0x80000000u));
}

static void c_attributes_without_a_name(void) {
    int s[2], p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s); pipe(p); int fds[] = {s[0], p[0]}; struct stat st; struct statfs sf;
    for (int i = 0; i < 2; i++) {
        int fd = fds[i]; fstat(fd, &st); printf("%o %d\n", st.st_mode, (int)st.st_uid); T(fchmod(fd, 0640)); fstat(fd, &st); printf("%o\n", st.st_mode); T(fchown(fd, 12, 34)); fstat(fd, &st); printf("%o %d %d\n", st.st_mode, st.st_uid, st.st_gid); T(fchown(fd, -1, 5)); fstat(fd, &st); printf("%d %d\n", st.st_uid, st.st_gid);
        T(fstatfs(fd, &sf)); printf("%lx %ld %ld\n", (long)sf.f_type, (long)sf.f_bsize, (long)sf.f_blocks);
    }
    T(fstat(p[1], &st)); printf("%o %d\n", st.st_mode, st.st_uid);
    int anon[] = {eventfd(0, 0), epoll_create1(0), timerfd_create(CLOCK_MONOTONIC, 0), inotify_init()}; for (int i = 0; i < 4; i++) { T(fstatfs(anon[i], &sf)); printf("%lx\n", (long)sf.f_type); }
    int m = memfd_create("m", 0); T(fstatfs(m, &sf)); printf("%lx\n", (long)sf.f_type);
}

static volatile int got, band, from;
static void told(int sig, siginfo_t *si, void *c) { got = sig; band = si->si_band; from = si->si_fd; }
static void c_owners(void) {
    int s[2], p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s); pipe(p); struct f_owner_ex o = {F_OWNER_PID, 3999999}; int ids[] = {getpid(), gettid(), getpgrp()};
    T(fcntl(s[0], F_SETOWN, 3999999)); T(fcntl(s[0], F_SETOWN, -3999999)); T(fcntl(s[0], F_SETOWN, INT32_MIN)); T(fcntl(s[0], F_GETOWN)); T(fcntl(s[0], F_SETOWN_EX, &o)); o.type = 3; T(fcntl(s[0], F_SETOWN_EX, &o)); T(fcntl(s[0], F_SETOWN_EX, 8)); T(fcntl(s[0], F_GETOWN_EX, 8));
    struct f_owner_ex kinds[] = {{F_OWNER_PID, getpid()}, {F_OWNER_TID, gettid()}, {F_OWNER_PGRP, getpgrp()}, {F_OWNER_PID, 0}};
    for (int i = 0; i < 4; i++) { T(fcntl(s[0], F_SETOWN_EX, kinds + i)); struct f_owner_ex r = {9, 9}; T(fcntl(s[0], F_GETOWN_EX, &r)); printf("%d %d\n", r.type, i == 3 ? r.pid == 0 : r.pid == ids[i]); long w = fcntl(s[0], F_GETOWN); printf("%d\n", i == 3 ? w == 0 : w == (i == 2 ? -ids[i] : ids[i])); }
    T(fcntl(s[0], F_SETOWN, 0)); T(fcntl(s[0], F_GETOWN)); T(fcntl(open("/dev/null", O_RDONLY), F_SETOWN, getpid())); T(fcntl(s[0], F_SETSIG, 65)); T(fcntl(s[0], F_GETSIG));
}
static void c_signals_of_files(void) {
    struct sigaction a = {.sa_sigaction = told, .sa_flags = SA_SIGINFO}; sigaction(SIGIO, &a, 0); sigaction(SIGRTMIN + 3, &a, 0);
    int s[2], p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s); pipe(p); int ends[][2] = {{s[0], s[1]}, {p[0], p[1]}};
    for (int i = 0; i < 2; i++) {
        int in = ends[i][0], out = ends[i][1]; got = 0; T(fcntl(in, F_SETFL, O_ASYNC)); T(!!(fcntl(in, F_GETFL) & O_ASYNC)); write(out, "a", 1); printf("nobody: %d\n", got);
        T(fcntl(in, F_SETOWN, getpid())); write(out, "a", 1); printf("owner: %d\n", got == SIGIO); got = 0; T(fcntl(in, F_SETSIG, SIGRTMIN + 3)); write(out, "a", 1); printf("own signal: %d %d %d\n", got == SIGRTMIN + 3, band & POLLIN, from == in);
        got = 0; T(fcntl(in, F_SETFL, 0)); T(!!(fcntl(in, F_GETFL) & O_ASYNC)); write(out, "a", 1); printf("off: %d\n", got); int on = 1; T(ioctl(in, FIOASYNC, &on)); T(!!(fcntl(in, F_GETFL) & O_ASYNC)); write(out, "a", 1); printf("on: %d\n", got == SIGRTMIN + 3); got = 0; on = 0; T(ioctl(in, FIOASYNC, &on)); write(out, "a", 1); printf("off: %d\n", got);
    }
    got = 0; int on = 1, e = eventfd(0, 0), f = make("f", ""); T(ioctl(e, FIOASYNC, &on)); T(ioctl(f, FIOASYNC, &on)); T(fcntl(e, F_SETFL, O_ASYNC)); T(!!(fcntl(e, F_GETFL) & O_ASYNC)); T(ioctl(s[0], FIOASYNC, 8)); on = 0; T(ioctl(e, FIOASYNC, &on));
    T(fcntl(s[0], F_SETFL, O_ASYNC)); T(fcntl(s[0], F_SETSIG, 0)); T(close(s[1])); printf("hang-up: %d\n", got == SIGIO);
}

static void c_options_of_sockets(void) {
    int s[2], v, one = 1; socklen_t n = 4; socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    int l = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un a = {AF_UNIX, "sock"}; bind(l, (void *)&a, sizeof a); setsockopt(l, SOL_SOCKET, SO_PASSCRED, &one, 4); listen(l, 5);
    int c = socket(AF_UNIX, SOCK_STREAM, 0); connect(c, (void *)&a, sizeof a); int zero = 0; setsockopt(l, SOL_SOCKET, SO_PASSCRED, &zero, 4); int d = socket(AF_UNIX, SOCK_STREAM, 0); connect(d, (void *)&a, sizeof a);
    for (int i = 0; i < 2; i++) { int k = accept(l, 0, 0); v = 9; n = 4; getsockopt(k, SOL_SOCKET, SO_PASSCRED, &v, &n); printf("%d\n", v); } unlink("sock");
}
static void c_network_devices(void) {
    int s = socket(AF_UNIX, SOCK_DGRAM, 0); struct ifreq r = {0}; strcpy(r.ifr_name, "lo"); T(ioctl(s, SIOCGIFINDEX, &r)); printf("%d\n", r.ifr_ifindex); T(ioctl(s, SIOCGIFMTU, &r)); T(ioctl(s, SIOCGIFFLAGS, &r)); printf("%d\n", !!(r.ifr_flags & IFF_LOOPBACK)); T(ioctl(s, SIOCGIFHWADDR, &r)); printf("%d\n", r.ifr_hwaddr.sa_family);
    memset(&r, 0, sizeof r); r.ifr_ifindex = 1; T(ioctl(s, SIOCGIFNAME, &r)); puts(r.ifr_name); r.ifr_ifindex = 3999; T(ioctl(s, SIOCGIFNAME, &r)); strcpy(r.ifr_name, "nosuch0"); T(ioctl(s, SIOCGIFINDEX, &r)); T(ioctl(s, SIOCGIFFLAGS, &r)); T(ioctl(s, SIOCGIFINDEX, 8));
}

static void c_epoll_of_devices(void) {
    int e = epoll_create1(0); struct epoll_event ev = {EPOLLIN}; const char *names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random", "/proc/self/status", "."};
    for (int i = 0; i < 7; i++) { int f = open(names[i], O_RDONLY); printf("%s: ", names[i]); T(epoll_ctl(e, EPOLL_CTL_ADD, f, &ev)); }
}

static void events(int in) {
    nap(5); fcntl(in, F_SETFL, O_NONBLOCK); for (long n; (n = read(in, buf, 4096)) > 0;) for (long i = 0; i < n;) { struct inotify_event *e = (void *)(buf + i); printf("  %d %x %s\n", e->wd, e->mask, e->len ? e->name : ""); i += sizeof *e + e->len; }
}
static void c_watching_more(void) {
    mkdir("d", 0755); int f = make("d/f", "x"); int in = inotify_init(); T(inotify_add_watch(in, "d", IN_ALL_EVENTS)); T(inotify_add_watch(in, "d/f", IN_ALL_EVENTS));
    int d = open("d", O_RDONLY | O_DIRECTORY); events(in); syscall(SYS_getdents64, d, buf, 4096); events(in); syscall(SYS_getdents64, d, buf, 4096); events(in); close(d); events(in);
    puts("attributes"); T(setxattr("d/f", "user.a", "1", 1, 0)); events(in); T(fsetxattr(f, "user.a", "2", 1, XATTR_REPLACE)); T(fsetxattr(f, "user.b", "2", 1, XATTR_REPLACE)); events(in); T(removexattr("d/f", "user.a")); T(removexattr("d/f", "user.a")); events(in); T(setxattr("d", "user.a", "1", 1, 0)); events(in);
    puts("unlinked"); int on = inotify_init(); T(inotify_add_watch(on, "d", IN_ALL_EVENTS | IN_EXCL_UNLINK)); T(inotify_add_watch(on, "d/f", IN_ALL_EVENTS | IN_EXCL_UNLINK)); unlink("d/f"); events(in); events(on); write(f, "y", 1); puts("written"); events(in); events(on); fchmod(f, 0600); puts("chmod"); events(in); events(on); close(f); puts("closed"); events(in); events(on);
}
static void c_watching_programs(void) {
    int in = inotify_init(), p[2]; pipe(p); int self = open("/proc/self/exe", O_RDONLY), f = open("prog", O_CREAT | O_WRONLY, 0755); for (long n; (n = read(self, buf, sizeof buf)) > 0;) write(f, buf, n); close(f);
    T(inotify_add_watch(in, "prog", IN_ALL_EVENTS)); pid_t c = fork(); if (!c) { dup2(p[1], 1); execl("./prog", "prog", "list", (char *)0); _exit(9); } int st; waitpid(c, &st, 0); printf("%d\n", st); events(in); unlink("prog");
}

struct message { long kind; char text[64]; };
static void c_messages_copied(void) {
    int q = msgget(IPC_PRIVATE, 0600); struct message m = {7, "hello, queue"}; T(msgsnd(q, &m, 12, 0));
    T(msgrcv(q, &m, 4, 0, IPC_NOWAIT | 040000)); T(msgrcv(q, &m, 4, 0, IPC_NOWAIT | 040000 | MSG_NOERROR)); T(msgrcv(q, &m, 64, 0, IPC_NOWAIT | 040000)); T(msgrcv(q, &m, 64, 1, IPC_NOWAIT | 040000)); T(msgrcv(q, &m, 4, 0, IPC_NOWAIT)); T(msgrcv(q, &m, 4, 0, IPC_NOWAIT | MSG_NOERROR)); T(msgrcv(q, &m, 4, 0, IPC_NOWAIT)); msgctl(q, IPC_RMID, 0);
}

static volatile int came, last_signal, last_value, last_code; static volatile pid_t taken_by;
static void on_signal(int s, siginfo_t *i, void *u) { came++; last_signal = s; last_value = i->si_value.sival_int; last_code = i->si_code; taken_by = syscall(SYS_gettid); }
static void handle(int s, int flags) { struct sigaction a = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags}; sigaction(s, &a, 0); }
#define notify(q, e) syscall(SYS_mq_notify, q, e)
static void c_notified_of_messages(void) {
    handle(SIGUSR1, 0); mq_unlink("/corners"); struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 8}; mqd_t q = mq_open("/corners", O_CREAT | O_RDWR, 0600, &a); struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    T(notify(q, &e)); T(notify(q, &e)); T(mq_send(q, "a", 1, 0)); printf("%d %d %d %d\n", came, last_signal, last_value, last_code); T(mq_send(q, "b", 1, 0)); printf("%d\n", came); T(notify(q, &e)); T(mq_send(q, "c", 1, 0)); printf("%d\n", came); for (int i = 0; i < 3; i++) mq_receive(q, buf, 8, 0); T(mq_send(q, "d", 1, 0)); printf("%d\n", came); mq_receive(q, buf, 8, 0);
    T(notify(q, 0)); e.sigev_notify = SIGEV_NONE; T(notify(q, &e)); T(notify(q, &e)); T(mq_send(q, "e", 1, 0)); T(notify(q, &e)); T(notify(q, 0)); mq_receive(q, buf, 8, 0); e.sigev_notify = SIGEV_SIGNAL; e.sigev_signo = 0; T(notify(q, &e)); T(notify(q, 0)); e.sigev_signo = 65; T(notify(q, &e)); e.sigev_signo = -1; T(notify(q, &e)); e.sigev_signo = SIGUSR1; e.sigev_notify = 9; T(notify(q, &e)); T(notify(0, 0)); T(notify(q, 8)); e.sigev_notify = SIGEV_SIGNAL;
    puts("others"); T(notify(q, &e)); mqd_t other = mq_open("/corners", O_RDWR); mq_close(other); T(notify(q, &e)); T(notify(q, 0)); T(notify(q, &e)); fflush(stdout); pid_t c = fork(); if (!c) { T(notify(q, &e)); T(notify(q, 0)); mq_close(q); fflush(stdout); _exit(0); } waitpid(c, 0, 0); T(notify(q, &e)); T(notify(q, 0)); fflush(stdout); c = fork(); if (!c) { T(notify(q, &e)); fflush(stdout); _exit(0); } waitpid(c, 0, 0); T(notify(q, &e)); T(notify(q, 0));
    came = 0; fflush(stdout); c = fork(); if (!c) { mq_receive(q, buf, 8, 0); _exit(0); } nap(60); T(notify(q, &e)); T(mq_send(q, "f", 1, 0)); waitpid(c, 0, 0); printf("%d\n", came); T(notify(q, &e)); mq_unlink("/corners");
}
static void c_overruns(void) {
    sigset_t s, o; sigemptyset(&s); sigaddset(&s, SIGRTMIN); sigaddset(&s, SIGUSR2); sigprocmask(SIG_BLOCK, &s, &o); struct timespec z = {0, 0}; siginfo_t si;
    for (int k = 0; k < 2; k++) {
        int sig = k ? SIGUSR2 : SIGRTMIN; timer_t t; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig}; timer_create(CLOCK_MONOTONIC, &e, &t); struct itimerspec it = {{0, 10000000}, {0, 10000000}}, off = {{0, 0}, {0, 0}};
        T(timer_settime(t, 0, &it, 0)); nap(105); T(timer_getoverrun(t)); memset(&si, 0, sizeof si); T(sigwaitinfo(&s, &si) == sig); printf("%d %d\n", si.si_overrun >= 5, timer_getoverrun(t) == si.si_overrun);
        // One of the same number waits already.
        T(timer_settime(t, 0, &off, 0)); sigtimedwait(&s, &si, &z); union sigval v = {5}; T(sigqueue(getpid(), sig, v)); T(timer_settime(t, 0, &it, 0)); nap(55); for (int n = 0; n < 3 && sigtimedwait(&s, &si, &z) > 0; n++) { int timer = si.si_code == SI_TIMER; printf("timer's %d, overruns %d\n", timer, timer && si.si_overrun > 2); if (timer) timer_settime(t, 0, &off, 0); }
        // Its own waits: others of the number do not.
        T(timer_settime(t, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, 0)); nap(10); T(kill(getpid(), sig)); int n = 0; while (sigtimedwait(&s, &si, &z) > 0) n++; printf("%d\n", n);
        T(timer_settime(t, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, 0)); nap(10); T(timer_settime(t, 0, &off, 0)); T(sigtimedwait(&s, &si, &z)); T(timer_settime(t, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, 0)); nap(10); T(timer_delete(t)); T(sigtimedwait(&s, &si, &z)); T(timer_getoverrun(t));
    }
    sigprocmask(SIG_SETMASK, &o, 0);
}
static pid_t spinner; static int timer_kind;
// Starts a timer of the process while the first thread waits, and runs until the signal has come, ten
// seconds at most.
static void *spin(void *p) {
    int k = timer_kind; struct itimerval v = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}}; struct itimerspec s = {{0, 20000000}, {0, 20000000}}; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1}; timer_t id; nap(60); spinner = syscall(SYS_gettid);
    if (k < 2) setitimer(k ? ITIMER_VIRTUAL : ITIMER_PROF, &v, 0); else { timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &id); timer_settime(id, 0, &s, 0); }
    for (time_t end = time(0) + 10; !came && time(0) < end;); if (k < 2) setitimer(k ? ITIMER_VIRTUAL : ITIMER_PROF, &off, 0); else timer_delete(id);
    return p;
}
// A busy machine may keep the thread that has not got as far as waiting yet: it is tried until that has not
// happened.
static void c_time_of_who_runs(void) {
    for (timer_kind = 0; timer_kind < 3; timer_kind++) { int sig = (int[]){SIGPROF, SIGVTALRM, SIGUSR1}[timer_kind]; handle(sig, SA_RESTART); for (int i = 0; i < 20; i++) { came = 0; taken_by = 0; pthread_t t; pthread_create(&t, 0, spin, 0); pthread_join(t, 0); if (taken_by == spinner) break; } printf("%d: came %d, to the thread that runs %d\n", sig, came > 0, taken_by == spinner); }
}
#define link_open(fd, to) linkat(fd, "", AT_FDCWD, to, AT_EMPTY_PATH)
static void c_links_to_open_files(void) {
    mkdir("d", 0777); chmod("d", 0777); chdir("d"); int theirs = open("a", O_RDWR | O_CREAT, 0644), nameless = open(".", O_TMPFILE | O_RDWR, 0644); fflush(stdout);
    pid_t c = fork(); if (c) { waitpid(c, 0, 0); unlink("a"); unlink("own"); for (int i = 0; i < 20; i++) { sprintf(buf, "l%d", i); unlink(buf); } chdir(".."); rmdir("d"); return; }
    if (!getuid()) setresuid(1000, 1000, 1000); T(link_open(theirs, "l1")); T(link_open(nameless, "l2")); int own = open("own", O_RDWR | O_CREAT, 0600); T(link_open(own, "l3")); T(setfsuid(geteuid()) == (int)geteuid()); T(link_open(own, "l4")); T(setresuid(-1, -1, -1)); T(setresuid(geteuid(), geteuid(), geteuid())); T(link_open(own, "l5")); T(link_open(dup(own), "l6"));
    fflush(stdout); c = fork(); if (!c) { T(link_open(own, "l7")); fflush(stdout); _exit(0); } waitpid(c, 0, 0); T(link_open(own, "l8")); T(prctl(PR_SET_KEEPCAPS, 1)); T(link_open(own, "l9")); own = open("own", O_PATH); T(link_open(own, "l10")); T(link_open(open(".", O_PATH), "l11")); T(linkat(AT_FDCWD, "", AT_FDCWD, "l12", 0)); T(linkat(99, "", AT_FDCWD, "l12", AT_EMPTY_PATH)); T(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); T(link_open(own, "l13")); fflush(stdout); _exit(0);
}
static void c_allocated(void) {
    int f = memfd_create("x", 0); write(f, "hello", 5); for (int m = 0; m < 0x100; m = m ? m * 2 : 1) { printf("%x: ", m); T(fallocate(f, m, 0, 4096)); T(fallocate(f, m | 1, 0, 4096)); }
}
// Files without a position, and those that have neither a position nor anything to read.
static void c_without_positions(void) {
    sigset_t s; sigemptyset(&s); int fds[] = {syscall(SYS_pidfd_open, getpid(), 0), epoll_create1(0), inotify_init(), eventfd(0, 0), timerfd_create(0, 0), signalfd(-1, &s, 0), open("/proc/self/ns/mnt", O_RDONLY)};
    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++) { printf("%u\n", i); T(lseek(fds[i], 0, SEEK_SET)); T(lseek(fds[i], 5, SEEK_END)); T(lseek(fds[i], 0, 9)); T(pread(fds[i], buf, 8, 0)); T(pwrite(fds[i], buf, 8, 0)); }
}

#define CASES(X) X(without_positions) X(waitid_of_the_wrong_kind) X(closed_while_read) X(closed_while_written) X(closed_while_accepting) X(closed_while_locking) X(recvmmsg_and_time) X(positions) X(counters_take_eight_bytes) X(open_direct) X(getdents_into_little) X(attributes_without_a_name) X(owners) X(signals_of_files) X(options_of_sockets) X(network_devices) X(epoll_of_devices) X(watching_more) X(watching_programs) X(messages_copied) X(notified_of_messages) X(overruns) X(time_of_who_runs) X(links_to_open_files) X(allocated)
#include "main.h"
