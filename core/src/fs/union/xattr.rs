//! Extended attributes (xattr(7)): those of the lower inode until one is changed, then a copy.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::UnionFs;
use crate::abi::Errno;
use crate::args::XattrFlags;
use crate::cred::file_caps;
use crate::fs::filesystem::{FsCx, Ino, Time};

/// Most bytes of all attributes of an inode, and of one value (`XATTR_SIZE_MAX`).
const MAX_XATTRS: u64 = 64 << 10;

/// What an attribute counts for.
pub(super) fn heap(name: &[u8], value: &[u8]) -> u64 {
    64 + name.len() as u64 + value.len() as u64
}

impl UnionFs {
    pub(super) fn xattr(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        let own = self.nodes.get(&ino).and_then(|node| node.xattrs.as_ref());
        match own {
            Some(xattrs) => xattrs.get(name).cloned().ok_or(Errno::ENODATA),
            None => self.layers.xattr(&mut cx.ports.layers(), ino, name),
        }
    }

    pub(super) fn xattr_names(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
    ) -> Result<Vec<Vec<u8>>, Errno> {
        let own = self.nodes.get(&ino).and_then(|node| node.xattrs.as_ref());
        match own {
            Some(xattrs) => Ok(xattrs.keys().cloned().collect()),
            None => self.layers.xattr_names(&mut cx.ports.layers(), ino),
        }
    }

    pub(super) fn xattr_set(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), Errno> {
        let exists = match self.xattr(cx, ino, name) {
            Ok(_) => true,
            Err(Errno::ENODATA) => false,
            Err(errno) => return Err(errno),
        };
        match flags {
            XattrFlags::CREATE if exists => return Err(Errno::EEXIST),
            XattrFlags::REPLACE if !exists => return Err(Errno::ENODATA),
            _ => {}
        }
        let xattrs = self.own_xattrs(cx, ino)?;
        let rest = xattrs.iter().filter(|(key, _)| key.as_slice() != name);
        let total: u64 = rest.map(|(key, value)| heap(key, value)).sum();
        let cost = heap(name, value);
        if total + cost > MAX_XATTRS + heap(name, &[]) {
            return Err(Errno::ENOSPC);
        }
        self.charge(cost)?;
        let now = Time::from_nanos(cx.now.real);
        let node = self.copy_up(cx, ino)?;
        node.ctime = now;
        let old = node
            .xattrs
            .get_or_insert_default()
            .insert(name.to_vec(), value.to_vec());
        if let Some(old) = old {
            self.uncharge(heap(name, &old));
        }
        Ok(())
    }

    pub(super) fn xattr_remove(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        name: &[u8],
    ) -> Result<(), Errno> {
        self.xattr(cx, ino, name)?;
        self.own_xattrs(cx, ino)?;
        let now = Time::from_nanos(cx.now.real);
        let node = self.copy_up(cx, ino)?;
        node.ctime = now;
        let old = node.xattrs.as_mut().and_then(|xattrs| xattrs.remove(name));
        if let Some(old) = old {
            self.uncharge(heap(name, &old));
        }
        Ok(())
    }

    /// Takes the capabilities of a file away (`security.capability`), if it has any.
    pub(super) fn drop_capabilities(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
    ) -> Result<(), Errno> {
        // Once they are in the node, the next write finds out quickly.
        self.own_xattrs(cx, ino)?;
        let node = self.copy_up(cx, ino)?;
        let old = node
            .xattrs
            .as_mut()
            .and_then(|xattrs| xattrs.remove(file_caps::NAME));
        if let Some(old) = old {
            self.uncharge(heap(file_caps::NAME, &old));
        }
        Ok(())
    }

    /// The attributes of an inode in its node.
    fn own_xattrs(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
    ) -> Result<&BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        if self.copy_up(cx, ino)?.xattrs.is_none() {
            let mut xattrs = BTreeMap::new();
            let mut cost = 0;
            if ino.is_lower() {
                for name in self.layers.xattr_names(&mut cx.ports.layers(), ino)? {
                    let value = self.layers.xattr(&mut cx.ports.layers(), ino, &name)?;
                    cost += heap(&name, &value);
                    xattrs.insert(name, value);
                }
            }
            self.charge(cost)?;
            self.copy_up(cx, ino)?.xattrs = Some(xattrs);
        }
        let node = self.copy_up(cx, ino)?;
        Ok(node.xattrs.get_or_insert_default())
    }
}
