//! Names of images, and words that are no commands.

use super::*;

#[test]
fn a_name_is_the_stores_whatever_lies_in_the_working_directory() {
    let place = Place::new();
    place.file("genuine/motd", 0o644, "genuine\n");
    place.file("other/motd", 0o644, "other\n");
    place.ok(&["convert", "dir:genuine", "debian"]);
    // A layout, a directory and a layer file that are called as the image is.
    for make in [
        &["convert", "dir:other", "./debian"][..],
        &["build", "other", "-o", "debian"],
        &["extract", "./other.img", "-o", "./debian"],
    ] {
        place.ok(&["build", "other", "-o", "other.img"]);
        place.ok(make);
        for name in ["debian", "debian:latest", "store:debian"] {
            assert_eq!(
                place.ok(&["cat", name, "/motd"]),
                "genuine\n",
                "{name} beside {make:?}"
            );
        }
        let inspected = place.ok(&["inspect", "debian"]);
        assert!(inspected.contains("debian:latest"), "{inspected}");
        assert_eq!(
            place.run(&["diff", "debian", "store:debian"]).status.code(),
            Some(0)
        );
        let checked = place.ok(&["check", "debian"]);
        assert!(checked.contains("store/blobs"), "{checked}");
        let here = place.at("debian");
        if here.is_dir() {
            fs::remove_dir_all(here).unwrap();
        } else {
            assert_eq!(place.ok(&["cat", "./debian", "/motd"]), "other\n");
            fs::remove_file(here).unwrap();
        }
    }
    // A path has a slash.
    place.ok(&["convert", "dir:other", "./here"]);
    assert_eq!(place.ok(&["cat", "./here", "/motd"]), "other\n");
    assert_eq!(place.ok(&["cat", "oci:here", "/motd"]), "other\n");
    assert_eq!(
        place.ok(&["cat", place.at("here").to_str().unwrap(), "/motd"]),
        "other\n"
    );
    // What is not in the store is an error that says where it may be meant to be.
    for args in [
        &["cat", "here", "/motd"][..],
        &["do", "--image", "here"],
        &["inspect", "here"],
    ] {
        place.fails(args, 125, &["here", "./here"]);
    }
    place.fails(
        &["do", "--image", "other.img"],
        125,
        &["--layer ./other.img"],
    );
    place.fails(
        &["do", "--image", "./other.img"],
        125,
        &["is a file", "--layer ./other.img"],
    );
    place.fails(&["do", "--image", "team/none"], 125, &["store:team/none"]);
    // Files are layers as long as no image is called so.
    assert_eq!(place.ok(&["cat", "other.img", "/motd"]), "other\n");
    // A name with a slash is the store's when it says so.
    place.ok(&["convert", "dir:genuine", "store:team/tool"]);
    place.ok(&["convert", "dir:other", "./team/tool"]);
    assert_eq!(place.ok(&["cat", "store:team/tool", "/motd"]), "genuine\n");
    assert_eq!(place.ok(&["cat", "team/tool", "/motd"]), "other\n");
}

#[test]
fn words_of_other_tools_are_answered_and_nothing_that_removes_is_suggested() {
    let place = Place::new();
    for (word, hint) in [
        ("ps", "no daemon"),
        ("exec", "varve do"),
        ("pull", "skopeo"),
        ("push", "skopeo"),
        ("load", "varve convert"),
        ("save", "varve extract"),
        ("rm", "leaves nothing behind"),
        ("history", "varve inspect"),
        ("kill", "kill(1)"),
        ("create", "varve do"),
        ("delete", "leaves nothing behind"),
        ("images-list", "varve"),
        ("docker", "varve do --image"),
        ("runc", "varve do --image"),
        ("swarm", "no daemon"),
        ("stack", "no daemon"),
        ("purge", "varve images"),
        ("buildx", "varve build"),
        ("biuld", "`varve build`"),
        ("inspct", "`varve inspect`"),
    ] {
        place.fails(
            &[word],
            125,
            &[&format!("there is no command `{word}`"), hint],
        );
        place.fails(&[word, "-x", "y"], 125, &[word]);
    }
    for word in [
        "prine", "prun", "pruen", "rmii", "rm", "remi", "purge", "delete", "pune", "rmi1",
    ] {
        let said = text(&place.run(&[word]).stderr);
        assert!(
            !said.contains("prune") && !said.contains("rmi`"),
            "{word}: {said}"
        );
    }
    assert_eq!(place.ok(&["run", "--", "echo", "it runs"]), "it runs\n");
}

#[test]
fn what_goes_out_is_the_image_of_that_name() {
    let place = Place::new();
    place.file("tree/file", 0o644, "of the store\n");
    place.file("app/file", 0o644, "of the directory\n");
    place.ok(&["convert", "dir:tree", "app"]);
    let shown = |name: &str| {
        place.ok(&[
            "convert",
            &format!("docker-archive:{name}"),
            &format!("./from-{name}"),
        ]);
        place.ok(&["cat", &format!("./from-{name}"), "/file"])
    };
    place.ok(&["convert", "app", "docker-archive:one"]);
    assert_eq!(shown("one"), "of the store\n");
    place.ok(&["convert", "./app", "docker-archive:two"]);
    assert_eq!(shown("two"), "of the directory\n");
    // What becomes an image of varve is what lies there: converting it again takes what is new.
    place.ok(&["convert", "app", "other"]);
    assert_eq!(place.ok(&["cat", "other", "/file"]), "of the directory\n");
    place.ok(&["convert", "store:app", "./copy"]);
    assert_eq!(place.ok(&["cat", "./copy", "/file"]), "of the store\n");
    place.fails(
        &["convert", "store:none", "./copy"],
        125,
        &["none", "no such image"],
    );
    place.fails(
        &["convert", "app", "docker-archive:X:Upper"],
        125,
        &["is no name for Docker"],
    );
    place.fails(
        &["convert", "app", "name", "--layers", "tar"],
        125,
        &["docker-archive:FILE"],
    );
}

#[test]
fn archives_of_images_are_known_as_such() {
    let place = Place::new();
    place.file("tree/file", 0o644, "contents\n");
    place.file("tree/manifest.json", 0o644, "{}");
    place.ok(&["convert", "dir:tree", "docker-archive:docker.tar:app:v1"]);
    place.ok(&["convert", "dir:tree", "oci-archive:oci.tar:app:v1"]);
    place.ok(&["build", "tree", "-o", "tree.img"]);
    place.ok(&["extract", "tree.img", "-o", "plain.tar"]);
    let hint = "holds container images";
    for (archive, transport) in [
        ("docker.tar", "docker-archive:"),
        ("oci.tar", "oci-archive:"),
    ] {
        // Also where the layer was there before.
        for args in [
            &["convert", archive, "image"][..],
            &["convert", archive, "image"],
            &["build", archive, "-o", "a.img"],
        ] {
            let output = place.run(args);
            let said = text(&output.stderr);
            assert!(
                output.status.success() && said.contains(hint),
                "{args:?}: {said}"
            );
            assert!(said.contains(transport), "{args:?}: {said}");
        }
    }
    let said = text(&place.run(&["convert", "plain.tar", "image"]).stderr);
    assert!(!said.contains(hint), "{said}");
    // Options stand where people put them.
    place.ok(&["convert", "tree", "--json", "./image"]);
    place.ok(&["convert", "--json", "tree", "./image", "--again"]);
    place.fails(&["convert", "tree"], 125, &["SRC and DST"]);
    place.fails(
        &["mount", "tree", "--verify"],
        125,
        &["an image and a directory"],
    );
    // What is nowhere, and what has no name.
    place.fails(
        &["convert", "nothing", "image"],
        125,
        &["nothing", "no such file", "no such image"],
    );
    place.fails(&["convert", "tree", "oci:"], 125, &["names no directory"]);
    place.fails(
        &["convert", "tree", "oci-archive:"],
        125,
        &["names no file"],
    );
    place.fails(&["ls", "a.img,"], 125, &["one comma"]);
    place.fails(&["ls", "./nothing"], 125, &["no such file"]);
    place.fails(
        &["extract", "a.img", "-o", "a.tar.gz"],
        125,
        &["gzip", "FILE.tar"],
    );
    place.fails(
        &["convert", "tree", "docker-archive:none/a.tar"],
        125,
        &["none: No such file or directory"],
    );
}
