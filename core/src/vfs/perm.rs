//! Permission checks on inodes (path_resolution(7), capabilities(7)). POSIX ACLs are obeyed.

use alloc::sync::Arc;

use crate::abi::Errno;
use crate::abi::raw::general::{S_IFDIR, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_ISVTX, S_IXGRP};
use crate::cred::ns::user;
use crate::cred::{Base, Creds};
use crate::fs::filesystem::{Attr, SetAttr};
use crate::fs::{FileSystems, flags};
use crate::machine::ThreadId;

pub(crate) const MAY_EXEC: u32 = 1;
pub(crate) const MAY_WRITE: u32 = 2;
pub(crate) const MAY_READ: u32 = 4;

pub(crate) const CAP_CHOWN: u32 = 0;
pub(crate) const CAP_DAC_OVERRIDE: u32 = 1;
pub(crate) const CAP_DAC_READ_SEARCH: u32 = 2;
pub(crate) const CAP_FOWNER: u32 = 3;
pub(crate) const CAP_FSETID: u32 = 4;
pub(crate) const CAP_SYS_CHROOT: u32 = 18;
pub(crate) const CAP_SYS_ADMIN: u32 = 21;
pub(crate) const CAP_MKNOD: u32 = 27;
pub(crate) const CAP_SETFCAP: u32 = 31;

/// In whose name something is done.
#[derive(Clone)]
pub(crate) enum Who {
    /// These credentials, for this task if there is one (none at boot).
    Creds(Arc<Creds>, Option<ThreadId>),
    /// The kernel itself: everything is allowed.
    Kernel,
}

impl Who {
    /// The task that looks at `proc`.
    pub(crate) fn viewer(&self) -> Option<ThreadId> {
        match self {
            Who::Creds(_, thread) => *thread,
            Who::Kernel => None,
        }
    }

    /// Credentials; `None` for the kernel itself.
    pub(crate) fn creds(&self) -> Option<&Creds> {
        match self {
            Who::Creds(creds, _) => Some(creds),
            Who::Kernel => None,
        }
    }

    /// Whether a capability is effective over the whole system.
    pub(crate) fn capable(&self, cap: u32) -> bool {
        self.creds().is_none_or(|creds| creds.capable(cap))
    }

    /// Whether a capability is effective over an inode: its owner and group have numbers in the user
    /// namespace.
    pub(crate) fn capable_over(&self, k: &Base, attr: &Attr, cap: u32) -> bool {
        self.creds()
            .is_none_or(|creds| over_inode(k, creds, attr, cap))
    }

    /// Whether this is the owner, or may act as the owner (`CAP_FOWNER`).
    pub(crate) fn owns(&self, k: &Base, attr: &Attr) -> bool {
        self.creds()
            .is_none_or(|creds| creds.fsuid == attr.uid || over_inode(k, creds, attr, CAP_FOWNER))
    }
}

/// `capable_wrt_inode_uidgid()`
fn over_inode(k: &Base, creds: &Creds, attr: &Attr, cap: u32) -> bool {
    creds.has(cap) && user::is_mapped(k, creds.user_ns, attr.uid, attr.gid)
}

/// Checks the permission bits: `EACCES`; `EPERM` where nothing may be changed.
pub(crate) fn permission(k: &FileSystems, who: &Who, attr: &Attr, mask: u32) -> Result<(), Errno> {
    if mask & MAY_WRITE != 0 && attr.flags & flags::IMMUTABLE != 0 {
        return Err(Errno::EPERM);
    }
    let Some(creds) = who.creds() else {
        return Ok(());
    };
    allowed(k, creds, attr, mask)
}

fn allowed(k: &FileSystems, creds: &Creds, attr: &Attr, mask: u32) -> Result<(), Errno> {
    let bits = if creds.fsuid == attr.uid {
        attr.mode >> 6
    } else if let Some(bits) = k.acls.permitted(creds, attr, mask) {
        bits
    } else if creds.in_group(attr.gid) {
        attr.mode >> 3
    } else {
        attr.mode
    };
    if bits & mask == mask {
        return Ok(());
    }
    let capable = |cap| over_inode(k, creds, attr, cap);
    let granted = if attr.mode & S_IFMT == S_IFDIR {
        mask & MAY_WRITE == 0 && capable(CAP_DAC_READ_SEARCH) || capable(CAP_DAC_OVERRIDE)
    } else {
        mask == MAY_READ && capable(CAP_DAC_READ_SEARCH)
            || (mask & MAY_EXEC == 0 || attr.mode & 0o111 != 0) && capable(CAP_DAC_OVERRIDE)
    };
    match granted {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

/// Whether the sticky bit of a directory keeps this caller from removing or renaming an entry.
pub(crate) fn sticky(k: &FileSystems, who: &Who, dir: &Attr, victim: &Attr) -> bool {
    let Some(creds) = who.creds() else {
        return false;
    };
    dir.mode & S_ISVTX != 0
        && creds.fsuid != victim.uid
        && creds.fsuid != dir.uid
        && !over_inode(k, creds, victim, CAP_FOWNER)
}

/// What a change of contents takes from a file, as attributes to set (`file_remove_privs()`): capabilities,
/// and set-id bits unless the caller has `CAP_FSETID` over the whole system.
pub(crate) fn after_write(k: &FileSystems, who: &Who, attr: &Attr) -> SetAttr {
    let regular = attr.mode & S_IFMT == S_IFREG;
    SetAttr {
        mode: match regular && !who.capable(CAP_FSETID) {
            true => without_set_id(k, who, attr),
            false => None,
        },
        no_capabilities: regular,
        ..SetAttr::default()
    }
}

/// The same of chown(2), whoever calls it: only directories keep what they have.
pub(crate) fn after_chown(k: &FileSystems, who: &Who, attr: &Attr) -> SetAttr {
    match attr.mode & S_IFMT {
        S_IFDIR => SetAttr::default(),
        _ => SetAttr {
            mode: without_set_id(k, who, attr),
            no_capabilities: true,
            ..SetAttr::default()
        },
    }
}

/// The mode without set-id bits; `None`: nothing to change.
fn without_set_id(k: &FileSystems, who: &Who, attr: &Attr) -> Option<u32> {
    if attr.mode & (S_ISUID | S_ISGID) == 0 {
        return None;
    }
    let mut mode = attr.mode & 0o7777 & !S_ISUID;
    // Set-group-id without group execute stands for mandatory locking and stays for members of the group
    // (setattr_should_drop_sgid).
    if mode & S_ISGID != 0 && (mode & S_IXGRP != 0 || !in_group_or_capable(k, who, attr)) {
        mode &= !S_ISGID;
    }
    (mode != attr.mode & 0o7777).then_some(mode)
}

/// Member of the group, or allowed to set its bit all the same.
pub(crate) fn in_group_or_capable(k: &FileSystems, who: &Who, attr: &Attr) -> bool {
    who.creds()
        .is_none_or(|creds| creds.in_group(attr.gid) || over_inode(k, creds, attr, CAP_FSETID))
}
