//! `/proc/PID/fdinfo`: what is told of an open file (proc(5)).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::view::View;
use crate::Kernel;
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::file::epoll::ItemKey;
use crate::file::{File, FileId, FileKind, epoll, inotify, lock, ops};

/// What has been made of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Cursor {
    view: View,
    fd: u32,
    file: FileId,
    ns: NsId,
    stage: Stage,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Stage {
    Head,
    Locks(lock::OfFile),
    Event,
    /// Items of an epoll instance behind one, or watches of an inotify instance before one.
    Items(Option<ItemKey>),
    Watches(Option<i32>),
}

impl Cursor {
    pub(super) fn new(k: &Kernel, view: View, fd: u32, ns: NsId) -> Result<Cursor, Errno> {
        let file = view.file(k, fd).ok_or(Errno::ENOENT)?;
        let stage = Stage::Head;
        Ok(Cursor {
            view,
            fd,
            file,
            ns,
            stage,
        })
    }

    /// Makes a line or a few; `false` after the last, or when the descriptor names something else.
    pub(super) fn step(&mut self, k: &Kernel, lines: &mut u64, text: &mut Vec<u8>) -> bool {
        let found = self.view.file(k, self.fd).filter(|&file| file == self.file);
        let Some(open) = found.and_then(|file| k.files.file(file)) else {
            return false;
        };
        let next = match self.stage {
            Stage::Head => {
                text.extend_from_slice(head(k, self.view, self.fd, open).as_bytes());
                Some(Stage::Locks(lock::OfFile::FIRST))
            }
            Stage::Locks(at) => match lock::next_of_file(k, self.file, self.ns, at) {
                Some((next, line)) => {
                    if let Some(line) = line {
                        *lines += 1;
                        text.extend_from_slice(format!("lock:\t{lines}: {line}\n").as_bytes());
                    }
                    Some(Stage::Locks(next))
                }
                None => Some(match open.kind {
                    FileKind::Epoll(_) => Stage::Items(None),
                    FileKind::Inotify(_) => Stage::Watches(None),
                    _ => Stage::Event,
                }),
            },
            Stage::Event => {
                text.extend_from_slice(ops::fdinfo(k, open, self.ns).as_bytes());
                None
            }
            Stage::Items(last) => epoll::info(k, self.file, last).map(|(item, line)| {
                text.extend_from_slice(line.as_bytes());
                Stage::Items(Some(item))
            }),
            Stage::Watches(last) => inotify::info(k, self.file, last).map(|(wd, line)| {
                text.extend_from_slice(line.as_bytes());
                Stage::Watches(Some(wd))
            }),
        };
        self.stage = next.unwrap_or(self.stage);
        next.is_some()
    }
}

/// What is told of every file.
fn head(k: &Kernel, view: View, fd: u32, open: &File) -> String {
    let ino = k.vfs.dentries.at(open.path.dentry).ino;
    format!(
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{}\n",
        open.offset,
        open.flags.bits() | cloexec(k, view, fd),
        open.path.mount.number(),
        ino.map_or(0, |ino| ino.0)
    )
}

/// `O_CLOEXEC`, if the descriptor has it: it is not among the file's flags.
fn cloexec(k: &Kernel, view: View, fd: u32) -> u32 {
    let slot = view.task(k).filter(|task| !task.exited).and_then(|task| {
        let fd = i32::try_from(fd).ok()?;
        k.files.fd_table(task.files).get(fd)
    });
    match slot.is_some_and(|slot| slot.cloexec) {
        true => crate::abi::raw::general::O_CLOEXEC,
        false => 0,
    }
}
