//! Reading a journal: a kernel runs on what is in it, and what it does is compared.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use serde::de::DeserializeOwned;

use super::ports::{Blocks, Calls, Seen};
use super::stream::{LogError, Reader, Source};
use super::wire::Inputs;
use super::{Header, ImageNote, kind, kind_name, output_digest, tag};
use crate::Kernel;
use crate::abi::Errno;
use crate::boot::{BootError, Strace};
use crate::event::{ExitStatus, Input, Now, Output};
use crate::machine::{FrameNo, ImageId, ThreadId};
use crate::port::{
    Block, HostTree, Images, Memory, NodeAttr, NodeEntry, NodeId, Ports, WordOffset, Xstate,
};

/// Most characters of an output that a message shows.
const SHOWN_MAX: usize = 400;
/// Most bytes that one look at user memory can be.
const PEEK_MAX: u32 = 16 << 20;

/// A run that is made again from its journal.
///
/// [`next`](Self::next) does one step: the boot first, then input after input. The kernel runs on the
/// in-memory side of every port: memory, host trees and floating-point state answer out of the journal, image
/// files are given by the caller.
pub struct Replay<R> {
    header: Header,
    tape: RefCell<Tape<R>>,
    inputs: Inputs,
    kernel: Option<Kernel>,
    /// Number of the input that was handled last; the boot is 0.
    number: u64,
    booted: bool,
    outputs: Vec<Output>,
    exit: Option<ExitStatus>,
    /// The end was reached.
    ended: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a value of it lives for one step, and a box each would be an allocation for every input"
)]
pub enum Step {
    /// The kernel booted.
    Boot,
    /// The kernel could not start, as it could not then.
    Refused(BootError),
    /// An input was handled.
    Input(Now, Input),
    /// User memory was written through [`Kernel::poke`].
    Poke,
    /// User memory was read through [`Kernel::peek`].
    Peek,
}

/// The first thing that was not as it is in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Number of the input; the boot is 0.
    pub input: u64,
    /// Where in the file the journal stands.
    pub offset: u64,
    /// What was different.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.input {
            0 => write!(f, "different at the boot: {}", self.what),
            input => write!(f, "different at input {input}: {}", self.what),
        }
    }
}

/// Why a replay stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The journal is damaged or was cut off.
    Log(LogError),
    /// The run went another way.
    Different(Difference),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Log(error) => error.fmt(f),
            ReplayError::Different(difference) => difference.fmt(f),
        }
    }
}

impl core::error::Error for ReplayError {}

impl From<LogError> for ReplayError {
    fn from(error: LogError) -> ReplayError {
        ReplayError::Log(error)
    }
}

/// What the ports answer from.
struct Tape<R> {
    reader: Reader<R>,
    calls: Calls,
    /// Why a port could not answer; from then on all give empty answers.
    failed: Option<Failure>,
    image_reads: u64,
    /// A failed read of an image that stands next: which read of this input, and its error.
    image_failure: Option<(u64, Errno)>,
    /// Files of host trees: length, and whether guests could map them.
    opened: BTreeMap<ImageId, (u64, bool)>,
    seen: Seen,
}

enum Failure {
    Log(LogError),
    Different(String),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        Failure::Log(error)
    }
}

impl<R: Source> Tape<R> {
    /// Takes the answer of a call out of the journal; `None` if there is none.
    fn answer<T>(
        &mut self,
        tag: u8,
        get: impl FnOnce(&mut Reader<R>) -> Result<T, Failure>,
    ) -> Option<T> {
        if self.failed.is_some() {
            return None;
        }
        match self.expect(tag).and_then(|()| get(&mut self.reader)) {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failed = Some(failure);
                None
            }
        }
    }

    fn expect(&mut self, tag: u8) -> Result<(), Failure> {
        if self.image_failure.is_some() {
            let what = format!(
                "the kernel asks for {}, where a read of an image failed",
                tag::name(tag)
            );
            return Err(Failure::Different(what));
        }
        match self.reader.peek()? {
            found if found == tag => {
                self.reader.byte()?;
                Ok(())
            }
            found => Err(Failure::Different(format!(
                "the kernel asks for {}, the log has {}",
                tag::name(tag),
                tag::name(found)
            ))),
        }
    }

    fn value<T: DeserializeOwned>(&mut self, tag: u8) -> Option<T> {
        self.answer(tag, |reader| Ok(reader.value()?))
    }

    /// Bytes of a length that the kernel knows; zeros if there are none.
    fn bytes(&mut self, tag: u8, buf: &mut [u8]) {
        if self
            .answer(tag, |reader| exactly(reader, tag, buf))
            .is_none()
        {
            buf.fill(0);
        }
    }

    /// What a read of an image file gives that is not its bytes.
    fn image_read(&mut self) -> Result<(), Errno> {
        self.image_reads += 1;
        if self.failed.is_some() {
            return Err(Errno::EIO);
        }
        if self.image_failure.is_none() {
            match self.next_image_failure() {
                Ok(failure) => self.image_failure = failure,
                Err(error) => {
                    self.failed = Some(error.into());
                    return Err(Errno::EIO);
                }
            }
        }
        match self.image_failure {
            Some((at, errno)) if at == self.image_reads => {
                self.image_failure = None;
                Err(errno)
            }
            _ => Ok(()),
        }
    }

    fn next_image_failure(&mut self) -> Result<Option<(u64, Errno)>, LogError> {
        if self.reader.peek()? != tag::IMAGE_FAILED {
            return Ok(None);
        }
        self.reader.byte()?;
        Ok(Some((self.reader.value()?, self.reader.value()?)))
    }
}

/// Reads bytes that must be as many as there is room for.
fn exactly<R: Source>(reader: &mut Reader<R>, tag: u8, buf: &mut [u8]) -> Result<(), Failure> {
    let len: u64 = reader.value()?;
    if len != buf.len() as u64 {
        return Err(Failure::Different(format!(
            "{} of {} bytes, the log has {len}",
            tag::name(tag),
            buf.len()
        )));
    }
    reader.raw(buf)?;
    Ok(())
}

impl<R: Source> Replay<R> {
    /// Opens a journal and reads what the run started from.
    ///
    /// # Errors
    /// It is none, or it is damaged.
    pub fn open(source: R) -> Result<Replay<R>, LogError> {
        let mut reader = Reader::new(source)?;
        let header = Header::read(&mut reader)?;
        Ok(Replay {
            inputs: Inputs::new(header.booted),
            header,
            tape: RefCell::new(Tape {
                reader,
                calls: Calls::default(),
                failed: None,
                image_reads: 0,
                image_failure: None,
                opened: BTreeMap::new(),
                seen: Seen::default(),
            }),
            kernel: None,
            number: 0,
            booted: false,
            outputs: Vec::new(),
            exit: None,
            ended: false,
        })
    }

    /// Traces the run, from its boot on, whether it was traced then or not.
    pub fn trace(&mut self, strace: Strace) {
        self.header.config.strace = Some(strace);
        self.tape.get_mut().seen.on = true;
    }

    /// What the run started from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The outputs of the last step.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// How the first process ended, if it has.
    pub fn exit(&self) -> Option<ExitStatus> {
        self.exit
    }

    /// The kernel, once it has booted.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    /// Does one step on the given image files, which are those of [`Header::images`] by number. `None`: the
    /// run is over and all was equal.
    ///
    /// # Errors
    /// The journal is damaged, or the run went another way. Nothing more can be done then.
    pub fn next(&mut self, images: &dyn Images) -> Result<Option<Step>, ReplayError> {
        if self.ended {
            return Ok(None);
        }
        self.outputs.clear();
        if !self.booted {
            self.booted = true;
            return self.boot(images).map(Some);
        }
        let Some(mut kernel) = self.kernel.take() else {
            self.ended = true;
            return Ok(None);
        };
        let reader = &mut self.tape.get_mut().reader;
        let step = match reader.byte()? {
            tag::END => {
                let mut digest = [0; 8];
                reader.raw(&mut digest)?;
                reader.finish()?;
                self.compare_state(&kernel, digest)?;
                self.ended = true;
                self.kernel = Some(kernel);
                return Ok(None);
            }
            tag::POKE => {
                self.number += 1;
                let (thread, addr): (ThreadId, u64) = (reader.value()?, reader.value()?);
                let data = reader.bytes()?;
                // What it gave is in what it did.
                let _ = self.with(images, |ports| kernel.poke(ports, thread, addr, &data));
                Step::Poke
            }
            tag::PEEK => {
                self.number += 1;
                let (thread, addr): (ThreadId, u64) = (reader.value()?, reader.value()?);
                let len: u32 = reader.value()?;
                if len > PEEK_MAX {
                    return Err(reader.wrong("a length of memory to look at").into());
                }
                let mut buf = vec![0; len as usize];
                let _ = self.with(images, |ports| kernel.peek(ports, thread, addr, &mut buf));
                Step::Peek
            }
            found => {
                self.number += 1;
                let (now, input) = self.inputs.get(reader, found)?;
                let handed = input.clone();
                self.with(images, |ports| kernel.handle(ports, now, handed));
                Step::Input(now, input)
            }
        };
        self.compare(&mut kernel)?;
        self.kernel = Some(kernel);
        Ok(Some(step))
    }

    fn boot(&mut self, images: &dyn Images) -> Result<Step, ReplayError> {
        let (config, booted) = (self.header.config.clone(), self.header.booted);
        let result = self.with(images, |ports| Kernel::boot(config, ports, booted));
        self.check_answers()?;
        let reader = &mut self.tape.get_mut().reader;
        let refused = match reader.peek()? {
            tag::REFUSED => {
                reader.byte()?;
                let text: String = reader.value()?;
                reader.finish()?;
                Some(text)
            }
            _ => None,
        };
        match (result, refused) {
            (Ok(mut kernel), None) => {
                self.compare(&mut kernel)?;
                self.kernel = Some(kernel);
                Ok(Step::Boot)
            }
            (Err(error), Some(text)) if format!("{error:?}") == text => Ok(Step::Refused(error)),
            (Ok(_), Some(text)) => Err(self.different(format!("the boot failed then: {text}"))),
            (Err(error), Some(text)) => {
                Err(self.different(format!("the boot failed then: {text}; now: {error:?}")))
            }
            (Err(error), None) => Err(self.different(format!("the boot fails: {error:?}"))),
        }
    }

    /// An error at this point of the run.
    fn different(&self, what: String) -> ReplayError {
        ReplayError::Different(Difference {
            input: self.number,
            offset: self.tape.borrow().reader.offset(),
            what,
        })
    }

    /// Whether all ports could answer.
    fn check_answers(&mut self) -> Result<(), ReplayError> {
        let tape = self.tape.get_mut();
        match tape.failed.take() {
            Some(Failure::Log(error)) => Err(error.into()),
            Some(Failure::Different(what)) => Err(self.different(what)),
            None if tape.image_failure.take().is_some() => {
                Err(self.different("a read of an image failed that the kernel did not make".into()))
            }
            None => Ok(()),
        }
    }

    /// Drains the outputs and compares them and the digests.
    fn compare(&mut self, kernel: &mut Kernel) -> Result<(), ReplayError> {
        self.check_answers()?;
        while let Some(output) = kernel.poll_output() {
            if let Output::Exit(status) = output {
                self.exit = Some(status);
            }
            self.outputs.push(output);
        }
        let mut number = 0;
        while let Some(output) = self.outputs.get(number) {
            number += 1;
            if let Output::Strace { .. } = output {
                continue;
            }
            let reader = &mut self.tape.get_mut().reader;
            let found = reader.byte()?;
            if found != tag::OUTPUT {
                let what = format!(
                    "output {} is {}, the log has {}",
                    number,
                    shown(output),
                    tag::name(found)
                );
                return Err(self.different(what));
            }
            let recorded = reader.byte()?;
            let mut digest = [0; 4];
            reader.raw(&mut digest)?;
            let (kind, _) = kind(output);
            if kind != recorded {
                let what = format!(
                    "output {} is {}, the log has {}",
                    number,
                    shown(output),
                    kind_name(recorded)
                );
                return Err(self.different(what));
            }
            if output_digest(output) != u32::from_le_bytes(digest) {
                let what = format!(
                    "output {} is {}, the log has another {}",
                    number,
                    shown(output),
                    kind_name(recorded)
                );
                return Err(self.different(what));
            }
        }
        let tape = self.tape.get_mut();
        let found = tape.reader.byte()?;
        if found == tag::OUTPUT {
            let recorded = tape.reader.byte()?;
            let what = format!(
                "{} outputs, the log has a {} behind them",
                self.outputs
                    .iter()
                    .filter(|output| !matches!(output, Output::Strace { .. }))
                    .count(),
                kind_name(recorded)
            );
            return Err(self.different(what));
        }
        if found != tag::MARK {
            let what = format!(
                "the kernel is done with it, the log has {}",
                tag::name(found)
            );
            return Err(self.different(what));
        }
        let (mut calls, mut state) = ([0; 8], [0; 8]);
        tape.reader.raw(&mut calls)?;
        let due = tape.reader.value()?;
        if due {
            tape.reader.raw(&mut state)?;
        }
        let made = tape.calls.take();
        if made != u64::from_le_bytes(calls) {
            let what = format!(
                "the digest of the port calls is {made:016x}, in the log {:016x}",
                u64::from_le_bytes(calls)
            );
            return Err(self.different(what));
        }
        match due {
            true => self.compare_state(kernel, state),
            false => Ok(()),
        }
    }

    fn compare_state(&self, kernel: &Kernel, recorded: [u8; 8]) -> Result<(), ReplayError> {
        let recorded = u64::from_le_bytes(recorded);
        match kernel.digest() {
            digest if digest == recorded => Ok(()),
            digest => Err(self.different(format!(
                "the digest of the state is {digest:016x}, in the log {recorded:016x}"
            ))),
        }
    }

    /// Calls into the kernel with ports that answer out of the journal.
    fn with<T>(&self, images: &dyn Images, call: impl FnOnce(&mut Ports<'_>) -> T) -> T {
        let tape = &self.tape;
        {
            let mut tape = tape.borrow_mut();
            tape.image_reads = 0;
            tape.seen.clear();
        }
        let size = self.header.xstate_size as usize;
        call(&mut Ports {
            memory: &mut PlayedMemory {
                frames: self.header.frames,
                tape,
            },
            images: &PlayedImages {
                files: images,
                notes: &self.header.images,
                tape,
                blocks: Blocks::new(),
            },
            tree: &mut PlayedTree { tape },
            xstate: &mut PlayedXstate { size, tape },
        })
    }
}

/// An output as a message shows it.
fn shown(output: &Output) -> String {
    let mut text = format!("{output:?}");
    if let Some((end, _)) = text.char_indices().nth(SHOWN_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

struct PlayedMemory<'a, R> {
    frames: u32,
    tape: &'a RefCell<Tape<R>>,
}

impl<R: Source> Memory for PlayedMemory<'_, R> {
    fn frames(&self) -> u32 {
        self.frames
    }

    fn read(&self, offset: u64, buf: &mut [u8]) {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::READ, &[offset]);
        tape.bytes(tag::READ, buf);
        tape.seen.read(offset, buf);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call_with(tag::WRITE, &[offset], data);
        tape.seen.wrote(offset, data);
    }

    fn zero(&mut self, offset: u64, len: u64) {
        let calls = &mut self.tape.borrow_mut().calls;
        calls.call(tag::ZERO, &[offset, len]);
    }

    fn copy(&mut self, to: u64, from: u64, len: u64) {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::COPY, &[to, from, len]);
        tape.seen.copied(to, from, len);
    }

    fn discard(&mut self, first: FrameNo, count: u32) {
        let calls = &mut self.tape.borrow_mut().calls;
        calls.call(tag::DISCARD, &[first.0.into(), count.into()]);
    }

    fn load_u32(&self, at: WordOffset) -> u32 {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::LOAD, &[at.get()]);
        tape.value(tag::LOAD).unwrap_or(0)
    }

    fn compare_exchange_u32(&mut self, at: WordOffset, old: u32, new: u32) -> u32 {
        let tape = &mut *self.tape.borrow_mut();
        let args = [at.get(), old.into(), new.into()];
        tape.calls.call(tag::EXCHANGE, &args);
        // Who tries until it works comes to an end without an answer, too.
        tape.value(tag::EXCHANGE).unwrap_or(old)
    }

    fn flushed(&self) -> u64 {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::FLUSHED, &[]);
        tape.value(tag::FLUSHED).unwrap_or(0)
    }

    fn glance(&self, offset: u64, buf: &mut [u8], written: bool) -> bool {
        self.tape.borrow().seen.glance(offset, buf, written)
    }
}

struct PlayedImages<'a, R> {
    files: &'a dyn Images,
    notes: &'a [ImageNote],
    tape: &'a RefCell<Tape<R>>,
    blocks: Blocks<PlayedBlock<'a, R>>,
}

impl<R: Source> Images for PlayedImages<'_, R> {
    fn image(&self, id: ImageId) -> Option<&dyn Block> {
        let make = || {
            let (file, len, mapped, mappable) = match self.notes.get(id.0 as usize) {
                Some(note) => (
                    Some(self.files.image(id)?),
                    note.len,
                    note.mapped,
                    note.mappable,
                ),
                None => {
                    let (len, mappable) = *self.tape.borrow().opened.get(&id)?;
                    (None, len, false, mappable)
                }
            };
            Some(PlayedBlock {
                id,
                file,
                len,
                mapped,
                mappable,
                tape: self.tape,
            })
        };
        let block = self.blocks.get(id, make)?;
        Some(block)
    }
}

struct PlayedBlock<'a, R> {
    id: ImageId,
    /// The file; bytes of files without are in the journal.
    file: Option<&'a dyn Block>,
    len: u64,
    mapped: bool,
    mappable: bool,
    tape: &'a RefCell<Tape<R>>,
}

impl<R: Source> Block for PlayedBlock<'_, R> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let tape = &mut *self.tape.borrow_mut();
        if let Some(file) = self.file {
            tape.image_read()?;
            return file.read_at(offset, buf).inspect_err(|errno| {
                let what = format!("a read of image {} fails: {errno}", self.id.0);
                tape.failed = Some(Failure::Different(what));
            });
        }
        let args = [self.id.0.into(), offset];
        tape.calls.call(tag::FILE_READ, &args);
        let result = tape.answer(tag::FILE_READ, |reader| {
            let result: Result<(), Errno> = reader.value()?;
            if result.is_ok() {
                exactly(reader, tag::FILE_READ, buf)?;
            }
            Ok(result)
        });
        let result = result.unwrap_or(Err(Errno::EIO));
        if result.is_ok() {
            tape.seen.read_file(self.id, offset, buf);
        }
        result
    }

    fn glance(&self, offset: u64, buf: &mut [u8]) -> bool {
        match self.file {
            Some(file) => file.read_at(offset, buf).is_ok(),
            None => self.tape.borrow().seen.glance_file(self.id, offset, buf),
        }
    }

    fn slice(&self) -> Option<&[u8]> {
        match self.mapped {
            true => self.file?.slice(),
            false => None,
        }
    }

    fn is_mappable(&self) -> bool {
        self.mappable
    }
}

struct PlayedTree<'a, R> {
    tape: &'a RefCell<Tape<R>>,
}

impl<R: Source> PlayedTree<'_, R> {
    fn ask<T: DeserializeOwned>(&mut self, tag: u8, number: u64, name: &[u8]) -> Result<T, Errno> {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call_with(tag, &[number], name);
        tape.value(tag).unwrap_or(Err(Errno::EIO))
    }
}

impl<R: Source> HostTree for PlayedTree<'_, R> {
    fn root(&mut self, tree: u32) -> Result<NodeId, Errno> {
        self.ask(tag::ROOT, tree.into(), b"")
    }

    fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        self.ask(tag::LOOKUP, dir.0, name)
    }

    fn attr(&mut self, node: NodeId) -> Result<NodeAttr, Errno> {
        self.ask(tag::ATTR, node.0, b"")
    }

    fn read_dir(&mut self, dir: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        self.ask(tag::READ_DIR, dir.0, b"")
    }

    fn read_link(&mut self, node: NodeId) -> Result<Vec<u8>, Errno> {
        self.ask(tag::READ_LINK, node.0, b"")
    }

    fn open(&mut self, node: NodeId) -> Result<ImageId, Errno> {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call_with(tag::OPEN, &[node.0], b"");
        let answer = tape.answer(tag::OPEN, |reader| {
            let result: Result<ImageId, Errno> = reader.value()?;
            let Ok(id) = result else {
                return Ok((result, None));
            };
            Ok((Ok(id), Some((id, (reader.value()?, reader.value()?)))))
        });
        let (result, opened) = answer.unwrap_or((Err(Errno::EIO), None));
        tape.opened.extend(opened);
        result
    }

    fn list_xattr(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        self.ask(tag::LIST_XATTR, node.0, b"")
    }

    fn get_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.ask(tag::GET_XATTR, node.0, name)
    }
}

struct PlayedXstate<'a, R> {
    size: usize,
    tape: &'a RefCell<Tape<R>>,
}

impl<R: Source> Xstate for PlayedXstate<'_, R> {
    fn size(&self) -> usize {
        self.size
    }

    fn read(&mut self, thread: ThreadId, buf: &mut [u8]) {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::XSTATE_READ, &[thread.0.into()]);
        tape.bytes(tag::XSTATE_READ, buf);
    }

    fn write(&mut self, thread: ThreadId, buf: &[u8]) -> Result<(), Errno> {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls
            .call_with(tag::XSTATE_WRITE, &[thread.0.into()], buf);
        tape.value(tag::XSTATE_WRITE).unwrap_or(Err(Errno::EIO))
    }

    fn reset(&mut self, thread: ThreadId) {
        let calls = &mut self.tape.borrow_mut().calls;
        calls.call(tag::XSTATE_RESET, &[thread.0.into()]);
    }
}
