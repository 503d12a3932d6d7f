//! Mount tables of `/proc/PID`: `mounts`, `mountinfo`, `mountstats` (proc(5)).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::process::{View, path_text};
use crate::Kernel;
use crate::abi::Errno;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::vfs::mount::MountFlags;
use crate::vfs::{MountId, PathRef};

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
    ] {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    text.push_str(",relatime");
    text
}

/// The mounts that hang somewhere, and where.
fn mounted(k: &Kernel, thread: ThreadId) -> Vec<(MountId, Vec<u8>)> {
    let shown = k
        .vfs
        .mounts
        .iter()
        .filter(|(_, mount)| mount.on.is_some() || mount.fs_type != "pipefs");
    shown
        .map(|(id, mount)| {
            (
                id,
                path_text(
                    k,
                    thread,
                    PathRef {
                        mount: id,
                        dentry: mount.root,
                    },
                ),
            )
        })
        .collect()
}

pub(super) fn mounts(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (id, at) in mounted(k, thread) {
        let mount = k.vfs.mounts.at(id);
        text.extend_from_slice(&escape(&mount.source));
        text.push(b' ');
        text.extend_from_slice(&escape(&at));
        text.extend_from_slice(
            format!(" {} {} 0 0\n", mount.fs_type, options(mount.flags)).as_bytes(),
        );
    }
    Ok(text)
}

pub(super) fn mountinfo(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (id, at) in mounted(k, thread) {
        let mount = k.vfs.mounts.at(id);
        let parent = mount.on.map_or(id, |on| on.mount);
        let head = format!(
            "{} {} 0:{} / ",
            id.number(),
            parent.number(),
            mount.fs.0 + 1
        );
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(&escape(&at));
        let middle = format!(" {} - {} ", options(mount.flags), mount.fs_type);
        text.extend_from_slice(middle.as_bytes());
        text.extend_from_slice(&escape(&mount.source));
        let end = if mount.flags.contains(MountFlags::READ_ONLY) {
            " ro\n"
        } else {
            " rw\n"
        };
        text.extend_from_slice(end.as_bytes());
    }
    Ok(text)
}

/// Devices and where they are mounted: there is no file system with statistics of its own.
pub(super) fn mountstats(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (id, at) in mounted(k, thread) {
        let mount = k.vfs.mounts.at(id);
        text.extend_from_slice(b"device ");
        text.extend_from_slice(&escape(&mount.source));
        text.extend_from_slice(b" mounted on ");
        text.extend_from_slice(&escape(&at));
        text.extend_from_slice(format!(" with fstype {}\n", mount.fs_type).as_bytes());
    }
    Ok(text)
}
