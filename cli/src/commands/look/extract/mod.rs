//! `varve extract`: files of a stack become files of the host, or a tar stream.

mod dir;
mod tar;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use varve_image::tarball::CopyError;
use varve_image::walk::{Next, walk};
use varve_imgfs::{Attr, Images, Ino, Stack};

use dir::Dir;
use tar::Tar;

use super::{StackArguments, absolute, join, paths_or_root};
use crate::stacks::{OpenStack, complain};
use crate::stop::Stop;
use crate::text;
use crate::whole::Target;

/// Zeros so aligned and so long become holes.
const GRANULE: usize = 64 << 10;

#[derive(clap::Args)]
#[command(
    after_help = "Owners, device files and some attributes need root: without it they are left out, and a line says so. Set-ID bits are kept only with \
        their owner; the umask counts for ordinary users. The directory must be new or empty; an extraction that fails or is stopped leaves it so."
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
    inode: Ino,
    attr: &'a Attr,
}

/// Where objects go.
trait Sink {
    /// Takes one object, a directory before what is in it.
    fn object(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<(), CopyError>;
    /// All were given.
    fn finish(&mut self) -> io::Result<()>;
    /// It ends in an error: nothing of it is to be left.
    fn abandon(&mut self) {}
}

pub(crate) fn extract(arguments: &Arguments) -> Result<u8> {
    let mut stack = arguments.stack.open()?;
    let output = &arguments.output;
    let to_stdout = output.as_os_str() == "-";
    let is_tar = arguments.tar || to_stdout || output.extension() == Some(OsStr::new("tar"));
    if !is_tar && let Some(program) = packer(output) {
        bail!(
            "{0}: a packed archive is not written: `--output - | {program} > {0}`, or FILE.tar",
            text::path(output)
        );
    }
    if !is_tar {
        let stop = Stop::on_signals()?;
        let mut target = Dir::new(output, stop.clone())?;
        let done = run(&mut stack, arguments, &mut target);
        if done.is_err() {
            target.abandon();
        }
        return stopped(done, &stop);
    }
    if to_stdout {
        if arguments.json {
            bail!("--json and a tar stream cannot both go to standard output: name a file for one");
        }
        if io::IsTerminal::is_terminal(&io::stdout()) {
            bail!("standard output is a terminal: pipe the tar stream somewhere, or name a file");
        }
        // Nothing is left behind: a signal may end this as it likes.
        let out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
        let done = run(&mut stack, arguments, &mut Tar::new(out, Stop::default()));
        let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        return match done {
            // Whoever read it has seen enough.
            Err(error)
                if error
                    .chain()
                    .any(|part| part.downcast_ref().is_some_and(closed)) =>
            {
                Ok(0)
            }
            done => done,
        };
    }
    let shown = || text::path(output).to_string();
    let stop = Stop::on_signals()?;
    let mut file = Target::of(output)?.create(None)?;
    let copy = file.file().try_clone().with_context(shown)?;
    let out = BufWriter::with_capacity(1 << 20, copy);
    let done = run(&mut stack, arguments, &mut Tar::new(out, stop.clone()));
    let status = match stopped(done, &stop) {
        Ok(status) if stop.signal().is_none() => status,
        ended => return ended,
    };
    file.finish()?;
    Ok(status)
}

/// What packs an archive of this name; nobody means a directory by it.
fn packer(output: &Path) -> Option<&'static str> {
    let name = output.file_name()?.to_str()?;
    let packed = [
        (".tar.gz", "gzip"),
        (".tgz", "gzip"),
        (".tar.zst", "zstd"),
        (".tar.xz", "xz"),
        (".tar.bz2", "bzip2"),
    ];
    let found = packed.iter().find(|(end, _)| name.ends_with(end));
    found
        .filter(|_| !output.is_dir())
        .map(|(_, program)| *program)
}

/// The status of an extraction that a signal ended: as a shell tells it.
fn stopped(done: Result<u8>, stop: &Stop) -> Result<u8> {
    match (done, stop.signal()) {
        (Err(error), Some(signal)) => {
            text::say(format_args!(
                "{error:#}; nothing is left of what was taken out"
            ));
            Ok(128 + signal)
        }
        (done, _) => done,
    }
}

fn run(stack: &mut OpenStack, arguments: &Arguments, target: &mut dyn Sink) -> Result<u8> {
    let OpenStack {
        stack,
        images,
        names,
        ..
    } = stack;
    let images: &dyn Images = images;
    let shown = || match arguments.output.as_os_str() == "-" {
        true => "standard output".to_owned(),
        false => text::path(&arguments.output).to_string(),
    };
    let mut status = 0;
    let mut count = Count::default();
    let mut linked = HashSet::new();
    let mut given = HashSet::new();
    let several = arguments.paths.len() > 1;
    for path in paths_or_root(&arguments.paths) {
        let parts: Vec<_> = path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        if parts.contains(&&b".."[..]) {
            bail!("{}: `..` cannot be extracted", text::shown(path));
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
            // A path that was asked for twice, or inside another one. Of one path nothing comes twice, and
            // all of them would be more than the image is long.
            if several && item.attr.is_ok() && !given.insert(path.clone()) {
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
                    count.bytes = count.bytes.saturating_add(attr.size);
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
        crate::output::print(|out| writeln!(out, "{}", text::json_pretty(&value)))?;
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

fn xattrs(stack: &mut Stack, images: &dyn Images, inode: Ino) -> Result<Pairs, CopyError> {
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
