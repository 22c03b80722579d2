//! Every write, sync, rename, open, making and removing of a short run fails once, in turn, with each of the errors
//! that disks give; then the power goes, so that a sync that failed and was trusted nevertheless comes to light.
//!
//! Of a fault while starting, an orderly refusal (exit code 3) is asked, and that the next start works. Of a fault
//! while running: nothing is acknowledged that is lost, nothing breaks, and all goes on without a restart.

use super::campaign;
use super::promises::{self, Broken};
use super::station::{BoxProcess, Ended, Ledger, PATIENCE, Places, Station};
use super::volatile_disk::Disk;
use super::volatile_mount::{Operation, Step, VolatileMount, can_mount};
use fuser::Errno;
use std::path::Path;
use std::sync::Mutex;
use tubox::ground::clock::Deadline;

/// Faults of the default run, drawn from all.
const SAMPLE: u64 = 8;
/// And so many syncs of folders, from the start on.
const NAME_SYNCS: usize = 4;
/// Runs at a time: they wait more than they work.
const SIDE_BY_SIDE: u64 = 4;

const ERRORS: [(&str, Errno); 4] =
    [("ENOSPC", Errno::ENOSPC), ("EIO", Errno::EIO), ("EROFS", Errno::EROFS), ("EDQUOT", Errno::EDQUOT)];

#[test]
fn a_single_fault_of_the_disk_breaks_no_promise() {
    if !can_mount() {
        return;
    }
    let station = Station::new(campaign("CAMPAIGN_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let (steps, _, broken) = one_run(&station, folder.path(), None);
    assert_eq!(broken, Broken::new(), "without a fault");
    let errors = ERRORS.len() as u64;
    let all = steps.len() as u64 * errors;
    let is_whole = std::env::var("CAMPAIGN_FAULTS").is_ok_and(|text| text == "all");
    let chosen: Vec<u64> = if is_whole {
        (0..all).collect()
    } else {
        // A folder that was made and whose name could not be synced has been taken for durable once.
        let of_names = (0..).zip(&steps).filter(|(_, step)| step.operation == Operation::SyncFolder);
        let of_names = of_names.take(NAME_SYNCS).map(|(number, _)| number * errors + 1);
        of_names.chain((0..SAMPLE).map(|_| station.random.u64() % all)).collect()
    };
    let (count, left) = (chosen.len(), Mutex::new(chosen.into_iter()));
    let parts: Vec<(usize, Broken)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|number| (number, &left))
            .map(|(number, left)| scope.spawn(move || suffer(number, left)))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let acknowledged: usize = parts.iter().map(|part| part.0).sum();
    let broken: Broken = parts.into_iter().flat_map(|part| part.1).collect();
    eprintln!(
        "{count} of {all} single faults ({} operations, {errors} errors), {acknowledged} ids acknowledged: {}",
        steps.len(),
        promises::tally(&broken)
    );
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// Runs with faults until none is left; ids acknowledged, and what broke.
fn suffer(worker: u64, left: &Mutex<impl Iterator<Item = u64>>) -> (usize, Broken) {
    let station = Station::new(campaign("CAMPAIGN_SEED", 1) + worker);
    let folder = tempfile::tempdir().unwrap();
    let next = || left.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    let (mut acknowledged, mut broken) = (0, Broken::new());
    while let Some(number) = next() {
        let (at, error) = (number / ERRORS.len() as u64, ERRORS[number as usize % ERRORS.len()]);
        let (_, taken, broke) = one_run(&station, folder.path(), Some((at, error)));
        acknowledged += taken;
        broken.extend(broke);
    }
    (acknowledged, broken)
}

/// A short run with a fault; the operations, how many ids were acknowledged, and what broke.
fn one_run(
    station: &Station,
    folder: &Path,
    fault: Option<(u64, (&str, Errno))>,
) -> (Vec<Step>, usize, Broken) {
    let mount = VolatileMount::new(Disk::new());
    if let Some((at, (_, errno))) = fault {
        mount.fail_after(at, errno);
    }
    let mounted = mount.mount(folder).unwrap();
    let ledger = Ledger::default();
    let mut broken = the_run(station, &Places::below(folder), &ledger);
    let steps = mount.steps();
    mount.fail_no_more();
    broken.extend(promises::of_the_ledger(&ledger, &folder.join("pictures")));
    broken.extend(promises::of_the_album(station, &folder.join("pictures")));
    mount.cut_now();
    drop(mounted);

    let after = VolatileMount::new(mount.disk().after_cut(&station.random));
    let _mounted = after.mount(folder).unwrap();
    broken.extend(the_restart(station, &Places::below(folder), &ledger));
    let hit =
        mount.hit().map_or("nothing".to_owned(), |step| format!("{:?} of {}", step.operation, step.path));
    let name = fault.map_or("no fault".to_owned(), |(at, (name, _))| {
        format!("{name} at operation {at}, which was {hit}")
    });
    (steps, ledger.ids().len(), broken.into_iter().map(|broken| format!("{name}: {broken}")).collect())
}

fn the_run(station: &Station, places: &Places, ledger: &Ledger) -> Broken {
    let mut started = station.start(places);
    if let Err(Ended { status, log }) = &started {
        let is_orderly = status.code() == Some(3) && log.contains("tubox: could not");
        if !is_orderly {
            return vec![format!("an unorderly end of the start: {status}\n{log}")];
        }
        started = station.start(places);
    }
    let running = match started {
        Ok(running) => running,
        Err(Ended { status, log }) => {
            return vec![format!("the start after a failed start fails: {status}\n{log}")];
        }
    };
    let mut broken = Broken::new();
    for _ in 0..3 {
        let ids = station.uploads(2, 20_000);
        if !submit_until_taken(&running, ledger, &ids) {
            broken.push(format!("a submission is never taken\n{}", running.log()));
        }
    }
    if let Err(why) = running.await_settled(&ledger.receipts(), PATIENCE) {
        broken.push(format!("{why}\n{}", running.log()));
    }
    let (status, log) = running.terminate();
    if status.code() != Some(0) || log.lines().any(is_our_panic) {
        broken.push(format!("an unorderly end: {status}\n{log}"));
    }
    broken
}

/// sled panics when it is closed on a disk that fails; the box catches that.
fn is_our_panic(line: &str) -> bool {
    line.contains("panicked at") && !line.contains("/sled-0.34")
}

/// As a person does who is told to try again.
fn submit_until_taken(running: &BoxProcess, ledger: &Ledger, ids: &[String]) -> bool {
    let deadline = Deadline::after(PATIENCE);
    while !deadline.passed() {
        match ledger.submit(running.address, ids) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(_) => return false,
        }
    }
    false
}

fn the_restart(station: &Station, places: &Places, ledger: &Ledger) -> Broken {
    let running = match station.start(places) {
        Ok(running) => running,
        Err(Ended { status, log }) => {
            return vec![format!("the box does not start after the cut: {status}\n{log}")];
        }
    };
    let mut broken = promises::of_the_album(station, &places.pictures);
    if let Err(why) = running.await_settled(&ledger.receipts(), PATIENCE) {
        broken.push(format!("after the cut: {why}\n{}", running.log()));
    }
    broken.extend(promises::of_the_ledger(ledger, &places.pictures));
    broken.extend(promises::of_the_album(station, &places.pictures));
    broken
}
