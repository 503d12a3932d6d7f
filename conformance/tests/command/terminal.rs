//! Nothing of an image reaches a terminal as it is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::{ExitStatus, Stdio};

use sha2::{Digest, Sha256};

use super::*;

/// Sets the title of a terminal.
const ESCAPE: &str = "\x1b]0;title\x07";
/// The same by C1, a mark that reorders text, a character that ends a line, a DEL.
const OTHERS: &str = "\u{9b}31m\u{202e}\u{2028}\u{7f}";

/// What varve writes to a terminal of so many columns that is its standard output and error, and how it
/// ended.
pub(super) fn on_terminal(place: &Place, columns: u16, args: &[&OsStr]) -> (Vec<u8>, ExitStatus) {
    let size = nix::pty::Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let ends = nix::pty::openpty(&size, None).unwrap();
    let mut command = place.command(&[]);
    command
        .args(args)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    let slave = File::from(ends.slave);
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut master = File::from(ends.master);
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    // The end is an error of this side (EIO) when the last one at the other side is gone.
    while let Ok(len @ 1..) = master.read(&mut part) {
        seen.extend_from_slice(&part[..len]);
    }
    let status = child.wait().unwrap();
    (seen, status)
}

fn is_harmless(seen: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(seen) else {
        return false;
    };
    text.chars().all(|c| match c {
        '\r' | '\n' => true,
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            false
        }
        c => !c.is_control(),
    })
}

/// Puts JSON into an OCI layout and gives its digest.
fn blob(place: &Place, layout: &str, value: &serde_json::Value) -> (String, usize) {
    let bytes = value.to_string();
    let hex = hex::encode(Sha256::digest(&bytes));
    fs::write(place.at(layout).join("blobs/sha256").join(&hex), &bytes).unwrap();
    (format!("sha256:{hex}"), bytes.len())
}

fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn what_images_hold_is_escaped_everywhere() {
    let place = Place::new();
    let hostile = format!("{ESCAPE}{OTHERS}");
    let raw = b"raw\x9b31m\xff";
    fs::create_dir(place.at("tree")).unwrap();
    let tree = place.at("tree");
    let at = |prefix: &str| tree.join(format!("{prefix}{hostile}"));
    fs::create_dir(at("d")).unwrap();
    fs::write(at("f"), "x").unwrap();
    fs::write(at("g"), "x").unwrap();
    fs::write(tree.join(OsStr::from_bytes(raw)), "x").unwrap();
    std::os::unix::fs::symlink(format!("target{hostile}"), tree.join("link")).unwrap();
    place.ok(&["build", "tree", "-o", "layer.img"]);
    fs::remove_file(at("f")).unwrap();
    place.ok(&["build", "tree", "-o", "other.img"]);

    // An image whose configuration, name and environment are hostile, too.
    place.ok(&["convert", "dir:tree", "./image"]);
    let blobs = place.at("image/blobs/sha256");
    let mut index = read_json(&place.at("image/index.json"));
    let digest = |value: &serde_json::Value| value["digest"].as_str().unwrap()[7..].to_owned();
    let mut manifest = read_json(&blobs.join(digest(&index["manifests"][0])));
    let mut config = read_json(&blobs.join(digest(&manifest["config"])));
    for key in ["author", "created"] {
        config[key] = hostile.clone().into();
    }
    config["config"] = serde_json::json!({
        "Env": [format!("A={hostile}\nB=2")],
        "Labels": { format!("l{hostile}"): format!("v{hostile}\nforged: line") },
        "Cmd": [format!("/none{hostile}")],
        "WorkingDir": format!("/w{hostile}"),
        "User": format!("u{hostile}"),
    });
    let (name, size) = blob(&place, "image", &config);
    manifest["config"]["digest"] = name.into();
    manifest["config"]["size"] = size.into();
    let (name, size) = blob(&place, "image", &manifest);
    let entry = &mut index["manifests"][0];
    entry["digest"] = name.into();
    entry["size"] = size.into();
    entry["annotations"] =
        serde_json::json!({ "org.opencontainers.image.ref.name": format!("n{hostile}") });
    fs::write(place.at("image/index.json"), index.to_string()).unwrap();

    let path = format!("/g{hostile}");
    let missing = format!("/none{hostile}");
    let option = format!("--none{hostile}");
    let list: &[&[&str]] = &[
        &["ls", "-lR", "layer.img"],
        &["ls", "--json", "-R", "layer.img"],
        &["ls", "layer.img", &missing],
        &["tree", "layer.img"],
        &["tree", "--json", "layer.img"],
        &["du", "--twice", "layer.img"],
        &["du", "--json", "--twice", "layer.img"],
        &["stat", "layer.img", &path, "/link", &missing],
        &["stat", "--json", "layer.img", &path, "/link"],
        &["which-layer", "layer.img", &path, &missing],
        &["cat", "layer.img", &missing],
        &["cat", "--json", "layer.img", &path],
        &["diff", "layer.img", "other.img"],
        &["diff", "--json", "layer.img", "other.img"],
        &["extract", "layer.img", &missing, "-o", "out"],
        &["inspect", "./image"],
        &["inspect", "--json", "./image"],
        &["inspect", "oci:./image:none"],
        &["images", "--store", "./image"],
        &["images", "--json", "--store", "./image"],
        &["check", "./image"],
        &["check", "--json", "./image"],
        &["do", "--image", "./image"],
        &["do", "--image", "./image", "--user", "0", "--workdir", "/"],
        &["do", "--layer", "layer.img", "--", "/link"],
        &["do", "--layer", &missing, "--", "/x"],
        &[
            "do",
            "--strace",
            "--",
            "sh",
            "-c",
            "cat \"$0\" 2>/dev/null",
            &missing,
        ],
        &["convert", "oci:./image:none", "./out2"],
        &["ls", &missing],
        &["do", "--mount", &missing, "--", "true"],
        &["mount", &missing, "tmp"],
        &["umount", &missing],
        &["replay", &missing],
        &["ls", &option],
        &[&option],
        &[&hostile],
    ];
    for args in list {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let (seen, _) = on_terminal(&place, 80, &args);
        assert!(!seen.is_empty(), "{args:?}");
        assert!(is_harmless(&seen), "{args:?}: {}", seen.escape_ascii());
    }
    let args = [
        OsStr::new("cat"),
        OsStr::new("layer.img"),
        OsStr::from_bytes(b"/none\x9b"),
    ];
    assert!(is_harmless(&on_terminal(&place, 80, &args).0));

    // What goes out has a name that tools take, and no other.
    for target in ["oci-archive:image.tar", "docker-archive:image.tar"] {
        let output = place.run(&["convert", "./image", target]);
        assert!(
            output.status.success() && is_harmless(&output.stderr),
            "{target}"
        );
        assert!(
            is_harmless(&output.stdout) && !text(&output.stdout).contains("title"),
            "{target}"
        );
    }

    // One line of a label is one line.
    let seen = place.ok(&["inspect", "./image"]);
    assert!(
        !seen.lines().any(|line| line.starts_with("forged")),
        "{seen}"
    );
    // A pipe gets the names that are there; errors are escaped there, too.
    let listed = place.run(&["ls", "layer.img"]).stdout;
    let names: Vec<_> = listed.split(|&byte| byte == b'\n').collect();
    assert!(names.contains(&&raw[..]), "{}", listed.escape_ascii());
    assert!(
        listed
            .windows(ESCAPE.len())
            .any(|part| part == ESCAPE.as_bytes())
    );
    assert!(is_harmless(
        &place.run(&["cat", "layer.img", &missing]).stderr
    ));
    // JSON tells names that are no UTF-8 by their bytes.
    let listed: serde_json::Value =
        serde_json::from_str(&place.ok(&["ls", "--json", "layer.img"])).unwrap();
    let hex: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["path_hex"].as_str())
        .collect();
    assert_eq!(hex, ["2f7261779b33316dff"]);
    let found = listed
        .as_array()
        .unwrap()
        .iter()
        .any(|entry| entry["path"] == path.as_str());
    assert!(found, "{listed}");
}
