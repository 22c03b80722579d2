//! What was submitted, in the order in which it came; a part of sled's store.
//!
//! Trees:
//! - `timeline`: submission time (0 while it is unsure), receipt → [`Entry`]. Entries are the bulk of the database; in
//!   order of time they are written and read side by side, so few of sled's pages are in memory at a time.
//! - `receipts`: receipt → its time in the timeline, and [`FRESH`] or [`THROUGH`].
//!
//! A key of the timeline whose receipt is under another time, or not known, is what a sudden end left behind: nothing is
//! fresh there. The store counts, and so finds out if there was.

use super::record::{Entry, Record};
use anyhow::{Context, Result};
use sled::{Db, IVec, Tree};
use std::collections::HashSet;

/// Ids of the receipt wait as part of it.
const FRESH: u8 = b'f';
/// None do.
const THROUGH: u8 = b't';

/// Eight bytes of time, big-endian so that keys sort by it, and a receipt or an id.
pub(super) type TimedKey = Vec<u8>;

/// The receipts.
pub(super) struct Receipts {
    timeline: Tree,
    places: Tree,
}

impl Receipts {
    pub fn open(db: &Db) -> Result<Receipts> {
        Ok(Receipts { timeline: db.open_tree("timeline")?, places: db.open_tree("receipts")? })
    }

    /// An entry has come, perhaps once more; `is_fresh`: with ids that wait as part of it. Returns its key: under this
    /// time, or under the one that it has already.
    pub fn add(&self, time_ms: i64, record: &Record, is_fresh: bool) -> Result<TimedKey> {
        let place = Place { time_ms: time_ms.max(0), mark: if is_fresh { FRESH } else { THROUGH } };
        let new = Some(&place.to_bytes()[..]);
        let receipt = &record.entry.receipt;
        let place = match self.places.compare_and_swap(receipt, None as Option<&[u8]>, new)? {
            Ok(()) => place,
            Err(known) => Place::from_bytes(&known.current.context("a receipt was removed meanwhile")?)?,
        };
        if is_fresh && place.mark != FRESH {
            self.put(receipt.as_bytes(), &Place { mark: FRESH, ..place })?;
        }
        let key = timed_key(place.time_ms, receipt.as_bytes());
        self.timeline.insert(&key, record.json.as_bytes())?;
        Ok(key)
    }

    /// What was submitted under this receipt.
    pub fn entry(&self, receipt: &str) -> Result<Option<Entry>> {
        match self.place(receipt.as_bytes())? {
            Some(place) => self.entry_at(&timed_key(place.time_ms, receipt.as_bytes())),
            None => Ok(None),
        }
    }

    /// The same, for a key of the timeline.
    pub fn entry_at(&self, key: &[u8]) -> Result<Option<Entry>> {
        let found = self.timeline.get(key)?;
        found.map(|bytes| Ok(serde_json::from_slice(&bytes)?)).transpose()
    }

    /// The keys of the timeline from `from` on, and whether each is fresh.
    pub fn from(&self, from: TimedKey) -> impl Iterator<Item = Result<(IVec, bool)>> {
        self.timeline.range(from..).map(|entry| {
            let (key, _) = entry?;
            let is_fresh = self.place_of(&key)?.is_some_and(|place| place.mark == FRESH);
            Ok((key, is_fresh))
        })
    }

    /// No id waits as part of this receipt any more.
    pub fn set_through(&self, key: &[u8]) -> Result<()> {
        match self.place_of(key)? {
            Some(place) => self.put(behind_time(key), &Place { mark: THROUGH, ..place }),
            None => Ok(()),
        }
    }

    /// Checksums of the receipts that are through; one too many does no harm, because a receipt without fresh ids is
    /// soon found to be through again.
    pub fn through(&self) -> Result<HashSet<u32>> {
        let mut through = HashSet::new();
        for entry in self.places.iter() {
            let (receipt, place) = entry?;
            if Place::from_bytes(&place)?.mark == THROUGH {
                through.insert(crc32fast::hash(&receipt));
            }
        }
        Ok(through)
    }

    /// An id waits as part of this receipt, whatever is said in `through`, which [`Receipts::through`] told.
    pub fn freshen(&self, through: &mut HashSet<u32>, receipt: &str) -> Result<()> {
        if through.remove(&crc32fast::hash(receipt.as_bytes()))
            && let Some(place) = self.place(receipt.as_bytes())?
        {
            self.put(receipt.as_bytes(), &Place { mark: FRESH, ..place })?;
        }
        Ok(())
    }

    /// Those of before `before_ms`, at most `count_max`. Those without a sure time that are through get `now_ms`
    /// instead: they are older, but nobody knows by how much. Also tells whether anything was written.
    pub fn old(&self, before_ms: i64, now_ms: i64, count_max: usize) -> Result<(Vec<TimedKey>, bool)> {
        let bound = timed_key(before_ms, &[]);
        let entries: Vec<(IVec, IVec)> =
            self.timeline.range(..bound).take(count_max).collect::<sled::Result<_>>()?;
        let (mut old, mut is_dirty) = (Vec::new(), false);
        for (key, entry) in entries {
            let (time_ms, receipt) = (time_of(&key)?, behind_time(&key));
            match self.place(receipt)? {
                Some(place) if place.time_ms == time_ms && time_ms > 0 => {
                    old.push(key.to_vec());
                    continue;
                }
                Some(place) if place.time_ms == time_ms && place.mark == FRESH => continue,
                Some(place) if place.time_ms == time_ms => {
                    self.timeline.insert(timed_key(now_ms, receipt), entry)?;
                    self.put(receipt, &Place { time_ms: now_ms, ..place })?;
                }
                // A sudden end may have kept only this one of two.
                Some(place) => {
                    let there = timed_key(place.time_ms, receipt);
                    let _ = self.timeline.compare_and_swap(there, None as Option<&[u8]>, Some(entry))?;
                }
                None => {}
            }
            self.timeline.remove(&key)?;
            is_dirty = true;
        }
        Ok((old, is_dirty))
    }

    /// The receipt is forgotten.
    pub fn remove(&self, key: &[u8]) -> Result<()> {
        self.timeline.remove(key)?;
        self.places.remove(behind_time(key))?;
        Ok(())
    }

    fn put(&self, receipt: &[u8], place: &Place) -> Result<()> {
        self.places.insert(receipt, &place.to_bytes())?;
        Ok(())
    }

    fn place(&self, receipt: &[u8]) -> Result<Option<Place>> {
        self.places.get(receipt)?.map(|bytes| Place::from_bytes(&bytes)).transpose()
    }

    /// The place of a key's receipt, if it is this one.
    fn place_of(&self, key: &[u8]) -> Result<Option<Place>> {
        let time_ms = time_of(key)?;
        Ok(self.place(behind_time(key))?.filter(|place| place.time_ms == time_ms))
    }
}

/// Where a receipt is in the timeline, and whether it is fresh.
#[derive(Clone, Copy)]
struct Place {
    time_ms: i64,
    mark: u8,
}

impl Place {
    fn to_bytes(self) -> [u8; 9] {
        let mut bytes = [self.mark; 9];
        bytes[..8].copy_from_slice(&self.time_ms.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Place> {
        let mark = *bytes.get(8).context("a receipt without mark")?;
        Ok(Place { time_ms: time_of(bytes)?, mark })
    }
}

pub(super) fn timed_key(time_ms: i64, rest: &[u8]) -> TimedKey {
    [&time_ms.max(0).to_be_bytes()[..], rest].concat()
}

pub(super) fn time_of(key: &[u8]) -> Result<i64> {
    let bytes = key.get(..8).and_then(|bytes| bytes.try_into().ok()).context("a key without time")?;
    Ok(i64::from_be_bytes(bytes))
}

/// What follows the time in a key.
pub(super) fn behind_time(timed_key: &[u8]) -> &[u8] {
    timed_key.get(8..).unwrap_or_default()
}
