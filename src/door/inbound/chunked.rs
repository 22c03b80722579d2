//! The chunked transfer coding, taken apart byte by byte. Strict: a chunk is hexadecimal digits, CRLF, data,
//! CRLF; extensions and trailers, which nobody who speaks to this box uses, are refused. Pure.

/// Hexadecimal digits that a chunk size may have; what they can say fits a `u64`.
const SIZE_DIGITS_MAX: u8 = 15;

/// Why chunks cannot be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkedFault {
    /// Not the chunked coding, or a part of it that is refused.
    Malformed,
    /// More data than allowed, told as soon as a chunk promises it.
    TooLarge,
}

/// Takes a chunked body apart, however it is cut into reads.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    bytes_left: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { digits: u8, value: u64 },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataReturn,
    DataEnd,
    LastReturn,
    LastEnd,
    Done,
}

const SIZE: State = State::Size { digits: 0, value: 0 };

impl ChunkedDecoder {
    /// A decoder that lets at most `bytes_max` bytes of data through.
    pub fn new(bytes_max: u64) -> ChunkedDecoder {
        ChunkedDecoder { state: SIZE, bytes_left: bytes_max }
    }

    /// Whether the last chunk and its end have been seen.
    pub fn done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes what it can from `bytes`, appends the data to `body` and says how many bytes it took: all of them,
    /// unless the body ended among them.
    pub fn decode(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, ChunkedFault> {
        let mut taken = 0;
        while taken < bytes.len() && !self.done() {
            if let State::Data { left } = self.state {
                let count = left.min((bytes.len() - taken) as u64);
                body.extend_from_slice(&bytes[taken..taken + count as usize]);
                taken += count as usize;
                self.state =
                    if count == left { State::DataReturn } else { State::Data { left: left - count } };
            } else {
                self.state = self.step(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkedFault> {
        match (self.state, byte) {
            (State::Size { digits: 1.., value }, b'\r') => Ok(State::SizeEnd { value }),
            (State::Size { digits, value }, _) if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).ok_or(ChunkedFault::Malformed)?;
                Ok(State::Size { digits: digits + 1, value: value * 16 + u64::from(digit) })
            }
            (State::SizeEnd { value: 0 }, b'\n') => Ok(State::LastReturn),
            (State::SizeEnd { value }, b'\n') => {
                self.bytes_left = self.bytes_left.checked_sub(value).ok_or(ChunkedFault::TooLarge)?;
                Ok(State::Data { left: value })
            }
            (State::DataReturn, b'\r') => Ok(State::DataEnd),
            (State::DataEnd, b'\n') => Ok(SIZE),
            (State::LastReturn, b'\r') => Ok(State::LastEnd),
            (State::LastEnd, b'\n') => Ok(State::Done),
            _ => Err(ChunkedFault::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkedFault> {
        let (mut decoder, mut body, mut taken) = (ChunkedDecoder::new(20), Vec::new(), 0);
        for part in bytes.chunks(step) {
            taken += decoder.decode(part, &mut body)?;
        }
        Ok((body, taken, decoder.done()))
    }

    #[test]
    fn a_body_comes_out_whole_however_it_is_cut() {
        let wire = b"5\r\nhello\r\n00A\r\n, 0123\r\n56\r\n0\r\n\r\nGET /";
        for step in 1..=wire.len() {
            let (body, taken, done) = decode(wire, step).unwrap();
            assert_eq!(body, b"hello, 0123\r\n56");
            assert!(done);
            assert_eq!(&wire[taken..], b"GET /");
        }
        assert!(!decode(b"5\r\nhello\r\n0\r\n", 3).unwrap().2);
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        for bad in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5;a=b\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\r\rhello",
            b"5\r\nhelloo\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"0\r\nX-Trailer: 1\r\n\r\n",
            b"0\r\n\n",
            b"0000000000000000",
        ] {
            assert_eq!(
                decode(bad, 99).unwrap_err(),
                ChunkedFault::Malformed,
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn too_much_is_told_when_it_is_promised() {
        assert_eq!(decode(b"15\r\n", 99).unwrap_err(), ChunkedFault::TooLarge);
        assert_eq!(decode(b"fffffffffffffff\r\n", 1).unwrap_err(), ChunkedFault::TooLarge);
        assert_eq!(decode(b"a\r\n0123456789\r\nb\r\n", 99).unwrap_err(), ChunkedFault::TooLarge);
        assert_eq!(decode(b"14\r\n01234567890123456789\r\n0\r\n\r\n", 99).unwrap().0.len(), 20);
    }
}
