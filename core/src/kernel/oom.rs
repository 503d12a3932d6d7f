//! What happens when the memory that the run may use is used up: what can be read again is dropped, then a
//! process is killed (as the memory controller of Linux does it, `mm/oom_kill.c`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::rest;
use crate::Kernel;
use crate::abi::PAGE_SIZE;
use crate::event::Level;
use crate::fs::filesystem::Filesystem;
use crate::fs::{Displaced, FsId, InodeRef};
use crate::machine::SpaceId;
use crate::mm::{self, Mm, space};
use crate::port::Ports;
use crate::task::{INIT, ending, signal};

/// A process with this `oom_score_adj` is never killed.
const EXEMPT: i16 = -1000;

/// Frames that must be free again for a process to get on: with fewer they are read in and dropped again for
/// ever.
const ENOUGH: usize = 64;

/// Makes room in memory; `false` if there is nobody left who could be killed.
pub(crate) fn make_room(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    if ending::make_room(k, p) || rest::make_room(k, p) {
        return true;
    }
    let dropped = drop_cached(k);
    dropped >= ENOUGH || kill(k, p) || dropped > 0
}

/// Drops frames that hold what files of lower layers have; they are read again. Only images that cannot be
/// mapped have any, and the ends of files that are no whole page. Gives how many.
fn drop_cached(k: &mut Mm) -> usize {
    let mut dropped = 0;
    for index in 0..k.fs.filesystems.len() {
        let Filesystem::Union(union) = &mut k.fs.filesystems[index].fs else {
            continue;
        };
        let cached = union.take_cached();
        for (ino, pages) in cached {
            let fs = FsId(index as u32);
            k.displaced.push(Displaced {
                inode: InodeRef { fs, ino },
                first: 0,
                count: Some(u64::MAX),
            });
            dropped += pages.len() as usize;
            pages.frames().for_each(|frame| k.frames.put(frame));
        }
    }
    mm::follow_files(k);
    dropped
}

/// Kills the process that uses most memory, and those that share it. The first process is the last one to go,
/// because the run ends with it.
fn kill(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let Some(victim) = victim(k) else {
        return false;
    };
    let Some(task) = k.tasks.group(victim).and_then(|group| {
        let thread = group.threads.values().next()?;
        k.tasks.get(*thread)
    }) else {
        return false;
    };
    let id = task.space;
    let line = oom_kill_line(k, victim, id);
    k.env.log(Level::Killed, line);
    let sharing: Vec<u32> = k
        .tasks
        .groups()
        .filter(|&tgid| tgid != INIT || victim == INIT)
        .filter(|&tgid| space_of(k, tgid) == Some(id))
        .collect();
    for tgid in sharing {
        ending::end_group(k, p, tgid, u32::from(signal::SIGKILL));
    }
    true
}

/// The space of a process that has not ended.
fn space_of(k: &Kernel, tgid: u32) -> Option<SpaceId> {
    let thread = k.tasks.thread_ids(tgid).next()?;
    Some(k.tasks.get(thread)?.space)
}

/// The process to kill: what it uses in pages, moved by `oom_score_adj` in thousandths of all there is. The
/// youngest of equals.
fn victim(k: &Kernel) -> Option<u32> {
    let (_, total) = k.frames.usage();
    let badness = |tgid: u32| {
        let group = k.tasks.group(tgid)?;
        let id = space_of(k, tgid)?;
        if group.oom_score_adj == EXEMPT {
            return None;
        }
        let usage = space::usage(k, id);
        let pages = (usage.rss_bytes() + usage.table_bytes) / PAGE_SIZE;
        let adjusted = pages as i64 + i64::from(group.oom_score_adj) * i64::from(total) / 1000;
        Some((tgid != INIT, adjusted, tgid))
    };
    let worst = k.tasks.groups().filter_map(badness).max()?;
    Some(worst.2)
}

/// What the log says, in the words of Linux.
fn oom_kill_line(k: &Kernel, tgid: u32, id: SpaceId) -> String {
    let usage = space::usage(k, id);
    let leader = k.tasks.leader(tgid);
    let comm = leader.map_or(&[][..], |task| &task.comm[..]);
    let name: Vec<u8> = comm.iter().copied().take_while(|&byte| byte != 0).collect();
    let name = String::from_utf8_lossy(&name);
    let uid = leader.map_or(0, |task| task.creds.uid);
    let adj = k.tasks.group(tgid).map_or(0, |group| group.oom_score_adj);
    let kib = |bytes: u64| bytes / 1024;
    format!(
        "Memory cgroup out of memory: Killed process {tgid} ({name}) total-vm:{}kB, anon-rss:{}kB, file-rss:{}kB, shmem-rss:{}kB, UID:{uid} \
         pgtables:{}kB oom_score_adj:{adj}",
        kib(usage.vm_bytes),
        kib(usage.anon_bytes),
        kib(usage.file_bytes),
        kib(usage.shmem_bytes),
        kib(usage.table_bytes)
    )
}
