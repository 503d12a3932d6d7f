//! File descriptor tables and what else tasks share about the file system.

use alloc::vec::Vec;

use super::file::{self, FileId};
use super::mount::{PathRef, get_path, put_path};
use super::{caller, lock, mqueue};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general::{O_PATH, RLIMIT_NOFILE};
use crate::kernel::Cx;
use crate::port::Ports;

/// Most descriptors a process may have, whatever its limit says (`/proc/sys/fs/nr_open`).
pub(crate) const NR_OPEN: u32 = 1 << 20;

/// A file descriptor table; shared by tasks with `CLONE_FILES`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FdTableId(pub u32);

/// What a descriptor names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Slot {
    pub file: FileId,
    pub cloexec: bool,
}

/// The descriptors of a process.
#[derive(Clone, Debug, Hash)]
pub(crate) struct FdTable {
    users: u32,
    slots: Vec<Option<Slot>>,
    /// No descriptor below is free.
    first_free: u32,
}

impl FdTable {
    /// The file of a descriptor.
    pub(crate) fn get(&self, fd: i32) -> Option<Slot> {
        *self.slots.get(usize::try_from(fd).ok()?)?
    }

    pub(crate) fn get_mut(&mut self, fd: i32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(fd).ok()?)?.as_mut()
    }

    /// All open descriptors in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, Slot)> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(fd, slot)| Some((fd as i32, (*slot)?)))
    }

    /// One past the highest descriptor there has been.
    pub(crate) fn span(&self) -> usize {
        self.slots.len()
    }

    /// Lowest free descriptor not below `min`.
    fn lowest_free(&self, min: u32) -> u32 {
        let mut fd = min.max(self.first_free);
        while self.slots.get(fd as usize).is_some_and(Option::is_some) {
            fd += 1;
        }
        fd
    }

    fn set(&mut self, fd: u32, slot: Option<Slot>) -> Option<Slot> {
        let index = fd as usize;
        if index >= self.slots.len() {
            slot?;
            self.slots.resize(index + 1, None);
        }
        match slot {
            None => self.first_free = self.first_free.min(fd),
            Some(_) if fd == self.first_free => self.first_free = fd + 1,
            Some(_) => {}
        }
        core::mem::replace(&mut self.slots[index], slot)
    }
}

/// Root, working directory and umask; shared by tasks with `CLONE_FS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FsContextId(pub u32);

/// Root, working directory and umask.
#[derive(Clone, Debug, Hash)]
pub(crate) struct FsContext {
    users: u32,
    pub root: PathRef,
    pub cwd: PathRef,
    pub umask: u32,
}

impl FsContext {
    /// Tasks that share it.
    pub(crate) fn users(&self) -> u32 {
        self.users
    }
}

/// Moves every context whose root or working directory is `from` over to `to` (pivot_root(2)).
pub(crate) fn move_contexts(k: &mut Kernel, p: &mut Ports<'_>, from: PathRef, to: PathRef) {
    let ids: Vec<u32> = k.vfs.contexts.iter().map(|(id, _)| id).collect();
    for id in ids {
        let context = k.vfs.fs_context_mut(FsContextId(id));
        let mut moved = 0;
        for place in [&mut context.root, &mut context.cwd] {
            if *place == from {
                *place = to;
                moved += 1;
            }
        }
        for _ in 0..moved {
            get_path(k, to);
            put_path(k, p, from);
        }
    }
}

/// An empty table with one user.
pub(crate) fn new_table(k: &mut Kernel) -> FdTableId {
    FdTableId(k.vfs.tables.insert(FdTable {
        users: 1,
        slots: Vec::new(),
        first_free: 0,
    }))
}

/// One more user of a table.
pub(crate) fn share_table(k: &mut Kernel, id: FdTableId) -> FdTableId {
    k.vfs.fd_table_mut(id).users += 1;
    id
}

/// A copy with one user (fork).
pub(crate) fn copy_table(k: &mut Kernel, id: FdTableId) -> FdTableId {
    let mut table = k.vfs.fd_table(id).clone();
    table.users = 1;
    for (_, slot) in table.iter() {
        file::get(k, slot.file);
    }
    FdTableId(k.vfs.tables.insert(table))
}

/// One user less, a thread of process `tgid`; the last one closes all descriptors.
pub(crate) fn release_table(k: &mut Kernel, p: &mut Ports<'_>, id: FdTableId, tgid: u32) {
    let table = k.vfs.fd_table_mut(id);
    table.users -= 1;
    if table.users > 0 {
        return;
    }
    // The table stays in place meanwhile: closing looks at locks that it owns.
    let slots = core::mem::take(&mut table.slots);
    for slot in slots.into_iter().flatten() {
        mqueue::forget_owner(k, slot.file, tgid);
        lock::closed(k, slot.file, id);
        file::put(k, p, slot.file);
    }
    k.vfs.tables.remove(id.0);
}

/// A context with one user; takes references on both paths.
pub(crate) fn new_context(k: &mut Kernel, root: PathRef, cwd: PathRef, umask: u32) -> FsContextId {
    get_path(k, root);
    get_path(k, cwd);
    FsContextId(k.vfs.contexts.insert(FsContext {
        users: 1,
        root,
        cwd,
        umask,
    }))
}

/// One more user of a context.
pub(crate) fn share_context(k: &mut Kernel, id: FsContextId) -> FsContextId {
    k.vfs.fs_context_mut(id).users += 1;
    id
}

/// A copy with one user (fork).
pub(crate) fn copy_context(k: &mut Kernel, id: FsContextId) -> FsContextId {
    let &FsContext {
        root, cwd, umask, ..
    } = k.vfs.fs_context(id);
    new_context(k, root, cwd, umask)
}

/// One user less.
pub(crate) fn release_context(k: &mut Kernel, p: &mut Ports<'_>, id: FsContextId) {
    let context = k.vfs.fs_context_mut(id);
    context.users -= 1;
    if context.users > 0 {
        return;
    }
    let (root, cwd) = (context.root, context.cwd);
    k.vfs.contexts.remove(id.0);
    put_path(k, p, root);
    put_path(k, p, cwd);
}

/// The file of a descriptor, `O_PATH` ones too. No reference is taken.
pub(crate) fn get_any(cx: &mut Cx<'_, '_>, fd: i32) -> Result<FileId, Errno> {
    cx.fds().get(fd).map(|slot| slot.file).ok_or(Errno::EBADF)
}

/// The file of a descriptor that can be used for reading, writing and the like. No reference is taken.
pub(crate) fn get(cx: &mut Cx<'_, '_>, fd: i32) -> Result<FileId, Errno> {
    let id = get_any(cx, fd)?;
    match cx.k.vfs.file(id) {
        Some(file) if file.flags & O_PATH == 0 => Ok(id),
        _ => Err(Errno::EBADF),
    }
}

/// One past the highest descriptor that may be given out.
pub(crate) fn limit(cx: &Cx<'_, '_>) -> u32 {
    caller::rlimit(cx, RLIMIT_NOFILE).min(u64::from(NR_OPEN)) as u32
}

/// Whether no descriptor can be given out.
pub(crate) fn is_full(cx: &mut Cx<'_, '_>) -> bool {
    let limit = limit(cx);
    cx.fds().lowest_free(0) >= limit
}

/// The lowest free descriptor, if one can be given out.
pub(crate) fn next_free(cx: &mut Cx<'_, '_>) -> Option<i32> {
    let limit = limit(cx);
    let fd = cx.fds().lowest_free(0);
    (fd < limit).then_some(fd as i32)
}

/// The two lowest free descriptors. `EMFILE` if there are fewer.
pub(crate) fn two_free(cx: &mut Cx<'_, '_>) -> Result<[i32; 2], Errno> {
    let limit = limit(cx);
    let table = cx.fds();
    let first = table.lowest_free(0);
    let second = table.lowest_free(first + 1);
    match second < limit {
        true => Ok([first as i32, second as i32]),
        false => Err(Errno::EMFILE),
    }
}

/// Gives a file the lowest free descriptor. Takes over the caller's reference, also on failure: `EMFILE`.
pub(crate) fn install(cx: &mut Cx<'_, '_>, file: FileId, cloexec: bool) -> Result<i32, Errno> {
    install_from(cx, file, 0, cloexec)
}

/// The same, not below `min` (`F_DUPFD`).
pub(crate) fn install_from(
    cx: &mut Cx<'_, '_>,
    file: FileId,
    min: u32,
    cloexec: bool,
) -> Result<i32, Errno> {
    let limit = limit(cx);
    let table = cx.fds();
    let fd = table.lowest_free(min);
    if fd >= limit {
        file::put(cx.k, cx.p, file);
        return Err(Errno::EMFILE);
    }
    table.set(fd, Some(Slot { file, cloexec }));
    Ok(fd as i32)
}

/// Puts a file at this descriptor, closing what was there. Takes over the caller's reference. The number has been checked.
pub(crate) fn replace(cx: &mut Cx<'_, '_>, fd: u32, file: FileId, cloexec: bool) {
    let (table, tgid) = (cx.task().files, cx.task().tgid);
    let old = cx.fds().set(fd, Some(Slot { file, cloexec }));
    if let Some(old) = old {
        mqueue::forget_owner(cx.k, old.file, tgid);
        lock::closed(cx.k, old.file, table);
        file::put(cx.k, cx.p, old.file);
    }
}

/// Closes a descriptor.
pub(crate) fn close(cx: &mut Cx<'_, '_>, fd: i32) -> Result<(), Errno> {
    let (table, tgid) = (cx.task().files, cx.task().tgid);
    let slot = match u32::try_from(fd) {
        Ok(fd) => cx.fds().set(fd, None),
        Err(_) => None,
    };
    let slot = slot.ok_or(Errno::EBADF)?;
    mqueue::forget_owner(cx.k, slot.file, tgid);
    lock::closed(cx.k, slot.file, table);
    file::put(cx.k, cx.p, slot.file);
    Ok(())
}

/// Closes what is marked close-on-exec in the current task's table.
pub(crate) fn close_on_exec(cx: &mut Cx<'_, '_>) {
    let fds: Vec<i32> = cx
        .fds()
        .iter()
        .filter(|(_, slot)| slot.cloexec)
        .map(|(fd, _)| fd)
        .collect();
    for fd in fds {
        let _ = close(cx, fd);
    }
}

/// Gives the current task a table of its own (`CLOSE_RANGE_UNSHARE`, execve(2)).
pub(crate) fn unshare(cx: &mut Cx<'_, '_>) {
    let id = cx.task().files;
    if cx.k.vfs.fd_table(id).users > 1 {
        let copy = copy_table(cx.k, id);
        let tgid = cx.task().tgid;
        release_table(cx.k, cx.p, id, tgid);
        cx.task_mut().files = copy;
    }
}

/// Puts a file at a free descriptor of a table that no task uses yet. Takes over the caller's reference.
pub(crate) fn put_at(k: &mut Kernel, table: FdTableId, fd: u32, file: FileId) {
    k.vfs.fd_table_mut(table).set(
        fd,
        Some(Slot {
            file,
            cloexec: false,
        }),
    );
}
