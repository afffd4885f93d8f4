//! DNS messages: what was asked and what was answered, over UDP, over TCP, mDNS and LLMNR.
//!
//! hickory-proto reads names and record data. The message is walked here, record by record, because
//! hickory refuses a whole message for one bad record in it, and one bad record must not hide an
//! address that a client may be about to use.

use std::net::IpAddr;

use hickory_proto::{
    rr::{Name, RData, RecordType, rdata::SVCB, rdata::svcb::SvcParamValue},
    serialize::binary::{BinDecodable as _, BinDecoder, Restrict},
};

use crate::decode::name;

/// Questions and answers kept of one message; what is beyond is counted as undecodable.
const MAX_KEPT: usize = 512;
/// A header and nothing else (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
const CLASS_IN: u16 = 1;
/// mDNS uses the class's highest bit for itself (RFC 6762 section 10.2).
const CLASS_BITS: u16 = 0x7fff;
/// The highest TTL; RFC 2181 section 8 reads a higher one as 0.
const MAX_TTL: u32 = 0x7fff_ffff;

/// Who speaks this message format, told by the server's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Dns,
    /// Multicast DNS (RFC 6762): anybody on the link answers.
    Mdns,
    /// Link-local multicast name resolution (RFC 4795): likewise.
    Llmnr,
}

/// What carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Which dialect is spoken on a port, by convention.
#[must_use]
pub fn dialect(port: u16) -> Option<Dialect> {
    match port {
        53 => Some(Dialect::Dns),
        5353 => Some(Dialect::Mdns),
        5355 => Some(Dialect::Llmnr),
        _ => None,
    }
}

/// One message, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub id: u16,
    pub is_response: bool,
    /// The server had more to say than fits: the client asks again over TCP.
    pub is_truncated: bool,
    /// With the higher bits of EDNS (RFC 6891 section 6.1.3).
    pub rcode: u16,
    pub questions: Vec<Question>,
    /// From the answer section.
    pub answers: Vec<Answer>,
    /// Records that could not be read, those after them that could not be found, and those beyond
    /// the limit.
    pub undecodable: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub kind: Kind,
}

/// A record type by its number (IANA, DNS parameters).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u16);

impl std::fmt::Display for Kind {
    /// `AAAA`, or `TYPE65280` (RFC 3597) where there is no name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = RecordType::from(self.0);
        if let RecordType::Unknown(number) = kind {
            return write!(f, "TYPE{number}");
        }
        write!(f, "{kind}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    pub kind: Kind,
    /// Seconds.
    pub ttl: u32,
    pub data: Data,
}

/// What answers say about destinations; other types are not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A, AAAA.
    Address(IpAddr),
    /// CNAME: the name goes on there.
    Alias(String),
    /// SRV.
    Service {
        target: String,
        port: u16,
    },
    /// PTR.
    Pointer(String),
    /// HTTPS, SVCB (RFC 9460). A target of `.` is the record's own name.
    Hints {
        target: String,
        addresses: Vec<IpAddr>,
        port: Option<u16>,
        alpn: Vec<String>,
        /// It brings the keys for an encrypted hello.
        ech: bool,
    },
    Other,
}

/// Reads a message; `None` if not even its header and first question are there.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Message> {
    // Positions in a message have 16 bits.
    let bytes = bytes.get(..bytes.len().min(usize::from(u16::MAX)))?;
    let mut walk = Walk {
        decoder: BinDecoder::new(bytes),
        message: Message::default(),
    };
    let counts = walk.header()?;
    for read in 0..counts.questions {
        if walk.question().is_none() {
            if read == 0 {
                return None;
            }
            walk.message.undecodable += 1;
            return Some(walk.message);
        }
    }
    walk.records(counts);
    Some(walk.message)
}

/// The first message of a TCP stream, which is its length and then itself (RFC 1035 section 4.2.2),
/// and how many bytes that takes; `None` until it is whole.
#[must_use]
pub fn first_in_stream(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let message = rest.get(..length)?;
    Some((message, 2 + length))
}

/// The response code in capitals, as RFC 6895 section 2.3 spells it.
#[must_use]
pub fn rcode_name(rcode: u16) -> String {
    let name = match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        other => return format!("RCODE{other}"),
    };
    name.to_owned()
}

#[derive(Clone, Copy)]
struct Counts {
    questions: u16,
    answers: u16,
    authorities: u16,
    additionals: u16,
}

struct Walk<'b> {
    decoder: BinDecoder<'b>,
    message: Message,
}

/// A record without its data.
struct Head {
    name: Name,
    kind: u16,
    class: u16,
    ttl: u32,
    length: u16,
}

impl Walk<'_> {
    fn u16(&mut self) -> Option<u16> {
        self.decoder.read_u16().ok().map(Restrict::unverified)
    }

    fn header(&mut self) -> Option<Counts> {
        if self.decoder.len() < HEADER {
            return None;
        }
        self.message.id = self.u16()?;
        let flags = self.u16()?;
        self.message.is_response = flags & 0x8000 != 0;
        self.message.is_truncated = flags & 0x0200 != 0;
        self.message.rcode = flags & 0x000f;
        Some(Counts {
            questions: self.u16()?,
            answers: self.u16()?,
            authorities: self.u16()?,
            additionals: self.u16()?,
        })
    }

    fn question(&mut self) -> Option<()> {
        let name = Name::read(&mut self.decoder).ok()?;
        let kind = Kind(self.u16()?);
        let _class = self.u16()?;
        if self.message.questions.len() < MAX_KEPT {
            let name = text(&name);
            self.message.questions.push(Question { name, kind });
        } else {
            self.message.undecodable += 1;
        }
        Some(())
    }

    /// Of the sections after the answers only EDNS's share of the response code is of use.
    fn records(&mut self, counts: Counts) {
        let after = u32::from(counts.authorities) + u32::from(counts.additionals);
        let total = u32::from(counts.answers) + after;
        for number in 0..total {
            let Some(head) = self.head() else {
                self.message.undecodable += total - number;
                return;
            };
            if number < u32::from(counts.answers) {
                self.answer(&head);
            } else if RecordType::from(head.kind) == RecordType::OPT {
                self.message.rcode |= ((head.ttl >> 24) as u16) << 4;
            }
            if self.decoder.read_slice(usize::from(head.length)).is_err() {
                self.message.undecodable += total - number - 1;
                return;
            }
        }
    }

    fn head(&mut self) -> Option<Head> {
        let name = Name::read(&mut self.decoder).ok()?;
        let kind = self.u16()?;
        let class = self.u16()?;
        let ttl = self.decoder.read_u32().ok()?.unverified();
        let length = self.u16()?;
        Some(Head {
            name,
            kind,
            class,
            ttl,
            length,
        })
    }

    fn answer(&mut self, head: &Head) {
        if head.class & CLASS_BITS != CLASS_IN {
            return;
        }
        let data = self.data(head);
        match data {
            Some(data) if self.message.answers.len() < MAX_KEPT => {
                self.message.answers.push(Answer {
                    name: text(&head.name),
                    kind: Kind(head.kind),
                    ttl: if head.ttl > MAX_TTL { 0 } else { head.ttl },
                    data,
                });
            }
            Some(_) | None => self.message.undecodable += 1,
        }
    }

    /// The data at the decoder's place, which stays where it is; `None` if it cannot be read.
    fn data(&self, head: &Head) -> Option<Data> {
        let kind = RecordType::from(head.kind);
        let is_read = matches!(
            kind,
            RecordType::A
                | RecordType::AAAA
                | RecordType::CNAME
                | RecordType::SRV
                | RecordType::PTR
                | RecordType::HTTPS
                | RecordType::SVCB
        );
        if !is_read {
            return Some(Data::Other);
        }
        if self.decoder.len() < usize::from(head.length) {
            return None;
        }
        let mut decoder = self.decoder.clone(self.decoder.index() as u16);
        let data = RData::read(&mut decoder, kind, Restrict::new(head.length)).ok()?;
        told(&data)
    }
}

fn told(data: &RData) -> Option<Data> {
    if let Some(address) = data.ip_addr() {
        return Some(Data::Address(address.to_canonical()));
    }
    if let RData::CNAME(alias) = data {
        return Some(Data::Alias(text(&alias.0)));
    }
    if let RData::PTR(pointer) = data {
        return Some(Data::Pointer(text(&pointer.0)));
    }
    if let RData::SRV(service) = data {
        let target = text(&service.target);
        let port = service.port;
        return Some(Data::Service { target, port });
    }
    if let RData::HTTPS(binding) = data {
        return Some(hints(&binding.0));
    }
    if let RData::SVCB(binding) = data {
        return Some(hints(binding));
    }
    // An empty record of a type that is read (an update deletes so) says nothing.
    None
}

fn hints(binding: &SVCB) -> Data {
    let (mut addresses, mut alpn, mut port, mut ech) = (Vec::new(), Vec::new(), None, false);
    for (_, value) in &binding.svc_params {
        match value {
            SvcParamValue::Ipv4Hint(hint) => {
                addresses.extend(hint.0.iter().map(|address| IpAddr::V4(address.0)));
            }
            SvcParamValue::Ipv6Hint(hint) => {
                addresses.extend(hint.0.iter().map(|address| IpAddr::V6(address.0)));
            }
            SvcParamValue::Alpn(protocols) => {
                let protocols = protocols.0.iter();
                alpn.extend(protocols.map(|name| name.as_bytes().escape_ascii().to_string()));
            }
            SvcParamValue::Port(number) => port = Some(*number),
            SvcParamValue::EchConfigList(_) => ech = true,
            SvcParamValue::Mandatory(_)
            | SvcParamValue::NoDefaultAlpn
            | SvcParamValue::Unknown(_) => {}
        }
    }
    Data::Hints {
        target: text(&binding.target_name),
        addresses,
        port,
        alpn,
        ech,
    }
}

fn text(name: &Name) -> String {
    name::from_labels(name.iter())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
pub(super) mod tests {
    use super::*;

    fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
        let words = [0x1234, flags].into_iter().chain(counts);
        words.flat_map(u16::to_be_bytes).collect()
    }

    fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u16).to_be_bytes();
        let parts: [&[u8]; 6] = [
            name,
            &kind.to_be_bytes(),
            &[0, 1],
            &ttl.to_be_bytes(),
            &length,
            data,
        ];
        parts.concat()
    }

    /// `Api.Example` is an alias of `cdn.example`, which has two addresses.
    pub(in crate::decode) fn answer() -> Vec<u8> {
        let parts = [
            header(0x8180, [1, 3, 0, 0]),
            b"\x03Api\x07Example\x00\x00\x01\x00\x01".to_vec(),
            record(b"\xc0\x0c", 5, 60, b"\x03cdn\xc0\x10"),
            record(b"\x03cdn\xc0\x10", 1, 30, &[198, 51, 100, 7]),
            record(b"\xc0\x0c", 28, u32::MAX, &[0x20; 16]),
        ];
        parts.concat()
    }

    #[test]
    fn a_chain_is_read_to_its_addresses() {
        let message = read(&answer()).unwrap();
        assert_eq!(
            (message.id, message.rcode, message.undecodable),
            (0x1234, 0, 0)
        );
        assert!(message.is_response && !message.is_truncated);
        assert_eq!(message.questions[0].name, "api.example");
        assert_eq!(message.questions[0].kind.to_string(), "A");
        let [alias, address, six] = &message.answers[..] else {
            panic!("three answers: {message:?}");
        };
        assert_eq!(alias.data, Data::Alias("cdn.example".to_owned()));
        assert_eq!((address.name.as_str(), address.ttl), ("cdn.example", 30));
        assert_eq!(address.data, Data::Address("198.51.100.7".parse().unwrap()));
        assert_eq!(six.ttl, 0);
    }

    #[test]
    fn a_bad_record_is_counted_and_hides_no_other() {
        let bytes = [
            header(0x8183, [1, 3, 0, 0]),
            b"\x01a\x00\x00\x01\x00\x01".to_vec(),
            record(b"\xc0\x0c", 1, 30, &[1, 2, 3]),
            // An HTTPS record whose parameter is longer than the record.
            record(b"\xc0\x0c", 65, 30, &[0, 1, 0, 0, 4, 0, 99]),
            record(b"\xc0\x0c", 1, 30, &[192, 0, 2, 1]),
        ]
        .concat();
        let message = read(&bytes).unwrap();
        assert_eq!((message.answers.len(), message.undecodable), (1, 2));
        assert_eq!(rcode_name(message.rcode), "NXDOMAIN");
    }

    #[test]
    fn service_records_and_hints() {
        let bytes = [
            header(0x8580, [0, 3, 0, 1]),
            record(b"\x01s\x00", 33, 1, b"\0\0\0\0\x01\xbb\x01t\x00"),
            record(
                b"\x01h\x00",
                65,
                1,
                b"\0\x01\0\0\x01\0\x03\x02h2\0\x03\0\x02\x20\xfb\0\x04\0\x04\xc0\0\x02\x01",
            ),
            record(b"\x01p\x00", 12, 1, b"\x01q\x00"),
            // EDNS: the higher bits of BADVERS.
            record(b"\x00", 41, 0x0100_0000, b""),
        ]
        .concat();
        let message = read(&bytes).unwrap();
        let data: Vec<&Data> = message.answers.iter().map(|answer| &answer.data).collect();
        let target = "t".to_owned();
        assert_eq!(*data[0], Data::Service { target, port: 443 });
        assert_eq!(
            *data[1],
            Data::Hints {
                target: ".".to_owned(),
                addresses: vec!["192.0.2.1".parse().unwrap()],
                port: Some(8443),
                alpn: vec!["h2".to_owned()],
                ech: false,
            }
        );
        assert_eq!(*data[2], Data::Pointer("q".to_owned()));
        assert_eq!(rcode_name(message.rcode), "RCODE16");
    }

    #[test]
    fn loops_and_long_names_end() {
        let mut looping = header(0x0100, [1, 0, 0, 0]);
        looping.extend(b"\xc0\x0c\x00\x01\x00\x01");
        assert_eq!(read(&looping), None);
        let mut long = header(0x0100, [1, 0, 0, 0]);
        for _ in 0..5 {
            long.push(63);
            long.extend([b'a'; 63]);
        }
        long.extend(b"\x00\x00\x01\x00\x01");
        assert_eq!(read(&long), None);
    }

    #[test]
    fn the_longest_name_is_read_and_spelled_out() {
        let mut bytes = header(0x0100, [1, 0, 0, 0]);
        for length in [63u8, 63, 63, 61] {
            bytes.push(length);
            bytes.extend(vec![0; usize::from(length)]);
        }
        bytes.extend(b"\x00\x00\xff\x00\x01");
        let message = read(&bytes).unwrap();
        assert_eq!(message.questions[0].name.len(), 250 * 4 + 3);
    }

    #[test]
    fn messages_of_a_stream_are_taken_one_by_one() {
        let one = answer();
        let framed = [&(one.len() as u16).to_be_bytes()[..], &one].concat();
        let two = [&framed[..], &framed].concat();
        assert_eq!(first_in_stream(&two), Some((&one[..], framed.len())));
        for end in 0..framed.len() {
            assert_eq!(first_in_stream(&framed[..end]), None);
        }
    }

    #[test]
    fn every_start_of_a_message_is_survived() {
        let bytes = answer();
        for end in 0..bytes.len() {
            let whole = read(&bytes[..end]);
            assert!(whole.is_none_or(|message| message.undecodable > 0), "{end}");
        }
    }
}
