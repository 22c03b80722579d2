//! The copy loop of both doors: from one stream to the other with a fixed buffer, a bound on bytes, on silence
//! and on the whole, and a name for each way to end.
//!
//! The silence bound is kept by the sockets' own time limits: the caller sets read and write time limits on the
//! streams; this loop only tells a time limit (`WouldBlock`, `TimedOut`) from an end and from a break.

use crate::ground::clock::Deadline;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes that one copy holds in memory.
pub const COPY_BUFFER_BYTES: usize = 16 * 1024;

/// What one copy may cost.
#[derive(Clone, Copy, Debug)]
pub struct CopyBounds {
    /// The most bytes that may pass.
    pub bytes_max: u64,
    /// When the whole must be done; `None`: no bound but the silence bound.
    pub deadline: Option<Deadline>,
}

/// How a copy ended. The number is the count of bytes that reached the other side.
#[derive(Debug)]
pub enum CopyEnd {
    /// The source said that there is no more.
    Finished(u64),
    /// More than `bytes_max` wanted to pass.
    TooMuch(u64),
    /// No byte came for the socket's read time limit.
    SourceStalled(u64),
    /// No byte was taken for the socket's write time limit.
    SinkStalled(u64),
    /// The whole took too long.
    TooSlow(u64),
    /// Reading failed.
    SourceBroke(u64, io::Error),
    /// Writing failed.
    SinkBroke(u64, io::Error),
}

/// Copies until the source ends or a bound is met.
pub fn copy_bounded(source: &mut impl Read, sink: &mut impl Write, bounds: CopyBounds) -> CopyEnd {
    copy_by(&mut [0; COPY_BUFFER_BYTES], source, sink, bounds)
}

/// As [`copy_bounded`], with a buffer of another size.
pub fn copy_by(
    buffer: &mut [u8],
    source: &mut impl Read,
    sink: &mut impl Write,
    bounds: CopyBounds,
) -> CopyEnd {
    let mut passed = 0;
    loop {
        if bounds.deadline.is_some_and(|deadline| deadline.passed()) {
            return CopyEnd::TooSlow(passed);
        }
        let count = match source.read(buffer) {
            Ok(0) => return CopyEnd::Finished(passed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if is_time_limit(&error) => return CopyEnd::SourceStalled(passed),
            Err(error) => return CopyEnd::SourceBroke(passed, error),
        };
        if passed + count as u64 > bounds.bytes_max {
            return CopyEnd::TooMuch(passed);
        }
        match sink.write_all(&buffer[..count]) {
            Ok(()) => passed += count as u64,
            Err(error) if is_time_limit(&error) => return CopyEnd::SinkStalled(passed),
            Err(error) => return CopyEnd::SinkBroke(passed, error),
        }
    }
}

/// Whether a socket's own time limit ended the call; Linux reports it as `WouldBlock`.
pub fn is_time_limit(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }

    const FREE: CopyBounds = CopyBounds { bytes_max: u64::MAX, deadline: None };

    #[test]
    fn each_end_has_its_name() {
        let mut sink = Vec::new();
        assert!(matches!(copy_bounded(&mut &b"abc"[..], &mut sink, FREE), CopyEnd::Finished(3)));
        assert_eq!(sink, b"abc");
        let tight = CopyBounds { bytes_max: 2, deadline: None };
        assert!(matches!(copy_bounded(&mut &b"abc"[..], &mut sink, tight), CopyEnd::TooMuch(0)));
        let stalled = copy_bounded(&mut Broken(ErrorKind::WouldBlock), &mut sink, FREE);
        assert!(matches!(stalled, CopyEnd::SourceStalled(0)));
        let broken = copy_bounded(&mut Broken(ErrorKind::ConnectionReset), &mut sink, FREE);
        assert!(matches!(broken, CopyEnd::SourceBroke(0, _)));
        let late = CopyBounds { bytes_max: 9, deadline: Some(Deadline::after(std::time::Duration::ZERO)) };
        assert!(matches!(copy_bounded(&mut &b"abc"[..], &mut sink, late), CopyEnd::TooSlow(0)));
        let mut full = &mut [0u8; 1][..];
        assert!(matches!(copy_bounded(&mut &b"abc"[..], &mut full, FREE), CopyEnd::SinkBroke(0, _)));
    }
}
