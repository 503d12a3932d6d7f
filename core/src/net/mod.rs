//! Sockets and the networks between them.

mod device;
pub(crate) mod socket;
