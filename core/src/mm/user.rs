//! User memory as system calls reach it: a software walk of the address space, faults resolved on the way, bytes copied through the
//! [`Memory`](crate::port::Memory) port.

use alloc::vec::Vec;

use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::abi::Errno;
use crate::kernel::Cx;
use crate::vfs::filesystem::Source;

/// A run of user memory that has been faulted in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserRun {
    /// Where the bytes are: the memory file (always, when asked for writing) or an image.
    pub source: Source,
    pub len: u64,
}

impl Cx<'_, '_> {
    /// Copies from user memory. `EFAULT` if any byte cannot be read.
    pub(crate) fn read_user(&mut self, _addr: u64, _buf: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }

    /// Copies to user memory. `EFAULT` if any byte cannot be written; bytes before it may have been.
    pub(crate) fn write_user(&mut self, _addr: u64, _data: &[u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }

    /// Reads a C structure.
    pub(crate) fn read_obj<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        _addr: u64,
    ) -> Result<T, Errno> {
        Err(Errno::EFAULT)
    }

    /// Writes a C structure.
    pub(crate) fn write_obj<T: IntoBytes + Immutable>(
        &mut self,
        addr: u64,
        value: &T,
    ) -> Result<(), Errno> {
        self.write_user(addr, value.as_bytes())
    }

    /// Reads a path: at most `PATH_MAX` bytes with the NUL, which is not part of the result. `ENAMETOOLONG`, `EFAULT`.
    pub(crate) fn read_path(&mut self, _addr: u64) -> Result<SmallVec<[u8; 256]>, Errno> {
        Err(Errno::EFAULT)
    }

    /// Reads a string of at most `max` bytes with its NUL. `E2BIG` if there is none so far.
    pub(crate) fn read_cstr(&mut self, _addr: u64, _max: usize) -> Result<Vec<u8>, Errno> {
        Err(Errno::EFAULT)
    }

    /// The run of user memory at `addr`, at most `len` bytes and at least 1, for reading (`write` false) or writing by the kernel.
    /// Valid until the address space or a file changes. `EFAULT`.
    pub(crate) fn user_run(
        &mut self,
        _addr: u64,
        _len: u64,
        _write: bool,
    ) -> Result<UserRun, Errno> {
        Err(Errno::EFAULT)
    }
}

/// Copies bytes into another address space. `EFAULT` if any byte cannot be written.
pub(crate) fn write_in(
    _k: &mut crate::Kernel,
    _p: &mut crate::port::Ports<'_>,
    _space: crate::machine::SpaceId,
    _addr: u64,
    _data: &[u8],
) -> Result<(), Errno> {
    Err(Errno::EFAULT)
}
