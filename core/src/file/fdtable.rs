//! File descriptor tables and what else tasks share about the file system.

use crate::file::caller::FileCallers;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::abi::Errno;
use crate::abi::raw::general::RLIMIT_NOFILE;
use crate::args::{OnExec, OpenFlags};
use crate::env::bounds::NR_OPEN;
use crate::env::cx::Cx;
use crate::env::settings;
use crate::file;
use crate::file::{FileId, Files, dnotify, lock};
use crate::ipc::mqueue;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::vfs::mount::{HeldPath, PathRef, get_path, put_path};

/// A file descriptor table; shared by tasks with `CLONE_FILES`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FdTableId(pub u32);

/// What a descriptor names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Slot {
    pub file: FileId,
    pub cloexec: bool,
}

impl Slot {
    fn new(file: FileId, on_exec: OnExec) -> Slot {
        let cloexec = on_exec == OnExec::Close;
        Slot { file, cloexec }
    }
}

/// Descriptors of one chunk.
const CHUNK: u32 = 64;
/// Bytes that a chunk takes, with its place in the table.
pub(crate) const CHUNK_COST: u64 = 640;

/// The descriptors from a multiple of [`CHUNK`] on, at least one of which is open.
#[derive(Clone, Debug, Hash)]
struct Chunk {
    /// Those that are open, bit `n` for the `n`-th.
    open: u64,
    slots: Box<[Option<Slot>; CHUNK as usize]>,
}

impl Chunk {
    fn iter(&self) -> impl Iterator<Item = (u32, Slot)> + '_ {
        let slots = (0..CHUNK).zip(self.slots.iter());
        slots.filter_map(|(at, slot)| Some((at, (*slot)?)))
    }
}

/// The descriptors of a process, in chunks: a high number costs no more than a low one.
#[derive(Clone, Debug, Hash)]
pub(crate) struct FdTable {
    users: u32,
    /// By descriptor divided by [`CHUNK`].
    chunks: BTreeMap<u32, Chunk>,
    /// Runs of chunks in which all are open: the first, and the one behind the last.
    full: BTreeMap<u32, u32>,
    /// How many are open.
    open: u32,
}

impl FdTable {
    /// The file of a descriptor.
    pub(crate) fn get(&self, fd: i32) -> Option<Slot> {
        let fd = u32::try_from(fd).ok()?;
        self.chunks.get(&(fd / CHUNK))?.slots[(fd % CHUNK) as usize]
    }

    pub(crate) fn get_mut(&mut self, fd: i32) -> Option<&mut Slot> {
        let fd = u32::try_from(fd).ok()?;
        self.chunks.get_mut(&(fd / CHUNK))?.slots[(fd % CHUNK) as usize].as_mut()
    }

    /// All open descriptors in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, Slot)> + '_ {
        self.chunks.iter().flat_map(|(index, chunk)| {
            let first = index * CHUNK;
            chunk
                .iter()
                .map(move |(at, slot)| ((first + at) as i32, slot))
        })
    }

    /// The open descriptors from one on.
    pub(crate) fn iter_from(&self, from: u32) -> impl Iterator<Item = (i32, Slot)> + '_ {
        let chunks = self.chunks.range(from / CHUNK..);
        chunks.flat_map(move |(index, chunk)| {
            let slots = chunk
                .iter()
                .map(move |(at, slot)| (index * CHUNK + at, slot));
            let behind = slots.filter(move |&(fd, _)| fd >= from);
            behind.map(|(fd, slot)| (fd as i32, slot))
        })
    }

    /// One past the highest descriptor that there is room for.
    pub(crate) fn span(&self) -> usize {
        let last = self.chunks.keys().next_back();
        last.map_or(0, |&index| (index as usize + 1) * CHUNK as usize)
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks.len() as u64
    }

    /// Lowest free descriptor not below `min`.
    fn lowest_free(&self, min: u32) -> u32 {
        let index = min / CHUNK;
        let Some(chunk) = self.chunks.get(&index) else {
            return min;
        };
        let free = !chunk.open & u64::MAX << (min % CHUNK);
        if free != 0 {
            return index * CHUNK + free.trailing_zeros();
        }
        let next = match self.full.range(..=index + 1).next_back() {
            Some((_, &end)) => end.max(index + 1),
            None => index + 1,
        };
        let open = self.chunks.get(&next).map_or(0, |chunk| chunk.open);
        next * CHUNK + open.trailing_ones()
    }

    /// A chunk has become full.
    fn fill(&mut self, index: u32) {
        let end = self.full.remove(&(index + 1)).unwrap_or(index + 1);
        match self.full.range_mut(..index).next_back() {
            Some((_, last)) if *last == index => *last = end,
            _ => {
                self.full.insert(index, end);
            }
        }
    }

    /// A chunk that was full is not any more.
    fn unfill(&mut self, index: u32) {
        let Some((&first, &end)) = self.full.range(..=index).next_back() else {
            return;
        };
        self.full.remove(&first);
        if first < index {
            self.full.insert(first, index);
        }
        if index + 1 < end {
            self.full.insert(index + 1, end);
        }
    }

    /// How many are open.
    pub(crate) fn len(&self) -> u32 {
        self.open
    }

    fn set(&mut self, fd: u32, slot: Option<Slot>) -> Option<Slot> {
        let (index, at) = (fd / CHUNK, fd % CHUNK);
        if slot.is_none() && !self.chunks.contains_key(&index) {
            return None;
        }
        let chunk = self.chunks.entry(index).or_insert_with(|| Chunk {
            open: 0,
            slots: Box::new([None; CHUNK as usize]),
        });
        match slot {
            Some(_) => chunk.open |= 1 << at,
            None => chunk.open &= !(1 << at),
        }
        let old = core::mem::replace(&mut chunk.slots[at as usize], slot);
        let open = chunk.open;
        if open == 0 {
            self.chunks.remove(&index);
        }
        match (old.is_some(), slot.is_some()) {
            (false, true) => self.open += 1,
            (true, false) => self.open -= 1,
            _ => {}
        }
        if old.is_none() && open == u64::MAX {
            self.fill(index);
        }
        if slot.is_none() && open == !(1 << at) {
            self.unfill(index);
        }
        old
    }

    /// Whether what is known of it is true; for invariant checks.
    pub(crate) fn is_consistent(&self) -> bool {
        let full = self
            .chunks
            .iter()
            .filter(|(_, chunk)| chunk.open == u64::MAX);
        let runs = self.full.iter().flat_map(|(&first, &end)| first..end);
        let apart = self.full.iter().zip(self.full.iter().skip(1));
        full.map(|(&index, _)| index).eq(runs)
            && apart.into_iter().all(|((_, end), (next, _))| end < next)
            && self.iter().count() == self.open as usize
    }
}

/// Sets a descriptor of a table, whose chunks are counted; gives what it was.
fn set(k: &mut Files, id: FdTableId, fd: u32, slot: Option<Slot>) -> Option<Slot> {
    let table = k.fd_table_mut(id);
    let before = table.chunks();
    let old = table.set(fd, slot);
    let after = table.chunks();
    k.fd_chunks = k.fd_chunks + after - before;
    old
}

/// Root, working directory and umask; shared by tasks with `CLONE_FS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FsContextId(pub u32);

/// Root, working directory and umask.
#[derive(Debug, Hash)]
pub(crate) struct FsContext {
    users: u32,
    pub root: HeldPath,
    pub cwd: HeldPath,
    pub umask: u32,
}

impl FsContext {
    /// Tasks that share it.
    pub(crate) fn users(&self) -> u32 {
        self.users
    }
}

/// Moves every context whose root or working directory is `from` over to `to` (pivot_root(2)).
pub(crate) fn move_contexts(k: &mut Files, p: &mut Ports<'_>, from: PathRef, to: PathRef) {
    let ids: Vec<u32> = k.contexts.iter().map(|(id, _)| id).collect();
    for id in ids {
        let place: [fn(&mut FsContext) -> &mut HeldPath; 2] = [|c| &mut c.root, |c| &mut c.cwd];
        for place in place {
            if **place(k.fs_context_mut(FsContextId(id))) == from {
                let to = get_path(k, to);
                let old = core::mem::replace(place(k.fs_context_mut(FsContextId(id))), to);
                put_path(k, p, old);
            }
        }
    }
}

/// An empty table with one user.
pub(crate) fn new_table(k: &mut Files) -> FdTableId {
    FdTableId(k.tables.insert(FdTable {
        users: 1,
        chunks: BTreeMap::new(),
        full: BTreeMap::new(),
        open: 0,
    }))
}

/// One more user of a table.
pub(crate) fn share_table(k: &mut Files, id: FdTableId) -> FdTableId {
    k.fd_table_mut(id).users += 1;
    id
}

/// Chunks of a table that are copied, or closed, at once: as many descriptors as programs may have as a rule.
const AT_ONCE: usize = 16;

/// Copies of large tables that are being made for children, by the threads that make them; and tables without
/// users that are not empty yet, each with the process that had it.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Partial {
    copies: BTreeMap<ThreadId, (FdTableId, FdTableId)>,
    ended: VecDeque<(FdTableId, u32)>,
}

/// A copy with one user (fork).
pub(crate) fn copy_table(k: &mut Files, id: FdTableId) -> FdTableId {
    let copy = new_table(k);
    while copy_some(k, id, copy) {}
    copy
}

/// Copies the next chunks of a table; `false` after the last.
fn copy_some(k: &mut Files, id: FdTableId, copy: FdTableId) -> bool {
    let last = k.fd_table(copy).chunks.keys().next_back();
    let from = last.map_or(0, |last| last + 1);
    let table = k.fd_table(id);
    let next = table.chunks.range(from..).take(AT_ONCE);
    let next: Vec<(u32, Chunk)> = next.map(|(&index, chunk)| (index, chunk.clone())).collect();
    let more = next.len() == AT_ONCE;
    for (_, slot) in next.iter().flat_map(|(_, chunk)| chunk.iter()) {
        file::get(k, slot.file);
    }
    k.env.steps.spend(next.len() as u64 * 4);
    k.fd_chunks += next.len() as u64;
    let table = k.fd_table_mut(copy);
    for (index, chunk) in next {
        table.open += chunk.open.count_ones();
        if chunk.open == u64::MAX {
            table.fill(index);
        }
        table.chunks.insert(index, chunk);
    }
    more
}

/// Begins the copy of the caller's table that [`take_copy`] gives, if it is a large one. `LATER`: it goes on
/// when the call runs again.
pub(crate) fn prepare_copy<K: FileCallers>(cx: &mut Cx<'_, '_, K>) -> Result<(), Errno> {
    let (thread, id) = (cx.thread, cx.caller().files);
    if cx.k.files().fd_table(id).chunks.len() <= AT_ONCE {
        return Ok(());
    }
    let known = cx.k.files().partial.copies.get(&thread);
    let copy = match known.filter(|(of, _)| *of == id) {
        Some(&(_, copy)) => copy,
        None => {
            abandon_copy(cx.k.files_mut(), cx.p, thread);
            let copy = new_table(cx.k.files_mut());
            cx.k.files_mut().partial.copies.insert(thread, (id, copy));
            copy
        }
    };
    while copy_some(cx.k.files_mut(), id, copy) {
        if cx.is_spent() {
            return Err(Errno::LATER);
        }
    }
    Ok(())
}

/// Begins the copy of the caller's table that [`unshare`] makes, if others use it. `LATER`, as for
/// [`prepare_copy`].
pub(crate) fn prepare_unshare<K: FileCallers>(cx: &mut Cx<'_, '_, K>) -> Result<(), Errno> {
    let id = cx.caller().files;
    match cx.k.files().fd_table(id).users > 1 {
        true => prepare_copy(cx),
        false => Ok(()),
    }
}

/// The copy of the caller's table, with one user.
pub(crate) fn take_copy<K: FileCallers>(cx: &mut Cx<'_, '_, K>) -> FdTableId {
    let (thread, id) = (cx.thread, cx.caller().files);
    match cx.k.files_mut().partial.copies.remove(&thread) {
        Some((_, copy)) => copy,
        None => copy_table(cx.k.files_mut(), id),
    }
}

/// The thread will not use the copy that it has begun, if it has one.
pub(crate) fn abandon_copy(k: &mut Files, p: &mut Ports<'_>, thread: ThreadId) {
    if let Some((_, copy)) = k.partial.copies.remove(&thread) {
        release_table(k, p, copy, 0);
    }
}

/// One user less, a thread of process `tgid`; the last one closes all descriptors, by and by if they are
/// many.
pub(crate) fn release_table(k: &mut Files, p: &mut Ports<'_>, id: FdTableId, tgid: u32) {
    let table = k.fd_table_mut(id);
    table.users -= 1;
    if table.users > 0 {
        return;
    }
    let small = table.chunks.len() <= AT_ONCE;
    for _ in 0..=AT_ONCE {
        if (small || k.env.steps.left() > 0) && !close_some(k, p, id, tgid) {
            return;
        }
    }
    k.partial.ended.push_back((id, tgid));
}

/// Closes a chunk of a table without users; `false` if it was empty, and is gone.
fn close_some(k: &mut Files, p: &mut Ports<'_>, id: FdTableId, tgid: u32) -> bool {
    // The table stays in place meanwhile: closing looks at locks that it owns.
    let table = k.fd_table_mut(id);
    let Some((index, chunk)) = table.chunks.pop_first() else {
        k.tables.remove(id.0);
        return false;
    };
    table.open -= chunk.open.count_ones();
    if chunk.open == u64::MAX {
        table.unfill(index);
    }
    k.fd_chunks -= 1;
    for (_, slot) in chunk.iter() {
        k.env.steps.spend(4);
        mqueue::forget_owner(k, slot.file, tgid);
        lock::closed(k, slot.file, id);
        dnotify::closed(k, slot.file, id);
        file::put(k, p, slot.file);
    }
    true
}

/// A part of closing what tables without users still have; `false` if there are none.
pub(crate) fn close_ended(k: &mut Files, p: &mut Ports<'_>) -> bool {
    let Some(&(id, tgid)) = k.partial.ended.front() else {
        return false;
    };
    if !close_some(k, p, id, tgid) {
        k.partial.ended.pop_front();
    }
    true
}

/// Whether [`close_ended`] has nothing to do.
pub(crate) fn is_closed(k: &Files) -> bool {
    k.partial.ended.is_empty()
}

/// A context with one user; takes references on both paths.
pub(crate) fn new_context(k: &mut Files, root: PathRef, cwd: PathRef, umask: u32) -> FsContextId {
    let (root, cwd) = (get_path(k, root), get_path(k, cwd));
    FsContextId(k.contexts.insert(FsContext {
        users: 1,
        root,
        cwd,
        umask,
    }))
}

/// One more user of a context.
pub(crate) fn share_context(k: &mut Files, id: FsContextId) -> FsContextId {
    k.fs_context_mut(id).users += 1;
    id
}

/// A copy with one user (fork).
pub(crate) fn copy_context(k: &mut Files, id: FsContextId) -> FsContextId {
    let FsContext {
        root, cwd, umask, ..
    } = k.fs_context(id);
    let (root, cwd, umask) = (**root, **cwd, *umask);
    new_context(k, root, cwd, umask)
}

/// One user less.
pub(crate) fn release_context(k: &mut Files, p: &mut Ports<'_>, id: FsContextId) {
    let context = k.fs_context_mut(id);
    context.users -= 1;
    if context.users > 0 {
        return;
    }
    if let Some(context) = k.contexts.remove(id.0) {
        put_path(k, p, context.root);
        put_path(k, p, context.cwd);
    }
}

/// The file of a descriptor, `O_PATH` ones too: for a call that has waited the file that it was when the call
/// was made. No reference is taken.
pub(crate) fn get_any<K: FileCallers>(cx: &mut Cx<'_, '_, K>, fd: i32) -> Result<FileId, Errno> {
    find(cx.k, cx.thread, fd)
}

/// The same for a thread.
pub(crate) fn find<K: FileCallers>(k: &mut K, thread: ThreadId, fd: i32) -> Result<FileId, Errno> {
    let call = k.call_of(thread);
    if let Some(file) = call.and_then(|call| call.files.kept(fd)) {
        return Ok(file);
    }
    let table = k.caller(thread).files;
    let slot = k.files().fd_table(table).get(fd);
    let file = slot.map(|slot| slot.file).ok_or(Errno::EBADF)?;
    if let Some(call) = k.call_of(thread) {
        call.files.note(fd, file);
    }
    Ok(file)
}

/// The file of a descriptor that can be used for reading, writing and the like. No reference is taken.
pub(crate) fn get<K: FileCallers>(cx: &mut Cx<'_, '_, K>, fd: i32) -> Result<FileId, Errno> {
    let id = get_any(cx, fd)?;
    match cx.k.files().file(id) {
        Some(file) if !file.flags.contains(OpenFlags::PATH) => Ok(id),
        _ => Err(Errno::EBADF),
    }
}

/// One past the highest descriptor that may be given out.
pub(crate) fn limit<K: FileCallers>(cx: &Cx<'_, '_, K>) -> u32 {
    let most =
        cx.k.files()
            .env
            .settings
            .at_most(settings::DESCRIPTORS, NR_OPEN as usize);
    cx.rlimit(RLIMIT_NOFILE).min(most as u64) as u32
}

/// Whether no descriptor can be given out.
pub(crate) fn is_full<K: FileCallers>(cx: &mut Cx<'_, '_, K>) -> bool {
    let limit = limit(cx);
    cx.fds().lowest_free(0) >= limit
}

/// The lowest free descriptor, if one can be given out.
pub(crate) fn next_free<K: FileCallers>(cx: &mut Cx<'_, '_, K>) -> Option<i32> {
    let limit = limit(cx);
    let fd = cx.fds().lowest_free(0);
    (fd < limit).then_some(fd as i32)
}

/// The two lowest free descriptors. `EMFILE` if there are fewer.
pub(crate) fn two_free<K: FileCallers>(cx: &mut Cx<'_, '_, K>) -> Result<[i32; 2], Errno> {
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
pub(crate) fn install<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    file: FileId,
    on_exec: OnExec,
) -> Result<i32, Errno> {
    install_from(cx, file, 0, on_exec)
}

/// The same, not below `min` (`F_DUPFD`).
pub(crate) fn install_from<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    file: FileId,
    min: u32,
    on_exec: OnExec,
) -> Result<i32, Errno> {
    let limit = limit(cx);
    let fd = cx.fds().lowest_free(min);
    if fd >= limit {
        file::put(cx.k.files_mut(), cx.p, file);
        return Err(Errno::EMFILE);
    }
    let table = cx.caller().files;
    set(cx.k.files_mut(), table, fd, Some(Slot::new(file, on_exec)));
    Ok(fd as i32)
}

/// Puts a file at this descriptor, closing what was there. Takes over the caller's reference. The number has
/// been checked.
pub(crate) fn replace<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    fd: u32,
    file: FileId,
    on_exec: OnExec,
) {
    let (table, tgid) = (cx.caller().files, cx.caller().tgid);
    let old = set(cx.k.files_mut(), table, fd, Some(Slot::new(file, on_exec)));
    if let Some(old) = old {
        mqueue::forget_owner(cx.k.files_mut(), old.file, tgid);
        lock::closed(cx.k.files_mut(), old.file, table);
        dnotify::closed(cx.k.files_mut(), old.file, table);
        file::put(cx.k.files_mut(), cx.p, old.file);
    }
}

/// Closes a descriptor.
pub(crate) fn close<K: FileCallers>(cx: &mut Cx<'_, '_, K>, fd: i32) -> Result<(), Errno> {
    let (table, tgid) = (cx.caller().files, cx.caller().tgid);
    let slot = match u32::try_from(fd) {
        Ok(fd) => set(cx.k.files_mut(), table, fd, None),
        Err(_) => None,
    };
    let slot = slot.ok_or(Errno::EBADF)?;
    mqueue::forget_owner(cx.k.files_mut(), slot.file, tgid);
    lock::closed(cx.k.files_mut(), slot.file, table);
    dnotify::closed(cx.k.files_mut(), slot.file, table);
    file::put(cx.k.files_mut(), cx.p, slot.file);
    Ok(())
}

/// Closes what is marked close-on-exec in the current task's table, from a descriptor on: some of it; gives
/// where to go on.
pub(crate) fn close_on_exec<K: FileCallers>(cx: &mut Cx<'_, '_, K>, from: u32) -> Option<u32> {
    let next: SmallVec<[(i32, bool); 64]> = {
        let slots = cx.fds().iter_from(from).take(64);
        slots.map(|(fd, slot)| (fd, slot.cloexec)).collect()
    };
    cx.spend(next.len() as u64 / 16);
    for &(fd, cloexec) in &next {
        if cloexec {
            cx.spend(4);
            let _ = close(cx, fd);
        }
    }
    next.last().map(|&(fd, _)| fd as u32 + 1)
}

/// Gives the current task a table of its own (`CLOSE_RANGE_UNSHARE`, execve(2)).
pub(crate) fn unshare<K: FileCallers>(cx: &mut Cx<'_, '_, K>) {
    let id = cx.caller().files;
    if cx.k.files().fd_table(id).users > 1 {
        let copy = take_copy(cx);
        let tgid = cx.caller().tgid;
        release_table(cx.k.files_mut(), cx.p, id, tgid);
        cx.k.set_table(cx.thread, copy);
    }
}

/// Puts a file at a free descriptor of a table that no task uses yet. Takes over the caller's reference.
pub(crate) fn put_at(k: &mut Files, table: FdTableId, fd: u32, file: FileId) {
    let slot = Slot {
        file,
        cloexec: false,
    };
    set(k, table, fd, Some(slot));
}
