//! Leases on files, of which those are told who run the file as a program, and how they are listed.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const EXECVE: u64 = 59;
const FCNTL: u64 = 72;
const O_WRONLY: u64 = 1;
const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const F_SETSIG: u64 = 10;
const F_SETLEASE: u64 = 1024;
const F_RDLCK: u64 = 0;
const F_WRLCK: u64 = 1;
const F_UNLCK: u64 = 2;
const SIGURG: u64 = 23;
const BREAK_TIME: u64 = 45_000_000_000;
const BUF: u64 = DATA + 0x1000;
const TEXT: u64 = DATA + 0x4000;

fn name(m: &mut Guests, t: ThreadId, name: &str) -> u64 {
    m.poke(t, TEXT, &[name.as_bytes(), &[0]].concat()).unwrap();
    TEXT
}

fn open(m: &mut Guests, t: ThreadId, path: &str, flags: u64) -> u64 {
    let path = name(m, t, path);
    let fd = call(m, t, OPEN, &[path, flags, 0o755]);
    assert!(fd >= 0, "{fd}");
    fd as u64
}

/// The lines of `/proc/locks` without device and inode.
fn locks(m: &mut Guests, t: ThreadId) -> Vec<String> {
    let fd = open(m, t, "/proc/locks", 0);
    let len = call(m, t, READ, &[fd, BUF, 0x800]);
    call(m, t, CLOSE, &[fd]);
    let text = String::from_utf8(m.peek(t, BUF, len as usize).unwrap()).unwrap();
    let short = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.len() - 3;
        let place = match words[place].starts_with("00:") {
            true => "somewhere",
            false => words[place],
        };
        format!("{} {place}", words[..words.len() - 3].join(" "))
    };
    text.lines().map(short).collect()
}

/// A program, and a lease of the first process on it that lets nobody else read it; it is told by a signal
/// that nobody minds.
fn leased() -> (Guests, ThreadId, u64) {
    let mut m = boot();
    let t = m.first();
    let fd = open(&mut m, t, "/program", O_RDWR | O_CREAT);
    m.poke(t, DATA, &program()).unwrap();
    let len = program().len() as u64;
    assert_eq!(call(&mut m, t, WRITE, &[fd, DATA, len]), len as i64);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    let fd = open(&mut m, t, "/program", 0);
    assert_eq!(call(&mut m, t, FCNTL, &[fd, F_SETSIG, SIGURG]), 0);
    assert_eq!(call(&mut m, t, FCNTL, &[fd, F_SETLEASE, F_WRLCK]), 0);
    (m, t, fd)
}

#[test]
fn programs_wait_for_leases() {
    let (mut m, t, fd) = leased();
    assert_eq!(locks(&mut m, t), ["1: LEASE ACTIVE WRITE 1 somewhere"]);
    let child = fork(&mut m, t);
    let path = name(&mut m, child, "/program");
    parks(&mut m, child, EXECVE, &[path, 0, 0]);
    let breaking = [
        "1: LEASE BREAKING READ 1 somewhere",
        "1: -> LEASE BREAKER READ 2 <none>:0",
    ];
    assert_eq!(locks(&mut m, t), breaking);
    // Lowered to one that lets others read, it is in nobody's way.
    assert_eq!(call(&mut m, t, FCNTL, &[fd, F_SETLEASE, F_RDLCK]), 0);
    assert_eq!(m.result(child), Some(0));
    assert_eq!(locks(&mut m, t), ["1: LEASE ACTIVE READ 1 somewhere"]);
    gone(&mut m, child, EXIT_GROUP, &[0]);

    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, child, CLOSE, &[fd]), 0);
    let path = name(&mut m, child, "/program");
    parks(&mut m, child, OPEN, &[path, O_WRONLY]);
    let breaking = [
        "1: LEASE BREAKING UNLCK 1 somewhere",
        "1: -> LEASE BREAKER WRITE 3 <none>:0",
    ];
    assert_eq!(locks(&mut m, t), breaking);
    assert_eq!(call(&mut m, t, FCNTL, &[fd, F_SETLEASE, F_UNLCK]), 0);
    assert!(m.result(child).is_some_and(|fd| fd >= 0));
    assert!(locks(&mut m, t).is_empty());
}

#[test]
fn leases_are_taken_away_from_who_keeps_them() {
    let (mut m, t, _) = leased();
    let child = fork(&mut m, t);
    let path = name(&mut m, child, "/program");
    parks(&mut m, child, EXECVE, &[path, 0, 0]);
    m.advance(BREAK_TIME - 1_000_000);
    assert_eq!(locks(&mut m, t).len(), 2);
    m.advance(2_000_000);
    assert_eq!(m.result(child), Some(0));
    assert_eq!(locks(&mut m, t), ["1: LEASE ACTIVE READ 1 somewhere"]);
}

#[test]
fn interpreters_are_waited_for_too() {
    let (mut m, t, fd) = leased();
    let script = open(&mut m, t, "/script", O_RDWR | O_CREAT);
    m.poke(t, BUF, b"#!/program\n").unwrap();
    assert_eq!(call(&mut m, t, WRITE, &[script, BUF, 11]), 11);
    assert_eq!(call(&mut m, t, CLOSE, &[script]), 0);
    let child = fork(&mut m, t);
    let path = name(&mut m, child, "/script");
    parks(&mut m, child, EXECVE, &[path, 0, 0]);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    // The child has the same open file: its lease goes with both.
    assert_eq!(locks(&mut m, t).len(), 2);
    m.advance(BREAK_TIME);
    assert_eq!(m.result(child), Some(0));
}
