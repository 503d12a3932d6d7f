//! Classic BPF as seccomp(2) has it: programs that look at one system call and return what becomes of it.
//!
//! A [`Program`] is one that Linux would accept: jumps go forward and stay inside, the last instruction
//! returns, scratch words are read only after they were written on every way there. So it ends after at most
//! as many steps as it has instructions.

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Errno;

/// Most instructions of a program (`BPF_MAXINSNS`).
pub(crate) const INSNS_MAX: usize = 4096;
/// Scratch words (`BPF_MEMWORDS`).
const WORDS: usize = 16;
/// Bytes of [`Data`].
const DATA_LEN: u32 = 64;

/// `struct sock_filter`
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Insn {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// `struct seccomp_data`: the system call that a program looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub number: u32,
    pub arch: u32,
    /// Address behind the instruction that made the call.
    pub ip: u64,
    pub args: [u64; 6],
}

impl Data {
    /// The 32-bit word at an offset that is a multiple of 4.
    fn word(&self, offset: u32) -> u32 {
        let half = |word: u64| match offset & 4 {
            0 => word as u32,
            _ => (word >> 32) as u32,
        };
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => half(self.ip),
            _ => {
                let arg = self.args.get((offset as usize / 8).wrapping_sub(2));
                half(arg.copied().unwrap_or(0))
            }
        }
    }
}

// Instruction classes, sizes, modes, operations and sources (linux/bpf_common.h).
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const XOR: u16 = 0xa0;
const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;
const X: u16 = 0x08;
const A: u16 = 0x10;
const TAX: u16 = 0x00;
const TXA: u16 = 0x80;

/// Where an operand comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Source {
    K(u32),
    X,
}

/// A checked instruction. Jumps are distances from the next one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Op {
    LoadData(u32),
    Load(u32),
    LoadWord(u8),
    LoadX(u32),
    LoadXWord(u8),
    Store(u8),
    StoreX(u8),
    Alu(u16, Source),
    Jump(u32),
    JumpIf(u16, Source, u8, u8),
    Return(u32),
    ReturnA,
    Tax,
    Txa,
}

/// A program that Linux would accept.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Program(Vec<Op>);

/// Bytes of an instruction.
pub(crate) const INSN_SIZE: usize = size_of::<Op>();

impl Program {
    /// Checks a program as `bpf_check_classic()` and `seccomp_check_filter()` do. `EINVAL`.
    pub(crate) fn check(insns: &[Insn]) -> Result<Program, Errno> {
        if insns.is_empty() || insns.len() > INSNS_MAX {
            return Err(Errno::EINVAL);
        }
        let mut ops = Vec::with_capacity(insns.len());
        for (at, insn) in insns.iter().enumerate() {
            let behind = insns.len() - at - 1;
            ops.push(decode(insn, behind).ok_or(Errno::EINVAL)?);
        }
        match ops.last() {
            Some(Op::Return(_) | Op::ReturnA) => {}
            _ => return Err(Errno::EINVAL),
        }
        match words_are_written_first(&ops) {
            true => Ok(Program(ops)),
            false => Err(Errno::EINVAL),
        }
    }

    /// Number of instructions.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the program returns for a system call.
    pub(crate) fn run(&self, data: &Data) -> u32 {
        let (mut a, mut x) = (0u32, 0u32);
        let mut words = [0u32; WORDS];
        let mut at = 0;
        while let Some(&op) = self.0.get(at) {
            at += 1;
            let word = |index: u8| words.get(usize::from(index)).copied().unwrap_or(0);
            match op {
                Op::LoadData(offset) => a = data.word(offset),
                Op::Load(k) => a = k,
                Op::LoadWord(index) => a = word(index),
                Op::LoadX(k) => x = k,
                Op::LoadXWord(index) => x = word(index),
                Op::Store(index) | Op::StoreX(index) => {
                    let value = if matches!(op, Op::Store(_)) { a } else { x };
                    if let Some(word) = words.get_mut(usize::from(index)) {
                        *word = value;
                    }
                }
                Op::Alu(operation, source) => match alu(operation, a, operand(source, x)) {
                    Some(value) => a = value,
                    // A division by zero ends the program.
                    None => return 0,
                },
                Op::Jump(distance) => at += distance as usize,
                Op::JumpIf(condition, source, yes, no) => {
                    let holds = compare(condition, a, operand(source, x));
                    at += usize::from(if holds { yes } else { no });
                }
                Op::Return(k) => return k,
                Op::ReturnA => return a,
                Op::Tax => x = a,
                Op::Txa => a = x,
            }
        }
        0
    }
}

fn operand(source: Source, x: u32) -> u32 {
    match source {
        Source::K(k) => k,
        Source::X => x,
    }
}

fn alu(operation: u16, a: u32, b: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(b),
        SUB => a.wrapping_sub(b),
        MUL => a.wrapping_mul(b),
        DIV => return a.checked_div(b),
        OR => a | b,
        AND => a & b,
        LSH => a.wrapping_shl(b),
        RSH => a.wrapping_shr(b),
        XOR => a ^ b,
        _ => a.wrapping_neg(),
    })
}

fn compare(condition: u16, a: u32, b: u32) -> bool {
    match condition {
        JEQ => a == b,
        JGT => a > b,
        JGE => a >= b,
        _ => a & b != 0,
    }
}

/// An instruction with `behind` others behind it, if it is one of those that filters may have.
fn decode(insn: &Insn, behind: usize) -> Option<Op> {
    let Insn { code, jt, jf, k } = *insn;
    let inside = |distance: usize| distance < behind;
    let word = || u8::try_from(k).ok().filter(|&k| usize::from(k) < WORDS);
    let source = match code & X {
        0 => Source::K(k),
        _ => Source::X,
    };
    let (class, rest) = (code & 7, code & !7);
    Some(match (class, rest) {
        (LD, ABS) if k < DATA_LEN && k.is_multiple_of(4) => Op::LoadData(k),
        (LD, IMM) => Op::Load(k),
        (LD, LEN) => Op::Load(DATA_LEN),
        (LD, MEM) => Op::LoadWord(word()?),
        (LDX, IMM) => Op::LoadX(k),
        (LDX, LEN) => Op::LoadX(DATA_LEN),
        (LDX, MEM) => Op::LoadXWord(word()?),
        (ST, 0) => Op::Store(word()?),
        (STX, 0) => Op::StoreX(word()?),
        (ALU, NEG) => Op::Alu(NEG, Source::K(0)),
        (ALU, _) => match (rest & !X, source) {
            (DIV, Source::K(0)) => return None,
            (LSH | RSH, Source::K(32..)) => return None,
            (operation @ (ADD | SUB | MUL | DIV | OR | AND | LSH | RSH | XOR), source) => {
                Op::Alu(operation, source)
            }
            _ => return None,
        },
        (JMP, JA) if inside(k as usize) => Op::Jump(k),
        (JMP, _) => match rest & !X {
            condition @ (JEQ | JGT | JGE | JSET)
                if inside(usize::from(jt)) && inside(usize::from(jf)) =>
            {
                Op::JumpIf(condition, source, jt, jf)
            }
            _ => return None,
        },
        (RET, 0) => Op::Return(k),
        (RET, A) => Op::ReturnA,
        (MISC, TAX) => Op::Tax,
        (MISC, TXA) => Op::Txa,
        _ => return None,
    })
}

/// Whether no scratch word can be read before it was written (`check_load_and_stores()`).
fn words_are_written_first(ops: &[Op]) -> bool {
    const ALL: u16 = u16::MAX;
    // What is surely written when an instruction is reached by a jump; and when it is reached at all.
    let mut at_jump = vec![ALL; ops.len()];
    let mut written = 0u16;
    for (at, &op) in ops.iter().enumerate() {
        written &= at_jump[at];
        let mut jump = |distance: usize| {
            if let Some(mask) = at_jump.get_mut(at + 1 + distance) {
                *mask &= written;
            }
        };
        match op {
            Op::Store(word) | Op::StoreX(word) => written |= 1 << word,
            Op::LoadWord(word) | Op::LoadXWord(word) if written & 1 << word == 0 => return false,
            Op::Jump(distance) => {
                jump(distance as usize);
                written = ALL;
            }
            Op::JumpIf(_, _, yes, no) => {
                jump(usize::from(yes));
                jump(usize::from(no));
                written = ALL;
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Data = Data {
        number: 39,
        arch: 0xc000_003e,
        ip: 0x1_2345_6789,
        args: [1, 2 << 32 | 3, 4, 5, 6, 7 << 32],
    };

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }

    fn run(insns: &[Insn]) -> u32 {
        Program::check(insns).unwrap().run(&CALL)
    }

    fn refused(insns: &[Insn]) -> bool {
        Program::check(insns) == Err(Errno::EINVAL)
    }

    #[test]
    fn every_word_of_the_call_can_be_loaded() {
        let all = [
            39,
            0xc000_003e,
            0x2345_6789,
            1,
            1,
            0,
            3,
            2,
            4,
            0,
            5,
            0,
            6,
            0,
            0,
            7,
        ];
        for (index, &wanted) in all.iter().enumerate() {
            let load = insn(LD | ABS, 0, 0, 4 * index as u32);
            assert_eq!(run(&[load, insn(RET | A, 0, 0, 0)]), wanted, "{index}");
        }
        let returns = insn(RET | A, 0, 0, 0);
        for k in [1, 2, 62, 64, 0x1000, 0xffff_f000] {
            assert!(refused(&[insn(LD | ABS, 0, 0, k), returns]), "{k}");
        }
        assert_eq!(run(&[insn(LD | LEN, 0, 0, 9), returns]), 64);
        // Bytes, half words and indirect loads are for packets.
        for code in [0x28, 0x30, 0x40, 0x48, 0x50, 0xb1] {
            assert!(refused(&[insn(code, 0, 0, 0), returns]), "{code:#x}");
        }
    }

    #[test]
    fn arithmetic_is_that_of_32_bits() {
        for (operation, k, wanted) in [
            (ADD, u32::MAX, 38),
            (SUB, 40, u32::MAX),
            (MUL, 1 << 31, 1 << 31),
            (DIV, 2, 19),
            (OR, 0x100, 0x127),
            (AND, 6, 6),
            (LSH, 31, 1 << 31),
            (RSH, 1, 19),
            (XOR, 1, 38),
        ] {
            let end = insn(RET | A, 0, 0, 0);
            let load = insn(LD | ABS, 0, 0, 0);
            assert_eq!(run(&[load, insn(ALU | operation, 0, 0, k), end]), wanted);
            let by_x = [
                insn(LDX | IMM, 0, 0, k),
                load,
                insn(ALU | operation | X, 0, 0, 0),
                end,
            ];
            assert_eq!(run(&by_x), wanted);
        }
        let end = insn(RET | A, 0, 0, 0);
        assert_eq!(
            run(&[insn(LD, 0, 0, 1), insn(ALU | NEG, 0, 0, 0), end]),
            u32::MAX
        );
        for bad in [
            insn(ALU | DIV, 0, 0, 0),
            insn(ALU | LSH, 0, 0, 32),
            insn(ALU | RSH, 0, 0, 32),
            insn(ALU | 0x90, 0, 0, 3),
            insn(ALU | 0xb0, 0, 0, 3),
        ] {
            assert!(refused(&[bad, end]), "{bad:?}");
        }
        // By zero at run time: the program ends with 0.
        let divides = [
            insn(LD, 0, 0, 5),
            insn(ALU | DIV | X, 0, 0, 0),
            insn(RET, 0, 0, 7),
        ];
        assert_eq!(run(&divides), 0);
    }

    #[test]
    fn jumps_go_forward_and_stay_inside() {
        let end = [insn(RET, 0, 0, 1), insn(RET, 0, 0, 2)];
        for (condition, k, wanted) in [
            (JEQ, 39, 1),
            (JEQ, 38, 2),
            (JGT, 38, 1),
            (JGT, 39, 2),
            (JGE, 39, 1),
            (JGE, 40, 2),
            (JSET, 1, 1),
            (JSET, 8, 2),
        ] {
            let load = insn(LD | ABS, 0, 0, 0);
            let test = insn(JMP | condition, 0, 1, k);
            assert_eq!(run(&[load, test, end[0], end[1]]), wanted);
        }
        assert_eq!(run(&[insn(JMP | JA, 0, 0, 1), end[0], end[1]]), 2);
        for bad in [
            insn(JMP | JA, 0, 0, 2),
            insn(JMP | JA, 0, 0, u32::MAX),
            insn(JMP | JEQ, 2, 0, 0),
            insn(JMP | JEQ, 0, 2, 0),
            insn(JMP | 0x50, 0, 0, 0),
        ] {
            assert!(refused(&[bad, end[0], end[1]]), "{bad:?}");
        }
        assert!(refused(&[]));
        assert!(refused(&[insn(LD, 0, 0, 0)]), "does not return");
        assert!(refused(&vec![end[0]; INSNS_MAX + 1]));
        assert!(Program::check(&vec![end[0]; INSNS_MAX]).is_ok());
    }

    #[test]
    fn scratch_words_are_written_before_they_are_read() {
        let end = insn(RET | A, 0, 0, 0);
        let (store, load) = (insn(ST, 0, 0, 3), insn(LD | MEM, 0, 0, 3));
        let five = insn(LD, 0, 0, 5);
        assert_eq!(run(&[five, store, insn(LD, 0, 0, 9), load, end]), 5);
        assert!(refused(&[load, end]));
        // One way round the store.
        let test = insn(JMP | JEQ, 0, 1, 0);
        assert!(refused(&[test, store, load, end]));
        let both = [five, test, store, insn(JMP | JA, 0, 0, 1), store, load, end];
        assert!(refused(&both), "one jumps to the second store's end");
        assert!(refused(&[insn(ST, 0, 0, 16), end]));
        let x = [
            insn(LDX, 0, 0, 6),
            insn(STX, 0, 0, 15),
            insn(LDX | MEM, 0, 0, 15),
            insn(MISC | TXA, 0, 0, 0),
            insn(MISC | TAX, 0, 0, 0),
            insn(ALU | ADD | X, 0, 0, 0),
            end,
        ];
        assert_eq!(run(&x), 12);
    }
}
