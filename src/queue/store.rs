//! sled: order, due times, attempts, receipts, failed list. The only file that names sled.
//!
//! Trees:
//! - `jobs`: media_id → [`Job`]; the truth of this file.
//! - `receipts`: receipt → [`Entry`].
//! - `expiry`: submission time, receipt → nothing.
//! - `ready`: deadline (0 while the clock is unsure), media_id → nothing; ids that are due, soonest first.
//! - `later`: due time (monotonic), media_id → deadline; meaningful within one run of the machine.
//! - `failed`: media_id → nothing.
//! - `meta`: format, journal position, counts at an orderly end.
//!
//! sled's trees are not written as one, so after anything but an orderly end `ready`, `later`, `failed` and the
//! counts are made anew from `jobs`.

use super::journal::Position;
use super::record::{Entry, Failed, Job, JobState, Moment, ReceiptView};
use super::{Claim, Counts, DAY_MS};
use crate::ground::durable;
use crate::ground::media_id::MediaId;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sled::{Db, IVec, Tree};
use std::collections::HashSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// The layout of the trees. A database of another one is set aside and filled again.
const FORMAT: u32 = 1;

/// sled's default of 1 GB is for servers.
const CACHE_BYTES: u64 = 2 << 20;

/// sled writes in pieces of this size, and under load it holds a dozen of them in memory; its default of 512 KB is for
/// servers too. An entry that does not fit gets a file of its own.
const SEGMENT_BYTES: usize = 256 << 10;

/// Entries of `ready` and `later` that status looks through for the oldest deadline.
const LATER_SCAN_MAX: usize = 10_000;

/// Receipts that one call of [`Store::expire`] lets go at most, so that nobody waits long for the lock.
const EXPIRE_MAX: usize = 200;

pub(super) struct Store {
    db: Db,
    jobs: Tree,
    receipts: Tree,
    expiry: Tree,
    ready: Tree,
    later: Tree,
    failed: Tree,
    meta: Tree,
    data_file: File,
    deadline_ms: i64,
    counts: Counts,
    is_dirty: bool,
    durable_position: Option<Position>,
    /// Nothing before this key of `ready` can be claimed, so no claim looks there again.
    claimable_from: Vec<u8>,
    /// The entry that was claimed from last, without its ids: the next claim is mostly of the same one.
    last_claimed: Option<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    position: Option<Position>,
    /// Set only by an orderly end.
    counts: Option<(u64, u64, u64)>,
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
    pub fn open(folder: &Path, deadline_ms: i64) -> Result<Store, StoreFault> {
        let opened = catch_unwind(AssertUnwindSafe(|| Store::open_or_panic(folder, deadline_ms)));
        let opened = opened.unwrap_or_else(|_| Err(anyhow::anyhow!("its file is damaged")));
        let opening = || format!("could not open the queue in {}", folder.display());
        opened.with_context(opening).map_err(StoreFault::of)
    }

    fn open_or_panic(folder: &Path, deadline_ms: i64) -> Result<Store> {
        let is_new = !folder.join("db").exists();
        let db = config(folder).open()?;
        let tree = |name: &str| db.open_tree(name);
        let mut store = Store {
            jobs: tree("jobs")?,
            receipts: tree("receipts")?,
            expiry: tree("expiry")?,
            ready: tree("ready")?,
            later: tree("later")?,
            failed: tree("failed")?,
            meta: tree("meta")?,
            data_file: File::open(folder.join("db"))?,
            db,
            deadline_ms,
            counts: Counts::default(),
            is_dirty: true,
            durable_position: None,
            claimable_from: Vec::new(),
            last_claimed: None,
        };
        store.prepare()?;
        if is_new {
            // sled never syncs its settings, nor the names of its files.
            File::open(folder.join("conf"))?.sync_all()?;
            durable::sync_folder(folder)?;
        }
        Ok(store)
    }

    fn prepare(&mut self) -> Result<()> {
        let meta: Option<Meta> = match self.meta.get("meta")? {
            Some(bytes) => Some(serde_json::from_slice(&bytes)?),
            None if self.jobs.is_empty() => None,
            None => bail!("it has jobs but no record of its format"),
        };
        if let Some(meta) = &meta
            && meta.format != FORMAT
        {
            bail!("its format is {}, this version reads {FORMAT}", meta.format);
        }
        self.durable_position = meta.as_ref().and_then(|meta| meta.position.clone());
        match meta.and_then(|meta| meta.counts) {
            Some((waiting, saved, failed)) => {
                self.counts = Counts { waiting, claimed: 0, saved, failed };
                self.make_all_ready()?;
            }
            None => self.count_again()?,
        }
        self.put_meta(None)
    }

    /// Makes all due. Due times are monotonic and mean nothing after a restart.
    pub fn make_all_ready(&mut self) -> Result<()> {
        for entry in self.later.iter() {
            let (key, deadline) = entry?;
            self.put_ready([&deadline, &key[8..]].concat())?;
        }
        self.later.clear()?;
        Ok(())
    }

    fn count_again(&mut self) -> Result<()> {
        self.ready.clear()?;
        self.later.clear()?;
        self.failed.clear()?;
        self.counts = Counts::default();
        for entry in self.jobs.iter() {
            let (key, value) = entry?;
            let job: Job = serde_json::from_slice(&value)?;
            match job.state {
                JobState::Waiting { .. } => {
                    self.counts.waiting += 1;
                    self.put_ready(timed_key(self.order_of(&job), &key))?;
                }
                JobState::Saved(_) => self.counts.saved += 1,
                JobState::Failed(_) => {
                    self.counts.failed += 1;
                    self.failed.insert(&key, &[])?;
                }
            }
        }
        Ok(())
    }

    /// Everything before it is in this database and on stable storage.
    pub fn journal_position(&self) -> Option<Position> {
        self.durable_position.clone()
    }

    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    pub fn receipt_of(&self, id: &MediaId) -> Result<Option<String>> {
        Ok(self.job(id)?.map(|job| job.receipt))
    }

    pub fn state(&self, id: &MediaId) -> Result<Option<JobState>> {
        Ok(self.job(id)?.map(|job| job.state))
    }

    /// Takes an entry of the journal; what is known of it already stays as it is.
    pub fn insert(&mut self, entry: &Entry) -> Result<()> {
        self.is_dirty = true;
        // A receipt that is known already is the same entry.
        self.receipts.insert(&entry.receipt, serde_json::to_vec(entry)?)?;
        self.expiry.insert(timed_key(entry.submitted_ms, entry.receipt.as_bytes()), &[])?;
        for id in &entry.submission.ids {
            let state = JobState::Waiting { attempts: 0, last_code: None, in_a_row: 0 };
            let (receipt, submitted_ms) = (entry.receipt.clone(), entry.submitted_ms);
            let job = Job { receipt, submitted_ms, unsure: !entry.clock_trusted, state };
            let value = serde_json::to_vec(&job)?;
            if self.jobs.compare_and_swap(id.as_str(), None as Option<&[u8]>, Some(value))?.is_ok() {
                self.put_ready(timed_key(self.order_of(&job), id.as_str().as_bytes()))?;
                self.counts.waiting += 1;
            }
        }
        Ok(())
    }

    /// Moves what is due by `now` from `later` to `ready`.
    pub fn make_ready(&mut self, now: Duration) -> Result<()> {
        let bound = (ms(now) + 1).to_be_bytes();
        for entry in self.later.range(..bound.to_vec()) {
            let (key, deadline) = entry?;
            self.put_ready([&deadline, &key[8..]].concat())?;
            self.later.remove(key)?;
        }
        Ok(())
    }

    /// The first of `ready` that is not in `claimed`. Who takes one out of `claimed` again without settling it says so
    /// by [`Store::look_again`].
    pub fn first_ready(&mut self, claimed: &HashSet<MediaId>, now: &Now) -> Result<Option<Claim>> {
        for entry in self.ready.range(self.claimable_from.clone()..) {
            let (key, _) = entry?;
            self.claimable_from = key.to_vec();
            let id = id_of(&key)?;
            if claimed.contains(&id) {
                continue;
            }
            let job = self.job(&id)?;
            match job {
                Some(job) if matches!(job.state, JobState::Waiting { .. }) => {
                    return self.claim_of(id, job, now).map(Some);
                }
                _ => self.ready.remove(key)?,
            };
        }
        Ok(None)
    }

    /// What was claimed before may be claimed again.
    pub fn look_again(&mut self) {
        self.claimable_from.clear();
    }

    fn claim_of(&mut self, id: MediaId, mut job: Job, now: &Now) -> Result<Claim> {
        let entry = self.entry_without_ids(&job.receipt)?;
        let age_ms = age_ms(&job, entry.moment.as_ref(), now);
        if job.unsure && now.wall_is_sure {
            self.settle_time(&id, &mut job, age_ms, now)?;
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
        let mut entry: Entry = self.value(&self.receipts, receipt)?.context("a job's receipt is missing")?;
        entry.submission.ids = Vec::new();
        self.last_claimed = Some(entry.clone());
        Ok(entry)
    }

    pub fn next_due(&self) -> Result<Option<Duration>> {
        match self.later.first()? {
            Some((key, _)) => Ok(Some(Duration::from_millis(u64::try_from(time_of(&key)?).unwrap_or(0)))),
            None => Ok(None),
        }
    }

    /// Back to waiting, due at `due`. An `attempt` is counted under its code.
    pub fn postpone(&mut self, id: &MediaId, due: Duration, attempt: Option<&str>) -> Result<()> {
        let Some(mut job) = self.job(id)? else { return Ok(()) };
        let JobState::Waiting { attempts, last_code, in_a_row } = &mut job.state else { return Ok(()) };
        if let Some(code) = attempt {
            *attempts += 1;
            *in_a_row = if last_code.as_deref() == Some(code) { *in_a_row + 1 } else { 1 };
            *last_code = Some(code.to_owned());
        }
        let deadline = self.order_of(&job);
        self.put_job(id, &job)?;
        self.ready.remove(timed_key(deadline, id.as_str().as_bytes()))?;
        self.later.insert(timed_key(ms(due), id.as_str().as_bytes()), &deadline.to_be_bytes())?;
        Ok(())
    }

    /// Puts a job into a final state, or changes one final state into another.
    pub fn set_state(&mut self, id: &MediaId, state: &JobState) -> Result<()> {
        let Some(mut job) = self.job(id)? else { return Ok(()) };
        let before = std::mem::replace(&mut job.state, state.clone());
        self.put_job(id, &job)?;
        self.ready.remove(timed_key(self.order_of(&job), id.as_str().as_bytes()))?;
        match (&before, state) {
            (_, JobState::Failed(_)) => self.failed.insert(id.as_str(), &[])?,
            (JobState::Failed(_), _) => self.failed.remove(id.as_str())?,
            _ => None,
        };
        *self.counter(&before) = self.counter(&before).saturating_sub(1);
        *self.counter(state) += 1;
        Ok(())
    }

    /// Puts a failed id back; false when it is not on the failed list.
    pub fn retry(&mut self, id: &MediaId) -> Result<bool> {
        let Some(job) = self.job(id)? else { return Ok(false) };
        if !matches!(job.state, JobState::Failed(_)) {
            return Ok(false);
        }
        self.set_state(id, &JobState::Waiting { attempts: 0, last_code: None, in_a_row: 0 })?;
        self.put_ready(timed_key(self.order_of(&job), id.as_str().as_bytes()))?;
        Ok(true)
    }

    pub fn receipt(&self, receipt: &str) -> Result<Option<ReceiptView>> {
        let Some(entry) = self.value::<Entry>(&self.receipts, receipt)? else { return Ok(None) };
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
        let (mut days, mut from) = (Vec::new(), 1);
        while let Some(entry) = self.ready.range(timed_key(from, &[])..).next() {
            let submitted_ms = time_of(&entry?.0)? - self.deadline_ms;
            let day = submitted_ms.div_euclid(DAY_MS);
            days.push(day);
            from = (day + 1) * DAY_MS + self.deadline_ms;
        }
        Ok(days)
    }

    pub fn oldest_deadline_ms(&self) -> Result<Option<i64>> {
        let mut oldest: Option<i64> = None;
        for entry in self.ready.iter().take(LATER_SCAN_MAX) {
            let (key, _) = entry?;
            let order = time_of(&key)?;
            let deadline = self.deadline_behind(order, &key)?;
            oldest = Some(oldest.map_or(deadline, |oldest| oldest.min(deadline)));
            if order > 0 {
                break;
            }
        }
        for entry in self.later.iter().take(LATER_SCAN_MAX) {
            let (key, order) = entry?;
            let deadline = self.deadline_behind(time_of(&order)?, &key)?;
            oldest = Some(oldest.map_or(deadline, |oldest| oldest.min(deadline)));
        }
        Ok(oldest)
    }

    /// The deadline that an entry of `ready` or `later` stands for; as the wall clock has it where that is not
    /// sure.
    fn deadline_behind(&self, order: i64, timed_key: &[u8]) -> Result<i64> {
        match order {
            0 => Ok(self.job(&id_of(timed_key)?)?.map_or(i64::MAX, |job| self.deadline_of(&job))),
            known => Ok(known),
        }
    }

    /// Lets receipts of before `before_ms` go, with their ids, when nothing of them is owed. One whose stamp was
    /// not sure is taken to be as young as the first certain moment, which is `now_ms` when it is met here.
    pub fn expire(&mut self, before_ms: i64, now_ms: i64) -> Result<()> {
        let bound = before_ms.max(0).to_be_bytes().to_vec();
        let old: Vec<IVec> =
            self.expiry.range(..bound).keys().take(EXPIRE_MAX).collect::<sled::Result<_>>()?;
        for key in old {
            let receipt = String::from_utf8_lossy(&key[8..]).into_owned();
            let entry = self.value::<Entry>(&self.receipts, &receipt)?;
            if entry.is_some_and(|entry| {
                !entry.clock_trusted
                    && time_of(&key).is_ok_and(|time_ms| time_ms == entry.submitted_ms.max(0))
            }) {
                self.expiry.insert(timed_key(now_ms, receipt.as_bytes()), &[])?;
                self.expiry.remove(key)?;
                continue;
            }
            let view = self.receipt(&receipt)?;
            if view.as_ref().is_some_and(|view| !view.is_settled()) {
                continue;
            }
            for (id, state) in view.map(|view| view.pictures).unwrap_or_default() {
                if self.job(&id)?.is_some_and(|job| job.receipt == receipt) {
                    *self.counter(&state) = self.counter(&state).saturating_sub(1);
                    self.jobs.remove(id.as_str())?;
                    self.failed.remove(id.as_str())?;
                }
            }
            self.receipts.remove(&receipt)?;
            self.expiry.remove(key)?;
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
        self.put_meta(Some((self.counts.waiting, self.counts.saved, self.counts.failed)))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        self.db.flush().context("could not flush the queue")?;
        self.data_file.sync_data().context("could not sync the queue")
    }

    fn put_meta(&self, counts: Option<(u64, u64, u64)>) -> Result<()> {
        let meta = Meta { format: FORMAT, position: self.durable_position.clone(), counts };
        self.meta.insert("meta", serde_json::to_vec(&meta)?)?;
        Ok(())
    }

    fn put_ready(&mut self, key: Vec<u8>) -> Result<()> {
        self.ready.insert(&key, &[])?;
        if key < self.claimable_from {
            self.claimable_from = key;
        }
        Ok(())
    }

    fn put_job(&mut self, id: &MediaId, job: &Job) -> Result<()> {
        self.is_dirty = true;
        self.jobs.insert(id.as_str(), serde_json::to_vec(job)?)?;
        Ok(())
    }

    fn job(&self, id: &MediaId) -> Result<Option<Job>> {
        self.value(&self.jobs, id.as_str())
    }

    fn value<T: DeserializeOwned>(&self, tree: &Tree, key: &str) -> Result<Option<T>> {
        match tree.get(key)? {
            Some(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            None => Ok(None),
        }
    }

    fn counter(&mut self, state: &JobState) -> &mut u64 {
        match state {
            JobState::Waiting { .. } => &mut self.counts.waiting,
            JobState::Saved(_) => &mut self.counts.saved,
            JobState::Failed(_) => &mut self.counts.failed,
        }
    }

    /// The first part of a job's key in `ready`: its deadline, or 0 while that is not known.
    fn order_of(&self, job: &Job) -> i64 {
        if job.unsure { 0 } else { self.deadline_of(job) }
    }

    fn deadline_of(&self, job: &Job) -> i64 {
        job.submitted_ms.saturating_add(self.deadline_ms).max(0)
    }

    /// The true time is known now, so the job's deadline is too: counted from the submission in the same run of
    /// the machine, from this moment after another one. That is later than the truth, and only once.
    fn settle_time(&mut self, id: &MediaId, job: &mut Job, age_ms: Option<i64>, now: &Now) -> Result<()> {
        self.ready.remove(timed_key(self.order_of(job), id.as_str().as_bytes()))?;
        job.submitted_ms = now.wall_ms - age_ms.unwrap_or(0);
        job.unsure = false;
        self.put_job(id, job)?;
        self.put_ready(timed_key(self.order_of(job), id.as_str().as_bytes()))?;
        Ok(())
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
fn age_ms(job: &Job, moment: Option<&Moment>, now: &Now) -> Option<i64> {
    match moment {
        Some(moment) if job.unsure => {
            (moment.boot_id == now.boot_id).then(|| ms(now.monotonic) - moment.monotonic_ms)
        }
        _ if job.unsure || !now.wall_is_sure => None,
        _ => Some(now.wall_ms - job.submitted_ms),
    }
}

/// Eight bytes of time, big-endian so that keys sort by it, and the rest.
fn timed_key(time_ms: i64, rest: &[u8]) -> Vec<u8> {
    [&time_ms.max(0).to_be_bytes()[..], rest].concat()
}

fn time_of(key: &[u8]) -> Result<i64> {
    let bytes = key.get(..8).and_then(|bytes| bytes.try_into().ok()).context("a key without time")?;
    Ok(i64::from_be_bytes(bytes))
}

fn id_of(timed_key: &[u8]) -> Result<MediaId> {
    parse_id(timed_key.get(8..).unwrap_or_default())
}

fn parse_id(bytes: &[u8]) -> Result<MediaId> {
    let text = std::str::from_utf8(bytes).context("a key that is no media_id")?;
    MediaId::parse(text).map_err(|why| anyhow::anyhow!("a key that is no media_id: it {why}"))
}

pub(super) fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
