//! POSIX access control lists (acl(5)) of files in layers and host directories: they are read and obeyed,
//! none can be set.
//!
//! A list hangs on an inode as an extended attribute. Most files have none, and those that do share a few:
//! each different one is kept once, and attributes name it by a number.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::cred::Creds;
use crate::fs::filesystem::Attr;

/// The extended attribute.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";

/// `POSIX_ACL_XATTR_VERSION`, and what may be in `e_tag`.
const VERSION: u32 = 2;
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Most different lists of a run, and most entries of all of them.
const LISTS_MAX: usize = 4096;
const ENTRIES_MAX: usize = 1 << 16;

/// Names a list of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AclId(u32);

/// What a list says beyond what the mode of its file says: owner, mask (or else owning group) and others are
/// the mode's three digits, which the kernel keeps equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Acl {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
    /// Of the owning group, if there is a mask; else the mode's second digit says it.
    group: Option<u32>,
}

impl Acl {
    /// Reads the attribute's value (`struct posix_acl_xattr_header` and entries); `None` if it is not a valid
    /// list (`posix_acl_valid`).
    fn parse(value: &[u8]) -> Option<Acl> {
        let (head, rest) = value.split_first_chunk::<4>()?;
        let (entries, rest) = rest.as_chunks::<8>();
        if u32::from_le_bytes(*head) != VERSION || !rest.is_empty() {
            return None;
        }
        let mut acl = Acl {
            users: Vec::new(),
            groups: Vec::new(),
            group: None,
        };
        let (mut group, mut last, mut seen) = (0, 0, 0);
        for &[tag0, tag1, perm0, perm1, id0, id1, id2, id3] in entries {
            let tag = u16::from_le_bytes([tag0, tag1]);
            let perm = u32::from(u16::from_le_bytes([perm0, perm1]));
            let id = u32::from_le_bytes([id0, id1, id2, id3]);
            let repeats = matches!(tag, USER | GROUP);
            if tag < last || tag == last && !repeats || perm > 7 {
                return None;
            }
            match tag {
                USER => acl.users.push((id, perm)),
                GROUP => acl.groups.push((id, perm)),
                GROUP_OBJ => group = perm,
                USER_OBJ | MASK | OTHER => {}
                _ => return None,
            }
            (last, seen) = (tag, seen | tag);
        }
        let needed = USER_OBJ | GROUP_OBJ | OTHER;
        let masked = seen & MASK != 0;
        if seen & needed != needed || seen & (USER | GROUP) != 0 && !masked {
            return None;
        }
        acl.group = masked.then_some(group);
        Some(acl)
    }

    fn entries(&self) -> usize {
        1 + self.users.len() + self.groups.len()
    }

    /// What somebody who is not the owner may do who asks for `want` (`posix_acl_permission`).
    fn permitted(&self, creds: &Creds, attr: &Attr, want: u32) -> u32 {
        let class = attr.mode >> 3 & 7;
        if let Some(&(_, perm)) = self.users.iter().find(|&&(uid, _)| uid == creds.fsuid) {
            return perm & class;
        }
        let own = self.group.unwrap_or(class);
        let own = core::iter::once((attr.gid, own));
        let mut member = false;
        for (gid, perm) in own.chain(self.groups.iter().copied()) {
            if creds.in_group(gid) {
                member = true;
                // The first group that allows all that is asked for counts, not all of them together.
                if perm & want == want {
                    return perm & class;
                }
            }
        }
        match member {
            true => 0,
            false => attr.mode & 7,
        }
    }
}

/// The lists of a run.
#[derive(Clone, Default, Hash, Debug)]
pub(crate) struct Acls {
    numbers: BTreeMap<Arc<Acl>, AclId>,
    lists: Vec<Arc<Acl>>,
    entries: usize,
}

impl Acls {
    /// The number of the list that an attribute's value is. `EIO` if it is none, `ENOMEM` if there are too
    /// many different ones.
    pub(crate) fn number(&mut self, value: &[u8]) -> Result<AclId, Errno> {
        let acl = Acl::parse(value).ok_or(Errno::EIO)?;
        if let Some(&id) = self.numbers.get(&acl) {
            return Ok(id);
        }
        let entries = self.entries + acl.entries();
        if self.lists.len() >= LISTS_MAX || entries > ENTRIES_MAX {
            return Err(Errno::ENOMEM);
        }
        self.entries = entries;
        let id = AclId(self.lists.len() as u32);
        let acl = Arc::new(acl);
        self.lists.push(acl.clone());
        self.numbers.insert(acl, id);
        Ok(id)
    }

    /// What somebody who is not the owner may do with a file that asks for `want`; `None` if the file has no
    /// list that counts.
    pub(crate) fn permitted(&self, creds: &Creds, attr: &Attr, want: u32) -> Option<u32> {
        // As Linux has it: a mask without rights leaves the list out.
        let id = attr.acl.filter(|_| attr.mode & 0o070 != 0)?;
        let acl = self.lists.get(id.0 as usize)?;
        Some(acl.permitted(creds, attr, want))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(perm.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn what_the_kernel_would_not_take_is_no_list() {
        const NO: u32 = u32::MAX;
        let least = [(USER_OBJ, 6, NO), (GROUP_OBJ, 4, NO), (OTHER, 4, NO)];
        assert!(Acl::parse(&value(&least)).is_some());
        let with = |more: &[(u16, u16, u32)]| {
            let mut all = [&least[..], more].concat();
            all.sort();
            Acl::parse(&value(&all))
        };
        assert!(with(&[(USER, 4, 5)]).is_none(), "no mask");
        assert!(with(&[(USER, 4, 5), (USER, 0, 6), (MASK, 7, NO)]).is_some());
        assert!(with(&[(GROUP, 8, 5), (MASK, 7, NO)]).is_none());
        assert!(with(&[(MASK, 7, NO), (MASK, 7, NO)]).is_none());
        assert!(with(&[(0x40, 7, NO)]).is_none());
        assert!(Acl::parse(&value(&least[..2])).is_none());
        assert!(Acl::parse(&value(&[least[1], least[0], least[2]])).is_none());
        let whole = value(&least);
        assert!(Acl::parse(&whole[..whole.len() - 1]).is_none());
        assert!(Acl::parse(&[1, 0, 0, 0]).is_none());
    }

    #[test]
    fn lists_are_kept_once_and_not_without_bound() {
        let mut acls = Acls::default();
        let list = |uid: u32| {
            value(&[
                (USER_OBJ, 6, 0),
                (USER, 4, uid),
                (GROUP_OBJ, 4, 0),
                (MASK, 4, 0),
                (OTHER, 4, 0),
            ])
        };
        let first = acls.number(&list(1)).unwrap();
        assert_eq!(acls.number(&list(1)), Ok(first));
        for uid in 2..=LISTS_MAX as u32 {
            acls.number(&list(uid)).unwrap();
        }
        assert_eq!(acls.number(&list(9999)), Err(Errno::ENOMEM));
        assert_eq!(acls.number(&list(1)), Ok(first));
        assert_eq!(acls.number(b""), Err(Errno::EIO));
    }
}
