//! Pictures to take away through a browser: one zip of a day, a team or a selection, each day with the manifest
//! and the hashes of what is in it. Its length is known before its first byte, so a download that was cut is
//! seen to be short; whether the bytes are right, `sha256sum -c SHA256SUMS` in each day's folder tells.
//!
//! Two passes over the same rows: the first asks the file system for lengths, the second reads. A picture that
//! is not there, or not as long as it should be, is left out and named in a list; one that changes between the
//! two passes breaks the zip, which then has no end. Unlike [`super::export`], which checks every byte and can
//! go on where it stopped, this is for the quick way home.

use super::catalogue::{self, Scope};
use super::manifest::{MANIFEST_FILE, Row, SUMS_FILE, header_line};
use super::zip::{DosTime, Entry, ZipLength, ZipWriter};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The list of what is not in the zip.
const MISSING_FILE: &str = "MISSING.txt";

/// Small writes are gathered.
const BUFFER_BYTES: usize = 64 * 1024;

/// What will be in a zip.
pub struct Parcel {
    root: PathBuf,
    scope: Scope,
    picks: Option<HashSet<String>>,
    length: u64,
    pictures: u64,
}

/// What one pass does with the entries.
trait Pass {
    fn picture(&mut self, day: &str, row: &Row, entry: &Entry) -> Result<()>;
    fn text(&mut self, entry: &Entry, text: &str) -> Result<()>;
}

impl Parcel {
    /// Looks up what `scope` names; of that only `picks` (`2026-11-22/file`), where there are some.
    pub fn prepare(root: &Path, scope: Scope, picks: Option<HashSet<String>>) -> Result<Parcel> {
        let mut parcel = Parcel { root: root.to_owned(), scope, picks, length: 0, pictures: 0 };
        let mut measured = Measured::default();
        parcel.walk(&mut measured)?;
        parcel.length = measured.length.total();
        parcel.pictures = measured.pictures;
        Ok(parcel)
    }

    /// Bytes of the zip.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Pictures in it.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// Writes the zip. After an error it has no end.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let zip = ZipWriter::new(BufWriter::with_capacity(BUFFER_BYTES, out));
        let mut written = Written { root: &self.root, zip };
        self.walk(&mut written)?;
        written.zip.finish().context("could not send the zip")?;
        Ok(())
    }

    fn walk(&self, pass: &mut dyn Pass) -> Result<()> {
        let mut missing = String::new();
        for day in &self.scope.days {
            self.walk_day(day, pass, &mut missing)?;
        }
        if missing.is_empty() { Ok(()) } else { add_text(pass, MISSING_FILE, &missing) }
    }

    fn walk_day(&self, day: &(String, u64), pass: &mut dyn Pass, missing: &mut String) -> Result<()> {
        let scope = Scope { days: vec![day.clone()], team: self.scope.team.clone() };
        let (mut lines, mut sums) = (String::new(), String::new());
        catalogue::each_of(&self.root, &scope, &mut |day, row| {
            let name = format!("{day}/{}", row.file);
            if self.picks.as_ref().is_some_and(|picks| !picks.contains(&name)) {
                return Ok(());
            }
            if !is_there(&self.root, day, &row) {
                missing.push_str(&format!("{name}\n"));
                return Ok(());
            }
            let modified = DosTime::from_rfc3339(&row.submitted_at);
            let entry = Entry { name: &name, bytes: row.bytes, crc32: None, modified };
            pass.picture(day, &row, &entry)?;
            lines.push_str(&row.to_line()?);
            sums.push_str(&row.sums_line());
            Ok(())
        })?;
        if lines.is_empty() {
            return Ok(());
        }
        add_text(pass, &format!("{}/{MANIFEST_FILE}", day.0), &(header_line()? + &lines))?;
        add_text(pass, &format!("{}/{SUMS_FILE}", day.0), &sums)
    }
}

fn add_text(pass: &mut dyn Pass, name: &str, text: &str) -> Result<()> {
    let crc32 = Some(crc32fast::hash(text.as_bytes()));
    let entry = Entry { name, bytes: text.len() as u64, crc32, modified: DosTime::EARLIEST };
    pass.text(&entry, text)
}

fn is_there(root: &Path, day: &str, row: &Row) -> bool {
    let path = root.join(day).join(&row.file);
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == row.bytes)
}

#[derive(Default)]
struct Measured {
    length: ZipLength,
    pictures: u64,
}

impl Pass for Measured {
    fn picture(&mut self, _: &str, _: &Row, entry: &Entry) -> Result<()> {
        self.pictures += 1;
        self.length.add(entry).context("could not measure the zip")
    }

    fn text(&mut self, entry: &Entry, _: &str) -> Result<()> {
        self.length.add(entry).context("could not measure the zip")
    }
}

struct Written<'w, W: Write> {
    root: &'w Path,
    zip: ZipWriter<W>,
}

impl<W: Write> Written<'_, W> {
    fn add(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        self.zip.add(entry, content).context("could not send the zip")?;
        Ok(())
    }
}

impl<W: Write> Pass for Written<'_, W> {
    fn picture(&mut self, day: &str, row: &Row, entry: &Entry) -> Result<()> {
        let opened: io::Result<_> = catalogue::open(self.root, day, row);
        let mut file = opened.with_context(|| format!("could not open {day}/{}", row.file))?;
        self.add(entry, &mut file)
    }

    fn text(&mut self, entry: &Entry, text: &str) -> Result<()> {
        self.add(entry, &mut text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::hex::hex;
    use sha2::{Digest, Sha256};

    const DAYS: [&str; 2] = ["2026-11-20", "2026-11-21"];

    fn album() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for day in DAYS {
            let path = folder.path().join(day);
            std::fs::create_dir(&path).unwrap();
            let mut text = header_line().unwrap();
            for number in 0..3u8 {
                let bytes = vec![number; 1000 + usize::from(number)];
                let row = Row {
                    file: format!("p{number}.jpg"),
                    sha256: hex(&Sha256::digest(&bytes)),
                    bytes: bytes.len() as u64,
                    submitted_at: "2026-11-20T10:00:00.000Z".into(),
                    team: ["north", "south"][usize::from(number % 2)].into(),
                    ..Row::default()
                };
                std::fs::write(path.join(&row.file), bytes).unwrap();
                text += &row.to_line().unwrap();
            }
            std::fs::write(path.join(MANIFEST_FILE), text).unwrap();
        }
        folder
    }

    fn parcel(root: &Path, day: Option<&str>, team: Option<&str>, picks: Option<&[&str]>) -> Parcel {
        let scope = catalogue::scope(root, day, team).unwrap();
        let picks = picks.map(|picks| picks.iter().map(|pick| (*pick).to_owned()).collect());
        Parcel::prepare(root, scope, picks).unwrap()
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        std::fs::write(&path, bytes).unwrap();
        let output = std::process::Command::new("unzip").arg("-Z1").arg(&path).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_choice_is_as_long_as_was_said_and_lists_what_is_in_it() {
        let folder = album();
        let root = folder.path();
        for (chosen, pictures, expected) in [
            (parcel(root, None, None, None), 6, 10),
            (parcel(root, Some(DAYS[0]), None, None), 3, 5),
            (parcel(root, None, Some("south"), None), 2, 6),
            (parcel(root, None, None, Some(&["2026-11-21/p2.jpg", "2026-11-21/../x", "x"])), 1, 3),
            (parcel(root, None, Some("nobody"), None), 0, 0),
        ] {
            let mut bytes = Vec::new();
            chosen.write(&mut bytes).unwrap();
            assert_eq!((chosen.pictures(), bytes.len() as u64), (pictures, chosen.length()));
            if expected > 0 {
                assert_eq!(names(&bytes).len(), expected);
            }
        }
    }

    #[test]
    fn what_is_not_there_is_named_and_what_changes_breaks_the_zip() {
        let folder = album();
        let root = folder.path();
        std::fs::remove_file(root.join(DAYS[0]).join("p0.jpg")).unwrap();
        std::fs::write(root.join(DAYS[1]).join("p1.jpg"), b"short").unwrap();
        let chosen = parcel(root, None, None, None);
        let mut bytes = Vec::new();
        chosen.write(&mut bytes).unwrap();
        assert_eq!((chosen.pictures(), bytes.len() as u64), (4, chosen.length()));
        assert!(names(&bytes).contains(&MISSING_FILE.to_owned()));
        let chosen = parcel(root, None, None, None);
        std::fs::remove_file(root.join(DAYS[1]).join("p2.jpg")).unwrap();
        let mut bytes = Vec::new();
        // The picture counts as missing now, so the zip comes out with another length than was told.
        let written = chosen.write(&mut bytes);
        assert!(written.is_err() || bytes.len() as u64 != chosen.length());
    }
}
