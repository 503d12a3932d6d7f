//! Layers as the command line names them: image files, or directories that are built on the fly.

use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use varve_image::{BuildOptions, build_dir};

/// Opens an image file; a directory becomes an image that has no name any more once it is open.
pub(crate) fn open(path: &Path) -> Result<File> {
    let meta = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    if meta.is_file() || meta.file_type().is_block_device() {
        return File::open(path).with_context(|| path.display().to_string());
    }
    if !meta.is_dir() {
        bail!("{}: neither an image file nor a directory", path.display());
    }
    let dir = tempfile::tempdir().context("a temporary directory")?;
    let image = dir.path().join("layer.img");
    build_dir(path, &image, &BuildOptions::default(), &mut ())?;
    File::open(&image).with_context(|| image.display().to_string())
}
