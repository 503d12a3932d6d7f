//! Copying an address space for a child (fork(2)), in pieces: a program may have made tens of thousands of
//! areas and fill them with pages.
//!
//! Meanwhile other threads that share the space run on, as they do on other processors in Linux; what changes
//! areas waits until the copy is whole, as for `mmap_lock`.

use alloc::vec::Vec;

use super::pages::Pte;
use super::space::{self, Space};
use super::vma::{LOCKED_MASK, VmFlags, Vma, host_rights};
use super::{Mm, map, mapped};
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::env::wait::WaitKey;
use crate::event::Output;
use crate::file;
use crate::fs::Frames;
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;

/// Tables of pages that one step copies at most.
const LEAVES: usize = 4;

/// A copy under way.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Copy {
    parent: SpaceId,
    pub child: SpaceId,
    /// What lies below has been copied.
    next: u64,
}

/// A copy of a space for a child of this thread; private pages are shared until either side writes. `LATER`:
/// it goes on when the call runs again. `ENOMEM`.
pub(crate) fn copy(
    k: &mut Mm,
    p: &mut Ports<'_>,
    thread: ThreadId,
    parent: SpaceId,
) -> Result<SpaceId, Errno> {
    let known = k.copies.get(&thread);
    if known.is_none_or(|copy| copy.parent != parent) {
        abandon(k, p, thread);
        begin(k, thread, parent)?;
    }
    loop {
        if step(k, p, thread) {
            break;
        }
        if k.env.steps.left() == 0 {
            return Err(Errno::LATER);
        }
    }
    let copy = k.copies.remove(&thread).ok_or(Errno::ENOMEM)?;
    // Areas that only a lock told apart are one in the copy.
    if k.space(parent).vmas.sizes().locked > 0 {
        map::join(k, p, copy.child, 0, TASK_SIZE);
    }
    k.env.wake(WaitKey::Space(parent));
    Ok(copy.child)
}

/// The thread will not go on with its copy, if it has one.
pub(crate) fn abandon(k: &mut Mm, p: &mut Ports<'_>, thread: ThreadId) {
    if let Some(copy) = k.copies.remove(&thread) {
        space::release(k, p, copy.child);
        k.env.wake(WaitKey::Space(copy.parent));
    }
}

/// A call of this thread that changes areas of a space goes on later: nobody else changes any meanwhile.
pub(crate) fn hold(k: &mut Mm, thread: ThreadId, space: SpaceId) {
    k.changing.insert(thread, space);
}

/// The thread has come to the end of what it changes, or will not.
pub(crate) fn let_go(k: &mut Mm, thread: ThreadId) {
    if let Some(space) = k.changing.remove(&thread) {
        k.env.wake(WaitKey::Space(space));
    }
}

/// Whether a system call of a thread has to wait because another one copies the space whose areas it may
/// change, or changes them itself.
pub(crate) fn holds_up(k: &Mm, thread: ThreadId, space: SpaceId, number: u64) -> bool {
    let changes = || {
        let calls = [
            g::__NR_mmap,
            g::__NR_mprotect,
            g::__NR_munmap,
            g::__NR_brk,
            g::__NR_mremap,
            g::__NR_madvise,
            g::__NR_shmat,
            g::__NR_shmdt,
            g::__NR_mlock,
            g::__NR_munlock,
            g::__NR_mlockall,
            g::__NR_munlockall,
            g::__NR_mlock2,
            g::__NR_io_setup,
            g::__NR_io_destroy,
            g::__NR_remap_file_pages,
            g::__NR_pkey_mprotect,
            g::__NR_mbind,
            g::__NR_process_madvise,
            g::__NR_mseal,
        ];
        calls.iter().any(|&call| u64::from(call) == number)
    };
    let mut copies = k.copies.iter();
    if copies.any(|(&other, copy)| other != thread && copy.parent == space) && changes() {
        return true;
    }
    let mut changing = k.changing.iter();
    let copying = [g::__NR_fork, g::__NR_vfork, g::__NR_clone, g::__NR_clone3];
    changing.any(|(&other, &changed)| other != thread && changed == space)
        && (changes() || copying.iter().any(|&call| u64::from(call) == number))
}

fn begin(k: &mut Mm, thread: ThreadId, parent: SpaceId) -> Result<(), Errno> {
    // Its tables take about as much. As for a page that a program touches, somebody is killed for it before
    // it fails; not here, because that may be the caller.
    let bytes = k.space(parent).pages.table_bytes();
    k.frames.want(bytes)?;
    let child = space::create(k);
    let from = k.space(parent);
    let (layout, barriers, access) = (from.layout.clone(), from.barriers, from.access);
    let to = k.space_mut(child);
    (to.layout, to.barriers, to.access) = (layout, barriers, access);
    let copy = Copy {
        parent,
        child,
        next: 0,
    };
    k.copies.insert(thread, copy);
    Ok(())
}

/// Copies an area or a part of one; `true` after the last.
fn step(k: &mut Mm, p: &mut Ports<'_>, thread: ThreadId) -> bool {
    let Some(&Copy {
        parent,
        child,
        next,
    }) = k.copies.get(&thread)
    else {
        return true;
    };
    let Some((start, vma)) = k.space(parent).overlapping(next, u64::MAX).next() else {
        return true;
    };
    k.env.steps.spend(8);
    let mut next_address = vma.end;
    if !vma.flags.contains(VmFlags::NO_FORK) {
        let from = start.max(next);
        let own = match k.space(child).find(from) {
            Some((own, _)) => own,
            None => {
                if let Some(file) = vma.file() {
                    file::get(k, file);
                }
                // Locks are not inherited (mlock(2)).
                let copy = Vma {
                    flags: vma.flags - LOCKED_MASK,
                    ..vma.tail(start, from)
                };
                mapped::put(k, child, from, copy);
                from
            }
        };
        if !vma.flags.contains(VmFlags::WIPE_ON_FORK) {
            let pages = &k.space(parent).pages;
            let cut = pages.boundary(from / PAGE_SIZE, vma.end / PAGE_SIZE, LEAVES);
            next_address = cut.map_or(vma.end, |page| page * PAGE_SIZE);
            copy_pages(k, parent, child, (from, next_address), &vma);
            if vma.file().is_some() {
                map::map_file_pages(k, p, child, own, from, next_address);
            }
        }
    }
    if let Some(copy) = k.copies.get_mut(&thread) {
        copy.next = next_address;
    }
    false
}

/// Shares the private pages of a range with the child.
fn copy_pages(k: &mut Mm, parent: SpaceId, child: SpaceId, (from, to): (u64, u64), vma: &Vma) {
    let mut copied = Vec::new();
    let mut protect = Vec::new();
    let Both { frames, space } = both(k, parent);
    space
        .pages
        .each_mut(from / PAGE_SIZE, to / PAGE_SIZE, |page, pte| {
            let Some(frame) = pte.frame() else { return };
            frames.get(frame);
            copied.push((page, frame));
            if pte.on_host() && pte.writable() {
                *pte = pte.mapped(false);
                protect.push(page);
            }
        });
    k.env.steps.spend(copied.len() as u64 / 4);
    k.pages(child, |pages| {
        for (page, frame) in copied {
            pages.set(page, Pte::private(frame));
        }
    });
    for (first, count) in space::runs(&protect) {
        k.env.steps.spend(8);
        let prot = host_rights(vma.prot, false);
        let (addr, len) = (first * PAGE_SIZE, count * PAGE_SIZE);
        k.env.emit(Output::Protect {
            space: parent,
            addr,
            len,
            prot,
        });
    }
}

struct Both<'k> {
    frames: &'k mut Frames,
    space: &'k mut Space,
}

/// The frames and one space at the same time.
fn both(k: &mut Mm, id: SpaceId) -> Both<'_> {
    let Mm { files, spaces, .. } = k;
    let frames = &mut files.vfs.fs.frames;
    let space = spaces.get_mut(&id).expect("space is referenced"); // INVARIANT: a user keeps it
    Both { frames, space }
}
