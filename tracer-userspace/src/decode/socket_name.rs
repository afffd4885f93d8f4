//! What a Unix socket was bound to.

use tracer_common::{
    flow::{FlowKey, channel},
    socket::UnixName,
};

/// What the key of a flow to a Unix socket says of whoever listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// The listener's cgroup v2 id; 0 if it is gone.
    pub cgroup_id: u64,
    /// By which the kernel half keeps the name.
    pub name: u64,
}

/// Whose Unix socket a flow is to; `None` of flows to anything else.
#[must_use]
pub fn unix_socket(key: &FlowKey) -> Option<UnixSocket> {
    let [cgroup_id, name] = bytemuck::cast::<_, [u64; 2]>(key.address).map(u64::from_be);
    (key.channel == channel::UNIX).then_some(UnixSocket { cgroup_id, name })
}

/// The path, or an abstract name as `@name`; `None` of a socket without a name.
///
/// A name may be any bytes: what is not UTF-8 is replaced, and a NUL inside an abstract name is
/// written `@`, as `/proc/net/unix` does.
#[must_use]
pub fn socket_name(found: &UnixName) -> Option<String> {
    let length = usize::try_from(found.length).unwrap_or(usize::MAX);
    let bytes = found.name.get(..length)?;
    let cut = match bytes.first()? {
        // Often filled up with NULs to the end.
        0 => bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count(),
        _path => bytes.iter().position(|byte| *byte == 0).unwrap_or(length),
    };
    let text = String::from_utf8_lossy(bytes.get(..cut.max(1))?);
    Some(text.replace('\0', "@"))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn named(bytes: &[u8]) -> Option<String> {
        let mut name = UnixName::zeroed();
        name.length = bytes.len() as u64;
        name.name[..bytes.len()].copy_from_slice(bytes);
        socket_name(&name)
    }

    #[test]
    fn paths_and_abstract_names() {
        let cases: [(&[u8], Option<&str>); 7] = [
            (b"/run/docker.sock\0", Some("/run/docker.sock")),
            (b"/run/docker.sock", Some("/run/docker.sock")),
            (b"/a\0rest", Some("/a")),
            (b"\0agent", Some("@agent")),
            (b"\0agent\0x\0\0\0", Some("@agent@x")),
            (b"\0\0", Some("@")),
            (b"", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(named(bytes).as_deref(), expected, "{bytes:?}");
        }
        assert_eq!(named(b"/a\xff\n").as_deref(), Some("/a\u{fffd}\n"));
    }

    #[test]
    fn a_length_that_cannot_be_is_no_name() {
        let mut name = UnixName::zeroed();
        name.length = u64::MAX;
        assert_eq!(socket_name(&name), None);
    }
}
