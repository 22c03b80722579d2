//! Why a copy is not what was wanted, and what a person can do about it, in both languages.

use crate::ground::language::Language;
use crate::ground::size::told;
use std::path::PathBuf;

/// What is wrong with one picture or one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Listed, but not in the pictures folder.
    Missing,
    /// Its bytes are not those that the manifest's hash speaks of.
    Changed,
    /// The card gives an error instead of the bytes.
    Unreadable(String),
    /// The manifest gives it a name or a hash that no box gives.
    NotOurs,
    /// Lines of the manifest that cannot be read.
    DamagedLines(Vec<usize>),
    /// A picture of the box that no manifest lists.
    NotListed,
    /// What was written reads back as something else.
    ReadsBackWrong,
    /// Something that is no file has its name in the destination.
    InTheWay(String),
    /// Copied by an earlier run, no longer in the pictures folder, and no longer whole in the destination.
    LostSince,
    /// Nothing has that team; these are there.
    NoSuchTeam(Vec<String>),
    /// No picture is of the wanted days.
    NoSuchDays,
}

/// What ended the whole copy before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The pictures folder is not there or not a folder.
    NoSource(String),
    /// The pictures folder belongs to another user.
    MayNotRead,
    /// No day's folder is in it; perhaps this one was meant.
    NotThePictures(Option<PathBuf>),
    /// The pictures folder has gone while it was read.
    SourceGone(String),
    /// The destination lies within the pictures folder.
    Inside,
    /// A zip is to be a file, not a folder.
    IsAFolder,
    /// A folder is wanted, and this is a file.
    IsAFile,
    /// Another copy is being made there.
    Busy,
    /// Not enough room, seen before the start.
    NoRoom {
        /// What the copy takes, with a margin.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// Room ran out on the way.
    Full,
    /// FAT cannot hold so many long names in one folder.
    FolderLimit(String),
    /// FAT cannot hold a file so large.
    FileLimit,
    /// May not be written to.
    NotAllowed,
    /// Mounted for reading only, or the kernel made it so after an error.
    ReadOnly,
    /// Pulled out, unmounted or failing.
    Gone(String),
    /// Several pictures in a row read back wrong.
    DoesNotKeep,
    /// Anything else that the system said.
    Failed(String),
    /// A person or the system asked for the end.
    Stopped,
}

impl Why {
    /// For a person.
    pub fn tell(&self, language: Language) -> String {
        match language {
            Language::English => self.in_english(),
            Language::Chinese => self.in_chinese(),
        }
    }

    fn in_english(&self) -> String {
        match self {
            Why::Missing => "is listed, but it is not there".to_owned(),
            Why::Changed => {
                "is damaged: it is not what the manifest says; look for it in an earlier copy".to_owned()
            }
            Why::Unreadable(cause) => format!("cannot be read ({cause}); try again, then with another card reader"),
            Why::NotOurs => "stands in the manifest with a name or hash that no box gives; not copied".to_owned(),
            Why::DamagedLines(lines) => format!("cannot be read in line {}; run tubox verify", joined(lines)),
            Why::NotListed => {
                "is in no manifest, so nobody can say whether it is whole; not copied: copy it by hand".to_owned()
            }
            Why::ReadsBackWrong => "was written but reads back as something else; use another stick".to_owned(),
            Why::InTheWay(cause) => format!("cannot get its name in the destination ({cause})"),
            Why::LostSince => {
                "was copied earlier, but is damaged in the destination, and the pictures folder no longer has it"
                    .to_owned()
            }
            Why::NoSuchTeam(teams) if teams.is_empty() => "no picture has a team".to_owned(),
            Why::NoSuchTeam(teams) => format!("no picture is of this team; there are: {}", teams.join(", ")),
            Why::NoSuchDays => "no picture is of these days".to_owned(),
        }
    }

    fn in_chinese(&self) -> String {
        match self {
            Why::Missing => "清单里有，但文件不在".to_owned(),
            Why::Changed => "已损坏：与清单中的校验值不符；请在以前的备份里找".to_owned(),
            Why::Unreadable(cause) => format!("读不出来（{cause}）；请重试，或换一个读卡器"),
            Why::NotOurs => "清单中的文件名或校验值不是盒子写的，未复制".to_owned(),
            Why::DamagedLines(lines) => format!("第 {} 行读不出来；请运行 tubox verify", joined(lines)),
            Why::NotListed => "不在清单里，无法确认是否完整，未复制；请手工复制".to_owned(),
            Why::ReadsBackWrong => "写入后读回的内容不一样；请换一个U盘".to_owned(),
            Why::InTheWay(cause) => format!("在目标位置无法使用这个文件名（{cause}）"),
            Why::LostSince => "以前复制过，但目标位置的文件已损坏，照片文件夹里也没有了".to_owned(),
            Why::NoSuchTeam(teams) if teams.is_empty() => "没有任何照片属于某个队".to_owned(),
            Why::NoSuchTeam(teams) => format!("没有这个队的照片；现有：{}", teams.join("、")),
            Why::NoSuchDays => "这些日期没有照片".to_owned(),
        }
    }
}

impl Blocked {
    /// Whether the fault is with the pictures folder rather than with the destination.
    pub fn is_about_source(&self) -> bool {
        use Blocked::{MayNotRead, NoSource, NotThePictures, SourceGone};
        matches!(self, NoSource(_) | MayNotRead | NotThePictures(_) | SourceGone(_))
    }

    /// Whether another command line mends it.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Blocked::NotThePictures(_) | Blocked::Inside | Blocked::IsAFolder | Blocked::IsAFile)
    }

    /// For a person.
    pub fn tell(&self, language: Language) -> String {
        match language {
            Language::English => self.in_english(),
            Language::Chinese => self.in_chinese(),
        }
    }

    fn in_english(&self) -> String {
        match self {
            Blocked::NoSource(cause) => format!("it cannot be opened as a folder ({cause})"),
            Blocked::MayNotRead => "you may not read it; run the command with sudo".to_owned(),
            Blocked::NotThePictures(None) => "no day's folder such as 2026-11-22 is in it".to_owned(),
            Blocked::NotThePictures(Some(meant)) => {
                format!("no day's folder such as 2026-11-22 is in it; did you mean {}?", meant.display())
            }
            Blocked::SourceGone(cause) => {
                format!(
                    "it can no longer be read ({cause}); put the card back and run the same command again"
                )
            }
            Blocked::Inside => "it lies inside the pictures folder; name a place outside".to_owned(),
            Blocked::IsAFolder => "it is a folder; name a file, such as pictures.zip in it".to_owned(),
            Blocked::IsAFile => "it is not a folder".to_owned(),
            Blocked::Busy => "another copy is being made there; wait until it has ended".to_owned(),
            Blocked::NoRoom { needed, free } => format!(
                "not enough room: {} are needed, {} are free, {} are missing; make room or use a larger stick",
                told(*needed),
                told(*free),
                told(needed.saturating_sub(*free))
            ),
            Blocked::Full => "it is full; make room there and run the same command again".to_owned(),
            Blocked::FolderLimit(day) => format!(
                "FAT cannot hold so many files in one folder ({day}); format the stick as exFAT, or use --zip"
            ),
            Blocked::FileLimit => {
                "FAT cannot hold a file of 4 GB or more; format the stick as exFAT, or copy without --zip"
                    .to_owned()
            }
            Blocked::NotAllowed => "you may not write there; use another place or another user".to_owned(),
            Blocked::ReadOnly => {
                "it is read-only; unlock the stick, or plug it in again, and run the same command again"
                    .to_owned()
            }
            Blocked::Gone(cause) => format!(
                "it was pulled out or has failed ({cause}); plug it in and run the same command again: \
                 it goes on where it ended"
            ),
            Blocked::DoesNotKeep => {
                "it does not keep what is written: worn out or a fake; use another stick".to_owned()
            }
            Blocked::Failed(cause) => cause.clone(),
            Blocked::Stopped => "stopped; run the same command again: it goes on where it ended".to_owned(),
        }
    }

    fn in_chinese(&self) -> String {
        match self {
            Blocked::NoSource(cause) => format!("无法作为文件夹打开（{cause}）"),
            Blocked::MayNotRead => "没有读取权限；请用 sudo 运行".to_owned(),
            Blocked::NotThePictures(None) => "里面没有 2026-11-22 这样的日期文件夹".to_owned(),
            Blocked::NotThePictures(Some(meant)) => {
                format!("里面没有 2026-11-22 这样的日期文件夹；是不是 {}？", meant.display())
            }
            Blocked::SourceGone(cause) => format!("读不到了（{cause}）；请插好卡，再运行同样的命令"),
            Blocked::Inside => "它在照片文件夹里面；请换一个外面的位置".to_owned(),
            Blocked::IsAFolder => "它是一个文件夹；请写文件名，例如其中的 pictures.zip".to_owned(),
            Blocked::IsAFile => "它不是文件夹".to_owned(),
            Blocked::Busy => "另一个复制正在进行；请等它结束".to_owned(),
            Blocked::NoRoom { needed, free } => format!(
                "空间不足：需要 {}，可用 {}，还差 {}；请清理，或换一个更大的U盘",
                told(*needed),
                told(*free),
                told(needed.saturating_sub(*free))
            ),
            Blocked::Full => "已满；请清理后再运行同样的命令".to_owned(),
            Blocked::FolderLimit(day) => {
                format!("FAT 的一个文件夹放不下这么多文件（{day}）；请把U盘格式化为 exFAT，或使用 --zip")
            }
            Blocked::FileLimit => {
                "FAT 放不下 4 GB 以上的文件；请把U盘格式化为 exFAT，或不用 --zip".to_owned()
            }
            Blocked::NotAllowed => "没有写入权限；请换一个位置或用户".to_owned(),
            Blocked::ReadOnly => "只读；请打开U盘的写保护或重新插入，再运行同样的命令".to_owned(),
            Blocked::Gone(cause) => {
                format!("已被拔出或出了故障（{cause}）；请插好，再运行同样的命令，会接着复制")
            }
            Blocked::DoesNotKeep => "写进去的内容保存不住：U盘损坏或容量虚假；请换一个U盘".to_owned(),
            Blocked::Failed(cause) => cause.clone(),
            Blocked::Stopped => "已停止；再运行同样的命令会接着复制".to_owned(),
        }
    }
}

/// A few line numbers; nobody reads hundreds.
fn joined(lines: &[usize]) -> String {
    let shown: Vec<String> = lines.iter().take(5).map(usize::to_string).collect();
    let more = if lines.len() > shown.len() { " …" } else { "" };
    shown.join(", ") + more
}
