//! Why a run failed.

use std::any::Any;
use std::io;

use varve_core::abi::Errno;
use varve_core::boot::BootError;
use varve_core::machine::ImageId;

use crate::platform::PlatformError;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not start; which image is meant is told by name.
    #[error("{}", boot_message(.0, .1.as_deref()))]
    Boot(BootError, Option<String>),
    /// The host could not give something: what, and why not.
    #[error("{0}: {1}")]
    Host(String, io::Error),
    /// The platform does not work.
    #[error("{0}")]
    Platform(PlatformError),
    /// The kernel's bookkeeping does not add up: a bug of varve.
    #[error("the kernel's own bookkeeping is wrong, which is a bug of varve: {0}")]
    Kernel(String),
    /// A thread of the run panicked: a bug of varve, or of what it was given.
    #[error("a thread of the sandbox panicked: {0}")]
    Panic(String),
}

impl RunError {
    /// An error of the host's, for `map_err`; `what` says what it could not give.
    pub fn host(what: &str) -> impl FnOnce(io::Error) -> RunError {
        move |error| RunError::Host(what.to_owned(), error)
    }

    /// What a thread panicked with.
    pub(crate) fn panic(payload: &(dyn Any + Send)) -> RunError {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        RunError::Panic(text.unwrap_or("it does not say why").to_owned())
    }
}

fn boot_message(error: &BootError, image: Option<&str>) -> String {
    match error {
        BootError::Image {
            image: ImageId(number),
            reason,
        } => match image {
            Some(name) => format!("{name}: {reason}"),
            None => format!("image {number}: {reason}"),
        },
        BootError::Config(text) => text.clone(),
        BootError::Exec {
            program,
            errno,
            found,
        } => {
            let why = match *errno {
                Errno::ENOENT if *found => "the interpreter or loader that it names is not there",
                Errno::ENOENT => "no such file",
                Errno::EACCES => "permission denied",
                Errno::EISDIR => "is a directory",
                Errno::ENOEXEC => "not a program for this machine",
                errno => errno.message(),
            };
            match program.is_empty() {
                true => format!("the program's name is empty: {why}"),
                false => format!("{}: {why}", String::from_utf8_lossy(program)),
            }
        }
    }
}
