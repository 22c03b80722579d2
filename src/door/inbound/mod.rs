//! The inbound door: it owns the public listener and stands between the internet and tiny_http, which listens
//! on a private Unix socket and could not survive the street. Only whole, clean, bounded requests go inside,
//! one at a time by each way; answers come back framed for the client, who may keep its connection.
//!
//! | status | when the door itself answers so |
//! |---|---|
//! | 400 | the head or a chunk is malformed or could be read in two ways; the target is no path; a TLS client |
//! | 405 | TRACE, CONNECT |
//! | 408 | the head took longer than `head_within`, the body longer than `body_within` |
//! | 411 | POST without `Content-Length` or chunks |
//! | 413 | the body is, or promises to be, longer than `body_bytes_max` |
//! | 414 | the target is longer than `target_bytes_max` |
//! | 417 | an expectation other than `100-continue` |
//! | 431 | the head is longer than `head_bytes_max` or has more lines than `headers_max` |
//! | 501 | an unknown method, or a transfer encoding other than `chunked` |
//! | 502 | tiny_http's answer is malformed, or ends before its length while nothing of it has gone out |
//! | 503 | no seat is free, or tiny_http cannot be reached |
//! | 504 | tiny_http did not answer within `upstream_within` |
//! | 505 | another version than HTTP/1.0 and 1.1: HTTP/0.9, the HTTP/2 preface |
//!
//! Each of them ends the connection. No answer at all: a connection that is idle for `idle_within`, gives way to
//! others (see `roster`), or stops reading for `write_stall`.
//!
//! The files: [`head`], [`chunked`], [`answer`], [`refusal`] and [`client_address`] are pure, bytes in and
//! bytes out. `roster` counts seats, `allowance` what they share, `ways` keeps ways inside, `descriptors` says how
//! many seats and ways the process can bear, `acceptor` fills the seats, `visit` is one connection's life, `paced`
//! bounds its waiting, `tally` counts. The door does not know routes; it knows tiny_http only as something
//! that speaks HTTP/1.1 on a socket and must never run out of file descriptors.

mod acceptor;
mod allowance;
pub mod answer;
pub mod chunked;
pub mod client_address;
mod descriptors;
pub mod head;
mod paced;
pub mod refusal;
mod roster;
mod tally;
#[cfg(test)]
mod tests;
mod visit;
mod ways;

pub use head::{ParsedHead, parse_head};
pub use refusal::Refusal;
pub use tally::InboundCounters;
pub use ways::Reuse;

use crate::ground::clock::Deadline;
use crate::ground::commit::Crowd;
use crate::ground::stop::Stop;
use allowance::Allowance;
use descriptors::Budget;
use roster::{Roster, RosterLimits};
use socket2::{SockAddr, SockRef};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tally::Tally;
use ways::KeptWays;

/// The header line in which the door tells the web room the client's address and all that the client's own header lines
/// say: [`head::FieldsInside`]. None by this name is looked for in what comes from outside.
pub const HEAD_INSIDE: &str = "X-Tubox-Head";

/// Requests inside at a time, unless descriptors are short: as many as the web room has handlers.
pub const INSIDE_MAX: usize = 64;

/// Connections that may wait to be accepted; the system may have a lower limit.
const WAITING_OUTSIDE_MAX: i32 = 1024;

/// How long the acceptor waits after an error that another try at once would only repeat.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often trouble is logged at most.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How long a thread may take to notice that its sockets were cut.
const CUT_WITHIN: Duration = Duration::from_secs(3);

/// What clients may cost.
#[derive(Clone, Debug)]
pub struct InboundLimits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections at a time from one IPv4 address or one IPv6 /64; trusted proxies are not counted.
    pub connections_per_address_max: usize,
    /// Request line and header lines.
    pub head_bytes_max: usize,
    /// Header lines.
    pub headers_max: usize,
    /// Only header lines by these names go inside; `None`: all that do not belong to the connection.
    pub names_inside: Option<&'static [&'static str]>,
    /// The target in the request line.
    pub target_bytes_max: usize,
    /// A request's body, without chunk framing.
    pub body_bytes_max: usize,
    /// From the first byte of a head to its last.
    pub head_within: Duration,
    /// From the end of the head to the last byte of the body.
    pub body_within: Duration,
    /// How long a connection may be open without a byte of the next request.
    pub idle_within: Duration,
    /// Requests before a connection has to be made anew.
    pub requests_per_connection_max: usize,
    /// How long tiny_http may take for the head of its answer, and may pause in its body.
    pub upstream_within: Duration,
    /// How long a client may take no byte of an answer.
    pub write_stall: Duration,
    /// Each 64 KiB of an answer.
    pub answer_within: Duration,
    /// Requests that are with tiny_http, or whose answers still come from it, at a time; no more than it has
    /// handlers, so that each of them has one. When all are taken by answers, the one whose client has taken
    /// nothing for longest is cut.
    pub inside_max: usize,
    /// Bytes of all request bodies above 16 KiB that are in memory at a time.
    pub large_bodies_bytes_max: u64,
}

impl Default for InboundLimits {
    fn default() -> InboundLimits {
        InboundLimits {
            connections_max: 512,
            connections_per_address_max: 64,
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            names_inside: None,
            target_bytes_max: 8 * 1024,
            body_bytes_max: 256 * 1024,
            head_within: Duration::from_secs(10),
            body_within: Duration::from_secs(30),
            idle_within: Duration::from_secs(20),
            requests_per_connection_max: 1000,
            upstream_within: Duration::from_secs(30),
            write_stall: Duration::from_secs(10),
            answer_within: Duration::from_secs(60),
            inside_max: INSIDE_MAX,
            large_bodies_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// What the door needs to know.
#[derive(Clone, Debug)]
pub struct InboundOptions {
    /// What clients may cost.
    pub limits: InboundLimits,
    /// The Unix socket on which tiny_http listens.
    pub upstream: PathBuf,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Which ways inside are used again.
    pub reuse: Reuse,
    /// Is told how many clients are connected.
    pub crowd: Crowd,
}

/// What all threads of one door share.
struct House {
    limits: InboundLimits,
    upstream: PathBuf,
    trusted_proxies: Vec<IpAddr>,
    tally: Tally,
    roster: Roster,
    ways_inside: Allowance,
    kept_ways: KeptWays,
    large_bodies: Allowance,
    /// Where numbers of descriptors begin that mean that hardly any is left.
    descriptors_short_from: u64,
    stop: Stop,
    quiet_until: Mutex<Option<Deadline>>,
}

impl House {
    fn new(options: InboundOptions, budget: Budget) -> House {
        let largest_body = options.limits.body_bytes_max as u64;
        House {
            roster: Roster::new(RosterLimits {
                connections_max: budget.connections_max,
                per_holder_max: options.limits.connections_per_address_max.max(1),
                leaving_max: budget.leaving_max,
            })
            .telling(options.crowd),
            ways_inside: Allowance::of_ones(budget.inside_max as u64),
            kept_ways: KeptWays::new(options.reuse),
            large_bodies: Allowance::new(options.limits.large_bodies_bytes_max.max(largest_body)),
            descriptors_short_from: budget.short_from,
            limits: options.limits,
            upstream: options.upstream,
            trusted_proxies: options.trusted_proxies.into_iter().map(client_address::plain).collect(),
            tally: Tally::default(),
            stop: Stop::new(),
            quiet_until: Mutex::default(),
        }
    }

    /// Whether `descriptor`, the lowest free number a moment ago, says that tiny_http could be left without.
    fn is_short_of_descriptors(&self, descriptor: RawFd) -> bool {
        u64::try_from(descriptor).is_ok_and(|number| number >= self.descriptors_short_from)
    }

    /// Logs a trouble that strangers can cause as often as they like; at most one in [`REPORT_EVERY`].
    fn report(&self, trouble: std::fmt::Arguments<'_>) {
        let mut quiet_until = self.quiet_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if quiet_until.is_none_or(|until| until.passed()) {
            *quiet_until = Some(Deadline::after(REPORT_EVERY));
            log::warn!("{trouble}");
        }
    }
}

/// The open door. Dropping it closes it without patience.
pub struct InboundDoor {
    house: Arc<House>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl InboundDoor {
    /// Begins to accept on `listener`. Raise the process's limit of file descriptors before: a door that could
    /// use up what tiny_http needs takes fewer connections instead.
    pub fn open(listener: TcpListener, options: InboundOptions) -> io::Result<InboundDoor> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(false)?;
        // Listening once more only makes the queue longer. Whoever finds it full tries again after a second.
        SockRef::from(&listener).listen(WAITING_OUTSIDE_MAX)?;
        // A path too long for a socket would otherwise fail with every request.
        SockAddr::unix(&options.upstream)?;
        let budget = Budget::of_process(&options.limits);
        if budget.connections_max < options.limits.connections_max {
            log::warn!(
                "the limit of open files allows {} client connections instead of {}; raise it (systemd: \
                 LimitNOFILE=4096)",
                budget.connections_max,
                options.limits.connections_max
            );
        }
        let house = Arc::new(House::new(options, budget));
        let listener = Arc::new(listener);
        let (shared_house, shared_listener) = (Arc::clone(&house), Arc::clone(&listener));
        let acceptor = thread::Builder::new()
            .name("inbound-accept".into())
            .spawn(move || acceptor::accept_until_stopped(&shared_house, || shared_listener.accept()))?;
        Ok(InboundDoor { house, listener, address, acceptor: Mutex::new(Some(acceptor)) })
    }

    /// The address on which the door listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What has been counted so far.
    pub fn counters(&self) -> InboundCounters {
        self.house.tally.counters(self.house.roster.seated())
    }

    /// Closes the door: accepts nobody, cuts who rests, lets answers in hand finish for at most `within` and cuts
    /// the rest. Returns when all threads have ended (at most a moment after `within`). Closing twice is fine.
    pub fn close(&self, within: Duration) {
        let deadline = Deadline::after(within);
        self.house.stop.ask();
        let acceptor = self.acceptor.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(acceptor) = acceptor else {
            return;
        };
        // On Linux this ends a blocked accept; where it does not, a caller ends it.
        if SockRef::from(&*self.listener).shutdown(Shutdown::Both).is_err() {
            drop(TcpStream::connect_timeout(&callable(self.address), CUT_WITHIN));
        }
        if acceptor.join().is_err() {
            log::error!("the inbound door's acceptor had panicked");
        }
        self.house.roster.cut_resting();
        self.house.kept_ways.clear();
        if self.house.roster.wait_empty(deadline.remaining().unwrap_or_default()) {
            return;
        }
        self.house.roster.cut_all();
        if !self.house.roster.wait_empty(CUT_WITHIN) {
            log::warn!("a client connection did not end after it was cut");
        }
    }
}

impl Drop for InboundDoor {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

/// `address` as somebody on this machine can call it.
fn callable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(any) if any.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(any) if any.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
