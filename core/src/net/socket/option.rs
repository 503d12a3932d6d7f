//! What programs set on every socket, whatever its family (`SOL_SOCKET` of socket(7)).

pub(crate) use crate::env::bounds::{RECEIVE_BUFFER_MIN, SEND_BUFFER_MIN};
use crate::env::settings;
use crate::env::settings::Settings;

/// Longest queue of connections to be accepted (`/proc/sys/net/core/somaxconn`).
pub(crate) const BACKLOG_MAX: u32 = 4096;
/// Most bytes of control messages that one call sends (`/proc/sys/net/core/optmem_max`).
pub(crate) const CONTROL_MAX: u64 = 131_072;

bitflags::bitflags! {
    /// Options that are on or off.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct Switches: u32 {
        const DEBUG = 1;
        const REUSE_ADDRESS = 2;
        const DONT_ROUTE = 4;
        const BROADCAST = 8;
        const KEEP_ALIVE = 16;
        const OOB_INLINE = 32;
        const PASS_CREDENTIALS = 64;
        const TIMESTAMP = 128;
        const TIMESTAMP_NS = 256;
        const LINGER = 512;
        const NO_CHECK = 1024;
        const PASS_SECURITY = 2048;
        const OVERFLOW = 4096;
        /// What comes along with messages.
        const PASSED = Self::PASS_CREDENTIALS.bits() | Self::PASS_SECURITY.bits();
    }
}

/// Options of a socket.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Options {
    pub switches: Switches,
    /// Sizes of buffers as programs see them: twice what they asked for.
    pub send_buffer: u32,
    pub receive_buffer: u32,
    /// Nanoseconds that a call waits, `None` for ever.
    pub send_timeout: Option<u64>,
    pub receive_timeout: Option<u64>,
    /// Bytes that a reader of a stream waits for, at least 1.
    pub low_water: i32,
    pub linger: u32,
    pub priority: u32,
}

impl Options {
    /// What a socket has at first.
    pub(crate) fn new(settings: &Settings) -> Options {
        Options {
            switches: Switches::empty(),
            send_buffer: settings.get(settings::SEND_DEFAULT) as u32,
            receive_buffer: settings.get(settings::RECEIVE_DEFAULT) as u32,
            send_timeout: None,
            receive_timeout: None,
            low_water: 1,
            linger: 0,
            priority: 0,
        }
    }
}
