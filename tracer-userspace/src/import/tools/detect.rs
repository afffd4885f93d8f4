//! Whose line it is, by the keys that only that tool writes.

use serde::{Deserialize, de::IgnoredAny};

use super::zeek_table;

/// A tool whose logs are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::import) enum Tool {
    Zeek,
    Suricata,
    Tetragon,
    Gadget,
    Hubble,
    CargoWall,
}

impl Tool {
    /// Whether some lines name what others tell of.
    pub(in crate::import) fn has_names(self) -> bool {
        match self {
            Self::Zeek | Self::Suricata | Self::Gadget | Self::Hubble => true,
            Self::Tetragon | Self::CargoWall => false,
        }
    }
}

type Mark = Option<IgnoredAny>;

/// Keys, there or not.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::import) struct Marks {
    pub(in crate::import) schema: Mark,
    pub(in crate::import) dest_ip: Mark,
    event_type: Mark,
    would_deny: Mark,
    #[serde(rename = "id.orig_h", alias = "id_orig_h")]
    orig_h: Mark,
    process_exec: Mark,
    process_exit: Mark,
    process_kprobe: Mark,
    process_tracepoint: Mark,
    process_loader: Mark,
    process_uprobe: Mark,
    process_lsm: Mark,
    process_usdt: Mark,
    process_throttle: Mark,
    rate_limit_info: Mark,
    flow: Mark,
    lost_events: Mark,
    node_status: Mark,
    agent_event: Mark,
    debug_event: Mark,
    #[serde(rename = "IP")]
    ip: Mark,
    traffic_direction: Mark,
    netns_id: Mark,
    netnsid: Mark,
    mntns_id: Mark,
    mountnsid: Mark,
    runtime: Mark,
    k8s: Mark,
}

/// The tool that wrote a line; `None` if it is none of them, or cannot be read.
pub(in crate::import) fn tool(line: &[u8]) -> Option<Tool> {
    if zeek_table::is_header(line) {
        return Some(Tool::Zeek);
    }
    serde_json::from_slice::<Marks>(line).ok()?.tool()
}

impl Marks {
    pub(in crate::import) fn tool(&self) -> Option<Tool> {
        let any = |marks: &[&Mark]| marks.iter().any(|mark| mark.is_some());
        let tetragon = [
            &self.process_exec,
            &self.process_exit,
            &self.process_kprobe,
            &self.process_tracepoint,
            &self.process_loader,
            &self.process_uprobe,
            &self.process_lsm,
            &self.process_usdt,
            &self.process_throttle,
            &self.rate_limit_info,
        ];
        let hubble = [
            &self.flow,
            &self.lost_events,
            &self.node_status,
            &self.agent_event,
            &self.debug_event,
        ];
        let gadget = [
            &self.netns_id,
            &self.netnsid,
            &self.mntns_id,
            &self.mountnsid,
            &self.runtime,
            &self.k8s,
        ];
        if self.orig_h.is_some() {
            Some(Tool::Zeek)
        } else if self.would_deny.is_some() {
            Some(Tool::CargoWall)
        } else if self.event_type.is_some() && self.traffic_direction.is_none() && self.ip.is_none()
        {
            Some(Tool::Suricata)
        } else if any(&tetragon) {
            Some(Tool::Tetragon)
        } else if any(&hubble) || self.ip.is_some() {
            Some(Tool::Hubble)
        } else if any(&gadget) && self.dest_ip.is_none() {
            Some(Tool::Gadget)
        } else {
            None
        }
    }
}
