//! What the directory of a process or thread holds by the table [`FILES`]: files, directories of them, links.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Asked, Entries, Node, NodeOps};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::Creds;
use crate::cred::groups::Groups;
use crate::cred::ns::NsId;
use crate::cred::ns::user::Opener;
use crate::file::{FileId, FileKind};
use crate::fs::anon;
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::caller::Callers;
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;
use crate::views::proc::events::{self, Change};
use crate::views::proc::process::{self, FILES, Kind};
use crate::views::proc::shown::Shown;
use crate::views::proc::view::View;
use crate::views::proc::{identity, mem};
use crate::{Kernel, file};

/// What has a place in the table, of a process or thread.
pub(in crate::views::proc) struct Entry(pub View, pub usize);

impl Entry {
    /// The path in the directory of the process.
    fn path(&self) -> &'static str {
        FILES[self.1].0
    }

    fn kind(&self) -> Kind {
        FILES[self.1].1
    }

    /// `ESRCH` for a file that tells of the memory of a process which has none any more.
    fn has_memory(&self, k: &Kernel) -> Result<(), Errno> {
        let needs = process::NEED_MEMORY.contains(&self.path());
        match needs && self.0.live(k)?.exited {
            true => Err(Errno::ESRCH),
            false => Ok(()),
        }
    }
}

/// What is in the directory at a path.
pub(super) fn children(view: View, dir: &str) -> impl Iterator<Item = (&'static [u8], Node)> {
    process::entries(dir)
        .filter(move |&place| process::is_shown(place, view))
        .map(move |place| (process::last(place), Node::File(view, place)))
}

impl NodeOps for Entry {
    fn view(&self) -> Option<View> {
        Some(self.0)
    }

    fn mode(&self, _k: &Kernel) -> u32 {
        self.kind().mode()
    }

    fn owner(&self, k: &Kernel) -> (u32, u32) {
        match self.mode(k) == g::S_IFDIR | 0o555 {
            true => self.0.owner(k),
            false => self.0.owner_of_files(k),
        }
    }

    fn lookup(&self, _k: &Kernel, _asked: &Asked<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        match self.kind() {
            Kind::Dir(_) => {
                let found = process::find(self.path(), name);
                Ok(found.map(|place| Node::File(self.0, place)))
            }
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries<'k>(
        &self,
        _k: &'k Kernel,
        _asked: &Asked<'k>,
        _first: u32,
    ) -> Result<Entries<'k>, Errno> {
        match self.kind() {
            Kind::Dir(_) => Ok(Entries::named(children(self.0, self.path()).collect())),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn read_link(
        &self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        thread: ThreadId,
        _ns: NsId,
    ) -> Result<Vec<u8>, Errno> {
        self.kind().read_link(k, p, thread, self.0)
    }

    fn jump(&self, k: &mut Kernel, who: &Who) -> Result<Option<PathRef>, Errno> {
        process::check_access_by(k, who, self.0)?;
        let target = match self.kind() {
            Kind::Link(target) => target(k, self.0),
            kind @ (Kind::Namespace(_) | Kind::Children) => {
                let ns = kind.namespace(k, self.0).and_then(|(_, ns)| ns);
                let dentry = crate::ns::dentry_of(k, ns.ok_or(Errno::ENOENT)?);
                dentry.map(|dentry| PathRef {
                    mount: anon::MOUNT,
                    dentry,
                })
            }
            _ => return Ok(None),
        };
        target.map(Some).ok_or(Errno::ENOENT)
    }

    /// The right to look into the process.
    fn may_open(&self, k: &Kernel, thread: ThreadId, writes: bool) -> Result<(), Errno> {
        let (path, view) = (self.path(), self.0);
        match self.kind() {
            Kind::Memory(..) | Kind::MemoryRecords(..) => {
                process::check_memory(k, thread, view)?;
                self.has_memory(k)
            }
            Kind::Private(..) if path == "clear_refs" => Ok(()),
            Kind::Private(..) => {
                process::check_access(k, thread, view)?;
                self.has_memory(k)
            }
            // An ended process has no mounts.
            _ if path.starts_with("mount") && view.context(k).is_none() => Err(Errno::EINVAL),
            _ if writes && path == "setgroups" => identity::check_setgroups(k, thread, view),
            _ => Ok(()),
        }
    }

    fn open(&self, k: &mut Kernel, thread: ThreadId) -> Result<FileKind, Errno> {
        Ok(match (self.path(), self.kind()) {
            ("mem", _) => FileKind::Memory(mem::open(k, thread, self.0)?),
            ("pagemap", _) => FileKind::PageMap(mem::open(k, thread, self.0)?),
            // What tells of memory goes on to tell of the memory that was there when it was opened.
            (_, Kind::Memory(..) | Kind::MemoryRecords(..)) => {
                let space = self.0.live(k)?.space;
                k.files.made.open(Some(space))
            }
            _ => k.files.made.open(None),
        })
    }

    /// Of a map of users or groups, and of which namespace. It stays that one's when the process ends.
    fn opener(&self, k: &Kernel, thread: ThreadId) -> Option<Box<Opener>> {
        identity::numbers(self.path())?;
        let of = identity::namespace(k, self.0).ok()?;
        // Groups have no part in the judgement, and may be many.
        let creds = Creds {
            groups: Groups::none(),
            ..Creds::clone(k.creds_of(thread))
        };
        Some(Box::new(Opener { creds, of }))
    }

    /// `ESRCH` if areas are listed and there is no process.
    fn has_space(&self, k: &Kernel, space: SpaceId) -> Result<bool, Errno> {
        match (self.0.task(k), self.kind()) {
            (Some(task), _) => Ok(!task.exited && task.space == space),
            (None, Kind::MemoryRecords(..)) => Err(Errno::ESRCH),
            (None, _) => Ok(false),
        }
    }

    fn opened(&self, k: &Kernel, thread: ThreadId, id: FileId) -> Option<Vec<u8>> {
        identity::opened(k, thread, id, self.1)
    }

    fn content(
        &self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        thread: ThreadId,
        ns: NsId,
    ) -> Result<Shown, Errno> {
        let view = self.0;
        let text = match self.kind() {
            Kind::Records(_, begin) | Kind::MemoryRecords(_, begin) => {
                let rest = begin(k, view)?;
                return Ok(rest.map_or_else(Shown::default, Shown::records));
            }
            Kind::File(_, make) | Kind::Memory(_, make) | Kind::Private(_, make) => {
                make(k, p, thread, view)
            }
            Kind::Judged(_, errno, make) => {
                let allowed = process::check_access(k, thread, view);
                allowed.map_err(|found| match found {
                    Errno::EACCES => errno,
                    gone => gone,
                })?;
                make(k, p, thread, view)
            }
            Kind::Numbers(make) => make(k, view, thread, ns),
            Kind::Dir(_) | Kind::Link(_) | Kind::Namespace(_) | Kind::Children => {
                Err(Errno::EINVAL)
            }
        };
        text.map(Shown::whole)
    }

    fn write(
        &self,
        cx: &mut Cx<'_, '_>,
        id: FileId,
        at: Option<u64>,
        data: &[u8],
    ) -> Result<u64, Errno> {
        let path = self.path();
        match identity::numbers(path) {
            Some(_) => {
                let at = at.unwrap_or(file::at(cx.k, id).offset);
                identity::set_map(cx, id, path, at, data)?;
            }
            None => process::write(cx.k, cx.thread, self.0, path, data)?,
        }
        Ok(data.len() as u64)
    }

    fn change(&self, k: &Kernel, _thread: ThreadId) -> Option<Change> {
        match events::is_mount_table(self.path()) {
            true => events::of_mounts(k, self.0),
            false => None,
        }
    }

    fn can_wait(&self) -> bool {
        events::is_mount_table(self.path()) || self.path().starts_with("net/")
    }
}
