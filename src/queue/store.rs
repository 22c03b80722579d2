//! sled: order, due times, attempts, receipts, failed list. Its parts are [`jobs`](super::jobs),
//! [`order`](super::order) and [`receipts`](super::receipts); nothing else names sled. Trees, besides theirs:
//! - `failed`: media_id → nothing.
//! - `meta`: format, journal position, the secret of the buckets, counts at an orderly end.
//!
//! sled's trees are not written as one, so after anything but an orderly end `failed`, the counts and the order of what
//! waits alone are made anew from `jobs`. What the timeline may have lost is at the end of the journal.

use super::jobs::{Apart, Job, JobKey, Jobs, key_of};
use super::journal::Position;
use super::order::{Order, ms, parse_id};
use super::receipts::{TimedKey, behind_time, time_of};
use super::record::{Entry, Failed, JobState, Moment, ReceiptView, Record};
use super::{Claim, Counts};
use crate::ground::durable;
use crate::ground::media_id::MediaId;
use crate::ground::random::SharedRandom;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sled::{Db, Tree};
use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The layout of the trees. A database of another one is set aside and filled again.
const FORMAT: u32 = 3;

/// sled's default of 1 GB is for servers.
const CACHE_BYTES: u64 = 2 << 20;

/// sled writes in pieces of this size, and under load it holds a dozen of them in memory; its default of 512 KB is for
/// servers too. An entry that does not fit gets a file of its own.
const SEGMENT_BYTES: usize = 256 << 10;

/// Receipts that one call of [`Store::expire`] lets go at most, so that nobody waits long for the lock.
const EXPIRE_MAX: usize = 200;

pub(super) struct Store {
    db: Db,
    jobs: Jobs,
    failed: Tree,
    meta: Tree,
    order: Order,
    data_file: File,
    blobs: PathBuf,
    deadline_ms: i64,
    counts: Counts,
    /// Ids that wait as part of their receipt.
    parts: u64,
    is_dirty: bool,
    durable_position: Option<Position>,
    /// The entry that was claimed from last, without its ids: the next claim is mostly of the same one.
    last_claimed: Option<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    position: Option<Position>,
    /// See [`Jobs::open`].
    #[serde(default)]
    secret: u64,
    /// Set only by an orderly end: waiting, saved, failed; and those of the waiting that do so as part of their receipt.
    counts: Option<(u64, u64, u64, u64)>,
    /// Receipts of before are through; set with `counts`.
    #[serde(default)]
    fresh_from_ms: i64,
}

/// Why the database could not be opened.
#[derive(Debug)]
pub(super) enum StoreFault {
    /// Another process holds it.
    Locked(anyhow::Error),
    /// Its content is damaged, or of another version.
    Damaged(anyhow::Error),
    /// The disk is full or fails: no fault of its content.
    Elsewhere(anyhow::Error),
}

impl StoreFault {
    /// By what lies at the bottom of `error`. Only the operating system's own errors are no fault of the content.
    pub fn of(error: anyhow::Error) -> StoreFault {
        let io = error.chain().find_map(|cause| match cause.downcast_ref() {
            Some(sled::Error::Io(io)) => Some(io),
            _ => cause.downcast_ref::<std::io::Error>(),
        });
        match io.map(|io| (io.raw_os_error(), io.to_string())) {
            // sled's own words; it gives no code.
            Some((None, text)) if text.contains("could not acquire lock") => StoreFault::Locked(error),
            // sled clones its errors by writing them out.
            Some((code, text)) if code.is_some() || text.starts_with("Os {") => StoreFault::Elsewhere(error),
            _ => StoreFault::Damaged(error),
        }
    }
}

impl Store {
    /// Opens the database in `folder`. Damage is an error here, also where sled panics on it.
    pub fn open(folder: &Path, deadline_ms: i64, random: &SharedRandom) -> Result<Store, StoreFault> {
        let opened = catch_unwind(AssertUnwindSafe(|| Store::open_or_panic(folder, deadline_ms, random)));
        let opened = opened.unwrap_or_else(|_| Err(anyhow::anyhow!("its file is damaged")));
        let opening = || format!("could not open the queue in {}", folder.display());
        opened.with_context(opening).map_err(StoreFault::of)
    }

    fn open_or_panic(folder: &Path, deadline_ms: i64, random: &SharedRandom) -> Result<Store> {
        let is_new = !folder.join("db").exists();
        let db = config(folder).open()?;
        let tree = |name: &str| db.open_tree(name);
        let meta = tree("meta")?;
        let told: Option<Meta> = meta.get("meta")?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?;
        let secret = told.as_ref().map_or_else(|| random.u64(), |told| told.secret);
        let mut store = Store {
            jobs: Jobs::open(&db, secret)?,
            failed: tree("failed")?,
            meta,
            order: Order::open(&db)?,
            data_file: File::open(folder.join("db"))?,
            blobs: folder.join("blobs"),
            db,
            deadline_ms,
            counts: Counts::default(),
            parts: 0,
            is_dirty: true,
            durable_position: None,
            last_claimed: None,
        };
        store.prepare(told)?;
        if is_new {
            // sled never syncs its settings, nor the names of its files.
            File::open(folder.join("conf"))?.sync_all()?;
            durable::sync_folder(folder)?;
        }
        Ok(store)
    }

    fn prepare(&mut self, told: Option<Meta>) -> Result<()> {
        match &told {
            Some(told) if told.format != FORMAT => {
                bail!("its format is {}, this version reads {FORMAT}", told.format);
            }
            None if !self.jobs.is_empty() => bail!("it has jobs but no record of its format"),
            _ => {}
        }
        self.durable_position = told.as_ref().and_then(|told| told.position.clone());
        let is_counted = told.as_ref().is_none_or(|told| told.counts.is_some());
        match told.and_then(|told| Some((told.counts?, told.fresh_from_ms))) {
            Some(((waiting, saved, failed, parts), fresh_from_ms)) => {
                self.counts = Counts { waiting, claimed: 0, saved, failed };
                self.parts = parts;
                self.order.begin_at(fresh_from_ms);
                self.order.make_all_ready()?;
            }
            None => self.count_again()?,
        }
        self.put_meta(None)?;
        // From now on no start may believe what was counted, and none may be without the secret.
        if is_counted { self.sync() } else { Ok(()) }
    }

    fn count_again(&mut self) -> Result<()> {
        let mut through = self.order.begin_anew()?;
        self.failed.clear()?;
        self.counts = Counts::default();
        let Store { jobs, order, failed, counts, parts, .. } = self;
        jobs.for_each(|Job { receipt, apart, state }| {
            *counts.of(&state) += 1;
            match (&state, &apart) {
                (JobState::Waiting { .. }, Some(apart)) => order.put_ready(apart),
                (JobState::Waiting { .. }, None) => {
                    *parts += 1;
                    order.receipts().freshen(&mut through, &receipt)
                }
                (JobState::Failed(_), Some(apart)) => {
                    failed.insert(apart.media_id.as_str(), &[])?;
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }

    /// Everything before it is in this database and on stable storage.
    pub fn journal_position(&self) -> Option<Position> {
        self.durable_position.clone()
    }

    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    pub fn receipt_of(&self, key: &JobKey) -> Result<Option<String>> {
        Ok(self.jobs.get(key)?.map(|job| job.receipt))
    }

    pub fn state(&self, id: &MediaId) -> Result<Option<JobState>> {
        Ok(self.job(id)?.map(|job| job.state))
    }

    /// Takes an entry of the journal; what is known of it already stays as it is.
    pub fn insert(&mut self, record: &Record) -> Result<()> {
        self.is_dirty = true;
        let entry = &record.entry;
        let job = Job { receipt: entry.receipt.clone(), apart: None, state: JobState::untouched() };
        let mut is_fresh = false;
        for key in &record.keys {
            let known = self.jobs.add(key, &job)?;
            self.counts.waiting += u64::from(known.is_none());
            self.parts += u64::from(known.is_none());
            // A sudden end may have kept the job and lost its receipt.
            is_fresh |= known.is_none_or(|known| known == job);
        }
        let time_ms = if entry.clock_trusted { entry.submitted_ms } else { 0 };
        self.order.add(time_ms, record, is_fresh)
    }

    /// Moves what is due by `now` to where it can be claimed.
    pub fn make_ready(&mut self, now: Duration) -> Result<()> {
        self.order.make_ready(now)
    }

    /// As if everything were due.
    pub fn make_all_ready(&mut self) -> Result<()> {
        self.order.make_all_ready()
    }

    /// The due id that came first and is not in `claimed`.
    pub fn first_due(&mut self, claimed: &HashSet<MediaId>, now: &Now) -> Result<Option<Claim>> {
        loop {
            let alone = self.order.first_alone(claimed)?;
            let receipt = self.order.first_receipt()?;
            let is_alone_first = match (&alone, &receipt) {
                (Some((time_ms, _)), Some((key, _))) => *time_ms <= time_of(key)?,
                (alone, _) => alone.is_some(),
            };
            let found = match (alone, receipt) {
                (Some((time_ms, id)), _) if is_alone_first => {
                    self.job_alone(&id, time_ms)?.map(|job| (id, job))
                }
                (_, Some((key, true))) => self.take_of(key, claimed)?,
                (_, Some((key, false))) => {
                    self.open_receipt(key)?;
                    None
                }
                (_, None) => return self.nothing_is_missing().map(|()| None),
            };
            if let Some((id, job)) = found {
                return self.claim_of(id, job, now).map(Some);
            }
        }
    }

    /// No id is due. Those that wait have to be somewhere all the same.
    fn nothing_is_missing(&self) -> Result<()> {
        let (parts, out) = (self.parts, self.order.count_out());
        ensure!(parts == out, "{parts} ids wait as part of their receipts, and {out} are found");
        let alone = self.counts.waiting.saturating_sub(parts);
        ensure!(alone == 0 || !self.order.has_none_alone(), "{alone} ids wait alone, and none is found");
        Ok(())
    }

    /// The job of an id that waits alone, under this time; otherwise it does not belong there.
    fn job_alone(&mut self, id: &MediaId, time_ms: i64) -> Result<Option<Job>> {
        let is_there = |job: &Job| {
            job.is_waiting() && job.apart.as_ref().is_some_and(|apart| apart.order_ms() == time_ms)
        };
        let job = self.job(id)?.filter(is_there);
        if job.is_none() {
            self.order.remove_ready(time_ms, id)?;
        }
        Ok(job)
    }

    /// The next id of an opened receipt, if it waits as part of it.
    fn take_of(&mut self, key: TimedKey, claimed: &HashSet<MediaId>) -> Result<Option<(MediaId, Job)>> {
        let Some(id) = self.order.take(&key) else {
            self.order.pass_over(key)?;
            return Ok(None);
        };
        let job = self.job(&id)?;
        match job.filter(|job| job.is_part() && job.receipt.as_bytes() == behind_time(&key)) {
            Some(job) if !claimed.contains(&id) => {
                self.order.hand_out(&id, key);
                return Ok(Some((id, job)));
            }
            // Claimed before the database was opened again.
            Some(job) => {
                let apart = self.apart(&id, &job)?;
                self.set_alone(apart, job)?;
            }
            None => {}
        }
        self.order.pass_over(key)?;
        Ok(None)
    }

    fn set_alone(&mut self, apart: Apart, job: Job) -> Result<()> {
        self.order.put_ready(&apart)?;
        self.order.part(&apart.media_id)?;
        self.put_job(&apart.media_id.clone(), job.is_part(), Job { apart: Some(apart), ..job })
    }

    /// What is known of an id apart from its receipt, or is to be known from now on.
    fn apart(&mut self, id: &MediaId, job: &Job) -> Result<Apart> {
        if let Some(apart) = &job.apart {
            return Ok(apart.clone());
        }
        Ok(Apart::of(id, &self.entry_without_ids(&job.receipt)?))
    }

    fn open_receipt(&mut self, key: TimedKey) -> Result<()> {
        let mut entry = self.order.receipts().entry_at(&key)?.context("a receipt is missing")?;
        let ids = std::mem::take(&mut entry.submission.ids);
        self.last_claimed = Some(entry);
        self.order.open_receipt(key, ids);
        Ok(())
    }

    /// What was claimed may be claimed again.
    pub fn give_back(&mut self, id: &MediaId) {
        self.order.give_back(id.clone());
    }

    fn claim_of(&mut self, id: MediaId, job: Job, now: &Now) -> Result<Claim> {
        let entry = self.entry_without_ids(&job.receipt)?;
        let apart = job.apart.clone().unwrap_or_else(|| Apart::of(&id, &entry));
        let age_ms = age_ms(&apart, entry.moment.as_ref(), now);
        if apart.unsure && now.wall_is_sure {
            self.settle_time(apart, job.clone(), age_ms, now)?;
        }
        let JobState::Waiting { attempts, last_code, in_a_row } = job.state else {
            bail!("a claim of what does not wait");
        };
        Ok(Claim {
            media_id: id,
            receipt: job.receipt,
            submitted_ms: entry.submitted_ms,
            clock_trusted: entry.clock_trusted,
            age_ms,
            submission: entry.submission,
            attempts,
            last_code,
            in_a_row,
        })
    }

    fn entry_without_ids(&mut self, receipt: &str) -> Result<Entry> {
        if let Some(last) = self.last_claimed.as_ref().filter(|last| last.receipt == receipt) {
            return Ok(last.clone());
        }
        let mut entry = self.order.receipts().entry(receipt)?.context("a job's receipt is missing")?;
        entry.submission.ids = Vec::new();
        self.last_claimed = Some(entry.clone());
        Ok(entry)
    }

    pub fn next_due(&self) -> Result<Option<Duration>> {
        self.order.next_due()
    }

    /// Back to waiting, due at `due`. An `attempt` is counted under its code.
    pub fn postpone(&mut self, id: &MediaId, due: Duration, attempt: Option<&str>) -> Result<()> {
        let Some(mut job) = self.job(id)? else { return Ok(()) };
        let was_part = job.is_part();
        let JobState::Waiting { attempts, last_code, in_a_row } = &mut job.state else { return Ok(()) };
        if let Some(code) = attempt {
            *attempts += 1;
            *in_a_row = if last_code.as_deref() == Some(code) { *in_a_row + 1 } else { 1 };
            *last_code = Some(code.to_owned());
        }
        let apart = self.apart(id, &job)?;
        self.order.remove_ready(apart.order_ms(), id)?;
        self.order.put_later(due, &apart)?;
        self.order.part(id)?;
        self.put_job(id, was_part, Job { apart: Some(apart), ..job })
    }

    /// Puts a job into a final state, changes one final state into another, or takes it back to waiting, alone and due.
    pub fn set_state(&mut self, id: &MediaId, state: &JobState) -> Result<()> {
        let Some(job) = self.job(id)? else { return Ok(()) };
        if let Some(apart) = job.apart.as_ref().filter(|_| job.is_waiting()) {
            self.order.remove_ready(apart.order_ms(), id)?;
        }
        let apart = match state {
            JobState::Saved(_) => None,
            _ => Some(self.apart(id, &job)?),
        };
        if let (JobState::Waiting { .. }, Some(apart)) = (state, &apart) {
            self.order.put_ready(apart)?;
        }
        let (was_part, before) = (job.is_part(), job.state);
        self.put_job(id, was_part, Job { receipt: job.receipt, apart, state: state.clone() })?;
        self.order.part(id)?;
        match (&before, state) {
            (_, JobState::Failed(_)) => self.failed.insert(id.as_str(), &[])?,
            (JobState::Failed(_), _) => self.failed.remove(id.as_str())?,
            _ => None,
        };
        *self.counts.of(&before) = self.counts.of(&before).saturating_sub(1);
        *self.counts.of(state) += 1;
        Ok(())
    }

    /// Puts a failed id back; false when it is not on the failed list.
    pub fn retry(&mut self, id: &MediaId) -> Result<bool> {
        if !self.job(id)?.is_some_and(|job| matches!(job.state, JobState::Failed(_))) {
            return Ok(false);
        }
        self.set_state(id, &JobState::untouched())?;
        Ok(true)
    }

    pub fn receipt(&self, receipt: &str) -> Result<Option<ReceiptView>> {
        let Some(entry) = self.order.receipts().entry(receipt)? else { return Ok(None) };
        let mut pictures = Vec::new();
        for id in entry.submission.ids {
            if let Some(job) = self.job(&id)? {
                pictures.push((id, job.state));
            }
        }
        Ok(Some(ReceiptView { receipt: entry.receipt, submitted_ms: entry.submitted_ms, pictures }))
    }

    pub fn failed(&self, count_max: usize) -> Result<Vec<Failed>> {
        let mut list = Vec::new();
        for entry in self.failed.iter().take(count_max) {
            let (key, _) = entry?;
            let media_id = parse_id(&key)?;
            if let Some(Job { state: JobState::Failed(kept), .. }) = self.job(&media_id)? {
                list.push(Failed { media_id, code: kept.code, detail: kept.detail, at_ms: kept.at_ms });
            }
        }
        Ok(list)
    }

    /// The days on which ids came that are still owed, as far as they are sure; numbered from the epoch.
    pub fn days_owed(&self) -> Result<Vec<i64>> {
        self.order.days_owed()
    }

    /// The deadline that comes first; as the wall clock has it where that is not sure.
    pub fn oldest_deadline_ms(&self) -> Result<Option<i64>> {
        let oldest = self.order.oldest()?;
        let mut submitted_ms = oldest.submitted_ms;
        let mut and =
            |time_ms: i64| submitted_ms = Some(submitted_ms.map_or(time_ms, |first| first.min(time_ms)));
        for key in oldest.receipts {
            self.order.receipts().entry_at(&key)?.into_iter().for_each(|entry| and(entry.submitted_ms));
        }
        for id in oldest.ids {
            self.job(&id)?.and_then(|job| job.apart).into_iter().for_each(|apart| and(apart.submitted_ms));
        }
        Ok(submitted_ms.map(|time_ms| time_ms.saturating_add(self.deadline_ms).max(0)))
    }

    /// Lets receipts of before `before_ms` go, with their ids, when nothing of them is owed. One whose stamp was
    /// not sure is taken to be as young as the first certain moment, which is `now_ms` when it is met here.
    pub fn expire(&mut self, before_ms: i64, now_ms: i64) -> Result<()> {
        let (old, is_dirty) = self.order.receipts().old(before_ms, now_ms, EXPIRE_MAX)?;
        self.is_dirty |= is_dirty;
        for key in old {
            let receipt = String::from_utf8_lossy(behind_time(&key));
            let view = self.receipt(&receipt)?;
            if view.as_ref().is_some_and(|view| !view.is_settled()) {
                continue;
            }
            for (id, state) in view.map(|view| view.pictures).unwrap_or_default() {
                if self.job(&id)?.is_some_and(|job| job.receipt == receipt) {
                    *self.counts.of(&state) = self.counts.of(&state).saturating_sub(1);
                    self.jobs.remove(&key_of(&id))?;
                    self.failed.remove(id.as_str())?;
                }
            }
            self.order.receipts().remove(&key)?;
            self.is_dirty = true;
        }
        Ok(())
    }

    /// sled's flush hands its pages to the kernel; the sync behind it is what survives a power cut. The position
    /// goes in only after everything before it is there.
    pub fn make_durable(&mut self, position: &Position) -> Result<()> {
        if !self.is_dirty {
            return Ok(());
        }
        self.sync()?;
        self.durable_position = Some(position.clone());
        self.put_meta(None)?;
        self.is_dirty = false;
        Ok(())
    }

    /// As [`Store::make_durable`], and lets the next start skip counting.
    pub fn close(&mut self, position: &Position) -> Result<()> {
        self.sync()?;
        self.durable_position = Some(position.clone());
        let Counts { waiting, saved, failed, .. } = self.counts;
        self.put_meta(Some((waiting, saved, failed, self.parts)))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        self.db.flush().context("could not flush the queue")?;
        self.data_file.sync_data().context("could not sync the queue")?;
        self.sync_blobs().context("could not sync the queue's large entries")
    }

    /// What does not fit into a segment is in a file of its own, which sled does not sync.
    fn sync_blobs(&self) -> std::io::Result<()> {
        for blob in std::fs::read_dir(&self.blobs)? {
            match File::open(blob?.path()) {
                // sled has removed it meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => opened?.sync_data()?,
            }
        }
        durable::sync_folder(&self.blobs)
    }

    fn put_meta(&self, counts: Option<(u64, u64, u64, u64)>) -> Result<()> {
        let (position, fresh_from_ms) = (self.durable_position.clone(), self.order.fresh_from()?);
        let meta = Meta { format: FORMAT, position, secret: self.jobs.secret(), counts, fresh_from_ms };
        self.meta.insert("meta", serde_json::to_vec(&meta)?)?;
        Ok(())
    }

    /// `was_part`: whether it has waited as part of its receipt, which it does not any more.
    fn put_job(&mut self, id: &MediaId, was_part: bool, job: Job) -> Result<()> {
        self.is_dirty = true;
        self.parts = self.parts.saturating_sub(u64::from(was_part));
        self.jobs.put(&key_of(id), &job)
    }

    fn job(&self, id: &MediaId) -> Result<Option<Job>> {
        self.jobs.get(&key_of(id))
    }

    /// The true time is known now, so the job's deadline is too: counted from the submission in the same run of
    /// the machine, from this moment after another one. That is later than the truth, and only once.
    fn settle_time(&mut self, apart: Apart, job: Job, age_ms: Option<i64>, now: &Now) -> Result<()> {
        self.order.remove_ready(apart.order_ms(), &apart.media_id)?;
        let submitted_ms = now.wall_ms - age_ms.unwrap_or(0);
        self.set_alone(Apart { submitted_ms, unsure: false, ..apart }, job)
    }
}

pub(super) fn config(folder: &Path) -> sled::Config {
    let config = sled::Config::default().path(folder).flush_every_ms(None);
    config.cache_capacity(CACHE_BYTES).segment_size(SEGMENT_BYTES)
}

/// The clocks at one moment.
#[derive(Default)]
pub(super) struct Now {
    pub monotonic: Duration,
    pub boot_id: String,
    pub wall_ms: i64,
    pub wall_is_sure: bool,
}

/// How long ago a job was submitted; `None` when the clocks cannot tell.
fn age_ms(apart: &Apart, moment: Option<&Moment>, now: &Now) -> Option<i64> {
    match moment {
        Some(moment) if apart.unsure => {
            (moment.boot_id == now.boot_id).then(|| ms(now.monotonic) - moment.monotonic_ms)
        }
        _ if apart.unsure || !now.wall_is_sure => None,
        _ => Some(now.wall_ms - apart.submitted_ms),
    }
}
