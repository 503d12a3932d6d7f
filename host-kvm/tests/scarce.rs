//! Few virtual CPUs, few page tables, pages that change under running threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use varve_core::abi::PAGE_SIZE;
use varve_core::machine::{Backing, FrameNo, Prot, Regs, SpaceId, Trap};
use varve_core::port::Memory;
use varve_host::{Backings, GuestThread, Interrupter, MemoryFile, Platform};
use varve_host_kvm::{KickSignal, Kvm, Limits};

const SPACE: SpaceId = SpaceId(1);
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
/// How long something may take that should happen at once: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const RW: Prot = Prot::READ.union(Prot::WRITE);

struct Guest {
    memory: MemoryFile,
    platform: Kvm,
}

fn guest(code: &[u8], vcpus: u32, frames: u32) -> Option<Guest> {
    let mut memory = MemoryFile::new(frames).unwrap();
    memory.write(0, code);
    let fd = memory.fd().try_clone_to_owned().unwrap();
    let backings = Arc::new(Backings::new(fd, Vec::new()));
    let signal = KickSignal::install().unwrap();
    let platform = match Kvm::new(backings, Limits { vcpus }, signal) {
        Ok(platform) => platform,
        Err(error) => {
            let strict = std::env::var_os("VARVE_TEST_NO_SKIP").is_some_and(|it| it == "1");
            assert!(!strict, "{error}");
            eprintln!("SKIP: {error}");
            return None;
        }
    };
    platform.create_space(SPACE).unwrap();
    let page = |addr, frame, prot| {
        let backing = Backing::Memory(FrameNo(frame));
        platform.map(SPACE, addr, PAGE_SIZE, backing, prot).unwrap();
    };
    page(CODE, 0, Prot::READ | Prot::EXEC);
    page(DATA, 1, RW);
    platform.flush().unwrap();
    Some(Guest { memory, platform })
}

fn start() -> Regs {
    Regs {
        rip: CODE,
        rsp: DATA + 0x800,
        cs: 0x33,
        eflags: 0x202,
        ..Regs::default()
    }
}

/// Seven threads on two virtual CPUs count system calls while others spin without end; each finds its own
/// vector register again.
#[test]
fn more_threads_than_virtual_cpus_take_turns() {
    // 0: syscall; jmp 0    4: jmp 4
    let Some(guest) = guest(&[0x0f, 0x05, 0xeb, 0xfc, 0xeb, 0xfe], 2, 16) else {
        return;
    };
    let platform = &guest.platform;
    let (started, interrupters) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let started = started.clone();
            scope.spawn(move || {
                let mut thread = platform.new_thread(SPACE).unwrap();
                started.send(thread.interrupter()).unwrap();
                let mut regs = Regs {
                    rip: CODE + 4,
                    ..start()
                };
                assert_eq!(thread.run(&mut regs).unwrap(), Trap::Lost);
            });
        }
        let interrupters: Vec<Arc<dyn Interrupter>> = interrupters.iter().take(3).collect();
        let counting: Vec<_> = (0..7u8)
            .map(|number| {
                scope.spawn(move || {
                    let mut thread = platform.new_thread(SPACE).unwrap();
                    let mut state = vec![0; platform.xstate_size()];
                    thread.read_xstate(&mut state).unwrap();
                    state[160..176].fill(number);
                    state[512] |= 3;
                    assert!(thread.write_xstate(&state).unwrap());
                    let mut regs = start();
                    for round in 0..20 {
                        regs.rax = round;
                        assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
                        assert_eq!(regs.orig_rax, round);
                        if round % 3 == 0 {
                            thread.park();
                            std::thread::yield_now();
                        }
                        thread.read_xstate(&mut state).unwrap();
                        assert_eq!(state[160..176], [number; 16]);
                    }
                })
            })
            .collect();
        for thread in counting {
            thread.join().unwrap();
        }
        for interrupter in interrupters {
            interrupter.kill();
        }
    });
}

/// A thread that has no virtual CPU can be given its state while all are taken, and finds it when it has one.
#[test]
fn state_can_be_written_without_a_virtual_cpu() {
    let Some(guest) = guest(&[0x0f, 0x05, 0xeb, 0xfc], 1, 16) else {
        return;
    };
    let platform = &guest.platform;
    let mut first = platform.new_thread(SPACE).unwrap();
    let mut second = platform.new_thread(SPACE).unwrap();
    let mut regs = start();
    let mut state = vec![0; platform.xstate_size()];
    let mut run = |thread: &mut varve_host_kvm::Thread| {
        assert_eq!(thread.run(&mut regs).unwrap(), Trap::Syscall);
    };
    for round in 1..20 {
        run(&mut first);
        first.read_xstate(&mut state).unwrap();
        state[512] |= 3;
        state[160..176].fill(round);
        assert!(second.write_xstate(&state).unwrap());
        state.fill(0);
        second.read_xstate(&mut state).unwrap();
        assert_eq!(state[160..176], [round; 16]);
        first.park();
        run(&mut second);
        second.read_xstate(&mut state).unwrap();
        assert_eq!(state[160..176], [round; 16]);
        if round % 2 == 0 {
            // Newer than what the virtual CPU holds that is about to be taken.
            second.park();
            state[160..176].fill(100 + round);
            assert!(second.write_xstate(&state).unwrap());
            run(&mut first);
            first.park();
            run(&mut second);
            second.read_xstate(&mut state).unwrap();
            assert_eq!(state[160..176], [100 + round; 16]);
        }
        second.park();
    }
}

/// A thread loads from a page without pause; once a change of the page is flushed it sees the old one never
/// again.
#[test]
fn running_threads_see_changes_of_pages() {
    // 0: mov rax, [rdi]; mov [rsi], rax; jmp 0
    let code = [0x48, 0x8b, 0x07, 0x48, 0x89, 0x06, 0xeb, 0xf8];
    let Some(guest) = guest(&code, 4, 64) else {
        return;
    };
    let Guest {
        mut memory,
        platform,
    } = guest;
    let far = 0x7f00_0000_0000;
    let out = PAGE_SIZE;
    let map = |frame: u32| {
        let backing = Backing::Memory(FrameNo(frame));
        platform.map(SPACE, far, PAGE_SIZE, backing, RW).unwrap();
        platform.flush().unwrap();
    };
    for frame in 10..40u32 {
        memory.write(
            u64::from(frame) * PAGE_SIZE,
            &u64::from(frame).to_le_bytes(),
        );
    }
    map(10);
    let (over, faults) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut thread = platform.new_thread(SPACE).unwrap();
    let interrupter = thread.interrupter();
    std::thread::scope(|scope| {
        let (over, faults) = (&over, &faults);
        let running = scope.spawn(move || {
            let mut regs = Regs {
                rdi: far,
                rsi: DATA,
                ..start()
            };
            while !over.load(Ordering::SeqCst) {
                match thread.run(&mut regs).unwrap() {
                    Trap::Fault { addr, .. } => {
                        assert_eq!(addr, far);
                        faults.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                    }
                    Trap::Interrupted => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        let wait_for = |memory: &MemoryFile, value: u64| {
            let begun = Instant::now();
            loop {
                let mut word = [0; 8];
                memory.read(out, &mut word);
                if u64::from_le_bytes(word) == value {
                    return;
                }
                assert!(begun.elapsed() < PATIENCE, "frame {value} is not seen");
                std::thread::yield_now();
            }
        };
        for frame in 10..40u32 {
            map(frame);
            wait_for(&memory, u64::from(frame));
            platform.unmap(SPACE, far, PAGE_SIZE).unwrap();
            platform.flush().unwrap();
            // What was loaded before is stored, then the next load faults, and goes on faulting.
            let before = faults.load(Ordering::SeqCst);
            let begun = Instant::now();
            while faults.load(Ordering::SeqCst) < before + 2 {
                assert!(begun.elapsed() < PATIENCE, "frame {frame} is still seen");
                std::thread::yield_now();
            }
            memory.write(u64::from(frame) * PAGE_SIZE, &u64::MAX.to_le_bytes());
            std::thread::sleep(Duration::from_micros(200));
            let mut word = [0; 8];
            memory.read(out, &mut word);
            assert_eq!(u64::from_le_bytes(word), u64::from(frame));
        }
        over.store(true, Ordering::SeqCst);
        interrupter.interrupt();
        running.join().unwrap();
    });
}

/// A guest that touches addresses all over takes more page tables than there are: pages that were mapped
/// fault again, nothing else.
#[test]
fn page_tables_run_out_and_come_back() {
    // 0: mov rax, [rdi]; syscall; jmp 0
    let code = [0x48, 0x8b, 0x07, 0x0f, 0x05, 0xeb, 0xf9];
    let Some(guest) = guest(&code, 2, 64) else {
        return;
    };
    let platform = &guest.platform;
    let mut thread = platform.new_thread(SPACE).unwrap();
    let map = |addr| {
        let backing = Backing::Memory(FrameNo(2));
        platform.map(SPACE, addr, PAGE_SIZE, backing, RW).unwrap();
    };
    let step = 2 << 20;
    let first = 0x10_0000_0000;
    for index in 0..20_000 {
        map(first + index * step);
    }
    platform.flush().unwrap();
    let mut regs = Regs {
        rdi: first,
        ..start()
    };
    let mut faults = 0;
    loop {
        match thread.run(&mut regs).unwrap() {
            Trap::Syscall => break,
            Trap::Fault { addr, .. } if addr == CODE => {
                let backing = Backing::Memory(FrameNo(0));
                let prot = Prot::READ | Prot::EXEC;
                platform.map(SPACE, CODE, PAGE_SIZE, backing, prot).unwrap();
            }
            Trap::Fault { addr, .. } => map(addr),
            other => panic!("{other:?}"),
        }
        platform.flush().unwrap();
        faults += 1;
        assert!(faults < 4);
    }
    assert!(faults > 0, "no page table was taken away");
}

/// Address spaces come and go without end.
#[test]
fn spaces_are_used_up_and_given_back() {
    let Some(guest) = guest(&[0x0f, 0x05], 2, 64) else {
        return;
    };
    let platform = &guest.platform;
    let mut thread = platform.new_thread(SPACE).unwrap();
    for number in 2..3000 {
        let space = SpaceId(number);
        platform.create_space(space).unwrap();
        let frame = 2 + number % 50;
        let backing = Backing::Memory(FrameNo(0));
        let prot = Prot::READ | Prot::EXEC;
        platform.map(space, CODE, PAGE_SIZE, backing, prot).unwrap();
        let backing = Backing::Memory(FrameNo(frame));
        platform.map(space, DATA, PAGE_SIZE, backing, RW).unwrap();
        platform.flush().unwrap();
        platform.enter(&mut thread, space).unwrap();
        platform.drop_space(SpaceId(number - 1));
        platform.flush().unwrap();
        if number % 20 == 0 {
            assert_eq!(thread.run(&mut start()).unwrap(), Trap::Syscall);
        }
    }
}
