//! Several policies at a place: one file, or a directory with a policy for each workload.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::policy_file::PolicyFile;

/// By workload. In a directory those are `*.toml` and, one folder deeper, `policy.toml`; what
/// another one includes is its base, and no policy of its own.
pub(super) fn read(
    place: &Path,
    ranges: Option<&Path>,
) -> anyhow::Result<BTreeMap<String, PolicyFile>> {
    let files = files(place)?
        .iter()
        .map(|path| PolicyFile::read(path, ranges))
        .collect::<anyhow::Result<Vec<PolicyFile>>>()?;
    let bases: BTreeSet<PathBuf> = files.iter().flat_map(bases).collect();
    let mut policies = BTreeMap::new();
    for file in files {
        if fs::canonicalize(&file.path).is_ok_and(|path| bases.contains(&path)) {
            continue;
        }
        let workload = file.policy.workload.clone();
        let path = file.path.clone();
        if let Some(other) = policies.insert(workload.clone(), file) {
            bail!(
                "{} and {} are both for workload {workload}: keep one",
                other.path.display(),
                path.display()
            );
        }
    }
    Ok(policies)
}

/// Everything that [`read`] would read, sorted.
pub(super) fn files(place: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let unreadable = || format!("cannot read {}", place.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(place).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let inner = path.join("policy.toml");
        if path.is_dir() && inner.is_file() {
            found.push(inner);
        } else if path.extension().is_some_and(|end| end == "toml") && path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("{} holds no policy", place.display());
    }
    found.sort();
    Ok(found)
}

/// What tells whether a file has changed: its size and when it was written.
#[cfg(feature = "capture")]
pub(super) type State = Vec<(PathBuf, u64, Option<std::time::SystemTime>)>;

/// The state of everything that [`read`] would read.
#[cfg(feature = "capture")]
pub(super) fn state(place: &Path) -> State {
    let state = |path: PathBuf| -> std::io::Result<_> {
        let found = fs::metadata(&path)?;
        Ok((path, found.len(), found.modified().ok()))
    };
    let all = files(place).unwrap_or_default();
    all.into_iter()
        .filter_map(|path| state(path).ok())
        .collect()
}

fn bases(file: &PolicyFile) -> Vec<PathBuf> {
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let names = file.policy.include.iter();
    names
        .filter_map(|name| fs::canonicalize(folder.join(name)).ok())
        .collect()
}
