//! A wall clock that is checked against somebody who knows better. A Raspberry Pi starts with the date of its
//! last shutdown, or years in the past, and is set right while it runs; WeChat's answers carry the true time.
//!
//! What was learned is tied to the monotonic reading, so it holds for the rest of the machine's run whatever
//! happens to the wall clock. Nothing is stored: another run begins unsure.

use super::clock::{Clock, SharedClock, rfc3339_utc};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A wall clock that is off by less is left alone: the true time is known to the second, and an answer may have
/// been under way for a while.
pub const WALL_TOLERANCE_MS: i64 = 120_000;

/// The machine's clock, and what was learned about it.
pub struct CheckedClock {
    machine: SharedClock,
    /// The true wall time at the monotonic reading zero.
    true_at_zero_ms: Mutex<Option<i64>>,
}

impl CheckedClock {
    /// `machine`, about which nothing is known yet.
    pub fn over(machine: SharedClock) -> SharedClock {
        Arc::new(CheckedClock { machine, true_at_zero_ms: Mutex::new(None) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<i64>> {
        self.true_at_zero_ms.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.machine.monotonic().as_millis()).unwrap_or(i64::MAX)
    }
}

impl Clock for CheckedClock {
    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn boot_id(&self) -> String {
        self.machine.boot_id()
    }

    /// The machine's own reading, unless it is known to be wrong.
    fn wall_ms(&self) -> i64 {
        let machine_ms = self.machine.wall_ms();
        match *self.lock() {
            Some(zero_ms) if is_off(machine_ms, zero_ms + self.monotonic_ms()) => {
                zero_ms + self.monotonic_ms()
            }
            _ => machine_ms,
        }
    }

    fn machine_wall_ms(&self) -> i64 {
        self.machine.wall_ms()
    }

    fn wall_is_sure(&self) -> bool {
        self.lock().is_some()
    }

    fn learn_true_ms(&self, true_ms: i64) {
        let zero_ms = true_ms - self.monotonic_ms();
        let before = self.lock().replace(zero_ms);
        let machine_ms = self.machine.wall_ms();
        if is_off(machine_ms, true_ms) && before.is_none_or(|before| is_off(before, zero_ms)) {
            log::warn!(
                "this machine believes that it is {}; by WeChat's clock it is {}, which is used from now on",
                rfc3339_utc(machine_ms),
                rfc3339_utc(true_ms)
            );
        }
    }
}

fn is_off(one_ms: i64, other_ms: i64) -> bool {
    one_ms.abs_diff(other_ms) > WALL_TOLERANCE_MS.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::TestClock;

    const NOW_MS: i64 = 1_795_280_466_123;
    const MONTHS_MS: i64 = 7 * 30 * 86_400_000;

    #[test]
    fn a_clock_that_is_right_is_left_alone() {
        let machine = TestClock::at(NOW_MS);
        let clock = CheckedClock::over(machine.clone());
        assert!(!clock.wall_is_sure());
        clock.learn_true_ms(NOW_MS - 900);
        assert!(clock.wall_is_sure());
        assert_eq!(clock.wall_ms(), NOW_MS);
    }

    #[test]
    fn a_clock_that_is_wrong_is_put_right_and_stays_so_when_it_jumps() {
        let machine = TestClock::at(NOW_MS - MONTHS_MS);
        let clock = CheckedClock::over(machine.clone());
        assert_eq!(clock.wall_ms(), NOW_MS - MONTHS_MS);
        clock.learn_true_ms(NOW_MS);
        assert_eq!(clock.wall_ms(), NOW_MS);
        machine.advance(Duration::from_secs(10));
        assert_eq!(clock.wall_ms(), NOW_MS + 10_000);
        machine.set_wall_ms(NOW_MS + MONTHS_MS);
        assert_eq!(clock.wall_ms(), NOW_MS + 10_000);
        machine.set_wall_ms(NOW_MS + 10_500);
        assert_eq!(clock.wall_ms(), NOW_MS + 10_500);
    }
}
