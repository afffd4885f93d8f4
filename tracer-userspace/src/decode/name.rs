//! Names as they are on the wire, made fit to be compared and kept: lower case, no bytes but
//! visible ASCII.

/// Nothing longer is a host name (RFC 1035 section 2.3.4).
pub const MAX_HOST: usize = 255;

/// A DNS name from its labels, without the root's dot; the root itself is `.`.
///
/// Escaped as in RFC 1035 section 5.1: `\.` and `\\` inside a label, `\DDD` for any byte that is not
/// visible ASCII. So two different names never become one, but for the case of letters.
#[must_use]
pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> String {
    let mut name = String::new();
    for label in labels {
        if !name.is_empty() {
            name.push('.');
        }
        for &byte in label {
            if matches!(byte, b'.' | b'\\') {
                name.push('\\');
            }
            push(byte, &mut name);
        }
    }
    if name.is_empty() {
        name.push('.');
    }
    name
}

/// A host name that a protocol carries as text, such as an SNI. A dot at the end means nothing.
/// `None` if it is empty or too long to be one.
#[must_use]
pub fn from_text(text: &[u8]) -> Option<String> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() || text.len() > MAX_HOST {
        return None;
    }
    let mut name = String::with_capacity(text.len());
    for &byte in text {
        if byte == b'\\' {
            name.push('\\');
        }
        push(byte, &mut name);
    }
    Some(name)
}

fn push(byte: u8, name: &mut String) {
    if byte.is_ascii_graphic() {
        name.push(char::from(byte.to_ascii_lowercase()));
    } else {
        name.push_str(&format!("\\{byte:03}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_visible_is_spelled_out() {
        let labels: [&[u8]; 3] = [b"Ex.a\\mple", b"\x1b[31m\xff", b"com"];
        assert_eq!(
            from_labels(labels.into_iter()),
            "ex\\.a\\\\mple.\\027[31m\\255.com"
        );
        assert_eq!(from_labels([].into_iter()), ".");
        assert_eq!(from_text(b"Example.COM.").as_deref(), Some("example.com"));
        assert_eq!(from_text(b"a b\n").as_deref(), Some("a\\032b\\010"));
        assert_eq!(from_text(b"."), None);
        assert_eq!(from_text(&[b'a'; 256]), None);
    }
}
