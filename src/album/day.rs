//! One day's folder while it is written to: its manifest and SHA256SUMS, open for appending, repaired when they
//! are opened, and the commit that ties name, row and hash together.

use super::incoming::WholePicture;
use super::manifest::{self, MANIFEST_FILE, Row, SUMS_FILE};
use super::mend::mend_lists;
use super::stable::Volume;
use super::whole::{self, PictureKind};
use super::{Facts, Saved, name};
use crate::ground::clock::{SharedClock, compact_utc, rfc3339_utc};
use crate::ground::durable::{self, AppendFile};
use crate::ground::hex::hex;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// A day's folder, its two lists open.
pub(super) struct DayFolder {
    day: String,
    path: PathBuf,
    manifest: AppendFile,
    sums: AppendFile,
}

impl DayFolder {
    /// Opens the folder of `day` below `root`, its lists mended.
    pub(super) fn open(root: &Path, day: &str, clock: &SharedClock) -> Result<DayFolder> {
        let path = root.join(day);
        mend_lists(&path, &compact_utc(clock.wall_ms()))?;
        let manifest = open_list(&path.join(MANIFEST_FILE))?;
        let sums = open_list(&path.join(SUMS_FILE))?;
        let mut folder = DayFolder { day: day.to_owned(), path, manifest, sums };
        if folder.manifest.good_length() == 0 {
            let end = folder.manifest.append(manifest::header_line()?.as_bytes());
            appended(&folder.manifest, end)?;
        }
        folder.make_durable()?;
        Ok(folder)
    }

    /// What was found here may have been written by a run that ended before it could sync; from now on it is relied on.
    fn make_durable(&self) -> Result<()> {
        for list in [&self.manifest, &self.sums] {
            list.file().sync_data().with_context(|| format!("could not sync {}", list.path().display()))?;
        }
        self.sync_names()
    }

    /// Whether an append has failed, so that the folder must be opened anew.
    pub(super) fn is_spent(&self) -> bool {
        self.manifest.is_spent() || self.sums.is_spent()
    }

    /// Brings every picture to stable storage and gives it its final name and its rows. The outer error means that
    /// none can be believed.
    pub(super) fn commit(
        &mut self,
        pictures: Vec<WholePicture>,
        volume: &Volume,
        clock: &SharedClock,
    ) -> Result<Vec<Result<Saved>>> {
        let saved_at = rfc3339_utc(clock.wall_ms());
        let files: Vec<&File> = pictures.iter().map(|picture| &picture.file).collect();
        let synced = volume.sync_all(&files);
        let renamed: Vec<Result<Row>> = pictures
            .into_iter()
            .zip(synced)
            .map(|(picture, synced)| {
                synced.context("could not sync the picture")?;
                self.rename(picture, &saved_at)
            })
            .collect();
        let rows: Vec<&Row> = renamed.iter().filter_map(|row| row.as_ref().ok()).collect();
        if !rows.is_empty() {
            self.sync_names()?;
            self.append_rows(&rows, volume)?;
        }
        Ok(renamed.into_iter().map(|row| row.map(|row| row.saved(&self.day))).collect())
    }

    fn sync_names(&self) -> Result<()> {
        durable::sync_folder(&self.path)
            .with_context(|| format!("could not sync the folder {}", self.path.display()))
    }

    fn rename(&self, mut picture: WholePicture, saved_at: &str) -> Result<Row> {
        let mut file = name::file_name(&picture.facts, picture.kind);
        if self.path.join(&file).exists() {
            file = name::distinct_file_name(&picture.facts, picture.kind);
        }
        let path = self.path.join(&file);
        picture.temporary.rename(&path).with_context(|| format!("could not rename to {}", path.display()))?;
        let content = Content {
            file,
            kind: picture.kind,
            sha256: picture.sha256.clone(),
            bytes: picture.bytes,
            width_height: picture.width_height,
        };
        Ok(row_of(&picture.facts, content, saved_at))
    }

    /// The manifest row of `facts`, or a new one for a whole file that has none.
    pub(super) fn find_or_adopt(
        &mut self,
        facts: &Facts,
        volume: &Volume,
        clock: &SharedClock,
    ) -> Result<Option<Saved>> {
        let rows = manifest::read(&self.path.join(MANIFEST_FILE))?;
        if let Some(row) = rows.iter().find(|row| row.media_id == facts.media_id.as_str()) {
            return Ok(self.path.join(&row.file).exists().then(|| row.saved(&self.day)));
        }
        // On FAT the name of another id may answer for ours; the rows know whose file it is.
        let taken: HashSet<String> = rows.iter().map(|row| row.file.to_lowercase()).collect();
        let free = |name: &String| !taken.contains(&name.to_lowercase()) && self.path.join(name).exists();
        let Some(file) = name::Stems::of(facts).candidates().into_iter().find(free) else { return Ok(None) };
        let Some(content) = self.whole_content(file)? else { return Ok(None) };
        // Neither its bytes nor its name need be on stable storage: whoever wrote them did not get to the row.
        self.sync_names()?;
        let row = row_of(facts, content, &rfc3339_utc(clock.wall_ms()));
        self.append_rows(&[&row], volume)?;
        log::info!("{} was whole and is in the manifest now", row.file);
        Ok(Some(row.saved(&self.day)))
    }

    /// What is in a file without a row. One that is not whole (a file system that lost some of it) loses its name.
    fn whole_content(&self, file: String) -> Result<Option<Content>> {
        let path = self.path.join(&file);
        let content = read_content(&self.path, file)?;
        let reading = || format!("could not read {}", path.display());
        let mut source = File::open(&path).with_context(reading)?;
        if whole::is_whole(content.kind, &mut source, content.bytes).with_context(reading)? {
            source.sync_data().with_context(|| format!("could not sync {}", path.display()))?;
            return Ok(Some(content));
        }
        let aside = path.with_extension("damaged");
        log::error!(
            "{} is not whole and in no manifest; it is fetched again, and kept as {}",
            path.display(),
            aside.display()
        );
        std::fs::rename(&path, &aside).with_context(|| format!("could not rename to {}", aside.display()))?;
        Ok(None)
    }

    fn append_rows(&mut self, rows: &[&Row], volume: &Volume) -> Result<()> {
        let lines = rows.iter().map(|row| row.to_line()).collect::<Result<String>>()?;
        let sums: String = rows.iter().map(|row| row.sums_line()).collect();
        let written = self.manifest.write(lines.as_bytes());
        appended(&self.manifest, written)?;
        if let Err(error) = self.sums.write(sums.as_bytes()) {
            let _ = self.manifest.settle(Err(io::Error::other("the hash lines failed")));
            return appended(&self.sums, Err(error));
        }
        let synced = volume.sync_all(&[self.manifest.file(), self.sums.file()]);
        let settled: Vec<io::Result<()>> = [&mut self.manifest, &mut self.sums]
            .into_iter()
            .zip(synced)
            .map(|(list, end)| list.settle(end))
            .collect();
        for (list, end) in [&self.manifest, &self.sums].into_iter().zip(settled) {
            appended(list, end)?;
        }
        Ok(())
    }
}

fn appended(list: &AppendFile, end: io::Result<()>) -> Result<()> {
    end.with_context(|| format!("could not append to {}", list.path().display()))
}

struct Content {
    file: String,
    kind: PictureKind,
    sha256: String,
    bytes: u64,
    width_height: Option<(usize, usize)>,
}

fn row_of(facts: &Facts, content: Content, saved_at: &str) -> Row {
    let pixels = |number: Option<usize>| number.map(|n| n.to_string()).unwrap_or_default();
    let degrees = |number: Option<f64>| number.map(|n| n.to_string()).unwrap_or_default();
    Row {
        file: content.file,
        media_id: facts.media_id.as_str().to_owned(),
        sha256: content.sha256,
        bytes: content.bytes,
        content_type: content.kind.content_type().to_owned(),
        width: pixels(content.width_height.map(|size| size.0)),
        height: pixels(content.width_height.map(|size| size.1)),
        submitted_at: rfc3339_utc(facts.submitted_ms),
        saved_at: saved_at.to_owned(),
        receipt: facts.receipt.clone(),
        team: facts.team.clone(),
        contributor: facts.contributor.clone(),
        note: facts.note.clone(),
        latitude: degrees(facts.latitude),
        longitude: degrees(facts.longitude),
        clock: if facts.clock_trusted { String::new() } else { "unsure".to_owned() },
    }
}

fn read_content(folder: &Path, file: String) -> Result<Content> {
    let path = folder.join(&file);
    let (sha256, bytes) = hash_file(&path)?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let kind = PictureKind::from_extension(extension).unwrap_or(PictureKind::Jpeg);
    let width_height = File::open(&path).ok().and_then(|file| whole::measure(&mut BufReader::new(file)).ok());
    Ok(Content { file, kind, sha256, bytes, width_height })
}

/// SHA-256 (lower-case hex) and length of a file.
pub(super) fn hash_file(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 128 * 1024]);
    loop {
        match file.read(&mut buffer).with_context(|| format!("could not read {}", path.display()))? {
            0 => return Ok((hex(&hash.finalize()), bytes)),
            count => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
}

fn open_list(path: &Path) -> Result<AppendFile> {
    AppendFile::open(path).with_context(|| format!("could not open {}", path.display()))
}

/// Removes the temporary files of an interrupted run; returns how many.
pub(super) fn sweep_temporary_files(folder: &Path) -> Result<usize> {
    let mut swept = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("could not read {}", folder.display()))?;
        if name::is_temporary(&entry.file_name().to_string_lossy()) {
            let removed = std::fs::remove_file(entry.path());
            removed.with_context(|| format!("could not remove {}", entry.path().display()))?;
            swept += 1;
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::super::export::{Selection, export};
    use super::super::name::tests::facts;
    use super::super::watch::Unwatched;
    use super::super::whole::tests::smallest;
    use super::super::{Album, NotKept};
    use super::*;
    use crate::ground::clock::TestClock;

    const DAY: &str = "2026-11-21";

    fn album(root: &Path) -> Album {
        Album::open(root, 1000, TestClock::at(1_795_280_470_000)).unwrap()
    }

    fn keep(album: &Album, id: &str) -> Saved {
        let mut incoming = album.begin(facts(id)).unwrap();
        incoming.write(&smallest(PictureKind::Png)).unwrap();
        album.commit(incoming.finish().unwrap_or_else(|why| panic!("{why}"))).unwrap()
    }

    fn sums_hold(root: &Path) -> bool {
        let status = std::process::Command::new("sha256sum")
            .args(["-c", "--strict", "--quiet", SUMS_FILE])
            .current_dir(root.join(DAY))
            .status();
        status.unwrap().success()
    }

    #[test]
    fn a_kept_picture_is_named_listed_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let album = album(folder.path());
        assert_eq!(album.find(&facts("one")).unwrap(), None);
        let saved = keep(&album, "one");
        assert_eq!(saved.file, "2026-11-21/20261121T170106Z_one.png");
        assert_eq!(album.find(&facts("one")).unwrap(), Some(saved.clone()));
        assert_eq!(album.saved_on(DAY).unwrap()[&facts("one").media_id], saved);
        assert!(sums_hold(folder.path()));
        let rows = manifest::read(&folder.path().join(DAY).join(MANIFEST_FILE)).unwrap();
        assert_eq!((rows[0].width.as_str(), rows[0].content_type.as_str()), ("1", "image/png"));
    }

    #[test]
    fn what_is_no_whole_picture_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let album = album(folder.path());
        let jpeg = smallest(PictureKind::Jpeg);
        let refused = |bytes: &[u8]| {
            let mut incoming = album.begin(facts("x")).unwrap();
            incoming.write(bytes).and_then(|()| incoming.finish().map(|_| ())).unwrap_err()
        };
        assert!(matches!(refused(b"{\"errcode\":40001}"), NotKept::NotAPicture(_)));
        assert!(matches!(refused(b""), NotKept::NotAPicture(_)));
        assert!(matches!(refused(&jpeg[..jpeg.len() - 1]), NotKept::NotWhole("jpg")));
        assert!(matches!(refused(&[0; 1001]), NotKept::TooLarge(1000)));
        assert_eq!(std::fs::read_dir(folder.path().join(DAY)).unwrap().count(), 0);
    }

    #[test]
    fn ids_that_fat_cannot_tell_apart_get_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let album = album(folder.path());
        keep(&album, "same");
        // A second id under a name that is taken, as a case-insensitive file system would see it.
        let mut other = facts("same");
        other.media_id = crate::ground::media_id::MediaId::parse("sAME").unwrap();
        std::fs::write(folder.path().join(DAY).join("20261121T170106Z_sAME.png"), b"x").unwrap();
        let saved = keep(&album, "sAME");
        assert!(saved.file.contains("sAME~"), "{}", saved.file);
        assert_eq!(album.find(&other).unwrap(), Some(saved));
    }

    #[test]
    fn a_day_that_outgrows_its_folder_goes_on_in_another() {
        let folder = tempfile::tempdir().unwrap();
        let small = |root: &Path| Album { pictures_a_folder: 2, ..album(root) };
        let first = small(folder.path());
        let saved: Vec<String> = ["a", "b", "c"].map(|id| keep(&first, id).file).into();
        assert!(saved[1].starts_with("2026-11-21/") && saved[2].starts_with("2026-11-21_02/"), "{saved:?}");
        // Another run counts what is there, lists included.
        let second = small(folder.path());
        assert!(keep(&second, "d").file.starts_with("2026-11-21_03/"));
        assert_eq!(second.saved_on(DAY).unwrap().len(), 4);
        assert_eq!(second.find(&facts("c")).unwrap().unwrap().file, saved[2]);
        assert_eq!(second.find(&facts("x")).unwrap(), None);
        let verified = super::super::verify::verify(folder.path(), &mut Unwatched);
        assert!(verified.is_ok_and(|verified| verified.good == 4));
        let stick = tempfile::tempdir().unwrap();
        let selection =
            Selection { since: Some(DAY.into()), until: Some(DAY.into()), ..Selection::default() };
        let report = export(folder.path(), stick.path(), &selection, 0, &mut Unwatched);
        assert_eq!((report.is_safe_to_pull(), report.copied), (true, 4), "{report:?}");
        let folders = ["2026-11-21_03", "2026-11-21_02", DAY];
        assert_eq!(super::super::catalogue::days(stick.path()).unwrap(), folders);
        std::fs::write(folder.path().join("2026-11-21_02/.x~1.part"), b"").unwrap();
        assert_eq!(second.repair([DAY]).unwrap(), 0, "it may be a download of this run");
        assert_eq!(small(folder.path()).repair([DAY]).unwrap(), 1);
        // A folder that was taken away hides no later one.
        std::fs::remove_dir_all(folder.path().join(DAY)).unwrap();
        let third = small(folder.path());
        assert_eq!(third.find(&facts("c")).unwrap().unwrap().file, saved[2]);
        assert_eq!(third.find(&facts("a")).unwrap(), None);
    }

    #[test]
    fn an_interrupted_commit_is_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join(DAY);
        keep(&album(folder.path()), "one");
        keep(&album(folder.path()), "two");
        // The power went after the renaming of a third, within the rows of it, and before the hash of "two".
        std::fs::write(day.join("20261121T170106Z_three.gif"), smallest(PictureKind::Gif)).unwrap();
        std::fs::write(day.join(".20261121T170106Z_four~aaaaaaaa.part"), b"half").unwrap();
        let mut rows = std::fs::read(day.join(MANIFEST_FILE)).unwrap();
        rows.extend(b"20261121T170106Z_three.gif,thr");
        std::fs::write(day.join(MANIFEST_FILE), rows).unwrap();
        let sums = std::fs::read_to_string(day.join(SUMS_FILE)).unwrap();
        std::fs::write(day.join(SUMS_FILE), &sums[..sums.len() - 40]).unwrap();

        let album = album(folder.path());
        assert_eq!(album.repair([DAY, "2026-11-20"]).unwrap(), 1);
        assert!(sums_hold(folder.path()));
        let adopted = album.find(&facts("three")).unwrap().unwrap();
        assert_eq!(adopted.file, "2026-11-21/20261121T170106Z_three.gif");
        assert!(sums_hold(folder.path()));
        let rows = manifest::read(&day.join(MANIFEST_FILE)).unwrap();
        assert_eq!(rows.iter().map(|row| row.media_id.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    }
}
