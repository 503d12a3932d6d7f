//! Character devices (null(4), full(4), random(4), tty(4)).

/// A character device that the kernel knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Device {
    Null,
    Zero,
    Full,
    /// `/dev/random`, which can be waited for.
    Random,
    /// `/dev/urandom`
    Urandom,
}

/// What opening a device number leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Device(Device),
    /// `/dev/tty`: the controlling terminal.
    Terminal,
    /// `/dev/console` and the terminal itself: standard input.
    Stream,
}

/// The device with this number (`new_encode_dev`); others are `ENXIO`.
pub(crate) fn find(rdev: u32) -> Option<Target> {
    Some(
        match (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00) {
            (1, 3) => Target::Device(Device::Null),
            (1, 5) => Target::Device(Device::Zero),
            (1, 7) => Target::Device(Device::Full),
            (1, 8) => Target::Device(Device::Random),
            (1, 9) => Target::Device(Device::Urandom),
            (5, 0) => Target::Terminal,
            (5, 1) | (136, 0) => Target::Stream,
            _ => return None,
        },
    )
}
