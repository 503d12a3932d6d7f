//! Files of `/proc` that tell of one process or thread.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt::Write;

use super::shown::Rest;
use super::view::View;
use super::{identity, listed, memory, mounts, net, state};
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::cred::ns;
use crate::cred::ns::{NsId, USER, pid, user};
use crate::file::FileId;
use crate::machine::ThreadId;
use crate::mm::space;
use crate::port::Ports;
use crate::task::{Task, usage};
use crate::vfs::PathRef;
use crate::vfs::d_path;
use crate::vfs::perm::Who;

/// Nanoseconds in a clock tick.
const TICK: u64 = 10_000_000;
/// Most bytes of arguments, environment and the like that are shown.
const TEXT_MAX: u64 = 1 << 20;

/// What makes contents with the numbers of a PID namespace.
pub(super) type MakeIn = fn(&mut Kernel, View, ThreadId, NsId) -> Result<Vec<u8>, Errno>;
pub(super) type Begin = fn(&Kernel, View) -> Result<Option<Rest>, Errno>;
pub(super) type Make = fn(&mut Kernel, &mut Ports<'_>, ThreadId, View) -> Result<Vec<u8>, Errno>;

/// What an entry of [`FILES`] is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A directory with these permissions.
    Dir(u32),
    /// A file with these permissions and what makes its contents.
    File(u32, Make),
    /// A file that is opened only by who may look into the process as a debugger does (ptrace(2)); others get
    /// `EACCES`.
    Private(u32, Make),
    /// The same, but it is asked when the file is read, and others get this error.
    Judged(u32, Errno, Make),
    /// The same of what tells of its memory: also those open it who may watch the whole system.
    Memory(u32, Make),
    /// A file with a record for each of many things, also one about memory, and where to begin; nothing of a
    /// process that has ended.
    Records(u32, Begin),
    MemoryRecords(u32, Begin),
    /// A file that shows numbers of processes as a PID namespace has them.
    Numbers(MakeIn),
    /// A magic link.
    Link(fn(&Kernel, View) -> Option<PathRef>),
    /// The link to a namespace.
    Namespace(ns::Kind),
    /// The link to the PID namespace of its children, once that has a process.
    Children,
}

impl Kind {
    pub(super) fn mode(self) -> u32 {
        match self {
            Kind::Dir(mode) => g::S_IFDIR | mode,
            Kind::File(mode, _)
            | Kind::Private(mode, _)
            | Kind::Judged(mode, _, _)
            | Kind::Memory(mode, _)
            | Kind::Records(mode, _)
            | Kind::MemoryRecords(mode, _) => g::S_IFREG | mode,
            Kind::Numbers(_) => g::S_IFREG | 0o444,
            Kind::Link(_) | Kind::Namespace(_) | Kind::Children => g::S_IFLNK | 0o777,
        }
    }

    /// The namespace that a link leads to.
    pub(super) fn namespace(self, k: &Kernel, view: View) -> Option<(ns::Kind, Option<NsId>)> {
        match self {
            Kind::Namespace(kind) => Some((kind, view.namespace(k, kind))),
            Kind::Children => {
                let task = view.task(k).filter(|task| !task.exited);
                let id = task.map(|task| task.ns.pid_for_children);
                Some((ns::Kind::Pid, id.filter(|&id| pid::has_init(k, id))))
            }
            _ => None,
        }
    }

    pub(super) fn read_link(
        self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        thread: ThreadId,
        view: View,
    ) -> Result<Vec<u8>, Errno> {
        if let Some((kind, id)) = self.namespace(k, view) {
            check_access(k, thread, view)?;
            let id = id.ok_or(Errno::ENOENT)?;
            return Ok(format!("{}:[{}]", kind.name(), id.0).into_bytes());
        }
        let Kind::Link(target) = self else {
            return Err(Errno::EINVAL);
        };
        check_access(k, thread, view)?;
        let path = target(k, view).ok_or(Errno::ENOENT)?;
        target_text(k, p, thread, path)
    }
}

/// What the directory of a process or thread holds beside `fd`, `fdinfo` and `task`: paths below it, each
/// directory before what is in it.
pub(super) static FILES: &[(&str, Kind)] = &[
    ("attr", Kind::Dir(0o555)),
    ("attr/current", Kind::File(0o666, no_module)),
    ("attr/exec", Kind::File(0o666, no_module)),
    ("attr/fscreate", Kind::File(0o666, no_module)),
    ("attr/keycreate", Kind::File(0o666, no_module)),
    ("attr/prev", Kind::File(0o444, no_module)),
    ("attr/sockcreate", Kind::File(0o666, no_module)),
    ("auxv", Kind::Memory(0o400, auxv)),
    ("children", Kind::Numbers(children)),
    ("clear_refs", Kind::Private(0o200, nothing)),
    (
        "cgroup",
        Kind::File(0o444, |_, _, _, _| Ok(b"0::/\n".to_vec())),
    ),
    ("cmdline", Kind::File(0o444, cmdline)),
    ("comm", Kind::File(0o644, comm)),
    ("coredump_filter", Kind::File(0o644, state::coredump_filter)),
    (
        "cpuset",
        Kind::File(0o444, |_, _, _, _| Ok(b"/\n".to_vec())),
    ),
    ("cwd", Kind::Link(|k, view| Some(*view.context(k)?.cwd))),
    ("environ", Kind::Memory(0o400, environ)),
    ("exe", Kind::Link(exe)),
    ("gid_map", Kind::File(0o644, identity::gid_map)),
    ("io", Kind::Judged(0o400, Errno::EACCES, state::io)),
    ("limits", Kind::File(0o444, limits)),
    ("loginuid", Kind::File(0o644, identity::no_session)),
    ("maps", Kind::MemoryRecords(0o444, memory::maps)),
    ("mem", Kind::Private(0o600, nothing)),
    ("mountinfo", Kind::Records(0o444, mounts::mountinfo)),
    ("mounts", Kind::Records(0o444, mounts::mounts)),
    ("mountstats", Kind::Records(0o400, mounts::mountstats)),
    ("net", Kind::Dir(0o555)),
    ("net/arp", Kind::File(0o444, net::arp)),
    ("net/dev", Kind::File(0o444, net::dev)),
    ("net/dev_mcast", Kind::File(0o444, net::nothing)),
    ("net/if_inet6", Kind::File(0o444, net::nothing)),
    ("net/ipv6_route", Kind::File(0o444, net::nothing)),
    ("net/netlink", Kind::File(0o444, net::netlink)),
    ("net/packet", Kind::File(0o444, net::packet)),
    ("net/protocols", Kind::File(0o444, net::protocols)),
    ("net/raw", Kind::File(0o444, net::udp)),
    ("net/raw6", Kind::File(0o444, net::udp6)),
    ("net/route", Kind::File(0o444, net::route)),
    ("net/sockstat", Kind::File(0o444, net::sockstat)),
    ("net/tcp", Kind::File(0o444, net::tcp)),
    ("net/tcp6", Kind::File(0o444, net::tcp6)),
    ("net/udp", Kind::File(0o444, net::udp)),
    ("net/udp6", Kind::File(0o444, net::udp6)),
    ("net/unix", Kind::Records(0o444, listed::sockets)),
    ("ns", Kind::Dir(0o511)),
    ("ns/cgroup", Kind::Namespace(ns::Kind::Cgroup)),
    ("ns/ipc", Kind::Namespace(ns::Kind::Ipc)),
    ("ns/mnt", Kind::Namespace(ns::Kind::Mount)),
    ("ns/net", Kind::Namespace(ns::Kind::Net)),
    ("ns/pid", Kind::Namespace(ns::Kind::Pid)),
    ("ns/pid_for_children", Kind::Children),
    ("ns/user", Kind::Namespace(ns::Kind::User)),
    ("ns/uts", Kind::Namespace(ns::Kind::Uts)),
    ("oom_adj", Kind::File(0o644, state::oom_adj)),
    ("oom_score", Kind::File(0o444, state::oom_score)),
    ("oom_score_adj", Kind::File(0o644, oom_score_adj)),
    ("pagemap", Kind::Private(0o400, nothing)),
    (
        "personality",
        Kind::Judged(0o400, Errno::EPERM, state::personality),
    ),
    ("projid_map", Kind::File(0o644, identity::projid_map)),
    ("root", Kind::Link(|k, view| Some(*view.context(k)?.root))),
    ("sched", Kind::File(0o644, state::sched)),
    ("schedstat", Kind::File(0o444, state::schedstat)),
    ("sessionid", Kind::File(0o444, identity::no_session)),
    ("setgroups", Kind::File(0o644, identity::setgroups)),
    ("smaps", Kind::MemoryRecords(0o444, memory::smaps)),
    (
        "smaps_rollup",
        Kind::MemoryRecords(0o444, memory::smaps_rollup),
    ),
    ("stack", Kind::File(0o400, state::stack)),
    ("stat", Kind::Numbers(stat)),
    ("statm", Kind::File(0o444, memory::statm)),
    ("status", Kind::Numbers(status)),
    ("syscall", Kind::Judged(0o400, Errno::EPERM, state::syscall)),
    ("timerslack_ns", Kind::File(0o666, state::timerslack)),
    ("uid_map", Kind::File(0o644, identity::uid_map)),
    ("wchan", Kind::File(0o444, |_, _, _, _| Ok(b"0".to_vec()))),
];

/// What cannot be opened once the process has no memory any more: `ESRCH`.
pub(super) const NEED_MEMORY: [&str; 5] = ["auxv", "environ", "mem", "pagemap", "smaps_rollup"];

/// Whether an entry is there: some are in the directories of threads alone.
pub(super) fn is_shown(place: usize, view: View) -> bool {
    FILES[place].0 != "children" || view.thread
}

/// Number of directories that every process has, beside `fd`, `fdinfo` and `task`.
pub(super) fn directories() -> usize {
    entries("")
        .filter(|&place| matches!(FILES[place].1, Kind::Dir(_)))
        .count()
}

/// The path in the directory that is the path `dir` (empty: that of the process itself) called `name`.
pub(super) fn find(dir: &str, name: &[u8]) -> Option<usize> {
    entries(dir).find(|&place| last(place) == name)
}

/// The places of what is in a directory of [`FILES`].
pub(super) fn entries(dir: &str) -> impl Iterator<Item = usize> {
    (0..FILES.len()).filter(move |&place| parent(FILES[place].0) == dir)
}

/// The last component of the path at a place.
pub(super) fn last(place: usize) -> &'static [u8] {
    let path = FILES[place].0;
    path.rsplit('/').next().unwrap_or(path).as_bytes()
}

fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at])
}

/// `EACCES` unless the thread may look into the process as a debugger does.
pub(super) fn check_access(k: &Kernel, thread: ThreadId, view: View) -> Result<(), Errno> {
    let task = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    check_access_by(k, &Who::Creds(task.creds.clone(), Some(thread)), view)
}

/// The same in other names than a thread's own.
pub(super) fn check_access_by(k: &Kernel, who: &Who, view: View) -> Result<(), Errno> {
    let target = view.live(k)?.id;
    match crate::task::look::may_look_by_files(k, who, target) {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

/// The same for files that tell of memory, which those may read, too, who may watch the whole system
/// (`may_access_mm()`).
pub(super) fn check_memory(k: &Kernel, thread: ThreadId, view: View) -> Result<(), Errno> {
    let watches =
        |task: &Task| task.creds.capable(g::CAP_PERFMON) || task.creds.capable(g::CAP_SYS_ADMIN);
    match k.tasks.get(thread).is_some_and(watches) {
        true => view.live(k).map(|_| ()),
        false => check_access(k, thread, view),
    }
}

/// What a security module would tell; there is none.
fn no_module(_: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, _: View) -> Result<Vec<u8>, Errno> {
    Err(Errno::EINVAL)
}

/// What is not read as a text.
fn nothing(_: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, _: View) -> Result<Vec<u8>, Errno> {
    Err(Errno::EINVAL)
}

/// The processes that a thread has made.
fn children(k: &mut Kernel, view: View, _: ThreadId, ns: NsId) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let group = k.tasks.group(task.tgid);
    let own = group.map_or_else(Vec::new, |group| {
        group.children.of_thread(task.id).collect()
    });
    let shown = own.into_iter().map(|child| pid::show(k, ns, child));
    let text: String = shown
        .filter(|&number| number > 0)
        .map(|number| format!("{number} "))
        .collect();
    Ok(text.into_bytes())
}

fn exe(k: &Kernel, view: View) -> Option<PathRef> {
    let task = view.task(k).filter(|task| !task.exited)?;
    Some(*k.files.file(k.tasks.group(task.tgid)?.exe?)?.path)
}

/// A place as a link shows it to a thread that reads it. `LATER` if there are too many mounts on the way for
/// one input, `ENAMETOOLONG`.
pub(super) fn target_text(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    thread: ThreadId,
    path: PathRef,
) -> Result<Vec<u8>, Errno> {
    let task = k.tasks.get(thread).ok_or(Errno::ENOENT)?;
    let root = *k.files.fs_context(task.fs).root;
    let text = d_path::path_of(k, p, thread, root, path)?;
    Ok(without_mark(text))
}

/// Only getcwd(2) says that a place cannot be reached (`d_path()`).
fn without_mark(text: Vec<u8>) -> Vec<u8> {
    let reachable = text.strip_prefix(b"(unreachable)");
    reachable.map_or_else(|| text.clone(), <[u8]>::to_vec)
}

/// A place as the asking thread names it. `ENAMETOOLONG`.
pub(crate) fn path_text(k: &Kernel, thread: ThreadId, path: PathRef) -> Result<Vec<u8>, Errno> {
    path_and_mounts(k, thread, path, &mut 0)
}

/// The same; counts the mounts on the way.
pub(super) fn path_and_mounts(
    k: &Kernel,
    thread: ThreadId,
    path: PathRef,
    mounts: &mut u64,
) -> Result<Vec<u8>, Errno> {
    match k.tasks.get(thread) {
        Some(task) => {
            let root = *k.files.fs_context(task.fs).root;
            d_path::path_and_mounts(k, root, path, mounts).map(without_mark)
        }
        None => Ok(Vec::new()),
    }
}

/// An open file as its link in `fd` shows it: a path, or `pipe:[7]`.
pub(crate) fn file_text(k: &Kernel, thread: ThreadId, id: FileId) -> Result<Vec<u8>, Errno> {
    match k.files.file(id) {
        Some(open) => path_text(k, thread, *open.path),
        None => Ok(Vec::new()),
    }
}

/// Permissions of a descriptor's link: what the file was opened for.
pub(super) fn fd_mode(k: &Kernel, view: View, fd: u32) -> u32 {
    let Some(open) = view.file(k, fd).and_then(|id| k.files.file(id)) else {
        return 0;
    };
    let read = if open.readable() { 0o500 } else { 0 };
    let write = if open.writable() { 0o300 } else { 0 };
    read | write
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
pub(super) fn name_of(task: &Task) -> &[u8] {
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

/// Writes to a file of a process. `EINVAL` where nothing can be written.
pub(super) fn write(
    k: &mut Kernel,
    thread: ThreadId,
    view: View,
    name: &str,
    data: &[u8],
) -> Result<(), Errno> {
    match name {
        "clear_refs" => memory::clear_refs(k, view, data),
        "comm" => set_comm(k, thread, view, data),
        "coredump_filter" => state::set_coredump_filter(k, view, data),
        "oom_adj" => state::set_oom_adj(k, thread, view, data),
        "oom_score_adj" => state::set_oom_score_adj(k, thread, view, data),
        "timerslack_ns" => state::set_timerslack(k, thread, view, data),
        // No audit session can be set from inside.
        "loginuid" => Err(Errno::EPERM),
        _ if name.starts_with("attr/") => Err(Errno::EINVAL),
        "sched" => Ok(()),
        "setgroups" => identity::set_setgroups(k, view, data),
        _ => Err(Errno::EINVAL),
    }
}

/// Only threads of the same process name each other.
fn set_comm(k: &mut Kernel, thread: ThreadId, view: View, data: &[u8]) -> Result<(), Errno> {
    let task = view.live(k)?;
    let (id, tgid) = (task.id, task.tgid);
    if k.tasks.get(thread).is_none_or(|own| own.tgid != tgid) {
        return Err(Errno::EINVAL);
    }
    if let Some(task) = k.tasks.get_mut(id) {
        let text = data.split(|&byte| byte == 0).next().unwrap_or_default();
        task.comm = [0; 15];
        for (to, from) in task.comm.iter_mut().zip(text) {
            *to = *from;
        }
    }
    Ok(())
}

/// One letter for what a task does, and its long name (proc(5)).
pub(super) fn state_of(task: &Task) -> (char, &'static str) {
    match task {
        task if task.exited => ('Z', "zombie"),
        task if task.stopped => ('T', "stopped"),
        task if task.call.as_ref().is_some_and(|call| call.wait.is_some()) => ('S', "sleeping"),
        _ => ('R', "running"),
    }
}

/// Signal sets as proc(5) shows them: pending of the thread, pending of the process, blocked, ignored,
/// caught.
fn signals(k: &Kernel, task: &Task) -> [u64; 5] {
    crate::task::signal::sets(k, task.id)
}

fn stat(k: &mut Kernel, view: View, reader: ThreadId, ns: NsId) -> Result<Vec<u8>, Errno> {
    let k = &*k;
    let shown = |number| pid::show(k, ns, number);
    let task = view.live(k)?;
    let group = k.tasks.group(task.tgid).ok_or(Errno::ESRCH)?;
    let mut text = format!("{} (", shown(view.id)).into_bytes();
    text.extend_from_slice(name_of(task));
    let threads = k.tasks.thread_count(task.tgid);
    let used = match view.thread {
        true => usage::of_thread(k, task.id),
        false => usage::of_process(k, task.tgid),
    };
    let children = usage::of_children(k, task.tgid);
    let (faults, child_faults) = (used.faults, children.faults);
    let [user, system, child_user, child_system] = [
        used.cpu.user,
        used.cpu.system,
        children.cpu.user,
        children.cpu.system,
    ]
    .map(|nanos| nanos / TICK);
    let started = group.started.mono.saturating_sub(k.env.booted.mono) / TICK;
    let (usage, layout) = match task.exited {
        true => Default::default(),
        false => (space::usage(k, task.space), space::layout(k, task.space)),
    };
    // Where things lie is for those who may look into the process.
    let may_look = check_access(k, reader, view).is_ok();
    let layout = if may_look { layout } else { Default::default() };
    let code = match may_look || task.exited {
        true => (layout.code_start, layout.code_end),
        false => (1, 1),
    };
    let exit_signal = match task.id == group.leader {
        true => i32::from(group.exit_signal),
        false => -1,
    };
    let [pending, _, blocked, ignored, caught] = signals(k, task);
    let alone = view.thread || threads < 2;
    let waits = u8::from(may_look && alone && state_of(task).0 != 'R');
    let (rss_limit, _) = k
        .tasks
        .rlimit(task.tgid, g::RLIMIT_RSS)
        .unwrap_or((u64::MAX, u64::MAX));
    let rest = format!(
        ") {} {} {} {} {} {} 0 {faults} {child_faults} 0 0 {user} {system} {child_user} {child_system} {} {} {threads} 0 {started} {} {} {rss_limit} {} {} {} {} {} \
         {pending} {blocked} {ignored} {caught} {waits} 0 0 {} {} {} {} 0 0 0 {} {} {} {} {} {} {} {}\n",
        state_of(task).0,
        shown(group.parent),
        shown(group.pgid),
        shown(group.sid),
        0,
        -1,
        match task.sched.priority {
            0 => 20 + i32::from(task.nice),
            priority => -1 - priority as i32,
        },
        task.nice,
        usage.vm_bytes,
        usage.rss_bytes() / PAGE_SIZE,
        code.0,
        code.1,
        layout.stack_start,
        0,
        0,
        exit_signal,
        task.sched.cpu(task.tid),
        task.sched.priority,
        task.sched.policy,
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

fn status(k: &mut Kernel, view: View, thread: ThreadId, ns: NsId) -> Result<Vec<u8>, Errno> {
    let k = &*k;
    let shown = |number| pid::show(k, ns, number);
    let task = view.live(k)?;
    let group = k.tasks.group(task.tgid).ok_or(Errno::ESRCH)?;
    let creds = &task.creds;
    let (letter, long) = state_of(task);
    let umask = view.context(k).map_or(String::new(), |context| {
        format!("Umask:\t{:04o}\n", context.umask)
    });
    let table = if task.exited { 0 } else { 64 };
    let mut text = b"Name:\t".to_vec();
    text.extend_from_slice(name_of(task));
    let mut rest = String::new();
    let reader = k.tasks.get(thread).map_or(USER, |task| task.creds.user_ns);
    let uid = |uid| user::show_uid(k, reader, uid);
    let gid = |gid| user::show_gid(k, reader, gid);
    let groups = creds.groups.iter().map(|&group| gid(group));
    let groups: String = groups.map(|gid| format!("{gid} ")).collect();
    let tid = view.id;
    let all = |number| {
        let all = pid::numbers(k, ns, task.ns.pid, number).into_iter();
        all.map(|number| format!("\t{number}")).collect::<String>()
    };
    let inner = [all(task.tgid), all(tid), all(group.pgid), all(group.sid)];
    let [inner_tgid, inner_tid, inner_pgid, inner_sid] = inner;
    let (tgid, tid, parent) = (shown(task.tgid), shown(tid), shown(group.parent));
    let _ = write!(
        rest,
        "\n{umask}State:\t{letter} ({long})\nTgid:\t{tgid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{parent}\nTracerPid:\t0\n\
         Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{table}\nGroups:\t{groups}\nNStgid:{inner_tgid}\nNSpid:{inner_tid}\n\
         NSpgid:{inner_pgid}\nNSsid:{inner_sid}\nKthread:\t0\n",
        uid(creds.uid),
        uid(creds.euid),
        uid(creds.suid),
        uid(creds.fsuid),
        gid(creds.gid),
        gid(creds.egid),
        gid(creds.sgid),
        gid(creds.fsgid),
    );
    if !task.exited {
        rest += &memory::status_lines(k, task.space);
    }
    let [pending, shared, blocked, ignored, caught] = signals(k, task);
    let threads = k.tasks.thread_count(task.tgid);
    let (sig_limit, _) = k
        .tasks
        .rlimit(task.tgid, g::RLIMIT_SIGPENDING)
        .unwrap_or((0, 0));
    let _ = write!(
        rest,
        "Threads:\t{threads}\nSigQ:\t0/{sig_limit}\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\n\
         SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\nCapInh:\t{:016x}\nCapPrm:\t{:016x}\n\
         CapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}\n\
         Cpus_allowed:\t{}\nCpus_allowed_list:\t{}\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t0\n",
        creds.cap_inheritable,
        creds.cap_permitted,
        creds.cap_effective,
        creds.cap_bounding,
        creds.cap_ambient,
        u8::from(creds.no_new_privs),
        task.seccomp.mode(),
        k.tasks.filter_count(task),
        mask(task.sched.affinity),
        list(task.sched.affinity),
        task.switches,
    );
    text.extend_from_slice(rest.as_bytes());
    Ok(text)
}

/// A set of processors as Linux prints its words.
fn mask(cpus: u64) -> String {
    match cpus >> 32 {
        0 => format!("{cpus:x}"),
        high => format!("{high:x},{:08x}", cpus as u32),
    }
}

/// A set of processors as ranges: `0-3,5`.
fn list(cpus: u64) -> String {
    let mut text = String::new();
    let has = |cpu: u32| cpu < 64 && cpus >> cpu & 1 == 1;
    let mut next = 0;
    while next < 64 {
        let first = next;
        next += 1;
        if !has(first) {
            continue;
        }
        while has(next) {
            next += 1;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match next - first {
            1 => write!(text, "{comma}{first}"),
            _ => write!(text, "{comma}{first}-{}", next - 1),
        };
    }
    text
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
        let _ = write!(text, "{name:<26}{:<21}{:<21}", show(soft), show(hard));
        let _ = match unit {
            "" => writeln!(text),
            unit => writeln!(text, "{unit:<10}"),
        };
    }
    Ok(text.into_bytes())
}
