//! Files of a stack become files of the host, in a directory that was empty.
//!
//! Others may be at work where that directory lies, and the image is not trusted. So nothing is done by path:
//! each object is made with its name in the open directory it belongs to, must be the one that was made, and
//! gets its owner, attributes, permissions and time through its descriptor. Directories are closed to others
//! until all is in them.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod,
    chownat, fstat, linkat, mkdirat, mknodat, openat, setxattr, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use varve_image::tarball::CopyError;
use varve_image::walk::is_dir;
use varve_imgfs::{Attr, Images, Ino, Stack};

use super::super::cat::runs;
use super::{GRANULE, Object, Pairs, Sink, device, xattrs};
use crate::stop::Stop;
use crate::text;

/// Open directories on the way to where files are made; those further up are opened again when they are
/// needed.
const OPEN_MAX: usize = 32;
/// What others may not do until an object is whole.
const CLOSED_DIR: Mode = Mode::RWXU;
const CLOSED_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// An id that chown(2) takes for "leave it".
const NO_ID: u32 = u32::MAX;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// Device and inode number.
type Id = (u64, u64);

fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

/// A directory on the way.
struct Level {
    name: Vec<u8>,
    fd: Option<OwnedFd>,
}

/// A directory that was made, with what it gets when all is in it.
struct MadeDir {
    path: Vec<u8>,
    attr: Attr,
    xattrs: Pairs,
}

/// A directory of the host.
pub(super) struct Dir {
    path: PathBuf,
    root: OwnedFd,
    /// It was not there before.
    is_new: bool,
    is_root: bool,
    /// Permissions that an ordinary user gives to nothing.
    umask: u32,
    stop: Stop,
    /// The directories down to where the last object was made.
    chain: Vec<Level>,
    /// All directories that were made.
    made: HashMap<Vec<u8>, Id>,
    /// First path of an inode with several names.
    linked: HashMap<Ino, (Vec<u8>, Id)>,
    dirs: Vec<MadeDir>,
    left_out: LeftOut,
}

/// How much could not be made as it is in the image.
#[derive(Default)]
struct LeftOut {
    devices: u64,
    xattrs: u64,
    owners: u64,
    set_ids: u64,
}

/// Somebody else put something in the place of what was just made.
fn replaced(path: &[u8]) -> io::Error {
    io::Error::other(format!(
        "{}: was replaced by somebody while it was made; extract to a directory where nobody else can write",
        text::shown(path)
    ))
}

/// The path of an open object, for calls that take no descriptor of that kind.
fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The directory part of a path and the name in it.
fn split(path: &[u8]) -> (&[u8], &OsStr) {
    let (dir, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    (dir, OsStr::from_bytes(name))
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Dir {
    /// Makes the directory, or takes one that is there and empty.
    pub(super) fn new(path: &Path, stop: Stop) -> Result<Dir> {
        let shown = || text::path(path).to_string();
        // With a slash at its end the path would lead through a link.
        let bytes = path.as_os_str().as_bytes();
        let end = bytes
            .iter()
            .rposition(|&byte| byte != b'/')
            .map_or(1, |at| at + 1);
        let path = Path::new(OsStr::from_bytes(bytes.get(..end).unwrap_or(b"/")));
        // Objects are made for the owner alone, whatever the caller's mask lets through.
        let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let is_new = match mkdirat(CWD, path, CLOSED_DIR) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno).with_context(shown),
        };
        let root = match openat(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                bail!(
                    "{}: is no directory (links are not followed); name a new or empty directory",
                    shown()
                )
            }
            Err(errno) => return Err(errno).with_context(shown),
        };
        let stat = fstat(&root).with_context(shown)?;
        if is_new && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(replaced(path.as_os_str().as_bytes()).into());
        }
        let mut entries = rustix::fs::Dir::read_from(&root).with_context(shown)?;
        let others = entries.find(|entry| {
            entry.as_ref().map_or(true, |entry| {
                !matches!(entry.file_name().to_bytes(), b"." | b"..")
            })
        });
        if others.is_some() {
            bail!("{} is not empty: name a new or empty directory", shown());
        }
        Ok(Dir {
            path: path.to_owned(),
            root,
            is_new,
            is_root: rustix::process::geteuid().is_root(),
            umask: umask.as_raw_mode(),
            stop,
            chain: Vec::new(),
            made: HashMap::new(),
            linked: HashMap::new(),
            dirs: Vec::new(),
            left_out: LeftOut::default(),
        })
    }

    /// A directory that was made, opened by the way down from the root.
    fn at(&mut self, path: &[u8]) -> io::Result<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        let names: Vec<_> = path.split(|&byte| byte == b'/').collect();
        let same = self
            .chain
            .iter()
            .zip(&names)
            .take_while(|(level, name)| level.name == **name);
        let same = same.count();
        self.chain.truncate(same);
        let open = self.chain.iter().rposition(|level| level.fd.is_some());
        let mut end = 0;
        for (number, name) in names.iter().enumerate() {
            end += name.len() + usize::from(number > 0);
            if open.is_some_and(|open| number <= open) {
                continue;
            }
            let above = match number
                .checked_sub(1)
                .and_then(|above| self.chain.get(above))
            {
                Some(Level { fd: Some(fd), .. }) => fd.as_fd(),
                _ => self.root.as_fd(),
            };
            let fd = openat(above, OsStr::from_bytes(name), DIRECTORY, Mode::empty()).map_err(
                |errno| match errno {
                    Errno::LOOP | Errno::NOTDIR | Errno::NOENT => replaced(&path[..end]),
                    errno => errno.into(),
                },
            )?;
            if self.made.get(&path[..end]) != Some(&id(&fstat(&fd)?)) {
                return Err(replaced(&path[..end]));
            }
            match self.chain.get_mut(number) {
                Some(level) => level.fd = Some(fd),
                None => self.chain.push(Level {
                    name: name.to_vec(),
                    fd: Some(fd),
                }),
            }
            if let Some(far) = number.checked_sub(OPEN_MAX) {
                self.chain[far].fd = None;
            }
        }
        let last = self.chain.last().and_then(|level| level.fd.as_ref());
        last.map(AsFd::as_fd).ok_or_else(|| replaced(path))
    }

    /// Opens what was just made, to set its attributes: it must be that.
    fn reopen(
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[u8],
        kind: FileType,
    ) -> io::Result<OwnedFd> {
        let flags = match kind {
            FileType::Directory => DIRECTORY,
            _ => OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        };
        let fd = openat(dir, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::NOENT => replaced(path),
            errno => errno.into(),
        })?;
        let stat = fstat(&fd)?;
        let own = stat.st_uid == rustix::process::geteuid().as_raw();
        let one = kind == FileType::Directory || stat.st_nlink == 1;
        match own && one && FileType::from_raw_mode(stat.st_mode) == kind {
            true => Ok(fd),
            false => Err(replaced(path)),
        }
    }

    /// Gives an object all but its contents: owner, then attributes, permissions and time.
    fn set(&mut self, fd: BorrowedFd<'_>, attr: &Attr, xattrs: &Pairs) -> io::Result<()> {
        let magic = magic(fd);
        if self.is_root && attr.uid != NO_ID && attr.gid != NO_ID {
            let (uid, gid) = (Uid::from_raw(attr.uid), Gid::from_raw(attr.gid));
            match chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH) {
                // Root without the right to, or an id that this user namespace has not.
                Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::OVERFLOW) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let stat = fstat(fd)?;
        let (owner, group) = (stat.st_uid == attr.uid, stat.st_gid == attr.gid);
        if !owner || !group {
            self.left_out.owners += 1;
        }
        for (name, value) in xattrs {
            // What a program may do is its owner's business.
            let allowed = name != b"security.capability" || owner && group;
            let Ok(name) = CString::new(&name[..]) else {
                continue;
            };
            let set = match allowed {
                true => setxattr(&magic, &*name, value, XattrFlags::empty()),
                false => Err(Errno::PERM),
            };
            match set {
                Ok(()) => {}
                // Not for this user, this object or this file system.
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {
                    self.left_out.xattrs += 1;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        if attr.mode & 0o170000 != 0o120000 {
            let mut mode = attr.mode & 0o7777;
            if !self.is_root {
                mode &= !self.umask;
            }
            let wanted = mode;
            for (bit, kept) in [(SETUID, owner), (SETGID, group)] {
                if !kept {
                    mode &= !bit;
                }
            }
            if mode != wanted && !is_dir(attr.mode) {
                self.left_out.set_ids += 1;
            }
            chmod(&magic, Mode::from_raw_mode(mode))?;
        }
        let time = Timespec {
            tv_sec: attr.mtime.sec,
            tv_nsec: attr.mtime.nsec.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, &magic, &times, AtFlags::empty())?;
        Ok(())
    }

    fn make_dir(&mut self, path: &[u8]) -> io::Result<()> {
        let (above, name) = split(path);
        let dir = self.at(above)?;
        mkdirat(dir, name, CLOSED_DIR)?;
        let fd = Self::reopen(dir, name, path, FileType::Directory)?;
        let id = id(&fstat(&fd)?);
        self.made.insert(path.to_vec(), id);
        Ok(())
    }

    /// Makes a regular file; one that cannot be read to its end is taken away again.
    fn make_file(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<OwnedFd, CopyError> {
        let (above, name) = split(object.path);
        let stop = self.stop.clone();
        let dir = self.at(above).map_err(CopyError::Write)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir, name, flags, CLOSED_FILE);
        let file = std::fs::File::from(file.map_err(|errno| CopyError::Write(errno.into()))?);
        let copied = runs(stack, images, object.inode, &mut |at, run| {
            stop.check()?;
            let Ok(bytes) = run else { return Ok(()) };
            for (index, part) in bytes.chunks(GRANULE).enumerate() {
                if part.iter().any(|&byte| byte != 0) {
                    file.write_all_at(part, at + (index * GRANULE) as u64)?;
                }
            }
            Ok(())
        });
        if let Err(error) = copied {
            let _ = unlinkat(dir, name, AtFlags::empty());
            return Err(error);
        }
        file.set_len(object.attr.size).map_err(CopyError::Write)?;
        Ok(file.into())
    }

    /// Makes anything but a directory; `None` where this user may not.
    fn make(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<Option<OwnedFd>, CopyError> {
        let kind = FileType::from_raw_mode(object.attr.mode);
        if kind == FileType::RegularFile {
            return self.make_file(stack, images, object).map(Some);
        }
        let (above, name) = split(object.path);
        let write = |errno: Errno| CopyError::Write(errno.into());
        if kind == FileType::Symlink {
            let target = stack
                .read_link(images, object.inode)
                .map_err(CopyError::Read)?;
            let dir = self.at(above).map_err(CopyError::Write)?;
            symlinkat(OsStr::from_bytes(&target), dir, name).map_err(write)?;
            let fd = Self::reopen(dir, name, object.path, kind);
            return fd.map(Some).map_err(CopyError::Write);
        }
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let (major, minor) = device(object.attr);
        let number = rustix::fs::makedev(major, minor);
        let dir = self.at(above).map_err(CopyError::Write)?;
        match mknodat(dir, name, kind, CLOSED_FILE, number) {
            Ok(()) => {}
            Err(Errno::PERM) if is_device => {
                self.left_out.devices += 1;
                return Ok(None);
            }
            Err(errno) => return Err(write(errno)),
        }
        let fd = Self::reopen(dir, name, object.path, kind);
        fd.map(Some).map_err(CopyError::Write)
    }

    /// Gives a file that was made another name.
    fn link(&mut self, first: &[u8], is: Id, path: &[u8]) -> io::Result<()> {
        let (from_dir, from_name) = split(first);
        let from = self.at(from_dir)?.try_clone_to_owned()?;
        let (above, name) = split(path);
        let dir = self.at(above)?;
        linkat(&from, from_name, dir, name, AtFlags::empty())?;
        if id(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?) != is {
            unlinkat(dir, name, AtFlags::empty())?;
            return Err(replaced(first));
        }
        Ok(())
    }
}

impl Sink for Dir {
    fn object(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<(), CopyError> {
        self.stop.check().map_err(CopyError::Write)?;
        let attr = object.attr;
        if is_dir(attr.mode) {
            let xattrs = xattrs(stack, images, object.inode)?;
            if !object.path.is_empty() {
                self.make_dir(object.path).map_err(CopyError::Write)?;
            }
            self.dirs.push(MadeDir {
                path: object.path.to_vec(),
                attr: *attr,
                xattrs,
            });
            return Ok(());
        }
        if attr.nlink > 1
            && let Some((first, id)) = self.linked.get(&object.inode).cloned()
        {
            return self.link(&first, id, object.path).map_err(CopyError::Write);
        }
        let xattrs = xattrs(stack, images, object.inode)?;
        let Some(fd) = self.make(stack, images, object)? else {
            return Ok(());
        };
        if attr.nlink > 1 {
            let stat = fstat(&fd).map_err(|errno| CopyError::Write(errno.into()))?;
            self.linked
                .insert(object.inode, (object.path.to_vec(), id(&stat)));
        }
        self.set(fd.as_fd(), attr, &xattrs)
            .map_err(CopyError::Write)
    }

    fn finish(&mut self) -> io::Result<()> {
        // Inner ones first: what is done in a directory changes its time, and needs rights that it may not
        // give.
        for dir in std::mem::take(&mut self.dirs).iter().rev() {
            self.stop.check()?;
            let fd = self.at(&dir.path)?.try_clone_to_owned()?;
            match self.set(fd.as_fd(), &dir.attr, &dir.xattrs) {
                // The directory itself was there before, and is somebody else's.
                Err(error)
                    if dir.path.is_empty() && error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result?,
            }
        }
        let LeftOut {
            devices,
            xattrs,
            owners,
            set_ids,
        } = self.left_out;
        for (count, what) in [
            (devices, "device file"),
            (xattrs, "extended attribute"),
            (owners, "owner"),
            (set_ids, "set-ID bit"),
        ] {
            let (s, was) = if count == 1 {
                ("", "was")
            } else {
                ("s", "were")
            };
            if count > 0 {
                text::say(format_args!(
                    "note: {count} {what}{s} {was} left out: root, or another file system, can keep them"
                ));
            }
        }
        Ok(())
    }

    fn abandon(&mut self) {
        // All that is in it was put there by this extraction.
        let root = magic(self.root.as_fd());
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => std::fs::remove_dir_all(entry.path()),
                false => std::fs::remove_file(entry.path()),
            };
        }
        if self.is_new {
            let _ = unlinkat(CWD, &self.path, AtFlags::REMOVEDIR);
        }
    }
}
