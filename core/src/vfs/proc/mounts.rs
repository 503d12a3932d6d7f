//! Mount tables of `/proc/PID`: `mounts`, `mountinfo`, `mountstats` (proc(5)).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::process::View;
use super::{TOO_LONG, table};
use crate::Kernel;
use crate::abi::Errno;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::vfs::mount::{Mount, MountFlags};
use crate::vfs::{MountId, PathRef, inode, walk};

/// Text with blanks, tabs, newlines and backslashes in octal, as mount tables have it.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes())
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
    text.extend_from_slice(&mount.options);
    text
}

/// A line for each mount of a process's namespace that it can reach from its root directory by a path that programs can use.
fn lines(
    k: &Kernel,
    view: View,
    line: impl Fn(MountId, &Mount, Vec<u8>) -> Vec<u8>,
) -> Result<Vec<u8>, Errno> {
    let context = view.context(k).ok_or(Errno::EINVAL)?;
    let root = context.root;
    let ns = view.live(k)?.ns.mount;
    let all = k.vfs.mounts.of_namespace(ns).into_iter();
    table(all.filter_map(|id| {
        let mount = k.vfs.mounts.at(id);
        let dentry = mount.root;
        let at = walk::path_of(k, root, PathRef { mount: id, dentry }).ok()?;
        (!at.starts_with(b"(unreachable)")).then(|| line(id, mount, at))
    }))
}

pub(super) fn mounts(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let k = &*k;
    lines(k, view, |_, mount, at| {
        let mut text = escape(&mount.source);
        text.push(b' ');
        text.extend_from_slice(&escape(&at));
        let read_only = inode::is_read_only(k, mount.fs);
        let mut flags = mount.flags;
        flags.set(
            MountFlags::READ_ONLY,
            flags.contains(MountFlags::READ_ONLY) || read_only,
        );
        text.extend_from_slice(format!(" {} {}", mount.fs_type, options(flags)).as_bytes());
        text.extend_from_slice(&mount.options);
        text.extend_from_slice(b" 0 0\n");
        text
    })
}

pub(super) fn mountinfo(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let k = &*k;
    lines(k, view, |id, mount, at| {
        let mut text = Vec::new();
        let parent = mount.on.map_or(id, |on| on.mount);
        let head = format!("{} {} 0:{} ", id.number(), parent.number(), mount.fs.0 + 1);
        text.extend_from_slice(head.as_bytes());
        let root = walk::path_in_filesystem(k, mount.root);
        text.extend_from_slice(&escape(&root.unwrap_or_else(|_| TOO_LONG.to_vec())));
        text.push(b' ');
        text.extend_from_slice(&escape(&at));
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
    })
}

/// Devices and where they are mounted: there is no file system with statistics of its own.
pub(super) fn mountstats(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let k = &*k;
    lines(k, view, |_, mount, at| {
        let mut text = b"device ".to_vec();
        text.extend_from_slice(&escape(&mount.source));
        text.extend_from_slice(b" mounted on ");
        text.extend_from_slice(&escape(&at));
        text.extend_from_slice(format!(" with fstype {}\n", mount.fs_type).as_bytes());
        text
    })
}
