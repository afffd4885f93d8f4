//! Inputs that are broken, or that someone broke on purpose.

use std::{fs, io::Write as _};

use crate::world::{World, flow, whole};

const GOOD: &str = "{\"dest_ip\":\"10.0.0.1\",\"dest_port\":443}\n";

#[test]
fn bad_lines_are_counted_shown_and_survived() {
    let world = World::new();
    let bad = [
        "{",
        "[1]",
        "nonsense",
        "{\"a\":1}",
        "{\"dest_ip\":\"10.0.0.1\",\"dest_port\":65536}",
        "{\"dest_ip\":\"0177.0.0.1\",\"dest_port\":1}",
        "{\"dest_ip\":\"10.0.0.1\",\"dest_port\":NaN}",
        "{\"dest_ip\":\"10.0.0.1\",\"dest_port\":1}\0",
        "{\"schema\":\"egress-tracer/9\",\"type\":\"flow\"}",
        "{\"schema\":\"egress-tracer/1\",\"type\":\"flow\"}",
    ];
    world.write(
        "shop.jsonl",
        format!("\u{feff}{GOOD}{}\r\n\r\n", bad.join("\r\n")),
    );
    let ran = world.generate(&["shop.jsonl"]).exits(0);
    assert!(ran.out.contains("443/tcp"));
    let ran = ran.says("shop.jsonl:2: ").says("skipped 5 more line(s)");
    assert_eq!(ran.err.lines().count(), 6);
    world
        .generate(&["shop.jsonl", "--strict"])
        .exits(2)
        .says("shop.jsonl:2: ");
}

#[test]
fn a_clock_that_runs_backwards_spans_what_it_showed() {
    let world = World::new();
    let line =
        |time: &str| format!("{{\"ts\":\"{time}\",\"dest_ip\":\"192.0.2.1\",\"dest_port\":443}}\n");
    let times = [
        "2026-11-22T10:00:00Z",
        "2026-11-22T09:00:00Z",
        "2026-11-22T09:30:00Z",
    ];
    world.write("shop.jsonl", times.map(line).concat());
    world
        .generate(&["shop.jsonl", "-o", "policy.toml"])
        .exits(0);
    let evidence = world.read("policy.evidence.json");
    for figure in [
        "\"first_seen\": \"2026-11-22T09:00:00.000000000Z\"",
        "\"last_seen\": \"2026-11-22T10:00:00.000000000Z\"",
    ] {
        assert!(evidence.contains(figure), "{evidence}");
    }
}

#[test]
fn nothing_usable_is_an_error() {
    let world = World::new();
    world.write("empty.jsonl", "");
    world.write("bad.jsonl", "x\n");
    fs::create_dir(world.path("nothing")).unwrap();
    world
        .generate(&["empty.jsonl"])
        .exits(2)
        .says("no usable record");
    world
        .generate(&["bad.jsonl"])
        .exits(2)
        .says("bad.jsonl:1: not a JSON object");
    world
        .generate(&["missing.jsonl"])
        .exits(2)
        .says("missing.jsonl is not there");
    world
        .generate(&["*.missing"])
        .exits(2)
        .says("nothing matches");
    world.generate(&["nothing"]).exits(2).says("holds no log");
    world.generate(&[]).exits(2);
    let capture = world.write("a.pcap", b"\xd4\xc3\xb2\xa1\0\0\0\0");
    world
        .generate(&[capture.to_str().unwrap()])
        .exits(2)
        .says("ends inside");
}

#[test]
fn a_huge_line_is_skipped() {
    let world = World::new();
    let mut file = fs::File::create(world.path("shop.jsonl")).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        file.write_all(&chunk).unwrap();
    }
    file.write_all(b"\n").unwrap();
    file.write_all(GOOD.as_bytes()).unwrap();
    let ran = world
        .generate(&["shop.jsonl"])
        .exits(0)
        .says("shop.jsonl:1: longer than");
    assert!(ran.out.contains("443/tcp"));
}

#[test]
fn a_truncated_archive_is_read_as_far_as_it_goes() {
    let world = World::new();
    // Lines that do not compress away, so that half of the archive holds whole ones.
    let lines: String = (0..20_000_u32)
        .map(|n| {
            let [a, b, c, _] = n.wrapping_mul(2_654_435_761).to_be_bytes();
            format!("{{\"dest_ip\":\"10.{a}.{b}.{c}\",\"dest_port\":1}}\n")
        })
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let archives = [
        gzip.finish().unwrap(),
        zstd::encode_all(lines.as_bytes(), 1).unwrap(),
    ];
    for archive in archives {
        world.write("shop.jsonl.x", &archive[..archive.len() / 2]);
        let ran = world
            .generate(&["shop.jsonl.x"])
            .exits(0)
            .says("unreadable from here on");
        assert!(ran.out.contains("[[allow]]"));
        world.write("shop.jsonl.x", &archive[..4]);
        world.generate(&["shop.jsonl.x"]).exits(2);
    }
}

#[test]
fn a_truncated_segment_of_ours_is_incomplete() {
    let world = World::new();
    let flows: String = (0..200)
        .map(|n| flow("w", &format!("10.0.0.{n}"), n, ""))
        .collect();
    let log = whole("w", &flows);
    world.write("flows.jsonl", &log[..log.len() - 300]);
    world.generate(&["flows.jsonl"]).exits(3);
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    let world = World::new();
    let open = "[".repeat(400_000);
    let close = "]".repeat(400_000);
    let nested = format!("{{\"dest_ip\":{open}{close},\"dest_port\":1}}\n");
    let unended = format!("{{\"dest_ip\":{open}\n");
    world.write("shop.jsonl", nested + &unended + GOOD);
    let ran = world.generate(&["shop.jsonl"]).exits(0);
    assert_eq!(ran.says("recursion limit").err.lines().count(), 2);
}

#[test]
fn hostile_texts_are_inert() {
    let world = World::new();
    let name = "w\\n[[allow]]\\nto = \\\"0.0.0.0/0\\\"\\u001b[2J\\u202e#";
    let exe = format!("/bin/{}", "x\\n\\\"; drop #\\u0000");
    world.write(
        "log.jsonl",
        whole(
            name,
            &flow(name, "10.0.0.1", 1, &format!(",\"exe\":\"{exe}\"")),
        ),
    );
    let ran = world.generate(&["log.jsonl"]).exits(0);
    assert_eq!(ran.out.matches("\n[[allow]]\n").count(), 1);
    world.write("policy.toml", &ran.out);
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    assert_eq!(world.read("policy.toml"), ran.out);
    let rules = world
        .generate(&["log.jsonl", "--format", "nftables"])
        .exits(0);
    assert!(!rules.out.contains("\n\"; drop"));
    let refused = world
        .generate(&["log.jsonl", "--workload", "other"])
        .exits(2);
    assert_eq!(refused.err.lines().count(), 1);
    assert!(!refused.err.contains('\u{1b}') && !refused.err.contains('\u{202e}'));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_like_a_file() {
    let world = World::new();
    world.write("shop.jsonl", GOOD);
    let script = "\"$0\" generate <(cat shop.jsonl) --workload shop";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_egress-tracer")])
        .current_dir(world.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("443/tcp")
    );
}

#[cfg(unix)]
#[test]
fn an_error_is_one_line_with_one_reason() {
    let world = World::new();
    world.write("shop.jsonl", GOOD);
    let ran = world
        .generate(&["shop.jsonl", "-o", "missing/rules", "--format", "nftables"])
        .exits(2);
    assert_eq!(ran.err.matches("os error").count(), 1, "{}", ran.err);
}
