//! What becomes of an engine's answers, and of containers about which none comes.

use std::{sync::Arc, time::Instant};

use super::{
    container::{ContainerRef, Runtime},
    engine::{Answer, info::ContainerInfo},
    known::Naming,
    machine::{Change, Machine, NAME_PATIENCE},
    missing,
};

impl Machine {
    /// An engine has said something of a container, asked or not.
    pub fn named(&mut self, answer: Answer) {
        let Some(known) = self.containers.get_mut(&answer.id) else {
            return self.remember(answer);
        };
        if known.is_gone && known.naming.workload().is_some() {
            // It may be about to start again.
            return self.remember(answer);
        }
        if !known.believes(answer.trust) {
            return;
        }
        match (answer.info, &known.naming) {
            // A name is for a lifetime: a container that is renamed keeps its workload.
            (_, Naming::Named { .. }) | (None, Naming::Provisional { .. }) => {}
            (Some(info), Naming::Asked { .. } | Naming::Provisional { .. }) => {
                self.take_name(&answer.id, info);
            }
            // Nobody else will name it: no use in waiting.
            (None, Naming::Asked { .. }) => self.settle(&answer.id),
        }
    }

    fn remember(&mut self, answer: Answer) {
        if answer.info.is_some() {
            self.beforehand.keep(answer);
        }
    }

    fn take_name(&mut self, id: &str, info: ContainerInfo) {
        let Some(known) = self.containers.get_mut(id) else {
            return;
        };
        let before = known.naming.clone();
        let other_kernel = missing::other_kernel(&info);
        known.name(info, &self.workload_by, &self.selection, &self.redactor);
        let run = known.run.clone();
        let Some((workload, selected)) = known.naming.workload() else {
            return;
        };
        let workload = workload.clone();
        let is_gone = known.is_gone;
        let has_resolver = known.reference.runtime == Runtime::Docker;
        if selected {
            if has_resolver && self.selection.is_by_container() && self.selection.cgroups.is_empty()
            {
                self.watch_engine();
            }
            self.begin(workload.clone(), run.clone(), is_gone);
        }
        match before.workload() {
            Some((provisional, true)) if selected && *provisional != workload => {
                self.changes.push(Change::Renamed {
                    provisional: provisional.clone(),
                    workload: workload.clone(),
                    run,
                });
            }
            // It was recorded for as long as it could have been one of the chosen.
            Some((provisional, true)) if !selected => {
                let workload = provisional.clone();
                self.changes.push(Change::RunEnded { workload, run });
            }
            Some(_) | None => {}
        }
        if let (Some(gap), true) = (other_kernel, selected) {
            let workload = Some(workload);
            self.changes.push(Change::Missing { workload, gap });
        }
        self.watch(id);
    }

    /// Containers that have waited long enough get a provisional name.
    pub fn settle_overdue(&mut self, now: Instant) {
        self.settle_if(|since| now.duration_since(since) >= NAME_PATIENCE);
    }

    /// Gives every container that still waits a provisional name: nothing will follow.
    pub fn settle_all(&mut self) {
        self.settle_if(|_| true);
    }

    fn settle_if(&mut self, is_due: impl Fn(Instant) -> bool) {
        let due = self
            .containers
            .iter()
            .filter(|(_, known)| match known.naming {
                Naming::Asked { since } => is_due(since),
                Naming::Named { .. } | Naming::Provisional { .. } => false,
            });
        let due: Vec<_> = due.map(|(id, _)| id.clone()).collect();
        due.iter().for_each(|id| self.settle(id));
    }

    fn settle(&mut self, id: &str) {
        let Some(known) = self.containers.get_mut(id) else {
            return;
        };
        known.settle(&self.workload_by, &self.selection);
        if let Some((workload, true)) = known.naming.workload() {
            let (workload, run, is_gone) = (workload.clone(), known.run.clone(), known.is_gone);
            self.begin(workload, run, is_gone);
        }
        self.watch(id);
    }

    fn begin(&mut self, workload: Arc<str>, run: Arc<str>, is_gone: bool) {
        self.changes.push(Change::RunBegan {
            workload: workload.clone(),
            run: run.clone(),
        });
        // Over before it had a name.
        if is_gone {
            self.changes.push(Change::RunEnded { workload, run });
        }
    }

    /// What an engine has said already, or will say.
    pub(super) fn ask(&mut self, found: &ContainerRef) {
        if let Some(answer) = self.beforehand.take(&found.id) {
            let believed = self.containers[&found.id].believes(answer.trust);
            self.named(answer);
            if believed {
                return;
            }
        }
        if !found.runtime.has_engine() {
            self.settle(&found.id);
        } else if !self.questions.ask(&found.id) {
            self.not_asked.total += 1;
            self.settle(&found.id);
        }
    }
}
