//! What programs see of the process that runs them, and what others outside can do to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use varve_core::abi::{PAGE_SIZE, TASK_SIZE};
use varve_core::machine::{Backing, FrameNo, Prot, Regs, SpaceId, Trap};
use varve_core::port::Memory;
use varve_host::{Backings, GuestThread, MemoryFile, Platform};
use varve_host_ptrace::Ptrace;

const SPACE: SpaceId = SpaceId(1);
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);
/// One test at a time: signals go to all processes of guests that there are.
static ALONE: Mutex<()> = Mutex::new(());

/// A platform with code in frame 0 and a page of data in frame 1; `None` where ptrace does not work.
fn platform(code: &[u8]) -> Option<(Ptrace, MemoryFile)> {
    let mut memory = MemoryFile::new(16).unwrap();
    memory.write(0, code);
    let fd = memory.fd().try_clone_to_owned().unwrap();
    let platform = Ptrace::new(Arc::new(Backings::new(fd, Vec::new())))
        .inspect_err(|error| eprintln!("SKIP: {error}"))
        .ok()?;
    platform.create_space(SPACE).unwrap();
    map(&platform, CODE, 0, Prot::READ | Prot::EXEC);
    map(&platform, DATA, 1, RW);
    Some((platform, memory))
}

fn map(platform: &Ptrace, addr: u64, frame: u32, prot: Prot) {
    let backing = Backing::Memory(FrameNo(frame));
    platform.map(SPACE, addr, PAGE_SIZE, backing, prot).unwrap();
}

fn start(offset: u64) -> Regs {
    Regs {
        rip: CODE + offset,
        rsp: DATA + 0x800,
        cs: 0x33,
        ss: 0x2b,
        eflags: 0x202,
        ..Regs::default()
    }
}

/// A 32-bit system call whose stack is not there sends the program where the host's kernel believes its
/// library to be. That must not be where the library of varve is.
#[test]
fn the_place_of_varves_own_vdso_is_not_told() {
    let _alone = ALONE.lock();
    let call = [0xb8, 20, 0, 0, 0, 0xbd, 16, 0, 0, 0, 0xbc, 16, 0, 0, 0];
    // Intel: mov $20, %eax; mov $16, %ebp; mov $16, %esp; sysenter
    let mut code = call.to_vec();
    code.extend([0x0f, 0x34]);
    // AMD: push $0x23; push $CODE + 80; lretq; the same with `syscall` there, as 32-bit code
    code.resize(64, 0xcc);
    code.extend([0x6a, 0x23, 0x68, 80, 0, 0x40, 0, 0x48, 0xcb]);
    code.resize(80, 0xcc);
    code.extend(call);
    code.extend([0x0f, 0x05]);
    let Some((platform, _memory)) = platform(&code) else {
        return;
    };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let vdso = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let (first, rest) = vdso.split_once('-').unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let own = number(first)..number(rest.split(' ').next().unwrap());
    let mut thread = platform.new_thread(SPACE).unwrap();
    for offset in [0, 64] {
        let mut regs = start(offset);
        let trap = thread.run(&mut regs).unwrap();
        println!("{trap:x?} at {:#x}", regs.rip);
        assert!(!own.contains(&regs.rip), "{:#x}", regs.rip);
        let fixed = TASK_SIZE..TASK_SIZE + (1 << 20);
        let page = CODE..CODE + PAGE_SIZE;
        assert!(fixed.contains(&regs.rip) || page.contains(&regs.rip));
        if let Trap::Fault { addr, .. } = trap {
            assert!(!own.contains(&addr), "{addr:#x}");
        }
    }
}

/// The processes that this one has made.
fn children() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let numbers = list.split_whitespace().map(|text| text.parse().unwrap());
            numbers.collect::<Vec<i32>>()
        })
        .collect()
}

/// Somebody who may signal the processes of guests cannot make varve believe that a page operation is done,
/// nor end them but by SIGKILL.
#[test]
fn signals_from_outside_change_nothing() {
    let _alone = ALONE.lock();
    // mov [rdi], rax; syscall
    let Some((platform, memory)) = platform(&[0x48, 0x89, 0x07, 0x0f, 0x05]) else {
        return;
    };
    let over = AtomicBool::new(false);
    let mut thread = platform.new_thread(SPACE).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let signals = [libc::SIGTRAP, libc::SIGSEGV, libc::SIGTRAP, libc::SIGUSR1];
            while !over.load(Ordering::SeqCst) {
                for pid in children() {
                    for signal in signals {
                        // SAFETY: signals children of this test, which are there as long as they are listed,
                        // or at worst zombies.
                        unsafe { libc::kill(pid, signal) };
                    }
                }
                std::thread::yield_now();
            }
        });
        for round in 1..2000 {
            let page = DATA + (1 + round % 8) * PAGE_SIZE;
            platform.unmap(SPACE, DATA, 16 * PAGE_SIZE).unwrap();
            map(&platform, page, 2, RW);
            let mut regs = Regs {
                rdi: page,
                rax: round,
                ..start(0)
            };
            let trap = thread.run(&mut regs);
            let mut word = [0; 8];
            memory.read(2 * PAGE_SIZE, &mut word);
            let right = matches!(trap, Ok(Trap::Syscall)) && u64::from_le_bytes(word) == round;
            if !right {
                over.store(true, Ordering::SeqCst);
                panic!("round {round}: {trap:?}, {word:?} at {:#x}", regs.rip);
            }
        }
        over.store(true, Ordering::SeqCst);
    });
}
