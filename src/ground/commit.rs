//! Group commit: many threads each bring one item, one of them commits all that wait, everybody gets the
//! answer for their own. A slow disk then costs one sync for all who wait at that moment instead of one each;
//! a thread that comes alone commits at once.
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

/// The most that a commit waits for company. A card's sync takes as long; at 2,000 submissions a second 40 come meanwhile.
const PATIENCE: Duration = Duration::from_millis(20);

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
    /// For the one who waits for company, when there is enough.
    is_enough: Condvar,
    batch_max: usize,
    crowd: Crowd,
}

struct State<T, R> {
    /// In the order in which they came. While nobody commits it is empty.
    waiting: Vec<(T, Arc<Seat<R>>)>,
    committing: bool,
    /// Whether the one who is to commit waits for company.
    gathering: bool,
}

/// Where one thread waits, so that a commit wakes those whom it concerns and nobody else: in a crowd that shares a
/// condition each arrival would wake everybody.
struct Seat<R> {
    call: Mutex<Call<R>>,
    called: Condvar,
}

enum Call<R> {
    Wait,
    /// It is this thread's turn to commit.
    Lead,
    /// `None`: the commit that took this item panicked.
    Answer(Option<R>),
}

impl<T, R> GroupCommit<T, R> {
    /// A place that commits at most `batch_max` items at once, brought by a part of `crowd`.
    pub fn new(batch_max: usize, crowd: Crowd) -> GroupCommit<T, R> {
        let state = State { waiting: Vec::new(), committing: false, gathering: false };
        let (state, is_enough) = (Mutex::new(state), Condvar::new());
        GroupCommit { state, is_enough, batch_max: batch_max.max(1), crowd }
    }

    /// Brings `item`; returns its answer once it was part of a commit. `commit` gets the items in the order in
    /// which they came and returns one answer for each, in the same order; it may run for other threads'
    /// items too. `None` when the commit panicked or returned too few answers.
    pub fn submit(&self, item: T, commit: impl Fn(Vec<T>) -> Vec<R>) -> Option<R> {
        let seat = Arc::new(Seat { call: Mutex::new(Call::Wait), called: Condvar::new() });
        let mut state = self.lock();
        state.waiting.push((item, seat.clone()));
        if state.committing {
            let is_awaited = state.gathering && self.has_company(&state);
            drop(state);
            if is_awaited {
                self.is_enough.notify_one();
            }
            if let Some(answer) = seat.wait() {
                return answer;
            }
            state = self.lock();
        }
        state.committing = true;
        let state = self.gather(state);
        self.commit_waiting(state, &commit);
        // Whoever leads stands first in line, so the answer is there.
        seat.wait().flatten()
    }

    fn gather<'g>(&'g self, mut state: MutexGuard<'g, State<T, R>>) -> MutexGuard<'g, State<T, R>> {
        let patience = Deadline::after(PATIENCE);
        while !self.has_company(&state) {
            let Some(left) = patience.remaining() else { break };
            state.gathering = true;
            let waited = self.is_enough.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        state.gathering = false;
        state
    }

    fn has_company(&self, state: &State<T, R>) -> bool {
        state.waiting.len() >= self.crowd.company().min(self.batch_max)
    }

    /// Commits what waits, and calls the next one to lead when others have come meanwhile.
    fn commit_waiting(&self, mut state: MutexGuard<'_, State<T, R>>, commit: &impl Fn(Vec<T>) -> Vec<R>) {
        let count = state.waiting.len().min(self.batch_max);
        let (items, seats): (Vec<T>, Vec<Arc<Seat<R>>>) = state.waiting.drain(..count).unzip();
        drop(state);
        let answers = catch_unwind(AssertUnwindSafe(|| commit(items))).unwrap_or_default();
        let mut state = self.lock();
        match state.waiting.first() {
            Some((_, next)) => next.call(Call::Lead),
            None => state.committing = false,
        }
        drop(state);
        let mut answers = answers.into_iter();
        seats.iter().for_each(|seat| seat.call(Call::Answer(answers.next())));
    }

    fn lock(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<R> Seat<R> {
    fn call(&self, call: Call<R>) {
        *self.call.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = call;
        self.called.notify_one();
    }

    /// The answer; `None`: it is this thread's turn to lead.
    fn wait(&self) -> Option<Option<R>> {
        let mut call = self.call.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loop {
            match std::mem::replace(&mut *call, Call::Wait) {
                Call::Wait => call = self.called.wait(call).unwrap_or_else(|poisoned| poisoned.into_inner()),
                Call::Lead => return None,
                Call::Answer(answer) => return Some(answer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everybody_gets_their_own_answer_from_few_commits() {
        let place = GroupCommit::new(1000, Crowd::default());
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
    fn a_panicking_commit_answers_none_and_the_next_one_works() {
        let place = GroupCommit::new(8, Crowd::default());
        assert_eq!(place.submit(1, |_: Vec<u32>| -> Vec<u32> { panic!("disk on fire") }), None);
        assert_eq!(place.submit(2, |items| items), Some(2));
        assert_eq!(place.submit(3, |_| Vec::new()), None);
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
        std::thread::scope(|scope| {
            let (first, second) =
                (scope.spawn(|| place.submit(1, commit)), scope.spawn(|| place.submit(2, commit)));
            assert_eq!((first.join().unwrap(), second.join().unwrap()), (Some(1), Some(2)));
        });
        // Also when a busy machine lets the second come too late; who stays alone is answered all the same.
        assert!((1..=2).contains(&commits.load(Ordering::SeqCst)));
        assert_eq!(place.submit(3, commit), Some(3));
        assert_eq!((crowd.company(), place.lock().gathering), (2, false));
        crowd.tell(100_000);
        assert_eq!(crowd.company(), COMPANY_MAX);
    }
}
