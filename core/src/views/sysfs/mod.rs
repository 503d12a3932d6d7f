//! The `sysfs` and `cgroup2` file systems: read-only trees of small files whose contents are made when they
//! are read.
//!
//! A tree is a table of paths. A `#` in a path stands for the number of a processor, so one entry describes
//! the same file of all of them; an inode number is the place in the table and that number.

mod cgroup;
mod devices;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::fs::filesystem::{Attr, Entry, Ino, Time};
use crate::fs::view::SysFs;

/// What a path of a table is.
#[derive(Clone, Copy)]
enum Kind {
    Dir,
    /// A file with these permissions and what makes its contents; the number is the processor's.
    File(u32, fn(&Kernel, u32) -> String),
    /// A file that always says the same.
    Text(u32, &'static str),
    /// A symbolic link to this target.
    Link(&'static str),
}

/// Paths below the root, each directory before what is in it. A path's place is its identity.
type Table = &'static [(&'static str, Kind)];

fn table(fs: SysFs) -> Table {
    match fs {
        SysFs::Devices => devices::PATHS,
        SysFs::Cgroup => cgroup::PATHS,
    }
}

/// A path of a table, and the processor that its `#` stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Node {
    place: usize,
    cpu: u32,
}

impl Node {
    fn ino(self) -> Ino {
        Ino((self.place as u64 + 1) | (u64::from(self.cpu) << 32))
    }

    fn parse(k: &Kernel, fs: SysFs, ino: Ino) -> Result<(Node, Kind), Errno> {
        let place = ((ino.0 & 0xffff_ffff) as usize)
            .checked_sub(1)
            .ok_or(Errno::ENOENT)?;
        let cpu = (ino.0 >> 32) as u32;
        let &(_, kind) = table(fs).get(place).ok_or(Errno::ENOENT)?;
        match cpu < k.env.cpus {
            true => Ok((Node { place, cpu }, kind)),
            false => Err(Errno::ENOENT),
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    match path.rfind('/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => ("", path),
    }
}

/// The places of what is in the directory at a place, the names as the table has them.
fn entries(table: Table, dir: usize) -> impl Iterator<Item = (usize, &'static str)> {
    let parent = table.get(dir).map_or("", |entry| entry.0);
    let paths = table.iter().enumerate().skip(1);
    paths.filter_map(move |(place, &(path, _))| {
        let (above, name) = split(path);
        (above == parent).then_some((place, name))
    })
}

/// What is in a directory: each name and node, those with a `#` once for each processor.
fn children(k: &Kernel, fs: SysFs, dir: Node) -> Vec<(String, Node)> {
    let mut found = Vec::new();
    for (place, name) in entries(table(fs), dir.place) {
        match name.contains('#') {
            true => found.extend(
                (0..k.env.cpus)
                    .map(|cpu| (name.replace('#', &format!("{cpu}")), Node { place, cpu })),
            ),
            false => found.push((
                name.into(),
                Node {
                    place,
                    cpu: dir.cpu,
                },
            )),
        }
    }
    found
}

/// The inode called `name` in a directory. `ENOENT`, `ENOTDIR`.
pub(crate) fn lookup(k: &Kernel, fs: SysFs, dir: Ino, name: &[u8]) -> Result<Ino, Errno> {
    let (dir, kind) = Node::parse(k, fs, dir)?;
    if !matches!(kind, Kind::Dir) {
        return Err(Errno::ENOTDIR);
    }
    let all = children(k, fs, dir).into_iter();
    all.filter(|(other, _)| other.as_bytes() == name)
        .map(|(_, node)| node.ino())
        .next()
        .ok_or(Errno::ENOENT)
}

/// Attributes: everything is root's and as old as the boot.
pub(crate) fn attr(k: &Kernel, fs: SysFs, ino: Ino) -> Result<Attr, Errno> {
    let (_, kind) = Node::parse(k, fs, ino)?;
    let at = Time::from_nanos(k.env.booted.real);
    // sysfs shows a page for each file, cgroup2 nothing.
    let size = match (fs, kind) {
        (SysFs::Devices, Kind::File(..) | Kind::Text(..)) => 4096,
        _ => 0,
    };
    Ok(Attr {
        mode: mode(kind),
        nlink: if matches!(kind, Kind::Dir) { 2 } else { 1 },
        size,
        atime: at,
        mtime: at,
        ctime: at,
        btime: at,
        ..Attr::default()
    })
}

fn mode(kind: Kind) -> u32 {
    match kind {
        Kind::Dir => g::S_IFDIR | 0o555,
        Kind::File(mode, _) | Kind::Text(mode, _) => g::S_IFREG | mode,
        Kind::Link(_) => g::S_IFLNK | 0o777,
    }
}

/// Target of a symbolic link.
pub(crate) fn read_link(k: &Kernel, fs: SysFs, ino: Ino) -> Result<Vec<u8>, Errno> {
    match Node::parse(k, fs, ino)?.1 {
        Kind::Link(target) => Ok(target.as_bytes().to_vec()),
        _ => Err(Errno::EINVAL),
    }
}

/// Contents of a file as they are now.
pub(crate) fn content(k: &Kernel, fs: SysFs, ino: Ino) -> Result<Vec<u8>, Errno> {
    let (node, kind) = Node::parse(k, fs, ino)?;
    match kind {
        Kind::File(_, make) => Ok(make(k, node.cpu).into_bytes()),
        Kind::Text(_, text) => Ok(text.as_bytes().to_vec()),
        _ => Err(Errno::EINVAL),
    }
}

/// Gives the entries of a directory from `cookie` on, as
/// [`InodeOps::read_dir`](crate::fs::filesystem::InodeOps::read_dir) does.
pub(crate) fn read_dir(
    k: &Kernel,
    fs: SysFs,
    dir: Ino,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    let (dir, kind) = Node::parse(k, fs, dir)?;
    if !matches!(kind, Kind::Dir) {
        return Err(Errno::ENOTDIR);
    }
    for (index, (name, node)) in children(k, fs, dir).into_iter().enumerate() {
        // Cookies up to 2 belong to "." and "..".
        let next = index as u64 + 3;
        if next <= cookie {
            continue;
        }
        let kind = (mode(table(fs)[node.place].1) >> 12) as u8;
        let entry = Entry {
            name: name.as_bytes(),
            ino: node.ino(),
            kind,
            next,
        };
        if !each(entry) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_lies_in_a_directory_that_stands_before_it() {
        for table in [devices::PATHS, cgroup::PATHS] {
            assert!(matches!(table[0], ("", Kind::Dir)));
            for (place, (path, _)) in table.iter().enumerate().skip(1) {
                let (parent, _) = split(path);
                let dir = table
                    .iter()
                    .position(|(other, _)| *other == parent)
                    .unwrap();
                assert!(dir < place && matches!(table[dir].1, Kind::Dir), "{path}");
                assert_eq!(
                    table.iter().filter(|(other, _)| other == path).count(),
                    1,
                    "{path}"
                );
            }
        }
    }
}
