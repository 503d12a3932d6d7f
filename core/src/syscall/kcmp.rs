//! kcmp(2): whether two processes share something.

use core::cmp::Ordering;

use crate::abi::Errno;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file::FileId;
use crate::kernel::Cx;
use crate::machine::ThreadId;

// What is compared (linux/kcmp.h).
const FILE: i32 = 0;
const VM: i32 = 1;
const FILES: i32 = 2;
const FS: i32 = 3;
const SIGHAND: i32 = 4;
const IO: i32 = 5;
const SYSVSEM: i32 = 6;

pub(super) fn kcmp(
    cx: &mut Cx<'_, '_>,
    pid1: Pid,
    pid2: Pid,
    kind: Int,
    idx1: Ulong,
    idx2: Ulong,
) -> SysResult {
    let find = |pid: Pid| {
        let tid = u32::try_from(pid.0).map_err(|_| Errno::ESRCH)?;
        let thread = cx.meant_thread(tid).ok_or(Errno::ESRCH)?;
        cx.k.tasks.get(thread).ok_or(Errno::ESRCH)
    };
    let (a, b) = (find(pid1)?, find(pid2)?);
    let visible = [a, b].map(|task| crate::task::look::may_look(cx.k, cx.thread, task.id));
    if visible != [true; 2] {
        return Err(Errno::EPERM.into());
    }
    if a.exited || b.exited {
        return Err(Errno::ESRCH.into());
    }
    let order = match kind.0 {
        FILE => file(cx, a.id, idx1.0)?.cmp(&file(cx, b.id, idx2.0)?),
        VM => a.space.cmp(&b.space),
        FILES => a.files.cmp(&b.files),
        FS => a.fs.cmp(&b.fs),
        SIGHAND => {
            let sighand = |tgid| cx.k.tasks.group(tgid).map(|group| group.sighand);
            sighand(a.tgid).cmp(&sighand(b.tgid))
        }
        // Contexts of I/O and lists of semaphores to undo are nobody's.
        IO | SYSVSEM => Ordering::Equal,
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(match order {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    })
}

fn file(cx: &Cx<'_, '_>, thread: ThreadId, fd: u64) -> Result<FileId, Errno> {
    let task = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    let slot = cx.k.files.fd_table(task.files).get(fd);
    slot.map(|slot| slot.file).ok_or(Errno::EBADF)
}
