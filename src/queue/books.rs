//! The queue's books: journal and sled, what is written into them, and what is told from them.

use super::jobs::{JobKey, key_of};
use super::journal::Journal;
use super::opening::{open_anew, open_store, take_the_rest};
use super::order;
use super::record::{Entry, Kept, Moment, Record};
use super::store::{Now, Store, StoreFault};
use super::{
    Accepted, Claim, Counts, DAY_MS, Failed, JobState, QueueOptions, ReceiptView, Refused, SavedLookup,
    Submission,
};
use crate::ground::bell::Bell;
use crate::ground::clock::day_utc;
use crate::ground::durable;
use crate::ground::media_id::MediaId;
use crate::ground::random::READABLE;
use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Characters of a receipt: 31^10 are too many to guess at a few a second.
const RECEIPT_LENGTH: usize = 10;

/// Openings that fail although there is room on the disk, before sled's folder is set aside.
pub(super) const STUCK_AFTER: u32 = 6;

/// Characters that are kept of why an id was given up.
const DETAIL_LENGTH_MAX: usize = 1000;

/// How long receipts of settled submissions are kept.
const RECEIPT_LIFE_MS: i64 = 30 * DAY_MS;

/// What is owed, and what became of it.
pub struct Books {
    options: QueueOptions,
    journal: Mutex<Journal>,
    /// Why the last lines could not be written, until some can.
    ailment: Mutex<Option<Refused>>,
    inner: Mutex<Inner>,
    bell: Bell,
}

pub(super) struct Inner {
    /// `None` while sled is sick.
    store: Option<Store>,
    /// Whether its content is to blame.
    is_damaged: bool,
    /// How often it could not be opened again since.
    failed_openings: u32,
    claimed: HashSet<MediaId>,
}

impl Books {
    /// Opens them: sled as it was, or set aside and made anew when it is damaged; then whatever the journal
    /// holds beyond it. `saved` is asked only for what has to be filled in.
    pub(super) fn open(options: QueueOptions, saved: &SavedLookup<'_>) -> Result<Books> {
        for folder in ["journal", "queue"] {
            let path = options.data_dir.join(folder);
            durable::create_private_folder(&path)
                .with_context(|| format!("could not make {}", path.display()))?;
        }
        let store = match open_store(&options, saved) {
            Ok(store) => Some(store),
            Err(StoreFault::Locked(error)) => return Err(error),
            Err(StoreFault::Damaged(error) | StoreFault::Elsewhere(error)) => {
                log::error!("{error:#}; submissions are taken all the same, and it is tried again");
                None
            }
        };
        let journal = Journal::open(&options.data_dir.join("journal"), options.clock.clone())?;
        Ok(Books {
            options,
            journal: Mutex::new(journal),
            ailment: Mutex::default(),
            inner: Mutex::new(Inner {
                store,
                is_damaged: false,
                failed_openings: 0,
                claimed: HashSet::new(),
            }),
            bell: Bell::default(),
        })
    }

    /// Rung when there may be new work.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Takes what came in together, and gives one answer each, in their order.
    pub(super) fn commit_batch(
        &self,
        batch: Vec<Submission>,
        answer: &mut dyn FnMut(Vec<Result<Accepted, Refused>>),
    ) {
        let free_bytes = durable::free_bytes(&self.options.data_dir).unwrap_or(u64::MAX);
        let mut plan = Plan { now: self.now(), free_bytes, ..Plan::default() };
        let answers: Vec<_> = batch.into_iter().map(|submission| self.plan(&mut plan, submission)).collect();
        if plan.records.is_empty() {
            return answer(answers);
        }
        let mut lines = String::new();
        plan.records.iter().for_each(|record| record.add_line(&mut lines));
        // Held until sled has the entries too, so that a position never lies beyond what sled knows.
        let mut journal = self.journal_lock();
        if let Err(refused) = self.append(&mut journal, &lines) {
            log::error!("{refused}");
            let receipts: HashSet<&str> =
                plan.records.iter().map(|record| record.entry.receipt.as_str()).collect();
            // Answers that name a receipt of this very batch fall with it.
            let keep = |answer: Result<Accepted, Refused>| match answer {
                Ok(accepted) if receipts.contains(accepted.receipt.as_str()) => Err(refused.clone()),
                other => other,
            };
            return answer(answers.into_iter().map(keep).collect());
        }
        // It is promised now. Who asks for it at once waits until sled knows it too, by this lock.
        let mut inner = self.lock();
        answer(answers);
        inner.with_store(|store, _| plan.records.iter().try_for_each(|record| store.insert(record)));
        drop(inner);
        self.bell.ring();
    }

    fn append(&self, journal: &mut Journal, lines: &str) -> Result<(), Refused> {
        let done = journal.append(lines).map_err(|error| {
            if durable::is_no_room(&error) { Refused::NoRoom } else { Refused::Disk(error.to_string()) }
        });
        *self.ailment() = done.clone().err();
        done
    }

    /// What the journal would have to say about one submission.
    fn plan(&self, plan: &mut Plan, submission: Submission) -> Result<Accepted, Refused> {
        let keys: Vec<JobKey> = submission.ids.iter().map(key_of).collect();
        let (known, waiting) = self
            .with_store(|store, _| {
                let known: Result<Vec<_>> = keys.iter().map(|key| store.receipt_of(key)).collect();
                Ok((known?, store.counts().waiting))
            })
            .unwrap_or_else(|| (vec![None; keys.len()], 0));
        let known: Vec<Option<String>> =
            keys.iter().zip(known).map(|(key, stored)| stored.or_else(|| plan.receipt_of(key))).collect();
        if let Some(Some(first)) = known.first()
            && known.iter().all(|receipt| receipt.as_ref() == Some(first))
        {
            return Ok(Accepted { receipt: first.clone(), new_ids: 0 });
        }
        let new_ids = known.iter().filter(|receipt| receipt.is_none()).count();
        if waiting + plan.new_ids + new_ids as u64 > self.options.waiting_max {
            return Err(Refused::Full(waiting));
        }
        if plan.free_bytes < self.options.reserve_bytes {
            return Err(Refused::NoRoom);
        }
        let receipt = self.options.random.text(RECEIPT_LENGTH, READABLE);
        let now = &plan.now;
        let moment = || Moment { boot_id: now.boot_id.clone(), monotonic_ms: order::ms(now.monotonic) };
        let entry = Entry {
            receipt: receipt.clone(),
            submitted_ms: now.wall_ms,
            clock_trusted: now.wall_is_sure,
            moment: (!now.wall_is_sure).then(moment),
            submission,
        };
        let record = Record::with_keys(entry, keys).map_err(|error| Refused::Disk(error.to_string()))?;
        for key in &record.keys {
            plan.record_of.entry(*key).or_insert(plan.records.len());
        }
        plan.new_ids += new_ids as u64;
        plan.records.push(record);
        Ok(Accepted { receipt, new_ids })
    }

    /// The waiting id whose deadline comes first, among those that are due; of one submission, in the contributor's
    /// order. It is nobody else's until it is completed, postponed, failed or released.
    pub fn claim(&self) -> Option<Claim> {
        let now = self.now();
        self.with_store(|store, claimed| {
            store.make_ready(now.monotonic)?;
            let claim = store.first_due(claimed, &now)?;
            if let Some(claim) = &claim {
                claimed.insert(claim.media_id.clone());
            }
            Ok(claim)
        })?
    }

    /// How long until a postponed id is due; `None` when there is none.
    pub fn next_due(&self) -> Option<Duration> {
        let now = self.options.clock.monotonic();
        self.with_store(|store, _| store.next_due())?.map(|due| due.saturating_sub(now))
    }

    /// The picture of a claim is kept; its SHA-256 in lower-case hex.
    pub fn complete(&self, media_id: &MediaId, sha256: &str) {
        self.settle(media_id, |store| store.set_state(media_id, &JobState::Saved(sha256.to_owned())));
    }

    /// Gives a claim back, due after `wait`. `attempt`: count it, and remember the code.
    pub fn postpone(&self, media_id: &MediaId, wait: Duration, attempt: Option<&str>) {
        let due = self.options.clock.monotonic() + wait;
        self.settle(media_id, |store| store.postpone(media_id, due, attempt));
    }

    /// Gives a claim back as if it had never been taken.
    pub fn release(&self, media_id: &MediaId) {
        self.settle(media_id, |store| {
            store.give_back(media_id);
            Ok(())
        });
        self.bell.ring();
    }

    /// Puts a claim on the failed list.
    pub fn fail(&self, media_id: &MediaId, code: &str, detail: &str) {
        let detail = detail.chars().take(DETAIL_LENGTH_MAX).collect();
        let failed = Kept { code: code.to_owned(), detail, at_ms: self.options.clock.wall_ms() };
        self.settle(media_id, |store| store.set_state(media_id, &JobState::Failed(failed)));
    }

    /// Puts failed ids back; `None`: all of them. Returns how many were on the failed list.
    pub fn retry(&self, ids: Option<&[MediaId]>) -> usize {
        let put_back = self.with_store(|store, _| {
            let ids = match ids {
                Some(ids) => ids.to_vec(),
                None => store.failed(usize::MAX)?.into_iter().map(|failed| failed.media_id).collect(),
            };
            let mut count = 0;
            for id in &ids {
                count += usize::from(store.retry(id)?);
            }
            Ok(count)
        });
        self.bell.ring();
        put_back.unwrap_or(0)
    }

    /// Makes every postponed id due now.
    pub fn hasten(&self) {
        self.with_store(|store, _| store.make_all_ready());
        self.bell.ring();
    }

    /// What became of the ids of a receipt; `None` for a receipt that does not exist or has expired.
    pub fn receipt(&self, receipt: &str) -> Option<ReceiptView> {
        self.with_store(|store, _| store.receipt(receipt))?
    }

    /// The failed list, at most `count_max` of it.
    pub fn failed(&self, count_max: usize) -> Vec<Failed> {
        self.with_store(|store, _| store.failed(count_max)).unwrap_or_default()
    }

    /// Numbers for status and metrics.
    pub fn counts(&self) -> Counts {
        let counts =
            self.with_store(|store, claimed| Ok(Counts { claimed: claimed.len() as u64, ..store.counts() }));
        counts.unwrap_or_default()
    }

    /// The days (`2026-11-22`) on which ids came that are still owed; just after opening, all of them. Only their
    /// pictures can have been in hand when the last run ended.
    pub fn days_owed(&self) -> Vec<String> {
        let days = self.with_store(|store, _| store.days_owed()).unwrap_or_default();
        days.into_iter().map(|day| day_utc(day * DAY_MS)).collect()
    }

    /// Wall-clock milliseconds of the deadline that comes first; `None` when nothing waits. For moments it may be that of
    /// a submission of which nothing waits any more.
    pub fn oldest_deadline_ms(&self) -> Option<i64> {
        self.with_store(|store, _| store.oldest_deadline_ms())?
    }

    /// Whether a submission could be taken now: journal writable, as far as is known, and room for it.
    pub fn can_accept(&self) -> Result<(), Refused> {
        let free =
            durable::free_bytes(&self.options.data_dir).map_err(|error| Refused::Disk(error.to_string()))?;
        if free < self.options.reserve_bytes {
            return Err(Refused::NoRoom);
        }
        self.ailment().clone().map_or(Ok(()), Err)
    }

    /// Housekeeping, called every few seconds: makes durable what sled alone holds, opens sled again after it
    /// failed, tries a journal that failed, lets expired receipts go.
    ///
    /// On a full disk it does nothing: sled would fail and then stay so, and what it holds in memory is of more use.
    pub fn tend(&self, saved: &SavedLookup<'_>) {
        let free = durable::free_bytes(&self.options.data_dir).unwrap_or(u64::MAX);
        if free < self.options.reserve_bytes / 2 {
            return;
        }
        let is_ailing = self.ailment().is_some();
        if is_ailing && self.append(&mut self.journal_lock(), "").is_ok() {
            log::warn!("the journal can be written again");
        }
        self.reopen_if_sick(saved);
        let position = self.journal_lock().position();
        let now = self.now();
        let expired_before = now.wall_ms - RECEIPT_LIFE_MS;
        self.with_store(|store, _| {
            if now.wall_is_sure {
                store.expire(expired_before, now.wall_ms)?;
            }
            store.make_durable(&position)
        });
        if !now.wall_is_sure {
            return;
        }
        // A day that was not sure may be today: then the receipt has to be gone too.
        let is_settled = |id: &MediaId, day_is_sure: bool| {
            let state = self.with_store(|store, _| store.state(id));
            state.is_some_and(|state| match state {
                None => true,
                Some(JobState::Waiting { .. }) => false,
                Some(_) => day_is_sure,
            })
        };
        if let Err(error) = self.journal_lock().remove_settled(expired_before, is_settled) {
            log::warn!("could not tidy the journal: {error:#}");
        }
    }

    /// Makes everything durable and marks the end as orderly, so that the next start need not count. Nothing works
    /// afterwards.
    pub fn close(&self) {
        let position = self.journal_lock().position();
        let mut inner = self.lock();
        inner.with_store(|store, _| store.close(&position));
        inner.let_go();
    }

    /// Submissions go on meanwhile: what comes while the journal is read is taken from its end.
    fn reopen_if_sick(&self, saved: &SavedLookup<'_>) {
        let Some(is_hopeless) = self.lock().is_sick() else { return };
        let from = self.journal_lock().position();
        let open = if is_hopeless { open_anew } else { open_store };
        let opened = open(&self.options, saved).and_then(|mut store| {
            let journal = self.journal_lock();
            take_the_rest(&mut store, &self.options, &from)?;
            self.lock().recover(store);
            drop(journal);
            Ok(())
        });
        match opened {
            Ok(()) => {
                log::warn!("the queue is open again");
                self.bell.ring();
            }
            Err(StoreFault::Locked(error) | StoreFault::Damaged(error) | StoreFault::Elsewhere(error)) => {
                self.lock().failed_openings += 1;
                log::error!("could not open the queue again: {error:#}");
            }
        }
    }

    /// Under one lock, or somebody else's next claim could be taken for the one that ends here.
    fn settle(&self, media_id: &MediaId, change: impl FnOnce(&mut Store) -> Result<()>) {
        let mut inner = self.lock();
        inner.with_store(|store, _| change(store));
        // Also when sled is sick: the claim must not outlive its worker.
        inner.claimed.remove(media_id);
    }

    fn with_store<T>(&self, work: impl FnOnce(&mut Store, &mut HashSet<MediaId>) -> Result<T>) -> Option<T> {
        self.lock().with_store(work)
    }

    fn now(&self) -> Now {
        let clock = &self.options.clock;
        Now {
            monotonic: clock.monotonic(),
            boot_id: clock.boot_id(),
            wall_ms: clock.wall_ms(),
            wall_is_sure: clock.wall_is_sure(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ailment(&self) -> MutexGuard<'_, Option<Refused>> {
        self.ailment.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn journal_lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// `None` when all is well; otherwise whether sled's folder is beyond hope.
    fn is_sick(&self) -> Option<bool> {
        self.store.is_none().then_some(self.is_damaged || self.failed_openings >= STUCK_AFTER)
    }

    fn recover(&mut self, store: Store) {
        self.store = Some(store);
        self.failed_openings = 0;
        self.is_damaged = false;
    }

    /// Runs `work` on sled. An error or a panic closes sled until [`Books::tend`] opens it again: after a full disk it
    /// goes on failing until it is reopened. What was promised is in the journal all the while.
    fn with_store<T>(
        &mut self,
        work: impl FnOnce(&mut Store, &mut HashSet<MediaId>) -> Result<T>,
    ) -> Option<T> {
        let open = self.store.as_mut()?;
        let claimed = &mut self.claimed;
        let done = catch_unwind(AssertUnwindSafe(|| work(open, claimed)));
        match done.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))) {
            Ok(done) => Some(done),
            Err(error) => {
                log::error!("the queue's database fails and is opened again: {error:#}");
                self.is_damaged = matches!(StoreFault::of(error), StoreFault::Damaged(_));
                self.let_go();
                None
            }
        }
    }

    /// Closes sled, which writes once more and panics when that fails.
    pub(super) fn let_go(&mut self) {
        let store = self.store.take();
        if catch_unwind(AssertUnwindSafe(|| drop(store))).is_err() {
            log::error!("the queue's database failed while it was closed");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What one batch is going to write.
#[derive(Default)]
struct Plan {
    now: Now,
    free_bytes: u64,
    records: Vec<Record>,
    /// In which record an id comes first.
    record_of: HashMap<JobKey, usize>,
    new_ids: u64,
}

impl Plan {
    fn receipt_of(&self, key: &JobKey) -> Option<String> {
        Some(self.records.get(*self.record_of.get(key)?)?.entry.receipt.clone())
    }
}
