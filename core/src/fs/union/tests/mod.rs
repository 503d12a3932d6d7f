//! Tests of the union against a naive model: random layers, random operations.

extern crate std;

/// Calls an operation of the union.
macro_rules! call {
    ($test:expr, $name:ident $(, $arg:expr)*) => {{
        let mut ports = $test.host.ports();
        let mut cx = FsCx {
            ports: &mut ports,
            frames: &mut $test.frames,
            acls: &mut crate::fs::acl::Acls::default(),
            now: Now { mono: $test.time, real: $test.time, spent: 0 },
            env: &mut crate::env::Env::alone(),
            objects: &mut crate::fs::anon::Objects::default(),
        };
        $test.fs.$name(&mut cx $(, $arg)*)
    }};
}

mod model;
mod oracle;
pub(crate) mod tree;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use std::println;

use model::Model;
use tree::{MemTree, NAMES, Random};

use super::*;
use crate::boot::Layer;
use crate::event::Now;
use crate::fs::filesystem::{Page, Sought, Source};
use crate::machine::ImageId;
use crate::memhost::MemHost;
use crate::port::{Images, Memory};

/// A union, its host and what it should be.
struct Test {
    fs: UnionFs,
    host: MemHost<MemTree>,
    frames: Frames,
    model: Model,
    /// The inode number of each of the model's inodes: must never change.
    inos: BTreeMap<usize, Ino>,
    /// Inodes held open, and whether they still may get their first name.
    open: Vec<(Ino, usize, bool)>,
    /// Pages that a program has mapped, as the layer above keeps them: until they are said to have moved.
    maps: BTreeMap<(Ino, u64), (usize, Page)>,
    time: u64,
}

/// Few, so that they are used again.
const FRAMES: u32 = 1 << 12;

impl Test {
    fn new(tree: MemTree, limit: Option<u64>) -> Test {
        let model = Model::new(&tree);
        let layers = (0..tree.roots.len()).map(|n| Layer::Host(n as u32));
        let layers = layers.collect();
        Test::with(tree.host(FRAMES), layers, model, limit)
    }

    /// The same tree in images, lowest first.
    fn with_images(tree: MemTree, images: Vec<Vec<u8>>) -> Test {
        let model = Model::new(&tree);
        let layers = (0..images.len()).map(|n| Layer::Image(ImageId(n as u32)));
        let layers = layers.collect();
        let host = MemHost::with_tree(FRAMES, images, MemTree::default());
        Test::with(host, layers, model, None)
    }

    fn with(
        mut host: MemHost<MemTree>,
        layers: Vec<Layer>,
        model: Model,
        limit: Option<u64>,
    ) -> Test {
        let config = Tree {
            layers,
            read_only: false,
            upper_limit: limit,
            index: None,
        };
        let fs = UnionFs::new(&mut host.ports(), &config, 0o755, Time::default()).unwrap();
        Test {
            inos: BTreeMap::from([(0, fs.root())]),
            fs,
            host,
            frames: Frames::new(FRAMES, None),
            model,
            open: Vec::new(),
            maps: BTreeMap::new(),
            time: 1 << 40,
        }
    }

    /// Looks a name up on both sides; gives a reference.
    fn find(&mut self, dir: (Ino, usize), name: &[u8]) -> Option<(Ino, usize)> {
        let id = self.model.find(dir.1, name);
        match call!(self, lookup, dir.0, name) {
            Ok(ino) => {
                let id = id.unwrap_or_else(|| panic!("{name:?} should not be there"));
                let known = *self.inos.entry(id).or_insert(ino);
                assert_eq!(known, ino, "an inode number changed");
                Some((ino, id))
            }
            Err(errno) => {
                assert_eq!((errno, id), (Errno::ENOENT, None), "{name:?}");
                None
            }
        }
    }

    /// Walks to a random directory; gives a reference unless it is the root.
    fn random_dir(&mut self, random: &mut Random) -> (Ino, usize) {
        let mut dir = (self.fs.root(), 0);
        while random.chance(60) {
            let children = &self.model.inodes[dir.1].children;
            let dirs = children
                .iter()
                .filter(|(_, id)| self.model.inodes[**id].is_dir());
            let dirs: Vec<_> = dirs.map(|(name, _)| name.clone()).collect();
            if dirs.is_empty() {
                break;
            }
            let next = self
                .find(dir, random.pick::<Vec<u8>>(&dirs))
                .expect("it is in the model");
            self.forget(dir);
            dir = next;
        }
        dir
    }

    fn forget(&mut self, (ino, id): (Ino, usize)) {
        if id != 0 {
            call!(self, forget, ino);
        }
    }

    fn fetch(&self, source: Source, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        match source {
            Source::Memory(offset) => self.host.memory.read(offset, &mut buf),
            Source::Image { image, offset } => {
                let image = self.host.images.image(image).unwrap();
                image.read_at(offset, &mut buf).unwrap();
            }
            Source::Zero => {}
        }
        buf
    }

    fn read(&mut self, ino: Ino) -> Vec<u8> {
        let mut data = Vec::new();
        while let Some(extent) = call!(self, extent, ino, data.len() as u64).unwrap() {
            assert!(extent.len > 0);
            data.extend(self.fetch(extent.source, extent.len as usize));
        }
        data
    }

    /// The same through mappings.
    fn read_mapped(&mut self, ino: Ino, id: usize, size: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < size {
            let index = data.len() as u64 / PAGE_SIZE;
            let run = call!(self, page_run, ino, index, 3).unwrap();
            assert!((1..=3).contains(&run.count));
            let source = match run.first {
                Page::Frame(frame) => Source::Memory(frame.offset()),
                Page::Image { image, offset } => {
                    assert_eq!(offset % PAGE_SIZE, 0);
                    Source::Image { image, offset }
                }
            };
            data.extend(self.fetch(source, (run.count * PAGE_SIZE) as usize));
            for n in 0..run.count {
                let page = match run.first {
                    Page::Frame(frame) => Page::Frame(FrameNo(frame.0 + n as u32)),
                    Page::Image { image, offset } => Page::Image {
                        image,
                        offset: offset + n * PAGE_SIZE,
                    },
                };
                if let Page::Frame(frame) = page {
                    self.frames.get(frame);
                }
                if let Some((_, old)) = self.maps.insert((ino, index + n), (id, page)) {
                    assert_eq!(old, page, "a mapped page moved");
                    self.unmap(old);
                }
            }
        }
        assert!(data[size..].iter().all(|&b| b == 0), "zeros follow the end");
        let behind = call!(self, page_run, ino, size.div_ceil(4096) as u64, 1);
        assert_eq!(behind, Err(Errno::ENXIO));
        data.truncate(size);
        data
    }

    fn unmap(&mut self, page: Page) {
        if let Page::Frame(frame) = page {
            self.frames.put(frame);
        }
    }

    /// Drops the mappings that are said to have moved; the others must show what the file holds.
    fn check_maps(&mut self) {
        for (ino, first, count) in self.fs.take_moved() {
            let gone = self
                .maps
                .range((ino, first)..(ino, first.saturating_add(count)));
            let gone: Vec<_> = gone.map(|(&key, _)| key).collect();
            for key in gone {
                let (_, page) = self.maps.remove(&key).unwrap();
                self.unmap(page);
            }
        }
        // A mapping holds its file: without a reference there is none.
        let live = |ino: &Ino| self.fs.refs.contains_key(ino) || self.fs.nodes.contains_key(ino);
        let dead: Vec<_> = self
            .maps
            .keys()
            .filter(|(ino, _)| !live(ino))
            .copied()
            .collect();
        for key in dead {
            let (_, page) = self.maps.remove(&key).unwrap();
            self.unmap(page);
        }
        for (&(_, index), &(id, page)) in &self.maps {
            let source = match page {
                Page::Frame(frame) => Source::Memory(frame.offset()),
                Page::Image { image, offset } => Source::Image { image, offset },
            };
            let data = &self.model.inodes[id].data;
            let start = (index * PAGE_SIZE) as usize;
            let end = data.len().min(start + PAGE_SIZE as usize);
            assert!(start < end, "a page behind the end is mapped");
            let mut expected = data[start..end].to_vec();
            expected.resize(PAGE_SIZE as usize, 0);
            assert!(self.fetch(source, PAGE_SIZE as usize) == expected);
        }
    }

    fn check_inode(&mut self, ino: Ino, id: usize) {
        let attr = call!(self, attr, ino).unwrap();
        let inode = self.model.inodes[id].clone();
        assert_eq!(attr.mode, inode.mode);
        assert_eq!((attr.uid, attr.rdev), (inode.uid, inode.rdev));
        match inode.nlink {
            Some(nlink) => assert_eq!(attr.nlink, nlink),
            None => assert!(attr.nlink >= 1),
        }
        match inode.mode & S_IFMT {
            S_IFREG => {
                assert_eq!(attr.size, inode.data.len() as u64);
                assert_eq!(self.read(ino), inode.data);
                self.check_seek(ino, &inode.data);
            }
            S_IFLNK => {
                assert_eq!(attr.size, inode.data.len() as u64);
                assert_eq!(call!(self, read_link, ino).unwrap(), inode.data);
            }
            _ => assert_eq!(call!(self, read_link, ino), Err(Errno::EINVAL)),
        }
        let mut names = call!(self, list_xattr, ino).unwrap();
        names.sort();
        assert_eq!(names, inode.xattrs.keys().cloned().collect::<Vec<_>>());
        for (name, value) in &inode.xattrs {
            assert_eq!(call!(self, get_xattr, ino, name).as_ref(), Ok(value));
        }
    }

    /// Searches to the end.
    fn seek(&mut self, ino: Ino, mut offset: u64, data: bool) -> Result<usize, Errno> {
        loop {
            match call!(self, seek, ino, offset, data)? {
                Sought::At(found) => return Ok(found as usize),
                Sought::Later(next) => {
                    assert!(next > offset);
                    offset = next;
                }
            }
        }
    }

    /// A hole holds zeros only.
    fn check_seek(&mut self, ino: Ino, data: &[u8]) {
        let mut at = 0;
        while at < data.len() {
            let next = self.seek(ino, at as u64, true);
            let end = next.unwrap_or(data.len());
            assert!(data[at..end].iter().all(|&b| b == 0));
            if next.is_err() {
                break;
            }
            let hole = self.seek(ino, end as u64, false).unwrap();
            assert!(hole > end && hole <= data.len());
            at = hole;
        }
    }

    fn list(&mut self, dir: Ino, random: &mut Random) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let mut left = random.below(5) + 1;
            let before = names.len();
            call!(self, read_dir, dir, cookie, &mut |entry| {
                if left == 0 {
                    return false;
                }
                assert!(entry.next > 2 && entry.next > cookie && entry.next < 1 << 63);
                left -= 1;
                cookie = entry.next;
                names.push((entry.name.to_vec(), entry.ino, entry.kind));
                true
            })
            .unwrap();
            if names.len() == before {
                break;
            }
        }
        for (name, ino, kind) in &names {
            let found = call!(self, lookup, dir, name).unwrap();
            assert_eq!(found, *ino, "d_ino is st_ino");
            let attr = call!(self, attr, found).unwrap();
            assert_eq!(u32::from(*kind), attr.mode >> 12);
            call!(self, forget, found);
        }
        names.into_iter().map(|(name, ..)| name).collect()
    }

    /// Compares everything.
    fn check(&mut self, dir: (Ino, usize), random: &mut Random) {
        self.check_inode(dir.0, dir.1);
        let mut names = self.list(dir.0, random);
        assert_eq!(names, self.list(dir.0, random), "the order is stable");
        names.sort();
        let children: Vec<_> = self.model.inodes[dir.1].children.keys().cloned().collect();
        assert_eq!(names, children);
        for name in names {
            let child = self.find(dir, &name).unwrap();
            match self.model.inodes[child.1].is_dir() {
                true => self.check(child, random),
                false => self.check_inode(child.0, child.1),
            }
            self.forget(child);
        }
    }

    fn write_bytes(&mut self, ino: Ino, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = at % PAGE_SIZE;
            let most = (within + (bytes.len() - done) as u64).div_ceil(PAGE_SIZE);
            let (frame, pages) = call!(self, pages_for_write, ino, at / PAGE_SIZE, most).unwrap();
            assert!((1..=most).contains(&pages));
            let len = (bytes.len() - done).min((pages * PAGE_SIZE - within) as usize);
            let part = &bytes[done..done + len];
            self.host.memory.write(frame.offset() + within, part);
            done += len;
        }
    }

    fn write(&mut self, ino: Ino, id: usize, offset: usize, bytes: &[u8]) {
        self.write_bytes(ino, offset as u64, bytes);
        let end = offset + bytes.len();
        let data = &mut self.model.inodes[id].data;
        data.resize(data.len().max(end), 0);
        data[offset..end].copy_from_slice(bytes);
        let set = SetAttr {
            size: Some(data.len() as u64),
            ..SetAttr::default()
        };
        call!(self, set_attr, ino, &set).unwrap();
    }

    /// One random operation on a file that is held.
    fn change_file(&mut self, (ino, id): (Ino, usize), random: &mut Random) {
        let inode = &mut self.model.inodes[id];
        let regular = inode.mode & S_IFMT == S_IFREG;
        let size = inode.data.len();
        match random.below(10) {
            0 => {
                let mode = random.below(0o1000) as u32;
                inode.mode = inode.mode & S_IFMT | mode;
                let set = SetAttr {
                    mode: Some(mode),
                    ..SetAttr::default()
                };
                call!(self, set_attr, ino, &set).unwrap();
            }
            1 => {
                let names = [&b"user.one"[..], b"user.two", b"trusted.overlay.opaque"];
                let name = *random.pick(&names);
                let value = random.bytes(4);
                let exists = inode.xattrs.contains_key(name);
                let flags = random.below(3) as u32;
                let expected = match (flags, exists) {
                    (1, true) => Err(Errno::EEXIST),
                    (2, false) => Err(Errno::ENODATA),
                    _ => Ok(()),
                };
                if expected.is_ok() {
                    inode.xattrs.insert(name.to_vec(), value.clone());
                }
                let flags = XattrFlags::from_bits_retain(flags);
                assert_eq!(call!(self, set_xattr, ino, name, &value, flags), expected);
            }
            2 => {
                let removed = inode.xattrs.remove(&b"user.one"[..]);
                let expected = removed.map(drop).ok_or(Errno::ENODATA);
                assert_eq!(call!(self, remove_xattr, ino, b"user.one"), expected);
            }
            _ if !regular => {}
            3..5 => {
                let new = *random.pick(&[0, 1, 4096, size / 2, size + 3, 12_000]);
                inode.data.resize(new, 0);
                let set = SetAttr {
                    size: Some(new as u64),
                    ..SetAttr::default()
                };
                call!(self, set_attr, ino, &set).unwrap();
            }
            5 => {
                let offset = random.below(size as u64 + 10) as usize;
                let len = random.below(9000) as usize + 1;
                let end = (offset + len).min(size);
                if offset < end {
                    inode.data[offset..end].fill(0);
                }
                let len = len as u64;
                let done = call!(self, punch_hole, ino, offset as u64, len);
                assert_eq!(done, Ok(len));
            }
            6 => {
                let data = inode.data.clone();
                assert_eq!(self.read_mapped(ino, id, size), data);
            }
            _ => {
                let offset = random.below(size as u64 + 5000) as usize;
                let len = random.below(6000) as usize + 1;
                let bytes = random.bytes(len);
                self.write(ino, id, offset, &bytes);
            }
        }
    }

    /// One random operation.
    fn step(&mut self, random: &mut Random) {
        self.time += 1000;
        let dir = self.random_dir(random);
        let name = *random.pick(&NAMES);
        match random.below(20) {
            0..4 => {
                let mode = *random.pick(&[S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK]) | 0o640;
                let target: &[u8] = if mode & S_IFMT == S_IFLNK { b"to" } else { b"" };
                let node = NewNode {
                    mode,
                    uid: 0,
                    gid: 0,
                    rdev: 0,
                    flags: 0,
                    target,
                };
                let expected = self.model.create(dir.1, name, mode, target);
                let made = call!(self, create, dir.0, name, &node);
                match (made, expected) {
                    (Ok(ino), Ok(id)) => {
                        assert!(self.inos.insert(id, ino).is_none());
                        self.forget((ino, id));
                    }
                    (made, expected) => assert_eq!(made.map(drop), expected.map(drop)),
                }
            }
            4..6 => {
                let want_dir = random.chance(50);
                let expected = self.model.remove(dir.1, name, want_dir);
                let done = match want_dir {
                    true => call!(self, rmdir, dir.0, name),
                    false => call!(self, unlink, dir.0, name),
                };
                assert_eq!(done, expected);
            }
            6..11 => {
                let other = self.random_dir(random);
                let new = *random.pick(&NAMES);
                let flags = *random.pick(&[0, 0, 0, 1, 2, 4, 3, 6]);
                let flags = RenameFlags::from_bits_truncate(flags);
                let ends = [self.model.find(dir.1, name), self.model.find(other.1, new)];
                let below = |id: Option<usize>, dir| {
                    id.is_some_and(|id| {
                        self.model.inodes[id].is_dir() && self.model.is_below(dir, id)
                    })
                };
                // The layer above refuses these.
                if !below(ends[0], other.1) && !below(ends[1], dir.1) {
                    let expected = self.model.rename((dir.1, name), (other.1, new), flags);
                    let done = call!(self, rename, (dir.0, name), (other.0, new), flags);
                    assert_eq!(done, expected, "{flags:?}");
                }
                self.forget(other);
            }
            11 => {
                let source = match self.open.is_empty() {
                    true => None,
                    false => Some(random.below(self.open.len() as u64) as usize),
                };
                if let Some(at) = source {
                    let (ino, id, fresh) = self.open[at];
                    let expected = self.model.link(id, dir.1, name, fresh);
                    assert_eq!(call!(self, link, ino, dir.0, name), expected);
                    self.open[at].2 &= expected.is_err();
                }
            }
            12 => {
                if let Some(file) = self.find(dir, name) {
                    self.open.push((file.0, file.1, false));
                }
            }
            13 => {
                let id = self.model.create_unnamed();
                let node = NewNode {
                    mode: S_IFREG | 0o600,
                    uid: 0,
                    gid: 0,
                    rdev: 0,
                    flags: 0,
                    target: b"",
                };
                let ino = call!(self, create_unnamed, &node).unwrap();
                self.inos.insert(id, ino);
                self.open.push((ino, id, true));
            }
            14 if !self.open.is_empty() => {
                let at = random.below(self.open.len() as u64) as usize;
                let (ino, id, _) = self.open.swap_remove(at);
                self.check_inode(ino, id);
                self.forget((ino, id));
            }
            15..17 if !self.open.is_empty() => {
                let at = random.below(self.open.len() as u64) as usize;
                let (ino, id, _) = self.open[at];
                self.change_file((ino, id), random);
            }
            _ => {
                if let Some(file) = self.find(dir, name) {
                    self.change_file(file, random);
                    self.forget(file);
                }
            }
        }
        self.forget(dir);
        self.check_maps();
        self.frames.clean(&mut self.host.memory);
    }
}

fn random_tree(random: &mut Random) -> MemTree {
    let mut tree = MemTree::default();
    for _ in 0..random.below(13) {
        tree.random_layer(random);
    }
    tree
}

fn run(test: Test, mut random: Random, steps: u32) {
    let mut test = test;
    let root = (test.fs.root(), 0);
    test.check(root, &mut random);
    assert_eq!(test.fs.nodes.len(), usize::from(test.fs.layers.is_empty()));
    assert_eq!(test.fs.refs.len(), 0, "all references were given back");
    assert!(test.fs.cached.is_empty());
    let kept = |fs: &UnionFs| fs.layers.kept().all(|dir| fs.nodes.contains_key(&dir));
    assert!(kept(&test.fs), "parts are kept of directories with a node");
    for step in 0..steps {
        test.step(&mut random);
        if step % 40 == 0 {
            test.check(root, &mut random);
        }
    }
    test.check(root, &mut random);
    for (ino, id, _) in core::mem::take(&mut test.open) {
        test.check_inode(ino, id);
        test.forget((ino, id));
    }
    assert_eq!(test.fs.refs.len(), 0, "all references were given back");
    assert!(test.fs.nodes.values().all(|node| node.nlink > 0));
    assert!(test.fs.cached.is_empty() && kept(&test.fs));
    let heap: u64 = test
        .fs
        .nodes
        .values()
        .map(|node| NODE_COST + node.heap())
        .sum();
    assert_eq!(
        test.fs.heap,
        heap - if test.fs.layers.is_empty() {
            NODE_COST
        } else {
            0
        }
    );
    let frames = |node: &Node| match &node.body {
        Body::File(data) => data.pages.len(),
        _ => 0,
    };
    assert_eq!(
        test.fs.used,
        test.fs
            .nodes
            .values()
            .map(|node| frames(node) + node.own_pages())
            .sum::<u64>()
    );
    for (_, page) in core::mem::take(&mut test.maps).into_values() {
        test.unmap(page);
    }
    let mut steps = Steps::new();
    while test.fs.release_some(&mut test.frames, &mut steps) {}
    while test.frames.put_some() > 0 {}
    assert_eq!(test.frames.used(), 0, "all frames were given back");
}

#[test]
fn random_operations_on_random_layers_agree_with_the_model() {
    for seed in oracle::seeds(0..300) {
        println!("VARVE_TEST_SEED={seed}");
        let mut random = Random(seed);
        let tree = random_tree(&mut random);
        run(Test::new(tree, None), random, 400);
    }
}

#[test]
fn random_operations_on_images_from_tar_agree_with_the_model() {
    for seed in oracle::seeds(0..60) {
        println!("VARVE_TEST_SEED={seed}");
        let mut random = Random(seed);
        let tree = random_tree(&mut random);
        let images = tree.images();
        run(Test::with_images(tree, images), random, 400);
    }
}

#[test]
fn random_operations_on_images_of_mkfs_agree_with_the_model() {
    for seed in oracle::seeds(0..12) {
        println!("VARVE_TEST_SEED={seed}");
        let mut random = Random(seed);
        let tree = random_tree(&mut random);
        let dir = tempfile::tempdir().unwrap();
        let images = match oracle::make_images(&tree, dir.path(), seed) {
            Ok(images) => oracle::read_all(&images),
            Err(reason) => return oracle::skip(&reason).unwrap_or_default(),
        };
        run(Test::with_images(tree, images), random, 400);
    }
}

/// A tmpfs or, over one layer with an empty directory, a union.
fn small(limit: Option<u64>, layers: u32) -> Test {
    let mut tree = MemTree::default();
    for _ in 0..layers {
        let root = tree.add(S_IFDIR | 0o755, Vec::new());
        tree.roots.push(root);
    }
    Test::new(tree, limit)
}

const REGULAR: NewNode<'_> = NewNode {
    mode: S_IFREG | 0o644,
    uid: 0,
    gid: 0,
    rdev: 0,
    flags: 0,
    target: b"",
};

#[test]
fn file_data_is_limited() {
    let mut test = small(Some(2 * PAGE_SIZE), 0);
    let root = test.fs.root();
    let ino = call!(test, create, root, b"f", &REGULAR).unwrap();
    call!(test, pages_for_write, ino, 5, 1).unwrap();
    call!(test, pages_for_write, ino, 0, 1).unwrap();
    assert_eq!(call!(test, pages_for_write, ino, 1, 1), Err(Errno::ENOSPC));
    call!(test, pages_for_write, ino, 5, 1).unwrap();
    let stat = test.fs.statfs(&test.frames);
    assert_eq!((stat.magic, stat.blocks, stat.free), (TMPFS_MAGIC, 2, 0));
    call!(test, unlink, root, b"f").unwrap();
    assert_eq!(call!(test, attr, ino).unwrap().nlink, 0);
    call!(test, forget, ino);
    assert_eq!(test.fs.statfs(&test.frames).free, 2);
    assert_eq!(call!(test, pages_for_write, ino, 1, 1), Err(Errno::ESTALE));
}

/// Makes a hole call by call; gives how many calls it took.
fn punch(test: &mut Test, ino: Ino, offset: u64, len: u64) -> u64 {
    let (mut done, mut calls) = (0, 0);
    while done < len {
        let now = call!(test, punch_hole, ino, offset + done, len - done).unwrap();
        assert!(now > 0 && now <= len - done);
        done += now;
        calls += 1;
        assert!(test.fs.is_right());
    }
    calls
}

/// A hole between bytes that the lower file shows hides them with frames of zeros, some at a time.
#[test]
fn a_hole_in_a_long_lower_file_goes_in_pieces() {
    const PAGES: u64 = 1500;
    let mut tree = MemTree::default();
    let root = tree.add(S_IFDIR | 0o755, Vec::new());
    let file = tree.add(S_IFREG | 0o644, vec![b'x'; (PAGES * PAGE_SIZE) as usize]);
    tree.files[root].children.insert(b"f".to_vec(), file);
    tree.roots.push(root);
    let mut test = Test::new(tree, None);
    let root = test.fs.root();
    let ino = call!(test, lookup, root, b"f").unwrap();
    let (from, to) = (PAGE_SIZE + 100, (PAGES - 2) * PAGE_SIZE + 200);
    assert!(punch(&mut test, ino, from, to - from) > 2);
    let data = test.read(ino);
    let is_right = |(at, &byte): (usize, &u8)| {
        let hole = (from..to).contains(&(at as u64));
        byte == if hole { 0 } else { b'x' }
    };
    assert!(data.iter().enumerate().all(is_right));
    assert_eq!(data.len() as u64, PAGES * PAGE_SIZE);
    // What is behind the hole to the end needs no frames, however long it is.
    let used = test.frames.usage().0;
    assert_eq!(punch(&mut test, ino, 100, PAGES * PAGE_SIZE - 100), 1);
    assert!(test.read(ino).iter().skip(100).all(|&byte| byte == 0));
    assert!(test.frames.usage().0 < used);
}

/// Room for what a lower file shows is made by copying it, some at a time.
#[test]
fn room_in_a_long_lower_file_is_made_in_pieces() {
    const PAGES: u64 = 600;
    let mut tree = MemTree::default();
    let root = tree.add(S_IFDIR | 0o755, Vec::new());
    let file = tree.add(S_IFREG | 0o644, vec![b'x'; (PAGES * PAGE_SIZE) as usize]);
    tree.files[root].children.insert(b"f".to_vec(), file);
    tree.roots.push(root);
    let mut test = Test::new(tree, None);
    let root = test.fs.root();
    let ino = call!(test, lookup, root, b"f").unwrap();
    let (mut done, mut calls) = (0, 0);
    while done < PAGES + 1000 {
        let (first, count) = (done, PAGES + 1000 - done);
        done += call!(test, allocate, ino, first, count, 2048).unwrap();
        calls += 1;
    }
    // The pages behind its end need no copies.
    assert_eq!((done, calls), (PAGES + 1000, 3));
    assert_eq!(test.fs.frames().count() as u64, PAGES + 1000);
    assert!(test.read(ino).iter().all(|&byte| byte == b'x'));
}

/// A file of many runs loses them some at a time.
#[test]
fn a_hole_over_many_runs_goes_in_pieces() {
    const RUNS: u64 = 3000;
    let mut test = small(None, 0);
    let root = test.fs.root();
    let ino = call!(test, create, root, b"f", &REGULAR).unwrap();
    for run in 0..RUNS {
        test.write_bytes(ino, 2 * run * PAGE_SIZE, b"x");
    }
    let size = Some(2 * RUNS * PAGE_SIZE);
    let set = SetAttr {
        size,
        ..SetAttr::default()
    };
    call!(test, set_attr, ino, &set).unwrap();
    assert_eq!(u64::from(test.frames.used()), RUNS);
    assert_eq!(punch(&mut test, ino, 1, 2 * RUNS * PAGE_SIZE), 2);
    assert_eq!(test.frames.usage().0, 1);
    assert_eq!(call!(test, attr, ino).unwrap().blocks, 8);
}

/// A long write gets its pages at once.
#[test]
fn pages_are_made_in_runs() {
    let mut test = small(Some(100 * PAGE_SIZE), 0);
    let root = test.fs.root();
    let ino = call!(test, create, root, b"f", &REGULAR).unwrap();
    let (_, count) = call!(test, pages_for_write, ino, 3, 16).unwrap();
    assert_eq!(count, 16);
    // Up to the next page that is there, and to what the file system may hold.
    let (_, count) = call!(test, pages_for_write, ino, 0, 16).unwrap();
    assert_eq!(count, 3);
    let (_, count) = call!(test, pages_for_write, ino, 50, 1000).unwrap();
    assert_eq!(count, 81);
    assert_eq!(call!(test, pages_for_write, ino, 20, 1), Err(Errno::ENOSPC));
    assert_eq!(test.fs.frames().count(), 100);
}

/// However many pages are asked for at once, some frames of a limit stay for programs.
#[test]
fn long_runs_leave_frames_to_programs() {
    const LIMIT: u32 = 320;
    let mut test = small(None, 0);
    test.frames = Frames::new(FRAMES, Some(LIMIT));
    let root = test.fs.root();
    let ino = call!(test, create, root, b"f", &REGULAR).unwrap();
    let mut made = 0;
    while let Ok((_, count)) = call!(test, pages_for_write, ino, made, 1000) {
        made += count;
    }
    assert_eq!(made, u64::from(LIMIT - LIMIT / 32));
    assert_eq!(
        call!(test, pages_for_write, ino, made, 1),
        Err(Errno::ENOSPC)
    );
}

#[test]
fn an_image_alone_shows_its_own_type_and_size() {
    let tree = random_tree(&mut Random(1));
    let image = tree.images().remove(0);
    let len = image.len() as u64;
    let mut test = Test::with_images(tree, vec![image]);
    assert_eq!(test.fs.statfs(&test.frames).magic, OVERLAYFS_MAGIC);
    test.fs.seal();
    let stat = test.fs.statfs(&test.frames);
    assert_eq!((stat.magic, stat.free), (EROFS_MAGIC, 0));
    assert_eq!(stat.blocks, len / stat.block_size);
    let ino = test.fs.root();
    assert!(call!(test, attr, ino).is_ok());
}

#[test]
fn a_sealed_union_refuses_changes() {
    let mut test = small(None, 1);
    let root = test.fs.root();
    let ino = call!(test, create, root, b"f", &REGULAR).unwrap();
    test.fs.seal();
    let refused = Err(Errno::EROFS);
    assert_eq!(call!(test, create, root, b"g", &REGULAR).map(drop), refused);
    assert_eq!(call!(test, create_unnamed, &REGULAR).map(drop), refused);
    assert_eq!(call!(test, link, ino, root, b"g"), refused);
    assert_eq!(call!(test, unlink, root, b"f"), refused);
    assert_eq!(call!(test, rmdir, root, b"f"), refused);
    let flags = RenameFlags::empty();
    assert_eq!(
        call!(test, rename, (root, b"f"), (root, b"g"), flags),
        refused
    );
    assert_eq!(call!(test, set_attr, ino, &SetAttr::default()), refused);
    assert_eq!(call!(test, pages_for_write, ino, 0, 1).map(drop), refused);
    assert_eq!(call!(test, punch_hole, ino, 0, 1).map(drop), refused);
    assert_eq!(
        call!(test, set_xattr, ino, b"user.a", b"b", XattrFlags::empty()),
        refused
    );
    assert_eq!(call!(test, remove_xattr, ino, b"user.a"), refused);
    assert_eq!(call!(test, lookup, root, b"f"), Ok(ino));
    assert_eq!(test.fs.statfs(&test.frames).magic, OVERLAYFS_MAGIC);
}

#[test]
fn a_directory_that_changes_while_it_is_read_is_read_to_its_end() {
    const COUNT: usize = 100_000;
    for layers in [0, 2] {
        let mut test = small(None, layers);
        let root = test.fs.root();
        for n in 0..COUNT {
            let name = std::format!("file{n}");
            let ino = call!(test, create, root, name.as_bytes(), &REGULAR).unwrap();
            call!(test, forget, ino);
        }
        // Every name that is read is renamed; the new names are not to be seen.
        let (mut cookie, mut seen) = (0, 0);
        loop {
            let mut names = Vec::new();
            call!(test, read_dir, root, cookie, &mut |entry| {
                if names.len() == 1000 {
                    return false;
                }
                cookie = entry.next;
                names.push(entry.name.to_vec());
                true
            })
            .unwrap();
            if names.is_empty() {
                break;
            }
            for name in names {
                let new = [b"new", &name[4..]].concat();
                assert!(
                    name.starts_with(b"file"),
                    "a name made while reading is not seen"
                );
                let flags = RenameFlags::NOREPLACE;
                call!(test, rename, (root, &name), (root, &new), flags).unwrap();
                seen += 1;
            }
        }
        assert_eq!(seen, COUNT);
    }
}
