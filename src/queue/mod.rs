//! The queue: what is still owed. Every id that was promised is here until it is a picture or on the failed
//! list, and its receipt until 30 days later.
//!
//! Two stores, with different duties. The [`journal`] is the promise: one checksummed line a submission, synced
//! before the answer. sled ([`store`]) is the order: due times, attempts, receipts, failed list. sled's own
//! `flush` does not survive a power cut and a single bad byte can make it panic at open, so nothing rests on
//! it: when it is damaged or gone it is set aside and filled again from the journal, and the album (asked
//! through [`SavedLookup`], because this room does not know it) says what is there already.
//!
//! Submissions that come together share one sync. The room does not know what a picture is, how it is fetched,
//! or when to try again; the collector tells it what became of a claim.

mod books;
mod jobs;
mod journal;
mod opening;
mod order;
mod receipts;
mod record;
mod store;

pub use books::Books;
pub use record::{Failed, JobState, ReceiptView, Submission};

use crate::ground::clock::SharedClock;
use crate::ground::commit::{Crowd, GroupCommit};
use crate::ground::media_id::MediaId;
use crate::ground::random::SharedRandom;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Submissions that share one sync at most.
const COMMIT_BATCH_MAX: usize = 512;

/// The committing thread's stack: sled's trees are shallow.
const STACK_BYTES: usize = 512 * 1024;

/// Ids that are compared with the album at once while the queue is filled again.
const REPLAY_BATCH: usize = 10_000;

const DAY_MS: i64 = 86_400_000;

/// What the room needs to know.
pub struct QueueOptions {
    /// Holds `journal/` and `queue/`.
    pub data_dir: PathBuf,
    /// The most ids that may wait.
    pub waiting_max: u64,
    /// Bytes that must stay free for the queue itself; below it submissions are refused.
    pub reserve_bytes: u64,
    /// From submission until WeChat deletes the picture.
    pub deadline: Duration,
    /// Time.
    pub clock: SharedClock,
    /// Chance.
    pub random: SharedRandom,
    /// How many could submit at the moment.
    pub crowd: Crowd,
}

/// Asked when the queue is filled again: what the album has of a day (`2026-11-22`), each with its SHA-256 in
/// lower-case hex.
pub type SavedLookup<'a> = dyn Fn(&str) -> HashMap<MediaId, String> + 'a;

/// A job that one worker holds.
#[derive(Clone, Debug)]
pub struct Claim {
    /// WeChat's id.
    pub media_id: MediaId,
    /// The receipt under which it first came.
    pub receipt: String,
    /// What came with it.
    pub submission: Submission,
    /// When it was submitted, wall clock.
    pub submitted_ms: i64,
    /// Whether the wall clock could be believed then.
    pub clock_trusted: bool,
    /// How long ago that was; `None` when the clocks cannot tell.
    pub age_ms: Option<i64>,
    /// Attempts that were counted against it.
    pub attempts: u32,
    /// The code of the last one.
    pub last_code: Option<String>,
    /// How many of the last ones had this code.
    pub in_a_row: u32,
}

/// A submission that is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What the contributor holds.
    pub receipt: String,
    /// Ids that were not known before.
    pub new_ids: usize,
}

/// Why a submission was not taken. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many ids wait as the settings allow.
    #[error("could not take the submission: {0} ids are waiting already (limits.queue)")]
    Full(u64),
    /// The disk of the queue is full.
    #[error("could not take the submission: no room left for the queue")]
    NoRoom,
    /// The disk of the queue fails.
    #[error("could not take the submission: {0}")]
    Disk(String),
}

/// Numbers for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ids that are neither picture nor failed, claimed ones included.
    pub waiting: u64,
    /// Ids that a worker holds.
    pub claimed: u64,
    /// Pictures whose receipts have not expired.
    pub saved: u64,
    /// Length of the failed list.
    pub failed: u64,
}

impl Counts {
    /// How many stand so; not how many are claimed.
    fn of(&mut self, state: &JobState) -> &mut u64 {
        match state {
            JobState::Waiting { .. } => &mut self.waiting,
            JobState::Saved(_) => &mut self.saved,
            JobState::Failed(_) => &mut self.failed,
        }
    }
}

/// The queue, opened; everything but [`Queue::accept`] is its books'.
pub struct Queue {
    books: Arc<Books>,
    intake: Arc<GroupCommit<Submission, Result<Accepted, Refused>>>,
    committer: Option<JoinHandle<()>>,
}

impl Queue {
    /// Opens the queue: sled as it was, or set aside and made anew when it is damaged; then whatever the journal
    /// holds beyond it. `saved` is asked only for what has to be filled in.
    pub fn open(options: QueueOptions, saved: &SavedLookup<'_>) -> Result<Queue> {
        let intake = Arc::new(GroupCommit::new(COMMIT_BATCH_MAX, options.crowd.clone()));
        let books = Arc::new(Books::open(options, saved)?);
        let (place, desk) = (intake.clone(), books.clone());
        // One thread, because sled keeps what it wants to free by thread: with every web handler taking a turn, a busy
        // box held twice as much.
        let committer = thread::Builder::new()
            .name("queue-commit".into())
            .stack_size(STACK_BYTES)
            .spawn(move || place.serve(|batch, answer| desk.commit_batch(batch, answer)))
            .context("could not start the queue's thread")?;
        Ok(Queue { books, intake, committer: Some(committer) })
    }

    /// Takes a submission; returns once it is on stable storage. Ids that are known already make no second job,
    /// and a submission of nothing but known ids gets the receipt that it got before.
    pub fn accept(&self, submission: Submission) -> Result<Accepted, Refused> {
        let broke_off = || Err(Refused::Disk("the commit broke off".to_owned()));
        self.intake.submit(submission).unwrap_or_else(broke_off)
    }
}

impl Deref for Queue {
    type Target = Books;

    fn deref(&self) -> &Books {
        &self.books
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.intake.close();
        // What it panics with is caught commit by commit.
        let _ = self.committer.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
