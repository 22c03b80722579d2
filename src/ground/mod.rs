//! The ground floor: time, randomness, the stop signal, durable file operations and the few words that all
//! rooms share. It knows nothing of WeChat, of HTTP or of pictures, and imports nothing from above.

pub mod bell;
pub mod checked_clock;
pub mod clock;
pub mod commit;
pub mod durable;
pub mod escape;
pub mod hex;
pub mod language;
pub mod logging;
pub mod media_id;
pub mod packed;
pub mod random;
pub mod size;
pub mod stop;
