//! What people look at: columns, trees, tables, bars, and a page for browsers.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use super::*;

/// What varve shows on a terminal of so many columns.
fn on_terminal(place: &Place, columns: u16, args: &[&str]) -> String {
    let words: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let (seen, status) = terminal::on_terminal(place, columns, &words);
    assert!(status.success(), "{args:?}: {}", text(&seen));
    text(&seen).replace("\r\n", "\n")
}

/// Cells of a line; every character of these tests has one.
fn widest(shown: &str) -> usize {
    shown
        .lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

/// An image of three layers, of which the second replaces a file and the third removes one.
pub(super) fn wasteful(place: &Place) {
    place.file(
        "low/etc/passwd",
        0o644,
        "root:x:0:0::/:\nmaria:x:1000:1000::/:\nevil\x1b[31m:x:7:7::/:\n",
    );
    place.file("low/etc/group", 0o644, "root:x:0:\nstaff:x:1000:\n");
    place.file("low/usr/lib/large", 0o644, "l".repeat(60_000));
    place.file("low/usr/lib/other", 0o644, "o".repeat(20_000));
    place.file("low/usr/share/<b>&\"'name", 0o644, "x");
    place.file("middle/usr/lib/large", 0o644, "m".repeat(10_000));
    place.file("top/usr/lib/.wh.other", 0o644, "");
    let mut layers = Vec::new();
    for name in ["low", "middle", "top"] {
        let image = format!("{name}.img");
        place.ok(&["build", name, "-o", &image]);
        layers.push(format!("erofs:{image}"));
    }
    let mut args = vec!["convert"];
    args.extend(layers.iter().map(String::as_str));
    args.push("./image");
    place.ok(&args);
    // What made them, as builders write it.
    let blobs = place.at("image/blobs/sha256");
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let mut index = read(&place.at("image/index.json"));
    let digest = |value: &serde_json::Value| value["digest"].as_str().unwrap()[7..].to_owned();
    let mut manifest = read(&blobs.join(digest(&index["manifests"][0])));
    let mut config = read(&blobs.join(digest(&manifest["config"])));
    config["created"] = "2001-02-03T04:05:06Z".into();
    config["history"] = serde_json::json!([
        { "created_by": "/bin/sh -c #(nop) ADD file:<script>window.evil=1</script> in /" },
        { "created_by": "/bin/sh -c #(nop) ENV A=b", "empty_layer": true },
        { "created_by": "RUN /bin/sh -c make large # buildkit" },
        { "created_by": "/bin/sh -c rm /usr/lib/other" },
    ]);
    let put = |entry: &mut serde_json::Value, value: &serde_json::Value| {
        use sha2::Digest;
        let bytes = value.to_string();
        let hex = hex::encode(sha2::Sha256::digest(&bytes));
        fs::write(blobs.join(&hex), &bytes).unwrap();
        entry["digest"] = format!("sha256:{hex}").into();
        entry["size"] = bytes.len().into();
    };
    put(&mut manifest["config"], &config);
    put(&mut index["manifests"][0], &manifest);
    fs::write(place.at("image/index.json"), index.to_string()).unwrap();
}

#[test]
fn lists_are_in_columns_on_a_terminal_and_plain_in_a_pipe() {
    let place = Place::new();
    for name in ["bin", "boot", "dev", "etc", "home"] {
        place.file(&format!("tree/{name}"), 0o644, "");
    }
    place.file("tree/sub/deep/file", 0o644, "");
    place.file("tree/sub/last", 0o644, "");
    place.ok(&["build", "tree", "-o", "layer.img"]);
    assert_eq!(
        on_terminal(&place, 80, &["ls", "layer.img"]),
        "bin  boot  dev  etc  home  sub\n"
    );
    assert_eq!(
        on_terminal(&place, 16, &["ls", "layer.img"]),
        "bin   dev  home\nboot  etc  sub\n"
    );
    let plain = "bin\nboot\ndev\netc\nhome\nsub\n";
    assert_eq!(on_terminal(&place, 80, &["ls", "-1", "layer.img"]), plain);
    assert_eq!(place.ok(&["ls", "layer.img"]), plain);
    let tree = "/\n├── bin\n├── boot\n├── dev\n├── etc\n├── home\n└── sub\n    ├── deep\n    │   └── file\n    └── last\n\n\
                2 directories, 7 files\n";
    assert_eq!(place.ok(&["tree", "layer.img"]), tree);
    assert_eq!(on_terminal(&place, 80, &["tree", "layer.img"]), tree);
}

#[test]
fn owners_have_the_names_that_the_image_gives_them() {
    let place = Place::new();
    if !is_root("files of others") {
        return;
    }
    place.file(
        "tree/etc/passwd",
        0o644,
        "root:x:0:0::/:\nmaria:x:1000:1000::/:\nevil\x1b[31m:x:7:7::/:\n",
    );
    place.file("tree/etc/group", 0o644, "root:x:0:\nstaff:x:1000:\n");
    for (name, owner) in [("a", 0), ("b", 1000), ("c", 7), ("d", 12345)] {
        place.file(&format!("tree/home/{name}"), 0o640, "12345");
        std::os::unix::fs::chown(
            place.at(&format!("tree/home/{name}")),
            Some(owner),
            Some(owner),
        )
        .unwrap();
    }
    place.ok(&["build", "tree", "--timestamp", "0", "-o", "layer.img"]);
    let long = "-rw-r----- 1 root  root  5 1970-01-01 00:00 a\n\
                -rw-r----- 1 maria staff 5 1970-01-01 00:00 b\n\
                -rw-r----- 1 7     7     5 1970-01-01 00:00 c\n\
                -rw-r----- 1 12345 12345 5 1970-01-01 00:00 d\n";
    assert_eq!(place.ok(&["ls", "-l", "layer.img", "/home"]), long);
    assert_eq!(
        on_terminal(&place, 80, &["ls", "-l", "layer.img", "/home"]),
        long
    );
    let numbers = place.ok(&["ls", "-n", "layer.img", "/home/b"]);
    assert_eq!(
        numbers,
        "-rw-r----- 1 1000 1000 5 1970-01-01 00:00 /home/b\n"
    );
    let list: serde_json::Value =
        serde_json::from_str(&place.ok(&["ls", "--json", "layer.img", "/home"])).unwrap();
    assert_eq!(
        (&list[1]["user"], &list[1]["group"]),
        (&"maria".into(), &"staff".into())
    );
    assert_eq!(
        (&list[1]["uid"], &list[2]["user"]),
        (&1000.into(), &"7".into())
    );
}

#[test]
fn waste_is_found_told_and_refused() {
    let place = Place::new();
    wasteful(&place);
    let image: serde_json::Value =
        serde_json::from_str(&place.ok(&["inspect", "--json", "./image"])).unwrap();
    let image = &image[0];
    let layers = image["layers"].as_array().unwrap();
    let told: Vec<_> = layers
        .iter()
        .map(|layer| {
            (
                layer["command"].as_str().unwrap(),
                layer["wasted_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("ADD file:<script>window.evil=1</script> in /", 80_000),
            ("RUN make large", 0),
            ("RUN rm /usr/lib/other", 0),
        ]
    );
    let usage = &image["usage"];
    assert_eq!(usage["wasted_bytes"], 80_000);
    let content = usage["bytes"].as_u64().unwrap();
    let expected = 1.0 - 80_000.0 / content as f64;
    assert!((usage["efficiency"].as_f64().unwrap() - expected).abs() < 1e-9);
    let wasted = usage["wasted"].as_array().unwrap();
    let wasted: Vec<_> = wasted
        .iter()
        .map(|file| {
            (
                file["path"].as_str().unwrap(),
                &file["bytes"],
                &file["replaced_by"],
            )
        })
        .collect();
    let (one, null) = (1.into(), serde_json::Value::Null);
    assert_eq!(
        wasted,
        [
            ("/usr/lib/large", &60_000.into(), &one),
            ("/usr/lib/other", &20_000.into(), &null),
        ]
    );
    let du: serde_json::Value =
        serde_json::from_str(&place.ok(&["du", "--json", "./image"])).unwrap();
    assert_eq!(du["usage"], *usage);
    assert_eq!(du["layers"][0]["hidden_bytes"], 80_000);

    // A limit is for scripts: a line, and the status.
    for command in ["inspect", "du"] {
        for (most, status) in [
            ("80000", 0),
            ("79999", 1),
            ("100%", 0),
            ("5%", 1),
            ("1m", 0),
        ] {
            let output = place.run(&[command, "--max-waste", most, "./image"]);
            assert_eq!(output.status.code(), Some(status), "{command} {most}");
            let said = text(&output.stderr);
            assert_eq!(
                said.contains("are wasted"),
                status == 1,
                "{command} {most}: {said}"
            );
        }
    }

    // People see it within their terminal.
    for columns in [80, 60] {
        let shown = on_terminal(&place, columns, &["inspect", "./image"]);
        assert!(widest(&shown) <= columns.into(), "{shown}");
        for words in [
            "Efficiency: ",
            "RUN ",
            "█",
            "/usr/lib/large (layer 0, replaced in layer 1)",
            "years ago",
        ] {
            assert!(shown.contains(words), "no `{words}` in:\n{shown}");
        }
    }
    let shown = on_terminal(&place, 80, &["du", "-h", "./image"]);
    assert!(widest(&shown) <= 80, "{shown}");
    assert!(
        shown.contains("RUN make large") && shown.contains('█'),
        "{shown}"
    );
    // Scripts see no bars.
    assert!(!place.ok(&["du", "./image"]).contains('█'));
    let shown = on_terminal(&place, 80, &["images", "--store", "./image"]);
    assert!(widest(&shown) <= 80, "{shown}");
    let mut lines = shown.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "DIGEST", "LAYERS", "AGE", "SIZE"]
    );
    assert!(lines.next().unwrap().contains(" years "), "{shown}");
}

#[test]
fn tables_fit_into_a_narrow_terminal() {
    let place = Place::new();
    wasteful(&place);
    let rows = |shown: &str| -> String {
        let table = shown.lines().skip_while(|line| !line.contains("LAYER"));
        let table: Vec<_> = table.take_while(|line| !line.is_empty()).collect();
        assert_eq!(table.len(), 4, "{shown}");
        table.join("\n")
    };
    for columns in [80, 60, 50] {
        let shown = on_terminal(&place, columns, &["images", "--store", "./image"]);
        assert!(widest(&shown) <= columns.into(), "{columns}: {shown}");
        let shown = rows(&on_terminal(&place, columns, &["inspect", "./image"]));
        assert!(widest(&shown) <= columns.into(), "{columns}: {shown}");
        assert!(shown.contains("RUN make l"), "{columns}: {shown}");
        let shown = rows(&on_terminal(&place, columns, &["du", "-h", "./image"]));
        assert!(widest(&shown) <= columns.into(), "{columns}: {shown}");
        assert!(shown.contains("RUN make l"), "{columns}: {shown}");
    }
    // Names are whole where nobody looks.
    let name = "long-name-of-an-image-that-fits-into-no-narrow-terminal";
    place.ok(&["convert", "./image", name]);
    let shown = on_terminal(&place, 50, &["images"]);
    assert!(
        widest(&shown) <= 50 && shown.contains("long-name"),
        "{shown}"
    );
    assert!(place.ok(&["images"]).contains(name));
    assert!(on_terminal(&place, 50, &["images", "--no-trunc"]).contains(name));
}

#[test]
fn the_demonstration_fits_and_shows_where_the_time_goes() {
    let place = Place::new();
    let shown = on_terminal(&place, 80, &["demo"]);
    // Its first line names a temporary directory.
    let below = shown.split_once('\n').unwrap().1;
    assert!(widest(below) <= 80, "{shown}");
    for words in [
        "kernel booted",
        "system calls of the shell",
        "taken down",
        "\nNext\n",
        "varve do --strace",
    ] {
        assert!(shown.contains(words), "no `{words}` in:\n{shown}");
    }
    assert_eq!(
        shown.lines().filter(|line| line.contains('█')).count(),
        3,
        "{shown}"
    );
}

/// Looks at a page as a strict reader: what is opened is closed, nothing is fetched, nothing runs.
const READER: &str = r#"
import sys
from html.parser import HTMLParser
class Page(HTMLParser):
    void = {'meta', 'br'}
    def __init__(self):
        super().__init__(convert_charrefs=True); self.open = []; self.text = []; self.style = ''
    def handle_starttag(self, tag, attributes):
        assert tag in {'html','head','meta','title','style','body','h1','h2','p','span','table','tr','th','td','code','bdi','div','i','br'}, tag
        for name, value in attributes:
            assert name in {'lang','charset','http-equiv','content','name','class','style'}, (tag, name)
            assert '://' not in value and 'url(' not in value, value
        if tag not in self.void: self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
    def handle_data(self, data):
        if self.open and self.open[-1] == 'style': self.style += data
        else: self.text.append(data)
page = Page(); source = sys.stdin.buffer.read().decode('utf-8'); page.feed(source); page.close()
assert not page.open, page.open
assert 'url(' not in page.style and '@import' not in page.style
assert "default-src 'none'" in source
assert not any(ord(c) < 32 and c != '\n' for c in source)
sys.stdout.write(''.join(page.text))
"#;

#[test]
fn a_page_is_whole_by_itself_and_has_no_markup_of_the_image() {
    let place = Place::new();
    wasteful(&place);
    for command in ["inspect", "du"] {
        let said = place.ok(&[command, "--html", "page.html", "./image"]);
        assert!(said.starts_with("page.html: "), "{said}");
        let page = fs::read(place.at("page.html")).unwrap();
        assert_eq!(place.run(&[command, "--html", "-", "./image"]).stdout, page);
        let mut reader = place.prepared("python3", &["-c", READER]);
        reader.stdin(File::open(place.at("page.html")).unwrap());
        let read = reader.output().unwrap();
        assert!(read.status.success(), "{}", text(&read.stderr));
        let shown = text(&read.stdout);
        for words in [
            "ADD file:<script>window.evil=1</script> in /",
            "RUN make large",
            "/usr/lib/large",
            "/usr/share/<b>&\"'name",
            "layer 0, replaced in layer 1",
        ] {
            assert!(shown.contains(words), "no `{words}` in:\n{shown}");
        }
    }
    // A page that cannot be written leaves the old one.
    place.fails(
        &["inspect", "--html", "none/page.html", "./image"],
        125,
        &["none/page.html"],
    );
}

#[test]
fn bars_fit_into_a_narrow_terminal_and_have_names() {
    let place = Place::new();
    // Large enough that a bar is drawn.
    place.file("tree/file", 0o644, vec![b'x'; 40 << 20]);
    place.ok(&["convert", "dir:tree", "docker-archive:saved.tar:app:v1"]);
    let shown = on_terminal(
        &place,
        50,
        &["convert", "docker-archive:saved.tar", "./image"],
    );
    let mut bars = 0;
    for part in shown.split(['\n', '\r']) {
        // Lines that fill the terminal follow each other without an end of line.
        let cells: Vec<char> = without_escapes(part).chars().collect();
        for line in cells.chunks(50) {
            let line: String = line.iter().collect();
            if line.contains(['█', '░']) {
                bars += 1;
                let named = line.starts_with("all layers   ")
                    || line[..12].bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(named && line.contains("/40.0"), "{line:?} in {shown:?}");
            }
        }
    }
    assert!(bars > 1, "{shown:?}");
    let plain = place.run(&["convert", "docker-archive:saved.tar", "./other"]);
    let said = text(&plain.stderr);
    assert!(
        said.starts_with("varve: layer 1: ") && !said.contains("layer.tar"),
        "{said}"
    );
}

/// What stays of a line without what moves the cursor.
fn without_escapes(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn an_ordinary_user_builds_past_what_is_unreadable() {
    let mut place = Place::new();
    if !is_root("another user") {
        return;
    }
    place.open_to_all();
    for (name, mode) in [
        ("a", 0o644),
        ("secret", 0o600),
        ("dir/inside", 0o644),
        ("z", 0o644),
        ("more/hidden", 0o600),
    ] {
        place.file(&format!("tree/{name}"), mode, "contents");
    }
    fs::set_permissions(place.at("tree/dir"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(place.at("out")).unwrap();
    fs::set_permissions(place.at("out"), fs::Permissions::from_mode(0o777)).unwrap();
    let as_other = |args: &[&str]| {
        let mut command = place.command(args);
        command.uid(65534).gid(65534);
        run(&mut command)
    };
    let refused = as_other(&["build", "tree", "-o", "out/layer.img"]);
    assert_eq!(refused.status.code(), Some(125));
    let said = text(&refused.stderr);
    assert!(
        said.contains("Permission denied") && said.contains("--skip-unreadable"),
        "{said}"
    );
    assert!(!place.at("out/layer.img").exists());

    let built = as_other(&["build", "--skip-unreadable", "tree", "-o", "out/layer.img"]);
    let said = text(&built.stderr);
    assert_eq!(built.status.code(), Some(0), "{said}");
    for words in [
        "left out: tree/secret: cannot open: Permission denied",
        "left out: tree/dir: cannot open: Permission denied",
        "left out: tree/more/hidden: ",
        "warning: 3 files or directories could not be read",
    ] {
        assert!(said.contains(words), "no `{words}` in:\n{said}");
    }
    // A directory is there, with nothing in it.
    assert_eq!(
        place.ok(&["ls", "out/layer.img", "/", "/dir", "/more"]),
        "/:\na\ndir\nmore\nz\n\n/dir:\n\n/more:\n"
    );
    assert_eq!(place.ok(&["cat", "out/layer.img", "/z"]), "contents");
    let json = as_other(&[
        "build",
        "--json",
        "--skip-unreadable",
        "tree",
        "-o",
        "out/layer.img",
    ]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["skipped_count"], 3);
    assert_eq!(value["skipped"][0]["path"], "tree/dir");
    let converted = as_other(&["convert", "--skip-unreadable", "dir:tree", "./out/image"]);
    assert_eq!(
        converted.status.code(),
        Some(0),
        "{}",
        text(&converted.stderr)
    );
    assert!(text(&converted.stderr).contains("warning: 3 files"));
}

#[test]
fn removing_images_does_not_depend_on_a_reader() {
    let place = Place::new();
    place.file("tree/file", 0o644, "x");
    for name in ["one", "two"] {
        place.ok(&["convert", "dir:tree", name]);
    }
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let output = place
        .command(&["rmi", "one", "two"])
        .stdout(write)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(place.ok(&["images", "--quiet"]), "");
}
