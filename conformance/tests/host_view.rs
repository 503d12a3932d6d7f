//! What a sandbox over the host's root sees of the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::XattrFlags;
use varve_conformance::{platforms, skip, varve};

/// Standard output and standard error.
fn printed(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn homes_and_variables_of_the_caller_stay_out() {
    let script = "find /home /root /run -mindepth 1; echo \"$LC_TEST $VARVE_TEST_KEY$OTHER\"";
    let sandbox = |more: &[&str]| {
        let mut command = Command::new(varve().unwrap());
        command
            .arg("do")
            .args(more)
            .args(["--", "sh", "-c", script]);
        command.current_dir("/").env("HOME", "/none");
        command
            .env("LC_TEST", "passes")
            .env("VARVE_TEST_KEY", "key");
        printed(&mut command)
    };
    assert_eq!(sandbox(&[]).0, "passes \n");
    assert_eq!(sandbox(&["-e", "VARVE_TEST_KEY"]).0, "passes key\n");
    assert_eq!(sandbox(&["-e", "OTHER=x"]).0, "passes x\n");
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = sandbox(&["--show", "/", "--layer", dir.path().to_str().unwrap()]);
    assert!(out.is_empty() && err.contains("--show"), "{err}");
}

#[test]
fn a_list_of_who_may_do_what_holds_for_the_user_of_a_sandbox() {
    const USER: u32 = 1000;
    if !rustix::process::geteuid().is_root() {
        return skip("ACLs for another user", "needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 0, USER),
        (4, 4, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 4, u32::MAX),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(perm.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let name = "system.posix_acl_access";
    if rustix::fs::setxattr(&file, name, &value, XattrFlags::empty()).is_err() {
        return skip("ACLs", "the file system of temporary files has none");
    }
    let native = |user: u32| {
        let mut command = Command::new("cat");
        printed(command.arg(&file).uid(user).gid(user)).0
    };
    for platform in platforms(&varve().unwrap()) {
        for user in [USER, USER + 1] {
            let mut command = Command::new(varve().unwrap());
            let who = format!("{user}:{user}");
            command.args(["do", "--platform", &platform, "--user", &who]);
            let (out, err) = printed(command.args(["--", "cat"]).arg(&file));
            assert_eq!(out, native(user), "{platform} {user}: {err}");
            assert_eq!(out.is_empty(), user == USER);
        }
    }
}
