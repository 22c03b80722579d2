//! When there is no room: who gives way to whom.

use super::*;

/// A client that asks for a large answer and reads nothing of it.
fn call_without_reading(house: &Inside) -> TcpStream {
    let requests = house.door.counters().requests;
    let mut client = call_with_little_room(&house.door);
    client.write_all(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut went = (0, Deadline::after(SOON));
    until("its answer stands still", || {
        let counters = house.door.counters();
        if counters.requests == requests || counters.bytes_out != went.0 {
            went = (counters.bytes_out, Deadline::after(SOON));
        }
        went.1.passed()
    });
    client
}

/// Reads what is there; true when the answer was cut before its end.
fn is_cut_short(client: &mut TcpStream) -> bool {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes);
    bytes.len() < HUGE_BYTES
}

#[test]
fn a_body_that_does_not_come_gives_way() {
    let house = open_box(InboundLimits { connections_max: 1, ..free() });
    let mut stalled = call(&house.door);
    send(&mut stalled, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell");
    until("the head is read", || house.door.counters().requests == 1);
    assert_eq!(get(&mut call(&house.door), "/").status, 200);
    assert_ended(&mut stalled);
}

#[test]
fn who_rests_gives_way_before_who_reads_slowly_and_the_stalest_of_those_first() {
    let house = open_box(InboundLimits { connections_max: 3, ..free() });
    let mut stalest = call_without_reading(&house);
    let mut slow = call_without_reading(&house);
    let mut resting = call(&house.door);
    assert_eq!(get(&mut resting, "/").status, 200);
    until("it rests", || house.door.house.roster.resting() == 1);
    let mut third = call(&house.door);
    send(&mut third, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    house.held.recv_timeout(PATIENCE).unwrap();
    assert_ended(&mut resting);
    assert_eq!(get(&mut call(&house.door), "/").status, 200);
    assert!(is_cut_short(&mut stalest));
    assert_eq!((house.door.counters().evicted, house.door.counters().refused.len()), (2, 0));
    let mut begun = [0; 1024];
    slow.read_exact(&mut begun).unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200 "), "the other one goes on");
}

#[test]
fn who_does_not_read_keeps_nobody_from_going_inside() {
    let house = open_box(InboundLimits { inside_max: 1, ..free() });
    let mut slow = call_without_reading(&house);
    assert_eq!(get(&mut call(&house.door), "/").status, 200);
    assert!(is_cut_short(&mut slow));
}

#[test]
fn one_who_works_inside_is_waited_for() {
    let house = open_box(InboundLimits { inside_max: 1, ..free() });
    let mut busy = call(&house.door);
    send(&mut busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    house.held.recv_timeout(PATIENCE).unwrap();
    let mut next = call(&house.door);
    send(&mut next, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    until("the next one waits", || house.door.counters().requests == 2);
    let patience_is_over = Deadline::after(visit::SHARE_PATIENCE * 2);
    until("it would give way by now", || patience_is_over.passed());
    house.release.ask();
    assert_eq!(read_answer(&mut busy).text(), "held");
    assert_eq!(read_answer(&mut next).status, 200);
    let impatient = InboundLimits { inside_max: 1, upstream_within: SOON, ..free() };
    let house = open_box(impatient);
    let mut busy = call(&house.door);
    send(&mut busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    house.held.recv_timeout(PATIENCE).unwrap();
    assert_refused(&mut busy, 504);
    assert_eq!(get(&mut call(&house.door), "/").status, 200);
}

#[test]
fn large_bodies_have_a_bound_together() {
    let limits = InboundLimits { body_bytes_max: 100_000, large_bodies_bytes_max: 100_000, ..free() };
    let house = open_box(limits);
    let body = "b".repeat(60_000);
    let whole = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{body}");
    let chunks = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nEA60\r\n{body}\r\n0\r\n\r\n"
    );
    for text in [whole, chunks] {
        let mut stalled = call(&house.door);
        send(&mut stalled, &text[..40_000]);
        until("its share is taken", || house.door.house.large_bodies.take(100_000, Duration::ZERO).is_none());
        // A small body needs none of it; a large one makes the stalled one give its share back.
        let mut client = call(&house.door);
        send(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(read_answer(&mut client).status, 200);
        send(&mut client, &text);
        assert!(read_answer(&mut client).text().ends_with(&body));
        assert_ended(&mut stalled);
    }
    assert_eq!(house.door.counters().evicted, 2);
}
