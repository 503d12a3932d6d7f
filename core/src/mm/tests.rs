//! Random sequences of memory calls, touches and forks against a model that keeps one value for each page.
//!
//! The machine plays the host: a touch goes through the page it has mapped or traps until it has one. After
//! every step what the host has mapped must never give more than the model allows.

extern crate std;

mod alone;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use std::println;

use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::boot::{Layer, Tree};
use crate::fs::union::tests::tree::{MemTree, Random};
use crate::kernel::check_memory::check;
use crate::machine::{Access, Backing, Prot, SpaceId, ThreadId, Trap};
use crate::memhost::{BARE_ADDR, BARE_LEN, Machine, bare};
use crate::port::Memory;

/// The window of addresses that steps work in.
const BASE: u64 = 0x4000_0000;
const PAGES: u64 = 64;
/// Where the handler of all signals is said to be.
const HANDLER: u64 = 0x1234_5000;
const ARGS: u64 = BARE_ADDR;
const STACK: u64 = BARE_ADDR + BARE_LEN;
/// Pages of the files: one that is made, one of a layer.
const FILES: [(&[u8], u64); 2] = [(b"/made\0", 24), (b"/lib\0", 13)];
const RW: u64 = 3;

/// What a page of a process shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    /// A page of its own that begins with this word.
    Own(u64),
    /// A page of an object.
    Object {
        object: usize,
        index: u64,
        shared: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Page {
    prot: u64,
    value: Value,
    /// What it was when it was mapped: where MADV_DONTNEED brings it back to.
    origin: Value,
}

#[derive(Clone, Debug)]
struct Process {
    thread: ThreadId,
    pages: BTreeMap<u64, Page>,
}

struct Test {
    machine: Machine<MemTree>,
    random: Random,
    processes: Vec<Process>,
    /// First words of the pages of files and shared memory.
    objects: Vec<Vec<u64>>,
    serial: u64,
    last: u64,
}

/// What a touch comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    Signal { signal: u32, code: u32 },
}

impl Test {
    fn new(seed: u64) -> Test {
        let mut tree = MemTree::default();
        let root = tree.add(g::S_IFDIR | 0o755, Vec::new());
        tree.roots.push(root);
        let words: Vec<u64> = (0..FILES[1].1).map(|page| 0x11b0_0000 + page).collect();
        let mut data = Vec::new();
        for word in &words {
            data.extend_from_slice(&word.to_le_bytes());
            data.resize(data.len() + PAGE_SIZE as usize - 8, 0x5a);
        }
        // The last page is not whole.
        data.truncate(data.len() - 1000);
        let lib = tree.add(g::S_IFREG | 0o755, data);
        tree.files[root].children.insert(b"lib".to_vec(), lib);
        let config = bare(Tree {
            layers: vec![Layer::Host(0)],
            read_only: false,
            upper_limit: None,
            index: None,
        });
        let mut machine = Machine::boot(config, tree.host(8192)).unwrap();
        let first = machine.first();
        machine.host.memory.flushed = Some(1);
        let mut test = Test {
            machine,
            random: Random(seed),
            processes: vec![Process {
                thread: first,
                pages: BTreeMap::new(),
            }],
            objects: vec![vec![0; FILES[0].1 as usize], words],
            serial: 1,
            last: 0,
        };
        let mut action = [0; 32];
        action[..8].copy_from_slice(&HANDLER.to_le_bytes());
        let flags = u64::from(g::SA_SIGINFO | g::SA_NODEFER | 0x0400_0000);
        action[8..16].copy_from_slice(&flags.to_le_bytes());
        action[16..24].copy_from_slice(&HANDLER.to_le_bytes());
        test.machine.poke(first, ARGS, &action).unwrap();
        for signal in [g::SIGSEGV, g::SIGBUS] {
            assert_eq!(
                test.call(0, g::__NR_rt_sigaction, &[signal.into(), ARGS, 0, 8]),
                0
            );
        }
        for (fd, (name, pages)) in FILES.into_iter().enumerate() {
            test.machine.poke(first, ARGS, name).unwrap();
            let flags = u64::from(g::O_RDWR | g::O_CREAT);
            assert_eq!(
                test.call(0, g::__NR_open, &[ARGS, flags, 0o644]),
                3 + fd as i64
            );
            if fd == 0 {
                assert_eq!(test.call(0, g::__NR_ftruncate, &[3, pages * PAGE_SIZE]), 0);
            }
        }
        test
    }

    fn call(&mut self, process: usize, number: u32, args: &[u64]) -> i64 {
        let thread = self.processes[process].thread;
        self.machine
            .call(thread, number.into(), args)
            .expect("memory calls do not block")
    }

    fn space(&self, process: usize) -> SpaceId {
        self.machine.threads[&self.processes[process].thread].space
    }

    fn fresh_word(&mut self) -> u64 {
        self.serial += 1;
        self.serial << 32 | self.random.below(1 << 31)
    }

    /// What a touch of a page must come to.
    fn expected(&self, process: usize, page: u64, access: Access) -> Outcome {
        let Some(entry) = self.processes[process].pages.get(&page) else {
            return Outcome::Signal {
                signal: g::SIGSEGV,
                code: g::SEGV_MAPERR,
            };
        };
        let needed = match access {
            Access::Read => 7,
            Access::Write => 2,
            Access::Execute => 4,
        };
        if entry.prot & needed == 0 {
            return Outcome::Signal {
                signal: g::SIGSEGV,
                code: g::SEGV_ACCERR,
            };
        }
        match entry.value {
            Value::Object { object, index, .. } if index >= self.objects[object].len() as u64 => {
                Outcome::Signal {
                    signal: g::SIGBUS,
                    code: g::BUS_ADRERR,
                }
            }
            _ => Outcome::Done,
        }
    }

    fn word(&self, process: usize, page: u64) -> u64 {
        match self.processes[process].pages[&page].value {
            Value::Own(word) => word,
            Value::Object { object, index, .. } => self.objects[object][index as usize],
        }
    }

    /// Notes a store of the program or of the kernel.
    fn store(&mut self, process: usize, page: u64, word: u64) {
        let entry = self.processes[process].pages.get_mut(&page).unwrap();
        match entry.value {
            Value::Object {
                object,
                index,
                shared: true,
            } => {
                self.objects[object][index as usize] = word;
            }
            _ => entry.value = Value::Own(word),
        }
    }

    /// First word of what the host would show at a backing.
    fn backing_word(&self, backing: Backing) -> u64 {
        let mut word = [0; 8];
        match backing {
            Backing::Memory(frame) => self.machine.host.memory.read(frame.offset(), &mut word),
            Backing::Image { image, offset } => {
                let bytes = &self.machine.host.images.0[image.0 as usize].bytes;
                word.copy_from_slice(&bytes[offset as usize..][..8]);
            }
        }
        u64::from_le_bytes(word)
    }

    /// The program touches a page.
    fn touch(&mut self, process: usize, page: u64, access: Access) {
        let thread = self.processes[process].thread;
        let space = self.space(process);
        let told = self.random.chance(50).then_some(access);
        let expected = match self.expected(process, page, access) {
            // What the kernel does not know to be a store meets the end of the file first.
            Outcome::Signal {
                code: g::SEGV_ACCERR,
                ..
            } if told.is_none()
                && matches!(
                    self.expected(process, page, Access::Read),
                    Outcome::Signal {
                        signal: g::SIGBUS,
                        ..
                    }
                ) =>
            {
                Outcome::Signal {
                    signal: g::SIGBUS,
                    code: g::BUS_ADRERR,
                }
            }
            expected => expected,
        };
        let addr = page * PAGE_SIZE;
        let before = self.machine.threads[&thread].regs;
        let needed = match access {
            Access::Read => Prot::all(),
            Access::Write => Prot::WRITE,
            Access::Execute => Prot::EXEC,
        };
        // A host that knows what an access wants may drop what it has mapped at any time.
        if told.is_some() && self.random.chance(15) {
            self.machine.pages.remove(&(space, addr));
        }
        for _ in 0..5 {
            if let Some(&(backing, prot)) = self.machine.pages.get(&(space, addr))
                && prot.intersects(needed)
            {
                assert_eq!(
                    expected,
                    Outcome::Done,
                    "{access:?} of {page:#x} went through"
                );
                assert_eq!(
                    self.backing_word(backing),
                    self.word(process, page),
                    "{page:#x} reads"
                );
                if access == Access::Write {
                    let Backing::Memory(frame) = backing else {
                        panic!("an image is mapped for writing");
                    };
                    let word = self.fresh_word();
                    self.machine
                        .host
                        .memory
                        .write(frame.offset(), &word.to_le_bytes());
                    self.store(process, page, word);
                }
                return;
            }
            let mut regs = before;
            regs.rsp = STACK;
            regs.rip = 0x1000;
            self.machine.trap(
                thread,
                regs,
                Trap::Fault {
                    addr: addr + 8,
                    access: told,
                },
            );
            let now = self.machine.threads[&thread].regs;
            if now.rip == HANDLER {
                let info = self.machine.peek(thread, now.rsi, 24).unwrap();
                let int = |at: usize| u32::from_le_bytes(info[at..at + 4].try_into().unwrap());
                let found = Outcome::Signal {
                    signal: int(0),
                    code: int(8),
                };
                assert_eq!(found, expected, "{access:?} of {page:#x}");
                assert_eq!(info[16..24], (addr + 8).to_le_bytes());
                self.machine.threads.get_mut(&thread).unwrap().regs = before;
                return;
            }
        }
        panic!("{access:?} of {page:#x} faults for ever, expected {expected:?}");
    }

    /// The kernel reads or writes a page for the program.
    fn kernel_touch(&mut self, process: usize, page: u64, write: bool) {
        let access = if write { Access::Write } else { Access::Read };
        let expected = self.expected(process, page, access);
        let thread = self.processes[process].thread;
        let addr = page * PAGE_SIZE;
        if write {
            let word = self.fresh_word();
            let result = self.machine.poke(thread, addr, &word.to_le_bytes());
            assert_eq!(
                result.is_ok(),
                expected == Outcome::Done,
                "{page:#x}: {result:?}"
            );
            if result.is_ok() {
                self.store(process, page, word);
            }
        } else {
            match self.machine.peek(thread, addr, 8) {
                Ok(bytes) => {
                    assert_eq!(expected, Outcome::Done);
                    assert_eq!(bytes, self.word(process, page).to_le_bytes(), "{page:#x}");
                }
                Err(errno) => {
                    assert_eq!(errno, Errno::EFAULT);
                    assert_ne!(expected, Outcome::Done, "{page:#x}");
                }
            }
        }
    }

    fn range(&mut self) -> (u64, u64) {
        let first = self.random.below(PAGES);
        let count = 1 + self.random.below((PAGES - first).min(12));
        (BASE / PAGE_SIZE + first, count)
    }

    fn prot(&mut self) -> u64 {
        *self.random.pick(&[0, 1, RW, RW, RW, 5, 7])
    }

    fn map(&mut self, process: usize) {
        let (first, count) = self.range();
        let prot = self.prot();
        let shared = self.random.chance(30);
        let kind = if shared {
            g::MAP_SHARED
        } else {
            g::MAP_PRIVATE
        };
        let flags = u64::from(kind | g::MAP_FIXED);
        let args = [first * PAGE_SIZE, count * PAGE_SIZE, prot];
        let value: Vec<Value> = if self.random.chance(50) {
            let flags = flags | u64::from(g::MAP_ANONYMOUS);
            let args = [args[0], args[1], prot, flags, u64::MAX, 0];
            assert_eq!(self.call(process, g::__NR_mmap, &args) as u64, args[0]);
            if shared {
                self.objects.push(vec![0; count as usize]);
            }
            let object = self.objects.len() - 1;
            (0..count)
                .map(|index| match shared {
                    true => Value::Object {
                        object,
                        index,
                        shared,
                    },
                    false => Value::Own(0),
                })
                .collect()
        } else {
            let object = self.random.below(2) as usize;
            let index = self.random.below(FILES[object].1);
            let args = [
                args[0],
                args[1],
                prot,
                flags,
                3 + object as u64,
                index * PAGE_SIZE,
            ];
            assert_eq!(self.call(process, g::__NR_mmap, &args) as u64, args[0]);
            (index..index + count)
                .map(|index| Value::Object {
                    object,
                    index,
                    shared,
                })
                .collect()
        };
        for (page, value) in (first..).zip(value) {
            let page_value = Page {
                prot,
                value,
                origin: value,
            };
            self.processes[process].pages.insert(page, page_value);
        }
    }

    fn unmap(&mut self, process: usize) {
        let (first, count) = self.range();
        let args = [first * PAGE_SIZE, count * PAGE_SIZE];
        assert_eq!(self.call(process, g::__NR_munmap, &args), 0);
        self.processes[process]
            .pages
            .retain(|page, _| !(first..first + count).contains(page));
    }

    fn protect(&mut self, process: usize) {
        let (first, count) = self.range();
        let prot = self.prot();
        let result = self.call(
            process,
            g::__NR_mprotect,
            &[first * PAGE_SIZE, count * PAGE_SIZE, prot],
        );
        for page in first..first + count {
            let Some(entry) = self.processes[process].pages.get_mut(&page) else {
                assert_eq!(result, -i64::from(Errno::ENOMEM.number()));
                return;
            };
            entry.prot = prot;
        }
        assert_eq!(result, 0);
    }

    fn dont_need(&mut self, process: usize) {
        let (first, count) = self.range();
        let advice = u64::from(g::MADV_DONTNEED);
        let result = self.call(
            process,
            g::__NR_madvise,
            &[first * PAGE_SIZE, count * PAGE_SIZE, advice],
        );
        let mut hole = false;
        for page in first..first + count {
            match self.processes[process].pages.get_mut(&page) {
                Some(entry) => entry.value = entry.origin,
                None => hole = true,
            }
        }
        assert_eq!(
            result,
            if hole {
                -i64::from(Errno::ENOMEM.number())
            } else {
                0
            }
        );
    }

    /// Whether two neighbouring pages lie in one area.
    fn joined(&self, process: usize, page: u64) -> bool {
        let pages = &self.processes[process].pages;
        let (Some(a), Some(b)) = (pages.get(&page), pages.get(&(page + 1))) else {
            return false;
        };
        let origin = match (a.origin, b.origin) {
            (Value::Own(_), Value::Own(_)) => true,
            (
                Value::Object {
                    object,
                    index,
                    shared,
                },
                Value::Object {
                    object: object2,
                    index: index2,
                    shared: shared2,
                },
            ) => object == object2 && index + 1 == index2 && shared == shared2,
            _ => false,
        };
        origin && a.prot == b.prot
    }

    fn remap(&mut self, process: usize) {
        let (from, old) = self.range();
        let (to, new) = self.range();
        let fixed = self.random.chance(50);
        let flags = if fixed {
            u64::from(g::MREMAP_MAYMOVE | g::MREMAP_FIXED)
        } else {
            0
        };
        let args = [
            from * PAGE_SIZE,
            old * PAGE_SIZE,
            new * PAGE_SIZE,
            flags,
            to * PAGE_SIZE,
        ];
        let result = self.call(process, g::__NR_mremap, &args);
        let error = |errno: Errno| -i64::from(errno.number());
        if fixed && to < from + old && from < to + new {
            // Newer kernels look at the overlap before they look for the area.
            assert!([error(Errno::EINVAL), error(Errno::EFAULT)].contains(&result));
            return;
        }
        let pages = &self.processes[process].pages;
        let held = |page: u64| pages.contains_key(&page);
        let one_area = held(from) && (from..from + old - 1).all(|page| self.joined(process, page));
        if !fixed && new <= old {
            // Shrinking is unmapping: areas do not matter, except that there must be one.
            if !held(from) {
                assert_eq!(result, error(Errno::EFAULT));
                return;
            }
            assert_eq!(result as u64, from * PAGE_SIZE);
            self.processes[process]
                .pages
                .retain(|page, _| !(from + new..from + old).contains(page));
            return;
        }
        let shrunk_ok = fixed
            && new < old
            && held(from)
            && (from..from + new - 1).all(|page| self.joined(process, page));
        if !one_area && !shrunk_ok {
            assert_eq!(result, error(Errno::EFAULT));
            // As in Linux a fixed target and what is cut off may be gone by then.
            if fixed {
                self.resync(process, to, new);
                self.resync(process, from + new.min(old), old.saturating_sub(new));
            }
            return;
        }
        if !fixed {
            let ends = !self.joined(process, from + old - 1);
            let free = (from + old..from + new).all(|page| !held(page));
            if !(ends && free && one_area) {
                assert_eq!(result, error(Errno::ENOMEM));
                return;
            }
        }
        let target = if fixed { to } else { from };
        assert_eq!(
            result as u64,
            target * PAGE_SIZE,
            "{args:x?} {:x?}",
            self.machine.kernel.mm.space(self.space(process)).vmas
        );
        let pages = &mut self.processes[process].pages;
        let moved: Vec<Page> = (from..from + old.min(new))
            .map(|page| pages[&page])
            .collect();
        let last = pages[&(from + old.min(new) - 1)];
        pages.retain(|page, _| !(from..from + old).contains(page));
        if fixed {
            pages.retain(|page, _| !(to..to + new).contains(page));
        }
        for index in 0..new {
            let page = moved.get(index as usize).copied().unwrap_or_else(|| {
                let beyond = index - (old - 1);
                let origin = match last.origin {
                    Value::Object {
                        object,
                        index,
                        shared,
                    } => Value::Object {
                        object,
                        index: index + beyond,
                        shared,
                    },
                    Value::Own(_) => Value::Own(0),
                };
                Page {
                    value: origin,
                    origin,
                    ..last
                }
            });
            pages.insert(target + index, page);
        }
    }

    /// A failed mremap(2) may have unmapped its target: the model follows.
    fn resync(&mut self, process: usize, to: u64, count: u64) {
        for page in to..to + count {
            let space = self.machine.kernel.mm.space(self.space(process));
            if space.find(page * PAGE_SIZE).is_none() {
                self.processes[process].pages.remove(&page);
            }
        }
    }

    fn fork(&mut self, process: usize) {
        let known: Vec<ThreadId> = self.machine.threads.keys().copied().collect();
        assert!(self.call(process, g::__NR_fork, &[]) > 0);
        let new = self.machine.threads.keys().find(|id| !known.contains(id));
        let thread = *new.expect("a child was started");
        let pages = self.processes[process].pages.clone();
        self.processes.push(Process { thread, pages });
    }

    fn exit(&mut self, process: usize) {
        let thread = self.processes[process].thread;
        assert_eq!(
            self.machine.call(thread, g::__NR_exit_group.into(), &[0]),
            None
        );
        self.processes.remove(process);
    }

    /// The host has no room for another mapping: it is left with none, and nothing else changes.
    fn crowd(&mut self, process: usize) {
        let (thread, space) = (self.processes[process].thread, self.space(process));
        let regs = self.machine.threads[&thread].regs;
        self.machine.trap(thread, regs, Trap::Crowded);
        assert!(!self.machine.pages.keys().any(|&(owner, _)| owner == space));
        assert_eq!(self.machine.threads[&thread].regs, regs);
        assert!(self.machine.threads[&thread].runs);
    }

    fn resize(&mut self) {
        let pages = self.random.below(FILES[0].1 + 8);
        assert_eq!(self.call(0, g::__NR_ftruncate, &[3, pages * PAGE_SIZE]), 0);
        self.objects[0].resize(pages as usize, 0);
        // Private copies of what was cut off are gone as well.
        let entries = self.processes.iter_mut();
        for entry in entries.flat_map(|process| process.pages.values_mut()) {
            if let Value::Object {
                object: 0, index, ..
            } = entry.origin
                && index >= pages
            {
                entry.value = entry.origin;
            }
        }
    }

    /// The program writes a file with pwrite(2).
    fn write_file(&mut self, process: usize) {
        let object = self.random.below(2) as usize;
        let page = self.random.below(FILES[object].1);
        let word = self.fresh_word();
        let thread = self.processes[process].thread;
        self.machine
            .poke(thread, ARGS, &word.to_le_bytes())
            .unwrap();
        let args = [3 + object as u64, ARGS, 8, page * PAGE_SIZE];
        assert_eq!(self.call(process, g::__NR_pwrite64, &args), 8);
        let object = &mut self.objects[object];
        if object.len() <= page as usize {
            object.resize(page as usize + 1, 0);
        }
        object[page as usize] = word;
    }

    fn step(&mut self) {
        let process = self.random.below(self.processes.len() as u64) as usize;
        // Guests run on for a while with what was taken from them; the machine watches that nobody else gets
        // it.
        if self.random.chance(20) {
            let batches = self.machine.batch() + 1;
            let late = self.random.below(10);
            let flushed = &mut self.machine.host.memory.flushed;
            *flushed = (*flushed).max(Some(batches.saturating_sub(late)));
        }
        if self.random.chance(3) {
            self.crowd(process);
        }
        self.last = self.random.below(100);
        match self.last {
            0..15 => self.map(process),
            15..20 => self.unmap(process),
            20..30 => self.protect(process),
            30..34 => self.dont_need(process),
            34..40 => self.remap(process),
            40..43 if self.processes.len() < 5 => self.fork(process),
            43..46 if process > 0 => self.exit(process),
            46..48 => self.resize(),
            48..53 => self.write_file(process),
            choice => {
                let page = BASE / PAGE_SIZE + self.random.below(PAGES);
                match choice % 10 {
                    0..4 => self.touch(process, page, Access::Write),
                    4..7 => self.touch(process, page, Access::Read),
                    7 => self.touch(process, page, Access::Execute),
                    8 => self.kernel_touch(process, page, true),
                    _ => self.kernel_touch(process, page, false),
                }
            }
        }
    }

    /// The host has nothing mapped that the model does not allow, or that differs from it.
    fn check(&mut self) {
        check(&self.machine.kernel).unwrap();
        for process in 0..self.processes.len() {
            let space = self.machine.kernel.mm.space(self.space(process));
            for page in BASE / PAGE_SIZE..BASE / PAGE_SIZE + PAGES {
                let found = space
                    .find(page * PAGE_SIZE)
                    .map(|(_, vma)| u64::from(vma.prot.bits()));
                let entry = self.processes[process].pages.get(&page);
                assert_eq!(found, entry.map(|entry| entry.prot), "{page:#x}");
            }
        }
        let mut copied = Vec::new();
        for (&(space, addr), &(backing, prot)) in &self.machine.pages {
            if !(BASE..BASE + PAGES * PAGE_SIZE).contains(&addr) {
                continue;
            }
            let page = addr / PAGE_SIZE;
            let process = (0..self.processes.len()).find(|&process| self.space(process) == space);
            let process = process.expect("pages of a space that is gone are unmapped");
            let entry = self.processes[process].pages.get(&page);
            let entry = entry.unwrap_or_else(|| panic!("{page:#x} is mapped on the host only"));
            assert_eq!(
                prot.bits() & !entry.prot as u8,
                0,
                "{page:#x} has too many rights: {entry:?}"
            );
            let readable = self.expected(process, page, Access::Read) == Outcome::Done;
            assert!(readable || prot.is_empty(), "{page:#x}");
            if prot.is_empty() {
                continue;
            }
            assert_eq!(
                self.backing_word(backing),
                self.word(process, page),
                "{page:#x} {entry:?} {backing:?}"
            );
            // A fault of unknown kind may have made the copy before the first store.
            if prot.contains(Prot::WRITE)
                && matches!(entry.value, Value::Object { shared: false, .. })
            {
                let word = self.word(process, page);
                copied.push((process, page, word));
            }
        }
        for (process, page, word) in copied {
            let entry = self.processes[process].pages.get_mut(&page).unwrap();
            entry.value = Value::Own(word);
        }
    }
}

#[test]
fn random_steps_agree_with_the_model() {
    let seeds = std::env::var("VARVE_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seeds = seeds.map_or(
        0..std::env::var("VARVE_SEEDS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(60),
        |seed: u64| seed..seed + 1,
    );
    for seed in seeds {
        println!("seed {seed} (VARVE_SEED)");
        let mut test = Test::new(seed);
        for step in 0..400 {
            test.step();
            if std::env::var("V").is_ok() {
                println!("step {step}: {}", test.last);
            }
            test.check();
        }
        while test.processes.len() > 1 {
            test.exit(1);
            test.check();
        }
        crate::kernel::check::check(&test.machine.kernel).unwrap();
        crate::task::check::check(&test.machine.kernel).unwrap();
    }
}
