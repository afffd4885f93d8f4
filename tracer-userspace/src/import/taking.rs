//! What was understood of an input becomes observations.

use std::net::IpAddr;

use crate::{
    import::{
        contents::Contents,
        destination_line::DestinationLine,
        line::Parsed,
        source::Reading,
        tally::{Key, Sum},
        tools::{self, Sighting},
    },
    policy::{
        Workloads,
        observe::{Destination, service, stays_inside},
        seen::{Figures, Who},
        translation::Left,
    },
    record::{Channel, Record},
    spans,
};

/// The daemon's workload of whatever is in no container.
const HOST: &str = "host";

impl Reading<'_> {
    /// Observes what was summed.
    pub(super) fn settle(
        &self,
        sums: impl IntoIterator<Item = (Key, Sum)>,
        contents: &mut Contents,
    ) {
        for (Key { ip, port, protocol }, sum) in sums {
            contents.records += sum.lines;
            if let Some(service) = service(protocol, port) {
                let destination = Destination { ip, service };
                self.see(&self.workload, destination, sum, &mut contents.workloads);
            }
        }
    }

    pub(super) fn take(&mut self, parsed: Parsed, contents: &mut Contents) {
        match parsed {
            Parsed::Record(mut record) => {
                self.ask_spans(&mut record);
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
                    | Record::Drift(_)
                    | Record::Registered(_) => None,
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

    /// What the log does not say of a flow's tool. Spans that do not say whose they are were given for
    /// these inputs, so they are taken for the one command that a log may be of.
    fn ask_spans(&self, record: &mut Record) {
        let Record::Flow(entry) = record else {
            return;
        };
        if entry.body.tool.is_none() && entry.body.count > 0 {
            let is_one_command = entry.body.container.is_none() && entry.workload != HOST;
            let spans = &self.settings.spans;
            entry.body.tool =
                spans::flow::tool(spans, &entry.body, &entry.workload, is_one_command);
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
        who: Who::default(),
        names: &[],
        role: None,
        peer: None,
        via_engine: false,
        writable_path: false,
        channel: Channel::Import,
        answered: None,
        left: Some(Left::AsAsked),
        tool: None,
    }
}
