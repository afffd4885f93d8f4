//! Secrets that are known by the argument before them.

use super::{Lazy, MARK, named, pattern};

/// Flags that take `user:password`, as the next argument or after `=`.
const USER_FLAGS: [&str; 14] = [
    "-u",
    "-U",
    "--user",
    "--proxy-user",
    "--login",
    "--basic-auth",
    "--http-user",
    "--auth",
    "--creds",
    "--src-creds",
    "--dest-creds",
    "--credentials",
    "--userpwd",
    "--basic",
];

/// Short flags that take a secret, and the programs that have them.
const SHORT: [(&str, &[&str]); 9] = [
    (
        "-p",
        &[
            "sshpass",
            "docker",
            "podman",
            "nerdctl",
            "helm",
            "mongo",
            "mongosh",
            "mongodump",
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mariadb",
            "mariadb-dump",
            "az",
            "oc",
            "skopeo",
            "buildah",
        ],
    ),
    ("-a", &["redis-cli", "valkey-cli"]),
    ("-w", &["ldapsearch", "ldapadd", "ldapmodify", "ldapwhoami"]),
    ("-P", &["sqlcmd", "bcp", "isql"]),
    ("-k", &["openssl"]),
    ("-K", &["openssl"]),
    ("-b", &["curl"]),
    ("--cookie", &["curl"]),
    ("-pass", &["openssl"]),
];

/// Programs that take a password joined to its flag: `mysql -pPASSWORD`, `curl -uUSER:PASSWORD`.
const JOINED: [(&str, &[&str]); 3] = [
    (
        "-p",
        &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mariadb",
            "mariadb-dump",
            "sshpass",
        ],
    ),
    ("-u", &["curl"]),
    ("-a", &["redis-cli", "valkey-cli"]),
];

/// SQL's own words (MySQL's, PostgreSQL's and Oracle's).
static SQL: Lazy = Lazy::new(|| {
    pattern(r#"(?i)\b(identified\s+(?:with\s+\S+\s+)?by|password)(\s+)('[^']*'?|"[^"]*"?)"#)
});

/// OpenSSL's notation (openssl-passphrase-options(1)).
static PASS: Lazy = Lazy::new(|| pattern(r"^pass:.+$"));

/// A shell's word: what is in quotes, or has no blank.
static WORD: Lazy = Lazy::new(|| pattern(r#""[^"]*"?|'[^']*'?|[^\s"'();|&]+"#));

/// Shells in shells that are read. Beyond, nothing is shown.
const DEEPEST: u8 = 4;

/// Hides what a command line tells; `text` hides what each argument tells by itself.
pub(super) fn hide(arguments: &[String], text: impl Fn(&str) -> String) -> Vec<String> {
    let mut line = Line::new(&text);
    arguments
        .iter()
        .map(|argument| line.next(argument))
        .collect()
}

/// A command line being read, or a shell's text word by word.
struct Line<'a> {
    text: &'a dyn Fn(&str) -> String,
    /// The last word that is a program of which more is known: `sudo mysql`, `timeout 5 mysql`.
    program: Option<&'static str>,
    before: Option<String>,
    depth: u8,
}

impl<'a> Line<'a> {
    fn new(text: &'a dyn Fn(&str) -> String) -> Self {
        Self {
            text,
            program: None,
            before: None,
            depth: 0,
        }
    }

    /// What is left of the next argument.
    fn next(&mut self, argument: &str) -> String {
        let flag = self.before.replace(argument.to_owned());
        let hidden = flag
            .and_then(|flag| self.value_of(&flag, argument))
            .or_else(|| self.joined(argument))
            .unwrap_or_else(|| self.inside(&(self.text)(argument)));
        self.program = known(argument).or(self.program);
        hidden
    }

    /// The same with the quotes that may be around it.
    fn word(&mut self, word: &str) -> String {
        let Some(quote) = word.chars().next().filter(|c| ['"', '\''].contains(c)) else {
            return self.next(word);
        };
        let inner = word.strip_prefix(quote).unwrap_or(word);
        let (inner, end) = match inner.strip_suffix(quote) {
            Some(inner) => (inner, &word[..1]),
            None => (inner, ""),
        };
        format!("{quote}{}{end}", self.next(inner))
    }

    fn runs(&self, programs: &[&str]) -> bool {
        self.program
            .is_some_and(|program| programs.contains(&program))
    }

    fn value_of(&self, flag: &str, argument: &str) -> Option<String> {
        if argument.is_empty() {
            return None;
        }
        if USER_FLAGS.contains(&flag)
            && let Some(hidden) = self.credentials(argument)
        {
            return Some(hidden);
        }
        let mut short = SHORT.iter();
        let is_short = short.any(|(short, programs)| *short == flag && self.runs(programs));
        let is_value = takes_secret(flag) && !is_flag(argument);
        (is_short || is_value || PASS.is_match(argument)).then(|| MARK.to_owned())
    }

    /// `user:password`, Samba's `user%password`; a token alone before the colon.
    fn credentials(&self, argument: &str) -> Option<String> {
        let at = argument.find([':', '%'])?;
        let (user, rest) = argument.split_at(at);
        if rest.len() == 1 {
            return Some(format!("{MARK}{rest}"));
        }
        Some(format!("{}{}{MARK}", (self.text)(user), &rest[..1]))
    }

    /// `-pPASSWORD` and `--user=name:password`.
    fn joined(&self, argument: &str) -> Option<String> {
        if let Some((flag, value)) = argument.split_once('=')
            && USER_FLAGS.contains(&flag)
            && let Some(hidden) = self.credentials(value)
        {
            return Some(format!("{flag}={hidden}"));
        }
        let mut joined = JOINED.iter();
        let (flag, _) = joined.find(|(flag, programs)| {
            argument.len() > flag.len() && argument.starts_with(flag) && self.runs(programs)
        })?;
        let value = &argument[flag.len()..];
        match *flag {
            "-u" => self
                .credentials(value)
                .map(|hidden| format!("{flag}{hidden}")),
            _ => Some(format!("{flag}{MARK}")),
        }
    }

    /// A shell's text is a command line too, and perhaps several.
    fn inside(&self, text: &str) -> String {
        if !text.contains([' ', '\t', '\n']) {
            return text.to_owned();
        }
        if self.depth == DEEPEST {
            return MARK.to_owned();
        }
        let text = SQL.replace_all(text, |found: &regex::Captures<'_>| {
            let quote = &found[3][..1];
            format!("{}{}{quote}{MARK}{quote}", &found[1], &found[2])
        });
        let mut line = Line {
            text: &str::to_owned,
            program: self.program,
            before: None,
            depth: self.depth + 1,
        };
        let hide = |found: &regex::Captures<'_>| line.word(&found[0]);
        WORD.replace_all(&text, hide).into_owned()
    }
}

/// The program that a word names, if there is a rule about it.
fn known(word: &str) -> Option<&'static str> {
    let name = word.rsplit('/').next()?;
    let all = SHORT.iter().chain(&JOINED);
    let mut all = all.flat_map(|(_, programs)| programs.iter());
    all.find(|program| **program == name).copied()
}

/// `--password`, `--api-key`, and `aws_secret_access_key` as `configure set` takes it. A single
/// plain word, as in `vault token create`, is a verb.
fn takes_secret(flag: &str) -> bool {
    let bare = flag.trim_start_matches('-');
    let is_flag = bare.len() < flag.len();
    let is_compound = bare.contains(['_', '-', '.']);
    let has_value = bare.contains(['=', '/', ':', ' ']);
    (is_flag || is_compound) && !has_value && named::is_secret(bare)
}

/// `--host` and `-x` follow a flag that takes no value; `-Secret1` is a value.
fn is_flag(argument: &str) -> bool {
    argument.starts_with("--") || (argument.starts_with('-') && argument.len() <= 2)
}
