//! How often one address may ask: a bucket that holds a minute's worth and fills evenly.

use crate::ground::clock::SharedClock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

/// Addresses that are remembered. When there are more, those whose bucket is full again are forgotten first.
const ADDRESSES_MAX: usize = 10_000;

const MINUTE: Duration = Duration::from_secs(60);

pub(super) struct Rates {
    per_minute: u32,
    clock: SharedClock,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Duration,
}

impl Rates {
    /// `per_minute` 0: no limit.
    pub(super) fn new(per_minute: u32, clock: SharedClock) -> Rates {
        Rates { per_minute, clock, buckets: Mutex::default() }
    }

    /// Takes one from the address's bucket; `Some` with the time to wait when it is empty.
    pub(super) fn take(&self, client: IpAddr) -> Option<Duration> {
        if self.per_minute == 0 {
            return None;
        }
        let now = self.clock.monotonic();
        let full = f64::from(self.per_minute);
        let per_second = full / MINUTE.as_secs_f64();
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if buckets.len() >= ADDRESSES_MAX {
            buckets.retain(|_, bucket| now.saturating_sub(bucket.at) < MINUTE);
            if buckets.len() >= ADDRESSES_MAX {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(network_of(client)).or_insert(Bucket { left: full, at: now });
        bucket.left = (bucket.left + now.saturating_sub(bucket.at).as_secs_f64() * per_second).min(full);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - bucket.left) / per_second))
    }
}

/// One IPv6 household has a whole /64.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::TestClock;

    #[test]
    fn a_burst_of_a_minute_then_an_even_flow() {
        let clock = TestClock::at(0);
        let rates = Rates::new(60, clock.clone());
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert!((0..60).all(|_| rates.take(one).is_none()));
        let wait = rates.take(one).unwrap();
        assert!(wait <= Duration::from_secs(1));
        assert!(rates.take(other).is_none());
        clock.advance(Duration::from_millis(1001));
        assert!(rates.take(one).is_none());
        assert!(rates.take(one).is_some());
        assert!((0..9999).all(|_| Rates::new(0, clock.clone()).take(one).is_none()));
        let neighbours = ["2001:db8::1", "2001:db8::ffff"].map(|text| network_of(text.parse().unwrap()));
        assert_eq!(neighbours[0], neighbours[1]);
    }
}
