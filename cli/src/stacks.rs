//! Stacks as the command line names them: an image of the store, a directory that holds one, or layer files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use varve_host::HostImage;
use varve_image::oci::{ContainerImage, Layer, Layout};
use varve_image::walk::is_dir;
use varve_image::{CheckedBlocks, VerifiedFile, Verity};
use varve_imgfs::{Block, Errno, ImageId, Images, Ino, MAX_LAYERS, MergedIndex, OpenError, Stack};

use crate::{layers, text};

/// Symbolic links followed on the way to a path, as the kernel does.
const LINKS_MAX: usize = 40;

/// Where images are kept.
#[derive(clap::Args, Clone)]
pub(crate) struct StoreArguments {
    /// The image store; by default /var/lib/varve for root, else varve in the user's data directory.
    #[arg(long, value_name = "DIR", env = "VARVE_STORE")]
    store: Option<PathBuf>,
}

impl StoreArguments {
    /// The directory of the store, there or not.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        // A variable that is empty is none.
        if let Some(dir) = &self.store
            && !dir.as_os_str().is_empty()
        {
            return Ok(dir.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/varve".into());
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let data = match (variable("XDG_DATA_HOME"), variable("HOME")) {
            (Some(data), _) => PathBuf::from(data),
            (None, Some(home)) => Path::new(&home).join(".local/share"),
            (None, None) => {
                bail!("neither HOME nor XDG_DATA_HOME is set: name a store with --store")
            }
        };
        Ok(data.join("varve"))
    }

    /// An image by its name in the store (`NAME` or `store:NAME`), or by the directory that holds it: a path
    /// with a slash, or `oci:DIR[:NAME]`.
    pub(crate) fn image(&self, operand: &OsStr) -> Result<ContainerImage> {
        let bytes = operand.as_bytes();
        if let Some(rest) = bytes.strip_prefix(b"oci:") {
            let rest = OsStr::from_bytes(rest);
            if Path::new(rest).is_dir() {
                return Ok(Layout::open(Path::new(rest))?.image(None)?);
            }
            let at = rest.as_bytes().iter().rposition(|&byte| byte == b':');
            let Some(at) = at else {
                return Ok(Layout::open(Path::new(rest))?.image(None)?);
            };
            let (dir, name) = rest.as_bytes().split_at(at);
            let name = String::from_utf8_lossy(&name[1..]);
            let layout = Layout::open(Path::new(OsStr::from_bytes(dir)))?;
            return Ok(layout.image(Some(&name))?);
        }
        let (path, shown) = (Path::new(operand), text::os(operand));
        if is_path(operand) {
            let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
                // What begins so is nobody's name.
                io::ErrorKind::NotFound if bytes.starts_with(b"/") || bytes.starts_with(b".") => {
                    anyhow!("{shown}: there is no such file or directory")
                }
                io::ErrorKind::NotFound => anyhow!(
                    "{shown}: there is no such directory; an image of the store whose name has a `/` is written `store:{shown}`"
                ),
                _ => anyhow::Error::new(error).context(shown.to_string()),
            })?;
            if !meta.is_dir() {
                bail!(
                    "{shown}: is a file, not an image; if it is a layer, `varve do --layer {shown}` runs it and `varve du {shown}` shows what is in it"
                );
            }
            return Ok(Layout::open(path)?.image(None)?);
        }
        let name = bytes.strip_prefix(b"store:").unwrap_or(bytes);
        let name =
            std::str::from_utf8(name).map_err(|_| anyhow!("{shown}: the name is not UTF-8"))?;
        // What lies here by that name is not what was asked for, but may be what was meant.
        let hint = match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => format!("; the directory of that name here is ./{shown}"),
            Ok(_) => format!(
                "; the file of that name here is no image, but may be a layer: `varve do --layer ./{shown}`, `varve du ./{shown}`"
            ),
            Err(_) => String::new(),
        };
        let Some(store) = self.open()? else {
            bail!(
                "{shown}: there is no image store at {} yet; `varve convert SRC {shown}` makes one{hint}",
                text::path(&self.dir()?)
            );
        };
        match store.image(Some(name)) {
            Ok(image) => Ok(image),
            Err(error) if hint.is_empty() => Err(error.into()),
            Err(error) => Err(anyhow!("{error}{hint}")),
        }
    }

    /// The store; `None` while there is none.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub(crate) fn open(&self) -> Result<Option<Layout>> {
        Ok(Layout::find(&self.dir()?)?)
    }

    /// Whether an operand is an image, and not a layer file or a directory that becomes one. A plain name is
    /// that of an image of the store if the store has it, whatever lies in the working directory.
    pub(crate) fn is_image(&self, operand: &OsStr) -> bool {
        let bytes = operand.as_bytes();
        let path = Path::new(operand);
        let Ok(meta) = std::fs::metadata(path) else {
            return true;
        };
        if is_path(operand) {
            return meta.is_dir() && path.join("oci-layout").exists();
        }
        if meta.is_dir()
            || [&b"oci:"[..], b"store:"]
                .iter()
                .any(|prefix| bytes.starts_with(prefix))
        {
            return true;
        }
        // A store that cannot be read has no images for this user.
        let (Some(name), Ok(Some(store))) = (operand.to_str(), self.open()) else {
            return false;
        };
        let latest = format!("{name}:latest");
        let called = |own: &str| own == name || own == latest;
        // A damaged image has its name still.
        store.image(Some(name)).is_ok()
            || store
                .names()
                .is_ok_and(|names| names.iter().any(|name| called(name)))
    }
}

/// Whether an operand names a directory or file, and not an image of the store: it has a slash, or is `.` or
/// `..`.
fn is_path(operand: &OsStr) -> bool {
    let bytes = operand.as_bytes();
    let prefixed = [&b"oci:"[..], b"store:"]
        .iter()
        .any(|prefix| bytes.starts_with(prefix));
    !prefixed && (bytes.contains(&b'/') || matches!(bytes, b"." | b".."))
}

/// A layer or an index, opened.
pub(crate) struct StackFile {
    /// What it is called.
    pub name: String,
    pub file: File,
    /// SHA-256 of its bytes, where a manifest says it.
    pub digest: Option<[u8; 32]>,
    /// Its Merkle tree, if it has one.
    verity: Option<Verity>,
}

impl StackFile {
    fn open(layer: &Layer) -> Result<StackFile> {
        let name = layer.path.display().to_string();
        Ok(StackFile {
            file: layer.open()?,
            name,
            digest: Some(layer.digest.0),
            verity: layer.verity,
        })
    }

    /// Maps the file, or makes it one that is checked block by block.
    pub(crate) fn image(self, verify: Option<&Arc<CheckedBlocks>>) -> Result<(String, HostImage)> {
        let name = self.name;
        let Some(checked) = verify else {
            let image = HostImage::open(self.file).with_context(|| name.clone())?;
            return Ok((name, image));
        };
        let Some(verity) = self.verity else {
            bail!(
                "{name}: nothing to verify it by: its image has no Merkle tree for it; `varve convert` makes one"
            );
        };
        let file = VerifiedFile::open(self.file, &verity, checked).with_context(|| name.clone())?;
        Ok((name, HostImage::Checked(Box::new(file))))
    }
}

/// The files of a stack, opened.
pub(crate) struct StackFiles {
    /// Layers, lowest first.
    pub layers: Vec<StackFile>,
    /// The merged index, and the digests of the layers.
    pub index: Option<(StackFile, Vec<[u8; 32]>)>,
    /// What made each layer, as the configuration of the image tells; empty where nothing tells.
    pub commands: Vec<String>,
    /// Check each block when it is first touched; those that were are kept here.
    pub verify: Option<Arc<CheckedBlocks>>,
}

impl StackFiles {
    /// The layers of a container image.
    pub(crate) fn of_image(image: ContainerImage) -> Result<StackFiles> {
        let commands = crate::history::commands(&image);
        let layers = image.layers.iter().map(StackFile::open);
        let layers = layers.collect::<Result<_>>()?;
        let index = match &image.index {
            Some(index) => {
                let digests = image.layers.iter().map(|layer| layer.digest.0).collect();
                Some((StackFile::open(index)?, digests))
            }
            None => None,
        };
        Ok(StackFiles {
            layers,
            index,
            commands,
            verify: None,
        })
    }

    /// An operand: an image, or layer files joined with commas, lowest first.
    pub(crate) fn open(operand: &OsStr, store: &StoreArguments) -> Result<StackFiles> {
        let named = store.is_image(operand);
        let parts: Vec<_> = match named {
            true => operand.as_bytes().split(|&byte| byte == b',').collect(),
            false => vec![operand.as_bytes()],
        };
        if named && parts.len() == 1 {
            return StackFiles::of_image(store.image(operand)?);
        }
        if parts.contains(&&b""[..]) {
            bail!(
                "{:?}: layer files are joined with one comma between two names",
                text::os(operand).to_string()
            );
        }
        let paths: Vec<_> = parts
            .into_iter()
            .map(|part| PathBuf::from(OsString::from_vec(part.to_vec())))
            .collect();
        StackFiles::of_layers(&paths)
    }

    /// Layer files, lowest first.
    pub(crate) fn of_layers(paths: &[PathBuf]) -> Result<StackFiles> {
        if paths.len() > MAX_LAYERS {
            bail!(
                "{} layers, but at most {MAX_LAYERS} can be stacked",
                paths.len()
            );
        }
        let mut opened = Vec::with_capacity(paths.len());
        for path in paths {
            opened.push(StackFile {
                name: path.display().to_string(),
                file: layers::open(path)?,
                digest: None,
                verity: None,
            });
        }
        Ok(StackFiles {
            layers: opened,
            index: None,
            commands: Vec::new(),
            verify: None,
        })
    }

    /// Maps the files and opens the stack, through the merged index if that is wanted and there is one.
    pub(crate) fn stack(self, merged: bool) -> Result<OpenStack> {
        let mut files = Vec::new();
        let mut names = Vec::new();
        for layer in self.layers {
            let (name, image) = layer.image(self.verify.as_ref())?;
            files.push(image);
            names.push(name);
        }
        let ids: Vec<_> = (0..files.len() as u32).map(ImageId).collect();
        let mut index = None;
        if let Some((file, digests)) = self.index.filter(|_| merged) {
            index = Some(MergedIndex {
                image: ImageId(files.len() as u32),
                digests,
            });
            let (name, image) = file.image(self.verify.as_ref())?;
            files.push(image);
            names.push(name);
        }
        let images = MappedImages(files);
        let stack = Stack::open(&images, &ids, index.as_ref()).map_err(|error| match error {
            OpenError::Image(error) => {
                let name = names.get(error.image.0 as usize);
                anyhow!("{}: {error}", name.map_or("", String::as_str))
            }
            other => anyhow!(other),
        })?;
        let mut opened = OpenStack {
            images,
            stack,
            names,
            commands: self.commands,
        };
        opened.report_faults();
        Ok(opened)
    }
}

/// Image files.
pub(crate) struct MappedImages(pub Vec<HostImage>);

impl Images for MappedImages {
    fn image(&self, id: ImageId) -> Option<&dyn Block> {
        self.0.get(id.0 as usize).map(|image| image as &dyn Block)
    }
}

/// A stack that can be looked into.
pub(crate) struct OpenStack {
    pub images: MappedImages,
    pub stack: Stack,
    /// What the files are called, by number.
    pub names: Vec<String>,
    /// What made each layer; empty where nothing tells.
    pub commands: Vec<String>,
}

impl OpenStack {
    /// Prints what was found damaged.
    pub(crate) fn report_faults(&mut self) {
        for line in self.stack.take_faults() {
            text::say(named(&self.names, &line));
        }
    }

    /// The inode at a path from the root, links on the way followed inside the stack, a last one if that is
    /// wanted. Directories on the way stay referenced: a command looks at few paths.
    ///
    /// # Errors
    /// As path_resolution(7).
    pub(crate) fn resolve(&mut self, path: &[u8], follow: bool) -> Result<Ino, Errno> {
        let mut rest: Vec<Vec<u8>> = Vec::new();
        let push = |rest: &mut Vec<Vec<u8>>, path: &[u8]| {
            let parts = path.split(|&byte| byte == b'/').rev();
            rest.extend(parts.filter(|part| !part.is_empty()).map(<[u8]>::to_vec));
        };
        push(&mut rest, path);
        let must_be_dir = path.ends_with(b"/");
        let mut trail = vec![self.stack.root()];
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let at = *trail.last().unwrap_or(&self.stack.root());
            if !is_dir(self.stack.attr(&self.images, at)?.mode) {
                return Err(Errno::ENOTDIR);
            }
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                name if name.len() > 255 => return Err(Errno::ENAMETOOLONG),
                _ => {}
            }
            let found = self.stack.lookup(&self.images, at, &name)?;
            let mode = self.stack.attr(&self.images, found)?.mode;
            if mode & 0o170000 == 0o120000 && (follow || must_be_dir || !rest.is_empty()) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP);
                }
                let target = self.stack.read_link(&self.images, found)?;
                if target.starts_with(b"/") {
                    trail.truncate(1);
                }
                push(&mut rest, &target);
                continue;
            }
            trail.push(found);
        }
        let found = trail.pop().unwrap_or(self.stack.root());
        if must_be_dir && !is_dir(self.stack.attr(&self.images, found)?.mode) {
            return Err(Errno::ENOTDIR);
        }
        Ok(found)
    }
}

/// A line on a fault, with the name of the file instead of its number.
pub(crate) fn named(names: &[String], line: &str) -> String {
    let named = || {
        let (number, rest) = line.strip_prefix("image ")?.split_once(": ")?;
        let name = names.get(number.parse::<usize>().ok()?)?;
        Some(format!("{name}: {rest}"))
    };
    named().unwrap_or_else(|| line.to_owned())
}

/// Tells on standard error what is wrong with a path, and what the stack says of it.
pub(crate) fn complain(stack: &mut Stack, names: &[String], path: &[u8], errno: Errno) {
    let path = text::shown(path);
    let text = rustix::io::Errno::from_raw_os_error(errno.number().into()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match stack.take_faults().pop() {
        Some(line) => text::say(format_args!("{path}: {text} ({})", named(names, &line))),
        None => text::say(format_args!("{path}: {text}")),
    }
}
