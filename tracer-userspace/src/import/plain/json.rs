//! Flat JSON as far as it is usual: ASCII strings without escapes, numbers without exponents, words.
//! `None` wherever another reader has to look.

#[derive(Clone, Copy)]
pub(super) enum Value<'l> {
    Text(&'l [u8]),
    Number(&'l [u8]),
    Bool,
    Null,
}

/// Without the white space in front.
pub(super) fn space(bytes: &[u8]) -> &[u8] {
    match bytes.first() {
        Some(b' ' | b'\t' | b'\r' | b'\n') => bytes.trim_ascii_start(),
        Some(_) | None => bytes,
    }
}

/// A string and what follows it.
pub(super) fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = bytes.strip_prefix(b"\"")?;
    let end = unusual(inside)?;
    (inside[end] == b'"').then(|| (&inside[..end], &inside[end + 1..]))
}

/// Where the first byte is that is a quote, a backslash, a control character or not ASCII: eight
/// bytes at a time. A borrow can only make a false find above a true one.
fn unusual(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let zero = |word: u64| word.wrapping_sub(LOW) & !word;
    let mut at = 0;
    while let Some(word) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().ok()?);
        let quote = zero(word ^ (LOW * u64::from(b'"')));
        let backslash = zero(word ^ (LOW * u64::from(b'\\')));
        let control = word.wrapping_sub(LOW * 0x20) & !word;
        let found = (word | quote | backslash | control) & HIGH;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let is_unusual = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f..);
    bytes[at..]
        .iter()
        .position(is_unusual)
        .map(|more| at + more)
}

/// A string, number or word, and what follows it.
pub(super) fn value(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    if bytes.first() == Some(&b'"') {
        let (text, rest) = text(bytes)?;
        return Some((Value::Text(text), rest));
    }
    let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
    let (word, rest) = bytes.split_at(bytes.iter().position(is_end)?);
    let value = match word {
        b"true" | b"false" => Value::Bool,
        b"null" => Value::Null,
        number if is_number(number) => Value::Number(number),
        _other => return None,
    };
    Some((value, rest))
}

/// A number as JSON spells it, without an exponent.
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, fraction) = text.split_at(whole);
    let is_whole = matches!(whole, [b'0'] | [b'1'..=b'9', ..]);
    is_whole
        && match fraction {
            [] => true,
            [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
            _other => false,
        }
}
