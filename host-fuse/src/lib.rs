//! A stack of image layers as a read-only FUSE mount.
//!
//! [`Mount`] mounts a [`Stack`] and serves it with several threads. The tree is the core's: nothing is
//! resolved here. As nothing in it ever changes, the kernel may keep all that it was told (entries,
//! attributes, contents, link targets, names that are not there) without end, and need not tell of opening
//! and closing. Inode numbers are those of the layer where there is one layer or a merged index.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::exit,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

mod nodes;
mod tree;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use varve_imgfs::{Images, Stack};

use tree::Tree;

/// What `/proc/mounts` shows as the type, behind `fuse.`.
const SUBTYPE: &str = "varve";

/// How to mount.
#[derive(Debug, Clone)]
pub struct Options {
    /// What `/proc/mounts` shows as the source.
    pub name: String,
    /// Other users than the one who mounts may look into it.
    pub allow_other: bool,
    /// Threads that answer the kernel, at least 1.
    pub threads: usize,
    /// Options of mount(8): `suid`, `dev`, `noexec` and their like.
    pub mount: Vec<String>,
}

/// The options for fusermount3.
fn asked_for(options: &Options) -> Vec<MountOption> {
    let mut list = vec![
        MountOption::FSName(options.name.clone()),
        MountOption::Subtype(SUBTYPE.into()),
        MountOption::RO,
        MountOption::DefaultPermissions,
    ];
    for option in &options.mount {
        list.push(match option.as_str() {
            "suid" => MountOption::Suid,
            "nosuid" => MountOption::NoSuid,
            "dev" => MountOption::Dev,
            "nodev" => MountOption::NoDev,
            "exec" => MountOption::Exec,
            "noexec" => MountOption::NoExec,
            "atime" => MountOption::Atime,
            "noatime" => MountOption::NoAtime,
            "ro" => continue,
            other => MountOption::CUSTOM(other.to_owned()),
        });
    }
    list
}

/// Mounts with mount(2), which needs `CAP_SYS_ADMIN`; gives the device that requests come from. Device files
/// and set-id bits mean nothing unless they are asked for: images are not trusted.
fn mount_directly(dir: &Path, options: &Options) -> Result<OwnedFd, Errno> {
    let mode = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open(c"/dev/fuse", mode, Mode::empty())?;
    let mut flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    for option in &options.mount {
        match option.as_str() {
            "suid" => flags.remove(MountFlags::NOSUID),
            "nosuid" => flags.insert(MountFlags::NOSUID),
            "dev" => flags.remove(MountFlags::NODEV),
            "nodev" => flags.insert(MountFlags::NODEV),
            "exec" => flags.remove(MountFlags::NOEXEC),
            "noexec" => flags.insert(MountFlags::NOEXEC),
            "atime" => flags.remove(MountFlags::NOATIME),
            "noatime" => flags.insert(MountFlags::NOATIME),
            "relatime" => flags.insert(MountFlags::RELATIME),
            "ro" => {}
            // The kernel refuses what it does not know.
            other => {
                data.push(',');
                data.push_str(other);
            }
        }
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let kind = format!("fuse.{SUBTYPE}");
    rustix::mount::mount(
        options.name.as_str(),
        dir,
        kind.as_str(),
        flags,
        Some(&*data),
    )?;
    Ok(device)
}

/// Where lines about damage go.
pub type Log = Box<dyn Fn(&str) + Send + Sync>;

/// A mount that is being served.
#[derive(Debug)]
pub struct Mount {
    guard: JoinHandle<io::Result<()>>,
}

impl Mount {
    /// Mounts a stack on a directory and serves it from then on.
    ///
    /// # Errors
    /// The mount is refused; the kernel has no FUSE.
    pub fn new(
        stack: Stack,
        images: Box<dyn Images + Send + Sync>,
        dir: &Path,
        options: &Options,
        log: Log,
    ) -> io::Result<Mount> {
        let mut config = Config::default();
        config.acl = match options.allow_other {
            true => SessionACL::All,
            false => SessionACL::Owner,
        };
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = options.threads > 1;
        let tree = Tree::new(stack, images, log);
        let session = match mount_directly(dir, options) {
            Ok(device) => {
                let session = Session::from_fd(tree, device, config.acl, config);
                session.inspect_err(|_| {
                    let _ = rustix::mount::unmount(dir, UnmountFlags::DETACH);
                })?
            }
            // The program fusermount3 does it for those who may not.
            Err(Errno::PERM | Errno::ACCESS) => {
                config.mount_options = asked_for(options);
                Session::new(tree, dir, &config)?
            }
            Err(errno) => return Err(errno.into()),
        };
        let guard = std::thread::Builder::new()
            .name("fuse".into())
            .spawn(move || session.run())?;
        Ok(Mount { guard })
    }

    /// Serves until the directory is unmounted.
    ///
    /// # Errors
    /// The kernel's device fails.
    pub fn join(self) -> io::Result<()> {
        match self.guard.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a thread of the mount panicked")),
        }
    }
}
