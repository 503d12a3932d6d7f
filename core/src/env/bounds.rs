//! The kernel's own bounds (`docs/limits.md`): what settings of `/proc/sys` may lower, and nothing exceeds.

use crate::abi::PAGE_SIZE;

/// Most events that wait in one instance (`/proc/sys/fs/inotify/max_queued_events`).
pub(crate) const INOTIFY_QUEUE_MAX: usize = 16384;

/// Most instances of one user, at first (`max_user_instances`).
pub(crate) const INOTIFY_INSTANCES_MAX: u32 = 128;

/// Most watches of all instances together (`max_user_watches`).
pub(crate) const INOTIFY_WATCHES_MAX: usize = 65536;

/// Most descriptors a process may have, whatever its limit says (`/proc/sys/fs/nr_open`, less of which can be
/// set).
pub(crate) const NR_OPEN: u32 = 1 << 20;

/// Most bytes that `F_SETPIPE_SZ` gives without `CAP_SYS_RESOURCE` at first (`/proc/sys/fs/pipe-max-size`),
/// and with it.
pub(crate) const PIPE_MAX: usize = 1 << 20;

/// Most items of all instances together (`/proc/sys/fs/epoll/max_user_watches`, less of which can be set).
pub(crate) const EPOLL_WATCHES_MAX: usize = 1 << 20;

/// Most events that all contexts were made for (`/proc/sys/fs/aio-max-nr`).
pub(crate) const AIO_REQUESTS_MAX: u64 = 65536;

/// Size of buffers at first and at most, in bytes, unless others were set
/// (`/proc/sys/net/core/{w,r}mem_{default,max}`).
pub(crate) const SOCKET_BUFFER_DEFAULT: u32 = 212_992;

/// Smallest buffers (`SOCK_MIN_SNDBUF`, `SOCK_MIN_RCVBUF`).
pub(crate) const SEND_BUFFER_MIN: u32 = 4608;

pub(crate) const RECEIVE_BUFFER_MIN: u32 = 2304;

/// Most areas of one space (`vm.max_map_count`).
pub(crate) const MAP_COUNT_MAX: usize = 65530;

/// Most tasks there may be on any host, zombies included.
pub(crate) const THREADS_MAX: usize = 16384;

/// Most mounts of a namespace (`/proc/sys/fs/mount-max`).
pub(crate) const MOUNT_MAX: usize = 100_000;

/// The capacity that somebody gets who asks for so many bytes (`round_pipe_size()`); `None` for too many.
pub(crate) fn rounded_pipe_size(asked: u64) -> Option<u64> {
    match asked {
        0..=PAGE_SIZE => Some(PAGE_SIZE),
        size if size > 1 << 31 => None,
        size => Some(size.next_power_of_two()),
    }
}

/// Process number of the first process.
pub(crate) const INIT: u32 = 1;

/// One past the highest thread number (`/proc/sys/kernel/pid_max`).
pub(crate) const PID_MAX: u32 = 1 << 22;
