//! The union as anybody would write it: everything merged beforehand into one tree of plain inodes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::tree::MemTree;
use crate::abi::Errno;
use crate::abi::raw::general::{S_IFCHR, S_IFDIR, S_IFMT, S_IFREG};
use crate::args::RenameFlags;

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub rdev: u32,
    /// Of a directory: `None` if it is merged, 0 if it was removed.
    pub nlink: Option<u32>,
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub children: BTreeMap<Vec<u8>, usize>,
}

impl Inode {
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }
}

/// All inodes by number; the root is number 0.
#[derive(Clone, Debug)]
pub struct Model {
    pub inodes: Vec<Inode>,
}

impl Model {
    pub fn new(tree: &MemTree) -> Model {
        let mut model = Model { inodes: Vec::new() };
        let mut known = BTreeMap::new();
        let parts: Vec<usize> = tree.roots.iter().rev().copied().collect();
        match parts.is_empty() {
            true => drop(model.add(S_IFDIR | 0o755)),
            false => drop(model.merge(tree, &parts, &mut known)),
        }
        model
    }

    fn add(&mut self, mode: u32) -> usize {
        self.inodes.push(Inode {
            mode,
            uid: 0,
            rdev: 0,
            nlink: match mode & S_IFMT {
                S_IFDIR => None,
                _ => Some(1),
            },
            data: Vec::new(),
            xattrs: BTreeMap::new(),
            children: BTreeMap::new(),
        });
        self.inodes.len() - 1
    }

    fn merge(
        &mut self,
        tree: &MemTree,
        parts: &[usize],
        known: &mut BTreeMap<usize, usize>,
    ) -> usize {
        if let Some(&id) = known.get(&parts[0]) {
            return id;
        }
        let top = &tree.files[parts[0]];
        let id = self.add(top.mode);
        known.insert(parts[0], id);
        let inode = &mut self.inodes[id];
        (inode.uid, inode.rdev, inode.data) = (top.uid, top.rdev, top.data.clone());
        inode.xattrs = top.xattrs.clone();
        inode
            .xattrs
            .retain(|name, _| !name.starts_with(b"trusted.overlay."));
        if !inode.is_dir() {
            inode.nlink = Some(top.nlink);
            return id;
        }
        let names = parts
            .iter()
            .flat_map(|&part| tree.files[part].children.keys());
        let names: alloc::collections::BTreeSet<_> = names.collect();
        for name in names {
            let mut chain = Vec::new();
            for &part in parts {
                let Some(&child) = tree.files[part].children.get(name) else {
                    continue;
                };
                let file = &tree.files[child];
                let is_dir = file.kind() == S_IFDIR;
                if file.is_whiteout() || !is_dir && !chain.is_empty() {
                    break;
                }
                chain.push(child);
                if !is_dir || file.is_opaque() {
                    break;
                }
            }
            if !chain.is_empty() {
                let child = self.merge(tree, &chain, known);
                self.inodes[id].children.insert(name.clone(), child);
            }
        }
        id
    }

    pub fn find(&self, dir: usize, name: &[u8]) -> Option<usize> {
        self.inodes[dir].children.get(name).copied()
    }

    fn alive(&self, dir: usize) -> Result<(), Errno> {
        match self.inodes[dir].nlink {
            Some(0) => Err(Errno::ENOENT),
            _ => Ok(()),
        }
    }

    pub fn create(
        &mut self,
        dir: usize,
        name: &[u8],
        mode: u32,
        data: &[u8],
    ) -> Result<usize, Errno> {
        if self.find(dir, name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.alive(dir)?;
        let id = self.add(mode);
        self.inodes[id].data = data.to_vec();
        self.inodes[dir].children.insert(name.to_vec(), id);
        Ok(id)
    }

    pub fn create_unnamed(&mut self) -> usize {
        let id = self.add(S_IFREG | 0o600);
        self.inodes[id].nlink = Some(0);
        id
    }

    pub fn link(&mut self, id: usize, dir: usize, name: &[u8], fresh: bool) -> Result<(), Errno> {
        if self.find(dir, name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.alive(dir)?;
        let inode = &mut self.inodes[id];
        match (inode.is_dir(), inode.nlink) {
            (true, _) => return Err(Errno::EPERM),
            (_, Some(0)) if !fresh => return Err(Errno::ENOENT),
            (_, nlink) => inode.nlink = nlink.map(|n| n + 1),
        }
        self.inodes[dir].children.insert(name.to_vec(), id);
        Ok(())
    }

    fn drop_link(&mut self, id: usize) {
        let inode = &mut self.inodes[id];
        inode.nlink = match inode.nlink {
            None => Some(0),
            Some(n) => Some(n - 1),
        };
    }

    pub fn remove(&mut self, dir: usize, name: &[u8], want_dir: bool) -> Result<(), Errno> {
        let id = self.find(dir, name).ok_or(Errno::ENOENT)?;
        match (self.inodes[id].is_dir(), want_dir) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (true, true) if !self.inodes[id].children.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.inodes[dir].children.remove(name);
        self.drop_link(id);
        Ok(())
    }

    /// Whether `dir` is `id` or somewhere below it.
    pub fn is_below(&self, dir: usize, id: usize) -> bool {
        let below = |&child: &usize| self.inodes[child].is_dir() && self.is_below(dir, child);
        dir == id || self.inodes[id].children.values().any(below)
    }

    pub fn rename(
        &mut self,
        from: (usize, &[u8]),
        to: (usize, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if exchange && flags != RenameFlags::EXCHANGE {
            return Err(Errno::EINVAL);
        }
        let source = self.find(from.0, from.1).ok_or(Errno::ENOENT)?;
        let target = self.find(to.0, to.1);
        match target {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(target) if target == source => return Ok(()),
            _ => {}
        }
        if let (Some(target), false) = (target, exchange) {
            let (a, b) = (&self.inodes[source], &self.inodes[target]);
            match (a.is_dir(), b.is_dir()) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !b.children.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        self.alive(from.0)?;
        self.alive(to.0)?;
        self.inodes[from.0].children.remove(from.1);
        match target {
            Some(target) if exchange => {
                self.inodes[from.0].children.insert(from.1.to_vec(), target);
            }
            Some(target) => self.drop_link(target),
            None => {}
        }
        if flags.contains(RenameFlags::WHITEOUT) {
            let id = self.add(S_IFCHR);
            self.inodes[from.0].children.insert(from.1.to_vec(), id);
        }
        self.inodes[to.0].children.insert(to.1.to_vec(), source);
        Ok(())
    }
}
