//! Files that varve makes for others, archives and pages: they appear under their name when they are whole.
//!
//! A name that leads to a regular file, or to nothing yet, gets a new file in one step. What is no regular
//! file (a pipe, a device, `/dev/stdout`, a process substitution of a shell) is written to as it is: never is
//! it replaced. In a directory where others can make names (`/tmp`), a symbolic link is replaced, not
//! followed, and what is neither a file nor one's own is refused.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::{files, text};

/// A place to write to, looked at and not touched.
pub(crate) struct Target {
    /// As it was named, for messages.
    path: PathBuf,
    to: To,
}

enum To {
    /// A name that gets a new file.
    Name(PathBuf),
    /// What is there takes the bytes.
    Through,
}

/// The file while it is made.
pub(crate) struct Whole {
    target: Target,
    made: Made,
}

enum Made {
    Beside(NamedTempFile),
    Through(File),
}

impl Target {
    /// Looks at what a path names.
    ///
    /// # Errors
    /// A directory; somebody else's pipe or device; what cannot be looked at.
    pub(crate) fn of(path: &Path) -> Result<Target> {
        let shown = || text::path(path).to_string();
        let to = Target::look(path).with_context(shown)?;
        let path = path.to_owned();
        Ok(Target { path, to })
    }

    fn look(path: &Path) -> io::Result<To> {
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let own = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            // The directory may be missing, too: that is told when the file is made.
            Err(error) if missing(&error) => return Ok(To::Name(path.into())),
            Err(error) => return Err(error),
        };
        let ours = files::is_in_own_dir(path)?;
        if own.is_symlink() && !ours {
            return Ok(To::Name(path.into()));
        }
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            // A link to nothing.
            Err(error) if missing(&error) => return Ok(To::Name(path.into())),
            Err(error) => return Err(error),
        };
        if meta.is_dir() {
            return Err(rustix::io::Errno::ISDIR.into());
        }
        if meta.is_file() {
            return Ok(To::Name(match own.is_symlink() {
                true => fs::canonicalize(path)?,
                false => path.into(),
            }));
        }
        if !ours && own.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(
                "is no regular file and somebody else's, in a directory where others can make files; name another one",
            ));
        }
        Ok(To::Through)
    }

    /// The name that gets a new file, links followed; `None` where something else is there.
    pub(crate) fn name(&self) -> Option<&Path> {
        match &self.to {
            To::Name(path) => Some(path),
            To::Through => None,
        }
    }

    /// A directory for what is needed on the way: that of the file, which is as large.
    pub(crate) fn near(&self) -> PathBuf {
        match &self.to {
            To::Name(path) => match path.parent() {
                Some(dir) if dir != Path::new("") => dir.to_owned(),
                _ => ".".into(),
            },
            To::Through => std::env::temp_dir(),
        }
    }

    /// Begins the file. A temporary name is in the directory `work`, by default beside the file.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub(crate) fn create(self, work: Option<&Path>) -> Result<Whole> {
        let made = match &self.to {
            To::Name(_) => {
                let near = self.near();
                NamedTempFile::new_in(work.unwrap_or(&near)).map(Made::Beside)
            }
            // Not made if it went since.
            To::Through => {
                let flags = rustix::fs::OFlags::NOCTTY.bits() as i32;
                let mut options = File::options();
                let opened = options.write(true).custom_flags(flags).open(&self.path);
                opened.map(Made::Through)
            }
        };
        let made = made.with_context(|| text::path(&self.path).to_string())?;
        Ok(Whole { target: self, made })
    }
}

impl Whole {
    /// Writes all of a small file.
    ///
    /// # Errors
    /// It cannot be written; then what was there before still is.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut whole = Target::of(path)?.create(None)?;
        let written = whole.file().write_all(bytes);
        written.with_context(|| text::path(path).to_string())?;
        whole.finish()
    }

    /// What bytes are written to.
    pub(crate) fn file(&mut self) -> &mut File {
        match &mut self.made {
            Made::Beside(file) => file.as_file_mut(),
            Made::Through(file) => file,
        }
    }

    /// Puts the file on the disk, then under its name, with the mode that the umask leaves.
    ///
    /// # Errors
    /// What fails of that; then what was there before still is.
    pub(crate) fn finish(self) -> Result<()> {
        let Whole { target, made } = self;
        let shown = || text::path(&target.path).to_string();
        let (Made::Beside(file), To::Name(path)) = (made, &target.to) else {
            return Ok(());
        };
        let mode = 0o666 & !varve_image::umask();
        let done = file
            .as_file()
            .set_permissions(Permissions::from_mode(mode))
            .and_then(|()| file.as_file().sync_all());
        done.with_context(shown)?;
        file.persist(path)
            .map_err(|e| e.error)
            .with_context(shown)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileTypeExt, symlink};

    use super::*;

    fn mode(dir: &Path, mode: u32) {
        fs::set_permissions(dir, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_no_file_is_written_to_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mode(dir.path(), 0o755);
        let kind = rustix::fs::FileType::Fifo;
        let owner = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), kind, owner, 0).unwrap();
        symlink("fifo", at("link")).unwrap();
        for name in ["fifo", "link"] {
            // Both ways, so that nobody has to wait for the other one.
            let mut reader = File::options()
                .read(true)
                .write(true)
                .open(at("fifo"))
                .unwrap();
            Whole::write(&at(name), b"whole").unwrap();
            let mut seen = [0; 5];
            reader.read_exact(&mut seen).unwrap();
            assert_eq!(&seen, b"whole");
            assert!(fs::metadata(at(name)).unwrap().file_type().is_fifo());
        }
        let (mut read, write) = io::pipe().unwrap();
        let name = format!("/proc/self/fd/{}", write.as_raw_fd());
        Whole::write(Path::new(&name), b"whole").unwrap();
        drop(write);
        let mut seen = Vec::new();
        read.read_to_end(&mut seen).unwrap();
        assert_eq!(seen, b"whole");
        let error = Whole::write(dir.path(), b"").unwrap_err();
        assert!(format!("{error:#}").contains("directory"), "{error:#}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_are_followed_only_where_nobody_else_can_make_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mode(dir.path(), 0o755);
        fs::write(at("file"), "old").unwrap();
        symlink("file", at("link")).unwrap();
        Whole::write(&at("link"), b"new").unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        mode(dir.path(), 0o1777);
        Whole::write(&at("link"), b"other").unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_file());
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
