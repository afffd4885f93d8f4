//! Packet captures in, records out: flows with the names proven on the wire, and DNS exchanges.
//!
//! A file goes through `format` and `frames` (pcap, pcapng), `link` (what carries IP), `packet` and `fragments`
//! (IP), `table` (conversations, and who began them) and `tally` (flows). Packets are not kept; every
//! table is bounded, and what it turned away is told in `gap` records of severity `detail`: an
//! observed destination is never among it.

mod conversation;
mod direction;
mod format;
mod fragments;
mod frames;
mod link;
pub(crate) mod packet;
mod table;
mod tally;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests;

use std::{collections::BTreeSet, io::Read, ops::ControlFlow};

use ipnet::IpNet;
use jiff::Timestamp;

pub use format::is_capture;

use crate::{
    import::buffer::{Direct, Pieces},
    record::{self, Entry, Gap, GapKind, Record, Severity},
};
use fragments::Fragments;
use frames::Frame;
use link::Content;
use packet::Packet;
use table::{News, Table};

/// How a capture is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub workload: String,
    pub run: String,
    /// Where the workload is. Empty: every host in the capture is the workload.
    pub local: Vec<IpNet>,
}

/// What a capture says, piece by piece.
#[derive(Clone, Debug)]
pub enum Told {
    Record(Box<Record>),
    /// A packet, counted from 1, that could not be used. Texts may come from the capture.
    Problem {
        packet: u64,
        reason: String,
    },
}

/// The whole, once it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub packets: u64,
    pub records: u64,
    /// Worth knowing, and no reason to stop.
    pub notes: Vec<String>,
}

/// Reads a capture to its end, or until `told` breaks.
pub fn read(
    reader: impl Read,
    options: &Options,
    told: &mut dyn FnMut(Told) -> ControlFlow<()>,
) -> Summary {
    read_pieces(&mut Direct(reader), options, told)
}

/// The same of what is read elsewhere.
pub(super) fn read_pieces(
    pieces: &mut dyn Pieces,
    options: &Options,
    told: &mut dyn FnMut(Told) -> ControlFlow<()>,
) -> Summary {
    let mut reading = Reading {
        options,
        told,
        table: Table::new(options.local.clone()),
        fragments: Fragments::default(),
        unknown_links: BTreeSet::new(),
        last: Timestamp::UNIX_EPOCH,
        records: 0,
        is_stopped: false,
    };
    let ended = frames::each(pieces, |frame| reading.frame(&frame));
    if let Some(reason) = ended.broken.filter(|_| !reading.is_stopped) {
        let _ = reading.problem(ended.frames + 1, reason);
    }
    if !reading.is_stopped {
        let _ = reading.finish();
    }
    Summary {
        packets: ended.frames,
        records: reading.records,
        notes: reading.notes(),
    }
}

struct Reading<'a> {
    options: &'a Options,
    told: &'a mut dyn FnMut(Told) -> ControlFlow<()>,
    table: Table,
    fragments: Fragments,
    unknown_links: BTreeSet<i32>,
    last: Timestamp,
    records: u64,
    is_stopped: bool,
}

impl Reading<'_> {
    fn frame(&mut self, frame: &Frame<'_>) -> ControlFlow<()> {
        self.last = self.last.max(frame.time);
        let result = match link::content(frame.link, frame.bytes) {
            Content::Ip(bytes) => self.ip(frame.time, bytes),
            Content::Other => Ok(()),
            Content::Cut => Err("the frame is cut short".to_owned()),
            Content::Unknown => {
                if !self.unknown_links.insert(frame.link.0) {
                    return ControlFlow::Continue(());
                }
                let link = frame.link.0;
                Err(format!(
                    "link type {link} is not read; its packets are left out"
                ))
            }
        };
        if let Err(reason) = result {
            self.problem(frame.number, reason)?;
        }
        self.pass_on()
    }

    fn ip(&mut self, time: Timestamp, bytes: &[u8]) -> Result<(), String> {
        let packet = Packet::read(bytes)?;
        let Some(fragment) = packet.fragment else {
            return self.table.packet(time, &packet);
        };
        for whole in self.fragments.add(&packet, fragment) {
            self.table.packet(time, &whole.packet())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> ControlFlow<()> {
        for start in self.fragments.give_up() {
            // A start that is too short to tell its ports was counted as incomplete.
            let _ = self.table.packet(self.last, &start.packet());
        }
        self.table.finish();
        self.pass_on()?;
        self.gaps()
    }

    fn pass_on(&mut self) -> ControlFlow<()> {
        if self.table.news.is_empty() {
            return ControlFlow::Continue(());
        }
        for news in std::mem::take(&mut self.table.news) {
            let record = match news {
                News::Flow(flow) => Record::Flow(self.entry(flow)),
                News::Dns(exchange) => Record::Dns(self.entry(exchange)),
            };
            self.record(record)?;
        }
        ControlFlow::Continue(())
    }

    /// What the bounded tables turned away.
    fn gaps(&mut self) -> ControlFlow<()> {
        let table = &self.table;
        let counted = [
            (
                table.forgotten,
                "connections were counted again after many others came between",
            ),
            (
                table.refused_bytes,
                "pieces of first bytes found no room: names may be missing",
            ),
            (
                table.names.refused + table.tally.refused_names,
                "names of addresses found no room",
            ),
            (
                self.fragments.incomplete,
                "fragmented packets are not whole: names may be missing",
            ),
        ];
        for (lost, what) in counted.into_iter().filter(|(lost, _)| *lost > 0) {
            let gap = Gap {
                what: GapKind::Connections,
                detail: format!("{lost} {what}"),
                lost: Some(lost),
                severity: Severity::Detail,
            };
            let record = Record::Gap(self.entry(gap));
            self.record(record)?;
        }
        ControlFlow::Continue(())
    }

    fn notes(&self) -> Vec<String> {
        let names = &self.table.names;
        let counted = [
            (
                self.table.foreign,
                "connection(s) begun by others than --local left out",
            ),
            (
                names.unasked,
                "DNS answer(s) that nobody asked for not believed",
            ),
            (
                names.undecodable,
                "DNS message(s) or record(s) could not be read",
            ),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        counted
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    fn entry<T>(&self, body: T) -> Entry<T> {
        Entry {
            schema: record::SCHEMA.to_owned(),
            ts: self.last,
            host: String::new(),
            run: self.options.run.clone(),
            workload: self.options.workload.clone(),
            body,
        }
    }

    fn record(&mut self, record: Record) -> ControlFlow<()> {
        self.records += 1;
        self.tell(Told::Record(Box::new(record)))
    }

    fn problem(&mut self, packet: u64, reason: String) -> ControlFlow<()> {
        self.tell(Told::Problem { packet, reason })
    }

    fn tell(&mut self, told: Told) -> ControlFlow<()> {
        let flow = (self.told)(told);
        self.is_stopped |= flow.is_break();
        flow
    }
}
