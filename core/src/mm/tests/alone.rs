//! Memory management without tasks above it: faults are verdicts.

use alloc::vec::Vec;

use crate::abi::PAGE_SIZE;
use crate::event::Output;
use crate::file::Files;
use crate::fs::FileSystems;
use crate::machine::ThreadId;
use crate::machine::{Access, Prot};
use crate::memhost::MemHost;
use crate::mm::fault::{Bad, Growth, Touch, Verdict, touch};
use crate::mm::vma::{Behind, Name, Vma};
use crate::mm::{Mm, map, reap, space, user};
use crate::vfs::Vfs;

const AT: u64 = 0x40_0000;

#[test]
fn a_touch_is_fixed_or_says_why_not() {
    let mut host = MemHost::new(64, Vec::new());
    let mut ports = host.ports();
    let mut mm = Mm::new(Files::new(Vfs::new(FileSystems::alone(64))));
    let id = space::create(&mut mm);
    let behind = Behind::Anonymous(Name::None);
    let area = Vma::private(AT + 2 * PAGE_SIZE, Prot::READ | Prot::WRITE, behind);
    map::insert(&mut mm, &mut ports, id, AT, area);
    let read_only = Vma::private(AT + 4 * PAGE_SIZE, Prot::READ, behind);
    map::insert(&mut mm, &mut ports, id, AT + 3 * PAGE_SIZE, read_only);
    mm.env.outputs.clear();

    let at = |addr, access| Touch {
        space: id,
        thread: ThreadId(1),
        addr,
        access: Some(access),
        rip: 0x1000,
        rsp: 0x2000,
        limits: Growth {
            stack: 8 << 20,
            total: u64::MAX,
            locked: u64::MAX,
        },
    };
    let fixed = touch(&mut mm, &mut ports, at(AT + 5, Access::Write));
    assert_eq!(fixed, Verdict::Fixed);
    let mapped = mm.env.outputs.iter().any(
        |output| matches!(output, Output::Map { space, addr, .. } if (*space, *addr) == (id, AT)),
    );
    assert!(mapped, "{:?}", mm.env.outputs);
    // The page is there; the host has lost it, or another thread was faster.
    let again = touch(&mut mm, &mut ports, at(AT + 5, Access::Write));
    assert_eq!(again, Verdict::Spurious);

    let beside = touch(&mut mm, &mut ports, at(AT + 2 * PAGE_SIZE, Access::Read));
    assert_eq!(beside, Verdict::Bad(Bad::Unmapped));
    let forbidden = touch(&mut mm, &mut ports, at(AT + 3 * PAGE_SIZE, Access::Write));
    assert_eq!(forbidden, Verdict::Bad(Bad::Forbidden));

    user::write_in(&mut mm, &mut ports, id, AT + PAGE_SIZE - 2, b"word").unwrap();
    let mut back = [0; 4];
    user::read_in(&mut mm, &mut ports, id, AT + PAGE_SIZE - 2, &mut back).unwrap();
    assert_eq!(&back, b"word");
    let beyond = user::write_in(&mut mm, &mut ports, id, AT + 2 * PAGE_SIZE - 2, b"word");
    assert_eq!(beyond, Err(crate::abi::Errno::EFAULT));

    space::release(&mut mm, &mut ports, id);
    while reap::step(&mut mm, &mut ports) {}
    assert_eq!(mm.frames.used(), 0);
}
