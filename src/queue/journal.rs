//! The intake journal: append-only files of self-checking lines, synced before anything is promised.
//!
//! `journal/000017_2026-11-22.log`: a running number, because the wall clock of a box may go backwards, and the
//! day for people. A new file is begun every day and after any failed write; a file whose sync failed gets no
//! further line, and the batch that failed goes to the next file.

use super::record::Entry;
use crate::ground::clock::{SharedClock, day_utc};
use crate::ground::durable::{self, AppendFile};
use crate::ground::media_id::MediaId;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A place in the journal: everything before it is in sled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The file's running number.
    pub number: u64,
    /// Bytes of that file.
    pub offset: u64,
}

/// The journal, open for appending.
pub struct Journal {
    folder: PathBuf,
    clock: SharedClock,
    /// Of the last file that was tried.
    number: u64,
    /// Of the last file that holds a line.
    written: u64,
    day: String,
    file: Option<AppendFile>,
}

impl Journal {
    /// Opens the journal in `folder`. Its first line begins a new file, so a torn tail is never appended to.
    pub fn open(folder: &Path, clock: SharedClock) -> Result<Journal> {
        let number = files(folder)?.last().map_or(0, |(number, _)| *number);
        Ok(Journal {
            folder: folder.to_owned(),
            clock,
            number,
            written: number,
            day: String::new(),
            file: None,
        })
    }

    /// Appends whole lines and waits until they are on stable storage. When the file fails, once more to a new
    /// one. Without lines it tries whether they could be.
    pub fn append(&mut self, lines: &str) -> io::Result<()> {
        match self.append_once(lines) {
            Ok(()) => Ok(()),
            Err(error) => {
                log::warn!("could not write to the journal: {error}; beginning a new file");
                self.leave_file();
                self.append_once(lines).inspect_err(|_| self.leave_file())
            }
        }
    }

    /// A file that failed is never written to again. One in which nothing counts is taken away, so that a disk that
    /// fails for days does not fill with them.
    fn leave_file(&mut self) {
        if let Some(file) = self.file.take()
            && file.good_length() == 0
        {
            let _ = std::fs::remove_file(file.path());
        }
    }

    fn append_once(&mut self, lines: &str) -> io::Result<()> {
        let day = day_utc(self.clock.wall_ms());
        if self.file.as_ref().is_none_or(|file| file.is_spent()) || self.day != day {
            self.number += 1;
            let path = self.folder.join(format!("{:06}_{day}.log", self.number));
            self.file = None;
            let opened = AppendFile::open(&path).inspect_err(|_| drop(std::fs::remove_file(&path)));
            self.file = Some(opened?);
            self.day = day;
        }
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("no journal file is open"))?;
        file.append(lines.as_bytes())?;
        self.written = self.number;
        Ok(())
    }

    /// Where the next line will go.
    pub fn position(&self) -> Position {
        let file = self.file.as_ref().filter(|_| self.written == self.number);
        Position { number: self.written, offset: file.map_or(u64::MAX, AppendFile::good_length) }
    }

    /// Removes files of days before `before_ms` in which nothing is owed any more. `is_settled` is told whether
    /// the day that the id came with can be believed.
    pub fn remove_settled(&self, before_ms: i64, is_settled: impl Fn(&MediaId, bool) -> bool) -> Result<()> {
        let last_day = day_utc(before_ms);
        for (number, path) in files(&self.folder)? {
            let day = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.split_once('_'));
            let is_old = day.is_some_and(|(_, day)| day < last_day.as_str());
            if number == self.number || !is_old {
                continue;
            }
            let mut all_settled = true;
            read_file(&path, 0, &mut |entry| {
                all_settled &= entry.submission.ids.iter().all(|id| is_settled(id, entry.clock_trusted));
                Ok(())
            })?;
            if all_settled {
                std::fs::remove_file(&path)
                    .with_context(|| format!("could not remove {}", path.display()))?;
                log::info!("removed {}: all in it is settled", path.display());
            }
        }
        Ok(())
    }
}

/// Hands every entry after `from` to `take`, oldest first; returns how many.
///
/// What is read may have been written by a run that was killed before it could sync. Its ids are known from now on,
/// and known ids are acknowledged without another line, so they are made what they look like first.
pub fn replay(
    folder: &Path,
    from: Option<&Position>,
    mut take: impl FnMut(Entry) -> Result<()>,
) -> Result<usize> {
    let mut count = 0;
    let files = files(folder)?;
    let last = files.last().map_or(0, |(number, _)| *number);
    // A position beyond the last file is of files that are gone; their numbers are given out again.
    let from = from.filter(|from| from.number <= last);
    durable::sync_folder(folder).with_context(|| format!("could not sync {}", folder.display()))?;
    for (number, path) in files {
        let offset = match from {
            Some(from) if number < from.number => continue,
            Some(from) if number == from.number => from.offset,
            _ => 0,
        };
        let synced = File::open(&path).and_then(|file| file.sync_data());
        synced.with_context(|| format!("could not sync {}", path.display()))?;
        read_file(&path, offset, &mut |entry| {
            count += 1;
            take(entry)
        })?;
    }
    Ok(count)
}

fn read_file(path: &Path, offset: u64, take: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
    let reading = || format!("could not read the journal {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    if offset >= file.metadata().with_context(reading)?.len() {
        return Ok(());
    }
    file.seek(SeekFrom::Start(offset)).with_context(reading)?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut damaged = 0;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).with_context(reading)? == 0 {
            break;
        }
        let is_whole = line.pop_if(|last| *last == b'\n').is_some();
        match Entry::from_line(&line) {
            Some(entry) if is_whole => take(entry)?,
            // A torn tail was never promised: the answer goes out after the sync.
            _ if !is_whole => log::info!("passed over a torn last line of {}", path.display()),
            _ => damaged += 1,
        }
    }
    if damaged > 0 {
        log::error!("{damaged} damaged lines in {}: the card may be failing", path.display());
    }
    Ok(())
}

/// The journal's files in their order.
fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let reading = || format!("could not read the journal folder {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number =
            name.strip_suffix(".log").and_then(|stem| stem.split_once('_')).map(|(number, _)| number);
        if let Some(Ok(number)) = number.map(str::parse) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}
