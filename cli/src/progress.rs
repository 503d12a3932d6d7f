//! How far a build is: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use varve_image::{Progress, Work};

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
        let bar = std::io::stderr()
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
                    Work::Data => "data     {bar:40} {bytes} {bytes_per_sec}",
                    Work::Metadata => "metadata {bar:40} {pos}/{len}",
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
