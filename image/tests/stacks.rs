//! Layers built here and stacked by the kernel's overlayfs behave as the layers of a container image.

mod oracle;

use oracle::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::mount::MountFlags;
use std::fs;
use std::path::Path;
use varve_image::BuildOptions;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn overlayfs_sees_whiteouts_and_opaque_directories() {
    if !is_root() {
        return skip("mounting layers needs root");
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let base = at("base");
    for dir in ["merged", "opaque", "replaced"] {
        fs::create_dir_all(base.join(dir)).unwrap();
        fs::write(base.join(dir).join("old"), dir).unwrap();
    }
    fs::write(base.join("deleted"), "x").unwrap();
    fs::write(base.join("changed"), "x").unwrap();
    fs::hard_link(base.join("changed"), base.join("changed-too")).unwrap();
    build(&base, &at("base.img"));

    // The second layer in the form of overlayfs, from a directory.
    let upper = at("upper");
    fs::create_dir_all(upper.join("merged")).unwrap();
    fs::create_dir_all(upper.join("opaque")).unwrap();
    fs::write(upper.join("opaque/new"), "n").unwrap();
    rustix::fs::setxattr(
        upper.join("opaque"),
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .unwrap();
    let whiteout = |path: &str| {
        rustix::fs::mknodat(
            CWD,
            upper.join(path),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
    };
    whiteout("deleted");
    whiteout("merged/old");
    whiteout("never-was");
    fs::create_dir(upper.join("alone")).unwrap();
    whiteout("alone/nothing-below");
    fs::write(upper.join("alone/file"), "f").unwrap();
    build(&upper, &at("upper.img"));

    // The third in the form of OCI, from a tar stream.
    let mut tar = tar::Builder::new(Vec::new());
    for name in [
        ".wh.replaced",
        "replaced/new",
        "opaque/.wh.new",
        "opaque/third",
        "changed",
        "solo/.wh.x",
        "solo/y",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(1);
        tar.append_data(&mut header, name, &b"3"[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    varve_image::build_tar(
        &mut &tar[..],
        "third",
        &at("third.img"),
        &BuildOptions::default(),
        &mut (),
    )
    .unwrap();

    let mut mounts = Vec::new();
    for layer in ["third.img", "upper.img", "base.img"] {
        match mount(&at(layer)) {
            Some(mount) => mounts.push(mount),
            None => return,
        }
    }
    let target = at("union");
    fs::create_dir(&target).unwrap();
    let lower: Vec<_> = mounts.iter().map(|m| m.0.to_str().unwrap()).collect();
    let data = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
    match rustix::mount::mount(
        "overlay",
        &target,
        "overlay",
        MountFlags::RDONLY,
        Some(&*data),
    ) {
        Ok(()) => {}
        Err(rustix::io::Errno::NODEV) => return skip("the kernel has no overlayfs"),
        Err(e) => panic!("overlay: {e}"),
    }
    let union = Mount(target);
    assert_eq!(
        names(&union.0),
        [
            "alone",
            "changed",
            "changed-too",
            "merged",
            "opaque",
            "replaced",
            "solo"
        ]
    );
    assert_eq!(
        names(&union.0.join("alone")),
        ["file"],
        "a whiteout shows in a directory of one layer"
    );
    assert_eq!(names(&union.0.join("solo")), ["y"]);
    assert_eq!(names(&union.0.join("merged")), [""; 0]);
    assert_eq!(names(&union.0.join("opaque")), ["third"]);
    assert_eq!(names(&union.0.join("replaced")), ["new"]);
    assert_eq!(fs::read(union.0.join("changed")).unwrap(), b"3");
    assert_eq!(fs::read(union.0.join("changed-too")).unwrap(), b"x");
}

#[test]
fn an_unpacked_oci_layer_takes_overlayfs_form() {
    let temp = tempfile::tempdir().unwrap();
    let (source, image) = (temp.path().join("layer"), temp.path().join("layer.img"));
    for dir in ["d/.wh..wh.plnk", "r/dir"] {
        fs::create_dir_all(source.join(dir)).unwrap();
    }
    for file in [
        ".wh.top",
        "d/.wh.x",
        "d/.wh..wh..opq",
        "d/.wh..wh.aufs",
        "d/.wh..wh.plnk/1.2",
        "d/.wh.replaced",
        "d/replaced",
        "r/.wh.dir",
        "r/wh.kept",
    ] {
        fs::write(source.join(file), "").unwrap();
    }
    let report = build(&source, &image);
    let tree = image_snapshot(&image);
    let names: Vec<_> = tree
        .keys()
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    let expected = [
        "",
        "d",
        "d/replaced",
        "d/x",
        "r",
        "r/dir",
        "r/wh.kept",
        "top",
    ];
    assert_eq!(names, expected);
    for path in ["top", "d/x"] {
        let entry = &tree[path.as_bytes()];
        assert_eq!((entry.mode, entry.device), (0o020000, (0, 0)));
    }
    let has = |path: &str, name: &str| tree[path.as_bytes()].xattrs.contains_key(name.as_bytes());
    for (path, origin, opaque) in [
        ("", true, false),
        ("d", true, true),
        ("r", false, false),
        ("r/dir", false, true),
    ] {
        assert_eq!(has(path, "trusted.overlay.origin"), origin, "{path}");
        assert_eq!(has(path, "trusted.overlay.opaque"), opaque, "{path}");
    }
    assert_eq!(
        (report.whiteouts, report.opaque, report.notes.len()),
        (2, 2, 2)
    );
    // What may hold files is no marker.
    fs::create_dir(source.join("r/.wh.other")).unwrap();
    let options = BuildOptions::default();
    let error = varve_image::build_dir(&source, &image, &options, &mut ()).unwrap_err();
    let place = source.join("r/.wh.other");
    assert_eq!(
        error.to_string(),
        format!(
            "{}: a directory with the name of a whiteout",
            place.display()
        )
    );
}
