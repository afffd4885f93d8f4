//! Processes that live shortly: exactly as many as asked for.

use std::{
    env,
    io::{Error, Result},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

/// How long a refusal may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `count` processes one after the other, each of which runs this program again as `once`.
pub(super) fn storm(count: u32, at: &str, tag: &str) -> Result<()> {
    let myself = env::current_exe()?;
    for number in 0..count {
        let status = Command::new(&myself)
            .args(["once", at, tag, &number.to_string()])
            .status()?;
        if !status.success() {
            return Err(Error::other(format!("number {number}: {status}")));
        }
    }
    Ok(())
}

/// One connection, which may be refused.
pub(super) fn once(at: &str) -> Result<()> {
    let at: SocketAddr = at
        .parse()
        .map_err(|_| super::usage(&format!("{at} is no address")))?;
    let _refused = TcpStream::connect_timeout(&at, PATIENCE);
    Ok(())
}

/// `count` processes that end at once, from as many threads: posix_spawn() of what is not there
/// makes a child, in which exec fails.
pub(super) fn bomb(count: u32, threads: u32) -> Result<()> {
    let workers: Vec<_> = (0..threads.max(1))
        .map(|worker| {
            let share = count / threads.max(1) + u32::from(worker < count % threads.max(1));
            thread::spawn(move || {
                for _ in 0..share {
                    let _fails = Command::new("/nonexistent/program").spawn();
                }
            })
        })
        .collect();
    for worker in workers {
        let ended = worker.join();
        ended.map_err(|_panic| Error::other("a thread panicked"))?;
    }
    Ok(())
}
