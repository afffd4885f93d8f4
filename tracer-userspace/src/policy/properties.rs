//! Properties that hold for any observations: order never shows, regenerating changes nothing, and
//! no decision is lost.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use crate::{
    policy::{
        candidates::fresh_policy,
        decided::Decided,
        decision::{Decision, Ruling},
        document,
        infer::{self, By},
        model::{Entry, Policy, Service, Status, Target},
        observe::{Destination, Observations, Source},
        seen::{Figures, Who},
        tools::Tools,
        translation::Left,
    },
    ranges::Ranges,
    record::{Channel, Confidence, Name, NameSource, Protocol},
};

#[derive(Clone, Debug)]
struct Sighting {
    run: u8,
    host: u8,
    port: u16,
    count: u64,
    process: u8,
    second: i64,
    /// 0: as asked, else the port that it was rewritten to.
    left: u8,
    /// Which names it was reached by, and how far each is to be believed.
    names: Vec<(u8, Confidence)>,
}

fn names() -> impl Strategy<Value = Vec<(u8, Confidence)>> {
    let confidence = prop_oneof![
        Just(Confidence::Proven),
        Just(Confidence::Resolved),
        Just(Confidence::Claimed),
        Just(Confidence::Shared),
    ];
    proptest::collection::vec((0..5u8, confidence), 0..3)
}

fn name((number, confidence): &(u8, Confidence)) -> Name {
    Name {
        name: format!("n{number}.example"),
        source: match confidence {
            Confidence::Claimed => NameSource::Sni,
            Confidence::Proven | Confidence::Resolved | Confidence::Shared => NameSource::Dns,
        },
        confidence: Some(*confidence),
        port: None,
        ech: false,
        alpn: Vec::new(),
        via: None,
    }
}

/// What is found by name, and nobody has decided on.
fn found(observations: &Observations) -> Vec<Entry> {
    infer::entries(observations, By::Name, &Decided::default())
}

/// What is news to a policy.
fn news(observations: &Observations, by: By, text: &str) -> Vec<Entry> {
    let policy = document::parse(text).unwrap();
    infer::entries(observations, by, &Decided::of(&policy.entries))
}

fn sightings() -> impl Strategy<Value = Vec<Sighting>> {
    let one = (
        0..4u8,
        0..12u8,
        1..5u16,
        0..3u64,
        0..40u8,
        0..100i64,
        prop_oneof![3 => Just(0u8), 1 => 1..4u8],
        names(),
    )
        .prop_map(
            |(run, host, port, count, process, second, left, names)| Sighting {
                run,
                host,
                port,
                count,
                process,
                second,
                left,
                names,
            },
        );
    proptest::collection::vec(one, 0..60)
}

fn observe(sightings: &[Sighting], max: usize) -> Observations {
    let mut observations = Observations::new("w", max);
    for sighting in sightings {
        let time = jiff::Timestamp::from_second(sighting.second).unwrap();
        let names: Vec<Name> = sighting.names.iter().map(name).collect();
        let figures = Figures {
            count: sighting.count,
            outcomes: None,
            bytes_sent: sighting.count,
            bytes_received: 1,
            first_seen: Some(time),
            last_seen: Some(time),
            process: Some(["curl", "python", "node"][usize::from(sighting.process) % 3]),
            who: Who::default(),
            names: &names,
            role: None,
            peer: None,
            via_engine: sighting.host == 0,
            writable_path: sighting.process == 7,
            channel: Channel::Connect,
            answered: [None, Some(false), Some(true)][usize::from(sighting.process) % 3],
            left: Some(match sighting.left {
                0 => Left::AsAsked,
                port => Left::To {
                    ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                    port: Some(u16::from(port)),
                },
            }),
            tool: [None, Some("Search"), Some("Code")][usize::from(sighting.process) % 3]
                .map(Tools::one),
        };
        let destination = Destination {
            ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, sighting.host)),
            service: Service::Port {
                protocol: Protocol::TCP,
                port: sighting.port,
            },
        };
        observations.see(&format!("run-{}", sighting.run), destination, &figures);
    }
    let records = sightings.len() as u64;
    observations.add_source(Source {
        sha256: format!("{sightings:?}"),
        records,
    });
    observations
}

fn merged(one: &Observations, other: &Observations) -> Observations {
    let mut all = one.clone();
    all.merge(other);
    all
}

/// A policy with decisions: every third entry is denied, every third approved.
fn decided(sightings: &[Sighting]) -> String {
    let found = found(&observe(sightings, 100));
    let mut text = document::fresh("w", &[]).unwrap();
    for (index, entry) in found.iter().enumerate() {
        let decision = match index % 3 {
            0 => "status = \"denied\"",
            1 => "status = \"approved\"\nreason = \"r\"\nowner = \"o\"\nexpires = 2030-01-01",
            _ => "status = \"candidate\"",
        };
        let port = &entry.ports[0];
        text.push_str(&format!(
            "\n# about {to}\n[[allow]]\nto = \"{to}\" # why\nports = [\n  # first\n  \"{port}\", \
             # last\n]\n{translated}{decision}\n# after {to}\n",
            to = entry.to,
            translated = translated(entry, port),
        ));
    }
    text
}

/// What the first candidate port's rewriting would be as a line, in every other entry.
fn translated(entry: &Entry, port: &Service) -> String {
    let of_port = entry.translated.iter().find(|each| each.service == *port);
    match (of_port, entry.ports.len() % 2) {
        (Some(translation), 1) => {
            format!("translated = [\n  \"{translation}\", # mesh\n]\n")
        }
        (Some(_) | None, _) => String::new(),
    }
}

/// Where packets go that ask for `port` of `to`, by all that `policy` says.
fn left(policy: &Policy, to: &Target, port: &Service) -> Vec<Left> {
    let entries = policy.entries.iter();
    let about = entries.filter(|entry| entry.to == *to && entry.ports.contains(port));
    about.flat_map(|entry| entry.left(port)).collect()
}

fn is_denied(policy: &Policy, to: &Target, port: &Service) -> bool {
    policy.entries.iter().any(|entry| {
        entry.to == *to && entry.status == Status::Denied && entry.ports.contains(port)
    })
}

fn decisions(policy: &Policy) -> Vec<&Entry> {
    policy
        .entries
        .iter()
        .filter(|entry| entry.status != Status::Candidate)
        .collect()
}

/// What the entries say, port by port.
fn said(policy: &Policy) -> Vec<(Target, Service, Status)> {
    let mut all: Vec<_> = policy
        .entries
        .iter()
        .flat_map(|entry| {
            let said = |port: &Service| (entry.to.clone(), port.clone(), entry.status);
            entry.ports.iter().map(said)
        })
        .collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn merging_is_commutative_and_associative(
        a in sightings(), b in sightings(), c in sightings(), max in 1..60usize,
    ) {
        let [a, b, c] = [a, b, c].map(|part| observe(&part, max));
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn grouping_into_files_does_not_show(
        all in sightings(), cut in 0..60usize, max in 1..60usize,
    ) {
        let (head, tail) = all.split_at(cut.min(all.len()));
        let whole = infer::evidence(&observe(&all, max));
        let parts = infer::evidence(&merged(&observe(head, max), &observe(tail, max)));
        prop_assert_eq!(whole.destinations, parts.destinations);
        prop_assert_eq!(whole.left_out, parts.left_out);
    }

    #[test]
    fn a_fresh_policy_says_what_its_text_says(all in sightings(), by_name in any::<bool>()) {
        let by = if by_name { By::Name } else { By::Address };
        let observed = observe(&all, 100);
        let found = infer::entries(&observed, by, &Decided::default());
        let text = document::fresh("w", &found).unwrap();
        prop_assert_eq!(fresh_policy(&observed, by), document::parse(&text).unwrap());
    }

    #[test]
    fn regenerating_changes_nothing(base in sightings(), more in sightings()) {
        for by in [By::Name, By::Address] {
            let (before, observed) = (decided(&base), observe(&more, 100));
            let once = document::merge(&before, &news(&observed, by, &before), &Ranges::default()).unwrap();
            let again = document::merge(&once, &news(&observed, by, &once), &Ranges::default()).unwrap();
            prop_assert_eq!(again, once);
        }
    }

    #[test]
    fn going_over_to_names_loses_and_repeats_no_decision(
        base in sightings(), more in sightings(), from in any::<bool>(),
    ) {
        let (one, other) = if from { (By::Address, By::Name) } else { (By::Name, By::Address) };
        // What was seen is decided in one way, and then proposed in the other.
        let seen = observe(&base, 100);
        let fresh = document::fresh("w", &infer::entries(&seen, one, &Decided::default())).unwrap();
        let open = document::parse(&fresh).unwrap().entries.len();
        let all: Vec<_> = (0..open).map(|index| (index, Vec::new())).collect();
        let decision = Decision {
            ruling: Ruling::Approve,
            reason: "seen and wanted".to_owned(),
            owner: "o".to_owned(),
            on: jiff::civil::date(2026, 11, 22),
            expires: Some(jiff::civil::date(2027, 1, 1)),
            reference: None,
            acknowledged: Vec::new(),
        };
        let decided = document::decide(&fresh, &all, &decision).unwrap();
        let again = document::merge(&decided, &news(&seen, other, &decided), &Ranges::default()).unwrap();
        prop_assert_eq!(&again, &decided, "what is decided was asked again");
        let both = merged(&seen, &observe(&more, 100));
        let later = document::merge(&decided, &news(&both, other, &decided), &Ranges::default()).unwrap();
        let (old, new) = (document::parse(&decided).unwrap(), document::parse(&later).unwrap());
        prop_assert_eq!(decisions(&old), decisions(&new));
    }

    #[test]
    fn nothing_claimed_becomes_a_name(all in sightings()) {
        let observed = observe(&all, 100);
        for entry in found(&observed) {
            let Target::Name(wanted) = entry.to else { continue };
            let is_answered = |(number, confidence): &(u8, Confidence)| {
                *confidence != Confidence::Claimed && format!("n{number}.example") == wanted
            };
            let evidence = |seen: &Sighting| seen.left == 0 && seen.names.iter().any(is_answered);
            prop_assert!(all.iter().any(evidence), "{wanted}");
        }
    }

    #[test]
    fn an_untouched_policy_does_not_show_its_history(a in sightings(), b in sightings()) {
        // Nothing is left out: what is known of one half alone would show.
        const ROOM: usize = 1000;
        let both = observe(&[a.clone(), b.clone()].concat(), ROOM);
        let at_once = document::fresh("w", &found(&both)).unwrap();
        let first = document::fresh("w", &found(&observe(&a, ROOM))).unwrap();
        let stepwise = document::merge(&first, &found(&both), &Ranges::default()).unwrap();
        prop_assert_eq!(stepwise, at_once);
    }

    #[test]
    fn no_decision_and_no_comment_is_lost(base in sightings(), more in sightings()) {
        let before = decided(&base);
        let found = found(&observe(&more, 100));
        let after = document::merge(&before, &found, &Ranges::default()).unwrap();
        let (old, new) = (document::parse(&before).unwrap(), document::parse(&after).unwrap());
        prop_assert_eq!(decisions(&old), decisions(&new));
        let mut lines = after.lines();
        for line in before.lines() {
            prop_assert!(lines.any(|kept| kept == line), "{line:?} is lost in\n{after}");
        }
        let (said_before, said_after) = (said(&old), said(&new));
        prop_assert!(said_before.iter().all(|known| said_after.contains(known)));
        for entry in &found {
            for port in &entry.ports {
                let mut said = left(&new, &entry.to, port);
                let known = said.len();
                prop_assert!(known > 0, "{} {}", entry.to, port);
                said.sort_unstable();
                said.dedup();
                prop_assert_eq!(known, said.len(), "said twice: {} {}", entry.to, port);
                let all = entry.left(port);
                let is_denied = is_denied(&new, &entry.to, port);
                prop_assert!(is_denied || all.iter().all(|left| said.contains(left)), "{}", after);
                let before = left(&old, &entry.to, port);
                prop_assert!(before.iter().all(|left| said.contains(left)), "{}", after);
            }
        }
    }
}

/// What a round of review decides of so many candidates, and in which order new evidence comes.
#[derive(Clone, Debug)]
struct Round {
    decisions: Vec<(u16, bool)>,
    hosts: Vec<u16>,
    port: u16,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let decisions = proptest::collection::vec((any::<u16>(), any::<bool>()), 0..40);
    let hosts = proptest::collection::vec(0..1200u16, 0..60);
    let round = (decisions, hosts, 1..4u16).prop_map(|(decisions, hosts, port)| Round {
        decisions,
        hosts,
        port,
    });
    proptest::collection::vec(round, 100)
}

fn seen_at(hosts: impl Iterator<Item = u16>, port: u16) -> Vec<Entry> {
    let mut observations = Observations::new("w", 10_000);
    for host in hosts {
        let [high, low] = host.to_be_bytes();
        let destination = Destination {
            ip: IpAddr::V4(Ipv4Addr::new(192, 0, high, low)),
            service: Service::Port {
                protocol: Protocol::TCP,
                port,
            },
        };
        let figures = Figures {
            count: 1,
            outcomes: None,
            bytes_sent: 0,
            bytes_received: 0,
            first_seen: None,
            last_seen: None,
            process: None,
            who: Who::default(),
            names: &[],
            role: None,
            peer: None,
            via_engine: false,
            writable_path: false,
            channel: Channel::Connect,
            answered: None,
            left: None,
            tool: None,
        };
        observations.see("run", destination, &figures);
    }
    found(&observations)
}

/// Decides candidates by number, as a person would by name.
fn review(text: &str, round: &Round) -> String {
    let policy = document::parse(text).unwrap();
    let open: Vec<usize> = policy
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.status == Status::Candidate)
        .map(|(index, _)| index)
        .collect();
    let chosen = |wanted: bool| {
        let numbers = round
            .decisions
            .iter()
            .filter(|(_, approve)| *approve == wanted);
        let places =
            numbers.filter_map(|(number, _)| open.get(usize::from(*number) % open.len().max(1)));
        places.map(|index| (*index, Vec::new())).collect::<Vec<_>>()
    };
    [(true, Ruling::Approve), (false, Ruling::Deny)]
        .into_iter()
        .fold(text.to_owned(), |text, (approve, ruling)| {
            let decision = Decision {
                ruling,
                reason: format!("port {}", round.port),
                owner: "o".to_owned(),
                on: jiff::civil::date(2026, 11, 22),
                expires: approve.then(|| jiff::civil::date(2027, 1, 1)),
                reference: None,
                acknowledged: Vec::new(),
            };
            document::decide(&text, &chosen(approve), &decision).unwrap()
        })
}

proptest! {
    // One case is a hundred rounds; to make a failing one smaller would take hours.
    #![proptest_config(ProptestConfig { cases: 1, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn a_thousand_candidates_a_hundred_rounds_and_no_decision_lost(rounds in rounds()) {
        let mut text = document::fresh("w", &seen_at(0..1000, 443)).unwrap();
        let mut known: Vec<Entry> = Vec::new();
        for (number, round) in rounds.iter().enumerate() {
            text = review(&text, round);
            let policy = document::parse(&text).unwrap();
            let decided: Vec<Entry> = decisions(&policy).into_iter().cloned().collect();
            // What was decided earlier stands as it stood.
            prop_assert!(known.iter().all(|entry| decided.contains(entry)));
            let found = seen_at(round.hosts.iter().copied(), round.port);
            text = document::merge(&text, &found, &Ranges::default()).unwrap();
            if number % 10 == 0 {
                prop_assert_eq!(&document::merge(&text, &found, &Ranges::default()).unwrap(), &text);
            }
            let merged = document::parse(&text).unwrap();
            let after: Vec<Entry> = decisions(&merged).into_iter().cloned().collect();
            prop_assert_eq!(&after, &decided);
            known = after;
        }
        prop_assert!(document::parse(&text).unwrap().entries.len() >= 1000);
    }
}
