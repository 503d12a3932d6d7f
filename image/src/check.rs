//! The full check of one image: every inode, entry, attribute and extent, and how they fit together.
//!
//! The reader refuses what is out of bounds whenever it meets it; this goes everywhere once and looks at what
//! a reader need not: link counts, things that lie over each other, bytes behind the ends of files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;

use varve_imgfs::erofs::{Dirent, Inode};
use varve_imgfs::{ImageId, Images, ImgError, ImgFs, Source};

use crate::BLOCK_SIZE;
use crate::error::Shown;
use crate::tree::{S_IFDIR, S_IFLNK, S_IFREG};

const PAGE: u64 = BLOCK_SIZE;

/// Something that is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A path to it in the image; `None` for the image as a whole.
    pub path: Option<Vec<u8>>,
    /// Number of the inode.
    pub nid: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "/{}: ", Shown(path))?;
        }
        if let Some(nid) = self.nid {
            write!(f, "inode {nid}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Inodes that could be read.
    pub inodes: u64,
    /// Names.
    pub names: u64,
    /// Bytes of file contents, those of a shared extent as often as it is used.
    pub bytes: u64,
    /// The first faults, at most [`CheckReport::MAX_FAULTS`].
    pub faults: Vec<Fault>,
    /// Faults beyond that number.
    pub more_faults: u64,
}

impl CheckReport {
    /// Most faults that are told one by one.
    pub const MAX_FAULTS: usize = 1000;

    fn fault(&mut self, path: Option<&[u8]>, nid: Option<u64>, reason: impl Into<String>) {
        if self.faults.len() >= Self::MAX_FAULTS {
            self.more_faults += 1;
            return;
        }
        self.faults.push(Fault {
            path: path.map(<[u8]>::to_vec),
            nid,
            reason: reason.into(),
        });
    }
}

/// What is known of an inode.
struct Known {
    path: Vec<u8>,
    mode: u32,
    nlink: u32,
    /// Names found so far; of a directory its sub-directories.
    names: u32,
    subdirs: u32,
    metadata: Range<u64>,
}

/// Checks an image; `devices` are the files of its device table, where there is one.
///
/// # Errors
/// An image that cannot be opened at all. What is wrong inside is in the report.
pub fn check(
    images: &dyn Images,
    image: ImageId,
    devices: &[ImageId],
) -> Result<CheckReport, ImgError> {
    let fs = ImgFs::open(images, image, devices)?;
    let mut check = Check {
        images,
        fs,
        report: CheckReport::default(),
        known: BTreeMap::new(),
        blocks: Vec::new(),
    };
    check.tree();
    check.links();
    check.places();
    Ok(check.report)
}

struct Check<'a> {
    images: &'a dyn Images,
    fs: ImgFs,
    report: CheckReport,
    known: BTreeMap<u64, Known>,
    /// Bytes of the image itself that hold contents, and whose.
    blocks: Vec<(Range<u64>, u64)>,
}

/// The type of an entry (`DT_`) for a mode.
fn kind_of(mode: u32) -> u8 {
    (mode >> 12 & 15) as u8
}

impl Check<'_> {
    fn error(&mut self, path: &[u8], nid: u64, error: &ImgError) {
        let reason = error.to_string();
        // The inode is told already.
        let own = format!("inode {nid}: ");
        self.report
            .fault(Some(path), Some(nid), reason.replace(&own, ""));
    }

    /// Goes through all names, every inode once.
    fn tree(&mut self) {
        let mut dirs = vec![(Vec::new(), self.fs.root(), self.fs.root())];
        self.inode(Vec::new(), self.fs.root(), None);
        while let Some((path, nid, parent)) = dirs.pop() {
            let dir = match self.fs.inode(self.images, nid) {
                Ok(dir) => dir,
                Err(error) => {
                    self.error(&path, nid, &error);
                    continue;
                }
            };
            for (name, expected) in [(&b"."[..], nid), (b"..", parent)] {
                match self.fs.lookup(self.images, &dir, name) {
                    Ok(Some((found, _))) if found == expected => {}
                    Ok(found) => {
                        let found =
                            found.map_or("is missing".into(), |(n, _)| format!("is inode {n}"));
                        let name = String::from_utf8_lossy(name);
                        let reason = format!("the entry `{name}` {found}, not inode {expected}");
                        self.report.fault(Some(&path), Some(nid), reason);
                    }
                    // The listing meets the same.
                    Err(_) => {}
                }
            }
            let mut entries = Vec::new();
            let read = self
                .fs
                .read_dir(self.images, &dir, 0, &mut |entry: Dirent<'_>, _| {
                    entries.push((entry.name.to_vec(), entry.nid, entry.kind));
                    true
                });
            if let Err(error) = read {
                self.error(&path, nid, &error);
            }
            for (name, child, kind) in entries {
                let path = match path.as_slice() {
                    b"" => name,
                    path => [path, b"/", &name].concat(),
                };
                self.report.names += 1;
                if self.inode(path.clone(), child, Some(kind)) {
                    if let Some(known) = self.known.get_mut(&nid) {
                        known.subdirs += 1;
                    }
                    dirs.push((path, child, nid));
                }
            }
        }
    }

    /// Looks at an inode that a name leads to; whether it is a directory that was not met before.
    fn inode(&mut self, path: Vec<u8>, nid: u64, kind: Option<u8>) -> bool {
        let inode = match self.fs.inode(self.images, nid) {
            Ok(inode) => inode,
            Err(error) => {
                self.error(&path, nid, &error);
                return false;
            }
        };
        let is_dir = inode.mode & 0o170000 == u32::from(S_IFDIR);
        if let Some(kind) = kind
            && kind != 0
            && kind != kind_of(inode.mode)
        {
            let reason = format!(
                "its entry says that it is of type {kind}, it is of type {}",
                kind_of(inode.mode)
            );
            self.report.fault(Some(&path), Some(nid), reason);
        }
        match self.known.entry(nid) {
            Entry::Occupied(mut known) => {
                known.get_mut().names += 1;
                if is_dir {
                    let first = known.get().path.clone();
                    let reason = format!("a directory that is also /{}", Shown(&first));
                    self.report.fault(Some(&path), Some(nid), reason);
                }
                return false;
            }
            Entry::Vacant(place) => {
                place.insert(Known {
                    path: path.clone(),
                    mode: inode.mode,
                    nlink: inode.nlink,
                    names: 1,
                    subdirs: 0,
                    metadata: self.fs.metadata(&inode),
                });
            }
        }
        self.report.inodes += 1;
        self.attributes(&path, &inode);
        self.contents(&path, &inode);
        is_dir
    }

    fn attributes(&mut self, path: &[u8], inode: &Inode) {
        let names = match self.fs.list_xattr(self.images, inode) {
            Ok(names) => names,
            Err(error) => return self.error(path, inode.nid, &error),
        };
        let mut sorted: Vec<_> = names.iter().collect();
        sorted.sort();
        for pair in sorted.windows(2) {
            if pair[0] == pair[1] {
                let reason = format!("the attribute {} is there twice", Shown(pair[0]));
                self.report.fault(Some(path), Some(inode.nid), reason);
            }
        }
        for name in &names {
            if let Err(error) = self.fs.xattr(self.images, inode, name) {
                self.error(path, inode.nid, &error);
            }
        }
        if inode.mtime.1 >= 1_000_000_000 {
            let reason = "its time has more nanoseconds than a second";
            self.report.fault(Some(path), Some(inode.nid), reason);
        }
    }

    fn contents(&mut self, path: &[u8], inode: &Inode) {
        match (inode.mode & 0o170000) as u16 {
            S_IFREG | S_IFDIR => {}
            S_IFLNK => match self.fs.read_link(self.images, inode) {
                Ok(target) if target.is_empty() => {
                    self.report
                        .fault(Some(path), Some(inode.nid), "a symbolic link to nothing");
                }
                Ok(_) => {}
                Err(error) => self.error(path, inode.nid, &error),
            },
            _ => return,
        }
        if (inode.mode & 0o170000) as u16 == S_IFREG {
            // Holes can be of any size.
            self.report.bytes = self.report.bytes.saturating_add(inode.size);
        }
        let own = self.fs.metadata(inode);
        let mut at = 0;
        loop {
            let extent = match self.fs.extent(self.images, inode, at) {
                Ok(Some(extent)) => extent,
                Ok(None) => return,
                Err(error) => return self.error(path, inode.nid, &error),
            };
            let end = at + extent.len;
            if let Source::Image { image, offset } = extent.source {
                let range = offset..offset + extent.len;
                let inside = own.start <= range.start && range.end <= own.end;
                if image == self.fs.image() && !inside {
                    self.blocks.push((range.clone(), inode.nid));
                }
                let is_file = inode.mode & 0o170000 == u32::from(S_IFREG);
                if end == inode.size && is_file && !inside && !self.is_clean(image, range.end) {
                    let reason = "the bytes behind its end, which a mapping shows, are not zero";
                    self.report.fault(Some(path), Some(inode.nid), reason);
                }
            }
            at = end;
        }
    }

    /// Whether the rest of the page from an offset of a file on is zero, as far as the file goes.
    fn is_clean(&self, image: ImageId, from: u64) -> bool {
        let Some(block) = self.images.image(image) else {
            return true;
        };
        let end = from.next_multiple_of(PAGE).min(block.len());
        let mut rest = vec![0; end.saturating_sub(from) as usize];
        rest.is_empty() || block.read_at(from, &mut rest).is_ok() && rest.iter().all(|&b| b == 0)
    }

    /// Compares link counts with the names that were found.
    fn links(&mut self) {
        for (nid, known) in &self.known {
            let expected = match known.mode & 0o170000 == u32::from(S_IFDIR) {
                true => 2 + known.subdirs,
                false => known.names,
            };
            if known.nlink != expected {
                let reason = format!("its link count is {}, it has {expected}", known.nlink);
                self.report.fault(Some(&known.path), Some(*nid), reason);
            }
        }
        let told = self.fs.inode_count();
        if told != 0 && told != self.report.inodes && self.report.faults.is_empty() {
            let reason = format!(
                "the superblock tells of {told} inodes, names lead to {}",
                self.report.inodes
            );
            self.report.fault(None, None, reason);
        }
    }

    /// Looks for inodes that lie over each other, and contents that lie over them.
    fn places(&mut self) {
        let mut metadata: Vec<_> = self
            .known
            .iter()
            .map(|(nid, known)| (known.metadata.clone(), *nid))
            .collect();
        metadata.sort_unstable_by_key(|(range, nid)| (range.start, *nid));
        let mut faults = Vec::new();
        for pair in metadata.windows(2) {
            if pair[0].0.end > pair[1].0.start {
                faults.push((pair[1].1, format!("lies over inode {}", pair[0].1)));
            }
        }
        let superblock = 1024..1152;
        for (range, nid) in &self.blocks {
            let crosses = |other: &Range<u64>| range.start < other.end && other.start < range.end;
            if crosses(&superblock) {
                faults.push((*nid, "its contents lie over the superblock".into()));
            }
            // The last inode that starts before the contents end; those before it end before it starts.
            let next = metadata.partition_point(|(other, _)| other.start < range.end);
            if let Some((other, over)) = next.checked_sub(1).and_then(|at| metadata.get(at))
                && crosses(other)
            {
                faults.push((*nid, format!("its contents lie over inode {over}")));
            }
        }
        for (nid, reason) in faults {
            let path = self.known.get(&nid).map(|known| known.path.clone());
            self.report.fault(path.as_deref(), Some(nid), reason);
        }
    }
}
