//! Names: lookup over the parts of a directory, and all changes.

use varve_imgfs::kind_of;

use super::node::{self, Body, Node, Slot};
use super::{MAX_LINKS, UnionFs};
use crate::abi::Errno;
use crate::abi::raw::general::{DT_DIR, S_IFCHR};
use crate::args::RenameFlags;
use crate::fs::filesystem::{FsCx, Ino, NewNode, Time};

/// Two names, a directory and a name each, and the inodes behind them with their types.
struct Renamed<'a> {
    from: (Ino, &'a [u8]),
    source: (Ino, u8),
    to: (Ino, &'a [u8]),
    target: Option<(Ino, u8)>,
}

impl UnionFs {
    /// Whether an inode can have entries: not one that was changed and is no directory. `ENOTDIR`; what only
    /// layers have is for them to say.
    pub(super) fn check_dir(&self, dir: Ino) -> Result<(), Errno> {
        match self.nodes.get(&dir).map(|node| &node.body) {
            Some(Body::Dir(_)) | None => Ok(()),
            Some(_) => Err(Errno::ENOTDIR),
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
        self.check_dir(dir)?;
        let nodes = &self.nodes;
        self.layers
            .lookup(&mut cx.ports.layers(), dir, name, |ino| {
                nodes.contains_key(&ino)
            })
    }

    /// Whether the layers have something under a name.
    fn shows_through(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
    ) -> Result<bool, Errno> {
        self.check_dir(dir)?;
        self.layers.contains(&mut cx.ports.layers(), dir, name)
    }

    fn exists(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<bool, Errno> {
        match self.slot(dir, name) {
            Some(slot) => Ok(slot != Slot::Whiteout),
            None => self.shows_through(cx, dir, name),
        }
    }

    /// Forgets the parts of a directory that was found and that nobody has.
    fn release_found(&mut self, ino: Ino) {
        if !self.refs.contains_key(&ino) && !self.nodes.contains_key(&ino) {
            self.layers.release(ino);
        }
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
        self.hold(ino);
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
        self.release_found(found.0);
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
        let whiteout = self.shows_through(cx, dir, name)?;
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
        self.release_found(source.0);
        if let Ok(Some(target)) = target {
            self.release_found(target.0);
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
        let whiteout = self.shows_through(cx, from.0, from.1)?;
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
