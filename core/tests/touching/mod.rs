//! An allocator that puts everything on pages of its own, and a count of those that some code looks at.
//!
//! What a kernel looks at is what it works through: a search in a tree of many things touches a few pages, a
//! walk over all of them touches them all. So the count says how the work grows, however the code goes about
//! it, and it is the same on every machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

const PAGE: usize = 4096;
/// Addresses of which a part is used.
const SPACE: usize = 1 << 37;
/// Blocks of up to so many pages are used again.
const KINDS: usize = 64;
/// More is not counted.
const MOST: usize = 5000;

/// Where the pages are, and the first of them that was never used.
static BASE: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Blocks to be used again, by their pages: each begins with the address of the next.
static FREE: [AtomicUsize; KINDS + 1] = [const { AtomicUsize::new(0) }; KINDS + 1];
static BUSY: AtomicBool = AtomicBool::new(false);
/// How far pages are out of reach now, and how many have been looked at.
static GUARDED: AtomicUsize = AtomicUsize::new(0);
static TOUCHED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static APART: Cell<bool> = const { Cell::new(false) };
}

/// The allocator: the system's, and pages for threads that are in [`apart`].
pub struct Touching;

fn is_ours(at: usize) -> bool {
    let base = BASE.load(SeqCst);
    base != 0 && (base..base + SPACE).contains(&at)
}

fn locked<R>(run: impl FnOnce() -> R) -> R {
    while BUSY.swap(true, SeqCst) {
        std::hint::spin_loop();
    }
    let result = run();
    BUSY.store(false, SeqCst);
    result
}

fn pages(layout: Layout) -> usize {
    layout.size().div_ceil(PAGE).max(1)
}

fn take(pages: usize) -> *mut u8 {
    locked(|| {
        if let Some(first) = FREE.get(pages).map(|free| free.load(SeqCst))
            && first != 0
        {
            let at = with_exposed_provenance_mut::<u8>(first);
            // SAFETY: a free block of ours begins with the address of the next one.
            FREE[pages].store(unsafe { at.cast::<usize>().read() }, SeqCst);
            return at;
        }
        let at = NEXT.fetch_add(pages * PAGE, SeqCst);
        match at + pages * PAGE <= BASE.load(SeqCst) + SPACE {
            true => with_exposed_provenance_mut(at),
            false => null_mut(),
        }
    })
}

fn give(at: *mut u8, pages: usize) {
    locked(|| {
        if let Some(free) = FREE.get(pages) {
            // SAFETY: the block is ours, and nobody's any more.
            unsafe { at.cast::<usize>().write(free.load(SeqCst)) };
            free.store(at.expose_provenance(), SeqCst);
        } else {
            // SAFETY: as above; its memory goes back, its addresses are not used again.
            unsafe { libc::madvise(at.cast(), pages * PAGE, libc::MADV_DONTNEED) };
        }
    });
}

// SAFETY: blocks are whole pages that are given to one at a time, as large as asked for; alignments of more
// than a page, and all that was not asked for in `apart`, are the system's.
unsafe impl GlobalAlloc for Touching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match APART.get() && layout.align() <= PAGE {
            true => take(pages(layout)),
            // SAFETY: the caller's promises are passed on.
            false => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match is_ours(ptr.addr()) {
            true => give(ptr, pages(layout)),
            // SAFETY: the caller's promises are passed on.
            false => unsafe { System.dealloc(ptr, layout) },
        }
    }
}

/// Takes pages out of reach, or gives them back.
fn protect(at: usize, len: usize, rights: i32) {
    // SAFETY: the pages are those of `apart`; who touches them without rights comes to `on_fault`.
    let result = unsafe { libc::mprotect(with_exposed_provenance_mut(at), len, rights) };
    assert_eq!(result, 0, "there are not too many areas");
}

const REACHED: i32 = libc::PROT_READ | libc::PROT_WRITE;

extern "C" fn on_fault(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a siginfo_t of a fault in.
    let at = unsafe { (*info).si_addr() }.addr();
    let guarded = GUARDED.load(SeqCst);
    if !is_ours(at) || guarded == 0 {
        // SAFETY: the fault happens again and ends the process.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        return;
    }
    let (from, len) = match TOUCHED.fetch_add(1, SeqCst) + 1 {
        MOST.. => (BASE.load(SeqCst), guarded),
        _ => (at / PAGE * PAGE, PAGE),
    };
    protect(from, len, REACHED);
}

/// Runs something whose memory can be watched. One at a time.
pub fn apart<R>(run: impl FnOnce() -> R) -> R {
    if BASE.load(SeqCst) == 0 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: new memory.
        let at = unsafe { libc::mmap(null_mut(), SPACE, REACHED, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        NEXT.store(at.expose_provenance(), SeqCst);
        BASE.store(at.expose_provenance(), SeqCst);
        // SAFETY: a handler that calls nothing but mprotect(2) and signal(2).
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            assert_eq!(
                libc::sigaction(libc::SIGSEGV, &raw const action, null_mut()),
                0
            );
        }
    }
    APART.set(true);
    let result = run();
    APART.set(false);
    result
}

/// From here on (`true`) pages that are looked at are counted, until `false`.
pub fn watch(on: bool) {
    let base = BASE.load(SeqCst);
    match on {
        true => {
            // New pages count too.
            let used = (NEXT.load(SeqCst) - base + 256 * PAGE).min(SPACE);
            GUARDED.store(used, SeqCst);
            protect(base, used, libc::PROT_NONE);
        }
        false => {
            let used = GUARDED.load(SeqCst);
            protect(base, used, REACHED);
            GUARDED.store(0, SeqCst);
        }
    }
}

/// How many pages have been looked at since this was asked last.
pub fn touched() -> usize {
    TOUCHED.swap(0, SeqCst)
}
