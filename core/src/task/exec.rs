//! Executing a program: `#!` lines, loading, the first stack (execve(2)).

use alloc::vec::Vec;

use super::elf::{Elf, Segment};
use super::process;
use crate::abi::raw::{auxvec as at, general as g};
use crate::abi::{Errno, MMAP_MIN_ADDR, PAGE_SIZE, TASK_SIZE};
use crate::kernel::{Cx, Stop};
use crate::machine::{Prot, Regs, SpaceId};
use crate::mm::vma::{Behind, Name, VmFlags, Vma};
use crate::mm::{map, space, user};
use crate::ns::user as users;
use crate::syscall::args::DirFd;
use crate::syscall::system::ADDR_NO_RANDOMIZE;
use crate::vfs::{FileId, file};

/// How often a script may name a script (`BINPRM` recursion in Linux).
const SCRIPTS_MAX: usize = 5;
/// Bytes of a file that are looked at for a `#!` line (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// Longest argument or environment string with its NUL (`MAX_ARG_STRLEN`).
pub(crate) const STRING_MAX: usize = 131_072;
/// Strings may take this much in any case (`ARG_MAX`), and never more than three quarters of 8 MiB.
const STRINGS_MIN: u64 = 131_072;
const STRINGS_MAX: u64 = 6 << 20;
/// The stack is made so much larger than its contents.
const STACK_ROOM: u64 = 131_072;
/// Bits of randomness, in pages, of the stack's top and of `mmap_base`, of a program's place, and of the heap's start.
const STACK_RANDOM: u64 = (1 << 22) - 1;
const MMAP_RANDOM: u64 = (1 << 28) - 1;
const BRK_RANDOM: u64 = (1 << 13) - 1;
/// Where programs that can be loaded anywhere begin (`ELF_ET_DYN_BASE`), before randomness.
const PIE_BASE: u64 = 0x5555_5555_4000;

/// Files that were opened on the way; given back when it is done.
struct Opened(Vec<FileId>);

/// Replaces the current task's program by `file`. The caller keeps its reference on it. `name` is the path it was called by.
///
/// # Errors
/// As execve(2); the old program goes on.
pub(crate) fn execve(
    cx: &mut Cx<'_, '_>,
    file: FileId,
    name: &[u8],
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
) -> Result<(), Stop> {
    let mut opened = Opened(Vec::new());
    let result = replace(cx, &mut opened, file, name, argv, envp);
    for id in opened.0 {
        file::put(cx.k, cx.p, id);
    }
    result
}

fn replace(
    cx: &mut Cx<'_, '_>,
    opened: &mut Opened,
    file: FileId,
    name: &[u8],
    mut argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
) -> Result<(), Stop> {
    if argv.is_empty() {
        argv.push(Vec::new());
    }
    let program = follow_scripts(cx, opened, file, name, &mut argv)?;
    let elf = Elf::read(cx.k, cx.p, program)?;
    let interpreter = match &elf.interpreter {
        None => None,
        Some(path) => {
            let id = open(cx, opened, path)?;
            let elf = Elf::read(cx.k, cx.p, id).map_err(|errno| match errno {
                // A broken interpreter is reported differently from a broken program.
                Errno::ENOEXEC => Errno::ELIBBAD,
                errno => errno,
            })?;
            Some((id, elf))
        }
    };
    let creds = super::creds::exec_creds(cx, program)?;
    let strings = check_strings(cx, &argv, &envp)?;
    let id = space::create(cx.k);
    let plan = Plan {
        id,
        program,
        elf: &elf,
        interpreter: interpreter.as_ref(),
        name,
        argv: &argv,
        envp: &envp,
        strings,
        secure: creds.secure,
        ids: shown_ids(cx, &creds.creds),
    };
    let built = build(cx, &plan).map_err(Stop::from);
    let regs = match built.and_then(|regs| process::prepare_exec(cx).map(|()| regs)) {
        Ok(regs) => regs,
        Err(stop) => {
            space::release(cx.k, cx.p, id);
            return Err(stop);
        }
    };
    let base = name
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(name, |at| &name[at + 1..]);
    let exe = file::get(cx.k, program);
    process::finish_exec(cx, id, regs, base, exe, creds.creds);
    Ok(())
}

fn open(cx: &mut Cx<'_, '_>, opened: &mut Opened, path: &[u8]) -> Result<FileId, Errno> {
    let id = file::open_exec(cx, DirFd(g::AT_FDCWD), path, 0)?;
    opened.0.push(id);
    Ok(id)
}

/// Goes from scripts to the program that runs them, and puts its arguments in front.
fn follow_scripts(
    cx: &mut Cx<'_, '_>,
    opened: &mut Opened,
    file: FileId,
    name: &[u8],
    argv: &mut Vec<Vec<u8>>,
) -> Result<FileId, Errno> {
    let mut program = file;
    let mut script = name.to_vec();
    for _ in 0..=SCRIPTS_MAX {
        let mut head = [0; HEAD];
        let len = file::read_kernel(cx.k, cx.p, program, 0, &mut head)?;
        let Some(line) = head[..len].strip_prefix(b"#!") else {
            return Ok(program);
        };
        let (interpreter, argument) = parse_line(line, len == HEAD)?;
        argv.splice(..1, [script]);
        if let Some(argument) = argument {
            argv.insert(0, argument.to_vec());
        }
        argv.insert(0, interpreter.to_vec());
        script = interpreter.to_vec();
        program = open(cx, opened, &script)?;
    }
    Err(Errno::ELOOP)
}

/// Interpreter and argument of a `#!` line. `ENOEXEC` if there is none, or the interpreter's name is cut off.
fn parse_line(line: &[u8], cut: bool) -> Result<(&[u8], Option<&[u8]>), Errno> {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let end = line.iter().position(|&byte| byte == b'\n' || byte == 0);
    let text = &line[..end.unwrap_or(line.len())];
    let start = text
        .iter()
        .position(|byte| !blank(byte))
        .ok_or(Errno::ENOEXEC)?;
    let text = &text[start..];
    let Some(stop) = text.iter().position(blank) else {
        return if cut && end.is_none() {
            Err(Errno::ENOEXEC)
        } else {
            Ok((text, None))
        };
    };
    let (interpreter, rest) = text.split_at(stop);
    let argument = rest.trim_ascii();
    Ok((interpreter, (!argument.is_empty()).then_some(argument)))
}

/// Bytes of all strings with their NULs. `E2BIG`.
fn check_strings(cx: &Cx<'_, '_>, argv: &[Vec<u8>], envp: &[Vec<u8>]) -> Result<u64, Errno> {
    let limit = (cx.rlimit(g::RLIMIT_STACK) / 4).clamp(STRINGS_MIN, STRINGS_MAX);
    let mut bytes = 0;
    for text in argv.iter().chain(envp) {
        if text.len() >= STRING_MAX {
            return Err(Errno::E2BIG);
        }
        bytes += text.len() as u64 + 1;
    }
    let pointers = (argv.len() + envp.len()) as u64 * 8;
    if bytes + pointers > limit {
        Err(Errno::E2BIG)
    } else {
        Ok(bytes)
    }
}

/// All that the new address space is made from.
struct Plan<'a> {
    id: SpaceId,
    program: FileId,
    elf: &'a Elf,
    interpreter: Option<&'a (FileId, Elf)>,
    name: &'a [u8],
    argv: &'a [Vec<u8>],
    envp: &'a [Vec<u8>],
    strings: u64,
    secure: bool,
    ids: [u32; 4],
}

/// User, effective user, group and effective group as the program sees them.
fn shown_ids(cx: &Cx<'_, '_>, creds: &super::Creds) -> [u32; 4] {
    let ns = creds.user_ns;
    [
        users::show_uid(cx.k, ns, creds.uid),
        users::show_uid(cx.k, ns, creds.euid),
        users::show_gid(cx.k, ns, creds.gid),
        users::show_gid(cx.k, ns, creds.egid),
    ]
}

/// Fills the new address space; gives the registers to start with.
fn build(cx: &mut Cx<'_, '_>, plan: &Plan<'_>) -> Result<Regs, Errno> {
    let fixed = cx.task().personality & ADDR_NO_RANDOMIZE != 0 && !plan.secure;
    let mut random = |mask: u64| match fixed {
        true => 0,
        false => (cx.k.system.rng.next_u64() & mask) * PAGE_SIZE,
    };
    let stack_top = TASK_SIZE - PAGE_SIZE - random(STACK_RANDOM);
    let mmap_random = random(MMAP_RANDOM);
    let (pie, heap) = (
        PIE_BASE + random(MMAP_RANDOM),
        PAGE_SIZE + random(BRK_RANDOM),
    );
    let gap = cx
        .rlimit(g::RLIMIT_STACK)
        .clamp(128 << 20, TASK_SIZE / 6 * 5)
        + STACK_RANDOM * PAGE_SIZE;
    let base = (TASK_SIZE - gap).saturating_sub(mmap_random) & !(PAGE_SIZE - 1);
    cx.k.mm.space_mut(plan.id).layout.mmap_base = base.max(MMAP_MIN_ADDR);

    let (low, high) = plan.elf.span();
    let shift = match (plan.elf.relocatable, plan.interpreter) {
        (false, _) => 0,
        // A program that can be anywhere; an interpreter run by itself is placed like a mapping.
        (true, Some(_)) => (pie & !(plan.elf.align.min(1 << 30) - 1)).wrapping_sub(low),
        (true, None) => (pie & !(plan.elf.align.min(1 << 30) - 1)).wrapping_sub(low),
    };
    if !plan.elf.relocatable && low < MMAP_MIN_ADDR {
        return Err(Errno::EPERM);
    }
    load(cx, plan.id, plan.program, plan.elf, shift)?;
    let mut entry = plan.elf.entry.wrapping_add(shift);
    let mut interpreter_base = 0;
    if let Some((id, elf)) = plan.interpreter {
        let (first, last) = elf.span();
        let shift = match elf.relocatable {
            true => {
                cx.k.mm
                    .space_mut(plan.id)
                    .gap(last - first)?
                    .wrapping_sub(first)
            }
            false => 0,
        };
        load(cx, plan.id, *id, elf, shift)?;
        entry = elf.entry.wrapping_add(shift);
        interpreter_base = shift;
    }
    let brk = high.wrapping_add(shift) + heap;
    let layout = &mut cx.k.mm.space_mut(plan.id).layout;
    (layout.brk_start, layout.brk) = (brk, brk);
    for part in &plan.elf.segments {
        let (start, end) = (
            part.vaddr.wrapping_add(shift),
            part.vaddr.wrapping_add(shift) + part.filesz,
        );
        if part.prot.contains(Prot::EXEC) && layout.code_start == 0 {
            (layout.code_start, layout.code_end) = (start, end);
        }
        if part.prot.contains(Prot::WRITE) {
            (layout.data_start, layout.data_end) = (start, end);
        }
    }
    let vdso = crate::vdso::map_into(cx.k, cx.p, plan.id)?;
    let mut auxv = alloc::vec![
        (at::AT_MINSIGSTKSZ, min_signal_stack(cx)),
        (at::AT_HWCAP, HWCAP),
        (at::AT_PAGESZ, PAGE_SIZE),
        (at::AT_CLKTCK, 100),
        (at::AT_PHDR, plan.elf.headers.wrapping_add(shift)),
        (at::AT_PHENT, 56),
        (at::AT_PHNUM, plan.elf.header_count),
        (at::AT_BASE, interpreter_base),
        (at::AT_FLAGS, 0),
        (at::AT_ENTRY, plan.elf.entry.wrapping_add(shift)),
        (at::AT_UID, u64::from(plan.ids[0])),
        (at::AT_EUID, u64::from(plan.ids[1])),
        (at::AT_GID, u64::from(plan.ids[2])),
        (at::AT_EGID, u64::from(plan.ids[3])),
        (at::AT_SECURE, u64::from(plan.secure)),
        (at::AT_HWCAP2, hwcap2(cx)),
    ];
    auxv.extend(vdso.map(|address| (at::AT_SYSINFO_EHDR, address)));
    let rsp = build_stack(cx, plan, stack_top, auxv)?;
    Ok(Regs {
        rip: entry,
        rsp,
        cs: 0x33,
        ss: 0x2b,
        eflags: 0x202,
        ..Regs::default()
    })
}

/// The features that every x86-64 processor has, as CPUID leaf 1 gives them in EDX: FPU, TSC, MSR, PAE, CX8, CMOV, MMX, FXSR, SSE, SSE2.
/// Programs that want more ask the processor.
const HWCAP: u64 =
    1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;

/// `HWCAP2_FSGSBASE` where the host's processor has the instructions.
fn hwcap2(cx: &Cx<'_, '_>) -> u64 {
    let has =
        cx.k.system
            .cpuinfo
            .split(|byte| byte.is_ascii_whitespace())
            .any(|word| word == b"fsgsbase");
    u64::from(has) << 1
}

/// Bytes that a signal frame takes: state, registers and siginfo, red zone and alignment.
fn min_signal_stack(cx: &Cx<'_, '_>) -> u64 {
    const REST: u64 = 1024;
    (cx.p.xstate.size() as u64 + REST).next_multiple_of(64)
}

/// Maps all segments of a file.
fn load(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    file: FileId,
    elf: &Elf,
    shift: u64,
) -> Result<(), Errno> {
    for part in &elf.segments {
        load_segment(cx, id, file, part, part.vaddr.wrapping_add(shift))?;
    }
    Ok(())
}

fn load_segment(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    file: FileId,
    part: &Segment,
    vaddr: u64,
) -> Result<(), Errno> {
    let page = |addr: u64| addr & !(PAGE_SIZE - 1);
    let start = page(vaddr);
    let end =
        map::page_up(vaddr.checked_add(part.memsz).ok_or(Errno::ENOMEM)?).ok_or(Errno::ENOMEM)?;
    if end > TASK_SIZE || start < MMAP_MIN_ADDR {
        return Err(Errno::ENOMEM);
    }
    let area = Vma::private(end, part.prot, Behind::Anonymous(Name::None));
    // Segments may overlap in a page; the later one wins, as in Linux.
    map::unmap(cx.k, cx.p, id, start, end)?;
    let file_end = vaddr + part.filesz;
    let mapped_end = if part.filesz == 0 {
        start
    } else {
        map::page_up(file_end).ok_or(Errno::ENOMEM)?
    };
    if part.filesz > 0 {
        file::get(cx.k, file);
        let behind = Behind::File {
            file,
            offset: page(part.offset),
        };
        map::insert(
            cx.k,
            cx.p,
            id,
            start,
            Vma {
                end: mapped_end,
                behind,
                ..area
            },
        );
    }
    if mapped_end < end {
        map::insert(cx.k, cx.p, id, mapped_end, area);
    }
    if part.memsz > part.filesz
        && part.filesz > 0
        && file_end < mapped_end
        && part.prot.contains(Prot::WRITE)
    {
        let zeros = [0; PAGE_SIZE as usize];
        user::write_in(
            cx.k,
            cx.p,
            id,
            file_end,
            &zeros[..(mapped_end - file_end) as usize],
        )
        .map_err(|_| Errno::EFAULT)?;
    }
    Ok(())
}

/// Makes the stack with strings, pointers and auxiliary vector (System V ABI, "initial process stack"); gives the stack pointer.
fn build_stack(
    cx: &mut Cx<'_, '_>,
    plan: &Plan<'_>,
    top: u64,
    mut auxv: Vec<(u32, u64)>,
) -> Result<u64, Errno> {
    const PLATFORM: &[u8] = b"x86_64\0";
    // From the top down: a null word, the name, the strings of environment and arguments.
    let name_at = top - 8 - (plan.name.len() as u64 + 1);
    let strings_at = name_at - plan.strings;
    let mut text = Vec::with_capacity((top - strings_at) as usize);
    let mut pointers: Vec<u64> = Vec::new();
    let mut marks = [0; 3];
    pointers.push(plan.argv.len() as u64);
    for (index, list) in [plan.argv, plan.envp].into_iter().enumerate() {
        marks[index] = strings_at + text.len() as u64;
        for string in list {
            pointers.push(strings_at + text.len() as u64);
            text.extend_from_slice(string);
            text.push(0);
        }
        pointers.push(0);
    }
    marks[2] = strings_at + text.len() as u64;
    text.extend_from_slice(plan.name);
    text.resize((top - strings_at) as usize, 0);

    let mut random = [0; 16];
    cx.k.system.rng.fill(&mut random);
    let platform_at = (strings_at & !15) - 16;
    let random_at = platform_at - 16;
    auxv.push((at::AT_RANDOM, random_at));
    auxv.push((at::AT_EXECFN, name_at));
    auxv.push((at::AT_PLATFORM, platform_at));
    auxv.push((at::AT_NULL, 0));
    for &(key, value) in &auxv {
        pointers.push(u64::from(key));
        pointers.push(value);
    }
    let rsp = (random_at - pointers.len() as u64 * 8) & !15;

    let prot = Prot::READ | Prot::WRITE;
    let prot = if plan.elf.executable_stack {
        prot | Prot::EXEC
    } else {
        prot
    };
    let mut vma = Vma::private(top, prot, Behind::Anonymous(Name::Stack));
    vma.flags |= VmFlags::GROWS_DOWN;
    let bottom = (rsp - STACK_ROOM) & !(PAGE_SIZE - 1);
    if cx
        .k
        .mm
        .space(plan.id)
        .overlapping(bottom, top)
        .next()
        .is_some()
    {
        return Err(Errno::ENOMEM);
    }
    map::insert(cx.k, cx.p, plan.id, bottom, vma);
    let words: Vec<u8> = pointers
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let parts: [(u64, &[u8]); 4] = [
        (strings_at, &text),
        (platform_at, PLATFORM),
        (random_at, &random),
        (rsp, &words),
    ];
    for (addr, bytes) in parts {
        user::write_in(cx.k, cx.p, plan.id, addr, bytes)?;
    }
    let layout = &mut cx.k.mm.space_mut(plan.id).layout;
    (layout.arg_start, layout.arg_end) = (marks[0], marks[1]);
    (layout.env_start, layout.env_end) = (marks[1], marks[2]);
    layout.stack_start = rsp;
    layout.auxv = auxv
        .into_iter()
        .map(|(key, value)| (u64::from(key), value))
        .collect();
    Ok(rsp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines_are_cut_as_linux_cuts_them() {
        assert_eq!(parse_line(b"/bin/sh\n", false), Ok((&b"/bin/sh"[..], None)));
        assert_eq!(
            parse_line(b" \t/bin/sh -e x \nrest", false),
            Ok((&b"/bin/sh"[..], Some(&b"-e x"[..])))
        );
        assert_eq!(
            parse_line(b"/usr/bin/env python3", false),
            Ok((&b"/usr/bin/env"[..], Some(&b"python3"[..])))
        );
        assert_eq!(parse_line(b"  \n", false), Err(Errno::ENOEXEC));
        assert_eq!(parse_line(b"/cut/off", true), Err(Errno::ENOEXEC));
    }
}
