//! Randomness is handed in: the operating system's for nonces, receipts and keys; a seed's in tests, so that a
//! failing run can be played again.

use std::sync::{Arc, Mutex};

/// A source of randomness that can be shared between threads.
pub type SharedRandom = Arc<dyn Random>;

/// What a room may ask of chance.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Random {
    /// A random 64-bit number.
    pub fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A fraction in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `length` characters drawn evenly from `alphabet` (of at most 256 characters).
    pub fn text(&self, length: usize, alphabet: &[u8]) -> String {
        let even = 256 - 256 % alphabet.len();
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let mut bytes = [0; 32];
            self.fill(&mut bytes);
            let fair = bytes.iter().filter(|byte| usize::from(**byte) < even);
            text.extend(
                fair.take(length - text.len())
                    .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])),
            );
        }
        text
    }
}

/// Digits and letters, for nonces.
pub const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters that survive being read out and typed: no 0/o, 1/l/i.
pub const READABLE: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";

/// Bytes that are fetched from the operating system at once.
const STOCK_BYTES: usize = 256;

/// The operating system's randomness, fetched in stocks: a page needs a few bytes twice, and each fetch is a call.
pub struct OsRandom {
    stock: Mutex<Stock>,
}

struct Stock {
    bytes: [u8; STOCK_BYTES],
    left: usize,
}

impl OsRandom {
    /// The operating system's randomness, shared.
    pub fn shared() -> SharedRandom {
        Arc::new(OsRandom { stock: Mutex::new(Stock { bytes: [0; STOCK_BYTES], left: 0 }) })
    }
}

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > STOCK_BYTES {
            return fetch(bytes);
        }
        let mut stock = self.stock.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if stock.left < bytes.len() {
            fetch(&mut stock.bytes);
            stock.left = STOCK_BYTES;
        }
        let from = stock.left - bytes.len();
        let taken = from..stock.left;
        bytes.copy_from_slice(&stock.bytes[taken.clone()]);
        // What was given away is a secret of somebody else from now on.
        stock.bytes[taken].fill(0);
        stock.left = from;
    }
}

fn fetch(bytes: &mut [u8]) {
    // getrandom(2) fails only before the kernel's pool is ready on kernels without the call; a box that
    // cannot draw a key must not go on with a guessable one.
    getrandom::fill(bytes).expect("the operating system has no randomness to give");
}

/// Randomness that follows from a seed (SplitMix64).
pub struct SeededRandom {
    state: Mutex<u64>,
}

impl SeededRandom {
    /// The sequence that belongs to `seed`, shared.
    pub fn shared(seed: u64) -> SharedRandom {
        Arc::new(SeededRandom { state: Mutex::new(seed) })
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_away_twice() {
        let random = OsRandom::shared();
        let mut seen = std::collections::HashSet::new();
        for length in [8, 32, STOCK_BYTES, 100, STOCK_BYTES + 1].into_iter().cycle().take(100) {
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            assert!(bytes.chunks_exact(8).all(|eight| seen.insert(eight.to_owned())));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_text() {
        let one = SeededRandom::shared(7).text(40, ALPHANUMERIC);
        assert_eq!(one, SeededRandom::shared(7).text(40, ALPHANUMERIC));
        assert_ne!(one, SeededRandom::shared(8).text(40, ALPHANUMERIC));
        assert_eq!(one.len(), 40);
    }
}
