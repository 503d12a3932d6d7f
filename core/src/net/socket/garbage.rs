//! The search for files in messages that nobody can receive any more.
//!
//! Of the sockets whose every reference is in flight those stay that a queue leads to which can be read, or
//! which one of those that stay leads to; the others are garbage. The search goes in pieces, and others get
//! on meanwhile. What they receive, or refer to in another way, stays with all that it leads to
//! ([`Search::reach`]); what they send they have a reference on. So at the end nothing is left over that
//! anybody could get at when the last candidate was found, and what nobody can get at stays so. What becomes
//! garbage meanwhile is found by a later search.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use super::rights::{self, is_socket, socket_of};
use super::{SocketId, unix};
use crate::file::{FileId, Files};

/// Files in flight that are looked at in one piece.
const AT_ONCE: usize = 64;

/// A search.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Search {
    /// `CLOCK_MONOTONIC` time at which it began.
    pub begun: u64,
    phase: Phase,
    /// Sockets all of whose references are in flight, and how many of these are not in queues of such
    /// sockets; what is known to stay is taken out.
    candidates: BTreeMap<FileId, u32>,
    /// Sockets that stay, whose queues are still to be looked through.
    reached: Vec<SocketId>,
    /// Files that were taken out of queues.
    pub taken: Vec<FileId>,
}

/// What is done next.
#[derive(Clone, Copy, Debug, Hash)]
enum Phase {
    /// Candidates are looked for behind this file.
    Find(Option<FileId>),
    /// What is in the queues of candidates is counted: behind this one, then in the queues of one.
    Count(Option<FileId>, Option<Place>),
    /// Those behind this one that are in other queues stay.
    Roots(Option<FileId>),
    /// What is in the queues of those that stay does so, too.
    Reach(Option<Place>),
    /// The files in the queues of those that are left over are taken out.
    Take(Option<Place>),
}

/// A place among the messages that a socket leads to.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Place {
    /// The socket.
    pub top: SocketId,
    /// It, or the one of those that wait to be accepted at it in whose queue this is.
    pub at: SocketId,
    /// Messages before this one have been looked at.
    pub message: u64,
}

impl Place {
    fn first(top: SocketId) -> Place {
        Place {
            top,
            at: top,
            message: 0,
        }
    }
}

impl Search {
    pub(super) fn new(begun: u64) -> Search {
        Search {
            begun,
            phase: Phase::Find(None),
            candidates: BTreeMap::new(),
            reached: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Somebody can get at a file: it stays.
    pub(super) fn reach(&mut self, id: FileId, socket: SocketId) {
        if !matches!(self.phase, Phase::Take(_)) && self.candidates.remove(&id).is_some() {
            self.reached.push(socket);
        }
    }

    /// Somebody can get at the queue of a socket.
    pub(super) fn look_into(&mut self, socket: SocketId) {
        if !matches!(self.phase, Phase::Take(_)) {
            self.reached.push(socket);
        }
    }

    /// The next candidate.
    fn behind(&self, after: Option<FileId>) -> Option<(FileId, u32)> {
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.candidates.range((from, Unbounded));
        rest.next().map(|(&id, &count)| (id, count))
    }

    /// Goes on with it; at the end, the files that are to be closed.
    pub(super) fn step(mut self, k: &mut Files) -> Result<Search, Vec<FileId>> {
        k.env.steps.spend(1);
        let next = match self.phase {
            Phase::Find(after) => self.find(k, after),
            Phase::Count(after, place) => self.count(k, after, place),
            Phase::Roots(after) => self.roots(k, after),
            Phase::Reach(place) => self.spread(k, place),
            Phase::Take(place) => self.take(k, place),
        };
        match next {
            Some(phase) => {
                self.phase = phase;
                Ok(self)
            }
            None => Err(self.taken),
        }
    }

    fn find(&mut self, k: &mut Files, after: Option<FileId>) -> Option<Phase> {
        let from = after.map_or(Unbounded, Excluded);
        let files = k.sockets.in_flight.files.range((from, Unbounded));
        let (mut seen, mut last) = (0, after);
        for (&id, &count) in files.take(AT_ONCE) {
            seen += 1;
            last = Some(id);
            let file = k.file(id);
            if is_socket(k, id) && file.is_some_and(|file| file.refs() == count) {
                self.candidates.insert(id, count);
            }
        }
        k.env.steps.spend(seen);
        Some(match seen {
            0 => Phase::Count(None, None),
            _ => Phase::Find(last),
        })
    }

    fn count(
        &mut self,
        k: &mut Files,
        after: Option<FileId>,
        place: Option<Place>,
    ) -> Option<Phase> {
        let Some(place) = place else {
            return Some(match self.behind(after) {
                Some((id, _)) => Phase::Count(Some(id), socket_of(k, id).map(Place::first)),
                None => Phase::Roots(None),
            });
        };
        let Some((place, rights)) = unix::rights_from(k, place) else {
            return Some(Phase::Count(after, None));
        };
        for file in &rights.files {
            if let Some(count) = self.candidates.get_mut(file) {
                *count = count.saturating_sub(1);
            }
        }
        let files = rights.files.len() as u64;
        k.env.steps.spend(files);
        Some(Phase::Count(after, Some(place)))
    }

    fn roots(&mut self, k: &mut Files, after: Option<FileId>) -> Option<Phase> {
        let Some((id, count)) = self.behind(after) else {
            return Some(Phase::Reach(None));
        };
        if count > 0
            && let Some(socket) = socket_of(k, id)
        {
            self.reach(id, socket);
        }
        Some(Phase::Roots(Some(id)))
    }

    fn spread(&mut self, k: &mut Files, place: Option<Place>) -> Option<Phase> {
        let Some(place) = place else {
            return Some(match self.reached.pop() {
                Some(socket) => Phase::Reach(Some(Place::first(socket))),
                None => Phase::Take(None),
            });
        };
        let Some((place, rights)) = unix::rights_from(k, place) else {
            return Some(Phase::Reach(None));
        };
        let files = rights.files.clone();
        k.env.steps.spend(files.len() as u64);
        for file in files {
            if let Some(socket) = socket_of(k, file) {
                self.reach(file, socket);
            }
        }
        Some(Phase::Reach(Some(place)))
    }

    fn take(&mut self, k: &mut Files, place: Option<Place>) -> Option<Phase> {
        let Some(place) = place else {
            let (id, _) = self.candidates.pop_first()?;
            return Some(Phase::Take(socket_of(k, id).map(Place::first)));
        };
        let Some((place, rights)) = unix::take_rights(k, place) else {
            return Some(Phase::Take(None));
        };
        let files = rights::receive(k, rights);
        k.env.steps.spend(2 * files.len() as u64);
        self.taken.extend(files);
        Some(Phase::Take(Some(place)))
    }
}
