//! `varve ls` and `varve tree`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use anyhow::Result;
use clap::ArgAction;
use varve_image::walk::{self, Next, is_dir, walk};
use varve_imgfs::Ino;

use super::accounts::Accounts;
use super::columns;
use super::entry::{Entry, Long, write_name};
use super::{JsonList, StackArguments, absolute, complain, join, paths_or_root};
use crate::output::{Colour, Colours, count, finish, terminal_width};
use crate::stacks::{self, OpenStack};
use crate::text;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Files and directories; the root if there is none.
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Show permissions, links, owner, group, size and time (UTC), too; names of users and groups are those
    /// of the image.
    #[arg(short)]
    long: bool,
    /// As -l, with the numbers of users and groups.
    #[arg(short = 'n', long)]
    numeric_uid_gid: bool,
    /// One name on each line on a terminal, too.
    #[arg(short = '1')]
    one: bool,
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
            let accounts = Accounts::of(&mut stack);
            let mut json = JsonList::new(&mut out)?;
            let mut show = |path: &[u8], entry: &Entry| {
                let mut value = entry.json(path);
                value["user"] = accounts.user(entry.attr.uid).into();
                value["group"] = accounts.group(entry.attr.gid).into();
                json.push(&value)
            };
            each(arguments, &mut stack, &mut status, &mut show)?;
            return json.end();
        }
        print(arguments, &mut stack, &mut status, &mut out)
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
            &mut |path, (depth, _), entry| {
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

/// Takes an object: its path from the root, how deep it is and whether it is the last one of its directory,
/// and what it is.
type Show<'a> = dyn FnMut(&[u8], (usize, bool), &Entry) -> io::Result<()> + 'a;

/// Gives the objects below a path, depth first.
fn entries(
    stack: &mut OpenStack,
    start: Ino,
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
            Ok(entry) => show(&path, (item.depth, item.last), &entry)?,
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

/// How objects are printed.
struct Style<'a> {
    arguments: &'a ListArguments,
    colours: Colours,
    accounts: Accounts,
    /// Cells of a line where names stand in columns.
    columns: Option<usize>,
}

/// As ls(1) prints: directories with a heading where there are several.
fn print(
    arguments: &ListArguments,
    stack: &mut OpenStack,
    status: &mut u8,
    out: &mut dyn Write,
) -> io::Result<()> {
    let headings = arguments.recursive || arguments.paths.len() > 1;
    let long = arguments.long || arguments.numeric_uid_gid;
    let style = Style {
        arguments,
        colours: Colours::of_stdout(),
        accounts: match long && !arguments.numeric_uid_gid {
            true => Accounts::of(stack),
            false => Accounts::default(),
        },
        columns: terminal_width().filter(|_| !long && !arguments.one),
    };
    let mut first = true;
    // Files first, then what is in directories.
    let mut dirs = Vec::new();
    let mut files = Vec::new();
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
            Ok(entry) => files.push((shown, entry)),
            Err(errno) => {
                complain(stack, &shown, errno);
                *status = 1;
            }
        }
    }
    if !files.is_empty() {
        style.print(out, &files)?;
        first = false;
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
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            let child = join(&path, &name);
            let found = stack.stack.lookup(&stack.images, dir, &name);
            let found = found.and_then(|inode| {
                let attr = stack.stack.attr(&stack.images, inode)?;
                Entry::new(stack, inode, attr)
            });
            match found {
                Ok(entry) => {
                    if arguments.recursive && is_dir(entry.attr.mode) {
                        below.push((child, entry.inode));
                    }
                    list.push((name.into_vec(), entry));
                }
                Err(errno) => {
                    complain(stack, &child, errno);
                    *status = 1;
                }
            }
        }
        style.print(out, &list)?;
        if let Err(errno) = read {
            complain(stack, &path, errno);
            *status = 1;
        }
        dirs.extend(below.into_iter().rev());
    }
    Ok(())
}

impl Style<'_> {
    /// Prints what is in one place.
    fn print(&self, out: &mut dyn Write, list: &[(Vec<u8>, Entry)]) -> io::Result<()> {
        if let Some(line) = self.columns {
            let widths: Vec<_> = list
                .iter()
                .map(|(name, _)| columns::width(&text::shown(name).to_string()))
                .collect();
            for line in columns::lines(&widths, line) {
                for (at, gap) in line {
                    let (name, entry) = &list[at];
                    self.name(out, name, entry)?;
                    write!(out, "{:gap$}", "")?;
                }
                writeln!(out)?;
            }
            return Ok(());
        }
        let long = self.arguments.long || self.arguments.numeric_uid_gid;
        let mut fields = Vec::new();
        if long {
            let entries = list.iter().map(|(_, entry)| entry);
            fields = Long::of(entries, &self.accounts, self.arguments.human_readable);
        }
        for (at, (name, entry)) in list.iter().enumerate() {
            if let Some(fields) = fields.get(at) {
                write!(out, "{fields} ")?;
            }
            self.name(out, name, entry)?;
            if let (true, Some(target)) = (long, &entry.target) {
                write!(out, " -> ")?;
                write_name(out, target)?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn name(&self, out: &mut dyn Write, name: &[u8], entry: &Entry) -> io::Result<()> {
        let colour = colour(entry);
        self.colours.paint(out, colour, |out| write_name(out, name))
    }
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
            let mut show = |path: &[u8], _, entry: &Entry| json.push(&entry.json(path));
            entries(&mut stack, start, &shown, deepest, &mut status, &mut show)?;
            return json.end();
        }
        let (mut dirs, mut files) = (0_u64, 0_u64);
        let colours = Colours::of_stdout();
        // Of each directory on the way whether it is the last one of its own.
        let mut lasts = Vec::new();
        let mut show = |path: &[u8], (depth, last): (usize, bool), entry: &Entry| {
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
            lasts.truncate(depth.saturating_sub(1));
            for last in &lasts {
                write!(out, "{}", if *last { "    " } else { "│   " })?;
            }
            if depth > 0 {
                write!(out, "{}", if last { "└── " } else { "├── " })?;
                lasts.push(last);
            }
            colours.paint(&mut out, colour(entry), |out| write_name(out, name))?;
            if let Some(target) = &entry.target {
                write!(out, " -> ")?;
                write_name(&mut out, target)?;
            }
            writeln!(out)
        };
        entries(&mut stack, start, &shown, deepest, &mut status, &mut show)?;
        writeln!(
            out,
            "\n{}, {}",
            count(dirs, "directory"),
            count(files, "file")
        )
    })();
    finish(result.and_then(|()| out.flush()))?;
    Ok(status)
}
