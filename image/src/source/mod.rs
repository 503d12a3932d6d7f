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

use crate::output::Output;
use crate::tree::Tree;
use crate::writer::DataWriter;
use crate::{BuildError, BuildOptions, BuildReport, Progress, layout};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Builds the layer `output` from the directory `source`.
///
/// Symbolic links are stored, never followed. Whiteouts and opaque directories of an overlayfs upper directory are kept, those of an
/// unpacked OCI layer (`.wh.NAME`, `.wh..wh..opq`) are put into the same form. An existing file `output` is replaced when the new image
/// is complete, and is not part of it when it lies inside `source`.
///
/// # Errors
/// The first thing that cannot be read, expressed or written; then nothing is left of the build.
pub fn build_dir(
    source: &Path,
    output: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<BuildReport, BuildError> {
    let (report, output) = write_dir(source, output, options, progress)?;
    output.commit()?;
    Ok(report)
}

/// As [`build_dir`], but the layer has no name yet.
pub(crate) fn write_dir(
    source: &Path,
    output: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, Output), BuildError> {
    let root = dir::open_root(source)?;
    let output = Output::create(output)?;
    let skip = output.identities();
    let mut data = DataWriter::new(output, options, progress);
    let tree = dir::read(root, source, options, &skip, &mut data)?;
    layout::write(tree, data, options, &[])
}

/// Builds the layer `output` from a tar stream, which may be compressed with gzip or zstd.
///
/// Understands ustar, pax and GNU archives, sparse files, and the whiteouts of OCI layers (`.wh.NAME`, `.wh..wh..opq`).
/// `source_name` stands for the stream in messages.
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
    let as_is = |_: &mut Tree, _: &mut DataWriter<'_>| Ok::<_, BuildError>(());
    let below = Below::Nothing;
    let (report, output) = write_tar(source, source_name, output, options, below, as_is, progress)?;
    output.commit()?;
    Ok(report)
}

/// As [`build_tar`], but the layer has no name yet, and `finish` sees its tree before it is written.
pub(crate) fn write_tar<E: From<BuildError>>(
    source: &mut dyn Read,
    source_name: &str,
    output: &Path,
    options: &BuildOptions,
    below: Below,
    finish: impl FnOnce(&mut Tree, &mut DataWriter<'_>) -> Result<(), E>,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, Output), E> {
    let output = Output::create(output)?;
    let mut data = DataWriter::new(output, options, progress);
    let mut tree = tar::read(source, source_name, options, below, &mut data)?;
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
    output: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, Output), BuildError> {
    let output = Output::create(output)?;
    let mut data = DataWriter::new(output, options, progress);
    let tree = zar::read(source, options, &mut data)?;
    layout::write(tree, data, options, &[])
}
