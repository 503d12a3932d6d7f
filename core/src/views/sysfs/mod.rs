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

use super::ops::ViewFs;
use super::proc::Shown;
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::file::FileId;
use crate::fs::filesystem::{Attr, Entry, Ino, Time};
use crate::fs::view::SysFs;
use crate::machine::SpaceId;
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::perm::Who;

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

/// What is told of a path.
struct Answers {
    mode: u32,
    links: u32,
    /// Of a file.
    content: Option<Content>,
    /// Of a symbolic link.
    target: Option<&'static str>,
}

/// What a file says.
enum Content {
    Same(&'static str),
    Made(fn(&Kernel, u32) -> String),
}

impl Kind {
    /// The answers of each kind, in one place.
    fn answers(self) -> Answers {
        let no_directory = |mode| Answers {
            mode,
            links: 1,
            content: None,
            target: None,
        };
        match self {
            Kind::Dir => Answers {
                links: 2,
                ..no_directory(g::S_IFDIR | 0o555)
            },
            Kind::File(mode, make) => Answers {
                content: Some(Content::Made(make)),
                ..no_directory(g::S_IFREG | mode)
            },
            Kind::Text(mode, text) => Answers {
                content: Some(Content::Same(text)),
                ..no_directory(g::S_IFREG | mode)
            },
            Kind::Link(target) => Answers {
                target: Some(target),
                ..no_directory(g::S_IFLNK | 0o777)
            },
        }
    }
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

    fn parse(k: &Kernel, fs: SysFs, ino: Ino) -> Result<(Node, Answers), Errno> {
        let place = ((ino.0 & 0xffff_ffff) as usize)
            .checked_sub(1)
            .ok_or(Errno::ENOENT)?;
        let cpu = (ino.0 >> 32) as u32;
        let &(_, kind) = table(fs).get(place).ok_or(Errno::ENOENT)?;
        match cpu < k.env.cpus {
            true => Ok((Node { place, cpu }, kind.answers())),
            false => Err(Errno::ENOENT),
        }
    }

    /// That of a directory. `ENOTDIR`.
    fn directory(k: &Kernel, fs: SysFs, ino: Ino) -> Result<Node, Errno> {
        match Node::parse(k, fs, ino)? {
            (node, answers) if answers.mode & g::S_IFMT == g::S_IFDIR => Ok(node),
            _ => Err(Errno::ENOTDIR),
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

impl ViewFs for SysFs {
    fn lookup(self, k: &mut Kernel, _who: &Who, dir: Ino, name: &[u8]) -> Result<Ino, Errno> {
        let dir = Node::directory(k, self, dir)?;
        let mut all = children(k, self, dir).into_iter();
        let found = all.find(|(other, _)| other.as_bytes() == name);
        found.map(|(_, node)| node.ino()).ok_or(Errno::ENOENT)
    }

    /// Everything is root's and as old as the boot.
    fn attr(self, k: &mut Kernel, ino: Ino) -> Result<Attr, Errno> {
        let (_, answers) = Node::parse(k, self, ino)?;
        let at = Time::from_nanos(k.env.booted.real);
        Ok(Attr {
            mode: answers.mode,
            nlink: answers.links,
            // sysfs shows a page for each file, cgroup2 nothing.
            size: match (self, answers.content) {
                (SysFs::Devices, Some(_)) => 4096,
                _ => 0,
            },
            atime: at,
            mtime: at,
            ctime: at,
            btime: at,
            ..Attr::default()
        })
    }

    fn read_link(
        self,
        k: &mut Kernel,
        _p: &mut Ports<'_>,
        _who: &Who,
        ino: Ino,
    ) -> Result<Vec<u8>, Errno> {
        let (_, answers) = Node::parse(k, self, ino)?;
        let target = answers.target.ok_or(Errno::EINVAL)?;
        Ok(target.as_bytes().to_vec())
    }

    fn read_dir(
        self,
        k: &mut Kernel,
        _who: &Who,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let dir = Node::directory(k, self, dir)?;
        for (index, (name, node)) in children(k, self, dir).into_iter().enumerate() {
            // Cookies up to 2 belong to "." and "..".
            let next = index as u64 + 3;
            if next <= cookie {
                continue;
            }
            let (_, kind) = table(self)[node.place];
            let entry = Entry {
                name: name.as_bytes(),
                ino: node.ino(),
                kind: (kind.answers().mode >> 12) as u8,
                next,
            };
            if !each(entry) {
                break;
            }
        }
        Ok(())
    }

    fn content(
        self,
        cx: &mut Cx<'_, '_>,
        _id: FileId,
        ino: Ino,
        _space: Option<SpaceId>,
    ) -> Result<Shown, Errno> {
        let (node, answers) = Node::parse(cx.k, self, ino)?;
        let text = match answers.content.ok_or(Errno::EINVAL)? {
            Content::Made(make) => make(cx.k, node.cpu).into_bytes(),
            Content::Same(text) => text.as_bytes().to_vec(),
        };
        Ok(Shown::whole(text))
    }

    fn unread_is_new(self) -> bool {
        true
    }
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
