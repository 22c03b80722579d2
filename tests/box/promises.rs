//! The promises of the design under random misfortune: faults of every kind, stolen tokens, outages, restarts,
//! power cycles, clocks that jump, ids that never were. After each campaign every id is one whole picture or on
//! the failed list with a reason, nothing is owed or left over, and WeChat was not pestered.
//!
//! `CAMPAIGN_SEEDS=200 cargo test --test box promises` runs more of them; `CAMPAIGN_SEED=17` runs that one.

use crate::bench::{Bench, BenchOptions, DAY, MINUTE, Stand, dead_address};
use std::time::Duration;
use tubox::ground::clock::Clock;
use tubox::simulator::plan::passing_faults;
use tubox::simulator::{DEVTOOLS_MEDIA_ID, Fault, FaultPlan, Route};
use tubox::wechat::TokenKind;

const SEEDS: u64 = 3;
const ACTIONS: usize = 200;
/// An answer that takes longer is one misfortune more.
const IMPATIENCE: Duration = Duration::from_millis(60);
const PICTURES_MAX: usize = 60;
/// All of this is over before the first picture's time is.
const CHAOS: Duration = Duration::from_secs(30 * 3600);
const MONTHS_MS: i64 = 7 * 30 * 86_400_000;

/// Chance of its own, so that what happens does not depend on how often the rooms draw.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn wrong_clock_ms(&mut self) -> i64 {
        [0, 0, -MONTHS_MS, MONTHS_MS, -3_600_000, 90_000][self.below(6) as usize]
    }
}

/// Says how to play a campaign again when it fails.
struct Campaign {
    seed: u64,
}

impl Drop for Campaign {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the campaign of seed {0} failed; again: CAMPAIGN_SEED={0}", self.seed);
        }
    }
}

#[test]
fn every_promise_holds_under_random_misfortune() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("CAMPAIGN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("CAMPAIGN_SEEDS").unwrap_or(SEEDS) + 1,
    };
    for seed in seeds {
        let campaign = Campaign { seed };
        run(seed);
        drop(campaign);
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut bench = open(&mut dice, seed);
    let mut ids = Ids::default();
    let started = bench.truth.monotonic();
    for _ in 0..ACTIONS {
        let left = CHAOS.saturating_sub(bench.truth.monotonic() - started);
        act(&mut bench, &mut dice, &mut ids, left);
    }
    calm(&bench);
    bench.drain_within(4 * DAY);
    bench.rooms().wechat.keep();
    bench.tend();
    bench.check_promises();
    let stands = bench.stands();
    for id in &ids.real {
        assert_eq!(
            stands[id],
            Stand::Saved,
            "seed {seed}: a picture that WeChat had all the time is lost: {id}"
        );
    }
    for id in &ids.wrong {
        let code = if id == DEVTOOLS_MEDIA_ID { "fake-id" } else { "expired" };
        assert_eq!(stands[id], Stand::Failed(code.into()), "seed {seed}");
    }
    check_calls(&bench, &ids, bench.truth.monotonic() - started);
}

#[derive(Default)]
struct Ids {
    real: Vec<String>,
    wrong: Vec<String>,
}

fn open(dice: &mut Dice, seed: u64) -> Bench {
    let dead = format!("http://{}", dead_address(3));
    let origins = match dice.below(3) {
        0 => vec![dead, crate::bench::SIM.to_owned()],
        _ => vec![crate::bench::SIM.to_owned()],
    };
    let token = if dice.below(4) == 0 { TokenKind::Classic } else { TokenKind::Stable };
    let (wall_off_ms, stall) = (dice.wrong_clock_ms(), IMPATIENCE);
    Bench::with(BenchOptions { seed, token, origins, wall_off_ms, stall, ..BenchOptions::default() })
}

/// One thing happens. At most `left` of simulated time may pass.
fn act(bench: &mut Bench, dice: &mut Dice, ids: &mut Ids, left: Duration) {
    match dice.below(24) {
        0..=3 => submit(bench, dice, ids),
        4 => submit_wrong(bench, dice, ids),
        5 => bench.advance((MINUTE * u32::try_from(dice.below(90)).unwrap()).min(left)),
        6 => bench.simulator.expire_token(),
        7 => bench.simulator.steal_token(),
        8 => bench.simulator.wedge_token(),
        9 => bench.simulator.set_outage(dice.below(2) == 0),
        10 => bench.simulator.set_plan(plan(dice)),
        11 => bench.reopen(),
        12 => bench.crash(),
        13 => {
            let off_ms = dice.wrong_clock_ms();
            bench.reboot(off_ms);
        }
        14 => bench.clock.set_wall_ms(bench.truth.wall_ms() + dice.wrong_clock_ms()),
        15 => bench.tend(),
        16 => drop(bench.rooms().wechat.keep()),
        17 if dice.below(4) == 0 => bench.lose_database(),
        18 => calm(bench),
        _ => {
            bench.drain_for((MINUTE * u32::try_from(dice.below(15)).unwrap()).min(left));
        }
    }
}

fn submit(bench: &mut Bench, dice: &mut Dice, ids: &mut Ids) {
    if ids.real.len() < PICTURES_MAX {
        let count = usize::try_from(dice.below(5)).unwrap() + 1;
        ids.real.extend(bench.upload_and_submit(count));
    } else {
        // The same again makes no second picture.
        let again = ids.real[dice.below(ids.real.len() as u64) as usize].clone();
        bench.submit(&[again]);
    }
}

fn submit_wrong(bench: &mut Bench, dice: &mut Dice, ids: &mut Ids) {
    let wrong = match dice.below(3) {
        0 => DEVTOOLS_MEDIA_ID.to_owned(),
        _ => format!("{:043}", dice.below(u64::MAX)),
    };
    if !ids.wrong.contains(&wrong) {
        bench.submit(&[&wrong]);
        ids.wrong.push(wrong);
    }
}

fn plan(dice: &mut Dice) -> FaultPlan {
    let mut menu = passing_faults(IMPATIENCE * 2);
    menu.retain(|(_, fault)| !matches!(fault, Fault::Delay(_)));
    for code in [40001, 42001, 40164, 45009, 45011, 48001, 89503, 55_555] {
        menu.push((Route::MediaGet, Fault::code(code)));
        menu.push((Route::StableToken, Fault::code(code)));
    }
    let rate = [0.05, 0.2, 0.5][dice.below(3) as usize];
    FaultPlan::random_from(dice.below(u64::MAX), rate, menu)
}

/// Nothing goes wrong any more.
fn calm(bench: &Bench) {
    bench.simulator.clear_faults();
    bench.simulator.set_outage(false);
}

/// Generous, but no storm would pass: so many calls for each id, and one probe after another in an outage.
fn check_calls(bench: &Bench, ids: &Ids, passed: Duration) {
    let all = (ids.real.len() + ids.wrong.len()) as u64;
    let hours = passed.as_secs() / 3600;
    let calls = bench.media_calls() + bench.token_calls();
    assert!(calls < 60 * all + 250 * hours, "{calls} calls for {all} ids in {hours} hours");
}
