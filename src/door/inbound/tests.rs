//! The whole door over real sockets, in front of a real tiny_http.

mod crowded;
mod odd_answers;

use super::*;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};

/// For what must succeed on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what must run out.
const SOON: Duration = Duration::from_millis(150);

const BIG_BYTES: usize = 2 * 1024 * 1024;
const HUGE_BYTES: usize = 32 * 1024 * 1024;

/// A directory that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tubox-inbound-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("web.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// tiny_http with a few handlers, and the door before it.
struct Inside {
    door: InboundDoor,
    /// One message for each request that waits in `/hold`.
    held: Receiver<()>,
    /// Lets them go on.
    release: Stop,
    _scratch: Scratch,
}

fn open_box(limits: InboundLimits) -> Inside {
    open_box_trusting(limits, &[])
}

fn open_box_trusting(limits: InboundLimits, trusted: &[&str]) -> Inside {
    let scratch = Scratch::new();
    let server = Arc::new(tiny_http::Server::http_unix(&scratch.socket()).unwrap());
    let (sender, held) = channel();
    let release = Stop::new();
    for _ in 0..4 {
        let (server, sender, release) = (Arc::clone(&server), sender.clone(), release.clone());
        thread::spawn(move || {
            while let Ok(request) = server.recv() {
                handle(request, || {
                    let _ = sender.send(());
                    release.wait_for_ever();
                });
            }
        });
    }
    let trusted_proxies = trusted.iter().map(|text| text.parse().unwrap()).collect();
    let door = open_door(limits, scratch.socket(), trusted_proxies);
    Inside { door, held, release, _scratch: scratch }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.release.ask();
    }
}

fn handle(mut request: tiny_http::Request, hold: impl FnOnce()) {
    let data = match request.url() {
        "/big" => vec![b'B'; BIG_BYTES],
        "/huge" => vec![b'H'; HUGE_BYTES],
        "/hold" => {
            hold();
            b"held".to_vec()
        }
        _ => {
            let mut lines = format!("{} {}\n", request.method(), request.url());
            for header in request.headers() {
                lines += &format!("{}: {}\n", header.field.as_str().as_str().to_lowercase(), header.value);
            }
            lines += "\n";
            request.as_reader().read_to_string(&mut lines).unwrap();
            lines.into_bytes()
        }
    };
    let response = tiny_http::Response::from_data(data).with_chunked_threshold(usize::MAX);
    let _ = request.respond(response);
}

fn open_door(limits: InboundLimits, upstream: PathBuf, trusted_proxies: Vec<IpAddr>) -> InboundDoor {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    InboundDoor::open(
        listener,
        InboundOptions {
            limits,
            upstream,
            trusted_proxies,
            reuse: Reuse::default(),
            crowd: Default::default(),
        },
    )
    .unwrap()
}

fn call(door: &InboundDoor) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(door.local_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

fn send(client: &mut BufReader<TcpStream>, bytes: impl AsRef<[u8]>) {
    client.get_mut().write_all(bytes.as_ref()).unwrap();
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn says(&self, line: &str) -> bool {
        self.head.lines().any(|found| found == line)
    }

    fn closes(&self) -> bool {
        self.says("Connection: close")
    }
}

fn read_head(client: &mut BufReader<TcpStream>) -> Answer {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(client.read_line(&mut head).unwrap(), 0, "ended in the head: {head:?}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: Vec::new() }
}

fn read_answer(client: &mut BufReader<TcpStream>) -> Answer {
    let mut answer = read_head(client);
    let length =
        answer.head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    answer.body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut answer.body).unwrap();
    answer
}

fn get(client: &mut BufReader<TcpStream>, target: &str) -> Answer {
    send(client, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    read_answer(client)
}

fn assert_ended(client: &mut BufReader<TcpStream>) {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
}

/// A refusal is JSON, says that it closes, and closes.
fn assert_refused(client: &mut BufReader<TcpStream>, status: u16) {
    let answer = read_answer(client);
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.closes() && answer.says("X-Content-Type-Options: nosniff"), "{answer:?}");
    assert!(
        answer.says("Cache-Control: no-store") && answer.says("Referrer-Policy: no-referrer"),
        "{answer:?}"
    );
    assert!(answer.says("Content-Security-Policy: default-src 'none'; frame-ancestors 'none'"), "{answer:?}");
    assert!(answer.says("Content-Type: application/json; charset=utf-8"), "{answer:?}");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["rc"], 1);
    assert_ended(client);
}

/// Waits for something that another thread is about to bring about.
fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let deadline = Deadline::after(PATIENCE);
    while !true_now() {
        assert!(!deadline.passed(), "never: {what}");
        thread::yield_now();
    }
}

fn free() -> InboundLimits {
    InboundLimits::default()
}

#[test]
fn a_connection_is_used_again_and_ends_when_it_has_had_enough() {
    let house = open_box(InboundLimits { requests_per_connection_max: 3, ..free() });
    let mut client = call(&house.door);
    for turn in 1..=3 {
        let answer = get(&mut client, &format!("/{turn}"));
        assert_eq!(answer.status, 200);
        assert!(answer.text().starts_with(&format!("GET /{turn}\n")), "{answer:?}");
        assert_eq!(answer.closes(), turn == 3);
        assert!(!answer.head.contains("Server"), "{answer:?}");
    }
    assert_ended(&mut client);
    let counters = house.door.counters();
    assert_eq!((counters.accepted, counters.requests), (1, 3));
    assert!(counters.bytes_in > 80 && counters.bytes_out > 300, "{counters:?}");
}

#[test]
fn an_old_client_keeps_its_connection_only_when_it_asks() {
    let house = open_box(free());
    let mut client = call(&house.door);
    send(&mut client, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(read_answer(&mut client).says("Connection: keep-alive"));
    send(&mut client, "GET /b HTTP/1.0\r\n\r\n");
    assert!(read_answer(&mut client).closes());
    assert_ended(&mut client);
}

#[test]
fn what_goes_inside_is_clean() {
    let house = open_box(free());
    let mut client = call(&house.door);
    send(
        &mut client,
        "POST /p?q HTTP/1.1\r\nHost: x\r\nX-Tubox-Head: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nUpgrade: h2c\r\n\
         TE: chunked\r\nContent-Length: 5\r\nConnection: keep-alive, Upgrade\r\n\r\nhello",
    );
    assert_eq!(
        read_answer(&mut client).text(),
        "POST /p?q\nconnection: close\n\
         x-tubox-head: 127.0.0.1\tHost: x\tX-Tubox-Head: 6.6.6.6\tX-Forwarded-For: 6.6.6.6\n\
         content-length: 5\n\nhello"
    );
    assert_eq!(get(&mut client, "/").status, 200);
}

#[test]
fn a_trusted_proxy_names_the_client() {
    let house = open_box_trusting(free(), &["::ffff:127.0.0.1"]);
    let mut client = call(&house.door);
    for (header, expected) in [
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n", "192.0.2.7"),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 127.0.0.1\r\n", "192.0.2.7"),
        ("X-Forwarded-For: nobody\r\n", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        send(&mut client, format!("GET / HTTP/1.1\r\nHost: x\r\n{header}\r\n"));
        let answer = read_answer(&mut client);
        assert!(answer.text().contains(&format!("\nx-tubox-head: {expected}\t")), "{header} {answer:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let house = open_box(free());
    let mut client = call(&house.door);
    let mut writer = client.get_ref().try_clone().unwrap();
    let writing = thread::spawn(move || {
        for number in 0..300 {
            let text = format!("POST /{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
            writer.write_all(text.as_bytes()).unwrap();
        }
    });
    for number in 0..300 {
        let answer = read_answer(&mut client);
        assert!(answer.text().starts_with(&format!("POST /{number}\n")), "{answer:?}");
        assert!(answer.text().ends_with("\n\nabc"));
    }
    writing.join().unwrap();
}

#[test]
fn who_pipelines_without_end_waits_outside() {
    let house = open_box(free());
    let mut client = call(&house.door);
    client.get_mut().set_write_timeout(Some(SOON)).unwrap();
    send(&mut client, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    let pipelined = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    while client.get_mut().write_all(pipelined.as_bytes()).is_ok() {}
    house.held.recv_timeout(PATIENCE).unwrap();
    assert!(house.door.counters().bytes_in < 32 * 1024, "{:?}", house.door.counters());
}

#[test]
fn refusals_can_be_read_even_by_who_sends_first() {
    let house = open_box(free());
    let big_header = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(4 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(200_000));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20));
    let cases: &[(&str, u16)] = &[
        (&big_header, 431),
        (&many_headers, 431),
        (&long_target, 414),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\nabc", 413),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\nabc", 413),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: tea\r\n\r\n", 417),
        ("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03", 400),
        ("GET / HTTP/1.1\n\n", 400),
    ];
    for (text, status) in cases {
        let mut client = call(&house.door);
        send(&mut client, text);
        assert_refused(&mut client, *status);
    }
    let refused = house.door.counters().refused;
    assert_eq!((refused[&431], refused[&413], refused[&400]), (2, 2, 4));
    assert_eq!(house.door.counters().requests, 2, "only the two chunked heads were clean");
    let mut client = call(&house.door);
    send(&mut client, "HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!(read_head(&mut client).status, 400);
    assert_ended(&mut client);
}

#[test]
fn chunks_go_inside_as_one_body() {
    let house = open_box(free());
    let mut client = call(&house.door);
    send(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    send(&mut client, "lo\r\nA\r\n, world...\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = read_answer(&mut client);
    assert!(answer.text().ends_with("content-length: 15\n\nhello, world..."), "{answer:?}");
    assert!(!answer.text().contains("transfer-encoding"));
    assert!(read_answer(&mut client).text().starts_with("GET /next\n"));
    let whole = 256 * 1024;
    let mut body = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for _ in 0..whole / 4096 {
        body += &format!("1000\r\n{}\r\n", "y".repeat(4096));
    }
    send(&mut client, body + "0\r\n\r\n");
    let answer = read_answer(&mut client);
    assert!(answer.text().ends_with(&format!("\n\n{}", "y".repeat(whole))));
}

#[test]
fn a_body_as_large_as_allowed_goes_inside() {
    let house = open_box(free());
    let mut client = call(&house.door);
    let body = "z".repeat(256 * 1024);
    send(&mut client, format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert!(read_answer(&mut client).text().ends_with(&format!("\n\n{body}")));
    // Unread by its handler, and still no harm to the next request.
    send(
        &mut client,
        format!("POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{}", &body[..5000]),
    );
    assert_eq!(read_answer(&mut client).body.len(), BIG_BYTES);
    assert_eq!(get(&mut client, "/").status, 200);
}

#[test]
fn who_asks_before_sending_is_told_to_go_on() {
    let house = open_box(free());
    let mut client = call(&house.door);
    send(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(read_head(&mut client).head, "HTTP/1.1 100 Continue\r\n\r\n");
    send(&mut client, "abc");
    let answer = read_answer(&mut client);
    assert!(answer.text().ends_with("\n\nabc") && !answer.text().contains("expect"), "{answer:?}");
}

#[test]
fn slow_heads_and_bodies_end_with_408() {
    let house = open_box(InboundLimits { head_within: SOON, body_within: SOON, ..free() });
    for text in [
        "GET / HTTP/1.1\r\nHost: x\r\nA: ",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
    ] {
        let mut client = call(&house.door);
        send(&mut client, text);
        assert_refused(&mut client, 408);
    }
}

#[test]
fn a_head_that_drips_is_too_slow_all_the_same() {
    let house = open_box(InboundLimits { head_within: SOON, ..free() });
    let mut client = call(&house.door);
    send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
    client.get_mut().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let deadline = Deadline::after(PATIENCE);
    while matches!(client.fill_buf().map_err(|error| error.kind()), Err(ErrorKind::WouldBlock)) {
        assert!(!deadline.passed(), "dripped for ever");
        send(&mut client, "x");
    }
    client.get_mut().set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_answer(&mut client).status, 408);
}

#[test]
fn an_idle_connection_ends_without_a_word() {
    let house = open_box(InboundLimits { idle_within: SOON, ..free() });
    let mut silent = call(&house.door);
    let mut polite = call(&house.door);
    assert_eq!(get(&mut polite, "/").status, 200);
    assert_ended(&mut silent);
    assert_ended(&mut polite);
    assert!(house.door.counters().refused.is_empty());
}

#[test]
fn head_tells_the_length_and_sends_no_body() {
    let house = open_box(free());
    let mut client = call(&house.door);
    send(&mut client, "HEAD /big HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = read_head(&mut client);
    assert!(answer.says(&format!("Content-Length: {BIG_BYTES}")), "{answer:?}");
    assert_eq!(get(&mut client, "/").status, 200);
}

#[test]
fn a_big_answer_comes_whole() {
    let house = open_box(free());
    let mut client = call(&house.door);
    for _ in 0..2 {
        let answer = get(&mut client, "/big");
        assert_eq!(answer.body.len(), BIG_BYTES);
        assert!(answer.body.iter().all(|byte| *byte == b'B'));
    }
}

/// A client whose socket holds little, so that not reading is noticed.
fn call_with_little_room(door: &InboundDoor) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&door.local_addr().into()).unwrap();
    socket.into()
}

#[test]
fn who_stops_reading_is_cut_by_stall_or_by_the_whole() {
    // 32 MiB are 513 pieces.
    let hurried = Duration::from_millis(4);
    for limits in [
        InboundLimits { write_stall: SOON, ..free() },
        InboundLimits { write_stall: PATIENCE * 2, answer_within: hurried, ..free() },
    ] {
        let house = open_box(limits);
        let mut client = call_with_little_room(&house.door);
        client.write_all(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        until("the answer begins", || house.door.counters().requests == 1);
        assert!(house.door.house.roster.wait_empty(PATIENCE), "a stopped reader holds its thread");
        assert!(house.door.counters().bytes_out < HUGE_BYTES as u64);
        // The handler is free again, and others are served, though a small answer may be late as well.
        until("others are served", || {
            let mut other = call(&house.door);
            send(&mut other, "GET / HTTP/1.0\r\n\r\n");
            let mut answer = String::new();
            other.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200 ")
        });
    }
}

#[test]
fn the_oldest_idle_connection_gives_way() {
    let house = open_box(InboundLimits { connections_max: 2, ..free() });
    let roster = &house.door.house.roster;
    let mut oldest = call(&house.door);
    assert_eq!(get(&mut oldest, "/").status, 200);
    until("the first rests", || roster.resting() == 1);
    // A head that drips rests as well.
    let mut dripping = call(&house.door);
    send(&mut dripping, "GET / HTTP/1.1\r\n");
    until("both rest", || roster.resting() == 2);
    let mut newest = call(&house.door);
    assert_eq!(get(&mut newest, "/").status, 200);
    assert_ended(&mut oldest);
    send(&mut dripping, "Host: x\r\n\r\n");
    assert_eq!(read_answer(&mut dripping).status, 200);
    assert_eq!(house.door.counters().evicted, 1);
    assert_eq!(house.door.counters().connections_now, 2);
}

#[test]
fn when_all_are_busy_the_next_is_told_so() {
    let house = open_box(InboundLimits { connections_max: 1, ..free() });
    let mut busy = call(&house.door);
    send(&mut busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    house.held.recv_timeout(PATIENCE).unwrap();
    let mut refused = call(&house.door);
    send(&mut refused, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_refused(&mut refused, 503);
    house.release.ask();
    assert_eq!(read_answer(&mut busy).text(), "held");
    let counters = house.door.counters();
    assert_eq!((counters.refused[&503], counters.evicted, counters.connections_now), (1, 0, 1));
}

#[test]
fn one_address_cannot_take_every_seat() {
    let limits = InboundLimits { connections_per_address_max: 1, ..free() };
    let house = open_box(limits.clone());
    let mut busy = call(&house.door);
    send(&mut busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    house.held.recv_timeout(PATIENCE).unwrap();
    assert_refused(&mut call(&house.door), 503);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&house.door.local_addr().into()).unwrap();
    let answer = get(&mut BufReader::new(socket.into()), "/");
    assert!(answer.text().contains("\nx-tubox-head: 127.0.0.2\t"), "{answer:?}");

    let trusting = open_box_trusting(limits, &["127.0.0.1"]);
    let mut busy = call(&trusting.door);
    send(&mut busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    trusting.held.recv_timeout(PATIENCE).unwrap();
    assert_eq!(get(&mut call(&trusting.door), "/").status, 200);
}

#[test]
fn closing_cuts_who_is_idle_and_lets_an_answer_finish() {
    let house = open_box(free());
    let mut idle = call(&house.door);
    assert_eq!(get(&mut idle, "/").status, 200);
    let mut busy = call(&house.door);
    send(&mut busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    house.held.recv_timeout(PATIENCE).unwrap();
    thread::scope(|scope| {
        let closing = scope.spawn(|| house.door.close(PATIENCE));
        assert_ended(&mut idle);
        assert!(TcpStream::connect(house.door.local_addr()).is_err(), "still accepts");
        house.release.ask();
        let answer = read_answer(&mut busy);
        assert_eq!(answer.text(), "held");
        assert!(answer.closes(), "{answer:?}");
        assert_ended(&mut busy);
        let ended_in_time = Deadline::after(PATIENCE / 2);
        closing.join().unwrap();
        assert!(!ended_in_time.passed(), "close waited for its whole bound");
    });
    assert_eq!(house.door.counters().connections_now, 0);
}

#[test]
fn closing_cuts_what_does_not_finish() {
    let house = open_box(free());
    let mut busy = call(&house.door);
    send(&mut busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    house.held.recv_timeout(PATIENCE).unwrap();
    let mut idle: Vec<_> = (0..80).map(|_| call(&house.door)).collect();
    until("all are in", || house.door.counters().accepted == 81);
    let within = Deadline::after(PATIENCE / 2);
    house.door.close(SOON);
    house.door.close(SOON);
    assert!(!within.passed(), "close came late");
    assert!(house.door.house.roster.wait_empty(Duration::ZERO));
    idle.iter_mut().for_each(assert_ended);
    let mut rest = Vec::new();
    let _ = busy.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&rest));
}

#[test]
fn the_acceptor_survives_what_accepting_can_fail_with() {
    let scratch = Scratch::new();
    let options = InboundOptions {
        limits: free(),
        upstream: scratch.socket(),
        trusted_proxies: Vec::new(),
        crowd: Default::default(),
        reuse: Reuse::default(),
    };
    let budget = Budget::within(None, 0, &free());
    let house = Arc::new(House::new(options, budget));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = BufReader::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let mut steps = 0;
    acceptor::accept_until_stopped(&house, || {
        steps += 1;
        match steps {
            1 => Err(io::Error::from_raw_os_error(24)),
            2 => Err(io::Error::from_raw_os_error(23)),
            3 => Err(ErrorKind::ConnectionAborted.into()),
            4 => Err(ErrorKind::Interrupted.into()),
            5 => Err(ErrorKind::OutOfMemory.into()),
            6 => listener.accept(),
            _ => {
                house.stop.ask();
                Err(ErrorKind::InvalidInput.into())
            }
        }
    });
    assert_eq!(steps, 7);
    let counters = house.tally.counters(0);
    assert_eq!((counters.accept_errors, counters.accepted), (5, 1));
    house.roster.cut_resting();
    assert_ended(&mut client);
    assert!(house.roster.wait_empty(PATIENCE));
}
