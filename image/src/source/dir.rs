//! A directory of the host as source: one depth-first walk in byte order that reads every file as it meets
//! it.
//!
//! Each object is reached through the descriptor of its directory and never through a symbolic link, so that
//! a tree that changes meanwhile can give an error but nothing from outside.

use super::marker::Marker;
use crate::error::OsText;
use crate::output::FileId;
use crate::tree::{Attr, Body, Directory, Node, NodeId, Time, Tree, Xattrs};
use crate::writer::{Content, DataWriter, ExtentId};
use crate::xattr;
use crate::{BuildError, BuildOptions};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);
/// Buffer for one getdents(2), in bytes.
const LIST_BUFFER: usize = 64 << 10;
/// Attribute names that mark an overlayfs object whose content is elsewhere.
const REDIRECTS: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];
/// Attributes in which overlayfs keeps facts about one mount; they mean nothing in a layer.
const BOOKKEEPING: [&[u8]; 6] = [
    b"trusted.overlay.origin",
    b"trusted.overlay.impure",
    b"trusted.overlay.nlink",
    b"trusted.overlay.upper",
    b"trusted.overlay.uuid",
    b"trusted.overlay.protattr",
];

/// Opens the directory to build from; here alone a symbolic link is followed.
pub(crate) fn open_root(source: &Path) -> Result<OwnedFd, BuildError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    rustix::fs::open(source, flags, Mode::empty())
        .map_err(|e| BuildError::source("open", source, e))
}

/// Reads the tree below `root` and stores the data of its files.
pub(crate) fn read(
    root: OwnedFd,
    source: &Path,
    options: &BuildOptions,
    skip: &[FileId],
    data: &mut DataWriter<'_>,
) -> Result<Tree, BuildError> {
    let stat = rustix::fs::fstat(&root).map_err(|e| BuildError::source("read", source, e))?;
    let mut walk = Walk {
        options,
        skip,
        data,
        tree: Tree::new(attr(&stat, options)),
        path: source.as_os_str().as_bytes().to_vec(),
        linked: HashMap::new(),
        stored: HashMap::new(),
        list: Vec::with_capacity(LIST_BUFFER),
    };
    walk.tree.node_mut(NodeId::ROOT).xattrs = walk.xattrs_of_fd(&root)?;
    walk.store_first(&root)?;
    walk.run(root, file_id(&stat))?;
    Ok(walk.tree)
}

/// Directories held open at once; those further up are found again through `..`.
const OPEN_MAX: usize = 256;

/// A directory whose entries are being read.
struct Level {
    fd: Option<OwnedFd>,
    id: FileId,
    node: NodeId,
    /// What is left, last name first.
    names: Vec<(CString, FileType)>,
    path_len: usize,
}

struct Walk<'a, 'd> {
    options: &'a BuildOptions,
    skip: &'a [FileId],
    data: &'a mut DataWriter<'d>,
    tree: Tree,
    /// Path of the directory or object at hand, for messages.
    path: Vec<u8>,
    /// Inodes with several names.
    linked: HashMap<FileId, NodeId>,
    /// Files that were stored before their turn.
    stored: HashMap<FileId, (u64, Option<ExtentId>)>,
    list: Vec<u8>,
}

impl Walk<'_, '_> {
    fn fail(&self, action: &'static str, errno: Errno) -> BuildError {
        BuildError::source(action, self.here(), errno)
    }

    fn here(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.path.clone()))
    }

    fn run(&mut self, root: OwnedFd, id: FileId) -> Result<(), BuildError> {
        let names = self.names(&root)?;
        let (fd, node, path_len) = (Some(root), NodeId::ROOT, self.path.len());
        let mut levels = vec![Level {
            fd,
            id,
            node,
            names,
            path_len,
        }];
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_len);
            // The innermost level is always open.
            let dir = level
                .fd
                .as_ref()
                .ok_or_else(|| self.fail("open", Errno::BADF))?;
            let Some((name, kind)) = level.names.pop() else {
                let done = levels.pop().and_then(|level| level.fd);
                if let (Some(child), Some(parent)) = (done, levels.last_mut())
                    && parent.fd.is_none()
                {
                    parent.fd = Some(self.reopen_parent(&child, parent.id)?);
                }
                continue;
            };
            self.path.push(b'/');
            self.path.extend_from_slice(name.as_bytes());
            let parent = level.node;
            let found = match self.marker(dir, parent, &name, kind) {
                Ok(true) => Ok(None),
                Ok(false) => self.object(dir, parent, &name, kind),
                Err(error) => Err(error),
            };
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    self.pass_over(error)?;
                    self.bare_directory(dir, parent, &name);
                    None
                }
            };
            if let Some((fd, id, node)) = found {
                let names = match self.names(&fd) {
                    Ok(names) => names,
                    Err(error) => {
                        self.pass_over(error)?;
                        continue;
                    }
                };
                if let Some(far) = levels.len().checked_sub(OPEN_MAX) {
                    levels[far].fd = None;
                }
                levels.push(Level {
                    fd: Some(fd),
                    id,
                    node,
                    names,
                    path_len: self.path.len(),
                });
            }
        }
        Ok(())
    }

    /// Notes that something cannot be read, if that is no reason to end.
    fn pass_over(&mut self, error: BuildError) -> Result<(), BuildError> {
        let BuildError::Source {
            action,
            path,
            error,
        } = error
        else {
            return Err(error);
        };
        if self.options.skip_unreadable {
            self.data.forget_part()?;
            let reason = format!("cannot {action}: {}", OsText(&error));
            self.data.report.skip(path.as_os_str().as_bytes(), reason);
            return Ok(());
        }
        let error = match error.kind() {
            std::io::ErrorKind::PermissionDenied => std::io::Error::new(
                error.kind(),
                format!(
                    "{}; `--skip-unreadable` of `varve build` and `varve convert` goes on without it",
                    OsText(&error)
                ),
            ),
            _ => error,
        };
        Err(BuildError::Source {
            action,
            path,
            error,
        })
    }

    /// A directory that cannot be opened is there, empty: others may be mounted or stacked on it.
    fn bare_directory(&mut self, dir: &OwnedFd, parent: NodeId, name: &CString) {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let Ok(stat) = rustix::fs::statat(dir, name, flags) else {
            return;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory
            || Marker::of(name.as_bytes()).is_some()
            || self.tree.full().is_some()
        {
            return;
        }
        let node = self.tree.push(Node {
            attr: attr(&stat, self.options),
            xattrs: Xattrs::new(),
            body: Body::Directory(Directory::default()),
        });
        self.tree.link(parent, name.as_bytes(), node);
    }

    /// Opens the directory above `child`, which must be the one it was reached through.
    fn reopen_parent(&self, child: &OwnedFd, id: FileId) -> Result<OwnedFd, BuildError> {
        let flags = READ | OFlags::DIRECTORY;
        let fd = rustix::fs::openat(child, c"..", flags, Mode::empty())
            .map_err(|e| self.fail("open", e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.fail("read", e))?;
        if file_id(&stat) != id {
            return Err(BuildError::unsupported(
                self.path.clone(),
                "was moved while it was read",
            ));
        }
        Ok(fd)
    }

    /// The names in a directory, sorted so that the first is at the end.
    fn names(&mut self, fd: &OwnedFd) -> Result<Vec<(CString, FileType)>, BuildError> {
        let mut names = Vec::new();
        let mut dir = RawDir::new(fd, self.list.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            let entry =
                entry.map_err(|e| BuildError::source("list", OsStr::from_bytes(&self.path), e))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|a, b| b.0.as_bytes().cmp(a.0.as_bytes()));
        Ok(names)
    }

    /// Handles the names with a meaning of their own, those of OCI layers; whether this was one.
    fn marker(
        &mut self,
        dir: &OwnedFd,
        parent: NodeId,
        name: &CString,
        kind: FileType,
    ) -> Result<bool, BuildError> {
        let marker = match Marker::of(name.as_bytes()) {
            None => return Ok(false),
            Some(Marker::Reserved) => {
                let path = crate::error::Shown(&self.path);
                let line = format!("{path} left out: a name reserved for layer metadata");
                self.data.report.note(line);
                return Ok(true);
            }
            Some(marker) => marker,
        };
        let kind = match kind {
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| self.fail("read", e))?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        // What may hold files is not dropped in silence.
        if kind == FileType::Directory {
            let reason = "a directory with the name of a whiteout";
            return Err(BuildError::unsupported(self.path.clone(), reason));
        }
        let Some(directory) = self.tree.directory_mut(parent) else {
            return Ok(true);
        };
        match marker {
            Marker::Whiteout(hidden) if !matches!(hidden, b"" | b"." | b"..") => {
                directory.whiteouts.insert(hidden.into());
            }
            Marker::Whiteout(_) => {
                let reason = "a whiteout of no name";
                return Err(BuildError::unsupported(self.path.clone(), reason));
            }
            Marker::Opaque => directory.opaque = true,
            Marker::Reserved => {}
        }
        Ok(true)
    }

    /// Takes one object into the tree; gives back a directory that is still to be listed.
    fn object(
        &mut self,
        dir: &OwnedFd,
        parent: NodeId,
        name: &CString,
        kind: FileType,
    ) -> Result<Option<(OwnedFd, FileId, NodeId)>, BuildError> {
        self.data.check()?;
        // A regular file or directory is opened first: one look-up less, and what is described is what is
        // read.
        let open = |flags| rustix::fs::openat(dir, name, READ | flags, Mode::empty());
        let opened = match kind {
            FileType::Directory => Some(open(OFlags::DIRECTORY)),
            FileType::RegularFile => Some(open(OFlags::NONBLOCK | OFlags::NOCTTY)),
            _ => None,
        };
        let (fd, mut stat) = match opened {
            Some(Ok(fd)) => {
                let stat = rustix::fs::fstat(&fd).map_err(|e| self.fail("read", e))?;
                (Some(fd), stat)
            }
            Some(Err(errno)) if !matches!(errno, Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                return Err(self.fail("open", errno));
            }
            _ => {
                let stat = rustix::fs::statat(
                    dir,
                    name,
                    AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
                )
                .map_err(|e| self.fail("read", e))?;
                (None, stat)
            }
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let id = file_id(&stat);
        if let Some(reason) = self.tree.full() {
            return Err(BuildError::unsupported(self.path.clone(), reason));
        }
        if kind == FileType::RegularFile && self.skip.contains(&id) {
            self.data.report.note(format!(
                "left out {}: it is the output",
                crate::error::Shown(&self.path)
            ));
            return Ok(None);
        }
        let many = stat.st_nlink > 1 && kind != FileType::Directory;
        if many && let Some(&node) = self.linked.get(&id) {
            self.tree.link(parent, name.as_bytes(), node);
            return Ok(None);
        }
        let fd = match (fd, kind) {
            (Some(fd), _) => Some(fd),
            // The file system did not tell the type with the name.
            (None, FileType::Directory | FileType::RegularFile) => {
                let flags = match kind {
                    FileType::Directory => OFlags::DIRECTORY,
                    _ => OFlags::NONBLOCK | OFlags::NOCTTY,
                };
                let fd = open(flags).map_err(|e| self.fail("open", e))?;
                // What is described must be what is read.
                let opened = rustix::fs::fstat(&fd).map_err(|e| self.fail("read", e))?;
                if file_id(&opened) != id || FileType::from_raw_mode(opened.st_mode) != kind {
                    let reason = "was replaced while it was read";
                    return Err(BuildError::unsupported(self.path.clone(), reason));
                }
                stat = opened;
                Some(fd)
            }
            _ => None,
        };
        let xattrs = match &fd {
            Some(fd) => self.xattrs_of_fd(fd)?,
            None => self.xattrs_of_name(dir, name)?,
        };
        let body = match kind {
            FileType::Directory => Body::Directory(Directory::default()),
            FileType::RegularFile => {
                let (size, extent) = match (self.stored.get(&id), &fd) {
                    (Some(stored), _) => *stored,
                    (None, Some(fd)) => self.store(fd, &stat)?,
                    (None, None) => return Err(self.fail("open", Errno::NOENT)),
                };
                Body::File { size, extent }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .map_err(|e| self.fail("read", e))?;
                Body::Symlink(target.as_bytes().into())
            }
            FileType::CharacterDevice => Body::CharDevice(
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            FileType::BlockDevice => Body::BlockDevice(
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            FileType::Fifo => Body::Fifo,
            FileType::Socket => Body::Socket,
            FileType::Unknown => {
                return Err(BuildError::unsupported(
                    self.path.clone(),
                    "unknown type of file",
                ));
            }
        };
        let directory = body.is_directory();
        let node = self.tree.push(Node {
            attr: attr(&stat, self.options),
            xattrs,
            body,
        });
        self.tree.link(parent, name.as_bytes(), node);
        if many {
            self.linked.insert(id, node);
        }
        Ok(fd.filter(|_| directory).map(|fd| (fd, id, node)))
    }

    /// Stores the files that the options want at the front.
    fn store_first(&mut self, root: &OwnedFd) -> Result<(), BuildError> {
        let base = self.path.len();
        for path in &self.options.order {
            self.path.truncate(base);
            let Some(fd) = open_below(root, path) else {
                continue;
            };
            let Ok(stat) = rustix::fs::fstat(&fd) else {
                continue;
            };
            let id = file_id(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && !self.stored.contains_key(&id)
            {
                self.path.push(b'/');
                self.path.extend_from_slice(path);
                match self.store(&fd, &stat) {
                    Ok(stored) => {
                        self.stored.insert(id, stored);
                    }
                    // It will be met again, and told then.
                    Err(BuildError::Source { .. }) if self.options.skip_unreadable => {
                        self.data.forget_part()?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.path.truncate(base);
        Ok(())
    }

    fn store(&mut self, fd: &OwnedFd, stat: &Stat) -> Result<(u64, Option<ExtentId>), BuildError> {
        let size = stat.st_size as u64;
        let sparse = (stat.st_blocks as u64).saturating_mul(512) < size;
        let mut content = FileContent {
            fd,
            size,
            data_end: if sparse { 0 } else { size },
            path: &self.path,
        };
        let extent = self.data.store(size, &mut content)?;
        let after = rustix::fs::fstat(fd)
            .map_err(|e| self.fail("read", e))?
            .st_size as u64;
        if after != size {
            return Err(BuildError::Changed {
                path: self.here(),
                before: size,
                after,
            });
        }
        Ok((size, extent))
    }

    fn xattrs_of_fd(&mut self, fd: &OwnedFd) -> Result<Xattrs, BuildError> {
        self.xattrs(
            |buf| rustix::fs::flistxattr(fd, buf),
            |name, buf| rustix::fs::fgetxattr(fd, name, buf),
        )
    }

    /// Attributes of what cannot be opened: links, devices, pipes, sockets.
    fn xattrs_of_name(&mut self, dir: &OwnedFd, name: &CString) -> Result<Xattrs, BuildError> {
        let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
        path.extend_from_slice(name.as_bytes());
        // Without /proc the plain path must do.
        if rustix::fs::accessat(
            rustix::fs::CWD,
            path.as_slice(),
            rustix::fs::Access::EXISTS,
            AtFlags::SYMLINK_NOFOLLOW,
        ) == Err(Errno::NOENT)
        {
            path.clone_from(&self.path);
        }
        let path = path.as_slice();
        self.xattrs(
            |buf| rustix::fs::llistxattr(path, buf),
            |name, buf| rustix::fs::lgetxattr(path, name, buf),
        )
    }

    fn xattrs(
        &mut self,
        list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> Result<Xattrs, BuildError> {
        let mut xattrs = Xattrs::new();
        // Most objects have none; one call tells.
        let mut small = [0; 256];
        let names = match list(&mut small) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(xattrs),
            Ok(len) => small[..len].to_vec(),
            Err(Errno::RANGE) => sized(list).map_err(|e| self.fail("list attributes of", e))?,
            Err(errno) => return Err(self.fail("list attributes of", errno)),
        };
        for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
            if REDIRECTS.contains(&name) {
                let reason = format!(
                    "{} makes it depend on a file elsewhere",
                    crate::error::Shown(name)
                );
                return Err(BuildError::unsupported(self.path.clone(), reason));
            }
            let why = if BOOKKEEPING.contains(&name) {
                "it describes one overlay mount"
            } else if xattr::split(name).is_none() {
                "the format has no such attribute"
            } else {
                let value = match sized(|buf| get(name, buf)) {
                    Ok(value) => value,
                    // Listed, but gone or hidden from us.
                    Err(Errno::NODATA) => continue,
                    Err(errno) => return Err(self.fail("read attributes of", errno)),
                };
                if value.len() > xattr::VALUE_MAX {
                    let reason = format!(
                        "attribute {} exceeds {} bytes",
                        crate::error::Shown(name),
                        xattr::VALUE_MAX
                    );
                    return Err(BuildError::unsupported(self.path.clone(), reason));
                }
                xattrs.insert(name.into(), value.into());
                continue;
            };
            let (path, name) = (crate::error::Shown(&self.path), crate::error::Shown(name));
            let line = format!("{path}: attribute {name} left out: {why}");
            self.data.report.note(line);
        }
        Ok(xattrs)
    }
}

/// Calls `get` with growing buffers until one is large enough.
fn sized(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buf = vec![0; 512];
    loop {
        match get(&mut buf) {
            Ok(len) => {
                buf.truncate(len);
                return Ok(buf);
            }
            // The kernel's limit for values and lists of names is 64 KiB.
            Err(Errno::RANGE) if buf.len() <= 64 << 10 => buf.resize(buf.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// The object at `path` below `root`, if no component on the way is a symbolic link.
fn open_below(root: &OwnedFd, path: &[u8]) -> Option<OwnedFd> {
    let mut components = path
        .split(|&b| b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = components.next() {
        if name == b".." {
            return None;
        }
        let dir = at.as_ref().unwrap_or(root);
        let last = components.peek().is_none();
        let flags = if last {
            OFlags::NONBLOCK | OFlags::NOCTTY
        } else {
            OFlags::DIRECTORY | OFlags::PATH
        };
        // A path that is not there, or no file, is no error: lists outlive the trees they were made for.
        at = Some(rustix::fs::openat(dir, name, READ | flags, Mode::empty()).ok()?);
    }
    at
}

fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

fn attr(stat: &Stat, options: &BuildOptions) -> Attr {
    let mtime = Time {
        sec: stat.st_mtime,
        nsec: stat.st_mtime_nsec as u32,
    };
    Attr {
        perm: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime.clamped(options.timestamp),
    }
}

/// The bytes of an open file.
struct FileContent<'a> {
    fd: &'a OwnedFd,
    size: u64,
    /// Up to here the file is known to be data.
    data_end: u64,
    path: &'a [u8],
}

impl FileContent<'_> {
    fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(self.path))
    }
}

impl Content for FileContent<'_> {
    fn hole_end(&mut self, at: u64) -> Result<u64, BuildError> {
        if at < self.data_end {
            return Ok(at);
        }
        match rustix::fs::seek(self.fd, SeekFrom::Data(at)) {
            Ok(data) if data > at => Ok(data),
            Ok(_) => {
                self.data_end = rustix::fs::seek(self.fd, SeekFrom::Hole(at)).unwrap_or(self.size);
                Ok(at)
            }
            Err(Errno::NXIO) => Ok(self.size),
            // A file system that cannot tell.
            Err(_) => {
                self.data_end = self.size;
                Ok(at)
            }
        }
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), BuildError> {
        let mut have = 0;
        while have < buf.len() {
            let offset = at + have as u64;
            match rustix::io::pread(self.fd, &mut buf[have..], offset) {
                Ok(0) => {
                    return Err(BuildError::Changed {
                        path: self.path(),
                        before: self.size,
                        after: offset,
                    });
                }
                Ok(n) => have += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(BuildError::source("read", self.path(), errno)),
            }
        }
        Ok(())
    }
}
