//! The stop signal: one value that everybody who waits holds. Waiting on it ends at once when a stop is asked
//! for, so nothing in the box sleeps through its own shutdown.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A stop signal, shared by cloning.
#[derive(Clone, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// A signal that nobody has given yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Asks everybody to stop.
    pub fn ask(&self) {
        *self.lock() = true;
        self.inner.changed.notify_all();
    }

    /// Whether a stop was asked for.
    pub fn asked(&self) -> bool {
        *self.lock()
    }

    /// Waits for at most `limit`; true when a stop was asked for.
    pub fn wait(&self, limit: Duration) -> bool {
        let guard = self.lock();
        let (guard, _) = self
            .inner
            .changed
            .wait_timeout_while(guard, limit, |asked| !*asked)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *guard
    }

    /// Waits until a stop is asked for.
    pub fn wait_for_ever(&self) {
        let mut guard = self.lock();
        while !*guard {
            guard = self.inner.changed.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.inner.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
