//! A kernel on the in-memory host with nothing round it: calls cost what the core costs.
#![allow(dead_code, reason = "each test binary uses a part")]

use varve_core::Kernel;
use varve_core::event::{Input, Now, Output};
use varve_core::machine::{Regs, ThreadId, Trap};
use varve_core::memhost::{BARE_ADDR, MemHost, bare, empty_root};

/// Memory for arguments.
pub const PATH: u64 = BARE_ADDR;
pub const DATA: u64 = BARE_ADDR + 0x1000;
/// What is read and written at once where it is much.
pub const LONG: u64 = 65536;
pub const FDS: u64 = BARE_ADDR + 0x2000;

pub struct Direct {
    kernel: Kernel,
    host: MemHost,
    thread: ThreadId,
    regs: Regs,
    now: Now,
}

impl Direct {
    pub fn boot() -> Direct {
        let mut host = MemHost::new(4096, Vec::new());
        let now = Now {
            mono: 0,
            real: 1_700_000_000_000_000_000,
            spent: 0,
        };
        let mut kernel =
            Kernel::boot(bare(empty_root()), &mut host.ports(), now).expect("it boots");
        let mut started = None;
        while let Some(output) = kernel.poll_output() {
            if let Output::StartThread { thread, regs, .. } = output {
                started = Some((thread, regs));
            }
        }
        let (thread, regs) = started.expect("the first thread starts");
        Direct {
            kernel,
            host,
            thread,
            regs,
            now,
        }
    }

    /// Writes to the memory of the program.
    pub fn poke(&mut self, addr: u64, data: &[u8]) {
        let ports = &mut self.host.ports();
        let poked = self.kernel.poke(ports, self.thread, addr, data);
        poked.expect("the memory is there");
        while self.kernel.poll_output().is_some() {}
    }

    pub fn peek_u32(&mut self, addr: u64) -> u64 {
        let mut word = [0; 4];
        let ports = &mut self.host.ports();
        let peeked = self.kernel.peek(ports, self.thread, addr, &mut word);
        peeked.expect("the memory is there");
        while self.kernel.poll_output().is_some() {}
        u64::from(u32::from_le_bytes(word))
    }

    /// Hands in a trap; gives how many pages were mapped.
    fn input(&mut self, trap: Trap) -> u64 {
        self.now.mono += 100;
        self.now.real += 100;
        let input = Input::Trap {
            thread: self.thread,
            regs: self.regs,
            trap,
        };
        self.kernel.handle(&mut self.host.ports(), self.now, input);
        let (mut resumed, mut mapped) = (false, 0);
        while let Some(output) = self.kernel.poll_output() {
            match output {
                Output::Resume { regs, .. } => (self.regs, resumed) = (regs, true),
                Output::Map { len, .. } => mapped += len / 4096,
                _ => {}
            }
        }
        assert!(resumed, "the program goes on");
        mapped
    }

    /// A system call that does not wait.
    pub fn call(&mut self, number: u64, args: [u64; 4]) -> i64 {
        self.regs.orig_rax = number;
        let [rdi, rsi, rdx, r10] = args;
        (self.regs.rdi, self.regs.rsi) = (rdi, rsi);
        (self.regs.rdx, self.regs.r10) = (rdx, r10);
        self.input(Trap::Syscall);
        self.regs.rax as i64
    }

    /// As [`call`](Self::call), with all arguments.
    pub fn call6(&mut self, number: u64, args: [u64; 6]) -> i64 {
        (self.regs.r8, self.regs.r9) = (args[4], args[5]);
        self.call(number, [args[0], args[1], args[2], args[3]])
    }

    /// A page fault; gives how many pages were mapped.
    pub fn write_fault(&mut self, addr: u64) -> u64 {
        let access = Some(varve_core::machine::Access::Write);
        self.input(Trap::Fault { addr, access })
    }
}

/// A step that is made again and again.
pub struct Step {
    pub name: &'static str,
    /// System calls in one step.
    pub calls: u32,
    pub run: fn(&mut Direct, &Files),
}

/// Descriptors that steps work on.
pub struct Files {
    pub pipe: [u64; 2],
    pub file: u64,
    /// A file of [`LONG`] bytes, and as much memory.
    pub long: u64,
    pub buffer: u64,
    pub event: u64,
    pub epoll: u64,
}

/// Makes the files.
pub fn files(d: &mut Direct) -> Files {
    assert_eq!(d.call(22, [FDS, 0, 0, 0]), 0, "pipe");
    let pipe = [d.peek_u32(FDS), d.peek_u32(FDS + 4)];
    d.poke(PATH, b"/file\0");
    let file = d.call(2, [PATH, 0o102, 0o644, 0]) as u64;
    assert_eq!(d.call(1, [file, DATA, 100, 0]), 100, "write");
    d.poke(PATH, b"/long\0");
    let long = d.call(2, [PATH, 0o102, 0o644, 0]) as u64;
    let buffer = d.call6(9, [0, LONG, 3, 0x22, u64::MAX, 0]) as u64;
    for page in (0..LONG).step_by(4096) {
        d.write_fault(buffer + page);
    }
    is(d.call(18, [long, buffer, LONG, 0]), LONG as i64);
    d.poke(PATH, b"/file\0");
    let event = d.call(290, [0, 0, 0, 0]) as u64;
    let epoll = d.call(291, [0, 0, 0, 0]) as u64;
    d.poke(FDS, &[1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(d.call(233, [epoll, 1, pipe[0], FDS]), 0, "epoll_ctl");
    Files {
        pipe,
        file,
        long,
        buffer,
        event,
        epoll,
    }
}

#[track_caller]
fn is(result: i64, wanted: i64) {
    assert_eq!(result, wanted);
}

/// Simple calls that do not wait, on warm state.
pub static STEPS: &[Step] = &[
    Step {
        name: "getppid",
        calls: 1,
        run: |d, _| is(d.call(110, [0; 4]), 0),
    },
    Step {
        name: "clock_gettime",
        calls: 1,
        run: |d, _| is(d.call(228, [1, DATA, 0, 0]), 0),
    },
    Step {
        name: "pipe: write and read of 1 byte",
        calls: 2,
        run: |d, f| {
            is(d.call(1, [f.pipe[1], DATA, 1, 0]), 1);
            is(d.call(0, [f.pipe[0], DATA, 1, 0]), 1);
        },
    },
    Step {
        name: "stat",
        calls: 1,
        run: |d, _| is(d.call(4, [PATH, DATA, 0, 0]), 0),
    },
    Step {
        name: "fstat",
        calls: 1,
        run: |d, f| is(d.call(5, [f.file, DATA, 0, 0]), 0),
    },
    Step {
        name: "access",
        calls: 1,
        run: |d, _| is(d.call(21, [PATH, 4, 0, 0]), 0),
    },
    Step {
        name: "futex wake",
        calls: 1,
        run: |d, _| is(d.call(202, [DATA, 129, 1, 0]), 0),
    },
    Step {
        name: "futex wait on another value",
        calls: 1,
        run: |d, _| is(d.call(202, [FDS, 128, 12345, 0]), -11),
    },
    Step {
        name: "lseek",
        calls: 1,
        run: |d, f| is(d.call(8, [f.file, 0, 0, 0]), 0),
    },
    Step {
        name: "pread",
        calls: 1,
        run: |d, f| is(d.call(17, [f.file, DATA, 100, 0]), 100),
    },
    Step {
        name: "pwrite",
        calls: 1,
        run: |d, f| is(d.call(18, [f.file, DATA, 100, 0]), 100),
    },
    Step {
        name: "pread of 64 KiB",
        calls: 1,
        run: |d, f| is(d.call(17, [f.long, f.buffer, LONG, 0]), LONG as i64),
    },
    Step {
        name: "pwrite of 64 KiB",
        calls: 1,
        run: |d, f| is(d.call(18, [f.long, f.buffer, LONG, 0]), LONG as i64),
    },
    Step {
        name: "poll",
        calls: 1,
        run: |d, _| is(d.call(7, [0, 0, 0, 0]), 0),
    },
    Step {
        name: "epoll_wait",
        calls: 1,
        run: |d, f| is(d.call(232, [f.epoll, DATA, 4, 0]), 0),
    },
    Step {
        name: "eventfd: write and read",
        calls: 2,
        run: |d, f| {
            d.poke(DATA + 64, &1u64.to_le_bytes());
            is(d.call(1, [f.event, DATA + 64, 8, 0]), 8);
            is(d.call(0, [f.event, DATA + 64, 8, 0]), 8);
        },
    },
    Step {
        name: "rt_sigprocmask",
        calls: 1,
        run: |d, _| is(d.call(14, [0, 0, DATA, 8]), 0),
    },
    Step {
        name: "sched_yield",
        calls: 1,
        run: |d, _| is(d.call(24, [0; 4]), 0),
    },
    Step {
        name: "brk",
        calls: 1,
        run: |d, _| assert!(d.call(12, [0; 4]) >= 0),
    },
    Step {
        name: "madvise",
        calls: 1,
        run: |d, _| is(d.call(28, [DATA, 4096, 3, 0]), 0),
    },
];
