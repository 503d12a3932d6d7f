//! How far a build or a conversion is: bars on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use varve_image::oci::ConvertProgress;
use varve_image::{Progress, Work};

use crate::text;

/// Lines come this often where there is no terminal; short builds show none.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows progress on standard error.
pub(crate) struct Report {
    bar: Option<ProgressBar>,
    work: Option<Work>,
    last_line: Instant,
}

impl Report {
    pub(crate) fn new() -> Report {
        let bar = io::stderr()
            .is_terminal()
            .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)));
        Report {
            bar,
            work: None,
            last_line: Instant::now(),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Report {
    fn advance(&mut self, work: Work, done: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            if self.work != Some(work) {
                let template = match work {
                    Work::Data if total.is_none() => "data     {bytes:>10} {bytes_per_sec:>12}",
                    Work::Data => "data     {wide_bar} {bytes:>10} {bytes_per_sec:>12}",
                    Work::Metadata => "metadata {wide_bar} {pos}/{len}",
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                self.work = Some(work);
            }
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let of = total.map_or(String::new(), |total| format!(" of {total}"));
            let what = match work {
                Work::Data => "bytes read",
                Work::Metadata => "inodes written",
            };
            let _ = writeln!(io::stderr(), "varve: {done}{of} {what}");
        }
    }
}

/// Letters of a layer's name that are shown: with them, a bar and two sizes a line fits into 50 columns.
const NAME: usize = 12;

/// A bar for each layer at work and one for all on a terminal, lines elsewhere.
pub(crate) struct Bars {
    multi: Option<MultiProgress>,
    /// What was done with a layer.
    done: &'static str,
    layers: Mutex<Layers>,
}

#[derive(Default)]
struct Layers {
    bars: Vec<Option<ProgressBar>>,
    names: Vec<String>,
    total: Option<ProgressBar>,
}

impl Bars {
    pub(crate) fn new(done: &'static str) -> Bars {
        let multi = io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Bars {
            multi,
            done,
            layers: Mutex::default(),
        }
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clear(&self) {
        if let Some(multi) = &self.multi {
            let _ = multi.clear();
        }
    }
}

/// A digest is known by its beginning, a file by the end of its path.
fn short(name: &str) -> String {
    let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = match is_digest {
        true => &name[..NAME],
        false => name.rsplit('/').next().unwrap_or(name),
    };
    text::shown(name).to_string()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl ConvertProgress for Bars {
    fn begin(&self, layer: usize, name: &str, total: Option<u64>) {
        let name = short(name);
        let mut layers = self.layers();
        if layers.bars.len() <= layer {
            layers.bars.resize(layer + 1, None);
            layers.names.resize(layer + 1, String::new());
        }
        layers.names[layer].clone_from(&name);
        let Some(multi) = &self.multi else { return };
        let all = match &layers.total {
            Some(all) => all.clone(),
            None => {
                let bar = multi.add(ProgressBar::new(0));
                bar.set_style(style(
                    "all layers   {wide_bar} {bytes:>10}/{total_bytes:<10}",
                ));
                layers.total = Some(bar.clone());
                bar
            }
        };
        let bar = multi.insert_before(&all, ProgressBar::new(total.unwrap_or_default()));
        bar.set_style(style(match total {
            Some(_) => "{msg:12} {wide_bar} {bytes:>10}/{total_bytes:<10}",
            None => "{msg:12} {bytes:>10}",
        }));
        bar.set_message(name.chars().take(NAME).collect::<String>());
        if let Some(total) = total {
            all.inc_length(total);
        }
        layers.bars[layer] = Some(bar);
    }

    fn advance(&self, layer: usize, done: u64) {
        if self.multi.is_none() {
            return;
        }
        let layers = self.layers();
        if let Some(Some(bar)) = layers.bars.get(layer) {
            let before = bar.position();
            bar.set_position(done);
            if let Some(all) = &layers.total {
                let more = done.saturating_sub(before);
                // What nobody knew the size of before counts as it comes.
                if bar.length() == Some(0) {
                    all.inc_length(more);
                }
                all.inc(more);
            }
        }
    }

    fn end(&self, layer: usize, reused: bool) {
        let mut layers = self.layers();
        match layers.bars.get_mut(layer).and_then(Option::take) {
            Some(bar) => {
                if let (Some(all), Some(len)) = (&layers.total, bar.length()) {
                    all.inc(len.saturating_sub(bar.position()));
                }
                bar.finish_and_clear();
            }
            None => {
                let how = if reused { "there before" } else { self.done };
                let name = layers.names.get(layer).map_or("", String::as_str);
                text::say(format_args!("layer {}: {name}: {how}", layer + 1));
            }
        }
    }
}
