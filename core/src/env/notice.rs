//! Notices: what a floor leaves for those above it, which it does not know.
//!
//! They lie in the order in which they were left. The kernel deals with them when a handler has returned, and
//! before anything else of the input ([`Kernel::take_notices`](crate::Kernel::take_notices)).

use super::wait::WaitKey;
use crate::machine::ThreadId;

/// Something that a floor above is to do.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Notice {
    /// Who waits for this key is run again.
    Woken(WaitKey),
    /// This thread is run again: what it waited for is its.
    Ready(ThreadId),
}
