//! The configuration of a program on this machine.

use std::fs::File;
use std::io::{self, Read};

use varve_core::boot::{BootConfig, DEFAULT_CAPABILITIES, Init, Stdio, Tree, User};

/// A configuration that runs a program (found through `PATH` if its name has no slash) with these arguments,
/// the first of which is its name: as root of the sandbox with the capabilities that root has in a container,
/// in `/`, with `PATH` alone in the environment, and with the processors and random bytes of this machine.
/// Its root is empty: a [`Builder`](crate::Builder) adds layers.
///
/// # Errors
/// There are no random bytes.
pub fn program<A: Into<Vec<u8>>>(args: impl IntoIterator<Item = A>) -> io::Result<BootConfig> {
    let args = args.into_iter().map(Into::into).collect();
    Ok(BootConfig {
        root: Tree::default(),
        mounts: Vec::new(),
        init: Init::Exec { args },
        env: vec![b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_vec()],
        cwd: b"/".to_vec(),
        user: User::Ids {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
        capabilities: DEFAULT_CAPABILITIES,
        hostname: "varve".into(),
        seed: seed()?,
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
        memory_limit: None,
        threads_max: u32::MAX,
        lowest_address: 0,
        stdio: [Stdio::Null; 3],
        strace: None,
        cpuinfo: cpuinfo(),
        vdso: true,
    })
}

/// Random bytes from the host: the only randomness of a run.
///
/// # Errors
/// The host has none.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

/// The first processor of `/proc/cpuinfo`, without its number.
fn cpuinfo() -> Vec<u8> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default();
    let lines = first.lines().filter(|line| !line.starts_with("processor"));
    lines
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .into_bytes()
}
