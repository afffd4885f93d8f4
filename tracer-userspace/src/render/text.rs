//! Makes text from elsewhere inert: the one place where it is escaped.

/// The longest comment: nft takes 128 bytes, iptables 255.
const MAX_COMMENT: usize = 120;
/// The longest log prefix: NFLOG takes 63 bytes, nft 127.
const MAX_PREFIX: usize = 60;
/// The longest line of a header: old iptables-restore reads 10,240 bytes a line.
const MAX_LINE: usize = 1000;
const CUT: &str = "...";

/// `text` fit for a quoted comment of any backend.
///
/// nft has no escape for a quote, and reads a backslash before a line break as a continuation: so
/// whatever is not printable ASCII, and these two, become `?`.
pub(super) fn comment(text: &str) -> String {
    limited(text.trim(), MAX_COMMENT)
}

/// `text` fit for one line behind a `#`.
pub(super) fn line(text: &str) -> String {
    limited(text.trim(), MAX_LINE)
}

/// What a log reader sees before each packet, with the final space that keeps it apart.
///
/// Only what workload names are made of stays: nft replaces `$name` in a prefix, quoted or not.
pub(super) fn log_prefix(verdict: &str, workload: &str) -> String {
    let name_char = |each: char| {
        let plain = each.is_ascii_alphanumeric() || "._-%~".contains(each);
        if plain { each } else { '?' }
    };
    let name: String = workload.trim().chars().map(name_char).collect();
    limited(&format!("egress-tracer {verdict} {name}"), MAX_PREFIX) + " "
}

/// `text` as one word of a shell command that a person may copy.
pub(super) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn limited(text: &str, max: usize) -> String {
    let plain: String = text.chars().map(plain_char).collect();
    if plain.len() <= max {
        return plain;
    }
    // Every character is one byte by now.
    plain
        .chars()
        .take(max - CUT.len())
        .chain(CUT.chars())
        .collect()
}

fn plain_char(each: char) -> char {
    match each {
        '"' | '\\' => '?',
        ' '..='~' => each,
        '\0'..='\u{1f}' | '\u{7f}'..=char::MAX => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_comment_is_inert() {
        assert_eq!(comment("\"; flush ruleset; \""), "?; flush ruleset; ?");
        assert_eq!(comment("a\nadd rule x\\"), "a?add rule x?");
        assert_eq!(comment("\u{202e}é\0"), "???");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        let cut = comment(&"é".repeat(200));
        assert_eq!(cut.len(), MAX_COMMENT);
        assert!(cut.ends_with("?..."));
        assert!(log_prefix("drop", &"w".repeat(200)).len() <= 63);
    }

    #[test]
    fn a_log_prefix_has_nothing_to_expand() {
        assert_eq!(
            log_prefix("log", "$shop agent"),
            "egress-tracer log ?shop?agent "
        );
    }

    #[test]
    fn shell_words_stay_one_word() {
        assert_eq!(shell_word("/a'b$(id)"), r"'/a'\''b$(id)'");
    }
}
