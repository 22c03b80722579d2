//! How many pictures come in at a time, and when the request for the next one goes out.
//!
//! There are as many turns as `drain.downloads`; who holds one may ask for a picture. From asking to the first byte
//! nothing comes in: connection, TLS and request cost a round trip each, and the server its time. Where a round trip
//! is long that is a good part of a picture's time; equal pictures on a line that is shared evenly even begin and end
//! together, and leave it idle together. So a picture hands its turn on **before** its end: as soon as what is still
//! to come takes hardly longer than the way to a first byte does. The next one's first byte then arrives about when this
//! one's last byte does. That helps with every server, also with one that closes each connection after its answer,
//! as WeChat does, and nobody has to keep or prepare connections.
//!
//! What must stay true:
//! - A turn is handed on at most once a picture, and those who wait for turns are [`WORKERS_PER_TURN`] − 1 for each: so
//!   at no moment are more than so many times `drain.downloads` tries on their way, however wrong an estimate is.
//! - A picture that does not come on, or whose length nobody told, keeps its turn to its end.
//! - The way to a first byte is the shortest seen lately. On a line that is full it grows longer with each picture that
//!   is on its way; a turn that was handed on earlier for that would make it longer still.
//! - Where the whole gain would be less than [`WORTHWHILE`], `drain.downloads` is exact.
//!
//! It knows nothing of what a try is, and reads no clock.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Threads that share a turn: one that uses it, and one that may get it handed on.
pub const WORKERS_PER_TURN: usize = 2;

/// A gain that is not worth a request more than `drain.downloads`; far more than a fast line's pictures take.
const WORTHWHILE: Duration = Duration::from_millis(20);

/// Nothing is said of a picture's pace before this share of it has come.
const TOO_EARLY: u64 = 4;

/// The next picture is asked for earlier than need be by this share of the way: pieces come in lumps, threads wake late,
/// and its first byte queues behind what is on the line already.
const SPARE: u32 = 4;

/// The way that is remembered grows by this share of what a picture's was longer.
const FORGETFULNESS: u32 = 16;

/// All turns.
pub(super) struct Turns {
    state: Mutex<State>,
    one_is_free: Condvar,
}

struct State {
    free: usize,
    /// To a first byte; the shortest seen lately.
    way: Option<Duration>,
}

/// The right to ask for a picture, and for another one after it as long as it is not handed on.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    is_mine: bool,
    arrival: Option<Arrival>,
}

/// A picture that comes in.
struct Arrival {
    total: u64,
    came: u64,
    /// What came at once with the first byte, and when.
    first: Option<(u64, Duration)>,
    way: Duration,
}

impl Turns {
    pub(super) fn new(count: usize) -> Turns {
        Turns { state: Mutex::new(State { free: count, way: None }), one_is_free: Condvar::new() }
    }

    /// Waits for a turn.
    pub(super) fn take(&self) -> Turn<'_> {
        let waited = self.one_is_free.wait_while(self.lock(), |state| state.free == 0);
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).free -= 1;
        Turn { turns: self, is_mine: true, arrival: None }
    }

    /// For a try that nobody has to wait for.
    pub(super) fn out_of_turn(&self) -> Turn<'_> {
        Turn { turns: self, is_mine: false, arrival: None }
    }

    fn learn_way(&self, after: Duration) -> Duration {
        let mut state = self.lock();
        let way = match state.way {
            Some(way) if way < after => way + (after - way) / FORGETFULNESS,
            _ => after,
        };
        *state.way.insert(way)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Turn<'_> {
    /// Whether it has not been handed on yet.
    pub(super) fn is_mine(&self) -> bool {
        self.is_mine
    }

    /// A picture begins to come, so long after it was asked for; its length, if that was told.
    pub(super) fn begins(&mut self, total: Option<u64>, after: Duration) {
        let way = self.turns.learn_way(after);
        self.arrival = total.map(|total| Arrival { total, came: 0, first: None, way });
    }

    /// So many bytes more have come, at this moment. Lets the next one ask when it is time.
    pub(super) fn came(&mut self, bytes: usize, now: Duration) {
        if self.arrival.as_mut().is_some_and(|arrival| arrival.is_about_to_end(bytes, now)) {
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if std::mem::take(&mut self.is_mine) {
            self.turns.lock().free += 1;
            self.turns.one_is_free.notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.hand_on();
    }
}

impl Arrival {
    fn is_about_to_end(&mut self, bytes: usize, now: Duration) -> bool {
        self.came += bytes as u64;
        let (first_bytes, since) = *self.first.get_or_insert((self.came, now));
        let to_come = self.total.saturating_sub(self.came);
        let measured = self.came - first_bytes;
        if to_come == 0 || measured == 0 || self.came < self.total / TOO_EARLY {
            return false;
        }
        let left = now.saturating_sub(since).mul_f64(to_come as f64 / measured as f64);
        (WORTHWHILE..=self.way + self.way / SPARE).contains(&left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// After how many thousandths of an evenly coming picture its turn is handed on.
    fn handed_on_at(turns: &Turns, way: Duration, whole: Duration) -> Option<u32> {
        let mut turn = turns.take();
        turn.begins(Some(1000), way);
        (1..=1000).find(|thousandth| {
            turn.came(1, way + whole * *thousandth / 1000);
            !turn.is_mine()
        })
    }

    #[test]
    fn the_next_is_asked_for_a_little_more_than_one_way_before_the_end() {
        assert_eq!(handed_on_at(&Turns::new(1), ms(400), ms(1000)), Some(500));
        assert_eq!(handed_on_at(&Turns::new(1), ms(100), ms(1000)), Some(875));
        assert_eq!(handed_on_at(&Turns::new(1), ms(900), ms(1000)), Some(250), "not before it has a pace");
        assert_eq!(handed_on_at(&Turns::new(1), ms(15), ms(1000)), None, "not worth it");
        assert_eq!(handed_on_at(&Turns::new(1), ms(400), ms(20)), None, "not worth it");
    }

    #[test]
    fn a_full_line_s_longer_ways_count_little() {
        let turns = Turns::new(1);
        assert_eq!(handed_on_at(&turns, ms(100), ms(1000)), Some(875));
        assert_eq!(handed_on_at(&turns, ms(740), ms(1000)), Some(825));
        assert_eq!(handed_on_at(&turns, ms(60), ms(1000)), Some(925));
    }

    #[test]
    fn what_comes_in_one_piece_or_not_at_all_keeps_its_turn() {
        let turns = Turns::new(1);
        let mut turn = turns.take();
        type Pieces<'p> = &'p [(usize, u64)];
        let cases: [(Option<u64>, Pieces<'_>); 3] = [
            (Some(1000), &[(600, 400), (400, 400)]),
            (Some(10), &[(9, 400), (9, 900)]),
            (None, &[(1, 400), (500, 500), (400, 600)]),
        ];
        for (total, pieces) in cases {
            turn.begins(total, ms(400));
            pieces.iter().for_each(|(bytes, at)| turn.came(*bytes, ms(*at)));
            assert!(turn.is_mine(), "{total:?}");
        }
    }

    #[test]
    fn a_turn_has_one_holder_and_comes_back_once() {
        let turns = Turns::new(2);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..200 {
                        let mut turn = turns.take();
                        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        now.fetch_sub(1, SeqCst);
                        if round % 2 == 0 {
                            turn.hand_on();
                            assert!(!turn.is_mine());
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(turns.lock().free, 2);
    }
}
