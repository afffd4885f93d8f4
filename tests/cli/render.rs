//! `render`: only what is approved and in force becomes a rule.

use crate::world::{World, flow, gap, record, whole};

/// One of each: in force, soon over, over, denied, a candidate.
const POLICY: &str = "\
schema = \"egress-tracer/policy/1\"
workload = \"w\"
[[allow]]
to = \"192.0.2.1\"
ports = [\"443/tcp\"]
status = \"approved\"
reason = \"model provider\"
owner = \"o\"
expires = 2027-02-20
[[allow]]
to = \"192.0.2.2\"
ports = [\"443/tcp\"]
status = \"approved\"
reason = \"model provider\"
owner = \"o\"
expires = 2026-12-01
[[allow]]
to = \"192.0.2.3\"
ports = [\"443/tcp\"]
status = \"denied\"
[[allow]]
to = \"192.0.2.4\"
ports = [\"443/tcp\"]
status = \"candidate\"
";

fn words<'a>(format: &'a str, now: &'a str) -> Vec<&'a str> {
    vec!["render", "policy.toml", "--format", format, "--now", now]
}

#[test]
fn only_approvals_in_force_become_rules() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    for format in ["nftables", "iptables"] {
        let ran = world.run(&words(format, "2026-12-01T23:59:59Z")).exits(0);
        let ran = ran
            .shows("192.0.2.1")
            .shows("192.0.2.2")
            .shows("REVIEWED")
            .shows("ENFORCES");
        assert!(
            !ran.out.contains("192.0.2.3") && !ran.out.contains("192.0.2.4"),
            "{}",
            ran.out
        );
        let ran = world.run(&words(format, "2026-12-02")).exits(0);
        let ran = ran.says("left out: 192.0.2.2 expired on 2026-12-01");
        assert!(
            ran.out.contains("192.0.2.1") && !ran.out.contains("192.0.2.2"),
            "{}",
            ran.out
        );
    }
    let nft = world.run(&words("nftables", "2026-11-22")).exits(0);
    // 2027-02-21T00:00:00Z: the day after the last one.
    nft.shows("meta time < 1803168000 ip daddr")
        .shows("stop by themselves");
    world
        .run(&words("iptables", "2026-11-22"))
        .exits(0)
        .shows("do not stop by themselves");
    world
        .run(&[&words("nftables", "2026-11-22")[..], &["-o", "rules.nft"]].concat())
        .exits(0);
    assert!(world.read("rules.nft").contains("192.0.2.1"));
}

#[test]
fn nothing_approved_is_an_answer_and_no_rules() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    let late = world
        .run(&words("nftables", "2028-01-01"))
        .exits(1)
        .says("nothing is approved");
    assert!(late.out.is_empty());
    let all = [
        &words("nftables", "2028-01-01")[..],
        &["--include-unreviewed", "--verdict", "log"],
    ];
    let ran = world
        .run(&all.concat())
        .exits(0)
        .shows("UNREVIEWED RULES")
        .shows("CANDIDATE");
    assert!(
        ran.out.contains("192.0.2.4") && !ran.out.contains("192.0.2.1"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("192.0.2.3"), "{}", ran.out);
}

#[test]
fn rules_by_name_need_a_resolver() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    let decided = [
        "--reason",
        "model provider",
        "--owner",
        "o",
        "--now",
        "2026-11-22",
    ];
    let add = |to: &str, ports: &[&str]| {
        let ports = ports.iter().flat_map(|port| ["--port", port]);
        let words: Vec<&str> = ["policy", "add", "policy.toml", to]
            .into_iter()
            .chain(ports)
            .collect();
        world.run(&[&words[..], &decided].concat()).exits(0);
    };
    let render = words("nftables", "2026-11-22");
    add("api.example.com", &["443/tcp"]);
    world.run(&render).exits(1).says("missing: 53/udp, 53/tcp");
    add("192.0.2.53", &["53/udp"]);
    world.run(&render).exits(1).says("missing: 53/tcp");
    add("192.0.2.53", &["53/tcp"]);
    world
        .run(&render)
        .exits(0)
        .shows("set names4_tcp_443_api_example_com_")
        .says("egress-tracer names");
    world
        .run(&words("iptables", "2026-11-22"))
        .exits(0)
        .says("api.example.com 443/tcp: rules by address cannot follow a name");
}

#[test]
fn every_format_takes_approvals() {
    let world = World::new();
    let name = "[[allow]]\nto = \"api.example.com\"\nports = [\"443/tcp\"]\n\
                status = \"approved\"\nreason = \"some reason\"\nowner = \"o\"\n\
                expires = 2026-12-24\n";
    world.write("policy.toml", POLICY.to_owned() + name);
    // A proxy resolves names itself: the workload needs no resolver.
    let squid = words("squid", "2026-11-22");
    let ran = world.run(&squid).exits(0).shows("REVIEWED");
    let ran = ran.shows("api.example.com").shows("192.0.2.1");
    assert!(ran.out.contains("do not stop by themselves"), "{}", ran.out);
    let domains = words("domains", "2026-11-22");
    let ran = world.run(&domains).exits(0).says("2026-12-24");
    let list = ran.out.lines().filter(|line| !line.starts_with('#'));
    let list: Vec<&str> = list.filter(|line| !line.is_empty()).collect();
    assert_eq!(list, ["api.example.com"]);
    let exact = [&domains[..], &["--exact", "-o", "domains.txt"]].concat();
    world.run(&exact).exits(1).says("nothing was written");
    assert!(!world.exists("domains.txt"));
    world.write("policy.toml", POLICY);
    world.run(&domains).exits(1).says("in this format");
    let json = world.run(&words("json", "2026-11-22")).exits(0);
    json.shows("\"expires\": \"2027-02-20\"")
        .shows("\"verdict\": \"drop\"");
    // Kubernetes can only enforce, which is what approvals are for.
    let pods = ["--pod-label", "app=shop"];
    let policy = words("networkpolicy", "2026-11-22");
    world.run(&policy).exits(2).says("--pod-label");
    let ran = world.run(&[&policy[..], &pods].concat()).exits(0);
    ran.shows("192.0.2.1/32").says("do not stop by themselves");
}

#[test]
fn approvals_that_end_together_are_merged() {
    let world = World::new();
    let same = POLICY.replace("192.0.2.2\"", "192.0.2.0\"");
    let merge = [
        &words("nftables", "2026-11-22")[..],
        &["--aggregate", "exact"],
    ];
    world.write("policy.toml", same.clone());
    let ran = world.run(&merge.concat()).exits(0);
    assert!(!ran.out.contains("192.0.2.0/31"), "{}", ran.out);
    world.write("policy.toml", same.replace("2026-12-01", "2027-02-20"));
    let ran = world.run(&merge.concat()).exits(0).shows("192.0.2.0/31");
    ran.says("2 opened");
}

#[test]
fn a_denial_wins_over_a_base() {
    let world = World::new();
    let base = POLICY
        .replace("192.0.2.", "198.51.100.")
        .replace("\"198.51.100.1\"", "\"198.51.100.0/30\"");
    world.write("base.toml", base);
    let own = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\ninclude = [\"base.toml\"]\n\
               [[allow]]\nto = \"198.51.100.1\"\nports = [\"443/tcp\"]\nstatus = \"denied\"\n";
    world.write("policy.toml", own);
    let ran = world.run(&words("nftables", "2026-11-22")).exits(0);
    assert!(ran.out.contains("198.51.100.0 . tcp . 443"), "{}", ran.out);
    assert!(!ran.out.contains("198.51.100.1 "), "{}", ran.out);
}

#[test]
fn incomplete_evidence_gives_no_rules() {
    let world = World::new();
    let flows = flow("w", "192.0.2.1", 443, "") + &gap("w", "flow-table", "destinations");
    world.write(
        "log.jsonl",
        whole("w", &(flows + &record("stats", "w", ",\"counters\":{}"))),
    );
    world.write("policy.toml", POLICY);
    world
        .generate(&["log.jsonl", "-o", "policy.toml", "--allow-incomplete"])
        .exits(0);
    let render = words("nftables", "2026-11-22");
    let ran = world.run(&render).exits(3).says("is incomplete");
    assert!(ran.out.is_empty());
    world
        .run(&[&render[..], &["--allow-incomplete"]].concat())
        .exits(0)
        .shows("# Warning:");
}
