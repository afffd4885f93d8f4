//! An approval's end reaches the packet filter: the kernel's own clock decides.

use std::{thread, time::Duration};

use jiff::{SignedDuration, Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use tracer_userspace::render::{Format, RuleSet, Scope, Verdict};

use crate::{
    netns::{Netns, ready},
    render, rules,
};

/// Rules for one address and one network that hold until `last`.
fn until(last: Date) -> RuleSet {
    let mut set = rules(&[("198.51.100.7/32", "9/udp"), ("203.0.113.0/24", "9/udp")]);
    for rule in &mut set.rules {
        rule.expires = Some(last);
    }
    set
}

/// Whether a datagram to each of the two is let out.
fn passes(netns: &Netns, last: Date) -> Vec<bool> {
    let made = render(
        Format::Nftables,
        &until(last),
        Verdict::Drop,
        Scope::Namespace,
    );
    netns.must_with("nft -f -", &made.text);
    let_out(netns)
}

fn let_out(netns: &Netns) -> Vec<bool> {
    ["198.51.100.7", "203.0.113.9"]
        .into_iter()
        .map(|to| {
            netns
                .shell(&format!("bash -c 'echo x > /dev/udp/{to}/9'"))
                .ok
        })
        .collect()
}

fn with_a_way_out() -> Netns {
    let netns = Netns::new();
    netns.must(
        "ip link add away type veth peer name far && ip link set far up && ip link set away up && ip addr add 192.0.2.1/24 dev away",
    );
    netns.must("ip route add default dev away");
    netns
}

/// The end of a day comes while the rules are loaded. The clock is the kernel's, which the whole
/// machine shares and a test must not set: so the day's end is moved to a few seconds from now, in
/// the rules as they are rendered, and nothing else in them.
#[test]
fn nft_stops_allowing_when_the_day_ends() {
    if !ready("nft_stops_allowing_when_the_day_ends") {
        return;
    }
    let netns = with_a_way_out();
    let last = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let midnight = last.checked_add(1.day()).unwrap().to_zoned(TimeZone::UTC);
    let day_ends = format!("meta time < {} ", midnight.unwrap().timestamp().as_second());
    let made = render(
        Format::Nftables,
        &until(last),
        Verdict::Drop,
        Scope::Namespace,
    );
    assert!(made.text.contains(&day_ends), "{}", made.text);
    let end = Timestamp::now() + SignedDuration::from_secs(4);
    let soon = format!("meta time < {} ", end.as_second());
    let rules = made.text.replace(&day_ends, &soon);
    netns.must_with("nft -f -", &rules);
    assert_eq!(let_out(&netns), [true, true]);
    while Timestamp::now() < end + SignedDuration::from_millis(100) {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(let_out(&netns), [false, false]);
}

#[test]
fn nft_stops_allowing_what_has_expired() {
    if !ready("nft_stops_allowing_what_has_expired") {
        return;
    }
    let netns = with_a_way_out();
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = |days: i64| today.checked_add(days.days()).unwrap();
    assert_eq!(passes(&netns, day(1)), [true, true]);
    assert_eq!(passes(&netns, day(-1)), [false, false]);
    // The zone of whoever loads the rules does not matter.
    let made = render(
        Format::Nftables,
        &until(day(0)),
        Verdict::Drop,
        Scope::Namespace,
    );
    for zone in ["UTC", "Asia/Tokyo", "America/Los_Angeles"] {
        netns.must_with(&format!("TZ={zone} nft -f -"), &made.text);
        let listed = netns.must("TZ=UTC nft list table inet egress_tracer");
        let end = format!("meta time < \"{} 00:00:00\"", day(1));
        assert!(listed.contains(&end), "{end} is not in {listed}");
    }
}
