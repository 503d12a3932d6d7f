//! File systems: the contract of one, operations on inodes, trees of layers with memory on top, and the files
//! without a name; and the frames of the memory file, in which their pages are.

pub(crate) mod acl;
pub(crate) mod anon;
pub(crate) mod filesystem;
pub(crate) mod flags;
pub(crate) mod frames;
pub(crate) mod inode;
pub(crate) mod runs;
pub(crate) mod seal;
pub(crate) mod union;
pub(crate) mod view;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use acl::Acls;
use filesystem::{Filesystem, InodeOps, of_fs};
pub(crate) use frames::Frames;
use seal::Seals;

use crate::cred::Base;
use crate::cred::ns::{NsId, USER};
pub(crate) use crate::env::ids::{FsId, InodeRef};

/// A file system, the user namespace that it belongs to, and how many mounts it has.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Slot {
    pub fs: Filesystem,
    pub owner: NsId,
    /// No other file system has had it.
    pub number: u64,
    pub mounts: u32,
    /// Regular files that are open for writing through them.
    pub writers: u32,
}

/// All file systems and the frames of the memory file, in which their pages are.
#[derive(Clone, Debug, Hash)]
pub struct FileSystems {
    pub(crate) base: Base,
    pub(crate) frames: Frames,
    pub(crate) filesystems: Vec<Slot>,
    /// Places of file systems that have gone.
    free_filesystems: Vec<u32>,
    /// How many file systems there have been beside the first.
    made_filesystems: u64,
    /// How many of them belong to each user namespace.
    owners: BTreeMap<NsId, u32>,
    /// Bytes of the inodes and names that unions hold in memory, all together.
    pub(crate) heap: u64,
    pub(crate) acls: Acls,
    pub(crate) seals: Seals,
    pub(crate) objects: anon::Objects,
    /// Pages that are no longer where they were, in order. Memory management looks here before it looks at
    /// any page ([`follow_files`](crate::mm::follow_files)).
    pub(crate) displaced: Vec<Displaced>,
}

/// Pages of a file that have gone elsewhere.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Displaced {
    pub inode: InodeRef,
    /// The first page.
    pub first: u64,
    /// How many moved; `None`: the file was cut, these pages and all behind have gone, and private copies of
    /// them with them.
    pub count: Option<u64>,
}

impl Deref for FileSystems {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

impl DerefMut for FileSystems {
    fn deref_mut(&mut self) -> &mut Base {
        &mut self.base
    }
}

impl FileSystems {
    /// None but that of files without a name.
    pub(crate) fn new(base: Base, frames: Frames) -> FileSystems {
        FileSystems {
            base,
            frames,
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
            acls: Acls::default(),
            seals: Seals::default(),
            objects: anon::Objects::default(),
            displaced: Vec::new(),
        }
    }

    /// For tests of a floor without a kernel round it: so many frames, at the start of time.
    #[cfg(test)]
    pub(crate) fn alone(frames: u32) -> FileSystems {
        let base = Base {
            env: crate::env::Env::alone(),
            ns: crate::cred::ns::Namespaces::new(b"alone".to_vec()),
            landlock: crate::cred::landlock::Landlock::default(),
        };
        FileSystems::new(base, Frames::new(frames, None))
    }

    /// What the kernel holds for file systems, by kind, in bytes.
    #[inline]
    pub(crate) fn held(&self) -> [(&'static str, u64); 2] {
        const FILESYSTEM_COST: u64 = 2560;
        let filesystems = self.filesystems.len() - self.free_filesystems.len();
        [
            ("inodes and names of files in memory", self.heap),
            ("file systems", filesystems as u64 * FILESYSTEM_COST),
        ]
    }

    /// Whether what is counted for [`held`](Self::held) is what is there; for invariant checks.
    pub(crate) fn is_counted(&self) -> bool {
        let heaps = self.filesystems.iter();
        let heaps = heaps.map(|slot| of_fs!(&slot.fs, heap()));
        heaps.sum::<u64>() == self.heap
    }

    /// Adds a file system that belongs to the first user namespace; it is mounted with
    /// [`make`](crate::vfs::mount::make).
    pub(crate) fn add_filesystem(&mut self, fs: Filesystem) -> FsId {
        self.add_filesystem_of(fs, USER)
    }

    /// Adds a file system that a user namespace owns.
    pub(crate) fn add_filesystem_of(&mut self, fs: Filesystem, owner: NsId) -> FsId {
        self.heap += of_fs!(&fs, heap());
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
    pub(crate) fn disown_filesystem(&mut self, id: FsId) -> NsId {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: the caller has just let go of it
        let owner = core::mem::replace(&mut slot.owner, USER);
        self.count_owner(owner, USER);
        owner
    }

    /// A file system that belonged to one user namespace belongs to another one.
    pub(crate) fn count_owner(&mut self, from: NsId, to: NsId) {
        *self.owners.entry(to).or_default() += 1;
        if let Some(count) = self.owners.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&from);
            }
        }
    }

    /// Takes apart what a file system without mounts holds; `false` if nothing is left.
    pub(crate) fn release_some(&mut self, id: FsId) -> bool {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: the caller has just let go of it
        let before = of_fs!(&slot.fs, heap());
        let steps = &mut self.base.env.steps;
        let more = of_fs!(&mut slot.fs, release_some(&mut self.frames, steps));
        self.heap = self.heap + of_fs!(&slot.fs, heap()) - before;
        more
    }

    /// Takes away a file system without mounts that holds nothing any more, or was never mounted.
    pub(crate) fn remove_filesystem(&mut self, id: FsId) {
        let slot = &mut self.filesystems[id.0 as usize]; // INVARIANT: the caller has just let go of it
        self.heap -= of_fs!(&slot.fs, heap());
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

    /// The same for all mounts of a file system.
    pub(crate) fn writers_of(&self, fs: FsId) -> u32 {
        let slot = self.filesystems.get(fs.0 as usize);
        slot.map_or(0, |slot| slot.writers)
    }
}
