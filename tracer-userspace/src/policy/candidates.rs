//! The candidate files of one workload, from observations to text: the one function that the
//! daemon and `generate` share.

use crate::{
    policy::{
        document::{self, DocumentError},
        evidence::EvidenceError,
        infer,
        observe::Observations,
        rules::{self, Rules},
    },
    render::{Format, Options, Rendered, Scope, Verdict},
};

/// The texts of the candidate files.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

impl CandidateFiles {
    /// Each file's name and text.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &str); 5] {
        [
            ("policy.toml", &self.policy),
            ("policy.evidence.json", &self.evidence),
            ("rules.nft", &self.nftables),
            ("rules.v4", &self.iptables),
            ("rules.v6", &self.ip6tables),
        ]
    }
}

/// How rules are to be rendered, where the caller does not leave it to the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleChoices {
    pub table: Option<String>,
    pub chain: Option<String>,
    pub scope: Scope,
    pub verdict: Verdict,
}

impl Default for RuleChoices {
    /// Unreviewed rules only count and log.
    fn default() -> Self {
        Self {
            table: None,
            chain: None,
            scope: Scope::Namespace,
            verdict: Verdict::Log,
        }
    }
}

impl RuleChoices {
    fn options(&self, format: Format) -> Options {
        let mut options = format.default_options();
        options.scope = self.scope.clone();
        options.verdict = self.verdict;
        if let Some(table) = &self.table {
            options.table.clone_from(table);
        }
        if let Some(chain) = &self.chain {
            options.chain.clone_from(chain);
        }
        options
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

/// The candidate files, with the default choices for rules. `existing` is the policy that is there
/// already: it is merged into.
pub fn candidates(
    observations: &Observations,
    existing: Option<&str>,
) -> Result<CandidateFiles, CandidateError> {
    candidates_with(observations, existing, &RuleChoices::default())
}

/// The candidate files, with rules rendered as chosen.
pub fn candidates_with(
    observations: &Observations,
    existing: Option<&str>,
    choices: &RuleChoices,
) -> Result<CandidateFiles, CandidateError> {
    let evidence = infer::evidence(observations);
    let policy = policy_text(observations, existing)?;
    let rules = rules::unreviewed(&document::parse(&policy)?, &evidence);
    let mut omitted = rules.omitted.clone();
    let mut text = |format| {
        let rendered = render(&rules, format, choices);
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
    })
}

/// The rules alone, in one format. Nothing is reviewed yet, so nothing can be denied either.
pub fn candidate_rules(
    observations: &Observations,
    format: Format,
    choices: &RuleChoices,
) -> Result<Rendered, CandidateError> {
    let policy = document::parse(&policy_text(observations, None)?)?;
    let rules = rules::unreviewed(&policy, &infer::evidence(observations));
    Ok(render(&rules, format, choices))
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

fn render(rules: &Rules, format: Format, choices: &RuleChoices) -> Rendered {
    format.render(&rules.set, &choices.options(format))
}
