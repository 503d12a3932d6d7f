//! Image files: opened read-only, mapped whole, shared through the host's page cache.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};
use varve_core::abi::Errno;
use varve_core::port::Block;

/// One image file, held by its descriptor.
///
/// Whoever may write to the file can change what the sandbox reads, and shortening it kills varve with SIGBUS: images belong in a store that
/// only their owner can write, with mode 0444.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    len: u64,
    base: Option<NonNull<u8>>,
}

// SAFETY: the mapping is read-only and belongs to this value.
unsafe impl Send for ImageFile {}
// SAFETY: as above.
unsafe impl Sync for ImageFile {}

impl ImageFile {
    /// Maps an open file.
    pub fn new(file: File) -> io::Result<ImageFile> {
        let len = file.metadata()?.len();
        let size = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if size == 0 {
            return Ok(ImageFile {
                file,
                len,
                base: None,
            });
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        Ok(ImageFile {
            file,
            len,
            base: NonNull::new(base.cast()),
        })
    }

    /// A file that is read with system calls, not mapped into varve (guests may still map it).
    pub fn unmapped(file: File) -> io::Result<ImageFile> {
        let len = file.metadata()?.len();
        Ok(ImageFile {
            file,
            len,
            base: None,
        })
    }

    /// The file, for mapping into guests.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for ImageFile {
    fn drop(&mut self) {
        if let Some(base) = self.base {
            // SAFETY: mapped by `new` with this length; slices of it borrow `self`, so none is left.
            let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), self.len as usize) };
        }
    }
}

impl Block for ImageFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| Errno::from_number(error.raw_os_error().unwrap_or(0)))
    }

    fn slice(&self) -> Option<&[u8]> {
        let base = self.base?;
        // SAFETY: mapped for `len` bytes as long as `self` lives. That nobody changes the file meanwhile is the store's duty (see above); the
        // core reads each value once before it checks it.
        Some(unsafe { std::slice::from_raw_parts(base.as_ptr(), self.len as usize) })
    }
}

/// An image of a run.
pub enum HostImage {
    /// A file that is mapped, into varve and into guests.
    Mapped(ImageFile),
    /// Bytes that are checked when they are touched; guests get copies.
    Checked(Box<dyn Block + Send + Sync>),
}

impl HostImage {
    /// Maps an open file.
    pub fn open(file: File) -> io::Result<HostImage> {
        Ok(HostImage::Mapped(ImageFile::new(file)?))
    }

    /// What makes the file the same as another one: device and inode number.
    pub fn identity(&self) -> Option<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        let HostImage::Mapped(image) = self else {
            return None;
        };
        let meta = image.file.metadata().ok()?;
        Some((meta.dev(), meta.ino()))
    }

    fn block(&self) -> &dyn Block {
        match self {
            HostImage::Mapped(image) => image,
            HostImage::Checked(block) => &**block,
        }
    }
}

impl Block for HostImage {
    fn len(&self) -> u64 {
        self.block().len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.block().read_at(offset, buf)
    }

    fn slice(&self) -> Option<&[u8]> {
        self.block().slice()
    }

    fn is_mappable(&self) -> bool {
        self.block().is_mappable()
    }
}
