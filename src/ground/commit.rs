//! Group commit: many threads each bring one item, one of them commits all that wait, everybody gets the
//! answer for their own. A slow disk then costs one sync for all who wait at that moment instead of one each;
//! a thread that comes alone commits at once.

use super::clock::Deadline;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A place where commits are gathered.
pub struct GroupCommit<T, R> {
    state: Mutex<State<T, R>>,
    changed: Condvar,
    batch_max: usize,
}

struct State<T, R> {
    next_ticket: u64,
    waiting: Vec<(u64, T)>,
    /// `None`: the commit that took this item panicked.
    answers: HashMap<u64, Option<R>>,
    committing: bool,
}

impl<T, R> GroupCommit<T, R> {
    /// A place that commits at most `batch_max` items at once.
    pub fn new(batch_max: usize) -> GroupCommit<T, R> {
        let state = State { next_ticket: 0, waiting: Vec::new(), answers: HashMap::new(), committing: false };
        GroupCommit { state: Mutex::new(state), changed: Condvar::new(), batch_max: batch_max.max(1) }
    }

    /// Brings `item`; returns its answer once it was part of a commit. `commit` gets the items in the order in
    /// which they came and returns one answer for each, in the same order; it may run for other threads'
    /// items too. `None` when the commit panicked or returned too few answers.
    pub fn submit(&self, item: T, commit: impl Fn(Vec<T>) -> Vec<R>) -> Option<R> {
        self.submit_in_company(item, || false, Duration::ZERO, commit)
    }

    /// As [`GroupCommit::submit`], but while `more_come` the one who commits waits for others, `patience` at most.
    pub fn submit_in_company(
        &self,
        item: T,
        more_come: impl Fn() -> bool,
        patience: Duration,
        commit: impl Fn(Vec<T>) -> Vec<R>,
    ) -> Option<R> {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push((ticket, item));
        self.changed.notify_all();
        loop {
            if let Some(answer) = state.answers.remove(&ticket) {
                return answer;
            }
            if state.committing {
                state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            } else {
                state.committing = true;
                state = self.gather(state, &more_come, Deadline::after(patience));
                state = self.commit_waiting(state, &commit);
            }
        }
    }

    fn gather<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T, R>>,
        more_come: &impl Fn() -> bool,
        patience: Deadline,
    ) -> MutexGuard<'a, State<T, R>> {
        while state.waiting.len() < self.batch_max && more_come() {
            let Some(left) = patience.remaining() else { break };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        state
    }

    fn commit_waiting<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T, R>>,
        commit: &impl Fn(Vec<T>) -> Vec<R>,
    ) -> MutexGuard<'a, State<T, R>> {
        let count = state.waiting.len().min(self.batch_max);
        let (tickets, items): (Vec<u64>, Vec<T>) = state.waiting.drain(..count).unzip();
        drop(state);
        let answers = catch_unwind(AssertUnwindSafe(|| commit(items))).unwrap_or_default();
        let mut answers = answers.into_iter();
        let mut state = self.lock();
        for ticket in tickets {
            state.answers.insert(ticket, answers.next());
        }
        state.committing = false;
        self.changed.notify_all();
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everybody_gets_their_own_answer_from_few_commits() {
        let place = GroupCommit::new(1000);
        let commits = AtomicUsize::new(0);
        let first_is_in = Barrier::new(2);
        let others_wait = Barrier::new(2);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                place.submit(0, |items: Vec<u32>| {
                    commits.fetch_add(1, Ordering::SeqCst);
                    first_is_in.wait();
                    others_wait.wait();
                    items
                })
            });
            first_is_in.wait();
            let others: Vec<_> = (1..20)
                .map(|item| {
                    let (place, commits) = (&place, &commits);
                    let commit = move |items: Vec<u32>| {
                        commits.fetch_add(1, Ordering::SeqCst);
                        items
                    };
                    (item, scope.spawn(move || place.submit(item, commit)))
                })
                .collect();
            while place.lock().waiting.len() < 19 {
                std::thread::yield_now();
            }
            others_wait.wait();
            assert_eq!(first.join().unwrap(), Some(0));
            for (item, thread) in others {
                assert_eq!(thread.join().unwrap(), Some(item));
            }
        });
        assert_eq!(commits.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn the_one_who_commits_waits_for_those_who_come() {
        let place = GroupCommit::new(8);
        let (commits, still_out) = (AtomicUsize::new(0), AtomicUsize::new(1));
        let more_come = || still_out.load(Ordering::SeqCst) > 0;
        let commit = |items: Vec<u32>| {
            commits.fetch_add(1, Ordering::SeqCst);
            items
        };
        std::thread::scope(|scope| {
            let first =
                scope.spawn(|| place.submit_in_company(1, more_come, Duration::from_secs(60), commit));
            while !place.lock().committing {
                std::thread::yield_now();
            }
            still_out.store(0, Ordering::SeqCst);
            assert_eq!(place.submit_in_company(2, more_come, Duration::from_secs(60), commit), Some(2));
            assert_eq!(first.join().unwrap(), Some(1));
        });
        assert_eq!(commits.load(Ordering::SeqCst), 1);
        // Nobody comes: patience ends.
        assert_eq!(place.submit_in_company(9, || true, Duration::from_millis(1), commit), Some(9));
    }

    #[test]
    fn a_panicking_commit_answers_none_and_the_next_one_works() {
        let place = GroupCommit::new(8);
        assert_eq!(place.submit(1, |_: Vec<u32>| -> Vec<u32> { panic!("disk on fire") }), None);
        assert_eq!(place.submit(2, |items| items), Some(2));
        assert_eq!(place.submit(3, |_| Vec::new()), None);
    }
}
