//! What a personality means (personality(2)).

use crate::machine::Prot;
use crate::task::Cx;

/// Programs are placed where they would be without randomness.
pub(crate) const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;

/// Mappings are placed from below, beginning with the next program.
pub(crate) const ADDR_COMPAT_LAYOUT: u32 = 0x0020_0000;

/// What can be read can be executed, in mappings that are made or changed.
pub(crate) const READ_IMPLIES_EXEC: u32 = 0x0040_0000;

/// Calls that wait do not tell how much of their time is left.
pub(crate) const STICKY_TIMEOUTS: u32 = 0x0400_0000;

/// The next program has its first page mapped, if it may map that.
pub(crate) const MMAP_PAGE_ZERO: u32 = 0x0010_0000;

/// What is taken away by programs with more privileges than their caller (`PER_CLEAR_ON_SETID`).
pub(crate) const CLEANED: u32 =
    READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO;

/// What a program starts without, as every 64-bit one does.
pub(crate) const NOT_INHERITED: u32 = READ_IMPLIES_EXEC;

/// The rights of a mapping that is asked for with these and may be executed.
pub(crate) fn implied_rights(cx: &Cx<'_, '_>, prot: Prot) -> Prot {
    let implied = cx.task().personality & READ_IMPLIES_EXEC != 0;
    match implied && prot.contains(Prot::READ) {
        true => prot | Prot::EXEC,
        false => prot,
    }
}
