//! landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2).

use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::cred::landlock::{FsAccess, Handled, NetAccess, RulesetId, Scopes};
use crate::env::wait::SysResult;
use crate::file;
use crate::file::{FileKind, fdtable, ready};
use crate::fs::anon::Anon;
use crate::kernel::Cx;
use crate::vfs::landlock;

/// The version of the interface: what Linux 6.15 to 6.19 have.
const ABI: u64 = 7;
/// The mended faults, one bit each (`security/landlock/errata/`): TCP alone is meant by rules about ports,
/// and threads of a process may signal each other.
const ERRATA: u64 = 0b11;

/// `struct landlock_ruleset_attr`, and how much of it every version has.
const ATTR_SIZE: usize = 24;
const ATTR_SIZE_MIN: u64 = 8;

/// The parts of a value that are known. `EINVAL` if there are others.
fn known<F: bitflags::Flags>(value: u64, bits: impl Fn(u64) -> Option<F>) -> Result<F, Errno> {
    bits(value).ok_or(Errno::EINVAL)
}

fn fs_access(value: u64) -> Result<FsAccess, Errno> {
    known(value, |bits| FsAccess::from_bits(bits.try_into().ok()?))
}

fn net_access(value: u64) -> Result<NetAccess, Errno> {
    known(value, |bits| NetAccess::from_bits(bits.try_into().ok()?))
}

pub(super) fn landlock_create_ruleset(
    cx: &mut Cx<'_, '_>,
    attr: Addr,
    size: Size,
    flags: RulesetFlags,
) -> SysResult {
    if !flags.is_empty() {
        return match flags {
            _ if attr.0 != 0 || size.0 != 0 => Err(Errno::EINVAL.into()),
            RulesetFlags::VERSION => Ok(ABI),
            RulesetFlags::ERRATA => Ok(ERRATA),
            _ => Err(Errno::EINVAL.into()),
        };
    }
    let [fs, net, scoped] = read_attr(cx, attr.0, size.0)?;
    let handled = Handled {
        fs: fs_access(fs)?,
        net: net_access(net)?,
        scopes: known(scoped, |bits| Scopes::from_bits(bits.try_into().ok()?))?,
    };
    if handled == Handled::default() {
        return Err(Errno::ENOMSG.into());
    }
    let id = cx.k.landlock.add_ruleset(handled);
    let opened = ready::open(cx, FileKind::Landlock(id), Anon::Landlock, OpenFlags::RDWR);
    let file = opened.inspect_err(|_| cx.k.landlock.release(id))?;
    Ok(fdtable::install(cx, file, OnExec::Close)? as u64)
}

/// Reads a `struct landlock_ruleset_attr` in the size that the program has it
/// (`copy_min_struct_from_user()`).
fn read_attr(cx: &mut Cx<'_, '_>, at: u64, size: u64) -> Result<[u64; 3], Errno> {
    if at == 0 {
        return Err(Errno::EFAULT);
    }
    if size < ATTR_SIZE_MIN {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = [0; PAGE_SIZE as usize];
    let bytes = &mut bytes[..size as usize];
    let (own, newer) = bytes.split_at_mut(ATTR_SIZE.min(size as usize));
    // Fields of a newer structure must be zero, and are looked at first.
    cx.read_user(at.wrapping_add(ATTR_SIZE as u64), newer)?;
    if newer.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    cx.read_user(at, own)?;
    let word = |index: usize| {
        let mut word = [0; 8];
        let rest = own.get(index * 8..).unwrap_or_default();
        let len = rest.len().min(8);
        word[..len].copy_from_slice(&rest[..len]);
        u64::from_le_bytes(word)
    };
    Ok([word(0), word(1), word(2)])
}

/// The ruleset behind a descriptor. `EBADFD` if it is another file.
fn ruleset(cx: &mut Cx<'_, '_>, fd: i32) -> Result<RulesetId, Errno> {
    let id = fdtable::get(cx, fd)?;
    match file::at(cx.k, id).kind {
        FileKind::Landlock(ruleset) => Ok(ruleset),
        _ => Err(Errno::EBADFD),
    }
}

pub(super) fn landlock_add_rule(
    cx: &mut Cx<'_, '_>,
    ruleset_fd: Fd,
    rule_type: RuleType,
    rule_attr: Addr,
    flags: NoFlags,
) -> SysResult {
    super::missing::known(cx, flags)?;
    let id = ruleset(cx, ruleset_fd.0)?;
    let handled = cx.k.landlock.handled(id);
    match rule_type {
        RuleType::PathBeneath => {
            let allowed: u64 = cx.read_obj(rule_attr.0)?;
            let parent: i32 = cx.read_obj(rule_attr.0.wrapping_add(8))?;
            add_path(cx, (id, handled.fs), allowed, parent)?;
        }
        RuleType::NetPort => {
            let [allowed, port]: [u64; 2] = cx.read_obj(rule_attr.0)?;
            if allowed == 0 {
                return Err(Errno::ENOMSG.into());
            }
            let access = net_access(allowed)?;
            if !handled.net.contains(access) {
                return Err(Errno::EINVAL.into());
            }
            let port = u16::try_from(port).map_err(|_| Errno::EINVAL)?;
            cx.k.landlock.allow_port(id, port, access)?;
        }
        RuleType::Other(_) => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// Allows something below a directory, or for a file (`add_rule_path_beneath()`).
fn add_path(
    cx: &mut Cx<'_, '_>,
    (id, handled): (RulesetId, FsAccess),
    allowed: u64,
    parent: i32,
) -> Result<(), Errno> {
    if allowed == 0 {
        return Err(Errno::ENOMSG);
    }
    let access = fs_access(allowed)?;
    if !handled.contains(access) {
        return Err(Errno::EINVAL);
    }
    let file = fdtable::get_any(cx, parent)?;
    let path = *file::at(cx.k, file).path;
    if landlock::is_internal(cx.k, path) {
        return Err(Errno::EBADFD);
    }
    let is_dir = cx.k.vfs.dentries.at(path.dentry).kind() == g::S_IFDIR;
    if !is_dir && !FsAccess::OF_FILES.contains(access) {
        return Err(Errno::EINVAL);
    }
    let key = landlock::key(cx.k, path.dentry).ok_or(Errno::EBADFD)?;
    cx.k.landlock.allow_file(id, key, access)
}

pub(super) fn landlock_restrict_self(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    flags: RestrictFlags,
) -> SysResult {
    if !cx.creds().no_new_privs && !cx.creds().has(g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    // They say what is written to the audit log, which no program in a sandbox can read.
    let flags = super::missing::known(cx, flags)?;
    if fd.0 == -1 && flags == RestrictFlags::LOG_SUBDOMAINS_OFF {
        return Ok(0);
    }
    let id = ruleset(cx, fd.0)?;
    let mut creds = cx.creds().clone();
    let domain = cx.k.landlock.stack(creds.landlock.as_deref(), id)?;
    creds.landlock = Some(domain);
    let thread = cx.thread;
    cx.k.set_creds(thread, creds);
    Ok(0)
}
