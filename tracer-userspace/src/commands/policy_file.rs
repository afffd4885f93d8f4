//! A policy on disk, with the bases it includes and the evidence beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{
    output::{original::Original, terminal},
    policy::{
        document,
        evidence::Evidence,
        include::{self, MAX_DEPTH},
        model::{Entry, Policy, Status, Target},
        published,
    },
    ranges_file,
};

/// A policy and what stands around it.
#[derive(Debug)]
pub(super) struct PolicyFile {
    pub(super) path: PathBuf,
    pub(super) original: Original,
    pub(super) text: String,
    /// As the file says, without its bases.
    pub(super) policy: Policy,
    pub(super) bases: Vec<Policy>,
    /// Absent where nobody has observed anything yet.
    pub(super) evidence: Option<Evidence>,
}

impl PolicyFile {
    /// Published ranges are looked up in the file `ranges`, or in that of the usual place.
    pub(super) fn read(path: &Path, ranges: Option<&Path>) -> anyhow::Result<Self> {
        let original = Original::read(path)?;
        let Some(text) = original.text() else {
            bail!("{} is not there", path.display());
        };
        let text = text.to_owned();
        let mut policy = document::parse(&text).with_context(|| path.display().to_string())?;
        let mut bases = bases(path, &policy)?;
        let all = || std::iter::once(&policy).chain(&bases);
        let ranges = ranges_file::load_for(all(), ranges)?;
        policy.look_up(&ranges);
        bases.iter_mut().for_each(|base| base.look_up(&ranges));
        let evidence = evidence(path)?;
        Ok(Self {
            path: path.to_owned(),
            original,
            text,
            policy,
            bases,
            evidence,
        })
    }

    /// Tells what is to be known about the published ranges that somebody has decided on.
    pub(super) fn tell_ranges(&self, today: Date) {
        for note in published::notes(&self.joined(), today) {
            terminal::tell(&format!("note: {note}"));
        }
    }

    /// A denial that nobody can look up would be a hole in the rules.
    pub(super) fn refuse_unknown_denials(&self) -> anyhow::Result<()> {
        let is_unknown = |entry: &&Entry| {
            let is_empty =
                matches!(&entry.to, Target::Published(range) if range.networks().is_empty());
            is_empty && entry.status == Status::Denied
        };
        match self.joined().entries.iter().find(is_unknown) {
            Some(entry) => bail!(
                "{} is denied, and no ranges file says what that is (--ranges names the file of \
                 `ranges update`)",
                entry.to
            ),
            None => Ok(()),
        }
    }

    /// The policy with its bases.
    pub(super) fn joined(&self) -> Policy {
        include::joined(&self.policy, &self.bases)
    }
}

/// Where the evidence of the policy at `path` lies.
pub(super) fn evidence_path(path: &Path) -> PathBuf {
    path.with_extension("evidence.json")
}

/// The evidence beside the policy at `path`, if there is any.
pub(super) fn evidence(path: &Path) -> anyhow::Result<Option<Evidence>> {
    let path = evidence_path(path);
    match fs::read_to_string(&path) {
        Ok(text) => Evidence::parse(&text)
            .map(Some)
            .with_context(|| path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(format!("cannot read {}", path.display())),
    }
}

/// Every base that the policy at `path` includes, and theirs, each once.
pub(super) fn bases(path: &Path, policy: &Policy) -> anyhow::Result<Vec<Policy>> {
    let mut found = Bases::default();
    found.follow(path, policy)?;
    Ok(found.policies)
}

#[derive(Default)]
struct Bases {
    policies: Vec<Policy>,
    taken: Vec<PathBuf>,
    /// The files that lead to the one being read.
    way: Vec<PathBuf>,
}

impl Bases {
    fn follow(&mut self, path: &Path, policy: &Policy) -> anyhow::Result<()> {
        if policy.include.is_empty() {
            return Ok(());
        }
        let here = real(path)?;
        if self.way.contains(&here) {
            bail!(
                "{} includes itself, directly or through another",
                path.display()
            );
        }
        if self.way.len() >= MAX_DEPTH {
            bail!(
                "{}: bases include bases more than {MAX_DEPTH} deep",
                path.display()
            );
        }
        self.way.push(here);
        for name in &policy.include {
            self.include(path, name)
                .with_context(|| format!("{}: include {name:?}", path.display()))?;
        }
        self.way.pop();
        Ok(())
    }

    fn include(&mut self, from: &Path, name: &str) -> anyhow::Result<()> {
        if Path::new(name).is_absolute() {
            bail!("a base is a path relative to the file that includes it");
        }
        let path = from.parent().unwrap_or(Path::new("")).join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let base = document::parse(&text).with_context(|| path.display().to_string())?;
        self.follow(&path, &base)?;
        let place = real(&path)?;
        if !self.taken.contains(&place) {
            self.taken.push(place);
            self.policies.push(base);
        }
        Ok(())
    }
}

fn real(path: &Path) -> anyhow::Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The day of `now`, or of the machine's clock, in UTC.
pub(super) fn today(now: Option<Timestamp>) -> Date {
    let now = now.unwrap_or_else(Timestamp::now);
    now.to_zoned(TimeZone::UTC).date()
}

/// `--now`: a moment such as `2026-11-22T10:00:00Z`, or a day, which means its beginning in UTC.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let day = |text: &str| text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| day(text).map(|zoned| zoned.timestamp()))
        .ok_or_else(|| "expected a day, or a time such as 2026-11-22T10:00:00Z".to_owned())
}
