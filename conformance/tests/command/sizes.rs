//! Sizes that an image chooses: they may be more than a number holds when they are added up.

use super::*;

/// Largest size of a file.
const HUGE: u64 = i64::MAX as u64;
/// Chunks of 8 TiB, the largest there are: so many make such a file.
const TABLE: usize = 4 << 20;

fn inode(layout: u16, mode: u16, size: u64, place: u32, number: u32, links: u32) -> Vec<u8> {
    let mut inode = Vec::with_capacity(64);
    // The extended form, and how its data lies.
    inode.extend((1 | layout << 1).to_le_bytes());
    inode.extend(0u16.to_le_bytes());
    inode.extend(mode.to_le_bytes());
    inode.extend(0u16.to_le_bytes());
    inode.extend(size.to_le_bytes());
    for word in [place, number, 0, 0] {
        inode.extend(word.to_le_bytes());
    }
    inode.extend(1_600_000_000u64.to_le_bytes());
    inode.extend(0u32.to_le_bytes());
    inode.extend(links.to_le_bytes());
    inode.resize(64, 0);
    inode
}

/// An EROFS image with three files of the largest size, all holes.
fn image() -> Vec<u8> {
    const BLOCK: usize = 4096;
    let at = |file: usize| 3 * BLOCK + file * (64 + TABLE);
    let mut names: Vec<(u64, &[u8], u8)> = vec![(0, b".", 2), (0, b"..", 2)];
    for (file, name) in [b"a", b"b", b"c"].into_iter().enumerate() {
        names.push((((at(file) - BLOCK) / 32) as u64, name, 1));
    }
    let (mut heads, mut tail) = (Vec::new(), Vec::new());
    for (nid, name, kind) in &names {
        heads.extend(nid.to_le_bytes());
        heads.extend(((12 * names.len() + tail.len()) as u16).to_le_bytes());
        heads.extend([*kind, 0]);
        tail.extend_from_slice(name);
    }
    heads.extend(tail);
    let mut image = vec![0; 3 * BLOCK];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(1024, &0xe0f5_e1e2_u32.to_le_bytes());
    put(1024 + 12, &[12]);
    put(1024 + 16, &4u64.to_le_bytes());
    // Inodes are counted from the second block; files may be tables of chunks.
    put(1024 + 40, &1u32.to_le_bytes());
    put(1024 + 80, &4u32.to_le_bytes());
    put(BLOCK, &inode(0, 0o40755, heads.len() as u64, 2, 1, 2));
    put(2 * BLOCK, &heads);
    for number in 2..5 {
        image.extend(inode(4, 0o100644, HUGE, 31, number, 1));
        image.resize(image.len() + TABLE, 0xff);
    }
    image.resize(image.len().next_multiple_of(BLOCK), 0);
    let blocks = (image.len() / BLOCK) as u32;
    image[1024 + 36..1024 + 40].copy_from_slice(&blocks.to_le_bytes());
    image
}

#[test]
fn files_of_any_size_are_added_up() {
    let place = Place::new();
    place.file("huge.img", 0o644, image());
    let size = HUGE.to_string();
    let shown = place.ok(&["ls", "-l", "huge.img"]);
    assert_eq!(shown.matches(&size).count(), 3, "{shown}");
    // As much as a number holds.
    let all = u64::MAX.to_string();
    assert!(place.ok(&["du", "huge.img"]).contains(&all));
    assert!(place.ok(&["du", "--json", "huge.img"]).contains(&all));
    let page = place.ok(&["du", "--html", "-", "huge.img"]);
    assert!(page.contains("16E"), "{page}");
    let output = place.run(&["check", "huge.img"]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.code().is_some_and(|status| status < 2),
        "{said}"
    );
    place.ok(&["convert", "erofs:huge.img", "./image"]);
    let shown = place.ok(&["inspect", "./image"]);
    assert!(shown.contains("100%, 0 of 16E wasted"), "{shown}");
    let told = place.ok(&["extract", "--json", "huge.img", "-o", "huge.tar"]);
    assert!(told.contains(&all), "{told}");
    place.ok(&["convert", "./image", "docker-archive:saved.tar"]);
    for archive in ["huge.tar", "saved.tar"] {
        // Holes stay holes.
        assert!(
            fs::metadata(place.at(archive)).unwrap().len() < 1 << 20,
            "{archive}"
        );
    }
}
