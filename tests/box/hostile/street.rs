//! The street before the door: many clients with addresses of their own (Linux gives loopback all of
//! 127.0.0.0/8), one ordinary visitor, and a look at what the server costs meanwhile.

use crate::program::PATIENCE;
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// How long a server may take for an answer that is due at once.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// What is asked of a loaded machine; the figures that are printed say how long it really took.
pub const SERVED_WITHIN: Duration = Duration::from_secs(5);

/// The ordinary visitor's address.
const VISITOR: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);

/// Clients that behave as if they had one address.
const CLIENTS_PER_ADDRESS: usize = 60;

/// A server and the ways to it.
#[derive(Clone)]
pub struct Street {
    pub server: SocketAddr,
    /// The server's process; its children count too.
    pub process: u32,
    /// What the ordinary visitor asks for.
    pub page: String,
    /// The largest answer that strangers can have.
    pub large: String,
    /// Header lines that it takes to get it.
    pub pass: String,
    /// How long anybody waits for an answer.
    pub patience: Duration,
}

/// What a server costs at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    pub resident_kib: u64,
    pub descriptors: usize,
    pub threads: usize,
}

/// Threads and descriptors that come and go by themselves: sled's and tiny_http's idle threads, a call to WeChat.
const OWN_THREADS: usize = 16;
const OWN_DESCRIPTORS: usize = 6;

impl Vitals {
    /// Whether descriptors are down to those of `first`.
    pub fn has_let_go(self, first: Vitals) -> bool {
        self.descriptors <= first.descriptors + OWN_DESCRIPTORS
    }

    /// Whether descriptors and threads are down to those of `first`.
    pub fn is_as_small_as(self, first: Vitals) -> bool {
        self.has_let_go(first) && self.threads <= first.threads + OWN_THREADS
    }
}

impl Street {
    /// A connection from client number `client`; sixty of them share an address.
    pub fn connect(&self, client: usize) -> TcpStream {
        self.connect_with(client, None)
    }

    /// A connection whose socket takes hardly anything until it is read.
    pub fn connect_with_little_room(&self, client: usize) -> TcpStream {
        self.connect_with(client, Some(2048))
    }

    fn connect_with(&self, client: usize, room: Option<usize>) -> TcpStream {
        let address = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(client / CLIENTS_PER_ADDRESS).unwrap());
        let mut tries = (0..5).map(|_| self.connect_from(address, room));
        let stream = tries.find(|tried| !tried.as_ref().is_err_and(is_a_matter_of_time));
        stream.expect("a connection within five tries").expect("a server that takes connections")
    }

    fn connect_from(&self, address: Ipv4Addr, room: Option<usize>) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(address, 0).into())?;
        if let Some(room) = room {
            socket.set_recv_buffer_size(room)?;
        }
        socket.connect_timeout(&self.server.into(), self.patience)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        Ok(stream)
    }

    /// Sends `bytes` and tells what came back; see [`statuses`].
    pub fn exchange(&self, client: usize, bytes: &[u8]) -> String {
        let mut stream = self.connect(client);
        // A server may refuse before it has taken everything.
        let _ = stream.write_all(bytes);
        statuses(&mut stream)
    }

    /// An ordinary visitor: how long it takes until they have the page, however often they have to ask; `None`
    /// when they give up.
    pub fn time_a_visit(&self) -> Option<Duration> {
        let started = Instant::now();
        loop {
            let is_served = self.visit();
            let waited = started.elapsed();
            match (is_served, waited < SERVED_WITHIN) {
                (true, true) => return Some(waited),
                (_, false) => return None,
                (false, true) => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
    }

    fn visit(&self) -> bool {
        let Ok(mut stream) = self.connect_from(VISITOR, None) else { return false };
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", self.page);
        let mut answer = Vec::new();
        let came = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
        came.is_ok() && answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"</html>\n")
    }

    /// What the server costs now.
    pub fn vitals(&self) -> Vitals {
        let children = format!("/proc/{0}/task/{0}/children", self.process);
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().map(|number| number.parse().unwrap());
        children.map(vitals_of).fold(vitals_of(self.process), |all, one| Vitals {
            resident_kib: all.resident_kib + one.resident_kib,
            descriptors: all.descriptors + one.descriptors,
            threads: all.threads + one.threads,
        })
    }

    /// Waits until descriptors and threads are down to those of `first`.
    pub fn wait_until_small(&self, first: Vitals) {
        let now = self.wait_until(PATIENCE, |now| now.is_as_small_as(first));
        assert!(now.is_as_small_as(first), "{now:?} after {first:?}");
    }

    /// Waits until the server `is_small` again; how it ended.
    pub fn wait_until(&self, within: Duration, is_small: impl Fn(Vitals) -> bool) -> Vitals {
        let started = Instant::now();
        loop {
            let now = self.vitals();
            if is_small(now) || started.elapsed() > within {
                return now;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// A full queue outside, or a reset that came before the connection was looked at.
fn is_a_matter_of_time(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionReset)
}

fn vitals_of(process: u32) -> Vitals {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    Vitals {
        resident_kib: number("VmRSS:"),
        threads: number("Threads:") as usize,
        descriptors: std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count),
    }
}

/// Makes room for a crowd's sockets in this process.
pub fn make_room_for_a_crowd() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(8192, |maximum| maximum.min(8192));
    if limit.current.is_some_and(|now| now < current) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum }).unwrap();
    }
}

/// Makes the end of `stream` a reset.
pub fn end_with_reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads to the end; the statuses of all answers (`400`, `200 400`), then `+open` when the server did not close
/// and `+reset` when it reset. Nothing at all is `silence`.
pub fn statuses(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let end = match stream.read_to_end(&mut text) {
        Ok(_) => "",
        Err(error) if error.kind() == ErrorKind::WouldBlock => "+open",
        Err(_) => "+reset",
    };
    let text = String::from_utf8_lossy(&text);
    let lines = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12));
    let codes: Vec<&str> = lines.filter(|code| code.bytes().all(|byte| byte.is_ascii_digit())).collect();
    let codes = if codes.is_empty() { "silence".to_owned() } else { codes.join(" ") };
    codes + end
}

/// How often each text came.
pub fn counted(texts: impl IntoIterator<Item = String>) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let one = |(text, count): (String, usize)| if count == 1 { text } else { format!("{count} x {text}") };
    counts.into_iter().map(one).collect::<Vec<_>>().join(", ")
}
