//! WeChat's JSON, read leniently: control characters inside strings, numbers sent as text, keys in any order
//! (*reported* by several SDKs).

use super::fault::Fault;
use serde_json::{Map, Value};

/// The longest JSON text that is read.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;

/// A JSON object from WeChat.
pub struct Reply {
    fields: Map<String, Value>,
}

impl Reply {
    /// Reads a JSON object; `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Reply> {
        let text = String::from_utf8_lossy(bytes);
        let clean: String = text.chars().filter(|c| !c.is_control() && *c != '\u{feff}').collect();
        match serde_json::from_str(&clean) {
            Ok(Value::Object(fields)) => Some(Reply { fields }),
            _ => None,
        }
    }

    /// The fault that an errcode other than 0 stands for.
    pub fn fault(&self) -> Option<Fault> {
        match self.number("errcode") {
            None | Some(0) => None,
            Some(errcode) => Some(Fault::from_errcode(errcode, self.text("errmsg").unwrap_or_default())),
        }
    }

    /// A field that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str()
    }

    /// A field that is a whole number, also when it was sent as text.
    pub fn number(&self, key: &str) -> Option<i64> {
        match self.fields.get(key)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_json_is_understood() {
        let reply =
            Reply::parse(b"\xef\xbb\xbf {\"errcode\":\"40001\",\"errmsg\":\"bad \x01\ntoken\"}").unwrap();
        assert_eq!(reply.fault().unwrap().code, "40001");
        assert!(Reply::parse(b"{\"errcode\":0,\"ticket\":\"x\"}").unwrap().fault().is_none());
        assert!(Reply::parse(b"{\"access_token\":\"x\"}").unwrap().fault().is_none());
        for other in [&b"[]"[..], b"", b"<html>", b"{\"errcode\":"] {
            assert!(Reply::parse(other).is_none());
        }
    }
}
