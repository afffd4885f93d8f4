//! What a workload, or a tool, is called on disk: `[A-Za-z0-9._-]`, other bytes as `%XX`.

use sha2::{Digest, Sha256};

/// Longer encodings are cut here and told apart by a digest.
const MAX_BYTES: usize = 100;

/// The file name of a workload. Two workloads never share one: `%` and `~` are encoded themselves,
/// so an encoded byte or a digest cannot be spelled by a name.
#[must_use]
pub fn encode(name: &str) -> String {
    if name.is_empty() {
        // A lone % is no encoded byte, so no other name encodes to it.
        return "%".to_owned();
    }
    let mut encoded = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let piece = encode_byte(byte, index == 0);
        if encoded.len() + piece.len() > MAX_BYTES {
            let digest = Sha256::digest(name.as_bytes());
            let [a, b, c, d, ..]: [u8; 32] = digest.into();
            return format!("{encoded}~{a:02x}{b:02x}{c:02x}{d:02x}");
        }
        encoded.push_str(&piece);
    }
    encoded
}

/// What the cgroup is called in which a tool's commands run, below that of its agent: no tool's name
/// is one of the kernel's own files there.
#[must_use]
pub fn tool_cgroup(tool: &str) -> String {
    format!("tool-{}", encode(tool))
}

fn encode_byte(byte: u8, first: bool) -> String {
    match byte {
        b'.' if first => "%2E".to_owned(),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in ["shop_agent", "a.b-C9", &"x".repeat(100)] {
            assert_eq!(encode(name), name);
        }
    }

    #[test]
    fn other_bytes_are_spelled_out() {
        assert_eq!(encode(".."), "%2E.");
        assert_eq!(encode("a/b %"), "a%2Fb%20%25");
        assert_eq!(encode("é\0"), "%C3%A9%00");
        assert_eq!(encode(""), "%");
    }

    #[test]
    fn a_long_name_ends_in_its_digest_and_no_name_can_spell_it() {
        let long = encode(&"x".repeat(101));
        assert_eq!(long.len(), 109);
        assert!(long.starts_with(&"x".repeat(100)));
        assert_ne!(encode(&long), long);
        // A cut never leaves half an encoded byte.
        let cut = encode(&format!("{}/", "x".repeat(98)));
        assert_eq!(cut.find('~'), Some(98));
    }

    /// Alphabets in which collisions would show: what is kept, what is encoded, and what encodings
    /// are made of.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a%~2Ef./]{0,6}",
            "\\PC{0,8}",
            "[x%/]{95,110}",
            "[x~0-9a-f]{100,112}"
        ]
    }

    proptest! {
        #[test]
        fn two_names_never_become_one(one in name(), other in name()) {
            prop_assert_eq!(encode(&one) == encode(&other), one == other);
        }

        #[test]
        fn an_encoding_is_one_safe_file_name(name in name()) {
            let encoded = encode(&name);
            prop_assert!(!encoded.is_empty() && encoded.len() <= 109 && !encoded.starts_with('.'));
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-%~".contains(&byte);
            prop_assert!(encoded.bytes().all(safe));
        }
    }
}
