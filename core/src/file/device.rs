//! Character devices (null(4), full(4), random(4), tty(4)).

use crate::file::caller::FileCallers;
use alloc::vec;
use alloc::vec::Vec;

use super::ops::{FileOps, OpenFile};
use super::rw::{Ends, How, Iov, Piece};
use super::{File, FileId, FileKind, Files};
use crate::abi::Errno;
use crate::env::cx::Cx;
use crate::env::wait::SysResult;
use crate::file;
use crate::fs::filesystem::Source;

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

/// A character device.
pub(super) struct Ops;

impl OpenFile for Ops {
    const POSITION: bool = true;

    fn map(file: &File, _id: FileId) -> Result<Option<FileId>, Errno> {
        match file.kind {
            FileKind::Device(Device::Zero) => Ok(None),
            _ => Err(Errno::ENODEV),
        }
    }
}

/// The device that an open file is. `EBADF` for others.
fn device_of(k: &Files, id: FileId) -> Result<Device, Errno> {
    match file::at(k, id).kind {
        FileKind::Device(device) => Ok(device),
        _ => Err(Errno::EBADF),
    }
}

/// Takes so many bytes, or has no room for any.
fn swallow(device: Device, len: u64) -> SysResult {
    match device {
        Device::Full if len > 0 => Err(Errno::ENOSPC.into()),
        _ => Ok(len),
    }
}

/// Asks for the bits of entropy (random(4)), and what Linux answers once its generator is ready.
const RNDGETENTCNT: u32 = 0x8004_5200;

const ENTROPY: i32 = 256;

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let device = device_of(cx.k.files(), id)?;
        let piece = Piece::next(cx, iov, how);
        let moved = read_device(cx, device, iov);
        piece.end(cx, moved, Ends::AtSignals)
    }

    fn write(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, _how: How) -> SysResult {
        swallow(device_of(cx.k.files(), id)?, iov.left())
    }

    fn splice_read(
        cx: &mut Cx<'_, '_, K>,
        id: FileId,
        _at: u64,
        len: u64,
    ) -> Result<Vec<u8>, Errno> {
        let device = device_of(cx.k.files(), id)?;
        // It can only be read by programs.
        if device == Device::Null {
            return Err(Errno::EINVAL);
        }
        let mut buf = vec![0; len as usize];
        if matches!(device, Device::Random | Device::Urandom) {
            cx.k.files_mut().env.rng.fill(&mut buf);
        }
        Ok(buf)
    }

    fn splice_write(cx: &mut Cx<'_, '_, K>, id: FileId, data: Vec<u8>, _how: How) -> SysResult {
        swallow(device_of(cx.k.files(), id)?, data.len() as u64)
    }

    fn can_wait(_k: &K, file: &File) -> bool {
        file.kind == FileKind::Device(Device::Random)
    }

    fn ioctl(cx: &mut Cx<'_, '_, K>, id: FileId, request: u32, arg: u64) -> Option<SysResult> {
        let device = device_of(cx.k.files(), id).ok()?;
        if request != RNDGETENTCNT || !matches!(device, Device::Random | Device::Urandom) {
            return None;
        }
        // How much there is of what /dev/random gives: it is always full.
        Some(cx.write_obj(arg, &ENTROPY).map(|()| 0).map_err(Into::into))
    }
}

fn read_device<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    device: Device,
    iov: &mut Iov,
) -> Result<u64, Errno> {
    let mut done = 0;
    if device == Device::Null {
        return Ok(0);
    }
    let mut buf = [0; 256];
    while iov.left() > 0 {
        let (to, len) = match iov.run(cx, u64::MAX, true) {
            Ok(Some((Source::Memory(to), len))) => (to, len),
            Ok(_) => break,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        if matches!(device, Device::Random | Device::Urandom) {
            let mut at = 0;
            while at < len {
                let part = &mut buf[..(len - at).min(256) as usize];
                cx.k.files_mut().env.rng.fill(part);
                cx.p.memory.write(to + at, part);
                at += part.len() as u64;
            }
        } else {
            cx.p.memory.zero(to, len);
        }
        iov.advance(len);
        done += len;
    }
    Ok(done)
}
