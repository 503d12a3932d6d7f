//! A directory in OCI image-layout form: images by name over blobs by digest, each blob once.
//!
//! Everything is done below descriptors of its directories, through no link. What is ours alone lies in
//! `.varve`, which only the owner can write to: two lock files that nobody else can open, and the table of
//! conversions. What adds images holds a shared lock on the first, what takes blobs away an exclusive one;
//! `index.json` is replaced whole under the second. Blobs appear under their name only when they are whole
//! and on the disk, and never change.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci_spec::image::{Descriptor, MediaType};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use serde_json::{Value, json};

use super::blobs::{DOCUMENT_MAX, Files, parse, sha256};
use super::place::{open_dir, open_file, read_small, sub_dir, sync_dir};
use super::table::{TABLE_MAX, Table};
use super::{ContainerImage, ImageError, REF_NAME, Sha256Digest};
use crate::output::{Output, TEMPORARY};

pub(super) const LAYOUT_FILE: &str = "oci-layout";
pub(super) const INDEX_FILE: &str = "index.json";
pub(super) const BLOBS: &str = "blobs/sha256";
/// What is no part of the image layout.
const PRIVATE: &str = ".varve";
/// Held by conversions, and by what takes blobs away.
pub(super) const LOCK: &str = "lock";
/// Held while `index.json` or the table is replaced.
const INDEX_LOCK: &str = "index.lock";
const TABLE: &str = "conversions.json";
/// How deep an index may nest.
pub(super) const NESTED_MAX: usize = 4;
/// Longest `oci-layout`, in bytes.
const LAYOUT_MAX: u64 = 64 << 10;
/// So often a directory is made again that is taken away at the same time.
const MAKE_MAX: usize = 100;
const MAKE_AGAIN: Duration = Duration::from_millis(1);

/// An opened layout.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    root: Arc<OwnedFd>,
    pub(super) blobs: Arc<OwnedFd>,
}

/// What [`Layout::prune`] took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be understood and was passed over, a line each.
    pub warnings: Vec<String>,
}

/// A lock that ends with the value.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not by closing alone: a child that another thread starts at this moment has the file open, too,
        // until it executes its program.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// An entry of `index.json`: as it stands there, and what it says.
pub(super) struct Listed {
    pub(super) value: Value,
    pub(super) descriptor: Result<Descriptor, String>,
}

impl Listed {
    fn of(value: &Value) -> Self {
        let descriptor = serde_json::from_value::<Descriptor>(value.clone())
            .map_err(|e| crate::error::Shown(e.to_string().as_bytes()).to_string())
            .and_then(|found| match sha256(&found) {
                Ok(_) => Ok(found),
                Err(error) => Err(error.to_string()),
            });
        Self {
            value: value.clone(),
            descriptor,
        }
    }

    fn text<'a>(&'a self, path: &[&str]) -> Option<&'a str> {
        let found = path
            .iter()
            .try_fold(&self.value, |value, key| value.get(*key));
        found.and_then(Value::as_str)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.text(&["annotations", REF_NAME])
    }

    pub(super) fn digest(&self) -> &str {
        self.text(&["digest"]).unwrap_or_default()
    }
}

impl Layout {
    /// Opens the layout in a directory.
    ///
    /// # Errors
    /// What is missing; a version that is not known.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        Self::find(dir)?.ok_or_else(|| {
            let reason = "is no container image: it has no file `oci-layout`";
            ImageError::bad(dir.display().to_string(), reason)
        })
    }

    /// As [`open`](Self::open); `None` if there is no such directory, or no layout in it.
    ///
    /// # Errors
    /// As [`open`](Self::open); what cannot be looked at.
    pub fn find(dir: &Path) -> Result<Option<Self>, ImageError> {
        let missing = |e: &io::Error| {
            matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            )
        };
        let root = match open_dir(dir) {
            Ok(root) => root,
            Err(e) if missing(&e) => return Ok(None),
            Err(e) => return Err(ImageError::io("open", dir, e)),
        };
        let path = dir.join(LAYOUT_FILE);
        let file = match open_file(&root, LAYOUT_FILE, false) {
            Ok(file) => file,
            Err(e) if missing(&e) => return Ok(None),
            Err(e) => return Err(ImageError::io("open", path, e)),
        };
        let bytes = read_small(file, LAYOUT_MAX).map_err(|e| ImageError::io("read", &path, e))?;
        check_version(&path.display().to_string(), &bytes)?;
        Self::of(dir, root).map(Some)
    }

    fn of(dir: &Path, root: OwnedFd) -> Result<Self, ImageError> {
        let blobs = sub_dir(&root, "blobs").and_then(|blobs| sub_dir(blobs, "sha256"));
        let blobs = blobs.map_err(|e| ImageError::io("open", dir.join(BLOBS), e))?;
        Ok(Self {
            dir: dir.to_owned(),
            root: Arc::new(root),
            blobs: Arc::new(blobs),
        })
    }

    /// Opens the layout in a directory, made if it is not there or empty.
    ///
    /// # Errors
    /// A directory that holds something else; what cannot be made.
    pub fn create(dir: &Path) -> Result<Self, ImageError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::try_create(dir) {
                // A conversion that failed is taking it away at this moment.
                Err(ImageError::Io { error, .. })
                    if error.kind() == io::ErrorKind::NotFound && attempts < MAKE_MAX =>
                {
                    std::thread::sleep(MAKE_AGAIN);
                }
                done => return done,
            }
        }
    }

    fn try_create(dir: &Path) -> Result<Self, ImageError> {
        let fail = |e: io::Error| ImageError::io("make", dir, e);
        fs::create_dir_all(dir).map_err(fail)?;
        let root = open_dir(dir).map_err(fail)?;
        let there = rustix::fs::statat(&root, LAYOUT_FILE, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !there {
            // Another convert may be making it at this moment.
            let ours = ["blobs", INDEX_FILE, LAYOUT_FILE, PRIVATE];
            let names = names_of(&root).map_err(|e| ImageError::io("list", dir, e))?;
            if let Some(name) = names.iter().find(|name| !ours.contains(&name.as_str())) {
                let reason = format!(
                    "holds other files ({name}), so no image is put there; name a new or empty directory"
                );
                return Err(ImageError::bad(dir.display().to_string(), reason));
            }
        }
        let make = |dir: &OwnedFd, name: &str| match rustix::fs::mkdirat(
            dir,
            name,
            Mode::from_raw_mode(0o777),
        ) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => sub_dir(dir, name),
            Err(errno) => Err(errno.into()),
        };
        let made = make(&root, "blobs").and_then(|blobs| make(&blobs, "sha256"));
        made.map_err(|e| ImageError::io("make", dir.join(BLOBS), e))?;
        let layout = Self::of(dir, root)?;
        if there {
            return Self::open(dir);
        }
        let _lock = layout.lock_index()?;
        let is_there =
            |name| rustix::fs::statat(&*layout.root, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !is_there(INDEX_FILE) {
            let index = json!({
                "schemaVersion": 2,
                "mediaType": MediaType::ImageIndex.to_string(),
                "manifests": [],
            });
            layout.replace(INDEX_FILE, index.to_string().as_bytes())?;
        }
        if !is_there(LAYOUT_FILE) {
            // Last: it says that the rest is there.
            layout.replace(LAYOUT_FILE, b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        }
        Ok(layout)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the directory away if no image is in it and nobody is about to put one there, for a conversion
    /// that failed.
    pub fn remove_if_empty(&self) {
        let Ok(_lock) = self.lock(LOCK, FlockOperation::NonBlockingLockExclusive) else {
            return;
        };
        let Ok(_index) = self.lock_index() else {
            return;
        };
        let empty = self.index().is_ok_and(|index| index.is_empty());
        let blobs = names_of(&self.blobs).unwrap_or_default();
        if !empty || !blobs.is_empty() {
            return;
        }
        let remove = |dir: &OwnedFd, name: &str, flags| {
            let _ = rustix::fs::unlinkat(dir, name, flags);
        };
        // A directory that holds anything else stays.
        remove(&self.root, BLOBS, AtFlags::REMOVEDIR);
        remove(&self.root, "blobs", AtFlags::REMOVEDIR);
        remove(&self.root, INDEX_FILE, AtFlags::empty());
        remove(&self.root, LAYOUT_FILE, AtFlags::empty());
        if let Ok(private) = sub_dir(&*self.root, PRIVATE) {
            for name in [TABLE, LOCK, INDEX_LOCK] {
                remove(&private, name, AtFlags::empty());
            }
        }
        remove(&self.root, PRIVATE, AtFlags::REMOVEDIR);
        let _ = fs::remove_dir(&self.dir);
    }

    /// The path of a blob, there or not, for messages.
    pub(super) fn blob(&self, digest: &Sha256Digest) -> PathBuf {
        self.dir.join(BLOBS).join(digest.hex())
    }

    /// A file by its name in the layout.
    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        match name.strip_prefix("blobs/sha256/") {
            Some(digits) => open_file(&*self.blobs, digits, false),
            None => open_file(&*self.root, name, false),
        }
    }

    /// A blob as a file.
    pub(super) fn open_blob(&self, digest: &Sha256Digest) -> io::Result<File> {
        open_file(&*self.blobs, digest.hex(), false)
    }

    /// A new file among the blobs.
    pub(super) fn output(&self, name: &str) -> Result<Output, ImageError> {
        let path = self.dir.join(BLOBS).join(name);
        Ok(Output::create_in(&self.blobs, &path)?)
    }

    /// Keeps blobs from being taken away while the lock lives. The directory is made again if a conversion
    /// that failed has taken it away.
    pub(super) fn hold(&self) -> Result<(Self, Lock), ImageError> {
        let mut layout = self.clone();
        for _ in 0..MAKE_MAX {
            if let Ok(lock) = layout.lock(LOCK, FlockOperation::LockShared)
                && layout.is_in_place(&lock)
            {
                return Ok((layout, lock));
            }
            layout = Self::create(&self.dir)?;
        }
        // Says why.
        let lock = layout.lock(LOCK, FlockOperation::LockShared)?;
        Ok((layout, lock))
    }

    /// Whether the opened directories and the lock are those that the path leads to.
    fn is_in_place(&self, lock: &Lock) -> bool {
        let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let here = |fd: &OwnedFd| rustix::fs::fstat(fd).map(id).ok();
        let Ok(now) = Self::open(&self.dir) else {
            return false;
        };
        let named = sub_dir(&*now.root, PRIVATE).and_then(|private| {
            Ok(rustix::fs::statat(
                &private,
                LOCK,
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        });
        here(&now.root) == here(&self.root)
            && here(&now.blobs) == here(&self.blobs)
            && named.map(id).ok() == rustix::fs::fstat(&lock.0).map(id).ok()
    }

    pub(super) fn lock_index(&self) -> Result<Lock, ImageError> {
        self.lock(INDEX_LOCK, FlockOperation::LockExclusive)
    }

    /// Takes a lock. Nobody but the owner can open its file, so nobody else can hold it.
    pub(super) fn lock(&self, name: &str, how: FlockOperation) -> Result<Lock, ImageError> {
        let path = self.dir.join(PRIVATE).join(name);
        let fail = |errno: rustix::io::Errno| ImageError::io("lock", &path, errno);
        let private = self.private()?;
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&private, name, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(file.map_err(fail)?);
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ImageError::bad(
                path.display().to_string(),
                "is not a regular file",
            ));
        }
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        }
        self.give_to_owner(&file).map_err(fail)?;
        loop {
            match rustix::fs::flock(&file, how) {
                Ok(()) => return Ok(Lock(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
    }

    /// The directory of what is ours, made where it is missing.
    fn private(&self) -> Result<OwnedFd, ImageError> {
        let path = self.dir.join(PRIVATE);
        let fail = |e: io::Error| ImageError::io("make", &path, e);
        match rustix::fs::mkdirat(&*self.root, PRIVATE, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&*self.root, PRIVATE, flags, Mode::empty())
                    .and_then(|fd| self.give_to_owner(&fd));
                made.map_err(|e| fail(e.into()))?;
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno.into())),
        }
        let private = sub_dir(&*self.root, PRIVATE).map_err(fail)?;
        let stat = rustix::fs::fstat(&private).map_err(|e| fail(e.into()))?;
        let root = rustix::fs::fstat(&*self.root).map_err(|e| fail(e.into()))?;
        if !is_own(&stat) && stat.st_uid != root.st_uid || stat.st_mode & 0o022 != 0 {
            let reason = "others can write to it: remove it, `varve` makes it again";
            return Err(ImageError::bad(path.display().to_string(), reason));
        }
        Ok(private)
    }

    /// What root makes in the store of somebody else is theirs, so that they can go on using it.
    fn give_to_owner(&self, fd: impl rustix::fd::AsFd) -> rustix::io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let root = rustix::fs::fstat(&*self.root)?;
        let stat = rustix::fs::fstat(&fd)?;
        if (stat.st_uid, stat.st_gid) == (root.st_uid, root.st_gid) {
            return Ok(());
        }
        let owner = rustix::fs::Uid::from_raw(root.st_uid);
        let group = rustix::fs::Gid::from_raw(root.st_gid);
        rustix::fs::fchown(fd, Some(owner), Some(group))
    }

    /// What was converted to what; nothing where there is no such table, or others than root and the caller
    /// can write to it.
    pub(super) fn table(&self) -> Table {
        let read = || -> io::Result<Table> {
            let private = sub_dir(&*self.root, PRIVATE)?;
            let file = open_file(&private, TABLE, false)?;
            for stat in [rustix::fs::fstat(&private)?, rustix::fs::fstat(&file)?] {
                if !is_own(&stat) || stat.st_mode & 0o022 != 0 {
                    return Ok(Table::default());
                }
            }
            Ok(Table::parse(&read_small(file, TABLE_MAX)?))
        };
        read().unwrap_or_default()
    }

    /// Changes the table under the lock of the index.
    pub(super) fn change_table(&self, change: impl FnOnce(&mut Table)) -> Result<(), ImageError> {
        let mut table = self.table();
        let before = table.clone();
        change(&mut table);
        if table == before {
            return Ok(());
        }
        let private = self.private()?;
        write_small(&private, &private, TABLE, &table.bytes())
            .map_err(|e| ImageError::io("write", self.dir.join(PRIVATE).join(TABLE), e))
    }

    fn value(&self) -> Result<Value, ImageError> {
        let bytes = Files::Own(self.clone()).document(INDEX_FILE)?;
        parse(&self.dir.join(INDEX_FILE).display().to_string(), &bytes)
    }

    /// What `index.json` lists.
    pub(super) fn index(&self) -> Result<Vec<Listed>, ImageError> {
        let value = self.value()?;
        match value.get("manifests").and_then(Value::as_array) {
            Some(list) => Ok(list.iter().map(Listed::of).collect()),
            None => Err(ImageError::bad(
                self.dir.join(INDEX_FILE).display().to_string(),
                "is malformed: it has no list `manifests`",
            )),
        }
    }

    /// Writes the list back; what is not understood stays as it is.
    pub(super) fn write_index(&self, list: Vec<Listed>) -> Result<(), ImageError> {
        let mut value = self.value()?;
        let list = list.into_iter().map(|listed| listed.value).collect();
        if let Some(index) = value.as_object_mut() {
            index.insert("manifests".into(), Value::Array(list));
        }
        self.replace(INDEX_FILE, value.to_string().as_bytes())
    }

    /// Replaces a small file in one step, which a power cut does not halve.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        write_small(&self.blobs, &self.root, name, bytes)
            .map_err(|e| ImageError::io("write", self.dir.join(name), e))
    }

    /// Stores a small blob; whether it is new.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<(Sha256Digest, bool), ImageError> {
        let digest = Sha256Digest::of(bytes);
        let there = self
            .open_blob(&digest)
            .and_then(|file| read_small(file, DOCUMENT_MAX))
            .is_ok_and(|there| there == bytes);
        if !there {
            let output = self.output(&digest.hex())?;
            output.write_at(0, bytes)?;
            output.commit()?;
        }
        Ok((digest, !there))
    }

    /// Gives an image a name, which any other image loses, and notes what was made for it. What it is made of
    /// is on the disk before; only if there are new blobs the disk has to be asked.
    pub(super) fn add(
        &self,
        name: &str,
        mut descriptor: Descriptor,
        new_blobs: bool,
        note: impl FnOnce(&mut Table),
    ) -> Result<(), ImageError> {
        let annotations = [(REF_NAME.to_owned(), name.to_owned())].into();
        descriptor.set_annotations(Some(annotations));
        let value = serde_json::to_value(&descriptor).unwrap_or_default();
        let _lock = self.lock_index()?;
        self.change_table(note)?;
        let mut list = self.index()?;
        let same = |other: &Listed| other.name() == Some(name) && other.value == value;
        if !new_blobs
            && list
                .iter()
                .filter(|other| other.name() == Some(name))
                .all(same)
            && list.iter().any(same)
        {
            return Ok(());
        }
        sync_dir(&*self.blobs).map_err(|e| ImageError::io("write", self.dir.join(BLOBS), e))?;
        list.retain(|other| other.name() != Some(name));
        list.push(Listed::of(&value));
        self.write_index(list)
    }

    /// An image by its name, with `:latest` added if need be, or the beginning of its digest; without a name
    /// the only one there is.
    ///
    /// # Errors
    /// None or several of that name; an image that cannot be read.
    pub fn image(&self, name: Option<&str>) -> Result<ContainerImage, ImageError> {
        let list = self.index()?;
        let at = self.position(&list, name)?;
        match &list[at].descriptor {
            Ok(descriptor) => ContainerImage::read(self, descriptor, &self.table()),
            Err(reason) => {
                let what = format!("{} in {}", name.unwrap_or("the image"), self.dir.display());
                Err(ImageError::bad(what, reason))
            }
        }
    }

    pub(super) fn position(
        &self,
        list: &[Listed],
        name: Option<&str>,
    ) -> Result<usize, ImageError> {
        let known = || {
            list.iter()
                .filter_map(|listed| listed.descriptor.as_ref().ok())
        };
        let Some(name) = name else {
            if let [_] = list {
                return Ok(0);
            }
            let latest = |listed: &Listed| listed.name() == Some("latest");
            return list.iter().position(latest).ok_or_else(|| {
                let reason = match list.len() {
                    0 => "holds no image".to_owned(),
                    n => format!("holds {n} images, say which one{}", names(known())),
                };
                ImageError::bad(self.dir.display().to_string(), reason)
            });
        };
        let latest = format!("{name}:latest");
        let named = |wanted: &str| list.iter().position(|listed| listed.name() == Some(wanted));
        if let Some(at) = named(name).or_else(|| named(&latest)) {
            return Ok(at);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let begins = |listed: &Listed| {
                let digest = listed.digest();
                digest == name
                    || digest
                        .strip_prefix("sha256:")
                        .is_some_and(|found| found.starts_with(digits))
            };
            let mut found = list.iter().enumerate().filter(|(_, listed)| begins(listed));
            if let Some((at, first)) = found.next() {
                if found.any(|(_, listed)| listed.digest() != first.digest()) {
                    let what = format!("{name} in {}", self.dir.display());
                    return Err(ImageError::bad(
                        what,
                        "several images begin with these digits; give more of them",
                    ));
                }
                return Ok(at);
            }
        }
        Err(ImageError::NotFound {
            what: format!("{name} in {}", self.dir.display()),
            hint: names(known()),
        })
    }
}

/// Whether a file is owned by root or the caller.
fn is_own(stat: &rustix::fs::Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw()
}

/// The names in a directory.
pub(super) fn names_of(dir: impl rustix::fd::AsFd) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Writes a file in one directory and moves it to another, all of it on the disk at each step. It gets mode
/// 0644 less the umask.
fn write_small(work: &OwnedFd, to: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{TEMPORARY}{name}.{}", std::process::id());
    // What a killed process of the same number left; the lock keeps others of this one away.
    let _ = rustix::fs::unlinkat(work, &temporary, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(work, &temporary, flags, Mode::from_raw_mode(0o644))?;
    let mut file = File::from(file);
    let done = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(rustix::fs::renameat(work, &temporary, to, name)?));
    if done.is_err() {
        let _ = rustix::fs::unlinkat(work, &temporary, AtFlags::empty());
    }
    done?;
    sync_dir(to)
}

pub(super) fn check_version(what: &str, bytes: &[u8]) -> Result<(), ImageError> {
    let value: Value = parse(what, bytes)?;
    let version = value.get("imageLayoutVersion").and_then(Value::as_str);
    match version {
        Some(version) if version.starts_with("1.") => Ok(()),
        _ => Err(ImageError::bad(
            what,
            "names no version of the image layout that is known (1.x)",
        )),
    }
}

pub(super) fn is_index(kind: &MediaType) -> bool {
    match kind {
        MediaType::ImageIndex => true,
        MediaType::Other(name) => {
            name == "application/vnd.docker.distribution.manifest.list.v2+json"
        }
        _ => false,
    }
}

/// The name of an image in its layout.
pub(super) fn reference(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(REF_NAME).map(String::as_str)
}

/// The names there are, for a hint.
pub(super) fn names<'a>(manifests: impl IntoIterator<Item = &'a Descriptor>) -> String {
    let mut names: Vec<_> = manifests.into_iter().filter_map(reference).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    match (names.as_slice(), more) {
        ([], _) => String::new(),
        (names, 0) => format!("; there is {}", names.join(", ")),
        (names, more) => format!("; there is {} and {more} more", names.join(", ")),
    }
}

/// JSON with sorted keys: the same value gives the same bytes.
pub(super) fn canonical<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.to_string().into_bytes()
}
