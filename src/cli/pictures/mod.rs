//! `tubox export` and `tubox verify`: the album without the box. What they found goes to standard output, in the
//! language of the person or as JSON; what went wrong to standard error as well.

mod progress;

use super::args::{ExportArgs, VerifyArgs};
use super::{Ended, on_signal, say, say_error, speaks};
use crate::album::export::{self as exporting, Blocked, Exported, Selection};
use crate::album::verify::{self as verifying, Flaw, Verified};
use crate::config;
use crate::ground::clock::SystemClock;
use crate::ground::escape::for_log;
use crate::ground::language::{Language, Words};
use crate::ground::size::told;
use crate::ground::stop::Stop;
use progress::Progress;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// File names on a stranger's card go to a terminal.
const SHOWN_CHARACTERS_MAX: usize = 300;

pub(super) fn export(args: &ExportArgs) -> Result<(), Ended> {
    let language = speaks(&config::process_environment());
    let root = pictures_dir(args.from.as_deref(), args.config.as_deref(), "--from ")?;
    let selection = Selection {
        since: args.since.clone(),
        until: args.until.clone(),
        team: args.team.clone(),
        files: None,
    };
    let stop = Stop::new();
    on_signal(stop.clone())?;
    let mut progress = Progress::new(language, stop);
    let report = match args.zip {
        true => exporting::export_zip(&root, &args.destination, &selection, &mut progress),
        false => {
            let now_ms = SystemClock::shared().wall_ms();
            exporting::export(&root, &args.destination, &selection, now_ms, &mut progress)
        }
    };
    progress.end();
    let told = Told { report: &report, root: &root, destination: &args.destination, language };
    match args.json {
        true => say(&told.as_json()),
        false => told.as_text().iter().for_each(|line| say(line)),
    }
    told.exit()
}

/// The report of a copy, for whoever asked for it.
struct Told<'a> {
    report: &'a Exported,
    root: &'a Path,
    destination: &'a Path,
    language: Language,
}

#[derive(Serialize)]
struct ExportJson<'a> {
    copied: u64,
    already_there: u64,
    bytes: u64,
    problems: Vec<ProblemJson>,
    safe_to_pull: bool,
    destination: &'a Path,
}

#[derive(Serialize)]
struct ProblemJson {
    file: String,
    reason: String,
}

impl Told<'_> {
    fn as_json(&self) -> String {
        let report = self.report;
        let mut problems: Vec<ProblemJson> = report
            .problems
            .iter()
            .map(|problem| ProblemJson {
                file: problem.file.clone(),
                reason: problem.why.tell(self.language),
            })
            .collect();
        if let Some(blocked) = &report.blocked {
            let file = self.place_of(blocked).display().to_string();
            problems.push(ProblemJson { file, reason: blocked.tell(self.language) });
        }
        let json = ExportJson {
            copied: report.copied,
            already_there: report.already_there,
            bytes: report.bytes,
            problems,
            safe_to_pull: report.is_safe_to_pull(),
            destination: self.destination,
        };
        serde_json::to_string(&json).unwrap_or_default()
    }

    fn place_of(&self, blocked: &Blocked) -> &Path {
        if blocked.is_about_source() { self.root } else { self.destination }
    }

    fn as_text(&self) -> Vec<String> {
        // Nothing was begun; the reason on standard error says it all.
        if self.report.blocked.as_ref().is_some_and(Blocked::is_misuse) {
            return Vec::new();
        }
        let mut lines: Vec<String> =
            self.report.problems.iter().map(|problem| self.problem_line(problem)).collect();
        lines.push(self.counts());
        if self.report.is_safe_to_pull() && self.report.is_on_the_same_disk {
            lines.push(self.same_disk());
        }
        lines.push(self.verdict());
        lines
    }

    fn problem_line(&self, problem: &exporting::Problem) -> String {
        let between = if self.language == Language::Chinese { "：" } else { ": " };
        let file = for_log(&problem.file, SHOWN_CHARACTERS_MAX);
        format!("{file}{between}{}", for_log(&problem.why.tell(self.language), SHOWN_CHARACTERS_MAX))
    }

    fn counts(&self) -> String {
        let Exported { copied, already_there, bytes, problems, .. } = self.report;
        let (size, problems) = (told(*bytes), problems.len());
        match self.language {
            Language::English => {
                format!(
                    "copied {copied} pictures ({size}), {already_there} were there already, {problems} problems"
                )
            }
            Language::Chinese => {
                format!("复制了 {copied} 张照片（{size}），{already_there} 张早已在那里，{problems} 个问题")
            }
        }
    }

    fn same_disk(&self) -> String {
        let place = self.destination.display();
        match self.language {
            Language::English => format!(
                "Note: {place} is on the same disk as the pictures, so this is no second copy. \
                 If it should be a stick: the stick is not mounted."
            ),
            Language::Chinese => {
                format!(
                    "注意：{place} 与照片在同一个盘上，不算第二份备份。如果本来应该是U盘，说明U盘没有挂载。"
                )
            }
        }
    }

    fn verdict(&self) -> String {
        let place = self.destination.display();
        let all = self.report.copied + self.report.already_there;
        match (self.language, self.report.is_safe_to_pull(), all) {
            (Language::English, true, 0) => "There are no pictures yet: safe to pull.".to_owned(),
            (Language::Chinese, true, 0) => "还没有照片：可以拔出。".to_owned(),
            (Language::English, true, _) => {
                format!("All {all} pictures are in {place}, read back and synced: safe to pull.")
            }
            (Language::Chinese, true, _) => {
                format!("全部 {all} 张照片都在 {place}，已回读核对并写入完毕：可以拔出。")
            }
            (_, false, _) => self.shortfall(),
        }
    }

    fn shortfall(&self) -> String {
        let is_nothing = self.report.copied + self.report.already_there == 0;
        match (self.language, self.report.blocked.is_some()) {
            (Language::English, true) => {
                "NOT complete: the copy ended before its time; see the reason.".to_owned()
            }
            (Language::Chinese, true) => "不完整：复制中途结束，请看原因。".to_owned(),
            (Language::English, false) if is_nothing => "Nothing was copied; see above.".to_owned(),
            (Language::Chinese, false) if is_nothing => "什么都没有复制，请看上面。".to_owned(),
            (Language::English, false) => {
                "NOT complete: see the problems above. Everything else was read back \
                 and synced; the same command, run again, copies what is still missing."
                    .to_owned()
            }
            (Language::Chinese, false) => {
                "不完整：请看上面的问题。其余照片已回读核对并写入完毕；再运行同样的命令会补上还缺的。"
                    .to_owned()
            }
        }
    }

    fn exit(&self) -> Result<(), Ended> {
        let Some(blocked) = &self.report.blocked else {
            return if self.report.problems.is_empty() { Ok(()) } else { Err(Ended::WithProblems) };
        };
        let (place, why) = (self.place_of(blocked).display(), blocked.tell(self.language));
        let text = match (self.language, blocked.is_about_source()) {
            (Language::English, true) => format!("could not copy from {place}: {why}"),
            (Language::English, false) => format!("could not copy to {place}: {why}"),
            (Language::Chinese, true) => format!("无法从 {place} 复制：{why}"),
            (Language::Chinese, false) => format!("无法复制到 {place}：{why}"),
        };
        match blocked {
            Blocked::Stopped => {
                say_error(&text);
                Err(Ended::WithProblems)
            }
            blocked if blocked.is_misuse() => Err(Ended::Misused(text)),
            _ => Err(Ended::Environment(anyhow::Error::msg(text))),
        }
    }
}

pub(super) fn verify(args: &VerifyArgs) -> Result<(), Ended> {
    let language = speaks(&config::process_environment());
    let root = pictures_dir(args.pictures_dir.as_deref(), args.config.as_deref(), "")?;
    let mut progress = Progress::new(language, Stop::new());
    let verified = verifying::verify(&root, &mut progress);
    progress.end();
    let report = verified.map_err(|blocked| could_not_verify(&root, &blocked, language))?;
    if args.json {
        let mut json = serde_json::to_value(&report).unwrap_or_default();
        json["complete"] = report.is_complete().into();
        say(&json.to_string());
    } else {
        for finding in &report.findings {
            let file = for_log(&finding.file, SHOWN_CHARACTERS_MAX);
            let between = if language == Language::Chinese { "：" } else { ": " };
            say(&format!("{}{between}{file}", flaw_in_words(finding.flaw).pick(language)));
        }
        say(&sentence(&report, language));
    }
    if report.is_clean() { Ok(()) } else { Err(Ended::WithProblems) }
}

fn could_not_verify(root: &Path, blocked: &Blocked, language: Language) -> Ended {
    let (place, why) = (root.display(), blocked.tell(language));
    let text = match language {
        Language::English => format!("could not verify {place}: {why}"),
        Language::Chinese => format!("无法检查 {place}：{why}"),
    };
    if blocked.is_misuse() { Ended::Misused(text) } else { Ended::Environment(anyhow::Error::msg(text)) }
}

const FLAWS: [Flaw; 7] = [
    Flaw::Missing,
    Flaw::Changed,
    Flaw::Unreadable,
    Flaw::Damaged,
    Flaw::Contradicted,
    Flaw::Unlisted,
    Flaw::Half,
];

fn flaw_in_words(flaw: Flaw) -> Words {
    match flaw {
        Flaw::Missing => Words { zh: "缺失", en: "missing" },
        Flaw::Changed => Words { zh: "内容变了", en: "changed" },
        Flaw::Unreadable => Words { zh: "读不出来", en: "unreadable" },
        Flaw::Damaged => Words { zh: "清单损坏", en: "damaged" },
        Flaw::Contradicted => Words { zh: "清单互相矛盾", en: "contradicted" },
        Flaw::Unlisted => Words { zh: "不在清单里", en: "unlisted" },
        Flaw::Half => Words { zh: "未完成", en: "half" },
    }
}

/// Whether the set is complete, in one sentence.
fn sentence(report: &Verified, language: Language) -> String {
    let (good, size) = (report.good, told(report.bytes));
    let counts: Vec<String> = FLAWS
        .iter()
        .filter_map(|flaw| {
            let count = report.findings.iter().filter(|finding| finding.flaw == *flaw).count();
            let word = flaw_in_words(*flaw).pick(language);
            match language {
                _ if count == 0 => None,
                Language::English => Some(format!("{count} {word}")),
                Language::Chinese => Some(format!("{word} {count} 个")),
            }
        })
        .collect();
    match (language, report.is_complete(), report.is_clean()) {
        (Language::English, true, true) => {
            format!("{good} pictures are whole and as listed ({size}): the set is complete.")
        }
        (Language::English, true, false) => format!(
            "{good} pictures are whole and as listed ({size}): the set is complete, but there is more in the \
             folder: {}.",
            counts.join(", ")
        ),
        (Language::English, false, _) => format!(
            "{good} pictures are whole and as listed ({size}), but the set is NOT complete: {}.",
            counts.join(", ")
        ),
        (Language::Chinese, true, true) => format!("{good} 张照片完好，与清单一致（{size}）：照片齐全。"),
        (Language::Chinese, true, false) => format!(
            "{good} 张照片完好，与清单一致（{size}）：照片齐全，但文件夹里还有别的：{}。",
            counts.join("，")
        ),
        (Language::Chinese, false, _) => {
            format!("{good} 张照片完好，与清单一致（{size}），但照片不齐全：{}。", counts.join("，"))
        }
    }
}

/// The folder that was named, or that of the settings. `option` stands before a folder on the command line.
fn pictures_dir(named: Option<&Path>, config_file: Option<&Path>, option: &str) -> Result<PathBuf, Ended> {
    match named {
        Some(folder) => Ok(folder.to_owned()),
        None => config::load_pictures_dir(config_file, &config::process_environment()).map_err(|error| {
            Ended::Misused(format!("{error}\nOr name the pictures folder: {option}PICTURES_DIR"))
        }),
    }
}
