//! Lists in force that other tools keep, read as a policy, so that drift from them can be told: all
//! that they let pass is approved, for ever. Pure.
//!
//! What a list says in terms that are not understood here opens nothing, and is noted: drift is told
//! where there may be none, never the other way round.
//!
//! | file | reads |
//! |---|---|
//! | `nftables` | `nft -j list ruleset` |
//! | `iptables` | `iptables-save`, `ip6tables-save` |
//! | `ipset` | `ipset save`, alone or before rules that look into the sets |
//! | `calico` | Calico's NetworkPolicy and GlobalNetworkPolicy |
//! | `dnsmasq` | `nftset=` and `ipset=` lines |
//! | `rendered` | our own JSON, and rules.nft as a file |
//! | `kubernetes` | NetworkPolicy and CiliumNetworkPolicy, as YAML or JSON |
//! | `proxies` | Squid's access lists, Harden-Runner, the sandbox runtime, lists of names |
//! | `list` | what the others put together |

mod calico;
mod dnsmasq;
mod ipset;
mod iptables;
mod kubernetes;
mod list;
mod nftables;
mod proxies;
mod rendered;

#[cfg(test)]
mod tests;

use serde_json::Value;

use self::list::List;
use crate::policy::model::Policy;

/// A list, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Whose form it has.
    pub form: &'static str,
    pub policy: Policy,
    /// What was not understood, and therefore opens nothing. Texts come from the list: escape them.
    pub notes: Vec<String>,
}

/// Why a text is no list that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    #[error(
        "no list that is known: expected a policy (*.toml), `nft -j list ruleset`, iptables-save, a \
         NetworkPolicy (also Calico's), a CiliumNetworkPolicy, `ipset save`, dnsmasq's sets, \
         Squid's access lists, a workflow with Harden-Runner, what `render` writes, or names, \
         one a line"
    )]
    Unknown,
    #[error("it lets nothing pass that can be compared with flows{}", because(.0))]
    Empty(Vec<String>),
}

fn because(notes: &[String]) -> String {
    match notes.first() {
        Some(note) => format!(": {note}"),
        None => String::new(),
    }
}

/// Reads `text` as the list in force for `workload`.
///
/// # Errors
/// It is none, or opens nothing.
pub fn read(text: &str, workload: &str) -> Result<Foreign, ForeignError> {
    let mut list = List::default();
    let form = fill(text, &mut list).ok_or(ForeignError::Unknown)?;
    let (entries, notes) = list.finish(form);
    if entries.is_empty() {
        return Err(ForeignError::Empty(notes));
    }
    Ok(Foreign {
        form,
        policy: Policy {
            workload: workload.to_owned(),
            include: Vec::new(),
            entries,
        },
        notes,
    })
}

/// Recognises the form and reads it; its name.
fn fill(text: &str, list: &mut List) -> Option<&'static str> {
    if iptables::is(text) {
        iptables::read(text, list);
        return Some("iptables-save");
    }
    if rendered::is_nft(text) {
        rendered::nft(text, list);
        return Some("rules.nft");
    }
    if ipset::is(text) {
        ipset::read(text, list);
        return Some("ipset save");
    }
    if dnsmasq::is(text) {
        dnsmasq::read(text, list);
        return Some("dnsmasq");
    }
    if proxies::is_squid(text) {
        proxies::squid(text, list);
        return Some("Squid");
    }
    if proxies::is_names(text) {
        proxies::names(text, list);
        return Some("a list of names");
    }
    documents(text, list)
}

/// JSON is YAML as well.
fn documents(text: &str, list: &mut List) -> Option<&'static str> {
    let documents: Vec<Value> = match serde_json::from_str(text) {
        Ok(value) => vec![value],
        Err(_) => serde_saphyr::from_multiple(text).ok()?,
    };
    let mut form = None;
    for document in &documents {
        form = form.or(one(document, list));
    }
    form
}

fn one(document: &Value, list: &mut List) -> Option<&'static str> {
    if let Some(ruleset) = document.get("nftables").and_then(Value::as_array) {
        nftables::read(ruleset, list);
        return Some("nft -j list ruleset");
    }
    if document
        .get("schema")
        .is_some_and(|schema| schema == rendered::JSON)
    {
        rendered::json(document, list);
        return Some("egress-tracer's own JSON");
    }
    if calico::is(document) {
        calico::read(document, list);
        return Some("Calico");
    }
    if document.pointer("/network/allowedDomains").is_some() {
        proxies::sandbox_runtime(document, list);
        return Some("the sandbox runtime's settings");
    }
    match document.get("kind").and_then(Value::as_str) {
        Some("NetworkPolicy") => {
            kubernetes::network_policy(document, list);
            return Some("NetworkPolicy");
        }
        Some("CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy") => {
            kubernetes::cilium(document, list);
            return Some("CiliumNetworkPolicy");
        }
        Some(_) | None => {}
    }
    proxies::harden_runner(document, list).then_some("Harden-Runner")
}
