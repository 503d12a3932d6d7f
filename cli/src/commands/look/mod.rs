//! Commands that look into stacks: `ls`, `tree`, `stat`, `cat`, `which-layer`, `du`, `diff`, `extract`.
//!
//! Paths are those inside the stack, with or without a leading slash. What is wrong with one path is told on
//! standard error and makes the exit status 1; the rest goes on.

mod accounts;
pub(crate) mod cat;
mod columns;
pub(crate) mod diff;
pub(crate) mod du;
mod entry;
pub(crate) mod extract;
pub(crate) mod list;
pub(crate) mod page;
pub(crate) mod stat;
pub(crate) mod usage;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};

use anyhow::Result;
use varve_imgfs::Errno;

use crate::stacks::{self, OpenStack, StackFiles, StoreArguments};
use crate::text;

/// What to look into.
#[derive(clap::Args)]
pub(crate) struct StackArguments {
    /// An image of the store, a directory that holds one, or layer files joined with commas, lowest first.
    #[arg(required = true, value_name = "STACK")]
    stack: OsString,
    /// Check each block of the image against its Merkle tree when it is first touched.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    store: StoreArguments,
}

impl StackArguments {
    /// Opens the stack as the union of its layers, which knows what is from where.
    fn union(&self) -> Result<OpenStack> {
        self.files()?.stack(false)
    }

    fn files(&self) -> Result<StackFiles> {
        let mut files = StackFiles::open(&self.stack, &self.store)?;
        files.verify = self.verify.then(Default::default);
        Ok(files)
    }

    /// Opens the stack by the fastest way.
    fn open(&self) -> Result<OpenStack> {
        self.files()?.stack(true)
    }
}

/// Tells what is wrong with a path.
fn complain(stack: &mut OpenStack, path: &[u8], errno: Errno) {
    stacks::complain(&mut stack.stack, &stack.names, path, errno);
}

/// A list of JSON values that is written as they come.
struct JsonList<'a> {
    out: &'a mut dyn Write,
    first: bool,
}

impl<'a> JsonList<'a> {
    fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        write!(out, "[")?;
        Ok(Self { out, first: true })
    }

    fn push(&mut self, value: &serde_json::Value) -> io::Result<()> {
        let comma = if self.first { "" } else { "," };
        self.first = false;
        write!(self.out, "{comma}\n{}", text::json(value))
    }

    fn end(self) -> io::Result<()> {
        writeln!(self.out, "\n]")
    }
}

/// A path from the root as it is shown.
fn absolute(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    [b"/", path].concat()
}

/// Joins a path and a path below it.
fn join(path: &[u8], below: &[u8]) -> Vec<u8> {
    match (path, below) {
        (_, b"") => path.to_vec(),
        (b"", _) => below.to_vec(),
        _ if path.ends_with(b"/") => [path, below].concat(),
        _ => [path, b"/", below].concat(),
    }
}

/// The paths given, or the root.
fn paths_or_root(paths: &[OsString]) -> Vec<&[u8]> {
    use std::os::unix::ffi::OsStrExt;
    match paths {
        [] => vec![b"/"],
        paths => paths.iter().map(|path| OsStr::as_bytes(path)).collect(),
    }
}
