//! Promises 1 to 3 under power cuts, kill -9, failing disks and full disks, and what keeping them costs.
//!
//! The real binary runs against the simulator; what it acknowledged is written down here, outside of it, and held
//! against what is on its disk afterwards. [`volatile_disk`] says what a power cut takes.
//!
//! By default each campaign runs for a few seconds. Longer, with the figures printed (`--nocapture`):
//!
//! ```text
//! CAMPAIGN_CUTS=200 cargo test --test crash power_cut -- --nocapture
//! CAMPAIGN_KILLS=1000 cargo test --test crash killed -- --nocapture
//! CAMPAIGN_FAULTS=all cargo test --test crash single_fault -- --nocapture
//! CAMPAIGN_PICTURES=1000000 cargo test --release --test crash small_for_ever -- --nocapture
//! CAMPAIGN_SOAK=1800 cargo test --release --test crash soak -- --nocapture
//! CAMPAIGN_SEED=7 …
//! ```

// The rig lives in real time, reads its own variables, and is a test throughout.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stderr)]

mod failed_list;
mod fat;
mod full_disk;
mod ill_disk;
mod killed;
mod loop_disk;
mod power_cut;
mod promises;
mod single_fault;
mod small_for_ever;
mod soak;
mod start;
mod station;
mod thrift;
mod volatile_calls;
mod volatile_disk;
mod volatile_mount;

/// A number from the environment.
fn campaign(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
