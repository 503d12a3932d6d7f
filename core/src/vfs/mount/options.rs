//! What programs ask for when they mount: flags of mount(2), options of file systems.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::MountFlags;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::MsFlags;
use crate::cred::ns::{NsId, user};
use crate::fs::FileSystems;
pub(crate) use crate::fs::union::options::{Limit, Tmpfs};

/// Flags of one mount among those of mount(2).
pub(crate) fn flags(flags: MsFlags) -> MountFlags {
    let mut mount = MountFlags::from_bits_truncate((flags - MsFlags::STRICTATIME).bits());
    mount.set(
        MountFlags::STRICTATIME,
        flags.contains(MsFlags::STRICTATIME),
    );
    if mount.contains(MountFlags::STRICTATIME) {
        mount.remove(MountFlags::NOATIME);
    }
    mount
}

/// One of the options that mount(2) is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parameter<'a> {
    /// One that every file system has (`ro`, `sync`); what may stand behind it does not count.
    Flag(&'a [u8]),
    /// One of the file system's own, and what stands behind `=`.
    Other(&'a [u8], Option<&'a [u8]>),
}

/// Parameters that every file system has: they set or clear flags of it.
const FLAGS: [&[u8]; 9] = [
    b"async",
    b"dirsync",
    b"lazytime",
    b"mand",
    b"nolazytime",
    b"nomand",
    b"ro",
    b"rw",
    b"sync",
];

/// Whether every file system has a parameter (`vfs_parse_sb_flag()`).
pub(crate) fn is_flag(key: &[u8]) -> bool {
    FLAGS.contains(&key)
}

/// The options of a file system, as the kernel cuts them (`vfs_parse_monolithic_sep()`).
pub(crate) fn parameters(data: &[u8]) -> impl Iterator<Item = Parameter<'_>> {
    let all = data.split(|&byte| byte == b',');
    all.filter_map(|option| {
        let (key, value) = match option.iter().position(|&byte| byte == b'=') {
            Some(at) => (&option[..at], Some(&option[at + 1..])),
            None => (option, None),
        };
        match key {
            b"" => None,
            key if is_flag(key) => Some(Parameter::Flag(key)),
            key => Some(Parameter::Other(key, value)),
        }
    })
}

/// What stands with a parameter (`enum fs_value_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    Flag,
    Text(&'a [u8]),
    /// Bytes, a path or a file.
    Other,
}

impl<'a> Value<'a> {
    /// As mount(2) gives it.
    pub(crate) fn of(value: Option<&'a [u8]>) -> Value<'a> {
        value.map_or(Value::Flag, Value::Text)
    }

    /// A text that is not empty.
    pub(crate) fn given(self) -> Result<&'a str, Refused> {
        match self {
            Value::Text(text) if !text.is_empty() => {
                core::str::from_utf8(text).map_err(|_| Refused::Bad)
            }
            _ => Err(Refused::Bad),
        }
    }

    /// Nothing at all.
    pub(crate) fn flag(self) -> Result<(), Refused> {
        match self {
            Value::Flag => Ok(()),
            _ => Err(Refused::Unexpected),
        }
    }
}

/// Why a parameter is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    Unknown,
    Bad,
    Unexpected,
    /// For a reason of the file system's own, which it tells.
    Told(Errno, String),
}

impl Refused {
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Refused::Told(errno, _) => *errno,
            _ => Errno::EINVAL,
        }
    }

    /// What a configuration tells of it.
    pub(crate) fn text(&self, fs_type: &str, key: &[u8]) -> Vec<u8> {
        let what = match self {
            Refused::Unknown => "Unknown parameter",
            Refused::Bad => "Bad value for",
            Refused::Unexpected => "Unexpected value for",
            Refused::Told(_, text) => return format!("{fs_type}: {text}").into_bytes(),
        };
        [format!("{fs_type}: {what} '").as_bytes(), key, b"'"].concat()
    }
}

bitflags::bitflags! {
    /// Which options of a file system were given: the others stay when it is changed.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct Given: u16 {
        const SIZE = 1;
        const INODES = 2;
        const WIDE_INODES = 4;
        const HUGE = 8;
        const POLICY = 16;
        const NO_SWAP = 32;
        const HIDE = 64;
        const GROUP = 128;
        const SUBSET = 256;
    }
}

impl Given {
    /// What a parameter gives.
    pub(crate) fn of(key: &[u8]) -> Given {
        match key {
            b"size" | b"nr_blocks" => Given::SIZE,
            b"nr_inodes" => Given::INODES,
            b"inode32" | b"inode64" => Given::WIDE_INODES,
            b"huge" => Given::HUGE,
            b"mpol" => Given::POLICY,
            b"noswap" => Given::NO_SWAP,
            b"hidepid" => Given::HIDE,
            b"gid" => Given::GROUP,
            b"subset" => Given::SUBSET,
            _ => Given::empty(),
        }
    }
}

/// A number as file systems read it: decimal, octal behind 0, hexadecimal behind 0x (`kstrtouint()`).
/// `EINVAL`.
pub(crate) fn number(text: &[u8]) -> Result<u32, Errno> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', hex @ ..] => (hex, 16),
        [b'0', octal @ ..] if !octal.is_empty() => (octal, 8),
        text => (text, 10),
    };
    let digits = core::str::from_utf8(digits).map_err(|_| Errno::EINVAL)?;
    match digits.starts_with(['+', '-']) {
        true => Err(Errno::EINVAL),
        false => u32::from_str_radix(digits, radix).map_err(|_| Errno::EINVAL),
    }
}

/// Switches of cgroup2, in the order in which mount tables show them.
const CGROUP2: [&str; 6] = [
    "nsdelegate",
    "favordynmods",
    "memory_localevents",
    "memory_recursiveprot",
    "memory_hugetlb_accounting",
    "pids_localevents",
];

/// The options of cgroup2: there is nothing yet that they switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Cgroup2([bool; CGROUP2.len()]);

impl Cgroup2 {
    pub(crate) fn set(&mut self, key: &[u8], value: Value<'_>) -> Result<(), Refused> {
        let known = CGROUP2.iter().position(|name| name.as_bytes() == key);
        let index = known.ok_or(Refused::Unknown)?;
        value.flag()?;
        self.0[index] = true;
        Ok(())
    }

    /// As mount tables show them.
    pub(crate) fn show(&self) -> Vec<u8> {
        let shown = CGROUP2.iter().zip(self.0).filter(|(_, given)| *given);
        shown
            .flat_map(|(name, _)| [b",", name.as_bytes()].concat())
            .collect()
    }
}

/// The same out of what mount(2) is given. `EINVAL`.
pub(crate) fn cgroup2(data: &[u8]) -> Result<Cgroup2, Errno> {
    let mut options = Cgroup2::default();
    for parameter in parameters(data) {
        if let Parameter::Other(key, value) = parameter {
            let set = options.set(key, Value::of(value));
            set.map_err(|refused| refused.errno())?;
        }
    }
    Ok(options)
}

/// Whether a file system is to be mounted read-only, if its options say so: the last of `ro` and `rw` counts.
pub(crate) fn read_only(data: &[u8]) -> Option<bool> {
    let said = parameters(data).filter_map(|parameter| match parameter {
        Parameter::Flag(b"ro") => Some(true),
        Parameter::Flag(b"rw") => Some(false),
        _ => None,
    });
    said.last()
}

/// `EINVAL` if there are options for a file system that has none of its own.
pub(crate) fn none(data: &[u8]) -> Result<(), Errno> {
    match parameters(data).all(|parameter| matches!(parameter, Parameter::Flag(_))) {
        true => Ok(()),
        false => Err(Errno::EINVAL),
    }
}

impl Tmpfs {
    /// Reads options as mount(2) gets them for what is mounted: changes to these. Mode and owner, which do
    /// not change, are passed over. `EINVAL`.
    pub(crate) fn remount(
        mut self,
        k: &FileSystems,
        ns: NsId,
        text: &[u8],
    ) -> Result<Tmpfs, Errno> {
        let old = (self.mode, self.uid, self.gid);
        for parameter in parameters(text) {
            if let Parameter::Other(key, value) = parameter {
                let set = self.set(k, ns, key, Value::of(value));
                set.map_err(|refused| refused.errno())?;
            }
        }
        (self.mode, self.uid, self.gid) = old;
        Ok(self)
    }

    /// Takes one option, with users and groups of a user namespace.
    pub(crate) fn set(
        &mut self,
        k: &FileSystems,
        ns: NsId,
        key: &[u8],
        value: Value<'_>,
    ) -> Result<(), Refused> {
        let (_, total) = k.frames.usage();
        let memory = u64::from(total) * PAGE_SIZE;
        let bad = |_| Refused::Bad;
        match key {
            b"size" => {
                let bytes = size(value.given()?, memory).map_err(bad)?;
                // Half of the memory is what there is without a word.
                self.size = match bytes {
                    bytes if bytes == memory / 2 => Limit::Default,
                    bytes => Limit::from_number(bytes.div_ceil(PAGE_SIZE) * PAGE_SIZE),
                };
            }
            b"nr_blocks" => {
                let blocks = size(value.given()?, 0).map_err(bad)?;
                let bytes = blocks.checked_mul(PAGE_SIZE).ok_or(Refused::Bad)?;
                self.size = Limit::from_number(bytes);
            }
            b"nr_inodes" => {
                let inodes = size(value.given()?, 0).map_err(bad)?;
                self.inodes = Limit::from_number(inodes);
            }
            b"mode" => {
                let mode = u32::from_str_radix(value.given()?, 8);
                self.mode = mode.map_err(|_| Refused::Bad)? & 0o7777;
            }
            b"uid" => {
                let text = value.given()?;
                let uid = user::take_uid(k, ns, number(text.as_bytes()).map_err(bad)?);
                self.uid = mapped(uid, "uid", text)?;
            }
            b"gid" => {
                let text = value.given()?;
                let gid = user::take_gid(k, ns, number(text.as_bytes()).map_err(bad)?);
                self.gid = mapped(gid, "gid", text)?;
            }
            b"huge" => {
                self.huge = match value.given()? {
                    "never" => "",
                    "always" => "always",
                    "within_size" => "within_size",
                    "advise" => "advise",
                    _ => return Err(Refused::Bad),
                };
            }
            b"mpol" => self.policy = policy(value.given()?).map_err(bad)?,
            b"inode32" | b"inode64" => {
                value.flag()?;
                self.wide_inodes = key == b"inode64";
            }
            b"noswap" => {
                value.flag()?;
                self.no_swap = true;
            }
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }

    /// Those of a file system that get what was given of these. Mode and owner stay.
    pub(crate) fn changed(&self, old: Tmpfs, given: Given) -> Tmpfs {
        let mut new = old;
        if given.contains(Given::SIZE) {
            new.size = self.size;
        }
        if given.contains(Given::INODES) {
            new.inodes = self.inodes;
        }
        if given.contains(Given::WIDE_INODES) {
            new.wide_inodes = self.wide_inodes;
        }
        if given.contains(Given::HUGE) {
            new.huge = self.huge;
        }
        if given.contains(Given::POLICY) {
            new.policy.clone_from(&self.policy);
        }
        new.no_swap |= given.contains(Given::NO_SWAP);
        new
    }
}

/// A memory policy (`mpol_parse_str()`), as it is shown: there is one node. `EINVAL`.
fn policy(text: &str) -> Result<String, Errno> {
    let (how, nodes) = match text.split_once(':') {
        Some((how, nodes)) => (how, Some(nodes)),
        None => (text, None),
    };
    let (mode, flag) = match how.split_once('=') {
        Some((mode, flag)) => (mode, Some(flag)),
        None => (how, None),
    };
    let first = |nodes: &str| {
        let mut ends = nodes.split('-');
        ends.all(|end| !end.is_empty() && end.bytes().all(|byte| byte == b'0'))
    };
    if nodes.is_some_and(|nodes| !nodes.split(',').all(first))
        || flag.is_some_and(|flag| !matches!(flag, "static" | "relative"))
    {
        return Err(Errno::EINVAL);
    }
    let shown = |mode: &str| {
        let flag = flag.map_or(String::new(), |flag| format!("={flag}"));
        format!("{mode}{flag}:0")
    };
    match (mode, nodes) {
        ("default", None) => Ok(String::new()),
        ("local" | "prefer", None) => Ok("local".into()),
        ("prefer" | "prefer (many)" | "bind", Some(_)) => Ok(shown(mode)),
        ("interleave" | "weighted interleave", _) => Ok(shown(mode)),
        _ => Err(Errno::EINVAL),
    }
}

/// A number that has a user or group behind it.
fn mapped(id: Result<u32, Errno>, what: &str, text: &str) -> Result<u32, Refused> {
    match id {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Refused::Told(
            Errno::EINVAL,
            format!("Invalid {what} '{text}'"),
        )),
    }
}

/// A number with `k`, `m`, `g` and so on, or with `%` a part of `all`; octal and hexadecimal as C writes
/// them. `EINVAL`.
fn size(text: &str, all: u64) -> Result<u64, Errno> {
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let (text, radix) = match hex {
        Some(rest) => (rest, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let is_digit = |letter: char| letter.is_digit(radix);
    let end = text.find(|letter| !is_digit(letter)).unwrap_or(text.len());
    let number = u64::from_str_radix(&text[..end], radix).map_err(|_| Errno::EINVAL)?;
    let shift = match &text[end..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        "e" | "E" => 60,
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
        assert_eq!(size("0x1000", 0), Ok(4096));
        assert_eq!(size("010k", 0), Ok(8192));
        assert_eq!(size("1t", 0), Ok(1 << 40));
        for text in ["", "k", "1x", "-1", "50%", "99999999999g"] {
            assert_eq!(size(text, 0), Err(Errno::EINVAL), "{text}");
        }
    }

    #[test]
    fn options_are_cut_as_linux_cuts_them() {
        let all = |text: &'static [u8]| parameters(text).collect::<Vec<_>>();
        assert_eq!(
            all(b",,=x,ro=1,sync"),
            [Parameter::Flag(b"ro"), Parameter::Flag(b"sync"),]
        );
        assert_eq!(
            all(b"a,b=,c=d=e"),
            [
                Parameter::Other(b"a", None),
                Parameter::Other(b"b", Some(b"")),
                Parameter::Other(b"c", Some(b"d=e")),
            ]
        );
        assert_eq!(none(b"ro,,=x"), Ok(()));
        assert_eq!(none(b"nosuid"), Err(Errno::EINVAL));
        let shown = cgroup2(b"memory_recursiveprot,rw,nsdelegate");
        let shown = shown.map(|options| options.show());
        assert_eq!(shown, Ok(b",nsdelegate,memory_recursiveprot".to_vec()));
        assert_eq!(cgroup2(b"nsdelegate=1"), Err(Errno::EINVAL));
        assert_eq!(cgroup2(b"memory"), Err(Errno::EINVAL));
    }

    #[test]
    fn numbers_are_read_as_linux_reads_them() {
        for (text, value) in [
            ("5", 5),
            ("+5", 5),
            ("0", 0),
            ("010", 8),
            ("0x10", 16),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(number(text.as_bytes()), Ok(value), "{text}");
        }
        for text in [
            "",
            "-1",
            "x",
            "08",
            "0x",
            " 1",
            "1 ",
            "4294967296",
            "++1",
            "0x+1",
        ] {
            assert_eq!(number(text.as_bytes()), Err(Errno::EINVAL), "{text}");
        }
    }

    #[test]
    fn policies_are_shown_as_linux_shows_them() {
        for (given, shown) in [
            ("default", ""),
            ("local", "local"),
            ("prefer", "local"),
            ("prefer:0", "prefer:0"),
            ("interleave", "interleave:0"),
            ("interleave:0-0", "interleave:0"),
            ("bind=static:0", "bind=static:0"),
            ("weighted interleave:0", "weighted interleave:0"),
        ] {
            assert_eq!(policy(given), Ok(shown.into()), "{given}");
        }
        for given in [
            "bind",
            "local:0",
            "prefer:1",
            "prefer:9999",
            "bind=x:0",
            "weird",
            ":0",
        ] {
            assert_eq!(policy(given), Err(Errno::EINVAL), "{given}");
        }
    }

    #[test]
    fn the_later_kind_of_access_time_wins() {
        let all = flags(MsFlags::RDONLY | MsFlags::NOATIME | MsFlags::STRICTATIME | MsFlags::BIND);
        assert_eq!(all, MountFlags::READ_ONLY | MountFlags::STRICTATIME);
    }
}
