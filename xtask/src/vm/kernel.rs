//! Where kernels come from: Debian's packages, or a file that somebody has.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::output;
use crate::setup;

/// A kernel to boot.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As it calls itself, or its file is called.
    pub(crate) name: String,
    pub(crate) image: PathBuf,
    /// The folder of its modules, `lib/modules/RELEASE`, where it has some.
    pub(crate) modules: Option<PathBuf>,
}

/// The kernel that `word` names: a file, or a series of Debian's, which is fetched into `folder`
/// unless a package of it is there.
pub(crate) fn find(word: &str, folder: &Path) -> Result<Kernel> {
    let path = Path::new(word);
    if path.extension().is_some_and(|suffix| suffix == "deb") {
        return unpack(path, folder);
    }
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Ok(Kernel {
            name: name.into_owned(),
            image: path.to_owned(),
            modules: None,
        });
    }
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        bail!("{word} is neither a file nor a kernel's series like 6.1");
    }
    let package = match fetched(word, folder)? {
        Some(package) => package,
        None => fetch(word, folder)?,
    };
    unpack(&package, folder)
}

/// The newest package of a series that is there.
fn fetched(series: &str, folder: &Path) -> Result<Option<PathBuf>> {
    let stem = format!("linux-image-{series}.");
    let mut packages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&stem) && name.ends_with("_amd64.deb") {
            packages.push(name);
        }
    }
    packages.sort_by_key(|name| numbers(name));
    Ok(packages.pop().map(|name| folder.join(name)))
}

fn fetch(series: &str, folder: &Path) -> Result<PathBuf> {
    let name = match newest(series) {
        Some(name) => name,
        None => {
            setup::update_lists()?;
            newest(series).with_context(|| format!("Debian has no cloud kernel {series} here"))?
        }
    };
    eprintln!("vm: fetching {name}");
    output(
        Command::new("apt-get")
            .args(["download", "-qq", &name])
            .current_dir(folder),
    )?;
    fetched(series, folder)?.with_context(|| format!("{name} was not fetched"))
}

/// The name of the newest package of a series.
fn newest(series: &str) -> Option<String> {
    let escaped = series.replace('.', "\\.");
    let pattern = format!("^linux-image-{escaped}\\.[0-9][-.+a-z0-9]*-cloud-amd64$");
    let found =
        output(Command::new("apt-cache").args(["search", "--names-only", &pattern])).ok()?;
    let names = found.lines().filter_map(|line| line.split(' ').next());
    names.max_by_key(|name| numbers(name)).map(str::to_owned)
}

/// The numbers in a name, in order, so that 6.1.0-9 comes before 6.1.0-10.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn unpack(package: &Path, folder: &Path) -> Result<Kernel> {
    let stem = package.file_stem().context("a package without a name")?;
    let tree = folder.join(stem);
    if !tree.is_dir() {
        output(Command::new("dpkg").arg("-x").args([package, &tree]))?;
    }
    let image = only(&tree.join("boot"), "vmlinuz-")?;
    let release = image.file_name().unwrap_or_default().to_string_lossy();
    let release = release.trim_start_matches("vmlinuz-").to_owned();
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|place| tree.join(place).join(&release))
        .into_iter()
        .find(|place| place.is_dir());
    Ok(Kernel {
        name: release,
        image,
        modules,
    })
}

fn only(folder: &Path, stem: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(stem) {
            return Ok(entry.path());
        }
    }
    bail!("{} has no {stem}…", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_comes_after_nine() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-10-cloud-amd64",
        ];
        let newest = names.into_iter().max_by_key(|name| numbers(name));
        assert_eq!(newest, Some(names[1]));
    }
}
