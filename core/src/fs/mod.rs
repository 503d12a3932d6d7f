//! File systems: the contract of one, operations on inodes, trees of layers with memory on top, and the files
//! without a name.

pub(crate) mod acl;
pub(crate) mod anon;
pub(crate) mod filesystem;
pub(crate) mod flags;
pub(crate) mod inode;
pub(crate) mod seal;
pub(crate) mod union;

pub(crate) use filesystem::{FsId, InodeRef};
