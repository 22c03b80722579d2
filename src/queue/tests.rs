//! The queue over real sled and real files.

use super::books::STUCK_AFTER;
use super::*;
use crate::ground::clock::TestClock;
use crate::ground::random::SeededRandom;
use std::path::Path;
use std::sync::Arc;

const NOW_MS: i64 = 1_795_280_466_123;

pub(super) struct Bench {
    folder: tempfile::TempDir,
    pub clock: Arc<TestClock>,
    pub waiting_max: u64,
    random: SharedRandom,
}

impl Bench {
    pub fn new() -> Bench {
        Bench {
            folder: tempfile::tempdir().unwrap(),
            clock: TestClock::at(NOW_MS),
            waiting_max: 10,
            // One for all runs: no receipt comes twice.
            random: SeededRandom::shared(1),
        }
    }

    pub fn open(&self) -> Queue {
        self.open_knowing(&|_| HashMap::new())
    }

    fn open_knowing(&self, saved: &SavedLookup<'_>) -> Queue {
        Queue::open(self.options(), saved).unwrap()
    }

    fn asides(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().contains("queue.bad-")).collect()
    }

    fn options(&self) -> QueueOptions {
        QueueOptions {
            data_dir: self.folder.path().to_owned(),
            waiting_max: self.waiting_max,
            reserve_bytes: 0,
            deadline: Duration::from_secs(72 * 3600),
            clock: self.clock.clone(),
            crowd: Default::default(),
            random: self.random.clone(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

pub(super) fn id(text: &str) -> MediaId {
    MediaId::parse(text).unwrap()
}

pub(super) fn submission(ids: &[&str]) -> Submission {
    Submission { ids: ids.iter().map(|text| id(text)).collect(), note: "n".into(), ..Submission::default() }
}

/// sled lets go of its lock in a thread of its own, a moment after it was dropped.
fn open_sled(data_dir: &Path) -> sled::Db {
    for _ in 0..500 {
        match store::config(&data_dir.join("queue")).open() {
            Err(error) if error.to_string().contains("could not acquire lock") => {
                crate::ground::stop::Stop::new().wait(Duration::from_millis(10));
            }
            other => return other.unwrap(),
        }
    }
    panic!("the lock of {} is not let go", data_dir.display())
}

/// Makes sled's file one of another version.
fn make_foreign(data_dir: &Path) {
    let db = open_sled(data_dir);
    let meta = &br#"{"format":999,"position":null,"counts":null}"#[..];
    db.open_tree("meta").unwrap().insert("meta", meta).unwrap();
    db.flush().unwrap();
}

fn claimed(queue: &Queue) -> Option<String> {
    queue.claim().map(|claim| claim.media_id.to_string())
}

#[test]
fn the_same_id_makes_no_second_job_and_keeps_its_receipt() {
    let bench = Bench::new();
    let queue = bench.open();
    let first = queue.accept(submission(&["a", "b"])).unwrap();
    assert_eq!(first.new_ids, 2);
    let again = queue.accept(submission(&["b"])).unwrap();
    assert_eq!(again, Accepted { receipt: first.receipt.clone(), new_ids: 0 });
    let mixed = queue.accept(submission(&["b", "c"])).unwrap();
    assert_eq!(mixed.new_ids, 1);
    assert_ne!(mixed.receipt, first.receipt);
    assert_eq!(queue.counts().waiting, 3);
    let view = queue.receipt(&mixed.receipt).unwrap();
    assert_eq!(view.pictures.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn the_soonest_deadline_comes_first_and_a_claim_is_exclusive() {
    let bench = Bench::new();
    let queue = bench.open();
    queue.accept(submission(&["young"])).unwrap();
    bench.clock.set_wall_ms(NOW_MS - 5000);
    queue.accept(submission(&["old"])).unwrap();
    assert_eq!(queue.oldest_deadline_ms(), Some(NOW_MS - 5000 + 72 * 3_600_000));
    let claim = queue.claim().unwrap();
    assert_eq!((claim.media_id.as_str(), claim.submission.note.as_str()), ("old", "n"));
    assert_eq!(claimed(&queue).as_deref(), Some("young"));
    assert_eq!(claimed(&queue), None);
    queue.release(&id("old"));
    assert_eq!(claimed(&queue).as_deref(), Some("old"));
    assert_eq!(queue.counts(), Counts { waiting: 2, claimed: 2, saved: 0, failed: 0 });
}

#[test]
fn a_postponed_id_waits_for_its_time_and_counts_its_attempts() {
    let bench = Bench::new();
    let queue = bench.open();
    queue.accept(submission(&["a"])).unwrap();
    queue.claim().unwrap();
    queue.postpone(&id("a"), Duration::from_secs(10), Some("40007"));
    assert_eq!(claimed(&queue), None);
    assert_eq!(queue.next_due(), Some(Duration::from_secs(10)));
    assert_eq!(queue.oldest_deadline_ms(), Some(NOW_MS + 72 * 3_600_000));
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(queue.claim().unwrap().attempts, 1);
    queue.postpone(&id("a"), Duration::from_secs(10), None);
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(queue.claim().unwrap().attempts, 1);
}

#[test]
fn the_ids_of_a_submission_come_in_the_contributors_order() {
    let bench = Bench::new();
    let queue = bench.open();
    queue.accept(submission(&["b", "a"])).unwrap();
    bench.clock.advance(Duration::from_secs(1));
    queue.accept(submission(&["a", "d", "c"])).unwrap();
    assert_eq!(claimed(&queue).as_deref(), Some("b"));
    // What was put off comes back in its own time.
    queue.postpone(&id("b"), Duration::ZERO, None);
    let claims: Vec<String> = std::iter::from_fn(|| claimed(&queue)).collect();
    assert_eq!(claims, ["b", "a", "d", "c"]);
    queue.release(&id("d"));
    queue.release(&id("b"));
    assert_eq!(std::iter::from_fn(|| claimed(&queue)).collect::<Vec<_>>(), ["b", "d"]);
}

#[test]
fn every_end_is_on_the_receipt_and_failed_ids_can_be_put_back() {
    let bench = Bench::new();
    let queue = bench.open();
    let receipt = queue.accept(submission(&["a", "b"])).unwrap().receipt;
    queue.claim().unwrap();
    queue.claim().unwrap();
    queue.complete(&id("a"), "ab");
    queue.fail(&id("b"), "fake-id", "why");
    let view = queue.receipt(&receipt).unwrap();
    assert!(view.is_settled());
    assert_eq!(view.pictures[0].1, JobState::Saved("ab".into()));
    assert_eq!(queue.failed(9)[0].code, "fake-id");
    assert_eq!(queue.counts(), Counts { waiting: 0, claimed: 0, saved: 1, failed: 1 });
    assert_eq!(queue.retry(Some(&[id("a"), id("b"), id("unknown")])), 1);
    assert_eq!(queue.retry(None), 0);
    assert_eq!(claimed(&queue).as_deref(), Some("b"));
    assert!(queue.receipt("nonesuch").is_none());
}

#[test]
fn the_days_of_what_is_owed_are_known() {
    let bench = Bench::new();
    let queue = bench.open();
    assert!(queue.days_owed().is_empty());
    for (days, ids) in [(0, ["a", "b"]), (1, ["done", "given-up"]), (3, ["c", "d"])] {
        bench.clock.set_wall_ms(NOW_MS + days * 86_400_000);
        queue.accept(submission(&ids)).unwrap();
    }
    let claims: Vec<Claim> = std::iter::from_fn(|| queue.claim()).collect();
    assert_eq!(claims.len(), 6);
    queue.complete(&id("done"), "ab");
    queue.fail(&id("given-up"), "fake-id", "");
    queue.postpone(&id("c"), Duration::from_secs(10), None);
    drop(queue);
    assert_eq!(bench.open().days_owed(), ["2026-11-21", "2026-11-24"]);
}

#[test]
fn a_full_queue_refuses_and_keeps_nothing_of_it() {
    let bench = Bench::new();
    let queue = bench.open();
    let ids: Vec<String> = (0..9).map(|n| format!("id{n}")).collect();
    queue.accept(submission(&ids.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    assert_eq!(queue.accept(submission(&["x", "y"])), Err(Refused::Full(9)));
    assert_eq!(queue.counts().waiting, 9);
    assert_eq!(queue.accept(submission(&["x"])).unwrap().new_ids, 1);
}

#[test]
fn everything_is_there_after_an_orderly_and_after_a_sudden_end() {
    let bench = Bench::new();
    for orderly in [true, false] {
        let queue = bench.open();
        let name = format!("from-{orderly}");
        let receipt = queue.accept(submission(&[&name])).unwrap().receipt;
        if orderly {
            queue.close();
        }
        drop(queue);
        let queue = bench.open();
        assert!(queue.receipt(&receipt).is_some(), "{orderly}");
        assert_eq!(queue.counts().waiting, 1 + u64::from(!orderly));
    }
}

/// sled's own file is lost, damaged in its middle, or of another version: the journal fills it again, and what
/// the album has is not fetched a second time.
#[test]
fn sled_may_be_lost_at_any_time() {
    for damage in ["gone", "byte", "cut", "format"] {
        let bench = Bench::new();
        let queue = bench.open();
        let receipt = queue.accept(submission(&["kept", "owed"])).unwrap().receipt;
        queue.claim().unwrap();
        queue.complete(&id("kept"), "ab");
        queue.close();
        drop(queue);
        let db = bench.path().join("queue/db");
        let bytes = std::fs::read(&db).unwrap();
        match damage {
            "gone" => std::fs::remove_dir_all(bench.path().join("queue")).unwrap(),
            "byte" => {
                let mut bytes = bytes.clone();
                for at in (0..bytes.len()).step_by(64) {
                    bytes[at] ^= 0xff;
                }
                std::fs::write(&db, bytes).unwrap();
            }
            "cut" => std::fs::write(&db, &bytes[..bytes.len() / 3]).unwrap(),
            _ => make_foreign(bench.path()),
        }
        let lookup = |day: &str| match day {
            "2026-11-21" => HashMap::from([(id("kept"), "ab".into())]),
            _ => HashMap::new(),
        };
        let queue = bench.open_knowing(&lookup);
        let view = queue.receipt(&receipt).unwrap_or_else(|| panic!("{damage}: the receipt is gone"));
        assert_eq!(view.pictures[0].1, JobState::Saved("ab".into()), "{damage}");
        assert_eq!(claimed(&queue).as_deref(), Some("owed"), "{damage}");
        assert_eq!(queue.counts().waiting, 1, "{damage}");
    }
}

#[test]
fn a_sudden_end_may_keep_any_tree_and_lose_another() {
    for lost in ["jobs", "receipts", "timeline", "ready", "later", "failed"] {
        let bench = Bench::new();
        let queue = bench.open();
        let first = queue.accept(submission(&["a", "b", "c"])).unwrap().receipt;
        queue.claim().unwrap();
        queue.postpone(&id("a"), Duration::from_secs(1), None);
        queue.claim().unwrap();
        queue.fail(&id("b"), "fake-id", "");
        let second = queue.accept(submission(&["d"])).unwrap().receipt;
        drop(queue);
        let db = open_sled(bench.path());
        db.open_tree(lost).unwrap().clear().unwrap();
        db.flush().unwrap();
        drop(db);
        let queue = bench.open();
        let counts = queue.counts();
        let mut owed: Vec<_> = std::iter::from_fn(|| claimed(&queue)).collect();
        owed.sort();
        // Without a word of it, what had failed is tried again.
        let expected: &[&str] = if lost == "jobs" { &["a", "b", "c", "d"] } else { &["a", "c", "d"] };
        assert_eq!(owed, expected, "{lost}");
        assert_eq!(counts.waiting, expected.len() as u64, "{lost}");
        assert_eq!(counts.failed as usize + expected.len(), 4, "{lost}");
        assert_eq!(queue.failed(9).len() as u64, counts.failed, "{lost}");
        for receipt in [first, second] {
            assert!(queue.receipt(&receipt).is_some(), "{lost}");
        }
    }
}

#[test]
fn a_torn_journal_line_is_passed_over_and_the_rest_is_kept() {
    let bench = Bench::new();
    let queue = bench.open();
    queue.accept(submission(&["a"])).unwrap();
    drop(queue);
    std::fs::remove_dir_all(bench.path().join("queue")).unwrap();
    let journal = std::fs::read_dir(bench.path().join("journal")).unwrap().next().unwrap().unwrap().path();
    let mut text = std::fs::read_to_string(&journal).unwrap();
    text.push_str("0badc0de {\"damaged\":1}\n1234");
    std::fs::write(&journal, text).unwrap();
    let queue = bench.open();
    assert_eq!(queue.counts().waiting, 1);
    queue.accept(submission(&["b"])).unwrap();
    drop(queue);
    std::fs::remove_dir_all(bench.path().join("queue")).unwrap();
    assert_eq!(bench.open().counts().waiting, 2);
}

/// The journal's folder was emptied by somebody; sled remembers a place in files that are gone, and the power cut took
/// what sled heard since.
#[test]
fn a_place_in_files_that_are_gone_hides_no_new_file() {
    let bench = Bench::new();
    for name in ["a", "b"] {
        let queue = bench.open();
        queue.accept(submission(&[name])).unwrap();
        queue.close();
    }
    let db = std::fs::read(bench.path().join("queue/db")).unwrap();
    std::fs::remove_dir_all(bench.path().join("journal")).unwrap();
    bench.open().accept(submission(&["c"])).unwrap();
    std::fs::write(bench.path().join("queue/db"), db).unwrap();
    assert_eq!(bench.open().counts().waiting, 3);
}

#[test]
fn receipts_leave_after_thirty_days_and_their_journal_with_them() {
    let bench = Bench::new();
    let queue = bench.open();
    let receipt = queue.accept(submission(&["a"])).unwrap().receipt;
    let owed = queue.accept(submission(&["owed"])).unwrap().receipt;
    queue.claim().unwrap();
    queue.complete(&id("a"), "ab");
    bench.clock.advance(Duration::from_secs(32 * 86_400));
    queue.accept(submission(&["new"])).unwrap();
    queue.tend(&|_| HashMap::new());
    assert!(queue.receipt(&receipt).is_none());
    assert!(queue.receipt(&owed).is_some());
    assert_eq!(queue.counts().saved, 0);
    let files = || std::fs::read_dir(bench.path().join("journal")).unwrap().count();
    assert_eq!(files(), 2);
    queue.claim().unwrap();
    queue.fail(&id("owed"), "expired", "");
    queue.tend(&|_| HashMap::new());
    assert_eq!(files(), 1);
}

#[test]
fn a_queue_that_another_process_holds_is_refused() {
    let bench = Bench::new();
    let _held = bench.open();
    let refused = Queue::open(bench.options(), &|_| HashMap::new()).err().unwrap();
    assert!(format!("{refused:#}").contains("lock"), "{refused:#}");
    assert!(bench.asides().is_empty());
}

/// The disk fails where sled lies: its content is not to blame, and the journal goes on taking submissions.
#[test]
fn a_sick_sled_keeps_nobody_from_submitting() {
    let bench = Bench::new();
    let queue = bench.open();
    queue.accept(submission(&["before"])).unwrap();
    queue.close();
    drop(queue);
    let (db, away) = (bench.path().join("queue/db"), bench.path().join("db-away"));
    std::fs::rename(&db, &away).unwrap();
    std::fs::create_dir(&db).unwrap();

    let queue = bench.open();
    queue.accept(submission(&["during"])).unwrap();
    queue.tend(&|_| HashMap::new());
    assert_eq!((queue.counts().waiting, claimed(&queue)), (0, None));
    assert!(queue.can_accept().is_ok());

    std::fs::remove_dir(&db).unwrap();
    std::fs::rename(&away, &db).unwrap();
    queue.tend(&|_| HashMap::new());
    assert_eq!(queue.counts().waiting, 2);
    assert!(bench.asides().is_empty());
}

#[test]
fn a_sled_that_stays_sick_is_set_aside() {
    let bench = Bench::new();
    bench.open().accept(submission(&["a"])).unwrap();
    let db = bench.path().join("queue/db");
    std::fs::remove_file(&db).unwrap();
    std::fs::create_dir(&db).unwrap();
    let queue = bench.open();
    for _ in 0..STUCK_AFTER {
        assert!(bench.asides().is_empty());
        queue.tend(&|_| HashMap::new());
    }
    queue.tend(&|_| HashMap::new());
    assert_eq!((queue.counts().waiting, bench.asides().len()), (1, 1));
}

#[test]
fn what_is_set_aside_does_not_pile_up() {
    let bench = Bench::new();
    for _ in 0..4 {
        bench.open().accept(submission(&["a"])).unwrap();
        make_foreign(bench.path());
        bench.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(bench.open().counts().waiting, 1);
    assert_eq!(bench.asides().len(), 2);
}

/// Damage that does not show at open: a lost page of one of the trees, while other ids wait for their time.
#[test]
fn damage_that_is_found_at_work_is_mended_too() {
    for lost in ["jobs", "receipts", "timeline", "later"] {
        let bench = Bench::new();
        let queue = bench.open();
        let other = queue.accept(submission(&["other"])).unwrap().receipt;
        queue.claim().unwrap();
        if lost == "later" {
            queue.postpone(&id("other"), Duration::ZERO, None);
        }
        let receipt = queue.accept(submission(&["a"])).unwrap().receipt;
        queue.close();
        drop(queue);
        let db = open_sled(bench.path());
        let tree = db.open_tree(lost).unwrap();
        for entry in tree.iter() {
            let (key, value) = entry.unwrap();
            let is_of = |text: &str| [&key, &value].iter().any(|part| part.ends_with(text.as_bytes()));
            if lost == "later" || is_of(&receipt) {
                tree.remove(key).unwrap();
            }
        }
        db.flush().unwrap();
        drop((tree, db));
        let queue = bench.open();
        if lost != "later" {
            assert_eq!(claimed(&queue).as_deref(), Some("other"), "{lost}");
            queue.postpone(&id("other"), Duration::from_secs(3600), Some("40007"));
        }
        while claimed(&queue).is_some() {}
        queue.tend(&|_| HashMap::new());
        let owed: Vec<_> = std::iter::from_fn(|| claimed(&queue)).collect();
        assert!(owed.contains(&"a".to_owned()) || lost == "later", "{lost}: {owed:?}");
        assert!(owed.contains(&"other".to_owned()) || lost != "later", "{lost}: {owed:?}");
        assert!(queue.receipt(&receipt).is_some() && queue.receipt(&other).is_some(), "{lost}");
        assert_eq!(bench.asides().len(), 1, "{lost}");
    }
}

/// What was submitted under a wrong date keeps its receipt for thirty days from the first certain one.
#[test]
fn a_wrong_date_costs_no_receipt() {
    use crate::ground::checked_clock::CheckedClock;
    let bench = Bench::new();
    let clock = CheckedClock::over(bench.clock.clone());
    let options = QueueOptions { clock: clock.clone(), ..bench.options() };
    let queue = Queue::open(options, &|_| HashMap::new()).unwrap();
    let receipt = queue.accept(submission(&["a"])).unwrap().receipt;
    assert_eq!(queue.claim().unwrap().age_ms, Some(0));
    queue.complete(&id("a"), "ab");
    clock.learn_true_ms(NOW_MS + 7 * 30 * 86_400_000);
    for days in [0, 29] {
        bench.clock.advance(Duration::from_secs(days * 86_400));
        queue.tend(&|_| HashMap::new());
        assert!(queue.receipt(&receipt).is_some(), "after {days} days");
    }
    bench.clock.advance(Duration::from_secs(2 * 86_400));
    queue.tend(&|_| HashMap::new());
    assert!(queue.receipt(&receipt).is_none());
}
