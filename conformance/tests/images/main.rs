//! A Debian image of six layers, made with other people's tools: converted from every form, run, looked into
//! and mounted.

mod back;
mod failures;
mod forms;
mod mounts;
mod tree;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use sha2::{Digest, Sha256};
use varve_conformance::{debian, run, skip, varve};

/// What all tests share: made once.
struct Fixture {
    dir: PathBuf,
    varve: PathBuf,
    /// What removes the directory at the end.
    _remover: Child,
}

/// Removes a directory of some gigabytes once this process has ended: what a static holds is never dropped. A
/// shell waits for the end of its input, of which only this process has the other end.
fn remove_at_end(dir: &Path) -> io::Result<Child> {
    Command::new("sh")
        .args([
            "-c",
            "trap '' HUP INT TERM; read -r _; exec rm -rf -- \"$0\"",
        ])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
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
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?.keep();
        let remover = remove_at_end(&dir).map_err(|e| e.to_string())?;
        let name = format!("{}:v1", dir.join("src").display());
        debian::oci_image(&name)?;
        let varve = varve().map_err(|e| e.to_string())?;
        let fixture = Fixture {
            dir,
            varve,
            _remover: remover,
        };
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
