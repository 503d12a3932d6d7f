//! Read-only layers and the tree that they show together, by the rules of overlayfs: whiteouts, opaque
//! directories, merged directories.
//!
//! Nothing is kept of an inode: its number says layer and place. Only the parts of a directory that several
//! layers make together are kept from the first [`Layers::lookup`] on until [`Layers::release`], by whoever
//! counts references.
//!
//! `attr`: numbers and attributes; `layer`: one layer; `listing`: reading directories.

mod attr;
mod layer;
mod listing;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use varve_abi::Errno;
use varve_abi::raw::general::DT_DIR;

pub use attr::{Attr, Ino, Time, kind_of};
pub use listing::{Entry, FIRST_COOKIE};

use crate::erofs::{Extent, ImgError, ImgFs};
use crate::port::{ImageId, LayerPorts};
use layer::Opened;
use listing::Listing;

/// Most layers that can be stacked.
pub const MAX_LAYERS: usize = 500;

/// One read-only layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Layer {
    /// An EROFS image.
    Image(ImageId),
    /// A directory of the host, by its number at the [`HostTree`](crate::HostTree) port.
    Host(u32),
}

/// A merged index: an EROFS image of the whole tree that some layers make together, whose device table names
/// these layers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MergedIndex {
    /// The image.
    pub image: ImageId,
    /// SHA-256 of each layer's image, lowest first. An index whose device table (field `tag`, in hexadecimal)
    /// says otherwise belongs to other layers: it is not used, and [`Layers::take_faults`] says so.
    pub digests: Vec<[u8; 32]>,
}

/// Why layers cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// An image was refused.
    Image(ImgError),
    /// The root of a directory tree of the host cannot be had.
    HostTree {
        /// Its number.
        tree: u32,
        /// What the port said.
        errno: Errno,
    },
    /// There are so many, more than [`MAX_LAYERS`].
    TooMany(usize),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Image(error) => write!(f, "image {}: {error}", error.image.0),
            OpenError::HostTree { tree, errno } => {
                write!(f, "the root of host tree {tree}: {errno}")
            }
            OpenError::TooMany(count) => {
                write!(f, "{count} layers, but at most {MAX_LAYERS} can be stacked")
            }
        }
    }
}

impl core::error::Error for OpenError {}

/// Opened layers.
#[derive(Clone, Debug, Hash)]
pub struct Layers {
    opened: Opened,
    root: Option<Ino>,
    /// Parts of directories that have more than one, topmost first.
    merged: BTreeMap<Ino, Vec<Ino>>,
    /// Merged directories that are being read, the one last read at the end.
    listings: Vec<(Ino, Listing)>,
}

/// The parts of a directory, topmost first. One that is from no layer has none.
fn parts_of<'a>(merged: &'a BTreeMap<Ino, Vec<Ino>>, dir: &'a Ino) -> &'a [Ino] {
    match merged.get(dir) {
        Some(parts) => parts,
        None if dir.is_lower() => core::slice::from_ref(dir),
        None => &[],
    }
}

impl Layers {
    /// Opens layers, lowest first; through a merged index, if there is one and it belongs to them.
    ///
    /// # Errors
    /// A layer that is refused, or more of them than can be stacked.
    pub fn open(
        ports: &mut LayerPorts<'_>,
        layers: &[Layer],
        index: Option<&MergedIndex>,
    ) -> Result<Layers, OpenError> {
        if layers.len() > MAX_LAYERS {
            return Err(OpenError::TooMany(layers.len()));
        }
        let (opened, mut roots) = Opened::open(ports, layers, index)?;
        roots.reverse();
        let mut layers = Layers {
            opened,
            root: roots.first().copied(),
            merged: BTreeMap::new(),
            listings: Vec::new(),
        };
        if let (Some(root), 2..) = (layers.root, roots.len()) {
            layers.merged.insert(root, roots);
        }
        Ok(layers)
    }

    /// The root directory, which needs no keeping; `None` if there are no layers.
    pub fn root(&self) -> Option<Ino> {
        self.root
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
    }

    /// The image, if there is nothing else.
    pub fn only_image(&self) -> Option<&ImgFs> {
        self.opened.only_image()
    }

    /// Whether a layer is a directory of the host: names and attributes may then change by themselves.
    pub fn has_host(&self) -> bool {
        self.opened.has_host()
    }

    /// Whether an inode is a file of the host.
    pub fn is_host(&self, ino: Ino) -> bool {
        self.opened.is_host(ino)
    }

    /// Takes what was found damaged since the last call, a line each, naming image, inode and field. Only the
    /// first few are kept.
    pub fn take_faults(&mut self) -> Vec<String> {
        self.opened.take_faults()
    }

    /// What `dir` has under a name (one component, not `.` or `..`), and its type (`DT_`).
    ///
    /// The parts of a directory are kept from now on, unless `is_known` says that somebody has the inode
    /// already: then they stay as they are.
    ///
    /// # Errors
    /// Damage, also where `dir` is no directory; what the port says.
    pub fn lookup(
        &mut self,
        ports: &mut LayerPorts<'_>,
        dir: Ino,
        name: &[u8],
        is_known: impl FnOnce(Ino) -> bool,
    ) -> Result<Option<(Ino, u8)>, Errno> {
        let parts = parts_of(&self.merged, &dir);
        let Some(Found { ino, kind, below }) = self.opened.topmost(ports, parts, name)? else {
            return Ok(None);
        };
        if u32::from(kind) == DT_DIR
            && !below.is_empty()
            && !self.merged.contains_key(&ino)
            && !is_known(ino)
        {
            let parts = self.opened.with_parts_below(ports, ino, below, name)?;
            if parts.len() > 1 {
                self.merged.insert(ino, parts);
            }
        }
        Ok(Some((ino, kind)))
    }

    /// Whether `dir` has something under a name.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn contains(
        &mut self,
        ports: &mut LayerPorts<'_>,
        dir: Ino,
        name: &[u8],
    ) -> Result<bool, Errno> {
        let parts = parts_of(&self.merged, &dir);
        Ok(self.opened.topmost(ports, parts, name)?.is_some())
    }

    /// Whether parts are kept for a directory: it must be released some time.
    pub fn is_kept(&self, ino: Ino) -> bool {
        self.merged.contains_key(&ino) && self.root != Some(ino)
    }

    /// The directories that parts are kept for, for invariant checks.
    pub fn kept(&self) -> impl Iterator<Item = Ino> + '_ {
        let root = self.root;
        self.merged
            .keys()
            .copied()
            .filter(move |&ino| root != Some(ino))
    }

    /// Nobody has this inode any more.
    pub fn release(&mut self, ino: Ino) {
        if self.root != Some(ino) {
            self.merged.remove(&ino);
        }
    }

    /// Forgets one directory of all that are kept, the root included; `false` if there was none. For layers
    /// that nobody can reach any more.
    pub fn release_one(&mut self) -> bool {
        self.merged.pop_first().is_some()
    }

    /// Attributes.
    ///
    /// # Errors
    /// `ESTALE` for a number that is of no layer; damage; what the port says.
    pub fn attr(&mut self, ports: &mut LayerPorts<'_>, ino: Ino) -> Result<Attr, Errno> {
        let mut attr = self.opened.attr(ports, ino)?;
        if u32::from(kind_of(attr.mode)) == DT_DIR && self.merged.contains_key(&ino) {
            attr.nlink = 1;
        }
        Ok(attr)
    }

    /// Target of a symbolic link. Only called for those.
    ///
    /// # Errors
    /// Damage; what the port says.
    pub fn read_link(&mut self, ports: &mut LayerPorts<'_>, ino: Ino) -> Result<Vec<u8>, Errno> {
        self.opened.read_link(ports, ino)
    }

    /// Where the bytes of a regular file from `offset` on are and how many of them are in one place; `None`
    /// at or behind its end.
    ///
    /// # Errors
    /// Damage; what the port says.
    pub fn extent(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
        offset: u64,
    ) -> Result<Option<Extent>, Errno> {
        self.opened.extent(ports, ino, offset)
    }

    /// Whether the rest of the last page of a regular file can be mapped: it is in the image file and zero.
    ///
    /// # Errors
    /// Damage; what the port says.
    pub fn slack_is_zero(&mut self, ports: &mut LayerPorts<'_>, ino: Ino) -> Result<bool, Errno> {
        self.opened.slack_is_zero(ports, ino)
    }

    /// An extended attribute as programs see it: those of the union's own are hidden, escaped ones unescaped.
    ///
    /// # Errors
    /// `ENODATA` if there is none; damage; what the port says.
    pub fn xattr(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        self.opened.xattr(ports, ino, name)
    }

    /// Full names of the extended attributes that programs see.
    ///
    /// # Errors
    /// Damage; what the port says.
    pub fn xattr_names(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
    ) -> Result<Vec<Vec<u8>>, Errno> {
        self.opened.xattr_names(ports, ino)
    }
}

/// What a part of a directory has under a name.
struct Found<'a> {
    ino: Ino,
    /// `DT_` value.
    kind: u8,
    /// The parts below that one.
    below: &'a [Ino],
}

impl Opened {
    /// What the topmost of some parts that has the name has there. Nothing if it is a whiteout.
    fn topmost<'a>(
        &mut self,
        ports: &mut LayerPorts<'_>,
        parts: &'a [Ino],
        name: &[u8],
    ) -> Result<Option<Found<'a>>, Errno> {
        let mut rest = parts;
        while let Some((&part, below)) = rest.split_first() {
            if let Some((ino, kind)) = self.lookup(ports, part, name)? {
                let gone = self.is_whiteout(ports, ino, kind)?;
                return Ok((!gone).then_some(Found { ino, kind, below }));
            }
            rest = below;
        }
        Ok(None)
    }

    /// A directory that was found, and the directories of that name in the parts below that show through it.
    fn with_parts_below(
        &mut self,
        ports: &mut LayerPorts<'_>,
        dir: Ino,
        mut below: &[Ino],
        name: &[u8],
    ) -> Result<Vec<Ino>, Errno> {
        let mut parts = Vec::from([dir]);
        let mut last = dir;
        while !below.is_empty() && !self.is_opaque(ports, last)? {
            match self.topmost(ports, below, name)? {
                Some(found) if u32::from(found.kind) == DT_DIR => {
                    parts.push(found.ino);
                    (last, below) = (found.ino, found.below);
                }
                _ => break,
            }
        }
        Ok(parts)
    }
}
