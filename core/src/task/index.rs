//! Tasks and processes by what they have in common, so that whoever means a few of them need not look at all.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use super::{Process, Task, Tasks};
use crate::cred::Creds;
use crate::machine::{SpaceId, ThreadId};

/// Numbers of processes by their groups and sessions, tasks by their users and spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Index {
    groups: BTreeSet<(u32, u32)>,
    sessions: BTreeSet<(u32, u32)>,
    /// By real user; those that have ended are among them until they are reaped.
    users: BTreeSet<(u32, ThreadId)>,
    spaces: BTreeSet<(SpaceId, ThreadId)>,
}

impl Index {
    fn add_process(&mut self, process: &Process) {
        self.groups.insert((process.pgid, process.tgid));
        self.sessions.insert((process.sid, process.tgid));
    }

    fn remove_process(&mut self, process: &Process) {
        self.groups.remove(&(process.pgid, process.tgid));
        self.sessions.remove(&(process.sid, process.tgid));
    }

    pub(super) fn add_task(&mut self, task: &Task) {
        self.users.insert((task.creds.uid, task.id));
        self.spaces.insert((task.space, task.id));
    }

    pub(super) fn remove_task(&mut self, task: &Task) {
        self.users.remove(&(task.creds.uid, task.id));
        self.spaces.remove(&(task.space, task.id));
    }
}

fn of<K: Copy + Ord>(index: &BTreeSet<(K, u32)>, key: K) -> impl Iterator<Item = u32> + '_ {
    index.range((key, 0)..=(key, u32::MAX)).map(|&(_, id)| id)
}

fn tasks_of<K: Copy + Ord>(
    index: &BTreeSet<(K, ThreadId)>,
    key: K,
) -> impl Iterator<Item = ThreadId> + '_ {
    let range = (key, ThreadId(0))..=(key, ThreadId(u32::MAX));
    index.range(range).map(|&(_, id)| id)
}

impl Tasks {
    /// The processes of a process group, ascending, zombies included.
    pub(crate) fn group_members(&self, pgid: u32) -> impl Iterator<Item = u32> + '_ {
        of(&self.index.groups, pgid)
    }

    /// The same from one on.
    pub(crate) fn group_members_from(
        &self,
        pgid: u32,
        from: u32,
    ) -> impl Iterator<Item = u32> + '_ {
        let range = (pgid, from)..=(pgid, u32::MAX);
        self.index.groups.range(range).map(|&(_, tgid)| tgid)
    }

    /// Whether a number is that of a process group or session.
    pub(crate) fn names_group(&self, number: u32) -> bool {
        let mut groups = of(&self.index.groups, number);
        let mut sessions = of(&self.index.sessions, number);
        groups.next().is_some() || sessions.next().is_some()
    }

    /// The tasks of a real user, in the order they were made, zombies' leaders included.
    pub(crate) fn of_user(&self, uid: u32) -> impl Iterator<Item = ThreadId> + '_ {
        tasks_of(&self.index.users, uid)
    }

    /// The tasks that run in a space, and ended ones that did.
    pub(crate) fn of_space(&self, space: SpaceId) -> impl Iterator<Item = ThreadId> + '_ {
        tasks_of(&self.index.spaces, space)
    }

    /// Adds a process.
    pub(super) fn add_group(&mut self, process: Process) {
        self.index.add_process(&process);
        self.groups.insert(process.tgid, process);
    }

    /// Takes a process away.
    pub(super) fn remove_group(&mut self, tgid: u32) -> Option<Process> {
        let process = self.groups.remove(&tgid)?;
        self.index.remove_process(&process);
        Some(process)
    }

    /// Puts a process into a process group and a session.
    pub(crate) fn set_group(&mut self, tgid: u32, pgid: u32, sid: u32) {
        if let Some(process) = self.groups.get_mut(&tgid) {
            self.index.remove_process(process);
            (process.pgid, process.sid) = (pgid, sid);
            self.index.add_process(process);
        }
    }

    /// Gives a task other credentials (`commit_creds()`); gives the ones before
    /// ([`Kernel::set_creds`](crate::Kernel::set_creds)).
    pub(super) fn set_creds(&mut self, id: ThreadId, creds: Arc<Creds>) -> Option<Arc<Creds>> {
        let number = self.next_commit();
        let task = self.tasks.get_mut(&id)?;
        self.index.remove_task(task);
        self.group_lists.add(&creds.groups);
        self.group_lists.remove(&task.creds.groups);
        let old = core::mem::replace(&mut task.creds, creds);
        task.committed = number;
        self.index.add_task(task);
        Some(old)
    }

    /// Puts a task into another space; gives the one before.
    pub(super) fn set_space(&mut self, id: ThreadId, space: SpaceId) -> Option<SpaceId> {
        let task = self.tasks.get_mut(&id)?;
        self.index.remove_task(task);
        let old = core::mem::replace(&mut task.space, space);
        self.index.add_task(task);
        Some(old)
    }

    /// Whether the index is that of the tasks; for invariant checks.
    pub(super) fn is_indexed(&self) -> bool {
        let mut index = Index::default();
        self.groups
            .values()
            .for_each(|process| index.add_process(process));
        self.tasks.values().for_each(|task| index.add_task(task));
        index == self.index
    }
}
