//! What an inode number of `proc` stands for, and what can be asked of it: a trait, and the one place that
//! finds what implements it.
//!
//! A new kind of node is a variant of [`Node`] with its number, a file below this one that implements
//! [`NodeOps`], and a line in `of_node!`. What a kind leaves out has the answer that stands here.

pub(super) mod fd;
pub(super) mod fdinfo;
pub(super) mod file;
pub(super) mod own;
pub(super) mod process;
pub(super) mod root;
pub(super) mod system;
pub(super) mod task;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::events::Change;
use super::process::FILES;
use super::shown::Shown;
use super::system::PATHS;
use super::view::View;
use crate::Kernel;
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::cred::ns::user::Opener;
use crate::file::{FileId, FileKind};
use crate::fs::filesystem::Ino;
use crate::fs::view::ProcFs;
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;

/// In which instance a directory is asked, and by whom.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub fs: ProcFs,
    pub who: &'a Who,
}

/// What is in a directory: first what has a name, then what goes by a number that was asked for or a higher
/// one.
pub(super) struct Entries<'k> {
    pub named: Vec<(&'static [u8], Node)>,
    pub numbered: Box<dyn Iterator<Item = (u32, Node)> + 'k>,
}

impl<'k> Entries<'k> {
    /// Only what has a name.
    fn named(named: Vec<(&'static [u8], Node)>) -> Entries<'k> {
        Entries {
            named,
            numbered: Box::new(core::iter::empty()),
        }
    }

    /// Only what goes by number.
    fn numbered(numbered: impl Iterator<Item = (u32, Node)> + 'k) -> Entries<'k> {
        Entries {
            named: Vec::new(),
            numbered: Box::new(numbered),
        }
    }
}

/// What a kind of node answers. Processes that have gone have been looked for by the callers, where this is
/// not said otherwise ([`Node::of`]).
pub(super) trait NodeOps {
    /// Whose it is.
    fn view(&self) -> Option<View> {
        None
    }

    /// The process whose directory it is.
    fn process(&self) -> Option<u32> {
        None
    }

    /// File type and permissions; of what has gone, too, as all about attributes.
    fn mode(&self, k: &Kernel) -> u32;

    /// User and group.
    fn owner(&self, _k: &Kernel) -> (u32, u32) {
        (0, 0)
    }

    /// To whom it belongs as somebody is told; `None`: to its owner.
    fn shown_owner(&self, _k: &Kernel, _who: &Who) -> Option<(u32, u32)> {
        None
    }

    /// Number of links of a directory: one from each directory in it, and two.
    fn links(&self, _k: &Kernel) -> u32 {
        2
    }

    /// Bytes. Contents have no size until they are read.
    fn size(&self, _k: &Kernel) -> u64 {
        0
    }

    /// Whether it loses its attributes with its process (`ENOENT`). What is still open of a process that has
    /// gone keeps them, as Linux has it.
    fn ends(&self) -> bool {
        false
    }

    /// What programs are told that look a name up in the directory of a process that has gone.
    fn gone(&self) -> Errno {
        Errno::ENOENT
    }

    /// `ENOENT` if somebody is not told of it.
    fn check_attr(&self, _k: &Kernel, _asked: &Asked<'_>) -> Result<(), Errno> {
        Ok(())
    }

    /// `EPERM`, or `ENOENT`, if it keeps somebody out.
    fn check_enter(&self, _k: &Kernel, _asked: &Asked<'_>) -> Result<(), Errno> {
        Ok(())
    }

    /// What reading and writing need; `None`: the permission bits say it.
    fn permission(&self, _k: &Kernel, _who: &Who, _mask: u32) -> Option<Result<(), Errno>> {
        None
    }

    /// The node called `name` in it.
    fn lookup(&self, _k: &Kernel, _asked: &Asked<'_>, _name: &[u8]) -> Result<Option<Node>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// What is in it; of what goes by number, from `first` on.
    fn entries<'k>(
        &self,
        _k: &'k Kernel,
        _asked: &Asked<'k>,
        _first: u32,
    ) -> Result<Entries<'k>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Target of a symbolic link as text, for readlink(2).
    fn read_link(
        &self,
        _k: &mut Kernel,
        _p: &mut Ports<'_>,
        _thread: ThreadId,
        _ns: NsId,
    ) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Where a magic link (`exe`, `cwd`, `root`, `fd/N`) leads, without a reference; `None` for a link that
    /// is followed by its text.
    fn jump(&self, _k: &mut Kernel, _who: &Who) -> Result<Option<PathRef>, Errno> {
        Ok(None)
    }

    /// What opening it asks beyond its permissions.
    fn may_open(&self, _k: &Kernel, _thread: ThreadId, _writes: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// What an open file of it is.
    fn open(&self, k: &mut Kernel, _thread: ThreadId) -> Result<FileKind, Errno> {
        Ok(k.files.made.open(None))
    }

    /// Who opens it, if writes are judged by that. It is asked of what has gone, too.
    fn opener(&self, _k: &Kernel, _thread: ThreadId) -> Option<Box<Opener>> {
        None
    }

    /// Whether its process still has the memory that a file was opened to tell of. It is asked of what has
    /// gone, too.
    fn has_space(&self, _k: &Kernel, _space: SpaceId) -> Result<bool, Errno> {
        Ok(false)
    }

    /// What an open file of it shows that does not depend on its process any more; `None` if it is made from
    /// the node. It is asked of what has gone, too.
    fn opened(&self, _k: &Kernel, _thread: ThreadId, _id: FileId) -> Option<Vec<u8>> {
        None
    }

    /// Contents of a regular file as they are now.
    fn content(
        &self,
        _k: &mut Kernel,
        _p: &mut Ports<'_>,
        _thread: ThreadId,
        _ns: NsId,
    ) -> Result<Shown, Errno> {
        Err(Errno::EISDIR)
    }

    /// Writes to an open file of it, at a place or at the file's offset: how many bytes were taken.
    fn write(
        &self,
        _cx: &mut Cx<'_, '_>,
        _id: FileId,
        _at: Option<u64>,
        _data: &[u8],
    ) -> Result<u64, Errno> {
        Err(Errno::EINVAL)
    }

    /// Whether it shows numbers of settings.
    fn shows_numbers(&self) -> bool {
        false
    }

    /// The last change of what tells of changes, as a thread sees it; also of what has gone.
    fn change(&self, _k: &Kernel, _thread: ThreadId) -> Option<Change> {
        None
    }

    /// Whether it can be waited for with epoll(7): what is of processes is made by other means in Linux.
    fn can_wait(&self) -> bool {
        false
    }
}

/// The answer of what implements [`NodeOps`] for a node.
macro_rules! of_node {
    ($node:expr, $name:ident($($arg:expr),*)) => {{
        use $crate::views::proc::node::{self, Node, NodeOps as _};
        match $node {
            Node::System(0) => node::root::Directory.$name($($arg),*),
            Node::System(place) => node::system::Entry(place).$name($($arg),*),
            Node::OwnLink { thread } => node::own::Link { thread }.$name($($arg),*),
            Node::Dir(view) => node::process::Directory(view).$name($($arg),*),
            Node::File(view, place) => node::file::Entry(view, place).$name($($arg),*),
            Node::TaskDir(view) => node::task::Directory(view).$name($($arg),*),
            Node::FdDir(view) => node::fd::Directory(view).$name($($arg),*),
            Node::Fd(view, fd) => node::fd::Link(view, fd).$name($($arg),*),
            Node::FdInfoDir(view) => node::fdinfo::Directory(view).$name($($arg),*),
            Node::FdInfo(view, fd) => node::fdinfo::File(view, fd).$name($($arg),*),
        }
    }};
}

pub(super) use of_node;

/// What an inode number stands for.
///
/// The number: process or thread in bits 32..63, whether it is the view of a single thread in bit 63, what it
/// is in bits 28..31, and a place in a table or a descriptor below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    /// An entry of [`PATHS`]; the first one is the root.
    System(usize),
    /// `/proc/self`, `/proc/thread-self`.
    OwnLink {
        thread: bool,
    },
    /// The directory of a process or thread.
    Dir(View),
    /// An entry of [`FILES`].
    File(View, usize),
    /// `task`, `fd`, `fdinfo`.
    TaskDir(View),
    FdDir(View),
    FdInfoDir(View),
    /// An entry of `fd`, `fdinfo`.
    Fd(View, u32),
    FdInfo(View, u32),
}

const PLACE: u64 = (1 << 28) - 1;

impl Node {
    /// The inode number.
    pub(super) fn ino(self) -> Ino {
        let of = |view: View, kind: u64, place: u64| {
            Ino(u64::from(view.thread) << 63 | u64::from(view.id) << 32 | kind << 28 | place)
        };
        match self {
            Node::System(place) => Ino(place as u64 + 1),
            Node::OwnLink { thread } => Ino(0x1000 + u64::from(thread)),
            Node::Dir(view) => of(view, 0, 1),
            Node::TaskDir(view) => of(view, 0, 2),
            Node::FdDir(view) => of(view, 0, 3),
            Node::FdInfoDir(view) => of(view, 0, 4),
            Node::File(view, place) => of(view, 1, place as u64),
            Node::Fd(view, fd) => of(view, 2, u64::from(fd)),
            Node::FdInfo(view, fd) => of(view, 3, u64::from(fd)),
        }
    }

    /// What a number stands for, whether its process is there or not.
    pub(super) fn parse(ino: Ino) -> Option<Node> {
        let view = View {
            id: (ino.0 >> 32) as u32 & 0x7fff_ffff,
            thread: ino.0 >> 63 == 1,
        };
        let place = ino.0 & PLACE;
        if view.id == 0 {
            return match place {
                0x1000 => Some(Node::OwnLink { thread: false }),
                0x1001 => Some(Node::OwnLink { thread: true }),
                place => {
                    let place = (place as usize).checked_sub(1)?;
                    (place < PATHS.len()).then_some(Node::System(place))
                }
            };
        }
        match (ino.0 >> 28 & 0xf, place) {
            (0, 1) => Some(Node::Dir(view)),
            (0, 2) => Some(Node::TaskDir(view)),
            (0, 3) => Some(Node::FdDir(view)),
            (0, 4) => Some(Node::FdInfoDir(view)),
            (1, place) if (place as usize) < FILES.len() => Some(Node::File(view, place as usize)),
            (2, fd) => Some(Node::Fd(view, fd as u32)),
            (3, fd) => Some(Node::FdInfo(view, fd as u32)),
            _ => None,
        }
    }

    /// The node of an inode. `ESRCH` if its process has gone.
    pub(super) fn of(k: &Kernel, ino: Ino) -> Result<Node, Errno> {
        let node = Node::parse(ino).ok_or(Errno::ENOENT)?;
        match of_node!(node, view()) {
            Some(view) if view.task(k).is_none() => Err(Errno::ESRCH),
            _ => Ok(node),
        }
    }
}

/// A decimal number without leading zeros, as process and descriptor directories are named.
fn decimal(name: &[u8]) -> Option<u32> {
    if name.len() > 1 && name[0] == b'0' {
        return None;
    }
    core::str::from_utf8(name)
        .ok()
        .filter(|text| !text.starts_with('+'))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_numbers_say_what_they_are() {
        let view = View {
            id: 7,
            thread: false,
        };
        let thread = View {
            id: 8,
            thread: true,
        };
        for node in [
            Node::System(0),
            Node::System(5),
            Node::OwnLink { thread: true },
            Node::Dir(view),
            Node::Dir(thread),
            Node::TaskDir(view),
            Node::FdDir(thread),
            Node::FdInfoDir(view),
            Node::File(view, 3),
            Node::Fd(view, 1_000_000),
            Node::FdInfo(thread, 0),
        ] {
            assert_eq!(Node::parse(node.ino()), Some(node));
        }
        assert_eq!(Node::System(0).ino(), crate::fs::view::ROOT);
        assert_eq!(Node::parse(Ino(0)), None);
        assert_eq!(Node::parse(Ino(u64::MAX)), None);
    }

    #[test]
    fn only_plain_decimal_numbers_name_processes() {
        assert_eq!(decimal(b"17"), Some(17));
        assert_eq!(decimal(b"0"), Some(0));
        for name in [&b"017"[..], b"+1", b"-1", b"", b"1x", b"99999999999"] {
            assert_eq!(decimal(name), None);
        }
    }
}
