//! One container: its lifetime, its name, and whether it is recorded.

use std::{sync::Arc, time::Instant};

use super::{
    container::ContainerRef,
    engine::{info::ContainerInfo, sockets::Trust},
    machine::HOST,
    naming::WorkloadBy,
    selection::Selection,
};
use crate::{record::Container, redact::Redactor, workload_name::encode};

/// One lifetime of a container.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) reference: ContainerRef,
    pub(super) container: Arc<Container>,
    pub(super) run: Arc<str>,
    /// Its own cgroup. Of nested ones it is the outermost; its id outlives the others.
    pub(super) cgroup_id: u64,
    /// Of that cgroup, relative to the hierarchy's root.
    pub(super) path: String,
    /// Who may write to that cgroup's directory; `None` if it was gone.
    pub(super) uid: Option<u32>,
    pub(super) naming: Naming,
    /// Hooks are wanted at its cgroup.
    pub(super) watched: bool,
    pub(super) is_gone: bool,
    /// The lifetime before this one, whose last flows may still be on their way.
    pub(super) before: Option<Box<Known>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Asked {
        since: Instant,
    },
    Named {
        workload: Arc<str>,
        selected: bool,
    },
    /// Nobody named it in time.
    Provisional {
        workload: Arc<str>,
        selected: bool,
    },
}

impl Naming {
    /// The name, and whether the container is to be recorded.
    pub(super) fn workload(&self) -> Option<(&Arc<str>, bool)> {
        match self {
            Self::Asked { .. } => None,
            Self::Named { workload, selected } | Self::Provisional { workload, selected } => {
                Some((workload, *selected))
            }
        }
    }
}

impl Known {
    /// Whether an engine may speak for this container.
    pub(super) fn believes(&self, trust: Trust) -> bool {
        match trust {
            Trust::Machine => true,
            Trust::User(uid) => self.uid == Some(uid),
        }
    }

    /// Whether it is recorded for all that is known: what is not known yet may be the very one.
    pub(super) fn may_be_selected(&self) -> bool {
        self.naming.workload().is_none_or(|(_, selected)| selected)
    }

    /// The lifetime to which a flow from that cgroup belongs.
    pub(super) fn lifetime(&self, cgroup_id: u64) -> &Self {
        let before = self.before.as_deref();
        before
            .filter(|before| before.cgroup_id == cgroup_id)
            .unwrap_or(self)
    }

    /// Takes the engine's word for it. Names and selectors go by what the labels really say, the
    /// log by what is left of them.
    pub(super) fn name(
        &mut self,
        info: ContainerInfo,
        by: &WorkloadBy,
        selection: &Selection,
        redactor: &Redactor,
    ) {
        let mut container = Container::clone(&self.container);
        info.describe(&mut container);
        let workload = self.workload(&container, by);
        let selected = selection.selects(&self.path, &container, &workload);
        container.labels = redactor.labels(&container.labels);
        container.image = container
            .image
            .map(|image| redactor.text(&image).into_owned());
        self.container = Arc::new(container);
        self.naming = Naming::Named { workload, selected };
    }

    /// Goes on without the engine.
    pub(super) fn settle(&mut self, by: &WorkloadBy, selection: &Selection) {
        let workload = self.workload(&self.container, by);
        let selected = selection.selects(&self.path, &self.container, &workload);
        self.naming = Naming::Provisional { workload, selected };
    }

    fn workload(&self, container: &Container, by: &WorkloadBy) -> Arc<str> {
        match by.container(container, &self.path) {
            Some(name) => foreign_workload(&name),
            None => encode(&self.reference.provisional_name()).into(),
        }
    }
}

/// A name that is not a unit's as a workload's. The host and units keep their own names: who is
/// called like one of them gets its first letter spelled out.
pub(super) fn foreign_workload(name: &str) -> Arc<str> {
    let is_taken = name == HOST || name.ends_with(".service") || name.ends_with(".scope");
    match name.as_bytes().split_first() {
        Some((first, _)) if is_taken && first.is_ascii() => {
            format!("%{first:02X}{}", encode(&name[1..])).into()
        }
        Some(_) | None => encode(name).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_container_takes_the_hosts_or_a_units_name() {
        assert_eq!(&*foreign_workload("agent"), "agent");
        assert_eq!(&*foreign_workload("host"), "%68ost");
        assert_eq!(&*foreign_workload("ssh.service"), "%73sh.service");
        assert_eq!(&*foreign_workload("a b"), "a%20b");
        assert_eq!(&*foreign_workload(""), "%");
    }
}
