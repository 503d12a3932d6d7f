//! `varve du`: what makes an image large.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::ArgAction;
use serde_json::json;
use sha2::{Digest, Sha256};
use varve_image::tarball::CopyError;
use varve_image::walk::{Next, is_dir, walk};
use varve_imgfs::Ino;

use super::cat::runs;
use super::entry::write_name;
use super::page::{self, Page};
use super::usage::{MaxWaste, Usage, bar};
use super::{StackArguments, absolute, complain, paths_or_root};
use crate::output::{cut, finish, human, terminal_width};
use crate::stacks::{self, OpenStack};
use crate::text;

#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Sizes are bytes of file contents; a file with several names counts once. A layer's hidden bytes are those that layers above replace \
        or take away, and so wasted; twice are those of files whose contents another file has, too. The exit status is 1 if more is wasted than \
        --max-waste allows."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Where to start; the root if there is none.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Directories so deep are shown; 0 is the start alone.
    #[arg(short = 'd', long, value_name = "N", default_value_t = 1)]
    max_depth: usize,
    /// Sizes with units.
    #[arg(short = 'h', long)]
    human_readable: bool,
    /// Show the contents that are stored more than once, too.
    #[arg(long)]
    twice: bool,
    /// Fail if layers above replace or take away more than this of the layers below: bytes (10m) or a part of
    /// all (5%).
    #[arg(long, value_name = "SIZE|PERCENT", conflicts_with = "path")]
    max_waste: Option<MaxWaste>,
    /// Write a page for browsers, `-` to standard output, instead of the lists.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "json"])]
    html: Option<PathBuf>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Cells of a bar, and wasted files that are shown.
const BAR: usize = 10;
const WASTED: usize = 10;

/// Files of one content.
struct Same {
    size: u64,
    /// Layer and path of each.
    files: Vec<(usize, Vec<u8>)>,
}

pub(crate) fn du(arguments: &Arguments) -> Result<u8> {
    let mut stack = arguments.stack.union()?;
    let start: Vec<_> = arguments.path.iter().cloned().collect();
    let path = paths_or_root(&start)[0].to_vec();
    let shown = absolute(&path);
    let start = match stack.resolve(&path, true) {
        Ok(start) => start,
        Err(errno) => {
            complain(&mut stack, &shown, errno);
            return Ok(1);
        }
    };
    let mut visible = vec![0; stack.names.len()];
    let mut dirs: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut files: Vec<(Ino, u64, Vec<u8>)> = Vec::new();
    let mut status = sum(
        &mut stack,
        start,
        arguments,
        &mut visible,
        &mut dirs,
        &mut files,
    );
    // What is for nothing is known of the whole only.
    let whole = shown == b"/";
    let usage = match whole {
        true => Usage::of(&mut stack),
        false => Usage::default(),
    };
    let name = arguments.stack.stack.to_string_lossy();
    if arguments
        .max_waste
        .is_some_and(|most| !most.holds(&name, &usage))
    {
        status = 1;
    }
    if let Some(target) = &arguments.html {
        let page = Page {
            name: &name,
            facts: Vec::new(),
            files: &stack.names,
            usage: &usage,
        };
        page::write(&page, target)?;
        return Ok(status);
    }
    let twice = match arguments.twice {
        true => same(&mut stack, files),
        false => Vec::new(),
    };
    let terminal = terminal_width();
    let size = |bytes: u64| match arguments.human_readable {
        true => human(bytes),
        false => bytes.to_string(),
    };
    let full = |dir: &[u8]| match dir {
        b"" => shown.clone(),
        dir => super::join(&shown, dir),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let result = (|| {
        if arguments.json {
            let with_path = |mut value: serde_json::Value, path: &[u8]| {
                text::put(&mut value, "path", path);
                value
            };
            let value = json!({
                "directories": dirs.iter().map(|(dir, bytes)| {
                    with_path(json!({ "bytes": bytes }), &full(dir))
                }).collect::<Vec<_>>(),
                "layers": visible.iter().zip(&stack.names).enumerate().map(|(number, (visible, name))| {
                    let layer = usage.layers.get(number);
                    json!({
                        "file": name,
                        "image_bytes": varve_imgfs::Block::len(&stack.images.0[number]),
                        "visible_bytes": visible,
                        "hidden_bytes": layer.map(|layer| layer.wasted()),
                        "command": stack.commands.get(number),
                    })
                }).collect::<Vec<_>>(),
                "usage": whole.then(|| usage.json()),
                "twice": arguments.twice.then(|| twice.iter().map(|same| json!({
                    "bytes": same.size,
                    "files": same.files.iter().map(|(layer, path)| {
                        with_path(json!({ "layer": layer }), path)
                    }).collect::<Vec<_>>(),
                })).collect::<Vec<_>>()),
            });
            writeln!(out, "{}", text::json_pretty(&value))?;
            return out.flush();
        }
        let all = dirs.values().copied().max().unwrap_or(0);
        for (dir, bytes) in &dirs {
            write!(out, "{:>12}  ", size(*bytes))?;
            if terminal.is_some() {
                write!(out, "{}  ", bar(*bytes, all, BAR))?;
            }
            write_name(&mut out, &full(dir))?;
            writeln!(out)?;
        }
        // Sizes with units leave room on a narrow terminal.
        let wide = match arguments.human_readable && terminal.is_some() {
            true => 7,
            false => 12,
        };
        writeln!(
            out,
            "\n{:>5} {:>wide$} {:>wide$} {:>wide$}  {}",
            "LAYER",
            "IMAGE",
            "VISIBLE",
            "HIDDEN",
            if terminal.is_some() { "FROM" } else { "FILE" }
        )?;
        for (number, (visible, name)) in visible.iter().zip(&stack.names).enumerate() {
            let hidden = match usage.layers.get(number) {
                Some(layer) => size(layer.wasted()),
                None => "-".into(),
            };
            let image = varve_imgfs::Block::len(&stack.images.0[number]);
            write!(
                out,
                "{number:>5} {:>wide$} {:>wide$} {hidden:>wide$}  ",
                size(image),
                size(*visible)
            )?;
            match terminal {
                // The command says more to people than the name of a blob.
                Some(width) => {
                    let from = stack.commands.get(number).filter(|text| !text.is_empty());
                    let from = text::shown(from.unwrap_or(name)).to_string();
                    writeln!(out, "{}", cut(&from, width.saturating_sub(10 + 3 * wide)))?;
                }
                None => {
                    write_name(&mut out, name.as_bytes())?;
                    writeln!(out)?;
                }
            }
        }
        if whole {
            writeln!(out, "\nEfficiency: {}", usage.score())?;
            for wasted in usage.wasted.iter().take(WASTED) {
                write!(out, "{:>12}  ", size(wasted.bytes))?;
                write_name(&mut out, &wasted.path_from_root())?;
                writeln!(out, " ({})", wasted.fate())?;
            }
            let more = usage.wasted.len().saturating_sub(WASTED);
            if more > 0 {
                writeln!(out, "{:>12}  and {more} more", "")?;
            }
        }
        for same in &twice {
            writeln!(out, "\n{} times {}:", same.files.len(), size(same.size))?;
            for (layer, path) in &same.files {
                write!(out, "{layer:>5} ")?;
                write_name(&mut out, &absolute(path))?;
                writeln!(out)?;
            }
        }
        out.flush()
    })();
    finish(result)?;
    Ok(status)
}

/// Sums up what is visible below a directory.
fn sum(
    stack: &mut OpenStack,
    start: Ino,
    arguments: &Arguments,
    layers: &mut [u64],
    dirs: &mut BTreeMap<Vec<u8>, u64>,
    files: &mut Vec<(Ino, u64, Vec<u8>)>,
) -> u8 {
    let mut status = 0;
    let mut seen = HashSet::new();
    let (images, names) = (&stack.images, &stack.names);
    let Ok(()) = walk(&mut stack.stack, images, start, &mut |tree, item| {
        let attr = match item.attr {
            Ok(attr) => attr,
            Err(errno) => {
                status = 1;
                stacks::complain(tree, names, &absolute(item.path), errno);
                return Ok::<_, std::convert::Infallible>(Next::Into);
            }
        };
        if is_dir(attr.mode) {
            if item.depth <= arguments.max_depth {
                dirs.entry(item.path.to_vec()).or_default();
            }
            return Ok(Next::Into);
        }
        if attr.mode & 0o170000 != 0o100000 || attr.nlink > 1 && !seen.insert(item.inode) {
            return Ok(Next::Into);
        }
        if let Some(layer) = layers.get_mut(item.inode.layer()) {
            *layer = layer.saturating_add(attr.size);
        }
        // The directory that holds it and those above, as far as they are shown.
        let ends = item
            .path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/');
        let ends = std::iter::once(0).chain(ends.map(|(at, _)| at));
        for end in ends.take(arguments.max_depth + 1) {
            if let Some(bytes) = dirs.get_mut(&item.path[..end]) {
                *bytes = bytes.saturating_add(attr.size);
            }
        }
        if arguments.twice && attr.size > 0 {
            files.push((item.inode, attr.size, item.path.to_vec()));
        }
        Ok(Next::Into)
    });
    status
}

/// The files whose contents are equal, most bytes first. Only files of one size are read.
fn same(stack: &mut OpenStack, files: Vec<(Ino, u64, Vec<u8>)>) -> Vec<Same> {
    let mut sizes: BTreeMap<u64, Vec<(Ino, Vec<u8>)>> = BTreeMap::new();
    for (inode, size, path) in files {
        sizes.entry(size).or_default().push((inode, path));
    }
    let mut list = Vec::new();
    for (size, group) in sizes.into_iter().filter(|(_, group)| group.len() > 1) {
        let mut contents: HashMap<[u8; 32], Vec<(usize, Vec<u8>)>> = HashMap::new();
        for (inode, path) in group {
            let mut digest = ContentDigest::default();
            let read = runs(&mut stack.stack, &stack.images, inode, &mut |at, run| {
                if let Ok(bytes) = run {
                    digest.update(at, bytes);
                }
                Ok(())
            });
            match read {
                Ok(()) => contents
                    .entry(digest.finish())
                    .or_default()
                    .push((inode.layer(), path)),
                Err(CopyError::Read(errno)) => complain(stack, &absolute(&path), errno),
                Err(CopyError::Write(_)) => {}
            }
        }
        let equal = contents.into_values().filter(|files| files.len() > 1);
        list.extend(equal.map(|mut files| {
            files.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
            Same { size, files }
        }));
    }
    let wasted = |same: &Same| same.size.saturating_mul(same.files.len() as u64 - 1);
    list.sort_by(|a, b| (wasted(b), &a.files).cmp(&(wasted(a), &b.files)));
    list
}

/// Bytes of a [`ContentDigest`]'s blocks.
const BLOCK: usize = 4096;

/// Tells contents of files of one size apart: a digest of the blocks that are not all zeros, with their
/// places. Holes cost nothing, however long an image says they are, and equal zeros that are stored.
struct ContentDigest {
    hasher: Sha256,
    /// The block that is being filled, and its number.
    block: [u8; BLOCK],
    number: u64,
}

impl Default for ContentDigest {
    fn default() -> ContentDigest {
        ContentDigest {
            hasher: Sha256::new(),
            block: [0; BLOCK],
            number: 0,
        }
    }
}

impl ContentDigest {
    /// Takes the bytes at an offset, which is not below those that came before.
    fn update(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, start) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            if number != self.number {
                self.end_block();
                self.number = number;
            }
            let len = bytes.len().min(BLOCK - start);
            self.block[start..start + len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            at += len as u64;
        }
    }

    fn end_block(&mut self) {
        if self.block.iter().any(|&byte| byte != 0) {
            self.hasher.update(self.number.to_le_bytes());
            self.hasher.update(self.block);
            self.block.fill(0);
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.end_block();
        self.hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(runs: &[(u64, &[u8])]) -> [u8; 32] {
        let mut digest = ContentDigest::default();
        for &(at, bytes) in runs {
            digest.update(at, bytes);
        }
        digest.finish()
    }

    #[test]
    fn holes_equal_zeros_and_places_count() {
        let whole: Vec<u8> = [vec![0; 5000], b"data".to_vec(), vec![0; 9000]].concat();
        let with_zeros = digest(&[(0, &whole)]);
        assert_eq!(digest(&[(5000, b"data")]), with_zeros);
        assert_eq!(digest(&[(5000, b"da"), (5002, b"ta")]), with_zeros);
        assert_ne!(digest(&[(5001, b"data")]), with_zeros);
        assert_ne!(digest(&[(5000 + 4096, b"data")]), with_zeros);
        assert_ne!(digest(&[]), with_zeros);
        assert_eq!(digest(&[(0, &[0; 4097])]), digest(&[]));
        // The end of what an image can say of itself.
        digest(&[(0, b"a"), (u64::MAX - 3, b"end")]);
    }
}
