//! `varve cat`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use serde_json::json;
use varve_image::tarball::{self, CopyError, EachRun, zeros};
use varve_image::walk::is_dir;
use varve_imgfs::{Errno, Images, Ino, Stack};

use super::{StackArguments, absolute, complain};
use crate::output::finish;
use crate::stacks::OpenStack;
use crate::text;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Regular files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// Print a list of objects with path, size and contents: `text` if they are UTF-8 of at most 1 MiB, else
    /// `hex`.
    #[arg(long)]
    json: bool,
}

/// Largest file that is looked at whether it is text, in bytes.
const TEXT_MAX: u64 = 1 << 20;

/// Gives the bytes of a file in runs, from the mapping where there is one: offset, and the bytes or how many
/// zeros.
pub(super) fn runs(
    stack: &mut Stack,
    images: &dyn Images,
    inode: Ino,
    each: &mut EachRun<'_>,
) -> Result<(), CopyError> {
    tarball::runs(images, &mut |at| stack.extent(images, inode, at), each)
}

/// Writes one file as an object of a list.
fn object(
    stack: &mut OpenStack,
    inode: Ino,
    path: &[u8],
    out: &mut dyn Write,
    first: &mut bool,
) -> Result<(), CopyError> {
    let OpenStack { stack, images, .. } = stack;
    let size = stack.attr(images, inode).map_err(CopyError::Read)?.size;
    let mut bytes = vec![0; size.min(TEXT_MAX) as usize];
    stack
        .read(images, inode, 0, &mut bytes)
        .map_err(CopyError::Read)?;
    let mut head = json!({ "size": size });
    text::put(&mut head, "path", path);
    let head = text::json(&head);
    let comma = if std::mem::take(first) { "\n" } else { ",\n" };
    let head = format!("{comma}{}", head.trim_end_matches('}'));
    let mut written = || -> io::Result<()> {
        match std::str::from_utf8(&bytes) {
            Ok(text) if size <= TEXT_MAX => {
                write!(out, "{head},\"text\":{}}}", text::json(&json!(text)))
            }
            _ => write!(out, "{head},\"hex\":\""),
        }
    };
    written().map_err(CopyError::Write)?;
    if size <= TEXT_MAX && std::str::from_utf8(&bytes).is_ok() {
        return Ok(());
    }
    let copied = runs(stack, images, inode, &mut |_, run| match run {
        Ok(bytes) => out.write_all(hex::encode(bytes).as_bytes()),
        Err(count) => (0..count).try_for_each(|_| out.write_all(b"00")),
    });
    // The list stays one, whatever happened in the middle of it.
    let end = match copied {
        Ok(()) => "\"}",
        Err(_) => "\",\"incomplete\":true}",
    };
    out.write_all(end.as_bytes()).map_err(CopyError::Write)?;
    copied
}

pub(crate) fn cat(arguments: &Arguments) -> Result<u8> {
    let mut stack = arguments.stack.open()?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut first = true;
    if arguments.json {
        finish(write!(out, "["))?;
    }
    let mut status = 0;
    for path in &arguments.paths {
        let path = path.as_bytes();
        let found = stack.resolve(path, true).and_then(|inode| {
            let mode = stack.stack.attr(&stack.images, inode)?.mode;
            match mode & 0o170000 {
                0o100000 => Ok(inode),
                _ if is_dir(mode) => Err(Errno::EISDIR),
                _ => Err(Errno::EINVAL),
            }
        });
        let copied = match found {
            Ok(inode) if arguments.json => {
                object(&mut stack, inode, &absolute(path), &mut out, &mut first)
            }
            Ok(inode) => runs(
                &mut stack.stack,
                &stack.images,
                inode,
                &mut |_, run| match run {
                    Ok(bytes) => out.write_all(bytes),
                    Err(count) => zeros(&mut out, count),
                },
            ),
            Err(errno) => Err(CopyError::Read(errno)),
        };
        match copied {
            Ok(()) => {}
            Err(CopyError::Read(errno)) => {
                complain(&mut stack, &absolute(path), errno);
                status = 1;
            }
            Err(CopyError::Write(error)) => {
                finish(Err(error))?;
                return Ok(status);
            }
        }
    }
    if arguments.json {
        finish(writeln!(out, "\n]"))?;
    }
    finish(out.flush())?;
    Ok(status)
}
