//! Every fault, as it looks to a client.

use super::*;
use std::io::ErrorKind;

struct Fetch {
    stage: Stage,
    token: String,
    media_id: String,
    bytes: Vec<u8>,
}

impl Fetch {
    fn new() -> Fetch {
        let stage = Stage::new();
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        let media_id = stage.simulator.upload(bytes.clone(), "image/jpeg");
        let token = stage.token();
        Fetch { stage, token, media_id, bytes }
    }

    /// The next fetch, under `fault`.
    fn under(&self, fault: Fault) -> Reply {
        self.stage.simulator.queue_fault(Route::MediaGet, fault);
        self.stage.media(&self.token, &self.media_id)
    }
}

#[test]
fn errors_come_in_every_dress() {
    let fetch = Fetch::new();
    for content_type in ["image/jpeg", "text/plain", "application/json; charset=utf-8"] {
        let reply = fetch.under(Fault::code_as(48001, content_type));
        assert_eq!((reply.status, reply.errcode()), (200, 48001));
        assert_eq!(reply.header("content-type"), Some(content_type));
    }
    let reply = fetch.under(Fault::Error(ErrorReply { code_as_string: true, ..ErrorReply::of(40007) }));
    assert_eq!(reply.json()["errcode"], "40007");
    let reply = fetch.under(Fault::Error(ErrorReply { control_characters: true, ..ErrorReply::of(-1) }));
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err());
    assert!(reply.body.contains(&0x0b));
    for code in
        [-1, 40001, 40013, 40243, 45009, 45011, 48004, 50002, 50004, 61004, 89501, 89503, 89506, 89507]
    {
        let reply = fetch.under(Fault::code(code));
        assert_eq!(reply.errcode(), code);
        assert_ne!(
            reply.json()["errmsg"].as_str().unwrap().split(" rid: ").next(),
            Some("unspecified error")
        );
    }
    fetch.stage.assert_no_violation();
}

#[test]
fn bodies_end_too_early_or_without_a_length() {
    let fetch = Fetch::new();
    let all = &fetch.bytes;
    let short = fetch.under(Fault::ShortBody { missing: 7 });
    assert_eq!((short.header("content-length"), short.body.len()), (Some("20000"), 19_993));
    let none = fetch.under(Fault::EmptyBody);
    assert_eq!((none.header("content-length"), none.header("content-type")), (Some("0"), Some("image/jpeg")));
    let open = fetch.under(Fault::NoLength);
    assert_eq!((open.header("content-length"), &open.body), (None, all));
    let cut = fetch.under(Fault::NoLengthCut { missing: 5 });
    assert_eq!((cut.header("content-length"), cut.body.len()), (None, 19_995));
    assert_eq!(cut.body, all[..19_995]);
    fetch.stage.assert_no_violation();
}

#[test]
fn chunked_bodies_are_whole_or_cut() {
    let fetch = Fetch::new();
    let whole = fetch.under(Fault::Chunked);
    assert_eq!(whole.header("transfer-encoding"), Some("chunked"));
    assert_eq!(unchunked(&whole.body), Some(fetch.bytes.clone()));
    for fault in [Fault::ChunkedCut, Fault::ChunkedCutBetween] {
        assert_eq!(unchunked(&fetch.under(fault).body), None);
    }
}

fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
        let from = line + 2;
        whole.extend_from_slice(body.get(from..from + size)?);
        body = body.get(from + size..)?.strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some(whole);
        }
    }
}

#[test]
fn resets_are_resets_and_closes_are_closes() {
    let fetch = Fetch::new();
    let before = fetch.under(Fault::ResetBeforeAnswer);
    assert_eq!((before.raw.len(), before.broken), (0, Some(ErrorKind::ConnectionReset)));
    let within = fetch.under(Fault::ResetMidBody);
    assert_eq!(within.broken, Some(ErrorKind::ConnectionReset));
    assert!(within.body.len() < fetch.bytes.len());
    let closed = fetch.under(Fault::CloseBeforeAnswer);
    assert_eq!((closed.raw.len(), closed.broken), (0, None));
}

#[test]
fn stalls_hold_and_trickles_flow() {
    let fetch = Fetch::new();
    let hold = Duration::from_millis(300);
    let nearly = Duration::from_millis(250); // the two clocks are not read at the same moment
    let clock = crate::ground::clock::SystemClock::shared();
    let started = clock.monotonic();
    let silent = fetch.under(Fault::Stall { after_body_bytes: None, hold });
    assert!(clock.monotonic() - started >= nearly);
    assert!(silent.raw.is_empty());
    let started = clock.monotonic();
    let begun = fetch.under(Fault::Stall { after_body_bytes: Some(100), hold });
    assert!(clock.monotonic() - started >= nearly);
    assert_eq!((begun.body.len(), begun.header("content-length")), (100, Some("20000")));
    let started = clock.monotonic();
    let slow = fetch.under(Fault::Trickle { bytes: 2000, pause: Duration::from_millis(10) });
    assert!(clock.monotonic() - started >= Duration::from_millis(80));
    assert_eq!(slow.body, fetch.bytes);
    assert_eq!(fetch.under(Fault::Delay(Duration::from_millis(1))).body, fetch.bytes);
}

#[test]
fn a_stalled_client_that_breaks_off_frees_its_place() {
    let stage = Stage::with(|options| options.connections_max = 2);
    stage.simulator.always(Route::Script, Fault::stall());
    let mut stalled = TcpStream::connect(stage.simulator.address()).unwrap();
    stalled.write_all(b"GET /open/js/jweixin-1.6.0.js HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait_until("the call arrives", || stage.simulator.calls(Route::Script) == 1);
    assert_eq!(stage.get("/sim/violations").status, 200, "one place is left");
    socket2::SockRef::from(&stalled).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stalled);
    // The second place is taken by a connection that says nothing; the first must become free for the last one.
    let _silent = TcpStream::connect(stage.simulator.address()).unwrap();
    wait_until("the stall gives its place back", || stage.get("/sim/violations").status == 200);
}

#[test]
fn bodies_too_big_and_without_end() {
    let fetch = Fetch::new();
    let big = fetch.under(Fault::Oversized { bytes: 1_000_000 });
    assert_eq!((big.header("content-length"), big.body.len()), (Some("1000000"), 1_000_000));
    assert!(big.body.starts_with(b"\xff\xd8\xff"));
    fetch.stage.simulator.queue_fault(Route::MediaGet, Fault::Endless);
    let mut stream = TcpStream::connect(fetch.stage.simulator.address()).unwrap();
    let target = format!("/cgi-bin/media/get?access_token={}&media_id={}", fetch.token, fetch.media_id);
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut taken = vec![0; 5_000_000];
    stream.read_exact(&mut taken).unwrap();
    assert!(!taken[..500].windows(14).any(|part| part.eq_ignore_ascii_case(b"content-length")));
}

#[test]
fn headers_lie() {
    let fetch = Fetch::new();
    let name = |reply: &Reply| reply.header("content-disposition").map(str::to_owned);
    for hostile in HostileName::ALL {
        let reply = fetch.under(Fault::hostile_name(hostile));
        assert_eq!(reply.body, fetch.bytes, "{hostile:?}");
        assert!(!name(&reply).unwrap().contains(&fetch.media_id), "{hostile:?}");
    }
    let latin1 = fetch.under(Fault::hostile_name(HostileName::Latin1));
    assert!(std::str::from_utf8(&latin1.raw[..latin1.head.len() - 10]).is_err());
    assert_eq!(name(&fetch.under(Fault::NoDisposition)), None);
    let plain = fetch.under(Fault::ContentType("text/plain".into()));
    assert_eq!((plain.header("content-type"), &plain.body), (Some("text/plain"), &fetch.bytes));
    assert_eq!(fetch.under(Fault::ContentType(String::new())).header("content-type"), None);
    let gzip = fetch.under(Fault::FalseGzip);
    assert_eq!((gzip.header("content-encoding"), &gzip.body), (Some("gzip"), &fetch.bytes));
    let long = fetch.under(Fault::LongHead { bytes: 10_000 });
    assert!(long.head.len() > 10_000);
    assert_eq!(long.body, fetch.bytes);
    fetch.stage.assert_no_violation();
}

#[test]
fn answers_that_are_not_wechats() {
    let fetch = Fetch::new();
    let portal = fetch.under(Fault::CaptivePortal);
    assert_eq!((portal.status, portal.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for status in [500, 502, 503] {
        assert_eq!(fetch.under(Fault::Status(status)).status, status);
    }
    assert!(!fetch.under(Fault::Garbage).raw.starts_with(b"HTTP/"));
    let interim = fetch.under(Fault::Interim(103));
    assert_eq!(interim.status, 103);
    assert!(interim.body.starts_with(b"HTTP/1.1 200 OK\r\n") && interim.body.ends_with(&fetch.bytes));
    let moved = fetch.under(Fault::Redirect("http://203.0.113.99/x".into()));
    assert_eq!((moved.status, moved.header("location")), (302, Some("http://203.0.113.99/x")));
    assert!(fetch.under(Fault::VideoUrl).json()["video_url"].is_string());
    assert_eq!(fetch.under(Fault::Good).body, fetch.bytes);
    fetch.stage.assert_no_violation();
}

#[test]
fn faults_can_belong_to_one_picture() {
    let fetch = Fetch::new();
    let other = fetch.stage.simulator.upload(vec![9], "image/gif");
    for _ in 0..2 {
        fetch.stage.simulator.queue_media_fault(&fetch.media_id, Fault::code(40007));
    }
    let code = |id: &str| fetch.stage.media(&fetch.token, id);
    assert_eq!(code(&fetch.media_id).errcode(), 40007);
    assert_eq!(code(&other).body, [9]);
    assert_eq!(code(&fetch.media_id).errcode(), 40007);
    assert_eq!(code(&fetch.media_id).body, fetch.bytes);
    fetch.stage.simulator.always_for_media(&other, Fault::code(40007));
    assert_eq!((code(&other).errcode(), code(&other).errcode()), (40007, 40007));
    fetch.stage.simulator.clear_faults();
    assert_eq!(code(&other).body, [9]);
}

#[test]
fn a_lost_answer_was_still_worked_for() {
    let stage = Stage::new();
    let old = stage.token();
    stage.simulator.queue_fault(Route::StableToken, Fault::ResetBeforeAnswer);
    stage.stable(true);
    assert_eq!(stage.ticket(&old).errcode(), 40001, "the refresh took place");
    stage.simulator.queue_fault(Route::StableToken, Fault::code(40164));
    stage.advance(31);
    let new = stage.token_after_error();
    assert_eq!(stage.ticket(&new).errcode(), 0);
}

impl Stage {
    fn token_after_error(&self) -> String {
        assert_eq!(self.stable(true).errcode(), 40164);
        self.token()
    }
}

#[test]
fn an_outage_ends_the_api_and_leaves_the_levers() {
    let stage = Stage::new();
    stage.simulator.set_outage(true);
    assert_eq!(stage.stable(false).broken, Some(ErrorKind::ConnectionReset));
    assert_eq!(stage.post_json("/sim/outage", &serde_json::json!({"on": false})).status, 200);
    assert_eq!(stage.stable(false).status, 200);
}

#[test]
fn a_random_plan_is_survived_by_trying_again() {
    let hold = Duration::from_millis(30);
    let menu = plan::passing_faults(hold);
    let fetch = Fetch::new();
    fetch.stage.simulator.set_plan(FaultPlan::random_from(42, 0.5, menu));
    let good =
        (0..60).filter(|_| fetch.stage.media(&fetch.token, &fetch.media_id).body == fetch.bytes).count();
    assert!((20..60).contains(&good), "{good} of 60 came through");
    fetch.stage.assert_no_violation();
}
