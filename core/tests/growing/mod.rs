//! Structures that a guest can fill, and what it does with a full one.
#![allow(dead_code, reason = "each binary uses a part")]

mod memory;
mod names;
mod objects;
mod processes;

use varve_core::boot::{Layer, Tree};
use varve_core::machine::{ImageId, ThreadId};
use varve_core::memhost::{BARE_ADDR, Machine, MemHost, bare, empty_root};

/// Places for names, structures and results.
pub const NAME: u64 = BARE_ADDR + 0x4000;
pub const OTHER: u64 = BARE_ADDR + 0x6000;
pub const OUT: u64 = BARE_ADDR + 0x8000;
pub const DATA: u64 = BARE_ADDR;
pub const BULK: u64 = BARE_ADDR + 0x10000;
pub const PAGE: u64 = 4096;
/// Bytes of the file `/big` in the layer.
pub const BIG: u64 = 16 << 20;

/// A structure that a guest can fill.
pub struct Growing {
    pub name: &'static str,
    /// How many there are to be at first.
    pub few: u64,
    pub setup: fn(&mut World),
    /// Makes the n-th one.
    pub grow: fn(&mut World, u64),
    /// Does something with one of them or adds one, for the n-th time, and leaves about as many.
    pub step: fn(&mut World, u64),
}

/// A machine with a guest that fills a structure.
pub struct World {
    pub m: Machine,
    pub thread: ThreadId,
    pub fd: u64,
    pub fds: Vec<u64>,
    /// Other threads that the guest has made.
    pub others: Vec<ThreadId>,
    uses: u64,
}

/// An image of a layer with `/big`.
pub fn layer() -> Vec<u8> {
    let work = tempfile::tempdir().expect("a directory");
    let tree = work.path().join("tree");
    std::fs::create_dir(&tree).expect("a directory");
    std::fs::write(tree.join("big"), vec![b'b'; BIG as usize]).expect("writes");
    let image = work.path().join("layer.img");
    let options = varve_image::BuildOptions::default();
    varve_image::build_dir(&tree, &image, &options, &mut ()).expect("builds");
    std::fs::read(&image).expect("reads")
}

impl World {
    /// Over an empty root, or over a layer.
    pub fn boot(layer: Option<Vec<u8>>) -> World {
        let layers = layer.iter().map(|_| Layer::Image(ImageId(0))).collect();
        let root = Tree {
            layers,
            ..empty_root()
        };
        let mut config = bare(root);
        config.capabilities = (1 << 41) - 1;
        let host = MemHost::new(1 << 17, layer.into_iter().collect());
        let m = Machine::boot(config, host).expect("it boots");
        let thread = m.first();
        let (fd, fds, others) = (0, Vec::new(), Vec::new());
        let mut world = World {
            m,
            thread,
            fd,
            fds,
            others,
            uses: 0,
        };
        // RLIMIT_NOFILE.
        world.words(DATA, &[1 << 20, 1 << 20]);
        world.made(160, &[7, DATA]);
        world
    }

    /// A call of a thread; `None` if it waits.
    pub fn of(&mut self, thread: ThreadId, number: u64, args: &[u64]) -> Option<i64> {
        self.m.log.clear();
        self.m.call(thread, number, args)
    }

    /// A call of the guest that returns, perhaps after several pieces; its result.
    #[track_caller]
    pub fn call(&mut self, number: u64, args: &[u64]) -> i64 {
        let thread = self.thread;
        self.of(thread, number, args);
        while self.m.result(thread).is_none() {
            let at = self.m.deadline.expect("the call goes on");
            self.m.advance(at.saturating_sub(self.m.now.mono));
        }
        self.m.result(thread).expect("it has returned")
    }

    /// A call that succeeds.
    #[track_caller]
    pub fn made(&mut self, number: u64, args: &[u64]) -> u64 {
        let result = self.call(number, args);
        assert!(result >= 0, "{number}: {result}");
        result as u64
    }

    pub fn poke(&mut self, addr: u64, data: &[u8]) {
        self.m.poke(self.thread, addr, data).expect("memory");
    }

    pub fn words(&mut self, addr: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.poke(addr, &bytes);
    }

    /// A number that was not given before.
    pub fn unused(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// A name, another one for each number.
    pub fn name(&mut self, addr: u64, number: u64) {
        self.poke(addr, format!("n{number}\0").as_bytes());
    }

    pub fn path(&mut self, path: &str) {
        self.poke(NAME, format!("{path}\0").as_bytes());
    }

    /// The `index`-th 32-bit word of results.
    pub fn out(&mut self, index: u64) -> u64 {
        let bytes = self
            .m
            .peek(self.thread, OUT + 4 * index, 4)
            .expect("memory");
        u64::from(u32::from_le_bytes(bytes.try_into().expect("4 bytes")))
    }

    /// Opens a file.
    #[track_caller]
    pub fn open(&mut self, path: &str, flags: u64) -> u64 {
        self.path(path);
        self.made(2, &[NAME, flags, 0o644])
    }

    /// A child process: its number, its thread.
    #[track_caller]
    pub fn fork(&mut self) -> (u64, ThreadId) {
        let pid = self.made(57, &[]);
        (pid, self.newest())
    }

    pub fn newest(&self) -> ThreadId {
        *self.m.threads.keys().next_back().expect("a thread")
    }

    /// Waits for a child that has ended.
    #[track_caller]
    pub fn reap(&mut self, pid: u64) {
        assert_eq!(self.made(61, &[pid, 0, 0, 0]), pid);
    }
}

pub fn nothing(_: &mut World) {}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Growing> {
    let parts = [
        memory::GROWING,
        names::GROWING,
        objects::GROWING,
        processes::GROWING,
    ];
    parts.into_iter().flatten()
}
