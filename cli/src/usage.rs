//! What a command line that is not understood is answered.

use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::text;

/// Commands that take something away. A slip of the finger is never led to one of them.
const REMOVING: &[&str] = &["rmi", "prune"];

/// What those who know Docker, Podman, runc or a package manager type, and what does it here.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["exec", "attach", "enter"],
        "a sandbox is not entered from outside: start a shell in a new one with `varve do --image IMAGE -- sh`",
    ),
    (
        &[
            "ps", "list", "top", "stats", "state", "events", "logs", "wait", "port",
        ],
        "there is no daemon and no list of sandboxes: each is a running `varve do`, which ps(1) shows; its output is the program's",
    ),
    (
        &[
            "kill", "stop", "pause", "resume", "unpause", "restart", "update",
        ],
        "a sandbox is a running `varve do`: send its process a signal with kill(1), which the program gets",
    ),
    (
        &[
            "create",
            "start",
            "spec",
            "container",
            "pod",
            "compose",
            "checkpoint",
            "restore",
        ],
        "a sandbox is made, run and gone with one command: `varve do --image IMAGE -- PROGRAM`",
    ),
    (
        &[
            "rm",
            "delete",
            "remove",
            "del",
            "uninstall",
            "system",
            "clean",
        ],
        "a sandbox leaves nothing behind; `varve images` lists the images that are kept",
    ),
    (
        &[
            "pull", "fetch", "search", "login", "logout", "push", "install",
        ],
        "varve speaks to no registry: `skopeo copy docker://NAME oci:DIR:TAG` fetches an image, `varve convert oci:DIR:TAG NAME` makes it one of varve's",
    ),
    (
        &["load", "import", "unpack"],
        "`varve convert SRC NAME` makes an image of what `docker save` wrote, an OCI layout, a directory or a tar archive",
    ),
    (
        &["save", "export", "cp", "pack"],
        "`varve convert IMAGE docker-archive:FILE` writes what `docker load` takes, `varve extract IMAGE [PATH...] -o DIR` takes files out",
    ),
    (
        &["commit", "tag", "rename"],
        "images never change: `varve convert oci:DIR[:NAME] NEW-NAME` gives one another name, `varve build DIR -o layer.img` makes a new layer",
    ),
    (
        &["history", "image", "image-list", "manifest"],
        "`varve images` lists images, `varve inspect IMAGE` shows what one is made of",
    ),
    (
        &["info", "version", "doctor"],
        "`varve platforms` says what works on this machine, `varve --version` which varve it is",
    ),
    (
        &["volume", "network"],
        "sandboxes have neither: `varve do --mount` adds memory or a layer, and only local sockets are there",
    ),
    (&["unmount"], "`varve umount DIR` takes a mount away"),
    (
        &["docker", "podman", "nerdctl", "runc", "crun", "runsc"],
        "varve's own commands stand there, as in `varve do --image IMAGE -- PROGRAM`; `varve --help` lists them",
    ),
    (
        &[
            "swarm", "service", "stack", "node", "secret", "config", "plugin", "trust", "context",
            "scout", "features", "daemon", "serve",
        ],
        "there is no daemon, and nothing to set up: `varve do` runs one sandbox",
    ),
    (
        &["purge", "gc", "rm-image", "image-rm", "remove-image", "df"],
        "`varve images` lists the images that are kept, `varve --help` what takes some away",
    ),
    (
        &["buildx", "builder", "bake"],
        "`varve build DIR -o layer.img` makes a layer; Dockerfiles are for other tools, whose images `varve convert` takes",
    ),
    (
        &["sh", "bash", "shell"],
        "`varve do -- sh` runs a shell in a sandbox",
    ),
];

/// The one line on a command that does not exist; `None` if the error is another one.
fn unknown_command(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let known = ELSEWHERE
        .iter()
        .find(|(words, _)| words.contains(&word.as_str()));
    let hint = match (known, error.get(ContextKind::SuggestedSubcommand)) {
        (Some((_, hint)), _) => (*hint).to_owned(),
        (None, Some(ContextValue::Strings(near))) => {
            let near: Vec<_> = near
                .iter()
                .filter(|name| !REMOVING.contains(&name.as_str()))
                .map(|name| format!("`varve {name}`"))
                .collect();
            match near.is_empty() {
                true => String::new(),
                false => format!("did you mean {}?", near.join(" or ")),
            }
        }
        _ => String::new(),
    };
    let hint = match hint.as_str() {
        "" => "`varve --help` lists the commands",
        hint => hint,
    };
    Some(format!("there is no command `{word}`: {hint}"))
}

/// Prints help, a version or what is wrong.
///
/// # Errors
/// Help or version cannot be written.
pub(crate) fn print(error: &clap::Error) -> io::Result<()> {
    if let Some(line) = unknown_command(error) {
        text::say(line);
        return Ok(());
    }
    if !error.use_stderr() {
        return error.print().and_then(|()| io::stdout().flush());
    }
    let text = error.render().to_string();
    let text = match text.strip_prefix("error: ") {
        Some(text) => format!("varve: {text}"),
        None => text,
    };
    // The message repeats what was given, line by line. If standard error is closed there is nobody left to
    // tell.
    for line in text.lines() {
        let line = format!("{}\n", text::shown(line));
        let _ = io::stderr().write_all(line.as_bytes());
    }
    Ok(())
}
