//! Objects without a name as places: pipes, sockets, event files, files of namespaces.

use crate::abi::raw::general::{ANON_INODE_FS_MAGIC, NSFS_MAGIC, PIPEFS_MAGIC};
use crate::cred::ns::NsId;
use crate::fs::anon::{Anon, FS, MOUNT, Object, attr, object};
use crate::fs::filesystem::Ino;
use crate::vfs::Vfs;
use crate::vfs::dentry::DentryId;
use crate::vfs::mount::HeldPath;

/// The namespace whose file a dentry is.
pub(crate) fn namespace_at(k: &Vfs, dentry: DentryId) -> Option<NsId> {
    let dentry = k.dentries.at(dentry);
    match object(dentry.ino.filter(|_| dentry.fs == FS)?) {
        Object::Namespace(id) if k.ns.exists(id) => Some(id),
        _ => None,
    }
}

/// The path of an object.
pub(crate) fn path(k: &mut Vfs, ino: Ino) -> HeldPath {
    let attr = attr(k, ino).unwrap_or_default();
    let dentry = k.dentries.new_root(FS, ino, &attr);
    HeldPath::of(MOUNT, dentry)
}

/// `f_type` of the file system that Linux keeps the object at a dentry in; `None` for files of other file
/// systems.
pub(crate) fn magic(k: &Vfs, dentry: DentryId) -> Option<u64> {
    const SOCKFS_MAGIC: u64 = 0x534f_434b;
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    const MQUEUE_MAGIC: u64 = 0x1980_0202;
    let dentry = k.dentries.at(dentry);
    Some(match object(dentry.ino.filter(|_| dentry.fs == FS)?) {
        Object::Anon(Anon::PidFd) => PIDFS_MAGIC,
        Object::Anon(_) => u64::from(ANON_INODE_FS_MAGIC),
        Object::Namespace(_) => u64::from(NSFS_MAGIC),
        Object::Socket(_) => SOCKFS_MAGIC,
        Object::MessageQueue(_) => MQUEUE_MAGIC,
        Object::Root | Object::Stream(_) | Object::Pipe(_) => u64::from(PIPEFS_MAGIC),
    })
}
