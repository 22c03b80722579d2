//! One request and its answer, after the guest was let in: reach the origin, send the request, read the head,
//! hand on head and body. Runs in the passage's own thread; every step is bounded by sockets that cannot hang.

use super::connect::{self, Unconnected};
use super::fault::{ConnectFault, PassageFault, ProxyFault, ResolveFault};
use super::framing::{BodyEnd, BodyFault, FramedBody};
use super::head::{self, AnswerHead, HeadFault, RequestHead};
use super::lobby::{Guest, SECRET_HEADER, local_socket};
use super::origin::{Host, Origin, ProxyAddress, Scheme};
use super::passage::PassageReport;
use super::proxy;
use super::resolve::{Lookups, Unresolved};
use super::tls::{FarStream, TlsRoom};
use super::wire::{FarSocket, GaveUp, NearSocket};
use super::{OutboundLimits, bounded};
use crate::door::relay::{CopyBounds, CopyEnd, copy_bounded, copy_by};
use crate::ground::clock::Deadline;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Interim answers that are swallowed before the final one.
const INTERIM_ANSWERS_MAX: usize = 8;
const HEAD_READ_BYTES: usize = 4 * 1024;
/// Every buffer that passes wakes the requester once, so few large ones cost less. It lies on the passage's stack.
const ANSWER_BUFFER_BYTES: usize = 64 * 1024;
/// How long the requester may take to leave after the last byte of its answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// What every exchange of a door needs.
pub struct Reach {
    /// Names to addresses.
    pub lookups: Lookups,
    /// TLS.
    pub tls: TlsRoom,
    /// The proxy for everything but this machine's plain http.
    pub proxy: Option<ProxyAddress>,
    /// Whether IPv6 addresses are left out.
    pub force_ipv4: bool,
}

/// One exchange.
pub struct Exchange<'a> {
    reach: &'a Reach,
    origin: &'a Origin,
    limits: &'a OutboundLimits,
    near: Arc<TcpStream>,
    whole: Deadline,
    report: &'a mut PassageReport,
}

/// Who is looked up and connected to: the origin or the proxy before it. Names its own faults.
struct Target<'a> {
    host: &'a Host,
    port: u16,
    proxy: Option<&'a ProxyAddress>,
}

impl<'a> Exchange<'a> {
    /// An exchange with the requester at `near`.
    pub fn new(
        reach: &'a Reach,
        origin: &'a Origin,
        limits: &'a OutboundLimits,
        near: Arc<TcpStream>,
        report: &'a mut PassageReport,
    ) -> Exchange<'a> {
        Exchange { reach, origin, limits, near, whole: Deadline::after(bounded(limits.total_within)), report }
    }

    /// Sends the guest's request and hands the answer on.
    pub fn run(mut self, guest: &Guest) -> Result<(), PassageFault> {
        let (head, early) = guest.bytes.split_at(guest.head_length);
        let request = head::rewrite_request_head(head, SECRET_HEADER, &self.origin.authority())
            .map_err(|why| PassageFault::BadRequest { why })?;
        if request.body_bytes > self.limits.request_bytes_max {
            return Err(PassageFault::BadRequest { why: "its body is too long" });
        }
        let mut far = self.reach_origin()?;
        self.send(&mut far, &request, early)?;
        let (answer, early) = self.read_head(&mut far, request.asks_for_head)?;
        self.hand_on(far, &answer, &early)
    }

    fn reach_origin(&mut self) -> Result<FarStream, PassageFault> {
        let plain = self.origin.scheme() == Scheme::Http;
        let proxy = self.reach.proxy.as_ref().filter(|_| !plain);
        let stream = self.connect(&match proxy {
            Some(proxy) => Target { host: proxy.host(), port: proxy.port(), proxy: Some(proxy) },
            None => Target { host: self.origin.host(), port: self.origin.port(), proxy: None },
        })?;
        let mut socket = FarSocket::new(stream, self.near.clone(), self.limits.stall, self.whole);
        self.report.peer = socket.peer();
        if let Some(proxy) = proxy {
            socket.set_deadline(self.within(self.limits.connect_within));
            proxy::open_tunnel(&mut socket, proxy, self.origin)?;
        }
        if plain {
            return Ok(FarStream::Plain(socket));
        }
        socket.set_deadline(self.within(self.limits.tls_within));
        let (stream, session) = self.reach.tls.handshake(self.origin.host(), socket)?;
        self.report.tls = Some(session);
        Ok(stream)
    }

    fn connect(&self, target: &Target<'_>) -> Result<TcpStream, PassageFault> {
        let found = self.resolve(target.host).map_err(|lost| match lost {
            Unresolved::NearGone => PassageFault::LocalPeerGone,
            Unresolved::Fault(why) => target.unresolved(why),
        })?;
        let addresses: Vec<SocketAddr> = connect::take_turns(&found, self.reach.force_ipv4)
            .into_iter()
            .map(|address| (address, target.port).into())
            .collect();
        let within = self.limits.connect_within.min(self.whole.remaining().unwrap_or_default());
        connect::race(&addresses, &self.near, bounded(within)).map_err(|lost| match lost {
            Unconnected::NearGone => PassageFault::LocalPeerGone,
            Unconnected::Fault { why, tried } => target.unconnected(why, tried),
        })
    }

    fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, Unresolved> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            // Never asked of a name server: plain http is allowed to it (RFC 6761, 6.3).
            Host::Name(name) if name == "localhost" => {
                Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
            }
            Host::Name(name) => {
                self.reach.lookups.addresses(name, self.within(self.limits.resolve_within), &self.near)
            }
        }
    }

    fn send(&mut self, far: &mut FarStream, request: &RequestHead, early: &[u8]) -> Result<(), PassageFault> {
        far.socket().set_deadline(self.whole);
        let body_bytes = usize::try_from(request.body_bytes).unwrap_or(usize::MAX);
        let early = &early[..early.len().min(body_bytes)];
        // Head and body together: one packet, one TLS record.
        let bytes = [&request.bytes, early].concat();
        far.write_all(&bytes).and_then(|()| far.flush()).map_err(|error| far.judge(&error))?;
        self.report.request_bytes = bytes.len() as u64;
        let rest = request.body_bytes - early.len() as u64;
        if rest > 0 {
            self.send_rest(far, rest)?;
        }
        self.report.request_sent = true;
        Ok(())
    }

    fn send_rest(&mut self, far: &mut FarStream, rest: u64) -> Result<(), PassageFault> {
        let near = NearSocket::new(self.near.clone(), self.limits.stall, self.whole);
        let bounds = CopyBounds { bytes_max: rest, deadline: Some(self.whole) };
        let end = copy_bounded(&mut near.take(rest), far, bounds);
        let (CopyEnd::Finished(sent)
        | CopyEnd::TooMuch(sent)
        | CopyEnd::SourceStalled(sent)
        | CopyEnd::SinkStalled(sent)
        | CopyEnd::TooSlow(sent)
        | CopyEnd::SourceBroke(sent, _)
        | CopyEnd::SinkBroke(sent, _)) = end;
        self.report.request_bytes += sent;
        match end {
            CopyEnd::Finished(_) if sent == rest => far.flush().map_err(|error| far.judge(&error)),
            CopyEnd::Finished(_) | CopyEnd::TooMuch(_) | CopyEnd::SourceBroke(..) => {
                Err(PassageFault::LocalPeerGone)
            }
            CopyEnd::SourceStalled(_) => {
                Err(PassageFault::BadRequest { why: "its body did not come in time" })
            }
            CopyEnd::SinkStalled(_) => Err(PassageFault::Stalled),
            CopyEnd::TooSlow(_) => Err(PassageFault::TooSlow),
            CopyEnd::SinkBroke(_, error) => Err(far.judge(&error)),
        }
    }

    /// The final answer's head, and the bytes of the body that came with it.
    fn read_head(&mut self, far: &mut FarStream, asked: bool) -> Result<(AnswerHead, Vec<u8>), PassageFault> {
        let mut bytes = Vec::new();
        for _ in 0..=INTERIM_ANSWERS_MAX {
            let length = self.read_one_head(far, &mut bytes)?;
            let answer = head::parse_answer_head(&bytes[..length], asked).map_err(name_head_fault)?;
            if answer.bytes.len() > self.limits.head_bytes_max {
                return Err(PassageFault::HeadTooLong);
            }
            let rest = bytes.split_off(length);
            match answer.status {
                101 => return Err(PassageFault::Garbage { why: "it switches protocols" }),
                100..=199 => bytes = rest,
                _ => return Ok((answer, rest)),
            }
        }
        Err(PassageFault::Garbage { why: "interim answers without end" })
    }

    /// Reads until `bytes` begins with a whole head; gives its length.
    fn read_one_head(&mut self, far: &mut FarStream, bytes: &mut Vec<u8>) -> Result<usize, PassageFault> {
        let mut buffer = [0; HEAD_READ_BYTES];
        let mut searched = 0;
        loop {
            if let Some(length) = head::head_length(bytes, searched) {
                return if length > self.limits.head_bytes_max {
                    Err(PassageFault::HeadTooLong)
                } else {
                    Ok(length)
                };
            }
            head::check_unfinished(bytes).map_err(name_head_fault)?;
            if bytes.len() > self.limits.head_bytes_max {
                return Err(PassageFault::HeadTooLong);
            }
            // The first byte may take its time; a head that has begun has to come in one go.
            let waits_for_first = searched == 0;
            if waits_for_first {
                far.socket().set_deadline(self.within(self.limits.first_byte_within));
            }
            searched = bytes.len();
            match far.read(&mut buffer) {
                Ok(0) if !self.report.head_seen && bytes.is_empty() => return Err(PassageFault::NoAnswer),
                Ok(0) => return Err(PassageFault::CutShort),
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(error) => return Err(self.judge_head_break(far, &error, bytes.is_empty())),
            }
            if waits_for_first {
                far.socket().set_deadline(self.within(self.limits.stall));
            }
        }
    }

    fn judge_head_break(
        &self,
        far: &mut FarStream,
        error: &std::io::Error,
        nothing_came: bool,
    ) -> PassageFault {
        match far.judge(error) {
            PassageFault::TooSlow | PassageFault::Stalled if self.whole.passed() => PassageFault::TooSlow,
            PassageFault::TooSlow | PassageFault::Stalled if nothing_came => PassageFault::FirstByteTimeLimit,
            PassageFault::TooSlow => PassageFault::Stalled,
            PassageFault::CutWithoutCloseNotify if nothing_came => PassageFault::NoAnswer,
            other => other,
        }
    }

    fn hand_on(&mut self, mut far: FarStream, answer: &AnswerHead, early: &[u8]) -> Result<(), PassageFault> {
        let bytes_max = self.limits.answer_bytes_max;
        if matches!(answer.end, BodyEnd::Length(length) if length > bytes_max) {
            return Err(PassageFault::TooMuch { bytes_max });
        }
        far.socket().set_deadline(self.whole);
        self.report.head_seen = true;
        self.report.status = Some(answer.status);
        self.report.announced_bytes = match answer.end {
            BodyEnd::Length(length) => Some(length),
            _ => None,
        };
        let mut near = NearSocket::new(self.near.clone(), self.limits.stall, self.whole);
        near.write_all(&answer.bytes).map_err(|_| name_near_break(&near))?;
        let mut body = FramedBody::new(answer.end, early, &mut far);
        let bounds = CopyBounds { bytes_max, deadline: Some(self.whole) };
        let end = copy_by(&mut [0; ANSWER_BUFFER_BYTES], &mut body, &mut near, bounds);
        let framing = body.fault();
        let (passed, result) = match end {
            CopyEnd::Finished(passed) => (passed, Ok(())),
            CopyEnd::TooMuch(passed) => (passed, Err(PassageFault::TooMuch { bytes_max })),
            CopyEnd::TooSlow(passed) => (passed, Err(PassageFault::TooSlow)),
            CopyEnd::SinkStalled(passed) | CopyEnd::SinkBroke(passed, _) => {
                (passed, Err(name_near_break(&near)))
            }
            CopyEnd::SourceStalled(passed) => (passed, Err(self.judge_body_silence(&mut far))),
            CopyEnd::SourceBroke(passed, error) => (
                passed,
                Err(match framing {
                    Some(BodyFault::CutShort) => PassageFault::CutShort,
                    Some(BodyFault::Garbage(why)) => PassageFault::Garbage { why },
                    None => far.judge(&error),
                }),
            ),
        };
        self.report.answer_bytes = passed;
        if result.is_err() {
            far.socket().shut();
            return result;
        }
        far.leave();
        if matches!(answer.end, BodyEnd::Length(_) | BodyEnd::Chunked) {
            near.let_peer_leave_first(FAREWELL);
        }
        Ok(())
    }

    fn judge_body_silence(&self, far: &mut FarStream) -> PassageFault {
        match far.socket().gave_up() {
            Some(GaveUp::Deadline) => PassageFault::TooSlow,
            _ => PassageFault::Stalled,
        }
    }

    fn within(&self, limit: Duration) -> Deadline {
        Deadline::after(bounded(limit)).or_sooner(self.whole)
    }
}

impl Target<'_> {
    fn unresolved(&self, why: ResolveFault) -> PassageFault {
        match self.proxy {
            Some(proxy) => proxy::fault(proxy, ProxyFault::Resolve(why)),
            None => PassageFault::Resolve { host: self.host.to_string(), why },
        }
    }

    fn unconnected(&self, why: ConnectFault, tried: Vec<(SocketAddr, ConnectFault)>) -> PassageFault {
        match self.proxy {
            Some(proxy) => proxy::fault(proxy, ProxyFault::Connect(why)),
            None => PassageFault::Connect { target: format!("{}:{}", self.host, self.port), why, tried },
        }
    }
}

fn name_head_fault(fault: HeadFault) -> PassageFault {
    match fault {
        HeadFault::TooLong => PassageFault::HeadTooLong,
        HeadFault::Garbage(why) => PassageFault::Garbage { why },
    }
}

fn name_near_break(near: &NearSocket) -> PassageFault {
    match near.gave_up() {
        Some(GaveUp::Stall) => PassageFault::LocalStalled,
        Some(GaveUp::Deadline) => PassageFault::TooSlow,
        Some(GaveUp::NearGone) | None => PassageFault::LocalPeerGone,
    }
}

/// The near socket, without Nagle's delay.
pub fn prepare_near(stream: &TcpStream) -> Result<(), PassageFault> {
    stream.set_nodelay(true).map_err(|error| local_socket("set up the request's socket", &error))
}
