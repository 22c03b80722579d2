//! kill -9 at any moment, mid-request and mid-download, on an ordinary folder. The page cache survives it, so this
//! is about order and half-done work, not about syncs.

use super::campaign;
use super::promises::{self, Broken};
use super::station::{Ledger, PATIENCE, Places, Station};
use std::path::Path;
use std::time::Duration;
use tubox::ground::stop::Stop;

/// Rounds on one folder before a new one takes its place.
const ROUNDS_A_FOLDER: u64 = 30;
const PICTURES_A_ROUND: usize = 16;
const LIFE_MAX_MS: u64 = 350;

#[derive(Default)]
struct Figures {
    rounds: u64,
    acknowledged: usize,
    broken: Broken,
}

#[test]
fn a_killed_box_loses_nothing_that_was_acknowledged() {
    let rounds = campaign("CAMPAIGN_KILLS", 30);
    let station = Station::new(campaign("CAMPAIGN_SEED", 1));
    let mut figures = Figures::default();
    while figures.rounds < rounds && figures.broken.is_empty() {
        let folder = tempfile::tempdir().unwrap();
        one_folder(&station, folder.path(), (rounds - figures.rounds).min(ROUNDS_A_FOLDER), &mut figures);
    }
    eprintln!(
        "{} kills, {} ids acknowledged: {}",
        figures.rounds,
        figures.acknowledged,
        promises::tally(&figures.broken)
    );
    assert!(
        figures.acknowledged as u64 >= rounds,
        "hardly anything was acknowledged: the campaign proves nothing"
    );
    assert_eq!(figures.broken, Broken::new());
}

#[test]
fn a_second_box_on_the_same_folder_is_refused() {
    let station = Station::new(1);
    let folder = tempfile::tempdir().unwrap();
    let mut first =
        station.start(&Places::below(folder.path())).unwrap_or_else(|ended| panic!("{}", ended.log));
    let Err(refused) = station.start(&Places::below(folder.path())) else {
        panic!("two boxes on one folder")
    };
    assert_eq!(refused.status.code(), Some(3), "{}", refused.log);
    assert!(refused.log.contains("another tubox is running"), "{}", refused.log);
    assert!(first.is_running());
}

fn one_folder(station: &Station, folder: &Path, rounds: u64, figures: &mut Figures) {
    let places = Places::below(folder);
    let ledger = Ledger::default();
    for _ in 0..rounds {
        let running =
            station.start(&places).unwrap_or_else(|ended| panic!("{}: {}", ended.status, ended.log));
        figures.broken.extend(promises::of_the_album(station, &places.pictures));
        let ids = station.uploads(PICTURES_A_ROUND, 150_000);
        let address = running.address;
        std::thread::scope(|scope| {
            scope.spawn(|| ledger.submit_all(address, &ids, 2, 3));
            Stop::new().wait(Duration::from_millis(station.random.u64() % LIFE_MAX_MS));
            running.kill();
        });
        figures.broken.extend(promises::of_a_pulled_card(station, &places.pictures));
        figures.rounds += 1;
    }
    let running = station.start(&places).unwrap_or_else(|ended| panic!("{}: {}", ended.status, ended.log));
    figures.broken.extend(running.await_settled(&ledger.receipts(), PATIENCE).err());
    figures.broken.extend(promises::of_the_ledger(&ledger, &places.pictures));
    figures.broken.extend(promises::of_the_album(station, &places.pictures));
    figures.acknowledged += ledger.ids().len();
}
