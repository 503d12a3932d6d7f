//! Archives that unfold without end: an error, and a bounded amount of memory.

use std::io::Read;
use std::sync::Mutex;

use tar::{EntryType, Header};
use varve_image::{BuildOptions, build_tar};

/// Most memory that a build may take, in bytes: what a layer of the largest size needs.
const MEMORY_MAX: u64 = 1536 << 20;

/// A stream that is made as it is read.
struct Endless<F> {
    next: F,
    part: Vec<u8>,
    at: usize,
    given: u64,
}

impl<F: FnMut(u64) -> Vec<u8>> Endless<F> {
    fn new(next: F) -> Self {
        Endless {
            next,
            part: Vec::new(),
            at: 0,
            given: 0,
        }
    }
}

impl<F: FnMut(u64) -> Vec<u8>> Read for Endless<F> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.part.len() {
            self.part = (self.next)(self.given);
            self.given += 1;
            self.at = 0;
        }
        let len = buf.len().min(self.part.len() - self.at);
        buf[..len].copy_from_slice(&self.part[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// The most memory that this process had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// The message that ends the stream; one test at a time, as they share the memory.
fn refused(next: impl FnMut(u64) -> Vec<u8>) -> String {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("layer");
    let mut stream = Endless::new(next);
    let options = BuildOptions::default();
    let error = build_tar(&mut stream, "bomb", &image, &options, &mut ()).unwrap_err();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    let peak = peak();
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
    error.to_string()
}

fn header(kind: EntryType, name: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// An extended header with these records.
fn extended(kind: EntryType, records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        body.extend(format!("{len} {key}=").as_bytes());
        body.extend(value);
        body.push(b'\n');
    }
    let mut out = header(kind, "pax", body.len() as u64);
    out.extend(&body);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

#[test]
fn entries_without_end() {
    // Ten millions would be 10 GB with all that is known of them.
    let text = refused(|number| {
        let entry = |at: u64| header(EntryType::Regular, &format!("d/{:09}", number * 64 + at), 0);
        (0..64).flat_map(entry).collect()
    });
    assert!(text.contains("more than 4194304 "), "{text}");
}

#[test]
fn attributes_without_end() {
    let text = refused(|number| {
        let record = |at: u32| (format!("SCHILY.xattr.user.{at}"), vec![b'v'; 60_000]);
        let records: Vec<_> = (0..3).map(record).collect();
        let mut out = extended(EntryType::XHeader, &records);
        out.extend(header(EntryType::Regular, &number.to_string(), 0));
        out
    });
    assert!(text.contains("attributes of more than 512 MiB"), "{text}");
}

#[test]
fn link_targets_and_whiteouts_without_end() {
    let text = refused(|number| {
        let target = vec![b't'; 4000];
        let mut out = extended(EntryType::XHeader, &[("linkpath".into(), target)]);
        out.extend(header(EntryType::Symlink, &number.to_string(), 0));
        out
    });
    assert!(text.contains("link targets"), "{text}");
    let text = refused(|number| {
        let name = format!("{number:0>99}/.wh.{number:0>200}");
        let mut out = extended(EntryType::XHeader, &[("path".into(), name.into())]);
        out.extend(header(EntryType::Regular, "x", 0));
        out
    });
    assert!(text.contains("names, link targets"), "{text}");
}

#[test]
fn headers_without_an_entry() {
    let one = |number: u64| vec![(format!("key{number}"), vec![b'v'; 10_000])];
    let text = refused(|number| extended(EntryType::XHeader, &one(number)));
    assert!(text.contains("4194304 at most for one entry"), "{text}");
    let text = refused(|_| extended(EntryType::XHeader, &[]));
    assert!(text.contains("at most for one entry"), "{text}");
    let text = refused(|number| {
        let mut out = extended(EntryType::XGlobalHeader, &one(number));
        out.extend(header(EntryType::Regular, "f", 0));
        out
    });
    assert!(text.contains("too many records for all entries"), "{text}");
}

#[test]
fn a_path_without_end() {
    let text = refused(|_| {
        let path = b"a/".repeat(1_000_000);
        let mut out = extended(EntryType::XHeader, &[("path".into(), path)]);
        out.extend(header(EntryType::Regular, "x", 0));
        out
    });
    assert!(
        text.contains("more than 2048 directories on the way"),
        "{text}"
    );
}

#[test]
fn a_sparse_map_without_end() {
    let text = refused(|number| {
        if number == 0 {
            let mut header = Header::from_byte_slice(&header(EntryType::GNUSparse, "s", 0)).clone();
            let gnu = header.as_gnu_mut().unwrap();
            gnu.isextended[0] = 1;
            gnu.realsize = *b"77777777777\0";
            header.set_cksum();
            return header.as_bytes().to_vec();
        }
        let mut block = vec![0; 512];
        for (at, part) in block[..504].chunks_exact_mut(24).enumerate() {
            let offset = number * 21 + at as u64;
            part.copy_from_slice(format!("{offset:011o} 00000000001 ").as_bytes());
        }
        block[504] = 1;
        block
    });
    assert!(text.contains("sparse map"), "{text}");
}
