//! Memory of the calling program, for handlers.

use alloc::vec::Vec;

use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Cx;
use crate::abi::{Errno, PAGE_SIZE, PATH_MAX};
use crate::mm::user::{UserRun, read_in, run, write_in};

impl Cx<'_, '_> {
    /// Copies from user memory. `EFAULT` if any byte cannot be read.
    pub(crate) fn read_user(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let id = self.space();
        read_in(self.k, self.p, id, addr, buf)
    }

    /// Copies to user memory. `EFAULT` if any byte cannot be written; bytes before it may have been.
    pub(crate) fn write_user(&mut self, addr: u64, data: &[u8]) -> Result<(), Errno> {
        let id = self.space();
        write_in(self.k, self.p, id, addr, data)
    }

    /// Reads a C structure.
    pub(crate) fn read_obj<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        addr: u64,
    ) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_user(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a C structure.
    pub(crate) fn write_obj<T: IntoBytes + Immutable>(
        &mut self,
        addr: u64,
        value: &T,
    ) -> Result<(), Errno> {
        self.write_user(addr, value.as_bytes())
    }

    /// Calls `each` for bytes from `addr` on until a NUL, at most `max` with it. `None`: there was none so
    /// far.
    fn scan(
        &mut self,
        addr: u64,
        max: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Option<()>, Errno> {
        let mut done = 0;
        let mut buf = [0; 128];
        while done < max {
            let at = addr.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            // Not past the page: the string may end before a hole.
            let part = (max - done)
                .min(buf.len())
                .min((PAGE_SIZE - at % PAGE_SIZE) as usize);
            let part = &mut buf[..part];
            self.read_user(at, part)?;
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                each(&part[..end]);
                return Ok(Some(()));
            }
            each(part);
            done += part.len();
        }
        Ok(None)
    }

    /// Reads a path: at most `PATH_MAX` bytes with the NUL, which is not part of the result. `ENAMETOOLONG`,
    /// `EFAULT`.
    pub(crate) fn read_path(&mut self, addr: u64) -> Result<SmallVec<[u8; 256]>, Errno> {
        let mut path = SmallVec::new();
        match self.scan(addr, PATH_MAX, |part| path.extend_from_slice(part))? {
            Some(()) => Ok(path),
            None => Err(Errno::ENAMETOOLONG),
        }
    }

    /// Reads a string of at most `max` bytes with its NUL. `E2BIG` if there is none so far.
    pub(crate) fn read_cstr(&mut self, addr: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        match self.scan(addr, max, |part| text.extend_from_slice(part))? {
            Some(()) => Ok(text),
            None => Err(Errno::E2BIG),
        }
    }

    /// The run of user memory at `addr`, at most `len` bytes and at least 1, for reading (`write` false) or
    /// writing by the kernel. Valid until the address space or a file changes. `EFAULT`.
    pub(crate) fn user_run(&mut self, addr: u64, len: u64, write: bool) -> Result<UserRun, Errno> {
        let id = self.space();
        let run = run(self.k, self.p, id, addr, len, write)?;
        if let Some(tape) = &mut self.k.tape.0 {
            tape.run(addr, run.source, run.len, write);
        }
        Ok(run)
    }
}
