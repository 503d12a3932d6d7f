//! `varve syscalls`.

use std::io::Write;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::json;
use varve_core::syscall::{Entry, Support, TABLE};

use crate::{output, text};

/// How much of a system call is there.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// All that Linux does.
    Full,
    /// Less than that.
    Partial,
    /// Nothing, on purpose.
    Refused,
    /// Nothing yet.
    Missing,
}

#[derive(clap::Args)]
#[command(
    after_help = "Every system call of Linux 7.0 on x86-64 is listed. `full`: all that Linux does, as far as a sandbox can show it; `partial`: the text \
        says what is missing; `refused`: on purpose, with what it answers and why; `missing`: not there yet."
)]
pub(crate) struct Arguments {
    /// Only these calls.
    #[arg(value_name = "NAME|NUMBER")]
    names: Vec<String>,
    /// Only calls that are there so far.
    #[arg(long, value_enum, value_name = "HOW-FAR")]
    only: Option<Level>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn syscalls(arguments: &Arguments) -> Result<u8> {
    for name in &arguments.names {
        if !TABLE.iter().any(|entry| is_named(entry, name)) {
            bail!(
                "{}: Linux has no system call of this name or number",
                text::shown(name)
            );
        }
    }
    let wanted: Vec<&Entry> = TABLE
        .iter()
        .filter(|entry| {
            let named = arguments.names.is_empty()
                || arguments.names.iter().any(|name| is_named(entry, name));
            named && arguments.only.is_none_or(|only| level(entry).0 == only)
        })
        .collect();
    match arguments.json {
        true => output::print(|out| {
            let list: Vec<_> = wanted.iter().map(|entry| json(entry)).collect();
            writeln!(out, "{}", text::json_pretty(&list.into()))
        }),
        false => output::print(|out| {
            for entry in &wanted {
                print(out, entry)?;
            }
            if arguments.names.is_empty() && arguments.only.is_none() {
                writeln!(out, "\n{}", summary())?;
            }
            Ok(())
        }),
    }?;
    Ok(0)
}

fn is_named(entry: &Entry, name: &str) -> bool {
    entry.name == name || name.parse() == Ok(entry.number)
}

fn level(entry: &Entry) -> (Level, &'static str, &'static str) {
    match entry.support {
        Support::Full => (Level::Full, "full", ""),
        Support::Partial(what) => (Level::Partial, "partial", what),
        Support::Refused(why) => (Level::Refused, "refused", why),
        Support::Missing(what) => (Level::Missing, "missing", what),
    }
}

fn summary() -> String {
    let count = |wanted| {
        let entries = TABLE.iter().filter(|entry| level(entry).0 == wanted);
        entries.count()
    };
    format!(
        "{} system calls: {} full, {} partial, {} refused on purpose, {} missing",
        TABLE.len(),
        count(Level::Full),
        count(Level::Partial),
        count(Level::Refused),
        count(Level::Missing)
    )
}

fn print(out: &mut dyn Write, entry: &Entry) -> std::io::Result<()> {
    let (_, level, what) = level(entry);
    let params: Vec<&str> = entry.params.iter().map(|param| param.name).collect();
    let call = format!("{}({})", entry.name, params.join(", "));
    let line = format!("{:>4} {call:<64} {level:<8} {what}", entry.number);
    writeln!(out, "{}", line.trim_end())
}

fn json(entry: &Entry) -> serde_json::Value {
    let (_, level, what) = level(entry);
    let params: Vec<_> = entry
        .params
        .iter()
        .map(|param| json!({ "name": param.name, "kind": format!("{:?}", param.kind) }))
        .collect();
    json!({
        "number": entry.number,
        "name": entry.name,
        "params": params,
        "support": level,
        "missing": what,
    })
}
