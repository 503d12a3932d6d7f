//! System V IPC and POSIX message queues on the in-memory host: waiting, what is left behind, namespaces.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;
use varve_core::syscall::TABLE;

const ENOENT: i64 = 2;
const EIDRM: i64 = 43;

const KEY: u64 = 77;
const CREATE: u64 = 0o1600;
const REMOVE: u64 = 0;
const GETVAL: u64 = 12;
const UNDO: u64 = 0x1000;
const O_CREAT_RDWR: u64 = 0o102;
const NEWIPC: u64 = 0x0800_0000;
const TEXT: u64 = DATA + 0x400;

fn number(name: &str) -> u64 {
    let entry = TABLE.iter().find(|entry| entry.name == name);
    entry.expect("a known call").number
}

#[track_caller]
fn now(m: &mut Guests, t: ThreadId, name: &str, args: &[u64]) -> i64 {
    call(m, t, number(name), args)
}

/// Puts one `struct sembuf` for the first semaphore of a set into memory.
fn operation(m: &mut Guests, t: ThreadId, change: i16, flags: u64) {
    let words = [0, change as u16, flags as u16].map(u16::to_le_bytes);
    m.poke(t, DATA, words.as_flattened()).unwrap();
}

#[test]
fn semaphores_wait_are_undone_and_go() {
    let mut m = boot();
    let a = m.first();
    let set = now(&mut m, a, "semget", &[KEY, 1, CREATE]) as u64;
    let b = fork(&mut m, a);
    operation(&mut m, a, -2, 0);
    parks(&mut m, a, number("semop"), &[set, DATA, 1]);
    operation(&mut m, b, 1, 0);
    assert_eq!(now(&mut m, b, "semop", &[set, DATA, 1]), 0);
    assert_eq!(m.result(a), None, "one is not enough");
    operation(&mut m, b, 3, UNDO);
    assert_eq!(now(&mut m, b, "semop", &[set, DATA, 1]), 0);
    assert_eq!(m.result(a), Some(0));
    assert_eq!(now(&mut m, a, "semctl", &[set, 0, GETVAL]), 2);
    gone(&mut m, b, EXIT_GROUP, &[0]);
    // What is undone does not go below zero.
    assert_eq!(now(&mut m, a, "semctl", &[set, 0, GETVAL]), 0);
    let b = fork(&mut m, a);
    operation(&mut m, b, -1, 0);
    parks(&mut m, b, number("semop"), &[set, DATA, 1]);
    assert_eq!(now(&mut m, a, "semctl", &[set, 0, REMOVE]), 0);
    assert_eq!(m.result(b), Some(-EIDRM));
}

#[test]
fn a_removed_segment_goes_with_its_last_attachment() {
    let mut m = boot();
    let a = m.first();
    let id = now(&mut m, a, "shmget", &[KEY, 8192, CREATE]) as u64;
    let at = now(&mut m, a, "shmat", &[id, 0, 0]) as u64;
    m.poke(a, at, b"shared").unwrap();
    let b = fork(&mut m, a);
    assert_eq!(now(&mut m, a, "shmctl", &[id, REMOVE, 0]), 0);
    assert_eq!(now(&mut m, a, "shmget", &[KEY, 1, 0]), -ENOENT);
    assert_eq!(now(&mut m, a, "shmdt", &[at]), 0);
    assert_eq!(m.peek(b, at, 6).unwrap(), b"shared");
    let again = now(&mut m, a, "shmat", &[id, at, 0]);
    assert_eq!(again as u64, at, "still there for who knows its number");
    assert_eq!(now(&mut m, a, "shmdt", &[at]), 0);
    gone(&mut m, b, EXIT_GROUP, &[0]);
    assert_eq!(now(&mut m, a, "shmat", &[id, 0, 0]), -EINVAL);
}

/// The objects of a namespace are nobody else's, and go with it, but not while one is attached.
#[test]
fn a_namespace_has_its_own_objects() {
    let mut m = boot();
    let a = m.first();
    m.poke(a, TEXT, b"queue\0").unwrap();
    let outer = now(&mut m, a, "semget", &[KEY, 1, CREATE]);
    let queue = now(&mut m, a, "mq_open", &[TEXT, O_CREAT_RDWR, 0o600, 0]);
    assert!(outer >= 0 && queue >= 0);
    let b = fork(&mut m, a);
    assert_eq!(now(&mut m, b, "unshare", &[CLONE_NEWUSER | NEWIPC]), 0);
    assert_eq!(now(&mut m, b, "semget", &[KEY, 1, 0]), -ENOENT);
    assert_eq!(now(&mut m, b, "mq_open", &[TEXT, 2, 0, 0]), -ENOENT);
    assert_eq!(
        now(&mut m, b, "mq_timedsend", &[queue as u64, TEXT, 1, 0, 0]),
        0
    );
    let id = now(&mut m, b, "shmget", &[KEY, 4096, CREATE]) as u64;
    assert!(now(&mut m, b, "semget", &[KEY, 3, CREATE]) >= 0);
    let messages = now(&mut m, b, "msgget", &[KEY, CREATE]) as u64;
    m.poke(b, DATA, &1u64.to_le_bytes()).unwrap();
    assert_eq!(now(&mut m, b, "msgsnd", &[messages, DATA, 5, 0]), 0);
    let at = now(&mut m, b, "shmat", &[id, 0, 0]) as u64;
    assert_eq!(now(&mut m, b, "unshare", &[NEWIPC]), 0);
    assert_eq!(now(&mut m, b, "shmget", &[KEY, 1, 0]), -ENOENT);
    m.poke(b, at, b"kept").unwrap();
    assert_eq!(now(&mut m, b, "shmdt", &[at]), 0);
    gone(&mut m, b, EXIT_GROUP, &[0]);
    assert_eq!(now(&mut m, a, "semget", &[KEY, 1, 0]), outer);
    assert_eq!(now(&mut m, a, "shmget", &[KEY, 1, 0]), -ENOENT);
}

/// An attachment goes with all the areas that it has become, and nothing else does.
#[test]
fn a_segment_is_detached_whatever_became_of_it() {
    const PAGE: u64 = 4096;
    const PROT_RW: u64 = 3;
    let mut m = boot();
    let t = m.first();
    // The lowest addresses are nobody's to choose.
    let filler = [0, 32 * PAGE, PROT_RW, 0x22, u64::MAX, 0];
    assert!(now(&mut m, t, "mmap", &filler) >= 0);
    let id = now(&mut m, t, "shmget", &[KEY, 8 * PAGE, CREATE]) as u64;
    let at = now(&mut m, t, "shmat", &[id, 0, 0]) as u64;
    for page in [1, 4] {
        let protected = [at + page * PAGE, PAGE, 1];
        assert_eq!(now(&mut m, t, "mprotect", &protected), 0);
    }
    let other = at + 6 * PAGE;
    let fixed = [other, PAGE, PROT_RW, 0x32, u64::MAX, 0];
    assert_eq!(now(&mut m, t, "mmap", &fixed) as u64, other);
    m.poke(t, other, b"other").unwrap();
    assert_eq!(now(&mut m, t, "shmdt", &[at]), 0);
    assert_eq!(m.peek(t, other, 5).unwrap(), b"other");
    for page in [0, 1, 2, 4, 5, 7] {
        assert!(m.peek(t, at + page * PAGE, 1).is_err(), "{page}");
    }
    assert_eq!(now(&mut m, t, "shmdt", &[at]), -EINVAL);
}

/// Who is to be told of a message is not any more once it has ended, also before anybody has waited for it.
#[test]
fn a_process_that_has_ended_is_not_told() {
    const SIGEV_SIGNAL: u64 = 0;
    const EBUSY: i64 = 16;
    let mut m = boot();
    let a = m.first();
    m.poke(a, TEXT, b"queue\0").unwrap();
    let queue = now(&mut m, a, "mq_open", &[TEXT, O_CREAT_RDWR, 0o600, 0]) as u64;
    let b = fork(&mut m, a);
    for t in [a, b] {
        let event = [0, 10 | SIGEV_SIGNAL << 32].map(u64::to_le_bytes);
        m.poke(t, DATA, event.as_flattened()).unwrap();
    }
    assert_eq!(now(&mut m, b, "mq_notify", &[queue, DATA]), 0);
    assert_eq!(now(&mut m, a, "mq_notify", &[queue, DATA]), -EBUSY);
    gone(&mut m, b, EXIT_GROUP, &[0]);
    assert_eq!(now(&mut m, a, "mq_notify", &[queue, DATA]), 0);
}

/// A queue counts in its namespace until it has gone, and takes room also if it holds next to nothing.
#[test]
fn message_queues_are_counted() {
    const ENOSPC: i64 = 28;
    const QUEUES: u8 = 255;
    let mut m = boot();
    let t = m.first();
    let open = |m: &mut Guests, number: u8| {
        m.poke(t, DATA, [0, 1, 1, 0].map(u64::to_le_bytes).as_flattened())
            .unwrap();
        m.poke(t, TEXT, &[b'0' | number >> 4, b'A' + (number & 15), 0])
            .unwrap();
        now(m, t, "mq_open", &[TEXT, O_CREAT_RDWR, 0o600, DATA])
    };
    let first = open(&mut m, 0);
    for number in 1..=QUEUES {
        assert!(open(&mut m, number) > first, "{number}");
    }
    let free = |m: &mut Guests| {
        m.poke(t, TEXT, b"more\0").unwrap();
        now(m, t, "mq_open", &[TEXT, O_CREAT_RDWR, 0o600, DATA])
    };
    assert_eq!(free(&mut m), -ENOSPC);
    m.poke(t, TEXT, b"0A\0").unwrap();
    assert_eq!(now(&mut m, t, "mq_unlink", &[TEXT]), 0);
    assert_eq!(free(&mut m), -ENOSPC, "it is still open");
    assert_eq!(now(&mut m, t, "close", &[first as u64]), 0);
    assert_eq!(free(&mut m), first);
}

/// What is to be undone belongs to a process and a set: the others keep theirs when one of the two is done
/// with.
#[test]
fn undoing_is_by_process_and_set() {
    const SETVAL: u64 = 16;
    let mut m = boot();
    let a = m.first();
    let [one, other] = [KEY, KEY + 1].map(|key| now(&mut m, a, "semget", &[key, 1, CREATE]) as u64);
    let children = [(); 2].map(|()| fork(&mut m, a));
    for child in children {
        operation(&mut m, child, 2, UNDO);
        for set in [one, other] {
            assert_eq!(now(&mut m, child, "semop", &[set, DATA, 1]), 0);
        }
    }
    let value = |m: &mut Guests, set| now(m, a, "semctl", &[set, 0, GETVAL]);
    assert_eq!(now(&mut m, a, "semctl", &[one, 0, SETVAL, 3]), 0);
    gone(&mut m, children[0], EXIT_GROUP, &[0]);
    assert_eq!([value(&mut m, one), value(&mut m, other)], [3, 2]);
    operation(&mut m, children[1], 1, UNDO);
    assert_eq!(now(&mut m, children[1], "semop", &[one, DATA, 1]), 0);
    assert_eq!(now(&mut m, a, "semctl", &[other, 0, REMOVE]), 0);
    gone(&mut m, children[1], EXIT_GROUP, &[0]);
    assert_eq!(value(&mut m, one), 3);
}

/// A process that unshares its list of what is to be undone has that done at once.
#[test]
fn an_unshared_list_is_undone() {
    const SYSVSEM: u64 = 0x40000;
    let mut m = boot();
    let a = m.first();
    let set = now(&mut m, a, "semget", &[KEY, 1, CREATE]) as u64;
    operation(&mut m, a, 2, UNDO);
    assert_eq!(now(&mut m, a, "semop", &[set, DATA, 1]), 0);
    assert_eq!(now(&mut m, a, "unshare", &[SYSVSEM]), 0);
    assert_eq!(now(&mut m, a, "semctl", &[set, 0, GETVAL]), 0);
}
