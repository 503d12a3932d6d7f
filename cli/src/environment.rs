//! The environment of the first program, as Docker sets it.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// `PATH` where nobody says otherwise.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where variables come from; later ones replace earlier ones.
pub(crate) struct Environment(Vec<Vec<u8>>);

impl Environment {
    /// What a container starts with.
    pub(crate) fn container(hostname: &str, terminal: bool) -> Environment {
        let mut own = Environment(vec![
            PATH.into(),
            format!("HOSTNAME={hostname}").into_bytes(),
        ]);
        if terminal {
            own.set(b"TERM=xterm".to_vec());
        }
        own
    }

    /// The caller's own.
    pub(crate) fn inherited() -> Environment {
        let vars = std::env::vars_os().map(|(name, value)| {
            let mut var = name.into_vec();
            var.push(b'=');
            var.extend(value.as_bytes());
            var
        });
        Environment(vars.collect())
    }

    /// Sets one variable, `NAME=value`.
    pub(crate) fn set(&mut self, var: Vec<u8>) {
        let end = var
            .iter()
            .position(|&byte| byte == b'=')
            .unwrap_or(var.len());
        let name = |other: &Vec<u8>| other.get(..=end) == var.get(..=end);
        match self.0.iter().position(name) {
            Some(index) => self.0[index] = var,
            None => self.0.push(var),
        }
    }

    /// Sets a variable as `--env` gives it: `NAME=value`, or `NAME` with the caller's value, if it has one.
    pub(crate) fn add(&mut self, text: &str) -> Result<()> {
        match text.split_once('=') {
            Some(("", _)) => bail!("--env {text}: the name is missing"),
            Some(_) => self.set(text.as_bytes().to_vec()),
            None if text.is_empty() => bail!("--env: the name is missing"),
            None => {
                if let Some(value) = std::env::var_os(text) {
                    let mut var = format!("{text}=").into_bytes();
                    var.extend(value.as_bytes());
                    self.set(var);
                }
            }
        }
        Ok(())
    }

    /// Sets the variables of a file: one on each line, `#` begins a comment line.
    pub(crate) fn add_file(&mut self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                self.add(line)
                    .with_context(|| format!("{}, line {}", file.display(), number + 1))?;
            }
        }
        Ok(())
    }

    /// The variables.
    pub(crate) fn into_vars(self) -> Vec<Vec<u8>> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_variables_replace_earlier_ones() {
        let mut env = Environment::container("box", false);
        env.add("A=1").unwrap();
        env.add("AB=2").unwrap();
        env.add("A=3=4").unwrap();
        env.add("VARVE_TEST_SURELY_UNSET").unwrap();
        assert!(env.add("=x").is_err() && env.add("").is_err());
        let vars = env.into_vars();
        let text: Vec<_> = vars
            .iter()
            .map(|var| String::from_utf8_lossy(var))
            .collect();
        assert_eq!(text, [PATH, "HOSTNAME=box", "A=3=4", "AB=2"]);
    }
}
