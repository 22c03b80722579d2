//! A start looks only where the last run can have left something half-done, however much has been kept: a day of which
//! nothing is owed is not opened, and neither is a journal file that sled has taken over.

use super::promises;
use super::station::{Ledger, PATIENCE, Places, Station};
use super::volatile_disk::Disk;
use super::volatile_mount::{Step, VolatileMount, can_mount};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tubox::ground::clock::{Deadline, day_utc};
use tubox::ground::stop::Stop;

/// Noon of the day on which the power went, long before the box is switched on again.
const OFF_SINCE_MS: i64 = 1_767_614_400_000;
const DAY_MS: i64 = 86_400_000;

#[test]
fn a_start_reads_only_days_that_can_be_affected() {
    if !can_mount() {
        return;
    }
    let station = Station::new(1);
    let folder = tempfile::tempdir().unwrap();
    let places = Places::below(folder.path());
    let mount = VolatileMount::new(Disk::new());
    let _mounted = mount.mount(folder.path()).unwrap();
    let affected = day_utc(OFF_SINCE_MS);
    let untouched = [OFF_SINCE_MS - DAY_MS, OFF_SINCE_MS + DAY_MS].map(day_utc);
    for day in untouched.iter().chain([&affected]) {
        half_done_day(&places.pictures.join(day));
    }
    let owed = station.upload(1000);
    owe(&places.data.join("journal"), &owed);

    let before = mount.steps().len();
    let running = station.start(&places).unwrap_or_else(|ended| panic!("{}", ended.log));
    let first = mount.steps().split_off(before);
    assert_eq!(
        leftovers(&places.pictures.join(&affected)),
        0,
        "the affected day is not repaired\n{}",
        running.log()
    );
    for day in &untouched {
        assert_eq!(steps_in(&first, &format!("/pictures/{day}")), Vec::<String>::new());
        assert_eq!(leftovers(&places.pictures.join(day)), 1);
    }
    running.await_settled(&["oldreceipt".to_owned()], PATIENCE).unwrap();
    let ledger = Ledger::default();
    assert!(ledger.submit(running.address, &station.uploads(1, 1000)).unwrap());
    running.await_settled(&ledger.receipts(), PATIENCE).unwrap();
    running.terminate();

    // By now nothing is owed of the affected day either, and sled has taken over the first file of the journal.
    let before = mount.steps().len();
    let running = station.start(&places).unwrap_or_else(|ended| panic!("{}", ended.log));
    // The last days are looked at when the box is there already.
    let deadline = Deadline::after(PATIENCE);
    while steps_in(&mount.steps().split_off(before), "/manifest.csv").is_empty() {
        assert!(!deadline.passed(), "nothing is seen by this test: {}", running.log());
        Stop::new().wait(Duration::from_millis(20));
    }
    let second = mount.steps().split_off(before);
    for part in [&affected, &untouched[0], &untouched[1]].map(|day| format!("/pictures/{day}")) {
        assert_eq!(steps_in(&second, &part), Vec::<String>::new());
    }
    assert_eq!(steps_in(&second, "/journal/000001_"), Vec::<String>::new());
    running.kill();
    assert_eq!(promises::of_the_ledger(&ledger, &places.pictures), promises::Broken::new());
}

/// A day's folder with a download that was broken off.
fn half_done_day(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(".half.part"), b"\xff\xd8").unwrap();
}

fn leftovers(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.file_name() == ".half.part").count()
}

/// The journal of a run that promised `id` and was cut off.
fn owe(journal: &Path, id: &str) {
    std::fs::create_dir_all(journal).unwrap();
    let entry = json!({
        "receipt": "oldreceipt", "submitted_ms": OFF_SINCE_MS, "clock_trusted": true, "submission": { "ids": [id] },
    });
    let json = entry.to_string();
    let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
    std::fs::write(journal.join(format!("000001_{}.log", day_utc(OFF_SINCE_MS))), line).unwrap();
}

fn steps_in(steps: &[Step], part: &str) -> Vec<String> {
    let of_part = steps.iter().filter(|step| step.path.contains(part));
    of_part.map(|step| format!("{:?} {}", step.operation, step.path)).collect()
}
