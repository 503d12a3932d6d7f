//! `varve platforms`.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use varve_sandbox::{KickSignal, PlatformChoice, PlatformError, survey};

use crate::output::finish;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

/// A platform, tried out.
struct Tried {
    name: &'static str,
    /// What one system call costs, or why it does not work.
    cost: Result<Duration, PlatformError>,
    /// Anything else worth knowing.
    note: &'static str,
}

/// Lists the platforms; the status is 1 if none works.
pub(crate) fn platforms(arguments: &Arguments) -> Result<u8> {
    let survey = survey(KickSignal::install().context("a signal handler")?);
    let chosen = survey.auto().map(|choice| match choice {
        PlatformChoice::Kvm => 0,
        _ => 1,
    });
    let tried = [
        Tried {
            name: "kvm",
            cost: survey.kvm,
            note: match survey.hardware_virtualisation {
                true => "with hardware virtualisation",
                false => "without hardware virtualisation: leaving a guest is slow",
            },
        },
        Tried {
            name: "ptrace",
            cost: survey.ptrace,
            note: "",
        },
    ];
    let mut out = io::stdout().lock();
    let result = match arguments.json {
        true => print_json(&mut out, &tried, chosen),
        false => print(&mut out, &tried, chosen),
    };
    finish(result)?;
    Ok(u8::from(chosen.is_none()))
}

fn print(out: &mut impl Write, tried: &[Tried], chosen: Option<usize>) -> io::Result<()> {
    for (index, platform) in tried.iter().enumerate() {
        let mark = if chosen == Some(index) { " (auto)" } else { "" };
        let name = format!("{}{mark}", platform.name);
        match &platform.cost {
            Ok(cost) => {
                let cost = cost.as_secs_f64() * 1e6;
                let line = format!(
                    "{name:<14} works  {cost:.2} us a system call  {}",
                    platform.note
                );
                writeln!(out, "{}", line.trim_end())?;
            }
            Err(error) => writeln!(out, "{name:<14} fails  {error}")?,
        }
    }
    Ok(())
}

fn print_json(out: &mut impl Write, tried: &[Tried], chosen: Option<usize>) -> io::Result<()> {
    let list: Vec<_> = tried
        .iter()
        .enumerate()
        .map(|(index, platform)| {
            let cost = platform.cost.as_ref().ok();
            json!({
                "name": platform.name,
                "works": cost.is_some(),
                "auto": chosen == Some(index),
                "syscall_us": cost.map(|cost| cost.as_secs_f64() * 1e6),
                "reason": platform.cost.as_ref().err().map(ToString::to_string),
                "note": platform.note,
            })
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &list)?;
    writeln!(out)
}
