//! The integration tests: the real binary and the real rooms over real sockets.
