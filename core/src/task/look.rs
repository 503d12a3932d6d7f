//! Who may look into a process as a debugger does (ptrace(2), "Ptrace access mode checking").

use crate::Kernel;
use crate::abi::raw::general as g;
use crate::cred::Creds;
use crate::cred::ns::user;
use crate::machine::ThreadId;
use crate::mm::space;
use crate::vfs::perm::Who;

/// Whether a thread may look into another one as a debugger does (ptrace(2), "Ptrace access mode checking",
/// `PTRACE_MODE_REALCREDS`).
pub(crate) fn may_look(k: &Kernel, from: ThreadId, at: ThreadId) -> bool {
    let Some(task) = k.tasks.get(from) else {
        return false;
    };
    let who = Who::Creds(task.creds.clone(), Some(from));
    is_open_to(k, &who, at, |creds| {
        (creds.uid, creds.gid, creds.cap_permitted)
    })
}

/// The same for what is done through files of `/proc` (`PTRACE_MODE_FSCREDS`).
pub(crate) fn may_look_by_files(k: &Kernel, who: &Who, at: ThreadId) -> bool {
    is_open_to(k, who, at, |creds| {
        (creds.fsuid, creds.fsgid, creds.cap_effective)
    })
}

/// `__ptrace_may_access()` with this user, group and these capabilities of the one who looks.
fn is_open_to(k: &Kernel, who: &Who, at: ThreadId, by: impl Fn(&Creds) -> (u32, u32, u64)) -> bool {
    let Some(other) = k.tasks.get(at) else {
        return false;
    };
    let own = who.viewer().and_then(|from| k.tasks.get(from));
    let Some(mine) = who
        .creds()
        .filter(|_| own.is_none_or(|own| own.tgid != other.tgid))
    else {
        // The kernel itself, or the same process.
        return true;
    };
    let theirs = &other.creds;
    let (uid, gid, caps) = by(mine);
    let same = [theirs.euid, theirs.suid, theirs.uid] == [uid; 3]
        && [theirs.egid, theirs.sgid, theirs.gid] == [gid; 3];
    let capable = |ns| user::capable(k, mine, ns, g::CAP_SYS_PTRACE);
    let over_user = capable(theirs.user_ns);
    let weaker = mine.user_ns == theirs.user_ns && theirs.cap_permitted & !caps == 0;
    // Its memory may hold more than its present credentials could read.
    let access = space::access(k, other.space).filter(|_| !other.exited);
    let open = access.is_none_or(|access| access.is_open() || capable(access.ns));
    let domain = mine.landlock.as_ref();
    let within = domain.is_none_or(|domain| domain.contains(theirs.landlock.as_deref()));
    (same || over_user) && open && (weaker || over_user) && within
}
