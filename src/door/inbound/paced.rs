//! A socket with a bound on silence and a bound on the whole. It looks at both before every single read or
//! write, so that a peer who moves one byte at a time gains nothing.

use crate::ground::clock::Deadline;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A socket that knows which time limits it was given, because giving them anew before every read and write costs as
/// much as a read.
pub(super) struct Line<S> {
    socket: S,
    /// Milliseconds; 0: not given yet.
    read_limit_ms: AtomicU64,
    write_limit_ms: AtomicU64,
}

impl<S> Line<S> {
    pub(super) fn new(socket: S) -> Line<S> {
        Line { socket, read_limit_ms: AtomicU64::new(0), write_limit_ms: AtomicU64::new(0) }
    }
}

impl<S> Deref for Line<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

/// A line, read and written with patience that ends.
pub(super) struct Paced<'s, S> {
    pub(super) line: &'s Line<S>,
    /// When the whole must be done.
    pub(super) deadline: Deadline,
    /// The longest time without a byte.
    pub(super) stall: Duration,
}

impl<S> Paced<'_, S> {
    fn patience(&self) -> io::Result<Duration> {
        let left = self.deadline.remaining().ok_or(ErrorKind::TimedOut)?;
        // Zero would mean for ever.
        Ok(left.min(self.stall).max(Duration::from_millis(1)))
    }
}

/// Whether a limit of `given_ms` will do where `wanted_ms` are wanted: it never ends before, and hardly after.
fn will_do(given_ms: u64, wanted_ms: u64) -> bool {
    (wanted_ms..=wanted_ms + wanted_ms / 8).contains(&given_ms)
}

/// The limit to give now, if it is another than the one that was given last.
fn news(limit_ms: &AtomicU64, patience: Duration) -> Option<Duration> {
    let wanted_ms = patience.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX / 2);
    if will_do(limit_ms.load(Ordering::Relaxed), wanted_ms) {
        return None;
    }
    limit_ms.store(wanted_ms, Ordering::Relaxed);
    Some(Duration::from_millis(wanted_ms))
}

impl<S: AsFd> Read for Paced<'_, S>
where
    for<'r> &'r S: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = &self.line.socket;
        if let Some(limit) = news(&self.line.read_limit_ms, self.patience()?) {
            SockRef::from(socket).set_read_timeout(Some(limit))?;
        }
        socket.read(buffer)
    }
}

impl<S: AsFd> Write for Paced<'_, S>
where
    for<'r> &'r S: Write,
{
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut socket = &self.line.socket;
        if let Some(limit) = news(&self.line.write_limit_ms, self.patience()?) {
            SockRef::from(socket).set_write_timeout(Some(limit))?;
        }
        socket.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends at most `bytes_max` bytes of one read to `buffer`, and never more than `PIECE`; 0: the source has ended.
///
/// The piece is on the stack, filled with zeros at one stroke: a vector that is made longer is filled byte by byte where
/// the program is made small. In a frame of its own, because what an idle connection waits with is held by all of them.
#[inline(never)]
pub(super) fn read_onto<const PIECE: usize>(
    source: &mut impl Read,
    buffer: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<usize> {
    let mut piece = [0; PIECE];
    let room = &mut piece[..bytes_max.min(PIECE)];
    loop {
        match source.read(room) {
            Ok(count) => {
                buffer.extend_from_slice(&room[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_given_again_only_when_it_would_not_do() {
        let given = AtomicU64::new(0);
        let second = Duration::from_secs(1);
        assert_eq!(news(&given, second), Some(second));
        assert_eq!(news(&given, second - Duration::from_millis(100)), None);
        // Too late by a fifth, and too soon.
        assert_eq!(news(&given, Duration::from_millis(800)), Some(Duration::from_millis(800)));
        assert_eq!(news(&given, Duration::from_micros(800_001)), Some(Duration::from_millis(801)));
        assert_eq!(news(&given, Duration::MAX), Some(Duration::from_millis(u64::MAX / 2)));
    }
}
