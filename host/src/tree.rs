//! Host directory trees: every step is one component, opened relative to its directory's descriptor, and no
//! symbolic link is followed.
//!
//! A node is a file of the host, known by its device, inode number and time of birth, however many names lead
//! to it. Descriptors are kept for the nodes used last ([`Descriptors`]); the others are opened again by the
//! name under which they were last seen, and are `ESTALE` if something else is there by now.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, MemfdFlags, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno as HostErrno;
use varve_core::abi::Errno;
use varve_core::machine::ImageId;
use varve_core::port::{HostTree, NodeAttr, NodeEntry, NodeId};

use crate::backings::Backings;
use crate::images::{HostImage, TreeFile};
use crate::limits::TreeLimits;
use crate::streams::errno;

/// Most directories above a node: names can be moved on the host so that what is remembered of them makes a
/// circle.
const DEPTH_MAX: usize = 4096;
/// The extended attribute with the list of who may do what (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// What makes a file the same as before: device, inode number and, where the file system has it, the time of
/// birth, because numbers are given out again.
type Identity = (u64, u64, (i64, u32));

struct Node {
    /// The directory it was last seen in and its name there; none for a root.
    from: Option<(NodeId, Vec<u8>)>,
    identity: Identity,
    /// Whether it has a list of who may do what, and the change time at which that was so.
    acl: Option<((i64, u32), bool)>,
    /// The image that its contents are, and how many bytes that has room for.
    image: Option<(ImageId, u64)>,
    /// A root's descriptor, which stays.
    root: Option<Arc<OwnedFd>>,
}

/// Descriptors that are kept open, the ones used last.
struct Descriptors {
    most: usize,
    open: HashMap<NodeId, (u64, Arc<OwnedFd>)>,
    /// The nodes by the time of their last use.
    order: BTreeMap<u64, NodeId>,
    uses: u64,
}

impl Descriptors {
    fn new(most: usize) -> Descriptors {
        Descriptors {
            most,
            open: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
        }
    }

    fn get(&mut self, id: NodeId) -> Option<Arc<OwnedFd>> {
        let (used, fd) = self.open.get_mut(&id)?;
        self.order.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.order.insert(self.uses, id);
        Some(fd.clone())
    }

    fn keep(&mut self, id: NodeId, fd: Arc<OwnedFd>) {
        self.uses += 1;
        if let Some((used, _)) = self.open.insert(id, (self.uses, fd)) {
            self.order.remove(&used);
        }
        self.order.insert(self.uses, id);
        self.shrink(self.most);
    }

    /// Closes those that were not used for the longest time.
    fn shrink(&mut self, to: usize) {
        while self.open.len() > to
            && let Some((_, id)) = self.order.pop_first()
        {
            self.open.remove(&id);
        }
    }
}

/// What is known of the trees' files. Host files that are read are opened again through it.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    known: HashMap<Identity, NodeId>,
    /// Path descriptors.
    paths: Descriptors,
    /// Descriptors for reading.
    files: Descriptors,
    /// So many more files may be mapped into guests: each keeps a descriptor of its own then.
    pins: usize,
    /// What is mapped in the place of a file that has gone.
    empty: Arc<OwnedFd>,
}

/// The host directory trees of a run.
pub(crate) struct HostTrees {
    roots: Vec<NodeId>,
    nodes: Arc<Mutex<Nodes>>,
    backings: Arc<Backings>,
}

/// Nothing that holds the lock leaves half of a change behind.
pub(crate) fn lock(nodes: &Mutex<Nodes>) -> MutexGuard<'_, Nodes> {
    nodes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostTrees {
    pub(crate) fn new(
        roots: Vec<OwnedFd>,
        backings: Arc<Backings>,
        limits: TreeLimits,
    ) -> std::io::Result<HostTrees> {
        let mut nodes = Nodes {
            nodes: Vec::new(),
            known: HashMap::new(),
            paths: Descriptors::new(limits.paths),
            files: Descriptors::new(limits.files),
            pins: limits.mapped,
            empty: Arc::new(rustix::fs::memfd_create("varve-gone", MemfdFlags::CLOEXEC)?),
        };
        let mut ids = Vec::new();
        for fd in roots {
            let identity = identity(&look(fd.as_fd(), b"")?);
            let id = NodeId(nodes.nodes.len() as u64);
            nodes.nodes.push(Node {
                from: None,
                identity,
                acl: None,
                image: None,
                root: Some(Arc::new(fd)),
            });
            // Two trees with the same root are two: each has its own way down.
            nodes.known.entry(identity).or_insert(id);
            ids.push(id);
        }
        Ok(HostTrees {
            roots: ids,
            nodes: Arc::new(Mutex::new(nodes)),
            backings,
        })
    }
}

impl Nodes {
    fn at(&mut self, id: NodeId) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(id.0 as usize).ok_or(Errno::ESTALE)
    }

    /// A path descriptor of a node. `ESTALE` if it is not where it was last seen.
    fn path(&mut self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        // A node's directories may have lost their descriptors, too: go up to the first that has one, then
        // down again.
        let mut way = Vec::new();
        let mut at = id;
        let mut fd = loop {
            if let Some(fd) = self.paths.get(at) {
                break fd;
            }
            let node = self.at(at)?;
            if let Some(fd) = &node.root {
                break fd.clone();
            }
            let parent = node.from.as_ref().ok_or(Errno::ESTALE)?.0;
            way.push(at);
            if way.len() > DEPTH_MAX {
                return Err(Errno::ESTALE);
            }
            at = parent;
        };
        for id in way.into_iter().rev() {
            let node = self.at(id)?;
            let wanted = node.identity;
            let name = node.from.as_ref().ok_or(Errno::ESTALE)?.1.clone();
            let opened = self.with_room(|| open_path(fd.as_fd(), &name));
            let opened = opened.map_err(|error| match error {
                HostErrno::NOENT | HostErrno::NOTDIR => Errno::ESTALE,
                error => errno(error),
            })?;
            if identity(&look(opened.as_fd(), b"").map_err(errno)?) != wanted {
                return Err(Errno::ESTALE);
            }
            fd = Arc::new(opened);
            self.paths.keep(id, fd.clone());
        }
        Ok(fd)
    }

    /// Opens something; where the process has no descriptor left, those kept are closed first.
    fn with_room<T>(
        &mut self,
        mut open: impl FnMut() -> Result<T, HostErrno>,
    ) -> Result<T, HostErrno> {
        match open() {
            Err(HostErrno::MFILE | HostErrno::NFILE) => {
                self.paths.shrink(0);
                self.files.shrink(0);
                open()
            }
            result => result,
        }
    }

    /// A descriptor for reading a node that is a regular file.
    pub(crate) fn file(&mut self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = self.files.get(id) {
            return Ok(fd);
        }
        let path = self.path(id)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // The path descriptor is the file itself: this follows no link of the tree.
        let opened = self
            .with_room(|| rustix::fs::open(magic(&path), flags, Mode::empty()))
            .map_err(errno)?;
        let fd = Arc::new(opened);
        self.files.keep(id, fd.clone());
        Ok(fd)
    }

    /// A descriptor that stays open, for mapping; that of an empty file, if the node's is not where it was.
    pub(crate) fn pin(&mut self, id: NodeId) -> Arc<OwnedFd> {
        self.pins = self.pins.saturating_sub(1);
        self.file(id).unwrap_or_else(|_| self.empty.clone())
    }

    /// The node of what was found under a name.
    fn node(&mut self, found: Identity, dir: NodeId, name: &[u8]) -> NodeId {
        let next = NodeId(self.nodes.len() as u64);
        let id = *self.known.entry(found).or_insert(next);
        if id == next {
            self.nodes.push(Node {
                from: Some((dir, name.to_vec())),
                identity: found,
                acl: None,
                image: None,
                root: None,
            });
        } else if let Some(from) = self.nodes.get_mut(id.0 as usize).map(|node| &mut node.from)
            && let Some((known_dir, known_name)) = from
            && (*known_dir, known_name.as_slice()) != (dir, name)
        {
            *from = Some((dir, name.to_vec()));
        }
        id
    }
}

fn is_component(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/')
}

fn open_path(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, HostErrno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// The attributes of a name in a directory or, without one, of the file itself.
fn look(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Statx, HostErrno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(dir, name, flags, wanted)
}

fn device(stat: &Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

fn identity(stat: &Statx) -> Identity {
    let birth = match stat.stx_mask & StatxFlags::BTIME.bits() {
        0 => (0, 0),
        _ => (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
    };
    (device(stat), stat.stx_ino, birth)
}

/// A node's own path under `/proc/self/fd`, for calls that take no path descriptor.
fn magic(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn file_type(mode: u16) -> rustix::fs::FileType {
    rustix::fs::FileType::from_raw_mode(mode.into())
}

impl HostTree for HostTrees {
    fn root(&mut self, tree: u32) -> Result<NodeId, Errno> {
        self.roots.get(tree as usize).copied().ok_or(Errno::ENOENT)
    }

    fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        if !is_component(name) {
            return Err(Errno::EINVAL);
        }
        let mut nodes = lock(&self.nodes);
        let dir_fd = nodes.path(dir)?;
        let stat = look(dir_fd.as_fd(), name).map_err(errno)?;
        Ok(nodes.node(identity(&stat), dir, name))
    }

    fn attr(&mut self, node: NodeId) -> Result<NodeAttr, Errno> {
        let mut nodes = lock(&self.nodes);
        let fd = nodes.path(node)?;
        let stat = look(fd.as_fd(), b"").map_err(errno)?;
        let changed = (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec);
        let acl = match nodes.at(node)?.acl {
            Some((at, acl)) if at == changed => acl,
            _ => {
                // Links have none, and asking the kernel for one would be asked of what the path leads to.
                let acl = !file_type(stat.stx_mode).is_symlink()
                    && rustix::fs::getxattr(magic(&fd), ACL, &mut [0u8; 0]).is_ok();
                nodes.at(node)?.acl = Some((changed, acl));
                acl
            }
        };
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        Ok(NodeAttr {
            mode: stat.stx_mode.into(),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            nlink: stat.stx_nlink,
            size: stat.stx_size,
            rdev: minor & 0xff | major << 8 | (minor & !0xff) << 12,
            dev: device(&stat),
            ino: stat.stx_ino,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            acl,
        })
    }

    fn read_dir(&mut self, dir: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        let mut nodes = lock(&self.nodes);
        let fd = nodes.path(dir)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = nodes
            .with_room(|| rustix::fs::openat(&fd, ".", flags, Mode::empty()))
            .map_err(errno)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::new(opened).map_err(errno)? {
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
        let fd = lock(&self.nodes).path(node)?;
        let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(errno)?;
        Ok(target.into_bytes())
    }

    fn open(&mut self, node: NodeId) -> Result<ImageId, Errno> {
        let mut nodes = lock(&self.nodes);
        let fd = nodes.path(node)?;
        let stat = look(fd.as_fd(), b"").map_err(errno)?;
        // Opening a FIFO or a device could wait or act: only regular files are opened.
        if !file_type(stat.stx_mode).is_file() {
            return Err(Errno::EINVAL);
        }
        let mappable = nodes.pins > 0;
        if let Some((id, room)) = nodes.at(node)?.image
            && stat.stx_size <= room
        {
            if let Some(file) = self.backings.tree_file(id) {
                file.set_mappable(mappable);
            }
            return Ok(id);
        }
        nodes.file(node)?;
        let file = TreeFile::new(self.nodes.clone(), node, stat.stx_size);
        file.set_mappable(mappable);
        let room = file.room();
        let id = self.backings.add(HostImage::Tree(file));
        nodes.at(node)?.image = Some((id, room));
        Ok(id)
    }

    fn list_xattr(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        let fd = lock(&self.nodes).path(node)?;
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
        let fd = lock(&self.nodes).path(node)?;
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

#[cfg(test)]
mod tests;
