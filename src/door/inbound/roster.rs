//! Who is in the doorway: a seat per client connection, how many there may be, and who gives way.
//!
//! A seat *rests* while no whole request of it is in hand: between requests, while a head or a body is still
//! coming in, and while a refused client reads why. It is *passing* while an answer goes out to its client. When
//! there is no room, the seat that has rested longest is cut; when none rests, the passing seat whose client has
//! taken nothing for longest. So neither idle connections nor requests that drip nor clients that do not read
//! keep others out. Only a seat whose request is in the web room's hands stays whatever happens.

use super::client_address::holder;
use super::paced::Line;
use crate::ground::commit::Crowd;
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How long somebody new waits until those who gave way have really gone.
const LEAVERS_PATIENCE: Duration = Duration::from_millis(100);

/// A seat with a request in hand.
const BUSY: u64 = 0;
/// Added to the turn of a passing seat, so that any resting one comes before it.
const PASSING: u64 = 1 << 62;
/// A seat that was cut.
const CUT: u64 = u64::MAX;

/// One client connection.
pub(super) struct Seat {
    number: u64,
    holder: Option<IpAddr>,
    pub(super) stream: Line<TcpStream>,
    /// Whether it was only made so that the client can be told that there is no room.
    is_refused: bool,
    /// Whether a share of the allowance for large bodies is held here.
    pub(super) has_large_body: AtomicBool,
    /// The way inside while a request is there, so that cutting the seat cuts it too.
    inside: Mutex<Option<Arc<Line<UnixStream>>>>,
    /// `BUSY`, `CUT`, or the turn at which it came to rest or its client last took something; turns are counted
    /// for the whole house.
    state: AtomicU64,
}

/// What the roster says to somebody at the door.
pub(super) enum Admission {
    /// Come in.
    Seated(Arc<Seat>),
    /// Full; there is room to be told so.
    Refused(Arc<Seat>),
    /// Full, and too many are being told so already.
    TurnedAway,
}

/// How many may be in.
#[derive(Clone, Copy)]
pub(super) struct RosterLimits {
    pub(super) connections_max: usize,
    pub(super) per_holder_max: usize,
    /// Beyond the limit: so many cut ones whose threads have not ended yet, and so many refused ones that are
    /// told why.
    pub(super) leaving_max: usize,
}

/// All seats.
pub(super) struct Roster {
    limits: RosterLimits,
    book: Mutex<Book>,
    changed: Condvar,
    turns: AtomicU64,
    crowd: Crowd,
}

#[derive(Default)]
struct Book {
    seats: HashMap<u64, Arc<Seat>>,
    numbers_given: u64,
    cut: usize,
    refused: usize,
    held: HashMap<IpAddr, usize>,
}

impl Roster {
    pub(super) fn new(limits: RosterLimits) -> Roster {
        let (book, changed, turns) = (Mutex::default(), Condvar::new(), AtomicU64::new(BUSY));
        Roster { limits, book, changed, turns, crowd: Crowd::default() }
    }

    /// Tells `crowd` how many are seated.
    pub(super) fn telling(self, crowd: Crowd) -> Roster {
        Roster { crowd, ..self }
    }

    /// Finds a place for `stream`. A `peer` of `None` is not counted for itself (a trusted proxy). The number
    /// says how many had to give way.
    pub(super) fn admit(&self, stream: TcpStream, peer: Option<IpAddr>) -> (Admission, u64) {
        let holder = peer.map(holder);
        let mut book = self.book_without_many_leavers();
        let mut evicted = 0;
        let held = holder.map_or(0, |address| book.held.get(&address).copied().unwrap_or(0));
        let may_evict = book.cut < self.limits.leaving_max;
        let mut room = true;
        if held >= self.limits.per_holder_max {
            room = may_evict && book.evict(|seat| seat.holder == holder);
            evicted += u64::from(room);
        }
        if room && book.seated() >= self.limits.connections_max {
            room = may_evict && book.evict(|_| true);
            evicted += u64::from(room);
        }
        if !room && book.refused >= self.limits.leaving_max {
            return (Admission::TurnedAway, evicted);
        }
        book.numbers_given += 1;
        let seat = Arc::new(Seat {
            number: book.numbers_given,
            holder: holder.filter(|_| room),
            stream: Line::new(stream),
            is_refused: !room,
            has_large_body: AtomicBool::new(false),
            inside: Mutex::default(),
            state: AtomicU64::new(if room { self.next_turn() } else { CUT }),
        });
        book.seats.insert(seat.number, Arc::clone(&seat));
        if !room {
            book.refused += 1;
            return (Admission::Refused(seat), evicted);
        }
        if let Some(address) = seat.holder {
            *book.held.entry(address).or_default() += 1;
        }
        self.crowd.tell(book.seated());
        (Admission::Seated(seat), evicted)
    }

    /// Lets one seat among those that `may_go` give way, to free what it holds; how many did.
    pub(super) fn evict_one(&self, may_go: impl Fn(&Seat) -> bool) -> u64 {
        let mut book = self.book();
        u64::from(book.cut < self.limits.leaving_max && book.evict(may_go))
    }

    /// Takes `seat` out, when its thread ends.
    pub(super) fn leave(&self, seat: &Seat) {
        let mut book = self.book();
        book.seats.remove(&seat.number);
        if seat.is_refused {
            book.refused -= 1;
        } else if seat.state.swap(CUT, Ordering::AcqRel) == CUT {
            book.cut -= 1;
        } else {
            book.release(seat);
        }
        self.crowd.tell(book.seated());
        self.changed.notify_all();
    }

    /// Lets `seat` rest; a resting seat keeps its turn.
    pub(super) fn rest(&self, seat: &Seat) {
        seat.change(|state| (state == BUSY || is_passing(state)).then(|| self.next_turn()));
    }

    /// Notes that the client of `seat` has taken something of its answer.
    pub(super) fn pass(&self, seat: &Seat) {
        seat.change(|state| (state == BUSY || is_passing(state)).then(|| PASSING + self.next_turn()));
    }

    /// Connections that have a seat.
    pub(super) fn seated(&self) -> usize {
        self.book().seated()
    }

    /// Seats that rest.
    #[cfg(test)]
    pub(super) fn resting(&self) -> usize {
        self.book().seats.values().filter(|seat| is_resting(seat.state())).count()
    }

    /// Cuts every resting seat.
    pub(super) fn cut_resting(&self) {
        let mut book = self.book();
        while book.evict(|seat| is_resting(seat.state())) {}
    }

    /// Cuts every seat.
    pub(super) fn cut_all(&self) {
        let mut book = self.book();
        let seats: Vec<Arc<Seat>> = book.seats.values().cloned().collect();
        for seat in seats {
            if seat.state.swap(CUT, Ordering::AcqRel) != CUT {
                book.release(&seat);
                book.cut += 1;
            }
            seat.shut();
        }
    }

    /// Waits for at most `limit` until everybody has left; true when they have.
    pub(super) fn wait_empty(&self, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.book(), limit, |book| !book.seats.is_empty());
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0.seats.is_empty()
    }

    fn next_turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The book, when those who gave way have left, or after a moment: a crowd that comes faster than threads
    /// end is let in only as fast as they end.
    fn book_without_many_leavers(&self) -> MutexGuard<'_, Book> {
        let many = |book: &mut Book| book.cut >= self.limits.leaving_max;
        let waited = self.changed.wait_timeout_while(self.book(), LEAVERS_PATIENCE, many);
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Book {
    fn seated(&self) -> usize {
        self.seats.len() - self.cut - self.refused
    }

    /// Cuts one seat among those that `may_go`: the one that has rested longest or, when none rests, the one
    /// whose answer has stood still longest. False when there is none.
    fn evict(&mut self, may_go: impl Fn(&Seat) -> bool) -> bool {
        loop {
            let states = self.seats.values().map(|seat| (seat.state(), seat));
            let able = states.filter(|(state, seat)| !matches!(*state, BUSY | CUT) && may_go(seat));
            let Some((state, seat)) = able.min_by_key(|(state, _)| *state) else {
                return false;
            };
            if seat.state.compare_exchange(state, CUT, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                let seat = Arc::clone(seat);
                seat.shut();
                self.release(&seat);
                self.cut += 1;
                return true;
            }
        }
    }

    fn release(&mut self, seat: &Seat) {
        if let Some(address) = seat.holder
            && let Some(count) = self.held.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&address);
            }
        }
    }
}

impl Seat {
    /// Takes up work; false when the seat was cut meanwhile.
    pub(super) fn rise(&self) -> bool {
        self.change(|state| (state != CUT).then_some(BUSY))
    }

    /// Whether the seat was cut.
    pub(super) fn is_cut(&self) -> bool {
        self.state() == CUT
    }

    /// Whether a request of it is with the web room, or an answer still comes from there.
    pub(super) fn is_inside(&self) -> bool {
        self.inside().is_some()
    }

    /// Notes the way inside; false when the seat was cut meanwhile.
    pub(super) fn attach(&self, inside: &Arc<Line<UnixStream>>) -> bool {
        *self.inside() = Some(Arc::clone(inside));
        !self.is_cut()
    }

    /// Forgets the way inside.
    pub(super) fn detach(&self) {
        *self.inside() = None;
    }

    fn shut(&self) {
        // Fails only when the peer has gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(inside) = self.inside().as_ref() {
            let _ = inside.shutdown(Shutdown::Both);
        }
    }

    fn state(&self) -> u64 {
        self.state.load(Ordering::Acquire)
    }

    fn change(&self, to: impl FnMut(u64) -> Option<u64>) -> bool {
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, to).is_ok()
    }

    fn inside(&self) -> MutexGuard<'_, Option<Arc<Line<UnixStream>>>> {
        self.inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn is_passing(state: u64) -> bool {
    state >= PASSING && state != CUT
}

fn is_resting(state: u64) -> bool {
    state != BUSY && state < PASSING
}
