//! Secrets that are known by the argument before them.

use super::{Lazy, MARK, named, pattern};

/// Flags that take `user:password`.
const USER_FLAGS: [&str; 9] = [
    "-u",
    "-U",
    "--user",
    "--proxy-user",
    "--login",
    "--basic-auth",
    "--http-user",
    "--creds",
    "--auth",
];

/// Short flags that take a password, and the programs that have them.
const SHORT: [(&str, &[&str]); 6] = [
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
            "ldapmodify",
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
];

/// `-pPASSWORD`, without a blank.
const JOINED: [&str; 6] = [
    "mysql",
    "mysqldump",
    "mysqladmin",
    "mariadb",
    "mariadb-dump",
    "sshpass",
];

/// `--password value` and `-u user:password` inside one text, as in `sh -c`.
static INSIDE: Lazy = Lazy::new(|| {
    pattern(
        r#"(?i)(--?[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api-?key|access-?key|credential)[a-z0-9_.-]*\s+)("[^"]*"?|'[^']*'?|[^\s"'-][^\s]*)"#,
    )
});
static INSIDE_USER: Lazy = Lazy::new(|| {
    pattern(r#"((?:^|\s)(?:-u|-U|--user|--proxy-user)[\s=]*["']?[^\s:"']*:)[^\s"']+"#)
});
/// OpenSSL's own notation (openssl-passphrase-options(1)).
static PASS: Lazy = Lazy::new(|| pattern(r"^pass:.+$"));

/// Hides what a command line tells; `text` hides what each argument tells by itself.
pub(super) fn hide(arguments: &[String], text: impl Fn(&str) -> String) -> Vec<String> {
    let program = arguments.first().map_or("", String::as_str);
    let program = program.rsplit('/').next().unwrap_or(program);
    let before = std::iter::once(None).chain(arguments.iter().map(Some));
    let hide_one = |(flag, argument): (Option<&String>, &String)| {
        flag.and_then(|flag| value_of(program, flag, argument))
            .or_else(|| joined(program, argument))
            .unwrap_or_else(|| inside(&text(argument)))
    };
    before.zip(arguments).map(hide_one).collect()
}

/// What is left of an argument that is the value of `flag`.
fn value_of(program: &str, flag: &str, argument: &str) -> Option<String> {
    if argument.is_empty() {
        return None;
    }
    if USER_FLAGS.contains(&flag)
        && let Some((user, _)) = argument.split_once(':')
    {
        return Some(format!("{user}:{MARK}"));
    }
    let is_short = SHORT
        .iter()
        .any(|(short, programs)| *short == flag && programs.contains(&program));
    let is_value = takes_secret(flag) && !is_flag(argument);
    (is_short || is_value || PASS.is_match(argument)).then(|| MARK.to_owned())
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

fn joined(program: &str, argument: &str) -> Option<String> {
    let is_password = JOINED.contains(&program) && argument.starts_with("-p") && argument.len() > 2;
    is_password.then(|| format!("-p{MARK}"))
}

fn inside(text: &str) -> String {
    if !text.contains([' ', '\t', '\n']) {
        return text.to_owned();
    }
    let hidden = INSIDE.replace_all(text, format!("${{1}}{MARK}"));
    INSIDE_USER
        .replace_all(&hidden, format!("${{1}}{MARK}"))
        .into_owned()
}
