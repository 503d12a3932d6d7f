//! `varve`: builds image layers and runs untrusted programs over stacks of them.
#![forbid(unsafe_code)]

mod age;
mod capabilities;
mod commands;
mod environment;
mod examples;
mod files;
mod history;
mod host_view;
mod layers;
mod log;
mod mounts;
mod output;
mod platform;
mod process;
mod programs;
mod progress;
mod recording;
mod stacks;
mod stop;
mod strace;
mod text;
mod usage;
mod whole;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Exit status of failures of varve itself, as `docker run` has it.
const FAILED: u8 = 125;

/// Runs untrusted Linux programs from a stack of thin, immutable image layers.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 80)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build one layer from a directory or a tar stream.
    Build(commands::build::Arguments),
    /// Make an image of varve from what people have: OCI and Docker images, directories, archives.
    Convert(commands::convert::Arguments),
    /// Make one index over several layers, so that a look-up costs the same for any number of them.
    Merge(commands::merge::Arguments),
    /// Check digests and structure of images and layers.
    Check(commands::check::Arguments),
    /// List the images of the store.
    Images(commands::images::ListArguments),
    /// Remove images from the store.
    Rmi(commands::images::RemoveArguments),
    /// Remove what no image of the store needs.
    Prune(commands::images::PruneArguments),
    /// Show configuration, layers, sizes and digests of images.
    Inspect(commands::inspect::Arguments),
    /// List files of an image or a stack of layers.
    Ls(commands::look::list::ListArguments),
    /// Show a tree of directories.
    Tree(commands::look::list::TreeArguments),
    /// Show everything about files: attributes, layer, where the bytes are.
    Stat(commands::look::stat::Arguments),
    /// Write the contents of files to standard output.
    Cat(commands::look::cat::Arguments),
    /// Take files out, into a directory or a tar stream.
    Extract(commands::look::extract::Arguments),
    /// Show what is different between two images or stacks.
    Diff(commands::look::diff::Arguments),
    /// Show what makes an image large, by directory and by layer.
    Du(commands::look::du::Arguments),
    /// Show which layer a file is from.
    WhichLayer(commands::look::stat::WhichArguments),
    /// Show an image or a stack of layers as a read-only directory.
    Mount(commands::mount::MountArguments),
    /// Take such a directory away again.
    Umount(commands::mount::UmountArguments),
    /// Run a program in a sandbox.
    #[command(name = "do", visible_alias = "run")]
    Do(Box<commands::run::Arguments>),
    /// Run a recorded run again, without the program, and compare.
    Replay(commands::replay::Arguments),
    /// Show what varve does, on layers made of this machine's own files.
    Demo(commands::demo::Arguments),
    /// List the system calls and how much of each is supported.
    Syscalls(commands::syscalls::Arguments),
    /// Say which platforms work here, why others do not, and what a system call costs on each.
    Platforms(commands::platforms::Arguments),
    /// Print a script that completes varve's commands in a shell.
    Completions(commands::shell::CompletionArguments),
    /// Print or write manual pages.
    Man(commands::shell::ManArguments),
}

fn main() -> ExitCode {
    exit_on_panic();
    let matches = examples::add(Arguments::command()).try_get_matches();
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let printed = output::finish(usage::print(&error));
            if let Err(error) = &printed {
                text::say(message(error));
            }
            // Help and version are no errors.
            return match printed.is_err() || error.use_stderr() {
                true => FAILED.into(),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let result = match arguments.command {
        Command::Build(arguments) => commands::build::build(&arguments),
        Command::Convert(arguments) => commands::convert::run(&arguments),
        Command::Merge(arguments) => commands::merge::run(&arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
        Command::Images(arguments) => commands::images::list(&arguments),
        Command::Rmi(arguments) => commands::images::remove(&arguments),
        Command::Prune(arguments) => commands::images::prune(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Ls(arguments) => commands::look::list::list(&arguments),
        Command::Tree(arguments) => commands::look::list::tree(&arguments),
        Command::Stat(arguments) => commands::look::stat::stat(&arguments),
        Command::Cat(arguments) => commands::look::cat::cat(&arguments),
        Command::Extract(arguments) => commands::look::extract::extract(&arguments),
        Command::Diff(arguments) => commands::look::diff::diff(&arguments),
        Command::Du(arguments) => commands::look::du::du(&arguments),
        Command::WhichLayer(arguments) => commands::look::stat::which(&arguments),
        Command::Mount(arguments) => commands::mount::mount(&arguments),
        Command::Umount(arguments) => commands::mount::umount(&arguments),
        Command::Do(arguments) => commands::run::run(&arguments),
        Command::Replay(arguments) => commands::replay::run(&arguments),
        Command::Demo(arguments) => commands::demo::demo(&arguments),
        Command::Syscalls(arguments) => commands::syscalls::syscalls(&arguments),
        Command::Platforms(arguments) => commands::platforms::platforms(&arguments),
        Command::Completions(arguments) => {
            commands::shell::completions(&arguments, examples::add(Arguments::command()))
        }
        Command::Man(arguments) => {
            commands::shell::man(&arguments, examples::add(Arguments::command()))
        }
    };
    match result {
        Ok(status) => status.into(),
        Err(error) => {
            // Standard error may be closed or full: the status says it too.
            text::say(message(&error));
            FAILED.into()
        }
    }
}

/// An error and its causes in one line, without what the standard library and `tempfile` add to errors of the
/// system: their numbers, and names of temporary files, which nobody has heard of.
fn message(error: &anyhow::Error) -> String {
    let parts = error.chain().map(|part| {
        let text = part.to_string();
        match text.split_once(" (os error ") {
            Some((before, rest)) if rest.ends_with(')') || rest.contains(") at path ") => {
                before.to_owned()
            }
            _ => text,
        }
    });
    parts.collect::<Vec<_>>().join(": ")
}

/// A bug in one of varve's threads ends varve, and with it every guest: nothing goes on in a state nobody
/// vouches for.
fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::exit(FAILED.into());
    }));
}
