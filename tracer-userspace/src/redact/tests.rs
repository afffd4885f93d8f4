//! What is hidden, and what is not.

use super::*;

/// The same secrets that the live test plants into real command lines.
#[path = "../../../tests/lab/secrets.rs"]
mod secrets;

fn line(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Redactor::default().command_line(&words, false).join(" ")
}

#[test]
fn no_planted_secret_is_left() {
    for seed in 0..20 {
        for planted in secrets::planted(seed, 300) {
            let mut arguments = vec!["tool".to_owned()];
            arguments.extend(planted.arguments.clone());
            let hidden = Redactor::default()
                .command_line(&arguments, false)
                .join("\0");
            assert!(!hidden.contains(&planted.secret), "{planted:?}: {hidden}");
            assert!(hidden.contains(MARK), "{planted:?}: {hidden}");
            // Nor a part that is long enough to be of use.
            let part = &planted.secret[planted.secret.len() - 8..];
            assert!(!hidden.contains(part), "{planted:?}: {hidden}");
        }
    }
}

#[test]
fn only_the_secret_is_hidden() {
    for (words, expected) in [
        (
            &["curl", "-s", "https://u:p@h.example/x"] as &[&str],
            "curl -s https://[redacted]@h.example/x",
        ),
        (
            &["curl", "-u", "alice:x", "http://h"],
            "curl -u alice:[redacted] http://h",
        ),
        (
            &["t", "--token=abc", "--fast"],
            "t --token=[redacted] --fast",
        ),
        (
            &["t", "--password", "-Abc1", "--fast"],
            "t --password [redacted] --fast",
        ),
        (
            &["mysql", "-uroot", "-phunter2", "shop"],
            "mysql -uroot -p[redacted] shop",
        ),
        (&["ssh", "-p", "22", "host"], "ssh -p 22 host"),
        (&["sudo", "mysql", "-phunter2"], "sudo mysql -p[redacted]"),
        (
            &["timeout", "5", "redis-cli", "-a", "hunter2", "get", "x"],
            "timeout 5 redis-cli -a [redacted] get x",
        ),
        (
            &[
                "sh",
                "-c",
                "cd /x && mysql -phunter2 shop; sshpass -p hunter2 ssh x",
            ],
            "sh -c cd /x && mysql -p[redacted] shop; sshpass -p [redacted] ssh x",
        ),
        (
            &["curl", "-u", "topsecret:", "http://h"],
            "curl -u [redacted]: http://h",
        ),
        (
            &["curl", "-ualice:pw", "--user=bob:pw", "http://h"],
            "curl -ualice:[redacted] --user=bob:[redacted] http://h",
        ),
        (
            &["skopeo", "copy", "--src-creds", "a:pw", "--dest-creds=b:pw"],
            "skopeo copy --src-creds a:[redacted] --dest-creds=b:[redacted]",
        ),
        (
            &["smbclient", "-U", "dom/user%pw", "//h/s"],
            "smbclient -U dom/user%[redacted] //h/s",
        ),
        (
            &["psql", "-c", "ALTER USER a PASSWORD 'x'"],
            "psql -c ALTER USER a PASSWORD '[redacted]'",
        ),
        (
            &["sh", "-c", "t --password \"a b c\" -q"],
            "sh -c t --password \"[redacted]\" -q",
        ),
        (
            &["sh", "-c", "sh -c 'mysql -phunter2'"],
            "sh -c sh -c 'mysql -p[redacted]'",
        ),
        (&["env", "OPENAI_KEY=x", "c"], "env OPENAI_KEY=[redacted] c"),
        (
            &["c", "https://h/?key=x&n=2"],
            "c https://h/?key=[redacted]&n=2",
        ),
        (
            &["sh", "-c", "A_TOKEN='x y' go --api-key k1 on"],
            "sh -c A_TOKEN='[redacted]' go --api-key [redacted] on",
        ),
        (
            &["c", "https://h/?q=1&sig=a%2Fb&n=2"],
            "c https://h/?q=1&sig=[redacted]&n=2",
        ),
        (
            &["c", "-d", r#"{"token": "x", "n": 1}"#],
            r#"c -d {"token": "[redacted]", "n": 1}"#,
        ),
        (
            &["c", "-H", "Authorization: Basic YTpi"],
            "c -H Authorization: [redacted]",
        ),
    ] {
        assert_eq!(line(words), expected);
    }
}

#[test]
fn ordinary_command_lines_stay_as_they_are() {
    for words in [
        &[
            "python3",
            "-m",
            "pip",
            "install",
            "sk-learn-contrib-packages==1.2.3",
        ] as &[&str],
        &["vault", "token", "create", "-policy=agent"],
        &["gh", "auth", "token"],
        &[
            "git",
            "checkout",
            "3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
        ],
        &[
            "docker",
            "run",
            "--rm",
            "--network",
            "none",
            "--name",
            "agent-7",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ],
        &["tool", "--id", "123e4567-e89b-12d3-a456-426614174000"],
        &[
            "java",
            "-jar",
            "/opt/keycloak/lib/quarkus-run.jar",
            "--max-tokens",
            "--password-file",
        ],
        &[
            "npm",
            "install",
            "https://registry.example/@scope/package/-/package-1.0.0.tgz",
        ],
        &[
            "/usr/lib/x86_64-linux-gnu/gvfs/gvfsd-fuse",
            "/run/user/1000/gvfs",
            "-f",
            "-o",
            "big_writes",
        ],
        &[
            "python",
            "train.py",
            "--tokenizer",
            "bert-base-uncased",
            "--max_seq_length",
            "512",
        ],
        &[
            "node",
            "--experimental-vm-modules",
            "node_modules/.bin/jest",
            "--ci",
        ],
    ] {
        assert_eq!(line(words), words.join(" "));
    }
}

#[test]
fn the_beginning_of_a_token_at_the_cut_is_hidden() {
    let words = ["x".to_owned(), "say ghp_abc".to_owned()];
    let redactor = Redactor::default();
    assert_eq!(redactor.command_line(&words, false)[1], "say ghp_abc");
    assert_eq!(redactor.command_line(&words, true)[1], "say [redacted]");
}

#[test]
fn labels_are_hidden_by_name_and_by_shape() {
    let labels = [
        ("db.password", "x"),
        ("tier", "ok"),
        ("url", "redis://:pw@h"),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let hidden = Redactor::default().labels(&labels.into_iter().collect());
    let values: Vec<_> = hidden.values().map(String::as_str).collect();
    assert_eq!(values, [MARK, "ok", "redis://[redacted]@h"]);
}

#[test]
fn the_users_own_patterns_count_and_off_is_off() {
    let own = Regex::new("badge-([0-9]+)").expect("well formed");
    let redactor = Redactor::new(vec![own]);
    assert_eq!(redactor.text("badge-77 x"), "badge-[redacted] x");
    let words = ["--password".to_owned(), "x".to_owned()];
    assert_eq!(Redactor::off().command_line(&words, true), words);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_fail(words in proptest::collection::vec("\\PC{0,60}|[-=:/@'\" a-zA-Z0-9]{0,60}", 0..6)) {
        let hidden = Redactor::default().command_line(&words, true);
        proptest::prop_assert_eq!(hidden.len(), words.len());
    }
}
