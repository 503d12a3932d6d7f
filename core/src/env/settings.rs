//! Settings of the whole system that the kernel goes by and that `/proc/sys` lets change; those of namespaces
//! are theirs ([`limits`](crate::ipc::limits), [`ns`](crate::ns)).
//!
//! What is set is shown; where the kernel has a bound of its own (docs/limits.md), the smaller one counts.

use super::bounds::*;
use crate::abi::Errno;

const INT_MIN: i128 = i32::MIN as i128;
const INT_MAX: i128 = i32::MAX as i128;
const LONG_MAX: i128 = i64::MAX as i128;
const ULONG_MAX: i128 = u64::MAX as i128;

/// What Linux reads a number into, which says what else may stand there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// `int` (`proc_dointvec()`): what follows the number is not taken.
    Int,
    /// `unsigned int` (`proc_douintvec()`): everything is taken, and the file stays where it is.
    Unsigned,
    /// `unsigned long` (`proc_doulongvec_minmax()`): as `int`, but no sign at all.
    Long,
}

/// One setting: its place, what it is at first, and what it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    place: usize,
    first: i128,
    least: i128,
    most: i128,
    form: Form,
}

const fn int(place: usize, first: i128, least: i128, most: i128) -> Setting {
    Setting {
        place,
        first,
        least,
        most,
        form: Form::Int,
    }
}

const fn unsigned(place: usize, first: i128, least: i128, most: i128) -> Setting {
    Setting {
        form: Form::Unsigned,
        ..int(place, first, least, most)
    }
}

const fn long(place: usize, first: i128, most: i128) -> Setting {
    Setting {
        form: Form::Long,
        ..int(place, first, 0, most)
    }
}

pub(crate) const AIO_EVENTS: Setting = long(0, AIO_REQUESTS_MAX as i128, ULONG_MAX);
pub(crate) const EPOLL_WATCHES: Setting = long(1, EPOLL_WATCHES_MAX as i128, LONG_MAX);
pub(crate) const INOTIFY_EVENTS: Setting = int(2, INOTIFY_QUEUE_MAX as i128, 0, INT_MAX);
/// Seconds.
pub(crate) const LEASE_TIME: Setting = int(3, 45, INT_MIN, INT_MAX);
pub(crate) const LEASES: Setting = int(4, 1, INT_MIN, INT_MAX);
pub(crate) const DIRECTORY_SIGNALS: Setting = int(5, 1, INT_MIN, INT_MAX);
pub(crate) const MOUNTS: Setting = int(6, MOUNT_MAX as i128, 1, INT_MAX);
/// One past the highest descriptor (`sysctl_nr_open_min`, `sysctl_nr_open_max`).
pub(crate) const DESCRIPTORS: Setting = unsigned(7, NR_OPEN as i128, 64, INT_MAX - 63);
/// Bytes, of which Linux makes a power of two.
pub(crate) const PIPE_SIZE: Setting = unsigned(8, PIPE_MAX as i128, 0, 1 << 31);
/// Pages of a user's pipes: from then on new ones are small; then there are no new ones. 0 is no limit.
pub(crate) const PIPE_PAGES_SOFT: Setting = long(9, 16384, ULONG_MAX);
pub(crate) const PIPE_PAGES_HARD: Setting = long(10, 0, ULONG_MAX);
pub(crate) const PROTECTED_FIFOS: Setting = int(11, 1, 0, 2);
pub(crate) const PROTECTED_HARDLINKS: Setting = int(12, 1, 0, 1);
pub(crate) const PROTECTED_REGULAR: Setting = int(13, 1, 0, 2);
pub(crate) const PROTECTED_SYMLINKS: Setting = int(14, 1, 0, 1);
/// What numbers without a mapping look like.
pub(crate) const OVERFLOW_USER: Setting = int(15, 65534, 0, 65535);
pub(crate) const OVERFLOW_GROUP: Setting = int(16, 65534, 0, 65535);
/// 1: stack, mappings and programs are placed at random; 2: the heap, too.
pub(crate) const RANDOMIZE: Setting = int(17, 2, INT_MIN, INT_MAX);
pub(crate) const TASKS: Setting = int(18, THREADS_MAX as i128, 1, (1 << 30) - 1);
const SEND_MIN: i128 = SEND_BUFFER_MIN as i128;
const RECEIVE_MIN: i128 = RECEIVE_BUFFER_MIN as i128;
const BUFFER: i128 = SOCKET_BUFFER_DEFAULT as i128;
pub(crate) const RECEIVE_DEFAULT: Setting = int(19, BUFFER, RECEIVE_MIN, INT_MAX);
pub(crate) const RECEIVE_MOST: Setting = int(20, BUFFER, RECEIVE_MIN, INT_MAX);
pub(crate) const SEND_DEFAULT: Setting = int(21, BUFFER, SEND_MIN, INT_MAX);
pub(crate) const SEND_MOST: Setting = int(22, BUFFER, SEND_MIN, INT_MAX);
/// Mappings are placed from below.
pub(crate) const LEGACY_LAYOUT: Setting = int(23, 0, 0, INT_MAX);
pub(crate) const AREAS: Setting = int(24, MAP_COUNT_MAX as i128, 0, INT_MAX);
/// 0: more memory at once than there is is refused; 1: nothing is. There is no strict count (2).
pub(crate) const OVERCOMMIT: Setting = int(25, 0, 0, 1);
/// Who may look into programs with other rights than their user: 1, the user.
pub(crate) const DUMPABLE: Setting = int(26, 0, 0, 2);
const COUNT: usize = 27;

static ALL: [Setting; COUNT] = [
    AIO_EVENTS,
    EPOLL_WATCHES,
    INOTIFY_EVENTS,
    LEASE_TIME,
    LEASES,
    DIRECTORY_SIGNALS,
    MOUNTS,
    DESCRIPTORS,
    PIPE_SIZE,
    PIPE_PAGES_SOFT,
    PIPE_PAGES_HARD,
    PROTECTED_FIFOS,
    PROTECTED_HARDLINKS,
    PROTECTED_REGULAR,
    PROTECTED_SYMLINKS,
    OVERFLOW_USER,
    OVERFLOW_GROUP,
    RANDOMIZE,
    TASKS,
    RECEIVE_DEFAULT,
    RECEIVE_MOST,
    SEND_DEFAULT,
    SEND_MOST,
    LEGACY_LAYOUT,
    AREAS,
    OVERCOMMIT,
    DUMPABLE,
];

impl Setting {
    pub(crate) fn form(self) -> Form {
        self.form
    }
}

/// The settings of a system.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Settings([i128; COUNT]);

impl Settings {
    /// What they are at first; there is room for so many tasks.
    pub(crate) fn new(tasks: usize) -> Settings {
        let mut settings = Settings(ALL.map(|setting| setting.first));
        settings.0[TASKS.place] = tasks as i128;
        settings
    }

    pub(crate) fn get(&self, setting: Setting) -> i128 {
        self.0[setting.place]
    }

    /// One that limits something which the kernel bounds itself: the smaller one. Negative ones are 0.
    pub(crate) fn at_most(&self, setting: Setting, bound: usize) -> usize {
        let value = self.get(setting).clamp(0, bound as i128);
        usize::try_from(value).unwrap_or(bound)
    }

    /// One that is switched on.
    pub(crate) fn is_on(&self, setting: Setting) -> bool {
        self.get(setting) != 0
    }

    /// Changes one. `EINVAL` if it is out of range.
    pub(crate) fn set(&mut self, setting: Setting, value: i128) -> Result<(), Errno> {
        if !(setting.least..=setting.most).contains(&value) {
            return Err(Errno::EINVAL);
        }
        self.0[setting.place] = match setting {
            PIPE_SIZE => rounded_pipe_size(value as u64).ok_or(Errno::EINVAL)?.into(),
            _ => value,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_its_own_place() {
        for (place, setting) in ALL.iter().enumerate() {
            assert_eq!(setting.place, place);
            assert!((setting.least..=setting.most).contains(&setting.first));
        }
    }
}
