//! What can be wrong with an image.

use core::fmt;

use crate::port::ImageId;
use varve_abi::Errno;

/// Why an image or an inode of it cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImgError {
    /// Which image.
    pub image: ImageId,
    /// Which inode; `None`: the superblock or the file as a whole.
    pub nid: Option<u64>,
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// The field of the format and what is wrong with it.
    pub field: &'static str,
}

/// Who is at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The file cannot be read.
    Io,
    /// The file is no EROFS image.
    Foreign,
    /// The image breaks the rules of the format.
    Damaged,
    /// The image is well, but uses what is not supported.
    Unsupported,
}

impl ImgError {
    /// The same error of this inode, if it names none.
    pub(super) fn of(mut self, nid: u64) -> ImgError {
        self.nid = self.nid.or(Some(nid));
        self
    }

    /// The error a program sees: `EIO`, `EUCLEAN`, `EOPNOTSUPP`, `EINVAL` for a file that is no image.
    pub fn errno(&self) -> Errno {
        match self.kind {
            ErrorKind::Io => Errno::EIO,
            ErrorKind::Foreign => Errno::EINVAL,
            ErrorKind::Damaged => Errno::EUCLEAN,
            ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        }
    }
}

/// Without the image's number: the host knows its name.
impl fmt::Display for ImgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::Io => f.write_str("cannot be read: ")?,
            ErrorKind::Foreign => f.write_str("no EROFS image: ")?,
            ErrorKind::Damaged => f.write_str("damaged: ")?,
            ErrorKind::Unsupported => f.write_str("not supported: ")?,
        }
        if let Some(nid) = self.nid {
            write!(f, "inode {nid}: ")?;
        }
        f.write_str(self.field)
    }
}

impl core::error::Error for ImgError {}
