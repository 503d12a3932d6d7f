//! Sockets and the networks between them.

pub(crate) mod socket;
