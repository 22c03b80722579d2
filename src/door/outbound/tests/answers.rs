//! What minreq gets to see of an answer, and what is told of answers that are none.

use super::support::*;
use crate::door::outbound::{OutboundDoor, OutboundOptions, PassageFault, PassageReport};
use crate::ground::stop::Stop;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// The fault of a GET answered by `act`, which gets the stream after the request was read.
fn fault_of(
    change: impl FnOnce(&mut OutboundOptions),
    act: impl Fn(TcpStream) + Send + 'static,
) -> PassageReport {
    let server = Server::start(1, move |_, mut stream| {
        read_request(&mut stream);
        act(stream);
    });
    let origin = server.origin();
    let report = get_fault(&door_with(&origin, change), &origin);
    server.join();
    report
}

fn fault_of_bytes(bytes: &[u8]) -> PassageReport {
    let bytes = bytes.to_vec();
    fault_of(|_| (), move |mut stream| drop(stream.write_all(&bytes)))
}

fn answer_to(bytes: &[u8]) -> Answer {
    let server = Server::answering(bytes);
    let origin = server.origin();
    let (answer, report) = get(&door_to(&origin), &origin);
    assert_eq!(report.fault, None);
    server.join();
    answer.unwrap()
}

#[test]
fn the_answer_is_over_when_its_framing_says_so() {
    // The server keeps the connection; without framing the passage would wait for it to stall.
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
    ] {
        let server = Server::start(1, move |_, mut stream| {
            read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            wait_for_end(&mut stream);
        });
        let origin = server.origin();
        let (got, report) = get(&door_to(&origin), &origin);
        assert_eq!(report.fault, None, "{answer}");
        assert_eq!(got.unwrap().body, if answer.contains("304") { &b""[..] } else { b"body" });
        server.join();
    }
}

#[test]
fn a_large_answer_comes_through_byte_for_byte() {
    let body: Vec<u8> = (0..3_000_000u32).map(|number| (number ^ (number >> 8)) as u8).collect();
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend(&body);
    assert_eq!(answer_to(&answer).body, body);
}

#[test]
fn interim_answers_are_swallowed() {
    let answer = answer_to(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
          HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nok",
    );
    assert_eq!((answer.status, &answer.body[..]), (206, &b"ok"[..]));
    assert_eq!(answer.header("link"), None);
    let endless = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
    assert_eq!(fault_of_bytes(&endless).fault.unwrap().kind(), "garbage");
}

#[test]
fn latin_1_in_a_header_is_made_harmless() {
    let answer = answer_to(
        b"HTTP/1.1 200 OK\r\nContent-disposition: attachment; filename=\"B\xe4r.jpg\"\r\nContent-Length: 1\r\n\r\n\xe4",
    );
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"B?r.jpg\""));
    assert_eq!(answer.body, b"\xe4");
}

#[test]
fn redirects_pass_as_they_are() {
    let answer =
        answer_to(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((answer.status, answer.header("location")), (302, Some("http://elsewhere.example/x")));
}

#[test]
fn ordinary_large_heads_pass_and_huge_ones_do_not() {
    let field = |number: usize| format!("X-Field-{number}: {}\r\n", "x".repeat(180));
    let head = |fields: usize| {
        let fields: String = (0..fields).map(field).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n")
    };
    assert_eq!(answer_to(head(300).as_bytes()).headers.len(), 301);
    assert_eq!(fault_of_bytes(head(400).as_bytes()).fault, Some(PassageFault::HeadTooLong));
    // minreq's counter runs below zero on such a line.
    let line = format!("HTTP/1.1 200 OK\r\nA: {}\n\r\n", "x".repeat(8191 - 3));
    let report = fault_of_bytes(line.as_bytes());
    assert_eq!((report.fault, report.head_seen), (Some(PassageFault::HeadTooLong), false));
    let endless_line = fault_of(
        |_| (),
        |mut stream| while stream.write_all(b"HTTP/1.1 200 HTTP/1.1 200 HTTP/1.1 200").is_ok() {},
    );
    assert_eq!(endless_line.fault, Some(PassageFault::HeadTooLong));
}

#[test]
fn what_is_no_http_is_garbage() {
    for bytes in ["SSH-2.0-OpenSSH\r\n", "<html>login</html>", "HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let report = fault_of_bytes(bytes.as_bytes());
        assert_eq!(report.fault.as_ref().map(PassageFault::kind), Some("garbage"), "{bytes}");
        assert!(!report.head_seen);
    }
    let chunks = fault_of_bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk");
    assert_eq!((chunks.fault.unwrap().kind(), chunks.head_seen), ("garbage", true));
}

#[test]
fn each_way_to_end_too_soon_has_its_name() {
    assert_eq!(fault_of_bytes(b"").fault, Some(PassageFault::NoAnswer));
    assert_eq!(fault_of_bytes(b"HTTP/1.1 200 OK\r\nA:").fault, Some(PassageFault::CutShort));
    let report = fault_of_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(report.fault, Some(PassageFault::CutShort));
    assert_eq!((report.answer_bytes, report.announced_bytes), (4, Some(9)));
    let report = fault_of_bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    assert_eq!(report.fault, Some(PassageFault::CutShort));
}

#[test]
fn a_reset_is_told_wherever_it_comes() {
    assert_eq!(fault_of(|_| (), reset).fault, Some(PassageFault::Reset));
    // The first half must have arrived before the reset overtakes it: the requester says when.
    let halfway = Stop::new();
    let server = {
        let halfway = halfway.clone();
        Server::start(1, move |_, mut stream| {
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
            halfway.wait_for_ever();
            reset(stream);
        })
    };
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let mut stream = connect_and_get(&passage);
    let mut head_and_half = [0; 42];
    std::io::Read::read_exact(&mut stream, &mut head_and_half).unwrap();
    halfway.ask();
    wait_for_end(&mut stream);
    let report = passage.finish();
    assert_eq!((report.fault, report.answer_bytes), (Some(PassageFault::Reset), 4));
    server.join();
}

#[test]
fn silence_ends_by_its_own_limit() {
    let mute =
        fault_of(|options| options.limits.first_byte_within = TIGHT, |mut stream| wait_for_end(&mut stream));
    assert_eq!(mute.fault, Some(PassageFault::FirstByteTimeLimit));
    assert!(mute.request_sent && !mute.head_seen);
    let tight_stall = |options: &mut OutboundOptions| options.limits.stall = Duration::from_millis(300);
    let stalls_after = |bytes: &'static [u8]| {
        fault_of(tight_stall, move |mut stream| {
            stream.write_all(bytes).unwrap();
            wait_for_end(&mut stream);
        })
    };
    assert_eq!(stalls_after(b"HTTP/1.1 200 OK\r\nA: b").fault, Some(PassageFault::Stalled));
    let report = stalls_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!((report.fault, report.answer_bytes), (Some(PassageFault::Stalled), 4));
}

/// Answers with one byte every 50 ms.
fn trickle(mut stream: TcpStream, bytes: usize) {
    let pace = Stop::new();
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    for _ in 0..bytes {
        pace.wait(Duration::from_millis(50));
        if stream.write_all(b"x").is_err() {
            return;
        }
    }
}

#[test]
fn a_trickle_is_allowed_as_long_as_the_whole_may_last() {
    let server = Server::start(1, |_, mut stream| {
        read_request(&mut stream);
        trickle(stream, 30);
    });
    let origin = server.origin();
    let door = door_with(&origin, |options| options.limits.stall = Duration::from_secs(1));
    let (answer, report) = get(&door, &origin);
    assert_eq!((answer.unwrap().body.len(), report.fault), (30, None));
    server.join();
    let report = fault_of(
        |options| options.limits.total_within = Duration::from_millis(400),
        |stream| trickle(stream, 100_000),
    );
    assert_eq!(report.fault, Some(PassageFault::TooSlow));
}

#[test]
fn an_endless_answer_is_cut_at_its_bound() {
    let bytes_max = 200_000;
    let bound = |options: &mut OutboundOptions| options.limits.answer_bytes_max = bytes_max;
    let report = fault_of(bound, |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[0; 65536]).is_ok() {}
    });
    assert_eq!(report.fault, Some(PassageFault::TooMuch { bytes_max }));
    assert!(report.answer_bytes <= bytes_max);
    let report = fault_of(bound, |mut stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 200001\r\n\r\nx"));
    });
    assert_eq!((report.fault, report.head_seen), (Some(PassageFault::TooMuch { bytes_max }), false));
}

#[test]
fn limits_without_bound_do_not_overflow() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let origin = server.origin();
    let door: OutboundDoor = door_with(&origin, |options| {
        options.limits.stall = Duration::MAX;
        options.limits.total_within = Duration::MAX;
        options.limits.connect_within = Duration::MAX;
        options.limits.local_within = Duration::MAX;
        options.limits.first_byte_within = Duration::MAX;
    });
    assert_eq!(get(&door, &origin).1.fault, None);
    server.join();
}
