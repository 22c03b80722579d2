//! Which names may be in a folder, told without asking the file system: there are twelve that a picture may have got, in
//! each folder of its day, and nearly always it is in none of them.
//!
//! A Bloom filter of 8 KiB a folder. With as many names as a folder takes, one question in a thousand is answered "may
//! be" wrongly; then the file system is asked.

use std::hash::{BuildHasher, RandomState};

/// As many as four 16-bit parts of a hash can name.
const BITS: usize = 1 << 16;

/// The names of one folder, without their extensions.
pub(super) struct Seen {
    bits: Box<[u64; BITS / 64]>,
    hasher: RandomState,
}

impl Seen {
    pub(super) fn nothing() -> Seen {
        Seen { bits: Box::new([0; BITS / 64]), hasher: RandomState::new() }
    }

    /// Notes a name without its extension.
    pub(super) fn note(&mut self, stem: &str) {
        for bit in self.places(stem) {
            self.bits[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// False when the name was never noted.
    pub(super) fn may_hold(&self, stem: &str) -> bool {
        self.places(stem).iter().all(|bit| self.bits[bit / 64] & (1 << (bit % 64)) != 0)
    }

    fn places(&self, stem: &str) -> [usize; 4] {
        let hash = self.hasher.hash_one(stem);
        [0, 16, 32, 48].map(|shift| usize::from((hash >> shift) as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_may_be_there_and_little_else() {
        let mut seen = Seen::nothing();
        let name = |number: u32| format!("20261121T170106Z_{number}");
        (0..3000).for_each(|number| seen.note(&name(number)));
        assert!((0..3000).all(|number| seen.may_hold(&name(number))));
        // 8 are to be expected.
        assert!((3000..13_000).filter(|number| seen.may_hold(&name(*number))).count() < 50);
    }
}
