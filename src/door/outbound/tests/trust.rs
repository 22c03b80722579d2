//! TLS: whom the door trusts, and how it tells why it does not.

use super::support::*;
use crate::door::outbound::{
    Origin, OutboundDoor, OutboundOptions, PassageFault, ProxyAddress, TlsFault, TlsSession,
};
use crate::ground::clock::TestClock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};

/// 2026-07-01, in the middle of the test certificates' life.
const NOW_MS: i64 = 1_782_864_000_000;
const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// A root of our own and a server certificate for `api.example` and 127.0.0.1, valid in 2026.
struct Trust {
    root_pem: Vec<u8>,
    server: Arc<ServerConfig>,
}

fn trust() -> Trust {
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (root.not_before, root.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2060, 1, 1));
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let names = ["api.example".to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = CertificateParams::new(names).unwrap();
    (leaf.not_before, leaf.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
    let key = KeyPair::generate().unwrap();
    let chain = vec![leaf.signed_by(&key, &root).unwrap().der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Trust { root_pem: root.pem().into_bytes(), server: Arc::new(server) }
}

type TlsStream = StreamOwned<ServerConnection, TcpStream>;

impl Trust {
    /// A TLS server that takes `connections` and does `act` with each after its handshake.
    fn serve(&self, connections: usize, act: impl Fn(TlsStream) + Send + 'static) -> Server {
        let config = self.server.clone();
        Server::start(connections, move |_, stream| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            if stream.conn.complete_io(&mut stream.sock).is_ok() {
                act(stream);
            }
        })
    }

    fn answering(&self, connections: usize) -> Server {
        self.serve(connections, |mut stream| {
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nsecret answer").unwrap();
            goodbye(&mut stream);
        })
    }

    fn door(&self, origin: &Origin, wall_ms: i64, change: impl FnOnce(&mut OutboundOptions)) -> OutboundDoor {
        door_with(origin, |options| {
            options.extra_roots_pem = Some(self.root_pem.clone());
            options.clock = TestClock::at(wall_ms);
            options.resolver = Some(AllTo::this_machine());
            change(options);
        })
    }
}

fn goodbye(stream: &mut TlsStream) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
}

fn https(name: &str, server: &Server) -> Origin {
    Origin::parse(&format!("https://{name}:{}", server.address.port())).unwrap()
}

fn tls_fault(door: &OutboundDoor, origin: &Origin) -> TlsFault {
    match get_fault(door, origin).fault {
        Some(PassageFault::Tls { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trusted_server_is_asked_and_its_session_is_taken_up_again() {
    let trust = trust();
    let server = trust.answering(4);
    let origin = https("api.example", &server);
    let door = trust.door(&origin, NOW_MS, |_| ());
    for round in 0..4 {
        let (answer, report) = get(&door, &origin);
        assert_eq!(report.fault, None);
        assert_eq!(answer.unwrap().body, b"secret answer");
        assert_eq!(report.tls, Some(if round == 0 { TlsSession::Full } else { TlsSession::Resumed }));
    }
    let counters = door.counters();
    assert_eq!((counters.tls_full, counters.tls_resumed), (1, 3));
    server.join();
}

#[test]
fn an_address_can_stand_in_a_certificate() {
    let trust = trust();
    let server = trust.answering(1);
    let origin = https("127.0.0.1", &server);
    assert_eq!(get(&trust.door(&origin, NOW_MS, |_| ()), &origin).1.fault, None);
    server.join();
}

#[test]
fn reasons_not_to_trust_are_told_apart() {
    let trust = trust();
    let server = trust.answering(4);
    let origin = https("api.example", &server);
    let why = tls_fault(&trust.door(&origin, NOW_MS - 10 * YEAR_MS, |_| ()), &origin);
    let TlsFault::NotYetValid { now, not_before } = &why else { panic!("{why:?}") };
    assert!(now.starts_with("2016-07") && not_before.starts_with("2026-01-01"), "{why}");
    assert!(why.to_string().contains("set the clock of this machine"));
    let why = tls_fault(&trust.door(&origin, NOW_MS + YEAR_MS, |_| ()), &origin);
    let TlsFault::Expired { not_after, .. } = &why else { panic!("{why:?}") };
    assert!(not_after.starts_with("2027-01-01"), "{why}");
    let webpki_roots_only = trust.door(&origin, NOW_MS, |options| options.extra_roots_pem = None);
    assert_eq!(tls_fault(&webpki_roots_only, &origin), TlsFault::UnknownIssuer);
    let other_name = https("other.example", &server);
    assert_eq!(tls_fault(&trust.door(&other_name, NOW_MS, |_| ()), &other_name), TlsFault::WrongName);
    server.join();
}

#[test]
fn who_does_not_speak_tls_is_told_apart_from_who_says_nothing() {
    let trust = trust();
    let portal = Server::start(1, |_, mut stream| {
        let _ = stream.read(&mut [0; 100]);
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n").unwrap();
        wait_for_end(&mut stream);
    });
    let origin = https("api.example", &portal);
    assert_eq!(tls_fault(&trust.door(&origin, NOW_MS, |_| ()), &origin), TlsFault::NotTls);
    portal.join();
    let closing = Server::start(1, |_, mut stream| drop(stream.read(&mut [0; 100])));
    let origin = https("api.example", &closing);
    assert_eq!(tls_fault(&trust.door(&origin, NOW_MS, |_| ()), &origin), TlsFault::Cut);
    closing.join();
    let mute = Server::start(1, |_, mut stream| wait_for_end(&mut stream));
    let origin = https("api.example", &mute);
    let door = trust.door(&origin, NOW_MS, |options| options.limits.tls_within = TIGHT);
    assert_eq!(tls_fault(&door, &origin), TlsFault::TimeLimit);
    mute.join();
}

#[test]
fn a_cut_without_close_notify_is_told() {
    let trust = trust();
    for (answer, fault) in [
        ("", PassageFault::NoAnswer),
        ("HTTP/1.1 200 OK\r\n\r\nhalf a pict", PassageFault::CutWithoutCloseNotify),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", PassageFault::CutWithoutCloseNotify),
    ] {
        let server = trust.serve(1, move |mut stream| {
            read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let origin = https("api.example", &server);
        let report = get_fault(&trust.door(&origin, NOW_MS, |_| ()), &origin);
        assert_eq!(report.fault, Some(fault), "{answer}");
        assert!(!report.fault.unwrap().is_connection_failure());
        server.join();
    }
    let server = trust.serve(1, |mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf").unwrap();
        goodbye(&mut stream);
    });
    let origin = https("api.example", &server);
    let report = get_fault(&trust.door(&origin, NOW_MS, |_| ()), &origin);
    assert_eq!(report.fault, Some(PassageFault::CutShort), "an orderly end in the middle is still short");
    server.join();
}

#[test]
fn an_answer_with_a_length_needs_no_close_notify() {
    let trust = trust();
    let server = trust.serve(1, |mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole").unwrap();
    });
    let origin = https("api.example", &server);
    let (answer, report) = get(&trust.door(&origin, NOW_MS, |_| ()), &origin);
    assert_eq!((&answer.unwrap().body[..], report.fault), (&b"whole"[..], None));
    server.join();
}

#[test]
fn tls_that_breaks_later_is_told() {
    let trust = trust();
    let server = trust.serve(1, |mut stream| {
        read_request(&mut stream);
        stream.sock.write_all(b"this is no TLS record").unwrap();
        wait_for_end(&mut stream.sock);
    });
    let origin = https("api.example", &server);
    let fault = get_fault(&trust.door(&origin, NOW_MS, |_| ()), &origin).fault.unwrap();
    assert_eq!(fault.kind(), "tls_broke");
    server.join();
}

#[test]
fn a_record_that_trickles_does_not_outlive_the_whole() {
    let trust = trust();
    let server = trust.serve(1, |mut stream| {
        read_request(&mut stream);
        let pace = crate::ground::stop::Stop::new();
        // The head of a record of 16 KiB, and then its bytes one by one, each within the stall limit.
        let _ = stream.sock.write_all(&[0x17, 3, 3, 0x40, 0]);
        while stream.sock.write_all(b"x").is_ok() {
            pace.wait(std::time::Duration::from_millis(20));
        }
    });
    let origin = https("api.example", &server);
    let limit =
        |options: &mut OutboundOptions| options.limits.total_within = std::time::Duration::from_secs(1);
    let report = get_fault(&trust.door(&origin, NOW_MS, limit), &origin);
    assert_eq!(report.fault, Some(PassageFault::TooSlow));
    server.join();
}

#[test]
fn a_proxy_opens_a_tunnel_to_the_origin() {
    let trust = trust();
    let (tell, told) = mpsc::channel();
    let config = trust.server.clone();
    let proxy = Server::start(1, move |_, mut stream| {
        tell.send(read_request(&mut stream).0).unwrap();
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        goodbye(&mut stream);
    });
    // Only the proxy knows the way: the name leads nowhere here.
    let origin = Origin::parse("https://api.example").unwrap();
    let door = trust.door(&origin, NOW_MS, |options| {
        options.proxy = Some(ProxyAddress::parse(&format!("http://{}", proxy.address)).unwrap());
        options.resolver = Some(Arc::new(AllTo(Vec::new())));
    });
    let (answer, report) = get(&door, &origin);
    assert_eq!(report.fault, None);
    assert_eq!((answer.unwrap().body, report.peer), (b"ok".to_vec(), Some(proxy.address)));
    assert_eq!(told.recv().unwrap(), "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n");
    proxy.join();
}
