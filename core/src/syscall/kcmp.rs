//! kcmp(2): whether two processes share something.

use core::cmp::Ordering;

use crate::abi::Errno;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file::FileId;
use crate::kernel::Cx;
use crate::machine::ThreadId;

pub(super) fn kcmp(
    cx: &mut Cx<'_, '_>,
    pid1: Pid,
    pid2: Pid,
    kind: KcmpKind,
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
    let order = match kind {
        KcmpKind::File => file(cx, a.id, idx1.0)?.cmp(&file(cx, b.id, idx2.0)?),
        KcmpKind::Vm => a.space.cmp(&b.space),
        KcmpKind::Files => a.files.cmp(&b.files),
        KcmpKind::Fs => a.fs.cmp(&b.fs),
        KcmpKind::SigHand => {
            let sighand = |tgid| cx.k.tasks.group(tgid).map(|group| group.sighand);
            sighand(a.tgid).cmp(&sighand(b.tgid))
        }
        // Contexts of I/O and lists of semaphores to undo are nobody's.
        KcmpKind::Io | KcmpKind::SysVSem => Ordering::Equal,
        KcmpKind::Other(_) => return Err(Errno::EINVAL.into()),
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
