//! The stub pages: code that makes system calls in a traced process, and the list of calls it makes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Mutex;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use varve_core::abi::{PAGE_SIZE, TASK_SIZE};

/// Address of the code page in every traced process.
pub(crate) const CODE: u64 = TASK_SIZE;
/// Address of the page with the list of calls, which the guest can only read.
pub(crate) const LIST: u64 = CODE + PAGE_SIZE;
/// End of the stub pages.
pub(crate) const END: u64 = LIST + PAGE_SIZE;
/// Address of a lone `syscall; int3` in the code page.
pub(crate) const SINGLE: u64 = CODE + 64;
/// Address of `wrfsbase rdi; wrgsbase rsi; int3` in the code page.
pub(crate) const BASES: u64 = CODE + 80;
/// Where the stub stands when it is done: behind each `int3`.
pub(crate) const ENDS: [u64; 3] = [CODE + LOOP.len() as u64, SINGLE + 3, BASES + 11];
/// Where the host's kernel believes its library to be: in every process the same, and unmapped.
pub(crate) const VDSO: u64 = END;
/// Calls in one list.
pub(crate) const CALLS_MAX: usize = PAGE_SIZE as usize / size_of::<Call>();
/// Lists at one time: as many as there may be address spaces.
const SLOTS: usize = 32768;

/// One system call: its number and arguments.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Call {
    pub number: u64,
    pub args: [u64; 6],
}

/// The loop: `rbx` is the next call, `r12` how many are left. Ends at an `int3` with the last result in
/// `rax`; a call that fails ends it early, with `r12` telling which.
#[rustfmt::skip]
const LOOP: &[u8] = &[
    0x48, 0x8b, 0x03,                   // 00: mov rax, [rbx]
    0x48, 0x8b, 0x7b, 0x08,             // 03: mov rdi, [rbx+8]
    0x48, 0x8b, 0x73, 0x10,             // 07: mov rsi, [rbx+16]
    0x48, 0x8b, 0x53, 0x18,             // 0b: mov rdx, [rbx+24]
    0x4c, 0x8b, 0x53, 0x20,             // 0f: mov r10, [rbx+32]
    0x4c, 0x8b, 0x43, 0x28,             // 13: mov r8, [rbx+40]
    0x4c, 0x8b, 0x4b, 0x30,             // 17: mov r9, [rbx+48]
    0x0f, 0x05,                         // 1b: syscall
    0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, // 1d: cmp rax, -4095
    0x73, 0x09,                         // 23: jae 2e
    0x48, 0x83, 0xc3, 0x38,             // 25: add rbx, 56
    0x49, 0xff, 0xcc,                   // 29: dec r12
    0x75, 0xd2,                         // 2c: jnz 00
    0xcc,                               // 2e: int3
];

const _: () = assert!(LOOP.len() <= 64 && size_of::<Call>() == 56);

/// The file behind the stub pages: the code, then one page of calls for each address space.
pub(crate) struct Batch {
    fd: OwnedFd,
    base: NonNull<u8>,
    free: Mutex<Vec<u32>>,
}

// SAFETY: the mapping belongs to this value; a slot's page is written only by the holder of its `Slot`.
unsafe impl Send for Batch {}
// SAFETY: as above.
unsafe impl Sync for Batch {}

impl Batch {
    pub(crate) fn new() -> io::Result<Batch> {
        let fd = rustix::fs::memfd_create("varve-stub", MemfdFlags::CLOEXEC)?;
        let len = (SLOTS + 1) * PAGE_SIZE as usize;
        rustix::fs::ftruncate(&fd, len as u64)?;
        let mut code = [0xcc; 96];
        code[..LOOP.len()].copy_from_slice(LOOP);
        code[64..67].copy_from_slice(&[0x0f, 0x05, 0xcc]);
        code[80..91].copy_from_slice(&[
            0xf3, 0x48, 0x0f, 0xae, 0xd7, 0xf3, 0x48, 0x0f, 0xae, 0xde, 0xcc,
        ]);
        rustix::io::pwrite(&fd, &code, 0)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, &fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let free = (1..=SLOTS as u32).rev().collect();
        Ok(Batch {
            fd,
            base,
            free: Mutex::new(free),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes a page for calls.
    pub(crate) fn take(&self) -> Option<u32> {
        self.free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop()
    }

    /// Gives a page back.
    pub(crate) fn give(&self, slot: u32) {
        self.free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(slot);
    }

    /// Byte offset of a page of calls in the file.
    pub(crate) fn offset(slot: u32) -> u64 {
        u64::from(slot) * PAGE_SIZE
    }

    /// Writes calls into a page. Only its holder does, while the process that reads it is stopped.
    pub(crate) fn write(&self, slot: u32, calls: &[Call]) {
        assert!(calls.len() <= CALLS_MAX && slot as usize <= SLOTS);
        let offset = Batch::offset(slot) as usize;
        // SAFETY: the page lies in the mapping, the calls fit into it, it is aligned, and nobody else writes
        // there (see above).
        unsafe {
            let to = self.base.as_ptr().add(offset).cast::<Call>();
            std::ptr::copy_nonoverlapping(calls.as_ptr(), to, calls.len());
        }
    }
}

impl Batch {
    /// Wipes calls that have been made: they tell which files and frames the host has.
    pub(crate) fn wipe(&self, slot: u32, count: usize) {
        const NOTHING: [Call; CALLS_MAX] = [Call {
            number: 0,
            args: [0; 6],
        }; CALLS_MAX];
        self.write(slot, &NOTHING[..count.min(CALLS_MAX)]);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let len = (SLOTS + 1) * PAGE_SIZE as usize;
        // SAFETY: mapped by `new` with this length; nothing points into it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), len) };
    }
}
