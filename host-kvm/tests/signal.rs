//! The signal of the KVM host takes nothing away that the process has.

use varve_host_kvm::KickSignal;

extern "C" fn own(_: libc::c_int) {}

/// Installs a handler, if one is given; gives the one that was there.
fn handler(signal: libc::c_int, new: Option<extern "C" fn(libc::c_int)>) -> usize {
    // SAFETY: `sigaction` is plain data; zeros are an empty mask and no flags.
    let (mut action, mut old): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    if let Some(new) = new {
        action.sa_sigaction = new as *const () as usize;
    }
    let wanted = new.map_or(std::ptr::null(), |_| &raw const action);
    // SAFETY: both structures are live, and the handler does nothing.
    assert_eq!(unsafe { libc::sigaction(signal, wanted, &raw mut old) }, 0);
    old.sa_sigaction
}

#[test]
fn a_signal_is_taken_once_and_from_nobody() {
    let free = libc::SIGRTMIN() + 4;
    let taken = libc::SIGRTMIN() + 5;
    assert_eq!(handler(free, None), libc::SIG_DFL);
    let first = KickSignal::install_as(free).unwrap();
    let installed = handler(free, None);
    assert_ne!(installed, libc::SIG_DFL);
    assert_eq!(KickSignal::install_as(free).unwrap(), first);
    assert_eq!(handler(free, None), installed);
    assert_ne!(KickSignal::install().unwrap(), first);

    handler(taken, Some(own));
    let refused = KickSignal::install_as(taken).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBUSY));
    assert_eq!(handler(taken, None), own as *const () as usize);
    for other in [libc::SIGTERM, libc::SIGUSR1, libc::SIGRTMAX() + 1, 0, -1] {
        let refused = KickSignal::install_as(other).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "{other}");
    }
}
