//! What the domains of landlock(7) deny with files (`security/landlock/fs.c`).
//!
//! A right is granted if each layer of the domain has a rule that allows it, for the file or for a directory
//! above it, up to the root of all mounts. So the places above are looked at one after the other, and the
//! layers that have not allowed a right yet are kept for each right.

use alloc::sync::Arc;

use super::dentry::DentryId;
use super::mount::PathRef;
use super::perm::Who;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::OpenFlags;
use crate::cred::landlock::{Domain, FileKey, FsAccess};
use crate::fs::anon;
use crate::fs::filesystem::Attr;
use crate::vfs::Vfs;

/// Layers of a domain, one bit each.
type Layers = u16;
/// The layers that have not allowed a right yet, right by right.
type Masks = [Layers; 16];

/// Most steps for a place and those above it; what lies deeper is denied. A domain of one layer reaches 4,096
/// levels, one of sixteen 819; a path has 2,048 at most.
const STEPS_MAX: u64 = 4096;
/// Layers whose rules are looked up in a step, beside the place itself.
const LAYERS_OF_A_STEP: usize = 4;

/// The domain in whose name something is done, if it is about files.
fn domain(_k: &Vfs, who: &Who) -> Option<Arc<Domain>> {
    let domain = who.creds()?.landlock.as_ref()?;
    (!domain.fs_access().is_empty()).then(|| domain.clone())
}

/// The file that a rule would be about; `None` for a name without a file.
pub(crate) fn key(k: &Vfs, dentry: DentryId) -> Option<FileKey> {
    let dentry = k.dentries.at(dentry);
    Some((k.fs.filesystem_number(dentry.fs), dentry.ino?))
}

/// Whether a place is in no tree that a program can see: what is open there is asked nothing.
pub(crate) fn is_internal(k: &Vfs, place: PathRef) -> bool {
    k.mounts.at(place.mount).is_internal() || k.dentries.at(place.dentry).fs == anon::FS
}

/// The layers that are about each right (`landlock_init_layer_masks()`), and the rights that any is about.
fn masks(domain: &Domain, access: FsAccess) -> (Masks, FsAccess) {
    let mut masks = [0; 16];
    let mut about = FsAccess::empty();
    for (at, layer) in domain.layers().iter().enumerate() {
        let denied = access & layer.denied();
        about |= denied;
        for right in denied.iter() {
            masks[right.bits().trailing_zeros() as usize] |= 1 << at;
        }
    }
    (masks, about)
}

/// Whether no layer is left.
fn are_empty(masks: &Masks) -> bool {
    masks.iter().all(|layers| *layers == 0)
}

/// Takes the layers away that allow these rights for a file. Whether all of them are allowed by all layers
/// then (`landlock_unmask_layers()`).
fn unmask(
    k: &Vfs,
    domain: &Domain,
    file: Option<FileKey>,
    rights: FsAccess,
    masks: &mut Masks,
) -> bool {
    if let Some(file) = file {
        for (at, layer) in domain.layers().iter().enumerate() {
            let allowed = k.landlock.allowed(layer, file);
            // What a layer is not about it allows.
            for right in (allowed & rights).iter() {
                masks[right.bits().trailing_zeros() as usize] &= !(1 << at);
            }
        }
    }
    let mut left = rights.iter();
    left.all(|right| masks[right.bits().trailing_zeros() as usize] == 0)
}

/// The directory above a place, mount points passed over; `None` at the root of everything, or of what hangs
/// nowhere.
fn above(k: &Vfs, mut place: PathRef) -> Option<PathRef> {
    loop {
        let mount = k.mounts.at(place.mount);
        if place.dentry == mount.root {
            place = mount.on?;
            continue;
        }
        let parent = k.dentries.at(place.dentry).parent;
        return (parent != place.dentry).then_some(PathRef {
            dentry: parent,
            ..place
        });
    }
}

/// Counts the places of a walk.
struct Places {
    /// Steps for each.
    cost: u64,
    left: u64,
}

impl Places {
    fn new(domain: &Domain) -> Places {
        Places {
            cost: 1 + (domain.layers().len() / LAYERS_OF_A_STEP) as u64,
            left: STEPS_MAX,
        }
    }

    /// Whether one more place may be looked at.
    fn next(&mut self, k: &mut Vfs) -> bool {
        k.env.steps.spend(self.cost);
        self.left = self.left.saturating_sub(self.cost);
        self.left > 0
    }
}

/// Which of these rights are denied at a place.
fn denied(k: &mut Vfs, domain: &Domain, place: PathRef, access: FsAccess) -> FsAccess {
    let (mut masks, about) = masks(domain, access);
    if about.is_empty() || is_internal(k, place) {
        return FsAccess::empty();
    }
    let mut places = Places::new(domain);
    let mut at = Some(place);
    while let Some(place) = at.filter(|_| places.next(k)) {
        let file = key(k, place.dentry);
        if unmask(k, domain, file, about, &mut masks) {
            return FsAccess::empty();
        }
        at = above(k, place);
    }
    let left = about.iter();
    left.filter(|right| masks[right.bits().trailing_zeros() as usize] != 0)
        .collect()
}

/// Whether all of these rights are granted at a place. `EACCES`.
pub(crate) fn check(k: &mut Vfs, who: &Who, place: PathRef, access: FsAccess) -> Result<(), Errno> {
    let Some(domain) = domain(k, who) else {
        return Ok(());
    };
    match denied(k, &domain, place, access).is_empty() {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

/// The right to make a file of a type.
fn making(mode: u32) -> FsAccess {
    match mode & g::S_IFMT {
        g::S_IFLNK => FsAccess::MAKE_SYM,
        g::S_IFDIR => FsAccess::MAKE_DIR,
        g::S_IFCHR => FsAccess::MAKE_CHAR,
        g::S_IFBLK => FsAccess::MAKE_BLOCK,
        g::S_IFIFO => FsAccess::MAKE_FIFO,
        g::S_IFSOCK => FsAccess::MAKE_SOCK,
        _ => FsAccess::MAKE_REG,
    }
}

/// Whether a file of this type may be made in a directory. `EACCES`.
pub(crate) fn check_make(k: &mut Vfs, who: &Who, dir: PathRef, mode: u32) -> Result<(), Errno> {
    check(k, who, dir, making(mode))
}

/// Whether a file may be removed from a directory. `EACCES`.
pub(crate) fn check_unlink(k: &mut Vfs, who: &Who, dir: PathRef) -> Result<(), Errno> {
    check(k, who, dir, FsAccess::REMOVE_FILE)
}

/// Whether a directory may be removed from another one. `EACCES`.
pub(crate) fn check_rmdir(k: &mut Vfs, who: &Who, dir: PathRef) -> Result<(), Errno> {
    check(k, who, dir, FsAccess::REMOVE_DIR)
}

fn removing(directory: bool) -> FsAccess {
    match directory {
        true => FsAccess::REMOVE_DIR,
        false => FsAccess::REMOVE_FILE,
    }
}

/// Whether a file may be opened, with these flags of open(2) or to be run. Gives what may not be done with it
/// later on. `EACCES` (`hook_file_open()`).
pub(crate) fn check_open(
    k: &mut Vfs,
    who: &Who,
    place: PathRef,
    attr: &Attr,
    flags: OpenFlags,
    runs: bool,
) -> Result<FsAccess, Errno> {
    let Some(domain) = domain(k, who) else {
        return Ok(FsAccess::empty());
    };
    let kind = attr.mode & g::S_IFMT;
    let mut wanted = match (flags.access_mode(), kind) {
        (OpenFlags::RDONLY | OpenFlags::RDWR, g::S_IFDIR) => FsAccess::READ_DIR,
        (OpenFlags::RDONLY, _) => FsAccess::READ_FILE,
        (OpenFlags::WRONLY, _) => FsAccess::WRITE_FILE,
        (OpenFlags::RDWR, _) => FsAccess::READ_FILE | FsAccess::WRITE_FILE,
        _ => FsAccess::empty(),
    };
    wanted.set(FsAccess::EXECUTE, runs);
    let mut later = FsAccess::TRUNCATE;
    later.set(FsAccess::IOCTL_DEV, matches!(kind, g::S_IFCHR | g::S_IFBLK));
    let denied = denied(k, &domain, place, wanted | later);
    match denied.intersects(wanted) {
        true => Err(Errno::EACCES),
        false => Ok(denied),
    }
}

/// The same for a message queue, which lies in a directory of the kernel's own that no rule can be about.
pub(crate) fn check_queue(k: &Vfs, who: &Who, flags: OpenFlags) -> Result<(), Errno> {
    let Some(domain) = domain(k, who) else {
        return Ok(());
    };
    let wanted = match flags.access_mode() {
        OpenFlags::RDONLY => FsAccess::READ_FILE,
        OpenFlags::WRONLY => FsAccess::WRITE_FILE,
        _ => FsAccess::READ_FILE | FsAccess::WRITE_FILE,
    };
    match domain.fs_access().intersects(wanted) {
        true => Err(Errno::EACCES),
        false => Ok(()),
    }
}

/// `EPERM` for who is in a domain about files: what is mounted where stays as it is
/// (`hook_sb_mount()`, ...).
pub(crate) fn check_mounts(k: &Vfs, who: &Who) -> Result<(), Errno> {
    match domain(k, who) {
        Some(_) => Err(Errno::EPERM),
        None => Ok(()),
    }
}

/// How a file gets another place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refer {
    /// One name more (link(2)).
    Link,
    /// Another name, which may be there already.
    Rename,
    /// The two change places.
    Exchange,
}

/// One file of those that get another place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub dentry: DentryId,
    /// File type; 0 if there is no file of that name yet.
    pub kind: u32,
}

impl Moved {
    pub(crate) fn new(k: &Vfs, dentry: DentryId) -> Moved {
        let kind = match k.dentries.at(dentry).ino {
            Some(_) => k.dentries.at(dentry).kind(),
            None => 0,
        };
        Moved { dentry, kind }
    }

    fn is_dir(self) -> bool {
        self.kind == g::S_IFDIR
    }

    /// What taking the name away needs.
    fn removed(self) -> FsAccess {
        match self.kind {
            0 => FsAccess::empty(),
            _ => removing(self.is_dir()),
        }
    }
}

/// Whether a file may be linked or renamed into a directory of the same mount, where `new` is or will be.
/// `EACCES`; `EXDEV` where it could be used there as it could not before, or where the domain lets nothing
/// change its directory (`current_check_refer_path()`).
pub(crate) fn check_refer(
    k: &mut Vfs,
    who: &Who,
    old: Moved,
    new_dir: PathRef,
    new: Moved,
    how: Refer,
) -> Result<(), Errno> {
    let Some(domain) = domain(k, who) else {
        return Ok(());
    };
    let exchanges = how == Refer::Exchange;
    // What the old directory must grant, and the new one.
    let mut wanted = [FsAccess::empty(), making(old.kind)];
    if exchanges {
        wanted[0] |= making(new.kind);
    }
    if how != Refer::Link {
        wanted[0] |= old.removed();
        wanted[1] |= new.removed();
    }
    let root = k.mounts.at(new_dir.mount).root;
    let old_dir = k.dentries.at(old.dentry).parent;
    if old_dir == new_dir.dentry {
        let denied = denied(k, &domain, new_dir, wanted[0] | wanted[1]);
        return match denied.is_empty() {
            true => Ok(()),
            false => Err(Errno::EACCES),
        };
    }
    wanted = wanted.map(|access| access | FsAccess::REFER);
    let old_dir = match old.dentry == root {
        true => root,
        false => old_dir,
    };
    let mut places = Places::new(&domain);
    let mut sides = [[0; 16]; 2];
    let mut granted = true;
    for (side, dir) in sides.iter_mut().zip([old_dir, new_dir.dentry]) {
        granted &= collect(k, &domain, (root, dir), side, &mut places);
    }
    if granted {
        return Ok(());
    }
    let mut child = |k: &mut Vfs, moved: Moved| {
        places.next(k);
        let (mut masks, about) = masks(&domain, FsAccess::all());
        let file = key(k, moved.dentry);
        unmask(k, &domain, file, about, &mut masks);
        (masks, moved.is_dir())
    };
    let first = child(k, old);
    let second = exchanges.then(|| child(k, new));
    let top = PathRef {
        dentry: root,
        ..new_dir
    };
    if walk_both(
        k,
        &domain,
        top,
        (wanted, &mut sides),
        (first, second),
        places,
    ) {
        return Ok(());
    }
    let refused = sides.iter().zip(wanted).any(|(masks, wanted)| {
        let mut rights = (wanted - FsAccess::REFER).iter();
        rights.any(|right| masks[right.bits().trailing_zeros() as usize] != 0)
    });
    Err(match refused {
        true => Errno::EACCES,
        false => Errno::EXDEV,
    })
}

/// The layers that do not allow each right from a directory up to the root of the mount. Whether all allow
/// everything (`collect_domain_accesses()`).
fn collect(
    k: &mut Vfs,
    domain: &Domain,
    (root, mut dir): (DentryId, DentryId),
    side: &mut Masks,
    places: &mut Places,
) -> bool {
    let (start, about) = masks(domain, FsAccess::all());
    *side = start;
    while places.next(k) {
        let file = key(k, dir);
        if unmask(k, domain, file, about, side) {
            return true;
        }
        let parent = k.dentries.at(dir).parent;
        if dir == root || parent == dir {
            return false;
        }
        dir = parent;
    }
    false
}

/// Goes on from the root of the mount upwards for both directories (`is_access_to_paths_allowed()`): whether
/// everything that is wanted is granted, and nothing can be done with a file in its new place that could not
/// be done in its old one. `children` are the layers that do not allow each right for the files themselves.
fn walk_both(
    k: &mut Vfs,
    domain: &Domain,
    top: PathRef,
    (wanted, sides): ([FsAccess; 2], &mut [Masks; 2]),
    children: ((Masks, bool), Option<(Masks, bool)>),
    mut places: Places,
) -> bool {
    let mut compares = true;
    let mut rights = [domain.fs_access(); 2];
    let mut granted = [are_empty(&sides[0]), are_empty(&sides[1])];
    let mut at = Some(top);
    while let Some(place) = at.filter(|_| places.next(k)) {
        if compares && grants_no_more(sides, &children) {
            // From here on what is wanted is enough.
            compares = false;
            rights = wanted;
            for side in 0..2 {
                for (bit, layers) in sides[side].iter_mut().enumerate() {
                    if wanted[side].bits() >> bit & 1 == 0 {
                        *layers = 0;
                    }
                }
                granted[side] |= are_empty(&sides[side]);
            }
            if granted == [true; 2] {
                return true;
            }
        }
        let file = key(k, place.dentry);
        for side in 0..2 {
            granted[side] =
                granted[side] || unmask(k, domain, file, rights[side], &mut sides[side]);
        }
        if granted == [true; 2] {
            return true;
        }
        at = above(k, place);
    }
    false
}

/// Whether a file in its new directory is denied at least what it is denied in its old one, and in an
/// exchange the other way round as well (`no_more_access()`).
fn grants_no_more(
    [old, new]: &[Masks; 2],
    (first, second): &((Masks, bool), Option<(Masks, bool)>),
) -> bool {
    let covers = |from: &Masks, to: &Masks, (child, directory): &(Masks, bool)| {
        (0..16).all(|bit| {
            let concerns = *directory || FsAccess::OF_FILES.bits() >> bit & 1 == 1;
            !concerns || from[bit] & child[bit] & !to[bit] == 0
        })
    };
    covers(old, new, first)
        && second
            .as_ref()
            .is_none_or(|second| covers(new, old, second))
}
