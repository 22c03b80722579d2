//! Copying off: every listed picture goes to another folder under a temporary name, is synced, read back and
//! compared with the manifest's hash before it gets its name there. A second run copies what is missing or
//! differs. Needs neither box nor settings.

use super::day::hash_file;
use super::manifest::{self, MANIFEST_FILE, Row, SUMS_FILE};
use super::{day_folders, name};
use crate::ground::durable;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

/// Which days to copy; `2026-11-22`, both ends included.
#[derive(Clone, Debug, Default)]
pub struct Days {
    /// The first; `None`: from the beginning.
    pub since: Option<String>,
    /// The last; `None`: to the end.
    pub until: Option<String>,
}

impl Days {
    fn has(&self, day: &str) -> bool {
        self.since.as_deref().is_none_or(|since| since <= day)
            && self.until.as_deref().is_none_or(|until| day <= until)
    }
}

/// What a copy came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Pictures copied now.
    pub copied: u64,
    /// Pictures that were there already, with the right hash.
    pub already_there: u64,
    /// Bytes copied now.
    pub bytes: u64,
    /// Pictures that could not be copied, with the reason.
    pub problems: Vec<Problem>,
}

/// One picture that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Below the pictures folder.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// Copies the pictures of `days` from `root` to `destination`. `seen` is called after each picture with its
/// bytes.
pub fn export(root: &Path, destination: &Path, days: &Days, mut seen: impl FnMut(u64)) -> Result<Exported> {
    if !root.is_dir() {
        bail!("could not export {}: not a folder", root.display());
    }
    std::fs::create_dir_all(destination)
        .with_context(|| format!("could not make the folder {}", destination.display()))?;
    let same = std::fs::canonicalize(root).ok() == std::fs::canonicalize(destination).ok();
    if same {
        bail!("could not export {} into itself: name another folder", root.display());
    }
    let mut report = Exported::default();
    for day in day_folders(root)?.into_iter().filter(|day| days.has(day)) {
        export_day(root, destination, &day, &mut report, &mut seen)?;
    }
    durable::sync_folder(destination)
        .with_context(|| format!("could not sync the folder {}", destination.display()))?;
    Ok(report)
}

fn export_day(
    root: &Path,
    destination: &Path,
    day: &str,
    report: &mut Exported,
    seen: &mut impl FnMut(u64),
) -> Result<()> {
    let (from, to) = (root.join(day), destination.join(day));
    if !from.join(MANIFEST_FILE).exists() {
        return Ok(());
    }
    let rows = manifest::read(&from.join(MANIFEST_FILE))?;
    std::fs::create_dir_all(&to).with_context(|| format!("could not make the folder {}", to.display()))?;
    let mut kept = Vec::new();
    for row in rows {
        match copy_one(&from, &to, &row) {
            Ok(Copied::Now) => {
                report.copied += 1;
                report.bytes += row.bytes;
            }
            Ok(Copied::Before) => report.already_there += 1,
            Err(error) => {
                let file = format!("{day}/{}", row.file);
                report.problems.push(Problem { file, reason: format!("{error:#}") });
                continue;
            }
        }
        seen(row.bytes);
        kept.push(row);
    }
    write_lists(&to, &kept)?;
    durable::sync_folder(&to).with_context(|| format!("could not sync the folder {}", to.display()))
}

enum Copied {
    Now,
    Before,
}

fn copy_one(from: &Path, to: &Path, row: &Row) -> Result<Copied> {
    if !is_plain_name(&row.file) {
        bail!("the manifest names {:?}, which is no plain file name", row.file);
    }
    let target = to.join(&row.file);
    if has_hash(&target, row) {
        return Ok(Copied::Before);
    }
    let temporary = to.join(format!(".{}.part", &row.sha256));
    let copied = copy_and_read_back(&from.join(&row.file), &temporary, row)
        .and_then(|()| std::fs::rename(&temporary, &target).context("could not rename the copy"));
    if copied.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    copied.map(|()| Copied::Now)
}

fn copy_and_read_back(source: &Path, temporary: &Path, row: &Row) -> Result<()> {
    std::fs::copy(source, temporary)
        .with_context(|| format!("could not copy {} to {}", source.display(), temporary.display()))?;
    let file = File::open(temporary).with_context(|| format!("could not open {}", temporary.display()))?;
    file.sync_all().with_context(|| format!("could not sync {}", temporary.display()))?;
    // Without this the read below would only show what is still in memory.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    if !has_hash(temporary, row) {
        bail!("the copy of {} does not have the hash in the manifest: run `tubox verify`", source.display());
    }
    Ok(())
}

fn has_hash(path: &Path, row: &Row) -> bool {
    let same_length = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == row.bytes);
    same_length && hash_file(path).is_ok_and(|(sha256, _)| sha256 == row.sha256)
}

/// A manifest on a card from elsewhere is a stranger's text too.
fn is_plain_name(file: &str) -> bool {
    !file.is_empty() && !file.starts_with('.') && !file.contains(['/', '\\', '\0']) && !name::is_day(file)
}

/// Rows that an earlier export of the same day has brought stay listed.
fn write_lists(to: &Path, rows: &[Row]) -> Result<()> {
    let path = to.join(MANIFEST_FILE);
    let mut all = if path.exists() { manifest::read(&path)? } else { Vec::new() };
    let renewed: HashSet<&str> = rows.iter().map(|row| row.file.as_str()).collect();
    all.retain(|old| !renewed.contains(old.file.as_str()) && has_hash(&to.join(&old.file), old));
    all.extend(rows.iter().cloned());
    all.sort_by(|a, b| a.file.cmp(&b.file));
    let lines = all.iter().map(Row::to_line).collect::<Result<String>>()?;
    let sums: String = all.iter().map(Row::sums_line).collect();
    let write = |name: &str, text: String| {
        let path = to.join(name);
        durable::replace_private(&path, text.as_bytes())
            .with_context(|| format!("could not write {}", path.display()))
    };
    write(MANIFEST_FILE, manifest::header_line()? + &lines)?;
    write(SUMS_FILE, sums)
}
