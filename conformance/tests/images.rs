//! A Debian image of six layers, made with other people's tools: converted from every form, run, looked into and mounted.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use sha2::{Digest, Sha256};
use varve_conformance::{debian, run, skip, varve};

/// What all tests share: made once.
struct Fixture {
    dir: tempfile::TempDir,
    varve: PathBuf,
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn varve(&self, args: &[&dyn AsRef<OsStr>]) -> Output {
        let mut command = Command::new(&self.varve);
        for arg in args {
            command.arg(arg);
        }
        run(&mut command)
    }

    /// Runs varve, which must succeed.
    fn ok(&self, args: &[&dyn AsRef<OsStr>]) -> String {
        let output = self.varve(args);
        assert!(
            output.status.success(),
            "{:?}: {}",
            args.iter().map(|a| a.as_ref()).collect::<Vec<_>>(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn layers(&self, image: &Path) -> Vec<PathBuf> {
        let text = self.ok(&[&"inspect", &"--json", &image]);
        let value: Value = serde_json::from_str(&text).unwrap();
        let layers = value[0]["layers"].as_array().unwrap();
        layers
            .iter()
            .map(|layer| layer["file"].as_str().unwrap().into())
            .collect()
    }
}

/// The image as umoci made it (`src:v1`) and converted (`image`).
fn fixture() -> Option<&'static Fixture> {
    static FIXTURE: OnceLock<Result<Fixture, String>> = OnceLock::new();
    let made = FIXTURE.get_or_init(|| {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let name = format!("{}:v1", dir.path().join("src").display());
        debian::oci_image(&name)?;
        let varve = varve().map_err(|e| e.to_string())?;
        let fixture = Fixture { dir, varve };
        fixture.ok(&[&"convert", &format!("oci:{name}"), &fixture.path("image")]);
        Ok(fixture)
    });
    match made {
        Ok(fixture) => Some(fixture),
        Err(reason) => {
            skip("the Debian image", reason);
            None
        }
    }
}

fn ok(command: &mut Command) -> Output {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// An object as a directory of the host shows it.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    /// Device number, else size of what has contents.
    size: u64,
    /// First path of the same inode.
    same_as: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
}

type Snapshot = BTreeMap<Vec<u8>, Entry>;

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..len].split(|&byte| byte == 0);
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let name_c = CString::new(name).unwrap();
            let len = rustix::fs::lgetxattr(path, &*name_c, &mut value[..]).unwrap();
            (name.to_vec(), value[..len].to_vec())
        })
        .collect()
}

fn snapshot(root: &Path) -> Snapshot {
    let mut found = Vec::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let kind = meta.file_type();
        let mut content = Vec::new();
        if kind.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                stack.push(path.join(entry.unwrap().file_name()));
            }
        } else if kind.is_symlink() {
            content = fs::read_link(&full).unwrap().into_os_string().into_vec();
        } else if kind.is_file() {
            let mut hasher = Sha256::new();
            let mut file = File::open(&full).unwrap();
            let mut buf = vec![0; 1 << 18];
            loop {
                match file.read(&mut buf).unwrap() {
                    0 => break,
                    len => hasher.update(&buf[..len]),
                }
            }
            content = hasher.finalize().to_vec();
        }
        let entry = Entry {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            time: (meta.mtime(), meta.mtime_nsec()),
            size: match () {
                () if kind.is_char_device() || kind.is_block_device() => meta.rdev(),
                () if kind.is_dir() => 0,
                () => meta.size(),
            },
            same_as: Vec::new(),
            xattrs: xattrs(&full),
            content,
        };
        let path = path.into_os_string().into_vec();
        found.push((path, (meta.dev(), meta.ino(), kind.is_dir()), entry));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut first: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    found
        .into_iter()
        .map(|(path, inode, mut entry)| {
            if !inode.2 {
                entry.same_as = first.entry(inode).or_insert_with(|| path.clone()).clone();
            }
            (path, entry)
        })
        .collect()
}

fn assert_same(expected: &Snapshot, found: &Snapshot, what: &str) {
    let mut differences = String::new();
    let mut count = 0;
    for path in expected.keys().chain(found.keys()) {
        let (a, b) = (expected.get(path), found.get(path));
        if a != b {
            count += 1;
            if count <= 5 {
                let path = path.escape_ascii();
                differences += &format!("{path}:\n  expected {a:?}\n  found    {b:?}\n");
            }
        }
    }
    assert!(count == 0, "{what}: {count} differences\n{differences}");
}

/// A mount that goes away with the value.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn kernel_mount(source: &Path, target: PathBuf, kind: &str, data: Option<&str>) -> Mounted {
    fs::create_dir_all(&target).unwrap();
    let mounted = mount(Some(source), &target, Some(kind), MsFlags::MS_RDONLY, data);
    mounted.unwrap_or_else(|error| panic!("{kind} of {}: {error}", source.display()));
    Mounted(target)
}

/// The processes that serve mounts below a directory.
fn servers(dir: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let has = |text: &[u8]| line.windows(text.len()).any(|part| part == text);
        if has(b"--notify") && has(dir.as_os_str().as_bytes()) {
            count += 1;
        }
    }
    count
}

fn is_mounted(dir: &Path) -> bool {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines()
        .any(|line| line.split(' ').nth(4) == dir.to_str())
}

fn digests(fixture: &Fixture, image: &Path) -> Vec<PathBuf> {
    let layers = fixture.layers(image).into_iter();
    layers
        .map(|path| PathBuf::from(path.file_name().unwrap()))
        .collect()
}

#[test]
fn every_form_converts_to_the_same_layers_and_runs() {
    let Some(fixture) = fixture() else { return };
    let source = format!("oci:{}:v1", fixture.path("src").display());
    let archives = [
        ("docker-archive", fixture.path("docker.tar")),
        ("oci-archive", fixture.path("oci.tar")),
    ];
    let expected = digests(fixture, &fixture.path("image"));
    assert_eq!(expected.len(), 6);
    let mut sources = vec![fixture.path("src").into_os_string()];
    for (kind, path) in &archives {
        let target = format!("{kind}:{}:app:v1", path.display());
        ok(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &source, &target]));
        sources.push(format!("{kind}:{}", path.display()).into());
    }
    for (number, source) in sources.iter().enumerate() {
        let out = fixture.path(&format!("form{number}"));
        fixture.ok(&[&"convert", source, &out]);
        assert_eq!(digests(fixture, &out), expected, "{source:?}");
    }

    // The Engine's API, of which the conversion needs one answer.
    let socket = fixture.path("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let archive = archives[0].1.clone();
    let server = std::thread::spawn(move || {
        for answer in [true, false] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            assert!(request.starts_with("GET /images/app:v1/get HTTP/1."));
            if answer {
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
                std::io::copy(&mut File::open(&archive).unwrap(), &mut stream).unwrap();
            } else {
                let body = r#"{"message":"No such image: app:v1"}"#;
                write!(stream, "HTTP/1.0 404 Not Found\r\n\r\n{body}").unwrap();
            }
        }
    });
    let out = fixture.path("daemon");
    let mut command = Command::new(&fixture.varve);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    command.args(["convert", "docker-daemon:app:v1"]).arg(&out);
    ok(&mut command);
    assert_eq!(digests(fixture, &out), expected);
    let refused = run(command.arg("--json"));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.contains("No such image: app:v1 (HTTP status 404)"),
        "{text}"
    );
    assert_eq!(refused.status.code(), Some(125));
    server.join().unwrap();

    // Others read what was made.
    let text = ok(Command::new("skopeo")
        .arg("inspect")
        .arg(format!("oci:{}", out.display())));
    let value: Value = serde_json::from_slice(&text.stdout).unwrap();
    assert_eq!(value["Layers"].as_array().unwrap().len(), 6);
    ok(Command::new("umoci")
        .args(["stat", "--image"])
        .arg(format!("{}:latest", out.display())));

    // It runs as its configuration says, and otherwise.
    let image = fixture.path("image");
    assert_eq!(fixture.ok(&[&"do", &"--image", &image]), "from the image\n");
    let text = fixture.ok(&[
        &"do",
        &"--image",
        &image,
        &"--",
        &"python3",
        &"-c",
        &"import os, json, sqlite3; print(os.getcwd(), os.environ['PATH'])",
    ]);
    assert_eq!(text, "/srv /usr/bin:/bin\n");
    let store = fixture.path("store");
    fixture.ok(&[&"convert", &"--store", &store, &image, &"debian:six"]);
    let text = fixture.ok(&[
        &"do",
        &"--store",
        &store,
        &"--image",
        &"debian:six",
        &"--workdir",
        &"/",
        &"--",
        &"ls",
        &"srv",
    ]);
    assert!(text.contains("large-id\n"), "{text}");
    let text = fixture.ok(&[&"images", &"--store", &store]);
    assert!(text.contains("debian:six"), "{text}");
    fixture.ok(&[&"rmi", &"--store", &store, &"debian:six"]);
    assert_eq!(fs::read_dir(store.join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn the_tree_is_the_same_everywhere() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.path("image");
    let layers = fixture.layers(&image);
    let mut lowers = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let target = fixture.path(&format!("lower{number}"));
        lowers.push(kernel_mount(layer, target, "erofs", None));
    }
    let lower: Vec<_> = lowers.iter().rev().map(|m| m.0.to_str().unwrap()).collect();
    let data = format!("lowerdir={}", lower.join(":"));
    let union = kernel_mount(
        Path::new("overlay"),
        fixture.path("union"),
        "overlay",
        Some(&data),
    );
    let expected = snapshot(&union.0);
    assert!(expected.len() > 5000);

    let text = fixture.ok(&[&"inspect", &"--json", &image]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let index = PathBuf::from(value[0]["index"]["file"].as_str().unwrap());
    let devices: Vec<_> = layers
        .iter()
        .map(|layer| format!("device={}", layer.display()))
        .collect();
    let merged = kernel_mount(
        &index,
        fixture.path("merged"),
        "erofs",
        Some(&devices.join(",")),
    );
    assert_same(&expected, &snapshot(&merged.0), "the index in the kernel");

    for (name, option) in [("fuse", None), ("fuse-union", Some("--no-index"))] {
        let target = fixture.path(name);
        fs::create_dir_all(&target).unwrap();
        match option {
            Some(option) => fixture.ok(&[&"mount", &option, &image, &target]),
            None => fixture.ok(&[&"mount", &image, &target]),
        };
        assert_same(&expected, &snapshot(&target), name);
        // Several readers at once, in different orders.
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut command = Command::new("diff");
                command.args(["-r", "--no-dereference"]);
                for part in ["usr", "etc"] {
                    command.arg(union.0.join(part)).arg(target.join(part));
                }
                // diff compares two trees at a time.
                let mut command = Command::new("sh");
                let script = "diff -r --no-dereference $0/usr $1/usr && diff -r --no-dereference $0/etc $1/etc";
                command.arg("-c").arg(script).arg(&union.0).arg(&target);
                command.spawn().unwrap()
            })
            .collect();
        for mut reader in readers {
            assert!(reader.wait().unwrap().success());
        }
        fixture.ok(&[&"umount", &target]);
        assert!(!is_mounted(&target));
        assert_eq!(servers(&target), 0);
    }

    let extracted = fixture.path("extracted");
    fixture.ok(&[&"extract", &image, &"-o", &extracted]);
    assert_same(&expected, &snapshot(&extracted), "extract to a directory");
    let archive = fixture.path("extracted.tar");
    fixture.ok(&[&"extract", &image, &"-o", &archive]);
    let untarred = fixture.path("untarred");
    fs::create_dir(&untarred).unwrap();
    ok(Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(&archive)
        .arg("-C")
        .arg(&untarred));
    assert_same(&expected, &snapshot(&untarred), "extract to a tar stream");
    // Sparse files stay sparse.
    for dir in [&extracted, &untarred] {
        let meta = fs::metadata(dir.join("app/data/sparse")).unwrap();
        assert!(meta.blocks() * 512 < meta.size(), "{}", dir.display());
    }

    // An archive of the tree gives the tree again, and nothing is different from the stack.
    let one = fixture.path("one.img");
    fixture.ok(&[&"build", &archive, &"-o", &one]);
    let diff = fixture.varve(&[&"diff", &"--times", &image, &one]);
    assert_eq!(
        diff.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&diff.stdout)
    );

    // What another tool makes of the same image.
    let bundle = fixture.path("bundle");
    ok(Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:v1", fixture.path("src").display()))
        .arg(&bundle));
    let mut theirs = snapshot(&bundle.join("rootfs"));
    let mut ours = expected.clone();
    // It leaves the root as its own, and gives directories the time of the last file put in if no layer describes them.
    for tree in [&mut theirs, &mut ours] {
        for path in ["", "srv"] {
            tree.remove(path.as_bytes());
        }
    }
    assert_same(&ours, &theirs, "umoci unpack");
}

#[test]
fn stacks_are_looked_into() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.path("image");
    let json = |args: &[&dyn AsRef<OsStr>]| -> Value {
        serde_json::from_str(&fixture.ok(args)).expect("JSON")
    };
    let names = fixture.ok(&[&"ls", &image, &"/srv/sub", &"/media"]);
    assert_eq!(names, "/srv/sub:\n\n/media:\nnew\n");
    let long = fixture.ok(&[&"ls", &"-lh", &image, &"srv/data"]);
    assert!(
        long.starts_with("-rw-r--r--   2  1000   100        69K 2023-11-14 22:13 /srv/data"),
        "{long}"
    );
    assert_eq!(
        fixture.ok(&[&"cat", &image, &"/media/new", &"app/data/../../media/new"]),
        "new\nnew\n"
    );
    let which = fixture.ok(&[&"which-layer", &image, &"/media/new", &"/etc/motd"]);
    let numbers: Vec<_> = which.lines().map(|line| &line[..2]).collect();
    assert_eq!(numbers, ["5 ", "3 "]);
    let all = json(&[&"which-layer", &"--all", &"--json", &image, &"/etc/motd"]);
    let layers: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["layer"])
        .collect();
    assert_eq!(layers, [3, 0]);
    let gone = fixture.varve(&[&"which-layer", &image, &"/srv/sub/gone"]);
    assert_eq!(gone.status.code(), Some(1));
    let text = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(text.contains("a layer above takes it away"), "{text}");
    let check = json(&[&"check", &"--json", &image]);
    let files = check.as_array().unwrap();
    assert_eq!(files.len(), 7);
    for file in files {
        assert_eq!(
            (&file["good"], &file["digest"]),
            (&true.into(), &"right".into()),
            "{file}"
        );
    }
    for args in [
        vec!["ls", "-lR", "--json"],
        vec!["tree", "--json"],
        vec!["du", "--json", "--twice"],
        vec!["inspect", "--json"],
    ] {
        let mut list: Vec<&dyn AsRef<OsStr>> = Vec::new();
        for arg in &args {
            list.push(arg);
        }
        list.push(&image);
        json(&list);
    }
    let stat = json(&[&"stat", &"--json", &image, &"/srv/twin"]);
    assert_eq!(
        (&stat[0]["nlink"], &stat[0]["size"]),
        (&2.into(), &70000.into())
    );
    let missing = fixture.varve(&[&"cat", &image, &"/nowhere", &"/media/new"]);
    assert_eq!(
        (missing.status.code(), &missing.stdout[..]),
        (Some(1), &b"new\n"[..])
    );
    // Stacks of files, too.
    let layers = fixture.layers(&image);
    let pair = format!("{},{}", layers[0].display(), layers[5].display());
    assert_eq!(fixture.ok(&[&"ls", &pair, &"/media"]), "new\n");
    let diff = fixture.varve(&[&"diff", &layers[0], &pair]);
    assert_eq!(diff.status.code(), Some(1));
    let lines = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert!(lines.contains("A /media/new\n"), "{lines}");
    assert!(lines.contains("C /media (mode)\n"), "{lines}");
    let trouble = fixture.varve(&[&"diff", &"/nowhere", &pair]);
    assert_eq!(trouble.status.code(), Some(2));
}

/// A directory with one layer, and a mount point.
struct Small {
    dir: tempfile::TempDir,
    varve: PathBuf,
}

impl Small {
    fn new() -> Small {
        let dir = tempfile::tempdir().unwrap();
        let varve = varve().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        fs::write(tree.join("sub/file"), "contents\n").unwrap();
        fs::write(tree.join("large"), vec![b'x'; 300_000]).unwrap();
        ok(Command::new(&varve)
            .arg("build")
            .arg(&tree)
            .arg("-o")
            .arg(dir.path().join("layer.img")));
        Small { dir, varve }
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.varve);
        command.current_dir(self.dir.path()).args(args);
        command
    }
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn can_mount() -> bool {
    let able = nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !able {
        skip("FUSE mounts", "needs root and /dev/fuse");
    }
    able
}

#[test]
fn mounts_come_and_go() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    let server = |signal: &str| {
        let pattern = format!("--notify.*{}", point.display());
        ok(Command::new("pkill").args([signal, "-f", "--", &pattern]));
    };
    ok(&mut small.command(&["mount", "layer.img", "mnt"]));
    assert_eq!(
        fs::read_to_string(point.join("sub/file")).unwrap(),
        "contents\n"
    );
    assert!(fs::write(point.join("new"), "x").is_err());
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = format!("layer.img {} fuse.varve ro,nosuid,nodev", point.display());
    assert!(text.contains(&line), "{text}");

    // In use: an error that says so, and the mount stays.
    let open = File::open(point.join("sub/file")).unwrap();
    let busy = run(&mut small.command(&["umount", "mnt"]));
    assert_eq!(busy.status.code(), Some(1));
    let text = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(text.contains("is used by somebody"), "{text}");
    assert!(is_mounted(&point));
    drop(open);
    ok(&mut small.command(&["umount", "mnt"]));
    assert!(!is_mounted(&point));
    assert_eq!(servers(&point), 0);
    let again = run(&mut small.command(&["umount", "mnt"]));
    assert_eq!(again.status.code(), Some(1));

    // Told to end, it cleans up.
    for signal in ["-TERM", "-INT"] {
        ok(&mut small.command(&["mount", "layer.img", "mnt"]));
        server(signal);
        wait("the mount goes away", || {
            !is_mounted(&point) && servers(&point) == 0
        });
    }
    // Killed, it leaves a dead mount, which is told of and cleaned up.
    ok(&mut small.command(&["mount", "layer.img", "mnt"]));
    server("-KILL");
    wait("the process ends", || servers(&point) == 0);
    assert!(fs::read_dir(&point).is_err());
    let dead = run(&mut small.command(&["mount", "layer.img", "mnt"]));
    let text = String::from_utf8_lossy(&dead.stderr).into_owned();
    assert!(text.contains("`varve umount mnt` cleans it up"), "{text}");
    ok(&mut small.command(&["umount", "mnt"]));
    assert_eq!(fs::read_dir(&point).unwrap().count(), 0);

    // What cannot be mounted is told at once.
    for (args, expected) in [
        (["mount", "layer.img", "nowhere"], "No such file"),
        (["mount", "layer.img", "layer.img"], "is not a directory"),
        (["mount", "tree/large", "mnt"], "tree/large: "),
    ] {
        let failed = run(&mut small.command(&args));
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(text.contains(expected), "{text}");
        assert_eq!(failed.status.code(), Some(125));
        assert!(!is_mounted(&point));
    }
}

#[test]
fn damage_is_an_error_of_one_file() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    let image = small.dir.path().join("layer.img");
    let mut bytes = fs::read(&image).unwrap();
    let text = ok(&mut small.command(&["stat", "--json", "layer.img", "/large"])).stdout;
    let value: Value = serde_json::from_slice(&text).unwrap();
    // The start block of that file points far behind the image; the layer is written with the metadata in its last block.
    let nid = value[0]["inode"].as_u64().unwrap() as usize;
    let meta = u32::from_le_bytes(bytes[1024 + 0x28..][..4].try_into().unwrap()) as usize;
    let at = meta * 4096 + nid * 32 + 0x10;
    bytes[at..at + 4].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    let damaged = small.dir.path().join("damaged.img");
    fs::write(damaged, bytes).unwrap();
    ok(&mut small.command(&["mount", "--log", "log", "damaged.img", "mnt"]));
    let error = fs::read(point.join("large")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
    assert_eq!(
        fs::read_to_string(point.join("sub/file")).unwrap(),
        "contents\n"
    );
    let log = fs::read_to_string(small.dir.path().join("log")).unwrap();
    assert!(log.starts_with("varve: damaged.img: "), "{log}");
    assert!(log.contains(&format!("inode {nid}")), "{log}");
    ok(&mut small.command(&["umount", "mnt"]));
}

#[test]
fn ordinary_users_mount_through_fusermount() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    // As udev makes it on an ordinary machine.
    let mode = fs::metadata("/dev/fuse").unwrap().mode();
    if mode & 0o666 != 0o666 {
        ok(Command::new("chmod").args(["666", "/dev/fuse"]));
    }
    for path in [small.dir.path(), &point] {
        ok(Command::new("chmod").arg("755").arg(path));
    }
    ok(Command::new("chown").arg("nobody").arg(&point));
    // The program itself may lie where only root gets.
    let program = small.dir.path().join("varve");
    fs::copy(&small.varve, &program).unwrap();
    let script = "cd $0 && ./varve mount layer.img mnt && cat mnt/sub/file && ./varve umount mnt";
    let output = ok(Command::new("su")
        .args(["nobody", "-s", "/bin/sh", "-c"])
        .arg(script.replace("$0", small.dir.path().to_str().unwrap())));
    assert_eq!(output.stdout, b"contents\n");
    assert!(!is_mounted(&point));
    if mode & 0o666 != 0o666 {
        ok(Command::new("chmod")
            .arg(format!("{:o}", mode & 0o777))
            .arg("/dev/fuse"));
    }
}

/// A tar header with this size field.
fn tar_header(name: &str, kind: u8, size: &[u8; 12]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    header[100..107].copy_from_slice(b"0000644");
    header[124..136].copy_from_slice(size);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn bad_input_ends_in_an_error_and_leaves_nothing() {
    let small = Small::new();
    let at = |name: &str| small.dir.path().join(name);
    let octal =
        |size: usize| -> [u8; 12] { format!("{size:011o}\0").into_bytes().try_into().unwrap() };
    // 2^60 bytes, as a number in base 256.
    let mut huge = [0; 12];
    (huge[0], huge[4]) = (0x80, 0x10);
    let long = [
        tar_header("././@LongLink", b'L', &octal(5000)),
        vec![b'n'; 5120],
        tar_header("n", b'0', &octal(0)),
    ]
    .concat();
    let mut record = String::from("GNU.sparse.major=1\n");
    record = format!("{} {record}", record.len() + 3);
    let more = "30 GNU.sparse.name=a-name-here\n";
    let size = "46 GNU.sparse.realsize=1152921504606846976    \n".replace("    ", "");
    let size = format!("{}{}", size.len(), &size[2..]);
    let body = [record.as_str(), "22 GNU.sparse.minor=0\n", more, &size].concat();
    let mut sparse = tar_header("x", b'x', &octal(body.len()));
    sparse.extend_from_slice(body.as_bytes());
    sparse.resize(sparse.len().next_multiple_of(512), 0);
    sparse.extend(tar_header("s", b'0', &octal(512)));
    sparse.extend_from_slice(b"0\n");
    sparse.resize(sparse.len().next_multiple_of(512) + 1024, 0);
    for (name, bytes, expected) in [
        (
            "huge.tar",
            tar_header("huge", b'0', &huge),
            "cannot exceed 16 TiB",
        ),
        ("long.tar", long, "a name of 5000 bytes"),
        ("sparse.tar", sparse, ""),
        ("text.tar", vec![b'x'; 2000], ""),
        ("empty.gz", b"\x1f\x8b\x08\0".to_vec(), ""),
    ] {
        fs::write(at(name), bytes).unwrap();
        for args in [
            &["convert", &format!("tar:{name}"), "./out"][..],
            &["build", name, "-o", "out.img"],
        ] {
            let failed = run(&mut small.command(args));
            let text = String::from_utf8_lossy(&failed.stderr).into_owned();
            assert_eq!(failed.status.code(), Some(125), "{name}: {text}");
            assert!(
                text.contains(expected) && text.contains(name),
                "{name}: {text}"
            );
            assert!(
                !at("out").exists() && !at("out.img").exists(),
                "{name}: {text}"
            );
        }
    }
    // A directory that holds something else, an image that is not there, a name that is none.
    for (args, expected) in [
        (&["convert", "tree", "./tree"][..], "holds other files"),
        (
            &["convert", "oci:nowhere", "./out"],
            "is no OCI image layout",
        ),
        (
            &["convert", "docker-archive:layer.img", "./out"],
            "layer.img",
        ),
        (&["convert", "what:ever", "./out"], "`what:` is not known"),
        (&["convert", "tree", "-name", "x"], "unexpected argument"),
        (
            &["do", "--store", "none", "--image", "x"],
            "no image store at none",
        ),
        (&["ls", "--store", "none", "x"], "no image store at none"),
        (&["check", "tree/large"], ""),
    ] {
        let failed = run(&mut small.command(args));
        let text = [failed.stderr, failed.stdout].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!failed.status.success(), "{args:?}");
        assert!(text.contains(expected), "{args:?}: {text}");
        assert!(!at("out").exists(), "{args:?}");
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("a full disk", "needs root to mount a small one");
    }
    let disk = at("disk");
    fs::create_dir(&disk).unwrap();
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &disk, tmpfs, MsFlags::empty(), Some("size=128k")).unwrap();
    let mounted = Mounted(disk.clone());
    let failed = run(&mut small.command(&["convert", "tree", "disk/out"]));
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(text.contains("No space left on device"), "{text}");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    drop(mounted);
}

#[test]
fn a_killed_conversion_leaves_nothing_half_written() {
    let Some(fixture) = fixture() else { return };
    for (signal, name) in [("-KILL", "killed"), ("-INT", "interrupted")] {
        let out = fixture.path(name);
        let mut child = Command::new(&fixture.varve)
            .arg("convert")
            .arg(format!("oci:{}:v1", fixture.path("src").display()))
            .arg(&out)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The first layer takes longer than this.
        wait("it begins", || out.join("oci-layout").exists());
        std::thread::sleep(Duration::from_millis(100));
        ok(Command::new("kill").arg(signal).arg(child.id().to_string()));
        assert!(!child.wait().unwrap().success());
        if signal == "-INT" {
            assert!(!out.exists());
            continue;
        }
        // What has a name is whole, and is taken away by the next one that looks.
        for entry in fs::read_dir(out.join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let digest: String = Sha256::digest(fs::read(&path).unwrap())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), digest);
        }
        fixture.ok(&[&"prune", &"--store", &out]);
        assert_eq!(fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 0);
    }
}

#[test]
fn a_layer_that_lies_is_found_out() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.path("liar");
    ok(Command::new("cp")
        .arg("-a")
        .arg(fixture.path("image"))
        .arg(&image));
    let text = fixture.ok(&[
        &"stat",
        &"--json",
        &image,
        &"/etc/debian_version",
        &"/etc/motd",
    ]);
    let stat: Value = serde_json::from_str(&text).unwrap();
    let extent = &stat[0]["extents"][0];
    let layers = fixture.layers(&image);
    let layer = &layers[extent["layer"].as_u64().unwrap() as usize];
    let offset = extent["offset"].as_u64().unwrap();
    ok(Command::new("chmod").arg("644").arg(layer));
    let file = fs::OpenOptions::new().write(true).open(layer).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"99", offset).unwrap();

    // As it is, the image is believed.
    let run_it = |verify: bool, script: &str| {
        let mut command = Command::new(&fixture.varve);
        command.arg("do").args(verify.then_some("--verify"));
        command
            .arg("--image")
            .arg(&image)
            .args(["--", "sh", "-c", script]);
        run(&mut command)
    };
    let output = run_it(false, "cat /etc/debian_version");
    assert!(output.stdout.starts_with(b"99"), "{output:?}");
    // Verified, only the file that was changed cannot be read; programs run, also those that map.
    let map = "import mmap, sys
data = open(sys.argv[1], \"rb\")
print(mmap.mmap(data.fileno(), 0, prot=mmap.PROT_READ)[:7])";
    let script = format!(
        "cat /etc/debian_version; echo $?; cat /etc/motd; echo '{map}' >/tmp/map.py
python3 /tmp/map.py /etc/motd; python3 /tmp/map.py /etc/debian_version; echo $?"
    );
    let output = run_it(true, &script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        text, "1\nWelcome to the application\nb'Welcome'\n135\n",
        "{output:?}"
    );
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Input/output error"), "{text}");

    let cat = fixture.varve(&[
        &"cat",
        &"--verify",
        &image,
        &"/etc/debian_version",
        &"/media/new",
    ]);
    assert_eq!(
        (cat.status.code(), &cat.stdout[..]),
        (Some(1), &b"new\n"[..])
    );
    let check = fixture.varve(&[&"check", &image]);
    assert_eq!(check.status.code(), Some(1));
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(text.contains("damaged or was tampered with"), "{text}");
    let tree = fixture.varve(&[&"ls", &"--verify", &fixture.path("src")]);
    assert!(!tree.status.success());
    if can_mount() {
        let point = fixture.path("verified");
        fs::create_dir(&point).unwrap();
        let log = fixture.path("verified.log");
        fixture.ok(&[&"mount", &"--verify", &"--log", &log, &image, &point]);
        let error = fs::read(point.join("etc/debian_version")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
        assert_eq!(fs::read(point.join("media/new")).unwrap(), b"new\n");
        fixture.ok(&[&"umount", &point]);
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains("are not what they should be"), "{log}");
    }
}
