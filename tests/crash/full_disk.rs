//! A disk of 8 MiB fills up for real, and is emptied again: a loop-mounted ext4 that holds data and pictures.

use super::loop_disk::{LoopDisk, can_loop_mount, format_ext4};
use super::promises::{self, Broken};
use super::station::{BoxProcess, Ledger, PATIENCE, Places, Station};
use std::path::Path;
use std::time::Duration;
use tubox::ground::clock::Deadline;
use tubox::ground::stop::Stop;

const DISK_BYTES: u64 = 8 << 20;
const PICTURE_BYTES: usize = 200_000;
const PICTURES: usize = 16;
/// Below it nothing is downloaded; an eighth of it is the reserve of the queue.
const FREE_MIN: u64 = 1 << 20;

fn free(at: &Path) -> u64 {
    let stats = rustix::fs::statvfs(at).unwrap();
    stats.f_bavail * stats.f_frsize
}

/// Leaves `left` bytes free, as another program would that uses the disk up.
fn use_up(at: &Path, name: &str, left: u64) {
    let file = std::fs::File::create(at.join(name)).unwrap();
    let bytes = free(at).saturating_sub(left);
    if bytes > 0 {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    }
}

fn wait_for(running: &BoxProcess, what: &str, limit: Duration, is_so: impl Fn() -> bool) {
    let deadline = Deadline::after(limit);
    while !is_so() {
        assert!(!deadline.passed(), "{what} does not come about\n{}", running.log());
        Stop::new().wait(Duration::from_millis(20));
    }
}

/// The box tidies up every 5 s; it is to do so once while there is no room.
const HOUSEKEEPING: Duration = Duration::from_secs(6);

#[test]
fn a_full_disk_stops_downloads_then_submissions_and_all_goes_on_when_it_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    if !can_loop_mount() {
        return;
    }
    let image = folder.path().join("image");
    format_ext4(&image, DISK_BYTES);
    let disk = LoopDisk::mount("ext4", &image, &folder.path().join("disk")).unwrap();
    let station = Station::new(1);
    let places = Places::below(&disk.at);
    let settings = [("LIMITS_MIN_FREE_BYTES", &*FREE_MIN.to_string())];
    let mut running = station.start_with(&places, &settings).unwrap_or_else(|ended| panic!("{}", ended.log));
    let ledger = Ledger::default();

    // Room for some of the pictures, not for all.
    use_up(&disk.at, "ballast", FREE_MIN + 4 * PICTURE_BYTES as u64);
    let ids: Vec<String> = (0..PICTURES).map(|_| station.upload_of(PICTURE_BYTES)).collect();
    ledger.submit_all(running.address, &ids, 4, 1);
    wait_for(&running, "a pause", PATIENCE, || running.log().contains("(disk-full)"));
    let saved = || ids.iter().filter(|id| running.log().contains(&format!("{id}.jpg ("))).count();
    // What came whole before the pause is committed all the same.
    wait_for(&running, "a picture", PATIENCE, || saved() > 0);
    assert!(saved() < PICTURES, "{}", saved());
    assert!(free(&disk.at) > FREE_MIN / 4, "the reserve of the queue is gone: {}", free(&disk.at));

    // Ids are still taken, until the reserve is reached; then the phone hears why.
    assert!(ledger.submit(running.address, &[station.upload_of(PICTURE_BYTES)]).unwrap());
    use_up(&disk.at, "more", FREE_MIN / 16);
    let (status, answer) = running.submit(&[station.upload_of(1000)]).unwrap();
    assert_eq!((status, &answer["rc"], &answer["code"]), (503, &1.into(), &"box-full".into()), "{answer}");
    assert!(answer["msg"].as_str().unwrap().contains("full"), "{answer}");

    // Not a byte left: what the box wants to write meanwhile fails.
    use_up(&disk.at, "last", 0);
    let deadline = Deadline::after(HOUSEKEEPING);
    while !deadline.passed() {
        assert_eq!(running.get("/healthz").unwrap().0, 200);
        Stop::new().wait(Duration::from_millis(50));
    }
    assert!(running.is_running(), "{}", running.log());
    assert_eq!(running.submit(&[station.upload_of(1000)]).unwrap().0, 503);

    for name in ["last", "more", "ballast"] {
        std::fs::remove_file(disk.at.join(name)).unwrap();
    }
    let deadline = Deadline::after(PATIENCE);
    while !ledger.submit(running.address, &[station.upload_of(1000)]).unwrap() {
        assert!(!deadline.passed(), "ids are not taken again\n{}", running.log());
    }
    let mut broken: Broken = running.await_settled(&ledger.receipts(), PATIENCE).err().into_iter().collect();
    broken.extend(promises::of_the_ledger(&ledger, &places.pictures));
    broken.extend(promises::of_the_album(&station, &places.pictures));
    assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), running.log());
    let (status, log) = running.terminate();
    assert!(status.success() && !log.contains("panicked"), "{log}");
}
