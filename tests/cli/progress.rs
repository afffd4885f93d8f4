//! How far reading is, told where stderr is a terminal and nowhere else.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use crate::world::{World, command};

const LINE: &str = "{\"dest_ip\":\"192.0.2.1\",\"dest_port\":443}\n";

#[test]
fn a_terminal_shows_how_far_reading_is() {
    let found = Command::new("script")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if found.is_err() {
        eprintln!("SKIPPED a_terminal_shows_how_far_reading_is: not installed: script");
        return;
    }
    let world = World::new();
    let pipe = world.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let binary = command(&world.path("")).get_program().to_owned();
    let generate = format!("{} generate pipe -o policy.toml", binary.to_str().unwrap());
    let mut child = Command::new("script")
        .args(["-qec", &generate, "/dev/null"])
        .current_dir(world.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Open until the rate was seen: nothing is shown of what is read at once.
    let mut writer = File::create(&pipe).unwrap();
    writer.write_all(LINE.as_bytes()).unwrap();
    let mut terminal = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("B/s") {
        let mut piece = [0; 256];
        let length = terminal.read(&mut piece).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&piece[..length]);
    }
    drop(writer);
    terminal.read_to_end(&mut shown).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&shown).contains("reading"));
    assert!(world.read("policy.toml").contains("192.0.2.1"));
}

#[test]
fn a_pipe_shows_nothing_of_it() {
    let world = World::new();
    world.write("log.jsonl", LINE.repeat(100_000));
    let ran = world.generate(&["log.jsonl"]).exits(0);
    assert_eq!(ran.err, "");
}
