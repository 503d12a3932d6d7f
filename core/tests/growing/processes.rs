//! Processes, threads, namespaces, futexes.

use super::*;

const THREAD: u64 = 0x003d_0f00 & !0x80000;
const NEWUTS: u64 = 0x400_0000;
const NEWUSER: u64 = 0x1000_0000;
const NEWPID: u64 = 0x2000_0000;

fn process(w: &mut World, _: u64) {
    let (_, child) = w.fork();
    w.others.push(child);
}

/// One that leads its process group.
fn leader(w: &mut World, _: u64) {
    let (pid, _) = w.fork();
    w.made(109, &[pid, 0]);
}

fn thread(w: &mut World, _: u64) {
    w.made(56, &[THREAD, 0, OUT, OUT, 0]);
    let thread = w.newest();
    w.others.push(thread);
}

/// A child that ends and is waited for.
fn come_and_go(w: &mut World) {
    let (pid, child) = w.fork();
    w.of(child, 231, &[0]);
    w.reap(pid);
}

fn sleeper(w: &mut World, word: u64) {
    thread(w, 0);
    let thread = w.others[w.others.len() - 1];
    assert_eq!(w.of(thread, 202, &[word, 128, 0, 0]), None);
}

pub const GROWING: &[Growing] = &[
    Growing {
        name: "processes: fork, exit, wait",
        few: 200,
        setup: nothing,
        grow: process,
        step: |w, _| come_and_go(w),
    },
    Growing {
        name: "processes: signals and priorities of a small group",
        few: 200,
        setup: |w| {
            let (pid, _) = w.fork();
            w.made(109, &[pid, 0]);
            w.fd = pid;
        },
        grow: leader,
        step: |w, _| {
            w.made(62, &[(w.fd as i64).wrapping_neg() as u64, 0]);
            w.made(140, &[1, w.fd]);
            w.made(141, &[1, w.fd, 5]);
            w.made(252, &[2, w.fd]);
            let (pid, child) = w.fork();
            w.made(109, &[pid, w.fd]);
            w.of(child, 231, &[0]);
            w.reap(pid);
        },
    },
    Growing {
        name: "processes: sessions",
        few: 200,
        setup: nothing,
        grow: |w, _| {
            let (_, child) = w.fork();
            w.of(child, 112, &[]);
        },
        step: |w, _| {
            let (pid, child) = w.fork();
            w.of(child, 112, &[]);
            w.of(child, 231, &[0]);
            w.reap(pid);
        },
    },
    Growing {
        name: "processes: priority of another user's",
        few: 200,
        setup: |w| {
            let (_, child) = w.fork();
            w.of(child, 105, &[1000]);
        },
        grow: process,
        step: |w, _| {
            w.made(140, &[2, 1000]);
            w.made(141, &[2, 1000, 5]);
            w.made(251, &[3, 1000, 0x4000]);
            w.made(252, &[3, 1000]);
        },
    },
    Growing {
        name: "processes, a few listed at a time",
        few: 200,
        setup: |w| w.fd = w.open("/proc", 0o200_000),
        grow: process,
        step: |w, n| {
            if n == 0 {
                w.made(8, &[w.fd, 0, 0]);
            }
            assert!(w.made(217, &[w.fd, BULK, 200]) > 100);
        },
    },
    Growing {
        name: "processes: the links of /proc",
        few: 200,
        setup: |w| w.path("/proc"),
        grow: process,
        step: |w, _| {
            w.made(4, &[NAME, OUT]);
        },
    },
    Growing {
        name: "zombies",
        few: 200,
        setup: nothing,
        grow: |w, _| {
            let (_, child) = w.fork();
            w.of(child, 231, &[0]);
        },
        step: |w, _| come_and_go(w),
    },
    Growing {
        name: "threads of a process",
        few: 200,
        setup: nothing,
        grow: thread,
        step: |w, _| {
            thread(w, 0);
            let thread = w.others.pop().expect("it was made");
            w.of(thread, 60, &[0]);
        },
    },
    Growing {
        name: "barriers between threads (membarrier)",
        few: 200,
        setup: |w| {
            w.made(324, &[16, 0, 0]);
        },
        grow: process,
        step: |w, _| {
            w.made(324, &[8, 0, 0]);
        },
    },
    Growing {
        name: "namespaces that are held",
        few: 200,
        setup: nothing,
        grow: |w, _| {
            w.made(272, &[NEWUTS]);
            w.fd = w.open("/proc/self/ns/uts", 0);
        },
        step: |w, _| {
            w.made(272, &[NEWUTS]);
            w.made(308, &[w.fd, 0]);
        },
    },
    Growing {
        name: "namespaces of processes",
        few: 200,
        setup: nothing,
        grow: |w, _| {
            let (_, child) = w.fork();
            w.of(child, 272, &[NEWUTS]);
        },
        step: |w, _| {
            w.made(272, &[NEWUTS]);
        },
    },
    Growing {
        name: "user namespaces",
        few: 200,
        setup: nothing,
        grow: |w, _| {
            let (_, child) = w.fork();
            w.of(child, 272, &[NEWUSER]);
        },
        step: |w, _| {
            let (pid, child) = w.fork();
            w.of(child, 272, &[NEWUSER]);
            w.of(child, 231, &[0]);
            w.reap(pid);
        },
    },
    Growing {
        name: "PID namespaces",
        few: 100,
        setup: nothing,
        grow: |w, _| {
            w.made(56, &[NEWPID | 17, 0, 0, 0, 0]);
        },
        step: |w, _| {
            let pid = w.made(56, &[NEWPID | 17, 0, 0, 0, 0]);
            let child = w.newest();
            w.of(child, 231, &[0]);
            w.reap(pid);
            come_and_go(w);
        },
    },
    Growing {
        name: "sleepers on other futexes",
        few: 200,
        setup: nothing,
        grow: |w, n| sleeper(w, OUT + 64 + 4 * n),
        step: |w, _| {
            w.made(202, &[DATA, 129, 1, 0]);
            sleeper(w, BULK);
            w.made(202, &[BULK, 129, 1, 0]);
            let thread = w.others.pop().expect("it was made");
            w.of(thread, 60, &[0]);
        },
    },
    Growing {
        name: "sleepers on a futex",
        few: 200,
        setup: nothing,
        grow: |w, _| sleeper(w, OUT + 64),
        step: |w, _| {
            sleeper(w, OUT + 64);
            assert_eq!(w.made(202, &[OUT + 64, 129, 1, 0]), 1);
            assert_eq!(w.made(202, &[OUT + 64, 131, 0, 1, BULK]), 1);
            assert_eq!(w.made(202, &[BULK, 131, 0, 1, OUT + 64]), 1);
        },
    },
    Growing {
        name: "sleepers with a deadline",
        few: 200,
        setup: |w| w.words(NAME, &[1000, 0]),
        grow: |w, _| {
            thread(w, 0);
            let thread = w.others[w.others.len() - 1];
            assert_eq!(w.of(thread, 35, &[NAME, 0]), None);
        },
        step: |w, _| {
            w.words(OTHER, &[0, 1]);
            w.made(35, &[OTHER, 0]);
        },
    },
];
