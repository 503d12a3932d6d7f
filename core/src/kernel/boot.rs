//! The mounts made at boot: the root, what every program expects (`/proc`, `/dev`, `/dev/shm`, `/sys`), and
//! what the configuration asks for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Kernel;
use crate::abi::raw::general::{S_IFCHR, S_IFDIR, S_IFLNK};
use crate::abi::{Errno, NAME_MAX};
use crate::boot::{BootConfig, BootError, Layer, Tree};
use crate::cred::ns::Set;
use crate::fs::filesystem::{Filesystem, FsId, InodeRef, NewNode, Time};
use crate::fs::inode;
use crate::fs::union::UnionFs;
use crate::fs::view::{ProcFs, SysFs};
use crate::port::Ports;
use crate::vfs::mount::place::{Own, Placing};
use crate::vfs::mount::{self, HeldPath, MountFlags, PathRef, get_path, put_path};
use crate::vfs::node;
use crate::vfs::perm::Who;
use crate::vfs::walk::{Flags, Walker};

/// Character devices in `/dev`: name, major and minor number, permissions.
const DEVICES: [(&[u8], u32, u32, u32); 7] = [
    (b"null", 1, 3, 0o666),
    (b"zero", 1, 5, 0o666),
    (b"full", 1, 7, 0o666),
    (b"random", 1, 8, 0o666),
    (b"urandom", 1, 9, 0o666),
    (b"tty", 5, 0, 0o666),
    (b"console", 5, 1, 0o620),
];

/// Symbolic links in `/dev`.
const LINKS: [(&[u8], &[u8]); 5] = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"core", b"/proc/kcore"),
];

/// Mounts everything. Mount points and the working directory of the first program are made where they are
/// missing, in a read-only tree in its memory only.
pub(crate) fn mount_all(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    config: &BootConfig,
) -> Result<(), BootError> {
    let mut boot = Boot {
        k,
        p,
        root: None,
        sealed: Vec::new(),
    };
    boot.mount_tree(b"/", b"overlay", &config.root, 0o755)?;

    let fs = boot.k.fs.add_filesystem(Filesystem::Proc(ProcFs {
        options: crate::fs::view::Options::DEFAULT,
        pids: Set::FIRST.pid,
    }));
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    boot.mount(b"/proc", fs, flags, b"proc", "proc")?;

    let dev = boot.tmpfs(0o755)?;
    boot.fill_dev(dev)
        .map_err(|errno| BootError::Config(format!("/dev: {}", errno.message())))?;
    boot.mount(b"/dev", dev, MountFlags::NOSUID, b"tmpfs", "tmpfs")?;

    let shm = boot.tmpfs(0o1777)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    boot.mount(b"/dev/shm", shm, flags, b"shm", "tmpfs")?;

    let flags = flags | MountFlags::READ_ONLY;
    let sys = boot.k.fs.add_filesystem(Filesystem::Sys(SysFs::Devices));
    boot.mount(b"/sys", sys, flags, b"sysfs", "sysfs")?;
    let groups = boot.k.fs.add_filesystem(Filesystem::Sys(SysFs::Cgroup));
    boot.mount(b"/sys/fs/cgroup", groups, flags, b"cgroup", "cgroup2")?;

    for mount in &config.mounts {
        boot.mount_tree(&mount.target, &mount.source, &mount.tree, mount.mode)?;
    }
    let cwd = boot.make_dirs(&config.cwd).map_err(|errno| {
        let cwd = text(&config.cwd);
        BootError::Config(format!("working directory {cwd}: {}", errno.message()))
    })?;
    put_path(boot.k, boot.p, cwd);
    boot.seal();
    Ok(())
}

struct Boot<'k, 'p> {
    k: &'k mut Kernel,
    p: &'k mut Ports<'p>,
    root: Option<PathRef>,
    /// File systems that become read-only when everything is mounted.
    sealed: Vec<FsId>,
}

impl Boot<'_, '_> {
    fn union(&mut self, tree: &Tree, mode: u32) -> Result<FsId, BootError> {
        let now = Time::from_nanos(self.k.env.now.real);
        let fs = UnionFs::new(self.p, tree, mode, now)?;
        Ok(self.k.fs.add_filesystem(Filesystem::Union(fs)))
    }

    fn tmpfs(&mut self, mode: u32) -> Result<FsId, BootError> {
        let tree = Tree {
            layers: Vec::new(),
            read_only: false,
            upper_limit: None,
            index: None,
        };
        self.union(&tree, mode)
    }

    fn mount_tree(
        &mut self,
        target: &[u8],
        source: &[u8],
        tree: &Tree,
        mode: u32,
    ) -> Result<(), BootError> {
        let fs = self.union(tree, mode)?;
        let fs_type = match tree.layers.as_slice() {
            [] => "tmpfs",
            [Layer::Image(_)] if tree.read_only => "erofs",
            _ => "overlay",
        };
        let mut flags = MountFlags::empty();
        if tree.read_only {
            flags |= MountFlags::READ_ONLY;
            self.sealed.push(fs);
        }
        self.mount(target, fs, flags, source, fs_type)
    }

    fn mount(
        &mut self,
        target: &[u8],
        fs: FsId,
        flags: MountFlags,
        source: &[u8],
        fs_type: &'static str,
    ) -> Result<(), BootError> {
        self.try_mount(target, fs, flags, source, fs_type)
            .map_err(|errno| {
                BootError::Config(format!("mount at {}: {}", text(target), errno.message()))
            })
    }

    fn try_mount(
        &mut self,
        target: &[u8],
        fs: FsId,
        flags: MountFlags,
        source: &[u8],
        fs_type: &'static str,
    ) -> Result<(), Errno> {
        let on = match self.root {
            Some(root) => {
                // A place to mount on is named as it is.
                if target.split(|&byte| byte == b'/').any(|name| name == b"..") {
                    return Err(Errno::EINVAL);
                }
                let on = self.make_dirs(target)?;
                if *on == root {
                    put_path(self.k, self.p, on);
                    return Err(Errno::EBUSY);
                }
                Some(on)
            }
            None => None,
        };
        let made = mount::make(self.k, self.p, fs, flags, source, fs_type)?;
        match on {
            Some(on) => {
                let own = Own::new(self.k, Set::FIRST.mount);
                let grafted = Placing::graft(made, *on, own).now(self.k, self.p);
                put_path(self.k, self.p, on);
                grafted
            }
            None => {
                mount::tree::become_root(self.k, made, Set::FIRST.mount);
                self.root = mount::root(self.k);
                Ok(())
            }
        }
    }

    /// The directory at an absolute path, made with all that leads to it where missing.
    fn make_dirs(&mut self, path: &[u8]) -> Result<HeldPath, Errno> {
        let root = self.root.ok_or(Errno::ENOENT)?;
        if path.first() != Some(&b'/') {
            return Err(Errno::EINVAL);
        }
        let mut at = get_path(self.k, root);
        for name in path.split(|&byte| byte == b'/') {
            if name.is_empty() || name == b"." {
                continue;
            }
            let next = self.make_dir(root, *at, name);
            put_path(self.k, self.p, at);
            at = next?;
        }
        Ok(at)
    }

    fn make_dir(&mut self, root: PathRef, at: PathRef, name: &[u8]) -> Result<HeldPath, Errno> {
        match name {
            // Above the root is the root.
            b".." => {
                let flags = Flags::DIRECTORY;
                return Walker::new(self.k, self.p, Who::Kernel, root, at, flags).resolve(at, name);
            }
            _ if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        // Looked up below the dentries first: there, a missing name would be remembered as missing.
        let dir = self.k.vfs.dentries.inode(at.dentry).ok_or(Errno::ENOENT)?;
        let ino = match node::lookup(self.k, self.p, &Who::Kernel, dir, name) {
            Err(Errno::ENOENT) => {
                let node = new(S_IFDIR | 0o755, 0, b"");
                inode::create(self.k, self.p, dir, name, &node)?
            }
            found => found?,
        };
        inode::forget(self.k, self.p, InodeRef { fs: dir.fs, ino });
        let flags = Flags::FOLLOW | Flags::DIRECTORY;
        Walker::new(self.k, self.p, Who::Kernel, root, at, flags).resolve(at, name)
    }

    fn fill_dev(&mut self, fs: FsId) -> Result<(), Errno> {
        let dir = InodeRef {
            fs,
            ino: inode::root(self.k, fs)?,
        };
        let devices = DEVICES.map(|(name, major, minor, mode)| {
            let rdev = major << 8 | minor; // both below 256
            (name, new(S_IFCHR | mode, rdev, b""))
        });
        let links = LINKS.map(|(name, target)| (name, new(S_IFLNK | 0o777, 0, target)));
        let pts = (&b"pts"[..], new(S_IFDIR | 0o755, 0, b""));
        for (name, node) in devices.into_iter().chain(links).chain([pts]) {
            let ino = inode::create(self.k, self.p, dir, name, &node)?;
            inode::forget(self.k, self.p, InodeRef { fs, ino });
        }
        Ok(())
    }

    fn seal(&mut self) {
        for &fs in &self.sealed {
            if let Filesystem::Union(union) = self.k.fs.filesystem_mut(fs) {
                union.seal();
            }
        }
    }
}

fn new(mode: u32, rdev: u32, target: &[u8]) -> NewNode<'_> {
    NewNode {
        mode,
        uid: 0,
        gid: 0,
        rdev,
        flags: 0,
        target,
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
