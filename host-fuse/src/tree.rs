//! Answers the kernel's requests out of a stack.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use varve_imgfs::{Attr, Errno as StackError, ImageId, Images, Ino, Source, Stack, Time};

use crate::Log;
use crate::nodes::Nodes;

/// How long the kernel may keep what it was told: nothing ever changes.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// For what could not be read: whoever asks gets the error, and whoever asks again.
const NEVER: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
/// Entries of a directory that are read at a time.
const BATCH: usize = 128;
/// Largest read that is asked for, in bytes.
const READ_MAX: u32 = 1 << 20;
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

pub(crate) struct Tree {
    state: Mutex<State>,
    images: Box<dyn Images + Send + Sync>,
    nodes: Nodes,
    log: Log,
}

struct State {
    stack: Stack,
    /// The directory above each directory that the kernel knows, for `..`.
    parents: HashMap<Ino, Ino>,
}

/// An entry of a directory, read and on its way out.
struct Listed {
    name: Vec<u8>,
    inode: Ino,
    kind: u8,
    next: u64,
}

impl Tree {
    pub(crate) fn new(stack: Stack, images: Box<dyn Images + Send + Sync>, log: Log) -> Tree {
        Tree {
            nodes: Nodes { root: stack.root() },
            state: Mutex::new(State {
                stack,
                parents: HashMap::new(),
            }),
            images,
            log,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that a program sees; a line says what is damaged.
    fn fault(&self, state: &mut State, errno: StackError) -> Errno {
        for line in state.stack.take_faults() {
            (self.log)(&line);
        }
        match errno {
            StackError::EUCLEAN => Errno::EIO,
            errno => Errno::from_i32(errno.number().into()),
        }
    }

    fn attr(&self, inode: Ino, attr: &Attr) -> FileAttr {
        FileAttr {
            ino: INodeNo(self.nodes.number(inode)),
            size: attr.size,
            blocks: attr.blocks,
            atime: time(attr.mtime),
            mtime: time(attr.mtime),
            ctime: time(attr.mtime),
            crtime: time(attr.mtime),
            kind: kind_of(attr.mode >> 12),
            perm: (attr.mode & 0o7777) as u16,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Looks a name up; remembers where directories are.
    fn find(&self, state: &mut State, dir: Ino, name: &[u8]) -> Result<FileAttr, StackError> {
        let images = &*self.images;
        let inode = state.stack.lookup(images, dir, name)?;
        let attr = state.stack.attr(images, inode)?;
        if attr.mode >> 12 == 4 {
            state.parents.insert(inode, dir);
        }
        Ok(self.attr(inode, &attr))
    }

    /// Entries of a directory behind a cookie. `.` and `..` have the first two.
    fn entries(&self, state: &mut State, dir: Ino, cookie: u64) -> Result<Vec<Listed>, StackError> {
        let mut entries = Vec::with_capacity(BATCH);
        let own = |name: &[u8], inode, next| Listed {
            name: name.to_vec(),
            inode,
            kind: 4,
            next,
        };
        if cookie == 0 {
            entries.push(own(b".", dir, 1));
        }
        if cookie <= 1 {
            let parent = state.parents.get(&dir).copied().unwrap_or(dir);
            entries.push(own(b"..", parent, 2));
        }
        let behind = if cookie <= 2 { 0 } else { cookie };
        state
            .stack
            .read_dir(&*self.images, dir, behind, &mut |entry| {
                entries.push(Listed {
                    name: entry.name.to_vec(),
                    inode: entry.ino,
                    kind: entry.kind,
                    next: entry.next,
                });
                entries.len() < BATCH
            })?;
        Ok(entries)
    }

    /// Gives the entries behind a cookie until `add` says that there is no more room.
    fn list(
        &self,
        dir: Ino,
        mut cookie: u64,
        add: &mut dyn FnMut(&mut State, &Listed) -> bool,
    ) -> Result<(), Errno> {
        let mut state = self.lock();
        let mut given = false;
        loop {
            let entries = match self.entries(&mut state, dir, cookie) {
                Ok(entries) => entries,
                // What was read is given first; the error comes with the next request.
                Err(_) if given => return Ok(()),
                Err(errno) => return Err(self.fault(&mut state, errno)),
            };
            let Some(last) = entries.last() else {
                return Ok(());
            };
            cookie = last.next;
            for entry in &entries {
                if add(&mut state, entry) {
                    return Ok(());
                }
                given = true;
            }
        }
    }

    /// The bytes of a file: from the mapping where they are in one place, else put together in `buf`.
    fn read<'a>(
        &'a self,
        inode: Ino,
        offset: u64,
        size: usize,
        buf: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], Errno> {
        let images = &*self.images;
        let mut state = self.lock();
        let mut parts: Vec<(Source, usize)> = Vec::new();
        let mut at = offset;
        let end = offset.saturating_add(size as u64);
        while at < end {
            match state.stack.extent(images, inode, at) {
                Ok(Some(extent)) => {
                    let len = extent.len.min(end - at);
                    parts.push((extent.source, len as usize));
                    at += len;
                }
                Ok(None) => break,
                Err(errno) => return Err(self.fault(&mut state, errno)),
            }
        }
        drop(state);
        let slice = |image: ImageId, from: u64, len: usize| {
            let slice = images.image(image)?.slice()?;
            let from = usize::try_from(from).ok()?;
            slice.get(from..from.checked_add(len)?)
        };
        if let [(Source::Image { image, offset }, len)] = parts.as_slice()
            && let Some(bytes) = slice(*image, *offset, *len)
        {
            return Ok(bytes);
        }
        for (source, len) in parts {
            let start = buf.len();
            buf.resize(start + len, 0);
            if let Source::Image { image, offset } = source {
                let block = images.image(image).ok_or(Errno::EIO)?;
                block.read_at(offset, &mut buf[start..]).map_err(|_| {
                    let at = format!("image {}: {len} bytes at {offset}", image.0);
                    (self.log)(&format!(
                        "{at}: cannot be read, or are not what they should be"
                    ));
                    Errno::EIO
                })?;
            }
        }
        Ok(buf)
    }
}

fn time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(time.nsec.into());
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let base = match time.sec {
        0.. => UNIX_EPOCH.checked_add(whole),
        _ => UNIX_EPOCH.checked_sub(whole),
    };
    base.and_then(|base| base.checked_add(nanos))
        .unwrap_or(UNIX_EPOCH)
}

/// The type of a mode's upper bits, which are also `DT_` values.
fn kind_of(bits: u32) -> FileType {
    match bits & 15 {
        1 => FileType::NamedPipe,
        2 => FileType::CharDevice,
        4 => FileType::Directory,
        6 => FileType::BlockDevice,
        10 => FileType::Symlink,
        12 => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

/// Answers a request for an attribute's value or a list of names.
fn answer(reply: ReplyXattr, size: u32, bytes: &[u8]) {
    match size {
        0 => reply.size(bytes.len() as u32),
        size if bytes.len() > size as usize => reply.error(Errno::ERANGE),
        _ => reply.data(bytes),
    }
}

impl Filesystem for Tree {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_MAX_PAGES,
            InitFlags::FUSE_POSIX_ACL,
        ];
        for flag in wanted {
            // An older kernel does without.
            let _ = config.add_capabilities(flag);
        }
        // Reads are as large as writes may be.
        if let Err(most) = config.set_max_write(READ_MAX) {
            let _ = config.set_max_write(most);
        }
        if let Err(most) = config.set_max_readahead(READ_MAX) {
            let _ = config.set_max_readahead(most);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let dir = self.nodes.inode(parent.0);
        let mut state = self.lock();
        match self.find(&mut state, dir, name.as_bytes()) {
            Ok(attr) => {
                drop(state);
                reply.entry(&FOREVER, &attr, GENERATION);
            }
            Err(StackError::ENOENT) => {
                drop(state);
                // Ino 0: the kernel keeps that there is no such name.
                let mut none = self.attr(self.nodes.root, &Attr::default());
                none.ino = INodeNo(0);
                reply.entry(&FOREVER, &none, GENERATION);
            }
            Err(errno) => {
                let errno = self.fault(&mut state, errno);
                reply.error(errno);
            }
        }
    }

    // References are not counted: only merged directories have something to give back, and they are few.
    fn forget(&self, _: &Request, _: INodeNo, _: u64) {}

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let inode = self.nodes.inode(ino.0);
        let mut state = self.lock();
        match state.stack.attr(&*self.images, inode) {
            Ok(attr) => {
                drop(state);
                let mut attr = self.attr(inode, &attr);
                attr.ino = INodeNo(self.nodes.shown(inode));
                reply.attr(&FOREVER, &attr);
            }
            Err(errno) => {
                let errno = self.fault(&mut state, errno);
                reply.error(errno);
            }
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let mut state = self.lock();
        let inode = self.nodes.inode(ino.0);
        match state.stack.read_link(&*self.images, inode) {
            Ok(target) => reply.data(&target),
            Err(errno) => {
                let errno = self.fault(&mut state, errno);
                reply.error(errno);
            }
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // From then on the kernel opens and closes without asking, and keeps contents.
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The same, and it keeps lists of entries.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buf = Vec::new();
        match Tree::read(
            self,
            self.nodes.inode(ino.0),
            offset,
            size as usize,
            &mut buf,
        ) {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let dir = self.nodes.inode(ino.0);
        let listed = self.list(dir, offset, &mut |_, entry| {
            let number = INodeNo(self.nodes.shown(entry.inode));
            let kind = kind_of(entry.kind.into());
            reply.add(number, entry.next, kind, OsStr::from_bytes(&entry.name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let dir = self.nodes.inode(ino.0);
        let listed = self.list(dir, offset, &mut |state, entry| {
            let name = OsStr::from_bytes(&entry.name);
            let found = match entry.name.as_slice() {
                // The kernel looks at the numbers of these only, and shows them.
                b"." | b".." => {
                    let dir = Attr {
                        mode: 0o040755,
                        ..Attr::default()
                    };
                    let mut attr = self.attr(entry.inode, &dir);
                    attr.ino = INodeNo(self.nodes.shown(entry.inode));
                    Ok(attr)
                }
                name if entry.kind == 4 => self.find(state, dir, name),
                _ => state
                    .stack
                    .attr(&*self.images, entry.inode)
                    .map(|attr| self.attr(entry.inode, &attr)),
            };
            let attr = match found {
                Ok(attr) => attr,
                Err(errno) => {
                    // The name is there. The kernel must not keep anything of the rest: it would take it for
                    // an empty file.
                    let _ = self.fault(state, errno);
                    let mut none = self.attr(entry.inode, &Attr::default());
                    none.kind = kind_of(entry.kind.into());
                    return reply.add(none.ino, entry.next, name, &NEVER, &none, GENERATION);
                }
            };
            reply.add(attr.ino, entry.next, name, &FOREVER, &attr, GENERATION)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let mut number = 0;
        let mut bytes = 0;
        while let Some(block) = self.images.image(ImageId(number)) {
            bytes += block.len();
            number += 1;
        }
        reply.statfs(bytes.div_ceil(4096), 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let inode = self.nodes.inode(ino.0);
        let mut state = self.lock();
        match state.stack.xattr(&*self.images, inode, name.as_bytes()) {
            Ok(value) => answer(reply, size, &value),
            Err(errno) => {
                let errno = self.fault(&mut state, errno);
                reply.error(errno);
            }
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let inode = self.nodes.inode(ino.0);
        let mut state = self.lock();
        match state.stack.list_xattr(&*self.images, inode) {
            Ok(names) => {
                let mut list = Vec::new();
                for name in names {
                    list.extend_from_slice(&name);
                    list.push(0);
                }
                answer(reply, size, &list);
            }
            Err(errno) => {
                let errno = self.fault(&mut state, errno);
                reply.error(errno);
            }
        }
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (Ok(offset), SEEK_DATA | SEEK_HOLE) = (u64::try_from(offset), whence) else {
            return reply.error(Errno::EINVAL);
        };
        let inode = self.nodes.inode(ino.0);
        let mut state = self.lock();
        let found = state
            .stack
            .seek(&*self.images, inode, offset, whence == SEEK_DATA);
        match found {
            // Below 2^63, as sizes are.
            Ok(at) => reply.offset(at as i64),
            Err(errno) => {
                let errno = self.fault(&mut state, errno);
                reply.error(errno);
            }
        }
    }
}
