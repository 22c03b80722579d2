//! Sockets that cannot hang. Every wait for the far side also watches the near one, so that a requester who
//! leaves, or a door that is closed (which shuts the near socket down), ends the passage at once, whatever it is
//! waiting for.
//!
//! Knows sockets and time; knows neither HTTP nor TLS.

use crate::ground::clock::Deadline;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// What a wait is for.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    /// Bytes to read, or an end.
    Read,
    /// Room to write, or an end.
    Write,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The thing waited for is there.
    Ready,
    /// The watched near side is gone.
    NearGone,
    /// Neither within the limit.
    TimeLimit,
}

/// Why a [`FarSocket`] or [`NearSocket`] gave up, beyond what `io::Error` can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// The near side left.
    NearGone,
    /// No byte within the stall limit.
    Stall,
    /// The deadline of the phase passed.
    Deadline,
}

/// The near side of a passage: the socket to minreq. Reads and writes give up after the stall limit.
pub struct NearSocket {
    stream: Arc<TcpStream>,
    stall: Duration,
    deadline: Deadline,
    gave_up: Option<GaveUp>,
}

/// The far side of a passage: the socket to origin or proxy. Reads and writes give up after the stall limit, at
/// the deadline of the phase, and when the near side leaves.
pub struct FarSocket {
    stream: TcpStream,
    near: Arc<TcpStream>,
    stall: Duration,
    deadline: Deadline,
    gave_up: Option<GaveUp>,
}

impl NearSocket {
    /// Takes a non-blocking stream.
    pub fn new(stream: Arc<TcpStream>, stall: Duration, deadline: Deadline) -> NearSocket {
        NearSocket { stream, stall, deadline, gave_up: None }
    }

    /// Why the last operation gave up, if it did.
    pub fn gave_up(&self) -> Option<GaveUp> {
        self.gave_up
    }

    /// After a whole answer: lets a requester that knows its end close first, and then ends without the wait
    /// that TCP keeps for stragglers. Otherwise each passage would hold two ports of this machine for a minute,
    /// and a busy hour would have none left.
    pub fn let_peer_leave_first(&self, within: Duration) {
        if matches!(wait_for(&[], Some(self.stream.as_fd()), within), Ok(Woken::NearGone)) {
            let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl FarSocket {
    /// Takes a non-blocking stream and the near side to watch.
    pub fn new(stream: TcpStream, near: Arc<TcpStream>, stall: Duration, deadline: Deadline) -> FarSocket {
        FarSocket { stream, near, stall, deadline, gave_up: None }
    }

    /// Starts a phase: from now on this deadline holds.
    pub fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Why the last operation gave up, if it did.
    pub fn gave_up(&self) -> Option<GaveUp> {
        self.gave_up
    }

    /// The address at the other end.
    pub fn peer(&self) -> Option<std::net::SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Ends the connection in both directions.
    pub fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Read for NearSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&*self.stream).read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            wait(self.stream.as_fd(), Want::Read, None, self.stall, self.deadline, &mut self.gave_up)?;
        }
    }
}

impl Write for NearSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&*self.stream).write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            wait(self.stream.as_fd(), Want::Write, None, self.stall, self.deadline, &mut self.gave_up)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for FarSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // A source that is always ready would otherwise never look at the clock.
            give_up_when_late(self.deadline, &mut self.gave_up)?;
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            let near = Some(self.near.as_fd());
            wait(self.stream.as_fd(), Want::Read, near, self.stall, self.deadline, &mut self.gave_up)?;
        }
    }
}

impl Write for FarSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            give_up_when_late(self.deadline, &mut self.gave_up)?;
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            let near = Some(self.near.as_fd());
            wait(self.stream.as_fd(), Want::Write, near, self.stall, self.deadline, &mut self.gave_up)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn give_up_when_late(deadline: Deadline, gave_up: &mut Option<GaveUp>) -> io::Result<()> {
    if deadline.passed() {
        *gave_up = Some(GaveUp::Deadline);
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(())
}

fn wait(
    socket: BorrowedFd<'_>,
    want: Want,
    near: Option<BorrowedFd<'_>>,
    stall: Duration,
    deadline: Deadline,
    gave_up: &mut Option<GaveUp>,
) -> io::Result<()> {
    give_up_when_late(deadline, gave_up)?;
    let left = deadline.remaining().unwrap_or_default();
    let (why, kind) = match wait_for(&[(socket, want)], near, left.min(stall))? {
        Woken::Ready => return Ok(()),
        Woken::NearGone => (GaveUp::NearGone, ErrorKind::ConnectionAborted),
        Woken::TimeLimit if left <= stall => (GaveUp::Deadline, ErrorKind::TimedOut),
        Woken::TimeLimit => (GaveUp::Stall, ErrorKind::TimedOut),
    };
    *gave_up = Some(why);
    Err(kind.into())
}

/// Waits until one of `sockets` is ready for what is wanted, the near side leaves, or `limit` is over.
pub fn wait_for(
    sockets: &[(BorrowedFd<'_>, Want)],
    near: Option<BorrowedFd<'_>>,
    limit: Duration,
) -> io::Result<Woken> {
    let mut polled: Vec<PollFd<'_>> =
        sockets.iter().map(|(socket, want)| PollFd::from_borrowed_fd(*socket, want.flags())).collect();
    polled.extend(near.map(|near| PollFd::from_borrowed_fd(near, PollFlags::RDHUP)));
    let deadline = Deadline::after(limit);
    loop {
        let left = deadline.remaining().unwrap_or_default();
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(Woken::TimeLimit),
            Ok(_) => break,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
    let near_gone = near.is_some() && polled.last().is_some_and(|near| !near.revents().is_empty());
    Ok(if near_gone { Woken::NearGone } else { Woken::Ready })
}

/// Whether the near side has left by now.
pub fn is_gone(near: &TcpStream) -> bool {
    matches!(wait_for(&[], Some(near.as_fd()), Duration::ZERO), Ok(Woken::NearGone))
}

impl Want {
    fn flags(self) -> PollFlags {
        match self {
            Want::Read => PollFlags::IN,
            Want::Write => PollFlags::OUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        other.set_nonblocking(true).unwrap();
        (one, other)
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(30);

    fn far(stall: Duration, whole: Duration) -> (TcpStream, TcpStream, FarSocket) {
        let (near_peer, near) = pair();
        let (far_peer, far) = pair();
        (near_peer, far_peer, FarSocket::new(far, Arc::new(near), stall, Deadline::after(whole)))
    }

    #[test]
    fn silence_and_lateness_are_told_apart() {
        let (_near, _far, mut socket) = far(SHORT, LONG);
        assert_eq!(socket.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(socket.gave_up(), Some(GaveUp::Stall));
        let (_near, mut peer, mut socket) = far(LONG, SHORT);
        assert_eq!(socket.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(socket.gave_up(), Some(GaveUp::Deadline));
        peer.write_all(b"late").unwrap();
        assert!(socket.read(&mut [0; 8]).is_err());
        socket.set_deadline(Deadline::after(LONG));
        assert_eq!(socket.read(&mut [0; 8]).unwrap(), 4);
    }

    #[test]
    fn a_requester_who_leaves_ends_the_wait() {
        let (near, _far, mut socket) = far(LONG, LONG);
        let near_side = socket.near.clone();
        assert!(!is_gone(&near_side));
        drop(near);
        assert_eq!(socket.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(socket.gave_up(), Some(GaveUp::NearGone));
        assert!(is_gone(&near_side));
    }

    #[test]
    fn a_far_side_that_takes_nothing_stalls_the_write() {
        let (_near, _far, mut socket) = far(SHORT, LONG);
        let block = vec![0; 1 << 20];
        let error = (0..1000).find_map(|_| socket.write_all(&block).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(socket.gave_up(), Some(GaveUp::Stall));
    }
}
