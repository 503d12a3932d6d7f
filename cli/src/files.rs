//! Files that varve writes beside images: logs and recordings, by names that other users may try to lead
//! elsewhere.
//!
//! A new file is made with `O_EXCL`, for its owner alone. One that is there is taken as it is where nobody
//! else can put anything under that name. In a directory where others can (`/tmp`, another user's home), a
//! symbolic link is not followed and the file must be a regular one of one's own with no other name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fcntl_getfl, fcntl_setfl, fstat, openat};
use rustix::io::Errno;

use crate::text;

/// Only the owner may read what a program was given and did.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens a log that lines are appended to, or makes it.
///
/// # Errors
/// The file cannot be made or opened, or it is somebody else's trap; the error names it.
pub(crate) fn append(path: &Path) -> Result<File> {
    open(path, OFlags::APPEND).with_context(|| text::path(path).to_string())
}

/// Makes a file for secrets anew. What was in one of one's own is gone, and only the owner can read it from
/// now on.
///
/// # Errors
/// As [`append`].
pub(crate) fn private(path: &Path) -> Result<File> {
    let renew = || -> io::Result<File> {
        let file = open(path, OFlags::empty())?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            fchmod(&file, MODE)?;
            file.set_len(0)?;
        }
        Ok(file)
    };
    renew().with_context(|| text::path(path).to_string())
}

/// The directory of a path, and the name in it.
fn split(path: &Path) -> io::Result<(PathBuf, OsString)> {
    let bytes = path.as_os_str().as_bytes();
    let (dir, name) = match bytes.iter().rposition(|&byte| byte == b'/') {
        Some(0) => (&b"/"[..], &bytes[1..]),
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&b"."[..], bytes),
    };
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::ISDIR.into());
    }
    Ok((
        OsStr::from_bytes(dir).into(),
        OsStr::from_bytes(name).into(),
    ))
}

/// Whether only root and the caller can put names into a directory.
fn is_ours(dir: &OwnedFd) -> io::Result<bool> {
    let stat = fstat(dir)?;
    let own = rustix::process::geteuid().as_raw();
    Ok((stat.st_uid == 0 || stat.st_uid == own) && stat.st_mode & 0o022 == 0)
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, dir, flags, Mode::empty())?)
}

/// Whether only root and the caller can put something under this name.
///
/// # Errors
/// Its directory cannot be looked at.
pub(crate) fn is_in_own_dir(path: &Path) -> io::Result<bool> {
    let (dir, _) = split(path)?;
    is_ours(&open_dir(&dir)?)
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let (dir, name) = split(path)?;
    let dir = open_dir(&dir)?;
    let flags = flags | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    match openat(&dir, &name, new, MODE) {
        Ok(file) => return Ok(file.into()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    if is_ours(&dir)? {
        // A link to a file that is not there yet is one of one's own, too.
        return Ok(openat(&dir, &name, flags | OFlags::CREATE, MODE)?.into());
    }
    // A FIFO must not make this wait for whoever reads it.
    let file = match openat(
        &dir,
        &name,
        flags | OFlags::NOFOLLOW | OFlags::NONBLOCK,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(Errno::LOOP) => {
            return Err(io::Error::other(
                "a symbolic link in a directory where others can make them is not followed; name another file",
            ));
        }
        Err(errno) => return Err(errno.into()),
    };
    let stat = fstat(&file)?;
    let own = stat.st_uid == rustix::process::geteuid().as_raw();
    if !FileType::from_raw_mode(stat.st_mode).is_file() || !own || stat.st_nlink != 1 {
        return Err(io::Error::other(
            "is not a regular file of one's own, in a directory where others can make files; name another one",
        ));
    }
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::{Read, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn logs_are_ones_own_and_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), "kept\n").unwrap();
        symlink("victim", at("link")).unwrap();
        symlink("made-through-the-link", at("dangling")).unwrap();
        fs::hard_link(at("victim"), at("other-name")).unwrap();
        for shared in [0o1777, 0o775] {
            fs::set_permissions(dir.path(), Permissions::from_mode(shared)).unwrap();
            for name in ["link", "dangling", "other-name"] {
                assert!(
                    append(&at(name)).is_err() && private(&at(name)).is_err(),
                    "{name}"
                );
            }
            assert_eq!(fs::read_to_string(at("victim")).unwrap(), "kept\n");
            assert!(!at("made-through-the-link").exists());
            append(&at("log")).unwrap().write_all(b"line\n").unwrap();
            assert_eq!(mode(&at("log")), 0o600);
        }
        assert_eq!(fs::read_to_string(at("log")).unwrap(), "line\nline\n");
        // A FIFO that nobody reads is an error, not a wait.
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, MODE, 0).unwrap();
        assert!(append(&at("fifo")).is_err());

        // Where nobody else can make names, links are one's own.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(at("other-name")).unwrap();
        append(&at("link")).unwrap().write_all(b"more\n").unwrap();
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "kept\nmore\n");
        append(&at("dangling")).unwrap();
        assert_eq!(mode(&at("made-through-the-link")), 0o600);
        fs::set_permissions(at("victim"), Permissions::from_mode(0o644)).unwrap();
        private(&at("victim"))
            .unwrap()
            .write_all(b"secret")
            .unwrap();
        assert_eq!(
            (
                fs::read_to_string(at("victim")).unwrap().as_str(),
                mode(&at("victim"))
            ),
            ("secret", 0o600)
        );
        let (mut read, write) = io::pipe().unwrap();
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&write));
        append(Path::new(&name))
            .unwrap()
            .write_all(b"through")
            .unwrap();
        let mut seen = [0; 7];
        read.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"through");
    }
}
