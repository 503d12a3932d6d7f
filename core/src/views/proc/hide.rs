//! Options of an instance of `proc`: from whom it hides processes, and whether it shows only these (proc(5),
//! "Mount options").

use super::process::View;
use super::{Node, settings};
use crate::Kernel;
use crate::abi::Errno;
use crate::fs::filesystem::InodeRef;
use crate::fs::view::{Hide, Options};
use crate::task::look::may_look_by_files;
use crate::vfs::perm::Who;

/// Whether a thread sees of a process what `least` keeps from others (`has_pid_permissions()`).
pub(super) fn sees(k: &Kernel, options: &Options, who: &Who, view: View, least: Hide) -> bool {
    let (Some(creds), Some(target)) = (who.creds(), view.task(k)) else {
        return true;
    };
    match options.hide {
        Hide::Always => {}
        hide if hide < least || creds.in_group(options.group) => return true,
        _ => {}
    }
    may_look_by_files(k, who, target.id)
}

/// `EPERM`, or `ENOENT`, if the directory of a process keeps a thread out (`proc_pid_permission()`).
pub(crate) fn check_enter(k: &Kernel, who: &Who, inode: InodeRef) -> Result<(), Errno> {
    let options = settings(k, inode.fs);
    if options.hide == Hide::Nothing {
        return Ok(());
    }
    let view = match Node::parse(inode.ino) {
        Some(Node::Dir(view)) if !view.thread => view,
        Some(Node::TaskDir(view)) => view,
        _ => return Ok(()),
    };
    match sees(k, &options, who, view, Hide::Contents) {
        true => Ok(()),
        false if options.hide == Hide::Directory => Err(Errno::ENOENT),
        false => Err(Errno::EPERM),
    }
}

/// `ENOENT` if a thread is not told of the directory of a process or thread (`pid_getattr()`).
pub(crate) fn check_attr(k: &Kernel, who: &Who, inode: InodeRef) -> Result<(), Errno> {
    let options = settings(k, inode.fs);
    match Node::parse(inode.ino) {
        Some(Node::Dir(view)) if !sees(k, &options, who, view, Hide::Directory) => {
            Err(Errno::ENOENT)
        }
        _ => Ok(()),
    }
}
