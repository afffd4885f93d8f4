//! What a file is, told by its first bytes: plain text, gzip or zstd.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// Big enough that system calls do not count.
const BUFFER: usize = 256 * 1024;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame of zstd that holds no data, as seekable files have.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// pcap in both byte orders and precisions, and pcapng.
const CAPTURES: [[u8; 4]; 5] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x0a, 0x0d, 0x0d, 0x0a],
];

/// The unpacked bytes of `reader`.
pub(super) fn unpacked<'r>(mut reader: impl Read + 'r) -> io::Result<Box<dyn BufRead + 'r>> {
    let mut head = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let is_gzip = head.starts_with(&GZIP);
    let is_zstd = head == ZSTD || head.get(1..) == Some(&ZSTD_SKIPPABLE) && head[0] & 0xf0 == 0x50;
    if CAPTURES.iter().any(|magic| head == magic) {
        let advice = "a packet capture, which this version does not read; give it a log";
        return Err(io::Error::new(io::ErrorKind::InvalidData, advice));
    }
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(reader));
    if is_gzip {
        return Ok(Box::new(BufReader::with_capacity(
            BUFFER,
            MultiGzDecoder::new(whole),
        )));
    }
    if is_zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    Ok(Box::new(whole))
}
