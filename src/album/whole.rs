//! Is this a picture, and is all of it there? Decided by the bytes alone: the kind by its first bytes (the
//! `infer` crate), completeness by walking the format's own structure to its end marker or its own length.
//!
//! Bytes behind the end marker are allowed: phones append motion clips and maker notes to originals.

use super::jpeg::JpegWalk;
use imagesize::ImageResult;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

/// The kinds that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureKind {
    /// image/jpeg
    Jpeg,
    /// image/png
    Png,
    /// image/gif
    Gif,
    /// image/webp
    Webp,
    /// image/heic
    Heic,
    /// image/bmp
    Bmp,
}

/// Where a picture's bytes can be looked at.
pub(super) trait Source: BufRead + Seek {}

impl<S: BufRead + Seek> Source for S {}

/// Width and height in pixels, as the head of the picture in `source` tells them. One function for all sources, because
/// the crate behind it is large.
pub(super) fn measure(source: &mut dyn Source) -> ImageResult<(usize, usize)> {
    imagesize::reader_size(source).map(|size| (size.width, size.height))
}

impl PictureKind {
    /// Every kind, the likeliest first.
    pub const ALL: [PictureKind; 6] = [
        PictureKind::Jpeg,
        PictureKind::Png,
        PictureKind::Gif,
        PictureKind::Webp,
        PictureKind::Heic,
        PictureKind::Bmp,
    ];

    /// By the first bytes; 512 of them are enough.
    pub fn sniff(head: &[u8]) -> Option<PictureKind> {
        match infer::get(head)?.mime_type() {
            "image/jpeg" => Some(PictureKind::Jpeg),
            "image/png" => Some(PictureKind::Png),
            "image/gif" => Some(PictureKind::Gif),
            "image/webp" => Some(PictureKind::Webp),
            "image/heif" | "image/heic" => Some(PictureKind::Heic),
            "image/bmp" => Some(PictureKind::Bmp),
            _ => None,
        }
    }

    /// By the extension that [`PictureKind::extension`] gives.
    pub fn from_extension(extension: &str) -> Option<PictureKind> {
        PictureKind::ALL.into_iter().find(|kind| kind.extension() == extension)
    }

    /// Without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            PictureKind::Jpeg => "jpg",
            PictureKind::Png => "png",
            PictureKind::Gif => "gif",
            PictureKind::Webp => "webp",
            PictureKind::Heic => "heic",
            PictureKind::Bmp => "bmp",
        }
    }

    /// For manifest and HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            PictureKind::Jpeg => "image/jpeg",
            PictureKind::Png => "image/png",
            PictureKind::Gif => "image/gif",
            PictureKind::Webp => "image/webp",
            PictureKind::Heic => "image/heic",
            PictureKind::Bmp => "image/bmp",
        }
    }
}

/// Whether `source` (of `length` bytes) holds a whole picture of `kind`. Errors are those of reading; a format
/// that breaks its own rules counts as not whole.
pub fn is_whole(kind: PictureKind, source: &mut (impl Read + Seek), length: u64) -> io::Result<bool> {
    source.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(32 * 1024, source);
    let walked = match kind {
        PictureKind::Jpeg => walk_jpeg(&mut reader),
        PictureKind::Png => walk_png(&mut reader, length),
        PictureKind::Gif => walk_gif(&mut reader),
        PictureKind::Webp => declared_length(&mut reader, 4, 8, length),
        PictureKind::Bmp => declared_length(&mut reader, 2, 0, length),
        PictureKind::Heic => walk_boxes(&mut reader, length),
    };
    match walked {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        other => other,
    }
}

fn walk_jpeg(reader: &mut impl BufRead) -> io::Result<bool> {
    let mut walk = JpegWalk::default();
    while walk.goes_on() {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        walk.follow(buffer);
        let length = buffer.len();
        reader.consume(length);
    }
    Ok(walk.is_whole())
}

/// Chunks up to IEND and its checksum.
fn walk_png<R: Read + Seek>(reader: &mut BufReader<R>, length: u64) -> io::Result<bool> {
    skip(reader, 8)?;
    let mut at = 8u64;
    loop {
        let mut head = [0; 8];
        reader.read_exact(&mut head)?;
        let data = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        at += 12 + data;
        if at > length {
            return Ok(false);
        }
        if &head[4..] == b"IEND" {
            return Ok(true);
        }
        skip(reader, data + 4)?;
    }
}

/// Blocks up to the trailer.
fn walk_gif<R: Read + Seek>(reader: &mut BufReader<R>) -> io::Result<bool> {
    let mut screen = [0; 13];
    reader.read_exact(&mut screen)?;
    skip(reader, colour_table_bytes(screen[10]))?;
    loop {
        match byte(reader)? {
            0x3b => return Ok(true),
            0x21 => {
                byte(reader)?;
                skip_sub_blocks(reader)?;
            }
            0x2c => {
                let mut image = [0; 9];
                reader.read_exact(&mut image)?;
                skip(reader, colour_table_bytes(image[8]) + 1)?;
                skip_sub_blocks(reader)?;
            }
            _ => return Ok(false),
        }
    }
}

fn colour_table_bytes(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

fn skip_sub_blocks<R: Read + Seek>(reader: &mut BufReader<R>) -> io::Result<()> {
    loop {
        match byte(reader)? {
            0 => return Ok(()),
            length => skip(reader, u64::from(length))?,
        }
    }
}

/// Formats that say their own length (little-endian at `offset`, plus `added`). BMP allows 0 for "not said".
fn declared_length<R: Read + Seek>(
    reader: &mut BufReader<R>,
    offset: u64,
    added: u64,
    length: u64,
) -> io::Result<bool> {
    skip(reader, offset)?;
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from(u32::from_le_bytes(bytes)) + added <= length)
}

/// Boxes of ISO 14496-12: each must fit, and a picture needs its `meta` and the data that it points to.
fn walk_boxes<R: Read + Seek>(reader: &mut BufReader<R>, length: u64) -> io::Result<bool> {
    let (mut at, mut has_meta, mut has_data) = (0u64, false, false);
    while at < length {
        if has_meta && has_data && length - at < 8 {
            return Ok(true);
        }
        let mut head = [0; 8];
        reader.read_exact(&mut head)?;
        let (size, header) = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => (length - at, 8),
            1 => {
                let mut large = [0; 8];
                reader.read_exact(&mut large)?;
                (u64::from_be_bytes(large), 16)
            }
            small => (u64::from(small), 8),
        };
        if size < header || size > length - at {
            return Ok(has_meta && has_data);
        }
        has_meta |= &head[4..] == b"meta";
        has_data |= &head[4..] == b"mdat";
        at += size;
        skip(reader, size - header)?;
    }
    Ok(has_meta && has_data)
}

fn byte(reader: &mut impl Read) -> io::Result<u8> {
    let mut one = [0; 1];
    reader.read_exact(&mut one)?;
    Ok(one[0])
}

/// Goes forward; going past the end is noticed by the next read, or by the caller who knows the length.
fn skip<R: Read + Seek>(reader: &mut BufReader<R>, count: u64) -> io::Result<()> {
    reader.seek_relative(i64::try_from(count).map_err(|_| io::Error::from(ErrorKind::UnexpectedEof))?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Cursor;

    /// The smallest of each kind that is whole.
    pub(in crate::album) fn smallest(kind: PictureKind) -> Vec<u8> {
        match kind {
            PictureKind::Jpeg => {
                let mut bytes = vec![0xff, 0xd8, 0xff, 0xe0, 0, 16];
                bytes.extend(b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
                bytes.extend([0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xd9]); // a thumbnail's EOI inside a segment
                bytes.extend([0xff, 0xda, 0, 2, 1, 2, 0xff, 0, 3, 0xff, 0xd0, 4, 0xff, 0xd9]);
                bytes
            }
            PictureKind::Png => {
                let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
                bytes.extend(b"\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0CRC!");
                bytes.extend(b"\0\0\0\0IENDCRC!");
                bytes
            }
            PictureKind::Gif => {
                let mut bytes = b"GIF89a\x01\0\x01\0\x80\0\0".to_vec();
                bytes.extend([0; 6]);
                bytes.extend([0x21, 0xf9, 1, 0, 0]);
                bytes.extend([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 0x01, 0, 0x3b]);
                bytes
            }
            PictureKind::Webp => b"RIFF\x10\0\0\0WEBPVP8 \x04\0\0\0\0\0\0\0".to_vec(),
            PictureKind::Bmp => {
                let mut bytes = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
                bytes.resize(0x3a, 0);
                bytes
            }
            PictureKind::Heic => {
                let mut bytes = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1".to_vec();
                bytes.extend(b"\0\0\0\x0cmeta\0\0\0\0\0\0\0\x0cmdat\x01\x02\x03\x04");
                bytes
            }
        }
    }

    fn whole(kind: PictureKind, bytes: &[u8]) -> bool {
        is_whole(kind, &mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn every_kind_is_recognised_and_whole_only_when_nothing_is_cut() {
        for kind in PictureKind::ALL {
            let bytes = smallest(kind);
            assert_eq!(PictureKind::sniff(&bytes), Some(kind));
            assert!(whole(kind, &bytes), "{kind:?}");
            for cut in 0..bytes.len() {
                assert!(!whole(kind, &bytes[..cut]), "{kind:?} cut at {cut} of {}", bytes.len());
            }
            let mut with_tail = bytes.clone();
            with_tail.extend([0; 5]);
            assert!(whole(kind, &with_tail), "{kind:?} with a tail");
        }
    }

    #[test]
    fn other_things_are_no_pictures() {
        let tar = [0u8; 600];
        for other in [
            &b"{\"errcode\":40001}"[..],
            b"<html>",
            b"",
            b"%PDF-1.4",
            b"II*\0\x08\0\0\0",
            &tar,
            b"\x1a\x45\xdf\xa3",
        ] {
            assert_eq!(PictureKind::sniff(other), None, "{other:?}");
        }
    }

    #[test]
    fn garbage_never_panics() {
        let random = crate::ground::random::SeededRandom::shared(11);
        for kind in PictureKind::ALL {
            for _ in 0..2000 {
                let mut bytes = smallest(kind);
                let at = random.u64() as usize % bytes.len();
                random.fill(&mut bytes[at..]);
                whole(kind, &bytes);
            }
        }
    }
}
