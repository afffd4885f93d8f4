//! Files that appear whole or not at all.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {error}", path = path.display())]
pub struct WriteError {
    pub path: PathBuf,
    pub error: io::Error,
}

/// Writes a set of files into `directory`, which is made if need be. Nothing is replaced before
/// every text is on disk, and a file that says the same already is left alone.
pub fn write_all(directory: &Path, files: &[(&str, &str)]) -> Result<(), WriteError> {
    make_directory(directory).map_err(failed(directory))?;
    let mut staged = Vec::with_capacity(files.len());
    for (name, text) in files {
        staged.extend(stage(&directory.join(name), text.as_bytes())?);
    }
    staged.into_iter().try_for_each(Staged::publish)
}

/// Writes one file. What is no regular file (a pipe, a device) is written to as it is.
pub fn write(path: &Path, text: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), WriteError> {
    let text = text.as_ref();
    if is_special(path) {
        return fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(text))
            .map_err(failed(path));
    }
    match stage(path, text)? {
        Some(staged) => staged.publish(),
        None => Ok(()),
    }
}

/// Whether `path` is there and is neither a file nor a directory.
#[must_use]
pub fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Makes a directory that only its owner and group can look into, and those above it.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o750);
    builder.create(directory)
}

/// A text on disk beside the file that it will replace.
struct Staged {
    file: NamedTempFile,
    target: PathBuf,
}

impl Staged {
    fn publish(self) -> Result<(), WriteError> {
        let Self { file, target } = self;
        match file.persist(&target) {
            Ok(_) => Ok(()),
            Err(kept) => Err(WriteError {
                path: target,
                error: kept.error,
            }),
        }
    }
}

/// `None` if the file says the same already.
fn stage(path: &Path, text: &[u8]) -> Result<Option<Staged>, WriteError> {
    // A link stays a link: what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::read(&target).is_ok_and(|old| old == text) {
        return Ok(None);
    }
    let directory = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let staged = NamedTempFile::new_in(directory).and_then(|mut file| {
        file.write_all(text)?;
        set_mode(&file, &target)?;
        file.as_file().sync_all()?;
        Ok(file)
    });
    match staged {
        Ok(file) => Ok(Some(Staged { file, target })),
        Err(error) => Err(WriteError {
            path: path.to_owned(),
            error,
        }),
    }
}

/// A replaced file keeps its mode; a new one is for its owner and group.
#[cfg(unix)]
fn set_mode(file: &NamedTempFile, target: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(target).map_or(0o640, |old| old.permissions().mode() & 0o777);
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_file: &NamedTempFile, _target: &Path) -> io::Result<()> {
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |error| WriteError { path, error }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_and_nothing_else_is_left() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        write_all(&directory, &[("one", "1"), ("two", "2")]).unwrap();
        write_all(&directory, &[("one", "3"), ("two", "2")]).unwrap();
        assert_eq!(fs::read_to_string(directory.join("one")).unwrap(), "3");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_sane_and_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d");
        write_all(&directory, &[("one", "1")]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.join("one")), 0o640);
        assert_eq!(mode(&directory) & !0o750, 0);
        fs::set_permissions(directory.join("one"), fs::Permissions::from_mode(0o600)).unwrap();
        write(&directory.join("one"), "2").unwrap();
        assert_eq!(mode(&directory.join("one")), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        fs::write(&file, "1").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, "2").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "2");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn an_error_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("missing/file");
        let error = write(&path, "").unwrap_err().to_string();
        assert!(error.contains("missing/file"), "{error}");
    }
}
