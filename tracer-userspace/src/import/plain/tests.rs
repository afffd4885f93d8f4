//! The quick reader and the slow one, on the same lines.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    import::{destination_line, line},
    policy::observe::{Destination, service},
};

fn scan(line: &str) -> Option<Plain> {
    Scanner::default().scan(line.as_bytes())
}

/// What is read here is read alike by the reader that understands more.
fn agrees(line: &str) -> Result<(), TestCaseError> {
    let Some(plain) = scan(line) else {
        return Ok(());
    };
    let line::Parsed::Destination(slow) = line::parse(line.as_bytes()).unwrap() else {
        panic!("{line} is no destination line");
    };
    let expected = Destination {
        ip: plain.ip,
        service: service(plain.protocol, plain.port).unwrap(),
    };
    prop_assert_eq!(&slow.destination, &expected, "{}", line);
    prop_assert_eq!(slow.time, plain.time, "{}", line);
    prop_assert_eq!(slow.workload, None);
    Ok(())
}

#[test]
fn the_usual_lines_are_read_here() {
    for line in [
        r#"{"dest_ip":"1.2.3.4","dest_port":443}"#,
        r#"{"ts": "2026-11-22T10:00:00.123456Z", "dest_ip": "2001:db8::1", "dest_port": 443, "protocol": "tcp"}"#,
        r#" { "ok" : true , "dest_ip" : "1.2.3.4" , "dest_port" : "53" , "proto" : "UDP" } "#,
        r#"{"timestamp":1763805600.25,"tool":"search","dest_ip":"1.2.3.4","dest_port":1,"n":-0.5,"x":null}"#,
        r#"{"dest_ip":"::ffff:1.2.3.4","protocol":"icmp","dest_port":8}"#,
    ] {
        assert!(scan(line).is_some(), "{line}");
        agrees(line).unwrap();
    }
}

#[test]
fn what_is_unusual_is_left_to_others() {
    for line in [
        r#"{"dest_ip":"1.2.3.4","dest_port":443"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443} x"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":65536}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":0443}"#,
        r#"{"dest_ip":"1.2.3.04","dest_port":443}"#,
        r#"{"dest_ip":"1.2.3","dest_port":443}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,"dest_port":443}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":NaN}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":01}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":"\u0041"}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":[1]}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":"é"}"#,
        r#"{"dest_ip":"1.2.3.4","dest_port":443,"event_type":"flow"}"#,
        "{\"dest_ip\":\"1.2.3.4\",\"dest_port\":443,\"a\":\"\t\"}",
        r#"{"dest_ip":"1.2.3.4"}"#,
        "{}",
        "",
    ] {
        assert_eq!(scan(line), None, "{line}");
    }
}

fn pair() -> impl Strategy<Value = String> {
    let key = select(vec![
        "dest_ip",
        "dest_ip",
        "dest_port",
        "dest_port",
        "protocol",
        "proto",
        "ts",
        "timestamp",
        "x",
    ]);
    let value = prop_oneof![
        "\"[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\"",
        "\"[0-9a-f:]{2,10}\"",
        "-?[0-9]{1,6}(\\.[0-9]{1,3})?(e5)?",
        "\"[0-9]{1,6}\"",
        "\"(tcp|UDP|icmp|Sctp|ip-4|x)\"",
        "\"202[0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|\\+01:00)\"",
        "(true|false|null|nul|NaN)",
        "\"\\PC{0,12}\"",
    ];
    (key, value, select(vec!["", " ", "\t"]))
        .prop_map(|(key, value, space)| format!("\"{key}\":{space}{value}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn both_readers_agree(pairs in vec(pair(), 0..6)) {
        agrees(&format!("{{{}}}", pairs.join(",")))?;
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..60)) {
        let _ = Scanner::default().scan(&bytes);
        let _ = destination_line::parse(&bytes);
    }
}
