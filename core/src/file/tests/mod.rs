//! Open files without tasks and memory above them.

mod program;

use alloc::vec::Vec;

use program::{Program, THREAD};

use super::*;
use crate::abi::raw::general::{POLLIN, SEEK_CUR, SEEK_SET, SIGPIPE};
use crate::env::cx::Cx;
use crate::env::notice::Notice;
use crate::env::wait::{Stop, SysResult};
use crate::file::eventfd::EventFd;
use crate::file::rw::{How, Iov};
use crate::fs::FileSystems;
use crate::fs::anon::Anon;
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

    let ends = [OpenFlags::RDONLY, OpenFlags::WRONLY].map(|mode| {
        let place = mount::get_path(&mut files, *path);
        let file = File::new(FileKind::Pipe(id), place, None, mode);
        pipe::open_end(&mut files, id, mode);
        add(&mut files, &mut ports, file).unwrap()
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

/// What a call failed with.
fn errno(result: SysResult) -> Option<Errno> {
    match result {
        Err(Stop::Errno(errno)) => Some(errno),
        _ => None,
    }
}

/// Reads or writes at an address of the program, as read(2) and write(2) do.
fn moved(
    program: &mut Program,
    p: &mut Ports<'_>,
    call: fn(&mut Cx<'_, '_, Program>, FileId, &mut Iov, How) -> SysResult,
    (id, addr, len): (FileId, u64, u64),
) -> SysResult {
    let mut iov = Iov::single(addr, len)?;
    call(&mut program.call(p), id, &mut iov, How::default())
}

/// Each kind of file answers through one place, and what it asks of the caller is all that it needs.
#[test]
fn files_work_for_a_program_without_a_kernel() {
    let mut host = MemHost::new(Program::HOST_FRAMES, Vec::new());
    let mut ports = host.ports();
    let p = &mut ports;
    let mut program = Program::new();
    let counter = EventFd {
        count: 3,
        semaphore: false,
    };
    let cx = &mut program.call(p);
    let event = ready::open(
        cx,
        FileKind::EventFd(counter),
        Anon::EventFd,
        OpenFlags::RDWR,
    )
    .unwrap();
    let null = FileKind::Device(Device::Null);
    let null = ready::open(cx, null, Anon::EventFd, OpenFlags::RDWR).unwrap();
    let full = FileKind::Device(Device::Full);
    let full = ready::open(cx, full, Anon::EventFd, OpenFlags::RDWR).unwrap();

    assert_eq!(
        ops::ready(&program, THREAD, event, 0) & POLLIN as u16,
        POLLIN as u16
    );
    let read = moved(&mut program, p, rw::read, (event, 64, 8));
    assert_eq!(read.ok(), Some(8));
    let mut bytes = [0; 8];
    program.call(p).read_user(64, &mut bytes).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), 3);
    // Nothing is left of it, so it waits; a bad address and a short buffer are told before.
    let read = moved(&mut program, p, rw::read, (event, 64, 8));
    assert!(matches!(read, Err(Stop::Block(_))), "{read:?}");
    let read = moved(&mut program, p, rw::read, (event, 64, 7));
    assert_eq!(errno(read), Some(Errno::EINVAL));
    let wrote = moved(&mut program, p, rw::write, (event, 4096, 8));
    assert_eq!(errno(wrote), Some(Errno::EFAULT));

    assert_eq!(
        moved(&mut program, p, rw::write, (null, 0, 100)).ok(),
        Some(100)
    );
    assert_eq!(
        moved(&mut program, p, rw::read, (null, 0, 100)).ok(),
        Some(0)
    );
    let wrote = moved(&mut program, p, rw::write, (full, 0, 100));
    assert_eq!(errno(wrote), Some(Errno::ENOSPC));
    // Neither has a place that could be moved to, and only one of them has positions at all.
    let at = How {
        at: Some(0),
        ..How::default()
    };
    let mut iov = Iov::single(0, 8).unwrap();
    let read = rw::read(&mut program.call(p), event, &mut iov, at);
    assert_eq!(errno(read), Some(Errno::ESPIPE));
    for id in [event, null] {
        let sought = rw::seek(&mut program.call(p), id, 100, SEEK_CUR);
        assert_eq!(sought.ok(), Some(0));
    }
    for id in [event, null, full] {
        put(&mut program.files, p, id);
    }
    assert_eq!(program.files.open_files(), 0);
}

/// A pipe that nobody reads sends a signal and fails.
#[test]
fn a_writer_without_readers_is_sent_a_signal() {
    let mut host = MemHost::new(Program::HOST_FRAMES, Vec::new());
    let mut ports = host.ports();
    let p = &mut ports;
    let mut program = Program::new();
    let maker = program.call(p).pipe_maker();
    let files = &mut program.files;
    let (id, path) = pipe::create(files, &maker).unwrap();
    let [reader, writer] = [OpenFlags::RDONLY, OpenFlags::WRONLY].map(|mode| {
        let place = mount::get_path(files, *path);
        let file = File::new(FileKind::Pipe(id), place, None, mode);
        pipe::open_end(files, id, mode);
        add(files, p, file).unwrap()
    });
    put_path(files, p, path);

    program.call(p).write_user(0, b"over there").unwrap();
    assert_eq!(
        moved(&mut program, p, rw::write, (writer, 0, 10)).ok(),
        Some(10)
    );
    assert_eq!(
        moved(&mut program, p, rw::read, (reader, 100, 50)).ok(),
        Some(10)
    );
    let mut bytes = [0; 10];
    program.call(p).read_user(100, &mut bytes).unwrap();
    assert_eq!(&bytes, b"over there");
    let read = moved(&mut program, p, rw::read, (writer, 0, 1));
    assert_eq!(errno(read), Some(Errno::EBADF));
    let sought = rw::seek(&mut program.call(p), reader, 0, SEEK_SET);
    assert_eq!(errno(sought), Some(Errno::ESPIPE));

    put(&mut program.files, p, reader);
    let wrote = moved(&mut program, p, rw::write, (writer, 0, 10));
    assert_eq!(
        (errno(wrote), &program.raised[..]),
        (Some(Errno::EPIPE), &[SIGPIPE][..])
    );
    put(&mut program.files, p, writer);
    remove_gone(&mut program.files);
    assert!(program.files.pipes.get(id).is_none());
}
