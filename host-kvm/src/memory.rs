//! The guest-physical memory of a sandbox: page tables, the memory file, images; and what KVM must forget
//! when a mapping changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use varve_core::abi::PAGE_SIZE;
use varve_core::machine::{Access, Backing, FrameNo, ImageId, Prot};
use varve_core::port::Images as _;
use varve_host::{Backings, Grace, PlatformError};

use crate::area::{self, Block};
use crate::os_error;
use crate::tables::{Full, Stale, TABLES_AT, Table, Tables};
use crate::window::{Kind, Window};

/// Where the memory file begins, or where it begins if it is larger than the room below [`HOLE`].
const FRAMES_AT: u64 = 16 << 30;
const FRAMES_HIGH: u64 = 1 << 40;
/// AMD processors keep the last 12 GiB of the first TiB to themselves.
const HOLE: u64 = (1 << 40) - (12 << 30);
/// Most bytes of images.
const FILES_MAX: u64 = 256 << 30;
/// Where nothing is; a slot comes and goes there to make KVM forget everything.
const NOTHING_AT: u64 = 1 << 20;
/// Images of this size and more begin at a multiple of it, so that large pages can map them.
const LARGE_PAGE: u64 = 2 << 20;
/// Page tables for so many frames of guest memory, and some more for what is not in frames.
const FRAMES_PER_TABLE: u64 = 64;
const TABLES_MIN: u64 = 16 << 10;
const TABLES_MAX: u64 = 1 << 20;

/// Everything about guest memory that is behind one lock.
pub(crate) struct Memory {
    tables: Tables,
    frames: Window,
    files: Window,
    backings: Arc<Backings>,
    grace: Arc<Grace>,
    /// Trees of spaces that were dropped, each with its batch: a virtual CPU may still run in one until that
    /// is in force.
    dropped: VecDeque<(u64, Table)>,
    /// Where images were put in `files`: offset and length.
    placed: HashMap<ImageId, (u64, u64)>,
    /// Where the next image goes.
    next: u64,
    /// The slot at [`NOTHING_AT`].
    spare_slot: u32,
}

fn no_tables() -> PlatformError {
    PlatformError::Host("no room for page tables is left".into())
}

fn pages(len: u64) -> u64 {
    len.next_multiple_of(PAGE_SIZE)
}

impl Memory {
    /// Lays out guest-physical memory. `slots`: as many as KVM gives; `address_bits`: as wide as its
    /// addresses are.
    ///
    /// # Errors
    /// Guest memory is larger than what can be addressed, or the host has no room.
    pub(crate) fn new(
        vm: &VmFd,
        backings: Arc<Backings>,
        grace: Arc<Grace>,
        slots: u32,
        address_bits: u32,
    ) -> Result<Memory, PlatformError> {
        let (memory, _) = backings
            .file(Backing::Memory(FrameNo(0)))
            .ok_or_else(|| PlatformError::Bug("there is no memory file".into()))?;
        let memory_len = rustix::fs::fstat(memory)
            .map_err(std::io::Error::from)?
            .st_size as u64;
        let memory_len = pages(memory_len).max(PAGE_SIZE);
        let tables = memory_len / PAGE_SIZE / FRAMES_PER_TABLE;
        let tables = tables.clamp(TABLES_MIN, TABLES_MAX) * PAGE_SIZE;
        let end = 1u64 << address_bits.min(52);
        let frames_at = match FRAMES_AT + memory_len > HOLE - FILES_MAX {
            true => FRAMES_HIGH,
            false => FRAMES_AT,
        };
        let files_at = match frames_at {
            FRAMES_AT => (frames_at + memory_len).next_multiple_of(1 << 30),
            _ => FRAMES_AT,
        };
        let files_len = FILES_MAX.min(HOLE.min(end).saturating_sub(files_at));
        if frames_at + memory_len > end || files_len == 0 {
            return Err(PlatformError::Config(format!(
                "{} MiB of guest memory do not fit into {address_bits} bits of address; --memory limits it",
                memory_len >> 20
            )));
        }
        let frames_slot = Window::slots_for(tables);
        let files_slot = frames_slot + Window::slots_for(memory_len);
        let spare_slot = files_slot + Window::slots_for(files_len);
        if spare_slot >= slots {
            return Err(PlatformError::Config(format!(
                "{} MiB of guest memory take more memory slots than KVM has; --memory limits it",
                memory_len >> 20
            )));
        }
        let mut window = Window::reserve(Kind::Private, tables, TABLES_AT, 0)?;
        window.ensure(vm, 0, u64::from(area::PAGES) * PAGE_SIZE)?;
        for (page, offset, bytes) in area::contents() {
            window.write(u64::from(page) * PAGE_SIZE + offset as u64, &bytes);
        }
        let frames = Window::shared(memory, memory_len, frames_at, frames_slot)?;
        let files = Window::reserve(Kind::Files, files_len, files_at, files_slot)?;
        Ok(Memory {
            tables: Tables::new(window),
            frames,
            files,
            backings,
            grace,
            dropped: VecDeque::new(),
            placed: HashMap::new(),
            next: 0,
            spare_slot,
        })
    }

    /// The page tables.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Writes the task state segment of a virtual CPU.
    pub(crate) fn set_up_block(&self, block: Block, stub_port: bool) {
        let (page, offset) = block.place();
        let at = u64::from(page) * PAGE_SIZE + offset as u64;
        self.tables.window.write(at, &block.task_state(stub_port));
    }

    /// What an exception pushed on the stack of a virtual CPU.
    pub(crate) fn frame(&self, block: Block) -> [u8; 48] {
        let (page, offset) = block.place();
        let at = u64::from(page) * PAGE_SIZE + offset as u64 + Block::FRAME.start as u64;
        let mut frame = [0; 48];
        self.tables.window.read(at, &mut frame);
        frame
    }

    /// Reads bytes of the guest that it can read itself; as many as lie in one page. Gives their number.
    pub(crate) fn read_guest(&self, root: Table, addr: u64, buf: &mut [u8]) -> usize {
        let Some(gpa) = self.tables.translate(root, addr, Access::Read) else {
            return 0;
        };
        let len = buf.len().min((PAGE_SIZE - addr % PAGE_SIZE) as usize);
        for window in [&self.frames, &self.files, &self.tables.window] {
            let end = window.gpa + window.len();
            if (window.gpa..end).contains(&gpa) {
                window.read(gpa - window.gpa, &mut buf[..len]);
                return len;
            }
        }
        0
    }

    /// A new address space.
    ///
    /// # Errors
    /// No page tables are left.
    pub(crate) fn create(&mut self, vm: &VmFd) -> Result<Table, PlatformError> {
        let root = self.with_room(vm, None, |memory| memory.tables.create())?;
        self.cover_tables(vm)?;
        Ok(root)
    }

    /// Frees an address space when nothing runs in it any more.
    pub(crate) fn drop_space(&mut self, root: Table) {
        self.dropped.push_back((self.grace.batch(), root));
        self.free_dropped();
    }

    /// Frees the trees of spaces that no virtual CPU can run in any more.
    fn free_dropped(&mut self) {
        while let Some(&(batch, root)) = self.dropped.front()
            && batch < self.grace.flushed()
        {
            self.dropped.pop_front();
            self.tables.drop_tree(root);
        }
    }

    /// Maps a range; `ran`: something may have run in the space.
    ///
    /// # Errors
    /// The file or image cannot be made visible, or no page tables are left.
    pub(crate) fn map(
        &mut self,
        vm: &VmFd,
        root: Table,
        range: (u64, u64),
        backing: Backing,
        prot: Prot,
        ran: &AtomicBool,
    ) -> Result<(), PlatformError> {
        let gpa = self.place(vm, backing, range.1)?;
        self.with_room(vm, Some(root), |memory| {
            memory.tables.map(root, range, gpa, prot, ran)
        })?;
        self.cover_tables(vm)
    }

    /// Unmaps a range.
    ///
    /// # Errors
    /// KVM cannot be shown the page tables that were made.
    pub(crate) fn unmap(
        &mut self,
        vm: &VmFd,
        root: Table,
        range: (u64, u64),
        ran: &AtomicBool,
    ) -> Result<(), PlatformError> {
        self.tables.unmap(root, range, ran);
        self.cover_tables(vm)
    }

    /// Changes the rights on what is mapped in a range.
    ///
    /// # Errors
    /// As [`unmap`](Self::unmap).
    pub(crate) fn protect(
        &mut self,
        vm: &VmFd,
        root: Table,
        range: (u64, u64),
        prot: Prot,
        ran: &AtomicBool,
    ) -> Result<(), PlatformError> {
        self.tables.protect(root, range, prot, ran);
        self.cover_tables(vm)
    }

    /// A space with one page of code of varve's own.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub(crate) fn create_with_code(
        &mut self,
        vm: &VmFd,
        addr: u64,
        code: &[u8],
    ) -> Result<(Table, Table), PlatformError> {
        let root = self.create(vm)?;
        let page = self.tables.page().map_err(|_| no_tables())?;
        let at = page.address() - TABLES_AT;
        self.tables.window.write(at, code);
        let range = (addr, PAGE_SIZE);
        let prot = Prot::READ | Prot::EXEC;
        let ran = AtomicBool::new(false);
        let mapped = self.tables.map(root, range, page.address(), prot, &ran);
        mapped.map_err(|_| no_tables())?;
        self.cover_tables(vm)?;
        Ok((root, page))
    }

    /// Frees what [`create_with_code`](Self::create_with_code) gave.
    pub(crate) fn drop_with_code(&mut self, (root, page): (Table, Table)) {
        self.tables.drop_tree(root);
        self.tables.free_page(page);
    }

    /// Does something that needs page tables. When there are none left those of dropped spaces come free,
    /// then those of the space itself, whose pages the next faults bring back.
    fn with_room<T>(
        &mut self,
        vm: &VmFd,
        root: Option<Table>,
        mut work: impl FnMut(&mut Memory) -> Result<T, Full>,
    ) -> Result<T, PlatformError> {
        if let Ok(done) = work(self) {
            return Ok(done);
        }
        self.free_dropped();
        self.forget_all(vm)?;
        if let Ok(done) = work(self) {
            return Ok(done);
        }
        if let Some(root) = root {
            self.tables.empty(root);
            self.forget_all(vm)?;
            if let Ok(done) = work(self) {
                return Ok(done);
            }
        }
        Err(no_tables())
    }

    /// Unmaps everything of a space: each access faults again, and the core is asked for the page.
    pub(crate) fn drop_pages(&mut self, vm: &VmFd, root: Table) -> Result<(), PlatformError> {
        self.tables.empty(root);
        self.forget_all(vm)
    }

    /// Lets KVM see the page tables that were made.
    fn cover_tables(&mut self, vm: &VmFd) -> Result<(), PlatformError> {
        let len = self.tables.used_len();
        self.tables.window.ensure(vm, 0, len)
    }

    /// Guest-physical address of a backing, made visible for `len` bytes.
    fn place(&mut self, vm: &VmFd, backing: Backing, len: u64) -> Result<u64, PlatformError> {
        match backing {
            Backing::Memory(frame) => {
                self.frames.ensure(vm, frame.offset(), len)?;
                Ok(self.frames.gpa + frame.offset())
            }
            Backing::Image { image, offset } => {
                let (at, size) = match self.placed.get(&image) {
                    Some(&placed) => placed,
                    None => self.put_image(image)?,
                };
                if offset.checked_add(len).is_none_or(|end| end > size) {
                    let text = format!("{len} bytes at {offset} are not in image {}", image.0);
                    return Err(PlatformError::Bug(text));
                }
                self.files.ensure(vm, at + offset, len)?;
                Ok(self.files.gpa + at + offset)
            }
        }
    }

    fn put_image(&mut self, image: ImageId) -> Result<(u64, u64), PlatformError> {
        let len = self.backings.image(image).map_or(0, |block| block.len());
        let size = pages(len);
        let align = match size >= LARGE_PAGE {
            true => LARGE_PAGE,
            false => PAGE_SIZE,
        };
        let at = self.next.next_multiple_of(align);
        let fits = at
            .checked_add(size)
            .is_some_and(|end| end <= self.files.len());
        if size == 0 || !fits {
            return Err(PlatformError::Config(format!(
                "an image of {} MiB does not fit beside {} MiB of others",
                len >> 20,
                self.next >> 20
            )));
        }
        let (file, _) = self
            .backings
            .file(Backing::Image { image, offset: 0 })
            .ok_or_else(|| PlatformError::Bug(format!("image {} cannot be mapped", image.0)))?;
        self.files.put(at, size, file)?;
        self.next = at + size;
        self.placed.insert(image, (at, size));
        Ok((at, size))
    }

    /// Puts every change in force for virtual CPUs that are running.
    pub(crate) fn flush(&mut self, vm: &VmFd) -> Result<(), PlatformError> {
        if self.tables.stale.is_empty() {
            return Ok(());
        }
        if self.tables.stale.all {
            return self.forget_all(vm);
        }
        let Stale { ranges, .. } = std::mem::take(&mut self.tables.stale);
        for (gpa, len) in ranges {
            for window in [&self.frames, &self.files] {
                if gpa >= window.gpa && gpa + len <= window.gpa + window.len() {
                    window.forget(gpa - window.gpa, len);
                }
            }
        }
        Ok(())
    }

    /// Makes KVM forget everything that it derived: what it does when a memory slot goes.
    fn forget_all(&mut self, vm: &VmFd) -> Result<(), PlatformError> {
        let region = |memory_size| kvm_userspace_memory_region {
            slot: self.spare_slot,
            flags: 0,
            guest_phys_addr: NOTHING_AT,
            memory_size,
            userspace_addr: self.tables.window.address(),
        };
        // SAFETY: one page of this process's own, which the window keeps; no page table points to where it
        // appears, and the slot is gone before this returns.
        unsafe {
            vm.set_user_memory_region(region(PAGE_SIZE))
                .map_err(os_error)?;
            vm.set_user_memory_region(region(0)).map_err(os_error)?;
        }
        self.tables.forgotten();
        Ok(())
    }
}
