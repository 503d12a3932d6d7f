//! Why a build failed, each as one line that names the object concerned.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A build that did not produce an image; nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An object of the source could not be read.
    #[error("cannot {action} {path}: {error}", path = Shown::path(path), error = OsText(error))]
    Source {
        /// What was tried: `open`, `read`, `list`, ...
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// The system's answer, part of the text.
        error: io::Error,
    },
    /// A file changed its size while it was copied.
    #[error("{path} changed while it was read ({before} bytes, then {after})", path = Shown::path(path))]
    Changed {
        /// The file.
        path: PathBuf,
        /// Size when it was opened.
        before: u64,
        /// Size, or bytes found, afterwards.
        after: u64,
    },
    /// The image could not be written.
    #[error("cannot write {path}: {error}", path = Shown::path(path), error = OsText(error))]
    Output {
        /// The image as named by the caller.
        path: PathBuf,
        /// The system's answer, part of the text.
        error: io::Error,
    },
    /// The tar stream is damaged, or holds something a layer cannot.
    #[error("{archive}: {reason} (at byte {offset}{entry})", entry = InEntry(entry))]
    Tar {
        /// Name of the stream as given by the caller.
        archive: String,
        /// Offset in the uncompressed stream.
        offset: u64,
        /// Name of the entry; empty where there is none.
        entry: Vec<u8>,
        /// What is wrong.
        reason: String,
    },
    /// The layer would be larger than it may be.
    #[error("{}", too_large(name, *max, *packed))]
    TooLarge {
        /// What it is made of.
        name: String,
        /// Most bytes.
        max: u64,
        /// Bytes of the source so far, where these make the limit.
        packed: Option<u64>,
    },
    /// The object cannot be expressed in an image.
    #[error("{path}: {reason}", path = Shown(path))]
    Unsupported {
        /// Path of the object inside the layer, or of the source object.
        path: Vec<u8>,
        /// Why.
        reason: String,
    },
    /// The layers cannot be opened as a stack.
    #[error("{0}")]
    Layers(String),
    /// The caller wanted it to end.
    #[error("interrupted")]
    Interrupted,
    /// An option has no meaning.
    #[error("{0}")]
    Option(String),
}

impl BuildError {
    pub(crate) fn source(
        action: &'static str,
        path: impl Into<PathBuf>,
        error: impl Into<io::Error>,
    ) -> Self {
        Self::Source {
            action,
            path: path.into(),
            error: error.into(),
        }
    }

    pub(crate) fn output(path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Output {
            path: path.to_owned(),
            error: error.into(),
        }
    }

    pub(crate) fn unsupported(path: impl Into<Vec<u8>>, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

fn too_large(source: &str, max: u64, packed: Option<u64>) -> String {
    let source = Shown(source.as_bytes());
    match packed {
        Some(packed) => format!(
            "{source}: becomes more than {max} bytes of data, the most for {packed} packed ones; allow more with --max-size SIZE if it \
             is not meant to fill the disk"
        ),
        None => format!(
            "{source}: becomes more than {max} bytes of data, which is the limit (--max-size)"
        ),
    }
}

/// A name for one line of text: control characters escaped, the rest as is.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl<'a> Shown<'a> {
    fn path(path: &'a Path) -> Self {
        Shown(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for b in chunk.invalid() {
                write!(f, "\\x{b:02x}")?;
            }
        }
        Ok(())
    }
}

/// An error of the system without Rust's "(os error N)".
pub(crate) struct OsText<'a>(pub(crate) &'a io::Error);

impl fmt::Display for OsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

struct InEntry<'a>(&'a [u8]);

impl fmt::Display for InEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ", entry {}", Shown(self.0))
        }
    }
}
