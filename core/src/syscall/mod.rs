//! System calls: the table, typed arguments, dispatch and strace. One file for each family of calls.

pub mod args;
pub(crate) mod strace;
mod table;

mod aio;
mod copy;
mod dir;
mod epoll;
mod event;
mod fd;
mod file;
pub(crate) mod futex;
mod identity;
mod inotify;
mod kcmp;
pub(crate) mod memory;
mod message_queue;
mod missing;
mod mount;
mod mqueue;
mod namespace;
mod pidfd;
mod poll;
mod prctl;
mod process;
mod refused;
mod sched;
mod seccomp;
mod semaphore;
mod shm;
mod signal;
mod socket;
mod socket_address;
mod socket_message;
mod socket_option;
mod stat;
pub(crate) mod system;
mod time;
mod timer;
mod xattr;

use alloc::format;

use args::ArgKind;

use crate::abi::Errno;
use crate::event::Level;
use crate::kernel::{Cx, SysResult};

pub use table::TABLE;

/// A parameter of a system call.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name in the manual page.
    pub name: &'static str,
    /// Its type.
    pub kind: ArgKind,
}

/// How much of a system call is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// All that Linux does, as far as a sandbox can show it.
    Full,
    /// Less; the text says what is missing.
    Partial(&'static str),
    /// Answers `ENOSYS`; the text says what is missing. Entries of this kind exist only while the call is being built.
    Missing(&'static str),
}

/// One system call.
pub struct Entry {
    /// Number on x86-64 (`asm/unistd_64.h`).
    pub number: u64,
    /// Name.
    pub name: &'static str,
    /// Parameters in order.
    pub params: &'static [Param],
    /// What is supported.
    pub support: Support,
    pub(crate) handler: fn(&mut Cx<'_, '_>, &[u64; 6]) -> SysResult,
}

/// Builds the table from lines `number name(param: Type, ...) => family::handler, Support;`.
macro_rules! entries {
    ($($number:literal $name:ident($($param:ident: $type:ident),*) => $family:ident::$handler:ident, $support:expr;)*) => {
        /// All system calls that the kernel knows, by number in ascending order.
        pub static TABLE: &[Entry] = &[$(
            Entry {
                number: $number,
                name: stringify!($name),
                params: &[$(Param { name: stringify!($param), kind: <$type as Arg>::KIND }),*],
                support: $support,
                handler: |cx, _args| {
                    let mut _regs = _args.iter().copied();
                    $family::$handler(cx $(, <$type as Arg>::from_reg(_regs.next().unwrap_or(0)))*)
                },
            },
        )*];

        const NUMBERS: &[u64] = &[$($number),*];

        /// Index into [`TABLE`] plus one for each number, 0 for none.
        static INDEX: [u16; INDEX_LEN] = {
            let mut index = [0; INDEX_LEN];
            let mut i = 0;
            while i < NUMBERS.len() {
                assert!(i == 0 || NUMBERS[i] > NUMBERS[i - 1]);
                index[NUMBERS[i] as usize] = i as u16 + 1;
                i += 1;
            }
            index
        };

        const INDEX_LEN: usize = NUMBERS[NUMBERS.len() - 1] as usize + 1;

        /// The entry of a system call number.
        pub(super) fn find(number: u64) -> Option<&'static Entry> {
            let index = *INDEX.get(usize::try_from(number).ok()?)?;
            TABLE.get(usize::from(index).checked_sub(1)?)
        }
    };
}
use entries;

/// Runs the handler of a system call. Unknown numbers are `ENOSYS` with one line in the log.
pub(crate) fn dispatch(cx: &mut Cx<'_, '_>, number: u64, args: &[u64; 6]) -> SysResult {
    match table::find(number) {
        Some(entry) => (entry.handler)(cx, args),
        None => {
            let name = missing::name(number).unwrap_or("unknown");
            cx.log(
                Level::Warn,
                format!("system call {number} ({name}) is not supported"),
            );
            Err(Errno::ENOSYS.into())
        }
    }
}
