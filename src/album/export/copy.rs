//! Copying pictures, a batch at a time: each is hashed while it is read and written under a temporary name; the
//! batch is synced as one; then each is read back from the stick itself, and only what is right gets its name.

use super::plan::Planned;
use super::target::{self, Target};
use super::why::{Blocked, Why};
use super::{Exported, Problem};
use crate::album::foreign;
use crate::album::manifest::Row;
use crate::album::name;
use crate::album::watch::Watch;
use crate::ground::hex::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A batch ends with so many pictures or bytes: enough to make syncing cheap, few enough to see it go on.
const BATCH_PICTURES: usize = 256;
const BATCH_BYTES: u64 = 16 << 20;

/// So many in a row that read back wrong are no accident.
const WRONG_IN_A_ROW_MAX: u32 = 5;

/// So many pictures are read from the stick while another is compared.
const READ_AHEAD: usize = 8;

const BUFFER_BYTES: usize = 64 * 1024;

/// The day that is being copied.
pub(super) struct DayCopy<'a, W: Watch> {
    pub root: &'a Path,
    pub day: &'a str,
    /// The day's folder in the destination.
    pub to: PathBuf,
    pub target: &'a Target,
    pub watch: &'a mut W,
    pub report: &'a mut Exported,
    /// Rows of what is in the destination now, whole.
    pub kept: Vec<Row>,
    batch: Vec<Staged>,
    batch_bytes: u64,
    wrong_in_a_row: u32,
}

/// Written, neither synced nor read back yet.
struct Staged {
    row: Row,
    temporary: PathBuf,
    file: File,
}

/// Why a picture was not written.
enum NotWritten {
    Source(Why),
    Target(Blocked),
}

impl<'a, W: Watch> DayCopy<'a, W> {
    pub(super) fn new(
        root: &'a Path,
        day: &'a str,
        target: &'a Target,
        watch: &'a mut W,
        report: &'a mut Exported,
    ) -> Result<DayCopy<'a, W>, Blocked> {
        let to = target.day(day)?;
        sweep(&to)?;
        let (kept, batch) = (Vec::new(), Vec::new());
        Ok(DayCopy { root, day, to, target, watch, report, kept, batch, batch_bytes: 0, wrong_in_a_row: 0 })
    }

    /// Brings all of `pictures` over.
    pub(super) fn run(&mut self, pictures: Vec<Planned>) -> Result<(), Blocked> {
        for planned in pictures {
            if self.watch.stop_asked() {
                self.settle()?;
                return Err(Blocked::Stopped);
            }
            if let Err(blocked) = self.bring(planned) {
                // What was written before may still be whole.
                let _ = self.settle();
                return Err(blocked);
            }
            if self.batch.len() >= BATCH_PICTURES || self.batch_bytes >= BATCH_BYTES {
                self.settle()?;
            }
        }
        self.settle()
    }

    fn bring(&mut self, planned: Planned) -> Result<(), Blocked> {
        let row = planned.row;
        if self.is_there_already(&row) {
            self.report.already_there += 1;
            self.watch.picture();
            self.kept.push(row);
            return Ok(());
        }
        let temporary = self.to.join(temporary_name(self.batch.len()));
        let mut file = target::create(&temporary)?;
        let source = self.root.join(self.day).join(&planned.source);
        let watch = &mut *self.watch;
        match write(&source, &mut file, &row, |bytes| watch.worked(bytes / 2)) {
            Ok(()) => {
                self.batch_bytes += row.bytes;
                self.batch.push(Staged { row, temporary, file });
                return Ok(());
            }
            Err(failed) => {
                let _ = std::fs::remove_file(&temporary);
                match failed {
                    NotWritten::Target(blocked) => return Err(blocked),
                    NotWritten::Source(why) => self.refuse(&planned.source, why),
                }
            }
        }
        // One rotten picture is that picture's problem; a card that has gone is everybody's.
        let folder = self.root.join(self.day);
        std::fs::read_dir(folder).map(|_| ()).map_err(|error| Blocked::SourceGone(target::in_words(&error)))
    }

    fn is_there_already(&mut self, row: &Row) -> bool {
        let watch = &mut *self.watch;
        let read = |bytes: &[u8]| watch.worked(bytes.len() as u64);
        foreign::is_as_listed(&self.to.join(&row.file), row, read).unwrap_or(false)
    }

    /// Syncs the batch, reads it back, and gives the names.
    fn settle(&mut self) -> Result<(), Blocked> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let settled = self.settle_all(&batch);
        if settled.is_err() {
            for staged in &batch {
                let _ = std::fs::remove_file(&staged.temporary);
            }
        }
        settled
    }

    fn settle_all(&mut self, batch: &[Staged]) -> Result<(), Blocked> {
        self.target.sync()?;
        let mut coming = batch.iter();
        coming.by_ref().take(READ_AHEAD).try_for_each(|staged| self.read_anew(staged))?;
        for staged in batch {
            coming.next().map_or(Ok(()), |staged| self.read_anew(staged))?;
            if self.reads_back(staged)? {
                self.give_name(staged)?;
            } else {
                let _ = std::fs::remove_file(&staged.temporary);
                self.refuse(&staged.row.file, Why::ReadsBackWrong);
                self.wrong_in_a_row += 1;
            }
            if self.wrong_in_a_row >= WRONG_IN_A_ROW_MAX {
                return Err(Blocked::DoesNotKeep);
            }
        }
        Ok(())
    }

    /// Begins to read it from the stick itself.
    fn read_anew(&self, staged: &Staged) -> Result<(), Blocked> {
        self.target.sync_file(&staged.file)?;
        foreign::forget_cache(&staged.file);
        foreign::read_ahead(&staged.file);
        Ok(())
    }

    fn reads_back(&mut self, staged: &Staged) -> Result<bool, Blocked> {
        let watch = &mut *self.watch;
        let read = |bytes: &[u8]| watch.worked((bytes.len() as u64).div_ceil(2));
        let again =
            (&staged.file).rewind().and_then(|()| foreign::hash(&staged.file, staged.row.bytes, read));
        let (sha256, bytes) = again.map_err(|error| target::explain(&error))?;
        Ok(sha256 == staged.row.sha256 && bytes == staged.row.bytes)
    }

    fn give_name(&mut self, staged: &Staged) -> Result<(), Blocked> {
        let path = self.to.join(&staged.row.file);
        if let Err(error) = std::fs::rename(&staged.temporary, &path) {
            let _ = std::fs::remove_file(&staged.temporary);
            // A name that cannot be had concerns one picture; anything else the whole stick.
            if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                return Err(target::explain(&error));
            }
            self.refuse(&staged.row.file, Why::InTheWay(target::in_words(&error)));
            return Ok(());
        }
        self.wrong_in_a_row = 0;
        self.report.copied += 1;
        self.report.bytes += staged.row.bytes;
        self.watch.picture();
        self.kept.push(staged.row.clone());
        Ok(())
    }

    fn refuse(&mut self, file: &str, why: Why) {
        self.report.problems.push(Problem { file: format!("{}/{file}", self.day), why });
        self.watch.picture();
    }
}

/// Copies the bytes of `source`, which must be those that `row` speaks of.
fn write(source: &Path, to: &mut File, row: &Row, mut written: impl FnMut(u64)) -> Result<(), NotWritten> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => NotWritten::Source(Why::Missing),
        _ => NotWritten::Source(Why::Unreadable(target::in_words(&error))),
    };
    let mut from = foreign::open(source).map_err(unreadable)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER_BYTES]);
    while bytes <= row.bytes {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(unreadable)?,
        };
        hash.update(&buffer[..count]);
        bytes += count as u64;
        to.write_all(&buffer[..count]).map_err(|error| NotWritten::Target(target::explain(&error)))?;
        written(count as u64);
    }
    let is_right = bytes == row.bytes && hex(&hash.finalize()) == row.sha256;
    if is_right { Ok(()) } else { Err(NotWritten::Source(Why::Changed)) }
}

/// Short, because FAT counts the letters, and used again in every batch.
fn temporary_name(number: usize) -> String {
    format!(".tubox-{number}.part")
}

/// Takes away what an interrupted run left.
fn sweep(folder: &Path) -> Result<(), Blocked> {
    for entry in std::fs::read_dir(folder).map_err(|error| target::explain(&error))? {
        let entry = entry.map_err(|error| target::explain(&error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".tubox-") && name::is_temporary(&name) {
            std::fs::remove_file(entry.path()).map_err(|error| target::explain(&error))?;
        }
    }
    Ok(())
}
