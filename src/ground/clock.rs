//! Time is handed in. Whoever needs to know how late it is holds a [`SharedClock`]; tests hold a [`TestClock`]
//! and move it by hand. Only this file reads the machine's clocks.
//!
//! Two readings, because a Raspberry Pi starts years in the past and is set right while it runs:
//! *monotonic* for ages and waits, *wall* for names and stamps.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use std::fmt;
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
    let at = civil_utc(wall_ms);
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// `2026-11-22`, the UTC day.
pub fn day_utc(wall_ms: i64) -> String {
    day_text(civil_utc(wall_ms).date())
}

/// `2026-11-22T17:01:06.123Z`, for manifests and JSON.
pub fn rfc3339_utc(wall_ms: i64) -> String {
    Rfc3339Utc(wall_ms).to_string()
}

/// A moment in milliseconds since the epoch that is written like [`rfc3339_utc`].
pub struct Rfc3339Utc(pub i64);

impl fmt::Display for Rfc3339Utc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = civil_utc(self.0);
        let time = at.time();
        write_day(out, at.date())?;
        write!(
            out,
            "T{:02}:{:02}:{:02}.{:03}Z",
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        )
    }
}

/// The day of `2026-11-22`; `None` for anything else and for days that do not exist.
pub fn parse_day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let mut number = |digits| {
        let part = parts.next()?;
        (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let (year, month, day): (i16, i16, i16) = (number(4)?, number(2)?, number(2)?);
    if parts.next().is_some() {
        return None;
    }
    Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// Date and time of `2026-11-22T17:01:06.123Z` to the second; `None` for anything else.
pub fn parse_rfc3339_utc(text: &str) -> Option<DateTime> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut parts = time.split('.').next()?.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let time = Time::new(hour, minute, second, 0).ok().filter(|_| parts.next().is_none())?;
    Some(parse_day(day)?.to_datetime(time))
}

/// The day as it is written everywhere.
pub fn day_text(day: Date) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_day(&mut text, day);
    text
}

fn write_day(out: &mut impl fmt::Write, day: Date) -> fmt::Result {
    write!(out, "{:04}-{:02}-{:02}", day.year(), day.month(), day.day())
}

/// Without jiff's time zones: there is one, and they are 60 KB.
fn civil_utc(wall_ms: i64) -> DateTime {
    let moment = Timestamp::from_millisecond(wall_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    Offset::UTC.to_datetime(moment.max(Timestamp::UNIX_EPOCH))
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
    fn stamps_and_days_are_read_as_they_are_written() {
        let read = parse_rfc3339_utc("2026-11-21T17:01:06.123Z").unwrap();
        assert_eq!(read, DateTime::new(2026, 11, 21, 17, 1, 6, 0).unwrap());
        assert_eq!(parse_rfc3339_utc("2026-11-21T17:01:06Z"), Some(read));
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T17:01:06.123",
            "2026-11-21T17:01Z",
            "2026-11-21T24:01:06Z",
            "2026-11-21T1:2:3:4Z",
            "2026-02-30T17:01:06Z",
        ] {
            assert_eq!(parse_rfc3339_utc(bad), None, "{bad}");
        }
        assert_eq!(parse_day("2028-02-29").map(day_text).as_deref(), Some("2028-02-29"));
        for bad in
            ["", "2026-11", "2026-11-31", "2026-13-01", "26-11-21", "+026-11-21", "2026-11-21-1", "2026-1-1"]
        {
            assert_eq!(parse_day(bad), None, "{bad}");
        }
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
