//! Bytes of a program's memory, as far as the call looked at them, and strings in it.

use alloc::string::String;
use alloc::vec::Vec;

use super::line::{pointer, quote};
use super::show::{EndedCall, LIST_MAX, Way};
use super::values::number;
use crate::abi::PAGE_SIZE;
use crate::fs::filesystem::Source;
use crate::mm::tape::Found;

/// Longest path.
const PATH_MAX: usize = 4096;

impl EndedCall<'_, '_, '_> {
    /// Some bytes from an address on: at least one, at most `max`.
    pub(super) fn chunk(&mut self, addr: u64, max: u64, way: Way) -> Option<Vec<u8>> {
        let tape = self.tape;
        let mut max = max;
        let found = match way {
            Way::In => tape.find(addr, false),
            Way::Out => tape.find(addr, true).or_else(|| {
                max = tape.unwritten(addr, max);
                tape.find(addr, false)
            }),
        };
        match found {
            Some(Found::Bytes(bytes)) => {
                Some(bytes[..bytes.len().min(usize::try_from(max).unwrap_or(usize::MAX))].to_vec())
            }
            Some(Found::At(source, len)) => self.source(source, len.min(max), way),
            None => {
                // What the call did not look at may be there all the same.
                let task = self.cx.k.tasks.get(self.cx.thread)?;
                let space =
                    Some(task.space).filter(|&space| !task.exited && space == tape.space)?;
                let within = addr % PAGE_SIZE;
                let page = self.cx.k.mm.space(space).pages.get(addr / PAGE_SIZE);
                let source = Source::Memory(page.frame()?.offset() + within);
                self.source(source, max.min(PAGE_SIZE - within), way)
            }
        }
    }

    pub(super) fn source(&mut self, source: Source, len: u64, way: Way) -> Option<Vec<u8>> {
        let mut buf = alloc::vec![0; len.min(PAGE_SIZE) as usize];
        let there = crate::mm::tape::glance(self.cx.p, source, &mut buf, way == Way::Out);
        there.then_some(buf).filter(|buf| !buf.is_empty())
    }

    /// All bytes of a range.
    pub(super) fn bytes(&mut self, addr: u64, len: u64, way: Way) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let done = bytes.len() as u64;
            let part = self.chunk(addr.checked_add(done)?, len - done, way)?;
            bytes.extend_from_slice(&part);
        }
        Some(bytes)
    }

    /// A NUL-terminated string in quotes.
    pub(super) fn string(&mut self, addr: u64, max: usize) -> String {
        if addr == 0 {
            return "NULL".into();
        }
        let mut bytes = Vec::new();
        while bytes.len() < PATH_MAX {
            let at = addr.wrapping_add(bytes.len() as u64);
            let left = (PATH_MAX - bytes.len()) as u64;
            let Some(part) = self.chunk(at, left, Way::In) else {
                return pointer(addr);
            };
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                bytes.extend_from_slice(&part[..end]);
                return quote(&bytes, max);
            }
            bytes.extend_from_slice(&part);
        }
        quote(&bytes, max.min(PATH_MAX - 1))
    }

    pub(super) fn bytes_text(&mut self, addr: u64, len: u64, way: Way) -> String {
        if addr == 0 {
            return "NULL".into();
        }
        let max = u64::from(self.style.string_max);
        match self.bytes(addr, len.min(max), way) {
            Some(bytes) => {
                let mut text = quote(&bytes, usize::MAX);
                if len > max {
                    text.push_str("...");
                }
                text
            }
            None => pointer(addr),
        }
    }

    pub(super) fn word(&mut self, addr: u64) -> Option<u64> {
        Some(number(&self.bytes(addr, 8, Way::In)?, 0, 8))
    }

    pub(super) fn strings(&mut self, addr: u64) -> String {
        if addr == 0 {
            return "NULL".into();
        }
        let max = self.style.string_max as usize;
        let mut text = String::from("[");
        for index in 0..LIST_MAX {
            let Some(at) = self.word(addr.wrapping_add(index * 8)) else {
                return pointer(addr);
            };
            if at == 0 {
                text.push(']');
                return text;
            }
            if index > 0 {
                text.push_str(", ");
            }
            text.push_str(&self.string(at, max));
        }
        text.push_str(", ...]");
        text
    }
}
