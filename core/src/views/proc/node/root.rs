//! `/proc` itself: processes by their numbers, links to the reader's own, and what tells of the whole system.

use super::{Asked, Entries, Node, NodeOps, decimal};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::pid;
use crate::fs::view::Hide;
use crate::ns::pids;
use crate::views::proc::view::View;
use crate::views::proc::{hide, system};

/// The root directory.
pub(in crate::views::proc) struct Directory;

impl NodeOps for Directory {
    fn mode(&self, _k: &Kernel) -> u32 {
        g::S_IFDIR | 0o555
    }

    fn links(&self, k: &Kernel) -> u32 {
        2 + (system::directories(0) + k.tasks.group_count()) as u32
    }

    fn lookup(&self, k: &Kernel, asked: &Asked<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        let options = &asked.fs.options;
        let number = decimal(name).and_then(|number| pid::find(k, asked.fs.pids, number));
        Ok(match (name, number) {
            (b"self", _) => Some(Node::OwnLink { thread: false }),
            (b"thread-self", _) => Some(Node::OwnLink { thread: true }),
            (_, Some(id)) => {
                let view = View { id, thread: false };
                let visible = options.hide != Hide::Always
                    || hide::sees(k, options, asked.who, view, Hide::Always);
                view.task(k).filter(|_| visible).map(|_| Node::Dir(view))
            }
            _ if options.only_processes => None,
            _ => system::child(0, name).map(Node::System),
        })
    }

    fn entries<'k>(
        &self,
        k: &'k Kernel,
        asked: &Asked<'k>,
        first: u32,
    ) -> Result<Entries<'k>, Errno> {
        let Asked { fs, who } = *asked;
        let seen = move |&(_, id): &(u32, u32)| {
            let view = View { id, thread: false };
            hide::sees(k, &fs.options, who, view, Hide::Directory)
        };
        let node = |(number, id)| (number, Node::Dir(View { id, thread: false }));
        let processes = pids::processes(k, fs.pids, first);
        let mut entries = Entries::numbered(processes.filter(seen).map(node));
        entries.named.extend([
            (&b"self"[..], Node::OwnLink { thread: false }),
            (b"thread-self", Node::OwnLink { thread: true }),
        ]);
        if !fs.options.only_processes {
            entries.named.extend(super::system::children(0));
        }
        Ok(entries)
    }
}
