//! What the handling of one system call works with.

use crate::machine::ThreadId;
use crate::port::Ports;

/// What the handling of a system call works with: the state, the ports, and the thread that calls.
///
/// A function below the kernel leaves open what `K` is: it says in a trait of its floor what it asks of it.
/// `k` and `p` are fields, as most work needs both at once.
pub(crate) struct Cx<'a, 'p, K> {
    pub k: &'a mut K,
    pub p: &'a mut Ports<'p>,
    pub thread: ThreadId,
}
