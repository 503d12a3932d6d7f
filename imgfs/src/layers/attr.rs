//! What a layer says about an inode.

use varve_abi::PAGE_SIZE;

use crate::erofs::Inode;
use crate::port::NodeAttr;

/// Bits of an inode number that stay inside one layer; the rest is the layer + 1.
pub(super) const LAYER_SHIFT: u32 = 48;

/// The number of an inode in a stack of layers: its layer, and its number in that layer. Numbers of one stack
/// stay the same each time it is opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ino(pub u64);

impl Ino {
    /// Position of the layer it is from, 0 the lowest; of a merged directory the topmost. In a stack with a
    /// merged index all are from 0, the index.
    pub fn layer(self) -> usize {
        (self.0 >> LAYER_SHIFT).saturating_sub(1) as usize
    }

    /// Its number in that layer: the nid in an image, the [`NodeId`](crate::NodeId) of a file of the host.
    pub fn nid(self) -> u64 {
        self.0 & ((1 << LAYER_SHIFT) - 1)
    }

    /// Whether it is from a layer. Numbers below 2^48 never are: they are left to whoever lays something of
    /// its own over the layers.
    pub fn is_lower(self) -> bool {
        self.0 >> LAYER_SHIFT != 0
    }
}

/// A point in time as inodes keep it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time {
    /// Seconds since the epoch.
    pub sec: i64,
    /// Nanoseconds above them, below 10^9.
    pub nsec: u32,
}

impl Time {
    /// From nanoseconds since the epoch.
    pub fn from_nanos(nanos: u64) -> Time {
        Time {
            sec: (nanos / 1_000_000_000).cast_signed(),
            nsec: (nanos % 1_000_000_000) as u32,
        }
    }
}

/// Attributes of an inode of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attr {
    /// File type and permissions (`S_IFMT | 07777`).
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links; 1 for a directory that several layers make together.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Kernel's 32-bit encoding (`new_encode_dev`).
    pub rdev: u32,
    /// Last change of the contents: the only time that a layer has.
    pub mtime: Time,
    /// Whether it may have a POSIX ACL, which is the extended attribute `system.posix_acl_access`.
    pub may_have_acl: bool,
}

/// `DT_` value of a mode.
pub fn kind_of(mode: u32) -> u8 {
    (mode >> 12 & 15) as u8
}

impl From<&Inode> for Attr {
    fn from(inode: &Inode) -> Attr {
        Attr {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            nlink: inode.nlink,
            size: inode.size,
            blocks: blocks(inode.size),
            rdev: inode.rdev,
            mtime: Time {
                sec: inode.mtime.0,
                nsec: inode.mtime.1,
            },
            may_have_acl: inode.has_xattrs(),
        }
    }
}

impl From<&NodeAttr> for Attr {
    fn from(node: &NodeAttr) -> Attr {
        Attr {
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: node.nlink,
            size: node.size,
            blocks: blocks(node.size),
            rdev: node.rdev,
            mtime: Time {
                sec: node.mtime.0,
                nsec: node.mtime.1,
            },
            may_have_acl: node.acl,
        }
    }
}

/// `st_blocks`: all pages.
fn blocks(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE).saturating_mul(8)
}
