//! In whose name something is done: credentials and what changes them (credentials(7), capabilities(7)), the
//! namespaces that they are about, groups, capabilities of files, and what landlock(7) denies.

pub(crate) mod file_caps;
pub(crate) mod groups;
pub(crate) mod landlock;
pub(crate) mod ns;

use alloc::sync::Arc;
use alloc::vec::Vec;

use file_caps::FileCaps;
use groups::Groups;
use landlock::{Domain, Landlock};
use ns::{Namespaces, NsId, USER};

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::env::Env;

/// What every floor stands on: its surroundings, and the records that credentials name.
///
/// A floor's state holds that of the floor below it, and derefs to it: whoever has one floor can call
/// everything that stands lower, and nothing else.
#[derive(Clone, Debug, Hash)]
pub struct Base {
    pub(crate) env: Env,
    pub(crate) ns: Namespaces,
    pub(crate) landlock: Landlock,
}

/// Highest capability number (`/proc/sys/kernel/cap_last_cap`).
pub(crate) const CAP_LAST: u32 = g::CAP_CHECKPOINT_RESTORE;

/// Capabilities that follow the file system user (`CAP_FS_SET`).
const FS_CAPS: u64 = 1 << g::CAP_CHOWN
    | 1 << g::CAP_DAC_OVERRIDE
    | 1 << g::CAP_DAC_READ_SEARCH
    | 1 << g::CAP_FOWNER
    | 1 << g::CAP_FSETID
    | 1 << g::CAP_LINUX_IMMUTABLE
    | 1 << g::CAP_MKNOD
    | 1 << g::CAP_MAC_OVERRIDE;

/// Programs of root get no capabilities for that.
pub(crate) const SECBIT_NOROOT: u32 = 1;

/// Changes of user numbers change no capabilities.
pub(crate) const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;

/// Permitted capabilities survive the change to an ordinary user (`PR_SET_KEEPCAPS`).
pub(crate) const SECBIT_KEEP_CAPS: u32 = 1 << 4;

/// Ambient capabilities cannot be raised.
pub(crate) const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;

/// Each of these has its lock one bit above.
pub(crate) const SECURE_ALL_BITS: u32 =
    SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS | SECBIT_NO_CAP_AMBIENT_RAISE;

/// User, groups and capabilities of a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Creds {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Groups,
    /// Capability sets, one bit each (capabilities(7)).
    pub cap_permitted: u64,
    pub cap_effective: u64,
    pub cap_inheritable: u64,
    pub cap_bounding: u64,
    pub cap_ambient: u64,
    /// The user namespace in which the capabilities hold.
    pub user_ns: NsId,
    /// What root's number still means, `SECBIT_` values (capabilities(7), "The securebits flags").
    pub securebits: u32,
    pub no_new_privs: bool,
    /// What landlock(7) denies.
    pub landlock: Option<Arc<Domain>>,
}

impl Creds {
    /// Credentials without capabilities, of the first program.
    pub(crate) fn new(uid: u32, gid: u32, mut groups: Vec<u32>) -> Creds {
        groups.sort_unstable();
        groups.dedup();
        let groups = Groups::new(0, groups);
        Creds {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups,
            cap_permitted: 0,
            cap_effective: 0,
            cap_inheritable: 0,
            cap_bounding: 0,
            cap_ambient: 0,
            user_ns: USER,
            securebits: 0,
            no_new_privs: false,
            landlock: None,
        }
    }

    /// The same of a first program: root has these capabilities, others have none, and nobody gets more.
    pub(crate) fn with_capabilities(mut self, capabilities: u64) -> Creds {
        self.cap_bounding = capabilities;
        if self.uid == 0 {
            self.cap_permitted = capabilities;
            self.cap_effective = capabilities;
        }
        self
    }

    /// Whether a capability (`CAP_CHOWN` is 0, ...) is effective over the whole system.
    pub(crate) fn capable(&self, cap: u32) -> bool {
        self.user_ns == USER && self.has(cap)
    }

    /// Whether a capability is effective over the user namespace that these credentials belong to.
    pub(crate) fn has(&self, cap: u32) -> bool {
        self.cap_effective >> cap & 1 == 1
    }

    /// Whether `gid` is the file system group or a supplementary one.
    pub(crate) fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// Whether a task that takes on `new` may hold what its old credentials could not reach: it is not to be
    /// looked into, and has no death signal any more (`commit_creds()`).
    pub(crate) fn is_exceeded_by(&self, new: &Creds) -> bool {
        self.euid != new.euid
            || self.egid != new.egid
            || self.fsuid != new.fsuid
            || self.fsgid != new.fsgid
            || new.cap_permitted & !self.cap_permitted != 0
    }

    /// What a change of user ids does to capabilities; `old` are the credentials before, `zero` is user 0 of
    /// the user namespace (capabilities(7), "Effect of user ID changes").
    pub(crate) fn user_changed(&mut self, old: &Creds, zero: Option<u32>) {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return;
        }
        let is = |id: u32| Some(id) == zero;
        let root = |creds: &Creds| is(creds.uid) || is(creds.euid) || is(creds.suid);
        if root(old) && !root(self) {
            if self.securebits & SECBIT_KEEP_CAPS == 0 {
                self.cap_permitted = 0;
                self.cap_effective = 0;
            }
            self.cap_ambient = 0;
        }
        if is(old.euid) && !is(self.euid) {
            self.cap_effective = 0;
        }
        if !is(old.euid) && is(self.euid) {
            self.cap_effective = self.cap_permitted;
        }
    }

    /// What a change of the file system user alone does to capabilities.
    pub(crate) fn fs_user_changed(&mut self, old: &Creds, zero: Option<u32>) {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return;
        }
        let is = |id: u32| Some(id) == zero;
        if is(old.fsuid) && !is(self.fsuid) {
            self.cap_effective &= !FS_CAPS;
        }
        if !is(old.fsuid) && is(self.fsuid) {
            self.cap_effective |= self.cap_permitted & FS_CAPS;
        }
    }

    /// The credentials after execve(2) of a file with these attributes (capabilities(7), "Transformation of
    /// capabilities during execve()"). Capabilities of the file that the bounding set does not allow are
    /// `EPERM` if the file insists on them. `zero` is user 0 of the user namespace. With `shared`, others
    /// than the program can change where its paths lead and its umask (`LSM_UNSAFE_SHARE`), so it gets no
    /// more than its caller has.
    pub(crate) fn after_exec(
        &self,
        file: &Privileges,
        zero: Option<u32>,
        shared: bool,
    ) -> Result<ExecCreds, Errno> {
        let is = |id: u32| Some(id) == zero;
        let mut new = self.clone();
        if !self.no_new_privs {
            new.euid = file.set_uid.unwrap_or(new.euid);
            new.egid = file.set_gid.unwrap_or(new.egid);
        }
        let mut effective = false;
        new.cap_permitted = 0;
        if let Some(caps) = file.caps {
            new.cap_permitted =
                (self.cap_inheritable & caps.inheritable) | (self.cap_bounding & caps.permitted);
            effective = caps.effective;
            if effective && caps.permitted & !new.cap_permitted != 0 {
                return Err(Errno::EPERM);
            }
        }
        // A set-user-ID-root program with capabilities of its own run by an ordinary user gets just those.
        let own_only = file.caps.is_some() && is(new.euid) && !is(new.uid);
        if self.securebits & SECBIT_NOROOT == 0 && !own_only && (is(new.euid) || is(new.uid)) {
            new.cap_permitted = self.cap_bounding | self.cap_inheritable;
            effective |= is(new.euid);
        }
        let changed = new.euid != self.euid || !self.in_group(new.egid);
        let gained = new.cap_permitted & !self.cap_permitted != 0;
        if (self.no_new_privs || shared) && (changed || gained) {
            // Who may become any user needs no set-user-ID program for that.
            if self.no_new_privs || !self.has(g::CAP_SETUID) {
                (new.euid, new.egid) = (new.uid, new.gid);
            }
            new.cap_permitted &= self.cap_permitted;
        }
        new.suid = new.euid;
        new.fsuid = new.euid;
        new.sgid = new.egid;
        new.fsgid = new.egid;
        if file.caps.is_some() || changed {
            new.cap_ambient = 0;
        }
        let ambient = new.cap_ambient;
        new.cap_permitted |= ambient;
        new.cap_effective = if effective {
            new.cap_permitted
        } else {
            ambient
        };
        new.securebits &= !SECBIT_KEEP_CAPS;
        let new_ids = (new.euid, new.egid);
        let grew = !is(new.uid) && (effective || new.cap_permitted & !ambient != 0);
        Ok(ExecCreds {
            creds: new,
            secure: changed || grew || new_ids != (self.uid, self.gid),
            cleans: file.set_uid.is_some() || file.set_gid.is_some() || gained,
        })
    }
}

/// Credentials of a new program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExecCreds {
    pub creds: Creds,
    /// The program got more than its caller had: `AT_SECURE`.
    pub secure: bool,
    /// What its caller wished for how it is placed in memory does not count (`PER_CLEAR_ON_SETID`).
    pub cleans: bool,
}

/// What an executable file gives its program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Privileges {
    pub set_uid: Option<u32>,
    pub set_gid: Option<u32>,
    pub caps: Option<FileCaps>,
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::boot::DEFAULT_CAPABILITIES as DEFAULT_CAPS;

    fn user(uid: u32) -> Creds {
        Creds::new(uid, uid, vec![]).with_capabilities(DEFAULT_CAPS)
    }

    #[test]
    fn leaving_root_drops_capabilities_unless_they_are_kept() {
        let root = user(0);
        let mut now = root.clone();
        (now.uid, now.euid, now.suid) = (1, 1, 1);
        let mut kept = now.clone();
        kept.securebits = SECBIT_KEEP_CAPS;
        now.user_changed(&root, Some(0));
        assert_eq!((now.cap_permitted, now.cap_effective), (0, 0));
        kept.user_changed(&root, Some(0));
        assert_eq!((kept.cap_permitted, kept.cap_effective), (DEFAULT_CAPS, 0));
    }

    #[test]
    fn effective_capabilities_follow_the_effective_user() {
        let root = user(0);
        let mut now = root.clone();
        now.euid = 1;
        now.user_changed(&root, Some(0));
        assert_eq!((now.cap_permitted, now.cap_effective), (DEFAULT_CAPS, 0));
        let mut back = now.clone();
        back.euid = 0;
        back.user_changed(&now, Some(0));
        assert_eq!(back.cap_effective, DEFAULT_CAPS);
    }

    #[test]
    fn set_user_id_root_gives_the_bounding_set() {
        let file = Privileges {
            set_uid: Some(0),
            ..Privileges::default()
        };
        let new = user(1000).after_exec(&file, Some(0), false).unwrap();
        assert!(new.secure);
        assert_eq!(
            (new.creds.uid, new.creds.euid, new.creds.suid),
            (1000, 0, 0)
        );
        assert_eq!(new.creds.cap_effective, DEFAULT_CAPS);
        let mut careful = user(1000);
        careful.no_new_privs = true;
        let same = careful.after_exec(&file, Some(0), false).unwrap();
        assert_eq!((same.creds, same.secure), (careful, false));
    }

    #[test]
    fn file_capabilities_are_read_and_bounded() {
        let mut value = vec![];
        let bind = 1u32 << g::CAP_NET_BIND_SERVICE;
        for word in [
            g::VFS_CAP_REVISION_2 | g::VFS_CAP_FLAGS_EFFECTIVE,
            bind,
            0,
            0,
            0,
        ] {
            value.extend_from_slice(&word.to_le_bytes());
        }
        let caps = FileCaps::parse(&value).unwrap();
        assert_eq!((caps.permitted, caps.effective), (u64::from(bind), true));
        let file = Privileges {
            caps: Some(caps),
            ..Privileges::default()
        };
        let new = user(1000).after_exec(&file, Some(0), false).unwrap();
        assert_eq!(new.creds.cap_effective, u64::from(bind));
        assert!(new.secure);
        let admin = FileCaps {
            permitted: 1 << g::CAP_SYS_ADMIN,
            ..caps
        };
        let file = Privileges {
            caps: Some(admin),
            ..Privileges::default()
        };
        assert_eq!(
            user(1000).after_exec(&file, Some(0), false),
            Err(Errno::EPERM)
        );
        assert_eq!(FileCaps::parse(&value[..19]), None);
    }
}
