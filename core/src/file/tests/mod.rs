//! Open files without tasks and memory above them.

use alloc::vec::Vec;

use super::*;
use crate::env::notice::Notice;
use crate::fs::FileSystems;
use crate::machine::ThreadId;
use crate::memhost::MemHost;

fn woken(k: &mut Files) -> Vec<WaitKey> {
    let notices = k.env.notices.drain(..);
    notices
        .filter_map(|notice| match notice {
            Notice::Woken(key) => Some(key),
            Notice::Ready(_) => None,
        })
        .collect()
}

/// Bytes in a pipe are a notice if somebody waits; what the last end leaves is gone with its place.
#[test]
fn a_pipe_leaves_notices_and_goes_with_its_ends() {
    let mut host = MemHost::new(16, Vec::new());
    let mut ports = host.ports();
    let mut files = Files::new(Vfs::new(FileSystems::alone(16)));
    let maker = pipe::Maker {
        owner: (1000, 100),
        user: 1000,
        large: false,
        unlimited: false,
    };
    let (id, path) = pipe::create(&mut files, &maker).unwrap();
    let attr = crate::fs::anon::attr(&files, crate::fs::anon::pipe_ino(id)).unwrap();
    assert_eq!((attr.mode & 0o777, attr.uid, attr.gid), (0o600, 1000, 100));

    let ends = [O_RDONLY, O_WRONLY].map(|mode| {
        let place = mount::get_path(&mut files, path);
        let file = File::new(FileKind::Pipe(id), place, None, mode);
        pipe::open_end(&mut files, id, mode == O_RDONLY, mode == O_WRONLY);
        add(&mut files, file).unwrap()
    });
    put_path(&mut files, &mut ports, path);

    let changes = files.env.changes;
    pipe::append(&mut files, id, b"some ", 0);
    assert_eq!(
        (files.env.changes, woken(&mut files)),
        (changes + 1, Vec::new())
    );
    let waits = (WaitKey::Pipe(id.0), files.env.queues.take_place());
    files.env.queues.places.insert(waits, ThreadId(1));
    pipe::append(&mut files, id, b"bytes", 0);
    assert_eq!(woken(&mut files), [WaitKey::Pipe(id.0)]);
    assert!(!files.pipes.get(id).unwrap().ring.is_empty());

    for end in ends {
        put(&mut files, &mut ports, end);
    }
    assert_eq!(woken(&mut files), [WaitKey::Pipe(id.0); 2]);
    assert!(files.pipes.get(id).is_some());
    remove_gone(&mut files);
    assert!(files.pipes.get(id).is_none());
    assert_eq!((files.open_files(), files.frames.charged()), (0, 0));
}
