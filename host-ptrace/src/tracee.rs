//! One traced process: making it, stopping it, its registers. Every `ptrace` request stands here.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use libc::{c_int, c_long, c_void, pid_t};
use varve_core::abi::PAGE_SIZE;
use varve_core::machine::Regs;
use varve_host::{PlatformError, failed};

use crate::process::{KICK, Process};
use crate::stub::{self, Batch, Call};

/// Note type of the XSAVE area (`elf.h`).
const NT_X86_XSTATE: usize = 0x202;
/// Offset of `rax` in `struct user`.
const USER_RAX: usize = 10 * 8;
/// Note type of the general registers (`elf.h`).
const NT_PRSTATUS: usize = 1;
/// Bytes of the general registers before the segment bases and the data segments.
const HEAD: usize = std::mem::offset_of!(Regs, fs_base);
/// One past the highest segment base that a tracer can set.
const BASE_END: u64 = 0x7fff_ffff_f000;

/// Ends a process when the thread that it is a child of ends: nobody traces it for a while.
pub(crate) const DIE_WITH_VARVE: Call = Call {
    number: libc::SYS_prctl as u64,
    args: [
        libc::PR_SET_PDEATHSIG as u64,
        libc::SIGKILL as u64,
        0,
        0,
        0,
        0,
    ],
};

/// A traced process of this host thread. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Tracee {
    pub process: Arc<Process>,
    gone: bool,
}

/// How a process stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopped {
    /// Before a system call.
    Syscall,
    /// By a signal on its way to it.
    Signal(c_int),
    /// By varve.
    Kicked,
    /// For something else that concerns nobody (an event of tracing).
    Other,
    /// It is dead.
    Gone,
}

fn request(request: c_int, pid: pid_t, addr: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: the callers pass what the request needs: plain numbers, or pointers to live objects of the
    // right size. The PEEK requests, whose results are not errors, are not used.
    let result =
        unsafe { libc::ptrace(request as _, pid, addr as *mut c_void, data as *mut c_void) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Waits for one process.
fn wait(pid: pid_t) -> io::Result<c_int> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live integer.
        let result = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if result == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Waits for the end of a child of varve that was killed, is not traced, and that nobody else waits for.
pub(crate) fn reap(pid: pid_t) {
    while let Ok(status) = wait(pid) {
        if !libc::WIFSTOPPED(status) {
            break;
        }
    }
}

/// Where the vDSO of this process is: address and length.
fn vdso() -> Option<(u64, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    Some((start, end - start))
}

/// The processors that varve may use.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Lets a process (or this thread, for 0) run on one processor only. Failure costs speed, nothing else.
pub(crate) fn pin(pid: pid_t, cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    let _ = rustix::thread::sched_setaffinity(rustix::process::Pid::from_raw(pid), &set);
}

impl Tracee {
    /// Makes a process that holds nothing but the stub pages, stopped, by a fork of varve.
    pub(crate) fn fork(batch: &Batch, slot: u32) -> Result<Tracee, PlatformError> {
        let here = 0u8;
        if &raw const here as u64 >= stub::CODE {
            let text = "the addresses of the stub pages are varve's own here";
            return Err(PlatformError::Host(text.into()));
        }
        let flags = libc::CLONE_FILES as u64 | libc::SIGCHLD as u64;
        let fd = batch.fd().as_raw_fd();
        // SAFETY: a fork with a copy of this address space; the descriptors stay shared, which is what
        // mapping files later needs. The child runs only `child`, which makes raw system calls and never
        // returns, so no lock that another thread held matters.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0u64, 0u64, 0u64, 0u64) } as pid_t;
        if pid == 0 {
            child(fd, Batch::offset(slot));
        }
        if pid < 0 {
            return Err(failed("a guest process")(io::Error::last_os_error()));
        }
        let mut tracee = Tracee::new(pid).map_err(failed("a descriptor of a guest process"))?;
        tracee.set_up().map_err(failed("tracing a guest process"))?;
        Ok(tracee)
    }

    /// A process that was just made; it is ended if it cannot be had.
    fn new(pid: pid_t) -> io::Result<Tracee> {
        let process = Process::new(pid).inspect_err(|_| {
            // SAFETY: sends a signal, touches no memory. It is a child that nobody has waited for, so the
            // number is its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            reap(pid);
        })?;
        Ok(Tracee {
            process: Arc::new(process),
            gone: false,
        })
    }

    fn pid(&self) -> pid_t {
        self.process.pid
    }

    fn set_up(&mut self) -> Result<(), PlatformError> {
        let status = wait(self.pid())?;
        if !libc::WIFSTOPPED(status) {
            self.gone = true;
            // As the system says it.
            let refused = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(PlatformError::Host(refused.to_string()));
        }
        self.set_options()?;
        self.forget_rseq()?;
        let unmap = |addr: u64, len: u64| Call {
            number: libc::SYS_munmap as u64,
            args: [addr, len, 0, 0, 0, 0],
        };
        // The host's kernel keeps in mind where its library is mapped, and sends 32-bit system calls that
        // fail early back to there. It lies where varve's own does, which is none of the guest's business: it
        // is moved to the same place in every run, then unmapped.
        if let Some((start, len)) = vdso() {
            const FLAGS: c_int = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            self.single(Call {
                number: libc::SYS_mremap as u64,
                args: [start, len, len, FLAGS as u64, stub::VDSO, 0],
            })?;
        }
        // Everything below the stub pages and everything above, up to what user space can have.
        const TOP: u64 = 0x7fff_ffff_f000;
        self.single(unmap(0, stub::CODE))?;
        self.single(unmap(stub::END, TOP - stub::END))?;
        Ok(())
    }

    /// Takes back the restartable-sequences area that the C library registered for the worker: the host
    /// kernel writes to it whenever the process is scheduled, and it is about to vanish.
    fn forget_rseq(&mut self) -> io::Result<()> {
        const PTRACE_GET_RSEQ_CONFIGURATION: c_int = 0x420f;
        const RSEQ_FLAG_UNREGISTER: u64 = 1;
        #[derive(Default)]
        #[repr(C)]
        struct Configuration {
            pointer: u64,
            size: u32,
            signature: u32,
            flags: u32,
            pad: u32,
        }
        let mut found = Configuration::default();
        let size = size_of::<Configuration>();
        request(
            PTRACE_GET_RSEQ_CONFIGURATION,
            self.pid(),
            size,
            &raw mut found as usize,
        )?;
        if found.pointer != 0 {
            let args = [
                found.pointer,
                u64::from(found.size),
                RSEQ_FLAG_UNREGISTER,
                u64::from(found.signature),
                0,
                0,
            ];
            self.single(Call {
                number: libc::SYS_rseq as u64,
                args,
            })?;
        }
        Ok(())
    }

    fn set_options(&self) -> io::Result<()> {
        let options = libc::PTRACE_O_EXITKILL
            | libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK;
        request(
            libc::PTRACE_SETOPTIONS as c_int,
            self.pid(),
            0,
            options as usize,
        )
        .map(drop)
    }

    /// Starts to trace a process that was left stopped for this thread.
    pub(crate) fn adopt(process: Arc<Process>) -> io::Result<Tracee> {
        let tracee = Tracee {
            process,
            gone: false,
        };
        request(libc::PTRACE_ATTACH as c_int, tracee.pid(), 0, 0)?;
        wait(tracee.pid())?;
        tracee.set_options()?;
        Ok(tracee)
    }

    /// Makes another process with these flags of clone(2), stopped.
    pub(crate) fn spawn(&mut self, flags: c_int) -> io::Result<Tracee> {
        let call = Call {
            number: libc::SYS_clone as u64,
            args: [(flags | libc::CLONE_PARENT) as u64, 0, 0, 0, 0, 0],
        };
        let pid = self.single(call)? as pid_t;
        let mut child = Tracee::new(pid)?;
        match child.wait()? {
            Stopped::Gone => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(child),
        }
    }

    /// Leaves the process stopped and untraced, for another thread to [`adopt`](Self::adopt).
    pub(crate) fn release(mut self) -> io::Result<Arc<Process>> {
        let stop = libc::SIGSTOP as usize;
        request(libc::PTRACE_DETACH as c_int, self.pid(), 0, stop)?;
        self.gone = true;
        Ok(self.process.clone())
    }

    /// Makes a process that shares this one's address space, for another thread to [`adopt`](Self::adopt).
    pub(crate) fn clone_sibling(&mut self) -> io::Result<Arc<Process>> {
        let mut sibling = self.spawn(libc::CLONE_VM | libc::CLONE_FILES)?;
        sibling.single(DIE_WITH_VARVE)?;
        sibling.release()
    }

    /// Makes one system call in the process.
    fn single(&mut self, call: Call) -> io::Result<u64> {
        let [rdi, rsi, rdx, r10, r8, r9] = call.args;
        let regs = Regs {
            rip: stub::SINGLE,
            rax: call.number,
            orig_rax: u64::MAX,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..Tracee::stub_regs()
        };
        let after = self.run_stub(&regs)?;
        match after.rax as i64 {
            error @ -4095..0 => Err(io::Error::from_raw_os_error(-error as i32)),
            _ => Ok(after.rax),
        }
    }

    /// Makes the first `count` calls of the list page; fails with the error of the first one that fails, and
    /// its index.
    pub(crate) fn batch(&mut self, count: usize) -> Result<(), (usize, io::Error)> {
        let fail = |error| (0, error);
        let regs = Regs {
            rip: stub::CODE,
            orig_rax: u64::MAX,
            rbx: stub::LIST,
            r12: count as u64,
            ..Tracee::stub_regs()
        };
        let after = self.run_stub(&regs).map_err(fail)?;
        match after.rax as i64 {
            error @ -4095..0 => Err((
                count - after.r12 as usize,
                io::Error::from_raw_os_error(-error as i32),
            )),
            _ => Ok(()),
        }
    }

    /// Registers to run the stub with: code and stack segment and flags of user mode.
    fn stub_regs() -> Regs {
        Regs {
            cs: 0x33,
            ss: 0x2b,
            eflags: 0x202,
            ..Regs::default()
        }
    }

    /// Runs the stub until its `int3`; signals that come meanwhile are varve's own, or of somebody outside,
    /// and are dropped.
    fn run_stub(&mut self, regs: &Regs) -> io::Result<Regs> {
        self.set_head(regs)?;
        loop {
            request(libc::PTRACE_CONT as c_int, self.pid(), 0, 0)?;
            match self.wait()? {
                Stopped::Signal(libc::SIGTRAP) => {
                    let regs = self.regs()?;
                    // Nowhere else has it met one; until then a SIGTRAP is somebody's who wants it to seem
                    // so.
                    if stub::ENDS.contains(&regs.rip) {
                        return Ok(regs);
                    }
                }
                Stopped::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
                Stopped::Signal(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL)
                    if self.signal_info()?.1 > 0 =>
                {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Stopped::Signal(_) | Stopped::Kicked | Stopped::Other | Stopped::Syscall => {}
            }
        }
    }

    /// Lets the process run guest code until it stops.
    pub(crate) fn run_guest(&mut self) -> io::Result<Stopped> {
        request(libc::PTRACE_SYSEMU as c_int, self.pid(), 0, 0)?;
        self.wait()
    }

    fn wait(&mut self) -> io::Result<Stopped> {
        let status = match wait(self.pid()) {
            Ok(status) => status,
            Err(error) => {
                self.gone = true;
                return Err(error);
            }
        };
        if !libc::WIFSTOPPED(status) {
            self.gone = true;
            return Ok(Stopped::Gone);
        }
        Ok(match (libc::WSTOPSIG(status), status >> 16) {
            (signal, 0) if signal == libc::SIGTRAP | 0x80 => Stopped::Syscall,
            (KICK, 0) => Stopped::Kicked,
            (signal, 0) => Stopped::Signal(signal),
            _ => Stopped::Other,
        })
    }

    pub(crate) fn regs(&self) -> io::Result<Regs> {
        let mut regs = Regs::default();
        request(
            libc::PTRACE_GETREGS as c_int,
            self.pid(),
            0,
            &raw mut regs as usize,
        )?;
        Ok(regs)
    }

    /// Sets all registers. A program gives itself segment bases in the kernel's half and selectors with other
    /// privilege bits, neither of which a tracer can set: such bases are set by the process itself, such
    /// selectors are set with the bits of user mode.
    pub(crate) fn set_regs(&mut self, regs: &Regs) -> io::Result<()> {
        const USER_RPL: u64 = 3;
        let settable = |selector: u64| selector == 0 || selector & USER_RPL == USER_RPL;
        let bases = regs.fs_base < BASE_END && regs.gs_base < BASE_END;
        if bases
            && [regs.ds, regs.es, regs.fs, regs.gs]
                .into_iter()
                .all(settable)
        {
            let at = &raw const *regs as usize;
            return request(libc::PTRACE_SETREGS as c_int, self.pid(), 0, at).map(drop);
        }
        let selectors = |regs: &Regs| {
            [
                (std::mem::offset_of!(Regs, ds), regs.ds),
                (std::mem::offset_of!(Regs, es), regs.es),
                (std::mem::offset_of!(Regs, fs), regs.fs),
                (std::mem::offset_of!(Regs, gs), regs.gs),
            ]
        };
        let now = self.regs()?;
        for ((offset, wanted), (_, have)) in selectors(regs).into_iter().zip(selectors(&now)) {
            if wanted != have {
                let wanted = if settable(wanted) {
                    wanted
                } else {
                    wanted | USER_RPL
                };
                request(
                    libc::PTRACE_POKEUSER as c_int,
                    self.pid(),
                    offset,
                    wanted as usize,
                )?;
            }
        }
        // After the selectors: a selector brings its base along.
        if (now.fs_base, now.gs_base) != (regs.fs_base, regs.gs_base) {
            self.run_stub(&Regs {
                rip: stub::BASES,
                orig_rax: u64::MAX,
                rdi: regs.fs_base,
                rsi: regs.gs_base,
                ..Tracee::stub_regs()
            })?;
        }
        self.set_head(regs)
    }

    /// Sets the general registers without the segment bases and data segments, which stay what they are.
    fn set_head(&self, regs: &Regs) -> io::Result<()> {
        let mut iov = libc::iovec {
            iov_base: (&raw const *regs).cast_mut().cast(),
            iov_len: HEAD,
        };
        request(
            libc::PTRACE_SETREGSET as c_int,
            self.pid(),
            NT_PRSTATUS,
            &raw mut iov as usize,
        )
        .map(drop)
    }

    pub(crate) fn set_rax(&self, rax: u64) -> io::Result<()> {
        request(
            libc::PTRACE_POKEUSER as c_int,
            self.pid(),
            USER_RAX,
            rax as usize,
        )
        .map(drop)
    }

    /// Signal, `si_code` and `si_addr` of the signal that stopped the process.
    pub(crate) fn signal_info(&self) -> io::Result<(c_int, c_int, u64)> {
        // SAFETY: `siginfo_t` is plain data; zeros are a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        request(
            libc::PTRACE_GETSIGINFO as c_int,
            self.pid(),
            0,
            &raw mut info as usize,
        )?;
        // SAFETY: reads the union member that faults fill in; for other signals it is some bytes of the
        // structure.
        let addr = unsafe { info.si_addr() } as u64;
        Ok((info.si_signo, info.si_code, addr))
    }

    /// Reads the XSAVE area into `buf`; gives its length.
    pub(crate) fn get_xstate(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut iov = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        request(
            libc::PTRACE_GETREGSET as c_int,
            self.pid(),
            NT_X86_XSTATE,
            &raw mut iov as usize,
        )?;
        Ok(iov.iov_len)
    }

    pub(crate) fn set_xstate(&mut self, buf: &[u8]) -> io::Result<()> {
        let mut iov = libc::iovec {
            iov_base: buf.as_ptr().cast_mut().cast(),
            iov_len: buf.len(),
        };
        request(
            libc::PTRACE_SETREGSET as c_int,
            self.pid(),
            NT_X86_XSTATE,
            &raw mut iov as usize,
        )
        .map(drop)
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if !self.gone {
            self.process.kill();
            reap(self.pid());
        }
    }
}

/// First address of the page of the old `vsyscall` interface, whose calls the host kernel would make without
/// a word to the tracer.
pub(crate) const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// Makes calls through the vsyscall page a SIGSYS, with a filter that lets everything else pass. It costs
/// guests nothing: their system calls stop before a filter is asked. Where the host has no filters, a program
/// can ask the host for the time and its processor there.
fn refuse_vsyscalls(raw: impl Fn(c_long, [u64; 6]) -> c_long) {
    const SET_MODE_FILTER: u64 = 1;
    /// The filter holds no secret that a speculative load could find.
    const SPEC_ALLOW: u64 = 4;
    /// Byte offset of `instruction_pointer` in `struct seccomp_data`.
    const RIP: u32 = 8;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        op(LOAD, RIP + 4, 0, 0),
        op(EQUAL, (VSYSCALL >> 32) as u32, 0, 3),
        op(LOAD, RIP, 0, 0),
        op(AT_LEAST, VSYSCALL as u32, 0, 1),
        op(ANSWER, libc::SECCOMP_RET_TRAP, 0, 0),
        op(ANSWER, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    raw(
        libc::SYS_prctl,
        [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0],
    );
    let at = &raw const program as u64;
    raw(
        libc::SYS_seccomp,
        [SET_MODE_FILTER, SPEC_ALLOW, at, 0, 0, 0],
    );
}

/// What a new process does before it is emptied: raw system calls only. Never returns.
fn child(fd: c_int, list_offset: u64) -> ! {
    /// A raw system call. Whole registers are passed: a C `int` given to `syscall(3)` would leave the upper
    /// half undefined.
    fn raw(number: c_long, args: [u64; 6]) -> c_long {
        let [a, b, c, d, e, f] = args;
        // SAFETY: the calls below take numbers and one pointer to a live local; the mappings take addresses
        // that nothing holds.
        unsafe { libc::syscall(number, a, b, c, d, e, f) }
    }
    let map = |addr: u64, prot: c_int, offset: u64| {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        let args = [
            addr,
            PAGE_SIZE,
            prot as u64,
            flags as u64,
            fd as u64,
            offset,
        ];
        raw(libc::SYS_mmap, args) as u64 == addr
    };
    raw(DIE_WITH_VARVE.number as c_long, DIE_WITH_VARVE.args);
    // Away from the terminal: its signals are for varve.
    raw(libc::SYS_setsid, [0; 6]);
    // Signals may be blocked in the worker; they must be able to stop the guest.
    let none: u64 = 0;
    let mask = [libc::SIG_SETMASK as u64, &raw const none as u64, 0, 8, 0, 0];
    raw(libc::SYS_rt_sigprocmask, mask);
    refuse_vsyscalls(raw);
    if map(stub::CODE, libc::PROT_READ | libc::PROT_EXEC, 0)
        && map(stub::LIST, libc::PROT_READ, list_offset)
        && raw(
            libc::SYS_ptrace,
            [u64::from(libc::PTRACE_TRACEME), 0, 0, 0, 0, 0],
        ) == 0
    {
        let own = raw(libc::SYS_getpid, [0; 6]) as u64;
        raw(libc::SYS_kill, [own, libc::SIGSTOP as u64, 0, 0, 0, 0]);
    }
    loop {
        raw(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]);
    }
}
