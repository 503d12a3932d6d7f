//! Where lines of the log and of strace go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;
use varve_core::event::Level;
use varve_host::{Sink, SinkLine};

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Options on logging.
#[derive(clap::Args)]
#[group(id = "logging")]
pub(crate) struct Arguments {
    /// Print every system call to standard error, or to --debug-log.
    #[arg(long)]
    pub strace: bool,
    /// Log in detail, to standard error or to --debug-log.
    #[arg(long)]
    debug: bool,
    /// Write debug and strace lines to this file, or to a file in this directory.
    #[arg(long, value_name = "PATH")]
    debug_log: Option<PathBuf>,
    /// Append warnings and errors to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the lines of --log.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

fn append(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options
        .open(path)
        .with_context(|| path.display().to_string())
}

impl Arguments {
    /// Opens what is needed.
    pub(crate) fn sink(&self) -> Result<Sink> {
        let mut debug_log = match &self.debug_log {
            Some(path) if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
                Some(append(
                    &path.join(format!("varve.{}.log", std::process::id())),
                )?)
            }
            Some(path) => Some(append(path)?),
            None => None,
        };
        let mut log = self.log.as_deref().map(append).transpose()?;
        let (format, debug) = (self.log_format, self.debug);
        // A line that cannot be written is lost: there is nobody left to tell.
        Ok(Box::new(move |line| match line {
            SinkLine::Strace(tid, text) => match &mut debug_log {
                Some(file) => drop(writeln!(file, "[{tid}] {text}")),
                None => drop(writeln!(io::stderr(), "[{tid}] {text}")),
            },
            SinkLine::Log(level, text) => {
                let name = level_name(level);
                if debug && let Some(file) = &mut debug_log {
                    let _ = writeln!(file, "{name}: {text}");
                }
                if level >= Level::Warn
                    && let Some(file) = &mut log
                {
                    let _ = match format {
                        LogFormat::Text => writeln!(file, "{name}: {text}"),
                        LogFormat::Json => {
                            writeln!(file, "{}", json!({ "level": name, "msg": text }))
                        }
                    };
                }
                let shown = level == Level::Error && log.is_none();
                if shown || (debug && debug_log.is_none()) {
                    let _ = writeln!(io::stderr(), "varve: {name}: {text}");
                }
            }
        }))
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warning",
        Level::Error => "error",
    }
}
