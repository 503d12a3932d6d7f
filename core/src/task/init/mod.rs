//! The first process of `--init`: a program of the kernel's own, as Docker has one.
//!
//! A program that is started first has Linux's rules for it: signals without a handler do nothing, and what
//! it does not wait for stays a zombie. With this program before it, which hands signals on and waits for
//! everything, it is a process like any other. It is an ELF file in memory, so that no image need have it.

mod code;

use alloc::vec::Vec;

use crate::abi::{Errno, PAGE_SIZE};
use crate::file;
use crate::file::FileId;
use crate::file::{open, shared};
use crate::fs::inode;
use crate::task::Cx;

/// What processes see as its name.
pub(super) const NAME: &[u8] = b"/sbin/docker-init";
/// The same as `/proc/PID/comm` has it.
pub(super) const COMM: [u8; 15] = *b"docker-init\0\0\0\0";

/// Bytes of the headers before the code.
const HEADERS: u64 = 64 + 56;
/// Where the program is loaded, as the linker does by default.
const BASE: u64 = 0x40_0000;

/// The program as a file that is opened to be executed, with one reference.
///
/// # Errors
/// `ENOMEM`, `ENFILE`.
pub(super) fn open(cx: &mut Cx<'_, '_>) -> Result<FileId, Errno> {
    let image = image();
    let id = shared::memory_file(
        cx.k,
        cx.p,
        b"docker-init",
        0o755,
        (0, 0),
        image.len() as u64,
    )?;
    let written = match file::at(cx.k, id).inode {
        Some(inode) => inode::page_for_write(cx.k, cx.p, inode, 0),
        None => Err(Errno::EIO),
    };
    match written {
        Ok(frame) => {
            cx.p.memory.write(frame.offset(), &image);
            // As what is opened to be executed.
            let program = open::get_exec(cx.k, id);
            file::put(cx.k, cx.p, id);
            Ok(program)
        }
        Err(errno) => {
            file::put(cx.k, cx.p, id);
            Err(errno)
        }
    }
}

/// A static program of one segment.
fn image() -> Vec<u8> {
    const _: () = assert!(HEADERS as usize + code::CODE.len() < PAGE_SIZE as usize);
    const READ_EXECUTE: u32 = 5;
    let size = HEADERS + code::CODE.len() as u64;
    let mut image = Vec::with_capacity(size as usize);
    // Class, byte order, version; then a program (2) for x86-64 (62).
    image.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0");
    for word in [BASE + HEADERS, 64, 0] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    image.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        image.extend_from_slice(&half.to_le_bytes());
    }
    for word in [1, READ_EXECUTE] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, PAGE_SIZE] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    image.extend_from_slice(&code::CODE);
    image
}
