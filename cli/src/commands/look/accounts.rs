//! Names of users and groups as an image's own `/etc/passwd` and `/etc/group` have them.

use std::collections::HashMap;

use crate::stacks::OpenStack;
use crate::text;

/// Most bytes that are read of either file.
const FILE_MAX: usize = 1 << 20;
/// Longest name that is one (`useradd` takes no longer ones).
const NAME_MAX: usize = 32;

/// Names by number; empty where nobody wants names, or the image has none.
#[derive(Default)]
pub(super) struct Accounts {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Accounts {
    /// Reads both files of a stack. One that is missing or damaged has no names.
    pub(super) fn of(stack: &mut OpenStack) -> Accounts {
        let accounts = Accounts {
            users: names(&read(stack, b"/etc/passwd")),
            groups: names(&read(stack, b"/etc/group")),
        };
        // Whoever looks at these files themselves is told.
        drop(stack.stack.take_faults());
        accounts
    }

    /// The name of a user, or the number.
    pub(super) fn user(&self, uid: u32) -> String {
        let name = self.users.get(&uid).cloned();
        name.unwrap_or_else(|| uid.to_string())
    }

    /// The name of a group, or the number.
    pub(super) fn group(&self, gid: u32) -> String {
        let name = self.groups.get(&gid).cloned();
        name.unwrap_or_else(|| gid.to_string())
    }
}

fn read(stack: &mut OpenStack, path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(inode) = stack.resolve(path, true)
        && let Ok(attr) = stack.stack.attr(&stack.images, inode)
        && attr.mode & 0o170000 == 0o100000
    {
        bytes = vec![0; attr.size.min(FILE_MAX as u64) as usize];
        let read = stack.stack.read(&stack.images, inode, 0, &mut bytes);
        bytes.truncate(read.unwrap_or(0));
    }
    bytes
}

/// `NAME:x:NUMBER:...` by number; the first line of one counts. What could be taken for another column is no
/// name.
fn names(file: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in file.split(|&byte| byte == b'\n') {
        let fields: Vec<_> = line.splitn(4, |&byte| byte == b':').collect();
        let [name, _, number, ..] = fields[..] else {
            continue;
        };
        let number = std::str::from_utf8(number)
            .ok()
            .and_then(|n| n.parse().ok());
        let Some(number) = number else { continue };
        let good = (1..=NAME_MAX).contains(&name.len())
            && text::is_plain(name)
            && !name.iter().any(u8::is_ascii_whitespace);
        if let (true, Ok(name)) = (good, std::str::from_utf8(name)) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn only_names_are_names() {
        let file = b"root:x:0:0::/:/bin/sh\nother:x:0:0::/:\n1\x1b[31m:x:5:5\na b:x:6:6\n\nx:y\ndaemon:*:1\nbad:x:-1:\n:x:7:\n";
        let names = names(file);
        let mut list: Vec<_> = names
            .iter()
            .map(|(id, name)| (*id, name.as_str()))
            .collect();
        list.sort_unstable();
        assert_eq!(list, [(0, "root"), (1, "daemon")]);
    }
}
