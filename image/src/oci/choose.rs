//! Which image of several is meant: by its name or digest and by the machine it is for, and never what is no
//! image.

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::Value;

use super::blobs::{Files, parse};
use super::layout::{NESTED_MAX, is_index, names, reference};
use super::{ImageError, Platform};

/// Types of the configuration of an image.
const IMAGE_CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
/// Annotation of what docker puts beside an image (an attestation).
const DOCKER_REFERENCE: &str = "vnd.docker.reference.type";
/// Most manifests and indexes that are looked through for an image.
const CANDIDATES_MAX: usize = 1000;
/// Least digits by which an image can be named.
const DIGITS_MIN: usize = 6;
/// Whether a name is a digest or the first digits of one.
pub(super) fn is_digest_of(name: &str, digest: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let found = digest.strip_prefix("sha256:").unwrap_or(digest);
    digest == name
        || digits.len() >= DIGITS_MIN
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && found.starts_with(digits)
}

/// By what one of several images can be named: what has no name goes by the first digits of its digest.
pub(super) fn choices(all: &[Descriptor]) -> String {
    let named = names(all);
    match named.is_empty() {
        false => named,
        true => {
            let digests = all.iter().map(|descriptor| descriptor.digest().to_string());
            list_of(digests.collect())
        }
    }
}

/// Digests in short, for a hint.
pub(super) fn list_of(digests: Vec<String>) -> String {
    let short = |digest: &String| {
        let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
        digits.chars().take(12).collect::<String>()
    };
    let mut list: Vec<_> = digests.iter().map(short).collect();
    list.sort();
    list.dedup();
    let more = list.len().saturating_sub(8);
    list.truncate(8);
    match (list.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("; there is {}", list.join(", ")),
        (false, more) => format!("; there is {} and {more} more", list.join(", ")),
    }
}

/// An image among the candidates.
struct Candidate {
    descriptor: Descriptor,
    /// Which entry of `index.json` leads to it.
    entry: usize,
    platform: Platform,
}

/// Collects the images that descriptors lead to, through nested indexes; what is no image is left out.
struct Candidates<'a> {
    files: &'a Files,
    found: Vec<Candidate>,
    seen: usize,
    /// The first one that could not be read.
    error: Option<ImageError>,
}

impl Candidates<'_> {
    fn add(
        &mut self,
        descriptor: &Descriptor,
        entry: usize,
        depth: usize,
    ) -> Result<(), ImageError> {
        self.seen += 1;
        if self.seen > CANDIDATES_MAX {
            let reason = format!("lists more than {CANDIDATES_MAX} images, say which one");
            return Err(ImageError::bad(self.files.name(), reason));
        }
        if is_index(descriptor.media_type()) {
            if depth >= NESTED_MAX {
                return Err(ImageError::bad(
                    self.files.name(),
                    "has indexes nested too deep",
                ));
            }
            let what = format!("index {} in {}", descriptor.digest(), self.files.name());
            let index: ImageIndex = parse(&what, &self.files.checked(descriptor)?)?;
            for descriptor in index.manifests() {
                self.add(descriptor, entry, depth + 1)?;
            }
            return Ok(());
        }
        // Signatures, lists of contents and the like.
        let annotations = descriptor.annotations().as_ref();
        if descriptor.artifact_type().is_some()
            || annotations.is_some_and(|all| all.contains_key(DOCKER_REFERENCE))
        {
            return Ok(());
        }
        let platform = match descriptor.platform() {
            Some(found) => Some(Platform {
                os: found.os().to_string(),
                architecture: found.architecture().to_string(),
                variant: found.variant().clone(),
            }),
            None => match self.look(descriptor) {
                Ok(platform) => platform,
                Err(error) => {
                    self.error.get_or_insert(error);
                    return Ok(());
                }
            },
        };
        if let Some(platform) = platform {
            self.found.push(Candidate {
                descriptor: descriptor.clone(),
                entry,
                platform,
            });
        }
        Ok(())
    }

    /// What the configuration says, where nothing else does; `None` for what is no image.
    fn look(&self, descriptor: &Descriptor) -> Result<Option<Platform>, ImageError> {
        let what = format!("manifest {} in {}", descriptor.digest(), self.files.name());
        let manifest: ImageManifest = parse(&what, &self.files.checked(descriptor)?)?;
        let kind = manifest.config().media_type().to_string();
        let is_image = IMAGE_CONFIGS.contains(&kind.as_str());
        if manifest.artifact_type().is_some() || !is_image {
            return Ok(None);
        }
        let config = self.files.checked(manifest.config())?;
        let config: Value = parse(
            &format!("configuration {}", manifest.config().digest()),
            &config,
        )?;
        let text = |key| config.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(Some(Platform {
            os: text("os").unwrap_or_default(),
            architecture: text("architecture").unwrap_or_default(),
            variant: text("variant"),
        }))
    }
}

/// The manifest for a platform among several, through nested indexes.
pub(super) fn choose(
    files: &Files,
    candidates: Vec<Descriptor>,
    platform: &Platform,
) -> Result<Descriptor, ImageError> {
    let mut all = Candidates {
        files,
        found: Vec::new(),
        seen: 0,
        error: None,
    };
    for (entry, descriptor) in candidates.iter().enumerate() {
        all.add(descriptor, entry, 0)?;
    }
    let same = |found: &str, wanted: &str| found.is_empty() || found == wanted;
    let fits = |candidate: &&Candidate| {
        let found = &candidate.platform;
        same(&found.os, &platform.os)
            && same(&found.architecture, &platform.architecture)
            && (platform.variant.is_none() || found.variant == platform.variant)
    };
    let fitting: Vec<_> = all.found.iter().filter(fits).collect();
    let Some(first) = fitting.first() else {
        if let Some(error) = all.error {
            return Err(error);
        }
        let reason = match all.found.as_slice() {
            // Its configuration is looked at again, and the message names it.
            [one] => return Ok(one.descriptor.clone()),
            [] => "holds no image, only other things".to_owned(),
            several => {
                let found: Vec<_> = several.iter().map(|c| c.platform.to_string()).collect();
                format!(
                    "has no image for {platform}, only for {}; choose one with --platform",
                    found.join(", ")
                )
            }
        };
        return Err(ImageError::bad(files.name(), reason));
    };
    // One image under several names is one image; variants of one architecture come with the one for most
    // machines first.
    let another = fitting.iter().any(|other| {
        let (a, b) = (&candidates[first.entry], &candidates[other.entry]);
        let variants =
            a.platform().is_some() && b.platform().is_some() && reference(a) == reference(b);
        other.entry != first.entry
            && other.descriptor.digest() != first.descriptor.digest()
            && !variants
    });
    if another {
        let mut entries: Vec<_> = fitting.iter().map(|found| found.entry).collect();
        entries.dedup();
        let entries: Vec<_> = entries.iter().map(|&at| candidates[at].clone()).collect();
        let reason = format!("holds several images, say which one{}", choices(&entries));
        return Err(ImageError::bad(files.name(), reason));
    }
    Ok(first.descriptor.clone())
}
