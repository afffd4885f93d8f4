//! Packet captures as input.

use std::io::Write as _;

use etherparse::PacketBuilder;

use crate::world::World;

/// A capture of one connection that was answered, and of one from elsewhere to the workload.
fn capture() -> Vec<u8> {
    let words = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    let (client, server, other) = ([10, 0, 0, 5], [198, 51, 100, 7], [203, 0, 113, 9]);
    let tcp = |from, to, ports: (u16, u16)| {
        PacketBuilder::ipv4(from, to, 64).tcp(ports.0, ports.1, 1, 1000)
    };
    let builders = [
        tcp(client, server, (50_000, 443)).syn(),
        tcp(server, client, (443, 50_000)).syn().ack(2),
        tcp(other, client, (50_000, 22)).syn(),
    ];
    for (second, builder) in builders.into_iter().enumerate() {
        let mut packet = Vec::new();
        builder.write(&mut packet, &[]).unwrap();
        let length = packet.len() as u32;
        let head = [1_700_000_000 + second as u32, 0, length, length];
        bytes.extend(head.into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(packet);
    }
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_capture_becomes_a_policy_however_it_comes() {
    let world = World::new();
    world.write("plain/shop.pcap", capture());
    world.write("gzip/shop.pcap.gz", gzip(&capture()));
    world.write(
        "zstd/shop.pcap.zst",
        zstd::encode_all(&capture()[..], 1).unwrap(),
    );
    let first = world.generate(&["plain", "--local", "10.0.0.0/8"]).exits(0);
    assert!(first.out.contains("to = \"198.51.100.7\"") && first.out.contains("443/tcp"));
    assert!(first.out.contains("workload = \"shop\"") && !first.out.contains("10.0.0.5"));
    assert!(
        first
            .err
            .contains("1 connection(s) begun by others than --local left out")
    );
    for input in ["gzip", "zstd"] {
        let again = world.generate(&[input, "--local", "10.0.0.0/8"]).exits(0);
        assert_eq!(again.out, first.out);
    }
    let piped = world.generate_from(
        &["-", "--workload", "shop", "--local", "10.0.0.0/8"],
        &capture(),
    );
    assert_eq!(piped.exits(0).out, first.out);
    let all = world.generate(&["plain"]).exits(0);
    assert!(all.out.contains("10.0.0.5") && all.out.contains("22/tcp"));
}

#[test]
fn evidence_has_the_captures_figures() {
    let world = World::new();
    world.write("shop.pcap", capture());
    world
        .generate(&["shop.pcap", "--local", "10.0.0.5", "-o", "out/"])
        .exits(0);
    let evidence: serde_json::Value =
        serde_json::from_str(&world.read("out/policy.evidence.json")).unwrap();
    assert_eq!(evidence["runs"], 1);
    assert_eq!(evidence["complete"], true);
    let [destination] = evidence["destinations"].as_array().unwrap().as_slice() else {
        panic!("{evidence}");
    };
    assert_eq!(destination["to"], "198.51.100.7");
    assert_eq!(
        destination["outcomes"],
        serde_json::json!({"established": 1})
    );
    assert_eq!(destination["first_seen"], "2023-11-14T22:13:20.000000000Z");
}

#[test]
fn a_cut_capture_is_used_up_to_there_unless_that_is_not_wanted() {
    let world = World::new();
    let whole = capture();
    world.write("cut.pcap", &whole[..whole.len() - 5]);
    let told = "cut.pcap:3: the capture ends inside this packet";
    let used = world.generate(&["cut.pcap"]).exits(0).says(told);
    assert!(used.out.contains("198.51.100.7"));
    let strict = world
        .generate(&["cut.pcap", "--strict"])
        .exits(2)
        .says(told);
    assert_eq!(strict.out, "");
    let long = [&whole[..], &whole[24..].repeat(3000)].concat();
    let packed = gzip(&long);
    world.write("cut.pcap.gz", &packed[..packed.len() - 20]);
    let used = world.generate(&["cut.pcap.gz"]).exits(0);
    assert!(used.out.contains("198.51.100.7"));
    used.says("unreadable from here on");
}

#[test]
fn a_capture_without_packets_is_no_evidence() {
    let world = World::new();
    world.write("empty.pcap", &capture()[..24]);
    world
        .generate(&["empty.pcap"])
        .exits(2)
        .says("no usable record");
    world.write("magic.pcap", &capture()[..4]);
    world.generate(&["magic.pcap"]).exits(2).says("ends inside");
    world.write(
        "junk.pcapng",
        [&b"\x0a\x0d\x0d\x0a"[..], &[0xff; 100]].concat(),
    );
    world
        .generate(&["junk.pcapng"])
        .exits(2)
        .says("no usable record");
}
