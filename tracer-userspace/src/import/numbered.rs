//! The flows of one log with the numbers of their lines, for whoever has to point at them.

use std::fs::File;

use crate::{
    import::{
        ImportError, Input,
        content::{self, Content},
        line::{self, Parsed},
        lines::{Line, Lines},
    },
    policy::{
        observe::{self, Destination},
        workloads::workload_of,
    },
    record::Record,
};

/// Tells `each` flow: its line, counted from 1, its workload (if the line names one) and where it
/// went. Nothing of captures, whose packets have no lines, and of standard input, which was read.
///
/// # Errors
/// The file cannot be read. Lines that cannot be used are passed over.
pub fn flows(
    input: &Input,
    each: &mut dyn FnMut(u64, Option<&str>, &Destination),
) -> Result<(), ImportError> {
    let Input::File(path) = input else {
        return Ok(());
    };
    let unreadable = |error| ImportError::Unreadable {
        path: input.name(),
        error,
    };
    let file = File::open(path).map_err(unreadable)?;
    let Content::Lines(reader) = content::recognise(file).map_err(unreadable)? else {
        return Ok(());
    };
    let mut lines = Lines::new(reader);
    loop {
        let parsed = match lines.next().map_err(unreadable)? {
            Some(Line::Text(text)) => line::parse(text),
            Some(Line::TooLong) => continue,
            None => return Ok(()),
        };
        match parsed {
            Ok(Parsed::Record(record)) => {
                if let Some(destination) = destination(&record) {
                    each(lines.number(), Some(workload_of(&record)), &destination);
                }
            }
            Ok(Parsed::Destination(line)) => {
                each(lines.number(), line.workload.as_deref(), &line.destination);
            }
            Ok(Parsed::UnknownType) | Err(_) => {}
        }
    }
}

fn destination(record: &Record) -> Option<Destination> {
    let Record::Flow(entry) = record else {
        return None;
    };
    let flow = &*entry.body;
    Some(Destination {
        ip: flow.dest_ip,
        service: observe::service(flow.protocol, flow.dest_port)?,
    })
}
