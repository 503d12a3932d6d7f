//! Random guests: calls out of the table with arguments of the right and of the wrong kind, injected faults, and the replay of what happened.
//!
//! The seed is printed; `VARVE_TEST_SEED=N` runs one seed only.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use varve_core::Kernel;
use varve_core::boot::{BootConfig, Layer, Tree};
use varve_core::event::{ClockParameters, Input, Output};
use varve_core::journal::{Replay, Step};
use varve_core::machine::{Access, Exception, ImageId, ThreadId, Trap};
use varve_core::memhost::{BARE_ADDR, BARE_LEN, Machine, MemHost, bare};
use varve_core::syscall::args::ArgKind;
use varve_core::syscall::{Entry, TABLE};

const FORK: u64 = 57;
const SEEDS: u64 = 6;
/// Steps with one seed, on as many machines as it takes: a guest may end itself.
const STEPS: usize = 4000;
/// So few that guests run out of memory now and then.
const FRAMES: u32 = 1024;
/// Slots of this size hold paths, strings and structures.
const SLOT: u64 = 0x100;
const PATHS: &[&str] = &[
    "/",
    ".",
    "..",
    "/bin",
    "/bin/tool",
    "/data",
    "/data/a",
    "/data/b",
    "/data/link",
    "/data/loop",
    "/data/dir",
    "/data/dir/deep",
    "/tmp/x",
    "/tmp/y",
    "/tmp/fifo",
    "a",
    "b",
    "dir/../a",
    "",
    "/proc/self/maps",
    "/proc/self/fd/0",
    "/proc/self/status",
    "/proc/self/exe",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/urandom",
    "/data/a/",
    "/none/such",
    "//data//dir//",
    "/proc/self/cwd/a",
    "/dev/shm/s",
    "user.name",
    "trusted.x",
];

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn slot(&mut self, first: u64, count: u64) -> u64 {
        BARE_ADDR + (first + self.below(count)) * SLOT
    }

    /// A number with many special ones among them.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0..4 => self.below(16),
            4 => 1 << self.below(64),
            5 => (self.below(64) as i64 - 32) as u64,
            6 => self.below(1 << 20),
            _ => self.0.next_u64(),
        }
    }

    fn argument(&mut self, kind: ArgKind) -> u64 {
        if self.chance(20) {
            return self.number();
        }
        match kind {
            ArgKind::Fd => self.below(24),
            ArgKind::DirFd => match self.chance(3) {
                true => self.below(24),
                false => -100i64 as u64,
            },
            ArgKind::Path | ArgKind::Str => self.slot(0, PATHS.len() as u64),
            ArgKind::Size => match self.chance(4) {
                true => self.number(),
                false => self.below(0x3000),
            },
            ArgKind::Offset => match self.chance(6) {
                true => self.number(),
                false => self.below(4) * 0x1000,
            },
            ArgKind::InBuf | ArgKind::OutBuf | ArgKind::Addr | ArgKind::StrVec => {
                match self.below(8) {
                    0 => 0,
                    1 => BARE_ADDR + self.below(BARE_LEN / 0x1000) * 0x1000,
                    _ => self.slot(64, 512),
                }
            }
            ArgKind::OpenFlags => {
                self.pick(&[0, 1, 2, 0o100, 0o200000, 0o2000000])
                    | self.pick(&[0, 2, 0o102, 0o1000, 0o2000, 0o4000, 0o400000])
            }
            ArgKind::Mode => self.pick(&[
                0, 0o644, 0o755, 0o600, 0o111, 0o7777, 0o100644, 0o010644, 0o040755,
            ]),
            ArgKind::AtFlags => self.pick(&[0, 0, 0x100, 0x200, 0x400, 0x1000, 0x800]),
            ArgKind::ProtFlags => self.below(8),
            ArgKind::MapFlags => self.pick(&[0x22, 0x22, 0x21, 2, 1, 0x32, 0x10_0022]),
            ArgKind::CloneFlags => self.pick(&[17, 17, 0x11_0f00, 0x3d_0f00, 0x4111, 0]),
            ArgKind::Signal => self.below(66),
            ArgKind::Pid => self.pick(&[0, 1, 2, 3, 4, 5, u64::MAX]),
            ArgKind::Id => self.pick(&[0, 0, 1000, u64::from(u32::MAX), u64::MAX]),
            ArgKind::Whence => self.below(6),
            ArgKind::Clock => self.below(12),
            ArgKind::Int | ArgKind::Uint | ArgKind::Hex | ArgKind::Fcntl => self.number(),
        }
    }

    /// Bytes of a structure: small numbers, addresses and noise, as eight-byte words.
    fn structure(&mut self) -> Vec<u8> {
        let words = 1 + self.below(SLOT / 8);
        let mut word = || match self.below(4) {
            0 => self.slot(0, 512),
            1 => self.number(),
            _ => self.below(8),
        };
        (0..words).flat_map(|_| word().to_le_bytes()).collect()
    }
}

/// Two layers: a tree, and changes to it.
fn layers() -> Vec<Vec<u8>> {
    let build = |fill: &dyn Fn(&std::path::Path)| {
        let work = tempfile::tempdir().expect("a directory");
        let tree = work.path().join("tree");
        std::fs::create_dir(&tree).expect("a directory");
        fill(&tree);
        let image = work.path().join("layer.img");
        varve_image::build_dir(
            &tree,
            &image,
            &varve_image::BuildOptions::default(),
            &mut (),
        )
        .expect("builds");
        std::fs::read(&image).expect("reads")
    };
    let lower = build(&|tree| {
        for dir in ["bin", "data", "data/dir", "tmp"] {
            std::fs::create_dir(tree.join(dir)).expect("creates");
        }
        std::fs::write(tree.join("bin/tool"), b"#!/bin/none\n").expect("writes");
        std::fs::write(tree.join("data/a"), vec![b'a'; 10_000]).expect("writes");
        std::fs::write(tree.join("data/gone"), b"gone").expect("writes");
        std::fs::write(tree.join("data/dir/deep"), b"deep").expect("writes");
        std::os::unix::fs::symlink("dir/deep", tree.join("data/link")).expect("links");
        std::os::unix::fs::symlink("loop", tree.join("data/loop")).expect("links");
        std::fs::hard_link(tree.join("data/a"), tree.join("data/b")).expect("links");
    });
    let upper = build(&|tree| {
        std::fs::create_dir_all(tree.join("data/dir")).expect("creates");
        std::fs::write(tree.join("data/.wh.gone"), b"").expect("writes");
        std::fs::write(tree.join("data/dir/more"), b"more").expect("writes");
    });
    vec![lower, upper]
}

/// `None`: an image is so damaged that nothing starts.
fn boot(images: &[Vec<u8>]) -> Option<Machine> {
    let layer = |number| Layer::Image(ImageId(number));
    let root = Tree {
        layers: (0..images.len() as u32).map(layer).collect(),
        read_only: false,
        upper_limit: Some(1 << 20),
        index: None,
    };
    let config = BootConfig {
        strace: true,
        vdso: true,
        ..bare(root)
    };
    Machine::record(config, MemHost::new(FRAMES, images.to_vec()), 1).ok()
}

fn poke(machine: &mut Machine, thread: ThreadId, addr: u64, data: &[u8]) {
    // A thread whose memory is unmapped by now has nothing to be written to; the attempt is repeated all the same.
    let _ = machine.poke(thread, addr, data);
}

fn trap(random: &mut Random) -> Trap {
    let addr = BARE_ADDR + random.below(2 * BARE_LEN);
    match random.below(4) {
        0 => Trap::Exception(Exception {
            signal: random.pick(&[4, 5, 7, 8, 11]),
            code: 1,
            addr,
        }),
        1 => Trap::Fault {
            addr: random.number(),
            access: None,
        },
        _ => Trap::Fault {
            addr,
            access: random.pick(&[
                None,
                Some(Access::Read),
                Some(Access::Write),
                Some(Access::Execute),
            ]),
        },
    }
}

/// One step of the guest or of the world.
fn step(machine: &mut Machine, random: &mut Random) {
    machine.write_limit = random.pick(&[usize::MAX, usize::MAX, 1, 100]);
    machine.stalled = random.chance(50);
    match random.below(40) {
        0 => machine.input(Input::Signal {
            // What does not end a program that says nothing about it.
            signal: random.pick(&[17, 18, 23, 28]),
        }),
        1 => machine.feed(b"some input\n"),
        2 => machine.advance(random.below(3_000_000_000)),
        3 => machine.input(Input::Resize { rows: 24, cols: 80 }),
        4 => {
            machine.input(Input::Clock(None));
            machine.input(Input::Clock(Some(ClockParameters {
                tsc: random.number(),
                mult: random.number(),
                shift: 32,
                mono: random.number(),
                real_offset: random.number(),
            })));
        }
        _ => {}
    }
    let running: Vec<ThreadId> = machine
        .threads
        .iter()
        .filter(|(_, thread)| thread.runs)
        .map(|(&id, _)| id)
        .collect();
    if running.is_empty() {
        machine.advance(10_000_000_000);
        return;
    }
    let thread = random.pick(&running);
    if random.chance(3) {
        let (addr, data) = (random.slot(64, 512), random.structure());
        poke(machine, thread, addr, &data);
    }
    // The first process lives on, and makes others that need not.
    let expendable = machine
        .threads
        .get(&ThreadId(1))
        .is_some_and(|first| machine.threads[&thread].space != first.space);
    if machine.threads.len() < 4 && random.chance(8) {
        machine.call(thread, FORK, &[]);
        return;
    }
    if expendable && random.chance(16) {
        let regs = machine.threads[&thread].regs;
        let trap = trap(random);
        machine.trap(thread, regs, trap);
        return;
    }
    let entry = pick_call(random, expendable);
    let args: Vec<u64> = entry
        .params
        .iter()
        .map(|param| random.argument(param.kind))
        .collect();
    let number = if random.chance(100) {
        random.below(600)
    } else {
        entry.number
    };
    machine.call(thread, number, &args);
}

/// A call; those that end a process only in one that may end.
fn pick_call(random: &mut Random, expendable: bool) -> &'static Entry {
    const ENDS: &[&str] = &[
        "exit",
        "exit_group",
        "execve",
        "execveat",
        "kill",
        "tkill",
        "tgkill",
        "rt_sigqueueinfo",
        "rt_tgsigqueueinfo",
    ];
    // What takes its memory or its rights from a process leaves little to test.
    const RUINS: &[&str] = &[
        "munmap",
        "mprotect",
        "mremap",
        "mmap",
        "brk",
        "madvise",
        "setuid",
        "setresuid",
        "setreuid",
        "setfsuid",
        "capset",
        "chroot",
        "prlimit64",
        "setrlimit",
        "rt_sigreturn",
        "pause",
        "rt_sigsuspend",
        "alarm",
        "setitimer",
        "close_range",
    ];
    loop {
        let entry = &TABLE[random.below(TABLE.len() as u64) as usize];
        let rare = ENDS.contains(&entry.name) || RUINS.contains(&entry.name);
        if !rare || expendable && random.chance(3) {
            return entry;
        }
    }
}

fn run(images: &[Vec<u8>], random: &mut Random, steps: usize) -> Option<(Machine, usize)> {
    let mut machine = boot(images)?;
    let first = machine.first();
    for (index, path) in PATHS.iter().enumerate() {
        let text = [path.as_bytes(), b"\0"].concat();
        let addr = BARE_ADDR + index as u64 * SLOT;
        poke(&mut machine, first, addr, &text);
    }
    let mut idle = 0;
    let mut done = 0;
    while done < steps {
        done += 1;
        step(&mut machine, random);
        if let Err(what) = machine.kernel.check() {
            let last = machine.lines.len().saturating_sub(5);
            panic!("{what}; the last lines: {:#?}", &machine.lines[last..]);
        }
        idle = match machine.threads.values().any(|thread| thread.runs) {
            true => 0,
            false => idle + 1,
        };
        if machine.exit.is_some() || idle > 20 {
            break;
        }
    }
    Some((machine, done))
}

/// Makes the run again from its journal, which compares every output, every port call with its arguments (so all bytes that the kernel wrote to guest
/// memory) and the state after every input; gives the lines of strace.
fn replay(images: &[Vec<u8>], journal: &[u8], first: &Machine) -> Vec<String> {
    let images = MemHost::new(FRAMES, images.to_vec()).images;
    let mut replay = Replay::open(journal).expect("it is whole");
    let mut inputs = Vec::new();
    let mut lines = Vec::new();
    loop {
        match replay
            .next(&images)
            .unwrap_or_else(|error| panic!("{error}"))
        {
            Some(Step::Input(now, input)) => inputs.push((now, input)),
            Some(_) => {}
            None => break,
        }
        for output in replay.outputs() {
            if let Output::Strace { tid, line } = output {
                lines.push(format!("[{tid}] {line}"));
            }
        }
    }
    assert!(inputs == first.log, "all inputs came back");
    let digest = replay.kernel().map(Kernel::digest);
    assert_eq!(digest, Some(first.kernel.digest()));
    assert_eq!(replay.exit(), first.exit);
    lines
}

fn seeds() -> Vec<u64> {
    match std::env::var("VARVE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("VARVE_TEST_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

fn with_seeds(test: impl Fn(u64)) {
    for seed in seeds() {
        println!("seed {seed}");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("again with VARVE_TEST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Runs guests and runs them again; gives how often each call succeeded.
fn twice(images: &[Vec<u8>], random: &mut Random) -> BTreeMap<String, usize> {
    let mut results = BTreeMap::new();
    let mut steps = 0;
    while steps < STEPS {
        let Some((mut first, done)) = run(images, random, STEPS - steps) else {
            return results;
        };
        let journal = first.finish().expect("it was recorded");
        let lines = replay(images, &journal, &first);
        let traced = first.lines.iter().filter(|line| line.starts_with('['));
        assert!(traced.eq(&lines), "strace's lines");
        steps += done;
        for line in &lines {
            if let Some((call, result)) = line.rsplit_once(" = ") {
                // "[1] getpid()"
                let name = call.split(['(', ']']).nth(1).unwrap_or_default();
                if !result.starts_with("-1") {
                    *results.entry(name.trim().to_string()).or_default() += 1;
                }
            }
        }
    }
    results
}

#[test]
fn a_log_of_inputs_gives_the_same_outputs_and_state() {
    let images = layers();
    with_seeds(|seed| {
        let succeeded = twice(&images, &mut Random(ChaCha8Rng::seed_from_u64(seed)));
        // It is no use if nothing succeeds.
        assert!(succeeded.len() > 60, "{succeeded:?}");
    });
}

/// The images with eight bits turned.
fn damage(images: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut images = images.to_vec();
    for _ in 0..8 {
        // Behind the superblock.
        let image = random.below(2) as usize;
        let at = 1152 + random.below(images[image].len() as u64 - 1152) as usize;
        images[image][at] ^= 1 << random.below(8);
    }
    for image in &mut images {
        // `feature_compat`: without the checksum, which would give the damage away.
        image[1024 + 8] &= !1;
    }
    images
}

#[test]
fn damaged_layers_end_in_errors() {
    let images = layers();
    with_seeds(|seed| {
        let mut random = Random(ChaCha8Rng::seed_from_u64(!seed));
        // Such that there is something to run.
        let images = loop {
            let images = damage(&images, &mut random);
            if boot(&images).is_some() {
                break images;
            }
        };
        twice(&images, &mut random);
    });
}
