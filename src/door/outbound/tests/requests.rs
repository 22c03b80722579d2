//! What the origin gets to see, and what happens before it sees anything.

use super::support::*;
use crate::door::outbound::{
    ConnectFault, Origin, OutboundDoor, OutboundOptions, PassageFault, ProxyAddress, ProxyFault,
    ResolveFault, Resolver,
};
use crate::ground::clock::Deadline;
use crate::ground::stop::Stop;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};

#[test]
fn a_get_arrives_as_minreq_meant_it() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(1, move |_, mut stream| {
        tell.send(read_request(&mut stream).0).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let origin = server.origin();
    let door = door_to(&origin);
    let (answer, report) = get(&door, &origin);
    let answer = answer.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    let expected = format!("GET /path?a=b HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address);
    let sent = told.recv().unwrap();
    assert_eq!(sent, expected);
    assert_eq!(report.fault, None);
    assert_eq!(report.peer, Some(server.address));
    assert_eq!((report.answer_bytes, report.announced_bytes, report.status), (2, Some(2), Some(200)));
    assert_eq!(report.request_bytes, expected.len() as u64);
    let counters = door.counters();
    assert_eq!((counters.requests, counters.answer_bytes, counters.passages_open), (1, 2, 0));
    assert!(counters.faults.is_empty());
    server.join();
}

#[test]
fn a_long_body_arrives_whole_and_with_its_length() {
    let body: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
    let (tell, told) = mpsc::channel();
    let server = Server::start(1, move |_, mut stream| {
        tell.send(read_request(&mut stream)).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
    });
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let request =
        minreq::post(format!("{}/cgi-bin/stable_token", passage.base_url())).with_body(body.clone());
    let answer = send(&passage, request).unwrap();
    assert_eq!(answer.body, b"until the end");
    assert!(passage.finish().request_sent);
    let (head, received) = told.recv().unwrap();
    assert!(head.starts_with("POST /cgi-bin/stable_token HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Content-Length: 300000\r\n") && !head.contains("Transfer-Encoding"), "{head}");
    assert_eq!(received, body);
    server.join();
}

#[test]
fn requests_beyond_the_bounds_reach_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let door = door_with(&origin, |options| options.limits.request_bytes_max = 10);
    let passage = door.passage(&origin).unwrap();
    let request = minreq::post(format!("{}/", passage.base_url())).with_body("eleven byte");
    drop(send(&passage, request));
    assert_eq!(passage.finish().fault, Some(PassageFault::BadRequest { why: "its body is too long" }));
    let passage = door.passage(&origin).unwrap();
    let mut stream = connect(&passage);
    let (name, secret) = passage.header();
    write!(stream, "GET / HTTP/1.1\r\n{name}: {secret}\r\n").unwrap();
    // The passage may end while this is still being written.
    let _ = (0..70).try_for_each(|_| write!(stream, "X: {}\r\n", "x".repeat(1000)));
    wait_for_end(&mut stream);
    assert_eq!(passage.finish().fault, Some(PassageFault::BadRequest { why: "its head is too long" }));
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn only_allowed_origins_get_a_passage() {
    let allowed = Origin::parse("https://api.weixin.qq.com").unwrap();
    let other = Origin::parse("https://api.weixin.qq.com:444").unwrap();
    let door = door_to(&allowed);
    let fault = door.passage(&other).map(drop).unwrap_err();
    assert_eq!(fault.kind(), "not_allowed");
    assert!(fault.to_string().contains("https://api.weixin.qq.com:444"));
    assert_eq!(door.counters().faults["not_allowed"], 1);
}

#[test]
fn a_name_that_does_not_exist_is_told() {
    struct Nobody;
    impl Resolver for Nobody {
        fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let origin = Origin::parse("https://api.example").unwrap();
    let door = door_with(&origin, |options| options.resolver = Some(Arc::new(Nobody)));
    let (answer, report) = get(&door, &origin);
    // What minreq makes of an end without a byte; the wechat room looks at the report instead.
    assert_eq!(answer.unwrap().status, 503);
    let fault = report.fault.unwrap();
    assert_eq!(fault, PassageFault::Resolve { host: "api.example".into(), why: ResolveFault::NoSuchName });
    assert!(fault.is_connection_failure());
}

#[test]
fn a_hung_resolver_costs_its_limit_and_one_thread() {
    struct Hung(Stop);
    impl Resolver for Hung {
        fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            self.0.wait_for_ever();
            Ok(Vec::new())
        }
    }
    let release = Stop::new();
    let origin = Origin::parse("https://api.example").unwrap();
    let door = door_with(&origin, |options| {
        options.resolver = Some(Arc::new(Hung(release.clone())));
        options.limits.resolve_within = TIGHT;
    });
    for _ in 0..3 {
        assert_eq!(get_fault(&door, &origin).fault.unwrap().kind(), "resolve_time_limit");
    }
    release.ask();
}

#[test]
fn a_closed_port_is_told_with_its_address() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = Origin::parse(&format!("http://{address}")).unwrap();
    let fault = get_fault(&door_to(&origin), &origin).fault.unwrap();
    let PassageFault::Connect { why, tried, .. } = &fault else { panic!("{fault:?}") };
    assert_eq!((why, &tried[..]), (&ConnectFault::Refused, &[(address, ConnectFault::Refused)][..]));
    assert!(fault.is_connection_failure());
}

#[test]
fn localhost_is_reached_without_a_name_server() {
    let server = Server::answering("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    let origin = Origin::parse(&format!("http://localhost:{}", server.address.port())).unwrap();
    let door = door_with(&origin, |options| options.resolver = Some(Arc::new(AllTo(Vec::new()))));
    let (answer, report) = get(&door, &origin);
    assert_eq!((answer.unwrap().status, report.fault), (204, None));
    server.join();
}

/// A proxy that answers CONNECT with `answer` and then hands the stream over.
fn proxy(answer: &'static str, then: impl Fn(String, TcpStream) + Send + 'static) -> (Server, ProxyAddress) {
    let server = Server::start(1, move |_, mut stream| {
        let (head, _) = read_request(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        then(head, stream);
    });
    let address = ProxyAddress::parse(&format!("http://{}", server.address)).unwrap();
    (server, address)
}

#[test]
fn a_proxy_that_refuses_or_babbles_is_told() {
    let origin = Origin::parse("https://api.example").unwrap();
    for (answer, why) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
            ProxyFault::Status(407),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nearly", ProxyFault::Garbage),
        ("SOCKS?", ProxyFault::Garbage),
        ("HTTP/1.1 200 O", ProxyFault::Cut),
    ] {
        let (server, address) = proxy(answer, |head, _| {
            assert_eq!(head, "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n");
        });
        let door = door_with(&origin, |options| options.proxy = Some(address.clone()));
        let fault = get_fault(&door, &origin).fault.unwrap();
        assert_eq!(fault, PassageFault::Proxy { proxy: address.to_string(), why });
        assert!(fault.is_connection_failure());
        server.join();
    }
}

#[test]
fn a_mute_proxy_costs_the_connect_limit() {
    let (server, address) = proxy("", |_, mut stream| wait_for_end(&mut stream));
    let origin = Origin::parse("https://api.example").unwrap();
    let door = door_with(&origin, |options| {
        options.proxy = Some(address.clone());
        options.limits.connect_within = std::time::Duration::from_secs(1);
    });
    let fault = get_fault(&door, &origin).fault.unwrap();
    assert_eq!(fault, PassageFault::Proxy { proxy: address.to_string(), why: ProxyFault::TimeLimit });
    server.join();
}

#[test]
fn plain_http_to_this_machine_does_not_go_through_the_proxy() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let origin = server.origin();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = ProxyAddress::parse(&format!("http://{nobody}")).unwrap();
    let door = door_with(&origin, |options| options.proxy = Some(proxy));
    assert_eq!(get(&door, &origin).1.fault, None);
    server.join();
}

#[test]
fn a_closed_door_cuts_what_is_open_and_opens_no_more() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(1, move |_, mut stream| {
        read_request(&mut stream);
        tell.send(()).unwrap();
        wait_for_end(&mut stream);
    });
    let origin = server.origin();
    let door = door_to(&origin);
    let unused = door.passage(&origin).unwrap();
    let waiting = door.passage(&origin).unwrap();
    let mut stream = connect_and_get(&waiting);
    told.recv().unwrap();
    assert_eq!(door.counters().passages_open, 2);
    door.close();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    assert_eq!(unused.finish().fault, Some(PassageFault::DoorClosed));
    assert_eq!(waiting.finish().fault, Some(PassageFault::DoorClosed));
    assert_eq!(door.passage(&origin).map(drop), Err(PassageFault::DoorClosed));
    assert_eq!(door.counters().passages_open, 0);
    server.join();
}

#[test]
fn options_that_cannot_work_are_refused_at_once() {
    let open = |change: fn(&mut OutboundOptions)| {
        let mut options = OutboundOptions::default();
        change(&mut options);
        OutboundDoor::open(options).map(drop)
    };
    assert!(open(|_| ()).is_ok());
    let roots = open(|options| options.extra_roots_pem = Some(b"no PEM".to_vec())).unwrap_err();
    assert!(roots.to_string().starts_with("could not use the extra root certificates: "), "{roots}");
}

#[test]
fn a_passage_keeps_no_port_after_its_end() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let origin = server.origin();
    let passage = door_to(&origin).passage(&origin).unwrap();
    let (_, port) = passage.base_url().rsplit_once(':').unwrap();
    let port = format!(":{:04X} ", port.parse::<u16>().unwrap());
    assert!(std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&port));
    send(&passage, minreq::get(format!("{}/", passage.base_url()))).unwrap();
    assert_eq!(passage.finish().fault, None);
    // Waiting for stragglers (TIME_WAIT) would take a minute.
    let patience = Deadline::after(GENEROUS / 2);
    while std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&port) {
        assert!(!patience.passed(), "port{port}is still in use");
        std::thread::yield_now();
    }
    server.join();
}
