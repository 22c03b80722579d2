//! Alerts: the box calls somebody when a person is needed. A thread of its own looks at the situation every few
//! seconds and sends what is news, to a command or to a webhook; it never holds up anything else.
//!
//! Each state is told once when it begins; it can be told again after it has ended. What could not be sent is
//! tried again with a wait, a bounded number of times.
//!
//! The room knows no other room: the appliance tells it the [`Situation`], and it leaves the house by an outbound
//! door of its own that leads to the webhook's host only.

mod delivery;

pub use delivery::{Delivery, Webhook};

use crate::ground::clock::SharedClock;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Messages that wait to be sent; older ones give way.
const WAITING_MAX: usize = 20;
/// Tries for one message.
const TRIES_MAX: u32 = 10;
/// The wait after a try that failed.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
const HOUR_SECONDS: i64 = 3600;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Situation {
    /// Everything waits for a person: code and what to do.
    pub paused: Option<(String, String)>,
    /// Seconds until WeChat deletes the picture that has the least time left.
    pub oldest_deadline_seconds: Option<i64>,
    /// Bytes free where the pictures are, and the bound below which nothing is downloaded.
    pub disk: Option<(u64, u64)>,
    /// Length of the failed list.
    pub failed: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// A slug: `paused`, `deadline-24h`, `deadline-6h`, `disk`, `failed`.
    pub kind: &'static str,
    /// One or two sentences in both languages.
    pub text: String,
}

/// Tells news from what was told before.
pub struct Alerts {
    delivery: Delivery,
    clock: SharedClock,
    told: BTreeSet<String>,
    failed_told: u64,
    waiting: VecDeque<(Alert, u32)>,
    not_before: Duration,
}

impl Alerts {
    /// Alerts that leave by `delivery`.
    pub fn new(delivery: Delivery, clock: SharedClock) -> Alerts {
        let (told, waiting) = (BTreeSet::new(), VecDeque::new());
        Alerts { delivery, clock, told, failed_told: 0, waiting, not_before: Duration::ZERO }
    }

    /// Looks once: what is news is sent, one message at a time.
    pub fn look(&mut self, situation: &Situation) {
        for alert in self.news(situation) {
            log::warn!("alert {}: {}", alert.kind, alert.text);
            if self.waiting.len() >= WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back((alert, 0));
        }
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        while self.clock.monotonic() >= self.not_before {
            let Some((alert, tries)) = self.waiting.pop_front() else { return };
            let Err(error) = self.delivery.send(&alert) else { continue };
            log::warn!("could not send the alert {}: {error:#}", alert.kind);
            if tries + 1 < TRIES_MAX {
                self.waiting.push_front((alert, tries + 1));
            }
            self.not_before = self.clock.monotonic() + TRY_AGAIN_AFTER;
        }
    }

    /// The states that hold now and have not been told since they began.
    fn news(&mut self, situation: &Situation) -> Vec<Alert> {
        let mut holding = Vec::new();
        if let Some((code, remedy)) = &situation.paused {
            let text = format!("盒子暂停，需要处理 / the box waits for a person ({code}): {remedy}");
            holding.push((format!("paused-{code}"), Alert { kind: "paused", text }));
        }
        if let Some(seconds) = situation.oldest_deadline_seconds {
            for (kind, hours) in [("deadline-24h", 24), ("deadline-6h", 6)] {
                if seconds < hours * HOUR_SECONDS {
                    let text = format!(
                        "有图片将在 {hours} 小时内被微信删除 / WeChat deletes a waiting picture in less than {hours} h"
                    );
                    holding.push((kind.to_owned(), Alert { kind, text }));
                }
            }
        }
        if let Some((free, minimum)) = situation.disk
            && free < minimum
        {
            let text = format!("磁盘空间不足 / the disk is nearly full: {} MB", free / 1_000_000);
            holding.push(("disk".to_owned(), Alert { kind: "disk", text }));
        }
        if situation.failed > self.failed_told {
            let text = format!("失败的图片：{0} / failed pictures: {0}; tubox status", situation.failed);
            holding.push((format!("failed-{}", situation.failed), Alert { kind: "failed", text }));
        }
        self.failed_told = situation.failed;
        let told = std::mem::take(&mut self.told);
        self.told = holding.iter().map(|(state, _)| state.clone()).collect();
        holding.into_iter().filter(|(state, _)| !told.contains(state)).map(|(_, alert)| alert).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::TestClock;

    fn kinds(alerts: &mut Alerts, situation: &Situation) -> Vec<&'static str> {
        alerts.news(situation).into_iter().map(|alert| alert.kind).collect()
    }

    #[test]
    fn each_state_is_told_once_and_again_after_it_has_ended() {
        let mut alerts = Alerts::new(Delivery::default(), TestClock::at(0));
        let calm = Situation {
            oldest_deadline_seconds: Some(50 * 3600),
            disk: Some((10, 5)),
            ..Situation::default()
        };
        assert!(kinds(&mut alerts, &calm).is_empty());
        let mut trouble = Situation { paused: Some(("48001".into(), "verify".into())), ..calm.clone() };
        trouble.oldest_deadline_seconds = Some(20 * 3600);
        trouble.disk = Some((4, 5));
        trouble.failed = 2;
        assert_eq!(kinds(&mut alerts, &trouble), ["paused", "deadline-24h", "disk", "failed"]);
        assert!(kinds(&mut alerts, &trouble).is_empty());
        trouble.oldest_deadline_seconds = Some(5 * 3600);
        trouble.failed = 3;
        assert_eq!(kinds(&mut alerts, &trouble), ["deadline-6h", "failed"]);
        assert!(kinds(&mut alerts, &calm).is_empty());
        trouble.failed = 1;
        assert_eq!(kinds(&mut alerts, &trouble), ["paused", "deadline-24h", "deadline-6h", "disk", "failed"]);
    }

    #[test]
    fn what_cannot_be_sent_is_tried_again_a_bounded_number_of_times() {
        let clock = TestClock::at(0);
        let delivery = Delivery { command: Some("/nonexistent/alert".into()), webhook: None };
        let mut alerts = Alerts::new(delivery, clock.clone());
        let failed = Situation { failed: 1, ..Situation::default() };
        for _ in 0..TRIES_MAX {
            alerts.look(&failed);
            clock.advance(TRY_AGAIN_AFTER);
        }
        assert!(alerts.waiting.is_empty());
        alerts.look(&failed);
        assert!(alerts.waiting.is_empty());
    }
}
