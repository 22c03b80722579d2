//! What the inbound door has counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The door's counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Times that accepting failed.
    pub accept_errors: u64,
    /// Connections dropped because no thread could be made for them.
    pub threads_failed: u64,
    /// Connections that gave way to others while they rested.
    pub evicted: u64,
    /// Connections dropped without a word, because too many were being refused already.
    pub turned_away: u64,
    /// Requests whose head was accepted.
    pub requests: u64,
    /// Refusals by status.
    pub refused: BTreeMap<u16, u64>,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Connections that have a seat now.
    pub connections_now: usize,
}

/// The counts as they are kept.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) accepted: Count,
    pub(super) accept_errors: Count,
    pub(super) threads_failed: Count,
    pub(super) evicted: Count,
    pub(super) turned_away: Count,
    pub(super) requests: Count,
    pub(super) bytes_in: Count,
    pub(super) bytes_out: Count,
    refused: Mutex<BTreeMap<u16, u64>>,
}

/// One count.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(super) fn refused(&self, status: u16) {
        *self.refused.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).entry(status).or_default() += 1;
    }

    pub(super) fn counters(&self, connections_now: usize) -> InboundCounters {
        InboundCounters {
            accepted: self.accepted.now(),
            accept_errors: self.accept_errors.now(),
            threads_failed: self.threads_failed.now(),
            evicted: self.evicted.now(),
            turned_away: self.turned_away.now(),
            requests: self.requests.now(),
            refused: self.refused.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone(),
            bytes_in: self.bytes_in.now(),
            bytes_out: self.bytes_out.now(),
            connections_now,
        }
    }
}
