//! How often `run` records its command, what it hands to each run, and when enough was seen.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{analysis::coverage::Incidence, cli::share, policy::Observations};

/// What stands for the run's line in the command.
const PLACE: &[u8] = b"{}";

/// Flags about repeating.
#[derive(Args, Debug)]
pub(super) struct Repeat {
    /// Record the command this many times; it finds the number of the run in EGRESS_TRACER_RUN
    /// [default: once, or once for each line of --each]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Hand one line of FILE to each run, such as a prompt or a seed: in the place of {} in COMMAND's
    /// arguments, and in EGRESS_TRACER_INPUT. Empty lines are left out; after the last comes the
    /// first
    #[arg(long, value_name = "FILE")]
    each: Option<PathBuf>,
    /// Stop early once so little of what a further run does is new, as `coverage` estimates it; not
    /// before as many runs as it takes to show such a share (5%: 20)
    #[arg(long, value_name = "SHARE", value_parser = share)]
    until_unseen: Option<f64>,
}

/// The runs that are to be made.
#[derive(Debug)]
pub(super) struct Repetition {
    lines: Option<Vec<OsString>>,
    runs: u32,
    until_unseen: Option<f64>,
    /// Of all runs so far, those before this command in the same directory among them.
    known: Option<Observations>,
}

impl Repeat {
    /// Reads the lines, if there are to be some.
    pub(super) fn plan(&self) -> anyhow::Result<Repetition> {
        let lines = self.each.as_deref().map(lines).transpose()?;
        let runs = match (self.repeat, &lines) {
            (Some(runs), _) => runs,
            (None, Some(lines)) => u32::try_from(lines.len()).unwrap_or(u32::MAX),
            (None, None) if self.until_unseen.is_some() => {
                bail!("--until-unseen needs --repeat N or --each FILE, which say when to give up");
            }
            (None, None) => 1,
        };
        Ok(Repetition {
            lines,
            runs,
            until_unseen: self.until_unseen,
            known: None,
        })
    }
}

impl Repetition {
    /// The runs by number.
    pub(super) fn numbers(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.runs
    }

    /// The line for a run.
    pub(super) fn line(&self, number: u32) -> Option<&OsStr> {
        let lines = self.lines.as_deref()?;
        let at = (number as usize - 1) % lines.len();
        Some(&lines[at])
    }

    /// The command of a run: its line in the place of each `{}` after the program's name.
    pub(super) fn words(&self, number: u32, command: &[OsString]) -> Vec<OsString> {
        let Some(line) = self.line(number) else {
            return command.to_vec();
        };
        let mut words = command.iter();
        let program = words.next().cloned();
        program
            .into_iter()
            .chain(words.map(|word| filled(word, line)))
            .collect()
    }

    /// Takes in what is known after a run, whether or not the runs before are in it.
    pub(super) fn learn(&mut self, observations: &Observations, has_earlier: bool) {
        if self.until_unseen.is_none() {
            return;
        }
        match &mut self.known {
            Some(known) if !has_earlier => known.merge(observations),
            Some(_) | None => self.known = Some(observations.clone()),
        }
    }

    /// What to tell after a run, and whether that was enough.
    pub(super) fn verdict(&self, number: u32) -> Option<(String, bool)> {
        let target = self.until_unseen?;
        let known = self.known.as_ref()?;
        let runs = known.runs() as u64;
        let detections = known.destinations().map(|(_, seen)| seen.runs.len() as u64);
        let unseen = Incidence::new(runs, detections).coverage().unseen_share;
        let least = (1.0 / target).ceil() as u64;
        let is_enough = runs >= least && unseen.is_some_and(|unseen| unseen <= target);
        let share = match unseen {
            Some(unseen) => format!("{:.1} % of what a further run does is new", unseen * 100.0),
            None => "nothing was seen".to_owned(),
        };
        let end = match (is_enough, number == self.runs) {
            (true, _) => format!("; enough after {runs} runs"),
            (false, true) => format!("; {:.1} % was not reached in {runs} runs", target * 100.0),
            (false, false) => String::new(),
        };
        Some((format!("run {number}: {share}{end}"), is_enough))
    }
}

fn filled(word: &OsStr, line: &OsStr) -> OsString {
    let bytes = word.as_bytes();
    let mut filled = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(bytes, PLACE) {
        filled.extend_from_slice(&bytes[from..at]);
        filled.extend_from_slice(line.as_bytes());
        from = at + PLACE.len();
    }
    filled.extend_from_slice(&bytes[from..]);
    OsString::from_vec(filled)
}

fn lines(path: &Path) -> anyhow::Result<Vec<OsString>> {
    let shown = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<OsString> = lines
        .filter(|line| !line.is_empty())
        .map(|line| OsString::from_vec(line.to_vec()))
        .collect();
    if lines.is_empty() {
        bail!("{shown} has no line to hand to a run");
    }
    if text.contains(&0) {
        bail!("{shown} holds a zero byte, which no command can be given");
    }
    Ok(lines)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::policy::observe::{Destination, Observations};

    fn repetition(until_unseen: f64) -> Repetition {
        Repetition {
            lines: Some(vec!["a b".into(), "c".into()]),
            runs: 100,
            until_unseen: Some(until_unseen),
            known: None,
        }
    }

    #[test]
    fn lines_are_handed_out_in_turn() {
        let repetition = repetition(0.5);
        let command = ["{}".into(), "-p".into(), "x{}y{}".into()];
        let words = |number| repetition.words(number, &command);
        assert_eq!(words(1), ["{}", "-p", "xa bya b"].map(OsString::from));
        assert_eq!(words(2), ["{}", "-p", "xcyc"].map(OsString::from));
        assert_eq!(words(3), words(1));
    }

    fn seen(run: &str, hosts: &[u8]) -> Observations {
        let mut observations = Observations::new("w", 100);
        observations.add_run(run);
        for host in hosts {
            let destination = Destination {
                ip: [192, 0, 2, *host].into(),
                service: "443/tcp".parse().unwrap(),
            };
            observations.see(
                run,
                destination,
                &crate::policy::seen::Figures {
                    count: 1,
                    outcomes: None,
                    bytes_sent: 0,
                    bytes_received: 0,
                    first_seen: None,
                    last_seen: None,
                    process: None,
                    who: crate::policy::seen::Who::default(),
                    names: &[],
                    role: None,
                    peer: None,
                    via_engine: false,
                    writable_path: false,
                    channel: crate::record::Channel::Connect,
                    answered: None,
                    left: None,
                    tool: None,
                },
            );
        }
        observations
    }

    #[test]
    fn enough_is_not_before_a_share_can_show() {
        let mut repetition = repetition(0.25);
        let mut ended = None;
        for number in 1..=10 {
            repetition.learn(&seen(&number.to_string(), &[1, 2]), false);
            let (told, is_enough) = repetition.verdict(number).unwrap();
            if is_enough {
                ended = Some((number, told));
                break;
            }
        }
        let told = "run 4: 0.0 % of what a further run does is new; enough after 4 runs";
        assert_eq!(ended, Some((4, told.to_owned())));
    }

    #[test]
    fn news_in_every_run_is_never_enough() {
        let mut repetition = repetition(0.25);
        for number in 1..=20 {
            repetition.learn(&seen(&number.to_string(), &[number]), false);
            assert!(!repetition.verdict(u32::from(number)).unwrap().1);
        }
    }
}
