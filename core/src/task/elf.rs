//! ELF files as execve(2) reads them (elf(5)).

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::Kernel;
use crate::abi::raw::general::PATH_MAX;
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::machine::Prot;
use crate::port::Ports;
use crate::vfs::{FileId, file};

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
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
    /// It can be loaded anywhere.
    pub relocatable: bool,
    pub entry: u64,
    pub segments: Vec<Segment>,
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
    /// Reads and checks the headers. `ENOEXEC` for everything that is not a 64-bit x86 program.
    pub(super) fn read(k: &mut Kernel, p: &mut Ports<'_>, id: FileId) -> Result<Elf, Errno> {
        let mut header = Header::new_zeroed();
        read_exact(k, p, id, 0, header.as_mut_bytes())?;
        let fits = header.magic == MAGIC
            && header.class == CLASS_64
            && header.data == LITTLE_ENDIAN
            && header.machine == EM_X86_64
            && matches!(header.kind, ET_EXEC | ET_DYN)
            && usize::from(header.phentsize) == size_of::<ProgramHeader>();
        let bytes = usize::from(header.phnum) * size_of::<ProgramHeader>();
        if !fits || bytes == 0 || bytes > HEADERS_MAX {
            return Err(Errno::ENOEXEC);
        }
        let mut table = vec![0; bytes];
        read_exact(k, p, id, header.phoff, &mut table)?;
        let mut elf = Elf {
            relocatable: header.kind == ET_DYN,
            entry: header.entry,
            segments: Vec::new(),
            interpreter: None,
            headers: 0,
            header_count: u64::from(header.phnum),
            executable_stack: false,
            align: PAGE_SIZE,
        };
        for chunk in table.chunks_exact(size_of::<ProgramHeader>()) {
            let part = ProgramHeader::read_from_bytes(chunk).map_err(|_| Errno::ENOEXEC)?;
            elf.add(k, p, id, &header, &part)?;
        }
        if elf.segments.is_empty() {
            return Err(Errno::ENOEXEC);
        }
        Ok(elf)
    }

    fn add(
        &mut self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        id: FileId,
        header: &Header,
        part: &ProgramHeader,
    ) -> Result<(), Errno> {
        match part.kind {
            PT_LOAD => {
                let end = part
                    .vaddr
                    .checked_add(part.memsz)
                    .filter(|&end| end <= TASK_SIZE);
                let file_end = part.offset.checked_add(part.filesz);
                if part.filesz > part.memsz || end.is_none() || file_end.is_none() {
                    return Err(Errno::EINVAL);
                }
                if part.vaddr % PAGE_SIZE != part.offset % PAGE_SIZE {
                    return Err(Errno::EINVAL);
                }
                if part.align.is_power_of_two() {
                    self.align = self.align.max(part.align);
                }
                let headers = header.phoff;
                if self.headers == 0
                    && part.offset <= headers
                    && headers - part.offset < part.filesz
                {
                    self.headers = part.vaddr + (headers - part.offset);
                }
                let mut prot = Prot::empty();
                prot.set(Prot::READ, part.flags & PF_R != 0);
                prot.set(Prot::WRITE, part.flags & PF_W != 0);
                prot.set(Prot::EXEC, part.flags & PF_X != 0);
                if part.memsz > 0 {
                    self.segments.push(Segment {
                        vaddr: part.vaddr,
                        offset: part.offset,
                        filesz: part.filesz,
                        memsz: part.memsz,
                        prot,
                    });
                }
            }
            PT_INTERP if self.interpreter.is_none() => {
                let len = part.filesz;
                if !(2..=u64::from(PATH_MAX)).contains(&len) {
                    return Err(Errno::ENOEXEC);
                }
                let mut path = vec![0; len as usize];
                read_exact(k, p, id, part.offset, &mut path)?;
                if path.pop() != Some(0) {
                    return Err(Errno::ENOEXEC);
                }
                let end = path
                    .iter()
                    .position(|&byte| byte == 0)
                    .unwrap_or(path.len());
                path.truncate(end);
                self.interpreter = Some(path);
            }
            PT_PHDR => self.headers = part.vaddr,
            PT_GNU_STACK => self.executable_stack = part.flags & PF_X != 0,
            _ => {}
        }
        Ok(())
    }

    /// Lowest and highest address of all segments, whole pages.
    pub(super) fn span(&self) -> (u64, u64) {
        let low = self
            .segments
            .iter()
            .map(|part| part.vaddr & !(PAGE_SIZE - 1))
            .min()
            .unwrap_or(0);
        let high = self
            .segments
            .iter()
            .map(|part| part.vaddr + part.memsz)
            .max()
            .unwrap_or(0);
        (low, high.next_multiple_of(PAGE_SIZE))
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
