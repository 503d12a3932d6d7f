//! What an executable file gives the program that is started from it: set-ID bits and capabilities
//! (capabilities(7)).

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::file_caps::FileCaps;
use crate::cred::ns::user;
use crate::cred::{ExecCreds, Privileges, file_caps};
use crate::file;
use crate::file::FileId;
use crate::fs::inode;
use crate::task::Cx;
use crate::vfs::mount::MountFlags;
use crate::vfs::node;

/// The credentials the current task will have in the program `file`.
pub(crate) fn exec_creds(cx: &mut Cx<'_, '_>, file: FileId) -> Result<ExecCreds, Errno> {
    let privileges = privileges(cx, file)?;
    cx.creds()
        .after_exec(&privileges, zero(cx), shares_context(cx))
}

/// Whether tasks of other processes share the caller's root, working directory and umask
/// (`check_unsafe_exec()`).
fn shares_context(cx: &Cx<'_, '_>) -> bool {
    let (tgid, fs) = (cx.task().tgid, cx.task().fs);
    let own = cx.k.tasks.thread_ids(tgid);
    let own = own.filter(|&id| cx.k.tasks.get(id).is_some_and(|task| task.fs == fs));
    cx.k.files.fs_context(fs).users() as usize > own.count()
}

/// User 0 of the caller's user namespace.
pub(crate) fn zero(cx: &Cx<'_, '_>) -> Option<u32> {
    user::take_uid(cx.k, cx.creds().user_ns, 0).ok()
}

/// Set-id bits and capabilities of an executable file; none on a mount that does not honour them or belongs
/// to another mount namespace, no set-id bits for users that the user namespace does not know, or without new
/// privileges. `EINVAL` for damaged capabilities.
fn privileges(cx: &mut Cx<'_, '_>, id: FileId) -> Result<Privileges, Errno> {
    let (path, inode) = (*file::at(cx.k, id).path, file::inode_of(cx.k, id)?);
    let mount = cx.k.vfs.mounts.at(path.mount);
    let (fs, own) = (mount.fs, cx.creds().user_ns);
    if mount.flags.contains(MountFlags::NOSUID)
        || mount.ns != Some(cx.task().ns.mount)
        || !cx.k.ns.is_within(own, cx.k.fs.filesystem_owner(fs))
    {
        return Ok(Privileges::default());
    }
    let attr = node::attr(cx.k, cx.p, inode)?;
    let set_id = !cx.creds().no_new_privs && user::is_mapped(cx.k, own, attr.uid, attr.gid);
    // Without group execution the bit means mandatory locking.
    const SET_GID: u32 = g::S_ISGID | g::S_IXGRP;
    let caps = match inode::get_xattr(cx.k, cx.p, inode, file_caps::NAME) {
        Ok(value) => Some(FileCaps::parse(&value).ok_or(Errno::EINVAL)?),
        Err(_) => None,
    };
    let owner = cx.k.fs.filesystem_owner(fs);
    let caps = caps.filter(|caps| caps.hold_in(cx.k, own, owner));
    Ok(Privileges {
        set_uid: (set_id && attr.mode & g::S_ISUID != 0).then_some(attr.uid),
        set_gid: (set_id && attr.mode & SET_GID == SET_GID).then_some(attr.gid),
        caps,
    })
}
