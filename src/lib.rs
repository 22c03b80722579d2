//! tubox (图盒): one binary that collects pictures through WeChat and brings every one home to its own disk.
//!
//! # The way of the data
//!
//! ```text
//!          inbound                                                         outbound
//! phone ──► door ──► web ──► queue ──► collector ──► album ──► copied off    door ──► api.weixin.qq.com
//!                     │                    │                                  ▲        (or the simulator)
//!                     └── signature ◄── wechat ───────────────────────────────┘
//! ```
//!
//! Five rooms in a row and two doors. Read the header of a room before its code.
//!
//! | room | keeps | the only one that names |
//! |---|---|---|
//! | [`door`] | the bounds on whatever enters or leaves | rustls, httparse |
//! | [`web`] | everything that speaks HTTP to people | tiny_http, rust-embed |
//! | [`queue`] | what is still owed: intake journal (the promise) and sled (the order) | sled |
//! | [`collector`] | the work of bringing pictures home: claim, download, check, commit, complete | |
//! | [`wechat`] | WeChat's API: signature, credentials, media download, what each error code means | minreq |
//! | [`alerts`] | calling somebody when a person is needed | |
//! | [`album`] | the pictures folder, its manifest and hashes, verify and export | |
//!
//! Beside them stands the [`simulator`], which plays WeChat and shares no code with what it imitates; around
//! them [`config`] (the only reader of environment and settings files), [`appliance`] (wiring, start order, stop
//! order) and [`cli`]; below them the [`ground`] floor.
//!
//! # What must stay true
//!
//! - A submission is answered rc 0 only after its journal line is on stable storage. sled may be lost at any
//!   time: journal and album can fill it again.
//! - A picture has its final name only when it is whole, hashed and synced; its manifest row follows before its
//!   queue entry is completed. A crash between two of the three commits is repaired at the next start.
//! - No request handler calls WeChat. No room but [`album`] writes pictures.
//! - Imports go along the arrows or down to the ground floor. `tests/box/house.rs` holds the table.
//! - Time, randomness and the stop signal are handed in.
//! - No secret, token, ticket or full media address reaches a log line or an error.

#![forbid(unsafe_code)]
// The documentation is read by those who change the rooms, private items included.
#![allow(rustdoc::private_intra_doc_links)]
// The banned calls are banned in the product; tests write files and read clocks as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod album;
pub mod alerts;
pub mod appliance;
pub mod cli;
pub mod collector;
pub mod config;
pub mod door;
pub mod ground;
pub mod queue;
pub mod simulator;
pub mod web;
pub mod wechat;
