//! Where containers are chosen: whose own cgroup needs hooks, so that the others cost nothing.

use super::{
    cgroup::is_below,
    known::Known,
    machine::{Change, ENGINE, Machine},
    resolver,
};

impl Machine {
    /// The engine's resolver sends for containers, from the engine's cgroup. Where that is the
    /// root, all others pay for the hooks too: rather that than rules without a name server.
    pub(super) fn watch_engine(&mut self) {
        let has_hooks = |cgroup_id| self.knows_cgroup(cgroup_id);
        if self.engine.is_some_and(has_hooks) {
            return;
        }
        if let Some((cgroup_id, path)) = self.find_engine() {
            self.engine = Some(cgroup_id);
            self.changes.push(Change::Watch { cgroup_id, path });
        }
    }

    /// The cgroup in which the engine with the resolver runs, if one does.
    #[must_use]
    pub fn engine_cgroup(&self) -> Option<u64> {
        self.find_engine().map(|(cgroup_id, _)| cgroup_id)
    }

    fn find_engine(&self) -> Option<(u64, String)> {
        let path = resolver::cgroup_of_program(&self.proc, ENGINE)?;
        let mut cgroups = self.cgroups.iter();
        let (cgroup_id, _) = cgroups.find(|(_, cgroup)| cgroup.path == path)?;
        Some((cgroup_id, path))
    }

    /// Decides anew whether a container's own cgroup needs hooks. Those of a chosen cgroup, or of
    /// a container around it, see what happens inside: a second time would count twice.
    pub(super) fn watch(&mut self, id: &str) {
        if !self.selection.is_by_container() {
            return;
        }
        let Some(known) = self.containers.get(id) else {
            return;
        };
        let is_seen = self.selection.covers(&known.path) || self.is_inside_watched(known);
        let wanted = !known.is_gone && known.may_be_selected() && !is_seen;
        if wanted == known.watched {
            return;
        }
        let (cgroup_id, path) = (known.cgroup_id, known.path.clone());
        if let Some(known) = self.containers.get_mut(id) {
            known.watched = wanted;
        }
        if wanted {
            self.changes.push(Change::Watch { cgroup_id, path });
            return;
        }
        // First what is inside, or its flows between the two would be lost.
        let inside = self
            .containers
            .iter()
            .filter(|(_, known)| known.cgroup_id != cgroup_id && is_below(&known.path, &path));
        let inside: Vec<_> = inside.map(|(id, _)| id.clone()).collect();
        inside.iter().for_each(|id| self.watch(id));
        self.changes.push(Change::Unwatch { cgroup_id });
    }

    fn is_inside_watched(&self, known: &Known) -> bool {
        self.containers.values().any(|other| {
            other.watched
                && other.cgroup_id != known.cgroup_id
                && is_below(&known.path, &other.path)
        })
    }
}
