//! SOCKS 4, 4a and 5: where a proxy is asked to go, from the client's bytes alone.
//!
//! RFC 1928 and RFC 1929; <https://www.openssh.com/txt/socks4.protocol> and `socks4a.protocol`. No
//! library reads one side only, and there is little to read.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::decode::{Progress, http::Target, name};

/// Names in version 4 end with a zero byte; longer ones are given up.
const MAX_TEXT: usize = 255;

/// The target, and how many bytes the client sent up to the end of its request.
#[must_use]
pub fn read(bytes: &[u8]) -> Progress<(Target, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let told = match bytes.first() {
        Some(5) => reader.version5(),
        Some(4) => reader.version4(),
        Some(_) => Err(Stop::No),
        None => Err(Stop::More),
    };
    match told {
        Ok(target) => Progress::Done((target, reader.at)),
        Err(Stop::More) => Progress::More,
        Err(Stop::No) => Progress::No,
    }
}

enum Stop {
    More,
    No,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let taken = self.bytes.get(self.at..self.at + length);
        self.at += length;
        taken.ok_or(Stop::More)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.take(1).map(|byte| byte[0])
    }

    fn port(&mut self) -> Result<u16, Stop> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn counted(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    fn until_zero(&mut self) -> Result<&'a [u8], Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match memchr::memchr(0, rest) {
            Some(end) if end <= MAX_TEXT => {
                self.at += end + 1;
                Ok(&rest[..end])
            }
            None if rest.len() <= MAX_TEXT => Err(Stop::More),
            Some(_) | None => Err(Stop::No),
        }
    }

    fn expect(&mut self, is: impl Fn(u8) -> bool) -> Result<u8, Stop> {
        match self.byte()? {
            byte if is(byte) => Ok(byte),
            _ => Err(Stop::No),
        }
    }

    /// Greeting, perhaps user and password, request. What the server chose shows in what comes.
    fn version5(&mut self) -> Result<Target, Stop> {
        self.expect(|version| version == 5)?;
        let methods = self.expect(|methods| methods > 0)?;
        self.take(usize::from(methods))?;
        if self.expect(|version| matches!(version, 1 | 5))? == 1 {
            self.counted()?;
            self.counted()?;
            self.expect(|version| version == 5)?;
        }
        // CONNECT, BIND, UDP ASSOCIATE.
        self.expect(|command| (1..=3).contains(&command))?;
        self.expect(|reserved| reserved == 0)?;
        let host = match self.byte()? {
            1 => self.ip4()?,
            3 => self.name(Self::counted)?,
            4 => self.ip6()?,
            _ => return Err(Stop::No),
        };
        let port = Some(self.port()?);
        Ok(Target { host, port })
    }

    fn version4(&mut self) -> Result<Target, Stop> {
        self.expect(|version| version == 4)?;
        self.expect(|command| (1..=2).contains(&command))?;
        let port = self.port()?;
        let address = self.take(4)?;
        let _user = self.until_zero()?;
        // 0.0.0.x with x not 0: a name follows.
        let host = match *address {
            [0, 0, 0, last] if last != 0 => self.name(Self::until_zero)?,
            [a, b, c, d] => Ipv4Addr::new(a, b, c, d).to_string(),
            _ => return Err(Stop::No),
        };
        let port = Some(port);
        Ok(Target { host, port })
    }

    fn name(&mut self, read: fn(&mut Self) -> Result<&'a [u8], Stop>) -> Result<String, Stop> {
        name::from_text(read(self)?).ok_or(Stop::No)
    }

    fn ip4(&mut self) -> Result<String, Stop> {
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| Stop::No)?;
        Ok(Ipv4Addr::from(bytes).to_string())
    }

    fn ip6(&mut self) -> Result<String, Stop> {
        let bytes: [u8; 16] = self.take(16)?.try_into().map_err(|_| Stop::No)?;
        Ok(Ipv6Addr::from(bytes).to_canonical().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], host: &str, port: u16) {
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Progress::More, "{end}");
        }
        let target = Target {
            host: host.to_owned(),
            port: Some(port),
        };
        let more = [bytes, b"GET"].concat();
        assert_eq!(read(&more), Progress::Done((target, bytes.len())));
    }

    #[test]
    fn every_version_names_its_target() {
        check(
            b"\x05\x01\x00\x05\x01\x00\x03\x05a.B.c\x01\xbb",
            "a.b.c",
            443,
        );
        check(
            b"\x05\x02\x00\x02\x01\x02me\x02pw\x05\x01\x00\x01\xc6\x33\x64\x07\x00\x50",
            "198.51.100.7",
            80,
        );
        let v6 = b"\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50";
        check(v6, "2001:db8::1", 80);
        check(
            b"\x04\x01\x00\x50\xc6\x33\x64\x07me\x00",
            "198.51.100.7",
            80,
        );
        check(
            b"\x04\x01\x01\xbb\x00\x00\x00\x01\x00host.example\x00",
            "host.example",
            443,
        );
    }

    #[test]
    fn other_bytes_are_not_socks() {
        for bytes in [&b"\x05\x00"[..], b"\x05\x01\x00\x07", b"\x04\x09", b"\x06"] {
            assert_eq!(read(bytes), Progress::No);
        }
        assert_eq!(
            read(&[&b"\x04\x01\0\x50\x01\x02\x03\x04"[..], &[b'u'; 300]].concat()),
            Progress::No
        );
    }
}
