//! `varve ls` and `varve tree`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use anyhow::Result;
use clap::ArgAction;
use varve_core::stack::Inode;
use varve_image::walk::{self, Next, is_dir, walk};

use super::entry::{Entry, write_name};
use super::{JsonList, StackArguments, absolute, complain, join, paths_or_root};
use crate::output::{Colour, Colours, finish};
use crate::stacks::{self, OpenStack};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Files and directories; the root if there is none.
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Show permissions, links, owner, group, size and time (UTC), too.
    #[arg(short)]
    long: bool,
    /// Go into directories.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Show directories themselves, not what is in them.
    #[arg(short = 'd', long)]
    directory: bool,
    /// Sizes with units.
    #[arg(short = 'h', long)]
    human_readable: bool,
    /// Accepted for habit's sake: all names are shown, always.
    #[arg(short = 'a', long, hide = true)]
    all: bool,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(clap::Args)]
pub(crate) struct TreeArguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Where to start.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// How many levels to go down.
    #[arg(short = 'L', long, value_name = "LEVELS")]
    level: Option<usize>,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn list(arguments: &ListArguments) -> Result<u8> {
    let mut stack = arguments.stack.union()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut status = 0;
    let result = (|| {
        if arguments.json {
            let mut json = JsonList::new(&mut out)?;
            let mut show = |path: &[u8], entry: &Entry| json.push(&entry.json(path));
            each(arguments, &mut stack, &mut status, &mut show)?;
            return json.end();
        }
        text(arguments, &mut stack, &mut status, &mut out)
    })();
    finish(result.and_then(|()| out.flush()))?;
    Ok(status)
}

/// Gives every object that is to be listed, with its path from the root.
fn each(
    arguments: &ListArguments,
    stack: &mut OpenStack,
    status: &mut u8,
    show: &mut dyn FnMut(&[u8], &Entry) -> io::Result<()>,
) -> io::Result<()> {
    for path in paths_or_root(&arguments.paths) {
        let shown = absolute(path);
        let start = match stack.resolve(path, true) {
            Ok(start) => start,
            Err(errno) => {
                complain(stack, &shown, errno);
                *status = 1;
                continue;
            }
        };
        let deepest = match (arguments.directory, arguments.recursive) {
            (true, _) => 0,
            (false, true) => usize::MAX,
            (false, false) => 1,
        };
        entries(
            stack,
            start,
            &shown,
            deepest,
            status,
            &mut |path, depth, entry| {
                // A directory that is listed does not show itself.
                if depth == 0 && deepest > 0 && is_dir(entry.attr.mode) {
                    return Ok(());
                }
                show(path, entry)
            },
        )?;
    }
    Ok(())
}

/// Takes an object: its path from the root, how deep it is, and what it is.
type Show<'a> = dyn FnMut(&[u8], usize, &Entry) -> io::Result<()> + 'a;

/// Gives the objects below a path, depth first.
fn entries(
    stack: &mut OpenStack,
    start: Inode,
    base: &[u8],
    deepest: usize,
    status: &mut u8,
    show: &mut Show<'_>,
) -> io::Result<()> {
    let OpenStack {
        images,
        stack: tree,
        names,
        ..
    } = stack;
    let images: &_ = images;
    walk(tree, images, start, &mut |tree, item| {
        let path = join(base, item.path);
        let found = item.attr.and_then(|attr| {
            let target = match attr.mode & 0o170000 {
                0o120000 => Some(tree.read_link(images, item.inode)?),
                _ => None,
            };
            Ok(Entry {
                inode: item.inode,
                attr,
                target,
            })
        });
        match found {
            Ok(entry) => show(&path, item.depth, &entry)?,
            Err(errno) => {
                *status = 1;
                stacks::complain(tree, names, &path, errno);
            }
        }
        Ok(if item.depth < deepest {
            Next::Into
        } else {
            Next::Over
        })
    })
}

/// As ls(1) prints to a file: one name on each line, directories with a heading where there are several.
fn text(
    arguments: &ListArguments,
    stack: &mut OpenStack,
    status: &mut u8,
    out: &mut dyn Write,
) -> io::Result<()> {
    let headings = arguments.recursive || arguments.paths.len() > 1;
    let colours = Colours::of_stdout();
    let mut first = true;
    // Files first, then what is in directories.
    let mut dirs = Vec::new();
    for path in paths_or_root(&arguments.paths) {
        let shown = absolute(path);
        let found = stack.resolve(path, true).and_then(|inode| {
            let attr = stack.stack.attr(&stack.images, inode)?;
            Entry::new(stack, inode, attr)
        });
        match found {
            Ok(entry) if is_dir(entry.attr.mode) && !arguments.directory => {
                dirs.push((shown, entry.inode));
            }
            Ok(entry) => {
                line(arguments, colours, out, &shown, &entry)?;
                first = false;
            }
            Err(errno) => {
                complain(stack, &shown, errno);
                *status = 1;
            }
        }
    }
    dirs.reverse();
    let mut seen = std::collections::HashSet::new();
    while let Some((path, dir)) = dirs.pop() {
        if !seen.insert(dir) {
            continue;
        }
        if headings {
            if !first {
                writeln!(out)?;
            }
            write_name(out, &path)?;
            writeln!(out, ":")?;
        }
        first = false;
        let (names, read) = walk::names(&mut stack.stack, &stack.images, dir);
        let mut below = Vec::new();
        for name in names {
            let child = join(&path, &name);
            let found = stack.stack.lookup(&stack.images, dir, &name);
            let found = found.and_then(|inode| {
                let attr = stack.stack.attr(&stack.images, inode)?;
                Entry::new(stack, inode, attr)
            });
            match found {
                Ok(entry) => {
                    line(arguments, colours, out, &name, &entry)?;
                    if arguments.recursive && is_dir(entry.attr.mode) {
                        below.push((child, entry.inode));
                    }
                }
                Err(errno) => {
                    complain(stack, &child, errno);
                    *status = 1;
                }
            }
        }
        if let Err(errno) = read {
            complain(stack, &path, errno);
            *status = 1;
        }
        dirs.extend(below.into_iter().rev());
    }
    Ok(())
}

/// What an object is shown in.
fn colour(entry: &Entry) -> Colour {
    match entry.attr.mode & 0o170000 {
        0o040000 => Colour::Directory,
        0o120000 => Colour::Symlink,
        0o100000 if entry.attr.mode & 0o111 != 0 => Colour::Program,
        0o100000 => Colour::Plain,
        _ => Colour::Special,
    }
}

fn line(
    arguments: &ListArguments,
    colours: Colours,
    out: &mut dyn Write,
    name: &[u8],
    entry: &Entry,
) -> io::Result<()> {
    if arguments.long {
        write!(out, "{} ", entry.long(arguments.human_readable))?;
    }
    colours.paint(out, colour(entry), |out| write_name(out, name))?;
    if let (true, Some(target)) = (arguments.long, &entry.target) {
        write!(out, " -> ")?;
        write_name(out, target)?;
    }
    writeln!(out)
}

pub(crate) fn tree(arguments: &TreeArguments) -> Result<u8> {
    let mut stack = arguments.stack.union()?;
    let path = arguments.path.iter().cloned().collect::<Vec<_>>();
    let path = paths_or_root(&path)[0].to_vec();
    let shown = absolute(&path);
    let start = match stack.resolve(&path, true) {
        Ok(start) => start,
        Err(errno) => {
            complain(&mut stack, &shown, errno);
            return Ok(1);
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut status = 0;
    let deepest = arguments.level.unwrap_or(usize::MAX);
    let result = (|| {
        if arguments.json {
            let mut json = JsonList::new(&mut out)?;
            let mut show = |path: &[u8], _: usize, entry: &Entry| json.push(&entry.json(path));
            entries(&mut stack, start, &shown, deepest, &mut status, &mut show)?;
            return json.end();
        }
        let (mut dirs, mut files) = (0_u64, 0_u64);
        let colours = Colours::of_stdout();
        let mut show = |path: &[u8], depth: usize, entry: &Entry| {
            if depth > 0 {
                match is_dir(entry.attr.mode) {
                    true => dirs += 1,
                    false => files += 1,
                }
            }
            let name = match depth {
                0 => path,
                _ => path.rsplit(|&byte| byte == b'/').next().unwrap_or(path),
            };
            write!(out, "{:1$}", "", depth * 4)?;
            colours.paint(&mut out, colour(entry), |out| write_name(out, name))?;
            if let Some(target) = &entry.target {
                write!(out, " -> ")?;
                write_name(&mut out, target)?;
            }
            writeln!(out)
        };
        entries(&mut stack, start, &shown, deepest, &mut status, &mut show)?;
        writeln!(out, "\n{dirs} directories, {files} files")
    })();
    finish(result.and_then(|()| out.flush()))?;
    Ok(status)
}
