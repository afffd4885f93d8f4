//! Unix sockets: what they are called, and which of them lead out.

use std::sync::Arc;

use tracer_common::flow::FlowKey;

use super::{Recorder, Subject};
use crate::{
    decode::socket_name::{UnixSocket, unix_socket},
    enrich::cgroup::is_below,
    wire::generations::Generations,
};

/// Names that are kept, up to twice as many: more than the kernel keeps.
const MAX_NAMES: usize = 2048;

/// What the sockets are called that flows on their way go to.
#[derive(Debug)]
pub(super) struct Sockets {
    names: Generations<u64, Arc<str>>,
    /// Records without a name, ever and since they were last asked for.
    pub(super) nameless: u64,
    untold: u64,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            names: Generations::new(MAX_NAMES),
            nameless: 0,
            untold: 0,
        }
    }
}

impl Sockets {
    pub(super) fn learn(&mut self, names: Vec<(u64, String)>) {
        for (socket, name) in names {
            // What makes room is of sockets that nothing was sent to lately.
            let _forgotten = self.names.insert(socket, name.into());
        }
    }

    /// What the socket is called that a flow goes to. A name that was not kept is counted.
    pub(super) fn name(&mut self, key: &FlowKey) -> Option<Arc<str>> {
        let name = self.names.get_mut(&unix_socket(key)?.name).cloned();
        if name.is_none() {
            self.nameless += 1;
            self.untold += 1;
        }
        name
    }

    /// Records without a name, since the last call.
    pub(super) fn take_untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }
}

impl Recorder {
    /// Whether a flow goes to a Unix socket of the workload's own: what its processes say to each
    /// other leaves nowhere. A listener of which nothing is known is taken for somebody outside.
    pub(super) fn stays_inside(&mut self, key: &FlowKey) -> bool {
        let Some(UnixSocket { cgroup_id, .. }) = unix_socket(key) else {
            return false;
        };
        match &mut self.subject {
            Subject::Machine(machine) => machine.are_together(key, cgroup_id),
            Subject::Command {
                cgroups, cgroup, ..
            } => {
                let listener = cgroups.get(cgroup_id, &self.proc, 0);
                listener.is_some_and(|found| is_below(&found.path, cgroup))
            }
        }
    }
}
