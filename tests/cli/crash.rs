//! `kill -9` at whatever moment leaves the old policy or the new one, and nothing else in its folder
//! that would be read.

use std::{fs, process::Stdio, thread::sleep, time::Duration};

use crate::world::{World, command, flow, whole};

/// Moments that are tried; together they spread over the whole of a run.
const MOMENTS: u32 = 40;

/// A policy of so many candidates that reading and writing it takes a while, and a log with one more.
fn world() -> World {
    let world = World::new();
    let flows = |from: u16| -> String {
        let address = |n: u16| format!("192.0.{}.{}", n / 250, n % 250 + 1);
        (from..500)
            .map(|n| flow("w", &address(n), 443, ""))
            .collect()
    };
    world.write("old.jsonl", whole("w", &flows(1)));
    world.write("all.jsonl", whole("w", &flows(0)));
    world.generate(&["old.jsonl", "-o", "policy.toml"]).exits(0);
    world
}

/// What `words` make of the files, and how long that took.
fn whole_run(world: &World, words: &[&str]) -> (Vec<String>, Duration) {
    let before = files(world);
    let began = std::time::Instant::now();
    world.run(words).exits(0);
    let took = began.elapsed();
    let after = files(world);
    restore(world, &before);
    (after, took)
}

fn files(world: &World) -> Vec<String> {
    ["policy.toml", "policy.evidence.json"]
        .map(|name| world.read(name))
        .into()
}

fn restore(world: &World, texts: &[String]) {
    for (name, text) in ["policy.toml", "policy.evidence.json"].iter().zip(texts) {
        world.write(name, text);
    }
}

/// Kills a run of `words` at many moments; how often the old files were left, and how often new ones.
fn killed(world: &World, words: &[&str]) -> (u32, u32) {
    let old = files(world);
    let (new, took) = whole_run(world, words);
    let (mut left_old, mut left_new) = (0, 0);
    for moment in 0..MOMENTS {
        let mut child = command(&world.path(""))
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(took * moment / (MOMENTS - 4));
        // It may have ended by then.
        let _ended = child.kill();
        child.wait().unwrap();
        for (found, (old, new)) in files(world).iter().zip(old.iter().zip(&new)) {
            assert!(
                found == old || found == new,
                "neither the old file nor the new one"
            );
        }
        match files(world)[0] == old[0] {
            true => left_old += 1,
            false => left_new += 1,
        }
        // Whatever was left: the next run does what this one was to do.
        world.run(words).exits(0);
        assert_eq!(files(world)[0], new[0]);
        restore(world, &old);
    }
    let names = fs::read_dir(world.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let policies: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    assert_eq!(policies, ["policy.toml"]);
    (left_old, left_new)
}

#[test]
fn a_crash_while_deciding_leaves_the_old_policy_or_the_new_one() {
    let world = world();
    let words = [
        "policy",
        "approve",
        "policy.toml",
        "192.0.0.9",
        "--reason",
        "the model provider",
        "--owner",
        "o",
        "--now",
        "2026-11-22",
    ];
    let (old, new) = killed(&world, &words);
    assert_eq!(old + new, MOMENTS);
    assert!(old > 0, "no run was killed before it had written");
}

#[test]
fn a_crash_while_merging_leaves_the_old_policy_or_the_new_one() {
    let world = world();
    let (old, new) = killed(&world, &["generate", "all.jsonl", "-o", "policy.toml"]);
    assert_eq!(old + new, MOMENTS);
    assert!(old > 0, "no run was killed before it had written");
}
