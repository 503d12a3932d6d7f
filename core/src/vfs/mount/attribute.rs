//! Changing flags and types of a mount, or of a whole tree, all or none (mount_setattr(2)).

use alloc::vec::Vec;

use super::propagation::{self, Type};
use super::tree::{Extent, Walk};
use super::{MountFlags, MountId};
use crate::abi::Errno;
use crate::vfs::Vfs;

/// What is to be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Change {
    pub set: MountFlags,
    pub clear: MountFlags,
    pub to: Option<Type>,
    /// Users and groups are to be mapped, which no file system here allows.
    pub maps: bool,
}

impl Change {
    fn flags(&self, old: MountFlags) -> MountFlags {
        (old - self.clear) | self.set
    }
}

/// A change under way.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Setting {
    root: MountId,
    extent: Extent,
    change: Change,
    walk: Walk,
    /// Mounts that have been made read-only ahead, so that nobody opens a file for writing any more.
    held: Vec<MountId>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Phase {
    /// Whether all of them can be changed.
    Check,
    Commit,
    /// The mount whose type is being changed.
    Type(MountId, Type),
    Undo(Errno),
}

impl Setting {
    pub(crate) fn new(root: MountId, extent: Extent, change: Change) -> Setting {
        Setting {
            root,
            extent,
            change,
            walk: Walk::new(root),
            held: Vec::new(),
            phase: Phase::Check,
        }
    }

    /// The next mount that is meant, or a step on the way to it; `None` after the last.
    fn next(&mut self, k: &Vfs) -> Option<Option<MountId>> {
        let found = self.walk.step(&k.mounts)?;
        match found {
            Some(id) if id != self.root && self.extent == Extent::One => None,
            found => Some(found),
        }
    }

    /// A step on the way; the result at its end. `EPERM`, `EINVAL`, `EBUSY`.
    pub(super) fn step(&mut self, k: &mut Vfs) -> Option<Result<(), Errno>> {
        k.env.steps.spend(2);
        match self.phase {
            Phase::Check => match self.next(k) {
                Some(Some(id)) => {
                    if let Err(errno) = self.check(k, id) {
                        self.phase = Phase::Undo(errno);
                    }
                }
                Some(None) => {}
                None => {
                    self.walk = Walk::new(self.root);
                    self.phase = Phase::Commit;
                }
            },
            Phase::Commit => match self.next(k) {
                Some(Some(id)) => {
                    let mount = k.mounts.at_mut(id);
                    mount.flags = self.change.flags(mount.flags);
                    k.mounts.touch(id);
                    if let Some(to) = self.change.to {
                        self.phase = Phase::Type(id, to);
                    }
                }
                Some(None) => {}
                None => return Some(Ok(())),
            },
            Phase::Type(id, to) => {
                if propagation::set(k, id, to) {
                    self.phase = Phase::Commit;
                }
            }
            Phase::Undo(errno) => match self.held.pop() {
                Some(id) => k.mounts.at_mut(id).flags -= MountFlags::READ_ONLY,
                None => return Some(Err(errno)),
            },
        }
        None
    }

    fn check(&mut self, k: &mut Vfs, id: MountId) -> Result<(), Errno> {
        let mount = k.mounts.at(id);
        let new = self.change.flags(mount.flags);
        if !mount.flags.keep_locked(new, mount.locked_flags) {
            return Err(Errno::EPERM);
        }
        if self.change.maps {
            return Err(Errno::EINVAL);
        }
        let locks_out = self.change.set.contains(MountFlags::READ_ONLY)
            && !mount.flags.contains(MountFlags::READ_ONLY);
        if locks_out {
            if k.writers_through(id) > 0 {
                return Err(Errno::EBUSY);
            }
            k.mounts.at_mut(id).flags |= MountFlags::READ_ONLY;
            self.held.push(id);
        }
        Ok(())
    }
}
