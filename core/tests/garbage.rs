//! Files in messages that nobody can receive are looked for in pieces, while others go on with what they can.

mod guest;

use guest::steps::*;
use guest::*;
use varve_core::machine::ThreadId;

const WRITE: u64 = 1;
const CLOSE: u64 = 3;
const SENDMSG: u64 = 46;
const RECVMSG: u64 = 47;
const SOCKETPAIR: u64 = 53;
const EVENTFD2: u64 = 290;
const CLOSE_RANGE: u64 = 436;
const NONBLOCK: u64 = 0o4000;
const HEADER: u64 = DATA + 0x100;
const VECTOR: u64 = DATA + 0x200;
const CONTROL: u64 = DATA + 0x1000;

fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn pair(m: &mut Guests, t: ThreadId) -> [u64; 2] {
    assert_eq!(m.call(t, SOCKETPAIR, &[1, 1, 0, DATA + 0x80]), Some(0));
    [0x80, 0x84].map(|at| u64::from(word(m, t, DATA + at)))
}

/// Sends one byte with descriptors.
fn send(m: &mut Guests, t: ThreadId, fd: u64, files: &[u64]) {
    let len = 16 + 4 * files.len() as u64;
    let header = [0, 0, VECTOR, 1, CONTROL, len, 0];
    m.poke(t, HEADER, &longs(&header)).unwrap();
    m.poke(t, VECTOR, &longs(&[DATA, 1])).unwrap();
    let mut rights = longs(&[len, 1 | 1 << 32]);
    files
        .iter()
        .for_each(|&file| rights.extend((file as u32).to_le_bytes()));
    m.poke(t, CONTROL, &rights).unwrap();
    assert_eq!(m.call(t, SENDMSG, &[fd, HEADER, 0]), Some(1));
}

/// Receives one byte with a descriptor.
fn receive(m: &mut Guests, t: ThreadId, fd: u64) -> u64 {
    let header = [0, 0, VECTOR, 1, CONTROL, 64, 0];
    m.poke(t, HEADER, &longs(&header)).unwrap();
    m.poke(t, VECTOR, &longs(&[DATA, 1])).unwrap();
    assert_eq!(m.call(t, RECVMSG, &[fd, HEADER, 0x40]), Some(1));
    u64::from(word(m, t, CONTROL + 16))
}

fn in_messages(m: &Guests) -> u64 {
    let mut held = m.kernel.held().into_iter();
    held.find(|(name, _)| *name == "files in messages")
        .unwrap()
        .1
}

const PAIRS: usize = 12;
const MESSAGES: usize = 20;
const EACH: usize = 250;

/// Sockets whose queues hold many files, and each other in a circle: their descriptors.
fn circle(m: &mut Guests, t: ThreadId) -> Vec<u64> {
    let counter = call(m, t, EVENTFD2, &[0, NONBLOCK]) as u64;
    let pairs: Vec<[u64; 2]> = (0..PAIRS).map(|_| pair(m, t)).collect();
    for (n, pair) in pairs.iter().enumerate() {
        for _ in 0..MESSAGES {
            send(m, t, pair[0], &[counter; EACH]);
        }
        let next = pairs[(n + 1) % PAIRS];
        send(m, t, pair[0], &next);
    }
    assert_eq!(call(m, t, CLOSE, &[counter]), 0);
    m.kernel.check().unwrap();
    pairs.into_iter().flatten().collect()
}

/// Closes sockets of no use until a search begins.
fn close_others(m: &mut Guests, t: ThreadId, until: impl Fn(&Guests) -> bool) {
    for _ in 0..PAIRS * MESSAGES * EACH {
        for fd in pair(m, t) {
            m.call(t, CLOSE, &[fd]);
            assert!(m.kernel.steps() < MOST, "{}", m.kernel.steps());
        }
        if until(m) {
            return;
        }
    }
    panic!("no search has begun");
}

#[test]
fn garbage_is_found_in_pieces() {
    let mut m = machine();
    let t = m.first();
    let other = fork(&mut m, t);
    let fds = circle(&mut m, t);
    // What can be read beside it: a queue with a socket whose queue has another one.
    let [outer, to_outer] = pair(&mut m, t);
    let [middle, to_middle] = pair(&mut m, t);
    let [inner, to_inner] = pair(&mut m, t);
    send(&mut m, t, to_middle, &[inner]);
    send(&mut m, t, to_outer, &[middle]);
    for fd in [inner, middle, to_middle] {
        assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    }
    let kept = in_messages(&m);
    m.call(t, CLOSE_RANGE, &[fds[0], fds[fds.len() - 1], 0]);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(in_messages(&m), kept, "nobody has looked yet");

    close_others(&mut m, t, |m| m.deadline.is_some());
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    // It is received while the search goes on: so is what it leads to.
    let middle = receive(&mut m, t, outer);
    m.kernel.check().unwrap();
    let mut inputs = 0;
    while let Some(at) = m.deadline {
        m.advance(at.saturating_sub(m.now.mono));
        assert!(m.kernel.steps() < MOST, "{}", m.kernel.steps());
        m.kernel.check().unwrap();
        inputs += 1;
    }
    assert!(inputs > 10, "{inputs}");
    assert_eq!(in_messages(&m), 32, "one file is left");
    let inner = receive(&mut m, t, middle);
    assert_eq!(call(&mut m, t, WRITE, &[to_inner, DATA, 1]), 1);
    assert_eq!(call(&mut m, t, 0, &[inner, DATA, 1]), 1);
    assert_eq!(in_messages(&m), 0);
}

/// Whenever in a search one end of a circle is received, all of the circle stays.
#[test]
fn what_is_received_in_the_middle_of_a_search_stays() {
    for when in 0..8 {
        let mut m = machine();
        let t = m.first();
        let fds = circle(&mut m, t);
        // One of them is in a queue that can be read.
        let [end, to_end] = pair(&mut m, t);
        send(&mut m, t, to_end, &[fds[1]]);
        let kept = in_messages(&m);
        m.call(t, CLOSE_RANGE, &[fds[0], fds[fds.len() - 1], 0]);
        measure_until_idle(&mut m);
        close_others(&mut m, t, |m| m.deadline.is_some());
        for _ in 0..2 * when {
            let at = m.deadline.expect("the search goes on");
            m.advance(at.saturating_sub(m.now.mono));
        }
        let received = receive(&mut m, t, end);
        measure_until_idle(&mut m);
        m.kernel.check().unwrap();
        assert_eq!(in_messages(&m), kept - 32, "{when}");
        // Then it becomes garbage after all.
        m.call(t, CLOSE, &[received]);
        let mut closes = 0;
        while in_messages(&m) > 0 {
            for fd in pair(&mut m, t) {
                m.call(t, CLOSE, &[fd]);
            }
            measure_until_idle(&mut m);
            closes += 1;
            assert!(closes < PAIRS * MESSAGES * EACH, "{when}");
        }
        m.kernel.check().unwrap();
    }
}
