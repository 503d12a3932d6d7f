//! Random changes against a model, and against what a processor with a memory of its own would still believe.

use std::collections::BTreeMap;

use super::*;
use crate::window::Kind;

/// A small generator, so that a seed gives the same steps everywhere (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// Where a page lies, and what may be done with it.
type Page = (u64, Prot);

struct Test {
    tables: Tables,
    root: Table,
    ran: AtomicBool,
    model: BTreeMap<u64, Page>,
    /// What KVM or a processor has derived and not been told to forget.
    remembered: BTreeMap<u64, Page>,
}

const BASE: u64 = 0x40_0000_0000;
const PAGES: u64 = 5 * 512;
const TARGET: u64 = 64 << 30;

impl Test {
    fn new(pages: u64) -> Test {
        let window = Window::reserve(Kind::Private, pages * PAGE_SIZE, TABLES_AT, 0).unwrap();
        let mut tables = Tables::new(window);
        let root = tables.create().unwrap();
        Test {
            tables,
            root,
            ran: AtomicBool::new(true),
            model: BTreeMap::new(),
            remembered: BTreeMap::new(),
        }
    }

    fn find(&self, page: u64) -> Option<Page> {
        let addr = BASE + page * PAGE_SIZE;
        let gpa = self.tables.translate(self.root, addr, Access::Read)?;
        let may = |access| self.tables.translate(self.root, addr, access).is_some();
        let mut prot = Prot::READ;
        prot.set(Prot::WRITE, may(Access::Write));
        prot.set(Prot::EXEC, may(Access::Execute));
        Some((gpa, prot))
    }

    /// As the model has it: what may be touched at all may be read.
    fn expected(&self, page: u64) -> Option<Page> {
        let &(gpa, prot) = self.model.get(&page)?;
        (!prot.is_empty()).then_some((gpa, prot | Prot::READ))
    }

    fn flush(&mut self) {
        if self.tables.stale.all {
            self.remembered.clear();
            self.tables.forgotten();
            return;
        }
        for (gpa, len) in std::mem::take(&mut self.tables.stale).ranges {
            self.remembered
                .retain(|_, &mut (at, _)| !(gpa..gpa + len).contains(&at));
        }
    }

    fn check(&mut self) {
        for page in 0..PAGES {
            assert_eq!(self.find(page), self.expected(page), "page {page}");
        }
        for (&page, &(gpa, prot)) in &self.remembered {
            let now = self.expected(page);
            let fits = now.is_some_and(|(at, now)| at == gpa && now.contains(prot));
            assert!(
                fits,
                "page {page} is remembered as {gpa:#x} {prot:?}, now {now:x?}"
            );
        }
    }

    fn step(&mut self, random: &mut Random) {
        let (mut first, mut count) = (random.below(PAGES), 1 + random.below(40));
        if random.below(4) == 0 {
            // Whole large pages and more.
            first &= !511;
            count = 512 * (1 + random.below(2)) + random.below(2) * 3;
        }
        count = count.min(PAGES - first);
        let range = (BASE + first * PAGE_SIZE, count * PAGE_SIZE);
        let prot = Prot::from_bits_truncate(random.below(8) as u8);
        match random.below(8) {
            0..4 => {
                let gpa = match random.below(3) {
                    0 => TARGET + random.below(1 << 16) * PAGE_SIZE,
                    _ => TARGET + random.below(128) * LARGE_PAGE + (first & 511) * PAGE_SIZE,
                };
                let mapped = self.tables.map(self.root, range, gpa, prot, &self.ran);
                mapped.unwrap();
                for index in 0..count {
                    let page = (gpa + index * PAGE_SIZE, prot);
                    self.model.insert(first + index, page);
                }
            }
            4 | 5 => {
                self.tables.unmap(self.root, range, &self.ran);
                self.model
                    .retain(|page, _| !(first..first + count).contains(page));
            }
            _ => {
                self.tables.protect(self.root, range, prot, &self.ran);
                for (_, page) in self.model.range_mut(first..first + count) {
                    page.1 = prot;
                }
            }
        }
        self.flush();
        for _ in 0..30 {
            let page = random.below(PAGES);
            if let Some(found) = self.find(page) {
                self.remembered.insert(page, found);
            }
        }
    }
}

#[test]
fn random_changes_agree_with_the_model_and_leave_nothing_stale() {
    for seed in 1..30 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut test = Test::new(4096);
        for _ in 0..150 {
            test.step(&mut random);
            test.check();
        }
    }
}

#[test]
fn a_tree_that_is_emptied_keeps_the_fixed_area() {
    let mut test = Test::new(4096);
    let range = (BASE, 600 * PAGE_SIZE);
    let (root, ran) = (test.root, &test.ran);
    test.tables
        .map(root, range, TARGET, Prot::READ, ran)
        .unwrap();
    // Right below the area, in the same last table.
    let low = (TASK_SIZE - PAGE_SIZE, PAGE_SIZE);
    test.tables.map(root, low, TARGET, Prot::READ, ran).unwrap();
    let area = test.tables.table(root, area::AREA, 1).unwrap();
    let before: Vec<u64> = (256..512).map(|at| test.tables.get(area, at)).collect();
    assert!(before.iter().any(|&entry| entry != 0));
    test.tables.empty(root);
    assert!(test.tables.stale.all);
    assert_eq!(test.tables.translate(root, BASE, Access::Read), None);
    assert_eq!(test.tables.translate(root, low.0, Access::Read), None);
    let after: Vec<u64> = (256..512).map(|at| test.tables.get(area, at)).collect();
    assert_eq!(before, after);
}

#[test]
fn tables_come_back_only_after_everything_was_forgotten() {
    let mut test = Test::new(u64::from(area::PAGES) + 9);
    let other = test.tables.create().unwrap();
    assert_eq!(test.tables.create(), Err(Full));
    test.tables.drop_tree(other);
    assert_eq!(test.tables.create(), Err(Full));
    test.tables.forgotten();
    assert!(test.tables.create().is_ok());
}

#[test]
fn the_area_is_out_of_reach() {
    let test = Test::new(4096);
    for access in [Access::Read, Access::Write, Access::Execute] {
        assert_eq!(test.tables.translate(test.root, area::AREA, access), None);
    }
}
