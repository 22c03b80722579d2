//! The power goes at a drawn moment, again and again, and takes a drawn part of what was not synced.

use super::campaign;
use super::promises::{self, Broken};
use super::station::{Ended, Ledger, PATIENCE, Places, Station};
use super::volatile_disk::Disk;
use super::volatile_mount::{Deaf, Mounted, Operation, VolatileMount, can_mount};
use std::path::Path;
use std::time::Duration;

/// Cuts that one disk goes through before a new one takes its place.
const CUTS_A_DISK: u64 = 8;
const PICTURES_A_CUT: usize = 24;
/// The cut comes within so many operations.
const OPERATIONS_MAX: u64 = 420;
/// While a box starts on a disk that it has to repair.
const START_OPERATIONS_MAX: u64 = 60;

const AIMS: [(Operation, &str); 6] = [
    (Operation::Sync, "/journal/"),
    (Operation::Sync, "/manifest.csv"),
    (Operation::Sync, "/SHA256SUMS"),
    (Operation::SyncFolder, "/pictures/"),
    (Operation::Rename, "/pictures/"),
    (Operation::Sync, "/queue/"),
];

#[derive(Default)]
struct Figures {
    cuts: u64,
    cuts_while_starting: u64,
    acknowledged: usize,
    broken: Broken,
}

/// One disk, its mount and the box on it.
struct Scene<'a> {
    station: &'a Station,
    folder: &'a Path,
    deaf: Deaf,
    figures: Figures,
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !can_mount() {
        return;
    }
    let cuts = campaign("CAMPAIGN_CUTS", 6);
    let figures = run(cuts, Deaf::Never, campaign("CAMPAIGN_SEED", 1));
    eprintln!(
        "{} power cuts ({} of them while starting), {} ids acknowledged, broken promises: {}",
        figures.cuts,
        figures.cuts_while_starting,
        figures.acknowledged,
        figures.broken.len()
    );
    assert!(figures.cuts >= cuts);
    assert!(
        figures.acknowledged as u64 >= cuts,
        "hardly anything was acknowledged: the campaign proves nothing"
    );
    assert_eq!(figures.broken, Broken::new());
}

/// The control: the rig catches a box whose sync is taken out, wherever it is taken out.
#[test]
fn the_rig_catches_a_box_that_does_not_sync() {
    if !can_mount() {
        return;
    }
    for deaf in [Deaf::ToFiles("/journal/"), Deaf::ToFiles("/pictures/"), Deaf::ToFolders] {
        let mut caught = None;
        for seed in 1..=5 {
            let figures = run(4, deaf, seed);
            if !figures.broken.is_empty() {
                eprintln!(
                    "without {deaf:?}: caught within {} cuts: {}",
                    4 * (seed - 1) + figures.cuts,
                    figures.broken[0]
                );
                caught = Some(seed);
                break;
            }
        }
        assert!(caught.is_some(), "a box without syncs ({deaf:?}) went unnoticed");
    }
}

fn run(cuts: u64, deaf: Deaf, seed: u64) -> Figures {
    let station = Station::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene { station: &station, folder: folder.path(), deaf, figures: Figures::default() };
    while scene.figures.cuts < cuts && scene.figures.broken.is_empty() {
        let left = cuts - scene.figures.cuts;
        scene.one_disk(left.min(CUTS_A_DISK), seed);
    }
    scene.figures
}

impl Scene<'_> {
    fn one_disk(&mut self, cuts: u64, seed: u64) {
        let ledger = Ledger::default();
        let mut disk = Disk::new();
        let until = self.figures.cuts + cuts;
        while self.figures.cuts < until && self.figures.broken.is_empty() {
            disk = self.one_cut(disk, &ledger);
            self.figures.cuts += 1;
        }
        let (mount, _mounted) = self.mount(disk);
        self.check_recovery(&mount, &ledger);
        self.figures.acknowledged += ledger.ids().len();
        let cuts = self.figures.cuts;
        self.figures
            .broken
            .iter_mut()
            .for_each(|broken| *broken = format!("seed {seed}, by cut {cuts}: {broken}"));
    }

    fn mount(&self, disk: Disk) -> (VolatileMount, Mounted) {
        let mount = VolatileMount::new(disk);
        mount.be_deaf(self.deaf);
        let mounted = mount.mount(self.folder).unwrap();
        (mount, mounted)
    }

    /// The box starts, is found in order, gets work, and loses its power in the middle of it. Every fourth time it
    /// loses it while starting.
    fn one_cut(&mut self, disk: Disk, ledger: &Ledger) -> Disk {
        let random = &self.station.random;
        let (mount, mounted) = self.mount(disk);
        let is_early = random.u64().is_multiple_of(4);
        if is_early {
            mount.cut_after(random.u64() % START_OPERATIONS_MAX);
            self.figures.cuts_while_starting += 1;
        } else {
            self.figures
                .broken
                .extend(promises::of_a_pulled_card(self.station, &self.folder.join("pictures")));
        }
        let started = self.station.start(&Places::below(self.folder));
        if let Ok(running) = started {
            if !is_early {
                self.figures
                    .broken
                    .extend(promises::of_the_album(self.station, &self.folder.join("pictures")));
                self.arm(&mount);
            }
            let ids = self.station.uploads(PICTURES_A_CUT, 20_000);
            ledger.submit_all(running.address, &ids, 2, 3);
            if !mount.wait_for_cut(Duration::from_secs(2)) {
                mount.cut_now();
            }
            running.kill();
        } else if !mount.wait_for_cut(Duration::ZERO)
            && let Err(Ended { status, log }) = started
        {
            self.figures.broken.push(format!("the box does not start after a cut: {status}\n{log}"));
        }
        drop(mounted);
        mount.disk().after_cut(random)
    }

    /// Half of the cuts come anywhere, half where most is at stake: between a write and its sync.
    fn arm(&self, mount: &VolatileMount) {
        let random = &self.station.random;
        let count = random.u64() % OPERATIONS_MAX;
        match AIMS.get(random.u64() as usize % (2 * AIMS.len())) {
            Some((operation, part)) => mount.cut_before(count, *operation, part),
            None => mount.cut_after(count),
        }
    }

    fn check_recovery(&mut self, mount: &VolatileMount, ledger: &Ledger) {
        let pictures = self.folder.join("pictures");
        let running = match self.station.start(&Places::below(self.folder)) {
            Ok(running) => running,
            Err(Ended { status, log }) => {
                return self
                    .figures
                    .broken
                    .push(format!("the box does not start after a cut: {status}\n{log}"));
            }
        };
        self.figures.broken.extend(promises::of_the_album(self.station, &pictures));
        let limit = if self.deaf == Deaf::Never { PATIENCE } else { Duration::from_secs(10) };
        if let Err(why) = running.await_settled(&ledger.receipts(), limit) {
            self.figures.broken.push(format!("{why}\n{}", running.log()));
        }
        self.figures.broken.extend(promises::of_the_ledger(ledger, &pictures));
        self.figures.broken.extend(promises::of_the_album(self.station, &pictures));
        drop(running);
        mount.cut_now();
    }
}
