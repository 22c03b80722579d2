//! The name that WeChat gives to an uploaded picture. Everything that becomes part of an address, a file name
//! or a log line goes through this type, so no room has to ask again whether it is harmless.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The longest id that is taken. Good samples are 64 long; the enterprise documentation caps at 256 bytes.
pub const MEDIA_ID_LENGTH_MAX: usize = 256;

/// A media_id (the JS-SDK calls it serverId): 1 to 256 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MediaId(String);

/// Why a text is no media_id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAMediaId {
    /// Nothing in it.
    Empty,
    /// Longer than [`MEDIA_ID_LENGTH_MAX`] bytes.
    TooLong,
    /// Holds something else than letters, digits, `_` and `-`.
    BadCharacter(char),
}

impl MediaId {
    /// Takes `text` if it is a media_id.
    pub fn parse(text: &str) -> Result<MediaId, NotAMediaId> {
        if text.is_empty() {
            return Err(NotAMediaId::Empty);
        }
        if text.len() > MEDIA_ID_LENGTH_MAX {
            return Err(NotAMediaId::TooLong);
        }
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match text.bytes().position(|byte| !is_good(byte)).and_then(|at| text[at..].chars().next()) {
            Some(bad) => Err(NotAMediaId::BadCharacter(bad)),
            None => Ok(MediaId(text.to_owned())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotAMediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAMediaId::Empty => f.write_str("is empty"),
            NotAMediaId::TooLong => write!(f, "is longer than {MEDIA_ID_LENGTH_MAX} characters"),
            NotAMediaId::BadCharacter(bad) => write!(f, "holds {bad:?}; allowed are A-Z a-z 0-9 _ -"),
        }
    }
}

impl<'de> Deserialize<'de> for MediaId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MediaId, D::Error> {
        let text = String::deserialize(deserializer)?;
        MediaId::parse(&text).map_err(|why| serde::de::Error::custom(format!("media_id {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_pass() {
        for good in ["a", "1237378768e7q8e7r8qwesafdasdfasdfaxss111", "-_-", &"x".repeat(256)] {
            assert_eq!(MediaId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "../x", "a/b", "a\0", "ä", "a%20b", "weixin://resourceid/1", &"x".repeat(257)]
        {
            assert!(MediaId::parse(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<MediaId>(serde_json::Value::from(bad)).is_err());
        }
    }
}
