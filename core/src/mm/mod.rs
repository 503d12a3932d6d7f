//! Memory: frames of the memory file, address spaces with their VMAs and pages, faults, and the way to user memory.

pub(crate) mod fault;
pub(crate) mod frames;
pub(crate) mod space;
pub(crate) mod user;

pub(crate) use frames::Frames;
pub(crate) use space::Space;

/// All memory management state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mm {
    /// The frames of the memory file.
    pub frames: Frames,
    // Address spaces: to be filled by the owner of this module.
}

impl Mm {
    /// `frames`: how many the memory file holds.
    pub(crate) fn new(frames: u32) -> Mm {
        Mm {
            frames: Frames::new(frames),
        }
    }
}

/// Drops the mappings of these pages of a file in all address spaces: they have moved.
pub(crate) fn pages_moved(
    _k: &mut crate::Kernel,
    _p: &mut crate::port::Ports<'_>,
    _inode: crate::vfs::InodeRef,
    _first_page: u64,
    _count: u64,
) {
}
