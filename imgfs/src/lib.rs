//! Image layers of varve and what a stack of them shows, without a kernel around it.
//!
//! A layer is an EROFS image without compression; a stack of layers is one tree, by the rules of overlayfs.
//! The same code resolves names for a sandbox, a mount and a tool.
//!
//! ```
//! use varve_imgfs::{ImageId, MemBlock, MemImages, Stack};
//!
//! // Where the bytes of images come from is the caller's: here from memory.
//! let image = include_bytes!("../tests/hello.img").to_vec();
//! let images = MemImages(vec![MemBlock { bytes: image, mapped: true }]);
//! let mut stack = Stack::open(&images, &[ImageId(0)], None)?;
//!
//! let mut names = Vec::new();
//! let root = stack.root();
//! stack.read_dir(&images, root, 0, &mut |entry| {
//!     names.push(String::from_utf8_lossy(entry.name).into_owned());
//!     true
//! })?;
//! assert_eq!(names, ["hello", "link"]);
//!
//! let file = stack.lookup(&images, root, b"hello")?;
//! assert_eq!(stack.attr(&images, file)?.mode, 0o100644);
//! let mut bytes = [0; 64];
//! let len = stack.read(&images, file, 0, &mut bytes)?;
//! assert_eq!(&bytes[..len], b"hello from a layer\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From below: [`port`] has the traits that bytes come through, [`erofs`] reads one image, [`layers`] puts
//! several together, and [`Stack`] is the whole for those who only read. A kernel lays what programs write
//! over [`Layers`].
//!
//! Images are untrusted: damage is an error that names image, inode and field, never a panic, and memory and
//! time do not grow with what an image says. The crate is `no_std`, holds no `unsafe` and no global state.
#![no_std]
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
#![cfg_attr(
    not(test),
    deny(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

extern crate alloc;

pub mod erofs;
pub mod layers;
mod mem;
pub mod port;
mod stack;

pub use erofs::{Extent, ImgError, ImgFs, Source};
pub use layers::{
    Attr, Entry, Ino, Layer, Layers, MAX_LAYERS, MergedIndex, OpenError, Time, kind_of,
};
pub use mem::{MemBlock, MemImages};
pub use port::{Block, HostTree, ImageId, Images, LayerPorts, NoTree, NodeAttr, NodeEntry, NodeId};
pub use stack::Stack;
pub use varve_abi::Errno;
