//! One client connection from its first byte to its last: a request is read whole, handed on over a connection
//! of its own, its answer framed and passed back; then the next one.

use super::House;
use super::allowance::{Allowance, Share};
use super::answer::{AnswerBody, AnswerHead, parse_answer};
use super::chunked::{ChunkedDecoder, ChunkedFault};
use super::client_address::client_address;
use super::head::{Method, ParsedHead, RequestBody, may_decide, parse_head};
use super::paced::{Line, Paced, read_onto};
use super::refusal::Refusal;
use super::roster::Seat;
use super::ways::{KeptWays, Way};
use crate::door::relay::{CopyBounds, CopyEnd, copy_bounded, is_time_limit};
use crate::ground::clock::Deadline;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes asked for in one read of a head: an ordinary head fits, and idle connections hold no more.
const READ_BYTES: usize = 2 * 1024;

/// Bytes asked for in the first read of an answer: an ordinary one comes whole.
const ANSWER_READ_BYTES: usize = 8 * 1024;

/// Bytes asked for in one read of a body or an answer.
const PIECE_BYTES: usize = 16 * 1024;

/// An answer up to this size is taken whole from inside before its first byte goes out: it leaves as one packet
/// train, and a client that reads slowly keeps nobody inside waiting.
const GATHER_BYTES: u64 = 64 * 1024;

/// A request body up to this size costs nothing of the allowance for large ones.
const SMALL_BODY_BYTES: u64 = 16 * 1024;

/// How long one waits for a share of an allowance before somebody is made to give theirs back.
pub(super) const SHARE_PATIENCE: Duration = Duration::from_millis(100);

/// How long tiny_http's socket may take to take a connection; longer only when its accept thread is gone.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// What a new way inside is tried with: its answer is short and has no body.
const TRIAL: &[u8] = b"HEAD / HTTP/1.1\r\nHost: door\r\n\r\n";

/// No answer takes longer, whatever its length; far enough to add to any moment.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is read and thrown away after a last answer, so that the client sees it and not a reset: some clients
/// read only after they have sent everything.
const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;
const LINGER_WITHIN: Duration = Duration::from_secs(2);

/// How a visit ends before its time.
enum Parting {
    /// The client is told why.
    Refused(Refusal),
    /// The client has gone, was idle for too long, or gave way.
    Left,
    /// An answer that cannot be finished: a reset tells the client that it is not whole.
    Broken,
}

/// One client connection.
pub(super) struct Visit<'h> {
    house: &'h House,
    seat: &'h Seat,
    peer: IpAddr,
    /// Bytes that came and are not used yet; at most a head and one read.
    buffer: Vec<u8>,
    /// Whether the request at hand is a HEAD, whose answer has no body.
    head_only: bool,
}

/// A body as it came, and what it costs.
struct Body<'h> {
    bytes: Vec<u8>,
    _large: Option<LargeBody<'h>>,
}

/// A share of the allowance for large bodies.
struct LargeBody<'h> {
    seat: &'h Seat,
    _share: Share<'h>,
}

impl Drop for LargeBody<'_> {
    fn drop(&mut self) {
        self.seat.has_large_body.store(false, Ordering::Release);
    }
}

/// A way inside, with a request on it.
struct Inside<'h> {
    line: Arc<Line<UnixStream>>,
    /// The way's.
    buffer: Vec<u8>,
    seat: &'h Seat,
    /// Whether it ends with this request's answer.
    ends: bool,
    _share: Share<'h>,
}

impl Inside<'_> {
    fn paced(&self, deadline: Deadline, stall: Duration) -> Paced<'_, UnixStream> {
        Paced { line: &self.line, deadline, stall }
    }

    /// The answer was read to its end: the way can be used again, unless its seat was cut, and it with it.
    fn give_back(self, buffer: Vec<u8>, kept: &KeptWays) {
        self.seat.detach();
        if !self.ends && !self.seat.is_cut() {
            kept.put(Way { line: Arc::clone(&self.line), buffer });
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.seat.detach();
    }
}

/// The client as a place to write to; whatever it takes is noted.
struct Sink<'h> {
    house: &'h House,
    seat: &'h Seat,
    paced: Paced<'h, TcpStream>,
}

impl Write for Sink<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.paced.write(buffer)?;
        self.house.roster.pass(self.seat);
        self.house.tally.bytes_out.add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'h> Visit<'h> {
    pub(super) fn new(house: &'h House, seat: &'h Seat, peer: IpAddr) -> Visit<'h> {
        Visit { house, seat, peer, buffer: Vec::new(), head_only: false }
    }

    /// Serves the client until one side has enough.
    pub(super) fn receive(mut self) {
        for turn in 1.. {
            self.house.roster.rest(self.seat);
            if self.house.stop.asked() {
                return;
            }
            let last = turn >= self.house.limits.requests_per_connection_max;
            match self.serve_one(last) {
                Ok(true) => {}
                Ok(false) => return self.linger(),
                Err(Parting::Refused(refusal)) => return self.send_away(refusal),
                Err(Parting::Left) => return,
                Err(Parting::Broken) => {
                    let _ = SockRef::from(&*self.seat.stream).set_linger(Some(Duration::ZERO));
                    return;
                }
            }
        }
    }

    /// Tells the client why it goes no further, and ends.
    pub(super) fn send_away(self, refusal: Refusal) {
        self.house.tally.refused(refusal.status);
        let within = Deadline::after(self.house.limits.write_stall);
        if self.send(&refusal.render(self.head_only), within).is_ok() {
            self.linger();
        }
    }

    /// One request and its answer; whether the connection can be used again.
    fn serve_one(&mut self, last: bool) -> Result<bool, Parting> {
        let head = self.read_head()?;
        self.house.tally.requests.add(1);
        let body = self.read_body(&head)?;
        if !self.seat.rise() {
            return Err(Parting::Left);
        }
        let inside = self.hand_on(&head, &body.bytes)?;
        drop(body);
        self.pass_back(inside, &head, head.keep_alive && !last)
    }

    fn read_head(&mut self) -> Result<ParsedHead, Parting> {
        let limits = &self.house.limits;
        self.head_only = false;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(READ_BYTES);
            let within = Deadline::after(limits.idle_within);
            self.read_client::<READ_BYTES>(READ_BYTES, within).map_err(|_| Parting::Left)?;
        }
        let within = Deadline::after(limits.head_within);
        let mut read_from = 0;
        loop {
            if self.buffer.len() > limits.head_bytes_max || may_decide(&self.buffer[read_from..]) {
                self.head_only = self.buffer.starts_with(b"HEAD ");
                if let Some(head) = parse_head(&self.buffer, limits).map_err(Parting::Refused)? {
                    self.head_only = head.method == Method::Head;
                    self.buffer.drain(..head.head_bytes);
                    return Ok(head);
                }
            }
            read_from = self.buffer.len();
            self.read_client::<READ_BYTES>(READ_BYTES, within)?;
        }
    }

    fn read_body(&mut self, head: &ParsedHead) -> Result<Body<'h>, Parting> {
        let limits = &self.house.limits;
        let within = Deadline::after(limits.body_within);
        if head.expects_continue && head.body != RequestBody::None && self.buffer.is_empty() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n", within).map_err(|_| Parting::Left)?;
        }
        let mut body = Body { bytes: Vec::new(), _large: None };
        match head.body {
            RequestBody::None => {}
            RequestBody::Length(length) => {
                body._large = self.large_body(length)?;
                let length = usize::try_from(length).map_err(|_| Parting::Refused(Refusal::TOO_LARGE))?;
                // Paid for; grown by doubling it could take twice as much.
                self.buffer.reserve_exact(length.saturating_sub(self.buffer.len()));
                while self.buffer.len() < length {
                    let missing = length - self.buffer.len();
                    // A short one is no reason to hold a large piece.
                    if missing <= READ_BYTES {
                        self.read_client::<READ_BYTES>(missing, within)?;
                    } else {
                        self.read_client::<PIECE_BYTES>(missing, within)?;
                    }
                }
                let next = self.buffer.split_off(length);
                body.bytes = std::mem::replace(&mut self.buffer, next);
            }
            RequestBody::Chunked => {
                let mut decoder = ChunkedDecoder::new(limits.body_bytes_max as u64);
                loop {
                    let taken = decoder.decode(&self.buffer, &mut body.bytes).map_err(refusal_for)?;
                    self.buffer.drain(..taken);
                    if decoder.done() {
                        break;
                    }
                    if body._large.is_none() && body.bytes.len() as u64 > SMALL_BODY_BYTES {
                        body._large = self.large_body(limits.body_bytes_max as u64)?;
                    }
                    self.read_client::<READ_BYTES>(READ_BYTES, within)?;
                }
            }
        }
        Ok(body)
    }

    /// Takes what a body of `length` costs of the allowance for large ones.
    fn large_body(&self, length: u64) -> Result<Option<LargeBody<'h>>, Parting> {
        if length <= SMALL_BODY_BYTES {
            return Ok(None);
        }
        let has_one = |seat: &Seat| seat.has_large_body.load(Ordering::Acquire);
        let within = self.house.limits.body_within;
        let share = self.claim(&self.house.large_bodies, length, within, has_one)?;
        self.seat.has_large_body.store(true, Ordering::Release);
        Ok(Some(LargeBody { seat: self.seat, _share: share }))
    }

    /// Takes `amount` of an allowance. When nobody gives any back, one of those that `have_it` has to.
    fn claim(
        &self,
        allowance: &'h Allowance,
        amount: u64,
        within: Duration,
        have_it: impl Fn(&Seat) -> bool,
    ) -> Result<Share<'h>, Parting> {
        let within = Deadline::after(within);
        loop {
            if let Some(share) = allowance.take(amount, SHARE_PATIENCE) {
                return Ok(share);
            }
            if self.seat.is_cut() {
                return Err(Parting::Left);
            }
            if within.passed() {
                return Err(Parting::Refused(Refusal::FULL));
            }
            self.house.tally.evicted.add(self.house.roster.evict_one(&have_it));
        }
    }

    /// Reads once from the client onto the buffer: at most `bytes_max`, and at most `PIECE`.
    fn read_client<const PIECE: usize>(
        &mut self,
        bytes_max: usize,
        deadline: Deadline,
    ) -> Result<(), Parting> {
        let mut source = Paced { line: &self.seat.stream, deadline, stall: Duration::MAX };
        match read_onto::<PIECE>(&mut source, &mut self.buffer, bytes_max) {
            Ok(0) => Err(Parting::Left),
            Ok(count) => {
                self.house.tally.bytes_in.add(count as u64);
                Ok(())
            }
            Err(error) if is_time_limit(&error) => Err(Parting::Refused(Refusal::SLOW)),
            Err(_) => Err(Parting::Left),
        }
    }

    /// Hands a whole request to tiny_http.
    fn hand_on(&self, head: &ParsedHead, body: &[u8]) -> Result<Inside<'h>, Parting> {
        let limits = &self.house.limits;
        let share = self.claim(&self.house.ways_inside, 1, limits.upstream_within, Seat::is_inside)?;
        let kept = &self.house.kept_ways;
        let way = kept.take().map_or_else(|| self.make_way(), Ok).map_err(|error| {
            self.house.report(format_args!("could not reach the web room: {error}"));
            Parting::Refused(Refusal::UNREACHABLE)
        })?;
        let (line, buffer, ends) = (way.line, way.buffer, kept.ends_after(&head.target));
        let mut inside = Inside { line, buffer, seat: self.seat, ends, _share: share };
        if !self.seat.attach(&inside.line) {
            return Err(Parting::Left);
        }
        let client = client_address(self.peer, &head.forwarded_for, &self.house.trusted_proxies);
        head.render(client, body.len(), ends, &mut inside.buffer);
        let together = if body.len() <= PIECE_BYTES { body.len() } else { 0 };
        inside.buffer.extend_from_slice(&body[..together]);
        let mut sink = inside.paced(Deadline::after(limits.upstream_within), limits.write_stall);
        // A write that fails may still have been answered (the web room need not read a body that it refuses).
        let _ = sink.write_all(&inside.buffer).and_then(|()| sink.write_all(&body[together..]));
        inside.buffer.clear();
        Ok(inside)
    }

    /// A new way inside; tried when it is to be kept.
    fn make_way(&self) -> io::Result<Way> {
        let kept = &self.house.kept_ways;
        if !kept.are_tried() {
            return self.connect();
        }
        let busy = || io::Error::new(io::ErrorKind::TimedOut, "others are being made");
        let _maker = kept.maker(self.house.limits.upstream_within).ok_or_else(busy)?;
        let way = self.connect()?;
        let (deadline, stall) = (Deadline::after(self.house.limits.upstream_within), CONNECT_WITHIN);
        let mut paced = Paced { line: &way.line, deadline, stall };
        paced.write_all(TRIAL)?;
        let mut received = Vec::new();
        match read_answer_head(&mut paced, true, &mut received) {
            Ok(_) if received.is_empty() => Ok(way),
            _ => Err(io::Error::other("it does not answer")),
        }
    }

    fn connect(&self) -> io::Result<Way> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if self.house.is_short_of_descriptors(socket.as_raw_fd()) {
            return Err(io::Error::other("too few file descriptors are left; raise the limit of open files"));
        }
        socket.set_write_timeout(Some(CONNECT_WITHIN))?;
        socket.connect(&SockAddr::unix(&self.house.upstream)?)?;
        Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)).into())
    }

    /// Reads the answer and passes it to the client; whether the connection can be used again.
    fn pass_back(&mut self, mut inside: Inside<'h>, head: &ParsedHead, keep: bool) -> Result<bool, Parting> {
        let upstream_within = self.house.limits.upstream_within;
        let mut received = std::mem::take(&mut inside.buffer);
        let mut source = inside.paced(Deadline::after(upstream_within), upstream_within);
        let answer =
            read_answer_head(&mut source, self.head_only, &mut received).map_err(Parting::Refused)?;
        let keep = keep && answer.tells_its_end() && !self.house.stop.asked();
        let framing = answer.body;
        let out = answer.render(keep, head.http_1_0);
        match framing {
            AnswerBody::None => {
                inside.give_back(received, &self.house.kept_ways);
                self.send(&out, self.answer_deadline(0)).map_err(|_| Parting::Broken)?;
            }
            AnswerBody::Length(length) => self.pass_counted(inside, out, received, length)?,
            AnswerBody::Chunked => self.pass_open(&inside, out, received, true)?,
            AnswerBody::UntilEnd => self.pass_open(&inside, out, received, false)?,
        }
        Ok(keep)
    }

    /// Passes `length` bytes of body: all of them or a broken connection, never one more.
    fn pass_counted(
        &self,
        inside: Inside<'h>,
        mut out: Vec<u8>,
        mut received: Vec<u8>,
        length: u64,
    ) -> Result<(), Parting> {
        let whole = self.answer_deadline(length);
        let is_exact = received.len() as u64 <= length;
        received.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        let mut rest = length - received.len() as u64;
        let mut room = GATHER_BYTES.saturating_sub(received.len() as u64);
        out.reserve_exact(received.len() + rest.min(room) as usize);
        out.append(&mut received);
        let mut source = inside.paced(whole, self.house.limits.upstream_within);
        while rest > 0 && room > 0 {
            let wanted = rest.min(room).min(PIECE_BYTES as u64) as usize;
            // Nothing has gone out yet, so what breaks here can still be said.
            let count = match read_onto::<PIECE_BYTES>(&mut source, &mut out, wanted) {
                Ok(0) => return Err(Parting::Refused(Refusal::BAD_ANSWER)),
                Ok(count) => count as u64,
                Err(error) => return Err(Parting::Refused(refusal_for_answer(&error))),
            };
            (rest, room) = (rest - count, room - count);
        }
        if rest == 0 {
            if is_exact {
                inside.give_back(received, &self.house.kept_ways);
            } else {
                drop(inside);
            }
            return self.send(&out, whole).map_err(|_| Parting::Broken);
        }
        self.send(&out, whole).map_err(|_| Parting::Broken)?;
        drop(out);
        let bounds = CopyBounds { bytes_max: rest, deadline: Some(whole) };
        match copy_aside(&mut source.take(rest), &mut self.sink(whole), bounds) {
            CopyEnd::Finished(passed) if passed == rest => Ok(()),
            _ => Err(Parting::Broken),
        }
    }

    /// Passes a body of unknown length; the connection's end is its end.
    fn pass_open(
        &self,
        inside: &Inside<'h>,
        mut out: Vec<u8>,
        mut received: Vec<u8>,
        chunked: bool,
    ) -> Result<(), Parting> {
        let mut decoder = chunked.then(|| ChunkedDecoder::new(u64::MAX));
        loop {
            match &mut decoder {
                None => out.append(&mut received),
                Some(decoder) => drop(decoder.decode(&received, &mut out).map_err(|_| Parting::Broken)?),
            }
            received.clear();
            let within = self.answer_deadline(out.len() as u64);
            self.send(&out, within).map_err(|_| Parting::Broken)?;
            out.clear();
            if decoder.as_ref().is_some_and(ChunkedDecoder::done) {
                return Ok(());
            }
            let upstream_within = self.house.limits.upstream_within;
            let mut source = inside.paced(Deadline::after(upstream_within), upstream_within);
            match read_onto::<PIECE_BYTES>(&mut source, &mut received, PIECE_BYTES) {
                Ok(0) if !chunked => return Ok(()),
                Ok(0) | Err(_) => return Err(Parting::Broken),
                Ok(_) => {}
            }
        }
    }

    /// When `length` bytes of an answer must have gone out.
    fn answer_deadline(&self, length: u64) -> Deadline {
        let pieces = u32::try_from(length / GATHER_BYTES + 1).unwrap_or(u32::MAX);
        Deadline::after(self.house.limits.answer_within.saturating_mul(pieces).min(LONGEST))
    }

    fn send(&self, bytes: &[u8], deadline: Deadline) -> io::Result<()> {
        self.sink(deadline).write_all(bytes)
    }

    fn sink(&self, deadline: Deadline) -> Sink<'h> {
        let stall = self.house.limits.write_stall;
        Sink { house: self.house, seat: self.seat, paced: Paced { line: &self.seat.stream, deadline, stall } }
    }

    /// Ends the connection in a way that lets the client read its last answer.
    fn linger(self) {
        self.house.roster.rest(self.seat);
        let shut = self.seat.stream.shutdown(Shutdown::Write);
        if shut.is_err() || self.house.stop.asked() {
            return;
        }
        let deadline = Deadline::after(LINGER_WITHIN);
        let mut source = Paced { line: &self.seat.stream, deadline, stall: LINGER_WITHIN };
        let bounds = CopyBounds { bytes_max: LINGER_BYTES_MAX, deadline: None };
        copy_aside(&mut source, &mut io::sink(), bounds);
    }
}

/// The copy loop in a stack frame of its own. Inlined, its buffer would cost every idle connection 16 KiB.
#[inline(never)]
fn copy_aside(source: &mut impl Read, sink: &mut impl Write, bounds: CopyBounds) -> CopyEnd {
    copy_bounded(source, sink, bounds)
}

/// The head of the answer; what came with it is left in `received`, which was empty.
fn read_answer_head(
    source: &mut Paced<'_, UnixStream>,
    to_head: bool,
    received: &mut Vec<u8>,
) -> Result<AnswerHead, Refusal> {
    loop {
        match read_onto::<ANSWER_READ_BYTES>(source, received, ANSWER_READ_BYTES) {
            Ok(0) => return Err(Refusal::BAD_ANSWER),
            Ok(_) => {}
            Err(error) => return Err(refusal_for_answer(&error)),
        }
        match parse_answer(received, to_head) {
            Ok(None) => {}
            Ok(Some(answer)) => {
                received.drain(..answer.head_bytes);
                return Ok(answer);
            }
            Err(bad) => {
                log::debug!("could not use an answer of the web room: {}", bad.0);
                return Err(Refusal::BAD_ANSWER);
            }
        }
    }
}

fn refusal_for_answer(error: &io::Error) -> Refusal {
    if is_time_limit(error) { Refusal::NO_ANSWER } else { Refusal::BAD_ANSWER }
}

fn refusal_for(fault: ChunkedFault) -> Parting {
    Parting::Refused(match fault {
        ChunkedFault::Malformed => Refusal::malformed("malformed chunk"),
        ChunkedFault::TooLarge => Refusal::TOO_LARGE,
    })
}
