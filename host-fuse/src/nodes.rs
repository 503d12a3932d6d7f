//! Numbers of inodes as the kernel knows them: 1 is the root, the others are their own.

use varve_imgfs::Ino;

/// FUSE's number of the root directory.
pub(crate) const ROOT: u64 = 1;
/// What an inode of the only layer has above its own number.
const LAYER_0: u64 = 1 << 48;

/// The two directions, for one stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nodes {
    pub(crate) root: Ino,
}

impl Nodes {
    /// The kernel's number of an inode.
    pub(crate) fn number(self, inode: Ino) -> u64 {
        match inode {
            inode if inode == self.root => ROOT,
            inode => self.shown(inode),
        }
    }

    /// The number that stat(2) shows; that of the root is its own, too.
    pub(crate) fn shown(self, inode: Ino) -> u64 {
        match inode.nid() {
            nid if inode.0 >> 48 == 1 && (nid > ROOT || inode == self.root) => nid,
            _ => inode.0,
        }
    }

    /// The inode of a number that the kernel was given.
    pub(crate) fn inode(self, number: u64) -> Ino {
        match number {
            ROOT => self.root,
            number if number >> 48 == 0 => Ino(LAYER_0 | number),
            number => Ino(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_inodes() {
        for root in [LAYER_0 | 1, LAYER_0 | 36, 3 << 48 | 36] {
            let nodes = Nodes { root: Ino(root) };
            for inode in [
                root,
                LAYER_0 | 1,
                LAYER_0 | 2,
                LAYER_0 | 99,
                2 << 48 | 1,
                7 << 48,
            ] {
                let number = nodes.number(Ino(inode));
                assert_eq!(nodes.inode(number), Ino(inode), "{root:x} {inode:x}");
            }
        }
        let nodes = Nodes {
            root: Ino(LAYER_0 | 36),
        };
        assert_eq!(nodes.shown(Ino(LAYER_0 | 36)), 36);
        assert_eq!(nodes.number(Ino(LAYER_0 | 40)), 40);
    }
}
