//! Which characters steer a terminal or reorder what is read, and JSON without them.

use serde::Serialize;

const DELETE: u8 = 0x7f;

/// Control characters, line and paragraph separators, bidirectional controls and other invisible
/// characters.
#[must_use]
pub fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// One line of JSON, in which what steers is spelled out.
///
/// # Errors
/// What serde says.
pub fn json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string(value).map(spelled_out)
}

/// The same over several lines, for people.
///
/// # Errors
/// What serde says.
pub fn pretty_json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(spelled_out)
}

/// serde_json spells out no more than JSON demands. Whatever is left is in a string, but for the
/// newlines between them.
fn spelled_out(json: String) -> String {
    // Of ASCII, serde_json leaves one that steers; the log is written a million lines at a time.
    if json.is_ascii() && memchr::memchr(DELETE, json.as_bytes()).is_none() {
        return json;
    }
    let is_left = |character: char| steers(character) && character != '\n';
    if !json.contains(is_left) {
        return json;
    }
    let mut units = [0; 2];
    let mut text = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_left(character) {
            for unit in character.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_is_left_and_nothing_is_lost() {
        let hostile = "a\u{1b}[31m\n\u{7f}\u{9b}\u{202e}\u{e0041}\"\\ü世";
        for text in [json(&hostile).unwrap(), pretty_json(&hostile).unwrap()] {
            assert!(!text.contains(steers), "{text:?}");
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        assert_eq!(json(&"Grüße, 世界").unwrap(), "\"Grüße, 世界\"");
        assert_eq!(pretty_json(&[1]).unwrap(), "[\n  1\n]");
    }
}
