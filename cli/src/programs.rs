//! Programs of this machine and the shared libraries they need, found by reading the ELF files as the dynamic
//! loader does.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// Where the dynamic loaders of the common distributions look.
const LIBRARY_DIRS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
];

/// The file that a program name stands for, without symbolic links.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    let file = found.ok_or_else(|| anyhow!("{name}: not found in PATH"))?;
    file.canonicalize()
        .with_context(|| file.display().to_string())
}

/// Paths of everything that a program loads: its interpreter and all libraries, each where the loader finds
/// it.
pub(crate) fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut open = vec![program.to_path_buf()];
    while let Some(file) = open.pop() {
        let needs = Needs::read(&file).with_context(|| file.display().to_string())?;
        if let Some(interpreter) = needs.interpreter {
            found.insert(interpreter);
        }
        for name in needs.libraries {
            let dirs = needs
                .dirs
                .iter()
                .cloned()
                .chain(LIBRARY_DIRS.iter().map(PathBuf::from));
            let library = dirs
                .map(|dir| dir.join(&name))
                .find(|path| path.is_file())
                .ok_or_else(|| {
                    anyhow!(
                        "{} needs {name}, which is in no library directory",
                        file.display()
                    )
                })?;
            if found.insert(library.clone()) {
                open.push(library);
            }
        }
    }
    Ok(found)
}

/// What one ELF file names.
#[derive(Default)]
struct Needs {
    interpreter: Option<PathBuf>,
    libraries: Vec<String>,
    /// `DT_RUNPATH` and `DT_RPATH`.
    dirs: Vec<PathBuf>,
}

impl Needs {
    fn read(file: &Path) -> Result<Needs> {
        let data = std::fs::read(file)?;
        let data = data.as_slice();
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let mut needs = Needs::default();
        let segments = header.program_headers(endian, data)?;
        for segment in segments {
            if segment.p_type(endian) == PT_INTERP {
                let bytes = segment
                    .data(endian, data)
                    .map_err(|()| anyhow!("a segment lies outside the file"))?;
                let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
                needs.interpreter = Some(PathBuf::from(std::ffi::OsStr::from_bytes(text)));
            }
        }
        let sections = header.sections(endian, data)?;
        let Some((entries, strings)) = sections.dynamic(endian, data)? else {
            return Ok(needs);
        };
        let strings = sections.strings(endian, data, strings)?;
        let origin = file
            .canonicalize()?
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for entry in entries {
            let text = || -> Result<String> {
                let text = entry.string(endian, strings)?;
                Ok(String::from_utf8_lossy(text).into_owned())
            };
            match entry.d_tag(endian) {
                DT_NEEDED => needs.libraries.push(text()?),
                DT_RUNPATH | DT_RPATH => {
                    let origin = origin.display().to_string();
                    let dirs = text()?
                        .replace("${ORIGIN}", &origin)
                        .replace("$ORIGIN", &origin);
                    needs.dirs.extend(
                        dirs.split(':')
                            .filter(|dir| !dir.is_empty())
                            .map(PathBuf::from),
                    );
                }
                _ => {}
            }
        }
        Ok(needs)
    }
}
