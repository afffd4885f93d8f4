//! The compact file of published cloud ranges: where it lies, and reading it.

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::{
    policy::model::Policy,
    ranges::{Ranges, RangesError},
};

/// Where the file lies unless a flag or this variable says otherwise.
pub const VARIABLE: &str = "EGRESS_TRACER_RANGES";
pub const DEFAULT_FILE: &str = "/var/lib/egress-tracer/ranges.zst";
/// More than all published lists together, many times over.
const MAX_BYTES: u64 = 256 << 20;

/// Why there are no ranges.
#[derive(Debug, thiserror::Error)]
pub enum RangesFileError {
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error("{path}: {error}")]
    Content { path: PathBuf, error: RangesError },
}

/// The ranges of `path`, or of the usual place, where there need not be any.
pub fn load(path: Option<&Path>) -> Result<Ranges, RangesFileError> {
    let named = path
        .map(Path::to_owned)
        .or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| DEFAULT_FILE.into());
    match read(&path) {
        Ok(text) => Ranges::parse(&text).map_err(|error| RangesFileError::Content { path, error }),
        Err(error) if !is_named && error.kind() == io::ErrorKind::NotFound => Ok(Ranges::default()),
        Err(error) => Err(RangesFileError::Read { path, error }),
    }
}

/// The same if one of the policies speaks of published ranges, else none.
pub fn load_for<'p>(
    policies: impl IntoIterator<Item = &'p Policy>,
    path: Option<&Path>,
) -> Result<Ranges, RangesFileError> {
    match policies.into_iter().any(Policy::has_ranges) {
        true => load(path),
        false => Ok(Ranges::default()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let packed = fs::read(path)?;
    let mut text = String::new();
    zstd::Decoder::new(packed.as_slice())?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}
