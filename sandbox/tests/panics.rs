//! A panic in a thread of a sandbox ends that sandbox as an error, whatever the other threads do meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use varve_core::abi::Errno;
use varve_core::boot::{Init, Strace};
use varve_core::machine::{Access, Backing, Prot, Regs, SpaceId, Trap};
use varve_host::{Grace, GuestThread, Interrupter, Platform, fresh_xstate};
use varve_sandbox::{
    AnyPlatform, Layer, PlatformError, RunError, Sandbox, SinkLine, Stdio, program,
};

/// How long a run may take to end: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory of the first task.
const ADDR: u64 = 0x10_0000;
const LEN: u64 = 0x10_0000;

/// Where the platform panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In a worker that runs its guest thread.
    Run,
    /// In a worker that holds the kernel lock.
    Map,
    /// In a worker that is about to begin.
    NewThread,
    /// In a thread of the caller's, which holds the kernel lock.
    Interrupt,
    /// In the thread that keeps the time, when all others have ended.
    Report,
}

/// A platform whose guests follow a script: the first thread makes a second one and touches a page, the
/// second one runs without end.
struct Scripted {
    place: Place,
    grace: Arc<Grace>,
    threads: AtomicU32,
}

struct Actor {
    place: Place,
    first: bool,
    step: u32,
    gate: Arc<Gate>,
}

/// Where a thread waits that runs without end.
struct Gate {
    place: Place,
    /// Why it should stop.
    wanted: Mutex<Option<Trap>>,
    news: Condvar,
}

impl Interrupter for Gate {
    fn interrupt(&self) {
        assert!(self.place != Place::Interrupt, "interrupt is injected");
        self.stop(Trap::Interrupted);
    }

    fn kill(&self) {
        self.stop(Trap::Lost);
    }
}

impl Gate {
    fn stop(&self, why: Trap) {
        *self.wanted.lock().unwrap() = Some(why);
        self.news.notify_all();
    }
}

impl GuestThread for Actor {
    fn run(&mut self, regs: &mut Regs) -> Result<Trap, PlatformError> {
        const CLONE: u64 = 56;
        /// `CLONE_VM`, `CLONE_FS`, `CLONE_FILES`, `CLONE_SIGHAND` and `CLONE_THREAD`.
        const THREAD: u64 = 0x1_0f00;
        self.step += 1;
        match (self.first, self.step) {
            (true, 1) => {
                regs.orig_rax = CLONE;
                regs.rax = Errno::ENOSYS.as_result();
                (regs.rdi, regs.rsi, regs.rdx) = (THREAD, ADDR + LEN, 0);
                (regs.r10, regs.r8) = (0, 0);
                Ok(Trap::Syscall)
            }
            (true, 2) => Ok(Trap::Fault {
                addr: ADDR,
                access: Some(Access::Write),
            }),
            (true, 3) => {
                assert!(self.place != Place::Run, "run is injected");
                self.wait()
            }
            _ => self.wait(),
        }
    }

    fn read_xstate(&mut self, buf: &mut [u8]) -> Result<(), PlatformError> {
        buf.copy_from_slice(&fresh_xstate(buf.len()));
        Ok(())
    }

    fn write_xstate(&mut self, _: &[u8]) -> Result<bool, PlatformError> {
        Ok(true)
    }

    fn reset_xstate(&mut self) -> Result<(), PlatformError> {
        Ok(())
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.gate.clone()
    }
}

impl Actor {
    fn wait(&self) -> Result<Trap, PlatformError> {
        let mut wanted = self.gate.wanted.lock().unwrap();
        loop {
            if let Some(trap) = wanted.take() {
                return Ok(trap);
            }
            wanted = self.gate.news.wait(wanted).unwrap();
        }
    }
}

impl Platform for Scripted {
    type Thread = Actor;

    fn name(&self) -> &'static str {
        "scripted"
    }

    fn lowest_address(&self) -> u64 {
        0
    }

    fn grace(&self) -> &Arc<Grace> {
        &self.grace
    }

    fn create_space(&self, _: SpaceId) -> Result<(), PlatformError> {
        Ok(())
    }

    fn drop_space(&self, _: SpaceId) {}

    fn map(&self, _: SpaceId, _: u64, _: u64, _: Backing, _: Prot) -> Result<(), PlatformError> {
        assert!(self.place != Place::Map, "map is injected");
        Ok(())
    }

    fn unmap(&self, _: SpaceId, _: u64, _: u64) -> Result<(), PlatformError> {
        Ok(())
    }

    fn protect(&self, _: SpaceId, _: u64, _: u64, _: Prot) -> Result<(), PlatformError> {
        Ok(())
    }

    fn new_thread(&self, _: SpaceId) -> Result<Actor, PlatformError> {
        let place = self.place;
        let first = self.threads.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(first || place != Place::NewThread, "new_thread is injected");
        Ok(Actor {
            place,
            first,
            step: 0,
            gate: Arc::new(Gate {
                place,
                wanted: Mutex::new(None),
                news: Condvar::new(),
            }),
        })
    }

    fn prepare_sibling(&self, _: &mut Actor, _: SpaceId) -> Result<(), PlatformError> {
        Ok(())
    }

    fn enter(&self, _: &mut Actor, _: SpaceId) -> Result<(), PlatformError> {
        Ok(())
    }

    fn report(&self) -> Option<String> {
        assert!(self.place != Place::Report, "report is injected");
        None
    }

    fn xstate_size(&self) -> usize {
        832
    }
}

/// Runs the script with a panic at a place; gives what the run ended with.
fn run(place: Place) -> RunError {
    let mut config = program(["unused"]).unwrap();
    config.init = Init::Bare {
        addr: ADDR,
        len: LEN,
    };
    let sandbox = Sandbox::builder(config)
        .stdio([Stdio::null(), Stdio::null(), Stdio::null()])
        .platform_with(move |_, _| {
            Ok(AnyPlatform::from(Scripted {
                place,
                grace: Arc::default(),
                threads: AtomicU32::new(0),
            }))
        })
        .spawn()
        .unwrap();
    let controls = sandbox.controls();
    if matches!(place, Place::Interrupt | Place::Report) {
        // Both threads run then.
        while controls.stats().is_some_and(|stats| stats.inputs < 2) {
            std::thread::sleep(Duration::from_millis(1));
        }
        controls.kill().unwrap();
    }
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(sandbox.wait()));
    let result = end.recv_timeout(PATIENCE).expect("the run ends");
    assert!(controls.stats().is_none(), "nothing is left of it");
    assert!(controls.kill().is_err());
    result.expect_err("a panic is no end of a program")
}

#[test]
fn a_panic_ends_the_run_as_an_error() {
    for (place, text) in [
        (Place::Run, "run is injected"),
        (Place::Map, "map is injected"),
        (Place::NewThread, "new_thread is injected"),
        (Place::Interrupt, "interrupt is injected"),
        (Place::Report, "report is injected"),
    ] {
        match run(place) {
            RunError::Panic(found) => assert_eq!(found, text),
            other => panic!("{place:?}: {other:?}"),
        }
    }
}

#[test]
fn a_panic_of_what_takes_the_log_is_told_at_the_end() {
    let mut config = program(["/bin/true"]).unwrap();
    config.strace = Some(Strace::default());
    let ended = Sandbox::builder(config)
        .layers([Layer::directory("/")])
        .log(|line| panic!("no room for {}", matches!(line, SinkLine::Strace(_))))
        .output();
    match ended {
        Err(RunError::Panic(text)) => assert_eq!(text, "no room for true"),
        other => panic!("{other:?}"),
    }
}
