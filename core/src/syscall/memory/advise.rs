//! Advice on memory (madvise(2)). What concerns swapping, huge and merged pages is kept for `/proc/PID/smaps`
//! and changes nothing else.

use super::super::pidfd::process_of;
use super::pieces::{self, Part, Unit};
use super::{present_range, touch};
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::env::wait::{Stop, SysResult};
use crate::file::rw::Iov;
use crate::fs::inode;
use crate::kernel::Cx;
use crate::machine::{Prot, SpaceId};
use crate::mm::map::{self as mapping, Holes};
use crate::mm::vma::{Behind, Name, VmFlags, Vma};
use crate::syscall::missing::known;
use crate::task::look::may_look;

pub(in super::super) fn madvise(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    length: Size,
    advice: Madvise,
) -> SysResult {
    let id = cx.space();
    advise(cx, id, Part(1), (addr.0, length.0), advice)?;
    Ok(0)
}

pub(in super::super) fn process_madvise(
    cx: &mut Cx<'_, '_>,
    pidfd: Fd,
    iov: Addr,
    count: Ulong,
    advice: Madvise,
    flags: NoFlags,
) -> SysResult {
    known(cx, flags)?;
    let parts = Iov::vector(cx, iov.0, count.0)?;
    let (_, pid) = process_of(cx, pidfd.0)?;
    let thread = pid.task(cx.k).ok_or(Errno::ESRCH)?;
    let task = cx.k.tasks.get(thread).filter(|task| !task.exited);
    let id = task.ok_or(Errno::ESRCH)?.space;
    if !may_look(cx.k, cx.thread, thread) {
        return Err(Errno::EACCES.into());
    }
    if id != cx.space() {
        let harmless = matches!(
            advice,
            Madvise::Cold | Madvise::PageOut | Madvise::WillNeed | Madvise::Collapse
        );
        if !harmless {
            return Err(Errno::EINVAL.into());
        }
        if !cx.creds().capable(g::CAP_SYS_NICE) {
            return Err(Errno::EPERM.into());
        }
    }
    let mut done = 0;
    for (number, (start, len)) in (1..).zip(parts.parts()) {
        cx.spend(1);
        match advise(cx, id, Part(number), (start, len), advice) {
            Ok(()) => done += len,
            Err(stop @ Stop::Block(_)) => return Err(stop),
            Err(_) if done > 0 => break,
            Err(stop) => return Err(stop),
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

/// What is done for it. `EINVAL`, `EPERM`.
fn advice_of(cx: &Cx<'_, '_>, advice: Madvise) -> Result<Advice, Errno> {
    let none = VmFlags::empty();
    let read_ahead = VmFlags::SEQUENTIAL | VmFlags::RANDOM;
    Ok(match advice {
        Madvise::Normal => Advice::Flags(none, read_ahead),
        Madvise::Random => Advice::Flags(VmFlags::RANDOM, VmFlags::SEQUENTIAL),
        Madvise::Sequential => Advice::Flags(VmFlags::SEQUENTIAL, VmFlags::RANDOM),
        Madvise::WillNeed => Advice::Nothing,
        Madvise::DontNeed | Madvise::DontNeedLocked => Advice::Drop,
        Madvise::Free => Advice::Free,
        Madvise::Remove => Advice::Remove,
        Madvise::DontFork => Advice::Flags(VmFlags::NO_FORK, none),
        Madvise::DoFork => Advice::Flags(none, VmFlags::NO_FORK),
        Madvise::Mergeable => Advice::Flags(VmFlags::MERGEABLE, none),
        Madvise::Unmergeable => Advice::Flags(none, VmFlags::MERGEABLE),
        Madvise::HugePage => Advice::Flags(VmFlags::HUGE, VmFlags::NO_HUGE),
        Madvise::NoHugePage => Advice::Flags(VmFlags::NO_HUGE, VmFlags::HUGE),
        Madvise::DontDump => Advice::Flags(VmFlags::NO_DUMP, none),
        Madvise::DoDump => Advice::Flags(none, VmFlags::NO_DUMP),
        Madvise::WipeOnFork => Advice::Flags(VmFlags::WIPE_ON_FORK, none),
        Madvise::KeepOnFork => Advice::Flags(none, VmFlags::WIPE_ON_FORK),
        Madvise::Cold | Madvise::PageOut => Advice::Cold,
        Madvise::PopulateRead => Advice::Populate { write: false },
        Madvise::PopulateWrite => Advice::Populate { write: true },
        Madvise::Collapse => Advice::Refused,
        // Guests cannot break memory, whatever they may do.
        Madvise::HwPoison | Madvise::SoftOffline => {
            return match cx.creds().capable(g::CAP_SYS_ADMIN) {
                true => Err(Errno::EINVAL),
                false => Err(Errno::EPERM),
            };
        }
        Madvise::Other(_) => return Err(Errno::EINVAL),
    })
}

fn advise(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    part: Part,
    (addr, len): (u64, u64),
    asked: Madvise,
) -> Result<(), Stop> {
    let advice = advice_of(cx, asked)?;
    let (start, end) = present_range(addr, len)?;
    let locked_too = asked == Madvise::DontNeedLocked;
    let hole = match advice {
        Advice::Flags(set, clear) => {
            let wipe = set.contains(VmFlags::WIPE_ON_FORK);
            let kernels = |vma: &Vma| {
                matches!(vma.behind, Behind::Anonymous(Name::Vvar | Name::Vdso))
                    && set.intersects(VmFlags::WIPE_ON_FORK | VmFlags::NO_FORK)
            };
            pieces::each(cx, id, part, (start, end), Unit::Areas, |cx, range| {
                let covered = cx.k.mm.space(id).covers(range.0, range.1);
                let change = |vma: &mut Vma| {
                    if kernels(vma) || wipe && (vma.file().is_some() || vma.shared) {
                        return Err(Errno::EINVAL);
                    }
                    vma.flags = (vma.flags - clear) | set;
                    Ok(())
                };
                match mapping::change(cx.k, cx.p, id, range, Holes::Pass, change) {
                    // Too many areas, if it is not a hole.
                    Err(Errno::ENOMEM) if covered => Err(Errno::EAGAIN),
                    Err(Errno::ENOMEM) => Ok(()),
                    result => result,
                }
            })?
        }
        Advice::Populate { write } => return populate(cx, id, part, (start, end), write),
        _ => pieces::each_until(
            cx,
            id,
            part,
            (start, end),
            Unit::Pages,
            |cx, (start, end)| {
                let mut at = start;
                while at < end {
                    let Some((first, vma)) = cx.k.mm.space(id).overlapping(at, end).next() else {
                        break;
                    };
                    let range = (first.max(at), vma.end.min(end));
                    cx.spend(4);
                    at = advise_area(cx, id, (first, vma), range, advice, locked_too)?;
                    if at < range.1 {
                        return Ok(at);
                    }
                }
                Ok(end)
            },
        )?,
    };
    match hole {
        false => Ok(()),
        true => Err(Errno::ENOMEM.into()),
    }
}

/// Does what was advised in one area; gives the address that it has come to.
fn advise_area(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    (first, vma): (u64, Vma),
    (from, to): (u64, u64),
    advice: Advice,
    locked_too: bool,
) -> Result<u64, Errno> {
    let locked = vma.flags.contains(VmFlags::LOCKED);
    let drops = matches!(advice, Advice::Drop | Advice::Free);
    let own = !vma.shared && vma.file().is_none();
    // The kernel's own pages: the one is no memory, the other would come back.
    match vma.behind {
        Behind::Anonymous(Name::Vvar) => return Err(Errno::EINVAL),
        Behind::Anonymous(Name::Vdso) if drops => return Ok(to),
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
            Ok(to)
        }
        Advice::Free if locked || !own => Err(Errno::EINVAL),
        Advice::Cold if locked => Err(Errno::EINVAL),
        Advice::Refused => Err(Errno::EINVAL),
        Advice::Remove => remove(cx, (first, vma), (from, to)),
        _ => Ok(to),
    }
}

/// Makes a hole in the file behind a shared area; gives the address that it has come to.
fn remove(
    cx: &mut Cx<'_, '_>,
    (first, vma): (u64, Vma),
    (from, to): (u64, u64),
) -> Result<u64, Errno> {
    let Behind::File { file, offset } = vma.behind else {
        return Err(Errno::EINVAL);
    };
    if vma.flags.contains(VmFlags::LOCKED) {
        return Err(Errno::EINVAL);
    }
    if !vma.shared || !vma.max.contains(Prot::WRITE) {
        return Err(Errno::EACCES);
    }
    let inode = cx.k.files.file(file).and_then(|file| file.inode);
    let inode = inode.ok_or(Errno::EINVAL)?;
    cx.k.fs.seals.check_punch(inode)?;
    let at = offset + (from - first);
    let done = inode::punch_hole(cx.k, cx.p, inode, at, to - from)?;
    if done < to - from {
        // What was left of it will take as long.
        cx.spend(1024);
    }
    Ok(from + done)
}

/// Faults pages in as if they were read or written (`MADV_POPULATE_READ`, `MADV_POPULATE_WRITE`).
fn populate(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    part: Part,
    (start, end): (u64, u64),
    write: bool,
) -> Result<(), Stop> {
    /// Bytes between two looks at the steps that are left.
    const MOST: u64 = 64 * PAGE_SIZE;
    let needed = if write { Prot::WRITE } else { Prot::READ };
    let Some((mut at, _)) = pieces::place(cx, part, start) else {
        return Ok(());
    };
    while at < end {
        if cx.is_spent() && at > start {
            return Err(pieces::leave(cx, None, part, at, pieces::Mapped::Whole));
        }
        let (_, vma) = cx.k.mm.space(id).find(at).ok_or(Errno::ENOMEM)?;
        if !vma.prot.contains(needed) {
            return Err(Errno::EINVAL.into());
        }
        let stop = vma.end.min(end).min(at.saturating_add(MOST));
        touch(cx, id, (at, stop), write)?;
        at = stop;
    }
    Ok(())
}
