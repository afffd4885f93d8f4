//! Which flows' datagrams were answered. Pure.
//!
//! The kernel tells from where something has come back, by cgroup; whose flow it was is found here.

use std::{collections::HashMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use tracer_common::{
    flow::{FlowKey, channel},
    socket::{Answer, MAX_ANSWERS},
};

use crate::record::ip_from_mapped;

/// IANA's numbers of UDP and UDP-Lite.
const DATAGRAMS: [u16; 2] = [17, 136];

/// What is known of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Answered, and not told yet.
    is_news: bool,
    /// The last record that counted something, or one since, says so.
    is_told: bool,
}

impl Heard {
    /// Further datagrams have left.
    pub fn begin(&mut self) {
        self.is_told = false;
    }

    pub fn learn(&mut self) {
        self.is_news |= !self.is_told;
    }

    #[must_use]
    pub fn has_news(self) -> bool {
        self.is_news
    }

    pub fn was_told(&mut self) {
        self.is_told |= std::mem::take(&mut self.is_news);
    }
}

/// Answers of the last sweep, and those before whose flow was not there. No more than the kernel keeps
/// between two sweeps.
#[derive(Debug, Default)]
pub struct Answers {
    new: Vec<Answer>,
    late: Vec<Answer>,
}

impl Answers {
    pub fn add(&mut self, answers: &[Answer]) {
        let room = MAX_ANSWERS.saturating_sub(self.new.len());
        self.new.extend(answers.iter().take(room));
    }

    /// Hands out all of them, each with a mark to be set where its flow is found. The counts of a flow
    /// that began while the kernel was being swept come with the next sweep: its answer waits for that.
    pub fn settle(&mut self, find: impl FnOnce(&mut HashMap<Answer, bool>)) {
        if self.new.is_empty() && self.late.is_empty() {
            return;
        }
        let all = self.late.drain(..).chain(self.new.iter().copied());
        let mut found: HashMap<Answer, bool> = all.map(|answer| (answer, false)).collect();
        find(&mut found);
        self.late = std::mem::take(&mut self.new);
        self.late.retain(|answer| found.get(answer) == Some(&false));
    }
}

/// Whether answers to a flow's datagrams are heard. A stream has outcomes instead; what is sent to a
/// group is answered by others than the group.
#[must_use]
pub fn are_heard(key: &FlowKey) -> bool {
    let is_datagram = match key.channel {
        channel::SENDMSG | channel::CONNECTED_DATAGRAM => DATAGRAMS.contains(&key.protocol),
        channel::PING | channel::RAW | channel::UDP_LITE => true,
        _others => false,
    };
    let is_group = match ip_from_mapped(key.address) {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    };
    is_datagram && !is_group
}

/// What an answer to a flow looks like whose datagrams go to `address` and `port`.
#[must_use]
pub fn answer_from(key: &FlowKey, address: [u8; 16], port: u16) -> Answer {
    Answer {
        cgroup_id: key.cgroup_id,
        address,
        port,
        protocol: key.protocol,
        reserved: 0,
    }
}
