//! tmpfs: its options, its limits, and what becomes of files that are mapped. The numbers are those that
//! Linux gave to the same calls.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;
use varve_core::memhost::{MemHost, bare, empty_root};

const WRITE: u64 = 1;
const OPEN: u64 = 2;
const READ: u64 = 0;
const CLOSE: u64 = 3;
const FSTAT: u64 = 5;
const LSTAT: u64 = 6;
const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const MSYNC: u64 = 26;
const FTRUNCATE: u64 = 77;
const CHDIR: u64 = 80;
const MKDIR: u64 = 83;
const LINK: u64 = 86;
const UNLINK: u64 = 87;
const SYMLINK: u64 = 88;
const MKNOD: u64 = 133;
const STATFS: u64 = 137;
const MOUNT: u64 = 165;
const UMOUNT: u64 = 166;
const FALLOCATE: u64 = 285;
const RENAMEAT2: u64 = 316;
const MEMFD_CREATE: u64 = 319;
const O_RDWR_CREAT: u64 = 0o102;
const O_TMPFILE: u64 = 0o20200000;
const MS_REMOUNT: u64 = 32;
const MS_SHARED: u64 = 1 << 20;
const MS_PRIVATE: u64 = 1 << 18;
const KEEP_SIZE: u64 = 1;
const PUNCH_HOLE: u64 = 3;
const AT_FDCWD: u64 = -100i64 as u64;
const ENOMEM: i64 = -12;
const EINVAL: i64 = -22;
const ENOSPC: i64 = -28;
const TEXT: u64 = DATA + 0x4000;
const BUF: u64 = DATA + 0x8000;

/// A machine of 4096 pages whose first process may mount.
fn privileged() -> (Guests, ThreadId) {
    let mut config = bare(empty_root());
    config.capabilities = (1 << 41) - 1;
    let mut m = Guests::boot(config, MemHost::new(4096, Vec::new())).unwrap();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/m", &[0o755]), 0);
    (m, t)
}

/// A call whose first argument is a path.
#[track_caller]
fn path(m: &mut Guests, t: ThreadId, number: u64, name: &str, rest: &[u64]) -> i64 {
    m.poke(t, TEXT, format!("{name}\0").as_bytes()).unwrap();
    call(m, t, number, &[&[TEXT], rest].concat())
}

/// A call whose first two arguments are paths.
#[track_caller]
fn paths(m: &mut Guests, t: ThreadId, number: u64, from: &str, to: &str) -> i64 {
    m.poke(t, TEXT + 0x1000, format!("{to}\0").as_bytes())
        .unwrap();
    path(m, t, number, from, &[TEXT + 0x1000])
}

#[track_caller]
fn mount(m: &mut Guests, t: ThreadId, source: &str, at: &str, flags: u64, data: &str) -> i64 {
    for (index, text) in [source, at, "tmpfs", data].iter().enumerate() {
        let at = TEXT + 0x800 * index as u64;
        m.poke(t, at, format!("{text}\0").as_bytes()).unwrap();
    }
    let args = [TEXT, TEXT + 0x800, TEXT + 0x1000, flags, TEXT + 0x1800];
    call(m, t, MOUNT, &args)
}

/// The last line of `/proc/self/mountinfo`.
fn last_mount(m: &mut Guests, t: ThreadId) -> String {
    let fd = path(m, t, OPEN, "/proc/self/mountinfo", &[0]) as u64;
    let len = call(m, t, READ, &[fd, BUF, 0x4000]);
    call(m, t, CLOSE, &[fd]);
    let text = String::from_utf8(m.peek(t, BUF, len as usize).unwrap()).unwrap();
    text.lines().last().unwrap().into()
}

/// Options of the file system on `/m`.
fn shown(m: &mut Guests, t: ThreadId) -> String {
    let line = last_mount(m, t);
    line.rsplit(' ').next().unwrap().into()
}

/// Blocks, free ones, inodes, free ones.
fn sizes(m: &mut Guests, t: ThreadId, at: &str) -> [u64; 4] {
    assert_eq!(path(m, t, STATFS, at, &[BUF]), 0);
    [16, 24, 40, 48].map(|field| long(m, t, BUF + field))
}

/// Bytes and blocks of 512 of a file.
fn file(m: &mut Guests, t: ThreadId, fd: u64) -> [u64; 2] {
    assert_eq!(call(m, t, FSTAT, &[fd, BUF]), 0);
    [48, 64].map(|field| long(m, t, BUF + field))
}

#[test]
fn options_are_taken_and_shown_as_linux_does() {
    let (mut m, t) = privileged();
    for (given, expected) in [
        ("", "rw"),
        ("size=1m", "rw,size=1024k"),
        ("size=50%", "rw"),
        ("size=0", "rw,size=0k"),
        ("size=5k", "rw,size=8k"),
        ("size=0x1000", "rw,size=4k"),
        ("nr_blocks=10", "rw,size=40k"),
        ("nr_inodes=1k", "rw,nr_inodes=1024"),
        ("nr_inodes=0", "rw,nr_inodes=0"),
        ("noswap", "rw,noswap"),
        ("mpol=interleave", "rw,mpol=interleave:0"),
        ("mpol=bind=static:0", "rw,mpol=bind=static:0"),
        ("huge=never", "rw"),
        ("huge=within_size", "rw,huge=within_size"),
        ("inode32", "rw"),
        ("inode64", "rw,inode64"),
        ("mode=17777", "rw,mode=7777"),
        ("uid=5,gid=6", "rw,uid=5,gid=6"),
        (
            "noswap,size=1m,mpol=local,huge=never",
            "rw,size=1024k,mpol=local,noswap",
        ),
    ] {
        assert_eq!(mount(&mut m, t, "t", "/m", 0, given), 0, "{given}");
        assert_eq!(shown(&mut m, t), expected, "{given}");
        assert_eq!(path(&mut m, t, UMOUNT, "/m", &[0]), 0);
    }
    for given in [
        "size",
        "size=",
        "size=x",
        "size=1mm",
        "size=-1",
        "mpol=bind",
        "mpol=local:0",
        "mpol=weird",
        "mpol=prefer:9999",
        "huge",
        "huge=",
        "huge=x",
        "inode64=1",
        "noswap=1",
        "mode=99",
        "uid=-1",
        "uid=x",
        "bogus",
        "bogus=1",
        "nr_inodes=-1",
    ] {
        assert_eq!(mount(&mut m, t, "t", "/m", 0, given), EINVAL, "{given}");
    }
}

#[test]
fn a_remount_changes_what_linux_lets_it_change() {
    let (mut m, t) = privileged();
    assert_eq!(mount(&mut m, t, "t", "/m", 0, "size=1m,nr_inodes=20"), 0);
    for (given, expected) in [
        ("size=2m", "rw,size=2048k,nr_inodes=20"),
        ("nr_inodes=5", "rw,size=2048k,nr_inodes=5"),
        ("mode=0700,uid=7", "rw,size=2048k,nr_inodes=5"),
        ("huge=always", "rw,size=2048k,nr_inodes=5,huge=always"),
        ("", "rw,size=2048k,nr_inodes=5,huge=always"),
        ("size=0", "rw,size=0k,nr_inodes=5,huge=always"),
    ] {
        assert_eq!(mount(&mut m, t, "t", "/m", MS_REMOUNT, given), 0, "{given}");
        assert_eq!(shown(&mut m, t), expected, "{given}");
    }
    for given in ["size=1m", "nr_blocks=100", "noswap", "bogus"] {
        assert_eq!(
            mount(&mut m, t, "t", "/m", MS_REMOUNT, given),
            EINVAL,
            "{given}"
        );
    }
    for name in ["/m/a", "/m/b"] {
        assert_eq!(path(&mut m, t, MKDIR, name, &[0o755]), 0);
    }
    assert_eq!(
        mount(&mut m, t, "t", "/m", MS_REMOUNT, "nr_inodes=2"),
        EINVAL
    );
    assert_eq!(mount(&mut m, t, "t", "/m", MS_REMOUNT, "nr_inodes=3"), 0);
    assert_eq!(path(&mut m, t, MKDIR, "/m/c", &[0o755]), ENOSPC);
}

#[test]
fn blocks_and_inodes_are_counted_for_all_that_takes_them() {
    let (mut m, t) = privileged();
    assert_eq!(mount(&mut m, t, "t", "/m", 0, "size=64k,nr_inodes=10"), 0);
    assert_eq!(path(&mut m, t, CHDIR, "/m", &[]), 0);
    assert_eq!(sizes(&mut m, t, "/m"), [16, 16, 10, 9]);
    let f = path(&mut m, t, OPEN, "f", &[O_RDWR_CREAT, 0o644]) as u64;
    for (mode, offset, len, result, [size, blocks], free) in [
        (0, 0, 8192, 0, [8192, 16], 14),
        (KEEP_SIZE, 0, 16384, 0, [8192, 32], 12),
        (0, 0, 1 << 17, ENOSPC, [8192, 32], 12),
        (0, 0, 1 << 62, ENOSPC, [8192, 32], 12),
        (0, 32768, 36864, 0, [69632, 104], 3),
        (0, 20000, 1, 0, [69632, 112], 2),
        (PUNCH_HOLE, 0, 4096, 0, [69632, 104], 3),
    ] {
        assert_eq!(call(&mut m, t, FALLOCATE, &[f, mode, offset, len]), result);
        assert_eq!(file(&mut m, t, f), [size, blocks]);
        assert_eq!(sizes(&mut m, t, "/m"), [16, free, 10, 8]);
    }
    assert_eq!(call(&mut m, t, FTRUNCATE, &[f, 4096]), 0);
    assert_eq!(sizes(&mut m, t, "/m"), [16, 16, 10, 8]);
    // Pages behind the end are given back by a hole as well.
    assert_eq!(call(&mut m, t, FALLOCATE, &[f, KEEP_SIZE, 8192, 8192]), 0);
    assert_eq!(sizes(&mut m, t, "/m")[1], 14);
    assert_eq!(call(&mut m, t, FALLOCATE, &[f, PUNCH_HOLE, 8192, 8192]), 0);
    assert_eq!(sizes(&mut m, t, "/m")[1], 16);
    assert_eq!(call(&mut m, t, FTRUNCATE, &[f, 0]), 0);

    for (target, free, inodes, blocks) in [(127, 16, 7, 0), (128, 15, 6, 8)] {
        let name = format!("s{target}");
        assert_eq!(paths(&mut m, t, SYMLINK, &"x".repeat(target), &name), 0);
        assert_eq!(sizes(&mut m, t, "/m"), [16, free, 10, inodes]);
        assert_eq!(path(&mut m, t, LSTAT, &name, &[BUF]), 0);
        assert_eq!(long(&mut m, t, BUF + 64), blocks);
    }
    assert_eq!(path(&mut m, t, MKDIR, "d", &[0o755]), 0);
    assert_eq!(paths(&mut m, t, LINK, "f", "l"), 0);
    assert_eq!(path(&mut m, t, MKNOD, "fifo", &[0o10644, 0]), 0);
    assert_eq!(sizes(&mut m, t, "/m"), [16, 15, 10, 3]);
    for name in ["d0", "d1", "d2"] {
        assert_eq!(path(&mut m, t, MKDIR, name, &[0o755]), 0);
    }
    assert_eq!(path(&mut m, t, MKDIR, "d3", &[0o755]), ENOSPC);
    assert_eq!(path(&mut m, t, OPEN, "n", &[O_RDWR_CREAT, 0o644]), ENOSPC);
    assert_eq!(path(&mut m, t, OPEN, ".", &[O_TMPFILE | 2, 0o644]), ENOSPC);
    assert_eq!(paths(&mut m, t, LINK, "f", "l2"), ENOSPC);
    assert_eq!(paths(&mut m, t, SYMLINK, "x", "s"), ENOSPC);
    // A name can change and go.
    m.poke(t, TEXT, b"f\0g\0").unwrap();
    assert_eq!(
        call(
            &mut m,
            t,
            RENAMEAT2,
            &[AT_FDCWD, TEXT, AT_FDCWD, TEXT + 2, 0]
        ),
        0
    );
    assert_eq!(path(&mut m, t, UNLINK, "l", &[]), 0);
    assert_eq!(sizes(&mut m, t, "/m"), [16, 15, 10, 1]);
    assert_eq!(path(&mut m, t, UNLINK, "s128", &[]), 0);
    assert_eq!(sizes(&mut m, t, "/m"), [16, 16, 10, 2]);

    assert_eq!(call(&mut m, t, FALLOCATE, &[f, 0, 0, 65536]), 0);
    assert_eq!(paths(&mut m, t, SYMLINK, &"x".repeat(200), "s"), ENOSPC);
    assert_eq!(path(&mut m, t, MKDIR, "d3", &[0o755]), 0);
    assert_eq!(
        call(&mut m, t, WRITE, &[f, BUF, 4096]),
        4096,
        "what was allocated can be written"
    );
}

#[test]
fn a_file_system_in_memory_is_full_when_the_memory_is() {
    let mut config = bare(empty_root());
    config.memory_limit = Some(1000 * 4096);
    let mut m = Guests::boot(config, MemHost::new(4096, Vec::new())).unwrap();
    let t = m.first();
    for (name, error) in [("/file", ENOSPC), ("/dev/shm/file", ENOSPC), ("", ENOMEM)] {
        let fd = match name {
            "" => path(&mut m, t, MEMFD_CREATE, "memory", &[0]),
            name => path(&mut m, t, OPEN, name, &[O_RDWR_CREAT, 0o644]),
        };
        assert!(fd >= 0);
        let mut written = 0;
        let full = loop {
            match call(&mut m, t, WRITE, &[fd as u64, DATA, 0x8000]) {
                done if done > 0 => written += done,
                errno => break errno,
            }
        };
        assert!(written > 400 * 4096, "{written}");
        assert_eq!(full, error, "{name}");
        assert_eq!(call(&mut m, t, FTRUNCATE, &[fd as u64, 0]), 0);
        let allocated = call(&mut m, t, FALLOCATE, &[fd as u64, 0, 0, 1 << 30]);
        assert_eq!(allocated, error, "{name}");
        assert_eq!(file(&mut m, t, fd as u64), [0, 0]);
    }
}

#[test]
fn stores_through_a_mapping_change_the_times() {
    let mut m = boot();
    let t = m.first();
    let fd = path(&mut m, t, OPEN, "/file", &[O_RDWR_CREAT, 0o644]) as u64;
    assert_eq!(call(&mut m, t, FTRUNCATE, &[fd, 8192]), 0);
    let times = |m: &mut Guests| {
        m.advance(1_000_000);
        assert_eq!(call(m, t, FSTAT, &[fd, BUF]), 0);
        [88, 104].map(|field| (long(m, t, BUF + field), long(m, t, BUF + field + 8)))
    };
    let area = call(&mut m, t, MMAP, &[0, 8192, 3, 1, fd, 0]) as u64;
    let start = times(&mut m);
    m.peek(t, area, 1).unwrap();
    assert_eq!(times(&mut m), start, "it was only read");
    m.poke(t, area, b"x").unwrap();
    let stored = times(&mut m);
    assert!(stored[0] > start[0] && stored[1] > start[1]);
    m.poke(t, area + 1, b"x").unwrap();
    assert_eq!(
        times(&mut m),
        stored,
        "not again while the page can be written"
    );
    m.poke(t, area + 4096, b"x").unwrap();
    let other = times(&mut m);
    assert!(other[0] > stored[0]);
    // Once it was written back the next store counts anew; others see it all the time.
    assert_eq!(call(&mut m, t, MSYNC, &[area, 8192, 1]), 0);
    m.poke(t, area, b"y").unwrap();
    assert_eq!(times(&mut m), other, "MS_ASYNC does nothing");
    assert_eq!(call(&mut m, t, MSYNC, &[area, 8192, 4]), 0);
    m.kernel.check().unwrap();
    m.poke(t, area, b"z").unwrap();
    let synced = times(&mut m);
    assert!(synced[0] > other[0]);
    assert_eq!(call(&mut m, t, MUNMAP, &[area, 8192]), 0);
    assert_eq!(times(&mut m), synced);
    let private = call(&mut m, t, MMAP, &[0, 8192, 3, 2, fd, 0]) as u64;
    m.poke(t, private, b"p").unwrap();
    assert_eq!(times(&mut m), synced, "a private copy is no change");
}

#[test]
fn private_copies_of_what_is_cut_off_are_gone() {
    let mut m = boot();
    let t = m.first();
    let fd = path(&mut m, t, OPEN, "/file", &[O_RDWR_CREAT, 0o644]) as u64;
    assert_eq!(call(&mut m, t, FTRUNCATE, &[fd, 3 * 4096]), 0);
    let area = call(&mut m, t, MMAP, &[0, 3 * 4096, 3, 2, fd, 0]) as u64;
    for page in 0..3 {
        m.poke(t, area + page * 4096, b"own").unwrap();
    }
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, t, FTRUNCATE, &[fd, 4097]), 0);
    for thread in [t, child] {
        assert_eq!(m.peek(thread, area, 3).unwrap(), b"own");
        assert_eq!(
            m.peek(thread, area + 4096, 3).unwrap(),
            b"own",
            "the page of the end stays"
        );
        assert!(m.peek(thread, area + 2 * 4096, 3).is_err(), "SIGBUS");
    }
    assert_eq!(call(&mut m, t, FTRUNCATE, &[fd, 3 * 4096]), 0);
    assert_eq!(
        m.peek(t, area + 2 * 4096, 3).unwrap(),
        b"\0\0\0",
        "the file's page, not the old copy"
    );
    m.kernel.check().unwrap();
}

#[test]
fn mount_tables_escape_number_signs_and_peer_groups_are_used_again() {
    let (mut m, t) = privileged();
    assert_eq!(path(&mut m, t, MKDIR, "/m/a#b", &[0o755]), 0);
    assert_eq!(mount(&mut m, t, "s#1 x", "/m/a#b", 0, ""), 0);
    let line = last_mount(&mut m, t);
    assert!(
        line.contains(" /m/a\\043b rw,") && line.contains(" - tmpfs s\\0431\\040x "),
        "{line}"
    );
    let group = |m: &mut Guests| {
        let line = last_mount(m, t);
        let word = line
            .split(' ')
            .find_map(|word| word.strip_prefix("shared:"));
        word.map(String::from)
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert_eq!(mount(&mut m, t, "", "/m/a#b", MS_SHARED, ""), 0);
        seen.push(group(&mut m).unwrap());
        assert_eq!(mount(&mut m, t, "", "/m/a#b", MS_PRIVATE, ""), 0);
        assert_eq!(group(&mut m), None);
    }
    assert_eq!(seen, ["1", "1", "1"]);
}

/// What has no limit shows no size; inodes are bounded by what they take, and that many can be made.
#[test]
fn sizes_without_a_limit_are_nothing_and_inodes_are_those_there_is_room_for() {
    let (mut m, t) = privileged();
    assert_eq!(mount(&mut m, t, "x", "/m", 0, "size=0,nr_inodes=0"), 0);
    assert_eq!(sizes(&mut m, t, "/m"), [0; 4]);
    let fd = path(&mut m, t, OPEN, "/m/f", &[O_RDWR_CREAT, 0o644]) as u64;
    assert_eq!(call(&mut m, t, WRITE, &[fd, BUF, 100]), 100);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    assert_eq!(path(&mut m, t, UMOUNT, "/m", &[0]), 0);
    assert_eq!(mount(&mut m, t, "x", "/m", 0, "size=1m"), 0);
    let [blocks, free, inodes, unused] = sizes(&mut m, t, "/m");
    assert_eq!((blocks, free), (256, 256));
    // 256 MiB of what inodes and names take, 448 bytes an inode.
    assert!(unused < inodes && inodes <= (256 << 20) / 448, "{inodes}");
    assert_eq!(path(&mut m, t, MKDIR, "/m/d", &[0o755]), 0);
    assert!(sizes(&mut m, t, "/m")[3] < unused);
}

/// A range cannot be zeroed by fallocate(2) in a tmpfs, and one can be read-only by its options alone.
#[test]
fn ranges_are_not_zeroed_and_options_make_it_read_only() {
    const ZERO_RANGE: u64 = 16;
    const EROFS: i64 = -30;
    const EOPNOTSUPP: i64 = -95;
    let (mut m, t) = privileged();
    assert_eq!(mount(&mut m, t, "x", "/m", 0, ""), 0);
    let fd = path(&mut m, t, OPEN, "/m/f", &[O_RDWR_CREAT, 0o644]) as u64;
    for mode in [ZERO_RANGE, ZERO_RANGE | KEEP_SIZE] {
        assert_eq!(call(&mut m, t, FALLOCATE, &[fd, mode, 0, 4096]), EOPNOTSUPP);
    }
    assert_eq!(file(&mut m, t, fd), [0, 0]);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    assert_eq!(path(&mut m, t, UMOUNT, "/m", &[0]), 0);
    assert_eq!(mount(&mut m, t, "x", "/m", 0, "rw,size=1m,ro"), 0);
    assert_eq!(path(&mut m, t, MKDIR, "/m/d", &[0o755]), EROFS);
}
