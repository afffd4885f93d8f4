//! Words for a terminal. Logs and policies hold what workloads chose to write.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use crate::harmless::steers;

/// Writes data to standard output. A reader that has gone away wants no more: that is no error.
pub fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Tells people something on standard error, in one line. Nobody may be listening.
pub fn tell(message: &str) {
    let _ = writeln!(io::stderr().lock(), "egress-tracer: {}", escape(message));
}

/// `text` with everything that could steer a terminal, or reorder what is read, spelled out.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "{}", character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(escape("a\u{1b}[31m\r\nb"), "a\\u{1b}[31m\\u{d}\\u{a}b");
        assert_eq!(escape("\u{9b}x\u{202e}"), "\\u{9b}x\\u{202e}");
        assert_eq!(escape("Grüße, 世界"), "Grüße, 世界");
    }
}
