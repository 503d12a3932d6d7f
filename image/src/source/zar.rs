//! An image of the zar tool as source: file data, then one Go `gob` value that lists the tree, then the
//! offset of that value.
//!
//! The list is depth first: a directory opens a level, an entry `..` closes it. The root has no entry.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::tree::{
    Attr, Body, DEPTH_MAX, Directory, NAME_MAX, Node, NodeId, TARGET_MAX, Time, Tree, Xattrs,
};
use crate::writer::{Content, DataWriter};
use crate::{BuildError, BuildOptions};

/// Size of the trailer that holds the offset of the list.
const TRAILER: u64 = 10;
/// Largest list read, in bytes.
const LIST_MAX: u64 = 256 << 20;

/// Reads the tree and stores the data of its files.
pub(crate) fn read(
    source: &Path,
    options: &BuildOptions,
    data: &mut DataWriter<'_>,
) -> Result<Tree, BuildError> {
    let fail = |error| BuildError::source("read", source, error);
    let bad = |reason: &str| {
        BuildError::unsupported(
            source.to_string_lossy().into_owned().into_bytes(),
            format!("is no zar image: {reason}"),
        )
    };
    let file = File::open(source).map_err(|e| BuildError::source("open", source, e))?;
    let len = file.metadata().map_err(fail)?.len();
    let end = len
        .checked_sub(TRAILER)
        .ok_or_else(|| bad("it is too short"))?;
    let mut trailer = [0; TRAILER as usize];
    file.read_exact_at(&mut trailer, end).map_err(fail)?;
    let start = varint(&trailer)
        .and_then(|offset| u64::try_from(offset).ok())
        .filter(|&start| start < end && end - start <= LIST_MAX)
        .ok_or_else(|| bad("its last bytes are not the offset of a list"))?;
    let mut list = vec![0; (end - start) as usize];
    file.read_exact_at(&mut list, start).map_err(fail)?;
    let entries = gob::entries(&list).map_err(bad)?;

    let attr = |perm, mtime: i64| Attr {
        perm,
        uid: 0,
        gid: 0,
        mtime: Time {
            sec: mtime.div_euclid(1_000_000_000),
            nsec: mtime.rem_euclid(1_000_000_000) as u32,
        }
        .clamped(options.timestamp),
    };
    let mut tree = Tree::new(attr(0o755, 0));
    let mut dirs = vec![NodeId::ROOT];
    let mut path: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        let parent = *dirs.last().unwrap_or(&NodeId::ROOT);
        let shown = [path.join(&b'/'), entry.name.clone()].join(&b'/');
        let refuse = |reason: &str| BuildError::unsupported(shown.clone(), reason);
        if entry.name == b".." && entry.kind == 1 {
            if dirs.len() == 1 {
                return Err(refuse("closes a directory that was not opened"));
            }
            dirs.pop();
            path.pop();
            continue;
        }
        match entry.name.as_slice() {
            b"" | b"." | b".." => return Err(refuse("a name that no file can have")),
            name if name.contains(&b'/') || name.contains(&0) => {
                return Err(refuse("a name that no file can have"));
            }
            name if name.len() > NAME_MAX => {
                return Err(refuse("a name of more than 255 bytes"));
            }
            _ => {}
        }
        if let Some(reason) = tree.full() {
            return Err(refuse(&reason));
        }
        let Some(directory) = tree.directory(parent) else {
            return Err(refuse("is not in a directory"));
        };
        if directory.entries.contains_key(&*entry.name)
            || directory.whiteouts.contains(&*entry.name)
        {
            return Err(refuse("is there twice"));
        }
        let body = match entry.kind {
            0 => {
                let range = u64::try_from(entry.begin)
                    .ok()
                    .zip(u64::try_from(entry.end).ok());
                let Some((begin, size)) = range
                    .filter(|&(_, end)| end <= start)
                    .and_then(|(begin, end)| Some((begin, end.checked_sub(begin)?)))
                else {
                    return Err(refuse("its data is not inside the image"));
                };
                let mut content = Range {
                    file: &file,
                    begin,
                    source,
                };
                let extent = data.store(size, &mut content)?;
                Body::File { size, extent }
            }
            1 => Body::Directory(Directory::default()),
            2 if entry.link.is_empty()
                || entry.link.len() > TARGET_MAX
                || entry.link.contains(&0) =>
            {
                return Err(refuse("a target that no link can have"));
            }
            2 => Body::Symlink(entry.link.into()),
            3 => {
                tree.hide(parent, &entry.name);
                continue;
            }
            _ => return Err(refuse("a type that is not known")),
        };
        let perm = match (entry.mode, &body) {
            (_, Body::Symlink(_)) => 0o777,
            (Some(mode), _) => permissions(mode),
            // Images of old versions have none.
            (None, Body::Directory(_)) => 0o755,
            (None, _) => 0o644,
        };
        let is_dir = body.is_directory();
        let node = tree.push(Node {
            attr: attr(perm, entry.mtime),
            xattrs: Xattrs::new(),
            body,
        });
        tree.link(parent, &entry.name, node);
        if is_dir {
            if dirs.len() > DEPTH_MAX {
                return Err(refuse("is too deep in the tree"));
            }
            dirs.push(node);
            path.push(entry.name);
        }
    }
    Ok(tree)
}

/// Permissions of a Go `os.FileMode`.
fn permissions(mode: u32) -> u16 {
    let bit = |shift: u32, value: u16| if mode >> shift & 1 == 1 { value } else { 0 };
    (mode & 0o777) as u16 | bit(23, 0o4000) | bit(22, 0o2000) | bit(20, 0o1000)
}

/// Go's `binary.Varint`: zig-zag, seven bits a byte, lowest first.
fn varint(bytes: &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        if index == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// A range of the image as the content of a file.
struct Range<'a> {
    file: &'a File,
    begin: u64,
    source: &'a Path,
}

impl Content for Range<'_> {
    fn hole_end(&mut self, at: u64) -> Result<u64, BuildError> {
        Ok(at)
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), BuildError> {
        self.file
            .read_exact_at(buf, self.begin + at)
            .map_err(|e| BuildError::source("read", self.source, e))
    }
}

/// Go's `gob` encoding, as far as a list of structs with integers and strings needs it
/// (<https://pkg.go.dev/encoding/gob>).
mod gob {
    use std::collections::BTreeMap;

    /// One entry of the list. Fields that the stream does not have are 0, empty or `None`.
    #[derive(Debug, Default)]
    pub(super) struct Entry {
        pub(super) begin: i64,
        pub(super) end: i64,
        pub(super) name: Vec<u8>,
        pub(super) link: Vec<u8>,
        /// Nanoseconds since 1970.
        pub(super) mtime: i64,
        pub(super) kind: i64,
        pub(super) mode: Option<u32>,
    }

    /// Numbers of the types every stream knows.
    const INT: i64 = 2;
    const UINT: i64 = 3;
    const STRING: i64 = 6;
    /// Most entries of a list: twice for directories, which are closed.
    const ENTRIES_MAX: u64 = 2 * crate::tree::NODES_MAX as u64;
    /// Most fields of a struct, and most types of a stream.
    const FIELDS_MAX: u64 = 64;
    const TYPES_MAX: usize = 64;

    enum Type {
        /// Name and type of each field.
        Struct(Vec<(Vec<u8>, i64)>),
        Slice(i64),
        Other,
    }

    struct Input<'a>(&'a [u8]);

    type Result<T> = std::result::Result<T, &'static str>;

    impl<'a> Input<'a> {
        fn byte(&mut self) -> Result<u8> {
            let (&byte, rest) = self.0.split_first().ok_or("the list is cut off")?;
            self.0 = rest;
            Ok(byte)
        }

        /// Below 128 the byte itself; else the negated number of bytes that follow, highest first.
        fn uint(&mut self) -> Result<u64> {
            let first = self.byte()?;
            if first < 0x80 {
                return Ok(first.into());
            }
            let len = usize::from(first.wrapping_neg());
            if len > 8 {
                return Err("the list has a number of more than 64 bits");
            }
            let mut value = 0;
            for _ in 0..len {
                value = value << 8 | u64::from(self.byte()?);
            }
            Ok(value)
        }

        fn int(&mut self) -> Result<i64> {
            let value = self.uint()?;
            Ok(match value & 1 {
                0 => (value >> 1) as i64,
                _ => !((value >> 1) as i64),
            })
        }

        fn bytes(&mut self) -> Result<&'a [u8]> {
            let len = self.uint()?;
            let len = usize::try_from(len).map_err(|_| "the list is cut off")?;
            let (bytes, rest) = self.0.split_at_checked(len).ok_or("the list is cut off")?;
            self.0 = rest;
            Ok(bytes)
        }

        /// Fields of a struct: the number of each, until one is 0 further than the last.
        fn fields(&mut self, each: &mut dyn FnMut(&mut Self, u64) -> Result<()>) -> Result<()> {
            let mut field = 0_u64;
            loop {
                let delta = self.uint()?;
                if delta == 0 {
                    return Ok(());
                }
                field = field.saturating_add(delta);
                if field > FIELDS_MAX {
                    return Err("the list has a struct of too many fields");
                }
                each(self, field)?;
            }
        }

        /// A `CommonType`: a name and the type's own number, neither of which matters.
        fn common(&mut self) -> Result<()> {
            self.fields(&mut |input, field| match field {
                1 => input.bytes().map(|_| ()),
                2 => input.int().map(|_| ()),
                _ => Err("the list has a type that is not known"),
            })
        }

        /// A `wireType`.
        fn wire_type(&mut self) -> Result<Type> {
            let mut found = Type::Other;
            self.fields(&mut |input, field| {
                match field {
                    // An array's length comes last; a map's two types are both numbers.
                    1 | 4 => input.fields(&mut |input, field| match field {
                        1 => input.common(),
                        _ => input.int().map(|_| ()),
                    }),
                    2 => {
                        let mut element = 0;
                        input.fields(&mut |input, field| match field {
                            1 => input.common(),
                            _ => {
                                element = input.int()?;
                                Ok(())
                            }
                        })?;
                        found = Type::Slice(element);
                        Ok(())
                    }
                    3 => {
                        let mut fields = Vec::new();
                        input.fields(&mut |input, field| {
                            if field == 1 {
                                return input.common();
                            }
                            let count = input.uint()?;
                            if count > FIELDS_MAX {
                                return Err("the list has a struct of too many fields");
                            }
                            for _ in 0..count {
                                let (mut name, mut id) = (Vec::new(), 0);
                                input.fields(&mut |input, field| {
                                    match field {
                                        1 => name = input.bytes()?.to_vec(),
                                        _ => id = input.int()?,
                                    }
                                    Ok(())
                                })?;
                                fields.push((name, id));
                            }
                            Ok(())
                        })?;
                        found = Type::Struct(fields);
                        Ok(())
                    }
                    _ => Err("the list has a type that is not known"),
                }
            })?;
            Ok(found)
        }

        fn entry(&mut self, fields: &[(Vec<u8>, i64)]) -> Result<Entry> {
            let mut entry = Entry::default();
            let has_mode = fields.iter().any(|(name, _)| name == b"Mode");
            entry.mode = has_mode.then_some(0);
            self.fields(&mut |input, number| {
                let (name, id) = fields
                    .get(number as usize - 1)
                    .ok_or("the list has a field that its type has not")?;
                match (name.as_slice(), *id) {
                    (b"Begin", INT) => entry.begin = input.int()?,
                    (b"End", INT) => entry.end = input.int()?,
                    (b"ModTime", INT) => entry.mtime = input.int()?,
                    (b"Type", INT) => entry.kind = input.int()?,
                    (b"Mode", UINT) => {
                        let mode = input.uint()?;
                        entry.mode = Some(u32::try_from(mode).map_err(|_| "a mode is too large")?);
                    }
                    (b"Name", STRING) => entry.name = input.bytes()?.to_vec(),
                    (b"Link", STRING) => entry.link = input.bytes()?.to_vec(),
                    // Fields of later versions.
                    (_, 1..=3) => drop(input.uint()?),
                    (_, 5 | STRING) => drop(input.bytes()?),
                    _ => return Err("the list has a field of a type that is not known"),
                }
                Ok(())
            })?;
            Ok(entry)
        }
    }

    /// Decodes the list.
    pub(super) fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
        let mut types = BTreeMap::new();
        let mut input = Input(bytes);
        while !input.0.is_empty() {
            let mut message = Input(input.bytes()?);
            let id = message.int()?;
            if id < 0 {
                if types.len() >= TYPES_MAX {
                    return Err("the list has too many types");
                }
                let id = id.checked_neg().ok_or("the list has a type of no number")?;
                types.insert(id, message.wire_type()?);
                continue;
            }
            let Some(Type::Slice(element)) = types.get(&id) else {
                return Err("the value is no list");
            };
            let Some(Type::Struct(fields)) = types.get(element) else {
                return Err("the list is not one of structs");
            };
            // A value that is no struct stands behind a zero byte.
            if message.byte()? != 0 {
                return Err("the list does not start with a zero");
            }
            let count = message.uint()?;
            if count > ENTRIES_MAX {
                return Err("the list has too many entries");
            }
            let mut entries = Vec::new();
            for _ in 0..count {
                entries.push(message.entry(fields)?);
            }
            return match message.0 {
                [] => Ok(entries),
                _ => Err("something follows the list"),
            };
        }
        Err("there is no list")
    }
}
