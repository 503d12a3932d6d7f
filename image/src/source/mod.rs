//! Front ends: what turns a directory or a tar stream into a tree and its data.

mod dir;
mod marker;
mod pax;
mod sparse;
mod stream;
mod tar;
mod zar;

pub(crate) use stream::decompress;
pub(crate) use tar::Below;

use crate::limit::{Counted, Growth, Limit};
use crate::output::Output;
use crate::tree::{NodeId, Tree};
use crate::writer::DataWriter;
use crate::{BuildError, BuildOptions, BuildReport, Progress, layout};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Builds the layer `output` from the directory `source`.
///
/// Symbolic links are stored, never followed. Whiteouts and opaque directories of an overlayfs upper
/// directory are kept, those of an unpacked OCI layer (`.wh.NAME`, `.wh..wh..opq`) are put into the same
/// form. An existing file `output` is replaced when the new image is complete, and is not part of it when it
/// lies inside `source`.
///
/// # Errors
/// The first thing that cannot be read, expressed or written; then nothing is left of the build.
pub fn build_dir(
    source: &Path,
    output: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<BuildReport, BuildError> {
    let (report, output) = write_dir(source, Output::create(output)?, options, progress)?;
    output.commit()?;
    Ok(report)
}

/// As [`build_dir`], but the layer is a file without a name in the directory `temporary`: it is gone when it
/// is closed, and nobody else can open it.
///
/// # Errors
/// As [`build_dir`].
pub fn build_dir_nameless(
    source: &Path,
    temporary: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, File), BuildError> {
    let (report, output) = write_dir(source, Output::nameless(temporary)?, options, progress)?;
    let file = output.into_file();
    Ok((report, file.map_err(|e| BuildError::output(temporary, e))?))
}

/// As [`build_dir`], but the layer has no name yet.
pub(crate) fn write_dir(
    source: &Path,
    output: Output,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, Output), BuildError> {
    let root = dir::open_root(source)?;
    let skip = output.identities();
    let mut data = DataWriter::new(output, options, progress);
    if options.max_size.is_some() {
        let name = source.to_string_lossy();
        data.bound(Limit::new(&name, options.max_size, Arc::default()));
    }
    let tree = dir::read(root, source, options, &skip, &mut data)?;
    layout::write(tree, data, options, &[])
}

/// Builds the layer `output` from a tar stream, which may be compressed with gzip or zstd.
///
/// Understands ustar, pax and GNU archives, sparse files, and the whiteouts of OCI layers (`.wh.NAME`,
/// `.wh..wh..opq`). `source_name` stands for the stream in messages.
///
/// # Errors
/// As [`build_dir`]; also a damaged stream, or a hard link to what is not in it.
pub fn build_tar(
    source: &mut dyn Read,
    source_name: &str,
    output: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<BuildReport, BuildError> {
    let finish = |tree: &mut Tree, data: &mut DataWriter<'_>| {
        hint_at_images(tree, source_name, data);
        Ok::<_, BuildError>(())
    };
    let growth = Arc::<Growth>::default();
    let mut source = Counted {
        inner: source,
        growth: growth.clone(),
    };
    let archive = Archive {
        source: &mut source,
        name: source_name,
        below: Below::Nothing,
        growth,
    };
    let (report, output) = write_tar(archive, Output::create(output)?, options, finish, progress)?;
    output.commit()?;
    Ok(report)
}

/// Says so where an archive is taken as the files of a layer, but holds images: hardly what was meant.
pub(crate) fn hint_at_images(tree: &Tree, name: &str, data: &mut DataWriter<'_>) {
    let root = tree.directory(NodeId::ROOT);
    let names = root.into_iter().flat_map(|root| root.entries.keys());
    if let Some(hint) = images_hint(names.map(|name| &**name), name) {
        data.report.note(hint);
    }
}

/// What the names in the root of an archive say of it, if they are those of an archive of images.
pub(crate) fn images_hint<'a>(
    names: impl Iterator<Item = &'a [u8]>,
    archive: &str,
) -> Option<String> {
    let (mut saved, mut layout, mut index, mut others) = (false, false, false, false);
    for name in names {
        match name {
            b"manifest.json" => saved = true,
            b"oci-layout" => layout = true,
            b"index.json" => index = true,
            // What `docker save` wrote before it wrote a layout, too; tools that do as it does.
            b"repositories" => others = true,
            name => others |= name.ends_with(b".json"),
        }
    }
    let transport = match () {
        () if saved && (layout || others) => "docker-archive",
        () if layout && index => "oci-archive",
        () => return None,
    };
    Some(format!(
        "{archive} holds container images, and was taken as plain files: `varve convert {transport}:FILE NAME` takes the image"
    ))
}

/// A tar stream.
pub(crate) struct Archive<'a> {
    pub(crate) source: &'a mut dyn Read,
    /// What stands for it in messages.
    pub(crate) name: &'a str,
    pub(crate) below: Below,
    /// Told by whoever reads the stream how much that was.
    pub(crate) growth: Arc<Growth>,
}

/// As [`build_tar`], but the layer has no name yet, and `finish` sees its tree before it is written.
pub(crate) fn write_tar<E: From<BuildError>>(
    archive: Archive<'_>,
    output: Output,
    options: &BuildOptions,
    finish: impl FnOnce(&mut Tree, &mut DataWriter<'_>) -> Result<(), E>,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, Output), E> {
    let Archive {
        source,
        name,
        below,
        growth,
    } = archive;
    let mut data = DataWriter::new(output, options, progress);
    data.bound(Limit::new(name, options.max_size, growth));
    let mut tree = tar::read(source, name, options, below, &mut data)?;
    finish(&mut tree, &mut data)?;
    Ok(layout::write(tree, data, options, &[])?)
}

/// Builds the layer `output` from the tar file `source`; see [`build_tar`].
///
/// # Errors
/// As [`build_tar`].
pub fn build_tar_file(
    source: &Path,
    output: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<BuildReport, BuildError> {
    let mut file = File::open(source).map_err(|e| BuildError::source("open", source, e))?;
    build_tar(
        &mut file,
        &source.to_string_lossy(),
        output,
        options,
        progress,
    )
}

/// Reads the layer `source`, an image of the zar tool, but gives the layer no name yet.
pub(crate) fn write_zar(
    source: &Path,
    output: Output,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, Output), BuildError> {
    let mut data = DataWriter::new(output, options, progress);
    // Files may share bytes, so that they are more than the image is long.
    let growth = Arc::<Growth>::default();
    growth.read(source.metadata().map_or(0, |meta| meta.len()));
    let name = source.to_string_lossy();
    data.bound(Limit::new(&name, options.max_size, growth));
    let tree = zar::read(source, options, &mut data)?;
    layout::write(tree, data, options, &[])
}
