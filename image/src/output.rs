//! The image file while it is made: nameless until it is whole, then moved over its name in one step.
//!
//! `O_TMPFILE` leaves nothing behind however the build ends. File systems without it get a hidden name beside the output, which
//! [`Output`] removes when dropped and [`discard_unfinished`] on a signal.

use crate::BuildError;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Temporary names that exist now; only the fallback needs them.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what unfinished builds of this process have left in the file system, for use before exiting on a signal.
///
/// Takes a lock: call it from a thread, not from a signal handler.
pub fn discard_unfinished() {
    for path in UNFINISHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain(..)
    {
        let _ = std::fs::remove_file(path);
    }
}

/// Device and inode number of a file of the host.
pub(crate) type FileId = (u64, u64);

/// A file under construction.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    path: PathBuf,
    /// The name it has now, where the file system cannot do without.
    named: Option<PathBuf>,
}

impl Output {
    /// Makes an empty, nameless file in the directory of `path`; an existing file at `path` stays until [`Self::commit`].
    pub(crate) fn create(path: &Path) -> Result<Self, BuildError> {
        let fail = |error: io::Error| BuildError::output(path, error);
        if path.file_name().is_none() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        if let Ok(meta) = std::fs::symlink_metadata(path) {
            let kind = meta.file_type();
            if kind.is_dir() {
                return Err(fail(rustix::io::Errno::ISDIR.into()));
            }
            if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket()
            {
                return Err(fail(io::Error::other("exists and is not a regular file")));
            }
        }
        match rustix::fs::open(directory_of(path), FLAGS | OFlags::TMPFILE, MODE) {
            Ok(fd) => {
                return Ok(Self {
                    file: fd.into(),
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
        Self::create_named(path).map_err(|e| fail(e.into()))
    }

    /// For file systems where every file has a name.
    fn create_named(path: &Path) -> rustix::io::Result<Self> {
        for attempt in 0..MAX_ATTEMPTS {
            let name = temporary_name(path, attempt);
            match rustix::fs::open(&name, FLAGS | OFlags::CREATE | OFlags::EXCL, MODE) {
                Ok(fd) => {
                    remember(&name);
                    return Ok(Self {
                        file: fd.into(),
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

    /// The same directory and name once more, to move the data into another order.
    pub(crate) fn sibling(&self) -> Result<Self, BuildError> {
        Self::create(&self.path)
    }

    /// The files that must not be taken for sources: the one being written and the one it will replace.
    pub(crate) fn identities(&self) -> Vec<FileId> {
        let own = self.file.metadata().ok();
        let old = std::fs::symlink_metadata(&self.path).ok();
        own.iter().chain(&old).map(|m| (m.dev(), m.ino())).collect()
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

    /// As [`Self::commit`], under another name of the same directory.
    pub(crate) fn commit_as(mut self, path: &Path) -> Result<(), BuildError> {
        self.path = path.to_owned();
        self.commit()
    }

    /// Gives the finished file its name and mode 0444, replacing what was there.
    pub(crate) fn commit(mut self) -> Result<(), BuildError> {
        let path = self.path.clone();
        self.publish()
            .map_err(|errno| BuildError::output(&path, errno))
    }

    fn publish(&mut self) -> rustix::io::Result<()> {
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(0o444))?;
        if self.named.is_none() {
            match self.link_to(&self.path) {
                Err(rustix::io::Errno::EXIST) => {}
                done => return done,
            }
            let mut attempt = 0;
            loop {
                let name = temporary_name(&self.path, attempt);
                match self.link_to(&name) {
                    Ok(()) => {
                        remember(&name);
                        self.named = Some(name);
                        break;
                    }
                    Err(rustix::io::Errno::EXIST) if attempt + 1 < MAX_ATTEMPTS => attempt += 1,
                    Err(errno) => return Err(errno),
                }
            }
        }
        if let Some(name) = &self.named {
            rustix::fs::rename(name, &self.path)?;
            forget(name);
            self.named = None;
        }
        Ok(())
    }

    /// Links through /proc, which unlike `AT_EMPTY_PATH` needs no capability.
    fn link_to(&self, name: &Path) -> rustix::io::Result<()> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match rustix::fs::linkat(CWD, own.as_str(), CWD, name, AtFlags::SYMLINK_FOLLOW) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::XDEV) => {
                rustix::fs::linkat(&self.file, c"", CWD, name, AtFlags::EMPTY_PATH)
            }
            done => done,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(name) = self.named.take() {
            let _ = std::fs::remove_file(&name);
            forget(&name);
        }
    }
}

/// Read as well as written: equal files are compared with what is stored.
const FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Names tried before giving up on a directory full of left-overs.
const MAX_ATTEMPTS: u32 = 100;

fn remember(name: &Path) {
    UNFINISHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(name.to_owned());
}

fn forget(name: &Path) {
    UNFINISHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|n| n != name);
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn temporary_name(path: &Path, attempt: u32) -> PathBuf {
    let mut name = OsString::from(".");
    // A name near NAME_MAX leaves no room for the suffix.
    let base = path.file_name().unwrap_or_default();
    if base.len() < 200 {
        name.push(base);
    }
    name.push(format!(".{}.{attempt}", std::process::id()));
    directory_of(path).join(name)
}

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
        drop(Output::create_named(&path).unwrap());
        assert!(names(temp.path()).is_empty());
        for content in [b"first", b"later"] {
            let output = Output::create_named(&path).unwrap();
            output.write_at(0, content).unwrap();
            assert_ne!(names(temp.path()).len(), 0);
            output.commit().unwrap();
            assert_eq!(names(temp.path()), ["layer.img"]);
            assert_eq!(std::fs::read(&path).unwrap(), content);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
        }
        let output = Output::create_named(&path).unwrap();
        discard_unfinished();
        assert_eq!(names(temp.path()), ["layer.img"]);
        drop(output);
    }
}
