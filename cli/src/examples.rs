//! Examples below the help of each command. `conformance/tests/command/examples.rs` runs them all.

/// A command and what people do with it.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "build",
        &[
            "varve build DIR -o layer.img",
            "tar c DIR | varve build - -o layer.img",
        ],
    ),
    (
        "convert",
        &[
            "varve convert docker-archive:saved.tar debian",
            "varve convert dir:DIR ./image",
        ],
    ),
    ("merge", &["varve merge base.img app.img -o index.img"]),
    ("check", &["varve check debian", "varve check base.img"]),
    ("images", &["varve images", "varve images --json"]),
    ("rmi", &["varve rmi debian"]),
    ("prune", &["varve prune"]),
    ("inspect", &["varve inspect debian"]),
    ("ls", &["varve ls -l debian /etc", "varve ls debian --json"]),
    ("tree", &["varve tree debian /etc"]),
    ("stat", &["varve stat debian /bin/sh"]),
    ("cat", &["varve cat debian /etc/os-release"]),
    (
        "extract",
        &[
            "varve extract debian -o DIR",
            "varve extract debian /etc -o etc.tar",
        ],
    ),
    ("diff", &["varve diff debian:11 debian:12"]),
    ("du", &["varve du -h debian"]),
    (
        "which-layer",
        &["varve which-layer --all debian /etc/passwd"],
    ),
    (
        "mount",
        &["varve mount debian DIR; ls DIR; varve umount DIR"],
    ),
    ("umount", &["varve mount debian DIR; varve umount DIR"]),
    (
        "do",
        &[
            "varve do -- sh -c 'echo new > /tmp/file; cat /tmp/file'",
            "varve do --image debian -- cat /etc/os-release",
            "varve do --image debian --layer ./app -- /app/main",
            "varve do --layer base.img --layer app.img -- /app/main",
            "varve do --init --memory 512m --image debian -- sh",
            "varve do --strace='-T -e trace=%file' --image debian -- sh",
            "varve do --mount type=tmpfs,dst=/scratch --image debian -- sh",
        ],
    ),
    (
        "replay",
        &[
            "varve do --record run.log --image debian -- sh; varve replay run.log",
            "varve do --record a.log -- echo hello; varve replay --output a.log",
        ],
    ),
    ("demo", &["varve demo"]),
    (
        "syscalls",
        &[
            "varve syscalls --only missing",
            "varve syscalls futex io_uring_setup",
        ],
    ),
    ("platforms", &["varve platforms"]),
    ("completions", &["varve completions bash"]),
    ("man", &["varve man DIR"]),
];

/// Puts the examples below the help.
pub(crate) fn add(mut command: clap::Command) -> clap::Command {
    for (name, examples) in EXAMPLES {
        command = command.mut_subcommand(name, |command| {
            let mut text = String::new();
            if let Some(before) = command.get_after_help() {
                text += &format!("{before}\n\n");
            }
            text += "Examples:";
            for example in *examples {
                text += &format!("\n  {example}");
            }
            command.after_help(text)
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_an_example() {
        let command = crate::Arguments::command();
        for sub in command.get_subcommands() {
            let found = EXAMPLES.iter().find(|(name, _)| *name == sub.get_name());
            let (name, examples) = found.unwrap_or_else(|| panic!("{}", sub.get_name()));
            assert!(!examples.is_empty());
            for example in *examples {
                assert!(example.contains(&format!("varve {name}")), "{example}");
                assert!(example.len() <= 78, "{example}");
            }
        }
        add(command).debug_assert();
    }
}
