//! `ranges update`: the clouds' published prefixes, in one compact file.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::{Timestamp, civil::Date};
use sha2::{Digest as _, Sha256};

use super::{policies, policy_file};
use crate::{
    output::{files, terminal},
    policy::{
        document, include,
        model::{Entry, Policy, Status, Target},
        published::Published,
    },
    ranges::{self, Ranges},
    ranges_file::{self, DEFAULT_FILE},
};

const EXAMPLES: &str = "\
Example:
  curl -O https://ip-ranges.amazonaws.com/ip-ranges.json
  curl -O https://www.gstatic.com/ipranges/cloud.json
  egress-tracer ranges update ip-ranges.json cloud.json -o ranges.zst --policy policies/
  egress-tracer policy list policy.toml --ranges ranges.zst";

/// Published cloud prefixes, for labels on a policy's entries and for the ranges in it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub struct RangesArgs {
    #[command(subcommand)]
    verb: RangesVerb,
}

#[derive(Debug, Subcommand)]
enum RangesVerb {
    Update(Update),
}

/// Make one compact file of the providers' files, as they were downloaded
///
/// Knows AWS, Azure, Cloudflare, Fastly, GitHub, Google Cloud and Oracle. Nothing is downloaded. The
/// new file holds what these files say, and nothing of an earlier one. Of the policies that are
/// named, it says which approved ranges change, and which have to be approved again.
#[derive(Debug, Args)]
struct Update {
    /// The providers' files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The compact file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    output: PathBuf,

    /// A policy, or a directory of them, that speaks of published ranges; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,

    /// The time to reckon with, instead of the clock's
    #[arg(long, value_name = "TIME", value_parser = policy_file::moment)]
    now: Option<Timestamp>,
}

pub(super) fn ranges(arguments: &RangesArgs) -> anyhow::Result<()> {
    match &arguments.verb {
        RangesVerb::Update(update) => make(update),
    }
}

fn make(arguments: &Update) -> anyhow::Result<()> {
    let made = read(&arguments.files)?;
    // Policies that make no sense are told before anything is written.
    let policies = approved(&arguments.policy)?;
    let before = match arguments.output.exists() {
        true => ranges_file::load(Some(&arguments.output)).unwrap_or_else(|error| {
            terminal::tell(&format!("note: {error}; it is written anew"));
            Ranges::default()
        }),
        false => Ranges::default(),
    };
    let packed = zstd::encode_all(made.to_text().as_bytes(), 19).context("cannot pack")?;
    files::write(&arguments.output, &packed)?;
    let (path, count) = (arguments.output.display(), made.len());
    terminal::tell(&format!(
        "{path}: {count} network(s), {} bytes",
        packed.len()
    ));
    let today = policy_file::today(arguments.now);
    for (path, policy) in &policies {
        for line in changes(policy, &before, &made, today) {
            terminal::tell(&format!("{}: {line}", path.display()));
        }
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> anyhow::Result<Ranges> {
    let mut lists = Vec::new();
    for path in files {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let list = ranges::read(&text).with_context(|| path.display().to_string())?;
        let (provider, count) = (list.provider, list.ranges.len());
        terminal::tell(&format!("{}: {provider}, {count} range(s)", path.display()));
        let digest = Sha256::digest(text.as_bytes());
        lists.push((
            list,
            digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ));
    }
    Ok(Ranges::new(&lists))
}

/// Each policy with its bases; nothing is looked up yet.
fn approved(places: &[PathBuf]) -> anyhow::Result<Vec<(PathBuf, Policy)>> {
    let mut found = Vec::new();
    for place in places {
        for path in policies::files(place)? {
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
            let policy = document::parse(&text).with_context(|| name.clone())?;
            let bases = policy_file::bases(&path, &policy)?;
            found.push((path, include::joined(&policy, &bases)));
        }
    }
    Ok(found)
}

/// What becomes of each published range that is approved, where it changes or must be approved
/// again. One sentence each.
fn changes(policy: &Policy, before: &Ranges, after: &Ranges, today: Date) -> Vec<String> {
    let approved = policy.entries.iter();
    let approved =
        approved.filter(|entry| entry.status == Status::Approved && !entry.has_expired(today));
    approved
        .filter_map(|entry| change(entry, before, after))
        .collect()
}

fn change(entry: &Entry, before: &Ranges, after: &Ranges) -> Option<String> {
    let Target::Published(range) = &entry.to else {
        return None;
    };
    let looked_up = |ranges: &Ranges| Entry {
        to: Target::Published(Published::looked_up(range.tag.clone(), ranges)),
        ..entry.clone()
    };
    let (old, new) = (looked_up(before), looked_up(after));
    let (was, is): (BTreeSet<IpNet>, BTreeSet<IpNet>) = (
        old.to.networks().into_iter().collect(),
        new.to.networks().into_iter().collect(),
    );
    if was == is && new.is_as_approved() {
        return None;
    }
    let figures = format!(
        "{} opened {} address(es) and opens {} now: {} network(s) more, {} less",
        entry.to,
        old.to.addresses(),
        new.to.addresses(),
        is.difference(&was).count(),
        was.difference(&is).count()
    );
    let most = entry.at_most.unwrap_or(0);
    Some(match (is.is_empty(), new.is_as_approved()) {
        (true, _) => format!("{figures}; no list has it any more: it is not in force"),
        (false, true) => format!("{figures}; at most {most} are approved: it stays in force"),
        (false, false) => format!(
            "{figures}; at most {most} are approved: it is not in force until it is approved again"
        ),
    })
}
