//! A real LangChain agent and its flows: marked, marked without the hook, and by its spans alone.

use crate::world::{World, flows, needs_root};

#[test]
fn each_flow_of_an_agent_is_its_calls() {
    needs_root!();
    let score = World::new().agent(&[], &["--mark"], flows());
    score.check(flows());
    // With the hook every thread says for whom it connects.
    assert_eq!(score.known_as("ambiguous"), 0, "{score}");
    assert_eq!(score.known_as("window"), 0, "{score}");
}

#[test]
fn what_is_not_certain_without_the_hook_is_said_to_be_ambiguous() {
    needs_root!();
    let score = World::new().agent(&[], &["--mark-unhooked"], 200);
    score.check(200);
    assert!(score.known_as("ambiguous") > 0, "{score}");
    assert!(score.known_as("exact") > 100, "{score}");
}

#[test]
fn spans_alone_tell_most_and_are_never_exact() {
    needs_root!();
    for place in ["http://127.0.0.1:4318", "grpc://127.0.0.1:4317"] {
        let (_, listens) = place.split_once("//").unwrap();
        let options = ["--otlp", listens];
        let world = World::new();
        let score = world.agent(&options, &["--parallel", "1", "--otlp", place], flows());
        score.check(flows());
        assert_eq!(
            score.known_as("exact") + score.known_as("process"),
            0,
            "{score}"
        );
        let right = score.known_as("window") * 100;
        assert!(right >= 95 * flows(), "{score}");
    }
}
