//! Years of use: ids come, are settled, and leave with their receipts 30 days later. Size on disk, time to open,
//! memory and speed must not depend on how many came before.
//!
//! By default some years of a quiet box; `CAMPAIGN_PICTURES=1000000` is a busy one's.

use super::campaign;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tubox::ground::clock::TestClock;
use tubox::ground::media_id::MediaId;
use tubox::ground::random::SeededRandom;
use tubox::queue::{Queue, QueueOptions, Submission};

const ALONE: &str = "SMALL_FOR_EVER_ALONE";
const SUBMISSION: u64 = 50;
const DAY: Duration = Duration::from_secs(86_400);
/// Receipts live 30 days: only after them is the load a steady one.
const DAYS_UNTIL_STEADY: u64 = 35;
const DAYS_MAX: u64 = 1000;
const PICTURES_A_DAY: u64 = 1000;
const MEASURES: u64 = 10;
/// The second half of the steady time against the first.
const BYTES_GROWTH_MAX: f64 = 1.2;
const MEMORY_GROWTH_MAX: f64 = 1.2;
/// The machine may be busy with something else; the best measure of each half counts.
const SLOWDOWN_MAX: f64 = 2.0;
/// sled's file grows and shrinks by whole segments.
const BYTES_GRAIN: u64 = 2 << 20;
const MEMORY_GRAIN: u64 = 8 << 20;
const OPENING_GRAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Measure {
    pictures: u64,
    bytes: u64,
    resident: u64,
    opening: Duration,
    /// Ids taken and brought home, since the last measure.
    a_second: f64,
}

/// In a process of its own, so that its memory is its own.
#[test]
fn small_for_ever() {
    if std::env::var_os(ALONE).is_some() {
        return run();
    }
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "small_for_ever::small_for_ever", "--nocapture"])
        .env(ALONE, "1")
        .status()
        .unwrap();
    assert!(alone.success());
}

fn run() {
    let pictures = campaign("CAMPAIGN_PICTURES", 7_000);
    let days = (DAYS_UNTIL_STEADY * 2).max((pictures / PICTURES_A_DAY).min(DAYS_MAX));
    let a_day = (pictures / days).div_ceil(SUBMISSION) * SUBMISSION;
    let every = ((days - DAYS_UNTIL_STEADY) / MEASURES).max(1);
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::at(1_795_280_466_123);
    let mut measures = Vec::new();
    let mut queue = open(folder.path(), &clock);
    let (mut worked, mut since) = (Duration::ZERO, 0);
    for day in 1..=days {
        let begun = Instant::now();
        one_day(&queue, day, a_day);
        clock.advance(DAY);
        // As often as it takes: in a day there are thousands of them.
        (0..a_day.div_ceil(SUBMISSION * 100)).for_each(|_| queue.tend(&|_| HashMap::new()));
        worked += begun.elapsed();
        since += a_day;
        if day >= DAYS_UNTIL_STEADY && (day - DAYS_UNTIL_STEADY).is_multiple_of(every) {
            // As after a power cut: without an orderly end everything is counted anew.
            drop(queue);
            let opening = Instant::now();
            queue = open(folder.path(), &clock);
            let measure = Measure {
                pictures: day * a_day,
                bytes: size_of(folder.path()),
                resident: resident(),
                opening: opening.elapsed(),
                a_second: since as f64 / worked.as_secs_f64(),
            };
            eprintln!("{}", in_words(&measure, day));
            measures.push(measure);
            (worked, since) = (Duration::ZERO, 0);
        }
    }
    assert_eq!(queue.counts().waiting, 0);
    assert!(queue.counts().saved <= 32 * a_day, "{:?}", queue.counts());
    assert_flat(&measures);
}

fn in_words(measure: &Measure, day: u64) -> String {
    format!(
        "{:>8} pictures in {day} days: data folder {:.1} MiB, resident {:.1} MiB, opened in {:.0} ms, {:.0} a second",
        measure.pictures,
        measure.bytes as f64 / f64::from(1 << 20),
        measure.resident as f64 / f64::from(1 << 20),
        measure.opening.as_secs_f64() * 1e3,
        measure.a_second,
    )
}

fn assert_flat(measures: &[Measure]) {
    let (early, late) = measures.split_at(measures.len() / 2);
    let most = |part: &[Measure], of: fn(&Measure) -> u64| part.iter().map(of).max().unwrap();
    let (before, after) = (most(early, |one| one.bytes), most(late, |one| one.bytes));
    let limit = (before as f64 * BYTES_GROWTH_MAX) as u64 + BYTES_GRAIN;
    assert!(after <= limit, "the data folder grows from {before} to {after}: {measures:#?}");
    let (before, after) = (most(early, |one| one.resident), most(late, |one| one.resident));
    let limit = (before as f64 * MEMORY_GROWTH_MAX) as u64 + MEMORY_GRAIN;
    assert!(after <= limit, "memory grows from {before} to {after}: {measures:#?}");
    let soonest = |part: &[Measure]| part.iter().map(|one| one.opening).min().unwrap();
    let limit = soonest(early).mul_f64(SLOWDOWN_MAX) + OPENING_GRAIN;
    assert!(soonest(late) <= limit, "starting takes longer: {measures:#?}");
    let fastest = |part: &[Measure]| part.iter().map(|one| one.a_second).fold(0.0, f64::max);
    assert!(fastest(late) * SLOWDOWN_MAX >= fastest(early), "it becomes slower: {measures:#?}");
}

fn open(folder: &Path, clock: &Arc<TestClock>) -> Queue {
    let options = QueueOptions {
        data_dir: folder.to_owned(),
        waiting_max: 1_000_000,
        reserve_bytes: 0,
        deadline: 3 * DAY,
        clock: clock.clone(),
        crowd: Default::default(),
        random: SeededRandom::shared(1),
    };
    Queue::open(options, &|_| HashMap::new()).unwrap()
}

fn one_day(queue: &Queue, day: u64, pictures: u64) {
    for first in (0..pictures).step_by(SUBMISSION as usize) {
        let id = |number: u64| MediaId::parse(&format!("{number:0>32}_{day:0>31}")).unwrap();
        let ids = (first..first + SUBMISSION).map(id).collect();
        let submission = Submission { ids, note: "一张图片".into(), ..Submission::default() };
        queue.accept(submission).unwrap();
    }
    while let Some(claim) = queue.claim() {
        if day.is_multiple_of(10) && claim.media_id.as_str().starts_with("0000000000000000000000000000000") {
            queue.fail(&claim.media_id, "expired", "");
            continue;
        }
        queue.complete(&claim.media_id, &"a".repeat(64));
    }
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let size = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => size_of(&entry.path()),
        false => entry.metadata().unwrap().len(),
    };
    entries.map(size).sum()
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
