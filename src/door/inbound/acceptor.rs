//! The accept loop: it survives everything that accepting can fail with, gives each connection a seat and a
//! thread, and sends away whom there is no room for.

use super::client_address::plain;
use super::refusal::Refusal;
use super::roster::{Admission, Seat};
use super::visit::Visit;
use super::{ACCEPT_AGAIN_AFTER, House};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

/// Enough for a visit in a debug build with room to spare; the copy loop's 16 KiB are the largest part.
const VISIT_STACK_BYTES: usize = 128 * 1024;

/// Linux' and the BSDs' numbers for "no file descriptor left", in the process and in the system.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Accepts until the stop signal is given. `accept` is the listener's, or a test's.
pub(super) fn accept_until_stopped(
    house: &Arc<House>,
    mut accept: impl FnMut() -> io::Result<(TcpStream, SocketAddr)>,
) {
    loop {
        let accepted = accept();
        if house.stop.asked() {
            return;
        }
        match accepted {
            Ok((stream, peer)) => receive(house, stream, plain(peer.ip())),
            Err(error) => {
                house.tally.accept_errors.add(1);
                house.report(format_args!("could not accept a connection: {error}"));
                if recover(house, &error) {
                    return;
                }
            }
        }
    }
}

/// Does what can be done about `error`; true when a stop was asked for meanwhile.
fn recover(house: &House, error: &io::Error) -> bool {
    match (error.kind(), error.raw_os_error()) {
        // This connection failed, not the listener.
        (ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted, _) => false,
        (_, Some(EMFILE | ENFILE)) => {
            house.tally.evicted.add(house.roster.evict_one(|_| true));
            house.stop.wait(ACCEPT_AGAIN_AFTER)
        }
        _ => house.stop.wait(ACCEPT_AGAIN_AFTER),
    }
}

fn receive(house: &Arc<House>, stream: TcpStream, peer: IpAddr) {
    house.tally.accepted.add(1);
    // Fails only on a socket that is dead already, which its first read will tell.
    let _ = stream.set_nodelay(true);
    let counted = (!house.trusted_proxies.contains(&peer)).then_some(peer);
    let (admission, evicted) = house.roster.admit(stream, counted);
    house.tally.evicted.add(evicted);
    match admission {
        Admission::Seated(seat) => visit(house, seat, peer, None),
        Admission::Refused(seat) => visit(house, seat, peer, Some(Refusal::FULL)),
        Admission::TurnedAway => house.tally.turned_away.add(1),
    }
}

fn visit(house: &Arc<House>, seat: Arc<Seat>, peer: IpAddr, refusal: Option<Refusal>) {
    let seat = TakenSeat { house: Arc::clone(house), seat };
    let body = move || {
        let visit = Visit::new(&seat.house, &seat.seat, peer);
        match refusal {
            None => visit.receive(),
            Some(refusal) => visit.send_away(refusal),
        }
    };
    let spawned = thread::Builder::new().name("inbound".into()).stack_size(VISIT_STACK_BYTES).spawn(body);
    if spawned.is_err() {
        house.tally.threads_failed.add(1);
    }
}

/// A seat that is given back in the end, also when its thread panics or was never made.
struct TakenSeat {
    house: Arc<House>,
    seat: Arc<Seat>,
}

impl Drop for TakenSeat {
    fn drop(&mut self) {
        self.house.roster.leave(&self.seat);
        self.house.kept_ways.fit(self.house.roster.seated());
    }
}
