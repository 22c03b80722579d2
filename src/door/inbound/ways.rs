//! Ways inside that are kept for the next request: a connection made anew costs tiny_http an accept, two descriptors
//! and a thread's waking, more than a page does.
//!
//! tiny_http gives each connection to a thread of its pool, and in a burst it can give several to one (crates that
//! trust their peer do that): the second waits until the first ends, which for a kept one is never. So ways are made
//! one at a time, and each is tried with a small request; an answer proves that a thread has it to itself.
//!
//! An answer that may end early cannot go by a kept way, because its end is what tells so; the options say where such
//! answers are.

use super::allowance::{Allowance, Share};
use super::paced::Line;
use rustix::net::{RecvFlags, recv};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Kept when no client is there any more, so that one who comes for a single request finds a way.
const WAYS_FOR_NEWCOMERS: usize = 2;

/// Room that stays with a way: for an ordinary request and its answer.
const BUFFER_BYTES_KEPT: usize = 8 * 1024;

/// Whether and where ways are used again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reuse {
    /// Ways that are kept while nobody uses them; 0: each request has one of its own.
    pub ways_max: usize,
    /// Targets that begin so have one of their own: their answers may end early.
    pub not_under: &'static [&'static str],
}

/// A way inside.
pub(super) struct Way {
    pub(super) line: Arc<Line<UnixStream>>,
    /// Where a request is put together and its answer read; it stays with the way, because asking for memory with every
    /// request, next to a hundred threads that ask too, costs more than the request.
    pub(super) buffer: Vec<u8>,
}

impl From<UnixStream> for Way {
    fn from(stream: UnixStream) -> Way {
        Way { line: Arc::new(Line::new(stream)), buffer: Vec::new() }
    }
}

/// The ways that nobody uses at the moment.
pub(super) struct KeptWays {
    reuse: Reuse,
    idle: Mutex<Vec<Way>>,
    makers: Allowance,
}

impl KeptWays {
    pub(super) fn new(reuse: Reuse) -> KeptWays {
        KeptWays { reuse, idle: Mutex::default(), makers: Allowance::of_ones(1) }
    }

    /// Whether ways are used again at all.
    pub(super) fn are_tried(&self) -> bool {
        self.reuse.ways_max > 0
    }

    /// Whether the way of a request for `target` ends with its answer.
    pub(super) fn ends_after(&self, target: &str) -> bool {
        !self.are_tried() || self.reuse.not_under.iter().any(|prefix| target.starts_with(prefix))
    }

    /// A way that is open and silent.
    pub(super) fn take(&self) -> Option<Way> {
        loop {
            let way = self.idle().pop()?;
            if is_silent(&way.line) {
                return Some(way);
            }
        }
    }

    /// Takes a way back whose last answer was read to its end.
    pub(super) fn put(&self, mut way: Way) {
        way.buffer.clear();
        way.buffer.shrink_to(BUFFER_BYTES_KEPT);
        let mut idle = self.idle();
        if idle.len() < self.reuse.ways_max {
            idle.push(way);
        }
    }

    /// The right to make a way; nobody else makes one meanwhile.
    pub(super) fn maker(&self, patience: Duration) -> Option<Share<'_>> {
        self.makers.take(1, patience)
    }

    /// Fewer clients are there now: a crowd's ways go with it.
    pub(super) fn fit(&self, clients: usize) {
        let mut idle = self.idle();
        let surplus = idle.len().saturating_sub(clients.max(WAYS_FOR_NEWCOMERS));
        // The oldest go.
        idle.drain(..surplus);
    }

    /// Ends all ways that nobody uses.
    pub(super) fn clear(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Way>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether nothing has come by a way: neither its end nor a byte that nobody asked for.
fn is_silent(way: &UnixStream) -> bool {
    let looked = recv(way, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(looked, Err(rustix::io::Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_silent_ways_are_used_again_and_no_more_are_kept_than_allowed() {
        let kept = KeptWays::new(Reuse { ways_max: 2, not_under: &["/admin/"] });
        assert!(kept.ends_after("/admin/zip") && !kept.ends_after("/"));
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let mut others = Vec::new();
        for (way, other) in pairs {
            kept.put(way.into());
            others.push(other);
        }
        // The third was let go.
        assert!(matches!(recv(&others[2], &mut [0; 1][..], RecvFlags::empty()), Ok((_, 0))));
        others[1].write_all(b"x").unwrap();
        assert!(kept.take().is_some());
        assert!(kept.take().is_none());
        drop(others);
    }

    #[test]
    fn when_the_crowd_goes_its_ways_go() {
        let kept = KeptWays::new(Reuse { ways_max: 9, not_under: &[] });
        let (ways, others): (Vec<_>, Vec<_>) = (0..5).map(|_| UnixStream::pair().unwrap()).unzip();
        ways.into_iter().for_each(|way| kept.put(way.into()));
        let ended = || others.iter().filter(|other| !is_silent(other)).count();
        for (clients, expected) in [(9, 0), (4, 1), (1, 5 - WAYS_FOR_NEWCOMERS), (0, 5 - WAYS_FOR_NEWCOMERS)]
        {
            kept.fit(clients);
            assert_eq!(ended(), expected, "{clients} clients");
        }
        kept.clear();
        assert_eq!(ended(), 5);
    }

    #[test]
    fn without_reuse_every_way_ends() {
        let kept = KeptWays::new(Reuse::default());
        let (way, _other) = UnixStream::pair().unwrap();
        kept.put(way.into());
        assert!(kept.ends_after("/") && !kept.are_tried() && kept.take().is_none());
    }
}
