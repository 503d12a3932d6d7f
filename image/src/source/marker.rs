//! The names with which an OCI layer says what it removes (image specification, "Whiteouts").

/// What a name that begins with `.wh.` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker<'a> {
    /// `.wh.NAME`: the lower layers' NAME is gone. The name may be empty, `.` or `..`, which no marker can
    /// mean.
    Whiteout(&'a [u8]),
    /// `.wh..wh..opq`: everything that lower layers have in this directory is gone.
    Opaque,
    /// `.wh..wh.*`: bookkeeping of the AUFS file system, no part of the layer.
    Reserved,
}

impl<'a> Marker<'a> {
    /// The marker that a name is, if it is one.
    pub(super) fn of(name: &'a [u8]) -> Option<Self> {
        let hidden = name.strip_prefix(b".wh.")?;
        Some(match hidden {
            b".wh..opq" => Self::Opaque,
            _ if hidden.starts_with(b".wh.") => Self::Reserved,
            _ => Self::Whiteout(hidden),
        })
    }
}
