//! The access_token and the ticket under faults: what becomes of them, what it costs, and that nobody gets to read them.

use crate::bench::*;
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;
use tubox::collector::{Step, Tried};
use tubox::ground::clock::Clock;
use tubox::ground::media_id::MediaId;
use tubox::simulator::plan::passing_faults;
use tubox::simulator::*;

#[test]
fn a_token_that_stays_refused_makes_two_calls_a_pause() {
    for code in [40001, 40014, 42001] {
        let mut bench = Bench::warm();
        bench.upload_and_submit(5);
        refuse_all(&bench, code);
        let mut pauses = 0;
        while bench.truth.monotonic() < Duration::from_secs(3600) + 12 * HOUR {
            let before = bench.media_calls();
            match bench.step() {
                Step::Idle(wait) => bench.advance(wait),
                Step::Tried(tried) => {
                    assert_eq!(tried, Tried::Paused);
                    assert_eq!(bench.media_calls() - before, 2, "{code}");
                    pauses += 1;
                }
            }
            bench.rooms().wechat.keep();
        }
        assert!((50..120).contains(&pauses), "{pauses} pauses in 12 hours");
        // One normal call a pause, forced ones within our own bounds, and the keeper's.
        assert!(
            bench.token_calls() < pauses + 10 + 40,
            "{} token calls, {pauses} pauses",
            bench.token_calls()
        );
        assert!(bench.stands().values().all(|stand| *stand == Stand::Waiting(None)));
        bench.simulator.clear_faults();
        bench.drain_within(11 * MINUTE);
        bench.check_promises();
    }
}

/// Something that happens to the token.
type Lever = fn(&Simulator);

#[test]
fn a_stolen_an_expired_and_a_wedged_token_cost_one_renewal_and_no_picture() {
    let levers: [(Lever, u64); 3] =
        [(Simulator::expire_token, 1), (Simulator::steal_token, 1), (Simulator::wedge_token, 2)];
    for (lever, token_calls) in levers {
        let mut bench = Bench::warm();
        let ids = bench.upload_and_submit(10);
        for _ in 0..5 {
            bench.try_one();
        }
        let before = bench.token_calls();
        lever(&bench.simulator);
        bench.work_now();
        assert_eq!(bench.token_calls() - before, token_calls);
        assert_eq!(bench.media_calls(), ids.len() as u64 + 1);
        bench.check_promises();
    }
}

#[test]
fn a_hundred_threads_with_a_dead_token_make_one_renewal() {
    let levers: [(Lever, u64); 2] = [(Simulator::expire_token, 1), (Simulator::wedge_token, 2)];
    for (lever, token_calls) in levers {
        // A hundred threads at once: on a busy machine some wait longer for an answer than a stall may last.
        let bench = Bench::with(BenchOptions { stall: MINUTE, ..BenchOptions::default() });
        bench.rooms().wechat.keep();
        let id = MediaId::parse(&bench.upload()).unwrap();
        let before = bench.token_calls();
        lever(&bench.simulator);
        let start = Barrier::new(100);
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    start.wait();
                    let fetched = bench.rooms().wechat.fetch(&id);
                    assert!(fetched.is_ok(), "{:?}", fetched.err());
                });
            }
        });
        assert_eq!(bench.token_calls() - before, token_calls);
        assert!(bench.media_calls() <= 200);
    }
}

#[test]
fn a_restart_spends_no_token_call_and_another_boot_asks_again() {
    let mut bench = Bench::warm();
    bench.submit_one();
    bench.drain();
    assert_eq!(bench.token_calls(), 1);
    for _ in 0..3 {
        bench.advance(10 * MINUTE);
        bench.reopen();
        bench.submit_one();
        bench.drain();
    }
    assert_eq!(bench.token_calls(), 1);
    bench.reboot(0);
    bench.submit_one();
    bench.drain();
    assert_eq!(bench.token_calls(), 2);
    bench.check_promises();
}

/// Each way of the network to fail, on the calls behind the pictures: token and ticket.
#[test]
fn credentials_survive_every_passing_fault() {
    for (route, fault) in passing_faults(STALL * 2) {
        if !matches!(route, Route::StableToken | Route::GetTicket) {
            continue;
        }
        let mut bench = Bench::new();
        let id = bench.submit_one();
        bench.simulator.queue_fault(route, fault.clone());
        for _ in 0..3 {
            let wait = bench.rooms().wechat.keep();
            bench.drain_for(wait);
            bench.advance(wait.min(MINUTE));
        }
        assert_eq!(bench.stand(&id), Stand::Saved, "{} {fault:?}", route.name());
        assert!(
            bench.rooms().wechat.sign("https://pics.example.org/").is_some(),
            "{} {fault:?}",
            route.name()
        );
        assert!(bench.token_calls() <= 3 && bench.simulator.calls(Route::GetTicket) <= 3, "{fault:?}");
        bench.check_promises();
    }
}

#[test]
fn faults_and_logs_hold_no_token() {
    let bench = Bench::warm();
    let id = bench.upload();
    let mut seen = BTreeSet::new();
    for (route, fault) in passing_faults(STALL * 2) {
        if route == Route::MediaGet {
            bench.simulator.always(Route::MediaGet, fault);
            if let Err(fault) = bench.rooms().wechat.fetch(&MediaId::parse(&id).unwrap()) {
                seen.insert(format!("{fault} {fault:?}"));
            }
        }
    }
    bench.simulator.set_outage(true);
    seen.insert(fetch_fault_of(&bench.rooms().wechat, &id).to_string());
    assert!(seen.len() > 8);
    assert!(seen.iter().all(|text| !text.contains("98_") && !text.contains("access_token=")), "{seen:#?}");
}
