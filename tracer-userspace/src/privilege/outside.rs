//! The one thread outside of the Landlock domain. A process in a domain may not look at the
//! executable, the working directory or the namespaces of one outside of it, and writes nowhere but
//! below its own directories: who needs either has it done here.
//!
//! It shares the memory of the others. That keeps a wrong path from being followed, not somebody who
//! runs code of his own in this process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        mpsc::{self, Sender},
    },
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

/// Where jobs are taken. Without it nobody is in a domain.
static DOOR: OnceLock<Sender<Job>> = OnceLock::new();

/// Starts the thread, once, with what the calling thread may do.
///
/// # Errors
/// The kernel refuses a thread.
pub(super) fn stay() -> io::Result<()> {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::Builder::new()
        .name("outside".to_owned())
        .spawn(move || jobs.into_iter().for_each(|job| job()))?;
    // A second one would end at once, having nothing to do.
    let _first = DOOR.set(sender);
    Ok(())
}

/// Does it outside, and waits. Meant for what takes microseconds: others wait for their turn.
///
/// # Errors
/// The thread is gone.
pub fn within<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let Some(door) = DOOR.get() else {
        return Ok(job());
    };
    let (sender, answer) = mpsc::sync_channel(1);
    let answered = move || {
        // Whoever asked is waiting.
        let _told = sender.send(job());
    };
    let gone = || io::Error::other("the thread that looks at processes is gone");
    door.send(Box::new(answered)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())
}

/// The same for what takes long: in a thread of its own.
///
/// # Errors
/// The kernel refuses a thread, or it ended badly.
pub fn at_length<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let thread = within(|| thread::Builder::new().spawn(job))??;
    thread
        .join()
        .map_err(|_panic| io::Error::other("it ended badly"))
}

/// Where a link leads.
///
/// # Errors
/// As [`fs::read_link`], and [`within`].
pub fn read_link(path: &Path) -> io::Result<PathBuf> {
    let path = path.to_owned();
    within(move || fs::read_link(path))?
}
