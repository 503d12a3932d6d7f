//! Builds imgfs layers: one uncompressed, page-aligned, reproducible EROFS image from a directory or a tar
//! stream.
//!
//! A build runs in three steps. A *source* ([`build_dir`], [`build_tar`]) fills the in-memory `tree` of the
//! layer (names and attributes only) while it hands the bytes of each file to the `writer`, which copies
//! them to the output once and stores equal files once. Then `layout` gives every inode its place and
//! writes the metadata behind the data, the superblock last. `output` makes the image appear under its name
//! only when it is whole.
//!
//! The bytes of an image depend on the source and the options alone: no clock, no random UUID, no hash order.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::exit,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

mod check;
mod digest;
mod dirent;
mod error;
mod inode;
mod layout;
mod limit;
mod merge;
pub mod oci;
mod options;
mod output;
mod report;
mod source;
mod superblock;
pub mod tarball;
mod tree;
mod verity;
pub mod walk;
mod writer;
mod xattr;

pub use check::{CheckReport, Fault, check};
pub use error::BuildError;
pub use merge::{MergeLayer, index_digest, merge};
pub use options::{BuildOptions, DataAlign, ParseAlignError};
pub use output::{discard_unfinished, umask};
pub use report::{BuildReport, Progress, Work};
pub use source::{build_dir, build_dir_nameless, build_tar, build_tar_file};
pub use verity::{CheckedBlocks, VERITY_BLOCK, VerifiedFile, Verity};

/// Block size of every image written, in bytes: the largest that mounts on hosts with pages of any size.
pub const BLOCK_SIZE: u64 = 4096;
