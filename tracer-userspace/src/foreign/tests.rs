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
fn a_calico_policy_is_read_in_its_order() {
    let text = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nspec:\n  egress:\n  \
        - {action: Deny, destination: {nets: [192.0.2.9/32]}}\n  \
        - {action: Allow, protocol: TCP, destination: {nets: [192.0.2.0/24], ports: [443, '8000:8001']}}\n  \
        - {action: Allow, protocol: TCP, destination: {selector: a == 'b'}}\n  \
        - {action: Allow, protocol: UDP, destination: {notNets: [10.0.0.0/8]}}\n  \
        - {action: Allow, protocol: TCP, destination: {domains: [a.example], ports: [443]}}\n  \
        - {action: Log}\n  - {action: Deny}\n";
    let list = read(text, "w").unwrap();
    assert_eq!(list.form, "Calico");
    assert_eq!(list.notes.len(), 2, "{:?}", list.notes);
    let said = said(&list);
    let open: Vec<&String> = said.iter().filter(|each| !each.starts_with('-')).collect();
    let expected = [
        "192.0.2.0/24 443/tcp",
        "192.0.2.0/24 8000/tcp",
        "192.0.2.0/24 8001/tcp",
        "a.example 443/tcp",
    ];
    assert_eq!(open, expected);
    assert!(said.contains("-192.0.2.9 tcp"), "{said:?}");
}

#[test]
fn sets_are_read_alone_and_under_the_rules_that_look_into_them() {
    let sets = "create web hash:net,port family inet hashsize 1024 maxelem 65536 counters\n\
        add web 192.0.2.0/24,tcp:443 packets 0 bytes 0 comment \"a\"\n\
        create other hash:net family inet\nadd other 198.51.100.0/24\nadd other 198.51.100.9 nomatch\n";
    let list = read(sets, "w").unwrap();
    assert_eq!(list.form, "ipset save");
    assert!(said(&list).contains("198.51.100.0/24 tcp"));
    let rules = "*filter\n-A OUTPUT -m set --match-set web dst,dst -j ACCEPT\n\
        -A OUTPUT -m set --match-set none dst -j ACCEPT\n\
        -A OUTPUT -m set ! --match-set other dst -j ACCEPT\nCOMMIT\n";
    let list = expect(
        &format!("{sets}{rules}"),
        "iptables-save",
        &["192.0.2.0/24 443/tcp"],
    );
    assert!(
        list.notes.iter().any(|note| note.contains("set none")),
        "{:?}",
        list.notes
    );
    assert!(
        read(rules, "w").is_err(),
        "sets that are not there open nothing"
    );
}

#[test]
fn names_that_dnsmasq_puts_into_sets_are_read() {
    expect(
        "server=192.0.2.53\nipset=/a.example/b.example/allowed\n\
         nftset=/c.example/4#inet#t#names4_udp_443_c_example_00000000\n",
        "dnsmasq",
        &[
            "a.example tcp",
            "*.a.example tcp",
            "b.example tcp",
            "*.b.example tcp",
            "c.example 443/udp",
            "*.c.example 443/udp",
        ],
    );
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

/// What a format is tried with: what it can say.
struct Tried {
    v6: bool,
    services: &'static [&'static str],
    names: bool,
}

fn tried(format: Format) -> Tried {
    let of = |v6, services, names| Tried {
        v6,
        services,
        names,
    };
    match format {
        Format::Nftables | Format::Json => of(true, ANY6, true),
        Format::Iptables | Format::IptablesIpset => of(false, ANY4, false),
        Format::Ip6tables | Format::Ip6tablesIpset => of(true, ANY6, false),
        Format::Ipset => of(true, &["443/tcp", "53/udp", "443/sctp"], false),
        Format::NetworkPolicy => of(false, &["443/tcp", "123/udp", "443/sctp"], false),
        Format::Cilium => of(true, &["443/tcp", "123/udp"], true),
        Format::Calico => of(false, ANY4, false),
        Format::Squid => of(false, TCP, true),
        Format::Dnsmasq | Format::Domains | Format::HardenRunner | Format::SandboxRuntime => {
            of(false, &[], true)
        }
    }
}

/// A format, and rules of which few go to the same destination.
fn asked() -> impl Strategy<Value = (Format, RuleSet)> {
    select(Format::ALL.to_vec()).prop_flat_map(|format| {
        let Tried {
            v6,
            services,
            names: has_names,
        } = tried(format);
        let names = if has_names {
            vec(name(), 1..6).boxed()
        } else {
            Just(Vec::new()).boxed()
        };
        let rules = match services.is_empty() {
            true => Just(Vec::new()).boxed(),
            false => vec(rule(v6, services), 1..12).boxed(),
        };
        (rules, names).prop_map(move |(rules, names)| {
            (
                format,
                RuleSet {
                    names: sorted(names),
                    ..RuleSet::new("w", Origin::Reviewed, sorted(rules))
                },
            )
        })
    })
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all.dedup();
    all
}

/// Few destinations, so that some meet; services that the format can say.
fn rule(v6: bool, services: &'static [&'static str]) -> impl Strategy<Value = Rule> {
    let address = (0..16_u8, 0..=4_u8).prop_map(move |(low, short)| {
        let address: std::net::IpAddr = match v6 {
            true => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(low)].into(),
            false => [198, 51, 100, low].into(),
        };
        let whole = ipnet::IpNet::from(address).max_prefix_len();
        ipnet::IpNet::new(address, whole - short).unwrap().trunc()
    });
    (address, select(services))
        .prop_map(|(to, service)| Rule::new(to, service.parse().unwrap(), "why \" not"))
}

fn name() -> impl Strategy<Value = NamedRule> {
    let name = select(vec!["api.example.com", "b.example.org", "*.example.net"]);
    (name, select(TCP)).prop_map(|(name, service)| NamedRule {
        name: name.to_owned(),
        service: service.parse().unwrap(),
        comment: "why".to_owned(),
        expires: None,
    })
}

/// The file; of rules that look into sets, the sets before them.
fn written(format: Format, rules: &RuleSet) -> String {
    let options = Options {
        name_sets: true,
        ..options()
    };
    let of = |format: Format| format.backend().render(rules, &options).text;
    match format {
        Format::IptablesIpset | Format::Ip6tablesIpset => of(Format::Ipset) + &of(format),
        Format::Nftables
        | Format::Iptables
        | Format::Ip6tables
        | Format::Ipset
        | Format::NetworkPolicy
        | Format::Cilium
        | Format::Calico
        | Format::Dnsmasq
        | Format::Squid
        | Format::Domains
        | Format::HardenRunner
        | Format::SandboxRuntime
        | Format::Json => of(format),
    }
}

/// What the rules allow, as wide as the format says it (each backend lists that as an omission).
fn wanted(format: Format, rules: &RuleSet) -> Vec<(Target, Service)> {
    let by_address = rules.rules.iter();
    let mut all: Vec<(Target, Service)> = by_address
        .flat_map(|rule| one_by_one(&list::target(rule.to), &rule.service))
        .collect();
    let every_port = list::all_of(crate::record::Protocol::TCP);
    for rule in &rules.names {
        let (name, parent) = (rule.name.as_str(), rule.name.trim_start_matches("*."));
        let mut spelled = vec![name.to_owned()];
        if [Format::Dnsmasq, Format::Squid].contains(&format) {
            spelled.push(parent.to_owned());
        }
        if format == Format::Dnsmasq {
            spelled.push(format!("*.{parent}"));
        }
        let service = match [Format::Domains, Format::SandboxRuntime].contains(&format) {
            true => &every_port,
            false => &rule.service,
        };
        all.extend(
            spelled
                .iter()
                .map(|to| (to.parse().unwrap(), service.clone())),
        );
    }
    all
}

fn is_within((to, service): &(Target, Service), all: &[(Target, Service)]) -> bool {
    let mut all = all.iter();
    all.any(|(wide, known)| wide.covers(to) && known.covers(service))
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
    #![proptest_config(ProptestConfig::with_cases(64 * Format::ALL.len() as u32))]

    #[test]
    fn whatever_is_rendered_reads_back_as_the_same((format, asked) in asked()) {
        let text = written(format, &asked);
        let list = read(&text, "w").unwrap_or_else(|error| panic!("{format:?}: {error}\n{text}"));
        let wanted = wanted(format, &asked);
        let entries = list.policy.entries.iter();
        let open: Vec<(Target, Service)> = entries
            .filter(|entry| entry.status == Status::Approved)
            .flat_map(|entry| entry.ports.iter().map(|port| (&entry.to, port)))
            .filter(|(to, service)| !is_fixed(to, service))
            .flat_map(|(to, service)| one_by_one(to, service))
            .collect();
        for each in &wanted {
            prop_assert!(is_within(each, &open), "{:?}: {:?} is lost\n{}", format, each, text);
        }
        for each in &open {
            prop_assert!(is_within(each, &wanted), "{:?}: {:?} is new\n{}", format, each, text);
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in "\\PC*") {
        let _any = read(&text, "w");
        let _any = read(&format!("*filter\n-A OUTPUT {text}\nCOMMIT\n"), "w");
        let _any = read(&format!("http_access {text}\nacl {text}\n"), "w");
        let _any = read(&format!("create s hash:net\nadd s {text}\n{text}\n"), "w");
        let _any = read(&format!("nftset=/{text}\n"), "w");
        let nft = "# egress-tracer rules for workload w\ntable inet t {\n set s {\n  typeof ip daddr\n";
        let _any = read(&format!("{nft}{text},\n # {text}; filled by\n{text} @s accept\n"), "w");
    }
}
