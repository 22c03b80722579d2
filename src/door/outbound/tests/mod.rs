//! The door as a whole: real minreq on one side, servers that behave and misbehave on the other.

mod answers;
mod leaks;
mod lobby;
mod requests;
mod support;
mod trust;
