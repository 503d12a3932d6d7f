//! Extended attributes: a body behind the inode with own entries and numbers of shared ones.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::inode::{Inode, ONLY_HEAD};
use super::{ErrorKind, ImgError, ImgFs};
use crate::port::Images;

const NAME_MAX: usize = 255;
/// Most bytes that listxattr(2) gives (`XATTR_LIST_MAX`).
const LIST_MAX: usize = 65536;

/// An attribute as the image has it.
struct Attribute<'a> {
    /// Short prefix, what follows a long prefix, and the rest.
    name: [&'a [u8]; 3],
    value: &'a [u8],
}

/// The short prefix with this number.
fn prefix(index: u8) -> Option<&'static [u8]> {
    Some(match index {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        5 => b"lustre.",
        6 => b"security.",
        _ => return None,
    })
}

/// Length of an entry's name behind its prefix, number of the prefix, length of the value.
fn head(bytes: &[u8]) -> Option<(usize, u8, usize)> {
    let &[name, index, low, high] = bytes.get(..4)? else {
        return None;
    };
    Some((
        usize::from(name),
        index,
        usize::from(u16::from_le_bytes([low, high])),
    ))
}

impl ImgFs {
    /// Value of an attribute.
    ///
    /// # Errors
    /// Attributes that break the format.
    pub fn xattr(
        &self,
        images: &dyn Images,
        inode: &Inode,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, ImgError> {
        let mut found = None;
        self.each_xattr(images, inode, &mut |attribute| {
            let mut rest = name;
            let equal = attribute
                .name
                .iter()
                .all(|part| match rest.strip_prefix(*part) {
                    Some(behind) => {
                        rest = behind;
                        true
                    }
                    None => false,
                });
            if equal && rest.is_empty() {
                found = Some(attribute.value.to_vec());
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Full names of all attributes, in the order of the image; its own first, then shared ones. Names longer
    /// than any program can ask for are left out, and the list ends behind 64 KiB, which is more than any
    /// program can be given.
    ///
    /// # Errors
    /// Attributes that break the format.
    pub fn list_xattr(&self, images: &dyn Images, inode: &Inode) -> Result<Vec<Vec<u8>>, ImgError> {
        let (mut names, mut total) = (Vec::new(), 0);
        self.each_xattr(images, inode, &mut |attribute| {
            let name = attribute.name.concat();
            if name.len() <= NAME_MAX {
                total += name.len() + 1;
                names.push(name);
            }
            total <= LIST_MAX
        })?;
        Ok(names)
    }

    /// Whether a directory hides what layers below have at its place (overlayfs).
    ///
    /// # Errors
    /// Attributes that break the format.
    pub fn is_opaque(&self, images: &dyn Images, inode: &Inode) -> Result<bool, ImgError> {
        let value = self.xattr(images, inode, b"trusted.overlay.opaque")?;
        Ok(value.as_deref() == Some(b"y"))
    }

    /// Calls `each` with each attribute until it returns `false`.
    fn each_xattr(
        &self,
        images: &dyn Images,
        inode: &Inode,
        each: &mut dyn FnMut(Attribute<'_>) -> bool,
    ) -> Result<(), ImgError> {
        let (at, len) = inode.xattrs;
        match len {
            0 => return Ok(()),
            ONLY_HEAD => return Err(self.damaged(inode.nid, "i_xattr_icount is 1")),
            _ => {}
        }
        // At most 256 KiB, inside.
        let body = self.bytes(images, self.image, at, u64::from(len));
        let body = body.map_err(|e| e.of(inode.nid))?;
        let shared = usize::from(body.get(4).copied().unwrap_or_default());
        let cut = self.damaged(inode.nid, "h_shared_count reaches behind the attributes");
        let (ids, mut rest) = body
            .get(12..)
            .and_then(|ids| ids.split_at_checked(shared * 4))
            .ok_or(cut)?;
        // Where a name is there twice, the inode's own entry is the one that counts.
        while rest.len() >= 4 {
            let cut = self.damaged(inode.nid, "an attribute reaches behind the others");
            let (name, _, value) = head(rest).ok_or(cut)?;
            let len = 4 + name + value;
            if !self.give(rest.get(..len).ok_or(cut)?, each) {
                return Ok(());
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        for id in ids.as_chunks::<4>().0 {
            let entry = self.shared(images, inode, u32::from_le_bytes(*id));
            if !self.give(&entry.map_err(|e| e.of(inode.nid))?, each) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A shared entry.
    fn shared<'a>(
        &self,
        images: &'a dyn Images,
        inode: &Inode,
        id: u32,
    ) -> Result<Cow<'a, [u8]>, ImgError> {
        let outside = self.damaged(inode.nid, "a shared attribute is not inside the image");
        let at = self.xattrs + u64::from(id) * 4; // both below 2^50
        let bytes = self.record::<[u8; 4]>(images, at)?.ok_or(outside)?;
        let (name, _, value) = head(&bytes).ok_or(outside)?;
        let len = (4 + name + value) as u64;
        if at + len > self.len {
            return Err(outside);
        }
        let entry = self.bytes(images, self.image, at, len)?;
        match entry.get(..4) == Some(&bytes) {
            true => Ok(entry),
            false => Err(self.error(Some(inode.nid), ErrorKind::Io, "the image changes")),
        }
    }

    /// Gives one whole entry. Those with an unknown prefix are passed over: zeroed slack is made of them.
    fn give(&self, entry: &[u8], each: &mut dyn FnMut(Attribute<'_>) -> bool) -> bool {
        let Some((name, index, _)) = head(entry) else {
            return true;
        };
        let (Some(name), Some(value)) = (entry.get(4..4 + name), entry.get(4 + name..)) else {
            return true;
        };
        let (base, infix) = match index & 0x80 {
            0 => (prefix(index), &b""[..]),
            _ => match self.prefixes.get(usize::from(index & 0x7f)) {
                Some((base, infix)) => (prefix(*base), infix.as_slice()),
                None => (None, &b""[..]),
            },
        };
        base.is_none_or(|base| {
            each(Attribute {
                name: [base, infix, name],
                value,
            })
        })
    }
}
