//! `varve replay`: a recorded run once more, on the in-memory host, compared with the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use varve_core::event::{ExitStatus, HostCall, HostResult, Input, Now, OpId, Output, TracedCall};
use varve_core::journal::{Header, ImageNote, Replay, ReplayError, Source, Step};
use varve_core::machine::{Regs, Trap};
use varve_core::port::Block;
use varve_core::syscall::TABLE;
use varve_host::{HostImage, Sink, SinkLine, TraceLine};

use crate::stacks::MappedImages;
use crate::{layers, log, output, recording};

/// The run went another way than in the log.
const DIFFERENT: u8 = 1;
/// Bytes of the log that are read at a time.
const BUFFER: usize = 1 << 18;

#[derive(clap::Args)]
#[command(
    after_help = "No program runs: what guests and the host did is in the log. The images of the run must be there as they were, at their paths then \
        or where --layer and --image-dir say. The exit status is 0 if every output and every digest is equal, 1 at the first difference, 125 if \
        the log is damaged or an image is missing."
)]
pub(crate) struct Arguments {
    /// The log that `varve do --record` wrote.
    #[arg(value_name = "FILE")]
    log_file: PathBuf,
    /// An image of the run, or a directory that one was built from; told apart by their digests.
    #[arg(long = "layer", value_name = "FILE")]
    layers: Vec<PathBuf>,
    /// Look for images here: a directory of image files, an OCI layout or an image store.
    #[arg(long = "image-dir", value_name = "DIR")]
    image_dirs: Vec<PathBuf>,
    /// Print every input.
    #[arg(long)]
    inputs: bool,
    /// Write what the program wrote to its standard output and error, and nothing else.
    #[arg(long, conflicts_with_all = ["inputs", "json"])]
    output: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: log::Arguments,
}

/// The file of a log.
struct LogFile(BufReader<File>);

impl Source for LogFile {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, String> {
        loop {
            match self.0.read(buf) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| error.to_string()),
            }
        }
    }
}

/// What was done.
#[derive(Default)]
struct Counts {
    inputs: u64,
    system_calls: u64,
    outputs: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let name = arguments.log_file.display().to_string();
    let file = File::open(&arguments.log_file).with_context(|| name.clone())?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        bail!("{name}: is a directory, not a log of a run");
    }
    let source = LogFile(BufReader::with_capacity(BUFFER, file));
    let mut replay = Replay::open(source).with_context(|| name.clone())?;
    let images = images(arguments, replay.header()).with_context(|| name.clone())?;
    if let Some(strace) = arguments.log.strace()? {
        replay.trace(strace);
    }
    let mut traces = Traces::new(arguments.log.sink()?);
    let mut writes = Writes::default();
    let mut counts = Counts::default();
    let mut refused = None;
    let result = loop {
        let step = match replay.next(&images) {
            Ok(Some(step)) => step,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        match &step {
            Step::Boot => traces.begin(replay.header().booted),
            Step::Poke | Step::Peek => {}
            Step::Refused(error) => refused = Some(format!("{error:?}")),
            Step::Input(now, input) => {
                counts.inputs += 1;
                traces.begin(*now);
                if arguments.inputs {
                    let line = format!("{:>8} {:>16} {}", counts.inputs, now.mono, shown(input));
                    output::finish(writeln!(std::io::stdout(), "{line}"))?;
                }
                match input {
                    Input::Trap {
                        trap: Trap::Syscall,
                        ..
                    } => counts.system_calls += 1,
                    Input::Completed { op, result } if arguments.output => {
                        writes.done(*op, result)?;
                    }
                    _ => {}
                }
            }
        }
        for out in replay.outputs() {
            counts.outputs += u64::from(!matches!(out, Output::Strace { .. }));
            match out {
                Output::Log(level, line) => (traces.sink)(SinkLine::Log(*level, line)),
                Output::Strace { tid, call, line } => {
                    traces.waiting.push((*tid, *call, line.clone()));
                }
                Output::Host {
                    op,
                    call: HostCall::Write { stream, data },
                    ..
                } if arguments.output => writes.begin(*op, *stream, data),
                _ => {}
            }
        }
    };
    traces.end();
    let digest = replay.kernel().map(varve_core::Kernel::digest);
    if arguments.json {
        print_json(&replay, &counts, digest, refused.as_deref(), &result)?;
    } else if result.is_ok() && !arguments.output {
        print(&replay, &counts, digest, refused.as_deref())?;
    }
    let status = match &result {
        Ok(()) => return Ok(0),
        Err(ReplayError::Different(_)) => DIFFERENT,
        Err(ReplayError::Log(_)) => crate::FAILED,
    };
    if let Err(error) = result {
        let mut text = format!("{name}: {error}");
        if let ReplayError::Log(_) = error {
            text += &format!("; the {} inputs before it were equal", counts.inputs);
        }
        let version = &replay.header().varve;
        if *version != env!("CARGO_PKG_VERSION") {
            text += &format!(" (recorded by varve {version}, whose state may differ)");
        }
        crate::text::say(text);
    }
    Ok(status)
}

fn print(
    replay: &Replay<LogFile>,
    counts: &Counts,
    digest: Option<u64>,
    refused: Option<&str>,
) -> Result<()> {
    let header = replay.header();
    let mut text = format!(
        "recorded on {} by varve {}\n{} inputs, {} of them system calls, {} outputs: all equal\n",
        header.platform, header.varve, counts.inputs, counts.system_calls, counts.outputs
    );
    if let Some(error) = refused {
        text += &format!("the boot failed, as it did then: {error}\n");
    }
    match replay.exit() {
        Some(ExitStatus::Exited(status)) => text += &format!("exited with status {status}\n"),
        Some(ExitStatus::Signaled(signal)) => text += &format!("killed by signal {signal}\n"),
        Some(ExitStatus::Lost) => text += "the host could not run it any further\n",
        None => {}
    }
    if let Some(digest) = digest {
        text += &format!("digest {digest:016x}\n");
    }
    output::print(|out| out.write_all(text.as_bytes()))
}

fn print_json(
    replay: &Replay<LogFile>,
    counts: &Counts,
    digest: Option<u64>,
    refused: Option<&str>,
    result: &Result<(), ReplayError>,
) -> Result<()> {
    let header = replay.header();
    let (difference, error) = match result {
        Ok(()) => (Value::Null, Value::Null),
        Err(ReplayError::Different(difference)) => {
            let difference = json!({
                "input": difference.input,
                "offset": difference.offset,
                "what": difference.what,
            });
            (difference, Value::Null)
        }
        Err(ReplayError::Log(error)) => (
            Value::Null,
            json!({ "offset": error.offset, "what": error.to_string() }),
        ),
    };
    let exit = match replay.exit() {
        Some(ExitStatus::Exited(status)) => json!({ "status": status }),
        Some(ExitStatus::Signaled(signal)) => json!({ "signal": signal }),
        Some(ExitStatus::Lost) => json!({ "lost": true }),
        None => Value::Null,
    };
    let report = json!({
        "equal": result.is_ok(),
        "varve": header.varve,
        "platform": header.platform,
        "inputs": counts.inputs,
        "system_calls": counts.system_calls,
        "outputs": counts.outputs,
        "digest": digest.map(|digest| format!("{digest:016x}")),
        "exit": exit,
        "boot_error": refused,
        "difference": difference,
        "error": error,
    });
    output::print(|out| writeln!(out, "{}", crate::text::json_pretty(&report)))
}

/// An input on one line.
fn shown(input: &Input) -> String {
    match input {
        Input::Trap { thread, regs, trap } => match trap {
            Trap::Syscall => format!("thread {} calls {}", thread.0, call(regs)),
            trap => format!("thread {} at {:#x}: {trap:?}", thread.0, regs.rip),
        },
        other => format!("{other:?}"),
    }
}

/// A system call with its arguments as numbers.
fn call(regs: &Regs) -> String {
    let found = TABLE.binary_search_by_key(&regs.orig_rax, |entry| entry.number);
    let (name, count) = match found {
        Ok(index) => (TABLE[index].name.to_owned(), TABLE[index].params.len()),
        Err(_) => (format!("syscall_{}", regs.orig_rax), 6),
    };
    let args = regs.args();
    let args: Vec<_> = args
        .iter()
        .take(count)
        .map(|arg| format!("{arg:#x}"))
        .collect();
    format!("{name}({})", args.join(", "))
}

/// Lines on calls, until the next input says how long the last one took.
struct Traces {
    sink: Sink,
    waiting: Vec<(u32, Option<TracedCall>, String)>,
    /// The time of the last input.
    now: Now,
}

impl Traces {
    fn new(sink: Sink) -> Traces {
        Traces {
            sink,
            waiting: Vec::new(),
            now: Now::default(),
        }
    }

    /// An input comes.
    fn begin(&mut self, now: Now) {
        self.print(now.spent);
        self.now = now;
    }

    fn print(&mut self, spent: u64) {
        for (tid, call, line) in self.waiting.drain(..) {
            let (waited, at) = match call {
                Some(call) => (
                    self.now.mono.saturating_sub(call.entered.mono),
                    call.entered.real,
                ),
                None => (0, self.now.real),
            };
            (self.sink)(SinkLine::Strace(TraceLine {
                tid,
                call,
                spent: waited + spent,
                at,
                text: &line,
            }));
        }
    }

    fn end(mut self) {
        self.print(0);
    }
}

/// What the program wrote to its standard streams, written again when it had been.
#[derive(Default)]
struct Writes(BTreeMap<OpId, (u8, Vec<u8>)>);

impl Writes {
    fn begin(&mut self, op: OpId, stream: u8, data: &[u8]) {
        self.0.insert(op, (stream, data.to_vec()));
    }

    fn done(
        &mut self,
        op: OpId,
        result: &Result<HostResult, varve_core::abi::Errno>,
    ) -> Result<()> {
        let Some((stream, data)) = self.0.remove(&op) else {
            return Ok(());
        };
        let Ok(HostResult::Count(count)) = result else {
            return Ok(());
        };
        let data = &data[..data.len().min(*count as usize)];
        match stream {
            2 => std::io::stderr().write_all(data).context("standard error"),
            _ => {
                let mut out = std::io::stdout();
                output::finish(out.write_all(data).and_then(|()| out.flush()))
            }
        }
    }
}

/// Finds the images of the run.
fn images(arguments: &Arguments, header: &Header) -> Result<MappedImages> {
    let mut given = Vec::new();
    for path in &arguments.layers {
        let name = path.display().to_string();
        let image = HostImage::open(layers::open(path)?).with_context(|| name.clone())?;
        given.push((recording::digest(&image)?, path));
    }
    let mut images = Vec::with_capacity(header.images.len());
    for note in &header.images {
        images.push(find(note, &given, &arguments.image_dirs)?);
    }
    Ok(MappedImages(images))
}

fn find(note: &ImageNote, given: &[([u8; 32], &PathBuf)], dirs: &[PathBuf]) -> Result<HostImage> {
    let name = Path::new(std::ffi::OsStr::from_bytes(&note.name));
    let mut candidates: Vec<PathBuf> = given
        .iter()
        .filter(|(digest, _)| *digest == note.sha256)
        .map(|(_, path)| (*path).clone())
        .collect();
    let hex = hex::encode(note.sha256);
    for dir in dirs {
        candidates.push(dir.join("blobs/sha256").join(&hex));
        let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        for entry in entries {
            let path = entry.with_context(|| dir.display().to_string())?.path();
            let same = |meta: std::fs::Metadata| meta.is_file() && meta.len() == note.len;
            if std::fs::metadata(&path).is_ok_and(same) {
                candidates.push(path);
            }
        }
    }
    candidates.push(name.to_path_buf());
    for path in candidates.iter().filter(|path| path.exists()) {
        let image =
            HostImage::open(layers::open(path)?).with_context(|| path.display().to_string())?;
        if image.len() == note.len && recording::digest(&image)? == note.sha256 {
            return Ok(image);
        }
    }
    let why = match name.exists() {
        true => "is not what it was",
        false => "is not there",
    };
    bail!(
        "the image {} {why}: an image of {} bytes with SHA-256 {hex} is needed; --layer or --image-dir name it",
        name.display(),
        note.len
    )
}
