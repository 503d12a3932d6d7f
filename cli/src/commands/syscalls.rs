//! `varve syscalls`.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::json;
use varve_core::syscall::{Support, TABLE};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn syscalls(arguments: &Arguments) -> Result<u8> {
    let mut out = io::stdout().lock();
    let result = if arguments.json {
        print_json(&mut out)
    } else {
        print(&mut out)
    };
    match result {
        // Whoever read the list has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        result => result.map(|()| 0).map_err(Into::into),
    }
}

fn support(support: Support) -> (&'static str, &'static str) {
    match support {
        Support::Full => ("full", ""),
        Support::Partial(missing) => ("partial", missing),
        Support::Missing(missing) => ("missing", missing),
    }
}

fn print(out: &mut impl Write) -> io::Result<()> {
    for entry in TABLE {
        let (level, missing) = support(entry.support);
        let params: Vec<&str> = entry.params.iter().map(|param| param.name).collect();
        let call = format!("{}({})", entry.name, params.join(", "));
        writeln!(
            out,
            "{}",
            format!("{:>4} {call:<64} {level:<8} {missing}", entry.number).trim_end()
        )?;
    }
    Ok(())
}

fn print_json(out: &mut impl Write) -> io::Result<()> {
    let entries: Vec<_> = TABLE
        .iter()
        .map(|entry| {
            let (level, missing) = support(entry.support);
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
                "missing": missing,
            })
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &entries)?;
    writeln!(out)
}
