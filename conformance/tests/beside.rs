//! What one process does keeps no other one waiting: beside calls on very many things (`guests/beside.c`) the
//! longest getppid(2) of another process stays short.

use std::process::Command;

use varve_conformance::{build_guest, build_image, platforms, run, skip, varve};

/// Far more than it takes, in milliseconds, because other tests may have the processors. One piece of such a
/// call took seconds.
const LONGEST: u64 = 1000;

#[test]
fn others_get_on_beside_long_calls() {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    if let Err(reason) = build_guest("beside.c", &layer.join("beside")) {
        return skip("beside", &reason);
    }
    let (varve, image) = (varve().unwrap(), dir.path().join("layer.img"));
    build_image(&varve, &layer, &image);
    for platform in &platforms(&varve) {
        let mut command = Command::new(&varve);
        command.args(["do", "--platform", platform, "--privileged"]);
        command.args(["--mount", "type=tmpfs,dst=/tmp,mode=1777", "--layer"]);
        command.arg(&image).args(["--", "/beside"]);
        let output = run(&mut command);
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{platform}: {text}{errors}");
        let mut lines = 0;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, longest, _, status] = words[..] else {
                panic!("{platform}: {line}");
            };
            assert_eq!(status, "0", "{platform}: {text}{errors}");
            let longest: u64 = longest.parse().unwrap();
            assert!(
                longest < LONGEST,
                "{name} on {platform}: {longest} ms\n{text}"
            );
            lines += 1;
        }
        assert!(lines > 8, "{platform}: {text}");
    }
}
