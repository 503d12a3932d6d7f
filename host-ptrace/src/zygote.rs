//! The process that all guest processes are copied from.
//!
//! It holds the stub pages and nothing else, so a copy costs the same however large varve itself is, and does
//! not stop varve's other threads, as a fork of varve would: that holds up every page fault and mapping of
//! theirs. Only the host thread that traces it can tell it to copy itself: a thread of its own, asked through
//! a channel. Guest processes are that thread's children, and die with it.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, SendError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use varve_core::abi::PAGE_SIZE;
use varve_host::{PlatformError, failed};

use crate::process::Process;
use crate::space::{Space, State};
use crate::stub::{self, Batch, Call};
use crate::tracee::{self, DIE_WITH_VARVE, Tracee};

/// More than any processor's XSAVE area.
const XSTATE_MAX: usize = 64 << 10;

/// The way to the thread that copies.
pub(crate) struct Zygote {
    /// `None` only while this is being dropped.
    requests: Option<Mutex<Sender<Request>>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    slot: u32,
    space: Arc<Space>,
    answer: SyncSender<io::Result<Arc<Process>>>,
}

impl Zygote {
    /// Makes the process and its thread; also gives the size of the floating-point state.
    ///
    /// # Errors
    /// A host that does not permit ptrace: the error says what was refused.
    pub(crate) fn start(batch: &Arc<Batch>) -> Result<(Zygote, usize), PlatformError> {
        let own = batch.take().ok_or_else(|| {
            PlatformError::Bug("no page of calls is free when the host starts".into())
        })?;
        let (requests, receiver) = channel();
        let (ready, started) = sync_channel(1);
        let batch = batch.clone();
        let thread = std::thread::Builder::new()
            .name("guests".into())
            .stack_size(128 << 10)
            .spawn(move || {
                match make(&batch, own) {
                    Ok((first, size)) => {
                        let _ = ready.send(Ok(size));
                        serve(&batch, own, first, &receiver);
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
                batch.give(own);
            })
            .map_err(failed("a thread"))?;
        let zygote = Zygote {
            requests: Some(Mutex::new(requests)),
            thread: Some(thread),
        };
        let size = started.recv().map_err(|_| ended())??;
        Ok((zygote, size))
    }

    /// A new process with the stub pages and this page of calls, stopped, for the calling thread to trace.
    /// Fails if the space has been dropped by the time that it is its turn.
    pub(crate) fn copy(&self, slot: u32, space: &Arc<Space>) -> Result<Tracee, PlatformError> {
        let (answer, copied) = sync_channel(1);
        let sent = self.requests.as_ref().is_some_and(|requests| {
            let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            let space = space.clone();
            let request = Request {
                slot,
                space,
                answer,
            };
            requests.send(request).is_ok()
        });
        let answer = match sent {
            true => copied.recv().ok(),
            false => None,
        };
        let process = answer
            .ok_or_else(ended)?
            .map_err(failed("a guest process"))?;
        Tracee::adopt(process).map_err(failed("tracing a guest process"))
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread is gone, though there still is somebody who may ask it.
fn ended() -> PlatformError {
    PlatformError::Bug("the thread that makes guest processes has ended".into())
}

/// The first process, and the size of the floating-point state.
fn make(batch: &Batch, slot: u32) -> Result<(Tracee, usize), PlatformError> {
    let mut tracee = Tracee::fork(batch, slot)?;
    let mut state = vec![0; XSTATE_MAX];
    let size = tracee
        .get_xstate(&mut state)
        .map_err(failed("floating-point state"))?;
    Ok((tracee, size))
}

/// Copies the process for whoever asks, until nobody can ask any more. One that somebody killed from outside
/// is made anew.
fn serve(batch: &Batch, own: u32, first: Tracee, requests: &Receiver<Request>) {
    let mut zygote = first;
    while let Ok(request) = requests.recv() {
        let Request {
            slot,
            space,
            answer,
        } = request;
        if space.state() == State::Gone {
            let _ = answer.send(Err(io::ErrorKind::NotFound.into()));
            continue;
        }
        let mut copied = copy(batch, own, &mut zygote, slot);
        if matches!(&copied, Err(error) if error.kind() == io::ErrorKind::BrokenPipe)
            && let Ok((again, _)) = make(batch, own)
        {
            zygote = again;
            copied = copy(batch, own, &mut zygote, slot);
        }
        if let Err(SendError(Ok(process))) = answer.send(copied) {
            process.kill();
            tracee::reap(process.pid);
        }
    }
}

fn copy(batch: &Batch, own: u32, zygote: &mut Tracee, slot: u32) -> io::Result<Arc<Process>> {
    let mut child = zygote.spawn(libc::CLONE_FILES)?;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let fd = batch.fd().as_raw_fd();
    let list = Call {
        number: libc::SYS_mmap as u64,
        args: [
            stub::LIST,
            PAGE_SIZE,
            libc::PROT_READ as u64,
            flags as u64,
            fd as u64,
            Batch::offset(slot),
        ],
    };
    // The new list comes last: it takes the place of the one that is being read.
    batch.write(own, &[DIE_WITH_VARVE, list]);
    let made = child.batch(2).map_err(|(_, error)| error);
    batch.wipe(own, 2);
    made?;
    child.release()
}
