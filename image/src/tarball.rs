//! Tar archives as they are written: ustar headers, with pax records for what these cannot say.
//!
//! The same members give the same bytes. Files with holes are in the form of GNU tar's sparse format 1.0,
//! which GNU tar, bsdtar and Go's archive/tar read.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use tar::{EntryType, Header};
use varve_imgfs::{Errno, Extent, Images, Source};

use crate::tree::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG};

/// Unit in which zeros of a file are looked for: so aligned and so long they become holes.
const GRANULE: usize = 64 << 10;
/// Files up to this size have no holes worth a map.
const DENSE_MAX: u64 = 2 * GRANULE as u64;
const BLOCK: u64 = 512;

/// Why a file did not get through.
#[derive(Debug)]
pub enum CopyError {
    /// It cannot be read.
    Read(Errno),
    /// Its bytes cannot be written.
    Write(io::Error),
}

/// Takes a run of a file: its offset, and its bytes or how many zeros it is.
pub type EachRun<'a> = dyn FnMut(u64, Result<&[u8], u64>) -> io::Result<()> + 'a;

/// Gives the bytes of a file in runs, from the mapping where there is one. `extent` tells where the bytes
/// from an offset on are.
///
/// # Errors
/// What cannot be read; what `each` answers.
pub fn runs(
    images: &dyn Images,
    extent: &mut dyn FnMut(u64) -> Result<Option<Extent>, Errno>,
    each: &mut EachRun<'_>,
) -> Result<(), CopyError> {
    /// Bytes at a time.
    const PART: u64 = 1 << 20;
    let mut at = 0;
    while let Some(extent) = extent(at).map_err(CopyError::Read)? {
        match extent.source {
            Source::Zero => {
                each(at, Err(extent.len)).map_err(CopyError::Write)?;
                at += extent.len;
            }
            Source::Image { image, offset } => {
                let len = extent.len.min(PART);
                let block = images.image(image).ok_or(CopyError::Read(Errno::EIO))?;
                let range = offset as usize..(offset + len) as usize;
                match block.slice() {
                    Some(slice) => {
                        let bytes = slice.get(range).ok_or(CopyError::Read(Errno::EIO))?;
                        each(at, Ok(bytes)).map_err(CopyError::Write)?;
                    }
                    None => {
                        let mut bytes = vec![0; len as usize];
                        block.read_at(offset, &mut bytes).map_err(CopyError::Read)?;
                        each(at, Ok(&bytes)).map_err(CopyError::Write)?;
                    }
                }
                at += len;
            }
        }
    }
    Ok(())
}

/// Writes so many zeros.
///
/// # Errors
/// What cannot be written.
pub fn zeros(out: &mut dyn Write, mut count: u64) -> io::Result<()> {
    let zeros = [0; GRANULE];
    while count > 0 {
        let len = count.min(zeros.len() as u64);
        out.write_all(&zeros[..len as usize])?;
        count -= len;
    }
    Ok(())
}

/// What a member of an archive is.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// Its name, from the root and without a slash at either end; empty for the root.
    pub path: &'a [u8],
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds above them.
    pub mtime: (i64, u32),
    /// Device number of a character or block device (`new_encode_dev`).
    pub rdev: u32,
    /// Target of a symbolic link.
    pub target: &'a [u8],
    /// Names and values of extended attributes.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl Member<'_> {
    /// The name in the archive: that of a directory ends with a slash.
    fn name(&self) -> Vec<u8> {
        match (self.path, self.mode & 0o170000 == u32::from(S_IFDIR)) {
            (b"", _) => b"./".to_vec(),
            (path, true) => [path, b"/"].concat(),
            (path, false) => path.to_vec(),
        }
    }
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// An archive that is being written.
#[derive(Debug)]
pub struct Tarball<W: Write> {
    out: W,
}

impl<W: Write> Tarball<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds what has no bytes: a directory, link, device, FIFO or empty file. Whether archives have such a
    /// thing at all: they have no sockets.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn member(&mut self, member: &Member<'_>) -> io::Result<bool> {
        let Some((mut header, mut records)) = begin(member)? else {
            return Ok(false);
        };
        if !member.target.is_empty() && header.set_link_name_literal(member.target).is_err() {
            records.push((b"linkpath".to_vec(), member.target.to_vec()));
        }
        self.header(&records, &mut header)?;
        Ok(true)
    }

    /// Adds another name of a member that was added as `first`.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn hard_link(&mut self, member: &Member<'_>, first: &[u8]) -> io::Result<()> {
        let bare = Member {
            xattrs: &[],
            mode: member.mode & 0o7777 | u32::from(S_IFREG),
            ..member.clone()
        };
        let Some((mut header, mut records)) = begin(&bare)? else {
            return Ok(());
        };
        header.set_entry_type(EntryType::Link);
        if header.set_link_name_literal(first).is_err() {
            records.push((b"linkpath".to_vec(), first.to_vec()));
        }
        self.header(&records, &mut header)
    }

    /// Adds a regular file of `size` bytes, which `runs` gives: once, or twice where it may have holes. One
    /// that cannot be read to its end keeps its place in the archive, filled with zeros.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn file(
        &mut self,
        member: &Member<'_>,
        size: u64,
        runs: &mut dyn FnMut(&mut EachRun<'_>) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let begun = begin(member).map_err(CopyError::Write)?;
        let Some((mut header, mut records)) = begun else {
            return Ok(());
        };
        let (map, data) = match size > DENSE_MAX {
            true => data_map(runs)?,
            false => (Vec::new(), size),
        };
        let sparse = data < size;
        let mut leading = Vec::new();
        if sparse {
            let mut ranges = map;
            // The map ends where the file ends.
            if ranges.last().is_none_or(|(at, len)| at + len < size) {
                ranges.push((size, 0));
            }
            leading.extend_from_slice(format!("{}\n", ranges.len()).as_bytes());
            for (at, len) in &ranges {
                leading.extend_from_slice(format!("{at}\n{len}\n").as_bytes());
            }
            leading.resize(leading.len().next_multiple_of(BLOCK as usize), 0);
            records.retain(|(key, _)| key != b"path");
            records.push((b"GNU.sparse.major".to_vec(), b"1".to_vec()));
            records.push((b"GNU.sparse.minor".to_vec(), b"0".to_vec()));
            records.push((b"GNU.sparse.name".to_vec(), member.name()));
            let real = size.to_string().into_bytes();
            records.push((b"GNU.sparse.realsize".to_vec(), real));
            header
                .set_path("GNUSparseFile.0/entry")
                .map_err(CopyError::Write)?;
        }
        let stored = leading.len() as u64 + data;
        match stored < 1 << 33 {
            true => header.set_size(stored),
            false => {
                header.set_size(0);
                records.push((b"size".to_vec(), stored.to_string().into_bytes()));
            }
        }
        self.header(&records, &mut header)
            .map_err(CopyError::Write)?;
        self.out.write_all(&leading).map_err(CopyError::Write)?;
        let out = &mut self.out;
        let mut left = data;
        // A file that changes meanwhile does not break the archive.
        let mut put = |out: &mut W, bytes: &[u8]| {
            let len = (bytes.len() as u64).min(left);
            left -= len;
            out.write_all(&bytes[..len as usize])
        };
        let copied = runs(&mut |_, run| match run {
            Ok(bytes) if sparse => bytes
                .chunks(GRANULE)
                .filter(|part| part.iter().any(|&byte| byte != 0))
                .try_for_each(|part| put(out, part)),
            Ok(bytes) => put(out, bytes),
            Err(_) if sparse => Ok(()),
            Err(mut count) => {
                let zeros = [0; GRANULE];
                while count > 0 {
                    let len = count.min(zeros.len() as u64);
                    put(out, &zeros[..len as usize])?;
                    count -= len;
                }
                Ok(())
            }
        });
        zeros(&mut self.out, left).map_err(CopyError::Write)?;
        self.pad(stored).map_err(CopyError::Write)?;
        copied
    }

    /// Ends the archive; gives what it was written to.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&mut self, records: &Records, header: &mut Header) -> io::Result<()> {
        if !records.is_empty() {
            let body = body(records);
            let mut extended = Header::new_ustar();
            extended.set_path("PaxHeaders/entry")?;
            extended.set_entry_type(EntryType::XHeader);
            extended.set_size(body.len() as u64);
            extended.set_mode(0o644);
            extended.set_mtime(0);
            extended.set_uid(0);
            extended.set_gid(0);
            extended.set_cksum();
            self.out.write_all(extended.as_bytes())?;
            self.out.write_all(&body)?;
            self.pad(body.len() as u64)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, len: u64) -> io::Result<()> {
        let rest = (BLOCK - len % BLOCK) % BLOCK;
        self.out.write_all(&[0; BLOCK as usize][..rest as usize])
    }
}

/// The body of an extended header.
fn body(records: &Records) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while rest + len.to_string().len() != len {
            len = rest + len.to_string().len();
        }
        body.extend_from_slice(format!("{len} ").as_bytes());
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

/// The header of a member and what goes before it; `None` for what archives do not have.
fn begin(member: &Member<'_>) -> io::Result<Option<(Header, Records)>> {
    let kind = match (member.mode & 0o170000) as u16 {
        S_IFDIR => EntryType::Directory,
        S_IFREG => EntryType::Regular,
        S_IFLNK => EntryType::Symlink,
        S_IFCHR => EntryType::Char,
        S_IFBLK => EntryType::Block,
        S_IFIFO => EntryType::Fifo,
        _ => return Ok(None),
    };
    let name = member.name();
    let mut header = Header::new_ustar();
    let mut records = Records::new();
    let mut record = |key: &str, value: &[u8]| records.push((key.into(), value.to_vec()));
    let short = header.set_path(OsStr::from_bytes(&name)).is_ok();
    if !short || *header.path_bytes() != name {
        header.set_path("entry")?;
        record("path", &name);
    }
    header.set_entry_type(kind);
    header.set_mode(member.mode & 0o7777);
    for (key, id) in [("uid", member.uid), ("gid", member.gid)] {
        let fits = id < 1 << 21;
        let id64 = u64::from(if fits { id } else { 0 });
        match key {
            "uid" => header.set_uid(id64),
            _ => header.set_gid(id64),
        }
        if !fits {
            record(key, id.to_string().as_bytes());
        }
    }
    let (sec, nsec) = member.mtime;
    let whole = u64::try_from(sec).ok().filter(|sec| *sec < 1 << 33);
    header.set_mtime(whole.unwrap_or_default());
    if nsec != 0 || whole.is_none() {
        // Before 1970 the fraction counts down.
        let text = match (sec < 0, nsec) {
            (_, 0) => sec.to_string(),
            (false, nsec) => format!("{sec}.{nsec:09}"),
            (true, nsec) => format!("-{}.{:09}", -(sec + 1), 1_000_000_000 - nsec),
        };
        record("mtime", text.as_bytes());
    }
    if matches!(kind, EntryType::Char | EntryType::Block) {
        let rdev = member.rdev;
        header.set_device_major(rdev >> 8 & 0xfff)?;
        header.set_device_minor(rdev & 0xff | rdev >> 12 & 0xfff00)?;
    }
    header.set_size(0);
    for (name, value) in member.xattrs {
        records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.clone()));
    }
    Ok(Some((header, records)))
}

/// The parts of a file that are data, granule by granule, and how many bytes they are.
fn data_map(
    runs: &mut dyn FnMut(&mut EachRun<'_>) -> Result<(), CopyError>,
) -> Result<(Vec<(u64, u64)>, u64), CopyError> {
    let mut map: Vec<(u64, u64)> = Vec::new();
    let mut total = 0;
    runs(&mut |at, run| {
        let Ok(bytes) = run else { return Ok(()) };
        for (index, part) in bytes.chunks(GRANULE).enumerate() {
            if part.iter().all(|&byte| byte == 0) {
                continue;
            }
            let at = at + (index * GRANULE) as u64;
            total += part.len() as u64;
            match map.last_mut() {
                Some((start, len)) if *start + *len == at => *len += part.len() as u64,
                _ => map.push((at, part.len() as u64)),
            }
        }
        Ok(())
    })?;
    Ok((map, total))
}
