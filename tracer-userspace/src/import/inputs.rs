//! Which files the arguments mean: files, directories, patterns, and `-` for standard input.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::import::{ImportError, gathering};

/// One thing to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    Stdin,
    File(PathBuf),
}

impl Input {
    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The workload of lines that name none: the file's name without what tells its format.
    #[must_use]
    pub fn workload(&self) -> String {
        let Self::File(path) = self else {
            return "stdin".to_owned();
        };
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let unpacked = [".gz", ".zst"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let unpacked = unpacked.unwrap_or(&name);
        match unpacked.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
            Some(_) | None => unpacked.to_owned(),
        }
    }
}

/// The inputs that `arguments` mean, each of them once, in sorted order.
pub fn find(arguments: &[PathBuf]) -> Result<Vec<Input>, ImportError> {
    let mut found = BTreeSet::new();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            found.insert(Input::Stdin);
        } else if argument.exists() {
            add(argument, &mut found)?;
        } else {
            for path in matches(argument)? {
                add(&path, &mut found)?;
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn add(path: &Path, found: &mut BTreeSet<Input>) -> Result<(), ImportError> {
    if !path.is_dir() {
        // By its real path, so that two ways to one file are one input. A pipe, such as a shell's
        // <(…), may have none.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        found.insert(Input::File(real));
        return Ok(());
    }
    let before = found.len();
    let mut any = false;
    walk(path, &mut |file| {
        any = true;
        add(file, found)
    })?;
    if any || found.len() > before {
        return Ok(());
    }
    Err(ImportError::EmptyDirectory(path.display().to_string()))
}

/// Every log and capture below `directory`. Links to directories are not followed: they can form circles.
fn walk(
    directory: &Path,
    each: &mut impl FnMut(&Path) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).map_err(unreadable(&directory))? {
            let entry = entry.map_err(unreadable(&directory))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(unreadable(&path))?;
            if kind.is_dir() {
                waiting.push(path);
            } else if path.is_file() && is_log(&path)? {
                each(&path)?;
            }
        }
    }
    Ok(())
}

/// By its name; names that anything may have are believed only if the first line is known.
fn is_log(path: &Path) -> Result<bool, ImportError> {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.unwrap_or_default();
    let unpacked = [".gz", ".zst"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    let unpacked = unpacked.unwrap_or(&name);
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| unpacked.ends_with(suffix));
    if ends(&[".jsonl", ".pcap", ".pcapng"]) {
        return Ok(true);
    }
    if !ends(&[".log", ".json", ".ndjson"]) {
        return Ok(false);
    }
    let head = gathering::head(path).map_err(unreadable(path))?;
    Ok(gathering::is_known(&head))
}

/// What a pattern in quotes, which the shell did not expand, stands for.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let shown = pattern.display().to_string();
    let Some(text) = pattern
        .to_str()
        .filter(|text| text.contains(['*', '?', '[']))
    else {
        return Err(ImportError::NotFound(shown));
    };
    let paths = glob::glob(text)
        .map_err(|error| ImportError::Pattern(shown.clone(), error.msg.to_owned()))?
        .collect::<Result<Vec<PathBuf>, _>>()
        .map_err(|error| ImportError::Unreadable {
            path: error.path().display().to_string(),
            error: error.into(),
        })?;
    if paths.is_empty() {
        return Err(ImportError::NoMatch(shown));
    }
    Ok(paths)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.display().to_string();
    move |error| ImportError::Unreadable { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_workload() {
        let workload = |name: &str| Input::File(PathBuf::from(name)).workload();
        assert_eq!(workload("/logs/shop.jsonl"), "shop");
        assert_eq!(workload("shop.v2.jsonl.gz"), "shop.v2");
        assert_eq!(workload("conn.log.zst"), "conn");
        assert_eq!(workload("shop.pcapng.gz"), "shop");
        assert_eq!(workload(".jsonl"), ".jsonl");
        assert_eq!(workload("shop"), "shop");
        assert_eq!(Input::Stdin.workload(), "stdin");
    }
}
