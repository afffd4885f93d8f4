//! A little internet that serves every address at the agent's ports, and an agent in it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use lab::{Internet, Kind, Log, Namespace, Plan, egress_tracer};
use tempfile::TempDir;

use crate::{
    module::repository,
    score::{Score, Truth},
};

/// Returns from the test, saying so, unless root runs it.
macro_rules! needs_root {
    () => {
        if !lab::is_root_or_skip(std::thread::current().name().unwrap_or("this test")) {
            return;
        }
    };
}
pub(crate) use needs_root;

/// How many flows an agent makes: the larger size where the whole of it is asked for.
pub(crate) fn flows() -> u64 {
    match std::env::var_os("EGRESS_TRACER_FULL") {
        Some(_) => 10_000,
        None => 1_000,
    }
}

/// What serves the agent's destinations.
pub(crate) fn plan() -> Plan {
    (8000..8020).fold(Plan::new(), |plan, port| {
        plan.server(Kind::Http, &format!("0.0.0.0:{port}"))
    })
}

pub(crate) struct World {
    _internet: Internet,
    client: Namespace,
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let internet = Internet::start(&plan()).unwrap();
        let client = internet.client("agent").unwrap();
        Self {
            _internet: internet,
            client,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `egress-tracer run OPTIONS -- COMMAND`, recorded in the folder.
    pub(crate) fn record(&self, options: &[&str], command: &[&str]) -> Log {
        let mut tracer = self.client.command(egress_tracer().unwrap());
        tracer
            .arg("run")
            .arg("-o")
            .arg(self.path("out"))
            .args(options);
        environment(&mut tracer);
        let output = tracer.arg("--").args(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Log::read(&self.path("out/flows.jsonl")).unwrap()
    }

    /// Has the agent make so many flows, and holds the log against what it did.
    pub(crate) fn agent(&self, options: &[&str], how: &[&str], flows: u64) -> Score {
        let (python, agent, truth) = (
            text(&repository("tests/clients/.venv/bin/python")),
            text(&repository("tests/clients/agent.py")),
            text(&self.path("truth.jsonl")),
        );
        let flows = flows.to_string();
        let command = [&python, &agent, "--flows", &flows, "--truth", &truth];
        let log = self.record(options, &[&command, how].concat());
        Score::of(&log, &Truth::read(Path::new(&truth)))
    }
}

/// What an agent finds its modules with.
fn environment(command: &mut Command) {
    command.env("PYTHONPATH", repository("clients/python/src"));
    command.env("LANGSMITH_TRACING", "false");
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
