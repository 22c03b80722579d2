//! A socket with a bound on silence and a bound on the whole. It looks at both before every single read or
//! write, so that a peer who moves one byte at a time gains nothing.

use crate::ground::clock::Deadline;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// `socket`, read and written with patience that ends.
pub(super) struct Paced<'s, S> {
    pub(super) socket: &'s S,
    /// When the whole must be done.
    pub(super) deadline: Deadline,
    /// The longest time without a byte.
    pub(super) stall: Duration,
}

impl<S> Paced<'_, S> {
    fn patience(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.remaining().ok_or(ErrorKind::TimedOut)?;
        // Zero would mean for ever.
        Ok(Some(left.min(self.stall).max(Duration::from_millis(1))))
    }
}

impl<S: AsFd> Read for Paced<'_, S>
where
    for<'r> &'r S: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        SockRef::from(self.socket).set_read_timeout(self.patience()?)?;
        let mut socket = self.socket;
        socket.read(buffer)
    }
}

impl<S: AsFd> Write for Paced<'_, S>
where
    for<'r> &'r S: Write,
{
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        SockRef::from(self.socket).set_write_timeout(self.patience()?)?;
        let mut socket = self.socket;
        socket.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends at most `bytes_max` bytes of one read to `buffer`; 0: the source has ended.
pub(super) fn read_onto(source: &mut impl Read, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
    let start = buffer.len();
    buffer.resize(start + bytes_max, 0);
    let result = loop {
        match source.read(&mut buffer[start..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    buffer.truncate(start + result.as_ref().map_or(0, |count| *count));
    result
}
