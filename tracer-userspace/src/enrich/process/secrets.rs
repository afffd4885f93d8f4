//! Hides the secrets in what a process runs, before it is kept.

use crate::{decode::process::Program, redact::Redactor};

/// The same program without its secrets. What is no UTF-8 is replaced, as it would be in a record.
pub(super) fn hide(program: Program, redactor: &Redactor) -> Program {
    let text = |text: String| redactor.text(&text).into_owned();
    Program {
        exe: program.exe.map(text),
        cwd: program.cwd.map(text),
        argv: arguments(&program.argv, program.argv_cut, redactor),
        ..program
    }
}

/// Arguments with a NUL after each, but for the last one of a line that is cut.
fn arguments(argv: &[u8], cut: bool, redactor: &Redactor) -> Vec<u8> {
    if argv.is_empty() {
        return Vec::new();
    }
    let text = argv.strip_suffix(b"\0").unwrap_or(argv);
    let words: Vec<String> = text
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let mut hidden = redactor.command_line(&words, cut).join("\0").into_bytes();
    hidden.extend(&argv[text.len()..]);
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(argv: &[u8], cut: bool) -> Vec<u8> {
        arguments(argv, cut, &Redactor::default())
    }

    #[test]
    fn arguments_keep_their_ends() {
        assert_eq!(hidden(b"", false), b"");
        assert_eq!(hidden(b"a\0\0b\0", false), b"a\0\0b\0");
        assert_eq!(hidden(b"\0", false), b"\0");
        assert_eq!(hidden(b"a\0bc", true), b"a\0bc");
        assert_eq!(
            hidden(b"a\0--token\0x\0", false),
            b"a\0--token\0[redacted]\0"
        );
    }
}
