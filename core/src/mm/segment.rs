//! Shared memory segments in address spaces (shmat(2)).

use alloc::vec::Vec;

use super::{Mm, space};
use crate::ipc::ObjectId;
use crate::ipc::shm::{is_unused, of_file};
use crate::machine::SpaceId;

/// A process is about to leave a space: if nobody else uses it, the process was the last to detach what is
/// attached there.
pub(crate) fn leaving(k: &mut Mm, space: SpaceId, tgid: u32) {
    if is_unused(k) || space::users(k, space) > 1 {
        return;
    }
    let areas = k.mapped.memory(space);
    let vmas = &k.space(space).vmas;
    let segments = areas.filter_map(|start| of_file(k, vmas.get(&start)?.file()?));
    let segments: Vec<ObjectId> = segments.collect();
    for id in segments {
        if let Ok(segment) = k.ipc.objects_mut(id.ns).segments.get_mut(id.id) {
            segment.last = tgid;
        }
    }
}
