//! The `proc` file system (proc(5)): inodes are numbers made of a process and what is told about it; contents
//! are made when a file is opened.
//!
//! [`node`] says what a number stands for; below it each kind of node has a file with its answers. `system`
//! holds what tells of the whole system, `process` what tells of one process or thread ([`view`]): both are
//! tables of paths. `state`, `identity`, `mounts`, `net` and `fdinfo` make contents of some of the latter;
//! `listed` has those with a line for each of many things.
//! `hide` has the options of an instance.

pub(crate) mod events;
mod fdinfo;
mod hide;
mod identity;
mod listed;
pub(crate) mod mem;
mod memory;
mod mounts;
mod net;
mod node;
mod opened;
mod process;
mod shown;
mod state;
mod sysctl;
mod system;
mod sysvipc;
mod view;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use events::Change;
use node::{Asked, Entries, Node, of_node};
pub(crate) use process::{file_text, path_text};
pub(crate) use shown::{Contents, Shown};

use super::ops::ViewFs;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::user::Opener;
use crate::file::{FileId, FileKind};
use crate::fs::filesystem::{Attr, Entry, Filesystem, Ino, Time};
use crate::fs::view::ProcFs;
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;
use crate::{Kernel, file};

/// What is shown for a path that is longer than any that programs can use.
const TOO_LONG: &[u8] = b"//toolong";

/// The process whose directory an inode of `proc` is. Those of threads (`task/TID`) are not.
pub(crate) fn process_of(ino: Ino) -> Option<u32> {
    of_node!(Node::parse(ino)?, process())
}

/// What an open file of this inode is.
pub(crate) fn kind_of(k: &mut Kernel, thread: ThreadId, ino: Ino) -> Result<FileKind, Errno> {
    of_node!(Node::of(k, ino)?, open(k, thread))
}

/// Who opens a file of which writes are judged by that.
pub(crate) fn opener(k: &Kernel, thread: ThreadId, id: FileId) -> Option<Box<Opener>> {
    let inode = file::at(k, id).inode?;
    let Filesystem::Proc(_) = k.fs.filesystem(inode.fs) else {
        return None;
    };
    of_node!(Node::parse(inode.ino)?, opener(k, thread))
}

/// What opening a file asks beyond its permissions: the right to look into a process.
pub(crate) fn may_open(k: &Kernel, thread: ThreadId, ino: Ino, writes: bool) -> Result<(), Errno> {
    of_node!(Node::of(k, ino)?, may_open(k, thread, writes))
}

impl ViewFs for ProcFs {
    fn lookup(self, k: &mut Kernel, who: &Who, dir: Ino, name: &[u8]) -> Result<Ino, Errno> {
        let k = &*k;
        let node = Node::parse(dir).ok_or(Errno::ENOENT)?;
        Node::of(k, dir).map_err(|_| of_node!(node, gone()))?;
        let found = of_node!(node, lookup(k, &Asked { fs: self, who }, name))?;
        found.map(Node::ino).ok_or(Errno::ENOENT)
    }

    fn attr(self, k: &mut Kernel, ino: Ino) -> Result<Attr, Errno> {
        let k = &*k;
        let node = Node::parse(ino).ok_or(Errno::ENOENT)?;
        if of_node!(node, ends()) && Node::of(k, ino).is_err() {
            return Err(Errno::ENOENT);
        }
        let mode = of_node!(node, mode(k));
        let (uid, gid) = of_node!(node, owner(k));
        let now = Time::from_nanos(k.env.now.real);
        Ok(Attr {
            mode,
            uid,
            gid,
            nlink: match mode & g::S_IFMT {
                g::S_IFDIR => of_node!(node, links(k)),
                _ => 1,
            },
            size: of_node!(node, size(k)),
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Attr::default()
        })
    }

    fn shown_attr(self, k: &mut Kernel, who: &Who, ino: Ino) -> Result<Attr, Errno> {
        let node = Node::parse(ino).ok_or(Errno::ENOENT)?;
        of_node!(node, check_attr(k, &Asked { fs: self, who }))?;
        let attr = self.attr(k, ino)?;
        let owner = of_node!(node, shown_owner(k, who));
        let (uid, gid) = owner.unwrap_or((attr.uid, attr.gid));
        Ok(Attr { uid, gid, ..attr })
    }

    fn permission(self, k: &Kernel, who: &Who, ino: Ino, mask: u32) -> Option<Result<(), Errno>> {
        of_node!(Node::parse(ino)?, permission(k, who, mask))
    }

    fn check_enter(self, k: &Kernel, who: &Who, dir: Ino) -> Result<(), Errno> {
        match Node::parse(dir) {
            Some(node) => of_node!(node, check_enter(k, &Asked { fs: self, who })),
            None => Ok(()),
        }
    }

    fn jump(self, k: &mut Kernel, who: &Who, link: Ino) -> Result<Option<PathRef>, Errno> {
        of_node!(Node::of(k, link)?, jump(k, who))
    }

    fn read_link(
        self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        who: &Who,
        ino: Ino,
    ) -> Result<Vec<u8>, Errno> {
        let thread = who.viewer().ok_or(Errno::ENOENT)?;
        of_node!(Node::of(k, ino)?, read_link(k, p, thread, self.pids))
    }

    fn read_dir(
        self,
        k: &mut Kernel,
        who: &Who,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        /// Cookies of processes, threads and descriptors begin here: they follow all others and go by number.
        const NUMBERED: u64 = 0x1_0000;
        let k = &*k;
        let asked = Asked { fs: self, who };
        // The first number that is asked for.
        let first = u32::try_from(cookie.saturating_sub(NUMBERED)).unwrap_or(u32::MAX);
        let node = Node::of(k, dir).map_err(|_| Errno::ENOENT)?;
        let Entries { named, numbered } = of_node!(node, entries(k, &asked, first))?;
        let named = named.into_iter().enumerate().map(|(index, (name, node))| {
            // Cookies up to 2 belong to "." and "..".
            (index as u64 + 3, name.to_vec(), node)
        });
        let numbered = numbered.map(|(id, node)| {
            (
                NUMBERED + u64::from(id) + 1,
                format!("{id}").into_bytes(),
                node,
            )
        });
        for (next, name, node) in named.chain(numbered).filter(|&(next, ..)| next > cookie) {
            let kind = (of_node!(node, mode(k)) >> 12) as u8;
            if !each(Entry {
                name: &name,
                ino: node.ino(),
                kind,
                next,
            }) {
                break;
            }
        }
        Ok(())
    }

    /// The directory of a process that is hidden.
    fn exists(self, k: &Kernel, ino: Ino) -> bool {
        process_of(ino).is_some_and(|id| k.tasks.group_exists(id))
    }

    fn content(
        self,
        cx: &mut Cx<'_, '_>,
        id: FileId,
        ino: Ino,
        space: Option<SpaceId>,
    ) -> Result<Shown, Errno> {
        let thread = cx.thread;
        if let Some(node) = Node::parse(ino) {
            if let Some(space) = space
                && !of_node!(node, has_space(cx.k, space))?
            {
                return Ok(Shown::default());
            }
            if let Some(text) = of_node!(node, opened(cx.k, thread, id)) {
                return Ok(Shown::whole(text));
            }
        }
        of_node!(Node::of(cx.k, ino)?, content(cx.k, cx.p, thread, self.pids))
    }

    fn write(
        self,
        cx: &mut Cx<'_, '_>,
        id: FileId,
        ino: Ino,
        at: Option<u64>,
        data: &[u8],
    ) -> Result<u64, Errno> {
        of_node!(Node::of(cx.k, ino)?, write(cx, id, at, data))
    }

    fn shows_numbers(self, ino: Ino) -> bool {
        Node::parse(ino).is_some_and(|node| of_node!(node, shows_numbers()))
    }

    fn change(self, k: &Kernel, thread: ThreadId, ino: Ino) -> Option<Change> {
        of_node!(Node::parse(ino)?, change(k, thread))
    }

    fn can_wait(self, ino: Ino) -> bool {
        Node::parse(ino).is_some_and(|node| of_node!(node, can_wait()))
    }
}
