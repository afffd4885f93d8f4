//! Logs of other tools, from `tests/samples/logs`: its README names what each was written after.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::world::{Ran, World};

fn sample(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/samples/logs");
    fs::read(folder.join(name)).unwrap()
}

fn world(names: &[&str]) -> World {
    let world = World::new();
    for name in names {
        world.write(&format!("in/{name}"), sample(name));
    }
    world
}

/// The evidence of what is in the folder `in`, and what was said.
fn evidence(world: &World, arguments: &[&str]) -> (Value, Ran) {
    let ran = world.generate(&[&["in", "-o", "out/"], arguments].concat());
    let ran = ran.exits(0);
    let evidence = serde_json::from_str(&world.read("out/policy.evidence.json"));
    (evidence.unwrap(), ran)
}

/// `ADDRESS SERVICE CONNECTIONS OUTCOMES NAMES`, a line a destination.
fn told(evidence: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value, item: &dyn Fn(&Value) -> String| {
        let items = value.as_array().into_iter().flatten();
        items.map(item).collect::<Vec<_>>().join(" ")
    };
    let name = |name: &Value| {
        let words = ["name", "source", "confidence"].map(|key| text(&name[key]));
        words.join("/")
    };
    let destinations = evidence["destinations"].as_array().unwrap().iter();
    destinations
        .map(|one| {
            let outcomes = one["outcomes"].as_object().into_iter().flatten();
            let outcomes: Vec<_> = outcomes
                .map(|(key, count)| format!("{key}={count}"))
                .collect();
            let words = [
                text(&one["to"]),
                text(&one["service"]),
                one["connections"].to_string(),
                outcomes.join(" "),
                list(&one["names"], &name),
            ];
            let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
            words.join(" ")
        })
        .collect()
}

const ZEEK: [&str; 5] = [
    "10.0.0.2 53/udp 1 established=1",
    "203.0.113.10 443/tcp 1 established=1 api.example/dns/proven api.example/sni/proven",
    // Another client resolved that name.
    "203.0.113.11 8080/tcp 1 refused=1",
    // What this client resolved it from is an hour old.
    "203.0.113.12 443/tcp 1 timeout=1",
    "203.0.113.13 icmp 1 unknown=1",
];

#[test]
fn zeeks_tables_are_joined_across_files() {
    let world = world(&["zeek-conn.log", "zeek-dns.log", "zeek-ssl.log"]);
    let (evidence, ran) = evidence(&world, &["--workload", "agent"]);
    assert_eq!(told(&evidence), ZEEK);
    assert_eq!(evidence["runs"], 1);
    assert_eq!(evidence["sources"].as_array().unwrap().len(), 3);
    ran.says("1 connection(s) begun by others left out");
}

#[test]
fn zeeks_json_says_the_same_in_one_stream() {
    let world = world(&["zeek-json.log"]);
    let (from_file, _) = evidence(&world, &["--workload", "agent"]);
    assert_eq!(told(&from_file), ZEEK);
    let ran = world.generate_from(&["-", "--workload", "agent"], &sample("zeek-json.log"));
    assert_eq!(ran.exits(0).out, world.read("out/policy.toml"));
}

#[test]
fn the_names_of_files_do_not_matter() {
    let world = world(&[]);
    world.write("in/c.log", sample("zeek-dns.log"));
    world.write("in/a.log", sample("zeek-conn.log"));
    world.write(
        "in/b.log.zst",
        zstd::encode_all(&sample("zeek-ssl.log")[..], 1).unwrap(),
    );
    let (evidence, _) = evidence(&world, &["--workload", "agent"]);
    assert_eq!(told(&evidence), ZEEK);
}

#[test]
fn suricatas_events_are_joined() {
    let world = world(&["suricata-eve.json"]);
    let (evidence, _) = evidence(&world, &[]);
    let expected = [
        "203.0.113.10 443/tcp 1 established=1 api.example/dns/proven api.example/sni/proven",
        "203.0.113.11 8080/tcp 1 refused=1",
        "203.0.113.12 443/tcp 1 timeout=1",
        "2001:db8:1::13 icmpv6 1 established=1",
    ];
    assert_eq!(told(&evidence), expected);
    assert_eq!(evidence["workload"], "suricata-eve");
}

#[test]
fn local_decides_where_the_log_does_not() {
    let world = world(&["suricata-eve.json"]);
    let (evidence, ran) = evidence(&world, &["--local", "2001:db8::/64"]);
    assert_eq!(told(&evidence), ["2001:db8:1::13 icmpv6 1 established=1"]);
    ran.says("4 connection(s) begun by others left out");
}

#[test]
fn tetragons_connects_have_pod_and_process() {
    let world = world(&["tetragon.json"]);
    let (evidence, _) = evidence(&world, &[]);
    assert_eq!(evidence["workload"], "shop_deployment_agent");
    assert_eq!(
        told(&evidence),
        ["10.96.0.10 53/udp 1", "203.0.113.10 443/tcp 1"]
    );
    assert_eq!(
        evidence["destinations"][1]["processes"],
        serde_json::json!(["curl"])
    );
}

#[test]
fn gadgets_of_both_generations_are_read() {
    let world = world(&["gadget.json"]);
    let (evidence, ran) = evidence(&world, &[]);
    assert_eq!(evidence["workload"], "shop_deployment_agent");
    let expected = [
        "10.96.0.10 53/udp 1",
        "203.0.113.10 443/tcp 1 api.example/dns/resolved",
        "203.0.113.11 80/tcp 1",
    ];
    assert_eq!(told(&evidence), expected);
    assert_eq!(
        evidence["destinations"][2]["first_seen"],
        "2026-11-22T10:00:03.000000000Z"
    );
    ran.says("1 connection(s) begun by others left out");
}

#[test]
fn hubbles_attempts_are_counted_once() {
    let world = world(&["hubble.json"]);
    let (evidence, ran) = evidence(&world, &[]);
    assert_eq!(evidence["workload"], "shop_deployment_agent");
    let expected = [
        "203.0.113.10 443/tcp 1 unknown=1 api.example/dns/resolved",
        "203.0.113.11 8080/tcp 1 blocked=1",
    ];
    assert_eq!(told(&evidence), expected);
    ran.says("the tool says that it lost 4 event(s)");
}

#[test]
fn cargowalls_connections_are_read() {
    let world = world(&["cargowall.ndjson"]);
    let (evidence, ran) = evidence(&world, &[]);
    let expected = [
        "203.0.113.10 443/tcp 1 api.example/dns/resolved",
        "203.0.113.11 8080/tcp 1 blocked=1",
    ];
    assert_eq!(told(&evidence), expected);
    ran.says("cargowall.ndjson:5: an existing connection without a port");
}

#[test]
fn several_tools_at_once_are_one_answer() {
    let names = [
        "zeek-json.log",
        "suricata-eve.json",
        "tetragon.json",
        "hubble.json",
        "cargowall.ndjson",
    ];
    let world = world(&names);
    world.write(
        "in/plain.jsonl",
        "{\"dest_ip\":\"203.0.113.10\",\"dest_port\":443}\n",
    );
    // What is beside the logs is not taken for one.
    world.write("in/package.json", "{\n  \"name\": \"x\"\n}\n");
    let (separate, ran) = evidence(&world, &["--merge-workloads"]);
    assert!(!ran.err.contains("package.json"), "{}", ran.err);
    // With a name that is believed, and without one, where the tool tells none.
    let all = separate["destinations"].as_array().unwrap().iter();
    let rows: Vec<&Value> = all.filter(|one| one["to"] == "203.0.113.10").collect();
    let sum = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
    assert_eq!(sum("connections"), 6, "{rows:#?}");
    assert_eq!(sum("runs"), 6, "{rows:#?}");
    // All of them in one stream, tool after tool.
    let stream = [
        names.map(sample).concat(),
        b"{\"dest_ip\":\"203.0.113.10\",\"dest_port\":443}\n".to_vec(),
    ];
    let ran = world
        .generate_from(&["-", "--merge-workloads", "-o", "one/"], &stream.concat())
        .exits(0);
    assert!(ran.err.contains("standard input:"), "{}", ran.err);
    assert_eq!(world.read("one/policy.toml"), world.read("out/policy.toml"));
}

#[test]
fn runs_may_be_grouped() {
    let world = World::new();
    for (at, name) in ["a/1.log", "a/2.log", "b/1.log"].into_iter().enumerate() {
        let line = format!("{{\"dest_ip\":\"203.0.113.{at}\",\"dest_port\":443}}\n");
        world.write(name, line);
    }
    for (arguments, runs) in [
        (vec![], 3),
        (vec!["--runs", "directory"], 2),
        (vec!["--runs", "all"], 1),
    ] {
        let all = [
            vec!["coverage", "a", "b", "--merge-workloads", "--json"],
            arguments,
        ]
        .concat();
        let ran = world.run(&all).exits(0);
        let said: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(said["workloads"][0]["runs"], runs, "{}", ran.out);
    }
}

#[test]
fn names_alone_are_no_evidence() {
    let world = world(&["zeek-dns.log", "zeek-ssl.log"]);
    world
        .generate(&["in"])
        .exits(2)
        .says("were understood, and none tells of a destination");
}

#[test]
fn broken_rows_and_events_are_counted_skips() {
    let world = World::new();
    let mut table = sample("zeek-conn.log");
    table.extend(b"1795341605.0\tC\n");
    table.extend(b"1795341605.0\tC\t10.0.0.5\t1\tnowhere\t443\ttcp\t-\t-\t-\t-\tSF\tT\tF\t0\t-\t1\t1\t1\t1\t-\t6\n");
    table.extend(b"1795341605.0\tC\t10.0.0.5\t1\t203.0.113.1\t70000\ttcp\t-\t-\t-\t-\tSF\tT\tF\t0\t-\t1\t1\t1\t1\t-\t6\n");
    world.write("conn.log", &table);
    let ran = world.generate(&["conn.log"]).exits(0);
    let ran = ran.says("conn.log:16: 2 columns where the header has 22");
    let ran = ran.says("conn.log:17: id.resp_h \"nowhere\" is not an address");
    ran.says("conn.log:18: port 70000 is not a port");
    world
        .generate(&["conn.log", "--strict"])
        .exits(2)
        .says("conn.log:16: ");
    let events = [
        r#"{"event_type":"flow","src_ip":"10.0.0.5","proto":"TCP"}"#,
        r#"{"event_type":"flow","src_ip":"10.0.0.5","dest_ip":"0177.0.0.1","proto":"TCP"}"#,
        r#"{"event_type":"flow","src_ip":"10.0.0.5","dest_ip":"192.0.2.1","dest_port":1,"proto":"x"}"#,
        r#"{"process_kprobe":{"function_name":"tcp_connect","args":[]}}"#,
        r#"{"flow":{"traffic_direction":"EGRESS","l4":{"TCP":{"flags":{"SYN":true}}}}}"#,
        r#"{"netns_id":1,"type":"connect"}"#,
        r#"{"event_type":"connection_allowed","would_deny":false,"dst_ip":"","dst_port":1}"#,
    ];
    for event in events {
        let ran = world.generate_from(&["-"], event.as_bytes()).exits(2);
        assert_eq!(ran.err.lines().count(), 1, "{event}: {}", ran.err);
    }
}

#[test]
fn what_hostile_tools_say_is_inert() {
    let world = World::new();
    let name = "x\\u001b[2J\\n[[allow]]\\\"";
    let events = [
        format!(
            r#"{{"event_type":"tls","flow_id":1,"src_ip":"10.0.0.5","dest_ip":"192.0.2.1","dest_port":443,"proto":"TCP","tls":{{"sni":"{name}"}}}}"#
        ),
        format!(
            r#"{{"process_kprobe":{{"function_name":"tcp_connect","process":{{"binary":"/bin/{name}","pod":{{"namespace":"{name}","name":"{name}"}}}},"args":[{{"sock_arg":{{"daddr":"192.0.2.2","dport":1}}}}]}}}}"#
        ),
    ];
    world.write("x.jsonl", events.join("\n"));
    let ran = world.generate(&["x.jsonl", "--merge-workloads"]).exits(0);
    assert_eq!(ran.out.matches("\n[[allow]]\n").count(), 2);
    assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'));
    let rules = world.generate(&["x.jsonl", "--merge-workloads", "--format", "nftables"]);
    assert!(!rules.exits(0).out.contains('\u{1b}'));
    let listed = world.generate(&["x.jsonl"]).exits(2);
    assert_eq!(listed.err.lines().count(), 1);
}
