//! A request as the routes see it: whole, bounded, its client known.

use crate::ground::language::Language;
use std::net::{IpAddr, Ipv4Addr};

/// The methods that have routes. HEAD counts as GET; its body is left out on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET or HEAD.
    Get,
    /// POST.
    Post,
    /// Anything else.
    Other,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Visit {
    /// How.
    pub method: Method,
    /// Path and query as received, nothing decoded.
    pub target: String,
    /// Who, as the inbound door says.
    pub client: IpAddr,
    /// Which language the visitor prefers.
    pub language: Language,
    /// Cookie header.
    pub cookie: Option<String>,
    /// Content-Type header.
    pub content_type: Option<String>,
    /// Origin header.
    pub origin: Option<String>,
    /// Accept header.
    pub accept: Option<String>,
    /// Authorization header.
    pub authorization: Option<String>,
    /// Whether a zlib stream is welcome where its content is asked for.
    pub takes_deflate: bool,
    /// Whether `X-Tubox-Admin` is there: scripts of this site set it, forms of other sites cannot.
    pub is_deliberate: bool,
    /// Body; empty when there is none.
    pub body: Vec<u8>,
}

impl Visit {
    /// A bare request for `target`.
    pub fn new(method: Method, target: &str) -> Visit {
        Visit {
            method,
            target: target.to_owned(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            language: Language::Chinese,
            cookie: None,
            content_type: None,
            origin: None,
            accept: None,
            authorization: None,
            takes_deflate: false,
            is_deliberate: false,
            body: Vec::new(),
        }
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What follows the first question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first value of a query key, decoded once.
    pub fn query_value(&self, key: &str) -> Option<String> {
        let value = form_pairs(self.query()?.as_bytes()).find(|(name, _)| name == key.as_bytes())?.1;
        String::from_utf8(value).ok()
    }

    /// Whether a person's browser asks, rather than a script.
    pub fn wants_html(&self) -> bool {
        self.accept.as_deref().is_some_and(|accept| accept.contains("text/html"))
    }
}

/// Whether an Accept-Encoding header lets `deflate` in (RFC 9110, 12.5.3). Who names it with a weight of zero does not.
pub(super) fn takes_deflate(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_deflate = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("deflate"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        is_deflate && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// Keys and values of `application/x-www-form-urlencoded` (WHATWG URL §5.1), decoded to bytes.
pub(super) fn form_pairs(text: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (percent_decode(&pair[..at]), percent_decode(pair.get(at + 1..).unwrap_or_default()))
    })
}

/// `+` is a space, `%41` an A; a percent sign without two hex digits stays as it is.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let high_low = (hex(text.get(at + 1)), hex(text.get(at + 2)));
        match (text[at], high_low) {
            (b'%', (Some(high), Some(low))) => {
                decoded.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_files_go_to_those_who_take_them() {
        for text in ["deflate", "gzip, deflate, br", "gzip;q=1.0, Deflate ; q=0.5"] {
            assert!(takes_deflate(text), "{text}");
        }
        for text in ["", "gzip", "identity", "*", "deflate;q=0", "deflate; q=0.0, gzip", "deflated"] {
            assert!(!takes_deflate(text), "{text}");
        }
    }

    #[test]
    fn queries_are_decoded_once() {
        let visit = Visit::new(Method::Get, "/a?url=https%3A%2F%2Fx%2F%3Fq%3D%2541&b=%zz+%4&=x&flag");
        assert_eq!(visit.path(), "/a");
        assert_eq!(visit.query_value("url").as_deref(), Some("https://x/?q=%41"));
        assert_eq!(visit.query_value("b").as_deref(), Some("%zz %4"));
        assert_eq!(visit.query_value("flag").as_deref(), Some(""));
        assert_eq!(visit.query_value("none"), None);
        assert_eq!(Visit::new(Method::Get, "/a?x=%ff").query_value("x"), None);
    }
}
