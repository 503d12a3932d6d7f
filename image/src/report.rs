//! What a build tells its caller: progress while it runs, counts when it is done.

/// What a finished build put into the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildReport {
    /// Regular files (inodes; a hard-linked file counts once).
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, FIFOs and sockets.
    pub others: u64,
    /// Further names of hard-linked inodes.
    pub hard_links: u64,
    /// Whiteouts (character devices 0:0).
    pub whiteouts: u64,
    /// Opaque directories.
    pub opaque: u64,
    /// Bytes of file content in the source, holes included.
    pub bytes_in: u64,
    /// Bytes of file content stored, before padding.
    pub bytes_out: u64,
    /// Files whose content another file of the image already had.
    pub shared_files: u64,
    /// Bytes saved by them.
    pub shared_bytes: u64,
    /// Length of the image.
    pub image_bytes: u64,
    /// UUID of the image, derived from its content.
    pub uuid: [u8; 16],
    /// One line for each thing of the source that the image does not hold, at most
    /// [`BuildReport::MAX_NOTES`].
    pub notes: Vec<String>,
    /// Notes beyond that number.
    pub notes_dropped: u64,
    /// Files and directories that could not be read and were passed over: their paths and why, at most
    /// [`BuildReport::MAX_SKIPPED`].
    pub skipped: Vec<(Vec<u8>, String)>,
    /// How many they were.
    pub skipped_count: u64,
}

impl BuildReport {
    /// Most lines kept in `notes`.
    pub const MAX_NOTES: usize = 100;
    /// Most paths kept in `skipped`.
    pub const MAX_SKIPPED: usize = 10_000;

    pub(crate) fn note(&mut self, line: String) {
        if self.notes.len() < Self::MAX_NOTES {
            self.notes.push(line);
        } else {
            self.notes_dropped += 1;
        }
    }

    pub(crate) fn skip(&mut self, path: &[u8], reason: String) {
        if self.skipped.len() < Self::MAX_SKIPPED {
            self.skipped.push((path.to_vec(), reason));
        }
        self.skipped_count += 1;
    }
}

/// A stage of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Reading the source and copying file data; counted in bytes of content.
    Data,
    /// Writing metadata; counted in inodes.
    Metadata,
}

/// Hears how far a build is; called at most once per file or mebibyte.
pub trait Progress {
    /// `done` of `total` units (`None` while unknown) of `what` are finished.
    fn advance(&mut self, what: Work, done: u64, total: Option<u64>);

    /// Whether the build is to end with [`BuildError::Interrupted`](crate::BuildError::Interrupted); asked at
    /// least once per object or mebibyte.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Nobody listens.
impl Progress for () {
    fn advance(&mut self, _: Work, _: u64, _: Option<u64>) {}
}
