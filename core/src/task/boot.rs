//! The first process: its user as `docker run` looks it up, its environment and its program.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use super::process::Process;
use super::sched::{Scheduling, all_cpus};
use super::signal::{Actions, AltStack, Fault, Pending, USER_CS, USER_DS};
use super::{INIT, Task, init};
use crate::abi::raw::{general as g, prctl};
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::args::{AtFlags, DirFd, OpenFlags};
use crate::boot::{BootConfig, BootError, Init, User};
use crate::cred::Creds;
use crate::env::wait::Stop;
use crate::file::{File, FileId, FileKind, fdtable, open};
use crate::machine::{Prot, Regs, SpaceId, ThreadId};
use crate::mm::vma::{Behind, Name, Vma};
use crate::port::Ports;
use crate::task::Cx;
use crate::task::PID_MAX;
use crate::vfs::mount::{get_path, put_path};
use crate::vfs::node;
use crate::vfs::walk::{self, Flags};
use crate::{Kernel, file};

const CWD: DirFd = DirFd(g::AT_FDCWD);
/// Flags register of a fresh thread: interrupts on.
const EFLAGS: u64 = 0x202;
/// Nanoseconds that timers of Linux may be late if nobody asks for another value.
const TIMER_SLACK: u64 = 50_000;
/// Where programs are looked for without `PATH`, as Docker sets it.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most bytes of `/etc/passwd` and `/etc/group` that are read.
const DATABASE_MAX: u64 = 4 << 20;

/// Makes the first process as the configuration says.
pub(crate) fn start_init(
    k: &mut Kernel,
    ports: &mut Ports<'_>,
    config: &BootConfig,
) -> Result<(), BootError> {
    let thread = make_task(k, ports)?;
    let mut cx = Cx {
        k,
        p: ports,
        thread,
    };
    let home = become_user(&mut cx, &config.user, config.capabilities)?;
    enter_dir(&mut cx, &config.cwd)?;
    match &config.init {
        Init::Exec { args } | Init::Supervised { args } => {
            let mut env = config.env.clone();
            if !env.iter().any(|entry| entry.starts_with(b"HOME=")) {
                env.push([b"HOME=", home.as_slice()].concat());
            }
            let supervised = matches!(config.init, Init::Supervised { .. });
            start_program(&mut cx, args, env, supervised)?;
        }
        &Init::Bare { addr, len } => start_bare(&mut cx, addr, len)?,
    }
    k.make_ready(thread);
    Ok(())
}

/// The first task, root for now, with an empty space and the host's streams.
fn make_task(k: &mut Kernel, p: &mut Ports<'_>) -> Result<ThreadId, BootError> {
    let root = crate::vfs::mount::root(k).ok_or_else(|| config_error("there is no root"))?;
    let files = fdtable::new_table(k);
    open::open_stdio(k, p, files);
    let fs = fdtable::new_context(k, root, root, 0o22);
    let space = crate::mm::space::create(k);
    let tid = k
        .tasks
        .new_tid(PID_MAX)
        .map_err(|errno| config_error(errno.message()))?;
    let id = k.tasks.new_thread();
    let sighand = k.tasks.new_sighand(Actions::new());
    let mut group = Process::new(tid, id, sighand, k.env.now);
    group.threads.insert(tid, id);
    k.tasks.add_group(group);
    k.insert_task(Task {
        id,
        tid,
        tgid: tid,
        regs: first_regs(),
        space,
        files,
        fs,
        creds: Creds::new(0, 0, Vec::new()).into(),
        committed: 0,
        ns: crate::cred::ns::Set::FIRST,
        comm: *b"init\0\0\0\0\0\0\0\0\0\0\0",
        nice: 0,
        sched: Scheduling::new(all_cpus(k.env.cpus)),
        personality: 0,
        running: false,
        interrupting: false,
        ready: false,
        stopped: false,
        exited: false,
        ending: None,
        fresh: true,
        call: None,
        interrupted: None,
        blocked: 0,
        saved_mask: None,
        pending: Pending::default(),
        altstack: AltStack::NONE,
        fault: Fault::default(),
        clear_child_tid: 0,
        robust_list: 0,
        owns_futexes: false,
        vfork_parent: None,
        death_signal: 0,
        policy: Default::default(),
        timer_slack: TIMER_SLACK,
        default_timer_slack: TIMER_SLACK,
        mce_kill: prctl::PR_MCE_KILL_DEFAULT as u8,
        cpu_time: Default::default(),
        resumed: 0,
        crossing: 0,
        faults: 0,
        io: super::io::Io::default(),
        switches: 0,
        cpu_sleep: None,
        seccomp: Default::default(),
    });
    debug_assert_eq!(tid, INIT);
    let set = crate::cred::ns::Set::FIRST;
    crate::ns::joined(k, &set, crate::cred::ns::USER);
    Ok(id)
}

fn first_regs() -> Regs {
    Regs {
        cs: USER_CS,
        ss: USER_DS,
        eflags: EFLAGS,
        orig_rax: u64::MAX,
        ..Regs::default()
    }
}

fn config_error(text: &str) -> BootError {
    BootError::Config(text.to_string())
}

fn start_bare(cx: &mut Cx<'_, '_>, addr: u64, len: u64) -> Result<(), BootError> {
    let end = addr
        .checked_add(len)
        .filter(|&end| {
            end <= TASK_SIZE && len > 0 && addr.is_multiple_of(PAGE_SIZE) && end % PAGE_SIZE == 0
        })
        .ok_or_else(|| config_error("the bare task's memory is not a range of pages"))?;
    let vma = Vma::private(end, Prot::READ | Prot::WRITE, Behind::Anonymous(Name::None));
    let space: SpaceId = cx.space();
    crate::mm::map::insert(cx.k, cx.p, space, addr, vma);
    cx.task_mut().regs.rsp = end;
    Ok(())
}

fn enter_dir(cx: &mut Cx<'_, '_>, path: &[u8]) -> Result<(), BootError> {
    let dir = walk::resolve(cx, CWD, path, Flags::FOLLOW | Flags::DIRECTORY).map_err(|errno| {
        let path = String::from_utf8_lossy(path);
        BootError::Config(format!("working directory {path}: {}", errno.message()))
    })?;
    let old = core::mem::replace(&mut cx.fs_context().cwd, dir);
    put_path(cx.k, cx.p, old);
    Ok(())
}

fn start_program(
    cx: &mut Cx<'_, '_>,
    args: &[Vec<u8>],
    env: Vec<Vec<u8>>,
    supervised: bool,
) -> Result<(), BootError> {
    let program = args
        .first()
        .ok_or_else(|| config_error("no program is named"))?;
    let failed = |errno| BootError::Exec {
        program: program.clone(),
        errno,
        found: true,
    };
    let (mut file, name) = find_program(cx, program, &env).map_err(|errno| BootError::Exec {
        program: program.clone(),
        errno,
        found: false,
    })?;
    let mut args = args.to_vec();
    if supervised {
        open::close_exec(cx.k, cx.p, file);
        // It finds the name of the program in its auxiliary vector.
        file = init::open(cx).map_err(failed)?;
        args.splice(..0, [init::NAME.to_vec(), b"--".to_vec()]);
    }
    let traced = cx.k.system.strace.0.is_some();
    let shown = traced.then(|| (args.clone(), env.clone()));
    let done = super::exec::execve(cx, file, (&name, true), args, env);
    open::close_exec(cx.k, cx.p, file);
    match done {
        Ok(()) | Err(Stop::Done) => {
            if supervised {
                // Its first child, which it starts before anything else.
                cx.k.system.program = INIT + 1;
                cx.task_mut().comm = init::COMM;
            }
            if let Some((args, env)) = shown {
                let name = if supervised { init::NAME } else { &name };
                let tracer = cx.k.system.tracer.0;
                tracer.first(cx, name, &args, &env);
            }
            Ok(())
        }
        Err(Stop::Errno(errno)) => Err(failed(errno)),
        Err(Stop::Block(_)) => Err(failed(Errno::EAGAIN)),
    }
}

fn is_dir(cx: &mut Cx<'_, '_>, path: &[u8]) -> bool {
    match walk::resolve(cx, CWD, path, Flags::FOLLOW | Flags::DIRECTORY) {
        Ok(place) => {
            put_path(cx.k, cx.p, place);
            true
        }
        Err(_) => false,
    }
}

/// Opens the program; a name without a slash is looked for in `PATH`. The error is `ENOENT` only if nothing
/// of that name was found.
fn find_program(
    cx: &mut Cx<'_, '_>,
    program: &[u8],
    env: &[Vec<u8>],
) -> Result<(FileId, Vec<u8>), Errno> {
    if program.contains(&b'/') {
        let file = match open_first(cx, program) {
            Err(Errno::EACCES) if is_dir(cx, program) => Err(Errno::EISDIR),
            opened => opened,
        }?;
        return Ok((file, program.to_vec()));
    }
    if program.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = env
        .iter()
        .find_map(|entry| entry.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut error = Errno::ENOENT;
    for dir in path.split(|&byte| byte == b':') {
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let name = [dir, b"/", program].concat();
        match open_first(cx, &name) {
            Ok(file) => return Ok((file, name)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => error = errno,
        }
    }
    Err(error)
}

/// Opens a program before there is anybody to wait for.
fn open_first(cx: &mut Cx<'_, '_>, name: &[u8]) -> Result<FileId, Errno> {
    open::open_exec(cx, CWD, name, AtFlags::empty()).map_err(|stop| match stop {
        Stop::Errno(errno) => errno,
        _ => Errno::EAGAIN,
    })
}

/// Gives the task the user of the configuration, and returns that user's home directory.
fn become_user(cx: &mut Cx<'_, '_>, user: &User, capabilities: u64) -> Result<Vec<u8>, BootError> {
    let passwd = read_database(cx, b"/etc/passwd");
    let (creds, home) = match user {
        User::Ids { uid, gid, groups } => {
            let home = passwd_entries(&passwd)
                .find(|entry| entry.uid == *uid)
                .map(|entry| entry.home);
            (Creds::new(*uid, *gid, groups.clone()), home)
        }
        User::Name(spec) => {
            let group = read_database(cx, b"/etc/group");
            look_up(spec, &passwd, &group).map_err(BootError::Config)?
        }
    };
    let known = capabilities & crate::cred::ns::user::ALL_CAPS;
    let creds = creds.with_capabilities(known);
    cx.k.set_creds(cx.thread, creds);
    Ok(match home {
        Some(home) if !home.is_empty() => home.to_vec(),
        _ => b"/".to_vec(),
    })
}

/// A regular file of the root as a whole; nothing if it cannot be read.
fn read_database(cx: &mut Cx<'_, '_>, path: &[u8]) -> Vec<u8> {
    let Ok(path) = walk::resolve(cx, CWD, path, Flags::FOLLOW) else {
        return Vec::new();
    };
    let opened = open_regular(cx, *path);
    put_path(cx.k, cx.p, path);
    let Ok(id) = opened else {
        return Vec::new();
    };
    let mut content = Vec::new();
    let mut part = vec![0; PAGE_SIZE as usize];
    while (content.len() as u64) < DATABASE_MAX {
        let offset = content.len() as u64;
        match file::read_kernel(cx.k, cx.p, id, offset, &mut part) {
            Ok(0) | Err(_) => break,
            Ok(count) => content.extend_from_slice(&part[..count]),
        }
    }
    file::put(cx.k, cx.p, id);
    content
}

fn open_regular(cx: &mut Cx<'_, '_>, path: crate::vfs::PathRef) -> Result<FileId, Errno> {
    let inode = cx.k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    if attr.mode & g::S_IFMT != g::S_IFREG {
        return Err(Errno::EINVAL);
    }
    let path = get_path(cx.k, path);
    let file = File::new(FileKind::Regular, path, Some(inode), OpenFlags::RDONLY);
    file::add(cx.k, cx.p, file)
}

/// A line of `/etc/passwd` (passwd(5)).
struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// A line of `/etc/group` (group(5)).
struct GroupEntry<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

fn fields(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|&byte| byte == b':').collect())
}

fn decimal(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|&id| id != u32::MAX)
}

fn passwd_entries(text: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    fields(text).filter_map(|fields| {
        Some(PasswdEntry {
            name: fields.first()?,
            uid: decimal(fields.get(2)?)?,
            gid: decimal(fields.get(3)?)?,
            home: fields.get(5).copied().unwrap_or_default(),
        })
    })
}

fn group_entries(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    fields(text).filter_map(|fields| {
        Some(GroupEntry {
            name: fields.first()?,
            gid: decimal(fields.get(2)?)?,
            members: fields.get(3).copied().unwrap_or_default(),
        })
    })
}

/// A number of a user or group as `docker run --user` takes it: what looks like one is one, and never the
/// name of a line, which would let an image's files say whom a number means. `None` for names; an error for
/// numbers that nobody can have.
fn number(text: &str, of: &str) -> Result<Option<u32>, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match decimal(text.as_bytes()) {
        None => Err(format!(
            "{of} {text}: numbers go from 0 to {}",
            u32::MAX - 1
        )),
        id => Ok(id),
    }
}

/// What `name|uid[:group|gid]` means, as `docker run --user` does: ids that are in no file are taken as they
/// are, names must be found.
fn look_up<'a>(
    spec: &str,
    passwd: &'a [u8],
    group: &[u8],
) -> Result<(Creds, Option<&'a [u8]>), String> {
    let (user_arg, group_arg) = spec.split_once(':').unwrap_or((spec, ""));
    let id = match user_arg {
        "" => Some(0),
        text => number(text, "user")?,
    };
    let entry = passwd_entries(passwd).find(|entry| match id {
        Some(id) => entry.uid == id,
        None => entry.name == user_arg.as_bytes(),
    });
    let (uid, mut gid) = match (&entry, id) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(id)) => (id, 0),
        (None, None) => return Err(format!("user {user_arg}: not in /etc/passwd")),
    };
    let mut groups = Vec::new();
    if group_arg.is_empty() {
        if let Some(entry) = &entry {
            groups = group_entries(group)
                .filter(|group| {
                    group
                        .members
                        .split(|&byte| byte == b',')
                        .any(|member| member == entry.name)
                })
                .map(|group| group.gid)
                .collect();
        }
    } else {
        let id = number(group_arg, "group")?;
        let found = group_entries(group)
            .find(|group| match id {
                Some(id) => group.gid == id,
                None => group.name == group_arg.as_bytes(),
            })
            .map(|group| group.gid);
        gid = found
            .or(id)
            .ok_or_else(|| format!("group {group_arg}: not in /etc/group"))?;
    }
    let home = entry.map(|entry| entry.home);
    Ok((Creds::new(uid, gid, groups), home))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# no\nbroken\nweb:x:33:34:web:/var/www:/bin/false\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:34:\nlog:x:4:web,other\nssl:x:101:web\n";

    fn ids(spec: &str) -> Result<(u32, u32, Vec<u32>), String> {
        look_up(spec, PASSWD, GROUP).map(|(creds, _)| (creds.uid, creds.gid, creds.groups.to_vec()))
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(ids("web"), Ok((33, 34, vec![4, 101])));
        assert_eq!(ids("33"), Ok((33, 34, vec![4, 101])));
        assert_eq!(ids("1000"), Ok((1000, 0, vec![])));
        assert_eq!(ids(""), Ok((0, 0, vec![])));
        assert!(ids("nobody").is_err());
    }

    #[test]
    fn numbers_are_never_names() {
        const PASSWD: &[u8] = b"1000:x:0:0::/root:\n-1:x:0:0::/:\n4294967296:x:0:0::/:\n\
            +7:x:0:0::/:\nwrong:x:4294967296:0::/:\nminus:x:-1:0::/:\n0x10:x:5:6::/:\n9:x:9:9::/:\n";
        const GROUP: &[u8] = b"1000:x:0:1000\n8:x:0:\nwheel:x:10:1000,9\nlarge:x:4294967296:9\n";
        let ids = |spec: &str| {
            look_up(spec, PASSWD, GROUP)
                .map(|(creds, _)| (creds.uid, creds.gid, creds.groups.to_vec()))
        };
        assert_eq!(ids("1000"), Ok((1000, 0, vec![])));
        assert_eq!(ids("01000"), Ok((1000, 0, vec![])));
        assert_eq!(ids("+7"), Ok((7, 0, vec![])));
        assert_eq!(ids("9"), Ok((9, 9, vec![10])));
        assert_eq!(ids("9:8"), Ok((9, 8, vec![])));
        assert_eq!(ids("1000:1000"), Ok((1000, 1000, vec![])));
        assert_eq!(ids("4294967294"), Ok((4294967294, 0, vec![])));
        // Not numbers: these are names.
        assert_eq!(ids("0x10"), Ok((5, 6, vec![])));
        for spec in [
            "-1",
            "-0",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "wrong",
            "minus",
            "1000 ",
            " 1000",
            "+",
            "-",
            "9:-1",
            "9:4294967295",
            "9:4294967296",
            "9:large",
            "9:8:7",
            "9: 8",
        ] {
            assert!(ids(spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn an_explicit_group_replaces_all_others() {
        assert_eq!(ids("web:ssl"), Ok((33, 101, vec![])));
        assert_eq!(ids("web:7"), Ok((33, 7, vec![])));
        assert_eq!(ids("5:6"), Ok((5, 6, vec![])));
        assert!(ids("web:none").is_err());
        assert_eq!(ids(":ssl"), Ok((0, 101, vec![])));
    }

    #[test]
    fn the_home_directory_comes_along() {
        let (_, home) = look_up("web", PASSWD, GROUP).unwrap();
        assert_eq!(home, Some(&b"/var/www"[..]));
        let (_, home) = look_up("77", PASSWD, GROUP).unwrap();
        assert_eq!(home, None);
    }
}
