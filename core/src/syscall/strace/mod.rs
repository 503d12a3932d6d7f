//! Prints system calls as strace(1) does, from the table. A line comes when a call returns, with all of it.

mod bytes;
pub(crate) mod forms;
mod line;
mod names;
mod pointed;
mod results;
mod sets;
mod shapes;
mod show;
mod special;
mod values;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

pub(crate) use line::quote;
pub use sets::{CLASSES, CallSet};
use show::EndedCall;

use super::{Entry, table};
use crate::Kernel;
use crate::args::ArgKind;
use crate::event::{Output, TracedCall};
use crate::kernel::{Call, Cx};
use crate::machine::ThreadId;
use crate::mm::tape::Tape;
use crate::task::call::Trace;
use crate::task::signal::SigInfo;
pub(crate) use crate::task::signal::names::signal_name;
use crate::task::trace::Tracer;

/// Names of flags or numbers.
pub(crate) struct Names {
    /// What stands in a comment beside a number without one.
    pub unknown: &'static str,
    pub names: &'static [(u64, &'static str)],
}

/// How an argument is shown where its type alone does not tell.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// As its type says.
    Kind,
    /// Flags.
    Flags(&'static Names),
    /// A string that is shown whole.
    Path,
    /// One of several numbers.
    OneOf(&'static Names),
    /// The address of something that the call reads.
    In(What),
    /// The address of something that the call writes.
    Out(What),
    /// The address of something that it reads and writes.
    Both(What),
    /// The address of something that only a call that was interrupted writes.
    Left(What),
    /// The address of as many of these as the argument before says.
    InCounted(Scalar),
    /// Depends on other arguments.
    Special(Special),
}

/// What lies at an address.
#[derive(Clone, Copy)]
pub(crate) enum What {
    Shape(&'static Shape),
    Shapes(&'static Shape, Count),
    /// One value, in brackets or not.
    Value(Scalar, bool),
    Values(Scalar, Count),
    Bytes(Count),
    Stat,
    SignalSet,
    SignalAction,
    SignalInfo,
    PollFds,
    FdSet,
    WaitStatus,
    Caps,
    Cpus,
    Iovec,
    Address,
    Message,
    Messages,
    SocketOption,
    Entries,
    OpenHow,
}

/// How many there are.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Of(u64),
    /// The next argument.
    Next,
    /// The call's result.
    Result,
}

/// Arguments that depend on others.
#[derive(Clone, Copy)]
pub(crate) enum Special {
    Environment,
    SocketKind,
    SocketOptionName,
    FcntlArg,
    IoctlRequest,
    IoctlArg,
    FutexOp,
    FutexArg,
    PrctlArg,
    IpcKey,
    Device,
    NodeMode,
    Personality,
    SeccompArg,
    /// By the type of the rule before it.
    RuleAttr,
    FsconfigKey,
    FsconfigValue,
    FsconfigAux,
    ShortHex,
}

/// How a result is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Number,
    Fd,
    Hex,
    Octal,
    /// In a way of the call's own.
    Own,
}

/// A structure.
pub(crate) struct Shape {
    pub size: u16,
    pub fields: &'static [Field],
}

/// A field of a structure.
pub(crate) struct Field {
    pub name: &'static str,
    pub at: u16,
    pub kind: Scalar,
    /// Shown even if not everything is.
    pub always: bool,
}

/// A value of fixed length.
#[derive(Clone, Copy)]
pub(crate) enum Scalar {
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    X64,
    Pointer,
    Fd32,
    Mode16,
    Flags16(&'static Names),
    Flags32(&'static Names),
    Flags64(&'static Names),
    One16(&'static Names),
    One32(&'static Names),
    One64(&'static Names),
    Signal,
    Timespec,
    /// With `UTIME_NOW` and `UTIME_OMIT`.
    FileTime,
    Timeval,
    Limit,
    Text(u16),
    Words(u16),
    Fsid,
    EpollData,
    SigVal,
    Control,
    CapVersion,
}

/// Writes lines of what happens to tasks, as strace(1) does.
#[derive(Debug)]
pub(crate) struct Lines;

impl Tracer for Lines {
    fn first(&self, cx: &mut Cx<'_, '_>, name: &[u8], args: &[Vec<u8>], env: &[Vec<u8>]) {
        first(cx, name, args, env);
    }

    fn signal(&self, k: &mut Kernel, thread: ThreadId, info: SigInfo) {
        signal(k, thread, info);
    }

    fn restarted(&self, cx: &mut Cx<'_, '_>, call: &Call, trace: Trace) {
        restarted(cx, call, trace);
    }

    fn never_returned(&self, cx: &mut Cx<'_, '_>, call: &Call, trace: Trace) {
        exit(cx, call, trace, None);
    }

    fn thread_ended(&self, k: &mut Kernel, thread: ThreadId, status: u32) {
        thread_ended(k, thread, status);
    }
}

/// Begins to trace a call, if it is one of those that are wanted.
pub(crate) fn enter(cx: &mut Cx<'_, '_>, number: u64, args: &[u64; 6]) -> Option<Box<Trace>> {
    let style = cx.k.system.strace.0.clone()?;
    if !style.calls.contains(number) {
        return None;
    }
    let mut files = Vec::new();
    if style.paths
        && let Some(entry) = table::find(number)
    {
        for (index, param) in entry.params.iter().enumerate() {
            let path = match param.kind {
                ArgKind::Fd => file_text(cx, args[index] as i32),
                ArgKind::DirFd => dir_text(cx, args[index] as i32),
                _ => None,
            };
            files.extend(path.map(|path| (index, path)));
        }
    }
    Some(Box::new(Trace {
        tape: Some(Box::new(Tape::new(cx.space()))),
        files,
    }))
}

/// What a descriptor names, in angle brackets.
fn file_text(cx: &Cx<'_, '_>, fd: i32) -> Option<String> {
    let task = cx.k.tasks.get(cx.thread)?;
    let file = cx.k.files.fd_table(task.files).get(fd)?.file;
    let path = crate::views::proc::file_text(cx.k, cx.thread, file).ok()?;
    Some(format!("<{}>", line::path(&path)))
}

fn dir_text(cx: &mut Cx<'_, '_>, fd: i32) -> Option<String> {
    if fd != crate::abi::raw::general::AT_FDCWD {
        return file_text(cx, fd);
    }
    let cwd = *cx.fs_context().cwd;
    let path = crate::views::proc::path_text(cx.k, cx.thread, cwd).ok()?;
    Some(format!("<{}>", line::path(&path)))
}

/// Emits the line of a call that has returned `result`, or that does not return.
pub(crate) fn exit(cx: &mut Cx<'_, '_>, call: &Call, trace: Trace, result: Option<u64>) {
    let ending = result.map_or(Ending::Gone, Ending::Returned);
    ended(cx, call, trace, ending);
}

/// What a call returned that has set the registers itself: execve(2) and rt_sigreturn(2).
pub(crate) fn result_of_done(cx: &Cx<'_, '_>, number: u64) -> Option<u64> {
    const RT_SIGRETURN: u64 = 15;
    const EXECVE: u64 = 59;
    const EXECVEAT: u64 = 322;
    match number {
        EXECVE | EXECVEAT => Some(0),
        RT_SIGRETURN => cx.k.tasks.get(cx.thread).map(|task| task.regs.rax),
        _ => None,
    }
}

/// Emits the line of a call that a signal's handler interrupted and that is made again afterwards.
fn restarted(cx: &mut Cx<'_, '_>, call: &Call, trace: Trace) {
    ended(cx, call, trace, Ending::Again);
}

#[derive(Clone, Copy)]
enum Ending {
    Returned(u64),
    Gone,
    Again,
}

fn ended(cx: &mut Cx<'_, '_>, call: &Call, trace: Trace, ending: Ending) {
    let Some(style) = cx.k.system.strace.0.clone() else {
        return;
    };
    let tape = trace.tape.or_else(|| cx.k.tape.0.take());
    let tid = shown_tid(cx.k, cx.thread);
    let result = match ending {
        Ending::Returned(value) => Some(value),
        Ending::Gone | Ending::Again => None,
    };
    let traced = TracedCall {
        number: call.number,
        entered: call.entered,
        errno: result
            .map(|value| (value as i64).wrapping_neg())
            .filter(|number| (1..=4095).contains(number))
            .map(|number| number as u16),
    };
    let mut text = String::new();
    if style.lines {
        let space = cx.space();
        let tape = tape.unwrap_or_else(|| Box::new(Tape::new(space)));
        let mut ended = EndedCall {
            cx,
            tape: &tape,
            style: &style,
            args: call.args,
            result,
            files: &trace.files,
        };
        text = match table::find(call.number) {
            Some(entry) => ended.call(entry),
            None => {
                let args: Vec<_> = call.args.iter().map(|arg| format!("{arg:#x}")).collect();
                format!("syscall_{:#x}({})", call.number, args.join(", "))
            }
        };
        line::pad(&mut text);
        match ending {
            Ending::Gone => text.push('?'),
            Ending::Again => {
                text.push_str("? ERESTARTSYS (To be restarted if SA_RESTART is set)");
            }
            Ending::Returned(value) => ended.result(&mut text, table::find(call.number), value),
        }
    }
    cx.k.env.emit(Output::Strace {
        tid,
        call: Some(traced),
        line: text,
    });
}

fn shown_tid(k: &Kernel, thread: ThreadId) -> u32 {
    k.tasks.get(thread).map_or(0, |task| task.tid)
}

fn emit(k: &mut Kernel, thread: ThreadId, line: String) {
    let tid = shown_tid(k, thread);
    let call = None;
    k.env.emit(Output::Strace { tid, call, line });
}

/// Emits the line of the first program, which no program has called for.
fn first(cx: &mut Cx<'_, '_>, name: &[u8], args: &[Vec<u8>], env: &[Vec<u8>]) {
    const EXECVE: u64 = 59;
    /// Strings that are shown.
    const SHOWN: usize = 32;
    let Some(style) = cx.k.system.strace.0.clone() else {
        return;
    };
    if !style.calls.contains(EXECVE) {
        return;
    }
    let now = cx.now();
    let list = |strings: &[Vec<u8>]| {
        let mut texts: Vec<String> = strings
            .iter()
            .take(SHOWN)
            .map(|text| quote(text, style.string_max as usize))
            .collect();
        if strings.len() > SHOWN {
            texts.push("...".to_string());
        }
        texts.join(", ")
    };
    let mut line = String::new();
    if style.lines {
        let space = cx.space();
        let stack = cx.k.mm.space(space).layout.stack_start;
        let at = stack + 8 * (args.len() as u64 + 2);
        let env = match style.full {
            true => format!("[{}]", list(env)),
            false => format!("{at:#x} /* {} */", line::count(env.len(), "var")),
        };
        let name = quote(name, usize::MAX);
        let _ = write!(line, "execve({name}, [{}], {env})", list(args));
        line::pad(&mut line);
        line.push('0');
    }
    let tid = shown_tid(cx.k, cx.thread);
    let call = Some(TracedCall {
        number: EXECVE,
        entered: now,
        errno: None,
    });
    cx.k.env.emit(Output::Strace { tid, call, line });
}

/// Emits the line of a signal that a thread gets.
fn signal(k: &mut Kernel, thread: ThreadId, info: SigInfo) {
    let wanted = matches!(&k.system.strace.0, Some(style) if style.signals && style.lines);
    if wanted {
        let text = values::signal_info(info);
        let name = signal_name(u64::from(info.signo));
        emit(k, thread, format!("--- {name} {text} ---"));
    }
}

/// Emits the line of a thread that has ended with this status (as wait(2) has it).
fn thread_ended(k: &mut Kernel, thread: ThreadId, status: u32) {
    let wanted = matches!(&k.system.strace.0, Some(style) if style.exits && style.lines);
    if !wanted {
        return;
    }
    let line = match status & 0x7f {
        0 => format!("+++ exited with {} +++", status >> 8 & 0xff),
        signal => format!("+++ killed by {} +++", signal_name(u64::from(signal))),
    };
    emit(k, thread, line);
}
