//! System calls: the table, typed arguments, dispatch and strace. One file for each family of calls.

pub use crate::args;
pub(crate) mod strace;
mod table;

mod aio;
mod copy;
mod dir;
mod epoll;
mod event;
mod fd;
mod file;
mod fileattr;
mod identity;
mod inotify;
mod kcmp;
mod landlock;
pub(crate) mod memory;
mod message_queue;
mod missing;
mod mount;
mod mount_api;
mod mqueue;
mod namespace;
mod pidfd;
pub(crate) mod poll;
mod prctl;
mod process;
mod refused;
mod sched;
mod seal;
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

use args::ArgKind;
pub use strace::{CLASSES, CallSet};
use strace::{Form, Outcome};
pub use table::TABLE;

use crate::env::wait::{Restart, SysResult, Wait, WaitKey};
use crate::kernel::Cx;
use crate::mm::fork;

/// A parameter of a system call.
#[derive(Clone, Copy)]
pub struct Param {
    /// Its name in the manual page.
    pub name: &'static str,
    /// Its type.
    pub kind: ArgKind,
    /// How strace shows it.
    pub(crate) form: Form,
}

/// How much of a system call is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// All that Linux does, as far as a sandbox can show it.
    Full,
    /// Less; the text says what is missing.
    Partial(&'static str),
    /// Nothing, on purpose: what it answers, and why.
    Refused(&'static str),
    /// Nothing yet: what it answers, and what is missing or does it.
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
    /// How strace shows its result.
    pub(crate) outcome: Outcome,
    /// What is supported.
    pub support: Support,
    pub(crate) handler: fn(&mut Cx<'_, '_>, &[u64; 6]) -> SysResult,
}

/// The form of a parameter, or of a result.
macro_rules! form {
    () => {
        Form::Kind
    };
    (result) => {
        Outcome::Number
    };
    ($name:ident) => {
        forms::$name
    };
    (result $name:ident) => {
        forms::$name
    };
}
use form;

/// Builds the table from lines `number name(param: Type, ...) => family::handler, Support;`. Behind `as`
/// stands what strace shows a parameter as, behind `->` what it shows the result as.
macro_rules! entries {
    ($($number:literal $name:ident($($param:ident: $type:ident $(as $form:ident)?),*) $(-> $outcome:ident)? => $family:ident::$handler:ident, $support:expr;)*) => {
        /// All system calls that Linux has, by number in ascending order.
        pub static TABLE: &[Entry] = &[$(
            Entry {
                number: $number,
                name: stringify!($name),
                params: &[$(Param {
                    name: stringify!($param),
                    kind: <$type as Arg>::KIND,
                    form: form!($($form)?),
                }),*],
                outcome: form!(result $($outcome)?),
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
    let (thread, space) = (cx.thread, cx.space());
    if (!cx.k.mm.copies.is_empty() || !cx.k.mm.changing.is_empty())
        && fork::holds_up(cx.k, thread, space, number)
    {
        let mut wait = Wait::on(WaitKey::Space(space)).restart(Restart::Always);
        wait.killable = true;
        return wait.into();
    }
    match table::find(number) {
        Some(entry) => (entry.handler)(cx, args),
        None => missing::not_there(cx, number),
    }
}
