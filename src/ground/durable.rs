//! File operations that hold through a power cut, and the few rules behind them: a file is whole before it has
//! its name; a name is there only after its folder was synced; a file whose sync has failed is not believed
//! again, because the kernel drops the pages that it could not write and reports success the next time.

use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces the file at `path` by `bytes`, readable by the owner only: the old content or the new, never a mix.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = sibling(path, ".new");
    let written = write_private(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(folder_of(path))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes `path` and its parents where they are missing, readable by the owner only; each made name is durable. A
/// folder that is there may have been made by a run that could not sync its name any more.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let parent = folder_of(path);
    if path.is_dir() {
        return match sync_folder(parent) {
            // Then it is somebody else's, and so is the name in it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    create_private_folder(parent)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    sync_folder(parent)
}

/// Makes the names in a folder durable. File systems that cannot sync a folder (FAT in some drivers, some
/// FUSE) say so with EINVAL or ENOTSUP; there is nothing better to do on them, so that counts as done.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    match synced {
        Err(error) if is_not_supported(&error) => Ok(()),
        other => other,
    }
}

fn is_not_supported(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::INVAL, Errno::NOTSUP, Errno::NOSYS].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// Bytes that an ordinary user may still write on the file system that holds `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stats = rustix::fs::statvfs(path)?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// Whether an error means that there is no room: full disk or exceeded quota.
pub fn is_no_room(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(Errno::NOSPC.raw_os_error()) || code == Some(Errno::DQUOT.raw_os_error())
}

/// The folder that holds `path`; `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

/// A file that only grows, and whose every append is synced or taken back.
///
/// After a failed append the file is *spent*: what it holds past the last good length was never promised, and
/// nothing more is promised by it. The owner opens another.
pub struct AppendFile {
    file: File,
    path: PathBuf,
    length: u64,
    good_length: u64,
    spent: bool,
}

impl AppendFile {
    /// Opens `path` for appending; makes it and syncs its folder when it is not there.
    pub fn open(path: &Path) -> io::Result<AppendFile> {
        let is_new = !path.exists();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if is_new {
            file.sync_all()?;
            sync_folder(folder_of(path))?;
        }
        let good_length = file.metadata()?.len();
        Ok(AppendFile { file, path: path.to_owned(), length: good_length, good_length, spent: false })
    }

    /// Appends `bytes` and waits until they are on stable storage. On an error nothing of them counts.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)?;
        let synced = self.file.sync_data();
        self.settle(synced)
    }

    /// Appends `bytes` without waiting. They count only after [`AppendFile::settle`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.spent {
            return Err(io::Error::other("an earlier write to this file failed"));
        }
        let written = (&self.file).write_all(bytes);
        match written {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => self.take_back(),
        }
        written
    }

    /// What came of syncing [`AppendFile::file`]: on success all that was written counts.
    pub fn settle(&mut self, synced: io::Result<()>) -> io::Result<()> {
        match synced {
            Ok(()) => self.good_length = self.length,
            Err(_) => self.take_back(),
        }
        synced
    }

    /// The file, for whoever syncs several at once.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Best effort: a reader that comes later ignores a torn tail anyway.
    fn take_back(&mut self) {
        self.spent = true;
        let _ = self.file.set_len(self.good_length);
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are on stable storage.
    pub fn good_length(&self) -> u64 {
        self.good_length
    }

    /// Whether an append has failed, after which no other is taken.
    pub fn is_spent(&self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_private_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        replace_private(&path, b"one").unwrap();
        replace_private(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_are_made_with_their_parents_and_may_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        create_private_folder(&path).unwrap();
        create_private_folder(&path).unwrap();
        assert_eq!(folder.path().join("a").metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(folder.path().join("file"), b"").unwrap();
        assert!(create_private_folder(&folder.path().join("file/x")).is_err());
    }

    #[test]
    fn what_was_written_counts_only_when_it_was_synced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let mut file = AppendFile::open(&path).unwrap();
        file.write(b"one").unwrap();
        assert_eq!(file.good_length(), 0);
        let synced = file.file().sync_data();
        file.settle(synced).unwrap();
        file.write(b"two").unwrap();
        assert!(file.settle(Err(io::Error::other("no"))).is_err());
        assert_eq!((file.good_length(), file.is_spent()), (3, true));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn a_failed_append_spends_the_file() {
        // /dev/full takes no byte: a real ENOSPC.
        let mut file = AppendFile::open(Path::new("/dev/full")).unwrap();
        let error = file.append(b"x").unwrap_err();
        assert!(is_no_room(&error));
        assert!(file.is_spent());
        assert!(!is_no_room(&file.append(b"x").unwrap_err()));
    }
}
