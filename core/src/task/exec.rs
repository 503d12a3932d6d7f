//! Executing a program: `#!` lines, loading, the first stack (execve(2)).

use alloc::vec::Vec;

use super::elf::{Elf, Segment};
use super::signal::SIGSEGV;
use super::{ending, process};
use crate::abi::raw::{auxvec as at, general as g};
use crate::abi::{Errno, MMAP_MIN_ADDR, PAGE_SIZE, TASK_SIZE};
use crate::args::{AtFlags, DirFd};
use crate::cred::ns::{NsId, USER, user as users};
use crate::env::settings;
use crate::env::wait::Stop;
use crate::file;
use crate::file::FileId;
use crate::machine::{Prot, Regs, SpaceId};
use crate::mm::vma::{Behind, Name, VmFlags, Vma};
use crate::mm::{map, space, user};
use crate::task::Cx;
use crate::task::personality::{ADDR_COMPAT_LAYOUT, ADDR_NO_RANDOMIZE, CLEANED, MMAP_PAGE_ZERO};
use crate::vfs::node;
use crate::vfs::perm::{self, MAY_READ};

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
/// Bits of randomness, in pages, of the stack's top and of `mmap_base`, of a program's place, and of the
/// heap's start.
const STACK_RANDOM: u64 = (1 << 22) - 1;
const MMAP_RANDOM: u64 = (1 << 28) - 1;
const BRK_RANDOM: u64 = (1 << 13) - 1;
/// Where programs that can be loaded anywhere begin (`ELF_ET_DYN_BASE`), before randomness.
const PIE_BASE: u64 = 0x5555_5555_4000;

/// Where mappings begin that are placed from below, before randomness (`TASK_UNMAPPED_BASE`, a third of what
/// Linux has for programs).
const LEGACY_BASE: u64 = 0x2aaa_aaaa_b000;

/// Files that were opened on the way; given back when it is done.
struct Opened(Vec<FileId>);

/// Replaces the current task's program by `file`. The caller keeps its reference on it. `name` is the path it
/// was called by, and whether the new program will find the file there.
///
/// # Errors
/// As execve(2); the old program goes on. What is found out only when the old program has been given up ends
/// the process with SIGSEGV.
pub(crate) fn execve(
    cx: &mut Cx<'_, '_>,
    file: FileId,
    name: (&[u8], bool),
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
) -> Result<(), Stop> {
    let mut opened = Opened(Vec::new());
    let result = replace(cx, &mut opened, file, name, argv, envp);
    for id in opened.0 {
        file::close_exec(cx.k, cx.p, id);
    }
    result
}

fn replace(
    cx: &mut Cx<'_, '_>,
    opened: &mut Opened,
    file: FileId,
    (name, stays): (&[u8], bool),
    mut argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
) -> Result<(), Stop> {
    if argv.is_empty() {
        argv.push(Vec::new());
    }
    let program = follow_scripts(cx, opened, file, (name, stays), &mut argv)?;
    let elf = Elf::read(cx.k, cx.p, program)?;
    let interpreter = match &elf.interpreter {
        None => None,
        Some(path) => {
            let id = open(cx, opened, path)?;
            Some((id, Elf::read_interpreter(cx.k, cx.p, id)?))
        }
    };
    let creds = super::creds::exec_creds(cx, program)?;
    let files = core::iter::once(program).chain(interpreter.as_ref().map(|(id, _)| *id));
    let looks_in = looks_in(cx, files)?;
    let strings = check_strings(cx, &argv, &envp)?;
    let id = space::create(cx.k);
    let personality = match creds.cleans {
        true => cx.task().personality & !CLEANED,
        false => cx.task().personality,
    };
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
        random: match personality & ADDR_NO_RANDOMIZE != 0 {
            true => 0,
            false => cx.k.env.settings.get(settings::RANDOMIZE),
        },
        page_zero: personality & MMAP_PAGE_ZERO != 0,
        creds: &creds.creds,
        bottom_up: personality & ADDR_COMPAT_LAYOUT != 0
            || cx.k.env.settings.is_on(settings::LEGACY_LAYOUT),
        ids: shown_ids(cx, &creds.creds),
    };
    let built = build(cx, &plan);
    let regs = match built {
        Ok(regs) => process::prepare_exec(cx).map(|()| regs).inspect_err(|_| {
            cx.call().alone = true;
        }),
        Err(errno) => Err(give_up(cx, errno)),
    };
    let regs = match regs {
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
    let exe = file::get_exec(cx.k, program);
    process::finish_exec(cx, id, regs, base, exe, creds, looks_in);
    Ok(())
}

/// What comes of a call that could not be made, or not yet. One that has ended the other threads of its
/// process cannot fail any more: that ends the process.
pub(crate) fn stopped(cx: &mut Cx<'_, '_>, stop: Stop) -> Stop {
    match stop {
        Stop::Errno(errno) if errno != Errno::LATER && cx.call().alone => give_up(cx, errno),
        stop => stop,
    }
}

/// A program cannot be loaded: in Linux the old one is no longer there by then, so that the process ends.
/// Before the first program there is none to end.
fn give_up(cx: &mut Cx<'_, '_>, errno: Errno) -> Stop {
    if cx.task().fresh {
        return Stop::Errno(errno);
    }
    let tgid = cx.task().tgid;
    ending::end_group(cx.k, cx.p, tgid, u32::from(SIGSEGV));
    Stop::Done
}

fn open(cx: &mut Cx<'_, '_>, opened: &mut Opened, path: &[u8]) -> Result<FileId, Stop> {
    // No name is the working directory's, which is no program.
    if path.is_empty() {
        return Err(Errno::EACCES.into());
    }
    let id = file::open_exec(cx, DirFd(g::AT_FDCWD), path, AtFlags::empty())?;
    opened.0.push(id);
    Ok(id)
}

/// Goes from scripts to the program that runs them, and puts its arguments in front. `ENOENT` for a script
/// that will not be found by its name.
fn follow_scripts(
    cx: &mut Cx<'_, '_>,
    opened: &mut Opened,
    file: FileId,
    (name, stays): (&[u8], bool),
    argv: &mut Vec<Vec<u8>>,
) -> Result<FileId, Stop> {
    let mut program = file;
    let mut script = name.to_vec();
    for _ in 0..=SCRIPTS_MAX {
        let mut head = [0; HEAD];
        file::read_kernel(cx.k, cx.p, program, 0, &mut head)?;
        if !head.starts_with(b"#!") {
            return Ok(program);
        }
        let (interpreter, argument) = parse_line(&head)?;
        if !stays {
            return Err(Errno::ENOENT.into());
        }
        argv.splice(..1, [script]);
        if let Some(argument) = argument {
            argv.insert(0, argument.to_vec());
        }
        argv.insert(0, interpreter.to_vec());
        script = interpreter.to_vec();
        program = open(cx, opened, &script)?;
    }
    Err(Errno::ELOOP.into())
}

/// Interpreter and argument of a `#!` line in what a file begins with, NULs behind its end. `ENOEXEC` if
/// there is none, or the interpreter's name may be cut off. It is `load_script()` of Linux, which ends text
/// without a newline at the last byte.
fn parse_line(head: &[u8; HEAD]) -> Result<(&[u8], Option<&[u8]>), Errno> {
    const START: usize = 2;
    const LAST: usize = HEAD - 1;
    let blank = |at: &usize| matches!(head[*at], b' ' | b'\t');
    // The first byte of a range, its end included, that is no blank, or that ends a word.
    let text = |from: usize, to: usize| (from..=to).find(|at| !blank(at));
    let end_of_word = |from: usize, to: usize| (from..=to).find(|at| blank(at) || head[*at] == 0);
    let line = head.iter().position(|byte| matches!(byte, b'\n' | 0));
    let mut end = match line.filter(|&at| head[at] == b'\n') {
        Some(end) => end,
        None => {
            let first = text(START, LAST).ok_or(Errno::ENOEXEC)?;
            end_of_word(first, LAST).ok_or(Errno::ENOEXEC)?;
            LAST
        }
    };
    while blank(&(end - 1)) {
        end -= 1;
    }
    let name = text(START, end).filter(|&name| name < end);
    let name = name.ok_or(Errno::ENOEXEC)?;
    let separator = end_of_word(name, end).filter(|&at| at < end);
    let argument = match separator {
        Some(at) if head[at] != 0 => text(at, end),
        _ => None,
    };
    let until_nul = |from: usize, to: usize| {
        let word = &head[from..to];
        let nul = word.iter().position(|&byte| byte == 0);
        &word[..nul.unwrap_or(word.len())]
    };
    let interpreter = until_nul(name, separator.unwrap_or(end));
    let argument = argument.map(|at| until_nul(at, end));
    Ok((interpreter, argument))
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

/// Who may look into the memory of a program: the user namespace whose privileges allow it, and whether
/// others may who could only execute one of these files (`would_dump()`).
fn looks_in(
    cx: &mut Cx<'_, '_>,
    files: impl Iterator<Item = FileId>,
) -> Result<(NsId, bool), Errno> {
    let who = &cx.who();
    let (mut ns, mut readable) = (cx.creds().user_ns, true);
    for id in files {
        let inode = file::inode_of(cx.k, id)?;
        let attr = node::attr(cx.k, cx.p, inode)?;
        if perm::permission(cx.k, who, &attr, MAY_READ).is_ok() {
            continue;
        }
        readable = false;
        while ns != USER && !users::is_mapped(cx.k, ns, attr.uid, attr.gid) {
            ns = cx.k.ns.owner(ns);
        }
    }
    Ok((ns, readable))
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
    /// What is placed at random (`kernel.randomize_va_space`); nothing with `ADDR_NO_RANDOMIZE`.
    random: i128,
    /// The first page is mapped (`MMAP_PAGE_ZERO`).
    page_zero: bool,
    /// Whom the program runs as.
    creds: &'a crate::cred::Creds,
    /// Mappings are placed from below (`ADDR_COMPAT_LAYOUT`, `vm.legacy_va_layout`).
    bottom_up: bool,
    ids: [u32; 4],
}

/// User, effective user, group and effective group as the program sees them.
fn shown_ids(cx: &Cx<'_, '_>, creds: &crate::cred::Creds) -> [u32; 4] {
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
    let mut random = |mask: u64, least: i128| match plan.random == 0 || plan.random < least {
        true => 0,
        false => (cx.k.env.rng.next_u64() & mask) * PAGE_SIZE,
    };
    let stack_top = TASK_SIZE - PAGE_SIZE - random(STACK_RANDOM, i128::MIN);
    let mmap_random = random(MMAP_RANDOM, i128::MIN);
    let (pie, heap) = (
        PIE_BASE + random(MMAP_RANDOM, i128::MIN),
        PAGE_SIZE + random(BRK_RANDOM, 2),
    );
    let stack = match plan.secure {
        true => cx.rlimit(g::RLIMIT_STACK).min(process::STACK_LIMIT),
        false => cx.rlimit(g::RLIMIT_STACK),
    };
    let gap = stack.clamp(128 << 20, TASK_SIZE / 6 * 5) + STACK_RANDOM * PAGE_SIZE;
    let base = (TASK_SIZE - gap).saturating_sub(mmap_random) & !(PAGE_SIZE - 1);
    // `mmap_base()` and `mmap_legacy_base()` of Linux.
    let layout = &mut cx.k.mm.space_mut(plan.id).layout;
    layout.bottom_up = plan.bottom_up;
    layout.mmap_base = match layout.bottom_up {
        true => LEGACY_BASE + mmap_random,
        false => base.max(MMAP_MIN_ADDR),
    };

    let (low, high) = plan.elf.span().ok_or(Errno::EINVAL)?;
    // Of the program addresses are looked at also before it gets its place.
    if plan.elf.segments.iter().any(|part| part.vaddr >= TASK_SIZE) {
        return Err(Errno::EINVAL);
    }
    let shift = match plan.elf.relocatable {
        false => 0,
        true => (pie & !(plan.elf.align.min(1 << 30) - 1)).wrapping_sub(low),
    };
    load(cx, plan, plan.program, plan.elf, shift)?;
    let mut entry = plan.elf.entry.wrapping_add(shift);
    let mut interpreter_base = 0;
    if let Some((id, elf)) = plan.interpreter {
        let (first, last) = elf.span().ok_or(Errno::EINVAL)?;
        let shift = match elf.relocatable {
            true => {
                cx.k.mm
                    .space_mut(plan.id)
                    .gap(last - first)?
                    .wrapping_sub(first)
            }
            false => 0,
        };
        load(cx, plan, *id, elf, shift)?;
        entry = elf.entry.wrapping_add(shift);
        interpreter_base = shift;
    }
    if entry >= TASK_SIZE {
        return Err(Errno::EINVAL);
    }
    if plan.page_zero && space::may_use(cx.k, plan.creds, 0) && low.wrapping_add(shift) >= PAGE_SIZE
    {
        let rights = Prot::READ | Prot::EXEC;
        let mut area = Vma::private(PAGE_SIZE, rights, Behind::Anonymous(Name::None));
        area.flags |= VmFlags::SEALED;
        map::insert(cx.k, cx.p, plan.id, 0, area);
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

/// The features that every x86-64 processor has, as CPUID leaf 1 gives them in EDX: FPU, TSC, MSR, PAE, CX8,
/// CMOV, MMX, FXSR, SSE, SSE2. Programs that want more ask the processor.
const HWCAP: u64 =
    1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;

/// `HWCAP2_FSGSBASE` where the host's processor has the instructions.
fn hwcap2(cx: &Cx<'_, '_>) -> u64 {
    let has =
        cx.k.env
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

/// Maps all segments of a file. A file that is no program in the end is found out here.
fn load(
    cx: &mut Cx<'_, '_>,
    plan: &Plan<'_>,
    file: FileId,
    elf: &Elf,
    shift: u64,
) -> Result<(), Errno> {
    if !elf.is_program {
        return Err(Errno::EINVAL);
    }
    for part in &elf.segments {
        let place = part.vaddr.wrapping_add(shift);
        let end = place.checked_add(part.memsz);
        if part.filesz > part.memsz || place >= TASK_SIZE || end.is_none_or(|end| end > TASK_SIZE) {
            return Err(Errno::EINVAL);
        }
        load_segment(cx, plan, file, part, place)?;
    }
    Ok(())
}

/// Maps one segment whose place has been checked: a part of the file, then zeros. These can be written in any
/// case.
fn load_segment(
    cx: &mut Cx<'_, '_>,
    plan: &Plan<'_>,
    file: FileId,
    part: &Segment,
    vaddr: u64,
) -> Result<(), Errno> {
    let id = plan.id;
    let page = |addr: u64| addr & !(PAGE_SIZE - 1);
    let start = page(vaddr);
    let end = map::page_up(vaddr + part.memsz).filter(|&end| end <= TASK_SIZE);
    let end = end.ok_or(Errno::ENOMEM)?;
    if end == start {
        return Ok(());
    }
    if !space::may_use(cx.k, plan.creds, start) {
        return Err(Errno::EPERM);
    }
    // Segments may overlap in a page; the later one wins, as in Linux.
    map::unmap(cx.k, cx.p, id, start, end)?;
    let area = Vma::private(end, part.prot, Behind::Anonymous(Name::None));
    let file_end = vaddr + part.filesz;
    let mut mapped_end = start;
    if part.filesz > 0 {
        mapped_end = map::page_up(file_end).ok_or(Errno::ENOMEM)?;
        let offset = part.offset.wrapping_sub(vaddr % PAGE_SIZE);
        let fits = offset
            .checked_add(mapped_end - start)
            .is_some_and(|end| end <= i64::MAX as u64);
        if !offset.is_multiple_of(PAGE_SIZE) || !fits {
            return Err(Errno::EINVAL);
        }
        file::get(cx.k, file);
        let behind = Behind::File { file, offset };
        let area = Vma {
            end: mapped_end,
            behind,
            ..area
        };
        map::insert(cx.k, cx.p, id, start, area);
    }
    if mapped_end < end {
        let executable = part.prot & Prot::EXEC;
        let prot = Prot::READ | Prot::WRITE | executable;
        map::insert(cx.k, cx.p, id, mapped_end, Vma { prot, ..area });
    }
    let zeroed = part.memsz > part.filesz && part.filesz > 0 && file_end < mapped_end;
    if zeroed && part.prot.contains(Prot::WRITE) {
        let zeros = [0; PAGE_SIZE as usize];
        let zeros = &zeros[..(mapped_end - file_end) as usize];
        user::write_in(cx.k, cx.p, id, file_end, zeros).map_err(|_| Errno::EFAULT)?;
    }
    Ok(())
}

/// Makes the stack with strings, pointers and auxiliary vector (System V ABI, "initial process stack"); gives
/// the stack pointer.
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
    cx.k.env.rng.fill(&mut random);
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

    /// What a file begins with, and NULs.
    fn head(text: &[u8]) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let len = text.len().min(HEAD);
        head[..len].copy_from_slice(&text[..len]);
        head
    }

    #[test]
    fn script_lines_are_cut_as_linux_cuts_them() {
        let sh = &b"/bin/sh"[..];
        for (text, name, argument) in [
            (&b"#!/bin/sh\n"[..], sh, None),
            (b"#!/bin/sh", sh, None),
            (b"#! \t/bin/sh -e x \nrest", sh, Some(&b"-e x"[..])),
            (b"#!/usr/bin/env python3", b"/usr/bin/env", Some(b"python3")),
            (b"#!/bin/sh\0x y\n", sh, None),
            (b"#!/bin/sh a\0b\n", sh, Some(b"a")),
            (b"#!", b"", None),
            (b"#!\0/bin/sh\n", b"", None),
            (b"#!/bin/sh\r\n", b"/bin/sh\r", None),
        ] {
            assert_eq!(parse_line(&head(text)), Ok((name, argument)), "{text:?}");
        }
        for text in [
            &b"#!\n"[..],
            b"#!  \n",
            &[&b"#!"[..], &[b'a'; 300]].concat(),
        ] {
            assert_eq!(parse_line(&head(text)), Err(Errno::ENOEXEC), "{text:?}");
        }
    }

    #[test]
    fn names_and_arguments_end_where_the_head_of_a_script_ends() {
        for len in 240..270 {
            let mut text = b"#!".to_vec();
            text.resize(len, b'/');
            text.push(b'\n');
            let whole = (len < HEAD).then(|| (&text[2..len], None));
            assert_eq!(
                parse_line(&head(&text)),
                whole.ok_or(Errno::ENOEXEC),
                "{len}"
            );
            let mut text = b"#!x ".to_vec();
            text.resize(len, b'a');
            text.push(b'\n');
            let shown = len.min(HEAD - 1) - 4;
            let wanted = (&b"x"[..], Some(&text[4..4 + shown]));
            assert_eq!(parse_line(&head(&text)), Ok(wanted), "{len}");
        }
    }
}
