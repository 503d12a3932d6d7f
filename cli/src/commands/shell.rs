//! `varve completions` and `varve man`: both made from the definition of the commands.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::output::finish;
use crate::whole::Whole;

#[derive(clap::Args)]
pub(crate) struct CompletionArguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Write the pages of all commands to this directory; without it the page of varve itself goes to
    /// standard output.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(arguments: &CompletionArguments, mut command: Command) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "varve", &mut script);
    finish(io::stdout().write_all(&script))?;
    Ok(0)
}

pub(crate) fn man(arguments: &ManArguments, command: Command) -> Result<u8> {
    let Some(dir) = &arguments.dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        finish(io::stdout().write_all(&page))?;
        return Ok(0);
    };
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    pages(command, "varve", dir)?;
    Ok(0)
}

/// Writes the pages of a command and of those below it.
fn pages(command: Command, name: &str, dir: &Path) -> Result<()> {
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        if below.get_name() != "help" {
            pages(below.clone(), &format!("{name}-{}", below.get_name()), dir)?;
        }
    }
    let mut page = Vec::new();
    // Pages are called by the whole name.
    let title: &'static str = Box::leak(name.to_owned().into_boxed_str());
    Man::new(command.name(title).bin_name(name.replace('-', " "))).render(&mut page)?;
    let path = dir.join(format!("{name}.1"));
    // Through no link that somebody else may have put there.
    Whole::write(&path, &page)
}
