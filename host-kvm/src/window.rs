//! Windows: ranges of guest-physical addresses that are ranges of this process's memory.
//!
//! KVM keeps some bytes for each page of a memory slot, so a window is given to it in chunks, each when it is
//! first needed.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use varve_core::abi::PAGE_SIZE;
use varve_host::PlatformError;

use crate::os_error;

/// Bytes in one memory slot.
pub(crate) const CHUNK: u64 = 64 << 20;

/// What a window shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Memory of its own.
    Private,
    /// Files, read-only, put in place one by one.
    Files,
}

/// A window.
pub(crate) struct Window {
    base: NonNull<u8>,
    len: u64,
    /// First guest-physical address.
    pub gpa: u64,
    readonly: bool,
    first_slot: u32,
    /// Chunks that are memory slots.
    slots: Vec<bool>,
}

// SAFETY: the mapping belongs to this value; it is read and written through raw copies and atomics only.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Reserves the addresses for `len` bytes, a multiple of the page size. They cost nothing until they are
    /// touched.
    pub(crate) fn reserve(kind: Kind, len: u64, gpa: u64, first_slot: u32) -> io::Result<Window> {
        let prot = match kind {
            Kind::Private => ProtFlags::READ | ProtFlags::WRITE,
            Kind::Files => ProtFlags::empty(),
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len as usize, prot, flags)? };
        Window::over(base.cast(), len, gpa, first_slot, kind == Kind::Files)
    }

    /// A window on the memory file.
    pub(crate) fn shared(fd: impl AsFd, len: u64, gpa: u64, first_slot: u32) -> io::Result<Window> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: as in `reserve`.
        let base =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len as usize, prot, flags, fd, 0)? };
        Window::over(base.cast(), len, gpa, first_slot, false)
    }

    fn over(
        base: *mut u8,
        len: u64,
        gpa: u64,
        first_slot: u32,
        readonly: bool,
    ) -> io::Result<Window> {
        Ok(Window {
            base: NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?,
            len,
            gpa,
            readonly,
            first_slot,
            slots: vec![false; len.div_ceil(CHUNK) as usize],
        })
    }

    /// How many slots a window of `len` bytes takes at most.
    pub(crate) fn slots_for(len: u64) -> u32 {
        len.div_ceil(CHUNK) as u32
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where it lies in this process.
    pub(crate) fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Puts the first `len` bytes of a file at `offset`, which nothing has been put at before.
    ///
    /// # Panics
    /// Outside the window, or in one of another kind: offsets are given out by the caller.
    pub(crate) fn put(&self, offset: u64, len: u64, fd: impl AsFd) -> io::Result<()> {
        assert!(self.readonly && self.holds(offset, len));
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: replaces pages of this window's own reservation (just checked), which nothing refers to.
        unsafe {
            let at = self.base.as_ptr().add(offset as usize);
            rustix::mm::mmap(at.cast(), len as usize, ProtFlags::READ, flags, fd, 0)?;
        }
        Ok(())
    }

    fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Makes memory slots of the chunks that a range lies in.
    ///
    /// # Errors
    /// What KVM says; the range is then not there for guests.
    pub(crate) fn ensure(&mut self, vm: &VmFd, offset: u64, len: u64) -> Result<(), PlatformError> {
        if len == 0 || !self.holds(offset, len) {
            let text = format!("{len} bytes at {offset:#x} are not in the window");
            return Err(PlatformError::Bug(text));
        }
        for chunk in offset / CHUNK..=(offset + len - 1) / CHUNK {
            if self.slots[chunk as usize] {
                continue;
            }
            let start = chunk * CHUNK;
            let region = kvm_userspace_memory_region {
                slot: self.first_slot + chunk as u32,
                flags: if self.readonly { KVM_MEM_READONLY } else { 0 },
                guest_phys_addr: self.gpa + start,
                memory_size: CHUNK.min(self.len - start),
                userspace_addr: self.base.as_ptr() as u64 + start,
            };
            // SAFETY: the addresses are this window's own mapping, which is dropped after the virtual machine
            // is. Guests read and write it as they like; varve makes no references into it but atomics.
            unsafe { vm.set_user_memory_region(region) }.map_err(os_error)?;
            self.slots[chunk as usize] = true;
        }
        Ok(())
    }

    /// Makes KVM forget what it derived for a range: every virtual CPU looks it up anew. The contents stay.
    pub(crate) fn forget(&self, offset: u64, len: u64) {
        assert!(self.holds(offset, len));
        // SAFETY: the range lies in this window's mapping, which is a shared one of a file: its contents live
        // there.
        let result = unsafe {
            let at = self.base.as_ptr().add(offset as usize);
            rustix::mm::madvise(at.cast(), len as usize, Advice::LinuxDontNeed)
        };
        result.expect("madvise(MADV_DONTNEED) of varve's own mapping");
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        assert!(!self.readonly && self.holds(offset, data.len() as u64));
        // SAFETY: in bounds of this window's own mapping; `data` cannot overlap it, as no references into it
        // are made.
        unsafe {
            let to = self.base.as_ptr().add(offset as usize);
            std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len());
        }
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        assert!(self.holds(offset, buf.len() as u64));
        // SAFETY: as in `write`. For file windows only pages that were put there are asked for.
        unsafe {
            let from = self.base.as_ptr().add(offset as usize);
            std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len());
        }
    }

    /// Zeroes a page.
    pub(crate) fn zero_page(&self, offset: u64) {
        self.write(offset, &[0; PAGE_SIZE as usize]);
    }

    /// A word that processors look at, too: an entry of a page table.
    pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(!self.readonly && offset.is_multiple_of(8) && self.holds(offset, 8));
        // SAFETY: in bounds and aligned; the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset as usize).cast()) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: mapped by the constructors with this length; what refers to it borrows `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len as usize) };
    }
}
