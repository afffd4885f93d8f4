//! HTTP/1: where a request says it goes (RFC 9112).

use crate::decode::{Progress, name};

/// Request heads beyond this are given up.
pub const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 128;
/// Longer words are no method.
const MAX_METHOD: usize = 20;

/// A host as a client writes it, and a port where it writes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: Option<u16>,
}

/// The first request of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where a proxy is asked to go: by CONNECT, or by a target in absolute form.
    pub proxy: Option<Target>,
    /// What follows the head goes through the proxy to that target.
    pub is_tunnel: bool,
    /// The `Host` header; CONNECT's says nothing of its own and is left out.
    pub host: Option<Target>,
    /// Bytes up to the end of the head.
    pub length: usize,
}

/// Reads the head of a request.
#[must_use]
pub fn read(bytes: &[u8]) -> Progress<Request> {
    if !may_begin(bytes) {
        return Progress::No;
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Progress::More,
        Ok(httparse::Status::Partial) | Err(_) => return Progress::No,
    };
    let target = request.path.unwrap_or_default();
    let is_tunnel = request.method == Some("CONNECT");
    let proxy = if is_tunnel {
        parse_target(target.as_bytes())
    } else {
        absolute(target).and_then(|authority| parse_target(authority.as_bytes()))
    };
    let host = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("host"));
    Progress::Done(Request {
        proxy,
        is_tunnel,
        host: host
            .filter(|_| !is_tunnel)
            .and_then(|host| parse_target(host.value)),
        length,
    })
}

/// Whether the bytes so far are a method in capitals and what follows it.
fn may_begin(bytes: &[u8]) -> bool {
    let method = bytes.iter().take(MAX_METHOD + 1);
    let letters = method.take_while(|byte| byte.is_ascii_uppercase()).count();
    let is_ended = bytes.get(letters).is_none_or(|byte| *byte == b' ');
    (1..=MAX_METHOD).contains(&letters) && is_ended
}

/// The authority of `http://host:port/path`, without user and password.
fn absolute(target: &str) -> Option<&str> {
    let (_, rest) = target.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    (!target.starts_with('/')).then_some(host)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn parse_target(text: &[u8]) -> Option<Target> {
    let text = text.trim_ascii();
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let end = memchr::memchr(b']', rest)?;
            (&rest[..end], rest[end + 1..].strip_prefix(b":"))
        }
        None => match memchr::memrchr(b':', text) {
            Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
            None => (text, None),
        },
    };
    let port = port.and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
    let host = name::from_text(host)?;
    Some(Target { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: Option<u16>) -> Option<Target> {
        let host = host.to_owned();
        Some(Target { host, port })
    }

    fn request(text: &str) -> Request {
        match read(text.as_bytes()) {
            Progress::Done(request) => request,
            Progress::More | Progress::No => panic!("a request: {text}"),
        }
    }

    #[test]
    fn hosts_and_targets() {
        let plain =
            request("GET /?u=http://x/ HTTP/1.1\r\nA: b\r\nhOST: Example.com:8080 \r\n\r\n");
        assert_eq!(plain.host, target("example.com", Some(8080)));
        assert_eq!((plain.proxy, plain.is_tunnel), (None, false));
        let absolute = request("GET http://me:pw@[2001:DB8::1]:81/x HTTP/1.0\r\n\r\nbody");
        assert_eq!(absolute.proxy, target("2001:db8::1", Some(81)));
        let tunnel = request("CONNECT api.example:443 HTTP/1.1\r\nHost: lies\r\n\r\n\x16\x03");
        assert_eq!(tunnel.proxy, target("api.example", Some(443)));
        assert_eq!((tunnel.host, tunnel.is_tunnel), (None, true));
        assert_eq!(tunnel.length, 48);
    }

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = b"POST / HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 1..text.len() {
            assert_eq!(read(&text[..end]), Progress::More, "{end}");
        }
    }

    #[test]
    fn other_text_protocols_are_not_http() {
        for text in [
            &b"USER me\r\n"[..],
            b"EHLO mail.example\r\n",
            b"SSH-2.0-x\r\n",
            b"PRI * HTTP/2.0\r\n\r\n",
            b"get / http/1.1\r\n\r\n",
        ] {
            assert_eq!(read(text), Progress::No, "{}", text.escape_ascii());
        }
        assert_eq!(read(&[b'A'; 30]), Progress::No);
    }
}
