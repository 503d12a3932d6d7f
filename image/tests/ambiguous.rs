//! What OCI layers leave open, each decided as the specification (image-spec, layer.md) and containerd do.

mod oci;
mod oracle;

use std::collections::BTreeMap;

use oci::*;
use oracle::{check_sealed, fsck};
use tar::{Builder, EntryType, Header};
use varve_image::oci::Source;
use varve_imgfs::Attr;

/// One entry of a layer; what is not said is that of [`file`].
struct Member {
    name: &'static str,
    kind: EntryType,
    mode: u32,
    owner: u64,
    time: u64,
    content: &'static str,
    device: (u32, u32),
}

fn file(name: &'static str, content: &'static str) -> Member {
    Member {
        name,
        kind: EntryType::Regular,
        mode: 0o644,
        owner: 1,
        time: 1_600_000_000,
        content,
        device: (0, 0),
    }
}

fn dir(name: &'static str, mode: u32, owner: u64) -> Member {
    Member {
        kind: EntryType::Directory,
        mode,
        owner,
        ..file(name, "")
    }
}

fn link(name: &'static str, target: &'static str) -> Member {
    Member {
        kind: EntryType::Link,
        ..file(name, target)
    }
}

fn symlink(name: &'static str, target: &'static str) -> Member {
    Member {
        kind: EntryType::Symlink,
        ..file(name, target)
    }
}

/// Names go into the header as they are: the crate refuses `..`.
fn layer(members: Vec<Member>) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for member in members {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..member.name.len()].copy_from_slice(member.name.as_bytes());
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_uid(member.owner);
        header.set_gid(member.owner + 1);
        header.set_mtime(member.time);
        header.set_device_major(member.device.0).unwrap();
        header.set_device_minor(member.device.1).unwrap();
        let mut bytes = member.content.as_bytes();
        if matches!(member.kind, EntryType::Link | EntryType::Symlink) {
            header.as_old_mut().linkname[..bytes.len()].copy_from_slice(bytes);
            bytes = b"";
        }
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Converts layers, lowest first; what the image shows.
fn stacked(layers: Vec<Vec<Member>>) -> BTreeMap<String, (Attr, Vec<u8>)> {
    stacked_tars(layers.into_iter().map(layer).collect())
}

fn stacked_tars(layers: Vec<Vec<u8>>) -> BTreeMap<String, (Attr, Vec<u8>)> {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    oci_layout(&source, &layers, Pack::Gzip, |_| {});
    let converted = run(&Source::OciDir(source, None), &temp.path().join("out")).unwrap();
    for layer in &converted.image.layers {
        check_sealed(&layer.path);
        fsck(&layer.path);
    }
    merged_entries(&converted)
}

fn refused(layers: Vec<Vec<Member>>) -> String {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    let layers: Vec<_> = layers.into_iter().map(layer).collect();
    oci_layout(&source, &layers, Pack::Gzip, |_| {});
    let error = run(&Source::OciDir(source, None), &temp.path().join("out"));
    error.unwrap_err().to_string()
}

fn names(tree: &BTreeMap<String, (Attr, Vec<u8>)>) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

#[test]
fn a_directory_has_the_attributes_of_the_topmost_entry_for_it() {
    let tree = stacked(vec![
        vec![dir("d", 0o755, 1), file("d/low", "low")],
        vec![dir("d", 0o2770, 7), file("d/high", "high")],
        // Nothing is said of it here: it stays as it is.
        vec![file("d/top", "top")],
    ]);
    assert_eq!(names(&tree), ["", "d", "d/high", "d/low", "d/top"]);
    let attr = &tree["d"].0;
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o042770, 7, 8));
    assert_eq!(attr.mtime.sec, 1_600_000_000);
}

#[test]
fn a_whiteout_means_the_layers_below_only() {
    for order in [[0, 1], [1, 0]] {
        let members = |at| match at {
            0 => file("d/.wh.both", ""),
            _ => file("d/both", "new"),
        };
        let tree = stacked(vec![
            vec![
                dir("d", 0o755, 1),
                file("d/both", "old"),
                file("d/gone", ""),
            ],
            order
                .into_iter()
                .map(members)
                .chain([file("d/.wh.gone", "")])
                .collect(),
        ]);
        assert_eq!(names(&tree), ["", "d", "d/both"], "{order:?}");
        assert_eq!(tree["d/both"].1, b"new");
    }
    // A directory that is taken away and made again in one layer shows nothing of the old one, in either
    // order.
    for first in [true, false] {
        let mut members = vec![file("d/.wh.sub", "")];
        let again = [dir("d/sub", 0o700, 3), file("d/sub/new", "")];
        let at = if first { 1 } else { 0 };
        members.splice(at..at, again);
        let tree = stacked(vec![
            vec![
                dir("d", 0o755, 1),
                dir("d/sub", 0o755, 1),
                file("d/sub/old", ""),
            ],
            members,
        ]);
        assert_eq!(names(&tree), ["", "d", "d/sub", "d/sub/new"]);
    }
    // What is not there can be taken away.
    let tree = stacked(vec![
        vec![file("a", "")],
        vec![file(".wh.nothing", ""), file("x/y/.wh.nothing", "")],
    ]);
    assert_eq!(names(&tree), ["", "a", "x", "x/y"]);
}

#[test]
fn an_opaque_marker_spares_what_its_own_layer_has_before_and_behind_it() {
    let tree = stacked(vec![
        vec![
            dir("d", 0o755, 1),
            file("d/old", ""),
            dir("d/sub", 0o755, 1),
            file("d/sub/old", ""),
        ],
        vec![
            file("d/before", "b"),
            file("d/sub/before", ""),
            file("d/.wh..wh..opq", ""),
            file("d/behind", "c"),
        ],
    ]);
    assert_eq!(
        names(&tree),
        ["", "d", "d/before", "d/behind", "d/sub", "d/sub/before"]
    );
}

#[test]
fn a_hard_link_to_a_lower_layer_brings_the_file_up() {
    let tree = stacked(vec![
        vec![
            dir("d", 0o750, 5),
            file("d/data", "the data"),
            symlink("d/sym", "data"),
            Member {
                kind: EntryType::Char,
                device: (1, 3),
                ..file("d/null", "")
            },
        ],
        vec![
            link("e/one", "d/data"),
            link("two", "/d/data"),
            link("sym", "d/sym"),
            link("null", "./d/null"),
        ],
    ]);
    assert_eq!(
        names(&tree),
        [
            "", "d", "d/data", "d/null", "d/sym", "e", "e/one", "null", "sym", "two"
        ]
    );
    for path in ["d/data", "e/one", "two"] {
        let (attr, content) = &tree[path];
        assert_eq!(
            (attr.nlink, attr.uid, &content[..]),
            (3, 1, &b"the data"[..]),
            "{path}"
        );
    }
    assert_eq!(tree["sym"].1, b"data");
    assert_eq!(
        (tree["null"].0.mode, tree["null"].0.rdev),
        (0o020644, 0x103)
    );
    assert_eq!((tree["d"].0.mode, tree["d"].0.uid), (0o040750, 5));

    // What the layer itself says of the old name holds.
    let lower = || vec![file("d/data", "the data")];
    let tree = stacked(vec![
        lower(),
        vec![link("l", "d/data"), file("d/data", "new")],
    ]);
    assert_eq!(
        (&tree["l"].1[..], &tree["d/data"].1[..]),
        (&b"the data"[..], &b"new"[..])
    );
    let tree = stacked(vec![
        lower(),
        vec![link("l", "d/data"), file("d/.wh.data", "")],
    ]);
    assert_eq!((names(&tree), tree["l"].0.nlink), (vec!["", "d", "l"], 1));
    let tree = stacked(vec![
        lower(),
        vec![link("l", "d/data"), file("d/.wh..wh..opq", "")],
    ]);
    assert_eq!((names(&tree), tree["l"].0.nlink), (vec!["", "d", "l"], 1));
    let tree = stacked(vec![
        lower(),
        vec![link("l", "d/data"), file("d", "a file")],
    ]);
    assert_eq!((names(&tree), tree["l"].0.nlink), (vec!["", "d", "l"], 1));

    let text = refused(vec![lower(), vec![link("l", "d/nowhere")]]);
    assert!(
        text.contains("hard link to d/nowhere, which neither"),
        "{text}"
    );
    let text = refused(vec![lower(), vec![link("l", "d")]]);
    assert!(text.contains("hard link to the directory d"), "{text}");
    let text = refused(vec![vec![link("l", "d")], lower()]);
    assert!(text.contains("does not hold before it"), "{text}");
}

#[test]
fn missing_parents_are_those_below_or_plain_ones() {
    let tree = stacked(vec![
        vec![dir("d", 0o1777, 9), dir("d/e", 0o700, 4), file("f", "")],
        vec![file("d/e/x", ""), file("new/deep/y", ""), file("f/z", "")],
    ]);
    let attr = |path: &str| {
        let attr = &tree[path].0;
        (attr.mode, attr.uid, attr.gid)
    };
    assert_eq!(attr("d"), (0o041777, 9, 10));
    assert_eq!(attr("d/e"), (0o040700, 4, 5));
    assert_eq!(
        (attr("new"), attr("new/deep")),
        ((0o040755, 0, 0), (0o040755, 0, 0))
    );
    // A file below is no directory to take after.
    assert_eq!(attr("f"), (0o040755, 0, 0));
    assert_eq!(
        names(&tree),
        [
            "",
            "d",
            "d/e",
            "d/e/x",
            "f",
            "f/z",
            "new",
            "new/deep",
            "new/deep/y"
        ]
    );
}

#[test]
fn names_stay_in_the_root() {
    let tree = stacked(vec![
        vec![
            file("/etc/passwd", "root"),
            file("../up", "u"),
            file("./a/../../b", "b"),
        ],
        vec![
            file("/../.wh.up", ""),
            link("../../c", "../b"),
            symlink("out", "../../../etc/passwd"),
        ],
    ]);
    assert_eq!(names(&tree), ["", "b", "c", "etc", "etc/passwd", "out"]);
    assert_eq!(tree["c"].1, b"b");
    // Targets of symbolic links are text, whatever they say.
    assert_eq!(tree["out"].1, b"../../../etc/passwd");
}

#[test]
fn device_nodes_are_kept_but_the_one_that_is_a_whiteout() {
    let node = |name, kind, device| Member {
        kind,
        device,
        mode: 0o660,
        ..file(name, "")
    };
    let tree = stacked(vec![
        vec![
            node("zero", EntryType::Char, (1, 5)),
            node("disk", EntryType::Block, (259, 1_048_575)),
            node("fifo", EntryType::Fifo, (0, 0)),
            file("gone", ""),
        ],
        // What mknod makes of such an entry is what overlayfs takes for a whiteout.
        vec![node("gone", EntryType::Char, (0, 0))],
    ]);
    assert_eq!(names(&tree), ["", "disk", "fifo", "zero"]);
    assert_eq!(
        (tree["zero"].0.mode, tree["zero"].0.rdev),
        (0o020660, 0x105)
    );
    assert_eq!(tree["disk"].0.mode, 0o060660);
    assert_eq!(tree["fifo"].0.mode, 0o010660);
}

#[test]
fn the_last_of_several_entries_with_one_name_counts() {
    let tree = stacked(vec![
        vec![file("base", "")],
        vec![
            file("f", "first"),
            link("kept", "f"),
            file("f", "second"),
            dir("d", 0o700, 1),
            file("d/x", ""),
            dir("d", 0o711, 2),
            dir("was-dir", 0o700, 1),
            file("was-dir/x", ""),
            symlink("was-dir", "d"),
            file("was-file", ""),
            dir("was-file", 0o755, 1),
        ],
    ]);
    assert_eq!(
        names(&tree),
        ["", "base", "d", "d/x", "f", "kept", "was-dir", "was-file"]
    );
    assert_eq!(
        (&tree["f"].1[..], &tree["kept"].1[..]),
        (&b"second"[..], &b"first"[..])
    );
    assert_eq!((tree["d"].0.mode, tree["d"].0.uid), (0o040711, 2));
    assert_eq!(tree["was-dir"].0.mode, 0o120777);
    assert_eq!(tree["was-file"].0.mode, 0o040755);
}

#[test]
fn a_marker_below_a_file_of_its_layer_says_nothing() {
    for marker in ["x/.wh.foo", "x/.wh..wh..opq", "x/y/.wh.foo"] {
        for first in [true, false] {
            let mut members = vec![file("x", "now a file")];
            members.insert(usize::from(first), file(marker, ""));
            let tree = stacked(vec![vec![dir("x", 0o755, 1), file("x/foo", "")], members]);
            assert_eq!(names(&tree), ["", "x"], "{marker}");
            assert_eq!(tree["x"].1, b"now a file", "{marker}");
        }
    }
}

#[test]
fn a_removed_directory_does_not_come_back_by_markers_in_it() {
    let lower = || {
        vec![
            dir("x", 0o4711, 7),
            dir("x/y", 0o700, 7),
            file("x/y/foo", ""),
            file("x/foo", ""),
        ]
    };
    let markers = ["x/y/.wh.foo", "x/.wh.foo", "x/y/.wh..wh..opq", ".wh.x"];
    for turn in 0..markers.len() {
        let mut members: Vec<_> = markers.iter().map(|name| file(name, "")).collect();
        members.rotate_left(turn);
        let tree = stacked(vec![lower(), members]);
        assert_eq!(names(&tree), [""], "{turn}");
    }
    // One that is made again for something in it is a new one, whose mode and owner nobody says.
    for turn in 0..2 {
        let mut members = vec![
            file(".wh.x", ""),
            file("x/y/new", "n"),
            file("x/.wh.foo", ""),
        ];
        members.rotate_left(turn);
        let tree = stacked(vec![lower(), members]);
        assert_eq!(names(&tree), ["", "x", "x/y", "x/y/new"]);
        for path in ["x", "x/y"] {
            let attr = &tree[path].0;
            assert_eq!((attr.mode, attr.uid, attr.gid), (0o040755, 0, 0), "{path}");
        }
    }
    // In an opaque directory nothing of the old one is left; the directory itself is the old one.
    let tree = stacked(vec![
        lower(),
        vec![file("x/.wh..wh..opq", ""), file("x/y/new", "n")],
    ]);
    assert_eq!(names(&tree), ["", "x", "x/y", "x/y/new"]);
    let attr = |path: &str| (tree[path].0.mode, tree[path].0.uid);
    assert_eq!((attr("x"), attr("x/y")), ((0o044711, 7), (0o040755, 0)));
}

#[test]
fn hard_links_go_through_symbolic_links() {
    // In the same layer.
    let tree = stacked(vec![vec![
        dir("a", 0o755, 1),
        file("a/t", "T"),
        symlink("l", "a"),
        symlink("up", "a/../l"),
        link("h", "l/t"),
        link("i", "up/t"),
        link("j", "l/../a/t"),
        // The link itself, as the last one on the way is not followed.
        link("k", "l"),
    ]]);
    for path in ["h", "i", "j", "a/t"] {
        assert_eq!(
            (tree[path].0.nlink, &tree[path].1[..]),
            (4, &b"T"[..]),
            "{path}"
        );
    }
    assert_eq!(tree["k"].1, b"a");
    // In the layers below, and from one into the other; two ways to one object are one object.
    let lower = || {
        vec![
            dir("usr", 0o755, 1),
            dir("usr/lib", 0o755, 1),
            file("usr/lib/old", "old"),
            symlink("lib", "usr/lib"),
            symlink("far", "/lib/../lib"),
            file("file", ""),
        ]
    };
    let tree = stacked(vec![
        lower(),
        vec![
            symlink("mine", "lib"),
            link("one", "lib/old"),
            link("two", "usr/lib/old"),
            link("three", "mine/old"),
            link("four", "far/old"),
        ],
    ]);
    for path in ["one", "two", "three", "four", "usr/lib/old"] {
        assert_eq!(
            (tree[path].0.nlink, &tree[path].1[..]),
            (5, &b"old"[..]),
            "{path}"
        );
    }
    assert_eq!(tree["lib"].1, b"usr/lib");
    for (target, expected) in [
        ("file/old", "file is not a directory in the layers below"),
        ("lib/none", "which neither the layer holds"),
        ("lib/old/x", "old is not a directory in the layers below"),
    ] {
        let text = refused(vec![lower(), vec![link("h", target)]]);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("EUCLEAN"), "{text}");
    }
    let text = refused(vec![vec![
        symlink("a", "b"),
        symlink("b", "a"),
        link("h", "a/x"),
    ]]);
    assert!(text.contains("is not a directory"), "{text}");
    let text = refused(vec![vec![file("f", ""), link("h", "f/x")]]);
    assert!(text.contains("f on the way is not a directory"), "{text}");
}

/// containerd and Docker extract a layer into the upper directory of an overlayfs mount and do not look
/// through links of the layers below.
#[test]
fn a_directory_over_a_link_of_a_lower_layer_takes_its_place() {
    let tree = stacked(vec![
        vec![
            dir("usr", 0o755, 1),
            dir("usr/lib", 0o2750, 5),
            dir("usr/lib/sub", 0o700, 6),
            file("usr/lib/old", "old"),
            symlink("lib", "usr/lib"),
            symlink("lost", "nowhere"),
        ],
        vec![file("lib/sub/new", "new"), file("lost/x", "x")],
    ]);
    let expected = [
        "",
        "lib",
        "lib/sub",
        "lib/sub/new",
        "lost",
        "lost/x",
        "usr",
        "usr/lib",
        "usr/lib/old",
        "usr/lib/sub",
    ];
    assert_eq!(names(&tree), expected);
    // It takes after the directory that the link leads to.
    let attr = |path: &str| (tree[path].0.mode, tree[path].0.uid);
    assert_eq!(attr("lib"), (0o042750, 5));
    assert_eq!(attr("lib/sub"), (0o040700, 6));
    assert_eq!(attr("lost"), (0o040755, 0));
}

#[test]
fn a_name_with_a_slash_behind_it_and_data_loses_neither_it_nor_what_follows() {
    // A file by its type, which containerd makes a file.
    let tree = stacked(vec![vec![
        file("a/", "hello"),
        file("c", "x"),
        file("d/", ""),
    ]]);
    assert_eq!(names(&tree), ["", "a", "c", "d"]);
    assert_eq!(
        (&tree["a"].1[..], &tree["c"].1[..]),
        (&b"hello"[..], &b"x"[..])
    );
    assert_eq!(tree["d"].0.mode, 0o040644);
    // One of before there were types is a directory, and its data is passed over.
    let mut tar = layer(vec![file("a/", "hello"), file("c", "x")]);
    assert_eq!(tar[156], b'0');
    tar[156] = 0;
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|&byte| u32::from(byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let tree = stacked_tars(vec![tar]);
    assert_eq!(names(&tree), ["", "a", "c"]);
    assert_eq!((tree["a"].0.mode, &tree["c"].1[..]), (0o040644, &b"x"[..]));
}
