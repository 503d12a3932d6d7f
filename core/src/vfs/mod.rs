//! The virtual file system: file systems and their inodes, dentries, mounts, open file descriptions, descriptor tables.
//!
//! Layers of this module, each knowing only those below it:
//! `open`, `names` (operations on paths) -> `walk` (paths) -> `dentry`, `mount` -> `inode` (dispatch) -> `filesystem` (inodes by number)
//! -> `union`, `proc`, `sysfs`, `anon`. Beside them: `file` (open file descriptions), `rw` (their data), `ready` (what they are ready for), `pipe`, `socket`, `mqueue`, `device`, `lock`,
//! `fdtable`, and the files that are events: `eventfd`, `timerfd`, `signalfd`, `pidfd`, `epoll`, `inotify`; `aio` are requests on any of them.

pub(crate) mod aio;
pub(crate) mod anon;
pub(crate) mod boot;
pub(crate) mod caller;
pub(crate) mod check;
pub(crate) mod dentry;
pub(crate) mod device;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod fdtable;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod inode;
pub(crate) mod inotify;
mod iov;
pub(crate) mod lock;
pub(crate) mod mount;
pub(crate) mod mqueue;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod perm;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod proc;
pub(crate) mod ready;
pub(crate) mod rw;
pub(crate) mod seal;
pub(crate) mod signalfd;
pub(crate) mod slab;
pub(crate) mod socket;
pub(crate) mod sysfs;
pub(crate) mod timerfd;
pub(crate) mod union;
pub(crate) mod walk;

use alloc::vec;
use alloc::vec::Vec;

pub(crate) use dentry::DentryId;
pub(crate) use fdtable::{FdTable, FdTableId, FsContext, FsContextId};
pub(crate) use file::{File, FileId, FileKind};
pub(crate) use filesystem::{FsId, InodeRef};
pub(crate) use mount::{MountId, PathRef};

use crate::mm::Frames;
use crate::ns::{NsId, USER};
use crate::task::timer::TimerKey;
use filesystem::Filesystem;
use slab::Slab;

/// A file system, the user namespace that it belongs to, and how many mounts it has.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Slot {
    pub fs: Filesystem,
    owner: NsId,
    mounts: u32,
}

/// All of the virtual file system's state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Vfs {
    pub(super) filesystems: Vec<Slot>,
    /// Places of file systems that have gone.
    free_filesystems: Vec<u32>,
    /// Bytes of the inodes and names that unions hold in memory, all together.
    heap: u64,
    pub dentries: dentry::Dentries,
    pub mounts: mount::Mounts,
    pub(super) files: Slab<File>,
    pub pipes: pipe::Pipes,
    pub sockets: socket::Sockets,
    pub mqueues: mqueue::Queues,
    pub(super) locks: lock::Locks,
    pub(super) aio: aio::Aio,
    pub(super) watches: epoll::Watches,
    pub(super) watched: inotify::Watched,
    pub seals: seal::Seals,
    pub(super) tables: Slab<FdTable>,
    pub(super) contexts: Slab<FsContext>,
    /// `struct termios` of the terminal, once a program has set it.
    pub termios: Option<[u8; 36]>,
    /// Foreground process group of the terminal, once a program has set it.
    pub foreground: Option<u32>,
}

impl Vfs {
    pub(crate) fn new() -> Vfs {
        let mut vfs = Vfs {
            filesystems: vec![Slot {
                fs: Filesystem::Anon,
                owner: USER,
                mounts: 1,
            }],
            free_filesystems: Vec::new(),
            heap: 0,
            dentries: dentry::Dentries::new(),
            mounts: mount::Mounts::new(),
            files: Slab::new(),
            pipes: pipe::Pipes::new(),
            sockets: socket::Sockets::default(),
            mqueues: mqueue::Queues::default(),
            locks: lock::Locks::new(),
            aio: aio::Aio::default(),
            watches: epoll::Watches::default(),
            watched: inotify::Watched::default(),
            seals: seal::Seals::default(),
            tables: Slab::new(),
            contexts: Slab::new(),
            termios: None,
            foreground: None,
        };
        let attr = filesystem::Attr {
            mode: crate::abi::raw::general::S_IFDIR | 0o555,
            ..filesystem::Attr::default()
        };
        let root = vfs.dentries.new_root(anon::FS, anon::ROOT, &attr);
        vfs.mounts.add_internal(anon::FS, root);
        vfs
    }

    /// Bytes that the kernel holds for files and their names, about: inodes and names of unions, dentries and open files.
    pub(crate) fn held(&self) -> u64 {
        const DENTRY_COST: u64 = 256;
        const FILE_COST: u64 = 512;
        let dentries = self.dentries.len() as u64 * DENTRY_COST;
        self.heap + dentries + self.files.len() as u64 * FILE_COST
    }

    /// Whether the inodes and names of unions are counted rightly; for invariant checks.
    pub(crate) fn is_counted(&self) -> bool {
        let unions = self.filesystems.iter().map(|slot| match &slot.fs {
            Filesystem::Union(union) => union.heap(),
            _ => 0,
        });
        unions.sum::<u64>() == self.heap
    }

    /// Adds a file system that belongs to the first user namespace; it is mounted with [`mount::make`].
    pub(crate) fn add_filesystem(&mut self, fs: Filesystem) -> FsId {
        self.add_filesystem_of(fs, USER)
    }

    /// Adds a file system that a user namespace owns.
    pub(crate) fn add_filesystem_of(&mut self, fs: Filesystem, owner: NsId) -> FsId {
        if let Filesystem::Union(union) = &fs {
            self.heap += union.heap();
        }
        let slot = Slot {
            fs,
            owner,
            mounts: 0,
        };
        match self.free_filesystems.pop() {
            Some(id) => {
                self.filesystems[id as usize] = slot;
                FsId(id)
            }
            None => {
                self.filesystems.push(slot);
                FsId(self.filesystems.len() as u32 - 1)
            }
        }
    }

    /// Counts the mounts of a file system up or down; gives their number.
    pub(super) fn filesystem_mounted(&mut self, id: FsId, by: i32) -> u32 {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: a mounted file system is there
        slot.mounts = slot.mounts.saturating_add_signed(by);
        slot.mounts
    }

    /// Takes away a file system without mounts, and gives its frames back.
    pub(crate) fn remove_filesystem(&mut self, id: FsId, frames: &mut Frames) {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: the caller has just let go of it
        if let Filesystem::Union(union) = &mut slot.fs {
            self.heap -= union.heap();
            union.release(frames);
        }
        slot.fs = Filesystem::Gone;
        slot.owner = USER;
        self.free_filesystems.push(id.0);
    }

    /// The user namespace that a file system belongs to.
    pub(crate) fn filesystem_owner(&self, id: FsId) -> NsId {
        self.filesystems[id.0 as usize].owner // INVARIANT: a mounted file system is there
    }

    /// The user namespaces that file systems belong to.
    pub(crate) fn filesystem_owners(&self) -> impl Iterator<Item = NsId> + '_ {
        self.filesystems.iter().map(|slot| slot.owner)
    }

    pub(crate) fn filesystem(&self, id: FsId) -> &Filesystem {
        &self.filesystems[id.0 as usize].fs // INVARIANT: a mounted file system is there
    }

    pub(crate) fn filesystem_mut(&mut self, id: FsId) -> &mut Filesystem {
        &mut self.filesystems[id.0 as usize].fs // INVARIANT: a mounted file system is there
    }

    /// An open file description.
    pub(crate) fn file(&self, id: FileId) -> Option<&File> {
        self.files.get(id.0)
    }

    /// Whether a file is open for writing through one of these mounts.
    pub(crate) fn is_written(&self, through: impl Fn(MountId) -> bool) -> bool {
        let writes = |file: &File| file.writable() && file.kind == FileKind::Regular;
        let mut files = self.files.iter();
        files.any(|(_, file)| writes(file) && through(file.path.mount))
    }

    /// How many files are open.
    pub(crate) fn open_files(&self) -> usize {
        self.files.len()
    }

    /// What the timers that are files are armed for; for invariant checks.
    pub(crate) fn armed_timers(&self) -> impl Iterator<Item = (u64, TimerKey)> + '_ {
        self.files.iter().filter_map(|(id, file)| match &file.kind {
            FileKind::TimerFd(timer) if !timer.expired => {
                Some((timer.at?, TimerKey::File(FileId(id))))
            }
            _ => None,
        })
    }

    /// A descriptor table by id.
    pub(crate) fn fd_table(&self, id: FdTableId) -> &FdTable {
        self.tables.get(id.0).expect("table is in use") // INVARIANT: a task holds its table
    }

    /// A descriptor table by id.
    pub(crate) fn fd_table_mut(&mut self, id: FdTableId) -> &mut FdTable {
        self.tables.get_mut(id.0).expect("table is in use") // INVARIANT: a task holds its table
    }

    /// Root, working directory and umask by id.
    pub(crate) fn fs_context(&self, id: FsContextId) -> &FsContext {
        self.contexts.get(id.0).expect("context is in use") // INVARIANT: a task holds its context
    }

    /// Root, working directory and umask by id.
    pub(crate) fn fs_context_mut(&mut self, id: FsContextId) -> &mut FsContext {
        self.contexts.get_mut(id.0).expect("context is in use") // INVARIANT: a task holds its context
    }
}
