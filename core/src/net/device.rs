//! Questions about network devices that can be asked of any socket (netdevice(7), `dev_ioctl` of Linux).
//! There is one device, the loopback; nothing of it can be changed.

use crate::abi::Errno;
use crate::abi::raw::ioctl as i;
use crate::env::cx::Cx;
use crate::env::wait::SysResult;
use crate::file::caller::FileCallers;

/// Bytes of `struct ifreq`, and of the name at its start.
const SIZE: usize = 40;
const NAME_SIZE: usize = 16;
/// The loopback device.
const NAME: &[u8] = b"lo";
const INDEX: i32 = 1;
const MTU: i32 = 65536;
const QUEUE_LEN: i32 = 1000;
/// `IFF_UP | IFF_LOOPBACK | IFF_RUNNING`.
const FLAGS: i32 = 0x49;
const ARPHRD_LOOPBACK: i32 = 772;

/// Answers a question; `None` for requests that are none. `EFAULT`, `ENODEV`.
pub(super) fn ioctl<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    request: u32,
    arg: u64,
) -> Option<SysResult> {
    match request {
        i::SIOCGIFCONF => Some(list(cx, arg)),
        i::SIOCGIFNAME => Some(name(cx, arg)),
        i::SIOCGIFINDEX => Some(number(cx, arg, INDEX)),
        i::SIOCGIFFLAGS => Some(number(cx, arg, FLAGS)),
        i::SIOCGIFMTU => Some(number(cx, arg, MTU)),
        i::SIOCGIFTXQLEN => Some(number(cx, arg, QUEUE_LEN)),
        i::SIOCGIFMETRIC => Some(number(cx, arg, 0)),
        i::SIOCGIFHWADDR => Some(number(cx, arg, ARPHRD_LOOPBACK)),
        i::SIOCGIFSLAVE => Some(Err(Errno::EINVAL.into())),
        _ => None,
    }
}

/// Devices with addresses: there are none. The length of the room becomes that of the list.
fn list<K: FileCallers>(cx: &mut Cx<'_, '_, K>, arg: u64) -> SysResult {
    let [_, _]: [u64; 2] = cx.read_obj(arg)?;
    cx.write_obj(arg, &0i32)?;
    Ok(0)
}

/// The name of a device, by its index.
fn name<K: FileCallers>(cx: &mut Cx<'_, '_, K>, arg: u64) -> SysResult {
    let mut record: [u8; SIZE] = cx.read_obj(arg)?;
    let index = i32::from_le_bytes([record[16], record[17], record[18], record[19]]);
    if index != INDEX {
        return Err(Errno::ENODEV.into());
    }
    record[..NAME_SIZE].fill(0);
    record[..NAME.len()].copy_from_slice(NAME);
    cx.write_obj(arg, &record)?;
    Ok(0)
}

/// A number of the device whose name is given; names of addresses (`lo:1`) are those of their device.
fn number<K: FileCallers>(cx: &mut Cx<'_, '_, K>, arg: u64, value: i32) -> SysResult {
    let mut record: [u8; SIZE] = cx.read_obj(arg)?;
    let given = &record[..NAME_SIZE - 1];
    let len = given.iter().position(|byte| matches!(byte, 0 | b':'));
    if &given[..len.unwrap_or(given.len())] != NAME {
        return Err(Errno::ENODEV.into());
    }
    record[NAME_SIZE..].fill(0);
    record[NAME_SIZE..NAME_SIZE + 4].copy_from_slice(&value.to_le_bytes());
    cx.write_obj(arg, &record)?;
    Ok(0)
}
