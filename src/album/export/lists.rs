//! The manifests and lists of hashes of a copy: one pair in every day's folder, and one pair above them that
//! covers all days. What earlier runs have brought stays listed.

use super::target::{self, Target};
use super::why::{Blocked, Why};
use super::{Exported, Problem};
use crate::album::foreign;
use crate::album::manifest::{self, MANIFEST_FILE, Row, SUMS_FILE};
use crate::ground::hex::hex;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// Writes the lists of a day's folder: `kept`, and what its manifest listed before and is still there.
pub(super) fn write_day(
    to: &Path,
    day: &str,
    mut kept: Vec<Row>,
    report: &mut Exported,
) -> Result<(), Blocked> {
    let before = foreign::read_list(&to.join(MANIFEST_FILE)).unwrap_or_default();
    let renewed: HashSet<String> = kept.iter().map(|row| row.file.to_ascii_lowercase()).collect();
    let is_of_now = |row: &Row| renewed.contains(&row.file.to_ascii_lowercase());
    let (rows, _) = foreign::rows_of(&before);
    for row in rows.into_iter().filter(|row| is_copy(row) && !is_of_now(row)) {
        match to.join(&row.file).symlink_metadata() {
            // Taken away by a person.
            Err(_) => continue,
            Ok(metadata) if metadata.is_file() && metadata.len() == row.bytes => {}
            Ok(_) => {
                let file = format!("{day}/{}", row.file);
                report.problems.push(Problem { file, why: Why::LostSince });
            }
        }
        kept.push(row);
    }
    kept.sort_by(|a, b| a.file.cmp(&b.file));
    kept.dedup_by(|a, b| a.file.eq_ignore_ascii_case(&b.file));
    if kept.is_empty() && before.is_empty() {
        return Ok(());
    }
    let mut lists = Lists::create(to)?;
    for row in &kept {
        lists.add(row)?;
    }
    lists.finish()
}

fn is_copy(row: &Row) -> bool {
    foreign::is_safe_name(&row.file) && foreign::is_sha256(&row.sha256)
}

/// Writes the lists of all days that the destination holds.
pub(super) fn write_merged(target: &Target) -> Result<(), Blocked> {
    let mut lists = Lists::create(target.path())?;
    for day in target.days()? {
        let bytes = foreign::read_list(&target.path().join(&day).join(MANIFEST_FILE)).unwrap_or_default();
        for row in foreign::rows_of(&bytes).0.into_iter().filter(is_copy) {
            lists.add(&Row { file: format!("{day}/{}", row.file), ..row })?;
        }
    }
    lists.finish()
}

/// A manifest and its list of hashes.
struct Lists {
    rows: List,
    sums: List,
}

impl Lists {
    fn create(folder: &Path) -> Result<Lists, Blocked> {
        let mut rows = List::create(folder, MANIFEST_FILE)?;
        rows.add(&manifest::header_line().map_err(impossible)?)?;
        Ok(Lists { rows, sums: List::create(folder, SUMS_FILE)? })
    }

    fn add(&mut self, row: &Row) -> Result<(), Blocked> {
        self.rows.add(&row.to_line().map_err(impossible)?)?;
        self.sums.add(&row.sums_line())
    }

    /// An empty list of hashes would be an error to `sha256sum -c`, so where there is nothing to list there is
    /// none.
    fn finish(self) -> Result<(), Blocked> {
        if self.sums.is_empty() && !self.sums.path.exists() {
            return Ok(());
        }
        self.rows.finish()?;
        self.sums.finish()
    }
}

fn impossible(error: anyhow::Error) -> Blocked {
    Blocked::Failed(format!("{error:#}"))
}

/// A text file that replaces the one of its name when it is whole, synced and read back; one that says the same
/// is left alone.
struct List {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    waiting: Vec<u8>,
    hash: Sha256,
    bytes: u64,
}

impl List {
    fn create(folder: &Path, list: &str) -> Result<List, Blocked> {
        let temporary = folder.join(format!(".tubox-{list}.part"));
        let file = target::create(&temporary)?;
        Ok(List {
            path: folder.join(list),
            temporary,
            file,
            waiting: Vec::new(),
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    fn add(&mut self, line: &str) -> Result<(), Blocked> {
        const WAITING_MAX: usize = 64 * 1024;
        self.waiting.extend(line.as_bytes());
        if self.waiting.len() > WAITING_MAX { self.write() } else { Ok(()) }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.bytes == 0
    }

    fn write(&mut self) -> Result<(), Blocked> {
        self.hash.update(&self.waiting);
        self.bytes += self.waiting.len() as u64;
        let written = self.file.write_all(&self.waiting);
        self.waiting.clear();
        written.map_err(|error| target::explain(&error))
    }

    fn finish(mut self) -> Result<(), Blocked> {
        self.write()?;
        let (sha256, bytes) = (hex(&std::mem::take(&mut self.hash).finalize()), self.bytes);
        let is_this = |file: &File| {
            foreign::forget_cache(file);
            foreign::hash(file, bytes, |_| ()).is_ok_and(|again| again == (sha256.clone(), bytes))
        };
        if foreign::open(&self.path).is_ok_and(|file| is_this(&file)) {
            return Ok(());
        }
        self.file.sync_all().and_then(|()| self.file.rewind()).map_err(|error| target::explain(&error))?;
        if !is_this(&self.file) {
            return Err(Blocked::DoesNotKeep);
        }
        std::fs::rename(&self.temporary, &self.path).map_err(|error| target::explain(&error))
    }
}

impl Drop for List {
    /// After the renaming there is nothing of that name.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}
