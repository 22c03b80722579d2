//! A passage: one request's way out. It has an address on loopback, a secret, a thread for itself, and an end.

use super::crew::Crew;
use super::exchange::{Exchange, Reach, prepare_near};
use super::fault::PassageFault;
use super::lever::{Lever, Pull};
use super::lobby::{self, SECRET_HEADER, local_socket};
use super::origin::Origin;
use super::tls::TlsSession;
use super::{OutboundLimits, bounded};
use crate::ground::random::{ALPHANUMERIC, SharedRandom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Enough for a TLS handshake in a debug build, with room to spare; see the test that measures it.
pub const PASSAGE_STACK_BYTES: usize = 256 * 1024;
const SECRET_LENGTH: usize = 32;

/// One request's way out. Send exactly one request to [`Passage::base_url`], with [`Passage::header`] among its
/// headers, read the answer to its end, let go of it, and then ask how it went with [`Passage::finish`].
/// A passage that is dropped without `finish` is cut.
#[must_use = "a passage that is dropped is cut"]
pub struct Passage {
    base_url: String,
    secret: String,
    lever: Arc<Lever>,
    end: Option<Receiver<PassageReport>>,
}

/// How a passage went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassageReport {
    /// Why there is no whole answer; `None`: the answer came whole.
    pub fault: Option<PassageFault>,
    /// Who was connected to: the origin, or the proxy.
    pub peer: Option<SocketAddr>,
    /// How TLS came about.
    pub tls: Option<TlsSession>,
    /// Bytes of the request that went to the origin, head included.
    pub request_bytes: u64,
    /// Whether the request went out whole. If not, the origin cannot have acted on it.
    pub request_sent: bool,
    /// Whether the head of the final answer came and was handed on.
    pub head_seen: bool,
    /// Its status code.
    pub status: Option<u16>,
    /// Its Content-Length.
    pub announced_bytes: Option<u64>,
    /// Bytes of the body that were handed on, as they were on the wire.
    pub answer_bytes: u64,
}

/// What a passage needs from its door.
pub struct PassageOrder {
    /// Where to.
    pub origin: Origin,
    /// How long and how much.
    pub limits: OutboundLimits,
    /// The way out.
    pub reach: Arc<Reach>,
    /// For the secret.
    pub random: SharedRandom,
}

/// A passage's listener and lever before its thread runs.
pub struct Bound {
    /// What ends it.
    pub lever: Arc<Lever>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

/// Binds the near end.
pub fn bind() -> Result<Bound, PassageFault> {
    let fault = |error: std::io::Error| local_socket("listen on 127.0.0.1", &error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let listener = Arc::new(listener);
    Ok(Bound { lever: Arc::new(Lever::new(listener.clone())), listener, address })
}

/// Starts the passage in a thread of `crew`, which calls `at_end` with its report as the last thing.
pub fn start(
    crew: &Crew,
    bound: Bound,
    order: PassageOrder,
    at_end: impl FnOnce(&PassageReport) + Send + 'static,
) -> Result<Passage, PassageFault> {
    let Bound { lever, listener, address } = bound;
    let secret = order.random.text(SECRET_LENGTH, ALPHANUMERIC);
    let (told, end) = sync_channel(1);
    let job = {
        let (secret, lever) = (secret.clone(), lever.clone());
        Box::new(move || {
            let report = relay(listener, &secret, &order, &lever);
            lever.release();
            at_end(&report);
            let _ = told.send(report);
        })
    };
    let started = crew.run("passage", PASSAGE_STACK_BYTES, job);
    started.map_err(|error| local_socket("start a thread for the passage", &error))?;
    Ok(Passage { base_url: format!("http://{address}"), secret, lever, end: Some(end) })
}

fn relay(listener: Arc<TcpListener>, secret: &str, order: &PassageOrder, lever: &Lever) -> PassageReport {
    let mut report = PassageReport::default();
    report.fault = pass(listener, secret, order, lever, &mut report).err().map(|fault| match fault {
        PassageFault::LocalPeerGone => lever.explain_near_gone(),
        other => other,
    });
    report
}

fn pass(
    listener: Arc<TcpListener>,
    secret: &str,
    order: &PassageOrder,
    lever: &Lever,
    report: &mut PassageReport,
) -> Result<(), PassageFault> {
    let guest = lobby::admit(&listener, secret, bounded(order.limits.local_within), lever)?;
    drop(listener);
    prepare_near(&guest.stream)?;
    lever.occupy(guest.stream.clone());
    Exchange::new(&order.reach, &order.origin, &order.limits, guest.stream.clone(), report).run(&guest)
}

impl Passage {
    /// Where to send the request: `http://127.0.0.1:PORT`, to be followed by the path.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The header that opens the passage. It does not leave the machine.
    pub fn header(&self) -> (&'static str, &str) {
        (SECRET_HEADER, &self.secret)
    }

    /// Waits for the passage's end and tells how it went. To be called when the requester's side of the connection
    /// is closed or dropped: then the end comes at once. While that side is open, this waits as long as the
    /// limits allow (a second after a whole answer).
    pub fn finish(mut self) -> PassageReport {
        self.lever.pull(Pull::NoMoreGuests);
        let report = self.end.take().and_then(|end| end.recv().ok());
        report.unwrap_or_else(|| PassageReport {
            fault: Some(PassageFault::LocalSocket {
                action: "finish the passage",
                cause: "its thread broke".into(),
            }),
            ..PassageReport::default()
        })
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        // Taken by `finish`; otherwise nobody asks any more and the thread ends by itself.
        if self.end.is_some() {
            self.lever.pull(Pull::Dropped);
        }
    }
}
