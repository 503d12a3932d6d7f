//! A layer as the tar archive that it would have been made of: whiteouts and opaque directories as markers
//! (`.wh.NAME`, `.wh..wh..opq`), as the OCI image specification has them.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use varve_imgfs::erofs::Inode;
use varve_imgfs::{Errno, ImageId, ImgError, ImgFs};

use super::lower::{FileBlock, OpenImages};
use super::{ImageError, Layer};
use crate::error::Shown;
use crate::tarball::{CopyError, Member, Tarball, runs};
use crate::tree::{NAME_MAX, S_IFDIR, S_IFLNK, S_IFREG, S_IFSOCK};

/// What overlayfs keeps in attributes: markers say it, or it means nothing in an archive.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// What every layer of ours has of them.
const OWN: [&[u8]; 2] = [crate::xattr::OPAQUE, crate::xattr::ORIGIN];
const MARKER: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Most notes of a layer.
const NOTES_MAX: usize = 100;

/// Names and values of extended attributes.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A layer that is going to be an archive: its objects in the order of the archive.
pub(super) struct TarLayer {
    name: String,
    images: OpenImages,
    fs: ImgFs,
    members: Vec<Object>,
    /// Bytes of the contents that will be written, holes included.
    pub(super) size: u64,
    /// One line for each thing that an archive cannot hold.
    pub(super) notes: Vec<String>,
}

/// One member, by its path.
struct Object {
    path: Vec<u8>,
    what: What,
}

enum What {
    Inode(Inode),
    /// Another name of a member that is there before, by its position.
    Link(usize),
    /// A marker, with the directory that it is in.
    Marker(Inode),
}

impl TarLayer {
    /// Opens a layer and lists what is in it.
    pub(super) fn open(layer: &Layer, number: usize) -> Result<Self, ImageError> {
        let name = layer.path.display().to_string();
        let file = FileBlock::of(layer.open()?, &layer.path)?;
        let images = OpenImages(vec![file]);
        let fs = ImgFs::open(&images, ImageId(0), &[]);
        let fs = fs.map_err(|e| ImageError::bad(&*name, e.to_string()))?;
        let mut tar = Self {
            name,
            images,
            fs,
            members: Vec::new(),
            size: 0,
            notes: Vec::new(),
        };
        tar.list(number)?;
        Ok(tar)
    }

    fn damage(&self, path: &[u8], error: &ImgError) -> ImageError {
        let reason = format!("/{}: {error}", Shown(path));
        ImageError::bad(&*self.name, reason)
    }

    /// Goes through the layer depth first, names in byte order, what takes away before what is there.
    fn list(&mut self, number: usize) -> Result<(), ImageError> {
        let mut notes = Vec::new();
        let mut note = |path: &[u8], reason: &str| {
            if notes.len() < NOTES_MAX {
                let path = Shown(path);
                notes.push(format!("layer {}: /{path} left out: {reason}", number + 1));
            }
        };
        let mut first: HashMap<u64, usize> = HashMap::new();
        let mut seen = HashSet::new();
        let root = self.fs.root();
        let mut todo = vec![(Vec::new(), root)];
        while let Some((path, nid)) = todo.pop() {
            let inode = self.fs.inode(&self.images, nid);
            let inode = inode.map_err(|e| self.damage(&path, &e))?;
            let kind = (inode.mode & 0o170000) as u16;
            let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(&path);
            if inode.is_whiteout() {
                if MARKER.len() + name.len() > NAME_MAX {
                    note(&path, "a marker for so long a name cannot be stored");
                    continue;
                }
                let dir = path.len() - name.len();
                let marker = [&path[..dir], MARKER, name].concat();
                self.add(marker, What::Marker(inode));
                continue;
            }
            if name.starts_with(MARKER) {
                note(&path, "in an archive its name would be a marker");
                continue;
            }
            if kind == S_IFSOCK {
                note(&path, "archives have no sockets");
                continue;
            }
            for name in self.foreign(&path, &inode)? {
                let what = format!("its attribute {} means a stack", Shown(&name));
                note(&path, &what);
            }
            if kind != S_IFDIR {
                let known = first.get(&nid).copied().filter(|_| inode.nlink > 1);
                match known {
                    Some(at) => self.add(path, What::Link(at)),
                    None => {
                        first.insert(nid, self.members.len());
                        if kind == S_IFREG {
                            self.size = self.size.saturating_add(inode.size);
                        }
                        self.add(path, What::Inode(inode));
                    }
                }
                continue;
            }
            if !seen.insert(nid) {
                let reason = format!("/{}: is a directory that is there twice", Shown(&path));
                return Err(ImageError::bad(&*self.name, reason));
            }
            let opaque = self.fs.is_opaque(&self.images, &inode);
            let opaque = opaque.map_err(|e| self.damage(&path, &e))?;
            self.add(path.clone(), What::Inode(inode));
            if opaque {
                self.add(join(&path, OPAQUE_MARKER), What::Marker(inode));
            }
            let mut below = self.names(&path, &inode)?;
            // Taken from the end: what takes away first, then by name.
            below.sort_by(|a, b| (!a.2, &a.0).cmp(&(!b.2, &b.0)).reverse());
            todo.extend(below.into_iter().map(|(path, nid, _)| (path, nid)));
        }
        self.notes = notes;
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>, what: What) {
        self.members.push(Object { path, what });
    }

    /// Paths and inodes of what is in a directory, and whether it only takes something away.
    fn names(&self, path: &[u8], dir: &Inode) -> Result<Vec<(Vec<u8>, u64, bool)>, ImageError> {
        let mut names = Vec::new();
        let read = self.fs.read_dir(&self.images, dir, 0, &mut |entry, _| {
            names.push((entry.name.to_vec(), entry.nid, entry.kind));
            true
        });
        read.map_err(|e| self.damage(path, &e))?;
        let mut list = Vec::with_capacity(names.len());
        for (name, nid, kind) in names {
            let path = join(path, &name);
            let gone = kind == DT_CHR && {
                let inode = self.fs.inode(&self.images, nid);
                inode.map_err(|e| self.damage(&path, &e))?.is_whiteout()
            };
            list.push((path, nid, gone));
        }
        Ok(list)
    }

    /// Attributes that overlayfs would understand and an archive cannot say.
    fn foreign(&self, path: &[u8], inode: &Inode) -> Result<Vec<Vec<u8>>, ImageError> {
        if !inode.has_xattrs() {
            return Ok(Vec::new());
        }
        let names = self.fs.list_xattr(&self.images, inode);
        let mut names = names.map_err(|e| self.damage(path, &e))?;
        names.retain(|name| name.starts_with(OVERLAY) && !OWN.contains(&&name[..]));
        Ok(names)
    }

    fn xattrs(&self, path: &[u8], inode: &Inode) -> Result<Xattrs, ImageError> {
        if !inode.has_xattrs() {
            return Ok(Vec::new());
        }
        let names = self.fs.list_xattr(&self.images, inode);
        let mut names = names.map_err(|e| self.damage(path, &e))?;
        names.retain(|name| !name.starts_with(OVERLAY));
        names.sort();
        names.dedup();
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            let value = self.fs.xattr(&self.images, inode, &name);
            if let Some(value) = value.map_err(|e| self.damage(path, &e))? {
                list.push((name, value));
            }
        }
        Ok(list)
    }

    /// Writes the archive; the same bytes each time.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        let mut tar = Tarball::new(out);
        for object in &self.members {
            self.object(object, &mut tar)?;
        }
        tar.finish().map(|_| ()).map_err(written)
    }

    fn object(&self, object: &Object, tar: &mut Tarball<&mut dyn Write>) -> Result<(), ImageError> {
        let path = &object.path;
        let mut member = Member {
            path,
            mode: u32::from(S_IFREG),
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            rdev: 0,
            target: b"",
            xattrs: &[],
        };
        let inode = match &object.what {
            What::Inode(inode) => inode,
            What::Marker(of) => {
                // The time is that of what took the name away; nothing else of it is kept.
                member.mtime = of.mtime;
                return tar.member(&member).map(|_| ()).map_err(written);
            }
            What::Link(at) => {
                let first = &self.members[*at];
                if let What::Inode(inode) = &first.what {
                    describe(&mut member, inode);
                }
                return tar.hard_link(&member, &first.path).map_err(written);
            }
        };
        describe(&mut member, inode);
        let xattrs = self.xattrs(path, inode)?;
        member.xattrs = &xattrs;
        if (inode.mode & 0o170000) as u16 == S_IFREG && inode.size > 0 {
            let mut failed = None;
            let copied = tar.file(&member, inode.size, &mut |each| {
                let mut extent = |at| {
                    self.fs.extent(&self.images, inode, at).map_err(|e| {
                        failed = Some(self.damage(path, &e));
                        e.errno()
                    })
                };
                runs(&self.images, &mut extent, each)
            });
            return match (copied, failed) {
                (Ok(()), _) => Ok(()),
                (Err(CopyError::Read(_)), Some(error)) => Err(error),
                (Err(CopyError::Read(errno)), None) => Err(self.unread(path, errno)),
                (Err(CopyError::Write(error)), _) => Err(written(error)),
            };
        }
        let target = match (inode.mode & 0o170000) as u16 {
            S_IFLNK => {
                let target = self.fs.read_link(&self.images, inode);
                target.map_err(|e| self.damage(path, &e))?
            }
            _ => Vec::new(),
        };
        member.target = &target;
        tar.member(&member).map(|_| ()).map_err(written)
    }

    fn unread(&self, path: &[u8], errno: Errno) -> ImageError {
        let reason = format!("/{}: cannot be read: {errno}", Shown(path));
        ImageError::bad(&*self.name, reason)
    }
}

/// Type of an entry that may be a whiteout.
const DT_CHR: u8 = 2;

fn describe(member: &mut Member<'_>, inode: &Inode) {
    member.mode = inode.mode;
    member.uid = inode.uid;
    member.gid = inode.gid;
    member.mtime = inode.mtime;
    member.rdev = inode.rdev;
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        b"" => name.to_vec(),
        path => [path, b"/", name].concat(),
    }
}

/// An archive that cannot be written. An interrupted one is told apart by who asked for the end.
fn written(error: io::Error) -> ImageError {
    ImageError::io("write", "the archive", error)
}
