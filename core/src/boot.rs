//! The boot configuration: everything a run starts from.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub use varve_imgfs::{Layer, MAX_LAYERS, MergedIndex};

use serde::{Deserialize, Serialize};

use crate::machine::ImageId;

/// Capabilities of root in a container, as Docker sets them.
pub const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// Everything a run starts from. Together with the list of inputs it determines the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootConfig {
    /// What `/` is made of.
    pub root: Tree,
    /// Further mounts, in the order they are made, after the standard ones (`/proc`, `/dev`, `/dev/shm`,
    /// `/tmp` stays in the root).
    pub mounts: Vec<Mount>,
    /// The first program.
    pub init: Init,
    /// Its environment, `NAME=value` each.
    pub env: Vec<Vec<u8>>,
    /// Its working directory, made if it is missing.
    pub cwd: Vec<u8>,
    /// Its user.
    pub user: User,
    /// Capabilities of root, one bit each (capabilities(7)), which no program gets more of.
    pub capabilities: u64,
    /// `nodename` of uname(2).
    pub hostname: String,
    /// Source of all randomness.
    pub seed: [u8; 32],
    /// Number of processors the program sees, at least 1.
    pub cpus: u32,
    /// Most bytes of memory that the run may use, if that is less than the memory file holds: pages of
    /// programs and of files in memory, page tables, contents of pipes. Past it the largest process is
    /// killed.
    pub memory_limit: Option<u64>,
    /// Most threads that there may be at a time, of all programs together, at least 1 and at most 16384; past
    /// it clone(2) gives `EAGAIN`. What the host can run, or a user's limit (`pids.max`).
    pub threads_max: u32,
    /// The lowest address that the host can map. Programs with `CAP_SYS_RAWIO` may use what lies between it
    /// and [`MMAP_MIN_ADDR`](crate::abi::MMAP_MIN_ADDR).
    pub lowest_address: u64,
    /// What file descriptors 0, 1 and 2 are on the host.
    pub stdio: [Stdio; 3],
    /// Emit an [`Output::Strace`](crate::event::Output::Strace) for system calls. Changes nothing of the run.
    #[serde(skip)]
    pub strace: Option<Strace>,
    /// The text of `/proc/cpuinfo` for one processor, as the host shows it, without the `processor` line.
    pub cpuinfo: Vec<u8>,
    /// Programs get functions that read the time without a system call. The host then hands in
    /// [`Input::Clock`](crate::event::Input::Clock), and guests can read the processor's time stamp counter
    /// as the host does. The time that programs see is then not of the inputs alone.
    pub vdso: bool,
}

/// A tree of files: read-only layers, lowest first, with or without a writable in-memory upper layer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tree {
    /// The layers, lowest first, at most [`MAX_LAYERS`]. None at all is an empty tmpfs.
    pub layers: Vec<Layer>,
    /// Refuse all writes with `EROFS`.
    pub read_only: bool,
    /// Most bytes of file data that the upper layer may hold; `None` has no limit but memory.
    pub upper_limit: Option<u64>,
    /// What makes a look-up cost the same for any number of layers; `None` where there is none.
    pub index: Option<MergedIndex>,
}

/// A mount made at boot. The mount point is made if it is missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path of the mount point.
    pub target: Vec<u8>,
    /// What `/proc/mounts` shows as the source.
    pub source: Vec<u8>,
    /// What is mounted.
    pub tree: Tree,
    /// Mode of the root directory of a tree without layers.
    pub mode: u32,
}

/// Which system calls are traced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallSet {
    /// A bit for each number of the table.
    pub(crate) words: Vec<u64>,
    /// Numbers beyond the table.
    pub(crate) others: bool,
}

impl CallSet {
    /// All calls.
    pub fn all() -> CallSet {
        CallSet {
            words: vec![u64::MAX; WORDS],
            others: true,
        }
    }

    /// None.
    pub fn none() -> CallSet {
        CallSet {
            words: vec![0; WORDS],
            others: false,
        }
    }

    /// Whether a call is in it.
    pub fn contains(&self, number: u64) -> bool {
        match self.words.get((number / 64) as usize) {
            Some(word) => word >> (number % 64) & 1 != 0,
            None => self.others,
        }
    }

    /// Takes the calls of another set too.
    pub fn add(&mut self, other: &CallSet) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.others |= other.others;
    }

    pub(crate) fn insert(&mut self, number: u64) {
        if let Some(word) = self.words.get_mut((number / 64) as usize) {
            *word |= 1 << (number % 64);
        }
    }
}

/// Words of bits for all numbers of system calls.
const WORDS: usize = 8;

/// What is traced, and how it is shown: the options of strace(1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Strace {
    /// Which calls (`-e trace=`).
    pub calls: CallSet,
    /// Most bytes that are shown of a string that is no path (`-s`).
    pub string_max: u32,
    /// Show what descriptors name (`-y`).
    pub paths: bool,
    /// Show all fields and variables (`-v`).
    pub full: bool,
    /// Signals.
    pub signals: bool,
    /// How threads end.
    pub exits: bool,
    /// Make lines; else calls are only told of, to be counted.
    pub lines: bool,
}

impl Default for Strace {
    fn default() -> Strace {
        Strace {
            calls: CallSet::all(),
            string_max: 32,
            paths: false,
            full: false,
            signals: true,
            exits: true,
            lines: true,
        }
    }
}

/// The first program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Init {
    /// Execute this program, found through `PATH` if it holds no slash.
    Exec {
        /// `argv`; the first one names the program.
        args: Vec<Vec<u8>>,
    },
    /// Execute such a program as the child of a first process of the kernel's own, which hands signals on to
    /// it, waits for all children, and ends as it does.
    Supervised {
        /// `argv`; the first one names the program.
        args: Vec<Vec<u8>>,
    },
    /// Run no program: the first task gets one anonymous read-write mapping and its thread starts at address
    /// 0. Tests and fuzzers issue system calls in its name.
    Bare {
        /// Page-aligned address of the mapping.
        addr: u64,
        /// Its length in bytes, a multiple of the page size.
        len: u64,
    },
}

/// User and groups of the first program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// By number.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// As `docker run --user` writes it: `name|uid[:group|gid]`, looked up in the root's `/etc/passwd` and
    /// `/etc/group`.
    Name(String),
}

/// What a standard stream is on the host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Stdio {
    /// A pipe, socket or anything else that is read and written as a stream.
    Stream,
    /// A terminal with this many rows and columns.
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// A regular file.
    File,
    /// Closed: the guest's descriptor is `/dev/null`.
    Null,
}

/// Why a run could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    /// An image layer was refused.
    Image {
        /// Which one.
        image: ImageId,
        /// What is wrong with it, naming inode and field.
        reason: String,
    },
    /// The configuration asks for something impossible; the text says what.
    Config(String),
    /// The first program could not be executed.
    Exec {
        /// The program as it was named.
        program: Vec<u8>,
        /// Why: `ENOENT` (status 127), others (status 126).
        errno: crate::abi::Errno,
        /// The file is there: what is missing then is the interpreter or loader that it names.
        found: bool,
    },
}

impl From<varve_imgfs::OpenError> for BootError {
    fn from(error: varve_imgfs::OpenError) -> BootError {
        match error {
            varve_imgfs::OpenError::Image(error) => BootError::Image {
                image: error.image,
                reason: format!("{error}"),
            },
            other => BootError::Config(format!("{other}")),
        }
    }
}
