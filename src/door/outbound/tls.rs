//! TLS towards the origin: rustls with the ring provider, the roots of webpki-roots and those handed in. One
//! configuration a door, so that sessions are resumed. The wall clock is the one handed in; a certificate that is
//! "not yet valid" nearly always means that this machine's clock is wrong, and is told so.

use super::fault::{PassageFault, TlsFault};
use super::origin::Host;
use super::wire::{FarSocket, GaveUp};
use crate::ground::clock::{SharedClock, rfc3339_utc};
use crate::ground::escape;
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Servers whose sessions are remembered; the allowed origins are a handful.
const SESSIONS_MAX: usize = 32;
const CAUSE_LENGTH_MAX: usize = 200;

/// The TLS configuration of one door.
pub struct TlsRoom {
    config: Arc<ClientConfig>,
}

/// The connection to the origin, ready for HTTP.
pub enum FarStream {
    /// Plain, to this machine.
    Plain(FarSocket),
    /// TLS.
    Tls(Box<StreamOwned<ClientConnection, FarSocket>>),
}

/// Whether a TLS session was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsSession {
    /// A full handshake.
    Full,
    /// Taken up again from an earlier connection.
    Resumed,
}

impl TlsRoom {
    /// Trusts the roots of webpki-roots and those in `extra_roots_pem`; the error is the bare cause.
    pub fn new(extra_roots_pem: Option<&[u8]>, clock: SharedClock) -> Result<TlsRoom, String> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in extra_roots(extra_roots_pem)? {
            roots.add(certificate).map_err(|error| format!("a certificate in it cannot be read: {error}"))?;
        }
        let mut config =
            ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(WallTime(clock)))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX)));
        Ok(TlsRoom { config: Arc::new(config) })
    }

    /// Shakes hands as far as `socket`'s deadline allows.
    pub fn handshake(
        &self,
        host: &Host,
        mut socket: FarSocket,
    ) -> Result<(FarStream, TlsSession), PassageFault> {
        let lost = |why| PassageFault::Tls { host: host.to_string(), why };
        let name = server_name(host).ok_or_else(|| lost(TlsFault::Other("no valid server name".into())))?;
        let mut connection =
            ClientConnection::new(self.config.clone(), name).map_err(|error| lost(judge(&error)))?;
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(&mut socket) {
                return Err(match socket.gave_up() {
                    Some(GaveUp::NearGone) => PassageFault::LocalPeerGone,
                    Some(GaveUp::Stall | GaveUp::Deadline) => lost(TlsFault::TimeLimit),
                    None => lost(judge_io(&error)),
                });
            }
        }
        let session = match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => TlsSession::Resumed,
            _ => TlsSession::Full,
        };
        Ok((FarStream::Tls(Box::new(StreamOwned::new(connection, socket))), session))
    }
}

/// Whether certificates can be asked for under this host's name.
pub fn is_valid_server_name(host: &Host) -> bool {
    server_name(host).is_some()
}

impl FarStream {
    /// The socket below.
    pub fn socket(&mut self) -> &mut FarSocket {
        match self {
            FarStream::Plain(socket) => socket,
            FarStream::Tls(stream) => &mut stream.sock,
        }
    }

    /// What a failed read or write means.
    pub fn judge(&mut self, error: &io::Error) -> PassageFault {
        match self.socket().gave_up() {
            Some(GaveUp::NearGone) => return PassageFault::LocalPeerGone,
            Some(GaveUp::Stall) => return PassageFault::Stalled,
            Some(GaveUp::Deadline) => return PassageFault::TooSlow,
            None => {}
        }
        match (tls_error(error), error.kind(), self) {
            (Some(cause), ..) => PassageFault::TlsBroke { cause: for_person(cause) },
            (None, ErrorKind::UnexpectedEof, FarStream::Tls(_)) => PassageFault::CutWithoutCloseNotify,
            _ => PassageFault::Reset,
        }
    }

    /// Says goodbye as far as that goes without waiting.
    pub fn leave(mut self) {
        if let FarStream::Tls(stream) = &mut self {
            stream.conn.send_close_notify();
            stream.sock.set_deadline(crate::ground::clock::Deadline::after(Duration::from_millis(5)));
            let _ = stream.conn.write_tls(&mut stream.sock);
        }
    }
}

impl Read for FarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            FarStream::Plain(socket) => socket.read(buffer),
            FarStream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for FarStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            FarStream::Plain(socket) => socket.write(bytes),
            FarStream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            FarStream::Plain(socket) => socket.flush(),
            FarStream::Tls(stream) => stream.flush(),
        }
    }
}

/// rustls asks this for the time.
struct WallTime(SharedClock);

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        let wall_ms = u64::try_from(self.0.wall_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(wall_ms)))
    }
}

fn extra_roots(pem: Option<&[u8]>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("no certificate in it (PEM is expected)".into()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("its PEM cannot be read: {error}")),
    }
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
        Host::Address(IpAddr::V4(address)) => Some(ServerName::IpAddress((*address).into())),
        Host::Address(IpAddr::V6(address)) => Some(ServerName::IpAddress((*address).into())),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn judge_io(error: &io::Error) -> TlsFault {
    match (tls_error(error), error.kind()) {
        (Some(cause), _) => judge(cause),
        (
            None,
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected,
        ) => TlsFault::Cut,
        (None, _) => TlsFault::Other(error.to_string()),
    }
}

fn judge(error: &rustls::Error) -> TlsFault {
    match error {
        rustls::Error::InvalidCertificate(why) => judge_certificate(why),
        rustls::Error::InvalidMessage(_) => TlsFault::NotTls,
        other => TlsFault::Other(for_person(other)),
    }
}

fn judge_certificate(why: &CertificateError) -> TlsFault {
    match why {
        CertificateError::NotValidYetContext { time, not_before } => {
            TlsFault::NotYetValid { now: stamp(*time), not_before: stamp(*not_before) }
        }
        CertificateError::ExpiredContext { time, not_after } => {
            TlsFault::Expired { now: stamp(*time), not_after: stamp(*not_after) }
        }
        // A signature that does not fit comes from another root under a trusted one's name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        other => TlsFault::Other(escape::for_log(&other.to_string(), CAUSE_LENGTH_MAX)),
    }
}

fn for_person(error: &rustls::Error) -> String {
    escape::for_log(&error.to_string(), CAUSE_LENGTH_MAX)
}

fn stamp(time: UnixTime) -> String {
    rfc3339_utc(i64::try_from(time.as_secs().saturating_mul(1000)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::SystemClock;

    #[test]
    fn extra_roots_must_be_certificates() {
        let key = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
        let good = key.cert.pem();
        assert!(TlsRoom::new(None, SystemClock::shared()).is_ok());
        assert!(TlsRoom::new(Some(good.as_bytes()), SystemClock::shared()).is_ok());
        let twice = format!("comment\n{good}{good}");
        assert_eq!(extra_roots(Some(twice.as_bytes())).unwrap().len(), 2);
        for bad in [
            "",
            "not pem",
            &good[..good.len() / 2],
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(TlsRoom::new(Some(bad.as_bytes()), SystemClock::shared()).is_err(), "{bad:?}");
        }
    }
}
