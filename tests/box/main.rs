//! The integration tests: the real binary and the real rooms over real sockets, one binary for all of them.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod admin;
mod bench;
mod card;
mod check;
mod check_rig;
mod clocks;
mod conformance;
mod contract;
mod copy;
mod demo;
mod downloaders;
mod faults;
mod fronts;
mod hostile;
mod house;
mod metrics;
mod operate;
mod packaging;
mod program;
mod promises;
mod proxy;
mod relay;
mod running;
mod seeds;
mod supply;
mod tokens;
