//! Reading one input to its end.

use std::{
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
};

use crate::{
    import::{
        ImportError, Input, Problem, Problems, Settings,
        capture::{self, Told},
        completeness::{self, Recordings},
        content::{self, Content},
        destination_line::DestinationLine,
        line::{self, Parsed},
        lines::{Line, Lines, MAX_LINE},
    },
    policy::{
        Workloads,
        observe::{Source, stays_inside},
        seen::Figures,
        translation::Left,
    },
    record::{Channel, Record},
};

/// What one input said.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) sha256: String,
    /// It holds records of ours.
    pub(super) is_ours: bool,
    /// Where the log goes on, by its last record.
    pub(super) next_segment: Option<String>,
    /// Records of ours that only a later version knows.
    pub(super) unknown_types: u64,
    /// Worth knowing, and no reason to stop.
    pub(super) notes: Vec<String>,
    records: u64,
    workloads: Workloads,
    recordings: Recordings,
    is_held: bool,
}

impl Contents {
    fn new(max_destinations: usize, is_held: bool) -> Self {
        Self {
            sha256: String::new(),
            is_ours: false,
            next_segment: None,
            unknown_types: 0,
            notes: Vec::new(),
            records: 0,
            workloads: Workloads::new(max_destinations),
            recordings: Recordings::default(),
            is_held,
        }
    }

    /// The observations, each workload's with this source and what is wrong with it.
    pub(super) fn into_workloads(self) -> Workloads {
        let Self {
            mut workloads,
            recordings,
            sha256,
            records,
            is_held,
            ..
        } = self;
        for (workload, unclosed) in recordings.unclosed(is_held) {
            workloads.workload(workload).add_unclosed(unclosed);
        }
        for observations in workloads.iter_mut() {
            observations.add_source(Source {
                sha256: sha256.clone(),
                records,
            });
        }
        workloads
    }
}

/// One input being read.
pub(super) struct Reading<'a> {
    input: &'a Input,
    settings: &'a Settings,
    problems: &'a mut Problems,
    /// One imported file is one run.
    run: String,
    workload: String,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        input: &'a Input,
        settings: &'a Settings,
        problems: &'a mut Problems,
    ) -> Self {
        let workload = settings
            .workload
            .clone()
            .unwrap_or_else(|| input.workload());
        Self {
            input,
            settings,
            problems,
            run: input.name(),
            workload,
        }
    }

    pub(super) fn read(mut self) -> Result<Contents, ImportError> {
        let (reader, is_held) = self.open()?;
        let mut contents = Contents::new(self.settings.max_destinations, is_held);
        match content::recognise(reader) {
            Ok(Content::Lines(reader)) => self.lines(Lines::new(reader), &mut contents)?,
            Ok(Content::Capture(reader)) => self.capture(reader, &mut contents)?,
            Err(error) => self.problem(1, error.to_string())?,
        }
        Ok(contents)
    }

    /// The input, and whether its writer is still at work. That is asked before reading: a writer
    /// that ends meanwhile is no crash.
    fn open(&self) -> Result<(Box<dyn Read>, bool), ImportError> {
        match self.input {
            Input::Stdin => Ok((Box::new(io::stdin().lock()), false)),
            Input::File(path) => match File::open(path) {
                Ok(file) => {
                    let is_held = completeness::is_held(&file);
                    Ok((Box::new(file), is_held))
                }
                Err(error) => Err(ImportError::Unreadable {
                    path: self.input.name(),
                    error,
                }),
            },
        }
    }

    fn lines<R: io::BufRead>(
        &mut self,
        mut lines: Lines<R>,
        contents: &mut Contents,
    ) -> Result<(), ImportError> {
        let mut with_last = true;
        loop {
            let parsed = match lines.next() {
                Ok(Some(Line::Text(text))) if text.trim_ascii().is_empty() => continue,
                Ok(Some(Line::Text(text))) => line::parse(text),
                Ok(Some(Line::TooLong)) => Err(format!("longer than {MAX_LINE} bytes")),
                Ok(None) => break,
                Err(error) => {
                    self.problem(lines.number(), format!("unreadable from here on: {error}"))?;
                    break;
                }
            };
            match parsed {
                Ok(parsed) => self.take(parsed, contents),
                // The writer is in the middle of this line.
                Err(_) if contents.is_held && !lines.is_ended() => {
                    with_last = false;
                    break;
                }
                Err(reason) => self.problem(lines.number(), reason)?,
            }
        }
        contents.sha256 = lines.digest(with_last);
        Ok(())
    }

    /// Records of a capture are observed like ours; they come without `start` and `stop`.
    fn capture(&mut self, reader: impl Read, contents: &mut Contents) -> Result<(), ImportError> {
        let options = capture::Options {
            workload: self.workload.clone(),
            run: self.run.clone(),
            local: self.settings.local.clone(),
        };
        let mut result = Ok(());
        let summary = capture::read(reader, &options, &mut |told| {
            match told {
                Told::Record(record) => contents.workloads.observe(&record),
                Told::Problem { packet, reason } => result = self.problem(packet, reason),
            }
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        result?;
        if summary.packets > 0 {
            contents
                .workloads
                .workload(&options.workload)
                .add_run(&options.run);
        }
        contents.sha256 = summary.sha256;
        contents.records += summary.records;
        contents.notes = summary.notes;
        Ok(())
    }

    fn take(&self, parsed: Parsed, contents: &mut Contents) {
        match parsed {
            Parsed::Record(record) => {
                contents.is_ours = true;
                contents.records += 1;
                contents.recordings.follow(&record);
                contents.workloads.observe(&record);
                contents.next_segment = match *record {
                    Record::Rotate(entry) => Some(entry.body.next),
                    Record::Flow(_)
                    | Record::Gap(_)
                    | Record::Alias(_)
                    | Record::Stats(_)
                    | Record::Start(_)
                    | Record::Stop(_)
                    | Record::Dns(_)
                    | Record::Drift(_) => None,
                };
            }
            Parsed::Destination(line) => {
                contents.records += 1;
                self.see(line, &mut contents.workloads);
            }
            Parsed::UnknownType => contents.unknown_types += 1,
        }
    }

    fn see(&self, line: DestinationLine, workloads: &mut Workloads) {
        let observations = workloads.workload(line.workload.as_deref().unwrap_or(&self.workload));
        if stays_inside(line.destination.ip) {
            observations.add_run(&self.run);
            return;
        }
        let figures = Figures {
            count: 1,
            outcomes: None,
            bytes_sent: 0,
            bytes_received: 0,
            first_seen: line.time,
            last_seen: line.time,
            process: None,
            names: &[],
            via_engine: false,
            writable_path: false,
            channel: Channel::Import,
            left: Some(Left::AsAsked),
        };
        observations.see(&self.run, line.destination, &figures);
    }

    fn problem(&mut self, line: u64, reason: String) -> Result<(), ImportError> {
        let problem = Problem {
            input: self.input.name(),
            line,
            reason,
        };
        if self.settings.strict {
            return Err(ImportError::Strict(problem));
        }
        self.problems.add(problem);
        Ok(())
    }
}
