//! Frames out of a pcap or pcapng file, one at a time.

use std::ops::ControlFlow;

use jiff::Timestamp;
use pcap_parser::{
    Block, Linktype, PcapBlockOwned, pcapng::InterfaceDescriptionBlock,
    traits::PcapNGPacketBlock as _,
};

use crate::import::{
    buffer::{Buffer, Pieces},
    capture::format::Format,
};

/// A block beyond this is taken for a broken length.
const MAX_BLOCK: usize = 32 << 20;
/// Interfaces of one pcapng section.
const MAX_INTERFACES: usize = 4096;
/// Bits of a link type that say something else (the length of a frame check sequence).
const LINK_BITS: i32 = 0x03ff_ffff;

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
pub(super) fn each(
    pieces: &mut dyn Pieces,
    take: impl FnMut(Frame<'_>) -> ControlFlow<()>,
) -> Ended {
    let mut frames = Frames::new(take);
    let broken = frames.read(pieces).err();
    Ended {
        frames: frames.number,
        broken,
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
    /// There was anything at all.
    is_begun: bool,
    number: u64,
    interfaces: Vec<Interface>,
    /// Of a pcap file: the link type, and whether times have nanoseconds.
    pcap: (Linktype, bool),
}

impl<F: FnMut(Frame<'_>) -> ControlFlow<()>> Frames<F> {
    fn new(take: F) -> Self {
        Self {
            take,
            is_begun: false,
            number: 0,
            interfaces: Vec::new(),
            pcap: (Linktype(0), false),
        }
    }

    /// What a piece ends within is put in front of the next one.
    fn read(&mut self, pieces: &mut dyn Pieces) -> Result<(), String> {
        let mut format = Format::Unknown;
        let (mut piece, mut cut) = (Buffer::default(), Vec::new());
        loop {
            piece = match pieces.next(piece) {
                Ok(Some(next)) => next,
                Ok(None) if cut.is_empty() && self.is_begun => return Ok(()),
                Ok(None) => return Err("the capture ends inside this packet".to_owned()),
                Err(error) => return Err(format!("unreadable from here on: {error}")),
            };
            piece.put_before(&cut);
            self.is_begun = true;
            let mut rest = &*piece;
            while let Some((block, after)) = format.next(rest)? {
                rest = after;
                if self.block(&block)?.is_break() {
                    return Ok(());
                }
            }
            cut.clear();
            cut.extend_from_slice(rest);
            if cut.len() > MAX_BLOCK {
                return Err(format!("longer than {MAX_BLOCK} bytes"));
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
