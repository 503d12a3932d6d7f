//! The command as people and scripts meet it: terminals, pipes, other users' tricks, words that it does not
//! know.

mod browser;
mod examples;
mod extract;
mod init;
mod looks;
mod names;
mod sizes;
mod strace;
mod streams;
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use varve_conformance::{run, skip, varve};

/// The command in a directory of its own.
struct Place {
    dir: tempfile::TempDir,
    varve: PathBuf,
}

impl Place {
    fn new() -> Place {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
            varve: varve().unwrap(),
        };
        fs::create_dir(place.at("tmp")).unwrap();
        fs::create_dir(place.at("cache")).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file with this mode there, with the directories above it.
    fn file(&self, name: &str, mode: u32, bytes: impl AsRef<[u8]>) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn prepared(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path());
        for (name, dir) in [
            ("TMPDIR", "tmp"),
            ("XDG_CACHE_HOME", "cache"),
            ("VARVE_STORE", "store"),
        ] {
            command.env(name, self.at(dir));
        }
        command
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.prepared("timeout", &["60"]);
        command.arg(&self.varve).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// Runs varve, which must succeed; what it wrote to its standard output.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs varve, which must fail with this status and one line that has these words.
    fn fails(&self, args: &[&str], status: i32, words: &[&str]) {
        let output = self.run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?}: no `{word}` in: {said}");
        }
    }

    /// A copy of the program where every user gets at it, and a directory open to all.
    fn open_to_all(&mut self) {
        let program = self.at("varve");
        fs::copy(&self.varve, &program).unwrap();
        self.varve = program;
        for (name, mode) in [
            (".", 0o755),
            ("varve", 0o755),
            ("tmp", 0o1777),
            ("cache", 0o1777),
        ] {
            fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_root(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip(what, "needs root");
    }
    root
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
