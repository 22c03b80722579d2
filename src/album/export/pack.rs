//! All that is wanted in one zip: the pictures as they are, the lists of every day, and the merged ones. Each
//! picture is read and compared with its hash before a byte of it is written, so that a damaged one is left out
//! and named, and so that its checksum stands in front of it.

use super::plan::{self, Planned, Selection};
use super::target::{self, Target};
use super::why::{Blocked, Why};
use super::{Exported, Problem, survey};
use crate::album::foreign;
use crate::album::manifest::{self, MANIFEST_FILE, Row, SUMS_FILE};
use crate::album::watch::Watch;
use crate::album::zip::{DosTime, Entry, ZipWriter};
use crate::ground::durable;
use crate::ground::hex::hex;
use crate::ground::language::Language;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

/// What a zip came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Pictures in it.
    pub pictures: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is not in it, with the reason.
    pub problems: Vec<Problem>,
}

/// Why a zip is not whole. It must be thrown away; a receiver sees that its end is missing.
#[derive(Debug)]
enum Broken {
    /// The pictures.
    Source(Blocked),
    /// Whoever takes the zip.
    Out(io::Error),
}

/// Writes what `selection` wants of `root` into `out` as a zip, in one go. An error means that `out` holds no
/// whole zip: close it without an end.
pub fn pack<W: Write>(
    root: &Path,
    selection: &Selection,
    out: W,
    watch: &mut impl Watch,
) -> io::Result<(W, Packed)> {
    pack_days(root, selection, out, watch).map_err(|broken| match broken {
        Broken::Out(error) => error,
        Broken::Source(blocked) => io::Error::other(blocked.tell(Language::English)),
    })
}

fn pack_days<W: Write>(
    root: &Path,
    selection: &Selection,
    out: W,
    watch: &mut impl Watch,
) -> Result<(W, Packed), Broken> {
    let mut zip = ZipWriter::new(out);
    let (mut packed, mut merged) = (Packed::default(), Lists::new()?);
    for day in plan::days(root, selection).map_err(Broken::Source)? {
        let plan = plan::read_day(root, &day, selection);
        packed.problems.extend(plan.problems);
        let mut lists = Lists::new()?;
        for planned in plan.pictures {
            if watch.stop_asked() {
                return Err(Broken::Source(Blocked::Stopped));
            }
            let file = format!("{day}/{}", planned.row.file);
            match add_picture(&mut zip, root, &day, &planned, watch)? {
                Ok(()) => {
                    packed.pictures += 1;
                    packed.bytes += planned.row.bytes;
                    lists.add(&planned.row)?;
                    merged.add(&Row { file, ..planned.row })?;
                }
                Err(why) => packed.problems.push(Problem { file, why }),
            }
            watch.picture();
        }
        lists.write(&mut zip, &format!("{day}/"))?;
    }
    merged.write(&mut zip, "")?;
    Ok((zip.finish().map_err(Broken::Out)?, packed))
}

/// Adds a picture if it is what its row says; the inner error says why it is left out.
fn add_picture<W: Write>(
    zip: &mut ZipWriter<W>,
    root: &Path,
    day: &str,
    planned: &Planned,
    watch: &mut impl Watch,
) -> Result<Result<(), Why>, Broken> {
    let row = &planned.row;
    let (file, crc32) = match look_at(root, day, planned) {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let mut from = FromCard { file, failed: None };
    let name = format!("{day}/{}", row.file);
    let modified = DosTime::from_rfc3339(&row.submitted_at);
    let entry = Entry { name: &name, bytes: row.bytes, crc32: Some(crc32), modified };
    let added = zip.add(&entry, &mut from);
    match (added, from.failed) {
        (Ok(_), _) => watch.worked(row.bytes),
        (Err(_), Some(cause)) => return Err(Broken::Source(Blocked::SourceGone(cause))),
        // The bytes were right a moment ago.
        (Err(error), None) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Broken::Source(Blocked::SourceGone(error.to_string())));
        }
        (Err(error), None) => return Err(Broken::Out(error)),
    }
    Ok(Ok(()))
}

/// A picture that is read a second time, and whether that failed: the writer's errors are another matter.
struct FromCard {
    file: File,
    failed: Option<String>,
}

impl io::Read for FromCard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| self.failed = Some(target::in_words(error)))
    }
}

/// The picture's file, at its start, and its CRC-32, if its bytes are those that the row speaks of.
fn look_at(root: &Path, day: &str, planned: &Planned) -> Result<(File, u32), Why> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Why::Missing,
        _ => Why::Unreadable(target::in_words(&error)),
    };
    let mut file = foreign::open(&root.join(day).join(&planned.source)).map_err(unreadable)?;
    let mut crc = crc32fast::Hasher::new();
    let hashed = foreign::hash(&file, planned.row.bytes, |bytes| crc.update(bytes)).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let is_right = hashed == (planned.row.sha256.clone(), planned.row.bytes);
    if is_right { Ok((file, crc.finalize())) } else { Err(Why::Changed) }
}

/// A manifest and its list of hashes, as text.
struct Lists {
    manifest: String,
    sums: String,
}

impl Lists {
    fn new() -> Result<Lists, Broken> {
        Ok(Lists { manifest: manifest::header_line().map_err(impossible)?, sums: String::new() })
    }

    fn add(&mut self, row: &Row) -> Result<(), Broken> {
        self.manifest += &row.to_line().map_err(impossible)?;
        self.sums += &row.sums_line();
        Ok(())
    }

    fn write<W: Write>(self, zip: &mut ZipWriter<W>, folder: &str) -> Result<(), Broken> {
        if self.sums.is_empty() {
            return Ok(());
        }
        for (list, text) in [(MANIFEST_FILE, self.manifest), (SUMS_FILE, self.sums)] {
            let bytes = text.as_bytes();
            let entry = Entry {
                name: &format!("{folder}{list}"),
                bytes: bytes.len() as u64,
                crc32: Some(crc32fast::hash(bytes)),
                modified: DosTime::EARLIEST,
            };
            zip.add(&entry, &mut &*bytes).map_err(Broken::Out)?;
        }
        Ok(())
    }
}

fn impossible(error: anyhow::Error) -> Broken {
    Broken::Out(io::Error::other(error))
}

/// As [`pack`], into the file `zip`, which has its name only when it is whole, synced and read back.
pub fn export_zip(root: &Path, zip: &Path, selection: &Selection, watch: &mut impl Watch) -> Exported {
    let mut report = Exported::default();
    report.blocked = pack_into_file(root, zip, selection, watch, &mut report).err();
    report
}

fn pack_into_file(
    root: &Path,
    zip: &Path,
    selection: &Selection,
    watch: &mut impl Watch,
    report: &mut Exported,
) -> Result<(), Blocked> {
    let name = zip.file_name().filter(|_| !zip.is_dir()).ok_or(Blocked::IsAFolder)?;
    let days = plan::days(root, selection)?;
    let target = Target::open(root, durable::folder_of(zip))?;
    report.is_on_the_same_disk = target.is_on_the_disk_of(root);
    let survey = survey(root, &days, selection, None)?;
    report.problems.extend(survey.nothing_wanted(selection));
    // Headers, directory and four lines of lists for each picture.
    let expected = survey.bytes.saturating_add(survey.pictures.saturating_mul(2000));
    target.check_file(expected)?;
    target.check_room(expected)?;
    watch.begin(survey.pictures, survey.bytes);
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".part");
    let temporary = zip.with_file_name(hidden);
    let packed = write_and_read_back(root, selection, &temporary, watch).and_then(|packed| {
        target.still_there()?;
        std::fs::rename(&temporary, zip).map_err(|error| target::explain(&error))?;
        Ok(packed)
    });
    if packed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    let packed = packed?;
    report.copied = packed.pictures;
    report.bytes = packed.bytes;
    report.problems.extend(packed.problems);
    target.sync_finally()
}

fn write_and_read_back(
    root: &Path,
    selection: &Selection,
    temporary: &Path,
    watch: &mut impl Watch,
) -> Result<Packed, Blocked> {
    let out = Hashing { file: target::create(temporary)?, hash: Sha256::new(), bytes: 0 };
    let (out, packed) = match pack_days(root, selection, BufWriter::with_capacity(1 << 20, out), watch) {
        Ok((out, packed)) => (out.into_inner().map_err(|error| target::explain(error.error()))?, packed),
        Err(Broken::Source(blocked)) => return Err(blocked),
        Err(Broken::Out(error)) => return Err(target::explain(&error)),
    };
    let Hashing { mut file, hash, bytes } = out;
    let written = (hex(&hash.finalize()), bytes);
    file.sync_all().and_then(|()| file.rewind()).map_err(|error| target::explain(&error))?;
    foreign::forget_cache(&file);
    let again = foreign::hash(&file, bytes, |_| ()).map_err(|error| target::explain(&error))?;
    if again == written { Ok(packed) } else { Err(Blocked::DoesNotKeep) }
}

/// A file that remembers what was written to it.
struct Hashing {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::album::watch::{Unwatched, Watch};

    const DAY: &str = "2026-11-22";

    fn card() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(DAY)).unwrap();
        let mut text = manifest::header_line().unwrap();
        for file in ["a.jpg", "b.jpg"] {
            std::fs::write(folder.path().join(DAY).join(file), file).unwrap();
            let sha256 = hex(&Sha256::digest(file));
            text += &Row { file: file.into(), sha256, bytes: 5, ..Row::default() }.to_line().unwrap();
        }
        std::fs::write(folder.path().join(DAY).join(MANIFEST_FILE), text).unwrap();
        folder
    }

    #[test]
    fn a_selection_goes_to_any_writer() {
        let card = card();
        let files = Some([format!("{DAY}/b.jpg")].into());
        let selection = Selection { files, ..Selection::default() };
        let (bytes, packed) = pack(card.path(), &selection, Vec::new(), &mut Unwatched).unwrap();
        assert_eq!(packed, Packed { pictures: 1, bytes: 5, problems: Vec::new() });
        let zip = card.path().join("x.zip");
        std::fs::write(&zip, bytes).unwrap();
        let listed = std::process::Command::new("unzip").arg("-Z1").arg(&zip).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&listed.stdout),
            "2026-11-22/b.jpg\n2026-11-22/manifest.csv\n2026-11-22/SHA256SUMS\nmanifest.csv\nSHA256SUMS\n"
        );
    }

    struct Impatient;

    impl Watch for Impatient {
        fn begin(&mut self, _pictures: u64, _bytes: u64) {}
        fn worked(&mut self, _bytes: u64) {}
        fn picture(&mut self) {}
        fn stop_asked(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_ends_early_is_an_error_and_not_a_short_zip() {
        let card = card();
        assert!(pack(card.path(), &Selection::default(), Vec::new(), &mut Impatient).is_err());
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = pack(card.path(), &Selection::default(), full, &mut Unwatched).unwrap_err();
        assert!(durable::is_no_room(&error), "{error}");
        let report = export_zip(
            card.path(),
            &std::env::temp_dir().join("x.zip"),
            &Selection::default(),
            &mut Impatient,
        );
        assert_eq!(report.blocked, Some(Blocked::Stopped));
    }
}
