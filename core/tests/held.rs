//! What a guest can make again and again counts as the run's memory, as much as the allocator gives for it,
//! and goes with the guest.

#[path = "../../imgfs/tests/counting/mod.rs"]
mod counting;
mod guest;

use counting::live;
use guest::steps::until_idle;
use guest::{CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS, DATA, EXIT_GROUP, FORK, boot, long, word};
use varve_core::machine::ThreadId;
use varve_core::memhost::{BARE_ADDR, Machine};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Places for names, structures and results, behind those that `guest` knows.
const NAME: u64 = BARE_ADDR + 0x4000;
const OTHER: u64 = BARE_ADDR + 0x6000;
const OUT: u64 = BARE_ADDR + 0x8000;
const BULK: u64 = BARE_ADDR + 0x10000;

/// Bytes that the process, its tables and the host of this test may take for themselves.
const SLACK: i64 = 64 << 10;

/// A guest process that makes things.
struct Maker {
    m: Machine,
    thread: ThreadId,
    /// What `setup` leaves for the steps.
    fd: u64,
}

impl Maker {
    /// A call that returns; its result.
    fn call(&mut self, number: u64, args: &[u64]) -> i64 {
        self.m.log.clear();
        self.m.call(self.thread, number, args).expect("it returns")
    }

    /// A call that succeeds.
    #[track_caller]
    fn made(&mut self, number: u64, args: &[u64]) -> u64 {
        let result = self.call(number, args);
        assert!(result >= 0, "{number}: {result}");
        result as u64
    }

    fn poke(&mut self, addr: u64, data: &[u8]) {
        self.m.poke(self.thread, addr, data).unwrap();
    }

    fn words(&mut self, addr: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.poke(addr, &bytes);
    }

    /// A name of this length, another one for each number.
    fn name(&mut self, addr: u64, number: u64, len: usize) {
        let name = format!("{number:0len$}\0");
        self.poke(addr, name.as_bytes());
    }

    fn out(&mut self, index: u64) -> u64 {
        u64::from(word(&mut self.m, self.thread, OUT + 4 * index))
    }

    /// The memory that is used, as programs are told (sysinfo(2)): pages, and all that is charged.
    fn used(&mut self) -> i64 {
        self.made(99, &[OUT]);
        let [total, free] = [32, 40].map(|at| long(&mut self.m, self.thread, OUT + at));
        (total - free) as i64
    }
}

struct Kind {
    name: &'static str,
    steps: u64,
    setup: fn(&mut Maker),
    step: fn(&mut Maker, u64),
    /// What does not go with its maker.
    stays: &'static [&'static str],
}

fn nothing(_: &mut Maker) {}

/// One pipe or pair of sockets: reading end and writing end.
fn ends(maker: &mut Maker, socket: bool) -> [u64; 2] {
    match socket {
        true => maker.made(53, &[1, 1, 0, OUT]),
        false => maker.made(22, &[OUT]),
    };
    [maker.out(0), maker.out(1)]
}

fn directory(maker: &mut Maker) {
    maker.name(NAME, 0, 4);
    maker.made(83, &[NAME, 0o700]);
}

const KINDS: &[Kind] = &[
    Kind {
        name: "descriptors with high numbers",
        steps: 1000,
        setup: |maker| maker.fd = ends(maker, false)[0],
        step: |maker, n| {
            maker.made(33, &[maker.fd, 100 + n * 1000]);
        },
        stays: &[],
    },
    Kind {
        name: "counters and their epoll items",
        steps: 1000,
        setup: |maker| maker.fd = maker.made(291, &[0]),
        step: |maker, _| {
            let fd = maker.made(290, &[0, 0]);
            maker.words(DATA, &[1, 0]);
            maker.made(233, &[maker.fd, 1, fd, DATA]);
        },
        stays: &[],
    },
    Kind {
        name: "Landlock rulesets",
        steps: 500,
        setup: nothing,
        step: |maker, _| {
            maker.words(DATA, &[1]);
            maker.made(444, &[DATA, 8, 0]);
        },
        stays: &[],
    },
    Kind {
        name: "Landlock rules",
        steps: 2000,
        setup: |maker| {
            maker.words(DATA, &[0, 1, 0]);
            maker.fd = maker.made(444, &[DATA, 24, 0]);
        },
        step: |maker, n| {
            maker.words(DATA, &[1, n]);
            maker.made(445, &[maker.fd, 2, DATA, 0]);
        },
        stays: &[],
    },
    Kind {
        name: "processes in Landlock domains",
        steps: 100,
        setup: |maker| {
            maker.words(DATA, &[0, 0, 1]);
            maker.fd = maker.made(444, &[DATA, 24, 0]);
            maker.made(157, &[38, 1, 0, 0, 0]);
        },
        step: |maker, _| {
            let own = maker.thread;
            maker.made(FORK, &[]);
            maker.thread = *maker.m.threads.keys().next_back().unwrap();
            for _ in 0..16 {
                maker.made(446, &[maker.fd, 0]);
            }
            maker.thread = own;
        },
        stays: &[],
    },
    Kind {
        name: "watched directories",
        steps: 500,
        setup: |maker| maker.fd = maker.made(294, &[0]),
        step: |maker, n| {
            maker.name(NAME, n, 30);
            maker.made(83, &[NAME, 0o700]);
            maker.made(254, &[maker.fd, NAME, 0xfff]);
        },
        stays: &[],
    },
    Kind {
        name: "events that nobody reads",
        steps: 2000,
        setup: |maker| {
            let fd = maker.made(294, &[0]);
            maker.poke(NAME, b"/\0");
            maker.made(254, &[fd, NAME, 0x300]);
        },
        step: |maker, n| {
            maker.name(NAME, n % 2, 250);
            maker.made(133, &[NAME, 0o100600, 0]);
            maker.made(87, &[NAME]);
        },
        stays: &[],
    },
    Kind {
        name: "record locks",
        steps: 500,
        setup: |maker| {
            maker.poke(NAME, b"m\0");
            maker.fd = maker.made(319, &[NAME, 0]);
        },
        step: |maker, n| {
            // struct flock: type and whence, start, length, process.
            maker.words(DATA, &[1, 2 * n, 1, 0]);
            maker.made(72, &[maker.fd, 6, DATA]);
        },
        stays: &[],
    },
    Kind {
        name: "timers",
        steps: 2000,
        setup: nothing,
        step: |maker, _| {
            // struct sigevent: value, SIGEV_NONE.
            maker.words(DATA, &[0, 1 << 32]);
            maker.made(222, &[1, DATA, OUT]);
            let timer = maker.out(0);
            maker.words(DATA, &[0, 0, 1000, 0]);
            maker.made(223, &[timer, 0, DATA, 0]);
        },
        stays: &[],
    },
    Kind {
        name: "queued signals",
        steps: 2000,
        setup: |maker| {
            maker.words(DATA, &[u64::MAX]);
            maker.made(14, &[0, DATA, 0, 8]);
            maker.fd = maker.made(39, &[]);
            // struct siginfo: SI_QUEUE.
            maker.words(DATA, &[40, 0xffff_ffff]);
        },
        step: |maker, _| {
            maker.made(129, &[maker.fd, 40, DATA]);
        },
        stays: &[],
    },
    Kind {
        name: "pipes that were full once",
        steps: 200,
        setup: nothing,
        step: |maker, _| {
            let [from, to] = ends(maker, false);
            assert_eq!(maker.made(1, &[to, BULK, 60_000]), 60_000);
            assert_eq!(maker.made(0, &[from, BULK, 59_999]), 59_999);
        },
        stays: &[],
    },
    Kind {
        name: "sockets that were full once",
        steps: 200,
        setup: nothing,
        step: |maker, _| {
            let [from, to] = ends(maker, true);
            assert_eq!(maker.made(1, &[to, BULK, 60_000]), 60_000);
            assert_eq!(maker.made(0, &[from, BULK, 59_999]), 59_999);
        },
        stays: &[],
    },
    Kind {
        name: "sockets",
        steps: 500,
        setup: nothing,
        step: |maker, _| {
            ends(maker, true);
        },
        stays: &[],
    },
    Kind {
        name: "mounts with long sources",
        steps: 200,
        setup: |maker| {
            maker.made(272, &[CLONE_NEWUSER | CLONE_NEWNS]);
            directory(maker);
            maker.name(OTHER, 0, 4000);
            maker.poke(DATA, b"tmpfs\0");
        },
        step: |maker, _| {
            maker.made(165, &[OTHER, NAME, DATA, 0, 0]);
        },
        stays: &[],
    },
    Kind {
        name: "configurations with much to say",
        steps: 300,
        setup: |maker| {
            maker.made(272, &[CLONE_NEWUSER | CLONE_NEWNS]);
            maker.poke(DATA, b"tmpfs\0source\0");
        },
        step: |maker, n| {
            maker.fd = maker.made(430, &[DATA, 0]);
            maker.name(NAME, n, 250);
            maker.made(431, &[maker.fd, 1, DATA + 6, NAME, 0]);
            for _ in 0..9 {
                assert_eq!(maker.call(431, &[maker.fd, 0, NAME, 0, 0]), -22);
            }
        },
        stays: &[],
    },
    Kind {
        name: "detached mounts",
        steps: 300,
        setup: |maker| {
            maker.made(272, &[CLONE_NEWUSER | CLONE_NEWNS]);
            maker.poke(DATA, b"tmpfs\0/\0");
        },
        step: |maker, n| match n % 2 {
            0 => {
                let fd = maker.made(430, &[DATA, 0]);
                maker.made(431, &[fd, 6, 0, 0, 0]);
                maker.made(432, &[fd, 0, 0]);
            }
            _ => {
                // Copies of all that is there: AT_FDCWD, OPEN_TREE_CLONE | AT_RECURSIVE.
                maker.made(428, &[-100i64 as u64, DATA + 6, 0x8001]);
            }
        },
        stays: &[],
    },
    Kind {
        name: "namespaces",
        steps: 300,
        setup: |maker| {
            maker.made(272, &[CLONE_NEWUSER]);
            maker.poke(NAME, b"/proc/self/ns/uts\0");
        },
        step: |maker, _| {
            maker.made(272, &[CLONE_NEWUTS]);
            maker.made(2, &[NAME, 0]);
        },
        stays: &[],
    },
    Kind {
        name: "processes with many groups",
        steps: 20,
        setup: |maker| {
            let groups: Vec<u8> = (0..60_000u32).flat_map(u32::to_le_bytes).collect();
            maker.poke(BULK, &groups);
            maker.made(116, &[60_000, BULK]);
        },
        step: |maker, _| {
            maker.made(FORK, &[]);
        },
        stays: &[],
    },
    Kind {
        name: "semaphores to be undone, segments and queues",
        steps: 300,
        setup: nothing,
        step: |maker, _| {
            let set = maker.made(64, &[0, 250, 0o600]);
            // struct sembuf: number, change, SEM_UNDO.
            maker.words(DATA, &[249 | 1 << 16 | 0x1000 << 32]);
            maker.made(65, &[set, DATA, 1]);
            maker.made(29, &[0, 4096, 0o600]);
            maker.made(68, &[0, 0o600]);
        },
        stays: &["System V objects", "open files"],
    },
    Kind {
        name: "names that are not there",
        steps: 2000,
        setup: nothing,
        step: |maker, n| {
            maker.name(NAME, n, 250);
            assert_eq!(maker.call(4, &[NAME, OUT]), -2);
        },
        stays: &[],
    },
    Kind {
        name: "files with long links",
        steps: 500,
        setup: |maker| maker.name(OTHER, 0, 4000),
        step: |maker, n| {
            maker.name(NAME, n, 250);
            maker.made(88, &[OTHER, NAME]);
        },
        stays: &[],
    },
    Kind {
        name: "attributes",
        steps: 60,
        setup: directory,
        step: |maker, n| {
            maker.poke(DATA, format!("user.{n}\0").as_bytes());
            maker.made(188, &[NAME, DATA, BULK, 1000, 0]);
        },
        stays: &[],
    },
    Kind {
        name: "contents of files of proc",
        steps: 500,
        setup: |maker| maker.poke(NAME, b"/proc/self/status\0"),
        step: |maker, _| {
            let fd = maker.made(2, &[NAME, 0]);
            maker.made(0, &[fd, OUT, 100]);
        },
        stays: &[],
    },
    Kind {
        name: "asynchronous contexts",
        steps: 200,
        setup: nothing,
        step: |maker, _| {
            maker.words(OUT, &[0]);
            maker.made(206, &[4, OUT]);
        },
        stays: &[],
    },
    Kind {
        name: "areas",
        steps: 2000,
        setup: nothing,
        step: |maker, n| {
            let prot = n % 2;
            maker.made(9, &[0, 4096, prot, 0x22, u64::MAX, 0]);
        },
        stays: &[],
    },
    Kind {
        name: "files that threads wait for",
        steps: 20,
        setup: |maker| {
            // 1,000 counters, which nobody counts up.
            for n in 0..1000 {
                let fd = maker.made(290, &[0, 0]);
                maker.words(BULK + 8 * n, &[fd | 1 << 32]);
            }
        },
        step: |maker, _| {
            let own = maker.thread;
            maker.made(FORK, &[]);
            let child = *maker.m.threads.keys().next_back().unwrap();
            maker.m.log.clear();
            assert_eq!(maker.m.call(child, 7, &[BULK, 1000, u64::MAX]), None);
            maker.thread = own;
        },
        stays: &[],
    },
    Kind {
        name: "filters",
        steps: 30,
        setup: |maker| {
            maker.made(157, &[38, 1, 0, 0, 0]);
            // 999 times `ld #0`, then `ret #SECCOMP_RET_ALLOW`.
            let mut program = vec![0u64; 1000];
            program[999] = 6 | 0x7fff_0000 << 32;
            maker.words(BULK, &program);
            maker.words(DATA, &[1000, BULK]);
        },
        step: |maker, _| {
            maker.made(317, &[1, 0, DATA]);
        },
        stays: &[],
    },
];

#[test]
fn what_a_guest_makes_again_and_again_is_charged_and_given_back() {
    /// What stays cached, and files that are there on.
    const STAYS: [&str; 2] = ["dentries", "inodes and names of files in memory"];
    let mut wrong = Vec::new();
    for kind in KINDS {
        let mut m = boot();
        let first = m.first();
        // The file system of memory files stays once it is there.
        let memory_file = m.call(first, 319, &[DATA, 0]).unwrap() as u64;
        m.call(first, 3, &[memory_file]);
        let before = m.kernel.held();
        assert_eq!(m.call(first, FORK, &[]), Some(2));
        let thread = *m.threads.keys().next_back().unwrap();
        let mut maker = Maker { m, thread, fd: 0 };
        // RLIMIT_NOFILE, up to the hard limit.
        maker.words(DATA, &[1 << 20, 1 << 20]);
        maker.made(160, &[7, DATA]);
        (kind.setup)(&mut maker);
        let warm = kind.steps / 10;
        (0..warm).for_each(|n| (kind.step)(&mut maker, n));
        let (bytes, used) = (live(), maker.used());
        (warm..kind.steps).for_each(|n| (kind.step)(&mut maker, n));
        let (took, charged) = (live() - bytes, maker.used() - used);
        if took > charged + SLACK {
            wrong.push(format!("{}: {took} bytes, {charged} charged", kind.name));
        }
        maker.m.kernel.check().unwrap();
        // All of its processes end.
        let all: Vec<ThreadId> = maker.m.threads.keys().copied().skip(1).collect();
        for thread in all {
            // Some wait.
            if maker
                .m
                .threads
                .get(&thread)
                .is_some_and(|thread| thread.runs)
            {
                maker.m.call(thread, EXIT_GROUP, &[0]);
            }
            maker.m.log.clear();
        }
        maker.m.call(first, 62, &[u64::MAX, 9]);
        until_idle(&mut maker.m);
        while maker.m.call(first, 61, &[u64::MAX, 0, 1, 0]) > Some(0) {}
        until_idle(&mut maker.m);
        maker.m.kernel.check().unwrap();
        for ((what, old), (_, new)) in before.iter().zip(maker.m.kernel.held()) {
            let stays = STAYS.contains(what) || kind.stays.contains(what);
            if new > *old && !stays {
                wrong.push(format!("{}: {what}: {old} before, {new} after", kind.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn timers_and_signals_are_paid_by_their_user() {
    const EAGAIN: i64 = -11;
    const RLIMIT_SIGPENDING: u64 = 11;
    let m = boot();
    let thread = m.first();
    let mut maker = Maker { m, thread, fd: 0 };
    maker.words(DATA, &[20, 20]);
    maker.made(160, &[RLIMIT_SIGPENDING, DATA]);
    maker.words(DATA, &[0, 1 << 32]);
    for _ in 0..12 {
        maker.made(222, &[1, DATA, OUT]);
    }
    let timer = maker.out(0);
    maker.made(FORK, &[]);
    let child = *maker.m.threads.keys().next_back().unwrap();
    maker.thread = child;
    // The timers of the parent count for the child, and so do signals.
    maker.words(DATA + 64, &[u64::MAX]);
    maker.made(14, &[0, DATA + 64, 0, 8]);
    maker.words(DATA + 64, &[40, 0xffff_ffff]);
    let pid = maker.made(39, &[]);
    for _ in 0..3 {
        maker.made(129, &[pid, 40, DATA + 64]);
    }
    for _ in 0..5 {
        maker.made(222, &[1, DATA, OUT]);
    }
    assert_eq!(maker.call(222, &[1, DATA, OUT]), EAGAIN);
    assert_eq!(maker.call(129, &[pid, 40, DATA + 64]), EAGAIN);
    // A timer that goes makes room for a signal, and one for another user was never taken.
    maker.thread = thread;
    maker.made(226, &[timer]);
    maker.thread = child;
    maker.made(129, &[pid, 40, DATA + 64]);
    assert_eq!(maker.call(222, &[1, DATA, OUT]), EAGAIN);
    maker.made(105, &[1000]);
    maker.made(222, &[1, DATA, OUT]);
    maker.m.kernel.check().unwrap();
    maker.m.call(child, EXIT_GROUP, &[0]);
    maker.m.kernel.check().unwrap();
    maker.thread = thread;
    for _ in 0..9 {
        maker.made(222, &[1, DATA, OUT]);
    }
    assert_eq!(maker.call(222, &[1, DATA, OUT]), EAGAIN);
}
