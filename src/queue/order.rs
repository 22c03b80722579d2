//! In which order ids come up; a part of sled's store. An id that waits is in one of two places:
//!
//! - As part of its receipt, while it has never been put off. The receipt is *opened* when its turn comes: its ids are
//!   then in memory, and are handed out one by one. When all of them have gone elsewhere, the receipt is *through*.
//! - Alone, from then on, under its own time: in `ready`, or in `later` until it is due.
//!
//! By receipts, because sled keeps some hundred bytes in memory for every few entries, and a million ids are waiting
//! in a hundred thousand receipts.
//!
//! Trees:
//! - `timeline`: submission time (0 while it is unsure), receipt → [`FRESH`] or [`THROUGH`]; also tells when a receipt
//!   may be forgotten.
//! - `ready`: submission time (0 while it is unsure), media_id → nothing; ids that are due.
//! - `later`: due time (monotonic), media_id → submission time; meaningful within one run of the machine.

use super::DAY_MS;
use crate::ground::media_id::MediaId;
use anyhow::{Context, Result};
use sled::{Db, IVec, Tree};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

/// Ids of the receipt wait as part of it.
const FRESH: &[u8] = b"";
/// None do.
const THROUGH: &[u8] = b"t";

/// Ids that status looks through for the oldest.
const OLDEST_SCAN_MAX: usize = 10_000;

/// Eight bytes of time, big-endian so that keys sort by it, and a receipt or an id.
pub(super) type TimedKey = Vec<u8>;

/// The order.
pub(super) struct Order {
    timeline: Tree,
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
            timeline: db.open_tree("timeline")?,
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

    /// Forgets what waits alone, to be told anew by [`Order::put_ready`]; returns what [`Order::freshen`] needs.
    pub fn begin_anew(&mut self) -> Result<Marks> {
        self.ready.clear()?;
        self.later.clear()?;
        let mut through = HashSet::new();
        for entry in self.timeline.iter() {
            let (key, value) = entry?;
            if value != FRESH {
                through.insert(crc32fast::hash(&key));
            }
        }
        Ok(Marks { through })
    }

    /// A receipt has come, perhaps once more; `is_fresh`: with ids that wait as part of it.
    pub fn add(&mut self, time_ms: i64, receipt: &str, is_fresh: bool) -> Result<()> {
        let key = timed_key(time_ms, receipt.as_bytes());
        if !is_fresh {
            let _ = self.timeline.compare_and_swap(key, None as Option<&[u8]>, Some(THROUGH))?;
            return Ok(());
        }
        self.timeline.insert(&key, FRESH)?;
        if key < self.unopened_from {
            self.unopened_from = key;
        }
        Ok(())
    }

    /// An id of this receipt waits as part of it, whatever the timeline says.
    pub fn freshen(&mut self, marks: &Marks, time_ms: i64, receipt: &str) -> Result<()> {
        let key = timed_key(time_ms, receipt.as_bytes());
        if marks.through.contains(&crc32fast::hash(&key)) {
            self.timeline.insert(key, FRESH)?;
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
        for entry in self.timeline.range(self.unopened_from.clone()..) {
            let (key, value) = entry?;
            self.unopened_from = key.to_vec();
            if value == FRESH && !self.is_opened(&key) {
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
        if !self.is_opened(&key) {
            self.timeline.insert(key, THROUGH)?;
        }
        Ok(())
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
    pub fn put_ready(&mut self, time_ms: i64, id: &[u8]) -> Result<()> {
        let key = timed_key(time_ms, id);
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
    pub fn put_later(&mut self, due: Duration, time_ms: i64, id: &MediaId) -> Result<()> {
        self.later.insert(timed_key(ms(due), id.as_str().as_bytes()), &time_ms.to_be_bytes())?;
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
            self.put_ready(time_of(&time)?, &key[8..])?;
            self.later.remove(key)?;
        }
        Ok(())
    }

    /// Makes all due. Due times are monotonic and mean nothing after a restart.
    pub fn make_all_ready(&mut self) -> Result<()> {
        for entry in self.later.iter() {
            let (key, time) = entry?;
            self.put_ready(time_of(&time)?, &key[8..])?;
        }
        self.later.clear()?;
        Ok(())
    }

    /// The days on which ids came that are due, as far as they are sure; numbered from the epoch.
    pub fn days_owed(&self) -> Result<Vec<i64>> {
        let mut days = Vec::new();
        let fresh_from = timed_key(self.fresh_from()?.max(1), &[]);
        for (tree, from) in [(&self.timeline, fresh_from), (&self.ready, timed_key(1, &[]))] {
            let mut from = from;
            while let Some(key) = first_fresh(tree, &from)? {
                let day = time_of(&key)?.div_euclid(DAY_MS);
                days.push(day);
                from = timed_key((day + 1) * DAY_MS, &[]);
            }
        }
        days.sort_unstable();
        days.dedup();
        Ok(days)
    }

    /// When the oldest id came that waits and whose time is sure; and receipts and ids that wait without.
    pub fn oldest(&self) -> Result<Oldest> {
        let (receipts, fresh_ms) = unsure_and_first(&self.timeline, &timed_key(self.fresh_from()?, &[]))?;
        let (ready, ready_ms) = unsure_and_first(&self.ready, &[])?;
        let mut ids: Vec<MediaId> = ready.iter().map(|key| id_of(key)).collect::<Result<_>>()?;
        let mut times: Vec<i64> = fresh_ms.into_iter().chain(ready_ms).collect();
        for entry in self.later.iter().take(OLDEST_SCAN_MAX) {
            let (key, time) = entry?;
            match time_of(&time)? {
                0 => ids.push(id_of(&key)?),
                time => times.push(time),
            }
        }
        let receipts = receipts.iter().map(|key| receipt_in(key)).collect();
        Ok(Oldest { submitted_ms: times.into_iter().min(), receipts, ids })
    }

    /// Receipts of before `before_ms`, at most `count_max`. Those without a sure time that are through get `now_ms`
    /// instead: they are older, but nobody knows by how much.
    pub fn old_receipts(&mut self, before_ms: i64, now_ms: i64, count_max: usize) -> Result<Vec<TimedKey>> {
        let bound = timed_key(before_ms, &[]);
        let entries: Vec<(IVec, IVec)> =
            self.timeline.range(..bound).take(count_max).collect::<sled::Result<_>>()?;
        let mut old = Vec::new();
        for (key, value) in entries {
            match time_of(&key)? {
                0 if value == FRESH => {}
                0 => {
                    self.timeline.insert(timed_key(now_ms, &key[8..]), value)?;
                    self.timeline.remove(key)?;
                }
                _ => old.push(key.to_vec()),
            }
        }
        Ok(old)
    }

    /// The receipt is forgotten.
    pub fn remove_receipt(&mut self, key: &[u8]) -> Result<()> {
        self.timeline.remove(key)?;
        Ok(())
    }
}

/// Checksums of the receipts that were through; one too many does no harm, because a receipt without fresh ids is soon
/// found to be through again.
pub(super) struct Marks {
    through: HashSet<u32>,
}

/// What [`Order::oldest`] found.
pub(super) struct Oldest {
    pub submitted_ms: Option<i64>,
    pub receipts: Vec<String>,
    pub ids: Vec<MediaId>,
}

/// The first key of `tree` from `from` on that is fresh; all are in `ready`.
fn first_fresh(tree: &Tree, from: &[u8]) -> Result<Option<IVec>> {
    for entry in tree.range::<&[u8], _>((Bound::Included(from), Bound::Unbounded)) {
        let (key, value) = entry?;
        if value == FRESH {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// From `from` on: the fresh keys without a sure time, and the time of the first with one.
fn unsure_and_first(tree: &Tree, from: &[u8]) -> Result<(Vec<IVec>, Option<i64>)> {
    let mut unsure = Vec::new();
    for entry in tree.range::<&[u8], _>((Bound::Included(from), Bound::Unbounded)).take(OLDEST_SCAN_MAX) {
        let (key, value) = entry?;
        match time_of(&key)? {
            _ if value != FRESH => {}
            0 => unsure.push(key),
            time => return Ok((unsure, Some(time))),
        }
    }
    Ok((unsure, None))
}

fn timed_key(time_ms: i64, rest: &[u8]) -> TimedKey {
    [&time_ms.max(0).to_be_bytes()[..], rest].concat()
}

pub(super) fn time_of(key: &[u8]) -> Result<i64> {
    let bytes = key.get(..8).and_then(|bytes| bytes.try_into().ok()).context("a key without time")?;
    Ok(i64::from_be_bytes(bytes))
}

/// The receipt of a key of the timeline.
pub(super) fn receipt_in(timed_key: &[u8]) -> String {
    String::from_utf8_lossy(timed_key.get(8..).unwrap_or_default()).into_owned()
}

fn id_of(timed_key: &[u8]) -> Result<MediaId> {
    parse_id(timed_key.get(8..).unwrap_or_default())
}

pub(super) fn parse_id(bytes: &[u8]) -> Result<MediaId> {
    let text = std::str::from_utf8(bytes).context("a key that is no media_id")?;
    MediaId::parse(text).map_err(|why| anyhow::anyhow!("a key that is no media_id: it {why}"))
}

pub(super) fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
