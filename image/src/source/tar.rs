//! A tar stream as source: ustar, pax and GNU headers, sparse files, and the whiteouts of OCI layers.
//!
//! Header fields come from the `tar` crate; the stream is read here, because the crate neither bounds
//! extended headers nor takes records with newlines, pax sparse maps or negative times. The last entry of a
//! name wins, as if the archive were extracted.

use super::marker::Marker;
use super::pax::{self, Records};
use super::sparse::{LeadingMap, Map, RANGES_MAX};
use super::stream::{BLOCK, EXTENSION_MAX, Stream, decompress, number, padding};
use crate::error::Shown;
use crate::tree::{
    Attr, Body, DEPTH_MAX, Directory, Found, LINKS_MAX, NAME_MAX, NODES_MAX, Node, NodeId,
    TARGET_MAX, Time, Tree, Xattrs,
};
use crate::writer::{Content, DataWriter};
use crate::xattr;
use crate::{BuildError, BuildOptions};
use std::io::Read;
use std::ops::ControlFlow;
use tar::Header;

/// Longest archive without an entry, in bytes: one record of zeros, as tar(1) writes it.
const EMPTY_MAX: u64 = 10240;
/// No image can hold a file so large.
const SIZE_MAX: u64 = 16 << 40;
const OVERLAY: &[u8] = b"trusted.overlay.";

/// Reads the archive `source` and stores the data of its files. With `below`, hard links may name what only
/// layers below have: [`Tree::borrowed`].
pub(crate) fn read(
    source: &mut dyn Read,
    name: &str,
    options: &BuildOptions,
    below: Below,
    data: &mut DataWriter<'_>,
) -> Result<Tree, BuildError> {
    let stream = decompress(source).map_err(|e| BuildError::source("read", name, e))?;
    let stream = Stream {
        inner: stream,
        offset: 0,
        archive: name,
        entry: Vec::new(),
    };
    let attr = Attr {
        perm: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default().clamped(options.timestamp),
    };
    let mut import = Import {
        stream,
        options,
        below,
        data,
        tree: Tree::new(attr),
        missing: attr,
        names: 0,
        global: Records::default(),
    };
    import.tree.implied.insert(NodeId::ROOT);
    while import.entry()?.is_continue() {}
    let is_empty = import.stream.offset <= BLOCK as u64;
    // What follows may still show that the compressed stream is damaged, or that this is something else which
    // begins with zeros.
    let mut buf = [0; 16 << 10];
    let mut zeros = true;
    loop {
        let at = import.stream.offset;
        let len = import.stream.some(&mut buf)?;
        if len == 0 {
            break;
        }
        zeros &= buf[..len].iter().all(|&byte| byte == 0);
        if is_empty && !zeros {
            let superblock = 1024_u64.checked_sub(at).map(|start| start as usize);
            let magic = superblock.and_then(|start| buf[..len].get(start..start + 4));
            return Err(import.stream.fail(match magic {
                Some([0xe2, 0xe1, 0xf5, 0xe0]) => {
                    "is an EROFS image, which is a layer as it is, and no tar archive"
                }
                _ => "is not a tar archive: it begins with zeros",
            }));
        }
    }
    if is_empty && import.stream.offset > EMPTY_MAX {
        let reason = format!(
            "holds nothing but zeros, and more than the {EMPTY_MAX} bytes of an empty tar archive"
        );
        return Err(import.stream.fail(reason));
    }
    Ok(import.tree)
}

/// Whether a layer stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// There is nothing below it.
    Nothing,
    /// There are other layers below it.
    Layers,
}

/// What extension headers say about the entry that follows.
#[derive(Default)]
struct Extensions {
    records: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

struct Import<'a, 'd> {
    stream: Stream<'a>,
    options: &'a BuildOptions,
    below: Below,
    data: &'a mut DataWriter<'d>,
    tree: Tree,
    /// Attributes of directories that have no entry.
    missing: Attr,
    /// Entries so far.
    names: usize,
    global: Records,
}

impl Import<'_, '_> {
    /// Takes the next entry with all its extension headers.
    fn entry(&mut self) -> Result<ControlFlow<()>, BuildError> {
        self.stream.entry.clear();
        let mut extensions = Extensions {
            records: self.global.of_all(),
            ..Default::default()
        };
        let mut extended = false;
        let mut left = EXTENSION_MAX;
        loop {
            let Some(header) = self.stream.header()? else {
                return if extended {
                    Err(self
                        .stream
                        .fail("the archive ends after an extended header"))
                } else {
                    Ok(ControlFlow::Break(()))
                };
            };
            let Some(size) = number(&header.as_old().size).and_then(|n| u64::try_from(n).ok())
            else {
                return Err(self.stream.fail("size is not a number"));
            };
            match header.as_old().linkflag[0] {
                b'L' => {
                    extensions.long_name = Some(c_string(self.stream.extension(size, &mut left)?));
                }
                b'K' => {
                    extensions.long_link = Some(c_string(self.stream.extension(size, &mut left)?));
                }
                kind @ (b'x' | b'X' | b'g') => {
                    let body = self.stream.extension(size, &mut left)?;
                    let Some(records) = Records::parse(&body) else {
                        return Err(self.stream.fail("malformed pax header"));
                    };
                    if kind == b'g' {
                        if !self.global.extend_global(records.clone()) {
                            return Err(self.stream.fail("too many records for all entries"));
                        }
                        extensions.records.extend(records);
                        continue;
                    }
                    extensions.records.extend(records);
                }
                _ => {
                    self.member(&header, size, extensions)?;
                    return Ok(ControlFlow::Continue(()));
                }
            }
            extended = true;
        }
    }

    /// Takes one member of the archive.
    fn member(
        &mut self,
        header: &Header,
        size: u64,
        extensions: Extensions,
    ) -> Result<(), BuildError> {
        let records = &extensions.records;
        let name = [
            records.get("GNU.sparse.name"),
            records.get("path"),
            extensions.long_name.as_deref(),
        ];
        let name = name
            .into_iter()
            .flatten()
            .next()
            .map_or_else(|| header.path_bytes().into_owned(), <[u8]>::to_vec);
        self.stream.entry.clone_from(&name);
        let size = match records.number("size") {
            Some(Some(size)) => size,
            Some(None) => return Err(self.stream.fail("size is not a number")),
            None => size,
        };
        let mut kind = header.as_old().linkflag[0];
        // These have no data, whatever their size field says; GNU's dump directories list names there.
        let header_only = matches!(kind, b'1'..=b'6');
        let stored = if header_only { 0 } else { size };
        // Old archives have no other mark for directories, and may have data behind them. A file of today
        // with data is one, whatever its name ends with, as containerd takes it.
        if name.ends_with(b"/") && (kind == 0 || kind == b'0' && stored == 0) {
            kind = b'5';
        }
        match kind {
            b'N' | b'M' => {
                return Err(self.stream.fail(format!(
                    "entries of type {:?} are not supported",
                    char::from(kind)
                )));
            }
            b'V' => return self.stream.skip(stored + padding(stored)),
            _ => {}
        }
        self.names += 1;
        if self.names > NODES_MAX {
            let reason = format!("more than {NODES_MAX} entries, which is the most for a layer");
            return Err(self.stream.fail(reason));
        }
        if let Some(reason) = self.tree.full() {
            return Err(self.stream.fail(reason));
        }
        let components = components(&name);
        if let Some(long) = components.iter().find(|c| c.len() > NAME_MAX) {
            return Err(self.stream.fail(format!(
                "a name of {} bytes, {NAME_MAX} at most",
                long.len()
            )));
        }
        if components.iter().any(|c| c.contains(&0)) {
            return Err(self.stream.fail("a name with a NUL byte"));
        }
        if self.marker(&components)? {
            return self.stream.skip(stored + padding(stored));
        }
        let mut attr = self.attr(header, records)?;
        let link = [records.get("linkpath"), extensions.long_link.as_deref()];
        let link = link.into_iter().flatten().next().map_or_else(
            || {
                header
                    .link_name_bytes()
                    .map(|l| l.into_owned())
                    .unwrap_or_default()
            },
            <[u8]>::to_vec,
        );
        let Some((last, parents)) = components.split_last() else {
            // The root itself.
            if kind != b'5' && kind != b'D' {
                return Err(self.stream.fail("the root is not a directory"));
            }
            let xattrs = self.xattrs(records)?;
            self.tree.implied.remove(&NodeId::ROOT);
            self.tree.describe(NodeId::ROOT, attr, xattrs);
            return self.stream.skip(stored + padding(stored));
        };
        let parent = match self.parent(parents)? {
            Ok(parent) => parent,
            Err(name) => {
                let reason = format!("{} is in the way and not a directory", Shown(&name));
                return Err(self.stream.fail(reason));
            }
        };
        let existing = self
            .tree
            .directory(parent)
            .and_then(|d| d.entries.get(*last).copied());
        if kind == b'1' {
            let target = match (self.tree.follow(&link), self.below) {
                (Found::Node(target), _) => target,
                (Found::Missing(path), Below::Layers) => self.tree.borrow(path),
                (Found::InTheWay(name), _) => {
                    return Err(self.stream.fail(format!(
                        "hard link to {}, but {} on the way is not a directory",
                        Shown(&link),
                        Shown(&name)
                    )));
                }
                (Found::Missing(_), Below::Nothing) => {
                    return Err(self.stream.fail(format!(
                        "hard link to {}, which the archive does not hold before it",
                        Shown(&link)
                    )));
                }
            };
            if self.tree.node(target).body.is_directory() {
                return Err(self
                    .stream
                    .fail(format!("hard link to the directory {}", Shown(&link))));
            }
            self.tree.link(parent, last, target);
            return Ok(());
        }
        let xattrs = self.xattrs(records)?;
        if matches!(kind, b'5' | b'D') {
            match existing.filter(|id| self.tree.node(*id).body.is_directory()) {
                Some(id) => {
                    self.tree.implied.remove(&id);
                    self.tree.describe(id, attr, xattrs);
                }
                None => {
                    let id = self.tree.push(Node {
                        attr,
                        xattrs,
                        body: Body::Directory(Directory::default()),
                    });
                    self.tree.link(parent, last, id);
                }
            }
            return self.stream.skip(stored + padding(stored));
        }
        let body = match kind {
            b'2' => {
                if link.is_empty() || link.len() > TARGET_MAX || link.contains(&0) {
                    return Err(self.stream.fail(format!(
                        "target of {} bytes, 1 to {TARGET_MAX} can be stored",
                        link.len()
                    )));
                }
                // Linux knows no others, whatever an archive says.
                attr.perm = 0o777;
                Body::Symlink(link.into())
            }
            b'3' | b'4' => {
                let field = |bytes: Option<&[u8]>, key| match records.number(key) {
                    Some(number) => number,
                    None => bytes.map_or(Some(0), |b| number(b)?.try_into().ok()),
                };
                let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
                    (Some(h), _) => (Some(&h.dev_major[..]), Some(&h.dev_minor[..])),
                    (_, Some(h)) => (Some(&h.dev_major[..]), Some(&h.dev_minor[..])),
                    _ => (None, None),
                };
                let device = field(major, "SCHILY.devmajor").zip(field(minor, "SCHILY.devminor"));
                let device = device.and_then(|(major, minor)| {
                    Some((major.try_into().ok()?, minor.try_into().ok()?))
                });
                let Some((major, minor)) = device else {
                    return Err(self.stream.fail("device number is out of range"));
                };
                if kind == b'3' {
                    Body::CharDevice(major, minor)
                } else {
                    Body::BlockDevice(major, minor)
                }
            }
            b'6' => Body::Fifo,
            // POSIX: types unknown to the reader are regular files.
            _ => self.file(header, stored, records, kind)?,
        };
        let id = self.tree.push(Node { attr, xattrs, body });
        self.tree.link(parent, last, id);
        Ok(())
    }

    /// Stores the data of a regular file, sparse or not.
    fn file(
        &mut self,
        header: &Header,
        mut stored: u64,
        records: &Records,
        kind: u8,
    ) -> Result<Body, BuildError> {
        let after = padding(stored);
        let map = if kind == b'S' {
            let (ranges, size) = self.old_gnu_map(header)?;
            Some(Map::new(ranges, size, stored))
        } else if records.get("GNU.sparse.major") == Some(b"1") {
            let Some(Some(size)) = records.number("GNU.sparse.realsize") else {
                return Err(self.stream.fail("sparse file without a size"));
            };
            let mut leading = LeadingMap::new();
            let ranges = loop {
                if stored < BLOCK as u64 {
                    return Err(self.stream.fail("sparse map is cut off"));
                }
                let mut block = [0; BLOCK];
                self.stream.exact(&mut block)?;
                stored -= BLOCK as u64;
                if let Some(ranges) = leading
                    .block(&block)
                    .map_err(|reason| self.stream.fail(reason))?
                {
                    break ranges;
                }
            };
            Some(Map::new(ranges, size, stored))
        } else {
            Map::from_records(records)
                .map(|found| found.and_then(|(ranges, size)| Map::new(ranges, size, stored)))
        };
        let map = match map {
            Some(map) => map.map_err(|reason| self.stream.fail(reason))?,
            None => Map {
                ranges: if stored > 0 {
                    vec![(0, stored)]
                } else {
                    vec![]
                },
                size: stored,
            },
        };
        let size = map.size;
        if size >= SIZE_MAX {
            let reason = format!("a file of {size} bytes: an image cannot exceed 16 TiB");
            return Err(self.stream.fail(reason));
        }
        let mut content = MemberContent {
            stream: &mut self.stream,
            map,
            next: 0,
            used: 0,
        };
        let extent = self.data.store(size, &mut content)?;
        self.stream.skip(after)?;
        Ok(Body::File { size, extent })
    }

    /// The map in the header of GNU's own sparse entries, and in the blocks that continue it.
    fn old_gnu_map(&mut self, header: &Header) -> Result<(Vec<(u64, u64)>, u64), BuildError> {
        let bad = |stream: &Stream<'_>| stream.fail("sparse map is malformed");
        let Some(gnu) = header.as_gnu() else {
            return Err(bad(&self.stream));
        };
        let unsigned = |field: &[u8]| number(field).and_then(|n| u64::try_from(n).ok());
        let Some(size) = unsigned(&gnu.realsize) else {
            return Err(bad(&self.stream));
        };
        let mut ranges = Vec::new();
        let mut add = |offset: &[u8], len: &[u8]| {
            // An empty field ends the list.
            if offset[0] != 0 && len[0] != 0 {
                if ranges.len() >= RANGES_MAX {
                    return None;
                }
                ranges.push((unsigned(offset)?, unsigned(len)?));
            }
            Some(())
        };
        let mut complete = gnu
            .sparse
            .iter()
            .all(|s| add(&s.offset, &s.numbytes).is_some());
        let mut more = gnu.isextended[0] != 0;
        while more && complete {
            let mut block = [0; BLOCK];
            self.stream.exact(&mut block)?;
            complete = block[..21 * 24]
                .chunks_exact(24)
                .all(|s| add(&s[..12], &s[12..]).is_some());
            more = block[504] != 0;
        }
        if complete {
            Ok((ranges, size))
        } else {
            Err(bad(&self.stream))
        }
    }

    fn attr(&self, header: &Header, records: &Records) -> Result<Attr, BuildError> {
        let old = header.as_old();
        let id = |key, field: &[u8]| match records.number(key) {
            Some(id) => id.and_then(|id| u32::try_from(id).ok()),
            None => number(field).and_then(|id| u32::try_from(id).ok()),
        };
        let mtime = match records.get("mtime") {
            Some(text) => pax::time(text),
            None => number(&old.mtime).map(|sec| Time { sec, nsec: 0 }),
        };
        let (Some(mode), Some(uid), Some(gid), Some(mtime)) = (
            number(&old.mode),
            id("uid", &old.uid),
            id("gid", &old.gid),
            mtime,
        ) else {
            return Err(self.stream.fail("mode, owner or time is not a number"));
        };
        Ok(Attr {
            perm: (mode & 0o7777) as u16,
            uid,
            gid,
            mtime: mtime.clamped(self.options.timestamp),
        })
    }

    fn xattrs(&mut self, records: &Records) -> Result<Xattrs, BuildError> {
        let mut xattrs = Xattrs::new();
        for (key, value) in records.iter() {
            let (name, value) = if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                (name.to_vec(), Some(value.to_vec()))
            } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                (pax::unescape(name), pax::base64(value))
            } else if key.starts_with(b"SCHILY.acl.") {
                let line = format!(
                    "{}: {} left out: access lists of archives are not kept",
                    Shown(&self.stream.entry),
                    Shown(key)
                );
                self.data.report.note(line);
                continue;
            } else {
                continue;
            };
            let why = if name.starts_with(OVERLAY) {
                "it would change how layers are stacked"
            } else if xattr::split(&name).is_none() || name.contains(&0) {
                "the format has no such attribute"
            } else {
                let Some(value) = value.filter(|v| v.len() <= xattr::VALUE_MAX) else {
                    return Err(self.stream.fail(format!(
                        "attribute {} is malformed or too large",
                        Shown(&name)
                    )));
                };
                xattrs.insert(name.into(), value.into());
                continue;
            };
            let line = format!(
                "{}: attribute {} left out: {why}",
                Shown(&self.stream.entry),
                Shown(&name)
            );
            self.data.report.note(line);
        }
        Ok(xattrs)
    }

    /// Handles the names with a meaning of their own; whether this was one.
    fn marker(&mut self, components: &[&[u8]]) -> Result<bool, BuildError> {
        let Some((at, marker)) =
            (components.iter().enumerate()).find_map(|(at, name)| Some((at, Marker::of(name)?)))
        else {
            return Ok(false);
        };
        let last = at + 1 == components.len();
        match marker {
            Marker::Whiteout(b"" | b"." | b"..") if last => {
                return Err(self.stream.fail("a whiteout of no name"));
            }
            Marker::Opaque | Marker::Whiteout(_) if last => {
                let parent = match self.parent(&components[..at])? {
                    Ok(parent) => parent,
                    // A file of the layer hides what is below it in any case.
                    Err(name) => {
                        let line = format!(
                            "{} left out: {} is not a directory here",
                            Shown(&self.stream.entry),
                            Shown(&name)
                        );
                        self.data.report.note(line);
                        return Ok(true);
                    }
                };
                match (marker, self.tree.directory_mut(parent)) {
                    (Marker::Opaque, Some(directory)) => directory.opaque = true,
                    (Marker::Whiteout(hidden), _) => self.tree.hide(parent, hidden),
                    _ => {}
                }
            }
            _ => {
                let line = format!(
                    "{} left out: a name reserved for layer metadata",
                    Shown(&self.stream.entry)
                );
                self.data.report.note(line);
            }
        }
        Ok(true)
    }

    /// The directory that `path` names, made where it is missing; symbolic links of the layer are followed
    /// inside it. Or the name of what is in the way and no directory.
    fn parent(&mut self, path: &[&[u8]]) -> Result<Result<NodeId, Vec<u8>>, BuildError> {
        // Components still to walk, the next one last.
        let mut rest: Vec<Vec<u8>> = path.iter().rev().map(|c| c.to_vec()).collect();
        let mut trail = vec![NodeId::ROOT];
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let at = trail.last().copied().unwrap_or(NodeId::ROOT);
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                _ => {}
            }
            if trail.len() > DEPTH_MAX {
                let reason = format!("more than {DEPTH_MAX} directories on the way");
                return Err(self.stream.fail(reason));
            }
            let Some(child) = self
                .tree
                .directory(at)
                .and_then(|d| d.entries.get(&*name).copied())
            else {
                if name.len() > NAME_MAX {
                    return Err(self.stream.fail(format!(
                        "a name of {} bytes, {NAME_MAX} at most",
                        name.len()
                    )));
                }
                let node = Node {
                    attr: self.missing,
                    xattrs: Xattrs::new(),
                    body: Body::Directory(Directory::default()),
                };
                let id = self.tree.push(node);
                self.tree.implied.insert(id);
                self.tree.link(at, &name, id);
                trail.push(id);
                continue;
            };
            match &self.tree.node(child).body {
                Body::Directory(_) => trail.push(child),
                Body::Symlink(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(self.stream.fail("too many symbolic links on the way"));
                    }
                    if target.starts_with(b"/") {
                        trail.truncate(1);
                    }
                    rest.extend(target.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
                }
                _ => return Ok(Err(name)),
            }
        }
        Ok(Ok(trail.last().copied().unwrap_or(NodeId::ROOT)))
    }
}

/// The components of a name, `.` and `..` resolved. As in a root directory of its own, nothing is above the
/// root.
fn components(name: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    for component in name.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                out.pop();
            }
            name => out.push(name),
        }
    }
    out
}

fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&b| b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// The bytes of one member, taken from the stream as they are asked for.
struct MemberContent<'a, 's> {
    stream: &'a mut Stream<'s>,
    map: Map,
    /// The range to read from next, and how much of it is used.
    next: usize,
    used: u64,
}

impl Content for MemberContent<'_, '_> {
    fn hole_end(&mut self, at: u64) -> Result<u64, BuildError> {
        Ok(match self.map.ranges.get(self.next) {
            Some((offset, _)) => at.max(offset + self.used),
            None => self.map.size,
        })
    }

    fn read(&mut self, mut at: u64, mut buf: &mut [u8]) -> Result<(), BuildError> {
        while !buf.is_empty() {
            let Some(&(offset, len)) = self.map.ranges.get(self.next) else {
                buf.fill(0);
                break;
            };
            let start = offset + self.used;
            if start > at {
                let gap = (start - at).min(buf.len() as u64) as usize;
                let (zeros, rest) = buf.split_at_mut(gap);
                zeros.fill(0);
                (buf, at) = (rest, at + gap as u64);
                continue;
            }
            let part = (len - self.used).min(buf.len() as u64) as usize;
            let (data, rest) = buf.split_at_mut(part);
            self.stream.exact(data)?;
            (buf, at) = (rest, at + part as u64);
            self.used += part as u64;
            if self.used == len {
                (self.next, self.used) = (self.next + 1, 0);
            }
        }
        Ok(())
    }
}
