//! Files of `/proc` that tell of one process or thread.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use super::memory;
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::machine::ThreadId;
use crate::mm::space;
use crate::port::Ports;
use crate::task::Task;
use crate::vfs::mount::MountFlags;
use crate::vfs::{FileId, FileKind, FsContext, MountId, PathRef, epoll, inotify, walk};

/// Nanoseconds in a clock tick.
const TICK: u64 = 10_000_000;
/// Most bytes of arguments, environment and the like that are shown.
const TEXT_MAX: u64 = 1 << 20;

/// A process, or one thread of it seen through `task/`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct View {
    /// Process or thread number.
    pub id: u32,
    /// Seen as a single thread.
    pub thread: bool,
}

impl View {
    /// The task that is told about: of a process, its leader or (once that has ended) any thread.
    pub(super) fn task<'k>(&self, k: &'k Kernel) -> Option<&'k Task> {
        let direct = k
            .tasks
            .by_tid(self.id)
            .and_then(|thread| k.tasks.get(thread));
        match direct {
            Some(task) => Some(task),
            None if !self.thread => {
                let first = k.tasks.threads(self.id).next()?;
                k.tasks.get(k.tasks.by_tid(first)?)
            }
            None => None,
        }
    }

    /// Root, working directory and umask, while the task lives.
    fn context<'k>(&self, k: &'k Kernel) -> Option<&'k FsContext> {
        let task = self.task(k).filter(|task| !task.exited)?;
        Some(k.vfs.fs_context(task.fs))
    }

    fn live<'k>(&self, k: &'k Kernel) -> Result<&'k Task, Errno> {
        self.task(k).ok_or(Errno::ESRCH)
    }

    /// Owner of the files: the effective user and group.
    pub(super) fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.task(k)
            .map_or((0, 0), |task| (task.creds.euid, task.creds.egid))
    }

    /// The open file behind a descriptor.
    pub(super) fn file(&self, k: &Kernel, fd: u32) -> Option<FileId> {
        let task = self.task(k).filter(|task| !task.exited)?;
        Some(
            k.vfs
                .fd_table(task.files)
                .get(i32::try_from(fd).ok()?)?
                .file,
        )
    }

    /// All descriptors.
    pub(super) fn fds(&self, k: &Kernel) -> Vec<u32> {
        let task = self.task(k).filter(|task| !task.exited);
        task.map_or(Vec::new(), |task| {
            k.vfs
                .fd_table(task.files)
                .iter()
                .map(|(fd, _)| fd as u32)
                .collect()
        })
    }
}

type Make = fn(&mut Kernel, &mut Ports<'_>, ThreadId, View) -> Result<Vec<u8>, Errno>;

/// What an entry of [`FILES`] is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A file with these permissions and what makes its contents.
    File(u32, Make),
    /// A magic link.
    Link(fn(&Kernel, View) -> Option<PathRef>),
}

impl Kind {
    pub(super) fn mode(self) -> u32 {
        match self {
            Kind::File(mode, _) => g::S_IFREG | mode,
            Kind::Link(_) => g::S_IFLNK | 0o777,
        }
    }

    pub(super) fn read_link(
        self,
        k: &Kernel,
        thread: ThreadId,
        view: View,
    ) -> Result<Vec<u8>, Errno> {
        let Kind::Link(target) = self else {
            return Err(Errno::EINVAL);
        };
        Ok(path_text(k, thread, target(k, view).ok_or(Errno::ENOENT)?))
    }
}

/// What the directory of a process or thread holds beside `fd`, `fdinfo` and `task`.
pub(super) static FILES: &[(&str, Kind)] = &[
    ("auxv", Kind::File(0o400, auxv)),
    (
        "cgroup",
        Kind::File(0o444, |_, _, _, _| Ok(b"0::/\n".to_vec())),
    ),
    ("cmdline", Kind::File(0o444, cmdline)),
    ("comm", Kind::File(0o644, comm)),
    ("cwd", Kind::Link(|k, view| Some(view.context(k)?.cwd))),
    ("environ", Kind::File(0o400, environ)),
    ("exe", Kind::Link(exe)),
    (
        "io",
        Kind::File(0o400, |_, _, _, _| Ok(IO.as_bytes().to_vec())),
    ),
    ("limits", Kind::File(0o444, limits)),
    (
        "loginuid",
        Kind::File(0o644, |_, _, _, _| Ok(b"4294967295".to_vec())),
    ),
    ("maps", Kind::File(0o444, memory::maps)),
    ("mountinfo", Kind::File(0o444, mountinfo)),
    ("mounts", Kind::File(0o444, mounts)),
    (
        "oom_score",
        Kind::File(0o444, |_, _, _, _| Ok(b"0\n".to_vec())),
    ),
    ("oom_score_adj", Kind::File(0o644, oom_score_adj)),
    ("root", Kind::Link(|k, view| Some(view.context(k)?.root))),
    ("smaps", Kind::File(0o444, memory::smaps)),
    ("smaps_rollup", Kind::File(0o444, memory::smaps_rollup)),
    ("stat", Kind::File(0o444, stat)),
    ("statm", Kind::File(0o444, memory::statm)),
    ("status", Kind::File(0o444, status)),
];

const IO: &str = "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n";

/// The place of a name in [`FILES`].
pub(super) fn find(name: &[u8]) -> Option<usize> {
    FILES.iter().position(|(other, _)| other.as_bytes() == name)
}

fn exe(k: &Kernel, view: View) -> Option<PathRef> {
    let task = view.task(k).filter(|task| !task.exited)?;
    Some(k.vfs.file(k.tasks.group(task.tgid)?.exe?)?.path)
}

/// A place as the asking thread names it.
fn path_text(k: &Kernel, thread: ThreadId, path: PathRef) -> Vec<u8> {
    match k.tasks.get(thread) {
        Some(task) => walk::path_of(k, k.vfs.fs_context(task.fs).root, path),
        None => Vec::new(),
    }
}

/// An open file as its link in `fd` shows it: a path, or `pipe:[7]`.
pub(super) fn file_text(k: &Kernel, thread: ThreadId, id: FileId) -> Vec<u8> {
    match k.vfs.file(id) {
        Some(open) => path_text(k, thread, open.path),
        None => Vec::new(),
    }
}

/// Permissions of a descriptor's link: what the file was opened for.
pub(super) fn fd_mode(k: &Kernel, view: View, fd: u32) -> u32 {
    let Some(open) = view.file(k, fd).and_then(|id| k.vfs.file(id)) else {
        return 0;
    };
    let read = if open.readable() { 0o500 } else { 0 };
    let write = if open.writable() { 0o300 } else { 0 };
    read | write
}

pub(super) fn fd_info(k: &Kernel, view: View, fd: u32) -> Result<Vec<u8>, Errno> {
    let open = view
        .file(k, fd)
        .and_then(|id| k.vfs.file(id))
        .ok_or(Errno::ENOENT)?;
    let mut text = format!(
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{}\n",
        open.offset,
        open.flags,
        open.path.mount.0,
        open.inode.map_or(0, |inode| inode.ino.0)
    );
    text += &event_info(k, &open.kind);
    Ok(text.into_bytes())
}

/// The lines that files which are events add (proc(5), "/proc/pid/fdinfo").
fn event_info(k: &Kernel, kind: &FileKind) -> String {
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
            let number = match pid.process(k) {
                Some(tgid) => i64::from(pid.thread.unwrap_or(tgid)),
                None => -1,
            };
            format!("Pid:\t{number}\nNSpid:\t{number}\n")
        }
        FileKind::Epoll(epoll) => epoll::info(k, epoll),
        FileKind::Inotify(instance) => inotify::info(instance),
        _ => String::new(),
    }
}

/// Bytes of a task's memory between two addresses; empty where it has none any more.
fn bytes_of(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    view: View,
    range: (u64, u64),
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    if task.exited || range.1 <= range.0 {
        return Ok(Vec::new());
    }
    let id = task.space;
    let mut text = vec![0; (range.1 - range.0).min(TEXT_MAX) as usize];
    match crate::mm::user::read_in(k, p, id, range.0, &mut text) {
        Ok(()) => Ok(text),
        Err(_) => Ok(Vec::new()),
    }
}

fn cmdline(k: &mut Kernel, p: &mut Ports<'_>, _: ThreadId, view: View) -> Result<Vec<u8>, Errno> {
    let layout = space::layout(k, view.live(k)?.space);
    bytes_of(k, p, view, (layout.arg_start, layout.arg_end))
}

fn environ(k: &mut Kernel, p: &mut Ports<'_>, _: ThreadId, view: View) -> Result<Vec<u8>, Errno> {
    let layout = space::layout(k, view.live(k)?.space);
    bytes_of(k, p, view, (layout.env_start, layout.env_end))
}

fn auxv(k: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, view: View) -> Result<Vec<u8>, Errno> {
    let id = view.live(k)?.space;
    Ok(space::auxv(k, id)
        .iter()
        .flat_map(|&(key, value)| [key, value])
        .flat_map(u64::to_le_bytes)
        .collect())
}

/// `comm` without the padding.
fn name_of(task: &Task) -> &[u8] {
    let end = task
        .comm
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(task.comm.len());
    &task.comm[..end]
}

fn comm(k: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, view: View) -> Result<Vec<u8>, Errno> {
    let mut text = name_of(view.live(k)?).to_vec();
    text.push(b'\n');
    Ok(text)
}

fn oom_score_adj(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let tgid = view.live(k)?.tgid;
    let value = k.tasks.group(tgid).map_or(0, |group| group.oom_score_adj);
    Ok(format!("{value}\n").into_bytes())
}

pub(super) fn write(k: &mut Kernel, view: View, name: &str, data: &[u8]) -> Result<(), Errno> {
    let task = view.live(k)?;
    let (id, tgid) = (task.id, task.tgid);
    match name {
        "comm" => {
            let text = data.strip_suffix(b"\n").unwrap_or(data);
            if let Some(task) = k.tasks.get_mut(id) {
                task.comm = [0; 15];
                for (to, from) in task.comm.iter_mut().zip(text) {
                    *to = *from;
                }
            }
            Ok(())
        }
        "oom_score_adj" => {
            let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
            let value: i16 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
            if !(-1000..=1000).contains(&value) {
                return Err(Errno::EINVAL);
            }
            if let Some(group) = k.tasks.group_mut(tgid) {
                group.oom_score_adj = value;
            }
            Ok(())
        }
        // No audit session can be set from inside.
        "loginuid" => Err(Errno::EPERM),
        _ => Err(Errno::EACCES),
    }
}

/// One letter for what a task does, and its long name (proc(5)).
fn state(task: &Task) -> (char, &'static str) {
    match task {
        task if task.exited => ('Z', "zombie"),
        task if task.stopped => ('T', "stopped"),
        task if task.call.as_ref().is_some_and(|call| call.wait.is_some()) => ('S', "sleeping"),
        _ => ('R', "running"),
    }
}

/// Signal sets as proc(5) shows them: pending of the thread, pending of the process, blocked, ignored, caught.
fn signals(k: &Kernel, task: &Task) -> [u64; 5] {
    crate::task::signal::sets(k, task.id)
}

fn stat(k: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, view: View) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let group = k.tasks.group(task.tgid).ok_or(Errno::ESRCH)?;
    let mut text = format!("{} (", if view.thread { task.tid } else { task.tgid }).into_bytes();
    text.extend_from_slice(name_of(task));
    let threads = k.tasks.threads(task.tgid).count();
    let cpu = match view.thread {
        true => task.cpu_time,
        false => k.tasks.group_cpu_time(task.tgid),
    } / TICK;
    let children = k.tasks.children_cpu_time(task.tgid) / TICK;
    let started = group.started.mono.saturating_sub(k.system.booted.mono) / TICK;
    let (usage, layout) = match task.exited {
        true => Default::default(),
        false => (space::usage(k, task.space), space::layout(k, task.space)),
    };
    let [pending, _, blocked, ignored, caught] = signals(k, task);
    let (rss_limit, _) = k
        .tasks
        .rlimit(task.tgid, g::RLIMIT_RSS)
        .unwrap_or((u64::MAX, u64::MAX));
    let rest = format!(
        ") {} {} {} {} {} {} 0 0 0 0 0 {cpu} 0 {children} 0 {} {} {threads} 0 {started} {} {} {rss_limit} {} {} {} {} {} \
         {pending} {blocked} {ignored} {caught} 0 0 0 {} 0 0 0 0 0 0 0 {} {} {} {} {} {} {} {}\n",
        state(task).0,
        group.parent,
        group.pgid,
        group.sid,
        0,
        -1,
        20 + i32::from(task.nice),
        task.nice,
        usage.vm_bytes,
        usage.rss_bytes() / PAGE_SIZE,
        layout.code_start,
        layout.code_end,
        layout.stack_start,
        task.regs.rsp,
        task.regs.rip,
        g::SIGCHLD,
        layout.data_start,
        layout.data_end,
        layout.brk_start,
        layout.arg_start,
        layout.arg_end,
        layout.env_start,
        layout.env_end,
        0,
    );
    text.extend_from_slice(rest.as_bytes());
    Ok(text)
}

fn status(k: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, view: View) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let group = k.tasks.group(task.tgid).ok_or(Errno::ESRCH)?;
    let creds = &task.creds;
    let (letter, long) = state(task);
    let umask = view.context(k).map_or(0o22, |context| context.umask);
    let mut text = b"Name:\t".to_vec();
    text.extend_from_slice(name_of(task));
    let mut rest = String::new();
    let groups: String = creds.groups.iter().map(|gid| format!("{gid} ")).collect();
    let tid = if view.thread { task.tid } else { task.tgid };
    let tgid = task.tgid;
    let _ = write!(
        rest,
        "\nUmask:\t{umask:04o}\nState:\t{letter} ({long})\nTgid:\t{tgid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{}\nTracerPid:\t0\n\
         Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t64\nGroups:\t{groups}\nNStgid:\t{tgid}\nNSpid:\t{tid}\n\
         NSpgid:\t{}\nNSsid:\t{}\n",
        group.parent,
        creds.uid,
        creds.euid,
        creds.suid,
        creds.fsuid,
        creds.gid,
        creds.egid,
        creds.sgid,
        creds.fsgid,
        group.pgid,
        group.sid,
    );
    if !task.exited {
        rest += &memory::status_lines(k, task.space);
    }
    let [pending, shared, blocked, ignored, caught] = signals(k, task);
    let threads = k.tasks.threads(task.tgid).count();
    let (sig_limit, _) = k
        .tasks
        .rlimit(task.tgid, g::RLIMIT_SIGPENDING)
        .unwrap_or((0, 0));
    let cpus = k.system.cpus.min(32);
    let _ = write!(
        rest,
        "Threads:\t{threads}\nSigQ:\t0/{sig_limit}\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\n\
         SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\nCapInh:\t{:016x}\nCapPrm:\t{:016x}\n\
         CapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\n\
         Cpus_allowed:\t{:x}\nCpus_allowed_list:\t0-{}\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
        creds.cap_inheritable,
        creds.cap_permitted,
        creds.cap_effective,
        creds.cap_bounding,
        creds.cap_ambient,
        u8::from(creds.no_new_privs),
        (1u64 << cpus) - 1,
        cpus - 1,
    );
    text.extend_from_slice(rest.as_bytes());
    Ok(text)
}

fn limits(k: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, view: View) -> Result<Vec<u8>, Errno> {
    const LINES: &[(&str, u32, &str)] = &[
        ("Max cpu time", g::RLIMIT_CPU, "seconds"),
        ("Max file size", g::RLIMIT_FSIZE, "bytes"),
        ("Max data size", g::RLIMIT_DATA, "bytes"),
        ("Max stack size", g::RLIMIT_STACK, "bytes"),
        ("Max core file size", g::RLIMIT_CORE, "bytes"),
        ("Max resident set", g::RLIMIT_RSS, "bytes"),
        ("Max processes", g::RLIMIT_NPROC, "processes"),
        ("Max open files", g::RLIMIT_NOFILE, "files"),
        ("Max locked memory", g::RLIMIT_MEMLOCK, "bytes"),
        ("Max address space", g::RLIMIT_AS, "bytes"),
        ("Max file locks", g::RLIMIT_LOCKS, "locks"),
        ("Max pending signals", g::RLIMIT_SIGPENDING, "signals"),
        ("Max msgqueue size", g::RLIMIT_MSGQUEUE, "bytes"),
        ("Max nice priority", g::RLIMIT_NICE, ""),
        ("Max realtime priority", g::RLIMIT_RTPRIO, ""),
        ("Max realtime timeout", g::RLIMIT_RTTIME, "us"),
    ];
    let tgid = view.live(k)?.tgid;
    let mut text = format!(
        "{:<26}{:<21}{:<21}{:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    let show = |value: u64| match value {
        u64::MAX => "unlimited".into(),
        value => format!("{value}"),
    };
    for &(name, resource, unit) in LINES {
        let (soft, hard) = k
            .tasks
            .rlimit(tgid, resource)
            .unwrap_or((u64::MAX, u64::MAX));
        let _ = writeln!(
            text,
            "{name:<26}{:<21}{:<21}{unit:<10}",
            show(soft),
            show(hard)
        );
    }
    Ok(text.into_bytes())
}

/// Text with blanks, tabs, newlines and backslashes in octal, as mount tables have it.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes())
            }
            byte => escaped.push(byte),
        }
    }
    escaped
}

/// Options of a mount as mount tables show them.
fn options(flags: MountFlags) -> String {
    let mut text = String::from(if flags.contains(MountFlags::READ_ONLY) {
        "ro"
    } else {
        "rw"
    });
    for (flag, name) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
    ] {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    text.push_str(",relatime");
    text
}

/// The mounts that hang somewhere, and where.
fn mounted(k: &Kernel, thread: ThreadId) -> Vec<(MountId, Vec<u8>)> {
    let shown = k
        .vfs
        .mounts
        .iter()
        .filter(|(_, mount)| mount.on.is_some() || mount.fs_type != "pipefs");
    shown
        .map(|(id, mount)| {
            (
                id,
                path_text(
                    k,
                    thread,
                    PathRef {
                        mount: id,
                        dentry: mount.root,
                    },
                ),
            )
        })
        .collect()
}

fn mounts(k: &mut Kernel, _: &mut Ports<'_>, thread: ThreadId, _: View) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (id, at) in mounted(k, thread) {
        let mount = k.vfs.mounts.at(id);
        text.extend_from_slice(&escape(&mount.source));
        text.push(b' ');
        text.extend_from_slice(&escape(&at));
        text.extend_from_slice(
            format!(" {} {} 0 0\n", mount.fs_type, options(mount.flags)).as_bytes(),
        );
    }
    Ok(text)
}

fn mountinfo(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (id, at) in mounted(k, thread) {
        let mount = k.vfs.mounts.at(id);
        let parent = mount.on.map_or(id, |on| on.mount);
        let head = format!("{} {} 0:{} / ", id.0, parent.0, mount.fs.0 + 1);
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(&escape(&at));
        let middle = format!(" {} - {} ", options(mount.flags), mount.fs_type);
        text.extend_from_slice(middle.as_bytes());
        text.extend_from_slice(&escape(&mount.source));
        let end = if mount.flags.contains(MountFlags::READ_ONLY) {
            " ro\n"
        } else {
            " rw\n"
        };
        text.extend_from_slice(end.as_bytes());
    }
    Ok(text)
}
