//! What connections say of themselves.

use std::{
    fs,
    process::{Command, Stdio},
};

use lab::{Cgroup, Daemon, Process};

use crate::world::{SERVER, World, hello, hello_offering, hello_with, hex, names, needs_root};

/// An Initial packet of RFC 9001, appendix A.2, in which a client asks for example.com.
const INITIAL: &str = include_str!("../../tracer-userspace/src/decode/rfc9001-a2.hex");

fn claimed(name: &str, source: &str) -> Vec<String> {
    vec![format!("{name} {source} claimed")]
}

#[test]
fn curl_over_tls_proves_the_name() {
    needs_root!();
    let mut world = World::new();
    let ca = world.serve_tls(&["api.example"]);
    let curl = ["curl", "-sS", "-o", "/dev/null", "--cacert", &ca];
    let log = world.run(&[], &[&curl[..], &["https://api.example/"]].concat());
    let expected = ["api.example dns proven", "api.example sni proven"];
    assert_eq!(names(&log, SERVER, 443), expected);
}

#[test]
fn http_says_its_host() {
    needs_root!();
    let world = World::new();
    let curl = ["curl", "-sS", "-o", "/dev/null", "http://api.example/"];
    let log = world.run(&[], &curl);
    let expected = ["api.example dns proven", "api.example http proven"];
    assert_eq!(names(&log, SERVER, 80), expected);
}

#[test]
fn a_hello_in_many_segments_is_put_together() {
    needs_root!();
    let world = World::new();
    let hello = hello(b"split.example", 6000);
    let pieces: Vec<String> = hello.chunks(1500).map(hex).collect();
    let log = world.record(&format!("say tcp 198.51.100.9:443 {}", pieces.join(",")));
    let found = names(&log, "198.51.100.9", 443);
    assert_eq!(found, claimed("split.example", "sni"));
}

#[test]
fn dns_over_tls_is_recognised_on_any_port() {
    needs_root!();
    let world = World::new();
    let hello = hex(&hello_offering(b"resolver.example", b"dot"));
    let log = world.record(&format!("say tcp 198.51.100.9:443 {hello}"));
    let mut flows = log.to("198.51.100.9", Some(443));
    let name = flows.find_map(|flow| flow["names"].as_array()?.first());
    assert_eq!(name.unwrap()["alpn"], serde_json::json!(["dot"]));
    let mut list = Command::new(lab::egress_tracer().unwrap());
    list.args(["policy", "list", "--finding", "encrypted-dns"]);
    let listed = lab::output(list.arg(world.path("out/policy.toml"))).unwrap();
    assert!(listed.contains("198.51.100.9"), "{listed}");
}

#[test]
fn an_encrypted_hello_is_recognised() {
    needs_root!();
    const ECH: u16 = 0xfe0d;
    let world = World::new();
    let hello = hex(&hello_with(b"outer.example", ECH, &[0; 32]));
    let log = world.record(&format!("say tcp 198.51.100.9:443 {hello}"));
    let mut flows = log.to("198.51.100.9", Some(443));
    let name = flows.find_map(|flow| flow["names"].as_array()?.first());
    let name = name.unwrap();
    assert_eq!(
        (&name["name"], &name["ech"]),
        (&"outer.example".into(), &true.into())
    );
}

#[test]
fn proxies_are_recorded_with_where_they_are_to_go() {
    needs_root!();
    let inner = hex(&hello(b"inner.example", 200));
    let connect = hex(b"CONNECT inner.example:443 HTTP/1.1\r\nHost: inner.example:443\r\n\r\n");
    let socks = hex(b"\x05\x01\x00\x03\x0dinner.example\x01\xbb");
    for said in [
        format!("{connect},{inner}"),
        format!("050100,{socks},{inner}"),
    ] {
        let world = World::new();
        let log = world.record(&format!("say tcp 198.51.100.7:3128 {said}"));
        let expected = ["inner.example proxy claimed", "inner.example sni claimed"];
        assert_eq!(names(&log, SERVER, 3128), expected);
        let ports = log.flows().filter_map(|flow| flow["names"].as_array());
        let ports: Vec<_> = ports.flatten().map(|name| name["port"].clone()).collect();
        assert!(ports.contains(&443.into()), "{ports:?}");
    }
}

#[test]
fn quic_says_whom_it_wants() {
    needs_root!();
    let world = World::new();
    let initial: String = INITIAL.split_whitespace().collect();
    let log = world.record(&format!("say udp 198.51.100.7:443 {initial}"));
    assert_eq!(names(&log, SERVER, 443), claimed("example.com", "quic"));
}

#[test]
fn what_is_neither_hello_nor_request_is_not_read() {
    needs_root!();
    let world = World::new();
    let secret = hex(b"EHLO mail.example\r\n");
    let log = world.record(&format!("say tcp 198.51.100.9:443 {secret}"));
    assert_eq!(names(&log, "198.51.100.9", 443), Vec::<String>::new());
    let stats = log.of_type("stats").last().unwrap();
    assert_eq!(stats["counters"]["wire_pieces"], 0, "{stats}");
}

#[test]
fn a_name_said_long_after_connecting_is_told_in_a_record_that_counts_nothing() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("late").unwrap();
    let name = cgroup.relative();
    let options = ["--cgroup", &name];
    let daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
    // In one piece: bash itself writes line by line, and the server closes after the first.
    let request = world.path("request");
    fs::write(&request, "GET / HTTP/1.1\r\nHost: late.example\r\n\r\n").unwrap();
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec 3<>/dev/tcp/{SERVER}/80 && read -r _ && \
         cat {} >&3 && read -r _",
        cgroup.path().display(),
        request.display()
    );
    let mut bash = world.client().command("bash");
    bash.args(["-c", &script]).stdin(Stdio::piped());
    let mut bash = Process::spawn(&mut bash).unwrap();
    daemon
        .log_until(&name[1..], |log| log.count(SERVER, 80) == 1)
        .unwrap();
    use std::io::Write as _;
    let stdin = bash.child().stdin.as_mut().unwrap();
    stdin.write_all(b"go\n").unwrap();
    let is_named = |log: &lab::Log| !names(log, SERVER, 80).is_empty();
    let log = daemon.log_until(&name[1..], is_named).unwrap();
    assert_eq!(names(&log, SERVER, 80), claimed("late.example", "http"));
    assert_eq!(log.count(SERVER, 80), 1);
    let late = log.later_too(SERVER, Some(80)).last().unwrap();
    assert_eq!((&late["count"], late.get("outcomes")), (&0.into(), None));
    daemon.stop().unwrap();
}
