//! The ring buffer's events as an enum.

use tracer_common::{
    event::{CGROUP_PATH_BYTES, CgroupChange, Header, NewFlow, kind},
    flow::{FlowKey, FlowValue},
};

/// One piece of news from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key is new in the flow table.
    NewFlow { key: FlowKey, value: FlowValue },
    /// A key is in the flow table again, for what became of earlier attempts.
    KeyAgain,
    /// A cgroup was made. `path` is relative to the hierarchy's root and starts with a slash;
    /// `None` if it was too long to travel.
    CgroupCreated {
        cgroup_id: u64,
        path: Option<String>,
    },
    /// A cgroup was removed. `path` as above.
    CgroupRemoved {
        cgroup_id: u64,
        path: Option<String>,
    },
}

/// Decodes one event; `None` if it is too short or of a kind that this version does not know.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Event> {
    match pod::<Header>(bytes)?.kind {
        kind::NEW_FLOW => {
            let NewFlow { key, value, .. } = pod(bytes)?;
            Some(Event::NewFlow { key, value })
        }
        kind::KEY_AGAIN => Some(Event::KeyAgain),
        kind::CGROUP_CREATED => {
            let change: CgroupChange = pod(bytes)?;
            Some(Event::CgroupCreated {
                cgroup_id: change.cgroup_id,
                path: path(&change),
            })
        }
        kind::CGROUP_REMOVED => {
            let change: CgroupChange = pod(bytes)?;
            Some(Event::CgroupRemoved {
                cgroup_id: change.cgroup_id,
                path: path(&change),
            })
        }
        _unknown => None,
    }
}

fn path(change: &CgroupChange) -> Option<String> {
    let length = change.path_len as usize;
    let cut = length >= CGROUP_PATH_BYTES - 1;
    let bytes = change
        .path
        .get(..length)
        .filter(|bytes| !cut && !bytes.is_empty())?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn pod<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    bytes
        .get(..size_of::<T>())
        .map(bytemuck::pod_read_unaligned)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn change(kind: u32, path: &[u8]) -> CgroupChange {
        let mut change = CgroupChange::zeroed();
        change.header.kind = kind;
        change.cgroup_id = 7;
        change.path_len = path.len() as u32;
        change.path[..path.len()].copy_from_slice(path);
        change
    }

    #[test]
    fn reads_a_path() {
        let bytes = change(kind::CGROUP_CREATED, b"/docker/ab\xff");
        let path = Some("/docker/ab\u{fffd}".to_owned());
        let expected = Event::CgroupCreated { cgroup_id: 7, path };
        assert_eq!(decode(bytemuck::bytes_of(&bytes)), Some(expected));
    }

    #[test]
    fn a_cut_path_is_no_path() {
        let bytes = change(kind::CGROUP_CREATED, &[b'a'; CGROUP_PATH_BYTES - 1]);
        let expected = Event::CgroupCreated {
            cgroup_id: 7,
            path: None,
        };
        assert_eq!(decode(bytemuck::bytes_of(&bytes)), Some(expected));
    }

    #[test]
    fn short_or_unknown_events_are_refused() {
        let bytes = change(kind::CGROUP_REMOVED, b"/a");
        let bytes = bytemuck::bytes_of(&bytes);
        (0..bytes.len()).for_each(|length| assert_eq!(decode(&bytes[..length]), None));
        assert_eq!(decode(&[0xff; 600]), None);
    }
}
