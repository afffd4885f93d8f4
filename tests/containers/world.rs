//! What the tests share.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use lab::{Daemon, Log};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Returns from the test, saying so, unless root runs it.
macro_rules! needs_root {
    () => {
        if !lab::is_root_or_skip(std::thread::current().name().unwrap_or("this test")) {
            return;
        }
    };
}
pub(crate) use needs_root;

/// A daemon and its folder.
pub(crate) struct Recording {
    daemon: Option<Daemon>,
    folder: TempDir,
}

impl Recording {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(folder.path(), arguments).unwrap();
        Self {
            daemon: Some(daemon),
            folder,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log_until(&self, workload: &str, enough: impl Fn(&Log) -> bool) -> Log {
        let path = self.path().join(workload).join("flows.jsonl");
        let read = Log::read_until(&path, MINUTE, enough);
        read.unwrap_or_else(|error| {
            let stderr = self.daemon.as_ref().map(Daemon::stderr).unwrap_or_default();
            let text = fs::read_to_string(&path).unwrap_or_default();
            panic!("{error:#}: {:?}: {stderr}{text}", self.workloads())
        })
    }

    /// The daemon's process id, while it runs.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().pid()
    }

    /// Ends the daemon; what it wrote to stderr.
    pub(crate) fn stop(&mut self) -> String {
        self.daemon.take().unwrap().stop().unwrap()
    }

    pub(crate) fn log(&self, workload: &str) -> Log {
        Log::read(&self.path().join(workload).join("flows.jsonl")).unwrap()
    }

    /// The names of all workloads so far, but for containers that the engines do not know: those
    /// are recorded in any case, and may be another test's.
    pub(crate) fn workloads(&self) -> Vec<String> {
        let mut names: Vec<_> = directories(self.path())
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .filter(|name| name.starts_with("lab-"))
            .collect();
        names.sort();
        names
    }
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

/// The gaps of one kind.
pub(crate) fn gaps<'a>(log: &'a Log, what: &'a str) -> Vec<&'a Value> {
    let gaps = log.of_type("gap");
    gaps.filter(|gap| gap["what"] == what).collect()
}

/// The container that a record names.
pub(crate) fn container(flow: &Value) -> &Value {
    &flow["container"]
}
