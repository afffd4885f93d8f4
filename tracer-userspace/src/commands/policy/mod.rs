//! `policy`: a person's decisions, and looking at them.

mod add;
mod decide;
mod expand;
mod list;
mod page;
mod review;
mod signature;
mod table;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::{Timestamp, civil::Date};

use super::{Failure, findings_file, policy_file};
use crate::{
    analysis::{
        risk::{Limits, Subject, own::Own},
        summary::Summary,
    },
    policy::{
        decision::{self, DEFAULT_EXPIRY_DAYS, DEFAULT_MAX_EXPIRY_DAYS, Decision, Ruling},
        model::{Entry, Target},
    },
    ranges::Ranges,
    ranges_file,
};

const EXAMPLES: &str = "\
Examples:
  # What waits for a decision
  egress-tracer policy list policy.toml --status candidate

  # Walk the candidates, worst first
  egress-tracer policy review policy.toml --owner platform-security

  # Decide from a script
  egress-tracer policy approve policy.toml 192.0.2.10 --reason 'the model provider' \\
    --owner platform-security
  egress-tracer policy deny policy.toml 169.254.169.254 --reason 'no cloud credentials' --owner me

  # Do the logs still prove it, and did somebody sign it who may?
  egress-tracer policy verify policy.toml logs/ --signers signers

Exit codes: 0 done; 1 not proven, or not signed (verify); 2 bad usage or input, a decision that does not count, or a file that somebody
else changed meanwhile.";

/// The tags of a destination: of an address, or of a network's first one.
fn tags(ranges: &Ranges, to: &Target) -> Vec<String> {
    if let Target::Published(range) = to {
        return vec![range.tag.to_string()];
    }
    let first = to.networks().into_iter().next();
    let tags = first.map_or_else(Vec::new, |network| ranges.of(network.network()));
    tags.into_iter().map(ToString::to_string).collect()
}

/// Decisions about a policy's entries, and looking at them.
///
/// Comments, order and everything that is not decided stay as they are. If somebody else changes
/// the file meanwhile, nothing is written.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub struct PolicyArgs {
    #[command(subcommand)]
    verb: PolicyVerb,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    Approve(decide::Approve),
    Deny(decide::Deny),
    Add(add::Add),
    List(list::List),
    Review(review::Review),
    Sign(signature::Sign),
    Verify(verify::Verify),
}

/// What every verb of `policy` takes, so that `[policy]` in the settings file can set it.
#[derive(Debug, Args)]
struct Common {
    /// The longest that an approval may hold, in days
    #[arg(long, global = true, value_name = "DAYS", value_parser = days, default_value_t = Days(DEFAULT_MAX_EXPIRY_DAYS))]
    max_expiry: Days,

    /// Addresses (of IPv6, /64 networks) that one entry may open without --acknowledge broad
    #[arg(long, global = true, value_name = "N", default_value_t = Limits::default().max_addresses)]
    max_addresses: u64,

    /// The file of `ranges update`, for the cloud networks that addresses are in
    #[arg(long, global = true, value_name = "FILE")]
    ranges: Option<PathBuf>,

    /// A file of findings of one's own, and of exceptions
    #[arg(long, global = true, value_name = "FILE")]
    findings: Option<PathBuf>,

    /// The time to reckon with, instead of the clock's
    #[arg(long, global = true, value_name = "TIME", value_parser = policy_file::moment)]
    now: Option<Timestamp>,
}

impl Common {
    fn today(&self) -> Date {
        policy_file::today(self.now)
    }

    /// The published cloud ranges, as far as there are any.
    fn load_ranges(&self) -> anyhow::Result<Ranges> {
        Ok(ranges_file::load(self.ranges.as_deref())?)
    }

    /// What findings are looked for with.
    fn load_judging(&self) -> anyhow::Result<Judging> {
        Ok(Judging {
            own: findings_file::load(self.findings.as_deref(), self.today())?,
            ranges: self.load_ranges()?,
            limits: Limits {
                max_addresses: self.max_addresses,
            },
        })
    }
}

/// What findings are looked for with.
struct Judging {
    own: Own,
    ranges: Ranges,
    limits: Limits,
}

impl Judging {
    fn subject<'a>(&'a self, entry: &'a Entry, seen: Option<&'a Summary>) -> Subject<'a> {
        Subject {
            entry,
            seen,
            limits: self.limits,
            own: &self.own,
            ranges: Some(&self.ranges),
        }
    }
}

/// What a decision says.
#[derive(Debug, Args)]
struct Words {
    /// Why, in more than a word
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// Who answers for it
    #[arg(long, value_name = "WHO")]
    owner: String,

    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
struct More {
    /// The last day on which it holds (UTC), or in how many days: 2027-02-20, 90d [an approval
    /// without it: 90d]
    #[arg(long, value_name = "DATE|DAYS", value_parser = end)]
    expires: Option<End>,

    /// The vendor's documentation, a ticket
    #[arg(long, value_name = "URL")]
    reference: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    On(Date),
    In(Days),
}

#[derive(Clone, Copy, Debug)]
struct Days(u16);

impl std::fmt::Display for Days {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}d", self.0)
    }
}

fn days(text: &str) -> Result<Days, String> {
    let number = text.strip_suffix('d').unwrap_or(text);
    number
        .parse()
        .map(Days)
        .map_err(|_| "expected a number of days such as 90d".to_owned())
}

fn end(text: &str) -> Result<End, String> {
    if text.ends_with('d') {
        return days(text).map(End::In);
    }
    text.parse()
        .map(End::On)
        .map_err(|_| "expected a day such as 2027-02-20, or 90d".to_owned())
}

impl End {
    fn day(self, today: Date) -> Date {
        match self {
            Self::On(day) => day,
            Self::In(Days(days)) => decision::days_after(today, days),
        }
    }
}

impl Words {
    fn decision(&self, ruling: Ruling, acknowledged: &[String], today: Date) -> Decision {
        Decision {
            ruling,
            reason: self.reason.clone(),
            owner: self.owner.clone(),
            on: today,
            expires: self.more.last_day(ruling, today),
            reference: self.more.reference.clone(),
            acknowledged: acknowledged.to_vec(),
        }
    }
}

impl More {
    fn last_day(&self, ruling: Ruling, today: Date) -> Option<Date> {
        match (self.expires, ruling) {
            (Some(end), _) => Some(end.day(today)),
            (None, Ruling::Approve) => Some(decision::days_after(today, DEFAULT_EXPIRY_DAYS)),
            (None, Ruling::Deny) => None,
        }
    }
}

pub(super) fn policy(arguments: &PolicyArgs) -> Result<(), Failure> {
    let common = &arguments.common;
    match &arguments.verb {
        PolicyVerb::Approve(approve) => decide::approve(approve, common)?,
        PolicyVerb::Deny(deny) => decide::deny(deny, common)?,
        PolicyVerb::Add(add) => add::add(add, common)?,
        PolicyVerb::List(list) => list::list(list, common)?,
        PolicyVerb::Review(review) => review::review(review, common)?,
        PolicyVerb::Sign(sign) => signature::sign(sign)?,
        PolicyVerb::Verify(verify) => verify::verify(verify, common)?,
    }
    Ok(())
}
