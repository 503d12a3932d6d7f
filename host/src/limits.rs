//! How many guest threads the host has room for.
//!
//! A guest thread costs the host a worker, on some platforms a process too, files and areas of memory; each
//! of them has a limit somewhere. The kernel refuses guests what would not fit, so that no guest finds the
//! host's end before its own.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// A worker and a traced process, of process numbers.
const NUMBERS_EACH: u64 = 2;
/// A mailbox and, on some platforms, a virtual processor.
const FILES_EACH: u64 = 2;
/// Files of ours beside those of threads: images, memory, standard streams.
const FILES_OWN: u64 = 256;
/// Files of the host's trees: so many for looking, for reading and for mapping them each, where the limit
/// allows it.
const FILES_TREE: u64 = 512;
const FILES_MAPPED: u64 = 16384;
/// The part of all files that each of the first two may take, and the third.
const SHARE_TREE: u64 = 16;
const SHARE_MAPPED: u64 = 8;
/// A stack and a signal stack, each with its guard, and what the allocator has for a thread.
const AREAS_EACH: u64 = 6;
const AREAS_OWN: u64 = 4096;
/// Fewer are never allowed: where there is not even room for these, starting one fails with the host's error.
const LEAST: u64 = 16;

/// What the host has, each as a limit and what of it is in use.
#[derive(Debug, Default)]
struct Room {
    /// Processes and threads: `kernel.pid_max`, `kernel.threads-max`, `RLIMIT_NPROC`, `pids.max` of control
    /// groups.
    numbers: Vec<(u64, u64)>,
    files: u64,
    areas: u64,
}

impl Room {
    /// Guest threads that fit. Of process numbers a sandbox takes half of what is free at most: it is not
    /// alone.
    fn threads(&self) -> u32 {
        let free = |(limit, used): &(u64, u64)| limit.saturating_sub(*used) / 2 / NUMBERS_EACH;
        let numbers = self.numbers.iter().map(free).min().unwrap_or(u64::MAX);
        let trees = TreeLimits::of(self.files).sum();
        let files = self.files.saturating_sub(FILES_OWN + trees) / FILES_EACH;
        let areas = self.areas.saturating_sub(AREAS_OWN) / AREAS_EACH;
        let threads = numbers.min(files).min(areas).max(LEAST);
        u32::try_from(threads).unwrap_or(u32::MAX)
    }
}

/// How many files of the host's directory trees are kept open at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeLimits {
    /// For looking at them.
    pub paths: usize,
    /// For reading them.
    pub files: usize,
    /// For mapping them into guests.
    pub mapped: usize,
}

impl TreeLimits {
    /// What fits into a limit of open files.
    fn of(limit: u64) -> TreeLimits {
        let share = |part: u64, most: u64| (limit / part).clamp(LEAST, most) as usize;
        TreeLimits {
            paths: share(SHARE_TREE, FILES_TREE),
            files: share(SHARE_TREE, FILES_TREE),
            mapped: share(SHARE_MAPPED, FILES_MAPPED),
        }
    }

    fn sum(self) -> u64 {
        (self.paths + self.files + self.mapped) as u64
    }
}

/// What the trees may keep open.
pub(crate) fn trees() -> TreeLimits {
    TreeLimits::of(files())
}

/// Guest threads that the host has room for now.
pub(crate) fn threads() -> u32 {
    let number =
        |path: &Path| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let setting = |name: &str| number(Path::new(name)).unwrap_or(u64::MAX);
    let running = running().unwrap_or(0);
    let mut room = Room {
        numbers: vec![
            (setting("/proc/sys/kernel/pid_max"), running),
            (setting("/proc/sys/kernel/threads-max"), running),
        ],
        files: files(),
        areas: setting("/proc/sys/vm/max_map_count"),
    };
    if !rustix::process::geteuid().is_root() {
        // Root is not held to it; of others all their processes count, of which we know no less than our own.
        let limit = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
        room.numbers.push((limit, 0));
    }
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for path in groups.lines().filter_map(control_group) {
        // Limits of groups above hold too; where ours is not seen at its path, it is the root of what we see.
        for dir in path.ancestors() {
            if let Some(limit) = number(&dir.join("pids.max")) {
                let used = number(&dir.join("pids.current")).unwrap_or(0);
                room.numbers.push((limit, used));
            }
        }
    }
    room.threads()
}

/// The directory of the group that may limit process numbers, of a line of `/proc/self/cgroup` (cgroups(7)).
fn control_group(line: &str) -> Option<std::path::PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let root = match controllers {
        "" => "/sys/fs/cgroup",
        _ if controllers.split(',').any(|name| name == "pids") => "/sys/fs/cgroup/pids",
        _ => return None,
    };
    Some(Path::new(root).join(path.trim_start_matches('/')))
}

/// Processes and threads that there are (`/proc/loadavg`, fourth field).
fn running() -> Option<u64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').nth(3)?.split('/').nth(1)?.parse().ok()
}

/// The limit of open files of this process. Who wants room for many guest threads raises it beforehand.
fn files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_thing_decides() {
        let room = |numbers: &[(u64, u64)], files, areas| {
            let numbers = numbers.to_vec();
            Room {
                numbers,
                files,
                areas,
            }
            .threads()
        };
        assert_eq!(room(&[(32768, 768), (200_000, 768)], 1 << 20, 65530), 8000);
        assert_eq!(room(&[(4 << 20, 500)], 1 << 20, 65530), 10239);
        assert_eq!(room(&[(4 << 20, 500)], 1024, 65530), 256);
        assert_eq!(room(&[(4 << 20, 500), (512, 12)], 1 << 20, 65530), 125);
        assert_eq!(room(&[(100, 100)], 0, 0), 16);
    }

    #[test]
    fn control_groups_are_found() {
        let path = |line| control_group(line).map(|path| path.display().to_string());
        assert_eq!(path("0::/a/b").as_deref(), Some("/sys/fs/cgroup/a/b"));
        assert_eq!(path("8:pids:/").as_deref(), Some("/sys/fs/cgroup/pids/"));
        assert_eq!(
            path("7:cpu,pids:/x").as_deref(),
            Some("/sys/fs/cgroup/pids/x")
        );
        assert_eq!(path("7:blkio:/x"), None);
        assert_eq!(path("nonsense"), None);
    }

    #[test]
    fn this_machine_has_room() {
        assert!(threads() >= 16);
    }
}
