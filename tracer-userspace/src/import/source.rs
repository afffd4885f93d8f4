//! Reading one input to its end.

use std::{
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
    sync::Arc,
};

use crate::import::{
    ImportError, Input, Problem, Problems, Runs, Settings, ahead,
    blocks::Block,
    capture::{self, Told},
    completeness,
    content::{self, Content},
    contents::Contents,
    line::{self, Parsed},
    lines::{self, Line, MAX_LINE},
    metered::Metered,
    tools::{Table, names::Names},
    understanding::{self, Piece, Said},
};

/// One input being read.
pub(super) struct Reading<'a> {
    input: &'a Input,
    pub(super) settings: &'a Settings,
    problems: &'a mut Problems,
    pub(super) names: &'a mut Names,
    /// What this input says about names is known already.
    pub(super) is_gathered: bool,
    /// One imported file is one run.
    pub(super) run: String,
    pub(super) workload: String,
}

/// What is known of an input's lines, from one to the next.
#[derive(Default)]
struct Position {
    /// How many there were.
    lines: u64,
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
        let (ended, tallies) = understanding::read(reader, |piece| {
            result = self.piece(piece, &mut position, contents);
            match result {
                Ok(()) if !position.is_unfinished => ControlFlow::Continue(()),
                Ok(()) | Err(_) => ControlFlow::Break(()),
            }
        });
        result?;
        for mut tally in tallies {
            self.settle(tally.take(), contents);
        }
        if let Some(error) = ended.error {
            let next = position.lines + 1;
            self.problem(next, format!("unreadable from here on: {error}"))?;
        }
        contents.sha256 = Some(if position.is_unfinished {
            ended.sha256_of_ended
        } else {
            ended.sha256
        });
        Ok(())
    }

    fn piece(
        &mut self,
        piece: &mut Piece,
        position: &mut Position,
        contents: &mut Contents,
    ) -> Result<(), ImportError> {
        self.settle(piece.sums.drain(..), contents);
        let before = position.lines;
        position.lines += piece.lines;
        let Block::Lines(bytes) = &piece.block else {
            return self.line(Line::too_long(position.lines), position, contents);
        };
        for other in piece.others.drain(..) {
            match other.said {
                Said::Parsed(parsed) => self.take(*parsed, contents),
                Said::Unread(range) => {
                    let (bytes, before) = (&bytes[range], before + other.before);
                    let mut result = Ok(());
                    let _ = lines::in_block(bytes, before, &mut |line| {
                        result = self.line(line, position, contents);
                        match result {
                            Ok(()) => ControlFlow::Continue(()),
                            Err(_) => ControlFlow::Break(()),
                        }
                    });
                    result?;
                }
            }
        }
        Ok(())
    }

    /// A line that depends on those before it, or that is wrong.
    fn line(
        &mut self,
        line: Line<'_>,
        position: &mut Position,
        contents: &mut Contents,
    ) -> Result<(), ImportError> {
        let parsed = match line.content {
            lines::Content::TooLong => Err(format!("longer than {MAX_LINE} bytes")),
            lines::Content::Text(text) if text.trim_ascii().is_empty() => return Ok(()),
            lines::Content::Text(text) => {
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

    /// Records of a capture are observed like ours; they come without `start` and `stop`.
    fn capture(
        &mut self,
        reader: impl Read + Send,
        contents: &mut Contents,
    ) -> Result<(), ImportError> {
        let options = capture::Options {
            workload: self.workload.clone(),
            run: self.run.clone(),
            local: self.settings.local.clone(),
        };
        let mut result = Ok(());
        let is_hashed = self.settings.identified;
        let mut take = |told| {
            match told {
                Told::Record(record) => contents.workloads.observe(&record),
                Told::Problem { packet, reason } => result = self.problem(packet, reason),
            }
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let (summary, sha256) = ahead::read(reader, is_hashed, |reader| {
            capture::read_pieces(reader, &options, &mut take)
        });
        result?;
        if summary.packets > 0 {
            contents
                .workloads
                .workload(&options.workload)
                .add_run(&options.run);
        }
        contents.sha256 = sha256;
        contents.records += summary.records;
        contents.notes = summary.notes;
        Ok(())
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
