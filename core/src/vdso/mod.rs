//! The vDSO (vdso(7)): functions that tell the time without a system call.
//!
//! Two pages in every address space: data that the kernel writes, `[vvar]`, and a library that reads it,
//! `[vdso]`. The library computes the time from the processor's time stamp counter and [`ClockParameters`],
//! which the host hands in and computes its own time from: so what the functions say and what system calls
//! say is one line. A run whose time must come from its inputs alone has no vDSO.

mod code;

use alloc::vec::Vec;

use zerocopy::{Immutable, IntoBytes};

use crate::abi::{Errno, PAGE_SIZE};
use crate::event::{ClockParameters, Output};
use crate::machine::{Backing, FrameNo, Prot, SpaceId};
use crate::mm::pages::Pte;
use crate::mm::vma::{Behind, Name, Vma, host_rights};
use crate::mm::{Mm, map};
use crate::port::{Ports, WordOffset};

/// Where the code begins in its page; `clock.S` knows it.
const CODE_OFFSET: usize = 0x400;

/// The data page, as `clock.S` reads it.
#[derive(Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
struct Data {
    /// Odd while the rest is being written.
    sequence: u32,
    /// 0: no time here, make the system call.
    valid: u32,
    tsc: u64,
    mult: u64,
    shift: u32,
    pad: u32,
    mono: u64,
    real: u64,
}

/// The two pages, which all address spaces share; the kernel holds a reference on each.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Vdso {
    data: FrameNo,
    code: FrameNo,
    sequence: u32,
}

impl Vdso {
    /// The frames that the kernel holds, for invariant checks.
    pub(crate) fn frames(&self) -> [FrameNo; 2] {
        [self.data, self.code]
    }
}

/// Makes the pages. `ENOMEM`.
pub(crate) fn make(k: &mut Mm, p: &mut Ports<'_>) -> Result<(), Errno> {
    let data = k.frames.alloc(p.memory)?;
    let code = k.frames.alloc(p.memory)?;
    p.memory.write(offset(code), &library());
    k.vdso = Some(Vdso {
        data,
        code,
        sequence: 0,
    });
    Ok(())
}

/// Tells the functions how to compute the time from now on; `None` lets them wait until they are told.
pub(crate) fn set_clock(k: &mut Mm, p: &mut Ports<'_>, clock: Option<ClockParameters>) {
    let Some(vdso) = &mut k.vdso else { return };
    let at = WordOffset::of_frame(vdso.data);
    let busy = vdso.sequence | 1;
    // The exchanges are fences: readers see the number change before and after what lies between.
    p.memory.compare_exchange_u32(at, vdso.sequence, busy);
    vdso.sequence = busy;
    let Some(clock) = clock else { return };
    let data = Data {
        sequence: busy,
        valid: 1,
        tsc: clock.tsc,
        mult: clock.mult,
        shift: clock.shift.min(63),
        pad: 0,
        mono: clock.mono,
        real: clock.real_offset,
    };
    p.memory.write(at.get() + 4, &data.as_bytes()[4..]);
    vdso.sequence = busy.wrapping_add(1);
    p.memory.compare_exchange_u32(at, busy, vdso.sequence);
}

/// Maps both pages into a new address space and gives the address of the library (`AT_SYSINFO_EHDR`); `None`
/// where there is no vDSO.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn map_into(k: &mut Mm, p: &mut Ports<'_>, id: SpaceId) -> Result<Option<u64>, Errno> {
    let Some(vdso) = k.vdso else {
        return Ok(None);
    };
    let start = k.space_mut(id).gap(2 * PAGE_SIZE)?;
    let library = start + PAGE_SIZE;
    let mut data = Vma::private(library, Prot::READ, Behind::Anonymous(Name::Vvar));
    data.max = Prot::READ;
    let rights = Prot::READ | Prot::EXEC;
    let code = Vma::private(library + PAGE_SIZE, rights, Behind::Anonymous(Name::Vdso));
    for (at, vma, frame) in [(start, data, vdso.data), (library, code, vdso.code)] {
        map::insert(k, p, id, at, vma);
        k.frames.get(frame);
        let page = at / PAGE_SIZE;
        // Every program looks into them: mapped now they cost no fault.
        k.pages(id, |pages| {
            pages.set(page, Pte::private(frame).mapped(false));
        });
        k.env.emit(Output::Map {
            space: id,
            addr: at,
            len: PAGE_SIZE,
            backing: Backing::Memory(frame),
            prot: host_rights(vma.prot, false),
        });
    }
    Ok(Some(library))
}

fn offset(frame: FrameNo) -> u64 {
    u64::from(frame.0) * PAGE_SIZE
}

/// The functions by name, and where they are in the code.
const SYMBOLS: [(&str, usize); 3] = [
    ("__vdso_clock_gettime", code::CLOCK_GETTIME),
    ("__vdso_gettimeofday", code::GETTIMEOFDAY),
    ("__vdso_time", code::TIME),
];
const SONAME: &str = "linux-vdso.so.1";
/// The version that all symbols have (vdso(7)).
const VERSION: &str = "LINUX_2.6";

/// The library: a shared object of one page (elf(5)), mapped as it is.
fn library() -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    let mut strings = Vec::from([0u8]);
    let mut string = |text: &str| {
        let at = strings.len() as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let (soname, version) = (string(SONAME), string(VERSION));
    let names = SYMBOLS.map(|(name, _)| string(name));

    let mut body = Words(Vec::new());
    let place = |body: &mut Words| {
        body.align(8);
        (HEADERS + body.0.len()) as u64
    };
    // Elf64_Sym: name, info (global function), other, section (any that is not 0), value, size.
    let symtab = place(&mut body);
    body.0.resize(body.0.len() + 24, 0);
    for ((_, at), name) in SYMBOLS.iter().zip(names) {
        body.u32(name).u8(0x12).u8(0).u16(1);
        body.u64((CODE_OFFSET + at) as u64).u64(0);
    }
    // One bucket, in which all symbols are a chain.
    let count = SYMBOLS.len() as u32;
    let hash = place(&mut body);
    body.u32(1).u32(count + 1).u32(1).u32(0);
    for next in 2..=count {
        body.u32(next);
    }
    body.u32(0);
    let versym = place(&mut body);
    body.u16(0);
    for _ in SYMBOLS {
        body.u16(2);
    }
    // Elf64_Verdef (version, flags, index, names, hash, where the names are, next) and Elf64_Verdaux (name,
    // next), twice.
    let verdef = place(&mut body);
    for (flags, index, name, text, next) in
        [(1, 1, soname, SONAME, 28), (0, 2, version, VERSION, 0)]
    {
        body.u16(1).u16(flags).u16(index).u16(1);
        body.u32(elf_hash(text)).u32(20).u32(next).u32(name).u32(0);
    }
    let strtab = place(&mut body);
    let strsz = strings.len() as u64;
    body.0.extend_from_slice(&strings);
    let dynamic = place(&mut body);
    // DT_HASH, STRTAB, SYMTAB, STRSZ, SYMENT, SONAME, VERSYM, VERDEF, VERDEFNUM, NULL
    for (tag, value) in [
        (4, hash),
        (5, strtab),
        (6, symtab),
        (10, strsz),
        (11, 24),
        (14, u64::from(soname)),
        (0x6fff_fff0, versym),
        (0x6fff_fffc, verdef),
        (0x6fff_fffd, 2),
        (0, 0),
    ] {
        body.u64(tag).u64(value);
    }
    let dynamic_size = HEADERS as u64 + body.0.len() as u64 - dynamic;

    let mut page = Words(Vec::with_capacity(PAGE_SIZE as usize));
    page.0
        .extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_DYN, EM_X86_64, EV_CURRENT; entry, program headers, section headers; flags, sizes and numbers of
    // headers.
    page.u16(3).u16(62).u32(1).u64(0).u64(64).u64(0);
    page.u32(0).u16(64).u16(56).u16(2).u16(64).u16(0).u16(0);
    // PT_LOAD with the rights to read and execute, PT_DYNAMIC with that to read: offset, two addresses, two
    // sizes, alignment.
    for (kind, flags, at, size, align) in [
        (1, 5, 0, PAGE_SIZE, PAGE_SIZE),
        (2, 4, dynamic, dynamic_size, 8),
    ] {
        page.u32(kind).u32(flags).u64(at).u64(at).u64(at);
        page.u64(size).u64(size).u64(align);
    }
    page.0.extend_from_slice(&body.0);
    debug_assert!(page.0.len() <= CODE_OFFSET);
    page.0.resize(CODE_OFFSET, 0);
    page.0.extend_from_slice(&code::CODE);
    page.0.resize(PAGE_SIZE as usize, 0);
    page.0
}

/// The hash of names in ELF files (System V ABI).
fn elf_hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

/// Little-endian numbers one behind the other.
struct Words(Vec<u8>);

impl Words {
    fn u8(&mut self, value: u8) -> &mut Words {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Words {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Words {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Words {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Input;
    use crate::memhost::{Machine, MemHost, bare, empty_root};

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn the_library_has_its_tables_where_it_says() {
        let library = library();
        assert_eq!(library.len() as u64, PAGE_SIZE);
        let entries = word(&library, 64 + 56 + 8) as usize;
        let entry = |tag: u64| {
            let mut all = library[entries..]
                .chunks_exact(16)
                .map(|pair| (word(pair, 0), word(pair, 8)));
            all.find(|pair| pair.0 == tag).map(|pair| pair.1 as usize)
        };
        let (strings, symbols) = (entry(5).unwrap(), entry(6).unwrap());
        let text = |at: usize| {
            let bytes = &library[strings + at..];
            let end = bytes.iter().position(|&byte| byte == 0).unwrap();
            core::str::from_utf8(&bytes[..end]).unwrap()
        };
        assert_eq!(text(entry(14).unwrap()), SONAME);
        for (index, (name, at)) in SYMBOLS.iter().enumerate() {
            let symbol = &library[symbols + 24 * (index + 1)..];
            let name_at = u32::from_le_bytes(symbol[..4].try_into().unwrap());
            assert_eq!(text(name_at as usize), *name);
            let address = word(symbol, 8) as usize;
            assert_eq!(&library[address..address + 8], &code::CODE[*at..at + 8]);
        }
        // What Go and the C libraries look for.
        assert_eq!(elf_hash(VERSION), 0x03ae_75f6);
    }

    #[test]
    fn the_page_holds_what_the_host_said_and_nobody_can_write_it() {
        let mut config = bare(empty_root());
        config.vdso = true;
        let mut machine = Machine::boot(config, MemHost::new(512, Vec::new())).unwrap();
        let Vdso { data, .. } = machine.kernel.mm.vdso.unwrap();
        let page = |machine: &mut Machine<_>| {
            let mut bytes = [0; size_of::<Data>()];
            machine.host.ports().memory.read(offset(data), &mut bytes);
            bytes
        };
        assert_eq!(page(&mut machine), [0; size_of::<Data>()]);
        let clock = ClockParameters {
            tsc: 5,
            mult: 3 << 32,
            shift: 32,
            mono: 1000,
            real_offset: 7,
        };
        for round in 1..4 {
            machine.input(Input::Clock(None));
            assert_eq!(page(&mut machine)[0], round * 2 - 1, "readers wait");
            machine.input(Input::Clock(Some(clock)));
            let bytes = page(&mut machine);
            assert_eq!(bytes[..8], [round * 2, 0, 0, 0, 1, 0, 0, 0]);
            assert_eq!(word(&bytes, 8), 5);
            assert_eq!(word(&bytes, 32), 1000);
        }
        assert_eq!(clock.at(15).mono, 1030);
        assert_eq!(clock.at(4).real, 1007);
        machine.kernel.check().unwrap();
    }
}
