//! The limits of an IPC namespace, as `/proc/sys/kernel/{msg*,sem,shm*}` and `/proc/sys/fs/mqueue` show and
//! set them.

use super::{message, semaphore, shm};
use crate::ipc::mqueue;

/// Numbers that Linux keeps as `int`, and most objects of a kind (`IPCMNI`).
const INT_MAX: i128 = i32::MAX as i128;
const INT_MIN: i128 = i32::MIN as i128;
const OBJECTS_MAX: i128 = 32768;

/// One file of limits: which, how many numbers it has, and what they may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    first: usize,
    count: usize,
    least: i128,
    most: i128,
}

const fn one(first: usize, least: i128, most: i128) -> Setting {
    Setting {
        first,
        count: 1,
        least,
        most,
    }
}

pub(crate) const MESSAGE_SIZE: Setting = one(0, 0, INT_MAX);
pub(crate) const QUEUE_BYTES: Setting = one(1, 0, INT_MAX);
pub(crate) const QUEUES: Setting = one(2, 0, OBJECTS_MAX);
pub(crate) const SEGMENT_SIZE: Setting = one(3, 0, u64::MAX as i128);
pub(crate) const SEGMENT_PAGES: Setting = one(4, 0, u64::MAX as i128);
pub(crate) const SEGMENTS: Setting = one(5, 0, OBJECTS_MAX);
/// Semaphores of a set, of all, operations of a call, sets.
pub(crate) const SEMAPHORES: Setting = Setting {
    first: 6,
    count: 4,
    least: INT_MIN,
    most: INT_MAX,
};
pub(crate) const POSIX_QUEUES: Setting = one(10, INT_MIN, INT_MAX);
pub(crate) const POSIX_MESSAGES: Setting = one(11, 1, 65536);
pub(crate) const POSIX_SIZE: Setting = one(12, 128, 16 << 20);
pub(crate) const POSIX_MESSAGES_DEFAULT: Setting = one(13, 1, 65536);
pub(crate) const POSIX_SIZE_DEFAULT: Setting = one(14, 128, 16 << 20);
/// Segments go with the last process that is attached to them (`shm_rmid_forced`).
pub(crate) const SEGMENTS_GO: Setting = one(15, 0, 1);
const ALL: usize = 16;
const SETS: usize = 9;

/// The limits of a namespace.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Limits([i128; ALL]);

impl Default for Limits {
    fn default() -> Limits {
        Limits([
            message::MESSAGE_MAX.into(),
            message::QUEUE_BYTES.into(),
            message::QUEUES_MAX as i128,
            shm::SIZE_MAX.into(),
            shm::PAGES_MAX.into(),
            shm::SEGMENTS_MAX as i128,
            semaphore::SET_MAX.into(),
            semaphore::ALL_MAX as i128,
            semaphore::OPERATIONS_MAX.into(),
            semaphore::SETS_MAX as i128,
            mqueue::QUEUES_MAX as i128,
            mqueue::MESSAGES_MAX.into(),
            mqueue::MESSAGE_SIZE_MAX.into(),
            mqueue::MESSAGES_MAX.into(),
            mqueue::MESSAGE_SIZE_MAX.into(),
            0,
        ])
    }
}

impl Limits {
    /// A limit of one number; a negative one is as large as it gets, as where Linux compares it without a
    /// sign.
    pub(crate) fn get(&self, setting: Setting) -> u64 {
        let value = self.0[setting.first];
        u64::try_from(value).unwrap_or(u64::MAX)
    }

    /// Those of semaphores, in the order of the file; negative ones let nothing in.
    pub(crate) fn semaphores(&self) -> [u64; 4] {
        let from = SEMAPHORES.first;
        [0, 1, 2, 3].map(|index| u64::try_from(self.0[from + index]).unwrap_or(0))
    }

    /// The numbers of a file.
    pub(crate) fn values(&self, setting: Setting) -> &[i128] {
        &self.0[setting.first..setting.first + setting.count]
    }
}

impl Setting {
    /// How many numbers it has at most.
    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// Whether Linux keeps it as `unsigned long`, which has no sign.
    pub(crate) fn is_long(self) -> bool {
        self.most > INT_MAX
    }

    /// Sets the first numbers of a file up to one that is out of range: `EINVAL`. `ERANGE` for too many sets
    /// of semaphores, of which there may be as many as before then.
    pub(crate) fn set(self, limits: &mut Limits, values: &[i128]) -> Result<(), crate::abi::Errno> {
        let old = limits.0[SETS];
        for (to, &value) in limits.0[self.first..].iter_mut().zip(values) {
            if !(self.least..=self.most).contains(&value) {
                return Err(crate::abi::Errno::EINVAL);
            }
            *to = value;
        }
        let sets = limits.0[SETS];
        match (0..=OBJECTS_MAX).contains(&sets) {
            true => Ok(()),
            false => {
                limits.0[SETS] = old;
                Err(crate::abi::Errno::ERANGE)
            }
        }
    }
}
