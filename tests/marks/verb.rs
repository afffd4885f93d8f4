//! `egress-tracer mark`.

use std::process::Command;

use lab::egress_tracer;

use crate::world::{World, is_nobodys, is_of, needs_root, script, tool};

#[test]
fn a_command_and_all_it_starts_are_the_tools() {
    needs_root!();
    let tracer = egress_tracer().unwrap();
    let (tracer, script) = (tracer.to_str().unwrap(), script());
    let line = format!(
        "{tracer} mark Web --call 7 -- sh -c 'python3 {script} connect 1; \
         python3 {script} connect 2 1 & '; python3 {script} connect 3; sleep 3"
    );
    let log = World::new().record(&[], &["sh", "-c", &line]);
    is_of(&log, 1, "7", "process");
    // After the end of the command that was marked.
    is_of(&log, 2, "7", "process");
    assert_eq!(tool(&log, 2)["name"], "Web");
    is_nobodys(&log, 3);
}

#[test]
fn without_a_daemon_the_command_is_merely_run() {
    let mark = |words: &[&str]| {
        Command::new(egress_tracer().unwrap())
            .env("EGRESS_TRACER_SOCKET", "/nonexistent/mark.sock")
            .args(["mark", "Web", "--"])
            .args(words)
            .output()
            .unwrap()
    };
    let ran = mark(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(ran.status.code(), Some(7));
    assert_eq!(
        (&ran.stdout[..], &ran.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(mark(&["/nonexistent"]).status.code(), Some(127));
    assert_eq!(mark(&["/etc/passwd"]).status.code(), Some(126));
}
