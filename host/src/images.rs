//! Image files: opened read-only, mapped whole, shared through the host's page cache.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::mm::{MapFlags, ProtFlags};
use varve_core::abi::Errno;
use varve_core::port::{Block, NodeId};

use crate::tree::{Nodes, lock};

/// One image file, held by its descriptor.
///
/// Whoever may write to the file can change what the sandbox reads, and shortening it kills varve with
/// SIGBUS: images belong in a store that only their owner can write, with mode 0444.
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
        read_exact(&self.file, offset, buf)
    }

    fn slice(&self) -> Option<&[u8]> {
        let base = self.base?;
        // SAFETY: mapped for `len` bytes as long as `self` lives. That nobody changes the file meanwhile is
        // the store's duty (see above); the core reads each value once before it checks it.
        Some(unsafe { std::slice::from_raw_parts(base.as_ptr(), self.len as usize) })
    }
}

/// Fills `buf`; `EIO` where the file ends before.
fn read_exact(file: impl AsFd, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < buf.len() {
        match rustix::io::pread(&file, &mut buf[done..], offset.saturating_add(done as u64)) {
            Ok(0) => return Err(Errno::EIO),
            Ok(count) => done += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Errno::from_number(error.raw_os_error())),
        }
    }
    Ok(())
}

/// The contents of a file of a host directory tree. It is opened when it is read, and stays open once guests
/// map it.
pub struct TreeFile {
    nodes: Arc<Mutex<Nodes>>,
    node: NodeId,
    room: u64,
    mappable: AtomicBool,
    mapped: OnceLock<Arc<OwnedFd>>,
}

impl TreeFile {
    /// Files may grow while they are used: so much at least.
    const GROWTH: u64 = 64 << 10;

    /// The file of a node that has `size` bytes now.
    pub(crate) fn new(nodes: Arc<Mutex<Nodes>>, node: NodeId, size: u64) -> TreeFile {
        TreeFile {
            nodes,
            node,
            // A quarter more, so that a file that grows without end needs few of these.
            room: size
                .saturating_add(size / 4)
                .saturating_add(Self::GROWTH)
                .next_multiple_of(Self::GROWTH),
            mappable: AtomicBool::new(false),
            mapped: OnceLock::new(),
        }
    }

    /// How many bytes the file may come to have; beyond, another image is made of it.
    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    /// Says whether guests may map the file from now on; else they get copies of its pages. One that is
    /// mapped stays so.
    pub(crate) fn set_mappable(&self, mappable: bool) {
        let mappable = mappable || self.mapped.get().is_some();
        self.mappable.store(mappable, Ordering::Relaxed);
    }

    /// The file, for mapping into guests. One that is not where it was is empty: who touches it gets SIGBUS.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        let pin = || lock(&self.nodes).pin(self.node);
        self.mapped.get_or_init(pin).as_fd()
    }
}

impl Block for TreeFile {
    /// What the file may come to have: its size is an attribute of its node.
    fn len(&self) -> u64 {
        self.room
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        match self.mapped.get() {
            Some(fd) => read_exact(fd, offset, buf),
            None => {
                let fd = lock(&self.nodes).file(self.node)?;
                read_exact(&fd, offset, buf)
            }
        }
    }

    fn slice(&self) -> Option<&[u8]> {
        None
    }

    fn is_mappable(&self) -> bool {
        self.mappable.load(Ordering::Relaxed)
    }
}

/// An image of a run.
pub enum HostImage {
    /// A file that is mapped, into varve and into guests.
    Mapped(ImageFile),
    /// A file of a host directory tree.
    Tree(TreeFile),
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
            HostImage::Tree(file) => file,
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
