//! What is left over and goes on by and by: spaces that have ended, closed files, watchers that are told,
//! mounts that change. All of it is work that calls have caused and nobody waits for.

use crate::Kernel;
use crate::file::{self, aio, epoll, fasync, fdtable, inotify, lock};
use crate::mm::Mm;
use crate::mm::reap::{put_frames, step};
use crate::net::socket::rights;
use crate::port::Ports;
use crate::task::sigio;
use crate::vfs::mount;

/// Takes spaces apart that have ended, frees what files let go of, closes what processes had open, and goes
/// on with files that are closed and with watchers that are told, as long as steps are left.
pub(crate) fn go_on(k: &mut Kernel, p: &mut Ports<'_>) {
    while k.env.steps.may_begin() && (step(k, p) | put_frames(k) | close(k, p) | tell(k, p)) {}
}

/// A part of what is to be closed.
fn close(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let more = fdtable::close_ended(k, p) | file::close_some(k, p) | rights::close_some(k, p);
    more | lock::go_on(k)
}

/// A part of what watchers are to be told, and of what those leave that are gone.
fn tell(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let more = epoll::go_on(k) | sigio::go_on(k) | (!aio::is_done(k) && aio::go_on(k, p));
    aio::complete_ended(k, p);
    more
}

/// Whether there is anything to do for [`go_on`].
pub(crate) fn is_done(k: &Mm) -> bool {
    let told = epoll::is_done(k) && fasync::is_done(k) && aio::is_done(k);
    let closed = fdtable::is_closed(k) && file::is_closed(k) && rights::is_closed(k);
    k.ended.is_empty() && !k.frames.owes() && closed && told && lock::is_done(k)
}

/// Takes apart what is left until no more is used than may be; `false` if there was nothing.
pub(crate) fn make_room(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let any = !is_done(k) || !mount::is_clear(k);
    let more = |k: &mut Kernel, p: &mut Ports<'_>| {
        put_frames(k) || step(k, p) || close(k, p) || tell(k, p) || clear_mounts(k, p)
    };
    while k.frames.is_short() && more(k, p) {}
    any
}

/// A part of taking mounts and file systems away that nobody refers to any more.
fn clear_mounts(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    inotify::tell_unmounted(k, p) | mount::clear(k, p)
}

/// Goes on with changes of mounts, and with what they have left over, until so many steps of the input have
/// been taken.
pub(crate) fn change_mounts(k: &mut Kernel, p: &mut Ports<'_>, most: u64) {
    while k.env.steps.spent() < most
        && k.env.steps.may_begin()
        && (mount::job::step(k, p) | clear_mounts(k, p))
    {}
}
