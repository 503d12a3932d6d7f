//! System calls on files, on the in-memory host: the answers must be those that Linux gave to the same calls.
//!
//! The files under `scenarios/` hold one call a line with its result behind ` = `: a number, or the name of
//! an error. Arguments are numbers, constants joined by `|`, `"text"` (`"text"*9` repeats it), `{1,2}` (a
//! vector of 64-bit words, `{i:1,2}` of 32-bit words) and `buf+N` (one buffer for the whole scenario). `show`
//! looks into the buffer, `fill` writes to it, `== name` starts on an empty root.

use std::collections::BTreeMap;

use varve_core::boot::Stdio;
use varve_core::machine::ThreadId;
use varve_core::memhost::{self, BARE_ADDR, Machine, MemHost};
use varve_core::syscall::TABLE;

/// Where the buffer, and where strings and vectors of a call are put.
const BUF: u64 = BARE_ADDR;
const ARGS: u64 = BARE_ADDR + 0x2_0000;

struct Scenario {
    machine: Machine,
    thread: ThreadId,
    constants: BTreeMap<String, u64>,
    next_arg: u64,
}

impl Scenario {
    fn new(constants: &BTreeMap<String, u64>) -> Scenario {
        let mut config = memhost::bare(memhost::empty_root());
        config.capabilities = u64::MAX;
        let machine = Machine::boot(config, MemHost::new(4096, Vec::new())).expect("boots");
        let thread = machine.first();
        let mut scenario = Scenario {
            machine,
            thread,
            constants: constants.clone(),
            next_arg: ARGS,
        };
        // As the runner that asked Linux: signals of pipes and limits are ignored.
        for signal in [13, 25] {
            let args = [
                signal,
                scenario.put(&[1u64, 0, 0, 0].map(u64::to_le_bytes).concat()),
                0,
                8,
            ];
            assert_eq!(scenario.machine.call(thread, 13, &args), Some(0));
        }
        scenario
    }

    fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.next_arg;
        self.machine.poke(self.thread, at, bytes).expect("fits");
        self.next_arg = (at + bytes.len() as u64).next_multiple_of(16);
        at
    }

    fn number(&self, text: &str) -> u64 {
        text.split('|')
            .map(|part| self.constant(part.trim()))
            .fold(0, |a, b| a | b)
    }

    fn constant(&self, text: &str) -> u64 {
        if let Some(value) = self.constants.get(text) {
            return *value;
        }
        if let Some(rest) = text.strip_prefix('-') {
            return self.constant(rest).wrapping_neg();
        }
        let parsed = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8),
            None => text.parse(),
        };
        parsed.unwrap_or_else(|_| panic!("no number: {text}"))
    }

    fn buffer(text: &str) -> Option<u64> {
        let rest = text.trim().strip_prefix("buf")?;
        Some(
            BUF + rest
                .strip_prefix('+')
                .map_or(0, |n| n.parse().expect("offset")),
        )
    }

    fn argument(&mut self, text: &str) -> u64 {
        if text.starts_with('"') {
            let mut bytes = string(text);
            bytes.push(0);
            return self.put(&bytes);
        }
        if let Some(inner) = text.strip_prefix('{') {
            let inner = inner.trim_end_matches('}');
            let (inner, width) = match inner.strip_prefix("i:") {
                Some(inner) => (inner, 4),
                None => (inner, 8),
            };
            let mut bytes = Vec::new();
            for word in inner.split(',') {
                let value = Scenario::buffer(word).unwrap_or_else(|| self.number(word));
                bytes.extend_from_slice(&value.to_le_bytes()[..width]);
            }
            return self.put(&bytes);
        }
        Scenario::buffer(text).unwrap_or_else(|| self.number(text))
    }

    /// Runs one line without its result; gives what comes of it.
    fn line(&mut self, line: &str) -> String {
        self.next_arg = ARGS;
        let tokens = tokens(line);
        match tokens[0] {
            "show" => return self.show(&tokens),
            "fill" => {
                let bytes = string(tokens[1]);
                self.machine.poke(self.thread, BUF, &bytes).expect("fits");
                return String::new();
            }
            _ => {}
        }
        let entry = TABLE
            .iter()
            .find(|entry| entry.name == tokens[0])
            .unwrap_or_else(|| panic!("no call {}", tokens[0]));
        let args: Vec<u64> = tokens[1..]
            .iter()
            .map(|token| self.argument(token))
            .collect();
        let result = match self.machine.call(self.thread, entry.number, &args) {
            None => return "blocked".into(),
            Some(result) => result,
        };
        match result {
            -4095..=-1 => varve_core::abi::Errno::from_number(-result as i32)
                .name()
                .into(),
            result => result.to_string(),
        }
    }

    fn show(&mut self, tokens: &[&str]) -> String {
        let at = Scenario::buffer(tokens[1]).expect("buffer");
        let (kind, option) = (tokens[2], tokens.get(3));
        if kind == "s" {
            let len = option.expect("length").parse().expect("length");
            let bytes = self.machine.peek(self.thread, at, len).expect("peek");
            let text: String = bytes
                .iter()
                .map(|&byte| match byte {
                    b'"' | b'\\' => format!("\\x{byte:02x}"),
                    32..127 => (byte as char).to_string(),
                    _ => format!("\\x{byte:02x}"),
                })
                .collect();
            return format!("\"{text}\"");
        }
        let bits: usize = kind[1..].parse().expect("width");
        let bytes = self.machine.peek(self.thread, at, bits / 8).expect("peek");
        let value = bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        match option {
            Some(_) => format!("0{value:o}"),
            None => value.to_string(),
        }
    }
}

fn tokens(line: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let end = match rest.as_bytes()[0] {
            b'"' => {
                let close = rest[1..].find('"').expect("closing quote") + 2;
                close + rest[close..].find(' ').unwrap_or(rest.len() - close)
            }
            _ => rest.find(' ').unwrap_or(rest.len()),
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

fn string(token: &str) -> Vec<u8> {
    let close = token[1..].find('"').expect("closing quote") + 1;
    let text = &token.as_bytes()[1..close];
    match token[close + 1..].strip_prefix('*') {
        Some(times) => text.repeat(times.parse().expect("count")),
        None => text.to_vec(),
    }
}

/// Runs all scenarios of a file; all differences are shown at once.
fn run(text: &str) {
    let mut constants = BTreeMap::new();
    let mut scenario: Option<Scenario> = None;
    let mut title = "";
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let parsed = tokens(line);
        match parsed.first() {
            None | Some(&"#") => {}
            Some(&"let") => {
                let plain = Scenario::new(&BTreeMap::new());
                constants.insert(parsed[1].to_owned(), plain.number(parsed[2]));
            }
            Some(&"==") => {
                title = line;
                scenario = Some(Scenario::new(&constants));
            }
            Some(_) => {
                let scenario = scenario.as_mut().expect("a title comes first");
                let (call, expected) = line.split_once(" = ").unwrap_or((line, ""));
                let got = scenario.line(call);
                if got != expected {
                    wrong.push(format!(
                        "{} ({title}): {call} gave {got}, not {expected}",
                        index + 1
                    ));
                }
                scenario
                    .machine
                    .kernel
                    .check()
                    .unwrap_or_else(|what| panic!("{} ({title}): after {call}: {what}", index + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} lines differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn names() {
    run(include_str!("scenarios/names.txt"));
}

#[test]
fn data() {
    run(include_str!("scenarios/data.txt"));
}

#[test]
fn attributes() {
    run(include_str!("scenarios/attr.txt"));
}

#[test]
fn pipes_flags_and_notices() {
    run(include_str!("scenarios/pipes.txt"));
}

/// A terminal takes the requests that all files take, beside its own.
#[test]
fn a_terminal_answers_what_every_file_answers() {
    const IOCTL: u64 = 16;
    const FIGETBSZ: u64 = 2;
    const TIOCGWINSZ: u64 = 0x5413;
    const ENOTTY: i64 = -25;
    let mut config = memhost::bare(memhost::empty_root());
    config.stdio[0] = Stdio::Terminal { rows: 24, cols: 80 };
    let mut machine = Machine::boot(config, MemHost::new(4096, Vec::new())).expect("boots");
    let thread = machine.first();
    let mut ask = |request| {
        let answer = machine.call(thread, IOCTL, &[0, request, BUF]);
        (answer, machine.peek(thread, BUF, 4).expect("is mapped"))
    };
    assert_eq!(ask(FIGETBSZ), (Some(0), 4096u32.to_le_bytes().to_vec()));
    assert_eq!(ask(TIOCGWINSZ), (Some(0), vec![24, 0, 80, 0]));
    assert_eq!(ask(0x4321).0, Some(ENOTTY));
}
