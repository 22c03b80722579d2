//! A picture on its way in: bytes go to a hidden temporary file and through the hash at the same time; at the
//! end the bytes say whether this is a whole picture. What can be told of them while they pass is not read again. Dropping an [`Incoming`] removes its file.

use super::jpeg::JpegWalk;
use super::whole::{self, PictureKind};
use super::{Facts, name};
use crate::ground::durable;
use crate::ground::hex::hex;
use anyhow::{Context, Result};
use imagesize::{ImageError, ImageResult};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Cursor, Seek, Write};
use std::path::{Path, PathBuf};

/// The first bytes that are looked at to tell the kind.
const SNIFF_BYTES: usize = 512;
/// The first bytes that are kept: those that tell a picture's size are mostly among them.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Why bytes were not kept as a picture.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// Not one of the kinds that are kept; the text says what it looks like.
    #[error("not a picture: {0}")]
    NotAPicture(String),
    /// The kind's own end is missing.
    #[error("the {0} ends before its end marker")]
    NotWhole(&'static str),
    /// More bytes than the settings allow.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// No room left on the disk.
    #[error("no room left on the disk of the pictures")]
    NoRoom,
    /// The disk failed otherwise.
    #[error("could not write the picture: {0}")]
    Disk(io::Error),
}

impl NotKept {
    fn from_disk(error: io::Error) -> NotKept {
        if durable::is_no_room(&error) { NotKept::NoRoom } else { NotKept::Disk(error) }
    }
}

/// An open temporary file.
pub struct Incoming {
    facts: Facts,
    folder: String,
    file: File,
    temporary: TemporaryFile,
    hash: Sha256,
    jpeg: JpegWalk,
    head: Vec<u8>,
    bytes: u64,
    bytes_max: u64,
}

/// A picture that is all there under its temporary name; the commit brings it to stable storage.
pub struct WholePicture {
    pub(super) facts: Facts,
    /// The day's folder that it lies in, below the pictures folder.
    pub(super) folder: String,
    /// The descriptor that the bytes were written through: syncing it tells of every byte that was lost.
    pub(super) file: File,
    pub(super) temporary: TemporaryFile,
    pub(super) kind: PictureKind,
    pub(super) sha256: String,
    pub(super) bytes: u64,
    pub(super) width_height: Option<(usize, usize)>,
}

/// The path of a temporary file; removed on drop unless it got its final name.
pub(super) struct TemporaryFile {
    path: PathBuf,
    renamed: bool,
}

impl WholePicture {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl TemporaryFile {
    /// Gives the file its final name.
    pub(super) fn rename(&mut self, to: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Incoming {
    /// A temporary file in `folder` below `root`.
    pub(super) fn create(root: &Path, folder: String, facts: Facts, bytes_max: u64) -> Result<Incoming> {
        let path = root.join(&folder).join(name::temporary_name(&facts));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.with_context(|| format!("could not make {}", path.display()))?;
        let temporary = TemporaryFile { path, renamed: false };
        let (hash, jpeg, head) = (Sha256::new(), JpegWalk::default(), Vec::new());
        Ok(Incoming { facts, folder, file, temporary, hash, jpeg, head, bytes: 0, bytes_max })
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), NotKept> {
        if self.bytes + bytes.len() as u64 > self.bytes_max {
            return Err(NotKept::TooLarge(self.bytes_max));
        }
        self.file.write_all(bytes).map_err(NotKept::from_disk)?;
        self.hash.update(bytes);
        self.jpeg.follow(bytes);
        let missing = HEAD_BYTES_MAX - self.head.len();
        self.head.extend(&bytes[..bytes.len().min(missing)]);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes have been taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Looks at what has come: a whole picture is handed on, anything else is removed.
    pub fn finish(mut self) -> Result<WholePicture, NotKept> {
        let start = &self.head[..self.head.len().min(SNIFF_BYTES)];
        let Some(kind) = PictureKind::sniff(start) else {
            return Err(NotKept::NotAPicture(describe(start)));
        };
        if !self.is_whole(kind).map_err(NotKept::from_disk)? {
            return Err(NotKept::NotWhole(kind.extension()));
        }
        let width_height = self.width_height(kind);
        Ok(WholePicture {
            facts: self.facts,
            folder: self.folder,
            file: self.file,
            temporary: self.temporary,
            kind,
            sha256: hex(&self.hash.finalize()),
            bytes: self.bytes,
            width_height,
        })
    }

    fn is_whole(&mut self, kind: PictureKind) -> io::Result<bool> {
        match kind {
            PictureKind::Jpeg => Ok(self.jpeg.is_whole()),
            _ => whole::is_whole(kind, &mut self.file, self.bytes),
        }
    }

    /// Of a JPEG mostly without another look at the file.
    fn width_height(&self, kind: PictureKind) -> Option<(usize, usize)> {
        let told = match whole::measure(&mut Cursor::new(&self.head)) {
            Err(ImageError::IoError(_)) => self.size_in_file(),
            Ok(_) if kind != PictureKind::Jpeg => self.size_in_file(),
            told => told,
        };
        told.ok()
    }

    fn size_in_file(&self) -> ImageResult<(usize, usize)> {
        (&self.file).rewind()?;
        whole::measure(&mut BufReader::new(&self.file))
    }
}

/// What the first bytes look like, for the failed list.
fn describe(head: &[u8]) -> String {
    if head.is_empty() {
        return "empty".to_owned();
    }
    if let Some(kind) = infer::get(head) {
        return kind.mime_type().to_owned();
    }
    let start = &head[..head.len().min(24)];
    match std::str::from_utf8(start) {
        Ok(text) => format!("text that starts with {:?}", text),
        Err(_) => format!("bytes that start with {}", hex(&start[..start.len().min(8)])),
    }
}
