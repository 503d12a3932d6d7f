//! User memory as system calls reach it: a software walk of the address space, faults resolved on the way,
//! bytes copied through the [`Memory`](crate::port::Memory) port.

use super::fault;
use super::vma::Behind;
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::file::caller::UserRun;
use crate::fs::filesystem::{Page, Source};
use crate::fs::{InodeRef, inode};
use crate::machine::{Prot, SpaceId};
use crate::mm::Mm;
use crate::port::{Ports, WordOffset};

/// The address of a 4-byte word of user memory that is aligned. Who uses a word as a word, not as four bytes,
/// makes this of its address first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WordAddr(u64);

impl WordAddr {
    /// Checks an address. `EINVAL` if it is not aligned, `EFAULT` if it is no user address.
    pub(crate) fn new(addr: u64) -> Result<WordAddr, Errno> {
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        match addr < TASK_SIZE {
            true => Ok(WordAddr(addr)),
            false => Err(Errno::EFAULT),
        }
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// Where the word is in the memory file, ready to be changed. `EFAULT`.
    pub(crate) fn for_writing(
        self,
        k: &mut Mm,
        p: &mut Ports<'_>,
        space: SpaceId,
    ) -> Result<WordOffset, Errno> {
        match run(k, p, space, self.0, 4, true)?.source {
            // Pages and frames begin alike, so that a word of one is a word of the other.
            Source::Memory(offset) => WordOffset::new(offset).ok_or(Errno::EFAULT),
            Source::Image { .. } | Source::Zero => Err(Errno::EFAULT),
        }
    }

    /// The word's value. `EFAULT`.
    pub(crate) fn load(self, k: &mut Mm, p: &mut Ports<'_>, space: SpaceId) -> Result<u32, Errno> {
        if let Source::Memory(offset) = run(k, p, space, self.0, 4, false)?.source
            && let Some(at) = WordOffset::new(offset)
        {
            return Ok(p.memory.load_u32(at));
        }
        let mut word = [0; 4];
        read_in(k, p, space, self.0, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }
}

/// The run of a space's memory at `addr`; see `Cx::user_run`.
pub(crate) fn run(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    addr: u64,
    len: u64,
    write: bool,
) -> Result<UserRun, Errno> {
    if addr >= TASK_SIZE {
        return Err(Errno::EFAULT);
    }
    let (page, within) = (addr / PAGE_SIZE, addr % PAGE_SIZE);
    let wanted = len;
    let mut len = len.min(PAGE_SIZE - within);
    // Once more after a fault was resolved; then it must be there.
    for _ in 0..2 {
        super::follow_files(k);
        let space = k.space(id);
        // Pages that their owner may write need no look at their areas.
        let most = within.saturating_add(wanted).div_ceil(PAGE_SIZE);
        if let Some((frame, pages)) = space.pages.writable_run(page, most) {
            return Ok(UserRun {
                source: Source::Memory(frame.offset() + within),
                len: wanted.min(pages * PAGE_SIZE - within),
            });
        }
        let pte = space.pages.get(page);
        let Some((start, vma)) = space.find(addr) else {
            fault::kernel_access(k, p, id, addr, write)?;
            continue;
        };
        let needed = if write { Prot::WRITE } else { Prot::empty() };
        if vma.prot.is_empty() || !vma.prot.contains(needed) {
            return Err(Errno::EFAULT);
        }
        if let Some(frame) = pte.frame()
            && (!write || k.frames.count(frame) == 1)
        {
            return Ok(UserRun {
                source: Source::Memory(frame.offset() + within),
                len,
            });
        }
        let Behind::File { file, offset } = vma.behind else {
            fault::kernel_access(k, p, id, addr, write)?;
            continue;
        };
        if write && !vma.shared {
            fault::kernel_access(k, p, id, addr, write)?;
            continue;
        }
        let inode = k
            .files
            .file(file)
            .and_then(|file| file.inode)
            .ok_or(Errno::EFAULT)?;
        let index = (offset + (addr - start)) / PAGE_SIZE;
        if write {
            fault::kernel_access(k, p, id, addr, true)?;
            let frame = inode::page_for_write(k, p, inode, index)?;
            return Ok(UserRun {
                source: Source::Memory(frame.offset() + within),
                len,
            });
        }
        let source = match inode::page_run(k, p, inode, index, 1)
            .map_err(|_| Errno::EFAULT)?
            .first
        {
            Page::Frame(frame) => Source::Memory(frame.offset() + within),
            Page::Image { image, offset } => {
                let size = p.images.image(image).map_or(0, |block| block.len());
                let left = size.saturating_sub(offset + within);
                if left == 0 {
                    Source::Zero
                } else {
                    len = len.min(left);
                    Source::Image {
                        image,
                        offset: offset + within,
                    }
                }
            }
        };
        return Ok(UserRun { source, len });
    }
    Err(Errno::EFAULT)
}

/// What an address of a space belongs to, beyond the space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Memory that only this space has.
    Own,
    /// A position in a file that others see too.
    File(InodeRef, u64),
}

/// What an address belongs to; `None` if it is not mapped.
pub(crate) fn place(k: &Mm, id: SpaceId, addr: u64) -> Option<Place> {
    let space = k.space(id);
    let (start, vma) = space.find(addr)?;
    let Behind::File { file, offset } = vma.behind else {
        return Some(Place::Own);
    };
    let own = !vma.shared && space.pages.get(addr / PAGE_SIZE).frame().is_some();
    let inode = k.files.file(file).and_then(|file| file.inode);
    match inode {
        Some(inode) if !own => Some(Place::File(inode, offset + (addr - start))),
        _ => Some(Place::Own),
    }
}

/// The protection of the memory at an address.
pub(crate) fn prot(k: &Mm, id: SpaceId, addr: u64) -> Option<Prot> {
    Some(k.space(id).find(addr)?.1.prot)
}

/// Copies from a space's memory. `EFAULT`.
pub(crate) fn read_in(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    addr: u64,
    buf: &mut [u8],
) -> Result<(), Errno> {
    let mut done = 0;
    while done < buf.len() {
        let at = addr.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        let run = run(k, p, id, at, (buf.len() - done) as u64, false)?;
        let part = &mut buf[done..done + run.len as usize];
        match run.source {
            Source::Memory(offset) => p.memory.read(offset, part),
            Source::Image { image, offset } => {
                p.images
                    .image(image)
                    .ok_or(Errno::EFAULT)?
                    .read_at(offset, part)
                    .map_err(|_| Errno::EFAULT)?;
            }
            Source::Zero => part.fill(0),
        }
        done += run.len as usize;
    }
    if let Some(tape) = &mut k.tape.0 {
        tape.read(id, addr, buf);
    }
    Ok(())
}

/// Copies to a space's memory. `EFAULT`; bytes before the bad one may have been written.
pub(crate) fn write_in(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    addr: u64,
    data: &[u8],
) -> Result<(), Errno> {
    let mut done = 0;
    while done < data.len() {
        let at = addr.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        let run = run(k, p, id, at, (data.len() - done) as u64, true)?;
        let Source::Memory(offset) = run.source else {
            return Err(Errno::EFAULT);
        };
        p.memory.write(offset, &data[done..done + run.len as usize]);
        done += run.len as usize;
    }
    if let Some(tape) = &mut k.tape.0 {
        tape.wrote(id, addr, data);
    }
    Ok(())
}
