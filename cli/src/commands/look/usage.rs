//! What the layers of an image hold, and how much of it is for nothing: files that layers above replace or
//! take away.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::str::FromStr;

use serde_json::{Value, json};
use varve_image::walk::{Next, is_dir, walk};
use varve_imgfs::{Block, ImageId, Stack};

use super::absolute;
use crate::mounts::parse_size;
use crate::output::{count, human, sum};
use crate::stacks::OpenStack;
use crate::text;

/// Directories so deep are summed up.
const DEPTH: usize = 3;
/// Most wasted files, and most large ones, that are kept one by one.
const KEPT: usize = 1000;

/// One layer.
#[derive(Default, Clone)]
pub(crate) struct LayerUsage {
    /// Length of the layer's file.
    pub image: u64,
    /// Bytes of its files, one with several names counted once.
    pub content: u64,
    /// Of these, what shows in the image.
    pub visible: u64,
    /// What made it, where something tells.
    pub command: Option<String>,
}

impl LayerUsage {
    /// Bytes of files that layers above replace or take away.
    pub(crate) fn wasted(&self) -> u64 {
        self.content.saturating_sub(self.visible)
    }
}

/// A file of a layer that does not show.
pub(crate) struct Wasted {
    /// Its path.
    pub path: Vec<u8>,
    /// The layer that has it.
    pub layer: usize,
    /// Its bytes.
    pub bytes: u64,
    /// The layer that has something else there now; `None` where nothing is left.
    pub by: Option<usize>,
}

/// What is in the layers of an image.
#[derive(Default)]
pub(crate) struct Usage {
    /// Lowest first.
    pub layers: Vec<LayerUsage>,
    /// Most bytes first.
    pub wasted: Vec<Wasted>,
    /// Bytes that show below each directory, by its path.
    pub dirs: BTreeMap<Vec<u8>, u64>,
    /// The largest files that show: bytes, layer, path.
    pub files: Vec<(u64, usize, Vec<u8>)>,
    /// Whether something could not be read, so that there may be more.
    pub incomplete: bool,
}

impl Usage {
    /// Looks at each layer alone and at all of them together. What cannot be read is passed over.
    pub(crate) fn of(stack: &mut OpenStack) -> Usage {
        let OpenStack { images, names, .. } = &*stack;
        let mut usage = Usage::default();
        for number in 0..names.len() {
            usage.layers.push(LayerUsage {
                image: images.0.get(number).map_or(0, Block::len),
                command: stack.commands.get(number).cloned(),
                ..LayerUsage::default()
            });
        }
        let seen = usage.visible(stack);
        usage.hidden(stack, &seen);
        drop(stack.stack.take_faults());
        usage
    }

    /// Sums up what shows. Gives the inodes of its files, and the layer that shows at the path of each file.
    fn visible(&mut self, stack: &mut OpenStack) -> HashSet<(usize, u64)> {
        let mut seen = HashSet::new();
        let root = stack.stack.root();
        let images = &stack.images;
        let Ok(()) = walk(&mut stack.stack, images, root, &mut |_, item| {
            let Ok(attr) = item.attr else {
                self.incomplete = true;
                return Ok::<_, Infallible>(Next::Into);
            };
            if is_dir(attr.mode) {
                if item.depth <= DEPTH {
                    self.dirs.entry(item.path.to_vec()).or_default();
                }
                return Ok(Next::Into);
            }
            let (layer, nid) = (item.inode.layer(), item.inode.nid());
            if attr.mode & 0o170000 != 0o100000 || !seen.insert((layer, nid)) {
                return Ok(Next::Into);
            }
            if let Some(layer) = self.layers.get_mut(layer) {
                layer.visible = layer.visible.saturating_add(attr.size);
            }
            let ends = item.path.iter().enumerate();
            let ends = ends.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            for end in std::iter::once(0).chain(ends).take(DEPTH + 1) {
                if let Some(bytes) = self.dirs.get_mut(&item.path[..end]) {
                    *bytes = bytes.saturating_add(attr.size);
                }
            }
            self.files.push((attr.size, layer, item.path.to_vec()));
            if self.files.len() > 2 * KEPT {
                self.trim_files();
            }
            Ok(Next::Into)
        });
        self.trim_files();
        seen
    }

    fn trim_files(&mut self) {
        self.files.sort_by(|a, b| (b.0, &a.2).cmp(&(a.0, &b.2)));
        self.files.truncate(KEPT);
    }

    /// Finds what does not show in each layer.
    fn hidden(&mut self, stack: &mut OpenStack, seen: &HashSet<(usize, u64)>) {
        for number in 0..self.layers.len() {
            let images = &stack.images;
            let Ok(mut alone) = Stack::open(images, &[ImageId(number as u32)], None) else {
                self.incomplete = true;
                continue;
            };
            let mut own = HashSet::new();
            let mut content = 0_u64;
            let root = alone.root();
            let Ok(()) = walk(&mut alone, images, root, &mut |_, item| {
                let Ok(attr) = item.attr else {
                    self.incomplete = true;
                    return Ok::<_, Infallible>(Next::Into);
                };
                let nid = item.inode.nid();
                if attr.mode & 0o170000 == 0o100000 && own.insert(nid) {
                    content = content.saturating_add(attr.size);
                    if attr.size > 0 && !seen.contains(&(number, nid)) {
                        self.wasted.push(Wasted {
                            path: item.path.to_vec(),
                            layer: number,
                            bytes: attr.size,
                            by: None,
                        });
                        // Many files with long paths are more than their image is long.
                        if self.wasted.len() > 2 * KEPT {
                            self.trim_wasted();
                        }
                    }
                }
                Ok(Next::Into)
            });
            self.layers[number].content = content;
        }
        self.trim_wasted();
        for wasted in &mut self.wasted {
            let found = stack.resolve(&wasted.path, false);
            wasted.by = found.ok().map(|inode| inode.layer());
        }
    }

    fn trim_wasted(&mut self) {
        self.wasted
            .sort_by(|a, b| (b.bytes, &a.path, a.layer).cmp(&(a.bytes, &b.path, b.layer)));
        self.wasted.truncate(KEPT);
    }

    /// Bytes of all files of all layers.
    pub(crate) fn content(&self) -> u64 {
        sum(self.layers.iter().map(|layer| layer.content))
    }

    /// Bytes of those that do not show.
    pub(crate) fn wasted_bytes(&self) -> u64 {
        sum(self.layers.iter().map(LayerUsage::wasted))
    }

    /// How much of the layers' bytes shows, from 0 to 1.
    pub(crate) fn efficiency(&self) -> f64 {
        match self.content() {
            0 => 1.0,
            content => 1.0 - self.wasted_bytes() as f64 / content as f64,
        }
    }

    /// The score in one line.
    pub(crate) fn score(&self) -> String {
        let more = if self.incomplete {
            "; not everything could be read"
        } else {
            ""
        };
        format!(
            "{}, {} of {} wasted{more}",
            percent(self.efficiency()),
            human(self.wasted_bytes()),
            human(self.content())
        )
    }

    /// The parts that `inspect` and `du` have in common, for programs.
    pub(crate) fn json(&self) -> Value {
        let wasted = self.wasted.iter().map(|wasted| {
            let mut value = json!({
                "layer": wasted.layer,
                "bytes": wasted.bytes,
                "replaced_by": wasted.by,
            });
            text::put(&mut value, "path", &wasted.path_from_root());
            value
        });
        json!({
            "bytes": self.content(),
            "wasted_bytes": self.wasted_bytes(),
            "efficiency": self.efficiency(),
            "wasted": wasted.collect::<Vec<_>>(),
            "complete": !self.incomplete,
        })
    }
}

impl Wasted {
    /// Its path as it is shown.
    pub(crate) fn path_from_root(&self) -> Vec<u8> {
        absolute(&self.path)
    }

    /// What became of it.
    pub(crate) fn fate(&self) -> String {
        match self.by {
            Some(by) if by > self.layer => format!("layer {}, replaced in layer {by}", self.layer),
            _ => format!("layer {}, removed above", self.layer),
        }
    }
}

/// A part of a whole, 0 to 1, in percent, not rounded up to all of it.
pub(crate) fn percent(part: f64) -> String {
    match (part * 1000.0).floor() / 10.0 {
        whole if whole == whole.floor() => format!("{whole:.0}%"),
        tenths => format!("{tenths:.1}%"),
    }
}

/// A bar of so many cells for a part of a whole.
pub(crate) fn bar(part: u64, whole: u64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = match whole {
        0 => 0,
        whole => (u128::from(part.min(whole)) * cells as u128 * 8).div_ceil(whole.into()) as usize,
    };
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(EIGHTHS[eighths % 8]);
    let used = eighths.div_ceil(8);
    bar.push_str(&" ".repeat(cells.saturating_sub(used)));
    bar
}

/// Most that may be wasted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MaxWaste {
    /// So many bytes.
    Bytes(u64),
    /// Such a part of all bytes of the layers, in percent.
    Percent(f64),
}

impl FromStr for MaxWaste {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is neither a size such as 10m nor a part such as 5%");
        match text.strip_suffix('%') {
            Some(number) => match number.trim().parse() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
                _ => Err(bad()),
            },
            None => parse_size(text).map(Self::Bytes).map_err(|_| bad()),
        }
    }
}

impl MaxWaste {
    /// Tells of an image that wastes more; whether it does not.
    pub(crate) fn holds(self, name: &str, usage: &Usage) -> bool {
        let wasted = usage.wasted_bytes();
        let (holds, most) = match self {
            Self::Bytes(most) => (wasted <= most, count(most, "byte")),
            Self::Percent(most) => {
                let part = 100.0 * (1.0 - usage.efficiency());
                (part <= most, format!("{most}%"))
            }
        };
        if !holds {
            text::say(format_args!(
                "{name}: {wasted} of {} bytes are wasted ({}), more than {most}",
                usage.content(),
                percent(1.0 - usage.efficiency())
            ));
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_parts_have_their_length() {
        assert_eq!(bar(0, 10, 4), "    ");
        assert_eq!(bar(10, 10, 4), "████");
        assert_eq!(bar(5, 10, 4), "██  ");
        assert_eq!(bar(1, 1000, 4), "▏   ");
        assert_eq!(bar(7, 0, 3), "   ");
        assert_eq!(bar(u64::MAX, u64::MAX, 2), "██");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(percent(0.99999), "99.9%");
        assert_eq!(percent(0.5), "50%");
    }

    #[test]
    fn a_limit_is_bytes_or_a_part() {
        assert_eq!("10m".parse::<MaxWaste>(), Ok(MaxWaste::Bytes(10 << 20)));
        assert_eq!("0".parse::<MaxWaste>(), Ok(MaxWaste::Bytes(0)));
        assert_eq!("2.5%".parse::<MaxWaste>(), Ok(MaxWaste::Percent(2.5)));
        for text in ["", "%", "101%", "-1%", "NaN%", "much", "5 %%"] {
            assert!(text.parse::<MaxWaste>().is_err(), "{text}");
        }
    }
}
