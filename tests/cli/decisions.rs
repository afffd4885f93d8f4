//! `policy approve`, `deny`, `add`, `list`: decisions that count, and what else stays as it was.

use std::{fs, thread};

use crate::world::{World, command, flow, whole};

const POLICY: &str = "\
# ours
schema = \"egress-tracer/policy/1\"
workload = \"w\"

# the model
[[allow]] # one
to = \"192.0.2.10\" # api
ports = [
  \"443/tcp\", # https
]
status = \"candidate\" # for now

# metadata
[[allow]]
to = \"169.254.169.254\"
ports = [\"80/tcp\"]
status = \"candidate\"
findings = [\"metadata-service\", \"cleartext\"] # bad

[[allow]]
to = \"192.0.2.11\"
ports = [\"443/tcp\"]
status = \"denied\"

[[allow]]
to = \"192.0.2.11\"
ports = [\"80/tcp\"]
status = \"candidate\"
# end
";

const WORDS: [&str; 6] = [
    "--reason",
    "the model provider",
    "--owner",
    "platform",
    "--now",
    "2026-11-22",
];

fn with_words<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &WORDS].concat()
}

#[test]
fn an_approval_changes_its_entry_and_nothing_else() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    let approve = [
        "policy",
        "approve",
        "policy.toml",
        "192.0.2.10",
        "--reference",
        "https://example.com/1",
    ];
    world
        .run(&with_words(&approve))
        .exits(0)
        .says("192.0.2.10 approved until 2027-02-20");
    let expected = POLICY.replacen(
        "status = \"candidate\" # for now\n",
        "status = \"approved\" # for now\nreason = \"the model provider\"\nowner = \"platform\"\n\
         approved = 2026-11-22\nexpires = 2027-02-20\nreference = \"https://example.com/1\"\n\
         findings = [\"literal-address\"]\n",
        1,
    );
    assert_eq!(world.read("policy.toml"), expected);
    // Renewing and changing one's mind write over it.
    let renew = with_words(&[
        "policy",
        "approve",
        "policy.toml",
        "192.0.2.10",
        "--expires",
        "10d",
    ]);
    world.run(&renew).exits(0);
    assert!(
        world
            .read("policy.toml")
            .contains("expires = 2026-12-02\nreference")
    );
    let deny = with_words(&["policy", "deny", "policy.toml", "192.0.2.10"]);
    world.run(&deny).exits(0).says("192.0.2.10 denied");
    let text = world.read("policy.toml");
    assert!(text.contains("status = \"denied\" # for now\n"), "{text}");
    assert!(
        !text.contains("expires") && !text.contains("approved"),
        "{text}"
    );
}

#[test]
fn a_decision_that_does_not_count_is_refused() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    let approve = |more: &[&str], says: &str| {
        let words = [
            &[
                "policy",
                "approve",
                "policy.toml",
                "192.0.2.10",
                "--now",
                "2026-11-22",
            ],
            more,
        ]
        .concat();
        world.run(&words).exits(2).says(says);
        assert_eq!(world.read("policy.toml"), POLICY);
    };
    approve(&["--owner", "me"], "--reason");
    approve(&["--reason", "two words"], "--owner");
    approve(&["--owner", "me", "--reason", "needed"], "is not a reason");
    approve(&["--owner", " ", "--reason", "two words"], "owner is empty");
    let good = ["--owner", "me", "--reason", "two words"];
    let with = |more: &[&'static str]| [&good, more].concat();
    approve(&with(&["--expires", "2026-11-21"]), "is before today");
    approve(&with(&["--expires", "2028-01-01"]), "--max-expiry");
    approve(
        &with(&["--expires", "40d", "--max-expiry", "30d"]),
        "the latest allowed",
    );
    approve(&with(&["--expires", "soon"]), "expected a day");
    approve(&with(&["--acknowledge", "nonsense"]), "is not a finding");
}

#[test]
fn the_settings_file_sets_the_longest_approval() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    world.write("settings.toml", "[policy]\nmax-expiry = \"30d\"\n");
    let approve = [
        "--config",
        "settings.toml",
        "policy",
        "approve",
        "policy.toml",
        "192.0.2.10",
    ];
    world
        .run(&with_words(&approve))
        .exits(2)
        .says("2026-12-22, the latest allowed");
}

#[test]
fn what_is_critical_or_broad_has_to_be_acknowledged() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    let metadata = ["policy", "approve", "policy.toml", "169.254.169.254"];
    world
        .run(&with_words(&metadata))
        .exits(2)
        .says("--acknowledge metadata-service");
    let words = with_words(&metadata);
    let acknowledged = [&words[..], &["--acknowledge", "metadata-service"]].concat();
    world.run(&acknowledged).exits(0);
    let expected = "findings = [\"metadata-service\", \"cleartext\", \"literal-address\"] # bad\n\
                    acknowledged = [\"metadata-service\"]\n";
    assert!(
        world.read("policy.toml").contains(expected),
        "{}",
        world.read("policy.toml")
    );
    for (to, id) in [("10.0.0.0/8", "broad"), ("*.example.com", "wildcard")] {
        let add = with_words(&["policy", "add", "policy.toml", to, "--port", "443/tcp"]);
        world
            .run(&add)
            .exits(2)
            .says(&format!("--acknowledge {id}"));
        let acknowledged = [&add[..], &["--acknowledge", id]].concat();
        world.run(&acknowledged).exits(0);
    }
    let narrow = [
        "policy",
        "add",
        "policy.toml",
        "198.51.100.0/30",
        "--port",
        "443/tcp",
    ];
    let limited = [&with_words(&narrow)[..], &["--max-addresses", "2"]].concat();
    world.run(&limited).exits(2).says("--acknowledge broad");
}

#[test]
fn an_ambiguous_entry_is_listed() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    let deny = |entry| with_words(&["policy", "deny", "policy.toml", entry]);
    world
        .run(&deny("192.0.2.11"))
        .exits(2)
        .says("192.0.2.11#1 (denied, 443/tcp); 192.0.2.11#2 (candidate, 80/tcp)");
    for wrong in ["192.0.2.11#3", "192.0.2.11#0", "192.0.2.12", "nonsense/"] {
        world.run(&deny(wrong)).exits(2);
    }
    assert_eq!(world.read("policy.toml"), POLICY);
    world.run(&deny("192.0.2.11#2")).exits(0);
    assert!(!world.read("policy.toml")[POLICY.find("192.0.2.11").unwrap()..].contains("candidate"));
}

#[test]
fn an_entry_by_hand_stands_at_the_end() {
    let world = World::new();
    let add = [
        "policy",
        "add",
        "policy.toml",
        "api.example.com",
        "--port",
        "443/tcp",
        "--port",
        "443/udp",
    ];
    world.run(&add).exits(2).says("--workload NAME makes it");
    world
        .run(&[&add[..], &["--workload", "w"]].concat())
        .exits(0)
        .says("a candidate");
    world
        .run(&add)
        .exits(2)
        .says("stands in the policy already");
    let second = [
        "policy",
        "add",
        "policy.toml",
        "198.51.100.7",
        "--port",
        "443/tcp",
        "--tool",
        "Search",
    ];
    world.run(&with_words(&second)).exits(0).says("approved");
    world
        .run(&["policy", "add", "policy.toml", "x", "--port", "443"])
        .exits(2);
    let text = world.read("policy.toml");
    assert!(
        text.ends_with(
            "[[allow]]\nto = \"198.51.100.7\"\nports = [\"443/tcp\"]\ntools = [\"Search\"]\n\
         status = \"approved\"\nreason = \"the model provider\"\nowner = \"platform\"\n\
         approved = 2026-11-22\nexpires = 2027-02-20\nfindings = [\"literal-address\"]\n"
        ),
        "{text}"
    );
    // What nobody observed is told.
    let unobserved = [
        "policy",
        "list",
        "policy.toml",
        "--status",
        "unobserved",
        "--now",
        "2026-11-22",
    ];
    world
        .run(&unobserved)
        .exits(0)
        .shows("api.example.com")
        .shows("never");
}

#[test]
fn the_list_shows_findings_and_figures() {
    let world = World::new();
    let hostile = flow("w", "10.0.0.9", 80, ",\"exe\":\"/tmp/x\\u001b[31m\"");
    let flows = flow("w", "192.0.2.10", 443, ",\"exe\":\"/usr/bin/curl\"") + &hostile;
    world.write("log.jsonl", whole("w", &flows));
    world.write("policy.toml", POLICY);
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    let all = world.run(&["policy", "list", "policy.toml"]).exits(0);
    let line = |start: &str| {
        all.out
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap()
    };
    assert!(line("10.0.0.9").ends_with("writable-path cleartext private-address literal-address"));
    assert!(line("192.0.2.10").contains("1/1"));
    assert!(line("192.0.2.11#2").contains("never"));
    assert!(!all.out.contains('\u{1b}'));
    let filtered = [
        "policy",
        "list",
        "policy.toml",
        "--finding",
        "metadata-service",
        "--json",
    ];
    let json: serde_json::Value = serde_json::from_str(&world.run(&filtered).exits(0).out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["entry"], "169.254.169.254");
    assert_eq!(json[0]["findings"][0]["severity"], "critical");
}

#[test]
fn decisions_made_at_once_are_all_kept_or_refused() {
    let world = World::new();
    let flows: String = (1..=24)
        .map(|n| flow("w", &format!("192.0.2.{n}"), 443, ""))
        .collect();
    world.write("log.jsonl", whole("w", &flows));
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    let directory = world.path("");
    let decide = |n: u32| {
        let entry = format!("192.0.2.{n}");
        let words = ["policy", "approve", "policy.toml", &entry];
        let output = command(&directory)
            .args(with_words(&words))
            .output()
            .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => true,
            Some(2) => {
                assert!(err.contains("changed by somebody else meanwhile"), "{err}");
                false
            }
            code => panic!("{code:?}: {err}"),
        }
    };
    let kept: usize = thread::scope(|scope| {
        let deciders: Vec<_> = (1..=24).map(|n| scope.spawn(move || decide(n))).collect();
        deciders
            .into_iter()
            .map(|each| usize::from(each.join().unwrap()))
            .sum()
    });
    let text = fs::read_to_string(world.path("policy.toml")).unwrap();
    assert_eq!(text.matches("status = \"approved\"").count(), kept);
    assert!(kept >= 1);
}

#[test]
fn stale_entries_are_told_and_only_candidates_pruned() {
    let world = World::new();
    let at = |n: u8| flow("w", &format!("192.0.2.{n}"), 443, "");
    world.write("old.jsonl", whole("w", &[at(1), at(2), at(3)].concat()));
    world.write("new.jsonl", whole("w", &at(1)));
    world.generate(&["old.jsonl", "-o", "policy.toml"]).exits(0);
    let approve = ["policy", "approve", "policy.toml", "192.0.2.3"];
    world.run(&with_words(&approve)).exits(0);
    let before = world.read("policy.toml");
    for _ in 0..2 {
        world
            .generate(&["new.jsonl", "-o", "policy.toml"])
            .exits(0)
            .says("stale: 192.0.2.2 (candidate) not seen, last seen 2026-11-22T10:00:01Z\n")
            .says("stale: 192.0.2.3 (approved) not seen");
        assert_eq!(world.read("policy.toml"), before);
    }
    world
        .generate(&["new.jsonl", "-o", "policy.toml", "--prune"])
        .exits(0)
        .says("192.0.2.2 (candidate) not seen, last seen 2026-11-22T10:00:01Z, pruned");
    let after = world.read("policy.toml");
    assert!(
        after.contains("192.0.2.1\"") && after.contains("192.0.2.3\""),
        "{after}"
    );
    assert!(!after.contains("192.0.2.2\""), "{after}");
}

#[test]
fn a_base_answers_for_what_it_decides() {
    let world = World::new();
    world.write(
        "log.jsonl",
        whole(
            "w",
            &(flow("w", "192.0.2.1", 443, "") + &flow("w", "192.0.2.2", 443, "")),
        ),
    );
    let base = "schema = \"egress-tracer/policy/1\"\nworkload = \"base\"\n";
    world.write("bases/base.toml", base);
    let add = [
        "policy",
        "add",
        "bases/base.toml",
        "192.0.2.1",
        "--port",
        "443/tcp",
    ];
    world.run(&with_words(&add)).exits(0);
    world.write(
        "policy.toml",
        "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\ninclude = [\"bases/base.toml\"]\n",
    );
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    let text = world.read("policy.toml");
    assert!(
        text.contains("192.0.2.2") && !text.contains("192.0.2.1"),
        "{text}"
    );
    world.write(
        "bases/base.toml",
        format!("{base}include = [\"../policy.toml\"]\n"),
    );
    world
        .generate(&["log.jsonl", "-o", "policy.toml"])
        .exits(2)
        .says("includes itself");
    world
        .run(&["policy", "list", "policy.toml"])
        .exits(2)
        .says("includes itself");
    assert_eq!(world.read("policy.toml"), text);
    fs::remove_file(world.path("bases/base.toml")).unwrap();
    world
        .run(&["policy", "list", "policy.toml"])
        .exits(2)
        .says("bases/base.toml");
}
