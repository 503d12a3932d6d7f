//! Changes of many mounts, and the ends of large file systems and files, go on in pieces: no input takes more
//! steps than a bound, others get on meanwhile, and what is left is what one piece would leave.

mod guest;

use guest::steps::*;
use guest::*;
use varve_core::machine::ThreadId;

const CLOSE: u64 = 3;
const FTRUNCATE: u64 = 77;
const CHDIR: u64 = 80;
const MKDIR: u64 = 83;
const RMDIR: u64 = 84;
const CREAT: u64 = 85;
const UNLINK: u64 = 87;
const SYSINFO: u64 = 99;
const MOUNT: u64 = 165;
const UMOUNT2: u64 = 166;
const UNSHARE: u64 = 272;
const FALLOCATE: u64 = 285;
const MEMFD_CREATE: u64 = 319;
const SIGKILL: u64 = 9;
const ENOSPC: i64 = 28;
const EBUSY: i64 = 16;
const MS_BIND: u64 = 4096;
const MS_REC: u64 = 16384;
const MS_MOVE: u64 = 8192;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SHARED: u64 = 1 << 20;
const MNT_DETACH: u64 = 2;
const CLONE_NEWNS: u64 = 0x20000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const PAGE: u64 = 4096;

/// A tmpfs at `/t` with a shared mount that is mounted on itself: twice as many mounts each time, until that
/// fails.
fn double(m: &mut Guests, times: u32) -> u32 {
    let init = m.first();
    m.poke(init, DATA, b"/t\0/t/d\0tmpfs\0").unwrap();
    let (top, dir, kind) = (DATA, DATA + 3, DATA + 8);
    call(m, init, MKDIR, &[top, 0o755]);
    assert_eq!(call(m, init, MOUNT, &[kind, top, kind, 0, 0]), 0);
    assert_eq!(call(m, init, MKDIR, &[dir, 0o755]), 0);
    assert_eq!(call(m, init, MOUNT, &[dir, dir, 0, MS_BIND, 0]), 0);
    assert_eq!(call(m, init, MOUNT, &[0, dir, 0, MS_SHARED, 0]), 0);
    for n in 0..times {
        let done = call_in_pieces(m, init, MOUNT, &[dir, dir, 0, MS_BIND, 0]);
        assert!(done.most < MOST, "{}", done.most);
        if done.result != 0 {
            assert_eq!(done.result, -ENOSPC);
            return n;
        }
    }
    times
}

/// Takes it off again: how many steps that took.
fn detach(m: &mut Guests) -> u64 {
    let init = m.first();
    m.poke(init, DATA, b"/t\0").unwrap();
    let inputs = m.log.len();
    let done = call_in_pieces(m, init, UMOUNT2, &[DATA, MNT_DETACH]);
    assert!(done.result == 0 && done.most < MOST, "{}", done.most);
    m.kernel.check().unwrap();
    assert!(m.log.len() > inputs);
    done.most.max(1) * done.inputs as u64
}

#[test]
fn propagated_mounts_cost_what_there_is_of_them() {
    let mut m = machine();
    let init = m.first();
    let mut steps = Vec::new();
    for times in [9, 10, 11] {
        assert_eq!(double(&mut m, times), times);
        m.kernel.check().unwrap();
        let (text, most) = read_all(&mut m, init, "/proc/self/mountinfo");
        assert!(most < MOST, "{most}");
        let text = String::from_utf8(text).unwrap();
        let own = text.lines().filter(|line| line.contains(" /t/d "));
        assert_eq!(own.count(), 1 << times, "all of them are shown");
        steps.push(detach(&mut m));
    }
    assert!(
        steps[2] < 3 * steps[1] && steps[1] < 3 * steps[0],
        "{steps:?}"
    );
}

#[test]
fn a_namespace_has_so_many_mounts_at_most() {
    let mut m = machine();
    assert_eq!(double(&mut m, 20), 16);
    detach(&mut m);
    assert_eq!(double(&mut m, 3), 3);
}

/// A call with paths as its first arguments, put into memory.
fn with_paths(m: &mut Guests, t: ThreadId, number: u64, paths: [&str; 2], rest: &[u64]) {
    let text = [paths[0].as_bytes(), b"\0", paths[1].as_bytes(), b"\0"].concat();
    m.poke(t, DATA, &text).unwrap();
    let second = DATA + paths[0].len() as u64 + 1;
    let args: Vec<u64> = match paths[1] {
        "" => [&[DATA], rest].concat(),
        _ => [&[DATA, second], rest].concat(),
    };
    m.call(t, number, &args);
}

fn path_call(m: &mut Guests, t: ThreadId, number: u64, path: &str, rest: &[u64]) -> i64 {
    with_paths(m, t, number, [path, ""], rest);
    let done = finish(m, t);
    assert!(done.most < MOST, "{number}: {}", done.most);
    done.result
}

/// Mounts below `/t` that a thread sees.
fn seen(m: &mut Guests, t: ThreadId) -> usize {
    let (text, most) = read_all(m, t, "/proc/self/mountinfo");
    assert!(most < MOST, "{most}");
    let text = String::from_utf8(text).unwrap();
    text.lines().filter(|line| line.contains(" /t")).count()
}

/// Whether what a thread has begun gives way and others get on, with everything in order.
fn gives_way(m: &mut Guests, t: ThreadId, other: ThreadId) {
    assert_eq!(m.result(t), None, "it gives way");
    m.kernel.check().unwrap();
    assert!(call(m, other, GETPID, &[]) > 0, "others get on");
    m.kernel.check().unwrap();
}

const TIMES: u32 = 11;
const THERE: usize = 1 << TIMES;

#[test]
fn trees_are_mounted_and_copied_and_taken_off() {
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    assert_eq!(double(&mut m, TIMES), TIMES);
    let all = seen(&mut m, init);
    assert!(all > THERE);
    path_call(&mut m, init, MKDIR, "/s", &[0o755]);

    // The whole tree once more, elsewhere.
    with_paths(&mut m, init, MOUNT, ["/t", "/s"], &[0, MS_BIND | MS_REC, 0]);
    gives_way(&mut m, init, other);
    // Who wants to change mounts meanwhile waits.
    m.poke(other, DATA, b"tmpfs\0/s\0").unwrap();
    m.call(other, MOUNT, &[DATA, DATA + 6, DATA, 0, 0]);
    assert_eq!(m.result(other), None);
    let done = finish(&mut m, init);
    assert!(done.result == 0 && done.most < MOST && done.inputs > 5);
    assert_eq!(finish(&mut m, other).result, 0);
    m.kernel.check().unwrap();
    let (text, _) = read_all(&mut m, init, "/proc/self/mountinfo");
    let text = String::from_utf8(text).unwrap();
    let copied = text.lines().filter(|line| line.contains(" /s/d "));
    assert_eq!(copied.count(), THERE);
    assert_eq!(path_call(&mut m, init, UMOUNT2, "/s", &[MNT_DETACH]), 0);
    assert_eq!(path_call(&mut m, init, UMOUNT2, "/s", &[0]), -EBUSY);

    // All of it becomes private, and is moved.
    let private = [0, MS_PRIVATE | MS_REC, 0];
    with_paths(&mut m, init, MOUNT, ["none", "/"], &private);
    gives_way(&mut m, init, other);
    let done = finish(&mut m, init);
    assert!(done.result == 0 && done.most < MOST && done.inputs > 2);
    path_call(&mut m, init, MKDIR, "/m", &[0o755]);
    with_paths(&mut m, init, MOUNT, ["/s", "/m"], &[0, MS_MOVE, 0]);
    let done = finish(&mut m, init);
    assert!(done.result == 0 && done.most < MOST, "{}", done.result);
    m.kernel.check().unwrap();

    // It is taken off while its caller is killed.
    let child = fork(&mut m, init);
    with_paths(&mut m, child, UMOUNT2, ["/m", ""], &[MNT_DETACH]);
    assert_eq!(m.result(child), None);
    assert_eq!(call(&mut m, init, KILL, &[3, SIGKILL]), 0);
    assert!(!m.threads.contains_key(&child), "it ends at once");
    m.kernel.check().unwrap();
    assert!(until_idle(&mut m) < MOST);
    m.kernel.check().unwrap();
    let (text, _) = read_all(&mut m, init, "/proc/self/mountinfo");
    assert!(!String::from_utf8(text).unwrap().contains(" /m"));
    assert_eq!(seen(&mut m, init), all);
    detach(&mut m);
    assert_eq!(seen(&mut m, init), 0);
}

#[test]
fn namespaces_of_many_mounts_come_and_go() {
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    assert_eq!(double(&mut m, TIMES), TIMES);
    let all = seen(&mut m, init);
    let held = |m: &Guests| {
        let mut held = m.kernel.held();
        held.retain(|(what, _)| ["mounts", "namespaces", "file systems"].contains(what));
        held
    };
    let before = held(&m);
    for flags in [CLONE_NEWNS, CLONE_NEWNS | CLONE_NEWUSER] {
        let child = fork(&mut m, init);
        let pid = call(&mut m, child, GETPID, &[]) as u64;
        m.call(child, UNSHARE, &[flags]);
        gives_way(&mut m, child, other);
        let done = finish(&mut m, child);
        assert!(done.result == 0 && done.most < MOST, "{}", done.most);
        assert!(done.inputs > 5);
        assert_eq!(seen(&mut m, child), all);
        m.kernel.check().unwrap();
        // Its mounts go with it, by and by.
        assert_eq!(call(&mut m, init, KILL, &[pid, SIGKILL]), 0);
        assert!(m.kernel.steps() < MOST && m.deadline.is_some());
        m.kernel.check().unwrap();
        assert!(until_idle(&mut m) < MOST);
        assert!(call(&mut m, init, WAIT4, &[pid, 0, 0, 0]) > 0);
        until_idle(&mut m);
        m.kernel.check().unwrap();
        assert_eq!(held(&m), before);

        // Killed on the way, and by clone(2).
        let child = fork(&mut m, init);
        let pid = call(&mut m, child, GETPID, &[]) as u64;
        m.call(child, CLONE, &[flags | u64::from(SIGCHLD), 0, 0, 0, 0]);
        gives_way(&mut m, child, other);
        assert_eq!(call(&mut m, init, KILL, &[pid, SIGKILL]), 0);
        assert!(!m.threads.contains_key(&child), "it ends at once");
        assert!(until_idle(&mut m) < MOST);
        assert!(call(&mut m, init, WAIT4, &[pid, 0, 0, 0]) > 0);
        until_idle(&mut m);
        m.kernel.check().unwrap();
        assert_eq!(held(&m), before);
    }
    let done = call_in_pieces(&mut m, init, CLONE, &[CLONE_NEWNS | 17, 0, 0, 0, 0]);
    assert!(done.result > 0 && done.most < MOST && done.inputs > 5);
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(seen(&mut m, child), all);
    m.kernel.check().unwrap();
}

#[test]
fn a_name_goes_that_another_namespace_has_mounted_on() {
    let mut m = machine();
    let init = m.first();
    assert_eq!(double(&mut m, TIMES), TIMES);
    let child = fork(&mut m, init);
    let done = call_in_pieces(&mut m, child, UNSHARE, &[CLONE_NEWNS]);
    assert_eq!(done.result, 0);
    with_paths(
        &mut m,
        child,
        MOUNT,
        ["none", "/"],
        &[0, MS_PRIVATE | MS_REC, 0],
    );
    assert_eq!(finish(&mut m, child).result, 0);
    assert_eq!(path_call(&mut m, child, UMOUNT2, "/t", &[MNT_DETACH]), 0);
    assert!(seen(&mut m, init) > THERE);
    // Somebody is inside.
    let other = fork(&mut m, init);
    assert_eq!(path_call(&mut m, other, CHDIR, "/t/d", &[]), 0);
    assert_eq!(path_call(&mut m, child, RMDIR, "/t", &[]), 0);
    m.kernel.check().unwrap();
    assert!(until_idle(&mut m) < MOST);
    m.kernel.check().unwrap();
    assert_eq!(seen(&mut m, init), 0);
    // What hung together does so until the last one has left.
    assert_eq!(path_call(&mut m, other, CHDIR, "/", &[]), 0);
    assert!(until_idle(&mut m) < MOST);
    m.kernel.check().unwrap();
}

#[test]
fn file_systems_with_many_inodes_go_by_and_by() {
    const FILES: u32 = 6000;
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    m.poke(init, DATA, b"/t\0tmpfs\0").unwrap();
    call(&mut m, init, MKDIR, &[DATA, 0o755]);
    let mut before = None;
    for _ in 0..2 {
        m.poke(init, DATA, b"/t\0tmpfs\0").unwrap();
        assert_eq!(
            call(&mut m, init, MOUNT, &[DATA + 3, DATA, DATA + 3, 0, 0]),
            0
        );
        for n in 0..FILES {
            let fd = path_call(&mut m, init, CREAT, &format!("/t/file{n}"), &[0o644]);
            assert_eq!(m.call(init, CLOSE, &[fd as u64]), Some(0));
        }
        with_paths(&mut m, init, UMOUNT2, ["/t", ""], &[0]);
        let most = m.kernel.steps();
        assert!(most < MOST && m.deadline.is_some(), "{most}");
        m.kernel.check().unwrap();
        assert_eq!(finish(&mut m, init).result, 0);
        assert_eq!(call(&mut m, other, GETPID, &[]), 2);
        assert!(until_idle(&mut m) < MOST);
        m.kernel.check().unwrap();
        let held = m.kernel.held();
        assert_eq!(*before.get_or_insert(held.clone()), held);
    }
}

/// Free memory (`sysinfo.freeram`).
fn free_now(m: &mut Guests) -> u64 {
    let init = m.first();
    assert_eq!(call(m, init, SYSINFO, &[SIG]), 0);
    long(m, init, SIG + 40)
}

#[test]
fn large_files_are_cut_and_go_by_and_by() {
    const PAGES: u64 = 9000;
    let mut m = machine();
    let init = m.first();
    m.poke(init, DATA, b"f\0").unwrap();
    let free = free_now(&mut m);
    for way in 0..3 {
        let fd = match way {
            0 | 1 => call(&mut m, init, MEMFD_CREATE, &[DATA, 0]),
            _ => path_call(&mut m, init, CREAT, "/file", &[0o644]),
        } as u64;
        let done = call_in_pieces(&mut m, init, FALLOCATE, &[fd, 0, 0, PAGES * PAGE]);
        assert!(done.result == 0, "{}", done.result);
        if way == 0 {
            let cut = call_in_pieces(&mut m, init, FTRUNCATE, &[fd, PAGE]);
            assert!(cut.result == 0 && cut.most < MOST, "{}", cut.most);
            m.kernel.check().unwrap();
            // There is room for as much again at once.
            let done = call_in_pieces(&mut m, init, FALLOCATE, &[fd, 0, 0, PAGES * PAGE]);
            assert!(done.result == 0, "{}", done.result);
        }
        if way == 2 {
            assert_eq!(path_call(&mut m, init, UNLINK, "/file", &[]), 0);
        }
        assert_eq!(call(&mut m, init, CLOSE, &[fd]), 0);
        assert!(m.kernel.steps() < MOST && m.deadline.is_some());
        m.kernel.check().unwrap();
        assert!(until_idle(&mut m) < MOST);
        m.kernel.check().unwrap();
        let left = free.abs_diff(free_now(&mut m));
        assert!(left < 64 * PAGE, "{way}: {left} bytes are missing");
    }
}

/// `..` from below thousands of mounts that hang on each other, the table of all of them, and what of that is
/// kept.
#[test]
fn the_way_up_through_many_mounts() {
    const STAT: u64 = 4;
    const READ: u64 = 0;
    const OPEN: u64 = 2;
    let mut m = machine();
    double(&mut m, 14);
    let init = m.first();
    let other = fork(&mut m, init);
    m.poke(init, DATA, b"/t/d\0").unwrap();
    let done = call_in_pieces(&mut m, init, CHDIR, &[DATA]);
    assert!(done.result == 0 && done.inputs > 2, "{}", done.inputs);
    m.poke(init, DATA, b"..\0").unwrap();
    m.call(init, STAT, &[DATA, DATA + 0x1000]);
    assert_eq!(m.result(init), None, "it gives way");
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    let done = finish(&mut m, init);
    assert!(done.result == 0 && done.most < MOST, "{}", done.most);
    let up = long(&mut m, init, DATA + 0x1008);
    m.poke(init, DATA, b"/t\0").unwrap();
    assert_eq!(call(&mut m, init, STAT, &[DATA, DATA + 0x1000]), 0);
    assert_eq!(long(&mut m, init, DATA + 0x1008), up);

    m.poke(init, DATA, b"/proc/self/mountinfo\0").unwrap();
    let table = call(&mut m, init, OPEN, &[DATA, 0]) as u64;
    let done = call_in_pieces(&mut m, init, READ, &[table, DATA, 1]);
    assert!(done.result == 1 && done.most < MOST, "{}", done.most);
    let contents = m.kernel.held().into_iter();
    let contents = contents.filter(|(name, _)| name.starts_with("contents"));
    assert!(contents.map(|(_, bytes)| bytes).sum::<u64>() < 100_000);
    let (text, most) = read_all(&mut m, init, "/proc/self/mountinfo");
    assert!(most < MOST, "{most}");
    assert!(text.iter().filter(|&&byte| byte == b'\n').count() > 1 << 14);
    m.kernel.check().unwrap();
}

/// Paths upwards through many mounts on each other.
#[test]
fn paths_of_places_below_many_mounts() {
    const READLINK: u64 = 89;
    const GETCWD: u64 = 79;
    const OPEN: u64 = 2;
    let mut m = machine_of(1 << 15);
    let init = m.first();
    let other = fork(&mut m, init);
    m.poke(init, DATA, b"/t\0tmpfs\0.\0d\0").unwrap();
    let [top, kind, here, dir] = [0, 3, 9, 11].map(|at| DATA + at);
    assert_eq!(call(&mut m, init, MKDIR, &[top, 0o755]), 0);
    assert_eq!(call(&mut m, init, MOUNT, &[kind, top, kind, 0, 0]), 0);
    assert_eq!(call(&mut m, init, MOUNT, &[0, top, 0, MS_PRIVATE, 0]), 0);
    assert_eq!(call(&mut m, init, CHDIR, &[top]), 0);
    // The lowest one with all on it is copied onto the topmost.
    for _ in 0..16 {
        let flags = MS_BIND | MS_REC;
        let done = call_in_pieces(&mut m, init, MOUNT, &[here, top, 0, flags, 0]);
        assert!(done.result == 0 && done.most < MOST, "{}", done.result);
    }
    until_idle(&mut m);
    m.kernel.check().unwrap();
    let fd = call_in_pieces(&mut m, init, OPEN, &[top, 0]).result;
    assert_eq!(call_in_pieces(&mut m, init, CHDIR, &[top]).result, 0);
    assert_eq!(call(&mut m, init, MKDIR, &[dir, 0o755]), 0);
    assert_eq!(call(&mut m, init, CHDIR, &[dir]), 0);

    m.call(init, GETCWD, &[DATA + 256, 100]);
    assert_eq!(m.result(init), None, "it gives way");
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    let done = finish(&mut m, init);
    assert!(done.result == 5 && done.most < MOST && done.inputs > 1);
    assert_eq!(m.peek(init, DATA + 256, 5).unwrap(), b"/t/d\0");
    let link = format!("/proc/self/fd/{fd}\0");
    m.poke(init, DATA + 64, link.as_bytes()).unwrap();
    let done = call_in_pieces(&mut m, init, READLINK, &[DATA + 64, DATA + 256, 100]);
    assert!(done.result == 2 && done.most < MOST && done.inputs > 2);
    assert_eq!(m.peek(init, DATA + 256, 2).unwrap(), b"/t");
    m.kernel.check().unwrap();

    // What is under way goes with its thread, and with the mounts that it goes through.
    m.call(init, GETCWD, &[DATA + 256, 100]);
    m.poke(other, DATA, b"/t\0").unwrap();
    m.call(other, UMOUNT2, &[DATA, MNT_DETACH]);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert!(m.result(init) >= Some(5), "it has returned");
    m.call(init, GETCWD, &[DATA + 256, 100]);
    m.call(other, KILL, &[1, SIGKILL]);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
}
