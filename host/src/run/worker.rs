//! Workers: the host threads that run one guest thread each, from its start to its end.

use varve_core::abi::Errno;
use varve_core::port::Xstate as _;

use super::*;

impl<P: Platform> Shared<P> {
    pub(super) fn start(
        self: &Arc<Self>,
        state: &mut State,
        own: &mut Option<(ThreadId, &mut P::Thread)>,
        thread: ThreadId,
        space: SpaceId,
        regs: Regs,
        parent: Option<ThreadId>,
    ) {
        if let Some(parent) = parent
            && !state.parked.contains_key(&thread)
        {
            let mut bytes = vec![0; self.platform.xstate_size()];
            let mut port = XstatePort {
                size: bytes.len(),
                own: None,
                parked: &mut state.parked,
            };
            match own {
                Some((id, guest)) if *id == parent => drop(guest.read_xstate(&mut bytes)),
                _ => XstatePort::<P::Thread>::read(&mut port, parent, &mut bytes),
            }
            state.parked.insert(
                thread,
                Parked {
                    state: bytes,
                    changed: true,
                },
            );
        }
        if let Some((_, guest)) = own
            && let Err(error) = self.platform.prepare_sibling(guest, space)
        {
            return not_started(state, thread, regs, &error);
        }
        reap(state);
        let mailbox = match Mailbox::new() {
            Ok(mailbox) => Arc::new(mailbox),
            Err(error) => return not_started(state, thread, regs, &error),
        };
        state.workers.insert(
            thread,
            Worker {
                mailbox: mailbox.clone(),
                interrupter: None,
            },
        );
        let shared = self.clone();
        let spawned = thread::Builder::new()
            .name(format!("guest-{}", thread.0))
            .stack_size(STACK)
            .spawn(move || {
                shared.guarded(|| shared.work(thread, space, regs, &mailbox));
                shared.lock().leaving.push(thread);
            });
        match spawned {
            Ok(handle) => drop(state.threads.insert(thread, handle)),
            Err(error) => not_started(state, thread, regs, &error),
        }
    }

    /// The life of a worker.
    fn work(self: &Arc<Self>, id: ThreadId, space: SpaceId, mut regs: Regs, mailbox: &Mailbox) {
        let mut guest = match self.platform.new_thread(space) {
            Ok(guest) => guest,
            Err(error) => {
                let mut state = self.lock();
                // The thread may have been ended, and its space with it, before it began.
                if state.workers.contains_key(&id) {
                    (state.sink)(SinkLine::Log(Level::Error, &error.to_string()));
                    let lost = Input::Trap {
                        thread: id,
                        regs,
                        trap: Trap::Lost,
                    };
                    self.handle(&mut state, None, lost);
                }
                return;
            }
        };
        {
            let mut state = self.lock();
            // Gone already if the thread was ended meanwhile: nobody could stop it any more.
            match state.workers.get_mut(&id) {
                Some(worker) => worker.interrupter = Some(guest.interrupter()),
                None => return,
            }
            restore(&mut state, id, &mut guest);
        }
        loop {
            let trap = match guest.run(&mut regs) {
                Ok(trap) => trap,
                Err(error) => {
                    let mut state = self.lock();
                    if state.workers.contains_key(&id) {
                        (state.sink)(SinkLine::Log(Level::Error, &error.to_string()));
                    }
                    Trap::Lost
                }
            };
            {
                let mut state = self.lock();
                if !state.workers.contains_key(&id) {
                    return;
                }
                let input = Input::Trap {
                    thread: id,
                    regs,
                    trap,
                };
                self.handle(&mut state, Some((id, &mut guest)), input);
            }
            match self.next(id, &mut guest, mailbox) {
                Some(next) => regs = next,
                None => return,
            }
        }
    }

    /// Deals with the mailbox until the thread may run again; `None` when it has ended.
    fn next(
        self: &Arc<Self>,
        id: ThreadId,
        guest: &mut P::Thread,
        mailbox: &Mailbox,
    ) -> Option<Regs> {
        let mut saved = false;
        let mut lost = false;
        loop {
            let message = match mailbox.try_take() {
                Some(message) => message,
                None => {
                    if !saved {
                        // Others may look at this thread's floating-point state from now on.
                        let mut state = self.lock();
                        if mailbox.is_empty() && state.workers.contains_key(&id) {
                            let mut bytes = vec![0; self.platform.xstate_size()];
                            if guest.read_xstate(&mut bytes).is_ok() {
                                state.parked.insert(
                                    id,
                                    Parked {
                                        state: bytes,
                                        changed: false,
                                    },
                                );
                            }
                            guest.park();
                            saved = true;
                        }
                    }
                    mailbox.wait()
                }
            };
            match message {
                Message::Resume(regs) if lost => {
                    // It is still where it was, with a program that is meant for another space.
                    let mut state = self.lock();
                    if !state.workers.contains_key(&id) {
                        return None;
                    }
                    let input = Input::Trap {
                        thread: id,
                        regs,
                        trap: Trap::Lost,
                    };
                    self.handle(&mut state, Some((id, &mut *guest)), input);
                }
                Message::Resume(regs) => {
                    if saved {
                        restore(&mut self.lock(), id, guest);
                    }
                    return Some(regs);
                }
                Message::Move(space) => {
                    if let Err(error) = self.platform.enter(guest, space) {
                        let mut state = self.lock();
                        (state.sink)(SinkLine::Log(Level::Error, &error.to_string()));
                        lost = true;
                    }
                }
                Message::Host(op, call) => {
                    let result = self.perform(op, &call, mailbox);
                    let mut state = self.lock();
                    state.operations.remove(&op);
                    let own = Some((id, &mut *guest));
                    self.handle(&mut state, own, Input::Completed { op, result });
                }
                Message::Cancel(_) => {}
                Message::End => return None,
            }
        }
    }

    fn perform(
        &self,
        op: OpId,
        call: &varve_core::event::HostCall,
        mailbox: &Mailbox,
    ) -> Result<varve_core::event::HostResult, Errno> {
        loop {
            match self.streams.perform(call, mailbox.wakeup()) {
                Err(Errno::EINTR) => {
                    mailbox.clear_wakeup();
                    if mailbox.gives_up(op) {
                        return Err(Errno::EINTR);
                    }
                }
                result => return result,
            }
        }
    }
}

/// Keeps a thread that will never run for the kernel to hear of.
fn not_started(state: &mut State, thread: ThreadId, regs: Regs, error: &dyn std::error::Error) {
    let line = format!("the host has no room for a guest thread: {error}");
    (state.sink)(SinkLine::Log(Level::Error, &line));
    state.workers.remove(&thread);
    state.unstarted.push((thread, regs));
}

/// Waits for host threads that are done: until then they keep their stacks.
fn reap(state: &mut State) {
    let State {
        leaving, threads, ..
    } = state;
    leaving.retain(|thread| {
        let done = threads
            .get(thread)
            .is_none_or(|handle| handle.is_finished());
        if done && let Some(handle) = threads.remove(thread) {
            let _ = handle.join();
        }
        !done
    });
}

/// Gives a guest thread the floating-point state that the kernel changed while it was parked.
fn restore<T: GuestThread>(state: &mut State, id: ThreadId, guest: &mut T) {
    if let Some(parked) = state.parked.remove(&id)
        && parked.changed
        && !matches!(guest.write_xstate(&parked.state), Ok(true))
    {
        (state.sink)(SinkLine::Log(
            Level::Error,
            "the floating-point state could not be restored",
        ));
    }
}
