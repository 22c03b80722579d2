//! Who is in the doorway: a seat per client connection, how many there may be, and who gives way.
//!
//! A seat *rests* while no whole request of it is in hand: between requests, while a head is still coming in,
//! and while a refused client reads why. Resting seats may be cut at any time. So neither idle connections nor
//! heads that drip can keep others out.

use super::client_address::holder;
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Connections that may be on their way out beyond the limit: evicted ones, and refused ones that still read why.
const LEAVING_MAX: usize = 64;

/// A seat with a request in hand.
const BUSY: u64 = 0;
/// A seat that was cut.
const CUT: u64 = u64::MAX;

/// One client connection.
pub(super) struct Seat {
    number: u64,
    holder: Option<IpAddr>,
    pub(super) stream: TcpStream,
    /// The way inside while a request is there, so that closing can cut it too.
    inside: Mutex<Option<Arc<UnixStream>>>,
    /// `BUSY`, `CUT`, or when it came to rest, counted in rests of the whole house.
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
}

/// All seats.
pub(super) struct Roster {
    limits: RosterLimits,
    book: Mutex<Book>,
    changed: Condvar,
    rests: AtomicU64,
}

#[derive(Default)]
struct Book {
    seats: HashMap<u64, Arc<Seat>>,
    numbers_given: u64,
    leaving: usize,
    held: HashMap<IpAddr, usize>,
}

impl Roster {
    pub(super) fn new(limits: RosterLimits) -> Roster {
        Roster { limits, book: Mutex::default(), changed: Condvar::new(), rests: AtomicU64::new(BUSY) }
    }

    /// Finds a place for `stream`. A `peer` of `None` is not counted for itself (a trusted proxy). The number
    /// says how many had to give way.
    pub(super) fn admit(&self, stream: TcpStream, peer: Option<IpAddr>) -> (Admission, u64) {
        let holder = peer.map(holder);
        let mut book = self.book();
        let mut evicted = 0;
        let held = holder.map_or(0, |address| book.held.get(&address).copied().unwrap_or(0));
        let may_evict = book.leaving < LEAVING_MAX;
        let mut room = true;
        if held >= self.limits.per_holder_max {
            room = may_evict && book.evict(|seat| seat.holder == holder);
            evicted += u64::from(room);
        }
        if room && book.seated() >= self.limits.connections_max {
            room = may_evict && book.evict(|_| true);
            evicted += u64::from(room);
        }
        if !room && book.leaving >= LEAVING_MAX {
            return (Admission::TurnedAway, evicted);
        }
        book.numbers_given += 1;
        let seat = Arc::new(Seat {
            number: book.numbers_given,
            holder: holder.filter(|_| room),
            stream,
            inside: Mutex::default(),
            state: AtomicU64::new(if room { self.next_turn() } else { CUT }),
        });
        book.seats.insert(seat.number, Arc::clone(&seat));
        if !room {
            book.leaving += 1;
            return (Admission::Refused(seat), evicted);
        }
        if let Some(address) = seat.holder {
            *book.held.entry(address).or_default() += 1;
        }
        (Admission::Seated(seat), evicted)
    }

    /// Lets the oldest resting seat give way, to free what it holds.
    pub(super) fn evict_one(&self) -> bool {
        self.book().evict(|_| true)
    }

    /// Takes `seat` out, when its thread ends.
    pub(super) fn leave(&self, seat: &Seat) {
        let mut book = self.book();
        book.seats.remove(&seat.number);
        if seat.state.swap(CUT, Ordering::AcqRel) == CUT {
            book.leaving -= 1;
        } else {
            book.release(seat);
        }
        self.changed.notify_all();
    }

    /// Lets `seat` rest; a resting seat keeps its turn.
    pub(super) fn rest(&self, seat: &Seat) {
        let _ = seat.state.compare_exchange(BUSY, self.next_turn(), Ordering::AcqRel, Ordering::Acquire);
    }

    /// Connections that have a seat.
    pub(super) fn seated(&self) -> usize {
        self.book().seated()
    }

    /// Seats that rest.
    #[cfg(test)]
    pub(super) fn resting(&self) -> usize {
        let states = self.book();
        let states = states.seats.values().map(|seat| seat.state.load(Ordering::Acquire));
        states.filter(|state| !matches!(*state, BUSY | CUT)).count()
    }

    /// Cuts every resting seat.
    pub(super) fn cut_resting(&self) {
        let mut book = self.book();
        while book.evict(|_| true) {}
    }

    /// Cuts every seat.
    pub(super) fn cut_all(&self) {
        let mut book = self.book();
        let seats: Vec<Arc<Seat>> = book.seats.values().cloned().collect();
        for seat in seats {
            if seat.state.swap(CUT, Ordering::AcqRel) != CUT {
                book.release(&seat);
                book.leaving += 1;
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
        self.rests.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Book {
    fn seated(&self) -> usize {
        self.seats.len() - self.leaving
    }

    /// Cuts the seat among those that `may_go` which has rested longest; false when none rests.
    fn evict(&mut self, may_go: impl Fn(&Seat) -> bool) -> bool {
        loop {
            let resting = self.seats.values().filter(|seat| may_go(seat));
            let resting = resting.map(|seat| (seat.state.load(Ordering::Acquire), seat));
            let oldest =
                resting.filter(|(turn, _)| !matches!(*turn, BUSY | CUT)).min_by_key(|(turn, _)| *turn);
            let Some((turn, seat)) = oldest else {
                return false;
            };
            if seat.state.compare_exchange(turn, CUT, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                let seat = Arc::clone(seat);
                seat.shut();
                self.release(&seat);
                self.leaving += 1;
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
        let risen = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            if state == CUT { None } else { Some(BUSY) }
        });
        risen.is_ok()
    }

    /// Notes the way inside; false when the seat was cut meanwhile.
    pub(super) fn attach(&self, inside: &Arc<UnixStream>) -> bool {
        *self.inside() = Some(Arc::clone(inside));
        self.state.load(Ordering::Acquire) != CUT
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

    fn inside(&self) -> MutexGuard<'_, Option<Arc<UnixStream>>> {
        self.inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
