//! Names: lookup over the parts of a directory, and all changes.

use smallvec::SmallVec;

use super::layer::kind_of;
use super::node::{self, Body, Node, Slot};
use super::{MAX_LINKS, UnionFs};
use crate::abi::Errno;
use crate::abi::raw::general::{DT_DIR, S_IFCHR};
use crate::fs::filesystem::{FsCx, Ino, NewNode, RenameFlags, Time};

/// What the lower parts of a directory have under a name.
struct Lower {
    ino: Ino,
    kind: u8,
    /// Of a directory: its own parts, topmost first, `ino` being the first.
    parts: SmallVec<[Ino; 4]>,
}

/// Two names, a directory and a name each, and the inodes behind them with their types.
struct Renamed<'a> {
    from: (Ino, &'a [u8]),
    source: (Ino, u8),
    to: (Ino, &'a [u8]),
    target: Option<(Ino, u8)>,
}

impl UnionFs {
    /// Lower parts of a directory, topmost first.
    pub(super) fn parts(&self, dir: Ino) -> Result<SmallVec<[Ino; 8]>, Errno> {
        match self.nodes.get(&dir) {
            Some(node) => match &node.body {
                Body::Dir(dir) => Ok(SmallVec::from_slice(&dir.parts)),
                _ => Err(Errno::ENOTDIR),
            },
            None => Ok(match self.merged.get(&dir) {
                Some(parts) => SmallVec::from_slice(parts),
                None => SmallVec::from_slice(&[dir]),
            }),
        }
    }

    pub(super) fn slot(&self, dir: Ino, name: &[u8]) -> Option<Slot> {
        match &self.nodes.get(&dir)?.body {
            Body::Dir(dir) => dir.slots.get(name).copied(),
            _ => None,
        }
    }

    /// The inode called `name` in `dir` and its type.
    pub(super) fn find(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
    ) -> Result<Option<(Ino, u8)>, Errno> {
        match self.slot(dir, name) {
            Some(Slot::Entry { ino, kind, .. }) => return Ok(Some((ino, kind))),
            Some(Slot::Whiteout) => return Ok(None),
            None => {}
        }
        let Some(lower) = self.find_lower(cx, dir, name)? else {
            return Ok(None);
        };
        let known = self.nodes.contains_key(&lower.ino) || self.merged.contains_key(&lower.ino);
        if lower.parts.len() > 1 && !known {
            self.merged.insert(lower.ino, lower.parts.into_vec());
        }
        Ok(Some((lower.ino, lower.kind)))
    }

    /// As `lookup`, for a union that is never written: only merged directories, whose parts must be kept, are
    /// counted.
    pub(crate) fn lookup_lower(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
    ) -> Result<Ino, Errno> {
        let (ino, _) = self.find(cx, dir, name)?.ok_or(Errno::ENOENT)?;
        if self.merged.contains_key(&ino) {
            self.grab(ino);
        }
        Ok(ino)
    }

    fn exists(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<bool, Errno> {
        match self.slot(dir, name) {
            Some(slot) => Ok(slot != Slot::Whiteout),
            None => Ok(self.find_lower(cx, dir, name)?.is_some()),
        }
    }

    /// Forgets the parts of a directory that was found and is not referenced.
    fn settle(&mut self, ino: Ino) {
        if ino != self.root && !self.refs.contains_key(&ino) {
            self.merged.remove(&ino);
        }
    }

    fn find_lower(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
    ) -> Result<Option<Lower>, Errno> {
        let mut found: Option<Lower> = None;
        let parts = self.parts(dir)?;
        for (index, &part) in parts.iter().enumerate() {
            let Some((ino, kind)) = self.layers.lookup(cx.ports, part, name)? else {
                continue;
            };
            if self.layers.is_whiteout(cx.ports, ino, kind)? {
                break;
            }
            let is_dir = u32::from(kind) == DT_DIR;
            match &mut found {
                None => {
                    let parts = SmallVec::from_slice(&[ino]);
                    found = Some(Lower { ino, kind, parts });
                }
                Some(lower) if is_dir => lower.parts.push(ino),
                Some(_) => break,
            }
            let last = index + 1 == parts.len();
            if !is_dir || !last && self.layers.is_opaque(cx.ports, ino)? {
                break;
            }
        }
        Ok(found)
    }

    /// Makes sure that an entry can be changed: the directory has a node, was not removed, and there is room.
    fn prepare(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<(), Errno> {
        self.prepare_entry(cx, dir, name)?;
        self.room(2 * node::entry_heap(name) + super::NODE_COST)
    }

    /// The same where no inode is made.
    fn prepare_entry(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<(), Errno> {
        let node = self.copy_up(cx, dir)?;
        match (&node.body, node.nlink) {
            (Body::Dir(_), 0) => return Err(Errno::ENOENT),
            (Body::Dir(_), _) => {}
            _ => return Err(Errno::ENOTDIR),
        }
        self.heap_room(2 * node::entry_heap(name))
    }

    /// Changes one entry of a prepared directory: to an inode, or away.
    fn change(&mut self, dir: Ino, name: &[u8], to: Option<(Ino, u8)>, whiteout: bool, now: Time) {
        let Some(Node {
            body: Body::Dir(body),
            mtime,
            ctime,
            ..
        }) = self.nodes.get_mut(&dir)
        else {
            return;
        };
        let was_dir =
            |slot: &Slot| matches!(slot, Slot::Entry { kind, .. } if u32::from(*kind) == DT_DIR);
        let old = match to {
            Some((ino, kind)) => {
                body.subdirs += u32::from(u32::from(kind) == DT_DIR);
                body.set(name, ino, kind)
            }
            None => body.unset(name, whiteout),
        };
        if old.as_ref().is_some_and(was_dir) {
            body.subdirs = body.subdirs.saturating_sub(1);
        }
        (*mtime, *ctime) = (now, now);
        let cost = node::entry_heap(name);
        if to.is_some() || whiteout {
            self.heap += cost;
        }
        if old.is_some() {
            self.uncharge(cost);
        }
    }

    pub(super) fn create_entry(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
        new: &NewNode<'_>,
    ) -> Result<Ino, Errno> {
        self.writable()?;
        if self.exists(cx, dir, name)? {
            return Err(Errno::EEXIST);
        }
        self.prepare(cx, dir, name)?;
        let now = Time::from_nanos(cx.now.real);
        let node = node::from_new(new, now)?;
        let kind = kind_of(node.mode);
        let ino = self.new_ino();
        self.insert_node(ino, node)?;
        self.change(dir, name, Some((ino, kind)), false, now);
        self.grab(ino);
        Ok(ino)
    }

    pub(super) fn link_entry(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        dir: Ino,
        name: &[u8],
    ) -> Result<(), Errno> {
        self.writable()?;
        if self.exists(cx, dir, name)? {
            return Err(Errno::EEXIST);
        }
        self.prepare_entry(cx, dir, name)?;
        let now = Time::from_nanos(cx.now.real);
        let tmpfs = self.layers.is_empty();
        let full = tmpfs && self.inodes_used() >= self.inodes;
        let node = self.copy_up(cx, ino)?;
        let counted = tmpfs && node.nlink > 0;
        match (&node.body, node.nlink) {
            _ if counted && full => return Err(Errno::ENOSPC),
            (Body::Dir(_), _) => return Err(Errno::EPERM),
            (_, 0) if !node.linkable => return Err(Errno::ENOENT),
            (_, MAX_LINKS..) => return Err(Errno::EMLINK),
            _ => {}
        }
        node.linkable = false;
        node.nlink += 1;
        node.ctime = now;
        let kind = kind_of(node.mode);
        self.extra_names += u64::from(counted);
        self.change(dir, name, Some((ino, kind)), false, now);
        Ok(())
    }

    pub(super) fn remove(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
        want_dir: bool,
    ) -> Result<(), Errno> {
        self.writable()?;
        let found = self.find(cx, dir, name)?.ok_or(Errno::ENOENT)?;
        let done = self.remove_found(cx, dir, name, want_dir, found);
        self.settle(found.0);
        done
    }

    fn remove_found(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
        want_dir: bool,
        (ino, kind): (Ino, u8),
    ) -> Result<(), Errno> {
        match (u32::from(kind) == DT_DIR, want_dir) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (true, true) if !self.is_empty_dir(cx, ino)? => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        let whiteout = self.find_lower(cx, dir, name)?.is_some();
        self.prepare_entry(cx, dir, name)?;
        self.drop_link(cx, ino)?;
        self.change(dir, name, None, whiteout, Time::from_nanos(cx.now.real));
        Ok(())
    }

    fn is_empty_dir(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino) -> Result<bool, Errno> {
        let mut empty = true;
        self.list(cx, dir, 0, &mut |_| {
            empty = false;
            false
        })?;
        Ok(empty)
    }

    pub(super) fn rename_entry(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        self.writable()?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if exchange && flags.intersects(RenameFlags::NOREPLACE | RenameFlags::WHITEOUT) {
            return Err(Errno::EINVAL);
        }
        let source = self.find(cx, from.0, from.1)?.ok_or(Errno::ENOENT)?;
        let target = self.find(cx, to.0, to.1);
        let done = match target {
            Ok(target) => self.rename_found(
                cx,
                Renamed {
                    from,
                    source,
                    to,
                    target,
                },
                flags,
            ),
            Err(errno) => Err(errno),
        };
        self.settle(source.0);
        if let Ok(Some(target)) = target {
            self.settle(target.0);
        }
        done
    }

    fn rename_found(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        names: Renamed<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let Renamed {
            from,
            source,
            to,
            target,
        } = names;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let is_dir = |(_, kind): (Ino, u8)| u32::from(kind) == DT_DIR;
        match target {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(target) if target.0 == source.0 => return Ok(()),
            Some(target) if !exchange => match (is_dir(source), is_dir(target)) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !self.is_empty_dir(cx, target.0)? => {
                    return Err(Errno::ENOTEMPTY);
                }
                _ => {}
            },
            _ => {}
        }
        // All that can fail comes before the first change.
        let whiteout = self.find_lower(cx, from.0, from.1)?.is_some();
        self.prepare_entry(cx, from.0, from.1)?;
        self.prepare_entry(cx, to.0, to.1)?;
        let now = Time::from_nanos(cx.now.real);
        self.copy_up(cx, source.0)?.ctime = now;
        let leave = match flags.contains(RenameFlags::WHITEOUT) {
            true => {
                let node = Node::new(S_IFCHR, 0, 0, now, Body::Other);
                let ino = self.new_ino();
                self.insert_node(ino, node)?;
                Some((ino, kind_of(S_IFCHR)))
            }
            false => None,
        };
        match target {
            Some(target) if exchange => {
                self.copy_up(cx, target.0)?.ctime = now;
                self.change(from.0, from.1, Some(target), false, now);
            }
            _ => {
                if let Some(target) = target {
                    self.drop_link(cx, target.0)?;
                }
                self.change(from.0, from.1, leave, whiteout && leave.is_none(), now);
            }
        }
        self.change(to.0, to.1, Some(source), false, now);
        Ok(())
    }
}
