//! The shape of names: which look random, and which look like data in DNS questions.

/// A label shorter than this says too little to be judged.
const SHORTEST: usize = 12;
/// From here on a label that is not made of words carries data rather than a hash.
const LONG_LABEL: usize = 40;
/// So many characters in labels below the parent are more than any service needs.
const LONG_PREFIX: usize = 52;

/// Whether a label of `name` looks random.
#[must_use]
pub fn is_high_entropy(name: &str) -> bool {
    below_parent(name).any(|label| label.len() >= 20 && is_random(label))
}

/// Whether `name` has the shape of data in DNS questions: a very long label, or several long
/// ones, that are not made of words.
#[must_use]
pub fn is_tunnelling(name: &str) -> bool {
    let random: Vec<usize> = below_parent(name)
        .filter(|label| label.len() >= SHORTEST && is_random(label))
        .map(str::len)
        .collect();
    let longest = random.iter().copied().max().unwrap_or(0);
    longest >= LONG_LABEL || random.iter().sum::<usize>() >= LONG_PREFIX
}

/// The labels but for the last two, which somebody has registered.
fn below_parent(name: &str) -> impl Iterator<Item = &str> {
    let labels = name.split('.').count();
    name.split('.').take(labels.saturating_sub(2))
}

/// Whether a label is none that a person would make: its letters are spread like noise, they do
/// not follow each other as in words, or digits are strewn among them.
fn is_random(label: &str) -> bool {
    let parts = label
        .split(['-', '_'])
        .filter(|part| part.len() >= SHORTEST);
    parts.into_iter().any(|part| noise(part) >= 2)
}

/// How many signs of noise a word has, of three.
fn noise(part: &str) -> u32 {
    let bytes = part.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let changes = bytes
        .windows(2)
        .filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit())
        .count();
    let strewn = digits > 0 && changes * 5 >= bytes.len();
    let spread = entropy(bytes) >= 3.0;
    let unlike_words = vowel_share(bytes) < 0.25 || longest_consonants(bytes) >= 5;
    u32::from(strewn) + u32::from(spread) + u32::from(unlike_words)
}

/// Shannon's entropy, in bits a byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "a name has at most 253 bytes")]
    let length = bytes.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / length;
            -share * share.log2()
        })
        .sum()
}

fn is_vowel(byte: u8) -> bool {
    b"aeiouy".contains(&byte.to_ascii_lowercase())
}

fn vowel_share(bytes: &[u8]) -> f64 {
    let count = |is: fn(u8) -> bool| bytes.iter().filter(|byte| is(**byte)).count();
    let (vowels, letters) = (count(is_vowel), count(|byte| byte.is_ascii_alphabetic()));
    #[expect(clippy::cast_precision_loss, reason = "a name has at most 253 bytes")]
    let share = vowels as f64 / letters.max(1) as f64;
    share
}

fn longest_consonants(bytes: &[u8]) -> usize {
    bytes
        .split(|byte| is_vowel(*byte) || !byte.is_ascii_alphabetic())
        .map(<[u8]>::len)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: &str = include_str!("../../../tests/samples/ordinary-names.txt");

    /// A generator that gives the same numbers each time (Knuth's MMIX constants).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap_or(0) % limit
        }

        fn text(&mut self, alphabet: &str, length: usize) -> String {
            let letters: Vec<char> = alphabet.chars().collect();
            (0..length)
                .map(|_| letters[self.below(letters.len())])
                .collect()
        }
    }

    const BASE32: &str = "abcdefghijklmnopqrstuvwxyz234567";
    const HEX: &str = "0123456789abcdef";
    const BASE36: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

    /// A name as a tunnelling tool makes it from data, by the tools' own sources: iodine (base32,
    /// labels of 57), dnscat2 (hex, labels of up to 62), dns2tcp (base32, then a sequence label),
    /// Cobalt Strike's beacon (hex in labels behind a short prefix), Sliver (base32 or base58),
    /// and scripts that send a file away in hex, 32 bytes a question.
    fn tunnelling(numbers: &mut Numbers, kind: usize) -> String {
        match kind {
            0 => format!(
                "0{}.{}.t.example.com",
                numbers.text(BASE32, 56),
                numbers.text(BASE32, 40)
            ),
            1 => format!(
                "{}.{}.example.net",
                numbers.text(HEX, 60),
                numbers.text(HEX, 26)
            ),
            2 => format!(
                "{}.{}.x.example.org",
                numbers.text(BASE32, 50),
                numbers.text(HEX, 4)
            ),
            3 => format!(
                "post.1{}.{}.{}.ns.example.com",
                numbers.text(HEX, 55),
                numbers.text(HEX, 32),
                numbers.text(HEX, 8)
            ),
            4 => format!("{}.c2.example.com", numbers.text(BASE36, 60)),
            _ => format!("{}.{}.example.com", numbers.text(HEX, 64).split_at(63).0, 7),
        }
    }

    #[test]
    fn ordinary_names_are_left_in_peace() {
        let names: Vec<&str> = ORDINARY
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert_eq!(names.len(), 1000);
        let is_odd = |name: &&&str| is_high_entropy(name) || is_tunnelling(name);
        let odd: Vec<&&str> = names.iter().filter(is_odd).collect();
        assert!(odd.len() <= 10, "{} of 1000: {odd:?}", odd.len());
    }

    #[test]
    fn tunnelling_names_are_found() {
        let mut numbers = Numbers(1);
        let names: Vec<String> = (0..200)
            .map(|number| tunnelling(&mut numbers, number % 6))
            .collect();
        let missed: Vec<&String> = names.iter().filter(|name| !is_tunnelling(name)).collect();
        assert!(missed.len() <= 10, "{} of 200: {missed:?}", missed.len());
    }

    #[test]
    fn words_are_not_noise() {
        for name in [
            "internationalization-and-localization-services.example.com",
            "thequickbrownfoxjumpsoverthelazydogandrunsaway.example.com",
            "example.com",
            "",
        ] {
            assert!(!is_high_entropy(name) && !is_tunnelling(name), "{name}");
        }
    }
}
