//! `varve do`: one sandbox, by hand.

use std::ffi::OsString;
use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use varve_core::abi::Errno;
use varve_core::boot::{
    BootConfig, BootError, Init, Layer, MAX_LAYERS, MergedIndex, Mount, Stdio, Tree, User,
};
use varve_core::machine::ImageId;
use varve_image::CheckedBlocks;
use varve_image::oci::ContainerImage;
use varve_sandbox::{Builder, ExitStatus, HostImage, RunError, Sandbox};

use crate::FAILED;
use crate::environment::Environment;
use crate::mounts::{MountKind, MountOption, parse_size};
use crate::platform::PlatformName;
use crate::process::{self, Forwarded};
use crate::stacks::{StackFile, StackFiles, StoreArguments};
use crate::{capabilities, host_view, layers, log, recording, text};

/// The program could not be executed, or was not found: exit statuses of `docker run`.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Longest name of a host (`__NEW_UTS_LEN`).
const HOSTNAME_MAX: usize = 64;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A layer: an image file, or a directory that is built once. Lowest first; with --image on top of it.
    /// Without layers and image the sandbox sees the host's own root under an in-memory overlay: it reads
    /// everything that the caller may read, but for /home, /root and /run (see --show), and writes nothing.
    #[arg(long = "layer", value_name = "FILE")]
    layers: Vec<PathBuf>,
    /// An image: a name in the store, or a directory that holds one. Its environment, user, working directory
    /// and program are taken unless they are given.
    #[arg(long, value_name = "IMAGE")]
    image: Option<OsString>,
    /// Check each block of the image against its Merkle tree when it is first touched: for images on storage
    /// that is not trusted.
    #[arg(long, requires = "image")]
    verify: bool,
    /// The program, instead of the image's entrypoint; empty for none.
    #[arg(long, value_name = "PROGRAM", requires = "image")]
    entrypoint: Option<OsString>,
    #[command(flatten)]
    host_view: host_view::Arguments,
    #[command(flatten)]
    store: StoreArguments,
    /// What runs the program.
    #[arg(long, value_enum, default_value = "auto", env = "VARVE_PLATFORM")]
    platform: PlatformName,
    /// Set a variable: NAME=value, or NAME to pass the caller's on. Over the host's own root, PATH, HOME,
    /// USER, LOGNAME, SHELL, TERM, COLORTERM, NO_COLOR, LANG, LANGUAGE, LC_* and TZ are passed on without
    /// being asked for.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables of a file, one on each line.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run the program as the child of a small first process, which hands signals on to it and waits for what
    /// it leaves behind, as `docker run --init` does. Needs nothing of the image.
    #[arg(long)]
    init: bool,
    /// Working directory in the sandbox; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User: name or number, with `:group` if need be.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Host name in the sandbox.
    #[arg(long, default_value = "varve")]
    hostname: String,
    /// Refuse all writes to the root file system.
    #[arg(long)]
    read_only: bool,
    // What is optional stands in brackets, which would be links in a docstring.
    #[arg(
        long,
        value_name = "SPEC",
        help = "Mount something: type=tmpfs,dst=DIR[,size=SIZE][,mode=MODE] or type=imgfs,src=IMAGE,dst=DIR[,rw]"
    )]
    mount: Vec<String>,
    /// Most memory that the sandbox may use, as `docker run` takes it (64m, 2g); past it the largest process
    /// in it is killed. By default what the machine has.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Most threads that the sandbox may have at a time, those of all processes together, as `docker run`
    /// takes it (-1: no limit). The host's own limits hold too.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Check the kernel's own bookkeeping after every N inputs and at the end; status 125 if it is wrong. For
    /// finding bugs of varve.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "4294967295")]
    check_kernel: Option<NonZeroU32>,
    #[command(flatten)]
    capabilities: capabilities::Arguments,
    #[command(flatten)]
    recording: recording::Arguments,
    #[command(flatten)]
    log: log::Arguments,
    /// The program and its arguments; of an image with an entrypoint only the arguments.
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Images and host trees of a run, in the order of their numbers.
#[derive(Default)]
pub(crate) struct Sources {
    pub images: Vec<(String, HostImage)>,
    /// SHA-256 of each image, where a manifest says it.
    pub digests: Vec<Option<[u8; 32]>>,
    pub trees: Vec<std::os::fd::OwnedFd>,
}

impl Sources {
    /// Adds an image file or a directory as a layer.
    pub(crate) fn add_layer(&mut self, path: &Path) -> Result<Layer> {
        let name = path.display().to_string();
        let image = HostImage::open(layers::open(path)?).with_context(|| name.clone())?;
        self.images.push((name, image));
        self.digests.push(None);
        Ok(Layer::Image(ImageId(self.images.len() as u32 - 1)))
    }

    /// Adds the layers of an image, and its index.
    fn add_stack(&mut self, stack: StackFiles) -> Result<(Vec<Layer>, Option<MergedIndex>)> {
        let verify = stack.verify;
        let mut add = |file: StackFile| -> Result<ImageId> {
            self.digests.push(file.digest);
            self.images.push(file.image(verify.as_ref())?);
            Ok(ImageId(self.images.len() as u32 - 1))
        };
        let mut layers = Vec::with_capacity(stack.layers.len());
        for file in stack.layers {
            layers.push(Layer::Image(add(file)?));
        }
        let index = match stack.index {
            Some((file, digests)) => Some(MergedIndex {
                image: add(file)?,
                digests,
            }),
            None => None,
        };
        Ok((layers, index))
    }

    /// Begins a sandbox of them.
    pub(crate) fn builder(self, config: BootConfig) -> Builder {
        Sandbox::builder(config).files(self.images, self.trees)
    }

    fn add_tree(&mut self, path: &Path) -> Result<Layer> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        self.trees.push(file.into());
        Ok(Layer::Host(self.trees.len() as u32 - 1))
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut sources = Sources::default();
    let config = config(arguments, &mut sources)?;
    let recording = arguments
        .recording
        .open(&sources.images, &sources.digests)?;
    let mut builder = sources.builder(config).log(arguments.log.sink()?);
    if let Some(recording) = recording {
        builder = builder.record(recording);
    }
    if let Some(inputs) = arguments.check_kernel {
        builder = builder.check_every(inputs);
    }
    start(builder, arguments.platform)
}

/// Runs a sandbox; gives the exit status as `docker run` does.
pub(crate) fn start(builder: Builder, platform: PlatformName) -> Result<u8> {
    process::raise_open_files();
    let mut builder = builder.platform(platform.choice());
    if let Some(signal) = platform.signal().context("a signal handler")? {
        builder = builder.kick_signal(signal);
    }
    let signals = Forwarded::take().context("signals")?;
    let ended = builder.spawn().and_then(|sandbox| {
        let forwarded = signals.hand_to(sandbox.controls());
        forwarded.map_err(RunError::host("signals"))?;
        sandbox.wait()
    });
    match ended {
        Ok(ExitStatus::Exited(status)) => Ok(status),
        Ok(ExitStatus::Lost) => {
            bail!("the program was ended because the host could not run it any further")
        }
        Ok(ExitStatus::Signaled(signal)) => Ok(128 + signal),
        Err(error) => {
            let status = match &error {
                RunError::Boot(
                    BootError::Exec {
                        errno: Errno::ENOENT,
                        ..
                    },
                    _,
                ) => NOT_FOUND,
                // The host has no more of something: that is not the program's fault.
                RunError::Boot(
                    BootError::Exec {
                        errno: Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN,
                        ..
                    },
                    _,
                ) => FAILED,
                RunError::Boot(BootError::Exec { .. }, _) => CANNOT_EXECUTE,
                _ => return Err(error.into()),
            };
            text::say(error);
            Ok(status)
        }
    }
}

/// Least memory of a sandbox, as with `docker run`.
const MEMORY_MIN: u64 = 6 << 20;

fn memory_limit(arguments: &Arguments) -> Result<Option<u64>> {
    let Some(text) = &arguments.memory else {
        return Ok(None);
    };
    let limit = parse_size(text).with_context(|| format!("--memory {text}"))?;
    if limit < MEMORY_MIN {
        bail!("--memory {text}: the least is 6m");
    }
    Ok(Some(limit))
}

/// No limit is written as 0 too, as with `docker run`.
fn threads_max(arguments: &Arguments) -> Result<u32> {
    match arguments.pids_limit {
        None | Some(-1 | 0) => Ok(u32::MAX),
        Some(limit) if limit < 0 => {
            bail!("--pids-limit {limit}: a number of threads, or -1 for no limit")
        }
        Some(limit) => Ok(u32::try_from(limit).unwrap_or(u32::MAX)),
    }
}

fn config(arguments: &Arguments, sources: &mut Sources) -> Result<BootConfig> {
    if arguments.layers.len() > MAX_LAYERS {
        bail!(
            "{} layers were given; at most {MAX_LAYERS} can be stacked",
            arguments.layers.len()
        );
    }
    if arguments.hostname.len() > HOSTNAME_MAX {
        bail!(
            "--hostname {}: at most {HOSTNAME_MAX} bytes",
            text::shown(&arguments.hostname)
        );
    }
    let over_host = arguments.layers.is_empty() && arguments.image.is_none();
    let image = match &arguments.image {
        Some(name) => Some(arguments.store.image(name)?),
        None => None,
    };
    let args = command(arguments, image.as_ref())?;
    let mut memory_limit = memory_limit(arguments)?;
    // What was checked is kept, and counts as memory of the sandbox.
    let checked = arguments.verify.then(|| match memory_limit {
        Some(limit) => CheckedBlocks::within(limit),
        None => CheckedBlocks::default(),
    });
    if let Some(checked) = &checked {
        memory_limit = memory_limit.map(|limit| limit - checked.most_bytes());
    }
    let (layers, index) = match &image {
        Some(image) => {
            let mut stack = StackFiles::of_image(image.clone())?;
            stack.verify = checked.map(Arc::new);
            if !arguments.layers.is_empty() {
                // It is one of the image's own layers alone.
                stack.index = None;
            }
            let (mut layers, index) = sources.add_stack(stack)?;
            for path in &arguments.layers {
                layers.push(sources.add_layer(path)?);
            }
            if layers.len() > MAX_LAYERS {
                let count = layers.len();
                bail!(
                    "{count} layers with those of the image; at most {MAX_LAYERS} can be stacked"
                );
            }
            (layers, index)
        }
        None if over_host => (vec![sources.add_tree(Path::new("/"))?], None),
        None => {
            let layers = arguments.layers.iter();
            let layers = layers.map(|path| sources.add_layer(path));
            (layers.collect::<Result<_>>()?, None)
        }
    };
    let mut mounts = match over_host {
        true => host_view(arguments, sources)?,
        false if arguments.host_view.is_asked() => {
            bail!("--show: the host's own directories are there only without --layer and --image")
        }
        false => Vec::new(),
    };
    for text in &arguments.mount {
        mounts.push(mount(&MountOption::parse(text)?, sources)?);
    }
    let mut env = match over_host {
        true => Environment::inherited(),
        false => Environment::container(&arguments.hostname, has_terminal()),
    };
    for variable in image.iter().flat_map(|image| image.list("Env")) {
        env.set(variable.into_bytes());
    }
    for file in &arguments.env_file {
        env.add_file(file)?;
    }
    for text in &arguments.env {
        env.add(text)?;
    }
    let cwd = match &arguments.workdir {
        Some(dir) if dir.starts_with('/') => clean(dir),
        Some(dir) => bail!("--workdir {dir}: the path is not absolute"),
        None if over_host => {
            std::env::current_dir().map_or(b"/".to_vec(), |dir| dir.into_os_string().into_vec())
        }
        None => match image.as_ref().and_then(|image| image.text("WorkingDir")) {
            // Docker takes one without a slash from the root.
            Some(dir) => clean(dir),
            None => b"/".to_vec(),
        },
    };
    let user = arguments.user.as_deref();
    let user = user.or_else(|| image.as_ref()?.text("User"));
    let user = match user {
        Some(text) => User::Name(text.to_owned()),
        None if over_host => caller(),
        None => User::Ids {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
    };
    Ok(BootConfig {
        root: Tree {
            layers,
            read_only: arguments.read_only,
            upper_limit: None,
            index,
        },
        mounts,
        init: match arguments.init {
            true => Init::Supervised { args },
            false => Init::Exec { args },
        },
        env: env.into_vars(),
        cwd,
        user,
        hostname: arguments.hostname.clone(),
        strace: arguments.log.strace()?,
        // A recorded run takes the time from its inputs alone.
        vdso: !arguments.recording.is_asked(),
        capabilities: arguments.capabilities.set()?,
        memory_limit,
        threads_max: threads_max(arguments)?,
        ..varve_sandbox::program::<Vec<u8>>([]).context("/dev/urandom")?
    })
}

/// A path from the root without `.` and `..`, which are resolved by name, as Docker does it.
fn clean(dir: &str) -> Vec<u8> {
    let mut names = Vec::new();
    for name in dir.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/")).into_bytes()
}

/// The mounts that leave parts of the host out.
fn host_view(arguments: &Arguments, sources: &mut Sources) -> Result<Vec<Mount>> {
    let cwd = match &arguments.workdir {
        Some(dir) => Path::new(dir).canonicalize().unwrap_or_default(),
        None => std::env::current_dir().unwrap_or_default(),
    };
    let view = arguments.host_view.view(&cwd)?;
    if view.hides(&cwd) {
        let dir = text::path(&cwd);
        text::say(format_args!(
            "{dir} is empty in the sandbox; `--show {dir}` shows it"
        ));
    }
    view.mounts(|path| sources.add_tree(path))
}

/// The program and its arguments, as `docker run` puts them together: entrypoint, then what is given or else
/// the image's `Cmd`. Another entrypoint than the image's does away with its `Cmd`.
fn command(arguments: &Arguments, image: Option<&ContainerImage>) -> Result<Vec<Vec<u8>>> {
    let texts = |key| {
        let list = image.map(|image| image.list(key)).unwrap_or_default();
        list.into_iter().map(String::into_bytes)
    };
    let given = arguments.command.iter().map(|arg| arg.as_bytes().to_vec());
    let mut args: Vec<Vec<u8>> = match &arguments.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.as_bytes().to_vec()],
        None => texts("Entrypoint").collect(),
    };
    match arguments.command.is_empty() && arguments.entrypoint.is_none() {
        true => args.extend(texts("Cmd")),
        false => args.extend(given),
    }
    if args.is_empty() {
        match image {
            Some(_) => {
                bail!("the image names no program: give one, as in `varve do --image IMAGE -- sh`")
            }
            None => bail!("no program is given: `varve do [OPTIONS] -- PROGRAM [ARGUMENT...]`"),
        }
    }
    Ok(args)
}

fn mount(option: &MountOption, sources: &mut Sources) -> Result<Mount> {
    let (source, tree, mode) = match &option.kind {
        MountKind::Tmpfs { size, mode } => (
            b"tmpfs".to_vec(),
            Tree {
                layers: Vec::new(),
                read_only: false,
                upper_limit: *size,
                index: None,
            },
            *mode,
        ),
        MountKind::Image { source, writable } => {
            let layers = vec![sources.add_layer(source)?];
            let tree = Tree {
                layers,
                read_only: !writable,
                upper_limit: None,
                index: None,
            };
            (source.as_os_str().as_bytes().to_vec(), tree, 0o755)
        }
    };
    Ok(Mount {
        target: option.target.clone().into_bytes(),
        source,
        tree,
        mode,
    })
}

/// Who calls varve.
fn caller() -> User {
    let groups = rustix::process::getgroups().unwrap_or_default();
    User::Ids {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        groups: groups.into_iter().map(|group| group.as_raw()).collect(),
    }
}

/// Whether a standard stream is a terminal.
fn has_terminal() -> bool {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
        .into_iter()
        .any(|fd| matches!(varve_sandbox::stream_kind(fd), Stdio::Terminal { .. }))
}
