//! What fuzzing calls of the importers. `fuzz/` has a target for each; the tests replay the seeds.

use std::{ops::ControlFlow, path::Path};

use crate::{
    import::{
        Input, Settings,
        capture::{self, Options},
        destination_line, import,
        line::{self, Parsed},
        plain::Scanner,
        tools::{self, Table, Tool},
    },
    ranges::Ranges,
};

/// A packet capture.
pub fn capture(bytes: &[u8]) {
    let summary = capture::read(bytes, &Options::default(), &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(summary.packets as usize <= bytes.len());
}

/// A log of any kind, line by line.
pub fn lines(bytes: &[u8]) {
    let mut table = Table::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let parsed = table
            .parse(line)
            .unwrap_or_else(|| line::parse(line).map(|parsed| told(line, parsed)));
        if let Err(reason) = parsed {
            assert!(!reason.is_empty() && reason.len() < 1000, "{reason}");
        }
    }
}

/// What the quick reader understands, the slow one understands alike.
fn told(line: &[u8], parsed: Parsed) -> tools::Told {
    match parsed {
        Parsed::Told(told) => told,
        Parsed::Destination(slow) => {
            if let Some(quick) = Scanner::default().scan(line) {
                assert_eq!(quick.ip, slow.destination.ip);
                assert_eq!(quick.time, slow.time);
                assert_eq!(destination_line::parse(line), Ok(slow));
            }
            tools::Told::Nothing
        }
        Parsed::Record(_) | Parsed::UnknownType => tools::Told::Nothing,
    }
}

/// A line of Zeek's.
pub fn zeek(bytes: &[u8]) {
    tool(Tool::Zeek, bytes);
}

/// A line of Suricata's.
pub fn suricata(bytes: &[u8]) {
    tool(Tool::Suricata, bytes);
}

/// A line of Tetragon's.
pub fn tetragon(bytes: &[u8]) {
    tool(Tool::Tetragon, bytes);
}

/// A line of Inspektor Gadget's.
pub fn gadget(bytes: &[u8]) {
    tool(Tool::Gadget, bytes);
}

/// A line of Hubble's.
pub fn hubble(bytes: &[u8]) {
    tool(Tool::Hubble, bytes);
}

/// A line of CargoWall's.
pub fn cargowall(bytes: &[u8]) {
    tool(Tool::CargoWall, bytes);
}

fn tool(tool: Tool, bytes: &[u8]) {
    if let Err(reason) = tools::parse(tool, bytes) {
        assert!(!reason.is_empty() && reason.len() < 1000, "{reason}");
    }
}

/// A whole file, packed or not, from recognising it to its candidates.
///
/// # Panics
/// Reading panics, or the candidates cannot be made.
pub fn file(bytes: &[u8], path: &Path) {
    if std::fs::write(path, bytes).is_err() {
        return;
    }
    let inputs = [Input::File(path.to_owned())];
    let Ok(imported) = import(&inputs, &Settings::default()) else {
        return;
    };
    for observations in imported.workloads.resolve().values() {
        let made = crate::policy::candidates(observations, None, &Ranges::default());
        assert!(made.is_ok(), "{made:?}");
    }
}
