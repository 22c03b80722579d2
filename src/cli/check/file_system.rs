//! The kind of a file system and what that means for pictures and promises, by the number that statfs gives; and
//! the room on it.

use super::finding::{Both, Finding, both, same};
use super::folder::Role;
use rustix::fs::{StatVfs, StatVfsMountFlags};
use std::path::Path;

/// A picture as phones make them.
const PICTURE_BYTES: u64 = 3_000_000;
/// Room for fewer pictures is told as a warning.
const PICTURES_LOW: u64 = 500;

/// What matters about a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// Made for disks of this machine, with a journal or its like.
    Sound,
    /// FAT: no journal, small folders, no sockets.
    Fat,
    /// exFAT: no journal, no sockets.
    ExFat,
    /// In memory.
    Memory,
    /// On another machine.
    Network,
    /// In a container's own layer.
    Layer,
    /// Through a program; may be anything.
    UserSpace,
    /// Made to be read only.
    ReadOnly,
}

/// From `linux/magic.h` and the file systems' own headers.
const KINDS: &[(u32, &str, Nature)] = &[
    (0xEF53, "ext2/3/4", Nature::Sound),
    (0x9123_683E, "btrfs", Nature::Sound),
    (0x5846_5342, "xfs", Nature::Sound),
    (0xF2F5_2010, "f2fs", Nature::Sound),
    (0x2FC1_2FC1, "zfs", Nature::Sound),
    (0xCA45_1A4E, "bcachefs", Nature::Sound),
    (0x3153_464A, "jfs", Nature::Sound),
    (0x7366_746E, "ntfs3", Nature::Sound),
    (0x24051905, "ubifs", Nature::Sound),
    (0x4D44, "FAT", Nature::Fat),
    (0x2011_BAB0, "exFAT", Nature::ExFat),
    (0x0102_1994, "tmpfs", Nature::Memory),
    (0x8584_58F6, "ramfs", Nature::Memory),
    (0x6969, "NFS", Nature::Network),
    (0x517B, "SMB", Nature::Network),
    (0xFF53_4D42, "CIFS", Nature::Network),
    (0xFE53_4D42, "SMB2", Nature::Network),
    (0x0102_1997, "9p", Nature::Network),
    (0x00C3_6400, "Ceph", Nature::Network),
    (0x5346_414F, "AFS", Nature::Network),
    (0x794C_7630, "overlayfs", Nature::Layer),
    (0x6573_5546, "FUSE", Nature::UserSpace),
    (0x7371_7368, "squashfs", Nature::ReadOnly),
    (0xE0F5_E1E2, "erofs", Nature::ReadOnly),
    (0x9660, "iso9660", Nature::ReadOnly),
];

/// Judges the file system of `anchor` for `role`.
pub(super) fn look(role: Role, anchor: &Path) -> Finding {
    let id = match role {
        Role::Data => "data_dir_file_system",
        Role::Pictures => "pictures_dir_file_system",
    };
    let stats = rustix::fs::statfs(anchor).and_then(|stats| Ok((stats, rustix::fs::statvfs(anchor)?)));
    let (stats, mount) = match stats {
        Ok(both_stats) => both_stats,
        Err(error) => {
            let detail = both("无法读取", "could not be read").followed_by(&error.to_string());
            return Finding::warning(id, detail, both("检查磁盘", "check the disk"));
        }
    };
    let magic = (stats.f_type as u64 & 0xffff_ffff) as u32;
    let known = KINDS.iter().find(|(number, ..)| *number == magic);
    let unknown = format!("0x{magic:x}");
    let (name, nature) =
        known.map_or((unknown.as_str(), Nature::Sound), |(_, name, nature)| (*name, *nature));
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) || nature == Nature::ReadOnly {
        return read_only(id, name);
    }
    judge(id, role, name, nature)
}

fn read_only(id: &'static str, name: &str) -> Finding {
    Finding::fault(
        id,
        both(format!("{name}，只读"), format!("{name}, read-only")),
        both(
            "损坏的 SD 卡常会变成只读，用 dmesg 查看；更换 SD 卡或以可写方式挂载",
            "a failing SD card often ends so, dmesg tells: replace the card or mount it writable",
        ),
    )
}

fn judge(id: &'static str, role: Role, name: &str, nature: Nature) -> Finding {
    let say = |zh: &str, en: &str| both(format!("{name}：{zh}"), format!("{name}: {en}"));
    let local = || both("换到本机的磁盘或 SD 卡（ext4）", "take a disk or card of this machine (ext4)");
    match (nature, role) {
        (Nature::Sound | Nature::ReadOnly, _) => Finding::ok(id, same(name)),
        (Nature::Memory, Role::Data) => Finding::fault(
            id,
            say(
                "在内存中，断电或重启后提交记录全部丢失",
                "lives in memory: what was submitted is lost at a reboot",
            ),
            local(),
        ),
        (Nature::Memory, Role::Pictures) => Finding::fault(
            id,
            say("在内存中，断电或重启后图片全部丢失", "lives in memory: all pictures are lost at a reboot"),
            local(),
        ),
        (Nature::Fat | Nature::ExFat, Role::Data) => Finding::fault(
            id,
            say("不能存放套接字，也没有文件权限", "cannot hold sockets and knows no file modes"),
            both(
                "data_dir 须在 ext4 等文件系统上；只有 pictures_dir 可以在这里",
                "put data_dir onto ext4 or its like; only pictures_dir may be here",
            ),
        ),
        (Nature::Fat, Role::Pictures) => Finding::warning(
            id,
            say(
                "没有日志，断电可能损坏目录；每天最多约 8000 张图片；单个文件小于 4 GiB",
                "no journal, so a power cut may damage folders; about 8000 pictures a day at most; files below 4 GiB",
            ),
            both(
                "长期使用请改用 ext4；换盘前先运行 tubox export",
                "for long use take ext4; run tubox export before the card is changed",
            ),
        ),
        (Nature::ExFat, Role::Pictures) => Finding::warning(
            id,
            say("没有日志，断电可能损坏目录", "no journal, so a power cut may damage folders"),
            both("长期使用请改用 ext4", "for long use take ext4"),
        ),
        (Nature::Network, Role::Data) => Finding::fault(
            id,
            say(
                "在另一台机器上，锁和同步写入不可靠",
                "on another machine: neither locks nor syncs can be relied on",
            ),
            local(),
        ),
        (Nature::Network, Role::Pictures) => Finding::warning(
            id,
            say(
                "在另一台机器上，网络中断时下载会停止",
                "on another machine: downloads stop when the network does",
            ),
            both(
                "可以的话先存在本机，再用 tubox export 拷过去",
                "better keep them here and copy them there with tubox export",
            ),
        ),
        (Nature::Layer, _) => Finding::warning(
            id,
            say(
                "在容器自己的层里，容器删除后全部丢失",
                "the container's own layer: it is gone when the container is removed",
            ),
            both("把一个卷挂载到这里", "mount a volume there"),
        ),
        (Nature::UserSpace, _) => Finding::warning(
            id,
            say(
                "由用户态程序提供（如 ntfs-3g、sshfs），同步写入取决于该程序",
                "served by a program (such as ntfs-3g or sshfs), which decides what a sync is worth",
            ),
            local(),
        ),
    }
}

/// Judges the room for pictures, and for the data where that lies elsewhere.
pub(super) fn look_at_space(pictures: &Path, data: Option<&Path>, free_bytes_min: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    match rustix::fs::statvfs(pictures) {
        Ok(stats) => findings.push(judge_space(&stats, free_bytes_min)),
        Err(error) => {
            let detail = both("无法读取", "could not be read").followed_by(&error.to_string());
            findings.push(Finding::warning("space", detail, both("检查磁盘", "check the disk")));
        }
    }
    let elsewhere = data.filter(|data| !is_same_device(pictures, data));
    if let Some(stats) = elsewhere.and_then(|data| rustix::fs::statvfs(data).ok()) {
        findings.push(judge_data_space(&stats, free_bytes_min));
    }
    findings
}

fn is_same_device(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    device(one) == device(other)
}

fn free_bytes(stats: &StatVfs) -> u64 {
    stats.f_bavail.saturating_mul(stats.f_frsize)
}

fn judge_space(stats: &StatVfs, free_bytes_min: u64) -> Finding {
    let free = free_bytes(stats);
    let by_bytes = free.saturating_sub(free_bytes_min) / PICTURE_BYTES;
    // File systems without a fixed number of files say zero.
    let by_files = if stats.f_files > 0 { stats.f_favail } else { u64::MAX };
    let pictures = by_bytes.min(by_files);
    let mut detail = both(
        format!("剩余 {}，约可再存 {pictures} 张 3 MB 的图片", size(free)),
        format!("{} free, room for about {pictures} more pictures of 3 MB", size(free)),
    );
    if by_files < by_bytes {
        detail = both(
            format!("{}（受限于剩余的文件数）", detail.zh),
            format!("{} (the number of files is the limit)", detail.en),
        );
    }
    let remedy = || {
        both(
            "用 tubox export 拷走图片，再清理磁盘",
            "copy the pictures off with tubox export, then make room",
        )
    };
    if free < free_bytes_min {
        let below = size(free_bytes_min);
        detail = both(
            format!("{}；低于 limits.min_free_bytes（{below}），下载会停止", detail.zh),
            format!("{}; below limits.min_free_bytes ({below}), so downloads stop", detail.en),
        );
        return Finding::fault("space", detail, remedy());
    }
    if pictures < PICTURES_LOW {
        Finding::warning("space", detail, remedy())
    } else {
        Finding::ok("space", detail)
    }
}

/// The journal and the queue keep a reserve of an eighth of what the pictures leave free.
fn judge_data_space(stats: &StatVfs, free_bytes_min: u64) -> Finding {
    let free = free_bytes(stats);
    let detail: Both = both(format!("剩余 {}", size(free)), format!("{} free", size(free)));
    if free < free_bytes_min / 8 {
        let remedy = both("清理该磁盘，否则不能接受提交", "make room there, or no submission can be taken");
        return Finding::fault("data_dir_space", detail, remedy);
    }
    Finding::ok("data_dir_space", detail)
}

/// `1.5 GB`, `27 MB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn each_nature_has_its_verdict_for_both_folders() {
        let state = |nature, role| judge("x", role, "name", nature).state;
        let natures = [
            (Nature::Sound, State::Ok, State::Ok),
            (Nature::Fat, State::Fault, State::Warning),
            (Nature::ExFat, State::Fault, State::Warning),
            (Nature::Memory, State::Fault, State::Fault),
            (Nature::Network, State::Fault, State::Warning),
            (Nature::Layer, State::Warning, State::Warning),
            (Nature::UserSpace, State::Warning, State::Warning),
        ];
        for (nature, data, pictures) in natures {
            assert_eq!(
                (state(nature, Role::Data), state(nature, Role::Pictures)),
                (data, pictures),
                "{nature:?}"
            );
        }
    }

    #[test]
    fn proc_is_no_place_for_pictures_and_dev_shm_is_memory() {
        let shm = Path::new("/dev/shm");
        let magic = rustix::fs::statfs(shm).map(|stats| stats.f_type as u64 & 0xffff_ffff);
        if magic == Ok(0x0102_1994) {
            assert_eq!(look(Role::Pictures, shm).state, State::Fault);
        }
        assert!(look(Role::Pictures, Path::new("/nowhere")).detail.en.contains("could not be read"));
    }

    #[test]
    fn room_is_counted_in_pictures() {
        let mut stats = rustix::fs::statvfs("/").unwrap();
        (stats.f_frsize, stats.f_bavail, stats.f_files, stats.f_favail) =
            (4096, 1_000_000, 1_000_000, 900_000);
        let plenty = judge_space(&stats, 256 << 20);
        assert_eq!(
            (plenty.state, plenty.detail.en.as_str()),
            (State::Ok, "4.1 GB free, room for about 1275 more pictures of 3 MB")
        );
        stats.f_favail = 7;
        let files = judge_space(&stats, 256 << 20);
        assert_eq!(files.state, State::Warning);
        assert!(files.detail.en.ends_with("7 more pictures of 3 MB (the number of files is the limit)"));
        stats.f_files = 0;
        assert_eq!(judge_space(&stats, 256 << 20).state, State::Ok);
        stats.f_bavail = 10_000;
        assert_eq!(judge_space(&stats, 256 << 20).state, State::Fault);
        assert_eq!(judge_data_space(&stats, 256 << 20).state, State::Ok);
        stats.f_bavail = 1000;
        assert_eq!(judge_data_space(&stats, 256 << 20).state, State::Fault);
    }
}
