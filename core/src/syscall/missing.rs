//! System calls that Linux has, or had, and that are not here: `ENOSYS`, and a line in the log.

use alloc::format;

use super::table;
use crate::abi::Errno;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::event::Level;
use crate::kernel::Cx;

/// The flags of a call, if all are there: `EINVAL` for others, with a line in the log for one that Linux has.
pub(super) fn known<F: CallFlags>(cx: &mut Cx<'_, '_>, flags: F) -> Result<F, Errno> {
    among(cx, flags, F::all())
}

/// The same for a call that takes only these of them.
pub(super) fn among<F: CallFlags>(cx: &mut Cx<'_, '_>, flags: F, taken: F) -> Result<F, Errno> {
    if taken.contains(flags) {
        return Ok(flags);
    }
    if let Some(flag) = flags.missing() {
        unsupported(cx, flag);
    }
    Err(Errno::EINVAL)
}

/// Says in the log that the call asks for something that Linux has.
pub(super) fn unsupported(cx: &mut Cx<'_, '_>, what: &str) {
    let name = table::find(cx.call().number).map_or("unknown", |entry| entry.name);
    let line = format!("system call {name}: {what} is not supported");
    cx.log(Level::Warn, line);
}

/// Calls of any arguments.
macro_rules! not_there {
    ($($name:ident($($kind:ident),*);)*) => {$(
        pub(super) fn $name(cx: &mut Cx<'_, '_> $(, _: $kind)*) -> SysResult {
            let number = cx.call().number;
            not_there(cx, number)
        }
    )*};
}

not_there! {
    uselib(Path);
    _sysctl(Addr);
    create_module(Str, Size);
    get_kernel_syms(Addr);
    query_module(Str, Int, Addr, Size, Addr);
    nfsservctl(Int, Addr, Addr);
    getpmsg();
    putpmsg();
    afs_syscall();
    tuxcall();
    security();
    set_thread_area(Addr);
    get_thread_area(Addr);
    lookup_dcookie(Hex, Addr, Size);
    epoll_ctl_old();
    epoll_wait_old();
    vserver();
    fanotify_mark(Fd, Hex, Hex, DirFd, Path);
    name_to_handle_at(DirFd, Path, Addr, Addr, AtFlags);
    open_by_handle_at(Fd, Addr, OpenFlags);
    statmount(Addr, Addr, Size, Hex);
    listmount(Addr, Addr, Size, Hex);
    lsm_get_self_attr(Uint, Addr, Addr, Hex);
    lsm_set_self_attr(Uint, Addr, Size, Hex);
    lsm_list_modules(Addr, Addr, Hex);
    setxattrat(DirFd, Path, AtFlags, Str, Addr, Size);
    getxattrat(DirFd, Path, AtFlags, Str, Addr, Size);
    listxattrat(DirFd, Path, AtFlags, Addr, Size);
    removexattrat(DirFd, Path, AtFlags, Str);
    file_getattr(DirFd, Path, Addr, Size, AtFlags);
    file_setattr(DirFd, Path, Addr, Size, AtFlags);
    listns(Addr, Addr, Size, Hex);
    rseq_slice_yield();
}

/// What a call of that number gets which nothing here answers.
pub(super) fn not_there(cx: &mut Cx<'_, '_>, number: u64) -> SysResult {
    let name = table::find(number).map_or("unknown", |entry| entry.name);
    cx.log(
        Level::Warn,
        format!("system call {number} ({name}) is not supported"),
    );
    Err(Errno::ENOSYS.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::uts::RELEASE;
    use crate::syscall::Support;

    /// The last number of `arch/x86/entry/syscalls/syscall_64.tbl` in Linux 7.0.
    const LAST: u64 = 471;

    #[test]
    fn every_call_of_linux_is_in_the_table_once() {
        for number in (0..335).chain(424..=LAST) {
            assert!(table::find(number).is_some(), "{number}");
        }
        assert!(table::TABLE.iter().all(|entry| entry.number <= LAST));
        let mut names: alloc::vec::Vec<_> = table::TABLE.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }

    #[test]
    fn what_is_not_whole_says_what_is_not_there() {
        for entry in table::TABLE {
            match entry.support {
                Support::Full => {}
                Support::Partial(what) => assert!(!what.is_empty(), "{}", entry.name),
                // The answer first, then the reason.
                Support::Refused(what) | Support::Missing(what) => {
                    assert!(
                        what.starts_with('E') && what.contains(' ') || what == "ENOSYS",
                        "{}: {what}",
                        entry.name
                    );
                }
            }
        }
    }

    /// Programs take the release for what they may call.
    #[test]
    fn the_release_is_none_that_has_a_call_which_is_missing() {
        /// Calls that no kernel from a release on can be built without, the first of each group.
        const SINCE: [(u64, (u32, u32)); 7] = [
            (428, (5, 2)),
            (442, (5, 12)),
            (448, (5, 15)),
            (457, (6, 8)),
            (463, (6, 13)),
            (467, (6, 15)),
            (468, (6, 17)),
        ];
        let mut parts = RELEASE.split(['.', '-']).map(str::parse::<u32>);
        let release = (
            parts.next().unwrap().unwrap(),
            parts.next().unwrap().unwrap(),
        );
        for (number, since) in SINCE {
            let entry = table::find(number).unwrap();
            let missing = matches!(entry.support, Support::Missing(_));
            assert!(!missing || release < since, "{}", entry.name);
        }
    }
}
