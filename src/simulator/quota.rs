//! Call quotas as WeChat counts them: by day and by minute, for each route.

use super::Route;
use super::codes;
use std::collections::HashMap;
use std::time::Duration;

/// How often a route may be called; `None`: without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Calls a day (of Beijing, by the simulator's wall clock).
    pub per_day: Option<u64>,
    /// Calls a minute.
    pub per_minute: Option<u64>,
}

/// The quotas and what has been used of them.
#[derive(Default)]
pub struct QuotaBook {
    limits: HashMap<Route, Quota>,
    day: HashMap<Route, (i64, u64)>,
    minute: HashMap<Route, (u64, u64)>,
}

impl QuotaBook {
    /// Sets the quota of a route; what was used stays used.
    pub fn set(&mut self, route: Route, quota: Quota) {
        self.limits.insert(route, quota);
    }

    /// Counts one call; the error code if it is one too many.
    pub fn count(&mut self, route: Route, now: Duration, day: i64) -> Option<i64> {
        let quota = self.limits.get(&route).copied().unwrap_or_default();
        let today = next_in_window(self.day.entry(route).or_default(), day);
        let this_minute = next_in_window(self.minute.entry(route).or_default(), now.as_secs() / 60);
        if quota.per_day.is_some_and(|most| today > most) {
            Some(codes::DAY_QUOTA)
        } else if quota.per_minute.is_some_and(|most| this_minute > most) {
            Some(codes::MINUTE_QUOTA)
        } else {
            None
        }
    }

    /// Daily limit and used calls.
    pub fn of_today(&self, route: Route, day: i64) -> (Option<u64>, u64) {
        let used = self.day.get(&route).filter(|(of, _)| *of == day).map_or(0, |(_, used)| *used);
        (self.limits.get(&route).and_then(|quota| quota.per_day), used)
    }
}

fn next_in_window<W: PartialEq + Copy>(counter: &mut (W, u64), window: W) -> u64 {
    if counter.0 != window {
        *counter = (window, 0);
    }
    counter.1 += 1;
    counter.1
}

/// The number of the quota's day: days of Beijing time since 1970.
pub fn quota_day(wall_ms: i64) -> i64 {
    (wall_ms.div_euclid(1000) + 8 * 3600).div_euclid(86_400)
}
