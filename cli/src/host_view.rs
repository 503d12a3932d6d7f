//! What a sandbox over the host's root sees of the host.
//!
//! It may read what its caller may, so the places where people and services keep what is their own are left
//! out: they are empty directories in memory. What is shown of them all the same is the host's, under the
//! sandbox's own overlay like the rest.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use varve_core::boot::{Layer, Mount, Tree};

use crate::text;

/// Places that are left out unless they are asked for.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run"];

/// Options on it.
#[derive(clap::Args)]
#[group(id = "host-view")]
pub(crate) struct Arguments {
    /// Over the host's own root: show a directory of /home, /root or /run, which are empty otherwise. The
    /// working directory is shown if it lies below somebody's home directory.
    #[arg(long, value_name = "DIR")]
    show: Vec<PathBuf>,
}

/// What is hidden and what is shown, all of it as the host's own paths without symbolic links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Empty directories.
    hidden: Vec<PathBuf>,
    /// A home directory of the caller's that is empty too, and which everybody may write to.
    home: Option<PathBuf>,
    /// Directories of the host inside of hidden ones.
    shown: Vec<PathBuf>,
}

impl Arguments {
    /// Whether something is asked for.
    pub(crate) fn is_asked(&self) -> bool {
        !self.show.is_empty()
    }

    /// What a sandbox started in `cwd` sees.
    pub(crate) fn view(&self, cwd: &Path) -> Result<View> {
        let mut asked = Vec::new();
        for path in &self.show {
            let what = || format!("--show {}", text::path(path));
            let real = path.canonicalize().with_context(what)?;
            if !real.is_dir() {
                bail!("{}: not a directory; give the one it lies in", what());
            }
            asked.push(real);
        }
        let places = HIDDEN.iter().filter_map(|place| {
            let real = Path::new(place).canonicalize().ok()?;
            real.is_dir().then_some(real)
        });
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let home = home.and_then(|home| home.canonicalize().ok());
        Ok(View::of(places.collect(), asked, home, cwd))
    }
}

impl View {
    fn of(
        mut places: Vec<PathBuf>,
        asked: Vec<PathBuf>,
        home: Option<PathBuf>,
        cwd: &Path,
    ) -> View {
        places.retain(|place| !asked.iter().any(|shown| place.starts_with(shown)));
        let inside = |path: &Path| {
            let place = places.iter().find(|place| path.starts_with(place))?;
            Some((path != *place).then_some(place.as_path()))
        };
        let mut shown = asked;
        let is_home = |path: &Path| {
            home.as_deref() == Some(path) || path.parent() == Some(Path::new("/home"))
        };
        if !is_home(cwd) {
            shown.push(cwd.to_owned());
        }
        shown.retain(|path| matches!(inside(path), Some(Some(_))));
        shown.sort();
        // A directory shows what lies below it, too.
        shown.dedup_by(|later, earlier| later.starts_with(earlier));
        let covered = |path: &Path| shown.iter().any(|shown| path.starts_with(shown));
        let home = home.filter(|home| matches!(inside(home), Some(Some(_))) && !covered(home));
        View {
            home,
            shown,
            hidden: places,
        }
    }

    /// Whether nothing of a directory is shown.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        self.hidden.iter().any(|place| path.starts_with(place))
            && !self.shown.iter().any(|shown| path.starts_with(shown))
    }

    /// The mounts that make it so. `add` gives a directory of the host a number as a layer.
    pub(crate) fn mounts(&self, mut add: impl FnMut(&Path) -> Result<Layer>) -> Result<Vec<Mount>> {
        let mount = |path: &Path, layers: Vec<Layer>, mode| Mount {
            target: path.as_os_str().as_bytes().to_vec(),
            source: match layers.is_empty() {
                true => b"tmpfs".to_vec(),
                false => b"overlay".to_vec(),
            },
            tree: Tree {
                layers,
                read_only: false,
                upper_limit: None,
                index: None,
            },
            mode,
        };
        let mut mounts = Vec::new();
        for place in &self.hidden {
            mounts.push(mount(place, Vec::new(), 0o755));
        }
        if let Some(home) = &self.home {
            mounts.push(mount(home, Vec::new(), 0o1777));
        }
        for shown in &self.shown {
            mounts.push(mount(shown, vec![add(shown)?], 0o755));
        }
        Ok(mounts)
    }
}

/// Variables of the caller's that its programs get over the host's root. The others may hold secrets.
pub(crate) fn passes(name: &OsStr) -> bool {
    const NAMES: [&str; 11] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TERM",
        "COLORTERM",
        "NO_COLOR",
        "LANG",
        "LANGUAGE",
        "TZ",
    ];
    NAMES.iter().any(|known| name == *known) || name.as_bytes().starts_with(b"LC_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(asked: &[&str], home: &str, cwd: &str) -> (Vec<String>, Option<String>, Vec<String>) {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
        let view = View::of(
            paths(&HIDDEN),
            paths(asked),
            Some(PathBuf::from(home)),
            Path::new(cwd),
        );
        let text = |path: &PathBuf| path.display().to_string();
        (
            view.hidden.iter().map(text).collect(),
            view.home.as_ref().map(text),
            view.shown.iter().map(text).collect(),
        )
    }

    #[test]
    fn homes_are_left_out_and_work_below_them_is_shown() {
        let all: Vec<String> = HIDDEN.iter().map(|place| place.to_string()).collect();
        let strings = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let home = Some("/home/u".to_owned());
        assert_eq!(view(&[], "/root", "/srv"), (all.clone(), None, vec![]));
        assert_eq!(view(&[], "/root", "/root"), (all.clone(), None, vec![]));
        assert_eq!(
            view(&[], "/root", "/root/work"),
            (all.clone(), None, strings(&["/root/work"]))
        );
        assert_eq!(
            view(&[], "/home/u", "/home/u"),
            (all.clone(), home.clone(), vec![])
        );
        assert_eq!(view(&[], "/home/u", "/home/other").2, strings(&[]));
        assert_eq!(
            view(&[], "/home/u", "/home/u/a/b"),
            (all.clone(), home, strings(&["/home/u/a/b"]))
        );
        // What is asked for.
        assert_eq!(
            view(&["/home/u"], "/home/u", "/home/u/a"),
            (all.clone(), None, strings(&["/home/u"]))
        );
        assert_eq!(
            view(&["/home"], "/home/u", "/"),
            (strings(&["/root", "/run"]), None, vec![])
        );
        assert_eq!(view(&["/"], "/root", "/root"), (vec![], None, vec![]));
        assert_eq!(
            view(&["/run/b", "/run/a", "/run/a/c", "/usr"], "/root", "/").2,
            strings(&["/run/a", "/run/b"])
        );
        assert_eq!(view(&[], "/root", "/rootless").2, strings(&[]));
    }

    #[test]
    fn few_variables_pass() {
        for name in ["PATH", "HOME", "LC_ALL", "TZ"] {
            assert!(passes(OsStr::new(name)), "{name}");
        }
        for name in ["AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "PATHS", "LC", ""] {
            assert!(!passes(OsStr::new(name)), "{name}");
        }
    }
}
