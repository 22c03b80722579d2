//! The power goes at a drawn moment, again and again, and takes a drawn part of what was not synced.

use super::campaign;
use super::loop_disk::{LoopDisk, can_loop_mount, format_ext4};
use super::promises::{self, Broken};
use super::station::{BoxProcess, Ended, Ledger, PATIENCE, Places, Station};
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

/// What the box stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// The volatile file system itself: the strictest there is.
    Strict,
    /// A real ext4 on a disk whose cache forgets: a loop device over a file of the volatile file system.
    Ext4,
}

const EXT4_BYTES: u64 = 32 << 20;
/// Operations are blocks there.
const EXT4_OPERATIONS_MAX: u64 = 800;

/// How a box is run: what it stands on, and what is taken out of it.
#[derive(Clone, Copy, Debug)]
struct Setup {
    ground: Ground,
    deaf: Deaf,
    /// System calls that report success and do nothing.
    without: Option<&'static str>,
}

const SOUND: Setup = Setup { ground: Ground::Strict, deaf: Deaf::Never, without: None };

/// One disk, its mounts and the box on it.
struct Scene<'a> {
    station: &'a Station,
    /// Where the volatile file system is mounted, and where the box keeps its things.
    volatile: &'a Path,
    folder: &'a Path,
    setup: Setup,
    figures: Figures,
}

/// Keeps all mounts; the upper one goes first.
struct Mounts {
    _ext4: Option<LoopDisk>,
    _volatile: Mounted,
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !can_mount() {
        return;
    }
    survive(SOUND, campaign("CAMPAIGN_CUTS", 6));
}

#[test]
fn a_power_cut_on_ext4_loses_nothing_that_was_acknowledged() {
    if can_mount() && can_loop_mount() {
        survive(Setup { ground: Ground::Ext4, ..SOUND }, campaign("CAMPAIGN_CUTS", 4));
    }
}

fn survive(setup: Setup, cuts: u64) {
    let figures = run(cuts, setup, campaign("CAMPAIGN_SEED", 1));
    eprintln!(
        "{:?}: {} power cuts ({} of them while starting), {} ids acknowledged: {}",
        setup.ground,
        figures.cuts,
        figures.cuts_while_starting,
        figures.acknowledged,
        promises::tally(&figures.broken)
    );
    assert!(figures.broken.is_empty(), "{}", figures.broken.join("\n"));
    assert!(figures.cuts >= cuts);
    assert!(
        figures.acknowledged as u64 >= cuts,
        "hardly anything was acknowledged: the campaign proves nothing"
    );
}

/// The control: the rig catches a box whose sync is taken out, wherever it is taken out.
#[test]
fn the_rig_catches_a_box_that_does_not_sync() {
    if !can_mount() {
        return;
    }
    let deaf = |deaf| Setup { deaf, ..SOUND };
    let without = |call| Setup { ground: Ground::Ext4, without: Some(call), ..SOUND };
    assert_caught(deaf(Deaf::ToFiles("/journal/")));
    if campaign("CAMPAIGN_CUTS", 0) == 0 {
        return;
    }
    assert_caught(deaf(Deaf::ToFiles("/pictures/")));
    assert_caught(deaf(Deaf::ToFolders));
    if can_loop_mount() {
        assert_caught(without("fdatasync"));
        assert_caught(without("syncfs"));
    }
}

fn assert_caught(setup: Setup) {
    let mut cuts = 0;
    for seed in 1..=10 {
        let figures = run(4, setup, seed);
        cuts += figures.cuts;
        if let Some(broken) = figures.broken.first() {
            let broken = broken.lines().next().unwrap_or_default();
            return eprintln!("{setup:?}: caught within {cuts} cuts: {broken}");
        }
    }
    panic!("a box without its syncs ({setup:?}) went unnoticed in {cuts} cuts");
}

fn run(cuts: u64, setup: Setup, seed: u64) -> Figures {
    let station = Station::new(seed);
    let (volatile, ext4) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = if setup.ground == Ground::Ext4 { ext4.path() } else { volatile.path() };
    let mut scene =
        Scene { station: &station, volatile: volatile.path(), folder, setup, figures: Figures::default() };
    while scene.figures.cuts < cuts && scene.figures.broken.is_empty() {
        let left = cuts - scene.figures.cuts;
        scene.one_disk(left.min(CUTS_A_DISK), seed);
    }
    scene.figures
}

impl Scene<'_> {
    fn one_disk(&mut self, cuts: u64, seed: u64) {
        let ledger = Ledger::default();
        let mut disk = self.blank();
        let until = self.figures.cuts + cuts;
        while self.figures.cuts < until && self.figures.broken.is_empty() {
            disk = self.one_cut(disk, &ledger);
            self.figures.cuts += 1;
        }
        let (_mount, _mounts) = self.mount(disk.clone());
        self.check_recovery(&ledger);
        if let (false, Ok(folder)) = (self.figures.broken.is_empty(), std::env::var("CAMPAIGN_KEEP")) {
            disk.write_to(Path::new(&folder)).unwrap();
        }
        self.figures.acknowledged += ledger.ids().len();
        let cuts = self.figures.cuts;
        self.figures
            .broken
            .iter_mut()
            .for_each(|broken| *broken = format!("seed {seed}, by cut {cuts}: {broken}"));
    }

    fn blank(&self) -> Disk {
        let mount = VolatileMount::new(Disk::new());
        if self.setup.ground == Ground::Ext4 {
            let _mounted = mount.mount(self.volatile).unwrap();
            format_ext4(&self.volatile.join("image"), EXT4_BYTES);
        }
        mount.disk().synced()
    }

    fn mount(&self, disk: Disk) -> (VolatileMount, Mounts) {
        let mount = VolatileMount::new(disk);
        mount.be_deaf(self.setup.deaf);
        let volatile = mount.mount(self.volatile).unwrap();
        let is_ext4 = self.setup.ground == Ground::Ext4;
        let ext4 =
            is_ext4.then(|| LoopDisk::mount("ext4", &self.volatile.join("image"), self.folder).unwrap());
        (mount, Mounts { _ext4: ext4, _volatile: volatile })
    }

    fn start(&self) -> Result<BoxProcess, Ended> {
        let environment = self.station.command(&Places::below(self.folder), &[]);
        match self.setup.without {
            None => BoxProcess::start(&environment),
            Some(call) => BoxProcess::start_without(call, &environment),
        }
    }

    /// The box starts, is found in order, gets work, and loses its power in the middle of it. Every fourth time it
    /// loses it while starting; every second of the others it is killed or stopped and started again before.
    fn one_cut(&mut self, disk: Disk, ledger: &Ledger) -> Disk {
        let random = &self.station.random;
        let (mount, mounts) = self.mount(disk);
        let pictures = self.folder.join("pictures");
        let is_early = random.u64().is_multiple_of(4);
        if is_early {
            mount.cut_after(random.u64() % START_OPERATIONS_MAX);
            self.figures.cuts_while_starting += 1;
        } else {
            self.figures.broken.extend(promises::of_a_pulled_card(self.station, &pictures));
        }
        let ids = self.station.uploads(PICTURES_A_CUT, 20_000);
        let mut started = self.start();
        if !is_early {
            self.figures.broken.extend(promises::of_the_album(self.station, &pictures));
            started = match (random.u64() % 6, started) {
                (0 | 1, Ok(running)) => {
                    self.submit_until_killed(running, &mount, &ids, ledger);
                    // The same ids come again: what the killed one wrote and did not sync must not count as known.
                    self.start()
                }
                (2, Ok(running)) => {
                    ledger.submit_all(running.address, &ids[..PICTURES_A_CUT / 2], 2, 3);
                    running.terminate();
                    // From here on sled knows a place in the journal.
                    self.start()
                }
                (_, started) => started,
            };
            self.arm(&mount);
        }
        match started {
            Ok(running) => {
                ledger.submit_all(running.address, &ids, 2, 3);
                if !mount.wait_for_cut(Duration::from_secs(2)) {
                    mount.cut_now();
                }
                running.kill();
            }
            Err(_) if mount.wait_for_cut(Duration::ZERO) => {}
            Err(Ended { status, log }) => {
                self.figures.broken.push(format!("the box does not start after a cut: {status}\n{log}"));
            }
        }
        drop(mounts);
        mount.disk().after_cut(random)
    }

    fn submit_until_killed(
        &self,
        running: BoxProcess,
        mount: &VolatileMount,
        ids: &[String],
        ledger: &Ledger,
    ) {
        let (count, address) = (self.station.random.u64() % OPERATIONS_MAX, running.address);
        std::thread::scope(|scope| {
            scope.spawn(|| ledger.submit_all(address, ids, 2, 3));
            mount.wait_for_steps(count as usize, Duration::from_secs(1));
            running.kill();
        });
    }

    /// Half of the cuts come anywhere, half where most is at stake: between a write and its sync.
    fn arm(&self, mount: &VolatileMount) {
        let random = &self.station.random;
        if self.setup.ground == Ground::Ext4 {
            return mount.cut_after(random.u64() % EXT4_OPERATIONS_MAX);
        }
        let count = random.u64() % OPERATIONS_MAX;
        match AIMS.get(random.u64() as usize % (2 * AIMS.len())) {
            Some((operation, part)) => mount.cut_before(count, *operation, part),
            None => mount.cut_after(count),
        }
    }

    fn check_recovery(&mut self, ledger: &Ledger) {
        let pictures = self.folder.join("pictures");
        let running = match self.start() {
            Ok(running) => running,
            Err(Ended { status, log }) => {
                return self
                    .figures
                    .broken
                    .push(format!("the box does not start after a cut: {status}\n{log}"));
            }
        };
        self.figures.broken.extend(promises::of_the_album(self.station, &pictures));
        let is_sound = self.setup.deaf == Deaf::Never && self.setup.without.is_none();
        let limit = if is_sound { PATIENCE } else { Duration::from_secs(3) };
        if let Err(why) = running.await_settled(&ledger.receipts(), limit) {
            self.figures.broken.push(format!("{why}\n{}", running.log()));
        }
        self.figures.broken.extend(promises::of_the_ledger(ledger, &pictures));
        self.figures.broken.extend(promises::of_the_album(self.station, &pictures));
    }
}
