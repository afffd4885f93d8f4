//! Reading one input to its end.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    ops::ControlFlow,
    sync::Arc,
};

use crate::{
    import::{
        ImportError, Input, Problem, Problems, Runs, Settings,
        capture::{self, Told},
        completeness,
        content::{self, Content},
        contents::Contents,
        destination_line::DestinationLine,
        line::{self, Parsed},
        lines::{self, Line, MAX_LINE},
        metered::Metered,
        plain::Scanner,
        tally::{Key, Sum, Tally},
        tools::{self, Sighting, Table, names::Names},
    },
    policy::{
        Workloads,
        observe::{Destination, service, stays_inside},
        seen::Figures,
        translation::Left,
    },
    record::{Channel, Record},
};

/// One input being read.
pub(super) struct Reading<'a> {
    input: &'a Input,
    settings: &'a Settings,
    problems: &'a mut Problems,
    names: &'a mut Names,
    /// What this input says about names is known already.
    is_gathered: bool,
    /// One imported file is one run.
    run: String,
    workload: String,
}

/// What is known of an input's lines, from one to the next.
#[derive(Default)]
struct Position {
    scanner: Scanner,
    tally: Tally,
    table: Table,
    /// The writer is in the middle of the last line.
    is_unfinished: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        input: &'a Input,
        settings: &'a Settings,
        problems: &'a mut Problems,
        names: &'a mut Names,
        is_gathered: bool,
    ) -> Self {
        let workload = settings
            .workload
            .clone()
            .unwrap_or_else(|| input.workload());
        Self {
            input,
            settings,
            problems,
            names,
            is_gathered,
            run: input.name(),
            workload,
        }
    }

    pub(super) fn read(mut self) -> Result<Contents, ImportError> {
        let (reader, is_held) = self.open()?;
        let mut contents = Contents::new(self.settings.max_destinations, is_held);
        match content::recognise(reader) {
            Ok(Content::Lines(reader)) => self.lines(reader, &mut contents)?,
            Ok(Content::Capture(reader)) => self.capture(reader, &mut contents)?,
            Err(error) => self.problem(1, error.to_string())?,
        }
        if contents.foreign > 0 {
            let foreign = contents.foreign;
            let note = format!("{foreign} connection(s) begun by others left out");
            contents.notes.push(note);
        }
        if contents.lost > 0 {
            let note = format!("the tool says that it lost {} event(s)", contents.lost);
            contents.notes.push(note);
        }
        Ok(contents)
    }

    /// What the input's run is called, if runs are grouped.
    pub(super) fn group(input: &Input, runs: Runs) -> Option<String> {
        match (runs, input) {
            (Runs::Recorded, _) => None,
            (Runs::All, _) => Some("all".to_owned()),
            (Runs::Directory, Input::Stdin) => Some(input.name()),
            (Runs::Directory, Input::File(path)) => {
                let parent = path.parent().map(|parent| parent.display().to_string());
                Some(parent.unwrap_or_default())
            }
        }
    }

    /// The input, and whether its writer is still at work. That is asked before reading: a writer
    /// that ends meanwhile is no crash.
    fn open(&self) -> Result<(Metered, bool), ImportError> {
        let metered = |reader| Metered {
            reader,
            read: Arc::clone(&self.settings.read),
        };
        match self.input {
            Input::Stdin => Ok((metered(Box::new(io::stdin())), false)),
            Input::File(path) => match File::open(path) {
                Ok(file) => {
                    let is_held = completeness::is_held(&file);
                    Ok((metered(Box::new(file)), is_held))
                }
                Err(error) => Err(ImportError::Unreadable {
                    path: self.input.name(),
                    error,
                }),
            },
        }
    }

    fn lines(
        &mut self,
        reader: impl Read + Send,
        contents: &mut Contents,
    ) -> Result<(), ImportError> {
        let mut position = Position::default();
        let mut result = Ok(());
        let mut last = 0;
        let ended = lines::each(reader, |line| {
            last = line.number;
            result = self.line(line, &mut position, contents);
            match result {
                Ok(()) if !position.is_unfinished => ControlFlow::Continue(()),
                Ok(()) | Err(_) => ControlFlow::Break(()),
            }
        });
        result?;
        self.settle(&mut position.tally, contents);
        if let Some(error) = ended.error {
            self.problem(last + 1, format!("unreadable from here on: {error}"))?;
        }
        contents.sha256 = if position.is_unfinished {
            ended.sha256_of_ended
        } else {
            ended.sha256
        };
        Ok(())
    }

    fn line(
        &mut self,
        line: Line<'_>,
        position: &mut Position,
        contents: &mut Contents,
    ) -> Result<(), ImportError> {
        let parsed = match line.content {
            lines::Content::TooLong => Err(format!("longer than {MAX_LINE} bytes")),
            lines::Content::Text(text) => {
                if let Some(plain) = position.scanner.scan(text) {
                    if position.tally.add(&plain) {
                        self.settle(&mut position.tally, contents);
                    }
                    return Ok(());
                }
                if text.trim_ascii().is_empty() {
                    return Ok(());
                }
                let row = position.table.parse(text);
                row.map_or_else(|| line::parse(text), |told| told.map(Parsed::Told))
            }
        };
        match parsed {
            Ok(parsed) => self.take(parsed, contents),
            Err(_) if contents.is_held && !line.is_ended => position.is_unfinished = true,
            Err(reason) => self.problem(line.number, reason)?,
        }
        Ok(())
    }

    /// Observes what was summed.
    fn settle(&self, tally: &mut Tally, contents: &mut Contents) {
        for (Key { ip, port, protocol }, sum) in tally.take() {
            contents.records += sum.lines;
            if let Some(service) = service(protocol, port) {
                let destination = Destination { ip, service };
                self.see(&self.workload, destination, sum, &mut contents.workloads);
            }
        }
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

    fn take(&mut self, parsed: Parsed, contents: &mut Contents) {
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
                self.destination(line, &mut contents.workloads);
            }
            Parsed::Told(told) => self.told(told, contents),
            Parsed::UnknownType => contents.unknown_types += 1,
        }
    }

    fn told(&mut self, told: tools::Told, contents: &mut Contents) {
        if !self.is_gathered {
            self.names.note(&told);
        }
        match told {
            tools::Told::Sighting(sighting) => {
                contents.records += 1;
                self.sighting(*sighting, contents);
            }
            tools::Told::Ingress { workload } => {
                contents.records += 1;
                contents.foreign += 1;
                let workload = workload.as_deref().unwrap_or(&self.workload);
                contents.workloads.workload(workload).add_run(&self.run);
            }
            tools::Told::Answer(_) | tools::Told::Claim { .. } => {
                contents.records += 1;
                contents.beside += 1;
            }
            tools::Told::Lost(events) => contents.lost = contents.lost.saturating_add(events),
            tools::Told::Nothing => contents.beside += 1,
        }
    }

    fn sighting(&self, sighting: Sighting, contents: &mut Contents) {
        let workload = sighting.workload.as_deref().unwrap_or(&self.workload);
        let observations = contents.workloads.workload(workload);
        let is_local = sighting.is_egress || self.is_local(sighting.client);
        contents.foreign += u64::from(!is_local);
        if !is_local || stays_inside(sighting.destination.ip) {
            observations.add_run(&self.run);
            return;
        }
        let names = self.names.of(&sighting);
        let outcomes = sighting
            .outcome
            .map(|outcome| [(outcome, sighting.count)].into());
        let figures = Figures {
            count: sighting.count,
            outcomes: outcomes.as_ref(),
            bytes_sent: sighting.bytes_sent,
            bytes_received: sighting.bytes_received,
            process: sighting.process.as_deref(),
            names: &names,
            ..imported(sighting.time, sighting.time)
        };
        observations.see(&self.run, sighting.destination, &figures);
    }

    /// Whether the workload may have begun it.
    fn is_local(&self, client: Option<IpAddr>) -> bool {
        let local = &self.settings.local;
        let is_inside = |client: IpAddr| {
            let client = client.to_canonical();
            local.iter().any(|network| network.contains(&client))
        };
        local.is_empty() || client.is_none_or(is_inside)
    }

    fn destination(&self, line: DestinationLine, workloads: &mut Workloads) {
        let workload = line.workload.as_deref().unwrap_or(&self.workload);
        let sum = Sum {
            lines: 1,
            first: line.time,
            last: line.time,
        };
        self.see(workload, line.destination, sum, workloads);
    }

    fn see(&self, workload: &str, destination: Destination, sum: Sum, workloads: &mut Workloads) {
        let observations = workloads.workload(workload);
        if stays_inside(destination.ip) {
            observations.add_run(&self.run);
            return;
        }
        let figures = Figures {
            count: sum.lines,
            ..imported(sum.first, sum.last)
        };
        observations.see_many(&self.run, destination, &figures, sum.lines);
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

/// The figures of what another tool tells, but for those that it tells.
fn imported<'f>(first: Option<jiff::Timestamp>, last: Option<jiff::Timestamp>) -> Figures<'f> {
    Figures {
        count: 0,
        outcomes: None,
        bytes_sent: 0,
        bytes_received: 0,
        first_seen: first,
        last_seen: last,
        process: None,
        names: &[],
        via_engine: false,
        writable_path: false,
        channel: Channel::Import,
        left: Some(Left::AsAsked),
        tool: None,
    }
}
