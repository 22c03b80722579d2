//! Where pictures that have come whole wait for their commit. Workers leave them here and fetch the next ones, so
//! that network and disk work at the same time; one thread commits all that are here at once, for the price of one.
//!
//! While others are on their way in it waits for them, as long as a commit takes: that costs a fast disk little time
//! and spares a slow one most of its syncs. It knows nothing of what a commit is.

use crate::ground::clock::Deadline;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// The most pictures that share one commit, and that wait for one.
const PICTURES_MAX: usize = 64;
/// Their bytes: what a card has to write before anything else gets its turn.
const BYTES_MAX: u64 = 32 << 20;

const PATIENCE_MIN: Duration = Duration::from_millis(25);
const PATIENCE_MAX: Duration = Duration::from_millis(250);

/// The place.
pub(super) struct Landing<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    bytes: u64,
    on_their_way: usize,
    patience: Duration,
    is_closed: bool,
}

/// One more is on its way in, for as long as this lives.
pub(super) struct OnItsWay<'l, T>(&'l Landing<T>);

impl<T> Landing<T> {
    pub(super) fn new() -> Landing<T> {
        let state = State {
            waiting: Vec::new(),
            bytes: 0,
            on_their_way: 0,
            patience: PATIENCE_MIN,
            is_closed: false,
        };
        Landing { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Notes that somebody fetches.
    pub(super) fn on_its_way(&self) -> OnItsWay<'_, T> {
        self.lock().on_their_way += 1;
        OnItsWay(self)
    }

    /// Leaves `item` here; waits while there is too much already.
    pub(super) fn put(&self, item: T, bytes: u64) {
        let is_full = |state: &mut State<T>| !state.is_closed && state.is_full();
        let waited = self.changed.wait_while(self.lock(), is_full);
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        state.waiting.push(item);
        state.bytes += bytes;
        self.changed.notify_all();
    }

    /// All that wait, when there is something; `None` when there is nothing and nothing will come.
    pub(super) fn take(&self) -> Option<Vec<T>> {
        let nothing = |state: &mut State<T>| state.waiting.is_empty() && !state.is_closed;
        let waited = self.changed.wait_while(self.lock(), nothing);
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        let patience = Deadline::after(state.patience);
        while state.on_their_way > 0 && !state.is_full() && !state.is_closed {
            let Some(left) = patience.remaining() else { break };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        state.bytes = 0;
        let taken = std::mem::take(&mut state.waiting);
        self.changed.notify_all();
        (!taken.is_empty()).then_some(taken)
    }

    /// How long the last commit took.
    pub(super) fn took(&self, time: Duration) {
        self.lock().patience = time.clamp(PATIENCE_MIN, PATIENCE_MAX);
    }

    /// Nobody fetches any more; what waits is still taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T> State<T> {
    fn is_full(&self) -> bool {
        self.waiting.len() >= PICTURES_MAX || self.bytes >= BYTES_MAX
    }
}

impl<T> Drop for OnItsWay<'_, T> {
    fn drop(&mut self) {
        self.0.lock().on_their_way -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_come_are_waited_for_and_a_full_place_is_not_filled_further() {
        let landing = Landing::new();
        let late = landing.on_its_way();
        landing.took(Duration::from_secs(9));
        landing.put(0, 1);
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| landing.take());
            landing.put(1, 1);
            drop(late);
            assert_eq!(taken.join().unwrap(), Some(vec![0, 1]));
            landing.put(2, BYTES_MAX);
            let blocked = scope.spawn(|| landing.put(3, 1));
            let first = landing.take().unwrap();
            blocked.join().unwrap();
            let rest = if first.len() == 1 { landing.take().unwrap() } else { Vec::new() };
            assert_eq!([first, rest].concat(), [2, 3]);
        });
    }

    #[test]
    fn patience_ends_and_so_does_the_place() {
        let landing = Landing::new();
        let _never = landing.on_its_way();
        landing.put(7, 1);
        assert_eq!(landing.take(), Some(vec![7]));
        landing.put(8, 1);
        landing.close();
        assert_eq!((landing.take(), landing.take()), (Some(vec![8]), None));
    }
}
