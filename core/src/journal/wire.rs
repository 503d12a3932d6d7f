//! How values are written.

use alloc::string::String;
use alloc::vec::Vec;

use super::stream::{LogError, Reader, Sink, Source, Writer};
use super::{Header, ImageNote, tag};
use crate::abi::{Errno, PAGE_SIZE};
use crate::boot::{BootConfig, Init, Layer, MAX_LAYERS, MergedIndex, Mount, Stdio, Tree, User};
use crate::event::{ClockParameters, HostResult, Input, Now, OpId};
use crate::machine::{Access, Exception, ImageId, Regs, ThreadId, Trap};
use crate::port::{NodeAttr, NodeEntry, NodeId};

/// Most bytes of one value.
const BYTES_MAX: u64 = 1 << 30;
/// Most values in one list.
const LIST_MAX: u64 = 1 << 24;
/// Most processors.
const CPUS_MAX: u32 = 1 << 16;
/// Sizes of floating-point state: FXSAVE, and far more than any processor has.
const XSTATE_SIZES: core::ops::RangeInclusive<u32> = 512..=1 << 18;
/// Signals are 1 to this.
const SIGNAL_MAX: u8 = 64;
/// Threads whose last registers are remembered at a time.
const SLOTS: usize = 64;
const REGS: usize = size_of::<Regs>() / 8;

impl<S: Sink> Writer<S> {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.raw(&[byte]);
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        let mut buf = [0; 10];
        let mut len = 0;
        for byte in &mut buf {
            *byte = (number & 0x7f) as u8;
            number >>= 7;
            len += 1;
            if number == 0 {
                break;
            }
            *byte |= 0x80;
        }
        self.raw(buf.split_at(len).0);
    }

    pub(crate) fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63).cast_unsigned());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(crate) fn value(&mut self, value: &impl Wire) {
        value.put(self);
    }
}

impl<R: Source> Reader<R> {
    pub(crate) fn number(&mut self) -> Result<u64, LogError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.wrong("a number of more than 64 bits"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, LogError> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn length(&mut self, max: u64) -> Result<usize, LogError> {
        let len = self.number()?;
        let bounded = usize::try_from(len).ok().filter(|_| len <= max);
        bounded.ok_or_else(|| self.wrong("a length beyond all bounds"))
    }

    /// Bytes: memory is taken as they come.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, LogError> {
        let mut left = self.length(BYTES_MAX)?;
        let mut bytes = Vec::new();
        while left > 0 {
            let part = self.part(left)?;
            bytes.extend_from_slice(part);
            left -= part.len();
        }
        Ok(bytes)
    }

    pub(crate) fn value<T: Wire>(&mut self) -> Result<T, LogError> {
        T::get(self)
    }
}

/// A value that can stand in a journal.
pub(crate) trait Wire: Sized {
    fn put<S: Sink>(&self, to: &mut Writer<S>);
    fn get<R: Source>(from: &mut Reader<R>) -> Result<Self, LogError>;

    fn put_list<S: Sink>(list: &[Self], to: &mut Writer<S>) {
        to.number(list.len() as u64);
        for value in list {
            value.put(to);
        }
    }

    /// A list: memory is taken as its values come.
    fn get_list<R: Source>(from: &mut Reader<R>) -> Result<Vec<Self>, LogError> {
        let mut list = Vec::new();
        for _ in 0..from.length(LIST_MAX)? {
            list.push(Self::get(from)?);
        }
        Ok(list)
    }
}

impl Wire for u8 {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        to.byte(*self);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<u8, LogError> {
        from.byte()
    }

    fn put_list<S: Sink>(list: &[u8], to: &mut Writer<S>) {
        to.bytes(list);
    }

    fn get_list<R: Source>(from: &mut Reader<R>) -> Result<Vec<u8>, LogError> {
        from.bytes()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        T::put_list(self, to);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Vec<T>, LogError> {
        T::get_list(from)
    }
}

impl Wire for bool {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        to.byte(u8::from(*self));
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<bool, LogError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(from.wrong("neither yes nor no")),
        }
    }
}

impl Wire for u64 {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        to.number(*self);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<u64, LogError> {
        from.number()
    }
}

impl Wire for i64 {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        to.signed(*self);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<i64, LogError> {
        from.signed()
    }
}

/// Integers that are written as 64-bit ones.
macro_rules! narrow {
    ($($type:ty: $wide:ident $text:literal;)*) => {
        $(impl Wire for $type {
            fn put<S: Sink>(&self, to: &mut Writer<S>) {
                to.$wide((*self).into());
            }

            fn get<R: Source>(from: &mut Reader<R>) -> Result<$type, LogError> {
                let number = from.$wide()?;
                <$type>::try_from(number).map_err(|_| from.wrong($text))
            }
        })*
    };
}

narrow! {
    u16: number "a number of more than 16 bits";
    u32: number "a number of more than 32 bits";
    i32: signed "a number of more than 32 bits";
}

/// Structures field by field, in this order, but for one that is no part of a run.
macro_rules! structures {
    ($($type:ident { $($field:tt),* } $([without $left:ident])?)*) => {
        $(impl Wire for $type {
            fn put<S: Sink>(&self, to: &mut Writer<S>) {
                $(self.$field.put(to);)*
            }

            fn get<R: Source>(from: &mut Reader<R>) -> Result<$type, LogError> {
                Ok($type { $($field: Wire::get(from)?,)* $($left: Default::default())? })
            }
        })*
    };
}

structures! {
    ThreadId { 0 }
    ClockParameters { tsc, mult, shift, mono, real_offset }
    ImageId { 0 }
    OpId { 0 }
    NodeId { 0 }
    Now { mono, real, spent }
    Exception { signal, code, addr }
    NodeAttr { mode, uid, gid, nlink, size, rdev, dev, ino, mtime, acl }
    NodeEntry { name, kind }
    MergedIndex { image, digests }
    Tree { layers, read_only, upper_limit, index }
    Mount { target, source, tree, mode }
    ImageNote { name, len, sha256, mapped, mappable }
    BootConfig { root, mounts, init, env, cwd, user, capabilities, hostname, seed, cpus, stdio, cpuinfo, vdso, memory_limit, threads_max, lowest_address } [without strace]
    Header { varve, platform, config, booted, images, frames, xstate_size, digest_every }
}

impl Wire for (i64, u32) {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        self.0.put(to);
        self.1.put(to);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<(i64, u32), LogError> {
        Ok((from.value()?, from.value()?))
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        to.raw(self);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<[u8; N], LogError> {
        let mut bytes = [0; N];
        from.raw(&mut bytes)?;
        Ok(bytes)
    }
}

impl Wire for [Stdio; 3] {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        self.iter().for_each(|stdio| stdio.put(to));
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<[Stdio; 3], LogError> {
        Ok([from.value()?, from.value()?, from.value()?])
    }
}

impl Wire for String {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        to.bytes(self.as_bytes());
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<String, LogError> {
        let bytes = from.bytes()?;
        String::from_utf8(bytes).map_err(|_| from.wrong("a text that is not UTF-8"))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Option<T>, LogError> {
        match from.value()? {
            true => Ok(Some(from.value()?)),
            false => Ok(None),
        }
    }
}

impl Wire for Errno {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        self.number().put(to);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Errno, LogError> {
        match from.value::<u16>()? {
            number @ 1..=4095 => Ok(Errno::from_number(number.into())),
            _ => Err(from.wrong("an error number")),
        }
    }
}

/// 0 and the value, or the error number.
impl<T: Wire> Wire for Result<T, Errno> {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        match self {
            Ok(value) => {
                to.byte(0);
                value.put(to);
            }
            Err(errno) => errno.put(to),
        }
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Result<T, Errno>, LogError> {
        match from.peek()? {
            0 => {
                from.byte()?;
                Ok(Ok(from.value()?))
            }
            _ => Ok(Err(from.value()?)),
        }
    }
}

impl Wire for () {
    fn put<S: Sink>(&self, _to: &mut Writer<S>) {}

    fn get<R: Source>(_from: &mut Reader<R>) -> Result<(), LogError> {
        Ok(())
    }
}

impl Wire for Layer {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        let (kind, number) = match self {
            Layer::Image(ImageId(number)) => (0, number),
            Layer::Host(number) => (1, number),
        };
        to.byte(kind);
        number.put(to);
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Layer, LogError> {
        match from.byte()? {
            0 => Ok(Layer::Image(from.value()?)),
            1 => Ok(Layer::Host(from.value()?)),
            _ => Err(from.wrong("a kind of layer")),
        }
    }
}

impl Wire for Init {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        match self {
            Init::Exec { args } => {
                to.byte(0);
                args.put(to);
            }
            Init::Supervised { args } => {
                to.byte(2);
                args.put(to);
            }
            Init::Bare { addr, len } => {
                to.byte(1);
                addr.put(to);
                len.put(to);
            }
        }
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Init, LogError> {
        match from.byte()? {
            0 => Ok(Init::Exec {
                args: from.value()?,
            }),
            1 => {
                let (addr, len): (u64, u64) = (from.value()?, from.value()?);
                let whole = addr % PAGE_SIZE == 0 && len % PAGE_SIZE == 0 && len > 0;
                let inside = addr
                    .checked_add(len)
                    .is_some_and(|end| end <= crate::abi::TASK_SIZE);
                match whole && inside {
                    true => Ok(Init::Bare { addr, len }),
                    false => Err(from.wrong("memory of the first task")),
                }
            }
            2 => Ok(Init::Supervised {
                args: from.value()?,
            }),
            _ => Err(from.wrong("a kind of first program")),
        }
    }
}

impl Wire for User {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        match self {
            User::Ids { uid, gid, groups } => {
                to.byte(0);
                uid.put(to);
                gid.put(to);
                groups.put(to);
            }
            User::Name(name) => {
                to.byte(1);
                name.put(to);
            }
        }
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<User, LogError> {
        match from.byte()? {
            0 => Ok(User::Ids {
                uid: from.value()?,
                gid: from.value()?,
                groups: from.value()?,
            }),
            1 => Ok(User::Name(from.value()?)),
            _ => Err(from.wrong("a kind of user")),
        }
    }
}

impl Wire for Stdio {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        match self {
            Stdio::Stream => to.byte(0),
            Stdio::Terminal { rows, cols } => {
                to.byte(1);
                rows.put(to);
                cols.put(to);
            }
            Stdio::File => to.byte(2),
            Stdio::Null => to.byte(3),
        }
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Stdio, LogError> {
        match from.byte()? {
            0 => Ok(Stdio::Stream),
            1 => Ok(Stdio::Terminal {
                rows: from.value()?,
                cols: from.value()?,
            }),
            2 => Ok(Stdio::File),
            3 => Ok(Stdio::Null),
            _ => Err(from.wrong("a kind of standard stream")),
        }
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
        if header.digest_every == 0 {
            return Err(from.wrong("a number of inputs between digests"));
        }
        Ok(header)
    }
}

impl Wire for HostResult {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        match self {
            HostResult::Data(data) => {
                to.byte(0);
                data.put(to);
            }
            HostResult::Count(count) => {
                to.byte(1);
                count.put(to);
            }
            HostResult::Ready(events) => {
                to.byte(2);
                events.put(to);
            }
        }
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<HostResult, LogError> {
        match from.byte()? {
            0 => Ok(HostResult::Data(from.value()?)),
            1 => Ok(HostResult::Count(from.value()?)),
            2 => Ok(HostResult::Ready(from.value()?)),
            _ => Err(from.wrong("a kind of result")),
        }
    }
}

impl Wire for Trap {
    fn put<S: Sink>(&self, to: &mut Writer<S>) {
        match self {
            Trap::Syscall => to.byte(0),
            Trap::Fault { addr, access } => {
                to.byte(match access {
                    None => 1,
                    Some(Access::Read) => 2,
                    Some(Access::Write) => 3,
                    Some(Access::Execute) => 4,
                });
                addr.put(to);
            }
            Trap::Exception(exception) => {
                to.byte(5);
                exception.put(to);
            }
            Trap::Interrupted => to.byte(6),
            Trap::Lost => to.byte(7),
            Trap::Crowded => to.byte(8),
        }
    }

    fn get<R: Source>(from: &mut Reader<R>) -> Result<Trap, LogError> {
        let access = match from.byte()? {
            0 => return Ok(Trap::Syscall),
            1 => None,
            2 => Some(Access::Read),
            3 => Some(Access::Write),
            4 => Some(Access::Execute),
            5 => {
                let exception: Exception = from.value()?;
                return match exception.signal {
                    1..=SIGNAL_MAX => Ok(Trap::Exception(exception)),
                    _ => Err(from.wrong("a signal number")),
                };
            }
            6 => return Ok(Trap::Interrupted),
            7 => return Ok(Trap::Lost),
            8 => return Ok(Trap::Crowded),
            _ => return Err(from.wrong("a kind of trap")),
        };
        let addr = from.value()?;
        Ok(Trap::Fault { addr, access })
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
        to.signed(mono.wrapping_sub(last.mono).cast_signed());
        // The difference between the clocks changes little.
        let ahead = |now: Now| now.real.wrapping_sub(now.mono);
        to.signed(ahead(now).wrapping_sub(ahead(last)).cast_signed());
        to.number(now.spent);
        self.last = now;
    }

    fn get_now<R: Source>(&mut self, from: &mut Reader<R>) -> Result<Now, LogError> {
        let last = self.last;
        let mono = last.mono.wrapping_add(from.signed()?.cast_unsigned());
        let ahead = last.real.wrapping_sub(last.mono);
        let real = ahead
            .wrapping_add(from.signed()?.cast_unsigned())
            .wrapping_add(mono);
        let spent = from.number()?;
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
                thread.put(to);
                trap.put(to);
                let words: [u64; REGS] = zerocopy::transmute!(*regs);
                let old = self.slot(*thread);
                let mut changed = 0;
                for (bit, (new, old)) in words.iter().zip(&*old).enumerate() {
                    changed |= u64::from(new != old) << bit;
                }
                to.number(changed);
                for (new, old) in words.iter().zip(&*old).filter(|(new, old)| new != old) {
                    to.signed(new.wrapping_sub(*old).cast_signed());
                }
                *old = words;
            }
            Input::Completed { op, result } => {
                op.put(to);
                result.put(to);
            }
            Input::Tick => {}
            Input::Signal { signal } => signal.put(to),
            Input::Clock(clock) => clock.put(to),
            Input::Resize { rows, cols } => {
                rows.put(to);
                cols.put(to);
            }
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
                let thread: ThreadId = from.value()?;
                let trap = from.value()?;
                let changed = from.number()?;
                if changed >> REGS != 0 {
                    return Err(from.wrong("a set of registers"));
                }
                let words = self.slot(thread);
                for (bit, word) in words.iter_mut().enumerate() {
                    if changed >> bit & 1 == 1 {
                        *word = word.wrapping_add(from.signed()?.cast_unsigned());
                    }
                }
                let regs: Regs = zerocopy::transmute!(*words);
                Input::Trap { thread, regs, trap }
            }
            tag::COMPLETED => Input::Completed {
                op: from.value()?,
                result: from.value()?,
            },
            tag::TICK => Input::Tick,
            tag::SIGNAL => match from.byte()? {
                signal @ 1..=SIGNAL_MAX => Input::Signal { signal },
                _ => return Err(from.wrong("a signal number")),
            },
            tag::CLOCK => Input::Clock(from.value()?),
            tag::RESIZE => Input::Resize {
                rows: from.value()?,
                cols: from.value()?,
            },
            _ => return Err(from.wrong("an unknown input")),
        };
        Ok((now, input))
    }
}
