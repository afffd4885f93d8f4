//! The providers' files, as they publish them: AWS `ip-ranges.json`, Google's `cloud.json` and
//! `goog.json`, Azure's `ServiceTags_*.json`, Cloudflare's and other plain lists, Fastly's
//! `public-ip-list`, GitHub's `meta`, Oracle's `public_ip_ranges.json`.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{List, Tag};

/// Why a file is no list that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    #[error(
        "no published list that is known: expected AWS ip-ranges.json, Google cloud.json, Azure \
         ServiceTags, Cloudflare's ips-v4 or ips-v6, Fastly's public-ip-list, GitHub's meta or \
         Oracle's public_ip_ranges.json"
    )]
    Unknown,
    #[error("{0:?} is not a network")]
    Network(String),
    #[error("it has no ranges")]
    Empty,
}

/// What `text` says.
pub fn read(text: &str) -> Result<List, ProviderError> {
    let list = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => json(&object)?,
        Ok(_) => return Err(ProviderError::Unknown),
        Err(_) => plain(text)?,
    };
    if list.ranges.is_empty() {
        return Err(ProviderError::Empty);
    }
    Ok(list)
}

fn json(object: &Map<String, Value>) -> Result<List, ProviderError> {
    let has = |key: &str| object.contains_key(key);
    if has("createDate") && has("prefixes") {
        aws(object)
    } else if has("creationTime") && has("prefixes") {
        google(object)
    } else if has("changeNumber") && has("values") {
        azure(object)
    } else if has("addresses") && has("ipv6_addresses") {
        fastly(object)
    } else if has("hooks") && has("web") && has("git") {
        github(object)
    } else if has("last_updated_timestamp") && has("regions") {
        oracle(object)
    } else {
        Err(ProviderError::Unknown)
    }
}

/// Puts a list together.
struct Builder(List);

impl Builder {
    fn new(provider: &'static str, date: String) -> Self {
        Self(List {
            provider,
            date,
            ranges: BTreeSet::new(),
        })
    }

    fn add(&mut self, network: &str, service: &str, region: &str) -> Result<(), ProviderError> {
        let wrong = || ProviderError::Network(network.to_owned());
        let address = network.parse::<IpAddr>().map(IpNet::from);
        let network: IpNet = address.or_else(|_| network.parse()).map_err(|_| wrong())?;
        let tag = Tag {
            provider: self.0.provider.to_owned(),
            service: word(service),
            region: word(region),
        };
        self.0.ranges.insert((network.trunc(), tag));
        Ok(())
    }
}

/// A provider's word as part of a tag: no separators, nothing invisible.
fn word(text: &str) -> String {
    let fine = |each: char| each.is_ascii_graphic() && each != ':' && each != '"';
    text.chars()
        .map(|each| if fine(each) { each } else { '-' })
        .collect()
}

fn text<'v>(object: &'v Map<String, Value>, key: &str) -> &'v str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The objects in the list `key`.
fn objects<'v>(
    object: &'v Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'v Map<String, Value>> {
    let list = object.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object)
}

fn texts<'v>(object: &'v Map<String, Value>, key: &str) -> impl Iterator<Item = &'v str> {
    let list = object.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

fn aws(object: &Map<String, Value>) -> Result<List, ProviderError> {
    let mut list = Builder::new("aws", text(object, "createDate").to_owned());
    for (key, network) in [("prefixes", "ip_prefix"), ("ipv6_prefixes", "ipv6_prefix")] {
        for each in objects(object, key) {
            list.add(
                text(each, network),
                text(each, "service"),
                text(each, "region"),
            )?;
        }
    }
    Ok(list.0)
}

fn google(object: &Map<String, Value>) -> Result<List, ProviderError> {
    let mut list = Builder::new("gcp", text(object, "creationTime").to_owned());
    for each in objects(object, "prefixes") {
        for key in ["ipv4Prefix", "ipv6Prefix"] {
            if each.contains_key(key) {
                list.add(text(each, key), text(each, "service"), text(each, "scope"))?;
            }
        }
    }
    Ok(list.0)
}

fn azure(object: &Map<String, Value>) -> Result<List, ProviderError> {
    let change = object.get("changeNumber").and_then(Value::as_u64);
    let date = change.map_or_else(String::new, |number| format!("change {number}"));
    let mut list = Builder::new("azure", date);
    for each in objects(object, "values") {
        let Some(properties) = each.get("properties").and_then(Value::as_object) else {
            continue;
        };
        let (service, region) = (
            text(properties, "systemService"),
            text(properties, "region"),
        );
        let service = if service.is_empty() {
            text(each, "name").split('.').next().unwrap_or_default()
        } else {
            service
        };
        for network in texts(properties, "addressPrefixes") {
            list.add(network, service, region)?;
        }
    }
    Ok(list.0)
}

fn fastly(object: &Map<String, Value>) -> Result<List, ProviderError> {
    let mut list = Builder::new("fastly", String::new());
    for network in texts(object, "addresses").chain(texts(object, "ipv6_addresses")) {
        list.add(network, "CDN", "")?;
    }
    Ok(list.0)
}

/// Every list of networks in it is a service; keys and domains are lists of something else.
fn github(object: &Map<String, Value>) -> Result<List, ProviderError> {
    let mut list = Builder::new("github", String::new());
    for (service, value) in object {
        let is_networks = value.as_array().is_some_and(|all| {
            all.iter().all(|each| {
                each.as_str()
                    .is_some_and(|text| text.parse::<IpNet>().is_ok())
            })
        });
        if is_networks {
            for network in texts(object, service) {
                list.add(network, service, "")?;
            }
        }
    }
    Ok(list.0)
}

fn oracle(object: &Map<String, Value>) -> Result<List, ProviderError> {
    let mut list = Builder::new("oracle", text(object, "last_updated_timestamp").to_owned());
    for region in objects(object, "regions") {
        for each in objects(region, "cidrs") {
            let tags = texts(each, "tags").last().unwrap_or_default();
            list.add(text(each, "cidr"), tags, text(region, "region"))?;
        }
    }
    Ok(list.0)
}

/// Cloudflare publishes lines of networks, without a word about whose they are: a list of them is
/// known by a network that has been Cloudflare's for as long as there is a list.
fn plain(text: &str) -> Result<List, ProviderError> {
    const KNOWN: [&str; 2] = ["173.245.48.0/20", "2400:cb00::/32"];
    if !text.lines().any(|line| KNOWN.contains(&line.trim())) {
        return Err(ProviderError::Unknown);
    }
    let mut list = Builder::new("cloudflare", String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        list.add(line, "CDN", "")?;
    }
    Ok(list.0)
}
