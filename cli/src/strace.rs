//! `--strace`: its options, which are those of strace(1), and what is printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use regex_lite::Regex;
use varve_core::boot::Strace;
use varve_core::syscall::{CLASSES, CallSet, TABLE};
use varve_host::TraceLine;

use crate::files;
use crate::text::{say, shown};

/// What `--strace=OPTIONS` takes.
pub(crate) const OPTIONS: &str = "-c -C -e EXPR -f -o FILE -q -r -s N -S KEY -t -T -v -y -z -Z";

/// How times are shown before a line.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Stamp {
    #[default]
    None,
    /// The time of day, in seconds.
    Seconds,
    /// The same with microseconds.
    Microseconds,
    /// Seconds since 1970.
    Epoch,
    /// Since the line before.
    Since,
}

/// The order of a summary.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Order {
    #[default]
    Time,
    Calls,
    Errors,
    Name,
}

/// Options of strace(1) that are taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct StraceOptions {
    pub strace: Strace,
    stamp: Stamp,
    /// How long each call took.
    times: bool,
    summary: bool,
    order: Order,
    /// Only calls that succeeded, or that failed.
    only: Option<bool>,
    output: Option<PathBuf>,
}

impl StraceOptions {
    /// Reads options as they stand behind `--strace=`; a set of calls may stand alone.
    ///
    /// # Errors
    /// The option that is not understood, and what there is.
    pub(crate) fn parse(text: &str) -> Result<StraceOptions> {
        let mut options = StraceOptions::default();
        let mut traced = CallSet::all();
        let mut words = text.split_whitespace();
        let mut lines = true;
        while let Some(word) = words.next() {
            let Some(flags) = word.strip_prefix('-') else {
                traced = set(word)?;
                continue;
            };
            let mut flags = flags.chars();
            let mut stamps = 0;
            while let Some(flag) = flags.next() {
                if matches!(flag, 'e' | 'o' | 's' | 'S' | 'a') {
                    let rest = flags.as_str();
                    let value = match rest {
                        "" => words.next(),
                        rest => Some(rest),
                    };
                    let value = value
                        .ok_or_else(|| anyhow!("--strace: -{flag} needs a value behind it"))?;
                    match flag {
                        'e' => options.expression(value, &mut traced)?,
                        'o' => options.output = Some(value.into()),
                        's' => {
                            let number = value.parse();
                            options.strace.string_max = number.map_err(|_| {
                                anyhow!("--strace: -s {}: not a number", shown(value))
                            })?;
                        }
                        'S' => options.order = order(value)?,
                        // Results stand at column 40.
                        _ => {}
                    }
                    break;
                }
                match flag {
                    'c' => (options.summary, lines) = (true, false),
                    'C' => options.summary = true,
                    // All threads of all processes are traced, and shown by number.
                    'f' => {}
                    'q' => options.strace.exits = false,
                    'r' => options.stamp = Stamp::Since,
                    't' => stamps += 1,
                    'T' => options.times = true,
                    'v' => options.strace.full = true,
                    'y' => options.strace.paths = true,
                    'z' => options.only = Some(true),
                    'Z' => options.only = Some(false),
                    other => bail!(
                        "--strace: there is no option -{}; those of strace(1) that are there: {OPTIONS}",
                        shown(&other.to_string())
                    ),
                }
            }
            match stamps {
                0 => {}
                1 => options.stamp = Stamp::Seconds,
                2 => options.stamp = Stamp::Microseconds,
                _ => options.stamp = Stamp::Epoch,
            }
        }
        options.strace.calls = traced;
        options.strace.lines = lines;
        Ok(options)
    }

    fn expression(&mut self, text: &str, traced: &mut CallSet) -> Result<()> {
        match text.split_once('=') {
            Some(("trace" | "t", list)) => *traced = set(list)?,
            Some(("signal" | "signals" | "s", "none" | "!all")) => self.strace.signals = false,
            Some(("signal" | "signals" | "s", "all")) => self.strace.signals = true,
            Some(("status", "successful")) => self.only = Some(true),
            Some(("status", "failed")) => self.only = Some(false),
            Some(("abbrev", "none") | ("verbose", "all")) => self.strace.full = true,
            Some(("decode-fds" | "decode-fd", _)) => self.strace.paths = true,
            Some(("quiet" | "q", _)) => self.strace.exits = false,
            Some((what, _)) => bail!(
                "--strace: -e {}=: only trace=, signal=, status=, abbrev=, quiet= and decode-fds= are there",
                shown(what)
            ),
            None => *traced = set(text)?,
        }
        Ok(())
    }

    /// What takes lines. Without a file they go to `other`, by default to standard error.
    ///
    /// # Errors
    /// The file of `-o` cannot be made.
    pub(crate) fn printer(self, other: Option<File>) -> Result<Printer> {
        let (file, own) = match &self.output {
            Some(path) => (Some(files::private(path)?), true),
            None => (other, false),
        };
        Ok(Printer {
            options: self,
            file,
            own,
            failed: false,
            last: None,
            counts: BTreeMap::new(),
        })
    }
}

/// A set of calls; `/REGEX` in it is those with a name that the expression fits.
fn set(text: &str) -> Result<CallSet> {
    CallSet::parse(&with_names(text)?).map_err(|part| {
        anyhow!(
            "--strace: {}: neither a system call (`varve syscalls` lists them) nor one of {CLASSES}, all, none",
            shown(&part)
        )
    })
}

/// Puts the names of calls in the place of regular expressions.
fn with_names(text: &str) -> Result<String> {
    let (mark, list) = match text.strip_prefix('!') {
        Some(list) => ("!", list),
        None => ("", text),
    };
    let mut parts = Vec::new();
    for part in list.split(',') {
        let (optional, plain) = match part.strip_prefix('?') {
            Some(plain) => (true, plain),
            None => (false, part),
        };
        let Some(pattern) = plain.strip_prefix('/') else {
            parts.push(part);
            continue;
        };
        let pattern =
            Regex::new(pattern).map_err(|error| anyhow!("--strace: {}: {error}", shown(plain)))?;
        let before = parts.len();
        let names = TABLE.iter().map(|entry| entry.name);
        parts.extend(names.filter(|name| pattern.is_match(name)));
        if parts.len() == before && !optional {
            bail!(
                "--strace: {}: fits the name of no system call",
                shown(plain)
            );
        }
    }
    Ok(match parts.is_empty() {
        true => format!("{mark}none"),
        false => format!("{mark}{}", parts.join(",")),
    })
}

fn order(text: &str) -> Result<Order> {
    Ok(match text {
        "time" | "time-total" | "total-time" => Order::Time,
        "calls" | "count" => Order::Calls,
        "errors" | "error" => Order::Errors,
        "name" | "syscall" => Order::Name,
        other => bail!("--strace: -S {}: time, calls, errors or name", shown(other)),
    })
}

/// How often a call was made.
#[derive(Clone, Copy, Default)]
struct Count {
    calls: u64,
    errors: u64,
    nanos: u64,
}

/// Prints lines, and at its end the summary.
pub(crate) struct Printer {
    options: StraceOptions,
    file: Option<File>,
    /// The file is for these lines alone.
    own: bool,
    /// A line could not be written to it.
    failed: bool,
    /// When the line before was.
    last: Option<u64>,
    counts: BTreeMap<u64, Count>,
}

impl Printer {
    /// Takes a line.
    pub(crate) fn line(&mut self, line: &TraceLine<'_>) {
        if let Some(call) = line.call {
            let failed = call.errno.is_some();
            if self.options.only == Some(failed) {
                return;
            }
            if self.options.summary {
                let count = self.counts.entry(call.number).or_default();
                count.calls += 1;
                count.errors += u64::from(failed);
                count.nanos = count.nanos.saturating_add(line.spent);
            }
        }
        if self.options.strace.lines {
            let text = self.text(line);
            self.write(text.as_bytes());
        }
    }

    fn text(&mut self, line: &TraceLine<'_>) -> String {
        let mut text = match self.own {
            true => format!("{:<5} ", line.tid),
            false => format!("[pid {:>5}] ", line.tid),
        };
        let at = line.at;
        let (seconds, micros) = (at / 1_000_000_000, at % 1_000_000_000 / 1000);
        let day = seconds % 86_400;
        let clock = format!("{:02}:{:02}:{:02}", day / 3600, day / 60 % 60, day % 60);
        let _ = match self.options.stamp {
            Stamp::None => Ok(()),
            Stamp::Seconds => write!(text, "{clock} "),
            Stamp::Microseconds => write!(text, "{clock}.{micros:06} "),
            Stamp::Epoch => write!(text, "{seconds}.{micros:06} "),
            Stamp::Since => {
                let since = at.saturating_sub(self.last.unwrap_or(at)) / 1000;
                write!(text, "{:>6}.{:06} ", since / 1_000_000, since % 1_000_000)
            }
        };
        self.last = Some(at);
        let _ = write!(text, "{}", shown(line.text));
        if self.options.times && line.call.is_some() {
            let micros = line.spent / 1000;
            let _ = write!(text, " <{}.{:06}>", micros / 1_000_000, micros % 1_000_000);
        }
        text.push('\n');
        text
    }

    /// One write for a line. A file that takes no more is told of once, on standard error; if that takes no
    /// more, nobody is left to be told.
    fn write(&mut self, bytes: &[u8]) {
        let _ = match &mut self.file {
            Some(file) => match file.write_all(bytes) {
                Err(error) if !self.failed => {
                    self.failed = true;
                    say(format_args!(
                        "lines of strace are missing: cannot write them: {error}"
                    ));
                    Ok(())
                }
                _ => Ok(()),
            },
            None => io::stderr().write_all(bytes),
        };
    }

    /// The table that `strace -c` prints.
    fn summary(&self) -> String {
        let mut rows: Vec<(&str, Count)> = self
            .counts
            .iter()
            .map(|(number, count)| {
                let entry = TABLE.iter().find(|entry| entry.number == *number);
                (entry.map_or("unknown", |entry| entry.name), *count)
            })
            .collect();
        rows.sort_by(|(name, a), (other, b)| {
            let by = match self.options.order {
                Order::Time => b.nanos.cmp(&a.nanos),
                Order::Calls => b.calls.cmp(&a.calls),
                Order::Errors => b.errors.cmp(&a.errors),
                Order::Name => std::cmp::Ordering::Equal,
            };
            by.then(name.cmp(other))
        });
        let mut total = Count::default();
        for (_, count) in &rows {
            total.calls += count.calls;
            total.errors += count.errors;
            total.nanos = total.nanos.saturating_add(count.nanos);
        }
        let mut text = String::from(
            "% time     seconds  usecs/call     calls    errors syscall\n\
             ------ ----------- ----------- --------- --------- ----------------\n",
        );
        let mut row = |name: &str, count: Count| {
            let share = match total.nanos {
                0 => 0.0,
                all => 100.0 * count.nanos as f64 / all as f64,
            };
            let errors = match count.errors {
                0 => String::new(),
                errors => errors.to_string(),
            };
            let each = count.nanos / 1000 / count.calls.max(1);
            let _ = writeln!(
                text,
                "{share:6.2} {:11.6} {each:11} {:9} {errors:>9} {name}",
                count.nanos as f64 / 1e9,
                count.calls
            );
        };
        for (name, count) in rows {
            row(name, count);
        }
        row("total", total);
        let at = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
        text.insert_str(
            at,
            "------ ----------- ----------- --------- --------- ----------------\n",
        );
        text
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        if self.options.summary {
            let text = self.summary();
            self.write(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use varve_core::event::{Now, TracedCall};

    use super::*;

    fn parsed(text: &str) -> StraceOptions {
        StraceOptions::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn options_are_those_of_strace() {
        let options = parsed("");
        assert_eq!(options.strace, Strace::default());
        let options = parsed("-ttT -s100 -y -v -e trace=%file -e signal=none");
        assert_eq!(options.stamp, Stamp::Microseconds);
        assert!(options.times && options.strace.paths && options.strace.full);
        assert_eq!(options.strace.string_max, 100);
        assert!(options.strace.calls.contains(257) && !options.strace.calls.contains(0));
        assert!(!options.strace.signals && options.strace.exits && options.strace.lines);
        let options = parsed("-f -qq -c -S calls");
        assert!(options.summary && !options.strace.lines && !options.strace.exits);
        assert_eq!(options.order, Order::Calls);
        for alone in [
            "openat,read",
            "-e openat,read",
            "-eopenat,read",
            "-e t=openat,read",
        ] {
            let calls = parsed(alone).strace.calls;
            assert!(
                calls.contains(0) && calls.contains(257) && !calls.contains(1),
                "{alone}"
            );
        }
        assert!(!parsed("!read").strace.calls.contains(0));
        // A regular expression, in part or between ends.
        for (text, wanted, not) in [
            ("/^(open|close)", [2, 3], 0),
            ("-e trace=/^open(at)?$", [2, 257], 437),
            ("-e trace=/epoll_c,read", [0, 213], 232),
            ("!/^read$,/^write$", [2, 257], 0),
        ] {
            let calls = parsed(text).strace.calls;
            assert!(wanted.iter().all(|&call| calls.contains(call)), "{text}");
            assert!(!calls.contains(not), "{text}");
        }
        assert!(!parsed("?/^nothing").strace.calls.contains(0));
        assert!(parsed("!?/^nothing").strace.calls.contains(0));
        for wrong in [
            "-x",
            "-s",
            "-s x",
            "-e opneat",
            "-e kvm=vcpu",
            "-S size",
            "nothing",
            "/nothing",
            "/(open",
        ] {
            assert!(StraceOptions::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn printed(options: &str, lines: &[(u64, Option<u16>, u64, &str)]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut printer = parsed(options)
            .printer(Some(file.reopen().unwrap()))
            .unwrap();
        for (index, &(number, errno, spent, text)) in lines.iter().enumerate() {
            let entered = Now::default();
            printer.line(&TraceLine {
                tid: 7,
                call: Some(TracedCall {
                    number,
                    entered,
                    errno,
                }),
                spent,
                at: 1_700_000_000_000_001_000 + index as u64 * 2_000_000,
                text,
            });
        }
        drop(printer);
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn lines_have_the_times_that_were_asked_for() {
        let lines = [
            (3, None, 1_234_567, "close(3) = 0"),
            (3, Some(9), 500, "close(4) = -1"),
        ];
        assert_eq!(
            printed("", &lines),
            "[pid     7] close(3) = 0\n[pid     7] close(4) = -1\n"
        );
        assert_eq!(
            printed("-T -z", &lines),
            "[pid     7] close(3) = 0 <0.001234>\n"
        );
        assert_eq!(
            printed("-tt -Z", &lines),
            "[pid     7] 22:13:20.002001 close(4) = -1\n"
        );
        assert_eq!(
            printed("-ttt -z", &lines),
            "[pid     7] 1700000000.000001 close(3) = 0\n"
        );
        let since = printed("-r", &lines);
        assert!(
            since.contains("]      0.000000 close(3)")
                && since.contains("]      0.002000 close(4)"),
            "{since}"
        );
    }

    #[test]
    fn a_summary_counts_calls_and_errors() {
        let lines = [
            (3, None, 3_000_000, ""),
            (3, Some(9), 1_000_000, ""),
            (39, None, 0, ""),
        ];
        let text = printed("-c", &lines);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[2],
            ["100.00", "0.004000", "2000", "2", "1", "close"],
            "{text}"
        );
        assert_eq!(rows[3], ["0.00", "0.000000", "0", "1", "getpid"], "{text}");
        assert_eq!(
            rows[5],
            ["100.00", "0.004000", "1333", "3", "1", "total"],
            "{text}"
        );
    }
}
