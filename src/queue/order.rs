//! In which order ids come up; a part of sled's store. An id that waits is in one of two places:
//!
//! - As part of its receipt, while it has never been put off. The receipt is *opened* when its turn comes: its ids are
//!   then in memory, and are handed out one by one. When all of them have gone elsewhere, the receipt is *through*.
//! - Alone, from then on, under its own time: in `ready`, or in `later` until it is due.
//!
//! By receipts, because sled keeps some hundred bytes in memory for every few entries, and a million ids are waiting
//! in a hundred thousand [`receipts`](super::receipts).
//!
//! Trees, besides those of the receipts:
//! - `ready`: submission time (0 while it is unsure), media_id → nothing; ids that are due.
//! - `later`: due time (monotonic), media_id → submission time; meaningful within one run of the machine.

use super::DAY_MS;
use super::jobs::Apart;
use super::receipts::{Receipts, TimedKey, behind_time, time_of, timed_key};
use super::record::Record;
use crate::ground::media_id::MediaId;
use anyhow::{Context, Result};
use sled::{Db, IVec, Tree};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Ids that status looks through for the oldest.
const OLDEST_SCAN_MAX: usize = 10_000;

/// The order.
pub(super) struct Order {
    receipts: Receipts,
    ready: Tree,
    later: Tree,
    /// No fresh receipt before it waits to be opened.
    unopened_from: TimedKey,
    /// What is left of the opened receipts; none is empty.
    left: BTreeMap<TimedKey, VecDeque<MediaId>>,
    /// Ids that were handed out as part of their receipt and have not gone elsewhere.
    out: HashMap<MediaId, TimedKey>,
    /// Nothing in `ready` before it can be claimed, so no claim looks there again.
    claimable_from: TimedKey,
}

impl Order {
    pub fn open(db: &Db) -> Result<Order> {
        Ok(Order {
            receipts: Receipts::open(db)?,
            ready: db.open_tree("ready")?,
            later: db.open_tree("later")?,
            unopened_from: Vec::new(),
            left: BTreeMap::new(),
            out: HashMap::new(),
            claimable_from: Vec::new(),
        })
    }

    /// No receipt of before `time_ms` is fresh, it was said when the database was closed.
    pub fn begin_at(&mut self, time_ms: i64) {
        self.unopened_from = timed_key(time_ms, &[]);
    }

    /// What to tell [`Order::begin_at`] next time.
    pub fn fresh_from(&self) -> Result<i64> {
        let opened = self.left.keys().chain(self.out.values());
        let first = opened.chain([&self.unopened_from]).min();
        first.filter(|key| !key.is_empty()).map_or(Ok(0), |key| time_of(key))
    }

    /// The receipts, for looking at them.
    pub fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// Forgets what waits alone, to be told anew by [`Order::put_ready`]; returns what [`Receipts::freshen`] needs.
    pub fn begin_anew(&mut self) -> Result<HashSet<u32>> {
        self.ready.clear()?;
        self.later.clear()?;
        self.receipts.through()
    }

    /// An entry has come, perhaps once more; `is_fresh`: with ids that wait as part of it.
    pub fn add(&mut self, time_ms: i64, record: &Record, is_fresh: bool) -> Result<()> {
        let key = self.receipts.add(time_ms, record, is_fresh)?;
        if is_fresh && key < self.unopened_from {
            self.unopened_from = key;
        }
        Ok(())
    }

    /// The receipt whose turn it is, if one is fresh; and whether it is opened already.
    pub fn first_receipt(&mut self) -> Result<Option<(TimedKey, bool)>> {
        let opened = self.left.first_key_value().map(|(key, _)| key);
        if let Some(key) = opened
            && *key < self.unopened_from
        {
            return Ok(Some((key.clone(), true)));
        }
        for entry in self.receipts.from(self.unopened_from.clone()) {
            let (key, is_fresh) = entry?;
            self.unopened_from = key.to_vec();
            if is_fresh && !self.is_opened(&key) {
                return Ok(Some(match opened {
                    Some(opened) if opened[..] < key[..] => (opened.clone(), true),
                    _ => (key.to_vec(), false),
                }));
            }
            // Behind it.
            self.unopened_from.push(0);
        }
        Ok(opened.map(|key| (key.clone(), true)))
    }

    /// Ids that wait as part of their receipts and are in somebody's hands; all that do, once
    /// [`Order::first_receipt`] found none.
    pub fn count_out(&self) -> u64 {
        self.out.len() as u64
    }

    /// Whether no id waits alone.
    pub fn has_none_alone(&self) -> bool {
        self.ready.is_empty() && self.later.is_empty()
    }

    fn is_opened(&self, key: &[u8]) -> bool {
        self.left.contains_key(key) || self.out.values().any(|of| of == key)
    }

    /// Opens a receipt; it has ids.
    pub fn open_receipt(&mut self, key: TimedKey, ids: Vec<MediaId>) {
        self.left.insert(key, ids.into());
    }

    /// The next id of an opened receipt: to be handed out, or passed over.
    pub fn take(&mut self, key: &TimedKey) -> Option<MediaId> {
        let ids = self.left.get_mut(key)?;
        let id = ids.pop_front();
        if ids.is_empty() {
            self.left.remove(key);
        }
        id
    }

    /// An id that was taken is in somebody's hands.
    pub fn hand_out(&mut self, id: &MediaId, key: TimedKey) {
        self.out.insert(id.clone(), key);
    }

    /// An id that was taken does not wait as part of this receipt.
    pub fn pass_over(&mut self, key: TimedKey) -> Result<()> {
        if self.is_opened(&key) { Ok(()) } else { self.receipts.set_through(&key) }
    }

    /// Whatever was handed out last under this id is to be handed out again.
    pub fn give_back(&mut self, id: MediaId) {
        match self.out.remove(&id) {
            Some(key) => self.left.entry(key).or_default().push_front(id),
            None => self.claimable_from.clear(),
        }
    }

    /// The id does not wait as part of its receipt any more.
    pub fn part(&mut self, id: &MediaId) -> Result<()> {
        self.out.remove(id).map_or(Ok(()), |key| self.pass_over(key))
    }

    /// Makes an id due that waits alone.
    pub fn put_ready(&mut self, apart: &Apart) -> Result<()> {
        self.put_ready_key(timed_key(apart.order_ms(), apart.media_id.as_str().as_bytes()))
    }

    fn put_ready_key(&mut self, key: TimedKey) -> Result<()> {
        self.ready.insert(&key, &[])?;
        if key < self.claimable_from {
            self.claimable_from = key;
        }
        Ok(())
    }

    /// An id does not wait alone any more.
    pub fn remove_ready(&mut self, time_ms: i64, id: &MediaId) -> Result<()> {
        self.ready.remove(timed_key(time_ms, id.as_str().as_bytes()))?;
        Ok(())
    }

    /// The first id that is due alone and not in `claimed`. Who takes one out of `claimed` again without settling it
    /// gives it back.
    pub fn first_alone(&mut self, claimed: &HashSet<MediaId>) -> Result<Option<(i64, MediaId)>> {
        for entry in self.ready.range(self.claimable_from.clone()..) {
            let (key, _) = entry?;
            self.claimable_from = key.to_vec();
            let id = id_of(&key)?;
            if !claimed.contains(&id) {
                return Ok(Some((time_of(&key)?, id)));
            }
        }
        Ok(None)
    }

    /// An id waits alone, and is due at `due`.
    pub fn put_later(&mut self, due: Duration, apart: &Apart) -> Result<()> {
        let key = timed_key(ms(due), apart.media_id.as_str().as_bytes());
        self.later.insert(key, &apart.order_ms().to_be_bytes())?;
        Ok(())
    }

    pub fn next_due(&self) -> Result<Option<Duration>> {
        match self.later.first()? {
            Some((key, _)) => Ok(Some(Duration::from_millis(u64::try_from(time_of(&key)?).unwrap_or(0)))),
            None => Ok(None),
        }
    }

    /// Moves what is due by `now` from `later` to `ready`.
    pub fn make_ready(&mut self, now: Duration) -> Result<()> {
        let bound = (ms(now) + 1).to_be_bytes();
        for entry in self.later.range(..bound.to_vec()) {
            let (key, time) = entry?;
            self.put_ready_key(timed_key(time_of(&time)?, behind_time(&key)))?;
            self.later.remove(key)?;
        }
        Ok(())
    }

    /// Makes all due. Due times are monotonic and mean nothing after a restart.
    pub fn make_all_ready(&mut self) -> Result<()> {
        for entry in self.later.iter() {
            let (key, time) = entry?;
            self.put_ready_key(timed_key(time_of(&time)?, behind_time(&key)))?;
        }
        self.later.clear()?;
        Ok(())
    }

    /// The days on which ids came that are due, as far as they are sure; numbered from the epoch.
    pub fn days_owed(&self) -> Result<Vec<i64>> {
        let mut days = BTreeSet::new();
        for (is_alone, first_ms) in [(false, self.fresh_from()?.max(1)), (true, 1)] {
            let mut from = timed_key(first_ms, &[]);
            while let Some(key) =
                if is_alone { self.alone(from).next() } else { self.fresh(from, usize::MAX).next() }
            {
                let day = time_of(&key?)?.div_euclid(DAY_MS);
                days.insert(day);
                from = timed_key((day + 1) * DAY_MS, &[]);
            }
        }
        Ok(days.into_iter().collect())
    }

    /// When the oldest id came that waits and whose time is sure; and receipts and ids that wait without.
    pub fn oldest(&self) -> Result<Oldest> {
        let fresh_from = timed_key(self.fresh_from()?, &[]);
        let (receipts, fresh_ms) = unsure_and_first(self.fresh(fresh_from, OLDEST_SCAN_MAX))?;
        let (ready, ready_ms) = unsure_and_first(self.alone(Vec::new()).take(OLDEST_SCAN_MAX))?;
        let mut ids: Vec<MediaId> = ready.iter().map(|key| id_of(key)).collect::<Result<_>>()?;
        let mut times: Vec<i64> = fresh_ms.into_iter().chain(ready_ms).collect();
        for entry in self.later.iter().take(OLDEST_SCAN_MAX) {
            let (key, time) = entry?;
            match time_of(&time)? {
                0 => ids.push(id_of(&key)?),
                time => times.push(time),
            }
        }
        Ok(Oldest { submitted_ms: times.into_iter().min(), receipts, ids })
    }

    /// The keys of fresh receipts from `from` on, among the first `count_max` of all.
    fn fresh(&self, from: TimedKey, count_max: usize) -> impl Iterator<Item = Result<IVec>> {
        let entries = self.receipts.from(from).take(count_max);
        entries.filter_map(|entry| entry.map(|(key, is_fresh)| is_fresh.then_some(key)).transpose())
    }

    /// The keys of ids that are due alone, from `from` on.
    fn alone(&self, from: TimedKey) -> impl Iterator<Item = Result<IVec>> {
        self.ready.range(from..).keys().map(|key| Ok(key?))
    }
}

/// What [`Order::oldest`] found.
pub(super) struct Oldest {
    pub submitted_ms: Option<i64>,
    /// Keys of the timeline.
    pub receipts: Vec<IVec>,
    pub ids: Vec<MediaId>,
}

/// The first keys without a sure time, and the time of the first with one.
fn unsure_and_first(keys: impl Iterator<Item = Result<IVec>>) -> Result<(Vec<IVec>, Option<i64>)> {
    let mut unsure = Vec::new();
    for key in keys {
        let key = key?;
        match time_of(&key)? {
            0 => unsure.push(key),
            time => return Ok((unsure, Some(time))),
        }
    }
    Ok((unsure, None))
}

fn id_of(timed_key: &[u8]) -> Result<MediaId> {
    parse_id(behind_time(timed_key))
}

pub(super) fn parse_id(bytes: &[u8]) -> Result<MediaId> {
    let text = std::str::from_utf8(bytes).context("a key that is no media_id")?;
    MediaId::parse(text).map_err(|why| anyhow::anyhow!("a key that is no media_id: it {why}"))
}

pub(super) fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
