//! What every floor is handed: the time, randomness, the steps of the input, settings, and the way out.
//!
//! It knows nothing of tasks, files or memory. Numbers of things ([`ids`]), bounds ([`bounds`]) and what a
//! task waits for ([`wait`]) are data that any floor may name.

pub(crate) mod bounds;
pub(crate) mod cx;
pub(crate) mod ids;
pub(crate) mod notice;
pub(crate) mod rng;
pub(crate) mod settings;
pub(crate) mod steps;
pub(crate) mod timers;
pub(crate) mod uts;
pub(crate) mod wait;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use notice::Notice;
use rng::Rng;
use settings::Settings;
use steps::Steps;
use timers::Timers;
use wait::{Queues, WaitKey};

use crate::boot::Stdio;
use crate::event::{Level, Now, Output};

/// The surroundings of the kernel while it handles an input.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Env {
    /// Number of processors the program sees.
    pub cpus: u32,
    /// `/proc/cpuinfo` of one processor.
    pub cpuinfo: Vec<u8>,
    /// What the three standard streams are.
    pub stdio: [Stdio; 3],
    /// Time of the boot and of the input being handled.
    pub booted: Now,
    pub now: Now,
    pub rng: Rng,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: [u8; 16],
    /// The first process has every capability: settings of the system can be changed.
    pub privileged: bool,
    pub settings: Settings,
    /// The lowest address that the host can map.
    pub lowest_address: u64,
    /// Work that the input has taken and may take.
    pub steps: Steps,
    /// Who waits for what.
    pub queues: Queues,
    /// How often something has changed that somebody could wait for.
    pub changes: u64,
    /// Timers that are armed.
    pub timers: Timers,
    /// What floors have left for those above them, in order.
    pub notices: VecDeque<Notice>,
    /// Something was left since the last time that was looked at: here, or in a list of a floor's own.
    /// Whoever adds to one says so; each input asks several times.
    pub left: bool,
    /// What the host is to do, in order.
    pub outputs: VecDeque<Output>,
}

impl Env {
    /// For tests of a floor without a kernel round it.
    #[cfg(test)]
    pub(crate) fn alone() -> Env {
        let now = Now {
            mono: 1,
            real: 1,
            spent: 0,
        };
        Env {
            cpus: 1,
            cpuinfo: Vec::new(),
            stdio: [Stdio::Null; 3],
            booted: now,
            now,
            rng: Rng::new([0; 32]),
            boot_id: [0; 16],
            privileged: false,
            settings: Settings::new(bounds::THREADS_MAX),
            lowest_address: 0,
            steps: Steps::new(),
            queues: Queues::default(),
            changes: 0,
            timers: Timers::default(),
            notices: VecDeque::new(),
            left: false,
            outputs: VecDeque::new(),
        }
    }

    /// Asks the host for something.
    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Leaves something for a floor above: the kernel deals with it before it does anything else.
    pub(crate) fn leave(&mut self, notice: Notice) {
        self.notices.push_back(notice);
        self.left = true;
    }

    /// Tasks that wait for this key are to be run again; watchers of files are not told.
    pub(crate) fn wake(&mut self, key: WaitKey) {
        self.changes += 1;
        if !self.queues.places.is_empty() {
            self.leave(Notice::Woken(key));
        }
    }

    /// Tells people something.
    pub(crate) fn log(&mut self, level: Level, line: String) {
        self.emit(Output::Log(level, line));
    }
}
