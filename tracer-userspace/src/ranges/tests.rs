//! The providers' real files, where they are at hand, and small ones of the same form.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{env, fs, path::PathBuf};

use super::*;

const AWS: &str = r#"{"syncToken":"1","createDate":"2025-07-24-20-23-14","prefixes":[
  {"ip_prefix":"3.5.0.0/16","region":"us-east-1","service":"AMAZON"},
  {"ip_prefix":"3.5.0.0/19","region":"us-east-1","service":"AMAZON"},
  {"ip_prefix":"3.5.0.0/19","region":"us-east-1","service":"S3"}],
  "ipv6_prefixes":[{"ipv6_prefix":"2600:1f00::/24","region":"eu-west-1","service":"EC2"}]}"#;

fn said(ranges: &Ranges, address: &str) -> Vec<String> {
    let tags = ranges.of(address.parse().unwrap());
    tags.into_iter().map(ToString::to_string).collect()
}

#[test]
fn the_narrowest_range_tells() {
    let ranges = Ranges::new(&[(read(AWS).unwrap(), "d".to_owned())]);
    assert_eq!(
        said(&ranges, "3.5.1.1"),
        ["aws:S3:us-east-1", "aws:AMAZON:us-east-1"]
    );
    assert_eq!(said(&ranges, "3.5.255.1"), ["aws:AMAZON:us-east-1"]);
    assert_eq!(said(&ranges, "::ffff:3.5.1.1").len(), 2);
    assert_eq!(said(&ranges, "2600:1fff::1"), ["aws:EC2:eu-west-1"]);
    for other in ["3.4.255.255", "3.6.0.0", "2601::", "::", "255.255.255.255"] {
        assert_eq!(said(&ranges, other), [""; 0], "{other}");
    }
    assert_eq!(Ranges::parse(&ranges.to_text()).unwrap(), ranges);
}

#[test]
fn what_is_no_list_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "10.0.0.0/8\n",
        "{\"prefixes\":[]}",
        "<html>",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    let wrong = AWS.replace("3.5.0.0/16", "3.5.0.0/77");
    assert_eq!(
        read(&wrong),
        Err(ProviderError::Network("3.5.0.0/77".to_owned()))
    );
    for text in [
        "",
        "x\n",
        "egress-tracer/ranges/1\n10.0.0.0/8\t0\n",
        "egress-tracer/ranges/1\nx\n",
    ] {
        assert!(Ranges::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_published_files_are_read_and_looked_up() {
    let Some(samples) = env::var_os("EGRESS_TRACER_SAMPLES") else {
        eprintln!(
            "SKIPPED the_published_files_are_read_and_looked_up: EGRESS_TRACER_SAMPLES is not set"
        );
        return;
    };
    let folder = PathBuf::from(samples).join("ranges");
    let mut lists = Vec::new();
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let list = read(&fs::read_to_string(&path).unwrap());
        lists.push((
            list.unwrap_or_else(|error| panic!("{path:?}: {error}")),
            String::new(),
        ));
    }
    let providers: BTreeSet<&str> = lists.iter().map(|(list, _)| list.provider).collect();
    let expected = [
        "aws",
        "azure",
        "cloudflare",
        "fastly",
        "gcp",
        "github",
        "oracle",
    ];
    assert_eq!(providers, BTreeSet::from(expected));
    let ranges = Ranges::new(&lists);
    assert!(ranges.len() > 50_000, "{}", ranges.len());
    assert_eq!(said(&ranges, "104.16.1.1"), ["cloudflare:CDN"]);
    assert_eq!(said(&ranges, "151.101.1.1"), ["fastly:CDN"]);
    assert_eq!(said(&ranges, "192.0.2.1"), [""; 0]);
    assert_eq!(Ranges::parse(&ranges.to_text()).unwrap(), ranges);
    // Against a plain search, at both ends of every fiftieth range.
    let all: Vec<(IpNet, &Tag)> = lists
        .iter()
        .flat_map(|(list, _)| list.ranges.iter().map(|(network, tag)| (*network, tag)))
        .collect();
    for (network, _) in all.iter().step_by(2000) {
        for address in [network.network(), network.broadcast()] {
            let around = all.iter().filter(|(each, _)| each.contains(&address));
            let longest = around.clone().map(|(each, _)| each.prefix_len()).max();
            let narrowest = around.filter(|(each, _)| Some(each.prefix_len()) == longest);
            let expected: BTreeSet<String> = narrowest.map(|(_, tag)| tag.to_string()).collect();
            let found: BTreeSet<String> = said(&ranges, &address.to_string()).into_iter().collect();
            assert_eq!(found, expected, "{address}");
        }
    }
}
