//! `policy review`: the candidates one by one, worst first, a line at a time. It works over any
//! terminal, and from a pipe.

use std::{
    cmp::Reverse,
    io::{self, BufRead as _, Read as _, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;
use jiff::civil::Date;

use super::{Common, Judging, decide, page};
use crate::{
    analysis::{
        risk::{self, Finding, Subject},
        summary::{Summaries, Summary},
    },
    commands::policy_file::PolicyFile,
    output::{original::Original, terminal},
    policy::{
        decision::{DEFAULT_EXPIRY_DAYS, Decision, Ruling, days_after},
        document,
        model::Status,
        selector,
    },
};

/// The longest answer that is read.
const MAX_ANSWER: u64 = 4096;

/// Walk the candidates one by one, worst first, and decide
///
/// Each decision is saved at once; u takes the last one back. Nothing is decided by skipping.
#[derive(Debug, Args)]
pub(super) struct Review {
    /// The policy
    policy: PathBuf,

    /// Who answers for what is decided, unless another is named
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
}

pub(super) fn review(arguments: &Review, common: &Common) -> anyhow::Result<()> {
    let file = PolicyFile::read(&arguments.policy, common.ranges.as_deref())?;
    let judging = common.load_judging()?;
    let mut session = Session {
        queue: queue(&file, &judging),
        file,
        owner: arguments.owner.clone().unwrap_or_default(),
        undo: Vec::new(),
        judging,
        common,
    };
    session.walk()?;
    let open = session.open();
    say(&format!(
        "{} decision(s) saved, {open} candidate(s) left.\n",
        session.undo.len()
    ))?;
    Ok(())
}

/// The candidates' numbers, worst first; among equals, the file's order.
fn queue(file: &PolicyFile, judging: &Judging) -> Vec<usize> {
    let summaries = file.evidence.as_ref().map(Summaries::new);
    let entries = file.policy.entries.iter().enumerate();
    let mut queue: Vec<_> = entries
        .filter(|(_, entry)| entry.status == Status::Candidate)
        .map(|(index, entry)| {
            let seen = summaries.as_ref().and_then(|all| all.of(entry));
            let found = risk::findings(&judging.subject(entry, seen.as_ref()));
            let severities: Vec<_> = found.iter().map(|rule| rule.severity).collect();
            (Reverse(severities), index)
        })
        .collect();
    queue.sort();
    queue.into_iter().map(|(_, index)| index).collect()
}

struct Session<'a> {
    file: PolicyFile,
    /// Numbers of entries: decisions never move one.
    queue: Vec<usize>,
    owner: String,
    /// For each decision: its place in the queue, and the text before it.
    undo: Vec<(usize, String)>,
    judging: Judging,
    common: &'a Common,
}

/// What somebody wants to do with a candidate.
enum Wish {
    Decide(Ruling),
    Skip,
    Undo,
    Quit,
}

impl Session<'_> {
    fn walk(&mut self) -> anyhow::Result<()> {
        let mut at = 0;
        while at < self.queue.len() {
            self.show(at)?;
            match wish()? {
                Wish::Quit => break,
                Wish::Skip => at += 1,
                Wish::Undo => at = self.take_back(at)?,
                Wish::Decide(ruling) => at += usize::from(self.decide(at, ruling)?),
            }
        }
        Ok(())
    }

    fn open(&self) -> usize {
        let entries = self.file.policy.entries.iter();
        entries
            .filter(|entry| entry.status == Status::Candidate)
            .count()
    }

    fn summary(&self, index: usize) -> Option<Summary> {
        let evidence = self.file.evidence.as_ref()?;
        Summaries::new(evidence).of(&self.file.policy.entries[index])
    }

    fn show(&self, at: usize) -> anyhow::Result<()> {
        let index = self.queue[at];
        let seen = self.summary(index);
        let subject = self.subject(index, seen.as_ref());
        let found = risk::findings(&subject);
        let excepted = risk::excepted(&subject);
        let name = selector::name_of(&self.file.policy, index);
        let entry = &self.file.policy.entries[index];
        let head = format!("[{} of {}] {name}", at + 1, self.queue.len());
        let beside: Vec<String> = self
            .file
            .policy
            .entries
            .iter()
            .filter(|other| other.to == entry.to && other.status != Status::Candidate)
            .map(|other| {
                let ports: Vec<String> = other.ports.iter().map(ToString::to_string).collect();
                format!("{} stands already {}", ports.join(" "), other.status.word())
            })
            .collect();
        let tags = super::tags(&self.judging.ranges, &entry.to);
        say(&page::page(
            &head,
            entry,
            seen.as_ref(),
            &found,
            &excepted,
            &beside,
            &tags,
        ))
    }

    fn subject<'s>(&'s self, index: usize, seen: Option<&'s Summary>) -> Subject<'s> {
        self.judging.subject(&self.file.policy.entries[index], seen)
    }

    /// Asks for what a decision needs, and saves it. `false` if it was given up or refused.
    fn decide(&mut self, at: usize, ruling: Ruling) -> anyhow::Result<bool> {
        let index = self.queue[at];
        let seen = self.summary(index);
        let acknowledged = match ruling {
            Ruling::Approve => acknowledge(&risk::findings(&self.subject(index, seen.as_ref())))?,
            Ruling::Deny => Some(Vec::new()),
        };
        let Some(acknowledged) = acknowledged else {
            return Ok(false);
        };
        let Some(decision) = self.ask(ruling, acknowledged)? else {
            return Ok(false);
        };
        if let Err(refusal) = decision.check(self.common.max_expiry.0, &self.judging.own) {
            say(&format!("{}\n", terminal::escape(&refusal.to_string())))?;
            return Ok(false);
        }
        let text = decide::write(&self.file, &[index], &decision, &self.judging)?;
        self.undo.push((at, self.file.text.clone()));
        self.owner = decision.owner;
        self.save(&text)?;
        Ok(true)
    }

    fn ask(&self, ruling: Ruling, acknowledged: Vec<String>) -> anyhow::Result<Option<Decision>> {
        let today = self.common.today();
        let Some(reason) = answer("Reason: ")?.filter(|reason| !reason.is_empty()) else {
            return Ok(None);
        };
        let known = terminal::escape(&self.owner);
        let Some(owner) = answer(&format!("Owner [{known}]: "))? else {
            return Ok(None);
        };
        let owner = if owner.is_empty() {
            self.owner.clone()
        } else {
            owner
        };
        let expires = match ruling {
            Ruling::Deny => None,
            Ruling::Approve => match last_day(today)? {
                Some(day) => Some(day),
                None => return Ok(None),
            },
        };
        Ok(Some(Decision {
            ruling,
            reason,
            owner,
            on: today,
            expires,
            reference: None,
            acknowledged,
        }))
    }

    /// Takes the last decision back, and returns to its candidate.
    fn take_back(&mut self, at: usize) -> anyhow::Result<usize> {
        let Some((place, text)) = self.undo.pop() else {
            say("Nothing to take back.\n")?;
            return Ok(at);
        };
        self.save(&text)?;
        say("Taken back.\n")?;
        Ok(place)
    }

    fn save(&mut self, text: &str) -> anyhow::Result<()> {
        self.file.original.replace(text)?;
        self.file.original = Original::read(&self.file.path)?;
        text.clone_into(&mut self.file.text);
        self.file.policy = document::parse(text)?;
        self.file.policy.look_up(&self.judging.ranges);
        Ok(())
    }
}

/// `None` at the end of the input.
fn answer(prompt: &str) -> anyhow::Result<Option<String>> {
    say(prompt)?;
    let mut line = String::new();
    let mut input = io::stdin().lock().take(MAX_ANSWER);
    let read = input
        .read_line(&mut line)
        .context("cannot read the answer")?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

fn wish() -> anyhow::Result<Wish> {
    loop {
        let Some(word) = answer("[a]pprove [d]eny [s]kip [u]ndo [q]uit: ")? else {
            return Ok(Wish::Quit);
        };
        match word.as_str() {
            "a" | "approve" => return Ok(Wish::Decide(Ruling::Approve)),
            "d" | "deny" => return Ok(Wish::Decide(Ruling::Deny)),
            "s" | "skip" => return Ok(Wish::Skip),
            "u" | "undo" => return Ok(Wish::Undo),
            "q" | "quit" => return Ok(Wish::Quit),
            _ => say("Answer a, d, s, u or q.\n")?,
        }
    }
}

/// What has to be typed out before an approval; `None` if it was not.
fn acknowledge(found: &[Finding]) -> anyhow::Result<Option<Vec<String>>> {
    let mut acknowledged = Vec::new();
    for rule in found.iter().filter(|rule| rule.must_be_acknowledged()) {
        let prompt = format!("To approve all the same, type {}: ", rule.id);
        match answer(&prompt)? {
            Some(word) if rule.id == word => acknowledged.push(word),
            Some(_) | None => return Ok(None),
        }
    }
    Ok(Some(acknowledged))
}

fn last_day(today: Date) -> anyhow::Result<Option<Date>> {
    let usual = days_after(today, DEFAULT_EXPIRY_DAYS);
    loop {
        let Some(text) = answer(&format!("Until (day, or 90d) [{usual}]: "))? else {
            return Ok(None);
        };
        if text.is_empty() {
            return Ok(Some(usual));
        }
        match super::end(&text) {
            Ok(end) => return Ok(Some(end.day(today))),
            Err(message) => say(&format!("{message}\n"))?,
        }
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
