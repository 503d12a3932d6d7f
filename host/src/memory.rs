//! The memory file: frames of guest memory in one memfd, mapped whole into varve.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use varve_core::abi::PAGE_SIZE;
use varve_core::machine::FrameNo;
use varve_core::port::{Memory, WordOffset};

/// The memory file of one sandbox.
#[derive(Debug)]
pub struct MemoryFile {
    fd: OwnedFd,
    base: NonNull<u8>,
    frames: u32,
    /// What [`Memory::flushed`] answers.
    flushed: u64,
}

// SAFETY: the mapping belongs to this value alone and lives as long as it does; all access goes through
// `&self` or `&mut self` with bounds checked, by raw copies that make no references into it, so the guest's
// concurrent writes alias nothing.
unsafe impl Send for MemoryFile {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for MemoryFile {}

impl MemoryFile {
    /// A memory file of this many frames. They cost nothing until they are touched.
    pub fn new(frames: u32) -> io::Result<MemoryFile> {
        let len = u64::from(frames) * PAGE_SIZE;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("varve-memory", flags)?;
        rustix::fs::ftruncate(&fd, len)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists. The file's
        // size is sealed, so no page of the mapping can vanish.
        let base =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len as usize, prot, flags, &fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(MemoryFile {
            fd,
            base,
            frames,
            flushed: u64::MAX,
        })
    }

    /// The file, for mapping into guests.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes of it that the host has memory for now.
    pub(crate) fn used(&self) -> u64 {
        /// What `st_blocks` counts in (stat(3type)).
        const BLOCK: u64 = 512;
        rustix::fs::fstat(&self.fd).map_or(0, |stat| stat.st_blocks as u64 * BLOCK)
    }

    /// So many batches of outputs are in force.
    pub(crate) fn set_flushed(&mut self, flushed: u64) {
        self.flushed = flushed;
    }

    /// The address of `len` bytes at `offset`.
    ///
    /// # Panics
    /// If they do not lie in the file: the core never asks for that.
    fn at(&self, offset: u64, len: u64) -> *mut u8 {
        let end = offset
            .checked_add(len)
            .expect("an offset in the memory file");
        assert!(
            end <= u64::from(self.frames) * PAGE_SIZE,
            "{offset:#x}+{len:#x} is outside the memory file"
        );
        // SAFETY: just checked to lie in the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    fn word(&self, at: WordOffset) -> &AtomicU32 {
        let at = self.at(at.get(), 4).cast();
        // SAFETY: in bounds, and aligned as the type says in a mapping that begins with a page; the mapping
        // lives as long as `self`; guests change it as atomics may be.
        unsafe { AtomicU32::from_ptr(at) }
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let len = u64::from(self.frames) * PAGE_SIZE;
        // SAFETY: the mapping was made by `new` with this length, and nothing points into it any more.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), len as usize) };
    }
}

impl Memory for MemoryFile {
    fn frames(&self) -> u32 {
        self.frames
    }

    fn read(&self, offset: u64, buf: &mut [u8]) {
        let from = self.at(offset, buf.len() as u64);
        // SAFETY: `from` is valid for the length, `buf` is ours and cannot overlap the private mapping. A
        // guest may write at the same time: then bytes are old or new, and nobody relies on which.
        unsafe { std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) }
    }

    fn append(&self, offset: u64, len: usize, to: &mut Vec<u8>) {
        let from = self.at(offset, len as u64);
        to.reserve(len);
        // SAFETY: `from` is valid for the length, and so is what lies behind the bytes of `to`, for which
        // room was just made; then they are initialised as far as the new length says. For writes of guests
        // see `read`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to.as_mut_ptr().add(to.len()), len);
            to.set_len(to.len() + len);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let to = self.at(offset, data.len() as u64);
        // SAFETY: as in `read`, the other way round.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) }
    }

    fn zero(&mut self, offset: u64, len: u64) {
        let to = self.at(offset, len);
        // SAFETY: `to` is valid for `len` bytes.
        unsafe { std::ptr::write_bytes(to, 0, len as usize) }
    }

    fn copy(&mut self, to: u64, from: u64, len: u64) {
        let (to, from) = (self.at(to, len), self.at(from, len));
        // SAFETY: both are valid for `len` bytes; `copy` allows overlap.
        unsafe { std::ptr::copy(from, to, len as usize) }
    }

    fn discard(&mut self, first: FrameNo, count: u32) {
        let len = u64::from(count) * PAGE_SIZE;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.fd, flags, first.offset(), len).is_err() {
            self.zero(first.offset(), len);
        }
    }

    fn load_u32(&self, at: WordOffset) -> u32 {
        self.word(at).load(Ordering::SeqCst)
    }

    fn compare_exchange_u32(&mut self, at: WordOffset, old: u32, new: u32) -> u32 {
        let result = self
            .word(at)
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
        result.unwrap_or_else(|found| found)
    }

    fn flushed(&self) -> u64 {
        self.flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_discarded_ones_are_zero() {
        let mut memory = MemoryFile::new(16).unwrap();
        memory.write(4090, b"across a page");
        let mut buf = [0; 13];
        memory.read(4090, &mut buf);
        assert_eq!(&buf, b"across a page");
        let mut more = b"> ".to_vec();
        memory.append(4090, 13, &mut more);
        assert_eq!(&more, b"> across a page");
        memory.copy(8192, 4090, 13);
        memory.discard(FrameNo(0), 2);
        memory.read(4090, &mut buf);
        assert_eq!(buf, [0; 13]);
        memory.read(8192, &mut buf);
        assert_eq!(&buf, b"across a page");
        let word = WordOffset::new(4).unwrap();
        assert_eq!(memory.compare_exchange_u32(word, 0, 7), 0);
        assert_eq!(memory.compare_exchange_u32(word, 0, 9), 7);
        assert_eq!(memory.load_u32(word), 7);
    }

    #[test]
    #[should_panic(expected = "outside the memory file")]
    fn access_outside_is_caught() {
        MemoryFile::new(1).unwrap().write(4096, &[0]);
    }
}
