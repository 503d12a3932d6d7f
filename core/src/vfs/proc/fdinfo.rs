//! `/proc/PID/fdinfo`: what is told of an open file (proc(5)).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::process::View;
use crate::Kernel;
use crate::abi::Errno;
use crate::ns::{NsId, pid};
use crate::vfs::{FileId, FileKind, epoll, inotify, lock};

pub(super) fn fd_info(k: &Kernel, view: View, fd: u32, ns: NsId) -> Result<Vec<u8>, Errno> {
    let id: FileId = view.file(k, fd).ok_or(Errno::ENOENT)?;
    let open = k.vfs.file(id).ok_or(Errno::ENOENT)?;
    let mut text = format!(
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{}\n",
        open.offset,
        open.flags | cloexec(k, view, fd),
        open.path.mount.number(),
        k.vfs
            .dentries
            .at(open.path.dentry)
            .ino
            .map_or(0, |ino| ino.0)
    );
    text += &lock::of_file(k, id, ns);
    text += &event_info(k, &open.kind, ns);
    Ok(text.into_bytes())
}

/// `O_CLOEXEC`, if the descriptor has it: it is not among the file's flags.
fn cloexec(k: &Kernel, view: View, fd: u32) -> u32 {
    let slot = view.task(k).filter(|task| !task.exited).and_then(|task| {
        let fd = i32::try_from(fd).ok()?;
        k.vfs.fd_table(task.files).get(fd)
    });
    match slot.is_some_and(|slot| slot.cloexec) {
        true => crate::abi::raw::general::O_CLOEXEC,
        false => 0,
    }
}

/// The lines that files which are events add (proc(5), "/proc/pid/fdinfo").
fn event_info(k: &Kernel, kind: &FileKind, ns: NsId) -> String {
    let span = |nanos: u64| format!("({}, {})", nanos / 1_000_000_000, nanos % 1_000_000_000);
    match kind {
        FileKind::EventFd(event) => format!(
            "eventfd-count: {:16x}\neventfd-id: 0\neventfd-semaphore: {}\n",
            event.count,
            u8::from(event.semaphore)
        ),
        FileKind::TimerFd(timer) => {
            let left = match timer.at {
                Some(at) if !timer.expired => at.saturating_sub(k.system.now.mono),
                _ => 0,
            };
            format!(
                "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: {}\nit_interval: {}\n",
                timer.clock,
                timer.ticks,
                timer.flags,
                span(left),
                span(timer.interval)
            )
        }
        FileKind::SignalFd(mask) => format!("sigmask:\t{mask:016x}\n"),
        FileKind::PidFd(pid) => {
            let Some(tgid) = pid.process(k) else {
                return "Pid:\t-1\nNSpid:\t-1\n".into();
            };
            let number = pid.thread.unwrap_or(tgid);
            let own = k.tasks.leader(tgid).map_or(ns, |task| task.ns.pid);
            let shown = pid::show(k, ns, number);
            let inner = pid::numbers(k, ns, own, number).into_iter();
            let inner: String = inner.map(|number| format!("\t{number}")).collect();
            format!("Pid:\t{shown}\nNSpid:{inner}\n")
        }
        FileKind::Epoll(epoll) => epoll::info(k, epoll),
        FileKind::Inotify(instance) => inotify::info(instance),
        _ => String::new(),
    }
}
