//! Thumbnails that were made once: files in a folder of their own beside the queue, never among the pictures,
//! named after the picture's hash. The folder is bounded in bytes; the oldest go first. Losing it loses nothing.
//!
//! One thumbnail is made at a time, so that many at once cannot take the memory, and few may wait for it, so
//! that they cannot take the web room's handlers.

use super::thumbnail::{self, NoThumbnail};
use super::turnstile::Turnstile;
use crate::album::manifest::Row;
use crate::album::whole::PictureKind;
use crate::ground::clock::SharedClock;
use crate::ground::durable;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// Bytes that the folder may take; about five thousand thumbnails.
const FOLDER_BYTES_MAX: u64 = 64 << 20;

/// To how much the folder is brought down when it is full.
const FOLDER_BYTES_KEPT: u64 = FOLDER_BYTES_MAX / 4 * 3;

/// What a file costs at least: a block.
const BLOCK_BYTES: u64 = 4096;

/// Requests that may wait for a thumbnail to be made.
const WAITING_MAX: usize = 6;

/// The thumbnail of a picture.
#[derive(Debug, PartialEq)]
pub(super) enum Thumb {
    /// A JPEG.
    Jpeg(Vec<u8>),
    /// This picture has none.
    None,
    /// Too many wait already; ask again.
    Busy,
}

/// The folder.
pub(super) struct Thumbs {
    folder: PathBuf,
    clock: SharedClock,
    waiting: Turnstile,
    /// Held while one is made: the bytes in the folder, once they have been counted.
    bytes: Mutex<Option<u64>>,
}

impl Thumbs {
    pub(super) fn new(folder: PathBuf, clock: SharedClock) -> Thumbs {
        Thumbs { folder, clock, waiting: Turnstile::new(WAITING_MAX), bytes: Mutex::new(None) }
    }

    /// The thumbnail of the picture in `row`, made from what `open` gives if it is not there yet.
    pub(super) fn of(&self, row: &Row, open: impl FnOnce() -> io::Result<File>) -> io::Result<Thumb> {
        let kind =
            row.file.rsplit_once('.').and_then(|(_, extension)| PictureKind::from_extension(extension));
        let (Some(kind), true) = (kind, is_hash(&row.sha256)) else { return Ok(Thumb::None) };
        if let Some(kept) = self.kept(&row.sha256) {
            return Ok(kept);
        }
        let Some(_place) = self.waiting.enter() else { return Ok(Thumb::Busy) };
        let mut bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Another request may have made it in the meantime.
        if let Some(kept) = self.kept(&row.sha256) {
            return Ok(kept);
        }
        let (made, name) = match thumbnail::make(kind, open()?, &self.clock) {
            Ok(jpeg) => (Thumb::Jpeg(jpeg), jpeg_name(&row.sha256)),
            Err(NoThumbnail::Never(why)) => {
                log::info!("{} has no thumbnail: {why}", row.file);
                (Thumb::None, none_name(&row.sha256))
            }
            Err(NoThumbnail::NotNow(error)) => return Err(error),
        };
        let content: &[u8] = if let Thumb::Jpeg(jpeg) = &made { jpeg } else { &[] };
        if let Err(error) = self.keep(&mut bytes, &name, content) {
            log::warn!("could not keep a thumbnail in {}: {error}", self.folder.display());
        }
        Ok(made)
    }

    fn kept(&self, sha256: &str) -> Option<Thumb> {
        if let Ok(jpeg) = std::fs::read(self.folder.join(jpeg_name(sha256))) {
            // It was not synced, so a power cut may have left anything.
            let is_whole = jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]);
            return is_whole.then_some(Thumb::Jpeg(jpeg));
        }
        self.folder.join(none_name(sha256)).exists().then_some(Thumb::None)
    }

    fn keep(&self, bytes: &mut Option<u64>, name: &str, content: &[u8]) -> io::Result<()> {
        durable::create_private_folder(&self.folder)?;
        let held = match *bytes {
            Some(held) => held,
            None => files_in(&self.folder)?.iter().map(|file| file.bytes).sum(),
        };
        let temporary = self.folder.join("new");
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| std::fs::rename(&temporary, self.folder.join(name)));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written?;
        let held = held + cost(content.len() as u64);
        *bytes =
            Some(if held > FOLDER_BYTES_MAX { make_room(&self.folder, FOLDER_BYTES_KEPT)? } else { held });
        Ok(())
    }
}

struct Kept {
    path: PathBuf,
    bytes: u64,
    made: SystemTime,
}

fn files_in(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            let made = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push(Kept { path: entry.path(), bytes: cost(metadata.len()), made });
        }
    }
    Ok(files)
}

/// Removes the oldest until `bytes_kept` are left; returns what is left.
fn make_room(folder: &Path, bytes_kept: u64) -> io::Result<u64> {
    let mut files = files_in(folder)?;
    files.sort_by_key(|file| file.made);
    let mut held: u64 = files.iter().map(|file| file.bytes).sum();
    for file in files {
        if held <= bytes_kept {
            break;
        }
        std::fs::remove_file(&file.path)?;
        held -= file.bytes;
    }
    Ok(held)
}

fn cost(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).max(1) * BLOCK_BYTES
}

fn jpeg_name(sha256: &str) -> String {
    format!("{sha256}.jpg")
}

fn none_name(sha256: &str) -> String {
    format!("{sha256}.none")
}

/// A manifest from elsewhere may hold anything; only a hash becomes a file name.
fn is_hash(sha256: &str) -> bool {
    sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::SystemClock;
    use std::time::Duration;

    fn row(sha256: &str) -> Row {
        Row { file: "a.jpg".into(), sha256: sha256.into(), ..Row::default() }
    }

    fn small_jpeg() -> io::Result<File> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.jpg");
        let mut bytes = Vec::new();
        let pixels = [200u8; 3 * 16 * 16];
        jpeg_encoder::Encoder::new(&mut bytes, 80)
            .encode(&pixels, 16, 16, jpeg_encoder::ColorType::Rgb)
            .unwrap();
        std::fs::write(&path, bytes)?;
        File::open(path)
    }

    #[test]
    fn a_thumbnail_is_made_once_and_anew_when_it_was_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let thumbs = Thumbs::new(folder.path().join("thumbs"), SystemClock::shared());
        let good = row(&"a".repeat(64));
        let never = || -> io::Result<File> { panic!("it is there already") };
        assert!(matches!(thumbs.of(&good, small_jpeg).unwrap(), Thumb::Jpeg(_)));
        assert!(matches!(thumbs.of(&good, never).unwrap(), Thumb::Jpeg(_)));
        std::fs::write(folder.path().join("thumbs").join(jpeg_name(&good.sha256)), [0; 9]).unwrap();
        assert!(matches!(thumbs.of(&good, small_jpeg).unwrap(), Thumb::Jpeg(_)));
        let bad = row(&"b".repeat(64));
        assert_eq!(thumbs.of(&bad, tempfile::tempfile).unwrap(), Thumb::None);
        assert_eq!(thumbs.of(&bad, never).unwrap(), Thumb::None);
        assert_eq!(thumbs.of(&row("../../../etc/x"), never).unwrap(), Thumb::None);
        let gone = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert!(thumbs.of(&row(&"c".repeat(64)), gone).is_err());
        assert_eq!(std::fs::read_dir(folder.path().join("thumbs")).unwrap().count(), 2);
    }

    #[test]
    fn the_oldest_go_when_the_folder_is_full() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..10u64 {
            let file = File::create(folder.path().join(format!("{number}.jpg"))).unwrap();
            file.set_len(BLOCK_BYTES - 7).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - number)).unwrap();
        }
        assert_eq!(make_room(folder.path(), 4 * BLOCK_BYTES).unwrap(), 4 * BLOCK_BYTES);
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]);
    }

    #[test]
    fn whoever_comes_when_many_wait_is_asked_to_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let thumbs = Thumbs::new(folder.path().to_owned(), SystemClock::shared());
        let places: Vec<_> = std::iter::from_fn(|| thumbs.waiting.enter()).collect();
        assert_eq!(places.len(), WAITING_MAX);
        assert_eq!(thumbs.of(&row(&"a".repeat(64)), small_jpeg).unwrap(), Thumb::Busy);
    }
}
