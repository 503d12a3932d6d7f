//! A layout as one file: the tar archive that `skopeo` and `podman` call `oci-archive`.

use std::io::{self, Write};

use super::digest::{HashReader, Stop};
use super::export::{ExportOptions, directory, header, pad};
use super::layout::{BLOBS, INDEX_FILE, LAYOUT_FILE, names_of};
use super::{ImageError, Layout, Sha256Digest};

/// Writes all images of a layout as an archive, the same bytes for the same images; what is varve's own is
/// left out. Each blob is a layer to whoever listens.
///
/// # Errors
/// What cannot be read, is not what its name says, or cannot be written.
pub fn pack_oci(
    layout: &Layout,
    options: &ExportOptions<'_>,
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let stop = Stop::new(options.stop);
    let done = pack(layout, options, &stop, out);
    done.map_err(|error| match stop.is_wanted() {
        true => ImageError::Interrupted,
        false => error,
    })
}

fn pack(
    layout: &Layout,
    options: &ExportOptions<'_>,
    stop: &Stop<'_>,
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let fail = |e| ImageError::io("write", "the archive", e);
    // What says that it is a layout comes first.
    for name in [LAYOUT_FILE, INDEX_FILE] {
        member(layout, name, stop, &mut |_| {}, out)?;
    }
    for dir in ["blobs/", "blobs/sha256/"] {
        directory(out, dir).map_err(fail)?;
    }
    let blobs = names_of(&layout.blobs);
    let mut blobs = blobs.map_err(|e| ImageError::io("list", layout.dir().join(BLOBS), e))?;
    blobs.sort();
    for (number, digits) in blobs.iter().enumerate() {
        // Anything else is work that was not finished.
        let Ok(expected) = format!("sha256:{digits}").parse::<Sha256Digest>() else {
            continue;
        };
        let name = format!("{BLOBS}/{digits}");
        options.progress.begin(number, digits, None);
        let mut advance = |done| options.progress.advance(number, done);
        let found = member(layout, &name, stop, &mut advance, out)?;
        super::blobs::check_digest(&format!("blob {expected}"), expected, found)?;
        options.progress.end(number, false);
    }
    out.write_all(&[0; 1024])
        .and_then(|()| out.flush())
        .map_err(fail)
}

fn member(
    layout: &Layout,
    name: &str,
    stop: &Stop<'_>,
    advance: &mut dyn FnMut(u64),
    out: &mut dyn Write,
) -> Result<Sha256Digest, ImageError> {
    let path = layout.dir().join(name);
    let fail = |e| ImageError::io("copy", &path, e);
    let file = layout.open_file(name).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    header(out, name, size).map_err(fail)?;
    let mut reader = HashReader::new(file, stop, advance);
    let copied = io::copy(&mut reader, out).map_err(fail)?;
    if copied != size {
        return Err(ImageError::bad(
            path.display().to_string(),
            "changed while it was read",
        ));
    }
    pad(out, size).map_err(fail)?;
    Ok(reader.finish().map_err(fail)?.0)
}
