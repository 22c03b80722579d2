//! Many files on stable storage for the price of one: `syncfs` instead of a sync a file, where that can be believed.
//!
//! An SD card does 20 to 100 syncs a second whatever they carry, so pictures that are ready together share one. It
//! is believed only where the kernel's own file system does what it says and reports what went wrong (Linux 5.8):
//! on FAT it does not empty the card's cache, and through FUSE it does nothing. Everywhere else, and whenever it
//! fails, every file is synced by itself, and its own descriptor tells whether its own bytes arrived.

use rustix::fs::{fstat, fstatfs, syncfs};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// Magic numbers (statfs) of ext2 to ext4, XFS, Btrfs and F2FS.
const BELIEVED: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// Before 5.8 syncfs did not report failed writes.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// The file system of the pictures folder.
pub(super) struct Volume {
    root: PathBuf,
    /// Kept open: syncfs reports what has failed since the descriptor was made.
    open: Mutex<Option<Open>>,
}

struct Open {
    folder: File,
    device: u64,
    is_believed: bool,
}

impl Volume {
    /// The file system that holds `root`.
    pub(super) fn at(root: &Path) -> Volume {
        let volume = Volume { root: root.to_owned(), open: Mutex::default() };
        *volume.lock() = Open::at(root).ok();
        volume
    }

    /// Brings the bytes of all `files` to stable storage; one answer a file, in their order.
    pub(super) fn sync_all(&self, files: &[&File]) -> Vec<io::Result<()>> {
        if files.len() > 1 && self.sync_together(files) {
            return files.iter().map(|_| Ok(())).collect();
        }
        files.iter().map(|file| file.sync_data()).collect()
    }

    /// False when the files have to be synced one by one.
    fn sync_together(&self, files: &[&File]) -> bool {
        let mut open = self.lock();
        let is_ours =
            |open: &Open| files.iter().all(|file| device_of(file).is_ok_and(|device| device == open.device));
        match &*open {
            Some(volume) if !volume.is_believed => return false,
            Some(volume) if is_ours(volume) => {}
            // Another disk lies under the same path now.
            _ => {
                *open = Open::at(&self.root).ok();
                return false;
            }
        }
        open.as_ref().is_some_and(|volume| match syncfs(&volume.folder) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("could not sync the file system of {}: {error}", self.root.display());
                false
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Open {
    fn at(root: &Path) -> io::Result<Open> {
        let folder = File::open(root)?;
        let kind = fstatfs(&folder)?.f_type as u64 & 0xffff_ffff;
        let is_believed = BELIEVED.contains(&kind) && kernel_reports(&kernel_release());
        Ok(Open { device: device_of(&folder)?, folder, is_believed })
    }
}

fn device_of(file: &File) -> io::Result<u64> {
    Ok(fstat(file)?.st_dev)
}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn kernel_reports(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= KERNEL_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_not_believed() {
        for (release, reports) in [
            ("6.1.0-rpi7-rpi-v8", true),
            ("5.8.0", true),
            ("5.7.19+", false),
            ("4.19.0", false),
            ("x", false),
        ] {
            assert_eq!(kernel_reports(release), reports, "{release}");
        }
    }

    #[test]
    fn every_file_gets_an_answer_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let volume = Volume::at(folder.path());
        let good = File::create(folder.path().join("a")).unwrap();
        // Neither of this file system nor a thing that can be synced.
        let other = File::open("/proc/self/stat").unwrap();
        assert!(volume.sync_all(&[&good, &good]).iter().all(Result::is_ok));
        let mixed = volume.sync_all(&[&good, &other]);
        assert!(mixed[0].is_ok() && mixed[1].is_err());
    }
}
