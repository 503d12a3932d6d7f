//! The commands. Each gives the exit status, or an error that ends varve with 125.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod look;
pub(crate) mod merge;
pub(crate) mod mount;
pub(crate) mod platforms;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod syscalls;
