//! Options of `proc` as mount(2) and fsconfig(2) say them (proc(5), "Mount options").

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::options::{self, Given, Parameter, Refused, Value};
use crate::abi::Errno;
use crate::cred::Base;
use crate::cred::ns::{NsId, user};
use crate::fs::view::{Hide, Options};

const UNKNOWN_HIDE: &str = "unknown value of hidepid - ";

impl Options {
    /// These options with what mount(2) says in a user namespace. `EINVAL`.
    pub(crate) fn parse(mut self, k: &Base, ns: NsId, data: &[u8]) -> Result<Options, Errno> {
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
        k: &Base,
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
    pub(crate) fn show(&self, k: &Base) -> Vec<u8> {
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
