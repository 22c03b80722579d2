//! A disk that takes no change for a while: a card that the kernel made read-only, a quota that is used up, a reader
//! that hangs by a thread. The box says so, stays, and goes on by itself when the disk does.

use super::promises::{self, Broken};
use super::station::{BoxProcess, Ledger, PATIENCE, Places, Station};
use super::volatile_disk::Disk;
use super::volatile_mount::{VolatileMount, can_mount};
use fuser::Errno;
use std::path::Path;
use std::time::Duration;
use tubox::ground::clock::Deadline;
use tubox::ground::stop::Stop;

/// The box tidies up every 5 s; it is to do so once meanwhile.
const HOUSEKEEPING: Duration = Duration::from_secs(6);

#[test]
fn a_disk_that_takes_nothing_for_a_while_breaks_no_promise() {
    if !can_mount() {
        return;
    }
    let ills =
        [("EROFS", Errno::EROFS), ("EIO", Errno::EIO), ("ENOSPC", Errno::ENOSPC), ("EDQUOT", Errno::EDQUOT)];
    std::thread::scope(|scope| {
        for (name, errno) in ills {
            scope.spawn(move || {
                let broken = fall_ill_and_recover(errno);
                assert!(broken.is_empty(), "{name}: {}", broken.join("\n"));
            });
        }
    });
}

fn fall_ill_and_recover(errno: Errno) -> Broken {
    let station = Station::new(1);
    let folder = tempfile::tempdir().unwrap();
    let places = Places::below(folder.path());
    let mount = VolatileMount::new(Disk::new());
    let mounted = mount.mount(folder.path()).unwrap();
    let mut running = station.start(&places).unwrap_or_else(|ended| panic!("{}", ended.log));
    let ledger = Ledger::default();
    assert!(ledger.submit(running.address, &station.uploads(4, 20_000)).unwrap());

    mount.fall_ill(Some(errno));
    let deadline = Deadline::after(HOUSEKEEPING);
    while !deadline.passed() {
        let (status, answer) = running.submit(&[station.upload(1000)]).unwrap();
        assert_eq!((status, &answer["rc"]), (503, &1.into()), "{answer}");
        assert_eq!(running.get("/healthz").unwrap().0, 200);
        assert_eq!(running.get("/readyz").unwrap().0, 503);
        Stop::new().wait(Duration::from_millis(100));
    }
    assert!(running.is_running(), "{}", running.log());

    mount.fall_ill(None);
    wait_until_ready(&running);
    let late = station.uploads(2, 20_000);
    assert!(ledger.submit(running.address, &late).unwrap(), "{}", running.log());
    let mut broken: Broken = running.await_settled(&ledger.receipts(), PATIENCE).err().into_iter().collect();
    broken.extend(promises::of_the_ledger(&ledger, &places.pictures));
    broken.extend(promises::of_the_album(&station, &places.pictures));
    let log = running.log();
    if !broken.is_empty() || log.contains("panicked") {
        broken.push(log);
    }
    mount.cut_now();
    running.kill();
    drop(mounted);
    broken.extend(after_the_cut(&station, &mount, folder.path(), &ledger));
    broken
}

/// Nobody has to come and submit for the box to notice that the disk is well.
fn wait_until_ready(running: &BoxProcess) {
    let deadline = Deadline::after(PATIENCE);
    while running.get("/readyz").unwrap().0 != 200 {
        assert!(!deadline.passed(), "not ready again\n{}", running.log());
        Stop::new().wait(Duration::from_millis(50));
    }
}

fn after_the_cut(station: &Station, mount: &VolatileMount, folder: &Path, ledger: &Ledger) -> Broken {
    let after = VolatileMount::new(mount.disk().after_cut(&station.random));
    let _mounted = after.mount(folder).unwrap();
    let places = Places::below(folder);
    let running = station.start(&places).unwrap_or_else(|ended| panic!("{}", ended.log));
    let mut broken: Broken = running.await_settled(&ledger.receipts(), PATIENCE).err().into_iter().collect();
    broken.extend(promises::of_the_ledger(ledger, &places.pictures));
    broken.extend(promises::of_the_album(station, &places.pictures));
    broken
}
