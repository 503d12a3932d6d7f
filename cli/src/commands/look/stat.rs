//! `varve stat` and `varve which-layer`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use serde_json::{Value, json};
use varve_imgfs::{Errno, ImageId, Ino, Source, Stack};

use super::entry::{Entry, time, write_name};
use super::{JsonList, StackArguments, absolute, complain};
use crate::output::finish;
use crate::stacks::OpenStack;
use crate::text;

/// Extents that are shown of one file.
const EXTENTS_MAX: usize = 64;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Files and directories.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// Follow a symbolic link at the end of a path.
    #[arg(short = 'L', long)]
    dereference: bool,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct WhichArguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Files and directories.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// Show all layers that have something at the path, topmost first.
    #[arg(short, long)]
    all: bool,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

/// Where the bytes of a file are: offset in the file, image file and offset there or `None` for zeros,
/// length.
type Extents = Vec<(u64, Option<(usize, u64)>, u64)>;

fn extents(stack: &mut OpenStack, entry: &Entry) -> Result<Extents, Errno> {
    let mut list = Vec::new();
    if entry.attr.mode & 0o170000 != 0o100000 {
        return Ok(list);
    }
    let mut at = 0;
    while let Some(extent) = stack.stack.extent(&stack.images, entry.inode, at)? {
        if list.len() == EXTENTS_MAX {
            break;
        }
        let place = match extent.source {
            Source::Image { image, offset } => Some((image.0 as usize, offset)),
            Source::Zero => None,
        };
        list.push((at, place, extent.len));
        at += extent.len;
    }
    Ok(list)
}

/// Names and values of extended attributes.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

fn xattrs(stack: &mut OpenStack, inode: Ino) -> Result<Xattrs, Errno> {
    let names = stack.stack.list_xattr(&stack.images, inode)?;
    let mut list = Vec::with_capacity(names.len());
    for name in names {
        let value = stack.stack.xattr(&stack.images, inode, &name)?;
        list.push((name, value));
    }
    list.sort();
    Ok(list)
}

pub(crate) fn stat(arguments: &Arguments) -> Result<u8> {
    let mut stack = arguments.stack.union()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut status = 0;
    let result = (|| {
        let mut values = Vec::new();
        for path in &arguments.paths {
            let path = path.as_bytes();
            let shown = absolute(path);
            let found = stack
                .resolve(path, arguments.dereference)
                .and_then(|inode| {
                    let attr = stack.stack.attr(&stack.images, inode)?;
                    let entry = Entry::new(&mut stack, inode, attr)?;
                    let extents = extents(&mut stack, &entry)?;
                    let xattrs = xattrs(&mut stack, inode)?;
                    Ok((entry, extents, xattrs))
                });
            match found {
                Ok((entry, extents, xattrs)) => {
                    if arguments.json {
                        let mut value = entry.json(&shown);
                        value["file"] = stack.names[entry.inode.layer()].clone().into();
                        value["extents"] = extents
                            .iter()
                            .map(|(at, place, len)| match place {
                                Some((image, offset)) => {
                                    json!({ "at": at, "length": len, "layer": image, "offset": offset })
                                }
                                None => json!({ "at": at, "length": len }),
                            })
                            .collect();
                        value["xattrs"] = xattrs
                            .iter()
                            .map(|(name, value)| {
                                let mut object = json!({ "value_hex": hex::encode(value) });
                                text::put(&mut object, "name", name);
                                object
                            })
                            .collect();
                        values.push(value);
                    } else {
                        describe(&mut out, &stack, &shown, &entry, &extents, &xattrs)?;
                    }
                }
                Err(errno) => {
                    complain(&mut stack, &shown, errno);
                    status = 1;
                }
            }
        }
        if arguments.json {
            writeln!(out, "{}", text::json_pretty(&Value::from(values)))?;
        }
        out.flush()
    })();
    finish(result)?;
    Ok(status)
}

fn describe(
    out: &mut dyn Write,
    stack: &OpenStack,
    path: &[u8],
    entry: &Entry,
    extents: &Extents,
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> io::Result<()> {
    let attr = &entry.attr;
    write!(out, "  File: ")?;
    write_name(out, path)?;
    if let Some(target) = &entry.target {
        write!(out, " -> ")?;
        write_name(out, target)?;
    }
    writeln!(out, "\n  Type: {}", entry.kind())?;
    writeln!(out, "  Size: {}", attr.size)?;
    if entry.is_device() {
        let (major, minor) = entry.device();
        writeln!(out, "Device: {major}, {minor}")?;
    }
    writeln!(
        out,
        "  Mode: {:04o}/{}  Uid: {}  Gid: {}  Links: {}",
        attr.mode & 0o7777,
        entry.permissions(),
        attr.uid,
        attr.gid,
        attr.nlink
    )?;
    writeln!(out, "Modify: {} UTC", time(attr.mtime.sec, attr.mtime.nsec))?;
    let layer = entry.inode.layer();
    let name = &stack.names[layer];
    write!(out, " Layer: {layer} ")?;
    write_name(out, name.as_bytes())?;
    writeln!(out, ", inode {}", entry.inode.nid())?;
    for (at, place, len) in extents {
        match place {
            Some((image, offset)) => {
                writeln!(out, "  Data: {at}+{len} at {offset} of layer {image}")?;
            }
            None => writeln!(out, "  Data: {at}+{len} zeros")?,
        }
    }
    for (name, value) in xattrs {
        writeln!(
            out,
            " Xattr: {}=\"{}\"",
            text::shown(name),
            value.escape_ascii()
        )?;
    }
    Ok(())
}

pub(crate) fn which(arguments: &WhichArguments) -> Result<u8> {
    let mut stack = arguments.stack.union()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut status = 0;
    let result = (|| {
        let mut json = match arguments.json {
            true => Some(JsonList::new(&mut out)?),
            false => None,
        };
        let mut lines: Vec<u8> = Vec::new();
        for path in &arguments.paths {
            let path = path.as_bytes();
            let shown = absolute(path);
            let visible = stack.resolve(path, false);
            let mut layers = Vec::new();
            match visible {
                Ok(inode) if !arguments.all => layers.push(inode.layer()),
                _ => layers = holders(&mut stack, path),
            }
            if let Err(errno) = visible {
                status = 1;
                complain(&mut stack, &shown, errno);
                if let Some(layer) = layers.first() {
                    let name = stack.names.get(*layer).cloned().unwrap_or_default();
                    text::say(format_args!(
                        "layer {layer} ({name}) has it, and a layer above takes it away"
                    ));
                }
                if !arguments.all {
                    continue;
                }
            }
            for (index, layer) in layers.into_iter().enumerate() {
                let name = &stack.names[layer];
                let shows = index == 0 && visible.is_ok();
                match &mut json {
                    Some(json) => {
                        let mut value = json!({ "layer": layer, "file": name, "visible": shows });
                        text::put(&mut value, "path", &shown);
                        json.push(&value)?;
                    }
                    None => {
                        write!(lines, "{layer} ")?;
                        write_name(&mut lines, name.as_bytes())?;
                        write!(lines, " ")?;
                        write_name(&mut lines, &shown)?;
                        writeln!(lines)?;
                    }
                }
            }
        }
        if let Some(json) = json {
            json.end()?;
        }
        out.write_all(&lines)?;
        out.flush()
    })();
    finish(result)?;
    Ok(status)
}

/// The layers that have something at a path, topmost first, each looked at by itself.
fn holders(stack: &mut OpenStack, path: &[u8]) -> Vec<usize> {
    let whole = stack.stack.clone();
    let mut found = Vec::new();
    for layer in (0..stack.images.0.len()).rev() {
        let Ok(alone) = Stack::open(&stack.images, &[ImageId(layer as u32)], None) else {
            continue;
        };
        stack.stack = alone;
        if stack.resolve(path, false).is_ok() {
            found.push(layer);
        }
    }
    stack.stack = whole;
    found
}
