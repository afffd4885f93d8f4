//! A directory of its own for each test, log records, and the binary.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub(crate) struct World {
    directory: tempfile::TempDir,
}

/// What came of one call.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Runs `egress-tracer generate` here.
    pub(crate) fn generate(&self, arguments: &[&str]) -> Ran {
        self.generate_from(arguments, b"")
    }

    /// Runs `egress-tracer` here, with these words.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_from(arguments, b"")
    }

    pub(crate) fn generate_from(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        self.run_from(&[&["generate"], arguments].concat(), stdin)
    }

    pub(crate) fn run_from(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut child = command(self.directory.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        Ran::from(child.wait_with_output().unwrap())
    }
}

pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress-tracer"));
    command.current_dir(directory);
    command
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let ran = Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }
}

impl Ran {
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Standard output has it.
    pub(crate) fn shows(self, what: &str) -> Self {
        assert!(self.out.contains(what), "{what:?} is not in {}", self.out);
        self
    }

    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.err.contains(what), "{what:?} is not in {}", self.err);
        self
    }
}

/// One record of workload `workload`, with `body` as its own keys.
pub(crate) fn record(kind: &str, workload: &str, body: &str) -> String {
    format!(
        "{{\"type\":\"{kind}\",\"schema\":\"egress-tracer/1\",\
         \"ts\":\"2026-11-22T10:00:00.000000000Z\",\"host\":\"h\",\"run\":\"r1\",\
         \"workload\":\"{workload}\"{body}}}\n"
    )
}

pub(crate) fn start(workload: &str) -> String {
    record(
        "start",
        workload,
        ",\"version\":\"0\",\"pid\":1,\"hooks\":[]",
    )
}

pub(crate) fn stop(workload: &str) -> String {
    record(
        "stop",
        workload,
        ",\"reason\":\"done\",\"records\":1,\"count\":1",
    )
}

pub(crate) fn rotate(workload: &str, next: &str) -> String {
    record("rotate", workload, &format!(",\"next\":\"{next}\""))
}

pub(crate) fn gap(workload: &str, what: &str, severity: &str) -> String {
    let body =
        format!(",\"what\":\"{what}\",\"detail\":\"d\",\"lost\":3,\"severity\":\"{severity}\"");
    record("gap", workload, &body)
}

/// A TCP flow with further or overriding keys in `more`.
pub(crate) fn flow(workload: &str, ip: &str, port: u16, more: &str) -> String {
    let channel = if more.contains("\"channel\"") {
        ""
    } else {
        ",\"channel\":\"connect\""
    };
    let direction = if more.contains("\"direction\"") {
        ""
    } else {
        ",\"direction\":\"egress\""
    };
    record(
        "flow",
        workload,
        &format!(
            ",\"protocol\":\"tcp\",\"dest_ip\":\"{ip}\",\"dest_port\":{port}{channel}{direction},\
             \"count\":1,\"first_seen\":\"2026-11-22T10:00:00.000000000Z\",\
             \"last_seen\":\"2026-11-22T10:00:01.000000000Z\"{more}"
        ),
    )
}

/// A recording in good order.
pub(crate) fn whole(workload: &str, flows: &str) -> String {
    start(workload) + flows + &stop(workload)
}
