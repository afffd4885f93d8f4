//! Waiting for something to become true.

use std::{
    env,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(25);

/// How many times longer than a test says it waits: on an emulated processor, say.
const PATIENCE: &str = "EGRESS_TRACER_PATIENCE";

/// Asks again and again until `probe` has an answer. `what` is for the error message.
///
/// # Errors
/// When `probe` fails, or has no answer within `limit`.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let times = env::var(PATIENCE).ok().and_then(|times| times.parse().ok());
    let limit = limit * times.unwrap_or(1);
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain: {what}");
        }
        sleep(PAUSE);
    }
}
