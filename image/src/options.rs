//! What the caller may choose about an image.

use crate::BLOCK_SIZE;
use std::str::FromStr;

/// Choices for one build; the default is what `varve build` does without options.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Modification times newer than this (seconds since 1970) become this, the habit of `SOURCE_DATE_EPOCH`.
    pub timestamp: Option<i64>,
    /// Alignment of large files in the image.
    pub data_align: DataAlign,
    /// Paths inside the layer whose data is laid out first, in this order; unknown ones are ignored.
    pub order: Vec<Vec<u8>>,
    /// Volume name, at most 15 bytes.
    pub label: Option<String>,
    /// Most bytes of data that the layer may hold, not counting holes and what is there twice. By default an
    /// archive may become 256 times its own length, but 256 MiB in any case; a directory anything.
    pub max_size: Option<u64>,
    /// Go on past what cannot be read of a directory, and tell what that was ([`BuildReport::skipped`]).
    ///
    /// [`BuildReport::skipped`]: crate::BuildReport::skipped
    pub skip_unreadable: bool,
}

/// Alignment of the data of files at least that large; smaller files are aligned to 4096 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DataAlign {
    /// 4096 bytes.
    #[default]
    Page,
    /// 64 KiB, for hosts with pages of up to that size.
    Kib64,
    /// 2 MiB, for huge mappings.
    Mib2,
}

impl DataAlign {
    /// The alignment in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Page => BLOCK_SIZE,
            Self::Kib64 => 64 << 10,
            Self::Mib2 => 2 << 20,
        }
    }
}

/// The text names no supported alignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown alignment {0:?}: 4096, 64K and 2M are supported")]
pub struct ParseAlignError(String);

impl FromStr for DataAlign {
    type Err = ParseAlignError;

    fn from_str(text: &str) -> Result<Self, ParseAlignError> {
        match text
            .to_ascii_uppercase()
            .trim_end_matches("IB")
            .trim_end_matches('B')
        {
            "4K" | "4096" => Ok(Self::Page),
            "64K" | "65536" => Ok(Self::Kib64),
            "2M" | "2097152" => Ok(Self::Mib2),
            _ => Err(ParseAlignError(text.to_owned())),
        }
    }
}
