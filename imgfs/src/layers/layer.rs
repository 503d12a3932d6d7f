//! The layers one by one: images and directories of the host behind one interface, by inode number.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use varve_abi::Errno;
use varve_abi::raw::general::{DT_CHR, DT_UNKNOWN, S_IFCHR, S_IFDIR, S_IFMT};

use super::attr::{Attr, Ino, LAYER_SHIFT, kind_of};
use super::{Layer, MergedIndex, OpenError};
use crate::erofs::{ErrorKind, Extent, ImgError, ImgFs, Inode, Source};
use crate::port::{Images, LayerPorts, NodeEntry, NodeId};

/// Most lines kept of what was found damaged.
const MAX_FAULTS: usize = 16;
/// Most lines about damage in a run: a program can run into the same damage again and again.
const MAX_REPORTS: u32 = 200;
/// Most listings of host directories kept for reading on.
const MAX_LISTINGS: usize = 4;
/// Attributes of the union itself in a layer.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// How a layer keeps an attribute of the program that is called like one of the union's.
const OVERLAY_ESCAPED: &[u8] = b"trusted.overlay.overlay.";

/// An entry of a lower directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct LowerEntry<'a> {
    pub name: &'a [u8],
    /// If it is at hand.
    pub ino: Option<Ino>,
    /// `DT_` value.
    pub kind: u8,
    /// Its position: reading goes on behind it.
    pub next: u64,
}

/// The opened layers, lowest first.
#[derive(Clone, Debug, Hash)]
pub(super) struct Opened {
    layers: Vec<Kind>,
    /// Host directories that are being read, the one last started at the end.
    listings: Vec<(Ino, Vec<NodeEntry>)>,
    /// One of them is a directory of the host.
    host: bool,
    /// The node that stands for a host file with several names, by layer, device and inode number.
    links: BTreeMap<(usize, u64, u64), NodeId>,
    faults: Vec<String>,
    /// Lines there were so far; after [`MAX_REPORTS`] of them there are no more.
    reported: u32,
}

#[derive(Clone, Debug, Hash)]
enum Kind {
    Image(ImgFs),
    Host,
}

/// The number of an inode of a layer. `EOVERFLOW` if it is not one an image of less than 2^53 bytes can have.
fn number(layer: usize, id: u64) -> Result<Ino, Errno> {
    match id >> LAYER_SHIFT {
        0 => Ok(Ino((layer as u64 + 1) << LAYER_SHIFT | id)),
        _ => Err(Errno::EOVERFLOW),
    }
}

fn node_of(ino: Ino) -> NodeId {
    NodeId(ino.nid())
}

impl Opened {
    /// The image, if there is nothing else.
    pub(super) fn only_image(&self) -> Option<&ImgFs> {
        match self.layers.as_slice() {
            [Kind::Image(image)] => Some(image),
            _ => None,
        }
    }

    /// Opens layers, lowest first, and gives their root directories.
    pub(super) fn open(
        ports: &mut LayerPorts<'_>,
        layers: &[Layer],
        index: Option<&MergedIndex>,
    ) -> Result<(Opened, Vec<Ino>), OpenError> {
        let mut opened = Opened {
            layers: Vec::with_capacity(layers.len()),
            listings: Vec::new(),
            host: layers.iter().any(|layer| matches!(layer, Layer::Host(_))),
            links: BTreeMap::new(),
            faults: Vec::new(),
            reported: 0,
        };
        if let Some(index) = index {
            match open_index(ports.images, layers, index) {
                Ok((fs, root)) => {
                    opened.layers.push(Kind::Image(fs));
                    return Ok((opened, Vec::from([root])));
                }
                Err(reason) => opened.faults.push(format!(
                    "image {}: this merged index is not used: {reason}",
                    index.image.0
                )),
            }
        }
        let mut roots = Vec::with_capacity(layers.len());
        for (index, &layer) in layers.iter().enumerate() {
            let root = match layer {
                Layer::Image(image) => {
                    let fs = ImgFs::open(ports.images, image, &[]).map_err(OpenError::Image)?;
                    let root = root_of(index, &fs).map_err(OpenError::Image)?;
                    opened.layers.push(Kind::Image(fs));
                    root
                }
                Layer::Host(tree) => {
                    opened.layers.push(Kind::Host);
                    let root = ports.tree.root(tree);
                    root.and_then(|node| number(index, node.0))
                        .map_err(|errno| OpenError::HostTree { tree, errno })?
                }
            };
            roots.push(root);
        }
        Ok((opened, roots))
    }

    pub(super) fn has_host(&self) -> bool {
        self.host
    }

    /// Whether a lower inode is a file of the host.
    pub(super) fn is_host(&self, ino: Ino) -> bool {
        matches!(self.layer(ino), Ok((_, Kind::Host)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    pub(super) fn take_faults(&mut self) -> Vec<String> {
        core::mem::take(&mut self.faults)
    }

    /// The error a program sees; what is wrong is noted for the log.
    fn fault(&mut self, error: ImgError) -> Errno {
        if self.faults.len() < MAX_FAULTS && self.reported < MAX_REPORTS {
            self.reported += 1;
            let image = error.image.0;
            self.faults.push(format!("image {image}: {error}"));
        }
        error.errno()
    }

    /// Runs an operation on an inode of an image.
    fn image<R>(
        &mut self,
        ports: &LayerPorts<'_>,
        index: usize,
        ino: Ino,
        run: impl FnOnce(&ImgFs, &dyn Images, &Inode) -> Result<R, ImgError>,
    ) -> Result<R, Errno> {
        let Some(Kind::Image(fs)) = self.layers.get(index) else {
            return Err(Errno::ESTALE);
        };
        let result = fs
            .inode(ports.images, node_of(ino).0)
            .and_then(|inode| run(fs, ports.images, &inode));
        result.map_err(|error| self.fault(error))
    }

    fn layer(&self, ino: Ino) -> Result<(usize, &Kind), Errno> {
        let index = (ino.0 >> LAYER_SHIFT).checked_sub(1);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let index = index.ok_or(Errno::ESTALE)?;
        Ok((index, self.layers.get(index).ok_or(Errno::ESTALE)?))
    }

    /// Attributes.
    pub(super) fn attr(&mut self, ports: &mut LayerPorts<'_>, ino: Ino) -> Result<Attr, Errno> {
        match self.layer(ino)? {
            (index, Kind::Image(_)) => {
                self.image(ports, index, ino, |_, _, inode| Ok(Attr::from(inode)))
            }
            (_, Kind::Host) => Ok(Attr::from(&ports.tree.attr(node_of(ino))?)),
        }
    }

    /// The inode called `name` in a directory, and its type (`DT_`). Whiteouts are found, too.
    pub(super) fn lookup(
        &mut self,
        ports: &mut LayerPorts<'_>,
        dir: Ino,
        name: &[u8],
    ) -> Result<Option<(Ino, u8)>, Errno> {
        match self.layer(dir)? {
            (index, Kind::Image(_)) => {
                let found = self.image(ports, index, dir, |fs, images, dir| {
                    let Some((nid, _)) = fs.lookup(images, dir, name)? else {
                        return Ok(None);
                    };
                    let inode = fs.inode(images, nid)?;
                    refuse_references(fs, images, &inode)?;
                    Ok(Some((nid, inode.mode)))
                })?;
                let Some((nid, mode)) = found else {
                    return Ok(None);
                };
                Ok(Some((number(index, nid)?, kind_of(mode))))
            }
            (index, Kind::Host) => match ports.tree.lookup(node_of(dir), name) {
                Ok(node) => {
                    let attr = ports.tree.attr(node)?;
                    let node = match attr.mode & S_IFMT {
                        S_IFDIR => node,
                        _ if attr.nlink == 1 => node,
                        _ => {
                            let key = (index, attr.dev, attr.ino);
                            *self.links.entry(key).or_insert(node)
                        }
                    };
                    Ok(Some((number(index, node.0)?, kind_of(attr.mode))))
                }
                Err(Errno::ENOENT) => Ok(None),
                Err(errno) => Err(errno),
            },
        }
    }

    /// Whether an inode that was found as type `kind` says that a name is gone.
    pub(super) fn is_whiteout(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
        kind: u8,
    ) -> Result<bool, Errno> {
        if u32::from(kind) != DT_CHR {
            return Ok(false);
        }
        let attr = self.attr(ports, ino)?;
        Ok(attr.mode & S_IFMT == S_IFCHR && attr.rdev == 0)
    }

    /// Whether a directory hides what lower layers have at its place.
    pub(super) fn is_opaque(
        &mut self,
        ports: &mut LayerPorts<'_>,
        dir: Ino,
    ) -> Result<bool, Errno> {
        match self.raw_xattr(ports, dir, b"trusted.overlay.opaque") {
            Ok(value) => Ok(value == b"y"),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Gives the entries of a directory behind `position` (0: all) until `each` returns `false`, whiteouts,
    /// too. Positions are below 2^46.
    pub(super) fn read_dir(
        &mut self,
        ports: &mut LayerPorts<'_>,
        dir: Ino,
        position: u64,
        each: &mut dyn FnMut(LowerEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        match self.layer(dir)? {
            (index, Kind::Image(_)) => {
                let mut fits = Ok(());
                self.image(ports, index, dir, |fs, images, dir| {
                    fs.read_dir(images, dir, position, &mut |entry, next| match number(
                        index, entry.nid,
                    ) {
                        Ok(ino) if u32::from(entry.kind) != DT_UNKNOWN => each(LowerEntry {
                            name: entry.name,
                            ino: Some(ino),
                            kind: entry.kind,
                            next,
                        }),
                        Ok(_) => each(LowerEntry {
                            name: entry.name,
                            ino: None,
                            kind: entry.kind,
                            next,
                        }),
                        Err(errno) => {
                            fits = Err(errno);
                            false
                        }
                    })
                })?;
                fits
            }
            (_, Kind::Host) => {
                if position == 0 {
                    self.listings.retain(|(ino, _)| *ino != dir);
                }
                let at = match self.listings.iter().position(|(ino, _)| *ino == dir) {
                    Some(at) => at,
                    None => {
                        let entries = ports.tree.read_dir(node_of(dir))?;
                        if self.listings.len() >= MAX_LISTINGS {
                            self.listings.remove(0);
                        }
                        self.listings.push((dir, entries));
                        self.listings.len() - 1
                    }
                };
                let Some((_, entries)) = self.listings.get(at) else {
                    return Ok(());
                };
                let first = usize::try_from(position).unwrap_or(usize::MAX);
                for (index, entry) in entries.iter().enumerate().skip(first) {
                    let next = index as u64 + 1;
                    if !each(LowerEntry {
                        name: &entry.name,
                        ino: None,
                        kind: entry.kind,
                        next,
                    }) {
                        return Ok(());
                    }
                }
                self.listings.remove(at);
                Ok(())
            }
        }
    }

    /// Where the bytes of a regular file from `offset` on are and how many of them (at least 1) are in one
    /// place; `None` at or behind its end.
    pub(super) fn extent(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
        offset: u64,
    ) -> Result<Option<Extent>, Errno> {
        match self.layer(ino)? {
            (index, Kind::Image(_)) => self.image(ports, index, ino, |fs, images, inode| {
                fs.extent(images, inode, offset)
            }),
            (_, Kind::Host) => {
                let size = ports.tree.attr(node_of(ino))?.size;
                if offset >= size {
                    return Ok(None);
                }
                let image = ports.tree.open(node_of(ino))?;
                Ok(Some(Extent {
                    source: Source::Image { image, offset },
                    len: size - offset,
                }))
            }
        }
    }

    /// Whether the rest of the last page of a regular file can be mapped: it is in the image file and zero.
    pub(super) fn slack_is_zero(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
    ) -> Result<bool, Errno> {
        match self.layer(ino)? {
            (index, Kind::Image(_)) => self.image(ports, index, ino, |fs, images, inode| {
                fs.slack_is_zero(images, inode)
            }),
            // A page that reaches behind the end of the host's file is not all there for a reader through the
            // port.
            (_, Kind::Host) => Ok(false),
        }
    }

    pub(super) fn read_link(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
    ) -> Result<Vec<u8>, Errno> {
        match self.layer(ino)? {
            (index, Kind::Image(_)) => self.image(ports, index, ino, |fs, images, inode| {
                fs.read_link(images, inode)
            }),
            (_, Kind::Host) => ports.tree.read_link(node_of(ino)),
        }
    }

    fn raw_xattr(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        match self.layer(ino)? {
            (index, Kind::Image(_)) => {
                let value = self.image(ports, index, ino, |fs, images, inode| {
                    fs.xattr(images, inode, name)
                })?;
                value.ok_or(Errno::ENODATA)
            }
            (_, Kind::Host) => ports.tree.get_xattr(node_of(ino), name),
        }
    }

    fn raw_xattr_names(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
    ) -> Result<Vec<Vec<u8>>, Errno> {
        match self.layer(ino)? {
            (index, Kind::Image(_)) => self.image(ports, index, ino, |fs, images, inode| {
                fs.list_xattr(images, inode)
            }),
            (_, Kind::Host) => ports.tree.list_xattr(node_of(ino)),
        }
    }

    /// An extended attribute as the program sees it: those of the union's own are hidden, escaped ones
    /// unescaped.
    pub(super) fn xattr(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        match name.strip_prefix(OVERLAY) {
            Some(rest) => self.raw_xattr(ports, ino, &[OVERLAY_ESCAPED, rest].concat()),
            None => self.raw_xattr(ports, ino, name),
        }
    }

    /// The names of the extended attributes that the program sees.
    pub(super) fn xattr_names(
        &mut self,
        ports: &mut LayerPorts<'_>,
        ino: Ino,
    ) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = self.raw_xattr_names(ports, ino)?;
        names.retain(|name| !name.starts_with(OVERLAY) || name.starts_with(OVERLAY_ESCAPED));
        for name in &mut names {
            if let Some(rest) = name.strip_prefix(OVERLAY_ESCAPED) {
                *name = [OVERLAY, rest].concat();
            }
        }
        Ok(names)
    }
}

/// Opens a merged index in place of the layers; else says why it cannot stand for them.
fn open_index(
    images: &dyn Images,
    layers: &[Layer],
    index: &MergedIndex,
) -> Result<(ImgFs, Ino), String> {
    let devices = layers.iter().map(|&layer| match layer {
        Layer::Image(image) => Ok(image),
        Layer::Host(_) => Err("a layer is a directory of the host"),
    });
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    if devices.is_empty() {
        return Err("there are no layers that it could be made of".into());
    }
    let fs = ImgFs::open(images, index.image, &devices).map_err(|error| format!("{error}"))?;
    let same = devices.len() == index.digests.len()
        && fs
            .device_digests()
            .eq(index.digests.iter().copied().map(Some));
    if !same {
        return Err("it was made for other layers".into());
    }
    let root = root_of(0, &fs).map_err(|error| format!("{error}"))?;
    Ok((fs, root))
}

fn root_of(layer: usize, fs: &ImgFs) -> Result<Ino, ImgError> {
    number(layer, fs.root()).map_err(|_| ImgError {
        image: fs.image(),
        nid: Some(fs.root()),
        kind: ErrorKind::Unsupported,
        field: "the root inode's number has more than 48 bits",
    })
}

/// An inode that stands for another one (composefs: `metacopy=on`, `redirect_dir=on`) or that is a whiteout
/// by an attribute cannot be shown.
fn refuse_references(fs: &ImgFs, images: &dyn Images, inode: &Inode) -> Result<(), ImgError> {
    if !inode.has_xattrs() {
        return Ok(());
    }
    for (name, field) in [
        (&b"trusted.overlay.metacopy"[..], "trusted.overlay.metacopy"),
        (b"trusted.overlay.redirect", "trusted.overlay.redirect"),
        (b"trusted.overlay.whiteout", "trusted.overlay.whiteout"),
    ] {
        if fs.xattr(images, inode, name)?.is_some() {
            return Err(ImgError {
                image: fs.image(),
                nid: Some(inode.nid),
                kind: ErrorKind::Unsupported,
                field,
            });
        }
    }
    Ok(())
}
