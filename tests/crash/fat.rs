//! The pictures folder on a stick as people bring it: FAT. Once on the volatile file system with FAT's rules, which
//! works everywhere; once on a real one where the kernel knows it (`tests/fat-in-uml` brings a kernel that does).

use super::loop_disk::{LoopDisk, format_fat};
use super::promises::{self, Broken};
use super::station::{Ledger, PATIENCE, Places, Station, jpeg};
use super::volatile_disk::Disk;
use super::volatile_mount::{VolatileMount, can_mount};
use std::path::Path;
use tubox::ground::clock::{SystemClock, day_utc};

/// As many of the longest names fill a folder of FAT, or nearly.
const NAMES: usize = 3_100;
const FAT_BYTES: u64 = 64 << 20;
const DAY_MS: i64 = 86_400_000;

#[test]
fn pictures_are_kept_where_fats_rules_hold() {
    if !can_mount() {
        return;
    }
    let stick = tempfile::tempdir().unwrap();
    let mount = VolatileMount::new(Disk::new());
    mount.be_fat();
    let _mounted = mount.mount(stick.path()).unwrap();
    keep_pictures_on(stick.path());
}

#[test]
fn pictures_are_kept_on_a_real_fat() {
    let folder = tempfile::tempdir().unwrap();
    let (image, stick) = (folder.path().join("image"), folder.path().join("stick"));
    let mounted = format_fat(&image, FAT_BYTES).and_then(|()| LoopDisk::mount("vfat", &image, &stick));
    match mounted {
        Ok(_mounted) => keep_pictures_on(&stick),
        Err(why) => {
            eprintln!("\n*** SKIPPED: no FAT can be mounted here (tests/fat-in-uml can): {why} ***\n")
        }
    }
}

fn keep_pictures_on(stick: &Path) {
    let station = Station::new(1);
    let folder = tempfile::tempdir().unwrap();
    let places = Places { data: folder.path().join("data"), pictures: stick.join("pictures") };

    // Ids that differ in case only, in one submission: their names would be the same.
    let ids = ["Same-id_0", "sAME-ID_0", "same-id_0"].map(str::to_owned);
    for id in &ids {
        station.simulator.upload_as(id, jpeg(&station.random, 9000), "image/jpeg");
    }
    let ledger = Ledger::default();
    for _ in 0..2 {
        run(&station, &places, &ledger, &ids);
    }
    let days = days_of(&places.pictures);
    let names: usize = days.iter().map(|day| names_in(&places.pictures.join(day))).sum();
    assert_eq!(names, 3 + 2 * days.len(), "three pictures and two lists a day: {days:?}");

    // A folder that is full, today's or, should midnight come, tomorrow's.
    let now_ms = SystemClock::shared().wall_ms();
    for day in [day_utc(now_ms), day_utc(now_ms + DAY_MS)] {
        fill(&places.pictures.join(day));
    }
    run(&station, &places, &ledger, &station.uploads(3, 9000));
    let days = days_of(&places.pictures);
    assert!(days.iter().any(|day| day.ends_with("_02")), "{days:?}");
}

fn run(station: &Station, places: &Places, ledger: &Ledger, ids: &[String]) {
    let running = station.start(places).unwrap_or_else(|ended| panic!("{}", ended.log));
    assert!(ledger.submit(running.address, ids).unwrap(), "{}", running.log());
    let mut broken: Broken = running.await_settled(&ledger.receipts(), PATIENCE).err().into_iter().collect();
    broken.extend(promises::of_the_ledger(ledger, &places.pictures));
    broken.extend(promises::of_the_album(station, &places.pictures));
    assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), running.log());
    running.kill();
}

/// Makes files until no more can be made, or more than the box would make. Hidden, so that they count as nobody's.
fn fill(day: &Path) {
    std::fs::create_dir_all(day).unwrap();
    let name = |number: usize| format!(".{number:04}{}", "x".repeat(250));
    let made = (0..NAMES).take_while(|number| std::fs::File::create(day.join(name(*number))).is_ok()).count();
    assert!(made > 3_000, "only {made} names fit into {}", day.display());
}

fn days_of(pictures: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pictures).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn names_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}
