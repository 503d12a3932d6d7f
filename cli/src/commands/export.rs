//! The way back: `varve convert` to what other tools take.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::json;
use varve_image::oci::{
    ContainerImage, ConvertOptions, DockerLayers, ExportOptions, Exported, ImageError, Layout,
    Packing, Source, export_docker, export_oci, pack_oci,
};

use super::convert::{
    Arguments, Format, Layers, checked_name, print_notes, run_convert, target, under_work,
};
use crate::output::{count, finish};
use crate::progress::Bars;
use crate::text;
use crate::whole::Target;

/// How layers are packed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Packed {
    /// As tools of every age read it.
    Gzip,
    /// Smaller and faster.
    Zstd,
    /// Not at all.
    None,
}

impl Packed {
    fn packing(self) -> Packing {
        match self {
            Self::Gzip => Packing::Gzip,
            Self::Zstd => Packing::Zstd,
            Self::None => Packing::None,
        }
    }
}

/// What is written for other tools.
pub(super) enum Form {
    /// A layout with tar layers: its directory, and the image's name in it.
    Oci(PathBuf, String),
    /// An archive: its file, and what it is.
    Archive(PathBuf, Archive),
}

/// What an archive is.
pub(super) enum Archive {
    /// For `docker load`: what its layers are, and the image's name where it was given.
    Docker(DockerLayers, Option<String>),
    /// An OCI layout in a tar archive: whether it keeps the layers as varve has them, and the image's name
    /// where it was given.
    Oci(Layers, Option<String>),
}

/// What the command line wants for other tools; `None` for an image of varve.
pub(super) fn form(arguments: &Arguments) -> Result<Option<Form>> {
    let bytes = arguments.target().as_bytes();
    let docker = bytes.strip_prefix(b"docker-archive:");
    if let Some(rest) = bytes.strip_prefix(b"oci-archive:") {
        if arguments.format == Format::DockerLayers {
            bail!("--format docker-layers is for `docker load`: write it to docker-archive:FILE");
        }
        let (file, name) = file_and_name(rest);
        if file.as_os_str().is_empty() {
            bail!("oci-archive: names no file: oci-archive:FILE[:REF]");
        }
        let name = match name {
            Some(name) => Some(checked_name(name)?),
            None => None,
        };
        let layers = arguments.layers.unwrap_or(Layers::Tar);
        return Ok(Some(Form::Archive(file, Archive::Oci(layers, name))));
    }
    if arguments.format == Format::DockerLayers || docker.is_some() {
        let layers = match (arguments.format, arguments.layers) {
            (Format::DockerLayers, Some(Layers::Tar)) => {
                bail!(
                    "--format docker-layers holds layer files: without it, docker-archive:FILE has tar layers"
                )
            }
            (Format::DockerLayers, _) => DockerLayers::Files,
            (Format::Oci, Some(Layers::Erofs)) => {
                bail!(
                    "Docker runs tar layers: an archive of layer files is written with --format docker-layers"
                )
            }
            (Format::Oci, _) => DockerLayers::Tar,
        };
        let (file, tag) = match docker {
            None => (PathBuf::from(arguments.target()), None),
            Some(rest) => file_and_name(rest),
        };
        if file.as_os_str().is_empty() {
            bail!("docker-archive: names no file: docker-archive:FILE[:TAG]");
        }
        let tag = match tag {
            Some(tag) => Some(checked_tag(&tag.to_string_lossy())?),
            None => None,
        };
        return Ok(Some(Form::Archive(file, Archive::Docker(layers, tag))));
    }
    for other in ["docker-daemon:", "dir:", "tar:", "zar:", "erofs:"] {
        if bytes.starts_with(other.as_bytes()) {
            bail!(
                "`{other}` cannot be written: DST is a name, a directory, oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:TAG]"
            );
        }
    }
    if arguments.layers != Some(Layers::Tar) {
        return Ok(None);
    }
    let in_store =
        !bytes.starts_with(b"oci:") && !bytes.contains(&b'/') && !matches!(bytes, b"." | b"..");
    if in_store || bytes.starts_with(b"store:") {
        bail!(
            "{}: the store holds what varve runs: tar layers go to oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:TAG]",
            text::os(arguments.target())
        );
    }
    let (dir, name) = target(arguments.target(), &arguments.store)?;
    Ok(Some(Form::Oci(dir, name)))
}

/// `FILE[:NAME]`, as `skopeo` has it: a file's name has no colon.
fn file_and_name(text: &[u8]) -> (PathBuf, Option<&OsStr>) {
    let mut parts = text.splitn(2, |&byte| byte == b':');
    let mut next = || parts.next().map(OsStr::from_bytes);
    (next().unwrap_or_default().into(), next())
}

/// A name as Docker has it: `[HOST/]PATH:TAG`, the path in small letters.
fn checked_tag(text: &str) -> Result<String> {
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (text, "latest"),
    };
    let part =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/:".contains(&byte);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts = |text: &str| {
        text.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    if !starts(name)
        || !name.bytes().all(part)
        || !starts(tag)
        || !tag.bytes().all(good)
        || name.contains("//")
    {
        bail!(
            "{text:?} is no name for Docker: small letters, digits and ._-/ can be used, and a tag behind a colon"
        );
    }
    Ok(format!("{name}:{tag}"))
}

/// What Docker is to call an image that was called so at its source.
fn tag_of(source: &Source, image: &ContainerImage) -> Option<String> {
    let dir = match source {
        Source::OciDir(path, _) | Source::OciArchive(path, _) => path.file_stem(),
        Source::DockerArchive(..) | Source::DockerDaemon(_) => None,
        _ => return None,
    };
    let own = image.name.as_deref();
    let name = source.name().or(own.filter(|_| dir.is_some()))?;
    let is_whole = name.contains(':') || dir.is_none();
    let name = match dir {
        // A layout has tags without names, its directory may have one.
        Some(dir) if !is_whole => format!("{}:{name}", dir.to_str()?.to_ascii_lowercase()),
        _ => name.to_owned(),
    };
    checked_tag(&name).ok()
}

/// What an image is called in an OCI archive: as it was asked for, or as it says, if that is a name.
fn name_for(given: Option<&str>, own: Option<&str>) -> String {
    let own = own.filter(|name| checked_name(OsStr::new(name)).is_ok());
    given.or(own).unwrap_or("latest").to_owned()
}

/// An image of varve that the source is already.
fn existing(source: &Source) -> Option<ContainerImage> {
    match source {
        Source::OciDir(dir, name) => Layout::open(dir).ok()?.image(name.as_deref()).ok(),
        _ => None,
    }
}

/// Writes what other tools take. What is no image of varve yet becomes one in a directory that goes away.
pub(super) fn run(
    arguments: &Arguments,
    source: &Source,
    form: &Form,
    mut options: ConvertOptions<'_>,
) -> Result<u8> {
    let started = Instant::now();
    let (target, near) = match form {
        Form::Archive(file, _) if file.as_os_str() == "-" => {
            if io::stdout().is_terminal() {
                bail!("standard output is a terminal: pipe the archive somewhere, or name a file");
            }
            (None, std::env::temp_dir())
        }
        Form::Archive(file, _) => {
            let target = Target::of(file)?;
            let near = target.near();
            (Some(target), near)
        }
        Form::Oci(dir, _) => match dir.parent() {
            Some(dir) if dir != Path::new("") => (None, dir.to_owned()),
            _ => (None, ".".into()),
        },
    };
    // An archive lies there, too, until it is whole.
    let work = tempfile::Builder::new()
        .prefix(".varve-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&near)
        .with_context(|| near.display().to_string())?;
    *under_work() = Some(work.path().to_owned());
    let packed = work.path().join("layout");
    let image = match (form, existing(source)) {
        // The archive holds an image as varve makes it.
        (Form::Archive(_, Archive::Oci(Layers::Erofs, name)), found) => {
            let own = found.and_then(|image| image.name);
            options.name = name_for(name.as_deref(), own.as_deref());
            let converted = run_convert(source, &Layout::create(&packed)?, &options)?;
            print_notes(&converted);
            converted.image
        }
        (_, Some(image)) => image,
        (_, None) => {
            let layout = Layout::create(&work.path().join("image"))?;
            options.name = "latest".into();
            let converted = run_convert(source, &layout, &options)?;
            print_notes(&converted);
            converted.image
        }
    };
    let (file, archive) = match form {
        Form::Oci(dir, name) => {
            let fresh = !dir.exists();
            let layout = Layout::create(dir)?;
            let packing = arguments.compress.packing();
            let done = with_bars(&options, |options| {
                export_oci(&image, &layout, name, packing, options)
            });
            if done.is_err() && fresh {
                layout.remove_if_empty();
            }
            return tell(arguments, &done?, dir, Some(name), started);
        }
        Form::Archive(file, archive) => (file, archive),
    };
    let write = |out: &mut dyn Write| match archive {
        Archive::Docker(layers, tag) => {
            let tag = tag.clone().or_else(|| tag_of(source, &image));
            let done = with_bars(&options, |options| {
                export_docker(&image, *layers, tag.as_deref(), options, out)
            })?;
            Ok((done, tag))
        }
        Archive::Oci(layers, name) => {
            let name = name_for(name.as_deref(), image.name.as_deref());
            let (layout, done) = match layers {
                Layers::Tar => {
                    let layout = Layout::create(&packed)?;
                    let packing = arguments.compress.packing();
                    let done = with_bars(&options, |options| {
                        export_oci(&image, &layout, &name, packing, options)
                    })?;
                    (layout, done)
                }
                Layers::Erofs => {
                    let done = Exported {
                        layers: image.layers.len(),
                        digest: image.digest,
                        notes: Vec::new(),
                    };
                    (Layout::open(&packed)?, done)
                }
            };
            let silent = ExportOptions {
                stop: options.stop,
                progress: &(),
            };
            pack_oci(&layout, &silent, out)?;
            Ok((done, Some(name)))
        }
    };
    let Some(target) = target else {
        let mut out = io::BufWriter::with_capacity(1 << 20, io::stdout().lock());
        return match write(&mut out) {
            // Whoever read it has seen enough.
            Err(ImageError::Io { error, .. }) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            done => Ok(done.map(|_| 0)?),
        };
    };
    // In the directory of our own, so that it goes with it.
    let mut whole = target.create(Some(work.path()))?;
    let (done, name) = {
        let mut out = io::BufWriter::with_capacity(1 << 20, whole.file());
        write(&mut out)?
    };
    if options.stop.load(Ordering::Relaxed) {
        return Err(ImageError::Interrupted.into());
    }
    whole.finish()?;
    tell(arguments, &done, file, name.as_deref(), started)
}

fn with_bars(
    options: &ConvertOptions<'_>,
    export: impl FnOnce(&ExportOptions<'_>) -> Result<Exported, ImageError>,
) -> Result<Exported, ImageError> {
    let bars = Bars::new("written");
    let done = export(&ExportOptions {
        stop: options.stop,
        progress: &bars,
    });
    bars.clear();
    if let Ok(done) = &done {
        for note in &done.notes {
            text::say(format_args!("note: {note}"));
        }
    }
    done
}

fn tell(
    arguments: &Arguments,
    done: &Exported,
    place: &Path,
    name: Option<&str>,
    started: Instant,
) -> Result<u8> {
    let mut out = io::stdout();
    let written = match arguments.json {
        true => {
            let value = json!({
                "output": place.display().to_string(),
                "name": name,
                "digest": done.digest.to_string(),
                "layers": done.layers,
                "notes": done.notes,
            });
            writeln!(out, "{}", text::json_pretty(&value))
        }
        false => {
            let name = name.map_or(String::new(), |name| format!("{} in ", text::shown(name)));
            writeln!(
                out,
                "{name}{}: {}, {} written in {:.2} s",
                text::path(place),
                done.digest,
                count(done.layers as u64, "layer"),
                started.elapsed().as_secs_f64()
            )
        }
    };
    finish(written)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::checked_tag;

    #[test]
    fn names_are_those_that_docker_takes() {
        for (text, expected) in [
            ("app", Some("app:latest")),
            ("team/app:v1", Some("team/app:v1")),
            ("localhost:5000/app", Some("localhost:5000/app:latest")),
            ("localhost:5000/app:V.1", Some("localhost:5000/app:V.1")),
            ("App", None),
            ("", None),
            (":v1", None),
            ("a//b", None),
            ("app:", None),
            ("a b", None),
        ] {
            assert_eq!(checked_tag(text).ok().as_deref(), expected, "{text:?}");
        }
    }
}
