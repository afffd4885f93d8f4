//! What our reader makes of a capture, as lines that can be compared.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, Read},
    ops::ControlFlow,
    path::Path,
};

use tracer_userspace::{
    import::capture::{self, Options, Told},
    record::{Flow, NameSource, Record},
};

/// `to PROTOCOL ADDRESS PORT`, `name PROTOCOL ADDRESS PORT NAME`, `asked SERVER NAME` and
/// `answered SERVER NAME ADDRESS`.
pub(crate) fn read(path: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let file = BufReader::new(File::open(path).unwrap());
    let reader: Box<dyn Read> = if path.extension().is_some_and(|suffix| suffix == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    capture::read(reader, &Options::default(), &mut |told| {
        if let Told::Record(record) = told {
            note(&record, &mut lines);
        }
        ControlFlow::Continue(())
    });
    lines
}

fn note(record: &Record, lines: &mut BTreeSet<String>) {
    if let Record::Flow(entry) = record {
        flow(&entry.body, lines);
    }
    if let Record::Dns(entry) = record {
        let exchange = &entry.body;
        let name = &exchange.question.name;
        lines.insert(format!("asked {} {name}", exchange.server));
        let addresses = exchange
            .answers
            .iter()
            .filter(|answer| matches!(answer.kind.as_str(), "A" | "AAAA"))
            .flat_map(|answer| &answer.addresses);
        for address in addresses {
            lines.insert(format!("answered {} {name} {address}", exchange.server));
        }
    }
}

fn flow(flow: &Flow, lines: &mut BTreeSet<String>) {
    let port = flow
        .dest_port
        .map_or("-".to_owned(), |port| port.to_string());
    let ip = flow.dest_ip.map_or("-".to_owned(), |ip| ip.to_string());
    let to = format!("{} {ip} {port}", flow.protocol);
    lines.insert(format!("to {to}"));
    let own = flow
        .names
        .iter()
        .filter(|name| name.source != NameSource::Dns);
    for name in own {
        lines.insert(format!("name {to} {}", name.name));
    }
}
