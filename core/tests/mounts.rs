//! What a sandbox finds mounted when it starts.

use varve_core::boot::{BootConfig, BootError, Layer, Mount, Tree};
use varve_core::machine::ImageId;
use varve_core::memhost::{BARE_ADDR, Machine, MemHost, bare, empty_root};

const OPENAT: u64 = 257;
const GETDENTS64: u64 = 217;
const STAT: u64 = 4;
const MKDIR: u64 = 83;
const READ: u64 = 0;
const READLINK: u64 = 89;
const AT_FDCWD: u64 = -100i64 as u64;

fn boot(config: BootConfig) -> Machine {
    Machine::boot(config, MemHost::new(4096, Vec::new())).unwrap()
}

/// A call with a path as its first argument, in memory at [`BARE_ADDR`].
fn with_path(machine: &mut Machine, number: u64, path: &str, rest: &[u64]) -> i64 {
    let thread = machine.first();
    let text = [path.as_bytes(), b"\0"].concat();
    machine.poke(thread, BARE_ADDR, &text).unwrap();
    let args = match number {
        OPENAT => [&[AT_FDCWD, BARE_ADDR], rest].concat(),
        _ => [&[BARE_ADDR], rest].concat(),
    };
    machine
        .call(thread, number, &args)
        .expect("it does not block")
}

const BUF: u64 = BARE_ADDR + 0x1000;

/// Mode and device number of a path.
fn stat(machine: &mut Machine, path: &str) -> Result<(u32, u64), i64> {
    match with_path(machine, STAT, path, &[BUF]) {
        0 => {
            let thread = machine.first();
            let bytes = machine.peek(thread, BUF, 144).unwrap();
            let mode = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
            let rdev = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
            Ok((mode, rdev))
        }
        errno => Err(errno),
    }
}

fn list(machine: &mut Machine, path: &str) -> Vec<String> {
    let fd = with_path(machine, OPENAT, path, &[0o200000, 0]);
    assert!(fd >= 0, "{path}: {fd}");
    let thread = machine.first();
    let mut names = Vec::new();
    loop {
        let len = machine
            .call(thread, GETDENTS64, &[fd as u64, BUF, 4096])
            .unwrap();
        assert!(len >= 0);
        if len == 0 {
            names.sort();
            return names;
        }
        let bytes = machine.peek(thread, BUF, len as usize).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let size = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let name = bytes[at + 19..at + size]
                .split(|&byte| byte == 0)
                .next()
                .unwrap();
            names.push(String::from_utf8(name.to_vec()).unwrap());
            at += size;
        }
    }
}

fn tree(read_only: bool) -> Tree {
    Tree {
        read_only,
        ..empty_root()
    }
}

#[test]
fn an_empty_root_gets_what_programs_expect() {
    let mut machine = boot(bare(empty_root()));
    assert_eq!(list(&mut machine, "/"), [".", "..", "dev", "proc", "sys"]);
    let dev = list(&mut machine, "/dev");
    let expected = "core console fd full null pts random shm stderr stdin stdout tty urandom zero";
    for name in expected.split(' ') {
        assert!(dev.iter().any(|entry| entry == name), "{name}");
    }
    assert_eq!(dev.len(), expected.split(' ').count() + 2);
    assert_eq!(stat(&mut machine, "/dev/null"), Ok((0o20666, 0x103)));
    assert_eq!(stat(&mut machine, "/dev/urandom"), Ok((0o20666, 0x109)));
    assert_eq!(stat(&mut machine, "/dev/shm"), Ok((0o41777, 0)));
    assert_eq!(stat(&mut machine, "/dev").unwrap().0, 0o40755);
    assert_eq!(with_path(&mut machine, MKDIR, "/sys/new", &[0o755]), -30);
    assert_eq!(with_path(&mut machine, MKDIR, "/new", &[0o755]), 0);
    let len = with_path(&mut machine, READLINK, "/dev/fd", &[BUF, 100]);
    assert_eq!(len, 13);
    let fd = with_path(&mut machine, OPENAT, "/dev/zero", &[0, 0]);
    let thread = machine.first();
    assert_eq!(
        machine.call(thread, READ, &[fd as u64, BUF, 100]),
        Some(100)
    );
}

#[test]
fn mount_points_are_made_in_a_read_only_root() {
    let mut config = bare(tree(true));
    config.cwd = b"/work/dir".to_vec();
    let mount = |target: &str, read_only, mode| Mount {
        target: target.into(),
        source: b"none".to_vec(),
        tree: tree(read_only),
        mode,
    };
    config.mounts = vec![
        mount("/a/b/", false, 0o700),
        mount("/a/b/c/d", true, 0o711),
        mount("//a/./b/c/d", false, 0o1777),
    ];
    let mut machine = boot(config);
    assert_eq!(with_path(&mut machine, MKDIR, "/new", &[0o755]), -30);
    assert_eq!(with_path(&mut machine, MKDIR, "/a/new", &[0o755]), -30);
    assert_eq!(with_path(&mut machine, MKDIR, "/a/b/new", &[0o755]), 0);
    assert_eq!(stat(&mut machine, "/a/b").unwrap().0, 0o40700);
    assert_eq!(stat(&mut machine, "/a/b/c").unwrap().0, 0o40755);
    assert_eq!(stat(&mut machine, "/a/b/c/d").unwrap().0, 0o41777);
    assert_eq!(with_path(&mut machine, MKDIR, "/a/b/c/d/new", &[0o755]), 0);
    assert_eq!(stat(&mut machine, "/work/dir").unwrap().0, 0o40755);
    assert_eq!(stat(&mut machine, ".").unwrap().0, 0o40755);
}

#[test]
fn what_cannot_be_mounted_is_refused() {
    let refused = |change: &dyn Fn(&mut BootConfig)| {
        let mut config = bare(empty_root());
        change(&mut config);
        let host = MemHost::new(4096, vec![vec![0; 4096]]);
        match Machine::boot(config, host) {
            Ok(_) => panic!("it booted"),
            Err(error) => error,
        }
    };
    let at = |target: &str| Mount {
        target: target.into(),
        source: b"none".to_vec(),
        tree: tree(false),
        mode: 0o755,
    };
    for target in ["relative", "/", "", "/a/../b", "/dev/null", "/dev/null/x"] {
        let error = refused(&|config| config.mounts = vec![at(target)]);
        assert!(matches!(error, BootError::Config(_)), "{target}: {error:?}");
    }
    let error = refused(&|config| config.root.layers = vec![Layer::Image(ImageId(0))]);
    let reason = "no EROFS image: the magic number is another one".into();
    let image = ImageId(0);
    assert_eq!(error, BootError::Image { image, reason });
    let error = refused(&|config| config.root.layers = vec![Layer::Image(ImageId(0)); 501]);
    assert!(matches!(error, BootError::Config(_)));
}

#[test]
fn a_working_directory_may_go_up() {
    for (cwd, at) in [
        ("/work/../work/./dir/..", "/work"),
        ("/../..", "/"),
        ("/a/b/../c", "/a/c"),
    ] {
        let mut config = bare(empty_root());
        config.cwd = cwd.into();
        let mut machine = boot(config);
        let thread = machine.first();
        let len = machine.call(thread, 79, &[BUF, 100]).unwrap();
        let text = machine.peek(thread, BUF, len as usize - 1).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), at, "{cwd}");
    }
}

#[test]
fn a_link_to_what_lies_outside_the_root_shows_the_whole_path() {
    let mut machine = boot(bare(empty_root()));
    let thread = machine.first();
    assert_eq!(with_path(&mut machine, MKDIR, "/n", &[0o755]), 0);
    let proc = with_path(&mut machine, 2, "/proc", &[0]);
    let file = with_path(&mut machine, 2, "/file", &[0o102, 0o644]);
    assert!(proc >= 0 && file >= 0);
    assert_eq!(with_path(&mut machine, 161, "/n", &[]), 0);
    machine
        .poke(thread, BUF, format!("self/fd/{file}\0").as_bytes())
        .unwrap();
    let len = machine.call(thread, 267, &[proc as u64, BUF, BUF + 100, 100]);
    assert_eq!(
        machine
            .peek(thread, BUF + 100, len.unwrap() as usize)
            .unwrap(),
        b"/file"
    );
    let len = machine.call(thread, 79, &[BUF, 100]).unwrap();
    assert_eq!(
        machine.peek(thread, BUF, len as usize).unwrap(),
        b"(unreachable)/\0"
    );
}
