//! The fixed area above [`TASK_SIZE`]: stubs, descriptor tables and one block per virtual CPU.
//!
//! It is the same in every address space. A guest can execute the page with the system call stub and nothing
//! else of it, and can write none. Its addresses lie where no program may map anything.
//!
//! | page | contents | guest |
//! | --- | --- | --- |
//! | 0 | where `syscall` goes | executes |
//! | 1 | where exceptions go | - |
//! | 2 | global descriptor table | - |
//! | 3 | interrupt descriptor table | - |
//! | 64.. | one block for each virtual CPU: its task state segment, and the stack that exceptions push their frame on | - |

use std::ops::Range;

use varve_core::abi::{PAGE_SIZE, TASK_SIZE};

/// Where the area begins.
pub(crate) const AREA: u64 = TASK_SIZE;
/// Pages of the area that hold something.
pub(crate) const PAGES: u32 = BLOCKS_PAGE + VCPUS_MAX / BLOCKS_IN_PAGE;
/// Most virtual CPUs that there is room for; also what KVM allows on x86.
pub(crate) const VCPUS_MAX: u32 = 1024;

const STUB_PAGE: u32 = 0;
const EXCEPTION_PAGE: u32 = 1;
const GDT_PAGE: u32 = 2;
const IDT_PAGE: u32 = 3;
const BLOCKS_PAGE: u32 = 64;
const BLOCK: u64 = 256;
const BLOCKS_IN_PAGE: u32 = (PAGE_SIZE / BLOCK) as u32;

/// Where `syscall` arrives (`MSR_LSTAR`).
pub(crate) const SYSCALL_STUB: u64 = AREA + STUB_PAGE as u64 * PAGE_SIZE;
/// The port that the system call stub writes to.
pub(crate) const SYSCALL_PORT: u16 = 0x10;
/// Exception `n` writes to this port plus `n`.
const EXCEPTION_PORT: u16 = 0x20;
/// Exceptions of the processor.
const VECTORS: u64 = 32;
/// Bytes from one exception stub to the next.
const STUB_STEP: u64 = 16;
/// Length of a stub's one instruction, `out imm8, al`.
pub(crate) const OUT_LEN: u64 = 2;

/// Segment selectors, as Linux has them.
pub(crate) const KERNEL_CODE: u16 = 0x10;
pub(crate) const USER_CODE_32: u16 = 0x23;
pub(crate) const USER_DATA: u16 = 0x2b;
pub(crate) const USER_CODE: u16 = 0x33;
/// What `MSR_STAR` holds: `syscall` loads kernel selectors from bits 32, `sysret` user selectors from bits
/// 48.
pub(crate) const STAR: u64 = 0x23 << 48 | (KERNEL_CODE as u64) << 32;
/// Selector of the task state segment; only the hidden part of the register counts.
pub(crate) const TASK_STATE: u16 = 0x40;

/// As Linux lays it out, so that programs that load selectors by number find the same.
const GDT: [u64; 7] = [
    0,
    0x00cf_9b00_0000_ffff, // 0x08: 32-bit code, ring 0
    0x00af_9b00_0000_ffff, // 0x10: 64-bit code, ring 0
    0x00cf_9300_0000_ffff, // 0x18: data, ring 0
    0x00cf_fb00_0000_ffff, // 0x20: 32-bit code, ring 3
    0x00cf_f300_0000_ffff, // 0x28: data, ring 3
    0x00af_fb00_0000_ffff, // 0x30: 64-bit code, ring 3
];

/// Address and limit of the global descriptor table.
pub(crate) const GDT_AT: (u64, u16) = (
    AREA + GDT_PAGE as u64 * PAGE_SIZE,
    (size_of::<[u64; 7]>() - 1) as u16,
);
/// Address and limit of the interrupt descriptor table. A vector beyond it is a general protection fault.
pub(crate) const IDT_AT: (u64, u16) = (
    AREA + IDT_PAGE as u64 * PAGE_SIZE,
    (VECTORS * 16 - 1) as u16,
);

/// Bytes of a 64-bit task state segment before the I/O bitmap.
const TSS_LEN: usize = 104;
/// Ports 0..32, and the byte of ones that the processor wants behind them.
const BITMAP_LEN: usize = 5;
/// Limit of the task state segment.
pub(crate) const TSS_LIMIT: u32 = (TSS_LEN + BITMAP_LEN - 1) as u32;

/// How a page of the area is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Not at all.
    None,
    /// The guest executes it.
    Guest,
    /// Ring 0 executes it.
    Code,
    /// Ring 0 reads it.
    Read,
    /// Ring 0 writes it.
    Write,
}

/// How page `page` of the area is mapped.
pub(crate) fn access(page: u32) -> Access {
    match page {
        STUB_PAGE => Access::Guest,
        EXCEPTION_PAGE => Access::Code,
        GDT_PAGE | IDT_PAGE => Access::Read,
        BLOCKS_PAGE..PAGES => Access::Write,
        _ => Access::None,
    }
}

/// The first pages of the area, up to the blocks: page number, offset in it, bytes.
pub(crate) fn contents() -> Vec<(u32, usize, Vec<u8>)> {
    let out = |port: u16| vec![0xe6, port as u8];
    // `hlt` everywhere else: whoever jumps there gets what a jump to nowhere gives.
    let fill = || vec![0xf4; PAGE_SIZE as usize];
    let gdt = GDT.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let mut contents = vec![
        (STUB_PAGE, 0, fill()),
        (STUB_PAGE, 0, out(SYSCALL_PORT)),
        (EXCEPTION_PAGE, 0, fill()),
        (GDT_PAGE, 0, gdt),
    ];
    for vector in 0..VECTORS {
        let at = vector * STUB_STEP;
        contents.push((
            EXCEPTION_PAGE,
            at as usize,
            out(EXCEPTION_PORT + vector as u16),
        ));
        let stub = AREA + u64::from(EXCEPTION_PAGE) * PAGE_SIZE + at;
        let gate = gate(stub, matches!(vector, 3 | 4));
        contents.push((IDT_PAGE, vector as usize * 16, gate.to_vec()));
    }
    contents
}

/// An interrupt gate; `user`: an `int` instruction may use it.
fn gate(stub: u64, user: bool) -> [u8; 16] {
    let kind: u64 = if user { 0xee00 } else { 0x8e00 };
    let low =
        stub & 0xffff | u64::from(KERNEL_CODE) << 16 | (kind << 32) | (stub >> 16 & 0xffff) << 48;
    let mut gate = [0; 16];
    gate[..8].copy_from_slice(&low.to_le_bytes());
    gate[8..].copy_from_slice(&(stub >> 32).to_le_bytes());
    gate
}

/// The exception whose stub stands at or just before `rip`, if it writes to `port`.
pub(crate) fn exception(port: u16, rip: u64) -> Option<u8> {
    let vector = u64::from(port.checked_sub(EXCEPTION_PORT)?);
    let stub = AREA + u64::from(EXCEPTION_PAGE) * PAGE_SIZE + vector * STUB_STEP;
    (vector < VECTORS && (rip == stub || rip == stub + OUT_LEN)).then_some(vector as u8)
}

/// Whether an exit at `rip` through `port` came from the system call stub.
pub(crate) fn is_syscall(port: u16, rip: u64) -> bool {
    port == SYSCALL_PORT && (rip == SYSCALL_STUB || rip == SYSCALL_STUB + OUT_LEN)
}

/// Whether the processor pushes an error code for an exception (Intel SDM 3A, table 6-1).
pub(crate) fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// The block of one virtual CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block(pub u32);

impl Block {
    /// The page of the area it lies in, and its offset there.
    pub(crate) fn place(self) -> (u32, usize) {
        let page = BLOCKS_PAGE + self.0 / BLOCKS_IN_PAGE;
        (page, (u64::from(self.0 % BLOCKS_IN_PAGE) * BLOCK) as usize)
    }

    /// Its address in the guest, which is that of the task state segment.
    pub(crate) fn address(self) -> u64 {
        AREA + u64::from(BLOCKS_PAGE) * PAGE_SIZE + u64::from(self.0) * BLOCK
    }

    /// Where in the block an exception's frame lies: error code (if there is one), RIP, CS, RFLAGS, RSP, SS.
    pub(crate) const FRAME: Range<usize> = BLOCK as usize - 48..BLOCK as usize;

    /// The task state segment: the stack for exceptions, and the ports. `stub_port`: user mode may write to
    /// [`SYSCALL_PORT`], because this KVM enters the system call stub in user mode.
    pub(crate) fn task_state(self, stub_port: bool) -> Vec<u8> {
        let mut bytes = vec![0; TSS_LEN];
        bytes[4..12].copy_from_slice(&(self.address() + BLOCK).to_le_bytes());
        bytes[102..104].copy_from_slice(&(TSS_LEN as u16).to_le_bytes());
        bytes.resize(TSS_LEN + BITMAP_LEN, 0xff);
        if stub_port {
            let port = usize::from(SYSCALL_PORT);
            bytes[TSS_LEN + port / 8] &= !(1 << (port % 8));
        }
        bytes
    }
}

const _: () = {
    assert!(TSS_LEN + BITMAP_LEN <= Block::FRAME.start);
    assert!(
        PAGES <= 255,
        "the area ends below the last page of user addresses"
    );
    assert!(VCPUS_MAX.is_multiple_of(BLOCKS_IN_PAGE));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lie_in_their_pages_and_apart() {
        let last = Block(VCPUS_MAX - 1);
        assert_eq!(last.place().0, PAGES - 1);
        for block in [Block(0), Block(15), Block(16), last] {
            let (page, offset) = block.place();
            assert_eq!(
                block.address(),
                AREA + u64::from(page) * PAGE_SIZE + offset as u64
            );
            assert!(offset + BLOCK as usize <= PAGE_SIZE as usize);
            assert_eq!(access(page), Access::Write);
        }
        assert_eq!(access(PAGES), Access::None);
    }

    #[test]
    fn exits_are_told_by_port_and_place() {
        let stub = AREA + PAGE_SIZE + 14 * STUB_STEP;
        assert_eq!(exception(0x20 + 14, stub), Some(14));
        assert_eq!(exception(0x20 + 14, stub + 2), Some(14));
        assert_eq!(exception(0x20 + 13, stub), None);
        assert_eq!(exception(SYSCALL_PORT, SYSCALL_STUB), None);
        assert!(is_syscall(SYSCALL_PORT, SYSCALL_STUB + 2));
        assert!(!is_syscall(SYSCALL_PORT, 0x40_0000));
    }

    #[test]
    fn only_the_stubs_port_is_open() {
        let open = Block(3).task_state(true);
        let bits: u32 = open[TSS_LEN..].iter().map(|byte| byte.count_zeros()).sum();
        assert_eq!(bits, 1);
        assert!(
            Block(3).task_state(false)[TSS_LEN..]
                .iter()
                .all(|&byte| byte == 0xff)
        );
    }
}
