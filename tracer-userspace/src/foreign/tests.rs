//! Lists as people have them, and ours read back.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    policy::model::{Entry, Service, Status, Target},
    render::{Format, NamedRule, Options, Origin, Pods, Rule, RuleSet, Verdict},
};

/// `TO SERVICE` of all that is open, denials with a minus before them.
fn said(list: &Foreign) -> BTreeSet<String> {
    let each = |entry: &Entry| -> Vec<String> {
        let sign = match entry.status {
            Status::Denied => "-",
            Status::Candidate | Status::Approved => "",
        };
        let services = entry.ports.iter();
        services
            .map(|service| format!("{sign}{} {service}", entry.to))
            .collect()
    };
    list.policy.entries.iter().flat_map(each).collect()
}

fn expect(text: &str, form: &str, expected: &[&str]) -> Foreign {
    let list = read(text, "w").unwrap();
    assert_eq!(list.form, form);
    assert_eq!(
        said(&list),
        expected.iter().map(|each| (*each).to_owned()).collect()
    );
    list
}

#[test]
fn a_network_policy_is_read() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  \
        podSelector: {}\n  policyTypes: [Egress]\n  egress:\n  - to:\n    - ipBlock:\n        \
        cidr: 192.0.2.0/24\n        except: [192.0.2.9/32]\n    - podSelector: {}\n    ports:\n    \
        - {protocol: TCP, port: 443}\n    - {port: 8000, endPort: 8001}\n    - {port: http}\n";
    let list = expect(
        text,
        "NetworkPolicy",
        &[
            "192.0.2.0/24 443/tcp",
            "192.0.2.0/24 8000/tcp",
            "192.0.2.0/24 8001/tcp",
            "-192.0.2.9 443/tcp",
            "-192.0.2.9 8000/tcp",
            "-192.0.2.9 8001/tcp",
        ],
    );
    assert_eq!(list.notes.len(), 2, "{:?}", list.notes);
}

#[test]
fn a_cilium_policy_is_read() {
    let text = "kind: CiliumNetworkPolicy\nspec:\n  egress:\n  - toFQDNs:\n    - matchName: \
        api.example.com\n    - matchPattern: '*.example.org'\n    - matchPattern: 'a*b'\n    \
        toPorts:\n    - ports:\n      - {port: '443', protocol: TCP}\n  - toCIDR: [198.51.100.0/24]\n    \
        icmps:\n    - fields:\n      - {type: 8, family: IPv4}\n  - toEndpoints: [{}]\n";
    let list = expect(
        text,
        "CiliumNetworkPolicy",
        &[
            "api.example.com 443/tcp",
            "*.example.org 443/tcp",
            "198.51.100.0/24 icmp/echo-request",
        ],
    );
    assert_eq!(list.notes.len(), 2, "{:?}", list.notes);
}

#[test]
fn iptables_save_is_read() {
    let text = "*nat\n-A OUTPUT -d 203.0.113.9/32 -j ACCEPT\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n\
        :OUTPUT DROP [0:0]\n:agent - [0:0]\n-A INPUT -s 192.0.2.1/32 -j ACCEPT\n\
        -A OUTPUT -o lo -j ACCEPT\n-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A OUTPUT -j agent\n-A agent -d 192.0.2.9/32 -j DROP\n\
        -A agent -d 192.0.2.0/24 -p tcp -m multiport --dports 80,443:444 -m comment --comment \"a \\\"b\" -j ACCEPT\n\
        -A agent -d 192.0.2.77/32 -p tcp -m owner --uid-owner 5 -m tcp --dport 22 -j ACCEPT\n\
        -A agent -p icmp -m icmp --icmp-type 8 -j ACCEPT\nCOMMIT\n";
    let list = read(text, "w").unwrap();
    let open: BTreeSet<String> = said(&list)
        .into_iter()
        .filter(|each| !each.starts_with('-'))
        .collect();
    let expected = [
        "0.0.0.0/0 icmp/echo-request",
        "192.0.2.0/24 443/tcp",
        "192.0.2.0/24 444/tcp",
        "192.0.2.0/24 80/tcp",
    ];
    assert_eq!(open, expected.map(str::to_owned).into());
    let denied = list
        .policy
        .entries
        .iter()
        .filter(|entry| entry.status == Status::Denied);
    assert_eq!(
        denied.map(|entry| entry.to.to_string()).collect::<Vec<_>>(),
        ["192.0.2.9"]
    );
    assert!(list.notes[0].contains("--uid-owner 5"), "{:?}", list.notes);
}

#[test]
fn squids_lists_are_read() {
    let text = "# a comment\nacl SSL_ports port 443\nacl api dstdomain api.example.com .example.org\n\
        acl odd time MTWHF 9:00-17:00\nhttp_access allow api SSL_ports\n\
        http_access allow odd api\nhttp_access deny all\n";
    let list = expect(
        text,
        "Squid",
        &[
            "api.example.com 443/tcp",
            "*.example.org 443/tcp",
            "example.org 443/tcp",
        ],
    );
    assert!(
        list.notes.iter().any(|note| note.contains("time")),
        "{:?}",
        list.notes
    );
}

#[test]
fn a_workflow_with_harden_runner_is_read() {
    let text = "on: push\njobs:\n  test:\n    steps:\n    - uses: step-security/harden-runner@v2\n      \
        with:\n        egress-policy: block\n        allowed-endpoints: >\n          \
        api.github.com:443\n          *.blob.core.windows.net:443\n    - uses: actions/checkout@v4\n";
    expect(
        text,
        "Harden-Runner",
        &["api.github.com 443/tcp", "*.blob.core.windows.net 443/tcp"],
    );
}

#[test]
fn what_is_no_list_is_refused() {
    for text in [
        "",
        "{}",
        "a: b",
        "[[allow]]",
        "hello",
        "\u{0}",
        "*filter\nCOMMIT\n",
        "kind: Pod",
    ] {
        assert!(read(text, "w").is_err(), "{text:?}");
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
        c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
        e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
        g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    assert_eq!(read(bomb, "w"), Err(ForeignError::Unknown));
}

fn options() -> Options {
    Options {
        pods: Pods {
            namespace: None,
            labels: [("app".to_owned(), "w".to_owned())].into(),
        },
        ..Options::new(Verdict::Drop)
    }
}

/// Few destinations, so that some meet; services that the format can say.
fn rules(v6: bool, services: &'static [&'static str]) -> impl Strategy<Value = Vec<Rule>> {
    let address = (0..16_u8, 0..=4_u8).prop_map(move |(low, short)| {
        let address: std::net::IpAddr = match v6 {
            true => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(low)].into(),
            false => [198, 51, 100, low].into(),
        };
        let whole = ipnet::IpNet::from(address).max_prefix_len();
        ipnet::IpNet::new(address, whole - short).unwrap().trunc()
    });
    let rule = (address, select(services))
        .prop_map(|(to, service)| Rule::new(to, service.parse().unwrap(), "why \" not"));
    vec(rule, 1..12).prop_map(|mut rules| {
        rules.sort();
        rules.dedup();
        rules
    })
}

fn names() -> impl Strategy<Value = Vec<NamedRule>> {
    let name = select(vec!["api.example.com", "b.example.org", "*.example.net"]);
    let rule = (name, select(vec!["443/tcp", "80/tcp"])).prop_map(|(name, service)| NamedRule {
        name: name.to_owned(),
        service: service.parse().unwrap(),
        comment: "why".to_owned(),
        expires: None,
    });
    vec(rule, 1..6).prop_map(|mut rules| {
        rules.sort();
        rules.dedup();
        rules
    })
}

/// Reading back what was rendered opens what the rules open, and nothing else.
fn reads_back(format: Format, rules: Vec<Rule>, names: Vec<NamedRule>) {
    let asked = RuleSet {
        names,
        ..RuleSet::new("w", Origin::Reviewed, rules)
    };
    let made = format.backend().render(&asked, &options());
    let list = read(&made.text, "w").unwrap_or_else(|error| panic!("{error}\n{}", made.text));
    let wanted = asked
        .rules
        .iter()
        .flat_map(|rule| one_by_one(&list::target(rule.to), &rule.service));
    let named = asked.names.iter();
    let named = named.map(|rule| (rule.name.parse::<Target>().unwrap(), rule.service.clone()));
    let wanted: Vec<(Target, Service)> = wanted.chain(named).collect();
    let is_within = |to: &Target, service: &Service, all: &[(Target, Service)]| {
        all.iter()
            .any(|(wide, known)| wide.covers(to) && known.covers(service))
    };
    let open: Vec<(Target, Service)> = list
        .policy
        .entries
        .iter()
        .filter(|entry| entry.status == Status::Approved)
        .flat_map(|entry| {
            entry
                .ports
                .iter()
                .map(|port| (entry.to.clone(), port.clone()))
        })
        .filter(|(to, service)| !is_fixed(to, service))
        .flat_map(|(to, service)| one_by_one(&to, &service))
        .collect();
    for (to, service) in &wanted {
        assert!(
            is_within(to, service, &open),
            "{to} {service} is lost\n{}",
            made.text
        );
    }
    for (to, service) in &open {
        assert!(
            is_within(to, service, &wanted),
            "{to} {service} is new\n{}",
            made.text
        );
    }
}

/// The addresses of a network, which some formats cut in another way; a name as it is.
fn one_by_one(to: &Target, service: &Service) -> Vec<(Target, Service)> {
    if to.is_name() {
        return vec![(to.clone(), service.clone())];
    }
    let networks = to.networks().into_iter();
    let each = networks.flat_map(|network| network.subnets(network.max_prefix_len()).unwrap());
    each.map(|one| (list::target(one), service.clone()))
        .collect()
}

/// What our own rules always let pass: neighbour discovery, path MTU.
fn is_fixed(to: &Target, service: &Service) -> bool {
    let Service::Protocol {
        kind: Some(kind), ..
    } = service
    else {
        return false;
    };
    let all = list::everywhere().map(list::target);
    let multicast: Target = "ff02::/16".parse().unwrap();
    (all.contains(to) || *to == multicast) && kind != "echo-request"
}

const TCP: &[&str] = &["443/tcp", "80/tcp"];
const ANY4: &[&str] = &[
    "443/tcp",
    "53/udp",
    "443/sctp",
    "gre",
    "icmp/echo-request",
    "ip-99",
];
const ANY6: &[&str] = &["443/tcp", "53/udp", "gre", "icmpv6/echo-request", "esp"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn iptables_reads_back(rules in rules(false, ANY4)) {
        reads_back(Format::Iptables, rules, Vec::new());
    }

    #[test]
    fn ip6tables_reads_back(rules in rules(true, ANY6)) {
        reads_back(Format::Ip6tables, rules, Vec::new());
    }

    #[test]
    fn networkpolicy_reads_back(rules in rules(false, &["443/tcp", "123/udp", "443/sctp"])) {
        reads_back(Format::NetworkPolicy, rules, Vec::new());
    }

    #[test]
    fn cilium_reads_back(rules in rules(true, &["443/tcp", "123/udp"]), names in names()) {
        reads_back(Format::Cilium, rules, names);
    }

    #[test]
    fn squid_reads_back(rules in rules(false, TCP)) {
        reads_back(Format::Squid, rules, Vec::new());
    }

    #[test]
    fn harden_runner_reads_back(names in names()) {
        reads_back(Format::HardenRunner, Vec::new(), names);
    }

    #[test]
    fn nothing_makes_it_panic(text in "\\PC*") {
        let _any = read(&text, "w");
        let _any = read(&format!("*filter\n-A OUTPUT {text}\nCOMMIT\n"), "w");
        let _any = read(&format!("http_access {text}\nacl {text}\n"), "w");
    }
}
