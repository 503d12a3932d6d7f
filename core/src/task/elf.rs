//! ELF files as execve(2) reads them (elf(5)).

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::abi::raw::general::PATH_MAX;
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::file::FileId;
use crate::machine::Prot;
use crate::port::Ports;
use crate::{Kernel, file};

const MAGIC: [u8; 4] = *b"\x7fELF";
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
/// Most bytes of program headers (`ELF_MIN_ALIGN` pages in Linux: 64 KiB).
const HEADERS_MAX: usize = 65536;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    class: u8,
    data: u8,
    ident_rest: [u8; 10],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub vaddr: u64,
    pub offset: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub prot: Prot,
}

/// What an ELF file says about itself.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    /// Its type is one of a program.
    pub is_program: bool,
    /// It can be loaded anywhere.
    pub relocatable: bool,
    pub entry: u64,
    pub segments: Vec<Segment>,
    /// Where the interpreter's path is in the file, and its length.
    name: Option<(u64, u64)>,
    /// Path of the interpreter.
    pub interpreter: Option<Vec<u8>>,
    /// Address of the program headers, before relocation, and their number.
    pub headers: u64,
    pub header_count: u64,
    pub executable_stack: bool,
    /// Largest alignment of a segment.
    pub align: u64,
}

impl Elf {
    /// Reads the headers of a program. What Linux finds out only when it maps the segments is not looked at.
    ///
    /// # Errors
    /// `ENOEXEC` for what is no 64-bit x86 program, `EIO` for an interpreter's name beyond the end of the
    /// file.
    pub(super) fn read(k: &mut Kernel, p: &mut Ports<'_>, id: FileId) -> Result<Elf, Errno> {
        let mut elf = Elf::read_headers(k, p, id)?;
        if !elf.is_program {
            return Err(Errno::ENOEXEC);
        }
        if let Some((offset, len)) = elf.name {
            if !(2..=u64::from(PATH_MAX)).contains(&len) {
                return Err(Errno::ENOEXEC);
            }
            let mut path = vec![0; len as usize];
            read_exact(k, p, id, offset, &mut path).map_err(|errno| match errno {
                Errno::ENOEXEC => Errno::EIO,
                errno => errno,
            })?;
            if path.pop() != Some(0) {
                return Err(Errno::ENOEXEC);
            }
            let end = path.iter().position(|&byte| byte == 0);
            path.truncate(end.unwrap_or(path.len()));
            elf.interpreter = Some(path);
        }
        Ok(elf)
    }

    /// Reads the headers of a program's interpreter: `EIO` if it is too short for that, `ELIBBAD` if it is
    /// broken.
    pub(super) fn read_interpreter(
        k: &mut Kernel,
        p: &mut Ports<'_>,
        id: FileId,
    ) -> Result<Elf, Errno> {
        let mut start = [0; size_of::<Header>()];
        if file::read_kernel(k, p, id, 0, &mut start)? < start.len() {
            return Err(Errno::EIO);
        }
        Elf::read_headers(k, p, id).map_err(|errno| match errno {
            Errno::ENOEXEC => Errno::ELIBBAD,
            errno => errno,
        })
    }

    fn read_headers(k: &mut Kernel, p: &mut Ports<'_>, id: FileId) -> Result<Elf, Errno> {
        let mut header = Header::new_zeroed();
        read_exact(k, p, id, 0, header.as_mut_bytes())?;
        let fits = header.magic == MAGIC
            && header.machine == EM_X86_64
            && usize::from(header.phentsize) == size_of::<ProgramHeader>();
        let bytes = usize::from(header.phnum) * size_of::<ProgramHeader>();
        if !fits || bytes == 0 || bytes > HEADERS_MAX {
            return Err(Errno::ENOEXEC);
        }
        let mut table = vec![0; bytes];
        read_exact(k, p, id, header.phoff, &mut table)?;
        let mut elf = Elf {
            is_program: matches!(header.kind, ET_EXEC | ET_DYN),
            relocatable: header.kind == ET_DYN,
            entry: header.entry,
            segments: Vec::new(),
            name: None,
            interpreter: None,
            headers: 0,
            header_count: u64::from(header.phnum),
            executable_stack: false,
            align: PAGE_SIZE,
        };
        for chunk in table.chunks_exact(size_of::<ProgramHeader>()) {
            let part = ProgramHeader::read_from_bytes(chunk).map_err(|_| Errno::ENOEXEC)?;
            elf.add(&header, &part);
        }
        Ok(elf)
    }

    fn add(&mut self, header: &Header, part: &ProgramHeader) {
        match part.kind {
            PT_LOAD => {
                if part.align.is_power_of_two() {
                    self.align = self.align.max(part.align);
                }
                let into = header.phoff.checked_sub(part.offset);
                if let Some(into) = into.filter(|&into| into < part.filesz) {
                    self.headers = part.vaddr.wrapping_add(into);
                }
                let mut prot = Prot::empty();
                prot.set(Prot::READ, part.flags & PF_R != 0);
                prot.set(Prot::WRITE, part.flags & PF_W != 0);
                prot.set(Prot::EXEC, part.flags & PF_X != 0);
                self.segments.push(Segment {
                    vaddr: part.vaddr,
                    offset: part.offset,
                    filesz: part.filesz,
                    memsz: part.memsz,
                    prot,
                });
            }
            PT_INTERP if self.name.is_none() => self.name = Some((part.offset, part.filesz)),
            PT_GNU_STACK => self.executable_stack = part.flags & PF_X != 0,
            _ => {}
        }
    }

    /// Lowest and highest address of all segments, whole pages (`total_mapping_size()`). `None` without
    /// segments or memory, or if it cannot be.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let low = self.segments.iter().map(|part| part.vaddr).min()?;
        let low = low & !(PAGE_SIZE - 1);
        let ends = self.segments.iter();
        let ends = ends.map(|part| part.vaddr.checked_add(part.memsz));
        let high = ends.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        let high = high.checked_next_multiple_of(PAGE_SIZE)?;
        (high > low && high - low <= TASK_SIZE).then_some((low, high))
    }
}

/// Reads from a program file; a short one is no program.
fn read_exact(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: FileId,
    offset: u64,
    buf: &mut [u8],
) -> Result<(), Errno> {
    match file::read_kernel(k, p, id, offset, buf)? {
        len if len == buf.len() => Ok(()),
        _ => Err(Errno::ENOEXEC),
    }
}
