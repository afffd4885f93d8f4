//! Frames out of a pcap or pcapng file, one at a time.

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use jiff::Timestamp;
use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError,
    pcap::LegacyPcapReader,
    pcapng::{InterfaceDescriptionBlock, PcapNGReader},
    traits::{PcapNGPacketBlock as _, PcapReaderIterator},
};

/// Small enough to stay in a core's cache; it grows for what is bigger.
const BUFFER: usize = 256 * 1024;
/// A block beyond this is taken for a broken length.
const MAX_BLOCK: usize = 32 << 20;
/// Interfaces of one pcapng section.
const MAX_INTERFACES: usize = 4096;
/// Bits of a link type that say something else (the length of a frame check sequence).
const LINK_BITS: i32 = 0x03ff_ffff;

/// The file formats, in every byte order and precision.
const PCAP: [[u8; 4]; 6] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x34, 0xcd, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xcd, 0x34],
];
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Whether a file that begins so is a capture.
#[must_use]
pub fn is_capture(head: &[u8]) -> bool {
    head.starts_with(&PCAPNG) || PCAP.iter().any(|magic| head.starts_with(magic))
}

/// One captured frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'b> {
    /// Counted from 1, as capture tools do.
    pub(super) number: u64,
    pub(super) time: Timestamp,
    pub(super) link: Linktype,
    pub(super) bytes: &'b [u8],
}

/// How reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) frames: u64,
    /// Why reading ended before the file did, at the frame after the last.
    pub(super) broken: Option<String>,
}

/// Calls `take` for each frame, until it breaks.
pub(super) fn each<'b>(
    reader: impl Read + 'b,
    take: impl FnMut(Frame<'_>) -> ControlFlow<()>,
) -> Ended {
    let mut source = Source::new(reader);
    let mut frames = Frames::new(take);
    let result = match source.magic() {
        Ok(magic) if magic == PCAPNG => match PcapNGReader::new(BUFFER, &mut source) {
            Ok(mut reader) => frames.read(&mut reader),
            Err(error) => Err(reason(&error)),
        },
        Ok(_) => match LegacyPcapReader::new(BUFFER, &mut source) {
            Ok(mut reader) => frames.read(&mut reader),
            Err(error) => Err(reason(&error)),
        },
        Err(error) => Err(error.to_string()),
    };
    let number = frames.number;
    let broken = result.err();
    Ended {
        frames: number,
        broken: source.failure.or(broken),
    }
}

/// The reader, and what went wrong in reading.
struct Source<R> {
    reader: R,
    head: [u8; 4],
    /// How much of the head was handed out.
    handed: usize,
    failure: Option<String>,
}

impl<R: Read> Source<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            head: [0; 4],
            handed: 4,
            failure: None,
        }
    }

    /// The first four bytes, which will be read again.
    fn magic(&mut self) -> io::Result<[u8; 4]> {
        self.reader.read_exact(&mut self.head)?;
        self.handed = 0;
        Ok(self.head)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = &self.head[self.handed..];
        let mut filled = head.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&head[..filled]);
        self.handed += filled;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What came before it is used first; then the reader fails again, or is at its end.
                Err(error) if filled > 0 => {
                    self.failure = Some(format!("unreadable from here on: {error}"));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl<R: Read> Read for Source<R> {
    /// Fills the buffer: the parsers take a short read for more than it is.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Ok(0);
        }
        self.fill(buffer).or_else(|error| {
            self.failure = Some(format!("unreadable from here on: {error}"));
            Ok(0)
        })
    }
}

/// What a pcapng interface says of its frames.
#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    /// Seconds to add.
    offset: i64,
    /// Ticks a second.
    resolution: u64,
}

struct Frames<F> {
    take: F,
    number: u64,
    interfaces: Vec<Interface>,
    /// Of a pcap file: the link type, and whether times have nanoseconds.
    pcap: (Linktype, bool),
}

impl<F: FnMut(Frame<'_>) -> ControlFlow<()>> Frames<F> {
    fn new(take: F) -> Self {
        Self {
            take,
            number: 0,
            interfaces: Vec::new(),
            pcap: (Linktype(0), false),
        }
    }

    fn read(&mut self, reader: &mut impl PcapReaderIterator) -> Result<(), String> {
        let mut size = BUFFER;
        loop {
            match reader.next() {
                Ok((length, block)) => {
                    let flow = self.block(&block);
                    reader.consume(length);
                    if flow?.is_break() {
                        return Ok(());
                    }
                }
                Err(PcapError::Eof) => return Ok(()),
                Err(PcapError::Incomplete(_)) => {
                    reader.refill().map_err(|error| reason(&error))?;
                }
                Err(PcapError::BufferTooSmall) if size < MAX_BLOCK => {
                    size *= 2;
                    reader.grow(size);
                    reader.refill().map_err(|error| reason(&error))?;
                }
                Err(error) => return Err(reason(&error)),
            }
        }
    }

    fn block(&mut self, block: &PcapBlockOwned<'_>) -> Result<ControlFlow<()>, String> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.pcap = (header.network, header.is_nanosecond_precision());
            }
            PcapBlockOwned::Legacy(block) => {
                let (link, is_nano) = self.pcap;
                let scale = if is_nano { 1 } else { 1000 };
                let nanoseconds = u64::from(block.ts_usec) * scale;
                let time = time(i64::from(block.ts_sec), nanoseconds);
                return Ok(self.frame(time, link, block.data));
            }
            PcapBlockOwned::NG(block) => return self.ng(block),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn ng(&mut self, block: &Block<'_>) -> Result<ControlFlow<()>, String> {
        if let Block::SectionHeader(_) = block {
            self.interfaces.clear();
        }
        if let Block::InterfaceDescription(description) = block {
            self.interface(description)?;
        }
        if let Block::EnhancedPacket(packet) = block {
            let interface = self.interface_of(packet.if_id)?;
            let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let time = interface.time(ticks);
            return Ok(self.frame(time, interface.link, packet.packet_data()));
        }
        if let Block::SimplePacket(packet) = block {
            // Has no time and belongs to the first interface.
            let link = self.interface_of(0)?.link;
            return Ok(self.frame(Timestamp::UNIX_EPOCH, link, packet.packet_data()));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn interface(&mut self, block: &InterfaceDescriptionBlock<'_>) -> Result<(), String> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces"));
        }
        self.interfaces.push(Interface {
            link: block.linktype,
            offset: block.ts_offset(),
            resolution: block
                .ts_resolution()
                .filter(|ticks| *ticks > 0)
                .unwrap_or(1_000_000),
        });
        Ok(())
    }

    fn interface_of(&self, id: u32) -> Result<Interface, String> {
        let interface = usize::try_from(id)
            .ok()
            .and_then(|id| self.interfaces.get(id));
        let unknown = || format!("interface {id} is not described");
        interface.copied().ok_or_else(unknown)
    }

    fn frame(&mut self, time: Timestamp, link: Linktype, bytes: &[u8]) -> ControlFlow<()> {
        self.number += 1;
        (self.take)(Frame {
            number: self.number,
            time,
            link: Linktype(link.0 & LINK_BITS),
            bytes,
        })
    }
}

impl Interface {
    fn time(&self, ticks: u64) -> Timestamp {
        let part = u128::from(ticks % self.resolution) * 1_000_000_000;
        let nanoseconds = part / u128::from(self.resolution);
        let seconds = i64::try_from(ticks / self.resolution).unwrap_or(i64::MAX);
        time(seconds.saturating_add(self.offset), nanoseconds as u64)
    }
}

/// The time, or 1970 where there is no such time.
fn time(seconds: i64, nanoseconds: u64) -> Timestamp {
    let carried = seconds.saturating_add((nanoseconds / 1_000_000_000) as i64);
    let rest = (nanoseconds % 1_000_000_000) as i32;
    Timestamp::new(carried, rest).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn reason<I: AsRef<[u8]>>(error: &PcapError<I>) -> String {
    match error {
        PcapError::UnexpectedEof | PcapError::Incomplete(_) | PcapError::Eof => {
            "the capture ends inside this packet".to_owned()
        }
        PcapError::BufferTooSmall => format!("longer than {MAX_BLOCK} bytes"),
        PcapError::ReadError => "unreadable from here on".to_owned(),
        PcapError::HeaderNotRecognized => "no capture".to_owned(),
        PcapError::NomError(..) | PcapError::OwnedNomError(..) => {
            "not a packet of this format; what follows cannot be found".to_owned()
        }
    }
}
