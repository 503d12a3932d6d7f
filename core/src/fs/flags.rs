//! Flags of inodes (chattr(1), ioctl_iflags(2)): what tmpfs keeps of them, and what they forbid.

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::fs::filesystem::Attr;

/// Nothing of the file changes, names included.
pub(crate) const IMMUTABLE: u32 = g::FS_IMMUTABLE_FL;
/// It is only added to.
pub(crate) const APPEND: u32 = g::FS_APPEND_FL;
pub(crate) const NODUMP: u32 = g::FS_NODUMP_FL;
const NOATIME: u32 = g::FS_NOATIME_FL;
/// All that can be set (`SHMEM_FL_USER_MODIFIABLE`).
pub(crate) const ALL: u32 = IMMUTABLE | APPEND | NODUMP | NOATIME;
/// What new inodes take over from their directory.
pub(crate) const INHERITED: u32 = NODUMP | NOATIME;
/// What only `CAP_LINUX_IMMUTABLE` changes.
pub(crate) const PRIVILEGED: u32 = IMMUTABLE | APPEND;

/// The same flags in `struct fsxattr`.
const XFLAGS: [(u32, u32); 4] = [
    (IMMUTABLE, g::FS_XFLAG_IMMUTABLE),
    (APPEND, g::FS_XFLAG_APPEND),
    (NODUMP, g::FS_XFLAG_NODUMP),
    (NOATIME, g::FS_XFLAG_NOATIME),
];

/// As `struct fsxattr` shows them.
pub(crate) fn to_xflags(flags: u32) -> u32 {
    let shown = XFLAGS.iter().filter(|&&(flag, _)| flags & flag != 0);
    shown.map(|&(_, xflag)| xflag).sum()
}

/// As `struct fsxattr` asks for them; what a file does not keep without others noticing passes. `EINVAL`,
/// `EOPNOTSUPP`.
pub(crate) fn from_xflags(xflags: u32, directory: bool) -> Result<u32, Errno> {
    const PASSED: u32 =
        g::FS_XFLAG_PREALLOC | g::FS_XFLAG_EXTSIZE | g::FS_XFLAG_COWEXTSIZE | g::FS_XFLAG_HASATTR;
    if xflags & g::FS_XFLAG_EXTSZINHERIT != 0 && !directory {
        return Err(Errno::EINVAL);
    }
    let known: u32 = XFLAGS.iter().map(|&(_, xflag)| xflag).sum();
    if xflags & !(known | PASSED | g::FS_XFLAG_EXTSZINHERIT) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let asked = XFLAGS.iter().filter(|&&(_, xflag)| xflags & xflag != 0);
    Ok(asked.map(|&(flag, _)| flag).sum())
}

/// `EPERM` if the attributes or names of an inode must stay.
pub(crate) fn check_change(attr: &Attr) -> Result<(), Errno> {
    match attr.flags & PRIVILEGED {
        0 => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

/// `EPERM` if an inode is only added to.
pub(crate) fn check_append(attr: &Attr) -> Result<(), Errno> {
    match attr.flags & APPEND {
        0 => Ok(()),
        _ => Err(Errno::EPERM),
    }
}
