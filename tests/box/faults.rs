//! Everything that WeChat and the network are known to do wrong, one by one: what becomes of the picture, what
//! everybody else has to wait for, and how many calls it costs.

use crate::bench::{
    Bench, BenchOptions, HOUR, MINUTE, RETRY_MAX, SECOND, SIM, STALL, Stand, dead_address, refuse_all,
};
use crate::program::{PATIENCE, Program, ask, simulator};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tubox::collector::{Step, Tried, WORKERS_PER_TURN};
use tubox::ground::clock::Clock;
use tubox::ground::stop::Stop;
use tubox::simulator::{
    DEVTOOLS_MEDIA_ID, ErrorReply, Fault, HostileName, Quota, Route, Simulator, SimulatorOptions,
};
use tubox::wechat::TokenKind;
use tubox::wechat::fault::{self, Outcome, PauseLength};

/// How the first try ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Saved,
    /// Counted against the picture, under this code.
    Waits(&'static str),
    Fails(&'static str),
    /// Everybody waits; nothing is counted.
    Pauses(&'static str),
}

/// One try of a picture whose next fetch suffers `fault`; then all is well again.
fn meets(bench: &mut Bench, fault: Fault, expected: First, calls: u64) {
    let case = format!("{fault:?}");
    let id = bench.submit_one();
    let before = bench.media_calls();
    let made = |bench: &Bench| bench.media_calls() - before;
    bench.simulator.always_for_media(&id, fault);
    let tried = bench.try_one();
    let seen = match (&tried, bench.stand(&id), bench.paused_code()) {
        (Tried::Saved, Stand::Saved, None) => "saved".to_owned(),
        (Tried::Postponed, Stand::Waiting(Some(code)), None) => format!("waits {code}"),
        (Tried::Failed, Stand::Failed(code), None) => format!("fails {code}"),
        (Tried::Paused, Stand::Waiting(None), Some(code)) => format!("pauses {code}"),
        other => format!("{other:?}"),
    };
    let wanted = match expected {
        First::Saved => "saved".to_owned(),
        First::Waits(code) => format!("waits {code}"),
        First::Fails(code) => format!("fails {code}"),
        First::Pauses(code) => format!("pauses {code}"),
    };
    assert_eq!(seen, wanted, "{case}");
    assert_eq!(made(bench), calls, "calls: {case}");
    bench.simulator.clear_faults();
    bench.drain();
    match expected {
        First::Fails(_) => assert_eq!(made(bench), calls, "it was asked for again: {case}"),
        _ => assert_eq!(bench.stand(&id), Stand::Saved, "{case}"),
    }
    assert_eq!(bench.paused(), None, "{case}");
}

#[test]
fn whatever_arrives_whole_is_kept() {
    let mut bench = Bench::warm();
    let odd = [
        Fault::Good,
        Fault::NoLength,
        Fault::Chunked,
        Fault::Trickle { bytes: 700, pause: STALL / 10 },
        Fault::Delay(STALL / 5),
        Fault::Interim(100),
        Fault::Interim(103),
        Fault::LongHead { bytes: 10_000 },
        Fault::NoDisposition,
        Fault::ContentType("text/plain".into()),
        Fault::ContentType("application/json; encoding=utf-8".into()),
        Fault::ContentType(String::new()),
    ];
    for fault in odd.into_iter().chain(HostileName::ALL.map(Fault::hostile_name)) {
        meets(&mut bench, fault, First::Saved, 1);
    }
    bench.check_promises();
}

#[test]
fn whatever_arrives_damaged_is_asked_for_again() {
    let mut bench = Bench::warm();
    let dressed = |code, content_type: &str| Fault::code_as(code, content_type);
    let as_string = Fault::Error(ErrorReply { code_as_string: true, ..ErrorReply::of(40007) });
    let control = Fault::Error(ErrorReply { control_characters: true, ..ErrorReply::of(40007) });
    let stall = |after_body_bytes| Fault::Stall { after_body_bytes, hold: STALL * 4 };
    let damaged = [
        (Fault::code(40007), "40007"),
        (dressed(40007, "image/jpeg"), "40007"),
        (dressed(40007, "text/plain"), "40007"),
        (dressed(40007, "application/json; encoding=utf-8"), "40007"),
        (as_string, "40007"),
        (control, "40007"),
        (Fault::code(-1), "-1"),
        (Fault::code(99_999), "99999"),
        (Fault::EmptyBody, "empty-body"),
        (Fault::ShortBody { missing: 1 }, "short-body"),
        (Fault::ShortBody { missing: 2000 }, "short-body"),
        (Fault::ShortBody { missing: usize::MAX }, "short-body"),
        (Fault::NoLengthCut { missing: 1 }, "not-whole"),
        (Fault::NoLengthCut { missing: 2000 }, "not-whole"),
        (Fault::ChunkedCut, "short-body"),
        (Fault::ChunkedCutBetween, "short-body"),
        (Fault::Status(404), "http-status"),
        (Fault::Status(500), "http-status"),
        (Fault::Status(502), "http-status"),
        (Fault::Status(503), "http-status"),
        (Fault::Redirect("http://203.0.113.99/x".into()), "http-status"),
        (Fault::ResetBeforeAnswer, "no-answer"),
        (Fault::CloseBeforeAnswer, "no-answer"),
        (stall(None), "no-answer"),
        (Fault::ResetMidBody, "reset"),
        (stall(Some(0)), "stalled"),
        (stall(Some(700)), "stalled"),
        (Fault::Garbage, "garbage"),
        (Fault::FalseGzip, "garbage"),
    ];
    for (fault, code) in damaged {
        meets(&mut bench, fault, First::Waits(code), 1);
    }
    meets(&mut bench, Fault::CaptivePortal, First::Pauses("captive-portal"), 1);
    meets(&mut bench, Fault::VideoUrl, First::Fails("not-a-picture"), 1);
    meets(&mut bench, Fault::Endless, First::Fails("too-large"), 1);
    meets(&mut bench, Fault::Oversized { bytes: 5 << 20 }, First::Fails("too-large"), 1);
    bench.check_promises();
}

#[test]
fn other_bytes_are_no_pictures_and_half_ones_are_given_up_in_the_end() {
    let mut bench = Bench::warm();
    let others: [&[u8]; 4] = [b"hello", b"%PDF-1.7 and so on", b"\x1f\x8b\x08\0\0\0\0\0", &[0; 600]];
    for other in others {
        let id = bench.simulator.upload(other, "image/jpeg");
        bench.submit(&[&id]);
        assert_eq!(bench.try_one(), Tried::Failed);
        assert_eq!(bench.stand(&id), Stand::Failed("not-a-picture".into()));
    }
    let mut half = crate::bench::picture(5);
    half.truncate(1000);
    let id = bench.simulator.upload(half, "image/jpeg");
    bench.submit(&[&id]);
    let before = bench.media_calls();
    bench.drain();
    assert_eq!(bench.stand(&id), Stand::Failed("not-whole".into()));
    assert_eq!(bench.media_calls() - before, 6);
    bench.check_promises();
}

/// Every code of the documentation, as the answer to media/get: its class, and that nothing is lost by it.
#[test]
fn every_code_has_its_rule() {
    let documented: [i64; 30] = [
        -1, 40001, 40002, 40007, 40013, 40014, 40125, 40164, 40243, 41001, 41002, 41004, 41006, 42001, 43002,
        45009, 45011, 48001, 48004, 50002, 50004, 61004, 89501, 89502, 89503, 89504, 89505, 89506, 89507,
        123_456,
    ];
    let mut bench = Bench::warm();
    for code in documented {
        let text: &'static str = code.to_string().leak();
        let entry = fault::entry(text);
        let (first, calls) = match entry.outcome {
            Outcome::RenewCredential => (First::Pauses(text), 2),
            Outcome::Pause(_) | Outcome::Operator => (First::Pauses(text), 1),
            Outcome::RetryLater | Outcome::RetryTogether | Outcome::RetryAFewTimes(_) => {
                (First::Waits(text), 1)
            }
            Outcome::Gone | Outcome::NotAPicture => panic!("{code}: no code says that a picture is gone"),
        };
        assert_eq!(entry.code == "unknown", code == 123_456, "{code}");
        meets(&mut bench, Fault::code(code), first, calls);
    }
    bench.check_promises();
}

#[test]
fn an_unknown_code_is_given_up_after_some_tries_with_code_and_text() {
    let mut bench = Bench::warm();
    let id = bench.submit_one();
    refuse_all(&bench, 77_777);
    bench.drain();
    let failed = bench.rooms().queue.failed(9).remove(0);
    assert_eq!((failed.media_id.as_str(), failed.code.as_str()), (id.as_str(), "77777"));
    assert!(failed.detail.contains("unspecified error"), "{}", failed.detail);
    assert_eq!(bench.media_calls(), 8);
    assert_eq!(bench.rooms().queue.retry(None), 1);
    bench.simulator.clear_faults();
    bench.drain();
    assert_eq!(bench.stand(&id), Stand::Saved);
}

/// While the account as a whole is refused, nobody's attempt is counted, the calls are few, and when it is
/// mended all come home by themselves.
#[test]
fn account_wide_faults_cost_no_picture_anything() {
    // Code, calls allowed in 12 hours, and how soon it goes on after it was mended.
    let cases = [
        (40164, 90, 11 * MINUTE),
        (61004, 90, 11 * MINUTE),
        (89503, 90, 11 * MINUTE),
        (89506, 13, 61 * MINUTE),
        (89507, 13, 61 * MINUTE),
        (40125, 90, 11 * MINUTE),
        (40013, 90, 11 * MINUTE),
        (40243, 90, 11 * MINUTE),
        (48001, 90, 11 * MINUTE),
        (45009, 14, 61 * MINUTE),
        (45011, 12 * 60, 2 * MINUTE),
        (50002, 90, 11 * MINUTE),
        (50004, 90, 11 * MINUTE),
    ];
    for (code, calls_max, goes_on_within) in cases {
        let mut bench = Bench::warm();
        let ids = bench.upload_and_submit(6);
        refuse_all(&bench, code);
        bench.drain_for(12 * HOUR);
        let paused = bench.paused().unwrap();
        assert_eq!(paused.code, code.to_string());
        assert!(!paused.remedy.zh.is_empty() && !paused.reason.zh.is_empty() && !paused.detail.is_empty());
        assert!(bench.media_calls() <= calls_max, "{code}: {} calls", bench.media_calls());
        assert!(ids.iter().all(|id| bench.attempts(id) == 0), "{code}");
        bench.simulator.clear_faults();
        let passed = bench.drain();
        assert!(passed <= goes_on_within, "{code}: went on after {passed:?}");
        assert_eq!(bench.saved(), ids.len());
        bench.check_promises();
    }
}

/// The same where WeChat refuses the token already, by its own rules and not by script.
#[test]
fn a_missing_whitelist_entry_names_the_address_and_a_mended_one_is_noticed() {
    let mut bench = Bench::new();
    bench.upload_and_submit(3);
    bench.simulator.set_egress_ip("198.51.100.23".parse().unwrap());
    bench.simulator.allow_ips(Some(vec!["203.0.113.7".parse().unwrap()]));
    bench.drain_for(3 * HOUR);
    let paused = bench.paused().unwrap();
    assert_eq!(paused.code, "40164");
    assert!(paused.detail.contains("198.51.100.23"), "{}", paused.detail);
    assert_eq!(bench.media_calls(), 0);
    assert!(bench.token_calls() < 40, "{} token calls", bench.token_calls());
    bench.simulator.allow_ips(None);
    bench.drain_within(11 * MINUTE);
    bench.check_promises();
}

#[test]
fn used_up_quotas_wait_for_their_minute_and_their_day() {
    let mut bench = Bench::warm();
    bench.upload_and_submit(12);
    bench.simulator.set_quota(Route::MediaGet, Quota { per_minute: Some(5), per_day: None });
    let passed = bench.drain();
    assert!(passed <= 4 * MINUTE, "{passed:?}");
    assert!(bench.media_calls() <= 12 + 3, "{}", bench.media_calls());

    let today = bench.media_calls();
    bench.upload_and_submit(10);
    bench.simulator.set_quota(Route::MediaGet, Quota { per_minute: None, per_day: Some(today + 4) });
    let passed = bench.drain();
    // It is noon in China.
    assert!(passed > 10 * HOUR && passed < 13 * HOUR, "{passed:?}");
    assert!(bench.media_calls() - today <= 10 + 14, "{}", bench.media_calls() - today);
    bench.check_promises();
}

#[test]
fn a_wrong_secret_is_told_and_costs_nothing() {
    for (kind, code) in [(TokenKind::Stable, "40125"), (TokenKind::Classic, "40001")] {
        let options =
            BenchOptions { token: kind, app_secret: Some("wrong".into()), ..BenchOptions::default() };
        let mut bench = Bench::with(options);
        let id = bench.submit_one();
        bench.drain_for(HOUR);
        assert_eq!(bench.paused_code().as_deref(), Some(code));
        assert_eq!((bench.attempts(&id), bench.media_calls()), (0, 0));
        assert!(bench.token_calls() <= 15, "{}", bench.token_calls());
    }
}

#[test]
fn invalid_media_id_is_no_proof_of_death() {
    let mut bench = Bench::warm();
    let (comes_late, never_comes) = (bench.upload(), "a".repeat(43));
    bench.submit(&[comes_late.as_str(), &never_comes, DEVTOOLS_MEDIA_ID]);
    bench.simulator.always_for_media(&comes_late, Fault::code(40007));
    bench.drain_for(62 * HOUR);
    assert_eq!(bench.stand(DEVTOOLS_MEDIA_ID), Stand::Failed("fake-id".into()));
    assert_eq!(bench.stand(&comes_late), Stand::Waiting(Some("40007".into())));
    assert_eq!(bench.paused(), None);
    let calls = bench.media_calls();
    assert!((60..160).contains(&calls), "{calls} calls for two ids in 62 hours");
    bench.simulator.clear_faults();
    let passed = 62 * HOUR + bench.drain();
    assert_eq!(bench.stand(&comes_late), Stand::Saved);
    assert_eq!(bench.stand(&never_comes), Stand::Failed("expired".into()));
    // The last try was at the deadline itself.
    assert!(passed >= 72 * HOUR && passed < 72 * HOUR + MINUTE, "{passed:?}");
    let failed = bench.rooms().queue.failed(9).into_iter().find(|failed| failed.code == "expired").unwrap();
    assert!(failed.detail.contains("40007"), "{}", failed.detail);
    bench.check_promises();
}

/// An outage is one fact: few probes, no attempts counted, and all goes on at once when it is over. Here WeChat
/// takes the calls and does not answer.
#[test]
fn an_outage_without_answers_is_one_fact() {
    let mut bench = Bench::warm();
    let ids = bench.upload_and_submit(40);
    bench.simulator.set_outage(true);
    bench.drain_for(6 * HOUR);
    assert_eq!(bench.paused_code().as_deref(), Some("no-answer"));
    let attempts: u32 = ids.iter().map(|id| bench.attempts(id)).sum();
    assert!(attempts <= 3, "{attempts} attempts were counted");
    let calls = bench.simulator.calls_total();
    assert!(calls < 6 * 3600 / 10, "{calls} calls in an outage of six hours");
    bench.simulator.set_outage(false);
    let passed = bench.drain();
    assert!(passed < 20 * SECOND, "went on after {passed:?}");
    bench.check_promises();
}

/// Here nobody listens, from the first moment on.
#[test]
fn an_outage_without_connections_is_one_fact() {
    let address = dead_address(1);
    let options = BenchOptions { origins: vec![format!("http://{address}")], ..BenchOptions::default() };
    let mut bench = Bench::with(options);
    let ids = bench.upload_and_submit(20);
    bench.drain_for(HOUR);
    bench.rooms().wechat.keep();
    assert_eq!(bench.paused_code().as_deref(), Some("network"));
    assert!(ids.iter().all(|id| bench.attempts(id) == 0));
    let faults = bench.rooms().door.counters().faults["connect_refused"];
    assert!(faults < 3600 / 7, "{faults} connections were tried in an hour");
    let back = simulator_at(&bench, address);
    let passed = bench.drain();
    assert!(passed < 30 * SECOND, "went on after {passed:?}");
    assert_eq!(back.calls(Route::MediaGet), 20);
    bench.check_promises();
}

/// Another simulator, with the pictures of the bench's.
fn simulator_at(bench: &Bench, listen: std::net::SocketAddr) -> Simulator {
    let options = SimulatorOptions::loopback(bench.truth.clone(), bench.random.clone());
    let back = Simulator::start(SimulatorOptions { listen, ..options }).unwrap();
    for id in bench.simulator.uploaded_ids() {
        back.upload_as(&id, bench.simulator.uploaded(&id).unwrap(), "image/jpeg");
    }
    back
}

#[test]
fn a_server_that_is_down_is_one_fact_too() {
    for fault in [Fault::Status(502), Fault::code(-1)] {
        let mut bench = Bench::warm();
        let ids = bench.upload_and_submit(20);
        bench.simulator.always(Route::MediaGet, fault);
        bench.drain_for(HOUR);
        assert!(ids.iter().map(|id| bench.attempts(id)).sum::<u32>() <= 3);
        assert!(bench.media_calls() < 3600 / 10, "{}", bench.media_calls());
        bench.simulator.clear_faults();
        assert!(bench.drain() < 20 * SECOND);
        bench.check_promises();
    }
}

#[test]
fn the_next_host_is_asked_and_remembered_for_a_while() {
    let dead = dead_address(2);
    let origins = vec![format!("http://{dead}"), SIM.to_owned()];
    let mut bench = Bench::with(BenchOptions { origins, ..BenchOptions::default() });
    let refused =
        |bench: &Bench| bench.rooms().door.counters().faults.get("connect_refused").copied().unwrap_or(0);
    bench.upload_and_submit(10);
    assert_eq!(bench.work_now(), 30 * SECOND);
    assert_eq!(bench.paused(), None);
    assert_eq!(refused(&bench), 1, "the host that is down was asked again and again");
    bench.advance(11 * MINUTE);
    bench.upload_and_submit(5);
    bench.work_now();
    assert_eq!(refused(&bench), 2, "after a while the first one gets its chance");
    bench.check_promises();
}

#[test]
fn a_host_that_takes_calls_and_is_mute_is_passed_over() {
    let mute = Bench::new();
    mute.simulator.set_outage(true);
    let origins = vec![mute.simulator.base_url(), SIM.to_owned()];
    let mut bench = Bench::with(BenchOptions { origins, ..BenchOptions::default() });
    bench.upload_and_submit(5);
    bench.work_now();
    assert_eq!(mute.simulator.calls_total(), 1);
    bench.check_promises();
}

#[test]
fn what_has_the_least_time_left_comes_first() {
    let mut bench = Bench::warm();
    // Ids are random, so their own order cannot be taken for the deadlines'.
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(bench.submit_one());
        bench.advance(MINUTE);
    }
    // The oldest has to wait a while, and is first again when it is due.
    bench.simulator.queue_media_fault(&ids[0], Fault::code(40007));
    assert_eq!(bench.try_one(), Tried::Postponed);
    let mut order = Vec::new();
    for index in 0..10 {
        if index == 4 {
            bench.advance(5 * MINUTE);
        }
        assert_eq!(bench.try_one(), Tried::Saved);
        let stands = bench.stands();
        let newly = ids.iter().find(|id| stands[*id] == Stand::Saved && !order.contains(id)).unwrap();
        order.push(newly);
    }
    let expected: Vec<&String> = [1, 2, 3, 4, 0, 5, 6, 7, 8, 9].map(|index: usize| &ids[index]).to_vec();
    assert_eq!(order, expected);
}

/// An id with a fault of its own, of any kind, does not keep the others away.
#[test]
fn a_poor_id_starves_nobody() {
    let poor_ways = [
        Fault::code(40007),
        Fault::code(48001),
        Fault::code(40001),
        Fault::CaptivePortal,
        Fault::ResetBeforeAnswer,
        Fault::Status(503),
        Fault::ShortBody { missing: 9 },
    ];
    for fault in poor_ways {
        let mut bench = Bench::warm();
        let poor = bench.submit_one();
        bench.simulator.always_for_media(&poor, fault.clone());
        let mut worst = Duration::ZERO;
        for _ in 0..40 {
            let id = bench.submit_one();
            let started = bench.truth.monotonic();
            while bench.stand(&id) != Stand::Saved {
                if let Step::Idle(wait) = bench.step() {
                    bench.advance(wait.min(SECOND));
                }
            }
            worst = worst.max(bench.truth.monotonic() - started);
            bench.drain_for(MINUTE);
        }
        assert!(worst <= 2 * MINUTE, "{fault:?}: somebody waited {worst:?}");
        assert!(matches!(bench.stand(&poor), Stand::Waiting(_)), "{fault:?}");
        let calls = bench.media_calls();
        assert!(calls < 40 + 160, "{fault:?}: {calls} calls");
        bench.simulator.clear_faults();
        bench.drain_within(RETRY_MAX + MINUTE);
        bench.check_promises();
    }
}

/// Worker threads and the one that commits, as the appliance has them, for as long as `during` runs.
fn with_workers(bench: &Bench, count: usize, during: impl FnOnce()) {
    let stop = Stop::new();
    std::thread::scope(|scope| {
        scope.spawn(|| bench.collector().land());
        std::thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| bench.collector().work(&stop));
            }
            during();
            stop.ask();
            bench.rooms().queue.bell().ring();
            bench.rooms().door.close();
        });
        bench.collector().close_landing();
    });
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn one_slow_download_does_not_hold_the_others() {
    let mut bench = Bench::warm();
    let slow = bench.submit_one();
    bench.simulator.always_for_media(&slow, Fault::Trickle { bytes: 1, pause: STALL / 5 });
    let others = bench.upload_and_submit(20);
    with_workers(&bench, 2, || {
        wait_until("the others are home", || bench.rooms().queue.counts().saved == 20);
        wait_until("one is left", || bench.rooms().queue.counts().claimed == 1);
    });
    assert!(others.iter().all(|id| bench.stand(id) == Stand::Saved));
}

#[test]
fn never_more_downloads_than_turns() {
    let mut bench = Bench::warm();
    bench.upload_and_submit(30);
    bench.simulator.always(Route::MediaGet, Fault::Delay(STALL / 10));
    // Claimed are also those that have come and wait for their commit; passages are downloads, and one is the keeper's.
    let mut most = 0;
    with_workers(&bench, 4 * WORKERS_PER_TURN, || {
        wait_until("all are home", || {
            most = most.max(bench.rooms().door.counters().passages_open);
            bench.rooms().queue.counts().saved == 30
        });
    });
    assert!((4..=5).contains(&most), "{most}");
    assert_eq!(bench.media_calls(), 30);
    bench.check_promises();
}

/// The next one to come, once all of its request has been heard that fits into a packet.
fn next_request(wechat: &TcpListener) -> TcpStream {
    let (mut stream, _) = wechat.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    stream
}

fn begin_answer(stream: &mut TcpStream, content_type: &str, length: usize) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
}

/// A slow line, played by hand: 400 ms to the head of an answer, a second for its body.
#[test]
fn the_next_picture_is_asked_for_a_little_before_the_last_one_has_come() {
    const PIECE: &[u8] = &[0x55; 500];
    const PIECES: u32 = 200;
    let wechat = TcpListener::bind("127.0.0.1:0").unwrap();
    let origins = vec![format!("http://{}", wechat.local_addr().unwrap())];
    let mut bench = Bench::with(BenchOptions { downloads: 1, origins, ..BenchOptions::default() });
    bench.upload_and_submit(2);
    with_workers(&bench, WORKERS_PER_TURN, || {
        let token = br#"{"access_token":"TOKEN","expires_in":7200}"#;
        let mut asks_for_token = next_request(&wechat);
        begin_answer(&mut asks_for_token, "application/json", token.len());
        asks_for_token.write_all(token).unwrap();
        let mut first = next_request(&wechat);
        bench.advance(Duration::from_millis(400));
        begin_answer(&mut first, "image/jpeg", PIECE.len() * usize::try_from(PIECES).unwrap());
        first.write_all(&[b"\xff\xd8\xff\xe0\0\x10JFIF\0", &PIECE[11..]].concat()).unwrap();
        wechat.set_nonblocking(true).unwrap();
        let mut came = 1;
        while wechat.accept().is_err() {
            came += 1;
            assert!(came < PIECES, "nobody asked for the second picture before the first one was whole");
            first.write_all(PIECE).unwrap();
            std::thread::park_timeout(Duration::from_millis(2));
            bench.advance(Duration::from_millis(5));
        }
        assert!(
            came > PIECES / 3,
            "the second picture was asked for after {came} of {PIECES} pieces of the first"
        );
    });
}

/// A picture of 64 MiB passes through the real binary in the memory of a small one.
#[test]
fn a_large_picture_needs_no_more_memory_than_a_small_one() {
    let peak = |bytes: usize| {
        let simulator = simulator();
        let id = simulator.upload(bitmap(bytes), "image/bmp");
        let program = Program::serve(&simulator, &[("TUBOX_LIMITS_OPEN_SUBMIT", "true")]);
        let body = format!("{{\"imgIds\":[\"{id}\"]}}");
        let json = ("Content-Type", "application/json");
        let reply = ask(program.address, "POST", "/uploadImgData", &[json], body.as_bytes()).json();
        let view = program.settled(reply["receipt"].as_str().unwrap());
        assert_eq!(view["pictures"][0]["state"], "saved", "{view}");
        program.peak_memory_bytes()
    };
    let (small, large) = (peak(100_000), peak(64 << 20));
    assert!(large < small + (4 << 20), "{small} bytes for a small picture, {large} for a large one");
}

/// A whole BMP of this length.
fn bitmap(bytes: usize) -> Vec<u8> {
    let mut picture = b"BM".to_vec();
    picture.extend(u32::try_from(bytes).unwrap().to_le_bytes());
    picture.extend(b"\0\0\0\0\x36\0\0\0\x28\0\0\0");
    picture.resize(bytes, 0x5a);
    picture
}

/// The lengths of the pauses that are WeChat's own.
#[test]
fn pauses_have_their_lengths() {
    for (code, length) in [
        ("45009", PauseLength::NextDay),
        ("45011", PauseLength::Minute),
        ("89506", PauseLength::NextDay),
        ("89507", PauseLength::Hour),
        ("network", PauseLength::UntilProbe),
        ("clock", PauseLength::UntilProbe),
    ] {
        assert_eq!(fault::entry(code).outcome, Outcome::Pause(length));
    }
}
