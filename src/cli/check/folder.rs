//! A folder that the box needs: there or to be made, its owner and mode, and whether files and sockets can really
//! be made in it. Whatever is made for the trial is removed again.

use super::finding::{Finding, both, same};
use crate::ground::random::{READABLE, SharedRandom};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Which of the two folders.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Journal, queue, credentials.
    Data,
    /// The album.
    Pictures,
}

impl Role {
    pub(super) fn id(self) -> &'static str {
        match self {
            Role::Data => "data_dir",
            Role::Pictures => "pictures_dir",
        }
    }
}

/// A folder as it was found.
pub(super) struct Looked {
    pub finding: Finding,
    /// The folder, or the nearest one above it that is there: on the same file system, as far as can be known.
    pub anchor: Option<PathBuf>,
    /// Whether a trial file could be written there.
    pub is_writable: bool,
}

/// A file for a trial; removed on drop.
pub(super) struct TrialFile {
    path: PathBuf,
    pub file: File,
}

impl TrialFile {
    pub(super) fn create(folder: &Path, random: &SharedRandom) -> io::Result<TrialFile> {
        let path = folder.join(trial_name(random));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(TrialFile { path, file })
    }
}

impl Drop for TrialFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Hidden, and nothing that the album would take for a picture.
fn trial_name(random: &SharedRandom) -> String {
    format!(".tubox-check-{}", random.text(8, READABLE))
}

pub(super) fn look(role: Role, path: &Path, random: &SharedRandom) -> Looked {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => look_inside(role, path, &metadata, random),
        Ok(_) => not_usable(role, path, "not a directory"),
        Err(error) if error.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            look_above(role, path, random)
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Looked { finding: not_writable(role, path, path, &error), anchor: None, is_writable: false }
        }
        Err(error) => not_usable(role, path, &error.to_string()),
    }
}

fn not_usable(role: Role, path: &Path, why: &str) -> Looked {
    let shown = path.display();
    let finding = Finding::fault(
        role.id(),
        both(format!("无法使用 {shown}：{why}"), format!("could not use {shown}: {why}")),
        both(
            format!("把 {} 设为一个目录的路径", role.id()),
            format!("set {} to the path of a folder", role.id()),
        ),
    );
    Looked { finding, anchor: None, is_writable: false }
}

fn look_inside(role: Role, path: &Path, metadata: &std::fs::Metadata, random: &SharedRandom) -> Looked {
    let tried = try_to_write(path, random).and_then(|()| match role {
        Role::Data => try_socket(path, random),
        Role::Pictures => Ok(()),
    });
    let is_writable = tried.is_ok();
    let finding = match tried {
        Err(error) => not_writable(role, path, path, &error),
        Ok(()) => judge_owner(role, path, metadata),
    };
    Looked { finding, anchor: Some(path.to_owned()), is_writable }
}

fn look_above(role: Role, path: &Path, random: &SharedRandom) -> Looked {
    let shown = path.display();
    let Some(anchor) = path.ancestors().skip(1).find(|above| above.exists()) else {
        return not_usable(role, path, "no folder above it");
    };
    if !anchor.is_dir() {
        return not_usable(role, path, &format!("{} is not a directory", anchor.display()));
    }
    let tried = try_to_write(anchor, random);
    let is_writable = tried.is_ok();
    let finding = match tried {
        Err(error) => not_writable(role, path, anchor, &error),
        Ok(()) if is_mount_place(path) => Finding::warning(
            role.id(),
            both(
                format!("{shown} 还不存在；如果它应在 U 盘或移动硬盘上，那么盘没有挂载"),
                format!("{shown} is not there yet; if it belongs on a stick or a disk, that is not mounted"),
            ),
            both(
                "先挂载该盘，否则图片会存到系统盘上",
                "mount it first, or the pictures will go onto the system's own disk",
            ),
        ),
        Ok(()) => Finding::ok(
            role.id(),
            both(
                format!("{shown} 还不存在，首次启动时创建"),
                format!("{shown} is not there yet; the first start makes it"),
            ),
        ),
    };
    Looked { finding, anchor: Some(anchor.to_owned()), is_writable }
}

/// Where disks that come and go are mounted.
fn is_mount_place(path: &Path) -> bool {
    ["/media", "/mnt", "/run/media"].iter().any(|place| path.starts_with(place))
}

fn not_writable(role: Role, path: &Path, tried: &Path, error: &io::Error) -> Finding {
    let (shown, place) = (path.display(), tried.display());
    let remedy = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => both(
            "该文件系统是只读的：损坏的 SD 卡常会变成只读，用 dmesg 查看；更换 SD 卡或重新挂载",
            "the file system is read-only; a failing SD card often ends so, dmesg tells: replace the card or mount it anew",
        ),
        ErrorKind::PermissionDenied => both(
            format!("让运行图盒的用户拥有它：chown -R 用户 {shown}；或以该用户的身份检查"),
            format!("give it to the user that the box runs as: chown -R USER {shown}; or check as that user"),
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => both("清理磁盘", "make room on the disk"),
        _ => both("检查磁盘，或换一个目录", "check the disk, or take another folder"),
    };
    let detail = match path == tried {
        true => {
            both(format!("无法在 {place} 中写入：{error}"), format!("could not write in {place}: {error}"))
        }
        false => both(
            format!("无法在 {place} 中创建 {shown}：{error}"),
            format!("could not make {shown} in {place}: {error}"),
        ),
    };
    Finding::fault(role.id(), detail, remedy)
}

fn try_to_write(folder: &Path, random: &SharedRandom) -> io::Result<()> {
    let mut trial = TrialFile::create(folder, random)?;
    trial.file.write_all(b"tubox check")?;
    trial.file.sync_data()
}

/// The box has a private socket in its data folder, which FAT and some network file systems cannot hold.
fn try_socket(folder: &Path, random: &SharedRandom) -> io::Result<()> {
    let opened = File::open(folder)?;
    // Through the descriptor, because a socket's path is at most 107 bytes long.
    let path = PathBuf::from(format!("/proc/self/fd/{}/{}", opened.as_raw_fd(), trial_name(random)));
    let bound = UnixListener::bind(&path);
    let _ = std::fs::remove_file(&path);
    bound.map(drop)
}

fn judge_owner(role: Role, path: &Path, metadata: &std::fs::Metadata) -> Finding {
    let shown = path.display();
    let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let owner = user_name(uid);
    if rustix::process::geteuid().is_root() && uid != 0 {
        let command = format!("sudo -u {owner} tubox check");
        return Finding::warning(
            role.id(),
            both(
                format!("{shown} 属于 {owner}，而这次检查以 root 运行：root 能写不代表图盒能写"),
                format!(
                    "{shown} belongs to {owner} and this check runs as root: that root may write proves nothing"
                ),
            ),
            same(command.as_str()),
        );
    }
    if role == Role::Data && mode & 0o077 != 0 {
        let command = format!("chmod 700 {shown}");
        return Finding::warning(
            role.id(),
            both(
                format!("其他用户也能进入 {shown}（权限 {mode:04o}）；里面有密钥"),
                format!("other users may enter {shown} (mode {mode:04o}), which holds keys"),
            ),
            same(command.as_str()),
        );
    }
    Finding::ok(
        role.id(),
        both(
            format!("{shown}，属于 {owner}，权限 {mode:04o}，可写"),
            format!("{shown}, owner {owner}, mode {mode:04o}, writable"),
        ),
    )
}

/// The name of a user, or the number where `/etc/passwd` has none.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::ground::random::OsRandom;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let random = OsRandom::shared();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let missing = look(Role::Data, &data, &random);
        assert_eq!((missing.finding.state, missing.is_writable), (State::Ok, true));
        assert_eq!(missing.anchor.as_deref(), Some(folder.path()));
        assert!(!data.exists(), "a check makes nothing");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(look(Role::Data, &data, &random).finding.state, State::Ok);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(look(Role::Data, &data, &random).finding.state, State::Warning);
        assert_eq!(look(Role::Pictures, &data, &random).finding.state, State::Ok);
    }

    #[test]
    fn what_cannot_be_a_folder_is_a_fault() {
        let random = OsRandom::shared();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/nowhere/at/all", &link).unwrap();
        for path in [file.clone(), file.join("below"), link, PathBuf::from("/proc/tubox/data")] {
            let looked = look(Role::Pictures, &path, &random);
            assert_eq!(looked.finding.state, State::Fault, "{}", path.display());
            assert!(!looked.is_writable);
        }
    }
}
