//! `varve du`: what makes an image large.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use anyhow::Result;
use clap::ArgAction;
use serde_json::json;
use sha2::{Digest, Sha256};
use varve_core::machine::ImageId;
use varve_core::stack::{Inode, Stack};
use varve_image::walk::{Next, is_dir, walk};

use super::cat::{CopyError, runs};
use super::entry::write_name;
use super::{StackArguments, absolute, complain, paths_or_root};
use crate::output::{finish, human};
use crate::stacks::{self, OpenStack};

#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Sizes are bytes of file contents; a file with several names counts once. A layer's hidden bytes are those that layers above replace
or take away; twice are those of files whose contents another file has, too."
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
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Bytes of one layer.
#[derive(Default, Clone)]
struct Layer {
    visible: u64,
    hidden: u64,
    file: u64,
}

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
    let mut layers = vec![Layer::default(); stack.names.len()];
    let mut dirs: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut files: Vec<(Inode, u64, Vec<u8>)> = Vec::new();
    let status = sum(
        &mut stack,
        start,
        arguments,
        &mut layers,
        &mut dirs,
        &mut files,
    );
    let whole = shown == b"/";
    if whole {
        hidden(&mut stack, &mut layers);
    }
    let twice = match arguments.twice {
        true => same(&mut stack, files),
        false => Vec::new(),
    };
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
            let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
            let value = json!({
                "directories": dirs.iter().map(|(dir, bytes)| json!({
                    "path": text(&full(dir)),
                    "bytes": bytes,
                })).collect::<Vec<_>>(),
                "layers": layers.iter().zip(&stack.names).map(|(layer, name)| json!({
                    "file": name,
                    "image_bytes": layer.file,
                    "visible_bytes": layer.visible,
                    "hidden_bytes": whole.then_some(layer.hidden),
                })).collect::<Vec<_>>(),
                "twice": arguments.twice.then(|| twice.iter().map(|same| json!({
                    "bytes": same.size,
                    "files": same.files.iter().map(|(layer, path)| json!({
                        "layer": layer,
                        "path": text(path),
                    })).collect::<Vec<_>>(),
                })).collect::<Vec<_>>()),
            });
            writeln!(out, "{value:#}")?;
            return out.flush();
        }
        for (dir, bytes) in &dirs {
            write!(out, "{:>12}  ", size(*bytes))?;
            write_name(&mut out, &full(dir))?;
            writeln!(out)?;
        }
        writeln!(
            out,
            "\n{:>5} {:>12} {:>12} {:>12}  FILE",
            "LAYER", "IMAGE", "VISIBLE", "HIDDEN"
        )?;
        for (number, (layer, name)) in layers.iter().zip(&stack.names).enumerate() {
            let hidden = match whole {
                true => size(layer.hidden),
                false => "-".into(),
            };
            writeln!(
                out,
                "{number:>5} {:>12} {:>12} {hidden:>12}  {name}",
                size(layer.file),
                size(layer.visible)
            )?;
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
    start: Inode,
    arguments: &Arguments,
    layers: &mut [Layer],
    dirs: &mut BTreeMap<Vec<u8>, u64>,
    files: &mut Vec<(Inode, u64, Vec<u8>)>,
) -> u8 {
    for (layer, file) in layers.iter_mut().zip(&stack.images.0) {
        layer.file = varve_core::port::Block::len(file);
    }
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
            layer.visible += attr.size;
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
                *bytes += attr.size;
            }
        }
        if arguments.twice && attr.size > 0 {
            files.push((item.inode, attr.size, item.path.to_vec()));
        }
        Ok(Next::Into)
    });
    status
}

/// What each layer has that does not show.
fn hidden(stack: &mut OpenStack, layers: &mut [Layer]) {
    let images = &stack.images;
    for (number, layer) in layers.iter_mut().enumerate() {
        let Ok(mut alone) = Stack::open(images, &[ImageId(number as u32)], None) else {
            continue;
        };
        let (mut all, mut seen) = (0, HashSet::new());
        let root = alone.root();
        let Ok(()) = walk(&mut alone, images, root, &mut |_, item| {
            if let Ok(attr) = item.attr
                && attr.mode & 0o170000 == 0o100000
                && (attr.nlink <= 1 || seen.insert(item.inode))
            {
                all += attr.size;
            }
            Ok::<_, std::convert::Infallible>(Next::Into)
        });
        layer.hidden = all.saturating_sub(layer.visible);
    }
}

/// The files whose contents are equal, most bytes first. Only files of one size are read.
fn same(stack: &mut OpenStack, files: Vec<(Inode, u64, Vec<u8>)>) -> Vec<Same> {
    let mut sizes: BTreeMap<u64, Vec<(Inode, Vec<u8>)>> = BTreeMap::new();
    for (inode, size, path) in files {
        sizes.entry(size).or_default().push((inode, path));
    }
    let mut list = Vec::new();
    for (size, group) in sizes.into_iter().filter(|(_, group)| group.len() > 1) {
        let mut contents: HashMap<[u8; 32], Vec<(usize, Vec<u8>)>> = HashMap::new();
        for (inode, path) in group {
            let mut hasher = Sha256::new();
            let read = runs(&mut stack.stack, &stack.images, inode, &mut |_, run| {
                match run {
                    Ok(bytes) => hasher.update(bytes),
                    Err(count) => {
                        super::cat::zeros(&mut HashWriter(&mut hasher), count)?;
                    }
                }
                Ok(())
            });
            match read {
                Ok(()) => contents
                    .entry(hasher.finalize().into())
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
    let wasted = |same: &Same| same.size * (same.files.len() as u64 - 1);
    list.sort_by(|a, b| (wasted(b), &a.files).cmp(&(wasted(a), &b.files)));
    list
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
