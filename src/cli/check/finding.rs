//! What a check says: a state, what was seen, and what to do. Findings are made in both languages, so that those
//! who judge need not know who reads.

use crate::ground::language::{Language, Words};
use serde_json::{Value, json};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Works, or could not be looked at; a person should know.
    Warning,
    /// Does not work, or will not for long.
    Fault,
}

/// A text in both languages, made at run time.
#[derive(Clone, Debug)]
pub(super) struct Both {
    pub zh: String,
    pub en: String,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub id: &'static str,
    pub state: State,
    pub detail: Both,
    pub remedy: Option<Both>,
}

pub(super) fn both(zh: impl Into<String>, en: impl Into<String>) -> Both {
    Both { zh: zh.into(), en: en.into() }
}

/// What has no language: a command, a name, what a program said.
pub(super) fn same(text: impl Into<String>) -> Both {
    let text = text.into();
    Both { zh: text.clone(), en: text }
}

impl From<Words> for Both {
    fn from(words: Words) -> Both {
        both(words.zh, words.en)
    }
}

impl Both {
    pub(super) fn pick(&self, language: Language) -> &str {
        match language {
            Language::Chinese => &self.zh,
            Language::English => &self.en,
        }
    }

    /// The same text in both languages after this one, such as what a server or the kernel said.
    pub(super) fn followed_by(self, quoted: &str) -> Both {
        if quoted.is_empty() {
            return self;
        }
        both(format!("{}：{quoted}", self.zh), format!("{}: {quoted}", self.en))
    }
}

impl Finding {
    pub(super) fn ok(id: &'static str, detail: Both) -> Finding {
        Finding { id, state: State::Ok, detail, remedy: None }
    }

    pub(super) fn warning(id: &'static str, detail: Both, remedy: Both) -> Finding {
        Finding { id, state: State::Warning, detail, remedy: Some(remedy) }
    }

    pub(super) fn fault(id: &'static str, detail: Both, remedy: Both) -> Finding {
        Finding { id, state: State::Fault, detail, remedy: Some(remedy) }
    }

    /// A check that an earlier one made impossible.
    pub(super) fn not_tried(id: &'static str, because: Both) -> Finding {
        let detail = both(format!("未检查，因为{}", because.zh), format!("not tried because {}", because.en));
        Finding { id, state: State::Warning, detail, remedy: None }
    }

    /// For `--json`.
    pub(super) fn to_json(&self, language: Language) -> Value {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Fault => "fault",
        };
        json!({
            "id": self.id,
            "state": state,
            "title": title(self.id).pick(language),
            "detail": self.detail.pick(language),
            "remedy": self.remedy.as_ref().map(|remedy| remedy.pick(language)),
        })
    }

    /// For people; the remedy on a line of its own.
    pub(super) fn to_text(&self, language: Language) -> String {
        let (title, detail) = (title(self.id).pick(language), self.detail.pick(language));
        let remedy = self.remedy.as_ref().map(|remedy| remedy.pick(language));
        match language {
            Language::Chinese => {
                let state = match self.state {
                    State::Ok => "正常",
                    State::Warning => "注意",
                    State::Fault => "故障",
                };
                let remedy = remedy.map(|remedy| format!("\n      处理方法：{remedy}")).unwrap_or_default();
                format!("{state}  {title}：{detail}{remedy}")
            }
            Language::English => {
                let state = match self.state {
                    State::Ok => "ok",
                    State::Warning => "warning",
                    State::Fault => "FAULT",
                };
                let remedy =
                    remedy.map(|remedy| format!("\n         what to do: {remedy}")).unwrap_or_default();
                format!("{state:7}  {title}: {detail}{remedy}")
            }
        }
    }
}

/// The line at the end.
pub(super) fn verdict(findings: &[Finding], language: Language) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (faults, warnings) = (count(State::Fault), count(State::Warning));
    match (language, faults, warnings) {
        (Language::Chinese, 0, 0) => "全部正常".to_owned(),
        (Language::Chinese, 0, _) => format!("没有故障；{warnings} 项需要注意"),
        (Language::Chinese, ..) => {
            format!("{faults} 项故障，{warnings} 项需要注意：请从上往下处理，前面的故障可能是后面的原因")
        }
        (Language::English, 0, 0) => "everything is in order".to_owned(),
        (Language::English, 0, _) => format!("no faults; warnings: {warnings}"),
        (Language::English, ..) => format!(
            "faults: {faults}, warnings: {warnings}; mend them from top to bottom, an earlier one may cause a later one"
        ),
    }
}

const fn words(zh: &'static str, en: &'static str) -> Words {
    Words { zh, en }
}

/// All checks, in the order in which they are made.
static TITLES: &[(&str, Words)] = &[
    ("settings", words("设置", "settings")),
    ("secret", words("AppSecret", "secret")),
    ("trusted_proxies", words("可信代理", "trusted proxies")),
    ("listen", words("监听端口", "port")),
    ("box", words("图盒程序", "box")),
    ("data_dir", words("数据目录", "data folder")),
    ("data_dir_file_system", words("数据目录的文件系统", "file system of the data")),
    ("pictures_dir", words("图片目录", "pictures folder")),
    ("pictures_dir_file_system", words("图片目录的文件系统", "file system of the pictures")),
    ("space", words("磁盘空间", "space")),
    ("data_dir_space", words("数据目录的磁盘空间", "space for the data")),
    ("sync_latency", words("同步写入延迟", "sync latency")),
    ("write_speed", words("写入速度", "write speed")),
    ("disk", words("磁盘", "disk")),
    ("descriptors", words("文件描述符", "descriptors")),
    ("memory", words("内存", "memory")),
    ("time_zone", words("时区", "time zone")),
    ("wechat", words("连接微信", "way to WeChat")),
    ("clock", words("时钟", "clock")),
    ("ip_whitelist", words("IP 白名单", "IP whitelist")),
    ("token", words("access_token", "access_token")),
    ("ticket", words("jsapi_ticket", "jsapi_ticket")),
    ("account", words("账号权限", "account")),
    ("domain_file", words("域名校验文件", "domain file")),
    ("public_url", words("公网地址", "public address")),
    ("domain_file_public", words("公网上的域名校验文件", "domain file in public")),
    ("page", words("页面签名", "page's signature")),
];

fn title(id: &str) -> Words {
    TITLES.iter().find(|(known, _)| *known == id).map_or(words("其他", "other"), |(_, title)| *title)
}
