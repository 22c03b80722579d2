//! Is the set complete? Re-reads every picture that the manifests list and compares its hash; finds files that
//! no manifest lists. Needs neither box nor settings.

use super::day::hash_file;
use super::manifest::{self, MANIFEST_FILE, SUMS_FILE};
use super::{day_folders, name};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What is wrong with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flaw {
    /// Listed, but not there.
    Missing,
    /// There, but its hash or length is not the listed one.
    Changed,
    /// There, but in no manifest.
    Unlisted,
    /// A temporary file of a download that has not finished.
    Half,
    /// Listed, but it cannot be read.
    Unreadable,
}

/// One file that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Below the pictures folder.
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

/// Looks through every day folder below `root`, or through `root` itself when it is a merged copy with a
/// manifest of its own. `seen` is called after each picture with its bytes.
pub fn verify(root: &Path, mut seen: impl FnMut(u64)) -> Result<Verified> {
    if !root.is_dir() {
        bail!("could not verify {}: not a folder", root.display());
    }
    let mut report = Verified::default();
    for day in day_folders(root)? {
        verify_day(root, &day, &mut report, &mut seen)?;
    }
    Ok(report)
}

fn verify_day(root: &Path, day: &str, report: &mut Verified, seen: &mut impl FnMut(u64)) -> Result<()> {
    let folder = root.join(day);
    let rows = if folder.join(MANIFEST_FILE).exists() {
        manifest::read(&folder.join(MANIFEST_FILE))?
    } else {
        Vec::new()
    };
    let mut finding =
        |file: &str, flaw| report.findings.push(Finding { file: format!("{day}/{file}"), flaw });
    let mut listed = HashSet::new();
    let mut good: HashMap<&str, u64> = HashMap::new();
    for row in &rows {
        listed.insert(row.file.clone());
        let path = folder.join(&row.file);
        match hash_file(&path) {
            Err(_) if !path.exists() => finding(&row.file, Flaw::Missing),
            Err(_) => finding(&row.file, Flaw::Unreadable),
            Ok((sha256, bytes)) if sha256 == row.sha256 && bytes == row.bytes => {
                good.insert(&row.file, bytes);
                seen(bytes);
            }
            Ok(_) => finding(&row.file, Flaw::Changed),
        }
    }
    for file in files_of(&folder)? {
        if name::is_temporary(&file) {
            finding(&file, Flaw::Half);
        } else if file != MANIFEST_FILE && file != SUMS_FILE && !listed.contains(&file) {
            finding(&file, Flaw::Unlisted);
        }
    }
    report.good += good.len() as u64;
    report.bytes += good.values().sum::<u64>();
    Ok(())
}

fn files_of(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("could not read {}", folder.display()))?;
        files.push(entry.file_name().to_string_lossy().into_owned());
    }
    files.sort();
    Ok(files)
}
