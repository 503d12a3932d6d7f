//! The numbers by which things are known: names of inodes, files, sockets, queues and namespaces that any
//! floor may keep or hand on, without knowing what is behind them.

pub(crate) use varve_imgfs::Ino;

use crate::machine::SpaceId;
use crate::slab::Key;

/// A mounted file system instance (a "super block"). Its number + 1 is `st_dev`'s minor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FsId(pub u32);

/// An inode anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct InodeRef {
    pub fs: FsId,
    pub ino: Ino,
}

/// A name in a directory and the inode behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct DentryId(pub Key);

/// A mount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct MountId(pub Key);

impl MountId {
    /// The number programs see (`stx_mnt_id`, `/proc/self/mountinfo`).
    pub(crate) fn number(self) -> u32 {
        self.0.index() + 20
    }
}

/// An open file description.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FileId(pub u32);

/// A pipe. Not used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PipeId(pub u64);

/// A socket. Not used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SocketId(pub u64);

/// A queue. Not used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct QueueId(pub u64);

/// An object: its namespace and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ObjectId {
    pub ns: NsId,
    pub id: i32,
}

/// A context: its address space and the address there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ContextId {
    pub space: SpaceId,
    pub addr: u64,
}

/// A namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NsId(pub u32);

/// What a futex word is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum FutexKey {
    /// `FUTEX_PRIVATE_FLAG`: an address of a space.
    Private(SpaceId, u64),
    /// A word in memory of a space's own, used without that flag.
    Anonymous(SpaceId, u64),
    /// A word of a file that is mapped: its inode and the position in it.
    File(InodeRef, u64),
}
