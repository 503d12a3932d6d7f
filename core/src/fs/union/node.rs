//! Inodes of the upper layer: made here, or lower ones that were changed.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{pages_of, xattr};
use crate::abi::raw::general::{
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK,
};
use crate::abi::{Errno, PATH_MAX};
use crate::fs::acl::AclId;
use crate::fs::filesystem::{Attr, Ino, NewNode, Time};
use crate::fs::runs::FrameRuns;
use crate::machine::FrameNo;

/// Targets of symbolic links below this length lie in the inode (`SHORT_SYMLINK_LEN`, with the NUL).
const SHORT_LINK: usize = 128;
/// What a name takes beside its bytes, about.
const ENTRY_COST: u64 = 160;

/// An inode of the upper layer.
#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    /// Names; 0 for a directory that was removed.
    pub nlink: u32,
    /// Has no name yet but may get one (`O_TMPFILE`).
    pub linkable: bool,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    /// Extended attributes; `None`: still those of the lower inode.
    pub xattrs: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The POSIX ACL of the lower inode.
    pub acl: Option<AclId>,
    /// Flags of chattr(1).
    pub flags: u32,
    pub body: Body,
}

/// What an inode holds, by type.
#[derive(Clone, Debug, Hash)]
pub(super) enum Body {
    File(Data),
    Dir(Dir),
    /// A symbolic link made here.
    Link(Arc<[u8]>),
    /// A device, FIFO or socket, or a lower symbolic link.
    Other,
}

/// A regular file.
#[derive(Clone, Debug, Hash)]
pub(super) struct Data {
    pub size: u64,
    /// So many bytes of the lower file still show where there is no page; behind them there are zeros. At
    /// most `size` and the lower file's size.
    pub shown: u64,
    pub pages: FrameRuns,
    /// How many of the pages lie wholly behind what the lower file shows.
    behind: u64,
}

impl Data {
    /// Adds pages that were not there, in the frames from `frame` on.
    pub(super) fn insert(&mut self, index: u64, frame: FrameNo, count: u32) {
        let end = index + u64::from(count);
        self.behind += end.saturating_sub(index.max(pages_of(self.shown)));
        self.pages.insert(index, frame, count);
    }

    /// Whether its runs and counts are right; for invariant checks.
    pub(super) fn is_right(&self) -> bool {
        self.pages.is_right() && self.behind == self.pages.count(pages_of(self.shown), u64::MAX)
    }

    /// From now on the lower file shows no further than to this byte.
    pub(super) fn show_at_most(&mut self, shown: u64) {
        if shown < self.shown {
            self.behind += self.pages.count(pages_of(shown), pages_of(self.shown));
            self.shown = shown;
        }
    }

    /// Takes the pages from one on away.
    pub(super) fn take_from(&mut self, first: u64) -> FrameRuns {
        let gone = self.pages.take_from(first);
        self.behind -= gone.count(pages_of(self.shown), u64::MAX);
        gone
    }

    /// Takes the pages between two away, at most `most` runs; see [`FrameRuns::take`].
    pub(super) fn take(&mut self, first: u64, end: u64, most: usize) -> (FrameRuns, u64) {
        let (gone, until) = self.pages.take(first, end, most);
        self.behind -= gone.count(pages_of(self.shown), u64::MAX);
        (gone, until)
    }
}

/// A directory.
#[derive(Clone, Debug, Hash)]
pub(super) struct Dir {
    /// Names that are not as the lower parts have them.
    pub slots: BTreeMap<Arc<[u8]>, Slot>,
    /// The entries among them by their number.
    pub order: BTreeMap<u64, Arc<[u8]>>,
    /// Number of the next entry.
    pub next: u64,
    /// Subdirectories made or moved here.
    pub subdirs: u32,
}

/// What became of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Slot {
    /// It is gone.
    Whiteout,
    /// It is this inode of type `kind` (`DT_`).
    Entry { number: u64, ino: Ino, kind: u8 },
}

impl Body {
    pub(super) fn dir() -> Body {
        Body::Dir(Dir {
            slots: BTreeMap::new(),
            order: BTreeMap::new(),
            next: 1,
            subdirs: 0,
        })
    }

    /// A file whose first `shown` bytes, all it has, are those of its lower file except for some pages.
    pub(super) fn file(shown: u64, pages: FrameRuns) -> Body {
        Body::File(Data {
            size: shown,
            shown,
            behind: pages.count(pages_of(shown), u64::MAX),
            pages,
        })
    }
}

impl Dir {
    /// Makes a name an inode's; returns what it was.
    pub(super) fn set(&mut self, name: &[u8], ino: Ino, kind: u8) -> Option<Slot> {
        let old = self.clear(name);
        let name: Arc<[u8]> = name.into();
        let number = self.next;
        self.next += 1; // below 2^46: each one is a system call
        self.order.insert(number, name.clone());
        self.slots.insert(name, Slot::Entry { number, ino, kind });
        old
    }

    /// Makes a name gone: with a whiteout if something would show through.
    pub(super) fn unset(&mut self, name: &[u8], whiteout: bool) -> Option<Slot> {
        let old = self.clear(name);
        if whiteout {
            self.slots.insert(name.into(), Slot::Whiteout);
        }
        old
    }

    fn clear(&mut self, name: &[u8]) -> Option<Slot> {
        let old = self.slots.remove(name);
        if let Some(Slot::Entry { number, .. }) = old {
            self.order.remove(&number);
        }
        old
    }
}

/// What one name in a directory counts for.
pub(super) fn entry_heap(name: &[u8]) -> u64 {
    ENTRY_COST + name.len() as u64
}

impl Node {
    /// A node with one name, all times `time`, without extended attributes.
    pub(super) fn new(mode: u32, uid: u32, gid: u32, time: Time, body: Body) -> Node {
        Node {
            mode,
            uid,
            gid,
            rdev: 0,
            nlink: 1,
            linkable: false,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            xattrs: Some(BTreeMap::new()),
            acl: None,
            flags: 0,
            body,
        }
    }

    /// Bytes it holds beside itself and its frames.
    pub(super) fn heap(&self) -> u64 {
        let body = match &self.body {
            Body::Dir(dir) => dir.slots.keys().map(|name| entry_heap(name)).sum(),
            Body::Link(target) => target.len() as u64,
            Body::File(_) | Body::Other => 0,
        };
        let xattrs = self.xattrs.iter().flatten();
        body + xattrs
            .map(|(name, value)| xattr::heap(name, value))
            .sum::<u64>()
    }

    /// Pages beside those of a file's contents: a long target of a symbolic link takes one.
    pub(super) fn own_pages(&self) -> u64 {
        match &self.body {
            Body::Link(target) if target.len() >= SHORT_LINK => 1,
            _ => 0,
        }
    }

    pub(super) fn attr(&self, ino: Ino) -> Attr {
        let (nlink, size, blocks) = match &self.body {
            Body::File(data) => {
                let blocks = (pages_of(data.shown) + data.behind) * 8;
                (self.nlink, data.size, blocks)
            }
            // As tmpfs counts; overlayfs gives a merged directory one link, which tells find(1) not to count
            // on it.
            Body::Dir(dir) => {
                let nlink = match self.nlink {
                    0 => 0,
                    _ if !ino.is_lower() => dir.subdirs.saturating_add(2),
                    _ => 1,
                };
                (nlink, (dir.order.len() as u64 + 2) * 20, 0)
            }
            Body::Link(target) => (self.nlink, target.len() as u64, self.own_pages() * 8),
            Body::Other => (self.nlink, 0, 0),
        };
        Attr {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink,
            size,
            blocks,
            rdev: self.rdev,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            acl: self.acl,
            flags: self.flags,
        }
    }
}

/// The node for an inode to be made. `EINVAL`, `ENAMETOOLONG`.
pub(super) fn from_new(new: &NewNode<'_>, now: Time) -> Result<Node, Errno> {
    let body = match new.mode & S_IFMT {
        S_IFREG => Body::file(0, FrameRuns::new()),
        S_IFDIR => Body::dir(),
        S_IFLNK if new.target.is_empty() => return Err(Errno::ENOENT),
        S_IFLNK if new.target.len() >= PATH_MAX => return Err(Errno::ENAMETOOLONG),
        S_IFLNK => Body::Link(new.target.into()),
        S_IFCHR | S_IFBLK | S_IFIFO | S_IFSOCK => Body::Other,
        _ => return Err(Errno::EINVAL),
    };
    let mut node = Node::new(new.mode, new.uid, new.gid, now, body);
    node.flags = new.flags;
    if matches!(new.mode & S_IFMT, S_IFCHR | S_IFBLK) {
        node.rdev = new.rdev;
    }
    Ok(node)
}
