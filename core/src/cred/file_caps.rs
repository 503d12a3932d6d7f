//! Capabilities of files: the attribute `security.capability` (capabilities(7), "File capability extended
//! attribute versioning").
//!
//! Revision 3 names the user whose namespaces it holds in; revisions 1 and 2 hold where the file system's own
//! user namespace does.

use alloc::vec::Vec;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::user::Numbers;
use crate::cred::ns::{NsId, USER, user};
use crate::cred::{Base, CAP_LAST, Creds};

/// The attribute.
pub(crate) const NAME: &[u8] = b"security.capability";

/// File capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileCaps {
    pub permitted: u64,
    pub inheritable: u64,
    pub effective: bool,
    /// The user whose namespaces they hold in, as the file system's user namespace numbers it.
    pub root: u32,
}

fn word(value: &[u8], index: usize) -> Option<u32> {
    let bytes = value.get(4 * index..4 * index + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The revision, and the user that it holds for. `EINVAL` for other lengths and revisions than programs may
/// write.
fn header(value: &[u8]) -> Result<(u32, u32), Errno> {
    let magic = word(value, 0).ok_or(Errno::EINVAL)?;
    match (magic & g::VFS_CAP_REVISION_MASK, value.len()) {
        (revision @ g::VFS_CAP_REVISION_2, 20) => Ok((revision, 0)),
        (revision @ g::VFS_CAP_REVISION_3, 24) => {
            Ok((revision, word(value, 5).ok_or(Errno::EINVAL)?))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The same capabilities in revision 2, or in revision 3 for a user.
fn with_root(value: &[u8], root: Option<u32>) -> Vec<u8> {
    let effective = word(value, 0).unwrap_or(0) & g::VFS_CAP_FLAGS_EFFECTIVE;
    let revision = match root {
        Some(_) => g::VFS_CAP_REVISION_3,
        None => g::VFS_CAP_REVISION_2,
    };
    let mut text = (revision | effective).to_le_bytes().to_vec();
    text.extend_from_slice(&value[4..20]);
    text.extend(root.into_iter().flat_map(u32::to_le_bytes));
    text
}

impl FileCaps {
    /// Reads revision 1, 2 or 3 of the attribute. `None` if it is damaged.
    pub(crate) fn parse(value: &[u8]) -> Option<FileCaps> {
        let magic = word(value, 0)?;
        let revision_1 = magic & g::VFS_CAP_REVISION_MASK == g::VFS_CAP_REVISION_1;
        let (pairs, root) = match revision_1 && value.len() == 12 {
            true => (1, 0),
            false => (2, header(value).ok()?.1),
        };
        let mut caps = FileCaps {
            permitted: 0,
            inheritable: 0,
            effective: magic & g::VFS_CAP_FLAGS_EFFECTIVE != 0,
            root,
        };
        for pair in 0..pairs {
            caps.permitted |= u64::from(word(value, 1 + 2 * pair)?) << (32 * pair);
            caps.inheritable |= u64::from(word(value, 2 + 2 * pair)?) << (32 * pair);
        }
        let valid = (1 << (CAP_LAST + 1)) - 1;
        caps.permitted &= valid;
        caps.inheritable &= valid;
        Some(caps)
    }

    /// Whether programs in a user namespace get them; `owner` is the file system's namespace.
    pub(crate) fn hold_in(&self, k: &Base, ns: NsId, owner: NsId) -> bool {
        user::take_uid(k, owner, self.root).is_ok_and(|root| owns(k, root, ns))
    }
}

/// Whether a user is user 0 of a user namespace or of one above it (`rootid_owns_currentns()`).
fn owns(k: &Base, root: u32, ns: NsId) -> bool {
    let mut at = ns;
    loop {
        if k.ns.user(at).map(Numbers::Users).inward(root) == Some(0) {
            return true;
        }
        if at == USER {
            return false;
        }
        at = k.ns.owner(at);
    }
}

/// `EINVAL` unless a value can be written.
pub(crate) fn check(value: &[u8]) -> Result<(), Errno> {
    header(value).map(|_| ())
}

/// What is stored when a program writes a value to a file system of the user namespace `owner`: for those who
/// do not rule that one, capabilities hold for their own namespace alone (`cap_convert_nscap()`). `EINVAL`.
pub(crate) fn stored(k: &Base, creds: &Creds, owner: NsId, value: &[u8]) -> Result<Vec<u8>, Errno> {
    let (revision, root) = header(value)?;
    if revision == g::VFS_CAP_REVISION_2 && user::capable(k, creds, owner, g::CAP_SETFCAP) {
        return Ok(value.to_vec());
    }
    let root = match user::take_uid(k, creds.user_ns, root)? {
        u32::MAX => return Err(Errno::EINVAL),
        root => root,
    };
    let shown = k.ns.user(owner).map(Numbers::Users).inward(root);
    Ok(with_root(value, Some(shown.ok_or(Errno::EINVAL)?)))
}

/// What a program in a user namespace reads (`cap_inode_getsecurity()`). `EINVAL` for what is damaged,
/// `EOVERFLOW` for what belongs to other namespaces.
pub(crate) fn shown(k: &Base, ns: NsId, owner: NsId, value: &[u8]) -> Result<Vec<u8>, Errno> {
    let (_, root) = header(value)?;
    let root = user::take_uid(k, owner, root).map_err(|_| Errno::EOVERFLOW)?;
    match k.ns.user(ns).map(Numbers::Users).inward(root) {
        Some(own) if own != 0 => Ok(with_root(value, Some(own))),
        _ if owns(k, root, ns) => Ok(with_root(value, None)),
        _ => Err(Errno::EOVERFLOW),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_revisions_can_be_written() {
        let of = |revision: u32, length: usize| {
            let mut value = (revision | g::VFS_CAP_FLAGS_EFFECTIVE)
                .to_le_bytes()
                .to_vec();
            value.resize(length, 7);
            value
        };
        assert_eq!(check(&of(g::VFS_CAP_REVISION_2, 20)), Ok(()));
        assert_eq!(check(&of(g::VFS_CAP_REVISION_3, 24)), Ok(()));
        for value in [
            of(g::VFS_CAP_REVISION_1, 12),
            of(g::VFS_CAP_REVISION_2, 24),
            of(g::VFS_CAP_REVISION_3, 20),
            of(0, 20),
            b"abc".to_vec(),
        ] {
            assert_eq!(check(&value), Err(Errno::EINVAL));
        }
        assert!(FileCaps::parse(&of(g::VFS_CAP_REVISION_1, 12)).is_some());
    }
}
