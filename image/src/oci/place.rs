//! Files of a directory that is held open, so that what was looked at is what is used: regular files only,
//! nothing through a link that somebody else may have put there, and never more bytes than are expected.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// Opens a directory by its path, which the caller named: a link is followed.
pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory in a directory; a link is none.
pub(super) fn sub_dir(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(errno) => {
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => Err(io::Error::other(LINK)),
                _ => Err(errno.into()),
            }
        }
    }
}

/// Why a link is refused.
const LINK: &str = "is a symbolic link, which is not followed here";
const IRREGULAR: &str = "is not a regular file";

/// Opens a regular file for reading. A device is not even opened, and nothing waits for a writer of a FIFO.
pub(super) fn open_file(dir: impl AsFd, name: impl AsRef<Path>, follow: bool) -> io::Result<File> {
    let name = name.as_ref();
    let (at, more) = match follow {
        true => (AtFlags::empty(), OFlags::empty()),
        false => (AtFlags::SYMLINK_NOFOLLOW, OFlags::NOFOLLOW),
    };
    let stat = rustix::fs::statat(&dir, name, at)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(io::Error::other(LINK)),
        _ => return Err(io::Error::other(IRREGULAR)),
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let file = File::from(rustix::fs::openat(&dir, name, flags, Mode::empty())?);
    // It may be another one by now.
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(IRREGULAR)),
    }
}

/// The whole of a small file; an error if it is longer than `most` bytes, whatever its size was said to be.
pub(super) fn read_small(file: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!(
            "is longer than {most} bytes, the most for such a file"
        ))),
        false => Ok(bytes),
    }
}

/// Puts the names of a directory on the disk.
pub(super) fn sync_dir(dir: impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    match rustix::fs::fsync(dir) {
        // A file system that knows no such thing.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
