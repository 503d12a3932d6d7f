//! Invariants of memory management, for tests.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use crate::Kernel;
use crate::abi::{PAGE_SIZE, TASK_SIZE};
use crate::file::shared;
use crate::fs::filesystem::Filesystem;
use crate::machine::{FrameNo, Prot};
use crate::mm::Mm;
use crate::mm::space::Space;

/// Whether frames have as many references as page tables and files hold, and whether areas and page tables
/// agree. Valid between two inputs. The text says what does not.
pub(crate) fn check(k: &Kernel) -> Result<(), String> {
    let mut held: BTreeMap<FrameNo, u32> = BTreeMap::new();
    for fs in &k.fs.filesystems {
        if let Filesystem::Union(union) = &fs.fs {
            if !union.is_right() {
                return Err("runs of frames of a file are wrong".into());
            }
            for frame in union.frames() {
                *held.entry(frame).or_default() += 1;
            }
        }
    }
    for frame in k.mm.vdso.iter().flat_map(|vdso| vdso.frames()) {
        *held.entry(frame).or_default() += 1;
    }
    for space in k.mm.spaces.values() {
        for (_, pte) in space.pages.iter() {
            if let Some(frame) = pte.frame() {
                *held.entry(frame).or_default() += 1;
            }
        }
    }
    for frame in k.mm.ended.iter().flat_map(|remains| remains.frames()) {
        *held.entry(frame).or_default() += 1;
    }
    for frame in k.frames.left_for_later() {
        *held.entry(frame).or_default() += 1;
    }
    for (frame, &count) in &held {
        let kept = k.frames.count(*frame);
        if kept != count {
            return Err(format!("{frame:?} has {kept} references, {count} are held"));
        }
    }
    let used = k.frames.used();
    if used as usize != held.len() {
        return Err(format!("{used} frames are in use, {} are held", held.len()));
    }
    k.frames.check()?;
    let held = k.mm.table_bytes() + crate::ipc::charged(k) + k.mm.charged;
    let charged = k.frames.charged();
    let counted: u64 = k.mm.spaces.values().map(|space| space.counted()).sum();
    let counted = counted
        + k.mm
            .ended
            .iter()
            .map(|remains| remains.counted)
            .sum::<u64>();
    if counted != k.mm.areas || !k.files.is_counted() {
        return Err("areas or inodes are not counted rightly".into());
    }
    if held != charged || !k.files.pipes.is_charged() {
        return Err(format!("{charged} bytes are charged, {held} are held"));
    }
    if !crate::mm::mapped::is_right(k) {
        return Err("areas of files are not known rightly".into());
    }
    for (id, space) in &k.mm.spaces {
        areas(space).map_err(|text| format!("{id:?}: {text}"))?;
        pages(k, space).map_err(|text| format!("{id:?}: {text}"))?;
        let users = k
            .tasks
            .iter()
            .filter(|task| task.space == *id && !task.exited)
            .count();
        let copies = k.mm.copies.values().filter(|copy| copy.child == *id);
        let users = users + copies.count();
        if space.users() as usize != users {
            return Err(format!(
                "{id:?} has {} users, {users} tasks run in it",
                space.users()
            ));
        }
    }
    Ok(())
}

fn areas(space: &Space) -> Result<(), String> {
    let mut before = 0;
    let pairs = space.vmas.iter().zip(space.vmas.iter().skip(1));
    for ((&start, vma), (&next, behind)) in pairs {
        if vma.end == next && vma.joins(start, behind) {
            return Err(format!("areas {start:#x} and {next:#x} are one"));
        }
    }
    for (&start, vma) in space.vmas.iter() {
        let aligned = start % PAGE_SIZE == 0 && vma.end % PAGE_SIZE == 0;
        if start < before || vma.end <= start || vma.end > TASK_SIZE || !aligned {
            return Err(format!("bad area {start:#x}-{:#x}", vma.end));
        }
        if !vma.max.contains(vma.prot) {
            return Err(format!("area {start:#x} has more rights than it may have"));
        }
        before = vma.end;
    }
    if !space.vmas.knows_its_gaps() {
        return Err("there is room where none is said to be".into());
    }
    match space.vmas.adds_up() && space.pages.adds_up() {
        true => Ok(()),
        false => Err(format!("the sums are wrong: {:?}", space.vmas.sizes())),
    }
}

fn pages(k: &Mm, space: &Space) -> Result<(), String> {
    for (page, pte) in space.pages.iter() {
        let Some((_, vma)) = space.find(page * PAGE_SIZE) else {
            return Err(format!("page {page:#x} lies in no area: {pte:?}"));
        };
        // Pages follow a change of protection in pieces.
        let changing = k.changing.values();
        let follows = changing
            .filter_map(|id| k.spaces.get(id))
            .any(|other| core::ptr::eq(other, space));
        if pte.writable() && !vma.prot.contains(Prot::WRITE) && !follows {
            return Err(format!("page {page:#x} is writable in a read-only area"));
        }
        let of_memory = vma.file().is_some_and(|file| shared::is_of(k, file));
        if pte.is_memory() != (of_memory && pte.frame().is_none()) {
            return Err(format!("page {page:#x} is taken for another kind: {pte:?}"));
        }
        if pte.frame().is_some_and(|_| vma.shared) {
            return Err(format!("page {page:#x} is private in a shared area"));
        }
        if let Some(frame) = pte.frame()
            && pte.writable()
            && k.frames.count(frame) != 1
        {
            return Err(format!("page {page:#x} is writable and shared: {pte:?}"));
        }
    }
    Ok(())
}
