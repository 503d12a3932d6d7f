//! Random guests: calls out of the table with arguments of the right and of the wrong kind, and things that
//! happen around them.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod shape;

use std::cell::RefCell;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use varve_core::abi::TASK_SIZE;
use varve_core::boot::{BootConfig, Layer, Strace, Tree};
use varve_core::event::{ClockParameters, Input};
use varve_core::machine::{Access, Exception, ImageId, ThreadId, Trap};
use varve_core::memhost::{BARE_ADDR, BARE_LEN, Machine, MemHost, bare};
use varve_core::syscall::args::ArgKind;
use varve_core::syscall::{Entry, Support, TABLE};

const FORK: u64 = 57;
/// Most threads that the guest is given; it may make more by itself.
const THREADS: usize = 4;
const FRAMES: u32 = 4096;
/// Outputs of one input at most: a page operation for each frame, and room for what ends with a process.
pub const OUTPUTS_MAX: usize = 3 * FRAMES as usize;
/// Slots of this size hold paths, strings and structures.
pub const SLOT: u64 = 0x100;
/// Slots for structures and data.
pub const DATA: (u64, u64) = (128, 512);
pub const PATHS: &[&str] = &[
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
    "/tmp",
    "/bin/program",
    "/tmp/socket",
    "/dev/shm",
    "/dev/tty",
    "/proc/self/ns/mnt",
    "/proc/self/ns/user",
    "/proc/self/ns/pid",
    "/proc/self/uid_map",
    "/proc/self/gid_map",
    "/proc/self/setgroups",
    "/proc/self/mountinfo",
    "/proc/self/fdinfo/4",
    "/proc/self/fd/5",
    "/proc/self/mem",
    "/proc/self/comm",
    "/proc/self/environ",
    "/proc/self/oom_score_adj",
    "/proc/self/task",
    "/proc/1/stat",
    "/proc/2/smaps",
    "/proc/sys/kernel/hostname",
    "/proc/meminfo",
    "/sys/fs/cgroup",
    "/sys",
    "/proc",
];
/// Strings that are no paths, in the slots behind those of paths.
pub const STRINGS: &[&str] = &[
    "tmpfs",
    "proc",
    "sysfs",
    "cgroup2",
    "overlay",
    "size=1m",
    "mode=700,nr_inodes=9",
    "hidepid=2",
    "user.name",
    "security.capability",
    "none",
    "0 0 1\n",
    "deny",
    "source",
    "ro",
    "size",
];
const STRINGS_AT: u64 = 64;

/// A source of numbers. Behind a cell, so that one draw can be an argument of another.
pub struct Random(RefCell<Numbers>);

enum Numbers {
    Seeded(Box<ChaCha8Rng>),
    /// The bytes of a fuzzer's input, and how many are used up.
    Bytes(Vec<u8>, usize),
}

impl Numbers {
    /// A number of `len` bytes; zeros come after the end of an input.
    fn next(&mut self, len: usize) -> u64 {
        match self {
            Numbers::Seeded(numbers) => numbers.next_u64(),
            Numbers::Bytes(bytes, used) => {
                let mut number = [0; 8];
                let rest = &bytes[(*used).min(bytes.len())..];
                let len = len.min(rest.len());
                number[..len].copy_from_slice(&rest[..len]);
                // Also when there is none left, so that the end shows.
                *used += len.max(1);
                u64::from_le_bytes(number)
            }
        }
    }
}

impl Random {
    pub fn new(seed: u64) -> Random {
        let numbers = ChaCha8Rng::seed_from_u64(seed);
        Random(RefCell::new(Numbers::Seeded(Box::new(numbers))))
    }

    /// Numbers out of an input: each takes as many bytes as its range needs, so that a changed byte changes
    /// one choice.
    pub fn from_bytes(bytes: &[u8]) -> Random {
        Random(RefCell::new(Numbers::Bytes(bytes.to_vec(), 0)))
    }

    /// Whether the input has been used up; numbers of a seed never are.
    pub fn is_used_up(&self) -> bool {
        match &*self.0.borrow() {
            Numbers::Seeded(_) => false,
            Numbers::Bytes(bytes, used) => *used > bytes.len(),
        }
    }

    pub fn below(&self, end: u64) -> u64 {
        let bits = u64::BITS - (end - 1).leading_zeros();
        self.0.borrow_mut().next(bits.div_ceil(8) as usize) % end
    }

    pub fn chance(&self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn slot(&self, (first, count): (u64, u64)) -> u64 {
        BARE_ADDR + (first + self.below(count)) * SLOT
    }

    /// Where a structure is: a slot, but now and then at an odd address, or so that it lies on the border of
    /// two pages.
    pub fn place(&self) -> u64 {
        let slot = self.slot(DATA);
        match self.below(24) {
            0 => slot + 1 + self.below(8),
            1 => (slot | 0xfff) - self.below(32),
            _ => slot,
        }
    }

    /// An address that no structure was put at: odd ones, the end of memory and what lies behind, the top of
    /// user addresses and the kernel's, and what other arguments point to.
    fn strange_address(&self, addr: u64, others: &[u64]) -> u64 {
        let near = self.below(24);
        match self.below(12) {
            0..3 => addr.wrapping_add(1 + self.below(7)),
            3 => (addr | 0xfff).wrapping_sub(near),
            4 => BARE_ADDR + BARE_LEN - near,
            5 => BARE_ADDR + BARE_LEN + near,
            6 => TASK_SIZE - near,
            7 => 0xffff_8000_0000_0000 | near,
            8 => u64::MAX - near,
            9 => near,
            _ => match others.is_empty() {
                true => addr ^ near,
                false => self.pick(others).wrapping_add(near & 8),
            },
        }
    }

    /// Puts strange addresses in the place of some.
    fn twist(&self, entry: &Entry, args: &mut [u64]) {
        let points = |kind: ArgKind| {
            matches!(
                kind,
                ArgKind::InBuf
                    | ArgKind::OutBuf
                    | ArgKind::Addr
                    | ArgKind::StrVec
                    | ArgKind::Path
                    | ArgKind::Str
            )
        };
        for index in 0..args.len() {
            if points(entry.params[index].kind) && self.chance(10) {
                let others: Vec<u64> = (0..args.len())
                    .filter(|&other| other != index && points(entry.params[other].kind))
                    .map(|other| args[other])
                    .collect();
                args[index] = self.strange_address(args[index], &others);
            }
        }
    }

    pub fn path(&self) -> u64 {
        self.slot((0, PATHS.len() as u64))
    }

    pub fn string(&self) -> u64 {
        self.slot((STRINGS_AT, STRINGS.len() as u64))
    }

    pub fn fd(&self) -> u64 {
        self.below(24)
    }

    /// A number with many special ones among them.
    pub fn number(&self) -> u64 {
        match self.below(8) {
            0..4 => self.below(16),
            4 => 1 << self.below(64),
            5 => (self.below(64) as i64 - 32) as u64,
            6 => self.below(1 << 20),
            _ => self.0.borrow_mut().next(8),
        }
    }

    fn argument(&self, kind: ArgKind) -> u64 {
        if self.chance(20) {
            return self.number();
        }
        match kind {
            ArgKind::Fd => self.fd(),
            ArgKind::DirFd => match self.chance(3) {
                true => self.fd(),
                false => -100i64 as u64,
            },
            ArgKind::Path => self.path(),
            ArgKind::Str => match self.chance(2) {
                true => self.path(),
                false => self.string(),
            },
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
                    _ => self.place(),
                }
            }
            ArgKind::OpenFlags => {
                self.pick(&[0, 1, 2, 0o100, 0o200000, 0o2000000])
                    | self.pick(&[0, 2, 0o102, 0o1000, 0o2000, 0o4000, 0o400000, 0o4002])
            }
            ArgKind::Mode => self.pick(&[
                0, 0o644, 0o755, 0o600, 0o111, 0o7777, 0o100644, 0o010644, 0o040755, 0o140600,
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
    fn structure(&self) -> Vec<u8> {
        let words = 1 + self.below(SLOT / 8);
        let word = || match self.below(4) {
            0 if self.chance(8) => self.strange_address(self.slot(DATA), &[]),
            0 => self.slot((0, DATA.0 + DATA.1)),
            1 => self.number(),
            _ => self.below(8),
        };
        (0..words).flat_map(|_| word().to_le_bytes()).collect()
    }
}

/// A program whose memory is that of a bare guest, with the paths and strings in it: a guest that executes it
/// goes on as before.
fn program() -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    image[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    image[20] = 1;
    let mut put = |at: usize, value: u64, len: usize| {
        image[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(24, BARE_ADDR, 8); // e_entry
    put(32, 64, 8); // e_phoff
    put(52, 64, 2); // e_ehsize
    put(54, 56, 2); // e_phentsize
    put(56, 1, 2); // e_phnum
    put(64, 1, 4); // PT_LOAD
    put(68, 7, 4); // all rights
    put(72, 0x1000, 8); // p_offset
    put(80, BARE_ADDR, 8);
    put(88, BARE_ADDR, 8);
    put(96, DATA.0 * SLOT, 8); // p_filesz
    put(104, BARE_LEN, 8);
    put(112, 0x1000, 8);
    image.extend(texts());
    image
}

/// What the slots before those of structures hold.
fn texts() -> Vec<u8> {
    let mut bytes = vec![0; (DATA.0 * SLOT) as usize];
    let paths = PATHS.iter().enumerate();
    let strings = STRINGS.iter().enumerate();
    let strings = strings.map(|(index, text)| (index + STRINGS_AT as usize, text));
    for (index, text) in paths.chain(strings) {
        let at = index * SLOT as usize;
        bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    bytes
}

/// Two layers: a tree, and changes to it.
pub fn layers() -> Vec<Vec<u8>> {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let build = |fill: &dyn Fn(&std::path::Path)| {
        let work = tempfile::tempdir().expect("a directory");
        let tree = work.path().join("tree");
        std::fs::create_dir(&tree).expect("a directory");
        fill(&tree);
        let image = work.path().join("layer.img");
        let options = varve_image::BuildOptions::default();
        varve_image::build_dir(&tree, &image, &options, &mut ()).expect("builds");
        std::fs::read(&image).expect("reads")
    };
    let lower = build(&|tree| {
        for dir in ["bin", "data", "data/dir", "tmp"] {
            std::fs::create_dir(tree.join(dir)).expect("creates");
        }
        std::fs::write(tree.join("bin/tool"), b"#!/bin/none\n").expect("writes");
        let path = tree.join("bin/program");
        std::fs::write(&path, program()).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("sets");
        std::fs::write(tree.join("data/a"), vec![b'a'; 10_000]).expect("writes");
        std::fs::write(tree.join("data/gone"), b"gone").expect("writes");
        std::fs::write(tree.join("data/dir/deep"), b"deep").expect("writes");
        symlink("dir/deep", tree.join("data/link")).expect("links");
        symlink("loop", tree.join("data/loop")).expect("links");
        std::fs::hard_link(tree.join("data/a"), tree.join("data/b")).expect("links");
    });
    let upper = build(&|tree| {
        std::fs::create_dir_all(tree.join("data/dir")).expect("creates");
        std::fs::write(tree.join("data/.wh.gone"), b"").expect("writes");
        std::fs::write(tree.join("data/dir/more"), b"more").expect("writes");
    });
    vec![lower, upper]
}

/// A machine over these layers, with or without a limit of memory.
pub fn machine(images: &[Vec<u8>], random: &Random) -> Machine {
    let root = Tree {
        layers: (0..images.len() as u32)
            .map(|number| Layer::Image(ImageId(number)))
            .collect(),
        read_only: false,
        upper_limit: Some(4 << 20),
        index: None,
    };
    let config = BootConfig {
        memory_limit: random.pick(&[None, None, Some(8 << 20), Some(2 << 20)]),
        cpus: random.pick(&[1, 2, 8]),
        vdso: random.chance(2),
        // What programs hand over is also shown.
        strace: random.chance(3).then(Strace::default),
        ..bare(root)
    };
    Machine::boot(config, MemHost::new(FRAMES, images.to_vec())).expect("it boots")
}

/// Fills a guest's slots.
pub fn furnish(machine: &mut Machine) {
    let first = machine.first();
    poke(machine, first, BARE_ADDR, &texts());
}

fn poke(machine: &mut Machine, thread: ThreadId, addr: u64, data: &[u8]) {
    // A thread whose memory is unmapped by now has nothing to be written to; the attempt is repeated all the
    // same.
    let _ = machine.poke(thread, addr, data);
}

fn trap(random: &Random) -> Trap {
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

/// One step of the guest or of the world; gives the call that was made, if one was.
pub fn step(machine: &mut Machine, random: &Random) -> Option<&'static Entry> {
    machine.write_limit = random.pick(&[usize::MAX, usize::MAX, 100, 5000]);
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
        return None;
    }
    let thread = random.pick(&running);
    if random.chance(3) {
        let (addr, data) = (random.slot(DATA), random.structure());
        poke(machine, thread, addr, &data);
    }
    // The first process lives on, and makes others that need not.
    let expendable = machine
        .threads
        .get(&ThreadId(0))
        .is_some_and(|first| machine.threads[&thread].space != first.space);
    if machine.threads.len() < THREADS && random.chance(8) {
        machine.call(thread, FORK, &[]);
        return None;
    }
    if expendable && random.chance(16) {
        let regs = machine.threads[&thread].regs;
        let trap = trap(random);
        machine.trap(thread, regs, trap);
        return None;
    }
    let entry = pick_call(random, expendable);
    let mut args: Vec<u64> = entry
        .params
        .iter()
        .map(|param| random.argument(param.kind))
        .collect();
    if !random.chance(6) {
        for (addr, data) in shape::shape(random, machine, thread, entry.name, &mut args) {
            poke(machine, thread, addr, &data);
        }
    }
    random.twist(entry, &mut args);
    let number = if random.chance(100) {
        random.below(600)
    } else {
        entry.number
    };
    // Where signal frames fit, whatever became of the stack.
    if let Some(state) = machine.threads.get_mut(&thread)
        && !random.chance(50)
    {
        state.regs.rsp = BARE_ADDR + BARE_LEN - 0x1000;
    }
    machine.call(thread, number, &args);
    Some(entry)
}

/// A call; those that end a process only in one that may end.
fn pick_call(random: &Random, expendable: bool) -> &'static Entry {
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
        "pidfd_send_signal",
    ];
    // What takes its memory or its rights from a process leaves little to test.
    const RUINS: &[&str] = &[
        "munmap",
        "mprotect",
        "pkey_mprotect",
        "mseal",
        "mremap",
        "remap_file_pages",
        "mmap",
        "brk",
        "madvise",
        "process_madvise",
        "setuid",
        "setresuid",
        "setreuid",
        "setfsuid",
        "capset",
        "chroot",
        "pivot_root",
        "unshare",
        "setns",
        "seccomp",
        "prctl",
        "prlimit64",
        "setrlimit",
        "rt_sigreturn",
        "pause",
        "rt_sigsuspend",
        "alarm",
        "setitimer",
        "timer_create",
        "close_range",
    ];
    loop {
        let entry = &TABLE[random.below(TABLE.len() as u64) as usize];
        let rare = ENDS.contains(&entry.name) || RUINS.contains(&entry.name);
        let there = !matches!(entry.support, Support::Missing(_));
        if there && (!rare || expendable && random.chance(3)) {
            return entry;
        }
    }
}
