//! The core of varve in a program that has neither the standard library nor libc: it boots a kernel on an
//! in-memory machine, runs some system calls, prints their results and exits with the status of the guest.
//!
//! That it links shows that the core needs `core` and `alloc` alone. All that a host owes it is here: memory,
//! a panic handler, and the functions that compiled code calls for copying.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use varve_core::event::ExitStatus;
use varve_core::memhost::{BARE_ADDR, Machine, MemHost, bare, empty_root};

/// Bytes that the program may allocate; nothing is given back.
const HEAP: usize = 256 << 20;

/// A heap that only grows.
struct Heap {
    bytes: UnsafeCell<[u8; HEAP]>,
    used: AtomicUsize,
}

// SAFETY: the bytes are only reached through pointers from `alloc`, and the counter gives no byte out twice.
unsafe impl Sync for Heap {}

// SAFETY: what is given out is aligned, inside `bytes`, and never given out again.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.bytes.get() as usize;
        let mut place = 0;
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                place = (start + used).next_multiple_of(layout.align()) - start;
                place.checked_add(layout.size()).filter(|&end| end <= HEAP)
            });
        match taken {
            // SAFETY: `place` is inside the bytes.
            Ok(_) => unsafe { self.bytes.get().cast::<u8>().add(place) },
            Err(_) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _ptr: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static HEAP_OF_ALL: Heap = Heap {
    bytes: UnsafeCell::new([0; HEAP]),
    used: AtomicUsize::new(0),
};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut text = String::new();
    let _ = writeln!(text, "{info}");
    print(&text);
    exit(101)
}

global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "and $-16, %rsp",
    "call {run}",
    "ud2",
    run = sym run,
    options(att_syntax)
);

/// write(2) to standard output.
fn print(text: &str) {
    let (number, len) = (1usize, text.len());
    // SAFETY: write(2) reads `len` bytes of the text and changes nothing.
    unsafe {
        asm!("syscall", inlateout("rax") number => _, in("rdi") 1, in("rsi") text.as_ptr(), in("rdx") len, out("rcx") _, out("r11") _);
    }
}

/// exit_group(2).
fn exit(status: u32) -> ! {
    // SAFETY: exit_group(2) does not return.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") status, options(noreturn)) }
}

extern "C" fn run() -> ! {
    let mut machine = match Machine::boot(
        bare(empty_root()),
        MemHost::new(4096, alloc::vec::Vec::new()),
    ) {
        Ok(machine) => machine,
        Err(error) => {
            print(&alloc::format!("boot: {error:?}\n"));
            exit(102)
        }
    };
    let init = machine.first();
    let mut text = String::new();
    let path = BARE_ADDR;
    let data = BARE_ADDR + 64;
    let poked = machine.poke(init, path, b"/file\0").is_ok()
        && machine.poke(init, data, b"from the core\n").is_ok();
    let calls: [(&str, u64, &[u64]); 7] = [
        ("getpid", 39, &[]),
        ("open", 2, &[path, 0o102, 0o600]),
        ("write", 1, &[3, data, 14]),
        ("pread", 17, &[3, data + 64, 100, 0]),
        ("write", 1, &[1, data + 64, 14]),
        ("close", 3, &[4]),
        ("nothing", 9999, &[]),
    ];
    for (name, number, args) in calls {
        let _ = writeln!(text, "{name} {:?}", machine.call(init, number, args));
    }
    let checked = machine.kernel.check();
    machine.call(init, 231, &[7]);
    let _ = writeln!(text, "poked {poked}, checked {checked:?}");
    text.push_str(&String::from_utf8_lossy(&machine.written[1]));
    let _ = writeln!(text, "{:?}", machine.exit);
    print(&text);
    match machine.exit {
        Some(ExitStatus::Exited(code)) => exit(u32::from(code)),
        _ => exit(103),
    }
}

/// Copies bytes upwards.
///
/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller promises both ranges; the direction flag is clear.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags))
    };
    to
}

/// Copies bytes between ranges that may overlap.
///
/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: copying upwards reads each byte before it is overwritten.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: the caller promises both ranges; copying downwards reads each byte first, and the direction
    // flag is cleared again.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") len => _, inout("rdi") to.add(len).sub(1) => _, inout("rsi") from.add(len).sub(1) => _, options(nostack));
    }
    to
}

/// Fills bytes.
///
/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller promises the range; the direction flag is clear.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8, options(nostack, preserves_flags))
    };
    to
}

/// Compares bytes.
///
/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller promises both ranges.
        let (a, b) = unsafe { (one.add(at).read(), other.add(at).read()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// Compares bytes for equality.
///
/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    // SAFETY: passed on.
    unsafe { memcmp(one, other, len) }
}

/// Named by the tables of the compiled `alloc`, never called: panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by the compiled `alloc`, never called: panics abort.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(104)
}
