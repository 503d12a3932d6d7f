//! Calls that go on in pieces: how many inputs they take, and how many steps each.

use super::{DATA, Guests, call};
use varve_core::machine::ThreadId;
use varve_core::memhost::{Machine, MemHost, bare, empty_root};

const READ: u64 = 0;
const OPEN: u64 = 2;
const MMAP: u64 = 9;
const PREAD64: u64 = 17;
const SETRLIMIT: u64 = 160;
const RLIMIT_NOFILE: u64 = 7;
/// `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`.
const SPARSE: u64 = 0x4022;
/// Steps of one input, with what a handler does between two looks at them.
pub const MOST: u64 = 6000;

/// A machine whose first process may do everything.
pub fn machine() -> Guests {
    machine_of(16384)
}

/// The same with so many frames of memory.
pub fn machine_of(frames: u32) -> Guests {
    let host = MemHost::new(frames, Vec::new());
    let mut config = bare(empty_root());
    config.capabilities = (1 << 41) - 1;
    let mut m = Machine::boot(config, host).expect("the bare task boots");
    m.tick = 0;
    let init = m.first();
    let limit: Vec<u8> = [1u64 << 20; 2]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    m.poke(init, DATA, &limit).unwrap();
    assert_eq!(call(&mut m, init, SETRLIMIT, &[RLIMIT_NOFILE, DATA]), 0);
    m
}

/// What a call that goes on in pieces gave in the end, and how it got there.
pub struct Finished {
    pub result: i64,
    /// Most steps of an input.
    pub most: u64,
    pub inputs: usize,
}

/// Lets a thread's call go on until it has returned.
pub fn finish(m: &mut Guests, thread: ThreadId) -> Finished {
    let (mut most, mut inputs) = (m.kernel.steps(), 1);
    while m.result(thread).is_none() {
        let at = m.deadline.expect("the call goes on");
        m.advance(at.saturating_sub(m.now.mono));
        most = most.max(m.kernel.steps());
        inputs += 1;
    }
    let result = m.result(thread).expect("it has returned");
    Finished {
        result,
        most,
        inputs,
    }
}

pub fn call_in_pieces(m: &mut Guests, thread: ThreadId, number: u64, args: &[u64]) -> Finished {
    m.call(thread, number, args);
    finish(m, thread)
}

/// Lets everything go on that goes on by itself.
pub fn until_idle(m: &mut Guests) -> u64 {
    let mut most = m.kernel.steps();
    while let Some(at) = m.deadline {
        m.advance(at.saturating_sub(m.now.mono));
        most = most.max(m.kernel.steps());
    }
    most
}

/// The same, with all steps together and the number of inputs.
pub fn measure_until_idle(m: &mut Guests) -> Measured {
    let mut all = Measured {
        most: m.kernel.steps(),
        inputs: 1,
        total: m.kernel.steps(),
    };
    while let Some(at) = m.deadline {
        m.advance(at.saturating_sub(m.now.mono));
        all.most = all.most.max(m.kernel.steps());
        all.total += m.kernel.steps();
        all.inputs += 1;
    }
    all
}

/// What went on by itself: most steps of an input, inputs, and steps of all of them.
#[derive(Debug)]
pub struct Measured {
    pub most: u64,
    pub inputs: usize,
    pub total: u64,
}

impl Measured {
    /// Whether it went in pieces: as many inputs at least, none of them long.
    #[track_caller]
    pub fn in_pieces(&self, inputs: usize) {
        assert!(self.most < MOST && self.inputs >= inputs, "{self:?}");
    }
}

/// Fresh memory.
pub fn map(m: &mut Guests, thread: ThreadId, len: u64) -> u64 {
    call(m, thread, MMAP, &[0, len, 3, SPARSE, u64::MAX, 0]) as u64
}

/// All of a file, with the most steps that an input took.
pub fn read_all(m: &mut Guests, thread: ThreadId, name: &str) -> (Vec<u8>, u64) {
    m.poke(thread, DATA, &[name.as_bytes(), b"\0"].concat())
        .unwrap();
    let fd = call(m, thread, OPEN, &[DATA, 0]) as u64;
    let len = 1 << 18;
    let buffer = map(m, thread, len);
    let (mut text, mut most) = (Vec::new(), 0);
    loop {
        let done = call_in_pieces(m, thread, READ, &[fd, buffer, len]);
        assert!(done.result >= 0, "{}", done.result);
        most = most.max(done.most);
        if done.result == 0 {
            break;
        }
        text.extend(m.peek(thread, buffer, done.result as usize).unwrap());
    }
    // From the middle: all before is made again.
    let at = text.len() / 2;
    let done = call_in_pieces(m, thread, PREAD64, &[fd, buffer, 100, at as u64]);
    let len = done.result as usize;
    let again = m.peek(thread, buffer, len).unwrap();
    assert!(len > 0 && done.most < MOST, "{len} {}", done.most);
    if name.ends_with("/maps") {
        assert_eq!(again, text[at..at + len]);
    }
    (text, most)
}
