//! What a file is, told by its first bytes: gzip or zstd or neither, and a capture or lines.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::import::capture;

/// Big enough that system calls do not count.
const BUFFER: usize = 256 * 1024;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame of zstd that holds no data, as seekable files have.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// The unpacked bytes of an input, by what they are.
pub(super) enum Content<'r> {
    Lines(Box<dyn Read + Send + 'r>),
    /// pcap or pcapng.
    Capture(Box<dyn Read + Send + 'r>),
}

/// Unpacks and recognises.
pub(super) fn recognise<'r>(reader: impl Read + Send + 'r) -> io::Result<Content<'r>> {
    let mut reader = unpacked(reader)?;
    let mut head = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let is_capture = capture::is_capture(&head);
    let whole = Box::new(Cursor::new(head).chain(reader));
    Ok(if is_capture {
        Content::Capture(whole)
    } else {
        Content::Lines(whole)
    })
}

/// The unpacked bytes of `reader`. Nothing is buffered but what is unpacked: whoever reads on does it
/// in big pieces.
fn unpacked<'r>(mut reader: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    let mut head = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let is_gzip = head.starts_with(&GZIP);
    let is_zstd = head == ZSTD || head.get(1..) == Some(&ZSTD_SKIPPABLE) && head[0] & 0xf0 == 0x50;
    let whole = Cursor::new(head).chain(reader);
    if is_gzip {
        let packed = BufReader::with_capacity(BUFFER, whole);
        return Ok(Box::new(MultiGzDecoder::new(packed)));
    }
    if is_zstd {
        let packed = BufReader::with_capacity(BUFFER, whole);
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(packed)?));
    }
    Ok(Box::new(whole))
}
