//! What the first bytes of a TCP connection's client say, whatever the port.

use crate::decode::{
    Progress,
    http::{self, Target},
    socks,
    tls::{self, ClientHello},
};

/// How many bytes of a connection are looked at: a request to a proxy and a hello behind it.
pub const MAX_FIRST_BYTES: usize = http::MAX_HEAD + tls::MAX_HELLO;
/// A proxy asked to go to a proxy, and so on.
const MAX_PROXIES: usize = 4;

/// Everything that is said, as far as the bytes go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstBytes {
    /// Where a proxy is asked to go: SOCKS, CONNECT, a target in absolute form. Of several, the
    /// last: that is where it ends up.
    pub proxy: Option<Target>,
    /// HTTP/1's `Host`, on the connection or inside a proxy's tunnel.
    pub host: Option<Target>,
    /// The TLS hello, on the connection or inside a proxy's tunnel.
    pub hello: Option<ClientHello>,
    /// Further bytes will not say more.
    pub is_complete: bool,
}

/// Reads all of `bytes`; call it again with more as long as it is not complete.
#[must_use]
pub fn read(mut bytes: &[u8]) -> FirstBytes {
    let mut told = FirstBytes::default();
    for _ in 0..MAX_PROXIES {
        let Some(length) = told.layer(bytes) else {
            return told;
        };
        bytes = bytes.get(length..).unwrap_or_default();
    }
    told.is_complete = true;
    told
}

impl FirstBytes {
    /// Reads one protocol. After a proxy's: how long its part is; else `None`.
    fn layer(&mut self, bytes: &[u8]) -> Option<usize> {
        match bytes.first() {
            None => None,
            Some(22) => {
                self.tls(bytes);
                None
            }
            Some(4 | 5) => self.socks(bytes),
            Some(_) => self.http(bytes),
        }
    }

    fn tls(&mut self, bytes: &[u8]) {
        match tls::from_records(bytes) {
            Progress::Done(hello) => {
                self.hello = Some(hello);
                self.is_complete = true;
            }
            Progress::More => {}
            Progress::No => self.is_complete = true,
        }
    }

    fn socks(&mut self, bytes: &[u8]) -> Option<usize> {
        match socks::read(bytes) {
            Progress::Done((target, length)) => {
                self.proxy = Some(target);
                Some(length)
            }
            Progress::More => None,
            Progress::No => {
                self.is_complete = true;
                None
            }
        }
    }

    fn http(&mut self, bytes: &[u8]) -> Option<usize> {
        match http::read(bytes) {
            Progress::Done(request) => {
                self.host = request.host.or(self.host.take());
                self.proxy = request.proxy.or(self.proxy.take());
                self.is_complete = !request.is_tunnel;
                request.is_tunnel.then_some(request.length)
            }
            Progress::More => None,
            Progress::No => {
                self.is_complete = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tls::tests::{named, records};

    fn proxied(request: &[u8]) -> FirstBytes {
        let hello = records(&named(b"inner.example"), 4096);
        read(&[request, &hello].concat())
    }

    #[test]
    fn a_hello_behind_a_proxys_request_is_found() {
        for request in [
            &b"CONNECT inner.example:443 HTTP/1.1\r\n\r\n"[..],
            b"\x05\x01\x00\x05\x01\x00\x03\x0dinner.example\x01\xbb",
        ] {
            let told = proxied(request);
            assert_eq!(told.proxy.as_ref().map(|proxy| proxy.port), Some(Some(443)));
            let sni = told.hello.and_then(|hello| hello.sni);
            assert_eq!(sni.as_deref(), Some("inner.example"));
            assert!(told.is_complete);
            let alone = read(request);
            assert!(alone.proxy.is_some() && !alone.is_complete);
        }
    }

    #[test]
    fn a_chain_of_proxies_ends() {
        let many = b"CONNECT next:1 HTTP/1.1\r\n\r\n".repeat(100);
        assert!(read(&many).is_complete);
    }

    #[test]
    fn nothing_yet_is_not_nothing() {
        assert_eq!(read(b""), FirstBytes::default());
        assert!(read(b"\x00\x01\x02").is_complete);
    }
}
