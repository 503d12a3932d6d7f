//! Names of the system calls that are not in the table, for the line that the log gets when a program makes one.

/// Numbers and names as in `arch/x86/entry/syscalls/syscall_64.tbl` of Linux, by number.
const NAMES: &[(u16, &str)] = &[
    (134, "uselib"),
    (156, "_sysctl"),
    (174, "create_module"),
    (177, "get_kernel_syms"),
    (178, "query_module"),
    (180, "nfsservctl"),
    (181, "getpmsg"),
    (182, "putpmsg"),
    (183, "afs_syscall"),
    (184, "tuxcall"),
    (185, "security"),
    (205, "set_thread_area"),
    (211, "get_thread_area"),
    (212, "lookup_dcookie"),
    (214, "epoll_ctl_old"),
    (215, "epoll_wait_old"),
    (236, "vserver"),
    (301, "fanotify_mark"),
    (303, "name_to_handle_at"),
    (304, "open_by_handle_at"),
    (428, "open_tree"),
    (429, "move_mount"),
    (430, "fsopen"),
    (431, "fsconfig"),
    (432, "fsmount"),
    (433, "fspick"),
    (442, "mount_setattr"),
    (444, "landlock_create_ruleset"),
    (445, "landlock_add_rule"),
    (446, "landlock_restrict_self"),
    (448, "process_mrelease"),
    (457, "statmount"),
    (458, "listmount"),
    (459, "lsm_get_self_attr"),
    (460, "lsm_set_self_attr"),
    (461, "lsm_list_modules"),
    (463, "setxattrat"),
    (464, "getxattrat"),
    (465, "listxattrat"),
    (466, "removexattrat"),
    (467, "open_tree_attr"),
    (468, "file_getattr"),
    (469, "file_setattr"),
];

/// The name of a system call that Linux has and the table has not.
pub(super) fn name(number: u64) -> Option<&'static str> {
    let number = u16::try_from(number).ok()?;
    let at = NAMES
        .binary_search_by_key(&number, |(other, _)| *other)
        .ok()?;
    Some(NAMES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscall::table;

    #[test]
    fn a_call_is_either_in_the_table_or_among_the_missing() {
        assert!(NAMES.is_sorted_by(|(a, _), (b, _)| a < b));
        for (number, name) in NAMES {
            assert!(table::find(u64::from(*number)).is_none(), "{name}");
        }
        for number in (0..335).chain(424..470) {
            assert!(
                table::find(number).is_some() || name(number).is_some(),
                "{number}"
            );
        }
        assert_eq!((name(214), name(500)), (Some("epoll_ctl_old"), None));
    }
}
