//! A box without a clock chip: it starts with any date, is set right while it runs, or never, and is switched
//! off and on. No wrong date ends a picture's life or prolongs it without end, and none stands unmarked in a
//! manifest.

use crate::bench::{Bench, BenchOptions, DAY, HOUR, MINUTE, NOW_MS, Stand, picture, refuse_all};
use std::time::Duration;
use tubox::ground::clock::{Clock, compact_utc, rfc3339_utc};
use tubox::simulator::{Fault, Route};

const MONTHS_MS: i64 = 7 * 30 * 86_400_000;
const YEAR_MS: i64 = 366 * 86_400_000;
/// How the box's wall clock is from the truth when it starts.
const OFF: [i64; 5] = [0, -MONTHS_MS, -30 * YEAR_MS, YEAR_MS, -3_600_000];

fn box_off_by(wall_off_ms: i64) -> Bench {
    Bench::with(BenchOptions { wall_off_ms, ..BenchOptions::default() })
}

/// Sets the machine's clock right, as NTP would.
fn set_right(bench: &Bench) {
    bench.clock.set_wall_ms(bench.truth.wall_ms());
}

#[test]
fn a_wrong_clock_ends_no_picture_and_keeps_none_for_ever() {
    for off_ms in OFF {
        for set_right_after in [Duration::ZERO, 2 * HOUR, 100 * DAY] {
            let case = format!("off by {off_ms} ms, set right after {set_right_after:?}");
            let mut bench = box_off_by(off_ms);
            let early = bench.submit_one();
            refuse_all(&bench, 40007);
            let mut passed = Duration::ZERO;
            while passed < 71 * HOUR {
                if passed >= set_right_after {
                    set_right(&bench);
                }
                passed += bench.drain_for(HOUR);
            }
            assert!(matches!(bench.stand(&early), Stand::Waiting(Some(_))), "{case}");
            let ended = passed + bench.drain_for(DAY);
            assert_eq!(bench.stand(&early), Stand::Failed("expired".into()), "{case}");
            assert!(ended < 72 * HOUR + 5 * MINUTE, "{case}: {ended:?}");
        }
    }
}

#[test]
fn a_clock_that_jumps_in_the_middle_changes_no_deadline() {
    for jump_ms in [-MONTHS_MS, YEAR_MS] {
        let mut bench = Bench::warm();
        let id = bench.submit_one();
        refuse_all(&bench, 40007);
        bench.drain_for(10 * HOUR);
        bench.clock.set_wall_ms(bench.truth.wall_ms() + jump_ms);
        bench.drain_for(61 * HOUR);
        assert_eq!(bench.stand(&id), Stand::Waiting(Some("40007".into())), "{jump_ms}");
        bench.drain_for(2 * HOUR);
        assert_eq!(bench.stand(&id), Stand::Failed("expired".into()), "{jump_ms}");
    }
}

/// Submitted on a box that has not heard from WeChat; the power goes; the next date is wrong too.
#[test]
fn a_job_of_an_earlier_wrong_day_is_counted_from_the_first_certain_moment() {
    for off_ms in [-MONTHS_MS, YEAR_MS] {
        let mut bench = box_off_by(off_ms);
        let id = bench.submit_one();
        bench.reboot(off_ms / 2);
        refuse_all(&bench, 40007);
        // The power goes every day.
        let mut days = 0;
        while matches!(bench.stand(&id), Stand::Waiting(_)) {
            bench.drain_for(DAY);
            bench.reboot(off_ms);
            days += 1;
            assert!(days < 5, "off by {off_ms}: kept for ever");
        }
        assert_eq!(days, 4, "off by {off_ms}: it may still have been alive");
        assert_eq!(bench.stand(&id), Stand::Failed("expired".into()));
    }
}

/// Good stamps, a reboot into the far future, and WeChat out of reach: nobody may say that the time is over.
#[test]
fn nothing_expires_while_the_time_is_not_known() {
    let mut bench = Bench::warm();
    let ids = bench.upload_and_submit(3);
    bench.drain_for(Duration::ZERO);
    let more = bench.upload_and_submit(3);
    bench.simulator.set_outage(true);
    bench.reboot(YEAR_MS);
    bench.drain_for(2 * HOUR);
    assert!(more.iter().all(|id| matches!(bench.stand(id), Stand::Waiting(_))));
    bench.simulator.set_outage(false);
    bench.drain();
    assert_eq!(bench.saved(), ids.len() + more.len());
    bench.check_promises();
}

#[test]
fn stamps_of_a_wrong_clock_are_marked_and_those_of_a_right_one_are_not() {
    for off_ms in OFF {
        let mut bench = box_off_by(off_ms);
        // Nobody has been asked what time it is.
        let early = bench.submit_one();
        bench.advance(MINUTE);
        bench.drain();
        // By now WeChat has answered; the machine's clock is as wrong as before.
        let late = bench.submit_one();
        let late_ms = bench.truth.wall_ms();
        bench.advance(MINUTE);
        bench.drain();
        let rows = bench.rows();
        assert_eq!(rows[&early].clock, if off_ms == 0 { "" } else { "unsure" }, "off by {off_ms}");
        assert!(rows[&early].file.starts_with(&compact_utc(NOW_MS + off_ms)), "{}", rows[&early].file);
        assert_eq!(rows[&late].clock, "", "off by {off_ms}");
        // WeChat tells the time in whole seconds.
        assert_eq!(rows[&late].submitted_at[..17], rfc3339_utc(late_ms)[..17], "off by {off_ms}");
        assert_eq!(rows[&late].saved_at[..17], rfc3339_utc(late_ms + 60_000)[..17], "off by {off_ms}");
        bench.check_promises();
    }
}

/// The offset is there for whoever wants to tell the team.
#[test]
fn the_date_of_an_answer_tells_the_offset() {
    for off_ms in OFF {
        let bench = box_off_by(off_ms);
        assert_eq!(bench.rooms().wechat.clock_offset_ms(), None);
        for _ in 0..3 {
            bench.rooms().wechat.keep();
            bench.advance(HOUR);
        }
        let seen = bench.rooms().wechat.clock_offset_ms().unwrap();
        assert!((seen + off_ms).abs() <= 1000, "{seen} for {off_ms}");
        assert_eq!(bench.simulator.calls(Route::StableToken), 2);
        let signed = bench.rooms().wechat.sign("https://pics.example.org/").unwrap();
        let true_s = bench.truth.wall_ms() / 1000;
        assert!((signed.timestamp - true_s).abs() <= 2, "{} for {true_s}", signed.timestamp);
    }
}

/// Jobs with a doubtful stamp go first until their deadline is known, and the journal knows them too.
#[test]
fn doubtful_jobs_come_first_and_survive_the_loss_of_the_database() {
    let mut bench = box_off_by(YEAR_MS);
    let doubtful = bench.submit_one();
    bench.simulator.always_for_media(&doubtful, Fault::code(40007));
    let sure = bench.simulator.upload(picture(3), "image/jpeg");
    bench.rooms().wechat.keep();
    bench.submit(&[&sure]);
    bench.try_one();
    assert_eq!(bench.stand(&doubtful), Stand::Waiting(Some("40007".into())));
    assert_eq!(bench.stand(&sure), Stand::Waiting(None));
    bench.lose_database();
    bench.drain_for(70 * HOUR);
    assert_eq!(bench.stand(&sure), Stand::Saved);
    assert!(matches!(bench.stand(&doubtful), Stand::Waiting(_)));
    bench.drain();
    assert_eq!(bench.stand(&doubtful), Stand::Failed("expired".into()));
    bench.check_promises();
}
