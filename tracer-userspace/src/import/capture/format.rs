//! `Format`: which kind of capture it is, and its blocks out of bytes. pcap-parser reads them.

use pcap_parser::{
    Block, PcapBlockOwned, PcapError,
    nom::{self, IResult},
    parse_block_be, parse_block_le,
    pcap::{
        LegacyPcapBlock, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
        parse_pcap_header,
    },
};

/// pcap in every byte order and precision, and pcapng.
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

type PcapBlock = fn(&[u8]) -> IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>>;

/// How blocks are to be read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// Nothing was read yet.
    Unknown,
    Pcap(PcapBlock),
    PcapNg {
        is_big_endian: bool,
    },
}

impl Format {
    /// The block that `bytes` begin with, and what comes after it; `None` if it is not all there.
    pub(super) fn next<'b>(
        &mut self,
        bytes: &'b [u8],
    ) -> Result<Option<(PcapBlockOwned<'b>, &'b [u8])>, String> {
        let read = match *self {
            Self::Unknown if bytes.len() < PCAPNG.len() => return Ok(None),
            Self::Unknown if bytes.starts_with(&PCAPNG) => {
                *self = Self::PcapNg {
                    is_big_endian: false,
                };
                return self.next(bytes);
            }
            Self::Unknown => self.header(bytes),
            Self::Pcap(block) => block(bytes).map(|(rest, block)| (rest, block.into())),
            Self::PcapNg { is_big_endian } => self.ng(is_big_endian, bytes),
        };
        match read {
            Ok((rest, block)) => Ok(Some((block, rest))),
            Err(nom::Err::Incomplete(_)) => Ok(None),
            Err(nom::Err::Error(error) | nom::Err::Failure(error)) => Err(reason(&error)),
        }
    }

    fn header<'b>(
        &mut self,
        bytes: &'b [u8],
    ) -> IResult<&'b [u8], PcapBlockOwned<'b>, PcapError<&'b [u8]>> {
        let (rest, header) = parse_pcap_header(bytes)?;
        *self = Self::Pcap(if header.is_modified_format() {
            parse_pcap_frame_modified
        } else if header.is_bigendian() {
            parse_pcap_frame_be
        } else {
            parse_pcap_frame
        });
        Ok((rest, header.into()))
    }

    /// Each section says in which byte order it is; what says so reads alike in both.
    fn ng<'b>(
        &mut self,
        is_big_endian: bool,
        bytes: &'b [u8],
    ) -> IResult<&'b [u8], PcapBlockOwned<'b>, PcapError<&'b [u8]>> {
        let (rest, block) = if is_big_endian {
            parse_block_be(bytes)?
        } else {
            parse_block_le(bytes)?
        };
        if let Block::SectionHeader(section) = &block {
            *self = Self::PcapNg {
                is_big_endian: section.big_endian(),
            };
        }
        Ok((rest, block.into()))
    }
}

fn reason<I: AsRef<[u8]>>(error: &PcapError<I>) -> String {
    match error {
        PcapError::UnexpectedEof | PcapError::Incomplete(_) | PcapError::Eof => {
            "the capture ends inside this packet".to_owned()
        }
        PcapError::BufferTooSmall | PcapError::ReadError => "unreadable from here on".to_owned(),
        PcapError::HeaderNotRecognized => "no capture".to_owned(),
        PcapError::NomError(..) | PcapError::OwnedNomError(..) => {
            "not a packet of this format; what follows cannot be found".to_owned()
        }
    }
}
