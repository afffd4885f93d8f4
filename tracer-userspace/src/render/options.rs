//! Which options can be rendered, and the defaults.

use super::{Options, Pods, Scope, Verdict};

/// The nftables table that is ours unless another is asked for.
pub const DEFAULT_TABLE: &str = "egress_tracer";
/// The chain that is ours unless another is asked for.
pub const DEFAULT_CHAIN: &str = "egress";
/// The longest table name.
pub const MAX_TABLE: usize = 64;
/// The longest chain name: iptables keeps 28 bytes.
pub const MAX_CHAIN: usize = 28;
/// The kernel's buffer for an interface name is 16 bytes with the final NUL.
const MAX_INTERFACE: usize = 15;
/// `xt_cgroup` keeps 512 bytes with the final NUL, and the leading slash is ours to add.
const MAX_CGROUP: usize = 510;

/// Why options cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    #[error(
        "{name:?} is not a name for a table or chain: expected a letter, then letters, digits, \
         - and _, at most {max} bytes"
    )]
    Identifier { name: String, max: usize },
    /// Loading the rules would empty a chain that is not ours, or jump to a target.
    #[error("the chain name {0:?} belongs to the kernel, Docker or Kubernetes: choose another")]
    ForeignChain(String),
    #[error("{0:?} is not an interface name that rules can match exactly")]
    Interface(String),
    #[error(
        "{0:?} is not a cgroup that rules can match: expected a path below the cgroup2 mount, \
         such as system.slice/agent.service, not its root"
    )]
    Cgroup(String),
    #[error("rules for forwarded traffic need a source address or an interface to match")]
    NoSelector,
    #[error("{0} cannot log without enforcing: it needs --verdict drop, once somebody has decided")]
    NoDryRun(&'static str),
    #[error("{0} cannot reject, only drop: ask for --verdict drop")]
    NoReject(&'static str),
    #[error("{0} does not select by --source, --interface, --cgroup or --hook")]
    NoScope(&'static str),
    #[error("{0} needs --pod-label KEY=VALUE: without one it would select every pod")]
    NoPods(&'static str),
    #[error("{0:?} is not a Kubernetes label, as KEY=VALUE, or namespace")]
    Kubernetes(String),
}

impl Options {
    /// Table `egress_tracer`, chain `egress`, everything that leaves the network namespace.
    #[must_use]
    pub fn new(verdict: Verdict) -> Self {
        Self {
            table: DEFAULT_TABLE.to_owned(),
            chain: DEFAULT_CHAIN.to_owned(),
            scope: Scope::Namespace,
            verdict,
            pods: Pods::default(),
            name_sets: false,
        }
    }

    /// Whether every backend can render with these. One that is asked to regardless writes no
    /// rules, and says why.
    ///
    /// # Errors
    /// The first option that names something that cannot be matched exactly or safely.
    pub fn check(&self) -> Result<(), BadOption> {
        identifier(&self.table, MAX_TABLE)?;
        identifier(&self.chain, MAX_CHAIN)?;
        if is_foreign(&self.chain) {
            return Err(BadOption::ForeignChain(self.chain.clone()));
        }
        self.scope.check()
    }

    /// For backends that are no packet filter: nothing of the scope would be looked at.
    pub(super) fn check_no_scope(&self, tool: &'static str) -> Result<(), BadOption> {
        match self.scope {
            Scope::Namespace => Ok(()),
            Scope::Forward { .. } | Scope::Cgroup { .. } => Err(BadOption::NoScope(tool)),
        }
    }

    /// For backends that can only enforce.
    pub(super) fn check_enforces(&self, tool: &'static str) -> Result<(), BadOption> {
        match self.verdict {
            Verdict::Log => Err(BadOption::NoDryRun(tool)),
            Verdict::Drop | Verdict::Reject => Ok(()),
        }
    }
}

impl Pods {
    /// Whether they select some pods and not all, in words that need no escaping.
    pub(super) fn check(&self, tool: &'static str) -> Result<(), BadOption> {
        if self.labels.is_empty() {
            return Err(BadOption::NoPods(tool));
        }
        if let Some(name) = self.namespace.as_ref().filter(|name| !is_dns_label(name)) {
            return Err(BadOption::Kubernetes(name.clone()));
        }
        let bad = self
            .labels
            .iter()
            .find(|(key, value)| !is_label_key(key) || !is_label_value(value));
        match bad {
            Some((key, value)) => Err(BadOption::Kubernetes(format!("{key}={value}"))),
            None => Ok(()),
        }
    }
}

/// A namespace: RFC 1123.
fn is_dns_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A label's name, with a prefix or without.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => {
            prefix.len() <= 253
                && prefix.split('.').all(is_dns_label)
                && !name.is_empty()
                && is_label_value(name)
        }
        None => !key.is_empty() && is_label_value(key),
    }
}

fn is_label_value(value: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    value.len() <= 63
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && alphanumeric(value.as_bytes().first())
        && alphanumeric(value.as_bytes().last())
}

impl Scope {
    fn check(&self) -> Result<(), BadOption> {
        match self {
            Self::Namespace => Ok(()),
            Self::Forward {
                sources,
                interface: None,
            } if sources.is_empty() => Err(BadOption::NoSelector),
            Self::Forward {
                sources: _,
                interface: None,
            } => Ok(()),
            Self::Forward {
                sources: _,
                interface: Some(name),
            } => is_interface(name)
                .then_some(())
                .ok_or_else(|| BadOption::Interface(name.clone())),
            Self::Cgroup { path } => is_cgroup(path)
                .then_some(())
                .ok_or_else(|| BadOption::Cgroup(path.clone())),
        }
    }
}

fn identifier(name: &str, max: usize) -> Result<(), BadOption> {
    let letter_first = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let rest_ok = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if letter_first && rest_ok && name.len() <= max {
        return Ok(());
    }
    Err(BadOption::Identifier {
        name: name.to_owned(),
        max,
    })
}

/// The kernel's chains and targets (`OUTPUT`, `DROP`) are spelled in capitals only.
fn is_foreign(chain: &str) -> bool {
    chain.bytes().all(|byte| byte.is_ascii_uppercase())
        || chain.starts_with("DOCKER")
        || chain.starts_with("KUBE-")
}

/// The kernel allows more; `*` and `+` would be wildcards in the rule languages.
fn is_interface(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(&byte);
    (1..=MAX_INTERFACE).contains(&name.len())
        && !name.starts_with(['-', '.'])
        && name.bytes().all(plain)
}

/// Neither language has a way to write a quote (nft) or a line break (both) in a path.
fn is_cgroup(path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.len() <= MAX_CGROUP
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.contains(|each: char| each == '"' || each.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(chain: &str, scope: Scope) -> Result<(), BadOption> {
        Options {
            chain: chain.to_owned(),
            scope,
            ..Options::new(Verdict::Log)
        }
        .check()
    }

    fn interface(name: &str) -> Result<(), BadOption> {
        with(
            "egress",
            Scope::Forward {
                sources: vec![],
                interface: Some(name.to_owned()),
            },
        )
    }

    fn cgroup(path: &str) -> Result<(), BadOption> {
        with(
            "egress",
            Scope::Cgroup {
                path: path.to_owned(),
            },
        )
    }

    #[test]
    fn the_defaults_can_be_rendered() {
        assert_eq!(Options::new(Verdict::Drop).check(), Ok(()));
    }

    #[test]
    fn chains_of_others_are_refused() {
        for name in ["OUTPUT", "DROP", "NFLOG", "DOCKER-USER", "KUBE-FORWARD"] {
            assert_eq!(
                with(name, Scope::Namespace),
                Err(BadOption::ForeignChain(name.to_owned()))
            );
        }
    }

    #[test]
    fn names_that_would_need_quotes_are_refused() {
        for name in ["", "1st", "a b", "a;b", "a\nb", "-x", "é", &"x".repeat(29)] {
            let refused = BadOption::Identifier {
                name: name.to_owned(),
                max: MAX_CHAIN,
            };
            assert_eq!(with(name, Scope::Namespace), Err(refused));
        }
    }

    #[test]
    fn interfaces_are_exact() {
        assert_eq!(interface("br-0a1b2c3d4e5f"), Ok(()));
        for name in ["", "eth+", "veth*", "a b", "\"", "sixteen-bytes-xx"] {
            assert_eq!(interface(name), Err(BadOption::Interface(name.to_owned())));
        }
    }

    #[test]
    fn cgroups_are_below_the_root() {
        for path in [
            "system.slice/a.service",
            "/docker/0f",
            r"system.slice/dev\x2dx.service",
        ] {
            assert_eq!(cgroup(path), Ok(()));
        }
        for path in ["", "/", "a//b", "../a", "a/./b", "a\"b", "a\nb"] {
            assert_eq!(cgroup(path), Err(BadOption::Cgroup(path.to_owned())));
        }
    }

    #[test]
    fn labels_need_no_escaping() {
        let pods = |key: &str, value: &str| Pods {
            namespace: None,
            labels: [(key.to_owned(), value.to_owned())].into(),
        };
        for (key, value) in [
            ("app", "shop"),
            ("app.kubernetes.io/name", "a_b.c-D"),
            ("a", ""),
        ] {
            assert_eq!(pods(key, value).check("x"), Ok(()), "{key}={value}");
        }
        for (key, value) in [
            ("", "x"),
            ("a/", "x"),
            ("/a", "x"),
            ("a", "' || all()"),
            ("a", "é"),
        ] {
            let bad = BadOption::Kubernetes(format!("{key}={value}"));
            assert_eq!(pods(key, value).check("x"), Err(bad));
        }
        assert_eq!(Pods::default().check("x"), Err(BadOption::NoPods("x")));
        let elsewhere = Pods {
            namespace: Some("A".to_owned()),
            ..pods("a", "b")
        };
        assert_eq!(
            elsewhere.check("x"),
            Err(BadOption::Kubernetes("A".to_owned()))
        );
    }

    #[test]
    fn forwarded_traffic_needs_a_selector() {
        let all = Scope::Forward {
            sources: vec![],
            interface: None,
        };
        assert_eq!(with("egress", all), Err(BadOption::NoSelector));
    }
}
