//! What the queue writes down: the journal's line, sled's values, and what other rooms get to see of them.

use super::jobs::{JobKey, key_of};
use crate::ground::media_id::MediaId;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What a contributor sends: ids and, if they like, who, where and what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// WeChat's ids, in the contributor's order, each once.
    pub ids: Vec<MediaId>,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub team: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contributor: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Degrees, WGS 84.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees, WGS 84.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
}

/// A submission that was given its receipt: one line of the journal, one value in sled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub receipt: String,
    pub submitted_ms: i64,
    pub clock_trusted: bool,
    /// When it was, by the clock that is never set; only where the wall clock could not be believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<Moment>,
    pub submission: Submission,
}

/// A monotonic reading. It means something only in the same run of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    pub boot_id: String,
    pub monotonic_ms: i64,
}

/// An entry and what is written of it, in the journal and in sled.
pub(super) struct Record {
    pub entry: Entry,
    /// Of its ids, in their order.
    pub keys: Vec<JobKey>,
    pub json: String,
}

impl Record {
    pub fn new(entry: Entry) -> Result<Record> {
        let keys = entry.submission.ids.iter().map(key_of).collect();
        Record::with_keys(entry, keys)
    }

    /// The same, where the keys are known already.
    pub fn with_keys(entry: Entry, keys: Vec<JobKey>) -> Result<Record> {
        let json = serde_json::to_string(&entry)?;
        Ok(Record { entry, keys, json })
    }

    /// Appends the journal's line: CRC-32 of the JSON in hex, a space, the JSON, a line break.
    pub fn add_line(&self, lines: &mut String) {
        // Writing to a text does not fail.
        let _ = writeln!(lines, "{:08x} {}", crc32fast::hash(self.json.as_bytes()), self.json);
    }
}

impl Entry {
    /// The entry of a line without its line break; `None` when the line is torn or damaged.
    pub fn from_line(line: &[u8]) -> Option<Entry> {
        let (crc, rest) = line.split_at_checked(8)?;
        let json = rest.strip_prefix(b" ")?;
        let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
        if crc32fast::hash(json) != crc {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

/// Where one id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Owed.
    Waiting {
        /// Attempts that were counted against it.
        attempts: u32,
        /// The code of the last one.
        last_code: Option<String>,
        /// How many of the last ones had this code.
        in_a_row: u32,
    },
    /// A picture with this SHA-256, in lower-case hex.
    Saved(String),
    /// Given up.
    Failed(Kept),
}

impl JobState {
    /// Owed, and nothing was tried yet.
    pub(super) fn untouched() -> JobState {
        JobState::Waiting { attempts: 0, last_code: None, in_a_row: 0 }
    }
}

/// Why and when an id was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// WeChat's code or a slug of ours.
    pub code: String,
    /// What was seen.
    pub detail: String,
    /// When, wall clock.
    pub at_ms: i64,
}

/// A line of the failed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// WeChat's id.
    pub media_id: MediaId,
    /// WeChat's code or a slug of ours.
    pub code: String,
    /// What was seen.
    pub detail: String,
    /// When, wall clock.
    pub at_ms: i64,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptView {
    /// The receipt itself.
    pub receipt: String,
    /// When it was submitted, wall clock.
    pub submitted_ms: i64,
    /// Its ids in the contributor's order.
    pub pictures: Vec<(MediaId, JobState)>,
}

impl ReceiptView {
    /// Whether nothing of it is owed any more.
    pub fn is_settled(&self) -> bool {
        !self.pictures.iter().any(|(_, state)| matches!(state, JobState::Waiting { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_or_is_refused_whole() {
        let ids = vec![MediaId::parse("a").unwrap(), MediaId::parse("b-_").unwrap()];
        let submission =
            Submission { ids, note: "两\n行".into(), latitude: Some(-1.5), ..Submission::default() };
        let moment = Some(Moment { boot_id: "b".into(), monotonic_ms: 7 });
        let entry = Entry { receipt: "r".into(), submitted_ms: 5, clock_trusted: false, moment, submission };
        let mut line = String::new();
        Record::new(entry.clone()).unwrap().add_line(&mut line);
        assert_eq!(line.matches('\n').count(), 1);
        let bytes = line.trim_end().as_bytes();
        assert_eq!(Entry::from_line(bytes), Some(entry));
        for cut in 0..bytes.len() {
            assert_eq!(Entry::from_line(&bytes[..cut]), None);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            // Flipping the case bit of a hex digit would change nothing; bit 0 always does.
            assert_eq!(Entry::from_line(&damaged), None, "at {at}");
        }
    }
}
