//! `--findings`: the file of one's own findings and exceptions.

use std::{fs, path::Path};

use anyhow::Context as _;
use jiff::civil::Date;

use crate::{analysis::risk::own::Own, output::terminal};

/// What the file says on `today` (UTC); nothing without one. Exceptions that are over are told.
pub(super) fn load(path: Option<&Path>, today: Date) -> anyhow::Result<Own> {
    let Some(path) = path else {
        return Ok(Own::default());
    };
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let own: Own = text.parse().with_context(|| path.display().to_string())?;
    let (own, over) = own.on(today);
    for note in over {
        terminal::tell(&format!("note: {}: {note}", path.display()));
    }
    Ok(own)
}
