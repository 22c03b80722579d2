//! Reading keys one by one: environment before file, every complaint kept, every key that nobody asked for
//! reported at the end with the one that was probably meant.

use super::Environment;
use crate::ground::escape::for_log;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::Value;

/// Prefix of environment variables that are settings.
const PREFIX: &str = "TUBOX_";

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `wechat.app_id`.
    pub key: String,
    /// As given; empty when it is missing, hidden when it is a secret.
    pub value: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { key, value, what, remedy } = self;
        let variable = variable_of(key);
        match value.is_empty() {
            true => write!(f, "{key} {what}: {remedy} (or set {variable})"),
            false => write!(f, "{key} = {value} {what}: {remedy} (or set {variable})"),
        }
    }
}

pub(super) struct Reader {
    given: BTreeMap<String, Value>,
    known: Vec<String>,
    problems: Vec<Problem>,
}

/// What could be read of a key.
enum Given {
    Missing,
    Text(String),
}

impl Reader {
    pub(super) fn new(table: toml::Table, environment: &Environment) -> Reader {
        let mut given = BTreeMap::new();
        for (key, value) in table {
            match value {
                Value::Table(section) => {
                    given.extend(section.into_iter().map(|(inner, value)| (format!("{key}.{inner}"), value)));
                }
                value => {
                    given.insert(key, value);
                }
            }
        }
        for (name, value) in environment {
            if let Some(name) = name.strip_prefix(PREFIX) {
                given.insert(key_of(name), Value::String(value.clone()));
            }
        }
        Reader { given, known: Vec::new(), problems: Vec::new() }
    }

    /// All complaints, those about unknown keys included.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let unknown: Vec<String> =
            self.given.keys().filter(|key| !self.known.contains(key)).cloned().collect();
        for key in unknown {
            let nearest = self.known.iter().min_by_key(|known| distance(known, &key));
            let remedy =
                nearest.map_or_else(String::new, |nearest| format!("remove it, or did you mean {nearest}?"));
            self.complain(&key, "", "is no setting", &remedy);
        }
        self.problems
    }

    /// The complaints so far; keys that nobody asked for are none.
    pub(super) fn complaints(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn complain(&mut self, key: &str, value: &str, what: &str, remedy: &str) {
        let value = if value.is_empty() { String::new() } else { format!("\"{}\"", for_log(value, 120)) };
        self.problems.push(Problem { key: key.into(), value, what: what.into(), remedy: remedy.into() });
    }

    /// A key with a default.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        default: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = match self.text(key, remedy)? {
            Given::Missing => default.to_owned(),
            Given::Text(text) => text,
        };
        self.parse(key, &text, remedy, parse)
    }

    /// A key without which the box cannot work.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        match self.text(key, remedy)? {
            Given::Text(text) if !text.is_empty() => self.parse(key, &text, remedy, parse),
            _ => {
                self.complain(key, "", "is missing", remedy);
                None
            }
        }
    }

    /// A key that may be missing or empty. `None` only for a bad value.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.text(key, remedy)? {
            Given::Text(text) if !text.is_empty() => self.parse(key, &text, remedy, parse).map(Some),
            _ => Some(None),
        }
    }

    pub(super) fn path(&mut self, key: &str, default: &str) -> Option<PathBuf> {
        self.parsed(key, default, "give an absolute path", absolute)
    }

    pub(super) fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        self.optional(key, "give an absolute path", absolute).flatten()
    }

    /// A key whose value is shown nowhere.
    pub(super) fn secret(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_owned());
        match self.given.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    /// The content of the file that a key names. `None` only when it cannot be read.
    pub(super) fn file(&mut self, key: &str) -> Option<Option<Vec<u8>>> {
        let Some(path) = self.optional_path(key) else { return Some(None) };
        match std::fs::read(&path) {
            Ok(bytes) => Some(Some(bytes)),
            Err(error) => {
                let what = format!("cannot be read: {error}");
                self.complain(key, &path.display().to_string(), &what, "give a file that the box may read");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> Option<bool> {
        self.parsed(key, if default { "true" } else { "false" }, "give true or false", |text| {
            text.parse().ok()
        })
    }

    pub(super) fn number(&mut self, key: &str, default: u64, allowed: RangeInclusive<u64>) -> Option<u64> {
        let remedy = format!("give a whole number from {} to {}", allowed.start(), allowed.end());
        let parse = |text: &str| text.replace('_', "").parse().ok().filter(|number| allowed.contains(number));
        self.parsed(key, &default.to_string(), &remedy, parse)
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let remedy = format!(
            "give a time from {} to {}, such as 500ms, 2s, 15m, 72h",
            in_words(*allowed.start()),
            in_words(*allowed.end())
        );
        let parse = |text: &str| parse_duration(text).filter(|duration| allowed.contains(duration));
        self.parsed(key, &in_words(default), &remedy, parse)
    }

    /// A list; in the environment separated by commas.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        default: &[&str],
        remedy: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.known.push(key.to_owned());
        let items: Vec<String> = match self.given.get(key) {
            None => default.iter().map(|item| (*item).to_owned()).collect(),
            Some(Value::String(text)) => {
                text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
            }
            Some(Value::Array(items)) if items.iter().all(Value::is_str) => {
                items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
            }
            Some(other) => {
                let value = format!("({})", other.type_str());
                self.complain(key, &value, "is no list of texts", remedy);
                return None;
            }
        };
        let mut parsed = Vec::new();
        for item in &items {
            parsed.push(self.parse(key, item, remedy, &parse));
        }
        parsed.into_iter().collect()
    }

    /// The value of a key as text, whatever TOML type it has; `None` for arrays and the like.
    fn text(&mut self, key: &str, remedy: &str) -> Option<Given> {
        self.known.push(key.to_owned());
        match self.given.get(key) {
            None => Some(Given::Missing),
            Some(Value::String(text)) => Some(Given::Text(text.trim().to_owned())),
            Some(Value::Integer(number)) => Some(Given::Text(number.to_string())),
            Some(Value::Boolean(flag)) => Some(Given::Text(flag.to_string())),
            Some(other) => {
                let value = format!("({})", other.type_str());
                self.complain(key, &value, "has the wrong type", remedy);
                None
            }
        }
    }

    fn parse<T>(
        &mut self,
        key: &str,
        text: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(text);
        if parsed.is_none() {
            self.complain(key, text, "is not allowed", remedy);
        }
        parsed
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    path.is_absolute().then_some(path)
}

/// `WECHAT_APP_ID` → `wechat.app_id`; names without a section stay as they are.
fn key_of(variable: &str) -> String {
    let lower = variable.to_lowercase();
    let sections = ["wechat", "drain", "limits", "alerts"];
    let in_section = |section: &&str| {
        lower.strip_prefix(*section)?.strip_prefix('_').map(|key| format!("{section}.{key}"))
    };
    sections.iter().find_map(in_section).unwrap_or(lower)
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// `500ms`, `2s`, `15m`, `72h`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

fn in_words(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Edit distance (Levenshtein), for "did you mean".
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
