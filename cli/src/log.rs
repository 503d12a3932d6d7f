//! Where lines of the log and of strace go.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;
use varve_core::boot::Strace;
use varve_core::event::Level;
use varve_host::{Sink, SinkLine};

use crate::files::append;
use crate::strace::StraceOptions;
use crate::text::{self, say, shown};

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
    /// Print every system call, with the options of strace(1): -e trace=SET, -c, -T, -tt, -y, -s N, -o FILE
    /// and others, as in --strace='-T -e trace=%file' or --strace=openat,read.
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    strace: Option<String>,
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

impl Arguments {
    /// How system calls are traced, if they are.
    ///
    /// # Errors
    /// What --strace says is not understood.
    pub(crate) fn strace(&self) -> Result<Option<Strace>> {
        let options = self.strace.as_deref().map(StraceOptions::parse);
        Ok(options.transpose()?.map(|options| options.strace))
    }

    /// Opens what is needed.
    pub(crate) fn sink(&self) -> Result<Sink> {
        let mut debug_log = match &self.debug_log {
            Some(path) if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                std::fs::create_dir_all(path).with_context(|| text::path(path).to_string())?;
                Some(append(
                    &path.join(format!("varve.{}.log", std::process::id())),
                )?)
            }
            Some(path) => Some(append(path)?),
            None => None,
        };
        let mut log = self.log.as_deref().map(append).transpose()?;
        let mut traces = match &self.strace {
            Some(text) => {
                let file = debug_log.as_ref().map(std::fs::File::try_clone);
                let file = file.transpose().context("--debug-log")?;
                Some(StraceOptions::parse(text)?.printer(file)?)
            }
            None => None,
        };
        let (format, debug) = (self.log_format, self.debug);
        // A line that cannot be written is lost: there is nobody left to tell.
        Ok(Box::new(move |line| match line {
            SinkLine::Strace(line) => {
                if let Some(printer) = &mut traces {
                    printer.line(&line);
                }
            }
            SinkLine::Log(level, text) => {
                let name = level_name(level);
                if debug && let Some(file) = &mut debug_log {
                    let _ = writeln!(file, "{name}: {}", shown(text));
                }
                if level >= Level::Warn
                    && let Some(file) = &mut log
                {
                    let _ = match format {
                        LogFormat::Text => writeln!(file, "{name}: {}", shown(text)),
                        LogFormat::Json => {
                            let line = json!({ "level": name, "msg": text });
                            writeln!(file, "{}", text::json(&line))
                        }
                    };
                }
                let shown = level >= Level::Killed && log.is_none();
                if shown || (debug && debug_log.is_none()) {
                    say(format_args!("{name}: {text}"));
                }
            }
        }))
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn | Level::Killed => "warning",
        Level::Error => "error",
    }
}
