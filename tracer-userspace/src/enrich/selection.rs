//! What is to be recorded: `--container`, `--label`, `--namespace`, `--cgroup`. Pure.

use std::str::FromStr;

use super::cgroup::is_below;
use crate::record::Container;

/// What to record.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of containers, pods or workloads; one must match.
    pub containers: Vec<glob::Pattern>,
    /// Labels; all must match.
    pub labels: Vec<LabelSelector>,
    /// Namespaces of pods; one must match.
    pub namespaces: Vec<glob::Pattern>,
    /// Paths of chosen cgroups, relative to the hierarchy's root; empty: all.
    pub cgroups: Vec<String>,
}

/// `KEY` or `KEY=GLOB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    pub key: String,
    /// `None`: any value.
    pub value: Option<glob::Pattern>,
}

#[derive(Debug, thiserror::Error)]
pub enum BadSelector {
    #[error("a label has a name: KEY or KEY=GLOB")]
    NoKey,
    #[error(transparent)]
    Pattern(#[from] glob::PatternError),
}

impl FromStr for LabelSelector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let (key, value) = match text.split_once('=') {
            Some((key, glob)) => (key, Some(glob::Pattern::new(glob)?)),
            None => (text, None),
        };
        if key.is_empty() {
            return Err(BadSelector::NoKey);
        }
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

impl LabelSelector {
    fn matches(&self, container: &Container) -> bool {
        let value = container.labels.get(&self.key);
        value.is_some_and(|value| {
            let pattern = self.value.as_ref();
            pattern.is_none_or(|pattern| pattern.matches(value))
        })
    }
}

impl Selection {
    /// Whether nothing was chosen: every container, unit and the host.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.is_by_container() && self.cgroups.is_empty()
    }

    /// Whether containers are chosen by what an engine says of them.
    #[must_use]
    pub fn is_by_container(&self) -> bool {
        !(self.containers.is_empty() && self.labels.is_empty() && self.namespaces.is_empty())
    }

    /// Whether the hooks of a chosen cgroup see what happens at `path`.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        self.cgroups.iter().any(|chosen| is_below(path, chosen))
    }

    /// Whether a container in the cgroup `path` is to be recorded. One of which nothing is known
    /// is: it may be the very one.
    #[must_use]
    pub fn selects(&self, path: &str, container: &Container, workload: &str) -> bool {
        if !self.cgroups.is_empty() && !self.covers(path) {
            return false;
        }
        let Some(name) = container.name.as_deref() else {
            return true;
        };
        let names = [Some(name), Some(workload), container.pod.as_deref()];
        let named = |pattern: &glob::Pattern| {
            names
                .iter()
                .flatten()
                .any(|candidate| pattern.matches(candidate))
        };
        let namespace = container.namespace.as_deref().unwrap_or_default();
        let mut labels = self.labels.iter();
        labels.all(|label| label.matches(container))
            && one_of(&self.containers, named)
            && one_of(&self.namespaces, |pattern| pattern.matches(namespace))
    }

    /// The nearest of the chosen cgroups at or above `path`.
    #[must_use]
    pub fn nearest(&self, path: &str) -> Option<&str> {
        let above = self.cgroups.iter().filter(|chosen| is_below(path, chosen));
        above.max_by_key(|chosen| chosen.len()).map(String::as_str)
    }
}

fn one_of(patterns: &[glob::Pattern], matches: impl FnMut(&glob::Pattern) -> bool) -> bool {
    patterns.is_empty() || patterns.iter().any(matches)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Vec<glob::Pattern> {
        texts
            .iter()
            .map(|text| glob::Pattern::new(text).unwrap())
            .collect()
    }

    fn agent() -> Container {
        Container {
            name: Some("agent-1".into()),
            pod: Some("agent-6d4cf-x".into()),
            namespace: Some("shop".into()),
            labels: [("team".into(), "search".into())].into(),
            ..Container::default()
        }
    }

    fn selects(selection: &Selection) -> bool {
        selection.selects("/docker/1", &agent(), "shop_agent")
    }

    #[test]
    fn one_name_is_enough() {
        for (patterns, expected) in [
            (&["agent-*"][..], true),
            (&["shop_*"], true),
            (&["agent-6d4cf-?"], true),
            (&["other", "agent-1"], true),
            (&["other"], false),
            (&[], true),
        ] {
            let containers = globs(patterns);
            let selection = Selection {
                containers,
                ..Selection::default()
            };
            assert_eq!(selects(&selection), expected, "{patterns:?}");
        }
    }

    #[test]
    fn every_label_must_match() {
        for (labels, expected) in [
            (&["team"][..], true),
            (&["team=s*"], true),
            (&["team=s*", "tier"], false),
            (&["team=x"], false),
            (&["team="], false),
        ] {
            let selection = Selection {
                labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
                ..Selection::default()
            };
            assert_eq!(selects(&selection), expected, "{labels:?}");
        }
        assert!("=x".parse::<LabelSelector>().is_err());
        assert!("a=[".parse::<LabelSelector>().is_err());
    }

    #[test]
    fn all_kinds_of_choice_must_agree() {
        let mut selection = Selection {
            containers: globs(&["agent-*"]),
            namespaces: globs(&["shop"]),
            ..Selection::default()
        };
        assert!(selects(&selection));
        selection.namespaces = globs(&["other"]);
        assert!(!selects(&selection));
    }

    #[test]
    fn what_is_not_known_is_recorded_and_what_is_outside_is_not() {
        let selection = Selection {
            containers: globs(&["agent-*"]),
            ..Selection::default()
        };
        assert!(selection.selects("/docker/1", &Container::default(), "docker-1"));
        let selection = Selection {
            cgroups: vec!["/agents".to_owned()],
            ..Selection::default()
        };
        assert!(selection.selects("/agents/docker-1.scope", &agent(), "a"));
        assert!(!selection.selects("/system.slice/docker-2.scope", &agent(), "a"));
    }
}
