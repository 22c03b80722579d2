//! The two doors: everything that enters or leaves the house passes one of them.
//!
//! Inside live small libraries that trust their peer (tiny_http, minreq); outside is the internet. A door takes
//! whole, bounded, well-formed messages from one side and hands them to the other; what is too big, too slow,
//! too many or malformed ends at the door, with a name for what was wrong.
//!
//! - [`inbound`]: in front of the web room. Accepts, limits, parses heads, hands clean requests on over a
//!   private socket.
//! - [`outbound`]: behind the wechat room. Resolves, connects, speaks TLS, ends what stalls, lets through only
//!   to hosts that the settings name.
//!
//! Both share the copy loop in [`relay`] and the vocabulary of limits: `…_bytes_max` for sizes, `stall` for the
//! longest time without a byte, `…_within` for the whole of something, `…_max` for counts.
//!
//! The doors know HTTP framing, sockets and TLS. They do not know WeChat, pictures, routes or settings files.

pub mod inbound;
pub mod outbound;
pub mod relay;
