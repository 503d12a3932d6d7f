//! Parts of user memory that data goes to or comes from.

use crate::file::caller::FileCallers;
use smallvec::SmallVec;

use crate::abi::{Errno, TASK_SIZE};
use crate::env::cx::Cx;
use crate::file::rw::{MAX_RW, read_source};
use crate::fs::filesystem::Source;

/// Most parts of a vector (`UIO_MAXIOV`).
pub(crate) const IOV_MAX: u64 = 1024;

/// Parts of user memory that data goes to or comes from, and how far it has come.
#[derive(Clone, Debug)]
pub(crate) struct Iov {
    parts: SmallVec<[(u64, u64); 4]>,
    index: usize,
    left: u64,
}

impl Iov {
    /// One buffer. `EFAULT` if it does not lie in user space at all.
    pub(crate) fn single(addr: u64, len: u64) -> Result<Iov, Errno> {
        in_user_space(addr, len)?;
        let len = len.min(MAX_RW);
        Ok(Iov {
            parts: SmallVec::from_slice(&[(addr, len)]),
            index: 0,
            left: len,
        })
    }

    /// A vector of buffers (readv(2)).
    pub(crate) fn vector<K: FileCallers>(
        cx: &mut Cx<'_, '_, K>,
        addr: u64,
        count: u64,
    ) -> Result<Iov, Errno> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut parts = SmallVec::new();
        let mut left = 0;
        for index in 0..count {
            let [base, len]: [u64; 2] = cx.read_obj(addr.wrapping_add(index * 16))?;
            if len as i64 <= -1 {
                return Err(Errno::EINVAL);
            }
            in_user_space(base, len)?;
            let len = len.min(MAX_RW - left);
            left += len;
            parts.push((base, len));
        }
        Ok(Iov {
            parts,
            index: 0,
            left,
        })
    }

    /// Addresses and lengths of the buffers.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        self.parts.clone().into_iter()
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The first part that is not done: address and length.
    pub(crate) fn front(&mut self) -> Option<(u64, u64)> {
        while let Some(&part) = self.parts.get(self.index) {
            if part.1 > 0 {
                return Some(part);
            }
            self.index += 1;
        }
        None
    }

    pub(crate) fn advance(&mut self, mut len: u64) {
        self.left -= len.min(self.left);
        while len > 0
            && let Some(part) = self.parts.get_mut(self.index)
        {
            let step = part.1.min(len);
            part.0 += step;
            part.1 -= step;
            len -= step;
            if part.1 == 0 {
                self.index += 1;
            }
        }
    }

    /// Cuts the rest down to at most `len` bytes.
    pub(crate) fn limit(&mut self, len: u64) {
        self.left = self.left.min(len);
    }

    /// A run of user memory at the front, faulted in: where and how long. `None` when all is done.
    pub(crate) fn run<K: FileCallers>(
        &mut self,
        cx: &mut Cx<'_, '_, K>,
        max: u64,
        write: bool,
    ) -> Result<Option<(Source, u64)>, Errno> {
        let max = max.min(self.left);
        let Some((addr, len)) = self.front() else {
            return Ok(None);
        };
        if max == 0 {
            return Ok(None);
        }
        let run = cx.user_run(addr, len.min(max), write)?;
        Ok(Some((run.source, run.len.min(len).min(max))))
    }

    /// Copies bytes to user memory: how many could be.
    pub(crate) fn put<K: FileCallers>(
        &mut self,
        cx: &mut Cx<'_, '_, K>,
        mut data: &[u8],
    ) -> Result<u64, Errno> {
        let mut done = 0;
        while !data.is_empty() {
            let (to, len) = match self.run(cx, data.len() as u64, true) {
                Ok(Some((Source::Memory(to), len))) => (to, len),
                Ok(_) => break,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            let (part, rest) = data.split_at(len as usize);
            cx.p.memory.write(to, part);
            data = rest;
            self.advance(len);
            done += len;
        }
        Ok(done)
    }

    /// Copies all of these bytes to user memory, or as many as fit before a bad address: `EFAULT`.
    pub(crate) fn put_all<K: FileCallers>(
        &mut self,
        cx: &mut Cx<'_, '_, K>,
        data: &[u8],
    ) -> Result<(), Errno> {
        match self.put(cx, data)? {
            done if done == data.len() as u64 => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Copies bytes from user memory: how many could be.
    pub(crate) fn take<K: FileCallers>(
        &mut self,
        cx: &mut Cx<'_, '_, K>,
        buf: &mut [u8],
    ) -> Result<u64, Errno> {
        let mut done = 0;
        while done < buf.len() {
            let (from, len) = match self.run(cx, (buf.len() - done) as u64, false) {
                Ok(Some(run)) => run,
                Ok(None) => break,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            read_source(cx.p, from, &mut buf[done..done + len as usize])?;
            self.advance(len);
            done += len as usize;
        }
        Ok(done as u64)
    }
}

/// access_ok() of Linux.
fn in_user_space(addr: u64, len: u64) -> Result<(), Errno> {
    match addr.checked_add(len) {
        Some(end) if end <= TASK_SIZE.next_multiple_of(1 << 47) => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}
