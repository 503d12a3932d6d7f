//! landlock(7) on the in-memory host: what only a kernel that one can look into shows. The rest is compared
//! with Linux (`conformance/guests/landlock.c`).

mod guest;

use guest::*;
use varve_core::machine::ThreadId;

const CLOSE: u64 = 3;
const MQ_OPEN: u64 = 240;
const MQ_UNLINK: u64 = 241;
const CREATE: u64 = 444;
const ADD_RULE: u64 = 445;
const RESTRICT: u64 = 446;
const MKDIR: u64 = 83;
const CHDIR: u64 = 80;
const OPEN: u64 = 2;
const MOUNT: u64 = 165;
const UMOUNT: u64 = 166;
const O_PATH: u64 = 0o10000000;
const O_CREAT: u64 = 0o100;
const O_WRONLY: u64 = 1;
const O_RDWR: u64 = 2;
const WRITE_FILE: u64 = 2;
const READ_FILE: u64 = 4;
const EACCES: i64 = 13;
const EBADFD: i64 = 77;
const E2BIG: i64 = 7;
const TEXT: u64 = DATA + 0x100;
const MORE: u64 = DATA + 0x200;

#[track_caller]
fn done(m: &mut Guests, thread: ThreadId, number: u64, args: &[u64]) -> u64 {
    let result = call(m, thread, number, args);
    assert!(result >= 0, "{number} {args:x?}: {result}");
    result as u64
}

/// A call on a path.
fn on(m: &mut Guests, thread: ThreadId, number: u64, path: &str, more: &[u64]) -> i64 {
    let text = format!("{path}\0");
    m.poke(thread, TEXT, text.as_bytes()).unwrap();
    let args: Vec<u64> = [TEXT].into_iter().chain(more.iter().copied()).collect();
    call(m, thread, number, &args)
}

fn words(m: &mut Guests, thread: ThreadId, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(thread, DATA, &bytes).unwrap();
}

/// A ruleset about some rights.
fn ruleset(m: &mut Guests, thread: ThreadId, access: u64) -> u64 {
    words(m, thread, &[access]);
    done(m, thread, CREATE, &[DATA, 8, 0])
}

/// Allows rights below a path.
fn allow(m: &mut Guests, thread: ThreadId, ruleset: u64, path: &str, access: u64) {
    let fd = on(m, thread, OPEN, path, &[O_PATH, 0]);
    assert!(fd >= 0, "{path}: {fd}");
    words(m, thread, &[access, fd as u64]);
    done(m, thread, ADD_RULE, &[ruleset, 1, DATA, 0]);
    done(m, thread, CLOSE, &[fd as u64]);
}

/// What is mounted later is not what was there, though it has the same numbers.
#[test]
fn a_rule_is_about_one_file_system() {
    let mut m = steps::machine();
    let t = m.first();
    let m = &mut m;
    assert_eq!(on(m, t, MKDIR, "/m", &[0o755]), 0);
    let mount = |m: &mut Guests| {
        m.poke(t, MORE, b"tmpfs\0").unwrap();
        m.poke(t, TEXT, b"/m\0").unwrap();
        assert_eq!(call(m, t, MOUNT, &[TEXT, TEXT, MORE, 0, 0]), 0);
        let fd = on(m, t, OPEN, "/m/f", &[O_CREAT, 0o600]);
        done(m, t, CLOSE, &[fd as u64]);
    };
    mount(m);
    let rules = ruleset(m, t, READ_FILE);
    allow(m, t, rules, "/m/f", READ_FILE);
    assert_eq!(on(m, t, UMOUNT, "/m", &[0]), 0);
    mount(m);
    done(m, t, RESTRICT, &[rules, 0]);
    assert_eq!(on(m, t, OPEN, "/m/f", &[0, 0]), -EACCES);
    m.kernel.check().unwrap();
}

/// A file far below others costs what one input may take, and is denied where that is not enough.
#[test]
fn depth_is_bounded() {
    const LEVELS: u64 = 4090;
    let mut m = steps::machine();
    let t = m.first();
    let m = &mut m;
    m.poke(t, TEXT, b"d\0").unwrap();
    for _ in 0..LEVELS {
        assert_eq!(m.call(t, MKDIR, &[TEXT, 0o755]), Some(0));
        assert_eq!(m.call(t, CHDIR, &[TEXT]), Some(0));
    }
    let fd = on(m, t, OPEN, "f", &[O_CREAT, 0o600]);
    done(m, t, CLOSE, &[fd as u64]);
    let rules = ruleset(m, t, READ_FILE);
    allow(m, t, rules, "/", READ_FILE);
    done(m, t, RESTRICT, &[rules, 0]);
    let fd = on(m, t, OPEN, "f", &[0, 0]);
    let spent = m.kernel.steps();
    done(m, t, CLOSE, &[fd as u64]);
    assert!((4000..6000).contains(&spent), "{spent} steps");
    for _ in 0..3 {
        done(m, t, RESTRICT, &[rules, 0]);
    }
    assert_eq!(on(m, t, OPEN, "f", &[0, 0]), -EACCES);
    let spent = m.kernel.steps();
    assert!((4000..6000).contains(&spent), "{spent} steps");
}

/// Rules that are added while a domain is in force cost nothing for it, and a ruleset ends.
#[test]
fn a_ruleset_is_full_at_last() {
    let mut m = steps::machine();
    let t = m.first();
    let m = &mut m;
    words(m, t, &[0, 1, 0]);
    let rules = done(m, t, CREATE, &[DATA, 24, 0]);
    let add = |m: &mut Guests, port: u64| {
        words(m, t, &[1, port]);
        m.call(t, ADD_RULE, &[rules, 2, DATA, 0]).unwrap()
    };
    for port in 0..16384 {
        assert_eq!(add(m, port), 0, "{port}");
        if port % 4096 == 0 {
            done(m, t, RESTRICT, &[rules, 0]);
        }
    }
    assert_eq!(add(m, 16384), -E2BIG);
    assert_eq!(add(m, 77), 0);
    done(m, t, CLOSE, &[rules]);
    m.kernel.check().unwrap();
}

/// No rule can be about a message queue, so who may not read or write files opens none.
#[test]
fn message_queues_are_denied() {
    let mut m = steps::machine();
    let t = m.first();
    let m = &mut m;
    let queue = |m: &mut Guests, flags: u64| on(m, t, MQ_OPEN, "q", &[flags, 0o600, 0]);
    let early = queue(m, O_CREAT | O_RDWR);
    assert!(early >= 0, "{early}");
    for access in [READ_FILE, WRITE_FILE] {
        let rules = ruleset(m, t, access);
        allow(m, t, rules, "/", access);
        words(m, t, &[access, early as u64]);
        assert_eq!(call(m, t, ADD_RULE, &[rules, 1, DATA, 0]), -EBADFD);
        done(m, t, RESTRICT, &[rules, 0]);
        assert_eq!(queue(m, O_RDWR), -EACCES);
        assert_eq!(queue(m, 0), -EACCES);
        let written = queue(m, O_WRONLY);
        assert_eq!(written >= 0, access == READ_FILE, "{written}");
    }
    // It is made before it is opened, and names are free.
    assert_eq!(on(m, t, MQ_OPEN, "r", &[O_CREAT, 0o600, 0]), -EACCES);
    assert_eq!(on(m, t, MQ_UNLINK, "r", &[]), 0);
    assert_eq!(on(m, t, MQ_UNLINK, "q", &[]), 0);
    m.kernel.check().unwrap();
}
