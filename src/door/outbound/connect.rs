//! From addresses to one connection: IPv6 and IPv4 in turn, each address gets a head start before the next one
//! joins in, the first that answers wins (RFC 8305 in small). A black hole among the addresses so costs the head
//! start and no more. One thread, no leftovers: the losers are closed on return.

use super::fault::ConnectFault;
use super::wire::{Want, Woken, wait_for};
use crate::ground::clock::Deadline;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long an address is tried alone.
const HEAD_START: Duration = Duration::from_millis(250);
/// More addresses than this are not tried.
const ADDRESSES_MAX: usize = 16;

/// How no connection came about.
#[derive(Debug)]
pub enum Unconnected {
    /// The requester left.
    NearGone,
    /// All addresses failed.
    Fault {
        /// Over all addresses.
        why: ConnectFault,
        /// Each of them.
        tried: Vec<(SocketAddr, ConnectFault)>,
    },
}

struct Attempt {
    address: SocketAddr,
    socket: Socket,
}

/// The addresses with families in turn, beginning with the family that the resolver preferred, without repeats.
pub fn take_turns(addresses: &[IpAddr], force_ipv4: bool) -> Vec<IpAddr> {
    let mut unique: Vec<IpAddr> = Vec::new();
    for address in addresses.iter().filter(|address| address.is_ipv4() || !force_ipv4) {
        if !unique.contains(address) {
            unique.push(*address);
        }
    }
    let preferred = unique.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        unique.into_iter().partition(|address| address.is_ipv6() == preferred);
    let mut turns = Vec::new();
    while !(first.is_empty() && second.is_empty()) {
        turns.extend(first.pop_front());
        turns.extend(second.pop_front());
    }
    turns.truncate(ADDRESSES_MAX);
    turns
}

/// Connects to the first of `addresses` that answers before `within` is over. The stream is non-blocking and
/// without Nagle's delay.
pub fn race(addresses: &[SocketAddr], near: &TcpStream, within: Duration) -> Result<TcpStream, Unconnected> {
    let deadline = Deadline::after(within);
    let head_start = HEAD_START.min(within / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX));
    let mut waiting = addresses.iter();
    let mut running: Vec<Attempt> = Vec::new();
    let mut tried: Vec<(SocketAddr, ConnectFault)> = Vec::new();
    let mut next_start = Deadline::after(Duration::ZERO);
    loop {
        if (running.is_empty() || next_start.passed())
            && let Some(address) = waiting.next()
        {
            match start(*address) {
                Ok(socket) => running.push(Attempt { address: *address, socket }),
                Err(error) => tried.push((*address, name_the_fault(&error))),
            }
            next_start = Deadline::after(head_start);
            continue;
        }
        let Some(left) = deadline.remaining().filter(|_| !running.is_empty()) else {
            let unanswered = running.iter().map(|attempt| attempt.address).chain(waiting.copied());
            tried.extend(unanswered.map(|address| (address, ConnectFault::TimeLimit)));
            return Err(Unconnected::Fault { why: over_all(&tried), tried });
        };
        let limit =
            if waiting.len() == 0 { left } else { left.min(next_start.remaining().unwrap_or_default()) };
        let sockets: Vec<_> = running.iter().map(|attempt| (attempt.socket.as_fd(), Want::Write)).collect();
        match wait_for(&sockets, Some(near.as_fd()), limit) {
            Ok(Woken::NearGone) => return Err(Unconnected::NearGone),
            Ok(Woken::TimeLimit) => continue,
            Ok(Woken::Ready) => {}
            Err(error) => {
                tried.extend(running.iter().map(|attempt| (attempt.address, name_the_fault(&error))));
                return Err(Unconnected::Fault { why: over_all(&tried), tried });
            }
        }
        if let Some(winner) = settle(&mut running, &mut tried) {
            return Ok(winner);
        }
    }
}

fn start(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

/// Takes the first attempt that is connected, moves failed ones to `tried`, leaves the others running.
fn settle(running: &mut Vec<Attempt>, tried: &mut Vec<(SocketAddr, ConnectFault)>) -> Option<TcpStream> {
    let mut index = 0;
    while let Some(attempt) = running.get(index) {
        let failed = match attempt.socket.take_error() {
            Ok(None) if attempt.socket.peer_addr().is_ok() => {
                return Some(running.swap_remove(index).socket.into());
            }
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(name_the_fault(&error)),
        };
        match failed {
            Some(why) => tried.push((running.swap_remove(index).address, why)),
            None => index += 1,
        }
    }
    None
}

fn name_the_fault(error: &io::Error) -> ConnectFault {
    let family_missing = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
    match error.kind() {
        ErrorKind::ConnectionRefused => ConnectFault::Refused,
        ErrorKind::TimedOut => ConnectFault::TimeLimit,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => ConnectFault::Unreachable,
        _ if family_missing => ConnectFault::Unreachable,
        _ => ConnectFault::Other(error.to_string()),
    }
}

/// One word for all attempts: silence weighs more than a refusal, a refusal more than a missing way (a machine
/// without IPv6 has no way to half of the addresses, which explains nothing).
fn over_all(tried: &[(SocketAddr, ConnectFault)]) -> ConnectFault {
    let weight = |why: &ConnectFault| match why {
        ConnectFault::TimeLimit => 3,
        ConnectFault::Refused => 2,
        ConnectFault::Other(_) => 1,
        ConnectFault::Unreachable => 0,
    };
    let heaviest = tried.iter().map(|(_, why)| why).max_by_key(|why| weight(why));
    heaviest.cloned().unwrap_or(ConnectFault::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const GENEROUS: Duration = Duration::from_secs(30);

    fn near() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let requester = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (requester, listener.accept().unwrap().0)
    }

    fn closed_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// A listener whose backlog is full: further connections get no answer at all.
    struct BlackHole {
        address: SocketAddr,
        _listener: Socket,
        _fillers: Vec<Socket>,
    }

    fn black_hole() -> BlackHole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fillers = (0..4).map(|_| start(address).unwrap()).collect();
        BlackHole { address, _listener: listener, _fillers: fillers }
    }

    #[test]
    fn families_take_turns_from_the_preferred_one_on() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let found = [ip("::1"), ip("::2"), ip("::1"), ip("::3"), ip("127.0.0.1"), ip("127.0.0.2")];
        assert_eq!(
            take_turns(&found, false),
            [ip("::1"), ip("127.0.0.1"), ip("::2"), ip("127.0.0.2"), ip("::3")]
        );
        assert_eq!(take_turns(&found, true), [ip("127.0.0.1"), ip("127.0.0.2")]);
        assert_eq!(take_turns(&[ip("127.0.0.1"), ip("::1")], false), [ip("127.0.0.1"), ip("::1")]);
    }

    #[test]
    fn a_closed_port_does_not_hide_the_good_one() {
        let (_requester, near) = near();
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = good.local_addr().unwrap();
        let stream = race(&[closed_port(), address], &near, GENEROUS).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(stream.nodelay().unwrap());
    }

    #[test]
    fn a_black_hole_does_not_eat_the_time_of_the_good_one() {
        let (_requester, near) = near();
        let hole = black_hole();
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = good.local_addr().unwrap();
        let stream = race(&[hole.address, address], &near, GENEROUS).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }

    #[test]
    fn each_address_is_told_with_its_own_end() {
        let (_requester, near) = near();
        let hole = black_hole();
        let closed = closed_port();
        let lost = race(&[hole.address, closed], &near, Duration::from_millis(60)).unwrap_err();
        let Unconnected::Fault { why, mut tried } = lost else { panic!("{lost:?}") };
        assert_eq!(why, ConnectFault::TimeLimit);
        tried.sort_by_key(|(address, _)| *address == hole.address);
        assert_eq!(tried, [(closed, ConnectFault::Refused), (hole.address, ConnectFault::TimeLimit)]);
        let lost = race(&[closed], &near, GENEROUS).unwrap_err();
        assert!(matches!(lost, Unconnected::Fault { why: ConnectFault::Refused, .. }));
        let lost = race(&[], &near, GENEROUS).unwrap_err();
        assert!(matches!(lost, Unconnected::Fault { why: ConnectFault::Unreachable, .. }));
    }

    #[test]
    fn a_requester_who_leaves_ends_the_race() {
        let (requester, near) = near();
        let hole = black_hole();
        drop(requester);
        assert!(matches!(race(&[hole.address], &near, GENEROUS), Err(Unconnected::NearGone)));
    }
}
