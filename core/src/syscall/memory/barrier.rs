//! Memory barriers on all processors (membarrier(2)).
//!
//! A thread that comes into the kernel and goes back has passed a barrier, and its processor has forgotten
//! decoded instructions. So the call interrupts the threads that run and returns once each of them has come
//! by, for whatever reason.

use alloc::vec::Vec;

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general::membarrier_cmd as c;
use crate::args::*;
use crate::env::wait::{SysResult, Wait, WaitKey};
use crate::kernel::Cx;
use crate::machine::{SpaceId, ThreadId};
use crate::syscall::missing::known;
use crate::task::{Task, signal};

const GLOBAL: u32 = c::MEMBARRIER_CMD_GLOBAL as u32;
const GLOBAL_EXPEDITED: u32 = c::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32;
const REGISTER_GLOBAL: u32 = c::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
const PRIVATE: u32 = c::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;
const REGISTER_PRIVATE: u32 = c::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
const SYNC_CORE: u32 = c::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u32;
const REGISTER_SYNC_CORE: u32 = c::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u32;
const GET_REGISTRATIONS: u32 = c::MEMBARRIER_CMD_GET_REGISTRATIONS as u32;
const COMMANDS: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL
    | PRIVATE
    | REGISTER_PRIVATE
    | SYNC_CORE
    | REGISTER_SYNC_CORE
    | GET_REGISTRATIONS;

pub(in super::super) fn membarrier(
    cx: &mut Cx<'_, '_>,
    cmd: Int,
    flags: NoFlags,
    _cpu: Int,
) -> SysResult {
    let id = cx.space();
    known(cx, flags)?;
    let registered = cx.k.mm.space(id).barriers;
    match cmd.0 as u32 {
        0 => Ok(u64::from(COMMANDS)),
        GET_REGISTRATIONS => Ok(u64::from(registered)),
        command @ (REGISTER_GLOBAL | REGISTER_PRIVATE | REGISTER_SYNC_CORE) => {
            cx.k.mm.space_mut(id).barriers |= command;
            Ok(0)
        }
        GLOBAL => barrier(cx, None, |_, _| true),
        GLOBAL_EXPEDITED => barrier(cx, None, |k, task| {
            k.mm.space(task.space).barriers & REGISTER_GLOBAL != 0
        }),
        PRIVATE if registered & REGISTER_PRIVATE == 0 => Err(Errno::EPERM.into()),
        SYNC_CORE if registered & REGISTER_SYNC_CORE == 0 => Err(Errno::EPERM.into()),
        PRIVATE | SYNC_CORE => barrier(cx, Some(id), |_, _| true),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Waits until each of these threads, of one space or of all, that runs now has been in the kernel.
fn barrier(
    cx: &mut Cx<'_, '_>,
    space: Option<SpaceId>,
    concerns: impl Fn(&Kernel, &Task) -> bool,
) -> SysResult {
    let own = cx.thread;
    if cx.call().progress == 0 {
        cx.call().progress = 1;
        let meant = |task: &Task| task.running && task.id != own && concerns(cx.k, task);
        let tasks = &cx.k.tasks;
        let running: Vec<ThreadId> = match space {
            Some(space) => tasks
                .of_space(space)
                .filter(|&id| tasks.get(id).is_some_and(meant))
                .collect(),
            None => tasks
                .iter()
                .filter(|task| meant(task))
                .map(|task| task.id)
                .collect(),
        };
        for &thread in &running {
            signal::wake(cx.k, thread);
            cx.k.barriers.awaited.insert((thread, own));
        }
        if !running.is_empty() {
            cx.k.barriers.left.insert(own, running.len());
        }
    }
    if !cx.k.barriers.left.contains_key(&own) {
        return Ok(0);
    }
    let mut wait = Wait::on(WaitKey::Barrier(own));
    wait.killable = true;
    wait.into()
}
