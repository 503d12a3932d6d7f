//! The in-memory host: all ports over plain vectors, and a machine whose guests are sequences of system
//! calls.
//!
//! It has the same boundary as the ptrace and KVM hosts. Time is a number, faults are injected by plain
//! fields, every input is logged and a log can be replayed; [`Machine::record`] writes the
//! [`journal`](crate::journal) that real hosts write. Tests, the fuzzer and the benchmark of the kernel
//! itself run on it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::Kernel;
use crate::abi::{Errno, PAGE_SIZE};
use crate::boot::{BootConfig, BootError, Init, Stdio, Tree, User};
use crate::event::{ExitStatus, HostCall, HostResult, Input, Level, Now, OpId, Output};
use crate::journal::{Header, ImageNote, Recorder};
use crate::machine::{Backing, FrameNo, Prot, Regs, SpaceId, ThreadId, Trap};
use crate::port::{Block, HostTree, Memory, Ports, WordOffset, Xstate};

pub use varve_imgfs::{MemBlock, MemImages, NoTree};

/// Frames in a vector; untouched ones cost nothing.
#[derive(Clone, Debug, Default)]
pub struct MemMemory {
    frames: Vec<Option<Box<[u8; PAGE_SIZE as usize]>>>,
    limit: u32,
    /// What [`Memory::flushed`] answers; nothing: guests see at once what outputs have done. Otherwise
    /// whoever uses a frame anew that a guest may still reach is found out.
    pub flushed: Option<u64>,
    /// Frames that were taken away from guests, each with the number of the last batch that did.
    taken: BTreeMap<u32, u64>,
}

impl MemMemory {
    /// Calls `each` for the parts of a byte range that lie in one frame: frame, offset in it, length.
    fn parts(offset: u64, len: u64, mut each: impl FnMut(usize, usize, usize)) {
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let within = at % PAGE_SIZE;
            let part = (PAGE_SIZE - within).min(end - at);
            each((at / PAGE_SIZE) as usize, within as usize, part as usize);
            at += part;
        }
    }

    /// A frame is made ready for new use, or given back.
    ///
    /// # Panics
    /// If a guest may still reach it.
    fn used_anew(&self, index: usize) {
        let batch = self.taken.get(&(index as u32));
        if let (Some(flushed), Some(&batch)) = (self.flushed, batch) {
            assert!(
                batch < flushed,
                "frame {index} is used anew, but was taken from a guest in batch {batch}, and {flushed} are in force"
            );
        }
    }

    fn frame(&mut self, index: usize) -> &mut [u8; PAGE_SIZE as usize] {
        assert!(
            index < self.limit as usize,
            "frame {index} is outside the memory file"
        );
        if self.frames.len() <= index {
            self.frames.resize_with(index + 1, || None);
        }
        self.frames[index].get_or_insert_with(|| Box::new([0; PAGE_SIZE as usize]))
    }
}

impl Memory for MemMemory {
    fn frames(&self) -> u32 {
        self.limit
    }

    fn read(&self, offset: u64, buf: &mut [u8]) {
        let mut done = 0;
        MemMemory::parts(offset, buf.len() as u64, |index, within, len| {
            assert!(
                index < self.limit as usize,
                "frame {index} is outside the memory file"
            );
            let to = &mut buf[done..done + len];
            match self.frames.get(index) {
                Some(Some(frame)) => to.copy_from_slice(&frame[within..within + len]),
                _ => to.fill(0),
            }
            done += len;
        });
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        MemMemory::parts(offset, data.len() as u64, |index, within, len| {
            self.frame(index)[within..within + len].copy_from_slice(&data[done..done + len]);
            done += len;
        });
    }

    fn zero(&mut self, offset: u64, len: u64) {
        MemMemory::parts(offset, len, |index, within, len| {
            if len as u64 == PAGE_SIZE {
                self.used_anew(index);
            }
            self.frame(index)[within..within + len].fill(0);
        });
    }

    fn copy(&mut self, to: u64, from: u64, len: u64) {
        if len == PAGE_SIZE {
            self.used_anew((to / PAGE_SIZE) as usize);
        }
        let mut done = 0;
        let mut buf = [0; PAGE_SIZE as usize];
        while done < len {
            let part = (len - done).min(PAGE_SIZE);
            let buf = &mut buf[..part as usize];
            self.read(from + done, buf);
            self.write(to + done, buf);
            done += part;
        }
    }

    fn discard(&mut self, first: FrameNo, count: u32) {
        for index in first.0..first.0 + count {
            self.used_anew(index as usize);
            if let Some(frame) = self.frames.get_mut(index as usize) {
                *frame = None;
            }
        }
    }

    fn load_u32(&self, at: WordOffset) -> u32 {
        let mut word = [0; 4];
        self.read(at.get(), &mut word);
        u32::from_le_bytes(word)
    }

    fn compare_exchange_u32(&mut self, at: WordOffset, old: u32, new: u32) -> u32 {
        let found = self.load_u32(at);
        if found == old {
            self.write(at.get(), &new.to_le_bytes());
        }
        found
    }

    fn flushed(&self) -> u64 {
        self.flushed.unwrap_or(u64::MAX)
    }
}

/// Floating-point state of threads as plain bytes, of the size that AVX machines have.
#[derive(Clone, Debug, Default)]
pub struct MemXstate(BTreeMap<ThreadId, Vec<u8>>);

const XSTATE_SIZE: usize = 832;

impl Xstate for MemXstate {
    fn size(&self) -> usize {
        XSTATE_SIZE
    }

    fn read(&mut self, thread: ThreadId, buf: &mut [u8]) {
        match self.0.get(&thread) {
            Some(state) => buf.copy_from_slice(state),
            None => buf.fill(0),
        }
    }

    fn write(&mut self, thread: ThreadId, buf: &[u8]) -> Result<(), Errno> {
        if buf.len() != XSTATE_SIZE {
            return Err(Errno::EINVAL);
        }
        self.0.insert(thread, buf.to_vec());
        Ok(())
    }

    fn reset(&mut self, thread: ThreadId) {
        self.0.remove(&thread);
    }
}

/// All ports of the in-memory host. `Tree` is the port for host directories.
#[derive(Clone, Debug)]
pub struct MemHost<T = NoTree> {
    /// The memory file.
    pub memory: MemMemory,
    /// The images.
    pub images: MemImages,
    /// Host directories.
    pub tree: T,
    /// Floating-point state.
    pub xstate: MemXstate,
}

impl MemHost<NoTree> {
    /// A host with this many frames of memory and these images, given out as slices.
    pub fn new(frames: u32, images: Vec<Vec<u8>>) -> MemHost {
        MemHost::with_tree(frames, images, NoTree)
    }
}

impl<T: HostTree> MemHost<T> {
    /// The same with host directories.
    pub fn with_tree(frames: u32, images: Vec<Vec<u8>>, tree: T) -> MemHost<T> {
        MemHost {
            memory: MemMemory {
                frames: Vec::new(),
                limit: frames,
                flushed: None,
                taken: BTreeMap::new(),
            },
            images: MemImages(
                images
                    .into_iter()
                    .map(|bytes| MemBlock {
                        bytes,
                        mapped: true,
                    })
                    .collect(),
            ),
            tree,
            xstate: MemXstate::default(),
        }
    }

    /// The ports.
    pub fn ports(&mut self) -> Ports<'_> {
        Ports {
            memory: &mut self.memory,
            images: &self.images,
            tree: &mut self.tree,
            xstate: &mut self.xstate,
        }
    }
}

/// Where [`bare`] puts the memory of its first task.
pub const BARE_ADDR: u64 = 0x10_0000;
/// Bytes of that memory.
pub const BARE_LEN: u64 = 0x10_0000;

/// A configuration without a program: one bare task with root's rights over the given root tree.
pub fn bare(root: Tree) -> BootConfig {
    BootConfig {
        root,
        mounts: Vec::new(),
        init: Init::Bare {
            addr: BARE_ADDR,
            len: BARE_LEN,
        },
        env: Vec::new(),
        cwd: b"/".to_vec(),
        user: User::Ids {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
        hostname: "varve".into(),
        seed: [7; 32],
        cpus: 2,
        stdio: [Stdio::Stream; 3],
        strace: None,
        cpuinfo: Vec::new(),
        vdso: false,
        capabilities: crate::boot::DEFAULT_CAPABILITIES,
        memory_limit: None,
        threads_max: u32::MAX,
        lowest_address: 0,
    }
}

/// An empty tmpfs as root.
pub fn empty_root() -> Tree {
    Tree {
        layers: Vec::new(),
        read_only: false,
        upper_limit: None,
        index: None,
    }
}

/// When machines boot.
const START: Now = Now {
    mono: 0,
    real: 1_700_000_000_000_000_000,
    spent: 0,
};

/// What the machine knows of a guest thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// The address space it runs in.
    pub space: SpaceId,
    /// Its registers when it was last resumed.
    pub regs: Regs,
    /// It runs (may trap); otherwise it is parked in the kernel.
    pub runs: bool,
    /// An interruption was asked for since it was last resumed.
    pub interrupt: bool,
}

/// A machine: a kernel on the in-memory host. Its guests run no code; a test issues traps in their name.
#[derive(Debug)]
pub struct Machine<T = NoTree> {
    /// The kernel.
    pub kernel: Kernel,
    /// The host.
    pub host: MemHost<T>,
    /// The time of the next input. Each input adds [`Machine::tick`].
    pub now: Now,
    /// Nanoseconds that pass with each input.
    pub tick: u64,
    /// What handling each input takes, in nanoseconds, beside the tick.
    pub spent: u64,
    /// All threads that have not ended.
    pub threads: BTreeMap<ThreadId, Thread>,
    /// The pages that the host would have mapped.
    pub pages: BTreeMap<(SpaceId, u64), (Backing, Prot)>,
    /// What standard input still holds; reads past it wait until [`Machine::feed`], or see the end if
    /// `stdin_closed`.
    pub stdin: VecDeque<u8>,
    /// Standard input has an end.
    pub stdin_closed: bool,
    /// What was written to the streams (the first is unused).
    pub written: [Vec<u8>; 3],
    /// Most bytes that one host write takes: a fault to inject.
    pub write_limit: usize,
    /// Writes to streams stay under way, past the point where they can be given up, as long as this is set.
    pub stalled: bool,
    /// How the run ended.
    pub exit: Option<ExitStatus>,
    /// All inputs so far.
    pub log: Vec<(Now, Input)>,
    /// All outputs of the last input.
    pub last: Vec<Output>,
    /// Lines of the kernel's log and of strace.
    pub lines: Vec<String>,
    /// The tick that the kernel asked for.
    pub deadline: Option<u64>,
    /// Called with `true` before the kernel is given an input, and with `false` after: to find out what it
    /// does then.
    pub watch: Option<fn(bool)>,
    waiting: VecDeque<(OpId, HostCall)>,
    /// Writes the journal of the run, if it is recorded.
    recorder: Option<Recorder<Vec<u8>>>,
}

impl<T: HostTree> Machine<T> {
    /// Boots a kernel.
    ///
    /// # Errors
    /// As [`Kernel::boot`].
    pub fn boot(config: BootConfig, mut host: MemHost<T>) -> Result<Machine<T>, BootError> {
        let kernel = Kernel::boot(config, &mut host.ports(), START)?;
        Ok(Machine::start(kernel, host, None))
    }

    /// Boots a kernel and records the run; [`finish`](Machine::finish) gives the journal. Images have no
    /// digests in it.
    ///
    /// # Errors
    /// As [`Kernel::boot`].
    pub fn record(
        config: BootConfig,
        mut host: MemHost<T>,
        digest_every: u32,
    ) -> Result<Machine<T>, BootError> {
        let note = |block: &MemBlock| ImageNote {
            name: Vec::new(),
            len: block.len(),
            sha256: [0; 32],
            mapped: block.mapped,
            mappable: block.is_mappable(),
        };
        let header = Header {
            varve: env!("CARGO_PKG_VERSION").into(),
            platform: "memory".into(),
            config,
            booted: START,
            images: host.images.0.iter().map(note).collect(),
            frames: host.memory.limit,
            xstate_size: XSTATE_SIZE as u32,
            digest_every,
        };
        let (recorder, kernel) = Recorder::boot(Vec::new(), &header, &mut host.ports());
        Ok(Machine::start(kernel?, host, Some(recorder)))
    }

    /// Ends the recording; gives the journal, if there is one.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let recorder = self.recorder.take()?;
        Some(recorder.finish(&self.kernel))
    }

    fn start(kernel: Kernel, host: MemHost<T>, recorder: Option<Recorder<Vec<u8>>>) -> Machine<T> {
        let mut machine = Machine {
            kernel,
            host,
            now: START,
            tick: 1000,
            spent: 0,
            threads: BTreeMap::new(),
            pages: BTreeMap::new(),
            stdin: VecDeque::new(),
            stdin_closed: false,
            written: Default::default(),
            write_limit: usize::MAX,
            stalled: false,
            exit: None,
            log: Vec::new(),
            last: Vec::new(),
            lines: Vec::new(),
            deadline: None,
            watch: None,
            waiting: VecDeque::new(),
            recorder,
        };
        machine.drain();
        machine.serve();
        machine
    }

    /// The first thread.
    pub fn first(&self) -> ThreadId {
        *self.threads.keys().next().expect("a thread is left") // INVARIANT: tests ask while a thread lives
    }

    /// Hands in one input and executes the outputs, without host operations.
    pub fn input(&mut self, input: Input) {
        let passed = self.tick + self.spent;
        self.now.mono += passed;
        self.now.real += passed;
        self.now.spent = self.spent;
        self.input_at(self.now, input);
    }

    fn input_at(&mut self, now: Now, input: Input) {
        if let Input::Trap { thread, .. } = &input
            && let Some(state) = self.threads.get_mut(thread)
        {
            state.runs = false;
        }
        self.log.push((now, input.clone()));
        let watch = self.watch.unwrap_or(|_| {});
        let (kernel, ports) = (&mut self.kernel, &mut self.host.ports());
        watch(true);
        match &mut self.recorder {
            None => kernel.handle(ports, now, input),
            Some(recorder) => recorder.handle(kernel, ports, now, input),
        }
        watch(false);
        self.drain();
    }

    /// A trap of a thread; then all host operations that can end.
    pub fn trap(&mut self, thread: ThreadId, regs: Regs, trap: Trap) {
        let state = self.threads.get_mut(&thread).expect("the thread exists"); // INVARIANT: it lives
        assert!(state.runs, "only a thread that runs can trap");
        state.runs = false;
        self.input(Input::Trap { thread, regs, trap });
        self.serve();
    }

    /// Issues a system call for a thread. `None`: it is parked or has ended; see [`Machine::result`].
    pub fn call(&mut self, thread: ThreadId, number: u64, args: &[u64]) -> Option<i64> {
        let mut regs = self.threads.get(&thread).expect("the thread exists").regs; // INVARIANT: it lives
        let arg = |n: usize| args.get(n).copied().unwrap_or(0);
        regs.orig_rax = number;
        regs.rax = Errno::ENOSYS.as_result();
        (regs.rdi, regs.rsi, regs.rdx) = (arg(0), arg(1), arg(2));
        (regs.r10, regs.r8, regs.r9) = (arg(3), arg(4), arg(5));
        self.trap(thread, regs, Trap::Syscall);
        self.result(thread)
    }

    /// The result register of a thread that runs (again).
    pub fn result(&self, thread: ThreadId) -> Option<i64> {
        self.threads
            .get(&thread)
            .filter(|thread| thread.runs)
            .map(|thread| thread.regs.rax as i64)
    }

    /// Lets time pass, with the ticks that the kernel asked for.
    pub fn advance(&mut self, nanos: u64) {
        let end = self.now.mono + nanos;
        self.now.spent = 0;
        while let Some(at) = self.deadline.filter(|&at| at <= end) {
            let step = at.saturating_sub(self.now.mono);
            self.now.mono += step;
            self.now.real += step;
            self.deadline = None;
            self.input_at(self.now, Input::Tick);
            self.serve();
        }
        let step = end.saturating_sub(self.now.mono);
        self.now.mono += step;
        self.now.real += step;
    }

    /// Gives bytes to standard input.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stdin.extend(bytes);
        self.serve();
    }

    /// Copies user memory of a thread's address space out.
    pub fn peek(&mut self, thread: ThreadId, addr: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![0; len];
        let (kernel, ports) = (&mut self.kernel, &mut self.host.ports());
        let result = match &mut self.recorder {
            None => kernel.peek(ports, thread, addr, &mut buf),
            Some(recorder) => recorder.peek(kernel, ports, thread, addr, &mut buf),
        };
        self.drain();
        result.map(|()| buf)
    }

    /// Copies bytes into user memory of a thread's address space, as the program itself would write them.
    pub fn poke(&mut self, thread: ThreadId, addr: u64, data: &[u8]) -> Result<(), Errno> {
        let (kernel, ports) = (&mut self.kernel, &mut self.host.ports());
        let result = match &mut self.recorder {
            None => kernel.poke(ports, thread, addr, data),
            Some(recorder) => recorder.poke(kernel, ports, thread, addr, data),
        };
        self.drain();
        result
    }

    /// Runs a log of inputs on this freshly booted machine: equal logs give equal outputs and digests. Memory
    /// that the guest wrote by itself (`poke`) has to be written again by the caller.
    pub fn replay(&mut self, log: &[(Now, Input)]) {
        for (now, input) in log {
            self.input_at(*now, input.clone());
        }
    }

    fn drain(&mut self) {
        self.last.clear();
        while let Some(output) = self.kernel.poll_output() {
            if let Some(recorder) = &mut self.recorder {
                recorder.output(&output);
            }
            self.last.push(output.clone());
            self.execute(output);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.drained(&self.kernel);
        }
    }

    /// Number of the last input, whose outputs have been executed.
    pub fn batch(&self) -> u64 {
        self.log.len() as u64
    }

    /// Notes that a page is no longer mapped where it was.
    fn take_away(&mut self, backing: Backing) {
        let batch = self.batch();
        if let Backing::Memory(frame) = backing {
            self.host.memory.taken.insert(frame.0, batch);
        }
    }

    /// Unmaps pages of a space.
    fn unmap(&mut self, space: SpaceId, addr: u64, len: u64) {
        let range = (space, addr)..(space, addr.saturating_add(len));
        let gone: Vec<_> = self.pages.range(range).map(|(&page, _)| page).collect();
        for page in gone {
            if let Some((backing, _)) = self.pages.remove(&page) {
                self.take_away(backing);
            }
        }
    }

    fn execute(&mut self, output: Output) {
        match output {
            Output::CreateSpace(_) => {}
            Output::DropSpace(space) => self.unmap(space, 0, u64::MAX),
            Output::Map {
                space,
                addr,
                len,
                backing,
                prot,
            } => {
                for page in 0..len / PAGE_SIZE {
                    let backing = match backing {
                        Backing::Memory(first) => Backing::Memory(FrameNo(first.0 + page as u32)),
                        Backing::Image { image, offset } => Backing::Image {
                            image,
                            offset: offset + page * PAGE_SIZE,
                        },
                    };
                    let key = (space, addr + page * PAGE_SIZE);
                    if let Some((old, _)) = self.pages.insert(key, (backing, prot))
                        && old != backing
                    {
                        self.take_away(old);
                    }
                }
            }
            Output::Unmap { space, addr, len } => self.unmap(space, addr, len),
            Output::Protect {
                space,
                addr,
                len,
                prot,
            } => {
                for (_, page) in self
                    .pages
                    .range_mut((space, addr)..(space, addr.saturating_add(len)))
                {
                    page.1 = prot;
                }
            }
            Output::StartThread {
                thread,
                space,
                regs,
                parent,
            } => {
                if let Some(state) =
                    parent.and_then(|parent| self.host.xstate.0.get(&parent).cloned())
                {
                    self.host.xstate.0.insert(thread, state);
                }
                let old = self.threads.insert(
                    thread,
                    Thread {
                        space,
                        regs,
                        runs: true,
                        interrupt: false,
                    },
                );
                assert!(old.is_none(), "a thread starts once");
            }
            Output::Resume { thread, regs } => {
                let state = self
                    .threads
                    .get_mut(&thread)
                    .expect("only started threads are resumed"); // INVARIANT: asserts the contract
                assert!(!state.runs, "only a stopped thread is resumed");
                *state = Thread {
                    space: state.space,
                    regs,
                    runs: true,
                    interrupt: false,
                };
            }
            Output::MoveThread { thread, space } => {
                self.threads
                    .get_mut(&thread)
                    .expect("only started threads move")
                    .space = space; // INVARIANT: asserts the contract
            }
            Output::EndThread(thread) => {
                self.threads.remove(&thread);
                self.host.xstate.0.remove(&thread);
            }
            Output::Interrupt(thread) => {
                if let Some(state) = self.threads.get_mut(&thread) {
                    state.interrupt = true;
                }
            }
            Output::Host { op, call, .. } => self.waiting.push_back((op, call)),
            Output::CancelHost(op) => {
                // The operation is answered all the same, with EINTR: replace it by one that ends so at once.
                // A write has been done.
                let idle = |call: &HostCall| !matches!(call, HostCall::Write { .. });
                if let Some(entry) = self
                    .waiting
                    .iter_mut()
                    .find(|entry| entry.0 == op && idle(&entry.1))
                {
                    entry.1 = HostCall::Poll {
                        stream: u8::MAX,
                        events: 0,
                    };
                }
            }
            Output::Deadline(at) => self.deadline = at,
            Output::Log(level, line) => {
                let level = match level {
                    Level::Debug => "debug",
                    Level::Info => "info",
                    Level::Warn | Level::Killed => "warn",
                    Level::Error => "error",
                };
                self.lines.push(alloc::format!("{level}: {line}"));
            }
            Output::Strace { tid, line, .. } => self.lines.push(alloc::format!("[{tid}] {line}")),
            Output::Exit(status) => self.exit = Some(status),
        }
    }

    /// Ends all host operations that can end, oldest first; also interrupts threads that were asked to stop.
    pub fn serve(&mut self) {
        loop {
            if let Some((&thread, state)) = self
                .threads
                .iter_mut()
                .find(|(_, state)| state.runs && state.interrupt)
            {
                state.runs = false;
                let regs = state.regs;
                self.input(Input::Trap {
                    thread,
                    regs,
                    trap: Trap::Interrupted,
                });
                continue;
            }
            let ready = self.waiting.iter().position(|(_, call)| match call {
                HostCall::Read { .. } => !self.stdin.is_empty() || self.stdin_closed,
                HostCall::Write { .. } => !self.stalled,
                HostCall::Poll { stream: 0, events } => {
                    !self.stdin.is_empty() || self.stdin_closed || events & POLLIN == 0
                }
                _ => true,
            });
            let Some((op, call)) = ready.and_then(|index| self.waiting.remove(index)) else {
                return;
            };
            let result = match call {
                HostCall::Read { len, .. } => {
                    let len = self.stdin.len().min(len as usize);
                    Ok(HostResult::Data(self.stdin.drain(..len).collect()))
                }
                HostCall::Write { stream, data } => {
                    let len = data.len().min(self.write_limit);
                    self.written[usize::from(stream)].extend_from_slice(&data[..len]);
                    Ok(HostResult::Count(len as u64))
                }
                HostCall::Poll {
                    stream: u8::MAX, ..
                } => Err(Errno::EINTR),
                HostCall::Poll { events, .. } => Ok(HostResult::Ready(events)),
                HostCall::Seek { .. } => Err(Errno::ESPIPE),
            };
            self.input(Input::Completed { op, result });
        }
    }
}

const POLLIN: u16 = 1;
