//! Mends the lists of a day's folder before they are written to: what a power cut left in them was never promised,
//! and may lie anywhere in the part that was not synced, not only at the end.
//!
//! A torn last line is cut off. When a whole line is damaged, the list is written anew without it, and the manifest
//! as it was is kept beside it for people. SHA256SUMS follows from the manifest, so that `sha256sum -c` passes.

use super::manifest::{self, MANIFEST_FILE, Row, SUMS_FILE};
use crate::ground::durable;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Mends both lists in `folder`. `stamp` names what is set aside.
pub(super) fn mend_lists(folder: &Path, stamp: &str) -> Result<()> {
    let manifest = folder.join(MANIFEST_FILE);
    mend_manifest(&manifest, stamp).with_context(|| format!("could not mend {}", manifest.display()))?;
    let sums = folder.join(SUMS_FILE);
    mend_sums(folder, &sums).with_context(|| format!("could not mend {}", sums.display()))
}

fn mend_manifest(path: &Path, stamp: &str) -> Result<()> {
    let bytes = read_or_empty(path)?;
    let whole = manifest::whole_lines_length(&bytes);
    if are_rows(&bytes[..whole]) {
        return cut_tail(path, bytes.len(), whole);
    }
    let kept = good_lines(&bytes[..whole])?;
    let aside = path.with_file_name(format!("manifest-{stamp}.bad"));
    replace(&aside, &bytes)?;
    replace(path, kept.as_bytes())?;
    log::error!(
        "{} had damaged lines; it was written anew without them, and is kept as it was in {}",
        path.display(),
        aside.display()
    );
    Ok(())
}

/// The header, and every line that can be read as a row by itself.
fn good_lines(bytes: &[u8]) -> Result<String> {
    let header = manifest::header_line()?;
    let mut kept = header.clone();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Ok(text) = std::str::from_utf8(line) else { continue };
        if text != header && are_rows(format!("{header}{text}").as_bytes()) {
            kept.push_str(text);
        }
    }
    Ok(kept)
}

/// Whether every line but the first is one sound row. A damaged quotation mark could join lines, and zeros could
/// stand in any column.
fn are_rows(lines: &[u8]) -> bool {
    let is_text = |byte: &u8| *byte >= b' ' || matches!(byte, b'\n' | b'\r');
    let count = lines.iter().filter(|byte| **byte == b'\n').count();
    let is_sound = |row: &Row| {
        !row.file.is_empty() && row.sha256.len() == 64 && row.sha256.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let rows = manifest::parse(lines);
    lines.iter().all(is_text)
        && rows.is_ok_and(|rows| rows.len() == count.saturating_sub(1) && rows.iter().all(is_sound))
}

fn mend_sums(folder: &Path, path: &Path) -> Result<()> {
    let bytes = read_or_empty(path)?;
    let whole = manifest::whole_lines_length(&bytes);
    let rows = manifest::parse(&read_or_empty(&folder.join(MANIFEST_FILE))?)?;
    let mut owed: HashMap<&str, &Row> = rows.iter().map(|row| (row.file.as_str(), row)).collect();
    let mut mended = String::new();
    for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
        let Some((hash, file, text)) = read_line(line) else { continue };
        let is_right = match owed.get(file) {
            Some(row) => row.sha256 == hash,
            // Somebody else's line, or one that stands twice.
            None => !rows.iter().any(|row| row.file == file) && folder.join(file).is_file(),
        };
        if is_right {
            owed.remove(file);
            mended.push_str(text);
        }
    }
    let is_unharmed = mended.as_bytes() == &bytes[..whole];
    let missing: String =
        rows.iter().filter(|row| owed.contains_key(row.file.as_str())).map(Row::sums_line).collect();
    if is_unharmed && missing.is_empty() {
        return cut_tail(path, bytes.len(), whole);
    }
    log::warn!("made {} agree with the manifest again", path.display());
    replace(path, (mended + &missing).as_bytes())
}

fn read_line(line: &[u8]) -> Option<(&str, &str, &str)> {
    let text = std::str::from_utf8(line).ok()?;
    let (hash, file) = manifest::parse_sums_line(text.trim_end_matches(['\n', '\r']))?;
    (!file.chars().any(char::is_control)).then_some((hash, file, text))
}

fn read_or_empty(path: &Path) -> Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// Takes off what follows the last line break.
fn cut_tail(path: &Path, length: usize, whole: usize) -> Result<()> {
    if whole == length {
        return Ok(());
    }
    log::warn!("cut a torn last line of {} bytes off {}", length - whole, path.display());
    let file = File::options().write(true).open(path)?;
    file.set_len(whole as u64)?;
    Ok(file.sync_all()?)
}

/// The old content or the new, never a mix; under a temporary name that the next start would sweep.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.part"));
    let mut file = File::create(&temporary)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error.into());
    }
    Ok(durable::sync_folder(durable::folder_of(path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(file: &str) -> Row {
        Row { file: file.into(), media_id: file.into(), sha256: "a".repeat(64), bytes: 1, ..Row::default() }
    }

    fn lines(files: &[&str]) -> (String, String) {
        let rows: Vec<Row> = files.iter().map(|file| row(file)).collect();
        let manifest: String = rows.iter().map(|row| row.to_line().unwrap()).collect();
        (manifest::header_line().unwrap() + &manifest, rows.iter().map(Row::sums_line).collect())
    }

    /// Writes both lists, mends them, and gives the files that each lists then.
    fn mended(manifest: &[u8], sums: &[u8]) -> (Vec<String>, Vec<String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MANIFEST_FILE), manifest).unwrap();
        std::fs::write(folder.path().join(SUMS_FILE), sums).unwrap();
        mend_lists(folder.path(), "T").unwrap();
        let rows = manifest::read(&folder.path().join(MANIFEST_FILE)).unwrap();
        let sums = std::fs::read_to_string(folder.path().join(SUMS_FILE)).unwrap();
        let listed = sums.lines().map(|line| manifest::parse_sums_line(line).unwrap().1.to_owned()).collect();
        (rows.into_iter().map(|row| row.file).collect(), listed, folder)
    }

    #[test]
    fn lists_that_are_whole_are_left_alone() {
        let (manifest, sums) = lines(&["a", "b"]);
        let (rows, listed, folder) = mended(manifest.as_bytes(), sums.as_bytes());
        assert_eq!((rows.len(), listed.len()), (2, 2));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// A block in the middle of what was appended did not reach the disk, the one behind it did.
    #[test]
    fn a_hole_costs_only_the_lines_that_it_touches() {
        let (manifest, sums) = lines(&["a", "b", "c", "d"]);
        for filler in [0, 0xff, b'x', b'"', b'\n'] {
            let mut manifest = manifest.clone().into_bytes();
            let start = manifest.windows(2).position(|pair| pair == b"b,").unwrap();
            let end = manifest.windows(2).position(|pair| pair == b"c,").unwrap() + 5;
            manifest[start..end].fill(filler);
            let mut sums = sums.clone().into_bytes();
            sums[80..150].fill(filler);
            let (rows, listed, folder) = mended(&manifest, &sums);
            assert_eq!(rows, ["a", "d"], "{filler}");
            assert!(listed.contains(&"a".into()) && listed.contains(&"d".into()), "{filler}: {listed:?}");
            assert!(!listed.contains(&"b".into()) && !listed.contains(&"c".into()), "{filler}: {listed:?}");
            assert_eq!(std::fs::read(folder.path().join("manifest-T.bad")).unwrap(), manifest);
        }
    }

    #[test]
    fn a_lost_header_comes_back() {
        let (manifest, sums) = lines(&["a"]);
        let mut manifest = manifest.into_bytes();
        manifest[..20].fill(0);
        assert_eq!(mended(&manifest, sums.as_bytes()).0, ["a"]);
    }

    #[test]
    fn hash_lines_follow_the_manifest() {
        let (manifest, sums) = lines(&["a", "b"]);
        let wrong = sums.replacen('a', "b", 1);
        assert_eq!(mended(manifest.as_bytes(), wrong.as_bytes()).1, ["b", "a"]);
        assert_eq!(mended(manifest.as_bytes(), b"").1, ["a", "b"]);
        assert_eq!(mended(manifest.as_bytes(), format!("{sums}{sums}").as_bytes()).1, ["a", "b"]);
        assert_eq!(mended(manifest.as_bytes(), format!("{sums}{}", &sums[..70]).as_bytes()).1, ["a", "b"]);
    }
}
