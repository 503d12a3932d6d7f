//! `--strace` beside strace(1).

use super::*;

/// A program whose calls are the same everywhere, as far as both can show them.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char text[] = "a text\nof more than 32 bytes\t\001\0002, which is cut";

int main(void) {
    struct stat st;
    int fd = open("/tmp/a file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    write(fd, text, sizeof text);
    pread(fd, text, 5, 2);
    fstat(fd, &st);
    stat("/no/such", &st);
    fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    lseek(fd, -3, SEEK_END);
    ftruncate(fd, 3);
    struct iovec iov[2] = {{"one", 3}, {"two\n", 4}};
    writev(fd, iov, 2);
    close(fd);
    close(fd);
    unlink("/tmp/a file");
    int pair[2];
    pipe2(pair, O_NONBLOCK);
    struct pollfd fds[2] = {{pair[0], POLLIN, 0}, {pair[1], POLLOUT, 0}};
    poll(fds, 2, 0);
    read(pair[0], text, 10);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pair[1], &set);
    struct timeval none = {0, 5};
    select(pair[1] + 1, NULL, &set, NULL, &none);
    dup2(pair[0], 9);
    struct sigaction action = {.sa_handler = SIG_IGN, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    kill(0, 0);
    struct rlimit limit = {8192 * 1024, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &limit);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = 7}};
    epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], &event);
    epoll_wait(ep, &event, 1, 0);
    int sockets[2];
    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets);
    send(sockets[0], "message", 7, MSG_DONTWAIT);
    recv(sockets[1], text, 20, 0);
    struct sockaddr_un address = {AF_UNIX, "/no/such"};
    connect(sockets[0], (struct sockaddr *)&address, sizeof address.sun_family + 9);
    setsockopt(sockets[0], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
    ioctl(pair[0], FIONREAD, &fd);
    mkdir("/tmp/d", 0700);
    rmdir("/tmp/d");
    symlink("target", "/tmp/link");
    readlink("/tmp/link", text, 30);
    access("/tmp/link", R_OK | X_OK);
    unlinkat(AT_FDCWD, "/tmp/link", 0);
    struct timespec time = {0, 1000};
    nanosleep(&time, NULL);
    umask(027);
    getcwd(text, sizeof text);
    return 3;
}
"#;

/// Lines without numbers of processes, addresses and the C library's start.
fn comparable(text: &str) -> Vec<String> {
    let calls = text
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.trim_start());
    let from = calls.skip_while(|line| !line.contains("a file"));
    from.map(|line| {
        let mut shown = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("0x") {
            let end = after
                .find(|c: char| !c.is_ascii_hexdigit())
                .unwrap_or(after.len());
            shown += before;
            shown += if end > 6 {
                "@"
            } else {
                &rest[before.len()..before.len() + 2 + end]
            };
            rest = &after[end..];
        }
        shown += rest;
        // What is left of a timeout is never the same.
        if let Some((before, _)) = shown.split_once(", left ") {
            return before.to_owned();
        }
        // Columns differ with addresses.
        match shown.rsplit_once(" = ") {
            Some((call, result)) => format!("{} = {result}", call.trim_end()),
            None => shown,
        }
    })
    .collect()
}

#[test]
fn lines_are_those_of_strace() {
    let place = Place::new();
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("lines of strace", "strace is not installed");
    }
    place.file("root/tmp/none", 0o644, "");
    place.file("program.c", 0o644, PROGRAM);
    let built = run(&mut place.prepared(
        "cc",
        &["-O1", "-w", "-static", "program.c", "-o", "root/program"],
    ));
    if !built.status.success() {
        return skip("lines of strace", &text(&built.stderr));
    }
    let native = run(&mut place.prepared("strace", &["-f", "-o", "native", "root/program"]));
    assert_eq!(native.status.code(), Some(3), "{}", text(&native.stderr));
    let native = fs::read_to_string(place.at("native")).unwrap();
    let options = [
        "do",
        "--strace=-f -o traced",
        "--layer",
        "./root",
        "--",
        "/program",
    ];
    let own = place.run(&options);
    assert_eq!(own.status.code(), Some(3), "{}", text(&own.stderr));
    let own = fs::read_to_string(place.at("traced")).unwrap();
    assert!(
        own.lines()
            .next()
            .unwrap()
            .contains("execve(\"/program\", [\"/program\"], 0x"),
        "{own}"
    );
    let (native, own) = (comparable(&native), comparable(&own));
    assert!(own.len() > 40, "{own:#?}");
    // The size of a directory's path is another.
    for (native, own) in native
        .iter()
        .zip(&own)
        .filter(|(line, _)| !line.starts_with("getcwd"))
    {
        assert_eq!(own, native);
    }
    assert_eq!(own.len(), native.len());
}

#[test]
fn options_choose_and_count() {
    let place = Place::new();
    let said = |option: &str| {
        let output = place.run(&["do", option, "--", "sh", "-c", "cd /; exit 4"]);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let lines = said("--strace=chdir,exit_group");
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(
        lines.contains("chdir(\"/\")") && lines.contains("= ?"),
        "{lines}"
    );
    assert!(lines.ends_with("+++ exited with 4 +++\n"), "{lines}");
    let lines = said("--strace=-T -tt -q -e trace=chdir");
    let line = lines.trim_end();
    assert!(
        line.contains(':') && line.contains(" <0.0") && line.ends_with('>'),
        "{line}"
    );
    let table = said("--strace=-c");
    assert!(
        table.starts_with("% time     seconds  usecs/call     calls    errors syscall\n"),
        "{table}"
    );
    let row = table
        .lines()
        .find(|line| line.ends_with(" chdir"))
        .unwrap_or_else(|| panic!("{table}"));
    assert_eq!(row.split_whitespace().nth(3), Some("1"), "{table}");
    assert!(table.trim_end().ends_with(" total"), "{table}");
    let lines = said("--strace=-y -e chdir,exit_group -e trace=%desc");
    assert!(lines.contains("</") && !lines.contains("chdir"), "{lines}");
    place.fails(
        &["do", "--strace=-x", "--", "true"],
        125,
        &["no option -x", "-e EXPR"],
    );
    place.fails(
        &["do", "--strace=opneat", "--", "true"],
        125,
        &["opneat", "varve syscalls"],
    );
    // An argument of the program is not one of the option.
    place.ok(&["do", "--strace", "--", "true"]);
}
