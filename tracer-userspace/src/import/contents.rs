//! `Contents`: what one input said.

use crate::{
    import::completeness::Recordings,
    policy::{Workloads, observe::Source},
};

/// What one input said.
#[derive(Debug)]
pub(super) struct Contents {
    /// In hex; `None` if nobody asks for it.
    pub(super) sha256: Option<String>,
    /// It holds records of ours.
    pub(super) is_ours: bool,
    /// Where the log goes on, by its last record.
    pub(super) next_segment: Option<String>,
    /// Records of ours that only a later version knows.
    pub(super) unknown_types: u64,
    /// Worth knowing, and no reason to stop.
    pub(super) notes: Vec<String>,
    /// Lines that were understood and tell of no destination.
    pub(super) beside: u64,
    /// What others began, by the tool's word or by `--local`.
    pub(super) foreign: u64,
    /// Events that the tool itself says it lost.
    pub(super) lost: u64,
    pub(super) records: u64,
    pub(super) workloads: Workloads,
    pub(super) recordings: Recordings,
    pub(super) is_held: bool,
}

impl Contents {
    pub(super) fn new(max_destinations: usize, is_held: bool) -> Self {
        Self {
            sha256: None,
            is_ours: false,
            next_segment: None,
            unknown_types: 0,
            notes: Vec::new(),
            beside: 0,
            foreign: 0,
            lost: 0,
            records: 0,
            workloads: Workloads::new(max_destinations),
            recordings: Recordings::default(),
            is_held,
        }
    }

    /// What it is, by its content.
    pub(super) fn source(&self) -> Option<Source> {
        let sha256 = self.sha256.clone()?;
        Some(Source {
            sha256,
            records: self.records,
        })
    }

    /// Whether it told of names alone, for destinations in other inputs.
    pub(super) fn is_names_alone(&self) -> bool {
        self.records > 0 && self.workloads.is_empty()
    }

    /// The observations, each workload's with this source and what is wrong with it, in one run if
    /// `run` names one.
    pub(super) fn into_workloads(self, run: Option<&str>) -> Workloads {
        let source = self.source();
        let Self {
            mut workloads,
            recordings,
            is_held,
            ..
        } = self;
        for (workload, unclosed) in recordings.unclosed(is_held) {
            workloads.workload(workload).add_unclosed(unclosed);
        }
        for observations in workloads.iter_mut() {
            source
                .iter()
                .for_each(|source| observations.add_source(source.clone()));
            if let Some(run) = run {
                observations.in_one_run(run);
            }
        }
        workloads
    }
}
