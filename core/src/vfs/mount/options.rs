//! What programs ask for when they mount: flags of mount(2), options of file systems.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::MountFlags;
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::ns::{NsId, user};

/// Flags of one mount among those of mount(2).
pub(crate) fn flags(flags: u32) -> MountFlags {
    let mut mount = MountFlags::from_bits_truncate(flags & !g::MS_STRICTATIME);
    mount.set(MountFlags::STRICTATIME, flags & g::MS_STRICTATIME != 0);
    if mount.contains(MountFlags::STRICTATIME) {
        mount.remove(MountFlags::NOATIME);
    }
    mount
}

/// Options of a tmpfs (tmpfs(5)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tmpfs {
    /// Bytes of file data.
    pub size: Option<u64>,
    pub inodes: Option<u64>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Tmpfs {
    /// Reads options as mount(2) gets them. `EINVAL`.
    pub(crate) fn parse(
        k: &Kernel,
        ns: NsId,
        creds: (u32, u32),
        text: &[u8],
    ) -> Result<Tmpfs, Errno> {
        let (_, total) = k.mm.frames.usage();
        let memory = u64::from(total) * PAGE_SIZE;
        let mut options = Tmpfs {
            // By default half of the memory.
            size: Some(memory / 2),
            inodes: None,
            mode: 0o1777,
            uid: creds.0,
            gid: creds.1,
        };
        for option in text
            .split(|&byte| byte == b',')
            .filter(|option| !option.is_empty())
        {
            let mut parts = option.splitn(2, |&byte| byte == b'=');
            let key = parts.next().unwrap_or_default();
            let value = parts
                .next()
                .and_then(|value| core::str::from_utf8(value).ok());
            let value = |known: bool| value.filter(|_| known).ok_or(Errno::EINVAL);
            match key {
                b"size" => options.size = limit(size(value(true)?, memory)?),
                b"nr_blocks" => {
                    let blocks = size(value(true)?, 0)?;
                    options.size = limit(blocks.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?);
                }
                b"nr_inodes" => options.inodes = limit(size(value(true)?, 0)?),
                b"mode" => {
                    let mode = u32::from_str_radix(value(true)?, 8).map_err(|_| Errno::EINVAL)?;
                    options.mode = mode & 0o7777;
                }
                b"uid" => options.uid = mapped(user::take_uid(k, ns, id(value(true)?)?)?)?,
                b"gid" => options.gid = mapped(user::take_gid(k, ns, id(value(true)?)?)?)?,
                b"huge" if value(true)? == "never" => {}
                b"inode32" | b"inode64" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }

    /// As `/proc/mounts` shows them.
    pub(crate) fn show(&self) -> Vec<u8> {
        let mut text = String::new();
        if let Some(size) = self.size {
            text += &format!(",size={}k", size / 1024);
        }
        if let Some(inodes) = self.inodes {
            text += &format!(",nr_inodes={inodes}");
        }
        if self.mode != 0o1777 {
            text += &format!(",mode={:03o}", self.mode);
        }
        if self.uid != 0 {
            text += &format!(",uid={}", self.uid);
        }
        if self.gid != 0 {
            text += &format!(",gid={}", self.gid);
        }
        text.into_bytes()
    }
}

/// 0 stands for no limit.
fn limit(value: u64) -> Option<u64> {
    (value != 0).then_some(value)
}

fn id(text: &str) -> Result<u32, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

fn mapped(id: u32) -> Result<u32, Errno> {
    match id {
        u32::MAX => Err(Errno::EINVAL),
        id => Ok(id),
    }
}

/// A number with `k`, `m`, `g`, or with `%` a part of `all`. `EINVAL`.
fn size(text: &str, all: u64) -> Result<u64, Errno> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "%" if all > 0 => return Ok((u128::from(all) * u128::from(number) / 100) as u64),
        _ => return Err(Errno::EINVAL),
    };
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("12", 0), Ok(12));
        assert_eq!(size("2k", 0), Ok(2048));
        assert_eq!(size("1G", 0), Ok(1 << 30));
        assert_eq!(size("50%", 4096), Ok(2048));
        for text in ["", "k", "1x", "-1", "50%", "99999999999g"] {
            assert_eq!(size(text, 0), Err(Errno::EINVAL), "{text}");
        }
    }

    #[test]
    fn the_later_kind_of_access_time_wins() {
        let all = flags(g::MS_RDONLY | g::MS_NOATIME | g::MS_STRICTATIME | g::MS_BIND);
        assert_eq!(all, MountFlags::READ_ONLY | MountFlags::STRICTATIME);
    }
}
