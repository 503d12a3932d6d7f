//! The image file while it is made: nameless until it is whole, then moved over its name in one step.
//!
//! `O_TMPFILE` leaves nothing behind however the build ends. File systems without it get a hidden name beside
//! the output, which [`Output`] removes when dropped and [`discard_unfinished`] on a signal.

use crate::BuildError;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Temporary names that exist now; only the fallback needs them.
static UNFINISHED: Mutex<Vec<(Arc<OwnedFd>, OsString)>> = Mutex::new(Vec::new());

/// Removes what unfinished builds of this process have left in the file system, for use before exiting on a
/// signal.
///
/// Takes a lock: call it from a thread, not from a signal handler.
pub fn discard_unfinished() {
    for (dir, name) in UNFINISHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain(..)
    {
        let _ = rustix::fs::unlinkat(&dir, &name, AtFlags::empty());
    }
}

/// Device and inode number of a file of the host.
pub(crate) type FileId = (u64, u64);

/// A file under construction. Nobody else can open it: it has no name, or mode 0600.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    /// The directory that its name will be in; `None` for one that never gets a name.
    dir: Option<Arc<OwnedFd>>,
    /// What it will be called, and for messages.
    path: PathBuf,
    /// The name it has now, where the file system cannot do without.
    named: Option<OsString>,
}

impl Output {
    /// Makes an empty, nameless file in the directory of `path`; an existing file at `path` stays until
    /// [`Self::commit`].
    pub(crate) fn create(path: &Path) -> Result<Self, BuildError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(directory_of(path), flags, Mode::empty())
            .map_err(|errno| BuildError::output(path, errno))?;
        Self::create_in(&Arc::new(dir), path)
    }

    /// As [`Self::create`], in an opened directory; of `path` the last component counts, the rest is for
    /// messages.
    pub(crate) fn create_in(dir: &Arc<OwnedFd>, path: &Path) -> Result<Self, BuildError> {
        let fail = |error: io::Error| BuildError::output(path, error);
        let Some(name) = path.file_name() else {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        };
        if let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile | FileType::Symlink => {}
                FileType::Directory => return Err(fail(rustix::io::Errno::ISDIR.into())),
                _ => return Err(fail(io::Error::other("exists and is not a regular file"))),
            }
        }
        match rustix::fs::openat(dir, c".", FLAGS | OFlags::TMPFILE, MODE) {
            Ok(fd) => {
                return Ok(Self {
                    file: fd.into(),
                    dir: Some(dir.clone()),
                    path: path.to_owned(),
                    named: None,
                });
            }
            // EISDIR: a kernel or file system that takes the flag for O_DIRECTORY.
            Err(
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL,
            ) => {}
            Err(errno) => return Err(fail(errno.into())),
        }
        Self::create_named(dir, path).map_err(|e| fail(e.into()))
    }

    /// For file systems where every file has a name.
    fn create_named(dir: &Arc<OwnedFd>, path: &Path) -> rustix::io::Result<Self> {
        for attempt in 0..MAX_ATTEMPTS {
            let name = temporary_name(path, attempt);
            match rustix::fs::openat(dir, &name, FLAGS | OFlags::CREATE | OFlags::EXCL, MODE) {
                Ok(fd) => {
                    remember(dir, &name);
                    return Ok(Self {
                        file: fd.into(),
                        dir: Some(dir.clone()),
                        path: path.to_owned(),
                        named: Some(name),
                    });
                }
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(rustix::io::Errno::EXIST)
    }

    /// A file in the directory `dir` that never gets a name.
    pub(crate) fn nameless(dir: &Path) -> Result<Self, BuildError> {
        let file = tempfile::tempfile_in(dir)
            .and_then(|file| {
                rustix::fs::fchmod(&file, MODE)?;
                Ok(file)
            })
            .map_err(|e| BuildError::output(dir, e))?;
        Ok(Self {
            file,
            dir: None,
            path: dir.to_owned(),
            named: None,
        })
    }

    /// The same directory and name once more, to move the data into another order.
    pub(crate) fn sibling(&self) -> Result<Self, BuildError> {
        match &self.dir {
            Some(dir) => Self::create_in(dir, &self.path),
            None => Self::nameless(&self.path),
        }
    }

    /// The files that must not be taken for sources: the one being written and the one it will replace.
    pub(crate) fn identities(&self) -> Vec<FileId> {
        let own = self.file.metadata().ok();
        let own = own.map(|meta| (meta.dev(), meta.ino()));
        let old = self.dir.as_ref().and_then(|dir| {
            let name = self.path.file_name()?;
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()
        });
        own.into_iter()
            .chain(old.map(|stat| (stat.st_dev, stat.st_ino)))
            .collect()
    }

    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), BuildError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| BuildError::output(&self.path, e))
    }

    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), BuildError> {
        // Holes at the end have no length yet.
        let have = self.read_some(offset, bytes)?;
        bytes[have..].fill(0);
        Ok(())
    }

    /// Copies `len` bytes from `from` at `source` to `target`, holes staying holes.
    pub(crate) fn copy_from(
        &self,
        from: &Self,
        source: u64,
        target: u64,
        len: u64,
        buf: &mut [u8],
    ) -> Result<(), BuildError> {
        let mut at = 0;
        while let Some(data) = from.next_data(source + at) {
            at = at.max(data.saturating_sub(source));
            if at >= len {
                break;
            }
            let part = (len - at).min(buf.len() as u64) as usize;
            // The last file may end in a hole that was never written.
            let have = from.read_some(source + at, &mut buf[..part])?;
            self.write_at(target + at, &buf[..have])?;
            if have < part {
                break;
            }
            at += part as u64;
        }
        Ok(())
    }

    fn read_some(&self, offset: u64, buf: &mut [u8]) -> Result<usize, BuildError> {
        let mut have = 0;
        while have < buf.len() {
            match self.file.read_at(&mut buf[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BuildError::output(&self.path, e)),
            }
        }
        Ok(have)
    }

    /// An error that names the output.
    pub(crate) fn failure(&self, reason: &str) -> BuildError {
        BuildError::output(&self.path, io::Error::other(reason.to_owned()))
    }

    /// Sets the length; what lies beyond is forgotten, what is new reads as zeros.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), BuildError> {
        self.file
            .set_len(len)
            .map_err(|e| BuildError::output(&self.path, e))
    }

    /// The first byte at or after `offset` that may hold data; `None` if only a hole follows.
    pub(crate) fn next_data(&self, offset: u64) -> Option<u64> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => Some(data),
            Err(rustix::io::Errno::NXIO) => None,
            Err(_) => Some(offset),
        }
    }

    /// The file itself; its length is that of what was written.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The file, which has no name.
    pub(crate) fn into_file(self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// As [`Self::commit`], under another name of the same directory; gives the file.
    pub(crate) fn commit_as(mut self, path: &Path) -> Result<File, BuildError> {
        self.path = path.to_owned();
        self.commit()
    }

    /// Puts what was written on the disk, then gives the finished file its name, replacing what was there.
    /// Its mode is 0444 less what the umask takes away.
    pub(crate) fn commit(mut self) -> Result<File, BuildError> {
        let path = self.path.clone();
        self.publish()
            .and_then(|()| self.file.try_clone())
            .map_err(|error| BuildError::output(&path, error))
    }

    fn publish(&mut self) -> io::Result<()> {
        let Some(dir) = self.dir.clone() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let target = self.path.file_name().unwrap_or_default().to_owned();
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(0o444 & !umask()))?;
        // A name that outlives a power cut without its content would be worse than none.
        self.file.sync_all()?;
        if self.named.is_none() {
            match self.link_to(&dir, &target) {
                Err(rustix::io::Errno::EXIST) => {}
                done => return Ok(done?),
            }
            let mut attempt = 0;
            loop {
                let name = temporary_name(&self.path, attempt);
                match self.link_to(&dir, &name) {
                    Ok(()) => {
                        remember(&dir, &name);
                        self.named = Some(name);
                        break;
                    }
                    Err(rustix::io::Errno::EXIST) if attempt + 1 < MAX_ATTEMPTS => attempt += 1,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        if let Some(name) = &self.named {
            rustix::fs::renameat(&dir, name, &dir, &target)?;
            forget(name);
            self.named = None;
        }
        Ok(())
    }

    /// Links through /proc, which unlike `AT_EMPTY_PATH` needs no capability.
    fn link_to(&self, dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match rustix::fs::linkat(CWD, own.as_str(), dir, name, AtFlags::SYMLINK_FOLLOW) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::XDEV) => {
                rustix::fs::linkat(&self.file, c"", dir, name, AtFlags::EMPTY_PATH)
            }
            done => done,
        }
    }
}

/// The permissions that new files of this process do not get. Asking does not change it: it belongs to all
/// threads.
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .unwrap_or(0o077)
}

impl Drop for Output {
    fn drop(&mut self) {
        if let (Some(name), Some(dir)) = (self.named.take(), &self.dir) {
            let _ = rustix::fs::unlinkat(dir, &name, AtFlags::empty());
            forget(&name);
        }
    }
}

/// Read as well as written: equal files are compared with what is stored.
const FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Names tried before giving up on a directory full of left-overs.
const MAX_ATTEMPTS: u32 = 100;

fn remember(dir: &Arc<OwnedFd>, name: &OsStr) {
    UNFINISHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((dir.clone(), name.to_owned()));
}

fn forget(name: &OsStr) {
    UNFINISHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|(_, other)| other != name);
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A hidden name: `.new-`, what it is for, and whose it is.
fn temporary_name(path: &Path, attempt: u32) -> OsString {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let mut name = OsString::from(TEMPORARY);
    // A name near NAME_MAX leaves no room for the suffix.
    let base = path.file_name().unwrap_or_default();
    if base.len() < 200 {
        name.push(base);
    }
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    name.push(format!(".{}.{number}.{attempt}", std::process::id()));
    name
}

/// How temporary names begin.
pub(crate) const TEMPORARY: &str = ".new-";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<OsString> {
        std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect()
    }

    #[test]
    fn a_named_file_is_moved_or_removed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("layer.img");
        let dir = Arc::new(OwnedFd::from(File::open(temp.path()).unwrap()));
        drop(Output::create_named(&dir, &path).unwrap());
        assert!(names(temp.path()).is_empty());
        for content in [b"first", b"later"] {
            let output = Output::create_named(&dir, &path).unwrap();
            output.write_at(0, content).unwrap();
            assert_ne!(names(temp.path()).len(), 0);
            output.commit().unwrap();
            assert_eq!(names(temp.path()), ["layer.img"]);
            assert_eq!(std::fs::read(&path).unwrap(), content);
            assert_eq!(
                path.metadata().unwrap().permissions().mode() & 0o777,
                0o444 & !umask()
            );
        }
        let output = Output::create_named(&dir, &path).unwrap();
        discard_unfinished();
        assert_eq!(names(temp.path()), ["layer.img"]);
        drop(output);
    }
}
