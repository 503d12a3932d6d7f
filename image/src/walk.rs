//! Walks over the tree of a [`Stack`], depth first, names in byte order.

use std::collections::HashSet;

use varve_imgfs::{Attr, Errno, Images, Ino, Stack};

use crate::tree::S_IFDIR;

/// An object met on a walk.
#[derive(Debug)]
pub struct Item<'a> {
    /// 0 for where the walk started.
    pub depth: usize,
    /// Whether its directory has no more names behind it.
    pub last: bool,
    /// From where the walk started, without a leading slash; empty there.
    pub path: &'a [u8],
    /// The inode. A directory's stays valid while the walk is in it.
    pub inode: Ino,
    /// Its attributes; or why they, or the rest of a directory that was met before, cannot be read. The walk
    /// goes on.
    pub attr: Result<Attr, Errno>,
}

/// What to do after an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Into,
    /// Go on, but not into this directory.
    Over,
    /// End the walk.
    Stop,
}

struct Level {
    dir: Ino,
    /// What is left, first name last; the inode is known once it was looked up.
    names: Vec<Box<[u8]>>,
    path_len: usize,
}

/// Whether the mode is a directory's.
pub fn is_dir(mode: u32) -> bool {
    mode & 0o170000 == u32::from(S_IFDIR)
}

/// The names in a directory, sorted; what could be read before an error is given with it.
pub fn names(
    stack: &mut Stack,
    images: &dyn Images,
    dir: Ino,
) -> (Vec<Box<[u8]>>, Result<(), Errno>) {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    let read = stack.read_dir(images, dir, 0, &mut |entry| {
        names.push(entry.name.into());
        true
    });
    names.sort_unstable();
    (names, read)
}

/// Walks from `start`, which the caller holds a reference on. A directory that is met twice, which only a
/// damaged image has, is an error (`ELOOP`) where it is met again.
pub fn walk<E>(
    stack: &mut Stack,
    images: &dyn Images,
    start: Ino,
    each: &mut dyn FnMut(&mut Stack, Item<'_>) -> Result<Next, E>,
) -> Result<(), E> {
    let mut levels: Vec<Level> = Vec::new();
    let result = run(stack, images, start, each, &mut levels);
    for level in levels {
        if level.dir != start {
            stack.forget(level.dir);
        }
    }
    result
}

fn run<E>(
    stack: &mut Stack,
    images: &dyn Images,
    start: Ino,
    each: &mut dyn FnMut(&mut Stack, Item<'_>) -> Result<Next, E>,
    levels: &mut Vec<Level>,
) -> Result<(), E> {
    let mut path = Vec::new();
    let mut seen = HashSet::new();
    let mut met = Some(start);
    let mut last = true;
    loop {
        if let Some(inode) = met.take() {
            let depth = levels.len();
            let mut attr = stack.attr(images, inode);
            let dir = attr.as_ref().is_ok_and(|attr| is_dir(attr.mode));
            if dir && !seen.insert(inode) {
                attr = Err(Errno::ELOOP);
            }
            let enter = dir && attr.is_ok();
            let item = Item {
                depth,
                last,
                path: &path,
                inode,
                attr,
            };
            let next = each(stack, item)?;
            if enter && next == Next::Into {
                let (mut names, read) = names(stack, images, inode);
                if let Err(errno) = read {
                    let attr = Err(errno);
                    let item = Item {
                        depth,
                        last,
                        path: &path,
                        inode,
                        attr,
                    };
                    if each(stack, item)? == Next::Stop {
                        return Ok(());
                    }
                }
                names.reverse();
                levels.push(Level {
                    dir: inode,
                    names,
                    path_len: path.len(),
                });
            } else if inode != start {
                stack.forget(inode);
            }
            if next == Next::Stop {
                return Ok(());
            }
        }
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        path.truncate(level.path_len);
        let Some(name) = level.names.pop() else {
            let dir = level.dir;
            levels.pop();
            if dir != start {
                stack.forget(dir);
            }
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        last = level.names.is_empty();
        let dir = level.dir;
        match stack.lookup(images, dir, &name) {
            Ok(inode) => met = Some(inode),
            Err(errno) => {
                let item = Item {
                    depth: levels.len(),
                    last,
                    path: &path,
                    inode: dir,
                    attr: Err(errno),
                };
                if each(stack, item)? == Next::Stop {
                    return Ok(());
                }
            }
        }
    }
}
