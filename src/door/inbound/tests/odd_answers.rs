//! The door in front of a scripted stand-in for tiny_http that answers wrongly, oddly or not at all.

use super::*;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A stand-in for tiny_http that gives `answer` to every request and hangs up.
fn stand_in(path: &Path, answer: Vec<u8>) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut request = BufReader::new(stream);
            let mut line = String::new();
            while request.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let _ = request.get_mut().write_all(&answer);
        }
    });
}

fn open_before(answer: impl Into<Vec<u8>>) -> (InboundDoor, Scratch) {
    let scratch = Scratch::new();
    stand_in(&scratch.socket(), answer.into());
    (open_door(free(), scratch.socket(), Vec::new()), scratch)
}

#[test]
fn an_answer_longer_than_its_length_stops_there() {
    for extra in [3, 100_000] {
        let (door, _scratch) =
            open_before(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{}", "x".repeat(extra)));
        let mut client = call(&door);
        for _ in 0..3 {
            assert_eq!(get(&mut client, "/").text(), "hello");
        }
    }
}

#[test]
fn an_answer_shorter_than_its_length_never_looks_whole() {
    for missing in [1, 60_000] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nhell", 4 + missing);
        let (door, _scratch) = open_before(answer);
        let mut client = call(&door);
        send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_refused(&mut client, 502);
    }
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n{}", "x".repeat(80_000));
    for answer in [long.as_str(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let (door, _scratch) = open_before(answer);
        let mut client = call(&door);
        send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let cut = client.read_to_end(&mut Vec::new());
        assert_eq!(cut.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn an_answer_of_unknown_length_ends_with_the_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello world",
    ] {
        let (door, _scratch) = open_before(answer);
        let mut client = call(&door);
        send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world");
    }
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"] {
        let (door, _scratch) = open_before(answer);
        let mut client = call(&door);
        for _ in 0..2 {
            send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(read_head(&mut client).head, answer);
        }
    }
}

#[test]
fn without_an_answer_from_inside_the_client_is_told() {
    for answer in ["", "HTTP/1.1 200", "SSH-2.0-x\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let (door, _scratch) = open_before(answer);
        let mut client = call(&door);
        send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_refused(&mut client, 502);
    }
    let scratch = Scratch::new();
    let door = open_door(free(), scratch.socket(), Vec::new());
    let mut client = call(&door);
    send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_refused(&mut client, 503);
    // Listens, and never accepts.
    let _mute = UnixListener::bind(scratch.socket()).unwrap();
    let impatient = InboundLimits { upstream_within: SOON, ..free() };
    let door = open_door(impatient, scratch.socket(), Vec::new());
    let mut client = call(&door);
    send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_refused(&mut client, 504);
}
