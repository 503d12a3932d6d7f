//! Signals that are read (signalfd(2)): those of the thread that reads and of its process.

use alloc::format;
use alloc::string::String;

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::NsId;
use crate::env::wait::{Blocking, SysResult};
use crate::env::wait::{Stop, Wait, WaitKey};
use crate::file::above::Signals;
use crate::file::ops::FileOps;
use crate::file::ready::PLAIN_IN;
use crate::file::rw::How;
use crate::file::rw::Iov;
use crate::file::{self, File, FileId, FileKind, Files};
use crate::machine::ThreadId;
use crate::task::Cx;
use crate::task::signal::{self, SigInfo};

/// Bytes of `struct signalfd_siginfo`.
const SIZE: usize = 128;

fn ready(k: &Kernel, thread: ThreadId, mask: u64) -> u16 {
    let [own, shared, ..] = signal::sets(k, thread);
    match (own | shared) & mask {
        0 => 0,
        _ => PLAIN_IN,
    }
}

fn read(cx: &mut Cx<'_, '_>, mask: u64, iov: &mut Iov, blocking: Blocking) -> Result<u64, Stop> {
    if iov.left() < SIZE as u64 {
        return Err(Errno::EINVAL.into());
    }
    let mut done = 0;
    while iov.left() >= SIZE as u64 {
        let Some(info) = signal::take(cx.k, cx.thread, mask) else {
            break;
        };
        match iov.put_all(cx, &bytes(info)) {
            Ok(()) => done += SIZE as u64,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match done {
        0 if blocking == Blocking::Fails => Err(Errno::EAGAIN.into()),
        0 => {
            let tgid = cx.task().tgid;
            Wait::on(WaitKey::Signals(tgid)).into()
        }
        done => Ok(done),
    }
}

/// `struct signalfd_siginfo` of a signal.
fn bytes(info: SigInfo) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let [a, b, c, _] = info.fields;
    let half = |value: u64| (value as u32, (value >> 32) as u32);
    put(0, u32::from(info.signo));
    put(4, info.errno as u32);
    put(8, info.code as u32);
    let signo = u32::from(info.signo);
    let from_kernel = info.code > 0 && info.code != g::SI_KERNEL as i32;
    let fault = matches!(
        signo,
        g::SIGSEGV | g::SIGBUS | g::SIGILL | g::SIGFPE | g::SIGTRAP
    );
    match info.code {
        code if code == g::SI_TIMER => {
            // si_tid, si_overrun, si_value
            put(24, half(a).0);
            put(32, half(a).1);
            put(44, half(b).0);
            put(48, half(b).0);
            put(52, half(b).1);
        }
        _ if from_kernel && fault => {
            put(72, half(a).0);
            put(76, half(a).1);
        }
        _ if from_kernel && signo == g::SIGCHLD => {
            put(12, half(a).0);
            put(16, half(a).1);
            // si_status, si_utime, si_stime
            put(40, half(b).0);
            put(56, half(c).0);
            put(60, half(c).1);
        }
        code if code < 0 && code != g::SI_TKILL => {
            // si_pid, si_uid, si_value
            put(12, half(a).0);
            put(16, half(a).1);
            put(44, half(b).0);
            put(48, half(b).0);
            put(52, half(b).1);
        }
        _ => {
            put(12, half(a).0);
            put(16, half(a).1);
        }
    }
    bytes
}

/// The signals that an open file reads. `EBADF` for others.
fn mask_of(k: &Files, id: FileId) -> Result<u64, Errno> {
    match file::at(k, id).kind {
        FileKind::SignalFd(mask) => Ok(mask),
        _ => Err(Errno::EBADF),
    }
}

impl FileOps<Kernel> for Signals {
    fn read(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let mask = mask_of(cx.k, id)?;
        read(cx, mask, iov, how.blocking)
    }

    fn ready(k: &Kernel, thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        mask_of(k, id).map_or(0, |mask| ready(k, thread, mask))
    }

    fn key(k: &Kernel, thread: ThreadId, _id: FileId) -> Option<WaitKey> {
        Some(WaitKey::Signals(k.tasks.get(thread)?.tgid))
    }

    fn fdinfo(_k: &Kernel, file: &File, _ns: NsId) -> String {
        match file.kind {
            FileKind::SignalFd(mask) => format!("sigmask:\t{mask:016x}\n"),
            _ => String::new(),
        }
    }
}
