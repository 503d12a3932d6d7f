//! Runs a program of a layer in a sandbox, and keeps what it writes.
//!
//!     cargo run -p varve-sandbox --example embed

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use varve_image::{BuildOptions, build_dir};
use varve_sandbox::{ExitStatus, Layer, Limits, Sandbox, program};

fn main() -> anyhow::Result<()> {
    // A layer with one script, as an image file.
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    let script = "#!/bin/sh\n\
        echo \"hello from $(cat /proc/sys/kernel/hostname), process $$, to $1\"\n\
        echo nobody > /etc/passwd && cat /etc/passwd\n";
    fs::write(root.join("hello"), script)?;
    fs::set_permissions(root.join("hello"), Permissions::from_mode(0o755))?;
    let image = dir.path().join("hello.img");
    build_dir(&root, &image, &BuildOptions::default(), &mut ())?;

    // It lies on the root of this machine, of which the sandbox changes nothing: writes go to memory.
    let mut config = program(["/hello", "the world outside"])?;
    config.hostname = "sandbox".into();
    let output = Sandbox::builder(config)
        .layers([Layer::directory("/"), Layer::image(&image)])
        .limits(Limits {
            memory: Some(256 << 20),
            threads: Some(100),
        })
        .output()?;

    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status, ExitStatus::Exited(0));
    let expected = "hello from sandbox, process 1, to the world outside\nnobody\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    Ok(())
}
