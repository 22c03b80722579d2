//! The ground floor: time, randomness, the stop signal, durable file operations and the few words that all
//! rooms share. It knows nothing of WeChat, of HTTP or of pictures, and imports nothing from above.

pub mod clock;
pub mod escape;
pub mod media_id;
pub mod random;
pub mod stop;
