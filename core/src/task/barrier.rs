//! Threads that membarrier(2) waits for.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::Kernel;
use crate::env::wait::WaitKey;
use crate::machine::ThreadId;

/// Barriers under way: who waits for which threads, that ran when it called and have not come by, and how
/// many these are.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Barriers {
    pub awaited: BTreeSet<(ThreadId, ThreadId)>,
    pub left: BTreeMap<ThreadId, usize>,
}

/// Notes that a thread came into the kernel or ended. Costs nothing while there are no barriers.
pub(crate) fn passed(k: &mut Kernel, thread: ThreadId) {
    if k.barriers.left.is_empty() {
        return;
    }
    let of_thread = (thread, ThreadId(0))..=(thread, ThreadId(u32::MAX));
    let callers = k.barriers.awaited.range(of_thread);
    let callers: Vec<ThreadId> = callers.map(|&(_, caller)| caller).collect();
    for caller in callers {
        k.barriers.awaited.remove(&(thread, caller));
        // One that has ended is not there any more.
        if let Some(left) = k.barriers.left.get_mut(&caller) {
            *left -= 1;
            if *left == 0 {
                k.barriers.left.remove(&caller);
                k.wake(WaitKey::Barrier(caller));
            }
        }
    }
}

/// Forgets the barrier of a thread that ended.
pub(crate) fn ended(k: &mut Kernel, thread: ThreadId) {
    k.barriers.left.remove(&thread);
    passed(k, thread);
}
