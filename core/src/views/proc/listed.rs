//! Files with a line for each of many objects, which are made as they are read: `locks`, `sysvipc`,
//! `net/unix`, `fdinfo`.

use alloc::vec::Vec;

use super::shown::Rest;
use super::view::View;
use super::{fdinfo, sysvipc};
use crate::Kernel;
use crate::abi::Errno;
use crate::file::{lease, lock};
use crate::machine::ThreadId;
use crate::net::socket::{SocketId, unix};
use crate::port::Ports;

/// Steps of a line.
const LINE_STEPS: u64 = 8;

/// What has been made of a file.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Cursor {
    table: Table,
    /// How many lines have a number.
    lines: u64,
}

/// A table, and the last of its objects that was shown.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
enum Table {
    Ipc(sysvipc::Kind, Option<u32>),
    Sockets(Option<SocketId>),
    Locks(lock::Position),
    /// What comes after them in the same file.
    Leases(lease::Position),
    Descriptor(fdinfo::Cursor),
}

fn begin(table: Table) -> Rest {
    Rest::Listed(Cursor { table, lines: 0 })
}

pub(super) fn messages() -> Rest {
    begin(Table::Ipc(sysvipc::Kind::Messages, None))
}

pub(super) fn semaphores() -> Rest {
    begin(Table::Ipc(sysvipc::Kind::Semaphores, None))
}

pub(super) fn segments() -> Rest {
    begin(Table::Ipc(sysvipc::Kind::Segments, None))
}

pub(super) fn locks() -> Rest {
    begin(Table::Locks(lock::Position::FIRST))
}

pub(super) fn sockets(_: &Kernel, _: View) -> Result<Option<Rest>, Errno> {
    Ok(Some(begin(Table::Sockets(None))))
}

pub(super) fn descriptor(cursor: fdinfo::Cursor) -> Rest {
    begin(Table::Descriptor(cursor))
}

impl Cursor {
    /// Makes a line or passes an object that is not shown; `false` after the last.
    pub(super) fn step(
        &mut self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        thread: ThreadId,
        text: &mut Vec<u8>,
    ) -> bool {
        k.env.steps.spend(LINE_STEPS);
        match &mut self.table {
            Table::Ipc(kind, last) => {
                if core::mem::replace(&mut self.lines, 1) == 0 {
                    text.extend_from_slice(kind.head().as_bytes());
                }
                let next = sysvipc::line(k, p, thread, *kind, *last);
                let Some((place, line)) = next else {
                    return false;
                };
                *last = Some(place);
                text.extend_from_slice(line.as_bytes());
                true
            }
            Table::Sockets(last) => {
                if core::mem::replace(&mut self.lines, 1) == 0 {
                    text.extend_from_slice(unix::HEAD.as_bytes());
                }
                let next = unix::line(k, *last, text);
                *last = next.or(*last);
                next.is_some()
            }
            Table::Locks(at) => {
                let ns = k.tasks.get(thread).map(|task| task.ns.pid);
                let Some((next, line)) = ns.and_then(|ns| lock::next_line(k, ns, *at)) else {
                    self.table = Table::Leases(lease::Position::FIRST);
                    return true;
                };
                *at = next;
                if let Some(line) = line {
                    self.lines += 1;
                    let line = alloc::format!("{}: {line}\n", self.lines);
                    text.extend_from_slice(line.as_bytes());
                }
                true
            }
            Table::Leases(at) => {
                let ns = k.tasks.get(thread).map(|task| task.ns.pid);
                let process = |thread| k.tasks.get(thread).map(|task| task.tgid);
                let next = ns.and_then(|ns| lease::next_line(k, ns, *at, process));
                let Some((next, line)) = next else {
                    return false;
                };
                *at = next;
                if let Some(line) = line {
                    self.lines += u64::from(!line.waits);
                    let line = alloc::format!("{}: {}\n", self.lines, line.text);
                    text.extend_from_slice(line.as_bytes());
                }
                true
            }
            Table::Descriptor(cursor) => cursor.step(k, &mut self.lines, text),
        }
    }
}
