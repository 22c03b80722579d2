//! The promises, held against what lies on the disk. Shares no code with the rooms that keep them.

use super::station::{Ledger, Station};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

/// What is wrong, in words; empty when all is well.
pub type Broken = Vec<String>;

const LOST: &str = "was acknowledged and is no picture";
const DOUBLE: &str = "has two files";
const HALF: &str = "bytes right";

/// The figures of a campaign.
pub fn tally(broken: &[String]) -> String {
    let count = |part: &str| broken.iter().filter(|broken| broken.contains(part)).count();
    let (lost, double, half) = (count(LOST), count(DOUBLE), count(HALF));
    let other = broken.len().saturating_sub(lost + double + half);
    format!("lost {lost}, double {double}, half {half}, anything else {other}")
}

/// Every day folder, at any moment after a start: hashes hold, the manifest can be read, nothing under a final
/// name is half or twice there.
pub fn of_the_album(station: &Station, pictures: &Path) -> Broken {
    let mut broken = Broken::new();
    let mut seen = HashSet::new();
    for day in days(pictures) {
        let folder = pictures.join(&day);
        broken.extend(sums_fail(&folder));
        let rows = match rows(&folder) {
            Ok(rows) => rows,
            Err(why) => {
                broken.push(why);
                continue;
            }
        };
        for file in finals(&folder) {
            let id = id_in(&file);
            if !seen.insert(id.clone()) {
                broken.push(format!("{id} {DOUBLE}"));
            }
            if let Some(why) = not_whole(station, &folder, &file, &id) {
                broken.push(why);
            }
        }
        for (file, row_id) in &rows {
            if !folder.join(file).is_file() {
                broken.push(format!("{day}: the manifest lists {file} of {row_id}, which is not there"));
            }
        }
        let distinct: HashSet<&String> = rows.iter().map(|(_, id)| id).collect();
        if distinct.len() != rows.len() {
            broken.push(format!("{day}: the manifest has an id twice"));
        }
    }
    broken
}

/// Nothing under a final name is half: also true before the box has started again, on a card that was pulled.
pub fn of_a_pulled_card(station: &Station, pictures: &Path) -> Broken {
    let mut broken = Broken::new();
    for day in days(pictures) {
        let folder = pictures.join(&day);
        for file in finals(&folder) {
            broken.extend(not_whole(station, &folder, &file, &id_in(&file)));
        }
    }
    broken
}

/// Every acknowledged id is one whole picture in the manifest and in SHA256SUMS.
pub fn of_the_ledger(ledger: &Ledger, pictures: &Path) -> Broken {
    let mut files = HashMap::new();
    for day in days(pictures) {
        let folder = pictures.join(&day);
        let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap_or_default();
        let listed: HashSet<&str> = sums.lines().filter_map(|line| line.split("  ").nth(1)).collect();
        for (file, id) in rows(&folder).unwrap_or_default() {
            if folder.join(&file).is_file() && listed.contains(file.as_str()) {
                files.insert(id, file);
            }
        }
    }
    let lost = ledger.ids().into_iter().filter(|id| !files.contains_key(id));
    lost.map(|id| format!("{id} {LOST}")).collect()
}

fn not_whole(station: &Station, folder: &Path, file: &str, id: &str) -> Option<String> {
    let there = std::fs::read(folder.join(file)).unwrap_or_default();
    let uploaded = station.simulator.uploaded(id)?;
    (there != uploaded)
        .then(|| format!("{file} has {} of {} {HALF}", same(&there, &uploaded), uploaded.len()))
}

fn same(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one == other).count()
}

fn sums_fail(folder: &Path) -> Option<String> {
    if !folder.join("SHA256SUMS").exists() {
        return None;
    }
    // An empty list is no list for sha256sum; there is nothing to check in it.
    if std::fs::read(folder.join("SHA256SUMS")).is_ok_and(|bytes| bytes.is_empty()) {
        return None;
    }
    let checked = Command::new("sha256sum")
        .args(["-c", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(folder)
        .output();
    let checked = checked.unwrap();
    let text =
        || String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    (!checked.status.success()).then(|| format!("sha256sum -c fails in {}: {}", folder.display(), text()))
}

/// File and media_id of every row.
fn rows(folder: &Path) -> Result<Vec<(String, String)>, String> {
    let path = folder.join("manifest.csv");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_path(&path).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let id = row.get(1).unwrap_or_default();
        rows.push((
            row.get(0).unwrap_or_default().to_owned(),
            id.strip_prefix('\'').unwrap_or(id).to_owned(),
        ));
    }
    Ok(rows)
}

fn days(pictures: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pictures).map(|entries| entries.flatten().collect()).unwrap_or_default();
    let entries: Vec<std::fs::DirEntry> = entries;
    entries
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// Files under final names.
fn finals(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.') && name != "manifest.csv" && name != "SHA256SUMS").collect()
}

/// `20261122T170106Z_<media id>.jpg`, or `20261122T170106Z_<media id>~<hash>.jpg`
fn id_in(file: &str) -> String {
    let id = file.split_once('_').map_or(file, |(_, rest)| rest);
    let id = id.rsplit_once('.').map_or(id, |(id, _)| id);
    id.split_once('~').map_or(id, |(id, _)| id).to_owned()
}
