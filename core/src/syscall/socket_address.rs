//! Addresses, message headers and control messages in user memory, whatever the address family (recvmsg(2),
//! cmsg(3)).

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Errno;
use crate::file::rw::Iov;
use crate::kernel::Cx;
use crate::net::socket::option::CONTROL_MAX;
use crate::net::socket::{ADDRESS_MAX, Address};

/// Most parts of a message's data (`UIO_MAXIOV`).
const IOV_MAX: u64 = 1024;
/// Bytes of `struct cmsghdr`.
pub(super) const CONTROL_HEADER: usize = 16;

/// Copies an address from the program (`move_addr_to_kernel`).
pub(super) fn read_address(cx: &mut Cx<'_, '_>, addr: u64, len: i32) -> Result<Address, Errno> {
    let len = usize::try_from(len)
        .ok()
        .filter(|&len| len <= ADDRESS_MAX)
        .ok_or(Errno::EINVAL)?;
    let mut address = Address::from_elem(0, len);
    cx.read_user(addr, &mut address)?;
    Ok(address)
}

/// Copies an address to the program, as much of it as it has room for; its whole length goes where that was
/// (`move_addr_to_user`).
pub(super) fn write_address(
    cx: &mut Cx<'_, '_>,
    address: &[u8],
    addr: u64,
    len_at: u64,
) -> Result<(), Errno> {
    let room: i32 = cx.read_obj(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    cx.write_user(addr, &address[..address.len().min(room)])?;
    cx.write_obj(len_at, &(address.len() as u32))
}

/// `struct msghdr` of x86-64.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub name: u64,
    pub name_len: i32,
    pad: u32,
    pub iov: u64,
    pub iov_len: u64,
    pub control: u64,
    pub control_len: u64,
    pub flags: u32,
    end_pad: u32,
}

/// Where the fields are that a call changes.
pub(super) const NAME_LEN_AT: u64 = 8;
pub(super) const CONTROL_LEN_AT: u64 = 40;
pub(super) const FLAGS_AT: u64 = 48;

impl Header {
    /// Reads a header and checks it as `copy_msghdr_from_user()` of Linux: also the parts of its data.
    pub(super) fn read(cx: &mut Cx<'_, '_>, at: u64) -> Result<(Header, Iov), Errno> {
        let mut header: Header = cx.read_obj(at)?;
        if header.name == 0 {
            header.name_len = 0;
        }
        if header.name_len < 0 {
            return Err(Errno::EINVAL);
        }
        header.name_len = header.name_len.min(ADDRESS_MAX as i32);
        if header.iov_len > IOV_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let iov = Iov::vector(cx, header.iov, header.iov_len)?;
        Ok((header, iov))
    }

    /// The control messages that a program sends. `ENOBUFS` if they are too long.
    pub(super) fn read_control(&self, cx: &mut Cx<'_, '_>) -> Result<Vec<u8>, Errno> {
        if self.control_len > CONTROL_MAX {
            return Err(Errno::ENOBUFS);
        }
        let mut control = vec![0; self.control_len as usize];
        cx.read_user(self.control, &mut control)?;
        Ok(control)
    }
}

/// A control message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control<'a> {
    pub level: u32,
    pub kind: u32,
    pub data: &'a [u8],
}

/// The control messages in these bytes; `EINVAL` for one that does not fit.
pub(super) struct Controls<'a> {
    rest: &'a [u8],
}

impl<'a> Controls<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Controls<'a> {
        Controls { rest: bytes }
    }
}

impl<'a> Iterator for Controls<'a> {
    type Item = Result<Control<'a>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.rest.split_first_chunk::<CONTROL_HEADER>()?;
        let [a, b, c, d, e, f, g, h, level @ .., _, _, _, _] = *header;
        let len = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let kind = [header[12], header[13], header[14], header[15]];
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(data) = self.rest.get(CONTROL_HEADER..len) else {
            self.rest = &[];
            return Some(Err(Errno::EINVAL));
        };
        self.rest = self.rest.get(len.next_multiple_of(8)..).unwrap_or_default();
        Some(Ok(Control {
            level: u32::from_le_bytes(level),
            kind: u32::from_le_bytes(kind),
            data,
        }))
    }
}

/// Room for the control messages that a program receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlRoom {
    pub at: u64,
    pub left: u64,
    /// Something did not fit (`MSG_CTRUNC`).
    pub truncated: bool,
}

impl ControlRoom {
    /// Adds one message, cut off where there is no more room (`put_cmsg`).
    pub(super) fn put(
        &mut self,
        cx: &mut Cx<'_, '_>,
        (level, kind): (u32, u32),
        data: &[u8],
    ) -> Result<(), Errno> {
        if self.at == 0 || self.left < CONTROL_HEADER as u64 {
            self.truncated = true;
            return Ok(());
        }
        let whole = CONTROL_HEADER + data.len();
        let len = whole.min(self.left as usize);
        self.truncated |= len < whole;
        let mut bytes = Vec::with_capacity(whole);
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(level.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(data);
        bytes.truncate(len);
        cx.write_user(self.at, &bytes)?;
        let step = (whole.next_multiple_of(8) as u64).min(self.left);
        self.at = self.at.wrapping_add(step);
        self.left -= step;
        Ok(())
    }
}
