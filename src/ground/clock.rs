//! Time is handed in. Whoever needs to know how late it is holds a [`SharedClock`]; tests hold a [`TestClock`]
//! and move it by hand. Only this file reads the machine's clocks.
//!
//! Two readings, because a Raspberry Pi starts years in the past and is set right while it runs:
//! *monotonic* for ages and waits, *wall* for names and stamps.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that can be shared between threads.
pub type SharedClock = Arc<dyn Clock>;

/// What a room may ask about time.
pub trait Clock: Send + Sync {
    /// Time since the machine started, sleep included; never goes back, is never set.
    fn monotonic(&self) -> Duration;
    /// Names the run of the machine that [`Clock::monotonic`] counts from: readings of two processes may be
    /// compared only when it is the same.
    fn boot_id(&self) -> String;
    /// Milliseconds since 1970-01-01 UTC as the machine believes; may jump.
    fn wall_ms(&self) -> i64;

    /// Whether [`Clock::wall_ms`] can be believed. A clock that nobody checks is believed.
    fn wall_is_sure(&self) -> bool {
        true
    }

    /// What the machine itself believes, where that is corrected.
    fn machine_wall_ms(&self) -> i64 {
        self.wall_ms()
    }

    /// Somebody who knows says that it is `true_ms` now; nothing for a clock that nobody checks.
    fn learn_true_ms(&self, true_ms: i64) {
        let _ = true_ms;
    }
}

/// The machine's own clocks.
pub struct SystemClock {
    boot_id: String,
}

impl SystemClock {
    /// The machine's clocks, shared.
    pub fn shared() -> SharedClock {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Arc::new(SystemClock { boot_id: boot_id.trim().to_owned() })
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }

    #[allow(clippy::disallowed_methods)] // the one place that reads it
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock {
    now: Mutex<(Duration, i64, u32)>,
}

impl TestClock {
    /// A clock that reads `wall_ms` and monotonic one hour (so that "an hour ago" can be said).
    pub fn at(wall_ms: i64) -> Arc<TestClock> {
        Arc::new(TestClock { now: Mutex::new((Duration::from_secs(3600), wall_ms, 0)) })
    }

    /// Lets time pass: both readings go on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        now.0 += by;
        now.1 += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    }

    /// Starts the machine again: monotonic time begins anew under another boot id.
    pub fn reboot(&self) {
        let mut now = self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        now.0 = Duration::from_secs(10);
        now.2 += 1;
    }

    /// Sets the wall clock as NTP or an operator would: the monotonic reading does not notice.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).1 = wall_ms;
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn boot_id(&self) -> String {
        let boot = self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).2;
        format!("test-boot-{boot}")
    }

    fn wall_ms(&self) -> i64 {
        self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).1
    }
}

/// A moment in real time by which socket work has to be done. Sockets live in real time even in tests, so
/// this one does not go through [`Clock`].
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// The moment `within` from now.
    #[allow(clippy::disallowed_methods)]
    pub fn after(within: Duration) -> Deadline {
        Deadline { at: Instant::now() + within }
    }

    /// What is left; `None` once it has passed. Never zero, which socket time limits refuse.
    #[allow(clippy::disallowed_methods)]
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.at.saturating_duration_since(Instant::now());
        (left >= Duration::from_millis(1)).then_some(left)
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.remaining().is_none()
    }

    /// The sooner of the two.
    pub fn or_sooner(self, other: Deadline) -> Deadline {
        Deadline { at: self.at.min(other.at) }
    }
}

/// `20261122T170106Z`, for file names. Times outside the years 0 to 9999 become the epoch.
pub fn compact_utc(wall_ms: i64) -> String {
    stamp(wall_ms).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// `2026-11-22`, the UTC day.
pub fn day_utc(wall_ms: i64) -> String {
    stamp(wall_ms).strftime("%Y-%m-%d").to_string()
}

/// `2026-11-22T17:01:06.123Z`, for manifests and JSON.
pub fn rfc3339_utc(wall_ms: i64) -> String {
    stamp(wall_ms).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn stamp(wall_ms: i64) -> jiff::Zoned {
    let moment = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let moment = if moment < jiff::Timestamp::UNIX_EPOCH { jiff::Timestamp::UNIX_EPOCH } else { moment };
    moment.to_zoned(jiff::tz::TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_utc_and_sortable() {
        let at = 1_795_280_466_123;
        assert_eq!(compact_utc(at), "20261121T170106Z");
        assert_eq!(day_utc(at), "2026-11-21");
        assert_eq!(rfc3339_utc(at), "2026-11-21T17:01:06.123Z");
        assert_eq!(day_utc(i64::MAX), "1970-01-01");
        assert_eq!(day_utc(-5), "1970-01-01");
    }

    #[test]
    fn a_test_clock_moves_only_by_hand() {
        let clock = TestClock::at(1_000);
        let before = clock.monotonic();
        clock.advance(Duration::from_secs(2));
        clock.set_wall_ms(50);
        assert_eq!(clock.monotonic() - before, Duration::from_secs(2));
        assert_eq!(clock.wall_ms(), 50);
    }
}
