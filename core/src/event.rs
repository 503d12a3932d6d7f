//! What goes into the kernel and what comes out of it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::abi::Errno;
use crate::machine::{Backing, Prot, Regs, SpaceId, ThreadId, Trap};

/// The time of an input, read by the host just before it hands the input over.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Now {
    /// `CLOCK_MONOTONIC` in nanoseconds since the run's boot. Never goes back between inputs.
    pub mono: u64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    pub real: u64,
    /// Nanoseconds from the time of the input before until all that came of it was done; 0 where nobody
    /// knows.
    pub spent: u64,
}

/// One operation of the host that was asked for by [`Output::Host`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// Something that happened outside the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A guest thread stopped.
    Trap {
        /// The thread.
        thread: ThreadId,
        /// Its registers.
        regs: Regs,
        /// Why it stopped.
        trap: Trap,
    },
    /// A host operation ended.
    Completed {
        /// Which one.
        op: OpId,
        /// What came of it.
        result: Result<HostResult, Errno>,
    },
    /// A point in time was reached (the one of the last [`Output::Deadline`], or any other).
    Tick,
    /// A signal from outside for the first process.
    Signal {
        /// Signal number, 1..=64.
        signal: u8,
    },
    /// How to compute the time from the processor's counter from now on
    /// ([`BootConfig::vdso`](crate::boot::BootConfig::vdso)). `None`: that is about to change; programs that
    /// ask meanwhile wait for the next such input, which must come at once.
    Clock(Option<ClockParameters>),
    /// The terminal on standard input changed its size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
}

/// The time as a function of the time stamp counter: `CLOCK_MONOTONIC` is
/// `mono + ((counter - tsc) * mult >> shift)` nanoseconds, `CLOCK_REALTIME` is `real_offset` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClockParameters {
    /// The counter at `mono`.
    pub tsc: u64,
    /// Nanoseconds in a tick, times `2^shift`.
    pub mult: u64,
    /// 0..=63.
    pub shift: u32,
    /// `CLOCK_MONOTONIC` when the counter was `tsc`.
    pub mono: u64,
    /// Nanoseconds, modulo 2^64.
    pub real_offset: u64,
}

impl ClockParameters {
    /// The time at a counter; before `tsc` that at `tsc`.
    pub fn at(&self, counter: u64) -> Now {
        let ticks = u128::from(counter.saturating_sub(self.tsc));
        let passed = (ticks * u128::from(self.mult)) >> self.shift.min(63);
        let mono = self.mono.wrapping_add(passed as u64);
        Now {
            mono,
            real: mono.wrapping_add(self.real_offset),
            spent: 0,
        }
    }
}

/// What a host operation gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HostResult {
    /// Bytes that were read; none at the end of the file.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Number of bytes written, or the position after a seek.
    Count(u64),
    /// Readiness, as `poll` reports it (`POLLIN`, ...).
    Ready(u16),
}

/// Something the kernel wants done. Executed in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Make an empty address space.
    CreateSpace(SpaceId),
    /// Forget an address space; no thread of it is left.
    DropSpace(SpaceId),
    /// Map pages, replacing what was there.
    Map {
        /// Where.
        space: SpaceId,
        /// First address, page-aligned.
        addr: u64,
        /// Bytes, a multiple of the page size.
        len: u64,
        /// What to map.
        backing: Backing,
        /// Protection.
        prot: Prot,
    },
    /// Unmap pages; what is not mapped is passed over.
    Unmap {
        /// Where.
        space: SpaceId,
        /// First address, page-aligned.
        addr: u64,
        /// Bytes, a multiple of the page size.
        len: u64,
    },
    /// Change the protection of pages; what is not mapped is passed over.
    Protect {
        /// Where.
        space: SpaceId,
        /// First address, page-aligned.
        addr: u64,
        /// Bytes, a multiple of the page size.
        len: u64,
        /// New protection.
        prot: Prot,
    },
    /// Start a guest thread. Its floating-point state is that of `parent` (stopped now), or fresh.
    StartThread {
        /// The new thread.
        thread: ThreadId,
        /// The address space it runs in.
        space: SpaceId,
        /// Its registers.
        regs: Regs,
        /// Whose floating-point state it inherits.
        parent: Option<ThreadId>,
    },
    /// Let a stopped thread run. Sent once for each trap, now or after later inputs, unless the thread ends.
    Resume {
        /// The thread.
        thread: ThreadId,
        /// Its registers.
        regs: Regs,
    },
    /// Move a stopped thread into another address space (execve(2) from a shared one).
    MoveThread {
        /// The thread.
        thread: ThreadId,
        /// Where it goes.
        space: SpaceId,
    },
    /// End a thread, stopped or running; nothing more comes from it.
    EndThread(ThreadId),
    /// Make a running thread trap with [`Trap::Interrupted`] soon. It may trap for another reason first; then
    /// no interruption follows.
    Interrupt(ThreadId),
    /// Do something on the host that may take time; answered by [`Input::Completed`].
    Host {
        /// Name of the operation.
        op: OpId,
        /// For which thread.
        thread: ThreadId,
        /// What to do.
        call: HostCall,
    },
    /// Give up an operation; if it has not ended yet it ends with `EINTR` soon, and is answered all the same.
    CancelHost(OpId),
    /// Send [`Input::Tick`] at this `CLOCK_MONOTONIC` time; replaces the last one. `None` needs no tick.
    Deadline(Option<u64>),
    /// A line for the kernel's log.
    Log(Level, String),
    /// A system call that has returned, decoded as strace(1) does, a signal, or the end of a thread. Not part
    /// of the run: neither recorded nor compared.
    Strace {
        /// Thread number as the first process sees it.
        tid: u32,
        /// The call, if it is one.
        call: Option<TracedCall>,
        /// One line without a newline.
        line: String,
    },
    /// The first process ended; the run is over. All threads have been ended before.
    Exit(ExitStatus),
}

/// A system call that was traced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TracedCall {
    /// Its number.
    pub number: u64,
    /// When the program made it.
    pub entered: Now,
    /// The error that it returned.
    pub errno: Option<u16>,
}

/// How urgent a line of the kernel's log is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// For developers.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not supported or was refused.
    Warn,
    /// A process was killed for want of memory: whoever sees a program vanish wants to know.
    Killed,
    /// Something is broken: an image, the host.
    Error,
}

/// How the first process ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExitStatus {
    /// It called exit(2) with this status, 0..=255.
    Exited(u8),
    /// A signal killed it.
    Signaled(u8),
    /// The host could not run it any further.
    Lost,
}

/// An operation on one of the host's standard streams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostCall {
    /// Read at most `len` bytes from stream 0, 1 or 2.
    Read {
        /// Stream.
        stream: u8,
        /// Most bytes.
        len: u32,
    },
    /// Write bytes to stream 0, 1 or 2; may write fewer.
    Write {
        /// Stream.
        stream: u8,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Wait until a stream is ready for one of these `poll` events.
    Poll {
        /// Stream.
        stream: u8,
        /// `POLLIN` and the like.
        events: u16,
    },
    /// lseek(2) on a stream that is a regular file.
    Seek {
        /// Stream.
        stream: u8,
        /// Offset.
        offset: i64,
        /// `SEEK_SET` (0), `SEEK_CUR` (1), `SEEK_END` (2).
        whence: u8,
    },
}
