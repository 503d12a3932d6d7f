//! `varve extract`: files of a stack become files of the host, or a tar stream.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use varve_core::port::Images;
use varve_core::stack::{Attr, Inode, Stack};
use varve_image::walk::{Next, is_dir, walk};

use super::cat::{CopyError, runs, zeros};
use super::{StackArguments, absolute, join, paths_or_root};
use crate::stacks::{OpenStack, complain};

/// Zeros so aligned and so long become holes.
const GRANULE: usize = 64 << 10;

#[derive(clap::Args)]
#[command(
    after_help = "Owners, device files and some attributes need root: without it they are left out, and a line says so. The directory must be new or
empty, so that nothing in it can lead the files elsewhere."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stack: StackArguments,
    /// Files and directories; everything if there is none.
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// A new or empty directory, a tar archive (FILE.tar), or `-` for a tar stream on standard output.
    #[arg(short, long, value_name = "TARGET")]
    output: PathBuf,
    /// Write a tar archive, whatever the target is called.
    #[arg(long)]
    tar: bool,
    /// Print what was taken out as JSON; not together with a tar stream on standard output.
    #[arg(long)]
    json: bool,
}

/// What was taken out.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    directories: u64,
    files: u64,
    symlinks: u64,
    others: u64,
    /// Bytes of files, further names of a file not counted again.
    bytes: u64,
}

impl Count {
    fn add(&mut self, attr: &Attr) {
        match attr.mode & 0o170000 {
            0o040000 => self.directories += 1,
            0o100000 => self.files += 1,
            0o120000 => self.symlinks += 1,
            _ => self.others += 1,
        }
    }
}

/// Names and values.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// One object on its way out.
struct Object<'a> {
    path: &'a [u8],
    inode: Inode,
    attr: &'a Attr,
}

/// Where objects go.
trait Target {
    /// Takes one object, a directory before what is in it.
    fn object(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<(), CopyError>;
    /// All were given.
    fn finish(&mut self) -> io::Result<()>;
}

pub(crate) fn extract(arguments: &Arguments) -> Result<u8> {
    let mut stack = arguments.stack.open()?;
    let output = &arguments.output;
    let to_stdout = output.as_os_str() == "-";
    let is_tar = arguments.tar || to_stdout || output.extension() == Some(OsStr::new("tar"));
    if !is_tar {
        let mut target = Dir::new(output)?;
        return run(&mut stack, arguments, &mut target);
    }
    if to_stdout {
        if arguments.json {
            bail!("--json and a tar stream cannot both go to standard output: name a file for one");
        }
        if io::IsTerminal::is_terminal(&io::stdout()) {
            bail!("standard output is a terminal: pipe the tar stream somewhere, or name a file");
        }
        let out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
        return run(&mut stack, arguments, &mut Tar::new(out));
    }
    let near = match output.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let shown = || output.display().to_string();
    let file = tempfile::NamedTempFile::new_in(near).with_context(shown)?;
    let out = BufWriter::with_capacity(1 << 20, file.as_file().try_clone().with_context(shown)?);
    let status = run(&mut stack, arguments, &mut Tar::new(out))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).with_context(shown)?;
    file.persist(output)
        .map_err(|e| e.error)
        .with_context(shown)?;
    Ok(status)
}

fn run(stack: &mut OpenStack, arguments: &Arguments, target: &mut dyn Target) -> Result<u8> {
    let OpenStack {
        stack,
        images,
        names,
        ..
    } = stack;
    let images: &dyn Images = images;
    let shown = || arguments.output.display().to_string();
    let mut status = 0;
    let mut count = Count::default();
    let mut linked = HashSet::new();
    let mut given = HashSet::new();
    for path in paths_or_root(&arguments.paths) {
        let parts: Vec<_> = path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        if parts.contains(&&b".."[..]) {
            bail!(
                "{}: `..` cannot be extracted",
                String::from_utf8_lossy(path)
            );
        }
        // The directories on the way come first.
        let mut base = Vec::new();
        let mut found = Ok(stack.root());
        for part in parts {
            let Ok(dir) = found else { break };
            if given.insert(base.clone()) {
                let object = stack.attr(images, dir).map_err(CopyError::Read);
                let done = object.and_then(|attr| {
                    let object = Object {
                        path: &base,
                        inode: dir,
                        attr: &attr,
                    };
                    target.object(stack, images, &object)
                });
                told(done, stack, names, &base, &mut status).with_context(shown)?;
            }
            base = join(&base, part);
            found = stack.lookup(images, dir, part);
        }
        let start = match found {
            Ok(start) => start,
            Err(errno) => {
                complain(stack, names, &absolute(&base), errno);
                status = 1;
                continue;
            }
        };
        walk(stack, images, start, &mut |stack, item| {
            let path = join(&base, item.path);
            // A path that was asked for twice, or inside another one.
            if item.attr.is_ok() && !given.insert(path.clone()) {
                return Ok(Next::Into);
            }
            let done = item.attr.map_err(CopyError::Read).and_then(|attr| {
                let object = Object {
                    path: &path,
                    inode: item.inode,
                    attr: &attr,
                };
                target.object(stack, images, &object)?;
                count.add(&attr);
                let is_file = attr.mode & 0o170000 == 0o100000;
                if is_file && (attr.nlink < 2 || linked.insert(item.inode)) {
                    count.bytes += attr.size;
                }
                Ok(())
            });
            told(done, stack, names, &path, &mut status)?;
            Ok::<_, io::Error>(Next::Into)
        })
        .with_context(shown)?;
    }
    target.finish().with_context(shown)?;
    if arguments.json {
        let value = serde_json::json!({
            "output": arguments.output.display().to_string(),
            "directories": count.directories,
            "files": count.files,
            "symlinks": count.symlinks,
            "others": count.others,
            "bytes": count.bytes,
            "complete": status == 0,
        });
        crate::output::print(|out| writeln!(out, "{value:#}"))?;
    }
    Ok(status)
}

/// Tells of an object that cannot be read; one that cannot be written is the end.
fn told(
    done: Result<(), CopyError>,
    stack: &mut Stack,
    names: &[String],
    path: &[u8],
    status: &mut u8,
) -> io::Result<()> {
    match done {
        Ok(()) => Ok(()),
        Err(CopyError::Read(errno)) => {
            complain(stack, names, &absolute(path), errno);
            *status = 1;
            Ok(())
        }
        Err(CopyError::Write(error)) => Err(error),
    }
}

fn xattrs(stack: &mut Stack, images: &dyn Images, inode: Inode) -> Result<Pairs, CopyError> {
    let mut names = stack.list_xattr(images, inode).map_err(CopyError::Read)?;
    names.sort();
    let mut list = Vec::with_capacity(names.len());
    for name in names {
        let value = stack.xattr(images, inode, &name).map_err(CopyError::Read)?;
        list.push((name, value));
    }
    Ok(list)
}

fn device(attr: &Attr) -> (u32, u32) {
    let rdev = attr.rdev;
    (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00)
}

/// A directory of the host.
struct Dir {
    root: PathBuf,
    is_root: bool,
    /// First path of an inode with several names.
    linked: HashMap<Inode, PathBuf>,
    /// Directories with what they get when all is in them: path, permissions, time.
    dirs: Vec<(PathBuf, Attr)>,
    /// What was left out, by kind.
    left_out: [u64; 3],
}

impl Dir {
    fn new(root: &Path) -> Result<Dir> {
        let shown = || root.display().to_string();
        match fs::create_dir(root) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let mut entries = fs::read_dir(root).with_context(shown)?;
                if entries.next().is_some() {
                    bail!(
                        "{} is not empty: name a new or empty directory",
                        root.display()
                    );
                }
            }
            Err(e) => return Err(e).with_context(shown),
        }
        Ok(Dir {
            root: root.to_owned(),
            is_root: rustix::process::geteuid().is_root(),
            linked: HashMap::new(),
            dirs: Vec::new(),
            left_out: [0; 3],
        })
    }

    /// Owner, permissions and time of anything but a directory's contents.
    fn set_attr(&mut self, path: &Path, attr: &Attr) -> io::Result<()> {
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(attr.uid), Gid::from_raw(attr.gid));
            rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if attr.mode & 0o170000 != 0o120000 {
            rustix::fs::chmod(path, Mode::from_raw_mode(attr.mode & 0o7777))?;
        }
        let time = Timespec {
            tv_sec: attr.mtime.sec,
            tv_nsec: attr.mtime.nsec.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn make(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
        path: &Path,
    ) -> Result<bool, CopyError> {
        let write = |e: rustix::io::Errno| CopyError::Write(e.into());
        match object.attr.mode & 0o170000 {
            0o100000 => {
                let file = File::create_new(path).map_err(CopyError::Write)?;
                runs(stack, images, object.inode, &mut |at, run| {
                    let Ok(bytes) = run else { return Ok(()) };
                    for (index, part) in bytes.chunks(GRANULE).enumerate() {
                        if part.iter().any(|&byte| byte != 0) {
                            file.write_all_at(part, at + (index * GRANULE) as u64)?;
                        }
                    }
                    Ok(())
                })?;
                file.set_len(object.attr.size).map_err(CopyError::Write)?;
            }
            0o120000 => {
                let target = stack.read_link(images, object.inode);
                let target = target.map_err(CopyError::Read)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), path)
                    .map_err(CopyError::Write)?;
            }
            kind => {
                let kind = FileType::from_raw_mode(kind);
                let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
                if is_device && !self.is_root {
                    self.left_out[0] += 1;
                    return Ok(false);
                }
                let (major, minor) = device(object.attr);
                let device = rustix::fs::makedev(major, minor);
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(CWD, path, kind, mode, device).map_err(write)?;
            }
        }
        Ok(true)
    }
}

impl Target for Dir {
    fn object(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<(), CopyError> {
        let path = self.root.join(OsStr::from_bytes(object.path));
        let attr = object.attr;
        let dir = is_dir(attr.mode);
        if dir {
            if !object.path.is_empty() {
                fs::create_dir(&path).map_err(CopyError::Write)?;
            }
            self.dirs.push((path.clone(), *attr));
        } else {
            if attr.nlink > 1 {
                if let Some(first) = self.linked.get(&object.inode) {
                    return fs::hard_link(first, &path).map_err(CopyError::Write);
                }
                self.linked.insert(object.inode, path.clone());
            }
            if !self.make(stack, images, object, &path)? {
                return Ok(());
            }
        }
        for (name, value) in xattrs(stack, images, object.inode)? {
            let Ok(name) = CString::new(name) else {
                continue;
            };
            match rustix::fs::lsetxattr(&path, &*name, &value, XattrFlags::empty()) {
                Ok(()) => {}
                // Not for this user or this file system.
                Err(
                    rustix::io::Errno::PERM
                    | rustix::io::Errno::ACCESS
                    | rustix::io::Errno::OPNOTSUPP
                    | rustix::io::Errno::INVAL,
                ) => self.left_out[1] += 1,
                Err(errno) => return Err(CopyError::Write(errno.into())),
            }
        }
        if !self.is_root {
            self.left_out[2] += 1;
        }
        match dir {
            true => Ok(()),
            false => {
                let capability = c"security.capability";
                let set = rustix::fs::lgetxattr(&path, capability, &mut [0_u8; 64][..]);
                self.set_attr(&path, attr).map_err(CopyError::Write)?;
                // A change of the owner takes it away.
                if set.is_ok() {
                    let value = stack.xattr(images, object.inode, capability.to_bytes());
                    let value = value.map_err(CopyError::Read)?;
                    rustix::fs::lsetxattr(&path, capability, &value, XattrFlags::empty())
                        .map_err(|errno| CopyError::Write(errno.into()))?;
                }
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        // Inner ones first: what is done in a directory changes its time.
        for (path, attr) in std::mem::take(&mut self.dirs).iter().rev() {
            self.set_attr(path, attr)?;
        }
        let [devices, xattrs, owners] = self.left_out;
        for (count, what) in [
            (devices, "device files"),
            (xattrs, "extended attributes"),
            (owners, "owners"),
        ] {
            if count > 0 {
                eprintln!(
                    "varve: note: {count} {what} were left out, which need root or another file system"
                );
            }
        }
        Ok(())
    }
}

/// A tar stream in pax form.
struct Tar<W: Write> {
    out: W,
    linked: HashMap<Inode, Vec<u8>>,
}

impl<W: Write> Tar<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            linked: HashMap::new(),
        }
    }

    fn header(
        &mut self,
        records: &[(Vec<u8>, Vec<u8>)],
        header: &mut tar::Header,
    ) -> io::Result<()> {
        if !records.is_empty() {
            let mut body = Vec::new();
            for (key, value) in records {
                // The length counts its own digits.
                let rest = key.len() + value.len() + 3;
                let mut len = rest + 1;
                while rest + len.to_string().len() != len {
                    len = rest + len.to_string().len();
                }
                body.extend_from_slice(format!("{len} ").as_bytes());
                body.extend_from_slice(key);
                body.push(b'=');
                body.extend_from_slice(value);
                body.push(b'\n');
            }
            let mut extended = tar::Header::new_ustar();
            extended.set_path("PaxHeaders/entry")?;
            extended.set_entry_type(tar::EntryType::XHeader);
            extended.set_size(body.len() as u64);
            extended.set_mode(0o644);
            extended.set_mtime(0);
            extended.set_uid(0);
            extended.set_gid(0);
            extended.set_cksum();
            self.out.write_all(extended.as_bytes())?;
            self.out.write_all(&body)?;
            self.pad(body.len() as u64)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, len: u64) -> io::Result<()> {
        self.out
            .write_all(&[0; 512][..((512 - len % 512) % 512) as usize])
    }
}

/// The parts of a file that are data, granule by granule, and how many bytes they are.
fn data_map(
    stack: &mut Stack,
    images: &dyn Images,
    inode: Inode,
) -> Result<(Vec<(u64, u64)>, u64), CopyError> {
    let mut map: Vec<(u64, u64)> = Vec::new();
    let mut total = 0;
    runs(stack, images, inode, &mut |at, run| {
        let Ok(bytes) = run else { return Ok(()) };
        for (index, part) in bytes.chunks(GRANULE).enumerate() {
            if part.iter().all(|&byte| byte == 0) {
                continue;
            }
            let at = at + (index * GRANULE) as u64;
            total += part.len() as u64;
            match map.last_mut() {
                Some((start, len)) if *start + *len == at => *len += part.len() as u64,
                _ => map.push((at, part.len() as u64)),
            }
        }
        Ok(())
    })?;
    Ok((map, total))
}

impl<W: Write> Target for Tar<W> {
    fn object(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<(), CopyError> {
        let attr = object.attr;
        let mut name = match object.path {
            b"" => b"./".to_vec(),
            path => path.to_vec(),
        };
        if is_dir(attr.mode) && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let mut header = tar::Header::new_ustar();
        let mut records = Pairs::new();
        let mut record = |key: &str, value: &[u8]| records.push((key.into(), value.to_vec()));
        let short = header.set_path(OsStr::from_bytes(&name)).is_ok();
        if !short || header.path_bytes() != name {
            header.set_path("entry").map_err(CopyError::Write)?;
            record("path", &name);
        }
        header.set_mode(attr.mode & 0o7777);
        for (key, id) in [("uid", attr.uid), ("gid", attr.gid)] {
            let fits = id < 1 << 21;
            let id64 = u64::from(if fits { id } else { 0 });
            match key {
                "uid" => header.set_uid(id64),
                _ => header.set_gid(id64),
            }
            if !fits {
                record(key, id.to_string().as_bytes());
            }
        }
        let whole = u64::try_from(attr.mtime.sec)
            .ok()
            .filter(|sec| *sec < 1 << 33);
        header.set_mtime(whole.unwrap_or_default());
        if attr.mtime.nsec != 0 || whole.is_none() {
            // Before 1970 the fraction counts down.
            let text = match (attr.mtime.sec < 0, attr.mtime.nsec) {
                (_, 0) => attr.mtime.sec.to_string(),
                (false, nsec) => format!("{}.{nsec:09}", attr.mtime.sec),
                (true, nsec) => {
                    format!("-{}.{:09}", -(attr.mtime.sec + 1), 1_000_000_000 - nsec)
                }
            };
            record("mtime", text.as_bytes());
        }
        header.set_size(0);
        let mut first = None;
        if !is_dir(attr.mode) && attr.nlink > 1 {
            first = self.linked.get(&object.inode).cloned();
            self.linked
                .entry(object.inode)
                .or_insert_with(|| name.clone());
        }
        let kind = attr.mode & 0o170000;
        if let Some(first) = &first {
            header.set_entry_type(tar::EntryType::Link);
            if header.set_link_name_literal(first).is_err() {
                record("linkpath", first);
            }
            return self.header(&records, &mut header).map_err(CopyError::Write);
        }
        for (name, value) in xattrs(stack, images, object.inode)? {
            records.push(([b"SCHILY.xattr.", &name[..]].concat(), value));
        }
        let entry_type = match kind {
            0o040000 => tar::EntryType::Directory,
            0o100000 => tar::EntryType::Regular,
            0o120000 => tar::EntryType::Symlink,
            0o020000 => tar::EntryType::Char,
            0o060000 => tar::EntryType::Block,
            0o010000 => tar::EntryType::Fifo,
            // Archives have no sockets.
            _ => return Ok(()),
        };
        header.set_entry_type(entry_type);
        if matches!(kind, 0o020000 | 0o060000) {
            let (major, minor) = device(attr);
            header.set_device_major(major).map_err(CopyError::Write)?;
            header.set_device_minor(minor).map_err(CopyError::Write)?;
        }
        if kind == 0o120000 {
            let target = stack
                .read_link(images, object.inode)
                .map_err(CopyError::Read)?;
            if header.set_link_name_literal(&target).is_err() {
                records.push((b"linkpath".to_vec(), target));
            }
        }
        if kind != 0o100000 {
            return self.header(&records, &mut header).map_err(CopyError::Write);
        }
        self.file(stack, images, object, &name, records, header)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()
    }
}

impl<W: Write> Tar<W> {
    /// A regular file; one with holes in the form of GNU tar's sparse format 1.0.
    fn file(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
        name: &[u8],
        mut records: Pairs,
        mut header: tar::Header,
    ) -> Result<(), CopyError> {
        let size = object.attr.size;
        // Small files have no holes worth a map.
        let (map, data) = match size > 2 * GRANULE as u64 {
            true => data_map(stack, images, object.inode)?,
            false => (Vec::new(), size),
        };
        let sparse = data < size;
        let mut leading = Vec::new();
        if sparse {
            let mut ranges = map;
            // The map ends where the file ends.
            if ranges.last().is_none_or(|(at, len)| at + len < size) {
                ranges.push((size, 0));
            }
            leading.extend_from_slice(format!("{}\n", ranges.len()).as_bytes());
            for (at, len) in &ranges {
                leading.extend_from_slice(format!("{at}\n{len}\n").as_bytes());
            }
            leading.resize(leading.len().next_multiple_of(512), 0);
            records.retain(|(key, _)| key != b"path");
            records.push((b"GNU.sparse.major".to_vec(), b"1".to_vec()));
            records.push((b"GNU.sparse.minor".to_vec(), b"0".to_vec()));
            records.push((b"GNU.sparse.name".to_vec(), name.to_vec()));
            let real = size.to_string().into_bytes();
            records.push((b"GNU.sparse.realsize".to_vec(), real));
            header
                .set_path("GNUSparseFile.0/entry")
                .map_err(CopyError::Write)?;
        }
        let stored = leading.len() as u64 + data;
        match stored < 1 << 33 {
            true => header.set_size(stored),
            false => {
                header.set_size(0);
                records.push((b"size".to_vec(), stored.to_string().into_bytes()));
            }
        }
        self.header(&records, &mut header)
            .map_err(CopyError::Write)?;
        self.out.write_all(&leading).map_err(CopyError::Write)?;
        let out = &mut self.out;
        let mut written = 0;
        let copied = runs(stack, images, object.inode, &mut |_, run| match run {
            Ok(bytes) if sparse => {
                for part in bytes.chunks(GRANULE) {
                    if part.iter().any(|&byte| byte != 0) {
                        out.write_all(part)?;
                        written += part.len() as u64;
                    }
                }
                Ok(())
            }
            Ok(bytes) => {
                written += bytes.len() as u64;
                out.write_all(bytes)
            }
            Err(_) if sparse => Ok(()),
            Err(count) => {
                written += count;
                zeros(out, count)
            }
        });
        // A file that cannot be read to its end keeps its place in the stream.
        zeros(&mut self.out, data.saturating_sub(written)).map_err(CopyError::Write)?;
        self.pad(stored).map_err(CopyError::Write)?;
        copied
    }
}
