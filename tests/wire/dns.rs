//! What the workload asked and was told.

use crate::world::{RESOLVER, SERVER, World, agent, exchanges, hex, names, needs_root};

#[test]
fn every_question_is_told_with_its_answer() {
    needs_root!();
    let world = World::new();
    let log = world.record(
        "resolve api.example resolve nothing.example resolve alias.example resolve loop.example",
    );
    let told = exchanges(&log);
    for expected in [
        "api.example A udp NOERROR",
        "api.example AAAA udp NOERROR",
        "nothing.example A udp NXDOMAIN",
        "nothing.example AAAA udp NXDOMAIN",
        "alias.example A udp NOERROR",
        "loop.example A udp SERVFAIL",
    ] {
        assert!(
            told.iter().any(|one| one == expected),
            "{expected}: {told:?}"
        );
    }
    let alias = log
        .of_type("dns")
        .find(|dns| dns["question"]["name"] == "alias.example" && dns["question"]["kind"] == "A");
    let answers = &alias.unwrap()["answers"];
    assert_eq!(answers[0]["target"], "api.example", "{answers}");
    assert_eq!(answers[1]["addresses"][0], SERVER, "{answers}");
    assert_eq!(answers[1]["ttl"], 60, "{answers}");
}

/// Hints of HTTPS and SVCB are addresses like others.
#[test]
fn every_kind_of_question_is_told() {
    needs_root!();
    let mut world = World::new();
    // Priority 1, the name itself, alpn=h2, ipv4hint=198.51.100.9 (RFC 9460).
    let service = "0001000001000302683200040004c6336409";
    let records = format!(
        "srv-host=_api._tcp.example,api.example,443\nptr-record=7.100.51.198.in-addr.arpa,api.example\n\
         dns-rr=service.example,65,{service}\ndns-rr=_8443._https.service.example,64,{service}"
    );
    const SERVES: &str = "203.0.113.9";
    world.serve_names(SERVES, &records);
    let dig = |kind: &str, name: &str| format!("dig +tries=1 +time=5 @{SERVES} {kind} {name};");
    let questions = [
        dig("SRV", "_api._tcp.example"),
        dig("PTR", "7.100.51.198.in-addr.arpa"),
        dig("HTTPS", "service.example"),
        dig("SVCB", "_8443._https.service.example"),
        dig("A", "elsewhere.test"),
    ];
    let script = format!("{} {} tcp 198.51.100.9:443", questions.concat(), agent());
    let log = world.run(&[], &["sh", "-c", &script]);
    let told = exchanges(&log);
    for expected in [
        "_api._tcp.example SRV udp NOERROR",
        "7.100.51.198.in-addr.arpa PTR udp NOERROR",
        "service.example HTTPS udp NOERROR",
        "_8443._https.service.example SVCB udp NOERROR",
        "elsewhere.test A udp REFUSED",
    ] {
        assert!(
            told.iter().any(|one| one == expected),
            "{expected}: {told:?}"
        );
    }
    assert_eq!(
        names(&log, "198.51.100.9", 443),
        ["service.example dns resolved"]
    );
}

/// Both go to groups of the link's: what a workload asks its neighbours.
#[test]
fn multicast_dns_and_llmnr_are_named_as_such() {
    needs_root!();
    let world = World::new();
    // Whether printer.local has an A.
    let question = "000000000001000000000000077072696e746572056c6f63616c0000010001";
    let steps =
        format!("say udp 198.51.100.8:5353 {question} say udp 198.51.100.8:5355 {question}");
    let log = world.record(&steps);
    let told = exchanges(&log);
    for expected in ["printer.local A mdns -", "printer.local A llmnr -"] {
        assert!(
            told.iter().any(|one| one == expected),
            "{expected}: {told:?}"
        );
    }
}

#[test]
fn an_address_has_the_name_that_was_asked_for() {
    needs_root!();
    let world = World::new();
    let log = world.record("tcp 198.51.100.7:3128 lookup alias.example 80 lookup six.example 80");
    assert_eq!(names(&log, SERVER, 3128), Vec::<String>::new());
    assert_eq!(names(&log, SERVER, 80), ["alias.example dns resolved"]);
    let six = names(&log, "2001:db8::7", 80);
    assert_eq!(six, ["six.example dns resolved"]);
}

#[test]
fn an_address_of_two_names_is_shared() {
    needs_root!();
    let world = World::new();
    let log = world.record("resolve api.example resolve other.example tcp 198.51.100.7:80");
    let expected = ["api.example dns shared", "other.example dns shared"];
    assert_eq!(names(&log, SERVER, 80), expected);
}

#[test]
fn an_answer_that_does_not_fit_is_asked_for_again_over_tcp() {
    needs_root!();
    let mut world = World::new();
    let many: Vec<String> = (1..=60)
        .map(|last| format!("host-record=many.example,198.51.100.{last}"))
        .collect();
    world.serve_names(RESOLVER, &many.join("\n"));
    world.ask(RESOLVER);
    let log = world.record("resolve many.example tcp 198.51.100.60:80");
    let told = exchanges(&log);
    let over_tcp = "many.example A tcp NOERROR";
    assert!(told.iter().any(|one| one == over_tcp), "{told:?}");
    let truncated = log.of_type("dns").find(|dns| dns["truncated"] == true);
    assert_eq!(truncated.unwrap()["transport"], "udp");
    let found = names(&log, "198.51.100.60", 80);
    assert_eq!(found, ["many.example dns resolved"]);
}

#[test]
fn a_question_that_nobody_answers_is_told() {
    needs_root!();
    let world = World::new();
    // A question for `a.`, to a port at which nobody listens.
    let question = "123401000001000000000000016100000100 01".replace(' ', "");
    let log = world.record(&format!("say udp 198.51.100.77:53 {question}"));
    assert_eq!(exchanges(&log), ["a A udp -"]);
}

#[test]
fn another_port_is_one_of_dns_where_that_is_said() {
    needs_root!();
    let mut world = World::new();
    world.serve_names(RESOLVER, "address=/far.example/198.51.100.7");
    let question = hex(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03far\x07example\0\0\x01\0\x01");
    let steps = format!("say udp 198.51.100.7:443 {question}");
    let log = world.record(&steps);
    assert_eq!(exchanges(&log), Vec::<String>::new());
    let again = World::new();
    let log = again.record_with(&["--dns-ports", "443"], &steps);
    // The echo is no answer.
    assert_eq!(exchanges(&log), ["far.example A udp -"]);
}

#[test]
fn names_with_control_bytes_are_spelled_out() {
    needs_root!();
    let world = World::new();
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06\x1b[31m\n\x07example\0\0\x01\0\x01";
    let hello = crate::world::hello(b"\x1b]0;x\x07.example", 0);
    let steps = format!(
        "say udp 198.51.100.53:53 {} say tcp 198.51.100.9:443 {}",
        hex(question),
        hex(&hello)
    );
    let log = world.record(&steps);
    let text = std::fs::read(world.path("out").join("flows.jsonl")).unwrap();
    assert!(!text.contains(&0x1b), "an escape reached the log");
    let told = exchanges(&log);
    assert!(told[0].starts_with("\\027[31m\\010.example A"), "{told:?}");
    let claimed = names(&log, "198.51.100.9", 443);
    assert_eq!(claimed, ["\\027]0;x\\007.example sni claimed"]);
}

#[test]
fn a_full_ring_costs_names_and_says_so() {
    needs_root!();
    let world = World::new();
    let options = ["--wire-ring-bytes", "8192"];
    let log = world.record_with(&options, "repeat 300 resolve api.example ::");
    let gap = log.of_type("gap").find(|gap| gap["what"] == "wire");
    assert_eq!(gap.unwrap()["severity"], "detail");
    let stats = log.of_type("stats").last().unwrap();
    assert!(
        stats["counters"]["wire_ring_full"].as_u64() > Some(0),
        "{stats}"
    );
}
