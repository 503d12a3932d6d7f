//! The older form of an image for registries that know nothing of EROFS: an archive for `docker load` with an image `FROM scratch` whose one
//! layer holds `0.img`, `1.img`, ..., lowest first.

use std::fs::File;
use std::io::{self, Read, Write};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::layout::canonical;
use super::{ContainerImage, ImageError, Sha256Digest};

/// Passes bytes on or only counts them, and computes their digest.
struct Tee<'a> {
    to: Option<&'a mut dyn Write>,
    hasher: Sha256,
    count: u64,
}

impl Write for Tee<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(to) = &mut self.to {
            to.write_all(buf)?;
        } else {
            self.hasher.update(buf);
        }
        self.count += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the archive. The layers are read twice: their digest comes first.
///
/// # Errors
/// What cannot be read or written.
pub fn export_docker_layers(
    image: &ContainerImage,
    tag: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let mut first = Tee {
        to: None,
        hasher: Sha256::new(),
        count: 0,
    };
    layer(image, &mut first)?;
    let (diff_id, size) = (Sha256Digest(first.hasher.finalize().into()), first.count);

    let mut config = image.config.clone();
    if let Some(config) = config.as_object_mut() {
        let ids = [diff_id.to_string()];
        config.insert(
            "rootfs".into(),
            json!({ "type": "layers", "diff_ids": ids }),
        );
        // The history of the layers inside is not that of the one outside.
        let history = [json!({ "created_by": "varve convert --format docker-layers" })];
        config.insert("history".into(), Value::from(history.to_vec()));
    }
    let config = canonical(&config);
    let config_name = format!("{}.json", Sha256Digest::of(&config).hex());
    let layer_name = format!("{}/layer.tar", diff_id.hex());
    let tags: Vec<_> = tag.into_iter().collect();
    let manifest = canonical(&json!([{
        "Config": config_name,
        "RepoTags": tags,
        "Layers": [layer_name],
    }]));
    let fail = |e| ImageError::io("write", "the archive", e);
    member(out, &config_name, config.len() as u64, &mut &config[..]).map_err(fail)?;
    header(out, &layer_name, size).map_err(fail)?;
    let mut second = Tee {
        to: Some(out),
        hasher: Sha256::new(),
        count: 0,
    };
    layer(image, &mut second)?;
    if second.count != size {
        return Err(ImageError::bad(
            "a layer",
            "changed while it was written to the archive",
        ));
    }
    pad(out, size).map_err(fail)?;
    member(
        out,
        "manifest.json",
        manifest.len() as u64,
        &mut &manifest[..],
    )
    .map_err(fail)?;
    out.write_all(&[0; 1024]).map_err(fail)?;
    out.flush().map_err(fail)
}

/// The layer: a tar archive of the layers' files.
fn layer(image: &ContainerImage, out: &mut dyn Write) -> Result<(), ImageError> {
    for (number, layer) in image.layers.iter().enumerate() {
        let mut file =
            File::open(&layer.path).map_err(|e| ImageError::io("open", &layer.path, e))?;
        member(out, &format!("{number}.img"), layer.size, &mut file)
            .map_err(|e| ImageError::io("copy", &layer.path, e))?;
    }
    out.write_all(&[0; 1024])
        .map_err(|e| ImageError::io("write", "the archive", e))
}

fn header(out: &mut dyn Write, name: &str, size: u64) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o444);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn member(out: &mut dyn Write, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
    header(out, name, size)?;
    let copied = io::copy(&mut content.take(size), out)?;
    if copied != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    pad(out, size)
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let rest = (512 - size % 512) % 512;
    out.write_all(&[0; 512][..rest as usize])
}
