//! The door behind the wechat room. minreq talks plain HTTP to it over loopback; the door talks to the origin.
//!
//! For each request the wechat room asks for a [`Passage`] to one of the allowed [`Origin`]s. A passage is a
//! listener on 127.0.0.1, a secret that opens it once, and a thread ([`crew`]) that relays one request and its answer:
//!
//! ```text
//! minreq ──► lobby ──► resolve ──► connect ──► proxy ──► tls ──► head ──► framing ──► minreq
//!            who?      name        addresses   CONNECT   trust   answer   its end
//! ```
//!
//! What must stay true:
//! - No wait without a limit of its own and without an eye on the near side ([`wire`]): a passage ends soon after
//!   its requester left, and at once when the door is closed.
//! - minreq sees only what it reads well: one final head, bounded, clean, every line ended by CR LF.
//! - Each way to fail has its name ([`PassageFault`]), and an answer that ends too soon is a fault.
//! - Plain http only to this machine; TLS trusts webpki-roots and the roots handed in, nothing else.
//!
//! It knows HTTP framing, sockets and TLS. It does not know WeChat, and follows no redirects.

mod connect;
mod crew;
mod exchange;
mod fault;
pub mod framing;
pub mod head;
mod lever;
mod lobby;
mod origin;
mod passage;
mod proxy;
mod resolve;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use fault::{ConnectFault, PassageFault, ProxyFault, ResolveFault, TlsFault};
pub use origin::{Host, Origin, OriginError, ProxyAddress, Scheme};
pub use passage::{Passage, PassageReport};
pub use resolve::{Resolver, SystemResolver};
pub use tls::TlsSession;

use crate::ground::clock::{SharedClock, SystemClock};
use crate::ground::random::{OsRandom, SharedRandom};
use crew::Crew;
use exchange::Reach;
use lever::{Lever, Pull};
use passage::PassageOrder;
use resolve::Lookups;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use thiserror::Error;
use tls::TlsRoom;

/// What minreq's `with_max_headers_size` has to be at least for a head of `head_bytes_max`: its count goes below
/// zero when trailers come that it has no room for.
pub const fn requester_headers_size(head_bytes_max: usize) -> usize {
    head_bytes_max + 2 * framing::TRAILER_BYTES_MAX
}

/// Limits are cut to this, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What one passage may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundLimits {
    /// From the passage's opening to the request.
    pub local_within: Duration,
    /// The look-up of the name.
    pub resolve_within: Duration,
    /// The connection, over all addresses; also the proxy's answer.
    pub connect_within: Duration,
    /// The TLS handshake.
    pub tls_within: Duration,
    /// From the request's end to the first byte of an answer.
    pub first_byte_within: Duration,
    /// The longest time without a byte.
    pub stall: Duration,
    /// The whole, from the request on.
    pub total_within: Duration,
    /// The longest request body.
    pub request_bytes_max: u64,
    /// The longest answer body.
    pub answer_bytes_max: u64,
    /// The longest answer head.
    pub head_bytes_max: usize,
}

impl Default for OutboundLimits {
    fn default() -> OutboundLimits {
        OutboundLimits {
            local_within: Duration::from_secs(10),
            resolve_within: Duration::from_secs(10),
            connect_within: Duration::from_secs(10),
            tls_within: Duration::from_secs(10),
            first_byte_within: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            total_within: Duration::from_secs(60 * 60),
            request_bytes_max: 1024 * 1024,
            answer_bytes_max: 64 * 1024 * 1024,
            head_bytes_max: 64 * 1024,
        }
    }
}

/// What a door is opened with.
#[derive(Clone)]
pub struct OutboundOptions {
    /// Where passages may lead.
    pub origins: Vec<Origin>,
    /// Roots that are trusted beside webpki-roots: PEM with one certificate or more.
    pub extra_roots_pem: Option<Vec<u8>>,
    /// An HTTP proxy for all https origins.
    pub proxy: Option<ProxyAddress>,
    /// What a passage may cost.
    pub limits: OutboundLimits,
    /// Who turns names into addresses; `None`: the operating system.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Whether IPv6 addresses are left out.
    pub force_ipv4: bool,
    /// The wall clock that certificates are checked against.
    pub clock: SharedClock,
    /// Where the passages' secrets come from.
    pub random: SharedRandom,
}

impl OutboundOptions {
    /// A door to these origins, everything else as usual.
    pub fn to(origins: Vec<Origin>) -> OutboundOptions {
        OutboundOptions {
            origins,
            extra_roots_pem: None,
            proxy: None,
            limits: OutboundLimits::default(),
            resolver: None,
            force_ipv4: false,
            clock: SystemClock::shared(),
            random: OsRandom::shared(),
        }
    }
}

impl Default for OutboundOptions {
    fn default() -> OutboundOptions {
        OutboundOptions::to(Vec::new())
    }
}

/// Why a door was not opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutboundError {
    /// The extra root certificates cannot be used.
    #[error("could not use the extra root certificates: {0}")]
    ExtraRoots(String),
    /// An origin's name cannot stand in a certificate.
    #[error("could not use {origin}: its name cannot stand in a certificate")]
    ServerName {
        /// The origin.
        origin: Origin,
    },
}

/// What a door has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundCounters {
    /// Requests that were sent whole.
    pub requests: u64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of answers' bodies that were handed on.
    pub answer_bytes: u64,
    /// Passages that ended with a fault, by [`PassageFault::kind`].
    pub faults: BTreeMap<&'static str, u64>,
    /// TLS sessions made anew.
    pub tls_full: u64,
    /// TLS sessions taken up again.
    pub tls_resumed: u64,
    /// Passages that are open now.
    pub passages_open: usize,
}

/// The outbound door. Clones are the same door.
#[derive(Clone)]
pub struct OutboundDoor {
    inner: Arc<Inner>,
}

struct Inner {
    origins: Vec<Origin>,
    limits: OutboundLimits,
    reach: Arc<Reach>,
    random: SharedRandom,
    crew: Crew,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    next_number: u64,
    open: HashMap<u64, Arc<Lever>>,
    counters: OutboundCounters,
}

impl OutboundDoor {
    /// Opens the door. Contacts nobody.
    pub fn open(options: OutboundOptions) -> Result<OutboundDoor, OutboundError> {
        let nameless =
            |origin: &&Origin| origin.scheme() == Scheme::Https && !tls::is_valid_server_name(origin.host());
        if let Some(origin) = options.origins.iter().find(nameless) {
            return Err(OutboundError::ServerName { origin: origin.clone() });
        }
        let tls = TlsRoom::new(options.extra_roots_pem.as_deref(), options.clock)
            .map_err(OutboundError::ExtraRoots)?;
        let reach = Reach {
            lookups: Lookups::new(options.resolver.unwrap_or_else(|| Arc::new(SystemResolver))),
            tls,
            proxy: options.proxy,
            force_ipv4: options.force_ipv4,
        };
        let inner = Inner {
            origins: options.origins,
            limits: options.limits,
            reach: Arc::new(reach),
            random: options.random,
            crew: Crew::default(),
            state: Mutex::default(),
        };
        Ok(OutboundDoor { inner: Arc::new(inner) })
    }

    /// A passage to `origin` with the door's limits.
    pub fn passage(&self, origin: &Origin) -> Result<Passage, PassageFault> {
        self.passage_with(origin, self.inner.limits.clone())
    }

    /// A passage to `origin` with limits of its own.
    pub fn passage_with(&self, origin: &Origin, limits: OutboundLimits) -> Result<Passage, PassageFault> {
        self.start(origin, limits).inspect_err(|fault| self.inner.lock().count_fault(fault))
    }

    fn start(&self, origin: &Origin, limits: OutboundLimits) -> Result<Passage, PassageFault> {
        if !self.inner.origins.contains(origin) {
            return Err(PassageFault::NotAllowed { origin: origin.to_string() });
        }
        let bound = passage::bind()?;
        let open = OpenPassage::enter(&self.inner, bound.lever.clone())?;
        let order = PassageOrder {
            origin: origin.clone(),
            limits,
            reach: self.inner.reach.clone(),
            random: self.inner.random.clone(),
        };
        passage::start(&self.inner.crew, bound, order, move |report| open.count(report))
    }

    /// What the door has done so far.
    pub fn counters(&self) -> OutboundCounters {
        let state = self.inner.lock();
        OutboundCounters { passages_open: state.open.len(), ..state.counters.clone() }
    }

    /// Closes the door for good: cuts all open passages now and opens no more. Does not wait.
    pub fn close(&self) {
        let levers: Vec<_> = {
            let mut state = self.inner.lock();
            state.closed = true;
            state.open.values().cloned().collect()
        };
        levers.iter().for_each(|lever| lever.pull(Pull::DoorClosed));
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn count_fault(&mut self, fault: &PassageFault) {
        *self.counters.faults.entry(fault.kind()).or_default() += 1;
    }
}

/// A passage in the door's list; leaves it when dropped, however its thread ends.
struct OpenPassage {
    door: Arc<Inner>,
    number: u64,
}

impl OpenPassage {
    fn enter(door: &Arc<Inner>, lever: Arc<Lever>) -> Result<OpenPassage, PassageFault> {
        let mut state = door.lock();
        if state.closed {
            return Err(PassageFault::DoorClosed);
        }
        let number = state.next_number;
        state.next_number += 1;
        state.open.insert(number, lever);
        Ok(OpenPassage { door: door.clone(), number })
    }

    fn count(&self, report: &PassageReport) {
        let mut state = self.door.lock();
        let counters = &mut state.counters;
        counters.requests += u64::from(report.request_sent);
        counters.request_bytes += report.request_bytes;
        counters.answer_bytes += report.answer_bytes;
        counters.tls_full += u64::from(report.tls == Some(TlsSession::Full));
        counters.tls_resumed += u64::from(report.tls == Some(TlsSession::Resumed));
        if let Some(fault) = &report.fault {
            state.count_fault(fault);
        }
    }
}

impl Drop for OpenPassage {
    fn drop(&mut self) {
        self.door.lock().open.remove(&self.number);
    }
}

/// A limit that can be added to a point in time.
fn bounded(limit: Duration) -> Duration {
    limit.min(LONGEST)
}
