//! Made-up secrets in command lines, in the shapes and places in which real ones stand.

/// A command line's arguments, and the secret among them.
#[derive(Clone, Debug)]
pub struct Planted {
    pub arguments: Vec<String>,
    pub secret: String,
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const MIXED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PASSWORD: &str =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%^*+,;.~()[]{}<>|";

/// Shapes that give a secret away wherever it stands: a prefix, an alphabet, a length.
const SHAPES: [(&str, &str, usize); 30] = [
    ("AKIA", UPPER, 16),
    ("ASIA", UPPER, 16),
    ("AIza", URL_SAFE, 35),
    ("ya29.", URL_SAFE, 60),
    ("dop_v1_", HEX, 64),
    ("dapi", HEX, 32),
    ("ghp_", MIXED, 36),
    ("gho_", MIXED, 36),
    ("ghs_", MIXED, 36),
    ("github_pat_", MIXED, 82),
    ("glpat-", URL_SAFE, 20),
    ("npm_", MIXED, 36),
    ("pypi-AgEIcHlwaS5vcmc", URL_SAFE, 60),
    ("dckr_pat_", URL_SAFE, 27),
    ("sk-", MIXED, 48),
    ("sk-proj-", URL_SAFE, 64),
    ("sk-ant-api03-", URL_SAFE, 80),
    ("sk-or-v1-", HEX, 64),
    ("hf_", MIXED, 34),
    ("gsk_", MIXED, 52),
    ("r8_", MIXED, 37),
    ("xai-", MIXED, 80),
    ("pplx-", MIXED, 48),
    ("lsv2_pt_", HEX, 32),
    ("xoxb-", "0123456789-", 24),
    ("sk_live_", MIXED, 24),
    ("hvs.", MIXED, 24),
    ("glsa_", MIXED, 32),
    ("ntn_", MIXED, 43),
    // An AWS secret access key, and others like it, have no prefix: only their randomness.
    ("", MIXED, 40),
];

/// Places in which a password of no particular shape stands; `{}` is the password.
const PLACES: [&[&str]; 30] = [
    &["--password", "{}"],
    &["--password={}"],
    &["--token", "{}"],
    &["--token={}"],
    &["--api-key", "{}"],
    &["--apikey={}"],
    &["--client-secret", "{}"],
    &["--auth-token={}"],
    &["--db-password", "{}"],
    &["-password", "{}"],
    &["--user", "alice:{}"],
    &["-u", "alice:{}"],
    &["OPENAI_API_KEY={}"],
    &["DATABASE_PASSWORD={}"],
    &["PGPASSWORD={}"],
    &["AWS_SECRET_ACCESS_KEY={}"],
    &["MY_SERVICE_TOKEN={}"],
    &["env", "SECRET_KEY={}", "python"],
    &["postgres://alice:{}@db.example/shop"],
    &["https://{}@git.example/team/repo.git"],
    &["redis://:{}@cache.example:6379/0"],
    &["-H", "Authorization: Bearer {}"],
    &["-H", "X-Api-Key: {}"],
    &["-H", "Cookie: session={}; theme=dark"],
    &["--data", "{\"user\":\"alice\",\"password\":\"{}\"}"],
    &["https://api.example/v1/items?limit=3&api_key={}&page=2"],
    &["-c", "export TOKEN={} && exec tool --fast"],
    &["-c", "tool --password {} --verbose"],
    &["configure", "set", "aws_secret_access_key", "{}"],
    &[
        "-c",
        "curl -s -H 'Authorization: token {}' https://api.example/",
    ],
];

/// `count` planted secrets, the same ones for the same `seed`.
#[must_use]
pub fn planted(seed: u64, count: usize) -> Vec<Planted> {
    let mut random = Random(seed);
    (0..count).map(|index| plant(index, &mut random)).collect()
}

fn plant(index: usize, random: &mut Random) -> Planted {
    let form = index % (SHAPES.len() + PLACES.len() + 1);
    if let Some((prefix, alphabet, length)) = SHAPES.get(form) {
        let secret = format!("{prefix}{}", random.text(alphabet, *length));
        let arguments = match random.below(3) {
            0 => vec![secret.clone()],
            1 => vec![format!("https://api.example/{secret}/items")],
            _ => vec!["run".to_owned(), format!("say hello with {secret} please")],
        };
        return Planted { arguments, secret };
    }
    if let Some(place) = PLACES.get(form - SHAPES.len()) {
        // In a URL or a shell's text, only what needs no escaping there.
        let is_plain = place
            .iter()
            .any(|word| word.contains("://") || word.contains(' ') || word.contains('"'));
        let alphabet = if is_plain { LOWER } else { PASSWORD };
        let secret = format!("Qx{}", random.text(alphabet, 14));
        let fill = |word: &&str| word.replace("{}", &secret);
        let arguments = place.iter().map(fill).collect();
        return Planted { arguments, secret };
    }
    let part = |random: &mut Random, length| random.text(URL_SAFE, length);
    let secret = format!(
        "eyJhbGciOiJIUzI1NiJ9.eyJ{}.{}",
        part(random, 40),
        part(random, 43)
    );
    let arguments = vec!["--header".to_owned(), format!("x: {secret}")];
    Planted { arguments, secret }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn text(&mut self, alphabet: &str, length: usize) -> String {
        let letters = alphabet.as_bytes();
        (0..length)
            .map(|_| char::from(letters[self.below(letters.len())]))
            .collect()
    }
}
