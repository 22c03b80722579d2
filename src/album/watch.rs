//! Who is told how far a long piece of work is, and may ask it to stop.

/// An onlooker; [`Unwatched`] is nobody.
pub trait Watch {
    /// The work begins: so many pictures, so many bytes of work.
    fn begin(&mut self, pictures: u64, bytes: u64);
    /// So many bytes of the work are done.
    fn worked(&mut self, bytes: u64);
    /// One more picture is done, well or not.
    fn picture(&mut self);
    /// Whether the work is to end before its time.
    fn stop_asked(&self) -> bool {
        false
    }
    /// Something looks as if somebody is just writing it. Waits a little; false when it was waited for long enough.
    fn wait_for_writer(&mut self) -> bool {
        false
    }
}

/// Nobody looks on.
pub struct Unwatched;

impl Watch for Unwatched {
    fn begin(&mut self, _pictures: u64, _bytes: u64) {}
    fn worked(&mut self, _bytes: u64) {}
    fn picture(&mut self) {}
}
