//! Trees over directories that change while they are used.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use varve_core::machine::{Backing, FrameNo};
use varve_core::port::Images;

use super::*;
use crate::memory::MemoryFile;

struct Place {
    dir: tempfile::TempDir,
    trees: HostTrees,
    root: NodeId,
}

const FEW: TreeLimits = TreeLimits {
    paths: 4,
    files: 3,
    mapped: 2,
};

fn place(limits: TreeLimits) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let memory = MemoryFile::new(1).unwrap();
    let memory = memory.fd().try_clone_to_owned().unwrap();
    let backings = Arc::new(Backings::new(memory, Vec::new()));
    let fd = fs::File::open(dir.path()).unwrap().into();
    let mut trees = HostTrees::new(vec![fd], backings, limits).unwrap();
    let root = trees.root(0).unwrap();
    Place { dir, trees, root }
}

impl Place {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn find(&mut self, name: &str) -> Result<NodeId, Errno> {
        let mut at = self.root;
        for part in name.split('/') {
            at = self.trees.lookup(at, part.as_bytes())?;
        }
        Ok(at)
    }

    /// All of a file, read as the core does: the size is the node's.
    fn read(&mut self, node: NodeId) -> Result<Vec<u8>, Errno> {
        let size = self.trees.attr(node)?.size;
        let image = self.trees.open(node)?;
        let block = self.trees.backings.image(image).unwrap();
        assert!(block.len() >= size);
        let mut bytes = vec![0; size as usize];
        block.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    fn open(&self) -> (usize, usize) {
        let nodes = lock(&self.trees.nodes);
        (nodes.paths.open.len(), nodes.files.open.len())
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn few_descriptors_serve_many_files() {
    let mut place = place(FEW);
    fs::create_dir_all(place.path("a/b/c")).unwrap();
    let mut nodes = Vec::new();
    for number in 0..40 {
        let name = format!("a/b/c/{number}");
        fs::write(place.path(&name), &name).unwrap();
        nodes.push((name.clone(), place.find(&name).unwrap()));
        assert_eq!(place.read(nodes[number].1).unwrap(), name.as_bytes());
        let (paths, files) = place.open();
        assert!(paths <= FEW.paths && files <= FEW.files, "{paths} {files}");
    }
    // They are read again, and known again by their names.
    for (name, node) in nodes {
        assert_eq!(place.read(node).unwrap(), name.as_bytes());
        assert_eq!(place.find(&name), Ok(node));
    }
}

#[test]
fn mapped_files_stay_and_are_few() {
    let mut place = place(FEW);
    let mut mappable = Vec::new();
    for number in 0..4 {
        let name = number.to_string();
        fs::write(place.path(&name), [number as u8; 9]).unwrap();
        let node = place.find(&name).unwrap();
        let image = place.trees.open(node).unwrap();
        let backings = place.trees.backings.clone();
        mappable.push(backings.image(image).unwrap().is_mappable());
        if mappable[number] {
            let backing = Backing::Image { image, offset: 0 };
            assert!(backings.file(backing).is_some());
            assert!(backings.file(backing).is_some(), "counts once");
            fs::remove_file(place.path(&name)).unwrap();
        }
    }
    assert_eq!(mappable, [true, true, false, false]);
    // A mapped one lives on without a name, whatever is opened meanwhile.
    let backing = Backing::Image {
        image: ImageId(0),
        offset: 0,
    };
    let (fd, _) = place.trees.backings.file(backing).unwrap();
    let mut byte = [9];
    assert_eq!(rustix::io::pread(fd, &mut byte, 0), Ok(1));
    assert_eq!(byte, [0]);
    let memory = place.trees.backings.file(Backing::Memory(FrameNo(0)));
    assert!(memory.is_some());
}

#[test]
fn a_file_that_is_gone_is_mapped_as_an_empty_one() {
    let mut place = place(FEW);
    fs::write(place.path("f"), "text").unwrap();
    let node = place.find("f").unwrap();
    let image = place.trees.open(node).unwrap();
    fs::remove_file(place.path("f")).unwrap();
    lock(&place.trees.nodes).paths.shrink(0);
    lock(&place.trees.nodes).files.shrink(0);
    let backing = Backing::Image { image, offset: 0 };
    let (fd, _) = place.trees.backings.file(backing).unwrap();
    assert_eq!(rustix::fs::fstat(fd).unwrap().st_size, 0);
    assert_eq!(place.trees.attr(node), Err(Errno::ESTALE));
}

#[test]
fn a_replaced_file_is_another_one_and_the_old_one_is_stale_once_it_is_closed() {
    let mut place = place(FEW);
    fs::write(place.path("f"), "old").unwrap();
    let old = place.find("f").unwrap();
    assert_eq!(place.read(old).unwrap(), b"old");
    replace(&place.path("f"), "newer");
    let new = place.find("f").unwrap();
    assert_ne!(old, new);
    assert_eq!(place.read(new).unwrap(), b"newer");
    assert_eq!(place.read(old).unwrap(), b"old", "while it is open");
    lock(&place.trees.nodes).paths.shrink(0);
    lock(&place.trees.nodes).files.shrink(0);
    assert_eq!(place.trees.attr(old), Err(Errno::ESTALE));
    assert_eq!(place.trees.open(old), Err(Errno::ESTALE));
    assert_eq!(place.read(new).unwrap(), b"newer");
    // A directory in the place of a file, a link in that of a directory: nothing of it is followed.
    fs::create_dir(place.path("d")).unwrap();
    fs::write(place.path("d/x"), "x").unwrap();
    let inside = place.find("d/x").unwrap();
    fs::rename(place.path("d"), place.path("e")).unwrap();
    symlink("e", place.path("d")).unwrap();
    lock(&place.trees.nodes).paths.shrink(0);
    assert_eq!(place.trees.attr(inside), Err(Errno::ESTALE));
    assert_eq!(place.find("e/x"), Ok(inside), "it was only moved");
    assert_eq!(place.read(inside).unwrap(), b"x");
}

#[test]
fn names_of_one_file_are_one_node() {
    let mut place = place(FEW);
    fs::write(place.path("one"), "text").unwrap();
    fs::hard_link(place.path("one"), place.path("two")).unwrap();
    let node = place.find("one").unwrap();
    assert_eq!(place.find("two"), Ok(node));
    fs::remove_file(place.path("one")).unwrap();
    lock(&place.trees.nodes).paths.shrink(0);
    assert_eq!(place.read(node).unwrap(), b"text", "by its other name");
}

#[test]
fn files_grow_and_shrink() {
    let mut place = place(FEW);
    fs::write(place.path("f"), "short").unwrap();
    let node = place.find("f").unwrap();
    assert_eq!(place.read(node).unwrap(), b"short");
    let image = place.trees.open(node).unwrap();
    fs::write(place.path("f"), "a bit longer").unwrap();
    assert_eq!(place.read(node).unwrap(), b"a bit longer");
    assert_eq!(place.trees.open(node), Ok(image));
    let long = vec![b'x'; 1 << 20];
    fs::write(place.path("f"), &long).unwrap();
    assert_eq!(place.read(node).unwrap(), long);
    assert_ne!(place.trees.open(node), Ok(image), "it has no room for that");
    fs::write(place.path("f"), "").unwrap();
    assert_eq!(place.read(node).unwrap(), b"");
    let mut byte = [0];
    let block = place.trees.backings.image(image).unwrap();
    assert_eq!(block.read_at(0, &mut byte), Err(Errno::EIO));
}

#[test]
fn directories_that_make_a_circle_of_what_is_remembered_are_stale() {
    let mut place = place(FEW);
    fs::create_dir_all(place.path("a/b")).unwrap();
    let b = place.find("a/b").unwrap();
    let a = place.find("a").unwrap();
    // The tree still has a descriptor of `b` when `a` moves into it.
    assert!(place.trees.attr(b).is_ok());
    fs::rename(place.path("a/b"), place.path("b")).unwrap();
    fs::rename(place.path("a"), place.path("b/a")).unwrap();
    assert!(place.trees.attr(b).is_ok());
    assert_eq!(place.trees.lookup(b, b"a"), Ok(a));
    lock(&place.trees.nodes).paths.shrink(0);
    assert_eq!(place.trees.attr(b), Err(Errno::ESTALE));
    assert_eq!(place.find("b"), Ok(b));
    assert!(place.trees.attr(a).is_ok());
}

#[test]
fn lists_of_who_may_do_what_are_told() {
    let mut place = place(FEW);
    fs::write(place.path("f"), "").unwrap();
    let node = place.find("f").unwrap();
    assert!(!place.trees.attr(node).unwrap().acl);
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, perm) in [(1u16, 6u16), (2, 0), (4, 4), (0x10, 4), (0x20, 4)] {
        value.extend(tag.to_le_bytes());
        value.extend(perm.to_le_bytes());
        value.extend(if tag == 2 { 1000u32 } else { u32::MAX }.to_le_bytes());
    }
    let set = rustix::fs::setxattr(
        place.path("f"),
        ACL,
        &value,
        rustix::fs::XattrFlags::empty(),
    );
    match set {
        Err(HostErrno::OPNOTSUPP) => eprintln!("SKIP: no ACLs in {}", place.dir.path().display()),
        set => {
            set.unwrap();
            assert!(place.trees.attr(node).unwrap().acl);
            let found = place.trees.get_xattr(node, ACL.as_bytes());
            assert_eq!(found, Ok(value));
            rustix::fs::removexattr(place.path("f"), ACL).unwrap();
            assert!(!place.trees.attr(node).unwrap().acl);
        }
    }
}
