//! The faults: a server for each, on loopback, that takes one caller.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What goes wrong, and what the door has to say of it.
pub struct Fault {
    pub name: &'static str,
    pub expected: &'static str,
    scene: Scene,
}

enum Scene {
    /// Nobody listens.
    NobodyThere,
    /// Connections are taken by the kernel and nothing is ever said; by the scheme that is called.
    Mute(&'static str),
    /// Something that is not TLS answers where TLS is expected.
    NotTls,
    /// TLS with this certificate, and an answer that is good.
    Certificate(Certificate),
    /// Plain HTTP: what is said to a request, and how it ends.
    Plain(fn(&mut TcpStream)),
    /// The same over TLS.
    Tls(fn(&mut TlsStream)),
}

#[derive(Clone, Copy)]
enum Certificate {
    NotYetValid,
    Expired,
    OtherName,
    OtherIssuer,
    FalseIssuer,
}

type TlsStream = StreamOwned<ServerConnection, TcpStream>;
type Root = CertifiedIssuer<'static, KeyPair>;

const TRUSTED_NAME: &str = "a root that is trusted";

/// A root certificate that all three trust, and where it lies.
pub struct Place {
    pub root_pem: Vec<u8>,
    pub root_file: PathBuf,
    root: Root,
    _folder: tempfile::TempDir,
}

pub fn faults() -> Vec<Fault> {
    let fault = |name, expected, scene| Fault { name, expected, scene };
    vec![
        fault("nobody listens", "connect_refused", Scene::NobodyThere),
        fault("says nothing in the TLS handshake", "tls_time_limit", Scene::Mute("https")),
        fault("speaks no TLS", "tls_not_tls", Scene::NotTls),
        fault("certificate of the future", "tls_not_yet_valid", Scene::Certificate(Certificate::NotYetValid)),
        fault("certificate has expired", "tls_expired", Scene::Certificate(Certificate::Expired)),
        fault("certificate for another name", "tls_wrong_name", Scene::Certificate(Certificate::OtherName)),
        fault(
            "certificate of an unknown issuer",
            "tls_unknown_issuer",
            Scene::Certificate(Certificate::OtherIssuer),
        ),
        fault(
            "certificate of a false issuer",
            "tls_unknown_issuer",
            Scene::Certificate(Certificate::FalseIssuer),
        ),
        fault("takes the request and says nothing", "first_byte_time_limit", Scene::Mute("http")),
        fault("falls silent in the middle", "stalled", Scene::Plain(falls_silent)),
        fault("a byte now and then (allowed)", "200, 16 bytes", Scene::Plain(trickles)),
        fault("ends before its Content-Length", "cut_short", Scene::Plain(ends_early)),
        fault("chunked without an end", "cut_short", Scene::Plain(chunks_without_end)),
        fault("no length, TLS cut without close_notify", "cut_without_close_notify", Scene::Tls(cut_in_tls)),
        fault("ends without an answer", "no_answer", Scene::Plain(|_| ())),
        fault("reset in the middle", "reset", Scene::Plain(resets)),
        fault("two lengths that differ", "garbage", Scene::Plain(two_lengths)),
        fault("no HTTP", "garbage", Scene::Plain(babbles)),
        fault("a head without end", "head_too_long", Scene::Plain(endless_head)),
        fault("a body without end", "too_much", Scene::Plain(endless_body)),
    ]
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let root = new_root(TRUSTED_NAME);
        let root_pem = root.pem().into_bytes();
        let root_file = folder.path().join("root.pem");
        std::fs::write(&root_file, &root_pem).unwrap();
        Place { root_pem, root_file, root, _folder: folder }
    }

    /// Sets the scene for one caller; where it is to be found.
    pub fn stage(&self, fault: &Fault) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = match fault.scene {
            Scene::NobodyThere => return format!("http://{address}/"),
            Scene::Mute(scheme) => {
                std::thread::spawn(move || keep_mute(&listener));
                scheme
            }
            Scene::NotTls => {
                serve(listener, |mut stream| drop(stream.write_all(b"220 mail.example ESMTP\r\n")));
                "https"
            }
            Scene::Plain(act) => {
                serve(listener, move |mut stream| {
                    read_request(&mut stream);
                    act(&mut stream);
                });
                "http"
            }
            Scene::Certificate(kind) => {
                let root = match kind {
                    Certificate::OtherIssuer => &new_root("a root that nobody trusts"),
                    Certificate::FalseIssuer => &new_root(TRUSTED_NAME),
                    _ => &self.root,
                };
                serve_tls(listener, server_config(root, Some(kind)), answers_well);
                "https"
            }
            Scene::Tls(act) => {
                serve_tls(listener, server_config(&self.root, None), act);
                "https"
            }
        };
        format!("{scheme}://{address}/")
    }
}

fn new_root(name: &str) -> Root {
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.distinguished_name.push(DnType::CommonName, name);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (root.not_before, root.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2150, 1, 1));
    CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap()
}

fn server_config(issuer: &Root, flaw: Option<Certificate>) -> Arc<ServerConfig> {
    let name = if matches!(flaw, Some(Certificate::OtherName)) { "api.example" } else { "127.0.0.1" };
    let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
    (leaf.not_before, leaf.not_after) = match flaw {
        Some(Certificate::NotYetValid) => (date_time_ymd(2140, 1, 1), date_time_ymd(2141, 1, 1)),
        Some(Certificate::Expired) => (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1)),
        _ => (date_time_ymd(2001, 1, 1), date_time_ymd(2141, 1, 1)),
    };
    leaf.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let chain = vec![leaf.signed_by(&key, issuer).unwrap().der().clone()];
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    Arc::new(config)
}

fn serve(listener: TcpListener, act: impl Fn(TcpStream) + Send + 'static) {
    std::thread::spawn(move || act(listener.accept().unwrap().0));
}

fn serve_tls(listener: TcpListener, config: Arc<ServerConfig>, act: fn(&mut TlsStream)) {
    serve(listener, move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        if stream.conn.complete_io(&mut stream.sock).is_ok() {
            read_request(&mut stream);
            act(&mut stream);
        }
    });
}

/// Keeps the listener until its caller has left.
fn keep_mute(listener: &TcpListener) {
    wait_for_end(&mut listener.accept().unwrap().0);
}

fn read_request(stream: &mut impl Read) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
}

fn wait_for_end(stream: &mut impl Read) {
    while matches!(stream.read(&mut [0; 256]), Ok(read) if read > 0) {}
}

/// Callers leave when they have had enough; what is said to them then is nobody's concern.
fn say(stream: &mut impl Write, bytes: &[u8]) -> bool {
    stream.write_all(bytes).and_then(|()| stream.flush()).is_ok()
}

fn answers_well(stream: &mut TlsStream) {
    say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

fn falls_silent(stream: &mut TcpStream) {
    say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello");
    wait_for_end(stream);
}

/// A byte in a quarter of a second: slower than any limit on the average would have it, never silent for long.
fn trickles(stream: &mut TcpStream) {
    say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n");
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(250));
        say(stream, b"x");
    }
}

fn ends_early(stream: &mut TcpStream) {
    say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello");
}

fn chunks_without_end(stream: &mut TcpStream) {
    say(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
}

fn cut_in_tls(stream: &mut TlsStream) {
    say(stream, b"HTTP/1.1 200 OK\r\n\r\nhello");
}

fn resets(stream: &mut TcpStream) {
    say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello");
    socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn two_lengths(stream: &mut TcpStream) {
    say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 500\r\n\r\nhello");
}

fn babbles(stream: &mut TcpStream) {
    say(stream, b"hello, what can I do for you?\r\n\r\n");
}

fn endless_head(stream: &mut TcpStream) {
    if say(stream, b"HTTP/1.1 200 OK\r\n") {
        while say(stream, b"X-More: and more and more and more and more\r\n") {}
    }
}

fn endless_body(stream: &mut TcpStream) {
    if say(stream, b"HTTP/1.1 200 OK\r\n\r\n") {
        while say(stream, &[b'x'; 4096]) {}
    }
}
