//! The closed set of reasons why a passage did not bring a whole answer home. A person who reads one knows where
//! the way was broken (name, connection, proxy, TLS, answer, this machine) and what to look at.
//!
//! Nothing that came over the wire is quoted here except host names, addresses and status codes: an answer may
//! repeat a token.

use std::fmt::Write;
use std::net::SocketAddr;
use thiserror::Error;

/// Why a passage did not bring a whole answer home.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PassageFault {
    /// The origin is not one of the door's.
    #[error("could not open a passage to {origin}: it is not one of the allowed origins")]
    NotAllowed {
        /// Where the passage should have led.
        origin: String,
    },
    /// The door was closed, before or meanwhile.
    #[error("could not finish the passage: the outbound door was closed")]
    DoorClosed,
    /// The request that came in on the near side cannot be sent on.
    #[error("could not send the request on: {why}")]
    BadRequest {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody came to use the passage.
    #[error("could not use the passage: no request came within the time limit for it")]
    LocalPeerMissing,
    /// The near side left before the answer was through. No network fault.
    #[error("could not hand the answer on: the requester left first")]
    LocalPeerGone,
    /// The near side took no byte for too long. No network fault.
    #[error("could not hand the answer on: the requester did not read it within the time limit")]
    LocalStalled,
    /// A socket or thread of this machine failed.
    #[error("could not {action}: {cause}")]
    LocalSocket {
        /// What was being done.
        action: &'static str,
        /// What the operating system said.
        cause: String,
    },
    /// The host has no address.
    #[error("could not resolve {host}: {why}")]
    Resolve {
        /// The name.
        host: String,
        /// What went wrong.
        why: ResolveFault,
    },
    /// No address of the host took the connection.
    #[error("could not connect to {target}: {why}{}", list_attempts(.tried))]
    Connect {
        /// Host and port.
        target: String,
        /// What went wrong, over all addresses.
        why: ConnectFault,
        /// Every address that was tried, and how it ended.
        tried: Vec<(SocketAddr, ConnectFault)>,
    },
    /// The proxy did not open a tunnel.
    #[error("could not pass the proxy {proxy}: {why}")]
    Proxy {
        /// The proxy's address as configured.
        proxy: String,
        /// What went wrong.
        why: ProxyFault,
    },
    /// No trusted TLS connection came about.
    #[error("could not speak TLS with {host}: {why}")]
    Tls {
        /// The name that the certificate had to be for.
        host: String,
        /// What went wrong.
        why: TlsFault,
    },
    /// The TLS connection broke after its handshake.
    #[error("could not read the answer: TLS failed: {cause}")]
    TlsBroke {
        /// What was wrong.
        cause: String,
    },
    /// The request was sent and no byte came back in time.
    #[error("could not read the answer: no first byte within the time limit")]
    FirstByteTimeLimit,
    /// The connection fell silent.
    #[error("could not go on: no byte passed to or from the server within the time limit")]
    Stalled,
    /// The connection was reset or broke otherwise.
    #[error("could not go on: the connection to the server broke")]
    Reset,
    /// The server ended the connection without answering.
    #[error("could not read the answer: the server ended the connection without one")]
    NoAnswer,
    /// The answer ended before the length that it announced.
    #[error("could not read the whole answer: the server ended the connection in the middle of it")]
    CutShort,
    /// TLS ended without its end sign, so the answer may be short.
    #[error("could not read the whole answer: TLS ended without close_notify, so that it may be short")]
    CutWithoutCloseNotify,
    /// The answer is longer than allowed.
    #[error("could not take the answer: it is longer than {bytes_max} bytes")]
    TooMuch {
        /// The bound.
        bytes_max: u64,
    },
    /// The whole took too long.
    #[error("could not finish the passage: it took longer than the time limit for the whole")]
    TooSlow,
    /// The answer's head is longer than allowed, as a whole or in one line.
    #[error("could not take the answer: its head is too long")]
    HeadTooLong,
    /// What came is no HTTP answer.
    #[error("could not take the answer: it is not HTTP ({why})")]
    Garbage {
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why a name gave no address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveFault {
    /// The name does not exist or has no address.
    #[error("no such name (is it written correctly?)")]
    NoSuchName,
    /// The resolver gave up: it reached no name server, or none that knew.
    #[error("no name server could answer (is the network up?)")]
    NoNameServer,
    /// No answer in time.
    #[error("no answer from the name server within the time limit")]
    TimeLimit,
    /// Too many look-ups hang already.
    #[error("too many look-ups hang already")]
    TooMany,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why an address took no connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectFault {
    /// Nobody listens there.
    #[error("refused")]
    Refused,
    /// No way to that address.
    #[error("unreachable")]
    Unreachable,
    /// No answer in time.
    #[error("no answer within the time limit")]
    TimeLimit,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why the proxy opened no tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProxyFault {
    /// The proxy's name gave no address.
    #[error("its name was not resolved: {0}")]
    Resolve(ResolveFault),
    /// The proxy took no connection.
    #[error("no connection to it: {0}")]
    Connect(ConnectFault),
    /// The proxy answered, and not with 2xx.
    #[error("it answered CONNECT with status {0}")]
    Status(u16),
    /// The proxy did not answer in time.
    #[error("no answer to CONNECT within the time limit")]
    TimeLimit,
    /// The proxy ended the connection.
    #[error("it ended the connection")]
    Cut,
    /// The proxy's answer is no HTTP, or far too long.
    #[error("its answer is not HTTP")]
    Garbage,
}

/// Why no trusted TLS connection came about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsFault {
    /// The certificate lies in the future; nearly always the clock of this machine lies in the past.
    #[error(
        "its certificate is valid from {not_before} on, and this machine believes that it is {now}; \
         set the clock of this machine"
    )]
    NotYetValid {
        /// This machine's wall clock, RFC 3339.
        now: String,
        /// Start of the certificate's life, RFC 3339.
        not_before: String,
    },
    /// The certificate's life is over, or this machine's clock is ahead.
    #[error("its certificate expired on {not_after}, and this machine believes that it is {now}")]
    Expired {
        /// This machine's wall clock, RFC 3339.
        now: String,
        /// End of the certificate's life, RFC 3339.
        not_after: String,
    },
    /// Nobody whom we trust signed the certificate.
    #[error(
        "its certificate is signed by nobody known; a proxy that opens TLS needs its root certificate in ca_file"
    )]
    UnknownIssuer,
    /// The certificate is for another name.
    #[error("its certificate is for another name")]
    WrongName,
    /// The other side does not speak TLS.
    #[error("the other side does not speak TLS (a captive portal, or a wrong port?)")]
    NotTls,
    /// The handshake did not end in time.
    #[error("the handshake did not end within the time limit")]
    TimeLimit,
    /// The other side ended or reset the connection during the handshake.
    #[error("the other side ended the connection during the handshake")]
    Cut,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl PassageFault {
    /// A short name for counters and for the wechat room's table of what to do.
    pub fn kind(&self) -> &'static str {
        match self {
            PassageFault::NotAllowed { .. } => "not_allowed",
            PassageFault::DoorClosed => "door_closed",
            PassageFault::BadRequest { .. } => "bad_request",
            PassageFault::LocalPeerMissing => "local_peer_missing",
            PassageFault::LocalPeerGone => "local_peer_gone",
            PassageFault::LocalStalled => "local_stalled",
            PassageFault::LocalSocket { .. } => "local_socket",
            PassageFault::Resolve { why, .. } => why.kind(),
            PassageFault::Connect { why, .. } => why.kind(),
            PassageFault::Proxy { .. } => "proxy",
            PassageFault::Tls { why, .. } => why.kind(),
            PassageFault::TlsBroke { .. } => "tls_broke",
            PassageFault::FirstByteTimeLimit => "first_byte_time_limit",
            PassageFault::Stalled => "stalled",
            PassageFault::Reset => "reset",
            PassageFault::NoAnswer => "no_answer",
            PassageFault::CutShort => "cut_short",
            PassageFault::CutWithoutCloseNotify => "cut_without_close_notify",
            PassageFault::TooMuch { .. } => "too_much",
            PassageFault::TooSlow => "too_slow",
            PassageFault::HeadTooLong => "head_too_long",
            PassageFault::Garbage { .. } => "garbage",
        }
    }

    /// Whether nothing was ever exchanged with the origin: name, connection, proxy or TLS failed. The same
    /// request may safely go to another origin.
    pub fn is_connection_failure(&self) -> bool {
        matches!(
            self,
            PassageFault::Resolve { .. }
                | PassageFault::Connect { .. }
                | PassageFault::Proxy { .. }
                | PassageFault::Tls { .. }
        )
    }

    /// Whether the cause lies on this machine and tells nothing about network or server.
    pub fn is_local(&self) -> bool {
        matches!(
            self,
            PassageFault::NotAllowed { .. }
                | PassageFault::DoorClosed
                | PassageFault::BadRequest { .. }
                | PassageFault::LocalPeerMissing
                | PassageFault::LocalPeerGone
                | PassageFault::LocalStalled
                | PassageFault::LocalSocket { .. }
        )
    }
}

impl ResolveFault {
    fn kind(&self) -> &'static str {
        match self {
            ResolveFault::NoSuchName => "resolve_no_such_name",
            ResolveFault::NoNameServer => "resolve_no_name_server",
            ResolveFault::TimeLimit => "resolve_time_limit",
            ResolveFault::TooMany => "resolve_too_many",
            ResolveFault::Other(_) => "resolve_other",
        }
    }
}

impl ConnectFault {
    fn kind(&self) -> &'static str {
        match self {
            ConnectFault::Refused => "connect_refused",
            ConnectFault::Unreachable => "connect_unreachable",
            ConnectFault::TimeLimit => "connect_time_limit",
            ConnectFault::Other(_) => "connect_other",
        }
    }
}

impl TlsFault {
    fn kind(&self) -> &'static str {
        match self {
            TlsFault::NotYetValid { .. } => "tls_not_yet_valid",
            TlsFault::Expired { .. } => "tls_expired",
            TlsFault::UnknownIssuer => "tls_unknown_issuer",
            TlsFault::WrongName => "tls_wrong_name",
            TlsFault::NotTls => "tls_not_tls",
            TlsFault::TimeLimit => "tls_time_limit",
            TlsFault::Cut => "tls_cut",
            TlsFault::Other(_) => "tls_other",
        }
    }
}

fn list_attempts(tried: &[(SocketAddr, ConnectFault)]) -> String {
    let mut list = String::new();
    for (index, (address, why)) in tried.iter().enumerate() {
        let lead = if index == 0 { " (tried " } else { "; " };
        let _ = write!(list, "{lead}{address}: {why}");
    }
    if !tried.is_empty() {
        list.push(')');
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_where_and_why() {
        let fault = PassageFault::Connect {
            target: "api.weixin.qq.com:443".into(),
            why: ConnectFault::TimeLimit,
            tried: vec![
                ("127.0.0.1:443".parse().unwrap(), ConnectFault::Refused),
                ("[::1]:443".parse().unwrap(), ConnectFault::TimeLimit),
            ],
        };
        assert_eq!(
            fault.to_string(),
            "could not connect to api.weixin.qq.com:443: no answer within the time limit \
             (tried 127.0.0.1:443: refused; [::1]:443: no answer within the time limit)"
        );
        assert_eq!(fault.kind(), "connect_time_limit");
        assert!(fault.is_connection_failure() && !fault.is_local());
        assert!(!PassageFault::Stalled.is_connection_failure());
        assert!(PassageFault::LocalPeerGone.is_local());
    }
}
