//! Converting from every form, running, looking in.

use super::*;

#[test]
fn every_form_converts_to_the_same_layers_and_runs() {
    let Some(fixture) = fixture() else { return };
    let source = format!("oci:{}:v1", fixture.path("src").display());
    let archives = [
        ("docker-archive", fixture.path("docker.tar")),
        ("oci-archive", fixture.path("oci.tar")),
    ];
    let expected = digests(fixture, &fixture.path("image"));
    assert_eq!(expected.len(), 6);
    let mut sources = vec![fixture.path("src").into_os_string()];
    for (kind, path) in &archives {
        let target = format!("{kind}:{}:app:v1", path.display());
        ok(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &source, &target]));
        sources.push(format!("{kind}:{}", path.display()).into());
    }
    for (number, source) in sources.iter().enumerate() {
        let out = fixture.path(&format!("form{number}"));
        fixture.ok(&[&"convert", source, &out]);
        assert_eq!(digests(fixture, &out), expected, "{source:?}");
    }

    // The Engine's API, of which the conversion needs one answer.
    let socket = fixture.path("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let archive = archives[0].1.clone();
    let server = std::thread::spawn(move || {
        for answer in [true, false] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            assert!(request.starts_with("GET /images/app:v1/get HTTP/1."));
            if answer {
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
                io::copy(&mut File::open(&archive).unwrap(), &mut stream).unwrap();
            } else {
                let body = r#"{"message":"No such image: app:v1"}"#;
                write!(stream, "HTTP/1.0 404 Not Found\r\n\r\n{body}").unwrap();
            }
        }
    });
    let out = fixture.path("daemon");
    let mut command = Command::new(&fixture.varve);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    command.args(["convert", "docker-daemon:app:v1"]).arg(&out);
    ok(&mut command);
    assert_eq!(digests(fixture, &out), expected);
    let refused = run(command.arg("--json"));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.contains("No such image: app:v1 (HTTP status 404)"),
        "{text}"
    );
    assert_eq!(refused.status.code(), Some(125));
    server.join().unwrap();

    // Others read what was made.
    let text = ok(Command::new("skopeo")
        .arg("inspect")
        .arg(format!("oci:{}", out.display())));
    let value: Value = serde_json::from_slice(&text.stdout).unwrap();
    assert_eq!(value["Layers"].as_array().unwrap().len(), 6);
    ok(Command::new("umoci")
        .args(["stat", "--image"])
        .arg(format!("{}:latest", out.display())));

    // It runs as its configuration says, and otherwise.
    let image = fixture.path("image");
    assert_eq!(fixture.ok(&[&"do", &"--image", &image]), "from the image\n");
    let text = fixture.ok(&[
        &"do",
        &"--image",
        &image,
        &"--",
        &"python3",
        &"-c",
        &"import os, json, sqlite3; print(os.getcwd(), os.environ['PATH'])",
    ]);
    assert_eq!(text, "/srv /usr/bin:/bin\n");
    let store = fixture.path("store");
    fixture.ok(&[&"convert", &"--store", &store, &image, &"debian:six"]);
    let text = fixture.ok(&[
        &"do",
        &"--store",
        &store,
        &"--image",
        &"debian:six",
        &"--workdir",
        &"/",
        &"--",
        &"ls",
        &"srv",
    ]);
    assert!(text.contains("large-id\n"), "{text}");
    let text = fixture.ok(&[&"images", &"--store", &store]);
    assert!(text.contains("debian:six"), "{text}");
    fixture.ok(&[&"rmi", &"--store", &store, &"debian:six"]);
    assert_eq!(fs::read_dir(store.join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn stacks_are_looked_into() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.path("image");
    let json = |args: &[&dyn AsRef<OsStr>]| -> Value {
        serde_json::from_str(&fixture.ok(args)).expect("JSON")
    };
    let names = fixture.ok(&[&"ls", &image, &"/srv/sub", &"/media"]);
    assert_eq!(names, "/srv/sub:\n\n/media:\nnew\n");
    let long = fixture.ok(&[&"ls", &"-lh", &image, &"srv/data"]);
    assert!(
        long.starts_with("-rw-r--r-- 2 1000 users 69K 2023-11-14 22:13 /srv/data"),
        "{long}"
    );
    assert_eq!(
        fixture.ok(&[&"cat", &image, &"/media/new", &"app/data/../../media/new"]),
        "new\nnew\n"
    );
    let which = fixture.ok(&[&"which-layer", &image, &"/media/new", &"/etc/motd"]);
    let numbers: Vec<_> = which.lines().map(|line| &line[..2]).collect();
    assert_eq!(numbers, ["5 ", "3 "]);
    let all = json(&[&"which-layer", &"--all", &"--json", &image, &"/etc/motd"]);
    let layers: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["layer"])
        .collect();
    assert_eq!(layers, [3, 0]);
    let gone = fixture.varve(&[&"which-layer", &image, &"/srv/sub/gone"]);
    assert_eq!(gone.status.code(), Some(1));
    let text = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(text.contains("a layer above takes it away"), "{text}");
    let check = json(&[&"check", &"--json", &image]);
    let files = check.as_array().unwrap();
    assert_eq!(files.len(), 7);
    for file in files {
        assert_eq!(
            (&file["good"], &file["digest"]),
            (&true.into(), &"right".into()),
            "{file}"
        );
    }
    for args in [
        vec!["ls", "-lR", "--json"],
        vec!["tree", "--json"],
        vec!["du", "--json", "--twice"],
        vec!["inspect", "--json"],
    ] {
        let mut list: Vec<&dyn AsRef<OsStr>> = Vec::new();
        for arg in &args {
            list.push(arg);
        }
        list.push(&image);
        json(&list);
    }
    let stat = json(&[&"stat", &"--json", &image, &"/srv/twin"]);
    assert_eq!(
        (&stat[0]["nlink"], &stat[0]["size"]),
        (&2.into(), &70000.into())
    );
    let missing = fixture.varve(&[&"cat", &image, &"/nowhere", &"/media/new"]);
    assert_eq!(
        (missing.status.code(), &missing.stdout[..]),
        (Some(1), &b"new\n"[..])
    );
    // Stacks of files, too.
    let layers = fixture.layers(&image);
    let pair = format!("{},{}", layers[0].display(), layers[5].display());
    assert_eq!(fixture.ok(&[&"ls", &pair, &"/media"]), "new\n");
    let diff = fixture.varve(&[&"diff", &layers[0], &pair]);
    assert_eq!(diff.status.code(), Some(1));
    let lines = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert!(lines.contains("A /media/new\n"), "{lines}");
    assert!(lines.contains("C /media (mode)\n"), "{lines}");
    let trouble = fixture.varve(&[&"diff", &"/nowhere", &pair]);
    assert_eq!(trouble.status.code(), Some(2));
}

/// Runs a command whose standard output and error are a terminal; all that came out.
fn on_a_terminal(command: &mut Command) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let slave = |fd: &std::os::fd::OwnedFd| Stdio::from(fd.try_clone().unwrap());
    command.stdout(slave(&pty.slave)).stderr(slave(&pty.slave));
    let mut child = command
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .spawn()
        .unwrap();
    // The terminal ends with its last user.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    drop(pty.slave);
    let mut text = Vec::new();
    // At its end it is an error.
    let _ = File::from(pty.master).read_to_end(&mut text);
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn progress_and_colours_are_for_terminals() {
    let Some(fixture) = fixture() else { return };
    let source = format!("oci:{}:v1", fixture.path("src").display());
    let convert = |name: &str| {
        let mut command = Command::new(&fixture.varve);
        command.arg("convert").arg(&source).arg(fixture.path(name));
        command
    };
    // A bar for each layer and one for all of them.
    let text = on_a_terminal(&mut convert("terminal"));
    assert!(text.contains("all layers"), "{text:?}");
    assert!(
        text.contains('\u{2588}') && text.contains("\x1b["),
        "{text:?}"
    );
    assert!(!text.contains("converted\r\n"), "{text:?}");
    // Elsewhere one line for each.
    let output = ok(&mut convert("pipe"));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    for line in text.lines() {
        assert!(
            line.starts_with("varve: layer ") && line.ends_with(": converted"),
            "{line}"
        );
    }

    let image = fixture.path("image");
    let ls = || {
        let mut command = Command::new(&fixture.varve);
        command.arg("ls").arg(&image).arg("/");
        command
    };
    let text = on_a_terminal(&mut ls());
    assert!(text.contains("\x1b[1;34metc\x1b[0m"), "{text:?}");
    assert!(text.contains("\x1b[1;36mbin\x1b[0m"), "{text:?}");
    let piped = ok(&mut ls());
    assert!(!piped.stdout.contains(&0x1b));

    // What is in files and what was taken out, for programs.
    let text = fixture.ok(&[&"cat", &"--json", &image, &"/media/new", &"/usr/bin/env"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&value[0]["path"], &value[0]["text"]),
        (&"/media/new".into(), &"new\n".into())
    );
    let hex = value[1]["hex"].as_str().unwrap();
    assert!(hex.starts_with("7f454c46"));
    assert_eq!(hex.len() as u64, 2 * value[1]["size"].as_u64().unwrap());
    let target = fixture.path("taken");
    let text = fixture.ok(&[
        &"extract",
        &"--json",
        &image,
        &"/srv/sub",
        &"/srv/data",
        &"-o",
        &target,
    ]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&value["files"], &value["bytes"], &value["complete"]),
        (&1.into(), &70000.into(), &true.into())
    );
}
