//! Mount tables of `/proc/PID`: `mounts`, `mountinfo`, `mountstats` (proc(5)).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::TOO_LONG;
use super::shown::Rest;
use super::view::View;
use crate::Kernel;
use crate::abi::{Errno, PATH_MAX};
use crate::cred::ns::NsId;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode;
use crate::vfs::d_path::{self, NamesUp, UpTo};
use crate::vfs::mount::{Mount, MountFlags};
use crate::vfs::{MountId, PathRef};

/// Text with blanks, tabs, newlines, backslashes and number signs in octal, as mount tables have it.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            byte => escaped.push(byte),
        }
    }
    escaped
}

/// Options of a mount as mount tables show them.
fn options(flags: MountFlags) -> String {
    let mut text = String::from(if flags.contains(MountFlags::READ_ONLY) {
        "ro"
    } else {
        "rw"
    });
    for (flag, name) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
    ] {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    if !flags.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        text.push_str(",relatime");
    }
    if flags.contains(MountFlags::NOSYMFOLLOW) {
        text.push_str(",nosymfollow");
    }
    text
}

/// Options of the file system behind a mount.
fn super_options(k: &Kernel, mount: &Mount) -> Vec<u8> {
    let mut text = match inode::is_read_only(k, mount.fs) {
        true => b"ro".to_vec(),
        false => b"rw".to_vec(),
    };
    text.extend_from_slice(&own_options(k, mount));
    text
}

/// Options that only file systems of this type have.
fn own_options(k: &Kernel, mount: &Mount) -> Vec<u8> {
    match k.fs.filesystem(mount.fs) {
        Filesystem::Proc(proc) => proc.options.show(k),
        _ => mount.options.to_vec(),
    }
}

/// Which file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Form {
    Mounts,
    Info,
    Stats,
}

/// Where the root of a mount is seen from a root directory.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
enum At {
    /// By no path.
    Nowhere,
    /// By one that is longer than any that programs can use: it is left out.
    TooFar,
    Path(Arc<[u8]>),
}

/// Makes a line for each mount of a process's namespace that it can reach from its root directory, in the
/// order in which they were mounted.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Cursor {
    view: View,
    ns: NsId,
    form: Form,
    /// The order of the last mount that was looked at.
    after: Option<u64>,
    /// The mount whose line is to be made, and those that it hangs on and that are to be found before.
    next: Option<MountId>,
    open: Vec<MountId>,
    /// Where mounts are that were on the way to others, during one read: many may hang on each other.
    known: BTreeMap<MountId, At>,
    /// Bytes of their paths.
    paths: u64,
    /// The last change of the mounts when the read began.
    change: u64,
}

fn cursor(k: &Kernel, view: View, form: Form) -> Result<Option<Rest>, Errno> {
    view.context(k).ok_or(Errno::EINVAL)?;
    let ns = view.live(k)?.ns.mount;
    Ok(Some(Rest::Mounts(Cursor {
        view,
        ns,
        form,
        after: None,
        next: None,
        open: Vec::new(),
        known: BTreeMap::new(),
        paths: 0,
        change: 0,
    })))
}

pub(super) fn mounts(k: &Kernel, view: View) -> Result<Option<Rest>, Errno> {
    cursor(k, view, Form::Mounts)
}

pub(super) fn mountinfo(k: &Kernel, view: View) -> Result<Option<Rest>, Errno> {
    cursor(k, view, Form::Info)
}

/// Devices and where they are mounted: there is no file system with statistics of its own.
pub(super) fn mountstats(k: &Kernel, view: View) -> Result<Option<Rest>, Errno> {
    cursor(k, view, Form::Stats)
}

impl Cursor {
    /// A read ends: mounts may be moved before the next.
    pub(super) fn end(&mut self) {
        (self.open, self.known, self.paths) = (Vec::new(), BTreeMap::new(), 0);
        self.next = None;
    }

    /// Bytes that are kept while a read goes on.
    pub(super) fn bytes(&self) -> u64 {
        const KNOWN_COST: u64 = 64;
        let open = (self.open.capacity() * size_of::<MountId>()) as u64;
        self.paths + self.known.len() as u64 * KNOWN_COST + open
    }

    /// Makes a line, goes a part of the way to that, or passes a mount that cannot be reached; `false` after
    /// the last.
    pub(super) fn step(&mut self, k: &mut Kernel, text: &mut Vec<u8>) -> bool {
        let Some(root) = self.view.context(k).map(|context| *context.root) else {
            return false;
        };
        k.env.steps.spend(1);
        // They have changed on the way, perhaps.
        let change = k.vfs.mounts.changes_of_all();
        if core::mem::replace(&mut self.change, change) != change {
            self.end();
        }
        let Some(id) = self.next else {
            let next = k.vfs.mounts.next_of(self.ns, self.after);
            self.next = next.map(|(_, id)| id);
            self.open.extend(self.next);
            return self.next.is_some();
        };
        if self.find(k, root) {
            return true;
        }
        self.after = Some(k.vfs.mounts.at(id).order);
        self.next = None;
        let path = match self.known.get(&id) {
            Some(At::Path(path)) => &path[..],
            _ => return true,
        };
        let at = escape(path);
        let mount = k.vfs.mounts.at(id);
        let line = match self.form {
            Form::Mounts => mounts_line(k, mount, &at),
            Form::Info => mountinfo_line(k, id, mount, &at),
            Form::Stats => mountstats_line(mount, &at),
        };
        k.env.steps.spend(8 + line.len() as u64 / 32);
        text.extend(line);
        true
    }

    /// Goes a part of the way up from a mount whose place is to be found, or down again; `false` if that is
    /// known.
    fn find(&mut self, k: &mut Kernel, root: PathRef) -> bool {
        const AT_ONCE: usize = 64;
        let is_root = |id: MountId| {
            let dentry = k.vfs.mounts.at(id).root;
            root == PathRef { mount: id, dentry }
        };
        let mut levels = 0;
        for _ in 0..AT_ONCE {
            let Some(&id) = self.open.last() else {
                break;
            };
            levels += 1;
            let on = k.vfs.mounts.at(id).on.filter(|_| !is_root(id));
            if let Some(on) = on.filter(|on| !self.known.contains_key(&on.mount)) {
                self.open.push(on.mount);
                continue;
            }
            self.open.pop();
            let at = match on {
                _ if is_root(id) => At::Path((&b"/"[..]).into()),
                None => At::Nowhere,
                Some(on) => match d_path::names_up(k, root, on) {
                    Ok(names) => {
                        levels += names.levels;
                        below(&self.known, on.mount, &names)
                    }
                    Err(_) => At::TooFar,
                },
            };
            if let At::Path(path) = &at {
                self.paths += path.len() as u64;
            }
            self.known.insert(id, at);
        }
        k.env.steps.spend(levels / 2);
        levels > 0
    }
}

/// The place of a mount that hangs on another one, `names` below the root of that or, if they lead there,
/// below the root directory.
fn below(known: &BTreeMap<MountId, At>, mount: MountId, names: &NamesUp) -> At {
    let base = match names.end {
        UpTo::Root => None,
        UpTo::Mount => match known.get(&mount) {
            Some(At::Path(base)) if names.text.is_empty() => return At::Path(base.clone()),
            Some(At::Path(base)) => Some(base),
            Some(At::TooFar) => return At::TooFar,
            _ => return At::Nowhere,
        },
        UpTo::Lost => return At::Nowhere,
    };
    let base = base.map_or(&b"/"[..], |base| base);
    let base = base.strip_suffix(b"/").unwrap_or(base);
    match [base, &names.text].concat() {
        path if path.is_empty() => At::Path((&b"/"[..]).into()),
        path if path.len() > PATH_MAX => At::TooFar,
        path => At::Path(path.into()),
    }
}

fn mounts_line(k: &Kernel, mount: &Mount, at: &[u8]) -> Vec<u8> {
    let mut text = escape(&mount.source);
    text.push(b' ');
    text.extend_from_slice(at);
    let read_only = inode::is_read_only(k, mount.fs);
    let mut flags = mount.flags;
    flags.set(
        MountFlags::READ_ONLY,
        flags.contains(MountFlags::READ_ONLY) || read_only,
    );
    text.extend_from_slice(format!(" {} {}", mount.fs_type, options(flags)).as_bytes());
    text.extend_from_slice(&own_options(k, mount));
    text.extend_from_slice(b" 0 0\n");
    text
}

fn mountinfo_line(k: &Kernel, id: MountId, mount: &Mount, at: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let parent = mount.on.map_or(id, |on| on.mount);
    let head = format!("{} {} 0:{} ", id.number(), parent.number(), mount.fs.0 + 1);
    text.extend_from_slice(head.as_bytes());
    let root = d_path::path_in_filesystem(k, mount.root);
    text.extend_from_slice(&escape(&root.unwrap_or_else(|_| TOO_LONG.to_vec())));
    text.push(b' ');
    text.extend_from_slice(at);
    let mut middle = format!(" {}", options(mount.flags));
    if let Some(group) = mount.peers {
        middle += &format!(" shared:{group}");
    }
    if let Some(group) = mount.master {
        middle += &format!(" master:{group}");
    }
    if mount.unbindable {
        middle += " unbindable";
    }
    middle += &format!(" - {} ", mount.fs_type);
    text.extend_from_slice(middle.as_bytes());
    text.extend_from_slice(&escape(&mount.source));
    text.push(b' ');
    text.extend_from_slice(&super_options(k, mount));
    text.push(b'\n');
    text
}

fn mountstats_line(mount: &Mount, at: &[u8]) -> Vec<u8> {
    let mut text = b"device ".to_vec();
    text.extend_from_slice(&escape(&mount.source));
    text.extend_from_slice(b" mounted on ");
    text.extend_from_slice(at);
    text.extend_from_slice(format!(" with fstype {}\n", mount.fs_type).as_bytes());
    text
}
