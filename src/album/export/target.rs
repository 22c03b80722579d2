//! The destination: what it can hold, whether it is still the one that it was, and what its errors mean. Its
//! folders may come from anywhere, so no link there is followed. FAT and exFAT do: no links, no modes, and a
//! folder that cannot be synced is none to complain about.

use super::why::Blocked;
use crate::album::name;
use crate::ground::durable;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Room that is left over at the end, for the file system's own tables.
const MARGIN_BYTES: u64 = 4 << 20;
/// `MSDOS_SUPER_MAGIC`: FAT in all its sizes, but not exFAT.
const FAT_MAGIC: u64 = 0x4d44;
/// File systems of which one `syncfs` brings everything to the stick: ext2 to ext4, FAT, exFAT, Btrfs, XFS, F2FS,
/// NTFS. Others, over a network or in user space, want to hear of every file.
const SYNCED_AS_ONE: [u64; 7] =
    [0xef53, FAT_MAGIC, 0x2011_bab0, 0x9123_683e, 0x5846_5342, 0xf2f5_2010, 0x7366_746e];
/// Entries of 32 bytes that a folder on FAT may have.
const FAT_FOLDER_SLOTS: u64 = 65_536;
const FAT_FILE_BYTES_MAX: u64 = u32::MAX as u64;

/// A folder that is written to, locked against a second copy.
pub(super) struct Target {
    path: PathBuf,
    /// Holds the lock, and hears of every write error of the file system from now on.
    folder: File,
    device_and_inode: (u64, u64),
    cluster: u64,
    is_fat: bool,
    is_synced_as_one: bool,
}

impl Target {
    /// Opens the folder at `path`, making it where it is missing.
    pub(super) fn open(root: &Path, path: &Path) -> Result<Target, Blocked> {
        if path.exists() && !path.is_dir() {
            return Err(Blocked::IsAFile);
        }
        std::fs::create_dir_all(path).map_err(|error| explain(&error))?;
        let real = std::fs::canonicalize(path).map_err(|error| explain(&error))?;
        let real_root = std::fs::canonicalize(root).map_err(|error| Blocked::NoSource(error.to_string()))?;
        if real.starts_with(real_root) {
            return Err(Blocked::Inside);
        }
        let folder = File::open(path).map_err(|error| explain(&error))?;
        // A file system that knows no locks does not keep anybody from copying.
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(Blocked::Busy);
        }
        let metadata = folder.metadata().map_err(|error| explain(&error))?;
        let cluster = rustix::fs::statvfs(path).map_or(4096, |stats| stats.f_frsize.max(1));
        // The type of the field differs between machines.
        #[allow(clippy::unnecessary_cast)]
        let kind = rustix::fs::statfs(path).map_or(0, |stats| stats.f_type as u64);
        Ok(Target {
            path: path.to_owned(),
            folder,
            device_and_inode: (metadata.dev(), metadata.ino()),
            cluster,
            is_fat: kind == FAT_MAGIC,
            is_synced_as_one: SYNCED_AS_ONE.contains(&kind),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `root` lies on the same file system, so that nothing that is pulled out holds a second copy.
    pub(super) fn is_on_the_disk_of(&self, root: &Path) -> bool {
        root.metadata().is_ok_and(|metadata| metadata.dev() == self.device_and_inode.0)
    }

    /// What a file of so many bytes takes there.
    pub(super) fn room_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster) * self.cluster
    }

    /// Whether so many bytes fit, with a margin.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), Blocked> {
        let free = durable::free_bytes(&self.path).map_err(|error| explain(&error))?;
        let needed = bytes + bytes / 100 + MARGIN_BYTES;
        if bytes > 0 && needed > free { Err(Blocked::NoRoom { needed, free }) } else { Ok(()) }
    }

    /// Whether a folder may hold so many slots; see [`slots`].
    pub(super) fn check_folder(&self, day: &str, slots: u64) -> Result<(), Blocked> {
        let is_too_many = self.is_fat && slots >= FAT_FOLDER_SLOTS;
        if is_too_many { Err(Blocked::FolderLimit(day.to_owned())) } else { Ok(()) }
    }

    /// Whether a file may be so large.
    pub(super) fn check_file(&self, bytes: u64) -> Result<(), Blocked> {
        if self.is_fat && bytes > FAT_FILE_BYTES_MAX { Err(Blocked::FileLimit) } else { Ok(()) }
    }

    /// The folder of `day`, a real one, made where it is missing.
    pub(super) fn day(&self, day: &str) -> Result<PathBuf, Blocked> {
        let path = self.path.join(day);
        self.still_there()?;
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(path),
            Ok(_) => Err(Blocked::Failed(format!("{day} there is a link or a file; take it away"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir(&path).map_err(|error| explain(&error))?;
                Ok(path)
            }
            Err(error) => Err(explain(&error)),
        }
    }

    /// The names of the day folders there, oldest first.
    pub(super) fn days(&self) -> Result<Vec<String>, Blocked> {
        let mut days = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(|error| explain(&error))? {
            let entry = entry.map_err(|error| explain(&error))?;
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_folder && name::is_day(&name) {
                days.push(name);
            }
        }
        days.sort();
        Ok(days)
    }

    /// Whether the path still leads to the folder that was opened: after the stick has gone, its mount point
    /// would take the rest of the pictures without a word.
    pub(super) fn still_there(&self) -> Result<(), Blocked> {
        let gone = |cause: &str| Err(Blocked::Gone(cause.to_owned()));
        match self.path.metadata() {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.device_and_inode => Ok(()),
            Ok(_) => gone("no longer mounted"),
            Err(error) => gone(&in_words(&error)),
        }
    }

    /// Brings everything that was written to the stick itself.
    pub(super) fn sync(&self) -> Result<(), Blocked> {
        self.still_there()?;
        rustix::fs::syncfs(&self.folder).map_err(|errno| explain(&errno.into()))
    }

    /// After [`Target::sync`], what a single file still needs.
    pub(super) fn sync_file(&self, file: &File) -> Result<(), Blocked> {
        if self.is_synced_as_one { Ok(()) } else { file.sync_all().map_err(|error| explain(&error)) }
    }

    /// The last word: synced, and still there.
    pub(super) fn sync_finally(&self) -> Result<(), Blocked> {
        let _ = durable::sync_folder(&self.path);
        self.sync()?;
        // Another stick under the same path would have the same numbers; only a new look tells it apart.
        let again = File::open(&self.path).map_err(|error| explain(&error))?;
        rustix::fs::syncfs(&again).map_err(|errno| explain(&errno.into()))?;
        self.still_there()
    }
}

/// Makes a file that was not there: whatever has that name is removed first, and no link is followed. For
/// reading too, so that it can be read back.
pub(super) fn create(path: &Path) -> Result<File, Blocked> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o644).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let opened = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path).and_then(|()| options.open(path))
        }
        other => other,
    };
    opened.map_err(|error| explain(&error))
}

/// What FAT takes of a folder for a name: one slot, and one for every 13 characters of a long one.
pub(super) fn slots(name: &str) -> u64 {
    1 + (name.len() as u64).div_ceil(13)
}

/// What an error of the destination means for the copy.
pub(super) fn explain(error: &io::Error) -> Blocked {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => Blocked::Full,
        Some(Errno::FBIG) => Blocked::FileLimit,
        Some(Errno::ROFS) => Blocked::ReadOnly,
        Some(Errno::ACCESS | Errno::PERM) => Blocked::NotAllowed,
        Some(
            Errno::IO
            | Errno::NODEV
            | Errno::NXIO
            | Errno::NOENT
            | Errno::NOTCONN
            | Errno::STALE
            | Errno::UCLEAN,
        ) => Blocked::Gone(in_words(error)),
        _ => Blocked::Failed(in_words(error)),
    }
}

/// What the system says, without its number.
pub(super) fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or_default();
    let mut chars = plain.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_copy_to_the_same_place_has_to_wait() {
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Target::open(root.path(), to.path()).unwrap();
        assert_eq!(Target::open(root.path(), to.path()).err(), Some(Blocked::Busy));
        drop(first);
        assert!(Target::open(root.path(), to.path()).is_ok());
    }

    #[test]
    fn the_limits_of_fat_are_told_before_the_start() {
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut target = Target::open(root.path(), to.path()).unwrap();
        let name = format!("20261121T170106Z_{}.jpg", "x".repeat(64));
        assert_eq!(slots(&name), 8);
        target.is_fat = true;
        assert!(target.check_folder("d", 8 * 8191).is_ok());
        assert_eq!(target.check_folder("d", 8 * 8192), Err(Blocked::FolderLimit("d".into())));
        assert_eq!(target.check_file(4 << 30), Err(Blocked::FileLimit));
        target.is_fat = false;
        assert!(target.check_file(4 << 30).is_ok() && target.check_folder("d", 1 << 30).is_ok());
    }

    #[test]
    fn a_folder_that_was_replaced_is_not_written_to() {
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = to.path().join("stick");
        let target = Target::open(root.path(), &path).unwrap();
        std::fs::rename(&path, to.path().join("elsewhere")).unwrap();
        assert!(matches!(target.day("2026-11-22"), Err(Blocked::Gone(_))));
        std::fs::create_dir(&path).unwrap();
        assert_eq!(target.sync_finally(), Err(Blocked::Gone("no longer mounted".into())));
    }

    #[test]
    fn links_in_the_destination_are_not_followed() {
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = root.path().join("outside");
        std::fs::write(&outside, b"mine").unwrap();
        std::os::unix::fs::symlink(root.path(), to.path().join("2026-11-22")).unwrap();
        std::os::unix::fs::symlink(&outside, to.path().join("x")).unwrap();
        let target = Target::open(&root.path().join("."), to.path()).unwrap();
        assert!(matches!(target.day("2026-11-22"), Err(Blocked::Failed(_))));
        create(&to.path().join("x")).unwrap();
        assert_eq!(std::fs::read(&outside).unwrap(), b"mine");
    }
}
