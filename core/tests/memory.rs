//! Memory calls as the host sees them: barriers that reach threads which run, rights of pages.

mod guest;

use guest::{boot, call, thread};
use varve_core::event::Output;
use varve_core::machine::{Access, Prot, Trap};

const MMAP: u64 = 9;
const MEMBARRIER: u64 = 324;
const GLOBAL: u64 = 1;
const PRIVATE: u64 = 8;
const REGISTER_PRIVATE: u64 = 16;
const EPERM: i64 = 1;
const PROT_WRITE: u64 = 2;
/// `MAP_PRIVATE | MAP_ANONYMOUS`.
const ANON: u64 = 0x22;

#[test]
fn a_barrier_waits_for_the_threads_that_run() {
    let mut m = boot();
    let first = m.first();
    // Nobody else runs: nobody is asked.
    assert_eq!(call(&mut m, first, MEMBARRIER, &[GLOBAL, 0]), 0);
    let second = thread(&mut m, first);
    assert_eq!(call(&mut m, first, MEMBARRIER, &[PRIVATE, 0]), -EPERM);
    assert_eq!(call(&mut m, first, MEMBARRIER, &[REGISTER_PRIVATE, 0]), 0);
    for command in [GLOBAL, PRIVATE] {
        let log = m.log.len();
        assert_eq!(call(&mut m, first, MEMBARRIER, &[command, 0]), 0);
        // The machine interrupted the second thread in between, and let it go on.
        assert_eq!(m.log.len() - log, 2, "a call and an interruption");
        assert!(m.threads[&second].runs);
    }
}

#[test]
fn memory_that_can_only_be_written_can_be_read_too() {
    let mut m = boot();
    let first = m.first();
    let at = call(
        &mut m,
        first,
        MMAP,
        &[0, 4096, PROT_WRITE, ANON, u64::MAX, 0],
    ) as u64;
    let regs = m.threads[&first].regs;
    let access = Some(Access::Read);
    m.trap(first, regs, Trap::Fault { addr: at, access });
    let mapped = m.last.iter().find_map(|output| match output {
        Output::Map { prot, .. } => Some(*prot),
        _ => None,
    });
    assert!(
        mapped.is_some_and(|prot| prot.contains(Prot::READ)),
        "{mapped:?}"
    );
}
