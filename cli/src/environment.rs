//! The environment of the first program, as Docker sets it.

use std::collections::HashMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::host_view;

/// `PATH` where nobody says otherwise.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where variables come from; later ones replace earlier ones, in their place.
#[derive(Default)]
pub(crate) struct Environment {
    vars: Vec<Vec<u8>>,
    /// Where each name is: an image may have any number of them.
    places: HashMap<Vec<u8>, usize>,
}

impl Environment {
    /// What a container starts with.
    pub(crate) fn container(hostname: &str, terminal: bool) -> Environment {
        let mut own = Environment::default();
        own.set(PATH.into());
        own.set(format!("HOSTNAME={hostname}").into_bytes());
        if terminal {
            own.set(b"TERM=xterm".to_vec());
        }
        own
    }

    /// The caller's own, of which few pass.
    pub(crate) fn inherited() -> Environment {
        let mut own = Environment::default();
        for (name, value) in std::env::vars_os().filter(|(name, _)| host_view::passes(name)) {
            let mut var = name.into_vec();
            var.push(b'=');
            var.extend(value.as_bytes());
            own.set(var);
        }
        own
    }

    /// Sets one variable, `NAME=value`.
    pub(crate) fn set(&mut self, var: Vec<u8>) {
        let name = var.split(|&byte| byte == b'=').next().unwrap_or_default();
        match self.places.get(name) {
            Some(&place) => self.vars[place] = var,
            None => {
                self.places.insert(name.to_vec(), self.vars.len());
                self.vars.push(var);
            }
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
        self.vars
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

    #[test]
    fn any_number_of_variables_costs_no_more_than_reading_them() {
        // Looking through the list for each took minutes for so many.
        let mut env = Environment::default();
        for round in 0..2 {
            for number in 0..50_000 {
                env.set(format!("A{number}={round}").into_bytes());
            }
        }
        let vars = env.into_vars();
        assert_eq!(vars.len(), 50_000);
        assert_eq!(
            (&vars[0][..], &vars[49_999][..]),
            (&b"A0=1"[..], &b"A49999=1"[..])
        );
    }
}
