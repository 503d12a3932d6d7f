//! A build that fails says in one line what and where, and leaves nothing behind.

mod oracle;

use oracle::*;
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use varve_image::{BuildOptions, Progress, Work};

fn fail(source: &Path, output: &Path, progress: &mut dyn Progress) -> String {
    let error = varve_image::build_dir(source, output, &BuildOptions::default(), progress)
        .unwrap_err()
        .to_string();
    assert!(!error.contains('\n'));
    error
}

#[test]
fn a_full_disk_names_the_output() {
    if !is_root() {
        return skip("mounting a small tmpfs needs root");
    }
    let temp = tempfile::tempdir().unwrap();
    let (source, small) = (temp.path().join("tree"), temp.path().join("small"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&small).unwrap();
    let size = CString::new("size=1m").unwrap();
    rustix::mount::mount("tmpfs", &small, "tmpfs", MountFlags::empty(), Some(&*size)).unwrap();
    let small = Mount(small);
    let output = small.0.join("layer.img");
    fs::write(&output, "the old image").unwrap();
    for size in [3_000_000, 900_000] {
        fs::write(source.join(format!("{size}")), Rng(1).bytes(size)).unwrap();
        if size == 900_000 {
            fs::remove_file(source.join("3000000")).unwrap();
            // Metadata alone must overflow now.
            for i in 0..5000 {
                fs::write(source.join(format!("{i}-{}", "n".repeat(100))), "").unwrap();
            }
        }
        let error = fail(&source, &output, &mut ());
        assert_eq!(
            error,
            format!("cannot write {}: No space left on device", output.display())
        );
        assert_eq!(fs::read(&output).unwrap(), b"the old image");
        assert_eq!(fs::read_dir(&small.0).unwrap().count(), 1);
    }
}

/// Changes a file as soon as the build has come past some data.
struct Grow(PathBuf);

impl Progress for Grow {
    fn advance(&mut self, what: Work, _: u64, _: Option<u64>) {
        if what == Work::Data && self.0.exists() {
            let file = fs::OpenOptions::new().write(true).open(&self.0).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }
    }
}

#[test]
fn a_file_that_changes_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("tree");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("log"), Rng(1).bytes(8 << 20)).unwrap();
    let error = fail(
        &source,
        &temp.path().join("layer.img"),
        &mut Grow(source.join("log")),
    );
    assert!(
        error.starts_with(&format!(
            "{} changed while it was read (8388608 bytes, then ",
            source.join("log").display()
        )),
        "{error}"
    );
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_read_or_written_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("file"), "x").unwrap();
    let shown = |name: &str| at(name).display().to_string();
    assert_eq!(
        fail(&at("absent"), &at("x.img"), &mut ()),
        format!("cannot open {}: No such file or directory", shown("absent"))
    );
    assert_eq!(
        fail(&at("file"), &at("x.img"), &mut ()),
        format!("cannot open {}: Not a directory", shown("file"))
    );
    assert_eq!(
        fail(&at("tree"), &at("no/x.img"), &mut ()),
        format!(
            "cannot write {}: No such file or directory",
            shown("no/x.img")
        )
    );
    assert_eq!(
        fail(&at("tree"), &at("tree"), &mut ()),
        format!("cannot write {}: Is a directory", shown("tree"))
    );
    assert_eq!(
        fail(&at("tree"), Path::new("/dev/null"), &mut ()),
        "cannot write /dev/null: exists and is not a regular file"
    );
    if is_root() {
        return;
    }
    fs::write(at("tree/secret"), "x").unwrap();
    fs::set_permissions(at("tree/secret"), fs::Permissions::from_mode(0o0)).unwrap();
    assert_eq!(
        fail(&at("tree"), &at("x.img"), &mut ()),
        format!("cannot open {}: Permission denied", shown("tree/secret"))
    );
}

#[test]
fn overlay_objects_with_content_elsewhere_are_refused() {
    if !is_root() {
        return skip("trusted attributes need root");
    }
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("tree");
    fs::create_dir_all(source.join("moved")).unwrap();
    let set = |name: &str| {
        rustix::fs::setxattr(
            source.join("moved"),
            name,
            b"/x",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    };
    set("trusted.overlay.origin");
    let image = temp.path().join("layer.img");
    let report = build(&source, &image);
    assert_eq!(report.notes.len(), 1);
    assert!(image_snapshot(&image)[&b"moved"[..]].xattrs.is_empty());
    set("trusted.overlay.redirect");
    assert!(fail(&source, &image, &mut ()).contains("trusted.overlay.redirect"));
}

/// The image may lie in the tree it is built from; neither version of it becomes part of it.
#[test]
fn the_output_is_no_source() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "x").unwrap();
    let image = temp.path().join("layer.img");
    let first = build(temp.path(), &image);
    let time =
        rustix::fs::statat(rustix::fs::CWD, temp.path(), rustix::fs::AtFlags::empty()).unwrap();
    let second = build(temp.path(), &image);
    assert_eq!((first.files, second.files), (1, 1));
    assert_eq!(second.notes.len(), 1);
    assert!(time.st_size > 0);
    assert_eq!(image_snapshot(&image).len(), 2);
}
