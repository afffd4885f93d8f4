//! From a policy and its evidence to the rules that may be rendered.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use jiff::civil::Date;

use crate::{
    policy::{
        comments::Comments,
        denials::{Denials, narrower_names},
        evidence::Evidence,
        lacking,
        model::{Entry, Policy, Service, Status, Target},
        observe::stays_inside,
        translation::Translation,
    },
    render::{Format, NamedRule, Origin, Rule, RuleSet, Scope},
};

/// How many of the destinations that a rule stands for its comment spells out.
const NAMED_DESTINATIONS: usize = 3;

/// Where rules are enforced. Each sees what the rewrites before it have made of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenAt {
    /// In the network namespace, on the way out.
    Output,
    /// On the host, which has rewritten by then. Does not see what never leaves the namespace.
    Forward,
    /// By whatever enforces a cluster's network policies: before the host rewrites, or after it.
    Network,
}

impl SeenAt {
    /// Where rules of that format and scope are enforced.
    #[must_use]
    pub fn of(format: Format, scope: &Scope) -> Self {
        match format {
            Format::NetworkPolicy | Format::Cilium | Format::Calico => Self::Network,
            Format::Nftables
            | Format::Iptables
            | Format::Ip6tables
            | Format::Ipset
            | Format::IptablesIpset
            | Format::Ip6tablesIpset
            | Format::Dnsmasq
            | Format::Squid
            | Format::Domains
            | Format::HardenRunner
            | Format::SandboxRuntime
            | Format::Json => Self::from(scope),
        }
    }

    /// What is seen there of a service that was asked for; `None`: as asked.
    fn sees(self, translation: &Translation) -> Vec<Option<(IpAddr, Service)>> {
        match self {
            Self::Output => vec![translation.leaves()],
            Self::Forward => vec![translation.is_forwarded()],
            Self::Network if translation.left.is_by_host() => {
                vec![None, translation.is_forwarded()]
            }
            Self::Network => vec![translation.leaves()],
        }
    }
}

impl From<&Scope> for SeenAt {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::Namespace | Scope::Cgroup { .. } => Self::Output,
            Scope::Forward { .. } => Self::Forward,
        }
    }
}

/// Rules, and what could not become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub set: RuleSet,
    /// One sentence each. Texts come from the policy: escape them before printing.
    pub omitted: Vec<String>,
}

/// What nobody has denied: candidates and approvals. For looking at, not for enforcing.
#[must_use]
pub fn unreviewed(policy: &Policy, evidence: &Evidence, seen_at: SeenAt) -> Rules {
    let allowed = |entry: &&Entry| entry.status != Status::Denied;
    build(policy, evidence, Origin::Candidate, seen_at, allowed)
}

/// What a person has approved and what has not expired on `today` (UTC).
#[must_use]
pub fn reviewed(policy: &Policy, evidence: &Evidence, seen_at: SeenAt, today: Date) -> Rules {
    let allowed = |entry: &&Entry| entry.is_in_force(today);
    build(policy, evidence, Origin::Reviewed, seen_at, allowed)
}

/// What a person has approved and what has not expired on `today` (UTC), and all candidates: to be
/// tried out, never to be trusted.
#[must_use]
pub fn with_candidates(
    policy: &Policy,
    evidence: &Evidence,
    seen_at: SeenAt,
    today: Date,
) -> Rules {
    let allowed = |entry: &&Entry| entry.status == Status::Candidate || entry.is_in_force(today);
    build(policy, evidence, Origin::Candidate, seen_at, allowed)
}

/// The same for what takes addresses alone: in place of each name the addresses that it was seen to
/// have. For looking at, as `unreviewed` is: tomorrow it may have others.
#[must_use]
pub fn as_seen(mut rules: Rules, evidence: &Evidence) -> Rules {
    let comments = Comments::new(evidence);
    let mut known: BTreeSet<(IpNet, Service)> = rules
        .set
        .rules
        .iter()
        .map(|rule| (rule.to, rule.service.clone()))
        .collect();
    let mut left = Vec::new();
    for named in std::mem::take(&mut rules.set.names) {
        let addresses = named_addresses(&named, evidence);
        let is_denied = |to: &IpNet| {
            let denied = rules.set.denied.iter();
            denied
                .filter(|denied| denied.to.contains(to))
                .any(|denied| {
                    denied
                        .services
                        .iter()
                        .any(|port| port.covers(&named.service))
                })
        };
        for to in addresses.into_iter().filter(|to| !is_denied(to)) {
            if known.insert((to, named.service.clone())) {
                rules.set.rules.push(Rule {
                    observed: 1,
                    ..Rule::new(to, named.service.clone(), comments.of(&to, &named.service))
                });
            }
        }
        left.push(format!(
            "{} {}: rules by address hold those that it was seen to have, not those of tomorrow",
            named.name, named.service
        ));
    }
    rules.set.rules.sort();
    rules.set.left_out.extend(left.iter().cloned());
    rules.omitted.extend(left);
    rules
}

/// The addresses that a name was seen to have.
fn named_addresses(named: &NamedRule, evidence: &Evidence) -> BTreeSet<IpNet> {
    let Ok(to) = named.name.parse::<Target>() else {
        return BTreeSet::new();
    };
    evidence
        .destinations
        .iter()
        .filter(|seen| named.service.covers(&seen.service) && seen.is_under(&to))
        .map(|seen| IpNet::from(seen.to))
        .collect()
}

fn build(
    policy: &Policy,
    evidence: &Evidence,
    origin: Origin,
    seen_at: SeenAt,
    allowed: impl Fn(&&Entry) -> bool,
) -> Rules {
    let mut building = Building {
        denials: Denials::new(policy),
        comments: Comments::new(evidence),
        seen_at,
        rules: BTreeMap::new(),
        names: BTreeSet::new(),
        omitted: BTreeSet::new(),
    };
    for entry in policy.entries.iter().filter(allowed) {
        match place(entry) {
            Ok(_) if entry.to.is_name() => building.allow_name(entry, &policy.entries),
            Ok(networks) => {
                for network in networks {
                    building.allow(entry, network);
                }
            }
            Err(why) => {
                building.omitted.insert(why);
            }
        }
    }
    building.report_shared(policy);
    // What nobody has reviewed has no end either: it is a dry run.
    let in_force = |end: Option<Date>| end.filter(|_| origin == Origin::Reviewed);
    let rules = building.rules.into_iter();
    let rules = rules
        .map(|((to, service), purpose)| Rule {
            observed: purpose.observed(building.comments.observed(&to, &service)),
            to,
            service,
            expires: in_force(purpose.end),
            comment: purpose.comment(),
        })
        .collect();
    let names = building.names.into_iter();
    let names = names
        .map(|rule| NamedRule {
            expires: in_force(rule.expires),
            ..rule
        })
        .collect();
    let omitted: Vec<String> = building.omitted.into_iter().collect();
    let set = RuleSet {
        names,
        denied: building.denials.listed(),
        left_out: omitted.clone(),
        warnings: warnings(evidence),
        ..RuleSet::new(&policy.workload, origin, rules)
    };
    Rules { set, omitted }
}

/// What whoever reads the rules should know of their evidence.
fn warnings(evidence: &Evidence) -> Vec<String> {
    let lacking = lacking::names(&evidence.missing_hooks);
    let lacking = lacking
        .map(|hooks| format!("not every way out was seen: the recording kernel lacked {hooks}"));
    evidence.incomplete.iter().cloned().chain(lacking).collect()
}

/// Rules on the way.
struct Building<'p> {
    denials: Denials<'p>,
    comments: Comments<'p>,
    seen_at: SeenAt,
    rules: BTreeMap<(IpNet, Service), Purpose>,
    names: BTreeSet<NamedRule>,
    omitted: BTreeSet<String>,
}

/// What a rule is for.
#[derive(Debug, Default)]
struct Purpose {
    /// Those who were seen there.
    seen: String,
    /// What was asked for where this is what left.
    stands_for: BTreeSet<String>,
    /// The latest day on which one of its entries holds.
    end: Option<Date>,
}

impl Building<'_> {
    fn allow(&mut self, entry: &Entry, network: IpNet) {
        for service in &entry.ports {
            self.omitted
                .extend(self.denials.narrower(&network, service));
            let parts = self.denials.subtract(network, service);
            for left in entry.left(service) {
                let translation = Translation {
                    service: service.clone(),
                    left,
                };
                for seen in self.seen_at.sees(&translation) {
                    match seen {
                        None => self.allow_as_asked(entry, &network, service, &parts),
                        // Nothing of it was left to allow.
                        Some(_) if parts.is_empty() => {}
                        Some((ip, leaves)) => {
                            self.allow_translated(entry, service, (ip, &leaves));
                        }
                    }
                }
            }
        }
    }

    fn allow_as_asked(
        &mut self,
        entry: &Entry,
        network: &IpNet,
        service: &Service,
        parts: &[IpNet],
    ) {
        for part in parts {
            let purpose = self.rules.entry((*part, service.clone())).or_default();
            purpose.end = purpose.end.max(entry.expires);
            if purpose.seen.is_empty() {
                purpose.seen = self.comments.of(network, service);
            }
        }
    }

    fn allow_translated(
        &mut self,
        entry: &Entry,
        service: &Service,
        (ip, leaves): (IpAddr, &Service),
    ) {
        if self.seen_at != SeenAt::Output && stays_inside(ip) {
            return;
        }
        for part in self.denials.subtract(IpNet::from(ip), leaves) {
            let purpose = self.rules.entry((part, leaves.clone())).or_default();
            purpose.stands_for.insert(format!("{} {service}", entry.to));
            purpose.end = purpose.end.max(entry.expires);
        }
    }

    /// The services of an entry by name, without those that are denied for that name.
    fn allow_name(&mut self, entry: &Entry, all: &[Entry]) {
        let denied: Vec<&Entry> = all
            .iter()
            .filter(|other| other.status == Status::Denied && other.tools.is_none())
            .collect();
        let is_denied = |service: &Service| {
            denied.iter().any(|other| {
                other.to.covers(&entry.to) && other.ports.iter().any(|port| port.covers(service))
            })
        };
        for service in entry.ports.iter().filter(|service| !is_denied(service)) {
            self.omitted
                .extend(narrower_names(&denied, &entry.to, service));
            self.names.insert(NamedRule {
                name: entry.to.to_string(),
                service: service.clone(),
                comment: entry.reason.clone().unwrap_or_default(),
                expires: entry.expires,
            });
        }
    }

    /// What is denied, but leaves for a place that is allowed for the sake of something else:
    /// rules by address cannot tell the two apart.
    fn report_shared(&mut self, policy: &Policy) {
        let denied = policy
            .entries
            .iter()
            .filter(|entry| entry.status == Status::Denied);
        for entry in denied {
            for translation in &entry.translated {
                let is_open =
                    self.seen_at
                        .sees(translation)
                        .into_iter()
                        .flatten()
                        .any(|(ip, service)| {
                            self.rules
                                .keys()
                                .any(|(to, open)| to.contains(&ip) && open.covers(&service))
                        });
                if is_open {
                    self.omitted.insert(format!(
                        "{} {translation} is denied, but something else that goes there is allowed",
                        entry.to
                    ));
                }
            }
        }
    }
}

impl Purpose {
    /// How many addresses were seen, of which so many were asked for: one to which packets were
    /// rewritten was seen as well.
    fn observed(&self, asked: u64) -> u64 {
        asked.max(u64::from(!self.stands_for.is_empty()))
    }

    fn comment(self) -> String {
        let named: Vec<&str> = self
            .stands_for
            .iter()
            .take(NAMED_DESTINATIONS)
            .map(String::as_str)
            .collect();
        let rest = self.stands_for.len() - named.len();
        let mut parts = vec![self.seen];
        if !named.is_empty() {
            parts.push(format!("in place of {}", named.join(", ")));
        }
        if rest > 0 {
            parts.push(format!("+{rest}"));
        }
        parts.retain(|part| !part.is_empty());
        parts.join(", ")
    }
}

/// The addresses of an entry, none for a name, or why no rule can express it.
fn place(entry: &Entry) -> Result<Vec<IpNet>, String> {
    if entry.tools.is_some() {
        return Err(format!(
            "{}: rules by address cannot tell one tool from another",
            entry.to
        ));
    }
    Ok(entry.to.networks())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::policy::{document, infer, observe::Observations};

    const HEAD: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n";

    fn rules(entries: &str, today: Option<&str>) -> (Vec<String>, Vec<String>) {
        let policy = document::parse(&format!("{HEAD}{entries}")).unwrap();
        let evidence = infer::evidence(&Observations::new("w", 1));
        let rules = match today {
            Some(day) => reviewed(&policy, &evidence, SeenAt::Output, day.parse().unwrap()),
            None => unreviewed(&policy, &evidence, SeenAt::Output),
        };
        let texts = rules
            .set
            .rules
            .iter()
            .map(|rule| format!("{} {}", rule.to, rule.service));
        (texts.collect(), rules.omitted)
    }

    const APPROVED: &str = "status = \"approved\"\nreason = \"r\"\nowner = \"o\"\n\
                            approved = 2026-01-01\nexpires = 2026-02-01\n";

    #[test]
    fn a_denial_makes_a_hole_in_what_is_allowed_around_it() {
        let text = "[[allow]]\nto = \"10.0.0.0/30\"\nports = [\"1/tcp\", \"2/tcp\"]\n\
                    status = \"candidate\"\n\
                    [[allow]]\nto = \"10.0.0.1\"\nports = [\"1/tcp\"]\nstatus = \"denied\"\n";
        let expected = [
            "10.0.0.0/30 2/tcp",
            "10.0.0.0/32 1/tcp",
            "10.0.0.2/31 1/tcp",
        ];
        let (mut rules, omitted) = rules(text, None);
        rules.sort();
        assert_eq!(rules, expected);
        assert!(omitted.is_empty());
    }

    const MESH: &str = "[[allow]]\nto = \"198.51.100.7\"\nports = [\"80/tcp\", \"443/tcp\"]\n\
                        translated = [\"443/tcp to 127.0.0.1:15001\", \"443/tcp to 10.0.0.9:8443\"]\n\
                        status = \"candidate\"\n";

    #[test]
    fn rules_hold_what_leaves() {
        let expected = [
            "10.0.0.9/32 8443/tcp",
            "127.0.0.1/32 15001/tcp",
            "198.51.100.7/32 80/tcp",
        ];
        assert_eq!(rules(MESH, None).0, expected);
        let both = MESH.replace("translated = [", "translated = [\"443/tcp as asked\", ");
        assert!(
            rules(&both, None)
                .0
                .contains(&"198.51.100.7/32 443/tcp".to_owned())
        );
    }

    #[test]
    fn what_stays_on_the_host_is_not_forwarded() {
        let policy = document::parse(&format!("{HEAD}{MESH}")).unwrap();
        let evidence = infer::evidence(&Observations::new("w", 1));
        let set = unreviewed(&policy, &evidence, SeenAt::Forward).set;
        let places: Vec<String> = set.rules.iter().map(|rule| rule.to.to_string()).collect();
        assert_eq!(places, ["10.0.0.9/32", "198.51.100.7/32"]);
        assert_eq!(set.rules[0].comment, "in place of 198.51.100.7 443/tcp");
    }

    #[test]
    fn a_denial_holds_wherever_the_packets_go_or_says_that_it_cannot() {
        let denied =
            "[[allow]]\nto = \"198.51.100.7\"\nports = [\"443/tcp\"]\nstatus = \"denied\"\n";
        let (found, omitted) = rules(&format!("{MESH}{denied}"), None);
        assert_eq!(
            (found.as_slice(), omitted.len()),
            (&["198.51.100.7/32 80/tcp".to_owned()][..], 0)
        );
        let shared = "[[allow]]\nto = \"198.51.100.8\"\nports = [\"443/tcp\"]\n\
                      translated = [\"443/tcp to 127.0.0.1:15001\"]\nstatus = \"denied\"\n";
        assert_eq!(rules(&format!("{MESH}{shared}"), None).1.len(), 1);
    }

    #[test]
    fn tools_are_reported_and_names_are_no_addresses() {
        let text = "[[allow]]\nto = \"example.com\"\nports = [\"1/tcp\"]\nstatus = \"candidate\"\n\
                    [[allow]]\nto = \"10.0.0.1\"\ntools = [\"x\"]\nports = [\"1/tcp\"]\n\
                    status = \"candidate\"\n";
        let (rules, omitted) = rules(text, None);
        assert!(rules.is_empty());
        assert_eq!(omitted.len(), 1);
    }

    #[test]
    fn a_denied_name_is_not_allowed() {
        let entry = |ports: &str, status: &str| {
            format!("[[allow]]\nto = \"a.example\"\nports = [{ports}]\nstatus = \"{status}\"\n")
        };
        let text = entry("\"1/tcp\", \"2/tcp\"", "candidate") + &entry("\"1/tcp\"", "denied");
        let policy = document::parse(&format!("{HEAD}{text}")).unwrap();
        let evidence = infer::evidence(&Observations::new("w", 1));
        let names = unreviewed(&policy, &evidence, SeenAt::Output).set.names;
        let services: Vec<String> = names.iter().map(|rule| rule.service.to_string()).collect();
        assert_eq!(services, ["2/tcp"]);
    }

    #[test]
    fn a_narrower_denial_without_ports_is_reported() {
        let text = "[[allow]]\nto = \"10.0.0.1\"\nports = [\"icmp\"]\nstatus = \"candidate\"\n\
                    [[allow]]\nto = \"10.0.0.1\"\nports = [\"icmp/echo-request\"]\n\
                    status = \"denied\"\n";
        assert_eq!(rules(text, None).1.len(), 1);
    }

    #[test]
    fn an_end_holds_for_what_leaves_and_for_names() {
        let decided = "status = \"approved\"\nreason = \"r\"\nowner = \"o\"\n";
        let mesh = MESH.replace("status = \"candidate\"\n", decided);
        let name = format!("[[allow]]\nto = \"a.example\"\nports = [\"1/tcp\"]\n{decided}");
        // Of two approvals of the same packets, the later end counts.
        let later = "[[allow]]\nto = \"127.0.0.1\"\nports = [\"15001/tcp\"]\n";
        let text = format!(
            "{HEAD}{mesh}expires = 2026-02-01\n{name}expires = 2026-02-02\n\
             {later}{decided}expires = 2026-03-01\n"
        );
        let policy = document::parse(&text).unwrap();
        let evidence = infer::evidence(&Observations::new("w", 1));
        let day = jiff::civil::date(2026, 1, 15);
        let set = reviewed(&policy, &evidence, SeenAt::Output, day).set;
        let ends = set.rules.iter().map(|rule| (rule.to, rule.expires));
        let ends: Vec<String> = ends
            .map(|(to, end)| format!("{to} {}", end.unwrap()))
            .collect();
        assert_eq!(
            ends,
            [
                "10.0.0.9/32 2026-02-01",
                "127.0.0.1/32 2026-03-01",
                "198.51.100.7/32 2026-02-01"
            ]
        );
        assert_eq!(set.names[0].expires, Some(jiff::civil::date(2026, 2, 2)));
        let dry = with_candidates(&policy, &evidence, SeenAt::Output, day).set;
        assert!(dry.rules.iter().all(|rule| rule.expires.is_none()));
        assert!(dry.names.iter().all(|rule| rule.expires.is_none()));
    }

    #[test]
    fn a_denied_name_below_an_allowed_wildcard_is_reported() {
        let entry = |to: &str, status: &str| {
            format!("[[allow]]\nto = \"{to}\"\nports = [\"1/tcp\"]\nstatus = \"{status}\"\n")
        };
        let wide = entry("*.example.com", "candidate");
        let omitted = |denied: &str| rules(&format!("{wide}{}", entry(denied, "denied")), None).1;
        assert_eq!(
            omitted("a.example.com"),
            ["a.example.com 1/tcp is denied, but 1/tcp to *.example.com is allowed as a whole"]
        );
        assert!(omitted("a.example.org").is_empty());
    }

    #[test]
    fn only_approvals_that_have_not_expired_are_reviewed() {
        let text = format!(
            "[[allow]]\nto = \"10.0.0.1\"\nports = [\"1/tcp\"]\n{APPROVED}\
             [[allow]]\nto = \"10.0.0.2\"\nports = [\"1/tcp\"]\nstatus = \"candidate\"\n"
        );
        assert_eq!(rules(&text, Some("2026-02-01")).0, ["10.0.0.1/32 1/tcp"]);
        assert!(rules(&text, Some("2026-02-02")).0.is_empty());
    }
}
