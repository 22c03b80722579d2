//! Years of use: ids come, are settled, and leave with their receipts 30 days later. Size on disk, time to open,
//! memory and speed must not depend on how many came before.

use super::campaign;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tubox::ground::clock::TestClock;
use tubox::ground::media_id::MediaId;
use tubox::ground::random::SeededRandom;
use tubox::queue::{Queue, QueueOptions, SavedAs, Submission};

const SUBMISSION: u64 = 50;
const DAY: Duration = Duration::from_secs(86_400);
/// Receipts live 30 days: only after them is the load a steady one.
const DAYS_UNTIL_STEADY: u64 = 35;

#[derive(Debug)]
struct Measure {
    bytes: u64,
    resident: u64,
    open: Duration,
}

#[test]
fn small_for_ever() {
    let pictures = campaign("CAMPAIGN_PICTURES", 7_000);
    let days = (DAYS_UNTIL_STEADY * 2).max((pictures / 1000).min(1000));
    let a_day = (pictures / days).div_ceil(SUBMISSION) * SUBMISSION;
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::at(1_795_280_466_123);
    let mut measures = Vec::new();
    let mut queue = open(folder.path(), &clock);
    let begun = Instant::now();
    for day in 1..=days {
        one_day(&queue, day, a_day);
        clock.advance(DAY);
        queue.tend(&|_| HashMap::new());
        if day == DAYS_UNTIL_STEADY || day == days || day % (days / 10).max(1) == 0 && day > DAYS_UNTIL_STEADY
        {
            // As after a power cut: without an orderly end everything is counted anew.
            drop(queue);
            let opening = Instant::now();
            queue = open(folder.path(), &clock);
            let open = opening.elapsed();
            let a_second = (day * a_day) as f64 / begun.elapsed().as_secs_f64();
            let measure = Measure { bytes: size_of(folder.path()), resident: resident(), open };
            eprintln!("{} pictures in {day} days, {a_second:.0} a second: {measure:?}", day * a_day);
            measures.push(measure);
        }
    }
    let (first, last) = (&measures[0], &measures[measures.len() - 1]);
    assert_eq!(queue.counts().waiting, 0);
    assert!(queue.counts().saved <= 32 * a_day, "{:?}", queue.counts());
    assert!(last.bytes <= first.bytes * 3 / 2 + (2 << 20), "the data folder grows: {first:?} {last:?}");
    assert!(last.resident <= first.resident * 3 / 2 + (8 << 20), "memory grows: {first:?} {last:?}");
    assert!(
        last.open <= first.open * 3 + Duration::from_millis(500),
        "starting takes longer: {first:?} {last:?}"
    );
}

fn open(folder: &Path, clock: &Arc<TestClock>) -> Queue {
    let options = QueueOptions {
        data_dir: folder.to_owned(),
        waiting_max: 1_000_000,
        reserve_bytes: 0,
        deadline: 3 * DAY,
        clock: clock.clone(),
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
        if day.is_multiple_of(10) && claim.attempts == 0 && claim.media_id.as_str().ends_with("00") {
            queue.fail(&claim.media_id, "expired", "");
            continue;
        }
        let file = format!("2026-11-22/20261122T170106Z_{}.jpg", claim.media_id);
        queue.complete(&claim.media_id, &SavedAs { file, sha256: "a".repeat(64), bytes: 1_000_000 });
    }
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { size_of(&entry.path()) } else { entry.metadata().unwrap().len() }
            },
        )
        .sum()
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
