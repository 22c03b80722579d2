//! A bell: workers that have nothing to do wait at it; whoever brings work rings. A ring between looking for
//! work and waiting is not missed, because the waiter says which ring it has already answered.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A counter of rings that can be waited on.
#[derive(Default)]
pub struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    /// How often it has been rung.
    pub fn rings(&self) -> u64 {
        *self.lock()
    }

    /// Wakes everybody who waits.
    pub fn ring(&self) {
        *self.lock() += 1;
        self.rung.notify_all();
    }

    /// Waits until it has been rung more than `answered` times, or for `limit`.
    pub fn wait(&self, answered: u64, limit: Duration) {
        let guard = self.lock();
        let waited = self.rung.wait_timeout_while(guard, limit, |rings| *rings <= answered);
        drop(waited.unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.rings.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
