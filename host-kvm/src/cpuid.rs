//! What the guest's `cpuid` says: what the host has, less what cannot work in a sandbox.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Features of leaf 1, ECX, that are for kernels: MONITOR, VMX, SMX, PCID, x2APIC, the TSC deadline timer.
const KERNEL_1_ECX: u32 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 17 | 1 << 21 | 1 << 24;
/// That the host itself is a virtual machine.
const HYPERVISOR: u32 = 1 << 31;
/// The operating system has enabled XSAVE: follows CR4.
const OSXSAVE: u32 = 1 << 27;
/// Leaf 7, EBX: SMEP, INVPCID, SMAP, processor trace.
const KERNEL_7_EBX: u32 = 1 << 7 | 1 << 10 | 1 << 20 | 1 << 25;
/// Leaf 7, ECX: protection keys and OSPKE (the core has no pkey_alloc(2) yet), shadow stacks, five-level
/// paging.
const ABSENT_7_ECX: u32 = 1 << 3 | 1 << 4 | 1 << 7 | 1 << 16;
/// Leaf 7, EDX: indirect branch tracking, and AMX, whose state a process must ask for (arch_prctl(2),
/// `ARCH_REQ_XCOMP_PERM`).
const ABSENT_7_EDX: u32 = 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25;
/// Leaf 7, EBX: FSGSBASE.
const FSGSBASE: u32 = 1;
/// Leaf 1, ECX: XSAVE.
const XSAVE: u32 = 1 << 26;
/// Leaf 0x8000_0001, ECX: SVM.
const SVM: u32 = 1 << 2;
/// Leaves that describe KVM's own interface.
const HYPERVISOR_LEAVES: std::ops::Range<u32> = 0x4000_0000..0x4001_0000;
/// State components that programs get: x87, SSE, AVX, AVX-512.
const COMPONENTS: u64 = 0b1110_0111;

/// The features of a virtual CPU.
pub(crate) struct Features {
    /// For `KVM_SET_CPUID2`.
    pub cpuid: CpuId,
    /// `rdfsbase` and its relatives.
    pub fsgsbase: bool,
    /// What XCR0 is set to; `None` without XSAVE.
    pub xcr0: Option<u64>,
    /// Bytes of the XSAVE area (not compacted) with all components that programs get.
    pub xstate_size: usize,
    /// Width of guest-physical addresses.
    pub address_bits: u32,
}

/// Picks from what KVM supports.
pub(crate) fn features(mut cpuid: CpuId) -> Features {
    let host = std::arch::x86_64::__cpuid(1);
    cpuid.retain(|entry| !HYPERVISOR_LEAVES.contains(&entry.function));
    let mut features = Features {
        cpuid: cpuid.clone(),
        fsgsbase: false,
        xcr0: None,
        xstate_size: 512,
        address_bits: 36,
    };
    let mut has_xsave = false;
    let mut components = None;
    for entry in cpuid.as_mut_slice() {
        match (entry.function, entry.index) {
            (1, _) => {
                entry.ecx &= !(KERNEL_1_ECX | HYPERVISOR | OSXSAVE);
                entry.ecx |= host.ecx & HYPERVISOR;
                has_xsave = entry.ecx & XSAVE != 0;
            }
            (7, 0) => {
                entry.ebx &= !KERNEL_7_EBX;
                entry.ecx &= !ABSENT_7_ECX;
                entry.edx &= !ABSENT_7_EDX;
                features.fsgsbase = entry.ebx & FSGSBASE != 0;
            }
            (0xd, 0) => {
                let mask = u64::from(entry.eax) | u64::from(entry.edx) << 32;
                components = Some(mask & COMPONENTS);
            }
            (0x8000_0001, _) => entry.ecx &= !SVM,
            (0x8000_0008, _) => features.address_bits = entry.eax & 0xff,
            _ => {}
        }
    }
    if let Some(components) = components {
        // Page-table-based KVM does not speak of XSAVE in leaf 1, but programs see the processor's own
        // `cpuid` there and use all of this.
        restrict_components(cpuid.as_mut_slice(), components);
        features.xstate_size = area_size(cpuid.as_slice(), components);
        features.xcr0 = has_xsave.then_some(components);
    }
    features.cpuid = cpuid;
    features
}

/// Lets leaf 0xd speak of these components only, and of no supervisor state.
fn restrict_components(entries: &mut [kvm_cpuid_entry2], xcr0: u64) {
    let size = area_size(entries, xcr0) as u32;
    for entry in entries.iter_mut().filter(|entry| entry.function == 0xd) {
        match entry.index {
            0 => {
                entry.eax = xcr0 as u32;
                entry.edx = (xcr0 >> 32) as u32;
                entry.ecx = size;
            }
            1 => (entry.ecx, entry.edx) = (0, 0),
            index if index >= 64 || xcr0 >> index & 1 == 0 => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
            }
            _ => {}
        }
    }
}

/// Bytes up to the end of the last component (Intel SDM 1, 13.4.2); at least the legacy area and the header.
fn area_size(entries: &[kvm_cpuid_entry2], xcr0: u64) -> usize {
    let component = |entry: &&kvm_cpuid_entry2| {
        entry.function == 0xd && (2..63).contains(&entry.index) && xcr0 >> entry.index & 1 != 0
    };
    let ends = entries.iter().filter(component);
    let ends = ends.map(|entry| entry.eax as usize + entry.ebx as usize);
    ends.max().unwrap_or(0).max(576)
}
