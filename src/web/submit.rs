//! What a submission may look like, and what is said when it does not. The seed's form field `data` with
//! `{"imgIds":[…]}`, or the same object as a JSON body; texts and position beside it.

use super::answer::Answer;
use super::visit::form_pairs;
use super::{CONTRIBUTOR_LENGTH_MAX, NOTE_LENGTH_MAX, TEAM_LENGTH_MAX};
use crate::ground::escape::for_log;
use crate::ground::language::Language;
use crate::ground::media_id::{MEDIA_ID_LENGTH_MAX, MediaId, NotAMediaId};
use crate::queue::{Refused, Submission};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::time::Duration;

/// Why a submission was not taken. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No id in it.
    Empty,
    /// More ids than allowed: how many came, how many may.
    TooMany(usize, usize),
    /// One id is none: its position from 1, what it looks like, why.
    BadId(usize, String, NotAMediaId),
    /// One id is not even text: its position from 1.
    IdNotText(usize),
    /// The field that holds the ids is no JSON object with `imgIds`.
    NotIds(&'static str),
    /// The body is neither a form nor JSON.
    NotAForm(&'static str),
    /// A text is too long: field, characters allowed.
    TextTooLong(&'static str, usize),
    /// A field is no number in its range.
    BadNumber(&'static str),
    /// It does not come from the page.
    NoPass,
    /// It comes from a page of another site.
    CrossSite(String),
    /// This address submits too often.
    TooOften(Duration),
    /// This address has sent many ids and never a picture.
    Unwelcome(Duration),
    /// The queue says no.
    Queue(Refused),
}

/// Reads a submission from a body. Ids that stand twice count once.
pub fn parse_submission(
    content_type: Option<&str>,
    body: &[u8],
    ids_max: usize,
) -> Result<Submission, Refusal> {
    let is_json = match content_type
        .map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    {
        Some(kind) if kind == "application/json" => true,
        Some(kind) if kind.is_empty() || kind == "application/x-www-form-urlencoded" => false,
        None => first_visible(body) == Some(b'{'),
        Some(_) => return Err(Refusal::NotAForm("Content-Type")),
    };
    let fields = if is_json { json_fields(body)? } else { form_fields(body)? };
    let ids = read_ids(fields.get("imgIds"), ids_max)?;
    Ok(Submission {
        ids,
        team: read_text(&fields, "team", TEAM_LENGTH_MAX)?,
        contributor: read_text(&fields, "contributor", CONTRIBUTOR_LENGTH_MAX)?,
        note: read_text(&fields, "note", NOTE_LENGTH_MAX)?,
        latitude: read_degrees(&fields, "latitude", 90.0)?,
        longitude: read_degrees(&fields, "longitude", 180.0)?,
    })
}

fn json_fields(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::Empty);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Refusal::NotIds("JSON")),
    }
}

/// The form's fields as one object, `imgIds` taken out of `data`.
fn form_fields(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let mut fields = Map::new();
    for (key, value) in form_pairs(body) {
        let key = String::from_utf8(key).map_err(|_| Refusal::NotAForm("UTF-8"))?;
        let value = String::from_utf8(value).map_err(|_| Refusal::NotAForm("UTF-8"))?;
        if fields.insert(key, Value::String(value)).is_some() {
            return Err(Refusal::NotAForm("a field twice"));
        }
    }
    fields.remove("imgIds");
    let data = match fields.remove("data") {
        Some(Value::String(data)) if !data.trim().is_empty() => data,
        _ => return Err(Refusal::Empty),
    };
    match serde_json::from_str(&data) {
        Ok(Value::Object(mut inner)) => {
            let ids = inner.remove("imgIds").ok_or(Refusal::NotIds("imgIds"))?;
            fields.insert("imgIds".to_owned(), ids);
            Ok(fields)
        }
        _ => Err(Refusal::NotIds("data")),
    }
}

fn read_ids(ids: Option<&Value>, ids_max: usize) -> Result<Vec<MediaId>, Refusal> {
    let ids = match ids {
        None => return Err(Refusal::NotIds("imgIds")),
        Some(Value::Array(ids)) => ids,
        Some(_) => return Err(Refusal::NotIds("imgIds")),
    };
    if ids.is_empty() {
        return Err(Refusal::Empty);
    }
    if ids.len() > ids_max {
        return Err(Refusal::TooMany(ids.len(), ids_max));
    }
    let (mut seen, mut parsed) = (HashSet::new(), Vec::with_capacity(ids.len()));
    for (index, id) in ids.iter().enumerate() {
        let text = id.as_str().ok_or(Refusal::IdNotText(index + 1))?;
        let id = MediaId::parse(text).map_err(|why| Refusal::BadId(index + 1, for_log(text, 40), why))?;
        if seen.insert(text) {
            parsed.push(id);
        }
    }
    Ok(parsed)
}

fn read_text(fields: &Map<String, Value>, key: &'static str, length_max: usize) -> Result<String, Refusal> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) if text.trim().chars().count() <= length_max => Ok(text.trim().to_owned()),
        Some(_) => Err(Refusal::TextTooLong(key, length_max)),
    }
}

fn read_degrees(fields: &Map<String, Value>, key: &'static str, limit: f64) -> Result<Option<f64>, Refusal> {
    let degrees = match fields.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Number(number)) => number.as_f64(),
        Some(_) => None,
    };
    degrees.filter(|degrees: &f64| degrees.abs() <= limit).map(Some).ok_or(Refusal::BadNumber(key))
}

fn first_visible(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

impl Refusal {
    /// The contract's answer: status 200, but for what proxies and scripts must notice.
    pub(super) fn to_answer(&self, language: Language) -> Answer {
        if let Refusal::TooOften(wait) = self {
            return Answer::too_many(*wait, language);
        }
        let status = if matches!(self, Refusal::Queue(_)) { 503 } else { 200 };
        let (zh, en) = self.words();
        let answer = Answer::refusal(status, self.code(), &zh, &en, language);
        if status == 503 { answer.with_header("Retry-After", "30") } else { answer }
    }

    /// The message.
    pub(super) fn text(&self, language: Language) -> String {
        let (zh, en) = self.words();
        if language == Language::Chinese { zh } else { en }
    }

    fn code(&self) -> &'static str {
        match self {
            Refusal::Empty => "empty",
            Refusal::TooMany(..) => "too-many",
            Refusal::BadId(..) | Refusal::IdNotText(_) => "bad-id",
            Refusal::NotIds(_) | Refusal::NotAForm(_) => "malformed",
            Refusal::TextTooLong(..) => "text-too-long",
            Refusal::BadNumber(_) => "bad-number",
            Refusal::NoPass => "no-pass",
            Refusal::CrossSite(_) => "cross-site",
            Refusal::TooOften(_) => "too-often",
            Refusal::Unwelcome(_) => "unwelcome",
            Refusal::Queue(Refused::Full(_)) => "queue-full",
            Refusal::Queue(Refused::NoRoom) => "box-full",
            Refusal::Queue(Refused::Disk(_)) => "box-fault",
        }
    }

    fn words(&self) -> (String, String) {
        let pair = |zh: &str, en: &str| (zh.to_owned(), en.to_owned());
        match self {
            Refusal::Empty => pair("图片不能为空", "there is no picture in it"),
            Refusal::TooMany(came, max) => (
                format!("一次最多提交 {max} 张，收到 {came} 张"),
                format!("at most {max} pictures at a time, {came} came"),
            ),
            Refusal::BadId(position, text, why) => {
                let zh_why = match why {
                    NotAMediaId::Empty => "为空".to_owned(),
                    NotAMediaId::TooLong => format!("超过 {MEDIA_ID_LENGTH_MAX} 个字符"),
                    NotAMediaId::BadCharacter(bad) => format!("含有不允许的字符 {bad:?}"),
                };
                (
                    format!("第 {position} 个图片 ID（{text}）{zh_why}"),
                    format!("picture id number {position} ({text}) {why}"),
                )
            }
            Refusal::IdNotText(position) => (
                format!("第 {position} 个图片 ID 不是文本"),
                format!("picture id number {position} is not a text"),
            ),
            Refusal::NotIds(what) => (
                format!("无法读取 {what}：应为 {{\"imgIds\":[\"…\"]}}"),
                format!("could not read {what}: expected {{\"imgIds\":[\"…\"]}}"),
            ),
            Refusal::NotAForm(what) => (
                format!(
                    "无法读取表单（{what}）：应为 application/x-www-form-urlencoded 或 application/json，UTF-8"
                ),
                format!(
                    "could not read the form ({what}): expected application/x-www-form-urlencoded or application/json in UTF-8"
                ),
            ),
            Refusal::TextTooLong(field, max) => (
                format!("{field} 应为文本，最多 {max} 个字符"),
                format!("{field} must be a text of at most {max} characters"),
            ),
            Refusal::BadNumber(field) => {
                (format!("{field} 不是有效的度数"), format!("{field} is no valid number of degrees"))
            }
            Refusal::NoPass => pair("请刷新页面后再提交", "please reload the page, then submit again"),
            Refusal::CrossSite(public_url) => (
                format!("请从 {public_url} 的页面提交"),
                format!("please submit from the page at {public_url}"),
            ),
            Refusal::TooOften(wait) => (
                format!("提交太频繁，请 {} 秒后再试", wait.as_secs().max(1)),
                format!("too many submissions; please try again in {} s", wait.as_secs().max(1)),
            ),
            Refusal::Unwelcome(wait) => (
                format!("之前提交的图片都不存在，请 {} 分钟后再试", wait.as_secs() / 60 + 1),
                format!(
                    "none of the earlier ids was a picture; please try again in {} min",
                    wait.as_secs() / 60 + 1
                ),
            ),
            Refusal::Queue(Refused::Full(_)) => pair(
                "排队的图片太多，请稍后再提交",
                "too many pictures are waiting; please submit again later",
            ),
            Refusal::Queue(Refused::NoRoom) => pair(
                "盒子磁盘已满，请稍后再提交（照片仍在手机上）",
                "the box is full; please submit again later (the pictures stay on the phone)",
            ),
            Refusal::Queue(Refused::Disk(_)) => pair(
                "盒子暂时无法保存，请稍后再提交",
                "the box cannot take anything down at the moment; please submit again later",
            ),
        }
    }
}
