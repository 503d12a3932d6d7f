//! Invariants of names, mounts and open files, for tests: references are counted across all floors.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

use crate::Kernel;
use crate::file::{FileId, FileKind};
use crate::vfs::{DentryId, MountId};

/// Whether all reference counts add up. Valid between two inputs. The text says what does not.
pub(crate) fn check(k: &Kernel) -> Result<(), String> {
    let left = [
        ("notices", k.env.notices.len()),
        ("pages that moved", k.displaced.len()),
        ("pipes that are gone", k.objects.gone.len()),
        ("files of proc that are gone", k.files.made.gone()),
        ("news for owners of files", k.asyncs.news.len()),
        ("news for requests", k.aio.news()),
    ];
    if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
        return Err(format!("{count} {what} have not been dealt with"));
    }
    let groups = k.tasks.groups().filter_map(|tgid| k.tasks.group(tgid));
    crate::file::writers::check(k, groups.filter_map(|group| group.exe))?;
    crate::file::lock::check(k, |thread, key| {
        let call = k.tasks.get(thread).and_then(|task| task.call.as_ref());
        let wait = call.and_then(|call| call.wait.as_ref());
        wait.is_some_and(|wait| wait.keys.contains(&key))
    })?;
    let (vfs, all) = (&k.vfs, &k.files);
    let mut files: BTreeMap<FileId, u32> = BTreeMap::new();
    for (_, table) in all.tables.iter() {
        if !table.is_consistent() {
            return Err("free descriptors are not known rightly".into());
        }
        for (_, slot) in table.iter() {
            *files.entry(slot.file).or_default() += 1;
        }
    }
    for space in crate::mm::space::ids(k) {
        for id in crate::mm::space::vmas(k, space).filter_map(|vma| vma.file) {
            *files.entry(id).or_default() += 1;
        }
    }
    for id in crate::mm::reap::files(k) {
        *files.entry(id).or_default() += 1;
    }
    for tgid in k.tasks.groups() {
        if let Some(id) = k.tasks.group(tgid).and_then(|group| group.exe) {
            *files.entry(id).or_default() += 1;
        }
    }
    for id in crate::task::check::files_of_calls(k) {
        *files.entry(id).or_default() += 1;
    }
    for (id, count) in crate::net::socket::rights::held(k) {
        *files.entry(id).or_default() += count;
    }
    for id in crate::file::aio::held(k).chain(crate::ipc::shm::held(k)) {
        *files.entry(id).or_default() += 1;
    }
    let mut dentries: BTreeMap<DentryId, u32> = BTreeMap::new();
    let mut hold = |id: DentryId| *dentries.entry(id).or_default() += 1;
    let mut ends: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    let mut made = BTreeSet::new();
    for (id, file) in all.open.iter() {
        let id = FileId(id);
        hold(file.path.dentry);
        let expected = files.get(&id).copied().unwrap_or(0);
        if file.refs() != expected {
            return Err(format!(
                "{id:?} has {} references, but {expected} are held: {:?}",
                file.refs(),
                file.kind
            ));
        }
        if let FileKind::Inotify(instance) = &file.kind {
            crate::file::inotify::held(instance).for_each(&mut hold);
        }
        if let FileKind::Config(config) = &file.kind {
            config.place.iter().for_each(|&(_, root)| hold(root));
        }
        if let FileKind::Made(file) = file.kind {
            made.insert(file.number);
        }
        if let FileKind::Pipe(pipe) = file.kind {
            let ends = ends.entry(pipe.0).or_default();
            ends.0 += u32::from(file.readable());
            ends.1 += u32::from(file.writable());
        }
    }
    if !k.contents.is_counted(|number| made.contains(&number)) {
        return Err("contents of files of proc are not counted rightly".into());
    }
    if let Some(id) = files.keys().find(|id| all.file(**id).is_none()) {
        return Err(format!("{id:?} is used but not open"));
    }
    crate::net::socket::held(k).for_each(|place| hold(place.dentry));
    let walks = || vfs.walks.held().chain(vfs.ways_up.held());
    walks().for_each(|place| hold(place.dentry));
    vfs.mounts
        .jobs
        .places()
        .for_each(|place| hold(place.dentry));
    vfs.mounts.jobs.names().for_each(&mut hold);
    vfs.mounts.ended.iter().for_each(|ended| hold(ended.top));
    for (_, context) in all.contexts.iter() {
        hold(context.root.dentry);
        hold(context.cwd.dentry);
    }
    let mut mounts: BTreeMap<MountId, u32> = BTreeMap::new();
    let mut through = |id: MountId| *mounts.entry(id).or_default() += 1;
    all.open
        .iter()
        .for_each(|(_, file)| through(file.path.mount));
    crate::net::socket::held(k).for_each(|place| through(place.mount));
    walks().for_each(|place| through(place.mount));
    vfs.mounts
        .jobs
        .places()
        .for_each(|place| through(place.mount));
    for (_, context) in all.contexts.iter() {
        through(context.root.mount);
        through(context.cwd.mount);
    }
    for (id, mount) in vfs.mounts.iter() {
        hold(mount.root);
        if let Some(on) = mount.on {
            hold(on.dentry);
            if !mount.connected {
                through(on.mount);
            }
        }
        if vfs.mounts.is_kept(id) {
            through(id);
        }
    }
    if !vfs.mounts.is_indexed() {
        return Err("the indexes of mounts do not agree with them".into());
    }
    k.ns.dentries().for_each(&mut hold);
    for (id, mount) in vfs.mounts.iter() {
        let expected = mounts.get(&id).copied().unwrap_or(0);
        if vfs.mounts.refs(id).is_some_and(|refs| refs != expected) {
            return Err(format!(
                "{id:?} has {:?} references, but {expected} are held: {mount:?}",
                vfs.mounts.refs(id)
            ));
        }
    }
    let mut writers: BTreeMap<MountId, u32> = BTreeMap::new();
    for (_, file) in all.open.iter().filter(|(_, file)| file.is_written_to()) {
        *writers.entry(file.path.mount).or_default() += 1;
    }
    for (id, mount) in vfs.mounts.iter() {
        if mount.writers != writers.remove(&id).unwrap_or(0) {
            return Err(format!("{id:?} counts {} open files", mount.writers));
        }
    }
    crate::ns::check(k)?;
    for (id, dentry) in vfs.dentries.iter() {
        if dentry.parent != id {
            hold(dentry.parent);
        }
    }
    for (id, dentry) in vfs.dentries.iter() {
        let expected = dentries.get(&id).copied().unwrap_or(0);
        let refs = vfs.dentries.refs(id);
        if refs != expected {
            return Err(format!(
                "{id:?} {:?} has {refs} references, but {expected} are held",
                String::from_utf8_lossy(&dentry.name)
            ));
        }
    }
    vfs.dentries.check()?;
    crate::file::epoll::check(k)?;
    crate::file::inotify::check(k)?;
    crate::file::fasync::check(k)?;
    crate::file::lease::check(k)?;
    if !crate::file::dnotify::check(k) {
        return Err("a directory that is not open is watched".into());
    }
    crate::net::socket::check(k)?;
    crate::file::aio::check(k)?;
    crate::ipc::mqueue::check(k)?;
    for inode in crate::fs::seal::inodes(k) {
        if !all.open.iter().any(|(_, file)| file.inode == Some(inode)) {
            return Err(format!("{inode:?} has seals, but is not open"));
        }
    }
    for (id, pipe) in all.pipes.iter() {
        let expected = ends.get(&id.0).copied().unwrap_or((0, 0));
        if !pipe.is_consistent() {
            return Err(format!("{id:?}: its pieces are not its data"));
        }
        if (pipe.readers, pipe.writers) != expected {
            return Err(format!(
                "{id:?} counts {}/{} ends, but {expected:?} are open",
                pipe.readers, pipe.writers
            ));
        }
    }
    Ok(())
}
