//! The flows of one log with the numbers of their lines, for whoever has to point at them.

use std::{fs::File, ops::ControlFlow};

use crate::{
    import::{
        ImportError, Input,
        content::{self, Content},
        line::{self, Parsed},
        lines,
        tools::Told,
    },
    policy::{
        observe::{self, Destination},
        workloads::workload_of,
    },
    record::Record,
};

/// Digests of a log, in lower-case hex: of all of it, and of what ends in a line break.
pub type Digests = [String; 2];

/// Tells `each` flow: its line, counted from 1, its workload (if the line names one) and where it
/// went; then what the log is known by. Nothing of captures, whose packets have no lines, and of
/// standard input, which was read.
///
/// # Errors
/// The file cannot be read. Lines that cannot be used are passed over.
pub fn flows(
    input: &Input,
    each: &mut dyn FnMut(u64, Option<&str>, &Destination),
) -> Result<Option<Digests>, ImportError> {
    let Input::File(path) = input else {
        return Ok(None);
    };
    let unreadable = |error| ImportError::Unreadable {
        path: input.name(),
        error,
    };
    let file = File::open(path).map_err(unreadable)?;
    let Content::Lines(reader) = content::recognise(file).map_err(unreadable)? else {
        return Ok(None);
    };
    let ended = lines::each(reader, |line| {
        if let lines::Content::Text(text) = line.content {
            tell(line.number, text, each);
        }
        ControlFlow::Continue(())
    });
    match ended.error {
        Some(error) => Err(unreadable(error)),
        None => Ok(Some([ended.sha256, ended.sha256_of_ended])),
    }
}

fn tell(number: u64, text: &[u8], each: &mut dyn FnMut(u64, Option<&str>, &Destination)) {
    match line::parse(text) {
        Ok(Parsed::Record(record)) => {
            if let Some(destination) = destination(&record) {
                each(number, Some(workload_of(&record)), &destination);
            }
        }
        Ok(Parsed::Destination(line)) => {
            each(number, line.workload.as_deref(), &line.destination);
        }
        Ok(Parsed::Told(Told::Sighting(seen))) => {
            each(number, seen.workload.as_deref(), &seen.destination);
        }
        // They tell of no destination.
        Ok(Parsed::Told(_) | Parsed::UnknownType) | Err(_) => {}
    }
}

fn destination(record: &Record) -> Option<Destination> {
    let Record::Flow(entry) = record else {
        return None;
    };
    let flow = &*entry.body;
    Some(Destination {
        ip: flow.dest_ip?,
        service: observe::service(flow.protocol, flow.dest_port)?,
    })
}
