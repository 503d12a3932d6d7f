//! Memory calls as the host sees them: barriers that reach threads which run, rights of pages.

mod guest;

use guest::steps::call_in_pieces;
use guest::{DATA, boot, call, fork, thread};
use varve_core::event::{ExitStatus, Output};
use varve_core::machine::{Access, Prot, ThreadId, Trap};
use varve_core::memhost::{Machine, MemHost, bare, empty_root};

const WRITE: u64 = 1;
const OPEN: u64 = 2;
const MMAP: u64 = 9;
const PIPE: u64 = 22;
const FORK: u64 = 57;
const GETPPID: u64 = 110;
const SETGROUPS: u64 = 116;
const SENDTO: u64 = 44;
const SOCKETPAIR: u64 = 53;
const MSGGET: u64 = 68;
const MSGSND: u64 = 69;
const DONTWAIT: u64 = 0x40;
const NOWAIT: u64 = 0o4000;
const MEMFD_CREATE: u64 = 319;
const MEMBARRIER: u64 = 324;
const GLOBAL: u64 = 1;
const PRIVATE: u64 = 8;
const REGISTER_PRIVATE: u64 = 16;
const EPERM: i64 = 1;
const ENOMEM: i64 = 12;
const RW: u64 = 3;
const PAGE: u64 = 4096;
const PROT_WRITE: u64 = 2;
/// `MAP_PRIVATE | MAP_ANONYMOUS`.
const ANON: u64 = 0x22;
/// `MAP_FIXED`.
const FIXED: u64 = 0x10;

#[test]
fn a_barrier_waits_for_the_threads_that_run() {
    let mut m = boot();
    let first = m.first();
    // Nobody else runs: nobody is asked.
    assert_eq!(call(&mut m, first, MEMBARRIER, &[GLOBAL, 0]), 0);
    let second = thread(&mut m, first);
    assert_eq!(call(&mut m, first, MEMBARRIER, &[PRIVATE, 0]), -EPERM);
    assert_eq!(call(&mut m, first, MEMBARRIER, &[REGISTER_PRIVATE, 0]), 0);
    for command in [GLOBAL, PRIVATE] {
        let log = m.log.len();
        assert_eq!(call(&mut m, first, MEMBARRIER, &[command, 0]), 0);
        // The machine interrupted the second thread in between, and let it go on.
        assert_eq!(m.log.len() - log, 2, "a call and an interruption");
        assert!(m.threads[&second].runs);
    }
}

#[test]
fn memory_that_can_only_be_written_can_be_read_too() {
    let mut m = boot();
    let first = m.first();
    let at = call(
        &mut m,
        first,
        MMAP,
        &[0, 4096, PROT_WRITE, ANON, u64::MAX, 0],
    ) as u64;
    let regs = m.threads[&first].regs;
    let access = Some(Access::Read);
    m.trap(first, regs, Trap::Fault { addr: at, access });
    let mapped = m.last.iter().find_map(|output| match output {
        Output::Map { prot, .. } => Some(*prot),
        _ => None,
    });
    assert!(
        mapped.is_some_and(|prot| prot.contains(Prot::READ)),
        "{mapped:?}"
    );
}

/// Linux takes flags of mmap(2) as `unsigned long`, and looks at all of them only where the type says so.
#[test]
fn flags_without_a_name_count_where_they_are_looked_at() {
    const SHARED: u64 = 1;
    const SHARED_VALIDATE: u64 = 3;
    const HIGH: u64 = 1 << 40;
    const EOPNOTSUPP: i64 = 95;
    let mut m = boot();
    let t = m.first();
    let file = call(&mut m, t, MEMFD_CREATE, &[DATA, 0]) as u64;
    let mut map = |flags| call(&mut m, t, MMAP, &[0, PAGE, RW, flags, file, 0]);
    assert!(map(SHARED | HIGH) > 0);
    assert!(map(SHARED_VALIDATE) > 0);
    assert_eq!(map(SHARED_VALIDATE | HIGH), -EOPNOTSUPP);
}

/// A machine whose programs may use this many pages.
fn limited(pages: u64) -> Machine {
    let mut config = bare(empty_root());
    config.memory_limit = Some(pages * PAGE);
    Machine::boot(config, MemHost::new(8192, Vec::new())).expect("the bare task boots")
}

/// Memory of a thread's own.
fn map(m: &mut Machine, thread: ThreadId, pages: u64) -> u64 {
    call(m, thread, MMAP, &[0, pages * PAGE, RW, ANON, u64::MAX, 0]) as u64
}

/// Writes to one page after another, as far as the thread lives.
fn touch(m: &mut Machine, thread: ThreadId, at: u64, pages: u64) {
    for page in 0..pages {
        let addr = at + page * PAGE;
        for _ in 0..4 {
            let Some(state) = m.threads.get(&thread) else {
                return;
            };
            let there = m.pages.get(&(state.space, addr));
            if there.is_some_and(|(_, prot)| prot.contains(Prot::WRITE)) {
                break;
            }
            let (regs, access) = (state.regs, Some(Access::Write));
            m.trap(thread, regs, Trap::Fault { addr, access });
            m.kernel.check().unwrap();
        }
    }
}

fn killed(m: &Machine) -> Vec<&String> {
    let lines = m.lines.iter();
    lines
        .filter(|line| line.contains("Memory cgroup out of memory: Killed process"))
        .collect()
}

#[test]
fn the_largest_process_is_killed_when_memory_is_used_up() {
    let mut m = limited(1000);
    let first = m.first();
    let small = fork(&mut m, first);
    let large = fork(&mut m, first);
    let (at, own) = (map(&mut m, small, 100), map(&mut m, large, 2000));
    touch(&mut m, small, at, 100);
    touch(&mut m, large, own, 2000);
    assert_eq!(killed(&m).len(), 1, "{:?}", m.lines);
    assert!(killed(&m)[0].contains("process 3 (init)"), "{:?}", m.lines);
    assert!(m.threads.contains_key(&small) && !m.threads.contains_key(&large));
    // Whoever asks for the last page does not matter, only who has most.
    let own = map(&mut m, first, 700);
    touch(&mut m, first, own, 700);
    let more = map(&mut m, small, 500);
    touch(&mut m, small, more, 500);
    assert_eq!(killed(&m).len(), 2, "{:?}", m.lines);
    assert!(
        !m.threads.contains_key(&small),
        "the first process is the last to go"
    );
    assert_eq!(call(&mut m, first, GETPPID, &[]), 0);
    assert_eq!(m.exit, None);
}

#[test]
fn the_run_ends_with_its_last_process() {
    let mut m = limited(600);
    let first = m.first();
    let own = map(&mut m, first, 2000);
    touch(&mut m, first, own, 2000);
    assert_eq!(m.exit, Some(ExitStatus::Signaled(9)));
}

#[test]
fn what_the_kernel_holds_for_programs_is_counted() {
    const MKNOD: u64 = 133;
    const REGULAR: u64 = 0o100_644;
    // Names, areas, processes: each a little, and there is no end to them.
    for kind in 0..3 {
        let mut m = limited(1000);
        let first = m.first();
        let child = fork(&mut m, first);
        let mut made = 0;
        while m.threads.contains_key(&child) && made < 100_000 {
            made += 1;
            match kind {
                0 => {
                    let name = format!("n{made}\0");
                    m.poke(child, DATA, name.as_bytes()).unwrap();
                    m.call(child, MKNOD, &[DATA, REGULAR, 0]);
                }
                1 => {
                    let prot = if made % 2 == 0 { 1 } else { RW };
                    m.call(child, MMAP, &[0, PAGE, prot, ANON, u64::MAX, 0]);
                }
                _ => {
                    m.call(child, FORK, &[]);
                }
            }
        }
        m.kernel.check().unwrap();
        assert!(
            !killed(&m).is_empty(),
            "{kind}: {made} and nobody is killed"
        );
        assert!(made > 100, "{kind}: {made} are too many already");
    }
}

/// Few pages, each with a table of its own, which a child of the process has again.
fn spread(m: &mut Machine, thread: ThreadId, pages: u64) {
    const TABLE: u64 = 512;
    for number in 0..pages {
        let at = 0x1000_0000 + number * TABLE * PAGE;
        let fixed = [at, PAGE, RW, ANON | FIXED, u64::MAX, 0];
        assert_eq!(call(m, thread, MMAP, &fixed), at as i64);
        touch(m, thread, at, 1);
    }
}

#[test]
fn a_fork_that_needs_more_than_is_left_kills_and_succeeds() {
    let mut m = limited(1000);
    let first = m.first();
    let large = fork(&mut m, first);
    let own = map(&mut m, large, 500);
    touch(&mut m, large, own, 500);
    spread(&mut m, first, 200);
    assert!(killed(&m).is_empty(), "{:?}", m.lines);
    // The call goes on when there is room.
    let child = call_in_pieces(&mut m, first, FORK, &[]).result;
    assert_eq!(child, 3, "{:?}", m.lines);
    assert_eq!(killed(&m).len(), 1, "{:?}", m.lines);
    assert!(!m.threads.contains_key(&large));
    m.kernel.check().unwrap();
}

#[test]
fn a_fork_may_kill_its_own_process() {
    let mut m = limited(1000);
    let first = m.first();
    let others: Vec<ThreadId> = (0..4).map(|_| fork(&mut m, first)).collect();
    for &other in &others {
        let own = map(&mut m, other, 100);
        touch(&mut m, other, own, 100);
    }
    let large = fork(&mut m, first);
    spread(&mut m, large, 260);
    assert!(killed(&m).is_empty(), "{:?}", m.lines);
    m.call(large, FORK, &[]);
    assert_eq!(killed(&m).len(), 1, "{:?}", m.lines);
    assert!(!m.threads.contains_key(&large));
    // Nobody else had to go, and there is room again.
    m.kernel.check().unwrap();
    assert!(others.iter().all(|other| m.threads.contains_key(other)));
    assert_eq!(call_in_pieces(&mut m, first, FORK, &[]).result, 7);
}

/// It ends in pieces, but nobody else has to go meanwhile.
#[test]
fn a_process_of_many_threads_is_killed_alone() {
    const CLONE: u64 = 56;
    let mut m = limited(6700);
    let first = m.first();
    let small = fork(&mut m, first);
    let large = fork(&mut m, first);
    let (at, own) = (map(&mut m, small, 20), map(&mut m, large, 500));
    touch(&mut m, small, at, 20);
    touch(&mut m, large, own, 500);
    for _ in 0..1200 {
        m.call(large, CLONE, &[guest::THREAD_FLAGS, 0, DATA, DATA, 0]);
    }
    spread(&mut m, first, 500);
    assert!(killed(&m).is_empty(), "{:?}", m.lines);
    let child = call_in_pieces(&mut m, first, FORK, &[]).result;
    assert!(child > 0, "{:?}", m.lines);
    assert_eq!(killed(&m).len(), 1, "{:?}", m.lines);
    assert!(m.threads.contains_key(&small));
    m.kernel.check().unwrap();
}

#[test]
fn a_fork_fails_when_nobody_may_be_killed_for_it() {
    let mut config = bare(empty_root());
    config.memory_limit = Some(1000 * PAGE);
    config.capabilities = u64::MAX;
    let mut m = Machine::boot(config, MemHost::new(8192, Vec::new())).expect("the bare task boots");
    let first = m.first();
    m.poke(first, DATA, b"/proc/self/oom_score_adj\0-1000")
        .unwrap();
    let fd = call(&mut m, first, OPEN, &[DATA, 1, 0]) as u64;
    assert_eq!(call(&mut m, first, WRITE, &[fd, DATA + 25, 5]), 5);
    spread(&mut m, first, 450);
    let forked = call_in_pieces(&mut m, first, FORK, &[]).result;
    assert_eq!(forked, -ENOMEM, "{:?}", m.lines);
    assert!(killed(&m).is_empty(), "{:?}", m.lines);
    m.kernel.check().unwrap();
}

#[test]
fn groups_that_are_inherited_count_once() {
    const GROUPS_MAX: u64 = 65536;
    let mut m = limited(1000);
    let first = m.first();
    let list = map(&mut m, first, GROUPS_MAX * 4 / PAGE);
    assert_eq!(call(&mut m, first, SETGROUPS, &[GROUPS_MAX, list]), 0);
    for _ in 0..30 {
        fork(&mut m, first);
    }
    assert!(killed(&m).is_empty(), "{:?}", m.lines);
    // Each has a list of its own now.
    let all: Vec<ThreadId> = m.threads.keys().copied().collect();
    for thread in all {
        if m.threads.contains_key(&thread) {
            m.call(thread, SETGROUPS, &[GROUPS_MAX, list]);
            m.kernel.check().unwrap();
        }
    }
    assert!(!killed(&m).is_empty(), "{:?}", m.lines);
}

#[test]
fn files_in_memory_and_pipes_are_counted() {
    let mut m = limited(1000);
    let first = m.first();
    m.poke(first, DATA, b"x\0").unwrap();
    let memfd = call(&mut m, first, MEMFD_CREATE, &[DATA, 0]) as u64;
    let mut written = 0;
    let full = loop {
        match call(&mut m, first, WRITE, &[memfd, DATA, 64 * PAGE]) {
            done if done > 0 => written += done as u64,
            error => break error,
        }
    };
    // A system call may read its own buffers in beyond the limit, and write to files up to it.
    assert_eq!(full, -ENOMEM);
    assert!((600..1000).contains(&(written / PAGE)), "{written}");
    assert!(killed(&m).is_empty() && m.threads.contains_key(&first));

    let mut m = limited(700);
    let first = m.first();
    let child = fork(&mut m, first);
    let at = map(&mut m, child, 16);
    touch(&mut m, child, at, 16);
    for _ in 0..60 {
        if !m.threads.contains_key(&child) {
            break;
        }
        // Making a pipe is counted too, so that the call itself may be the end of its process.
        match m.call(child, PIPE, &[at]) {
            Some(result) => assert_eq!(result, 0),
            None => break,
        }
        m.kernel.check().unwrap();
        let end = m.peek(child, at + 4, 4).unwrap();
        let end = u64::from(u32::from_le_bytes(end.try_into().unwrap()));
        m.call(child, WRITE, &[end, at, 16 * PAGE]);
        m.kernel.check().unwrap();
    }
    assert_eq!(killed(&m).len(), 1, "{:?}", m.lines);
    assert!(!m.threads.contains_key(&child) && m.threads.contains_key(&first));
    assert!(call(&mut m, first, FORK, &[]) > 0, "its pipes are gone");
}

/// Messages count wherever they lie, and go with who can receive them.
#[test]
fn messages_are_counted() {
    type Step = fn(&mut Machine, ThreadId, u64);
    let socket: Step = |m, child, at| {
        m.call(child, SOCKETPAIR, &[1, 1, 0, at]);
        let end = m.peek(child, at, 4).unwrap();
        let end = u64::from(u32::from_le_bytes(end.try_into().unwrap()));
        while m.call(child, SENDTO, &[end, at, 1, DONTWAIT, 0, 0]) == Some(1) {}
    };
    let queue: Step = |m, child, at| {
        m.poke(child, at, &1u64.to_le_bytes()).unwrap();
        let id = m.call(child, MSGGET, &[0, 0o600]).unwrap() as u64;
        while m.call(child, MSGSND, &[id, at, 8192, NOWAIT]) == Some(0) {}
    };
    for (step, steps) in [(socket, 20), (queue, 200)] {
        let mut m = limited(700);
        let first = m.first();
        let child = fork(&mut m, first);
        let at = map(&mut m, child, 16);
        touch(&mut m, child, at, 16);
        for _ in 0..steps {
            if !m.threads.contains_key(&child) {
                break;
            }
            step(&mut m, child, at);
            m.kernel.check().unwrap();
        }
        assert!(!m.threads.contains_key(&child), "{:?}", m.lines);
    }
}

#[test]
fn unmapping_goes_as_far_as_linux_lets_programs_map() {
    const MUNMAP: u64 = 11;
    const END: u64 = 0x7fff_ffff_f000;
    let mut m = boot();
    let first = m.first();
    for (addr, len, result) in [
        (END - PAGE, PAGE, 0),
        (END - 64 * PAGE, 64 * PAGE, 0),
        (0, PAGE, 0),
        (END, PAGE, -22),
        (END - PAGE, 2 * PAGE, -22),
        (0, END + 1, -22),
        (0, 1 << 47, -22),
        (1, PAGE, -22),
        (0, 0, -22),
    ] {
        assert_eq!(
            call(&mut m, first, MUNMAP, &[addr, len]),
            result,
            "{addr:#x} {len:#x}"
        );
    }
}

#[test]
fn a_removed_segment_is_not_mapped_again() {
    let mut m = boot();
    let first = m.first();
    let id = call(&mut m, first, 29, &[0, PAGE, 0o1700]) as u64;
    let at = call(&mut m, first, 30, &[id, 0, 0]) as u64;
    m.poke(first, at, b"x").unwrap();
    assert_eq!(call(&mut m, first, 216, &[at, PAGE, 0, 0, 0]), 0);
    assert_eq!(call(&mut m, first, 31, &[id, 0, 0]), 0);
    for _ in 0..3 {
        assert_eq!(call(&mut m, first, 216, &[at, PAGE, 0, 0, 0]), -22);
    }
    assert!(m.peek(first, at, 1).is_err());
}
