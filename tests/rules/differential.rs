//! Random rules and random packets: what the kernel does is what `replay` says, for each packet.

mod made;
mod sender;

use std::{env, time::Instant};

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use tracer_userspace::{
    analysis::replay::{Decision, Evaluator, Packet},
    render::{Format, RuleSet, Scope, Verdict},
};

use crate::{
    netns::{Netns, has, ready},
    render,
};
use made::Pool;
use sender::Sender;

/// How much each packet filter is asked.
#[derive(Debug)]
struct Size {
    policies: usize,
    /// For each policy.
    packets: usize,
}

impl Size {
    const REDUCED: Self = Self {
        policies: 100,
        packets: 300,
    };
    const FULL: Self = Self {
        policies: 1_000,
        packets: 10_000,
    };

    fn wanted() -> Self {
        match env::var_os("EGRESS_TRACER_FULL") {
            Some(_) => Self::FULL,
            None => Self::REDUCED,
        }
    }
}

/// A namespace whose packets go to one that swallows them, without asking for neighbours.
fn nowhere() -> (Netns, Netns) {
    let (netns, drain) = (Netns::new(), Netns::new());
    netns.must(&format!(
        "ip link add sink type veth peer name sink netns {}",
        drain.name()
    ));
    drain.must("ip link set sink up");
    netns.must(
        "ip link set sink arp off && ip link set sink up \
         && ip addr add 192.0.2.1/32 dev sink && ip addr add 2001:db8:f::1/128 dev sink nodad \
         && ip route add default dev sink && ip -6 route add default dev sink",
    );
    (netns, drain)
}

fn differs(name: &str, formats: &[(Format, &str)]) {
    if !ready(name) {
        return;
    }
    let (size, began) = (Size::wanted(), Instant::now());
    let (netns, _drain) = nowhere();
    let (pool, mut sender) = (Pool::new(), Sender::default());
    let mut runner = TestRunner::deterministic();
    let (mut allowed, mut dropped) = (0, 0);
    for _ in 0..size.policies {
        let rules = made::policy().new_tree(&mut runner).unwrap().current();
        load(&netns, formats, &rules);
        let draw = |_| pool.draw(runner.rng());
        let packets: Vec<Packet> = (0..size.packets).map(draw).collect();
        let let_out = sender.let_out(&netns, &packets);
        let by_rules = compare(&rules, &packets, &let_out);
        allowed += by_rules;
        dropped += let_out.iter().filter(|passed| !**passed).count();
    }
    println!(
        "{name}: {size:?}, {:.0} s: {allowed} packets let out by rules, {dropped} dropped",
        began.elapsed().as_secs_f64()
    );
    // A comparison of nothing but drops would prove little.
    assert!(allowed > size.policies && dropped > size.policies);
}

fn load(netns: &Netns, formats: &[(Format, &str)], rules: &RuleSet) {
    for (format, command) in formats {
        let made = render(*format, rules, Verdict::Drop, Scope::Namespace);
        netns.must_with(command, &made.text);
    }
}

/// Fails at the first packet whose verdicts differ. How many a rule let out.
fn compare(rules: &RuleSet, packets: &[Packet], let_out: &[bool]) -> usize {
    assert_eq!(packets.len(), let_out.len());
    let evaluator = Evaluator::new(rules);
    let mut by_rules = 0;
    for (packet, passed) in packets.iter().zip(let_out) {
        let decision = evaluator.judge(packet);
        let expected = decision != Decision::NotAllowed;
        assert_eq!(
            expected, *passed,
            "{packet:?} is {decision:?} by\n{rules:#?}"
        );
        by_rules += usize::from(matches!(decision, Decision::Allowed(_)));
    }
    by_rules
}

#[test]
fn nft_decides_as_replay_says() {
    differs(
        "nft_decides_as_replay_says",
        &[(Format::Nftables, "nft -f -")],
    );
}

/// The jump is there once: each load adds one, and the first of them decides.
const IPTABLES: &str = "iptables -w -D OUTPUT -j egress 2>/dev/null; iptables-restore --noflush";
const IP6TABLES: &str = "ip6tables -w -D OUTPUT -j egress 2>/dev/null; ip6tables-restore --noflush";

#[test]
fn iptables_decides_as_replay_says() {
    let formats = [(Format::Iptables, IPTABLES), (Format::Ip6tables, IP6TABLES)];
    differs("iptables_decides_as_replay_says", &formats);
}

#[test]
fn ipset_decides_as_replay_says() {
    let name = "ipset_decides_as_replay_says";
    if !has("ipset") {
        eprintln!("SKIPPED {name}: not installed: ipset");
        return;
    }
    let formats = [
        (Format::Ipset, "ipset restore"),
        (Format::IptablesIpset, IPTABLES),
        (Format::Ip6tablesIpset, IP6TABLES),
    ];
    differs(name, &formats);
}
