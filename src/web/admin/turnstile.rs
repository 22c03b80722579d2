//! Lets so many in at a time and turns the others away: an answer that takes long holds one of the web room's
//! handlers, and contributors must always find a free one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A turnstile, shared by cloning.
#[derive(Clone)]
pub(super) struct Turnstile {
    inside: Arc<AtomicUsize>,
    most: usize,
}

/// A place inside, given back on drop.
pub(super) struct Place {
    inside: Arc<AtomicUsize>,
}

impl Turnstile {
    pub(super) fn new(most: usize) -> Turnstile {
        Turnstile { inside: Arc::default(), most }
    }

    /// A place, if there is one.
    pub(super) fn enter(&self) -> Option<Place> {
        let one_more = |inside: usize| (inside < self.most).then_some(inside + 1);
        self.inside.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(Place { inside: self.inside.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more() {
        let turnstile = Turnstile::new(2);
        let (first, second) = (turnstile.enter(), turnstile.clone().enter());
        assert!(first.is_some() && second.is_some() && turnstile.enter().is_none());
        drop(first);
        assert!(turnstile.enter().is_some());
    }
}
