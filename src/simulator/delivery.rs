//! How an answer reaches the client, or does not: the faults that happen on the socket. Knows bytes and time,
//! nothing of what the answer says.

use super::fault::Fault;
use super::wire::{Answer, WireLimits};
use crate::ground::clock::Deadline;
use crate::ground::stop::Stop;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The most that an endless body sends to a client that takes it all.
const ENDLESS_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// The longest that a stalled answer is held, whatever was asked for.
const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);
const BLOCK_BYTES: usize = 64 * 1024;
/// How the first bytes of a JPEG look, for bodies that only begin like one.
const JPEG_START: &[u8] = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00";

/// One client and the circumstances of its answer.
pub struct Delivery<'a> {
    /// The client.
    pub stream: &'a mut TcpStream,
    /// The `Date` header.
    pub date: &'a str,
    /// The request was a HEAD: no body.
    pub head_only: bool,
    /// Ends every wait.
    pub stop: &'a Stop,
    /// For the write time limit.
    pub limits: &'a WireLimits,
}

impl Delivery<'_> {
    /// Sends `answer` the way `fault` has it. An error means that the client is gone, which is no news.
    pub fn send(&mut self, answer: &Answer, fault: &Fault) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.limits.write_stall))?;
        let whole = answer.body.len();
        match *fault {
            Fault::ResetBeforeAnswer => self.reset(),
            Fault::CloseBeforeAnswer => Ok(()),
            Fault::Garbage => {
                self.stream.write_all(b"\x15\x03\x01\x00\x02\x02\x28 this is not HTTP\r\n\r\n\x00\x01")
            }
            Fault::Delay(time) => {
                self.stop.wait(time);
                self.plain(answer)
            }
            Fault::Interim(status) => {
                let link = "Link: </style.css>; rel=preload";
                write!(self.stream, "HTTP/1.1 {status} Interim\r\n{link}\r\n\r\n")?;
                self.plain(answer)
            }
            Fault::ShortBody { missing } => self.cut(answer, true, whole.saturating_sub(missing.max(1))),
            Fault::NoLength => self.cut(answer, false, whole),
            Fault::NoLengthCut { missing } => self.cut(answer, false, whole.saturating_sub(missing.max(1))),
            Fault::ResetMidBody => {
                self.cut(answer, true, whole / 2)?;
                self.reset()
            }
            Fault::Chunked => self.chunked(answer, ChunkEnd::Proper),
            Fault::ChunkedCut => self.chunked(answer, ChunkEnd::WithinAChunk),
            Fault::ChunkedCutBetween => self.chunked(answer, ChunkEnd::BetweenChunks),
            Fault::Stall { after_body_bytes: None, hold } => self.hold(hold),
            Fault::Stall { after_body_bytes: Some(bytes), hold } => {
                self.cut(answer, true, bytes.min(whole.saturating_sub(1)))?;
                self.hold(hold)
            }
            Fault::Trickle { bytes, pause } => self.trickle(answer, bytes.max(1), pause),
            Fault::Endless => self.flood(answer, None),
            Fault::Oversized { bytes } => self.flood(answer, Some(bytes)),
            _ => self.plain(answer),
        }
    }

    fn plain(&mut self, answer: &Answer) -> io::Result<()> {
        self.cut(answer, true, answer.body.len())
    }

    /// The head and the first `bytes` of the body.
    fn cut(&mut self, answer: &Answer, with_length: bool, bytes: usize) -> io::Result<()> {
        let length = ("Content-Length", answer.body.len().to_string());
        let mut first = answer.head(with_length.then_some(length), self.date);
        let body = if self.head_only { &[] } else { &answer.body[..bytes] };
        // Small answers leave in one piece, so that a reader never sees a head alone by accident.
        if body.len() <= BLOCK_BYTES {
            first.extend_from_slice(body);
            return self.stream.write_all(&first);
        }
        self.stream.write_all(&first)?;
        self.stream.write_all(body)
    }

    fn chunked(&mut self, answer: &Answer, end: ChunkEnd) -> io::Result<()> {
        let head = answer.head(Some(("Transfer-Encoding", "chunked".to_owned())), self.date);
        self.stream.write_all(&head)?;
        if self.head_only {
            return Ok(());
        }
        let body = &answer.body;
        let reach = if end == ChunkEnd::Proper { body.len() } else { body.len() / 2 };
        for chunk in body[..reach].chunks(8000) {
            write!(self.stream, "{:x}\r\n", chunk.len())?;
            self.stream.write_all(chunk)?;
            self.stream.write_all(b"\r\n")?;
        }
        match end {
            ChunkEnd::Proper => self.stream.write_all(b"0\r\n\r\n"),
            ChunkEnd::BetweenChunks => Ok(()),
            ChunkEnd::WithinAChunk => {
                write!(self.stream, "{:x}\r\n", body.len() - reach + 10)?;
                self.stream.write_all(&body[reach..])
            }
        }
    }

    fn trickle(&mut self, answer: &Answer, bytes: usize, pause: Duration) -> io::Result<()> {
        self.cut(answer, true, 0)?;
        if self.head_only {
            return Ok(());
        }
        for portion in answer.body.chunks(bytes) {
            if self.stop.wait(pause) {
                return Ok(());
            }
            self.stream.write_all(portion)?;
        }
        Ok(())
    }

    /// A body that begins like a JPEG and goes on until `declared`, or for ever.
    fn flood(&mut self, answer: &Answer, declared: Option<u64>) -> io::Result<()> {
        let length = declared.map(|bytes| ("Content-Length", bytes.to_string()));
        self.stream.write_all(&answer.head(length, self.date))?;
        let mut left = declared.unwrap_or(ENDLESS_BYTES_MAX);
        let mut block = vec![0x55; BLOCK_BYTES];
        block[..JPEG_START.len()].copy_from_slice(JPEG_START);
        while left > 0 && !self.head_only && !self.stop.asked() {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            self.stream.write_all(&block[..now])?;
            left -= now as u64;
            block[..JPEG_START.len()].fill(0x55);
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        reset_on_close(self.stream)
    }

    /// Keeps the socket open and silent until the client breaks it, `time` passes or the simulator stops. A
    /// client that has only shut its own sending side may still be waiting, so that alone ends nothing.
    fn hold(&mut self, time: Duration) -> io::Result<()> {
        const LOOK: Duration = Duration::from_millis(50);
        let deadline = Deadline::after(time.min(HOLD_MAX));
        self.stream.set_read_timeout(Some(LOOK))?;
        let mut buffer = [0; 1024];
        let mut half_closed = false;
        while let Some(left) = deadline.remaining() {
            if half_closed {
                self.stop.wait(left);
                return Ok(());
            }
            match self.stream.read(&mut buffer) {
                Ok(count) => half_closed = count == 0,
                Err(error) if is_time_limit(&error) => {}
                Err(error) => return Err(error),
            }
            if self.stop.asked() {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChunkEnd {
    Proper,
    WithinAChunk,
    BetweenChunks,
}

/// Makes closing the socket a reset in place of an orderly end.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn is_time_limit(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
