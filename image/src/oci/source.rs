//! What can be converted: where it is, and the layers and configuration it has.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::archive::Archive;
use super::blobs::{Files, blob_name, parse, sha256};
use super::choose::{choices, choose, is_digest_of, list_of};
use super::container::is_erofs;
use super::digest::Stop;
use super::layout::{check_version, reference};
use super::place::open_file;
use super::{ConvertOptions, ImageError, Sha256Digest, daemon};

/// Most layers of an image.
const LAYERS_MAX: usize = 500;

/// Something to convert, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An OCI layout: directory, and name of the image in it.
    OciDir(PathBuf, Option<String>),
    /// The same in a tar archive.
    OciArchive(PathBuf, Option<String>),
    /// What `docker save` writes: archive, and name of the image in it.
    DockerArchive(PathBuf, Option<String>),
    /// An image of the local Docker daemon.
    DockerDaemon(String),
    /// A directory that becomes one layer.
    Dir(PathBuf),
    /// A tar archive that becomes one layer.
    Tar(PathBuf),
    /// Images of the zar tool, lowest first.
    Zar(Vec<PathBuf>),
    /// EROFS images, lowest first.
    Erofs(Vec<PathBuf>),
}

impl Source {
    /// Parses `TRANSPORT:...` or a path; `rest` are further files of `zar:` and `erofs:`.
    ///
    /// # Errors
    /// What is not understood, with the forms there are.
    pub fn parse(first: &OsStr, rest: &[OsString]) -> Result<Self, ImageError> {
        let bytes = first.as_bytes();
        let shown = first.to_string_lossy().into_owned();
        let split = bytes.iter().position(|&byte| byte == b':');
        let (transport, path) = match split {
            // A path such as ./a:b is no transport.
            Some(at) if !bytes[..at].contains(&b'/') => {
                (Some(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]))
            }
            _ => (None, first),
        };
        let bad = |reason: &str| ImageError::bad(shown.clone(), reason);
        if path.is_empty() {
            return Err(bad("a path or name is missing"));
        }
        let files = |scheme: &str| {
            let mut files = vec![PathBuf::from(path)];
            for more in rest {
                let bytes = more.as_bytes();
                let path = bytes
                    .strip_prefix(scheme.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b":"))
                    .unwrap_or(bytes);
                files.push(OsString::from_vec(path.to_vec()).into());
            }
            files
        };
        match transport {
            Some(b"zar") => return Ok(Self::Zar(files("zar"))),
            Some(b"erofs") => return Ok(Self::Erofs(files("erofs"))),
            _ if !rest.is_empty() => {
                return Err(bad("only zar: and erofs: take several files"));
            }
            _ => {}
        }
        let with_name = || {
            let (path, name) = split_name(path);
            (PathBuf::from(path), name)
        };
        Ok(match transport {
            Some(b"oci") => {
                let (path, name) = with_name();
                Self::OciDir(path, name)
            }
            Some(b"oci-archive") => {
                let (path, name) = with_name();
                Self::OciArchive(path, name)
            }
            Some(b"docker-archive") => {
                let (path, name) = with_name();
                Self::DockerArchive(path, name)
            }
            Some(b"docker-daemon") => {
                let name = path.to_str().ok_or_else(|| bad("the name is not UTF-8"))?;
                Self::DockerDaemon(name.into())
            }
            Some(b"dir") => Self::Dir(path.into()),
            Some(b"tar") => Self::Tar(path.into()),
            Some(other) if !Path::new(first).exists() => {
                return Err(bad(&format!(
                    "`{}:` is not known; there are oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF], \
                     docker-daemon:NAME[:TAG], dir:DIR, tar:FILE, zar:FILE..., erofs:FILE..., plain paths and names of the store",
                    String::from_utf8_lossy(other)
                )));
            }
            _ => Self::guess(Path::new(first))?,
        })
    }

    /// What a plain path is.
    fn guess(path: &Path) -> Result<Self, ImageError> {
        let fail = |e| ImageError::io("open", path, e);
        if std::fs::metadata(path).map_err(fail)?.is_dir() {
            return Ok(match path.join("oci-layout").is_file() {
                true => Self::OciDir(path.into(), None),
                false => Self::Dir(path.into()),
            });
        }
        let mut head = Vec::new();
        let file = open_file(rustix::fs::CWD, path, true).map_err(fail)?;
        file.take(1028)
            .read_to_end(&mut head)
            .map_err(|e| ImageError::io("read", path, e))?;
        Ok(match head.get(1024..) == Some(&[0xe2, 0xe1, 0xf5, 0xe0]) {
            true => Self::Erofs(vec![path.into()]),
            false => Self::Tar(path.into()),
        })
    }

    /// A name for an image made of it, where it has one of its own.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::OciDir(_, name) | Self::OciArchive(_, name) | Self::DockerArchive(_, name) => {
                name.as_deref()
            }
            Self::DockerDaemon(name) => Some(name),
            _ => None,
        }
    }
}

/// Splits `PATH[:NAME]`; a file of the whole name is a path.
fn split_name(text: &OsStr) -> (&OsStr, Option<String>) {
    let bytes = text.as_bytes();
    if Path::new(text).exists() {
        return (text, None);
    }
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b':') {
        let path = OsStr::from_bytes(&bytes[..at]);
        if Path::new(path).exists() {
            let name = String::from_utf8_lossy(&bytes[at + 1..]).into_owned();
            return (path, Some(name).filter(|name| !name.is_empty()));
        }
    }
    (text, None)
}

/// The machine an image is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// As Go calls it: `amd64`, `arm64`.
    pub architecture: String,
    /// `v7`, `v8`; `None` for any.
    pub variant: Option<String>,
}

impl Default for Platform {
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => return Err("a platform is OS/ARCH[/VARIANT], such as linux/amd64".into()),
        };
        Ok(Self {
            os: (*os).to_owned(),
            architecture: (*architecture).to_owned(),
            variant,
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// How one layer is read.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A tar stream, compressed or not.
    Tar,
    /// An EROFS image, compressed with zstd or not.
    Erofs,
    Dir,
    Zar,
}

/// One layer to convert.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) kind: Kind,
    /// The file, or its name among the files of the source.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Digest and size of the blob, where the source tells.
    pub(super) blob: Option<(Sha256Digest, u64)>,
    /// Digest of the uncompressed layer, where the source tells.
    pub(super) diff_id: Option<Sha256Digest>,
    /// Annotations that an EROFS layer keeps.
    pub(super) annotations: HashMap<String, String>,
}

/// A source, opened.
pub(super) struct Opened {
    /// `None` for plain files of the host.
    pub(super) files: Option<Files>,
    pub(super) config: Value,
    pub(super) layers: Vec<Input>,
    /// Annotations of the manifest.
    pub(super) annotations: HashMap<String, String>,
}

/// Opens a source and reads what it says of itself.
pub(super) fn open(
    source: &Source,
    options: &ConvertOptions<'_>,
    stop: &Stop<'_>,
) -> Result<Opened, ImageError> {
    let platform = &options.platform;
    let unpack = |path: &Path| Archive::open(path, options.max_size, stop);
    match source {
        Source::OciDir(dir, name) => {
            if rustix::fs::access(dir.join("oci-layout"), rustix::fs::Access::EXISTS).is_err() {
                let reason = "is no OCI image layout: it has no file `oci-layout`";
                return Err(ImageError::bad(dir.display().to_string(), reason));
            }
            oci(Files::Dir(dir.clone()), name.as_deref(), platform)
        }
        Source::OciArchive(file, name) => {
            let archive = unpack(file)?;
            if !archive.has("oci-layout") {
                let hint = match archive.has("manifest.json") {
                    true => "; it is what `docker save` writes: use docker-archive:",
                    false => "",
                };
                let reason = format!("is no OCI archive: it has no oci-layout{hint}");
                return Err(ImageError::bad(file.display().to_string(), reason));
            }
            oci(Files::Archive(archive), name.as_deref(), platform)
        }
        Source::DockerArchive(file, name) => docker(unpack(file)?, name.as_deref(), platform),
        Source::DockerDaemon(name) => {
            let mut file = tempfile::tempfile()
                .map_err(|e| ImageError::io("write", std::env::temp_dir(), e))?;
            daemon::save(name, &mut file, stop)?;
            let shown = PathBuf::from(format!("docker-daemon:{name}"));
            docker(Archive::of(file, &shown)?, None, platform)
        }
        Source::Dir(path) => Ok(plain(Kind::Dir, std::slice::from_ref(path), platform)),
        Source::Tar(path) => Ok(plain(Kind::Tar, std::slice::from_ref(path), platform)),
        Source::Zar(paths) => Ok(plain(Kind::Zar, paths, platform)),
        Source::Erofs(paths) => Ok(plain(Kind::Erofs, paths, platform)),
    }
}

/// Files that are layers, with a configuration that says only what must be said.
fn plain(kind: Kind, paths: &[PathBuf], platform: &Platform) -> Opened {
    let layers = paths.iter().map(|path| Input {
        kind: kind.clone(),
        name: path.display().to_string(),
        path: path.clone(),
        blob: None,
        diff_id: None,
        annotations: HashMap::new(),
    });
    let history: Vec<_> = paths
        .iter()
        .map(|_| json!({ "created_by": "varve convert" }))
        .collect();
    Opened {
        files: None,
        config: json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [] },
            "history": history,
        }),
        layers: layers.collect(),
        annotations: HashMap::new(),
    }
}

fn oci(files: Files, name: Option<&str>, platform: &Platform) -> Result<Opened, ImageError> {
    let what = format!("oci-layout in {}", files.name());
    check_version(&what, &files.document("oci-layout")?)?;
    let what = format!("index.json in {}", files.name());
    let index: ImageIndex = parse(&what, &files.document("index.json")?)?;
    let all = index.manifests();
    let candidates: Vec<_> = match name {
        Some(name) => {
            let named = |descriptor: &&Descriptor| {
                reference(descriptor).is_some_and(|found| {
                    found == name || found.rsplit_once(':').is_some_and(|(_, tag)| tag == name)
                }) || is_digest_of(name, descriptor.digest().as_ref())
            };
            all.iter().filter(named).cloned().collect()
        }
        None => all.clone(),
    };
    if candidates.is_empty() {
        return Err(ImageError::NotFound {
            what: format!("{} in {}", name.unwrap_or("an image"), files.name()),
            hint: choices(all),
        });
    }
    let descriptor = choose(&files, candidates, platform)?;
    let what = format!("manifest {} in {}", descriptor.digest(), files.name());
    let manifest: ImageManifest = parse(&what, &files.checked(&descriptor)?)?;
    let config = files.checked(manifest.config())?;
    let config: Value = parse(
        &format!("configuration {}", manifest.config().digest()),
        &config,
    )?;
    let ids = diff_ids(&what, &config)?;
    check_platform(&what, &config, platform)?;
    if ids.len() != manifest.layers().len() {
        let reason = format!(
            "has {} layers, its configuration names {}",
            manifest.layers().len(),
            ids.len()
        );
        return Err(ImageError::bad(what, reason));
    }
    let mut layers = Vec::with_capacity(ids.len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(ids) {
        let kind = descriptor.media_type().to_string();
        let digest = sha256(descriptor)?;
        let name = blob_name(&digest);
        let kind = match kind.as_str() {
            kind if is_erofs(kind) => {
                check_erofs(&what, descriptor, &diff_id)?;
                Kind::Erofs
            }
            kind if is_tar(kind) => Kind::Tar,
            kind => {
                let reason = format!(
                    "layer {digest} is of type {kind}; tar, tar+gzip, tar+zstd and EROFS layers can be converted"
                );
                return Err(ImageError::bad(what, reason));
            }
        };
        layers.push(Input {
            path: files.path().join(&name),
            // A layer made of this blob names where it is from; its own DiffID is that of the blob.
            diff_id: Some(diff_id),
            kind,
            name,
            blob: Some((digest, descriptor.size())),
            annotations: descriptor.annotations().clone().unwrap_or_default(),
        });
    }
    Ok(Opened {
        files: Some(files),
        config,
        layers,
        annotations: manifest.annotations().clone().unwrap_or_default(),
    })
}

/// What annotations say of an EROFS layer must fit: it is a layer of a stack, and what it unpacks to is what
/// the configuration names.
fn check_erofs(
    what: &str,
    descriptor: &Descriptor,
    diff_id: &Sha256Digest,
) -> Result<(), ImageError> {
    let annotation = |key| {
        descriptor
            .annotations()
            .as_ref()
            .and_then(|all| all.get(key))
    };
    let layer = descriptor.digest();
    if let Some(role) = annotation(super::EROFS_ROLE).filter(|role| *role != "overlay-lower") {
        let reason = format!(
            "layer {layer} has the role {role:?}; only layers of the role overlay-lower can be converted"
        );
        return Err(ImageError::bad(what, reason));
    }
    match annotation(super::EROFS_UNCOMPRESSED) {
        Some(digest) if *digest != diff_id.to_string() => {
            let reason = format!(
                "layer {layer} unpacks to {digest} by its annotation, to {diff_id} by the configuration"
            );
            Err(ImageError::bad(what, reason))
        }
        _ => Ok(()),
    }
}

fn is_tar(kind: &str) -> bool {
    let packed = ["+gzip", "+zstd", ".gzip", ".zstd"];
    let plain = packed.iter().find_map(|end| kind.strip_suffix(end));
    plain.unwrap_or(kind).ends_with(".tar")
}

/// An entry of `manifest.json` in what `docker save` writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Saved {
    /// The number of the image, which is the digest of its configuration.
    fn id(&self) -> &str {
        let stem = self.config.rsplit('/').next().unwrap_or_default();
        stem.strip_suffix(".json").unwrap_or(stem)
    }
}

fn docker(archive: Archive, name: Option<&str>, platform: &Platform) -> Result<Opened, ImageError> {
    let shown = archive.path().display().to_string();
    if !archive.has("manifest.json") {
        let hint = match archive.has("index.json") {
            true => "; it is an OCI archive: use oci-archive:",
            false => "",
        };
        let reason = format!("is no archive of `docker save`: it has no manifest.json{hint}");
        return Err(ImageError::bad(shown, reason));
    }
    let files = Files::Archive(archive);
    let what = format!("manifest.json in {shown}");
    let saved: Vec<Saved> = parse(&what, &files.document("manifest.json")?)?;
    let tags = |entry: &Saved| entry.repo_tags.clone().unwrap_or_default();
    let found = match name {
        Some(name) => {
            let latest = format!("{name}:latest");
            let tagged =
                |entry: &&Saved| tags(entry).iter().any(|tag| *tag == name || *tag == latest);
            let numbered = |entry: &&Saved| is_digest_of(name, entry.id());
            saved
                .iter()
                .find(tagged)
                .or_else(|| saved.iter().find(numbered))
        }
        None if saved.len() == 1 => saved.first(),
        None => None,
    };
    let Some(saved) = found else {
        let all: Vec<_> = saved.iter().flat_map(tags).collect();
        let hint = match all.is_empty() {
            true => list_of(saved.iter().map(|entry| entry.id().to_owned()).collect()),
            false => format!("; there is {}", all.join(", ")),
        };
        return Err(match name {
            Some(name) => ImageError::NotFound {
                what: format!("{name} in {shown}"),
                hint,
            },
            None => ImageError::bad(
                shown,
                format!("holds {} images, say which one{hint}", saved.len()),
            ),
        });
    };
    let what = format!("{} in {shown}", saved.config);
    let bytes = files.document(&saved.config)?;
    let config: Value = parse(&what, &bytes)?;
    // The file is called by its digest.
    if let Ok(expected) = format!("sha256:{}", saved.id()).parse() {
        super::blobs::check_digest(&what, expected, Sha256Digest::of(&bytes))?;
    }
    let ids = diff_ids(&what, &config)?;
    check_platform(&what, &config, platform)?;
    if ids.len() != saved.layers.len() {
        let reason = format!(
            "names {} layers, manifest.json {}",
            ids.len(),
            saved.layers.len()
        );
        return Err(ImageError::bad(what, reason));
    }
    let layers = saved.layers.iter().zip(ids).map(|(name, diff_id)| Input {
        kind: Kind::Tar,
        path: files.path().join(name),
        name: name.clone(),
        blob: None,
        diff_id: Some(diff_id),
        annotations: HashMap::new(),
    });
    let layers = layers.collect();
    Ok(Opened {
        files: Some(files),
        config,
        layers,
        annotations: HashMap::new(),
    })
}

/// `rootfs.diff_ids` of a configuration.
fn diff_ids(what: &str, config: &Value) -> Result<Vec<Sha256Digest>, ImageError> {
    let ids = config
        .get("rootfs")
        .and_then(|rootfs| rootfs.get("diff_ids"))
        .and_then(Value::as_array)
        .ok_or_else(|| ImageError::bad(what, "names no layers (rootfs.diff_ids is missing)"))?;
    if ids.len() > LAYERS_MAX {
        let reason = format!("has {} layers, {LAYERS_MAX} can be stacked", ids.len());
        return Err(ImageError::bad(what, reason));
    }
    let parse = |id: &Value| id.as_str().unwrap_or_default().parse();
    ids.iter().map(parse).collect()
}

/// An image for another machine is only taken if it was asked for.
fn check_platform(what: &str, config: &Value, platform: &Platform) -> Result<(), ImageError> {
    let text = |key| config.get(key).and_then(Value::as_str).unwrap_or_default();
    let (os, architecture) = (text("os"), text("architecture"));
    let same = |found: &str, wanted: &str| found.is_empty() || found == wanted;
    if same(os, &platform.os) && same(architecture, &platform.architecture) {
        return Ok(());
    }
    Err(ImageError::bad(
        what,
        format!(
            "is an image for {os}/{architecture}, not {platform}; take it anyway with --platform {os}/{architecture}"
        ),
    ))
}
