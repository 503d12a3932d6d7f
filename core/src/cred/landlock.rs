//! Landlock (landlock(7), `security/landlock/`): rulesets that programs make, and domains, in which threads
//! have put themselves and those that they start.
//!
//! A domain is a stack of layers, one for each landlock_restrict_self(2). A layer names a ruleset and how
//! much had been added to it by then: what is added later is not part of it. So rules are kept once, however
//! many layers show them. A ruleset stays while a descriptor or the domain of a task names it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::abi::raw::landlock as l;
use crate::cred::Creds;
use crate::env::ids::Ino;

bitflags::bitflags! {
    /// What may be done with files (`LANDLOCK_ACCESS_FS_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct FsAccess: u16 {
        const EXECUTE = l::LANDLOCK_ACCESS_FS_EXECUTE as u16;
        const WRITE_FILE = l::LANDLOCK_ACCESS_FS_WRITE_FILE as u16;
        const READ_FILE = l::LANDLOCK_ACCESS_FS_READ_FILE as u16;
        const READ_DIR = l::LANDLOCK_ACCESS_FS_READ_DIR as u16;
        const REMOVE_DIR = l::LANDLOCK_ACCESS_FS_REMOVE_DIR as u16;
        const REMOVE_FILE = l::LANDLOCK_ACCESS_FS_REMOVE_FILE as u16;
        const MAKE_CHAR = l::LANDLOCK_ACCESS_FS_MAKE_CHAR as u16;
        const MAKE_DIR = l::LANDLOCK_ACCESS_FS_MAKE_DIR as u16;
        const MAKE_REG = l::LANDLOCK_ACCESS_FS_MAKE_REG as u16;
        const MAKE_SOCK = l::LANDLOCK_ACCESS_FS_MAKE_SOCK as u16;
        const MAKE_FIFO = l::LANDLOCK_ACCESS_FS_MAKE_FIFO as u16;
        const MAKE_BLOCK = l::LANDLOCK_ACCESS_FS_MAKE_BLOCK as u16;
        const MAKE_SYM = l::LANDLOCK_ACCESS_FS_MAKE_SYM as u16;
        const REFER = l::LANDLOCK_ACCESS_FS_REFER as u16;
        const TRUNCATE = l::LANDLOCK_ACCESS_FS_TRUNCATE as u16;
        const IOCTL_DEV = l::LANDLOCK_ACCESS_FS_IOCTL_DEV as u16;
    }

    /// What may be done on the network (`LANDLOCK_ACCESS_NET_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct NetAccess: u8 {
        const BIND_TCP = l::LANDLOCK_ACCESS_NET_BIND_TCP as u8;
        const CONNECT_TCP = l::LANDLOCK_ACCESS_NET_CONNECT_TCP as u8;
    }

    /// What reaches nobody outside of the domain (`LANDLOCK_SCOPE_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct Scopes: u8 {
        const ABSTRACT_UNIX_SOCKET = l::LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET as u8;
        const SIGNAL = l::LANDLOCK_SCOPE_SIGNAL as u8;
    }
}

impl FsAccess {
    /// What makes sense for files that are no directories (`ACCESS_FILE`).
    pub(crate) const OF_FILES: FsAccess = FsAccess::EXECUTE
        .union(FsAccess::WRITE_FILE)
        .union(FsAccess::READ_FILE)
        .union(FsAccess::TRUNCATE)
        .union(FsAccess::IOCTL_DEV);
}

/// Most layers of a domain (`LANDLOCK_MAX_NUM_LAYERS`).
pub(crate) const LAYERS_MAX: usize = 16;
/// Most rules of a ruleset, what was added to a rule later counted once more. Linux takes what fits into
/// memory.
pub(crate) const RULES_MAX: usize = 16384;
/// What a ruleset, a rule and a domain take, with their places in the indexes.
const RULESET_COST: u64 = 256;
const RULE_COST: u64 = 96;
const DOMAIN_COST: u64 = 768;

/// A ruleset of the kernel's table. Numbers are not given out twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct RulesetId(u64);

/// What a ruleset is about: what no rule of it allows is denied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Handled {
    pub fs: FsAccess,
    pub net: NetAccess,
    pub scopes: Scopes,
}

/// The file that a rule is about: the number of its file system, which no other has had, and of its inode.
pub(crate) type FileKey = (u64, Ino);

#[derive(Clone, Debug, Hash)]
struct Ruleset {
    handled: Handled,
    /// What rules allow for a file and what is below it, each with its place in the order of additions.
    files: BTreeMap<(FileKey, u32), FsAccess>,
    /// What they allow for a port.
    ports: BTreeMap<(u16, u32), NetAccess>,
    /// Descriptors, and layers of the domains of tasks.
    users: u32,
}

impl Ruleset {
    fn added(&self) -> u32 {
        (self.files.len() + self.ports.len()) as u32 // at most RULES_MAX
    }

    fn file(&self, key: FileKey, until: u32) -> FsAccess {
        let rules = self.files.range((key, 0)..(key, until));
        rules.fold(FsAccess::empty(), |all, (_, access)| all | *access)
    }

    fn port(&self, port: u16, until: u32) -> NetAccess {
        let rules = self.ports.range((port, 0)..(port, until));
        rules.fold(NetAccess::empty(), |all, (_, access)| all | *access)
    }
}

/// One landlock_restrict_self(2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Layer {
    /// No other layer's.
    number: u64,
    ruleset: RulesetId,
    /// How much had been added to the ruleset.
    until: u32,
    pub handled: Handled,
}

impl Layer {
    /// What is denied with files where no rule allows it. That a file changes its directory is denied by
    /// every layer of a domain that is about files, whatever the layer itself is about
    /// (`_LANDLOCK_ACCESS_FS_INITIALLY_DENIED`).
    pub(crate) fn denied(&self) -> FsAccess {
        self.handled.fs | FsAccess::REFER
    }
}

/// What a thread may not do, oldest layer first. There is at least one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Domain(Vec<Layer>);

impl Domain {
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.0
    }

    /// What all layers together are about.
    pub(crate) fn fs_access(&self) -> FsAccess {
        let layers = self.0.iter();
        layers.fold(FsAccess::empty(), |all, layer| all | layer.handled.fs)
    }

    /// The number of the newest layer, which is no other domain's newest.
    fn number(&self) -> u64 {
        self.0.last().map_or(0, |layer| layer.number)
    }

    /// Whether what is scoped may not go from here to somebody in another domain, or in none
    /// (`domain_is_scoped()`).
    pub(crate) fn is_scoped(&self, other: Option<&Domain>, scope: Scopes) -> bool {
        let theirs = other.map_or(&[][..], |domain| &domain.0);
        let newest = self.0.iter().enumerate().rev();
        let mut scoped = newest.filter(|(_, layer)| layer.handled.scopes.contains(scope));
        scoped.next().is_some_and(|(at, layer)| {
            theirs
                .get(at)
                .is_none_or(|their| their.number != layer.number)
        })
    }

    /// Whether another domain is this one or was made within it (`domain_scope_le()`).
    pub(crate) fn contains(&self, other: Option<&Domain>) -> bool {
        let theirs = other.and_then(|domain| domain.0.get(self.0.len() - 1));
        theirs.is_some_and(|layer| layer.number == self.number())
    }
}

/// All rulesets, and which domains tasks are in.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Landlock {
    rulesets: BTreeMap<RulesetId, Ruleset>,
    /// How many tasks are in each domain, by its number.
    domains: BTreeMap<u64, u32>,
    rules: u64,
    next: u64,
}

impl Landlock {
    /// Bytes that it all takes.
    pub(crate) fn held(&self) -> u64 {
        self.rulesets.len() as u64 * RULESET_COST
            + self.rules * RULE_COST
            + self.domains.len() as u64 * DOMAIN_COST
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Makes a ruleset with one user.
    pub(crate) fn add_ruleset(&mut self, handled: Handled) -> RulesetId {
        let id = RulesetId(self.next());
        let ruleset = Ruleset {
            handled,
            files: BTreeMap::new(),
            ports: BTreeMap::new(),
            users: 1,
        };
        self.rulesets.insert(id, ruleset);
        id
    }

    /// What a ruleset is about.
    pub(crate) fn handled(&self, id: RulesetId) -> Handled {
        self.rulesets
            .get(&id)
            .map_or(Handled::default(), |ruleset| ruleset.handled)
    }

    /// Allows something for a file and all below it, beside what is allowed already. `E2BIG` if there are too
    /// many rules.
    pub(crate) fn allow_file(
        &mut self,
        id: RulesetId,
        key: FileKey,
        access: FsAccess,
    ) -> Result<(), Errno> {
        let Some(ruleset) = self.rulesets.get_mut(&id) else {
            return Ok(());
        };
        let at = ruleset.added();
        let new = access - ruleset.file(key, at);
        if new.is_empty() {
            return Ok(());
        }
        if at as usize >= RULES_MAX {
            return Err(Errno::E2BIG);
        }
        ruleset.files.insert((key, at), new);
        self.rules += 1;
        Ok(())
    }

    /// The same for a port.
    pub(crate) fn allow_port(
        &mut self,
        id: RulesetId,
        port: u16,
        access: NetAccess,
    ) -> Result<(), Errno> {
        let Some(ruleset) = self.rulesets.get_mut(&id) else {
            return Ok(());
        };
        let at = ruleset.added();
        let new = access - ruleset.port(port, at);
        if new.is_empty() {
            return Ok(());
        }
        if at as usize >= RULES_MAX {
            return Err(Errno::E2BIG);
        }
        ruleset.ports.insert((port, at), new);
        self.rules += 1;
        Ok(())
    }

    /// What a layer allows for a file itself; not what is inherited from the directories above.
    pub(crate) fn allowed(&self, layer: &Layer, key: FileKey) -> FsAccess {
        let ruleset = self.rulesets.get(&layer.ruleset);
        ruleset.map_or(FsAccess::empty(), |set| set.file(key, layer.until))
    }

    /// The domain that has one layer more, of a ruleset as it is now. `E2BIG` if there are too many.
    pub(crate) fn stack(
        &mut self,
        below: Option<&Domain>,
        id: RulesetId,
    ) -> Result<Arc<Domain>, Errno> {
        let below = below.map_or(&[][..], Domain::layers);
        if below.len() >= LAYERS_MAX {
            return Err(Errno::E2BIG);
        }
        let mut layers = Vec::with_capacity(below.len() + 1);
        layers.extend_from_slice(below);
        layers.push(Layer {
            number: self.next(),
            ruleset: id,
            until: self.rulesets.get(&id).map_or(0, Ruleset::added),
            handled: self.handled(id),
        });
        Ok(Arc::new(Domain(layers)))
    }

    /// One task more has these credentials.
    pub(crate) fn add(&mut self, creds: &Creds) {
        let Some(domain) = &creds.landlock else {
            return;
        };
        let tasks = self.domains.entry(domain.number()).or_insert(0);
        *tasks += 1;
        if *tasks > 1 {
            return;
        }
        for layer in domain.layers() {
            if let Some(ruleset) = self.rulesets.get_mut(&layer.ruleset) {
                ruleset.users += 1;
            }
        }
    }

    /// One task less has them.
    pub(crate) fn remove(&mut self, creds: &Creds) {
        let Some(domain) = &creds.landlock else {
            return;
        };
        let Some(tasks) = self.domains.get_mut(&domain.number()) else {
            return;
        };
        *tasks -= 1;
        if *tasks > 0 {
            return;
        }
        self.domains.remove(&domain.number());
        for layer in domain.layers() {
            self.release(layer.ruleset);
        }
    }

    /// A ruleset has one user less.
    pub(crate) fn release(&mut self, id: RulesetId) {
        let Some(ruleset) = self.rulesets.get_mut(&id) else {
            return;
        };
        ruleset.users -= 1;
        if ruleset.users == 0 {
            self.rules -= u64::from(ruleset.added());
            self.rulesets.remove(&id);
        }
    }

    /// Whether users and rules are counted right, given the credentials of all tasks and the rulesets of all
    /// descriptors.
    pub(crate) fn is_consistent<'a>(
        &self,
        tasks: impl Iterator<Item = &'a Creds>,
        files: impl Iterator<Item = RulesetId>,
    ) -> bool {
        let mut fresh = self.clone();
        fresh.domains.clear();
        for ruleset in fresh.rulesets.values_mut() {
            ruleset.users = 0;
        }
        for id in files {
            if let Some(ruleset) = fresh.rulesets.get_mut(&id) {
                ruleset.users += 1;
            }
        }
        tasks.for_each(|creds| fresh.add(creds));
        let users = |all: &Landlock| -> Vec<u32> {
            all.rulesets.values().map(|ruleset| ruleset.users).collect()
        };
        let rules = self.rulesets.values().map(|set| u64::from(set.added()));
        fresh.domains == self.domains
            && users(&fresh) == users(self)
            && rules.sum::<u64>() == self.rules
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn creds(domain: Option<Arc<Domain>>) -> Creds {
        let mut creds = Creds::new(0, 0, vec![]);
        creds.landlock = domain;
        creds
    }

    #[test]
    fn a_layer_shows_what_there_was() {
        let mut all = Landlock::default();
        let handled = Handled {
            fs: FsAccess::READ_FILE | FsAccess::WRITE_FILE,
            ..Handled::default()
        };
        let id = all.add_ruleset(handled);
        let key = (1, Ino(7));
        all.allow_file(id, key, FsAccess::READ_FILE).unwrap();
        let first = all.stack(None, id).unwrap();
        all.allow_file(id, key, FsAccess::WRITE_FILE).unwrap();
        let second = all.stack(Some(&first), id).unwrap();
        let [old, new] = second.layers() else {
            panic!("two layers");
        };
        assert_eq!(all.allowed(old, key), FsAccess::READ_FILE);
        assert_eq!(
            all.allowed(new, key),
            FsAccess::READ_FILE | FsAccess::WRITE_FILE
        );
        assert_eq!(all.allowed(new, (2, Ino(7))), FsAccess::empty());
        assert!(new.denied().contains(FsAccess::REFER));

        // Who has said the same twice has said nothing new.
        let before = all.held();
        all.allow_file(id, key, FsAccess::READ_FILE).unwrap();
        assert_eq!(all.held(), before);

        let (one, two) = (creds(Some(first)), creds(Some(second)));
        for creds in [&one, &two, &two] {
            all.add(creds);
        }
        all.release(id);
        for creds in [&two, &one] {
            all.remove(creds);
            assert!(!all.rulesets.is_empty());
        }
        all.remove(&two);
        assert_eq!(all.held(), 0);
    }

    #[test]
    fn layers_and_rules_end() {
        let mut all = Landlock::default();
        let id = all.add_ruleset(Handled::default());
        let mut domain = None;
        for _ in 0..LAYERS_MAX {
            domain = Some(all.stack(domain.as_deref(), id).unwrap());
        }
        assert_eq!(all.stack(domain.as_deref(), id).err(), Some(Errno::E2BIG));
        for ino in 0..RULES_MAX as u64 {
            all.allow_file(id, (0, Ino(ino)), FsAccess::EXECUTE)
                .unwrap();
        }
        let more = all.allow_port(id, 80, NetAccess::BIND_TCP);
        assert_eq!(more, Err(Errno::E2BIG));
    }

    /// The cases of `domain_is_scoped()`: who is scoped reaches its own domain and those within.
    #[test]
    fn scopes_end_at_the_domain() {
        let mut all = Landlock::default();
        let plain = all.add_ruleset(Handled::default());
        let scoped = all.add_ruleset(Handled {
            scopes: Scopes::SIGNAL,
            ..Handled::default()
        });
        let outer = all.stack(None, plain).unwrap();
        let own = all.stack(Some(&outer), scoped).unwrap();
        let inner = all.stack(Some(&own), plain).unwrap();
        let sibling = all.stack(Some(&outer), scoped).unwrap();
        let signal = Scopes::SIGNAL;
        for (from, to, denied) in [
            (&own, None, true),
            (&own, Some(&*outer), true),
            (&own, Some(&*sibling), true),
            (&own, Some(&*own), false),
            (&own, Some(&*inner), false),
            (&inner, Some(&*own), false),
            (&inner, Some(&*outer), true),
            (&outer, None, false),
            (&outer, Some(&*own), false),
        ] {
            assert_eq!(from.is_scoped(to, signal), denied, "{from:?} {to:?}");
        }
        assert!(!own.is_scoped(None, Scopes::ABSTRACT_UNIX_SOCKET));
        assert!(own.contains(Some(&own)) && own.contains(Some(&inner)));
        assert!(
            !own.contains(Some(&outer)) && !own.contains(Some(&sibling)) && !own.contains(None)
        );
    }
}
