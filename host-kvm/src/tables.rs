//! Guest page tables: four levels, one tree for each address space, in a window of their own.
//!
//! The hardware's entries are all that is kept. Accessed and dirty are set from the start, so that processors
//! never write to a table.
//!
//! Under shadow paging KVM does not see that an entry changes: what it derived from a *leaf* goes when the
//! mapping of the target is dropped ([`Stale::ranges`]); what it derived from the *shape* of a tree (which
//! table an entry points to, a large page) only goes with everything else ([`Stale::all`]). So tables keep
//! their place until their space is gone, and freed ones are not used again before that.

use std::sync::atomic::{AtomicBool, Ordering};

use varve_core::abi::{PAGE_SIZE, TASK_SIZE};
use varve_core::machine::{Access, Prot};

use crate::area;
use crate::window::Window;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// In an entry of the second level: it maps 2 MiB.
const LARGE: u64 = 1 << 7;
/// Free for software: something is mapped, perhaps without any right.
const MAPPED: u64 = 1 << 9;
const NO_EXEC: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED;

const LARGE_PAGE: u64 = 2 << 20;
/// Freed tables that wait before everything is forgotten for their sake.
const FREED_MAX: usize = 1024;
/// Ranges that are forgotten one by one; more of them go with everything else.
const RANGES_MAX: usize = 32;

/// Guest-physical address of the window with the tables. The first 4 GiB stay empty: some of their addresses
/// mean devices to KVM.
pub(crate) const TABLES_AT: u64 = 4 << 30;

/// A table, by its page in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table(u32);

impl Table {
    /// Its guest-physical address: of a root, what goes into CR3.
    pub(crate) fn address(self) -> u64 {
        TABLES_AT + u64::from(self.0) * PAGE_SIZE
    }

    fn at(address: u64) -> Table {
        Table(((address - TABLES_AT) / PAGE_SIZE) as u32)
    }
}

/// No table is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// What KVM may have derived from entries that are no longer so.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Guest-physical ranges that leaves pointed to: address and length.
    pub ranges: Vec<(u64, u64)>,
    /// More than that.
    pub all: bool,
}

impl Stale {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && !self.all
    }

    fn add(&mut self, gpa: u64, len: u64) {
        if self.all {
            return;
        }
        if let Some((at, known)) = self.ranges.last_mut()
            && *at + *known == gpa
        {
            *known += len;
            return;
        }
        if self.ranges.len() == RANGES_MAX {
            self.all = true;
            self.ranges.clear();
            return;
        }
        self.ranges.push((gpa, len));
    }
}

/// All page tables of a sandbox.
pub(crate) struct Tables {
    pub window: Window,
    /// Pages of the window that were given out at least once.
    used: u32,
    limit: u32,
    free: Vec<u32>,
    /// Freed, but KVM may still know them.
    freed: Vec<u32>,
    /// Changes that are not in force yet.
    pub stale: Stale,
}

/// One level of the walk: which bits of an address count.
fn index(addr: u64, level: u32) -> u64 {
    addr >> (12 + 9 * (level - 1)) & 511
}

fn leaf(gpa: u64, prot: Prot) -> u64 {
    let mut entry = gpa | MAPPED | ACCESSED | DIRTY | USER;
    if !prot.is_empty() {
        entry |= PRESENT;
    }
    if prot.contains(Prot::WRITE) {
        entry |= WRITE;
    }
    if !prot.contains(Prot::EXEC) {
        entry |= NO_EXEC;
    }
    entry
}

/// Whether `new` takes something away that `old` gave.
fn takes_away(old: u64, new: u64) -> bool {
    old & PRESENT != 0
        && (old & ADDRESS != new & ADDRESS
            || old & !new & (PRESENT | WRITE) != 0
            || new & !old & NO_EXEC != 0)
}

impl Tables {
    /// Tables in a window whose first pages hold the fixed area.
    pub(crate) fn new(window: Window) -> Tables {
        let limit = (window.len() / PAGE_SIZE) as u32;
        Tables {
            window,
            used: area::PAGES,
            limit,
            free: Vec::new(),
            freed: Vec::new(),
            stale: Stale::default(),
        }
    }

    /// Bytes of the window that hold tables.
    pub(crate) fn used_len(&self) -> u64 {
        u64::from(self.used) * PAGE_SIZE
    }

    fn get(&self, table: Table, index: u64) -> u64 {
        let at = u64::from(table.0) * PAGE_SIZE + index * 8;
        self.window.word(at).load(Ordering::Acquire)
    }

    fn set(&self, table: Table, index: u64, entry: u64) {
        let at = u64::from(table.0) * PAGE_SIZE + index * 8;
        self.window.word(at).store(entry, Ordering::SeqCst);
    }

    /// The table that an entry points to.
    fn below(entry: u64) -> Option<Table> {
        let is_table = entry & PRESENT != 0 && entry & LARGE == 0;
        is_table.then(|| Table::at(entry & ADDRESS))
    }

    fn alloc(&mut self) -> Result<Table, Full> {
        let page = match self.free.pop() {
            Some(page) => {
                self.window.zero_page(u64::from(page) * PAGE_SIZE);
                page
            }
            None if self.used < self.limit => {
                self.used += 1;
                self.used - 1
            }
            None => return Err(Full),
        };
        Ok(Table(page))
    }

    /// A new tree that holds the fixed area.
    pub(crate) fn create(&mut self) -> Result<Table, Full> {
        let root = self.alloc()?;
        if self.add_area(root).is_err() {
            self.drop_tree(root);
            return Err(Full);
        }
        Ok(root)
    }

    fn add_area(&mut self, root: Table) -> Result<(), Full> {
        let last = self.table(root, area::AREA, 1)?;
        for page in 0..area::PAGES {
            let gpa = TABLES_AT + u64::from(page) * PAGE_SIZE;
            let entry = gpa | PRESENT | ACCESSED | DIRTY;
            let entry = match area::access(page) {
                area::Access::None => continue,
                area::Access::Guest => entry | USER,
                area::Access::Code => entry,
                area::Access::Read => entry | NO_EXEC,
                area::Access::Write => entry | WRITE | NO_EXEC,
            };
            let addr = area::AREA + u64::from(page) * PAGE_SIZE;
            self.set(last, index(addr, 1), entry);
        }
        Ok(())
    }

    /// The table of a level that covers an address, made if need be. A large page on the way becomes a table.
    fn table(&mut self, root: Table, addr: u64, level: u32) -> Result<Table, Full> {
        let mut table = root;
        for above in (level + 1..=4).rev() {
            let at = index(addr, above);
            let entry = self.get(table, at);
            table = match Tables::below(entry) {
                Some(below) => below,
                None => {
                    let below = self.alloc()?;
                    if entry & MAPPED != 0 {
                        self.split(below, entry);
                    }
                    self.set(table, at, below.address() | TABLE);
                    below
                }
            };
        }
        Ok(table)
    }

    /// Fills a table with what a large page mapped.
    fn split(&mut self, below: Table, large: u64) {
        let small = large & !LARGE & !ADDRESS;
        for at in 0..512 {
            let gpa = (large & ADDRESS) + at * PAGE_SIZE;
            self.set(below, at, gpa | small);
        }
        if large & PRESENT != 0 {
            self.stale.all = true;
        }
    }

    /// Frees a tree. No virtual CPU runs in it.
    pub(crate) fn drop_tree(&mut self, root: Table) {
        self.free_below(root, 4);
        self.freed.push(root.0);
        if self.freed.len() > FREED_MAX {
            self.stale.all = true;
        }
    }

    fn free_below(&mut self, table: Table, level: u32) {
        if level == 1 {
            return;
        }
        for at in 0..512 {
            if let Some(below) = Tables::below(self.get(table, at)) {
                self.free_below(below, level - 1);
                self.freed.push(below.0);
            }
        }
    }

    /// Unmaps everything of a tree but the fixed area, without which no virtual CPU that runs in it could
    /// leave the guest. Its tables can be had again after everything was forgotten.
    pub(crate) fn empty(&mut self, root: Table) {
        self.empty_around_area(root, 4);
        self.stale.all = true;
    }

    fn empty_around_area(&mut self, table: Table, level: u32) {
        let kept = index(area::AREA, level);
        for at in 0..512 {
            match Tables::below(self.get(table, at)) {
                _ if level == 1 && at >= kept => {}
                Some(below) if level > 1 && at == kept => self.empty_around_area(below, level - 1),
                Some(below) if level > 1 => {
                    self.set(table, at, 0);
                    self.free_below(below, level - 1);
                    self.freed.push(below.0);
                }
                _ => self.set(table, at, 0),
            }
        }
    }

    /// Everything that was stale is forgotten: freed tables can be used again.
    pub(crate) fn forgotten(&mut self) {
        self.free.append(&mut self.freed);
        self.stale = Stale::default();
    }

    /// Maps a range onto guest-physical addresses. `ran`: virtual CPUs may have derived something from the
    /// tree.
    ///
    /// # Errors
    /// No table is left; part of the range may be mapped.
    pub(crate) fn map(
        &mut self,
        root: Table,
        range: (u64, u64),
        gpa: u64,
        prot: Prot,
        ran: &AtomicBool,
    ) -> Result<(), Full> {
        let (addr, len) = check(range);
        let mut at = 0;
        while at < len {
            let here = addr + at;
            let large = (here | (gpa + at)).is_multiple_of(LARGE_PAGE) && len - at >= LARGE_PAGE;
            if large && self.map_large(root, here, gpa + at, prot)? {
                at += LARGE_PAGE;
                continue;
            }
            let table = self.table(root, here, 1)?;
            let end = (here | (LARGE_PAGE - 1)) + 1 - addr;
            while at < len.min(end) {
                let entry = leaf(gpa + at, prot);
                self.change(table, index(addr + at, 1), entry, ran);
                at += PAGE_SIZE;
            }
        }
        Ok(())
    }

    /// Maps 2 MiB with one entry, unless a table is there already.
    fn map_large(&mut self, root: Table, addr: u64, gpa: u64, prot: Prot) -> Result<bool, Full> {
        let table = self.table(root, addr, 2)?;
        let at = index(addr, 2);
        let old = self.get(table, at);
        if Tables::below(old).is_some() {
            return Ok(false);
        }
        let new = leaf(gpa, prot) | LARGE;
        if old != new {
            self.set(table, at, new);
            self.stale.all |= old & PRESENT != 0;
        }
        Ok(true)
    }

    fn change(&mut self, table: Table, at: u64, new: u64, ran: &AtomicBool) {
        let old = self.get(table, at);
        if old == new {
            return;
        }
        self.set(table, at, new);
        // Looked at only now: what enters the guest later finds the new entry.
        if takes_away(old, new) && ran.load(Ordering::SeqCst) {
            self.stale.add(old & ADDRESS, PAGE_SIZE);
        }
    }

    /// Unmaps a range. Where a part of a large page goes and no table is left for the rest, all of it goes.
    pub(crate) fn unmap(&mut self, root: Table, range: (u64, u64), ran: &AtomicBool) {
        self.each(root, range, ran, |_| 0);
    }

    /// Changes the rights on what is mapped in a range. As [`unmap`](Self::unmap) where no table is left.
    pub(crate) fn protect(&mut self, root: Table, range: (u64, u64), prot: Prot, ran: &AtomicBool) {
        self.each(root, range, ran, |old| leaf(old & ADDRESS, prot));
    }

    /// Replaces every entry of a range that maps something.
    fn each(&mut self, root: Table, range: (u64, u64), ran: &AtomicBool, new: impl Fn(u64) -> u64) {
        let (addr, len) = check(range);
        let end = addr + len;
        let mut at = addr;
        while at < end {
            // Down to the lowest table that is there; what is missing is passed over as a whole.
            let mut table = root;
            let mut level = 4;
            while level > 1 {
                match Tables::below(self.get(table, index(at, level))) {
                    Some(below) => (table, level) = (below, level - 1),
                    None => break,
                }
            }
            let span = PAGE_SIZE << (9 * (level - 1));
            let next = (at | (span - 1)) + 1;
            let old = self.get(table, index(at, level));
            if old & MAPPED == 0 {
                at = next;
                continue;
            }
            if level == 2 && (!at.is_multiple_of(LARGE_PAGE) || next > end) {
                if self.table(root, at, 1).is_err() {
                    self.set(table, index(at, 2), 0);
                    self.stale.all = true;
                }
                continue;
            }
            match level {
                1 => self.change(table, index(at, 1), new(old), ran),
                _ => {
                    let new = match new(old) {
                        0 => 0,
                        entry => entry | LARGE,
                    };
                    self.set(table, index(at, level), new);
                    self.stale.all |= old & PRESENT != 0 && old != new;
                }
            }
            at = next;
        }
    }

    /// A page for something else than a table, mapped nowhere yet.
    pub(crate) fn page(&mut self) -> Result<Table, Full> {
        self.alloc()
    }

    /// Frees a page that [`page`](Self::page) gave.
    pub(crate) fn free_page(&mut self, page: Table) {
        self.freed.push(page.0);
    }

    /// Guest-physical address of a user address, if an access is permitted there.
    pub(crate) fn translate(&self, root: Table, addr: u64, access: Access) -> Option<u64> {
        if addr >= TASK_SIZE {
            return None;
        }
        let (mut table, mut level) = (root, 4);
        let entry = loop {
            let entry = self.get(table, index(addr, level));
            match Tables::below(entry) {
                Some(below) if level > 1 => (table, level) = (below, level - 1),
                _ => break entry,
            }
        };
        let permitted = match access {
            Access::Read => true,
            Access::Write => entry & WRITE != 0,
            Access::Execute => entry & NO_EXEC == 0,
        };
        let inside = addr & ((PAGE_SIZE << (9 * (level - 1))) - 1);
        (entry & PRESENT != 0 && permitted).then_some((entry & ADDRESS) + inside)
    }
}

/// A range of whole pages of guest addresses.
///
/// # Panics
/// If it is not one: the core never asks for anything else.
fn check((addr, len): (u64, u64)) -> (u64, u64) {
    let end = addr.checked_add(len);
    assert!(
        end.is_some_and(|end| end <= TASK_SIZE) && (addr | len).is_multiple_of(PAGE_SIZE),
        "{addr:#x}+{len:#x} is no range of guest pages"
    );
    (addr, len)
}

#[cfg(test)]
mod tests;
