//! Files that are in the binary as zlib streams: smaller there, and on the way to whoever takes them as they are.

use std::borrow::Cow;

/// A packed file.
#[derive(Clone, Debug)]
pub struct Packed(pub Cow<'static, [u8]>);

impl Packed {
    /// The file as it was; empty for bytes that are no zlib stream, which a build does not let into the binary.
    pub fn unpacked(&self) -> Vec<u8> {
        fdeflate::decompress_to_vec(&self.0).unwrap_or_default()
    }
}
