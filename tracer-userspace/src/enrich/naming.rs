//! What a workload is called: `--workload-by`. Pure.

use std::str::FromStr;

use super::cgroup::is_below;
use crate::record::Container;

/// One way to find a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// The container's name.
    Name,
    /// The container's image, without tag and digest.
    Image,
    /// `<project>_<service>` of compose.
    ComposeService,
    /// `<namespace>_<kind>_<owner>` of a pod.
    PodOwner,
    /// The value of the container's label.
    Label(String),
    /// The systemd unit of what is in no container.
    Unit,
    /// The last part of the innermost cgroup that matches.
    Cgroup(glob::Pattern),
    /// The executable of what is in no container.
    Command,
}

/// A word that is none of the criteria.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is none of name, image, compose-service, pod-owner, label:KEY, unit, cgroup:GLOB, command"
)]
pub struct UnknownCriterion(String);

impl FromStr for Criterion {
    type Err = UnknownCriterion;

    fn from_str(text: &str) -> Result<Self, UnknownCriterion> {
        let unknown = || UnknownCriterion(text.to_owned());
        match text.split_once(':') {
            None => match text {
                "name" => Ok(Self::Name),
                "image" => Ok(Self::Image),
                "compose-service" => Ok(Self::ComposeService),
                "pod-owner" => Ok(Self::PodOwner),
                "unit" => Ok(Self::Unit),
                "command" => Ok(Self::Command),
                _unknown => Err(unknown()),
            },
            Some(("label", key)) if !key.is_empty() => Ok(Self::Label(key.to_owned())),
            Some(("cgroup", glob)) => glob::Pattern::new(glob)
                .map(Self::Cgroup)
                .map_err(|_| unknown()),
            Some(_) => Err(unknown()),
        }
    }
}

/// What applies where nothing that was asked for does.
const DEFAULT: [Criterion; 4] = [
    Criterion::ComposeService,
    Criterion::PodOwner,
    Criterion::Name,
    Criterion::Unit,
];

/// The order in which names are looked for: the first that applies wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadBy(pub Vec<Criterion>);

/// What sent, when it was in no container.
#[derive(Clone, Copy, Debug, Default)]
pub struct Other<'a> {
    pub unit: Option<&'a str>,
    pub path: Option<&'a str>,
    /// The executable's name.
    pub command: Option<&'a str>,
}

impl WorkloadBy {
    /// The workload of a container in the cgroup `path`; `None` as long as too little is known.
    #[must_use]
    pub fn container(&self, container: &Container, path: &str) -> Option<String> {
        self.all().find_map(|criterion| match criterion {
            Criterion::Name => container.name.clone(),
            Criterion::Image => container
                .image
                .as_deref()
                .map(repository)
                .map(str::to_owned),
            Criterion::ComposeService => compose_service(container),
            Criterion::PodOwner => pod_owner(container),
            Criterion::Label(key) => {
                let value = container.labels.get(key);
                value.filter(|value| !value.is_empty()).cloned()
            }
            Criterion::Cgroup(pattern) => matched(pattern, path),
            Criterion::Unit | Criterion::Command => None,
        })
    }

    /// The workload of what is in no container; `None` is the host. True if nobody else may be
    /// called so: the name of a unit is the unit's own.
    #[must_use]
    pub fn other(&self, other: &Other<'_>) -> Option<(String, bool)> {
        let foreign = |name: String| (name, false);
        self.all().find_map(|criterion| match criterion {
            Criterion::Unit => other.unit.map(|unit| (unit.to_owned(), true)),
            Criterion::Cgroup(pattern) => matched(pattern, other.path?).map(foreign),
            Criterion::Command => other.command.map(str::to_owned).map(foreign),
            Criterion::Name
            | Criterion::Image
            | Criterion::ComposeService
            | Criterion::PodOwner
            | Criterion::Label(_) => None,
        })
    }

    /// Whether executables must be known.
    #[must_use]
    pub fn needs_command(&self) -> bool {
        self.0.contains(&Criterion::Command)
    }

    /// The labels that must be known.
    pub fn labels(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter_map(|criterion| match criterion {
            Criterion::Label(key) => Some(key),
            Criterion::Name
            | Criterion::Image
            | Criterion::ComposeService
            | Criterion::PodOwner
            | Criterion::Unit
            | Criterion::Cgroup(_)
            | Criterion::Command => None,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Criterion> {
        self.0.iter().chain(&DEFAULT)
    }
}

fn compose_service(container: &Container) -> Option<String> {
    let project = container.labels.get("com.docker.compose.project")?;
    let service = container.labels.get("com.docker.compose.service")?;
    Some(format!("{project}_{service}"))
}

fn pod_owner(container: &Container) -> Option<String> {
    let owner = container.owner.as_ref()?;
    let namespace = container.namespace.as_deref()?;
    let kind = owner.kind.to_ascii_lowercase();
    Some(format!("{namespace}_{kind}_{}", owner.name))
}

/// `registry:5000/team/agent:1.2` without its tag or digest. An image's id stays as it is.
#[must_use]
pub fn repository(name: &str) -> &str {
    if name.starts_with("sha256:") {
        return name;
    }
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        Some(_) | None => name,
    }
}

/// The last part of the innermost cgroup, at or above `path`, that the pattern matches. A `*`
/// stays within one part of the path, `**` goes on.
fn matched(pattern: &glob::Pattern, path: &str) -> Option<String> {
    let options = glob::MatchOptions {
        require_literal_separator: true,
        ..glob::MatchOptions::new()
    };
    let mut innermost = path;
    while !innermost.is_empty() {
        debug_assert!(is_below(path, innermost));
        let (above, last) = innermost.rsplit_once('/')?;
        if !last.is_empty() && pattern.matches_with(innermost, options) {
            return Some(last.to_owned());
        }
        innermost = above;
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::record::PodOwner;

    fn by(words: &[&str]) -> WorkloadBy {
        WorkloadBy(words.iter().map(|word| word.parse().unwrap()).collect())
    }

    fn container() -> Container {
        Container {
            name: Some("shop-agent-1".into()),
            image: Some("registry:5000/shop/agent:1.2@sha256:ab".into()),
            labels: [
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "agent"),
                ("team", "search"),
                ("empty", ""),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            ..Container::default()
        }
    }

    #[test]
    fn replicas_of_a_service_are_one_workload() {
        let mut some = container();
        let name = |some: &Container| by(&[]).container(some, "/docker/1").unwrap();
        assert_eq!(name(&some), "shop_agent");
        some.labels.remove("com.docker.compose.service");
        assert_eq!(name(&some), "shop-agent-1");
        some.namespace = Some("shop".into());
        some.owner = Some(PodOwner {
            kind: "StatefulSet".into(),
            name: "db".into(),
        });
        assert_eq!(name(&some), "shop_statefulset_db");
    }

    #[test]
    fn the_first_that_applies_wins() {
        let name =
            |words: &[&str]| by(words).container(&container(), "/agents/blue/docker-1.scope");
        assert_eq!(name(&["name"]).unwrap(), "shop-agent-1");
        assert_eq!(
            name(&["image", "name"]).unwrap(),
            "registry:5000/shop/agent"
        );
        assert_eq!(name(&["label:team"]).unwrap(), "search");
        assert_eq!(
            name(&["label:none", "label:empty", "name"]).unwrap(),
            "shop-agent-1"
        );
        assert_eq!(name(&["cgroup:/agents/*"]).unwrap(), "blue");
        assert_eq!(name(&["cgroup:/other/*", "command"]).unwrap(), "shop_agent");
    }

    #[test]
    fn nothing_is_known_of_a_container_before_the_engine_answers() {
        let nobody = Container::default();
        assert_eq!(by(&[]).container(&nobody, "/docker/1"), None);
        let by_cgroup = by(&["cgroup:/docker/*"]);
        assert_eq!(by_cgroup.container(&nobody, "/docker/1").unwrap(), "1");
    }

    #[test]
    fn what_is_in_no_container_has_units_cgroups_and_commands() {
        let other = Other {
            unit: Some("ssh.service"),
            path: Some("/system.slice/ssh.service"),
            command: Some("sshd"),
        };
        let name = |words: &[&str]| by(words).other(&other);
        assert_eq!(name(&["name"]), Some(("ssh.service".into(), true)));
        assert_eq!(name(&["command"]), Some(("sshd".into(), false)));
        assert_eq!(
            name(&["cgroup:/system.slice"]),
            Some(("system.slice".into(), false))
        );
        assert_eq!(by(&[]).other(&Other::default()), None);
    }

    #[test]
    fn a_star_stays_in_its_part_of_the_path() {
        let matched = |glob: &str| matched(&glob::Pattern::new(glob).unwrap(), "/a/b/c");
        assert_eq!(matched("/a/*"), Some("b".into()));
        assert_eq!(matched("/a/**"), Some("c".into()));
        assert_eq!(matched("/*"), Some("a".into()));
        assert_eq!(matched("/x/*"), None);
        assert_eq!(matched("/"), None);
    }

    #[test]
    fn a_repository_is_a_name_without_tag_and_digest() {
        for (name, expected) in [
            ("agent", "agent"),
            ("agent:1", "agent"),
            ("host:5000/agent", "host:5000/agent"),
            ("host:5000/agent:1@sha256:2", "host:5000/agent"),
            ("sha256:12", "sha256:12"),
        ] {
            assert_eq!(repository(name), expected);
        }
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        for word in ["", "names", "label:", "cgroup:[", "name:x"] {
            assert_eq!(
                word.parse::<Criterion>(),
                Err(UnknownCriterion(word.to_owned()))
            );
        }
        assert_eq!("label:a:b".parse(), Ok(Criterion::Label("a:b".into())));
    }
}
