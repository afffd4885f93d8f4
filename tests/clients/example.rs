//! The example in C.

use std::process::Command;

use crate::{
    module::repository,
    world::{World, needs_root},
};

#[test]
fn the_example_in_c_marks_what_it_connects_to() {
    needs_root!();
    let world = World::new();
    let program = world.path("mark");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(repository("clients/c/mark.c"));
    lab::output(&mut compiler).unwrap();
    let program = program.to_str().unwrap();
    let log = world.record(&[], &[program, "search", "198.51.100.7", "8000"]);
    let flows: Vec<_> = log.to("198.51.100.7", Some(8000)).collect();
    assert_eq!(log.count("198.51.100.7", 8000), 1);
    for flow in flows {
        let tool = &flow["tool"];
        assert_eq!(tool["name"], "search", "{flow}");
        assert_eq!(tool["call_id"], "c-1", "{flow}");
        assert_eq!(tool["attribution"], "exact", "{flow}");
    }
    // Where nobody listens, the work is done just the same.
    let log = world.record(
        &["--mark-socket", "none"],
        &[program, "search", "198.51.100.7", "8001"],
    );
    assert_eq!(log.count("198.51.100.7", 8001), 1);
    let mut flows = log.to("198.51.100.7", Some(8001));
    assert!(flows.all(|flow| flow["tool"].is_null()));
}
