//! AF_UNIX sockets and asynchronous input and output on the in-memory host: waiting, files in messages, what
//! is left behind.

mod guest;

use guest::steps::{call_in_pieces, measure_until_idle};
use guest::*;
use varve_core::machine::ThreadId;
use varve_core::memhost::{Machine, MemHost, bare, empty_root};
use varve_core::syscall::TABLE;

const EPIPE: i64 = 32;
const ENOBUFS: i64 = 105;
const ECONNREFUSED: i64 = 111;
const ETOOMANYREFS: i64 = 109;

const UNIX: u64 = 1;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const SEQPACKET: u64 = 5;
const NONBLOCK: u64 = 0o4000;
const NOSIGNAL: u64 = 0x4000;
const DONTWAIT: u64 = 0x40;
const EPOLLOUT: u32 = 4;
const EPOLLET: u32 = 1 << 31;
const RLIMIT_NOFILE: u64 = 7;

const PAIR: u64 = DATA;
const ADDRESS: u64 = DATA + 0x100;
const HEADER: u64 = DATA + 0x200;
const IOV: u64 = DATA + 0x280;
const CONTROL: u64 = DATA + 0x300;
const TEXT: u64 = DATA + 0x400;
const HANDLER: u64 = 0x5000;

fn number(name: &str) -> u64 {
    let entry = TABLE.iter().find(|entry| entry.name == name);
    entry.expect("a known call").number
}

#[track_caller]
fn now(m: &mut Guests, t: ThreadId, name: &str, args: &[u64]) -> i64 {
    call(m, t, number(name), args)
}

#[track_caller]
fn waits(m: &mut Guests, t: ThreadId, name: &str, args: &[u64]) {
    parks(m, t, number(name), args);
}

/// What a call that had to wait has returned.
#[track_caller]
fn returned(m: &mut Guests, t: ThreadId) -> i64 {
    m.result(t).expect("the call has ended")
}

#[track_caller]
fn two(m: &mut Guests, t: ThreadId, name: &str, args: &[u64]) -> [u64; 2] {
    assert_eq!(now(m, t, name, args), 0);
    [0, 4].map(|at| u64::from(word(m, t, PAIR + at)))
}

fn pair(m: &mut Guests, t: ThreadId, kind: u64) -> [u64; 2] {
    two(m, t, "socketpair", &[UNIX, kind, 0, PAIR])
}

/// An abstract name.
fn address(m: &mut Guests, t: ThreadId, name: &str) -> u64 {
    let mut bytes = vec![1, 0, 0];
    bytes.extend(name.as_bytes());
    m.poke(t, ADDRESS, &bytes).unwrap();
    bytes.len() as u64
}

/// Sends one byte with files.
#[track_caller]
fn give(m: &mut Guests, t: ThreadId, fd: u64, files: &[u64]) -> i64 {
    let longs = |words: &[u64]| -> Vec<u8> {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes.collect()
    };
    let len = 16 + 4 * files.len() as u64;
    let mut control = longs(&[len, 1 | 1 << 32]);
    control.extend(files.iter().flat_map(|&file| (file as u32).to_le_bytes()));
    control.resize(control.len().next_multiple_of(8), 0);
    m.poke(t, IOV, &longs(&[TEXT, 1])).unwrap();
    let header = longs(&[0, 0, IOV, 1, CONTROL, control.len() as u64, 0]);
    m.poke(t, CONTROL, &control).unwrap();
    m.poke(t, HEADER, &header).unwrap();
    now(m, t, "sendmsg", &[fd, HEADER, NOSIGNAL])
}

#[track_caller]
fn close(m: &mut Guests, t: ThreadId, fd: u64) {
    assert_eq!(now(m, t, "close", &[fd]), 0);
}

#[test]
fn readers_and_writers_wait_for_each_other() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    let [left, right] = pair(&mut m, a, STREAM);
    waits(&mut m, b, "read", &[right, TEXT, 10]);
    assert_eq!(now(&mut m, a, "write", &[left, TEXT, 5]), 5);
    assert_eq!(returned(&mut m, b), 5);
    // The queue takes what Linux's takes: 278 messages of a byte.
    for _ in 0..277 {
        assert_eq!(now(&mut m, a, "write", &[left, TEXT, 1]), 1);
    }
    assert_eq!(now(&mut m, a, "write", &[left, TEXT, 1]), 1);
    waits(&mut m, a, "write", &[left, TEXT, 1]);
    assert_eq!(now(&mut m, b, "read", &[right, TEXT, 200]), 200);
    assert!(m.result(a).is_none(), "not yet: a quarter must be free");
    assert_eq!(now(&mut m, b, "read", &[right, TEXT, 20]), 20);
    assert_eq!(returned(&mut m, a), 1);
    waits(&mut m, a, "read", &[left, TEXT, 1]);
    close(&mut m, b, right);
    // The bytes that nobody has read are lost, and the other side is told.
    assert_eq!(returned(&mut m, a), -104);
    assert_eq!(now(&mut m, a, "sendto", &[left, TEXT, 1, NOSIGNAL]), -EPIPE);
}

#[test]
fn connections_wait_to_be_accepted() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    let socket = |m: &mut Guests, t| now(m, t, "socket", &[UNIX, STREAM, 0]) as u64;
    let listener = socket(&mut m, a);
    let len = address(&mut m, a, "name");
    let [c, d, e] = [(); 3].map(|()| socket(&mut m, a));
    assert_eq!(now(&mut m, a, "connect", &[c, ADDRESS, len]), -ECONNREFUSED);
    assert_eq!(now(&mut m, a, "bind", &[listener, ADDRESS, len]), 0);
    assert_eq!(now(&mut m, a, "connect", &[c, ADDRESS, len]), -ECONNREFUSED);
    assert_eq!(now(&mut m, a, "listen", &[listener, 0]), 0);
    waits(&mut m, b, "accept", &[listener, 0, 0]);
    assert_eq!(now(&mut m, a, "connect", &[c, ADDRESS, len]), 0);
    assert!(returned(&mut m, b) > 0);
    assert_eq!(now(&mut m, a, "connect", &[d, ADDRESS, len]), 0);
    waits(&mut m, b, "connect", &[e, ADDRESS, len]);
    assert!(now(&mut m, a, "accept", &[listener, 0, 0]) > 0);
    assert_eq!(returned(&mut m, b), 0);
    waits(&mut m, b, "read", &[e, TEXT, 1]);
    close(&mut m, a, listener);
    assert_eq!(returned(&mut m, b), -104);
}

/// What leads to a file only through its own queue is closed: the pipe in it loses its writer.
#[test]
fn files_that_nobody_can_receive_are_closed() {
    let mut m = boot();
    let a = m.first();
    for kind in [STREAM, DATAGRAM] {
        let [read, write] = two(&mut m, a, "pipe2", &[PAIR, NONBLOCK]);
        let [left, right] = pair(&mut m, a, kind);
        assert_eq!(give(&mut m, a, left, &[left, right, write]), 1);
        assert_eq!(give(&mut m, a, right, &[left, right]), 1);
        close(&mut m, a, write);
        close(&mut m, a, left);
        assert_eq!(now(&mut m, a, "read", &[read, TEXT, 1]), -EAGAIN);
        close(&mut m, a, right);
        assert_eq!(now(&mut m, a, "read", &[read, TEXT, 1]), 0);
        close(&mut m, a, read);
    }
}

/// A queue that can still be read keeps all that is behind it.
#[test]
fn files_that_can_be_received_stay() {
    let mut m = boot();
    let a = m.first();
    let [read, write] = two(&mut m, a, "pipe2", &[PAIR, NONBLOCK]);
    let [left, right] = pair(&mut m, a, STREAM);
    let [innerleft, inner_right] = pair(&mut m, a, STREAM);
    assert_eq!(give(&mut m, a, innerleft, &[write, inner_right]), 1);
    assert_eq!(give(&mut m, a, left, &[inner_right]), 1);
    for fd in [write, innerleft, inner_right] {
        close(&mut m, a, fd);
    }
    assert_eq!(now(&mut m, a, "read", &[read, TEXT, 1]), -EAGAIN);
    close(&mut m, a, right);
    assert_eq!(now(&mut m, a, "read", &[read, TEXT, 1]), 0);
}

/// Sockets in the queues of sockets, one in the other, do not close inside each other.
#[test]
fn a_long_chain_of_queues_is_closed() {
    let mut m = boot();
    let a = m.first();
    let [read, mut inner] = two(&mut m, a, "pipe2", &[PAIR, NONBLOCK]);
    for _ in 0..900 {
        let [left, right] = pair(&mut m, a, DATAGRAM);
        assert_eq!(give(&mut m, a, left, &[inner]), 1);
        close(&mut m, a, inner);
        close(&mut m, a, left);
        inner = right;
    }
    close(&mut m, a, inner);
    assert_eq!(now(&mut m, a, "read", &[read, TEXT, 1]), 0);
}

#[test]
fn a_user_has_so_many_files_in_flight() {
    let mut m = boot();
    let a = m.first();
    m.poke(a, TEXT, &[64, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0])
        .unwrap();
    assert_eq!(now(&mut m, a, "setrlimit", &[RLIMIT_NOFILE, TEXT]), 0);
    let [left, right] = pair(&mut m, a, STREAM);
    for _ in 0..65 {
        assert_eq!(give(&mut m, a, left, &[0]), 1);
    }
    assert_eq!(give(&mut m, a, left, &[0]), -ETOOMANYREFS);
    assert_eq!(now(&mut m, a, "read", &[right, TEXT, 1]), 1);
    assert_eq!(give(&mut m, a, left, &[0]), 1);
}

/// A request that waits for a file ends when the file is ready, and tells a counter.
#[test]
fn requests_end_when_their_file_is_ready() {
    let mut m = boot();
    let a = m.first();
    m.poke(a, PAIR, &[0; 8]).unwrap();
    assert_eq!(now(&mut m, a, "io_setup", &[8, PAIR]), 0);
    let context = long(&mut m, a, PAIR);
    let counter = now(&mut m, a, "eventfd2", &[0, NONBLOCK]) as u64;
    let [left, right] = pair(&mut m, a, STREAM);
    let request = [77, 0, 5 | right << 32, 1, 0, 0, 0, 1 | counter << 32];
    let bytes: Vec<u8> = request
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    m.poke(a, HEADER, &bytes).unwrap();
    m.poke(a, IOV, &HEADER.to_le_bytes()).unwrap();
    assert_eq!(now(&mut m, a, "io_submit", &[context, 1, IOV]), 1);
    assert_eq!(now(&mut m, a, "read", &[counter, TEXT, 8]), -EAGAIN);
    let b = thread(&mut m, a);
    waits(&mut m, b, "io_getevents", &[context, 1, 1, TEXT, 0]);
    assert_eq!(now(&mut m, a, "write", &[left, TEXT, 1]), 1);
    assert_eq!(returned(&mut m, b), 1);
    assert_eq!(
        [0, 8, 16].map(|at| long(&mut m, a, TEXT + at)),
        [77, HEADER, 65]
    );
    assert_eq!(now(&mut m, a, "read", &[counter, TEXT, 8]), 8);
    // The file of a request that has not ended is closed with the context.
    let [read, write] = two(&mut m, a, "pipe2", &[PAIR, NONBLOCK]);
    m.poke(a, HEADER + 20, &(write as u32).to_le_bytes())
        .unwrap();
    m.poke(a, HEADER + 24, &0u64.to_le_bytes()).unwrap();
    assert_eq!(now(&mut m, a, "io_submit", &[context, 1, IOV]), 1);
    close(&mut m, a, write);
    assert_eq!(now(&mut m, a, "read", &[read, TEXT, 1]), -EAGAIN);
    assert_eq!(now(&mut m, a, "io_destroy", &[context]), 0);
    assert_eq!(now(&mut m, a, "read", &[read, TEXT, 1]), 0);
}

/// The name holds its mount, and gives it back.
#[test]
fn a_socket_that_is_bound_to_a_path() {
    let mut m = boot();
    let t = m.first();
    let fd = now(&mut m, t, "socket", &[UNIX, STREAM, 0]) as u64;
    m.poke(t, ADDRESS, b"\x01\0/s\0").unwrap();
    assert_eq!(now(&mut m, t, "bind", &[fd, ADDRESS, 5]), 0);
    assert_eq!(m.kernel.check(), Ok(()));
    assert_eq!(now(&mut m, t, "close", &[fd]), 0);
    assert_eq!(m.kernel.check(), Ok(()));
}

/// A context whose page was unmapped is gone once another one takes its place.
#[test]
fn a_context_in_the_place_of_another() {
    let mut m = boot();
    let t = m.first();
    m.poke(t, PAIR, &[0; 8]).unwrap();
    assert_eq!(now(&mut m, t, "io_setup", &[8, PAIR]), 0);
    let first = long(&mut m, t, PAIR);
    assert_eq!(now(&mut m, t, "munmap", &[first, 4096]), 0);
    m.poke(t, PAIR, &[0; 8]).unwrap();
    assert_eq!(now(&mut m, t, "io_setup", &[4, PAIR]), 0);
    assert_eq!(long(&mut m, t, PAIR), first);
    assert_eq!(m.kernel.check(), Ok(()));
}

fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A context for so many requests.
#[track_caller]
fn aio(m: &mut Guests, t: ThreadId, events: u64) -> u64 {
    m.poke(t, PAIR, &[0; 8]).unwrap();
    assert_eq!(now(m, t, "io_setup", &[events, PAIR]), 0);
    long(m, t, PAIR)
}

/// Puts a `struct iocb` without a counter at an address.
fn iocb(m: &mut Guests, t: ThreadId, at: u64, (opcode, fd): (u64, u64), (buf, len): (u64, u64)) {
    let words = [at, 0, opcode | fd << 32, buf, len, 0, 0, 0];
    m.poke(t, at, &longs(&words)).unwrap();
}

/// Requests that tell the very counter that they wait for end one after the other, not inside each other; and
/// there are so many at most.
#[test]
fn polls_that_tell_what_they_wait_for() {
    const POLLS: u64 = 65536;
    const ARRAY_LEN: u64 = 1 << 20;
    let host = MemHost::new(1 << 14, Vec::new());
    let mut m = Machine::boot(bare(empty_root()), host).unwrap();
    let t = m.first();
    let array = now(&mut m, t, "mmap", &[0, ARRAY_LEN, 3, 0x22, u64::MAX, 0]) as u64;
    m.poke(t, array, &longs(&vec![HEADER; ARRAY_LEN as usize / 8]))
        .unwrap();
    let context = aio(&mut m, t, POLLS);
    let counter = now(&mut m, t, "eventfd2", &[0, NONBLOCK]) as u64;
    iocb(&mut m, t, HEADER, (5, counter), (1, 0));
    m.poke(t, HEADER + 24, &1u64.to_le_bytes()).unwrap();
    m.poke(t, HEADER + 32, &0u64.to_le_bytes()).unwrap();
    m.poke(t, HEADER + 56, &(1 | counter << 32).to_le_bytes())
        .unwrap();
    let args = [context, POLLS + 7, array];
    let submitted = call_in_pieces(&mut m, t, IO_SUBMIT, &args);
    assert_eq!(submitted.result, POLLS as i64);
    let more = now(&mut m, t, "io_submit", &[context, 1, array]);
    assert_eq!(more, -EAGAIN);
    m.poke(t, TEXT, &1u64.to_le_bytes()).unwrap();
    assert_eq!(now(&mut m, t, "write", &[counter, TEXT, 8]), 8);
    let ends = measure_until_idle(&mut m);
    ends.in_pieces(50);
    assert_eq!(now(&mut m, t, "read", &[counter, TEXT, 8]), 8);
    assert_eq!(long(&mut m, t, TEXT), POLLS + 1);
}

const IO_SUBMIT: u64 = 209;

/// What requests of one call move together is bounded as one read is.
#[test]
fn requests_of_one_call_move_so_many_bytes() {
    let mut m = boot();
    let t = m.first();
    m.poke(t, TEXT, b"/dev/null\0").unwrap();
    let null = now(&mut m, t, "open", &[TEXT, 1]) as u64;
    let context = aio(&mut m, t, 8);
    iocb(&mut m, t, HEADER, (1, null), (TEXT, 1 << 30));
    m.poke(t, IOV, &longs(&[HEADER; 8])).unwrap();
    assert_eq!(now(&mut m, t, "io_submit", &[context, 8, IOV]), 2);
    assert_eq!(now(&mut m, t, "io_submit", &[context, 6, IOV + 16]), 2);
}

/// A signal ends the request that waits, as of Linux: those before it are not made again.
#[test]
fn a_signal_ends_one_request() {
    let mut m = boot();
    let (a, signal) = (m.first(), 10u32);
    let b = thread(&mut m, a);
    sigaction(&mut m, a, signal, HANDLER, SA_RESTART, 0);
    let context = aio(&mut m, a, 8);
    let [read, write] = two(&mut m, a, "pipe2", &[PAIR, NONBLOCK]);
    let [left, _right] = pair(&mut m, a, STREAM);
    iocb(&mut m, a, HEADER, (1, write), (TEXT, 1));
    iocb(&mut m, a, HEADER + 0x40, (0, left), (TEXT, 1));
    m.poke(a, IOV, &longs(&[HEADER, HEADER + 0x40])).unwrap();
    waits(&mut m, a, "io_submit", &[context, 2, IOV]);
    let own = now(&mut m, b, "getpid", &[]) as u64;
    assert_eq!(now(&mut m, b, "tkill", &[own, u64::from(signal)]), 0);
    assert_eq!(now(&mut m, b, "read", &[read, TEXT, 10]), 1);
    assert_eq!(now(&mut m, b, "read", &[read, TEXT, 10]), -EAGAIN);
    let events = now(&mut m, b, "io_getevents", &[context, 0, 8, TEXT, 0]);
    assert_eq!(events, 2);
    assert_eq!(long(&mut m, b, TEXT + 32 + 16) as i64, -EINTR);
}

/// An array of a thousand `struct mmsghdr` that are all the same.
fn thousand(m: &mut Guests, t: ThreadId, [control, control_len]: [u64; 2]) -> u64 {
    let array = now(m, t, "mmap", &[0, 1 << 17, 3, 0x22, u64::MAX, 0]) as u64;
    m.poke(t, IOV, &longs(&[TEXT, 1])).unwrap();
    let header = [0, 0, IOV, 1, control, control_len, 0, 0];
    m.poke(t, array, &longs(&header.repeat(1024))).unwrap();
    array
}

/// Sends messages to new sockets until an error that is told: how many, and the error.
#[track_caller]
fn fill_all(m: &mut Guests, t: ThreadId, array: u64) -> (i64, i64) {
    let mut sent = 0;
    loop {
        let socketpair = [UNIX, STREAM, 0, PAIR];
        assert_eq!(m.call(t, number("socketpair"), &socketpair), Some(0));
        let fd = u64::from(word(m, t, PAIR));
        loop {
            let args = [fd, array, 1024, DONTWAIT];
            match m.call(t, number("sendmmsg"), &args).unwrap() {
                count if count > 0 => sent += count,
                errno if errno == -EAGAIN => break,
                errno => return (sent, errno),
            }
        }
    }
}

/// What all queues hold is bounded by the memory that messages take, not by their bytes.
#[test]
fn all_messages_take_so_much_memory() {
    const MESSAGES: i64 = (1 << 28) / 768;
    // The kernel's memory comes out of what the host has.
    let host = MemHost::new(1 << 17, Vec::new());
    let mut m = Machine::boot(bare(empty_root()), host).unwrap();
    let t = m.first();
    let [left, right] = pair(&mut m, t, STREAM);
    assert_eq!(now(&mut m, t, "write", &[left, TEXT, 1]), 1);
    m.poke(t, TEXT, &longs(&[4096, 4096])).unwrap();
    assert_eq!(now(&mut m, t, "setrlimit", &[RLIMIT_NOFILE, TEXT]), 0);
    let array = thousand(&mut m, t, [0, 0]);
    let filled = fill_all(&mut m, t, array);
    assert_eq!(filled, (MESSAGES - 1, -ENOBUFS));
    let [other, _] = pair(&mut m, t, STREAM);
    assert_eq!(now(&mut m, t, "write", &[other, TEXT, 1]), -ENOBUFS);
    assert_eq!(now(&mut m, t, "read", &[right, TEXT, 1]), 1);
    assert_eq!(now(&mut m, t, "write", &[other, TEXT, 1]), 1);
}

/// Also who is not limited has so many files in messages.
#[test]
fn all_messages_hold_so_many_files() {
    const FILES: u64 = 253;
    let mut config = bare(empty_root());
    config.capabilities = u64::MAX;
    let mut m = Machine::boot(config, MemHost::new(1 << 15, Vec::new())).unwrap();
    let t = m.first();
    let control = now(&mut m, t, "mmap", &[0, 4096, 3, 0x22, u64::MAX, 0]) as u64;
    let len = 16 + 4 * FILES;
    m.poke(t, control, &longs(&[len, 1 | 1 << 32])).unwrap();
    let array = thousand(&mut m, t, [control, len.next_multiple_of(8)]);
    let filled = fill_all(&mut m, t, array);
    assert_eq!(filled, ((1 << 20) / FILES as i64, -ETOOMANYREFS));
    assert_eq!(m.kernel.check(), Ok(()));
}

/// The more files are in flight, the more closes it takes until garbage is looked for.
#[test]
fn closes_pay_for_the_search() {
    let mut m = boot();
    let t = m.first();
    let [left, _right] = pair(&mut m, t, STREAM);
    for _ in 0..10 {
        assert_eq!(give(&mut m, t, left, &[0; 64]), 1);
    }
    let [read, write] = two(&mut m, t, "pipe2", &[PAIR, NONBLOCK]);
    let [one, other] = pair(&mut m, t, STREAM);
    assert_eq!(give(&mut m, t, one, &[one, other, write]), 1);
    for fd in [write, one, other] {
        close(&mut m, t, fd);
    }
    let mut closes = 1;
    while now(&mut m, t, "read", &[read, TEXT, 1]) == -EAGAIN {
        let fd = now(&mut m, t, "socket", &[UNIX, STREAM, 0]) as u64;
        close(&mut m, t, fd);
        closes += 1;
    }
    assert!((8..=12).contains(&closes), "{closes}");
}

/// Bytes that splice(2) takes out of a socket go into the pipe, also if they are fewer than the socket is to
/// wait for.
#[test]
fn a_splice_keeps_what_it_takes() {
    let mut m = boot();
    let t = m.first();
    let [read, write] = two(&mut m, t, "pipe2", &[PAIR, NONBLOCK]);
    let [left, right] = pair(&mut m, t, STREAM);
    m.poke(t, TEXT, &100u32.to_le_bytes()).unwrap();
    let low_water = [right, 1, 18, TEXT, 4];
    assert_eq!(now(&mut m, t, "setsockopt", &low_water), 0);
    assert_eq!(now(&mut m, t, "write", &[left, TEXT, 5]), 5);
    assert_eq!(now(&mut m, t, "splice", &[right, 0, write, 0, 10, 0]), 5);
    assert_eq!(now(&mut m, t, "read", &[read, TEXT, 10]), 5);
}

/// An error after the first messages is told to the next call.
#[test]
fn an_error_after_a_message() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    let [left, right] = pair(&mut m, a, SEQPACKET);
    let array = thousand(&mut m, a, [0, 0]);
    assert_eq!(now(&mut m, a, "write", &[left, TEXT, 1]), 1);
    assert_eq!(now(&mut m, a, "write", &[right, TEXT, 1]), 1);
    waits(&mut m, b, "recvmmsg", &[right, array, 2, 0, 0]);
    close(&mut m, a, left);
    assert_eq!(returned(&mut m, b), 1);
    assert_eq!(now(&mut m, b, "recvmmsg", &[right, array, 2, 0, 0]), -104);
    // The error is told once; then there is the end.
    assert_eq!(now(&mut m, b, "recvmmsg", &[right, array, 1, 0, 0]), 1);
}

/// Who is connected to a datagram socket is told of room there if there was none, not of every message that
/// goes.
#[test]
fn room_that_was_there_is_not_told() {
    let mut m = boot();
    let t = m.first();
    let socket = |m: &mut Guests| now(m, t, "socket", &[UNIX, DATAGRAM | NONBLOCK, 0]) as u64;
    let receiver = socket(&mut m);
    let len = address(&mut m, t, "name");
    assert_eq!(now(&mut m, t, "bind", &[receiver, ADDRESS, len]), 0);
    let [one, other] = [(); 2].map(|()| socket(&mut m));
    for fd in [one, other] {
        assert_eq!(now(&mut m, t, "connect", &[fd, ADDRESS, len]), 0);
    }
    let epoll = now(&mut m, t, "epoll_create1", &[0]) as u64;
    m.poke(t, HEADER, &(EPOLLET | EPOLLOUT).to_le_bytes())
        .unwrap();
    let add = [epoll, 1, other, HEADER];
    assert_eq!(now(&mut m, t, "epoll_ctl", &add), 0);
    let wait = [epoll, HEADER, 8, 0];
    assert_eq!(now(&mut m, t, "epoll_wait", &wait), 1);
    for (messages, told) in [(1, 0), (10, 0), (11, 1)] {
        for _ in 0..messages {
            assert_eq!(now(&mut m, t, "write", &[one, TEXT, 1]), 1);
        }
        for _ in 0..messages {
            assert_eq!(now(&mut m, t, "read", &[receiver, TEXT, 1]), 1);
        }
        assert_eq!(now(&mut m, t, "epoll_wait", &wait), told, "{messages}");
    }
}

/// Time stands still while messages are taken, but each takes some of a timeout.
#[test]
fn a_timeout_ends_behind_a_message() {
    let mut m = boot();
    let t = m.first();
    let [left, right] = pair(&mut m, t, DATAGRAM);
    let array = thousand(&mut m, t, [0, 0]);
    let at = DATA + 0x600;
    for (timeout, received) in [([0, 0], 1), ([0, 1], 1), ([9, 0], 3)] {
        for _ in 0..3 {
            assert_eq!(now(&mut m, t, "write", &[left, TEXT, 1]), 1);
        }
        m.poke(t, at, &longs(&timeout)).unwrap();
        assert_eq!(
            now(&mut m, t, "recvmmsg", &[right, array, 3, 0, at]),
            received
        );
        if received == 3 {
            assert_eq!(long(&mut m, t, at), 8, "some of the time has gone");
        }
        while m.call(t, number("recvfrom"), &[right, TEXT, 1, DONTWAIT, 0, 0]) == Some(1) {}
    }
}

/// Only a size that would not fit the option itself limits buffers that an administrator forces.
#[test]
fn forced_buffers() {
    const SOL_SOCKET: u64 = 1;
    const SNDBUF: u64 = 7;
    const RCVBUF: u64 = 8;
    const SNDBUFFORCE: u64 = 32;
    const RCVBUFFORCE: u64 = 33;
    let mut config = bare(empty_root());
    config.capabilities = u64::MAX;
    let mut m = Machine::boot(config, MemHost::new(4096, Vec::new())).unwrap();
    let t = m.first();
    let [fd, _] = pair(&mut m, t, STREAM);
    let (value, len) = (DATA + 0x600, DATA + 0x608);
    let cases = [
        (4 << 20, 8 << 20, 8 << 20),
        (i32::MAX, i32::MAX - 1, i32::MAX - 1),
        (-5, 4608, 2304),
    ];
    for (asked, send, receive) in cases {
        for (force, option, expected) in
            [(SNDBUFFORCE, SNDBUF, send), (RCVBUFFORCE, RCVBUF, receive)]
        {
            m.poke(t, value, &i32::to_le_bytes(asked)).unwrap();
            m.poke(t, len, &4u32.to_le_bytes()).unwrap();
            assert_eq!(
                now(&mut m, t, "setsockopt", &[fd, SOL_SOCKET, force, value, 4]),
                0
            );
            assert_eq!(
                now(
                    &mut m,
                    t,
                    "getsockopt",
                    &[fd, SOL_SOCKET, option, value, len]
                ),
                0
            );
            assert_eq!(word(&mut m, t, value) as i32, expected);
        }
    }
}
