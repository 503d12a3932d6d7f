//! What the root of a sandbox is made of.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use varve_core::boot;
use varve_core::machine::ImageId;
use varve_host::{HostImage, HostSetup, RunError};

/// A read-only layer of the root file system.
pub struct Layer(Kind);

enum Kind {
    File(PathBuf),
    Image(String, HostImage),
    Directory(PathBuf),
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::File(path) => f.debug_tuple("Layer::image").field(path).finish(),
            Kind::Image(name, _) => f.debug_tuple("Layer::opened").field(name).finish(),
            Kind::Directory(path) => f.debug_tuple("Layer::directory").field(path).finish(),
        }
    }
}

impl Layer {
    /// An image file, which is opened when the sandbox starts. It must not change while it is used.
    pub fn image(path: impl Into<PathBuf>) -> Layer {
        Layer(Kind::File(path.into()))
    }

    /// An image that is open, with the name that messages call it.
    pub fn opened(name: impl Into<String>, image: HostImage) -> Layer {
        Layer(Kind::Image(name.into(), image))
    }

    /// A directory of the host, which is seen as it is, and as it changes. Programs can read whatever in it
    /// this process can read.
    pub fn directory(path: impl Into<PathBuf>) -> Layer {
        Layer(Kind::Directory(path.into()))
    }

    /// Opens it and adds it to the files of a run.
    pub(crate) fn open(self, setup: &mut HostSetup) -> Result<boot::Layer, RunError> {
        let (name, image) = match self.0 {
            Kind::Image(name, image) => (name, image),
            Kind::File(path) => {
                let name = path.display().to_string();
                let image = File::open(&path).and_then(HostImage::open);
                let image = image.map_err(RunError::host(&name))?;
                (name, image)
            }
            Kind::Directory(path) => {
                let dir = File::open(&path);
                let dir = dir.map_err(RunError::host(&path.display().to_string()))?;
                setup.trees.push(dir.into());
                return Ok(boot::Layer::Host(setup.trees.len() as u32 - 1));
            }
        };
        setup.images.push((name, image));
        Ok(boot::Layer::Image(ImageId(setup.images.len() as u32 - 1)))
    }
}
