//! The ports: the traits through which layers are read. Calls are synchronous and are handed their port each
//! time, so that an opened layer stays a value that can be cloned, hashed and compared.

use alloc::vec::Vec;

use varve_abi::Errno;

/// A file of the host whose bytes can be read and mapped: an image layer, or a file opened through
/// [`HostTree`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ImageId(pub u32);

/// The bytes of one image file.
pub trait Block {
    /// Length of the file in bytes; it does not change during a run.
    fn len(&self) -> u64;
    /// Whether the file is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` from `offset`. Reading past the end is `EIO`: callers check the length first.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno>;
    /// The whole file where it is mapped into the host.
    fn slice(&self) -> Option<&[u8]>;
    /// Fills `buf` from `offset` for people to look at, which is no part of the run. `false` if the bytes are
    /// not known.
    fn glance(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.read_at(offset, buf).is_ok()
    }
    /// Whether guests may map the file as it is; else they get frames with copies of its pages.
    fn is_mappable(&self) -> bool {
        true
    }
}

/// The image files of a run.
pub trait Images {
    /// The bytes of an image: a layer, a merged index, or a file that was opened through [`HostTree::open`].
    fn image(&self, id: ImageId) -> Option<&dyn Block>;
}

/// A file or directory of a host directory tree. Given out by the port; a number until the run ends, also of
/// a file that is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(pub u64);

/// Attributes of a node of a host directory tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are those of stat(2)")]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeAttr {
    /// `st_mode`: file type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// `st_rdev` in the kernel's 32-bit encoding (`new_encode_dev`).
    pub rdev: u32,
    /// Device and inode number on the host: equal for hard links.
    pub dev: u64,
    pub ino: u64,
    /// Modification time: seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Whether it has a POSIX ACL, which is its extended attribute `system.posix_acl_access`.
    pub acl: bool,
}

/// An entry of a directory of a host tree.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeEntry {
    /// The name, without `.` and `..`.
    pub name: Vec<u8>,
    /// File type as in `d_type` (`DT_REG` ...).
    pub kind: u8,
}

/// Read-only access to host directory trees. No call follows a symbolic link or leaves the tree it started
/// in.
///
/// A node that is not there any more, or no longer the same file, is `ESTALE`.
pub trait HostTree {
    /// The root directory of tree number `tree`, as a [`Layer`](crate::Layer) names it.
    fn root(&mut self, tree: u32) -> Result<NodeId, Errno>;
    /// The node called `name` (one component, not `.` or `..`) in directory `dir`: the same one each time as
    /// long as it is the same file.
    fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno>;
    /// Attributes of a node.
    fn attr(&mut self, node: NodeId) -> Result<NodeAttr, Errno>;
    /// All entries of a directory, sorted by name in byte order.
    fn read_dir(&mut self, dir: NodeId) -> Result<Vec<NodeEntry>, Errno>;
    /// Target of a symbolic link.
    fn read_link(&mut self, node: NodeId) -> Result<Vec<u8>, Errno>;
    /// Opens a regular file for reading and mapping. The length of the image is what the file may come to
    /// have, at least its size now; another image is given when it has grown beyond. Reading past the file's
    /// end is `EIO`.
    fn open(&mut self, node: NodeId) -> Result<ImageId, Errno>;
    /// Names of the extended attributes of a node.
    fn list_xattr(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, Errno>;
    /// Value of an extended attribute; `ENODATA` if there is none.
    fn get_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno>;
}

/// The ports that the layers of a tree are read through.
pub struct LayerPorts<'a> {
    /// Image files.
    pub images: &'a dyn Images,
    /// Directories of the host; [`NoTree`] where there are none.
    pub tree: &'a mut dyn HostTree,
}

/// No host directory trees.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTree;

impl HostTree for NoTree {
    fn root(&mut self, _tree: u32) -> Result<NodeId, Errno> {
        Err(Errno::ENOENT)
    }

    fn lookup(&mut self, _dir: NodeId, _name: &[u8]) -> Result<NodeId, Errno> {
        Err(Errno::ENOENT)
    }

    fn attr(&mut self, _node: NodeId) -> Result<NodeAttr, Errno> {
        Err(Errno::ENOENT)
    }

    fn read_dir(&mut self, _dir: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        Err(Errno::ENOENT)
    }

    fn read_link(&mut self, _node: NodeId) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOENT)
    }

    fn open(&mut self, _node: NodeId) -> Result<ImageId, Errno> {
        Err(Errno::ENOENT)
    }

    fn list_xattr(&mut self, _node: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        Err(Errno::ENOENT)
    }

    fn get_xattr(&mut self, _node: NodeId, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOENT)
    }
}
