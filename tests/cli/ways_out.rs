//! What no rule will be about, and what the recording kernel could not see: said, and asked for.

use crate::world::{World, flow, record, stop, whole};

const REFUSED: &str = ",\"outcomes\":{\"refused\":1}";

fn unix(path: &str) -> String {
    let body = format!(
        ",\"protocol\":\"ip-0\",\"dest_path\":\"{path}\",\"channel\":\"unix\",\"direction\":\"egress\",\
         \"count\":2,\"first_seen\":\"2026-11-22T10:00:00Z\",\"last_seen\":\"2026-11-22T10:00:00Z\",\
         \"comm\":\"agent\""
    );
    record("flow", "w", &body)
}

#[test]
fn what_no_rule_covers_and_what_never_succeeded_is_said_and_proposed_when_asked_for() {
    let world = World::new();
    let flows = flow("w", "10.0.0.1", 443, "")
        + &flow("w", "10.0.0.2", 80, REFUSED)
        + &unix("/run/docker.sock")
        + &unix("/run/\\u001b[31m");
    world.write("flows.jsonl", whole("w", &flows));
    let ran = world.generate(&["flows.jsonl", "-o", "out/"]).exits(0);
    let ran = ran.says("attempted, never succeeded: 10.0.0.2 80/tcp (refused 1)");
    let ran = ran.says("no rule covers it: unix /run/docker.sock (agent)");
    assert!(!ran.err.contains('\u{1b}'), "{ran:?}");
    assert!(!world.read("out/policy.toml").contains("10.0.0.2"));
    let all = ["flows.jsonl", "-o", "all/", "--include-failed"];
    world.generate(&all).exits(0);
    assert!(world.read("all/policy.toml").contains("to = \"10.0.0.2\""));
    assert!(world.read("all/rules.nft").contains("10.0.0.2"));
}

#[test]
fn hooks_that_the_kernel_lacked_are_named_in_everything_that_is_made() {
    let world = World::new();
    let lacking = ",\"version\":\"0\",\"pid\":1,\"hooks\":[],\
        \"missing\":{\"sock_send_length\":\"what some sockets send\",\"bad\\u001b[31m\\nto = \":\"x\"}";
    let start = record("start", "w", lacking);
    let log = |start: &str| start.to_owned() + &flow("w", "10.0.0.1", 443, "") + &stop("w");
    world.write("flows.jsonl", log(&start));
    let ran = world.generate(&["flows.jsonl", "-o", "out/"]).exits(0);
    let ran = ran.says("note: w: the kernel lacked sock_send_length: what some sockets send");
    assert!(!ran.err.contains('\u{1b}'), "{ran:?}");
    for made in ["out/policy.toml", "out/rules.nft", "out/rules.v4"] {
        let text = world.read(made);
        assert!(text.contains("lacked bad31mto, sock_send_length"), "{text}");
    }
    let evidence = world.read("out/policy.evidence.json");
    assert!(evidence.contains("what some sockets send"), "{evidence}");
    // Merged with a whole recording in its place, the mark is gone.
    world.write("flows.jsonl", log(&crate::world::start("w")));
    world.generate(&["flows.jsonl", "-o", "out/"]).exits(0);
    assert!(!world.read("out/policy.toml").contains("lacked"));
}
