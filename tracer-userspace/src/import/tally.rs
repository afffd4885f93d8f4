//! `Tally`: lines of nothing but a destination, summed before they are observed. A log of ten million
//! lines has a few thousand destinations.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use crate::{import::plain::Plain, record::Protocol};

/// Sums kept at a time. When there are more, all of them are observed, and sums begin anew.
const MAX_SUMS: usize = 16_384;

/// What sums are kept by.
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

/// The same for IPv4, with times in nanoseconds since 1970: half the size.
#[derive(Clone, Copy, Debug)]
struct Packed {
    lines: u64,
    /// After `last` if no line said.
    first: i64,
    last: i64,
}

/// A line that was not summed yet: [its key](packed), and its time if it says.
type Waiting = (u64, Option<i64>);

/// Lines summed together: one after the other, each would wait for memory.
const BATCH: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Tally {
    waiting: Vec<Waiting>,
    /// Of IPv4: most lines are about it, and the whole table is to stay near a core. Hashed, as the
    /// other, with a seed of this process's own, so that no log can be made to collide.
    v4: HashMap<u64, Packed, RandomState>,
    others: HashMap<Key, Sum, RandomState>,
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
        let nanoseconds = time.map(nanoseconds);
        match (ip, nanoseconds) {
            (IpAddr::V4(ip), None) => self.waiting.push((packed(ip, port, protocol), None)),
            (IpAddr::V4(ip), Some(time @ Some(_))) => {
                self.waiting.push((packed(ip, port, protocol), time));
            }
            // Centuries away, or IPv6.
            (IpAddr::V4(_), Some(None)) | (IpAddr::V6(_), _) => {
                self.add_other(Key { ip, port, protocol }, time);
            }
        }
        if self.waiting.len() >= BATCH {
            self.settle();
        }
        self.v4.len() + self.others.len() > MAX_SUMS
    }

    /// Everything, in no order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Key, Sum)> + use<> {
        self.settle();
        let v4 = std::mem::take(&mut self.v4).into_iter();
        let others = std::mem::take(&mut self.others).into_iter();
        v4.map(|(key, sum)| (unpacked(key), sum.unpacked()))
            .chain(others)
    }

    fn settle(&mut self) {
        for (key, time) in self.waiting.drain(..) {
            let sum = self.v4.entry(key).or_insert(Packed {
                lines: 0,
                first: i64::MAX,
                last: i64::MIN,
            });
            sum.lines += 1;
            if let Some(time) = time {
                sum.first = sum.first.min(time);
                sum.last = sum.last.max(time);
            }
        }
    }

    fn add_other(&mut self, key: Key, time: Option<Timestamp>) {
        let sum = self.others.entry(key).or_insert(Sum {
            lines: 0,
            first: time,
            last: time,
        });
        sum.lines += 1;
        if let Some(time) = time {
            sum.first = Some(sum.first.map_or(time, |first| first.min(time)));
            sum.last = sum.last.max(Some(time));
        }
    }
}

impl Packed {
    fn unpacked(self) -> Sum {
        let time = |nanoseconds| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok();
        let is_said = self.first <= self.last;
        Sum {
            lines: self.lines,
            first: time(self.first).filter(|_| is_said),
            last: time(self.last).filter(|_| is_said),
        }
    }
}

/// Since 1970, from 1677 to 2262.
fn nanoseconds(time: Timestamp) -> Option<i64> {
    let whole = time.as_second().checked_mul(1_000_000_000)?;
    whole.checked_add(i64::from(time.subsec_nanosecond()))
}

/// Address, protocol, whether there is a port, port.
fn packed(ip: Ipv4Addr, port: Option<u16>, protocol: Protocol) -> u64 {
    let port = port.map_or(0, |port| 1 << 16 | u64::from(port));
    u64::from(ip.to_bits()) << 32 | u64::from(protocol.0) << 17 | port
}

fn unpacked(key: u64) -> Key {
    let has_port = key & 1 << 16 != 0;
    Key {
        ip: IpAddr::V4(Ipv4Addr::from_bits((key >> 32) as u32)),
        port: has_port.then_some(key as u16),
        protocol: Protocol((key >> 17) as u8),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn line() -> impl Strategy<Value = Plain> {
        let ip = prop_oneof![
            (0..3_u32).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(low))),
            Just(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
        ];
        let seconds = prop_oneof![-3..3_i64, Just(-60_000_000_000), Just(200_000_000_000)];
        let time = (seconds, 0..1_000_000_000_i32);
        let time = time.prop_map(|(second, part)| Timestamp::new(second, part).unwrap());
        (
            ip,
            any::<Option<u16>>(),
            5..7_u8,
            proptest::option::of(time),
        )
            .prop_map(|(ip, port, protocol, time)| Plain {
                ip,
                port: port.map(|port| port % 2),
                protocol: Protocol(protocol),
                time,
            })
    }

    proptest! {
        #[test]
        fn a_key_survives_packing(ip: u32, port: Option<u16>, protocol: u8) {
            let (ip, protocol) = (Ipv4Addr::from_bits(ip), Protocol(protocol));
            let key = Key { ip: IpAddr::V4(ip), port, protocol };
            prop_assert_eq!(unpacked(packed(ip, port, protocol)), key);
        }

        #[test]
        fn sums_are_those_of_the_lines(lines in vec(line(), 0..600)) {
            let mut tally = Tally::default();
            let mut expected: BTreeMap<_, Vec<Option<Timestamp>>> = BTreeMap::new();
            for line in &lines {
                tally.add(line);
                let key = (line.ip, line.port, line.protocol);
                expected.entry(key).or_default().push(line.time);
            }
            // One key may come in several sums.
            let mut found: BTreeMap<_, Sum> = BTreeMap::new();
            for (Key { ip, port, protocol }, sum) in tally.take() {
                let known = found.entry((ip, port, protocol)).or_insert(Sum { lines: 0, ..sum });
                known.lines += sum.lines;
                known.first = [known.first, sum.first].into_iter().flatten().min();
                known.last = known.last.max(sum.last);
            }
            let expected: BTreeMap<_, _> = expected.into_iter().map(|(key, times)| {
                let first = times.iter().flatten().min().copied();
                let last = times.iter().flatten().max().copied();
                (key, Sum { lines: times.len() as u64, first, last })
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
