//! Secrets that are known by the name before them: assignments, JSON, headers, query strings.

use std::borrow::Cow;

use regex::Captures;

use super::{Lazy, MARK, pattern};

/// Words in a name whose value is a secret.
const NAMES: &str = "passw(?:or)?d|passwort|passphrase|passcode|pwd|pass|secret|token|api[-_.]?key|\
    access[-_.]?key|account[-_.]?key|shared[-_.]?key|private[-_.]?key|signing[-_.]?key|\
    encryption[-_.]?key|master[-_.]?key|license[-_.]?key|auth[-_.]?key|authorization|credential|\
    cookie|session[-_.]?id|bearer|signature|jwt|otp|dsn|connection[-_.]?string|webhook|pat";

/// A name, as the whole of a word.
static NAME: Lazy = Lazy::new(|| {
    pattern(&format!(
        "(?i)^(?:.*[-_.])?(?:{NAMES}|auth|sig|creds)s?(?:[-_.](?:value|text|base64|b64|string|data|id))?$|(?i)(?:password|passwd|secret|apikey|accesskey|authtoken|token)$|^[A-Z][A-Z0-9_]*_KEY$"
    ))
});

/// `name=value`, `name: value`, `"name": "value"` anywhere in a text; the value ends with its
/// quotes, a blank or an ampersand.
static ASSIGNMENT: Lazy = Lazy::new(|| {
    pattern(&format!(
        r#"(?i)((?:^|[^A-Za-z0-9])(?:[A-Za-z0-9.-]*[A-Za-z0-9_.-]*)?(?:{NAMES}|[?&;]sig|[?&;]key|[A-Za-z0-9]_key)[A-Za-z0-9_.-]*\\?["']?\s*(?:=|:=|:|%3[Dd])\s*)(\\?"[^"]*"?|'[^']*'?|(?:(?:bearer|basic|token|digest|negotiate)\s+)?[^\s&"']+)"#
    ))
});

/// A header whose whole value is secret: it ends with the line or the quotes around it.
static HEADER: Lazy = Lazy::new(|| {
    pattern(
        r#"(?i)((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z0-9-]*(?:key|token|secret|auth|signature)[a-z0-9-]*)(\s*:\s*)[^"'\r\n]+"#,
    )
});

/// What HTTP's schemes are followed by (RFC 9110 section 11), wherever it stands.
static SCHEME: Lazy = Lazy::new(|| pattern(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}"));

/// Whether a word, without the dashes of a flag, names a secret.
pub(super) fn is_secret(name: &str) -> bool {
    NAME.is_match(name)
}

/// Hides every value in `text` that a name gives away.
pub(super) fn hide(text: &str) -> Cow<'_, str> {
    // Whatever gives a name away has one of these.
    if !text.contains(['=', ':', ' ', '%']) {
        return Cow::Borrowed(text);
    }
    if let Some(hidden) = whole(text) {
        return Cow::Owned(hidden);
    }
    let hidden = HEADER.replace_all(text, format!("${{1}}${{2}}{MARK}"));
    let hidden = super::then(hidden, |text| ASSIGNMENT.replace_all(text, assignment));
    super::then(hidden, |text| {
        SCHEME.replace_all(text, format!("${{1}}${{2}}{MARK}"))
    })
}

/// `NAME=value` or `--name=value` as the whole of an argument: the value may hold anything. One
/// that begins with a quote is a shell's text, which goes on after it.
fn whole(text: &str) -> Option<String> {
    let (name, value) = text.split_once('=')?;
    let bare = name.trim_start_matches('-');
    let is_word = !bare.is_empty()
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let is_value = !value.is_empty() && !value.starts_with(['"', '\'']);
    (is_word && is_value && is_secret(bare)).then(|| format!("{name}={MARK}"))
}

fn assignment(found: &Captures<'_>) -> String {
    let (name, value) = (&found[1], &found[2]);
    let quote = value.trim_start_matches('\\').chars().next();
    match quote.filter(|quote| ['"', '\''].contains(quote)) {
        Some(quote) => format!("{name}{quote}{MARK}{quote}"),
        None => format!("{name}{MARK}"),
    }
}
