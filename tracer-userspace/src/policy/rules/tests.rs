//! Policies by hand, and the rules that are made of them.

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
    let denied = "[[allow]]\nto = \"198.51.100.7\"\nports = [\"443/tcp\"]\nstatus = \"denied\"\n";
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

/// `TO SERVICE` of what everybody may, and of what each tool may.
fn told(set: &RuleSet) -> Vec<String> {
    let rules = set
        .rules
        .iter()
        .map(|rule| format!("{} {}", rule.to, rule.service));
    let names = set
        .names
        .iter()
        .map(|rule| format!("{} {}", rule.name, rule.service));
    rules.chain(names).collect()
}

#[test]
fn each_tool_has_its_own_and_what_is_denied_to_it_or_to_all_is_a_hole() {
    let entry = |to: &str, tools: &str, status: &str| {
        format!("[[allow]]\nto = \"{to}\"\nports = [\"1/tcp\"]\n{tools}status = \"{status}\"\n")
    };
    let (any, a, ab) = ("", "tools = [\"a\"]\n", "tools = [\"a\", \"b\"]\n");
    let text = entry("10.0.0.0/30", ab, "candidate")
        + &entry("10.0.0.0/32", a, "denied")
        + &entry("10.0.0.2/31", any, "denied")
        + &entry("10.1.0.1", any, "candidate")
        + &entry("x.example", a, "candidate")
        + &entry("y.example", any, "candidate")
        + &entry("y.example", ab, "denied");
    let policy = document::parse(&format!("{HEAD}{text}")).unwrap();
    let evidence = infer::evidence(&Observations::new("w", 1));
    let set = per_tool(&policy, |policy| {
        unreviewed(policy, &evidence, SeenAt::Output)
    })
    .set;
    assert_eq!(told(&set), ["10.1.0.1/32 1/tcp", "y.example 1/tcp"]);
    assert_eq!(
        set.left_out,
        ["y.example is denied to a, b, but allowed to everybody"]
    );
    let tools: Vec<_> = set
        .tools
        .iter()
        .map(|each| (&*each.tool, told(&each.set)))
        .collect();
    assert_eq!(
        tools,
        [
            (
                "a",
                vec!["10.0.0.1/32 1/tcp".to_owned(), "x.example 1/tcp".to_owned()]
            ),
            ("b", vec!["10.0.0.0/31 1/tcp".to_owned()]),
        ]
    );
    let why = &set.tools[0].set.left_out;
    assert!(
        why[0].contains("not kept out of its names' sets"),
        "{why:?}"
    );
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
