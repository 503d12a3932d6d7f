//! Layers as the command line names them: image files, or directories that are built on the fly.
//!
//! What was built of a directory is kept, for its owner alone, under a digest of everything stat(2) tells of
//! the directory: whoever changes something in it changes a time (`ctime`, which nobody can set). So a second
//! start with the same directory reads no contents.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use varve_image::{BuildOptions, build_dir, build_dir_nameless};

use crate::text;

/// Images of directories that are kept, the last used ones.
const KEPT_MAX: usize = 16;
/// What changed less than so long before it was looked at may change again without another time.
const STEADY: Duration = Duration::from_millis(50);

/// Opens an image file; a directory becomes an image.
pub(crate) fn open(path: &Path) -> Result<File> {
    let shown = || text::path(path).to_string();
    let meta = fs::metadata(path).with_context(shown)?;
    if meta.is_file() || meta.file_type().is_block_device() {
        return File::open(path).with_context(shown);
    }
    if !meta.is_dir() {
        bail!("{}: neither an image file nor a directory", shown());
    }
    let options = BuildOptions::default();
    let Some((kept, state)) = Kept::open(path).and_then(|kept| Some((kept, State::of(path)?)))
    else {
        let temporary = std::env::temp_dir();
        return Ok(build_dir_nameless(path, &temporary, &options, &mut ())?.1);
    };
    if let Some(file) = kept.get(&state) {
        return Ok(file);
    }
    // The build has no name until it is whole: whatever ends it, nothing is left.
    let image = kept.0.join(state.name());
    build_dir(path, &image, &options, &mut ())?;
    let file = File::open(&image).with_context(|| text::path(&image).to_string())?;
    // What changed while it was read is good for this run alone.
    match state.is_steady() && State::of(path).is_some_and(|now| now.digest == state.digest) {
        true => kept.trim(),
        false => drop(fs::remove_file(&image)),
    }
    Ok(file)
}

/// What a directory is, without its contents.
struct State {
    digest: [u8; 32],
    /// The last change of anything in it.
    changed: Duration,
    /// When that was looked at.
    seen: Duration,
}

impl State {
    /// Looks at everything below a directory; `None` where something cannot be looked at, which the build
    /// then tells.
    fn of(root: &Path) -> Option<State> {
        let seen = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let mut hasher = Sha256::new();
        let mut changed = Duration::ZERO;
        let mut look = |path: &Path, meta: &fs::Metadata| {
            hasher.update((path.as_os_str().len() as u64).to_le_bytes());
            hasher.update(path.as_os_str().as_bytes());
            for number in [
                meta.dev(),
                meta.ino(),
                meta.mode().into(),
                meta.uid().into(),
                meta.gid().into(),
                meta.rdev(),
                meta.size(),
                meta.mtime() as u64,
                meta.mtime_nsec() as u64,
                meta.ctime() as u64,
                meta.ctime_nsec() as u64,
            ] {
                hasher.update(number.to_le_bytes());
            }
            let at = Duration::new(meta.ctime().max(0) as u64, meta.ctime_nsec() as u32);
            changed = changed.max(at);
        };
        let root = fs::canonicalize(root).ok()?;
        look(&root, &fs::metadata(&root).ok()?);
        let mut dirs = vec![root];
        while let Some(dir) = dirs.pop() {
            let entries = fs::read_dir(&dir).ok()?;
            let mut entries = entries.collect::<Result<Vec<_>, _>>().ok()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let meta = entry.metadata().ok()?;
                look(&entry.path(), &meta);
                if meta.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        Some(State {
            digest: hasher.finalize().into(),
            changed,
            seen,
        })
    }

    /// Whether another change would be seen.
    fn is_steady(&self) -> bool {
        self.changed + STEADY < self.seen
    }

    fn name(&self) -> String {
        format!("{}.img", hex::encode(self.digest))
    }
}

/// The directory where images of directories are kept.
struct Kept(PathBuf);

impl Kept {
    /// Makes it if need be; `None` where there is no place that is the caller's alone, or only one inside of
    /// `source`.
    fn open(source: &Path) -> Option<Kept> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let base = match variable("XDG_CACHE_HOME") {
            Some(dir) => PathBuf::from(dir),
            None => Path::new(&variable("HOME")?).join(".cache"),
        };
        let own = rustix::process::geteuid().as_raw();
        let dir = base.join("varve/layers");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .ok()?;
        let meta = fs::symlink_metadata(&dir).ok()?;
        let alone = meta.is_dir() && meta.uid() == own && meta.mode() & 0o077 == 0;
        let writable = rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).is_ok();
        let inside = fs::canonicalize(&dir)
            .ok()?
            .starts_with(fs::canonicalize(source).ok()?);
        (alone && writable && !inside).then_some(Kept(dir))
    }

    fn get(&self, state: &State) -> Option<File> {
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        let file = options.open(self.0.join(state.name())).ok()?;
        let meta = file.metadata().ok()?;
        let own = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw();
        // The time tells which ones were used last; it may lie on storage that is not written to.
        let _ = file.set_modified(SystemTime::now());
        own.then_some(file)
    }

    /// Removes all but the last used ones.
    fn trim(&self) {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut list: Vec<_> = entries
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        list.sort();
        list.reverse();
        for (_, path) in list.iter().skip(KEPT_MAX) {
            let _ = fs::remove_file(path);
        }
    }
}
