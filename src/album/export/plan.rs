//! What is to be copied: the manifests of the pictures folder, read as they are at this moment (a box may be
//! writing), checked, and filtered by day, team or name.

use super::why::{Blocked, Why};
use super::{Problem, target};
use crate::album::foreign;
use crate::album::manifest::{MANIFEST_FILE, Row};
use crate::album::{day_folders, name};
use crate::ground::escape::for_log;
use crate::ground::hex::hex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;

/// Which pictures; everything that is `None` lets all pass.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The first day, such as `2026-11-22`.
    pub since: Option<String>,
    /// The last day.
    pub until: Option<String>,
    /// Exactly this team.
    pub team: Option<String>,
    /// Exactly these, as `2026-11-22/file`.
    pub files: Option<HashSet<String>>,
}

impl Selection {
    pub(super) fn has_day(&self, day: &str) -> bool {
        self.since.as_deref().is_none_or(|since| since <= day)
            && self.until.as_deref().is_none_or(|until| day <= until)
    }

    fn has(&self, day: &str, row: &Row) -> bool {
        self.team.as_ref().is_none_or(|team| *team == row.team)
            && self.files.as_ref().is_none_or(|files| files.contains(&format!("{day}/{}", row.file)))
    }

    /// Whether only the days choose, so that every picture of a day must be listed.
    fn is_of_whole_days(&self) -> bool {
        self.team.is_none() && self.files.is_none()
    }
}

/// A picture that is to be copied.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// As it will stand in the copy's manifest.
    pub row: Row,
    /// Its name in the pictures folder.
    pub source: String,
}

/// The pictures of one day.
#[derive(Default)]
pub(super) struct DayPlan {
    pub pictures: Vec<Planned>,
    pub problems: Vec<Problem>,
    /// All teams of the day, wanted or not.
    pub teams: BTreeSet<String>,
    /// The names in the manifest, wanted or not.
    listed: HashSet<String>,
}

/// The days of `root` that `selection` wants, oldest first.
pub(super) fn days(root: &Path, selection: &Selection) -> Result<Vec<String>, Blocked> {
    // Read before it is judged: the reason of a refusal is the best that can be told.
    std::fs::read_dir(root).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Blocked::MayNotRead,
        _ => Blocked::NoSource(target::in_words(&error)),
    })?;
    let all = day_folders(root).map_err(|error| Blocked::NoSource(format!("{error:#}")))?;
    if all.is_empty()
        && let Some(meant) = find_pictures_below(root)
    {
        return Err(Blocked::NotThePictures(Some(meant)));
    }
    if all.is_empty() && is_something_else(root) {
        return Err(Blocked::NotThePictures(None));
    }
    Ok(all.into_iter().filter(|folder| selection.has_day(name::day_of(folder))).collect())
}

/// Who names the card instead of the folder on it is told which one.
fn find_pictures_below(root: &Path) -> Option<std::path::PathBuf> {
    let places = ["pictures", "var/lib/tubox/pictures", "data/pictures", "tubox-demo/pictures"];
    places
        .iter()
        .map(|place| root.join(place))
        .find(|place| day_folders(place).is_ok_and(|days| !days.is_empty()))
}

/// A new album is an empty folder; one that holds other things only is none.
fn is_something_else(root: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(root) else { return false };
    entries.flatten().any(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
}

/// What `selection` wants of `day`. A torn last line, as a box that is writing leaves it for a moment, is passed
/// over.
pub(super) fn read_day(root: &Path, day: &str, selection: &Selection) -> DayPlan {
    let list = format!("{day}/{MANIFEST_FILE}");
    let bytes = match foreign::read_list(&root.join(&list)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let why = Why::Unreadable(target::in_words(&error));
            return DayPlan { problems: vec![Problem { file: list, why }], ..DayPlan::default() };
        }
    };
    let (rows, damaged) = foreign::rows_of(&bytes);
    let mut plan = DayPlan::default();
    if !damaged.is_empty() {
        plan.problems.push(Problem { file: list, why: Why::DamagedLines(damaged) });
    }
    for planned in name_apart(rows) {
        let row = &planned.row;
        plan.listed.insert(planned.source.clone());
        plan.teams.insert(row.team.clone());
        if !selection.has(day, row) {
            continue;
        }
        if foreign::is_safe_name(&row.file)
            && foreign::is_safe_name(&planned.source)
            && foreign::is_sha256(&row.sha256)
        {
            plan.pictures.push(planned);
        } else {
            plan.problems.push(Problem { file: shown(day, &planned.source), why: Why::NotOurs });
        }
    }
    plan
}

/// A name from a stranger's manifest goes to a terminal.
fn shown(day: &str, file: &str) -> String {
    format!("{day}/{}", for_log(file, 120))
}

/// One row for every file, and names that FAT can tell apart: the first of two keeps its own, so that each run
/// comes to the same.
fn name_apart(rows: Vec<Row>) -> Vec<Planned> {
    let mut planned: Vec<Planned> = Vec::with_capacity(rows.len());
    let mut position_of: HashMap<String, usize> = HashMap::new();
    let mut taken: HashSet<String> = HashSet::new();
    for mut row in rows {
        let source = row.file.clone();
        if let Some(position) = position_of.get(&source) {
            let file = planned[*position].row.file.clone();
            planned[*position].row = Row { file, ..row };
            continue;
        }
        if !taken.insert(source.to_ascii_lowercase()) {
            row.file = distinct(&source);
            taken.insert(row.file.to_ascii_lowercase());
        }
        position_of.insert(source.clone(), planned.len());
        planned.push(Planned { row, source });
    }
    planned
}

fn distinct(file: &str) -> String {
    let mark = &hex(&Sha256::digest(file))[..8];
    match file.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}~{mark}.{extension}"),
        None => format!("{file}~{mark}"),
    }
}

/// Pictures with a name of the box's that stand in the folder of `day`. Taken before the manifest is read, what
/// is listed then and what stands here can be compared.
pub(super) fn pictures_in(root: &Path, day: &str, selection: &Selection) -> Vec<String> {
    if !selection.is_of_whole_days() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(root.join(day)) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| is_the_boxs(name)).collect()
}

/// `20261122T170106Z_….jpg`
fn is_the_boxs(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 17
        && bytes[8] == b'T'
        && &bytes[15..17] == b"Z_"
        && bytes[..8].iter().all(u8::is_ascii_digit)
}

/// Of `standing`, what no manifest lists although it is older than a picture that is just being listed.
pub(super) fn not_listed(
    root: &Path,
    day: &str,
    standing: Vec<String>,
    plan: &DayPlan,
    now_ms: i64,
) -> Vec<Problem> {
    const LISTED_WITHIN_MS: i64 = 120_000;
    let is_old = |file: &str| {
        let Ok(modified) = root.join(day).join(file).metadata().and_then(|metadata| metadata.modified())
        else {
            return false;
        };
        let since =
            modified.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        (now_ms - since).abs() > LISTED_WITHIN_MS
    };
    let forgotten = standing.into_iter().filter(|file| !plan.listed.contains(file) && is_old(file));
    forgotten.map(|file| Problem { file: shown(day, &file), why: Why::NotListed }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(file: &str) -> Row {
        Row { file: file.to_owned(), sha256: "a".repeat(64), ..Row::default() }
    }

    #[test]
    fn names_that_fat_cannot_tell_apart_get_others_always_the_same() {
        let names = |files: &[&str]| {
            let planned = name_apart(files.iter().map(|file| row(file)).collect());
            planned.into_iter().map(|planned| (planned.source, planned.row.file)).collect::<Vec<_>>()
        };
        let two = names(&["Ab.jpg", "aB.jpg"]);
        assert_eq!(two[0], ("Ab.jpg".into(), "Ab.jpg".into()));
        assert_eq!(two[1].0, "aB.jpg");
        assert!(two[1].1.starts_with("aB~") && foreign::is_safe_name(&two[1].1), "{}", two[1].1);
        assert_eq!(names(&["Ab.jpg", "aB.jpg", "c.jpg", "aB.jpg"])[..2], two);
        assert_eq!(names(&["a.jpg", "a.jpg"]).len(), 1);
    }

    #[test]
    fn the_boxs_names_are_known() {
        assert!(is_the_boxs("20261122T170106Z_x.jpg"));
        for other in
            ["holiday.jpg", "manifest.csv", ".20261122T170106Z_x.part", "20261122T170106", "２０２６１１２２"]
        {
            assert!(!is_the_boxs(other), "{other}");
        }
    }
}
