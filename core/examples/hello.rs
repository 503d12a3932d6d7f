//! A kernel without a host: one task writes a file, reads it back and prints it.
//!
//!     cargo run -p varve-core --example hello
//!
//! The in-memory host has no processes and no clock. A guest is whoever issues system calls in its name; time
//! passes when the host says so. So a run can be repeated to the last bit.

use varve_core::abi::{Errno, raw::general as linux};
use varve_core::event::ExitStatus;
use varve_core::memhost::{BARE_ADDR, Machine, MemHost, bare, empty_root};

/// Where the guest keeps a path, a text, and what it reads.
const PATH: u64 = BARE_ADDR;
const TEXT: u64 = BARE_ADDR + 0x100;
const COPY: u64 = BARE_ADDR + 0x200;

fn main() {
    // 4 MiB of memory, no images: the root is an empty tmpfs.
    let host = MemHost::new(1024, Vec::new());
    let mut machine = Machine::boot(bare(empty_root()), host).expect("a kernel that boots");
    let guest = machine.first();

    // What a program would have in its memory.
    let text = b"hello from inside\n";
    machine.poke(guest, PATH, b"/greeting\0").expect("memory");
    machine.poke(guest, TEXT, text).expect("memory");

    let mut call = |number: u32, args: &[u64]| {
        let result = machine.call(guest, number.into(), args);
        result.expect("none of these calls waits")
    };
    let flags = u64::from(linux::O_CREAT | linux::O_RDWR);
    let fd = call(linux::__NR_open, &[PATH, flags, 0o644]) as u64;
    let len = text.len() as u64;
    assert_eq!(call(linux::__NR_write, &[fd, TEXT, len]), len as i64);
    // A wrong descriptor is an error of the call, as under Linux.
    let error = call(linux::__NR_write, &[fd + 1, TEXT, len]);
    assert_eq!(error, Errno::EBADF.as_result() as i64);
    assert_eq!(call(linux::__NR_pread64, &[fd, COPY, 100, 0]), len as i64);

    // Standard output is the host's: the kernel asks it to write, and the guest waits until it has.
    machine.call(guest, linux::__NR_write.into(), &[1, COPY, len]);
    assert_eq!(machine.result(guest), Some(len as i64));
    print!("{}", String::from_utf8_lossy(&machine.written[1]));

    let digest = machine.kernel.digest();
    machine.call(guest, linux::__NR_exit_group.into(), &[7]);
    assert_eq!(machine.exit, Some(ExitStatus::Exited(7)));
    println!(
        "after {} inputs the kernel's digest was {digest:016x}",
        machine.log.len() - 1
    );
}
