//! What can go wrong with WeChat, as a closed set of outcomes, each with its own rule, and one table of all
//! codes: WeChat's own (documentation, error code list) and ours for what happens below the API.
//!
//! A [`Fault`] can be stored: its code finds its outcome, its reason and its remedy again after a restart.

use crate::ground::language::Words;
use std::borrow::Cow;
use std::fmt;

/// What to do about a fault. The rules themselves are the collector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// May pass by itself; the picture is tried again later, until its deadline.
    RetryLater,
    /// As [`Outcome::RetryLater`], and it says nothing about the picture: several in a row without any answer
    /// between them are one fact about everybody.
    RetryTogether,
    /// As [`Outcome::RetryLater`], but given up after so many of the same in a row: it is not expected to pass.
    RetryAFewTimes(u32),
    /// The access_token is dead: renew it once, try once more; still dead: everybody waits.
    RenewCredential,
    /// Everything has to wait, not only this picture; passes by itself. Nobody's attempt is counted.
    Pause(PauseLength),
    /// The account as a whole waits for a person to mend something.
    Operator,
    /// This picture will never come.
    Gone,
    /// What came is whole, but it is no picture.
    NotAPicture,
}

/// How long a pause of everything lasts before the next gentle try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseLength {
    /// Network or disk: one probe after another, with growing gaps.
    UntilProbe,
    /// WeChat counts calls by the minute.
    Minute,
    /// WeChat's 89507: one hour.
    Hour,
    /// WeChat counts calls by the day, in China (UTC+8).
    NextDay,
}

/// One fault: the code and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// WeChat's number as text, or a slug of ours.
    pub code: Cow<'static, str>,
    /// What was seen, without secrets: errmsg, byte counts, addresses.
    pub detail: String,
}

/// One line of the table.
#[derive(Debug)]
pub struct Entry {
    /// WeChat's number as text, or a slug of ours.
    pub code: &'static str,
    /// What to do about it.
    pub outcome: Outcome,
    /// What it means.
    pub reason: Words,
    /// What a person can do.
    pub remedy: Words,
}

impl Fault {
    /// A fault of ours.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Fault {
        Fault { code: Cow::Borrowed(code), detail: detail.into() }
    }

    /// WeChat answered with an error code.
    pub fn from_errcode(errcode: i64, errmsg: &str) -> Fault {
        let detail = crate::ground::escape::for_log(errmsg, 300);
        Fault { code: Cow::Owned(errcode.to_string()), detail }
    }

    /// The table's line for this fault.
    pub fn entry(&self) -> &'static Entry {
        entry(&self.code)
    }

    /// What to do about it.
    pub fn outcome(&self) -> Outcome {
        self.entry().outcome
    }

    /// Whether it may be over in seconds, without anybody doing anything.
    pub fn may_pass_soon(&self) -> bool {
        let probed = Outcome::Pause(PauseLength::UntilProbe);
        let outcome = self.outcome();
        outcome == Outcome::RetryLater || outcome == Outcome::RetryTogether || outcome == probed
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.entry().reason.en, self.code)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl std::error::Error for Fault {}

/// The line of a code; the last line of the table for one that nobody knows.
pub fn entry(code: &str) -> &'static Entry {
    TABLE.iter().find(|entry| entry.code == code).unwrap_or(&UNKNOWN)
}

const fn line(
    code: &'static str,
    outcome: Outcome,
    reason: [&'static str; 2],
    remedy: [&'static str; 2],
) -> Entry {
    let reason = Words { zh: reason[0], en: reason[1] };
    let remedy = Words { zh: remedy[0], en: remedy[1] };
    Entry { code, outcome, reason, remedy }
}

static UNKNOWN: Entry = line(
    "unknown",
    Outcome::RetryAFewTimes(8),
    ["微信返回了未知的错误码", "WeChat answered with a code that is not in the table"],
    ["在微信开放文档中查询该错误码，处理后重试", "look the code up in WeChat's documentation, then retry"],
);

const WAIT: [&str; 2] = ["无需处理，会自动重试", "nothing to do; it is tried again by itself"];
const RELEASE: [&str; 2] = ["这是程序错误，请报告", "this is a fault of the program; please report it"];
const PENDING: [&str; 2] = [
    "请公众号管理员在微信中确认调用请求",
    "ask the account's administrator to confirm the request that WeChat sent to them",
];
const WHITELIST: [&str; 2] = [
    "把该 IP 加入 IP 白名单：微信开发者平台 → 我的业务 → 基础信息 → 开发信息",
    "add this address to the IP whitelist: WeChat developer platform → my business → basic information → development",
];

/// Every code that is known, from the official list and from field reports.
pub static TABLE: &[Entry] = &[
    line("-1", Outcome::RetryTogether, ["微信系统繁忙", "WeChat is busy"], WAIT),
    line(
        "40001",
        Outcome::RenewCredential,
        ["access_token 无效，或 AppSecret 错误", "the access_token is not valid, or the AppSecret is wrong"],
        [
            "如果持续出现：确认 AppSecret，并确认没有其他系统强制刷新 stable_token",
            "if it stays: check the AppSecret, and that no other system forces a new stable_token",
        ],
    ),
    line("40014", Outcome::RenewCredential, ["access_token 不合法", "the access_token is malformed"], WAIT),
    line("42001", Outcome::RenewCredential, ["access_token 已过期", "the access_token has expired"], WAIT),
    line(
        "40007",
        Outcome::RetryLater,
        ["微信暂时找不到这张图片（media_id 无效）", "WeChat does not find this picture (invalid media_id)"],
        [
            "确认页面使用的公众号与服务器配置的 app_id 相同；图片可能已超过 3 天",
            "check that the page belongs to the account of app_id; the picture may be older than 3 days",
        ],
    ),
    line("40002", Outcome::Operator, ["grant_type 不合法", "invalid grant_type"], RELEASE),
    line(
        "40013",
        Outcome::Operator,
        ["AppID 无效", "the app_id is not valid"],
        ["检查设置 wechat.app_id", "check the setting wechat.app_id"],
    ),
    line(
        "40125",
        Outcome::Operator,
        ["AppSecret 无效或已被重置", "the AppSecret is wrong or was reset"],
        [
            "检查设置 wechat.app_secret，或在公众平台重置后更新",
            "check the setting wechat.app_secret, or reset it and enter the new one",
        ],
    ),
    line(
        "40164",
        Outcome::Operator,
        ["本机 IP 不在白名单中", "the address that WeChat saw is not in the IP whitelist"],
        WHITELIST,
    ),
    line(
        "61004",
        Outcome::Operator,
        ["本机 IP 未登记", "the address that WeChat saw is not registered"],
        WHITELIST,
    ),
    line(
        "40243",
        Outcome::Operator,
        ["AppSecret 已被冻结", "the AppSecret is frozen"],
        [
            "请管理员在公众平台解冻（约 10 分钟生效）",
            "ask the administrator to unfreeze it; it takes about 10 minutes",
        ],
    ),
    line("41001", Outcome::RetryAFewTimes(3), ["缺少 access_token", "the access_token is missing"], RELEASE),
    line("41002", Outcome::Operator, ["缺少 appid", "the appid is missing"], RELEASE),
    line("41004", Outcome::Operator, ["缺少 secret", "the secret is missing"], RELEASE),
    line("41006", Outcome::RetryAFewTimes(3), ["缺少 media_id", "the media_id is missing"], RELEASE),
    line("43002", Outcome::Operator, ["需要 POST 请求", "a POST is needed"], RELEASE),
    line(
        "45009",
        Outcome::Pause(PauseLength::NextDay),
        ["今天的接口调用次数已用完", "today's quota of calls is used up"],
        [
            "明天会自动继续；也可以在公众平台清零配额（每月 10 次）",
            "it goes on by itself tomorrow; the quota can also be cleared in the console (10 times a month)",
        ],
    ),
    line(
        "45011",
        Outcome::Pause(PauseLength::Minute),
        ["接口调用太频繁", "too many calls in a minute"],
        ["一分钟后自动继续", "it goes on by itself in a minute"],
    ),
    line(
        "48001",
        Outcome::Operator,
        ["公众号没有此接口的权限（未认证？）", "the account may not use this interface (not verified?)"],
        [
            "下载图片需要已认证的公众号：请完成微信认证",
            "fetching pictures needs a verified account: have the account verified (微信认证)",
        ],
    ),
    line(
        "48004",
        Outcome::Operator,
        ["接口因违规被封禁", "the interface is banned for this account"],
        ["登录公众平台查看通知", "log in to the WeChat console and read the notice"],
    ),
    line(
        "50002",
        Outcome::Operator,
        ["账号受限（冻结或注销）", "the account is limited (frozen or cancelled)"],
        ["登录公众平台查看通知", "log in to the WeChat console and read the notice"],
    ),
    line(
        "50004",
        Outcome::Operator,
        ["账号被禁止使用 token", "the account is not allowed to use a token"],
        ["登录公众平台查看通知", "log in to the WeChat console and read the notice"],
    ),
    line("89501", Outcome::Operator, ["确认请求等待中", "a confirmation is pending"], PENDING),
    line("89502", Outcome::Operator, ["确认请求等待中", "a confirmation is pending"], PENDING),
    line(
        "89503",
        Outcome::Operator,
        ["此 IP 的调用需要管理员确认", "calls from this address need the administrator's consent"],
        PENDING,
    ),
    line("89504", Outcome::Operator, ["确认请求等待中", "a confirmation is pending"], PENDING),
    line("89505", Outcome::Operator, ["确认请求等待中", "a confirmation is pending"], PENDING),
    line(
        "89506",
        Outcome::Pause(PauseLength::NextDay),
        [
            "管理员拒绝了此 IP，24 小时内不能再请求",
            "the administrator refused this address; WeChat asks to wait for 24 hours",
        ],
        PENDING,
    ),
    line(
        "89507",
        Outcome::Pause(PauseLength::Hour),
        [
            "管理员拒绝了此 IP，1 小时内不能再请求",
            "the administrator refused this address; WeChat asks to wait for an hour",
        ],
        PENDING,
    ),
    line(
        "fake-id",
        Outcome::Gone,
        [
            "这是开发者工具的假 ID，没有图片",
            "this id was made up by the developer tools; there is no picture",
        ],
        ["请在手机微信中上传", "upload from WeChat on a phone"],
    ),
    line(
        "expired",
        Outcome::Gone,
        ["超过 72 小时，微信已删除", "its 72 hours are over; WeChat has deleted it"],
        ["请拍摄者重新上传", "ask the contributor to upload it again"],
    ),
    line(
        "not-a-picture",
        Outcome::NotAPicture,
        ["内容不是图片", "what came is not a picture"],
        [
            "请拍摄者改传照片（jpg、png、gif、webp、heic、bmp）",
            "ask for a photo (jpg, png, gif, webp, heic, bmp)",
        ],
    ),
    line(
        "too-large",
        Outcome::NotAPicture,
        ["图片超过大小上限", "larger than the settings allow"],
        ["调大 drain.max_picture_bytes 后重试", "raise drain.max_picture_bytes, then retry"],
    ),
    line(
        "not-whole",
        Outcome::RetryAFewTimes(6),
        ["图片不完整（缺少结尾）", "the picture lacks its end"],
        WAIT,
    ),
    line(
        "short-body",
        Outcome::RetryLater,
        ["传输中断，长度不足", "the transfer ended before the announced length"],
        WAIT,
    ),
    line("empty-body", Outcome::RetryLater, ["微信返回了空内容", "WeChat answered with nothing"], WAIT),
    line(
        "no-answer",
        Outcome::RetryTogether,
        ["微信没有回答", "WeChat took the request and did not answer"],
        [
            "检查盒子的网络；恢复后会自动继续",
            "check the box's network; it goes on by itself when that is back",
        ],
    ),
    line("stalled", Outcome::RetryLater, ["传输停滞", "the transfer stalled"], WAIT),
    line("reset", Outcome::RetryLater, ["连接被重置", "the connection was reset"], WAIT),
    line("garbage", Outcome::RetryLater, ["返回内容无法解析", "the answer makes no sense"], WAIT),
    line(
        "http-status",
        Outcome::RetryTogether,
        ["微信返回了 HTTP 错误", "WeChat answered with an HTTP error"],
        WAIT,
    ),
    line(
        "captive-portal",
        Outcome::Pause(PauseLength::UntilProbe),
        [
            "网络返回了网页而不是微信的回答（需要登录网络？）",
            "the network answers with a web page instead of WeChat (a log-in page?)",
        ],
        ["在盒子所在的网络上完成登录", "log the box in to its network"],
    ),
    line(
        "network",
        Outcome::Pause(PauseLength::UntilProbe),
        ["连接不到微信", "WeChat cannot be reached"],
        [
            "检查盒子的网络；恢复后会自动继续",
            "check the box's network; it goes on by itself when that is back",
        ],
    ),
    line(
        "clock",
        Outcome::Pause(PauseLength::UntilProbe),
        ["盒子的时间不对，证书尚未生效", "the box's clock is wrong: WeChat's certificate is not valid yet"],
        ["校准时间（需要网络时间或 RTC）", "set the clock (network time or a clock module)"],
    ),
    line(
        "certificate",
        Outcome::Pause(PauseLength::UntilProbe),
        ["对方的证书不可信", "the certificate of the other side cannot be trusted"],
        [
            "检查网络是否被代理；需要时设置 wechat.ca_file",
            "see whether a proxy sits in between; set wechat.ca_file if it should",
        ],
    ),
    line(
        "disk-full",
        Outcome::Pause(PauseLength::UntilProbe),
        ["磁盘空间不足", "no room on the disk"],
        ["把图片拷走并清理磁盘；之后会自动继续", "copy the pictures off and make room; it goes on by itself"],
    ),
    line(
        "disk",
        Outcome::Pause(PauseLength::UntilProbe),
        ["磁盘写入失败", "the disk fails"],
        ["检查磁盘或更换 SD 卡", "check the disk or replace the card"],
    ),
    line("internal", Outcome::RetryAFewTimes(6), ["程序内部错误", "an internal error"], RELEASE),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_code_stands_once_and_says_everything_in_both_languages() {
        let mut codes = HashSet::new();
        for entry in TABLE {
            assert!(codes.insert(entry.code), "{} stands twice", entry.code);
            for words in [entry.reason, entry.remedy] {
                assert!(
                    !words.zh.is_ascii() && words.en.is_ascii() | words.en.contains(['→', '微']),
                    "{}",
                    entry.code
                );
            }
        }
    }

    #[test]
    fn every_code_of_the_documentation_is_in_the_table() {
        let documented = [
            -1, 40001, 40013, 40014, 40125, 40164, 40243, 41001, 41002, 41004, 41006, 42001, 43002, 45009,
            45011, 48001, 48004, 50002, 50004, 61004, 89501, 89502, 89503, 89504, 89505, 89506, 89507, 40007,
        ];
        for code in documented {
            assert_ne!(Fault::from_errcode(code, "").entry().code, "unknown", "{code}");
        }
        assert_eq!(Fault::from_errcode(99_999, "x").outcome(), Outcome::RetryAFewTimes(8));
    }
}
