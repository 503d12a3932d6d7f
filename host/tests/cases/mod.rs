//! A platform alone, with guests of a few bytes of machine code. The tests of each host include this file;
//! they define `Host` and `make`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use varve_core::abi::{PAGE_SIZE, TASK_SIZE};
use varve_core::machine::{Backing, FrameNo, Prot, Regs, SpaceId, Trap};
use varve_core::port::Memory;
use varve_host::{Backings, GuestThread, MemoryFile, Platform};

use super::{Host, make};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
const SPACE: SpaceId = SpaceId(1);

struct Guest {
    memory: MemoryFile,
    platform: Arc<Host>,
}

/// A platform whose space 1 has `code` at [`CODE`] and one writable page at [`DATA`]; `None` (and a line)
/// where the platform does not work.
fn guest(code: &[u8]) -> Option<Guest> {
    let mut memory = MemoryFile::new(64).unwrap();
    memory.write(0, code);
    let fd = memory.fd().try_clone_to_owned().unwrap();
    let backings = Arc::new(Backings::new(fd, Vec::new()));
    let platform = match make(backings) {
        Ok(platform) => Arc::new(platform),
        Err(error) => {
            let strict = std::env::var_os("VARVE_TEST_NO_SKIP").is_some_and(|value| value == "1");
            assert!(!strict, "{error}");
            eprintln!("SKIP: {error}");
            return None;
        }
    };
    platform.create_space(SPACE).unwrap();
    platform
        .map(
            SPACE,
            CODE,
            PAGE_SIZE,
            Backing::Memory(FrameNo(0)),
            Prot::READ | Prot::EXEC,
        )
        .unwrap();
    platform
        .map(
            SPACE,
            DATA,
            PAGE_SIZE,
            Backing::Memory(FrameNo(1)),
            Prot::READ | Prot::WRITE,
        )
        .unwrap();
    Some(Guest { memory, platform })
}

fn start() -> Regs {
    Regs {
        rip: CODE,
        rsp: DATA + 0x800,
        cs: 0x33,
        ss: 0x2b,
        eflags: 0x202,
        ..Regs::default()
    }
}

/// Runs up to a page fault; gives its address.
fn fault(thread: &mut impl GuestThread, regs: &mut Regs) -> Option<u64> {
    match thread.run(regs).unwrap() {
        Trap::Fault { addr, .. } => Some(addr),
        other => panic!("{other:?}"),
    }
}

#[test]
fn system_calls_trap_with_all_registers() {
    // syscall; jmp back
    let Some(guest) = guest(&[0x0f, 0x05, 0xeb, 0xfc]) else {
        return;
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let mut regs = Regs {
        rax: 39,
        rdi: 1,
        rsi: 2,
        rdx: 3,
        r10: 4,
        r8: 5,
        r9: 6,
        rbx: 7,
        rbp: 8,
        r12: 9,
        r13: 10,
        r14: 11,
        r15: 12,
        fs_base: 0x1234_5000,
        gs_base: 0x6789_a000,
        ..start()
    };
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    assert_eq!((regs.orig_rax, regs.args()), (39, [1, 2, 3, 4, 5, 6]));
    assert_eq!(
        (regs.rbx, regs.rbp, regs.r12, regs.r13, regs.r14, regs.r15),
        (7, 8, 9, 10, 11, 12)
    );
    assert_eq!((regs.fs_base, regs.gs_base), (0x1234_5000, 0x6789_a000));
    assert_eq!(regs.rip, CODE + 2);
    for round in 0..1000 {
        regs.rax = round;
        assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
        assert_eq!((regs.orig_rax, regs.rdi), (round, 1));
    }
    let begun = Instant::now();
    for _ in 0..20000 {
        regs.rax = 39;
        thread.run(&mut regs).unwrap();
    }
    println!(
        "a crossing takes {:.2} us",
        begun.elapsed().as_secs_f64() * 1e6 / 20000.0
    );
}

#[test]
fn faults_name_their_address_and_pages_come_and_go() {
    // mov [rdi], rax; syscall
    let Some(guest) = guest(&[0x48, 0x89, 0x07, 0x0f, 0x05]) else {
        return;
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let far = 0x7f00_0000_0000;
    let mut regs = Regs {
        rdi: far + 8,
        rax: 77,
        ..start()
    };
    assert_eq!(fault(&mut thread, &mut regs), Some(far + 8));
    assert_eq!(regs.rip, CODE);
    guest
        .platform
        .map(
            SPACE,
            far,
            PAGE_SIZE,
            Backing::Memory(FrameNo(5)),
            Prot::READ,
        )
        .unwrap();
    assert_eq!(fault(&mut thread, &mut regs), Some(far + 8));
    guest
        .platform
        .protect(
            SPACE,
            far - PAGE_SIZE,
            4 * PAGE_SIZE,
            Prot::READ | Prot::WRITE,
        )
        .unwrap();
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    let mut word = [0; 8];
    guest.memory.read(5 * PAGE_SIZE + 8, &mut word);
    assert_eq!(u64::from_le_bytes(word), 77);
    guest.platform.unmap(SPACE, far, PAGE_SIZE).unwrap();
    guest.platform.flush().unwrap();
    regs = Regs {
        rdi: far + 8,
        ..start()
    };
    assert_eq!(fault(&mut thread, &mut regs), Some(far + 8));
    // A non-canonical address is no page fault.
    regs = Regs {
        rdi: 1 << 60,
        ..start()
    };
    assert!(matches!(thread.run(&mut regs).unwrap(), Trap::Exception(e) if e.signal == 11));
}

#[test]
fn exceptions_are_told_apart() {
    let Some(guest) = guest(&[0xcc, 0x0f, 0x0b, 0x31, 0xc9, 0xf7, 0xf1]) else {
        return;
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let mut signal = |rip| {
        let mut regs = Regs { rip, ..start() };
        match thread.run(&mut regs).unwrap() {
            Trap::Exception(exception) => exception.signal,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(signal(CODE), 5);
    assert_eq!(signal(CODE + 1), 4);
    assert_eq!(signal(CODE + 3), 8);
}

#[test]
fn a_spinning_guest_can_be_interrupted_and_killed() {
    let Some(guest) = guest(&[0xeb, 0xfe]) else {
        return;
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let interrupter = thread.interrupter();
    let (interrupted, seen) = std::sync::mpsc::channel();
    let helper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        interrupter.interrupt();
        // On a busy machine a mere pause may be over before the guest was interrupted.
        seen.recv().unwrap();
        std::thread::sleep(Duration::from_millis(30));
        interrupter.kill();
    });
    let mut regs = start();
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Interrupted);
    interrupted.send(()).unwrap();
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Lost);
    helper.join().unwrap();
}

#[test]
fn two_threads_share_a_space() {
    // mov [rdi], rax; syscall; jmp to the start
    let Some(guest) = guest(&[0x48, 0x89, 0x07, 0x0f, 0x05, 0xeb, 0xf9]) else {
        return;
    };
    let mut first = guest.platform.new_thread(SPACE).unwrap();
    let mut regs = Regs {
        rdi: DATA,
        rax: 1,
        ..start()
    };
    assert_eq!(first.run(&mut regs).unwrap(), Trap::Syscall);
    guest.platform.prepare_sibling(&mut first, SPACE).unwrap();
    let platform = guest.platform.clone();
    let other = std::thread::spawn(move || {
        let mut second = platform.new_thread(SPACE).unwrap();
        let mut regs = Regs {
            rdi: DATA + 8,
            rax: 2,
            ..start()
        };
        for _ in 0..100 {
            regs.rax = 2;
            assert_eq!(second.run(&mut regs).unwrap(), Trap::Syscall);
        }
        platform
            .map(
                SPACE,
                DATA + PAGE_SIZE,
                PAGE_SIZE,
                Backing::Memory(FrameNo(9)),
                Prot::READ | Prot::WRITE,
            )
            .unwrap();
        regs.rax = 2;
        assert_eq!(second.run(&mut regs).unwrap(), Trap::Syscall);
    });
    for _ in 0..100 {
        regs.rax = 1;
        assert_eq!(first.run(&mut regs).unwrap(), Trap::Syscall);
    }
    other.join().unwrap();
    regs = Regs {
        rdi: DATA + PAGE_SIZE,
        rax: 3,
        ..start()
    };
    assert_eq!(first.run(&mut regs).unwrap(), Trap::Syscall);
    let mut words = [0; 16];
    guest.memory.read(PAGE_SIZE, &mut words);
    assert_eq!((words[0], words[8]), (1, 2));
}

#[test]
fn a_thread_moves_into_another_space() {
    let Some(guest) = guest(&[0x0f, 0x05]) else {
        return;
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let mut regs = start();
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    let next = SpaceId(2);
    guest.platform.create_space(next).unwrap();
    guest
        .platform
        .map(
            next,
            DATA,
            PAGE_SIZE,
            Backing::Memory(FrameNo(0)),
            Prot::READ | Prot::EXEC,
        )
        .unwrap();
    guest.platform.enter(&mut thread, next).unwrap();
    guest.platform.drop_space(SPACE);
    let mut regs = Regs {
        rip: DATA,
        ..start()
    };
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    let mut regs = start();
    assert_eq!(fault(&mut thread, &mut regs), Some(CODE));
}

#[test]
fn floating_point_state_is_kept_exactly() {
    let Some(guest) = guest(&[0x0f, 0x05]) else {
        return;
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let mut state = vec![0; guest.platform.xstate_size()];
    thread.read_xstate(&mut state).unwrap();
    // xmm0 and the bit that says it is in use.
    state[160..176].copy_from_slice(b"sixteen bytes ok");
    state[512] |= 3;
    assert!(thread.write_xstate(&state).unwrap());
    let mut regs = start();
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    let mut after = vec![0; state.len()];
    thread.read_xstate(&mut after).unwrap();
    assert_eq!(after[160..176], state[160..176]);
}

/// `int 0x80` is no system call, also with the registers of one but for `r11`.
#[test]
fn a_32_bit_call_is_a_protection_fault() {
    let Some(guest) = guest(&[0xcd, 0x80]) else {
        return;
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    for rcx in [0, CODE + 2] {
        let mut regs = Regs {
            rax: 20,
            rcx,
            ..start()
        };
        let trap = thread.run(&mut regs).unwrap();
        assert!(
            matches!(trap, Trap::Exception(e) if (e.signal, e.code, e.addr) == (11, 0x80, 0)),
            "{trap:?}"
        );
        assert_eq!((regs.rip, regs.rax), (CODE, 20));
    }
}

/// A program can give itself a base in the kernel's half, which a tracer cannot set: it stays its own, also
/// over page operations and in another thread.
#[test]
fn segment_bases_in_the_kernels_half_are_kept() {
    // mov $0x28, %eax; mov %eax, %gs; wrgsbase %rdi; syscall; rdgsbase %rbx; syscall
    let code = [
        0xb8, 0x28, 0, 0, 0, 0x8e, 0xe8, 0xf3, 0x48, 0x0f, 0xae, 0xdf, 0x0f, 0x05, 0xf3, 0x48,
        0x0f, 0xae, 0xcb, 0x0f, 0x05,
    ];
    let Some(guest) = guest(&code) else {
        return;
    };
    let kernel_half = 0xffff_8000_0000_1000;
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let mut regs = Regs {
        rdi: kernel_half,
        ..start()
    };
    match thread.run(&mut regs).unwrap() {
        Trap::Syscall => {}
        trap => return assert!(matches!(trap, Trap::Exception(e) if e.signal == 4)), // without FSGSBASE
    }
    assert_eq!(regs.gs_base, kernel_half);
    guest.platform.prepare_sibling(&mut thread, SPACE).unwrap();
    let mut other = guest.platform.new_thread(SPACE).unwrap();
    for thread in [&mut thread, &mut other] {
        let mut regs = Regs { rax: 1, ..regs };
        guest
            .platform
            .unmap(SPACE, 0x7f00_0000_0000, PAGE_SIZE)
            .unwrap();
        assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
        assert_eq!((regs.rbx, regs.gs_base), (kernel_half, kernel_half));
    }
}

/// A parent makes threads faster than their workers start: all of them share its pages.
#[test]
fn threads_made_before_the_first_one_starts_share_their_space() {
    // mov [rdi], rax; syscall
    let Some(guest) = guest(&[0x48, 0x89, 0x07, 0x0f, 0x05]) else {
        return;
    };
    let mut parent = guest.platform.new_thread(SPACE).unwrap();
    let mut regs = Regs {
        rdi: DATA,
        ..start()
    };
    assert_eq!(parent.run(&mut regs).unwrap(), Trap::Syscall);
    for _ in 0..3 {
        guest.platform.prepare_sibling(&mut parent, SPACE).unwrap();
    }
    for _ in 0..3 {
        let mut thread = guest.platform.new_thread(SPACE).unwrap();
        let mut regs = Regs {
            rdi: DATA,
            ..start()
        };
        assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    }
}

/// Waits until everything that was begun is in force.
fn in_force(guest: &Guest) {
    let grace = guest.platform.grace();
    let begun = Instant::now();
    while grace.flushed() <= grace.batch() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never in force");
        std::thread::yield_now();
    }
}

/// A page of its own for what a guest writes to: at [`SPOT`], frame 7.
const SPOT: u64 = 0x60_0000;
const SPOT_FRAME: FrameNo = FrameNo(7);

/// Nobody writes to the frame any more: what is put there stays.
fn is_left_alone(guest: &mut Guest) {
    guest.memory.zero(SPOT_FRAME.offset(), PAGE_SIZE);
    std::thread::sleep(Duration::from_millis(20));
    let mut word = [1; 8];
    guest.memory.read(SPOT_FRAME.offset(), &mut word);
    assert_eq!(word, [0; 8]);
}

/// Waits until a guest has written to the frame.
fn is_written(guest: &Guest) {
    let begun = Instant::now();
    let mut word = [0; 8];
    while word == [0; 8] {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing runs");
        guest.memory.read(SPOT_FRAME.offset(), &mut word);
    }
}

/// The worker of a guest's thread, and what interrupts it.
type Spinning = (
    std::thread::JoinHandle<Result<Trap, varve_host::PlatformError>>,
    Arc<dyn varve_host::Interrupter>,
);

/// Starts a thread in a new space of its own, with the code and a page to write to.
fn spinning(guest: &Guest, space: SpaceId) -> Spinning {
    let platform = guest.platform.clone();
    let map = |addr, frame, prot| {
        let backing = Backing::Memory(frame);
        platform.map(space, addr, PAGE_SIZE, backing, prot).unwrap();
    };
    platform.create_space(space).unwrap();
    map(CODE, FrameNo(0), Prot::READ | Prot::EXEC);
    map(SPOT, SPOT_FRAME, Prot::READ | Prot::WRITE);
    platform.flush().unwrap();
    let (send, interrupter) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let mut thread = platform.new_thread(space).unwrap();
        send.send(thread.interrupter()).unwrap();
        let mut regs = Regs {
            rdi: SPOT,
            rax: u64::MAX,
            ..start()
        };
        thread.run(&mut regs)
    });
    (worker, interrupter.recv().unwrap())
}

/// A guest that writes all the time, and what takes its page away; then nobody may reach the frame as soon as
/// the platform says so.
fn taken_away(take: impl Fn(&Host, SpaceId, &dyn varve_host::Interrupter)) {
    // mov [rdi], rax; jmp back
    let Some(mut guest) = guest(&[0x48, 0x89, 0x07, 0xeb, 0xfb]) else {
        return;
    };
    for round in 1..20 {
        let space = SpaceId(round + 1);
        guest.platform.grace().begin(u64::from(2 * round));
        let (worker, interrupter) = spinning(&guest, space);
        is_written(&guest);
        guest.platform.grace().begin(u64::from(2 * round + 1));
        take(&guest.platform, space, &*interrupter);
        guest.platform.flush().unwrap();
        in_force(&guest);
        is_left_alone(&mut guest);
        interrupter.kill();
        let trap = worker.join().unwrap();
        assert!(
            matches!(trap, Ok(Trap::Fault { .. } | Trap::Lost)),
            "{trap:?}"
        );
    }
}

/// Who is killed while pages are changed for it is lost, whatever it was doing for that.
#[test]
fn a_thread_that_is_killed_while_pages_change_is_lost() {
    // mov [rdi], rax; jmp back
    let Some(guest) = guest(&[0x48, 0x89, 0x07, 0xeb, 0xfb]) else {
        return;
    };
    for round in 1..60 {
        let space = SpaceId(round + 1);
        let (worker, interrupter) = spinning(&guest, space);
        // Somewhere between its start and the changes that it makes.
        std::thread::sleep(Duration::from_micros(u64::from(round) * 20));
        let other = Backing::Memory(FrameNo(9));
        let mapped = guest
            .platform
            .map(space, SPOT, PAGE_SIZE, other, Prot::READ);
        mapped.unwrap();
        guest.platform.flush().unwrap();
        interrupter.kill();
        let trap = worker.join().unwrap();
        assert!(
            matches!(trap, Ok(Trap::Fault { .. } | Trap::Lost)),
            "{trap:?}"
        );
    }
}

#[test]
fn an_unmapped_page_is_out_of_reach_when_its_batch_is_in_force() {
    taken_away(|platform, space, _| platform.unmap(space, SPOT, PAGE_SIZE).unwrap());
}

#[test]
fn a_replaced_page_is_out_of_reach_when_its_batch_is_in_force() {
    taken_away(|platform, space, _| {
        let other = Backing::Memory(FrameNo(9));
        let mapped = platform.map(space, SPOT, PAGE_SIZE, other, Prot::READ);
        mapped.unwrap();
    });
}

#[test]
fn a_dropped_space_is_out_of_reach_when_its_batch_is_in_force() {
    taken_away(|platform, space, interrupter| {
        interrupter.kill();
        platform.drop_space(space);
    });
}

/// More areas than the host's kernel gives a process (`vm.max_map_count`): either the platform holds them
/// all, or it asks for the space to be emptied, and then goes on with what is touched.
#[test]
fn a_space_may_have_more_mappings_than_the_host_gives() {
    // mov [rdi], rax; syscall
    let Some(guest) = guest(&[0x48, 0x89, 0x07, 0x0f, 0x05]) else {
        return;
    };
    const MANY: u64 = 70_000;
    let page = |index: u64| 0x10_0000_0000 + 2 * index * PAGE_SIZE;
    let rights = Prot::READ | Prot::WRITE;
    let map = |addr, frame, prot| {
        let backing = Backing::Memory(FrameNo(frame));
        guest.platform.map(SPACE, addr, PAGE_SIZE, backing, prot)
    };
    let mut thread = guest.platform.new_thread(SPACE).unwrap();
    let mut regs = Regs {
        rdi: DATA,
        ..start()
    };
    assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    for index in 0..MANY {
        map(page(index), 2 + index as u32 % 8, rights).unwrap();
    }
    guest.platform.flush().unwrap();
    for (round, index) in [MANY - 1, 0, 12_345].into_iter().enumerate() {
        let wanted = Regs {
            rdi: page(index),
            rax: 1000 + round as u64,
            ..start()
        };
        let mut regs = wanted;
        let mut trap = thread.run(&mut regs).unwrap();
        if trap == Trap::Crowded {
            assert_eq!(regs, wanted);
            // Nothing runs before.
            assert_eq!(thread.run(&mut regs).unwrap(), Trap::Crowded);
            guest.platform.unmap(SPACE, 0, TASK_SIZE).unwrap();
            map(CODE, 0, Prot::READ | Prot::EXEC).unwrap();
            trap = thread.run(&mut regs).unwrap();
        }
        if let Trap::Fault { addr, .. } = trap {
            assert_eq!(addr, page(index));
            map(addr, 2 + index as u32 % 8, rights).unwrap();
            trap = thread.run(&mut regs).unwrap();
        }
        assert_eq!(trap, Trap::Syscall);
        let mut word = [0; 8];
        guest.memory.read((2 + index % 8) * PAGE_SIZE, &mut word);
        assert_eq!(u64::from_le_bytes(word), 1000 + round as u64);
    }
}
