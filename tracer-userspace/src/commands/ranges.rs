//! `ranges update`: the clouds' published prefixes, in one compact file.

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};

use crate::{
    output::{files, terminal},
    ranges::{self, Ranges},
};

/// Where the file lies unless --ranges or this variable says otherwise.
const VARIABLE: &str = "EGRESS_TRACER_RANGES";
const DEFAULT_FILE: &str = "/var/lib/egress-tracer/ranges.zst";
/// More than all published lists together, many times over.
const MAX_BYTES: u64 = 256 << 20;

const EXAMPLES: &str = "\
Example:
  curl -O https://ip-ranges.amazonaws.com/ip-ranges.json
  curl -O https://www.gstatic.com/ipranges/cloud.json
  egress-tracer ranges update ip-ranges.json cloud.json -o ranges.zst
  egress-tracer policy list policy.toml --ranges ranges.zst";

/// Published cloud prefixes, for labels on a policy's entries.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub struct RangesArgs {
    #[command(subcommand)]
    verb: RangesVerb,
}

#[derive(Debug, Subcommand)]
enum RangesVerb {
    Update(Update),
}

/// Make one compact file of the providers' files, as they were downloaded
///
/// Knows AWS, Azure, Cloudflare, Fastly, GitHub, Google Cloud and Oracle. Nothing is downloaded. The
/// new file holds what these files say, and nothing of an earlier one.
#[derive(Debug, Args)]
struct Update {
    /// The providers' files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The compact file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    output: PathBuf,
}

pub(super) fn ranges(arguments: &RangesArgs) -> anyhow::Result<()> {
    match &arguments.verb {
        RangesVerb::Update(update) => make(update),
    }
}

fn make(arguments: &Update) -> anyhow::Result<()> {
    let mut lists = Vec::new();
    for path in &arguments.files {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let list = ranges::read(&text).with_context(|| path.display().to_string())?;
        let (provider, count) = (list.provider, list.ranges.len());
        terminal::tell(&format!("{}: {provider}, {count} range(s)", path.display()));
        let digest = Sha256::digest(text.as_bytes());
        lists.push((
            list,
            digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ));
    }
    let made = Ranges::new(&lists);
    let packed = zstd::encode_all(made.to_text().as_bytes(), 19).context("cannot pack")?;
    files::write(&arguments.output, &packed)?;
    let (path, count) = (arguments.output.display(), made.len());
    terminal::tell(&format!(
        "{path}: {count} network(s), {} bytes",
        packed.len()
    ));
    Ok(())
}

/// The ranges of `path`, or of the usual place, where there need not be any.
pub(super) fn load(path: Option<&Path>) -> anyhow::Result<Ranges> {
    let named = path
        .map(Path::to_owned)
        .or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
    let file = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let packed = match fs::read(&file) {
        Ok(packed) => packed,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Ranges::default());
        }
        Err(error) => bail!("cannot read {}: {error}", file.display()),
    };
    let place = || file.display().to_string();
    let unpacked = zstd::Decoder::new(packed.as_slice()).with_context(place)?;
    let mut text = String::new();
    unpacked
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .with_context(place)?;
    Ranges::parse(&text).with_context(place)
}
