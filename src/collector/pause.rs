//! The pause of everybody: closed by a fault that concerns all pictures, opened by the first answer after it.
//! When its time is over one try goes ahead as a probe; a second one waits until that has ended.
//!
//! A picture may have a fault of its own that looks like everybody's. Whoever closes the way and is proved wrong
//! by another picture's answer, twice, is not believed any more; without this one poor id could stop all others.

use crate::ground::clock::rfc3339_utc;
use crate::ground::language::Words;
use crate::ground::media_id::MediaId;
use crate::ground::random::SharedRandom;
use crate::wechat::Fault;
use crate::wechat::fault::{Outcome, PauseLength};
use std::collections::HashMap;
use std::time::Duration;

/// Gaps between probes while the network or the disk is gone.
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(15);
/// Gaps between probes while a person has to mend something.
const OPERATOR_MIN: Duration = Duration::from_secs(30);
const OPERATOR_MAX: Duration = Duration::from_secs(600);
/// How long others wait for a probe that is under way before they look again.
const PROBE_LOOK: Duration = Duration::from_secs(1);
/// So many tries in a row without any answer are one fact about everybody.
const SILENCES_MAX: u32 = 3;
/// After so many false alarms an id is not believed any more.
const FALSE_ALARMS_MAX: u32 = 2;
/// Ids whose false alarms are remembered; beyond it all is forgiven.
const ALARMS_KEPT: usize = 1000;
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
    silences: u32,
    false_alarms: HashMap<MediaId, u32>,
}

struct Closed {
    fault: Fault,
    cause: Option<MediaId>,
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

    /// Whether a fault of this picture is to be taken for everybody's.
    pub(super) fn concerns_everybody(&mut self, fault: &Fault, media_id: &MediaId) -> bool {
        let is_believed = self.false_alarms.get(media_id).is_none_or(|count| *count < FALSE_ALARMS_MAX);
        match fault.outcome() {
            Outcome::Pause(_) | Outcome::Operator | Outcome::RenewCredential => is_believed,
            Outcome::RetryTogether => {
                self.silences += 1;
                is_believed && (self.closed.is_some() || self.silences >= SILENCES_MAX)
            }
            _ => false,
        }
    }

    /// Closes, or stays closed for longer. Returns for how long, and whether the reason is news.
    pub(super) fn close(
        &mut self,
        fault: &Fault,
        cause: Option<&MediaId>,
        now: Duration,
        wall_ms: i64,
        random: &SharedRandom,
    ) -> (Duration, bool) {
        // Tries that were under way together when it closed count as one.
        if let Some(closed) = self.closed.as_ref().filter(|closed| now < closed.until) {
            return (closed.until - now, false);
        }
        let before = self.closed.take().filter(|closed| closed.fault.code == fault.code);
        let is_news = before.is_none();
        let times = before.as_ref().map_or(0, |closed| closed.times) + 1;
        let wait = length(fault.outcome(), times, wall_ms, random);
        let since_ms = before.as_ref().map_or(wall_ms, |closed| closed.since_ms);
        let cause = before.map_or(cause.cloned(), |closed| closed.cause);
        let (fault, until) = (fault.clone(), now + wait);
        self.closed = Some(Closed { fault, cause, until, since_ms, times, is_probing: false });
        (wait, is_news)
    }

    /// WeChat has answered for `media_id`, so nothing stands in the way of the others; true when it was closed.
    pub(super) fn open_for(&mut self, media_id: &MediaId) -> bool {
        self.silences = 0;
        let Some(closed) = self.closed.take() else { return false };
        if let Some(cause) = closed.cause.filter(|cause| cause != media_id) {
            if self.false_alarms.len() >= ALARMS_KEPT {
                self.false_alarms.clear();
            }
            *self.false_alarms.entry(cause).or_default() += 1;
        }
        true
    }

    /// The picture is settled; what it did is forgotten.
    pub(super) fn forget(&mut self, media_id: &MediaId) {
        self.false_alarms.remove(media_id);
    }

    /// Opens because a person says so.
    pub(super) fn open(&mut self) {
        self.silences = 0;
        self.closed = None;
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
        Outcome::Pause(PauseLength::UntilProbe) | Outcome::RetryTogether => growing(PROBE_MIN, PROBE_MAX),
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
        let (first, is_news) = pause.close(&fault, None, T0, 0, &random);
        assert!(is_news && first <= Duration::from_secs(1));
        // Others that were under way fail too, in this way or another: that changes nothing.
        for late in [&fault, &Fault::new("45009", "")] {
            assert_eq!(pause.close(late, None, T0, 0, &random), (first, false));
        }
        assert!(matches!(pause.gate(T0), Gate::Closed(_)));
        let mut now = T0 + first;
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            assert!(matches!(pause.gate(now), Gate::Probe));
            assert!(matches!(pause.gate(now), Gate::Closed(_)));
            last = pause.close(&fault, None, now, 0, &random).0;
            now += last;
        }
        assert!(last > Duration::from_secs(10) && last <= PROBE_MAX);
        assert!(matches!(pause.gate(now), Gate::Probe));
        pause.leave_probe();
        assert!(matches!(pause.gate(now), Gate::Probe));
        let id = MediaId::parse("a").unwrap();
        assert!(pause.open_for(&id) && !pause.open_for(&id));
        assert!(matches!(pause.gate(now), Gate::Open));
    }

    #[test]
    fn three_silences_in_a_row_are_one_fact() {
        let (mut pause, silence) = (Pause::default(), Fault::new("no-answer", ""));
        let [a, b] = ["a", "b"].map(|id| MediaId::parse(id).unwrap());
        for _ in 0..5 {
            assert!(!pause.concerns_everybody(&silence, &a) && !pause.concerns_everybody(&silence, &b));
            pause.open_for(&a);
        }
        assert!(!pause.concerns_everybody(&silence, &a) && !pause.concerns_everybody(&silence, &b));
        assert!(pause.concerns_everybody(&silence, &a));
        assert!(!pause.concerns_everybody(&Fault::new("40007", ""), &a));
    }

    #[test]
    fn an_id_whose_alarms_are_false_is_not_believed_a_third_time() {
        let random = SeededRandom::shared(2);
        let (mut pause, fault) = (Pause::default(), Fault::new("48001", ""));
        let [poor, good] = ["poor", "good"].map(|id| MediaId::parse(id).unwrap());
        let mut now = T0;
        for believed in [true, true, false] {
            assert_eq!(pause.concerns_everybody(&fault, &poor), believed);
            now += pause.close(&fault, Some(&poor), now, 0, &random).0;
            assert!(pause.open_for(&good));
        }
        assert!(pause.concerns_everybody(&fault, &good));
        pause.forget(&poor);
        assert!(pause.concerns_everybody(&fault, &poor));
    }

    #[test]
    fn a_used_up_quota_waits_for_midnight_in_china() {
        // 2026-11-21T15:30Z is 23:30 in China.
        assert_eq!(until_next_day_in_china(1_795_275_000_000), Duration::from_secs(1800));
        assert_eq!(until_next_day_in_china(0), Duration::from_secs(3600));
    }
}
