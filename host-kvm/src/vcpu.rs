//! One virtual CPU: into the guest with a thread's registers, and out of it again.
//!
//! [`Vcpu::load`] loads a guest context whole, [`Vcpu::leave`] stores it whole; nothing else touches guest
//! registers.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::{
    KVM_INTERNAL_ERROR_EMULATION, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_device_attr,
    kvm_msr_entry, kvm_regs, kvm_run, kvm_segment, kvm_sregs, kvm_xsave,
};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags};
use varve_core::machine::Regs;
use varve_host::PlatformError;

use crate::area::{self, Block};
use crate::cpuid::Features;
use crate::os_error;
use crate::trap::{Details, Look};

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SYSCALL_MASK: u32 = 0xc000_0084;

const CR0: u64 = 1 << 31 | 1 << 18 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1; // PG AM WP NE ET MP PE
const CR4: u64 = 1 << 10 | 1 << 9 | 1 << 5; // OSXMMEXCPT OSFXSR PAE
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
const EFER: u64 = 1 << 11 | 1 << 10 | 1 << 8 | 1; // NXE LMA LME SCE

/// Flags that belong to the program: CF PF AF ZF SF TF DF OF NT RF AC ID.
const EFLAGS_USER: u64 = 0x25_4dd5;
/// Always one, and interrupts enabled, as programs see it.
const EFLAGS_FIXED: u64 = 0x202;
/// Flags that `syscall` clears: all that Linux clears (`MSR_SYSCALL_MASK`).
const EFLAGS_CLEARED: u64 = 0x25_7fd5;
/// DR6 without news.
const DR6_INIT: u64 = 0xffff_0ff0;

/// The page of a virtual CPU that KVM and varve share, mapped once more to ask it to leave the guest from
/// other threads.
#[derive(Debug)]
pub(crate) struct RunPage {
    base: NonNull<u8>,
}

// SAFETY: only the one byte of `immediate_exit` is touched through it, as an atomic.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

const RUN_PAGE: usize = 4096;

impl RunPage {
    fn new(fd: &VcpuFd) -> io::Result<RunPage> {
        // SAFETY: the descriptor is open as long as `fd` lives, which is longer than this call.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                RUN_PAGE,
                prot,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(RunPage { base })
    }

    fn flag(&self) -> &AtomicU8 {
        let offset = std::mem::offset_of!(kvm_run, immediate_exit);
        // SAFETY: the byte lies in the mapping, which lives as long as `self`; the kernel only reads it.
        unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset)) }
    }

    /// The current or next run ends at once; a thread that is in the guest needs a signal as well.
    pub(crate) fn exit_soon(&self) {
        self.flag().store(1, Ordering::SeqCst);
    }

    /// Takes that back.
    fn stay(&self) {
        self.flag().store(0, Ordering::SeqCst);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; the flag borrows `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), RUN_PAGE) };
    }
}

/// How a virtual CPU came out of the guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// From the system call stub.
    Syscall,
    /// From the stub of an exception.
    Exception(u8),
    /// An `in` or `out` of the program's own.
    Port,
    /// It was asked to.
    Asked,
    /// A page is mapped that the host does not have any more: its file was cut.
    Missing,
}

/// A virtual CPU.
pub(crate) struct Vcpu {
    fd: VcpuFd,
    page: Arc<RunPage>,
    pub block: Block,
    /// The system registers that KVM set it up with, with those of the sandbox.
    template: kvm_sregs,
    /// Nothing was loaded yet.
    fresh: bool,
    xstate_size: usize,
}

fn segment(selector: u16, kind: u8, dpl: u8, long: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        dpl,
        db: 1 - long,
        s: 1,
        l: long,
        g: 1,
        ..kvm_segment::default()
    }
}

/// Types of descriptors: code that can be read, data that can be written, both accessed.
const CODE: u8 = 0xb;
const DATA: u8 = 3;

/// A data segment register: null, or one of the segments that programs can load. All of them are flat.
fn data_segment(selector: u64, base: u64) -> kvm_segment {
    let selector = selector as u16;
    let segment = match selector | 3 {
        area::USER_DATA => segment(selector, DATA, 3, 0),
        area::USER_CODE_32 => segment(selector, CODE, 3, 0),
        area::USER_CODE => segment(selector, CODE, 3, 1),
        _ => kvm_segment {
            selector: selector & 3,
            unusable: 1,
            ..kvm_segment::default()
        },
    };
    kvm_segment { base, ..segment }
}

/// The code segment that a program runs in; `None` for one that it cannot.
fn code_segment(selector: u64) -> Option<kvm_segment> {
    match u16::try_from(selector) {
        Ok(area::USER_CODE) => Some(segment(area::USER_CODE, CODE, 3, 1)),
        Ok(area::USER_CODE_32) => Some(segment(area::USER_CODE_32, CODE, 3, 0)),
        _ => None,
    }
}

/// Whether a virtual CPU can be given these registers: the instruction pointer of a processor has a limit,
/// and there are two code segments.
pub(crate) fn can_run(regs: &Regs) -> bool {
    is_canonical(regs.rip) && code_segment(regs.cs).is_some()
}

/// Whether user addresses go that far; a processor cannot even be given other instruction pointers.
fn is_canonical(addr: u64) -> bool {
    (addr as i64) << 16 >> 16 == addr as i64
}

/// Lets guests read the host's time stamp counter as it is, where KVM can do that (`KVM_VCPU_TSC_OFFSET`,
/// Linux 5.16): it begins a new virtual machine's at 0. The probe finds out what they read in the end.
fn show_counter(vcpu: &VcpuFd) -> io::Result<()> {
    const KVM_SET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee1;
    const KVM_HAS_DEVICE_ATTR: libc::c_ulong = 0x4018_aee3;
    let offset = 0u64;
    let attribute = kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: &raw const offset as u64,
    };
    let ioctl = |request| {
        // SAFETY: both requests read the attribute, which lives, and the second one the 8 bytes that it
        // points to, which live too.
        match unsafe { libc::ioctl(vcpu.as_raw_fd(), request, &raw const attribute) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    match ioctl(KVM_HAS_DEVICE_ATTR) {
        Ok(()) => ioctl(KVM_SET_DEVICE_ATTR),
        Err(_) => Ok(()),
    }
}

impl Vcpu {
    /// Makes virtual CPU number `block`.
    pub(crate) fn new(vm: &VmFd, block: Block, features: &Features) -> Result<Vcpu, PlatformError> {
        let mut fd = vm.create_vcpu(u64::from(block.0)).map_err(os_error)?;
        let page = Arc::new(RunPage::new(&fd)?);
        show_counter(&fd)?;
        fd.set_cpuid2(&features.cpuid).map_err(os_error)?;
        let msr = |index, data| kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        };
        let msrs = [
            msr(MSR_STAR, area::STAR),
            msr(MSR_LSTAR, area::SYSCALL_STUB),
            msr(MSR_CSTAR, area::SYSCALL_STUB),
            msr(MSR_SYSCALL_MASK, EFLAGS_CLEARED),
        ];
        let msrs = Msrs::from_entries(&msrs)
            .map_err(|_| PlatformError::Bug("too many registers at a time".into()))?;
        if fd.set_msrs(&msrs).map_err(os_error)? != msrs.as_slice().len() {
            let text = "KVM refuses the registers of `syscall`";
            return Err(PlatformError::Host(text.into()));
        }
        let mut template = fd.get_sregs().map_err(os_error)?;
        sandbox_registers(&mut template, block, features);
        // XSETBV is only possible once CR4 says so.
        fd.set_sregs(&template).map_err(os_error)?;
        if let Some(xcr0) = features.xcr0 {
            let mut xcrs = fd.get_xcrs().map_err(os_error)?;
            xcrs.nr_xcrs = 1;
            xcrs.xcrs[0].xcr = 0;
            xcrs.xcrs[0].value = xcr0;
            fd.set_xcrs(&xcrs).map_err(os_error)?;
        }
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::SystemRegister);
        Ok(Vcpu {
            fd,
            page,
            block,
            template,
            fresh: true,
            xstate_size: features.xstate_size,
        })
    }

    /// What other threads use to make it leave the guest.
    pub(crate) fn page(&self) -> &Arc<RunPage> {
        &self.page
    }

    /// Sets all registers of the guest: what is not in `regs` is the same for all programs.
    pub(crate) fn load(&mut self, regs: &Regs, cr3: u64) {
        let fresh = std::mem::take(&mut self.fresh);
        let template = self.template;
        let sync = self.fd.sync_regs_mut();
        sync.regs = kvm_regs {
            rax: regs.rax,
            rbx: regs.rbx,
            rcx: regs.rcx,
            rdx: regs.rdx,
            rsi: regs.rsi,
            rdi: regs.rdi,
            rsp: regs.rsp,
            rbp: regs.rbp,
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rip: regs.rip,
            rflags: regs.eflags & EFLAGS_USER | EFLAGS_FIXED,
        };
        let sregs = &mut sync.sregs;
        let same = !fresh
            && u64::from(sregs.cs.selector) == regs.cs
            && sregs.ss.selector == area::USER_DATA
            && sregs.cr3 == cr3
            && (sregs.fs.base, sregs.gs.base) == (regs.fs_base, regs.gs_base)
            && [sregs.ds, sregs.es, sregs.fs, sregs.gs].map(|segment| u64::from(segment.selector))
                == [regs.ds, regs.es, regs.fs, regs.gs];
        if !same {
            *sregs = kvm_sregs {
                cr3,
                cs: code_segment(regs.cs).unwrap_or(template.cs),
                ds: data_segment(regs.ds, 0),
                es: data_segment(regs.es, 0),
                fs: data_segment(regs.fs, regs.fs_base),
                gs: data_segment(regs.gs, regs.gs_base),
                ..template
            };
        }
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        if !same {
            self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
        }
    }

    /// Runs the guest until something stops it.
    ///
    /// # Errors
    /// KVM cannot go on with it: the text says what it reported.
    pub(crate) fn run(&mut self) -> Result<Exit, PlatformError> {
        let port = match self.fd.run() {
            Ok(VcpuExit::IoOut(port, _) | VcpuExit::IoIn(port, _)) => port,
            Ok(VcpuExit::Intr) => return Ok(self.asked()),
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                let text = format!(
                    "the processor refused to enter the guest: reason {reason:#x} on processor {cpu}"
                );
                return Err(PlatformError::Bug(self.standing(text)));
            }
            Ok(VcpuExit::InternalError) => {
                let run = self.fd.get_kvm_run();
                // SAFETY: `internal` is what KVM fills in for this exit reason; it is plain numbers.
                let internal = unsafe { run.__bindgen_anon_1.internal };
                let data = &internal.data[..(internal.ndata as usize).min(internal.data.len())];
                let text = format!(
                    "KVM gave up: suberror {}, data {data:x?}",
                    internal.suberror
                );
                let text = self.standing(text);
                return Err(match internal.suberror {
                    // It had to carry out an instruction of the program that it does not know.
                    KVM_INTERNAL_ERROR_EMULATION => PlatformError::Guest(text),
                    _ => PlatformError::Host(text),
                });
            }
            Ok(VcpuExit::Shutdown) => {
                let text = self.standing("the guest's processor shut down".into());
                return Err(PlatformError::Bug(text));
            }
            Ok(other) => {
                let text = format!("unexpected exit {other:?}");
                return Err(PlatformError::Bug(self.standing(text)));
            }
            Err(failed) if failed.errno() == libc::EINTR => return Ok(self.asked()),
            Err(failed) if failed.errno() == libc::EFAULT => return Ok(Exit::Missing),
            Err(failed) => {
                let text = self.standing("KVM_RUN".into());
                return Err(varve_host::failed(&text)(os_error(failed)));
            }
        };
        let rip = self.fd.sync_regs_mut().regs.rip;
        if area::is_syscall(port, rip) {
            return Ok(Exit::Syscall);
        }
        Ok(area::exception(port, rip).map_or(Exit::Port, Exit::Exception))
    }

    /// Lets KVM finish a port instruction of the program's own, so that nothing of it is left for what runs
    /// next.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn finish(&mut self) -> Result<(), PlatformError> {
        self.page.exit_soon();
        self.run().map(drop)
    }

    fn asked(&mut self) -> Exit {
        self.page.stay();
        Exit::Asked
    }

    /// A text with where the guest stands behind it.
    fn standing(&mut self, text: String) -> String {
        let regs = self.fd.sync_regs_mut().regs;
        format!("{text}; rip {:#x}, rsp {:#x}", regs.rip, regs.rsp)
    }

    /// The guest's registers after an exit from where the program stands, with `frame`: what the exception
    /// pushed.
    pub(crate) fn leave(&mut self, exit: &Exit, frame: &[u8; 48]) -> (Regs, Option<Details>) {
        let sync = self.fd.sync_regs_mut();
        let (from, sregs) = (&sync.regs, &sync.sregs);
        let mut regs = Regs {
            r15: from.r15,
            r14: from.r14,
            r13: from.r13,
            r12: from.r12,
            rbp: from.rbp,
            rbx: from.rbx,
            r11: from.r11,
            r10: from.r10,
            r9: from.r9,
            r8: from.r8,
            rax: from.rax,
            rcx: from.rcx,
            rdx: from.rdx,
            rsi: from.rsi,
            rdi: from.rdi,
            orig_rax: u64::MAX,
            rip: from.rip,
            cs: u64::from(area::USER_CODE),
            eflags: from.rflags,
            rsp: from.rsp,
            ss: u64::from(area::USER_DATA),
            fs_base: sregs.fs.base,
            gs_base: sregs.gs.base,
            ds: u64::from(sregs.ds.selector),
            es: u64::from(sregs.es.selector),
            fs: u64::from(sregs.fs.selector),
            gs: u64::from(sregs.gs.selector),
        };
        let mut details = None;
        match *exit {
            Exit::Syscall => {
                const ENOSYS: i64 = libc::ENOSYS as i64;
                regs.orig_rax = from.rax;
                regs.rax = -ENOSYS as u64;
                regs.rip = from.rcx;
                regs.eflags = from.r11;
            }
            Exit::Exception(vector) => {
                let word = |index: usize| {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&frame[index * 8..index * 8 + 8]);
                    u64::from_le_bytes(bytes)
                };
                regs.rip = word(1);
                regs.cs = word(2) & 0xffff;
                regs.eflags = word(3);
                regs.rsp = word(4);
                let error = if area::has_error_code(vector) {
                    word(0)
                } else {
                    0
                };
                details = Some(Details {
                    vector,
                    error,
                    rip: regs.rip,
                    cr2: sregs.cr2,
                });
            }
            Exit::Port | Exit::Asked | Exit::Missing => regs.cs = u64::from(sregs.cs.selector),
        }
        regs.eflags = regs.eflags & EFLAGS_USER | EFLAGS_FIXED;
        (regs, details)
    }

    /// Whether it left the guest in user mode.
    pub(crate) fn is_in_user_mode(&mut self) -> bool {
        self.fd.sync_regs_mut().sregs.cs.selector & 3 == 3
    }

    /// Whether it was stopped on the way to a stub's exit: the registers are not those of the program then,
    /// and [`run`](Self::run) should go on.
    pub(crate) fn is_on_the_way_out(&mut self) -> io::Result<bool> {
        let end = area::AREA + u64::from(area::PAGES) * varve_core::abi::PAGE_SIZE;
        if (area::AREA..end).contains(&self.fd.sync_regs_mut().regs.rip) {
            return Ok(true);
        }
        // An exception that the guest's handler has not been entered for.
        let exception = self.fd.get_vcpu_events().map_err(os_error)?.exception;
        Ok(exception.injected | exception.pending != 0)
    }

    /// Reads the XSAVE area; `buf` has the size of the state.
    pub(crate) fn read_xstate(&self, buf: &mut [u8]) -> io::Result<()> {
        let state = self.fd.get_xsave().map_err(os_error)?;
        let mut words = state.region.iter().map(|word| word.to_le_bytes());
        for part in buf.chunks_mut(4) {
            let Some(word) = words.next() else { break };
            part.copy_from_slice(&word[..part.len()]);
        }
        Ok(())
    }

    /// Replaces the XSAVE area; `false`: the processor would refuse it.
    pub(crate) fn write_xstate(&mut self, buf: &[u8]) -> io::Result<bool> {
        let mut state = kvm_xsave::default();
        for (word, part) in state.region.iter_mut().zip(buf.chunks(4)) {
            let mut bytes = [0; 4];
            bytes[..part.len()].copy_from_slice(part);
            *word = u32::from_le_bytes(bytes);
        }
        // SAFETY: the structure has the 4096 bytes that KVM reads: no component is enabled that would need
        // more (see `cpuid`).
        match unsafe { self.fd.set_xsave(&state) } {
            Ok(()) => Ok(true),
            Err(failed) if failed.errno() == libc::EINVAL => Ok(false),
            Err(failed) => Err(os_error(failed)),
        }
    }

    /// The XSAVE area.
    pub(crate) fn xstate(&self) -> io::Result<Vec<u8>> {
        let mut state = vec![0; self.xstate_size];
        self.read_xstate(&mut state)?;
        Ok(state)
    }
}

impl Look for Vcpu {
    fn debug_status(&mut self) -> u64 {
        let Ok(mut debug) = self.fd.get_debug_regs() else {
            return 0;
        };
        let status = debug.dr6;
        debug.dr6 = DR6_INIT;
        let _ = self.fd.set_debug_regs(&debug);
        status
    }

    fn float_status(&mut self) -> (u16, u16, u32) {
        // Without it the exception is told without its kind.
        let Ok(state) = self.xstate() else {
            return (0, 0, 0);
        };
        let word = |at: usize| u16::from_le_bytes([state[at], state[at + 1]]);
        let mxcsr = u32::from(word(24)) | u32::from(word(26)) << 16;
        (word(0), word(2), mxcsr)
    }
}

/// Everything of the system registers that does not change from program to program.
fn sandbox_registers(sregs: &mut kvm_sregs, block: Block, features: &Features) {
    sregs.cs = segment(area::USER_CODE, CODE, 3, 1);
    sregs.ss = segment(area::USER_DATA, DATA, 3, 0);
    for register in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs] {
        *register = data_segment(0, 0);
    }
    sregs.tr = kvm_segment {
        base: block.address(),
        limit: area::TSS_LIMIT,
        selector: area::TASK_STATE,
        type_: 0xb,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..kvm_segment::default()
    };
    (sregs.gdt.base, sregs.gdt.limit) = area::GDT_AT;
    (sregs.idt.base, sregs.idt.limit) = area::IDT_AT;
    sregs.cr0 = CR0;
    sregs.cr4 = CR4;
    if features.fsgsbase {
        sregs.cr4 |= CR4_FSGSBASE;
    }
    if features.xcr0.is_some() {
        sregs.cr4 |= CR4_OSXSAVE;
    }
    sregs.efer = EFER;
}
