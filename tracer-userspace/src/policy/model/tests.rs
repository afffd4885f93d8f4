//! What policies say, read and written again.

use super::*;

#[test]
fn services_are_read_as_they_are_written() {
    for text in [
        "443/tcp",
        "0/udp",
        "icmp",
        "icmp/echo-request",
        "ip-99",
        "132/sctp",
    ] {
        assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
    }
}

#[test]
fn what_is_not_a_service_is_refused() {
    for text in [
        "",
        "443",
        "tcp",
        "tcp/443",
        "443/icmp",
        "65536/tcp",
        "+1/tcp",
        "01/tcp",
        "443/TPC",
        "tcp/x",
        "icmp/",
        "icmp/Echo",
    ] {
        assert!(text.parse::<Service>().is_err(), "{text}");
    }
}

#[test]
fn a_protocol_covers_its_kinds_and_not_the_other_way_round() {
    let [any, echo]: [Service; 2] = ["icmp", "icmp/echo-request"].map(|text| text.parse().unwrap());
    assert!(any.covers(&echo) && any.covers(&any));
    assert!(!echo.covers(&any));
}

#[test]
fn a_wildcard_covers_what_is_below_it() {
    let target = |text: &str| text.parse::<Target>().unwrap();
    let wide = target("*.Example.com.");
    assert_eq!(wide.to_string(), "*.example.com");
    for below in [
        "a.example.com",
        "a.b.example.com",
        "*.a.example.com",
        "*.example.com",
    ] {
        assert!(wide.covers(&target(below)), "{below}");
    }
    for other in ["example.com", "badexample.com", "*.com", "192.0.2.1"] {
        assert!(!wide.covers(&target(other)), "{other}");
    }
    for wrong in ["*", "*.", "a.*.b", "*a.b", "*.*.b", "*.1.2.3.4"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}

#[test]
fn addresses_that_need_guessing_are_not_targets() {
    for text in [
        "0177.0.0.1",
        "1.2.3",
        "1",
        "0x7f000001",
        "",
        "-a.b",
        "a..b",
        "a b",
    ] {
        assert!(text.parse::<Target>().is_err(), "{text}");
    }
}
