//! Journals of runs on the in-memory host: written, read back, cut off, damaged, forged.

use alloc::vec;
use alloc::vec::Vec;

use super::stream::{Reader, Writer};
use super::wire::Inputs;
use super::*;
use crate::abi::Errno;
use crate::boot::{Init, Layer, MergedIndex, Mount, Stdio, Tree, User};
use crate::event::{HostResult, Input, OpId};
use crate::machine::{Access, Exception, ImageId, Regs, ThreadId, Trap};
use crate::memhost::{BARE_ADDR, Machine, MemHost, MemImages, bare, empty_root};

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const PIPE: u64 = 22;
const NANOSLEEP: u64 = 35;
const FORK: u64 = 57;
const EXIT_GROUP: u64 = 231;
const FUTEX: u64 = 202;
const KILL: u64 = 62;
const SIGACTION: u64 = 13;
const FRAMES: u32 = 4096;
/// Behind the magic number and the version.
const FIRST_CHUNK: usize = 12;
const CHUNK_HEADER: usize = 12;

fn header() -> Header {
    let mut config = bare(Tree {
        layers: vec![Layer::Image(ImageId(0)), Layer::Host(3)],
        read_only: true,
        upper_limit: Some(1 << 40),
        index: Some(MergedIndex {
            image: ImageId(1),
            digests: vec![[1; 32], [2; 32]],
        }),
    });
    config.mounts.push(Mount {
        target: b"/data".to_vec(),
        source: b"data.img".to_vec(),
        tree: empty_root(),
        mode: 0o1777,
    });
    config.init = Init::Exec {
        args: vec![b"sh".to_vec(), b"-c".to_vec(), vec![0xff; 300]],
    };
    config.env = vec![b"A=1".to_vec()];
    config.user = User::Name("nobody:users".into());
    config.stdio = [
        Stdio::Terminal {
            rows: 24,
            cols: 300,
        },
        Stdio::File,
        Stdio::Null,
    ];
    Header {
        varve: "1.2.3".into(),
        platform: "memory".into(),
        config,
        booted: Now {
            mono: 5,
            real: u64::MAX,
            spent: 0,
        },
        images: vec![ImageNote {
            name: b"/x/y.img".to_vec(),
            len: 1 << 33,
            sha256: [9; 32],
            mapped: true,
            mappable: false,
        }],
        frames: u32::MAX,
        xstate_size: 832,
        digest_every: 7,
    }
}

fn inputs() -> Vec<Input> {
    let regs = Regs {
        rax: u64::MAX,
        rip: 0x40_0000,
        rsp: 0x7fff_ffff_f000,
        ..Regs::default()
    };
    let trap = |thread, trap| Input::Trap {
        thread: ThreadId(thread),
        regs: Regs {
            rdi: u64::from(thread),
            ..regs
        },
        trap,
    };
    let completed = |result| Input::Completed {
        op: OpId(1 << 40),
        result,
    };
    let exception = Exception {
        signal: 64,
        code: -6,
        addr: u64::MAX,
    };
    let fault = |access| Trap::Fault { addr: 0, access };
    vec![
        trap(1, Trap::Syscall),
        trap(65, Trap::Syscall),
        trap(u32::MAX, fault(None)),
        trap(1, fault(Some(Access::Read))),
        trap(1, fault(Some(Access::Write))),
        trap(1, fault(Some(Access::Execute))),
        trap(1, Trap::Exception(exception)),
        trap(2, Trap::Interrupted),
        trap(2, Trap::Lost),
        trap(3, Trap::Crowded),
        // As large as several chunks.
        completed(Ok(HostResult::Data(vec![7; 3 * CHUNK_MAX + 1]))),
        completed(Ok(HostResult::Data(Vec::new()))),
        completed(Ok(HostResult::Count(u64::MAX))),
        completed(Ok(HostResult::Ready(0xffff))),
        completed(Err(Errno::EINTR)),
        // The first byte of its number is zero but for the continuation bit.
        completed(Err(Errno::EKEYREJECTED)),
        completed(Err(Errno::from_number(128))),
        Input::Tick,
        Input::Signal { signal: 1 },
        Input::Signal { signal: 64 },
        Input::Resize {
            rows: 0,
            cols: u16::MAX,
        },
    ]
}

#[test]
fn what_is_written_is_read_back() {
    let header = header();
    let mut writer = Writer::new(Vec::new());
    writer.value(&header);
    let mut written = Inputs::new(header.booted);
    // Clocks that go on, stand, and go back.
    let now = |index: u64| Now {
        mono: index * 1000 % 7000,
        real: u64::MAX - index,
        spent: index * 77,
    };
    for (index, input) in inputs().iter().enumerate() {
        written.put(&mut writer, now(index as u64), input);
    }
    let log = writer.finish();
    let mut reader = Reader::new(&log[..]).unwrap();
    let read = Header::read(&mut reader).unwrap();
    assert_eq!(alloc::format!("{read:?}"), alloc::format!("{header:?}"));
    let mut again = Inputs::new(read.booted);
    for (index, input) in inputs().into_iter().enumerate() {
        let tag = reader.byte().unwrap();
        let found = again.get(&mut reader, tag).unwrap();
        assert_eq!(found, (now(index as u64), input));
    }
    reader.finish().unwrap();
}

/// A run with files, a pipe, two processes, a futex, a signal handler, a timer and standard streams.
fn record(digest_every: u32) -> (Machine, Vec<u8>) {
    let config = bare(empty_root());
    let mut m = Machine::record(config, MemHost::new(FRAMES, Vec::new()), digest_every).unwrap();
    let init = m.first();
    let (path, data) = (BARE_ADDR, BARE_ADDR + 0x1000);
    m.poke(init, path, b"/file\0").unwrap();
    m.poke(init, data, b"some bytes").unwrap();
    assert_eq!(m.call(init, OPEN, &[path, 0o102, 0o600]), Some(3));
    assert_eq!(m.call(init, WRITE, &[3, data, 10]), Some(10));
    assert_eq!(m.call(init, PIPE, &[data + 16]), Some(0));
    assert!(m.call(init, FORK, &[]).unwrap() > 1);
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(m.call(init, READ, &[4, data + 32, 5]), None);
    assert_eq!(m.call(child, WRITE, &[5, data, 5]), Some(5));
    assert_eq!(m.result(init), Some(5));
    assert_eq!(m.peek(init, data + 32, 5).unwrap(), b"some ");
    // FUTEX_WAIT for a word that is not 1.
    assert_eq!(m.call(init, FUTEX, &[data + 64, 0, 1]), Some(-11));
    // Handler, SA_RESTORER, restorer.
    let action = [data, 0x0400_0000, data, 0u64];
    let action: Vec<u8> = action.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(init, data + 128, &action).unwrap();
    assert_eq!(m.call(init, SIGACTION, &[10, data + 128, 0, 8]), Some(0));
    m.call(init, KILL, &[1, 10]);
    let time: Vec<u8> = [0u64, 5000].iter().flat_map(|n| n.to_le_bytes()).collect();
    m.poke(init, data + 256, &time).unwrap();
    assert_eq!(m.call(init, NANOSLEEP, &[data + 256, 0]), None);
    m.advance(10_000);
    assert_eq!(m.result(init), Some(0));
    assert_eq!(m.call(init, READ, &[0, data + 300, 20]), None);
    m.feed(b"from outside");
    assert_eq!(m.call(init, WRITE, &[1, data + 300, 12]), Some(12));
    m.call(init, EXIT_GROUP, &[3]);
    let log = m.finish().unwrap();
    (m, log)
}

/// Runs a journal to its end; gives the number of steps.
fn replay(log: &[u8]) -> Result<(Replay<&[u8]>, usize), ReplayError> {
    let mut replay = Replay::open(log)?;
    let mut steps = 0;
    while replay.next(&MemImages::default())?.is_some() {
        steps += 1;
    }
    Ok((replay, steps))
}

#[test]
fn a_recorded_run_is_made_again() {
    for digest_every in [1, 5, u32::MAX] {
        let (machine, log) = record(digest_every);
        let (replay, steps) = replay(&log).unwrap();
        assert!(steps > machine.log.len());
        assert_eq!(replay.exit(), machine.exit);
        assert!(replay.exit().is_some());
        let digest = replay.kernel().map(crate::Kernel::digest);
        assert_eq!(digest, Some(machine.kernel.digest()));
    }
}

#[test]
fn a_log_that_was_cut_off_says_so() {
    let (_, log) = record(1);
    for len in 0..log.len() {
        let Err(ReplayError::Log(error)) = replay(&log[..len]).map(|_| ()) else {
            panic!("{len} bytes are no log");
        };
        let kind = match len {
            0..8 => LogErrorKind::Magic,
            _ => LogErrorKind::Truncated,
        };
        assert_eq!(error.kind, kind, "{len} bytes");
        assert!(error.offset <= len as u64);
    }
    // At the border of two chunks there is nothing odd about the bytes themselves.
    let mut writer = Writer::new(Vec::new());
    writer.raw(&vec![0; CHUNK_MAX]);
    writer.raw(&[1]);
    let log = writer.finish();
    let whole = FIRST_CHUNK + CHUNK_HEADER + CHUNK_MAX;
    let mut reader = Reader::new(&log[..whole]).unwrap();
    reader.raw(&mut vec![0; CHUNK_MAX]).unwrap();
    let error = reader.byte().unwrap_err();
    assert_eq!(error.kind, LogErrorKind::Truncated);
    assert_eq!(error.offset, whole as u64);
    // More than there should be.
    let (_, mut log) = record(1);
    log.extend_from_within(FIRST_CHUNK..);
    assert!(matches!(replay(&log), Err(ReplayError::Log(_))));
}

#[test]
fn every_bit_that_flips_is_found() {
    let (_, mut log) = record(100);
    for at in 0..log.len() {
        let bit = 1 << (at % 8);
        log[at] ^= bit;
        let result = replay(&log).map(|_| ());
        assert!(matches!(result, Err(ReplayError::Log(_))), "byte {at}");
        log[at] ^= bit;
    }
}

/// The payload of a log that has one chunk.
fn payload(log: &[u8]) -> &[u8] {
    assert!(log.len() < FIRST_CHUNK + CHUNK_HEADER + CHUNK_MAX);
    &log[FIRST_CHUNK + CHUNK_HEADER..]
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.raw(payload);
    writer.finish()
}

/// Whoever can write to a log can give it the right check sums. Then what it says is something else, and that
/// is found, unless it is about bytes that the kernel read and did not look at.
#[test]
fn a_forged_log_ends_in_an_error() {
    let (_, log) = record(1);
    let mut payload = payload(&log).to_vec();
    let mut equal = 0;
    for at in 0..payload.len() {
        payload[at] ^= 1 << (at % 8);
        equal += usize::from(replay(&sealed(&payload)).is_ok());
        payload[at] ^= 1 << (at % 8);
    }
    let all = payload.len();
    assert!(equal * 4 < all, "{equal} of {all} were not found");
    // Without its end.
    for len in 0..payload.len() {
        assert!(replay(&sealed(&payload[..len])).is_err());
    }
}

#[test]
fn a_difference_names_the_input() {
    let (_, log) = record(1);
    let good = payload(&log);
    // The bytes that standard input gave.
    let at = good.windows(12).position(|part| part == b"from outside");
    let mut forged = good.to_vec();
    forged[at.unwrap()] ^= 1;
    let Err(ReplayError::Different(difference)) = replay(&sealed(&forged)).map(|_| ()) else {
        panic!("nothing is different");
    };
    assert!(difference.input > 10, "{difference}");
    let text = alloc::format!("{difference}");
    assert!(text.contains("digest of the port calls"), "{text}");
}

#[test]
fn lengths_that_lie_cost_nothing() {
    // A header whose first text claims a gigabyte, then one that claims more than any may have.
    for (len, kind) in [
        (1 << 30, LogErrorKind::Truncated),
        (u64::MAX, LogErrorKind::Value("a length beyond all bounds")),
    ] {
        let mut writer = Writer::new(Vec::new());
        writer.value(&len);
        writer.raw(b"few bytes");
        let error = Replay::open(&writer.finish()[..]).err().unwrap();
        assert_eq!(error.kind, kind);
    }
    // A number that never ends.
    let error = Replay::open(&sealed(&[0xff; 40])[..]).err().unwrap();
    assert!(matches!(error.kind, LogErrorKind::Value(_)));
    // Chunks that claim to be empty, or longer than any.
    for len in [0, CHUNK_MAX as u32 + 1, u32::MAX] {
        let mut log = sealed(b"x");
        log[FIRST_CHUNK..FIRST_CHUNK + 4].copy_from_slice(&len.to_le_bytes());
        let error = Replay::open(&log[..]).err().unwrap();
        assert_eq!(error.kind, LogErrorKind::Length(len));
    }
    let mut log = sealed(b"x");
    log[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let error = Replay::open(&log[..]).err().unwrap();
    assert_eq!(error.kind, LogErrorKind::Version(VERSION + 1));
}

#[test]
fn values_that_cannot_be_say_what_is_wrong() {
    fn wrong<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> LogErrorKind {
        let log = sealed(bytes);
        let mut reader = Reader::new(&log[..]).unwrap();
        reader.value::<T>().err().unwrap().kind
    }
    use LogErrorKind::{Truncated, Value};
    let unknown = Value("an unknown kind of value, or a number out of bounds");
    assert_eq!(wrong::<bool>(&[2]), Value("neither yes nor no"));
    assert_eq!(
        wrong::<Option<u8>>(&[7]),
        Value("neither there nor missing")
    );
    let text = wrong::<String>(&[1, 0xff]);
    assert_eq!(text, Value("a text that is not UTF-8"));
    let bits = Value("a number of too many bits");
    assert_eq!(wrong::<u32>(&[0xff, 0xff, 0xff, 0xff, 0x1f]), bits);
    assert_eq!(wrong::<u64>(&[0xff; 12]), bits);
    for number in [&[0][..], &[0x80, 0x20]] {
        assert_eq!(wrong::<Errno>(number), unknown, "{number:?}");
    }
    assert_eq!(wrong::<Trap>(&[6]), unknown);
    assert_eq!(wrong::<HostResult>(&[3]), unknown);
    assert_eq!(wrong::<Result<u8, Errno>>(&[2, 0]), unknown);
    // Lists and bytes of any length, with nothing in them.
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(wrong::<Vec<u64>>(&many), Truncated);
    assert_eq!(wrong::<Vec<Vec<u8>>>(&many), Truncated);
    let data = [&[0][..], &many].concat();
    let beyond = Value("a length beyond all bounds");
    assert_eq!(wrong::<HostResult>(&data), beyond);
}

/// The digest is part of the format: logs outlive builds.
#[test]
fn check_sums_stay_what_they_are() {
    let log = sealed(b"varve");
    let sum = u64::from_le_bytes(log[FIRST_CHUNK + 4..FIRST_CHUNK + 12].try_into().unwrap());
    assert_eq!(sum, 0x09a8_3730_bde3_5dda, "{sum:#x}");
}
