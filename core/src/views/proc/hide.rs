//! Options of an instance of `proc`: from whom it hides processes, and whether it shows only these (proc(5),
//! "Mount options").

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::process::View;
use super::{Node, settings};
use crate::Kernel;
use crate::abi::Errno;
use crate::fs::filesystem::InodeRef;
use crate::ns::{NsId, user};
use crate::syscall::futex::may_look_by_files;
use crate::vfs::mount::options::{self, Given, Parameter, Refused, Value};
use crate::vfs::perm::Who;

/// What `hidepid=` keeps from those who may not look into a process as a debugger does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub(crate) enum Hide {
    #[default]
    Nothing,
    /// What is in its directory.
    Contents,
    /// That it is there, too.
    Directory,
    /// The same, and no group is excepted.
    Always,
}

const UNKNOWN_HIDE: &str = "unknown value of hidepid - ";

/// Options of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Options {
    pub hide: Hide,
    /// Members of this group see everything; `u32::MAX` has no members.
    pub group: u32,
    /// `subset=pid`
    pub only_processes: bool,
    pub read_only: bool,
}

impl Options {
    /// What an instance has if nobody says otherwise.
    pub(crate) const DEFAULT: Options = Options {
        hide: Hide::Nothing,
        group: 0,
        only_processes: false,
        read_only: false,
    };

    /// These options with what mount(2) says in a user namespace. `EINVAL`.
    pub(crate) fn parse(mut self, k: &Kernel, ns: NsId, data: &[u8]) -> Result<Options, Errno> {
        for parameter in options::parameters(data) {
            match parameter {
                Parameter::Flag(b"ro") => self.read_only = true,
                Parameter::Flag(b"rw") => self.read_only = false,
                Parameter::Flag(_) => {}
                // Looked up by who mounts.
                Parameter::Other(b"pidns", Some(_)) => {}
                Parameter::Other(key, value) => self
                    .set(k, ns, key, Value::of(value))
                    .map_err(|refused| refused.errno())?,
            }
        }
        Ok(self)
    }

    /// Takes one option, but for `pidns`.
    pub(crate) fn set(
        &mut self,
        k: &Kernel,
        ns: NsId,
        key: &[u8],
        value: Value<'_>,
    ) -> Result<(), Refused> {
        match key {
            b"hidepid" => {
                let text = value.given()?;
                let told = || Refused::Told(Errno::EINVAL, format!("{UNKNOWN_HIDE}{text}\n"));
                self.hide = hide(text.as_bytes()).map_err(|_| told())?;
            }
            b"gid" => {
                let gid = options::number(value.given()?.as_bytes());
                let gid = user::take_gid(k, ns, gid.map_err(|_| Refused::Bad)?);
                self.group = gid.unwrap_or(u32::MAX);
            }
            b"subset" => match value.given()? {
                "pid" => self.only_processes = true,
                text => {
                    let text = format!("unsupported subset option - {text}\n");
                    return Err(Refused::Told(Errno::EINVAL, text));
                }
            },
            b"pidns" => return Err(Refused::Bad),
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }

    /// Those of an instance that gets what was given of these.
    pub(crate) fn changed(&self, old: Options, given: Given) -> Options {
        let mut new = old;
        if given.contains(Given::HIDE) {
            new.hide = self.hide;
        }
        if given.contains(Given::GROUP) {
            new.group = self.group;
        }
        new.only_processes |= given.contains(Given::SUBSET);
        new
    }

    /// As mount tables show them.
    pub(crate) fn show(&self, k: &Kernel) -> Vec<u8> {
        let mut text = String::new();
        if self.group != 0 {
            let group = match self.group {
                u32::MAX => user::overflow_gid(k),
                group => group,
            };
            text += &format!(",gid={group}");
        }
        text += match self.hide {
            Hide::Nothing => "",
            Hide::Contents => ",hidepid=noaccess",
            Hide::Directory => ",hidepid=invisible",
            Hide::Always => ",hidepid=ptraceable",
        };
        if self.only_processes {
            text += ",subset=pid";
        }
        text.into_bytes()
    }
}

fn hide(value: &[u8]) -> Result<Hide, Errno> {
    match value {
        b"off" => Ok(Hide::Nothing),
        b"noaccess" => Ok(Hide::Contents),
        b"invisible" => Ok(Hide::Directory),
        b"ptraceable" => Ok(Hide::Always),
        digits => match options::number(digits)? {
            0 => Ok(Hide::Nothing),
            1 => Ok(Hide::Contents),
            2 => Ok(Hide::Directory),
            4 => Ok(Hide::Always),
            _ => Err(Errno::EINVAL),
        },
    }
}

/// Whether a thread sees of a process what `least` keeps from others (`has_pid_permissions()`).
pub(super) fn sees(k: &Kernel, options: &Options, who: Who<'_>, view: View, least: Hide) -> bool {
    let (Some(creds), Some(target)) = (who.creds(k), view.task(k)) else {
        return true;
    };
    match options.hide {
        Hide::Always => {}
        hide if hide < least || creds.in_group(options.group) => return true,
        _ => {}
    }
    may_look_by_files(k, who, target.id)
}

/// `EPERM`, or `ENOENT`, if the directory of a process keeps a thread out (`proc_pid_permission()`).
pub(crate) fn check_enter(k: &Kernel, who: Who<'_>, inode: InodeRef) -> Result<(), Errno> {
    let options = settings(k, inode.fs);
    if options.hide == Hide::Nothing {
        return Ok(());
    }
    let view = match Node::parse(inode.ino) {
        Some(Node::Dir(view)) if !view.thread => view,
        Some(Node::TaskDir(view)) => view,
        _ => return Ok(()),
    };
    match sees(k, &options, who, view, Hide::Contents) {
        true => Ok(()),
        false if options.hide == Hide::Directory => Err(Errno::ENOENT),
        false => Err(Errno::EPERM),
    }
}

/// `ENOENT` if a thread is not told of the directory of a process or thread (`pid_getattr()`).
pub(crate) fn check_attr(k: &Kernel, who: Who<'_>, inode: InodeRef) -> Result<(), Errno> {
    let options = settings(k, inode.fs);
    match Node::parse(inode.ino) {
        Some(Node::Dir(view)) if !sees(k, &options, who, view, Hide::Directory) => {
            Err(Errno::ENOENT)
        }
        _ => Ok(()),
    }
}
