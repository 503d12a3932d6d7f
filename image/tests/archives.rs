//! Tar streams of every dialect become the image that extracting them would give.

mod oracle;

use oracle::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};
use varve_image::{BuildError, BuildOptions, BuildReport};

fn build_bytes(bytes: &[u8], image: &Path) -> Result<BuildReport, BuildError> {
    varve_image::build_tar(
        &mut &bytes[..],
        "test.tar",
        image,
        &BuildOptions::default(),
        &mut (),
    )
}

/// An archive under construction, one call per entry.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Names go into the header as they are, so that bad ones can be written.
    fn entry(&mut self, kind: EntryType, name: &[u8], link: &[u8], data: &[u8]) -> &mut Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(99);
        header.set_size(data.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(5).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(&mut self, name: &str, data: &str) -> &mut Self {
        self.entry(EntryType::Regular, name.as_bytes(), b"", data.as_bytes())
    }

    fn dir(&mut self, name: &str) -> &mut Self {
        self.entry(EntryType::Directory, name.as_bytes(), b"", b"")
    }

    fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    fn bytes(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.0, Builder::new(Vec::new()))
            .into_inner()
            .unwrap()
    }
}

/// Builds an archive and reads the image back, having let fsck and the kernel see it too.
fn import(bytes: &[u8]) -> (Snapshot, BuildReport) {
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("layer.img");
    let report = build_bytes(bytes, &image).unwrap();
    let snapshot = image_snapshot(&image);
    check(&image, &snapshot);
    (snapshot, report)
}

fn refuse(bytes: &[u8], expected: &str) {
    let temp = tempfile::tempdir().unwrap();
    let error = build_bytes(bytes, &temp.path().join("layer.img"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(expected),
        "{error:?} does not say {expected:?}"
    );
    assert!(!error.contains('\n'));
    assert_eq!(
        fs::read_dir(temp.path()).unwrap().count(),
        0,
        "something was left behind"
    );
}

fn sample_tree(root: &Path) {
    fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
    fs::write(root.join("usr/lib/file"), Rng(1).bytes(100_000)).unwrap();
    fs::write(root.join("usr/lib/same"), Rng(1).bytes(100_000)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::hard_link(root.join("usr/lib/file"), root.join("usr/hard")).unwrap();
    symlink("lib/file", root.join("usr/symlink")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o4750)).unwrap();
    for path in [
        "usr/lib/deep",
        "usr/lib/file",
        "usr/lib/same",
        "usr/lib",
        "usr/symlink",
        "usr",
        "empty",
        "",
    ] {
        let at = rustix::fs::Timespec {
            tv_sec: 1_600_000_000 + path.len() as i64,
            tv_nsec: 0,
        };
        let times = rustix::fs::Timestamps {
            last_access: at,
            last_modification: at,
        };
        rustix::fs::utimensat(
            rustix::fs::CWD,
            root.join(path),
            &times,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .unwrap();
    }
}

/// Makes an archive with GNU tar and compares its image with the tree.
fn gnu_tar(root: &Path, archive: &Path, options: &[&str], expected: &Snapshot) -> Option<()> {
    let mut args: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    args.extend([
        OsStr::new("-C"),
        root.as_os_str(),
        OsStr::new("-cf"),
        archive.as_os_str(),
        OsStr::new("."),
    ]);
    let output = tool("tar", &args)?;
    assert!(
        output.status.success(),
        "tar {options:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let image = archive.with_extension("img");
    varve_image::build_tar_file(archive, &image, &BuildOptions::default(), &mut ())
        .unwrap_or_else(|e| panic!("{options:?}: {e}"));
    println!("{options:?}");
    check(&image, expected);
    Some(())
}

#[test]
fn gnu_tar_formats() {
    let temp = tempfile::tempdir().unwrap();
    let (root, archive) = (temp.path().join("tree"), temp.path().join("a.tar"));
    fs::create_dir(&root).unwrap();
    sample_tree(&root);
    let tree = expected(&root);
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        if gnu_tar(&root, &archive, &["--format", format], &tree).is_none() {
            return;
        }
    }
    gnu_tar(&root, &archive, &["-z"], &tree);
    if tool("zstd", &["--version".as_ref()]).is_some() {
        gnu_tar(&root, &archive, &["--zstd"], &tree);
    }
    // Long names and targets.
    let long = root.join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("f".repeat(250)), "deep").unwrap();
    symlink("t".repeat(3000), long.join("link")).unwrap();
    let tree = expected(&root);
    let whole_seconds = |tree: &Snapshot| {
        let mut tree = tree.clone();
        tree.values_mut().for_each(|e| e.mtime.1 = 0);
        tree
    };
    gnu_tar(&root, &archive, &["--format=gnu"], &whole_seconds(&tree));
    gnu_tar(&root, &archive, &["--format=posix"], &tree);
}

#[test]
fn gnu_tar_sparse_files() {
    let temp = tempfile::tempdir().unwrap();
    let (root, archive) = (temp.path().join("tree"), temp.path().join("a.tar"));
    fs::create_dir(&root).unwrap();
    let file = fs::File::create(root.join("sparse")).unwrap();
    file.set_len(40 << 20).unwrap();
    for i in 0..60 {
        file.write_all_at(&Rng(i).bytes(5000), (i * 600_000) + 10)
            .unwrap();
    }
    let file = fs::File::create(root.join("only-a-hole")).unwrap();
    file.set_len(3 << 20).unwrap();
    fs::write(root.join("plain"), "after the sparse ones").unwrap();
    let tree = expected(&root);
    let mut seconds = tree.clone();
    seconds.values_mut().for_each(|e| e.mtime.1 = 0);
    gnu_tar(&root, &archive, &["--sparse", "--format=gnu"], &seconds);
    for version in ["0.0", "0.1", "1.0"] {
        let option = format!("--sparse-version={version}");
        gnu_tar(
            &root,
            &archive,
            &["--sparse", "--format=posix", &option],
            &tree,
        );
    }
}

#[test]
fn gnu_tar_attributes() {
    let temp = tempfile::tempdir().unwrap();
    let (root, archive) = (temp.path().join("tree"), temp.path().join("a.tar"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(
            root.join("file"),
            name,
            value,
            rustix::fs::XattrFlags::empty(),
        )
    };
    if set("user.lines", b"a\nb\0c=d\n").is_err() {
        return skip("this file system has no user attributes");
    }
    set("user.long", &Rng(3).bytes(900)).unwrap();
    if is_root() {
        set("trusted.t", b"\n\n").unwrap();
    }
    gnu_tar(
        &root,
        &archive,
        &["--format=posix", "--xattrs", "--xattrs-include=*"],
        &expected(&root),
    );
}

#[test]
fn python_tarfile() {
    let temp = tempfile::tempdir().unwrap();
    let script = r#"
import io, sys, tarfile
for name, fmt in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
    with tarfile.open(sys.argv[1] + "/" + name + ".tar", "w", format=fmt, encoding="utf-8", errors="surrogateescape") as t:
        def add(name, type=tarfile.REGTYPE, data=b"", **fields):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode = type, len(data), 0o751
            for key, value in fields.items():
                setattr(info, key, value)
            t.addfile(info, io.BytesIO(data))
        add("old", data=b"before 1970", mtime=-1000)
        add("big-owner", data=b"x", uid=3000000000, gid=70000)
        add("n" * 180 + "/" + "m" * 180, data=b"long")
        add("f\udcff", data=b"not utf-8")
        add("dev", type=tarfile.BLKTYPE, devmajor=259, devminor=1048000)
        add("fifo", type=tarfile.FIFOTYPE)
        add("hard", type=tarfile.LNKTYPE, linkname="old")
        add("sym", type=tarfile.SYMTYPE, linkname="l" * 300)
        add("far", data=b"y", mtime=1 << 35)
"#;
    let args = [OsStr::new("-c"), script.as_ref(), temp.path().as_os_str()];
    let Some(output) = tool("python3", &args) else {
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read = |name: &str| import(&fs::read(temp.path().join(name)).unwrap()).0;
    let (gnu, pax) = (read("gnu.tar"), read("pax.tar"));
    assert_same(&gnu, &pax, "pax");
    assert_eq!(gnu[&b"old"[..]].mtime, (-1000, 0));
    assert_eq!(gnu[&b"old"[..]].nlink, 2);
    assert_eq!(
        (gnu[&b"big-owner"[..]].uid, gnu[&b"big-owner"[..]].gid),
        (3_000_000_000, 70_000)
    );
    assert_eq!(gnu[&b"f\xff"[..]].size, 9);
    assert_eq!(gnu[&b"dev"[..]].device, (259, 1_048_000));
    assert_eq!(gnu[&b"sym"[..]].content, [b'l'; 300]);
    assert_eq!(gnu[&b"far"[..]].mtime, (1 << 35, 0));
    assert!(gnu.contains_key([&[b'n'; 180][..], b"/", &[b'm'; 180]].concat().as_slice()));
}

#[test]
fn names_are_kept_inside_the_layer() {
    let (tree, _) = import(
        &Archive::new()
            .file("/abs/file", "a")
            .file("./b/../c", "c")
            .file("d//e/./f", "f")
            .bytes(),
    );
    let names: Vec<_> = tree
        .keys()
        .map(|k| String::from_utf8_lossy(k).into_owned())
        .collect();
    assert_eq!(names, ["", "abs", "abs/file", "c", "d", "d/e", "d/e/f"]);
    let made = &tree[&b"abs"[..]];
    assert_eq!(
        (made.mode, made.uid, made.gid, made.mtime),
        (0o040755, 0, 0, (0, 0))
    );
    // As in a root of its own: above it is the root itself.
    let (tree, _) = import(
        &Archive::new()
            .file("../x", "x")
            .file("a/../../../y", "y")
            .entry(EntryType::Link, b"l", b"../../x", b"")
            .file("../../.wh.z", "")
            .bytes(),
    );
    let names: Vec<_> = tree
        .keys()
        .map(|k| String::from_utf8_lossy(k).into_owned())
        .collect();
    assert_eq!(names, ["", "l", "x", "y", "z"]);
    assert_eq!((tree[&b"x"[..]].nlink, tree[&b"l"[..]].size), (2, 1));
    refuse(
        &Archive::new()
            .entry(EntryType::Link, b"l", b"later", b"")
            .file("later", "")
            .bytes(),
        "hard link to later",
    );
    refuse(
        &Archive::new()
            .dir("d")
            .entry(EntryType::Link, b"l", b"d", b"")
            .bytes(),
        "hard link to the directory d",
    );
    refuse(
        &Archive::new().file("f", "").file("f/x", "").bytes(),
        "f is in the way and not a directory",
    );
    refuse(
        &Archive::new()
            .pax(&[("path", "n".repeat(256).as_bytes())])
            .file("x", "")
            .bytes(),
        "a name of 256 bytes",
    );
    refuse(
        &Archive::new()
            .entry(EntryType::Symlink, b"l", b"", b"")
            .bytes(),
        "target of 0 bytes",
    );
}

#[test]
fn symlinks_on_the_way_are_followed_inside_the_layer() {
    let (tree, _) = import(
        &Archive::new()
            .dir("usr/lib")
            .entry(EntryType::Symlink, b"lib", b"usr/lib", b"")
            .entry(EntryType::Symlink, b"up", b"/../../usr", b"")
            .file("lib/so", "1")
            .file("up/bin/sh", "2")
            .bytes(),
    );
    assert_eq!(tree[&b"usr/lib/so"[..]].size, 1);
    assert_eq!(tree[&b"usr/bin/sh"[..]].size, 1);
    refuse(
        &Archive::new()
            .entry(EntryType::Symlink, b"a", b"a", b"")
            .file("a/x", "")
            .bytes(),
        "too many symbolic links",
    );
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let (tree, report) = import(
        &Archive::new()
            .file("f", "first")
            .entry(EntryType::Link, b"kept", b"f", b"")
            .file("f", "second!")
            .file("gone", &"g".repeat(300_000))
            .file("gone", "short")
            .dir("d")
            .file("d/x", "x")
            .dir("d")
            .file("e", "e")
            .dir("e")
            .file("e/y", "y")
            .dir("t")
            .file("t/z", "z")
            .file("t", "now a file")
            .bytes(),
    );
    assert_eq!((tree[&b"f"[..]].size, tree[&b"kept"[..]].size), (7, 5));
    assert_eq!((tree[&b"f"[..]].nlink, tree[&b"kept"[..]].nlink), (1, 1));
    assert!(
        tree.contains_key(&b"d/x"[..])
            && tree.contains_key(&b"e/y"[..])
            && !tree.contains_key(&b"t/z"[..])
    );
    assert!(
        report.image_bytes < 100_000,
        "replaced data stayed: {} bytes",
        report.image_bytes
    );
}

#[test]
fn data_can_be_put_first() {
    let bytes = Archive::new()
        .file("a", &"a".repeat(5000))
        .file("b", "bbb")
        .file("c", "ccc")
        .bytes();
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("layer.img");
    let options = BuildOptions {
        order: vec![b"c".to_vec(), b"a".to_vec()],
        ..Default::default()
    };
    varve_image::build_tar(&mut &bytes[..], "test.tar", &image, &options, &mut ()).unwrap();
    check(&image, &image_snapshot(&image));
    let image = fs::read(image).unwrap();
    assert_eq!(
        (&image[4096..4099], image[8192], &image[16384..16387]),
        (&b"ccc"[..], b'a', &b"bbb"[..])
    );
}

#[test]
fn whiteouts_take_overlayfs_form() {
    let (tree, report) = import(
        &Archive::new()
            .file(".wh.top", "")
            .file("d/.wh.x", "")
            .file("d/.wh..wh..opq", "")
            .dir("d")
            .file("d/.wh.replaced", "")
            .file("d/replaced", "new")
            .file("d/.wh..wh.aufs", "")
            .file("d/.wh..wh.plnk/1.2", "")
            .dir("r/dir")
            .file("r/.wh.dir", "")
            .pax(&[
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.user.kept", b""),
            ])
            .file("foreign", "")
            .bytes(),
    );
    let origin = |path: &[u8]| tree[path].xattrs.get(&b"trusted.overlay.origin"[..]);
    let opaque = |path: &[u8]| tree[path].xattrs.get(&b"trusted.overlay.opaque"[..]);
    for path in [&b"top"[..], b"d/x"] {
        assert_eq!((tree[path].mode, tree[path].device), (0o020000, (0, 0)));
    }
    assert_eq!(origin(b""), Some(&vec![]));
    assert_eq!(
        (origin(b"d"), opaque(b"d")),
        (Some(&vec![]), Some(&b"y".to_vec()))
    );
    assert_eq!(tree[&b"d/replaced"[..]].size, 3);
    // The new directory hides the removed one.
    assert_eq!(
        (origin(b"r"), opaque(b"r/dir")),
        (None, Some(&b"y".to_vec()))
    );
    assert_eq!(tree.len(), 8, "{:?}", tree.keys());
    assert_eq!(
        tree[&b"foreign"[..]].xattrs,
        BTreeMap::from([(b"user.kept".to_vec(), vec![])])
    );
    assert_eq!(
        (report.whiteouts, report.opaque, report.notes.len()),
        (2, 2, 3)
    );
    refuse(
        &Archive::new().file(".wh.", "").bytes(),
        "whiteout of no name",
    );
}

#[test]
fn libarchive_attributes_are_decoded() {
    let records: [(&str, &[u8]); 2] = [
        ("LIBARCHIVE.xattr.user.a%20b", b"AAECCg"),
        ("mtime", b"-1.5"),
    ];
    let (tree, _) = import(&Archive::new().pax(&records).file("f", "").bytes());
    assert_eq!(
        tree[&b"f"[..]].xattrs,
        BTreeMap::from([(b"user.a b".to_vec(), vec![0, 1, 2, 10])])
    );
    assert_eq!(tree[&b"f"[..]].mtime, (-2, 500_000_000));
}

#[test]
fn damaged_archives_are_refused() {
    refuse(b"", "test.tar: is empty, not a tar archive");
    refuse(b"hello", "is not a tar archive");
    refuse(&[b'x'; 10_000], "is not a tar archive");
    refuse(
        b"\xfd7zXZ\0 whatever follows",
        "xz compression is not supported",
    );
    let whole = Archive::new()
        .file("a", &"a".repeat(5000))
        .file("b", "b")
        .bytes();
    refuse(&whole[..3000], "the archive ends inside an entry");
    refuse(
        &whole[..512 + 5120 + 100],
        "the archive ends inside a header",
    );
    let mut bad = whole.clone();
    bad[512 + 5120 + 3] ^= 1;
    refuse(&bad, "header checksum does not match (at byte 6144");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    import(&gzip);
    refuse(&gzip[..gzip.len() - 6], "cannot read");
    import(&zstd::encode_all(&whole[..], 3).unwrap());
    refuse(
        &Archive::new()
            .entry(EntryType::XHeader, b"p", b"", b"5 a=b\n")
            .file("a", "")
            .bytes(),
        "malformed pax header",
    );
    let mut huge = Header::new_gnu();
    huge.set_entry_type(EntryType::XHeader);
    huge.set_size(1 << 40);
    huge.set_cksum();
    refuse(huge.as_bytes(), "extended header of 1099511627776 bytes");
    for (map, message) in [
        ("0,1,5", "malformed"),
        ("0,1,0,1", "out of order"),
        ("0,99999", "exceeds"),
        ("0,1", "does not match"),
    ] {
        let records: [(&str, &[u8]); 2] = [
            ("GNU.sparse.size", b"1000"),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        refuse(
            &Archive::new().pax(&records).file("s", "ab").bytes(),
            message,
        );
    }
}

/// Any prefix and any flipped byte gives an image or an error, never a panic, and leaves nothing behind.
#[test]
fn mutated_archives_never_panic() {
    let whole = Archive::new()
        .pax(&[
            ("path", b"p"),
            ("SCHILY.xattr.user.a", b"v"),
            ("mtime", b"1.5"),
        ])
        .file("a", "data")
        .entry(EntryType::GNULongName, b"l", b"", b"long/name")
        .file("b", "b")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"100"),
        ])
        .entry(
            EntryType::Regular,
            b"s",
            b"",
            &[&b"1\n10\n5\n"[..], &[0; 505], b"hello"].concat(),
        )
        .entry(EntryType::Link, b"h", b"p", b"")
        .entry(EntryType::Char, b"c", b"", b"")
        .dir("d")
        .bytes();
    let temp = tempfile::tempdir().unwrap();
    let image: PathBuf = temp.path().join("layer.img");
    let mut rng = Rng(42);
    let mut built = 0;
    import(&whole);
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next() as u8;
        }
        if rng.below(2) == 0 {
            // Let the mutation past the checksums.
            for block in bytes
                .chunks_mut(512)
                .filter(|b| b.len() == 512 && b[257..262] == *b"ustar")
            {
                let sum: u32 = block
                    .iter()
                    .enumerate()
                    .map(|(i, b)| {
                        if (148..156).contains(&i) {
                            32
                        } else {
                            u32::from(*b)
                        }
                    })
                    .sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        bytes.truncate(bytes.len() - rng.below(2) as usize * rng.below(4000) as usize);
        if build_bytes(&bytes, &image).is_ok() {
            built += 1;
            if built % 50 == 0 {
                image_snapshot(&image);
                fsck(&image);
            }
        }
    }
    assert!(built > 100, "only {built} archives were accepted");
}

#[test]
fn what_begins_with_zeros_is_an_archive_only_if_it_is_an_empty_one() {
    let temp = tempfile::tempdir().unwrap();
    let build = |bytes: &[u8]| {
        let output = temp.path().join("layer.img");
        let options = BuildOptions::default();
        varve_image::build_tar(&mut &bytes[..], "it", &output, &options, &mut ())
            .map_err(|error| error.to_string())
    };
    for len in [512, 1024, 10240] {
        build(&vec![0; len]).unwrap();
    }
    let text = build(&vec![0; 1 << 20]).unwrap_err();
    assert!(text.contains("nothing but zeros"), "{text}");
    let mut image = vec![0; 8192];
    image[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    let text = build(&image).unwrap_err();
    assert!(text.contains("EROFS image"), "{text}");
    image[1024] = 1;
    let text = build(&image).unwrap_err();
    assert!(text.contains("begins with zeros"), "{text}");
}
