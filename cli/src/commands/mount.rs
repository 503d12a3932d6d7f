//! `varve mount` and `varve umount`: a stack as a directory of the host, through FUSE.
//!
//! In the background the mount is served by another process of the same program, which says on its standard
//! output when it serves; only then the first one ends.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::UnmountFlags;
use varve_host_fuse::{Log, Mount, Options};

use crate::FAILED;
use crate::stacks::{StackFiles, StoreArguments, named};
use crate::{files, text};

/// What the process in the background says when it serves.
const READY: &[u8] = b"ready\n";
/// How long an unmount waits for that process to end.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
#[command(override_usage = "varve mount [OPTIONS] <IMAGE|LAYER>... <DIR>")]
pub(crate) struct MountArguments {
    /// An image (a name in the store, or a directory that holds one), or layer files, lowest first; last the
    /// directory where to mount it.
    // One argument, so that options may stand between.
    #[arg(required = true, value_name = "IMAGE|LAYER... DIR", num_args = 1..)]
    operands: Vec<OsString>,
    /// Serve from this process, until it is told to stop or the directory is unmounted.
    #[arg(short, long)]
    foreground: bool,
    /// Let other users look into it; for ordinary users /etc/fuse.conf must allow that.
    #[arg(long)]
    allow_other: bool,
    /// Options of mount(8), with commas between: suid, dev, noexec, noatime, allow_other, ...
    #[arg(short = 'o', long, value_name = "OPTIONS", value_delimiter = ',')]
    options: Vec<String>,
    /// Threads that answer the kernel; by default as many as there are processors, at most 8.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Resolve by the union of the layers even if there is a merged index.
    #[arg(long)]
    no_index: bool,
    /// Check each block of the image against its Merkle tree when it is first touched.
    #[arg(long)]
    verify: bool,
    /// Append lines about damage to this file; without it they go to standard error, or nowhere in the
    /// background.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Say when the mount is there, then let go of the terminal.
    #[arg(long, hide = true)]
    notify: bool,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(clap::Args)]
pub(crate) struct UmountArguments {
    /// Mounted directories; a mount whose process was killed goes away, too.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Take the mount away at once even if it is used; it ends with its last user.
    #[arg(short, long)]
    lazy: bool,
}

impl MountArguments {
    fn source(&self) -> &[OsString] {
        self.operands.split_last().map_or(&[], |(_, source)| source)
    }

    fn dir(&self) -> &Path {
        self.operands.last().map_or(Path::new(""), Path::new)
    }
}

pub(crate) fn mount(arguments: &MountArguments) -> Result<u8> {
    if arguments.source().is_empty() {
        bail!("an image and a directory are needed: `varve mount [OPTIONS] IMAGE|LAYER... DIR`");
    }
    let found = std::fs::canonicalize(arguments.dir())
        .and_then(|dir| Ok((std::fs::metadata(&dir)?.is_dir(), dir)));
    let (is_dir, dir) = found.map_err(|error| {
        let shown = arguments.dir().display();
        match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOTCONN) => anyhow!(
                "{shown}: the process of an earlier mount was killed; `varve umount {shown}` cleans it up"
            ),
            _ => anyhow::Error::new(error).context(shown.to_string()),
        }
    })?;
    if !is_dir {
        bail!("{}: is not a directory", dir.display());
    }
    // The process in the background was asked before.
    if !arguments.notify && is_mounted(&dir)? {
        let shown = arguments.dir().display();
        bail!("{shown}: an image is mounted there already; `varve umount {shown}` takes it away");
    }
    if !Path::new("/dev/fuse").exists() {
        bail!("/dev/fuse is not there: load the kernel module fuse");
    }
    match arguments.foreground {
        true => serve(arguments, &dir),
        false => background(&dir),
    }
}

/// Starts the process that serves, and waits until it does.
fn background(dir: &Path) -> Result<u8> {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // The directory by its full name: who unmounts finds the process by it.
    if let Some(at) = args
        .iter()
        .rposition(|arg| std::fs::canonicalize(arg).is_ok_and(|path| path == dir))
    {
        args[at] = dir.into();
    }
    let at = args.iter().position(|arg| arg == "mount");
    let at = at.map_or(0, |at| at + 1);
    args.splice(at..at, ["--foreground", "--notify"].map(OsString::from));
    let mut child = Command::new("/proc/self/exe")
        .arg0("varve")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the process that serves the mount")?;
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .read_to_end(&mut said)
            .context("the mount's process")?;
    }
    if said == READY {
        return Ok(0);
    }
    let status = child.wait().context("the mount's process")?;
    // It has told why.
    Ok(status
        .code()
        .and_then(|code| code.try_into().ok())
        .unwrap_or(FAILED))
}

fn files(arguments: &MountArguments) -> Result<StackFiles> {
    if let [one] = arguments.source() {
        return StackFiles::open(one, &arguments.store);
    }
    let parts = arguments.source().iter().flat_map(|operand| {
        let parts = operand.as_bytes().split(|&byte| byte == b',');
        parts.map(|part| PathBuf::from(OsStr::from_bytes(part)))
    });
    StackFiles::of_layers(&parts.collect::<Vec<_>>())
}

fn serve(arguments: &MountArguments, dir: &Path) -> Result<u8> {
    let mut files = files(arguments)?;
    files.verify = arguments.verify.then(Default::default);
    let opened = files.stack(!arguments.no_index)?;
    let log = log(arguments, opened.names)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options {
        name: arguments.source()[0].to_string_lossy().replace(',', "+"),
        allow_other: arguments.allow_other,
        threads: arguments.threads.unwrap_or(processors.clamp(1, 8)),
        mount: arguments.options.clone(),
    };
    options.mount.retain(|option| match option.as_str() {
        "allow_other" => {
            options.allow_other = true;
            false
        }
        option => !option.is_empty(),
    });
    // Signals are taken before there is something to clean up.
    use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let mount = Mount::new(opened.stack, Box::new(opened.images), dir, &options, log)
        .map_err(|error| explain(&error, dir))?;
    read_ahead(dir);
    let target = dir.to_owned();
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else {
            return;
        };
        if unmount(&target, false).is_ok() {
            return;
        }
        // It ends, whoever still uses the mount: their files become errors.
        if let Err(error) = unmount(&target, true) {
            text::say(crate::message(&error));
        }
        std::process::exit(128 + signal);
    });
    if arguments.notify {
        let mut out = io::stdout();
        if let Err(error) = out.write_all(READY).and_then(|()| out.flush()) {
            // Who asked for the mount was ended meanwhile: it does not want it any more.
            unmount(dir, true)?;
            return Err(error).context("standard output");
        }
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        let _ = rustix::process::setsid();
        let _ = std::env::set_current_dir("/");
    }
    mount.join().context("the mount")?;
    Ok(0)
}

/// A mount that is refused, with what to do about it.
fn explain(error: &io::Error, dir: &Path) -> anyhow::Error {
    let text = error.to_string();
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; mounting needs root, or the program fusermount3, a directory of one's own and a /dev/fuse for everybody (mode 0666)"
        }
        io::ErrorKind::NotFound => {
            "; without root it needs the program fusermount3 (package fuse3)"
        }
        _ => "",
    };
    let text = text.split(" (os error").next().unwrap_or_default().trim();
    anyhow!("cannot mount on {}: {text}{hint}", dir.display())
}

fn log(arguments: &MountArguments, names: Vec<String>) -> Result<Log> {
    let file = match &arguments.log {
        Some(path) => Some(files::append(path)?),
        None => None,
    };
    Ok(Box::new(move |line| {
        let line = named(&names, line);
        // A line that cannot be written is lost: there is nobody left to tell.
        let _ = match &file {
            Some(file) => (&*file).write_all(format!("varve: {}\n", text::shown(&line)).as_bytes()),
            None => {
                text::say(line);
                Ok(())
            }
        };
    }))
}

/// Lets the kernel read further ahead, where it may be told to: its limit for FUSE is 128 KiB.
fn read_ahead(dir: &Path) {
    if let Ok(stat) = rustix::fs::stat(dir) {
        let (major, minor) = (
            rustix::fs::major(stat.st_dev),
            rustix::fs::minor(stat.st_dev),
        );
        let _ = std::fs::write(
            format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"),
            "1024",
        );
    }
}

pub(crate) fn umount(arguments: &UmountArguments) -> Result<u8> {
    let mut status = 0;
    for dir in &arguments.dirs {
        if let Err(error) = umount_one(dir, arguments.lazy) {
            text::say(crate::message(&error));
            status = 1;
        }
    }
    Ok(status)
}

fn umount_one(dir: &Path, lazy: bool) -> Result<()> {
    let full = full_name(dir)?;
    if !is_mounted(&full)? {
        bail!("{}: no image of varve is mounted there", dir.display());
    }
    let servers = servers(&full);
    unmount(&full, lazy)?;
    let start = Instant::now();
    while !lazy && start.elapsed() < PATIENCE {
        if !servers.iter().any(|pid| is_server(*pid, &full)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The path of a mount point without links; its last part is not looked at, as a dead mount answers nothing.
fn full_name(dir: &Path) -> Result<PathBuf> {
    let shown = || dir.display().to_string();
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = match parent.as_os_str().is_empty() {
                true => Path::new("."),
                false => parent,
            };
            Ok(std::fs::canonicalize(parent)
                .with_context(shown)?
                .join(name))
        }
        _ => std::fs::canonicalize(dir).with_context(shown),
    }
}

/// Whether the topmost mount on a directory is one of varve (proc_pid_mountinfo(5)).
fn is_mounted(dir: &Path) -> Result<bool> {
    let text = std::fs::read("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let mut kind = None;
    for line in text.split(|&byte| byte == b'\n') {
        let fields: Vec<_> = line.split(|&byte| byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-");
        if let (Some(point), Some(separator)) = (fields.get(4), separator)
            && unescape(point) == dir.as_os_str().as_bytes()
        {
            kind = fields.get(separator + 1).map(|kind| kind.to_vec());
        }
    }
    Ok(kind.as_deref() == Some(b"fuse.varve"))
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| byte == b'\\');
        let value = digits.and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match value {
            Some(value) => {
                out.push(value);
                rest = &behind[3..];
            }
            None => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    out
}

/// The processes that serve a mount.
fn servers(dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_server(*pid, dir)).collect()
}

fn is_server(pid: u32, dir: &Path) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let args: Vec<_> = line.split(|&byte| byte == 0).collect();
    args.contains(&&b"--notify"[..]) && args.contains(&dir.as_os_str().as_bytes())
}

/// Unmounts; ordinary users through fusermount3.
fn unmount(dir: &Path, lazy: bool) -> Result<()> {
    let shown = dir.display();
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    match rustix::mount::unmount(dir, flags) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::BUSY) => {
            bail!("{shown}: is used by somebody; end that, or unmount with --lazy")
        }
        Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(anyhow::Error::new(errno).context(shown.to_string())),
    }
    let mut command = Command::new("fusermount3");
    command
        .arg("-u")
        .args(lazy.then_some("-z"))
        .arg("--")
        .arg(dir);
    let output = command
        .output()
        .context("fusermount3 (package fuse3), which unmounts for ordinary users")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let hint = match text.contains("busy") {
            true => "; end what uses it, or unmount with --lazy",
            false => "",
        };
        bail!("{text}{hint}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_of_mountinfo_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c\x"), br"/a b\c\x");
        assert_eq!(unescape(br"/a\04"), br"/a\04");
    }
}
