//! Is the set complete? Re-reads every picture that the manifests list, from the disk itself, and compares its
//! hash; finds files that no manifest lists, and lists that contradict each other. Takes a pictures folder, a
//! copy with merged lists, or one day's folder. Needs neither box nor settings.
//!
//! A box may be writing meanwhile: whatever looks wrong only because a picture is just arriving is looked at
//! again at the end, for as long as the onlooker waits.

use super::export::Blocked;
use super::manifest::{self, MANIFEST_FILE, Row, SUMS_FILE};
use super::watch::Watch;
use super::{foreign, name};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

/// What is wrong with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flaw {
    /// Listed, but not there.
    Missing,
    /// There, but its hash or length is not the listed one.
    Changed,
    /// There, but in no manifest.
    Unlisted,
    /// A temporary file of a download or copy that has not finished.
    Half,
    /// Listed, but it cannot be read.
    Unreadable,
    /// A manifest with lines that cannot be read.
    Damaged,
    /// Two lists that say different things of it.
    Contradicted,
}

/// One file that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Below the folder that was looked through.
    pub file: String,
    /// What is wrong.
    pub flaw: Flaw,
}

/// The result of a look through the whole folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Pictures that are as listed.
    pub good: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Everything else.
    pub findings: Vec<Finding>,
}

impl Verified {
    /// Whether every listed picture is there and unchanged. Unlisted and half files do not make a set
    /// incomplete, but they are no clean bill either: see [`Verified::is_clean`].
    pub fn is_complete(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.flaw, Flaw::Unlisted | Flaw::Half))
    }

    /// Whether there is nothing to report at all.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Looks through every day folder below `root` and its merged lists, if it has any; or through `root` itself
/// when it is a day's folder.
pub fn verify(root: &Path, watch: &mut impl Watch) -> Result<Verified, Blocked> {
    let days = folders_of(root)?;
    let (mut pictures, mut bytes) = (0, 0u64);
    for day in &days {
        let rows = Listed::read(&root.join(day)).rows;
        pictures += rows.len() as u64;
        bytes = rows.iter().fold(bytes, |sum, row| sum.saturating_add(row.bytes));
    }
    watch.begin(pictures, bytes);
    let mut report = Verified::default();
    let mut merged = Merged::read(root, &days);
    for day in &days {
        verify_day(root, day, &mut merged, &mut report, watch);
    }
    report.findings.extend(merged.left_over(root));
    Ok(report)
}

/// The folders to look through, by their path below `root`; `""` is `root` itself.
fn folders_of(root: &Path) -> Result<Vec<String>, Blocked> {
    let is_day = root.join(MANIFEST_FILE).exists();
    match super::export::days_of(root) {
        Ok(days) if days.is_empty() && is_day => Ok(vec![String::new()]),
        Err(Blocked::NotThePictures(_)) if is_day => Ok(vec![String::new()]),
        other => other,
    }
}

fn path_of(day: &str, file: &str) -> String {
    if day.is_empty() { file.to_owned() } else { format!("{day}/{file}") }
}

fn verify_day(root: &Path, day: &str, merged: &mut Merged, report: &mut Verified, watch: &mut impl Watch) {
    let folder = root.join(day);
    let standing = files_of(&folder);
    let listed = Listed::read(&folder);
    let mut findings = Vec::new();
    let mut found = |file: &str, flaw| findings.push(Finding { file: path_of(day, file), flaw });
    for row in &listed.rows {
        match look_at(&folder, row, watch) {
            None => {
                report.good += 1;
                report.bytes += row.bytes;
            }
            Some(flaw) => found(&row.file, flaw),
        }
        if merged.contradicts(day, row) {
            found(&row.file, Flaw::Contradicted);
        }
        watch.picture();
    }
    if listed.is_damaged {
        found(MANIFEST_FILE, Flaw::Damaged);
    }
    for (flaw, file) in standing_doubts(&folder, standing, listed, watch) {
        found(&file, flaw);
    }
    report.findings.extend(findings);
}

/// What is in doubt in a folder and stays so: what was arriving has arrived when its lists are read again.
fn standing_doubts(
    folder: &Path,
    standing: Vec<String>,
    listed: Listed,
    watch: &mut impl Watch,
) -> Vec<(Flaw, String)> {
    let in_doubt = standing.into_iter().filter_map(|file| Some((listed.doubt(&file)?, file)));
    let mut doubts: Vec<(Flaw, String)> = in_doubt.chain(listed.contradictions()).collect();
    while !doubts.is_empty() {
        let again = Listed::read(folder);
        let contradictions: HashSet<(Flaw, String)> = again.contradictions().collect();
        doubts.retain(|doubt| match doubt {
            (Flaw::Unlisted | Flaw::Half, file) => {
                folder.join(file).symlink_metadata().is_ok() && again.doubt(file) == Some(doubt.0)
            }
            _ => contradictions.contains(doubt),
        });
        if !doubts.iter().any(may_pass) || !watch.wait_for_writer() {
            break;
        }
    }
    doubts
}

/// Whether a box that is at work may settle it within moments. A half file is no commit, but a download: those take
/// as long as they take.
fn may_pass((flaw, file): &(Flaw, String)) -> bool {
    match flaw {
        Flaw::Half => false,
        Flaw::Unlisted => name::is_of_picture(file),
        _ => true,
    }
}

/// What is wrong with a listed picture.
fn look_at(folder: &Path, row: &Row, watch: &mut impl Watch) -> Option<Flaw> {
    if !foreign::is_safe_name(&row.file) {
        return Some(Flaw::Damaged);
    }
    let read = |bytes: &[u8]| watch.worked(bytes.len() as u64);
    match foreign::is_as_listed(&folder.join(&row.file), row, read) {
        Ok(true) => None,
        Ok(false) => Some(Flaw::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Flaw::Missing),
        Err(_) => Some(Flaw::Unreadable),
    }
}

/// What the two lists of a folder say.
struct Listed {
    rows: Vec<Row>,
    files: HashSet<String>,
    is_damaged: bool,
    /// File and hash; `None` when there is no such list.
    sums: Option<HashMap<String, String>>,
}

impl Listed {
    fn read(folder: &Path) -> Listed {
        let sums = read_sums(folder);
        let (rows, is_damaged) = match foreign::read_list(&folder.join(MANIFEST_FILE)) {
            Ok(bytes) => {
                let (rows, damaged) = foreign::rows_of(&bytes);
                (rows, !damaged.is_empty())
            }
            Err(_) => (Vec::new(), true),
        };
        let files = rows.iter().map(|row| row.file.clone()).collect();
        Listed { rows, files, is_damaged, sums }
    }

    /// What speaks against a file that stands in the folder, if anything.
    fn doubt(&self, file: &str) -> Option<Flaw> {
        if name::is_temporary(file) {
            return Some(Flaw::Half);
        }
        let is_known = [MANIFEST_FILE, SUMS_FILE].contains(&file) || self.files.contains(file);
        (!is_known && !foreign::is_left_by_a_computer(file)).then_some(Flaw::Unlisted)
    }

    /// Files of which the two lists say different things, or that the list of hashes is missing altogether.
    fn contradictions(&self) -> impl Iterator<Item = (Flaw, String)> {
        let sums = self.sums.as_ref();
        let only_in_sums =
            sums.into_iter().flat_map(|sums| sums.keys().filter(|file| !self.files.contains(*file)));
        let is_in_doubt = move |row: &&Row| sums.is_some_and(|sums| sums.get(&row.file) != Some(&row.sha256));
        let differing = self.rows.iter().filter(is_in_doubt).map(|row| &row.file);
        let mut files: Vec<String> = only_in_sums.chain(differing).cloned().collect();
        files.sort();
        let no_sums =
            (sums.is_none() && !self.rows.is_empty()).then(|| (Flaw::Missing, SUMS_FILE.to_owned()));
        no_sums.into_iter().chain(files.into_iter().map(|file| (Flaw::Contradicted, file)))
    }
}

fn read_sums(folder: &Path) -> Option<HashMap<String, String>> {
    let path = folder.join(SUMS_FILE);
    path.symlink_metadata().ok()?;
    let bytes = foreign::read_list(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[..manifest::whole_lines_length(&bytes)]);
    let lines = text.lines().filter_map(manifest::parse_sums_line);
    Some(lines.map(|(sha256, file)| (file.to_owned(), sha256.to_owned())).collect())
}

/// The lists above the days of a copy; nothing is expected of them when there are none.
struct Merged {
    /// File and hash, as the merged manifest has them; what the days have asked for is taken out.
    rows: Option<HashMap<String, String>>,
    is_damaged: bool,
    sums: Option<HashMap<String, String>>,
}

impl Merged {
    fn read(root: &Path, days: &[String]) -> Merged {
        let none = Merged { rows: None, is_damaged: false, sums: None };
        let is_day = days.first().is_some_and(String::is_empty);
        if is_day || root.join(MANIFEST_FILE).symlink_metadata().is_err() {
            return none;
        }
        let Ok(bytes) = foreign::read_list(&root.join(MANIFEST_FILE)) else {
            return Merged { is_damaged: true, ..none };
        };
        let (rows, damaged) = foreign::rows_of(&bytes);
        let rows = rows.into_iter().map(|row| (row.file, row.sha256)).collect();
        Merged { rows: Some(rows), is_damaged: !damaged.is_empty(), sums: read_sums(root) }
    }

    /// Whether the merged lists say other than the day's of a picture.
    fn contradicts(&mut self, day: &str, row: &Row) -> bool {
        let file = path_of(day, &row.file);
        let differs = |listed: Option<String>| listed.as_ref() != Some(&row.sha256);
        let by_manifest = self.rows.as_mut().is_some_and(|rows| differs(rows.remove(&file)));
        let by_sums = self.sums.as_mut().is_some_and(|sums| differs(sums.remove(&file)));
        by_manifest || by_sums
    }

    /// What the merged lists name and no day's manifest does.
    fn left_over(self, root: &Path) -> Vec<Finding> {
        let mut files: HashSet<String> = self.rows.into_iter().flatten().map(|(file, _)| file).collect();
        files.extend(self.sums.into_iter().flatten().map(|(file, _)| file));
        let flaw_of = |file: &str| {
            let is_there = foreign::split_day(file).is_some() && root.join(file).symlink_metadata().is_ok();
            if is_there { Flaw::Contradicted } else { Flaw::Missing }
        };
        let mut findings: Vec<Finding> =
            files.into_iter().map(|file| Finding { flaw: flaw_of(&file), file }).collect();
        findings.sort_by(|a, b| a.file.cmp(&b.file));
        if self.is_damaged {
            findings.push(Finding { file: MANIFEST_FILE.to_owned(), flaw: Flaw::Damaged });
        }
        findings
    }
}

fn files_of(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::super::Album;
    use super::super::name::tests::facts;
    use super::super::watch::Unwatched;
    use super::super::whole::{PictureKind, tests::smallest};
    use super::*;
    use crate::ground::clock::TestClock;

    const DAY: &str = "2026-11-21";

    /// Waits until `work`, a step of the box each time, is done.
    struct Patient<Work>(Work);

    impl<Work: FnMut() -> bool> Watch for Patient<Work> {
        fn begin(&mut self, _pictures: u64, _bytes: u64) {}
        fn worked(&mut self, _bytes: u64) {}
        fn picture(&mut self) {}
        fn wait_for_writer(&mut self) -> bool {
            (self.0)()
        }
    }

    #[test]
    fn a_commit_that_is_under_way_is_no_finding() {
        let root = tempfile::tempdir().unwrap();
        let album = Album::open(root.path(), 1000, TestClock::at(1_795_280_470_000)).unwrap();
        for id in ["one", "two"] {
            let mut incoming = album.begin(facts(id)).unwrap();
            incoming.write(&smallest(PictureKind::Png)).unwrap();
            album.commit(incoming.finish().unwrap_or_else(|why| panic!("{why}"))).unwrap();
        }
        let lists = [SUMS_FILE, MANIFEST_FILE].map(|list| root.path().join(DAY).join(list));
        let whole = lists.clone().map(|list| std::fs::read(list).unwrap());
        let without_last = |bytes: &[u8]| {
            let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
            bytes[..=end].to_vec()
        };
        let set_back = || {
            for (list, bytes) in lists.iter().zip(&whole) {
                std::fs::write(list, without_last(bytes)).unwrap();
            }
        };

        set_back();
        let mut steps = lists.iter().zip(&whole);
        let mut goes_on = Patient(|| {
            let (list, bytes) = steps.next().expect("no doubt is left after the last step");
            std::fs::write(list, bytes).unwrap();
            true
        });
        assert!(verify(root.path(), &mut goes_on).unwrap().is_clean());
        assert!(steps.next().is_none(), "found no doubt before the last step");

        set_back();
        let file = format!("{DAY}/20261121T170106Z_two.png");
        let unlisted = vec![Finding { file, flaw: Flaw::Unlisted }];
        assert_eq!(verify(root.path(), &mut Unwatched).unwrap().findings, unlisted);
        let mut looks = 0;
        let mut gives_up = Patient(|| {
            looks += 1;
            looks < 3
        });
        assert_eq!(verify(root.path(), &mut gives_up).unwrap().findings, unlisted);
        assert_eq!(looks, 3);

        // What no box writes is not waited for.
        for (list, bytes) in lists.iter().zip(&whole) {
            std::fs::write(list, bytes).unwrap();
        }
        std::fs::write(root.path().join(DAY).join("holiday.png"), b"x").unwrap();
        std::fs::write(root.path().join(DAY).join(".x~1.part"), b"x").unwrap();
        let mut never = Patient(|| panic!("waited"));
        assert_eq!(verify(root.path(), &mut never).unwrap().findings.len(), 2);
    }
}
