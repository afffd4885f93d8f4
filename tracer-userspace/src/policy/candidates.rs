//! The candidate files of one workload, from observations to text: the one function that the
//! daemon and `generate` share.

use crate::{
    policy::{
        aggregate::{self, Aggregate, Breadth},
        document::{self, DocumentError},
        evidence::EvidenceError,
        infer,
        observe::Observations,
        rules::{self, Rules, SeenAt},
    },
    render::{Format, Options, Rendered, RuleSet, Verdict},
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
}

/// How candidate rules are made.
#[derive(Clone, Debug)]
pub struct Making {
    pub options: Options,
    /// In the order in which they are done.
    pub aggregate: Vec<Aggregate>,
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
/// rules are a dry run: nobody has reviewed them.
pub fn candidates(
    observations: &Observations,
    existing: Option<&str>,
) -> Result<CandidateFiles, CandidateError> {
    let making = Making {
        options: Options::new(Verdict::Log),
        aggregate: Vec::new(),
    };
    candidates_with(observations, existing, &making)
}

/// The candidate files, with rules made as asked for.
pub fn candidates_with(
    observations: &Observations,
    existing: Option<&str>,
    making: &Making,
) -> Result<CandidateFiles, CandidateError> {
    let evidence = infer::evidence(observations);
    let policy = policy_text(observations, existing)?;
    let seen_at = SeenAt::from(&making.options.scope);
    let rules = rules::unreviewed(&document::parse(&policy)?, &evidence, seen_at);
    let (rules, breadth) = made(rules, making);
    let mut omitted = Vec::new();
    let mut text = |format: Format| {
        let rendered = format.backend().render(&rules, &making.options);
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
    })
}

/// The rules alone, in one format. Nothing is reviewed yet, so nothing can be denied either.
pub fn candidate_rules(
    observations: &Observations,
    format: Format,
    making: &Making,
) -> Result<(Rendered, Breadth), CandidateError> {
    let policy = document::parse(&policy_text(observations, None)?)?;
    let seen_at = SeenAt::from(&making.options.scope);
    let rules = rules::unreviewed(&policy, &infer::evidence(observations), seen_at);
    let (rules, breadth) = made(rules, making);
    Ok((format.backend().render(&rules, &making.options), breadth))
}

/// The policy: a fresh one, or the existing one with what is new.
fn policy_text(
    observations: &Observations,
    existing: Option<&str>,
) -> Result<String, CandidateError> {
    let found = infer::entries(observations);
    let ours = observations.workload();
    let text = match existing {
        None => document::fresh(ours, &found)?,
        Some(existing) => {
            let theirs = document::parse(existing)?.workload;
            if theirs != ours {
                return Err(CandidateError::OtherWorkload {
                    theirs,
                    ours: ours.to_owned(),
                });
            }
            document::merge(existing, &found)?
        }
    };
    Ok(document::marked(
        &text,
        !observations.incomplete().is_empty(),
    ))
}

/// Merged as asked for, with the breadth of each rule in its comment.
fn made(rules: Rules, making: &Making) -> (RuleSet, Breadth) {
    let mut set = aggregate::aggregate(rules.set, &making.aggregate);
    let breadth = aggregate::tell_breadth(&mut set);
    (set, breadth)
}
