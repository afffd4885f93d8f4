//! What is written where: merging, stable bytes, formats and flags.

use std::{fs, process::Stdio};

use crate::world::{World, command, flow, whole};

const LINES: &str = "{\"dest_ip\":\"10.0.0.2\",\"dest_port\":\"443\"}\n\
                     {\"dest_ip\":\"10.0.0.1\",\"dest_port\":53,\"protocol\":\"udp\"}\n";

#[test]
fn a_policy_file_has_its_evidence_beside_it() {
    let world = World::new();
    world.write("shop.jsonl", LINES);
    let ran = world
        .generate(&["shop.jsonl", "-o", "policy.toml"])
        .exits(0);
    assert!(ran.out.is_empty());
    assert!(
        world
            .read("policy.evidence.json")
            .contains("egress-tracer/evidence/1")
    );
    assert!(
        world
            .read("policy.toml")
            .contains("schema = \"egress-tracer/policy/1\"")
    );
}

#[test]
fn regenerating_keeps_bytes_and_news_keep_decisions() {
    let world = World::new();
    world.write("shop.jsonl", LINES);
    let policy = "# ours\r\nschema = \"egress-tracer/policy/1\"\r\nworkload = 'shop'\r\n\r\n\
                  [[allow]]\r\nto = \"10.0.0.2\" # api\r\nports = [\"80/tcp\"]\r\n\
                  status = \"approved\"\r\nreason = \"r\"\r\nowner = \"o\"\r\n\
                  expires = 2027-01-01\r\n\r\n# end\r\n";
    world.write("policy.toml", policy);
    world
        .generate(&["shop.jsonl", "-o", "policy.toml"])
        .exits(0);
    let merged = world.read("policy.toml");
    let expected = policy.replace("\r\n\r\n# end\r\n", "\r\n\r\n# end\r\n\r\n")
        + "[[allow]]\r\nto = \"10.0.0.2\"\r\nports = [\"443/tcp\"]\r\nstatus = \"candidate\"\r\n\
           findings = [\"private-address\"]\r\n\r\n\
           [[allow]]\r\nto = \"10.0.0.1\"\r\nports = [\"53/udp\"]\r\nstatus = \"candidate\"\r\n\
           findings = [\"private-address\"]\r\nroles = [\"resolver\"]\r\n";
    assert_eq!(merged, expected);
    world.write("second.jsonl", LINES);
    let again = [
        "shop.jsonl",
        "second.jsonl",
        "--merge-workloads",
        "--workload",
        "shop",
    ];
    world
        .generate(&[&again[..], &["-o", "policy.toml"]].concat())
        .exits(0);
    assert_eq!(world.read("policy.toml"), merged);
}

#[test]
fn names_and_order_of_inputs_do_not_show() {
    let world = World::new();
    let logs: Vec<String> = (1..=3)
        .map(|n| whole("w", &flow("w", &format!("10.0.0.{n}"), n, "")))
        .collect();
    world.write("in/a.jsonl", &logs[0]);
    world.write("in/b.jsonl", &logs[1]);
    world.write("in/c.jsonl", &logs[2]);
    world.write("other/deep/x.jsonl", &logs[2]);
    world.write("other/y.jsonl.gz", gzip(&logs[0]));
    world.write(
        "other/z.jsonl.zst",
        zstd::encode_all(logs[1].as_bytes(), 3).unwrap(),
    );
    world.generate(&["in", "-o", "one/"]).exits(0);
    world
        .generate(&["other/**/*.jsonl*", "-o", "two/"])
        .exits(0);
    for file in fs::read_dir(world.path("one")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert_eq!(
            world.read(&format!("one/{name}")),
            world.read(&format!("two/{name}")),
            "{name}"
        );
    }
}

#[test]
fn rules_carry_the_flags_and_the_processes() {
    let world = World::new();
    let from = |exe: &str| flow("w", "10.0.0.1", 443, &format!(",\"exe\":\"{exe}\""));
    let flows = ["/bin/d", "/bin/c", "/bin/b", "/bin/a"].map(from).concat();
    let engine = flow(
        "w",
        "10.0.0.9",
        53,
        ",\"comm\":\"dockerd\",\"via\":\"engine\"",
    );
    world.write("log.jsonl", whole("w", &(flows + &engine)));
    let flags = [
        "--format", "nftables", "--table", "filter9", "--chain", "agent", "--cgroup", "a/b",
    ];
    let ran = world
        .generate(&[&["log.jsonl"], &flags[..]].concat())
        .exits(0);
    for expected in [
        "10.0.0.1",
        "a, b, c, +1",
        "dockerd, via engine",
        "agent",
        "a/b",
    ] {
        assert!(ran.out.contains(expected), "{expected}: {}", ran.out);
    }
    world
        .generate(&["log.jsonl", "--format", "iptables", "-o", "rules.v4"])
        .exits(0);
    assert!(world.read("rules.v4").contains("10.0.0.1"));
    assert!(!world.exists("rules.evidence.json"));
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let world = World::new();
    world.write("shop.jsonl", LINES);
    for flags in [
        &["--cgroup", "a", "--hook", "forward"][..],
        &["--cgroup", "a", "--source", "10.0.0.1"],
        &["--hook", "output", "--interface", "eth0"],
        &["--source", "nowhere"],
        &["--chain", ""],
        &["--format", "nftables", "-o", "out/"],
    ] {
        let ran = world.generate(&[&["shop.jsonl"], flags].concat()).exits(2);
        assert!(ran.out.is_empty(), "{flags:?}");
    }
    world
        .generate(&["shop.jsonl", "--source", "172.18.0.0/16", "--source", "::1"])
        .exits(0);
}

#[test]
fn a_policy_with_a_mistake_is_named_and_left_alone() {
    let world = World::new();
    world.write("shop.jsonl", LINES);
    let head = "schema = \"egress-tracer/policy/1\"\nworkload = \"shop\"\n[[allow]]\n";
    for (entry, message) in [
        (
            "to = \"10.0.0.1\"\nports = [\"443\"]\nstatus = \"candidate\"",
            "line 5: \"443\" is not",
        ),
        (
            "to = \"0177.0.0.1\"\nports = [\"1/tcp\"]\nstatus = \"candidate\"",
            "line 4: to = ",
        ),
        (
            "to = \"10.1.1.1/8\"\nports = [\"1/tcp\"]\nstatus = \"candidate\"",
            "\"10.0.0.0/8\"",
        ),
        (
            "to = \"a.example\"\nports = [\"1/tcp\"]\nstatus = \"allowed\"",
            "line 6: status",
        ),
        (
            "to = \"a.example\"\nports = [\"1/tcp\"]\nstatus = \"approved\"",
            "without reason",
        ),
        (
            "to = \"a.example\"\nports = []\nstatus = \"candidate\"",
            "ports is empty",
        ),
        (
            "to = \"a.example\"\nports = [\"1/tcp\"]\nexpire = 2027-01-01",
            "\"expire\" is not a key",
        ),
        (
            "to = \"a.example\"\nports = [\"1/tcp\"]\nstatus = \"candidate\"\nexpires = \"2027-01-01\"",
            "without quotes",
        ),
        ("to = \"a.example", "not TOML"),
    ] {
        let text = format!("{head}{entry}\n");
        world.write("policy.toml", &text);
        let ran = world
            .generate(&["shop.jsonl", "-o", "policy.toml"])
            .exits(2)
            .says(message);
        assert!(
            ran.err.contains("policy.toml") && ran.err.lines().count() == 1,
            "{}",
            ran.err
        );
        assert_eq!(world.read("policy.toml"), text);
    }
    world.write(
        "policy.toml",
        head.replace("shop", "bank").replace("[[allow]]\n", ""),
    );
    world
        .generate(&["shop.jsonl", "-o", "policy.toml"])
        .exits(2)
        .says("workload \"bank\"");
    world.write(
        "policy.toml",
        "schema = \"egress-tracer/policy/9\"\nworkload = \"shop\"\n",
    );
    world
        .generate(&["shop.jsonl", "-o", "policy.toml"])
        .exits(2)
        .says("not known to this version");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::new();
    let many: String = (0..2000)
        .map(|n| {
            format!(
                "{{\"dest_ip\":\"10.0.{}.{}\",\"dest_port\":1}}\n",
                n / 250,
                n % 250
            )
        })
        .collect();
    world.write("shop.jsonl", many);
    let mut child = command(&world.path(""))
        .args(["generate", "shop.jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

#[test]
fn help_shows_an_example() {
    let world = World::new();
    let ran = world.generate(&["--help"]).exits(0);
    assert!(
        ran.out
            .contains("egress-tracer generate logs/ -o policy.toml")
    );
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
