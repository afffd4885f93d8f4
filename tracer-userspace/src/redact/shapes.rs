//! Secrets that are known by their own shape.

use std::borrow::Cow;

use regex::Captures;

use super::{Lazy, MARK, pattern};

/// Prefixes that providers give their tokens, and the characters that follow. The shapes are
/// those that the providers document for secret scanning.
const TOKENS: &[&str] = &[
    // Clouds: AWS access key ids, Google API keys and OAuth tokens, DigitalOcean, Databricks.
    r"(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}",
    r"AIza[0-9A-Za-z_-]{20,}",
    r"ya29\.[0-9A-Za-z_-]{16,}",
    r"GOCSPX-[0-9A-Za-z_-]{16,}",
    r"do[opr]_v1_[a-f0-9]{32,}",
    r"dapi[a-f0-9]{32,}",
    // Code hosts and package registries.
    r"gh[opsur]_[A-Za-z0-9]{16,}",
    r"github_pat_[A-Za-z0-9_]{16,}",
    r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|oas|soat)-[A-Za-z0-9_.-]{16,}",
    r"npm_[A-Za-z0-9]{20,}",
    r"pypi-[A-Za-z0-9_-]{16,}",
    r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{16,}",
    // Model providers: OpenAI, Anthropic and OpenRouter share sk-; LangSmith traces them all.
    r"sk-[A-Za-z0-9_-]{16,}",
    r"(?:hf|gsk|r8|fw|nvapi|tgp_v1|pplx|xai|csk|co)[_-][A-Za-z0-9_-]{20,}",
    r"lsv2_[a-z]{2}_[A-Za-z0-9_]{16,}",
    // Services.
    r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{8,}",
    r"xapp-[A-Za-z0-9-]{8,}",
    r"(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}",
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"SK[0-9a-f]{32}",
    r"key-[0-9a-z]{32}",
    r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
    r"hv[bsr]\.[A-Za-z0-9_-]{16,}",
    r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{16,}",
    r"(?:lin_api|ntn|secret|glsa|glc|sntrys|tskey-[a-z]+|dp\.pt|rubygems|NRAK)[_.-][A-Za-z0-9_=.-]{20,}",
    r"[0-9]{8,10}:[A-Za-z0-9_-]{35}",
    r"AGE-SECRET-KEY-1[0-9A-Z]{20,}",
    // JSON Web Tokens (RFC 7519): base64url of `{"`, twice.
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    // Private keys (RFC 7468), to their end or the text's.
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*-----|$)",
];

static TOKEN: Lazy = Lazy::new(|| pattern(&format!("(?:{})", TOKENS.join("|"))));

/// The beginning of a token, where the text was cut.
static BEGINNING: Lazy = Lazy::new(|| {
    pattern(
        r"(?:AKIA|ASIA|AIza|ya29\.|gh[opsur]_|github_pat_|glpat-|npm_|pypi-|dckr_|sk[-_]|rk_|hf_|gsk_|xox|eyJ|-----BEGIN|hvs\.|SG\.|lsv2_)[^\s]*$|://[^\s/@:]*:[^\s@/]*$",
    )
});

/// `scheme://user:password@`, or a token alone: RFC 3986 section 3.2.1. The second form is for
/// passwords that hold a slash.
static USERINFO: Lazy = Lazy::new(|| {
    pattern(r#"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#"']*@|[^\s/?#@:"']*:[^\s0-9/"'][^\s"'@]*@)"#)
});

/// Slack's and Discord's incoming webhooks: whoever knows the path may post.
static WEBHOOK: Lazy = Lazy::new(|| {
    pattern(r#"(hooks\.slack\.com/(?:services|workflows)/|/api/webhooks/[0-9]+/)[^\s"'?]+"#)
});

/// A run of characters that may be random.
static RUN: Lazy = Lazy::new(|| pattern(r"[A-Za-z0-9_+=-]{24,}"));

/// Fewer distinct pairs of case changes and digits are found in words that people write.
const RANDOM_CHANGES: usize = 9;

/// Hides every secret that `text` shows by its shape.
pub(super) fn hide(text: &str) -> Cow<'_, str> {
    // Every shape is longer than this.
    if text.len() < 12 {
        return if text.contains('@') {
            USERINFO.replace_all(text, userinfo)
        } else {
            Cow::Borrowed(text)
        };
    }
    let hidden = TOKEN.replace_all(text, token);
    let hidden = super::then(hidden, |text| USERINFO.replace_all(text, userinfo));
    let hidden = super::then(hidden, |text| {
        WEBHOOK.replace_all(text, format!("${{1}}{MARK}"))
    });
    super::then(hidden, |text| RUN.replace_all(text, run))
}

/// Hides the beginning of a token at the end of a text that was cut.
pub(super) fn hide_beginning(text: &mut String) {
    if let Some(found) = BEGINNING.find(text) {
        text.replace_range(found.start().., MARK);
    }
}

/// A token has a digit or a capital after its prefix; `sk-learn-contrib-packages` has not.
fn token(found: &Captures<'_>) -> String {
    let text = &found[0];
    let is_random = text.starts_with("-----")
        || text
            .bytes()
            .skip(3)
            .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    if is_random { MARK } else { text }.to_owned()
}

fn userinfo(found: &Captures<'_>) -> String {
    format!("{}{MARK}@", &found[1])
}

fn run(found: &Captures<'_>) -> String {
    let text = &found[0];
    if is_random(text) { MARK } else { text }.to_owned()
}

/// Whether letters and digits are mixed as only chance mixes them: capitals, small letters and
/// digits that take turns. Hexadecimal digests, UUIDs and names of files do not.
fn is_random(text: &str) -> bool {
    let kind = |byte: u8| match byte {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        _other => 3,
    };
    let has = |wanted| text.bytes().any(|byte| kind(byte) == wanted);
    let changes = text
        .as_bytes()
        .windows(2)
        .filter(|pair| kind(pair[0]) != kind(pair[1]) && kind(pair[0]) < 3 && kind(pair[1]) < 3)
        .count();
    has(0) && has(1) && has(2) && changes >= RANDOM_CHANGES
}
