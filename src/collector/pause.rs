//! The pause of everybody: closed by a fault that concerns all pictures, opened by the first answer after it.
//! When its time is over one try goes ahead as a probe; a second one waits until that has ended.

use crate::ground::clock::rfc3339_utc;
use crate::ground::language::Words;
use crate::ground::random::SharedRandom;
use crate::wechat::Fault;
use crate::wechat::fault::{Outcome, PauseLength};
use std::time::Duration;

/// Gaps between probes while the network or the disk is gone.
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(15);
/// Gaps between probes while a person has to mend something.
const OPERATOR_MIN: Duration = Duration::from_secs(30);
const OPERATOR_MAX: Duration = Duration::from_secs(600);
/// How long others wait for a probe that is under way before they look again.
const PROBE_LOOK: Duration = Duration::from_secs(1);
/// WeChat's day begins at midnight in China.
const CHINA_OFFSET_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// Whether a try may go ahead.
pub(super) enum Gate {
    /// Nothing pauses.
    Open,
    /// The pause is over; this one try goes ahead and must end in `close`, `open` or `leave_probe`.
    Probe,
    /// Wait so long.
    Closed(Duration),
}

/// Why everybody waits, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// WeChat's code or a slug of ours.
    pub code: String,
    /// What it means.
    pub reason: Words,
    /// What was seen.
    pub detail: String,
    /// What a person can do.
    pub remedy: Words,
    /// Time until the next gentle try.
    pub wait: Duration,
    /// Since when, RFC 3339.
    pub since: String,
}

#[derive(Default)]
pub(super) struct Pause {
    closed: Option<Closed>,
}

struct Closed {
    fault: Fault,
    until: Duration,
    since_ms: i64,
    times: u32,
    is_probing: bool,
}

impl Pause {
    pub(super) fn gate(&mut self, now: Duration) -> Gate {
        match &mut self.closed {
            None => Gate::Open,
            Some(closed) if now < closed.until => Gate::Closed(closed.until - now),
            Some(closed) if closed.is_probing => Gate::Closed(PROBE_LOOK),
            Some(closed) => {
                closed.is_probing = true;
                Gate::Probe
            }
        }
    }

    /// The probe found nothing to try.
    pub(super) fn leave_probe(&mut self) {
        if let Some(closed) = &mut self.closed {
            closed.is_probing = false;
        }
    }

    /// Closes, or stays closed for longer. Returns for how long, and whether the reason is news.
    pub(super) fn close(
        &mut self,
        fault: &Fault,
        now: Duration,
        wall_ms: i64,
        random: &SharedRandom,
    ) -> (Duration, bool) {
        let before = self.closed.take().filter(|closed| closed.fault.code == fault.code);
        let is_news = before.is_none();
        // Tries that were under way together when it closed count as one.
        let late = before.as_ref().filter(|closed| now < closed.until).map(|closed| closed.until);
        let times = before.as_ref().map_or(0, |closed| closed.times) + u32::from(late.is_none());
        let wait = length(fault.outcome(), times, wall_ms, random);
        let until = late.unwrap_or(now + wait);
        let since_ms = before.map_or(wall_ms, |closed| closed.since_ms);
        self.closed = Some(Closed { fault: fault.clone(), until, since_ms, times, is_probing: false });
        (until.saturating_sub(now), is_news)
    }

    /// Opens; true when it was closed.
    pub(super) fn open(&mut self) -> bool {
        self.closed.take().is_some()
    }

    pub(super) fn view(&self, now: Duration) -> Option<Paused> {
        let closed = self.closed.as_ref()?;
        let entry = closed.fault.entry();
        Some(Paused {
            code: closed.fault.code.to_string(),
            reason: entry.reason,
            detail: closed.fault.detail.clone(),
            remedy: entry.remedy,
            wait: closed.until.saturating_sub(now),
            since: rfc3339_utc(closed.since_ms),
        })
    }
}

fn length(outcome: Outcome, times: u32, wall_ms: i64, random: &SharedRandom) -> Duration {
    let growing = |shortest: Duration, longest: Duration| {
        let full = shortest.saturating_mul(1 << times.saturating_sub(1).min(20)).min(longest);
        full.mul_f64(0.75 + random.fraction() / 4.0)
    };
    match outcome {
        Outcome::Pause(PauseLength::UntilProbe) => growing(PROBE_MIN, PROBE_MAX),
        Outcome::Pause(PauseLength::Minute) => Duration::from_secs(61),
        Outcome::Pause(PauseLength::Hour) => Duration::from_secs(3601),
        Outcome::Pause(PauseLength::NextDay) => until_next_day_in_china(wall_ms),
        _ => growing(OPERATOR_MIN, OPERATOR_MAX),
    }
}

/// At most an hour at once: the hour of the daily reset is documented nowhere, and the clock may be wrong.
fn until_next_day_in_china(wall_ms: i64) -> Duration {
    let into_day_ms = (wall_ms + CHINA_OFFSET_MS).rem_euclid(DAY_MS);
    Duration::from_millis((DAY_MS - into_day_ms).unsigned_abs()).min(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::random::SeededRandom;

    const T0: Duration = Duration::from_secs(1000);

    #[test]
    fn one_probe_at_a_time_and_growing_gaps() {
        let random = SeededRandom::shared(1);
        let mut pause = Pause::default();
        let fault = Fault::new("network", "");
        let (first, is_news) = pause.close(&fault, T0, 0, &random);
        assert!(is_news && first <= Duration::from_secs(1));
        // Others that were under way fail too: that changes nothing.
        let (same, is_news) = pause.close(&fault, T0, 0, &random);
        assert!(!is_news && same == first);
        assert!(matches!(pause.gate(T0), Gate::Closed(_)));
        let mut now = T0 + first;
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            assert!(matches!(pause.gate(now), Gate::Probe));
            assert!(matches!(pause.gate(now), Gate::Closed(_)));
            last = pause.close(&fault, now, 0, &random).0;
            now += last;
        }
        assert!(last > Duration::from_secs(10) && last <= PROBE_MAX);
        assert!(matches!(pause.gate(now), Gate::Probe));
        pause.leave_probe();
        assert!(matches!(pause.gate(now), Gate::Probe));
        assert!(pause.open() && !pause.open());
        assert!(matches!(pause.gate(now), Gate::Open));
    }

    #[test]
    fn a_used_up_quota_waits_for_midnight_in_china() {
        // 2026-11-21T15:30Z is 23:30 in China.
        assert_eq!(until_next_day_in_china(1_795_275_000_000), Duration::from_secs(1800));
        assert_eq!(until_next_day_in_china(0), Duration::from_secs(3600));
    }
}
