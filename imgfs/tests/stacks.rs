//! A stack of layers as tools use it: what must be given back, and what a stack of nothing shows.

use varve_imgfs::{
    Errno, ImageId, Layer, LayerPorts, Layers, MAX_LAYERS, MemBlock, MemImages, NoTree, OpenError,
    Stack,
};

const HELLO: &[u8] = include_bytes!("hello.img");

/// The same image twice, one of them not mapped.
fn images() -> MemImages {
    let block = |mapped| MemBlock {
        bytes: HELLO.to_vec(),
        mapped,
    };
    MemImages(vec![block(true), block(false)])
}

fn names(stack: &mut Stack, images: &MemImages) -> Vec<Vec<u8>> {
    let (root, mut names) = (stack.root(), Vec::new());
    stack
        .read_dir(images, root, 0, &mut |entry| {
            names.push(entry.name.to_vec());
            true
        })
        .unwrap();
    names
}

#[test]
fn a_stack_of_nothing_is_an_empty_directory() {
    let images = MemImages::default();
    let mut stack = Stack::open(&images, &[], None).unwrap();
    let root = stack.root();
    let attr = stack.attr(&images, root).unwrap();
    assert_eq!((attr.mode, attr.nlink), (0o40755, 2));
    assert!(names(&mut stack, &images).is_empty());
    assert_eq!(stack.lookup(&images, root, b"a"), Err(Errno::ENOENT));
    assert_eq!(stack.extent(&images, root, 0), Err(Errno::EISDIR));
    assert_eq!(stack.read_link(&images, root), Err(Errno::EINVAL));
    assert_eq!(stack.list_xattr(&images, root), Ok(Vec::new()));
    assert_eq!(stack.xattr(&images, root, b"user.a"), Err(Errno::ENODATA));
}

#[test]
fn the_topmost_layer_is_seen_and_each_name_once() {
    let images = images();
    let mut stack = Stack::open(&images, &[ImageId(0), ImageId(1)], None).unwrap();
    assert_eq!(names(&mut stack, &images), [&b"hello"[..], b"link"]);
    let root = stack.root();
    assert_eq!(stack.attr(&images, root).unwrap().nlink, 1, "it is merged");
    let link = stack.lookup(&images, root, b"link").unwrap();
    assert_eq!((link.layer(), link.is_lower()), (1, true));
    assert_eq!(stack.read_link(&images, link), Ok(b"hello".to_vec()));
    assert!(stack.lookup(&images, link, b"a").is_err());
    // The root stays when something is taken back that nobody had.
    stack.forget(root);
    assert_eq!(names(&mut stack, &images).len(), 2);
}

#[test]
fn numbers_of_nothing_are_refused() {
    let images = images();
    let mut tree = NoTree;
    let mut ports = LayerPorts {
        images: &images,
        tree: &mut tree,
    };
    let layers = [Layer::Image(ImageId(0))];
    let mut layers = Layers::open(&mut ports, &layers, None).unwrap();
    for number in [0, 7, 2 << 48 | 36, u64::MAX] {
        let ino = varve_imgfs::Ino(number);
        assert!(layers.attr(&mut ports, ino).is_err(), "{number:#x}");
        assert!(
            !matches!(
                layers.lookup(&mut ports, ino, b"hello", |_| false),
                Ok(Some(_))
            ),
            "{number:#x}"
        );
    }
}

#[test]
fn too_many_layers_and_directories_of_no_host_are_refused() {
    let images = images();
    let ids = vec![ImageId(0); MAX_LAYERS + 1];
    let error = Stack::open(&images, &ids, None).unwrap_err();
    assert_eq!(error, OpenError::TooMany(501));
    assert_eq!(
        error.to_string(),
        "501 layers, but at most 500 can be stacked"
    );
    let mut tree = NoTree;
    let mut ports = LayerPorts {
        images: &images,
        tree: &mut tree,
    };
    let error = Layers::open(&mut ports, &[Layer::Host(3)], None).unwrap_err();
    assert_eq!(error.to_string(), "the root of host tree 3: ENOENT");
}
