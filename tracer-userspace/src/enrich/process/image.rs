//! What a process runs: executable, command line, working directory.

use super::meter::{Meter, Metered};
use crate::{decode::process::Program, record::Process};

/// A program as it was started. Shared by all that were forked from it.
#[derive(Debug)]
pub struct Image {
    pub comm: [u8; 16],
    exe: Option<Box<str>>,
    cwd: Option<Box<str>>,
    argv: Box<[u8]>,
    argv_cut: bool,
    _metered: Metered,
}

impl Image {
    #[must_use]
    pub fn new(program: Program, meter: &Meter) -> Self {
        let Program {
            comm,
            exe,
            cwd,
            argv,
            argv_cut,
        } = program;
        let text = exe.as_ref().map_or(0, String::len) + cwd.as_ref().map_or(0, String::len);
        Self {
            comm,
            exe: exe.map(String::into_boxed_str),
            cwd: cwd.map(String::into_boxed_str),
            _metered: meter.take(size_of::<Self>() + text + argv.len()),
            argv: argv.into_boxed_slice(),
            argv_cut,
        }
    }

    /// Whether it is the same program with the same arguments. The directory does not count: a
    /// process may have changed it since.
    #[must_use]
    pub fn runs(&self, program: &Program) -> bool {
        self.exe.as_deref() == program.exe.as_deref() && *self.argv == *program.argv
    }

    /// Fills the fields of a record that tell about the program.
    pub fn describe(&self, process: &mut Process) {
        process.exe = self.exe();
        process.cwd = self.cwd.as_deref().map(str::to_owned);
        (process.cmdline, process.cmdline_cut) = self.cmdline(usize::MAX);
    }

    #[must_use]
    pub fn exe(&self) -> Option<String> {
        self.exe.as_deref().map(str::to_owned)
    }

    /// The first `limit` bytes of the command line, and whether there is more of it.
    #[must_use]
    pub fn cmdline(&self, limit: usize) -> (Vec<String>, bool) {
        let kept = &self.argv[..self.argv.len().min(limit)];
        let text = kept.strip_suffix(b"\0").unwrap_or(kept);
        let is_cut = self.argv_cut || kept.len() < self.argv.len();
        if kept.is_empty() {
            return (Vec::new(), is_cut);
        }
        let words = text
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned());
        (words.collect(), is_cut)
    }
}

/// A `comm` up to its first NUL.
#[must_use]
pub fn comm_text(comm: &[u8; 16]) -> String {
    let text = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(argv: &[u8], meter: &Meter) -> Image {
        let argv = argv.to_vec();
        Image::new(
            Program {
                argv,
                ..Program::default()
            },
            meter,
        )
    }

    #[test]
    fn arguments_may_be_empty_strange_and_cut() {
        let meter = Meter::default();
        assert_eq!(image(b"", &meter).cmdline(9), (vec![], false));
        let all = image(b"a\0\0\xff\n\0", &meter).cmdline(9);
        assert_eq!(
            all,
            (vec!["a".into(), String::new(), "\u{fffd}\n".into()], false)
        );
        let cut = image(b"abc\0def\0", &meter).cmdline(5);
        assert_eq!(cut, (vec!["abc".into(), "d".into()], true));
    }

    #[test]
    fn its_bytes_are_counted_while_it_lives() {
        let meter = Meter::default();
        let image = image(&[b'a'; 4096], &meter);
        assert!(meter.bytes() > 4096);
        drop(image);
        assert_eq!(meter.bytes(), 0);
    }
}
