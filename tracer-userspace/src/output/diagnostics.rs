//! `stderr()`: where diagnostics go. Whoever records must not wait for somebody who does not read them:
//! a line that does not fit is left out, and the next one that does says how many were.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Standard error, as far as it takes something at once. Each write is a line or several.
#[derive(Debug)]
pub struct Diagnostics;

/// For tracing-subscriber.
#[must_use]
pub fn stderr() -> Diagnostics {
    Diagnostics
}

impl Write for Diagnostics {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !takes_more() {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let mut text = Vec::new();
        let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            writeln!(
                text,
                "{left_out} line(s) were left out here: nobody read them"
            )?;
        }
        text.extend(line);
        io::stderr().lock().write_all(&text)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a line can be written without waiting: a pipe that is ready takes 4096 bytes.
#[cfg(feature = "capture")]
fn takes_more() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;

    let stderr = io::stderr();
    let mut waiting = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // Where nothing can be said of it, the write itself will tell.
    poll(&mut waiting, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
}

#[cfg(not(feature = "capture"))]
fn takes_more() -> bool {
    true
}
