//! Real captures, through our reader and through tshark: the same destinations and the same names.
//!
//! The captures are in `captures/` of the folder that EGRESS_TRACER_SAMPLES names.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod differences;
mod ours;
mod tshark;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use differences::DIFFERENCES;

const THREADS: usize = 2;

/// The captures, or `None` after saying what is missing.
fn captures() -> Option<Vec<PathBuf>> {
    let Some(folder) = env::var_os("EGRESS_TRACER_SAMPLES") else {
        eprintln!("skipped: EGRESS_TRACER_SAMPLES does not name the folder of the captures");
        return None;
    };
    let folder = Path::new(&folder).join("captures");
    // Tests run in their package; a relative path is meant from the repository.
    let folder = match folder.is_relative() {
        true => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder),
        false => folder,
    };
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    Some(paths)
}

fn has_tshark() -> bool {
    let version = Command::new("tshark")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("skipped: tshark is missing (Debian: tshark)");
    }
    is_there
}

/// Every difference, as `FILE: ours|tshark: LINE`.
fn compare(path: &Path) -> Vec<String> {
    let (ours, tshark) = (ours::read(path), tshark::read(path));
    let file = path.file_name().unwrap().to_string_lossy();
    let only = |side: &str, here: &BTreeSet<String>, there: &BTreeSet<String>| -> Vec<String> {
        let lines = here.difference(there);
        lines
            .map(|line| format!("{file}: {side}: {line}"))
            .collect()
    };
    [only("ours", &ours, &tshark), only("tshark", &tshark, &ours)].concat()
}

#[test]
fn every_capture_gives_what_tshark_reads() {
    let Some(paths) = captures().filter(|_| has_tshark()) else {
        return;
    };
    let waiting = Mutex::new(paths);
    let found = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some(path) = next else { break };
                    let differences = compare(&path);
                    found.lock().unwrap().extend(differences);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let explained: BTreeSet<String> = DIFFERENCES
        .iter()
        .flat_map(|difference| difference.lines.iter())
        .map(|line| (*line).to_owned())
        .collect();
    for difference in &DIFFERENCES {
        eprintln!("explained: {}", difference.why);
    }
    let unexplained: Vec<&String> = found.difference(&explained).collect();
    let gone: Vec<&String> = explained.difference(&found).collect();
    assert!(
        unexplained.is_empty() && gone.is_empty(),
        "unexplained:\n{unexplained:#?}\nno longer there:\n{gone:#?}"
    );
}
