//! A tar archive that is read member by member in any order, for `docker save` and OCI archives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImageError;
use super::digest::{Stop, Stoppable};
use super::place::open_file;
use crate::limit::GROWTH_MAX;
use crate::source::decompress;

/// Most members an archive may have, and most bytes of all their names: what is kept in memory.
const MEMBERS_MAX: usize = 200_000;
const NAMES_MAX: usize = 64 << 20;
/// Most bytes of headers that are read for the table, long names among them, which are in memory one at a
/// time.
const HEADERS_MAX: u64 = 256 << 20;
/// Most bytes of data, holes left out, that a packed one may become in any case.
const DATA_MIN: u64 = 64 << 20;
/// Longest archive that is unpacked, holes included.
const LENGTH_MAX: u64 = 1 << 40;
/// Unpacked at once, and the unit in which holes are looked for.
const UNPACK: usize = 1 << 20;
const HOLE: usize = 64 << 10;
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

/// Unpacks an archive of so many bytes to a nameless file, long runs of zeros as holes. What is not one is
/// refused at its first block, and what grows too much when the limit is reached.
fn unpack(
    source: &mut dyn Read,
    packed: u64,
    path: &Path,
    data_max: u64,
    length_max: u64,
) -> Result<File, ImageError> {
    let bad = |reason: String| ImageError::bad(path.display().to_string(), reason);
    let fail = |e| ImageError::io("unpack", path, e);
    let temporary = |e| {
        ImageError::io(
            "write a temporary file for an archive in",
            std::env::temp_dir(),
            e,
        )
    };
    let plain = tempfile::tempfile().map_err(temporary)?;
    let mut buf = vec![0; UNPACK];
    let (mut at, mut data) = (0_u64, 0_u64);
    loop {
        let mut have = 0;
        while have < buf.len() {
            match source.read(&mut buf[have..]).map_err(fail)? {
                0 => break,
                len => have += len,
            }
        }
        if at == 0 && !begins_archive(&buf[..have]) {
            return Err(bad("is no tar archive when it is unpacked".into()));
        }
        for (number, part) in buf[..have].chunks(HOLE).enumerate() {
            if part.iter().any(|&byte| byte != 0) {
                data += part.len() as u64;
                if data > data_max {
                    return Err(bad(format!(
                        "unpacks to more than {data_max} bytes of data, the most for {packed} packed ones: allow more with --max-size SIZE, \
                         or unpack it first, if it is not meant to fill the disk"
                    )));
                }
                let at = at + (number * HOLE) as u64;
                plain.write_all_at(part, at).map_err(temporary)?;
            }
        }
        at += have as u64;
        if at > length_max {
            return Err(bad(format!(
                "unpacks to more than {length_max} bytes, the most for an archive"
            )));
        }
        if have < buf.len() {
            plain.set_len(at).map_err(temporary)?;
            return Ok(plain);
        }
    }
}

/// Whether bytes begin with the header of a tar archive.
fn begins_archive(bytes: &[u8]) -> bool {
    let Some(block) = bytes.first_chunk::<512>() else {
        return false;
    };
    let sum = block.iter().enumerate().map(|(at, &byte)| match at {
        148..156 => u32::from(b' '),
        _ => u32::from(byte),
    });
    let header = tar::Header::from_byte_slice(block);
    header.cksum().is_ok_and(|told| told == sum.sum::<u32>())
}

impl Archive {
    /// Opens an archive, which may be compressed; then it is unpacked to a nameless temporary file first.
    /// With `max_size` it may become so large, if that is more than is likely.
    pub(super) fn open(
        path: &Path,
        max_size: Option<u64>,
        stop: &Stop<'_>,
    ) -> Result<Self, ImageError> {
        let mut file =
            open_file(rustix::fs::CWD, path, true).map_err(|e| ImageError::io("open", path, e))?;
        let fail = |e| ImageError::io("read", path, e);
        let mut head = [0; 6];
        let have = file.read_at(&mut head, 0).map_err(fail)?;
        if have == 0 {
            return Err(ImageError::bad(path.display().to_string(), "is empty"));
        }
        let compressed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"];
        if compressed.iter().any(|magic| head.starts_with(magic)) {
            let packed = file.metadata().map_err(fail)?.len();
            let mut source = decompress(&mut file).map_err(fail)?;
            let mut source = Stoppable::new(&mut source, stop);
            let likely = packed.saturating_mul(GROWTH_MAX).max(DATA_MIN);
            let data_max = likely.max(max_size.unwrap_or_default());
            let plain = unpack(&mut source, packed, path, data_max, LENGTH_MAX)?;
            return Self::of(plain, path);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn archive(content: impl Read, size: u64) -> impl Read {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_cksum();
        io::Cursor::new(header.as_bytes().to_vec())
            .chain(content)
            .chain(io::repeat(0).take(1024))
    }

    fn unpacked(mut source: impl Read, packed: u64) -> Result<File, ImageError> {
        let data_max = (packed * GROWTH_MAX).max(4 << 20);
        unpack(
            &mut source,
            packed,
            Path::new("a.tar.zst"),
            data_max,
            64 << 20,
        )
    }

    #[test]
    fn zeros_are_holes_and_the_rest_is_bounded() {
        let size = 32 << 20;
        let file = unpacked(archive(io::repeat(0).take(size), size), 1000).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), 512 + size + 1024);
        assert!(meta.blocks() * 512 < 1 << 20);
        let text = unpacked(archive(io::repeat(7).take(size), size), 1000).unwrap_err();
        assert!(
            text.to_string().contains("more than 4194304 bytes of data"),
            "{text}"
        );
        unpacked(archive(io::repeat(7).take(size), size), 1 << 20).unwrap();
        let size = 128 << 20;
        let text = unpacked(archive(io::repeat(0).take(size), size), 1000).unwrap_err();
        assert!(
            text.to_string()
                .contains("more than 67108864 bytes, the most"),
            "{text}"
        );
        // What is no archive is not unpacked at all.
        let text = unpacked(io::repeat(0), 1000).unwrap_err();
        assert!(text.to_string().contains("is no tar archive"), "{text}");
    }
}
