//! The guest's machine as the core sees it: identities, registers, traps.

use serde::{Deserialize, Serialize};
pub use varve_imgfs::ImageId;

/// A guest thread. Given out by the core from a counter, never used twice in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ThreadId(pub u32);

/// An address space. Given out by the core from a counter, never used twice in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpaceId(pub u32);

/// A 4 KiB frame of the memory file; its bytes start at `frame * 4096`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrameNo(pub u32);

impl FrameNo {
    /// The byte offset of the frame in the memory file.
    pub fn offset(self) -> u64 {
        u64::from(self.0) << crate::abi::PAGE_SHIFT
    }
}

/// The general registers of a guest thread, in the order of the kernel's `struct user_regs_struct`
/// (`sys/user.h`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
#[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
#[expect(missing_docs, reason = "the names are the processor's")]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Number of the system call at a [`Trap::Syscall`].
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Regs {
    /// The six arguments of a system call.
    pub fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}

/// What a guest thread wanted from memory when it faulted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why a guest thread stopped running.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Trap {
    /// A 64-bit system call; number in `orig_rax`, `rip` behind the instruction.
    Syscall,
    /// A page fault at `addr`. A host that cannot tell the kind of access (ptrace) gives `None`.
    Fault {
        /// The address that was touched.
        addr: u64,
        /// The kind of access, where the host knows it.
        access: Option<Access>,
    },
    /// A processor exception other than a page fault.
    Exception(Exception),
    /// A host stopped the thread because [`Output::Interrupt`](crate::event::Output::Interrupt) asked for it.
    Interrupted,
    /// The host has no room for another mapping of the thread's address space. Nothing runs in that space
    /// until the kernel has taken all pages away from the host (an
    /// [`Output::Unmap`](crate::event::Output::Unmap) of all addresses); they come back as they are touched.
    Crowded,
    /// The host lost the thread (its process was killed from outside).
    Lost,
}

/// A processor exception as Linux reports it to a program: signal, `si_code` and `si_addr` (sigaction(2)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Exception {
    /// Signal number (SIGILL, SIGFPE, SIGTRAP, SIGBUS, SIGSEGV).
    pub signal: u8,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
}

/// What a mapping in an address space is backed by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backing {
    /// Consecutive frames of the memory file from this one.
    Memory(FrameNo),
    /// Bytes of an image file from this page-aligned offset. Never writable.
    Image {
        /// The file.
        image: ImageId,
        /// Byte offset in it, a multiple of the page size.
        offset: u64,
    },
}

bitflags::bitflags! {
    /// Page protection, with the values of `PROT_READ`, `PROT_WRITE`, `PROT_EXEC` (mmap(2)).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Prot: u8 {
        /// Pages may be read.
        const READ = 1;
        /// Pages may be written.
        const WRITE = 2;
        /// Pages may be executed.
        const EXEC = 4;
    }
}
