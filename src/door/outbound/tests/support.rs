//! Servers that behave as told, and requesters, for the door's tests. Only loopback addresses.

use crate::door::outbound::{Origin, OutboundDoor, OutboundOptions, Passage, PassageReport, Resolver};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// For what must succeed, also on a busy machine.
pub const GENEROUS: Duration = Duration::from_secs(60);
/// For what must fail.
pub const TIGHT: Duration = Duration::from_millis(80);

/// A server thread that takes a fixed number of connections, one after the other.
pub struct Server {
    pub address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Server {
    /// Takes `connections` connections and does `act` with each (its number first).
    pub fn start(connections: usize, act: impl Fn(usize, TcpStream) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            for number in 0..connections {
                act(number, listener.accept().unwrap().0);
            }
        });
        Server { address, thread }
    }

    /// Takes one connection, reads a request and answers with `answer`.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Server {
        let answer = answer.into();
        Server::start(1, move |_, mut stream| {
            read_request(&mut stream);
            stream.write_all(&answer).unwrap();
        })
    }

    pub fn origin(&self) -> Origin {
        Origin::parse(&format!("http://{}", self.address)).unwrap()
    }

    /// Waits for the end of its work; fails where it failed.
    pub fn join(self) {
        self.thread.join().unwrap();
    }
}

/// A request as it came: head and body.
pub fn read_request(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Blocks until the other side has ended or broken the connection.
pub fn wait_for_end(stream: &mut impl Read) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
}

/// Ends a connection with a reset instead of an orderly end.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A door to `origin` alone.
pub fn door_to(origin: &Origin) -> OutboundDoor {
    door_with(origin, |_| ())
}

/// A door to `origin` alone, with other options.
pub fn door_with(origin: &Origin, change: impl FnOnce(&mut OutboundOptions)) -> OutboundDoor {
    let mut options = OutboundOptions::to(vec![origin.clone()]);
    let limits = &mut options.limits;
    for limit in [
        &mut limits.local_within,
        &mut limits.resolve_within,
        &mut limits.connect_within,
        &mut limits.tls_within,
        &mut limits.first_byte_within,
        &mut limits.stall,
    ] {
        *limit = GENEROUS;
    }
    change(&mut options);
    OutboundDoor::open(options).unwrap()
}

/// What minreq made of an answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Sends `request` through `passage` as the wechat room does.
pub fn send(passage: &Passage, request: minreq::Request) -> Result<Answer, minreq::Error> {
    let (name, secret) = passage.header();
    let mut response = request
        .with_header(name, secret)
        .with_follow_redirects(false)
        .with_max_headers_size(super::super::requester_headers_size(64 * 1024))
        .with_timeout(GENEROUS.as_secs())
        .send_lazy()?;
    let mut body = Vec::new();
    response.read_to_end(&mut body).map_err(minreq::Error::IoError)?;
    Ok(Answer { status: response.status_code, headers: response.headers.clone(), body })
}

/// A GET through a new passage.
pub fn get(door: &OutboundDoor, origin: &Origin) -> (Result<Answer, minreq::Error>, PassageReport) {
    let passage = door.passage(origin).unwrap();
    let answer = send(&passage, minreq::get(format!("{}/path?a=b", passage.base_url())));
    (answer, passage.finish())
}

/// A GET that must end with a fault.
pub fn get_fault(door: &OutboundDoor, origin: &Origin) -> PassageReport {
    let (_, report) = get(door, origin);
    assert!(report.fault.is_some(), "{report:?}");
    report
}

/// A connection to the passage's near end, for what minreq cannot do.
pub fn connect(passage: &Passage) -> TcpStream {
    TcpStream::connect(passage.base_url().strip_prefix("http://").unwrap()).unwrap()
}

/// A connection that has sent a good GET.
pub fn connect_and_get(passage: &Passage) -> TcpStream {
    let mut stream = connect(passage);
    let (name, secret) = passage.header();
    write!(stream, "GET /path HTTP/1.1\r\nHost: x\r\n{name}: {secret}\r\n\r\n").unwrap();
    stream
}

/// Every name leads to these addresses.
pub struct AllTo(pub Vec<IpAddr>);

impl AllTo {
    pub fn this_machine() -> Arc<AllTo> {
        Arc::new(AllTo(vec![Ipv4Addr::LOCALHOST.into()]))
    }
}

impl Resolver for AllTo {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.clone())
    }
}
