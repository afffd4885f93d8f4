//! `Tally`: lines of nothing but a destination, summed before they are observed. A log of ten million
//! lines has a few thousand destinations.

use std::{collections::HashMap, net::IpAddr};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use crate::{import::plain::Plain, record::Protocol};

/// Sums kept at a time. When there are more, all of them are observed, and sums begin anew.
const MAX_SUMS: usize = 16_384;

/// What sums are kept by. Hashed with a seed of this process's own, so that no log can be made to
/// collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) ip: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) lines: u64,
    /// Absent if no line said.
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    sums: HashMap<Key, Sum, RandomState>,
}

impl Tally {
    /// Counts a line in; true if it is time to [take](Self::take).
    pub(super) fn add(&mut self, plain: &Plain) -> bool {
        let Plain {
            ip,
            port,
            protocol,
            time,
        } = *plain;
        let sum = self.sums.entry(Key { ip, port, protocol }).or_insert(Sum {
            lines: 0,
            first: time,
            last: time,
        });
        sum.lines += 1;
        if let Some(time) = time {
            sum.first = Some(sum.first.map_or(time, |first| first.min(time)));
            sum.last = sum.last.max(Some(time));
        }
        self.sums.len() > MAX_SUMS
    }

    /// Everything, in no order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Key, Sum)> + use<> {
        std::mem::take(&mut self.sums).into_iter()
    }
}
