//! Contents of files, areas of address spaces.

use super::*;

const FILE: u64 = 0o102;
/// `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED`
const SPARSE: u64 = 0x4032;
const SHARED_FIXED: u64 = 0x11;
const FAR: u64 = 0x1000_0000_0000;
const FILE_AT: u64 = 0x2000_0000_0000;

fn file(w: &mut World) {
    w.fd = w.open("/file", FILE);
}

/// Adds a page to the end.
fn write_page(w: &mut World, n: u64) {
    w.made(18, &[w.fd, BULK, PAGE, n * PAGE]);
}

/// Areas of one page each, with gaps, so that none are joined.
fn area(w: &mut World, n: u64) {
    w.made(9, &[FAR + 2 * n * PAGE, PAGE, 1, SPARSE, u64::MAX, 0]);
}

pub const GROWING: &[Growing] = &[
    Growing {
        name: "read of a file in memory",
        few: 1000,
        setup: file,
        grow: write_page,
        step: |w, _| {
            w.made(17, &[w.fd, BULK, PAGE, 0]);
        },
    },
    Growing {
        name: "sendfile of a file in memory",
        few: 1000,
        setup: |w| {
            let null = w.open("/dev/null", 1);
            w.fds.push(null);
            file(w);
        },
        grow: write_page,
        step: |w, _| {
            w.words(DATA, &[0]);
            w.made(40, &[w.fds[0], w.fd, DATA, PAGE]);
        },
    },
    Growing {
        name: "write to a file in memory",
        few: 1000,
        setup: file,
        grow: write_page,
        step: |w, _| {
            w.made(18, &[w.fd, BULK, 100, PAGE]);
        },
    },
    Growing {
        name: "write and hole in a file of many holes",
        few: 1000,
        setup: file,
        grow: |w, n| write_page(w, 2 * n),
        step: |w, n| {
            w.made(18, &[w.fd, BULK, 3 * PAGE, (20 + 2 * n) * PAGE]);
            w.made(285, &[w.fd, 3, (21 + 2 * n) * PAGE, PAGE]);
        },
    },
    Growing {
        name: "hole in a file in memory",
        few: 1000,
        setup: file,
        grow: write_page,
        step: |w, n| {
            w.made(285, &[w.fd, 3, (10 + n) * PAGE, PAGE]);
            w.made(18, &[w.fd, BULK, PAGE, (10 + n) * PAGE]);
        },
    },
    Growing {
        name: "file in memory made shorter",
        few: 1000,
        setup: file,
        grow: write_page,
        step: |w, _| {
            let size = w.made(8, &[w.fd, 0, 2]);
            w.made(77, &[w.fd, size - PAGE]);
            w.made(18, &[w.fd, BULK, PAGE, size - PAGE]);
        },
    },
    Growing {
        name: "lseek to data in a file in memory",
        few: 1000,
        setup: file,
        grow: write_page,
        step: |w, n| {
            w.made(8, &[w.fd, n * PAGE, 3]);
        },
    },
    Growing {
        name: "fault on a mapped file in memory",
        few: 1000,
        setup: file,
        grow: write_page,
        step: |w, n| {
            let at = FILE_AT + n * PAGE;
            w.made(9, &[at, PAGE, 3, SHARED_FIXED, w.fd, n * PAGE]);
            w.poke(at, &[1]);
            w.made(11, &[at, PAGE]);
        },
    },
    Growing {
        name: "append to a file of a layer",
        few: 1000,
        setup: |w| w.fd = w.open("/big", 0o2001),
        grow: |w, _| {
            w.made(1, &[w.fd, BULK, PAGE]);
        },
        step: |w, _| {
            w.made(1, &[w.fd, BULK, 1]);
        },
    },
    Growing {
        name: "first write to a page of a layer, areas of others",
        few: 1000,
        setup: |w| w.fd = w.open("/big", 2),
        grow: area,
        step: |w, _| {
            let page = 1000 + w.unused();
            w.made(18, &[w.fd, BULK, 1, page * PAGE]);
        },
    },
    Growing {
        name: "first write to a page of a layer, mapped in parts",
        few: 500,
        setup: |w| w.fd = w.open("/big", 2),
        grow: |w, n| {
            let at = FILE_AT + 2 * n * PAGE;
            w.made(9, &[at, PAGE, 1, 0x12, w.fd, n * PAGE]);
        },
        step: |w, _| {
            let page = 10 + w.unused();
            w.made(18, &[w.fd, BULK, 1, page * PAGE]);
        },
    },
    Growing {
        name: "first write to a page of a layer, other processes",
        few: 50,
        setup: |w| w.fd = w.open("/big", 2),
        grow: |w, _| {
            w.fork();
        },
        step: |w, _| {
            let page = 1000 + w.unused();
            w.made(18, &[w.fd, BULK, 1, page * PAGE]);
        },
    },
    Growing {
        name: "file cut, areas of others",
        few: 1000,
        setup: file,
        grow: area,
        step: |w, _| {
            w.made(18, &[w.fd, BULK, PAGE, 0]);
            w.made(77, &[w.fd, 0]);
        },
    },
    Growing {
        name: "seal of a file, areas of others",
        few: 1000,
        setup: |w| w.path("m"),
        grow: area,
        step: |w, _| {
            let fd = w.made(319, &[NAME, 2]);
            w.made(72, &[fd, 1033, 8]);
            w.made(3, &[fd]);
        },
    },
    Growing {
        name: "areas: mmap and munmap",
        few: 1000,
        setup: nothing,
        grow: area,
        step: |w, n| {
            let at = FAR + (2 * n + 21) * PAGE;
            w.made(9, &[at, PAGE, 1, SPARSE, u64::MAX, 0]);
            w.made(11, &[at, PAGE]);
        },
    },
    Growing {
        name: "areas: mprotect",
        few: 1000,
        setup: nothing,
        grow: area,
        step: |w, n| {
            let at = FAR + (2 * n + 20) * PAGE;
            w.made(10, &[at, PAGE, 3]);
            w.made(10, &[at, PAGE, 1]);
        },
    },
    Growing {
        name: "areas: room for a new one",
        few: 1000,
        setup: nothing,
        // From the top down; every other page goes again.
        grow: |w, n| {
            let at = w.made(9, &[0, 2 * PAGE, n % 2, 0x4022, u64::MAX, 0]);
            if n == 0 {
                w.fd = at;
            }
            w.made(11, &[at + PAGE, PAGE]);
        },
        step: |w, _| {
            let at = w.made(9, &[0, 2 * PAGE, 3, 0x4022, u64::MAX, 0]);
            w.made(11, &[at, 2 * PAGE]);
            // The topmost hole becomes a little larger.
            w.made(9, &[w.fd, PAGE, 0, SPARSE, u64::MAX, 0]);
            w.made(11, &[w.fd, PAGE]);
            w.made(9, &[w.fd, PAGE, 0, SPARSE, u64::MAX, 0]);
        },
    },
    Growing {
        name: "statm of a process, areas",
        few: 1000,
        setup: |w| w.fd = w.open("/proc/self/statm", 0),
        grow: area,
        step: |w, _| {
            w.made(17, &[w.fd, BULK, 100, 0]);
        },
    },
];
