//! Advice on memory (madvise(2)). What concerns swapping, huge and merged pages is kept for `/proc/PID/smaps` and changes nothing else.

use super::super::args::*;
use super::super::futex::may_look;
use super::super::pidfd::process_of;
use super::{present_range, touch};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::kernel::{Cx, SysResult};
use crate::machine::{Prot, SpaceId};
use crate::mm::map::{self as mapping, Holes};
use crate::mm::vma::{Behind, Name, VmFlags, Vma};
use crate::vfs::inode;
use crate::vfs::rw::Iov;

pub(in super::super) fn madvise(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    length: Size,
    advice: Int,
) -> SysResult {
    let id = cx.space();
    advise(cx, id, addr.0, length.0, advice.0)?;
    Ok(0)
}

pub(in super::super) fn process_madvise(
    cx: &mut Cx<'_, '_>,
    pidfd: Fd,
    iov: Addr,
    count: Ulong,
    advice: Int,
    flags: Hex,
) -> SysResult {
    if flags.0 as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let parts = Iov::vector(cx, iov.0, count.0)?;
    let (_, pid) = process_of(cx, pidfd.0)?;
    let thread = pid.task(cx.k).ok_or(Errno::ESRCH)?;
    let task = cx.k.tasks.get(thread).filter(|task| !task.exited);
    let id = task.ok_or(Errno::ESRCH)?.space;
    if !may_look(cx.k, cx.thread, thread) {
        return Err(Errno::EACCES.into());
    }
    if id != cx.space() {
        let harmless = [
            g::MADV_COLD,
            g::MADV_PAGEOUT,
            g::MADV_WILLNEED,
            g::MADV_COLLAPSE,
        ];
        if !harmless.contains(&(advice.0 as u32)) {
            return Err(Errno::EINVAL.into());
        }
        if !cx.creds().capable(g::CAP_SYS_NICE) {
            return Err(Errno::EPERM.into());
        }
    }
    let mut done = 0;
    for (start, len) in parts.parts() {
        match advise(cx, id, start, len, advice.0) {
            Ok(()) => done += len,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

/// What an advice does to an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Advice {
    /// Nothing that shows.
    Nothing,
    /// Flags that the area gets and loses.
    Flags(VmFlags, VmFlags),
    /// The pages go (`MADV_DONTNEED`).
    Drop,
    /// They may go some time (`MADV_FREE`); here they never do.
    Free,
    /// They may be swapped out.
    Cold,
    /// The file gets a hole.
    Remove,
    /// They are faulted in.
    Populate { write: bool },
    /// Refused for every area (`MADV_COLLAPSE`).
    Refused,
}

/// What a number stands for. `EINVAL`, `EPERM`.
fn advice_of(cx: &Cx<'_, '_>, advice: i32) -> Result<Advice, Errno> {
    let none = VmFlags::empty();
    let read_ahead = VmFlags::SEQUENTIAL | VmFlags::RANDOM;
    Ok(match u32::try_from(advice).map_err(|_| Errno::EINVAL)? {
        g::MADV_NORMAL => Advice::Flags(none, read_ahead),
        g::MADV_RANDOM => Advice::Flags(VmFlags::RANDOM, VmFlags::SEQUENTIAL),
        g::MADV_SEQUENTIAL => Advice::Flags(VmFlags::SEQUENTIAL, VmFlags::RANDOM),
        g::MADV_WILLNEED => Advice::Nothing,
        g::MADV_DONTNEED | g::MADV_DONTNEED_LOCKED => Advice::Drop,
        g::MADV_FREE => Advice::Free,
        g::MADV_REMOVE => Advice::Remove,
        g::MADV_DONTFORK => Advice::Flags(VmFlags::NO_FORK, none),
        g::MADV_DOFORK => Advice::Flags(none, VmFlags::NO_FORK),
        g::MADV_MERGEABLE => Advice::Flags(VmFlags::MERGEABLE, none),
        g::MADV_UNMERGEABLE => Advice::Flags(none, VmFlags::MERGEABLE),
        g::MADV_HUGEPAGE => Advice::Flags(VmFlags::HUGE, VmFlags::NO_HUGE),
        g::MADV_NOHUGEPAGE => Advice::Flags(VmFlags::NO_HUGE, VmFlags::HUGE),
        g::MADV_DONTDUMP => Advice::Flags(VmFlags::NO_DUMP, none),
        g::MADV_DODUMP => Advice::Flags(none, VmFlags::NO_DUMP),
        g::MADV_WIPEONFORK => Advice::Flags(VmFlags::WIPE_ON_FORK, none),
        g::MADV_KEEPONFORK => Advice::Flags(none, VmFlags::WIPE_ON_FORK),
        g::MADV_COLD | g::MADV_PAGEOUT => Advice::Cold,
        g::MADV_POPULATE_READ => Advice::Populate { write: false },
        g::MADV_POPULATE_WRITE => Advice::Populate { write: true },
        g::MADV_COLLAPSE => Advice::Refused,
        // Guests cannot break memory, whatever they may do.
        g::MADV_HWPOISON | g::MADV_SOFT_OFFLINE => {
            return match cx.creds().capable(g::CAP_SYS_ADMIN) {
                true => Err(Errno::EINVAL),
                false => Err(Errno::EPERM),
            };
        }
        _ => return Err(Errno::EINVAL),
    })
}

fn advise(cx: &mut Cx<'_, '_>, id: SpaceId, addr: u64, len: u64, number: i32) -> Result<(), Errno> {
    let advice = advice_of(cx, number)?;
    let (start, end) = present_range(addr, len)?;
    if start == end {
        return Ok(());
    }
    let locked_too = number as u32 == g::MADV_DONTNEED_LOCKED;
    match advice {
        Advice::Flags(set, clear) => {
            let wipe = set.contains(VmFlags::WIPE_ON_FORK);
            let result = mapping::change(cx.k, cx.p, id, (start, end), Holes::Pass, |vma| {
                let kernels = matches!(vma.behind, Behind::Anonymous(Name::Vvar | Name::Vdso));
                let lost = set.intersects(VmFlags::WIPE_ON_FORK | VmFlags::NO_FORK);
                if lost && kernels || wipe && (vma.file().is_some() || vma.shared) {
                    return Err(Errno::EINVAL);
                }
                vma.flags = (vma.flags - clear) | set;
                Ok(())
            });
            let covered = cx.k.mm.space(id).covers(start, end);
            match result {
                // Too many areas, if it is not a hole.
                Err(Errno::ENOMEM) if covered => Err(Errno::EAGAIN),
                result => result,
            }
        }
        Advice::Populate { write } => populate(cx, id, start, end, write),
        _ => {
            let mut at = start;
            while at < end {
                let Some((first, vma)) = cx.k.mm.space(id).overlapping(at, end).next() else {
                    break;
                };
                let part = (first.max(at), vma.end.min(end));
                advise_area(cx, id, (first, vma), part, advice, locked_too)?;
                at = part.1;
            }
            match cx.k.mm.space(id).covers(start, end) {
                true => Ok(()),
                false => Err(Errno::ENOMEM),
            }
        }
    }
}

fn advise_area(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    (first, vma): (u64, Vma),
    (from, to): (u64, u64),
    advice: Advice,
    locked_too: bool,
) -> Result<(), Errno> {
    let locked = vma.flags.contains(VmFlags::LOCKED);
    let drops = matches!(advice, Advice::Drop | Advice::Free);
    let own = !vma.shared && vma.file().is_none();
    // The kernel's own pages: the one is no memory, the other would come back.
    match vma.behind {
        Behind::Anonymous(Name::Vvar) => return Err(Errno::EINVAL),
        Behind::Anonymous(Name::Vdso) if drops => return Ok(()),
        _ => {}
    }
    // What a program cannot write it must not lose behind a seal either.
    if drops && own && vma.flags.contains(VmFlags::SEALED) && !vma.prot.contains(Prot::WRITE) {
        return Err(Errno::EPERM);
    }
    match advice {
        Advice::Drop if locked && !locked_too => Err(Errno::EINVAL),
        Advice::Drop => {
            mapping::discard(cx.k, id, from, to);
            Ok(())
        }
        Advice::Free if locked || !own => Err(Errno::EINVAL),
        Advice::Cold if locked => Err(Errno::EINVAL),
        Advice::Refused => Err(Errno::EINVAL),
        Advice::Remove => remove(cx, (first, vma), (from, to)),
        _ => Ok(()),
    }
}

/// Makes a hole in the file behind a shared area.
fn remove(
    cx: &mut Cx<'_, '_>,
    (first, vma): (u64, Vma),
    (from, to): (u64, u64),
) -> Result<(), Errno> {
    let Behind::File { file, offset } = vma.behind else {
        return Err(Errno::EINVAL);
    };
    if vma.flags.contains(VmFlags::LOCKED) {
        return Err(Errno::EINVAL);
    }
    if !vma.shared || !vma.max.contains(Prot::WRITE) {
        return Err(Errno::EACCES);
    }
    let inode = cx.k.vfs.file(file).and_then(|file| file.inode);
    let inode = inode.ok_or(Errno::EINVAL)?;
    cx.k.vfs.seals.check_punch(inode)?;
    inode::punch_hole(cx.k, cx.p, inode, offset + (from - first), to - from)
}

/// Faults pages in as if they were read or written (`MADV_POPULATE_READ`, `MADV_POPULATE_WRITE`).
fn populate(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    start: u64,
    end: u64,
    write: bool,
) -> Result<(), Errno> {
    let needed = if write { Prot::WRITE } else { Prot::READ };
    let mut at = start;
    while at < end {
        let (_, vma) = cx.k.mm.space(id).find(at).ok_or(Errno::ENOMEM)?;
        if !vma.prot.contains(needed) {
            return Err(Errno::EINVAL);
        }
        let stop = vma.end.min(end);
        touch(cx, id, (at, stop), write)?;
        at = stop;
    }
    Ok(())
}
