//! Options of an instance of `proc`: from whom it hides processes, and whether it shows only these (proc(5),
//! "Mount options").

use super::node::Asked;
use super::view::View;
use crate::Kernel;
use crate::abi::Errno;
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

/// `EPERM`, or `ENOENT`, if the directory of a process keeps somebody out (`proc_pid_permission()`).
pub(super) fn check_enter(k: &Kernel, asked: &Asked<'_>, view: View) -> Result<(), Errno> {
    let options = &asked.fs.options;
    if options.hide == Hide::Nothing {
        return Ok(());
    }
    match sees(k, options, asked.who, view, Hide::Contents) {
        true => Ok(()),
        false if options.hide == Hide::Directory => Err(Errno::ENOENT),
        false => Err(Errno::EPERM),
    }
}

/// `ENOENT` if somebody is not told of the directory of a process or thread (`pid_getattr()`).
pub(super) fn check_attr(k: &Kernel, asked: &Asked<'_>, view: View) -> Result<(), Errno> {
    match sees(k, &asked.fs.options, asked.who, view, Hide::Directory) {
        true => Ok(()),
        false => Err(Errno::ENOENT),
    }
}
