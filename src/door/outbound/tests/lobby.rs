//! Who may use a passage, and requesters who leave.

use super::support::*;
use crate::door::outbound::PassageFault;
use crate::door::outbound::lever::{Lever, Pull};
use crate::door::outbound::lobby::{SECRET_HEADER, accept_all};
use crate::ground::clock::Deadline;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};

fn small_answer() -> Server {
    Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

#[test]
fn strangers_are_closed_and_the_guest_is_still_let_in() {
    let server = small_answer();
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let wrong = format!("{SECRET_HEADER}: {}\r\n", "x".repeat(passage.header().1.len()));
    for header in ["", &wrong, &format!("{SECRET_HEADER}: \r\n")] {
        let mut stranger = connect(&passage);
        write!(stranger, "GET / HTTP/1.1\r\nHost: x\r\n{header}\r\n").unwrap();
        assert_eq!(stranger.read(&mut [0; 8]).unwrap_or(0), 0, "{header}");
    }
    let answer = send(&passage, minreq::get(format!("{}/", passage.base_url()))).unwrap();
    assert_eq!(answer.body, b"ok");
    assert_eq!(passage.finish().fault, None);
    server.join();
}

#[test]
fn mute_strangers_do_not_block_the_guest() {
    let server = small_answer();
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let mut strangers: Vec<_> = (0..20).map(|_| connect(&passage)).collect();
    for stranger in &mut strangers {
        let _ = stranger.write_all(b"GET / HTTP/1.1\r\n");
    }
    let answer = send(&passage, minreq::get(format!("{}/", passage.base_url()))).unwrap();
    assert_eq!(answer.body, b"ok");
    assert_eq!(passage.finish().fault, None);
    server.join();
}

#[test]
fn a_passage_opens_once_and_each_has_its_own_secret() {
    let server = small_answer();
    let origin = server.origin();
    let door = door_to(&origin);
    let passage = door.passage(&origin).unwrap();
    let other = door.passage(&origin).unwrap();
    assert_ne!(passage.header().1, other.header().1);
    assert!(passage.header().1.len() >= 32);
    let url = format!("{}/", passage.base_url());
    assert_eq!(send(&passage, minreq::get(&url)).unwrap().body, b"ok");
    assert!(send(&passage, minreq::get(&url)).is_err());
    drop(other);
    server.join();
}

#[test]
fn a_passage_that_nobody_uses_ends_by_its_limit_or_when_it_is_finished() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin =
        crate::door::outbound::Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let door = door_to(&origin);
    let soon = Deadline::after(GENEROUS / 2);
    assert_eq!(door.passage(&origin).unwrap().finish().fault, Some(PassageFault::LocalPeerMissing));
    assert!(!soon.passed(), "ended by a limit and not by `finish`");
    let door = door_with(&origin, |options| options.limits.local_within = TIGHT);
    let passage = door.passage(&origin).unwrap();
    let mut mute = connect(&passage);
    wait_for_end(&mut mute);
    assert_eq!(passage.finish().fault, Some(PassageFault::LocalPeerMissing));
}

#[test]
fn a_listener_that_the_lever_shut_down_is_no_fault_of_the_socket() {
    for (pull, fault) in [
        (Pull::NoMoreGuests, PassageFault::LocalPeerMissing),
        (Pull::Dropped, PassageFault::LocalPeerMissing),
        (Pull::DoorClosed, PassageFault::DoorClosed),
    ] {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        listener.set_nonblocking(true).unwrap();
        let lever = Lever::new(Arc::clone(&listener));
        let mut visitors = Vec::new();
        assert_eq!(accept_all(&listener, &lever, &mut visitors), Ok(()));
        lever.pull(pull);
        assert_eq!(accept_all(&listener, &lever, &mut visitors), Err(fault));
    }
}

#[test]
fn a_requester_who_leaves_ends_the_passage_in_every_phase() {
    // While the origin is silent.
    let (tell, told) = mpsc::channel();
    let server = Server::start(1, move |_, mut stream| {
        read_request(&mut stream);
        tell.send(()).unwrap();
        wait_for_end(&mut stream);
    });
    let origin = server.origin();
    let door = door_to(&origin);
    let passage = door.passage(&origin).unwrap();
    let stream = connect_and_get(&passage);
    told.recv().unwrap();
    drop(stream);
    let report = passage.finish();
    assert_eq!(report.fault, Some(PassageFault::LocalPeerGone));
    assert!(report.request_sent && !report.head_seen);
    server.join();

    // In the middle of the answer.
    let server = Server::start(1, |_, mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[0; 65536]).is_ok() {}
    });
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let mut stream = connect_and_get(&passage);
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    assert_eq!(passage.finish().fault, Some(PassageFault::LocalPeerGone));
    server.join();

    // In the middle of the request's body.
    let server = Server::start(1, |_, mut stream| wait_for_end(&mut stream));
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let mut stream = connect(&passage);
    let (name, secret) = passage.header();
    write!(stream, "POST / HTTP/1.1\r\n{name}: {secret}\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
    drop(stream);
    let report = passage.finish();
    // Gone before the passage let it in, or after.
    assert!(
        matches!(report.fault, Some(PassageFault::LocalPeerGone | PassageFault::LocalPeerMissing)),
        "{report:?}"
    );
    assert!(!report.request_sent);
    drop(std::net::TcpStream::connect(server.address));
    server.join();
}

#[test]
fn a_requester_who_does_not_read_is_cut() {
    let server = Server::start(1, |_, mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[0; 65536]).is_ok() {}
    });
    let origin = server.origin();
    let door = door_with(&origin, |options| options.limits.stall = std::time::Duration::from_millis(300));
    let passage = door.passage(&origin).unwrap();
    let _stream = connect_and_get(&passage);
    server.join();
    assert_eq!(passage.finish().fault, Some(PassageFault::LocalStalled));
}

#[test]
fn a_dropped_passage_is_cut() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(1, move |_, mut stream| {
        read_request(&mut stream);
        tell.send(()).unwrap();
        wait_for_end(&mut stream);
    });
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let mut stream = connect_and_get(&passage);
    told.recv().unwrap();
    let soon = Deadline::after(GENEROUS / 2);
    drop(passage);
    wait_for_end(&mut stream);
    server.join();
    assert!(!soon.passed(), "ended by a limit and not by the drop");
}
