//! Listing of directories: upper entries first, then those of the layers that nothing hides.
//!
//! A cookie says where an entry is, so that it stays right while entries come and go, and after the directory
//! was closed and opened again. Those of the layers are theirs; see [`Layers::read_dir`].
//!
//! [`Layers::read_dir`]: varve_imgfs::Layers::read_dir

use core::ops::ControlFlow;

use super::UnionFs;
use super::node::{Body, Dir, Slot};
use crate::abi::Errno;
use crate::fs::filesystem::{Entry, FsCx, Ino};

/// Cookies of upper entries are `UPPER - number`: the newest comes first, so that what is made while a
/// directory is read is not seen, and reading ends.
const UPPER: u64 = 1 << 46;
const _: () = assert!(UPPER < varve_imgfs::layers::FIRST_COOKIE);

impl UnionFs {
    pub(super) fn list(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        self.check_dir(dir)?;
        let changed = self.nodes.get(&dir).and_then(|node| match &node.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        });
        if let Some(changed) = changed
            && cookie <= UPPER
        {
            let below = match cookie {
                0 => u64::MAX,
                _ => UPPER - cookie,
            };
            if list_upper(changed, below, each).is_break() {
                return Ok(());
            }
        }
        let is_hidden =
            |name: &[u8]| changed.is_some_and(|changed| changed.slots.contains_key(name));
        self.layers
            .read_dir(&mut cx.ports.layers(), dir, cookie, is_hidden, each)
    }
}

/// Gives the upper entries with numbers below this one, newest first.
fn list_upper(dir: &Dir, below: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> ControlFlow<()> {
    for (number, name) in dir.order.range(..below).rev() {
        if let Some(&Slot::Entry { ino, kind, .. }) = dir.slots.get(name)
            && !each(Entry {
                name,
                ino,
                kind,
                next: UPPER - number,
            })
        {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}
