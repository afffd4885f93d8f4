//! Hooks on chosen containers alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lab::{Daemon, Pins};
use nix::sys::signal::Signal;

use crate::{
    own_container::OwnContainer,
    world::{World, missing, needs_root, total, until},
};

/// A container that no engine knows may be anybody's: each daemon here has hooks on all of them.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With `--container` a chosen container has hooks of its own, which outlive the daemon.
#[test]
fn a_chosen_container_keeps_its_hooks() {
    needs_root!();
    let _turn = one_at_a_time();
    let world = World::new();
    let chosen = OwnContainer::start(OwnContainer::an_id());
    let name = OwnContainer::name_of(&chosen.id);
    let pins = Pins::new();
    let output = world.path("out");
    let nobody = world.path("no-engine");
    let arguments = [
        "--container",
        &name,
        "--pin",
        pins.argument(),
        "--docker-socket",
        nobody.to_str().unwrap(),
    ];
    let daemon = Daemon::start(&output, &arguments).unwrap();
    until("it has hooks", || chosen.hooks() == 11);
    chosen.act(&world, "flood 203.0.113.1 1 5");
    let log = daemon.log_until(&name, |log| total(log) == 5).unwrap();
    assert_eq!(missing(&log), Vec::<&serde_json::Value>::new());
    daemon.crash().unwrap();
    chosen.act(&world, "flood 203.0.113.3 1 5");
    let daemon = Daemon::start(&output, &arguments).unwrap();
    let log = daemon.log_until(&name, |log| total(log) == 10).unwrap();
    assert_eq!(missing(&log), Vec::<&serde_json::Value>::new());
    daemon.interrupt().unwrap();
    assert_eq!(chosen.hooks(), 0);
}

/// Where the daemon had no chance to attach in time, the log says that something may be missing.
#[test]
fn hooks_that_came_after_the_first_program_are_told() {
    needs_root!();
    let _turn = one_at_a_time();
    let world = World::new();
    let (late, early) = (OwnContainer::an_id(), OwnContainer::an_id());
    let (late_name, early_name) = (OwnContainer::name_of(&late), OwnContainer::name_of(&early));
    let pins = Pins::new();
    let nobody = world.path("no-engine");
    let arguments = [
        "--container",
        &late_name,
        "--container",
        &early_name,
        "--pin",
        pins.argument(),
        "--docker-socket",
        nobody.to_str().unwrap(),
    ];
    let daemon = Daemon::start(&world.path("out"), &arguments).unwrap();
    daemon.signal(Signal::SIGSTOP);
    let late = OwnContainer::start(late);
    late.act(&world, "flood 203.0.113.1 1 5");
    daemon.signal(Signal::SIGCONT);
    until("it has hooks", || late.hooks() == 11);
    late.act(&world, "flood 203.0.113.3 1 5");
    let log = daemon
        .log_until(&late_name, |log| {
            total(log) == 5 && !missing(log).is_empty()
        })
        .unwrap();
    let gaps = missing(&log);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["what"], "not-attached");
    let detail = gaps[0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("the container ran for "), "{detail}");

    let early = OwnContainer::start(early);
    until("it has hooks", || early.hooks() == 11);
    early.act(&world, "flood 203.0.113.1 1 5");
    let log = daemon
        .log_until(&early_name, |log| total(log) == 5)
        .unwrap();
    assert_eq!(missing(&log), Vec::<&serde_json::Value>::new());
    daemon.stop().unwrap();
}
