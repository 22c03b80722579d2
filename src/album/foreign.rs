//! Reading what others may have written: a pulled card, a stick that has been in many machines. Nothing there is
//! believed. Names are checked before they become paths, links are not followed, and what is no plain file (a
//! pipe would make the reader wait for ever) is not opened.

use super::manifest::{self, Row};
use super::name;
use crate::ground::hex::hex;
use rustix::fs::{Advice, OFlags};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A list larger than this is no manifest: it would hold more than a million pictures of one day.
const LIST_BYTES_MAX: u64 = 1 << 30;

const BUFFER_BYTES: usize = 64 * 1024;

/// Names by which Windows means devices, whatever stands behind the first dot.
const WINDOWS_DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Opens a plain file for reading.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    Ok(file)
}

/// The bytes of a manifest or of a list of hashes; empty when there is none.
pub(super) fn read_list(path: &Path) -> io::Result<Vec<u8>> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIST_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large for a manifest"));
    }
    Ok(bytes)
}

/// The rows of a manifest, and the numbers of the lines that are damaged: one flipped bit costs one picture's
/// row, not the day's.
pub(super) fn rows_of(manifest: &[u8]) -> (Vec<Row>, Vec<usize>) {
    match manifest::parse(manifest) {
        Ok(rows) => (rows, Vec::new()),
        Err(_) => rows_line_by_line(manifest),
    }
}

fn rows_line_by_line(bytes: &[u8]) -> (Vec<Row>, Vec<usize>) {
    let whole = &bytes[..manifest::whole_lines_length(bytes)];
    let mut lines = whole.split_inclusive(|byte| *byte == b'\n');
    let (mut rows, mut damaged) = (Vec::new(), Vec::new());
    let ours = manifest::header_line().unwrap_or_default().into_bytes();
    let header = match lines.next() {
        Some(first) if first.starts_with(b"file,media_id,sha256,bytes,") && first.is_ascii() => {
            first.to_vec()
        }
        _ => {
            damaged.push(1);
            ours
        }
    };
    for (index, line) in lines.enumerate() {
        match manifest::parse(&[&header[..], line].concat()) {
            Ok(one) if one.len() == 1 => rows.extend(one),
            _ => damaged.push(index + 2),
        }
    }
    (rows, damaged)
}

/// Whether `file` may become a file in a day's folder, here or on a stick that Windows reads: of the characters
/// that the box itself uses, hidden by no dot, none of the lists, no device.
pub(super) fn is_safe_name(file: &str) -> bool {
    let lower = file.to_ascii_lowercase();
    let stem = lower.split('.').next().unwrap_or_default();
    let is_port = stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
    let is_list =
        [manifest::MANIFEST_FILE, manifest::SUMS_FILE].iter().any(|list| list.eq_ignore_ascii_case(file));
    (1..=255).contains(&file.len())
        && file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-~.".contains(&byte))
        && !file.starts_with('.')
        && !file.ends_with('.')
        && !is_list
        && !is_port
        && !WINDOWS_DEVICES.contains(&stem)
}

/// `2026-11-22/name` of a merged manifest, taken apart; `None` for anything else.
pub(super) fn split_day(file: &str) -> Option<(&str, &str)> {
    file.split_once('/').filter(|(day, file)| name::is_day(day) && is_safe_name(file))
}

/// Whether `text` is a hash as the manifests have it.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Files that computers leave on every stick that they see.
pub(super) fn is_left_by_a_computer(file: &str) -> bool {
    file.starts_with("._") || [".DS_Store", "Thumbs.db", "desktop.ini"].contains(&file)
}

/// Makes the next read of `file` go to the disk: what is only in memory proves nothing.
pub(super) fn forget_cache(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
}

/// Lets the disk begin to read `file`.
pub(super) fn read_ahead(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, Advice::WillNeed);
}

/// SHA-256 (lower-case hex) and length of what is left to read of `file`. Reading ends once it is longer than
/// `bytes_max`. `read` hears of each piece.
pub(super) fn hash(
    mut file: &File,
    bytes_max: u64,
    mut read: impl FnMut(&[u8]),
) -> io::Result<(String, u64)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER_BYTES]);
    while bytes <= bytes_max {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
                read(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((hex(&hash.finalize()), bytes))
}

/// Whether the file at `path` is the one that `row` lists, by its bytes on the disk.
pub(super) fn is_as_listed(path: &Path, row: &Row, read: impl FnMut(&[u8])) -> io::Result<bool> {
    let file = open(path)?;
    if file.metadata()?.len() != row.bytes {
        return Ok(false);
    }
    forget_cache(&file);
    let (sha256, bytes) = hash(&file, row.bytes, read)?;
    Ok(sha256 == row.sha256 && bytes == row.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_everywhere_become_paths() {
        for good in ["20261121T170106Z_Ab-_9.jpg", "a~1.png", "console.jpg", "community.jpg"] {
            assert!(is_safe_name(good), "{good}");
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "a\0b",
            ".hidden",
            "x.",
            "x y",
            "a:b",
            "é.jpg",
            "manifest.csv",
            "MANIFEST.CSV",
            "sha256sums",
            "con",
            "CON.jpg",
            "lpt1.jpg",
            "a\nb",
            "-\u{202e}",
            &long,
        ] {
            assert!(!is_safe_name(bad), "{bad:?}");
        }
        assert_eq!(split_day("2026-11-22/a.jpg"), Some(("2026-11-22", "a.jpg")));
        for bad in ["a.jpg", "../a.jpg", "2026-11-22/../a.jpg", "2026-11-22/x/a.jpg"] {
            assert_eq!(split_day(bad), None);
        }
    }

    #[test]
    fn one_damaged_line_costs_one_row() {
        let row = |file: &str| Row { file: file.to_owned(), sha256: "a".repeat(64), ..Row::default() };
        let lines: Vec<String> =
            ["a.jpg", "b.jpg", "c.jpg"].iter().map(|file| row(file).to_line().unwrap()).collect();
        let mut bytes = (manifest::header_line().unwrap() + &lines.concat()).into_bytes();
        let at = bytes.windows(5).position(|five| five == b"b.jpg").unwrap();
        for (flipped, kept) in [(0xff, vec!["a.jpg", "c.jpg"]), (b'"', vec!["a.jpg", "c.jpg"])] {
            bytes[at] = flipped;
            let (rows, damaged) = rows_of(&bytes);
            assert_eq!(rows.iter().map(|row| row.file.as_str()).collect::<Vec<_>>(), kept);
            assert_eq!(damaged, [3]);
        }
    }

    #[test]
    fn links_pipes_and_folders_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("real"), b"x").unwrap();
        std::os::unix::fs::symlink(path("real"), path("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        assert!(open(&path("real")).is_ok());
        for bad in ["link", "pipe", "."] {
            assert!(open(&path(bad)).is_err(), "{bad}");
        }
        assert!(read_list(&path("none")).unwrap().is_empty());
    }
}
