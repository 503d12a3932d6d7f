//! `varve diff`: what is different between two stacks.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use anyhow::Result;
use serde_json::json;
use varve_image::walk::{is_dir, names};
use varve_imgfs::{Attr, Errno, Images, Ino, Source};

use super::entry::write_name;
use super::{JsonList, absolute, complain, join};
use crate::output::{Colour, Colours, finish};
use crate::stacks::{OpenStack, StackFiles, StoreArguments};
use crate::text;

/// Exit statuses of diff(1).
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;
/// Bytes compared at a time.
const PART: usize = 256 << 10;

#[derive(clap::Args)]
#[command(
    after_help = "Lines begin with A (added in B), D (deleted from A) or C (changed). The exit status is 0 if nothing is different, 1 if something \
        is, 2 if something could not be compared."
)]
pub(crate) struct Arguments {
    /// The one side: an image, or layer files joined with commas.
    #[arg(value_name = "A")]
    a: OsString,
    /// The other side.
    #[arg(value_name = "B")]
    b: OsString,
    /// Modification times that differ are differences, too.
    #[arg(long)]
    times: bool,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// A difference at a path.
struct Difference<'a> {
    path: &'a [u8],
    kind: char,
    /// What changed.
    what: Vec<&'static str>,
    /// Sizes, where there is a file.
    sizes: [Option<u64>; 2],
}

pub(crate) fn diff(arguments: &Arguments) -> Result<u8> {
    let open = |operand| StackFiles::open(operand, &arguments.store)?.stack(true);
    let (a, b) = match (open(&arguments.a), open(&arguments.b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => {
            text::say(crate::message(&error));
            return Ok(TROUBLE);
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut compare = Compare {
        sides: [a, b],
        times: arguments.times,
        status: 0,
    };
    let result = (|| {
        if arguments.json {
            let mut list = JsonList::new(&mut out)?;
            compare.run(&mut |difference| {
                let mut value = json!({
                    "kind": match difference.kind {
                        'A' => "added",
                        'D' => "deleted",
                        _ => "changed",
                    },
                    "what": difference.what,
                    "sizes": difference.sizes,
                });
                text::put(&mut value, "path", difference.path);
                list.push(&value)
            })?;
            list.end()?;
        } else {
            let colours = Colours::of_stdout();
            compare.run(&mut |difference| {
                let colour = match difference.kind {
                    'A' => Colour::Added,
                    'D' => Colour::Deleted,
                    _ => Colour::Changed,
                };
                colours.paint(&mut out, colour, |out| {
                    write!(out, "{} ", difference.kind)?;
                    write_name(out, difference.path)
                })?;
                match difference.what.is_empty() {
                    true => writeln!(out),
                    false => writeln!(out, " ({})", difference.what.join(", ")),
                }
            })?;
        }
        out.flush()
    })();
    finish(result)?;
    Ok(compare.status)
}

struct Compare {
    sides: [OpenStack; 2],
    times: bool,
    status: u8,
}

/// A pair of objects that are to be compared: what each side has at a path.
struct Pair {
    path: Vec<u8>,
    inodes: [Option<Ino>; 2],
}

impl Compare {
    fn run(&mut self, show: &mut dyn FnMut(Difference<'_>) -> io::Result<()>) -> io::Result<()> {
        let roots = [0, 1].map(|side| Some(self.sides[side].stack.root()));
        let mut pairs = vec![Pair {
            path: Vec::new(),
            inodes: roots,
        }];
        let mut seen = [(); 2].map(|()| std::collections::HashSet::new());
        while let Some(pair) = pairs.pop() {
            let shown = absolute(&pair.path);
            let mut attrs: [Option<Attr>; 2] = [None, None];
            let mut failed = false;
            for ((attr, stack), inode) in attrs.iter_mut().zip(&mut self.sides).zip(pair.inodes) {
                let Some(inode) = inode else {
                    continue;
                };
                match stack.stack.attr(&stack.images, inode) {
                    Ok(found) => *attr = Some(found),
                    Err(errno) => {
                        complain(stack, &shown, errno);
                        failed = true;
                    }
                }
            }
            if failed {
                self.status = TROUBLE;
                continue;
            }
            let sizes = attrs.map(|attr| attr.filter(|a| !is_dir(a.mode)).map(|a| a.size));
            let (kind, what) = match (attrs, pair.inodes) {
                ([Some(a), Some(b)], [Some(ia), Some(ib)]) => {
                    match self.changes([ia, ib], [&a, &b]) {
                        Ok(what) if what.is_empty() => (None, what),
                        Ok(what) => (Some('C'), what),
                        Err((side, errno)) => {
                            complain(&mut self.sides[side], &shown, errno);
                            self.status = TROUBLE;
                            (None, Vec::new())
                        }
                    }
                }
                ([None, _], _) => (Some('A'), Vec::new()),
                _ => (Some('D'), Vec::new()),
            };
            if let Some(kind) = kind {
                self.status = self.status.max(DIFFERENT);
                show(Difference {
                    path: &shown,
                    kind,
                    what,
                    sizes,
                })?;
            }
            let mut lists = [Vec::new(), Vec::new()];
            for side in 0..2 {
                let (Some(attr), Some(dir)) = (attrs[side], pair.inodes[side]) else {
                    continue;
                };
                if !is_dir(attr.mode) {
                    continue;
                }
                let stack = &mut self.sides[side];
                if !seen[side].insert(dir) {
                    complain(stack, &shown, Errno::ELOOP);
                    self.status = TROUBLE;
                    continue;
                }
                let (names, read) = names(&mut stack.stack, &stack.images, dir);
                if let Err(errno) = read {
                    complain(stack, &shown, errno);
                    self.status = TROUBLE;
                }
                lists[side] = names;
            }
            let below = self.pairs(&pair, lists);
            pairs.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// What the two sides have in a directory, by name.
    fn pairs(&mut self, pair: &Pair, lists: [Vec<Box<[u8]>>; 2]) -> Vec<Pair> {
        let mut below = Vec::new();
        let [mut a, mut b] = lists.map(|list| list.into_iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (Some(a), Some(b)) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return below,
            };
            let names = match order {
                Ordering::Less => [a.next(), None],
                Ordering::Greater => [None, b.next()],
                Ordering::Equal => [a.next(), b.next()],
            };
            let mut inodes = [None, None];
            let mut path = Vec::new();
            for side in 0..2 {
                let (Some(name), Some(dir)) = (&names[side], pair.inodes[side]) else {
                    continue;
                };
                path = join(&pair.path, name);
                let stack = &mut self.sides[side];
                match stack.stack.lookup(&stack.images, dir, name) {
                    Ok(inode) => inodes[side] = Some(inode),
                    Err(errno) => {
                        complain(stack, &absolute(&path), errno);
                        self.status = TROUBLE;
                    }
                }
            }
            if inodes.iter().any(Option::is_some) {
                below.push(Pair { path, inodes });
            }
        }
    }

    /// What is different about two objects.
    fn changes(
        &mut self,
        inodes: [Ino; 2],
        [a, b]: [&Attr; 2],
    ) -> Result<Vec<&'static str>, (usize, Errno)> {
        let mut what = Vec::new();
        let kind = |attr: &Attr| attr.mode & 0o170000;
        if kind(a) != kind(b) {
            what.push("type");
        } else {
            match kind(a) {
                0o100000 => {
                    if a.size != b.size {
                        what.push("size");
                    } else if !self.same_content(inodes, a.size)? {
                        what.push("content");
                    }
                }
                0o120000 => {
                    let mut targets = Vec::new();
                    for (side, &inode) in inodes.iter().enumerate() {
                        let stack = &mut self.sides[side];
                        let target = stack.stack.read_link(&stack.images, inode);
                        targets.push(target.map_err(|errno| (side, errno))?);
                    }
                    if targets[0] != targets[1] {
                        what.push("target");
                    }
                }
                0o020000 | 0o060000 if a.rdev != b.rdev => what.push("device"),
                _ => {}
            }
        }
        if a.mode & 0o7777 != b.mode & 0o7777 {
            what.push("mode");
        }
        if (a.uid, a.gid) != (b.uid, b.gid) {
            what.push("owner");
        }
        if self.times && a.mtime != b.mtime {
            what.push("time");
        }
        let mut xattrs = Vec::new();
        for (side, &inode) in inodes.iter().enumerate() {
            let stack = &mut self.sides[side];
            let fail = |errno| (side, errno);
            let mut list = stack.stack.list_xattr(&stack.images, inode).map_err(fail)?;
            list.sort();
            let mut all = Vec::with_capacity(list.len());
            for name in list {
                let value = stack
                    .stack
                    .xattr(&stack.images, inode, &name)
                    .map_err(fail)?;
                all.push((name, value));
            }
            xattrs.push(all);
        }
        if xattrs[0] != xattrs[1] {
            what.push("xattrs");
        }
        Ok(what)
    }

    /// Compares two files of one size. Parts that are the same bytes of the same file of the host are not
    /// read.
    fn same_content(&mut self, inodes: [Ino; 2], size: u64) -> Result<bool, (usize, Errno)> {
        let mut at = 0;
        let mut bufs = [vec![0; PART], vec![0; PART]];
        while at < size {
            let mut places = [None, None];
            let mut len = size - at;
            for side in 0..2 {
                let stack = &mut self.sides[side];
                let extent = stack.stack.extent(&stack.images, inodes[side], at);
                let Some(extent) = extent.map_err(|errno| (side, errno))? else {
                    return Ok(false);
                };
                len = len.min(extent.len);
                places[side] = Some(extent.source);
            }
            let same = match places {
                [Some(Source::Zero), Some(Source::Zero)] => true,
                [
                    Some(Source::Image {
                        image: a,
                        offset: x,
                    }),
                    Some(Source::Image {
                        image: b,
                        offset: y,
                    }),
                ] => {
                    let file = |side: usize, image: varve_imgfs::ImageId| {
                        let images = &self.sides[side].images;
                        images
                            .0
                            .get(image.0 as usize)
                            .and_then(|file| file.identity())
                    };
                    x == y && file(0, a).is_some() && file(0, a) == file(1, b)
                }
                _ => false,
            };
            if !same {
                len = len.min(PART as u64);
                for side in 0..2 {
                    let buf = &mut bufs[side][..len as usize];
                    match places[side] {
                        Some(Source::Image { image, offset }) => {
                            let block = self.sides[side].images.image(image);
                            let read = block.ok_or(Errno::EIO).and_then(|b| b.read_at(offset, buf));
                            read.map_err(|errno| (side, errno))?;
                        }
                        _ => buf.fill(0),
                    }
                }
                if bufs[0][..len as usize] != bufs[1][..len as usize] {
                    return Ok(false);
                }
            }
            at += len;
        }
        Ok(true)
    }
}
