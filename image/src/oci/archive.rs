//! A tar archive that is read member by member in any order, for `docker save` and OCI archives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImageError;
use super::digest::{Stop, Stoppable};
use crate::source::decompress;

/// Most members an archive may have, and most bytes of all their names: what is kept in memory.
const MEMBERS_MAX: usize = 200_000;
const NAMES_MAX: usize = 64 << 20;
/// Most bytes of headers that are read for the table, long names among them, which are in memory one at a time.
const HEADERS_MAX: u64 = 256 << 20;
/// Symbolic links followed from one member to another.
const LINKS_MAX: usize = 8;

enum Member {
    Data { offset: u64, size: u64 },
    Link(String),
}

/// An archive with a table of its members.
pub(super) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    members: BTreeMap<String, Member>,
}

/// A part of a file as a stream.
pub(super) struct FilePart {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl FilePart {
    pub(super) fn new(file: Arc<File>, at: u64, size: u64) -> Self {
        Self {
            file,
            at,
            end: at.saturating_add(size),
        }
    }
}

impl Read for FilePart {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min((self.end - self.at).min(1 << 30) as usize);
        let len = self.file.read_at(&mut buf[..len], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// The file while its table is read: members are passed over, headers are bounded.
struct Headers<'a> {
    file: &'a File,
    left: u64,
}

impl Read for Headers<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buf)?;
        let left = self.left.checked_sub(len as u64);
        self.left = left.ok_or_else(|| {
            io::Error::other(format!("its headers are longer than {HEADERS_MAX} bytes"))
        })?;
        Ok(len)
    }
}

impl Seek for Headers<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The name without what means nothing in it; `None` for one that leads out of the archive.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

impl Archive {
    /// Opens an archive, which may be compressed; then it is unpacked to a nameless temporary file first.
    pub(super) fn open(path: &Path, stop: &Stop<'_>) -> Result<Self, ImageError> {
        let mut file = File::open(path).map_err(|e| ImageError::io("open", path, e))?;
        let mut head = [0; 4];
        let have = file
            .read(&mut head)
            .map_err(|e| ImageError::io("read", path, e))?;
        if have == 0 {
            return Err(ImageError::bad(path.display().to_string(), "is empty"));
        }
        let compressed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zX"];
        if compressed.iter().any(|magic| head.starts_with(magic)) {
            let mut plain = tempfile::tempfile()
                .map_err(|e| ImageError::io("write", std::env::temp_dir(), e))?;
            file.rewind().map_err(|e| ImageError::io("read", path, e))?;
            let mut source = decompress(&mut file).map_err(|e| ImageError::io("read", path, e))?;
            io::copy(&mut Stoppable::new(&mut source, stop), &mut plain)
                .map_err(|e| ImageError::io("unpack", path, e))?;
            drop(source);
            file = plain;
        }
        Self::of(file, path)
    }

    /// Reads the table of an uncompressed archive; `path` stands for it in messages.
    pub(super) fn of(mut file: File, path: &Path) -> Result<Self, ImageError> {
        let fail = |e| ImageError::io("read", path, e);
        let bad = |reason: &str| ImageError::bad(path.display().to_string(), reason);
        let len = file.seek(SeekFrom::End(0)).map_err(fail)?;
        file.rewind().map_err(fail)?;
        let mut members = BTreeMap::new();
        let mut names = 0;
        {
            let mut archive = tar::Archive::new(Headers {
                file: &file,
                left: HEADERS_MAX,
            });
            for entry in archive.entries_with_seek().map_err(fail)? {
                let entry =
                    entry.map_err(|e| bad(&format!("is no tar archive, or cut off: {e}")))?;
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let Some(name) = normal(&name) else { continue };
                let member = match entry.header().entry_type() {
                    kind if kind.is_symlink() || kind.is_hard_link() => {
                        let Some(link) = entry.link_name_bytes() else {
                            continue;
                        };
                        let link = String::from_utf8_lossy(&link).into_owned();
                        let base = match (kind.is_symlink(), name.rsplit_once('/')) {
                            (true, Some((dir, _))) => format!("{dir}/{link}"),
                            _ => link,
                        };
                        let Some(link) = normal(&base) else { continue };
                        Member::Link(link)
                    }
                    kind if kind.is_file() => {
                        let (offset, size) = (entry.raw_file_position(), entry.size());
                        if offset.checked_add(size).is_none_or(|end| end > len) {
                            return Err(bad(&format!("is cut off inside {name}")));
                        }
                        Member::Data { offset, size }
                    }
                    _ => continue,
                };
                names += name.len();
                members.insert(name, member);
                if members.len() > MEMBERS_MAX || names > NAMES_MAX {
                    return Err(bad("has too many members for an archive of images"));
                }
            }
        }
        Ok(Self {
            file: Arc::new(file),
            path: path.to_owned(),
            members,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member and its size.
    pub(super) fn member(&self, name: &str) -> Result<(FilePart, u64), ImageError> {
        let mut at = normal(name).unwrap_or_default();
        for _ in 0..LINKS_MAX {
            match self.members.get(&at) {
                Some(Member::Data { offset, size }) => {
                    return Ok((FilePart::new(self.file.clone(), *offset, *size), *size));
                }
                Some(Member::Link(link)) => at.clone_from(link),
                None => break,
            }
        }
        let what = format!("{} in {}", name, self.path.display());
        Err(ImageError::bad(what, "is not there"))
    }
}
