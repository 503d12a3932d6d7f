//! Host directory trees: every step is one component, opened relative to its directory's descriptor, and no symbolic link is followed.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno as HostErrno;
use varve_core::abi::Errno;
use varve_core::machine::ImageId;
use varve_core::port::{HostTree, NodeAttr, NodeEntry, NodeId};

use crate::backings::Backings;
use crate::images::{HostImage, ImageFile};
use crate::streams::errno;

/// Descriptors of nodes kept open at a time; the others are opened again by the way they were found.
const OPEN_MAX: usize = 512;

struct Node {
    /// The directory it was found in and its name; none for a root.
    from: Option<(NodeId, Vec<u8>)>,
    /// Device and inode when it was found: what is opened again must be the same.
    identity: (u64, u64),
    fd: Option<Arc<OwnedFd>>,
}

/// The host directory trees of a run.
pub(crate) struct HostTrees {
    roots: Vec<NodeId>,
    nodes: Vec<Node>,
    found: HashMap<(NodeId, Vec<u8>), NodeId>,
    images: HashMap<NodeId, ImageId>,
    /// Nodes with open descriptors, oldest first.
    open: std::collections::VecDeque<NodeId>,
    backings: Arc<Backings>,
}

impl HostTrees {
    pub(crate) fn new(roots: Vec<OwnedFd>, backings: Arc<Backings>) -> std::io::Result<HostTrees> {
        let mut trees = HostTrees {
            roots: Vec::new(),
            nodes: Vec::new(),
            found: HashMap::new(),
            images: HashMap::new(),
            open: Default::default(),
            backings,
        };
        for fd in roots {
            let stat = rustix::fs::fstat(&fd)?;
            let id = NodeId(trees.nodes.len() as u64);
            let identity = (stat.st_dev, stat.st_ino);
            trees.nodes.push(Node {
                from: None,
                identity,
                fd: Some(Arc::new(fd)),
            });
            trees.roots.push(id);
        }
        Ok(trees)
    }

    /// A path descriptor of a node.
    fn fd(&mut self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        // A node's directories may have lost their descriptors, too: go up to the first that has one, then down again.
        let mut way = Vec::new();
        let mut at = id;
        let mut fd = loop {
            let node = self.nodes.get(at.0 as usize).ok_or(Errno::ESTALE)?;
            if let Some(fd) = &node.fd {
                break fd.clone();
            }
            way.push(at);
            at = node.from.as_ref().ok_or(Errno::ESTALE)?.0;
        };
        for id in way.into_iter().rev() {
            let node = &self.nodes[id.0 as usize];
            let (_, name) = node.from.as_ref().ok_or(Errno::ESTALE)?;
            let opened = open_path(fd.as_fd(), name)?;
            let stat = rustix::fs::fstat(&opened).map_err(errno)?;
            if (stat.st_dev, stat.st_ino) != node.identity {
                return Err(Errno::ESTALE);
            }
            fd = Arc::new(opened);
            self.keep(id, fd.clone());
        }
        Ok(fd)
    }

    fn keep(&mut self, id: NodeId, fd: Arc<OwnedFd>) {
        self.nodes[id.0 as usize].fd = Some(fd);
        self.open.push_back(id);
        if self.open.len() > OPEN_MAX
            && let Some(oldest) = self.open.pop_front()
        {
            self.nodes[oldest.0 as usize].fd = None;
        }
    }
}

fn open_path(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Errno::EINVAL);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(errno)
}

/// A node's own path under `/proc/self/fd`, for calls that take no path descriptor.
fn magic(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl HostTree for HostTrees {
    fn root(&mut self, tree: u32) -> Result<NodeId, Errno> {
        self.roots.get(tree as usize).copied().ok_or(Errno::ENOENT)
    }

    fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        let dir_fd = self.fd(dir)?;
        let fd = open_path(dir_fd.as_fd(), name)?;
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        let identity = (stat.st_dev, stat.st_ino);
        let key = (dir, name.to_vec());
        if let Some(&id) = self.found.get(&key)
            && self.nodes[id.0 as usize].identity == identity
        {
            return Ok(id);
        }
        let id = NodeId(self.nodes.len() as u64);
        self.nodes.push(Node {
            from: Some(key.clone()),
            identity,
            fd: None,
        });
        self.keep(id, Arc::new(fd));
        self.found.insert(key, id);
        Ok(id)
    }

    fn attr(&mut self, node: NodeId) -> Result<NodeAttr, Errno> {
        let fd = self.fd(node)?;
        let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).map_err(errno)?;
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        Ok(NodeAttr {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: stat.st_nlink as u32,
            size: stat.st_size as u64,
            rdev: minor & 0xff | major << 8 | (minor & !0xff) << 12,
            dev: stat.st_dev,
            ino: stat.st_ino,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        })
    }

    fn read_dir(&mut self, dir: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        let fd = self.fd(dir)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&fd, ".", flags, Mode::empty()).map_err(errno)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(opened).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let kind = kind(entry.file_type());
                entries.push(NodeEntry {
                    name: name.to_vec(),
                    kind,
                });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read_link(&mut self, node: NodeId) -> Result<Vec<u8>, Errno> {
        let fd = self.fd(node)?;
        let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(errno)?;
        Ok(target.into_bytes())
    }

    fn open(&mut self, node: NodeId) -> Result<ImageId, Errno> {
        if let Some(&id) = self.images.get(&node) {
            return Ok(id);
        }
        let fd = self.fd(node)?;
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        // Opening a FIFO or a device could wait or act: only regular files are opened.
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Errno::EINVAL);
        }
        // The path descriptor is the file itself: this follows no link of the tree.
        let opened = rustix::fs::open(magic(&fd), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(errno)?;
        let image = ImageFile::unmapped(File::from(opened))
            .map_err(|error| Errno::from_number(error.raw_os_error().unwrap_or(0)))?;
        let id = self.backings.add(HostImage::Mapped(image));
        self.images.insert(node, id);
        Ok(id)
    }

    fn list_xattr(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        let fd = self.fd(node)?;
        let path = magic(&fd);
        let mut buf = vec![0; 65536];
        let len = match rustix::fs::listxattr(&path, &mut buf) {
            Ok(len) => len,
            Err(HostErrno::OPNOTSUPP) => 0,
            Err(error) => return Err(errno(error)),
        };
        Ok(buf[..len]
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    fn get_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let fd = self.fd(node)?;
        let mut buf = vec![0; 65536];
        let name = std::ffi::OsStr::from_bytes(name);
        match rustix::fs::getxattr(magic(&fd), name, &mut buf) {
            Ok(len) => {
                buf.truncate(len);
                Ok(buf)
            }
            Err(HostErrno::OPNOTSUPP) => Err(Errno::ENODATA),
            Err(error) => Err(errno(error)),
        }
    }
}

/// `DT_` value of a directory entry.
fn kind(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType as T;
    match kind {
        T::Fifo => 1,
        T::CharacterDevice => 2,
        T::Directory => 4,
        T::BlockDevice => 6,
        T::RegularFile => 8,
        T::Symlink => 10,
        T::Socket => 12,
        T::Unknown => 0,
    }
}
