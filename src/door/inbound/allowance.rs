//! Something of which all connections together may have so much: ways inside, bytes of large bodies. Taken and
//! given back; whoever finds too little left waits for a while. It does not know what it counts.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What is left for all.
pub(super) struct Allowance {
    state: Mutex<State>,
    returned: Condvar,
    /// Whether everybody takes exactly one. Then whoever gives one back wakes one who waits: waking all of a crowd
    /// each time costs more than what they wait for.
    is_of_ones: bool,
}

struct State {
    left: u64,
    /// Who would be woken: calling into the kernel to wake nobody costs as much as a read.
    waiting: usize,
}

/// A part of it, given back when dropped.
pub(super) struct Share<'a> {
    of: &'a Allowance,
    amount: u64,
}

impl Allowance {
    pub(super) fn new(whole: u64) -> Allowance {
        let state = State { left: whole, waiting: 0 };
        Allowance { state: Mutex::new(state), returned: Condvar::new(), is_of_ones: false }
    }

    /// Of which one is taken at a time.
    pub(super) fn of_ones(whole: u64) -> Allowance {
        Allowance { is_of_ones: true, ..Allowance::new(whole) }
    }

    /// Takes `amount`, waiting for at most `patience` until there is as much.
    pub(super) fn take(&self, amount: u64, patience: Duration) -> Option<Share<'_>> {
        let mut state = self.state();
        if state.left < amount {
            state.waiting += 1;
            let waited = self.returned.wait_timeout_while(state, patience, |state| state.left < amount);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            state.waiting -= 1;
        }
        state.left = state.left.checked_sub(amount)?;
        Some(Share { of: self, amount })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.left += self.amount;
        let is_awaited = state.waiting > 0;
        drop(state);
        match (is_awaited, self.of.is_of_ones) {
            (false, _) => {}
            (true, true) => self.of.returned.notify_one(),
            // Those who wait may want different amounts, so waking one could wake the wrong one.
            (true, false) => self.of.returned.notify_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn what_is_taken_comes_back() {
        let allowance = Allowance::new(3);
        let two = allowance.take(2, Duration::ZERO).unwrap();
        assert!(allowance.take(2, Duration::from_millis(5)).is_none());
        let one = allowance.take(1, Duration::ZERO).unwrap();
        drop(two);
        assert!(allowance.take(3, Duration::ZERO).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| allowance.take(3, Duration::from_secs(30)).is_some());
            drop(one);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_crowd_takes_turns_of_one() {
        let allowance = Allowance::of_ones(2);
        let turns = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let share = allowance.take(1, Duration::from_secs(60)).unwrap();
                        turns.fetch_add(share.amount, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!((turns.into_inner(), allowance.state().left), (800, 2));
    }
}
