//! Writing a journal: the recorder, and ports that note what the host's ports answer.

use alloc::vec::Vec;
use core::cell::RefCell;

use serde::Serialize;

use super::ports::{Blocks, Calls, Seen};
use super::stream::{Sink, Writer};
use super::wire::Inputs;
use super::{Header, kind, output_digest, tag};
use crate::Kernel;
use crate::abi::Errno;
use crate::boot::BootError;
use crate::event::{Input, Now, Output};
use crate::machine::{FrameNo, ImageId, ThreadId};
use crate::port::{
    Block, HostTree, Images, Memory, NodeAttr, NodeEntry, NodeId, Ports, WordOffset, Xstate,
};

/// Writes the journal of a run.
///
/// A host calls [`boot`](Self::boot) instead of [`Kernel::boot`] and [`handle`](Self::handle) instead of
/// [`Kernel::handle`], shows every output that it drains to [`output`](Self::output), and says when it has
/// drained them all ([`drained`](Self::drained)).
#[derive(Clone, Debug)]
pub struct Recorder<S> {
    tape: RefCell<Tape<S>>,
    inputs: Inputs,
    /// Number of the input being handled; the boot is 0.
    number: u64,
    digest_every: u64,
}

/// What the ports write to.
#[derive(Clone, Debug)]
struct Tape<S> {
    writer: Writer<S>,
    calls: Calls,
    /// Images below this number are files that a replay has, too.
    images: u32,
    /// Reads of them during this input.
    image_reads: u64,
    seen: Seen,
}

impl<S: Sink> Tape<S> {
    /// Notes an answer.
    fn answer(&mut self, tag: u8, value: &impl Serialize) {
        self.writer.byte(tag);
        self.writer.value(value);
    }
}

impl<S: Sink> Recorder<S> {
    /// Boots a kernel and begins its journal. Where the kernel cannot start the journal says so and is
    /// complete.
    pub fn boot(
        sink: S,
        header: &Header,
        ports: &mut Ports<'_>,
    ) -> (Recorder<S>, Result<Kernel, BootError>) {
        let mut writer = Writer::new(sink);
        writer.value(header);
        let mut recorder = Recorder {
            tape: RefCell::new(Tape {
                writer,
                calls: Calls::default(),
                images: u32::try_from(header.images.len()).unwrap_or(u32::MAX),
                image_reads: 0,
                seen: Seen::new(header.config.strace.is_some()),
            }),
            inputs: Inputs::new(header.booted),
            number: 0,
            digest_every: u64::from(header.digest_every.max(1)),
        };
        let config = header.config.clone();
        let result = recorder.with(ports, |ports| Kernel::boot(config, ports, header.booted));
        if let Err(error) = &result {
            let tape = recorder.tape.get_mut();
            tape.writer.byte(tag::REFUSED);
            tape.writer.value(&alloc::format!("{error:?}"));
        }
        (recorder, result)
    }

    /// Hands an input to the kernel.
    pub fn handle(&mut self, kernel: &mut Kernel, ports: &mut Ports<'_>, now: Now, input: Input) {
        self.number += 1;
        let tape = self.tape.get_mut();
        self.inputs.put(&mut tape.writer, now, &input);
        self.with(ports, |ports| kernel.handle(ports, now, input));
    }

    /// Writes user memory through [`Kernel::poke`], which is an input of a kind.
    ///
    /// # Errors
    /// As there.
    pub fn poke(
        &mut self,
        kernel: &mut Kernel,
        ports: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        self.number += 1;
        let writer = &mut self.tape.get_mut().writer;
        writer.byte(tag::POKE);
        writer.value(&thread);
        writer.value(&addr);
        writer.bytes(data);
        self.with(ports, |ports| kernel.poke(ports, thread, addr, data))
    }

    /// Reads user memory through [`Kernel::peek`], which can make pages present.
    ///
    /// # Errors
    /// As there.
    pub fn peek(
        &mut self,
        kernel: &mut Kernel,
        ports: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), Errno> {
        self.number += 1;
        let writer = &mut self.tape.get_mut().writer;
        writer.byte(tag::PEEK);
        writer.value(&thread);
        writer.value(&addr);
        writer.value(&u32::try_from(buf.len()).unwrap_or(u32::MAX));
        self.with(ports, |ports| kernel.peek(ports, thread, addr, buf))
    }

    /// Sees an output that was drained.
    pub fn output(&mut self, output: &Output) {
        if let Output::Strace { .. } = output {
            return;
        }
        let writer = &mut self.tape.get_mut().writer;
        writer.byte(tag::OUTPUT);
        writer.byte(kind(output).0);
        writer.raw(&output_digest(output).to_le_bytes());
    }

    /// All outputs of the boot or the input have been drained.
    pub fn drained(&mut self, kernel: &Kernel) {
        let due = self.number.is_multiple_of(self.digest_every);
        let tape = self.tape.get_mut();
        let calls = tape.calls.take();
        tape.writer.byte(tag::MARK);
        tape.writer.raw(&calls.to_le_bytes());
        tape.writer.value(&due);
        if due {
            tape.writer.raw(&kernel.digest().to_le_bytes());
        }
    }

    /// Ends the journal of a run that is over.
    pub fn finish(self, kernel: &Kernel) -> S {
        let mut writer = self.tape.into_inner().writer;
        writer.byte(tag::END);
        writer.raw(&kernel.digest().to_le_bytes());
        writer.finish()
    }

    /// Gives the sink back where the kernel could not start.
    pub fn into_sink(self) -> S {
        self.tape.into_inner().writer.finish()
    }

    /// The sink.
    pub fn sink(&mut self) -> &mut S {
        self.tape.get_mut().writer.sink()
    }

    /// Calls into the kernel with ports that note what they answer.
    fn with<T>(&mut self, ports: &mut Ports<'_>, call: impl FnOnce(&mut Ports<'_>) -> T) -> T {
        let tape = &self.tape;
        {
            let mut tape = tape.borrow_mut();
            tape.image_reads = 0;
            tape.seen.clear();
        }
        let images: &dyn Images = ports.images;
        let mut memory = RecordedMemory {
            inner: &mut *ports.memory,
            tape,
        };
        let mut tree = RecordedTree {
            inner: &mut *ports.tree,
            images,
            tape,
        };
        let mut xstate = RecordedXstate {
            inner: &mut *ports.xstate,
            tape,
        };
        let images = RecordedImages {
            inner: images,
            tape,
            blocks: Blocks::new(),
        };
        call(&mut Ports {
            memory: &mut memory,
            images: &images,
            tree: &mut tree,
            xstate: &mut xstate,
        })
    }
}

struct RecordedMemory<'a, S> {
    inner: &'a mut dyn Memory,
    tape: &'a RefCell<Tape<S>>,
}

impl<S: Sink> Memory for RecordedMemory<'_, S> {
    fn frames(&self) -> u32 {
        self.inner.frames()
    }

    fn read(&self, offset: u64, buf: &mut [u8]) {
        self.inner.read(offset, buf);
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::READ, &[offset]);
        tape.writer.byte(tag::READ);
        tape.writer.bytes(buf);
        tape.seen.read(offset, buf);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call_with(tag::WRITE, &[offset], data);
        tape.seen.wrote(offset, data);
        self.inner.write(offset, data);
    }

    fn zero(&mut self, offset: u64, len: u64) {
        let calls = &mut self.tape.borrow_mut().calls;
        calls.call(tag::ZERO, &[offset, len]);
        self.inner.zero(offset, len);
    }

    fn copy(&mut self, to: u64, from: u64, len: u64) {
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::COPY, &[to, from, len]);
        tape.seen.copied(to, from, len);
        self.inner.copy(to, from, len);
    }

    fn discard(&mut self, first: FrameNo, count: u32) {
        let calls = &mut self.tape.borrow_mut().calls;
        calls.call(tag::DISCARD, &[first.0.into(), count.into()]);
        self.inner.discard(first, count);
    }

    fn load_u32(&self, at: WordOffset) -> u32 {
        let value = self.inner.load_u32(at);
        let mut tape = self.tape.borrow_mut();
        tape.calls.call(tag::LOAD, &[at.get()]);
        tape.answer(tag::LOAD, &value);
        value
    }

    fn compare_exchange_u32(&mut self, at: WordOffset, old: u32, new: u32) -> u32 {
        let found = self.inner.compare_exchange_u32(at, old, new);
        let mut tape = self.tape.borrow_mut();
        let args = [at.get(), old.into(), new.into()];
        tape.calls.call(tag::EXCHANGE, &args);
        tape.answer(tag::EXCHANGE, &found);
        found
    }

    fn flushed(&self) -> u64 {
        let batch = self.inner.flushed();
        let mut tape = self.tape.borrow_mut();
        tape.calls.call(tag::FLUSHED, &[]);
        tape.answer(tag::FLUSHED, &batch);
        batch
    }

    fn glance(&self, offset: u64, buf: &mut [u8], written: bool) -> bool {
        // What the kernel did not look at (a call failed before) can still be shown now; a replay cannot.
        self.tape.borrow().seen.glance(offset, buf, written)
            || self.inner.glance(offset, buf, written)
    }
}

struct RecordedImages<'a, S> {
    inner: &'a dyn Images,
    tape: &'a RefCell<Tape<S>>,
    blocks: Blocks<RecordedBlock<'a, S>>,
}

impl<S: Sink> Images for RecordedImages<'_, S> {
    fn image(&self, id: ImageId) -> Option<&dyn Block> {
        let make = || {
            Some(RecordedBlock {
                inner: self.inner.image(id)?,
                id,
                tape: self.tape,
                given: id.0 < self.tape.borrow().images,
            })
        };
        let block = self.blocks.get(id, make)?;
        Some(block)
    }
}

struct RecordedBlock<'a, S> {
    inner: &'a dyn Block,
    id: ImageId,
    tape: &'a RefCell<Tape<S>>,
    /// A replay has this file; otherwise its bytes are recorded as they are read.
    given: bool,
}

impl<S: Sink> Block for RecordedBlock<'_, S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let result = self.inner.read_at(offset, buf);
        let tape = &mut *self.tape.borrow_mut();
        if self.given {
            tape.image_reads += 1;
            if let Err(errno) = result {
                let count = tape.image_reads;
                tape.answer(tag::IMAGE_FAILED, &count);
                tape.writer.value(&errno);
            }
            return result;
        }
        let args = [self.id.0.into(), offset];
        tape.calls.call(tag::FILE_READ, &args);
        tape.answer(tag::FILE_READ, &result);
        if result.is_ok() {
            tape.writer.bytes(buf);
            tape.seen.read_file(self.id, offset, buf);
        }
        result
    }

    fn glance(&self, offset: u64, buf: &mut [u8]) -> bool {
        match self.given {
            true => self.inner.read_at(offset, buf).is_ok(),
            false => {
                self.tape.borrow().seen.glance_file(self.id, offset, buf)
                    || self.inner.glance(offset, buf)
            }
        }
    }

    fn slice(&self) -> Option<&[u8]> {
        match self.given {
            true => self.inner.slice(),
            false => None,
        }
    }

    fn is_mappable(&self) -> bool {
        self.inner.is_mappable()
    }
}

struct RecordedTree<'a, S> {
    inner: &'a mut dyn HostTree,
    images: &'a dyn Images,
    tape: &'a RefCell<Tape<S>>,
}

impl<S: Sink> RecordedTree<'_, S> {
    fn note<T: Serialize>(
        &mut self,
        tag: u8,
        number: u64,
        name: &[u8],
        result: Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut tape = self.tape.borrow_mut();
        tape.calls.call_with(tag, &[number], name);
        tape.answer(tag, &result);
        result
    }
}

impl<S: Sink> HostTree for RecordedTree<'_, S> {
    fn root(&mut self, tree: u32) -> Result<NodeId, Errno> {
        let result = self.inner.root(tree);
        self.note(tag::ROOT, tree.into(), b"", result)
    }

    fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        let result = self.inner.lookup(dir, name);
        self.note(tag::LOOKUP, dir.0, name, result)
    }

    fn attr(&mut self, node: NodeId) -> Result<NodeAttr, Errno> {
        let result = self.inner.attr(node);
        self.note(tag::ATTR, node.0, b"", result)
    }

    fn read_dir(&mut self, dir: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        let result = self.inner.read_dir(dir);
        self.note(tag::READ_DIR, dir.0, b"", result)
    }

    fn read_link(&mut self, node: NodeId) -> Result<Vec<u8>, Errno> {
        let result = self.inner.read_link(node);
        self.note(tag::READ_LINK, node.0, b"", result)
    }

    fn open(&mut self, node: NodeId) -> Result<ImageId, Errno> {
        let result = self.inner.open(node);
        let opened = self.note(tag::OPEN, node.0, b"", result)?;
        // What the file is like is part of the answer.
        let block = self.images.image(opened);
        let (len, mappable) = block.map_or((0, false), |block| (block.len(), block.is_mappable()));
        let writer = &mut self.tape.borrow_mut().writer;
        writer.value(&len);
        writer.value(&mappable);
        Ok(opened)
    }

    fn list_xattr(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        let result = self.inner.list_xattr(node);
        self.note(tag::LIST_XATTR, node.0, b"", result)
    }

    fn get_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let result = self.inner.get_xattr(node, name);
        self.note(tag::GET_XATTR, node.0, name, result)
    }
}

struct RecordedXstate<'a, S> {
    inner: &'a mut dyn Xstate,
    tape: &'a RefCell<Tape<S>>,
}

impl<S: Sink> Xstate for RecordedXstate<'_, S> {
    fn size(&self) -> usize {
        self.inner.size()
    }

    fn read(&mut self, thread: ThreadId, buf: &mut [u8]) {
        self.inner.read(thread, buf);
        let tape = &mut *self.tape.borrow_mut();
        tape.calls.call(tag::XSTATE_READ, &[thread.0.into()]);
        tape.writer.byte(tag::XSTATE_READ);
        tape.writer.bytes(buf);
    }

    fn write(&mut self, thread: ThreadId, buf: &[u8]) -> Result<(), Errno> {
        let result = self.inner.write(thread, buf);
        let mut tape = self.tape.borrow_mut();
        tape.calls
            .call_with(tag::XSTATE_WRITE, &[thread.0.into()], buf);
        tape.answer(tag::XSTATE_WRITE, &result);
        result
    }

    fn reset(&mut self, thread: ThreadId) {
        let calls = &mut self.tape.borrow_mut().calls;
        calls.call(tag::XSTATE_RESET, &[thread.0.into()]);
        self.inner.reset(thread);
    }
}
