//! The candidate files of one workload, from observations to text: the one function that the
//! daemon and `generate` share.

use crate::{
    policy::{
        aggregate::{self, Aggregate, Breadth},
        decided::Decided,
        document::{self, DocumentError},
        evidence::{Evidence, EvidenceError},
        include,
        infer::{self, By},
        lacking,
        model::{Entry, Policy, Status},
        observe::Observations,
        published::{self, Published},
        rules::{self, Rules, SeenAt},
        selector, stale,
    },
    ranges::Ranges,
    render::{Format, Naming, Options, Rendered, RuleSet, Verdict},
};

/// The texts of the candidate files.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateFiles {
    /// `policy.toml`
    pub policy: String,
    /// `policy.evidence.json`
    pub evidence: String,
    /// `rules.nft`
    pub nftables: String,
    /// `rules.v4`
    pub iptables: String,
    /// `rules.v6`
    pub ip6tables: String,
    /// What the rules leave out. Texts come from the workload: escape them before printing.
    pub omitted: Vec<String>,
    /// How wide the rules are.
    pub breadth: Breadth,
    /// Entries that were not observed, one sentence each. Texts come from the policy.
    pub stale: Vec<String>,
}

/// How candidate rules are made.
#[derive(Clone, Debug)]
pub struct Making {
    pub options: Options,
    /// In the order in which they are done.
    pub aggregate: Vec<Aggregate>,
    /// What candidates are about.
    pub by: By,
    /// What published ranges stand for.
    pub ranges: Ranges,
    /// Ranges to propose in place of the addresses in them.
    pub expand: Vec<Published>,
}

/// The policy that is there already, and what stands around it.
#[derive(Clone, Copy, Debug)]
pub struct Existing<'a> {
    pub text: &'a str,
    /// The reviewed bases that it includes.
    pub bases: &'a [Policy],
    /// The evidence that stands beside it.
    pub earlier: Option<&'a Evidence>,
    /// Take candidates out that were not observed.
    pub prune: bool,
}

impl<'a> Existing<'a> {
    /// A policy that is merged into, and nothing else.
    #[must_use]
    pub fn alone(text: &'a str) -> Self {
        Self {
            text,
            bases: &[],
            earlier: None,
            prune: false,
        }
    }
}

impl CandidateFiles {
    /// The names of the files.
    pub const NAMES: [&str; 5] = [
        "policy.toml",
        "policy.evidence.json",
        "rules.nft",
        "rules.v4",
        "rules.v6",
    ];

    /// Each file's name and text.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &str); 5] {
        let [policy, evidence, nftables, iptables, ip6tables] = Self::NAMES;
        [
            (policy, &self.policy),
            (evidence, &self.evidence),
            (nftables, &self.nftables),
            (iptables, &self.iptables),
            (ip6tables, &self.ip6tables),
        ]
    }
}

/// Why there are no candidate files.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    #[error(transparent)]
    Policy(#[from] DocumentError),
    #[error("it is the policy of workload {theirs:?}, not of {ours:?}; choose another file")]
    OtherWorkload { theirs: String, ours: String },
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

/// The candidate files, `existing` is the policy that is there already: it is merged into. The
/// rules are a dry run: nobody has reviewed them. `ranges` says what published ranges stand for.
pub fn candidates(
    observations: &Observations,
    existing: Option<&str>,
    ranges: &Ranges,
) -> Result<CandidateFiles, CandidateError> {
    let making = Making {
        options: Options::new(Verdict::Log),
        aggregate: Vec::new(),
        by: By::default(),
        ranges: ranges.clone(),
        expand: Vec::new(),
    };
    candidates_with(observations, existing.map(Existing::alone), &making)
}

/// The candidate files, with rules made as asked for.
pub fn candidates_with(
    observations: &Observations,
    existing: Option<Existing<'_>>,
    making: &Making,
) -> Result<CandidateFiles, CandidateError> {
    let mut evidence = infer::evidence(observations);
    let text = policy_text(observations, existing, making)?;
    let parsed = parse(&text, making)?;
    if let Some(earlier) = existing.and_then(|existing| existing.earlier) {
        evidence.vanished = stale::vanished(&parsed, earlier, &evidence);
    }
    let (policy, stale) = settle(text, &parsed, &evidence, existing, making.by)?;
    let bases = existing.map_or(&[][..], |existing| existing.bases);
    let all = include::joined(&parse(&policy, making)?, bases);
    let seen_at = SeenAt::from(&making.options.scope);
    let named = rules::unreviewed(&all, &evidence, seen_at);
    let by_address = rules::as_seen(named.clone(), &evidence);
    let (named, by_address) = (made(named, making), made(by_address, making));
    let breadth = by_address.1;
    let mut omitted = Vec::new();
    let mut text = |format: Format| {
        let (rules, _) = match format.naming(&making.options) {
            Naming::Addresses => &by_address,
            Naming::Resolved | Naming::Asked => &named,
        };
        let rendered = format.backend().render(rules, &making.options);
        let new = |omission: &String| !omitted.contains(omission);
        let omissions: Vec<String> = rendered.omissions.into_iter().filter(new).collect();
        omitted.extend(omissions);
        rendered.text
    };
    Ok(CandidateFiles {
        evidence: evidence.to_text()?,
        nftables: text(Format::Nftables),
        iptables: text(Format::Iptables),
        ip6tables: text(Format::Ip6tables),
        policy,
        omitted,
        breadth,
        stale,
    })
}

/// The policy without what is to be pruned, and what has become of each entry that was not seen.
fn settle(
    text: String,
    policy: &Policy,
    evidence: &Evidence,
    existing: Option<Existing<'_>>,
    by: By,
) -> Result<(String, Vec<String>), DocumentError> {
    let Some(existing) = existing else {
        return Ok((text, Vec::new()));
    };
    let unseen = stale::stale(policy, evidence, by);
    let told = unseen
        .iter()
        .map(|entry| {
            let name = selector::name_of(policy, entry.index);
            let (status, pruned) = match entry.status {
                Status::Candidate if existing.prune => ("candidate", ", pruned"),
                Status::Candidate => ("candidate", ""),
                Status::Approved | Status::Denied => (entry.status.word(), ""),
            };
            match entry.last_seen {
                Some(time) => format!("{name} ({status}) not seen, last seen {time:.0}{pruned}"),
                None => format!("{name} ({status}) not seen{pruned}"),
            }
        })
        .collect();
    if !existing.prune {
        return Ok((text, told));
    }
    let gone = unseen
        .iter()
        .filter(|entry| entry.status == Status::Candidate)
        .map(|entry| entry.index)
        .collect();
    Ok((document::remove(&text, &gone)?, told))
}

/// The rules alone, in one format. Nothing is reviewed yet, so nothing can be denied either.
pub fn candidate_rules(
    observations: &Observations,
    format: Format,
    making: &Making,
) -> Result<(Rendered, Breadth), CandidateError> {
    // Ranges are resolved as the text is read.
    let policy = match making.expand.is_empty() {
        true => fresh_policy(observations, making.by),
        false => parse(&policy_text(observations, None, making)?, making)?,
    };
    let seen_at = SeenAt::of(format, &making.options.scope);
    let evidence = infer::evidence(observations);
    let rules = rules::unreviewed(&policy, &evidence, seen_at);
    let rules = match format.naming(&making.options) {
        Naming::Addresses => rules::as_seen(rules, &evidence),
        Naming::Resolved | Naming::Asked => rules,
    };
    let (rules, breadth) = made(rules, making);
    Ok((format.backend().render(&rules, &making.options), breadth))
}

/// What `policy.toml` would say, without having written and read it.
pub(in crate::policy) fn fresh_policy(observations: &Observations, by: By) -> Policy {
    let found = infer::entries(observations, by, &Decided::default());
    let entries = found.into_iter();
    Policy {
        workload: observations.workload().to_owned(),
        include: Vec::new(),
        entries: entries
            .filter_map(|entry| document::rest(&entry, &[]))
            // Who went there narrows an entry only beside one that is decided.
            .map(|entry| Entry {
                processes: None,
                ..entry
            })
            .collect(),
    }
}

/// The policy: a fresh one, or the existing one with what is new.
fn policy_text(
    observations: &Observations,
    existing: Option<Existing<'_>>,
    making: &Making,
) -> Result<String, CandidateError> {
    let bases = existing.map_or(&[][..], |existing| existing.bases);
    let based: Vec<_> = bases.iter().flat_map(|base| base.entries.clone()).collect();
    let own = existing.map(|existing| parse(existing.text, making));
    let own = own.transpose()?.map_or(Vec::new(), |policy| policy.entries);
    let decided = Decided::of(own.iter().chain(&based));
    let found = infer::entries(observations, making.by, &decided);
    let found = published::expand(include::without_decided(found, &based), &making.expand);
    let ours = observations.workload();
    let text = match existing {
        None => document::fresh(ours, &found)?,
        Some(Existing { text: existing, .. }) => {
            let theirs = document::parse(existing)?.workload;
            if theirs != ours {
                return Err(CandidateError::OtherWorkload {
                    theirs,
                    ours: ours.to_owned(),
                });
            }
            document::merge(existing, &found, &making.ranges)?
        }
    };
    Ok(document::marked(
        &text,
        !observations.incomplete().is_empty(),
        lacking::names(observations.missing_hooks()).as_deref(),
    ))
}

/// A policy that knows what its published ranges stand for.
fn parse(text: &str, making: &Making) -> Result<Policy, DocumentError> {
    let mut policy = document::parse(text)?;
    policy.look_up(&making.ranges);
    Ok(policy)
}

/// Merged as asked for, with the breadth of each rule in its comment.
fn made(rules: Rules, making: &Making) -> (RuleSet, Breadth) {
    let mut set = aggregate::aggregate(rules.set, &making.aggregate);
    let breadth = aggregate::tell_breadth(&mut set);
    (set, breadth)
}
