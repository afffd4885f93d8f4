//! `Fragments`: IP packets put together again, in bounded memory.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use etherparse::{IpNumber, defrag::IpDefragBuf};

use crate::{
    import::capture::packet::{Fragment, Packet},
    record::Protocol,
};

/// Packets whose fragments are waited for.
const MAX_PENDING: usize = 1024;
/// Their bytes, with the holes between them.
const MAX_BYTES: usize = 8 << 20;

/// A packet's payload, as far as its fragments came.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    payload: Vec<u8>,
}

impl Whole {
    pub(super) fn packet(&self) -> Packet<'_> {
        Packet {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            payload: &self.payload,
            missing: 0,
            fragment: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    identification: u32,
}

#[derive(Debug, Default)]
pub(super) struct Fragments {
    pending: HashMap<Key, (u64, IpDefragBuf)>,
    /// From the order of their first fragments.
    by_age: BTreeMap<u64, Key>,
    begun: u64,
    bytes: usize,
    /// Packets that never became whole. The start of one tells its flow all the same.
    pub(super) incomplete: u64,
}

impl Fragments {
    /// Takes in a fragment. What is whole now comes back, and the starts of what is given up.
    pub(super) fn add(&mut self, packet: &Packet<'_>, fragment: Fragment) -> Vec<Whole> {
        let key = Key {
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            identification: fragment.identification,
        };
        let begun = self.begun;
        let (_, buffer) = self.pending.entry(key).or_insert_with(|| {
            self.by_age.insert(begun, key);
            self.begun += 1;
            let number = IpNumber(key.protocol.0);
            (begun, IpDefragBuf::new(number, Vec::new(), Vec::new()))
        });
        let before = buffer.data().len();
        // Fragments that contradict each other are left out.
        let _ = buffer.add(fragment.offset, fragment.more, packet.payload);
        self.bytes += buffer.data().len().saturating_sub(before);
        let mut out = Vec::new();
        if buffer.is_complete() {
            out.extend(self.take(&key));
        }
        while self.pending.len() > MAX_PENDING || self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                break;
            };
            out.extend(self.take(&oldest));
        }
        out
    }

    /// The starts of all that never became whole.
    pub(super) fn give_up(&mut self) -> Vec<Whole> {
        let keys = std::mem::take(&mut self.by_age);
        let starts = keys.values().filter_map(|key| self.take(key));
        starts.collect()
    }

    /// What stands at the start of a packet, if that is there.
    fn take(&mut self, key: &Key) -> Option<Whole> {
        let (begun, buffer) = self.pending.remove(key)?;
        self.by_age.remove(&begun);
        self.bytes = self.bytes.saturating_sub(buffer.data().len());
        self.incomplete += u64::from(!buffer.is_complete());
        let start = buffer.sections().iter().find(|section| section.start == 0);
        let end = usize::from(start?.end);
        let (mut payload, _) = buffer.take_bufs();
        payload.truncate(end);
        Some(Whole {
            source: key.source,
            destination: key.destination,
            protocol: key.protocol,
            payload,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use etherparse::IpFragOffset;

    use super::*;

    fn add(
        fragments: &mut Fragments,
        id: u32,
        units: u16,
        more: bool,
        payload: &[u8],
    ) -> Vec<Whole> {
        let packet = Packet {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol: Protocol::UDP,
            payload,
            missing: 0,
            fragment: None,
        };
        let fragment = Fragment {
            identification: id,
            offset: IpFragOffset::try_new(units).unwrap(),
            more,
        };
        fragments.add(&packet, fragment)
    }

    #[test]
    fn fragments_in_any_order_become_a_packet() {
        let mut fragments = Fragments::default();
        assert!(add(&mut fragments, 7, 1, false, b"end").is_empty());
        assert!(add(&mut fragments, 8, 0, true, b"otherone").is_empty());
        let whole = add(&mut fragments, 7, 0, true, b"12345678");
        assert_eq!(whole[0].packet().payload, b"12345678end");
        let left = fragments.give_up();
        assert_eq!(left[0].packet().payload, b"otherone");
        assert_eq!((fragments.incomplete, fragments.bytes), (1, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut fragments = Fragments::default();
        let mut starts = 0;
        for id in 0..3000 {
            starts += add(&mut fragments, id, 0, true, &[0; 8]).len();
            starts += add(&mut fragments, id + 100_000, 8000, false, &[0; 8]).len();
        }
        assert!(fragments.pending.len() <= MAX_PENDING && fragments.bytes <= MAX_BYTES);
        assert_eq!(fragments.pending.len(), fragments.by_age.len());
        assert!(starts > 1000 && fragments.incomplete > 2000);
    }
}
