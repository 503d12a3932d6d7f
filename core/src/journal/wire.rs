//! How values are written: as `serde` derives it, in the encoding of `postcard`, straight into and out of
//! chunks; and inputs as differences to earlier ones.
//!
//! A log is not trusted: nothing is allocated by a length in it. Texts and bytes take memory as they come,
//! and no list gets room ahead. What a type cannot say of its values is checked where they are read.

use alloc::vec::Vec;

use postcard::{de_flavors, ser_flavors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stream::{LogError, Reader, Sink, Source, Writer};
use super::{Header, tag};
use crate::abi::{PAGE_SIZE, TASK_SIZE};
use crate::boot::{Init, MAX_LAYERS};
use crate::event::{Input, Now};
use crate::machine::{Regs, ThreadId, Trap};

/// Most bytes of one value.
const BYTES_MAX: usize = 1 << 30;
/// Most processors.
const CPUS_MAX: u32 = 1 << 16;
/// Sizes of floating-point state: FXSAVE, and far more than any processor has.
const XSTATE_SIZES: core::ops::RangeInclusive<u32> = 512..=1 << 18;
/// Numbers of signals.
const SIGNALS: core::ops::RangeInclusive<u8> = 1..=64;
/// Threads whose last registers are remembered at a time.
const SLOTS: usize = 64;
const REGS: usize = size_of::<Regs>() / 8;

impl<S: Sink> Writer<S> {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.raw(&[byte]);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.value(&bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn value(&mut self, value: &(impl Serialize + ?Sized)) {
        let written = postcard::serialize_with_flavor(value, IntoLog(self));
        written.expect("INVARIANT: a writer takes everything, and all lists say how long they are");
    }
}

/// Where `postcard` puts bytes.
struct IntoLog<'a, S>(&'a mut Writer<S>);

impl<S: Sink> ser_flavors::Flavor for IntoLog<'_, S> {
    type Output = ();

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.raw(bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.byte(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl<R: Source> Reader<R> {
    /// Bytes: memory is taken as they come.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, LogError> {
        let len = self.value()?;
        let mut bytes = Vec::new();
        self.append(len, &mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, mut len: usize, to: &mut Vec<u8>) -> Result<(), LogError> {
        if len > BYTES_MAX {
            return Err(self.wrong("a length beyond all bounds"));
        }
        while len > 0 {
            let part = self.part(len)?;
            to.extend_from_slice(part);
            len -= part.len();
        }
        Ok(())
    }

    pub(crate) fn value<T: DeserializeOwned>(&mut self) -> Result<T, LogError> {
        let mut from = postcard::Deserializer::from_flavor(FromLog {
            reader: &mut *self,
            bytes: Vec::new(),
            failed: None,
        });
        let result = T::deserialize(&mut from);
        // The log's own error says more than what became of it.
        match (result, from.finalize()) {
            (_, Ok(Some(error))) => Err(error),
            (Ok(value), _) => Ok(value),
            (Err(error), _) => Err(self.wrong(said(&error))),
        }
    }
}

/// What an error of `postcard` says of the log.
fn said(error: &postcard::Error) -> &'static str {
    match error {
        postcard::Error::DeserializeBadVarint => "a number of too many bits",
        postcard::Error::DeserializeBadBool => "neither yes nor no",
        postcard::Error::DeserializeBadOption => "neither there nor missing",
        postcard::Error::DeserializeBadUtf8 => "a text that is not UTF-8",
        postcard::Error::SerdeDeCustom => "an unknown kind of value, or a number out of bounds",
        _ => "a value that cannot be",
    }
}

/// Where `postcard` gets bytes.
struct FromLog<'a, R> {
    reader: &'a mut Reader<R>,
    /// A text or bytes, as far as they have been read.
    bytes: Vec<u8>,
    /// Why the log could not be read.
    failed: Option<LogError>,
}

impl<R> FromLog<'_, R> {
    fn fail<T>(&mut self, error: LogError) -> postcard::Result<T> {
        self.failed = Some(error);
        Err(postcard::Error::DeserializeUnexpectedEnd)
    }
}

impl<'de, 'a: 'de, R: Source + 'de> de_flavors::Flavor<'de> for FromLog<'a, R> {
    /// What was wrong with the log.
    type Remainder = Option<LogError>;
    type Source = ();

    fn pop(&mut self) -> postcard::Result<u8> {
        match self.reader.byte() {
            Ok(byte) => Ok(byte),
            Err(error) => self.fail(error),
        }
    }

    /// Nobody knows how much is left: with this, no list gets room for what it claims to hold.
    fn size_hint(&self) -> Option<usize> {
        Some(0)
    }

    /// Nothing can be borrowed: chunks come and go.
    fn try_take_n(&mut self, _: usize) -> postcard::Result<&'de [u8]> {
        Err(postcard::Error::WontImplement)
    }

    fn try_take_n_temp<'b>(&'b mut self, len: usize) -> postcard::Result<&'b [u8]>
    where
        'de: 'b,
    {
        self.bytes.clear();
        match self.reader.append(len, &mut self.bytes) {
            Ok(()) => Ok(&self.bytes),
            Err(error) => self.fail(error),
        }
    }

    fn finalize(self) -> postcard::Result<Option<LogError>> {
        Ok(self.failed)
    }
}

impl Header {
    /// Reads a header; what a kernel could not start from is refused here.
    pub(crate) fn read<R: Source>(from: &mut Reader<R>) -> Result<Header, LogError> {
        let header: Header = from.value()?;
        let config = &header.config;
        if !(1..=CPUS_MAX).contains(&config.cpus) {
            return Err(from.wrong("a number of processors"));
        }
        if !XSTATE_SIZES.contains(&header.xstate_size) {
            return Err(from.wrong("a size of floating-point state"));
        }
        let trees = config.mounts.iter().map(|mount| &mount.tree);
        for tree in trees.chain([&config.root]) {
            if tree.layers.len() > MAX_LAYERS {
                return Err(from.wrong("a number of layers"));
            }
        }
        if let Init::Bare { addr, len } = config.init {
            let whole = addr % PAGE_SIZE == 0 && len % PAGE_SIZE == 0 && len > 0;
            let end = addr.checked_add(len);
            if !whole || end.is_none_or(|end| end > TASK_SIZE) {
                return Err(from.wrong("memory of the first task"));
            }
        }
        if header.digest_every == 0 {
            return Err(from.wrong("a number of inputs between digests"));
        }
        Ok(header)
    }
}

/// Writes or reads inputs as differences to earlier ones. Both sides keep the same state.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    last: Now,
    /// Registers that threads trapped with last, by their numbers modulo [`SLOTS`].
    regs: [[u64; REGS]; SLOTS],
}

impl Inputs {
    pub(crate) fn new(booted: Now) -> Inputs {
        Inputs {
            last: booted,
            regs: [[0; REGS]; SLOTS],
        }
    }

    /// What a thread trapped with last, or another one with which it shares the place.
    fn slot(&mut self, thread: ThreadId) -> &mut [u64; REGS] {
        let slot = thread.0 as usize % SLOTS;
        self.regs.get_mut(slot).expect("there are SLOTS") // INVARIANT: a remainder is less
    }

    fn put_now<S: Sink>(&mut self, to: &mut Writer<S>, now: Now) {
        let (mono, last) = (now.mono, self.last);
        to.value(&mono.wrapping_sub(last.mono).cast_signed());
        // The difference between the clocks changes little.
        let ahead = |now: Now| now.real.wrapping_sub(now.mono);
        to.value(&ahead(now).wrapping_sub(ahead(last)).cast_signed());
        to.value(&now.spent);
        self.last = now;
    }

    fn get_now<R: Source>(&mut self, from: &mut Reader<R>) -> Result<Now, LogError> {
        let last = self.last;
        let mono = last.mono.wrapping_add(from.value::<i64>()?.cast_unsigned());
        let ahead = last.real.wrapping_sub(last.mono);
        let real = ahead
            .wrapping_add(from.value::<i64>()?.cast_unsigned())
            .wrapping_add(mono);
        let spent = from.value()?;
        self.last = Now { mono, real, spent };
        Ok(self.last)
    }

    pub(crate) fn put<S: Sink>(&mut self, to: &mut Writer<S>, now: Now, input: &Input) {
        to.byte(match input {
            Input::Trap { .. } => tag::TRAP,
            Input::Completed { .. } => tag::COMPLETED,
            Input::Tick => tag::TICK,
            Input::Signal { .. } => tag::SIGNAL,
            Input::Resize { .. } => tag::RESIZE,
            Input::Clock(_) => tag::CLOCK,
        });
        self.put_now(to, now);
        match input {
            Input::Trap { thread, regs, trap } => {
                to.value(&(thread, trap));
                let words: [u64; REGS] = zerocopy::transmute!(*regs);
                let old = self.slot(*thread);
                let mut changed = 0;
                for (bit, (new, old)) in words.iter().zip(&*old).enumerate() {
                    changed |= u64::from(new != old) << bit;
                }
                to.value(&changed);
                for (new, old) in words.iter().zip(&*old).filter(|(new, old)| new != old) {
                    to.value(&new.wrapping_sub(*old).cast_signed());
                }
                *old = words;
            }
            Input::Completed { op, result } => {
                to.value(&(op, result));
            }
            Input::Tick => {}
            Input::Signal { signal } => to.byte(*signal),
            Input::Clock(clock) => to.value(clock),
            Input::Resize { rows, cols } => to.value(&(rows, cols)),
        }
    }

    /// Reads the input of a tag that was read.
    pub(crate) fn get<R: Source>(
        &mut self,
        from: &mut Reader<R>,
        tag: u8,
    ) -> Result<(Now, Input), LogError> {
        let now = self.get_now(from)?;
        let input = match tag {
            tag::TRAP => {
                let (thread, trap): (ThreadId, Trap) = from.value()?;
                if let Trap::Exception(exception) = trap
                    && !SIGNALS.contains(&exception.signal)
                {
                    return Err(from.wrong("a signal number"));
                }
                let changed: u64 = from.value()?;
                if changed >> REGS != 0 {
                    return Err(from.wrong("a set of registers"));
                }
                let words = self.slot(thread);
                for (bit, word) in words.iter_mut().enumerate() {
                    if changed >> bit & 1 == 1 {
                        *word = word.wrapping_add(from.value::<i64>()?.cast_unsigned());
                    }
                }
                let regs: Regs = zerocopy::transmute!(*words);
                Input::Trap { thread, regs, trap }
            }
            tag::COMPLETED => {
                let (op, result) = from.value()?;
                Input::Completed { op, result }
            }
            tag::TICK => Input::Tick,
            tag::SIGNAL => match from.byte()? {
                signal if SIGNALS.contains(&signal) => Input::Signal { signal },
                _ => return Err(from.wrong("a signal number")),
            },
            tag::CLOCK => Input::Clock(from.value()?),
            tag::RESIZE => {
                let (rows, cols) = from.value()?;
                Input::Resize { rows, cols }
            }
            _ => return Err(from.wrong("an unknown input")),
        };
        Ok((now, input))
    }
}
