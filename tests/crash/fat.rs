//! The pictures folder on a stick as people bring it: FAT, or exFAT.

use super::promises::{self, Broken};
use super::station::{Ledger, PATIENCE, Places, Station, jpeg};
use super::volatile_disk::Disk;
use super::volatile_mount::{VolatileMount, can_mount};

#[test]
fn pictures_are_kept_on_fat() {
    if !can_mount() {
        return;
    }
    let station = Station::new(1);
    let (folder, stick) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mount = VolatileMount::new(Disk::new());
    mount.be_fat();
    let _mounted = mount.mount(stick.path()).unwrap();
    let places = Places { data: folder.path().join("data"), pictures: stick.path().join("pictures") };

    // Ids that differ in case only, in one submission: their names would be the same.
    let ids = ["Same-id_0", "sAME-ID_0", "same-id_0"].map(str::to_owned);
    for id in &ids {
        station.simulator.upload_as(id, jpeg(&station.random, 9000), "image/jpeg");
    }
    let ledger = Ledger::default();
    for _ in 0..2 {
        let running = station.start(&places).unwrap_or_else(|ended| panic!("{}", ended.log));
        ledger.submit(running.address, &ids).unwrap();
        let mut broken: Broken =
            running.await_settled(&ledger.receipts(), PATIENCE).err().into_iter().collect();
        broken.extend(promises::of_the_ledger(&ledger, &places.pictures));
        broken.extend(promises::of_the_album(&station, &places.pictures));
        assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), running.log());
        running.kill();
    }
    let names = mount.disk().find("pictures").unwrap().names().clone();
    let day = names.keys().next().unwrap();
    assert_eq!(
        mount.disk().find(&format!("pictures/{day}")).unwrap().names().len(),
        5,
        "three pictures and two lists"
    );
}
