//! What the queue writes down: the journal's line, sled's values, and what other rooms get to see of them.

use crate::ground::media_id::MediaId;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
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

/// sled's key for one id: half of its SHA-256, which nobody can make meet another's, and which sled keeps in a quarter of
/// the room.
pub(super) type JobKey = [u8; 16];

/// See [`JobKey`].
pub(super) fn key_of(id: &MediaId) -> JobKey {
    let digest: [u8; 32] = Sha256::digest(id.as_str()).into();
    let mut key = JobKey::default();
    key.copy_from_slice(&digest[..16]);
    key
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Owed.
    Waiting {
        /// Attempts that were counted against it.
        #[serde(default, skip_serializing_if = "is_zero")]
        attempts: u32,
        /// The code of the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_code: Option<String>,
        /// How many of the last ones had this code.
        #[serde(default, skip_serializing_if = "is_zero")]
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

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Why and when an id was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// WeChat's code or a slug of ours.
    pub code: String,
    /// What was seen.
    pub detail: String,
    /// When, wall clock.
    pub at_ms: i64,
}

/// What sled keeps of one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    /// The id, where it is looked for by who does not know it: when it waits by itself, and not as part of its receipt,
    /// or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_id: Option<MediaId>,
    pub receipt: String,
    /// What the deadline counts from; the entry keeps what the wall clock said.
    pub submitted_ms: i64,
    /// `submitted_ms` is not to be believed. Such jobs come first, until the true time is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
    pub state: JobState,
}

/// How a job's bytes begin, if not as JSON does.
const WAITS: u8 = b'w';
const WAITS_UNSURE: u8 = b'W';
const SAVED: u8 = b's';
const SAVED_UNSURE: u8 = b'S';

impl Job {
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, JobState::Waiting { .. })
    }

    /// Whether it waits by itself.
    pub fn is_alone(&self) -> bool {
        self.is_waiting() && self.media_id.is_some()
    }

    /// sled's value. Nearly all jobs wait untouched or are saved; up to 22 bytes need no room of their own in sled's
    /// memory, so what waits has 19: a letter, the time, the receipt. What is saved has its SHA-256 behind a space; any
    /// other is JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let kind = match (&self.state, self.unsure) {
            (JobState::Waiting { .. }, false) if self.media_id.is_none() => WAITS,
            (JobState::Waiting { .. }, true) if self.media_id.is_none() => WAITS_UNSURE,
            (JobState::Saved(_), false) => SAVED,
            (JobState::Saved(_), true) => SAVED_UNSURE,
            _ => return Ok(serde_json::to_vec(self)?),
        };
        let mut bytes = vec![kind];
        bytes.extend(self.submitted_ms.to_be_bytes());
        bytes.extend(self.receipt.as_bytes());
        if let JobState::Saved(sha256) = &self.state {
            bytes.push(b' ');
            bytes.extend(sha256.as_bytes());
        }
        Ok(bytes)
    }

    /// What [`Job::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Job> {
        let (kind, rest) = bytes.split_first().context("a job without content")?;
        let unsure = match *kind {
            WAITS | SAVED => false,
            WAITS_UNSURE | SAVED_UNSURE => true,
            _ => return Ok(serde_json::from_slice(bytes)?),
        };
        let (time, text) = rest.split_first_chunk().context("a job without time")?;
        let text = std::str::from_utf8(text)?;
        let (receipt, state) = match text.split_once(' ') {
            Some((receipt, sha256)) => (receipt, JobState::Saved(sha256.to_owned())),
            None => (text, JobState::untouched()),
        };
        let (receipt, submitted_ms) = (receipt.to_owned(), i64::from_be_bytes(*time));
        Ok(Job { media_id: None, receipt, submitted_ms, unsure, state })
    }
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
    fn a_job_comes_back_as_it_was() {
        let tried = JobState::Waiting { attempts: 2, last_code: Some("40007".into()), in_a_row: 1 };
        let given_up = Kept { code: "40007".into(), detail: "a b".into(), at_ms: 9 };
        for state in
            [JobState::untouched(), tried, JobState::Saved("ab".repeat(32)), JobState::Failed(given_up)]
        {
            let is_named = !matches!(state, JobState::Saved(_)) && state != JobState::untouched();
            for unsure in [false, true] {
                let media_id = is_named.then(|| MediaId::parse("a").unwrap());
                let (receipt, state) = ("abcdefghjk".to_owned(), state.clone());
                let job = Job { media_id, receipt, submitted_ms: 1 << 41, unsure, state };
                let bytes = job.to_bytes().unwrap();
                assert_eq!(Job::from_bytes(&bytes).unwrap(), job);
                assert!(job.state != JobState::untouched() || bytes.len() == 19, "{}", bytes.len());
            }
        }
        for damaged in [&b""[..], b"w", b"w1234567", b"{}", b"x"] {
            Job::from_bytes(damaged).unwrap_err();
        }
    }

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
