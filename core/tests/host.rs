//! Directories of the host as a guest sees them: names and files that change without telling, and POSIX ACLs.

use std::collections::BTreeMap;

use varve_core::abi::Errno;
use varve_core::boot::{Layer, Tree};
use varve_core::machine::{Access, ImageId, ThreadId, Trap};
use varve_core::memhost::{BARE_ADDR, Machine, MemBlock, MemHost, bare};
use varve_core::port::{HostTree, NodeAttr, NodeEntry, NodeId};

const READ: u64 = 0;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const STAT: u64 = 4;
const LSEEK: u64 = 8;
const MMAP: u64 = 9;
const ACCESS: u64 = 21;
const CHDIR: u64 = 80;
const CHMOD: u64 = 90;
const SETGROUPS: u64 = 116;
const SETRESUID: u64 = 117;
const SETRESGID: u64 = 119;

const EACCES: i64 = -13;
const ENOENT: i64 = -2;
const EIO: i64 = -5;

const NAME: u64 = BARE_ADDR;
const BUF: u64 = BARE_ADDR + 0x2000;

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

#[derive(Clone, Debug, Default)]
struct Node {
    mode: u32,
    uid: u32,
    gid: u32,
    entries: BTreeMap<Vec<u8>, usize>,
    image: u32,
    size: u64,
    acl: Option<Vec<u8>>,
    gone: bool,
}

/// A directory tree of nodes, number 0 the root, and what was asked of it.
#[derive(Clone, Debug, Default)]
struct Host {
    nodes: Vec<Node>,
    lookups: usize,
}

impl Host {
    fn node(&self, node: NodeId) -> Result<&Node, Errno> {
        let node = &self.nodes[node.0 as usize];
        if node.gone {
            Err(Errno::ESTALE)
        } else {
            Ok(node)
        }
    }
}

impl HostTree for Host {
    fn root(&mut self, _: u32) -> Result<NodeId, Errno> {
        Ok(NodeId(0))
    }

    fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        self.lookups += 1;
        let found = self.node(dir)?.entries.get(name);
        found.map_or(Err(Errno::ENOENT), |&id| Ok(NodeId(id as u64)))
    }

    fn attr(&mut self, id: NodeId) -> Result<NodeAttr, Errno> {
        let node = self.node(id)?;
        Ok(NodeAttr {
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: 1,
            size: node.size,
            rdev: 0,
            dev: 1,
            ino: id.0,
            mtime: (0, 0),
            acl: node.acl.is_some(),
        })
    }

    fn read_dir(&mut self, dir: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        let entries = self.node(dir)?.entries.iter();
        Ok(entries
            .map(|(name, &id)| NodeEntry {
                name: name.clone(),
                kind: (self.nodes[id].mode >> 12) as u8,
            })
            .collect())
    }

    fn read_link(&mut self, _: NodeId) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    fn open(&mut self, node: NodeId) -> Result<ImageId, Errno> {
        Ok(ImageId(self.node(node)?.image))
    }

    fn list_xattr(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        let acl = &self.node(node)?.acl;
        Ok(acl
            .iter()
            .map(|_| b"system.posix_acl_access".to_vec())
            .collect())
    }

    fn get_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        assert_eq!(name, b"system.posix_acl_access");
        self.node(node)?.acl.clone().ok_or(Errno::ENODATA)
    }
}

struct Guest {
    machine: Machine<Host>,
    thread: ThreadId,
}

impl Guest {
    fn new() -> Guest {
        let root = Node {
            mode: DIR | 0o755,
            ..Node::default()
        };
        let host = Host {
            nodes: vec![root],
            lookups: 0,
        };
        let tree = Tree {
            layers: vec![Layer::Host(0)],
            read_only: false,
            upper_limit: None,
            index: None,
        };
        let machine = Machine::boot(bare(tree), MemHost::with_tree(1024, Vec::new(), host));
        let machine = machine.expect("boots");
        let thread = machine.first();
        Guest { machine, thread }
    }

    fn host(&mut self) -> &mut Host {
        &mut self.machine.host.tree
    }

    fn add(&mut self, dir: usize, name: &str, mut node: Node) -> usize {
        let images = &mut self.machine.host.images.0;
        node.image = images.len() as u32;
        images.push(MemBlock {
            bytes: vec![b'.'; 3 * 4096],
            mapped: false,
        });
        let host = self.host();
        host.nodes.push(node);
        let id = host.nodes.len() - 1;
        host.nodes[dir].entries.insert(name.into(), id);
        id
    }

    fn file(&mut self, dir: usize, name: &str, text: &str) -> usize {
        let node = Node {
            mode: FILE | 0o644,
            size: text.len() as u64,
            ..Node::default()
        };
        let id = self.add(dir, name, node);
        let image = self.host().nodes[id].image as usize;
        self.machine.host.images.0[image].bytes[..text.len()].copy_from_slice(text.as_bytes());
        id
    }

    fn dir(&mut self, dir: usize, name: &str) -> usize {
        let node = Node {
            mode: DIR | 0o755,
            ..Node::default()
        };
        self.add(dir, name, node)
    }

    fn call(&mut self, number: u64, args: &[u64]) -> i64 {
        let result = self.machine.call(self.thread, number, args);
        self.machine.kernel.check().unwrap();
        result.expect("it returns")
    }

    fn path(&mut self, number: u64, path: &str, rest: &[u64]) -> i64 {
        let text = [path.as_bytes(), b"\0"].concat();
        self.machine.poke(self.thread, NAME, &text).unwrap();
        self.call(number, &[&[NAME], rest].concat())
    }

    /// What is in a file, or the error.
    fn read(&mut self, path: &str) -> Result<String, i64> {
        let fd = self.path(OPEN, path, &[0]);
        if fd < 0 {
            return Err(fd);
        }
        let text = self.read_fd(fd);
        self.call(CLOSE, &[fd as u64]);
        text
    }

    fn read_fd(&mut self, fd: i64) -> Result<String, i64> {
        let count = self.call(READ, &[fd as u64, BUF, 100]);
        if count < 0 {
            return Err(count);
        }
        let bytes = self.machine.peek(self.thread, BUF, count as usize);
        Ok(String::from_utf8(bytes.unwrap()).unwrap())
    }

    fn become_user(&mut self, uid: u64, gid: u64, groups: &[u32]) {
        let bytes: Vec<u8> = groups.iter().flat_map(|gid| gid.to_le_bytes()).collect();
        self.machine.poke(self.thread, BUF, &bytes).unwrap();
        assert_eq!(self.call(SETGROUPS, &[groups.len() as u64, BUF]), 0);
        assert_eq!(self.call(SETRESGID, &[gid; 3]), 0);
        assert_eq!(self.call(SETRESUID, &[uid; 3]), 0);
    }
}

#[test]
fn what_was_replaced_is_looked_up_again() {
    let mut g = Guest::new();
    let d = g.dir(0, "d");
    g.file(d, "f", "old");
    assert_eq!(g.read("/d/f"), Ok("old".into()));
    assert_eq!(g.read("/d/later"), Err(ENOENT));
    let kept = g.path(OPEN, "/d/f", &[0]);
    // Another file under the name, and one where there was none.
    g.file(d, "f", "new one");
    g.file(d, "later", "later");
    assert_eq!(g.read("/d/f"), Ok("new one".into()));
    assert_eq!(g.read("/d/later"), Ok("later".into()));
    assert_eq!(g.read_fd(kept), Ok("old".into()), "what is open stays");
    g.host().nodes[d].entries.remove(&b"f"[..]);
    assert_eq!(g.read("/d/f"), Err(ENOENT));
    // A directory on the way is looked at again after a while.
    let other = g.dir(0, "d");
    g.file(other, "f", "in another directory");
    g.host().nodes[d].gone = true;
    g.machine.advance(1_000_000_000);
    assert_eq!(g.read("/d/f"), Ok("in another directory".into()));
    assert_eq!(g.path(CHDIR, "/d", &[]), 0);
    assert_eq!(g.read("f"), Ok("in another directory".into()));
}

#[test]
fn names_on_the_way_are_not_asked_for_each_time() {
    let mut g = Guest::new();
    let (mut dir, mut path) = (0, String::new());
    for name in ["a", "b", "c", "d"] {
        dir = g.dir(dir, name);
        path = format!("{path}/{name}");
    }
    g.file(dir, "f", "text");
    let path = format!("{path}/f");
    assert_eq!(g.read(&path), Ok("text".into()));
    let before = g.host().lookups;
    assert_eq!(g.path(STAT, &path, &[BUF]), 0);
    assert_eq!(g.host().lookups - before, 1, "the last one only");
}

#[test]
fn a_change_of_the_owner_or_mode_of_a_directory_counts() {
    let mut g = Guest::new();
    let d = g.dir(0, "d");
    g.file(d, "f", "text");
    g.become_user(1000, 1000, &[]);
    assert_eq!(g.read("/d/f"), Ok("text".into()));
    g.host().nodes[d].mode = DIR | 0o700;
    g.machine.advance(1_000_000_000);
    assert_eq!(g.read("/d/f"), Err(EACCES));
}

#[test]
fn files_grow_and_shrink_under_those_who_read_them() {
    let mut g = Guest::new();
    let f = g.file(0, "f", "text");
    let fd = g.path(OPEN, "/f", &[0]);
    assert_eq!(g.read_fd(fd), Ok("text".into()));
    g.host().nodes[f].size = 10;
    assert_eq!(g.read_fd(fd), Ok("......".into()));
    g.host().nodes[f].size = 2;
    assert_eq!(g.read_fd(fd), Ok(String::new()));
    assert_eq!(g.call(LSEEK, &[fd as u64, 0, 0]), 0);
    assert_eq!(g.read_fd(fd), Ok("te".into()));
}

#[test]
fn pages_behind_the_end_of_a_file_that_shrank_are_sigbus() {
    let mut g = Guest::new();
    let f = g.file(0, "f", "text");
    g.host().nodes[f].size = 2 * 4096;
    let fd = g.path(OPEN, "/f", &[0]) as u64;
    // For both kinds of mappings, and for readers and writers.
    for (prot, access) in [(1, Access::Read), (3, Access::Read), (3, Access::Write)] {
        let addr = g.call(MMAP, &[0, 2 * 4096, prot, 2, fd, 0]) as u64 + 4096;
        g.host().nodes[f].size = 2 * 4096;
        let regs = g.machine.threads[&g.thread].regs;
        let fault = |access| Trap::Fault { addr, access };
        g.machine.trap(g.thread, regs, fault(Some(Access::Read)));
        assert!(g.machine.threads[&g.thread].runs, "it is there");
        g.host().nodes[f].size = 100;
        // In a child, which dies of it: the host says that the access failed, perhaps not which kind it was.
        for told in [Some(access), None] {
            let pid = g.call(57, &[]);
            assert!(pid > 0);
            let child = *g.machine.threads.keys().next_back().unwrap();
            let mut tries = 0;
            while g.machine.threads.contains_key(&child) && tries < 10 {
                let regs = g.machine.threads[&child].regs;
                g.machine.trap(child, regs, fault(told));
                tries += 1;
            }
            assert!(tries < 10, "{access:?} {told:?} goes on for ever");
            assert_eq!(g.call(61, &[pid as u64, BUF, 0, 0]), pid);
            let status = g.machine.peek(g.thread, BUF, 4).unwrap();
            assert_eq!(status[0] & 0x7f, 7, "{prot} {access:?} {told:?}");
        }
    }
}

/// The value of an ACL: `who` are tag, permissions and number.
fn acl(who: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in who {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

const NO: u32 = u32::MAX;
const OWNER: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What access(2) allows user 1000 of group 1000, and of these groups, on a file of user 5 and group 50.
fn allowed(mode: u32, list: &[(u16, u16, u32)], groups: &[u32]) -> String {
    let mut g = Guest::new();
    let f = g.file(0, "f", "");
    let node = &mut g.host().nodes[f];
    (node.mode, node.uid, node.gid) = (FILE | mode, 5, 50);
    node.acl = Some(acl(list));
    g.become_user(1000, 1000, groups);
    let may = |g: &mut Guest, bit| match g.path(ACCESS, "/f", &[bit]) {
        0 => true,
        EACCES => false,
        error => panic!("{error}"),
    };
    [(4, 'r'), (2, 'w'), (1, 'x'), (6, '+')]
        .into_iter()
        .filter(|&(bits, _)| may(&mut g, bits))
        .map(|(_, letter)| letter)
        .collect()
}

#[test]
fn acls_say_who_may_do_what() {
    let least = |group, other| [(OWNER, 6, NO), (GROUP_OBJ, group, NO), (OTHER, other, NO)];
    // The lists in the order that Linux wants.
    let with = |more: &[(u16, u16, u32)], group, other| {
        let mut all = [&least(group, other)[..], more].concat();
        all.sort_by_key(|entry| entry.0);
        all
    };
    assert_eq!(allowed(0o664, &least(6, 4), &[]), "r");
    assert_eq!(allowed(0o664, &least(6, 4), &[50]), "rw+");
    // One user is kept out, or let in as far as the mask goes.
    let list = with(&[(USER, 0, 1000), (MASK, 4, NO)], 4, 4);
    assert_eq!(allowed(0o644, &list, &[50]), "");
    let list = with(&[(USER, 7, 1000), (MASK, 6, NO)], 4, 0);
    assert_eq!(allowed(0o660, &list, &[]), "rw+");
    let list = with(&[(USER, 7, 1001), (MASK, 7, NO)], 4, 0);
    assert_eq!(allowed(0o670, &list, &[]), "");
    // Of several groups one must allow all of it; a member of any is not one of the others.
    let list = with(&[(GROUP, 4, 60), (GROUP, 2, 61), (MASK, 7, NO)], 0, 7);
    assert_eq!(allowed(0o677, &list, &[60, 61]), "rw");
    assert_eq!(allowed(0o677, &list, &[50]), "");
    assert_eq!(allowed(0o677, &list, &[62]), "rwx+");
    assert_eq!(
        allowed(0o647, &list, &[60, 61]),
        "r",
        "the mask is the mode's"
    );
    // A mask without rights leaves the list out.
    let list = with(&[(USER, 4, 1000), (MASK, 0, NO)], 4, 4);
    assert_eq!(allowed(0o604, &list, &[]), "r");
}

#[test]
fn acls_hold_for_directories_and_stay_with_changed_files() {
    let mut g = Guest::new();
    let keep_out = acl(&[
        (OWNER, 7, NO),
        (USER, 0, 1000),
        (GROUP_OBJ, 5, NO),
        (MASK, 5, NO),
        (OTHER, 5, NO),
    ]);
    let d = g.dir(0, "d");
    g.file(d, "f", "text");
    let f = g.file(0, "g", "text");
    let bad = g.file(0, "bad", "text");
    g.host().nodes[d].acl = Some(keep_out.clone());
    g.host().nodes[f].acl = Some(keep_out);
    g.host().nodes[bad].acl = Some(b"nonsense".to_vec());
    // Root looks first, so that names are cached, and changes one of the files: that copies it up.
    assert_eq!(g.read("/d/f"), Ok("text".into()));
    assert_eq!(g.path(CHMOD, "/g", &[0o755]), 0);
    assert_eq!(g.read("/bad"), Err(EIO));
    g.become_user(1000, 1000, &[]);
    assert_eq!(g.read("/d/f"), Err(EACCES));
    assert_eq!(g.path(CHDIR, "/d", &[]), EACCES);
    assert_eq!(g.read("/g"), Err(EACCES));
}
