//! The virtual file system: dentries, mounts, walking, names, opening and permission.
//!
//! Layers of this module, each knowing only those below it:
//! `open`, `names` (operations on paths) -> `walk` (paths) -> `dentry`, `mount`. Below it are file systems
//! ([`fs`](crate::fs)), above it open files ([`file`](crate::file)).

pub(crate) mod boot;
pub(crate) mod caller;
pub(crate) mod check;
pub(crate) mod dentry;
pub(crate) mod landlock;
pub(crate) mod mount;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod perm;
pub(crate) mod walk;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

pub(crate) use dentry::DentryId;
pub(crate) use mount::{MountId, PathRef};

use crate::file::{
    FdTable, FdTableId, File, FileId, FileKind, FsContext, FsContextId, aio, dnotify, epoll,
    fasync, fdtable, inotify, lease, lock, pipe, writers,
};
use crate::fs::filesystem::Filesystem;
use crate::fs::{FsId, acl, anon, filesystem, seal};
use crate::ipc::mqueue;
use crate::kernel::steps::Steps;
use crate::mm::Frames;
use crate::net::socket;
use crate::ns::{NsId, USER};
use crate::slab::Slab;
use crate::task::landlock::RulesetId;
use crate::task::timer::TimerKey;

/// A file system, the user namespace that it belongs to, and how many mounts it has.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Slot {
    pub fs: Filesystem,
    owner: NsId,
    /// No other file system has had it.
    number: u64,
    mounts: u32,
    /// Regular files that are open for writing through them.
    writers: u32,
}

/// All of the virtual file system's state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Vfs {
    pub(crate) filesystems: Vec<Slot>,
    /// Places of file systems that have gone.
    pub(crate) free_filesystems: Vec<u32>,
    /// How many file systems there have been beside the first.
    pub(crate) made_filesystems: u64,
    /// How many of them belong to each user namespace.
    pub(crate) owners: BTreeMap<NsId, u32>,
    /// Bytes of the inodes and names that unions hold in memory, all together.
    pub(crate) heap: u64,
    pub(crate) acls: acl::Acls,
    pub dentries: dentry::Dentries,
    pub mounts: mount::Mounts,
    pub configs: mount::config::Configs,
    pub(crate) files: Slab<File>,
    /// Files that are closed and have not let go of everything.
    pub(crate) closing: VecDeque<FileId>,
    pub pipes: pipe::Pipes,
    pub sockets: socket::Sockets,
    pub mqueues: mqueue::Queues,
    pub(crate) locks: lock::Locks,
    pub(crate) aio: aio::Aio,
    pub(crate) watches: epoll::Watches,
    pub(crate) watched: inotify::Watched,
    /// Directories that signals are sent for.
    pub(crate) notices: dnotify::Notices,
    pub(crate) leases: lease::Leases,
    pub(crate) asyncs: fasync::Asyncs,
    pub seals: seal::Seals,
    pub writers: writers::Writers,
    /// Walks of paths that go on at a later input.
    pub(crate) walks: walk::Paused,
    pub(crate) ways_up: walk::WaysUp,
    pub(crate) tables: Slab<FdTable>,
    /// Tables that are being copied or closed.
    pub(crate) partial: fdtable::Partial,
    /// Chunks of all descriptor tables.
    pub(crate) fd_chunks: u64,
    /// Bytes of the contents that open files of `proc` and `sysfs` keep.
    pub(crate) contents: u64,
    pub(crate) contexts: Slab<FsContext>,
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
                number: 0,
                mounts: 1,
                writers: 0,
            }],
            free_filesystems: Vec::new(),
            made_filesystems: 0,
            owners: BTreeMap::new(),
            heap: 0,
            acls: acl::Acls::default(),
            dentries: dentry::Dentries::new(),
            mounts: mount::Mounts::new(),
            configs: mount::config::Configs::default(),
            files: Slab::new(),
            closing: VecDeque::new(),
            pipes: pipe::Pipes::new(),
            sockets: socket::Sockets::default(),
            mqueues: mqueue::Queues::default(),
            locks: lock::Locks::new(),
            aio: aio::Aio::default(),
            watches: epoll::Watches::default(),
            watched: inotify::Watched::default(),
            notices: dnotify::Notices::default(),
            leases: lease::Leases::default(),
            asyncs: fasync::Asyncs::default(),
            seals: seal::Seals::default(),
            writers: writers::Writers::default(),
            walks: walk::Paused::default(),
            ways_up: walk::WaysUp::default(),
            tables: Slab::new(),
            partial: fdtable::Partial::default(),
            fd_chunks: 0,
            contents: 0,
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

    /// What the kernel holds for files, by kind, in bytes.
    #[inline]
    pub(crate) fn held(&self) -> [(&'static str, u64); 17] {
        const DENTRY_COST: u64 = 288;
        const FILE_COST: u64 = 512;
        const TABLE_COST: u64 = 64;
        const CONTEXT_COST: u64 = 64;
        const FILESYSTEM_COST: u64 = 2560;
        let filesystems = self.filesystems.len() - self.free_filesystems.len();
        let times = |count: usize, cost: u64| count as u64 * cost;
        [
            ("inodes and names of files in memory", self.heap),
            (
                "dentries",
                times(self.dentries.len(), DENTRY_COST) + self.dentries.name_bytes(),
            ),
            (
                "open files",
                times(self.files.len(), FILE_COST) + self.writers.held() + self.leases.held(),
            ),
            (
                "descriptor tables",
                times(self.tables.len(), TABLE_COST) + self.fd_chunks * fdtable::CHUNK_COST,
            ),
            (
                "roots and working directories",
                times(self.contexts.len(), CONTEXT_COST),
            ),
            ("contents of files of proc and sysfs", self.contents),
            ("file systems", times(filesystems, FILESYSTEM_COST)),
            ("mounts", self.mounts.held()),
            ("configurations of file systems", self.configs.held()),
            ("epoll items", self.watches.held()),
            (
                "inotify watches and events",
                self.watched.held() + self.notices.held(),
            ),
            ("file locks", self.locks.held()),
            ("asynchronous requests", self.aio.held()),
            ("pipes", self.pipes.held()),
            ("POSIX message queues", self.mqueues.objects()),
            ("sockets", self.sockets.held()),
            ("files in messages", self.sockets.in_flight.held()),
        ]
    }

    /// Whether what is counted for [`held`](Self::held) is what is there; for invariant checks.
    pub(crate) fn is_counted(&self) -> bool {
        let unions = self.filesystems.iter().map(|slot| match &slot.fs {
            Filesystem::Union(union) => union.heap(),
            _ => 0,
        });
        let chunks = self.tables.iter().map(|(_, table)| table.chunks());
        let contents = self.files.iter().map(|(_, file)| file.content_bytes());
        let configs = self.files.iter().map(|(_, file)| match &file.kind {
            FileKind::Config(config) => config.bytes(),
            _ => 0,
        });
        unions.sum::<u64>() == self.heap
            && chunks.sum::<u64>() == self.fd_chunks
            && contents.sum::<u64>() == self.contents
            && self.mounts.is_counted()
            && configs.sum::<u64>() == self.configs.held()
            && inotify::is_counted(self)
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
        *self.owners.entry(owner).or_default() += 1;
        self.made_filesystems += 1;
        let slot = Slot {
            fs,
            owner,
            number: self.made_filesystems,
            mounts: 0,
            writers: 0,
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
    pub(crate) fn filesystem_mounted(&mut self, id: FsId, by: i32) -> u32 {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: a mounted file system is there
        slot.mounts = slot.mounts.saturating_add_signed(by);
        slot.mounts
    }

    /// A file system has no mounts any more: it belongs to nobody.
    fn disown_filesystem(&mut self, id: FsId) -> NsId {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: the caller has just let go of it
        let owner = core::mem::replace(&mut slot.owner, USER);
        self.count_owner(owner, USER);
        owner
    }

    /// A file system that belonged to one user namespace belongs to another one.
    fn count_owner(&mut self, from: NsId, to: NsId) {
        *self.owners.entry(to).or_default() += 1;
        if let Some(count) = self.owners.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&from);
            }
        }
    }

    /// Takes apart what a file system without mounts holds; `false` if nothing is left.
    fn release_some(&mut self, id: FsId, frames: &mut Frames, steps: &mut Steps) -> bool {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: the caller has just let go of it
        let Filesystem::Union(union) = &mut slot.fs else {
            return false;
        };
        let before = union.heap();
        let more = union.release_some(frames, steps);
        self.heap = self.heap + union.heap() - before;
        more
    }

    /// Takes away a file system without mounts that holds nothing any more, or was never mounted.
    pub(crate) fn remove_filesystem(&mut self, id: FsId) {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: the caller has just let go of it
        if let Filesystem::Union(union) = &slot.fs {
            self.heap -= union.heap();
        }
        slot.fs = Filesystem::Gone;
        if let Some(count) = self.owners.get_mut(&slot.owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&slot.owner);
            }
        }
        slot.owner = USER;
        self.free_filesystems.push(id.0);
    }

    /// The user namespace that a file system belongs to.
    pub(crate) fn filesystem_owner(&self, id: FsId) -> NsId {
        self.filesystems[id.0 as usize].owner // INVARIANT: a mounted file system is there
    }

    /// A number of a file system that no other one has had.
    pub(crate) fn filesystem_number(&self, id: FsId) -> u64 {
        self.filesystems[id.0 as usize].number // INVARIANT: a mounted file system is there
    }

    /// Whether file systems belong to a user namespace.
    pub(crate) fn owns_filesystem(&self, ns: NsId) -> bool {
        self.owners.contains_key(&ns)
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

    /// How many regular files are open for writing through a mount.
    pub(crate) fn writers_through(&self, mount: MountId) -> u32 {
        self.mounts.at(mount).writers
    }

    /// The same for all mounts of a file system.
    pub(crate) fn writers_of(&self, fs: FsId) -> u32 {
        let slot = self.filesystems.get(fs.0 as usize);
        slot.map_or(0, |slot| slot.writers)
    }

    /// Counts the regular files that are open for writing up or down, if a file is one.
    pub(crate) fn count_writer(&mut self, file: &File, by: i32) {
        if !file.is_written_to() {
            return;
        }
        let mount = self.mounts.at_mut(file.path.mount);
        mount.writers = mount.writers.saturating_add_signed(by);
        if let Some(slot) = self.filesystems.get_mut(mount.fs.0 as usize) {
            slot.writers = slot.writers.saturating_add_signed(by);
        }
    }

    /// The rulesets of landlock(7) that files are, for invariant checks.
    pub(crate) fn rulesets(&self) -> impl Iterator<Item = RulesetId> + '_ {
        self.files.iter().filter_map(|(_, file)| match file.kind {
            FileKind::Landlock(ruleset) => Some(ruleset),
            _ => None,
        })
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
