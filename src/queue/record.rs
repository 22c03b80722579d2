//! What the queue writes down: the journal's line, sled's values, and what other rooms get to see of them.

use super::SavedAs;
use crate::ground::media_id::MediaId;
use serde::{Deserialize, Serialize};

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

impl Entry {
    /// The journal's line: CRC-32 of the JSON in hex, a space, the JSON, a line break.
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
    }

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
    /// A picture.
    Saved(SavedAs),
    /// Given up.
    Failed(Kept),
}

/// Most ids are fetched at the first try; what is not written down of them is a third of their record.
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

/// sled's value for one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub receipt: String,
    /// What the deadline counts from; the entry keeps what the wall clock said.
    pub submitted_ms: i64,
    /// `submitted_ms` is not to be believed. Such jobs come first, until the true time is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
    /// While it waits: by itself, and not as part of its receipt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    pub state: JobState,
}

impl Job {
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, JobState::Waiting { .. })
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
    fn a_line_comes_back_or_is_refused_whole() {
        let ids = vec![MediaId::parse("a").unwrap(), MediaId::parse("b-_").unwrap()];
        let submission =
            Submission { ids, note: "两\n行".into(), latitude: Some(-1.5), ..Submission::default() };
        let moment = Some(Moment { boot_id: "b".into(), monotonic_ms: 7 });
        let entry = Entry { receipt: "r".into(), submitted_ms: 5, clock_trusted: false, moment, submission };
        let line = entry.to_line();
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
