//! Processes on the in-memory host: making, ending, awaiting, groups, sessions, replay.

mod guest;

use guest::*;
use varve_core::event::ExitStatus;
use varve_core::memhost::{Machine, MemHost, bare, empty_root};

#[test]
fn the_first_process_ends_the_run() {
    let mut m = boot();
    let init = m.first();
    assert_eq!(call(&mut m, init, GETPID, &[]), 1);
    assert_eq!(call(&mut m, init, GETPPID, &[]), 0);
    let child = fork(&mut m, init);
    gone(&mut m, init, EXIT_GROUP, &[7]);
    assert_eq!(m.exit, Some(ExitStatus::Exited(7)));
    assert!(!m.threads.contains_key(&child), "no thread is left");
    assert!(m.threads.is_empty());
}

#[test]
fn fork_copies_and_wait_reaps() {
    let mut m = boot();
    let init = m.first();
    m.poke(init, DATA, b"before").unwrap();
    let child = fork(&mut m, init);
    let pid = m.result(init).unwrap();
    assert_eq!(pid, 2);
    assert_eq!(m.result(child), Some(0));
    m.poke(child, DATA, b"child!").unwrap();
    assert_eq!(m.peek(init, DATA, 6).unwrap(), b"before");
    assert_eq!(call(&mut m, child, GETPID, &[]), pid);
    assert_eq!(call(&mut m, child, GETPPID, &[]), 1);
    parks(&mut m, init, WAIT4, &[ANY, DATA, 0, 0]);
    gone(&mut m, child, EXIT, &[3]);
    assert_eq!(m.result(init), Some(pid));
    assert_eq!(word(&mut m, init, DATA), 3 << 8);
    assert_eq!(call(&mut m, init, WAIT4, &[ANY, 0, 0, 0]), -ECHILD);
    assert_eq!(call(&mut m, init, KILL, &[pid as u64, 0]), -ESRCH);
}

#[test]
fn a_zombie_waits_for_its_parent() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    let pid = m.result(init).unwrap();
    gone(&mut m, child, EXIT, &[0]);
    assert_eq!(
        call(&mut m, init, KILL, &[pid as u64, 0]),
        0,
        "a zombie can be signalled"
    );
    // WNOWAIT leaves it, WNOHANG does not wait.
    assert_eq!(
        call(
            &mut m,
            init,
            WAITID,
            &[P_ALL, 0, DATA, WEXITED | WNOWAIT, 0]
        ),
        0
    );
    assert_eq!(word(&mut m, init, DATA), SIGCHLD);
    assert_eq!(word(&mut m, init, DATA + 8), CLD_EXITED);
    assert_eq!(word(&mut m, init, DATA + 16), pid as u32);
    assert_eq!(call(&mut m, init, WAIT4, &[ANY, DATA, WNOHANG, 0]), pid);
    assert_eq!(call(&mut m, init, WAIT4, &[ANY, DATA, WNOHANG, 0]), -ECHILD);
}

#[test]
fn waits_refuse_what_linux_refuses() {
    let mut m = boot();
    let init = m.first();
    assert_eq!(call(&mut m, init, WAIT4, &[ANY, 0, 0x100, 0]), -EINVAL);
    assert_eq!(
        call(&mut m, init, WAIT4, &[u64::from(i32::MIN as u32), 0, 0, 0]),
        -ESRCH
    );
    assert_eq!(
        call(&mut m, init, WAITID, &[P_ALL, 0, 0, WNOHANG, 0]),
        -EINVAL
    );
    assert_eq!(
        call(&mut m, init, WAITID, &[P_PID, 0, 0, WEXITED, 0]),
        -EINVAL
    );
    assert_eq!(call(&mut m, init, WAITID, &[9, 1, 0, WEXITED, 0]), -EINVAL);
    let child = fork(&mut m, init);
    assert_eq!(call(&mut m, init, WAIT4, &[77, 0, 0, 0]), -ECHILD);
    m.poke(init, DATA, &[0xff; 128]).unwrap();
    assert_eq!(
        call(
            &mut m,
            init,
            WAITID,
            &[P_ALL, 0, DATA, WEXITED | WNOHANG, 0]
        ),
        0
    );
    assert_eq!(word(&mut m, init, DATA), 0, "nothing happened yet");
    gone(&mut m, child, EXIT, &[0]);
    let pid = call(&mut m, init, WAIT4, &[ANY, 8, 0, 0]);
    assert_eq!(pid, -EFAULT, "the child is gone all the same");
    assert_eq!(call(&mut m, init, WAIT4, &[ANY, 0, 0, 0]), -ECHILD);
}

#[test]
fn orphans_become_children_of_the_first_process() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    let grandchild = fork(&mut m, child);
    let pid = call(&mut m, grandchild, GETPID, &[]);
    gone(&mut m, child, EXIT, &[0]);
    assert_eq!(call(&mut m, grandchild, GETPPID, &[]), 1);
    gone(&mut m, grandchild, EXIT, &[9]);
    assert_eq!(call(&mut m, init, WAIT4, &[pid as u64, DATA, 0, 0]), pid);
    assert_eq!(word(&mut m, init, DATA), 9 << 8);
}

#[test]
fn ignored_children_leave_no_zombie() {
    for (handler, flags) in [(SIG_IGN, 0), (SIG_DFL, SA_NOCLDWAIT)] {
        let mut m = boot();
        let init = m.first();
        sigaction(&mut m, init, SIGCHLD, handler, flags, 0);
        let child = fork(&mut m, init);
        parks(&mut m, init, WAIT4, &[ANY, 0, 0, 0]);
        gone(&mut m, child, EXIT, &[0]);
        assert_eq!(m.result(init), Some(-ECHILD));
    }
}

#[test]
fn vfork_waits_until_the_child_has_ended() {
    let mut m = boot();
    let init = m.first();
    parks(&mut m, init, VFORK, &[]);
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(m.threads[&child].space, m.threads[&init].space);
    m.poke(child, DATA, b"shared").unwrap();
    gone(&mut m, child, EXIT, &[1]);
    assert_eq!(m.result(init), Some(2));
    assert_eq!(m.peek(init, DATA, 6).unwrap(), b"shared");
}

#[test]
fn threads_share_a_process() {
    let mut m = boot();
    let init = m.first();
    let thread = thread(&mut m, init);
    assert_eq!(call(&mut m, thread, GETPID, &[]), 1);
    assert_eq!(call(&mut m, thread, GETTID, &[]), 2);
    assert_eq!(word(&mut m, init, TID), 2, "CLONE_PARENT_SETTID");
    // The leader ends, the process goes on.
    gone(&mut m, init, EXIT, &[5]);
    assert_eq!(m.exit, None);
    assert_eq!(call(&mut m, thread, GETPID, &[]), 1);
    gone(&mut m, thread, EXIT, &[6]);
    assert_eq!(
        m.exit,
        Some(ExitStatus::Exited(5)),
        "the leader's status counts"
    );
}

#[test]
fn an_ending_thread_clears_its_number() {
    let mut m = boot();
    let init = m.first();
    let thread = thread(&mut m, init);
    m.poke(init, TID, &[1; 4]).unwrap();
    gone(&mut m, thread, EXIT, &[0]);
    assert_eq!(word(&mut m, init, TID), 0);
}

#[test]
fn clone_refuses_combinations_that_make_no_sense() {
    let mut m = boot();
    let init = m.first();
    for flags in [
        CLONE_THREAD,
        CLONE_SIGHAND,
        CLONE_THREAD | CLONE_SIGHAND,
        CLONE_NEWNS | CLONE_FS,
        CLONE_PARENT,
    ] {
        assert_eq!(
            call(&mut m, init, CLONE, &[flags, 0, 0, 0, 0]),
            -EINVAL,
            "{flags:#x}"
        );
    }
    for flags in [CLONE_NEWNS, CLONE_NEWUTS] {
        assert_eq!(
            call(&mut m, init, CLONE, &[flags, 0, 0, 0, 0]),
            -EPERM,
            "{flags:#x}"
        );
    }
    assert_eq!(call(&mut m, init, CLONE3, &[DATA, 8]), -EINVAL);
    assert_eq!(call(&mut m, init, CLONE3, &[DATA, 5000]), -E2BIG);
    let child = fork(&mut m, init);
    assert_eq!(m.result(init), Some(2), "no number was lost");
    gone(&mut m, child, EXIT, &[0]);
}

#[test]
fn groups_and_sessions_follow_posix() {
    let mut m = boot();
    let init = m.first();
    assert_eq!(call(&mut m, init, SETSID, &[]), -EPERM);
    assert_eq!(
        call(&mut m, init, SETPGID, &[0, 0]),
        -EPERM,
        "a session leader"
    );
    let a = fork(&mut m, init);
    let b = fork(&mut m, init);
    assert_eq!(call(&mut m, a, GETPGID, &[0]), 1);
    assert_eq!(call(&mut m, init, SETPGID, &[2, 2]), 0);
    assert_eq!(call(&mut m, init, SETPGID, &[3, 2]), 0);
    assert_eq!(call(&mut m, b, GETPGID, &[0]), 2);
    assert_eq!(call(&mut m, b, SETSID, &[]), 3);
    assert_eq!(call(&mut m, b, GETSID, &[0]), 3);
    assert_eq!(
        call(&mut m, init, SETPGID, &[3, 0]),
        -EPERM,
        "another session"
    );
    assert_eq!(
        call(&mut m, a, SETPGID, &[0, 3]),
        -EPERM,
        "no such group here"
    );
    assert_eq!(call(&mut m, a, SETPGID, &[3, 3]), -ESRCH, "no child");
    assert_eq!(call(&mut m, a, SETPGID, &[0, u64::MAX]), -EINVAL);
    assert_eq!(call(&mut m, a, SETSID, &[]), -EPERM, "a group leader");
    assert_eq!(call(&mut m, a, GETPGID, &[99]), -ESRCH);
    // Waiting for a group takes only its members.
    gone(&mut m, b, EXIT, &[0]);
    assert_eq!(call(&mut m, init, WAIT4, &[-2i64 as u64, 0, WNOHANG, 0]), 0);
    assert_eq!(call(&mut m, init, WAIT4, &[-3i64 as u64, 0, WNOHANG, 0]), 3);
}

#[test]
fn identity_follows_the_rules_of_root_and_others() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    assert_eq!(call(&mut m, child, SETRESUID, &[1000, 1000, 0]), 0);
    assert_eq!(call(&mut m, child, GETUID, &[]), 1000);
    assert_eq!(
        call(&mut m, child, SETGID, &[5]),
        -EPERM,
        "no capability is effective"
    );
    assert_eq!(call(&mut m, child, KILL, &[1, 0]), -EPERM);
    assert_eq!(call(&mut m, child, SETUID, &[0]), 0, "the saved user");
    assert_eq!(call(&mut m, child, GETEUID, &[]), 0);
    assert_eq!(call(&mut m, child, SETGID, &[5]), 0);
    assert_eq!(call(&mut m, child, SETUID, &[1000]), 0);
    assert_eq!(
        call(&mut m, child, SETUID, &[0]),
        -EPERM,
        "root is given up for good"
    );
    assert_eq!(call(&mut m, child, SETUID, &[u64::from(u32::MAX)]), -EINVAL);
}

#[test]
fn random_sequences_keep_the_invariants_and_replay() {
    for seed in 0..24 {
        let mut m = boot();
        let mut rng = Rng(seed * 7919 + 1);
        for _ in 0..400 {
            if m.exit.is_some() {
                break;
            }
            step(&mut m, &mut rng);
            m.kernel
                .check()
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        let mut again = boot();
        again.replay(&m.log);
        assert_eq!(again.kernel.digest(), m.kernel.digest(), "seed {seed}");
        assert_eq!(again.exit, m.exit, "seed {seed}");
    }
}

/// One random trap of a random running thread.
fn step(m: &mut Guests, rng: &mut Rng) {
    let running: Vec<_> = m
        .threads
        .iter()
        .filter(|(_, t)| t.runs)
        .map(|(&id, _)| id)
        .collect();
    let Some(&thread) = running.get(rng.below(running.len().max(1))) else {
        m.advance(1_000_000_000);
        if m.threads.values().all(|t| !t.runs) {
            // Everything waits: a signal from outside ends it.
            m.input(varve_core::event::Input::Signal { signal: 9 });
        }
        return;
    };
    let pid = rng.below(12) as u64;
    let first = thread == m.first();
    let signal = [0, 1, 2, 9, 10, 15, 17, 18, 19, 20, 34][rng.below(11)];
    let (number, args): (u64, Vec<u64>) = match rng.below(20) {
        0..=2 if m.threads.len() < 24 => (FORK, vec![]),
        3 if m.threads.len() < 24 => (CLONE, vec![THREAD_FLAGS, 0, TID, TID, 0]),
        4 if m.threads.len() < 24 => (VFORK, vec![]),
        5..=7 if !first => (EXIT, vec![rng.below(300) as u64]),
        8 if !first => (EXIT_GROUP, vec![rng.below(300) as u64]),
        9 | 10 => (WAIT4, vec![ANY, DATA, rng.below(16) as u64, 0]),
        11 | 12 => (KILL, vec![pid, signal]),
        13 => (KILL, vec![(-(rng.below(5) as i64)) as u64, signal]),
        14 => (TKILL, vec![pid, signal]),
        15 => (SETPGID, vec![pid, rng.below(6) as u64]),
        16 => (SETSID, vec![]),
        17 => (PAUSE, vec![]),
        18 => (SIGPROCMASK, vec![rng.below(3) as u64, DATA, 0, 8]),
        _ => (SIGACTION, vec![rng.below(34) as u64 + 1, DATA, 0, 8]),
    };
    m.call(thread, number, &args);
}

#[test]
fn forks_without_end_end_in_eagain() {
    const THREADS_MAX: usize = 16384;
    const CLONE_VM: u64 = 0x100;
    // The kernel's own memory for as many has to fit.
    let host = MemHost::new(131_072, Vec::new());
    let mut m = Machine::boot(bare(empty_root()), host).expect("the bare task boots");
    let init = m.first();
    let mut newest = init;
    // Each one forks the next, until nobody can any more.
    let error = loop {
        match m.call(newest, CLONE, &[CLONE_VM | 17]).unwrap() {
            1.. => newest = *m.threads.keys().next_back().unwrap(),
            errno => break errno,
        }
    };
    assert_eq!((error, m.threads.len()), (-EAGAIN, THREADS_MAX));
    assert_eq!(m.call(init, KILL, &[ANY, 9]), Some(0));
    assert_eq!(m.threads.len(), 1, "only the first process is left");
    let pid = call(&mut m, init, WAIT4, &[ANY, DATA, 0, 0]);
    assert_eq!((pid, word(&mut m, init, DATA)), (2, 9));
    assert!(call(&mut m, init, FORK, &[]) > 0, "there is room again");
}

/// An ended child is none that could stop or go on (`wait_task_zombie` of Linux).
#[test]
fn an_ended_child_does_not_stop() {
    const WSTOPPED: u64 = 2;
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    gone(&mut m, child, EXIT, &[3]);
    for options in [
        WSTOPPED,
        WCONTINUED,
        WSTOPPED | WCONTINUED,
        WSTOPPED | WNOHANG,
    ] {
        let args = [P_ALL, 0, 0, options, 0];
        assert_eq!(call(&mut m, init, WAITID, &args), -ECHILD);
    }
    let running = fork(&mut m, init);
    assert_eq!(
        call(&mut m, init, WAITID, &[P_ALL, 0, 0, WSTOPPED | WNOHANG, 0]),
        0
    );
    parks(&mut m, init, WAITID, &[P_ALL, 0, 0, WSTOPPED, 0]);
    gone(&mut m, running, EXIT, &[0]);
    assert_eq!(m.result(init), Some(-ECHILD));
}
