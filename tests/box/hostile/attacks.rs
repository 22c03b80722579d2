//! What hostile and merely broken clients do, as raw bytes and crowds. Nothing here knows what is behind the
//! address, so the same list can be tried on any server.

use super::street::{Street, counted, end_with_reset, statuses};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many make a crowd: more than half of the seats, from five addresses.
const CROWD: usize = 300;

/// More than there are seats.
const THRONG: usize = 600;

/// Far more than there are seats, in any server with its defaults.
const HOST: usize = 2000;

/// One thing that clients do.
pub struct Attack {
    pub name: &'static str,
    pub go: fn(&Street) -> Outcome,
    /// What a strict server answers, as [`counted`] writes it; `None` where that depends on who comes first.
    pub expected: Option<&'static str>,
}

/// What it came to: what was answered, and the connections that are still held.
#[derive(Default)]
pub struct Outcome {
    answered: String,
    held: Vec<TcpStream>,
    hammers: Vec<Hammer>,
}

/// A client that asks without pause until it is dropped.
struct Hammer {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hammer {
    fn start(street: &Street, client: usize) -> Hammer {
        let (street, enough) = (street.clone(), Arc::new(AtomicBool::new(false)));
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", street.page);
        let stop = enough.clone();
        let hammer = move || {
            while !stop.load(Ordering::Relaxed) {
                street.exchange(client, request.as_bytes());
            }
        };
        Hammer { enough, thread: Some(std::thread::spawn(hammer)) }
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking(), "a client panicked");
    }
}

impl Outcome {
    fn answered(answered: String) -> Outcome {
        Outcome { answered, ..Outcome::default() }
    }

    fn holds(held: Vec<TcpStream>) -> Outcome {
        Outcome { held, ..Outcome::default() }
    }

    /// What was answered; of a crowd, how many still wait and how many have heard something or were cut.
    pub fn tell(&self) -> String {
        let quiet = self.held.iter().filter(|stream| is_quiet(stream)).count();
        match (self.answered.as_str(), self.held.len()) {
            _ if !self.hammers.is_empty() => format!("{} go on", self.hammers.len()),
            ("", 0) => "-".to_owned(),
            ("", held) if held == quiet => format!("{quiet} wait"),
            ("", held) => format!("{quiet} wait, {} answered or cut", held - quiet),
            (answered, _) => answered.to_owned(),
        }
    }
}

fn attack(name: &'static str, expected: Option<&'static str>, go: fn(&Street) -> Outcome) -> Attack {
    Attack { name, go, expected }
}

/// All of them.
pub fn attacks() -> Vec<Attack> {
    vec![
        attack("300 silent connections", None, |street| crowd(street, CROWD, b"")),
        attack("300 half heads", None, |street| crowd(street, CROWD, b"GET / HTTP/1.1\r\nHost: x\r\nA: ")),
        attack("300 stalled bodies", None, |street| crowd(street, CROWD, STALLED_BODY)),
        attack("600 silent connections", None, |street| crowd(street, THRONG, b"")),
        attack("600 half heads", None, |street| crowd(street, THRONG, b"GET / HTTP/1.1\r\nHost: x\r\nA: ")),
        attack("600 stalled bodies", None, |street| crowd(street, THRONG, STALLED_BODY)),
        attack("2,000 half heads", None, |street| crowd(street, HOST, b"GET / HTTP/1.1\r\nHost: x\r\nA: ")),
        attack("2,000 stalled bodies", None, |street| crowd(street, HOST, STALLED_BODY)),
        attack("600 stalled bodies of 200 KB", None, stalled_large_bodies),
        attack("300 at one byte a turn, 10 turns", None, dripping),
        attack("600 asked to go on, and never do", None, |street| crowd(street, THRONG, EXPECTING)),
        not_reading_attack(),
        attack("80,000 pipelined, never read", None, pipelined),
        attack("1,000 resets right after the request", None, resets),
        attack("2,000 that come and go", None, come_and_go),
        attack("8 that ask without pause", None, |street| Outcome {
            hammers: (0..8).map(|client| Hammer::start(street, client)).collect(),
            ..Outcome::default()
        }),
        attack("half-closed after the request", Some("200"), half_closed),
        attack("100 GB promised", Some("413"), |street| {
            say(
                street,
                &["POST /uploadImgData HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\nabc"],
            )
        }),
        attack("huge chunk", Some("2 x 413"), |street| {
            say(street, &[&chunked("fffffffffff\r\nabc"), &chunked(&"1\r\nx\r\n".repeat(300_000))])
        }),
        attack("chunks that are none", Some("6 x 400"), chunks_that_are_none),
        attack("4 MB header", Some("431"), |street| {
            say(street, &[&get(&format!("A: {}\r\n", "x".repeat(4 << 20)))])
        }),
        attack("200,000 headers", Some("431"), |street| say(street, &[&get(&"a: b\r\n".repeat(200_000))])),
        attack("1 MB target", Some("414"), |street| {
            say(street, &[&format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20))])
        }),
        attack("TLS hello", Some("400"), tls_hello),
        attack("HTTP/2 preface", Some("505"), |street| say(street, &["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])),
        attack("HTTP/2.0, 0.9, 1.2", Some("4 x 505"), |street| {
            let lines = [
                "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
                "GET /\r\n\r\n",
                "GET / HTTP/0.9\r\n\r\n",
                "GET / HTTP/1.2\r\n\r\n",
            ];
            say(street, &lines)
        }),
        attack("smuggling pairs", None, smuggling),
        attack("NUL and control bytes", Some("10 x 400"), control_bytes),
        attack("methods nobody serves", Some("5 x 405, 501"), |street| {
            let asks = ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW"]
                .map(|method| format!("{method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
            say(street, &asks.each_ref().map(String::as_str))
        }),
        attack("targets that are no path", Some("4 x 400, 404"), |street| {
            let asks = ["http://x/", "*", "x", "/a\u{e4}", "/..%2f..%2fetc/passwd"]
                .map(|target| format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
            say(street, &asks.each_ref().map(String::as_str))
        }),
        attack("no length, odd expectation", Some("411, 417"), |street| {
            let tea = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: tea\r\n\r\n";
            say(street, &["POST / HTTP/1.1\r\nHost: x\r\n\r\n", tea])
        }),
    ]
}

/// Clients that ask for the largest answer and leave it lying.
pub fn not_reading_attack() -> Attack {
    attack("600 that do not read a large answer", None, not_reading)
}

const STALLED_BODY: &[u8] =
    b"POST /uploadImgData HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\ndata=%7B%22imgIds";

const EXPECTING: &[u8] =
    b"POST /uploadImgData HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n";

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn post(fields: &str) -> String {
    format!("POST /uploadImgData HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n") + body
}

/// One connection for each text.
fn say(street: &Street, texts: &[&str]) -> Outcome {
    Outcome::answered(counted(texts.iter().map(|text| street.exchange(0, text.as_bytes()))))
}

/// Many that say the same, or nothing, and stay.
fn crowd(street: &Street, count: usize, bytes: &[u8]) -> Outcome {
    let say = |client| {
        let mut stream = street.connect(client);
        // Whom the server has no room for it may send away.
        let _ = stream.write_all(bytes);
        stream
    };
    let held: Vec<TcpStream> = (0..count).map(say).collect();
    Outcome::holds(held)
}

fn is_quiet(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn stalled_large_bodies(street: &Street) -> Outcome {
    let mut text = post("Content-Length: 204800\r\n");
    text.push_str(&"x".repeat(200_000));
    crowd(street, THRONG, text.as_bytes())
}

fn dripping(street: &Street) -> Outcome {
    let mut outcome = crowd(street, CROWD, b"GET / HTTP/1.1\r\nHost: x\r\nA: ");
    for _ in 0..10 {
        for stream in &mut outcome.held {
            let _ = stream.write_all(b"x");
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    outcome
}

fn not_reading(street: &Street) -> Outcome {
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n{}\r\n", street.large, street.pass);
    let say = |client| {
        let mut stream = street.connect_with_little_room(client);
        let _ = stream.write_all(request.as_bytes());
        stream
    };
    Outcome::holds((0..THRONG).map(say).collect())
}

fn pipelined(street: &Street) -> Outcome {
    let mut stream = street.connect_with_little_room(0);
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let requests = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", street.page).repeat(80_000);
    let (mut sent, requests) = (0, requests.as_bytes());
    while let Ok(count) = stream.write(&requests[sent..]) {
        sent += count;
        if sent == requests.len() {
            break;
        }
    }
    Outcome { answered: format!("{} KiB taken", sent / 1024), held: vec![stream], ..Outcome::default() }
}

fn resets(street: &Street) -> Outcome {
    for client in 0..1000 {
        let mut stream = street.connect(client % THRONG);
        let _ = stream.write_all(get("").as_bytes());
        end_with_reset(stream);
    }
    Outcome::default()
}

fn come_and_go(street: &Street) -> Outcome {
    for client in 0..2000 {
        drop(street.connect(client % THRONG));
    }
    Outcome::default()
}

fn half_closed(street: &Street) -> Outcome {
    let mut stream = street.connect(0);
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", street.page);
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    Outcome::answered(statuses(&mut stream))
}

fn chunks_that_are_none(street: &Street) -> Outcome {
    let bodies = [
        "fffffffffffffffff\r\n",
        "-1\r\nx\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1\nx\n0\n\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "\r\n\r\n",
    ];
    say(street, &bodies.map(chunked).each_ref().map(String::as_str))
}

fn tls_hello(street: &Street) -> Outcome {
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.resize(517, 0x5a);
    Outcome::answered(street.exchange(0, &hello))
}

/// Each has a second request inside; a server that answers twice has read the body as a request.
fn smuggling(street: &Street) -> Outcome {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let in_chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let framings = [
        format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{in_chunk}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{in_chunk}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{in_chunk}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n{in_chunk}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n{in_chunk}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{in_chunk}"),
        format!("Transfer-Encoding:\x0bchunked\r\n\r\n{in_chunk}"),
        format!("X: y\nTransfer-Encoding: chunked\r\n\r\n{in_chunk}"),
        format!("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{in_chunk}"),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("Content-Length: {}\r\nContent-Length: 0\r\n\r\n{hidden}", hidden.len()),
        format!("Content-Length: 0, {}\r\n\r\n{hidden}", hidden.len()),
        format!("Content-Length: +{}\r\n\r\n{hidden}", hidden.len()),
        format!("Content-Length: 0{:o}\r\nContent-Length : 0\r\n\r\n{hidden}", hidden.len()),
        format!("Content_Length: {}\r\n\r\n{hidden}", hidden.len()),
    ];
    let texts = framings.map(|framing| format!("POST /uploadImgData HTTP/1.1\r\nHost: x\r\n{framing}"));
    say(street, &texts.each_ref().map(String::as_str))
}

fn control_bytes(street: &Street) -> Outcome {
    let texts = [
        get("A: \0\r\n"),
        get("A\0: b\r\n"),
        get("A: \x1b[31mred\r\n"),
        get("A: \x7f\r\n"),
        get("A: b\rC: d\r\n"),
        get("A: b\r\n\tfolded\r\n"),
        "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /\x08 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: x\n\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
    ];
    say(street, &texts.each_ref().map(String::as_str))
}
