//! A busy day at a steady pace: 50 submissions a second while the collector drains and WeChat's API fails now and
//! then. Every submission is answered, memory is flat, nothing is lost. By default 30 s; `CAMPAIGN_SOAK=1800` is half
//! an hour.

use super::campaign;
use super::promises::{self, Broken};
use super::station::{BoxProcess, Ledger, PATIENCE, Places, Station};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tubox::ground::stop::Stop;
use tubox::simulator::plan::FaultPlan;

const A_SECOND: u64 = 50;
const CLIENTS: usize = 16;
/// Small, because the simulator keeps them all in memory.
const PICTURE_BYTES_MAX: usize = 2_000;
/// The box tells one address of only so many receipts a minute; here, of all those of half a minute. Of the others the
/// album tells.
const ASKED_MAX: usize = 1_500;
/// Of the API's calls, so many fail.
const FAULT_RATE: f64 = 0.05;
/// The last third against the middle one; the first is for warming up.
const MEMORY_GROWTH_MAX: f64 = 1.2;
const MEMORY_GRAIN_KIB: u64 = 4 * 1024;

#[test]
fn a_soaked_box_answers_all_stays_small_and_loses_nothing() {
    let seconds = campaign("CAMPAIGN_SOAK", 30);
    let station = Station::new(campaign("CAMPAIGN_SEED", 1));
    station.simulator.set_plan(FaultPlan::random(station.random.u64(), FAULT_RATE));
    let folder = tempfile::tempdir().unwrap();
    let places = Places::below(folder.path());
    let running = station.start(&places).unwrap_or_else(|ended| panic!("{}: {}", ended.status, ended.log));
    let (ledger, submissions) = (Ledger::default(), seconds * A_SECOND);
    let is_over = AtomicBool::new(false);
    let memory = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_memory(&running, &is_over));
        submit_at_pace(&station, &running, &ledger, submissions);
        is_over.store(true, Ordering::SeqCst);
        watcher.join().unwrap()
    });
    let receipts = ledger.receipts();
    let answered = receipts.len() as u64;
    let asked = &receipts[receipts.len().saturating_sub(ASKED_MAX)..];
    let unsettled = running.await_settled(asked, PATIENCE).err();
    let third = memory.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
    let (middle, last) = (most(&memory[third..2 * third]), most(&memory[2 * third..]));
    let mut broken: Broken = unsettled.into_iter().collect();
    broken.extend(promises::of_the_ledger(&ledger, &places.pictures));
    broken.extend(promises::of_the_album(&station, &places.pictures));
    eprintln!(
        "{seconds} s, {answered} of {submissions} submissions answered with rc 0, resident at most {} MiB in the \
         middle and {} MiB in the end: {}",
        middle >> 10,
        last >> 10,
        promises::tally(&broken)
    );
    assert_eq!(answered, submissions, "{}", running.log());
    assert_eq!(broken, Broken::new(), "{}", running.log());
    let limit = (middle as f64 * MEMORY_GROWTH_MAX) as u64 + MEMORY_GRAIN_KIB;
    assert!(third > 0 && last <= limit, "memory grows: {memory:?} KiB");
}

/// One picture a submission, each at its time and not before, whatever the others wait for.
fn submit_at_pace(station: &Station, running: &BoxProcess, ledger: &Ledger, submissions: u64) {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= submissions {
                        break;
                    }
                    let at = Duration::from_millis(1000 * number / A_SECOND);
                    Stop::new().wait(at.saturating_sub(begun.elapsed()));
                    let id = station.upload(PICTURE_BYTES_MAX);
                    // What is not answered is missing in the ledger.
                    let _ = ledger.submit(running.address, &[id]);
                }
            });
        }
    });
}

/// Resident KiB, once a second.
fn watch_memory(running: &BoxProcess, is_over: &AtomicBool) -> Vec<u64> {
    let mut seen = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        Stop::new().wait(Duration::from_secs(1));
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        seen.extend(line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()));
    }
    seen
}
