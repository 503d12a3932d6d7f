//! Sets of system calls, as `-e trace=` of strace(1) writes them.

use alloc::string::String;

use super::super::{Entry, TABLE};
use super::Outcome;
use crate::args::ArgKind;
pub use crate::boot::CallSet;

impl CallSet {
    /// The set that a text means: names, numbers, `%file` and its relatives, with commas between them; a name
    /// with `?` before it need not exist; `!` before all of it means all others.
    ///
    /// # Errors
    /// The part that names no call.
    pub fn parse(text: &str) -> Result<CallSet, String> {
        let (inverse, list) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut set = CallSet::none();
        for part in list.split(',') {
            match part {
                "all" => set = CallSet::all(),
                "none" => {}
                part => {
                    let optional = part.strip_prefix('?');
                    let found = set.add_named(optional.unwrap_or(part));
                    if !found && optional.is_none() {
                        return Err(String::from(part));
                    }
                }
            }
        }
        if inverse {
            set.words.iter_mut().for_each(|word| *word = !*word);
            set.others = !set.others;
        }
        Ok(set)
    }

    fn add_named(&mut self, part: &str) -> bool {
        let class = class(part.strip_prefix('%').unwrap_or(part));
        let is_class = part.starts_with('%');
        let fits =
            |entry: &Entry| !is_class && (entry.name == part || part.parse() == Ok(entry.number));
        let mut found = false;
        let by_name = TABLE.iter().any(fits);
        for entry in TABLE {
            let hit = match class {
                Some(is_in) if !by_name => is_in(entry),
                _ => fits(entry),
            };
            if hit {
                self.insert(entry.number);
                found = true;
            }
        }
        found
    }
}

fn has(entry: &Entry, kinds: &[ArgKind]) -> bool {
    let mut params = entry.params.iter();
    params.any(|param| kinds.contains(&param.kind))
}

fn one_of(entry: &Entry, names: &str) -> bool {
    names.split(' ').any(|name| name == entry.name)
}

/// A class of calls by its name, without the percent sign.
fn class(name: &str) -> Option<fn(&Entry) -> bool> {
    Some(match name {
        // Those that take a path.
        "file" => |entry| has(entry, &[ArgKind::Path]) || one_of(entry, "getcwd"),
        // Those that take or make a descriptor.
        "desc" => |entry| {
            has(entry, &[ArgKind::Fd, ArgKind::DirFd])
                || entry.outcome == Outcome::Fd
                || one_of(
                    entry,
                    "poll ppoll select pselect6 pipe pipe2 fsopen io_uring_setup",
                )
        },
        "process" => |entry| one_of(entry, PROCESS),
        "network" | "net" => |entry| one_of(entry, NETWORK),
        "signal" => |entry| one_of(entry, SIGNAL),
        "ipc" => |entry| one_of(entry, IPC),
        "memory" | "mem" => |entry| one_of(entry, MEMORY),
        "creds" => |entry| one_of(entry, CREDS),
        "clock" => |entry| one_of(entry, CLOCK),
        "stat" => |entry| one_of(entry, "stat"),
        "lstat" => |entry| one_of(entry, "lstat"),
        "fstat" => |entry| one_of(entry, "fstat newfstatat"),
        "%stat" => |entry| one_of(entry, "stat lstat fstat newfstatat statx"),
        "statfs" => |entry| one_of(entry, "statfs"),
        "fstatfs" => |entry| one_of(entry, "fstatfs"),
        "%statfs" => |entry| one_of(entry, "statfs fstatfs ustat"),
        "pure" => |entry| {
            one_of(
                entry,
                "getpid gettid getppid getpgrp getuid geteuid getgid getegid",
            )
        },
        _ => return None,
    })
}

const PROCESS: &str = "clone clone3 fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill rt_sigqueueinfo \
    rt_tgsigqueueinfo pidfd_send_signal";
const NETWORK: &str = "socket socketpair bind connect listen accept accept4 getsockname getpeername sendto recvfrom sendmsg recvmsg \
    sendmmsg recvmmsg shutdown setsockopt getsockopt sendfile getpmsg putpmsg";
const SIGNAL: &str = "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo \
    rt_sigsuspend sigaltstack kill tkill tgkill pause signalfd signalfd4 pidfd_send_signal io_uring_enter";
const IPC: &str =
    "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl";
const MEMORY: &str = "mmap mprotect munmap brk mremap msync mincore madvise shmat shmdt mlock munlock mlockall munlockall mlock2 \
    io_setup io_destroy remap_file_pages mbind set_mempolicy get_mempolicy migrate_pages move_pages pkey_mprotect \
    io_uring_register set_mempolicy_home_node map_shadow_stack mseal";
const CREDS: &str = "getuid getgid geteuid getegid setuid setgid setreuid setregid getgroups setgroups setresuid getresuid setresgid \
    getresgid setfsuid setfsgid capget capset prctl";
const CLOCK: &str = "gettimeofday settimeofday time adjtimex clock_settime clock_gettime clock_getres clock_adjtime";

/// What `-e trace=` understands, for messages.
pub const CLASSES: &str = "%file, %desc, %process, %network, %signal, %ipc, %memory, %creds, %clock, %stat, %%stat, %pure";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> alloc::vec::Vec<&'static str> {
        let set = CallSet::parse(text).unwrap_or_else(|part| panic!("{text}: {part}"));
        let hits = TABLE.iter().filter(|entry| set.contains(entry.number));
        hits.map(|entry| entry.name).collect()
    }

    #[test]
    fn sets_are_what_strace_means() {
        assert_eq!(names("openat,close,0"), ["read", "close", "openat"]);
        assert_eq!(names("none"), [""; 0]);
        assert_eq!(names("all").len(), TABLE.len());
        assert_eq!(names("!all"), [""; 0]);
        assert_eq!(names("!openat").len(), TABLE.len() - 1);
        assert_eq!(names("?nothing,getpid"), ["getpid"]);
        let file = names("%file");
        assert!(file.contains(&"openat") && file.contains(&"getcwd") && !file.contains(&"read"));
        assert_eq!(names("file"), file);
        // The name of a call comes before that of a class.
        assert_eq!(names("stat"), ["stat"]);
        let desc = names("%desc");
        assert!(
            desc.contains(&"read") && desc.contains(&"epoll_create1") && !desc.contains(&"brk")
        );
        assert!(CallSet::parse("opneat").is_err() && CallSet::parse("%nothing").is_err());
        assert!(CallSet::parse("").is_err());
        let all = CallSet::all();
        assert!(all.contains(10_000) && !CallSet::none().contains(10_000));
    }

    #[test]
    fn classes_name_calls_of_the_table() {
        let lists = [PROCESS, NETWORK, SIGNAL, IPC, MEMORY, CREDS, CLOCK];
        for name in lists.iter().flat_map(|list| list.split(' ')) {
            assert!(TABLE.iter().any(|entry| entry.name == name), "{name}");
        }
        assert!(
            TABLE
                .iter()
                .all(|entry| entry.number < 64 * CallSet::all().words.len() as u64)
        );
        for class in CLASSES.split(", ") {
            assert!(!names(class).is_empty(), "{class}");
        }
    }
}
