//! Configurations of file systems that are about to be made or changed (fsopen(2), fspick(2)): what they have
//! been told so far, how far they have come, and what they have to say about it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::leave_filesystem;
use super::options::{self, Cgroup2, Given, Refused, Tmpfs, Value};
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::fs::FileSystems;
use crate::fs::filesystem::{Filesystem, FsId};
use crate::fs::view::SysFs;
use crate::port::Ports;
use crate::vfs::Vfs;
use crate::vfs::dentry::DentryId;

/// Most messages that wait to be read; older ones are lost.
const MESSAGES: usize = 8;
/// What a configuration takes beside its texts, and a message beside its bytes.
const COST: u64 = 640;
const MESSAGE_COST: u64 = 48;

/// What is asked of a file system, by its type.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Asked {
    Tmpfs(Tmpfs),
    /// The second is the PID namespace that it tells of.
    Proc(crate::fs::view::Options, NsId),
    Sysfs,
    Cgroup2(Cgroup2),
    /// One without parameters of its own, that programs cannot make.
    Other,
}

impl Asked {
    /// Takes a parameter that only such file systems have, with users and groups of a user namespace.
    pub(crate) fn set(
        &mut self,
        k: &FileSystems,
        ns: NsId,
        key: &[u8],
        value: Value<'_>,
    ) -> Result<(), Refused> {
        match self {
            Asked::Tmpfs(options) => options.set(k, ns, key, value),
            Asked::Proc(options, _) => options.set(k, ns, key, value),
            Asked::Cgroup2(options) => options.set(key, value),
            Asked::Sysfs | Asked::Other => Err(Refused::Unknown),
        }
    }

    /// What mount tables show, behind a comma each.
    pub(crate) fn show(&self) -> Vec<u8> {
        match self {
            Asked::Tmpfs(options) => options.show(),
            Asked::Cgroup2(options) => options.show(),
            // Shown as they are then.
            Asked::Proc(..) | Asked::Sysfs | Asked::Other => Vec::new(),
        }
    }

    /// What a mounted file system can be asked, with nothing asked yet.
    fn of_mounted(k: &Vfs, fs: FsId, fs_type: &str) -> Asked {
        match k.fs.filesystem(fs) {
            Filesystem::Union(union) if fs_type == "tmpfs" => Asked::Tmpfs(union.options()),
            Filesystem::Proc(proc) => Asked::Proc(proc.options, proc.pids),
            Filesystem::Sys(SysFs::Devices) => Asked::Sysfs,
            Filesystem::Sys(SysFs::Cgroup) => Asked::Cgroup2(Cgroup2::default()),
            _ => Asked::Other,
        }
    }
}

/// How far a configuration has come (`enum fs_context_phase`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Phase {
    /// It takes parameters of a file system that is to be made.
    Making,
    /// The file system is there and can be mounted.
    Made,
    /// It takes parameters that are to be changed.
    Changing,
    /// The file system has been mounted or changed: it can be changed again.
    Done,
    Failed,
}

/// A configuration.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Config {
    pub phase: Phase,
    pub fs_type: &'static str,
    pub asked: Asked,
    pub given: Given,
    /// `ro` or `rw` was given.
    pub read_only: Option<bool>,
    /// A flag was given that cannot be changed afterwards.
    pub fixed: bool,
    source: Option<Vec<u8>>,
    /// The user namespace that the file system belongs to when it is made; `None` for one that was there.
    pub owner: Option<NsId>,
    /// The file system, and its directory that is mounted: counts as a mount of it.
    pub place: Option<(FsId, DentryId)>,
    messages: VecDeque<Vec<u8>>,
}

impl Config {
    /// That of a file system which is to be made.
    pub(crate) fn new(fs_type: &'static str, asked: Asked, owner: NsId) -> Config {
        Config {
            phase: Phase::Making,
            fs_type,
            asked,
            given: Given::empty(),
            read_only: None,
            fixed: false,
            source: None,
            owner: Some(owner),
            place: None,
            messages: VecDeque::new(),
        }
    }

    /// That of one which is there; takes references on it.
    pub(crate) fn of_mounted(
        k: &mut Vfs,
        fs: FsId,
        root: DentryId,
        fs_type: &'static str,
    ) -> Config {
        k.dentries.get(root);
        k.fs.filesystem_mounted(fs, 1);
        Config {
            phase: Phase::Changing,
            owner: None,
            place: Some((fs, root)),
            ..Config::new(
                fs_type,
                Asked::of_mounted(k, fs, fs_type),
                crate::cred::ns::USER,
            )
        }
    }

    /// What is to be shown as the source of the mount.
    pub(crate) fn source(&self) -> &[u8] {
        self.source.as_deref().unwrap_or(b"none")
    }

    /// Nothing is asked any more; it is about changes from now on.
    pub(crate) fn finish(&mut self) {
        self.phase = Phase::Done;
        self.source = None;
        self.given = Given::empty();
        (self.read_only, self.fixed) = (None, false);
    }

    /// It begins anew after it was done.
    pub(crate) fn renew(&mut self, k: &Vfs) {
        if let (Phase::Done, Some((fs, _))) = (self.phase, self.place) {
            self.finish();
            self.asked = Asked::of_mounted(k, fs, self.fs_type);
            self.phase = Phase::Changing;
        }
    }

    /// Takes a parameter, or tells why not (`vfs_parse_fs_param()`).
    pub(crate) fn set(
        &mut self,
        k: &FileSystems,
        ns: NsId,
        key: &[u8],
        value: Value<'_>,
    ) -> Result<(), Errno> {
        if options::is_flag(key) {
            match key {
                b"ro" => self.read_only = Some(true),
                b"rw" => self.read_only = Some(false),
                b"dirsync" => self.fixed = true,
                _ => {}
            }
            return Ok(());
        }
        match self.asked.set(k, ns, key, value) {
            Ok(()) => {
                self.given |= Given::of(key);
                Ok(())
            }
            Err(Refused::Unknown) if key == b"source" => self.set_source(value),
            Err(refused) => Err(self.refuse(key, &refused)),
        }
    }

    fn set_source(&mut self, value: Value<'_>) -> Result<(), Errno> {
        let told: &[u8] = match (value, &self.source) {
            (Value::Text(text), None) => {
                self.source = Some(text.into());
                return Ok(());
            }
            (Value::Text(_), Some(_)) => b"Multiple sources",
            _ => b"Non-string source",
        };
        self.tell(told.into());
        Err(Errno::EINVAL)
    }

    /// Tells why a parameter is refused.
    pub(crate) fn refuse(&mut self, key: &[u8], refused: &Refused) -> Errno {
        self.tell(refused.text(self.fs_type, key));
        refused.errno()
    }

    /// Adds a message about an error.
    pub(crate) fn tell(&mut self, text: Vec<u8>) {
        if self.messages.len() == MESSAGES {
            self.messages.pop_front();
        }
        let mut line = [b"e ", &text[..], b"\n"].concat();
        line.shrink_to_fit();
        self.messages.push_back(line);
    }

    /// The oldest message. `ENODATA`, and `EMSGSIZE` if there is less room.
    pub(crate) fn take_message(&mut self, room: u64) -> Result<Vec<u8>, Errno> {
        match self.messages.front() {
            None => Err(Errno::ENODATA),
            Some(line) if line.len() as u64 > room => Err(Errno::EMSGSIZE),
            Some(_) => self.messages.pop_front().ok_or(Errno::ENODATA),
        }
    }

    /// The namespaces that it keeps.
    fn namespaces(&self) -> impl Iterator<Item = NsId> + use<> {
        let pids = match (self.owner, &self.asked) {
            (Some(_), Asked::Proc(_, pids)) => Some(*pids),
            _ => None,
        };
        self.owner.into_iter().chain(pids)
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let policy = match &self.asked {
            Asked::Tmpfs(options) => options.policy.capacity(),
            _ => 0,
        };
        let source = self.source.as_ref().map_or(0, Vec::capacity);
        let messages = self
            .messages
            .iter()
            .map(|line| line.len() as u64 + MESSAGE_COST);
        COST + (policy + source) as u64 + messages.sum::<u64>()
    }
}

/// What all configurations take, and which namespaces they keep.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Configs {
    bytes: u64,
    namespaces: alloc::collections::BTreeMap<NsId, u32>,
}

impl Configs {
    /// Bytes that all of them take.
    pub(crate) fn held(&self) -> u64 {
        self.bytes
    }

    /// Whether one keeps a namespace.
    pub(crate) fn keep(&self, ns: NsId) -> bool {
        self.namespaces.contains_key(&ns)
    }

    /// Counts one that is there, or is again after a change.
    pub(crate) fn count(&mut self, config: &Config) {
        self.bytes += config.bytes();
        for ns in config.namespaces() {
            *self.namespaces.entry(ns).or_default() += 1;
        }
    }
}

/// Stops counting one that is about to change or go.
pub(crate) fn discount(k: &mut Vfs, config: &Config) {
    k.configs.bytes -= config.bytes();
    for ns in config.namespaces() {
        let configs = &mut k.configs;
        if let Some(count) = configs.namespaces.get_mut(&ns) {
            *count -= 1;
            if *count == 0 {
                configs.namespaces.remove(&ns);
                k.ns.let_go(ns);
            }
        }
    }
}

/// The file of a configuration has been closed.
pub(crate) fn closed(k: &mut Vfs, p: &mut Ports<'_>, config: &Config) {
    discount(k, config);
    if let Some((fs, root)) = config.place {
        leave_filesystem(k, p, fs, root);
    }
}
