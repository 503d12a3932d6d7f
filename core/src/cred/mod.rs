//! What may be done in whose name: groups, and the capabilities that files carry.

pub(crate) mod file_caps;
pub(crate) mod groups;
