//! Files of a stack become a tar stream, in pax form.

use std::collections::HashMap;
use std::io::{self, Write};

use varve_image::tarball::{CopyError, Member, Tarball};
use varve_image::walk::is_dir;
use varve_imgfs::{Images, Ino, Stack};

use super::super::cat::runs;
use super::{Object, Sink, xattrs};
use crate::stop::Stop;

/// A tar stream in pax form.
pub(super) struct Tar<W: Write> {
    tarball: Option<Tarball<Stoppable<W>>>,
    stop: Stop,
    linked: HashMap<Ino, Vec<u8>>,
}

/// Passes bytes on until a signal comes.
struct Stoppable<W>(W, Stop);

impl<W: Write> Write for Stoppable<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.1.check()?;
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Tar<W> {
    pub(super) fn new(out: W, stop: Stop) -> Self {
        Self {
            tarball: Some(Tarball::new(Stoppable(out, stop.clone()))),
            stop,
            linked: HashMap::new(),
        }
    }
}

impl<W: Write> Sink for Tar<W> {
    fn object(
        &mut self,
        stack: &mut Stack,
        images: &dyn Images,
        object: &Object<'_>,
    ) -> Result<(), CopyError> {
        self.stop.check().map_err(CopyError::Write)?;
        let Some(tarball) = &mut self.tarball else {
            return Ok(());
        };
        let (inode, attr) = (object.inode, object.attr);
        let mut member = Member {
            path: object.path,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            mtime: (attr.mtime.sec, attr.mtime.nsec),
            rdev: attr.rdev,
            target: b"",
            xattrs: &[],
        };
        if !is_dir(attr.mode) && attr.nlink > 1 {
            if let Some(first) = self.linked.get(&inode) {
                let linked = tarball.hard_link(&member, first);
                return linked.map_err(CopyError::Write);
            }
            self.linked.insert(inode, object.path.to_vec());
        }
        let pairs = xattrs(stack, images, inode)?;
        member.xattrs = &pairs;
        if attr.mode & 0o170000 == 0o100000 {
            return tarball.file(&member, attr.size, &mut |each| {
                runs(stack, images, inode, each)
            });
        }
        let target = match attr.mode & 0o170000 {
            0o120000 => stack.read_link(images, inode).map_err(CopyError::Read)?,
            _ => Vec::new(),
        };
        member.target = &target;
        // Archives have no sockets.
        tarball
            .member(&member)
            .map(|_| ())
            .map_err(CopyError::Write)
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.tarball.take() {
            Some(tarball) => tarball.finish().map(|_| ()),
            None => Ok(()),
        }
    }
}
