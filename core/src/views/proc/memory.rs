//! Files of `/proc/PID` that tell of memory: `maps`, `smaps`, `smaps_rollup`, `statm`, and the lines of
//! `status`.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt::Write;

use super::TOO_LONG;
use super::process::path_and_mounts;
use super::shown::Rest;
use super::view::View;
use crate::Kernel;
use crate::abi::{Errno, PAGE_SIZE};
use crate::machine::{Prot, SpaceId, ThreadId};
use crate::mm::space::{self, VmaInfo};
use crate::mm::vma::VmFlags;
use crate::port::Ports;

/// Column in which the names of areas begin.
const NAME_COLUMN: usize = 73;

/// The space of a process, while it has one.
fn space_of(k: &Kernel, view: View) -> Result<Option<SpaceId>, Errno> {
    let task = view.task(k).ok_or(Errno::ESRCH)?;
    Ok((!task.exited).then_some(task.space))
}

pub(super) fn statm(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let Some(id) = space_of(k, view)? else {
        return Ok(b"0 0 0 0 0 0 0\n".to_vec());
    };
    let usage = space::usage(k, id);
    let pages = |bytes: u64| bytes / PAGE_SIZE;
    let text = format!(
        "{} {} {} {} 0 {} 0\n",
        pages(usage.vm_bytes),
        pages(usage.rss_bytes()),
        pages(usage.file_bytes + usage.shmem_bytes),
        pages(usage.text_bytes),
        pages(usage.data_bytes + usage.stack_bytes)
    );
    Ok(text.into_bytes())
}

/// Takes the peak of the resident size back (5). Which pages were touched (1 to 4) the hosts do not tell, so
/// there is nothing to forget. `EINVAL` for other numbers.
pub(super) fn clear_refs(k: &mut Kernel, view: View, data: &[u8]) -> Result<(), Errno> {
    const RESET_PEAK: i64 = 5;
    let kind = super::state::parse_signed(data)?;
    if !(1..=RESET_PEAK).contains(&kind) {
        return Err(Errno::EINVAL);
    }
    if let Some(id) = space_of(k, view)?
        && kind == RESET_PEAK
    {
        k.mm.pages(id, |pages| pages.reset_peak());
    }
    Ok(())
}

/// The lines of `status` about memory.
pub(super) fn status_lines(k: &Kernel, id: SpaceId) -> String {
    let usage = space::usage(k, id);
    let mut text = String::new();
    for (name, bytes) in [
        ("VmPeak", usage.vm_peak),
        ("VmSize", usage.vm_bytes),
        ("VmLck", usage.locked_bytes),
        ("VmPin", 0),
        ("VmHWM", usage.rss_peak),
        ("VmRSS", usage.rss_bytes()),
        ("RssAnon", usage.anon_bytes),
        ("RssFile", usage.file_bytes),
        ("RssShmem", usage.shmem_bytes),
        ("VmData", usage.data_bytes),
        ("VmStk", usage.stack_bytes),
        ("VmExe", usage.text_bytes),
        ("VmLib", usage.code_bytes.saturating_sub(usage.text_bytes)),
        ("VmPTE", usage.table_bytes),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ] {
        let _ = writeln!(text, "{name}:\t{:>8} kB", bytes / 1024);
    }
    text.push_str("CoreDumping:\t0\nTHP_enabled:\t1\n");
    text
}

/// The line of an area in `maps`.
fn line(k: &mut Kernel, thread: ThreadId, vma: &VmaInfo) -> Vec<u8> {
    let flag = |prot: Prot, letter: char| if vma.prot.contains(prot) { letter } else { '-' };
    let share = if vma.shared { 's' } else { 'p' };
    let open = vma
        .file
        .and_then(|id| k.files.file(id).map(|open| (*open.path, open.inode)));
    let (minor, ino) = match open {
        Some((_, Some(at))) => (at.fs.0 + 1, at.ino.0),
        _ => (0, 0),
    };
    let mut line = format!(
        "{:08x}-{:08x} {}{}{}{share} {:08x} 00:{minor:02x} {ino} ",
        vma.start,
        vma.end,
        flag(Prot::READ, 'r'),
        flag(Prot::WRITE, 'w'),
        flag(Prot::EXEC, 'x'),
        vma.offset,
    )
    .into_bytes();
    let name = match open {
        Some((path, _)) => {
            let mut mounts = 0;
            let text = path_and_mounts(k, thread, path, &mut mounts);
            k.env.steps.spend(mounts / 4);
            text.unwrap_or_else(|_| TOO_LONG.to_vec())
        }
        None => vma.name.as_bytes().to_vec(),
    };
    if !name.is_empty() {
        line.resize(line.len().max(NAME_COLUMN), b' ');
        line.extend(name.iter().flat_map(|&byte| match byte {
            b'\n' => b"\\012".to_vec(),
            byte => vec![byte],
        }));
    }
    line.push(b'\n');
    line
}

/// What pages of areas are, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
struct Pages {
    size: u64,
    rss: u64,
    /// Each page divided by the number of its users.
    pss: u64,
    pss_anon: u64,
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    anonymous: u64,
    locked: u64,
}

impl Pages {
    /// Adds some pages of an area from one on; gives the next one, if that was not all.
    fn add(&mut self, k: &Kernel, id: SpaceId, vma: &VmaInfo, first: u64) -> Option<u64> {
        let end = vma.end / PAGE_SIZE;
        let before = self.pss;
        let next =
            k.mm.space(id)
                .pages
                .each_in_leaves(first, end, LEAVES, |_, pte| {
                    self.rss += PAGE_SIZE;
                    let Some(frame) = pte.frame() else {
                        self.pss += PAGE_SIZE;
                        match vma.shared && pte.writable() {
                            true => self.private_dirty += PAGE_SIZE,
                            false => self.private_clean += PAGE_SIZE,
                        }
                        return;
                    };
                    self.anonymous += PAGE_SIZE;
                    let users = u64::from(k.frames.count(frame).max(1));
                    self.pss += PAGE_SIZE / users;
                    self.pss_anon += PAGE_SIZE / users;
                    match users {
                        1 => self.private_dirty += PAGE_SIZE,
                        _ => self.shared_dirty += PAGE_SIZE,
                    }
                });
        if vma.flags.contains(VmFlags::LOCKED) {
            self.locked += self.pss - before;
        }
        next
    }

    /// The lines from `Rss` to `Locked`.
    fn lines(&self, text: &mut String, rollup: bool) {
        let mut lines = vec![("Rss", self.rss), ("Pss", self.pss)];
        lines.push(("Pss_Dirty", self.private_dirty + self.shared_dirty));
        if rollup {
            lines.push(("Pss_Anon", self.pss_anon));
            lines.push(("Pss_File", self.pss - self.pss_anon));
            lines.push(("Pss_Shmem", 0));
        }
        lines.extend([
            ("Shared_Clean", self.shared_clean),
            ("Shared_Dirty", self.shared_dirty),
            ("Private_Clean", self.private_clean),
            ("Private_Dirty", self.private_dirty),
            ("Referenced", self.rss),
            ("Anonymous", self.anonymous),
            ("KSM", 0),
            ("LazyFree", 0),
            ("AnonHugePages", 0),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", 0),
            ("SwapPss", 0),
            ("Locked", self.locked),
        ]);
        for (name, bytes) in lines {
            kib(text, name, bytes);
        }
    }
}

fn kib(text: &mut String, name: &str, bytes: u64) {
    let label = format!("{name}:");
    let _ = writeln!(text, "{label:<16}{:>8} kB", bytes / 1024);
}

/// The two letters of each flag that an area has, in the order of Linux's bits.
fn flags(vma: &VmaInfo) -> String {
    let (prot, max, own) = (vma.prot, vma.max, vma.flags);
    let named = [
        (prot.contains(Prot::READ), "rd"),
        (prot.contains(Prot::WRITE), "wr"),
        (prot.contains(Prot::EXEC), "ex"),
        (vma.shared && max.contains(Prot::WRITE), "sh"),
        (max.contains(Prot::READ), "mr"),
        (max.contains(Prot::WRITE), "mw"),
        (max.contains(Prot::EXEC), "me"),
        (vma.shared, "ms"),
        (own.contains(VmFlags::GROWS_DOWN), "gd"),
        (own.contains(VmFlags::LOCKED), "lo"),
        (own.contains(VmFlags::SEQUENTIAL), "sr"),
        (own.contains(VmFlags::RANDOM), "rr"),
        (own.contains(VmFlags::NO_FORK), "dc"),
        (own.contains(VmFlags::LOCK_ON_FAULT), "lf"),
        (own.contains(VmFlags::ACCOUNT), "ac"),
        (own.contains(VmFlags::NO_RESERVE), "nr"),
        (own.contains(VmFlags::WIPE_ON_FORK), "wf"),
        (own.contains(VmFlags::NO_DUMP), "dd"),
        (own.contains(VmFlags::HUGE), "hg"),
        (own.contains(VmFlags::NO_HUGE), "nh"),
        (own.contains(VmFlags::MERGEABLE), "mg"),
        (own.contains(VmFlags::SEALED), "sl"),
    ];
    let there = named.iter().filter(|(there, _)| *there);
    there.fold(String::new(), |text, (_, name)| text + name + " ")
}

/// Tables of pages that are looked at in one step of a [`Cursor`].
const LEAVES: usize = 8;

/// Which file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Form {
    Maps,
    Smaps,
    Rollup,
}

/// Makes the records of areas one after the other.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Cursor {
    view: View,
    space: SpaceId,
    form: Form,
    /// The areas below have been dealt with.
    next: u64,
    /// The page to go on with in the area that is being looked at.
    page: Option<u64>,
    /// What was found in it, or in all so far.
    pages: Pages,
    /// Where the first area begins.
    start: Option<u64>,
}

fn cursor(k: &Kernel, view: View, form: Form) -> Result<Option<Rest>, Errno> {
    let space = space_of(k, view)?;
    Ok(space.map(|space| {
        Rest::Areas(Cursor {
            view,
            space,
            form,
            next: 0,
            page: None,
            pages: Pages::default(),
            start: None,
        })
    }))
}

pub(super) fn maps(k: &Kernel, view: View) -> Result<Option<Rest>, Errno> {
    cursor(k, view, Form::Maps)
}

pub(super) fn smaps(k: &Kernel, view: View) -> Result<Option<Rest>, Errno> {
    cursor(k, view, Form::Smaps)
}

pub(super) fn smaps_rollup(k: &Kernel, view: View) -> Result<Option<Rest>, Errno> {
    match cursor(k, view, Form::Rollup)? {
        None => Err(Errno::ESRCH),
        cursor => Ok(cursor),
    }
}

impl Cursor {
    /// Makes a record or a part of one; `false` after the last.
    pub(super) fn step(&mut self, k: &mut Kernel, thread: ThreadId, text: &mut Vec<u8>) -> bool {
        // The process may have ended or executed another program since the last read.
        if space_of(k, self.view) != Ok(Some(self.space)) {
            return false;
        }
        let Some(vma) = space::next_vma(k, self.space, self.next) else {
            if self.form == Form::Rollup {
                self.rollup(text);
            }
            return false;
        };
        k.env.steps.spend(8);
        if self.form == Form::Maps {
            text.extend(line(k, thread, &vma));
            self.next = vma.end;
            return true;
        }
        self.start.get_or_insert(vma.start);
        let first = self.page.unwrap_or_else(|| {
            self.pages.size += vma.end - vma.start;
            vma.start / PAGE_SIZE
        });
        self.page = self.pages.add(k, self.space, &vma, first);
        if self.page.is_some() {
            // As many entries take as long as a call on few things.
            k.env.steps.spend(LEAVES as u64 * 32);
            return true;
        }
        self.next = vma.end;
        k.env.steps.spend(32);
        if self.form == Form::Smaps {
            let pages = core::mem::take(&mut self.pages);
            text.extend(line(k, thread, &vma));
            text.extend(smaps_lines(&vma, &pages).into_bytes());
        }
        true
    }

    fn rollup(&self, text: &mut Vec<u8>) {
        let start = self.start.unwrap_or(0);
        let end = self.next;
        let mut lines = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
        while lines.len() < NAME_COLUMN {
            lines.push(' ');
        }
        lines.push_str("[rollup]\n");
        self.pages.lines(&mut lines, true);
        text.extend(lines.into_bytes());
    }
}

/// What `smaps` shows of an area below its line.
fn smaps_lines(vma: &VmaInfo, pages: &Pages) -> String {
    let mut text = String::new();
    kib(&mut text, "Size", pages.size);
    kib(&mut text, "KernelPageSize", PAGE_SIZE);
    kib(&mut text, "MMUPageSize", PAGE_SIZE);
    pages.lines(&mut text, false);
    let _ = writeln!(text, "{:<16}{:>8}", "THPeligible:", 0);
    let _ = writeln!(text, "VmFlags: {}", flags(vma));
    text
}
