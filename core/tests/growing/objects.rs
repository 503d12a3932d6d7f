//! Objects behind descriptors and keys: pipes, sockets, events, timers, System V objects, message queues.

use super::*;

/// A datagram socket that is bound to the abstract name of this number.
fn bound(w: &mut World, n: u64) -> u64 {
    let fd = w.made(41, &[1, 2, 0]);
    let len = address(w, n);
    w.made(49, &[fd, OTHER, len]);
    fd
}

/// `struct sockaddr_un` with an abstract name.
fn address(w: &mut World, n: u64) -> u64 {
    let name = format!("\x01\0\0s{n}");
    w.poke(OTHER, name.as_bytes());
    name.len() as u64
}

fn pair(w: &mut World, kind: u64) -> [u64; 2] {
    w.made(53, &[1, kind, 0, OUT]);
    [w.out(0), w.out(1)]
}

/// `struct msghdr` with a byte and one descriptor to send.
fn pass(w: &mut World, over: u64, fd: u64) {
    let (control, iov) = (OTHER, OTHER + 64);
    // struct cmsghdr: length, SOL_SOCKET and SCM_RIGHTS, the descriptor.
    w.words(control, &[20, 1 | 1 << 32, fd]);
    w.words(iov, &[BULK, 1]);
    w.words(NAME, &[0, 0, iov, 1, control, 24, 0]);
    w.made(46, &[over, NAME, 0]);
}

fn watch(w: &mut World, epoll: u64, op: u64, fd: u64) {
    w.words(DATA, &[1 | fd << 32, 0]);
    w.made(233, &[epoll, op, fd, DATA]);
}

fn ring(w: &mut World, fd: u64) {
    w.words(DATA, &[1]);
    w.made(1, &[fd, DATA, 8]);
}

/// timer_create(2) with a far expiry: its number.
fn timer(w: &mut World) -> u64 {
    w.words(DATA, &[0, 1 << 32]);
    w.made(222, &[1, DATA, OUT]);
    let timer = w.out(0);
    w.words(DATA, &[0, 0, 1000, 0]);
    w.made(223, &[timer, 0, DATA, 0]);
    timer
}

pub const GROWING: &[Growing] = &[
    Growing {
        name: "pipes",
        few: 500,
        setup: nothing,
        grow: |w, _| {
            w.made(22, &[OUT]);
            w.fds = vec![w.out(0), w.out(1)];
        },
        step: |w, _| {
            w.made(1, &[w.fds[1], BULK, 100]);
            w.made(0, &[w.fds[0], BULK, 100]);
        },
    },
    Growing {
        name: "items of an epoll instance",
        few: 1000,
        setup: |w| w.fd = w.made(291, &[0]),
        grow: |w, _| {
            let fd = w.made(290, &[0, 0]);
            watch(w, w.fd, 1, fd);
            w.fds.push(fd);
        },
        step: |w, n| {
            let fd = w.fds[n as usize];
            ring(w, fd);
            assert_eq!(w.made(232, &[w.fd, OUT, 10, 0]), 1);
            w.made(0, &[fd, DATA, 8]);
            watch(w, w.fd, 2, fd);
            watch(w, w.fd, 1, fd);
        },
    },
    Growing {
        name: "ready items of an epoll instance",
        few: 5000,
        setup: |w| w.fd = w.made(291, &[0]),
        grow: |w, _| {
            let fd = w.made(290, &[1, 0]);
            watch(w, w.fd, 1, fd);
            w.fds.push(fd);
        },
        step: |w, n| {
            let fd = w.fds[w.fds.len() / 2 + n as usize];
            watch(w, w.fd, 2, fd);
            watch(w, w.fd, 1, fd);
            assert_eq!(w.made(232, &[w.fd, OUT, 10, 0]), 10);
        },
    },
    Growing {
        name: "epoll instances that watch a file",
        few: 3000,
        setup: |w| w.fd = w.made(290, &[0, 0]),
        grow: |w, _| {
            let epoll = w.made(291, &[0]);
            watch(w, epoll, 1, w.fd);
            w.fds.push(epoll);
        },
        step: |w, n| {
            let epoll = w.fds[w.fds.len() / 2 + n as usize];
            watch(w, epoll, 2, w.fd);
            watch(w, epoll, 1, w.fd);
        },
    },
    Growing {
        name: "timers of a process",
        few: 1000,
        setup: nothing,
        grow: |w, _| w.fd = timer(w),
        step: |w, _| {
            let timer = timer(w);
            w.made(226, &[timer]);
        },
    },
    Growing {
        name: "timers behind descriptors",
        few: 1000,
        setup: nothing,
        grow: |w, _| {
            w.fd = w.made(283, &[1, 0]);
            w.words(DATA, &[0, 0, 1000, 0]);
            w.made(286, &[w.fd, 0, DATA, 0]);
        },
        step: |w, _| {
            w.words(DATA, &[0, 0, 1000, 0]);
            w.made(286, &[w.fd, 0, DATA, 0]);
        },
    },
    Growing {
        name: "queued signals",
        few: 1000,
        setup: |w| {
            w.words(DATA, &[u64::MAX]);
            w.made(14, &[0, DATA, 0, 8]);
            w.fd = w.made(39, &[]);
        },
        grow: |w, _| {
            w.words(DATA, &[40, 0xffff_ffff]);
            w.made(129, &[w.fd, 40, DATA]);
        },
        // One more of these, one of another number, and both are taken.
        step: |w, _| {
            for signal in [40, 50] {
                w.words(DATA, &[signal, 0xffff_ffff]);
                w.made(129, &[w.fd, signal, DATA]);
                w.words(DATA, &[1 << (signal - 1), 0, 0]);
                w.made(128, &[DATA, 0, DATA + 8, 8]);
            }
        },
    },
    Growing {
        name: "messages of a socket",
        few: 1000,
        setup: |w| {
            w.fds = pair(w, 2).to_vec();
            // SO_SNDBUFFORCE.
            w.words(DATA, &[1 << 28]);
            w.made(54, &[w.fds[0], 1, 32, DATA, 4]);
        },
        grow: |w, _| {
            w.made(44, &[w.fds[0], BULK, 1, 64]);
        },
        step: |w, _| {
            w.made(44, &[w.fds[0], BULK, 1, 64]);
            w.made(45, &[w.fds[1], BULK, 1, 64]);
        },
    },
    Growing {
        name: "names of sockets",
        few: 500,
        setup: nothing,
        grow: |w, n| w.fd = bound(w, n),
        step: |w, n| {
            let fd = bound(w, 1_000_000 + n);
            let len = address(w, 7);
            w.made(42, &[fd, OTHER, len]);
            w.made(3, &[fd]);
        },
    },
    Growing {
        name: "sockets that one sends to",
        few: 500,
        setup: |w| {
            w.fd = bound(w, 0);
        },
        grow: |w, _| {
            let fd = w.made(41, &[1, 2, 0]);
            let len = address(w, 0);
            w.made(42, &[fd, OTHER, len]);
        },
        step: |w, _| {
            let fd = w.made(41, &[1, 2, 0]);
            let len = address(w, 0);
            w.made(42, &[fd, OTHER, len]);
            w.made(1, &[fd, BULK, 1]);
            w.made(0, &[w.fd, BULK, 1]);
            w.made(3, &[fd]);
        },
    },
    Growing {
        name: "connections that wait",
        few: 500,
        setup: |w| {
            w.fd = w.made(41, &[1, 1, 0]);
            let len = address(w, 0);
            w.made(49, &[w.fd, OTHER, len]);
            w.made(50, &[w.fd, 4096]);
        },
        grow: |w, _| connect(w),
        step: |w, _| {
            connect(w);
            let fd = w.made(43, &[w.fd, 0, 0]);
            w.made(3, &[fd]);
        },
    },
    Growing {
        name: "files in messages",
        few: 300,
        setup: |w| {
            w.fds = pair(w, 2).to_vec();
            w.words(DATA, &[1 << 28]);
            w.made(54, &[w.fds[0], 1, 32, DATA, 4]);
            w.fd = w.made(290, &[0, 0]);
        },
        grow: |w, _| pass(w, w.fds[0], w.fd),
        step: |w, _| {
            let [a, b] = pair(w, 2);
            pass(w, a, w.fd);
            w.made(45, &[b, BULK, 1, 0]);
            w.made(3, &[a]);
            w.made(3, &[b]);
        },
    },
    Growing {
        name: "sockets in messages",
        few: 300,
        setup: |w| {
            w.fds = pair(w, 2).to_vec();
            w.words(DATA, &[1 << 28]);
            w.made(54, &[w.fds[0], 1, 32, DATA, 4]);
        },
        grow: |w, _| {
            let [a, b] = pair(w, 2);
            pass(w, w.fds[0], a);
            w.made(3, &[a]);
            w.made(3, &[b]);
        },
        step: |w, _| {
            let [a, b] = pair(w, 2);
            w.made(3, &[a]);
            w.made(3, &[b]);
        },
    },
    Growing {
        name: "semaphore sets",
        few: 500,
        setup: nothing,
        grow: |w, n| w.fd = w.made(64, &[n + 1, 1, 0o1600]),
        step: |w, n| {
            w.made(64, &[5, 1, 0o600]);
            let set = w.made(64, &[1_000_000 + n, 1, 0o1600]);
            w.words(DATA, &[1 << 16 | 0x1000 << 32]);
            w.made(65, &[set, DATA, 1]);
            w.made(66, &[set, 0, 0]);
        },
    },
    Growing {
        name: "queues and segments",
        few: 500,
        setup: nothing,
        grow: |w, n| {
            w.made(68, &[n + 1, 0o1600]);
            w.made(29, &[n + 1, 4096, 0o1600]);
        },
        step: |w, n| {
            let queue = w.made(68, &[1_000_000 + n, 0o1600]);
            w.words(DATA, &[1, 0]);
            w.made(69, &[queue, DATA, 8, 0]);
            w.made(70, &[queue, DATA, 8, 0, 0]);
            w.made(71, &[queue, 0, 0]);
            let segment = w.made(29, &[1_000_000 + n, 4096, 0o1600]);
            let at = w.made(30, &[segment, 0, 0]);
            w.made(67, &[at]);
            w.made(31, &[segment, 0, 0]);
        },
    },
    Growing {
        name: "messages of a queue",
        few: 1000,
        setup: |w| {
            w.fd = w.made(68, &[0, 0o600]);
            // msg_qbytes.
            w.made(71, &[w.fd, 2, OUT]);
            w.poke(OUT + 88, &(1u64 << 20).to_le_bytes());
            w.made(71, &[w.fd, 1, OUT]);
        },
        grow: |w, _| {
            w.words(DATA, &[1, 0]);
            w.made(69, &[w.fd, DATA, 1, 0]);
        },
        step: |w, _| {
            w.words(DATA, &[2, 0]);
            w.made(69, &[w.fd, DATA, 1, 0]);
            w.made(70, &[w.fd, DATA, 8, 0, 0]);
            w.words(DATA, &[1, 0]);
            w.made(69, &[w.fd, DATA, 1, 0]);
            w.made(70, &[w.fd, DATA, 8, 2, 0]);
        },
    },
    Growing {
        name: "POSIX message queues",
        few: 60,
        setup: nothing,
        grow: |w, n| {
            w.name(NAME, n);
            w.words(DATA, &[0, 1, 8, 0]);
            w.fd = w.made(240, &[NAME, 0o102, 0o600, DATA]);
            w.made(3, &[w.fd]);
        },
        step: |w, n| {
            w.path(&format!("q{n}"));
            w.words(DATA, &[0, 1, 8, 0]);
            let fd = w.made(240, &[NAME, 0o102, 0o600, DATA]);
            w.made(242, &[fd, BULK, 1, 0, 0]);
            w.made(3, &[fd]);
            w.made(241, &[NAME]);
        },
    },
    Growing {
        name: "asynchronous contexts",
        few: 300,
        setup: nothing,
        grow: |w, _| {
            w.words(OUT, &[0]);
            w.made(206, &[4, OUT]);
        },
        step: |w, _| {
            w.words(OUT, &[0]);
            w.made(206, &[4, OUT]);
            let context = w.out(0) | w.out(1) << 32;
            w.made(207, &[context]);
        },
    },
    Growing {
        name: "files whose owner is told (O_ASYNC)",
        few: 500,
        setup: |w| {
            w.made(22, &[OUT]);
            w.fds = vec![w.out(0), w.out(1)];
        },
        grow: |w, _| {
            w.made(22, &[OUT]);
            let fd = w.out(0);
            w.made(72, &[fd, 4, 0o20000]);
        },
        step: |w, _| {
            w.made(72, &[w.fds[0], 4, 0o20000]);
            w.made(72, &[w.fds[0], 4, 0]);
        },
    },
];

/// A socket that connects, and is closed.
fn connect(w: &mut World) {
    let fd = w.made(41, &[1, 1, 0]);
    let len = address(w, 0);
    w.made(42, &[fd, OTHER, len]);
    w.made(3, &[fd]);
}
