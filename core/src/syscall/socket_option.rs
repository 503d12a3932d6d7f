//! Options of sockets, as far as they are not of one protocol (`SOL_SOCKET` of socket(7)).

use alloc::vec::Vec;

use super::socket::find;
use crate::abi::Errno;
use crate::abi::layout::Timeval;
use crate::abi::raw::{general as g, net as n};
use crate::args::*;
use crate::env::settings;
use crate::env::wait::{SysResult, WaitKey};
use crate::kernel::Cx;
use crate::net::socket;
use crate::net::socket::option::{RECEIVE_BUFFER_MIN, SEND_BUFFER_MIN, Switches};
use crate::net::socket::{SocketId, unix};

/// Highest priority that everybody may set.
const PRIORITY_MAX: i32 = 6;
/// Most seconds of a timeout; longer ones are for ever (`MAX_SCHEDULE_TIMEOUT / HZ`).
const TIMEOUT_MAX: i64 = i64::MAX / 1000 - 1;

/// The options that are on or off.
fn switch(name: u32) -> Option<Switches> {
    Some(match name {
        n::SO_DEBUG => Switches::DEBUG,
        n::SO_REUSEADDR => Switches::REUSE_ADDRESS,
        n::SO_DONTROUTE => Switches::DONT_ROUTE,
        n::SO_BROADCAST => Switches::BROADCAST,
        n::SO_KEEPALIVE => Switches::KEEP_ALIVE,
        n::SO_OOBINLINE => Switches::OOB_INLINE,
        n::SO_PASSCRED => Switches::PASS_CREDENTIALS,
        n::SO_PASSSEC => Switches::PASS_SECURITY,
        n::SO_NO_CHECK => Switches::NO_CHECK,
        n::SO_RXQ_OVFL => Switches::OVERFLOW,
        _ => return None,
    })
}

pub(super) fn setsockopt(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    level: Int,
    optname: Int,
    optval: Addr,
    optlen: Int,
) -> SysResult {
    if optlen.0 < 0 {
        return Err(Errno::EINVAL.into());
    }
    let (_, id) = find(cx, fd)?;
    if level.0 as u32 != n::SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let len = optlen.0 as u64;
    if len < size_of::<i32>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let value: i32 = cx.read_obj(optval.0)?;
    let name = optname.0 as u32;
    let is_admin = cx.creds().capable(g::CAP_NET_ADMIN);
    let most = |setting| cx.k.env.settings.get(setting).min(i128::from(i32::MAX / 2)) as u32;
    let (send_most, receive_most) = (most(settings::SEND_MOST), most(settings::RECEIVE_MOST));
    let options = &mut socket::at_mut(cx.k, id).options;
    match name {
        n::SO_DEBUG if value != 0 && !is_admin => return Err(Errno::EACCES.into()),
        n::SO_SNDBUFFORCE | n::SO_RCVBUFFORCE | n::SO_MARK if !is_admin => {
            return Err(Errno::EPERM.into());
        }
        n::SO_SNDBUF => {
            let size = (value as u32).min(send_most);
            options.send_buffer = (size * 2).max(SEND_BUFFER_MIN);
            cx.k.wake(WaitKey::Socket(id));
        }
        n::SO_RCVBUF => {
            let size = (value as u32).min(receive_most);
            options.receive_buffer = (size * 2).max(RECEIVE_BUFFER_MIN);
        }
        n::SO_SNDBUFFORCE => {
            let size = value.clamp(0, i32::MAX / 2) as u32;
            options.send_buffer = (size * 2).max(SEND_BUFFER_MIN);
            cx.k.wake(WaitKey::Socket(id));
        }
        n::SO_RCVBUFFORCE => {
            let size = value.clamp(0, i32::MAX / 2) as u32;
            options.receive_buffer = (size * 2).max(RECEIVE_BUFFER_MIN);
        }
        n::SO_PRIORITY => {
            if !(0..=PRIORITY_MAX).contains(&value) && !is_admin {
                return Err(Errno::EPERM.into());
            }
            options.priority = value as u32;
        }
        n::SO_RCVLOWAT => {
            options.low_water = match value {
                ..0 => i32::MAX,
                0 => 1,
                value => value,
            };
        }
        n::SO_LINGER => {
            if len < size_of::<[i32; 2]>() as u64 {
                return Err(Errno::EINVAL.into());
            }
            let [on, seconds]: [i32; 2] = cx.read_obj(optval.0)?;
            let options = &mut socket::at_mut(cx.k, id).options;
            options.switches.set(Switches::LINGER, on != 0);
            if on != 0 {
                options.linger = seconds as u32;
            }
        }
        n::SO_RCVTIMEO_OLD | n::SO_SNDTIMEO_OLD | n::SO_RCVTIMEO_NEW | n::SO_SNDTIMEO_NEW => {
            if len < size_of::<Timeval>() as u64 {
                return Err(Errno::EINVAL.into());
            }
            let time: Timeval = cx.read_obj(optval.0)?;
            let timeout = timeout(time)?;
            let options = &mut socket::at_mut(cx.k, id).options;
            match name {
                n::SO_RCVTIMEO_OLD | n::SO_RCVTIMEO_NEW => options.receive_timeout = timeout,
                _ => options.send_timeout = timeout,
            }
        }
        n::SO_TIMESTAMP_OLD
        | n::SO_TIMESTAMPNS_OLD
        | n::SO_TIMESTAMP_NEW
        | n::SO_TIMESTAMPNS_NEW
        | n::SO_MARK => {
            // Stamps and marks are not kept: a message has none, as on a Linux whose sender set none.
            return Err(Errno::ENOPROTOOPT.into());
        }
        n::SO_REUSEPORT => {
            if value != 0 {
                return Err(Errno::EOPNOTSUPP.into());
            }
        }
        name => {
            let switch = switch(name).ok_or(Errno::ENOPROTOOPT)?;
            options.switches.set(switch, value != 0);
        }
    }
    Ok(0)
}

/// A timeout as programs give it: `None` is for ever. `EDOM` if it is not normal.
fn timeout(time: Timeval) -> Result<Option<u64>, Errno> {
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EDOM);
    }
    match (time.sec, time.usec) {
        (..0, _) => Ok(Some(0)),
        (0, 0) | (TIMEOUT_MAX.., _) => Ok(None),
        _ => Ok(time.nanos()),
    }
}

pub(super) fn getsockopt(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    level: Int,
    optname: Int,
    optval: Addr,
    optlen: Addr,
) -> SysResult {
    let (_, id) = find(cx, fd)?;
    if level.0 as u32 != n::SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let room: i32 = cx.read_obj(optlen.0)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let name = optname.0 as u32;
    if name == n::SO_PEERGROUPS {
        return peer_groups(cx, id, optval, optlen, room);
    }
    let value = match name {
        // The length is that of the room, as for an address.
        n::SO_PEERNAME => {
            let address = unix::peer_address(cx.k, id)?;
            if address.len() < room {
                return Err(Errno::EINVAL.into());
            }
            cx.write_user(optval.0, &address[..room])?;
            room
        }
        name => {
            let value = value(cx, id, name)?;
            let len = value.len().min(room);
            cx.write_user(optval.0, &value[..len])?;
            len
        }
    };
    cx.write_obj(optlen.0, &(value as u32))?;
    Ok(0)
}

/// `SO_PEERGROUPS`: supplementary groups are not kept with connections, so that there are none to tell.
fn peer_groups(
    cx: &mut Cx<'_, '_>,
    id: SocketId,
    _optval: Addr,
    optlen: Addr,
    _room: usize,
) -> SysResult {
    if socket::at(cx.k, id).unix().peer_cred().is_none() {
        return Err(Errno::ENODATA.into());
    }
    cx.write_obj(optlen.0, &0u32)?;
    Ok(0)
}

fn value(cx: &mut Cx<'_, '_>, id: SocketId, name: u32) -> Result<Vec<u8>, Errno> {
    let socket = socket::at_mut(cx.k, id);
    let options = &socket.options;
    let word = match name {
        n::SO_SNDBUF => options.send_buffer,
        n::SO_RCVBUF => options.receive_buffer,
        n::SO_TYPE => socket.kind.number(),
        n::SO_DOMAIN => n::AF_UNIX,
        n::SO_PROTOCOL => 0,
        n::SO_ERROR => {
            let error = socket.error.take();
            error.map_or(0, |errno| u32::from(errno.number()))
        }
        n::SO_ACCEPTCONN => u32::from(socket.unix().state == unix::State::Listening),
        n::SO_PRIORITY => options.priority,
        n::SO_RCVLOWAT => options.low_water as u32,
        n::SO_SNDLOWAT => 1,
        n::SO_REUSEPORT
        | n::SO_MARK
        | n::SO_TIMESTAMP_OLD
        | n::SO_TIMESTAMPNS_OLD
        | n::SO_BSDCOMPAT => 0,
        n::SO_LINGER => {
            let on = options.switches.contains(Switches::LINGER);
            let words = [u32::from(on), options.linger].map(u32::to_le_bytes);
            return Ok(words.as_flattened().to_vec());
        }
        n::SO_RCVTIMEO_OLD | n::SO_RCVTIMEO_NEW => return Ok(timeval(options.receive_timeout)),
        n::SO_SNDTIMEO_OLD | n::SO_SNDTIMEO_NEW => return Ok(timeval(options.send_timeout)),
        n::SO_PEERCRED => {
            let words = match socket.unix().peer_cred().map(|cred| cred.shown(cx)) {
                Some(cred) => [cred.pid, cred.uid, cred.gid],
                None => [0, u32::MAX, u32::MAX],
            };
            return Ok(words.map(u32::to_le_bytes).as_flattened().to_vec());
        }
        n::SO_COOKIE => return Ok((id.0 + 1).to_le_bytes().to_vec()),
        name => {
            let switch = switch(name).ok_or(Errno::ENOPROTOOPT)?;
            u32::from(options.switches.contains(switch))
        }
    };
    Ok(word.to_le_bytes().to_vec())
}

fn timeval(timeout: Option<u64>) -> Vec<u8> {
    let time = Timeval::from_nanos(timeout.unwrap_or(0));
    [time.sec, time.usec]
        .map(i64::to_le_bytes)
        .as_flattened()
        .to_vec()
}
