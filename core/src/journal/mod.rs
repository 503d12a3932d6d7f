//! The journal: a log of one run from which the run can be made again, on any host.
//!
//! A run is a function of the boot configuration, the ordered inputs, and what the ports answered. Guests
//! write their memory without telling anybody, and directories of the host change, so the answers are
//! recorded too: everything that a port call returns, in order. Image files are named by length and digest;
//! their bytes are not in the journal, only the reads of them that failed.
//!
//! * [`Recorder`] stands between a host and the kernel: it writes inputs, hands the kernel ports that note
//!   what they answer, and notes what came out
//! * [`Replay`] reads a journal, runs a kernel on it without guests, and compares: outputs one by one, all
//!   port calls with their arguments (so every byte that the kernel writes to guest memory), and the digest
//!   of the state
//! * `wire` is how values are written, `stream` how the bytes are cut into chunks that are checked
//!
//! # Format
//!
//! Eight bytes [`MAGIC`], the version (`u32`, little-endian), then chunks: length of the payload (`u32`, 1 to
//! [`CHUNK_MAX`]), a check sum (`u64`) over the number of the chunk and its payload, the payload. The
//! payloads together are one stream of records: a [`Header`], then for the boot and each input a tag with the
//! input, the answers of ports, the outputs, and a mark with digests; an end record is the last thing. A
//! stream that stops before it was cut off. Values are in the encoding of `postcard`, as `serde` derives it
//! from the types; registers and times are differences to the last ones of the same thread and of the run.
//!
//! A journal is not trusted by its reader: whatever is in it, reading ends in a value or a [`LogError`], and
//! what is kept in memory is bounded by what was really read.
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

mod play;
mod ports;
mod record;
mod stream;
mod wire;

pub use play::{Difference, Replay, ReplayError, Step};
pub use record::Recorder;
pub use stream::{LogError, LogErrorKind, Sink, Source};

use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::boot::BootConfig;
use crate::digest::Digest;
use crate::event::{Now, Output};

/// The first bytes of a journal.
pub const MAGIC: [u8; 8] = *b"varvelog";
/// The version of the format that is written and the only one that is read.
pub const VERSION: u32 = 10;
/// Most bytes of payload that one chunk holds.
pub const CHUNK_MAX: usize = 64 << 10;

/// What a run started from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Version of varve that recorded it: digests of another one may differ.
    pub varve: String,
    /// The execution host it ran on, for people.
    pub platform: String,
    /// The boot configuration.
    pub config: BootConfig,
    /// Time of the boot.
    pub booted: Now,
    /// The image files by their numbers.
    pub images: Vec<ImageNote>,
    /// Frames of the memory file.
    pub frames: u32,
    /// Size of the floating-point state in bytes.
    pub xstate_size: u32,
    /// The digest of the state stands at every input whose number is a multiple of this, and at the end.
    pub digest_every: u32,
}

/// What identifies an image file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageNote {
    /// What the run called it, as a rule its path.
    pub name: Vec<u8>,
    /// Its length in bytes.
    pub len: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// The kernel saw it as a slice.
    pub mapped: bool,
    /// Guests could map it.
    pub mappable: bool,
}

/// Tags of records. What a port answered is above [`READ`](tag::READ).
mod tag {
    pub const TRAP: u8 = 1;
    pub const COMPLETED: u8 = 2;
    pub const TICK: u8 = 3;
    pub const SIGNAL: u8 = 4;
    pub const RESIZE: u8 = 5;
    pub const POKE: u8 = 6;
    pub const PEEK: u8 = 7;
    pub const CLOCK: u8 = 8;
    pub const OUTPUT: u8 = 16;
    pub const MARK: u8 = 17;
    pub const REFUSED: u8 = 18;
    pub const END: u8 = 19;
    pub const READ: u8 = 32;
    pub const LOAD: u8 = 33;
    pub const EXCHANGE: u8 = 34;
    pub const IMAGE_FAILED: u8 = 35;
    pub const FILE_READ: u8 = 36;
    pub const FLUSHED: u8 = 37;
    pub const ROOT: u8 = 40;
    pub const LOOKUP: u8 = 41;
    pub const ATTR: u8 = 42;
    pub const READ_DIR: u8 = 43;
    pub const READ_LINK: u8 = 44;
    pub const OPEN: u8 = 45;
    pub const LIST_XATTR: u8 = 46;
    pub const GET_XATTR: u8 = 47;
    pub const XSTATE_READ: u8 = 48;
    pub const XSTATE_WRITE: u8 = 49;
    /// These answer nothing: they are in the digest of calls, not in the stream.
    pub const WRITE: u8 = 64;
    pub const ZERO: u8 = 65;
    pub const COPY: u8 = 66;
    pub const DISCARD: u8 = 67;
    pub const XSTATE_RESET: u8 = 68;

    /// What a record is called in messages.
    pub fn name(tag: u8) -> &'static str {
        match tag {
            TRAP..=CLOCK => "the next input",
            OUTPUT => "an output",
            MARK => "the end of the input",
            REFUSED => "a boot that failed",
            END => "the end of the run",
            READ => "a read of memory",
            LOAD => "a load of a futex word",
            EXCHANGE => "an exchange of a futex word",
            IMAGE_FAILED => "a failed read of an image",
            FILE_READ => "a read of a host file",
            FLUSHED => "how many batches of outputs are in force",
            ROOT => "the root of a host tree",
            LOOKUP => "a look-up in a host directory",
            ATTR => "attributes of a host file",
            READ_DIR => "a listing of a host directory",
            READ_LINK => "the target of a host's link",
            OPEN => "an open of a host file",
            LIST_XATTR => "a list of extended attributes",
            GET_XATTR => "an extended attribute",
            XSTATE_READ => "a read of floating-point state",
            XSTATE_WRITE => "a write of floating-point state",
            _ => "an unknown record",
        }
    }
}

/// What an output is called, and the number that stands for its kind.
fn kind(output: &Output) -> (u8, &'static str) {
    match output {
        Output::CreateSpace(_) => (1, "CreateSpace"),
        Output::DropSpace(_) => (2, "DropSpace"),
        Output::Map { .. } => (3, "Map"),
        Output::Unmap { .. } => (4, "Unmap"),
        Output::Protect { .. } => (5, "Protect"),
        Output::StartThread { .. } => (6, "StartThread"),
        Output::Resume { .. } => (7, "Resume"),
        Output::MoveThread { .. } => (8, "MoveThread"),
        Output::EndThread(_) => (9, "EndThread"),
        Output::Interrupt(_) => (10, "Interrupt"),
        Output::Host { .. } => (11, "Host"),
        Output::CancelHost(_) => (12, "CancelHost"),
        Output::Deadline(_) => (13, "Deadline"),
        Output::Log(..) => (14, "Log"),
        Output::Strace { .. } => (15, "Strace"),
        Output::Exit(_) => (16, "Exit"),
    }
}

fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 16] = [
        "CreateSpace",
        "DropSpace",
        "Map",
        "Unmap",
        "Protect",
        "StartThread",
        "Resume",
        "MoveThread",
        "EndThread",
        "Interrupt",
        "Host",
        "CancelHost",
        "Deadline",
        "Log",
        "Strace",
        "Exit",
    ];
    let at = usize::from(kind).checked_sub(1);
    at.and_then(|at| NAMES.get(at))
        .map_or("nothing known", |name| name)
}

/// The digest of an output: 32 bits find a difference, and the mark that follows has more.
fn output_digest(output: &Output) -> u32 {
    let mut hasher = Digest::default();
    output.hash(&mut hasher);
    let digest = hasher.finish();
    ((digest ^ digest >> 32) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests;
