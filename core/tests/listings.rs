//! Files of `/proc` that list many things are made in pieces as they are read.

mod guest;

use guest::steps::*;
use guest::*;
use varve_core::machine::ThreadId;

const MMAP: u64 = 9;
const SHMGET: u64 = 29;
const SOCKET: u64 = 41;
const SEMGET: u64 = 64;
const MSGGET: u64 = 68;
const FCNTL: u64 = 72;
const FTRUNCATE: u64 = 77;
const MEMFD_CREATE: u64 = 319;
const PAGE: u64 = 4096;

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}

fn made(m: &mut Guests, t: ThreadId, number: u64, args: &[u64]) -> u64 {
    let result = m.call(t, number, args).expect("it returns");
    assert!(result >= 0, "{number}: {result}");
    result as u64
}

#[track_caller]
fn list(m: &mut Guests, t: ThreadId, name: &str, expected: usize) {
    let (text, most) = read_all(m, t, name);
    assert!(most < MOST, "{name}: {most}");
    assert_eq!(lines(&text), expected, "{name}");
}

#[test]
fn system_v_objects() {
    let mut m = machine_of(1 << 16);
    let t = m.first();
    for (number, name, args) in [
        (MSGGET, "/proc/sysvipc/msg", [0, 0o600, 0]),
        (SEMGET, "/proc/sysvipc/sem", [0, 1, 0o600]),
        (SHMGET, "/proc/sysvipc/shm", [0, PAGE, 0o600]),
    ] {
        for _ in 0..3000 {
            made(&mut m, t, number, &args);
        }
        list(&mut m, t, name, 3001);
    }
}

#[test]
fn sockets() {
    let mut m = machine_of(1 << 16);
    let t = m.first();
    for _ in 0..3000 {
        made(&mut m, t, SOCKET, &[1, 1, 0]);
    }
    list(&mut m, t, "/proc/net/unix", 3001);
}

#[test]
fn locks_of_files() {
    const SETLK: u64 = 6;
    const OFD_SETLK: u64 = 37;
    let mut m = machine_of(1 << 16);
    let t = m.first();
    m.poke(t, DATA, b"f\0").unwrap();
    let file = made(&mut m, t, MEMFD_CREATE, &[DATA, 0]);
    for n in 0..2000u64 {
        for (command, at) in [(SETLK, 4 * n), (OFD_SETLK, 4 * n + 2)] {
            // `struct flock`: F_WRLCK, from the start, one byte.
            let words = [1, at, 1, 0];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            m.poke(t, DATA, &bytes).unwrap();
            made(&mut m, t, FCNTL, &[file, command, DATA]);
        }
    }
    list(&mut m, t, "/proc/locks", 4000);
    list(&mut m, t, &format!("/proc/self/fdinfo/{file}"), 2004);
    let (text, _) = read_all(&mut m, t, "/proc/locks");
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("1: ") && text.contains("\n4000: "));
}

/// Pages of shared memory are counted as they come and go.
#[test]
fn pages_of_shared_memory() {
    const PAGES: u64 = 3000;
    let mut m = machine();
    let t = m.first();
    let shared = |m: &mut Guests| {
        let (text, most) = read_all(m, t, "/proc/self/status");
        assert!(most < MOST, "{most}");
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find(|line| line.starts_with("RssShmem:"));
        let number = line.unwrap().split_whitespace().nth(1).unwrap();
        number.parse::<u64>().unwrap() / 4
    };
    assert_eq!(shared(&mut m), 0);
    m.poke(t, DATA, b"f\0").unwrap();
    let file = made(&mut m, t, MEMFD_CREATE, &[DATA, 0]);
    made(&mut m, t, FTRUNCATE, &[file, PAGES * PAGE]);
    // MAP_SHARED | MAP_POPULATE, and MAP_PRIVATE.
    let args = [0, PAGES * PAGE, 3, 0x8001, file, 0];
    let done = call_in_pieces(&mut m, t, MMAP, &args);
    assert!(done.result > 0);
    let at = done.result as u64;
    for page in 0..PAGES {
        m.poke(t, at + page * PAGE, &[1]).unwrap();
    }
    assert_eq!(shared(&mut m), PAGES);
    let private = made(&mut m, t, MMAP, &[0, 8 * PAGE, 3, 2, file, 0]);
    m.peek(t, private, 1).unwrap();
    m.poke(t, private + PAGE, &[1]).unwrap();
    m.kernel.check().unwrap();
    made(&mut m, t, 11, &[at, 1000 * PAGE]);
    m.kernel.check().unwrap();
    let now = shared(&mut m);
    assert!((PAGES - 1000..PAGES - 990).contains(&now), "{now}");
}
