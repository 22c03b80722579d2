//! What sled alone holds survives a power cut once the box has tidied up: the failed list, the attempts, and the place
//! up to which the journal is taken over. sled's own flush does not see to that; the syncs behind it do, of its file and
//! of the files that it makes for large pages, and without one of them this test sees the list lost.

use super::volatile_disk::Disk;
use super::volatile_mount::{Deaf, VolatileMount, can_mount};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tubox::ground::clock::TestClock;
use tubox::ground::media_id::MediaId;
use tubox::ground::random::SeededRandom;
use tubox::queue::{Queue, QueueOptions, Submission};

const SEEDS: u64 = 12;
/// Entries, and ids in each of them: large enough for sled to keep a page of them in a file of its own.
const LARGE: usize = 16;
const IDS_A_LARGE: usize = 200;
const IDS: usize = LARGE * IDS_A_LARGE;
/// Ids that are claimed; one half fails, the other is to be tried again.
const CLAIMED: usize = 40;
/// Ids that come after the box has tidied up: only the journal has them.
const LATE: usize = 5;

#[test]
fn the_failed_list_survives_a_power_cut() {
    if !can_mount() {
        return;
    }
    let kept: Vec<Kept> = (0..SEEDS).map(|seed| kept_after_a_cut(Deaf::Never, seed)).collect();
    assert!(
        kept.iter().all(|kept| *kept == Kept {
            failed: CLAIMED / 2,
            attempts: 1,
            waiting: IDS - CLAIMED / 2 + LATE
        }),
        "{kept:?}"
    );
    for unsynced in ["/queue/db", "/queue/blobs/"] {
        let kept: Vec<Kept> =
            (0..SEEDS).map(|seed| kept_after_a_cut(Deaf::ToFiles(unsynced), seed)).collect();
        // Without the sync the list is lost; the promise is not, it is in the journal.
        assert!(kept.iter().any(|kept| kept.failed < CLAIMED / 2), "{unsynced}: {kept:?}");
        assert!(kept.iter().all(|kept| kept.failed + kept.waiting == IDS + LATE), "{unsynced}: {kept:?}");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    failed: usize,
    /// Of an id that was tried once.
    attempts: u32,
    waiting: usize,
}

fn kept_after_a_cut(deaf: Deaf, seed: u64) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let mount = VolatileMount::new(Disk::new());
    mount.be_deaf(deaf);
    let mounted = mount.mount(folder.path()).unwrap();
    let queue = open(folder.path());
    (0..LARGE).for_each(|number| submit(&queue, &format!("large-{number}"), IDS_A_LARGE));
    for number in 0..CLAIMED {
        let claim = queue.claim().unwrap();
        match number % 2 {
            0 => queue.fail(&claim.media_id, "40007", "gone"),
            _ => queue.postpone(&claim.media_id, Duration::from_secs(1), Some("network")),
        }
    }
    queue.tend(&|_| HashMap::new());
    submit(&queue, "late", LATE);
    mount.cut_now();
    drop(queue);
    drop(mounted);

    let after = VolatileMount::new(mount.disk().after_cut(&SeededRandom::shared(seed)));
    let _mounted = after.mount(folder.path()).unwrap();
    let queue = open(folder.path());
    let counts = queue.counts();
    let attempts = std::iter::from_fn(|| queue.claim()).map(|claim| claim.attempts).max().unwrap_or(0);
    Kept { failed: queue.failed(CLAIMED).len(), attempts, waiting: counts.waiting as usize }
}

fn submit(queue: &Queue, name: &str, count: usize) {
    let ids =
        (0..count).map(|number| MediaId::parse(&format!("{name}-{number}-").repeat(4)).unwrap()).collect();
    queue.accept(Submission { ids, ..Submission::default() }).unwrap();
}

fn open(folder: &Path) -> Queue {
    let options = QueueOptions {
        data_dir: folder.join("data"),
        waiting_max: 10_000,
        reserve_bytes: 0,
        deadline: Duration::from_secs(72 * 3600),
        clock: TestClock::at(1_795_280_466_123),
        crowd: Default::default(),
        random: SeededRandom::shared(1),
    };
    Queue::open(options, &|_| HashMap::new()).unwrap()
}
