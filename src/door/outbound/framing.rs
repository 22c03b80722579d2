//! Where the body of an answer ends. The bytes pass untouched; this only watches them, so that the passage is over
//! when the answer is (and not when a server gets round to closing), and so that an answer that ends too soon is
//! told, which minreq does not do.

use std::io::{self, ErrorKind, Read};

/// The longest line that announces a chunk; minreq stops at 1024.
const SIZE_LINE_BYTES_MAX: usize = 1000;
/// All trailers together.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// There is no body.
    Nothing,
    /// After so many bytes.
    Length(u64),
    /// By the chunk of length 0.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection ended first.
    CutShort,
    /// The chunks are malformed.
    Garbage(&'static str),
}

/// Reads a body to its end and not further.
pub struct FramedBody<'a, R> {
    early: &'a [u8],
    source: &'a mut R,
    state: State,
    fault: Option<BodyFault>,
}

enum State {
    Done,
    Length(u64),
    Chunked(Chunks),
    Close,
}

impl<'a, R: Read> FramedBody<'a, R> {
    /// The body that begins with `early` (what came together with the head) and goes on in `source`.
    pub fn new(end: BodyEnd, early: &'a [u8], source: &'a mut R) -> FramedBody<'a, R> {
        let state = match end {
            BodyEnd::Nothing | BodyEnd::Length(0) => State::Done,
            BodyEnd::Length(length) => State::Length(length),
            BodyEnd::Chunked => State::Chunked(Chunks::default()),
            BodyEnd::Close => State::Close,
        };
        FramedBody { early, source, state, fault: None }
    }

    /// What was wrong, if a read failed because of the framing and not because of the connection.
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    fn read_raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early.is_empty() { self.source.read(buffer) } else { self.early.read(buffer) }
    }

    fn fail(&mut self, fault: BodyFault) -> io::Result<usize> {
        self.fault = Some(fault);
        Err(ErrorKind::InvalidData.into())
    }
}

impl<R: Read> Read for FramedBody<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = match self.state {
            State::Done => return Ok(0),
            State::Length(to_go) => usize::try_from(to_go).unwrap_or(usize::MAX).min(buffer.len()),
            State::Chunked(_) | State::Close => buffer.len(),
        };
        if room == 0 {
            return Ok(0);
        }
        let count = self.read_raw(&mut buffer[..room])?;
        match &mut self.state {
            State::Close if count == 0 => self.state = State::Done,
            _ if count == 0 => return self.fail(BodyFault::CutShort),
            State::Done | State::Close => {}
            State::Length(to_go) => {
                *to_go -= count as u64;
                if *to_go == 0 {
                    self.state = State::Done;
                }
            }
            State::Chunked(chunks) => match chunks.follow(&buffer[..count]) {
                Ok(Followed::GoesOn) => {}
                Ok(Followed::EndsAfter(used)) => {
                    self.state = State::Done;
                    return Ok(used);
                }
                Err(why) => return self.fail(BodyFault::Garbage(why)),
            },
        }
        Ok(count)
    }
}

/// Follows the chunked coding (RFC 9112, 7.1) byte by byte, strictly.
#[derive(Default)]
struct Chunks {
    place: Place,
    size: u64,
    line_bytes: usize,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Size,
    AfterSize,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
}

enum Followed {
    GoesOn,
    EndsAfter(usize),
}

impl Chunks {
    fn follow(&mut self, bytes: &[u8]) -> Result<Followed, &'static str> {
        let mut at = 0;
        while at < bytes.len() {
            if matches!(self.place, Place::Data) {
                let step = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.size -= step as u64;
                at += step;
                if self.size == 0 {
                    self.place = Place::DataReturn;
                }
                continue;
            }
            let last = matches!(self.place, Place::LastLineFeed);
            self.place = self.step(bytes[at])?;
            at += 1;
            if last {
                return Ok(Followed::EndsAfter(at));
            }
        }
        Ok(Followed::GoesOn)
    }

    fn step(&mut self, byte: u8) -> Result<Place, &'static str> {
        self.line_bytes += 1;
        match (self.place, byte) {
            (Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.add_digit(byte).map(|()| Place::Size)
            }
            (Place::Size, _) if self.line_bytes == 1 => Err("a chunk without a length"),
            (Place::Size | Place::AfterSize, b'\r') => Ok(Place::SizeLineFeed),
            (Place::Size, b';' | b' ' | b'\t') => Ok(Place::AfterSize),
            (Place::AfterSize, byte) if byte != b'\n' => self.within_line(Place::AfterSize),
            (Place::SizeLineFeed, b'\n') => Ok(self.begin_data()),
            (Place::DataReturn, b'\r') => Ok(Place::DataLineFeed),
            (Place::DataLineFeed, b'\n') => Ok(self.begin_size()),
            (Place::TrailerStart, b'\r') => Ok(Place::LastLineFeed),
            (Place::TrailerStart | Place::Trailer, byte) if byte != b'\r' && byte != b'\n' => {
                self.within_trailer(byte)
            }
            (Place::Trailer, b'\r') => Ok(Place::TrailerLineFeed),
            (Place::TrailerLineFeed, b'\n') => Ok(Place::TrailerStart),
            (Place::LastLineFeed, b'\n') => Ok(Place::LastLineFeed),
            _ => Err("malformed chunks"),
        }
    }

    fn add_digit(&mut self, digit: u8) -> Result<(), &'static str> {
        let value = char::from(digit).to_digit(16).unwrap_or_default();
        self.size = self.size * 16 + u64::from(value);
        // minreq counts in usize: 32 bits on the small boards.
        if self.size > u64::from(u32::MAX) || self.line_bytes > 16 {
            Err("a chunk of absurd length")
        } else {
            Ok(())
        }
    }

    fn within_line(&self, place: Place) -> Result<Place, &'static str> {
        if self.line_bytes > SIZE_LINE_BYTES_MAX {
            Err("a chunk with an absurd extension")
        } else {
            Ok(place)
        }
    }

    fn within_trailer(&mut self, byte: u8) -> Result<Place, &'static str> {
        self.trailer_bytes += 1;
        // minreq reads trailers as it reads headers: not UTF-8 makes it fail.
        match byte {
            _ if self.trailer_bytes > TRAILER_BYTES_MAX => Err("trailers without end"),
            byte if byte.is_ascii() => Ok(Place::Trailer),
            _ => Err("a trailer that is not ASCII"),
        }
    }

    fn begin_data(&self) -> Place {
        if self.size == 0 { Place::TrailerStart } else { Place::Data }
    }

    fn begin_size(&mut self) -> Place {
        self.line_bytes = 0;
        Place::Size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of a fixed length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            self.0.read(&mut buffer[..count])
        }
    }

    fn read_all(end: BodyEnd, wire: &[u8], piece: usize) -> (Vec<u8>, Option<BodyFault>) {
        let early = wire.len().min(piece / 2);
        let mut source = Pieces(&wire[early..], piece);
        let mut body = FramedBody::new(end, &wire[..early], &mut source);
        let mut read = Vec::new();
        let result = body.read_to_end(&mut read);
        assert_eq!(result.is_err(), body.fault().is_some());
        (read, body.fault())
    }

    const CHUNKED: &[u8] = b"5\r\nhello\r\n1A ;ext=\"x\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: x\r\n\r\n";

    #[test]
    fn bodies_end_where_their_framing_says_however_they_are_cut() {
        for piece in 1..80 {
            let surplus = [CHUNKED, b"surplus"].concat();
            assert_eq!(read_all(BodyEnd::Chunked, &surplus, piece), (CHUNKED.to_vec(), None), "{piece}");
            assert_eq!(read_all(BodyEnd::Length(4), b"bodysurplus", piece), (b"body".to_vec(), None));
            assert_eq!(read_all(BodyEnd::Close, b"body", piece), (b"body".to_vec(), None));
            assert_eq!(read_all(BodyEnd::Nothing, b"surplus", piece), (Vec::new(), None));
        }
    }

    #[test]
    fn every_cut_before_the_end_is_told() {
        for length in 0..CHUNKED.len() {
            let cut = &CHUNKED[..length];
            assert_eq!(
                read_all(BodyEnd::Chunked, cut, 7),
                (cut.to_vec(), Some(BodyFault::CutShort)),
                "{length}"
            );
        }
        assert_eq!(read_all(BodyEnd::Length(4), b"bod", 7), (b"bod".to_vec(), Some(BodyFault::CutShort)));
    }

    #[test]
    fn malformed_chunks_do_not_pass() {
        let long_extension = format!("5;{}\r\nhello\r\n", "x".repeat(SIZE_LINE_BYTES_MAX));
        let long_trailer = format!("0\r\nT: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX));
        for bad in [
            "\r\nhello",
            "x\r\n",
            "-5\r\n",
            "+5\r\n",
            "5\nhello\r\n",
            "5\r\nhellox\r\n",
            "5\r\nhello\n5\r\n",
            "100000000\r\n",
            "00000000000000000\r\n",
            "0\r\n\n",
            "0\r\nT: \u{e4}\r\n\r\n",
            &long_extension,
            &long_trailer,
        ] {
            let (_, fault) = read_all(BodyEnd::Chunked, bad.as_bytes(), 64);
            assert!(matches!(fault, Some(BodyFault::Garbage(_))), "{bad:?}: {fault:?}");
        }
    }
}
