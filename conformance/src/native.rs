//! The same tree for native Linux: images that the kernel mounts under an overlayfs, with what a container
//! finds beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The merged tree as the kernel shows it. Unmounted when dropped.
pub struct Native {
    dir: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Native {
    /// Mounts images, lowest first, and a scratch directory over them, all in a directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(images: &[PathBuf], dir: &Path) -> nix::Result<Native> {
        let mut native = Native {
            dir: dir.join("merged"),
            mounts: Vec::new(),
        };
        let mut lower = Vec::new();
        for image in images {
            let at = image.with_extension("mnt");
            native.mount(image, &at, "erofs", MsFlags::MS_RDONLY, "")?;
            lower.push(at.display().to_string());
        }
        lower.reverse();
        let scratch = dir.join("scratch");
        native.mount(Path::new("tmpfs"), &scratch, "tmpfs", MsFlags::empty(), "")?;
        for name in ["upper", "work"] {
            fs::create_dir(scratch.join(name)).map_err(|_| nix::Error::EIO)?;
        }
        let data = format!(
            "lowerdir={},upperdir={}/upper,workdir={1}/work,redirect_dir=on,index=on",
            lower.join(":"),
            scratch.display(),
        );
        let merged = native.dir.clone();
        native.mount(
            Path::new("overlay"),
            &merged,
            "overlay",
            MsFlags::empty(),
            &data,
        )?;
        native.mount(
            Path::new("proc"),
            &merged.join("proc"),
            "proc",
            MsFlags::empty(),
            "",
        )?;
        let dev = merged.join("dev");
        native.mount(
            Path::new("tmpfs"),
            &dev,
            "tmpfs",
            MsFlags::empty(),
            "mode=755",
        )?;
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            fs::write(dev.join(name), "").map_err(|_| nix::Error::EIO)?;
            let device = Path::new("/dev").join(name);
            native.mount(&device, &dev.join(name), "", MsFlags::MS_BIND, "")?;
        }
        for (target, name) in [
            ("/proc/self/fd", "fd"),
            ("fd/0", "stdin"),
            ("fd/1", "stdout"),
            ("fd/2", "stderr"),
        ] {
            std::os::unix::fs::symlink(target, dev.join(name)).map_err(|_| nix::Error::EIO)?;
        }
        let (shm, sys) = (dev.join("shm"), merged.join("sys"));
        native.mount(
            Path::new("shm"),
            &shm,
            "tmpfs",
            MsFlags::empty(),
            "mode=1777",
        )?;
        native.mount(Path::new("sysfs"), &sys, "sysfs", MsFlags::MS_RDONLY, "")?;
        let tmp = merged.join("tmp");
        native.mount(
            Path::new("tmpfs"),
            &tmp,
            "tmpfs",
            MsFlags::empty(),
            "mode=1777",
        )?;
        Ok(native)
    }

    /// The root of the tree.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn mount(
        &mut self,
        source: &Path,
        at: &Path,
        kind: &str,
        flags: MsFlags,
        data: &str,
    ) -> nix::Result<()> {
        if !at.exists() {
            fs::create_dir_all(at).map_err(|_| nix::Error::EIO)?;
        }
        mount(Some(source), at, Some(kind), flags, Some(data))?;
        self.mounts.push(at.to_owned());
        Ok(())
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        for at in self.mounts.iter().rev() {
            if let Err(error) = umount2(at, MntFlags::MNT_DETACH) {
                eprintln!("{}: {error}", at.display());
            }
        }
    }
}

/// What `varve do` gives its programs.
pub fn environment(command: &mut Command) -> &mut Command {
    command.env_clear();
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.env("HOME", "/root").env("HOSTNAME", "debian")
}

/// The first lines in which two texts differ.
pub fn difference(native: &str, sandboxed: &str) -> String {
    let missing = |mark: &str, from: &str, other: &str| {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        let lines = from.lines().filter(|line| !other.contains(line)).take(12);
        lines
            .map(|line| format!("  {mark} {line}\n"))
            .collect::<String>()
    };
    let lines = missing("-", native, sandboxed) + &missing("+", sandboxed, native);
    if !lines.is_empty() || native == sandboxed {
        return lines;
    }
    let order = native.lines().zip(sandboxed.lines()).find(|(a, b)| a != b);
    format!("  the same lines in another order or number: {order:?}\n")
}
