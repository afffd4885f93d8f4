//! The Python module's own tests, in the virtual environment that holds what they need.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Python with the module and its tests in reach.
pub(crate) fn python() -> Command {
    let mut python = Command::new(repository("tests/clients/.venv/bin/python"));
    let folders = [
        "clients/python/src",
        "clients/python/tests",
        "tests/clients",
    ]
    .map(repository);
    python.env("PYTHONPATH", std::env::join_paths(folders).unwrap());
    // No agent of ours tells anybody about itself.
    python.env("LANGSMITH_TRACING", "false");
    python
}

/// Every test of one file passes, and there were some.
fn pass(file: &str) {
    let output = python().args(["-m", "unittest", file]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("Ran 0 tests"), "{said}");
}

#[test]
fn the_client_by_itself() {
    pass("test_client");
}

#[test]
fn the_handler_for_langchain() {
    pass("test_langchain");
}

#[test]
fn the_hook_for_llm_guard() {
    pass("test_llm_guard");
}
