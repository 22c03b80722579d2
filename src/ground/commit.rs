//! Group commit: many threads each bring one item, one thread commits all that wait, everybody gets the
//! answer for their own. A slow disk then costs one sync for all who wait at that moment instead of one each.
//!
//! On a fast disk a crowd would still pay for many small commits, because a sync is over before many have come. So
//! where there is a [`Crowd`], a commit waits a moment for a part of it. Only a part, so that the others are on their
//! way meanwhile and nobody waits for those who will not come.

use super::clock::Deadline;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A commit waits until one of so many is there.
const PART_OF_CROWD: usize = 4;

/// More than these are never waited for: by then a sync's share is small.
const COMPANY_MAX: usize = 32;

/// The most that a commit waits for company. A card's sync takes as long; at 1,000 submissions a second 30 come meanwhile.
const PATIENCE: Duration = Duration::from_millis(30);

/// How many there are who could bring something. Whoever knows tells; a commit reads it.
#[derive(Clone, Debug, Default)]
pub struct Crowd(Arc<AtomicUsize>);

impl Crowd {
    /// From now on there are `count`.
    pub fn tell(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// How many should wait before a commit begins.
    fn company(&self) -> usize {
        (self.0.load(Ordering::Relaxed) / PART_OF_CROWD).min(COMPANY_MAX)
    }
}

/// A place where commits are gathered.
pub struct GroupCommit<T, R> {
    state: Mutex<State<T, R>>,
    /// For the committing thread, when there is something, or enough of it.
    is_enough: Condvar,
    batch_max: usize,
    crowd: Crowd,
}

struct State<T, R> {
    /// In the order in which they came.
    waiting: Vec<(T, Arc<Seat<R>>)>,
    /// The committing thread waits for so many; for none while it is at work.
    awaited: Option<usize>,
    is_closed: bool,
}

/// Where one thread waits, so that a commit wakes those whom it concerns and nobody else.
struct Seat<R> {
    /// `None` inside: the commit that took this item panicked, or there will be none.
    answer: Mutex<Option<Option<R>>>,
    answered: Condvar,
}

impl<T, R> GroupCommit<T, R> {
    /// A place that commits at most `batch_max` items at once, brought by a part of `crowd`.
    pub fn new(batch_max: usize, crowd: Crowd) -> GroupCommit<T, R> {
        let state = State { waiting: Vec::new(), awaited: None, is_closed: false };
        let (state, is_enough) = (Mutex::new(state), Condvar::new());
        GroupCommit { state, is_enough, batch_max: batch_max.max(1), crowd }
    }

    /// Brings `item`; returns its answer once it was part of a commit. `None` when the commit panicked or returned too
    /// few answers, and after [`GroupCommit::close`].
    pub fn submit(&self, item: T) -> Option<R> {
        let seat = Arc::new(Seat { answer: Mutex::new(None), answered: Condvar::new() });
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        state.waiting.push((item, seat.clone()));
        let is_enough = state.awaited.is_some_and(|awaited| state.waiting.len() >= awaited);
        drop(state);
        if is_enough {
            self.is_enough.notify_one();
        }
        seat.wait()
    }

    /// Commits what is brought until the place is closed; one thread does so. `commit` gets the items in the order in
    /// which they came, and tells one answer for each, in the same order, as soon as it knows them. What it does after
    /// that nobody waits for, except the next commit.
    pub fn serve(&self, commit: impl Fn(Vec<T>, &mut dyn FnMut(Vec<R>))) {
        while let Some(batch) = self.gather() {
            let (items, seats): (Vec<T>, Vec<Arc<Seat<R>>>) = batch.into_iter().unzip();
            let mut seats = seats.into_iter();
            let mut tell = |answers: Vec<R>| {
                answers.into_iter().zip(seats.by_ref()).for_each(|(answer, seat)| seat.answer(Some(answer)));
            };
            // Whoever has no answer after it gets none.
            let _ = catch_unwind(AssertUnwindSafe(|| commit(items, &mut tell)));
            seats.for_each(|seat| seat.answer(None));
        }
    }

    /// Nothing more is taken; what waits is still committed.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.is_enough.notify_one();
    }

    /// The items of the next commit; `None` when the place is closed and nothing waits.
    fn gather(&self) -> Option<Vec<(T, Arc<Seat<R>>)>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.is_closed {
                return None;
            }
            state.awaited = Some(1);
            state = self.is_enough.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        let patience = Deadline::after(PATIENCE);
        let company = self.crowd.company().min(self.batch_max);
        while state.waiting.len() < company && !state.is_closed {
            let Some(left) = patience.remaining() else { break };
            state.awaited = Some(company);
            let waited = self.is_enough.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        state.awaited = None;
        let count = state.waiting.len().min(self.batch_max);
        Some(state.waiting.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<R> Seat<R> {
    fn answer(&self, answer: Option<R>) {
        *self.answer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(answer);
        self.answered.notify_one();
    }

    fn wait(&self) -> Option<R> {
        let mut answer = self.answer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => answer = self.answered.wait(answer).unwrap_or_else(|poisoned| poisoned.into_inner()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// Runs `clients` while another thread serves `place`.
    fn served<T: Send, R: Send>(
        place: &GroupCommit<T, R>,
        commit: impl Fn(Vec<T>) -> Vec<R> + Sync,
        clients: impl FnOnce(),
    ) {
        std::thread::scope(|scope| {
            scope.spawn(|| place.serve(|items, tell| tell(commit(items))));
            clients();
            place.close();
        });
    }

    #[test]
    fn everybody_gets_their_own_answer_from_few_commits() {
        let place = GroupCommit::new(1000, Crowd::default());
        let commits = AtomicUsize::new(0);
        let (first_is_in, others_wait) = (Barrier::new(2), Barrier::new(2));
        let commit = |items: Vec<u32>| {
            if commits.fetch_add(1, Ordering::SeqCst) == 0 {
                first_is_in.wait();
                others_wait.wait();
            }
            items
        };
        served(&place, commit, || {
            std::thread::scope(|scope| {
                let first = scope.spawn(|| place.submit(0));
                first_is_in.wait();
                let (place, others) = (&place, 1..20);
                let others: Vec<_> =
                    others.map(|item| (item, scope.spawn(move || place.submit(item)))).collect();
                while place.lock().waiting.len() < 19 {
                    std::thread::yield_now();
                }
                others_wait.wait();
                assert_eq!(first.join().unwrap(), Some(0));
                for (item, thread) in others {
                    assert_eq!(thread.join().unwrap(), Some(item));
                }
            });
        });
        assert_eq!(commits.load(Ordering::SeqCst), 2);
        assert_eq!(place.submit(1), None, "it is closed");
    }

    #[test]
    fn a_panicking_commit_answers_none_and_the_next_one_works() {
        let place = GroupCommit::new(8, Crowd::default());
        let commit = |items: Vec<u32>| match items[0] {
            1 => panic!("disk on fire"),
            3 => Vec::new(),
            _ => items,
        };
        served(&place, commit, || {
            assert_eq!(place.submit(1), None);
            assert_eq!(place.submit(2), Some(2));
            assert_eq!(place.submit(3), None);
        });
    }

    #[test]
    fn nobody_waits_for_what_a_commit_does_after_its_answers() {
        let place = GroupCommit::new(8, Crowd::default());
        let has_answer = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                place.serve(|items: Vec<u32>, tell| {
                    tell(items);
                    has_answer.wait();
                });
            });
            assert_eq!(place.submit(1), Some(1));
            has_answer.wait();
            place.close();
        });
    }

    #[test]
    fn where_there_is_a_crowd_a_part_of_it_shares_a_commit() {
        let crowd = Crowd::default();
        let place = GroupCommit::new(100, crowd.clone());
        let commits = AtomicUsize::new(0);
        let commit = |items: Vec<u32>| {
            commits.fetch_add(1, Ordering::SeqCst);
            items
        };
        crowd.tell(2 * PART_OF_CROWD);
        served(&place, commit, || {
            std::thread::scope(|scope| {
                let (first, second) = (scope.spawn(|| place.submit(1)), scope.spawn(|| place.submit(2)));
                assert_eq!((first.join().unwrap(), second.join().unwrap()), (Some(1), Some(2)));
            });
            // Also when a busy machine lets the second come too late; who stays alone is answered all the same.
            assert!((1..=2).contains(&commits.load(Ordering::SeqCst)));
            assert_eq!(place.submit(3), Some(3));
            assert_eq!(crowd.company(), 2);
            crowd.tell(100_000);
            assert_eq!(crowd.company(), COMPANY_MAX);
        });
    }

    #[test]
    fn what_waits_when_the_place_is_closed_is_still_committed() {
        let place = GroupCommit::new(1, Crowd::default());
        let (is_in, goes_on) = (Barrier::new(2), Barrier::new(2));
        let commit = |items: Vec<u32>| {
            if items == [1] {
                is_in.wait();
                goes_on.wait();
            }
            items
        };
        std::thread::scope(|scope| {
            scope.spawn(|| place.serve(|items, tell| tell(commit(items))));
            let first = scope.spawn(|| place.submit(1));
            is_in.wait();
            let second = scope.spawn(|| place.submit(2));
            while place.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            place.close();
            goes_on.wait();
            assert_eq!((first.join().unwrap(), second.join().unwrap()), (Some(1), Some(2)));
        });
    }
}
