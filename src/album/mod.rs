//! The album: what has been kept. The pictures folder with a folder a day, each with its manifest and its
//! hashes; the only room that writes pictures.
//!
//! A picture comes in three moves. [`Album::begin`] opens a hidden temporary file in the day's folder;
//! [`Incoming::finish`] looks at the bytes (type, end marker, size); [`Album::commit_all`] syncs those that are ready
//! together, gives the final names, syncs the folder, and appends the manifest rows and the SHA256SUMS lines. Whatever
//! breaks between two moves leaves either a temporary file, which the next start sweeps, or a whole picture without a
//! row, which [`Album::find`] adopts.
//!
//! A day that outgrows its folder goes on in `2026-11-22_02`, with lists of its own: every file system gets the
//! folders that FAT can hold, because the pictures will be copied onto one.
//!
//! The file name follows from the job alone (time of submission and media_id), so the same id can never make a
//! second file. The album works without the queue: [`verify`] and [`export`] run on a pulled card elsewhere. It
//! knows nothing of queues, of WeChat or of HTTP.

pub mod catalogue;
mod day;
pub mod export;
mod foreign;
mod incoming;
mod jpeg;
pub mod manifest;
mod mend;
pub mod name;
pub mod parcel;
pub mod positions;
mod seen;
mod stable;
pub mod verify;
pub mod watch;
pub mod whole;
pub mod zip;

pub use incoming::{Incoming, NotKept, WholePicture};

use crate::ground::clock::{SharedClock, day_utc};
use crate::ground::durable;
use crate::ground::media_id::MediaId;
use anyhow::{Context, Result};
use day::DayFolder;
use manifest::Row;
use name::Stems;
use seen::Seen;
use stable::Volume;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// A folder of FAT32 has 65,536 entries of 32 bytes, and the longest of our names takes 21 of them.
const PICTURES_A_FOLDER_MAX: usize = 3000;
const FOLDERS_A_DAY_MAX: u32 = 99;

/// Day folders whose manifests are kept open.
const OPEN_DAYS_MAX: usize = 4;

/// What is known of a picture before its bytes: where its name and its manifest row come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// WeChat's id.
    pub media_id: MediaId,
    /// When the submission was taken, milliseconds since the epoch, UTC.
    pub submitted_ms: i64,
    /// Whether the clock could be believed then.
    pub clock_trusted: bool,
    /// The receipt that the contributor holds.
    pub receipt: String,
    /// Free text from the contributor; never a formula in the manifest.
    pub team: String,
    /// Free text from the contributor.
    pub contributor: String,
    /// Free text from the contributor.
    pub note: String,
    /// WGS 84, degrees.
    pub latitude: Option<f64>,
    /// WGS 84, degrees.
    pub longitude: Option<f64>,
}

/// A picture that is kept: named, hashed, synced, in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// Its path below the pictures folder, `2026-11-22/20261122T170106Z_<media id>.jpg`.
    pub file: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// The pictures folder, opened.
pub struct Album {
    root: PathBuf,
    clock: SharedClock,
    picture_bytes_max: u64,
    volume: Volume,
    days: Mutex<HashMap<String, DayFolder>>,
    /// Whether the name of some day's folder may not be on stable storage.
    unsure_names: Mutex<bool>,
    /// Days that need not be repaired any more.
    repaired: Mutex<HashSet<String>>,
    /// By day.
    filling: Mutex<HashMap<String, Filling>>,
    pictures_a_folder: usize,
}

/// The folders of a day: the number of the last one, how many names are in it, and which may be in each.
struct Filling {
    part: u32,
    names: usize,
    seen: Vec<Seen>,
}

impl Filling {
    fn of(root: &Path, day: &str) -> Filling {
        let path = |part: u32| root.join(name::folder_name(day, part));
        // People may have taken an earlier one away.
        let part = (1..=FOLDERS_A_DAY_MAX).rev().find(|part| path(*part).is_dir()).unwrap_or(1);
        let mut filling = Filling { part, names: 0, seen: Vec::new() };
        for part in 1..=part {
            let (mut seen, mut names) = (Seen::nothing(), 0);
            for entry in std::fs::read_dir(path(part)).into_iter().flatten().flatten() {
                seen.note(name::stem_of(&entry.file_name().to_string_lossy()));
                names += 1;
            }
            filling.names = names;
            filling.seen.push(seen);
        }
        filling
    }

    fn go_on_in_another(&mut self) {
        self.part += 1;
        self.names = 0;
        self.seen.push(Seen::nothing());
    }

    /// The numbers of the folders that may hold a picture.
    fn parts_with(&self, stems: &Stems) -> Vec<u32> {
        let may_hold = |seen: &Seen| seen.may_hold(&stems.plain) || seen.may_hold(&stems.distinct);
        (1..).zip(&self.seen).filter(|(_, seen)| may_hold(seen)).map(|(part, _)| part).collect()
    }
}

impl Album {
    /// Opens the folder at `root`, making it where it is missing. `picture_bytes_max`: larger ones are refused.
    pub fn open(root: &Path, picture_bytes_max: u64, clock: SharedClock) -> Result<Album> {
        durable::create_private_folder(root)
            .with_context(|| format!("could not make the pictures folder {}", root.display()))?;
        let days = Mutex::new(HashMap::new());
        Ok(Album {
            root: root.to_owned(),
            clock,
            picture_bytes_max,
            volume: Volume::at(root),
            days,
            unsure_names: Mutex::new(true),
            repaired: Mutex::default(),
            filling: Mutex::default(),
            pictures_a_folder: PICTURES_A_FOLDER_MAX,
        })
    }

    /// The pictures folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes that may still be written to the file system of the pictures.
    pub fn free_bytes(&self) -> Result<u64> {
        durable::free_bytes(&self.root)
            .with_context(|| format!("could not read the free space of {}", self.root.display()))
    }

    /// Removes what an interrupted run left in the folders of `days` (`2026-11-22`): temporary files, damaged lines,
    /// hashes whose line is missing. Returns the number of temporary files removed.
    ///
    /// Whatever else touches a day has this done to it first, once a run, so no list of days need be complete.
    pub fn repair<'a>(&self, days: impl IntoIterator<Item = &'a str>) -> Result<usize> {
        let mut swept = 0;
        for day in days {
            swept += self.repair_once(day)?;
        }
        Ok(swept)
    }

    /// Before the first download of a day: its temporary files are an earlier run's as yet.
    fn repair_once(&self, day: &str) -> Result<usize> {
        let mut repaired = self.repaired.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if repaired.contains(day) {
            return Ok(0);
        }
        let mut swept = 0;
        for folder in self.folders_of(day) {
            swept += day::sweep_temporary_files(&self.root.join(&folder))?;
            self.with_day(&folder, |_| Ok(()))?;
        }
        repaired.insert(day.to_owned());
        Ok(swept)
    }

    /// The picture of `facts`, if it is kept already. A whole file that lacks its manifest row (the power went
    /// between the two) is hashed and given one.
    pub fn find(&self, facts: &Facts) -> Result<Option<Saved>> {
        let (day, stems) = (day_utc(facts.submitted_ms), Stems::of(facts));
        self.repair_once(&day)?;
        for part in self.filling(&day, |filling| filling.parts_with(&stems)) {
            let folder = name::folder_name(&day, part);
            let path = self.root.join(&folder);
            if !stems.candidates().iter().any(|name| path.join(name).exists()) {
                continue;
            }
            let found = self.with_day(&folder, |day| day.find_or_adopt(facts, &self.volume, &self.clock))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// All that the manifests of `day` list, by media_id.
    pub fn saved_on(&self, day: &str) -> Result<HashMap<MediaId, Saved>> {
        let mut saved = HashMap::new();
        self.repair_once(day)?;
        for folder in self.folders_of(day) {
            let path = self.root.join(&folder).join(manifest::MANIFEST_FILE);
            let rows = if path.exists() { manifest::read(&path)? } else { Vec::new() };
            let known = |row: Row| Some((MediaId::parse(&row.media_id).ok()?, row.saved(&folder)));
            saved.extend(rows.into_iter().filter_map(known));
        }
        Ok(saved)
    }

    /// Opens a temporary file for the picture of `facts`.
    pub fn begin(&self, facts: Facts) -> Result<Incoming> {
        let day = day_utc(facts.submitted_ms);
        self.repair_once(&day)?;
        let folder = self.folder_to_fill(&day);
        self.make_folder(&self.root.join(&folder))?;
        Incoming::create(&self.root, folder, facts, self.picture_bytes_max)
    }

    /// Its name is made durable when the folder is first committed to.
    fn make_folder(&self, path: &Path) -> Result<()> {
        let mut unsure = self.unsure_names.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !path.is_dir() {
            *unsure = true;
            std::fs::create_dir_all(path)
                .with_context(|| format!("could not make the day's folder {}", path.display()))?;
        }
        Ok(())
    }

    /// Also the names that an earlier run could not sync any more.
    fn make_names_sure(&self) -> Result<()> {
        let mut unsure = self.unsure_names.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *unsure {
            durable::sync_folder(&self.root)
                .with_context(|| format!("could not sync the folder {}", self.root.display()))?;
            *unsure = false;
        }
        Ok(())
    }

    /// The folders of a day that are there, in the order in which they were filled.
    fn folders_of(&self, day: &str) -> Vec<String> {
        let last = self.filling(day, |filling| filling.part);
        let folders = (1..=last).map(|part| name::folder_name(day, part));
        folders.filter(|folder| self.root.join(folder).is_dir()).collect()
    }

    /// The folder of `day` that takes the next picture.
    fn folder_to_fill(&self, day: &str) -> String {
        let part = self.filling(day, |filling| {
            if filling.names >= self.pictures_a_folder && filling.part < FOLDERS_A_DAY_MAX {
                filling.go_on_in_another();
            }
            filling.part
        });
        name::folder_name(day, part)
    }

    fn count_kept(&self, folder: &str, count: usize) {
        let day = name::day_of(folder);
        self.filling(day, |filling| {
            if name::folder_name(day, filling.part) == folder {
                filling.names += count;
            }
        });
    }

    /// After a commit, also one that failed: names may have been given.
    fn note_names(&self, folder: &str, names: &[Stems]) {
        self.filling(name::day_of(folder), |filling| {
            if let Some(seen) = filling.seen.get_mut(name::part_of(folder) as usize - 1) {
                for stem in names.iter().flat_map(|stems| [&stems.plain, &stems.distinct]) {
                    seen.note(stem);
                }
            }
        });
    }

    fn filling<T>(&self, day: &str, work: impl FnOnce(&mut Filling) -> T) -> T {
        let mut days = self.filling.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if days.len() > OPEN_DAYS_MAX && !days.contains_key(day) {
            days.clear();
        }
        work(days.entry(day.to_owned()).or_insert_with(|| Filling::of(&self.root, day)))
    }

    /// Gives a whole picture its name and its rows; returns when all of it is on stable storage.
    pub fn commit(&self, picture: WholePicture) -> Result<Saved> {
        let no_answer = || Err(anyhow::anyhow!("could not commit the picture: no answer"));
        self.commit_all(vec![picture]).pop().unwrap_or_else(no_answer)
    }

    /// As [`Album::commit`], for all of them together, at the price of one where the file system allows it. One answer
    /// a picture, in their order.
    pub fn commit_all(&self, batch: Vec<WholePicture>) -> Vec<Result<Saved>> {
        let count = batch.len();
        let mut by_folder: HashMap<String, Vec<(usize, WholePicture)>> = HashMap::new();
        for (position, picture) in batch.into_iter().enumerate() {
            by_folder.entry(picture.folder.clone()).or_default().push((position, picture));
        }
        let mut answers: Vec<Option<Result<Saved>>> = (0..count).map(|_| None).collect();
        for (folder, pictures) in by_folder {
            let (positions, pictures): (Vec<usize>, Vec<WholePicture>) = pictures.into_iter().unzip();
            let names: Vec<Stems> = pictures.iter().map(|picture| Stems::of(&picture.facts)).collect();
            let committed = self.with_day(&folder, |day| day.commit(pictures, &self.volume, &self.clock));
            self.note_names(&folder, &names);
            match committed {
                Ok(saved) => {
                    self.count_kept(&folder, saved.len());
                    for (position, one) in positions.into_iter().zip(saved) {
                        answers[position] = Some(one);
                    }
                }
                Err(error) => {
                    for position in positions {
                        answers[position] = Some(Err(same_error(&error)));
                    }
                }
            }
        }
        let unanswered = || Err(anyhow::anyhow!("could not commit the picture: no answer"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    /// Runs `work` on a day's folder. After an error the folder's open files are dropped, so that the next
    /// attempt starts from what is really on the disk.
    fn with_day<T>(&self, day: &str, work: impl FnOnce(&mut DayFolder) -> Result<T>) -> Result<T> {
        let mut days = self.lock();
        if !days.contains_key(day) {
            if days.len() >= OPEN_DAYS_MAX {
                let oldest = days.keys().min().cloned().unwrap_or_default();
                days.remove(&oldest);
            }
            self.make_names_sure()?;
            days.insert(day.to_owned(), DayFolder::open(&self.root, day, &self.clock)?);
        }
        let folder = days.get_mut(day).context("the day's folder is not open")?;
        let done = work(folder);
        if done.is_err() || folder.is_spent() {
            days.remove(day);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, DayFolder>> {
        self.days.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An error for each of several: the same words, and the same code of the operating system for whoever asks why.
fn same_error(error: &anyhow::Error) -> anyhow::Error {
    let code =
        error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).find_map(io::Error::raw_os_error);
    match code {
        Some(code) => anyhow::Error::new(io::Error::from_raw_os_error(code)).context(error.to_string()),
        None => anyhow::anyhow!("{error:#}"),
    }
}

impl Row {
    fn saved(&self, day: &str) -> Saved {
        Saved { file: format!("{day}/{}", self.file), sha256: self.sha256.clone(), bytes: self.bytes }
    }
}

/// The names of the day folders below `root`, oldest first; everything else there is left alone.
pub fn day_folders(root: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(root).with_context(|| format!("could not read {}", root.display()))?;
    let mut days = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("could not read {}", root.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name::is_day(&name) && entry.path().is_dir() {
            days.push(name);
        }
    }
    days.sort();
    Ok(days)
}
