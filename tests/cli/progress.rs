//! How far reading is, told where stderr is a terminal and nowhere else.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
};

use crate::world::{World, command};

const LINE: &str = "{\"dest_ip\":\"192.0.2.1\",\"dest_port\":443}\n";

/// What `generate INPUT` is drawn on, a terminal; `None` after saying that there is no `script`.
fn on_terminal(world: &World, input: &str, test: &str) -> Option<Child> {
    let found = Command::new("script")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if found.is_err() {
        eprintln!("SKIPPED {test}: not installed: script");
        return None;
    }
    let binary = command(&world.path("")).get_program().to_owned();
    let generate = format!(
        "{} generate {input} -o policy.toml",
        binary.to_str().unwrap()
    );
    let mut script = Command::new("script");
    script
        .args(["-qec", &generate, "/dev/null"])
        .current_dir(world.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Some(script.spawn().unwrap())
}

/// Reads what is shown until the text is there.
fn shown_until(child: &mut Child, wanted: &str) -> String {
    let terminal = child.stdout.as_mut().unwrap();
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(wanted) {
        let mut piece = [0; 256];
        let length = terminal.read(&mut piece).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&piece[..length]);
    }
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn a_terminal_shows_how_far_reading_is() {
    let world = World::new();
    let pipe = world.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let test = "a_terminal_shows_how_far_reading_is";
    let Some(mut child) = on_terminal(&world, "pipe", test) else {
        return;
    };
    // Open until the rate was seen: nothing is shown of what is read at once.
    let mut writer = File::create(&pipe).unwrap();
    writer.write_all(LINE.as_bytes()).unwrap();
    let shown = shown_until(&mut child, "B/s");
    assert!(shown.contains("reading"), "{shown}");
    drop(writer);
    let mut rest = Vec::new();
    let terminal = child.stdout.as_mut().unwrap();
    terminal.read_to_end(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(world.read("policy.toml").contains("192.0.2.1"));
}

#[test]
fn a_terminal_shows_the_time_left() {
    let world = World::new();
    // Lines that take long to understand, and more of them than are read before the bar is drawn.
    let line = "{\"dest_ip\":\"192.0.2.1\",\"dest_port\":443,\"others\":[]}\n";
    let block = line.repeat(20_000);
    let mut file = File::create(world.path("log.jsonl")).unwrap();
    for _ in 0..256 {
        file.write_all(block.as_bytes()).unwrap();
    }
    let test = "a_terminal_shows_the_time_left";
    let Some(mut child) = on_terminal(&world, "log.jsonl", test) else {
        return;
    };
    let shown = shown_until(&mut child, " left");
    let size = 256 * block.len() as u64;
    let total = format!("of {:.2} MiB", size as f64 / f64::from(1 << 20));
    assert!(
        shown.contains("reading") && shown.contains(&total),
        "{shown}"
    );
    assert!(shown.contains("s left"), "{shown}");
    // Its terminal goes with it, which ends what is drawn there.
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_pipe_shows_nothing_of_it() {
    let world = World::new();
    world.write("log.jsonl", LINE.repeat(100_000));
    let ran = world.generate(&["log.jsonl"]).exits(0);
    assert_eq!(ran.err, "");
}
