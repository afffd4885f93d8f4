//! How far reading is, with rate and time left, where somebody looks on.

use std::{
    fs,
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::import::Input;

/// How often the bar moves; nothing is shown of what takes less.
const INTERVAL: Duration = Duration::from_millis(200);
const TEMPLATE: &str =
    "reading {bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
/// Where nobody knows how much there will be.
const ENDLESS: &str = "reading {spinner} {bytes}, {binary_bytes_per_sec}";

/// A bar on stderr, gone when dropped. None where stderr is no terminal.
pub(super) struct Progress {
    drawing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    pub(super) fn begin(inputs: &[Input], read: &Arc<AtomicU64>) -> Self {
        if !io::stderr().is_terminal() {
            return Self { drawing: None };
        }
        let (done, is_done) = mpsc::channel();
        let (total, read) = (total(inputs), Arc::clone(read));
        let drawing = thread::spawn(move || {
            let mut bar = None;
            while is_done.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                bar.get_or_insert_with(|| drawn(total))
                    .set_position(read.load(Ordering::Relaxed));
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Self {
            drawing: Some((done, drawing)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, drawing)) = self.drawing.take() {
            drop(done);
            // What it may have to say is no reason to fail.
            let _ = drawing.join();
        }
    }
}

/// Bytes as they are on disk; `None` if there is more than files.
fn total(inputs: &[Input]) -> Option<u64> {
    let size = |input: &Input| match input {
        Input::Stdin => None,
        Input::File(path) => {
            let metadata = fs::metadata(path).ok()?;
            metadata.is_file().then_some(metadata.len())
        }
    };
    inputs.iter().map(size).sum()
}

fn drawn(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), TEMPLATE),
        None => (ProgressBar::no_length(), ENDLESS),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
