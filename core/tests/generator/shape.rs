//! Arguments that belong together: structures behind addresses, and the numbers which calls need to get past
//! their first checks.

use varve_core::machine::ThreadId;
use varve_core::memhost::{BARE_ADDR, BARE_LEN, Machine};

use super::{DATA, Random, SLOT};

/// Where a call that makes an AIO context puts its number.
const CONTEXT: u64 = BARE_ADDR + 120 * SLOT;
const NAMESPACES: &[u64] = &[
    0x2_0000,
    0x400_0000,
    0x800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
    0x200_0000,
    0x1002_0000,
    0x3002_0000,
    0x80,
    0x400,
    0x200,
];
const AT_FDCWD: u64 = -100i64 as u64;

/// What is written where before the call.
type Writes = Vec<(u64, Vec<u8>)>;

fn words(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn halves(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// `struct mount_attr`
fn mount_attr(r: &Random, writes: &mut Writes) -> u64 {
    let set = r.pick(&[0, 1, 0xe, 0x10, 0x20_0080, 0x10_0000]);
    let clear = r.pick(&[0, 1, 0x70, 0x7f, 0x10]);
    let to = r.pick(&[0, 0, 1 << 17, 1 << 18, 1 << 19, 1 << 20]);
    r.put(writes, words(&[set, clear, to, r.fd()]))
}

impl Random {
    /// Puts bytes into a slot; gives its address.
    fn put(&self, writes: &mut Writes, data: Vec<u8>) -> u64 {
        let addr = self.place();
        writes.push((addr, data));
        addr
    }

    /// Seconds and nanoseconds, mostly few.
    fn time(&self) -> [u64; 2] {
        match self.below(12) {
            0 => [self.number(), self.number()],
            1 => [1 << self.below(64), 0],
            2 => [0, 0],
            3 => [0, 1],
            _ => [self.below(3), self.below(1_000_000_000)],
        }
    }

    fn timespec(&self, writes: &mut Writes) -> u64 {
        let time = self.time();
        self.put(writes, words(&time))
    }

    fn itimer(&self, writes: &mut Writes) -> u64 {
        let (interval, value) = (self.time(), self.time());
        self.put(writes, words(&[interval, value].concat()))
    }

    fn buffer(&self) -> [u64; 2] {
        let addr = match self.below(10) {
            0 => 0,
            1 => self.number(),
            2 => BARE_ADDR + self.below(BARE_LEN),
            _ => self.slot(DATA),
        };
        let len = match self.below(12) {
            0 => self.number(),
            1 => self.below(0x2_0000),
            _ => self.below(400),
        };
        [addr, len]
    }

    /// An array of buffers and how many it has.
    fn buffers(&self, writes: &mut Writes) -> [u64; 2] {
        let count = self.below(8);
        let all: Vec<u64> = (0..count).flat_map(|_| self.buffer()).collect();
        let count = match self.chance(20) {
            true => self.pick(&[1024, 1025, u64::MAX, 0]),
            false => count,
        };
        [self.put(writes, words(&all)), count]
    }

    /// The address of a socket and its length.
    fn name(&self, writes: &mut Writes) -> [u64; 2] {
        let number = self.below(6);
        let (mut name, len) = match self.below(8) {
            0..3 => (format!("\0s{number}").into_bytes(), None),
            3..6 => (format!("/tmp/s{number}\0").into_bytes(), None),
            6 => (Vec::new(), Some(2)),
            _ => (vec![b'n'; 120], Some(self.below(130))),
        };
        let len = len.unwrap_or(2 + name.len() as u64);
        let family = match self.chance(16) {
            true => self.below(50) as u8,
            false => 1,
        };
        let mut data = vec![family, 0];
        data.append(&mut name);
        [self.put(writes, data), len]
    }

    fn message(&self, writes: &mut Writes) -> Vec<u64> {
        let name = match self.chance(3) {
            true => self.name(writes),
            false => [0, 0],
        };
        let [iov, count] = self.buffers(writes);
        let control = match self.below(4) {
            0 => [0, 0],
            1 => [self.slot(DATA), self.below(200)],
            kind => {
                // Descriptors or credentials.
                let payload: Vec<u32> = match kind {
                    2 => {
                        let count = 1 + self.below(4);
                        (0..count).map(|_| self.fd() as u32).collect()
                    }
                    _ => vec![self.below(4) as u32, 0, 0],
                };
                let len = 16 + 4 * payload.len() as u64;
                let head = [
                    words(&[len]),
                    halves(&[1, kind as u32 - 1]),
                    halves(&payload),
                ];
                let addr = self.put(writes, head.concat());
                [addr, len.next_multiple_of(8)]
            }
        };
        vec![name[0], name[1], iov, count, control[0], control[1], 0]
    }

    fn message_flags(&self) -> u64 {
        self.pick(&[
            0x40,
            0x40,
            0x4040,
            0x42,
            0x60,
            0x140,
            0x41,
            0xc0,
            0,
            0x4000_0040,
        ])
    }

    /// The request of an AIO.
    fn request(&self, writes: &mut Writes) -> u64 {
        let code = self.pick(&[0, 1, 2, 3, 5, 7, 8, 6]);
        let file = self.fd() as u32;
        let ([addr, len], flags) = match code {
            7 | 8 => (self.buffers(writes), 0),
            5 => ([self.below(0x40), 0], 0),
            _ => (self.buffer(), self.below(3)),
        };
        let offset = self.below(3) * 0x800;
        let mut data = words(&[self.below(99), 0]);
        data.extend(halves(&[code, file]));
        data.extend(words(&[addr, len, offset, 0]));
        data.extend(halves(&[flags as u32, self.fd() as u32]));
        self.put(writes, data)
    }

    /// A program of a seccomp filter: a header, and instructions that mostly go forwards and return.
    fn filter(&self, writes: &mut Writes) -> u64 {
        let count = 1 + self.below(6);
        let mut code = Vec::new();
        for _ in 0..count {
            let op = self.pick(&[0x20u64, 0x15, 0x25, 0x06, 0x54, 0x04, 0x02, 0x60, 0x34]);
            let (yes, no) = (self.below(2), self.below(2));
            let value = self.below(400);
            code.push(op | yes << 16 | no << 24 | value << 32);
        }
        let end = self.pick(&[
            0x7fff_0000u64,
            0x7fff_0000,
            0x5_0001,
            0x3_0000,
            0x7ffc_0000,
            0,
        ]);
        code.push(0x06 | end << 32);
        let insns = self.put(writes, words(&code));
        self.put(writes, words(&[code.len() as u64, insns]))
    }

    /// A process or thread that is there, most of the time.
    fn process(&self, machine: &Machine) -> u64 {
        // Identities of threads begin with 0, their numbers with 1.
        let ids: Vec<u64> = machine
            .threads
            .keys()
            .map(|id| u64::from(id.0) + 1)
            .collect();
        match ids.is_empty() || self.chance(4) {
            true => self.pick(&[0, 1, u64::MAX, 77]),
            false => self.pick(&ids),
        }
    }

    /// One that may end.
    fn other(&self, machine: &Machine) -> u64 {
        match self.process(machine) {
            0 | 1 | u64::MAX => 2,
            other => other,
        }
    }

    /// A set of descriptors, as `select` has it.
    fn set(&self, writes: &mut Writes) -> u64 {
        self.put(writes, words(&[self.below(1 << 24)]))
    }

    fn area(&self) -> [u64; 2] {
        let pages = BARE_LEN / 0x1000;
        let first = DATA.0 * SLOT / 0x1000 + 1;
        let at = first + self.below(pages - first);
        [BARE_ADDR + at * 0x1000, (1 + self.below(8)) * 0x1000]
    }
}

/// Makes arguments of a call plausible; what has to be written before it.
pub fn shape(
    r: &Random,
    machine: &mut Machine,
    thread: ThreadId,
    call: &str,
    args: &mut [u64],
) -> Writes {
    let mut writes = Writes::new();
    let w = &mut writes;
    match call {
        "socket" | "socketpair" => {
            args[0] = r.pick(&[1, 1, 1, 1, 1, 2, 10, 16, 40]);
            args[1] = r.pick(&[1, 2, 5]) | r.pick(&[0, 0o4000, 0o4000, 0o2000000]);
            args[2] = r.pick(&[0, 0, 0, 1, 17]);
        }
        "bind" | "connect" => [args[1], args[2]] = r.name(w),
        "accept" | "accept4" | "getsockname" | "getpeername" => {
            args[2] = r.put(w, words(&[r.below(128)]));
            if call == "accept4" {
                args[3] = r.pick(&[0, 0o4000, 0o2000000]);
            }
        }
        "sendto" => {
            args[2] = r.below(600);
            args[3] = r.message_flags();
            [args[4], args[5]] = if r.chance(2) { r.name(w) } else { [0, 0] };
        }
        "recvfrom" => {
            args[2] = r.below(600);
            args[3] = r.message_flags();
            args[5] = r.put(w, words(&[110]));
        }
        "sendmsg" | "recvmsg" => {
            let message = r.message(w);
            args[1] = r.put(w, words(&message));
            args[2] = r.message_flags();
        }
        "sendmmsg" | "recvmmsg" => {
            let all: Vec<u64> = (0..3)
                .flat_map(|_| [r.message(w), vec![0]].concat())
                .collect();
            args[1] = r.put(w, words(&all));
            args[2] = r.below(4);
            args[3] = r.message_flags();
            if call == "recvmmsg" {
                args[4] = r.timespec(w);
            }
        }
        "setsockopt" | "getsockopt" => {
            args[1] = 1;
            args[2] = r.below(80);
            let value = r.below(3) << r.below(16);
            args[3] = r.put(w, words(&[value, r.below(5)]));
            args[4] = match call {
                "setsockopt" => r.pick(&[4, 4, 8, 16, 1]),
                _ => r.put(w, words(&[r.below(128)])),
            };
        }
        "shutdown" => args[1] = r.below(4),
        "readv" | "writev" | "preadv" | "pwritev" | "preadv2" | "pwritev2" | "vmsplice" => {
            [args[1], args[2]] = r.buffers(w);
            if call.ends_with('2') {
                args[3] = r.pick(&[0, 0x1000, u64::MAX]);
                args[5] = r.pick(&[0, 0, 1, 2, 8, 16]);
            }
        }
        "process_vm_readv" | "process_vm_writev" => {
            args[0] = r.process(machine);
            [args[1], args[2]] = r.buffers(w);
            [args[3], args[4]] = r.buffers(w);
            args[5] = 0;
        }
        "process_madvise" => {
            let area = r.area();
            args[1] = r.put(w, words(&area));
            args[2] = 1;
            args[3] = r.pick(&[20, 21, 4, 3]);
            args[4] = 0;
        }
        "mount" => {
            args[0] = r.string();
            args[1] = r.path();
            args[2] = r.string();
            args[3] = r.pick(&[
                0, 0, 1, 0x20, 0x1000, 0x5000, 0x2000, 0x4_0000, 0x10_0000, 0x8_0000, 0x2_0000,
                0x14_0000, 0x1021, 0x10_4000,
            ]);
            args[4] = r.pick(&[0, r.string()]);
        }
        "fsopen" => {
            args[0] = r.string();
            args[1] = r.pick(&[0, 0, 1]);
        }
        "fsconfig" => {
            args[1] = r.below(9);
            args[2] = if args[1] < 6 { r.string() } else { 0 };
            args[3] = match args[1] {
                1 | 2 => r.string(),
                3 | 4 => r.path(),
                _ => 0,
            };
            args[4] = match args[1] {
                2 => 8,
                3 | 4 => r.pick(&[AT_FDCWD, r.fd()]),
                5 => r.fd(),
                _ => 0,
            };
        }
        "fsmount" => {
            args[1] = r.pick(&[0, 1]);
            args[2] = r.pick(&[0, 1, 0xf, 0x10, 0x20, 0x20_0080]);
        }
        "fspick" => args[2] = r.pick(&[0, 1, 2, 8]),
        "open_tree" | "open_tree_attr" => {
            args[2] = r.pick(&[1, 1, 0x8001, 0x9001, 0x1000, 0]);
            if call == "open_tree_attr" {
                args[3] = r.pick(&[0, mount_attr(r, w)]);
                args[4] = r.pick(&[0, 32]);
            }
        }
        "move_mount" => {
            args[4] = r.pick(&[0, 4, 4, 0x44, 0x40, 0x11]) | r.pick(&[0, 0, 0, 0x100, 0x200]);
        }
        "mount_setattr" => {
            args[2] = r.pick(&[0, 0x8000, 0x1000, 0x9000]);
            args[3] = mount_attr(r, w);
            args[4] = 32;
        }
        "umount2" => args[1] = r.pick(&[0, 1, 2, 2, 4, 8]),
        "unshare" => args[0] = r.pick(NAMESPACES),
        "setns" => args[1] = r.pick(&[0, r.pick(NAMESPACES)]),
        "clone" => {
            args[0] =
                17 | r.pick(&[
                    0, 0, 0x100, 0x4000, 0x800, 0x1_0f00, 0x11_0f00, 0x1000, 0x8000,
                ]) | r.pick(&[0, 0, r.pick(NAMESPACES)]);
            args[1] = r.pick(&[0, BARE_ADDR + BARE_LEN - 0x2000]);
        }
        "clone3" => {
            let flags = r.pick(&[0, 0x100, 0x1_0f00, 0x3d_0f00, 0x1_0000_0000, 0x1000])
                | r.pick(&[0, 0, r.pick(NAMESPACES)]);
            let (pid, child, parent) = (r.slot(DATA), r.slot(DATA), r.slot(DATA));
            let stack = r.pick(&[[0, 0], [BARE_ADDR + BARE_LEN - 0x4000, 0x2000]]);
            let tail = [stack[0], stack[1], 0, 0, 0, 0];
            let head = [flags, pid, child, parent, r.pick(&[17, 17, 0])];
            args[0] = r.put(w, words(&[&head[..], &tail].concat()));
            args[1] = r.pick(&[64, 80, 88]);
        }
        "wait4" => {
            args[0] = r.pick(&[u64::MAX, 0, r.other(machine)]);
            args[2] = r.pick(&[1, 1, 3, 9, 11, 0x4000_0001]);
        }
        "waitid" => {
            args[0] = r.below(4);
            args[1] = r.process(machine);
            args[3] = 1 | r.pick(&[2, 4, 6, 8, 14]) | r.pick(&[0, 0x100_0000]);
        }
        "epoll_ctl" => {
            args[1] = r.pick(&[1, 1, 1, 2, 3]);
            let events = r.pick(&[1, 5, 0x8000_0001, 0x4000_0001, 0x2005, 0x1000_0001]);
            args[3] = r.put(w, halves(&[events, r.below(128) as u32, 0]));
        }
        "epoll_wait" | "epoll_pwait" => {
            args[2] = r.below(20);
            args[3] = r.pick(&[0, 0, 0, 10, u64::MAX]);
            if call == "epoll_pwait" {
                [args[4], args[5]] = r.pick(&[[0, 8], [args[1], 8]]);
            }
        }
        "epoll_pwait2" => {
            args[2] = r.below(20);
            args[3] = r.timespec(w);
            [args[4], args[5]] = r.pick(&[[0, 8], [args[1], 8]]);
        }
        "poll" | "ppoll" => {
            let count = r.below(8);
            let polls: Vec<u32> = (0..count)
                .flat_map(|_| [r.fd() as u32, r.pick(&[1, 4, 5, 0x2000])])
                .collect();
            args[0] = r.put(w, halves(&polls));
            args[1] = count;
            args[2] = match call {
                "poll" => r.pick(&[0, 0, 10, u64::MAX]),
                _ => r.timespec(w),
            };
            if call == "ppoll" {
                [args[3], args[4]] = r.pick(&[[0, 8], [args[0], 8]]);
            }
        }
        "select" | "pselect6" => {
            args[0] = r.below(40);
            for set in &mut args[1..4] {
                *set = r.pick(&[0, r.set(w)]);
            }
            args[4] = r.timespec(w);
        }
        "io_setup" => {
            args[0] = 1 + r.below(40);
            args[1] = CONTEXT;
            w.push((CONTEXT, vec![0; 8]));
        }
        "io_submit" | "io_getevents" | "io_pgetevents" | "io_cancel" | "io_destroy" => {
            let number = machine.peek(thread, CONTEXT, 8).unwrap_or_default();
            args[0] = u64::from_le_bytes(number.try_into().unwrap_or_default());
            match call {
                "io_submit" => {
                    args[1] = 1 + r.below(4);
                    let all: Vec<u64> = (0..args[1]).map(|_| r.request(w)).collect();
                    args[2] = r.put(w, words(&all));
                }
                "io_cancel" => args[1] = r.slot(DATA),
                "io_destroy" => {}
                _ => {
                    args[1] = r.below(2);
                    args[2] = r.below(9);
                    args[4] = r.timespec(w);
                }
            }
        }
        "seccomp" => {
            args[0] = r.pick(&[1, 1, 1, 2, 0]);
            args[1] = r.pick(&[0, 0, 1, 2, 16]);
            args[2] = r.filter(w);
        }
        "prctl" => {
            args[0] = r.pick(&[1, 4, 8, 15, 22, 23, 24, 29, 36, 38, 47, 39, 40, 35]);
            args[1] = r.pick(&[0, 1, 2, r.string()]);
            if args[0] == 22 && args[1] == 2 {
                args[2] = r.filter(w);
            } else if r.chance(2) {
                args[2..].fill(0);
            }
        }
        "rt_sigaction" => {
            let handler = r.pick(&[0, 1, BARE_ADDR + 0x400, BARE_ADDR + 0x400]);
            let flags = 0x400_0000
                | r.pick(&[
                    0,
                    4,
                    0x1000_0000,
                    0x4000_0000,
                    0x800_0000,
                    0x8000_0000,
                    2,
                    1,
                ]);
            args[1] = r.put(w, words(&[handler, flags, BARE_ADDR + 0x800, r.below(128)]));
            args[3] = 8;
        }
        "rt_sigprocmask" => {
            args[0] = r.below(3);
            args[3] = 8;
        }
        "rt_sigpending" | "rt_sigsuspend" => args[1] = 8,
        "rt_sigtimedwait" => {
            args[2] = r.timespec(w);
            args[3] = 8;
        }
        "rt_sigqueueinfo" | "rt_tgsigqueueinfo" => {
            let last = args.len() - 1;
            args[last - 1] = r.pick(&[10, 12, 34, 35, 64, 17]);
            args[..last - 1].fill(r.other(machine));
            let head = halves(&[args[last - 1] as u32, 0, -1i32 as u32, 0, 1, 0, 7]);
            args[last] = r.put(w, head);
        }
        "kill" | "tkill" | "tgkill" => {
            let last = args.len() - 1;
            args[..last].fill(r.other(machine));
            args[last] = r.pick(&[0, 10, 12, 14, 18, 19, 20, 34, 64, 15, 9]);
        }
        "sigaltstack" => {
            let size = r.pick(&[2048, 8192, 100]);
            args[0] = r.put(w, words(&[BARE_ADDR + BARE_LEN - 0x6000, r.below(3), size]));
        }
        "timer_create" => {
            args[0] = r.pick(&[0, 1, 2, 3, 7]);
            let signal = r.pick(&[10, 14, 34]);
            let how = r.pick(&[0, 1, 1, 4]);
            let thread = r.process(machine) as u32;
            let event = [5, 0, signal, how, thread];
            args[1] = r.pick(&[0, r.put(w, halves(&event))]);
        }
        "timer_settime" => {
            args[0] = r.below(4);
            args[1] = r.below(2);
            args[2] = r.itimer(w);
        }
        "timer_gettime" | "timer_getoverrun" | "timer_delete" => args[0] = r.below(4),
        "timerfd_create" => {
            args[0] = r.pick(&[0, 1, 7]);
            args[1] = r.pick(&[0, 0o4000, 0o4000]);
        }
        "timerfd_settime" => {
            args[1] = r.below(4);
            args[2] = r.itimer(w);
        }
        "setitimer" => {
            args[0] = r.below(3);
            args[1] = r.itimer(w);
        }
        "nanosleep" => args[0] = r.timespec(w),
        "clock_nanosleep" => {
            args[0] = r.pick(&[0, 1, 2, 7]);
            args[1] = r.below(2);
            args[2] = r.timespec(w);
        }
        "signalfd" | "signalfd4" => {
            args[0] = r.pick(&[u64::MAX, args[0]]);
            args[1] = r.put(w, words(&[1 << 9 | 1 << 11 | 1 << 33]));
            args[2] = 8;
            if call == "signalfd4" {
                args[3] = r.pick(&[0, 0o4000]);
            }
        }
        "eventfd2" | "epoll_create1" | "inotify_init1" | "pipe2" => {
            *args.last_mut().expect("it has flags") = r.pick(&[0, 0o4000, 0o4000, 1, 0o40000]);
        }
        "inotify_add_watch" => args[2] = r.pick(&[0xfff, 0xfff, 2, 0x4000_0002, 0x8000_0fff]),
        "inotify_rm_watch" => args[1] = r.below(5),
        "fcntl" => {
            args[1] = r.pick(&[
                0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 36, 37, 38, 1030, 1031, 1032, 1033,
                1034, 1024, 1025, 1026,
            ]);
            if (5..8).contains(&args[1]) || (36..39).contains(&args[1]) {
                let kind = r.below(3) | r.below(3) << 16;
                let range = [kind, r.below(9), r.below(9), r.below(3)];
                args[2] = r.put(w, words(&range));
            }
        }
        "flock" => args[1] = r.pick(&[5, 6, 8, 1, 2]),
        "ioctl" => {
            args[1] = r.pick(&[
                0x5401,
                0x5402,
                0x5403,
                0x540f,
                0x5410,
                0x5411,
                0x5413,
                0x5414,
                0x541b,
                0x5421,
                0x5450,
                0x5451,
                0x5429,
                0xb701,
                0xb702,
                0xb703,
                0xb704,
                0x8008_6601,
                0x5422,
                0x540e,
            ]);
        }
        "futex" => {
            args[0] = r.slot((DATA.0, 4));
            args[1] = r.below(14) | r.pick(&[0, 128, 128, 256]);
            args[2] = r.below(3);
            args[3] = match args[1] & 15 {
                3..6 | 12 => r.below(3),
                _ => r.timespec(w),
            };
            args[4] = r.slot((DATA.0, 4));
            args[5] = r.pick(&[0, 1, u64::from(u32::MAX)]);
        }
        "futex_waitv" => {
            args[1] = 1 + r.below(4);
            let all: Vec<u64> = (0..args[1])
                .flat_map(|_| [r.below(3), r.slot((DATA.0, 4)), r.pick(&[2, 0x82])])
                .collect();
            args[0] = r.put(w, words(&all));
            args[2] = 0;
            args[3] = r.timespec(w);
            args[4] = r.below(2);
        }
        "futex_wait" => {
            args[0] = r.slot((DATA.0, 4));
            args[1] = r.below(3);
            [args[2], args[3]] = [u64::from(u32::MAX), r.pick(&[2, 0x82])];
            args[4] = r.timespec(w);
            args[5] = r.below(2);
        }
        "futex_wake" => {
            args[0] = r.slot((DATA.0, 4));
            [args[1], args[3]] = [u64::from(u32::MAX), r.pick(&[2, 0x82])];
        }
        "futex_requeue" => {
            let both = [0, r.slot((DATA.0, 4)), 0x82, 0, r.slot((DATA.0, 4)), 0x82];
            args[0] = r.put(w, words(&both));
            [args[1], args[2], args[3]] = [0, r.below(3), r.below(3)];
        }
        "openat2" => {
            let flags = r.pick(&[0, 2, 0o102, 0o200000, 0o10000000]);
            let mode = if flags & 0o100 == 0 { 0 } else { 0o644 };
            args[2] = r.put(w, words(&[flags, mode, r.pick(&[0, 1, 2, 4, 8, 16, 32])]));
            args[3] = 24;
        }
        "splice" | "sendfile" | "copy_file_range" | "tee" => {
            let numbers = args.len();
            if numbers == 6 {
                args[1] = r.pick(&[0, 0, args[1]]);
                args[3] = r.pick(&[0, 0, args[3]]);
                args[5] = r.pick(&[0, 0, 2]);
            }
            if call == "tee" {
                args[3] = r.pick(&[0, 2]);
            }
            args[numbers.min(5) - 1 - usize::from(call == "tee")] = r.below(0x4000);
        }
        "mremap" => {
            [args[0], args[1]] = r.area();
            args[2] = r.below(8) * 0x1000;
            args[3] = r.pick(&[0, 1, 1, 3, 5]);
            args[4] = r.area()[0];
        }
        "munmap" | "mprotect" | "madvise" | "msync" | "mlock" | "munlock" | "mlock2"
        | "mincore" | "mseal" | "pkey_mprotect" | "mbind" | "remap_file_pages" => {
            [args[0], args[1]] = r.area();
            match call {
                "madvise" => args[2] = r.pick(&[0, 3, 4, 8, 9, 10, 11, 14, 17, 18, 19, 22, 23, 21]),
                "msync" => args[2] = r.pick(&[1, 2, 4]),
                "mlock2" => args[2] = r.below(2),
                "mseal" => args[2] = 0,
                "pkey_mprotect" => args[3] = u64::MAX,
                "remap_file_pages" => [args[2], args[3], args[4]] = [0, r.below(4), 0],
                _ => {}
            }
        }
        "mmap" => {
            args[0] = r.pick(&[0, 0, 0x4000_0000]);
            args[1] = r.pick(&[0x1000, 0x2000, 0x1_0000, 0x40_0000, 0x4000_0000]);
            args[2] = r.pick(&[3, 3, 1, 5, 7, 0]);
            args[5] = r.pick(&[0, 0, 0x1000]);
        }
        "execve" => args[0] = BARE_ADDR + 35 * SLOT,
        "execveat" => args[..2].copy_from_slice(&[AT_FDCWD, BARE_ADDR + 35 * SLOT]),
        "pidfd_open" => {
            args[0] = r.process(machine);
            args[1] = r.pick(&[0, 0o4000, 0o200]);
        }
        "pidfd_send_signal" => {
            args[1] = r.pick(&[0, 10, 18, 19, 34, 9]);
            args[2..].fill(0);
        }
        "pidfd_getfd" => args[2] = 0,
        "kcmp" => {
            [args[0], args[1]] = [r.process(machine), r.process(machine)];
            args[2] = r.below(9);
            [args[3], args[4]] = [r.fd(), r.fd()];
        }
        "capset" | "capget" => {
            args[0] = r.put(w, halves(&[0x2008_0522, r.pick(&[0, 0, 1])]));
            args[1] = match call {
                "capset" => r.put(w, words(&[r.below(128); 3])),
                _ => args[1],
            };
        }
        "prlimit64" | "setrlimit" => {
            let resource = usize::from(call == "prlimit64");
            args[resource] = r.below(17);
            let limits = [r.below(100) << r.below(20), r.pick(&[1 << 20, u64::MAX])];
            args[resource + 1] = r.pick(&[0, r.put(w, words(&limits))]);
        }
        "membarrier" => [args[0], args[1]] = [r.pick(&[0, 1, 2, 4, 8, 16]), 0],
        "memfd_create" => args[1] = r.pick(&[0, 1, 2]),
        "fallocate" => args[1] = r.pick(&[0, 1, 3, 16, 17, 8, 32, 64]),
        "renameat2" => args[4] = r.pick(&[0, 1, 2, 4]),
        "close_range" => {
            [args[0], args[1]] = [4 + r.below(30), 4 + r.below(40)];
            args[2] = r.pick(&[0, 2, 4]);
        }
        // What files of `/proc` take.
        "write" | "pwrite64" if r.chance(2) => [args[1], args[2]] = [r.string(), r.below(8)],
        "close" => args[0] = 3 + r.below(80),
        "sethostname" | "setdomainname" => args[1] = r.below(66),
        "set_robust_list" => {
            let head = r.slot((DATA.0, 4));
            let list = [head, 8u64.wrapping_neg(), 0, head];
            args[0] = r.put(w, words(&list[..3 + usize::from(r.chance(2))]));
            args[1] = 24;
        }
        "setxattr" | "lsetxattr" | "fsetxattr" => {
            args[1] = BARE_ADDR + (64 + 8) * SLOT;
            args[3] = r.below(300);
            args[4] = r.pick(&[0, 0, 1, 2]);
        }
        "sched_setaffinity" => args[1] = r.pick(&[8, 128]),
        "sched_setattr" => {
            let head = [48u64 | r.below(7) << 32, 0, r.below(20), 0, 0, 0];
            args[1] = r.put(w, words(&head));
            args[2] = 0;
        }
        _ => {}
    }
    writes
}
